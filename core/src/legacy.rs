//! The first allocator's arithmetic, kept exactly: whole ATP, rounded up for each event and
//! resource, and a budget split into five equal parts.
//!
//! It stands beside the real ledger so that the answers that users of the first tool know can be
//! checked for ever; nothing of the cluster uses it. Where the first allocator was wrong (negative
//! amounts, a duration of nothing, reservations that outlive their expiry, a log that grows without
//! bound, a pool that is defined twice, lost last cycles of large counts) it answers otherwise.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Kinds of resources.
pub const KINDS: usize = 5;
/// Their names in messages, in the order in which they are counted.
const NAMES: [&str; KINDS] = ["CPU", "Memory", "Storage", "Network", "GPU"];
/// What one ATP buys of each: cycles, bytes three times, and milliseconds of a GPU.
const BUYS: [u128; KINDS] = [1_000_000, 100_000_000, 1_000_000_000, 10_000_000, 100];
/// Milliseconds in the second that GPUs are counted by.
const GPU_UNIT: u128 = 1_000;

/// Amounts of all five kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Compute, in cycles.
    pub cpu_cycles: u128,
    /// Main memory, in bytes.
    pub memory_bytes: u128,
    /// Storage, in bytes.
    pub storage_bytes: u128,
    /// What goes over the network, in bytes.
    pub network_bytes: u128,
    /// Time of a GPU, in milliseconds.
    pub gpu_ms: u128,
}

impl Amounts {
    /// Returns all amounts in the order of the fields.
    #[must_use]
    pub const fn all(&self) -> [u128; KINDS] {
        let Self { cpu_cycles, memory_bytes, storage_bytes, network_bytes, gpu_ms } = *self;
        [cpu_cycles, memory_bytes, storage_bytes, network_bytes, gpu_ms]
    }

    /// Makes amounts of their list.
    #[must_use]
    pub const fn of(all: [u128; KINDS]) -> Self {
        let [cpu_cycles, memory_bytes, storage_bytes, network_bytes, gpu_ms] = all;
        Self { cpu_cycles, memory_bytes, storage_bytes, network_bytes, gpu_ms }
    }

    /// Combines two amounts of each kind.
    fn zip(&self, other: &Self, f: impl Fn(u128, u128) -> u128) -> Self {
        let mut all = self.all();
        all.iter_mut().zip(other.all()).for_each(|(mine, other)| *mine = f(*mine, other));
        Self::of(all)
    }

    /// Returns what of each kind is above a limit, in words.
    fn above(&self, limit: &Self) -> Vec<String> {
        let pairs = self.all().into_iter().zip(limit.all()).zip(NAMES).enumerate();
        let over = pairs.filter(|(_, ((asked, limit), _))| asked > limit);
        let words = |(i, ((asked, limit), name)): (usize, ((u128, u128), &str))| {
            // GPUs are counted in seconds.
            let unit = if i + 1 == KINDS { GPU_UNIT } else { 1 };
            format!("{name}: {} > {}", decimal(asked, unit), decimal(limit, unit))
        };
        over.map(words).collect()
    }

    /// Returns what they cost as one event: each kind is rounded up to whole ATP by itself.
    #[must_use]
    pub fn cost(&self) -> u128 {
        let costs = self.all().into_iter().zip(BUYS).map(|(amount, buys)| amount.div_ceil(buys));
        costs.fold(0, u128::saturating_add)
    }

    /// Returns what a budget buys: a fifth of it of each kind, GPUs by whole seconds. What five
    /// does not divide buys nothing.
    #[must_use]
    pub fn bought(atp: u64) -> Self {
        let part = u128::from(atp) / KINDS as u128;
        let mut all = BUYS.map(|buys| part * buys);
        if let Some(gpu) = all.last_mut() {
            *gpu -= *gpu % GPU_UNIT;
        }
        Self::of(all)
    }
}

/// Returns an amount in a larger unit, without digits that say nothing.
fn decimal(amount: u128, unit: u128) -> String {
    let (whole, rest) = (amount / unit, amount % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = format!("{:03}", rest * 1_000 / unit);
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

/// A budget and what it has been spent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Its name.
    pub id: String,
    /// Whose it is.
    pub entity: String,
    /// The pool that it was reserved from.
    pub pool: String,
    /// Its budget.
    pub budget: u64,
    /// What has been spent of it.
    pub spent: u64,
    /// What the budget buys.
    pub limit: Amounts,
    /// What has been consumed.
    pub consumed: Amounts,
    /// The last second in which it is valid.
    pub expires: Option<u64>,
    /// How many events have been metered.
    pub metered: u64,
}

impl Allocation {
    /// Returns whether more may be consumed.
    #[must_use]
    pub fn is_valid(&self, now: u64) -> bool {
        self.expires.is_none_or(|expires| now <= expires) && self.spent < self.budget
    }

    /// Returns what is left of the budget.
    #[must_use]
    pub const fn remaining(&self) -> u64 {
        self.budget.saturating_sub(self.spent)
    }
}

/// What a pool has and has given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// All of it.
    pub total: Amounts,
    /// What allocations have reserved.
    pub reserved: Amounts,
}

impl Pool {
    /// Returns what is not reserved.
    #[must_use]
    pub fn available(&self) -> Amounts {
        self.total.zip(&self.reserved, u128::saturating_sub)
    }
}

/// The first allocator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocator {
    society: String,
    pools: BTreeMap<String, Pool>,
    allocations: Vec<Allocation>,
    counter: u64,
}

impl Allocator {
    /// Makes an allocator whose allocations are named after a society.
    #[must_use]
    pub fn new(society: &str) -> Self {
        Self { society: String::from(society), ..Self::default() }
    }

    /// Defines a pool.
    ///
    /// # Errors
    /// When there is one of that name: what is reserved from it would be forgotten.
    pub fn create_pool(&mut self, name: &str, total: Amounts) -> Result<(), String> {
        if self.pools.contains_key(name) {
            return Err(format!("Pool {name} exists"));
        }
        self.pools.insert(String::from(name), Pool { total, ..Pool::default() });
        Ok(())
    }

    /// Reserves what a budget buys from a pool, for so many seconds or without end.
    ///
    /// # Errors
    /// When there is no such pool, too little is left of one kind, or the duration is nothing. A
    /// number is used up where too little is left.
    pub fn create_allocation(
        &mut self,
        entity: &str,
        (pool, budget): (&str, u64),
        seconds: Option<u64>,
        now: u64,
    ) -> Result<&Allocation, String> {
        self.expire(now);
        let Some(row) = self.pools.get_mut(pool) else {
            return Err(format!("Pool {pool} not found"));
        };
        if seconds == Some(0) {
            return Err(String::from("a duration must be above 0"));
        }
        self.counter += 1;
        let limit = Amounts::bought(budget);
        let reserved = row.reserved.zip(&limit, u128::saturating_add);
        if !reserved.above(&row.total).is_empty() {
            return Err(String::from("Pool resources exhausted"));
        }
        row.reserved = reserved;
        self.allocations.push(Allocation {
            id: format!("alloc:{}:{}", self.society, self.counter),
            entity: String::from(entity),
            pool: String::from(pool),
            budget,
            spent: 0,
            limit,
            consumed: Amounts::default(),
            expires: seconds.map(|seconds| now.saturating_add(seconds)),
            metered: 0,
        });
        self.allocations.last().ok_or_else(String::new)
    }

    /// Consumes resources as one event and returns what was said of it.
    ///
    /// # Errors
    /// When there is no such allocation, it is not valid any more, or this would be too much.
    pub fn consume(&mut self, id: &str, event: &Amounts, now: u64) -> Result<String, String> {
        let row = self.allocations.iter_mut().find(|row| row.id == id);
        let Some(row) = row else { return Err(String::from("Allocation not found")) };
        if !row.is_valid(now) {
            return Err(String::from("Allocation expired or budget exhausted"));
        }
        let consumed = row.consumed.zip(event, u128::saturating_add);
        let over = consumed.above(&row.limit);
        if !over.is_empty() {
            return Err(format!("Quota exceeded: {}", over.join(", ")));
        }
        let cost = event.cost();
        let spent = u128::from(row.spent).saturating_add(cost);
        if spent > u128::from(row.budget) {
            return Err(format!("ATP budget exceeded: {spent} > {}", row.budget));
        }
        row.consumed = consumed;
        row.spent = u64::try_from(spent).unwrap_or(row.budget);
        row.metered += 1;
        Ok(format!("Consumed {cost} ATP"))
    }

    /// Returns what is reserved to its pool; whether there was such an allocation.
    pub fn release(&mut self, id: &str) -> bool {
        let Some(at) = self.allocations.iter().position(|row| row.id == id) else { return false };
        let row = self.allocations.remove(at);
        if let Some(pool) = self.pools.get_mut(&row.pool) {
            pool.reserved = pool.reserved.zip(&row.limit, u128::saturating_sub);
        }
        true
    }

    /// Returns to the pools what expired allocations have reserved; they stay, to be looked at.
    fn expire(&mut self, now: u64) {
        for row in &mut self.allocations {
            if row.expires.is_some_and(|expires| expires < now)
                && let Some(pool) = self.pools.get_mut(&row.pool)
            {
                pool.reserved = pool.reserved.zip(&row.limit, u128::saturating_sub);
                row.limit = Amounts::default();
            }
        }
    }

    /// Returns an allocation.
    #[must_use]
    pub fn allocation(&self, id: &str) -> Option<&Allocation> {
        self.allocations.iter().find(|row| row.id == id)
    }

    /// Walks all allocations in the order in which they were made.
    pub fn allocations(&self) -> impl Iterator<Item = &Allocation> {
        self.allocations.iter()
    }

    /// Returns a pool as it is at a time.
    #[must_use]
    pub fn pool(&mut self, name: &str, now: u64) -> Option<Pool> {
        self.expire(now);
        self.pools.get(name).copied()
    }
}
