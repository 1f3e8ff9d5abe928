//! The scenario file as types: the keys of NAMES.md, nothing more. Unknown keys are errors, and a
//! key that is left out takes the default of the core.

pub use super::blocks::*;
use crate::decimal::{Decimal, Seconds};
use crate::generate::faults::FaultProcess;
use crate::generate::jobs::{IfBusy, NamedPriority};
use crate::generate::load::LoadGenerator;
use crate::generate::{Generator, jobs::ClassNeeds};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A whole scenario.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// The name; the folder of its results.
    pub name: String,
    /// One sentence on what it shows.
    pub about: String,
    /// The seed of all random streams; `--seed` overrides it.
    pub seed: u64,
    /// How long it runs; without it until all work is done.
    pub horizon_seconds: Option<Seconds>,
    /// The interval of `timeline.csv` and `nodes.csv`; without it a thousandth of the horizon.
    pub record_seconds: Option<Seconds>,
    /// When a node offers.
    pub resource_sharing: Sharing,
    /// How the cluster decides.
    pub execution: Execution,
    /// Money.
    pub atp: Atp,
    /// Terms.
    pub lease: Lease,
    /// What is kept of the past.
    pub history: History,
    /// Names of custom resources, in the order of their columns.
    pub resources: Vec<String>,
    /// The pools; without any there is `default` with all nodes.
    pub pools: Vec<Pool>,
    /// Users who may do everything, by name or number on the daemon's machine.
    pub admins: Vec<String>,
    /// The accounts; accounts that only jobs or nodes name are added with weight 1.
    pub accounts: Vec<Account>,
    /// The nodes, unless the trace brings them.
    pub nodes: Vec<Node>,
    /// The owners' load on all nodes that say nothing else.
    pub owner_load: Option<OwnerLoad>,
    /// The work.
    pub jobs: Jobs,
    /// Failures and returns of nodes.
    pub faults: Option<Faults>,
    /// The network between the halves.
    pub network: Option<Network>,
}

/// A pool.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// `all` (that no other pool names), or the names of its nodes.
    #[serde(default)]
    pub nodes: PoolNodes,
    /// Most that may be leased from it at once.
    #[serde(default)]
    pub quota: Option<Quota>,
}

/// The nodes of a pool.
#[derive(Clone, Debug, Default)]
pub enum PoolNodes {
    /// The word `all`: all nodes that no other pool names.
    #[default]
    All,
    /// Names.
    Named(Vec<String>),
}

/// A quota; what is left out is unlimited.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in NAMES.md")]
pub struct Quota {
    pub cpu_cores: Option<Decimal>,
    pub memory_gb: Option<Decimal>,
    pub storage_gb: Option<Decimal>,
    pub gpus: Option<Decimal>,
}

/// An account.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its weight in fair sharing.
    #[serde(default = "one")]
    pub weight: u32,
    /// Credit it starts with.
    #[serde(default)]
    pub deposit_atp: Decimal,
    /// What is its by right; what is left out is not counted, and without any all is on loan.
    #[serde(default)]
    pub quota: Option<Quota>,
    /// Users who act for it, by name or number on the daemon's machine.
    #[serde(default)]
    pub users: Vec<String>,
}

const fn one() -> u32 {
    1
}

/// A node, or several alike.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// Its name; of several the first part, `NAME-1` and on.
    pub name: String,
    /// How many.
    pub count: Option<u32>,
    /// `from_owner_load`: one node per series of the owners' load.
    pub nodes: Option<FromLoad>,
    /// The account that earns; without it `NAME-owner`, one per node, if it has an owner at all.
    pub owner: Option<String>,
    /// Cores.
    pub cores: Decimal,
    /// Memory in GiB.
    pub memory_gb: Decimal,
    /// Storage in GiB.
    pub storage_gb: Decimal,
    /// GPUs.
    pub gpus: u8,
    /// Their model, also the label `gpu_model`.
    pub gpu_model: Option<String>,
    /// Memory of each GPU in GiB.
    pub gpu_memory_gb: Decimal,
    /// Custom resources by name.
    pub resources: BTreeMap<String, u64>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What it is where masters lend nothing (`mode: offload_only`).
    pub role: Role,
    /// Which part of the network it is in: near to what is in the same.
    pub zone: String,
    /// `shared` with its owner, or `none`.
    pub owner_use: OwnerUse,
    /// Its own limits.
    pub resource_sharing: NodeSharing,
    /// Its owner's load.
    pub owner_load: Option<OwnerLoad>,
    /// How the real machine is reached; the simulator needs it not.
    pub ssh: Option<Ssh>,
}

/// How a real machine is reached. What is left out is `ssh`'s own default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ssh {
    /// Name or address; without it the node's name.
    pub host: Option<String>,
    /// The user there.
    pub user: Option<String>,
    /// The private key.
    pub identity_file: Option<String>,
    /// The file of known hosts' keys.
    pub known_hosts: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// Seconds until a connection counts as failed.
    pub connect_timeout: Option<u16>,
    /// The folder of an agent on this very machine, which is reached without SSH.
    pub local: Option<String>,
}

/// What a node is to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It works for others.
    #[default]
    Worker,
    /// Under `mode: offload_only` others work for it.
    Master,
}

/// The word `from_owner_load`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromLoad {
    /// One node per series.
    FromOwnerLoad,
}

/// Whether a node's owner uses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerUse {
    /// Yes.
    #[default]
    Shared,
    /// No: it is dedicated to the pool.
    None,
}

/// Block `nodes[].resource_sharing`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in NAMES.md")]
pub struct NodeSharing {
    pub can_share: Option<bool>,
    pub lend_unpaid: Option<bool>,
    pub max_share_cpu: Option<Decimal>,
    pub max_share_memory_gb: Option<Decimal>,
    pub max_share_gpu: Option<u8>,
    pub priority: Option<Decimal>,
}

/// Where owners' load comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerLoad {
    /// Drawn.
    Generator(LoadGenerator),
    /// Read.
    Trace(Vec<LoadTrace>),
    /// Listed: nothing is used outside the parts.
    List(Vec<LoadPart>),
}

/// What an owner uses for a while.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoadPart {
    /// From then on, in whole seconds.
    pub from: Seconds,
    /// Until then.
    pub to: Seconds,
    /// Compute, 0 to 100.
    pub cpu_percent: Decimal,
    /// Memory, 0 to 100.
    pub memory_percent: Decimal,
    /// Every GPU, 0 to 100.
    pub gpu_percent: Decimal,
}

/// One file of owners' load.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadTrace {
    /// Its layout; without it the content tells.
    #[serde(default)]
    pub format: Option<LoadFormat>,
    /// The file, relative to the scenario's folder.
    pub file: String,
    /// The resource it is about.
    #[serde(default)]
    pub resource: LoadResource,
}

/// Layouts of owners' load.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values are documented in sim/src/trace/series.rs")]
pub enum LoadFormat {
    Planetlab,
    Bitbrains,
    WidePercent,
    WideFraction,
    Long,
}

/// Resources of owners' load.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values name themselves")]
pub enum LoadResource {
    #[default]
    Cpu,
    Memory,
    Gpu,
}

/// The work: a list, a generator, or a trace.
#[derive(Clone, Debug)]
pub enum Jobs {
    /// `generator:` or `trace:`.
    From(Source),
    /// Jobs one by one.
    List(Vec<Job>),
}

impl Default for Jobs {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

/// Where jobs come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Drawn.
    Generator(Generator),
    /// Read.
    Trace(Trace),
}

/// A trace of jobs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// Its format.
    pub format: TraceFormat,
    /// Its files, relative to the scenario's folder: `jobs`, or `nodes` and `tasks` for `openb`.
    pub files: BTreeMap<String, String>,
    /// Draws more tasks until they ask for more than there is (`openb`).
    #[serde(default)]
    pub expand: Option<Expand>,
    /// How many processors the machine of an `swf` log has; all cores of the nodes without it.
    #[serde(default)]
    pub processors: Option<u32>,
    /// GPUs of one node of a `philly` cluster.
    #[serde(default)]
    pub gpus_per_node: Option<u8>,
    /// Cores that come with each GPU of a `philly` job.
    #[serde(default)]
    pub cpu_per_gpu: Option<Decimal>,
    /// Memory in GiB that comes with each GPU of a `philly` job.
    #[serde(default)]
    pub memory_gb_per_gpu: Option<Decimal>,
}

/// Formats of job traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values are documented in the modules of sim/src/trace")]
pub enum TraceFormat {
    Openb,
    Swf,
    Philly,
    Csv,
}

/// How a trace of tasks is expanded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expand {
    /// GPUs asked for, as a multiple of what there is.
    pub gpu_request: Decimal,
    /// Whether the tasks come in a drawn order.
    #[serde(default)]
    pub shuffle: bool,
}

/// What an elastic job can do with. Only CPU can be taken from what runs.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Least {
    /// Cores.
    pub cpu_cores: Decimal,
}

/// One job, or several alike.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Job {
    /// Its name; of several the first part, `NAME-1` and on.
    pub name: String,
    /// How many.
    pub array: Option<u32>,
    /// Who pays.
    pub account: String,
    /// The pool.
    pub pool: Option<String>,
    /// How much it matters.
    pub priority: NamedPriority,
    /// What each member needs.
    pub needs: ClassNeeds,
    /// The least that it can do with while others need the rest.
    pub min: Option<Least>,
    /// Custom resources each member needs.
    pub resources: BTreeMap<String, u64>,
    /// When it is submitted.
    pub submit: Seconds,
    /// How long it runs undisturbed; without it until the run ends.
    pub runs: Option<Seconds>,
    /// Its declared limit.
    pub limit: Option<Seconds>,
    /// From one checkpoint to the next.
    pub checkpoint: Option<Checkpoint>,
    /// Whether it may move to another node although it names no checkpoint.
    pub movable: bool,
    /// Labels the node must have, each with the values allowed.
    pub labels: BTreeMap<String, Vec<String>>,
    /// Nodes to take before any other.
    pub preferred_nodes: Vec<String>,
    /// Nodes never to take.
    pub excluded_nodes: Vec<String>,
    /// What it is, for those that want to be near it or away from it.
    pub tags: Vec<String>,
    /// Each member only where a job with each of these tags runs; one that carries a tag itself may
    /// begin where nothing in its pool does.
    pub affinity: Vec<String>,
    /// Each member only where no job with any of these tags runs.
    pub anti_affinity: Vec<String>,
    /// The node where its data lies, or the zone, for the strategy `near_data`.
    pub near: Option<String>,
    /// Several members that start together.
    pub gang: Option<Gang>,
    /// Most it may cost.
    pub budget_atp: Option<Decimal>,
    /// The highest price that it pays for what it needs, as a multiple of the rates.
    pub max_price: Option<Decimal>,
    /// Longest notice it asks for.
    pub vacate_seconds: Option<Seconds>,
    /// What happens when it cannot start at once.
    pub if_busy: IfBusy,
    /// Whether it stays until it is killed when it is told to leave.
    pub ignores_notice: bool,
    /// Whether it ends with an error.
    pub fails: bool,
    /// What it uses of each GPU while it works, 0 to 100 %; without it that is not known.
    pub gpu_use: Option<Decimal>,
    /// How long after its submission its account cancels it, if it is still there.
    pub cancel: Option<Seconds>,
    /// When it may start at the earliest, from the start of the run.
    pub begin: Option<Seconds>,
    /// Whether a place is kept for it from its beginning on; it must have one, and a limit.
    pub reserve: bool,
    /// Jobs that must complete before it may start, by name: all parts of an array, or one.
    pub after: Vec<String>,
}

/// Checkpoints.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Work between two; zero loses nothing.
    pub interval: Seconds,
    /// Time a restart takes before work goes on.
    #[serde(default)]
    pub restart: Seconds,
}

/// Several members that start together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gang {
    /// How many.
    pub count: u16,
    /// Whether no two may share a node.
    #[serde(default)]
    pub spread: bool,
}

/// Failures and returns of nodes.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Faults {
    /// Drawn.
    Generator(FaultProcess),
    /// Read from this file, relative to the scenario's folder.
    Trace(String),
}
