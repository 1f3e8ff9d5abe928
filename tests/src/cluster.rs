//! Small configurations by hand: accounts, pools, dedicated nodes and nodes with owners.

use gridcore::bundle::{Bundle, GpuNeed, Needs};
use gridcore::command::{GpuSample, JobSpec, Sample};
use gridcore::config::{
    AccountSpec, Backfill, Config, Mode, NodeSpec, Order, PoolSpec, Preemption, Rules, Scheduling,
};
use gridcore::ids::{AccountId, PoolId};
use gridcore::units::{BasisPoints, Bytes, MicroAtp, MilliCores, PerMille, Ppm, Span};

/// A configuration under construction.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// What has been described so far.
    pub config: Config,
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

impl Cluster {
    /// Begins with one pool `main`, one account `lab` without credit, no node, and plain rules.
    #[must_use]
    pub fn new() -> Self {
        let config = Config { rules: plain_rules(), ..Config::default() };
        Self { config }.pool("main", None).account("lab", 0)
    }

    /// Adds a pool.
    #[must_use]
    pub fn pool(mut self, name: &str, quota: Option<Bundle>) -> Self {
        self.config.pools.push(PoolSpec { name: String::from(name), quota });
        self
    }

    /// Adds an account with a deposit in whole ATP.
    #[must_use]
    pub fn account(mut self, name: &str, atp: u64) -> Self {
        let deposit = MicroAtp::whole(atp);
        self.config.accounts.push(AccountSpec::new(name, deposit));
        self
    }

    /// Adds `count` dedicated nodes of these cores and GiB, owned by the first account.
    #[must_use]
    pub fn dedicated(self, count: u32, cores: u32, gib: u32) -> Self {
        (0..count).fold(self, |cluster, _| {
            let name = format!("d{}", cluster.config.nodes.len());
            cluster.node(NodeSpec::dedicated(&name, hardware(cores, gib)))
        })
    }

    /// Adds `count` nodes whose owner uses them too, with this many GPUs of 24 GiB.
    #[must_use]
    pub fn owned(self, count: u32, cores: u32, gib: u32, gpus: u8) -> Self {
        (0..count).fold(self, |cluster, _| {
            let name = format!("w{}", cluster.config.nodes.len());
            let spec = NodeSpec::dedicated(&name, hardware(cores, gib));
            let spec = spec.with_gpus(gpus, Bytes::gib(24));
            cluster.node(NodeSpec { dedicated: false, ..spec })
        })
    }

    /// Adds a node.
    #[must_use]
    pub fn node(mut self, spec: NodeSpec) -> Self {
        self.config.nodes.push(spec);
        self
    }

    /// Changes the rules.
    #[must_use]
    pub fn rules(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        change(&mut self.config.rules);
        self
    }
}

/// Rules without money and preemption, first in, first out: what most tests start from.
#[must_use]
pub fn plain_rules() -> Rules {
    let mut rules = Rules {
        scheduling: Scheduling {
            order: Order::Fifo,
            backfill: Backfill::Greedy,
            ageing: None,
            starvation_after: None,
            ..Scheduling::default()
        },
        preemption: Preemption {
            enabled: false,
            grace: Span::ZERO,
            hold: Span::seconds(60),
            ..Preemption::default()
        },
        ..Rules::default()
    };
    rules.offering.kill = Span::ZERO;
    rules.rebalance.mode = Mode::ShareAndOffload;
    rules.atp.enabled = false;
    (rules.caps.urgent_share, rules.caps.pool_share) = (None, None);
    (rules.caps.leases, rules.caps.open_requests) = (None, None);
    rules.caps.requests_per_second = None;
    rules.atp.grant_fraction = Ppm::ZERO;
    rules
}

/// Cores, GiB of memory, and 100 GiB of storage.
#[must_use]
pub fn hardware(cores: u32, gib: u32) -> Bundle {
    Bundle {
        cpu: MilliCores::whole(cores),
        memory: Bytes::gib(gib),
        storage: Bytes::gib(100),
        ..Bundle::ZERO
    }
}

/// A job of whole cores in the first pool.
#[must_use]
pub fn cpu_job(cores: u32) -> JobSpec {
    let mut spec = JobSpec { pool: PoolId::new(0), ..JobSpec::default() };
    spec.needs.cpu = MilliCores::whole(cores);
    spec
}

/// A sample of an owner who uses this many percent of CPU and memory and no GPU.
#[must_use]
pub fn load(cpu: u16, memory: u16, gpus: usize) -> Sample {
    Sample {
        cpu: BasisPoints::percent(cpu),
        memory: BasisPoints::percent(memory),
        gpus: vec![GpuSample::default(); gpus],
    }
}

/// The account that [`Cluster::new`] begins with.
pub const LAB: AccountId = AccountId::new(0);

/// Builds the needs of one member from small numbers.
#[must_use]
pub fn needs_of((cores, gib, gpus, share, license): (u32, u32, u8, u16, u64), n: u16) -> Needs {
    let mut needs =
        Needs { cpu: MilliCores::whole(cores), memory: Bytes::gib(gib), ..Needs::default() };
    let part = match share {
        0 => 250,
        1 => 500,
        2 => 334,
        _ => 1_000,
    };
    if gpus > 0 {
        let memory = if n.is_multiple_of(3) { Bytes::gib(u32::from(n % 9)) } else { Bytes::ZERO };
        needs.gpus = GpuNeed { count: gpus, share: PerMille::new(part), memory };
    } else if n.is_multiple_of(89) {
        needs.gpus.share = PerMille::new(part);
    }
    if n.is_multiple_of(7) {
        needs.custom[0] = license;
    }
    needs
}
