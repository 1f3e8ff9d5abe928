//! `run` and `check`.

use super::{Interrupted, ScenarioArgs, Seeds, show};
use crate::compare::{Spread, spreads};
use crate::json::Json;
use crate::metrics::table;
use crate::output::{Staging, Wanted};
use crate::record::RunRecord;
use crate::run::{Keep, Outcome, simulate, write};
use crate::scenario::Loaded;
use crate::scenario::build::build;
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Options of `run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// Seed of all random streams.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run every seed of A..B (B outside) and report means with 95 % confidence intervals.
    #[arg(long, value_name = "A..B")]
    seeds: Option<Seeds>,
    /// Folder of the results [default: reports/out/SCENARIO].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Also write decisions.csv.
    #[arg(long)]
    decisions: bool,
    /// Also write the journal: every entry of the core, for `gridsim replay`.
    #[arg(long, conflicts_with = "seeds")]
    journal: bool,
    /// Check every invariant after every entry; slow.
    #[arg(long, conflicts_with = "seeds")]
    check: bool,
    /// Leave out pictures and the page.
    #[arg(long)]
    no_pictures: bool,
    /// Print no progress and no table.
    #[arg(long, short)]
    quiet: bool,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

/// Returns a flag that Ctrl-C raises; a second Ctrl-C ends the program at once.
pub(super) fn interruption() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    let set = ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    });
    if set.is_err() {
        show::note("note: Ctrl-C will end the run without a report");
    }
    flag
}

/// Runs a scenario.
pub(super) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let loaded = args.scenario.load()?;
    let stop = interruption();
    let folder = args
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from("reports/out").join(&loaded.scenario.name));
    Staging::try_out(&folder)?;
    if let Some(seeds) = args.seeds {
        return run_seeds(args, &loaded, seeds, &folder, &stop);
    }
    let seed = args.seed.unwrap_or(loaded.scenario.seed);
    let bar = show::Bar::begin(args.quiet || args.json);
    let mut staging = Staging::begin(&folder)?;
    let journal = args.journal.then(|| staging.folder("journal"));
    let keep = Keep { decisions: args.decisions, journal, check: args.check };
    let result = simulate(&loaded, seed, &keep, |at| {
        bar.show(at);
        !stop.load(Ordering::SeqCst)
    });
    bar.end();
    let result = result?;
    let wanted = Wanted { pictures: !args.no_pictures, decisions: args.decisions };
    write(&result, staging, wanted)?;
    print_result(args, &result, &folder)?;
    if !result.run.record.complete {
        show::note("note: the run was interrupted; its report is complete up to there");
        std::process::exit(130);
    }
    Ok(())
}

/// Prints the summary of one run.
fn print_result(args: &RunArgs, result: &Outcome, folder: &std::path::Path) -> anyhow::Result<()> {
    if args.json {
        return show::bytes(result.summary.text().as_bytes());
    }
    if args.quiet {
        return Ok(());
    }
    let rows: Vec<Vec<String>> =
        table(&result.summary).into_iter().map(|(key, value)| vec![key, value]).collect();
    show::table(&["metric", "value"], &rows);
    let events = result.run.counts.events;
    let millis = result.wall.as_millis().max(1);
    show::line(&format!(
        "{events} events in {}.{:03} s ({} events/s)",
        millis / 1_000,
        millis % 1_000,
        u128::from(events) * 1_000 / millis
    ));
    let page = if args.no_pictures { "summary.json" } else { "report.html" };
    show::line(&format!("results: {}", folder.join(page).display()));
    Ok(())
}

/// Runs several seeds and prints means with confidence intervals.
fn run_seeds(
    args: &RunArgs,
    loaded: &Loaded,
    seeds: Seeds,
    folder: &std::path::Path,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let runs = run_all(loaded, seeds, stop)?;
    let spreads = spreads(&runs.summaries);
    let wanted = Wanted { pictures: !args.no_pictures, decisions: args.decisions };
    write(&runs.first, Staging::begin(folder)?, wanted)?;
    let json = crate::compare::seeds_json(&loaded.scenario.name, seeds.from, &spreads);
    let mut staging = Staging::begin(folder)?;
    let text = json.text();
    staging.write("seeds.json", |out| std::io::Write::write_all(out, text.as_bytes()))?;
    staging.finish()?;
    if args.json {
        return show::bytes(text.as_bytes());
    }
    if !args.quiet {
        let rows: Vec<Vec<String>> = spreads.iter().map(Spread::row).collect();
        show::table(&["metric", "mean", "95 % low", "95 % high", "min", "max"], &rows);
        let count = seeds.to - seeds.from;
        show::line(&format!("{count} seeds; the report shows seed {}", seeds.from));
        show::line(&format!("results: {}", folder.join("seeds.json").display()));
    }
    Ok(())
}

/// What several seeds of one scenario left.
pub(super) struct Runs {
    /// The first run, whole.
    pub(super) first: Outcome,
    /// The summaries in the order of the seeds.
    pub(super) summaries: Vec<Json>,
    /// The fill curves of all runs in the order of the seeds; their other rows are dropped.
    pub(super) fills: Vec<RunRecord>,
}

/// Returns a record that keeps nothing but its fill curve.
fn fill_of(record: &RunRecord) -> RunRecord {
    RunRecord { seed: record.seed, fill: record.fill.clone(), ..RunRecord::default() }
}

/// Runs one seed, until its end or Ctrl-C.
pub(super) fn run_one(
    loaded: &Loaded,
    seed: u64,
    stop: &AtomicBool,
) -> Result<Outcome, crate::run::RunError> {
    simulate(loaded, seed, &Keep::default(), |_| !stop.load(Ordering::SeqCst))
}

/// Runs all seeds in parallel.
pub(super) fn run_all(loaded: &Loaded, seeds: Seeds, stop: &AtomicBool) -> anyhow::Result<Runs> {
    use rayon::prelude::*;
    let one = |seed| run_one(loaded, seed, stop);
    let first = one(seeds.from)?;
    let rest: Result<Vec<(Json, RunRecord)>, crate::run::RunError> = (seeds.from + 1..seeds.to)
        .into_par_iter()
        .map(|seed| one(seed).map(|result| (result.summary, fill_of(&result.run.record))))
        .collect();
    let (mut summaries, mut fills): (Vec<Json>, Vec<RunRecord>) = rest?.into_iter().unzip();
    summaries.insert(0, first.summary.clone());
    fills.insert(0, fill_of(&first.run.record));
    if stop.load(Ordering::SeqCst) {
        return Err(Interrupted("before all seeds were done".to_owned()).into());
    }
    Ok(Runs { first, summaries, fills })
}

/// Checks a scenario.
pub(super) fn check(args: &ScenarioArgs) -> anyhow::Result<()> {
    let loaded = args.load()?;
    let setup = build(&loaded, loaded.scenario.seed)?;
    let (nodes, accounts) = (setup.config.nodes.len(), setup.config.accounts.len());
    let pools = setup.config.pools.len();
    let jobs = setup.jobs.count();
    crate::world::World::new(build(&loaded, loaded.scenario.seed)?)?;
    show::line(&format!(
        "{}: ok ({nodes} nodes, {pools} pools, {accounts} accounts, {jobs} jobs)",
        args.rules.scenario.display()
    ));
    Ok(())
}
