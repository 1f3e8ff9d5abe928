//! Whole runs, each in a process of its own so that its peak of memory is its own.

use crate::measure::{say, tenths};
use gridsim::clock::{Stopwatch, process_usage};
use gridsim::output::{Staging, Wanted};
use gridsim::run::{Keep, RunError, simulate, write};
use gridsim::scenario::{Loaded, ScenarioError, load, parse};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// A million short jobs on a thousand dedicated nodes, with money.
const MILLION: &str = "
name: million
seed: 9
record_seconds: 1h
execution:
  scheduling: { strategy: best_fit, order: fair, backfill: greedy }
atp: { caps: { pool_share: null, leases: null, open_requests: null, requests_per_second: null } }
accounts:
- { name: a, deposit_atp: 1000000000000 }
- { name: b, deposit_atp: 1000000000000 }
- { name: c, deposit_atp: 1000000000000 }
nodes:
- { name: box, count: 1000, cores: 32, memory_gb: 128, owner_use: none }
jobs:
  generator:
    arrivals: { poisson: { rate_per_hour: 100000 } }
    jobs: 1000000
    classes:
    - name: small
      weight: 6
      accounts: [{ name: a }, { name: b }]
      needs: { cpu_cores: 1, memory_gb: 2 }
      duration: { exponential: { mean: 10m } }
    - name: wide
      weight: 2
      accounts: [{ name: b }, { name: c }]
      needs: { cpu_cores: 4, memory_gb: 8 }
      duration: { exponential: { mean: 10m } }
";

/// Overrides that turn `mmc-truth` into M/M/100 at 80 % load.
const MM100: [&str; 2] = ["nodes.0.cores=100", "jobs.generator.arrivals.poisson.rate_per_hour=288"];

/// Measures whole scenarios.
pub(crate) fn run_sim() {
    header("sim: whole scenarios");
    for name in ["lab-week", "scale-10k", "mm100"] {
        child(name);
    }
}

/// Measures a million jobs with all tables written.
pub(crate) fn run_memory() {
    header("memory: 1,000,000 jobs on 1,000 nodes");
    child("million");
}

fn header(title: &str) {
    say(&format!("{title}; simulate and write seconds, peak MiB of the process"));
    say("      name     events  events/s  entries/s  simulate   write   peak");
}

/// Runs one scenario in a process of its own, which prints its row.
fn child(name: &str) {
    let status =
        std::env::current_exe().and_then(|me| Command::new(me).args(["one", name]).status());
    if !status.is_ok_and(|status| status.success()) {
        say(&format!("{name}: failed"));
    }
}

/// Finds a scenario.
fn find(name: &str) -> Result<Loaded, ScenarioError> {
    if name == "million" {
        let path = PathBuf::from("million.yaml");
        return parse(&path, MILLION, &[]).map(|scenario| Loaded { scenario, path });
    }
    let sets = if name == "mm100" { MM100.map(str::to_owned).to_vec() } else { Vec::new() };
    let stem = if name == "mm100" { "mmc-truth" } else { name };
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    load(&home.join(format!("{stem}.yaml")), &sets)
}

/// Runs one scenario here, writes all its tables into a temporary folder, and prints its row.
pub(crate) fn run_one(name: &str) -> ExitCode {
    let loaded = match find(name) {
        Ok(loaded) => loaded,
        Err(error) => {
            say(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let result = match simulate(&loaded, loaded.scenario.seed, &Keep::default(), |_| true) {
        Ok(result) => result,
        Err(error) => {
            say(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let folder = std::env::temp_dir().join(format!("gridbenches-{}", std::process::id()));
    let watch = Stopwatch::start();
    let wanted = Wanted { pictures: false, decisions: false };
    let written = Staging::begin(&folder)
        .map_err(RunError::from)
        .and_then(|staging| write(&result, staging, wanted));
    let wrote = watch.elapsed().as_millis();
    let removed = std::fs::remove_dir_all(&folder);
    let counts = result.run.counts;
    let ms = result.wall.as_millis().max(1);
    let rate = |count: u64| u128::from(count) * 1_000 / ms;
    let peak = process_usage().1.unwrap_or(0) / 1_024;
    say(&format!(
        "{name:>10} {:>10} {:>9} {:>10} {:>9} {:>7} {peak:>6}",
        counts.events,
        rate(counts.events),
        rate(counts.entries),
        tenths(ms, 1_000),
        tenths(wrote, 1_000)
    ));
    if written.is_ok() && removed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
