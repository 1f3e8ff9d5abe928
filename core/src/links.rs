//! The coordinator's ends of the protocol: one link for each node.
//!
//! A link knows the session, the newest heartbeat, and every order that the node has not confirmed
//! (its outbox). What is in the outbox goes out with every message until a heartbeat says that a
//! message not older than its first was followed; so nothing need be timed. Links decide nothing.

use crate::ids::LeaseId;
use crate::units::{Span, Time};
use crate::wire::Order;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Most orders in an outbox to which answers to an inventory are added. What finds no room is
/// answered later: a node lists it again with every message.
pub const ANSWERS_MAX: usize = 1_024;

/// An order that is not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// What it says.
    pub order: Order,
    /// The first message that said it; 0 before there is one.
    pub first: u64,
}

/// The coordinator's end of one node's link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The session; 0 while there is none.
    pub session: u64,
    /// The last hello that was answered.
    pub hello: u64,
    /// The newest heartbeat.
    pub beat: u64,
    /// When it was heard.
    pub heard: Time,
    /// The last message of this session.
    pub sent: u64,
    /// When that was.
    pub sent_at: Time,
    /// The versions of a node with which there are none in common.
    pub incompatible: Option<(u16, u16)>,
    /// Orders that are not confirmed, at most one for each lease.
    pub outbox: BTreeMap<LeaseId, Pending>,
    /// Rules that are not confirmed.
    pub watch: Option<Pending>,
}

impl Link {
    /// Begins a session with its first heartbeat.
    pub fn begin(&mut self, session: u64, hello: u64, beat: u64, now: Time) {
        *self = Self { session, hello, beat, heard: now, ..Self::default() };
    }

    /// Puts an order into the outbox, in place of an older one for the same lease. A start that is
    /// not confirmed stays one and is said again with a new permission.
    pub fn put(&mut self, order: Order) {
        let fresh = |order| Pending { order, first: 0 };
        let Some((lease, epoch)) = order.about() else {
            self.watch = Some(fresh(order));
            return;
        };
        match (self.outbox.get_mut(&lease), &order) {
            (
                Some(Pending { order: Order::Start(start), first }),
                Order::Extend { suspended, cpu, .. },
            ) => {
                (start.suspended, *first) = (*suspended, 0);
                start.needs.cpu = cpu.unwrap_or(start.needs.cpu);
            }
            (Some(pending), Order::Kill(..) | Order::Forget(..)) if pending.order == order => {}
            // Another epoch of an open lease is no more than what a node says: it says it again.
            (Some(pending), Order::Kill(..) | Order::Forget(..))
                if pending.order.about() != Some((lease, epoch)) => {}
            (_, _) => {
                self.outbox.insert(lease, fresh(order));
            }
        }
    }

    /// Drops what a heartbeat confirms: everything first said in a message up to `seen`.
    pub fn confirm(&mut self, seen: u64) {
        let open = |pending: &Pending| pending.first == 0 || pending.first > seen;
        self.outbox.retain(|_, pending| open(pending));
        self.watch = self.watch.take().filter(open);
    }

    /// Returns whether a start of this lease is not confirmed.
    #[must_use]
    pub fn is_starting(&self, lease: LeaseId) -> bool {
        self.outbox.get(&lease).is_some_and(|p| matches!(p.order, Order::Start(_)))
    }

    /// Returns whether an inventory's mention of this lease can be answered now.
    #[must_use]
    pub fn has_room(&self, lease: LeaseId) -> bool {
        self.outbox.len() < ANSWERS_MAX || self.is_ordering(lease)
    }

    /// Returns whether any order about this lease is not confirmed.
    #[must_use]
    pub fn is_ordering(&self, lease: LeaseId) -> bool {
        self.outbox.contains_key(&lease)
    }

    /// Returns whether something is to be said: it was not said yet, or so long ago that it may
    /// have been lost.
    #[must_use]
    pub fn is_pressing(&self, now: Time, again: Span) -> bool {
        let mut open = self.outbox.values().chain(&self.watch).peekable();
        let any = open.peek().is_some();
        any && (open.any(|pending| pending.first == 0) || now >= self.sent_at.after(again))
    }

    /// Takes the next message number and everything that is not confirmed.
    pub fn speak(&mut self, now: Time) -> (u64, Vec<Order>) {
        self.sent += 1;
        self.sent_at = now;
        let number = self.sent;
        let open = self.watch.iter_mut().chain(self.outbox.values_mut());
        let orders = open.map(|pending| {
            if pending.first == 0 {
                pending.first = number;
            }
            pending.order.clone()
        });
        (number, orders.collect())
    }
}
