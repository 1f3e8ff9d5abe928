//! The tables together, and questions about more than one of them.
//!
//! Everything that a replay must reproduce is here and is part of the digest; what can be derived
//! (the placement index, and notes for it) is not. Only the verbs change a state, one entry at a
//! time.

use crate::bundle::Bundle;
use crate::changed::Changed;
use crate::clients::Clients;
use crate::config::{Config, Order, PoolSpec, Rules};
use crate::due::{Due, Timers};
use crate::epoch::Epochs;
use crate::ids::{AccountId, JobId, LeaseId, NodeId, OfferId, PoolId, Seq, Table};
use crate::jobs::{Ahead, Job, JobState};
use crate::karma::Karma;
use crate::leases::{Claim, Lease, Running};
use crate::ledger::{Account, Ledger};
use crate::links::Link;
use crate::nodes::Node;
use crate::offers::Fates;
use crate::price::{INTERVAL, Market};
use crate::queue::Rank;
use crate::queue::{LineKey, Queue};
use crate::rows::{BoxedRows, Rows};
use crate::shapes::Shapes;
use crate::tags::Tags;
use crate::tariff::dominant;
use crate::units::{MilliCores, Time};
use crate::urgent::Urgent;
use crate::usage::Inflation;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A pool and what is leased from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// What the configuration says of it.
    pub spec: PoolSpec,
    /// Hardware of its nodes.
    pub capacity: Bundle,
    /// What its nodes offer, the leased part included.
    pub offered: Bundle,
    /// What leases hold of it.
    pub leased: Bundle,
    /// What the leases of each account hold of it on others' nodes.
    pub borrowed: BTreeMap<AccountId, Bundle>,
    /// Classes that run in it.
    pub running: Running,
    /// What its capacity costs.
    pub market: Market,
    /// What urgent work has had of it within the hour.
    pub urgent: Urgent,
    /// Members that run in it, by tag.
    pub tags: Tags,
    /// Its nodes.
    pub nodes: Vec<NodeId>,
    /// The first that keeps a place in it, by the last pass.
    pub first_kept: Option<Rank>,
    /// How many lines, by the last pass, nobody can make way for at the moment.
    pub in_vain: u64,
    /// When it was last looked at for work that should move.
    pub balanced: Option<Time>,
    /// When it is looked at next.
    pub balance_at: Option<Time>,
}

impl Pool {
    /// Returns a pool without nodes.
    #[must_use]
    pub fn new(spec: PoolSpec) -> Self {
        Self {
            spec,
            capacity: Bundle::ZERO,
            offered: Bundle::ZERO,
            leased: Bundle::ZERO,
            borrowed: BTreeMap::new(),
            running: Running::default(),
            market: Market::default(),
            urgent: Urgent::default(),
            tags: Tags::default(),
            nodes: Vec::new(),
            first_kept: None,
            in_vain: 0,
            balanced: None,
            balance_at: None,
        }
    }

    /// Takes a part out of what an account's leases hold on others' nodes.
    pub fn give_back(&mut self, account: AccountId, part: &Bundle) {
        if let Some(held) = self.borrowed.get_mut(&account) {
            held.take(part);
            if held.is_zero() {
                self.borrowed.remove(&account);
            }
        }
    }
}

/// Everything that the coordinator knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The rules in force.
    pub rules: Rules,
    /// Names of the custom resources.
    pub resources: Vec<String>,
    /// The last entry applied.
    pub seq: Seq,
    /// Its time.
    pub now: Time,
    /// The pools.
    pub pools: Table<PoolId, Pool>,
    /// Hardware of all nodes.
    pub capacity: Bundle,
    /// The nodes.
    pub nodes: Table<NodeId, Node>,
    /// The cluster: what a message must name.
    pub cluster: u64,
    /// Whether the halves talk over a network; else they are joined directly.
    pub network: bool,
    /// The sessions given out so far.
    pub sessions: u64,
    /// Clients that number their requests.
    pub clients: Clients,
    /// The ends of the nodes' links, where there is a network.
    pub links: Table<NodeId, Link>,
    /// The order of equal nodes: a permutation seeded by `scheduling.seed`.
    pub tie_rank: Table<NodeId, u32>,
    /// All money, and the accounts.
    pub ledger: Ledger,
    /// The shapes of the jobs.
    pub shapes: Shapes,
    /// Jobs that wait or run.
    pub jobs: BoxedRows<JobId, Job>,
    /// Jobs of each account that share a program: an array is one request.
    pub requests: BTreeMap<(AccountId, u64), u32>,
    /// Jobs that wait for each job to complete.
    pub dependents: BTreeMap<JobId, BTreeSet<JobId>>,
    /// Jobs that wait, in lines.
    pub queue: Queue,
    /// Jobs for which a place is kept from their beginning on, and that have not started.
    pub reserved: BTreeMap<PoolId, BTreeMap<JobId, Ahead>>,
    /// Leases that hold capacity.
    pub leases: BoxedRows<LeaseId, Lease>,
    /// Capacity kept for jobs whose victims are leaving.
    pub claims: BTreeMap<JobId, Claim>,
    /// Leases whose limit has freed their capacity and whose end comes at this very instant.
    pub released: u64,
    /// Timers.
    pub timers: Timers,
    /// Offers by fate.
    pub fates: Fates,
    /// The common factor of all accounts' use.
    pub inflation: Inflation,
    /// What accounts may borrow with, for the order `karma`.
    pub karma: Karma,
    /// What grants are shared out by, and when the epoch ends.
    pub epochs: Epochs,
    /// When prices move next; [`Time::MAX`] while they are static.
    pub priced_at: Time,
    /// When each account preempted in the last hour.
    pub preempted: BTreeMap<AccountId, VecDeque<Time>>,
    /// Numbers drawn by the strategy `random`.
    pub draws: u64,
    /// Reports about what was no longer open.
    pub stale_reports: u64,
    /// The next ids.
    pub next: NextIds,
    /// What changed since the last pass, and what that left.
    pub changed: Changed,
}

/// The next ids to hand out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextIds {
    /// Of jobs.
    pub job: JobId,
    /// Of leases.
    pub lease: LeaseId,
    /// Of offers.
    pub offer: OfferId,
}

impl State {
    /// Builds the first state of a cluster.
    #[must_use]
    pub fn new(config: Config, now: Time) -> Self {
        let ledger = Ledger::new(&config.accounts);
        let mut state = Self {
            tie_rank: permutation(config.rules.scheduling.seed, config.nodes.len()),
            rules: config.rules,
            resources: config.resources,
            seq: Seq::new(0),
            now,
            cluster: config.cluster,
            network: config.network,
            sessions: 0,
            clients: Clients::default(),
            links: Table::new(),
            pools: Table::new(),
            capacity: Bundle::ZERO,
            nodes: Table::new(),
            epochs: Epochs::new(config.accounts.iter().map(|account| account.weight)),
            ledger,
            shapes: Shapes::default(),
            jobs: Rows::new(),
            requests: BTreeMap::new(),
            dependents: BTreeMap::new(),
            queue: Queue::new(config.pools.len()),
            reserved: BTreeMap::new(),
            leases: Rows::new(),
            claims: BTreeMap::new(),
            released: 0,
            timers: Timers::default(),
            fates: Fates::default(),
            inflation: Inflation::default(),
            karma: Karma::default(),
            priced_at: Time::MAX,
            preempted: BTreeMap::new(),
            draws: 0,
            stale_reports: 0,
            next: NextIds { job: JobId::new(1), lease: LeaseId::new(1), offer: OfferId::new(1) },
            changed: Changed::default(),
        };
        for spec in config.pools {
            state.pools.push(Pool::new(spec));
        }
        for spec in config.nodes {
            let (pool, capacity) = (spec.pool, spec.capacity);
            let node = Node::new(spec);
            state.epochs.register(&node.registered());
            let id = state.nodes.push(node);
            state.pools[pool].capacity.add(&capacity);
            state.capacity.add(&capacity);
            state.pools[pool].nodes.push(id);
            state.timers.set(now, Due::Check(id));
            if state.network {
                state.links.push(Link::default());
                state.nodes[id].silent = true;
            }
        }
        let scheduling = &state.rules.scheduling;
        state.karma = Karma::new(scheduling, &state.ledger, &state.capacity, now);
        state.timers.set(state.karma.ends(), Due::Quantum);
        if state.rules.atp.is_dynamic() {
            state.priced_at = now.after(INTERVAL);
        }
        state.timers.set(state.priced_at, Due::Price);
        state
    }

    /// Returns a job that is known to be live.
    ///
    /// # Panics
    /// When it is not: our bug.
    #[must_use]
    #[inline]
    pub fn job(&self, id: JobId) -> &Job {
        match self.jobs.get(&id) {
            Some(job) => job,
            None => missing_job(id),
        }
    }

    /// Returns a live job to change it, as [`State::job`].
    ///
    /// # Panics
    /// When it is not live: our bug.
    #[inline]
    pub fn job_mut(&mut self, id: JobId) -> &mut Job {
        match self.jobs.get_mut(&id) {
            Some(job) => job,
            None => missing_job(id),
        }
    }

    /// Returns a lease that is known to be open.
    ///
    /// # Panics
    /// When it is not: our bug.
    #[must_use]
    #[inline]
    pub fn lease(&self, id: LeaseId) -> &Lease {
        match self.leases.get(&id) {
            Some(lease) => lease,
            None => missing_lease(id),
        }
    }

    /// Returns an open lease to change it, as [`State::lease`].
    ///
    /// # Panics
    /// When it is not open: our bug.
    #[inline]
    pub fn lease_mut(&mut self, id: LeaseId) -> &mut Lease {
        match self.leases.get_mut(&id) {
            Some(lease) => lease,
            None => missing_lease(id),
        }
    }

    /// Returns all the CPU that a lease has, where that may change.
    #[must_use]
    pub fn cpu_of(&self, id: LeaseId) -> Option<MilliCores> {
        let lease = self.lease(id);
        (!self.job(lease.job).extra.is_zero()).then(|| lease.cpu())
    }

    /// Returns an account.
    #[must_use]
    pub fn account(&self, id: AccountId) -> &Account {
        &self.ledger.accounts[id]
    }

    /// Returns the key of the line a job stands in.
    #[must_use]
    pub fn line_of(&self, job: &Job) -> LineKey {
        let alone = job.budget.is_some() || self.rules.scheduling.order == Order::EarliestDue;
        let alone = alone.then_some(job.id);
        let (account, shape, price_max) = (job.account, job.shape, job.price_max);
        let again = !job.setback.span.is_zero();
        LineKey { account, shape, priority: job.priority, price_max, alone, again }
    }

    /// Returns what ranks a line among those of its class: its account's use, or when its job is
    /// due.
    #[must_use]
    #[inline(never)]
    pub fn rank_usage(&self, line: &LineKey) -> u128 {
        if self.rules.scheduling.order != Order::EarliestDue {
            return self.usage_of(line.account);
        }
        let due = |job: &Job| job.limit.map(|limit| job.submitted.after(limit));
        let due = line.alone.and_then(|id| self.jobs.get(&id)).and_then(due);
        u128::from(due.unwrap_or(Time::MAX).ms())
    }

    /// Returns the use that ranks an account's lines; nothing where the order does not follow it.
    #[must_use]
    #[inline]
    pub fn usage_of(&self, account: AccountId) -> u128 {
        if self.rules.scheduling.order.follows_use() { self.use_of(account) } else { 0 }
    }

    fn use_of(&self, account: AccountId) -> u128 {
        match self.rules.scheduling.order {
            Order::Fair => self.account(account).usage.get(),
            Order::Drf => {
                let row = self.account(account);
                let share = dominant(&row.using, &self.capacity, [1; 3]);
                u128::from(share) / u128::from(row.spec.weight.max(1))
            }
            Order::Karma => self.karma.rank(account, &self.account(account).using),
            Order::Fifo | Order::EarliestDue => 0,
        }
    }

    /// Returns whether leases run in terms: money or the order needs them.
    #[must_use]
    pub fn runs_in_terms(&self) -> bool {
        let permission = self.network;
        permission || self.rules.atp.enabled || self.rules.scheduling.order == Order::Fair
    }

    /// Returns how nodes that score the same are ordered: higher priority, then the permutation.
    #[must_use]
    pub fn tie(&self, node: NodeId) -> (i32, u32) {
        (-self.nodes[node].spec.priority.max(-i32::MAX), self.tie_rank[node])
    }

    /// Returns the jobs that are neither waiting nor running nor held nor claimed, or that are so
    /// while they depend on others: none, ever.
    #[must_use]
    pub fn strays(&self) -> Vec<JobId> {
        let stray = |(id, job): (JobId, &Job)| {
            let waits = self.queue.contains(self.line_of(job), id);
            let free = !job.depends();
            let ok = match job.state {
                JobState::Pending => waits && free,
                JobState::Held => !waits,
                JobState::Dependent => !waits && !free,
                JobState::Nominated => self.claims.contains_key(&id) && free,
                JobState::Running(lease) => self.leases.contains_key(&lease) && free,
            };
            let listed = |on: &JobId| self.dependents.get(on).is_some_and(|o| o.contains(&id));
            let found = job.after.iter().all(|on| self.jobs.contains_key(on) && listed(on));
            (!ok || !found).then_some(id)
        };
        let gone = |on: &&JobId| !self.jobs.contains_key(on);
        let gone = self.dependents.keys().filter(gone).copied();
        self.jobs.iter().filter_map(stray).chain(gone).collect()
    }

    /// Walks the jobs of a pool for which a place is kept ahead, in the order of the promises: a
    /// later one never takes from an earlier one.
    pub fn reserved(&self, pool: PoolId) -> impl Iterator<Item = (JobId, &Ahead)> {
        self.reserved.get(&pool).into_iter().flatten().map(|(id, ahead)| (*id, ahead))
    }

    /// Keeps no place for a job any more.
    pub fn release_place(&mut self, id: JobId) {
        let job = self.job(id);
        if !job.reserved {
            return;
        }
        let pool = self.shapes[job.shape].pool;
        self.job_mut(id).reserved = false;
        if let Some(jobs) = self.reserved.get_mut(&pool) {
            jobs.remove(&id);
            if jobs.is_empty() {
                self.reserved.remove(&pool);
            }
        }
        self.changed.stir();
    }

    /// Returns whether anything may wait for a place in a pool.
    #[must_use]
    pub fn is_waiting(&self, pool: PoolId) -> bool {
        self.queue.waiting(pool).iter().any(|count| *count > 0)
    }
}

/// Stops: our bug. Said in one place, as whoever looks a job up would carry the message.
#[cold]
fn missing_job(id: JobId) -> ! {
    panic!("job {id} is live")
}

/// As [`missing_job`], for a lease.
#[cold]
fn missing_lease(id: LeaseId) -> ! {
    panic!("lease {id} is open")
}

/// Returns a permutation of `0..len` seeded by `seed`, by sorting mixed keys.
#[must_use]
pub fn permutation(seed: u64, len: usize) -> Table<NodeId, u32> {
    let mut keys: Vec<(u64, u32)> = (0..u32::try_from(len).unwrap_or(u32::MAX))
        .map(|i| (mix(seed ^ 0x7065_726d_7574_6521, u64::from(i)), i))
        .collect();
    keys.sort_unstable();
    let mut ranks = alloc::vec![0_u32; len];
    for (rank, (_, node)) in keys.into_iter().enumerate() {
        if let Some(slot) = ranks.get_mut(node as usize) {
            *slot = u32::try_from(rank).unwrap_or(u32::MAX);
        }
    }
    let mut table = Table::new();
    for rank in ranks {
        table.push(rank);
    }
    table
}

/// Mixes a seed and a counter into 64 well-spread bits (the finaliser of SplitMix64; Steele, Lea
/// and Flood, OOPSLA 2014).
#[must_use]
pub fn mix(seed: u64, counter: u64) -> u64 {
    let mut z = seed.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
