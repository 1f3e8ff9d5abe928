//! The protocol at the coordinator's end: hellos, heartbeats, silence, and its own new start.
//!
//! Silence decides nothing for a while: a node that is not heard gets no new work, its leases are
//! not renewed, and they end by themselves with their permission. Only when the last process must
//! be gone, by any clock that drifts no more than configured, is a lease lost (LIVE.md P5).

use super::Work;
use crate::canary::{Canary, planted};
use crate::due::Due;
use crate::effect::{Effect, EvictionReason};
use crate::ids::{Epoch, LeaseId, NodeId};
use crate::leases::{Lease, LeaseState};
use crate::units::{Span, Time};
use crate::wire::{
    Envelope, FromBody, FromNode, Item, Order, Permission, Status, ToBody, ToNode, VERSIONS,
    common_version, wait,
};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// How long an order may be under way before it is said again.
const AGAIN: Span = Span::seconds(2);

impl Work<'_> {
    /// Returns whether a message tells of more than what an owner uses: then a pass follows.
    fn has_news(&self, message: &FromNode) -> bool {
        let node = message.envelope.node;
        let Some(row) = self.state.nodes.find(node) else { return false };
        let known = |item: &Item| {
            let open = self.state.leases.get(&item.lease);
            open.filter(|open| open.epoch == item.epoch && !open.has_left(node))
        };
        row.lending != message.lending
            || message.inventory.iter().any(|item| match (known(item), item.status) {
                (Some(open), _) if open.has_more_than(item.cpu) => true,
                (Some(open), Status::Running) => open.paused.is_some(),
                (Some(open), Status::Paused) => open.paused.is_none(),
                (Some(open), Status::Leaving(..) | Status::Stuck(_)) => {
                    open.state == LeaseState::Active
                }
                (Some(_), Status::Ended(..)) => true,
                (None, _) => false,
            })
    }

    /// Follows a message of a node, unless it is stale.
    pub fn message(&mut self, message: &FromNode) {
        let envelope = message.envelope;
        let node = envelope.node;
        let mine = self.state.network && envelope.cluster == self.state.cluster;
        if !mine || self.state.links.find(node).is_none() {
            self.state.stale_reports += 1;
            return;
        }
        if self.has_news(message) {
            self.state.timers.set(self.state.now, Due::Pass);
        }
        match &message.body {
            FromBody::Hello { hello, versions, .. } => {
                self.hello(envelope, *hello, *versions, message);
            }
            FromBody::Beat { seen } => self.beat(envelope, *seen, message),
        }
    }

    /// Sends a node one message.
    fn send(&mut self, node: NodeId, session: u64, number: u64, body: ToBody) {
        let envelope = Envelope { cluster: self.state.cluster, node, session, number };
        let message = Box::new(ToNode { envelope, body });
        self.effects.push(Effect::Send { node, message });
    }

    /// Answers a hello with a new session, and brings what both sides know together.
    fn hello(&mut self, envelope: Envelope, hello: u64, theirs: (u16, u16), message: &FromNode) {
        let node = envelope.node;
        let link = &self.state.links[node];
        if hello < link.hello && !planted(Canary::TakeOldHello) {
            self.state.stale_reports += 1;
            return;
        }
        let Some(version) = common_version(VERSIONS, theirs) else {
            self.state.links[node].incompatible = Some(theirs);
            self.send(node, 0, 0, ToBody::Incompatible { hello, versions: VERSIONS });
            return;
        };
        let answered = hello == link.hello && link.session == 0;
        if answered && !planted(Canary::TakeAnsweredHello) {
            // It was answered before the coordinator's last start: what it lists may be long past.
            self.send(node, 0, 0, ToBody::Resync { hello });
            return;
        }
        let again = hello == link.hello && !answered;
        if !again {
            self.state.sessions += 1;
            let (session, now) = (self.state.sessions, self.state.now);
            self.state.links[node].begin(session, hello, envelope.number, now);
            // It has seen nothing yet of what runs there.
            self.forget_use(node);
        }
        let watch = Box::new(self.state.rules.watch());
        let session = self.state.links[node].session;
        self.send(node, session, 0, ToBody::Welcome { hello, version, watch });
        if !again {
            self.heard(node, message);
            self.reconcile(node, message, true);
        }
    }

    /// Follows a heartbeat.
    fn beat(&mut self, envelope: Envelope, seen: u64, message: &FromNode) {
        let (node, now) = (envelope.node, self.state.now);
        let link = &mut self.state.links[node];
        if link.session == 0 {
            self.send(node, envelope.session, 0, ToBody::Resync { hello: 0 });
            return;
        }
        let other = envelope.session != link.session && !planted(Canary::SkipSessionCheck);
        let old = envelope.number <= link.beat && !planted(Canary::SkipNumberCheck);
        if other || old {
            self.state.stale_reports += 1;
            return;
        }
        (link.beat, link.heard) = (envelope.number, now);
        link.confirm(if planted(Canary::ConfirmAll) { u64::MAX } else { seen });
        self.heard(node, message);
        self.reconcile(node, message, false);
        if self.state.links[node].is_pressing(now, AGAIN) {
            self.state.changed.tell(node);
        }
    }

    /// Notes that a node is there, what its owner uses and what it lends.
    fn heard(&mut self, node: NodeId, message: &FromNode) {
        let now = self.state.now;
        let silence = self.state.rules.silence();
        if self.state.nodes[node].silent {
            self.state.nodes[node].silent = false;
            self.state.timers.set(now.after(silence), Due::Silent(node));
            self.state.changed.note(node);
            self.check_at(node, now);
        }
        if let Some(sample) = &message.sample {
            let load = self.state.nodes[node].load.as_mut();
            match load.filter(|load| load.sample == *sample) {
                Some(load) => {
                    load.heard = now;
                    self.note_use(node, sample);
                }
                None => self.sample(node, sample),
            }
        }
        if self.state.nodes[node].lending != message.lending {
            self.lend(node, message.lending);
        }
    }

    /// Brings a node's inventory and the leases on it together. Nothing is started twice: what a
    /// node should have and has not is lost.
    fn reconcile(&mut self, node: NodeId, message: &FromNode, anew: bool) {
        let mut listed: BTreeSet<LeaseId> = BTreeSet::new();
        for item in message.inventory.iter().copied() {
            let Item { lease, epoch, status, .. } = item;
            let early = self.state.links[node].is_starting(lease);
            if early && !planted(Canary::BelieveTooEarly) {
                // The node says to have what it cannot have heard of.
                continue;
            }
            if self.is_on(node, lease, epoch) {
                listed.insert(lease);
                self.status(node, item);
            }
            if !self.state.links[node].has_room(lease) {
                continue;
            }
            // What has ended is heard; what nobody knows has no business there.
            match status {
                Status::Ended(..) => self.order(node, Order::Forget(lease, epoch)),
                Status::Leaving(..) | Status::Stuck(_) => {}
                Status::Running | Status::Paused => {
                    if !self.is_on(node, lease, epoch) {
                        self.order(node, Order::Kill(lease, epoch));
                    }
                }
            }
        }
        let ours: Vec<LeaseId> = self.state.nodes[node].leases.iter().copied().collect();
        for id in ours {
            if listed.contains(&id) {
                self.go_on(node, id, anew);
            } else if !self.state.links[node].is_ordering(id) || planted(Canary::LoseUnderWay) {
                if planted(Canary::StartAgain) {
                    self.order_starts(id);
                    continue;
                }
                // A start that was taken back before it was confirmed may still be under way.
                let proof = self.state.lease(id).proof;
                self.lose(id, node, proof);
            }
        }
    }

    /// Returns whether a lease of this epoch may have something on a node.
    #[must_use]
    pub fn is_on(&self, node: NodeId, id: LeaseId, epoch: Epoch) -> bool {
        let same = |open: Epoch| open == epoch || planted(Canary::SkipEpochCheck);
        let here = |lease: &Lease| lease.is_on(node) || planted(Canary::SkipNodeCheck);
        let lease = self.state.leases.get(&id).filter(|lease| same(lease.epoch));
        lease.is_some_and(here)
    }

    /// Renews a lease that its node has, or repeats in a new session what was ordered in another.
    fn go_on(&mut self, node: NodeId, id: LeaseId, anew: bool) {
        let now = self.state.now;
        let Some(lease) = self.state.leases.get_mut(&id) else { return };
        lease.proof = now;
        let (epoch, active) = (lease.epoch, lease.state == LeaseState::Active);
        let suspended = lease.suspended.is_some() && !planted(Canary::ForgetSuspension);
        let (kill_at, reason) = (lease.kill_at, lease.reason);
        if anew && active {
            let cpu = self.state.cpu_of(id);
            self.order(node, Order::Extend { lease: id, epoch, suspended, cpu });
        } else if anew {
            let notice = kill_at.map_or(Span::ZERO, |at| at.since(now));
            let reason = reason.unwrap_or(EvictionReason::GangEnded);
            self.order(node, Order::Leave { lease: id, epoch, notice, reason });
        }
        let lease = self.state.lease(id);
        if lease.limit_at.is_none_or(|limit| lease.term_ends < limit) {
            self.half_term(id);
        }
        let overdue = |l: &Lease| l.state == LeaseState::Active && l.term_ends <= now;
        if self.state.leases.get(&id).is_some_and(overdue) {
            self.state.timers.set(now, Due::TermEnd(id));
        }
    }

    /// Returns whether every node that has something of a lease is heard.
    #[must_use]
    pub fn is_heard(&self, id: LeaseId) -> bool {
        let mut places = self.state.lease(id).places();
        !self.state.network || places.all(|node| !self.state.nodes[node].silent)
    }

    /// Notes that a node may not have been heard for too long.
    pub fn silent(&mut self, node: NodeId) {
        let now = self.state.now;
        let silence = self.state.rules.silence();
        if self.state.nodes[node].silent {
            return;
        }
        let at = self.state.links[node].heard.after(silence);
        if at > now {
            self.state.timers.set(at, Due::Silent(node));
            return;
        }
        self.state.nodes[node].silent = true;
        self.forget_use(node);
        self.state.changed.note(node);
        self.watch_end(node);
    }

    /// Waits for the time at which nothing of a lease can be left on a silent node.
    pub fn await_loss(&mut self, id: LeaseId) {
        if !self.state.network {
            return;
        }
        let now = self.state.now;
        let lease = self.state.lease_mut(id);
        let at = lease.safe_at.max(now);
        if let Some(old) = lease.lost_at.replace(at) {
            self.state.timers.clear(old, Due::Lost(id));
        }
        self.state.timers.set(at, Due::Lost(id));
    }

    /// Gives a lease up on the nodes that are still silent when nothing of it can be left there.
    pub fn lost(&mut self, id: LeaseId) {
        let now = self.state.now;
        let silence = self.state.rules.silence();
        let Some(lease) = self.state.leases.get(&id) else { return };
        let over = lease.state != LeaseState::Active || lease.term_ends <= now;
        if lease.lost_at.is_none_or(|at| at > now) || !over {
            return;
        }
        if lease.safe_at > now {
            // A permission that was given since may be used for longer.
            self.await_loss(id);
            return;
        }
        for node in lease.places() {
            if self.state.nodes[node].silent {
                let proof = self.state.leases.get(&id).map_or(now, |lease| lease.proof);
                self.lose(id, node, proof);
            }
        }
        // A node that is heard tells by itself; it may fall silent yet.
        if let Some(lease) = self.state.leases.get_mut(&id) {
            let again = now.after(silence);
            lease.lost_at = Some(again);
            self.state.timers.set(again, Due::Lost(id));
        }
    }

    /// Counts the waits of all leases by new rules: nothing is given up while it may be there.
    pub fn recount_waits(&mut self) {
        let (now, rules) = (self.state.now, &self.state.rules);
        let (kill, drift) = (rules.offering.kill, rules.drift.0.get());
        let ids: Vec<LeaseId> = self.state.leases.keys().collect();
        for id in ids {
            let lease = self.state.lease_mut(id);
            lease.safe_at = lease.safe_at.max(now.after(wait(lease.permitted, kill, drift)));
            if self.state.lease(id).lost_at.is_some() {
                self.await_loss(id);
            }
        }
    }

    /// Begins anew after the coordinator was away: nobody is known until heard. What it had sent
    /// may have arrived or not; its time stood still meanwhile, so every wait goes on.
    pub fn restarted(&mut self) {
        for id in self.state.links.ids() {
            self.state.nodes[id].silent = true;
            self.forget_use(id);
            let link = &mut self.state.links[id];
            link.session = 0;
            link.outbox.clear();
            link.watch = None;
            self.state.changed.note(id);
        }
        // Each is set anew when its node is heard.
        self.state.timers.clear_all(|due| matches!(due, Due::Silent(_)));
    }

    /// Sends every node what it has not confirmed, with permissions counted from its newest
    /// heartbeat.
    pub fn speak(&mut self) {
        let told = self.state.changed.take_told();
        if told.is_empty() {
            return;
        }
        let nodes: BTreeSet<NodeId> = told.into_iter().collect();
        for node in nodes {
            if self.state.links[node].session == 0 {
                continue;
            }
            let now = self.state.now;
            let (number, orders) = self.state.links[node].speak(now);
            let orders: Vec<(Order, Option<Permission>)> =
                orders.into_iter().map(|order| self.with_permission(node, order)).collect();
            if orders.is_empty() {
                continue;
            }
            let session = self.state.links[node].session;
            self.send(node, session, number, ToBody::Orders(orders));
        }
    }

    /// Adds to an order to run the permission to do so, and notes how long it may be used.
    fn with_permission(&mut self, node: NodeId, order: Order) -> (Order, Option<Permission>) {
        let (now, rules) = (self.state.now, &self.state.rules);
        let (kill, drift) = (rules.offering.kill, rules.drift.0.get());
        let lease = match &order {
            Order::Start(start) => Some(start.lease),
            Order::Extend { lease, .. } => Some(*lease),
            Order::Leave { .. } | Order::Kill(..) | Order::Forget(..) | Order::Watch(_) => None,
        };
        let beat = self.state.links[node].beat;
        let lease = lease.and_then(|id| self.state.leases.get_mut(&id));
        let permission = lease.map(|lease| {
            let span = lease.permit_until.since(now);
            lease.permitted = lease.permitted.max(span);
            let wait = if planted(Canary::ForgetKillTime) { span } else { wait(span, kill, drift) };
            let first = lease.safe_at == lease.granted;
            if first || !planted(Canary::ForgetRenewalWait) {
                lease.safe_at = lease.safe_at.max(now.after(wait));
            }
            Permission { beat, span }
        });
        (order, permission)
    }
}

impl Work<'_> {
    /// Sets how long a lease may go on: until the end of what is paid, or its limit and the notice
    /// after it. Its node counts from a heartbeat that may be as old as a silence: without so much
    /// more, the permission would be over before the limit, and no term follows that renews it.
    pub fn permit(&mut self, id: LeaseId, ends: Time) {
        if !self.state.network {
            return;
        }
        let rules = &self.state.rules;
        let after = rules.preemption.grace.saturating_add(rules.silence());
        let lease = self.state.lease_mut(id);
        let limit = lease.limit_at.unwrap_or(Time::MAX);
        lease.permit_until = if ends < limit { ends } else { limit.after(after) };
    }

    /// Lets a lease's nodes know that it goes on.
    pub fn extend(&mut self, id: LeaseId, ends: Time) {
        if !self.state.network {
            return;
        }
        self.permit(id, ends);
        self.order_to_go_on(id);
    }

    /// Tells a lease's nodes that it goes on, and whether its processes stand still.
    pub fn order_to_go_on(&mut self, id: LeaseId) {
        let lease = self.state.lease(id);
        let (epoch, suspended) = (lease.epoch, lease.suspended.is_some());
        let cpu = self.state.cpu_of(id);
        for node in lease.places() {
            self.order(node, Order::Extend { lease: id, epoch, suspended, cpu });
        }
    }
}
