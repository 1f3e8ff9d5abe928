//! Granting: a waiting job becomes a lease.

use super::Work;
use super::submit::{dequeue, enqueue};
use crate::charges::{over_quota, term, term_cost};
use crate::due::Due;
use crate::effect::{Effect, OfferFate};
use crate::ids::{JobId, LeaseId, NodeId};
use crate::jobs::{Job, JobState};
use crate::leases::{Lease, LeaseState, Member};
use crate::ledger::Hold;
use crate::state::{State, mix};
use crate::tariff::dominant;
use crate::units::{MicroAtp, Time};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Why a job was not granted although its turn came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too little is free, for this and every other job of its shape.
    Room,
    /// Its account, its budget or its pool's quota does not allow it.
    Account,
}

impl Work<'_> {
    /// Grants a lease to a waiting job. The index must be up to date for its shape.
    ///
    /// # Errors
    /// Why not.
    pub fn try_grant(&mut self, id: JobId) -> Result<(), Refusal> {
        let job = self.state.job(id);
        let shape = &self.state.shapes[job.shape];
        if over_quota(self.state, shape).is_some() {
            return Err(Refusal::Account);
        }
        let members = if shape.members == 1 {
            self.choose_one(id).into_iter().collect()
        } else {
            self.choose_gang(id)
        };
        if members.is_empty() {
            return Err(Refusal::Room);
        }
        self.grant_on(id, members)
    }

    /// Chooses the place of a job of one member.
    fn choose_one(&mut self, id: JobId) -> Option<Member> {
        let job = self.state.job(id);
        let draw = mix(self.state.rules.scheduling.seed, self.state.draws);
        let node = self.index.best(job.shape, &BTreeSet::new(), draw)?;
        let shape = &self.state.shapes[job.shape];
        let devices = self.index.scorer().devices(&self.state.nodes[node], node, shape, draw);
        if self.index.scorer().is_random() {
            self.state.draws += 1;
        }
        Some(Member { node, devices })
    }

    /// Chooses the places of all members of a gang, or none. Each member is claimed while the next
    /// is chosen, so that members can share a node.
    fn choose_gang(&mut self, id: JobId) -> Vec<Member> {
        let job = self.state.job(id);
        let (shape_id, account) = (job.shape, job.account);
        let shape = self.state.shapes[shape_id].clone();
        let mut chosen: Vec<Member> = Vec::new();
        let mut taken: BTreeSet<NodeId> = BTreeSet::new();
        for i in 0..shape.members {
            let draw = mix(self.state.rules.scheduling.seed ^ u64::from(i), self.state.draws);
            let Some(node) = self.index.best(shape_id, &taken, draw) else { break };
            let devices = self.index.scorer().devices(&self.state.nodes[node], node, &shape, draw);
            self.state.nodes[node].claim(&shape.needs, devices);
            self.state.changed.note(node);
            chosen.push(Member { node, devices });
            if shape.spread {
                taken.insert(node);
            }
            self.index.read_changes(self.state);
            self.index.refresh(self.state, shape_id);
        }
        for member in &chosen {
            self.state.nodes[member.node].unclaim(&shape.needs, member.devices);
            self.state.changed.note(member.node);
        }
        self.index.read_changes(self.state);
        if chosen.len() < usize::from(shape.members) {
            self.index.refresh(self.state, shape_id);
            return Vec::new();
        }
        assert!(self.state.ledger.accounts.find(account).is_some(), "a job's account exists");
        if self.index.scorer().is_random() {
            self.state.draws += 1;
        }
        chosen
    }

    /// Grants a lease on these places to a job that waits in the queue.
    ///
    /// # Errors
    /// When the account or the job's own budget cannot pay the first term.
    pub fn grant_on(&mut self, id: JobId, members: Vec<Member>) -> Result<(), Refusal> {
        let state = &mut *self.state;
        let (now, lease_id) = (state.now, state.next.lease);
        let job = state.job(id);
        let shape = &state.shapes[job.shape];
        let span = term(state, job.limit);
        let amount = term_cost(state, job, shape, &members, span);
        if job.budget.is_some_and(|budget| job.charged.saturating_add(amount) > budget) {
            return Err(Refusal::Account);
        }
        let account = job.account;
        let hold = if amount.is_zero() {
            None
        } else {
            let hold = Hold { account, amount, lease: lease_id };
            let held = state.ledger.hold(hold, now, self.effects);
            Some(held.map_err(|_| Refusal::Account)?)
        };
        // Nothing below can be refused.
        dequeue(state, id);
        let mut lease = new_lease(state, id, members);
        lease.hold = hold;
        lease.held = amount;
        for member in &lease.members {
            let node = &mut state.nodes[member.node];
            node.take(lease_id, &lease.needs, member.devices);
            state.changed.note(member.node);
            if let Some(offer) = &mut node.offer
                && !offer.leased
            {
                offer.leased = true;
                state.fates.count(OfferFate::Leased);
                let (offer, node) = (offer.id, member.node);
                self.effects.push(Effect::Offer { offer, node, fate: OfferFate::Leased });
            }
        }
        let pool = state.shapes[lease.shape].pool;
        let total = state.shapes[lease.shape].total();
        state.pools[pool].leased.add(&total);
        state.pools[pool].running.enter(lease.priority);
        state.next.lease = lease_id.next();
        let job = state.job_mut(id);
        job.state = JobState::Running(lease_id);
        job.epoch = lease.epoch;
        self.effects.push(Effect::Start { lease: lease_id, epoch: lease.epoch, job: id });
        state.leases.insert(lease_id, lease);
        set_timers(state, lease_id);
        self.book_term(lease_id);
        Ok(())
    }

    /// Gives a nominated job the capacity its victims have left, or puts it back into the queue.
    pub fn fulfil_claim(&mut self, id: JobId) {
        let Some(claim) = self.drop_claim(id) else { return };
        enqueue(self.state, id);
        let now = self.state.now;
        let mut fits = true;
        for member in &claim.members {
            let node = &self.state.nodes[member.node];
            let whole = (0..node.gpus.len())
                .filter(|i| member.devices & 1 << i != 0)
                .all(|i| node.gpu_fits(i, claim.needs.gpus));
            fits &= node.takes_work(now)
                && whole
                && claim.needs.bundle().fits_in(&node.free())
                && over_quota(self.state, &self.state.shapes[self.state.job(id).shape]).is_none();
        }
        if fits && self.grant_on(id, claim.members).is_ok() {
            return;
        }
        let hold = self.state.rules.preemption.hold;
        self.state.job_mut(id).preempt_after = now.after(hold);
    }
}

/// Describes the lease of a job that starts now.
fn new_lease(state: &State, id: JobId, members: Vec<Member>) -> Lease {
    let job: &Job = state.job(id);
    let shape = &state.shapes[job.shape];
    let now = state.now;
    let limit_at = job.limit.map(|limit| now.after(limit));
    let term_ends = if state.runs_in_terms() {
        now.after(term(state, job.limit))
    } else {
        limit_at.unwrap_or(Time::MAX)
    };
    let capacity = &state.pools[shape.pool].capacity;
    let share = dominant(&shape.total(), capacity, state.rules.fair_share.weights);
    Lease {
        id: state.next.lease,
        job: id,
        account: job.account,
        epoch: job.epoch.next(),
        needs: shape.needs,
        shape: job.shape,
        priority: job.priority,
        members,
        state: LeaseState::Active,
        granted: now,
        limit_at,
        term_began: now,
        term_ends,
        hold: None,
        next_hold: None,
        rates: state.rules.atp.rates,
        share,
        booked: 0,
        reason: None,
        blame: None,
        lost: BTreeSet::new(),
        noticed: None,
        kill_at: None,
        cover: None,
        held: MicroAtp::ZERO,
        settled: MicroAtp::ZERO,
    }
}

/// Sets the timers of a lease's running term.
pub fn set_timers(state: &mut State, id: LeaseId) {
    let lease = state.lease(id);
    let (limit, began, ends) = (lease.limit_at, lease.term_began, lease.term_ends);
    if let Some(limit) = limit {
        state.timers.set(limit, Due::Limit(id));
    }
    if ends < limit.unwrap_or(Time::MAX) {
        let half = began.after(crate::units::Span::new(ends.since(began).get() / 2));
        state.timers.set(half, Due::Renew(id));
        state.timers.set(ends, Due::TermEnd(id));
    }
}

/// Takes back the timers of a lease's running term.
pub fn clear_timers(state: &mut State, id: LeaseId) {
    let lease = state.lease(id);
    let (limit, began, ends, kill) =
        (lease.limit_at, lease.term_began, lease.term_ends, lease.kill_at);
    if let Some(limit) = limit {
        state.timers.clear(limit, Due::Limit(id));
    }
    let half = began.after(crate::units::Span::new(ends.since(began).get() / 2));
    state.timers.clear(half, Due::Renew(id));
    state.timers.clear(ends, Due::TermEnd(id));
    if let Some(kill) = kill {
        state.timers.clear(kill, Due::Kill(id));
    }
}
