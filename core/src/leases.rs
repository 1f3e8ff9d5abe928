//! Leases: grants to one attempt of a job, running in terms, and the claims that precede some.
//!
//! A lease is granted, renewed and ended as one, however many members it has. It knows its own
//! money (the open hold and what was settled) but moves none.

use crate::bundle::{DIMENSIONS, Needs};
use crate::effect::EvictionReason;
use crate::ids::{AccountId, Epoch, HoldId, JobId, LeaseId, NodeId, ShapeId};
use crate::units::{Band, MicroAtp, Priority, Span, Time};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// One member of a lease: a node and the devices it uses there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its devices, one bit each.
    pub devices: u64,
}

/// Where a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LeaseState {
    /// The job runs.
    Active,
    /// The job was told to leave, or is being killed; capacity is not free yet.
    Releasing,
    /// The limit of a job on dedicated nodes without grace was reached: capacity is free, the end
    /// of its process is still to be reported at this very instant.
    Released,
}

/// A grant to one attempt of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its number.
    pub id: LeaseId,
    /// The job.
    pub job: JobId,
    /// Who pays.
    pub account: AccountId,
    /// Which start of the job.
    pub epoch: Epoch,
    /// What each member holds.
    pub needs: Needs,
    /// The shape the needs come from.
    pub shape: ShapeId,
    /// The job's priority when it was granted; its band sets the price.
    pub priority: Priority,
    /// Where.
    pub members: Vec<Member>,
    /// Where it stands.
    pub state: LeaseState,
    /// When it was granted.
    pub granted: Time,
    /// When the job's limit is reached.
    pub limit_at: Option<Time>,
    /// When the running term began.
    pub term_began: Time,
    /// When the running term ends.
    pub term_ends: Time,
    /// The hold of the running term.
    pub hold: Option<HoldId>,
    /// The hold of the next term, once renewed.
    pub next_hold: Option<HoldId>,
    /// The rates of the running term and of the next, once renewed: a term's price is fixed.
    pub rates: [u64; DIMENSIONS],
    /// What its use was booked at: the dominant share in the pool, in parts of 2^32.
    pub share: u64,
    /// What the running term was booked at on its account, to take back what is left of it.
    pub booked: u128,
    /// Why it must leave.
    pub reason: Option<EvictionReason>,
    /// Whose return or failure made it leave.
    pub blame: Option<NodeId>,
    /// The nodes among its members' that failed under it.
    pub lost: BTreeSet<NodeId>,
    /// When it was first told to leave.
    pub noticed: Option<Time>,
    /// When it is killed if it has not left.
    pub kill_at: Option<Time>,
    /// Credit that the job of a higher class holds for the work lost here.
    pub cover: Option<HoldId>,
    /// Credit held over all terms.
    pub held: MicroAtp,
    /// Credit settled over all terms.
    pub settled: MicroAtp,
}

impl Lease {
    /// Returns the price band.
    #[must_use]
    pub fn band(&self) -> Band {
        self.priority.band()
    }

    /// Returns the middle of the running term: from then on the next is set aside.
    #[must_use]
    pub fn half_term(&self) -> Time {
        self.term_began.after(Span::new(self.term_ends.since(self.term_began).get() / 2))
    }

    /// Returns how long it has run.
    #[must_use]
    pub fn ran(&self, now: Time) -> Span {
        now.since(self.granted)
    }
}

/// Capacity kept for a job whose victims are still leaving.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// What each member needs.
    pub needs: Needs,
    /// Where.
    pub members: Vec<Member>,
    /// The leases that have not left yet.
    pub victims: BTreeSet<LeaseId>,
    /// When it is given up.
    pub ends: Time,
}

/// How many leases of each class hold capacity: no plan is tried where no victim can be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    by_class: BTreeMap<u8, u64>,
}

impl Running {
    /// Counts a lease in.
    pub fn enter(&mut self, priority: Priority) {
        *self.by_class.entry(priority.class()).or_insert(0) += 1;
    }

    /// Counts a lease out.
    ///
    /// # Panics
    /// When it was not counted in: our bug.
    pub fn leave(&mut self, priority: Priority) {
        let left = self.by_class.get_mut(&priority.class());
        assert!(left.as_ref().is_some_and(|n| **n > 0), "a lease is counted out once");
        if let Some(count) = left {
            *count -= 1;
            if *count == 0 {
                self.by_class.remove(&priority.class());
            }
        }
    }

    /// Returns the lowest class that runs.
    #[must_use]
    pub fn lowest(&self) -> Option<u8> {
        self.by_class.keys().next().copied()
    }
}
