//! Alibaba's `openb` trace of 2023 (cluster-trace-gpu-v2023): a node list, a task list, and the
//! arrivals of the fragmentation experiments made from them.
//!
//! Columns and units: `cpu_milli` thousandths of a core, `memory_mib` MiB (2^20 bytes), `gpu` and
//! `num_gpu` devices, `gpu_milli` thousandths of each device, times in seconds.

use super::columns::{Column, Table, optional, required};
use super::read::{Lines, TraceError, shown};
use super::{Accounts, Imported};
use crate::rng::stream;
use crate::work::{JobRecord, NodeRecord, Workload};
use gridcore::bundle::{GPUS_MAX, GpuNeed, Needs};
use gridcore::units::{Bytes, MilliCores, MilliGpus, PerMille, Ppm, Priority, Span, Time};
use std::collections::BTreeSet;
use std::path::Path;

const NODE_COLUMNS: &[Column] = &[
    required("sn"),
    required("cpu_milli"),
    required("memory_mib"),
    required("gpu"),
    required("model"),
];

/// Reads a node list.
///
/// # Errors
/// When the file breaks the format, holds no node, or a name twice.
pub fn nodes(path: &Path) -> Result<Vec<NodeRecord>, TraceError> {
    nodes_from(Lines::open(path)?)
}

/// Reads a node list from lines, as [`nodes`].
///
/// # Errors
/// As [`nodes`].
pub fn nodes_from(lines: Lines) -> Result<Vec<NodeRecord>, TraceError> {
    let mut table = Table::open(lines, NODE_COLUMNS)?;
    let mut names = BTreeSet::new();
    let mut nodes = Vec::new();
    while table.advance()? {
        let name = unique_name(&table, &mut names)?;
        let gpus = GpuNeed { count: gpu_count(&table, 3)?, ..GpuNeed::whole(0) };
        nodes.push(NodeRecord {
            name,
            capacity: Needs {
                cpu: MilliCores::new(table.amount(1, 1)?),
                memory: Bytes::new(table.amount(2, 1 << 20)?),
                gpus: if gpus.count == 0 { GpuNeed::NONE } else { gpus },
                ..Needs::default()
            },
            gpu_model: table.text(4).into(),
        });
    }
    if nodes.is_empty() {
        return Err(table.empty("the node list must hold at least one node"));
    }
    Ok(nodes)
}

fn unique_name(table: &Table, names: &mut BTreeSet<Box<str>>) -> Result<Box<str>, TraceError> {
    let name: Box<str> = table.text(0).into();
    if name.is_empty() {
        return Err(table.error("the name is empty", "name the row"));
    }
    if !names.insert(name.clone()) {
        let what = format!("the name `{}` stands there twice", shown(&name));
        return Err(table.error(what, "names are unique: rename one row or leave it out"));
    }
    Ok(name)
}

fn gpu_count(table: &Table, column: usize) -> Result<u8, TraceError> {
    let most = u64::try_from(GPUS_MAX).unwrap_or(u64::MAX);
    Ok(u8::try_from(table.bounded(column, 1, most)?).unwrap_or(u8::MAX))
}

const TASK_COLUMNS: &[Column] = &[
    required("name"),
    required("cpu_milli"),
    required("memory_mib"),
    required("num_gpu"),
    required("gpu_milli"),
    optional("gpu_spec"),
    optional("qos"),
    optional("pod_phase"),
    optional("creation_time"),
    optional("deletion_time"),
    optional("scheduled_time"),
];

/// Which priority each class of service gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QosPriorities {
    /// `LS`, latency sensitive.
    pub latency_sensitive: Priority,
    /// `Guaranteed`.
    pub guaranteed: Priority,
    /// `Burstable`, and rows without a class.
    pub burstable: Priority,
    /// `BE`, best effort.
    pub best_effort: Priority,
}

impl Default for QosPriorities {
    fn default() -> Self {
        Self {
            latency_sensitive: Priority::HIGH,
            guaranteed: Priority::HIGH,
            burstable: Priority::MEDIUM,
            best_effort: Priority::LOW,
        }
    }
}

const ENDS_BEFORE: &str = "ends before it begins: runs 0 s";
const NEVER_SCHEDULED: &str = "never scheduled: runs from its creation to its deletion";

/// Reads a task list: one job per row, submitted at its creation, running from the time it was
/// scheduled (or, if never, created) to its deletion, without limit, for the one account `openb`.
///
/// # Errors
/// When the file breaks the format, holds no task, or a name twice.
pub fn tasks(path: &Path, priorities: &QosPriorities) -> Result<Imported, TraceError> {
    tasks_from(Lines::open(path)?, priorities)
}

/// Reads a task list from lines, as [`tasks`].
///
/// # Errors
/// As [`tasks`].
pub fn tasks_from(lines: Lines, priorities: &QosPriorities) -> Result<Imported, TraceError> {
    let mut table = Table::open(lines, TASK_COLUMNS)?;
    let mut imported = Imported::knowing(&[], &[NEVER_SCHEDULED, ENDS_BEFORE]);
    let mut accounts = Accounts::default();
    let mut names = BTreeSet::new();
    while table.advance()? {
        let submit = table.some_amount(8, 1_000)?.unwrap_or(0);
        let start = table.some_amount(10, 1_000)?;
        let end = table.some_amount(9, 1_000)?.unwrap_or(0);
        if start.is_none() {
            imported.map_row(NEVER_SCHEDULED);
        }
        let run = end.checked_sub(start.unwrap_or(submit));
        if run.is_none() {
            imported.map_row(ENDS_BEFORE);
        }
        imported.workload.jobs.push(JobRecord {
            name: unique_name(&table, &mut names)?,
            account: accounts.index("openb"),
            submit: Time::from_ms(submit),
            run: Span::new(run.unwrap_or(0)),
            priority: priority(&table, priorities)?,
            needs: task_needs(&table)?,
            members: 1,
            gpu_models: models(table.text(5)),
            ..JobRecord::default()
        });
    }
    if imported.workload.jobs.is_empty() {
        return Err(table.empty("the task list must hold at least one task"));
    }
    imported.workload.accounts = accounts.names;
    Ok(imported.finish())
}

fn task_needs(table: &Table) -> Result<Needs, TraceError> {
    let count = gpu_count(table, 3)?;
    let share = u16::try_from(table.bounded(4, 1, 1_000)?).unwrap_or(1_000);
    let gpus = match (count, share) {
        (0, 0) => GpuNeed::NONE,
        (0, _) | (_, 0) => {
            let what = format!("{count} GPUs with {share} thousandths of each");
            return Err(table.error(what, "give both num_gpu and gpu_milli, or 0 for both"));
        }
        _ => GpuNeed { count, share: PerMille::new(share), memory: Bytes::ZERO },
    };
    Ok(Needs {
        cpu: MilliCores::new(table.amount(1, 1)?),
        memory: Bytes::new(table.amount(2, 1 << 20)?),
        gpus,
        ..Needs::default()
    })
}

fn priority(table: &Table, priorities: &QosPriorities) -> Result<Priority, TraceError> {
    match table.text(6) {
        "LS" => Ok(priorities.latency_sensitive),
        "Guaranteed" => Ok(priorities.guaranteed),
        "Burstable" | "" => Ok(priorities.burstable),
        "BE" => Ok(priorities.best_effort),
        other => {
            let what = format!("unknown class of service `{}`", shown(other));
            Err(table.error(what, "the classes are LS, Guaranteed, Burstable and BE"))
        }
    }
}

/// Splits `A|B` into its models; an empty text allows all.
pub(super) fn models(text: &str) -> Vec<Box<str>> {
    text.split('|').map(str::trim).filter(|model| !model.is_empty()).map(Box::from).collect()
}

/// Returns the GPU capacity of an inventory.
#[must_use]
pub fn gpu_capacity(nodes: &[NodeRecord]) -> MilliGpus {
    nodes.iter().fold(MilliGpus::ZERO, |sum, node| sum.saturating_add(node.capacity.gpus.total()))
}

/// How many arrivals an expansion may have.
pub const ARRIVALS_MAX: usize = 10_000_000;

/// How a task list becomes the arrivals of a fill (TRUTHS.md section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The GPU capacity that is filled.
    pub capacity: MilliGpus,
    /// The request to reach, as a part of the capacity: 1,300,000 ppm in the published runs.
    pub ratio: Ppm,
    /// Whether the arrivals are shuffled; without it the tasks come first, in their order.
    pub shuffle: bool,
}

/// Makes the arrivals of a fill without departures.
///
/// Starts from all tasks; draws more, uniformly and with replacement, and stops before the GPU
/// request of all would exceed `ratio` x `capacity` (or at [`ARRIVALS_MAX`], or at once when no
/// task asks for a GPU); then shuffles all. Job i is submitted at i seconds, never ends, and is
/// refused when it cannot start at once. A drawn job is named `TASK+N`, N counting
/// the draws from 1.
/// Streams: `fill-draws` and `fill-order` of `seed`.
#[must_use]
pub fn expand(tasks: &Workload, fill: &Fill, seed: u64) -> Workload {
    let target = fill.ratio.of_floor(fill.capacity.get());
    let request = |job: &JobRecord| job.needs.gpus.total().get();
    let mut total = tasks.jobs.iter().fold(0_u64, |sum, job| sum.saturating_add(request(job)));
    let mut jobs = tasks.jobs.clone();
    let mut draws = stream(seed, "fill-draws", 0);
    let count = u64::try_from(tasks.jobs.len()).unwrap_or(u64::MAX);
    let asks_gpu = tasks.jobs.iter().any(|job| request(job) > 0);
    let mut drawn = 0_u64;
    while asks_gpu && jobs.len() < ARRIVALS_MAX {
        let index = usize::try_from(draws.below(count)).unwrap_or(0);
        let Some(job) = tasks.jobs.get(index) else { break };
        total = total.saturating_add(request(job));
        if total > target {
            break;
        }
        drawn += 1;
        jobs.push(JobRecord { name: format!("{}+{drawn}", job.name).into(), ..job.clone() });
    }
    if fill.shuffle {
        stream(seed, "fill-order", 0).shuffle(&mut jobs);
    }
    let mut submit = Time::ZERO;
    for job in &mut jobs {
        job.submit = submit;
        job.run = Span::MAX;
        job.limit = None;
        job.refuse_if_busy = true;
        submit = submit.after(Span::seconds(1));
    }
    Workload { accounts: tasks.accounts.clone(), jobs }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples::{lines, sample, shared};

    fn fill(capacity: MilliGpus) -> Fill {
        Fill { capacity, ratio: Ppm::new(1_300_000), shuffle: true }
    }

    fn check_fill(nodes: &[NodeRecord], tasks: &Workload) {
        let capacity = gpu_capacity(nodes);
        let arrivals = expand(tasks, &fill(capacity), 1);
        let total: u64 = arrivals.jobs.iter().map(|job| job.needs.gpus.total().get()).sum();
        let target = capacity.get() * 13 / 10;
        let largest = tasks.jobs.iter().map(|job| job.needs.gpus.total().get()).max().unwrap();
        assert!(total <= target && total + largest > target, "{total} of {target}");
        let names: BTreeSet<&str> = arrivals.jobs.iter().map(|job| job.name.as_ref()).collect();
        assert_eq!(names.len(), arrivals.jobs.len());
        assert!(tasks.jobs.iter().all(|job| names.contains(job.name.as_ref())));
        assert!(arrivals.jobs.iter().all(|job| job.refuse_if_busy && job.run == Span::MAX));
        assert_eq!(arrivals.jobs[7].submit, Time::from_ms(7_000));
        assert_eq!(arrivals, expand(tasks, &fill(capacity), 1));
        assert_ne!(arrivals, expand(tasks, &fill(capacity), 2));
    }

    #[test]
    fn a_fill_reaches_its_ratio_and_holds_every_task() {
        let nodes = nodes(&sample("openb_nodes.csv")).unwrap();
        let tasks = tasks(&sample("openb_tasks.csv"), &QosPriorities::default()).unwrap();
        assert_eq!((nodes.len(), tasks.kept), (40, 200));
        check_fill(&nodes, &tasks.workload);
    }

    #[test]
    fn the_published_lists_have_their_published_sizes() {
        let Some(nodes_path) = shared("openb/openb_node_list_gpu_node.csv.gz") else { return };
        let nodes = nodes(&nodes_path).unwrap();
        assert_eq!(nodes.len(), 1_213);
        assert_eq!(gpu_capacity(&nodes), MilliGpus::new(6_212_000));
        for (list, with_model) in [("default", 0), ("gpuspec33", 2_388)] {
            let path = shared(&format!("openb/openb_pod_list_{list}.csv.gz")).unwrap();
            let read = tasks(&path, &QosPriorities::default()).unwrap();
            assert_eq!((read.kept, read.mapped[0].1), (8_152, 897));
            let models = read.workload.jobs.iter().filter(|job| !job.gpu_models.is_empty());
            assert_eq!(models.count(), with_model);
            check_fill(&nodes, &read.workload);
        }
    }

    #[test]
    fn without_gpu_requests_a_fill_is_the_tasks_alone() {
        let text = "name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,1000,1024,0,0\n";
        let tasks = tasks_from(lines(text), &QosPriorities::default()).unwrap().workload;
        assert_eq!(expand(&tasks, &fill(MilliGpus::new(8_000)), 1).jobs.len(), 1);
        let none = Workload::default();
        assert!(expand(&none, &fill(MilliGpus::new(8_000)), 1).jobs.is_empty());
    }

    #[test]
    fn rows_that_cannot_be_are_refused() {
        for (row, why) in [
            ("a,1,1,1,1001", "column gpu_milli is `1001`: too large"),
            ("a,1,1,65,1000", "column num_gpu is `65`: too large"),
            ("a,1,1,0,500", "0 GPUs with 500 thousandths"),
            (",1,1,0,0", "the name is empty"),
            ("a,-1,1,0,0", "must not be negative"),
            ("a,1,99999999999999999999,0,0", "number out of range"),
            ("a,1,1,0,0\na,1,1,0,0", "`a` stands there twice"),
        ] {
            let text = format!("name,cpu_milli,memory_mib,num_gpu,gpu_milli\n{row}\n");
            let error = tasks_from(lines(&text), &QosPriorities::default()).unwrap_err();
            assert!(error.to_string().contains(why), "{row}: {error}");
        }
    }
}
