//! The observer: looks at the cluster at even intervals and keeps what the tables and metrics need.

use super::tally::{Integrals, mean, owner_amounts, triple};
use super::{Finished, World};
use crate::kernel::Class;
use crate::record::{Amounts, JobState, NodeRow, NodeSample, RunRecord, TimelineRow};
use gridcore::bundle::Bundle;
use gridcore::config::Config;
use gridcore::effect::{EvictionReason, OfferFate};
use gridcore::nodes::{Node, share_of};
use gridcore::pressure::score;
use gridcore::state::{Pool, State};
use gridcore::units::{BasisPoints, Bytes, MilliCores, MilliGpus, Span, Time};

/// What offers did to owners, and what an oracle would have offered (NAMES.md "Definitions").
#[derive(Clone, Debug, Default)]
pub struct Harm {
    /// Node intervals looked at while something was on offer.
    pub intervals: u64,
    /// Those in which owner and offer together exceeded a capacity.
    pub harmed: u64,
    /// All node intervals looked at.
    pub looked: u64,
    /// Sum over all intervals of the excess, in parts of a million of the capacity.
    pub overshoot_ppm: u128,
    /// Sums of what was on offer.
    pub offered: [u128; 3],
    /// Sums of what an oracle would have offered.
    pub lendable: [u128; 3],
    /// Reclaim latencies.
    pub reclaims: Vec<Span>,
    /// Evictions by reason, in the order of [`EvictionReason::ALL`].
    pub evictions: [u64; EvictionReason::ALL.len()],
}

/// What the observer keeps between looks.
#[derive(Clone, Debug)]
pub(super) struct Observer {
    interval: Span,
    /// Time between two looks at offers.
    step: Span,
    next: Time,
    row_due: Time,
    row_began: Time,
    before: Integrals,
    waits: [(u128, u64); 4],
    fates: [u64; 5],
    /// Sums over the looks of the running interval.
    offered: [u128; 3],
    lendable: [u128; 3],
    looks: u64,
    harm: Harm,
}

/// Returns the empty record of a run.
pub(super) fn first_rows(
    config: &Config,
    (name, about): (&str, &str),
    seed: u64,
    interval: Span,
) -> RunRecord {
    let rules = &config.rules;
    let node = |n: &gridcore::config::NodeSpec| NodeRow {
        name: n.name.clone(),
        capacity: n.capacity,
        gpu_model: n.labels.get("gpu_model").cloned().unwrap_or_default(),
        owner: n.owner.get(),
    };
    RunRecord {
        scenario: name.to_owned(),
        about: about.to_owned(),
        seed,
        rules: [
            snake(&format!("{:?}", rules.balance.policy)),
            snake(&format!("{:?}", rules.scheduling.strategy)),
            snake(&format!("{:?}", rules.scheduling.order)),
            snake(&format!("{:?}", rules.scheduling.backfill)),
        ],
        complete: true,
        interval,
        accounts: config.accounts.iter().map(|a| a.name.clone()).collect(),
        pools: config.pools.iter().map(|p| p.name.clone()).collect(),
        nodes: config.nodes.iter().map(node).collect(),
        ..RunRecord::default()
    }
}

/// Turns `BestFit` into `best_fit`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

impl Observer {
    pub(super) fn new(interval: Span, dedicated: bool) -> Self {
        // Looks lie at most five minutes apart and meet the end of every interval. Where nobody
        // owns anything, nothing changes between them.
        let looks = if dedicated { 1 } else { interval.get().div_ceil(300_000).max(1) };
        let step = Span::new((interval.get() / looks).max(1));
        Self {
            interval,
            step,
            next: Time::ZERO.after(step),
            row_due: Time::ZERO.after(interval),
            row_began: Time::ZERO,
            before: Integrals::default(),
            waits: [(0, 0); 4],
            fates: [0; 5],
            offered: [0; 3],
            lendable: [0; 3],
            looks: 0,
            harm: Harm::default(),
        }
    }

    pub(super) fn next(&self) -> Time {
        self.next
    }

    pub(super) fn count_offer(&mut self, fate: OfferFate) {
        if let Some(count) = self.fates.get_mut(fate_index(fate)) {
            *count += 1;
        }
    }

    /// Counts the wait of a job's first start.
    pub(super) fn count_wait(&mut self, band: usize, wait: Span, earlier_attempts: u32) {
        if let (Some((sum, count)), 0) = (self.waits.get_mut(band), earlier_attempts) {
            *sum += u128::from(wait.get());
            *count += 1;
        }
    }

    pub(super) fn count_reclaim(&mut self, latency: Span) {
        self.harm.reclaims.push(latency);
    }

    pub(super) fn count_eviction(&mut self, reason: EvictionReason) {
        let place = EvictionReason::ALL.iter().position(|r| *r == reason);
        if let Some(count) = place.and_then(|i| self.harm.evictions.get_mut(i)) {
            *count += 1;
        }
    }
}

/// Returns what is on offer of a node, the leased part included.
fn offered(node: &Node) -> Bundle {
    match &node.offer {
        Some(offer) => offer.total,
        None => Bundle::ZERO,
    }
}

/// Returns what an oracle would lend that knew the owner's peaks until the horizon has passed:
/// capacity less peak less buffer, within the node's own share limit.
fn oracle(
    node: &Node,
    (cpu, memory): (BasisPoints, BasisPoints),
    gpus: impl Iterator<Item = BasisPoints>,
    gate: BasisPoints,
) -> Bundle {
    let capacity = &node.spec.capacity;
    if node.spec.dedicated {
        return capacity.meet(&node.spec.share_max);
    }
    let left = |whole: u64, peak: BasisPoints, unit: u64, percent: u16| {
        let buffer = BasisPoints::percent(percent).of_ceil(whole).max(unit);
        (whole - peak.of_ceil(whole)).saturating_sub(buffer)
    };
    let busy = gpus.take(node.gpus.len()).filter(|peak| *peak >= gate).count() as u64;
    let idle = node.gpus.len() as u64 - busy;
    let bundle = Bundle {
        cpu: MilliCores::new(left(capacity.cpu.get(), cpu, 1_000, 5)),
        memory: Bytes::new(left(capacity.memory.get(), memory, 1 << 30, 10)),
        gpu: MilliGpus::new(idle * 1_000),
        ..*capacity
    };
    bundle.meet(&node.spec.share_max)
}

impl World {
    /// Looks at every offer, and closes the running interval when it ends.
    pub(super) fn observe(&mut self) {
        self.look_at_offers();
        if self.now >= self.observer.row_due {
            self.close_interval();
        }
        let next = self.now.after(self.observer.step);
        self.observer.next = next;
        let live = self.horizon.is_some() || self.next_job.is_some() || self.has_life();
        if live {
            self.events.push(next, Class::Observe, 0);
        }
    }

    /// Returns whether anything but the observer will ever happen again.
    fn has_life(&self) -> bool {
        !self.events.is_empty() || self.wake_at.is_some()
    }

    /// Compares what is on offer with what the owners do in the next horizon.
    fn look_at_offers(&mut self) {
        let state = self.grid.state();
        let horizon = state.rules.balance.horizon;
        let gate = state.rules.offering.gates.gpu_utilization_max;
        let observer = &mut self.observer;
        let mut gpu_offered = 0;
        for ((_, node), feed) in state.nodes.iter().zip(&self.feeds) {
            if !node.up {
                continue;
            }
            let on_offer = offered(node);
            gpu_offered += on_offer.gpu.get();
            let mut peaks = feed.peaks(self.now, self.now.after(horizon));
            let cpu = peaks.next().unwrap_or_default();
            let memory = peaks.next().unwrap_or_default();
            let could = oracle(node, (cpu, memory), peaks, gate);
            for (sums, amounts) in
                [(&mut observer.offered, &on_offer), (&mut observer.lendable, &could)]
            {
                for (sum, amount) in sums.iter_mut().zip(triple(amounts)) {
                    *sum += u128::from(amount);
                }
            }
            if !node.spec.dedicated {
                observer.harm.judge(node, &on_offer, (cpu, memory));
            }
        }
        observer.looks += 1;
        self.tally.gpu_offered = gpu_offered;
    }

    /// Appends a row per node and one for the cluster.
    fn close_interval(&mut self) {
        let now = self.grid_now();
        let state = self.grid.state();
        for (_, node) in state.nodes.iter() {
            self.record.node_samples.push(node_sample(node, now));
        }
        let observer = &mut self.observer;
        let (after, before) = (self.tally.sums, observer.before);
        let span = self.now.since(observer.row_began);
        let looks = u128::from(observer.looks.max(1));
        let whole = Span::new(u64::try_from(looks).unwrap_or(u64::MAX));
        let mut row = TimelineRow {
            at: self.now,
            capacity: mean(after.capacity, before.capacity, span),
            owner: mean(after.owner, before.owner, span),
            lent: [Amounts::default(); 4],
            offered: mean(observer.offered, [0; 3], whole),
            lendable: mean(observer.lendable, [0; 3], whole),
            queued: self.tally.waiting,
            running: self.tally.running,
            wait: [None; 4],
            price_ppm: RESOURCES.map(|i| price(state, i)),
            demand_ppm: RESOURCES.map(|i| wanted(state, i)),
            offers: observer.fates,
        };
        for (i, slot) in row.lent.iter_mut().enumerate() {
            let (after, before) = (after.lent.get(i).copied(), before.lent.get(i).copied());
            *slot = mean(after.unwrap_or_default(), before.unwrap_or_default(), span);
        }
        for (slot, (sum, count)) in row.wait.iter_mut().zip(observer.waits) {
            let mean = sum.checked_div(u128::from(count));
            *slot = mean.map(|ms| Span::new(u64::try_from(ms).unwrap_or(u64::MAX)));
        }
        self.record.timeline.push(row);
        for (total, part) in observer.harm.offered.iter_mut().zip(observer.offered) {
            *total += part;
        }
        for (total, part) in observer.harm.lendable.iter_mut().zip(observer.lendable) {
            *total += part;
        }
        (observer.offered, observer.lendable, observer.looks) = ([0; 3], [0; 3], 0);
        observer.waits = [(0, 0); 4];
        observer.before = after;
        observer.row_began = self.now;
        observer.row_due = self.now.after(observer.interval);
    }

    /// Completes the rows of jobs and leases that are still open when the run ends.
    fn close_rows(&mut self) {
        debug_assert!(self.keeps_what_lasts(), "what is over is given back");
        let now = self.now;
        for (index, progress) in self.progress.iter() {
            let Some(row) = self.record.jobs.get_mut(index) else { continue };
            match row.state {
                JobState::Waiting => {
                    row.wait = row.wait.saturating_add(now.since(progress.waits_since));
                }
                JobState::Running => {
                    row.run = row.run.saturating_add(now.since(progress.began));
                }
                JobState::Completed
                | JobState::Failed
                | JobState::Timeout
                | JobState::Cancelled
                | JobState::Preempted
                | JobState::NodeFail
                | JobState::OutOfBudget
                | JobState::Refused => {}
            }
        }
        for (id, job) in self.grid.state().jobs.iter() {
            let index = usize::try_from(id.get()).unwrap_or(usize::MAX);
            let row = self.row_of.get(index).copied().unwrap_or(u32::MAX) as usize;
            if let Some(row) = self.record.jobs.get_mut(row) {
                (row.charged, row.refunded) = (job.charged, job.refunded);
            }
        }
    }

    /// Ends the run and hands out what it left.
    pub(super) fn close(mut self, complete: bool) -> Finished {
        if self.now > self.observer.row_began {
            self.look_at_offers();
            self.close_interval();
        }
        self.close_rows();
        self.record.end = self.now;
        self.record.complete = complete;
        let without_departures = self.record.jobs.iter().all(|job| job.work == Span::MAX);
        if !without_departures {
            self.record.fill.clear();
        }
        self.check_end();
        let (weather, reclaims) =
            self.far.map_or_else(Default::default, |far| (far.counts, far.reclaims));
        Finished {
            broken: self.broken,
            weather,
            reclaims,
            record: self.record,
            grid: self.grid,
            tally: self.tally,
            harm: self.observer.harm,
            counts: self.counts,
        }
    }
}

impl Harm {
    /// Judges one node's offer against the owner's peaks of the next horizon.
    fn judge(&mut self, node: &Node, on_offer: &Bundle, (cpu, memory): (BasisPoints, BasisPoints)) {
        self.looked += 1;
        if on_offer.is_zero() {
            return;
        }
        self.intervals += 1;
        let capacity = &node.spec.capacity;
        let over = |peak: BasisPoints, offered: u64, whole: u64| {
            let excess = (peak.of_ceil(whole) + offered).saturating_sub(whole);
            (u128::from(excess) * 1_000_000).checked_div(u128::from(whole)).unwrap_or(0)
        };
        let excess = over(cpu, on_offer.cpu.get(), capacity.cpu.get()).max(over(
            memory,
            on_offer.memory.get(),
            capacity.memory.get(),
        ));
        self.harmed += u64::from(excess > 0);
        self.overshoot_ppm += excess;
    }
}

/// Describes one node now.
fn node_sample(node: &Node, now: Time) -> NodeSample {
    let owner = node.load.as_ref().map_or([BasisPoints::ZERO; 3], |load| load.owner());
    let lent = node.leased_share();
    let mut uses = owner;
    for (sum, part) in uses.iter_mut().zip(lent) {
        *sum = sum.saturating_add(part).capped();
    }
    debug_assert!(owner_amounts(node)[0] <= node.spec.capacity.cpu.get(), "use is at most all");
    NodeSample {
        owner,
        lent,
        offered: share_of(&offered(node), &node.spec.capacity),
        pressure: score(uses, !node.gpus.is_empty()),
        state: node.state_name(now),
    }
}

/// Returns the place of a fate in [`crate::record::TimelineRow::offers`].
const fn fate_index(fate: OfferFate) -> usize {
    match fate {
        OfferFate::Opened => 0,
        OfferFate::Leased => 1,
        OfferFate::Expired => 2,
        OfferFate::Withdrawn => 3,
        OfferFate::Revoked => 4,
    }
}

/// CPU, memory and GPUs among the dimensions of a bundle.
const RESOURCES: [usize; 3] = [0, 1, 3];

/// Returns the price of a resource in ppm of its rate: the mean over pools by what they have.
fn price(state: &State, resource: usize) -> u32 {
    let price = |pool: &Pool| pool.market.prices.0.get(resource).map(|price| price.get());
    mean_of_pools(state, resource, price).unwrap_or(1_000_000)
}

/// Returns what is used and waited for of a resource, in ppm of what is lent: the same mean over
/// the pools that lend any; `None` while prices do not move.
fn wanted(state: &State, resource: usize) -> Option<u32> {
    let used = |pool: &Pool| pool.market.used.get(resource)?.map(|used| used.get());
    mean_of_pools(state, resource, used)
}

/// Returns the mean of something over the pools of which it is known, by what they have.
fn mean_of_pools(
    state: &State,
    resource: usize,
    value: impl Fn(&Pool) -> Option<u32>,
) -> Option<u32> {
    let (mut sum, mut whole) = (0_u128, 0_u128);
    for (_, pool) in state.pools.iter() {
        let has = pool.capacity.amounts().get(resource).copied().unwrap_or(0);
        let Some(value) = value(pool) else { continue };
        sum += u128::from(value) * u128::from(has);
        whole += u128::from(has);
    }
    sum.checked_div(whole).and_then(|mean| u32::try_from(mean).ok())
}
