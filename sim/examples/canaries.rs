//! Plants every bug of [`gridcore::canary`] and lets the swarm look for it.
//!
//! `cargo run --release -p gridsim --features canaries --example canaries [SEEDS] [NAME ..]`: one line
//! for each bug: in how many of so many seeds (default 8000) it was caught, and what was seen first.
//! With `GRID_KNOWN=FILE` (lines `NAME SEED`) a bug is looked for from the seed that is written there,
//! from the first seed only when that no longer shows it, and one seed is enough; `UPDATE=1` writes
//! the file anew. Ends with 1 when a bug was not caught, or when something was found with nothing
//! planted. At last `validate` finds one, makes its case smaller, and the file that it writes shows
//! the bug again.
#![expect(clippy::print_stdout, reason = "an example tells its result on the terminal")]

use gridcore::canary::{Canary, plant};
use gridsim::run::{Keep, RunError, simulate};
use gridsim::scenario::load;
use gridsim::swarm::{Limits, Verdict, verdict};
use gridsim::validate::{Base, choices, smaller};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Once so many seeds have caught a bug, no more are played.
const ENOUGH: usize = 10;
/// Once so many seeds were played, one that has caught it is enough.
const MANY: u64 = 1_500;
/// Seeds that are played before that is asked again.
const ROUND: u64 = 40;
/// Seed of the cases of `validate`.
const SEED: u64 = 5;

/// Seeds that are played, and how many of them must catch something.
struct Search {
    /// Where it begins.
    from: u64,
    /// How many seeds are played at most.
    seeds: u64,
    /// Once so many have caught something, no more are played.
    enough: usize,
}

impl Search {
    /// Plays seeds; returns how many were played, and what those that caught something saw.
    fn play(&self, limits: &Limits) -> (u64, Vec<(u64, String)>) {
        let (mut played, mut found) = (0, Vec::new());
        while played < self.seeds && found.len() < if played < MANY { self.enough } else { 1 } {
            let until = self.seeds.min(played + ROUND);
            let seeds = self.from + played..self.from + until;
            let verdicts: Vec<(u64, Verdict)> =
                seeds.into_par_iter().map(|seed| (seed, verdict(seed, limits))).collect();
            let first =
                |(seed, verdict): (u64, Verdict)| Some((seed, verdict.broken.into_iter().next()?));
            found.extend(verdicts.into_iter().filter_map(first));
            played = until;
        }
        (played, found)
    }
}

/// Looks for the planted bug: first from the seed that is known to show it.
fn caught(
    known: Option<&Known>,
    name: &str,
    all: u64,
    limits: &Limits,
) -> (u64, Vec<(u64, String)>) {
    let Some(known) = known else {
        return Search { from: 0, seeds: all, enough: ENOUGH }.play(limits);
    };
    let mut played = 0;
    if let Some(&from) = known.get(name) {
        let near = Search { from, seeds: 1, enough: 1 }.play(limits);
        if !near.1.is_empty() {
            return near;
        }
        played = near.0;
    }
    let (more, found) = Search { from: 0, seeds: all, enough: 1 }.play(limits);
    (played + more, found)
}

/// A seed that shows each bug.
type Known = BTreeMap<String, u64>;

/// Returns the seeds of a file, if one is named; without the file, none is known.
fn known(path: Option<&Path>) -> Option<Known> {
    let text = std::fs::read_to_string(path?).unwrap_or_default();
    let line = |line: &str| {
        let (name, seed) = line.split_once(' ')?;
        Some((name.to_owned(), seed.parse().ok()?))
    };
    Some(text.lines().filter_map(line).collect())
}

/// Lets `validate` find a bug; returns the sizes of the case as found and made smaller, if what is
/// written of it shows the bug again.
fn validated() -> Option<(usize, usize)> {
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/owner-return.yaml");
    let base = Base::read(Path::new(scenario), &[], 4).ok()?;
    let fails = |number: &u64| {
        base.play(SEED, &choices(SEED, *number)).is_ok_and(|verdict| !verdict.broken.is_empty())
    };
    let number = (0..100).find(fails)?;
    let small = smaller(&base, SEED, number)?;
    let file = std::env::temp_dir().join(format!("canary-{}.yaml", std::process::id()));
    std::fs::write(&file, base.text("a planted bug", small.seed, &small.choices)).ok()?;
    let loaded = load(&file, &[]).ok()?;
    let removed = std::fs::remove_file(&file);
    let keep = Keep { check: true, ..Keep::default() };
    let again = simulate(&loaded, loaded.scenario.seed, &keep, |_| true);
    let shown = matches!(again, Err(RunError::Broken { .. }));
    (shown && removed.is_ok()).then(|| (choices(SEED, number).len(), small.choices.len()))
}

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let args: Vec<String> = std::env::args().skip(1).collect();
    let seeds = args.first().and_then(|text| text.parse().ok()).unwrap_or(8_000);
    let limits = Limits { nodes: 4, ..Limits::default() };
    let wanted = |canary: &&Canary| args.len() < 2 || args.contains(&format!("{canary:?}"));
    let file = std::env::var_os("GRID_KNOWN").map(PathBuf::from);
    let known = known(file.as_deref());
    plant(None);
    let (played, found) = Search { from: 0, seeds: seeds.min(60), enough: 1 }.play(&limits);
    let (mut missed, mut lines) = (found.len(), String::new());
    println!("{:<22} {:>3} of {played:>3}", "nothing", found.len());
    for canary in Canary::ALL.iter().filter(wanted) {
        plant(Some(*canary));
        let name = format!("{canary:?}");
        let (played, found) = caught(known.as_ref(), &name, seeds, &limits);
        let (seed, what) = found.first().cloned().unwrap_or_default();
        let what: String = what.lines().next().unwrap_or_default().chars().take(110).collect();
        println!("{name:<22} {:>3} of {played:>3}  seed {seed}: {what}", found.len());
        missed += usize::from(found.is_empty());
        if !found.is_empty() {
            lines.push_str(&format!("{name} {seed}\n"));
        }
    }
    if let Some(file) = file.filter(|_| std::env::var_os("UPDATE").is_some())
        && let Err(error) = std::fs::write(&file, lines)
    {
        println!("{}: {error}", file.display());
        missed += 1;
    }
    plant(Some(Canary::FreeBeforeEmpty));
    match validated() {
        Some((found, small)) => {
            println!(
                "validate: a case of {found} choices, made smaller to {small}, shows it again"
            );
            missed += usize::from(small > 8);
        }
        None => {
            println!("validate: nothing found, or its file does not show it");
            missed += 1;
        }
    }
    println!("{missed} missed");
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
