//! The Pareto front of many combinations: what is gained for what is given up.

use crate::picture::canvas::{Anchor, Area, Canvas, Point, Style, WIDTH};
use crate::picture::colour::on_ramp;
use crate::picture::colour::{AXIS, BLUE, Colour, GRID, HEAT, INK, LENDING, QUIET, Ramp};
use crate::picture::compare::Estimate;
use crate::picture::frame::{Axis, Figure, MARGIN, Panel, SMALL, colour_key};
use crate::picture::number::{counted, fixed, of_usize, precise};
use crate::picture::svg::Svg;
use crate::picture::text::{Weight, clean, shorten, width, wrap};
use crate::picture::ticks;

/// What is measured and which way is better.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// Its name, with its unit.
    pub name: String,
    /// Whether more of it is better.
    pub is_higher_better: bool,
}

/// One combination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    /// What it is.
    pub label: String,
    /// Its rank on the front, from 1 up; `None` when another beats it.
    pub rank: Option<usize>,
    /// What was measured of it, in the order of the measures.
    pub estimates: Vec<Option<Estimate>>,
}

/// From this distance on a number is joined to its dot.
const NEAR: f64 = 20.0;

/// A combination and its place: the second measure, the first.
type Place<'a> = (&'a Candidate, Point);

/// Room at the left of the panel for numbers.
const LEFT: f64 = 56.0;
/// How many of the front are listed below the panel.
const LISTED: usize = 15;
/// How many measures the list shows.
const COLUMNS: usize = 4;
/// The width of a column of the list.
const COLUMN: f64 = 116.0;

/// Draws the first measure over the second, the third as colour; `None` without a combination of
/// which two are known. The front is numbered, what another beats is pale.
#[must_use]
pub fn front(subtitle: &str, measures: &[Measure], candidates: &[Candidate]) -> Option<Svg> {
    let [up, across, ..] = measures else { return None };
    let places: Vec<Place<'_>> = candidates
        .iter()
        .filter_map(|candidate| Some((candidate, (mean(candidate, 1)?, mean(candidate, 0)?))))
        .collect();
    if places.is_empty() {
        return None;
    }
    let members = candidates.iter().filter(|c| c.rank.is_some()).count();
    let all = counted(candidates.len(), "combination");
    let is = if members == 1 { "is" } else { "are" };
    let title = format!("{members} of {all} {is} beaten by no other");
    let side = if across.is_higher_better { "right" } else { "left" };
    let way = if up.is_higher_better { "up" } else { "down" };
    let note = format!(
        "Better is {way} and to the {side}. Numbered: the front in {}; pale: what another beats; \
         stairs: the front of the two axes alone; \u{00B1}: half of the 95 % confidence interval",
        listed(measures)
    );
    let mut figure = Figure::new(&title, &[subtitle.to_owned(), note]);
    let area = figure.panel(&clean(&up.name), (LEFT, 12.0), 360.0);
    let shades = shades(measures, candidates);
    if let (Some(shades), Some(measure)) = (&shades, measures.get(2)) {
        let step = (shades.high - shades.low) / 100.0;
        let ends = [shades.low, shades.high].map(|v| precise(v, step.max(1e-4)));
        let right = (area.right(), area.top - 12.0);
        colour_key(&mut figure.canvas, right, &shades.ramp, (&ends[0], &ends[1]));
        let name = Style::new(SMALL, INK).anchored(Anchor::End);
        let room =
            width(&ends[1], SMALL, Weight::Regular) + width(&ends[0], SMALL, Weight::Regular);
        let left = area.right() - room - 8.0 - 120.0 - 8.0 - 14.0;
        figure.canvas.text((left, area.top - 12.0), &clean(&measure.name), name);
    }
    let values = |pick: fn(&Point) -> f64| places.iter().map(move |(_, point)| pick(point));
    let (x, x_ticks) = axis(values(|p| p.0));
    let (y, y_ticks) = axis(values(|p| p.1));
    let panel = Panel { area, x, y };
    panel.grid(&mut figure.canvas, &y_ticks);
    for (value, _) in &x_ticks {
        let at = panel.at(*value, y.low).0;
        figure.canvas.line(vec![(at, area.top), (at, area.bottom())], GRID, 0.8);
    }
    panel.foot(&mut figure.canvas, &x_ticks, &clean(&across.name));
    stairs(&mut figure.canvas, &panel, measures, &places);
    dots(&mut figure.canvas, &panel, shades.as_ref(), &places);
    figure.y += 78.0;
    list(&mut figure, measures, candidates, shades.as_ref());
    Some(figure.finish())
}

/// Returns the names of measures without their units, as a list in a sentence.
fn listed(measures: &[Measure]) -> String {
    let name = |m: &Measure| clean(m.name.split(", ").next().unwrap_or_default());
    let mut names: Vec<String> = measures.iter().map(name).collect();
    let last = names.pop().unwrap_or_default();
    if names.is_empty() { last } else { format!("{} and {last}", names.join(", ")) }
}

/// Returns the mean of a measure.
fn mean(candidate: &Candidate, measure: usize) -> Option<f64> {
    candidate.estimates.get(measure)?.as_ref().map(|estimate| estimate.mean)
}

/// Returns an axis around values with its ticks; from zero where they reach far down to it.
fn axis(values: impl Iterator<Item = f64> + Clone) -> (Axis, Vec<(f64, String)>) {
    let (low, high) = (values.clone().fold(f64::INFINITY, f64::min), values.fold(0.0, f64::max));
    let from_zero = low >= 0.0 && low < high * 0.5;
    let pad = (high - low).max(high.abs() * 1e-3) * 0.05;
    let low = if from_zero { 0.0 } else { low - pad };
    let ticks = ticks::around(low, high + pad);
    let ends = (ticks.first().copied().unwrap_or(low), ticks.last().copied().unwrap_or(high));
    let step = (ends.1 - ends.0) / of_usize(ticks.len().saturating_sub(1).max(1));
    let label = |v: f64| (v, precise(v, step));
    (Axis { low: ends.0, high: ends.1, log: false }, ticks.into_iter().map(label).collect())
}

/// The colours of the third measure.
struct Shades {
    ramp: Ramp,
    low: f64,
    high: f64,
}

/// Returns the colours of the third measure, where there is one that differs.
fn shades(measures: &[Measure], candidates: &[Candidate]) -> Option<Shades> {
    let ramp = if measures.get(2)?.is_higher_better { &LENDING } else { &HEAT };
    let values = || candidates.iter().filter_map(|c| mean(c, 2));
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    // The lightest part of a ramp is not seen on paper.
    let ramp = [0.15, 0.36, 0.58, 0.79, 1.0].map(|place| on_ramp(ramp, place));
    (low < high).then_some(Shades { ramp, low, high })
}

/// Returns the colour of a combination.
fn shade(shades: Option<&Shades>, candidate: &Candidate) -> Colour {
    match (shades, mean(candidate, 2)) {
        (Some(shades), Some(value)) => {
            on_ramp(&shades.ramp, (value - shades.low) / (shades.high - shades.low))
        }
        _ => BLUE,
    }
}

/// Draws the best of the first measure for each value of the second, as stairs.
fn stairs(canvas: &mut Canvas, panel: &Panel, measures: &[Measure], places: &[Place<'_>]) {
    let sign =
        |i: usize| if measures.get(i).is_some_and(|m| m.is_higher_better) { -1.0 } else { 1.0 };
    let (across, up) = (sign(1), sign(0));
    let mut points: Vec<Point> = places.iter().map(|(_, p)| (p.0 * across, p.1 * up)).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    // From the worst of the first measure up, and on to the worst of the second.
    let worst = |i: usize, axis: Axis| if i > 0 { axis.high } else { axis.low };
    let ends = (worst(usize::from(across > 0.0), panel.x), worst(usize::from(up > 0.0), panel.y));
    let mut line: Vec<Point> = Vec::new();
    let mut best: Option<f64> = None;
    for (x, y) in points {
        if best.is_none_or(|best| y < best) {
            line.push(panel.at(x * across, best.map_or(ends.1, |best| best * up)));
            line.push(panel.at(x * across, y * up));
            best = Some(y);
        }
    }
    line.extend(best.map(|best| panel.at(ends.0, best * up)));
    canvas.line(line, AXIS, 1.2);
}

/// Draws the combinations: the beaten below, the front above them with numbers.
fn dots(canvas: &mut Canvas, panel: &Panel, shades: Option<&Shades>, places: &[Place<'_>]) {
    let (members, beaten): (Vec<&Place<'_>>, Vec<&Place<'_>>) =
        places.iter().partition(|(c, _)| c.rank.is_some());
    for (candidate, (x, y)) in &beaten {
        canvas.pale_dot(panel.at(*x, *y), 3.6, shade(shades, candidate));
    }
    let mut members = members;
    members.sort_by_key(|(candidate, _)| candidate.rank);
    let mut groups: Vec<(Point, Vec<usize>)> = Vec::new();
    for (candidate, (x, y)) in &members {
        let (at, rank) = (panel.at(*x, *y), candidate.rank.unwrap_or_default());
        let near =
            |group: &&mut (Point, Vec<usize>)| (group.0.0 - at.0).hypot(group.0.1 - at.1) < 9.0;
        match groups.iter_mut().find(near) {
            Some((_, ranks)) => ranks.push(rank),
            None => groups.push((at, vec![rank])),
        }
    }
    let mut taken: Vec<Area> = Vec::new();
    for (_, (x, y)) in &members {
        let (x, y) = panel.at(*x, *y);
        taken.push(Area { left: x - 6.0, top: y - 6.0, width: 12.0, height: 12.0 });
    }
    let mut leads = Vec::new();
    for (at, ranks) in groups {
        let text = ranges(&ranks);
        let room = width(&text, SMALL, Weight::Bold) + 2.0;
        if let Some(free) = free_place(at, room, panel.area, &taken) {
            let style = Style::new(SMALL, INK).bold().anchored(Anchor::Middle);
            let middle = (free.left + room / 2.0, free.top + free.height / 2.0);
            let reach = (middle.0 - at.0).abs() - room / 2.0;
            if reach.max((middle.1 - at.1).abs() - free.height / 2.0) > NEAR - 4.0 {
                let edge =
                    (at.0.clamp(free.left, free.right()), at.1.clamp(free.top, free.bottom()));
                leads.push(vec![at, edge]);
            }
            canvas.text((middle.0, free.bottom() - 2.0), &text, style);
            taken.push(free);
        }
    }
    for lead in leads {
        canvas.line(lead, AXIS, 0.9);
    }
    for (candidate, (x, y)) in members.iter().rev() {
        let at = panel.at(*x, *y);
        canvas.dot(at, 6.2, INK);
        canvas.dot(at, 5.0, shade(shades, candidate));
    }
}

/// Prints rising numbers as ranges: `1-3, 7`; past a few only that there are more.
fn ranges(numbers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match parts.last_mut() {
            Some((_, to)) if *to + 1 == *number => *to = *number,
            _ => parts.push((*number, *number)),
        }
    }
    let part = |(from, to): &(usize, usize)| match to - from {
        0 => from.to_string(),
        1 => format!("{from}, {to}"),
        _ => format!("{from}\u{2013}{to}"),
    };
    let text = parts.iter().take(3).map(part).collect::<Vec<_>>().join(", ");
    if parts.len() > 3 { format!("{text} \u{2026}") } else { text }
}

/// Returns a place for a number around a dot that touches nothing, as near as there is one.
fn free_place((x, y): Point, room: f64, within: Area, taken: &[Area]) -> Option<Area> {
    let height = 12.0;
    let apart = |a: &Area, b: &Area| {
        a.right() <= b.left || b.right() <= a.left || a.bottom() <= b.top || b.bottom() <= a.top
    };
    let is_free = |place: &Area| {
        let inside = place.left >= within.left && place.right() <= within.right() + 10.0;
        let inside = inside && place.top >= within.top - 8.0 && place.bottom() <= within.bottom();
        inside && taken.iter().all(|other| apart(place, other))
    };
    [8.0, NEAR, 32.0].into_iter().find_map(|gap| {
        let (right, left, middle) = (x + gap, x - gap - room, x - room / 2.0);
        let (above, below, level) = (y - gap - height, y + gap, y - height / 2.0);
        let (up, down) = (above + 3.0, below - 3.0);
        let (beyond, before) = (right - 2.0, left + 2.0);
        let corners = [(beyond, up), (before, up), (beyond, down), (before, down)];
        let [first, others @ ..] = corners;
        let sides = [first, (right, level), (middle, above), (left, level), (middle, below)];
        let places = sides.into_iter().chain(others);
        places.map(|(left, top)| Area { left, top, width: room, height }).find(is_free)
    })
}

/// Lists the front below the panel: number, combination, what it came to.
fn list(
    figure: &mut Figure,
    measures: &[Measure],
    candidates: &[Candidate],
    shades: Option<&Shades>,
) {
    let mut members: Vec<&Candidate> = candidates.iter().filter(|c| c.rank.is_some()).collect();
    members.sort_by_key(|candidate| candidate.rank);
    let shown: Vec<&Measure> = measures.iter().take(COLUMNS).collect();
    let right = |i: usize| WIDTH - MARGIN - COLUMN * of_usize(shown.len() - 1 - i);
    let head = Style::new(SMALL, QUIET).anchored(Anchor::End);
    for (i, measure) in shown.iter().enumerate() {
        let lines = wrap(&clean(&measure.name), SMALL, Weight::Regular, COLUMN - 10.0);
        for (line, text) in lines.iter().rev().take(3).enumerate() {
            figure.canvas.text((right(i), figure.y - 14.0 * of_usize(line)), text, head);
        }
    }
    figure.y += 7.0;
    let room = WIDTH - 2.0 * MARGIN - COLUMN * of_usize(shown.len()) - 30.0;
    for candidate in members.iter().take(LISTED) {
        figure.canvas.line(vec![(MARGIN, figure.y), (WIDTH - MARGIN, figure.y)], GRID, 0.8);
        let lines = wrap(&clean(&candidate.label), SMALL, Weight::Regular, room);
        let base = figure.y + 16.0;
        let rank = candidate.rank.map_or_else(String::new, |rank| rank.to_string());
        let number = Style::new(SMALL, INK).bold().anchored(Anchor::End);
        figure.canvas.text((MARGIN + 16.0, base), &rank, number);
        figure.canvas.dot((MARGIN + 28.0, base - 4.0), 4.6, INK);
        figure.canvas.dot((MARGIN + 28.0, base - 4.0), 3.6, shade(shades, candidate));
        for (i, line) in lines.iter().take(3).enumerate() {
            let at = (MARGIN + 40.0, base + 14.0 * of_usize(i));
            let text = shorten(line, SMALL, Weight::Regular, room);
            figure.canvas.text(at, &text, Style::new(SMALL, INK));
        }
        for (i, estimate) in candidate.estimates.iter().take(shown.len()).enumerate() {
            let text = estimate.as_ref().map_or_else(String::new, shown_estimate);
            let style = Style::new(SMALL, INK).anchored(Anchor::End);
            figure.canvas.text((right(i), base), &text, style);
        }
        figure.y = base + 14.0 * of_usize(lines.len().clamp(1, 3) - 1) + 7.0;
    }
    if members.len() > LISTED {
        let text = format!("and {} more of the front", members.len() - LISTED);
        let at = (MARGIN + 40.0, figure.y + 16.0);
        figure.canvas.text(at, &text, Style::new(SMALL, QUIET));
        figure.y += 20.0;
    }
}

/// Prints a mean and half of its interval, both with the same decimals.
fn shown_estimate(estimate: &Estimate) -> String {
    let half = (estimate.high - estimate.low) / 2.0;
    let most = estimate.mean.abs().max(half);
    format!("{} \u{00B1} {}", sized(estimate.mean, most), sized(half, most))
}

/// Prints a value with the decimals of one of size `most`.
pub(crate) fn sized(value: f64, most: f64) -> String {
    match most {
        size if size < 9.9995 => fixed(value, 3),
        size if size < 999.95 => fixed(value, 1),
        _ => precise(value, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_that_share_a_place_are_written_as_ranges() {
        assert_eq!(ranges(&[1, 2, 3, 7]), "1\u{2013}3, 7");
        assert_eq!(ranges(&[4, 5]), "4, 5");
        assert_eq!(ranges(&[1, 3, 5, 7]), "1, 3, 5 \u{2026}");
    }

    #[test]
    fn numbers_find_a_free_place_or_are_left_out() {
        let within = Area { left: 0.0, top: 0.0, width: 100.0, height: 100.0 };
        let dot = Area { left: 44.0, top: 44.0, width: 12.0, height: 12.0 };
        let first = free_place((50.0, 50.0), 8.0, within, &[dot]).unwrap();
        let second = free_place((50.0, 50.0), 8.0, within, &[dot, first]).unwrap();
        assert_ne!(first, second);
        assert_eq!(free_place((50.0, 50.0), 8.0, within, &[within]), None);
    }
}
