//! The prices of capacity over time, above the utilisation that they follow.

use crate::picture::colour::{AXIS, BLUE, Colour, GREEN, VERMILION};
use crate::picture::frame::{Axis, EndLabel, Figure, Panel, end_labels, subtitle};
use crate::picture::number::{fixed, of_u64};
use crate::picture::series;
use crate::picture::svg::Svg;
use crate::picture::ticks;
use crate::record::{RunRecord, TimelineRow};

/// Room at the left for numbers and at the right for labels.
const SIDES: (f64, f64) = (46.0, 126.0);

/// The resources of [`TimelineRow::price_ppm`]: their names and colours.
pub(crate) const RESOURCES: [(&str, Colour); 3] =
    [("CPU", BLUE), ("memory", GREEN), ("GPUs", VERMILION)];

/// The utilisation that a price aims at, in percent.
const TARGET: f64 = 70.0;

/// Returns the price of a resource in an interval as a multiple of its rate.
pub(crate) fn multiple(row: &TimelineRow, resource: usize) -> f64 {
    row.price_ppm.get(resource).map_or(1.0, |price| of_u64(u64::from(*price)) / 1.0e6)
}

/// Returns what of a resource was used and waited for in an interval, in percent of what was lent.
pub(crate) fn demand(row: &TimelineRow, resource: usize) -> Option<f64> {
    let part = row.demand_ppm.get(resource).copied().flatten()?;
    Some(of_u64(u64::from(part)) / 1.0e4)
}

/// Returns the resources whose price moved, in the order of [`RESOURCES`].
pub(crate) fn moving(run: &RunRecord) -> Vec<usize> {
    let price = |row: &TimelineRow, i: usize| row.price_ppm.get(i).copied();
    let moves = |i: &usize| {
        run.timeline.windows(2).any(|w| match w {
            [a, b] => price(a, *i) != price(b, *i),
            _ => false,
        })
    };
    (0..RESOURCES.len()).filter(moves).collect()
}

/// Draws the price of each resource as a multiple of its rate, and what of it was used and waited
/// for; nothing where no price moves.
#[must_use]
pub fn price(run: &RunRecord) -> Option<Svg> {
    let moving = moving(run);
    let rows = &run.timeline;
    let prices = |i: usize| rows.iter().map(move |row| multiple(row, i));
    let highest = |i: &usize| prices(*i).fold(0.0, f64::max);
    let most = moving.iter().copied().max_by(|a, b| highest(a).total_cmp(&highest(b)))?;
    let title = format!(
        "The price of {} moved between {} and {} times its rate",
        RESOURCES.get(most).map_or("", |(name, _)| name),
        fixed(prices(most).fold(f64::INFINITY, f64::min), 2),
        fixed(highest(&most), 2)
    );
    let mut figure = Figure::new(&title, &[subtitle(run)]);
    let x = Axis::linear(series::end(run));
    let size = series::group(rows.len(), 600);
    let times = series::times(run, size);
    let area = figure.panel("Price, multiple of the rate", SIDES, 200.0);
    let panel = Panel { area, x, y: Axis::linear(ticks::ceiling(highest(&most).max(1.0))) };
    panel.grid_linear(&mut figure.canvas, "");
    let mark = panel.at(x.high, 1.0);
    figure.canvas.dashed(panel.at(0.0, 1.0), mark, AXIS);
    let lines = moving.iter().map(|i| {
        let values = series::means(rows, size, |row| multiple(row, *i));
        (*i, times.iter().copied().zip(values).collect())
    });
    draw(&mut figure, &panel, lines.collect(), (mark.1, "the rate"));
    panel.foot_time(&mut figure.canvas, "");
    figure.y += 30.0;
    let area = figure.panel("Used and waited for, of what is lent", SIDES, 160.0);
    let panel = Panel { area, x, y: Axis::linear(200.0) };
    panel.grid_linear(&mut figure.canvas, " %");
    let mark = panel.at(x.high, TARGET);
    figure.canvas.dashed(panel.at(0.0, TARGET), mark, AXIS);
    let lines = moving.iter().map(|i| (*i, known(run, *i, size)));
    draw(&mut figure, &panel, lines.collect(), (mark.1, "target"));
    panel.foot_time(&mut figure.canvas, "time since the start");
    figure.y += 42.0;
    Some(figure.finish())
}

/// Returns the mean demand of each group of rows in which it is known, at the end of the group.
fn known(run: &RunRecord, resource: usize, size: usize) -> Vec<(f64, f64)> {
    let mean = |rows: &[TimelineRow]| {
        let known: Vec<f64> = rows.iter().filter_map(|row| demand(row, resource)).collect();
        let count = crate::picture::number::of_usize(known.len());
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / count)
    };
    let times = series::times(run, size);
    let groups = run.timeline.chunks(size.max(1)).map(mean);
    times.into_iter().zip(groups).filter_map(|(at, mean)| Some((at, mean?))).collect()
}

/// Draws the lines of some resources, and names them and the mark at their ends.
fn draw(
    figure: &mut Figure,
    panel: &Panel,
    lines: Vec<(usize, Vec<(f64, f64)>)>,
    mark: (f64, &str),
) {
    let label = |y: f64, text: &str, colour| EndLabel { y, text: text.to_owned(), colour };
    let mut labels = vec![label(mark.0, mark.1, AXIS)];
    for (resource, points) in lines {
        let Some((name, colour)) = RESOURCES.get(resource) else { continue };
        let path: Vec<_> = points.into_iter().map(|(x, y)| panel.at(x, y)).collect();
        if let Some((_, y)) = path.last() {
            labels.push(label(*y, name, *colour));
        }
        figure.canvas.line(path, *colour, 1.6);
    }
    end_labels(&mut figure.canvas, panel.area, labels, SIDES.1 + 24.0);
}
