//! Releasing: a lease is told to leave, ends, and its capacity, money and job go their ways.

use super::Work;
use super::grant::clear_timers;
use super::submit::{enqueue, finish};
use crate::charges::priced_loss;
use crate::command::Outcome;
use crate::due::Due;
use crate::effect::{Effect, EvictionReason, FinalState, LeaseEnd};
use crate::ids::{JobId, LeaseId};
use crate::leases::{Claim, Lease, LeaseState};
use crate::units::{MicroAtp, Span, Time};
use alloc::vec::Vec;

/// Tells a running lease to leave within `notice`, after which it is killed.
pub fn begin_release(work: &mut Work<'_>, id: LeaseId, reason: EvictionReason, notice: Span) {
    let now = work.state.now;
    if work.state.lease(id).state != LeaseState::Active {
        return;
    }
    clear_timers(work.state, id);
    let lease = work.state.lease_mut(id);
    lease.state = LeaseState::Releasing;
    lease.reason = Some(reason);
    lease.noticed = Some(now);
    let (epoch, kill_at) = (lease.epoch, now.after(notice));
    lease.kill_at = Some(kill_at);
    if notice.is_zero() {
        work.effects.push(Effect::Kill { lease: id, epoch });
    } else {
        work.state.timers.set(kill_at, Due::Kill(id));
        work.effects.push(Effect::Notice { lease: id, epoch, kill_at, reason });
    }
}

/// Closes a lease whose processes are gone: settles its term, frees its capacity, and decides what
/// becomes of its job.
pub fn close(work: &mut Work<'_>, id: LeaseId, outcome: Outcome) {
    let now = work.state.now;
    close_until(work, id, outcome, now);
}

/// Closes a lease that was last known to live at `until`.
///
/// # Panics
/// When the lease is not open: our bug.
pub fn close_until(work: &mut Work<'_>, id: LeaseId, outcome: Outcome, until: Time) {
    let lease = work.state.lease(id);
    let job_id = lease.job;
    let evicted = outcome == Outcome::Stopped && lease.reason.is_some();
    let lost = if evicted {
        work.state.job(job_id).lost_after(lease.ran(work.state.now))
    } else {
        Span::ZERO
    };
    // What is refunded was charged: work after the last sign of life was not.
    let charged = lost.saturating_sub(work.state.now.since(until));
    settle_all(work, id, until, charged, evicted);
    work.unbook_term(id, until);
    clear_timers(work.state, id);
    if work.state.lease(id).state != LeaseState::Released {
        return_capacity(work, id);
    }
    let lease = work.state.leases.remove(&id);
    assert!(lease.is_some(), "lease {id} closes once");
    let Some(lease) = lease else { return };
    work.effects.push(Effect::Closed(LeaseEnd {
        lease: id,
        job: job_id,
        reason: lease.reason.filter(|_| evicted),
        held: lease.held,
        settled: lease.settled,
        noticed: lease.noticed,
    }));
    end_attempt(work, &lease, outcome, lost);
    victim_left(work, id);
}

/// Settles the running term, voids the next, and pays the cover for work lost to a higher class.
fn settle_all(work: &mut Work<'_>, id: LeaseId, until: Time, lost: Span, evicted: bool) {
    let state = &mut *work.state;
    let now = state.now;
    let lease = state.lease(id);
    let (cover, next, account) = (lease.cover, lease.next_hold, lease.account);
    let loss = if evicted { priced_loss(state, lease, until) } else { MicroAtp::ZERO };
    let job = lease.job;
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
    work.settle_term(id, until, lost);
}

/// Gives a lease's capacity back to its nodes and its pool.
pub fn return_capacity(work: &mut Work<'_>, id: LeaseId) {
    let lease = work.state.lease_mut(id);
    let (needs, shape, priority) = (lease.needs, lease.shape, lease.priority);
    // Lent out for the walk and put back below: a copy per end would be an allocation per end.
    let members = core::mem::take(&mut lease.members);
    for member in &members {
        work.state.nodes[member.node].give_back(id, &needs, member.devices);
        work.state.changed.note(member.node);
    }
    let shape = &work.state.shapes[shape];
    let (pool, total) = (shape.pool, shape.total());
    work.state.pools[pool].leased.take(&total);
    work.state.pools[pool].running.leave(priority);
    for member in &members {
        work.settle_reclaim(member.node);
    }
    work.state.lease_mut(id).members = members;
}

/// Decides what becomes of a job whose attempt is over.
fn end_attempt(work: &mut Work<'_>, lease: &Lease, outcome: Outcome, lost: Span) {
    let id = lease.job;
    let requeue = work.state.rules.preemption.requeue;
    let cancelled = work.state.job(id).cancelled;
    let end = match (outcome, lease.reason) {
        (Outcome::Completed, _) => FinalState::Completed,
        (Outcome::Stopped, Some(_)) if cancelled => FinalState::Cancelled,
        (Outcome::Failed, _) | (Outcome::Stopped, None) => FinalState::Failed,
        (Outcome::Stopped, Some(reason)) => {
            let (again, end) = fate(reason, requeue, work.requeues_when_exhausted());
            if again {
                enqueue(work.state, id);
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
        EvictionReason::OwnerReturn | EvictionReason::PriorityPreemption => {
            (requeue, FinalState::Preempted)
        }
        EvictionReason::NodeFailure => (requeue, FinalState::NodeFail),
        EvictionReason::BudgetExhausted => (pause, FinalState::OutOfBudget),
        EvictionReason::TimeLimit => (false, FinalState::Timeout),
        EvictionReason::UserRequest => (false, FinalState::Cancelled),
    }
}

/// Tells every claim that a lease has left; a claim whose victims are all gone is fulfilled.
fn victim_left(work: &mut Work<'_>, id: LeaseId) {
    let mut ready: Vec<JobId> = Vec::new();
    for (job, claim) in &mut work.state.claims {
        if claim.victims.remove(&id) && claim.victims.is_empty() {
            ready.push(*job);
        }
    }
    for job in ready {
        work.fulfil_claim(job);
    }
}

impl Work<'_> {
    /// Frees the capacity of a lease whose limit is reached on dedicated nodes without grace.
    pub fn free_at_limit(&mut self, id: LeaseId) {
        clear_timers(self.state, id);
        return_capacity(self, id);
        let lease = self.state.lease_mut(id);
        lease.state = LeaseState::Released;
        lease.reason = Some(EvictionReason::TimeLimit);
        let epoch = lease.epoch;
        self.effects.push(Effect::Kill { lease: id, epoch });
        victim_left(self, id);
    }

    /// Gives up a claim; its job is then nowhere until the caller says where.
    pub fn drop_claim(&mut self, job: JobId) -> Option<Claim> {
        let claim = self.state.claims.remove(&job)?;
        self.state.timers.clear(claim.ends, Due::ClaimEnd(job));
        for member in &claim.members {
            self.state.nodes[member.node].unclaim(&claim.needs, member.devices);
            self.state.changed.note(member.node);
        }
        Some(claim)
    }

    /// Puts a job whose victims did not leave in time back into the queue.
    pub fn claim_ended(&mut self, job: JobId) {
        let hold = self.state.rules.preemption.hold;
        if self.drop_claim(job).is_some() {
            enqueue(self.state, job);
            let again = self.state.now.after(hold);
            self.state.job_mut(job).preempt_after = again;
        }
    }
}
