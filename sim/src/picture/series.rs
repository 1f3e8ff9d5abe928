//! Series over time, as pictures and page draw them: thinned to what can be seen.

use crate::picture::number::{of_u64, of_usize, percent, ratio, seconds};
use crate::record::{Amounts, NodeSample, RunRecord, TimelineRow};
use gridcore::bundle::Dimension;

/// Returns how many rows become one, so that at most `points` remain.
pub(crate) fn group(rows: usize, points: usize) -> usize {
    rows.div_ceil(points.max(1)).max(1)
}

/// Returns the mean of each group of rows.
pub(crate) fn means<T>(rows: &[T], group: usize, value: impl Fn(&T) -> f64) -> Vec<f64> {
    rows.chunks(group.max(1))
        .map(|chunk| chunk.iter().map(&value).sum::<f64>() / of_usize(chunk.len().max(1)))
        .collect()
}

/// Returns the last value of each group of rows, for counts since the beginning.
pub(crate) fn lasts<T>(rows: &[T], group: usize, value: impl Fn(&T) -> f64) -> Vec<f64> {
    rows.chunks(group.max(1)).filter_map(|chunk| chunk.last()).map(&value).collect()
}

/// Returns the end of each group of intervals in seconds.
pub(crate) fn times(run: &RunRecord, group: usize) -> Vec<f64> {
    lasts(&run.timeline, group, |row| seconds(row.at))
}

/// Returns the end of the time axis in seconds.
pub(crate) fn end(run: &RunRecord) -> f64 {
    let last = run.timeline.last().map_or(0.0, |row| seconds(row.at));
    seconds(run.end).max(last).max(1.0)
}

/// Where one resource went, over time, in cores, GiB or devices.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// Ends of the intervals in seconds.
    pub times: Vec<f64>,
    /// The hardware that was up.
    pub capacity: Vec<f64>,
    /// In use by owners.
    pub owner: Vec<f64>,
    /// Leased to each band, lowest first.
    pub lent: [Vec<f64>; 4],
    /// On offer, the leased part included.
    pub offered: Vec<f64>,
    /// Means over the run as parts of capacity: owner, the four bands.
    pub shares: [f64; 5],
}

/// Returns where a resource went, in at most `points` groups; `None` when the cluster has none.
pub(crate) fn usage(run: &RunRecord, dimension: Dimension, points: usize) -> Option<Usage> {
    let rows = &run.timeline;
    if !rows.iter().any(|row| row.capacity.amount(dimension) > 0) {
        return None;
    }
    let unit = match dimension {
        Dimension::Cpu | Dimension::Gpu => 1_000.0,
        Dimension::Memory | Dimension::Storage => 1_073_741_824.0,
        Dimension::Custom(_) => 1.0,
    };
    let amount = |amounts: &Amounts| of_u64(amounts.amount(dimension)) / unit;
    let size = group(rows.len(), points);
    let sum = |value: &dyn Fn(&TimelineRow) -> f64| rows.iter().map(value).sum::<f64>();
    let whole = sum(&|row| amount(&row.capacity));
    let lent = |band: usize| move |row: &TimelineRow| row.lent.get(band).map_or(0.0, amount);
    let share = |band: usize| ratio(sum(&lent(band)), whole);
    Some(Usage {
        times: times(run, size),
        capacity: means(rows, size, |row| amount(&row.capacity)),
        owner: means(rows, size, |row| amount(&row.owner)),
        lent: [0, 1, 2, 3].map(|band| means(rows, size, lent(band))),
        offered: means(rows, size, |row| amount(&row.offered)),
        shares: [
            ratio(sum(&|row| amount(&row.owner)), whole),
            share(0),
            share(1),
            share(2),
            share(3),
        ],
    })
}

/// Nodes of one kind of hardware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// What the hardware is.
    pub label: String,
    /// The nodes, by row of [`RunRecord::nodes`].
    pub nodes: Vec<usize>,
}

/// Groups nodes by hardware: those with most GPUs first, then by cores, then by name.
pub(crate) fn kinds(run: &RunRecord) -> Vec<Kind> {
    let mut order: Vec<usize> = (0..run.nodes.len()).collect();
    let key = |i: &usize| {
        run.nodes.get(*i).map(|node| {
            let hardware = (node.capacity.gpu, node.capacity.cpu, node.capacity.memory);
            (core::cmp::Reverse(hardware), node.gpu_model.as_str())
        })
    };
    order.sort_by(|a, b| key(a).cmp(&key(b)).then(a.cmp(b)));
    let mut out: Vec<Kind> = Vec::new();
    for i in order {
        match out.last_mut() {
            Some(kind) if kind.nodes.last().is_some_and(|last| key(last) == key(&i)) => {
                kind.nodes.push(i);
            }
            _ => out.push(Kind { label: hardware(run, i), nodes: vec![i] }),
        }
    }
    out
}

/// Names the hardware of a node: `4 \u{00D7} A100, 64 cores`.
fn hardware(run: &RunRecord, node: usize) -> String {
    let Some(row) = run.nodes.get(node) else { return String::new() };
    let cores = row.capacity.cpu.get() / 1_000;
    let gpus = row.capacity.gpu.get() / 1_000;
    let model = if row.gpu_model.is_empty() { "GPU" } else { row.gpu_model.as_str() };
    if gpus == 0 { format!("{cores} cores") } else { format!("{gpus} {model}, {cores} cores") }
}

/// A table of one value per node (rows in the order of [`kinds`]) and time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Grid {
    /// How many columns.
    pub columns: usize,
    /// Row by row; `None` where the node was not there.
    pub cells: Vec<Option<f64>>,
}

/// Builds a grid of at most `columns` columns and `rows` rows, with the mean of what falls
/// together.
pub(crate) fn grid(
    run: &RunRecord,
    (columns, rows): (usize, usize),
    value: impl Fn(&NodeSample) -> f64,
) -> Grid {
    let order: Vec<usize> = kinds(run).into_iter().flat_map(|kind| kind.nodes).collect();
    let nodes = order.len();
    if nodes == 0 || run.node_samples.len() < nodes {
        return Grid::default();
    }
    let intervals = run.node_samples.len() / nodes;
    let (wide, high) = (group(intervals, columns), group(nodes, rows));
    let columns = intervals.div_ceil(wide);
    let mut cells = Vec::with_capacity(columns * nodes.div_ceil(high));
    for part in order.chunks(high) {
        for column in 0..columns {
            let from = column * wide;
            let samples = (from..(from + wide).min(intervals))
                .flat_map(|t| part.iter().map(move |node| t * nodes + node))
                .filter_map(|i| run.node_samples.get(i))
                .filter(|sample| is_there(sample));
            let (mut sum, mut count) = (0.0, 0_usize);
            for sample in samples {
                sum += value(sample);
                count += 1;
            }
            cells.push((count > 0).then(|| sum / of_usize(count)));
        }
    }
    Grid { columns, cells }
}

/// Returns whether the node could be measured.
fn is_there(sample: &NodeSample) -> bool {
    !matches!(sample.state, "down" | "unreachable")
}

/// Returns a node's pressure, 0 to 1.
pub(crate) fn pressure(sample: &NodeSample) -> f64 {
    percent(sample.pressure) / 100.0
}

/// Returns the part of a node that is lent: the larger of its CPU's and its GPUs', 0 to 1.
pub(crate) fn lending(sample: &NodeSample) -> f64 {
    let [cpu, _, gpu] = sample.lent;
    percent(cpu.max(gpu)) / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_means_and_last_counts() {
        let rows = [1.0, 3.0, 5.0];
        assert_eq!(group(2_001, 1_000), 3);
        assert_eq!(group(0, 1_000), 1);
        assert_eq!(means(&rows, 2, |v| *v), [2.0, 5.0]);
        assert_eq!(lasts(&rows, 2, |v| *v), [3.0, 5.0]);
    }

    #[test]
    fn an_empty_run_has_no_series() {
        let run = RunRecord::default();
        assert!(usage(&run, Dimension::Cpu, 100).is_none());
        assert!(grid(&run, (10, 10), pressure).cells.is_empty());
        assert!(end(&run) > 0.0);
    }
}
