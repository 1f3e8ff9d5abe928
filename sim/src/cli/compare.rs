//! `compare`: the same work under several rules, one report.

use super::run::{interruption, run_all};
use super::{RuleArgs, ScenarioArgs, Seeds, show};
use crate::compare::{HEADLINE, Spread, spreads};
use crate::json::{Json, object};
use crate::output::{Staging, write_pictures};
use crate::picture::compare::{Estimate, Variant, fills, metrics, slowdowns};
use crate::picture::escape;
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
    anyhow::ensure!(
        variants.len() > 1,
        "there is nothing to compare: name several scenarios, --policies or --strategies"
    );
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

/// Returns the row of each headline metric that any variant has.
fn rows(done: &[Done]) -> Vec<Vec<String>> {
    let cell = |spread: &Spread| {
        let short = |v: i128| {
            let text = crate::json::fixed(v);
            text.get(..text.len() - 3).unwrap_or(&text).to_owned()
        };
        format!("{} \u{00B1} {}", short(spread.mean), short(spread.half))
    };
    let mut keys: Vec<(String, String)> =
        HEADLINE.iter().map(|(k, n)| ((*k).to_owned(), (*n).to_owned())).collect();
    for spread in done.first().map(|d| &d.spreads).into_iter().flatten() {
        if let Some(percent) = spread.key.strip_prefix("metrics.allocated_gpu_percent_at.") {
            keys.push((spread.key.clone(), format!("GPUs allocated % at {percent} % requested")));
        }
    }
    let mut out = Vec::new();
    for (key, name) in keys {
        let found = |d: &Done| d.spreads.iter().find(|s| s.key == key).map(cell);
        let cells: Vec<String> = done.iter().map(|d| found(d).unwrap_or_default()).collect();
        out.push(std::iter::once(name).chain(cells).collect());
    }
    out
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
    #[expect(clippy::cast_precision_loss, reason = "a picture needs no more than 53 bits")]
    let float = |value: i128| value as f64 / 1e6;
    let estimate = |d: &Done, (key, name): &(&str, &str)| {
        let spread = d.spreads.iter().find(|s| s.key == *key)?;
        let (low, high) = (spread.mean - spread.half, spread.mean + spread.half);
        let metric = (*name).to_owned();
        Some(Estimate { metric, mean: float(spread.mean), low: float(low), high: float(high) })
    };
    let estimates: Vec<Variant<Vec<Estimate>>> = done
        .iter()
        .map(|d| Variant {
            label: d.label.clone(),
            data: HEADLINE.iter().filter_map(|pair| estimate(d, pair)).collect(),
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

/// Writes a page of the comparison: a table and the pictures, nothing from the network.
fn page(subtitle: &str, done: &[Done], pictures: &[(&str, crate::picture::Svg)]) -> String {
    let style = include_str!("../page/page.css");
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{0}</title><style>{style}</style></head><body><main>\
         <h1>{0}</h1><div class=\"tables\"><table><thead><tr><th>metric</th>",
        escape(subtitle)
    );
    for d in done {
        out.push_str(&format!("<th>{}</th>", escape(&d.label)));
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows(done) {
        out.push_str("<tr>");
        for cell in row {
            out.push_str(&format!("<td>{}</td>", escape(&cell)));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
    for (_, svg) in pictures {
        out.push_str(&format!("<figure>{}</figure>", svg.document()));
    }
    out.push_str("</main></body></html>\n");
    out
}
