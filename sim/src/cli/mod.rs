//! The command line: verbs, their options, and exit codes (0 ok, 1 error, 2 usage, 130
//! interrupted).

mod audit;
mod compare;
mod convert;
mod explore;
mod many;
mod replay;
mod run;
mod show;
mod swarm;
mod sweep;
mod tune;
mod validate;

use crate::scenario::schema::{PolicyName, StrategyName};
use crate::scenario::{Loaded, ScenarioError, at, load};
use clap::builder::PossibleValue;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::path::{Path, PathBuf};

/// Simulates a cluster whose idle machines lend what they do not use.
///
/// The same deterministic core decides here and in gridlive: what you simulate is what you deploy.
#[derive(Debug, Parser)]
#[command(name = "gridsim", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a scenario: summary on the terminal, CSV, plots, one HTML report.
    Run(run::RunArgs),
    /// Check a scenario without running it.
    Check(ScenarioArgs),
    /// Run the same work under several policies, strategies or scenarios, side by side.
    Compare(compare::CompareArgs),
    /// Run every combination of some keys' values: the Pareto front, and which key moves what.
    Sweep(sweep::SweepArgs),
    /// Search some keys' values for the Pareto front: first all over, then near the best.
    Tune(tune::TuneArgs),
    /// Replay the journal of a run: the same entries, the same digest.
    Replay(replay::ReplayArgs),
    /// Recompute every balance of a run from its ledger and its journal, and compare.
    Audit(audit::AuditArgs),
    /// Play random clusters in foul weather through both halves, with every invariant checked.
    Swarm(swarm::SwarmArgs),
    /// Play generated work, owners and faults under a scenario's own rules; a broken promise is
    /// made smaller and written as a scenario.
    Validate(validate::ValidateArgs),
    /// Turn a trace into a scenario, with a table of what was kept and dropped.
    Import(convert::ImportArgs),
    /// Write the jobs that a scenario would draw as a CSV trace.
    Generate(convert::GenerateArgs),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write manual pages into a folder.
    Man {
        /// The folder.
        folder: PathBuf,
    },
}

/// A scenario and what is changed in it.
#[derive(Clone, Debug, Args)]
pub(crate) struct ScenarioArgs {
    #[command(flatten)]
    pub(crate) rules: RuleArgs,
    /// Files of the trace: FILE, or NAME=FILE where the format has several (nodes=, tasks=).
    #[arg(long, value_name = "[NAME=]FILE")]
    pub(crate) trace: Vec<String>,
}

/// A scenario and what is changed in its rules.
#[derive(Clone, Debug, Args)]
pub(crate) struct RuleArgs {
    /// The scenario file.
    pub(crate) scenario: PathBuf,
    /// Override a key: key.path=value; list items by index.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Policy of the owners' peak.
    #[arg(long, value_enum)]
    pub(crate) policy: Option<PolicyName>,
    /// Placement strategy.
    #[arg(long, value_enum)]
    pub(crate) strategy: Option<StrategyName>,
}

impl ScenarioArgs {
    /// Reads the scenario with everything that is changed in it.
    fn load(&self) -> Result<Loaded, ScenarioError> {
        self.change(load(&self.rules.scenario, &self.rules.sets)?)
    }

    /// Changes in a scenario what has an option of its own.
    fn change(&self, mut loaded: Loaded) -> Result<Loaded, ScenarioError> {
        let RuleArgs { policy, strategy, .. } = &self.rules;
        let execution = &mut loaded.scenario.execution;
        if policy.is_some() {
            execution.resource_sharing.policy = *policy;
        }
        if strategy.is_some() {
            execution.scheduling.strategy = *strategy;
        }
        for trace in &self.trace {
            replace_trace(&mut loaded, trace)?;
        }
        Ok(loaded)
    }
}

impl RuleArgs {
    /// Returns the file and everything that is changed in it as overrides of keys.
    fn file_and_sets(&self) -> (&Path, Vec<String>) {
        let mut sets = self.sets.clone();
        let name = |value: Option<PossibleValue>| value.map(|v| v.get_name().to_owned());
        if let Some(policy) = self.policy.and_then(|policy| name(policy.to_possible_value())) {
            sets.push(format!("execution.resource_sharing.policy={policy}"));
        }
        if let Some(strategy) = self.strategy.and_then(|s| name(s.to_possible_value())) {
            sets.push(format!("execution.scheduling.strategy={strategy}"));
        }
        (&self.scenario, sets)
    }
}

/// Puts another file into the scenario's trace of jobs or, where it has none, of owners' load.
fn replace_trace(loaded: &mut Loaded, trace: &str) -> Result<(), ScenarioError> {
    use crate::scenario::schema::{Jobs, OwnerLoad, Source};
    let (name, file) = trace.split_once('=').unwrap_or(("", trace));
    let shown = std::path::absolute(file).unwrap_or_else(|_| PathBuf::from(file));
    let file = shown.to_string_lossy().into_owned();
    let fault = |what: String| ScenarioError::Key(loaded.path.clone(), at("--trace", what));
    if let Jobs::From(Source::Trace(known)) = &mut loaded.scenario.jobs {
        let only = if known.files.len() == 1 { known.files.keys().next().cloned() } else { None };
        let key = if name.is_empty() { only } else { Some(name.to_owned()) };
        let names: Vec<&String> = known.files.keys().collect();
        let Some(key) = key.filter(|key| known.files.contains_key(key)) else {
            return Err(fault(format!(
                "this scenario's trace has the files {names:?}; write NAME=FILE"
            )));
        };
        known.files.insert(key, file);
        return Ok(());
    }
    let mut loads = loaded.scenario.nodes.iter_mut().filter_map(|node| node.owner_load.as_mut());
    let first = loaded.scenario.owner_load.as_mut().or_else(|| loads.next());
    match first {
        Some(OwnerLoad::Trace(files)) => {
            let place = name.parse().unwrap_or(0);
            let count = files.len();
            let Some(slot) = files.get_mut(place) else {
                return Err(fault(format!("owner_load has only {count} files")));
            };
            slot.file = file;
            slot.format = None;
            Ok(())
        }
        Some(OwnerLoad::Generator(_) | OwnerLoad::List(_)) | None => {
            Err(fault("this scenario draws its work and reads no trace".to_owned()))
        }
    }
}

/// Ctrl-C ended the work before it was done.
#[derive(Debug, thiserror::Error)]
#[error("interrupted {0}")]
struct Interrupted(String);

/// The options are right one by one, but not together.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Runs the command line; returns the exit code.
#[must_use]
pub fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    match perform(cli.verb) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            show::error(&error);
            let code = match (error.is::<Interrupted>(), error.is::<Usage>()) {
                (true, _) => 130,
                (_, true) => 2,
                (false, false) => 1,
            };
            std::process::ExitCode::from(code)
        }
    }
}

fn perform(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Run(args) => run::run(&args),
        Verb::Check(args) => run::check(&args),
        Verb::Compare(args) => compare::compare(&args),
        Verb::Sweep(args) => sweep::sweep(&args),
        Verb::Tune(args) => tune::tune(&args),
        Verb::Replay(args) => replay::replay(&args),
        Verb::Audit(args) => audit::audit(&args),
        Verb::Swarm(args) => swarm::swarm(&args),
        Verb::Validate(args) => validate::validate(&args),
        Verb::Import(args) => convert::import(&args),
        Verb::Generate(args) => convert::generate(&args),
        Verb::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "gridsim", &mut out);
            show::bytes(&out)
        }
        Verb::Man { folder } => {
            std::fs::create_dir_all(&folder)?;
            clap_mangen::generate_to(Cli::command(), &folder)?;
            show::line(&format!("manual pages are in {}", folder.display()));
            Ok(())
        }
    }
}

/// A range of seeds `A..B`, B outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seeds {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl std::str::FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hint =
            || format!("`{text}` is no range of seeds: write A..B, B outside, such as 0..10");
        let (from, to) = text.split_once("..").ok_or_else(hint)?;
        let from = from.parse().map_err(|_| hint())?;
        let to = to.parse().map_err(|_| hint())?;
        if from < to && to - from <= 100_000 { Ok(Self { from, to }) } else { Err(hint()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_range_of_seeds_is_not_empty() {
        assert_eq!("3..5".parse(), Ok(Seeds { from: 3, to: 5 }));
        for wrong in ["5..3", "5", "a..b", "5..5", "-1..2"] {
            assert!(wrong.parse::<Seeds>().is_err(), "{wrong}");
        }
    }
}
