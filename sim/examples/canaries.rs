//! Plants every bug of [`gridcore::canary`] and lets the swarm look for it.
//!
//! `cargo run --release -p gridsim --features canaries --example canaries [SEEDS] [NAME ..]`: one line
//! for each bug: in how many of so many seeds (default 8000) it was caught, and what was seen first.
//! Ends with 1 when one was not caught, or when something was found with nothing planted. At last
//! `validate` finds one, makes its case smaller, and the file that it writes shows the bug again.
#![expect(clippy::print_stdout, reason = "an example tells its result on the terminal")]

use gridcore::canary::{Canary, plant};
use gridsim::run::{Keep, RunError, simulate};
use gridsim::scenario::load;
use gridsim::swarm::{Limits, Verdict, verdict};
use gridsim::validate::{Base, choices, smaller};
use rayon::prelude::*;
use std::path::Path;
use std::process::ExitCode;

/// Once so many seeds have caught a bug, no more are played.
const ENOUGH: usize = 10;
/// Once so many seeds were played, one that has caught it is enough.
const MANY: u64 = 1_500;
/// Seeds that are played before that is asked again.
const ROUND: u64 = 40;
/// Seed of the cases of `validate`.
const SEED: u64 = 5;

/// Plays seeds; returns how many were played, and what those that caught something saw.
fn caught(seeds: u64, limits: &Limits) -> (u64, Vec<(u64, String)>) {
    let (mut played, mut found) = (0, Vec::new());
    while played < seeds && found.len() < if played < MANY { ENOUGH } else { 1 } {
        let until = seeds.min(played + ROUND);
        let verdicts: Vec<(u64, Verdict)> =
            (played..until).into_par_iter().map(|seed| (seed, verdict(seed, limits))).collect();
        let first =
            |(seed, verdict): (u64, Verdict)| Some((seed, verdict.broken.into_iter().next()?));
        found.extend(verdicts.into_iter().filter_map(first));
        played = until;
    }
    (played, found)
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
    plant(None);
    let (played, found) = caught(seeds.min(60), &limits);
    let mut missed = found.len();
    println!("{:<22} {:>3} of {played:>3}", "nothing", found.len());
    for canary in Canary::ALL.iter().filter(wanted) {
        plant(Some(*canary));
        let (played, found) = caught(seeds, &limits);
        let (seed, what) = found.first().cloned().unwrap_or_default();
        let what: String = what.lines().next().unwrap_or_default().chars().take(110).collect();
        let name = format!("{canary:?}");
        println!("{name:<22} {:>3} of {played:>3}  seed {seed}: {what}", found.len());
        missed += usize::from(found.is_empty());
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
