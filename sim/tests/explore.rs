//! Sweeps and searches from the command line to their files.

mod common;

use common::{files, rows, scratch, succeeds, summary};
use std::collections::BTreeSet;
use std::path::Path;

/// A queue in which the node's cores and the share of it that a job takes decide who waits.
const QUEUE: &str = "horizon_seconds: 2h\natp: { enabled: false }\n\
    nodes: [{ name: n, cores: 4, owner_use: none }]\n\
    jobs:\n  generator:\n    arrivals: { poisson: { rate_per_hour: 60 } }\n    classes:\n    \
    - { name: a, accounts: [{ name: x }], needs: { cpu_cores: 1 }, \
        duration: { exponential: { mean: 4m } } }\n";

/// Runs the program on the queue; returns what it left and printed.
fn explored(folder: &Path, args: &[&str], out: &str) -> (Vec<(String, Vec<u8>)>, String) {
    std::fs::write(folder.join("queue.yaml"), QUEUE).expect("a file can be written");
    let [verb, options @ ..] = args else { panic!("a verb is missing") };
    let all = [&[*verb, "queue.yaml", "--out", out][..], options].concat();
    let printed = succeeds(folder, &all);
    (files(&folder.join(out)), printed)
}

/// Returns the column of a table by name.
fn column(table: &[Vec<String>], name: &str) -> Vec<String> {
    let place = table[0].iter().position(|cell| cell == name);
    let place = place.unwrap_or_else(|| panic!("no column {name} in {:?}", table[0]));
    table[1..].iter().map(|row| row[place].clone()).collect()
}

#[test]
fn a_sweep_runs_every_combination_and_finds_the_front() {
    let folder = scratch("sweep");
    let vary = ["sweep", "--vary", "nodes.0.cores=2..6..2", "--vary"];
    let order = ["execution.scheduling.order=fair,fifo", "--seeds", "3..6"];
    let args = [&vary[..], &order[..]].concat();
    let (left, printed) = explored(&folder, &args, "out");
    let names: Vec<&str> = left.iter().map(|(name, _)| name.as_str()).collect();
    for stem in ["combinations", "front", "grid", "influence"] {
        assert!(names.contains(&format!("{stem}.svg").as_str()), "{stem} in {names:?}");
    }
    let table = rows(&folder.join("out/sweep.csv"));
    assert_eq!(table.len(), 7);
    assert_eq!(column(&table, "nodes.0.cores"), ["2", "2", "4", "4", "6", "6"]);
    let waits = column(&table, "wait_s");
    // One account: the order of the queue makes no difference.
    assert!(waits[0] == waits[1] && waits[4] == waits[5], "{waits:?}");
    assert_ne!(waits[0], waits[2]);
    // More cores: shorter waits and a lower utilisation, so each is a choice of its own.
    let written = summary(&folder.join("out"));
    assert_eq!(written["schema"], "gridsim-sweep/1");
    assert_eq!((&written["combinations"], &written["seeds"]), (&6.into(), &3.into()));
    let cores = &written["influence"]["nodes.0.cores"]["wait_s"];
    assert_eq!(cores["best"], "6");
    assert_eq!(written["influence"]["execution.scheduling.order"]["wait_s"]["part"], 0.0);
    let front = column(&table, "pareto");
    let count = front.iter().filter(|cell| *cell == "yes").count();
    assert_eq!(written["front"].as_object().map(serde_json::Map::len), Some(count));
    assert!(printed.contains(&format!("{count} of 6 combinations are beaten by no other")));
    // Nothing that is on the front is beaten by another row.
    let numbers = |name: &str| -> Vec<i128> {
        column(&table, name).iter().map(|cell| common::digits(cell)).collect()
    };
    let [use_of, wait] = [numbers("cpu_utilisation"), numbers("wait_s")];
    let beats = |a: usize, b: usize| {
        use_of[a] >= use_of[b] && wait[a] <= wait[b] && (use_of[a], wait[a]) != (use_of[b], wait[b])
    };
    for (i, cell) in front.iter().enumerate() {
        assert_eq!(cell == "no", (0..6).any(|other| beats(other, i)), "row {i}");
    }
}

#[test]
fn the_seeds_of_a_sweep_are_those_of_a_run() {
    let folder = scratch("sweep-seeds");
    let args = ["sweep", "--vary", "nodes.0.cores=4,5", "--seeds", "7..8", "--quiet"];
    explored(&folder, &args, "out");
    let run = ["run", "queue.yaml", "--seed", "7", "--out", "run", "--quiet", "--no-pictures"];
    succeeds(&folder, &run);
    let (swept, alone) = (summary(&folder.join("out")), summary(&folder.join("run")));
    let wait = &swept["trials"]["1"]["metrics"]["wait_s"]["mean"];
    assert_eq!(*wait, alone["metrics"]["wait_s"]["mean"]);
}

#[test]
fn the_same_bytes_on_one_thread_and_on_two() {
    let folder = scratch("explore-same");
    let sweep = ["sweep", "--vary", "nodes.0.cores=2,3,4", "--seeds", "0..3", "--quiet"];
    let range = "nodes.0.cores=1.0..9.9";
    let tune = ["tune", "--vary", range, "--trials", "20", "--seeds", "0..2", "--quiet"];
    for args in [&sweep[..], &tune[..]] {
        let run = |jobs| {
            let out = format!("{}-{jobs}", args[0]);
            explored(&folder, &[args, &["--jobs", jobs]].concat(), &out).0
        };
        let (one, two) = (run("1"), run("2"));
        let differ = one.iter().zip(&two).filter(|(a, b)| a != b).map(|(a, _)| &a.0);
        assert_eq!(one.len(), two.len());
        assert_eq!(differ.collect::<Vec<_>>(), Vec::<&String>::new(), "{}", args[0]);
    }
}

#[test]
fn a_search_tries_what_it_was_told_and_nothing_twice() {
    let folder = scratch("tune");
    let vary = ["--vary", "nodes.0.cores=1.00..9.00", "--vary"];
    let order = ["execution.scheduling.order=fair,fifo", "--trials", "24", "--seeds", "0..2"];
    let objective = ["--objective", "wait_s,cpu_utilisation", "--search-seed"];
    let args = |seed| [&["tune"][..], &vary, &order, &objective, &[seed]].concat();
    let (left, _) = explored(&folder, &args("5"), "out");
    let table = rows(&folder.join("out/tune.csv"));
    let stages = column(&table, "stage");
    assert_eq!(stages.iter().filter(|stage| *stage == "design").count(), 8);
    let keys = column(&table, "nodes.0.cores");
    let orders = column(&table, "execution.scheduling.order");
    assert_eq!(keys.iter().zip(&orders).collect::<BTreeSet<_>>().len(), 24);
    let written = summary(&folder.join("out"));
    let objectives = written["objectives"].as_object().unwrap();
    assert_eq!(objectives.len(), 2);
    assert_eq!(objectives["cpu_utilisation"], "higher");
    assert!(left.iter().any(|(name, _)| name == "report.html"));
    let (other, _) = explored(&folder, &args("6"), "other");
    assert_ne!(left, other, "another seed searches elsewhere");
}

#[test]
fn a_space_smaller_than_the_trials_is_tried_whole() {
    let folder = scratch("tune-small");
    let args = ["tune", "--vary", "nodes.0.cores=3..5", "--trials", "50", "--seeds", "0..1"];
    let (_, printed) = explored(&folder, &[&args[..], &["--json"]].concat(), "out");
    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(printed["combinations"], 3);
    assert_eq!(printed, summary(&folder.join("out")));
}
