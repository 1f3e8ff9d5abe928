//! Terms: renewal, settlement, limits, and the use that ranks accounts.

use super::Work;
use super::grant::set_timer;
use super::release::begin_release;
use crate::charges::{is_too_dear, metered, payments, prices, term, term_cost};
use crate::config::{Backfill, Exhaustion};
use crate::due::Due;
use crate::effect::EvictionReason;
use crate::ids::{AccountId, LeaseId, NodeId};
use crate::leases::LeaseState;
use crate::ledger::{Hold, Settled};
use crate::meter::Resolution;
use crate::price::Prices;
use crate::units::{MicroAtp, MilliCores, Priority, Span, Time};
use crate::usage::Usage;
use alloc::vec::Vec;

impl Work<'_> {
    /// Renews a lease from half of its term on, and waits for the term's end.
    pub fn half_term(&mut self, id: LeaseId) {
        let Some(lease) = self.state.leases.get(&id) else { return };
        if lease.state == LeaseState::Active && lease.half_term() <= self.state.now {
            self.state.timers.set(lease.term_ends, Due::TermEnd(id));
            if self.is_heard(id) {
                self.renew(id);
                self.permit_unpaid(id);
            }
        }
    }

    /// Sets the next term's credit aside at the prices of now and lets the nodes know that the
    /// lease goes on, unless they are above what its job pays.
    fn renew(&mut self, id: LeaseId) {
        let Some(lease) = self.state.leases.get(&id) else { return };
        if lease.state != LeaseState::Active || lease.next_span.is_some() {
            return;
        }
        if self.lock_prices(id) {
            self.set_term_aside(id);
        }
    }

    /// Fixes the prices of a lease's next term; returns whether its job pays them.
    fn lock_prices(&mut self, id: LeaseId) -> bool {
        if self.is_too_dear(id) {
            return false;
        }
        let prices = *prices(self.state, &self.state.shapes[self.state.lease(id).shape]);
        self.state.lease_mut(id).next_prices = prices;
        true
    }

    /// Returns whether a lease's next term would cost more than its job pays.
    fn is_too_dear(&self, id: LeaseId) -> bool {
        let lease = self.state.lease(id);
        is_too_dear(self.state, self.state.job(lease.job), &lease.members)
    }

    /// Sets the credit of a next term aside that is as long as terms are, or as what is left of the
    /// limit. Who cannot pay for what it has beside its needs gives that up.
    fn set_term_aside(&mut self, id: LeaseId) {
        let lease = self.state.lease(id);
        let left = lease.limit_at.map(|limit| limit.since(lease.term_ends));
        let span = term(self.state, left);
        let standing = self.next_standing(id, span);
        self.set_aside(id, span, standing);
        let lease = self.state.lease(id);
        let prices = lease.next_prices;
        if lease.next_span.is_some() || lease.extra.cpu.is_zero() {
            return;
        }
        let least = (id, MilliCores::ZERO);
        let (amount, affords) = self.next_cost_of(least, (span, &prices), standing);
        if affords && amount <= self.state.ledger.available(self.state.lease(id).account) {
            self.set_extra(id, MilliCores::ZERO);
            self.set_aside(id, span, standing);
            if !self.state.network {
                self.order_to_go_on(id);
            }
        }
    }

    /// Sets the credit of a next term of some length aside, in which its job counts as `standing`,
    /// if it is there: at the prices that were fixed for it.
    pub(super) fn set_aside(&mut self, id: LeaseId, span: Span, standing: Priority) {
        let term = (span, &self.state.lease(id).next_prices);
        let (amount, affords) = self.next_cost(id, term, standing);
        let lease = self.state.lease(id);
        let ends = lease.term_ends;
        if amount.is_zero() {
            let lease = self.state.lease_mut(id);
            (lease.next_span, lease.next_priority) = (Some(span), standing);
            self.book_next_urgent(id);
            self.extend(id, ends.after(span));
            return;
        }
        if !affords {
            return;
        }
        let hold = Hold { account: lease.account, amount, lease: Some(id) };
        if let Ok(hold) = self.state.ledger.hold(hold, self.state.now, self.effects) {
            let lease = self.state.lease_mut(id);
            lease.next_hold = Some(hold);
            (lease.next_span, lease.next_priority) = (Some(span), standing);
            lease.held = lease.held.saturating_add(amount);
            self.book_next_urgent(id);
            self.extend(id, ends.after(span));
        }
    }

    /// Returns what a lease's next term costs at some prices, and whether its job's own budget is
    /// enough for it.
    fn next_cost(
        &self,
        id: LeaseId,
        term: (Span, &Prices),
        standing: Priority,
    ) -> (MicroAtp, bool) {
        self.next_cost_of((id, self.state.lease(id).extra.cpu), term, standing)
    }

    /// As `next_cost`, with so much CPU beside its needs.
    fn next_cost_of(
        &self,
        (id, extra): (LeaseId, MilliCores),
        term: (Span, &Prices),
        standing: Priority,
    ) -> (MicroAtp, bool) {
        let lease = self.state.lease(id);
        let job = self.state.job(lease.job);
        let members = (lease.members.as_slice(), extra, standing.band());
        let amount = term_cost(self.state, job, members, term);
        let hold = lease.hold.and_then(|hold| self.state.ledger.holds.get(&hold));
        // What the job has cost when this term ends, and the next.
        let running = hold.map_or(MicroAtp::ZERO, |hold| hold.amount);
        let committed = job.charged.saturating_add(amount).saturating_add(running);
        (amount, job.budget.is_none_or(|budget| committed <= budget))
    }

    /// Gives back what was set aside for the next term.
    pub(super) fn take_back(&mut self, id: LeaseId) {
        let ends = self.state.lease(id).term_ends;
        self.unbook_urgent(id, ends);
        let lease = self.state.lease_mut(id);
        lease.next_span = None;
        let Some(next) = lease.next_hold.take() else { return };
        let amount = self.state.ledger.holds.get(&next).map_or(MicroAtp::ZERO, |h| h.amount);
        let lease = self.state.lease_mut(id);
        lease.held = lease.held.saturating_sub(amount);
        let (fee, now) = (self.state.rules.atp.fee, self.state.now);
        self.state.ledger.settle(next, &[], fee, now, self.effects);
    }

    /// Lets what runs go on without a coordinator for as long as the rules say, where the credit
    /// for it is there: the next term is that long. The others end when their term does.
    pub fn stopping(&mut self) {
        let until = self.state.now.after(self.state.rules.stop.0);
        let ids: Vec<LeaseId> = self.state.leases.keys().collect();
        for id in ids {
            let lease = self.state.lease(id);
            let wanted = lease.limit_at.map_or(until, |limit| until.min(limit));
            let paid = lease.term_ends.after(lease.next_span.unwrap_or_default());
            if lease.state != LeaseState::Active || wanted <= paid || !self.is_heard(id) {
                continue;
            }
            let span = wanted.since(lease.term_ends);
            // What is set aside for longer keeps the prices at which it was set aside before.
            if lease.next_span.is_none() && !self.lock_prices(id) {
                continue;
            }
            self.take_back(id);
            self.set_aside(id, span, self.next_standing(id, span));
            if self.state.lease(id).next_span.is_none() {
                self.set_term_aside(id);
            }
        }
    }

    /// Returns whether a lease could have been renewed by now but for the credit or the price.
    pub(super) fn is_spent(&self, id: LeaseId) -> bool {
        let lease = self.state.lease(id);
        let due = lease.state == LeaseState::Active && lease.half_term() <= self.state.now;
        let open = due && lease.next_span.is_none() && self.is_heard(id);
        if !open || !self.state.rules.atp.enabled || self.unpaid_span(id).is_some() {
            return false;
        }
        let span = term(self.state, lease.limit_at.map(|limit| limit.since(lease.term_ends)));
        let prices = prices(self.state, &self.state.shapes[lease.shape]);
        let (amount, affords) = self.next_cost(id, (span, prices), self.next_standing(id, span));
        let short = amount > self.state.ledger.available(lease.account);
        !span.is_zero() && (!affords || short || self.is_too_dear(id))
    }

    /// Returns the length of the unpaid term with which a lease may go on: where no credit of its
    /// account is left for the next, and the rules and all the nodes that it is lent allow that.
    fn unpaid_span(&self, id: LeaseId) -> Option<Span> {
        let (lease, rules) = (self.state.lease(id), &self.state.rules);
        // A lease at home makes way for nobody else.
        let lends = |node: NodeId| {
            let spec = &self.state.nodes[node].spec;
            spec.lend_unpaid && spec.owner != lease.account
        };
        let allowed = rules.atp.on_exhaustion == Exhaustion::ContinueLow
            && rules.preemption.enabled
            && lease.members.iter().all(|member| lends(member.node));
        if lease.next_span.is_some() || !allowed || self.is_too_dear(id) {
            return None;
        }
        let span = term(self.state, lease.limit_at.map(|limit| limit.since(lease.term_ends)));
        let term = (span, &lease.next_prices);
        let (_, affords) = self.next_cost(id, term, self.next_standing(id, span));
        affords.then_some(span)
    }

    /// Lets the nodes of a lease that is about to go on unpaid know before their permission ends.
    fn permit_unpaid(&mut self, id: LeaseId) {
        let Some(span) = self.unpaid_span(id) else { return };
        let lease = self.state.lease(id);
        let (ends, permitted) = (lease.term_ends.after(span), lease.permit_until);
        if permitted < ends {
            self.extend(id, ends);
        }
    }

    /// Lets a lease whose next term could not be set aside go on unpaid, where that is allowed;
    /// returns whether it does.
    fn go_on_unpaid(&mut self, id: LeaseId) -> bool {
        let Some(span) = self.unpaid_span(id) else { return false };
        if !self.state.lease(id).extra.cpu.is_zero() {
            self.set_extra(id, MilliCores::ZERO);
            self.order_to_go_on(id);
        }
        let lease = self.state.lease_mut(id);
        (lease.next_span, lease.next_priority) = (Some(span), Priority::NONE);
        let ends = lease.term_ends.after(span);
        self.extend(id, ends);
        // Who waits may have its place.
        self.state.changed.stir();
        true
    }

    /// Settles the term that ends and begins the next, or ends the lease when it is not paid for.
    pub fn end_term(&mut self, id: LeaseId) {
        let Some(lease) = self.state.leases.get(&id) else { return };
        // Rules that changed twice may have left the timer of a term that ended before.
        if lease.state != LeaseState::Active || lease.term_ends > self.state.now {
            return;
        }
        if !self.is_heard(id) {
            // Nothing is decided in the dark: it goes on when its node is heard in time, else it is
            // lost.
            self.await_loss(id);
            return;
        }
        self.renew(id);
        let unpaid = self.go_on_unpaid(id);
        let lease = self.state.lease(id);
        let Some(span) = lease.next_span else {
            let grace = self.state.rules.preemption.grace;
            begin_release(self, id, EvictionReason::BudgetExhausted, grace);
            return;
        };
        let ends = lease.term_ends;
        self.settle_term(id, (ends, Resolution::Settled), Span::ZERO);
        self.note_term(id);
        if self.state.lease(id).ran_in_term(ends) < self.state.lease(id).term_span() {
            self.unbook_term(id, ends);
        }
        self.stand_anew(id, ends);
        if !unpaid {
            self.grow(id);
        }
        let lease = self.state.lease_mut(id);
        lease.unpaid = unpaid;
        lease.unpaid_terms += u32::from(unpaid);
        let rates = self.state.rules.atp.rates;
        let lease = self.state.lease_mut(id);
        (lease.rested, lease.next_span) = (Span::ZERO, None);
        lease.hold = lease.next_hold.take();
        (lease.rates, lease.prices) = (rates, lease.next_prices);
        lease.extra.begin_term();
        lease.term_began = ends;
        lease.term_ends = ends.after(span);
        set_timer(self.state, id);
        self.book_term(id);
    }

    /// Pays the lenders for the running term until a time, learned in some way, refunding `lost`
    /// work where a node is to blame, and restores the rest. A term is settled once.
    pub fn settle_term(&mut self, id: LeaseId, known: (Time, Resolution), lost: Span) {
        let lease = self.state.lease(id);
        let Some(hold) = lease.hold else { return };
        let payments = payments(self.state, lease, known.0, lost);
        let (fee, now, job) = (self.state.rules.atp.fee, self.state.now, lease.job);
        let refund = payments.iter().fold(MicroAtp::ZERO, |sum, p| sum.saturating_add(p.refund));
        let Settled { paid, fees } =
            self.state.ledger.settle(hold, &payments, fee, now, self.effects);
        let lease = self.state.lease_mut(id);
        lease.hold = None;
        if let Some(one) = payments.first().filter(|one| !one.amount.is_zero()) {
            let nodes = u32::try_from(payments.len()).unwrap_or(u32::MAX);
            let record = metered(lease, known, (nodes, one.amount), (refund, fees));
            lease.meter.get_or_insert_default().note(record);
        }
        lease.settled = lease.settled.saturating_add(paid);
        let job = self.state.job_mut(job);
        job.charged = job.charged.saturating_add(paid).saturating_add(refund);
        job.refunded = job.refunded.saturating_add(refund);
    }

    /// Books the running term's use on the account and ranks its lines anew.
    pub fn book_term(&mut self, id: LeaseId) {
        let account = self.state.lease(id).account;
        if !self.state.runs_in_terms() {
            self.state.lease_mut(id).booked = 0;
            self.rerank(account);
            return;
        }
        self.renormalise();
        let half_life = self.state.rules.fair_share.half_life;
        let lease = self.state.lease(id);
        let (span, at) = (lease.term_ends.since(lease.term_began), lease.term_began);
        let weight = self.state.account(account).spec.weight;
        let amount = self.state.inflation.inflated(lease.share, span, at, half_life, weight);
        self.state.lease_mut(id).booked = amount;
        self.state.ledger.accounts[account].usage.book(amount);
        self.rerank(account);
    }

    /// Takes back the part of the running term's use that lies after `until`.
    pub fn unbook_term(&mut self, id: LeaseId, until: Time) {
        self.renormalise();
        let lease = self.state.lease_mut(id);
        let booked = core::mem::take(&mut lease.booked);
        let account = lease.account;
        if booked > 0 {
            let term = u128::from(lease.term_ends.since(lease.term_began).get());
            let unused = term.saturating_sub(u128::from(lease.ran_in_term(until).get()));
            // Whole and rest of the division apart: a long term times a large booking fits no
            // number.
            let (whole, rest) = (booked.checked_div(term), booked.checked_rem(term));
            let amount = whole.unwrap_or(0) * unused + rest.unwrap_or(0) * unused / term.max(1);
            self.state.ledger.accounts[account].usage.unbook(amount);
        }
        self.rerank(account);
    }

    /// Ranks an account's lines by its present use.
    pub fn rerank(&mut self, account: AccountId) {
        if !self.state.rules.scheduling.order.follows_use() {
            return;
        }
        let usage = self.state.usage_of(account);
        let other_first = self.state.queue.rerank(account, usage);
        // Where places are kept, the order of all decides whose.
        let keeps = self.state.rules.scheduling.backfill != Backfill::Greedy;
        if other_first || keeps {
            self.state.changed.stir();
        }
    }

    /// Brings all use to what it counts now, before it decays by other rules.
    pub fn decay_use(&mut self) {
        let (now, half_life) = (self.state.now, self.state.rules.fair_share.half_life);
        let inflation = self.state.inflation;
        for account in self.state.ledger.accounts.ids() {
            let usage = &mut self.state.ledger.accounts[account].usage;
            usage.decay(inflation.decayed(*usage, now, half_life));
        }
        for lease in self.state.leases.values_mut() {
            let mut booked = Usage::default();
            booked.book(lease.booked);
            lease.booked = inflation.decayed(booked, now, half_life);
        }
        self.state.inflation.restart(now);
    }

    /// Brings the common factor of all use back to one when it has grown large.
    fn renormalise(&mut self) {
        let half_life = self.state.rules.fair_share.half_life;
        let halvings = self.state.inflation.renormalise(self.state.now, half_life);
        if halvings == 0 {
            return;
        }
        for account in self.state.ledger.accounts.ids() {
            self.state.ledger.accounts[account].usage.halve(halvings);
            self.rerank(account);
        }
        for lease in self.state.leases.values_mut() {
            lease.booked = lease.booked.checked_shr(halvings).unwrap_or(0);
        }
    }

    /// Lets running leases follow other rules: what was set aside for next terms at the old price
    /// and length is given back and set aside anew, and leases that did not run in terms begin one.
    pub fn adopt_rules(&mut self, ran_in_terms: bool) {
        let now = self.state.now;
        let ids: Vec<LeaseId> = self.state.leases.keys().collect();
        for id in ids {
            let lease = self.state.lease(id);
            if lease.state != LeaseState::Active {
                continue;
            }
            if lease.next_span.is_some() {
                self.state.timers.set(now, Due::Renew(id));
            }
            self.take_back(id);
            let lease = self.state.lease(id);
            let in_term = lease.hold.is_some() || lease.booked > 0;
            if !ran_in_terms && !in_term && self.state.runs_in_terms() {
                let lease = self.state.lease_mut(id);
                (lease.term_began, lease.term_ends) = (now, now);
                self.state.timers.set(now, Due::TermEnd(id));
            }
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
        let at_once = !self.state.network
            && dedicated
            && grace.is_zero()
            && self.state.rules.offering.kill.is_zero();
        if at_once {
            self.free_at_limit(id);
        } else {
            begin_release(self, id, EvictionReason::TimeLimit, grace);
        }
    }

    /// Returns what a lapse of credit does to a job.
    #[must_use]
    pub fn requeues_when_exhausted(&self) -> bool {
        self.state.rules.atp.on_exhaustion != Exhaustion::Kill
    }

    /// Sets the timer of the next try to preempt.
    pub fn retry_later(&mut self, pool: crate::ids::PoolId, at: Time) {
        self.state.timers.set(at, Due::Retry(pool));
    }
}
