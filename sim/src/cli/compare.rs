//! `compare`: the same work under several rules, one report.

use super::run::{interruption, run_all};
use super::{RuleArgs, ScenarioArgs, Seeds, Usage, show};
use crate::compare::{HEADLINE, Metric, Spread, spreads};
use crate::json::{Json, object};
use crate::output::{Staging, write_pictures};
use crate::page::{Cell, Sheet, Table, sheet};
use crate::picture::compare::{Estimate, Variant, fills, metrics, slowdowns};
use crate::record::RunRecord;
use crate::scenario::schema::{PolicyName, StrategyName};
use clap::Args;
use std::path::PathBuf;

/// Options of `compare`.
#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// The scenario files; each is one variant, or the work that the variants below share.
    #[arg(required = true)]
    scenarios: Vec<PathBuf>,
    /// Override a key in all of them.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Files of the trace in all of them.
    #[arg(long, value_name = "[NAME=]FILE")]
    trace: Vec<String>,
    /// Policies to compare, with commas.
    #[arg(long, value_enum, value_delimiter = ',')]
    policies: Vec<PolicyName>,
    /// Strategies to compare, with commas.
    #[arg(long, value_enum, value_delimiter = ',')]
    strategies: Vec<StrategyName>,
    /// Seeds of every variant.
    #[arg(long, value_name = "A..B", default_value = "0..10")]
    seeds: Seeds,
    /// Folder of the results [default: reports/out/compare-SCENARIO].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print no progress and no table.
    #[arg(long, short)]
    quiet: bool,
    /// Print the comparison as JSON.
    #[arg(long)]
    json: bool,
}

/// One variant with its results.
struct Done {
    label: String,
    spreads: Vec<Spread>,
    first: RunRecord,
    fills: Vec<RunRecord>,
}

impl CompareArgs {
    /// Returns the variants: every scenario under every policy and strategy named.
    fn variants(&self) -> Vec<(String, ScenarioArgs)> {
        let mut out = Vec::new();
        let policies = options(&self.policies);
        let strategies = options(&self.strategies);
        for scenario in &self.scenarios {
            for policy in &policies {
                for strategy in &strategies {
                    let mut label = Vec::new();
                    if self.scenarios.len() > 1 {
                        label.push(
                            scenario.file_stem().unwrap_or_default().to_string_lossy().into(),
                        );
                    }
                    label.extend(policy.map(value_name));
                    label.extend(strategy.map(value_name));
                    let rules = RuleArgs {
                        scenario: scenario.clone(),
                        sets: self.sets.clone(),
                        policy: *policy,
                        strategy: *strategy,
                    };
                    let args = ScenarioArgs { rules, trace: self.trace.clone() };
                    out.push((label.join(" "), args));
                }
            }
        }
        out
    }
}

/// Returns the values named, or one that leaves the scenario's own.
fn options<T: Copy>(named: &[T]) -> Vec<Option<T>> {
    if named.is_empty() { vec![None] } else { named.iter().copied().map(Some).collect() }
}

/// Returns how a value is written on the command line.
fn value_name<T: clap::ValueEnum>(value: T) -> String {
    value.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
}

/// Runs all variants and writes one report.
pub(super) fn compare(args: &CompareArgs) -> anyhow::Result<()> {
    let variants = args.variants();
    if variants.len() < 2 {
        let hint =
            "there is nothing to compare: name several scenarios, --policies or --strategies";
        return Err(Usage(hint.to_owned()).into());
    }
    if let Some(out) = &args.out {
        Staging::try_out(out)?;
    }
    let stop = interruption();
    let mut done = Vec::new();
    let mut name = String::new();
    for (label, scenario) in variants {
        let loaded = scenario.load()?;
        name.clone_from(&loaded.scenario.name);
        if !args.quiet && !args.json {
            show::note(&format!("running {label} ..."));
        }
        let runs = run_all(&loaded, args.seeds, &stop)?;
        let (first, fills) = (runs.first.run.record, runs.fills);
        done.push(Done { label, spreads: spreads(&runs.summaries), first, fills });
    }
    let folder = args
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from("reports/out").join(format!("compare-{name}")));
    let count = args.seeds.to - args.seeds.from;
    let subtitle = format!("{name} \u{00B7} {count} seeds from {}", args.seeds.from);
    let json = comparison(&name, &done).text();
    let mut staging = Staging::begin(&folder)?;
    staging.write("comparison.json", |out| out.write_all(json.as_bytes()))?;
    let pictures = draw(&subtitle, &done);
    write_pictures(&mut staging, &pictures)?;
    let page = page(&subtitle, &done, &pictures);
    staging.write("report.html", |out| out.write_all(page.as_bytes()))?;
    staging.finish()?;
    if args.json {
        return show::bytes(json.as_bytes());
    }
    if !args.quiet {
        let header: Vec<&str> =
            ["metric"].into_iter().chain(done.iter().map(|d| d.label.as_str())).collect();
        show::table(&header, &rows(&done));
        show::line(&format!("results: {}", folder.join("report.html").display()));
    }
    Ok(())
}

/// Returns the name of each metric that is shown, and each variant's spread of it.
fn metric_rows(done: &[Done]) -> Vec<(String, Vec<Option<&Spread>>)> {
    let mut keys: Vec<(String, String)> =
        HEADLINE.iter().map(|metric| (metric.key.to_owned(), metric.name.to_owned())).collect();
    for spread in done.first().map(|d| &d.spreads).into_iter().flatten() {
        if let Some(percent) = spread.key.strip_prefix("metrics.allocated_gpu_percent_at.") {
            keys.push((spread.key.clone(), format!("GPUs allocated % at {percent} % requested")));
        }
    }
    let found = |key: &str| done.iter().map(|d| d.spreads.iter().find(|s| s.key == key)).collect();
    keys.into_iter().map(|(key, name)| (name, found(&key))).collect()
}

/// Returns the rows of the table on the terminal.
fn rows(done: &[Done]) -> Vec<Vec<String>> {
    let cell = |spread: Option<&Spread>| spread.map(|s| s.short().join(" \u{00B1} "));
    let row = |(name, spreads): (String, Vec<Option<&Spread>>)| {
        let cells = spreads.into_iter().map(|spread| cell(spread).unwrap_or_default());
        std::iter::once(name).chain(cells).collect()
    };
    metric_rows(done).into_iter().map(row).collect()
}

/// Describes all variants.
fn comparison(name: &str, done: &[Done]) -> Json {
    let variant = |d: &Done| {
        let seeds = crate::compare::seeds_json(&d.first.scenario, d.first.seed, &d.spreads);
        (d.label.clone(), seeds)
    };
    object([
        ("schema", Json::Text("gridsim-comparison/1".to_owned())),
        ("scenario", Json::Text(name.to_owned())),
        ("variants", object(done.iter().map(variant))),
    ])
}

/// Draws what compares the variants.
fn draw(subtitle: &str, done: &[Done]) -> Vec<(&'static str, crate::picture::Svg)> {
    let estimate = |d: &Done, metric: &Metric| {
        Some(metric.estimate(d.spreads.iter().find(|spread| spread.key == metric.key)?))
    };
    let estimates: Vec<Variant<Vec<Estimate>>> = done
        .iter()
        .map(|d| Variant {
            label: d.label.clone(),
            data: HEADLINE.iter().filter_map(|metric| estimate(d, metric)).collect(),
        })
        .collect();
    let runs: Vec<Variant<&RunRecord>> =
        done.iter().map(|d| Variant { label: d.label.clone(), data: &d.first }).collect();
    let curves: Vec<Variant<Vec<&RunRecord>>> = done
        .iter()
        .map(|d| Variant { label: d.label.clone(), data: d.fills.iter().collect() })
        .collect();
    [
        ("compare-metrics", metrics(subtitle, &estimates)),
        ("compare-slowdowns", slowdowns(subtitle, &runs)),
        ("compare-fills", fills(subtitle, &curves)),
    ]
    .into_iter()
    .filter_map(|(stem, svg)| svg.map(|svg| (stem, svg)))
    .collect()
}

/// Writes a page of the comparison: the pictures and a table, nothing from the network.
fn page(subtitle: &str, done: &[Done], pictures: &[(&str, crate::picture::Svg)]) -> String {
    let mut columns = vec![("metric".to_owned(), false)];
    columns.extend(done.iter().map(|d| (d.label.clone(), true)));
    let row = |(name, spreads): (String, Vec<Option<&Spread>>)| {
        let cells = spreads.into_iter().map(|spread| spread.map_or(Cell::Nothing, Spread::cell));
        std::iter::once(Cell::Text(name)).chain(cells).collect()
    };
    let table = Table {
        id: "metrics",
        title: "Metrics",
        note: "Means over the seeds with half the width of their 95 % confidence interval"
            .to_owned(),
        columns,
        rows: metric_rows(done).into_iter().map(row).collect(),
    };
    let title = format!("{} variants compared", done.len());
    let tables = [table];
    sheet(&Sheet { title: &title, facts: subtitle, tiles: &[], tables: &tables, pictures })
}
