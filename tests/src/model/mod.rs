//! The slow, obvious scheduler that the core is compared with.
//!
//! No index, no lines, no ranks, no terms: at every pass it sorts all waiting jobs, walks all
//! nodes, and computes the published score of each strategy anew (TRUTHS.md section 2). It knows
//! dedicated nodes, both kinds of backfill, all orders (`fair` with a half-life too long to
//! matter), and money; it knows no owner, no failure and nobody who makes way. It calls nothing of
//! the core that decides.

mod karma;
mod money;
mod score;

use gridcore::bundle::Needs;
use gridcore::command::{JobSpec, Outcome};
use gridcore::config::{Backfill, Config, Order};
use gridcore::ids::{AccountId, JobId, NodeId};
use gridcore::units::{Priority, Time};
use std::collections::{BTreeMap, BTreeSet};

/// One device: thousandths and bytes that are free.
#[derive(Clone, Copy, Debug)]
struct Device {
    share: u64,
    memory: u64,
}

/// One node.
#[derive(Clone, Debug)]
struct Host {
    free: [u64; 12],
    devices: Vec<Device>,
    kinds: BTreeMap<u8, u32>,
    drained: bool,
}

/// One job, waiting or running.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its account.
    pub account: AccountId,
    /// What it asked for.
    pub spec: JobSpec,
    /// Where it runs: node and devices of each member, in order.
    pub places: Option<Vec<(NodeId, u64)>>,
    /// Whether its account holds it.
    pub held: bool,
    /// Jobs that must complete first.
    pub after: BTreeSet<JobId>,
    /// Whether one of those never will.
    pub in_vain: bool,
    /// The running term: its beginning, its end, and what is set aside for it and the next.
    term: (u64, u64, u64, u64),
    limit_at: Option<u64>,
    /// When it would have ended at the latest had it not waited.
    due: u64,
    charged: u64,
    booked: u128,
    /// When it was started last.
    began: u64,
    /// How long it waits after it was stopped unpaid, until when, and whether credit for so long
    /// helps.
    setback: (u64, u64, bool),
    /// Why it was told to end, if it was.
    pub leaving: Option<Leaving>,
    /// The how-manieth start it is.
    order: u64,
    /// Whether half of the running term has passed.
    renewed: bool,
    /// The nodes on which its members have ended.
    gone: BTreeSet<NodeId>,
    /// How its first member ended by itself.
    pub outcome: Option<Outcome>,
}

/// Why a running job was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Its limit is reached; its capacity is free already.
    Limit,
    /// The next term is not paid for.
    Budget,
    /// Its account took it back.
    Cancelled,
    /// Its account lets it wait again.
    Requeued,
    /// Another member has ended.
    Gang,
}

/// The reference scheduler.
#[derive(Clone, Debug)]
pub struct Model {
    config: Config,
    hosts: Vec<Host>,
    /// All jobs that have not ended.
    pub tasks: BTreeMap<JobId, Task>,
    /// Credit an account can use, in micro-ATP.
    pub available: Vec<i128>,
    /// The fees.
    pub treasury: i128,
    /// Decayed use over weight, in the core's unit.
    pub usage: Vec<u128>,
    leased: Vec<[u64; 12]>,
    rank: Vec<u32>,
    starts: u64,
    credits: karma::Credits,
}

/// The class that orders: everything above 75 is urgent.
fn class(priority: Priority) -> u8 {
    if priority.get() > 75 { 100 } else { priority.get() }
}

impl Model {
    /// Begins with an empty cluster; `rank` is the seeded order of equal nodes.
    #[must_use]
    pub fn new(config: &Config, rank: Vec<u32>) -> Self {
        let host = |spec: &gridcore::config::NodeSpec| {
            let lent = spec.capacity.meet(&spec.share_max);
            let whole = usize::try_from(lent.gpu.get() / 1_000).unwrap_or(0);
            let mut free = lent.amounts();
            free[3] = whole as u64 * 1_000;
            let device = |(i, memory): (usize, &gridcore::units::Bytes)| {
                if i < whole {
                    Device { share: 1_000, memory: memory.get() }
                } else {
                    Device { share: 0, memory: 0 }
                }
            };
            let devices = spec.gpus.iter().enumerate().map(device).collect();
            let drained = !spec.lends(config.rules.rebalance.mode);
            Host { free, devices, kinds: BTreeMap::new(), drained }
        };
        let money = config.rules.atp.enabled;
        let start = |a: &gridcore::config::AccountSpec| if money { a.deposit.get() } else { 0 };
        Self {
            config: config.clone(),
            hosts: config.nodes.iter().map(host).collect(),
            tasks: BTreeMap::new(),
            available: config.accounts.iter().map(|a| i128::from(start(a))).collect(),
            treasury: 0,
            usage: vec![0; config.accounts.len()],
            leased: vec![[0; 12]; config.pools.len()],
            rank,
            starts: 0,
            credits: karma::Credits::new(config),
        }
    }

    fn of<T: Copy>(list: &[T], account: AccountId) -> T {
        list[account.get() as usize]
    }

    /// Adds a waiting job.
    pub fn submit(&mut self, id: JobId, (account, now): (AccountId, Time), spec: &JobSpec) {
        let (spec, places, limit) = (spec.clone(), None, spec.limit);
        let (term, limit_at, held, charged, booked) = ((0, 0, 0, 0), None, false, 0, 0);
        let (leaving, order, renewed) = (None, 0, false);
        let vain = |on: &JobId| self.tasks.get(on).is_some_and(|task| task.in_vain);
        let task = Task {
            account,
            after: spec.after.iter().copied().collect(),
            in_vain: spec.after.iter().any(vain),
            spec,
            places,
            held,
            term,
            limit_at,
            due: limit.map_or(u64::MAX, |limit| now.after(limit).ms()),
            charged,
            booked,
            began: 0,
            setback: (0, 0, false),
            leaving,
            order,
            renewed,
            gone: BTreeSet::new(),
            outcome: None,
        };
        self.tasks.insert(id, task);
    }

    /// Sets whether a node takes nothing new.
    pub fn drain(&mut self, node: NodeId, drained: bool) {
        let spec = &self.config.nodes[node.get() as usize];
        let can = spec.lends(self.config.rules.rebalance.mode);
        self.hosts[node.get() as usize].drained = drained || !can;
    }

    /// Pays credit in.
    pub fn deposit(&mut self, account: AccountId, amount: u64) {
        self.available[account.get() as usize] += i128::from(amount);
    }

    /// Lets the jobs that wait for one go on, or wait in vain, and those that wait for them.
    pub fn settle_dependents(&mut self, on: JobId, completed: bool) {
        let waits = |(id, task): (&JobId, &Task)| task.after.contains(&on).then_some(*id);
        for id in self.tasks.iter().filter_map(waits).collect::<Vec<_>>() {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            task.after.remove(&on);
            if !completed && !std::mem::replace(&mut task.in_vain, true) {
                self.settle_dependents(id, false);
            }
        }
    }

    /// Ends a job: its running term is paid for until `now`.
    pub fn end(&mut self, id: JobId, now: Time) {
        self.finish(id, now);
    }

    /// Ends a job's members on one node, and tells the others to leave; returns whether none is
    /// left.
    pub fn end_on(&mut self, id: JobId, node: NodeId, outcome: Outcome) -> bool {
        let Some(task) = self.tasks.get(&id).cloned() else { return false };
        let places = task.places.unwrap_or_default();
        for (at, devices) in places.iter().filter(|(at, _)| *at == node) {
            if task.leaving != Some(Leaving::Limit) {
                self.release(&task.spec, *at, *devices);
            }
        }
        let Some(task) = self.tasks.get_mut(&id) else { return false };
        task.gone.insert(node);
        if outcome != Outcome::Stopped {
            task.outcome.get_or_insert(outcome);
        }
        let over = places.iter().all(|(at, _)| task.gone.contains(at));
        if !over {
            task.leaving.get_or_insert(Leaving::Gang);
        }
        over
    }

    /// Gives back what one member uses.
    fn release(&mut self, spec: &JobSpec, node: NodeId, devices: u64) {
        self.give(node, devices, &spec.needs, true);
        let leased = &mut self.leased[spec.pool.get() as usize];
        for (sum, amount) in leased.iter_mut().zip(spec.needs.bundle().amounts()) {
            *sum -= amount;
        }
    }

    /// Does everything that is due by `now`, in the order of time, kind and start.
    pub fn run_due(&mut self, now: Time) {
        loop {
            let due = self.first_due().filter(|due| due.0 <= now.ms());
            if self.close_quantum(due.map_or(now.ms(), |due| due.0)) {
                continue;
            }
            let Some((_, kind, _, id)) = due else { return };
            match kind {
                0 => {
                    self.free(id);
                    self.leave(id, Leaving::Limit);
                }
                1 => {
                    self.renew(id);
                    self.tasks.get_mut(&id).into_iter().for_each(|task| task.renewed = true);
                }
                _ => {
                    if !self.next_term(id) {
                        self.leave(id, Leaving::Budget);
                    }
                }
            }
        }
    }

    /// Notes that a running job was told to end.
    pub fn leave(&mut self, id: JobId, why: Leaving) {
        if let Some(task) = self.tasks.get_mut(&id) {
            // Who was taken back does not wait for credit; who has freed its place stays so.
            let first =
                task.leaving.filter(|first| *first == Leaving::Limit || why != Leaving::Cancelled);
            task.leaving = Some(first.unwrap_or(why));
        }
    }

    /// The first limit (0), half of a term (1) or end of a term (2).
    fn first_due(&self) -> Option<(u64, u8, u64, JobId)> {
        let rules = &self.config.rules;
        let terms = rules.atp.enabled || rules.scheduling.order == Order::Fair;
        let active = self.tasks.iter().filter(|(_, t)| t.places.is_some() && t.leaving.is_none());
        let dues = active.flat_map(|(id, task)| {
            let (began, ends, order) = (task.term.0, task.term.1, task.order);
            let more = terms && task.limit_at.is_none_or(|limit| ends < limit);
            let limit = task.limit_at.map(|at| (at, 0, order, *id));
            let half =
                (more && !task.renewed).then_some((began + (ends - began) / 2, 1, order, *id));
            [limit, half, more.then_some((ends, 2, order, *id))]
        });
        dues.flatten().min()
    }

    /// Frees the capacity of a job, once.
    fn free(&mut self, id: JobId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if task.leaving == Some(Leaving::Limit) {
            return;
        }
        let (spec, gone) = (task.spec.clone(), task.gone.clone());
        for (node, devices) in task.places.clone().unwrap_or_default() {
            if !gone.contains(&node) {
                self.release(&spec, node, devices);
            }
        }
    }

    /// Lets a job that has ended wait again.
    pub(super) fn requeue(&mut self, id: JobId, now: Time) {
        self.close(id, now);
        if let Some(task) = self.tasks.get_mut(&id) {
            (task.places, task.leaving, task.term) = (None, None, (0, 0, 0, 0));
            task.gone.clear();
        }
    }

    /// Takes or gives back what one member uses of a node.
    fn give(&mut self, node: NodeId, devices: u64, needs: &Needs, back: bool) {
        let host = &mut self.hosts[node.get() as usize];
        let step = |slot: &mut u64, amount: u64| {
            *slot = if back { *slot + amount } else { *slot - amount }
        };
        for (slot, amount) in host.free.iter_mut().zip(needs.bundle().amounts()) {
            step(slot, amount);
        }
        for (i, device) in host.devices.iter_mut().enumerate() {
            if devices >> i & 1 == 1 {
                step(&mut device.share, u64::from(needs.gpus.share.get()));
                step(&mut device.memory, needs.gpus.memory.get());
            }
        }
        if needs.gpus.count > 0 {
            let kind = if needs.gpus.share.get() < 1_000 { 255 } else { needs.gpus.count };
            let count = host.kinds.entry(kind).or_insert(0);
            *count = if back { *count - 1 } else { *count + 1 };
            host.kinds.retain(|_, count| *count > 0);
        }
    }

    /// One scheduling pass over all pools.
    pub fn pass(&mut self, now: Time) {
        // A start is use, which may put another job first in a pool passed before.
        let again = matches!(self.config.rules.scheduling.order, Order::Fair | Order::Drf)
            && self.config.pools.len() > 1;
        let mut before = None;
        while before.is_none() || again && before != Some(self.starts) {
            before = Some(self.starts);
            for pool in 0..self.config.pools.len() {
                self.pass_pool(pool, now);
            }
        }
    }

    /// One scheduling pass over one pool.
    pub fn pass_pool(&mut self, pool: usize, now: Time) {
        let scheduling = self.config.rules.scheduling.clone();
        let mut tried: BTreeSet<JobId> = BTreeSet::new();
        let alone = scheduling.order == Order::EarliestDue;
        // Who cannot pay keeps the equal jobs of its account behind it.
        let mut poor: Vec<Task> = Vec::new();
        loop {
            let waiting = self.tasks.iter().filter(|(id, task)| {
                task.spec.pool.get() as usize == pool
                    && task.places.is_none()
                    && !task.held
                    && task.after.is_empty()
                    && !task.in_vain
                    && !tried.contains(id)
                    && !poor.iter().any(|other| !alone && same_line(other, task))
            });
            let key = |(id, task): &(&JobId, &Task)| {
                let usage = match scheduling.order {
                    Order::Fair => Self::of(&self.usage, task.account),
                    Order::Drf => self.dominant_now(task.account),
                    Order::Karma => self.credit_rank(task.account),
                    Order::Fifo => 0,
                    Order::EarliestDue => u128::from(task.due),
                };
                (100 - class(task.spec.priority), usage, **id)
            };
            let Some(id) = waiting.min_by_key(key).map(|(id, _)| *id) else { return };
            tried.insert(id);
            let task = self.tasks[&id].clone();
            if self.over_quota(pool, &task) {
                // Under `strict` a job that fits no node blocks even if the quota forbids it too.
                if scheduling.backfill == Backfill::Strict && self.best(&task, &[]).is_none() {
                    return;
                }
                poor.push(task);
                continue;
            }
            let Some(places) = self.place(&task, None) else {
                if scheduling.backfill == Backfill::Strict {
                    return;
                }
                continue;
            };
            // Who cannot pay for the best place still has its own nodes, for nothing: the rest of
            // a gang goes to others'.
            let own = |model: &Self| model.place(&task, Some(task.account));
            if !self.start(id, places, now)
                && !own(self).is_some_and(|places| self.start(id, places, now))
            {
                poor.push(task);
            } else if self.is_wanted(&task) {
                // What others must be near has begun: all are asked again.
                tried.clear();
                poor.clear();
            }
        }
    }

    /// Returns the largest part of any resource that an account's jobs hold, over its weight.
    fn dominant_now(&self, account: AccountId) -> u128 {
        let mut shares = Vec::new();
        for dimension in [0, 1, 3] {
            let whole: u64 =
                self.config.nodes.iter().map(|node| node.capacity.amounts()[dimension]).sum();
            let holds = |t: &&Task| t.account == account && t.leaving != Some(Leaving::Limit);
            let held = |t: &Task| {
                let there = t.places.iter().flatten().filter(|(node, _)| !t.gone.contains(node));
                u128::from(t.spec.needs.bundle().amounts()[dimension]) * there.count() as u128
            };
            let held: u128 = self.tasks.values().filter(holds).map(held).sum();
            shares.push((held << 32).checked_div(u128::from(whole)).unwrap_or(0));
        }
        let weight = self.config.accounts[account.get() as usize].weight;
        shares.into_iter().max().unwrap_or(0) / u128::from(weight)
    }

    fn over_quota(&self, pool: usize, task: &Task) -> bool {
        let Some(quota) = self.config.pools[pool].quota else { return false };
        let needs = task.spec.needs.bundle().amounts();
        let rows = self.leased[pool].iter().zip(needs).zip(quota.amounts());
        rows.into_iter()
            .any(|((leased, need), quota)| leased + need * u64::from(task.spec.members) > quota)
    }

    /// Finds places for all members, on one account's own nodes first if it says so, or none.
    fn place(&self, task: &Task, first: Option<AccountId>) -> Option<Vec<(NodeId, u64)>> {
        let mut trial = self.clone();
        let mut places: Vec<(NodeId, u64)> = Vec::new();
        for _ in 0..task.spec.members {
            let taken: Vec<NodeId> = places.iter().map(|(node, _)| *node).collect();
            let taken = if task.spec.spread { taken } else { Vec::new() };
            let owners = (0..).map(NodeId::new).zip(&self.config.nodes);
            let foreign = owners.filter(|(_, spec)| first.is_none_or(|own| spec.owner != own));
            let foreign = foreign.map(|(node, _)| node).chain(taken.iter().copied());
            let own = trial.best(task, &foreign.collect::<Vec<_>>());
            let node = own.or_else(|| trial.best(task, &taken))?;
            let devices = trial.tightest(node, &task.spec.needs)?;
            // What kinds a node runs counts whole jobs, so a gang does not change it under way.
            let kinds = trial.hosts[node.get() as usize].kinds.clone();
            trial.give(node, devices, &task.spec.needs, false);
            trial.hosts[node.get() as usize].kinds = kinds;
            places.push((node, devices));
        }
        Some(places)
    }
}

/// Whether two jobs stand in one line: who cannot pay keeps its equals waiting too.
fn same_line(a: &Task, b: &Task) -> bool {
    let same = |a: &JobSpec, b: &JobSpec| {
        (a.pool, a.needs, a.members, a.spread, a.priority)
            == (b.pool, b.needs, b.members, b.spread, b.priority)
            && a.labels == b.labels
            && a.preferred == b.preferred
            && (&a.excluded, &a.tags) == (&b.excluded, &b.tags)
            && (&a.affinity, &a.anti_affinity) == (&b.affinity, &b.anti_affinity)
            && (&a.near, a.price_max) == (&b.near, b.price_max)
    };
    a.account == b.account
        && same(&a.spec, &b.spec)
        && a.spec.budget.is_none()
        && b.spec.budget.is_none()
        && (a.setback.0 > 0) == (b.setback.0 > 0)
}
