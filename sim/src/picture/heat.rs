//! Heat maps of nodes over time: pressure and lending.

use crate::picture::canvas::{Anchor, Style};
use crate::picture::colour::{AXIS, HEAT, INK, LENDING, QUIET, Ramp, on_ramp};
use crate::picture::encode::Indexed;
use crate::picture::frame::{Axis, Figure, Panel, SMALL, colour_key, subtitle};
use crate::picture::number::{counted, fixed, index, of_usize, ratio};
use crate::picture::series::{self, Grid};
use crate::picture::svg::Svg;
use crate::picture::text::{Weight, shorten};
use crate::record::RunRecord;

/// Columns and rows of an image at most.
const CELLS: (usize, usize) = (1_000, 600);
/// How many steps a ramp has in an image; one more colour means "not there".
const STEPS: usize = 250;
/// The colour of a node that is not there.
const GONE: (u8, u8, u8) = (0xB4, 0xBA, 0xC2);

/// Draws how pressed each node was over time.
#[must_use]
pub fn pressure(run: &RunRecord) -> Option<Svg> {
    let grid = series::grid(run, CELLS, series::pressure);
    let title = format!("Mean pressure on a node was {} %", mean(&grid)?);
    let note = "Pressure of each node, by kind of hardware; grey: not reachable";
    Some(draw(run, &grid, &title, note, &HEAT))
}

/// Draws which part of each node was lent over time.
#[must_use]
pub fn lending(run: &RunRecord) -> Option<Svg> {
    let grid = series::grid(run, CELLS, series::lending);
    let title = format!("On average {} % of a node was lent", mean(&grid)?);
    let note = "Lent part of each node (the larger of CPU and GPU), by kind of hardware; \
                grey: not reachable";
    Some(draw(run, &grid, &title, note, &LENDING))
}

/// Returns the mean of a grid in percent; `None` when it is empty.
fn mean(grid: &Grid) -> Option<String> {
    let known: Vec<f64> = grid.cells.iter().copied().flatten().collect();
    let sum: f64 = known.iter().sum();
    (!grid.cells.is_empty()).then(|| fixed(100.0 * ratio(sum, of_usize(known.len())), 1))
}

/// Draws the image, the kinds at its left and the time below.
fn draw(run: &RunRecord, grid: &Grid, title: &str, note: &str, ramp: &Ramp) -> Svg {
    let mut figure = Figure::new(title, &[subtitle(run), note.to_owned()]);
    let rows = grid.cells.len() / grid.columns.max(1);
    let height = (of_usize(rows) * 5.0).clamp(60.0, 520.0);
    figure.y += 10.0;
    let area = figure.panel("", (170.0, 8.0), height);
    colour_key(&mut figure.canvas, (area.right(), area.top - 9.0), ramp, ("0 %", "100 %"));
    figure.canvas.image(area, image(grid, rows, ramp));
    let nodes = run.nodes.len();
    let mut from = 0;
    let mut labelled = area.top - 20.0;
    for kind in series::kinds(run) {
        let edge = |i: usize| area.top + area.height * ratio(of_usize(i), of_usize(nodes));
        let (top, bottom) = (edge(from), edge(from + kind.nodes.len()));
        from += kind.nodes.len();
        let side = area.left - 6.0;
        figure.canvas.line(vec![(side, top + 1.0), (side, bottom - 1.0)], AXIS, 2.0);
        if from < nodes {
            figure.canvas.line(vec![(area.left, bottom), (area.right(), bottom)], INK, 0.6);
        }
        let y = f64::midpoint(top, bottom) + 4.0;
        if y - labelled < 28.0 && labelled > area.top {
            continue;
        }
        labelled = y;
        let text = shorten(&kind.label, SMALL, Weight::Regular, 160.0);
        let end = Style::new(SMALL, INK).anchored(Anchor::End);
        let is_high = bottom - top > 30.0;
        figure.canvas.text((side - 6.0, if is_high { y - 6.0 } else { y }), &text, end);
        if is_high {
            let count = counted(kind.nodes.len(), "node");
            figure.canvas.text((side - 6.0, y + 8.0), &count, Style { colour: QUIET, ..end });
        }
    }
    let x = Axis::linear(series::end(run));
    let panel = Panel { area, x, y: Axis::linear(1.0) };
    panel.foot_time(&mut figure.canvas, "time since the start");
    figure.y += 42.0;
    figure.finish()
}

/// Turns a grid into an image.
fn image(grid: &Grid, rows: usize, ramp: &Ramp) -> Indexed {
    let last = STEPS - 1;
    let mut palette: Vec<_> =
        (0..STEPS).map(|i| on_ramp(ramp, of_usize(i) / of_usize(last))).collect();
    palette.push(GONE);
    let mut image = Indexed::new(grid.columns, rows, palette);
    for (i, cell) in grid.cells.iter().enumerate() {
        let step = cell.map_or(STEPS, |v| index((v * of_usize(last)).round(), last));
        image.set(
            i % grid.columns.max(1),
            i / grid.columns.max(1),
            u8::try_from(step).unwrap_or(0),
        );
    }
    image
}
