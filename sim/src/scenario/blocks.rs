//! The blocks of rules in a scenario file. What the numbers mean stands at
//! `core/src/config/mod.rs`.

use crate::decimal::{Decimal, Seconds};
use crate::generate::weather::BlowProcess;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Block `resource_sharing`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in NAMES.md and core/src/config/mod.rs")]
pub struct Sharing {
    pub enabled: Option<bool>,
    pub check_interval: Option<Seconds>,
    pub offer_expiry: Option<Seconds>,
    pub max_offers_per_node: Option<u32>,
    pub thresholds: Gates,
    pub owner: Owner,
}

/// Block `resource_sharing.thresholds`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in NAMES.md and core/src/config/mod.rs")]
pub struct Gates {
    pub gpu_utilization_max: Option<Decimal>,
    pub gpu_memory_min_mb: Option<Decimal>,
    pub memory_percent_max: Option<Decimal>,
    pub memory_min_gb: Option<Decimal>,
    pub cpu_percent_max: Option<Decimal>,
    pub cpu_min_cores: Option<Decimal>,
}

/// Block `resource_sharing.owner`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in NAMES.md and core/src/config/mod.rs")]
pub struct Owner {
    pub lend: Option<LendName>,
    pub idle_before_offer: Option<Seconds>,
    pub vacate_seconds: Vacate,
    pub kill_seconds: Option<Seconds>,
    pub poll_seconds: Option<Seconds>,
    pub busy_latch_seconds: Option<Seconds>,
    pub foreign_gpu_process: Option<ForeignName>,
    pub resume_after: Option<Seconds>,
    pub max_suspend_seconds: Option<Seconds>,
    /// `HH:MM-HH:MM`; a part of the day that ends before it begins goes past midnight.
    pub lend_hours: Option<String>,
}

/// What the owner's work on a lent GPU does.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForeignName {
    /// It takes that GPU back.
    Reclaim,
    /// Nothing.
    Ignore,
}

/// What is lent of a node with an owner.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values are documented in core/src/config/mod.rs")]
pub enum LendName {
    Idle,
    Excess,
}

/// Longest notices when the owner returns.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in NAMES.md and core/src/config/mod.rs")]
pub struct Vacate {
    pub cpu: Option<Seconds>,
    pub gpu: Option<Seconds>,
}

/// Block `execution`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in NAMES.md and core/src/config/mod.rs")]
pub struct Execution {
    pub resource_sharing: Balance,
    pub scheduling: Scheduling,
    pub preemption: Preemption,
    pub fair_share: FairShare,
    pub health: Health,
    pub utilization_policy: Utilization,
}

/// Block `execution.resource_sharing`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in NAMES.md and core/src/config/mod.rs")]
pub struct Balance {
    pub mode: Option<ModeName>,
    pub policy: Option<PolicyName>,
    pub rebalance_interval_seconds: Option<Seconds>,
    pub rebalance: Rebalance,
    pub monitoring_interval_seconds: Option<Seconds>,
    pub horizon_seconds: Option<Seconds>,
    pub margin_step: Option<u16>,
    pub thresholds: Pressures,
}

/// Who lends to whom, and whether running work moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values are documented in core/src/config/rebalance.rs")]
pub enum ModeName {
    OffloadOnly,
    ShareAndOffload,
    DynamicBalancing,
}

/// Block `execution.resource_sharing.rebalance`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in core/src/config/rebalance.rs")]
pub struct Rebalance {
    pub margin: Option<Decimal>,
    pub job_cooldown: Option<Seconds>,
    pub node_cooldown: Option<Seconds>,
    pub max_share: Option<Decimal>,
}

/// The four policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values are documented in core/src/config/mod.rs")]
pub enum PolicyName {
    Conservative,
    Balanced,
    Aggressive,
    Predictive,
}

/// Block `execution.resource_sharing.thresholds`, as parts of 1.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in NAMES.md and core/src/config/mod.rs")]
pub struct Pressures {
    pub cpu_pressure_high: Option<Decimal>,
    pub cpu_pressure_low: Option<Decimal>,
    pub memory_pressure_high: Option<Decimal>,
    pub memory_pressure_low: Option<Decimal>,
    pub gpu_pressure_high: Option<Decimal>,
    pub gpu_pressure_low: Option<Decimal>,
    pub excess_threshold: Option<Decimal>,
}

/// Block `execution.scheduling`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in NAMES.md and core/src/config/mod.rs")]
pub struct Scheduling {
    pub strategy: Option<StrategyName>,
    pub order: Option<OrderName>,
    pub backfill: Option<BackfillName>,
    pub backfill_order: Option<BackfillOrderName>,
    pub estimates: Option<EstimatesName>,
    pub min_confidence: Option<u16>,
    #[serde(deserialize_with = "given")]
    pub ageing: Option<Option<Seconds>>,
    #[serde(deserialize_with = "given")]
    pub starvation_after: Option<Option<Seconds>>,
    pub seed: Option<u64>,
    pub karma: Karma,
}

/// Block `execution.scheduling.karma`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in core/src/config/scheduling.rs")]
pub struct Karma {
    pub quantum: Option<Seconds>,
    pub guaranteed: Option<Decimal>,
    pub initial: Option<u64>,
}

/// The placement strategies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values are documented in core/src/config/mod.rs")]
pub enum StrategyName {
    FirstFit,
    BestFit,
    #[serde(alias = "load_balanced")]
    #[value(alias = "load_balanced")]
    WorstFit,
    Pack,
    DotProduct,
    GpuClustering,
    Random,
    Fgd,
    LocalFirst,
    NearData,
    Headroom,
    Cheapest,
}

/// The orders of the queue.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values are documented in core/src/config/mod.rs")]
pub enum OrderName {
    Fair,
    Drf,
    Karma,
    Fifo,
    EarliestDue,
}

/// What happens behind a blocked job.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values are documented in core/src/config/mod.rs")]
pub enum BackfillName {
    Strict,
    Greedy,
    Easy,
    Conservative,
}

/// In which order jobs are tried behind a blocked one.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values are documented in core/src/config/mod.rs")]
pub enum BackfillOrderName {
    Queue,
    Shortest,
    Smallest,
}

/// By what the end of a job is foreseen. Only a simulation can see the future.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EstimatesName {
    /// By the limit that it was submitted with.
    #[default]
    Requested,
    /// By how long it will really run: that is its limit.
    Clairvoyant,
}

/// Block `execution.preemption`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in NAMES.md and core/src/config/mod.rs")]
pub struct Preemption {
    pub enabled: Option<bool>,
    pub min_gap: Option<u8>,
    pub min_runtime: Option<Seconds>,
    pub grace_seconds: Option<Seconds>,
    pub hold_seconds: Option<Seconds>,
    #[serde(deserialize_with = "given")]
    pub max_per_hour: Option<Option<u32>>,
    pub requeue: Option<bool>,
    #[serde(deserialize_with = "given")]
    pub boost_after: Option<Option<u32>>,
}

/// Tells `null` from a key that is left out.
fn given<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// Block `execution.fair_share`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in NAMES.md and core/src/config/mod.rs")]
pub struct FairShare {
    pub half_life: Option<Seconds>,
    pub weights: Weights,
}

/// Block `execution.health`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in core/src/config/mod.rs")]
pub struct Health {
    #[serde(deserialize_with = "given")]
    pub failures: Option<Option<u32>>,
    pub soon: Option<Seconds>,
    pub window: Option<Seconds>,
    #[serde(deserialize_with = "given")]
    pub nodes: Option<Option<u32>>,
}

/// Block `execution.utilization_policy`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in core/src/config/utilization.rs")]
pub struct Utilization {
    #[serde(deserialize_with = "given")]
    pub warn_after: Option<Option<Seconds>>,
    #[serde(deserialize_with = "given")]
    pub reclaim_after: Option<Option<Seconds>>,
    pub min_gpu_utilization: Option<Decimal>,
}

/// Weights of the dominant share.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in NAMES.md and core/src/config/mod.rs")]
pub struct Weights {
    pub cpu: Option<u32>,
    pub memory: Option<u32>,
    pub gpu: Option<u32>,
}

/// Block `atp`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in NAMES.md and core/src/config/mod.rs")]
pub struct Atp {
    pub enabled: Option<bool>,
    pub price: Option<PricingName>,
    pub on_exhaustion: Option<ExhaustionName>,
    pub fee: Option<Decimal>,
    pub epoch: Option<Seconds>,
    pub grant_fraction: Option<Decimal>,
    #[serde(deserialize_with = "given")]
    pub decay_half_life: Option<Option<Seconds>>,
    pub newcomer: Option<bool>,
    pub caps: Caps,
    /// Resource-milliseconds one ATP buys, by resource: `cpu`, `memory`, `storage`, `gpu`, or the
    /// name of a custom resource.
    pub rates: BTreeMap<String, u64>,
}

/// What capacity costs beside its rate.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values are documented in core/src/config/mod.rs")]
pub enum PricingName {
    Static,
    Dynamic,
}

/// Block `atp.caps`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in core/src/config/caps.rs")]
pub struct Caps {
    #[serde(deserialize_with = "given")]
    pub pool_share: Option<Option<Decimal>>,
    #[serde(deserialize_with = "given")]
    pub leases: Option<Option<u32>>,
    #[serde(deserialize_with = "given")]
    pub open_requests: Option<Option<u32>>,
    #[serde(deserialize_with = "given")]
    pub requests_per_second: Option<Option<u32>>,
    pub burst: Option<u32>,
    #[serde(deserialize_with = "given")]
    pub urgent_share_per_hour: Option<Option<Decimal>>,
}

/// What happens to a job that cannot pay the next term.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values are documented in core/src/config/mod.rs")]
pub enum ExhaustionName {
    Pause,
    Kill,
    ContinueLow,
}

/// Block `lease`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in NAMES.md and core/src/config/mod.rs")]
pub struct Lease {
    pub term_seconds: Option<Seconds>,
    pub stop_seconds: Option<Seconds>,
    pub clock_drift: Option<Decimal>,
}

/// Block `network`: the halves talk over it. Without the block they are joined directly.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Whether there is one.
    pub enabled: bool,
    /// How long a message takes.
    pub latency: Latency,
    /// The part of all messages that is lost.
    pub loss: Decimal,
    /// The part that arrives twice.
    pub duplicate: Decimal,
    /// The part that later ones overtake.
    pub reorder: Decimal,
    /// The most that a node's clock gains or loses.
    pub clock_drift: Decimal,
    /// What else happens, by name.
    pub weather: BTreeMap<String, BlowProcess>,
    /// What else happens, one by one.
    pub blows: Vec<ListedBlow>,
    /// From then on no message is lost, doubled or overtaken, owners use nothing, and the run ends
    /// when all has settled; without it the network stays as it is.
    pub heals: Option<Seconds>,
}

/// Something that happens to the cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedBlow {
    /// When.
    pub at: Seconds,
    /// What, by name.
    pub blow: String,
    /// To which node; the coordinator's own need none.
    #[serde(default)]
    pub node: Option<String>,
    /// For how long.
    #[serde(default)]
    pub lasts: Seconds,
}

impl Default for Network {
    fn default() -> Self {
        let none = Decimal::default();
        Self {
            enabled: true,
            latency: Latency::default(),
            loss: none,
            duplicate: none,
            reorder: none,
            clock_drift: none,
            weather: BTreeMap::new(),
            blows: Vec::new(),
            heals: None,
        }
    }
}

/// How long a message takes: anything between the two.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Latency {
    /// At least.
    pub min: Option<Seconds>,
    /// At most.
    pub max: Option<Seconds>,
}

/// Block `history`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the keys are documented in NAMES.md and core/src/config/mod.rs")]
pub struct History {
    pub samples: Option<u32>,
    pub trend_windows: Option<[Seconds; 3]>,
}
