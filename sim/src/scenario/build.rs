//! From a scenario to everything a run needs: the core's configuration, a stream of jobs, the
//! owners' load of every node, and faults.

use super::rules::{cores, gib, rules, scaled};
use super::schema as file;
use super::{Fault, Loaded, ScenarioError, at};
use crate::generate::{self, jobs::stream_jobs};
use crate::trace::series::{Format, OwnerLoad, Resource, detect, loads};
use crate::trace::{faults, openb, philly, swf, table};
use crate::work::{FaultRecord, JobExtra, JobRecord, LoadSeries, NodeRecord};
use gridcore::bundle::{Bundle, DIMENSIONS, Needs, RESOURCES_MAX};
use gridcore::config::{AccountSpec, Config, NodeSpec, PoolSpec, Strategy, TaskClass};
use gridcore::ids::{AccountId, PoolId};
use gridcore::units::{MicroAtp, MilliGpus, Ppm, Span, Time};
use std::collections::BTreeMap;
use std::path::Path;

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
/// Machine numbers of the further GPUs of a node lie above those of the nodes.
const GPU_MACHINES: u64 = 1 << 32;

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
    let faults = read_faults(loaded, &config, seed, span)?;
    let record = scenario.record_seconds.map_or_else(|| record_interval(horizon), |s| s.0);
    let rows = super::limits::check_rows(horizon.map(|_| span), record, config.nodes.len());
    rows.map_err(fault)?;
    let (name, about) = (scenario.name.clone(), scenario.about.clone());
    Ok(Setup { config, jobs, job_accounts, loads, faults, horizon, record, seed, name, about })
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
        let id = self.account(&said.name);
        if let Some(spec) = usize::try_from(id.get()).ok().and_then(|i| self.specs.get_mut(i)) {
            spec.weight = said.weight;
            spec.deposit = MicroAtp::new(deposit);
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
        let deposit = MicroAtp::ZERO;
        self.specs.push(AccountSpec { name: name.to_owned(), weight: 1, deposit });
        id
    }
}

/// Where the load of some nodes' owners comes from.
enum LoadSource {
    Nothing,
    Drawn(generate::load::LoadGenerator),
    Read(Vec<OwnerLoad>),
}

impl LoadSource {
    fn open(loaded: &Loaded, said: Option<&file::OwnerLoad>) -> Result<Self, ScenarioError> {
        match said {
            None => Ok(Self::Nothing),
            Some(file::OwnerLoad::Generator(generator)) => Ok(Self::Drawn(generator.clone())),
            Some(file::OwnerLoad::Trace(files)) => {
                let mut all: Vec<OwnerLoad> = Vec::new();
                for one in files {
                    merge(&mut all, read_loads(&loaded.file(&one.file), one)?);
                }
                Ok(Self::Read(all))
            }
        }
    }

    /// Returns how many series there are to give nodes to.
    fn len(&self) -> Option<usize> {
        match self {
            Self::Nothing | Self::Drawn(_) => None,
            Self::Read(all) => Some(all.len()),
        }
    }

    fn load(&self, seed: u64, machine: u64, gpus: u8, span: Span) -> Result<NodeLoad, Fault> {
        match self {
            Self::Nothing => Ok(NodeLoad::default()),
            Self::Read(all) => {
                let pick = |n: u64| all.get(usize::try_from(n).unwrap_or(0) % all.len().max(1));
                let Some(own) = pick(machine) else { return Ok(NodeLoad::default()) };
                let gpu = |g: u8| pick(machine * u64::from(gpus) + u64::from(g));
                let gpus = (0..gpus).filter_map(gpu).map(|load| load.gpu.clone()).collect();
                Ok(NodeLoad { cpu: own.cpu.clone(), memory: own.memory.clone(), gpus })
            }
            Self::Drawn(generator) => {
                let wrong = |e: generate::GenerateError| at("owner_load.generator", e.to_string());
                let own = generator.load(seed, machine, span).map_err(wrong)?;
                let only_gpu = generate::load::LoadGenerator {
                    cpu: None,
                    memory: None,
                    gpu: generator.gpu.clone(),
                };
                let mut series = Vec::new();
                for g in 0..gpus {
                    let number = GPU_MACHINES + machine * 64 + u64::from(g);
                    series.push(only_gpu.load(seed, number, span).map_err(wrong)?.gpu);
                }
                Ok(NodeLoad { cpu: own.cpu, memory: own.memory, gpus: series })
            }
        }
    }
}

/// Adds the resources of a further file to the machines read so far, place by place.
fn merge(all: &mut Vec<OwnerLoad>, more: Vec<OwnerLoad>) {
    if all.is_empty() {
        *all = more;
        return;
    }
    let len = more.len().max(1);
    for (i, load) in all.iter_mut().enumerate() {
        let Some(other) = more.get(i % len) else { continue };
        for (mine, theirs) in [
            (&mut load.cpu, &other.cpu),
            (&mut load.memory, &other.memory),
            (&mut load.gpu, &other.gpu),
        ] {
            if mine.values.is_empty() {
                mine.clone_from(theirs);
            }
        }
    }
}

fn read_loads(path: &Path, said: &file::LoadTrace) -> Result<Vec<OwnerLoad>, ScenarioError> {
    let format = match said.format {
        Some(file::LoadFormat::Planetlab) => Format::Planetlab,
        Some(file::LoadFormat::Bitbrains) => Format::Bitbrains,
        Some(file::LoadFormat::WidePercent) => Format::WidePercent,
        Some(file::LoadFormat::WideFraction) => Format::WideFraction,
        Some(file::LoadFormat::Long) => Format::Long,
        None => detect(path)?,
    };
    let resource = match said.resource {
        file::LoadResource::Cpu => Resource::Cpu,
        file::LoadResource::Memory => Resource::Memory,
        file::LoadResource::Gpu => Resource::Gpu,
    };
    Ok(loads(path, format, resource)?)
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
    spec.labels.clone_from(&said.labels);
    if let Some(model) = &said.gpu_model {
        spec.labels.insert("gpu_model".to_owned(), model.clone());
    }
    let limits = &said.resource_sharing;
    super::rules::set(&mut spec.can_share, limits.can_share);
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
fn custom(
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
        let quota = pool.quota.as_ref().map(quota).transpose()?;
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

fn quota(said: &file::Quota) -> Result<Bundle, Fault> {
    let mut quota = Bundle::from_amounts([u64::MAX; DIMENSIONS]);
    let cpu = said.cpu_cores.map(|v| cores("pools.quota.cpu_cores", v));
    super::rules::set(&mut quota.cpu, cpu.transpose()?);
    let memory = said.memory_gb.map(|v| gib("pools.quota.memory_gb", v));
    super::rules::set(&mut quota.memory, memory.transpose()?);
    let storage = said.storage_gb.map(|v| gib("pools.quota.storage_gb", v));
    super::rules::set(&mut quota.storage, storage.transpose()?);
    let gpu = said.gpus.map(|v| scaled("pools.quota.gpus", v, 1_000).map(MilliGpus::new));
    super::rules::set(&mut quota.gpu, gpu.transpose()?);
    Ok(quota)
}

/// Returns the path of a trace's file.
fn trace_file(
    loaded: &Loaded,
    trace: &file::Trace,
    name: &str,
) -> Result<std::path::PathBuf, ScenarioError> {
    let missing = || {
        let what = format!("this format needs `{name}: FILE` (or --trace {name}=FILE)");
        ScenarioError::Key(loaded.path.clone(), at("jobs.trace.files", what))
    };
    trace.files.get(name).map(|f| loaded.file(f)).ok_or_else(missing)
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

/// A stream of jobs and the names of their accounts.
type JobStream = (Box<dyn Iterator<Item = JobRecord> + Send>, Vec<Box<str>>);

/// Opens the stream of jobs.
fn jobs(
    loaded: &Loaded,
    config: &mut Config,
    nodes: Option<&[NodeRecord]>,
    (seed, span): (u64, Span),
) -> Result<JobStream, ScenarioError> {
    match &loaded.scenario.jobs {
        file::Jobs::List(list) => {
            let fault = |fault| ScenarioError::Key(loaded.path.clone(), fault);
            let (jobs, accounts) = listed(list, &config.resources).map_err(fault)?;
            Ok((Box::new(jobs.into_iter()), accounts))
        }
        file::Jobs::From(file::Source::Generator(generator)) => {
            let wrong = |e: generate::GenerateError| {
                ScenarioError::Key(loaded.path.clone(), at("jobs.generator", e.to_string()))
            };
            // Without a horizon a number of jobs ends the stream.
            let endless = loaded.scenario.horizon_seconds.is_none() && generator.jobs.is_some();
            let span = if endless { Span::MAX } else { span };
            let (accounts, jobs) = stream_jobs(generator, seed, span).map_err(wrong)?;
            Ok((Box::new(jobs), accounts))
        }
        file::Jobs::From(file::Source::Trace(trace)) => {
            let workload = traced_jobs(loaded, trace, nodes.unwrap_or(&[]), (seed, config))?;
            let known = super::limits::check_traced(&workload.jobs, &config.pools);
            known.map_err(|fault| ScenarioError::Key(loaded.path.clone(), fault))?;
            Ok((Box::new(workload.jobs.into_iter()), workload.accounts))
        }
    }
}

/// Reads the jobs of a trace.
fn traced_jobs(
    loaded: &Loaded,
    trace: &file::Trace,
    nodes: &[NodeRecord],
    (seed, config): (u64, &mut Config),
) -> Result<crate::work::Workload, ScenarioError> {
    let fault = |fault| ScenarioError::Key(loaded.path.clone(), fault);
    match trace.format {
        file::TraceFormat::Openb => {
            let path = trace_file(loaded, trace, "tasks")?;
            let tasks = openb::tasks(&path, &openb::QosPriorities::default())?.workload;
            if config.rules.scheduling.strategy == Strategy::Fgd {
                config.rules.scheduling.fgd_classes = task_classes(&tasks.jobs);
            }
            let Some(expand) = &trace.expand else { return Ok(tasks) };
            let ratio = scaled("jobs.trace.expand.gpu_request", expand.gpu_request, 1_000_000);
            let ratio = u32::try_from(ratio.map_err(fault)?).unwrap_or(u32::MAX);
            let capacity = openb::gpu_capacity(nodes);
            let fill = openb::Fill { capacity, ratio: Ppm::new(ratio), shuffle: expand.shuffle };
            Ok(openb::expand(&tasks, &fill, seed))
        }
        file::TraceFormat::Swf => {
            let needed = "jobs.trace.processors";
            let missing = || fault(at(needed, "an swf log needs its processor count".to_owned()));
            let processors = trace.processors.ok_or_else(missing)?;
            Ok(swf::jobs(&trace_file(loaded, trace, "jobs")?, processors)?.workload)
        }
        file::TraceFormat::Philly => {
            let mut shape = philly::Shape::default();
            super::rules::set(&mut shape.gpus_per_node, trace.gpus_per_node);
            let cpu = trace.cpu_per_gpu.map(|v| cores("jobs.trace.cpu_per_gpu", v));
            super::rules::set(&mut shape.cpu_per_gpu, cpu.transpose().map_err(fault)?);
            let memory = trace.memory_gb_per_gpu.map(|v| gib("jobs.trace.memory_gb_per_gpu", v));
            super::rules::set(&mut shape.memory_per_gpu, memory.transpose().map_err(fault)?);
            Ok(philly::jobs(&trace_file(loaded, trace, "jobs")?, &shape)?.workload)
        }
        file::TraceFormat::Csv => Ok(table::jobs(&trace_file(loaded, trace, "jobs")?)?.workload),
    }
}

/// Returns the most frequent task classes that together cover 95 % of the tasks (TRUTHS.md
/// section 2), at most as many as the core takes.
#[must_use]
pub fn task_classes(jobs: &[JobRecord]) -> Vec<TaskClass> {
    let mut counts: BTreeMap<TaskClass, u32> = BTreeMap::new();
    for job in jobs {
        let mut gpus = job.needs.gpus;
        gpus.memory = gridcore::units::Bytes::ZERO;
        let models = job.gpu_models.iter().map(ToString::to_string).collect();
        let class = TaskClass { cpu: job.needs.cpu, gpus, models, count: 0 };
        *counts.entry(class).or_insert(0) += 1;
    }
    let mut ranked: Vec<(u32, TaskClass)> = counts.into_iter().map(|(c, n)| (n, c)).collect();
    ranked.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let mut covered = 0_usize;
    let mut out = Vec::new();
    for (count, class) in ranked {
        if covered * 100 >= jobs.len() * 95 || out.len() >= gridcore::config::FGD_CLASSES_MAX {
            break;
        }
        covered += count as usize;
        out.push(TaskClass { count, ..class });
    }
    out
}

/// Turns a list of jobs into records, by submission time.
fn listed(
    list: &[file::Job],
    resources: &[String],
) -> Result<(Vec<JobRecord>, Vec<Box<str>>), Fault> {
    let mut accounts: Vec<Box<str>> = Vec::new();
    let mut jobs = Vec::new();
    for (i, job) in list.iter().enumerate() {
        let key = format!("jobs.{i}");
        let account: &str =
            if job.account.is_empty() { table::DEFAULT_ACCOUNT } else { &job.account };
        let index = accounts.iter().position(|a| **a == *account).unwrap_or_else(|| {
            accounts.push(account.into());
            accounts.len() - 1
        });
        let record = listed_job(&key, job, resources)?;
        for n in 1..=job.array.unwrap_or(1) {
            let name =
                if job.array.is_some() { format!("{}-{n}", job.name) } else { job.name.clone() };
            let account = u32::try_from(index).unwrap_or(u32::MAX);
            jobs.push(JobRecord { name: name.into(), account, ..record.clone() });
        }
    }
    jobs.sort_by_key(|job| job.submit);
    Ok((jobs, accounts))
}

/// Turns one job of a list into a record.
fn listed_job(key: &str, job: &file::Job, resources: &[String]) -> Result<JobRecord, Fault> {
    let wrong = |e: generate::GenerateError| at(&e.key, e.what.into());
    let mut needs: Needs = job.needs.needs(key).map_err(wrong)?;
    needs.custom = custom(&format!("{key}.resources"), &job.resources, resources)?;
    let budget = job.budget_atp.map(|b| scaled(&format!("{key}.budget_atp"), b, 1_000_000));
    let extra = JobExtra {
        labels: job.labels.clone().into_iter().collect(),
        preferred: job.preferred_nodes.clone(),
        spread: job.gang.as_ref().is_some_and(|gang| gang.spread),
        budget: budget.transpose()?.map(MicroAtp::new),
        vacate: job.vacate_seconds.map(|s| s.0),
        restart: job.checkpoint.as_ref().map_or(Span::ZERO, |c| c.restart.0),
    };
    Ok(JobRecord {
        name: job.name.clone().into(),
        account: 0,
        pool: job.pool.clone().map(Into::into),
        submit: Time::ZERO.after(job.submit.0),
        run: job.runs.map_or(Span::MAX, |s| s.0),
        limit: job.limit.map(|s| s.0),
        priority: job.priority.0,
        needs,
        members: job.gang.as_ref().map_or(1, |gang| gang.count),
        gpu_models: Vec::new(),
        refuse_if_busy: job.if_busy == generate::jobs::IfBusy::Refuse,
        checkpoint: job.checkpoint.as_ref().map(|c| c.interval.0),
        extra: (extra != JobExtra::default()).then(|| Box::new(extra)),
    })
}

/// Reads or draws the faults.
fn read_faults(
    loaded: &Loaded,
    config: &Config,
    seed: u64,
    span: Span,
) -> Result<Vec<FaultRecord>, ScenarioError> {
    match &loaded.scenario.faults {
        None => Ok(Vec::new()),
        Some(file::Faults::Trace(name)) => {
            let names: Vec<Box<str>> =
                config.nodes.iter().map(|n| n.name.as_str().into()).collect();
            Ok(faults::faults(&loaded.file(name), &names)?)
        }
        Some(file::Faults::Generator(process)) => {
            let nodes = u32::try_from(config.nodes.len()).unwrap_or(u32::MAX);
            let wrong = |e: generate::GenerateError| {
                ScenarioError::Key(loaded.path.clone(), at("faults.generator", e.to_string()))
            };
            generate::faults::faults(process, seed, nodes, span).map_err(wrong)
        }
    }
}
