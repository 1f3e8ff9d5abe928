//! What must always hold of the order: who is granted a place, and who could have had it.

use super::Breaches;
use super::market::can_pay;
use crate::charges::is_urgent;
use crate::confidence::{held, trusted};
use crate::config::Backfill;
use crate::ids::{JobId, NodeId, PoolId};
use crate::jobs::{Ahead, Job, STARVING};
use crate::leases::Lease;
use crate::placement::suits;
use crate::queue::Rank;
use crate::shadow::Shadow;
use crate::state::State;
use crate::units::{Span, Time};
use alloc::format;
use alloc::vec::Vec;

/// Invariant 27: nobody is granted a place that a waiting job of a higher class could have had.
pub(super) fn check_order(before: &State, after: &State, out: &mut Breaches) {
    let fresh: Vec<&Lease> =
        after.leases.values().filter(|l| !before.leases.contains_key(&l.id)).collect();
    for lease in fresh.iter().filter(|l| l.members.len() == 1) {
        let pool = after.shapes[lease.shape].pool;
        let from_claim = before.claims.contains_key(&lease.job);
        // Its place was kept for it; others may not start where one is.
        let reserved = before.reserved.values().any(|jobs| jobs.contains_key(&lease.job));
        let keeps = [before, after].iter().any(|state| state.reserved.contains_key(&pool));
        if from_claim || reserved || after.pools[pool].spec.quota.is_some() {
            continue;
        }
        let job = after.job(lease.job);
        let class = job.class_after(job.waited, &after.rules.scheduling);
        for rank in after.queue.ranks(pool).filter(|r| r.class() > class) {
            let fits = lease.members.iter().any(|m| would_fit(after, lease, m.node, rank.head));
            out.need(27, !fits || !is_as_good(after, lease, rank.head, keeps), || {
                format!("{} goes before {} of a higher class", lease.job, rank.head)
            });
        }
        if after.rules.scheduling.backfill == Backfill::Strict {
            let ahead = after.queue.ranks(pool).filter(|r| r.class() > class);
            // Who has a place kept from a time on is delayed by nobody beside it.
            let kept =
                |id: &JobId| after.reserved.get(&pool).is_some_and(|jobs| jobs.contains_key(id));
            let ahead: Vec<JobId> = ahead.map(|r| r.head).filter(|id| !kept(id)).collect();
            let poor = |id: &JobId| !can_pay(after, *id);
            out.need(27, ahead.iter().all(poor), || format!("{} passes {ahead:?}", lease.job));
        }
    }
}

/// Returns whether a job delays nobody where a lease does not: it needs no more and ends no later.
/// Without reservations nobody can be delayed.
fn is_as_good(state: &State, lease: &Lease, id: JobId, reserved: bool) -> bool {
    let job = state.job(id);
    let shape = &state.shapes[job.shape];
    let end = |limit: Option<Span>| limit.unwrap_or(Span::MAX);
    let shorter = end(job.limit) <= end(state.job(lease.job).limit);
    let alike = shape.needs.gpus == lease.needs.gpus;
    let smaller = alike && shape.needs.bundle().fits_in(&lease.needs.bundle());
    // Nor is it more that somebody with a place avoids.
    let tags = &state.shapes[lease.shape].tags;
    let smaller = smaller && shape.tags.iter().all(|tag| tags.contains(tag));
    let scheduling = &state.rules.scheduling;
    let starves = scheduling.backfill == Backfill::Greedy && scheduling.starvation_after.is_some();
    let keeps = reserved || scheduling.backfill.reservations() > 0 || starves;
    !keeps || (shorter && smaller)
}

/// Returns whether a waiting job of one member would fit where a lease has just been granted.
fn would_fit(state: &State, lease: &Lease, node: NodeId, id: JobId) -> bool {
    let job = state.job(id);
    let shape = &state.shapes[job.shape];
    if shape.members != 1 || !suits(state, shape, node) || !can_pay(state, id) {
        return false;
    }
    let mut without = state.nodes[node].clone();
    for member in lease.members.iter().filter(|m| m.node == node) {
        let tags = &state.shapes[lease.shape].tags;
        without.give_back(lease.id, (&lease.needs, tags), member.devices);
    }
    // What it must be near may have begun only after the other.
    let near = shape.affinity.is_empty() && shape.bears(&without.tags, 0);
    let sure = trusted(state, node, (&held(&without), shape), 1, (state.now, job.limit)) > 0;
    let fits = without.takes_work(state.now) && without.fits(&shape.needs, &shape.needs.bundle());
    near && fits && sure
}

/// Invariant 28: who starves and needs at most three quarters of its pool can start no later
/// because of who was granted a place, but for urgent ones and those that starve and are older.
pub(super) fn check_starving(before: &State, after: &State, out: &mut Breaches) {
    for pool in after.pools.ids() {
        let Some(first) = first_starving(after, pool) else { continue };
        if first_starving(before, pool).is_none_or(|old| old.head != first.head) {
            continue;
        }
        let job = after.job(first.head);
        let fresh: Vec<&Lease> = passed(before, after, (pool, job)).collect();
        if fresh.is_empty() {
            continue;
        }
        let with = soonest(after, job);
        let mut rest = after.clone();
        for lease in &fresh {
            take_out(&mut rest, lease);
        }
        let Some(without) = soonest(&rest, job) else { continue };
        out.need(28, with.is_some_and(|with| with <= without), || {
            let passed: Vec<JobId> = fresh.iter().map(|lease| lease.job).collect();
            format!("{} starves until {without}, with {passed:?} until {with:?}", job.id)
        });
    }
}

/// Returns the first that starves in a pool, if only room keeps it waiting and it needs no more
/// than it can be sure of. What is urgent, promised or left to nominees goes before it.
fn first_starving(state: &State, pool: PoolId) -> Option<Rank> {
    let rank = state.queue.ranks(pool).next().filter(|rank| rank.class() == STARVING)?;
    let row = &state.pools[pool];
    let shape = &state.shapes[rank.line.shape];
    let sure = row.capacity.amounts().map(|amount| amount / 4 * 3);
    let small = shape.total().amounts().iter().zip(sure).all(|(need, sure)| *need <= sure);
    let free =
        state.claims.is_empty() && !state.reserved.contains_key(&pool) && row.spec.quota.is_none();
    (small && free && can_pay(state, rank.head)).then_some(rank)
}

/// Walks the leases that an entry has granted in a pool to those that are to stand behind a job.
fn passed<'a>(
    before: &'a State,
    after: &'a State,
    (pool, job): (PoolId, &'a Job),
) -> impl Iterator<Item = &'a Lease> {
    let fresh = after.leases.values().filter(|lease| !before.leases.contains_key(&lease.id));
    fresh.filter(move |lease| {
        let other = after.job(lease.job);
        let class = other.aged_after(other.waited, &after.rules.scheduling);
        let older = class == STARVING && other.id < job.id;
        after.shapes[lease.shape].pool == pool && !is_urgent(lease.priority) && !older
    })
}

/// Returns when a job can start at the soonest, if nothing else starts before.
fn soonest(state: &State, job: &Job) -> Option<Time> {
    let ahead = Ahead { begin: state.now, ..Ahead::default() };
    Shadow::default().keep_ahead(state, job, &ahead).map(|(at, _)| at)
}

/// Takes a lease out of a state, as if it had never been granted.
fn take_out(state: &mut State, lease: &Lease) {
    let tags = state.shapes[lease.shape].tags.clone();
    let pool = state.shapes[lease.shape].pool;
    for member in &lease.members {
        let node = &mut state.nodes[member.node];
        node.give_back(lease.id, (&lease.needs, &tags), member.devices);
        node.extra = node.extra.saturating_sub(lease.extra.cpu);
        state.pools[pool].tags.leave(&tags);
    }
    state.leases.remove(&lease.id);
}
