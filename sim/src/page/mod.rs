//! One page that holds everything about a run and asks the network for nothing.
//!
//! Style, scripts, letters, data and pictures are inside the file. Tables and pictures can be read
//! without scripts; the charts over time need them. The page is made of the record and what the
//! caller passes, so the same run always leaves the same bytes. Every text from outside is escaped
//! where it is written.

mod data;
mod sheet;
mod table;
mod tables;

use crate::picture::number::{counted, duration, fixed, grouped, of_usize, ratio, seconds, short};
use crate::picture::{Svg, escape, quantile, series, svg, wait};
use crate::record::{JobState, RunRecord};
use core::fmt::Write as _;
use gridcore::bundle::Dimension;
use serde_json::Value;

pub use sheet::{Sheet, sheet};
pub use table::{Cell, Table};

/// The page with names in double braces where its parts belong.
const TEMPLATE: &str = include_str!("page.html");

/// Draws the page of a run.
///
/// `summary` is what `summary.json` holds, `rows` its human form (name, value), `pictures` are
/// shown in their order; [`crate::picture::ALL`] has those of one run.
#[must_use]
pub fn render(
    run: &RunRecord,
    summary: &Value,
    rows: &[(String, String)],
    pictures: &[Svg],
) -> String {
    let part = |name: &str| match name {
        "scenario" => escape(title(run)),
        "fonts" => svg::font_faces(),
        "style" => include_str!("page.css").to_owned(),
        "about" if run.about.is_empty() => String::new(),
        "about" => format!("<p>{}</p>", escape(&run.about)),
        "facts" => escape(&facts(run)),
        "banner" => banner(run),
        "tiles" => sheet::tiles(&key_figures(run)),
        "pictures" => figures(pictures),
        "tables" => format!("<div class=\"tables\">{}</div>", tables::html(run)),
        "summary" => summary_html(summary, rows),
        "data" => data::json(run),
        "charts-script" => include_str!("charts.js").to_owned(),
        "page-script" => include_str!("page.js").to_owned(),
        _ => String::new(),
    };
    fill(TEMPLATE, part)
}

/// Puts each part of a page where the template names it. In one pass: what is filled in is never
/// searched for names again.
fn fill(template: &str, part: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, (name, after))) =
        rest.split_once("{{").and_then(|(before, tail)| Some((before, tail.split_once("}}")?)))
    {
        out.push_str(before);
        out.push_str(&part(name));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Returns what the page is called.
fn title(run: &RunRecord) -> &str {
    if run.scenario.is_empty() { "run" } else { &run.scenario }
}

/// Says what was run.
fn facts(run: &RunRecord) -> String {
    let names = ["policy", "strategy", "order", "backfill"];
    let mut parts = vec![
        counted(run.nodes.len(), "node"),
        counted(run.jobs.len(), "job"),
        counted(run.accounts.len(), "account"),
        format!("{} simulated", duration(seconds(run.end))),
    ];
    let rules = names.iter().zip(&run.rules).filter(|(_, rule)| !rule.is_empty());
    parts.extend(rules.map(|(name, rule)| format!("{name} {rule}")));
    parts.push(format!("seed {}", run.seed));
    parts.join(" \u{00B7} ")
}

/// Warns where the run did not reach its end.
fn banner(run: &RunRecord) -> String {
    if run.complete {
        return String::new();
    }
    let reached = escape(&duration(seconds(run.end)));
    format!(
        "<p class=\"banner\" role=\"alert\">This run is partial: it was stopped after {reached} of \
         simulated time. Every number below covers only that part.</p>"
    )
}

/// Returns the key figures, name and value.
fn key_figures(run: &RunRecord) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut add = |name: &str, value: String| out.push((name.to_owned(), value));
    let count = |state: JobState| run.jobs.iter().filter(|job| job.state == state).count();
    if !run.jobs.is_empty() {
        let completed = count(JobState::Completed);
        let part = 100.0 * ratio(of_usize(completed), of_usize(run.jobs.len()));
        let whole = grouped(u64::try_from(completed).unwrap_or(u64::MAX));
        add(&format!("jobs completed ({}\u{a0}%)", fixed(part, 1)), whole);
        let mut waits: Vec<f64> = run.jobs.iter().filter_map(wait).collect();
        waits.sort_by(f64::total_cmp);
        add("wait, median", duration(quantile(&waits, 0.5)));
        add("wait, 95th percentile", duration(quantile(&waits, 0.95)));
    }
    for (dimension, name) in [(Dimension::Gpu, "GPU"), (Dimension::Cpu, "CPU")] {
        if let Some(usage) = series::usage(run, dimension, 1) {
            let [owner, lent @ ..] = usage.shares;
            let lent: f64 = lent.iter().sum();
            add(&format!("{name} time borrowed"), format!("{} %", fixed(lent * 100.0, 1)));
            let used = format!("{} %", fixed((owner + lent) * 100.0, 1));
            add(&format!("{name} time used in all"), used);
        }
    }
    let evictions: u64 = run.jobs.iter().map(|job| u64::from(job.preemptions)).sum();
    add("evictions", grouped(evictions));
    let moves: u64 = run.jobs.iter().map(|job| u64::from(job.moves)).sum();
    add("of them moves to other nodes", grouped(moves));
    let lost: f64 = run.jobs.iter().map(|job| crate::picture::number::span_seconds(job.lost)).sum();
    add("work lost (hours)", short(lost / 3_600.0));
    if let Some(row) = run.timeline.last() {
        let [opened, leased, ..] = row.offers;
        add(&format!("offers leased of {} opened", grouped(opened)), grouped(leased));
    }
    out
}

/// Returns the pictures as figures.
fn figures<'a>(pictures: impl IntoIterator<Item = &'a Svg>) -> String {
    let mut out = String::new();
    for picture in pictures {
        let _written = writeln!(
            out,
            "<figure class=\"card picture\" tabindex=\"0\">{}</figure>",
            picture.inline()
        );
    }
    if out.is_empty() {
        out.push_str("<p class=\"note\">There is nothing to draw.</p>");
    }
    out
}

/// Returns the summary as a table and as the JSON that it is.
fn summary_html(summary: &Value, rows: &[(String, String)]) -> String {
    let mut out = String::new();
    if !rows.is_empty() {
        out.push_str("<div class=\"card\"><div class=\"scroll\"><table><tbody>\n");
        for (name, value) in rows {
            let (name, value) = (escape(name), escape(value));
            let _written =
                writeln!(out, "<tr><th scope=\"row\">{name}</th><td class=\"t\">{value}</td></tr>");
        }
        out.push_str("</tbody></table></div></div>\n");
    }
    let text = serde_json::to_string_pretty(summary).unwrap_or_default();
    let _written = write!(
        out,
        "<details class=\"card\"><summary><h3>summary.json</h3></summary><pre>{}</pre></details>",
        escape(&text)
    );
    out
}
