//! What a simulation is fed with: jobs, nodes, owners' load and faults, as plain records.
//!
//! Trace readers and generators produce these records and the driver consumes them; nothing here
//! decides. All amounts are integers already: a generator rounds each sample at once.

use gridcore::bundle::Needs;
use gridcore::units::{BasisPoints, MicroAtp, Priority, Span, Time};

/// One job of a workload, before the core has seen it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobRecord {
    /// The name in the trace, or empty: then the run's number of the job is its name.
    pub name: Box<str>,
    /// The account that pays, by index into [`Workload::accounts`].
    pub account: u32,
    /// The pool, by name; `None` is the first pool.
    pub pool: Option<Box<str>>,
    /// When it is submitted.
    pub submit: Time,
    /// How long it runs undisturbed.
    pub run: Span,
    /// The declared limit; `None` is unbounded.
    pub limit: Option<Span>,
    /// How much it matters.
    pub priority: Priority,
    /// What each member needs.
    pub needs: Needs,
    /// How many members start together; 1 is an ordinary job.
    pub members: u16,
    /// Allowed values of the label `gpu_model`; empty allows all.
    pub gpu_models: Vec<Box<str>>,
    /// Whether it is refused when it cannot start at once.
    pub refuse_if_busy: bool,
    /// Work between checkpoints; `None` loses all work on eviction, zero loses none.
    pub checkpoint: Option<Span>,
    /// What few jobs say.
    pub extra: Option<Box<JobExtra>>,
}

/// What few jobs say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobExtra {
    /// Labels the node must have, each with the values allowed.
    pub labels: Vec<(String, Vec<String>)>,
    /// Nodes to take before any other, by name.
    pub preferred: Vec<String>,
    /// Whether no two members may share a node.
    pub spread: bool,
    /// Most credit it may cost.
    pub budget: Option<MicroAtp>,
    /// Longest notice it asks for.
    pub vacate: Option<Span>,
    /// Time a restart takes before work goes on.
    pub restart: Span,
}

/// Jobs in the order of submission, and the names of the accounts they belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Account names that [`JobRecord::account`] indexes.
    pub accounts: Vec<Box<str>>,
    /// Jobs, sorted by submission time; ties stay in the order of the source.
    pub jobs: Vec<JobRecord>,
}

/// One node of an inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRecord {
    /// The node's name, unique.
    pub name: Box<str>,
    /// Hardware: compute, memory, storage and GPUs (count, memory of each).
    pub capacity: Needs,
    /// The GPU model, or empty.
    pub gpu_model: Box<str>,
}

/// One machine's load by its owner, as a series of samples that hold until the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadSeries {
    /// The machine's name in the source.
    pub name: Box<str>,
    /// The length of one sample when the samples are evenly spaced and start at zero.
    pub step: Span,
    /// Utilisation per step, 0 to 100 %. A missing value repeats the one before it.
    pub values: Vec<BasisPoints>,
}

/// One scheduled change of a node's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultRecord {
    /// When it happens.
    pub at: Time,
    /// The node, by index into the scenario's nodes.
    pub node: u32,
    /// Whether the node comes back (`true`) or fails (`false`).
    pub up: bool,
}
