//! When a node lends, and how it takes back: what both halves go by.

use crate::units::{BasisPoints, Bytes, MilliCores, Span};
use serde::{Deserialize, Serialize};

/// Block `resource_sharing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offering {
    /// Whether nodes with an owner lend at all.
    pub enabled: bool,
    /// Time between two checks of a node's offer.
    pub check_interval: Span,
    /// How long an offer stands without renewal, at least three checks.
    pub offer_expiry: Span,
    /// Most offers of one node at once.
    pub offers_max: u32,
    /// Gates below which nothing is offered.
    pub gates: Gates,
    /// What an owner counts as.
    pub lend: Lend,
    /// Idle time before a node offers again (under [`Lend::Idle`]).
    pub idle_before_offer: Span,
    /// How long a CPU job may take to vacate when the owner returns.
    pub vacate_cpu: Span,
    /// How long a GPU job may take to vacate when the owner returns.
    pub vacate_gpu: Span,
    /// Time from the end of the notice to the kill's completion.
    pub kill: Span,
    /// Time between two looks at the owner.
    pub poll: Span,
    /// How long after its last sign the owner still counts as there.
    pub busy_latch: Span,
    /// Whether the owner's work on a lent GPU takes that GPU back.
    pub foreign_gpu: bool,
    /// How long the owner must be away before paused jobs go on.
    pub resume_after: Span,
    /// Longest pause of a job.
    pub suspend_max: Span,
    /// The hours of the day in which nodes lend; `None` is always.
    pub lend_hours: Option<Hours>,
}

/// A part of the day, by the wall clock of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// The minute of the day in which it begins, 0 to 1,439.
    pub from: u16,
    /// The minute in which it ends, itself outside; before `from` it is past midnight.
    pub to: u16,
}

impl Hours {
    /// Returns whether a minute of the day lies in it.
    #[must_use]
    pub fn contains(&self, minute: u16) -> bool {
        if self.from <= self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

impl Default for Offering {
    fn default() -> Self {
        Self {
            enabled: true,
            check_interval: Span::seconds(60),
            offer_expiry: Span::seconds(300),
            offers_max: 5,
            gates: Gates::default(),
            lend: Lend::Excess,
            idle_before_offer: Span::seconds(900),
            vacate_cpu: Span::seconds(600),
            vacate_gpu: Span::seconds(30),
            kill: Span::seconds(30),
            poll: Span::seconds(5),
            busy_latch: Span::seconds(120),
            foreign_gpu: true,
            resume_after: Span::seconds(300),
            suspend_max: Span::seconds(600),
            lend_hours: None,
        }
    }
}

/// The first guide's thresholds. The percent gates bind under [`Lend::Idle`], the rest always.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gates {
    /// A GPU is lent only while its predicted use is below this.
    pub gpu_utilization_max: BasisPoints,
    /// A GPU is lent only with this much video memory free.
    pub gpu_memory_min: Bytes,
    /// Memory use of the owner above which nothing is offered.
    pub memory_max: BasisPoints,
    /// Free memory below which nothing is offered.
    pub memory_min: Bytes,
    /// CPU use of the owner above which nothing is offered.
    pub cpu_max: BasisPoints,
    /// Free compute below which nothing is offered.
    pub cpu_min: MilliCores,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            gpu_utilization_max: BasisPoints::percent(20),
            gpu_memory_min: Bytes::mib(1_024),
            memory_max: BasisPoints::percent(50),
            memory_min: Bytes::gib(2),
            cpu_max: BasisPoints::percent(30),
            cpu_min: MilliCores::whole(1),
        }
    }
}

/// What is lent of a node with an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lend {
    /// Everything, but only while the owner is away.
    Idle,
    /// Whatever the owner is predicted to leave over.
    Excess,
}

/// The rules by which a node watches its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// When it lends, and how it takes back.
    pub offering: Offering,
    /// Time between two heartbeats.
    pub interval: Span,
}
