//! Reasons why a job waits, as data (RULES.md section 8). Who finds them is [`crate::explain`].

use crate::bundle::Dimension;
use crate::ids::{JobId, NodeId};
use crate::units::{MicroAtp, PerMille, Ppm, Time};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// One reason why a job waits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Blocker {
    /// Its account holds it.
    Held,
    /// It is held because node after node was lost soon after it had started there.
    BackoffAfterFailure {
        /// How many.
        nodes: u32,
    },
    /// Its last attempt was stopped because its next term was not paid for, and nothing of its work
    /// was kept ([`Setback`](crate::jobs::Setback)).
    BackoffAfterUnpaid {
        /// When it tries again.
        at: Time,
    },
    /// It is not to start yet.
    BeginTime {
        /// When it may.
        at: Time,
    },
    /// Other jobs must complete first.
    Dependency {
        /// The first of them.
        on: JobId,
        /// How many.
        jobs: u32,
    },
    /// A job that was to complete first has ended otherwise.
    DependencyNeverSatisfied {
        /// That job.
        on: JobId,
    },
    /// No node of the pool can ever run it.
    NoMatchingNode,
    /// The pool's quota has no room.
    QuotaExceeded {
        /// The dimension.
        dimension: Dimension,
        /// What would be leased.
        needed: u64,
        /// The quota.
        quota: u64,
    },
    /// Its account has its part of the pool, and others wait for theirs.
    ExceedsMaxShare {
        /// The dimension.
        dimension: Dimension,
        /// What the account would hold on others' nodes.
        needed: u64,
        /// Its part of what the pool offers.
        most: u64,
    },
    /// Its account holds as many leases on others' nodes as it may.
    LeasesExceeded {
        /// How many it holds.
        held: u32,
        /// How many it may.
        most: u32,
    },
    /// The account has too little credit available.
    AtpBudgetExceeded {
        /// What a first term costs; more where its work was lost for want of credit before, see
        /// [`Setback`](crate::jobs::Setback).
        needed: MicroAtp,
        /// What is available.
        available: MicroAtp,
    },
    /// The job's own budget is used up.
    BudgetCommitted {
        /// What it would have cost with one more term.
        needed: MicroAtp,
        /// Its budget.
        budget: MicroAtp,
    },
    /// The price of what it needs is above the highest that it pays.
    PriceAboveLimit {
        /// The first such resource.
        dimension: Dimension,
        /// Its price, as a multiple of its rate.
        price: Ppm,
        /// The highest that the job pays.
        limit: Ppm,
    },
    /// No suitable node offers anything.
    NoOffers {
        /// Suitable nodes.
        nodes: u32,
    },
    /// Nodes offer, but too little is free.
    Resources {
        /// How many nodes fall short in which dimension.
        short: Vec<(Dimension, u32)>,
        /// The node with the fewest dimensions short, and what it lacks.
        nearest: Option<(NodeId, Dimension, u64)>,
    },
    /// It would fit, but somebody goes first.
    Priority {
        /// Who.
        behind: JobId,
    },
    /// It would fit, but would still be there when a reservation begins.
    Reservation {
        /// Whose.
        job: JobId,
    },
    /// Its victims are leaving.
    WaitingForPreempted {
        /// How many.
        leases: u32,
    },
    /// Some members fit, not all.
    GangIncomplete {
        /// How many fit.
        fit: u32,
        /// How many are needed.
        needed: u32,
    },
    /// Suitable nodes take nothing new.
    NodeDraining {
        /// How many.
        nodes: u32,
    },
    /// Suitable nodes are down.
    NodeUnreachable {
        /// How many.
        nodes: u32,
    },
    /// Suitable nodes are being taken back by their owners.
    WaitingForReclaim {
        /// How many.
        nodes: u32,
    },
    /// What must run beside it does not run on some suitable nodes, or what must not does.
    Affinity {
        /// How many.
        nodes: u32,
    },
    /// Victims would make room but have not run long enough.
    MinRuntimeProtected {
        /// How many leases.
        leases: u32,
    },
    /// It fits, but only where it is too unsure to stay.
    LowConfidence {
        /// The highest `scheduling.min_confidence` with which all of it would have a place now.
        best: PerMille,
        /// What the rules ask for.
        wanted: PerMille,
    },
}

impl Blocker {
    /// Returns the name that users meet.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Held => "Held",
            Self::BackoffAfterFailure { .. } => "BackoffAfterFailure",
            Self::BackoffAfterUnpaid { .. } => "BackoffAfterUnpaid",
            Self::BeginTime { .. } => "BeginTime",
            Self::Dependency { .. } => "Dependency",
            Self::DependencyNeverSatisfied { .. } => "DependencyNeverSatisfied",
            Self::NoMatchingNode => "NoMatchingNode",
            Self::QuotaExceeded { .. } => "QuotaExceeded",
            Self::ExceedsMaxShare { .. } => "ExceedsMaxShare",
            Self::LeasesExceeded { .. } => "LeasesExceeded",
            Self::AtpBudgetExceeded { .. } => "AtpBudgetExceeded",
            Self::BudgetCommitted { .. } => "BudgetCommitted",
            Self::PriceAboveLimit { .. } => "PriceAboveLimit",
            Self::NoOffers { .. } => "NoOffers",
            Self::Resources { .. } => "Resources",
            Self::Priority { .. } => "Priority",
            Self::Reservation { .. } => "Reservation",
            Self::WaitingForPreempted { .. } => "WaitingForPreempted",
            Self::GangIncomplete { .. } => "GangIncomplete",
            Self::NodeDraining { .. } => "NodeDraining",
            Self::NodeUnreachable { .. } => "NodeUnreachable",
            Self::WaitingForReclaim { .. } => "WaitingForReclaim",
            Self::Affinity { .. } => "Affinity",
            Self::MinRuntimeProtected { .. } => "MinRuntimeProtected",
            Self::LowConfidence { .. } => "LowConfidence",
        }
    }
}

/// What is said of [`Blocker::BackoffAfterFailure`], after how many nodes.
const LOST: &str = "nodes were lost soon after it started there: release it to try again";
/// What is said of [`Blocker::BackoffAfterUnpaid`], without when that is.
pub const IN_VAIN: &str = "its last attempt ended unpaid and kept nothing: it tries again";

/// Says it in words.
impl core::fmt::Display for Blocker {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Held => f.write_str("its account holds it"),
            Self::BackoffAfterFailure { nodes } => write!(f, "{nodes} {LOST}"),
            Self::BackoffAfterUnpaid { at } => write!(f, "{IN_VAIN} at {at}"),
            Self::BeginTime { at } => write!(f, "it is not to start before {at}"),
            Self::Dependency { on, jobs: 1 } => write!(f, "{on} must complete first"),
            Self::Dependency { on, jobs } => {
                write!(f, "{jobs} jobs must complete first, the first of them {on}")
            }
            Self::DependencyNeverSatisfied { on } => {
                write!(f, "{on} was to complete first and has not: cancel this one")
            }
            Self::NoMatchingNode => f.write_str("no node of its pool can ever run it"),
            Self::QuotaExceeded { dimension, needed, quota } => {
                write!(f, "Quota exceeded: {dimension:?}: {needed} > {quota}")
            }
            Self::ExceedsMaxShare { dimension, needed, most } => {
                say_share(f, *dimension, *needed, *most)
            }
            Self::LeasesExceeded { held, most } => {
                write!(f, "its account holds {held} leases on others' nodes: {most} is the most")
            }
            Self::AtpBudgetExceeded { needed, available } => {
                write!(f, "ATP budget exceeded: {needed} > {available} micro-ATP available")
            }
            Self::BudgetCommitted { needed, budget } => {
                write!(f, "its own budget is used up: {needed} > {budget} micro-ATP")
            }
            Self::PriceAboveLimit { dimension, price, limit } => {
                say_price(f, *dimension, (price.get(), limit.get()))
            }
            Self::NoOffers { nodes } => {
                write!(f, "{nodes} suitable nodes offer nothing: their owners use them")
            }
            Self::Resources { short, nearest } => {
                say_short(f, short)?;
                match nearest {
                    Some((node, dimension, lacks)) => {
                        write!(f, " nearest is {node}, which lacks {lacks} of {dimension:?}")
                    }
                    None => Ok(()),
                }
            }
            Self::Priority { behind } => write!(f, "{behind} goes first"),
            Self::Reservation { job } => {
                write!(f, "it would still be there when the reservation {job} begins")
            }
            Self::WaitingForPreempted { leases } => {
                write!(f, "{leases} leases are leaving to make room")
            }
            Self::GangIncomplete { fit, needed } => {
                write!(f, "only {fit} of {needed} members fit at once")
            }
            Self::NodeDraining { nodes } => write!(f, "{nodes} suitable nodes are draining"),
            Self::NodeUnreachable { nodes } => write!(f, "{nodes} suitable nodes are not heard"),
            Self::WaitingForReclaim { nodes } => {
                write!(f, "owners are taking {nodes} suitable nodes back")
            }
            Self::Affinity { nodes } => {
                write!(f, "what runs on {nodes} suitable nodes keeps it away from them")
            }
            Self::MinRuntimeProtected { leases } => {
                write!(f, "{leases} leases could make room and have not run long enough yet")
            }
            Self::LowConfidence { best, wanted } => say_unsure(f, best.get(), wanted.get()),
        }
    }
}

/// Says on how many nodes too little is free of what.
fn say_short(f: &mut core::fmt::Formatter<'_>, short: &[(Dimension, u32)]) -> core::fmt::Result {
    f.write_str("too little is free:")?;
    short.iter().try_for_each(|(dimension, nodes)| write!(f, " {dimension:?} on {nodes} nodes;"))
}

/// Says that a job's account has its part of the pool.
fn say_share(
    f: &mut core::fmt::Formatter<'_>,
    dimension: Dimension,
    needed: u64,
    most: u64,
) -> core::fmt::Result {
    write!(
        f,
        "its account would hold {needed} of the pool's {dimension:?} while others wait: {most} is \
         its part"
    )
}

/// Says which price is above the highest that a job pays, both as multiples with six digits.
fn say_price(
    f: &mut core::fmt::Formatter<'_>,
    dimension: Dimension,
    (price, limit): (u32, u32),
) -> core::fmt::Result {
    let (whole, part) = (|ppm: u32| ppm / 1_000_000, |ppm: u32| ppm % 1_000_000);
    write!(
        f,
        "the price of {dimension:?} is {}.{:06} times its rate, and it pays at most {}.{:06}",
        whole(price),
        part(price),
        whole(limit),
        part(limit)
    )
}

/// Says that a job is too unsure to stay where it fits, and what would start it.
fn say_unsure(f: &mut core::fmt::Formatter<'_>, best: u16, wanted: u16) -> core::fmt::Result {
    write!(
        f,
        "it fits, but with a confidence of {best} where {wanted} is asked for: wait, give it a \
         shorter limit, or set scheduling.min_confidence to {best}"
    )
}

/// Why a job waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// All reasons, in the order of [`Blocker`].
    pub blockers: Vec<Blocker>,
}
