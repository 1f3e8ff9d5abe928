//! What is asked of leases that hold GPUs.

use crate::units::{BasisPoints, Span};
use serde::{Deserialize, Serialize};

/// Block `execution.utilization_policy`: a lease that leaves all its GPUs idle is warned, and told
/// to leave when it stays so. What is not known of a GPU is not idle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Utilization {
    /// How long without a break until it is warned, at least 1 s; `None` is never.
    pub warn_after: Option<Span>,
    /// How long without a break until it is told to leave, more than `warn_after`; `None` is never.
    pub reclaim_after: Option<Span>,
    /// A GPU of which leases use less than this is idle: above 0, at most 100 %.
    pub gpu_min: BasisPoints,
}

impl Default for Utilization {
    fn default() -> Self {
        Self {
            warn_after: Some(Span::minutes(15)),
            reclaim_after: Some(Span::minutes(60)),
            gpu_min: BasisPoints::percent(5),
        }
    }
}
