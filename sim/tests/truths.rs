//! Outside truths: closed forms of queueing theory, Little's law, dominant resource fairness.

mod common;
mod queueing;

use gridsim::metrics::summary;
use gridsim::record::JobState;
use gridsim::run::{Keep, simulate};
use gridsim::scenario::build::build;
use gridsim::scenario::load;
use gridsim::world::World;
use queueing::Case;
use rayon::prelude::*;

const SEED: u64 = 1;

/// Jobs of each queue: enough for an interval of a few percent, in seconds.
fn jobs() -> u64 {
    let said = std::env::var("GRID_JOBS").ok().and_then(|text| text.parse().ok());
    said.unwrap_or(100_000)
}

#[test]
fn simulated_queues_meet_their_closed_forms() {
    let cases = queueing::cases();
    let judged: Vec<String> = cases.par_iter().flat_map_iter(wrong).collect();
    assert!(
        judged.is_empty(),
        "seed {SEED}: {judged:#?}\nrerun: GRID_JOBS={} GRID_SEED={SEED} cargo run --release -p \
         gridsim --example queueing",
        jobs()
    );
}

/// Returns what is outside its interval.
fn wrong(case: &Case) -> Vec<String> {
    let verdicts = case.judge(SEED, jobs()).into_iter().filter(|verdict| !verdict.holds());
    let describe = |v: queueing::Verdict| {
        format!("{} {}: {} +- {}, known {}", case.name, v.what, v.mean, v.half, v.known)
    };
    verdicts.map(describe).collect()
}

#[test]
fn littles_law_is_checked_in_every_class() {
    let cases = queueing::cases();
    let two = cases.iter().find(|case| case.name == "non-preemptive").unwrap();
    let loaded = common::loaded(&two.yaml(2_000));
    let mut run = World::new(build(&loaded, SEED).unwrap()).unwrap().run(|_| true);
    summary(&run).unwrap();
    for class in [0, 2] {
        run.tally.sums.waiting[class] += 1;
        let error = summary(&run).unwrap_err();
        assert_eq!(error.integral, error.waits + 1, "class {}", error.class);
        run.tally.sums.waiting[class] -= 1;
    }
    let first = run.record.jobs.iter_mut().find(|job| !job.wait.is_zero()).unwrap();
    first.wait = gridcore::units::Span::ZERO;
    assert!(summary(&run).is_err());
}

#[test]
fn dominant_resource_fairness_gives_three_and_two() {
    let loaded = load(&common::scenario("drf-toy"), &[]).unwrap();
    let run = simulate(&loaded, 0, &Keep::default(), |_| true).unwrap().run.record;
    let running = |account: &str| {
        let of = |row: &&gridsim::record::JobRow| run.accounts[row.account as usize] == account;
        run.jobs.iter().filter(of).filter(|row| row.state == JobState::Running).count()
    };
    assert_eq!((running("A"), running("B")), (3, 2), "gridsim run scenarios/drf-toy.yaml");
}
