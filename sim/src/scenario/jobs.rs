//! Where jobs come from: listed, drawn, or read from a trace.

use super::build::custom;
use super::rules::{cores, gib, percent, scaled, set};
use super::schema as file;
use super::{Fault, Loaded, ScenarioError, at};
use crate::generate::{self, jobs::stream_jobs};
use crate::trace::{openb, philly, swf, table};
use crate::work::{JobExtra, JobRecord, NodeRecord};
use gridcore::bundle::Needs;
use gridcore::config::{Config, Strategy, TaskClass};
use gridcore::units::{MicroAtp, MilliCores, Ppm, Span, Time};
use std::collections::BTreeMap;

/// Returns the path of a trace's file.
pub(super) fn trace_file(
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

/// A stream of jobs and the names of their accounts.
type JobStream = (Box<dyn Iterator<Item = JobRecord> + Send>, Vec<Box<str>>);

/// Opens the stream of jobs, with the limits by which the core is to foresee their ends.
pub(super) fn jobs(
    loaded: &Loaded,
    config: &mut Config,
    nodes: Option<&[NodeRecord]>,
    drawn: (u64, Span),
) -> Result<JobStream, ScenarioError> {
    let (jobs, accounts) = stream(loaded, config, nodes, drawn)?;
    let estimates = loaded.scenario.execution.scheduling.estimates.unwrap_or_default();
    if estimates == file::EstimatesName::Requested {
        return Ok((jobs, accounts));
    }
    let known = jobs.map(|mut job| {
        job.limit = Some(job.limit.map_or(job.run, |limit| limit.min(job.run)));
        job
    });
    Ok((Box::new(known), accounts))
}

/// Opens the stream of jobs as they were submitted.
fn stream(
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
            if matches!(config.rules.scheduling.strategy, Strategy::Fgd | Strategy::Headroom) {
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
            // Where nobody says it, the machine of the log is the cluster.
            let cores = config.nodes.iter().map(|node| node.capacity.cpu.get() / 1_000);
            let cluster = u32::try_from(cores.sum::<u64>()).ok().filter(|cores| *cores > 0);
            let needed = "jobs.trace.processors";
            let missing = || fault(at(needed, "an swf log needs its processor count".to_owned()));
            let processors = trace.processors.or(cluster).ok_or_else(missing)?;
            Ok(swf::jobs(&trace_file(loaded, trace, "jobs")?, processors)?.workload)
        }
        file::TraceFormat::Philly => {
            let mut shape = philly::Shape::default();
            set(&mut shape.gpus_per_node, trace.gpus_per_node);
            let cpu = trace.cpu_per_gpu.map(|v| cores("jobs.trace.cpu_per_gpu", v));
            set(&mut shape.cpu_per_gpu, cpu.transpose().map_err(fault)?);
            let memory = trace.memory_gb_per_gpu.map(|v| gib("jobs.trace.memory_gb_per_gpu", v));
            set(&mut shape.memory_per_gpu, memory.transpose().map_err(fault)?);
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
            let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let (account, array) = (number(index), job.array.map_or(0, |_| number(i + 1)));
            jobs.push(JobRecord { name: name.into(), account, array, ..record.clone() });
        }
    }
    jobs.sort_by_key(|job| job.submit);
    name_dependencies(list, &mut jobs)?;
    Ok((jobs, accounts))
}

/// Names every part of an array that a job waits for, and refuses to wait for what is not submitted
/// before.
fn name_dependencies(list: &[file::Job], jobs: &mut [JobRecord]) -> Result<(), Fault> {
    let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let array = |name: &str| {
        let whole = name.rsplit_once('-').map(|(whole, _)| whole.to_owned());
        whole.filter(|whole| list.iter().any(|job| job.name == *whole && job.array.is_some()))
    };
    for job in jobs {
        if let Some(extra) = &mut job.extra {
            let mut named = Vec::new();
            for name in &extra.after {
                let parts = known.get(name).ok_or_else(|| {
                    let key = list.iter().position(|job| job.after.contains(name));
                    let what = format!("no job {name:?} is submitted before");
                    at(&format!("jobs.{}.after", key.unwrap_or(0)), what)
                })?;
                named.extend(parts.iter().cloned());
            }
            extra.after = named;
        }
        let name = job.name.to_string();
        for key in array(&name).into_iter().chain([name.clone()]) {
            known.entry(key).or_default().push(name.clone());
        }
    }
    Ok(())
}

/// Lowers what an elastic job needs to the least that it can do with, and returns the rest.
fn elastic(key: &str, job: &file::Job, needs: &mut Needs) -> Result<MilliCores, Fault> {
    let Some(min) = &job.min else { return Ok(MilliCores::ZERO) };
    let key = format!("{key}.min.cpu_cores");
    let least = cores(&key, min.cpu_cores)?;
    if least.is_zero() || least > needs.cpu {
        let what = format!("must be above 0 and at most the {} it needs", needs.cpu);
        return Err(at(&key, what));
    }
    if job.gang.as_ref().is_some_and(|gang| gang.count > 1) {
        return Err(at(&key, "the members of a gang cannot run with less: leave it out".into()));
    }
    let rest = needs.cpu.saturating_sub(least);
    needs.cpu = least;
    Ok(rest)
}

/// Returns a multiple of the rates in millionths.
fn price(key: &str, multiple: crate::decimal::Decimal) -> Result<Ppm, Fault> {
    let ppm = generate::jobs::multiple(multiple);
    ppm.ok_or_else(|| at(key, "it must be above 0 and at most 1,000".to_owned()))
}

/// Turns one job of a list into a record; `key` is for messages.
///
/// # Errors
/// The first amount that is out of range.
pub fn listed_job(key: &str, job: &file::Job, resources: &[String]) -> Result<JobRecord, Fault> {
    let wrong = |e: generate::GenerateError| at(&e.key, e.what.into());
    let mut needs: Needs = job.needs.needs(key).map_err(wrong)?;
    needs.custom = custom(&format!("{key}.resources"), &job.resources, resources)?;
    let elastic = elastic(key, job, &mut needs)?;
    let budget = job.budget_atp.map(|b| scaled(&format!("{key}.budget_atp"), b, 1_000_000));
    let extra = JobExtra {
        labels: job.labels.clone().into_iter().collect(),
        preferred: job.preferred_nodes.clone(),
        excluded: job.excluded_nodes.clone(),
        tags: job.tags.clone(),
        affinity: job.affinity.clone(),
        anti_affinity: job.anti_affinity.clone(),
        near: job.near.clone(),
        elastic,
        spread: job.gang.as_ref().is_some_and(|gang| gang.spread),
        budget: budget.transpose()?.map(MicroAtp::new),
        price_max: job
            .max_price
            .map(|most| price(&format!("{key}.max_price"), most))
            .transpose()?,
        vacate: job.vacate_seconds.map(|s| s.0),
        restart: job.checkpoint.as_ref().map_or(Span::ZERO, |c| c.restart.0),
        movable: job.movable,
        begin: job.begin.map(|s| Time::ZERO.after(s.0)),
        reserve: job.reserve,
        ignores_notice: job.ignores_notice,
        fails: job.fails,
        gpu_use: job.gpu_use.map(|part| percent(&format!("{key}.gpu_use"), part)).transpose()?,
        cancel: job.cancel.map(|s| s.0),
        after: job.after.clone(),
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
        array: 0,
        extra: (extra != JobExtra::default()).then(|| Box::new(extra)),
    })
}
