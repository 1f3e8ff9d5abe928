//! What the core wants done and wants known, as plain data.
//!
//! An [`Effect::Order`] carries lease and epoch, so that performing it twice is harmless. The
//! others are the core's log: a driver keeps them or not.

use crate::ids::{AccountId, Epoch, JobId, LeaseId, NodeId, OfferId, TransferId};
use crate::meter::Metered;
use crate::units::{MicroAtp, MilliCores, PerMille, Span, Time};
pub use crate::wire::EvictionReason;
use crate::wire::{Order, ToNode};
use alloc::boxed::Box;
use serde::{Deserialize, Serialize};

/// One effect of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Give this to a node's station; the halves are joined directly.
    Order {
        /// The node.
        node: NodeId,
        /// What it is to do.
        order: Order,
    },
    /// Send this to a node.
    Send {
        /// The node.
        node: NodeId,
        /// The message.
        message: Box<ToNode>,
    },
    /// A job was granted a lease on the members that the state describes.
    Granted {
        /// The lease.
        lease: LeaseId,
        /// Its epoch.
        epoch: Epoch,
        /// The job.
        job: JobId,
        /// How sure it is that it may stay there: on the worst of its nodes.
        confidence: Confidence,
    },
    /// A lease has more or less CPU from now on.
    Resized {
        /// The lease.
        lease: LeaseId,
        /// All the CPU that it has.
        cpu: MilliCores,
    },
    /// A lease was told to leave, by the coordinator or by its node.
    Evicted {
        /// The lease.
        lease: LeaseId,
        /// Its epoch.
        epoch: Epoch,
        /// When the notice is over and it is killed.
        kill_at: Time,
        /// Why.
        reason: EvictionReason,
    },
    /// A lease has left its GPUs idle for so long that its account is warned.
    Idle(Idleness),
    /// A lease is closed and its capacity is free.
    Closed(LeaseEnd),
    /// A job is over and leaves the state.
    Finished(JobEnd),
    /// A job went back into the queue.
    Requeued {
        /// The job.
        job: JobId,
        /// Why.
        reason: EvictionReason,
        /// Work that was lost.
        lost: Span,
    },
    /// A node takes nothing new any more because too much has failed there; the state says why.
    Drained {
        /// The node.
        node: NodeId,
    },
    /// Credit moved.
    Moved(Transfer),
    /// An offer was opened or closed.
    Offer {
        /// The offer.
        offer: OfferId,
        /// Its node.
        node: NodeId,
        /// What became of it.
        fate: OfferFate,
    },
}

/// A lease that leaves its GPUs idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idleness {
    /// The lease.
    pub lease: LeaseId,
    /// Its job.
    pub job: JobId,
    /// Since when.
    pub since: Time,
    /// When it is told to leave if it stays so; `None` where that never is.
    pub reclaim_at: Option<Time>,
}

/// How sure it is that a job may stay where it starts: four parts, each 0 to 250 thousandths (see
/// [`crate::confidence`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confidence {
    /// Room for an owner who uses more than is predicted.
    pub head_room: PerMille,
    /// How lately the node was heard.
    pub freshness: PerMille,
    /// The node's reputation.
    pub reputation: PerMille,
    /// How much of the job's limit passes before the owner is foreseen to return.
    pub stay: PerMille,
}

impl Confidence {
    /// Returns the sum of its parts, 0 to 1,000.
    #[must_use]
    pub fn total(&self) -> PerMille {
        let parts = [self.freshness, self.reputation, self.stay];
        parts.into_iter().fold(self.head_room, PerMille::saturating_add)
    }
}

/// The end of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseEnd {
    /// The lease.
    pub lease: LeaseId,
    /// Its job.
    pub job: JobId,
    /// Why it was evicted; `None` when its job ended by itself.
    pub reason: Option<EvictionReason>,
    /// Credit held over all its terms.
    pub held: MicroAtp,
    /// Credit settled over all its terms.
    pub settled: MicroAtp,
    /// What it was charged in all and the head of the chain over it; `None` where nothing was.
    pub metered: Option<Box<Metered>>,
    /// How many of its terms were unpaid.
    pub unpaid_terms: u32,
    /// Notice to end of the first request to leave: the reclaim latency of an owner's return.
    pub noticed: Option<Time>,
}

/// The end of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnd {
    /// The job.
    pub job: JobId,
    /// The last state.
    pub state: FinalState,
    /// What its account paid, before refunds.
    pub charged: MicroAtp,
    /// What came back for work that others destroyed.
    pub refunded: MicroAtp,
}

/// How a job ends (RULES.md section 8 "States").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FinalState {
    /// It did its work.
    Completed,
    /// It ended itself with an error.
    Failed,
    /// It ran into its limit.
    Timeout,
    /// Its account took it back, or it left its GPUs idle for too long.
    Cancelled,
    /// It was preempted and may not be requeued.
    Preempted,
    /// Its node failed and it may not be requeued.
    NodeFail,
    /// Its account could not pay.
    OutOfBudget,
}

/// One movement of credit: immutable once it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Its number.
    pub id: TransferId,
    /// When.
    pub at: Time,
    /// Who gives.
    pub from: Party,
    /// Who gets.
    pub to: Party,
    /// How much, above nothing.
    pub amount: MicroAtp,
    /// What for.
    pub kind: TransferKind,
    /// The lease it belongs to.
    pub lease: Option<LeaseId>,
}

/// One side of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Party {
    /// Credit is made here.
    Mint,
    /// Fees go here.
    Treasury,
    /// An account's available credit.
    Account(AccountId),
    /// An account's held credit.
    Held(AccountId),
    /// Credit ends here: what decays, and what is above a cap.
    Burn,
}

/// What a transfer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TransferKind {
    /// New credit by an administrator.
    Deposit,
    /// Out of the treasury by an administrator.
    Award,
    /// An account's part of what an epoch grants, out of the treasury or the mint.
    Grant,
    /// What an account begins with when a node of it has first honoured a lease of another's.
    Newcomer,
    /// The part of a balance above a daily grant that is lost with an epoch.
    Decay,
    /// What a balance has above the account's cap at an epoch's end.
    Overflow,
    /// Set aside for a term.
    Hold,
    /// The rest of a hold goes back.
    Restore,
    /// A term is paid to a lender.
    Settle,
    /// The treasury's part of a settlement.
    Fee,
    /// Whoever ended a lease pays for the work that was lost: the account whose job took its place,
    /// or the treasury where it was moved.
    Refund,
}

impl TransferKind {
    /// Returns the name that users meet.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deposit => "deposit",
            Self::Award => "award",
            Self::Grant => "grant",
            Self::Newcomer => "newcomer",
            Self::Decay => "decay",
            Self::Overflow => "overflow",
            Self::Hold => "hold",
            Self::Restore => "restore",
            Self::Settle => "settle",
            Self::Fee => "fee",
            Self::Refund => "refund",
        }
    }
}

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OfferFate {
    /// It was opened.
    Opened,
    /// Its first lease was granted.
    Leased,
    /// It ended without renewal.
    Expired,
    /// It was taken back while nothing was leased on it.
    Withdrawn,
    /// It was taken back while something was leased on it.
    Revoked,
}
