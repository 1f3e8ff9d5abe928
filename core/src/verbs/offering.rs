//! Offering: samples, offers and their ends, an owner's return, failures and returns of nodes.

use super::Work;
use super::release::{lose_on, told_to_leave};
use crate::bundle::Bundle;
use crate::canary::{Canary, planted};
use crate::command::Sample;
use crate::config::{Policy, Rules};
use crate::due::Due;
use crate::effect::{Effect, EvictionReason, OfferFate};
use crate::forecast::SLOT;
use crate::ids::{JobId, LeaseId, NodeId};
use crate::leases::LeaseState;
use crate::load::Load;
use crate::nodes::{Gpu, Lendable, Node};
use crate::offers::{Offer, growth};
use crate::units::{MilliGpus, Span, Time};
use crate::wire::{Lending, Order};
use alloc::boxed::Box;
use alloc::vec::Vec;

impl Work<'_> {
    /// Records what the owner of a node uses now, and leases of its GPUs; lowers its offer at once
    /// when less is left over. Of a node without an owner only the leases' use counts.
    pub fn sample(&mut self, id: NodeId, sample: &Sample) {
        let Some(node) = self.state.nodes.find(id).filter(|node| node.up) else {
            self.state.stale_reports += 1;
            return;
        };
        let dedicated = node.spec.dedicated;
        self.note_use(id, sample);
        if dedicated {
            return;
        }
        let (now, rules) = (self.state.now, &self.state.rules);
        let node = &mut self.state.nodes[id];
        let leased = node.leased_share();
        let (gpus, first) = (node.gpus.len(), node.load.is_none());
        if node.load.as_mut().is_some_and(|load| load.note_leased(sample, now)) {
            return;
        }
        let load = node.load.get_or_insert_with(|| Load::new(gpus, now));
        let rises = first || load.may_rise(sample, &rules.balance);
        load.sample(sample, now, leased, &rules.balance);
        node.note_idleness(now, &rules.offering.gates);
        self.watch_pressure(id);
        // An owner who uses no more than before leaves no less to lend: the offer stands.
        if !rises {
            return;
        }
        let rules = &self.state.rules;
        let lendable = self.state.nodes[id].lendable(now, rules);
        self.shrink_offer(id, &lendable);
        if first {
            self.check_at(id, now);
        }
    }

    /// Lowers a node's offer to what it could lend now; one of nothing is taken back with the next
    /// wake.
    fn shrink_offer(&mut self, id: NodeId, lendable: &Lendable) {
        let before = *self.state.nodes[id].offered();
        if !planted(Canary::KeepOffer) && shrink(&mut self.state.nodes[id], lendable) {
            self.count_offer(id, before);
            self.state.changed.note(id);
            self.squeeze_later(id);
            if self.state.nodes[id].offer.as_ref().is_some_and(|offer| offer.total.is_zero()) {
                self.state.timers.set(self.state.now, Due::Withdraw(id));
            }
        }
    }

    /// Counts what a node offers in its pool, where it offered something else before.
    fn count_offer(&mut self, id: NodeId, before: Bundle) {
        let node = &self.state.nodes[id];
        let (pool, offered) = (node.spec.pool, *node.offered());
        let pool = &mut self.state.pools[pool];
        pool.offered.take(&before);
        pool.offered.add(&offered);
    }

    /// Judges all offers by new rules, at once, and lets every node watch its owner by them.
    pub fn adopt_gates(&mut self) {
        let now = self.state.now;
        let watch = self.state.rules.watch();
        for id in self.state.nodes.ids() {
            let rules = &self.state.rules;
            let lendable = self.state.nodes[id].lendable(now, rules);
            self.shrink_offer(id, &lendable);
            let (node, next) = (&self.state.nodes[id], next_look(now, &self.state.rules));
            if node.spec.dedicated {
                // Nothing else would look at it again: in this mode it may lend more.
                self.check_at(id, now);
            } else if node.next_check.is_some_and(|at| at > next) {
                self.check_at(id, next);
            }
            self.order(id, Order::Watch(Box::new(watch.clone())));
        }
        if self.state.network {
            self.recount_waits();
        }
    }

    /// Follows what the owner of a node lets it lend: nothing new starts on less, and what the node
    /// gives up in the leases it decides itself.
    pub fn lend(&mut self, id: NodeId, lending: Lending) {
        if self.state.nodes.find(id).is_none_or(|node| !node.up) {
            self.state.stale_reports += 1;
            return;
        }
        let old = core::mem::replace(&mut self.state.nodes[id].lending, lending);
        if old == lending {
            return;
        }
        self.state.changed.note(id);
        let (now, rules) = (self.state.now, &self.state.rules);
        let lendable = self.state.nodes[id].lendable(now, rules);
        self.shrink_offer(id, &lendable);
        if lending.open {
            self.check_at(id, now);
        } else {
            self.withdraw(id);
        }
    }

    /// Sets when a node's offer is checked next; there is one such timer per node.
    pub fn check_at(&mut self, id: NodeId, at: Time) {
        let now = self.state.now;
        let old = self.state.nodes[id].next_check.replace(at);
        if let Some(old) = old.filter(|old| *old > now) {
            self.state.timers.clear(old, Due::Check(id));
        }
        self.state.timers.set(at, Due::Check(id));
    }

    /// Makes sure that a node's offer ends in time where no check comes before its end.
    pub fn watch_end(&mut self, id: NodeId) {
        let node = &self.state.nodes[id];
        let Some(ends) = node.offer.as_ref().map(|offer| offer.ends) else { return };
        let checked = node.next_check.is_some_and(|at| at > self.state.now && at <= ends);
        if !checked {
            self.state.timers.set(ends, Due::OfferEnd(id));
        }
    }

    /// Checks what a node offers: renews it, lets it grow by a step, or opens a new offer.
    pub fn check_offer(&mut self, id: NodeId) {
        let now = self.state.now;
        let rules = &self.state.rules;
        let node = &mut self.state.nodes[id];
        if !node.up {
            return;
        }
        if node.silent {
            // The offer of a node that is not heard ends by its own expiry, and only falls until
            // then.
            node.next_check = None;
            if rules.balance.policy == Policy::Predictive && node.offer.is_some() {
                let lendable = node.lendable(now, rules);
                let next = next_look(now, rules);
                self.shrink_offer(id, &lendable);
                self.check_at(id, next);
            }
            self.watch_end(id);
            return;
        }
        let leased = node.leased_share();
        let dedicated = node.spec.dedicated;
        if let Some(load) = &mut node.load {
            load.advance(now, leased, &rules.balance);
            load.judge(now, &rules.balance);
        }
        node.note_idleness(now, &rules.offering.gates);
        self.watch_pressure(id);
        let (node, rules) = (&mut self.state.nodes[id], &self.state.rules);
        let lendable = node.lendable(now, rules);
        let before = (node.open_devices(), node.offer.as_ref().map(|offer| offer.total));
        let total = if dedicated { open_all(node, &lendable) } else { grow(node, &lendable) };
        let ends = if dedicated { Time::MAX } else { now.after(rules.offering.offer_expiry) };
        if !dedicated && node.load.is_some() {
            let next = next_look(now, rules);
            self.check_at(id, next);
        }
        if total.is_zero() || lendable.bundle.is_zero() {
            // An offer of nothing is not renewed: it ends by its own expiry.
            self.shrink_offer(id, &lendable);
            self.watch_end(id);
            return;
        }
        self.renew_offer(id, total, ends);
        // Even at an equal total, other devices may be open now.
        let node = &self.state.nodes[id];
        if before != (node.open_devices(), node.offer.as_ref().map(|offer| offer.total)) {
            self.state.changed.note(id);
        }
    }

    /// Renews a node's offer or opens a new one.
    fn renew_offer(&mut self, id: NodeId, total: Bundle, mut ends: Time) {
        let now = self.state.now;
        let node = &mut self.state.nodes[id];
        let before = *node.offered();
        if let Some(offer) = &mut node.offer {
            // A shorter expiry holds for new offers; this one was promised until its end.
            ends = ends.max(offer.ends);
            offer.renew(total, ends);
            self.squeeze_later(id);
        } else {
            let offer = self.state.next.offer;
            self.state.next.offer = offer.next();
            node.offer =
                Some(Offer { id: offer, version: 0, total, opened: now, ends, leased: false });
            self.state.fates.count(OfferFate::Opened);
            self.effects.push(Effect::Offer { offer, node: id, fate: OfferFate::Opened });
        }
        self.count_offer(id, before);
        self.watch_end(id);
    }

    /// Ends an offer that was not renewed in time.
    pub fn offer_end(&mut self, id: NodeId) {
        let now = self.state.now;
        if self.state.nodes[id].offer.as_ref().is_some_and(|offer| !offer.is_open(now)) {
            self.close_offer(id, OfferFate::Expired);
        }
    }

    /// Takes a node's offer back at once.
    pub fn withdraw(&mut self, id: NodeId) {
        let leased = !self.state.nodes[id].leases.is_empty();
        self.close_offer(id, if leased { OfferFate::Revoked } else { OfferFate::Withdrawn });
    }

    /// Closes a node's offer; its leases go on.
    fn close_offer(&mut self, id: NodeId, fate: OfferFate) {
        let node = &mut self.state.nodes[id];
        let Some(offer) = node.offer.take() else { return };
        for gpu in &mut node.gpus {
            gpu.open = false;
        }
        self.count_offer(id, offer.total);
        self.state.timers.clear(offer.ends, Due::OfferEnd(id));
        self.state.fates.count(fate);
        self.effects.push(Effect::Offer { offer: offer.id, node: id, fate });
        self.state.changed.note(id);
        self.squeeze_later(id);
    }

    /// Takes an offer of nothing back, unless there is something to lend again.
    pub fn withdraw_empty(&mut self, id: NodeId) {
        let (rules, node) = (&self.state.rules, &self.state.nodes[id]);
        let lendable = node.lendable(self.state.now, rules);
        let empty = node.offer.as_ref().is_some_and(|offer| offer.total.is_zero());
        if empty && lendable.bundle.is_zero() {
            self.withdraw(id);
        }
    }

    /// Applies that a node has failed: its leases are lost, its capacity is gone with it.
    pub fn node_down(&mut self, id: NodeId) {
        if self.state.nodes.find(id).is_none_or(|node| !node.up) {
            self.state.stale_reports += 1;
            return;
        }
        self.withdraw(id);
        let now = self.state.now;
        let node = &mut self.state.nodes[id];
        let heard = node.load.as_ref().map_or(now, |load| load.heard);
        node.up = false;
        node.load = None;
        node.idle_since = None;
        node.lending = Lending::ALL;
        self.forget_use(id);
        // A lease whose limit was just reached is no longer counted on its nodes.
        let leases = self.state.leases.values();
        let leases = leases.filter(|l| l.members.iter().any(|member| member.node == id));
        let leases: Vec<LeaseId> = leases.map(|lease| lease.id).collect();
        for lease in leases {
            self.lose(lease, id, heard);
        }
        let broken = |(job, claim): (&JobId, &crate::leases::Claim)| {
            claim.members.iter().any(|member| member.node == id).then_some(*job)
        };
        let claims: Vec<JobId> = self.state.claims.iter().filter_map(broken).collect();
        for job in claims {
            self.give_up_claim(job);
        }
    }

    /// Loses one lease's part on a node; members on other nodes end with it.
    pub fn lose(&mut self, id: LeaseId, node: NodeId, heard: Time) {
        let lease = self.state.lease(id);
        if lease.has_left(node) {
            return;
        }
        if lease.state == LeaseState::Active {
            // Who was already told to leave pays or is paid by that reason, not by this failure
            // too.
            self.state.lease_mut(id).blame = Some(node);
            self.note_loss(node, id);
            told_to_leave(self, id, EvictionReason::NodeFailure, Span::ZERO, Some(node));
        }
        let until = heard.max(self.state.lease(id).term_began);
        lose_on(self, id, node, until);
    }

    /// Applies that a node is back, empty.
    pub fn node_up(&mut self, id: NodeId) {
        if self.state.nodes.find(id).is_none_or(|node| node.up) {
            self.state.stale_reports += 1;
            return;
        }
        self.state.nodes[id].up = true;
        self.check_at(id, self.state.now);
    }
}

/// Returns when an offer is looked at again after now: after a check interval, or when the next ten
/// minutes of the profile of the day come within the horizon, which may ask for more.
fn next_look(now: Time, rules: &Rules) -> Time {
    let (next, horizon) = (now.after(rules.offering.check_interval), rules.balance.horizon);
    if rules.balance.policy != Policy::Predictive {
        return next;
    }
    let (seen, slot) = (now.after(horizon).ms(), SLOT.get());
    next.min(now.after(Span::new(slot - seen % slot)))
}

/// Lowers a node's offer to what it could lend now; returns whether anything changed.
fn shrink(node: &mut Node, lendable: &Lendable) -> bool {
    let Some(offer) = &mut node.offer else { return false };
    let before = offer.version;
    for (i, gpu) in node.gpus.iter_mut().enumerate() {
        gpu.open &= lendable.gpus & 1 << i != 0;
    }
    let gpu = lent_devices(&node.gpus);
    offer.shrink(&Bundle { gpu, ..lendable.bundle });
    offer.version != before
}

/// Opens all that a dedicated node has and returns its total.
fn open_all(node: &mut Node, lendable: &Lendable) -> Bundle {
    for (i, gpu) in node.gpus.iter_mut().enumerate() {
        gpu.open = lendable.gpus & 1 << i != 0;
    }
    Bundle { gpu: lent_devices(&node.gpus), ..lendable.bundle }
}

/// Lets a node's total rise by one step towards what it could lend, and returns it.
fn grow(node: &mut Node, lendable: &Lendable) -> Bundle {
    let before = node.offer.as_ref().map_or(Bundle::ZERO, |offer| offer.total);
    let before = before.zip(&node.leased, u64::max);
    let step = growth(&node.spec.capacity);
    let mut fresh = step.gpu.get() / 1_000;
    for (i, gpu) in node.gpus.iter_mut().enumerate() {
        let lend = lendable.gpus & 1 << i != 0;
        let known = gpu.open || !gpu.used.is_zero();
        gpu.open = lend && (known || fresh > 0);
        fresh -= u64::from(gpu.open && !known);
    }
    let reach = before.saturating_add(&step);
    Bundle { gpu: lent_devices(&node.gpus), ..reach.meet(&lendable.bundle) }
}

/// Returns how much GPU a node lends: its open devices, and those that still work for a lease.
fn lent_devices(gpus: &[Gpu]) -> MilliGpus {
    let lent = gpus.iter().filter(|gpu| gpu.open || !gpu.used.is_zero()).count();
    MilliGpus::new(lent as u64 * 1_000)
}
