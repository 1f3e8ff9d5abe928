//! One run, from a scenario to its results.

use crate::clock::{Stopwatch, process_usage};
use crate::journal::Writer;
use crate::json::{Json, object};
use crate::metrics::{LittleError, summary};
use crate::output::{OutputError, Staging, Wanted, write_run};
use crate::scenario::build::build;
use crate::scenario::{Loaded, ScenarioError};
use crate::world::{Finished, Progress, World};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// Why a run has no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The scenario cannot be used.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The core refuses the configuration.
    #[error("the configuration is refused: {0}")]
    Config(#[from] gridcore::config::ConfigError),
    /// What must never happen did.
    #[error(
        "seed {seed}: {0}; this must never happen, please report it (nothing is written)",
        .found.first().map_or("", String::as_str)
    )]
    Broken {
        /// The seed.
        seed: u64,
        /// What happened.
        found: Vec<String>,
    },
    /// The run contradicts itself.
    #[error(transparent)]
    Little(#[from] LittleError),
    /// Results cannot be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// A run with its summary and what it took.
pub struct Outcome {
    /// The run.
    pub run: Finished,
    /// Its summary.
    pub summary: Json,
    /// Wall time of the simulation itself.
    pub wall: Duration,
}

/// What a run keeps beside its rows.
#[derive(Clone, Debug, Default)]
pub struct Keep {
    /// A row of every start and eviction.
    pub decisions: bool,
    /// The journal, in this folder.
    pub journal: Option<PathBuf>,
    /// Nothing, but every invariant is checked after every entry.
    pub check: bool,
}

/// Runs a scenario with one seed.
///
/// # Errors
/// When it cannot be built, its journal cannot be written, a promise is broken, or its result
/// contradicts itself.
pub fn simulate(
    loaded: &Loaded,
    seed: u64,
    keep: &Keep,
    look: impl FnMut(Progress) -> bool,
) -> Result<Outcome, RunError> {
    let setup = build(loaded, seed)?;
    let failed = |error| OutputError::File(PathBuf::from("journal"), error);
    let begin = |folder: &PathBuf| Writer::begin(folder, &setup.config).map_err(failed);
    let journal = keep.journal.as_ref().map(begin).transpose()?;
    let journal = journal.map(|writer| Rc::new(RefCell::new(writer)));
    let mut world = World::new(setup)?;
    if keep.decisions {
        world.keep_decisions();
    }
    if keep.check {
        world.check_invariants();
    }
    if let Some(writer) = journal.clone() {
        world.watch(Box::new(move |entry| writer.borrow_mut().append(entry)));
    }
    let watch = Stopwatch::start();
    let run = world.run(look);
    let wall = watch.elapsed();
    if let Some(writer) = journal {
        writer.borrow_mut().finish().map_err(failed)?;
    }
    if !run.broken.is_empty() {
        return Err(RunError::Broken { seed, found: run.broken });
    }
    let summary = summary(&run)?;
    Ok(Outcome { run, summary, wall })
}

/// Writes a run's files and moves all that is staged into place.
///
/// # Errors
/// When a file cannot be written; then none is left behind.
pub fn write(result: &Outcome, mut staging: Staging, wanted: Wanted) -> Result<(), RunError> {
    write_run(&mut staging, &result.run.record, &result.summary, wanted)?;
    let speed = speed(result).text();
    staging.write("speed.json", |out| out.write_all(speed.as_bytes()))?;
    staging.finish()?;
    Ok(())
}

/// What a run took: what may differ between two runs.
fn speed(result: &Outcome) -> Json {
    let counts = result.run.counts;
    let micros = result.wall.as_micros().max(1);
    let per_second = |count: u64| {
        let rate = u128::from(count) * 1_000_000 / micros;
        Json::Int(i128::try_from(rate).unwrap_or(i128::MAX))
    };
    let (cpu_ms, peak_kib) = process_usage();
    let some = |value: Option<u64>| value.map_or(Json::Null, |v| Json::Int(i128::from(v)));
    let cpu = cpu_ms.map_or(Json::Null, |ms| Json::Fixed(i128::from(ms) * 1_000));
    object([
        ("simulation_wall_s", Json::Fixed(i128::try_from(micros).unwrap_or(i128::MAX))),
        ("process_cpu_s", cpu),
        ("events", Json::Int(i128::from(counts.events))),
        ("events_per_s", per_second(counts.events)),
        ("entries", Json::Int(i128::from(counts.entries))),
        ("decisions_per_s", per_second(counts.entries)),
        ("peak_memory_kib", some(peak_kib)),
    ])
}
