//! Releasing: a lease is told to leave, ends, and its capacity, money and job go their ways.

use super::Work;
use super::claims::victim_left;
use super::grant::clear_timers;
use super::submit::finish;
use super::waiting::enqueue;
use crate::canary::{Canary, planted};
use crate::charges::{credit_to_go_on, foreign, priced_loss};
use crate::command::Outcome;
use crate::config::Order as QueueOrder;
use crate::effect::{Effect, EvictionReason, FinalState, LeaseEnd};
use crate::ids::{AccountId, LeaseId, NodeId};
use crate::jobs::{JobState, Setback};
use crate::leases::{Lease, LeaseState, Member};
use crate::meter::Resolution;
use crate::reputation::Fault;
use crate::state::State;
use crate::units::{MicroAtp, MilliCores, Span, Time};
use crate::wire::Order;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Tells a running lease to leave within `notice`, after which its nodes kill it.
pub fn begin_release(work: &mut Work<'_>, id: LeaseId, reason: EvictionReason, notice: Span) {
    told_to_leave(work, id, reason, notice, None);
}

/// Notes that a running lease is told to leave: by the coordinator, or by one of its nodes, which
/// then need not be told.
pub fn told_to_leave(
    work: &mut Work<'_>,
    id: LeaseId,
    reason: EvictionReason,
    notice: Span,
    by: Option<NodeId>,
) {
    let now = work.state.now;
    if work.state.lease(id).state != LeaseState::Active {
        return;
    }
    clear_timers(work.state, id);
    let lease = work.state.lease_mut(id);
    lease.end_pause(now);
    lease.state = LeaseState::Releasing;
    // Who leaves keeps no more than it needs; its node knows that.
    work.set_extra(id, MilliCores::ZERO);
    let lease = work.state.lease_mut(id);
    lease.reason = Some(reason);
    lease.noticed = Some(now);
    let (epoch, kill_at) = (lease.epoch, now.after(notice));
    lease.kill_at = Some(kill_at);
    work.effects.push(Effect::Evicted { lease: id, epoch, kill_at, reason });
    // A gang's other members end because of this one.
    let reason = if by.is_some() { EvictionReason::GangEnded } else { reason };
    for node in work.state.lease(id).places() {
        // When it ends is another time now.
        work.state.changed.note(node);
        if by != Some(node) {
            work.order(node, Order::Leave { lease: id, epoch, notice, reason });
        }
    }
    work.await_loss(id);
}

/// Notes that nothing of a lease is left on one node: its capacity there is free. The first member
/// that ends takes the others with it; when all have ended, the lease closes.
pub fn end_on(work: &mut Work<'_>, id: LeaseId, node: NodeId, outcome: Outcome) {
    let state = work.state.lease(id).state;
    if state != LeaseState::Released {
        return_capacity(work, id, node);
    }
    let lease = work.state.lease_mut(id);
    lease.leave(node);
    if matches!(outcome, Outcome::Completed | Outcome::Failed) {
        lease.outcome.get_or_insert(outcome);
    }
    let ended = lease.is_gone();
    if state == LeaseState::Active && !ended {
        let grace = work.state.rules.preemption.grace;
        let reason = work.state.lease(id).reason.unwrap_or(EvictionReason::GangEnded);
        told_to_leave(work, id, reason, grace, Some(node));
    }
    if ended {
        let outcome = work.state.lease(id).outcome.unwrap_or(outcome);
        close(work, id, outcome);
    }
}

/// Notes that a node on which a lease had a member is gone, and was last known to live at `until`.
pub fn lose_on(work: &mut Work<'_>, id: LeaseId, node: NodeId, until: Time) {
    let kept = planted(Canary::ForgetToFree);
    if work.state.lease(id).state != LeaseState::Released && !kept {
        return_capacity(work, id, node);
    }
    let lease = work.state.lease_mut(id);
    lease.leave(node);
    if lease.is_gone() {
        let outcome = lease.outcome.unwrap_or(Outcome::Stopped);
        close_until(work, id, outcome, until);
    }
}

/// Closes a lease whose processes are gone everywhere: settles its term and decides what becomes of
/// its job.
pub fn close(work: &mut Work<'_>, id: LeaseId, outcome: Outcome) {
    let lease = work.state.lease(id);
    // Where a node refused, nothing was to run and nothing is paid.
    let refused = lease.reason == Some(EvictionReason::Refused);
    let until = if refused { lease.granted } else { work.state.now };
    close_until(work, id, outcome, until);
}

/// Closes a lease that was last known to live at `until`.
///
/// # Panics
/// When the lease is not open: our bug.
pub fn close_until(work: &mut Work<'_>, id: LeaseId, outcome: Outcome, until: Time) {
    let now = work.state.now;
    let lease = work.state.lease(id);
    let (job_id, released) = (lease.job, lease.state == LeaseState::Released);
    let evicted = outcome == Outcome::Stopped && lease.reason.is_some();
    let lost = |state: &State, until| {
        let ran = || state.lease(id).worked(until);
        if evicted { state.job(job_id).lost_after(ran()) } else { Span::ZERO }
    };
    // Nothing was charged after the last sign of life; and whoever is to blame does not gain by a
    // checkpoint that was due only then.
    let charged = lost(work.state, until);
    work.state.lease_mut(id).end_pause(now);
    let lost = lost(work.state, now);
    settle_all(work, id, until, charged, evicted);
    work.unbook_term(id, until);
    work.unbook_urgent(id, until);
    clear_timers(work.state, id);
    let lease = work.state.leases.remove(&id);
    assert!(lease.is_some(), "lease {id} closes once");
    let Some(lease) = lease else { return };
    assert!(released || lease.is_gone(), "lease {id} closes when nothing of it is left");
    if released {
        work.state.released = work.state.released.saturating_sub(1);
    } else {
        let pool = work.state.shapes[lease.shape].pool;
        work.state.pools[pool].running.leave(lease.priority);
        work.uncount(lease.account, &lease.members);
    }
    work.effects.push(Effect::Closed(LeaseEnd {
        lease: id,
        job: job_id,
        reason: lease
            .reason
            .filter(|_| outcome != Outcome::Completed && outcome != Outcome::Failed),
        held: lease.held,
        settled: lease.settled,
        metered: lease.meter.as_ref().map(|meter| Box::new(meter.told())),
        unpaid_terms: lease.unpaid_terms,
        noticed: lease.noticed,
    }));
    end_attempt(work, &lease, outcome, until, lost);
    victim_left(work, id);
}

/// Settles the running term, voids the next, and pays the cover for work lost to another job.
fn settle_all(work: &mut Work<'_>, id: LeaseId, until: Time, lost: Span, evicted: bool) {
    let state = &mut *work.state;
    let now = state.now;
    let lease = state.lease(id);
    let (cover, next, account) = (lease.cover, lease.next_hold, lease.account);
    let loss = if evicted { priced_loss(state, lease, until) } else { MicroAtp::ZERO };
    let (job, moved) = (lease.job, lease.reason == Some(EvictionReason::Rebalance));
    if let Some(cover) = cover {
        let most = state.ledger.holds.get(&cover).map_or(MicroAtp::ZERO, |hold| hold.amount);
        let refund = loss.min(most);
        state.ledger.refund(cover, account, refund, now, work.effects);
        let job = state.job_mut(job);
        job.refunded = job.refunded.saturating_add(refund);
    }
    if let Some(next) = next {
        let fee = state.rules.atp.fee;
        state.ledger.settle(next, &[], fee, now, work.effects);
    }
    let lease = state.lease_mut(id);
    (lease.cover, lease.next_hold) = (None, None);
    // What was last heard of before now is all that is known.
    let by = if until < now { Resolution::Expired } else { Resolution::Settled };
    work.settle_term(id, (until, by), lost);
    if moved && !work.state.job(job).cancelled {
        let state = &mut *work.state;
        let refund = state.ledger.compensate((id, account), loss, now, work.effects);
        let job = state.job_mut(job);
        job.refunded = job.refunded.saturating_add(refund);
    }
}

/// Gives what a lease holds on one node back to the node and its pool.
fn return_capacity(work: &mut Work<'_>, id: LeaseId, node: NodeId) {
    let lease = work.state.lease(id);
    assert!(!lease.has_left(node), "lease {id} gives {node} back once");
    let (needs, shape, account) = (lease.needs, lease.shape, lease.account);
    let pool = work.state.shapes[shape].pool;
    let (held, mut at, mut closed) = (needs.bundle(), 0, false);
    while let Some(member) = work.state.lease(id).members.get(at).copied() {
        at += 1;
        if member.node == node {
            let tags = &work.state.shapes[shape].tags;
            let extra = work.state.lease(id).extra.cpu;
            let row = &mut work.state.nodes[node];
            row.give_back(id, (&needs, tags), member.devices);
            closed |= row.spec.dedicated && row.gpus.iter().any(|gpu| !gpu.open);
            row.extra = row.extra.saturating_sub(extra);
            work.state.pools[pool].tags.leave(tags);
            let foreign = row.spec.owner != account;
            work.state.pools[pool].leased.take(&held);
            work.state.ledger.accounts[account].using.take(&held);
            if foreign {
                work.state.pools[pool].give_back(account, &held);
            }
        }
    }
    work.state.changed.note(node);
    if matches!(work.state.rules.scheduling.order, QueueOrder::Drf | QueueOrder::Karma) {
        work.rerank(account);
    }
    // A device that was closed while it worked for a lease is no longer lent, it or another.
    if closed || work.state.nodes[node].lending.withheld != 0 {
        work.check_at(node, work.state.now);
    }
}

/// Decides what becomes of a job whose attempt is over.
fn end_attempt(work: &mut Work<'_>, lease: &Lease, outcome: Outcome, until: Time, lost: Span) {
    let id = lease.job;
    work.note_health(lease, outcome);
    work.note_last_term(lease, until);
    work.note_conduct(lease);
    let requeue = work.state.rules.preemption.requeue;
    let cancelled = work.state.job(id).cancelled;
    let end = match (outcome, lease.reason) {
        (Outcome::Completed, _) => FinalState::Completed,
        (Outcome::Stopped | Outcome::Refused, Some(_)) if cancelled => FinalState::Cancelled,
        (Outcome::Failed, _) | (Outcome::Stopped | Outcome::Refused, None) => FinalState::Failed,
        (Outcome::Stopped | Outcome::Refused, Some(reason)) => {
            let (again, end) = fate(reason, requeue, work.requeues_when_exhausted());
            if again {
                if outcome == Outcome::Stopped {
                    work.note_setback(lease, reason, lost);
                }
                if reason == EvictionReason::PriorityPreemption {
                    work.state.job_mut(id).preempted += 1;
                }
                if reason == EvictionReason::NodeFailure && work.note_lost_with(lease, until) {
                    let job = work.state.job_mut(id);
                    (job.state, job.suspect) = (JobState::Held, true);
                    work.blame_borrower(lease, Fault::LosesNodes);
                } else if work.state.claims.contains_key(&id) {
                    // It moves: its next place is kept for it.
                    work.state.job_mut(id).state = JobState::Nominated;
                } else if !planted(Canary::LoseRequeued) {
                    enqueue(work.state, id);
                }
                work.effects.push(Effect::Requeued { job: id, reason, lost });
                return;
            }
            end
        }
    };
    finish(work, id, end);
}

/// Returns whether an evicted job waits again, and its last state if it does not.
fn fate(reason: EvictionReason, requeue: bool, pause: bool) -> (bool, FinalState) {
    match reason {
        EvictionReason::OwnerReturn
        | EvictionReason::PriorityPreemption
        | EvictionReason::QuotaReclaim => (requeue, FinalState::Preempted),
        EvictionReason::NodeFailure
        | EvictionReason::PermissionLost
        | EvictionReason::GangEnded => (requeue, FinalState::NodeFail),
        // Nothing ran: the job keeps its place.
        EvictionReason::Refused => (true, FinalState::NodeFail),
        // It only goes on elsewhere.
        EvictionReason::Rebalance => (true, FinalState::Preempted),
        EvictionReason::BudgetExhausted => (pause, FinalState::OutOfBudget),
        EvictionReason::TimeLimit => (false, FinalState::Timeout),
        EvictionReason::IdleTimeout => (false, FinalState::Cancelled),
        // A job that was cancelled is told apart before.
        EvictionReason::UserRequest => (true, FinalState::Cancelled),
    }
}

impl Work<'_> {
    /// Notes whether a job that was stopped has kept any of its work. One that has not, and was
    /// stopped because its next term was not paid for, waits before it tries again: for credit,
    /// unless that is there already, so that the price was too high, or more does not help.
    fn note_setback(&mut self, lease: &Lease, reason: EvictionReason, lost: Span) {
        let (now, id) = (self.state.now, lease.job);
        let kept = lost < lease.worked(now);
        let job = self.state.job_mut(id);
        let setback = &mut job.setback;
        if kept || reason == EvictionReason::Rebalance {
            *setback = Setback::default();
        } else if reason == EvictionReason::BudgetExhausted {
            // Credit for all of its limit was asked for already.
            let all = job.limit.is_some_and(|limit| limit <= setback.span);
            let least = setback.span.max(lost);
            setback.span = least.saturating_add(least);
            setback.until = now.after(setback.span);
            let (until, job) = (setback.until, self.state.job(id));
            let needed = credit_to_go_on(self.state, job);
            let short = !all && needed > self.state.ledger.available(job.account);
            let pool = self.state.shapes[lease.shape].pool;
            self.state.job_mut(id).setback.short = short;
            self.retry_later(pool, until);
        }
    }

    /// Counts a lease less on others' nodes, if these are.
    fn uncount(&mut self, account: AccountId, members: &[Member]) {
        let foreign = foreign(self.state, account, members) > 0;
        self.state.ledger.accounts[account].leases -= u32::from(foreign);
    }

    /// Frees the capacity of a lease whose limit is reached on dedicated nodes without grace.
    pub fn free_at_limit(&mut self, id: LeaseId) {
        clear_timers(self.state, id);
        let lease = self.state.lease(id);
        let places: Vec<NodeId> = lease.places().collect();
        let (epoch, priority, account) = (lease.epoch, lease.priority, lease.account);
        let pool = self.state.shapes[lease.shape].pool;
        let members = lease.members.clone();
        self.uncount(account, &members);
        for node in &places {
            return_capacity(self, id, *node);
        }
        self.state.pools[pool].running.leave(priority);
        let lease = self.state.lease_mut(id);
        lease.state = LeaseState::Released;
        self.state.released += 1;
        let lease = self.state.lease_mut(id);
        let (reason, notice) = (EvictionReason::TimeLimit, Span::ZERO);
        lease.reason = Some(reason);
        for node in places {
            self.order(node, Order::Leave { lease: id, epoch, notice, reason });
        }
        victim_left(self, id);
    }
}
