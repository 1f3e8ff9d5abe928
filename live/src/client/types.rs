//! What is asked and answered, in types: the API's description is made of them.
//!
//! Amounts are decimals as text, spans as scenarios write them (`90`, `30m`). An answer may hold
//! more than its type names: what is not named here is in `more`, and may change.

use crate::program::Program;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Jobs to be run: one, or an array of them.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Submission {
    /// A number that no other client has; see [`crate::clock::unique`].
    pub client: u64,
    /// Counts the client's requests. Asked again, it is answered again, and nothing runs twice.
    pub number: u64,
    /// What the job needs, and under which conditions.
    pub job: JobRequest,
    /// What it runs.
    pub program: Program,
}

/// What a job needs, and under which conditions: the keys of a job in a scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct JobRequest {
    /// How many alike; each finds its place in `GRID_ARRAY_INDEX`, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub array: Option<u32>,
    /// Who pays; the first account that the user acts for, where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The pool; the first where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// low, medium, high, urgent, or 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// What each member needs.
    pub needs: NeedsRequest,
    /// The least that it can do with while others need the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<LeastRequest>,
    /// Custom resources each member needs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, u64>,
    /// Longest run of an attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// Work between two checkpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointRequest>,
    /// Whether it may move to another node although it says no checkpoint.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub movable: bool,
    /// How long from now it may not start yet, such as `2h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begin: Option<String>,
    /// Whether a place is kept for it from its beginning on: for administrators. It needs a limit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reserve: bool,
    /// Labels the node must have, each with the values allowed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Vec<String>>,
    /// Nodes to take before any other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub preferred_nodes: Vec<String>,
    /// Nodes never to take.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub excluded_nodes: Vec<String>,
    /// What it is, for those that want to be near it or away from it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Each member only where a job with each of these tags runs; one that carries a tag itself may
    /// begin where nothing in its pool does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub affinity: Vec<String>,
    /// Each member only where no job with any of these tags runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub anti_affinity: Vec<String>,
    /// The node where its data lies, or the zone, for the strategy `near_data`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near: Option<String>,
    /// Several members that start together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gang: Option<GangRequest>,
    /// Most it may cost, in ATP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_atp: Option<String>,
    /// The highest price that it pays for what it needs, as a multiple of the rates: above it the
    /// job neither starts nor goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_price: Option<String>,
    /// Longest notice it asks for when its node's owner returns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vacate_seconds: Option<String>,
    /// wait or refuse: what happens when it cannot start at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_busy: Option<String>,
    /// Numbers of jobs that must complete first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
}

/// What each member of a job needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NeedsRequest {
    /// Cores; none where nothing is said.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cpu_cores: String,
    /// Memory in GiB; none where nothing is said.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub memory_gb: String,
    /// GPUs.
    pub gpus: u8,
    /// The part of each GPU, above 0 up to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_share: Option<String>,
    /// Memory on each GPU in GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_memory_gb: Option<String>,
}

/// What an elastic job can do with. Only CPU can be taken from what runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LeastRequest {
    /// Cores, above 0.
    pub cpu_cores: String,
}

/// Capacity of one kind without a command, in the words of the earlier tools.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceRequest {
    /// A number that no other client has; see [`crate::clock::unique`].
    pub client: u64,
    /// Counts the client's requests. Asked again, it is answered again, and nothing is taken twice.
    pub number: u64,
    /// cpu, memory or gpu.
    pub resource_type: String,
    /// How much: cores, GiB, or whole GPUs.
    pub amount: String,
    /// low, medium, high, urgent, or 0 to 100; medium where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    /// For how long, such as `30m`.
    pub duration: String,
    /// How long from now it is not to begin yet, such as `2h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<String>,
    /// Whether a place is kept for it from its beginning on: for administrators.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reserve: bool,
    /// Nodes to take before any other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred_nodes: Vec<String>,
    /// Who pays; the first account that the user acts for, where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
}

impl ResourceRequest {
    /// Returns what it needs: a core at least, beside what is asked for.
    ///
    /// # Errors
    /// When there is no such resource, or a part of a GPU is asked for.
    pub fn needs(&self) -> Result<NeedsRequest, String> {
        let mut needs = NeedsRequest { cpu_cores: "1".into(), ..NeedsRequest::default() };
        needs.memory_gb = "0".into();
        match self.resource_type.as_str() {
            "cpu" => needs.cpu_cores.clone_from(&self.amount),
            "memory" => needs.memory_gb.clone_from(&self.amount),
            "gpu" => {
                let whole = self.amount.parse();
                let wrong = |_| format!("amount {:?}: give a whole number of GPUs", self.amount);
                needs.gpus = whole.map_err(wrong)?;
            }
            other => return Err(format!("resource_type {other:?}: give cpu, memory or gpu")),
        }
        Ok(needs)
    }
}

/// Capacity for a task that somebody runs himself, as a job is asked for.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct TaskRequest {
    /// A number that no other client has; see [`crate::clock::unique`].
    pub client: u64,
    /// Counts the client's requests. Asked again, it is answered again, and nothing is taken twice.
    pub number: u64,
    /// What the task needs, and under which conditions.
    pub job: JobRequest,
}

/// Capacity that was taken: a job without a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Allocation {
    /// Its number: `get_job` tells whether it is there yet, and where.
    pub allocation: u64,
}

/// Checkpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CheckpointRequest {
    /// Work between two.
    pub interval: String,
    /// Time that a restart takes before work goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<String>,
}

/// Members that start together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GangRequest {
    /// How many.
    pub count: u16,
}

/// What has become of a submission.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Submitted {
    /// The numbers of the jobs that were accepted.
    pub jobs: Vec<u64>,
    /// Why the others were not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A job that waits, runs or has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// Its number.
    pub job: u64,
    /// Its name.
    pub name: String,
    /// Who pays.
    pub account: Option<String>,
    /// pending, held, dependent, reserved, running, paused, suspended, leaving, completed, failed,
    /// timeout, cancelled, preempted, `node_fail` or `out_of_budget`.
    pub state: String,
    /// How often it was started.
    pub attempts: u32,
    /// Where its last attempt runs, or ran.
    pub nodes: Vec<String>,
    /// The code with which it ended, if it ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// When it ended, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<u64>,
    /// Why it waits, or that it leaves its GPUs idle and when it is told to leave for it.
    #[serde(default)]
    pub why: Vec<String>,
    /// What else there is.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// The cluster in a few numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The version of the answers.
    pub schema: u32,
    /// Nodes of the configuration.
    pub nodes: usize,
    /// Those whose agents answer.
    pub nodes_up: usize,
    /// Entries of the journal so far.
    pub entries: u64,
    /// The digest of the state after the last one.
    pub digest: String,
    /// What else there is.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Node {
    /// Its name.
    pub node: String,
    /// up, unreachable, silent, reclaimed, or draining and why.
    pub state: String,
    /// Why it is not reached.
    pub error: Option<String>,
    /// The account that earns.
    pub owner: String,
    /// The leases on it.
    pub leases: usize,
    /// What else there is.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// Jobs, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Jobs {
    /// As many as were asked for.
    pub jobs: Vec<Job>,
    /// How many there are, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<usize>,
}

/// All nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Nodes {
    /// In their order.
    pub nodes: Vec<Node>,
}

/// A word about a job, to which the answer is that it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Keep it from starting.
    Hold,
    /// Let it start again.
    Release,
    /// End its attempt; it waits again.
    Requeue,
    /// Stop its processes; it keeps what it holds.
    Suspend,
    /// Let them go on.
    Resume,
}

impl Word {
    /// Returns its name in a path.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Requeue => "requeue",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
        }
    }
}
