//! What no run can work with although every key is right by itself: refused before anything is
//! built, with the key.

use super::schema as file;
use super::{Fault, at};
use crate::generate::jobs::JOBS_MAX;
use crate::trace::read::shown;
use crate::work::JobRecord;
use gridcore::config::PoolSpec;
use gridcore::units::Span;
use std::collections::BTreeSet;

/// The longest run: a hundred years. A run without a horizon ends there at the latest.
pub const RUN_MAX: Span = Span::seconds(36_500 * 86_400);

/// Most rows of `timeline.csv`.
const ROWS_MAX: u64 = 1_000_000;

/// Most rows of `nodes.csv`.
const NODE_ROWS_MAX: u64 = 200_000_000;

/// Checks what can be told before traces are read.
///
/// # Errors
/// The first key that no run can work with.
pub(super) fn check(scenario: &file::Scenario) -> Result<(), Fault> {
    let traced = matches!(&scenario.jobs, file::Jobs::From(file::Source::Trace(t))
        if t.format == file::TraceFormat::Openb);
    if scenario.nodes.is_empty() && !traced {
        return Err(at("nodes", "there is none: a cluster has at least one node".to_owned()));
    }
    match scenario.horizon_seconds {
        Some(horizon) if horizon.0 > RUN_MAX => {
            return Err(at("horizon_seconds", "it must be at most 36,500 days".to_owned()));
        }
        Some(horizon) if horizon.0.is_zero() => {
            return Err(at("horizon_seconds", "it must be more than 0".to_owned()));
        }
        Some(_) => {}
        None => check_endless(scenario)?,
    }
    if let file::Jobs::List(jobs) = &scenario.jobs {
        let count: u64 = jobs.iter().map(|job| u64::from(job.array.unwrap_or(1))).sum();
        if count > JOBS_MAX {
            return Err(at("jobs", format!("{count} jobs, more than {JOBS_MAX}")));
        }
        if let Some((i, job)) = jobs.iter().enumerate().find(|(_, job)| job.array == Some(0)) {
            let what = format!("job {} has no member: give at least 1", job.name);
            return Err(at(&format!("jobs.{i}.array"), what));
        }
    }
    Ok(())
}

/// Checks that a run without a horizon comes to an end.
fn check_endless(scenario: &file::Scenario) -> Result<(), Fault> {
    let shared = scenario.nodes.iter().position(|n| n.owner_use == file::OwnerUse::Shared);
    if let Some(i) = shared {
        let what = format!(
            "nodes.{i} is shared with its owner, who never ends: say how long the run lasts, such \
             as 7d, or give the nodes owner_use: none"
        );
        return Err(at("horizon_seconds", what));
    }
    if matches!(&scenario.jobs, file::Jobs::List(jobs) if jobs.is_empty()) {
        let what = "there is none, and without horizon_seconds nothing else ends the run";
        return Err(at("jobs", what.to_owned()));
    }
    Ok(())
}

/// Checks that the recorded tables fit into memory.
///
/// # Errors
/// When they would have more rows than anyone can read.
pub(super) fn check_rows(horizon: Option<Span>, record: Span, nodes: usize) -> Result<(), Fault> {
    if record < Span::seconds(1) {
        return Err(at("record_seconds", "it must be at least 1 s".to_owned()));
    }
    let rows = horizon.unwrap_or(Span::ZERO).get().div_ceil(record.get());
    let of_nodes = rows.saturating_mul(u64::try_from(nodes).unwrap_or(u64::MAX));
    if rows > ROWS_MAX || of_nodes > NODE_ROWS_MAX {
        let what = format!(
            "{rows} intervals of {nodes} nodes are more than {ROWS_MAX} rows, or \
             {NODE_ROWS_MAX} of nodes: give a longer interval"
        );
        return Err(at("record_seconds", what));
    }
    Ok(())
}

/// Checks that jobs name pools and nodes that exist.
///
/// # Errors
/// The first key that names something unknown.
pub(super) fn check_names(
    scenario: &file::Scenario,
    pools: &BTreeSet<&str>,
    nodes: &BTreeSet<&str>,
) -> Result<(), Fault> {
    let pool = |key: String, name: Option<&str>| match name {
        Some(name) if !pools.contains(name) => {
            Err(at(&key, format!("there is no pool {name}; there are {pools:?}")))
        }
        Some(_) | None => Ok(()),
    };
    match &scenario.jobs {
        file::Jobs::List(jobs) => {
            for (i, job) in jobs.iter().enumerate() {
                pool(format!("jobs.{i}.pool"), job.pool.as_deref())?;
                let zone = |name: &str| scenario.nodes.iter().any(|node| node.zone == name);
                let nowhere = |name: &&String| {
                    !nodes.contains(name.as_str()) && (name.is_empty() || !zone(name))
                };
                if let Some(name) = job.near.as_ref().filter(nowhere) {
                    let what = format!("there is neither a node nor a zone {name:?}");
                    return Err(at(&format!("jobs.{i}.near"), what));
                }
                let lists =
                    [("preferred", &job.preferred_nodes), ("excluded", &job.excluded_nodes)];
                for (what, names) in lists {
                    if let Some(name) = names.iter().find(|name| !nodes.contains(name.as_str())) {
                        let key = format!("jobs.{i}.{what}_nodes");
                        return Err(at(&key, format!("there is no node {name}")));
                    }
                }
            }
        }
        file::Jobs::From(file::Source::Generator(generator)) => {
            for (i, class) in generator.classes.iter().enumerate() {
                pool(format!("jobs.generator.classes.{i}.pool"), class.pool.as_deref())?;
            }
        }
        // Checked when they are read.
        file::Jobs::From(file::Source::Trace(_)) => {}
    }
    Ok(())
}

/// Checks that the jobs of a trace name pools that exist.
///
/// # Errors
/// The first job that names an unknown one.
pub(super) fn check_traced(jobs: &[JobRecord], pools: &[PoolSpec]) -> Result<(), Fault> {
    let named = |job: &JobRecord| job.pool.as_ref().map(|pool| (job.name.clone(), pool.clone()));
    let known = |pool: &str| pools.iter().any(|known| known.name == pool);
    for (i, (name, pool)) in (1..).zip(jobs.iter().map(named)).filter_map(|(i, j)| Some((i, j?))) {
        if !known(&pool) {
            let (name, pool) = (shown(&name), shown(&pool));
            let what =
                format!("job {i} by submission (`{name}`) names pool `{pool}`: there is none");
            return Err(at("jobs.trace.files.jobs", what));
        }
    }
    Ok(())
}
