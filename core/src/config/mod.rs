//! The rules as numbers: everything an administrator may set, in integers.
//!
//! [`Config`] describes a cluster once; its [`Rules`] may change while it runs (a journaled
//! `Configure`), the rest may not. Defaults are those of RULES.md and CREDITS.md;
//! [`Config::validate`] refuses what no rule can work with. Reading a file is not done here: the
//! schema lives in the simulator, which turns decimals into these integers from their text.

mod caps;
mod health;
mod offering;
mod preemption;
mod rebalance;
mod scheduling;
mod utilization;
mod validate;

pub use caps::Caps;
pub use health::Health;
pub use offering::{Gates, Hours, Lend, Offering, Watch};
pub use preemption::Preemption;
pub use rebalance::{Mode, Rebalance};
pub use scheduling::{
    Backfill, BackfillOrder, FGD_CLASSES_MAX, Karma, Order, Scheduling, Strategy, TaskClass,
};
pub use utilization::Utilization;
pub use validate::{ConfigError, is_name};

use crate::bundle::Bundle;
use crate::ids::{AccountId, PoolId};
use crate::units::{BasisPoints, Bytes, MicroAtp, Ppm, Span};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Most nodes of one cluster.
pub const NODES_MAX: usize = 100_000;
/// Most accounts of one cluster.
pub const ACCOUNTS_MAX: usize = 10_000;
/// Most pools of one cluster.
pub const POOLS_MAX: usize = 1_000;
/// Most jobs that wait or run at once.
pub const JOBS_MAX: usize = 4_000_000;
/// Most members of one gang.
pub const MEMBERS_MAX: u16 = 1_024;
/// Most credit that there may be at once, which is what was minted less what was burned: no sum of
/// balances can pass 64 bits.
pub const MINTED_MAX: MicroAtp = MicroAtp::new(1 << 63);
/// Most credit one account may have.
pub const BALANCE_MAX: MicroAtp = MicroAtp::new(1 << 62);

/// A cluster and the rules it runs by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The rules, which may change under way.
    pub rules: Rules,
    /// The cluster: what a message must name, so that two clusters never mix.
    pub cluster: u64,
    /// Whether the halves talk over a network; else they are joined directly.
    pub network: bool,
    /// Names of the custom resources, at most [`crate::bundle::RESOURCES_MAX`].
    pub resources: Vec<String>,
    /// The pools; a node lends to the one it names.
    pub pools: Vec<PoolSpec>,
    /// The accounts.
    pub accounts: Vec<AccountSpec>,
    /// The nodes.
    pub nodes: Vec<NodeSpec>,
}

/// A pool: a named set of nodes with a quota on what is leased from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSpec {
    /// Unique name.
    pub name: String,
    /// Most that may be leased at once, over all nodes of the pool; `None` is unlimited.
    pub quota: Option<Bundle>,
}

/// An account: who pays and earns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSpec {
    /// Unique name.
    pub name: String,
    /// Its weight in fair sharing, at least 1.
    pub weight: u32,
    /// Credit it starts with.
    pub deposit: MicroAtp,
    /// What is its by right over all pools; what it holds above that is on loan and may be recalled
    /// by an account within its own. `None` guarantees nothing: all it holds is on loan.
    pub quota: Option<Bundle>,
}

impl AccountSpec {
    /// Returns an account of weight 1 with a deposit and no guarantee.
    #[must_use]
    pub fn new(name: &str, deposit: MicroAtp) -> Self {
        Self { name: String::from(name), weight: 1, deposit, quota: None }
    }
}

/// A machine with an owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Unique name.
    pub name: String,
    /// The account that earns what the node lends.
    pub owner: AccountId,
    /// The pool it lends to.
    pub pool: PoolId,
    /// Hardware; the GPU amount must be 1,000 per entry of `gpus`.
    pub capacity: Bundle,
    /// Video memory of each GPU.
    pub gpus: Vec<Bytes>,
    /// Labels that jobs may ask for.
    pub labels: BTreeMap<String, String>,
    /// Which part of the network it is in, at most 253 bytes: near to what is in the same. Empty is
    /// near to itself only.
    pub zone: String,
    /// Whether nobody but the pool uses it: no buffer, gates, growth limit or offer expiry.
    pub dedicated: bool,
    /// Whether it is a master: under [`Mode::OffloadOnly`] it lends nothing.
    pub master: bool,
    /// Whether it may lend at all.
    pub can_share: bool,
    /// Whether a job that can no longer pay may stay on it, unpaid, until somebody else needs it.
    pub lend_unpaid: bool,
    /// Most it may lend at once; `None` in a dimension is unlimited.
    pub share_max: Bundle,
    /// Orders nodes that score the same: higher lends first.
    pub priority: i32,
}

impl NodeSpec {
    /// Returns a dedicated node of the first pool with this hardware and no GPU.
    #[must_use]
    pub fn dedicated(name: &str, capacity: Bundle) -> Self {
        Self {
            name: String::from(name),
            owner: AccountId::new(0),
            pool: PoolId::new(0),
            capacity,
            gpus: Vec::new(),
            labels: BTreeMap::new(),
            zone: String::new(),
            dedicated: true,
            master: false,
            can_share: true,
            lend_unpaid: false,
            share_max: Bundle::from_amounts([u64::MAX; crate::bundle::DIMENSIONS]),
            priority: 1_000,
        }
    }

    /// Returns whether the node lends anything in a mode.
    #[must_use]
    pub fn lends(&self, mode: Mode) -> bool {
        self.can_share && !(self.master && mode == Mode::OffloadOnly)
    }

    /// Returns the same node with `count` GPUs of `memory` each.
    #[must_use]
    pub fn with_gpus(mut self, count: u8, memory: Bytes) -> Self {
        self.gpus = alloc::vec![memory; usize::from(count)];
        self.capacity.gpu = crate::units::MilliGpus::new(u64::from(count) * 1_000);
        self
    }
}

/// The rules that may change while the cluster runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// When a node offers.
    pub offering: Offering,
    /// How its owner's load is predicted and its pressure judged.
    pub balance: Balance,
    /// Who lends to whom, and when running work moves.
    pub rebalance: Rebalance,
    /// Who goes next, and where.
    pub scheduling: Scheduling,
    /// Who must make way.
    pub preemption: Preemption,
    /// How past use counts.
    pub fair_share: FairShare,
    /// When a node or a job counts as broken.
    pub health: Health,
    /// What becomes of leases that leave their GPUs idle.
    pub utilization: Utilization,
    /// Money.
    pub atp: Atp,
    /// What nobody may have more of.
    pub caps: Caps,
    /// The length of a term: hold, price lock and permission at once (10 to 300 s).
    pub term: Term,
    /// How long running leases go on without the coordinator after it was stopped (0 to 24 h), as
    /// far as their credit allows.
    pub stop: Stop,
    /// The most that the clocks of nodes and coordinator drift.
    pub drift: Drift,
}

/// How long running leases go on after a clean stop of the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stop(pub Span);

impl Default for Stop {
    fn default() -> Self {
        Self(Span::seconds(3_600))
    }
}

/// The most that a clock drifts, below 50 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Drift(pub Ppm);

impl Default for Drift {
    fn default() -> Self {
        Self(Ppm::new(50_000))
    }
}

impl Rules {
    /// Returns how long a node may be silent before it counts as unreachable.
    #[must_use]
    pub fn silence(&self) -> Span {
        Span::new(self.balance.monitoring_interval.get().saturating_mul(3))
    }

    /// Returns whether any cap is on what one account has, which its reputation scales.
    #[must_use]
    pub fn caps_accounts(&self) -> bool {
        let Caps { pool_share, leases, open_requests, requests_per_second, .. } = &self.caps;
        let counts = [leases, open_requests, requests_per_second];
        self.atp.enabled && (pool_share.is_some() || counts.iter().any(|cap| cap.is_some()))
    }

    /// Returns whether an account's part of a pool is capped.
    #[must_use]
    pub fn caps_shares(&self) -> bool {
        self.atp.enabled && self.caps.pool_share.is_some()
    }

    /// Returns the time between two looks at an owner.
    #[must_use]
    pub fn poll(&self) -> Span {
        self.offering.poll.min(self.balance.monitoring_interval)
    }

    /// Returns the rules by which a node watches its owner. A permission is counted from a
    /// heartbeat, so there are at least four of them in a term.
    #[must_use]
    pub fn watch(&self) -> Watch {
        let quarter = Span::new(self.term.0.get() / 4);
        let interval = self.balance.monitoring_interval.min(quarter);
        Watch { offering: self.offering.clone(), interval }
    }
}

/// Block `execution.resource_sharing`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Which peak of the owner's load is kept free.
    pub policy: Policy,
    /// Time between two samples.
    pub monitoring_interval: Span,
    /// Pressure limits of CPU, memory and GPU above which a node is under high pressure.
    pub high: [BasisPoints; 3],
    /// Pressure limits of CPU, memory and GPU below which a node is under low pressure.
    pub low: [BasisPoints; 3],
    /// A resource is lent only while at least this part is predicted to be left over.
    pub excess_threshold: BasisPoints,
    /// How far ahead a prediction looks.
    pub horizon: Span,
    /// The step k of the adaptive margin, in basis points.
    pub margin_step: u16,
    /// Windows of the trends, shortest first.
    pub trend_windows: [Span; 3],
    /// Most runs of equal samples kept per node for its trends.
    pub samples_max: u32,
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            policy: Policy::Balanced,
            monitoring_interval: Span::seconds(10),
            high: [BasisPoints::percent(80); 3],
            low: [BasisPoints::percent(30); 3],
            excess_threshold: BasisPoints::percent(20),
            horizon: Span::seconds(300),
            margin_step: 3,
            trend_windows: [Span::minutes(5), Span::minutes(15), Span::minutes(60)],
            samples_max: 8_640,
        }
    }
}

/// Which peak of the owner's load is kept free (RULES.md section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Policy {
    /// The maximum of 24 hours, margin 199:1.
    Conservative,
    /// The maximum of one hour, margin 49:1.
    Balanced,
    /// The last sample, margin 19:1.
    Aggressive,
    /// The larger of moving average plus two deviations and the profile of the day, margin 49:1.
    Predictive,
}

/// Block `fair_share`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FairShare {
    /// Past use counts half after this long.
    pub half_life: Span,
    /// Weights of CPU, memory and GPU in the dominant share.
    pub weights: [u32; 3],
}

impl Default for FairShare {
    fn default() -> Self {
        Self { half_life: Span::seconds(7 * 86_400), weights: [1, 1, 10] }
    }
}

/// Block `atp`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Atp {
    /// Whether money moves at all.
    pub enabled: bool,
    /// What capacity costs beside its rate.
    pub price: Pricing,
    /// What happens to a job whose account cannot pay the next term.
    pub on_exhaustion: Exhaustion,
    /// The part of a settled cost that goes to the treasury.
    pub fee: Ppm,
    /// How often credit is granted and decays (10 s to one day).
    pub epoch: Span,
    /// The part of the base value of proven capacity on offer that is granted per epoch (0 to 1).
    /// Nothing: none is granted, decays, or is capped.
    pub grant_fraction: Ppm,
    /// What lies above an account's daily grant halves in so long (at least 60 s); `None` never.
    pub decay_half_life: Option<Span>,
    /// Whether who first honours a lease is given what active accounts have on average.
    pub newcomer: bool,
    /// Resource-milliseconds that one ATP buys: CPU, memory, storage, GPU, custom ...
    /// Zero makes a resource free.
    pub rates: [u64; crate::bundle::DIMENSIONS],
}

impl Default for Atp {
    fn default() -> Self {
        let mut rates = [0; crate::bundle::DIMENSIONS];
        let fixed = [1_000_000, 100_000_000 * 60_000, 1_000_000_000 * 600_000, 100_000];
        for (slot, rate) in rates.iter_mut().zip(fixed) {
            *slot = rate;
        }
        Self {
            enabled: true,
            price: Pricing::Static,
            on_exhaustion: Exhaustion::Pause,
            fee: Ppm::new(50_000),
            epoch: Span::seconds(300),
            grant_fraction: Ppm::new(700_000),
            decay_half_life: Some(Span::seconds(7 * 86_400)),
            newcomer: true,
            rates,
        }
    }
}

impl Atp {
    /// Returns whether prices move.
    #[must_use]
    pub fn is_dynamic(&self) -> bool {
        self.enabled && self.price == Pricing::Dynamic
    }
}

/// What capacity costs beside its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Pricing {
    /// Its rate, always.
    Static,
    /// A multiple of it that follows utilisation, per pool and resource (see [`crate::price`]).
    Dynamic,
}

/// What happens to a job whose account cannot pay the next term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exhaustion {
    /// It vacates and waits for credit; if all its work is lost by that, longer than before (see
    /// [`Setback`](crate::jobs::Setback)).
    Pause,
    /// It ends.
    Kill,
    /// It goes on unpaid, as the lowest of all, and makes way for anyone who pays, where all the
    /// nodes that it is lent allow that ([`NodeSpec::lend_unpaid`]); else it vacates and waits.
    ContinueLow,
}

/// The length of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub Span);

impl Default for Term {
    fn default() -> Self {
        Self(Span::seconds(300))
    }
}
