//! What `sweep` and `tune` share: the keys that are varied, running combinations, the report.

use super::many::ManyArgs;
use super::run::{interruption, run_one};
use super::{Interrupted, ScenarioArgs, Seeds, Usage, show};
use crate::output::{Staging, write_pictures};
use crate::page::{Cell, Sheet, Table, sheet};
use crate::picture::Svg;
use crate::scenario::build::build;
use crate::scenario::{Loaded, tree, varied};
use crate::sweep::axis::{Axis, Point, Space, overlap};
use crate::sweep::{Exploration, Question, Trial, Way, measured, metrics};
use crate::world::World;
use anyhow::Context;
use clap::Args;
use clap::builder::PossibleValuesParser;
use rayon::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The word for the utilisation of GPUs, or of CPUs in a cluster without any.
const UTILISATION: &str = "utilisation";
/// What defines the front where nobody says.
const OBJECTIVES: [&str; 4] = [UTILISATION, "wait_s", "owner_harm_share", "destroyed_work_s"];
/// Most combinations that are run.
pub(super) const COMBINATIONS_MAX: u128 = 10_000;
/// Rows of the table on the terminal beside the front, and of the front.
const ROWS_MAX: [usize; 2] = [10, 30];
/// Rows of the table on the page.
const PAGE_ROWS_MAX: usize = 2_000;

/// Options of `sweep` and `tune`.
#[derive(Debug, Args)]
pub(super) struct ExploreArgs {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// Vary a key that --set takes: KEY=V1,V2,.. or KEY=LO..HI or KEY=LO..HI..STEP (HI inside;
    /// without STEP in steps of the last place: 60s..300s, 0.50..0.90); several times for several.
    #[arg(long = "vary", value_name = "KEY=VALUES", required = true)]
    vary: Vec<Axis>,
    /// Metrics that define the front, with commas; the first orders it.
    #[arg(long, value_name = "METRIC", value_delimiter = ',', value_parser = objectives())]
    #[arg(default_values = OBJECTIVES)]
    objective: Vec<String>,
    /// Seeds of every combination (B outside).
    #[arg(long, value_name = "A..B", default_value = "0..5")]
    seeds: Seeds,
    /// Folder of the results [default: reports/out/VERB-SCENARIO].
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    many: ManyArgs,
}

/// Returns the words that `--objective` takes.
fn objectives() -> PossibleValuesParser {
    PossibleValuesParser::new(std::iter::once(UTILISATION).chain(metrics().map(|m| m.word)))
}

/// A scenario of which combinations are run.
pub(super) struct Ground<'a> {
    args: &'a ExploreArgs,
    tree: serde_json::Value,
    name: String,
    has_gpus: bool,
    folder: PathBuf,
    pool: rayon::ThreadPool,
    stop: Arc<AtomicBool>,
    /// What is varied.
    pub(super) space: Space,
}

impl ExploreArgs {
    /// Checks everything that can be checked before anything is run.
    pub(super) fn ground(&self, verb: &str) -> anyhow::Result<Ground<'_>> {
        let usage = |error: crate::sweep::axis::AxisError| Usage(error.to_string());
        let space = Space::new(self.vary.clone()).map_err(usage)?;
        self.check_overlaps(&space)?;
        let rules = &self.scenario.rules;
        let loaded = self.scenario.load()?;
        let tree = tree(&rules.scenario, &rules.sets)?;
        for axis in space.axes() {
            let count = axis.count();
            // Of a range its ends speak for all.
            let step = if axis.is_range() { (count - 1).max(1) } else { 1 };
            for index in (0..count).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
                let set = format!("{}={}", axis.key(), axis.value(index));
                self.scenario.change(varied(&rules.scenario, &tree, &[set])?)?;
            }
        }
        let name = loaded.scenario.name.clone();
        let default = || PathBuf::from("reports/out").join(format!("{verb}-{name}"));
        let folder = self.out.clone().unwrap_or_else(default);
        Staging::try_out(&folder)?;
        let first = self.with(&space.sets(&space.point(0)), &tree)?;
        // What is wrong with it is said when its turn comes.
        let has_gpus = build(&first, self.seeds.from)
            .is_ok_and(|setup| setup.config.nodes.iter().any(|node| node.capacity.gpu.get() > 0));
        let (pool, stop) = (self.many.pool()?, interruption());
        Ok(Ground { args: self, tree, name, has_gpus, folder, pool, stop, space })
    }

    /// Refuses a key that something else decides as well.
    fn check_overlaps(&self, space: &Space) -> Result<(), Usage> {
        let rules = &self.scenario.rules;
        let mut others: Vec<(&str, &str)> = vec![("seed", "--seeds")];
        if rules.policy.is_some() {
            others.push(("execution.resource_sharing.policy", "--policy"));
        }
        if rules.strategy.is_some() {
            others.push(("execution.scheduling.strategy", "--strategy"));
        }
        let set_keys = rules.sets.iter().filter_map(|set| set.split_once('='));
        others.extend(set_keys.map(|(key, _)| (key, "--set")));
        for key in space.axes().iter().map(Axis::key) {
            if let Some((_, option)) = others.iter().find(|(other, _)| overlap(key, other)) {
                return Err(Usage(format!(
                    "--vary {key}: {option} decides it already; leave one of them out"
                )));
            }
        }
        Ok(())
    }

    /// Returns the scenario with some values of the keys.
    fn with(&self, sets: &[String], tree: &serde_json::Value) -> anyhow::Result<Loaded> {
        let loaded = varied(&self.scenario.rules.scenario, tree, sets)?;
        Ok(self.scenario.change(loaded)?)
    }
}

impl Ground<'_> {
    /// Returns the objectives as places among the metrics, each once.
    pub(super) fn objectives(&self) -> Vec<usize> {
        let utilisation = if self.has_gpus { "gpu_utilisation" } else { "cpu_utilisation" };
        let mut out = Vec::new();
        for word in &self.args.objective {
            let word = if word == UTILISATION { utilisation } else { word };
            let place = metrics().position(|metric| metric.word == word);
            out.extend(place.filter(|place| !out.contains(place)));
        }
        out
    }

    /// Returns what was asked.
    pub(super) fn question(&self, way: Way) -> Question {
        let seeds = (self.args.seeds.from, self.args.seeds.to);
        let (scenario, space) = (self.name.clone(), self.space.clone());
        Question { scenario, way, seeds, space, objectives: self.objectives() }
    }

    /// Returns how many runs so many combinations are, and a bar over them.
    pub(super) fn progress(&self, combinations: u64) -> indicatif::ProgressBar {
        let seeds = self.args.seeds.to - self.args.seeds.from;
        let runs = combinations.saturating_mul(seeds);
        if !self.args.many.is_silent() {
            show::note(&format!("{combinations} combinations of {seeds} seeds: {runs} runs"));
        }
        show::counting(runs, self.args.many.is_silent())
    }

    /// Returns whether Ctrl-C was pressed, as an error.
    pub(super) fn go_on(&self) -> Result<(), Interrupted> {
        if self.stop.load(Ordering::SeqCst) {
            return Err(Interrupted(
                "before all combinations were run; nothing is left".to_owned(),
            ));
        }
        Ok(())
    }

    /// Checks that a combination can be run.
    pub(super) fn check(&self, point: &Point) -> anyhow::Result<()> {
        let sets = self.space.sets(point);
        let check = || {
            let loaded = self.args.with(&sets, &self.tree)?;
            World::new(build(&loaded, self.args.seeds.from)?)?;
            anyhow::Ok(())
        };
        check().with_context(|| format!("with {}", sets.join(" ")))
    }

    /// Checks many; the first that cannot be run is the error.
    pub(super) fn check_all(&self, points: &[Point]) -> anyhow::Result<()> {
        let wrong = |point: &Point| match self.go_on() {
            Ok(()) => self.check(point).err(),
            Err(stopped) => Some(stopped.into()),
        };
        let found = self.pool.install(|| points.par_iter().find_map_first(wrong));
        found.map_or(Ok(()), Err)
    }

    /// Runs some combinations with every seed; the same whatever the number of threads.
    pub(super) fn run(
        &self,
        points: Vec<Point>,
        is_designed: bool,
        bar: &indicatif::ProgressBar,
    ) -> anyhow::Result<Vec<Trial>> {
        let seeds = self.args.seeds;
        let one = |(point, seed): (&Point, u64)| -> anyhow::Result<Vec<Option<i128>>> {
            self.go_on()?;
            let loaded = self.args.with(&self.space.sets(point), &self.tree)?;
            let found = run_one(&loaded, seed, &self.stop)
                .with_context(|| format!("with {}", self.space.sets(point).join(" ")))?;
            bar.inc(1);
            Ok(measured(&found.summary))
        };
        let tasks: Vec<(&Point, u64)> =
            points.iter().flat_map(|p| (seeds.from..seeds.to).map(move |seed| (p, seed))).collect();
        let runs: anyhow::Result<Vec<_>> =
            self.pool.install(|| tasks.into_par_iter().map(one).collect());
        let runs = runs?;
        self.go_on()?;
        let count = usize::try_from(seeds.to - seeds.from).unwrap_or(usize::MAX);
        let trials = points.into_iter().zip(runs.chunks(count));
        Ok(trials.map(|(point, runs)| Trial::of(point, is_designed, runs)).collect())
    }

    /// Writes and prints what was found.
    pub(super) fn report(&self, found: &Exploration) -> anyhow::Result<()> {
        let json = found.json().text();
        let mut staging = Staging::begin(&self.folder)?;
        staging.write("summary.json", |out| out.write_all(json.as_bytes()))?;
        staging.write(&format!("{}.csv", found.word()), |out| found.write_csv(out))?;
        let pictures = found.pictures();
        write_pictures(&mut staging, &pictures)?;
        let page = page(found, &pictures);
        staging.write("report.html", |out| out.write_all(page.as_bytes()))?;
        staging.finish()?;
        if self.args.many.json {
            return show::bytes(json.as_bytes());
        }
        if !self.args.many.quiet {
            table(found);
            show::line(&format!("results: {}", self.folder.join("report.html").display()));
        }
        if found.front().is_empty() {
            let words: Vec<&str> = found.objectives.iter().filter_map(|i| word(*i)).collect();
            show::note(&format!(
                "note: no combination has all of {}: there is no front; choose others with \
                 --objective",
                words.join(", ")
            ));
        }
        Ok(())
    }
}

/// Returns the word of a metric.
fn word(metric: usize) -> Option<&'static str> {
    metrics().nth(metric).map(|metric| metric.word)
}

/// Prints the front, then the first of the others.
fn table(found: &Exploration) {
    let names = found.space.names();
    let objectives = || found.objectives.iter().filter_map(|i| metrics().nth(*i));
    let mut header = vec!["front"];
    header.extend(names.iter().map(String::as_str));
    header.extend(objectives().map(|metric| metric.name));
    let row = |(i, trial): (usize, &Trial)| {
        let mut row = vec![found.rank(i).map_or_else(String::new, |rank| rank.to_string())];
        row.extend(found.space.values(&trial.point));
        let cell = |metric: &usize| trial.spread(*metric).map(|s| s.short().join(" \u{00B1} "));
        row.extend(found.objectives.iter().map(|metric| cell(metric).unwrap_or_default()));
        row
    };
    let [others, front] = ROWS_MAX;
    let members = found.front().len();
    let rows: Vec<Vec<String>> = found.ranked().take(members.min(front)).map(row).collect();
    let rest = found.ranked().skip(members).take(others).map(row);
    let rows: Vec<Vec<String>> = rows.into_iter().chain(rest).collect();
    show::table(&header, &rows);
    let all = found.trials.len();
    let more = if rows.len() < all {
        format!("; all of them are in {}.csv", found.word())
    } else {
        String::new()
    };
    let is = if members == 1 { "is" } else { "are" };
    show::line(&format!("{members} of {all} combinations {is} beaten by no other{more}"));
}

/// Writes the page: key figures, pictures, all combinations.
fn page(found: &Exploration, pictures: &[(&str, Svg)]) -> String {
    let mut columns = vec![("front".to_owned(), true), ("combination".to_owned(), true)];
    let axes = found.space.axes();
    columns.extend(found.space.names().into_iter().zip(axes).map(|(n, a)| (n, a.is_range())));
    let known = found.known();
    columns.extend(known.iter().filter_map(|i| Some((metrics().nth(*i)?.name.to_owned(), true))));
    let number = |value: usize| {
        let text = value.to_string();
        Cell::Shown { order: text.clone(), text, small: String::new() }
    };
    let row = |(i, trial): (usize, &Trial)| {
        let mut row = vec![found.rank(i).map_or(Cell::Nothing, number), number(i + 1)];
        let values = found.space.values(&trial.point).into_iter().zip(&trial.point);
        row.extend(values.zip(axes).map(|((text, index), axis)| match axis.is_range() {
            true => Cell::Shown { text, small: String::new(), order: index.to_string() },
            false => Cell::Text(text),
        }));
        let cell = |i: &usize| trial.spread(*i).map_or(Cell::Nothing, |spread| spread.cell());
        row.extend(known.iter().map(cell));
        row
    };
    let more = found.trials.len().saturating_sub(PAGE_ROWS_MAX);
    let rest = match more {
        0 => String::new(),
        more => format!("; {more} more are in {}.csv", found.word()),
    };
    let table = Table {
        id: "combinations",
        title: "Combinations",
        note: format!(
            "Means over the seeds with half the width of their 95 % confidence interval; the front \
             first, by rank{rest}"
        ),
        columns,
        rows: found.ranked().take(PAGE_ROWS_MAX).map(row).collect(),
    };
    let verb = if found.way == Way::Sweep { "swept" } else { "searched" };
    let title = format!("{}: {} {verb}", found.scenario, found.space.names().join(", "));
    let tables = [table];
    let (facts, tiles) = (found.subtitle(), tiles(found));
    sheet(&Sheet { title: &title, facts: &facts, tiles: &tiles, tables: &tables, pictures })
}

/// Returns the key figures: how many are on the front, and the best of each objective.
fn tiles(found: &Exploration) -> Vec<(String, String)> {
    let (members, all) = (found.front().len(), found.trials.len());
    let mut out = vec![(format!("of {all} combinations beaten by no other"), members.to_string())];
    for place in &found.objectives {
        let Some(metric) = metrics().nth(*place) else { continue };
        let spreads = found.front().iter().filter_map(|i| found.trials.get(*i)?.spread(*place));
        let sign = if metric.is_higher_better { -1 } else { 1 };
        if let Some(best) = spreads.min_by_key(|spread| spread.mean * sign) {
            let way = if metric.is_higher_better { "highest" } else { "lowest" };
            let [text, _] = best.short();
            out.push((format!("{way} {} on the front", metric.name), text));
        }
    }
    out
}
