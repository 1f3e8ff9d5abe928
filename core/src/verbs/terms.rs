//! Terms: renewal, settlement, limits, and the use that ranks accounts.

use super::Work;
use super::grant::{clear_timers, set_timers};
use super::release::begin_release;
use crate::charges::{payments, term, term_cost};
use crate::config::Exhaustion;
use crate::due::Due;
use crate::effect::EvictionReason;
use crate::ids::LeaseId;
use crate::leases::LeaseState;
use crate::ledger::Hold;
use crate::units::{MicroAtp, Span, Time};

impl Work<'_> {
    /// Sets the next term's credit aside, from half of the running term on.
    pub fn renew(&mut self, id: LeaseId) {
        let Some(lease) = self.state.leases.get(&id) else { return };
        if lease.state != LeaseState::Active || lease.next_hold.is_some() {
            return;
        }
        let job = self.state.job(lease.job);
        let left = lease.limit_at.map(|limit| limit.since(lease.term_ends));
        let span = term(self.state, left);
        let shape = &self.state.shapes[lease.shape];
        let amount = term_cost(self.state, job, shape, &lease.members, span);
        if amount.is_zero() {
            return;
        }
        // What the job has cost when this term ends, and the next.
        let committed = job.charged.saturating_add(amount).saturating_add(
            lease.hold.and_then(|h| self.state.ledger.holds.get(&h)).map_or(MicroAtp::ZERO, |h| h.amount),
        );
        if job.budget.is_some_and(|budget| committed > budget) {
            return;
        }
        let hold = Hold { account: lease.account, amount, lease: id };
        if let Ok(hold) = self.state.ledger.hold(hold, self.state.now, self.effects) {
            let lease = self.state.lease_mut(id);
            lease.next_hold = Some(hold);
            lease.held = lease.held.saturating_add(amount);
        }
    }

    /// Settles the term that ends and begins the next, or ends the lease when it is not paid for.
    pub fn end_term(&mut self, id: LeaseId) {
        let Some(lease) = self.state.leases.get(&id) else { return };
        if lease.state != LeaseState::Active {
            return;
        }
        if lease.next_hold.is_none() {
            self.renew(id);
        }
        let lease = self.state.lease(id);
        let job = self.state.job(lease.job);
        let left = lease.limit_at.map(|limit| limit.since(lease.term_ends));
        let span = term(self.state, left);
        let shape = &self.state.shapes[lease.shape];
        let due = term_cost(self.state, job, shape, &lease.members, span);
        if lease.next_hold.is_none() && !due.is_zero() {
            let grace = self.state.rules.preemption.grace;
            begin_release(self, id, EvictionReason::BudgetExhausted, grace);
            return;
        }
        let ends = lease.term_ends;
        self.settle_term(id, ends, Span::ZERO);
        clear_timers(self.state, id);
        let lease = self.state.lease_mut(id);
        lease.hold = lease.next_hold.take();
        lease.term_began = ends;
        lease.term_ends = ends.after(span);
        set_timers(self.state, id);
        self.book_term(id);
    }

    /// Pays the lenders for the running term until `until`, refunding `lost` work where a node is to
    /// blame, and restores the rest. A term is settled once.
    pub fn settle_term(&mut self, id: LeaseId, until: Time, lost: Span) {
        let lease = self.state.lease(id);
        let Some(hold) = lease.hold else { return };
        let payments = payments(self.state, lease, until, lost);
        let (fee, now, job) = (self.state.rules.atp.fee, self.state.now, lease.job);
        let refund = payments.iter().fold(MicroAtp::ZERO, |sum, p| sum.saturating_add(p.refund));
        let paid = self.state.ledger.settle(hold, &payments, fee, now, self.effects);
        let lease = self.state.lease_mut(id);
        lease.hold = None;
        lease.settled = lease.settled.saturating_add(paid);
        let job = self.state.job_mut(job);
        job.charged = job.charged.saturating_add(paid).saturating_add(refund);
        job.refunded = job.refunded.saturating_add(refund);
    }

    /// Books the running term's use on the account and ranks its lines anew.
    pub fn book_term(&mut self, id: LeaseId) {
        if !self.state.runs_in_terms() {
            return;
        }
        let lease = self.state.lease(id);
        let span = lease.term_ends.since(lease.term_began);
        self.book(id, span, true);
    }

    /// Takes back the part of the running term's use that lies after `until`.
    pub fn unbook_term(&mut self, id: LeaseId, until: Time) {
        if !self.state.runs_in_terms() {
            return;
        }
        let unused = self.state.lease(id).term_ends.since(until);
        self.book(id, unused, false);
    }

    /// Books use, or takes it back, at the value of the running term's beginning.
    fn book(&mut self, id: LeaseId, span: Span, add: bool) {
        let half_life = self.state.rules.fair_share.half_life;
        let halvings = self.state.inflation.renormalise(self.state.now, half_life);
        if halvings > 0 {
            self.halve_all(halvings);
        }
        let lease = self.state.lease(id);
        let account = lease.account;
        let weight = self.state.account(account).spec.weight;
        let (share, at) = (lease.share, lease.term_began);
        let amount = self.state.inflation.inflated(share, span, at, half_life, weight);
        let usage = &mut self.state.ledger.accounts[account].usage;
        if add {
            usage.book(amount);
        } else {
            usage.unbook(amount);
        }
        let usage = self.state.rank_usage(account);
        self.state.queue.rerank(account, usage);
    }

    /// Brings the common factor of all use back to one.
    fn halve_all(&mut self, halvings: u32) {
        for account in self.state.ledger.accounts.ids() {
            self.state.ledger.accounts[account].usage.halve(halvings);
            let usage = self.state.rank_usage(account);
            self.state.queue.rerank(account, usage);
        }
    }

    /// Ends a lease whose job has reached its limit.
    pub fn limit_reached(&mut self, id: LeaseId) {
        let Some(lease) = self.state.leases.get(&id) else { return };
        if lease.state != LeaseState::Active {
            return;
        }
        let dedicated = lease.members.iter().all(|m| self.state.nodes[m.node].spec.dedicated);
        let grace = self.state.rules.preemption.grace;
        let at_once = dedicated && grace.is_zero() && self.state.rules.offering.kill.is_zero();
        if at_once {
            self.free_at_limit(id);
        } else {
            begin_release(self, id, EvictionReason::TimeLimit, grace);
        }
    }

    /// Tells a lease's driver that its notice is over.
    pub fn kill(&mut self, id: LeaseId) {
        let Some(lease) = self.state.leases.get(&id) else { return };
        if lease.state == LeaseState::Releasing {
            let epoch = lease.epoch;
            self.effects.push(crate::effect::Effect::Kill { lease: id, epoch });
        }
    }

    /// Returns what a lapse of credit does to a job.
    #[must_use]
    pub fn requeues_when_exhausted(&self) -> bool {
        self.state.rules.atp.on_exhaustion == Exhaustion::Pause
    }

    /// Sets the timer of the next try to preempt.
    pub fn retry_later(&mut self, pool: crate::ids::PoolId, at: Time) {
        self.state.timers.set(at, Due::Retry(pool));
    }
}
