//! Distributions over jobs: waits and slowdowns per class.

use crate::picture::canvas::{Anchor, Canvas, Point, Style};
use crate::picture::colour::{self, Colour, INK, QUIET};
use crate::picture::frame::{Axis, Figure, Panel, subtitle};
use crate::picture::number::{counted, duration, grouped, index, of_usize, short, span_seconds};
use crate::picture::svg::Svg;
use crate::picture::ticks;
use crate::record::{JobRow, JobState, RunRecord};
use gridcore::units::Band;

/// Room at the left for numbers and at the right.
const SIDES: (f64, f64) = (46.0, 16.0);

/// One sorted sample with its name.
struct Sample {
    name: &'static str,
    colour: Colour,
    values: Vec<f64>,
}

/// Returns the value at a quantile of a sorted sample (nearest rank); 0 when it is empty.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let rank = (part * of_usize(sorted.len())).ceil() - 1.0;
    sorted.get(index(rank, sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// Returns the bounded slowdown of a finished job (tau 10 s), at least 1; `None` for others.
pub(crate) fn slowdown(job: &JobRow) -> Option<f64> {
    if !matches!(job.state, JobState::Completed | JobState::Timeout) {
        return None;
    }
    let (wait, run) = (span_seconds(job.wait), span_seconds(job.run));
    Some(((wait + run) / run.max(10.0)).max(1.0))
}

/// Returns the wait in seconds of a job that started.
pub(crate) fn wait(job: &JobRow) -> Option<f64> {
    job.start.map(|_| span_seconds(job.wait))
}

/// Collects a value of jobs per band, sorted.
fn samples(run: &RunRecord, value: impl Fn(&JobRow) -> Option<f64>) -> Vec<Sample> {
    Band::ALL
        .iter()
        .rev()
        .map(|band| {
            let jobs = run.jobs.iter().filter(|job| job.band() == *band);
            let mut values: Vec<f64> = jobs.filter_map(&value).collect();
            values.sort_by(f64::total_cmp);
            Sample { name: band.name(), colour: colour::band(*band), values }
        })
        .filter(|sample| !sample.values.is_empty())
        .collect()
}

/// Draws which part of the jobs of each class waited at most how long.
#[must_use]
pub fn wait_cdf(run: &RunRecord) -> Option<Svg> {
    let samples = samples(run, wait);
    let all = merged(&samples)?;
    let title = format!(
        "Half of the jobs waited at most {}, 95 % at most {}",
        duration(quantile(&all, 0.5)),
        duration(quantile(&all, 0.95))
    );
    let note = format!(
        "{} of {} started; waits under 1 s are drawn at 1 s",
        grouped(u64::try_from(all.len()).unwrap_or(u64::MAX)),
        counted(run.jobs.len(), "job")
    );
    let high = all.last().copied().unwrap_or(1.0).max(60.0);
    let axis = Axis::log(1.0, high);
    let ticks = ticks::spans(1.0, axis.high);
    let look = Look { axis, ticks, name: "wait (ratio scale)", print: duration };
    Some(draw(&title, &[subtitle(run), note], &samples, &look))
}

/// Draws which part of the finished jobs of each class had at most which bounded slowdown.
#[must_use]
pub fn slowdown_cdf(run: &RunRecord) -> Option<Svg> {
    let samples = samples(run, slowdown);
    let all = merged(&samples)?;
    let title = format!(
        "Half of the jobs had a slowdown of at most {}, 95 % at most {}",
        short(quantile(&all, 0.5)),
        short(quantile(&all, 0.95))
    );
    let note = format!(
        "{} that finished; (wait + run) / max(run, 10 s), at least 1",
        counted(all.len(), "job")
    );
    let axis = Axis::log(1.0, all.last().copied().unwrap_or(1.0));
    let ticks = ticks::decades(1.0, axis.high);
    let look = Look { axis, ticks, name: "bounded slowdown (ratio scale)", print: short };
    Some(draw(&title, &[subtitle(run), note], &samples, &look))
}

/// Returns all values of all samples, sorted; `None` when there are none.
fn merged(samples: &[Sample]) -> Option<Vec<f64>> {
    let mut all: Vec<f64> = samples.iter().flat_map(|s| s.values.iter().copied()).collect();
    all.sort_by(f64::total_cmp);
    (!all.is_empty()).then_some(all)
}

/// How a distribution is shown.
struct Look {
    axis: Axis,
    ticks: Vec<(f64, String)>,
    name: &'static str,
    print: fn(f64) -> String,
}

/// Draws the curves and, below them, what they say in numbers.
fn draw(title: &str, subtitles: &[String], samples: &[Sample], look: &Look) -> Svg {
    let mut figure = Figure::new(title, subtitles);
    let area = figure.panel("Share of jobs", SIDES, 340.0);
    let panel = Panel { area, x: look.axis, y: Axis::linear(1.0) };
    let percents = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
    let label = |v: f64| (v, format!("{} %", crate::picture::number::fixed(v * 100.0, 0)));
    panel.grid(&mut figure.canvas, &percents.map(label));
    for sample in samples {
        let points = curve(&panel, &sample.values);
        figure.canvas.line(points, sample.colour, 1.8);
    }
    panel.foot(&mut figure.canvas, &look.ticks, look.name);
    figure.y += 62.0;
    key(&mut figure.canvas, (area.left, figure.y), samples, look.print);
    figure.y += 19.0 * of_usize(samples.len()) + 8.0;
    figure.finish()
}

/// Returns the steps of a distribution at every second pixel of the panel.
fn curve(panel: &Panel, sorted: &[f64]) -> Vec<(f64, f64)> {
    let columns = index(panel.area.width / 2.0, 2_000);
    let mut counts = vec![0_usize; columns + 1];
    for value in sorted {
        let column = index((panel.x.place(*value) * of_usize(columns)).ceil(), columns);
        if let Some(count) = counts.get_mut(column) {
            *count += 1;
        }
    }
    let mut points = vec![(panel.area.left, panel.area.bottom())];
    let mut sum = 0;
    for (column, count) in counts.iter().enumerate() {
        sum += count;
        let x = panel.area.left + panel.area.width * of_usize(column) / of_usize(columns.max(1));
        let part = of_usize(sum) / of_usize(sorted.len().max(1));
        let y = panel.area.bottom() - part * panel.area.height;
        if *count > 0 || column == columns {
            if let Some((_, before)) = points.last().copied() {
                points.push((x, before));
            }
            points.push((x, y));
        }
    }
    points
}

/// Writes a small table of the classes, which names the colours.
fn key(canvas: &mut Canvas, (left, top): Point, samples: &[Sample], print: fn(f64) -> String) {
    let heads = [("jobs", 340.0), ("p50", 240.0), ("p95", 140.0), ("p99", 40.0)];
    let right = left + 560.0;
    let quiet = Style::new(11.5, QUIET).anchored(Anchor::End);
    for (head, shift) in heads {
        canvas.text((right - shift, top), head, quiet);
    }
    for (i, sample) in samples.iter().enumerate() {
        let y = top + 19.0 * of_usize(i + 1);
        let line = vec![(left, y - 4.0), (left + 18.0, y - 4.0)];
        canvas.line(line, sample.colour, 3.0);
        canvas.text((left + 26.0, y), sample.name, Style::new(11.5, INK));
        let cells = [
            grouped(u64::try_from(sample.values.len()).unwrap_or(u64::MAX)),
            print(quantile(&sample.values, 0.5)),
            print(quantile(&sample.values, 0.95)),
            print(quantile(&sample.values, 0.99)),
        ];
        for ((_, shift), cell) in heads.iter().zip(cells) {
            canvas.text((right - shift, y), &cell, Style::new(11.5, INK).anchored(Anchor::End));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert!((quantile(&sorted, 0.5) - 2.0).abs() < 1e-12);
        assert!((quantile(&sorted, 1.0) - 4.0).abs() < 1e-12);
        assert!((quantile(&sorted, 0.0) - 1.0).abs() < 1e-12);
        assert!(quantile(&[], 0.5).abs() < 1e-12);
    }
}
