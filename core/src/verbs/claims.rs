//! Claims: places, and the credit of a first term, kept for a job until those that make way for it
//! have left.

use super::Work;
use super::waiting::enqueue;
use crate::bundle::Needs;
use crate::charges::over_quota;
use crate::confidence::suffices;
use crate::due::Due;
use crate::ids::{JobId, LeaseId};
use crate::jobs::JobState;
use crate::leases::{Claim, Member, Promise};
use crate::placement::bears;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Tells every claim that a lease has left; a claim whose victims are all gone is fulfilled.
pub(super) fn victim_left(work: &mut Work<'_>, id: LeaseId) {
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
    /// Keeps places for a job until those that leave them have left.
    pub fn keep_claim(
        &mut self,
        job: JobId,
        needs: Needs,
        (members, promise): (Vec<Member>, Option<Promise>),
        victims: BTreeSet<LeaseId>,
    ) {
        for member in &members {
            self.state.nodes[member.node].claim(&needs, member.devices);
            self.state.changed.note(member.node);
            self.squeeze(member.node);
        }
        let ends = self.state.now.after(self.state.rules.preemption.hold);
        self.state.claims.insert(job, Claim { needs, members, victims, ends, promise });
        self.state.timers.set(ends, Due::ClaimEnd(job));
    }

    /// Gives up a claim and the credit set aside for it; its job is then nowhere until the caller
    /// says where.
    pub fn drop_claim(&mut self, job: JobId) -> Option<Claim> {
        let claim = self.state.claims.remove(&job)?;
        self.state.timers.clear(claim.ends, Due::ClaimEnd(job));
        for member in &claim.members {
            self.state.nodes[member.node].unclaim(&claim.needs, member.devices);
            self.state.changed.note(member.node);
        }
        if let Some(hold) = claim.promise.as_ref().and_then(|promise| promise.hold) {
            let (fee, now) = (self.state.rules.atp.fee, self.state.now);
            self.state.ledger.settle(hold, &[], fee, now, self.effects);
        }
        Some(claim)
    }

    /// Gives up a claim. A job that waited for it waits in the queue again; one that was to move
    /// still runs where it is, and waits when it has left. Returns whether there was one.
    pub fn give_up_claim(&mut self, job: JobId) -> bool {
        let kept = self.drop_claim(job).is_some();
        if kept && self.state.job(job).state == JobState::Nominated {
            enqueue(self.state, job);
        }
        kept
    }

    /// Puts a job whose victims did not leave in time back into the queue.
    pub fn claim_ended(&mut self, job: JobId) {
        let hold = self.state.rules.preemption.hold;
        if self.give_up_claim(job) {
            let again = self.state.now.after(hold);
            self.state.job_mut(job).preempt_after = again;
        }
    }

    /// Gives a nominated job the capacity its victims have left, or puts it back into the queue.
    pub fn fulfil_claim(&mut self, id: JobId) {
        let Some(claim) = self.drop_claim(id) else { return };
        enqueue(self.state, id);
        let now = self.state.now;
        let mut fits = true;
        let job = self.state.job(id);
        let shape = &self.state.shapes[job.shape];
        for member in &claim.members {
            let node = &self.state.nodes[member.node];
            let whole = (0..node.gpus.len())
                .filter(|i| member.devices & 1 << i != 0)
                .all(|i| node.gpu_fits(i, claim.needs.gpus));
            let here = claim.members.iter().filter(|other| other.node == member.node).count();
            fits &= node.takes_work(now)
                && bears(self.state, shape, member.node)
                && whole
                && claim.needs.bundle().fits_in(&node.free())
                && suffices(self.state, member.node, (shape, job), count(here))
                && over_quota(self.state, shape).is_none();
        }
        if fits && self.grant_on(id, claim.members, claim.promise.as_ref()).is_ok() {
            return;
        }
        let hold = self.state.rules.preemption.hold;
        self.state.job_mut(id).preempt_after = now.after(hold);
    }
}

/// Returns a length as a count.
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
