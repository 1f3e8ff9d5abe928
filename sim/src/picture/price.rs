//! The price of capacity over time, above the pressure that moves it.

use crate::picture::colour::{AXIS, BLUE, VERMILION};
use crate::picture::frame::{Axis, EndLabel, Figure, Panel, end_labels, subtitle};
use crate::picture::number::{fixed, of_u64, of_usize};
use crate::picture::series;
use crate::picture::svg::Svg;
use crate::picture::ticks;
use crate::record::{RunRecord, TimelineRow};

/// Room at the left for numbers and at the right for labels.
const SIDES: (f64, f64) = (46.0, 126.0);

/// Returns the price of an interval as a multiple of the static rate.
pub(crate) fn multiple(row: &TimelineRow) -> f64 {
    of_u64(u64::from(row.price_ppm)) / 1.0e6
}

/// Returns whether the price moved at all.
pub(crate) fn moves(run: &RunRecord) -> bool {
    run.timeline.windows(2).any(|pair| match pair {
        [a, b] => a.price_ppm != b.price_ppm,
        _ => false,
    })
}

/// Draws the price of CPU as a multiple of the static rate and the mean pressure on the nodes;
/// nothing where the price does not move.
#[must_use]
pub fn price(run: &RunRecord) -> Option<Svg> {
    if !moves(run) {
        return None;
    }
    let rows = &run.timeline;
    let highest = rows.iter().map(multiple).fold(0.0, f64::max);
    let lowest = rows.iter().map(multiple).fold(f64::INFINITY, f64::min);
    let title = format!(
        "The price of CPU moved between {} and {} times its static rate",
        fixed(lowest, 2),
        fixed(highest, 2)
    );
    let mut figure = Figure::new(&title, &[subtitle(run)]);
    let x = Axis::linear(series::end(run));
    let size = series::group(rows.len(), 600);
    let times = series::times(run, size);
    let values = series::means(rows, size, multiple);
    let area = figure.panel("Price, multiple of the static rate", SIDES, 200.0);
    let panel = Panel { area, x, y: Axis::linear(ticks::ceiling(highest)) };
    panel.grid_linear(&mut figure.canvas, "");
    let (from, to) = (panel.at(0.0, 1.0), panel.at(x.high, 1.0));
    figure.canvas.dashed(from, to, AXIS);
    figure.canvas.line(panel.path(&times, &values), BLUE, 1.6);
    let last = values.last().copied().unwrap_or(0.0);
    let label = |y: f64, text: &str, colour| EndLabel { y, text: text.to_owned(), colour };
    let mut labels = vec![label(panel.at(0.0, last).1, "price", BLUE)];
    if (last - 1.0).abs() > 1e-9 {
        labels.push(label(to.1, "static rate", AXIS));
    }
    end_labels(&mut figure.canvas, area, labels, SIDES.1 + 24.0);
    let grid = series::grid(run, (600, 1), series::pressure);
    if grid.cells.iter().any(Option::is_some) {
        panel.foot_time(&mut figure.canvas, "");
        figure.y += 30.0;
        let area = figure.panel("Mean pressure on the nodes", SIDES, 140.0);
        let panel = Panel { area, x, y: Axis::linear(100.0) };
        panel.grid_linear(&mut figure.canvas, " %");
        let count = of_usize(grid.columns.max(1));
        let cells = (0_u64..).zip(&grid.cells);
        let points: Vec<_> = cells
            .filter_map(|(i, cell)| {
                cell.map(|v| panel.at(x.high * (of_u64(i) + 1.0) / count, v * 100.0))
            })
            .collect();
        let y = points.last().map_or(area.bottom(), |point| point.1);
        figure.canvas.line(points, VERMILION, 1.6);
        let labels = vec![label(y, "pressure", VERMILION)];
        end_labels(&mut figure.canvas, area, labels, SIDES.1 + 24.0);
        panel.foot_time(&mut figure.canvas, "time since the start");
    } else {
        panel.foot_time(&mut figure.canvas, "time since the start");
    }
    figure.y += 42.0;
    Some(figure.finish())
}
