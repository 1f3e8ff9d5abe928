//! Who must make way for whom.

use crate::units::Span;
use serde::{Deserialize, Serialize};

/// Block `preemption`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preemption {
    /// Whether a job may preempt another at all.
    pub enabled: bool,
    /// Least distance of declared classes, 1 to 100: equals take nobody's place.
    pub gap_min: u8,
    /// A victim has run at least this long.
    pub runtime_min: Span,
    /// Notice to a victim.
    pub grace: Span,
    /// How long freed capacity is kept for the job it was freed for.
    pub hold: Span,
    /// Most leases one account may preempt within an hour; `None` is unlimited.
    pub per_hour_max: Option<u32>,
    /// Whether a victim goes back into the queue.
    pub requeue: bool,
    /// A job that was preempted so often makes way for nobody until it has run as long as its limit
    /// (one hour without one), and pays at least as medium; `None` never.
    pub boost_after: Option<u32>,
}

impl Default for Preemption {
    fn default() -> Self {
        Self {
            enabled: true,
            gap_min: 10,
            runtime_min: Span::seconds(900),
            grace: Span::seconds(60),
            hold: Span::seconds(120),
            per_hour_max: Some(20),
            requeue: true,
            boost_after: Some(3),
        }
    }
}
