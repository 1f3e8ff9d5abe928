//! What is due when: the core's own timers, as data.
//!
//! A timer is never cancelled by searching for it: whoever set it keeps its time, and what fires
//! checks whether it still means anything. Everything at one instant fires in the order of [`Due`].

use crate::ids::{JobId, LeaseId, NodeId, PoolId};
use crate::units::Time;
use alloc::collections::BTreeSet;
use serde::{Deserialize, Serialize};

/// What a timer is for, in the order in which timers of one instant fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Due {
    /// A quantum of the order `karma` ends: what was held in it is counted before limits free it.
    Quantum,
    /// Prices move: by what was used before limits free it, and before terms are paid for.
    Price,
    /// A lease reaches its limit.
    Limit(LeaseId),
    /// Half of a lease's term has passed: it may be renewed.
    Renew(LeaseId),
    /// A lease's term ends.
    TermEnd(LeaseId),
    /// An epoch ends: credit decays and is granted.
    Epoch,
    /// A claim is given up.
    ClaimEnd(JobId),
    /// A node's offer is checked.
    Check(NodeId),
    /// A node's offer expires before it is checked.
    OfferEnd(NodeId),
    /// Nothing is left to lend of an offer: it is taken back.
    Withdraw(NodeId),
    /// A node lends less than it did: what leases have beside their needs may be too much.
    Squeeze(NodeId),
    /// A node may not have been heard for three intervals.
    Silent(NodeId),
    /// Nothing of a lease can be left on nodes that are not heard.
    Lost(LeaseId),
    /// A node that has refused a start may be asked again.
    Ask(NodeId),
    /// A lease on a node may have left its GPUs idle for too long.
    Idle(NodeId),
    /// Running work of a pool may move away from its loaded nodes.
    Rebalance(PoolId),
    /// A job may start from now on.
    Begin(JobId),
    /// A waiting job counts a class more.
    Age(JobId),
    /// A job of a higher class may try again to preempt.
    Retry(PoolId),
    /// A message has told something: a pass follows when all messages of the instant are in.
    Pass,
}

/// All timers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    set: BTreeSet<(Time, Due)>,
}

impl Timers {
    /// Sets a timer.
    pub fn set(&mut self, at: Time, due: Due) {
        if at < Time::MAX {
            self.set.insert((at, due));
        }
    }

    /// Takes a timer back.
    pub fn clear(&mut self, at: Time, due: Due) {
        self.set.remove(&(at, due));
    }

    /// Takes back every timer of a kind.
    pub fn clear_all(&mut self, kind: impl Fn(&Due) -> bool) {
        self.set.retain(|(_, due)| !kind(due));
    }

    /// Returns the first timer.
    #[must_use]
    pub fn first(&self) -> Option<(Time, Due)> {
        self.set.first().copied()
    }

    /// Takes the first timer that is due at or before `now`.
    pub fn pop(&mut self, now: Time) -> Option<(Time, Due)> {
        if self.set.first().is_some_and(|(at, _)| *at <= now) { self.set.pop_first() } else { None }
    }

    /// Returns how many timers are set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Returns whether no timer is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }
}
