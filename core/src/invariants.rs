//! What must always hold: RULES.md section 9, as far as this core can break it.
//!
//! [`check`] looks at one state, [`check_step`] at an entry with the state before and after it.
//! Both recompute from scratch what the tables keep as counts. They are shipped, not hidden in
//! tests, so that a daemon can check itself; they walk everything and are not for every entry of a
//! live system.

mod ledger;
mod market;
mod order;

use crate::bundle::Bundle;
use crate::command::{Command, Entry, Report};
use crate::effect::EvictionReason;
use crate::ids::{JobId, LeaseId, NodeId};
use crate::jobs::JobState;
use crate::leases::{Lease, LeaseState};
use crate::state::State;
use crate::tags::Tags;
use crate::units::{PerMille, Time};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use market::{check_prices, check_steps};
use order::{check_order, check_starving};

/// One broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Its number in RULES.md section 9.
    pub invariant: u8,
    /// What was found.
    pub found: String,
}

/// Collects breaches.
struct Breaches(Vec<Breach>);

impl Breaches {
    fn need(&mut self, invariant: u8, holds: bool, found: impl FnOnce() -> String) {
        if !holds {
            self.0.push(Breach { invariant, found: found() });
        }
    }
}

/// Checks every invariant that a state alone shows.
#[must_use]
pub fn check(state: &State) -> Vec<Breach> {
    let mut out = Breaches(Vec::new());
    ledger::check(state, &mut out);
    check_prices(state, &mut out);
    for (id, node) in state.nodes.iter() {
        check_counts(state, id, &mut out);
        check_lent(state, id, &mut out);
        let offers = u32::from(node.offer.is_some());
        out.need(14, node.reputation.is_sound(), || format!("{id}: {:?}", node.reputation));
        out.need(19, offers <= state.rules.offering.offers_max, || {
            format!("{id}: {offers} offers")
        });
    }
    let released = state.leases.values().filter(|l| l.state == LeaseState::Released).count();
    out.need(20, state.released == released as u64, || {
        format!("{released} leases are released, {} are counted", state.released)
    });
    for (id, pool) in state.pools.iter() {
        let holding =
            |l: &&Lease| l.state != LeaseState::Released && state.shapes[l.shape].pool == id;
        let (mut sum, mut tags) = (Bundle::ZERO, Tags::default());
        for lease in state.leases.values().filter(holding) {
            for _ in lease.members.iter().filter(|m| !lease.has_left(m.node)) {
                sum.add(&lease.needs.bundle());
                tags.enter(&state.shapes[lease.shape].tags);
            }
        }
        out.need(20, tags == pool.tags, || format!("{id}: {tags:?} run, {:?} counted", pool.tags));
        out.need(32, sum == pool.leased, || {
            format!("{id}: {sum:?} leased, {:?} counted", pool.leased)
        });
        if let Some(quota) = &pool.spec.quota {
            out.need(32, sum.fits_in(quota), || format!("{id}: {sum:?} above its quota"));
        }
    }
    let names: BTreeSet<&String> = state.pools.iter().map(|(_, pool)| &pool.spec.name).collect();
    out.need(26, names.len() == state.pools.len(), || String::from("two pools share a name"));
    out.need(33, state.karma.is_balanced(), || String::from("credits to borrow with are lost"));
    let stuck = state.leases.values().filter(|lease| lease.stuck);
    for lease in stuck.filter(|lease| lease.state == LeaseState::Active) {
        out.need(20, false, || format!("{} was killed and still counts as running", lease.id));
    }
    let strays = state.strays();
    out.need(29, strays.is_empty(), || format!("jobs that are nowhere: {strays:?}"));
    // A lease has at most three timers, a node five, a claim one; a pool one per waiting retry;
    // a quantum and prices one.
    let most = 3 * state.leases.len() + 5 * state.nodes.len() + state.claims.len();
    let most = most + 16 * state.pools.len() + 4 * state.jobs.len() + 2;
    out.need(48, state.timers.len() <= most, || format!("{} timers", state.timers.len()));
    out.0
}

/// Invariants 20 and 24: the counts of a node equal the sum over its leases and claims.
fn check_counts(state: &State, id: NodeId, out: &mut Breaches) {
    let node = &state.nodes[id];
    let (mut leased, mut claimed, mut tags) = (Bundle::ZERO, Bundle::ZERO, Tags::default());
    let mut used: Vec<(u64, u64, u32)> = node.gpus.iter().map(|_| (0, 0, 0)).collect();
    for lease in state.leases.values().filter(|l| l.state != LeaseState::Released) {
        let here = |m: &&crate::leases::Member| m.node == id && !lease.has_left(id);
        for member in lease.members.iter().filter(here) {
            leased.add(&lease.needs.bundle());
            tags.enter(&state.shapes[lease.shape].tags);
            for (i, slot) in
                used.iter_mut().enumerate().filter(|(i, _)| member.devices & 1 << i != 0)
            {
                let _ = i;
                slot.0 += u64::from(lease.needs.gpus.share.get());
                slot.1 += lease.needs.gpus.memory.get();
                slot.2 += u32::from(lease.needs.gpus.is_exclusive());
            }
        }
    }
    let mut avoided = Tags::default();
    for (job, claim) in &state.claims {
        for _ in claim.members.iter().filter(|m| m.node == id) {
            claimed.add(&claim.needs.bundle());
            avoided.enter(&state.shapes[state.job(*job).shape].anti_affinity);
        }
    }
    out.need(20, leased == node.leased, || {
        format!("{id}: {leased:?} leased, {:?} counted", node.leased)
    });
    let here = |l: &&Lease| l.state != LeaseState::Released && l.is_on(id);
    let extra = state.leases.values().filter(here).map(|lease| lease.extra.cpu.get()).sum();
    out.need(20, node.extra.get() == extra, || {
        format!("{id}: {extra} beside needs, {} counted", node.extra)
    });
    let due = state.timers.first().is_some_and(|(at, _)| at <= state.now);
    out.need(18, node.extra <= node.free().cpu || due, || {
        format!("{id}: {} beside needs, {} free", node.extra, node.free().cpu)
    });
    out.need(20, tags == node.tags, || format!("{id}: {tags:?} run, {:?} counted", node.tags));
    out.need(20, claimed == node.claimed, || format!("{id}: claims differ"));
    out.need(20, avoided == node.avoided, || format!("{id}: {avoided:?} are avoided"));
    for (i, (gpu, (share, memory, exclusive))) in node.gpus.iter().zip(used).enumerate() {
        let counted = u64::from(gpu.used.get()) == share && gpu.memory_used.get() == memory;
        out.need(20, counted, || format!("{id} gpu {i}: {share} used, {:?} counted", gpu.used));
        let whole = u64::from(PerMille::WHOLE.get());
        let alone = exclusive == 0 || (exclusive == 1 && share == whole);
        out.need(24, share <= whole && alone, || {
            format!("{id} gpu {i}: shared beside exclusive use")
        });
    }
}

/// Invariants 17 to 19: what is lent stays inside what may be lent. That leases above it leave is
/// the node's affair: see [`crate::station::check`].
fn check_lent(state: &State, id: NodeId, out: &mut Breaches) {
    let node = &state.nodes[id];
    let room = node.spec.capacity;
    out.need(20, node.leased.fits_in(&room), || format!("{id}: {:?} leased", node.leased));
    if !node.up {
        let gone = node.leases.is_empty();
        out.need(21, gone && node.offer.is_none(), || format!("{id} is down and still lends"));
        return;
    }
    let lendable = node.lendable(state.now, &state.rules);
    let free = node.free();
    let spare = Bundle { gpu: free.gpu, ..lendable.bundle.saturating_sub(&node.leased) };
    let due = state.timers.first().is_some_and(|(at, _)| at <= state.now);
    if let Some(offer) = &node.offer {
        let growing = offer.total.fits_in(&lendable.bundle) || due;
        out.need(17, free.fits_in(&spare) || growing, || {
            format!("{id}: {free:?} free of an offer, {spare:?} could be")
        });
        out.need(19, offer.total.fits_in(&node.spec.share_max), || {
            format!("{id}: {:?} on offer is above its share", offer.total)
        });
    }
    out.need(18, node.lending.open || node.offer.is_none(), || {
        format!("{id} is on offer and its owner lends nothing")
    });
}

/// Checks every invariant that an entry shows.
#[must_use]
pub fn check_step(before: &State, entry: &Entry<Command>, after: &State) -> Vec<Breach> {
    let mut out = Breaches(Vec::new());
    out.need(45, after.now >= before.now && after.now == entry.at, || {
        format!("time goes from {} to {}", before.now, after.now)
    });
    let ids = after.next.job >= before.next.job
        && after.next.lease >= before.next.lease
        && after.next.offer >= before.next.offer;
    out.need(23, ids, || String::from("an id counter goes back"));
    for (id, lease) in after.leases.iter() {
        match before.leases.get(&id) {
            Some(old) => check_kept(old, lease, &mut out),
            None => check_granted(before, after, id, &mut out),
        }
    }
    ledger::check_step(before, after, &mut out);
    if let Command::Report(Report::Sample { node, .. }) = &entry.command {
        for (id, row) in after.nodes.iter().filter(|(id, _)| id != node) {
            out.need(46, *row == before.nodes[id], || format!("a sample of {node} changes {id}"));
        }
        out.need(46, after.leases == before.leases, || format!("a sample of {node} ends leases"));
    }
    check_steps(before, after, &mut out);
    check_order(before, after, &mut out);
    check_starving(before, after, &mut out);
    check_victims(before, after, &mut out);
    check_moves(before, after, &mut out);
    check_idle(before, after, &mut out);
    out.0
}

/// What may not change while a lease goes on.
fn check_kept(old: &Lease, new: &Lease, out: &mut Breaches) {
    let term = |lease: &Lease| (lease.term_began, lease.term_ends);
    let same = (old.job, old.epoch, old.account) == (new.job, new.epoch, new.account)
        && old.members == new.members
        && ((old.priority, old.prices) == (new.priority, new.prices) || term(old) != term(new));
    out.need(41, same, || format!("{}: its terms changed under way", new.id));
    let onward = new.term_began >= old.term_began && new.settled >= old.settled;
    out.need(4, onward, || format!("{}: a settled term is open again", new.id));
}

/// What must hold for a lease that is new.
fn check_granted(before: &State, after: &State, id: LeaseId, out: &mut Breaches) {
    let lease = after.lease(id);
    out.need(23, id >= before.next.lease, || format!("{id} is used again"));
    let job = after.jobs.get(&lease.job);
    let current = job.is_some_and(|job| job.epoch == lease.epoch);
    out.need(23, current, || format!("{id} is of another epoch than its job"));
    for member in &lease.members {
        let node = &after.nodes[member.node];
        out.need(22, node.up, || format!("{id} starts on a node that is down"));
        let dedicated = node.spec.dedicated || node.load.is_some();
        out.need(22, dedicated, || format!("{id} starts on a node that is unknown"));
        check_company(before, after, (lease, member.node), out);
        let own = node.spec.owner == lease.account && lease.members.len() == 1;
        out.need(14, !own || lease.hold.is_none(), || format!("{id} to oneself holds credit"));
    }
}

/// A new lease has what it must be near on a node, or is the first of its kind in the pool, and
/// nothing there that it avoids. Leases that are younger than it came later.
fn check_company(before: &State, after: &State, at: (&Lease, NodeId), out: &mut Breaches) {
    let (lease, node) = at;
    let shape = &after.shapes[lease.shape];
    let older = |state: &State, on: Option<NodeId>, tag: &String| {
        state.leases.values().any(|other| {
            let here = |m: &crate::leases::Member| {
                on.is_none_or(|node| m.node == node) && !other.has_left(m.node)
            };
            let row = &state.shapes[other.shape];
            other.id < lease.id
                && other.state != LeaseState::Released
                && row.pool == shape.pool
                && row.tags.contains(tag)
                && other.members.iter().any(here)
        })
    };
    let beside = shape.anti_affinity.iter().find(|tag| older(after, Some(node), tag));
    out.need(27, beside.is_none(), || format!("{} avoids {beside:?} on {node}", lease.id));
    for tag in &shape.affinity {
        let near = older(after, Some(node), tag) || older(before, Some(node), tag);
        let first = shape.tags.contains(tag) && !older(after, None, tag);
        // What came and went within the entry is not seen: a gang that it belonged to ended.
        out.need(27, near || first, || format!("{} is not near {tag} on {node}", lease.id));
    }
}

/// Invariants 30 and 31: who was told to leave for another job had run long enough, and every
/// victim was needed.
fn check_victims(before: &State, after: &State, out: &mut Breaches) {
    let rules = &before.rules.preemption;
    for lease in after.leases.values().filter(|lease| lease.state == LeaseState::Releasing) {
        let was = before.leases.get(&lease.id).is_some_and(|l| l.state == LeaseState::Releasing);
        let recalled = lease.reason == Some(EvictionReason::QuotaReclaim);
        if !was && (recalled || lease.reason == Some(EvictionReason::PriorityPreemption)) {
            let planned = after.claims.values().any(|claim| claim.victims.contains(&lease.id));
            out.need(30, planned, || format!("{} makes way for nobody", lease.id));
        }
        let row = after.account(lease.account);
        let by_class = lease.reason == Some(EvictionReason::PriorityPreemption);
        let of_others = |claim: &JobId| after.job(*claim).account != lease.account;
        let mut claims = after.claims.iter().filter(|(_, c)| c.victims.contains(&lease.id));
        let guarded = by_class && row.spec.quota.is_some() && claims.any(|(id, _)| of_others(id));
        if !was && !lease.unpaid && (recalled || guarded) {
            let quota = row.spec.quota.unwrap_or(Bundle::ZERO);
            out.need(32, !row.using.fits_in(&quota), || {
                format!("{} makes way within the quota of {}", lease.id, lease.account)
            });
        }
    }
    let nominated = |id: &JobId| !after.job(*id).state.is_running();
    let fresh = after.claims.iter().filter(|(id, _)| !before.claims.contains_key(id));
    for (id, claim) in fresh.filter(|(id, _)| nominated(id)) {
        for victim in claim.victims.iter().filter_map(|v| after.leases.get(v)) {
            let ran = victim.ran(after.now);
            let long = ran >= rules.runtime_min || victim.unpaid;
            out.need(31, long || before.rules != after.rules, || {
                format!("{} makes way for {id} after only {} ms", victim.id, ran.get())
            });
            let needed =
                claim.members.iter().any(|m| victim.members.iter().any(|v| v.node == m.node));
            out.need(30, needed, || format!("{} makes way for {id} elsewhere", victim.id));
        }
        let all = |job: &JobId| matches!(after.job(*job).state, JobState::Nominated);
        out.need(29, all(id), || format!("{id} has a claim and is not nominated"));
    }
}

/// Invariants 36 to 38: a move goes to another node, levels, and makes nobody high; a job that has
/// just moved stays.
fn check_moves(before: &State, after: &State, out: &mut Breaches) {
    let rules = &after.rules;
    if before.rules != *rules {
        return;
    }
    let moved = |lease: &&Lease| {
        let was = before.leases.get(&lease.id).is_some_and(|l| l.state == LeaseState::Active);
        was && lease.state == LeaseState::Releasing
            && lease.reason == Some(EvictionReason::Rebalance)
    };
    for lease in after.leases.values().filter(moved) {
        let (Some(claim), [from]) = (after.claims.get(&lease.job), lease.members.as_slice()) else {
            out.need(38, false, || format!("{} moves to nowhere", lease.id));
            continue;
        };
        let to = claim.members.first().map_or(from.node, |member| member.node);
        out.need(38, to != from.node, || format!("{} moves to where it is", lease.id));
        let last = before.job(lease.job).moved_at;
        let rested = last.is_none_or(|at| after.now.since(at) >= rules.rebalance.job_cooldown);
        out.need(37, rested, || format!("{} moves again too soon", lease.job));
        let fresh = |node: &NodeId| {
            let begun = after.nodes[*node].leases.iter().any(|id| *id >= before.next.lease);
            let told = after.nodes[*node].leases.iter().map(|id| after.lease(*id));
            let told =
                told.filter(|other| other.id != lease.id && other.noticed == Some(after.now));
            let mut claims = after.claims.iter().filter(|(id, _)| !before.claims.contains_key(id));
            let claimed = claims.any(|(id, claim)| {
                *id != lease.job && claim.members.iter().any(|m| m.node == *node)
            });
            begun || told.count() > 0 || claimed
        };
        if fresh(&from.node) || fresh(&to) {
            // What has started since would count, too.
            continue;
        }
        let need = lease.needs.bundle();
        let load = |id: NodeId, leased: Bundle| {
            crate::rebalance::load(&after.nodes[id], &leased, after.now, &rules.balance)
        };
        // The lease is leaving, and its next place is claimed.
        let source = crate::rebalance::heading(after, from.node);
        let target = crate::rebalance::heading(after, to);
        let (full, left) = (load(from.node, source.saturating_add(&need)), load(from.node, source));
        let (room, filled) = (load(to, target.saturating_sub(&need)), load(to, target));
        let square = |load: u64| u128::from(load) * u128::from(load);
        let (was, is) = (square(full) + square(room), square(left) + square(filled));
        out.need(36, is < was, || format!("{} moves and levels nothing", lease.id));
        let high: u64 = rules.balance.high.iter().map(|limit| u64::from(limit.get()) * 100).sum();
        out.need(38, filled <= high / 3, || format!("{} makes {to} high", lease.id));
    }
}

/// Nobody is told to leave for idle GPUs before they have been idle for as long as the rules say,
/// by what their nodes have told of each of them (invariant 31: nobody leaves too soon).
fn check_idle(before: &State, after: &State, out: &mut Breaches) {
    // What an entry of the same instant has told before may be forgotten by now.
    let was = |lease: &Lease| before.leases.get(&lease.id).and_then(|was| was.noticed);
    let told = |lease: &&Lease| {
        let now = lease.noticed == Some(after.now) && was(lease).is_none();
        now && lease.reason == Some(EvictionReason::IdleTimeout)
    };
    let rules = &before.rules.utilization;
    for lease in after.leases.values().filter(told) {
        let long =
            |since: Time| rules.reclaim_after.is_some_and(|least| after.now.since(since) >= least);
        let mut idle = long(lease.granted) && lease.needs.gpus.count > 0;
        for member in &lease.members {
            let gpus = before.nodes[member.node].gpus.iter().enumerate();
            for (_, gpu) in gpus.filter(|(i, _)| member.devices & 1 << i != 0) {
                let unused = gpu.in_use.is_some_and(|part| part < rules.gpu_min);
                idle &= unused && gpu.idle_since.is_some_and(long);
            }
        }
        out.need(31, idle, || format!("{} is not idle for long enough", lease.id));
    }
}
