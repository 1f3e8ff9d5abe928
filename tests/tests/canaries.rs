//! Planted bugs: a build of its own in which each bug of `gridcore::canary` can be switched on, and
//! the swarm finds every one. `tests/canaries.txt` has a seed that shows each, so that not all
//! before it are played each time; a bug that its seed no longer shows is looked for from the first
//! on, and `UPDATE=1` writes the file anew.

use gridtests::run::record;
use std::path::Path;
use std::process::Command;

/// Seeds that look for each bug.
const SEEDS: &str = "8000";

/// Returns the cargo that runs this test, or the one on the path.
fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command
}

#[test]
fn the_swarm_finds_every_planted_bug() {
    let mut command = cargo();
    command.args(["run", "--quiet", "--locked", "-p", "gridsim", "--features", "canaries"]);
    command.args(["--example", "canaries", "--", SEEDS]);
    command.env("GRID_KNOWN", Path::new(env!("CARGO_MANIFEST_DIR")).join("canaries.txt"));
    let out = command.output().expect("cargo runs");
    let text = String::from_utf8_lossy(&out.stdout);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{text}\n{said}");
    let caught = text.lines().filter(|line| line.contains(" seed ")).count() as u64;
    assert!(caught >= 25, "{caught} bugs were planted:\n{text}");
    assert!(text.contains("shows it again"), "{text}");
    let seeds: u64 = text.lines().filter_map(played).sum();
    println!("{text}");
    record("canaries", "swarm", caught, seeds);
}

/// Returns how many seeds a line tells of: `NAME  K of N  ..`.
fn played(line: &str) -> Option<u64> {
    line.split(" of ").nth(1)?.split_whitespace().next()?.parse().ok()
}
