//! When a node or a job counts as broken.

use crate::units::Span;
use serde::{Deserialize, Serialize};

/// Block `health` (RULES.md section 5 "Node health").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// So many jobs, of at least two accounts, that fail on a node soon after their start drain it,
    /// where such accounts' jobs complete elsewhere; `None` never.
    pub failures: Option<u32>,
    /// What soon is: a failure after a longer run is the job's own affair.
    pub soon: Span,
    /// How long a failure, or work that completed elsewhere, is remembered.
    pub window: Span,
    /// A job that was lost soon after its start with so many different nodes is held; `None` never.
    pub nodes: Option<u32>,
}

impl Default for Health {
    fn default() -> Self {
        let (soon, window) = (Span::seconds(60), Span::minutes(60));
        Self { failures: Some(3), soon, window, nodes: Some(3) }
    }
}
