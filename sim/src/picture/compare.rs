//! Runs side by side: means with their confidence, slowdowns, fill curves.

use crate::picture::canvas::{Anchor, Area, Canvas, Style, WIDTH};
use crate::picture::cdf::{quantile, slowdown};
use crate::picture::colour::{self, Colour, GRID, INK, QUIET, mix};
use crate::picture::fill::{Curve, SIDES, frame, gap, gaps, percents, resampled};
use crate::picture::frame::{Axis, EndLabel, Figure, MARGIN, Panel, SMALL, end_labels};
use crate::picture::number::{counted, of_usize, short};
use crate::picture::svg::Svg;
use crate::picture::text::{Weight, clean, shorten};
use crate::picture::ticks;
use crate::record::RunRecord;

/// The mean of a metric over runs with different seeds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimate {
    /// What is measured, with its unit.
    pub metric: String,
    /// The mean over the runs.
    pub mean: f64,
    /// The lower end of its 95 % confidence interval.
    pub low: f64,
    /// The upper end of its 95 % confidence interval.
    pub high: f64,
}

/// One thing that is compared and what was measured of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variant<T> {
    /// Its name: a policy, a strategy, a scenario.
    pub label: String,
    /// What was measured.
    pub data: T,
}

/// Room for the names of variants.
const NAMES: f64 = 120.0;
/// Panels side by side.
const COLUMNS: usize = 3;

/// Draws one panel per metric: a dot at each variant's mean, a line over its 95 % confidence
/// interval. `subtitle` says what was run and with how many seeds.
#[must_use]
pub fn metrics(subtitle: &str, variants: &[Variant<Vec<Estimate>>]) -> Option<Svg> {
    let mut names: Vec<&str> = Vec::new();
    for estimate in variants.iter().flat_map(|v| &v.data) {
        if !names.contains(&estimate.metric.as_str()) {
            names.push(&estimate.metric);
        }
    }
    if names.is_empty() {
        return None;
    }
    let title = format!("{} compared", counted(variants.len(), "variant"));
    let note = "Dot: mean; line: 95 % confidence interval; every axis begins at zero".to_owned();
    let mut figure = Figure::new(&title, &[subtitle.to_owned(), note]);
    let height = 20.0 * of_usize(variants.len()) + 8.0;
    let room = (WIDTH - 2.0 * MARGIN - NAMES) / of_usize(COLUMNS);
    for row in names.chunks(COLUMNS) {
        let top = figure.y + 22.0;
        for (i, variant) in variants.iter().enumerate() {
            let y = top + 4.0 + 20.0 * (of_usize(i) + 0.5);
            let label = shorten(&clean(&variant.label), SMALL, Weight::Regular, NAMES - 12.0);
            let style = Style::new(SMALL, INK).anchored(Anchor::End);
            figure.canvas.text((MARGIN + NAMES - 12.0, y + 4.0), &label, style);
        }
        for (column, name) in row.iter().enumerate() {
            let left = MARGIN + NAMES + room * of_usize(column);
            let area = Area { left, top, width: room - 36.0, height };
            metric(&mut figure.canvas, area, name, variants);
        }
        figure.y = top + height + 34.0;
    }
    Some(figure.finish())
}

/// Draws one metric of all variants.
fn metric(canvas: &mut Canvas, area: Area, name: &str, variants: &[Variant<Vec<Estimate>>]) {
    let heading = shorten(&clean(name), 12.5, Weight::Bold, area.width + 28.0);
    canvas.text((area.left, area.top - 8.0), &heading, Style::new(12.5, INK).bold());
    let found: Vec<Option<&Estimate>> =
        variants.iter().map(|v| v.data.iter().find(|e| e.metric == name)).collect();
    let ends = |e: &&Estimate| [e.low, e.mean, e.high];
    let high = found.iter().flatten().flat_map(ends).fold(0.0, f64::max);
    let low = found.iter().flatten().flat_map(ends).fold(0.0, f64::min);
    let low = if low < 0.0 { -ticks::ceiling(-low) } else { 0.0 };
    let high = ticks::ceiling(high);
    let panel = Panel { area, x: Axis { low, high, log: false }, y: Axis::linear(1.0) };
    let mut marks: Vec<(f64, String)> =
        ticks::linear(high).into_iter().step_by(2).map(|v| (v, short(v))).collect();
    if low < 0.0 {
        marks.insert(0, (low, short(low)));
    }
    for (value, _) in &marks {
        let x = panel.at(*value, 0.0).0;
        canvas.line(vec![(x, area.top), (x, area.bottom())], GRID, 0.8);
    }
    panel.foot(canvas, &marks, "");
    for (i, estimate) in found.iter().enumerate() {
        let y = area.top + 4.0 + 20.0 * (of_usize(i) + 0.5);
        let Some(estimate) = estimate else { continue };
        let colour = colour::series(i);
        let x = |v: f64| panel.at(v, 0.0).0;
        let (from, to) = (x(estimate.low), x(estimate.high));
        canvas.line(vec![(from, y), (to, y)], colour, 1.8);
        for end in [from, to] {
            canvas.line(vec![(end, y - 3.5), (end, y + 3.5)], colour, 1.2);
        }
        canvas.dot((x(estimate.mean), y), 3.6, colour);
    }
}

/// Draws the bounded slowdowns of the finished jobs of each variant as boxes on a ratio scale.
#[must_use]
pub fn slowdowns(subtitle: &str, variants: &[Variant<&RunRecord>]) -> Option<Svg> {
    let sorted: Vec<Vec<f64>> = variants
        .iter()
        .map(|variant| {
            let mut values: Vec<f64> = variant.data.jobs.iter().filter_map(slowdown).collect();
            values.sort_by(f64::total_cmp);
            values
        })
        .collect();
    let most = sorted.iter().filter_map(|values| values.last()).copied().fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let title = format!("Bounded slowdown of jobs under {}", counted(variants.len(), "variant"));
    let note = "Box: quartiles and median; whiskers: 5th and 95th percentile; dot: 99th; \
                ratio scale"
        .to_owned();
    let mut figure = Figure::new(&title, &[subtitle.to_owned(), note]);
    let row = 34.0;
    let area = figure.panel("", (NAMES, 80.0), row * of_usize(variants.len()));
    let panel = Panel { area, x: Axis::log(1.0, most), y: Axis::linear(1.0) };
    let marks = ticks::decades(1.0, panel.x.high);
    for (value, _) in &marks {
        let x = panel.at(*value, 0.0).0;
        figure.canvas.line(vec![(x, area.top), (x, area.bottom())], GRID, 0.8);
    }
    panel.foot(&mut figure.canvas, &marks, "bounded slowdown (wait + run) / max(run, 10 s)");
    for (i, (variant, values)) in variants.iter().zip(&sorted).enumerate() {
        let y = area.top + row * (of_usize(i) + 0.5);
        let label = shorten(&clean(&variant.label), SMALL, Weight::Regular, NAMES - 12.0);
        let style = Style::new(SMALL, INK).anchored(Anchor::End);
        figure.canvas.text((area.left - 12.0, y + 4.0), &label, style);
        let count = format!("n = {}", short(of_usize(values.len())));
        let quiet = Style::new(SMALL, QUIET);
        figure.canvas.text((area.right() + 14.0, y + 4.0), &count, quiet);
        if !values.is_empty() {
            draw_box(&mut figure.canvas, &panel, (y, colour::series(i)), values);
        }
    }
    figure.y += 42.0;
    Some(figure.finish())
}

/// Draws the box of one sorted sample.
fn draw_box(canvas: &mut Canvas, panel: &Panel, (y, colour): (f64, Colour), sorted: &[f64]) {
    let x = |part: f64| panel.at(quantile(sorted, part), 0.0).0;
    canvas.line(vec![(x(0.05), y), (x(0.95), y)], colour, 1.4);
    for part in [0.05, 0.95] {
        canvas.line(vec![(x(part), y - 5.0), (x(part), y + 5.0)], colour, 1.4);
    }
    let (left, right) = (x(0.25), x(0.75));
    let area = Area { left, top: y - 9.0, width: (right - left).max(1.0), height: 18.0 };
    canvas.rect(area, mix(colour, colour::PAPER, 0.55));
    canvas.line(vec![(x(0.5), y - 9.0), (x(0.5), y + 9.0)], colour, 2.4);
    canvas.dot((x(0.99), y), 2.4, colour);
}

/// Draws the fill curves of variants, each the mean of its runs within the band from their lowest
/// to their highest.
#[must_use]
pub fn fills(subtitle: &str, variants: &[Variant<Vec<&RunRecord>>]) -> Option<Svg> {
    let demand = |run: &&RunRecord| run.fill.last().map(|point| percents(point).0);
    let runs = || variants.iter().flat_map(|v| v.data.iter());
    let high = runs().filter_map(demand).fold(0.0, f64::max);
    if high <= 0.0 {
        return None;
    }
    let title =
        format!("GPUs allocated while demand grows, {}", counted(variants.len(), "variant"));
    let note = "Line: mean over the runs; band: lowest to highest run; nothing departs".to_owned();
    let mut figure = Figure::new(&title, &[subtitle.to_owned(), note]);
    let area = figure.panel("GPUs allocated, of capacity", SIDES, 330.0);
    let panel = Panel { area, x: Axis::linear(high), y: Axis::linear(100.0) };
    frame(&mut figure.canvas, &panel);
    let (mut labels, mut means) = (Vec::new(), Vec::new());
    for (i, variant) in variants.iter().enumerate() {
        let curves = resample(&variant.data, high, |(_, allocated)| allocated);
        let columns = curves.iter().map(Vec::len).min().unwrap_or(0);
        let xs: Vec<f64> = (0..columns).map(|i| high * of_usize(i) / of_usize(STEPS)).collect();
        let mut band = panel.path(&xs, &folded(&curves, f64::min, f64::INFINITY));
        let top = panel.path(&xs, &folded(&curves, f64::max, f64::NEG_INFINITY));
        band.extend(top.into_iter().rev());
        let mean = mean(&curves);
        let Some(last) = mean.last() else { continue };
        let colour = colour::series(i);
        figure.canvas.fill(band, colour, 0.18);
        figure.canvas.line(panel.path(&xs, &mean), colour, 1.8);
        let text =
            format!("{} {} %", clean(&variant.label), crate::picture::number::fixed(*last, 1));
        labels.push(EndLabel { y: panel.at(0.0, *last).1, text, colour });
        let below = self::mean(&resample(&variant.data, high, gap));
        means.push(Curve { name: clean(&variant.label), colour, values: below });
    }
    end_labels(&mut figure.canvas, area, labels, SIDES.1 + 24.0);
    gaps(&mut figure, high, STEPS, &means);
    Some(figure.finish())
}

/// How many steps of demand a compared curve has.
const STEPS: usize = 400;

/// Returns a value of each run's fill curve at common demands.
fn resample(runs: &[&RunRecord], high: f64, value: fn((f64, f64)) -> f64) -> Vec<Vec<f64>> {
    runs.iter().map(|run| resampled(&run.fill, (high, STEPS), value)).collect()
}

/// Combines curves place by place, as far as all of them reach.
fn folded(curves: &[Vec<f64>], combine: fn(f64, f64) -> f64, from: f64) -> Vec<f64> {
    let columns = curves.iter().map(Vec::len).min().unwrap_or(0);
    let at = |i: usize| curves.iter().filter_map(move |curve| curve.get(i)).copied();
    (0..columns).map(|i| at(i).fold(from, combine)).collect()
}

/// Returns the mean of curves, as far as all of them reach.
fn mean(curves: &[Vec<f64>]) -> Vec<f64> {
    let count = of_usize(curves.len().max(1));
    folded(curves, |sum, value| sum + value, 0.0).into_iter().map(|sum| sum / count).collect()
}
