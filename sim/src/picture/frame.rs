//! What pictures share: the heading, panels with their axes, labels that keep clear of each other.

use crate::picture::canvas::{Anchor, Area, Canvas, Point, Style, WIDTH};
use crate::picture::colour::{AXIS, Colour, GRID, INK, QUIET};
use crate::picture::number::{counted, of_u64, of_usize, short};
use crate::picture::svg::Svg;
use crate::picture::text::{self, Weight};
use crate::picture::ticks;
use crate::record::RunRecord;

/// The margin on all sides.
pub(crate) const MARGIN: f64 = 24.0;
/// The size of ticks and labels.
pub(crate) const SMALL: f64 = 11.5;

/// A picture in the making: a canvas and how far down it is used.
pub(crate) struct Figure {
    /// Where marks go.
    pub canvas: Canvas,
    /// Where the next thing begins.
    pub y: f64,
    title: String,
}

impl Figure {
    /// Begins with a title and lines below it; both break rather than being cut.
    pub(crate) fn new(title: &str, subtitles: &[String]) -> Self {
        let mut figure = Self { canvas: Canvas::default(), y: MARGIN, title: title.to_owned() };
        let room = WIDTH - 2.0 * MARGIN;
        for line in text::wrap(&text::clean(title), 20.0, Weight::Bold, room) {
            figure.y += 21.0;
            figure.canvas.text((MARGIN, figure.y - 3.0), &line, Style::new(20.0, INK).bold());
            figure.y += 4.0;
        }
        for subtitle in subtitles {
            for line in text::wrap(&text::clean(subtitle), 12.5, Weight::Regular, room) {
                figure.y += 17.0;
                figure.canvas.text((MARGIN, figure.y - 2.0), &line, Style::new(12.5, QUIET));
            }
        }
        figure.y += 16.0;
        figure
    }

    /// Writes the name of a panel and returns its area below.
    pub(crate) fn panel(&mut self, name: &str, sides: (f64, f64), height: f64) -> Area {
        if !name.is_empty() {
            self.y += 14.0;
            self.canvas.text((MARGIN, self.y), name, Style::new(13.0, INK).bold());
            self.y += 12.0;
        }
        let (left, right) = (MARGIN + sides.0, MARGIN + sides.1);
        let area = Area { left, top: self.y, width: WIDTH - left - right, height };
        self.y += height;
        area
    }

    /// Ends the picture.
    pub(crate) fn finish(self) -> Svg {
        let height = (self.y + MARGIN * 0.75).round();
        self.canvas.finish(&self.title, height)
    }
}

/// Says what was run: nodes, jobs, rules, seed; and that it is partial, where it is.
pub(crate) fn subtitle(run: &RunRecord) -> String {
    let names = ["policy", "strategy", "order", "backfill"];
    let mut parts = vec![
        run.scenario.clone(),
        counted(run.nodes.len(), "node"),
        counted(run.jobs.len(), "job"),
    ];
    let rules = names.iter().zip(&run.rules).filter(|(_, rule)| !rule.is_empty());
    parts.extend(rules.map(|(name, rule)| format!("{name} {rule}")));
    parts.push(format!("seed {}", run.seed));
    parts.retain(|part| !part.is_empty());
    if !run.complete {
        parts.push("PARTIAL: stopped before its end".to_owned());
    }
    parts.join(" \u{00B7} ")
}

/// How a value becomes a place on an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Axis {
    /// The value at its beginning.
    pub low: f64,
    /// The value at its end.
    pub high: f64,
    /// Whether equal ratios are equal distances.
    pub log: bool,
}

impl Axis {
    /// From nothing to `high`, in equal steps.
    pub(crate) fn linear(high: f64) -> Self {
        Self { low: 0.0, high: if high > 0.0 { high } else { 1.0 }, log: false }
    }

    /// From `low` to `high`, in equal ratios.
    pub(crate) fn log(low: f64, high: f64) -> Self {
        Self { low, high: high.max(low * 10.0), log: true }
    }

    /// Returns the place of a value: 0 is the beginning, 1 the end, nothing is outside.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let part = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        part.clamp(0.0, 1.0)
    }
}

/// A panel: an area and its two axes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Panel {
    /// Where it is.
    pub area: Area,
    /// From left to right.
    pub x: Axis,
    /// From the bottom up.
    pub y: Axis,
}

impl Panel {
    /// Returns the point of a pair of values.
    pub(crate) fn at(&self, x: f64, y: f64) -> Point {
        (
            self.area.left + self.x.place(x) * self.area.width,
            self.area.bottom() - self.y.place(y) * self.area.height,
        )
    }

    /// Draws the horizontal grid with its labels, from the bottom up; a label that would touch
    /// the one before it is left out.
    pub(crate) fn grid(&self, canvas: &mut Canvas, ticks: &[(f64, String)]) {
        let style = Style::new(SMALL, QUIET).anchored(Anchor::End);
        let mut last = f64::INFINITY;
        for (value, label) in ticks {
            let (_, y) = self.at(self.x.low, *value);
            let ends = vec![(self.area.left, y), (self.area.right(), y)];
            canvas.line(ends, if *value <= self.y.low { AXIS } else { GRID }, 0.8);
            if last - y >= 13.0 {
                canvas.text((self.area.left - 7.0, y + 4.0), label, style);
                last = y;
            }
        }
    }

    /// Draws the horizontal grid of a linear axis from zero; `unit` stands behind each number.
    pub(crate) fn grid_linear(&self, canvas: &mut Canvas, unit: &str) {
        let ticks = ticks::linear(self.y.high);
        let label = |v: f64| format!("{}{unit}", short(v));
        self.grid(canvas, &ticks.into_iter().map(|v| (v, label(v))).collect::<Vec<_>>());
    }

    /// Draws labels below the panel and what they count.
    pub(crate) fn foot(&self, canvas: &mut Canvas, ticks: &[(f64, String)], name: &str) {
        let base = self.area.bottom();
        canvas.line(vec![(self.area.left, base), (self.area.right(), base)], AXIS, 0.8);
        let style = Style::new(SMALL, QUIET).anchored(Anchor::Middle);
        let mut last = f64::NEG_INFINITY;
        for (value, label) in ticks {
            let (x, _) = self.at(*value, self.y.low);
            canvas.line(vec![(x, base), (x, base + 4.0)], AXIS, 0.8);
            let half = text::width(label, SMALL, Weight::Regular) / 2.0;
            if x - half >= last + 6.0 {
                canvas.text((x, base + 17.0), label, style);
                last = x + half;
            }
        }
        if !name.is_empty() {
            canvas.text((self.area.left + self.area.width / 2.0, base + 34.0), name, style);
        }
    }

    /// Draws the time axis below the panel.
    pub(crate) fn foot_time(&self, canvas: &mut Canvas, name: &str) {
        self.foot(canvas, &ticks::time(self.x.high), name);
    }

    /// Returns a line through values at times.
    pub(crate) fn path(&self, times: &[f64], values: &[f64]) -> Vec<Point> {
        times.iter().zip(values).map(|(x, y)| self.at(*x, *y)).collect()
    }
}

/// A label at the right end of a line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EndLabel {
    /// Where its line ends.
    pub y: f64,
    /// What it says.
    pub text: String,
    /// The colour of its line.
    pub colour: Colour,
}

/// Writes labels to the right of an area, moved apart where they would touch.
pub(crate) fn end_labels(canvas: &mut Canvas, area: Area, mut labels: Vec<EndLabel>, room: f64) {
    labels.sort_by(|a, b| a.y.total_cmp(&b.y).then_with(|| a.text.cmp(&b.text)));
    let wanted: Vec<f64> = labels.iter().map(|label| label.y).collect();
    let step = (area.height / of_usize(labels.len().max(1))).min(14.5);
    let places = spread(&wanted, step, (area.top, area.bottom()));
    for (label, y) in labels.iter().zip(places) {
        let right = area.right();
        let lead = vec![(right + 2.0, label.y), (right + 7.0, label.y), (right + 13.0, y)];
        canvas.line(lead, label.colour, 1.0);
        canvas
            .rect(Area { left: right + 13.0, top: y - 4.0, width: 8.0, height: 8.0 }, label.colour);
        let style = Style::new(SMALL, INK);
        let text = text::shorten(&label.text, SMALL, Weight::Regular, room - 26.0);
        canvas.text((right + 25.0, y + 4.0), &text, style);
    }
}

/// Moves sorted places apart to at least `step`, between two ends, with small moves.
pub(crate) fn spread(wanted: &[f64], step: f64, (low, high): (f64, f64)) -> Vec<f64> {
    // Places without the room for labels before them must not fall: blocks that would are pooled
    // at their mean, which moves every label as little as possible.
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for (i, want) in wanted.iter().enumerate() {
        let mut block = (want - step * of_usize(i), 1_usize);
        while let Some((mean, count)) = blocks.pop_if(|(mean, _)| *mean > block.0) {
            let sum = mean * of_usize(count) + block.0 * of_usize(block.1);
            block = (sum / of_usize(count + block.1), count + block.1);
        }
        blocks.push(block);
    }
    let room = (high - step * of_usize(wanted.len().saturating_sub(1))).max(low);
    let means = blocks.into_iter().flat_map(|(mean, count)| core::iter::repeat_n(mean, count));
    let places: Vec<f64> =
        means.enumerate().map(|(i, mean)| mean.clamp(low, room) + step * of_usize(i)).collect();
    places
}

/// Draws a scale of colours with its two ends named, at the right of a panel's name.
pub(crate) fn colour_key(
    canvas: &mut Canvas,
    (right, y): Point,
    ramp: &crate::picture::colour::Ramp,
    (low, high): (&str, &str),
) {
    let style = Style::new(SMALL, QUIET);
    let width = text::width(high, SMALL, Weight::Regular);
    canvas.text((right, y), high, style.anchored(Anchor::End));
    let left = (right - width - 8.0 - 120.0).round();
    for i in 0..40_u64 {
        let place = of_u64(i);
        // Each reaches below the next, or the paper would shine through between them.
        let width = if i < 39 { 3.6 } else { 3.0 };
        let area = Area { left: left + place * 3.0, top: y - 9.0, width, height: 10.0 };
        canvas.rect(area, crate::picture::colour::on_ramp(ramp, (place + 0.5) / 40.0));
    }
    canvas.text((left - 8.0, y), low, style.anchored(Anchor::End));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_move_apart_and_stay_inside() {
        let places = spread(&[10.0, 11.0, 12.0, 99.0], 14.0, (0.0, 100.0));
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= 14.0 - 1e-9));
        assert!(places.iter().all(|p| (0.0..=100.0).contains(p)));
    }

    #[test]
    fn a_partial_run_says_so_below_every_title() {
        let run = RunRecord { scenario: "lab".to_owned(), ..RunRecord::default() };
        assert!(subtitle(&run).contains("PARTIAL"));
        assert!(subtitle(&run).starts_with("lab \u{00B7} 0 nodes"));
    }
}
