//! The fill curve: what is allocated while more and more is asked for.

use crate::picture::canvas::{Anchor, Canvas, Style};
use crate::picture::colour::{AXIS, BLUE, Colour, QUIET};
use crate::picture::frame::{Axis, EndLabel, Figure, Panel, SMALL, end_labels, subtitle};
use crate::picture::number::{counted, fixed, index, of_u64, of_usize};
use crate::picture::svg::Svg;
use crate::picture::ticks;
use crate::record::{FillPoint, RunRecord};

/// Room at the left for numbers and at the right for labels.
pub(crate) const SIDES: (f64, f64) = (46.0, 170.0);

/// Returns a point in percent of capacity: what was asked for, what is allocated.
pub(crate) fn percents(point: &FillPoint) -> (f64, f64) {
    (of_u64(u64::from(point.arrived_bp)) / 100.0, of_u64(point.allocated_mbp) / 100_000.0)
}

/// Returns how far a point is below the line of perfect allocation.
pub(crate) fn gap((arrived, allocated): (f64, f64)) -> f64 {
    (arrived.min(100.0) - allocated).max(0.0)
}

/// Returns a value of the curve at evenly spaced demands from 0 to `high` percent; the curve of a
/// run ends with its demand.
pub(crate) fn resampled(
    fill: &[FillPoint],
    (high, points): (f64, usize),
    value: fn((f64, f64)) -> f64,
) -> Vec<f64> {
    let last = fill.last().map_or(0.0, |point| percents(point).0);
    let mut rest = fill.iter().map(percents).peekable();
    let mut now = (0.0, 0.0);
    let mut out = Vec::with_capacity(points + 1);
    for i in 0..=points {
        let at = high * of_usize(i) / of_usize(points.max(1));
        if at > last + 1e-9 {
            break;
        }
        while let Some(point) = rest.next_if(|(arrived, _)| *arrived <= at + 1e-9) {
            now = point;
        }
        out.push(value(now));
    }
    out
}

/// Draws the grid, both axes and the line of perfect allocation.
pub(crate) fn frame(canvas: &mut Canvas, panel: &Panel) {
    let label = |v: f64| (v, format!("{} %", fixed(v, 0)));
    panel.grid(canvas, &[0.0, 20.0, 40.0, 60.0, 80.0, 100.0].map(label));
    foot(canvas, panel, "");
    let end = panel.x.high.min(100.0);
    canvas.dashed(panel.at(0.0, 0.0), panel.at(end, end), AXIS);
    if panel.x.high > 100.0 {
        canvas.dashed(panel.at(100.0, 100.0), panel.at(panel.x.high, 100.0), AXIS);
    }
    let (x, y) = panel.at(end * 0.55, end * 0.55);
    let style = Style::new(SMALL, QUIET).anchored(Anchor::End);
    canvas.text((x - 10.0, y), "everything allocated", style);
}

/// Draws the demand below a panel.
fn foot(canvas: &mut Canvas, panel: &Panel, name: &str) {
    let high = panel.x.high;
    let marks = if high <= 180.0 {
        (0..=9_u64).map(|i| of_u64(i * 20)).filter(|v| *v <= high + 1e-9).collect()
    } else {
        ticks::linear(high)
    };
    let feet: Vec<(f64, String)> =
        marks.into_iter().map(|v| (v, format!("{} %", fixed(v, 0)))).collect();
    panel.foot(canvas, &feet, name);
}

/// One curve: its name, its colour, how far it is below the dashed line at evenly spaced demands
/// from zero to `high`.
pub(crate) struct Curve {
    pub name: String,
    pub colour: Colour,
    pub values: Vec<f64>,
}

/// Draws, for each curve, how far it is below the line of perfect allocation: there the
/// differences can be seen that the curves themselves hide.
pub(crate) fn gaps(figure: &mut Figure, high: f64, points: usize, curves: &[Curve]) {
    figure.y += 30.0;
    let name = "Below the dashed line, in percent of capacity";
    let area = figure.panel(name, SIDES, 170.0);
    let at = |i: usize| high * of_usize(i) / of_usize(points.max(1));
    let lines: Vec<&Vec<f64>> = curves.iter().map(|curve| &curve.values).collect();
    let most = lines.iter().copied().flatten().copied().fold(1.0, f64::max);
    let panel = Panel { area, x: Axis::linear(high), y: Axis::linear(ticks::ceiling(most)) };
    panel.grid_linear(&mut figure.canvas, " %");
    let mut labels = Vec::new();
    for (curve, line) in curves.iter().zip(&lines) {
        let times: Vec<f64> = (0..line.len()).map(at).collect();
        figure.canvas.line(panel.path(&times, line), curve.colour, 1.8);
        let last = line.last().copied().unwrap_or(0.0);
        let text = format!("{} {} %", curve.name, fixed(last, 2));
        labels.push(EndLabel { y: panel.at(0.0, last).1, text, colour: curve.colour });
    }
    end_labels(&mut figure.canvas, area, labels, SIDES.1 + 24.0);
    foot(&mut figure.canvas, &panel, "GPUs asked for so far, of capacity");
    figure.y += 42.0;
}

/// Draws how much of the GPUs is allocated while demand grows, without departures.
#[must_use]
pub fn fill(run: &RunRecord) -> Option<Svg> {
    let (demand, allocated) = percents(run.fill.last()?);
    let title = format!(
        "{} % of the GPUs are allocated when {} % are asked for",
        fixed(allocated, 1),
        fixed(demand, 0)
    );
    let note = format!("{}; nothing departs", counted(run.fill.len(), "arrival"));
    let mut figure = Figure::new(&title, &[subtitle(run), note]);
    let area = figure.panel("GPUs allocated, of capacity", SIDES, 330.0);
    let panel = Panel { area, x: Axis::linear(demand), y: Axis::linear(100.0) };
    frame(&mut figure.canvas, &panel);
    let columns = index(area.width, 2_000);
    let values = resampled(&run.fill, (demand, columns), |(_, allocated)| allocated);
    let times: Vec<f64> =
        (0..values.len()).map(|i| demand * of_usize(i) / of_usize(columns)).collect();
    figure.canvas.line(panel.path(&times, &values), BLUE, 2.0);
    let text = format!("allocated {} %", fixed(allocated, 2));
    let y = panel.at(demand, allocated).1;
    end_labels(&mut figure.canvas, area, vec![EndLabel { y, text, colour: BLUE }], SIDES.1 + 24.0);
    let gaps_of = resampled(&run.fill, (demand, columns), gap);
    let curve = Curve { name: "unallocated".to_owned(), colour: BLUE, values: gaps_of };
    gaps(&mut figure, demand, columns, &[curve]);
    Some(figure.finish())
}
