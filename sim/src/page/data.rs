//! The series of the page's charts, as JSON that may stand inside a script element.

use crate::picture::colour::{self, HEAT, LENDING, Ramp};
use crate::picture::encode::base64;
use crate::picture::number::{index, of_u64, of_usize, span_seconds};
use crate::picture::series::{self, Grid};
use crate::picture::{credit, price, stack};
use crate::record::{RunRecord, TimelineRow};
use gridcore::bundle::Dimension;
use gridcore::units::Band;
use serde_json::{Value, json};

/// How many points a series has at most.
const POINTS: usize = 2_000;
/// Columns and rows of a heat map at most.
const CELLS: (usize, usize) = (1_000, 300);
/// How many accounts have a line at most: those whose balance moved most come first.
const ACCOUNTS_MAX: usize = 24;

/// Returns the data of all charts that have any.
pub(crate) fn json(run: &RunRecord) -> String {
    let charts: Vec<Value> = [
        usage(run, Dimension::Gpu, ("gpu", "GPUs in use (devices)")),
        usage(run, Dimension::Cpu, ("cpu", "CPUs in use (cores)")),
        queue(run),
        waits(run),
        offers(run),
        prices(run),
        balances(run),
        heat(run, ("pressure", "Pressure by node"), &HEAT, series::pressure),
        heat(run, ("lending", "Lent part of each node"), &LENDING, series::lending),
    ]
    .into_iter()
    .flatten()
    .collect();
    for_script(&json!({ "end": series::end(run), "charts": charts }))
}

/// Prints JSON so that no text in it can end a script element.
pub(crate) fn for_script(value: &Value) -> String {
    let text = value.to_string();
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
    out
}

/// Rounds to three decimals: a chart shows fewer.
fn rounded(values: &[f64]) -> Vec<Value> {
    let number = |v: &f64| {
        let v = (v * 1_000.0).round() / 1_000.0;
        // Whole numbers are written without a fraction, which halves the page.
        let is_whole = v.fract().abs() < 1e-9 && v.abs() < 1e15;
        if is_whole { json!(whole(v)) } else { json!(v) }
    };
    values.iter().map(number).collect()
}

/// Turns a whole float into an integer.
#[expect(clippy::cast_possible_truncation, reason = "the caller checks the range")]
fn whole(value: f64) -> i64 {
    value as i64
}

/// One series of a chart; a colour that begins with two dashes is a name of the style sheet.
fn line(name: &str, colour: &str, values: &[f64]) -> Value {
    json!({ "name": name, "colour": colour, "values": rounded(values) })
}

/// Where one resource went.
fn usage(run: &RunRecord, dimension: Dimension, (id, title): (&str, &str)) -> Option<Value> {
    let usage = series::usage(run, dimension, POINTS)?;
    let mut lines = vec![line("owners", "--owner", &usage.owner)];
    for (band, values) in Band::ALL.iter().zip(&usage.lent) {
        if values.iter().any(|v| *v > 0.0) {
            lines.push(line(band.name(), &colour::hex(colour::band(*band)), values));
        }
    }
    let used = |i: usize| {
        let lent: f64 = usage.lent.iter().filter_map(|band| band.get(i)).sum();
        lent + usage.owner.get(i).copied().unwrap_or(0.0)
    };
    let idle: Vec<f64> =
        usage.capacity.iter().enumerate().map(|(i, whole)| (whole - used(i)).max(0.0)).collect();
    lines.push(line("idle", "--idle", &idle));
    let offered: Vec<f64> = usage.owner.iter().zip(&usage.offered).map(|(a, b)| a + b).collect();
    let mut offer = line("owners + on offer", "--dark", &offered);
    if let Some(fields) = offer.as_object_mut() {
        fields.insert("line".to_owned(), json!(true));
    }
    lines.push(offer);
    Some(chart((id, title, "stack"), "", &usage.times, lines))
}

/// Puts a chart together.
fn chart(
    (id, title, kind): (&str, &str, &str),
    unit: &str,
    times: &[f64],
    lines: Vec<Value>,
) -> Value {
    json!({
        "id": id, "title": title, "kind": kind, "unit": unit,
        "times": rounded(times), "series": lines,
    })
}

/// Jobs that wait, by class.
fn queue(run: &RunRecord) -> Option<Value> {
    if run.timeline.is_empty() || run.jobs.is_empty() {
        return None;
    }
    let size = series::group(run.timeline.len(), POINTS);
    let count = |row: &TimelineRow, i: usize| row.queued.get(i).map_or(0, |n| u64::from(*n));
    let mut lines: Vec<Value> = Vec::new();
    for (i, band) in Band::ALL.iter().enumerate() {
        let values = series::means(&run.timeline, size, |row| of_u64(count(row, i)));
        lines.push(line(band.name(), &colour::hex(colour::band(*band)), &values));
    }
    let running = series::means(&run.timeline, size, |row| of_u64(u64::from(row.running)));
    let mut running = line("running", "--dark", &running);
    if let Some(fields) = running.as_object_mut() {
        fields.insert("line".to_owned(), json!(true));
    }
    lines.push(running);
    let times = series::times(run, size);
    Some(chart(("queue", "Jobs waiting (areas) and running (line)", "stack"), "", &times, lines))
}

/// Mean waits of the jobs that started, by class.
fn waits(run: &RunRecord) -> Option<Value> {
    let mut lines = Vec::new();
    let size = series::group(run.timeline.len(), 400);
    for (i, band) in Band::ALL.iter().enumerate() {
        let mean = |rows: &[TimelineRow]| {
            let known: Vec<f64> = rows
                .iter()
                .filter_map(|row| row.wait.get(i).copied().flatten())
                .map(span_seconds)
                .collect();
            let sum: f64 = known.iter().sum();
            (!known.is_empty()).then(|| (sum / of_usize(known.len()) * 1_000.0).round() / 1_000.0)
        };
        let values: Vec<Option<f64>> = run.timeline.chunks(size).map(mean).collect();
        if values.iter().any(Option::is_some) {
            let colour = colour::hex(colour::band(*band));
            lines.push(json!({ "name": band.name(), "colour": colour, "values": values }));
        }
    }
    let title = "Mean wait of the jobs that started (ratio scale)";
    let mut out = chart(("waits", title, "line"), "s", &series::times(run, size), lines);
    let fields = out.as_object_mut()?;
    fields.insert("log".to_owned(), json!(true));
    let is_empty = fields.get("series").and_then(Value::as_array).is_none_or(Vec::is_empty);
    (!is_empty).then_some(out)
}

/// Offers by fate since the start.
fn offers(run: &RunRecord) -> Option<Value> {
    let total = run.timeline.last()?.offers;
    if total.iter().all(|count| *count == 0) {
        return None;
    }
    let size = series::group(run.timeline.len(), POINTS);
    let mut lines = Vec::new();
    for (i, (name, tone)) in stack::FATES.iter().enumerate() {
        let count = |row: &TimelineRow| row.offers.get(i).map_or(0.0, |n| of_u64(*n));
        let values = series::lasts(&run.timeline, size, count);
        let tone = if *name == "revoked" { "--dark".to_owned() } else { colour::hex(*tone) };
        lines.push(line(name, &tone, &values));
    }
    let times = series::times(run, size);
    Some(chart(("offers", "Offers since the start, by fate", "line"), "", &times, lines))
}

/// The prices that move.
fn prices(run: &RunRecord) -> Option<Value> {
    let moving = price::moving(run);
    if moving.is_empty() {
        return None;
    }
    let size = series::group(run.timeline.len(), POINTS);
    let lines = moving.into_iter().filter_map(|i| {
        let (name, tone) = price::RESOURCES.get(i)?;
        let values = series::means(&run.timeline, size, |row| price::multiple(row, i));
        Some(line(name, &colour::hex(*tone), &values))
    });
    let (lines, title) = (lines.collect(), "Prices (multiples of the rates)");
    Some(chart(("price", title, "line"), "", &series::times(run, size), lines))
}

/// Credit of each account.
fn balances(run: &RunRecord) -> Option<Value> {
    if run.transfers.is_empty() || run.accounts.is_empty() {
        return None;
    }
    let balances = credit::balances(run, 600);
    let mut lines: Vec<(usize, Value)> = Vec::new();
    for (id, rank) in credit::by_range(&balances).into_iter().enumerate() {
        let (Some(name), Some(values)) = (run.accounts.get(id), balances.series.get(id)) else {
            continue;
        };
        let tone = match rank {
            0..=6 => colour::hex(colour::series(rank)),
            7 => "--quiet".to_owned(),
            _ => "--axis".to_owned(),
        };
        lines.push((rank, line(name, &tone, values)));
    }
    lines.sort_by_key(|(rank, _)| *rank);
    lines.truncate(ACCOUNTS_MAX);
    let lines = lines.into_iter().map(|(_, line)| line).collect();
    let title = "Credit by account (available and held)";
    let mut out = chart(("credit", title, "line"), "ATP", &balances.times, lines);
    let fields = out.as_object_mut()?;
    fields.insert("free".to_owned(), json!(true));
    let count = run.accounts.len();
    if count > ACCOUNTS_MAX {
        let note = format!("The {ACCOUNTS_MAX} accounts of {count} whose credit moved most.");
        fields.insert("note".to_owned(), json!(note));
    }
    Some(out)
}

/// One value per node and time, as bytes: 0 to 250, and 255 for a node that is not there.
fn heat(
    run: &RunRecord,
    (id, title): (&str, &str),
    ramp: &Ramp,
    value: impl Fn(&crate::record::NodeSample) -> f64,
) -> Option<Value> {
    let Grid { columns, cells } = series::grid(run, CELLS, value);
    if cells.is_empty() {
        return None;
    }
    let byte = |cell: &Option<f64>| {
        cell.map_or(255, |v| u8::try_from(index((v * 250.0).round(), 250)).unwrap_or(250))
    };
    let bytes: Vec<u8> = cells.iter().map(byte).collect();
    let rows = cells.len() / columns.max(1);
    let order: Vec<usize> = series::kinds(run).into_iter().flat_map(|kind| kind.nodes).collect();
    let name = |part: &[usize]| {
        let first = part.first().and_then(|i| run.nodes.get(*i)).map_or("", |n| n.name.as_str());
        match part.len() {
            0 | 1 => first.to_owned(),
            count => format!("{first} and {} more", count - 1),
        }
    };
    let names: Vec<String> = order.chunks(series::group(order.len(), CELLS.1)).map(name).collect();
    Some(json!({
        "id": id, "title": title, "kind": "heat", "columns": columns, "rows": rows,
        "ramp": ramp.map(colour::hex), "names": names, "cells": base64(&bytes),
        "note": "One row per node, grouped by kind of hardware; grey: not reachable.",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_in_the_data_can_end_its_script() {
        let text = for_script(&json!({ "name": "</script><!-- & \u{2028}" }));
        assert_eq!(text, r#"{"name":"\u003c/script\u003e\u003c!-- \u0026 \u2028"}"#);
        let back: Value = serde_json::from_str(&text).expect("still JSON");
        assert_eq!(back["name"], "</script><!-- & \u{2028}");
    }
}
