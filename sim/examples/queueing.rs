//! Prints simulated queues against their closed forms; ends with 1 when one is outside its bounds.
//!
//! `GRID_JOBS=10000000 GRID_SEED=1 cargo run --release -p gridsim --example queueing`
#![expect(clippy::print_stdout, reason = "the table is the result")]

#[path = "../tests/queueing/mod.rs"]
mod queueing;

use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let number = |name: &str, default| match std::env::var(name) {
        Ok(text) => text.parse::<u64>().map_err(|why| anyhow::anyhow!("{name}={text}: {why}")),
        Err(_) => Ok(default),
    };
    let (jobs, seed) = (number("GRID_JOBS", 10_000_000)?, number("GRID_SEED", 1)?);
    println!("{jobs} jobs per queue, seed {seed}; times in mean services, 99.9 % intervals");
    println!("{:<18} {:<14} {:>10} {:>10} {:>12}", "queue", "measure", "simulated", "+-", "known");
    let mut outside = 0;
    // One after another: ten million rows of one queue take gigabytes.
    for case in queueing::cases() {
        for verdict in case.judge(seed, jobs) {
            let word = if verdict.holds() { "ok" } else { "OUTSIDE" };
            outside += u32::from(!verdict.holds());
            println!(
                "{:<18} {:<14} {:>10.6} {:>10.6} {:>12.9} {word}",
                case.name, verdict.what, verdict.mean, verdict.half, verdict.known
            );
        }
    }
    Ok(if outside == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
