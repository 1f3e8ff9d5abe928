//! From a scenario to everything a run needs: the core's configuration, a stream of jobs, the
//! owners' load of every node, and faults.

use super::jobs::{jobs, trace_file};
use super::loads::LoadSource;
use super::rules::{cores, gib, rules, scaled};
use super::schema as file;
use super::weather::{read_faults, read_weather};
use super::{Fault, Loaded, ScenarioError, at};
use crate::trace::openb;
use crate::work::{FaultRecord, JobRecord, LoadSeries, NodeRecord, Weather};
use gridcore::bundle::{Bundle, DIMENSIONS, RESOURCES_MAX};
use gridcore::config::{AccountSpec, Config, NodeSpec, PoolSpec};
use gridcore::ids::{AccountId, PoolId};
use gridcore::units::{MicroAtp, MilliGpus, Span, Time};
use std::collections::BTreeMap;

/// What one run needs.
pub struct Setup {
    /// The core's configuration.
    pub config: Config,
    /// The jobs, by submission time.
    pub jobs: Box<dyn Iterator<Item = JobRecord> + Send>,
    /// The account of each index that jobs name.
    pub job_accounts: Vec<AccountId>,
    /// Each node's owner's load.
    pub loads: Vec<NodeLoad>,
    /// Faults, by time.
    pub faults: Vec<FaultRecord>,
    /// The network between the halves; `None` joins them directly.
    pub weather: Option<Weather>,
    /// When the run ends at the latest.
    pub horizon: Option<Time>,
    /// The interval of the recorded tables.
    pub record: Span,
    /// The seed of all random streams.
    pub seed: u64,
    /// The scenario's name.
    pub name: String,
    /// What it shows.
    pub about: String,
}

/// The load of one node's owner.
#[derive(Clone, Debug, Default)]
pub struct NodeLoad {
    /// Compute.
    pub cpu: LoadSeries,
    /// Memory.
    pub memory: LoadSeries,
    /// Each GPU.
    pub gpus: Vec<LoadSeries>,
}

/// The horizon that owners' load is drawn for when a scenario has none.
const LOAD_HORIZON: Span = Span::seconds(7 * 86_400);
/// Builds what one run with one seed needs.
///
/// # Errors
/// The first key, trace or generator that no run can work with.
pub fn build(loaded: &Loaded, seed: u64) -> Result<Setup, ScenarioError> {
    let scenario = &loaded.scenario;
    let fault = |fault: Fault| ScenarioError::Key(loaded.path.clone(), fault);
    super::limits::check(scenario).map_err(fault)?;
    let horizon = scenario.horizon_seconds.map(|h| Time::ZERO.after(h.0));
    let span = horizon.map_or(LOAD_HORIZON, |h| h.since(Time::ZERO));
    let mut config = Config { rules: rules(scenario, seed).map_err(fault)?, ..Config::default() };
    config.resources.clone_from(&scenario.resources);
    let mut names = Names::default();
    for account in &scenario.accounts {
        names.declare(account).map_err(fault)?;
    }
    let traced = trace_nodes(loaded)?;
    let mut loads = Vec::new();
    if let Some(records) = &traced {
        for record in records {
            let owner = names.account("owners");
            config.nodes.push(traced_node(record, owner));
            loads.push(NodeLoad::default());
        }
    }
    let default_load = LoadSource::open(loaded, scenario.owner_load.as_ref())?;
    for (i, node) in scenario.nodes.iter().enumerate() {
        let own = LoadSource::open(loaded, node.owner_load.as_ref())?;
        let source = if node.owner_load.is_some() { &own } else { &default_load };
        let key = format!("nodes.{i}");
        let made = add_nodes(&mut config, &mut names, (&key, node), source).map_err(fault)?;
        for machine in made {
            let load = source.load(seed, machine, node.gpus, span).map_err(fault)?;
            let shared = node.owner_use == file::OwnerUse::Shared;
            loads.push(if shared { load } else { NodeLoad::default() });
        }
    }
    add_pools(&mut config, &scenario.pools).map_err(fault)?;
    let pools = config.pools.iter().map(|pool| pool.name.as_str()).collect();
    let nodes = config.nodes.iter().map(|node| node.name.as_str()).collect();
    super::limits::check_names(scenario, &pools, &nodes).map_err(fault)?;
    let (jobs, accounts) = jobs(loaded, &mut config, traced.as_deref(), (seed, span))?;
    let job_accounts = accounts.iter().map(|name| names.account(name)).collect();
    config.accounts = names.specs;
    config.validate().map_err(|e| fault(at("configuration", e.to_string())))?;
    let mut faults = read_faults(loaded, &config, seed, span)?;
    let record = scenario.record_seconds.map_or_else(|| record_interval(horizon), |s| s.0);
    let rows = super::limits::check_rows(horizon.map(|_| span), record, config.nodes.len());
    rows.map_err(fault)?;
    let (name, about) = (scenario.name.clone(), scenario.about.clone());
    let weather = read_weather(loaded, &mut config, &faults, seed, span)?;
    if weather.is_some() {
        // Over a network they are crashes, which the coordinator finds out by itself.
        faults.clear();
    }
    Ok(Setup {
        config,
        jobs,
        job_accounts,
        loads,
        faults,
        weather,
        horizon,
        record,
        seed,
        name,
        about,
    })
}

/// Returns about a thousandth of the horizon in whole minutes; ten minutes without one.
fn record_interval(horizon: Option<Time>) -> Span {
    let minutes = horizon.map_or(10, |h| h.ms().div_ceil(60_000 * 1_008));
    Span::minutes(minutes.max(1))
}

/// Account names on their way to ids.
#[derive(Default)]
struct Names {
    ids: BTreeMap<String, AccountId>,
    specs: Vec<AccountSpec>,
}

impl Names {
    fn declare(&mut self, said: &file::Account) -> Result<(), Fault> {
        if self.ids.contains_key(&said.name) {
            return Err(at("accounts", format!("{} is named twice", said.name)));
        }
        let deposit = scaled("accounts.deposit_atp", said.deposit_atp, 1_000_000)?;
        let quota = said.quota.as_ref().map(|said| quota("accounts.quota", said)).transpose()?;
        let id = self.account(&said.name);
        if let Some(spec) = usize::try_from(id.get()).ok().and_then(|i| self.specs.get_mut(i)) {
            spec.weight = said.weight;
            spec.deposit = MicroAtp::new(deposit);
            spec.quota = quota;
        }
        Ok(())
    }

    /// Returns the id of a name, which is new with weight 1 and no deposit.
    fn account(&mut self, name: &str) -> AccountId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = AccountId::new(u32::try_from(self.specs.len()).unwrap_or(u32::MAX));
        self.ids.insert(name.to_owned(), id);
        self.specs.push(AccountSpec::new(name, MicroAtp::ZERO));
        id
    }
}

/// Adds one entry of the list of nodes; returns the machine numbers of the nodes it made.
fn add_nodes(
    config: &mut Config,
    names: &mut Names,
    (key, said): (&str, &file::Node),
    source: &LoadSource,
) -> Result<std::ops::Range<u64>, Fault> {
    let spec = node_spec(key, said, &config.resources)?;
    let count = match (said.count, said.nodes) {
        (Some(_), Some(_)) => {
            return Err(at(key, "give count or nodes: from_owner_load, not both".to_owned()));
        }
        (Some(count), None) => count,
        (None, None) => 1,
        (None, Some(file::FromLoad::FromOwnerLoad)) => {
            let series = source.len();
            let hint = "nodes: from_owner_load needs an owner_load trace".to_owned();
            u32::try_from(series.ok_or_else(|| at(key, hint))?).unwrap_or(u32::MAX)
        }
    };
    if config.nodes.len() + count as usize > gridcore::config::NODES_MAX {
        return Err(at(key, "a cluster has at most 100,000 nodes".to_owned()));
    }
    let first = config.nodes.len() as u64;
    let many = said.count.is_some() || said.nodes.is_some();
    for i in 1..=count {
        let name = if many { format!("{}-{i}", said.name) } else { said.name.clone() };
        let owner = match (&said.owner, said.owner_use) {
            (Some(owner), _) => names.account(owner),
            (None, file::OwnerUse::None) => names.account("owners"),
            (None, file::OwnerUse::Shared) => names.account(&format!("{name}-owner")),
        };
        config.nodes.push(NodeSpec { name, owner, ..spec.clone() });
    }
    Ok(first..first + u64::from(count))
}

/// Describes one node of the list, without its name and owner.
fn node_spec(key: &str, said: &file::Node, resources: &[String]) -> Result<NodeSpec, Fault> {
    let sub = |name: &str| format!("{key}.{name}");
    let capacity = Bundle {
        cpu: cores(&sub("cores"), said.cores)?,
        memory: gib(&sub("memory_gb"), said.memory_gb)?,
        storage: gib(&sub("storage_gb"), said.storage_gb)?,
        gpu: MilliGpus::ZERO,
        custom: custom(&sub("resources"), &said.resources, resources)?,
    };
    let mut spec = NodeSpec::dedicated(&said.name, capacity);
    spec = spec.with_gpus(said.gpus, gib(&sub("gpu_memory_gb"), said.gpu_memory_gb)?);
    spec.dedicated = said.owner_use == file::OwnerUse::None;
    spec.master = said.role == file::Role::Master;
    spec.labels.clone_from(&said.labels);
    spec.zone.clone_from(&said.zone);
    if let Some(model) = &said.gpu_model {
        spec.labels.insert("gpu_model".to_owned(), model.clone());
    }
    let limits = &said.resource_sharing;
    super::rules::set(&mut spec.can_share, limits.can_share);
    super::rules::set(&mut spec.lend_unpaid, limits.lend_unpaid);
    let cpu = limits.max_share_cpu.map(|v| cores(&sub("max_share_cpu"), v));
    super::rules::set(&mut spec.share_max.cpu, cpu.transpose()?);
    let memory = limits.max_share_memory_gb.map(|v| gib(&sub("max_share_memory_gb"), v));
    super::rules::set(&mut spec.share_max.memory, memory.transpose()?);
    let gpu = limits.max_share_gpu.map(|n| MilliGpus::new(u64::from(n) * 1_000));
    super::rules::set(&mut spec.share_max.gpu, gpu);
    if let Some(priority) = limits.priority {
        let thousandths = priority.millionths() / 1_000;
        let wrong = |_| at(&sub("priority"), "it is too large".to_owned());
        spec.priority = i32::try_from(thousandths).map_err(wrong)?;
    }
    Ok(spec)
}

/// Returns amounts of custom resources in the order in which the scenario names them.
pub(super) fn custom(
    key: &str,
    said: &BTreeMap<String, u64>,
    resources: &[String],
) -> Result<[u64; RESOURCES_MAX], Fault> {
    let mut out = [0; RESOURCES_MAX];
    for (name, amount) in said {
        let slot = resources.iter().position(|r| r == name).and_then(|i| out.get_mut(i));
        let hint = || format!("name it in the list `resources` first; there are {resources:?}");
        *slot.ok_or_else(|| at(&format!("{key}.{name}"), hint()))? = *amount;
    }
    Ok(out)
}

/// Adds the pools and gives every node to one.
fn add_pools(config: &mut Config, said: &[file::Pool]) -> Result<(), Fault> {
    let mut rest = None;
    for (i, pool) in said.iter().enumerate() {
        let id = PoolId::new(u32::try_from(i).unwrap_or(u32::MAX));
        let said = pool.quota.as_ref();
        let quota = said.map(|said| quota("pools.quota", said)).transpose()?;
        config.pools.push(PoolSpec { name: pool.name.clone(), quota });
        let file::PoolNodes::Named(names) = &pool.nodes else {
            if rest.replace(id).is_some() {
                return Err(at("pools", "only one pool may have nodes: all".to_owned()));
            }
            continue;
        };
        for name in names {
            let node = config.nodes.iter_mut().find(|n| n.name == *name);
            let missing = || at(&format!("pools.{i}.nodes"), format!("there is no node {name}"));
            node.ok_or_else(missing)?.pool = id;
        }
    }
    if said.is_empty() {
        config.pools.push(PoolSpec { name: "default".to_owned(), quota: None });
        rest = Some(PoolId::new(0));
    }
    let named: Vec<&String> = said.iter().filter_map(named_nodes).flatten().collect();
    if let Some(twice) =
        named.iter().enumerate().find(|(i, n)| named.iter().take(*i).any(|m| m == *n))
    {
        return Err(at("pools", format!("node {} is in two pools", twice.1)));
    }
    let named: std::collections::BTreeSet<&String> = named.into_iter().collect();
    for node in config.nodes.iter_mut().filter(|node| !named.contains(&node.name)) {
        let missing = || at("pools", format!("node {} is in no pool", node.name));
        node.pool = rest.ok_or_else(missing)?;
    }
    Ok(())
}

/// Returns the names a pool lists.
fn named_nodes(pool: &file::Pool) -> Option<&Vec<String>> {
    match &pool.nodes {
        file::PoolNodes::Named(names) => Some(names),
        file::PoolNodes::All => None,
    }
}

fn quota(key: &str, said: &file::Quota) -> Result<Bundle, Fault> {
    let mut quota = Bundle::from_amounts([u64::MAX; DIMENSIONS]);
    let key = |name: &str| format!("{key}.{name}");
    let cpu = said.cpu_cores.map(|v| cores(&key("cpu_cores"), v));
    super::rules::set(&mut quota.cpu, cpu.transpose()?);
    let memory = said.memory_gb.map(|v| gib(&key("memory_gb"), v));
    super::rules::set(&mut quota.memory, memory.transpose()?);
    let storage = said.storage_gb.map(|v| gib(&key("storage_gb"), v));
    super::rules::set(&mut quota.storage, storage.transpose()?);
    let gpu = said.gpus.map(|v| scaled(&key("gpus"), v, 1_000).map(MilliGpus::new));
    super::rules::set(&mut quota.gpu, gpu.transpose()?);
    Ok(quota)
}

/// Reads the nodes that a trace brings.
fn trace_nodes(loaded: &Loaded) -> Result<Option<Vec<NodeRecord>>, ScenarioError> {
    let file::Jobs::From(file::Source::Trace(trace)) = &loaded.scenario.jobs else {
        return Ok(None);
    };
    if trace.format != file::TraceFormat::Openb {
        return Ok(None);
    }
    Ok(Some(openb::nodes(&trace_file(loaded, trace, "nodes")?)?))
}

/// Describes a node of a trace: dedicated, since the trace knows no owners.
fn traced_node(record: &NodeRecord, owner: AccountId) -> NodeSpec {
    let needs = record.capacity;
    let mut spec = NodeSpec::dedicated(&record.name, needs.bundle());
    spec = spec.with_gpus(needs.gpus.count, needs.gpus.memory);
    spec.owner = owner;
    if !record.gpu_model.is_empty() {
        spec.labels.insert("gpu_model".to_owned(), record.gpu_model.to_string());
    }
    spec
}
