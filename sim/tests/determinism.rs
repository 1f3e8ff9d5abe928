//! The same input and seed give the same bytes, whoever runs it, however often and wherever it is
//! continued.

mod common;

use common::{files, program, scratch, succeeds, summary, wait};
use gridcore::command::{Command, Entry};
use gridcore::grid::Grid;
use gridcore::units::Time;
use gridsim::scenario::build::build;
use gridsim::scenario::{Loaded, load};
use gridsim::world::World;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// What makes a scenario small enough to run often.
fn small(name: &str) -> &'static [&'static str] {
    match name {
        "lab-week" | "lab-month" => &["horizon_seconds=4h"],
        "burst" | "flicker" => &["horizon_seconds=3h"],
        "diurnal" | "night-shift" => &["horizon_seconds=30h"],
        "mmc-truth" => &["jobs.generator.jobs=3000"],
        "scale-10k" => &[
            "horizon_seconds=2h",
            "nodes.0.count=60",
            "nodes.1.count=40",
            "jobs.generator.arrivals.diurnal.rate_per_hour=80",
        ],
        _ => &[],
    }
}

/// Returns whether other seeds must give other results.
fn draws(name: &str) -> bool {
    !matches!(name, "drf-toy" | "owner-load")
}

/// Runs a small version of a scenario; returns what it left.
fn run(folder: &Path, name: &str, seed: &str, threads: &str) -> Vec<(String, Vec<u8>)> {
    let path = common::scenario(name).to_string_lossy().into_owned();
    let out = format!("{name}-{seed}-{threads}");
    let mut args = vec!["run", &path, "--seed", seed, "--out", &out, "--quiet", "--decisions"];
    for set in small(name) {
        args.extend(["--set", set]);
    }
    let mut command = program(folder, &args);
    command.env("RAYON_NUM_THREADS", threads);
    let output = common::finish(command);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "gridsim {}: {error}", args.join(" "));
    files(&folder.join(out))
}

/// Says which files differ.
fn assert_same(name: &str, one: &[(String, Vec<u8>)], other: &[(String, Vec<u8>)]) {
    let names = |files: &[(String, Vec<u8>)]| -> Vec<String> {
        files.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(one), names(other), "{name}");
    let different: Vec<&String> =
        one.iter().zip(other).filter(|(a, b)| a != b).map(|(a, _)| &a.0).collect();
    assert!(different.is_empty(), "{name}: {different:?} differ");
}

#[test]
fn every_scenario_gives_the_same_bytes_on_one_thread_and_on_two() {
    let folder = scratch("same-bytes");
    for name in common::scenarios() {
        let first = run(&folder, &name, "3", "1");
        assert!(first.iter().any(|(file, _)| file == "report.html"), "{name}");
        assert_same(&name, &first, &run(&folder, &name, "3", "2"));
        if draws(&name) {
            let digest =
                |seed: &str| summary(&folder.join(format!("{name}-{seed}-1")))["digest"].clone();
            run(&folder, &name, "4", "1");
            assert_ne!(digest("3"), digest("4"), "{name}: seeds 3 and 4");
        }
    }
}

#[test]
fn every_scenario_is_well_formed() {
    let folder = scratch("well-formed");
    for name in common::scenarios() {
        let path = common::scenario(&name).to_string_lossy().into_owned();
        let said = succeeds(&folder, &["check", &path]);
        assert!(said.contains(": ok ("), "{name}: {said}");
    }
}

/// Loads the small version of a scenario.
fn load_small(name: &str) -> Loaded {
    let sets: Vec<String> = small(name).iter().map(|set| (*set).to_owned()).collect();
    load(&common::scenario(name), &sets).expect("the scenario is well-formed")
}

#[test]
fn a_replay_of_all_entries_ends_in_the_same_state() {
    for name in common::scenarios() {
        let loaded = load_small(&name);
        let (send, receive) = mpsc::channel::<Entry<Command>>();
        let mut world = World::new(build(&loaded, 9).unwrap()).unwrap();
        world.watch(Box::new(move |entry| {
            let sent = send.send(entry.clone());
            assert!(sent.is_ok(), "the receiver lives as long as the run");
        }));
        let done = world.run(|_| true);
        let entries: Vec<_> = receive.try_iter().collect();
        let config = build(&loaded, 9).unwrap().config;
        let mut grid = Grid::new(config, Time::ZERO).unwrap();
        let mut effects = Vec::new();
        let mut restored = None;
        for (i, entry) in entries.iter().enumerate() {
            if i == entries.len() / 2 {
                restored = Some(Grid::restore(&grid.snapshot()).unwrap());
            }
            // A refusal is an answer like any other.
            let reply = grid.apply(entry, &mut effects);
            let first = std::mem::take(&mut effects);
            if let Some(other) = &mut restored {
                assert_eq!(other.apply(entry, &mut effects), reply, "{name}, entry {i}");
                assert_eq!(first, std::mem::take(&mut effects), "{name}, entry {i}");
            }
        }
        assert_eq!(grid.digest(), done.grid.digest(), "{name}, seed 9: replay");
        let restored = restored.expect("there are entries");
        assert_eq!(restored.digest(), done.grid.digest(), "{name}, seed 9: snapshot and suffix");
    }
}

#[test]
fn invariants_hold_after_every_entry() {
    let sets = ["horizon_seconds=40m".to_owned()];
    for name in ["lab-week", "flicker", "burst"] {
        let loaded = load(&common::scenario(name), &sets).unwrap();
        let mut world = World::new(build(&loaded, 5).unwrap()).unwrap();
        world.check_invariants();
        let done = world.run(|_| true);
        assert!(done.broken.is_empty(), "{name}: {:?}", done.broken);
        assert!(done.counts.entries > 100, "{name}: {} entries", done.counts.entries);
    }
}

/// Waits until a child handles SIGINT (bit 1 of the mask in `/proc`); `false` where none can tell.
fn handles_interrupts(child: &std::process::Child) -> bool {
    let path = format!("/proc/{}/status", child.id());
    let (_open, pause) = mpsc::channel::<()>();
    for _ in 0..3_000 {
        let Ok(status) = std::fs::read_to_string(&path) else { return false };
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = mask.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
        if mask.is_some_and(|mask| mask & 0b10 != 0) {
            return true;
        }
        let waited = pause.recv_timeout(Duration::from_millis(10));
        assert!(waited.is_err(), "nobody sends");
    }
    false
}

#[test]
fn an_interrupted_run_leaves_a_report_that_says_so() {
    let folder = scratch("interrupted");
    let path = common::scenario("mmc-truth").to_string_lossy().into_owned();
    let endless = "jobs.generator.jobs=20000000";
    let args = ["run", &path, "--set", endless, "--out", "out", "--json"];
    let mut child = program(&folder, &args).spawn().unwrap();
    if !handles_interrupts(&child) {
        child.kill().unwrap();
        child.wait().unwrap();
        println!("skipped: no /proc to see when the program listens");
        return;
    }
    let id = child.id().to_string();
    let sent = std::process::Command::new("kill").args(["-INT", &id]).status();
    let output = wait(child, "an interrupted run");
    assert!(sent.is_ok_and(|status| status.success()), "SIGINT was not sent");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{error}");
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let left = summary(&folder.join("out"));
    assert_eq!(left, printed);
    assert_eq!(left["complete"], false);
    assert!(left["counts"]["jobs"].as_u64().unwrap() < 20_000_000);
    for file in ["jobs.csv", "timeline.csv", "report.html"] {
        assert!(folder.join("out").join(file).exists(), "{file}");
    }
}
