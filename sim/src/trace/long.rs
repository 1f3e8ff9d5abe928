//! Owners' load with one row per node and time:
//! `time_s,node,cpu_percent,memory_percent,gpu_percent`, the percentages optional.

use super::columns::{Column, Table, optional, required};
use super::read::{Lines, TraceError, shown};
use super::series::{Collected, FIVE_MINUTES, OwnerLoad, SAMPLES_MAX, utilisation};
use crate::work::LoadSeries;
use gridcore::units::{BasisPoints, Span};

const LONG: &[Column] = &[
    required("time_s"),
    required("node"),
    optional("cpu_percent"),
    optional("memory_percent"),
    optional("gpu_percent"),
];

/// A row of the long layout: milliseconds, then one value per resource.
type LongRow = (u64, [Option<BasisPoints>; 3]);

/// Reads the long layout. The step is the largest that every time is a multiple of, and every
/// series lasts to the last time of the file.
pub(super) fn loads(lines: Lines) -> Result<Vec<OwnerLoad>, TraceError> {
    let mut table = Table::open(lines, LONG)?;
    let mut collected = Collected::default();
    let mut rows: Vec<Vec<LongRow>> = Vec::new();
    let (mut step, mut end) = (0, 0);
    while table.advance()? {
        let index = match collected.index.get(table.text(1)) {
            Some(index) => *index,
            None => {
                rows.push(Vec::new());
                collected.add(table.lines(), table.text(1), Span::ZERO)?
            }
        };
        let at = table.amount(0, 1_000)?;
        if rows[index].last().is_some_and(|(before, _)| *before >= at) {
            let what = format!("time_s of `{}` does not grow", shown(table.text(1)));
            return Err(table.error(what, "give the rows of a node in order of time"));
        }
        let mut values = [None; 3];
        for (column, value) in (2..).zip(&mut values) {
            let text = table.text(column);
            if !text.is_empty() {
                *value = Some(utilisation(table.lines(), text, 2)?);
            }
        }
        rows[index].push((at, values));
        step = greatest_common_divisor(step, at);
        end = end.max(at);
    }
    let step = if step == 0 { FIVE_MINUTES } else { Span::new(step) };
    let slots = end / step.get() + 1;
    let machines = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    if slots.saturating_mul(machines).saturating_mul(3) > SAMPLES_MAX {
        let what = format!("{machines} machines with {slots} steps of {} ms", step.get());
        return Err(table.error(what, "round the times to a common step, such as 60 s"));
    }
    let names = collected.finish(table.lines())?;
    let load = |(named, rows): (LoadSeries, Vec<LongRow>)| {
        let [cpu, memory, gpu] = [0, 1, 2].map(|resource| {
            let name = named.name.clone();
            LoadSeries { name, step, values: held(&rows, resource, step, slots) }
        });
        OwnerLoad { name: named.name, cpu, memory, gpu }
    };
    Ok(names.into_iter().zip(rows).map(load).collect())
}

/// Returns one value per step: the last one given at or before it.
fn held(rows: &[LongRow], resource: usize, step: Span, slots: u64) -> Vec<BasisPoints> {
    let mut rows = rows.iter().peekable();
    let mut last = BasisPoints::ZERO;
    let value = |slot: u64| {
        while let Some((_, values)) = rows.next_if(|(at, _)| *at <= slot * step.get()) {
            last = values[resource].unwrap_or(last);
        }
        last
    };
    (0..slots).map(value).collect()
}

const fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
