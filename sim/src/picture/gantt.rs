//! Leases as bars, node by node, coloured by class.
//!
//! Bars are laid into lanes and cut to pixels. Few of them are drawn as rectangles; many as one
//! image, so that a hundred thousand leases take no more room than a photograph.

use crate::picture::canvas::{Anchor, Area, Canvas, Style};
use crate::picture::colour::{self, Colour, GRID, INK, PAPER, PRINT, mix};
use crate::picture::encode::Indexed;
use crate::picture::frame::{Axis, Figure, Panel, SMALL, subtitle};
use crate::picture::number::{counted, index, of_u64, of_usize, seconds};
use crate::picture::svg::Svg;
use crate::picture::text::{self, Weight};
use crate::record::{JobRow, LeaseRow, RunRecord};
use gridcore::units::Band;

/// How many nodes are shown.
const NODES_MAX: usize = 40;
/// How many lanes a node has; leases beyond them share the last.
const LANES_MAX: usize = 8;
/// More bars than this become an image.
const BARS_MAX: usize = 1_200;
/// How many pixels of an image one unit of the paper has on each side.
const PIXELS: usize = 2;
/// Room at the left for names and at the right.
const SIDES: (f64, f64) = (130.0, 8.0);

/// One lease in its lane.
struct Bar {
    node: usize,
    lane: usize,
    from: f64,
    to: f64,
    band: usize,
    job: u64,
}

/// Draws which node was leased to jobs of which class, and when.
#[must_use]
pub fn gantt(run: &RunRecord) -> Option<Svg> {
    if run.leases.is_empty() || run.nodes.is_empty() {
        return None;
    }
    let nodes = busiest(run);
    let (bars, lanes) = bars(run, &nodes);
    let title =
        format!("{} on {}", counted(run.leases.len(), "lease"), counted(run.nodes.len(), "node"));
    let shown = if nodes.len() < run.nodes.len() {
        format!("The {} nodes leased longest, of {}", nodes.len(), run.nodes.len())
    } else {
        "All nodes".to_owned()
    };
    let most = lanes.iter().copied().max().unwrap_or(1);
    let note = format!("{shown}; leases at the same time lie in up to {most} lanes, by class");
    let mut figure = Figure::new(&title, &[subtitle(run), note]);
    key(&mut figure);
    let row = if nodes.len() <= 8 { 34.0 } else { 17.0 };
    let area = figure.panel("", SIDES, row * of_usize(nodes.len()));
    let panel = Panel { area, x: Axis::linear(series_end(run)), y: Axis::linear(1.0) };
    for (i, node) in nodes.iter().enumerate() {
        let top = area.top + row * of_usize(i);
        let name = run.nodes.get(*node).map_or("", |node| node.name.as_str());
        let name = text::shorten(&text::clean(name), SMALL, Weight::Regular, SIDES.0 - 8.0);
        let end = Style::new(SMALL, INK).anchored(Anchor::End);
        figure.canvas.text((area.left - 8.0, top + row / 2.0 + 4.0), &name, end);
        figure.canvas.line(vec![(area.left, top), (area.right(), top)], GRID, 0.7);
    }
    if bars.len() <= BARS_MAX {
        draw_bars(&mut figure.canvas, &panel, (&bars, &lanes), row);
    } else {
        figure.canvas.image(area, paint(&panel, (&bars, &lanes), row));
    }
    panel.foot_time(&mut figure.canvas, "time since the start");
    figure.y += 42.0;
    Some(figure.finish())
}

/// Returns the end of the time axis, which no lease passes.
fn series_end(run: &RunRecord) -> f64 {
    crate::picture::series::end(run)
}

/// Returns when a lease ended, at the latest with the run.
fn ended(run: &RunRecord, lease: &LeaseRow) -> f64 {
    lease.ended.map_or_else(|| series_end(run), seconds)
}

/// Returns the rows of the nodes with the longest leased time, in the order of their ids.
fn busiest(run: &RunRecord) -> Vec<usize> {
    let mut held = vec![0_u64; run.nodes.len()];
    for lease in &run.leases {
        let end = lease.ended.unwrap_or(run.end);
        if let Some(sum) = usize::try_from(lease.node).ok().and_then(|node| held.get_mut(node)) {
            *sum = sum.saturating_add(end.since(lease.granted).get());
        }
    }
    let mut order: Vec<usize> = (0..held.len()).collect();
    order.sort_by_key(|node| (core::cmp::Reverse(held.get(*node).copied()), *node));
    order.truncate(NODES_MAX);
    order.sort_unstable();
    order
}

/// Lays the leases of the shown nodes into lanes; returns how many lanes each node uses, too.
fn bars(run: &RunRecord, nodes: &[usize]) -> (Vec<Bar>, Vec<usize>) {
    let mut place = vec![None; run.nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        if let Some(slot) = place.get_mut(*node) {
            *slot = Some(i);
        }
    }
    let mut free: Vec<Vec<f64>> = vec![Vec::new(); nodes.len()];
    let mut out = Vec::new();
    for lease in &run.leases {
        let node = usize::try_from(lease.node).ok().and_then(|n| place.get(n).copied().flatten());
        let Some((node, lanes)) = node.and_then(|n| free.get_mut(n).map(|lanes| (n, lanes))) else {
            continue;
        };
        let (from, to) = (seconds(lease.granted), ended(run, lease));
        let lane = match lanes.iter().position(|end| *end <= from) {
            Some(lane) => lane,
            None if lanes.len() < LANES_MAX => {
                lanes.push(0.0);
                lanes.len() - 1
            }
            None => LANES_MAX - 1,
        };
        if let Some(end) = lanes.get_mut(lane) {
            *end = end.max(to);
        }
        let job = run.job(lease.job);
        out.push(Bar { node, lane, from, to, band: job.map_or(0, band_index), job: lease.job });
    }
    (out, free.iter().map(|lanes| lanes.len().max(1)).collect())
}

/// Returns the place of a job's band among all bands.
fn band_index(job: &JobRow) -> usize {
    Band::ALL.iter().position(|band| *band == job.band()).unwrap_or(0)
}

/// Names the classes in a line above the bars.
fn key(figure: &mut Figure) {
    let mut x = crate::picture::frame::MARGIN + SIDES.0;
    figure.y += 8.0;
    for band in Band::ALL {
        let box_ = Area { left: x, top: figure.y - 9.0, width: 10.0, height: 10.0 };
        figure.canvas.rect(box_, colour::band(band));
        figure.canvas.text((x + 15.0, figure.y), band.name(), Style::new(SMALL, INK));
        x += 34.0 + text::width(band.name(), SMALL, Weight::Regular);
    }
    figure.y += 10.0;
}

/// Draws bars as rectangles, with the number of their job where it fits.
fn draw_bars(canvas: &mut Canvas, panel: &Panel, (bars, lanes): (&[Bar], &[usize]), row: f64) {
    for bar in bars {
        let count = of_usize(lanes.get(bar.node).copied().unwrap_or(1));
        let height = (row - 3.0) / count;
        let top = panel.area.top + row * of_usize(bar.node) + 1.5 + height * of_usize(bar.lane);
        let (left, right) = (panel.at(bar.from, 0.0).0, panel.at(bar.to, 0.0).0);
        let width = (right - left - 0.6).max(0.6);
        let colour = tone(bar.band);
        canvas.rect(Area { left, top, width, height: (height - 0.6).max(0.6) }, colour);
        let label = format!("j{}", bar.job);
        if height >= 11.0 && text::width(&label, 9.0, Weight::Regular) + 6.0 < width {
            let ink = if colour::is_light(colour) { PRINT } else { PAPER };
            canvas.text((left + 3.0, top + height / 2.0 + 3.0), &label, Style::new(9.0, ink));
        }
    }
}

/// Returns the colour of a band by its place.
fn tone(band: usize) -> Colour {
    Band::ALL.get(band).map_or(INK, |band| colour::band(*band))
}

/// Paints bars into an image; the last pixel of a bar is lighter, so that neighbours stay apart.
fn paint(panel: &Panel, (bars, lanes): (&[Bar], &[usize]), row: f64) -> Indexed {
    let mut palette = vec![PAPER];
    palette.extend((0..4).map(tone));
    palette.extend((0..4).map(|band| mix(tone(band), PAPER, 0.45)));
    let scale = of_u64(u64::try_from(PIXELS).unwrap_or(1));
    let pixel = |length: f64| index((length * scale).round(), 100_000);
    let (width, height) = (pixel(panel.area.width), pixel(panel.area.height));
    let mut image = Indexed::new(width, height, palette).see_through();
    for bar in bars {
        let count = lanes.get(bar.node).copied().unwrap_or(1);
        let part = (pixel(row) - 3) / count.max(1);
        let top = pixel(row * of_usize(bar.node)) + 2 + part * bar.lane;
        let from = pixel(panel.at(bar.from, 0.0).0 - panel.area.left);
        let to = pixel(panel.at(bar.to, 0.0).0 - panel.area.left).max(from + 1);
        let gap = usize::from(part > 3);
        for y in top..top + part.max(1 + gap) - gap {
            for x in from..to {
                let is_edge = x + 1 == to && to - from > 3;
                let shade = bar.band + if is_edge { 5 } else { 1 };
                image.set(x, y, u8::try_from(shade).unwrap_or(1));
            }
        }
    }
    image
}
