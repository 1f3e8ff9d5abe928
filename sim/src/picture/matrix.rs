//! Tables whose cells are coloured: which key moves what, and metrics over two keys.

use crate::picture::canvas::{Anchor, Area, Canvas, Style, WIDTH};
use crate::picture::colour::{IDLE, INK, LENDING, PAPER, PRINT, QUIET, VERMILION};
use crate::picture::colour::{is_light, on_ramp};
use crate::picture::compare::Variant;
use crate::picture::frame::{Figure, MARGIN, SMALL, colour_key};
use crate::picture::front::{Measure, sized};
use crate::picture::number::{fixed, of_usize};
use crate::picture::svg::Svg;
use crate::picture::text::{Weight, clean, shorten, width, wrap};

/// What a key does to a measure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effect {
    /// From the lowest to the highest mean, as a part of the mean over all.
    pub part: f64,
    /// At which value the measure is best.
    pub best: String,
}

/// Most room for the names of keys.
const NAMES: f64 = 150.0;
/// The size of the names of measures.
const HEAD: f64 = 10.5;
/// A part from which on the darkest colour is used.
const MOST: f64 = 1.0;

/// Draws how far each key moves each measure; `None` where nothing is known. `note` says of what
/// the means are.
#[must_use]
pub fn influence(
    (subtitle, note): (&str, &str),
    measures: &[Measure],
    keys: &[Variant<Vec<Option<Effect>>>],
) -> Option<Svg> {
    let is_known = |i: &usize| keys.iter().any(|key| key.data.get(*i).is_some_and(Option::is_some));
    let columns: Vec<usize> = (0..measures.len()).filter(is_known).collect();
    let most = keys.iter().max_by(|a, b| moved(a).total_cmp(&moved(b)))?;
    if columns.is_empty() {
        return None;
    }
    let title = match keys.len() {
        1 => format!("What {} moves", clean(&most.label)),
        many => format!("Of {many} keys, {} moves the most", clean(&most.label)),
    };
    let how = "Each cell: from the lowest to the highest mean over the values of the key, in \
               percent of the mean over all; below it the value at which the measure is best";
    let mut figure = Figure::new(&title, &[subtitle.to_owned(), how.to_owned(), note.to_owned()]);
    figure.y += 12.0;
    let right = (WIDTH - MARGIN, figure.y);
    colour_key(&mut figure.canvas, right, &LENDING, ("moves nothing", "100 % and more"));
    let labels = keys.iter().map(|key| width(&clean(&key.label), SMALL, Weight::Regular));
    let names = labels.fold(0.0, f64::max).min(NAMES) + 12.0;
    let room = (WIDTH - 2.0 * MARGIN - names) / of_usize(columns.len());
    let room = room.min(190.0);
    let left = |column: usize| MARGIN + names + room * of_usize(column);
    figure.y += 16.0;
    let heads: Vec<Vec<String>> = columns
        .iter()
        .filter_map(|i| measures.get(*i))
        .filter_map(|m| m.name.split(", ").next())
        .map(|name| wrap(&clean(name), HEAD, Weight::Regular, room - 2.0))
        .collect();
    let lines = heads.iter().map(Vec::len).max().unwrap_or(1);
    figure.y += 14.0 * of_usize(lines);
    for (column, head) in heads.iter().enumerate() {
        let style = Style::new(HEAD, INK).anchored(Anchor::Middle);
        for (i, line) in head.iter().rev().enumerate() {
            let at = (left(column) + room / 2.0, figure.y - 6.0 - 14.0 * of_usize(i));
            figure.canvas.text(at, line, style);
        }
    }
    for key in keys {
        let style = Style::new(SMALL, INK).anchored(Anchor::End);
        let name = shorten(&clean(&key.label), SMALL, Weight::Regular, NAMES);
        figure.canvas.text((MARGIN + names - 10.0, figure.y + 24.0), &name, style);
        for (column, i) in columns.iter().enumerate() {
            let area = Area { left: left(column), top: figure.y, width: room, height: 40.0 };
            cell(&mut figure.canvas, inner(area), key.data.get(*i).and_then(Option::as_ref));
        }
        figure.y += 40.0;
    }
    figure.y += 8.0;
    Some(figure.finish())
}

/// Returns how far a key moves all measures together; each counts up to [`MOST`].
fn moved(key: &Variant<Vec<Option<Effect>>>) -> f64 {
    key.data.iter().flatten().map(|effect| effect.part.min(MOST)).sum()
}

/// Returns a cell without the gap to its neighbours.
fn inner(area: Area) -> Area {
    Area {
        left: area.left + 1.0,
        top: area.top + 1.0,
        width: area.width - 2.0,
        height: area.height - 2.0,
    }
}

/// Draws what one key does to one measure.
fn cell(canvas: &mut Canvas, area: Area, effect: Option<&Effect>) {
    let middle = area.left + area.width / 2.0;
    let Some(effect) = effect else {
        canvas.rect(area, IDLE);
        let style = Style::new(SMALL, QUIET).anchored(Anchor::Middle);
        canvas.text((middle, area.top + area.height / 2.0 + 4.0), "\u{2013}", style);
        return;
    };
    let ground = on_ramp(&LENDING, effect.part / MOST);
    canvas.rect(area, ground);
    let ink = if is_light(ground) { PRINT } else { PAPER };
    let percent = effect.part * 100.0;
    let digits = usize::from(percent < 9.95 && percent > 0.0);
    let style = Style::new(12.5, ink).bold().anchored(Anchor::Middle);
    let is_plain = effect.best.is_empty();
    let base = area.top + if is_plain { area.height / 2.0 + 4.5 } else { 17.0 };
    canvas.text((middle, base), &format!("{} %", fixed(percent, digits)), style);
    let best = shorten(&clean(&effect.best), 10.5, Weight::Regular, area.width - 6.0);
    let style = Style::new(10.5, ink).anchored(Anchor::Middle);
    canvas.text((middle, area.top + 31.0), &best, style);
}

/// A key with its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// The key.
    pub name: String,
    /// Its values, in order.
    pub values: Vec<String>,
}

/// One measure over two keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surface {
    /// What is measured.
    pub measure: Measure,
    /// Row by row, where known.
    pub cells: Vec<Option<f64>>,
}

/// Panels side by side.
const SIDE_BY_SIDE: usize = 2;
/// Most values of a key in a panel.
const VALUES_MAX: usize = 24;

/// Draws each measure over two keys: the first down, the second across; `None` where there are more
/// values than can be told apart, or nothing is known.
#[must_use]
pub fn surfaces(
    subtitle: &str,
    (down, across): (&Side, &Side),
    surfaces: &[Surface],
) -> Option<Svg> {
    let (rows, columns) = (down.values.len(), across.values.len());
    let known: Vec<&Surface> =
        surfaces.iter().filter(|s| s.cells.iter().any(Option::is_some)).collect();
    if known.is_empty() || rows.max(columns) > VALUES_MAX {
        return None;
    }
    let title = known.iter().find_map(|surface| best_of(surface, down, across))?;
    let note = format!(
        "Down: {}, across: {}; means over the seeds; darker: more; framed: the best",
        clean(&down.name),
        clean(&across.name)
    );
    let mut figure = Figure::new(&title, &[subtitle.to_owned(), note]);
    let longest = |side: &Side| {
        let widths = side.values.iter().map(|v| width(&clean(v), SMALL, Weight::Regular));
        widths.fold(0.0, f64::max)
    };
    let names = longest(down).min(110.0) + 10.0;
    let room = (WIDTH - 2.0 * MARGIN + 28.0) / of_usize(SIDE_BY_SIDE);
    let cell = (room - 28.0 - names) / of_usize(columns);
    let height = (220.0 / of_usize(rows)).clamp(14.0, 34.0);
    for pair in known.chunks(SIDE_BY_SIDE) {
        let top = figure.y + 24.0;
        for (i, surface) in pair.iter().enumerate() {
            let left = MARGIN + room * of_usize(i) + names;
            let area = Area { left, top, width: cell, height };
            let heading = Style::new(13.0, INK).bold();
            figure.canvas.text((left, top - 9.0), &clean(&surface.measure.name), heading);
            grid(&mut figure.canvas, area, (down, across), surface);
        }
        figure.y = top + height * of_usize(rows) + 30.0;
    }
    Some(figure.finish())
}

/// Says where a measure is best.
fn best_of(of: &Surface, down: &Side, across: &Side) -> Option<String> {
    let sign = if of.measure.is_higher_better { -1.0 } else { 1.0 };
    let known = of.cells.iter().enumerate().filter_map(|(i, cell)| Some((i, (*cell)? * sign)));
    let (place, _) = known.min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)))?;
    let columns = across.values.len().max(1);
    let (row, column) = (down.values.get(place / columns)?, across.values.get(place % columns)?);
    let name = of.measure.name.split(", ").next().unwrap_or_default();
    let (down, across) = (format!("{} {row}", down.name), format!("{} {column}", across.name));
    Some(format!("{name} is best with {down} and {across}"))
}

/// Draws one measure; `first` is the area of its first cell.
fn grid(canvas: &mut Canvas, first: Area, (down, across): (&Side, &Side), of: &Surface) {
    let columns = across.values.len();
    let known = || of.cells.iter().flatten().copied();
    let low = known().fold(f64::INFINITY, f64::min);
    let high = known().fold(f64::NEG_INFINITY, f64::max);
    let best = if of.measure.is_higher_better { high } else { low };
    for (i, mean) in of.cells.iter().enumerate() {
        let (row, column) = (i / columns, i % columns);
        let left = first.left + first.width * of_usize(column);
        let top = first.top + first.height * of_usize(row);
        let area = inner(Area { left, top, ..first });
        let Some(mean) = mean else {
            canvas.rect(area, IDLE);
            continue;
        };
        let part = if high > low { (mean - low) / (high - low) } else { 0.0 };
        let ground = on_ramp(&LENDING, part);
        canvas.rect(area, ground);
        if high > low && (mean - best).abs() <= 0.0 {
            let (right, bottom) = (area.right(), area.bottom());
            let corners = [
                (area.left, area.top),
                (right, area.top),
                (right, bottom),
                (area.left, bottom),
                (area.left, area.top),
            ];
            canvas.line(corners.to_vec(), VERMILION, 2.2);
        }
        let text = sized(*mean, high.abs().max(low.abs()));
        if width(&text, SMALL, Weight::Regular) <= area.width - 4.0 {
            let ink = if is_light(ground) { PRINT } else { PAPER };
            let style = Style::new(SMALL, ink).anchored(Anchor::Middle);
            let middle = (left + first.width / 2.0, top + first.height / 2.0 + 4.0);
            canvas.text(middle, &text, style);
        }
    }
    for (row, name) in down.values.iter().enumerate() {
        let y = first.top + first.height * (of_usize(row) + 0.5) + 4.0;
        let name = shorten(&clean(name), SMALL, Weight::Regular, 110.0);
        let style = Style::new(SMALL, QUIET).anchored(Anchor::End);
        canvas.text((first.left - 7.0, y), &name, style);
    }
    let base = first.top + first.height * of_usize(down.values.len()) + 14.0;
    let mut last = f64::NEG_INFINITY;
    for (column, name) in across.values.iter().enumerate() {
        let x = first.left + first.width * (of_usize(column) + 0.5);
        let name = shorten(&clean(name), SMALL, Weight::Regular, first.width.max(60.0));
        let half = width(&name, SMALL, Weight::Regular) / 2.0;
        if x - half >= last + 4.0 {
            canvas.text((x, base), &name, Style::new(SMALL, QUIET).anchored(Anchor::Middle));
            last = x + half;
        }
    }
}
