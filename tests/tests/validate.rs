//! A scenario's own rules under generated work: cases are complete scenarios, all kinds of things
//! happen in them, and nothing that must not.

use gridsim::scenario::build::build;
use gridsim::scenario::load;
use gridsim::swarm::Verdict;
use gridsim::validate::{Base, Choice, choices};
use gridsim::world::World;
use gridtests::run::record;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Cases of each scenario.
const CASES: u64 = 40;

fn scenario(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(format!("{name}.yaml"))
}

fn base(name: &str) -> Base {
    Base::read(&scenario(name), &[], 8).expect("a scenario has small cases")
}

fn play(base: &Base, seed: u64, choices: &[Choice]) -> Verdict {
    base.play(seed, choices).expect("a case can be built")
}

#[test]
fn no_scenario_breaks_a_promise_under_generated_work() {
    let names = ["lab-week", "flicker", "burst", "churn", "owner-return", "mmc-truth", "drf-toy"];
    let (mut entries, mut happened) = (0, BTreeSet::new());
    for name in names {
        let base = base(name);
        let one = |number| (number, play(&base, 7, &choices(7, number)));
        let verdicts: Vec<(u64, Verdict)> = (0..CASES).into_par_iter().map(one).collect();
        for (number, verdict) in verdicts {
            let rerun =
                format!("gridsim validate scenarios/{name}.yaml --seed 7 -n {}", number + 1);
            assert!(verdict.broken.is_empty(), "{rerun}: {:?}", verdict.broken);
            entries += verdict.entries;
            happened.extend(verdict.weather.into_keys());
        }
    }
    assert!(entries > 200_000, "{entries} entries");
    for what in ["cut", "machine_crash", "station_crash", "coordinator_crash", "message_lost"] {
        assert!(happened.contains(what), "{what} never happened: {happened:?}");
    }
    record("validate", "scenarios", CASES * names.len() as u64, entries);
}

#[test]
fn a_case_is_a_scenario_that_runs_the_same_from_its_file() {
    let folder = tempfile::tempdir().expect("there is a place for scratch files");
    let base = base("lab-week");
    for number in 0..10 {
        let choices = choices(3, number);
        let file = folder.path().join(format!("{number}.yaml"));
        std::fs::write(&file, base.text("why", 3, &choices)).expect("the file is written");
        let loaded = load(&file, &[]).expect("a case is well-formed");
        let mut world = World::new(build(&loaded, 3).expect("it can be built")).expect("it runs");
        world.check_invariants();
        let again = Verdict::of(base.nodes(), || world.run(|_| true));
        let first = play(&base, 3, &choices);
        assert_eq!((first.digest, first.entries), (again.digest, again.entries), "case {number}");
        assert!(first.entries > 100, "case {number}: {} entries", first.entries);
    }
}

#[test]
fn fewer_and_smaller_choices_are_a_simpler_case() {
    let base = base("lab-week");
    let nothing = play(&base, 1, &[]);
    assert_eq!(nothing.jobs, (0, 0));
    let one = base.text("", 1, &[[0; 20]]);
    assert_eq!(one.matches("- { account").count(), 1, "{one}");
    for no in ["blow:", "owner_load", "gpus: 1, gpu_share", "gang", "limit", "ignores_notice"] {
        let jobs = one.split("jobs:").nth(1).unwrap_or_default();
        assert!(!jobs.contains(no), "the simplest choice has {no}: {one}");
    }
}
