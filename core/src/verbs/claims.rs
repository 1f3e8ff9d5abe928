//! Claims: places, and the credit of a first term, kept for a job until those that make way for it
//! have left.

use super::Work;
use super::waiting::enqueue;
use crate::bundle::Needs;
use crate::charges::over_quota;
use crate::due::Due;
use crate::ids::{JobId, LeaseId};
use crate::jobs::JobState;
use crate::leases::{Claim, Member, Promise};
use crate::preempt::is_free_for;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Tells every claim that a lease has left; a claim that waits for no other is fulfilled.
pub(super) fn victim_left(work: &mut Work<'_>, id: LeaseId) {
    let mut ready: Vec<JobId> = Vec::new();
    for (job, claim) in &mut work.state.claims {
        let waited = claim.victims.remove(&id) || claim.leaving.remove(&id);
        if waited && claim.awaits().next().is_none() {
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
        (victims, leaving): (BTreeSet<LeaseId>, BTreeSet<LeaseId>),
    ) {
        let avoids = self.state.shapes[self.state.job(job).shape].anti_affinity.clone();
        for member in &members {
            let node = &mut self.state.nodes[member.node];
            node.claim(&needs, member.devices);
            node.avoided.enter(&avoids);
            self.state.changed.note(member.node);
            self.squeeze(member.node);
        }
        let ends = self.state.now.after(self.state.rules.preemption.hold);
        let claim = Claim { needs, members, victims, leaving, ends, promise };
        self.state.claims.insert(job, claim);
        self.state.timers.set(ends, Due::ClaimEnd(job));
    }

    /// Gives up a claim and the credit set aside for it; its job is then nowhere until the caller
    /// says where.
    pub fn drop_claim(&mut self, job: JobId) -> Option<Claim> {
        let claim = self.state.claims.remove(&job)?;
        self.state.timers.clear(claim.ends, Due::ClaimEnd(job));
        let avoids = self.state.shapes[self.state.job(job).shape].anti_affinity.clone();
        for member in &claim.members {
            let node = &mut self.state.nodes[member.node];
            node.unclaim(&claim.needs, member.devices);
            node.avoided.leave(&avoids);
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

    /// Ends a claim whose victims did not leave in time: its job has its places if those are free
    /// all the same, else it waits in the queue again and tells nobody to leave for a while.
    pub fn claim_ended(&mut self, job: JobId) {
        if self.state.job(job).state == JobState::Nominated {
            self.fulfil_claim(job);
        } else {
            self.give_up_claim(job);
        }
    }

    /// Gives a nominated job the places that are kept for it, or puts it back into the queue.
    pub fn fulfil_claim(&mut self, id: JobId) {
        let Some(claim) = self.drop_claim(id) else { return };
        enqueue(self.state, id);
        let (state, now) = (&*self.state, self.state.now);
        let job = state.job(id);
        let early = claim.awaits().next().is_some();
        let fits = claim.members.iter().all(|member| {
            let here = claim.members.iter().filter(|other| other.node == member.node).count();
            is_free_for(state, job, member, (count(here), early))
        });
        let fits = fits && over_quota(state, &state.shapes[job.shape]).is_none();
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
