//! Rebalancing that cannot oscillate (RULES.md section 7): which running leases should move from
//! nodes under high pressure to others. Questions only; nothing moves here.
//!
//! A node's load is its pressure (section 3) in millionths, not capped: its owner's use and what it
//! leases. A move must lower the sum of the squares of all loads by twice the margin times the
//! larger of what the lease weighs on both nodes, so at fixed use the number of moves is bounded,
//! and moving back needs the use to change first. What a move costs must be made up for in as long
//! as the pressure has been high already: what comes for a minute moves nobody.

use crate::bundle::Bundle;
use crate::charges::{first_hold, over_price};
use crate::confidence::suffices;
use crate::config::{Balance, Policy};
use crate::endings::end_behind;
use crate::ids::{LeaseId, NodeId, PoolId, ShapeId};
use crate::jobs::Job;
use crate::leases::{Lease, LeaseState, Member};
use crate::nodes::Node;
use crate::placement::{bears, suits, tightest};
use crate::preempt::{comes_apart, is_at_home};
use crate::pressure::{Level, weights};
use crate::shadow::Shadow;
use crate::state::State;
use crate::units::{BasisPoints, MicroAtp, Span, Time};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// Millionths in a whole.
const WHOLE: u64 = 1_000_000;
/// So many donors, the fullest of those with work that may move, are tried at one look, and of the
/// receivers that would gain by a lease so many, the emptiest.
const DONORS_MAX: usize = 16;
const RECEIVERS_MAX: usize = 64;
/// A move pays only for a job that goes on for so many times its cost.
const WORTH: u64 = 3;

/// One running lease that should go on elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The lease.
    pub lease: LeaseId,
    /// The node that it leaves.
    pub from: NodeId,
    /// The place that it takes.
    pub to: Member,
}

/// What a node uses of CPU, memory and GPUs, in millionths, not capped.
type Uses = [u64; 3];

/// A node at one look: worked out once, however many leases and places are weighed.
struct Side<'a> {
    id: NodeId,
    node: &'a Node,
    /// What its owner uses.
    owner: Uses,
    /// What of it is going to be leased.
    leased: Bundle,
    /// Its load with that.
    load: u64,
}

impl<'a> Side<'a> {
    fn new(state: &State, id: NodeId, node: &'a Node) -> Self {
        let owner = owner_uses(node, state.now, &state.rules.balance);
        let leased = heading(state, id);
        let load = load_of(node, uses_with(node, owner, &leased));
        Self { id, node, owner, leased, load }
    }

    /// Returns what it uses and its load with so much of it leased.
    fn with(&self, leased: &Bundle) -> (Uses, u64) {
        let uses = uses_with(self.node, self.owner, leased);
        (uses, load_of(self.node, uses))
    }
}

/// Returns what the owner of a node uses of CPU, memory and GPUs; under the policy `predictive`
/// what it is going to use within the horizon, if that is more.
fn owner_uses(node: &Node, now: Time, balance: &Balance) -> Uses {
    let Some(load) = &node.load else { return Uses::default() };
    let mut uses = load.owner();
    if balance.policy == Policy::Predictive {
        let mut peaks = load.forecasts.iter().map(|f| f.peak(now, balance).capped());
        let cpu = peaks.next().unwrap_or_default();
        let memory = peaks.next().unwrap_or_default();
        let (sum, count) = peaks.fold((0, 0), |(sum, n), p| (sum + u64::from(p.get()), n + 1));
        let mean = u16::try_from(sum.checked_div(count).unwrap_or(0)).unwrap_or(u16::MAX);
        for (slot, peak) in uses.iter_mut().zip([cpu, memory, BasisPoints::new(mean)]) {
            *slot = (*slot).max(peak);
        }
    }
    uses.map(|use_| u64::from(use_.get()) * 100)
}

/// Returns what a node would use beside its owner with so much of it leased.
fn uses_with(node: &Node, owner: Uses, leased: &Bundle) -> Uses {
    let all = &node.spec.capacity;
    let part = |part: u64, all: u64| {
        // Almost always it fits 64 bits, in which a division is a step.
        if let Some(scaled) = part.checked_mul(WHOLE) {
            return scaled.checked_div(all).unwrap_or(0);
        }
        let scaled = u128::from(part) * u128::from(WHOLE);
        u64::try_from(scaled.checked_div(u128::from(all)).unwrap_or(0)).unwrap_or(u64::MAX)
    };
    let leased = [
        part(leased.cpu.get(), all.cpu.get()),
        part(leased.memory.get(), all.memory.get()),
        part(leased.gpu.get(), all.gpu.get()),
    ];
    let mut uses = owner;
    for (slot, leased) in uses.iter_mut().zip(leased) {
        *slot = slot.saturating_add(leased);
    }
    uses
}

/// Returns a node's load, given what it uses.
fn load_of(node: &Node, uses: Uses) -> u64 {
    let weights = weights(!node.gpus.is_empty());
    let sum: u64 = uses.iter().zip(weights).map(|(u, w)| u.saturating_mul(w)).sum();
    sum / 100
}

/// Returns the load of a node with so much of it leased, in millionths.
#[must_use]
pub fn load(node: &Node, leased: &Bundle, now: Time, balance: &Balance) -> u64 {
    load_of(node, uses_with(node, owner_uses(node, now, balance), leased))
}

/// Returns what of a node is going to be leased once what leaves has left, and what makes way for
/// others or moves here has come.
#[must_use]
pub fn heading(state: &State, id: NodeId) -> Bundle {
    let node = &state.nodes[id];
    let mut leased = node.leased.saturating_add(&node.claimed);
    let leases = node.leases.iter().map(|id| state.lease(*id));
    for lease in leases.filter(|lease| lease.state == LeaseState::Releasing) {
        for _ in lease.members.iter().filter(|member| member.node == id) {
            leased = leased.saturating_sub(&lease.needs.bundle());
        }
    }
    leased
}

/// Returns whether a node is heard and known.
fn is_known(node: &Node) -> bool {
    node.up && !node.silent && (node.spec.dedicated || node.load.is_some())
}

/// Returns whether work should leave a node: its pressure is high, or, under `predictive`, is going
/// to be within the horizon.
#[must_use]
pub fn is_donor(node: &Node, now: Time, balance: &Balance) -> bool {
    let Some(known) = node.load.as_ref().filter(|_| is_known(node)) else { return false };
    let foreseen = || {
        let uses = uses_with(node, owner_uses(node, now, balance), &node.leased);
        let over = |(u, limit): (&u64, u64)| *u >= limit;
        load_of(node, uses) >= high(balance) || uses.iter().zip(limits(balance)).any(over)
    };
    let high = known.pressure.level() == Level::High;
    high || (balance.policy == Policy::Predictive && foreseen())
}

/// Returns how long the pressure of a donor may be expected to stay high: as long as it has been
/// so, or, where it is only foreseen, the horizon of the forecast.
fn lasts(node: &Node, balance: &Balance) -> Span {
    let samples = node.load.as_ref().map_or(0, |load| load.pressure.high_samples());
    let been = samples.saturating_mul(balance.monitoring_interval.get());
    let foreseen = balance.policy == Policy::Predictive;
    Span::new(been).max(if foreseen { balance.horizon } else { Span::ZERO })
}

/// Returns the load at which pressure counts as high.
fn high(balance: &Balance) -> u64 {
    balance.high.iter().map(|limit| u64::from(limit.get()) * 100).sum::<u64>() / 3
}

/// Returns the use of each resource at which it counts as high by itself.
fn limits(balance: &Balance) -> Uses {
    balance.high.map(|limit| (u64::from(limit.get()) * 100 + WHOLE / 10).min(WHOLE))
}

/// Returns the moves that are due in one pool, at most one from and to each node.
#[must_use]
pub fn moves(state: &State, pool: PoolId) -> Vec<Move> {
    let (now, balance) = (state.now, &state.rules.balance);
    let rules = &state.rules.rebalance;
    let rested = |node: &Node| node.moved_at.is_none_or(|at| now.since(at) >= rules.node_cooldown);
    let nodes = || state.pools[pool].nodes.iter().map(|id| (*id, &state.nodes[*id]));
    let ready = || nodes().filter(|(_, node)| is_known(node) && rested(node));
    let side = |(id, node)| Side::new(state, id, node);
    let donates = |(_, node): &(NodeId, &Node)| is_donor(node, now, balance);
    // One whose work may not move is no help.
    let helps = |from: &Side<'_>| candidates(state, from).next().is_some();
    let mut donors: Vec<Side<'_>> = ready().filter(donates).map(side).filter(helps).collect();
    if donors.is_empty() {
        return Vec::new();
    }
    // The fullest first; of equal ones the first in the order of nodes.
    donors.sort_unstable_by_key(|f| (core::cmp::Reverse(f.load), state.tie(f.id), f.id));
    donors.truncate(DONORS_MAX);
    let margin = u64::from(rules.margin.get()) * 100;
    let empty = |to: &Side<'_>| to.load.saturating_add(margin) < high(balance);
    let takes = |of: &(NodeId, &Node)| !donates(of) && of.1.takes_work(now);
    let mut receivers: Vec<Side<'_>> = ready().filter(takes).map(side).filter(empty).collect();
    receivers.sort_unstable_by_key(|to| (to.load, state.tie(to.id), to.id));
    let leases = nodes().map(|(_, node)| node.leases.len() as u64).sum();
    let most = rules.moves_max.of_floor(leases).max(1);
    let kept = Shadow::of_reservations(state, pool, None);
    let (mut out, mut taken) = (Vec::new(), BTreeSet::new());
    let mut fitting = Fitting::new();
    for from in &donors {
        if out.len() as u64 >= most {
            break;
        }
        let best = best_move(state, from, (&receivers, &mut fitting), (&taken, &kept));
        taken.extend(best.map(|step| step.to.node));
        out.extend(best);
    }
    out
}

/// Walks the leases on a donor that may move, and for which that could be worth it: no other place
/// is less loaded than an empty one.
fn candidates<'a>(state: &'a State, from: &Side<'a>) -> impl Iterator<Item = &'a Lease> {
    let (load, lasts) = (from.load, lasts(from.node, &state.rules.balance));
    let leases = from.node.leases.iter().map(|id| state.lease(*id));
    leases.filter(move |lease| is_worth(state, lease, load, lasts) && may_move(state, lease))
}

/// The receivers that each shape fits on, as far as somebody has asked.
type Fitting<'r, 'a> = BTreeMap<ShapeId, Vec<&'r Side<'a>>>;

/// Returns the move from one node that levels most.
fn best_move<'r, 'a>(
    state: &State,
    from: &Side<'_>,
    (receivers, fitting): (&'r [Side<'a>], &mut Fitting<'r, 'a>),
    (taken, kept): (&BTreeSet<NodeId>, &Shadow),
) -> Option<Move> {
    let mut best: Option<((u128, _, _), Move)> = None;
    for lease in candidates(state, from) {
        let without = from.leased.saturating_sub(&lease.needs.bundle());
        let (_, left) = from.with(&without);
        let end = end_behind(state, state.job(lease.job).limit);
        let kept = kept.closed_to_claims(state, &state.shapes[lease.shape], end);
        let open = |to: &&Side<'_>| !taken.contains(&to.id) && !kept.contains(&to.id);
        let gains = |to| Some((to, gain(state, lease, (from, left), to)?));
        let fits = |to: &&Side<'_>| fits(state, lease.shape, to.id);
        let all = || receivers.iter().filter(fits).collect();
        let fitting = fitting.entry(lease.shape).or_insert_with(all);
        let places = fitting.iter().copied().filter(open).filter_map(gains);
        for (to, levels) in places.take(RECEIVERS_MAX) {
            let rank = (levels, core::cmp::Reverse(lease.id), core::cmp::Reverse(state.tie(to.id)));
            if best.as_ref().is_some_and(|(known, _)| *known >= rank) {
                continue;
            }
            let devices = tightest(to.node, lease.needs.gpus);
            let member = Member { node: to.id, devices };
            best = Some((rank, Move { lease: lease.id, from: from.id, to: member }));
        }
    }
    best.map(|(_, step)| step)
}

/// Returns whether a lease may move at all: its job says that it can, has not moved just before,
/// and its account could pay for a first term elsewhere.
fn may_move(state: &State, lease: &Lease) -> bool {
    let job = state.job(lease.job);
    let rested =
        job.moved_at.is_none_or(|at| state.now.since(at) >= state.rules.rebalance.job_cooldown);
    // Who does not pay could not start elsewhere.
    let alone = lease.members.len() == 1 && lease.state == LeaseState::Active && !lease.unpaid;
    let still = lease.paused.is_none() && lease.suspended.is_none();
    let able = job.movable || job.checkpoint.is_some();
    let pays = || pays_on(state, lease, job);
    alone && still && able && rested && !job.cancelled && !is_at_home(state, lease) && pays()
}

/// Returns whether an account and a job's own budget can pay a first term elsewhere when the
/// running one is paid, at a price that the job pays.
fn pays_on(state: &State, lease: &Lease, job: &Job) -> bool {
    let shape = &state.shapes[lease.shape];
    let needed = first_hold(state, job, shape);
    let hold = lease.hold.and_then(|id| state.ledger.holds.get(&id));
    let running = hold.map_or(MicroAtp::ZERO, |hold| hold.amount);
    let all = job.charged.saturating_add(running).saturating_add(needed);
    let within = job.budget.is_none_or(|most| all <= most);
    let cheap = over_price(state, job, shape).is_none();
    state.ledger.available(job.account) >= needed && within && cheap
}

/// Returns by how much a move to a node that it fits on lowers the sum of the squares of all loads,
/// if it is worth it, allowed, and sure enough to stay; `left` is the load that it leaves behind.
fn gain(
    state: &State,
    lease: &Lease,
    (from, left): (&Side<'_>, u64),
    to: &Side<'_>,
) -> Option<u128> {
    let balance = &state.rules.balance;
    let margin = u64::from(state.rules.rebalance.margin.get()) * 100;
    let (with, filled) = to.with(&to.leased.checked_add(&lease.needs.bundle())?);
    let (share_from, share_to) = (from.load.saturating_sub(left), filled.saturating_sub(to.load));
    let below = |(u, limit): (&u64, u64)| u.saturating_add(margin) <= limit;
    let room = filled.saturating_add(margin) <= high(balance)
        && with.iter().zip(limits(balance)).all(below);
    if !room || share_from == 0 {
        return None;
    }
    let square = |load: u64| u128::from(load) * u128::from(load);
    let before = square(from.load) + square(to.load);
    let levels = before.checked_sub(square(left) + square(filled))?;
    let least = 2 * u128::from(margin) * u128::from(share_from.max(share_to));
    let lower = from.load.checked_sub(filled)?;
    let enough = levels >= least.max(1) && is_worth(state, lease, lower, lasts(from.node, balance));
    let of = (&state.shapes[lease.shape], state.job(lease.job));
    (enough && suffices(state, to.id, of, 1)).then_some(levels)
}

/// Returns whether what a move brings outweighs what it costs: `lower` is how much less loaded its
/// new place is, in millionths, for as long as the job goes on and the pressure `lasts`.
fn is_worth(state: &State, lease: &Lease, lower: u64, lasts: Span) -> bool {
    let (now, job) = (state.now, state.job(lease.job));
    let worked = lease.worked(now);
    let left = lease.limit_at.map_or(worked, |limit| limit.since(now)).get();
    let cost = job.lost_after(worked).get().saturating_add(job.restart.get());
    let gain = u128::from(lower) * u128::from(left.min(lasts.get())) / u128::from(WHOLE);
    gain >= u128::from(cost) && left >= cost.saturating_mul(WORTH)
}

/// Returns whether a shape fits on a node now, by hardware, labels and what is free.
fn fits(state: &State, id: ShapeId, node: NodeId) -> bool {
    let (row, shape) = (&state.nodes[node], &state.shapes[id]);
    suits(state, shape, node)
        && bears(state, shape, node)
        && !comes_apart(state, shape, node)
        && row.fits(&shape.needs, &shape.needs.bundle())
}
