//! Measured work: `cargo run --release -p gridbenches -- WHAT`, where WHAT is kernel, ledger,
//! core, decisions, easy, sim, memory, all or live.
//!
//! Every figure is the median of several runs of the same seeded work. Nothing here is a test: it
//! prints and never judges. README.md has the figures of one machine.
#![forbid(unsafe_code)]

mod core;
mod easy;
mod kernel;
mod ledger;
mod live;
mod measure;
mod whole;

use measure::say;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["kernel"] => kernel::run(),
        ["ledger"] => ledger::run(),
        ["core"] => core::run(),
        ["decisions"] => core::decisions(),
        ["easy", words @ ..] if words.len() < 3 => return easy::run(words),
        ["core", nodes] => core::run_one(nodes),
        ["sim"] => whole::run_sim(),
        ["memory"] => whole::run_memory(),
        ["all"] => {
            kernel::run();
            ledger::run();
            core::run();
            core::decisions();
            whole::run_sim();
            whole::run_memory();
        }
        ["live"] => return live::run("20"),
        ["live", "--hosts", hosts] => return live::run(hosts),
        ["one", name] => return whole::run_one(name),
        _ => {
            say("usage: gridbenches kernel | ledger | core [NODES] | decisions");
            say("       gridbenches easy [FILE.swf [PROCESSORS]]");
            say("       gridbenches sim | memory | all");
            say("       gridbenches live [--hosts N]");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
