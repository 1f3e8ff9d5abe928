//! Stacked areas and plain lines over time: utilisation, queue, offers.

use crate::picture::canvas::{Area, Canvas};
use crate::picture::colour::{self, AXIS, BLUE, Colour, IDLE, INK, OWNER, PURPLE, YELLOW};
use crate::picture::frame::{Axis, EndLabel, Figure, Panel, end_labels, subtitle};
use crate::picture::number::{fixed, grouped, of_u64, span_seconds};
use crate::picture::series::{self, Usage};
use crate::picture::svg::Svg;
use crate::picture::ticks;
use crate::record::{RunRecord, TimelineRow};
use gridcore::bundle::Dimension;
use gridcore::units::{Band, Span};

/// Room at the left for numbers and at the right for labels.
const SIDES: (f64, f64) = (46.0, 126.0);
/// How many points a line has at most.
const POINTS: usize = 600;

/// One layer of a stack.
struct Layer {
    name: String,
    values: Vec<f64>,
    colour: Colour,
}

impl Layer {
    fn is_empty(&self) -> bool {
        self.values.iter().all(|value| *value <= 0.0)
    }

    fn stepped(&self) -> Self {
        Self { name: self.name.clone(), values: held(&self.values), colour: self.colour }
    }
}

/// Up to so many intervals are drawn as steps; with more, a step is as narrow as a pixel.
const STEPS_MAX: usize = 240;

/// Returns the beginning and the end of each interval, or, where there are many, their ends.
fn stepped(ends: &[f64]) -> Vec<f64> {
    if ends.len() > STEPS_MAX {
        return ends.to_vec();
    }
    let begins = core::iter::once(0.0).chain(ends.iter().copied());
    begins.zip(ends).flat_map(|(begin, end)| [begin, *end]).collect()
}

/// Returns values for the times of [`stepped`].
fn held(values: &[f64]) -> Vec<f64> {
    if values.len() > STEPS_MAX {
        return values.to_vec();
    }
    values.iter().flat_map(|value| [*value, *value]).collect()
}

/// Draws layers on top of each other, the first at the bottom, with labels at their ends.
fn draw_stack(canvas: &mut Canvas, panel: &Panel, times: &[f64], layers: &[Layer]) {
    let (times, layers) = (stepped(times), layers.iter().map(Layer::stepped).collect::<Vec<_>>());
    let (times, layers) = (times.as_slice(), layers.as_slice());
    let mut below = vec![0.0; times.len()];
    let mut tops = Vec::new();
    let mut labels = Vec::new();
    for layer in layers.iter().filter(|layer| !layer.is_empty()) {
        let last = below.last().copied().unwrap_or(0.0);
        for (sum, value) in below.iter_mut().zip(&layer.values) {
            *sum += value.max(0.0);
        }
        let middle = last.midpoint(below.last().copied().unwrap_or(0.0));
        let y = panel.at(panel.x.high, middle).1;
        labels.push(EndLabel { y, text: layer.name.clone(), colour: layer.colour });
        tops.push((below.clone(), layer.colour));
    }
    // From the top down: each layer is drawn to the ground and covered by those below it.
    for (top, colour) in tops.iter().rev() {
        let first = top.first().copied().unwrap_or(0.0);
        let last = times.last().copied().unwrap_or(0.0);
        let mut points = vec![panel.at(0.0, 0.0), panel.at(0.0, first)];
        points.extend(panel.path(times, top));
        points.push(panel.at(last, 0.0));
        canvas.fill(points, *colour, 1.0);
    }
    end_labels(canvas, panel.area, labels, SIDES.1 + 24.0);
}

/// Draws where CPU and GPU capacity went over time: owners, borrowers by band, nobody.
#[must_use]
pub fn utilisation(run: &RunRecord) -> Option<Svg> {
    let parts: Vec<(&str, &str, Usage)> =
        [(Dimension::Gpu, "GPUs", "devices"), (Dimension::Cpu, "CPUs", "cores")]
            .into_iter()
            .filter_map(|(dimension, name, unit)| {
                Some((name, unit, series::usage(run, dimension, POINTS)?))
            })
            .collect();
    if parts.is_empty() {
        return None;
    }
    let found: Vec<String> = parts
        .iter()
        .map(|(name, _, usage)| {
            let [owner, lent @ ..] = usage.shares;
            let lent: f64 = lent.iter().sum();
            let percent = |part: f64| fixed(part * 100.0, 0);
            format!("{} % + {} % of {name}", percent(owner), percent(lent))
        })
        .collect();
    let title = format!("Owners + borrowers used {}", found.join(" and "));
    let mut figure = Figure::new(&title, &[subtitle(run)]);
    let count = parts.len();
    for (i, (name, unit, usage)) in parts.iter().enumerate() {
        let area = figure.panel(&format!("{name}, {unit} in use"), SIDES, 230.0);
        draw_usage(&mut figure.canvas, area, usage, series::end(run));
        let is_last = i + 1 == count;
        let panel = Panel { area, x: Axis::linear(series::end(run)), y: Axis::linear(1.0) };
        panel.foot_time(&mut figure.canvas, if is_last { "time since the start" } else { "" });
        figure.y += if is_last { 42.0 } else { 30.0 };
    }
    Some(figure.finish())
}

/// Draws one resource's stack, with what was on offer as a line.
fn draw_usage(canvas: &mut Canvas, area: Area, usage: &Usage, end: f64) {
    let high = usage.capacity.iter().copied().fold(0.0, f64::max);
    let panel = Panel { area, x: Axis::linear(end), y: Axis::linear(high) };
    let percent = |part: f64| format!("{} %", fixed(part * 100.0, 1));
    let [owner, bands @ ..] = usage.shares;
    let mut layers = vec![Layer {
        name: format!("owners {}", percent(owner)),
        values: usage.owner.clone(),
        colour: OWNER,
    }];
    for ((band, values), share) in Band::ALL.iter().zip(&usage.lent).zip(bands) {
        let name = format!("{} {}", band.name(), percent(share));
        layers.push(Layer { name, values: values.clone(), colour: colour::band(*band) });
    }
    let idle = (1.0 - owner - bands.iter().sum::<f64>()).max(0.0);
    let used = |i: usize| layers.iter().filter_map(|layer| layer.values.get(i)).sum::<f64>();
    let rest = usage.capacity.iter().enumerate().map(|(i, whole)| (whole - used(i)).max(0.0));
    let values = rest.collect();
    layers.push(Layer { name: format!("idle {}", percent(idle)), values, colour: IDLE });
    draw_stack(canvas, &panel, &usage.times, &layers);
    panel.grid_linear(canvas, "");
    let offered = usage.owner.iter().zip(&usage.offered).zip(&usage.capacity);
    let line: Vec<f64> = offered.map(|((own, offer), whole)| (own + offer).min(*whole)).collect();
    canvas.line(panel.path(&stepped(&usage.times), &held(&line)), INK, 0.9);
    let key = "line: owners + on offer";
    let at = (area.right(), area.top - 12.0);
    let style = crate::picture::canvas::Style::new(11.5, colour::QUIET);
    canvas.text(at, key, style.anchored(crate::picture::canvas::Anchor::End));
}

/// Draws how many jobs waited and ran over time, and how long those that started had waited.
#[must_use]
pub fn queue(run: &RunRecord) -> Option<Svg> {
    if run.timeline.is_empty() || run.jobs.is_empty() {
        return None;
    }
    let rows = &run.timeline;
    let size = series::group(rows.len(), POINTS);
    let times = series::times(run, size);
    let waiting = |row: &TimelineRow| row.queued.iter().map(|n| u64::from(*n)).sum::<u64>();
    let most = rows.iter().map(waiting).max().unwrap_or(0);
    let title = format!("At most {} jobs waited at once", grouped(most));
    let mut figure = Figure::new(&title, &[subtitle(run)]);
    let x = Axis::linear(series::end(run));

    let queued = |band: usize| {
        series::means(rows, size, move |row| {
            row.queued.get(band).map_or(0.0, |n| of_u64(u64::from(*n)))
        })
    };
    let layers: Vec<Layer> = Band::ALL
        .iter()
        .enumerate()
        .map(|(i, band)| Layer {
            name: band.name().to_owned(),
            values: queued(i),
            colour: colour::band(*band),
        })
        .collect();
    let area = figure.panel("Jobs waiting, by class", SIDES, 170.0);
    let high = ticks::ceiling(
        series::means(rows, size, |r| of_u64(waiting(r))).into_iter().fold(0.0, f64::max),
    );
    let panel = Panel { area, x, y: Axis::linear(high) };
    draw_stack(&mut figure.canvas, &panel, &times, &layers);
    finish_panel(&mut figure, &panel, "");

    let running = series::means(rows, size, |row| of_u64(u64::from(row.running)));
    let area = figure.panel("Jobs running", SIDES, 110.0);
    let high = ticks::ceiling(running.iter().copied().fold(0.0, f64::max));
    let panel = Panel { area, x, y: Axis::linear(high) };
    let layer = Layer { name: "running".to_owned(), values: running, colour: BLUE };
    draw_stack(&mut figure.canvas, &panel, &times, &[layer]);
    finish_panel(&mut figure, &panel, "");

    let area =
        figure.panel("Mean wait of the jobs that started, by class (ratio scale)", SIDES, 170.0);
    draw_waits(&mut figure.canvas, area, run);
    let panel = Panel { area, x, y: Axis::linear(1.0) };
    panel.foot_time(&mut figure.canvas, "time since the start");
    figure.y += 42.0;
    Some(figure.finish())
}

/// Draws grid and time axis of a panel that is not the last.
fn finish_panel(figure: &mut Figure, panel: &Panel, unit: &str) {
    panel.grid_linear(&mut figure.canvas, unit);
    panel.foot_time(&mut figure.canvas, "");
    figure.y += 30.0;
}

/// Draws the mean waits per band; an interval in which no job started breaks the line.
fn draw_waits(canvas: &mut Canvas, area: Area, run: &RunRecord) {
    let size = series::group(run.timeline.len(), 170);
    let times = series::times(run, size);
    let longest = run
        .timeline
        .iter()
        .flat_map(|row| row.wait.iter().flatten())
        .map(|wait| span_seconds(*wait))
        .fold(10.0, f64::max);
    let panel = Panel {
        area,
        x: Axis::linear(series::end(run)),
        y: Axis::log(1.0, ticks::ceiling(longest)),
    };
    panel.grid(canvas, &ticks::spans(1.0, panel.y.high));
    let mut labels = Vec::new();
    for (i, band) in Band::ALL.iter().enumerate() {
        let colour = colour::band(*band);
        let mut pieces: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
        for (at, chunk) in times.iter().zip(run.timeline.chunks(size)) {
            let waits: Vec<Span> =
                chunk.iter().filter_map(|row| row.wait.get(i).copied().flatten()).collect();
            if waits.is_empty() {
                pieces.push(Vec::new());
            } else if let Some(piece) = pieces.last_mut() {
                let sum: f64 = waits.iter().map(|wait| span_seconds(*wait)).sum();
                piece.push(panel.at(*at, sum / crate::picture::number::of_usize(waits.len())));
            }
        }
        let last = pieces.iter().rev().find_map(|piece| piece.last());
        if let Some((_, y)) = last {
            labels.push(EndLabel { y: *y, text: band.name().to_owned(), colour });
        }
        for piece in pieces {
            match piece.as_slice() {
                [] => {}
                [only] => canvas.dot(*only, 1.6, colour),
                _ => canvas.line(piece, colour, 1.5),
            }
        }
    }
    end_labels(canvas, area, labels, SIDES.1 + 24.0);
}

/// The fates of an offer in the order of [`TimelineRow::offers`], with their colours.
pub(crate) const FATES: [(&str, Colour); 5] = [
    ("opened", AXIS),
    ("leased", BLUE),
    ("expired", YELLOW),
    ("withdrawn", PURPLE),
    ("revoked", INK),
];

/// Draws how many offers were opened, leased, expired, withdrawn and revoked: per hour and in sum.
#[must_use]
pub fn offers(run: &RunRecord) -> Option<Svg> {
    let total = run.timeline.last()?.offers;
    if total.iter().all(|count| *count == 0) {
        return None;
    }
    let [opened, leased, ..] = total;
    let size = series::group(run.timeline.len(), 170);
    let times = series::times(run, size);
    let title = format!("{} offers were opened, {} leased", grouped(opened), grouped(leased));
    let mut figure = Figure::new(&title, &[subtitle(run)]);
    let x = Axis::linear(series::end(run));
    let sums: Vec<Vec<f64>> = (0..FATES.len())
        .map(|i| {
            series::lasts(&run.timeline, size, |r| r.offers.get(i).map_or(0.0, |n| of_u64(*n)))
        })
        .collect();
    let rates: Vec<Vec<f64>> = sums.iter().map(|sum| per_hour(&times, sum)).collect();
    for (name, lines) in [("Offers per hour", &rates), ("Offers since the start", &sums)] {
        let is_sum = name.ends_with("start");
        let high = lines.iter().flatten().copied().fold(0.0, f64::max);
        let area = figure.panel(name, SIDES, if is_sum { 240.0 } else { 170.0 });
        let panel = Panel { area, x, y: Axis::linear(ticks::ceiling(high)) };
        panel.grid_linear(&mut figure.canvas, "");
        let mut labels = Vec::new();
        for (((fate, colour), values), count) in FATES.iter().zip(lines).zip(total) {
            figure.canvas.line(panel.path(&times, values), *colour, 1.5);
            let y = panel.at(x.high, values.last().copied().unwrap_or(0.0)).1;
            let text =
                if is_sum { format!("{fate} {}", grouped(count)) } else { (*fate).to_owned() };
            labels.push(EndLabel { y, text, colour: *colour });
        }
        end_labels(&mut figure.canvas, area, labels, SIDES.1 + 24.0);
        panel.foot_time(&mut figure.canvas, if is_sum { "time since the start" } else { "" });
        figure.y += if is_sum { 42.0 } else { 30.0 };
    }
    Some(figure.finish())
}

/// Turns sums at times in seconds into rates per hour.
fn per_hour(times: &[f64], sums: &[f64]) -> Vec<f64> {
    let (mut from, mut before) = (0.0, 0.0);
    let mut out = Vec::with_capacity(sums.len());
    for (at, sum) in times.iter().zip(sums) {
        let hours = (at - from) / 3_600.0;
        out.push(if hours > 0.0 { (sum - before).max(0.0) / hours } else { 0.0 });
        (from, before) = (*at, *sum);
    }
    out
}
