//! How the cluster balances what already runs.

use crate::units::{BasisPoints, Ppm, Span};
use serde::{Deserialize, Serialize};

/// Who lends to whom, and whether running work moves (RULES.md section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Mode {
    /// Masters lend nothing: their jobs go to the workers.
    OffloadOnly,
    /// Every node may lend and borrow.
    ShareAndOffload,
    /// And running work moves from loaded nodes to others.
    DynamicBalancing,
}

/// Keys `mode` and `rebalance*` of the block `execution.resource_sharing` (RULES.md section 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebalance {
    /// Who lends to whom, and whether running work moves.
    pub mode: Mode,
    /// Time between two looks at the nodes of a pool, while one of them is under high pressure.
    pub interval: Span,
    /// How far below its limits a move must leave its receiver, and how much it must level.
    pub margin: BasisPoints,
    /// Least time between two moves of a job.
    pub job_cooldown: Span,
    /// Least time between two moves from or to a node.
    pub node_cooldown: Span,
    /// The most leases of a pool that move at one look, as a part of all; one always may.
    pub moves_max: Ppm,
}

impl Default for Rebalance {
    fn default() -> Self {
        Self {
            mode: Mode::DynamicBalancing,
            interval: Span::seconds(30),
            margin: BasisPoints::percent(5),
            job_cooldown: Span::seconds(300),
            node_cooldown: Span::seconds(60),
            moves_max: Ppm::new(50_000),
        }
    }
}
