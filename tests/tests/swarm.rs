//! Both halves in foul weather: what must never happen does not, and once it is over all settles.
//!
//! More seeds: `gridsim swarm --seeds A..B`.

use gridsim::record::RunRecord;
use gridsim::run::{Keep, simulate};
use gridsim::scenario::load;
use gridsim::swarm::{Family, Limits, Verdict, verdict};
use gridsim::work::Blow;
use gridtests::run::record;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What must have happened to messages in a run of many seeds.
const MESSAGES: [&str; 4] = ["message_cut", "message_lost", "message_doubled", "message_overtaken"];

/// Plays seeds; prints and returns what happened, and how many jobs ended.
fn play(name: &str, seeds: Range<u64>, limits: &Limits) -> (BTreeMap<&'static str, u64>, u64) {
    let count = seeds.end - seeds.start;
    let verdicts: Vec<(u64, Verdict)> =
        seeds.into_par_iter().map(|seed| (seed, verdict(seed, limits))).collect();
    let (mut weather, mut jobs, mut entries) = (BTreeMap::new(), 0, 0);
    for (seed, verdict) in verdicts {
        assert!(verdict.broken.is_empty(), "{}: {:?}", limits.command(seed), verdict.broken);
        jobs += verdict.jobs.0;
        entries += verdict.entries;
        for (what, times) in verdict.weather {
            *weather.entry(what).or_insert(0) += times;
        }
    }
    record("swarm", name, count, entries);
    for (what, times) in &weather {
        record("weather", what, *times, 0);
    }
    (weather, jobs)
}

/// Few enough nodes for a debug build.
fn small() -> Limits {
    Limits { nodes: 12, ..Limits::default() }
}

#[test]
fn nothing_that_must_not_happens_in_foul_weather() {
    let (weather, jobs) = play("safety", 0..300, &small());
    assert!(jobs > 3_000, "{jobs} jobs ended");
    for blow in Blow::ALL {
        assert!(weather.contains_key(blow.name()), "{} never fell", blow.name());
    }
    for what in MESSAGES.into_iter().chain([
        "client_retry",
        "save_refused",
        "save_failed",
        "action_lost",
        "write_lost",
        "lie_told",
        "kill_survived",
        "request_refused",
        "entry_lost_unsynced",
        "idle_warned",
        "idle_reclaimed",
    ]) {
        assert!(weather.contains_key(what), "{what} never happened");
    }
}

#[test]
fn partitions_never_let_a_job_run_twice() {
    let limits = Limits { family: Family::Network, ..small() };
    let (weather, jobs) = play("partitions", 10_000..10_200, &limits);
    assert!(jobs > 2_000, "{jobs} jobs ended");
    let blows = [Blow::Cut, Blow::CutUp, Blow::CutDown, Blow::Stall, Blow::Reset];
    for what in blows.map(Blow::name).into_iter().chain(MESSAGES) {
        assert!(weather.contains_key(what), "{what} never happened");
    }
}

#[test]
fn every_job_ends_once_the_weather_is_over() {
    let (_, jobs) = play("liveness", 20_000..20_200, &small());
    assert!(jobs > 2_000, "{jobs} jobs ended");
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 0..12 {
        let (first, again) = (verdict(seed, &small()), verdict(seed, &small()));
        assert_eq!(first.digest, again.digest, "seed {seed}");
        assert_eq!((first.weather, first.entries), (again.weather, again.entries), "seed {seed}");
    }
    let digests: Vec<String> = (0..12).map(|seed| verdict(seed, &small()).digest).collect();
    assert!(digests.windows(2).all(|pair| pair[0] != pair[1]), "{digests:?}");
}

fn scenario(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(format!("{name}.yaml"))
}

/// What a run comes to, without what only a network has.
fn essence(run: &RunRecord) -> (Vec<String>, Vec<String>) {
    let jobs = run.jobs.iter().map(|job| format!("{job:?}"));
    let leases = run.leases.iter().map(|lease| format!("{lease:?}"));
    (jobs.collect(), leases.collect())
}

#[test]
fn a_perfect_network_changes_nothing() {
    for (name, sets) in [
        ("lab-week", vec!["horizon_seconds=6h"]),
        ("flicker", vec!["horizon_seconds=3h"]),
        ("burst", vec!["horizon_seconds=2d"]),
    ] {
        for seed in [1, 2, 3] {
            let run = |network: &str| {
                let sets: Vec<String> =
                    sets.iter().copied().chain([network]).map(Into::into).collect();
                let loaded = load(&scenario(name), &sets).expect("the scenario is well-formed");
                simulate(&loaded, seed, &Keep::default(), |_| true)
                    .expect("a run has a result")
                    .run
                    .record
            };
            let (direct, far) = (run("network.enabled=false"), run("network.enabled=true"));
            let ((jobs, leases), (jobs_far, leases_far)) = (essence(&direct), essence(&far));
            for (i, (one, other)) in jobs.iter().zip(&jobs_far).enumerate() {
                assert_eq!(one, other, "{name}, seed {seed}, job {i}");
            }
            assert_eq!(jobs.len(), jobs_far.len());
            assert_eq!(leases, leases_far, "{name}, seed {seed}");
            assert!(leases.len() > 50, "{name} grants {} leases", leases.len());
        }
    }
}
