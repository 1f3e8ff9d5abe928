//! Plants every bug of [`gridcore::canary`] and lets the swarm look for it.
//!
//! `cargo run --release -p gridsim --features canaries --example canaries [SEEDS] [NAME ..]`: one line
//! for each bug: in how many of so many seeds (default 1500) it was caught, and what was seen first.
//! Ends with 1 when one was not caught, or when something was found with nothing planted.
#![expect(clippy::print_stdout, reason = "an example tells its result on the terminal")]

use gridcore::canary::{Canary, plant};
use gridsim::swarm::{Limits, Verdict, verdict};
use rayon::prelude::*;
use std::process::ExitCode;

/// Once so many seeds have caught a bug, no more are played.
const ENOUGH: usize = 10;
/// Seeds that are played before that is asked again.
const ROUND: u64 = 40;

/// Plays seeds; returns how many were played, and what those that caught something saw.
fn caught(seeds: u64, limits: &Limits) -> (u64, Vec<(u64, String)>) {
    let (mut played, mut found) = (0, Vec::new());
    while played < seeds && found.len() < ENOUGH {
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

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let args: Vec<String> = std::env::args().skip(1).collect();
    let seeds = args.first().and_then(|text| text.parse().ok()).unwrap_or(1_500);
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
    println!("{missed} missed");
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
