//! What owners use, as a feed of changes on the monitoring grid.
//!
//! Series are quantised to whole percent, as a live agent does, and runs of equal values are
//! merged: a node's next change is one event, however many samples lie in between.

use crate::scenario::build::NodeLoad;
use crate::work::LoadSeries;
use gridcore::command::{GpuSample, Sample};
use gridcore::units::{BasisPoints, Span, Time};

/// The feed of one node.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    load: NodeLoad,
}

/// Returns the position of a time in a series that repeats for ever.
fn index(series: &LoadSeries, at: Time) -> Option<usize> {
    let len = series.values.len() as u64;
    let step = at.ms() / series.step.get().max(1);
    usize::try_from(step.checked_rem(len)?).ok()
}

/// Rounds to whole percent, half up.
fn quantise(value: BasisPoints) -> BasisPoints {
    BasisPoints::new((value.get() + 50) / 100 * 100).capped()
}

/// Returns the quantised value of a series at a time; nothing where there is no series.
fn value(series: &LoadSeries, at: Time) -> BasisPoints {
    let found = index(series, at).and_then(|i| series.values.get(i));
    found.map_or(BasisPoints::ZERO, |v| quantise(*v))
}

/// Returns when a series next has another value than at `at`; the end of time when it never does.
fn next_change(series: &LoadSeries, at: Time) -> Time {
    let Some(first) = index(series, at) else { return Time::MAX };
    let step = series.step.get().max(1);
    let now = value(series, at);
    let len = series.values.len();
    for ahead in 1..=len {
        let other = series.values.get((first + ahead) % len).copied().map(quantise);
        if other.is_some_and(|other| other != now) {
            let start = at.ms() / step * step;
            return Time::from_ms(start + step * ahead as u64);
        }
    }
    Time::MAX
}

/// Returns the highest quantised value of a series between two times, the later one outside.
fn peak(series: &LoadSeries, from: Time, to: Time) -> BasisPoints {
    let step = series.step.get().max(1);
    let mut highest = value(series, from);
    let mut at = Time::from_ms(from.ms() / step * step + step);
    let mut left = series.values.len();
    while at < to && left > 0 {
        highest = highest.max(value(series, at));
        at = at.after(Span::new(step));
        left -= 1;
    }
    highest
}

impl Feed {
    /// Wraps the load of one node.
    #[must_use]
    pub fn new(load: NodeLoad) -> Self {
        Self { load }
    }

    /// Walks all series.
    fn series(&self) -> impl Iterator<Item = &LoadSeries> {
        [&self.load.cpu, &self.load.memory].into_iter().chain(&self.load.gpus)
    }

    /// Returns what the owner uses at a time.
    #[must_use]
    pub fn sample(&self, at: Time) -> Sample {
        let gpu = |series| GpuSample { busy: value(series, at), ..GpuSample::default() };
        Sample {
            cpu: value(&self.load.cpu, at),
            memory: value(&self.load.memory, at),
            gpus: self.load.gpus.iter().map(gpu).collect(),
        }
    }

    /// Returns the first monitoring instant after `at` at which the sample differs from the one at
    /// `at`; the end of time when there is none.
    #[must_use]
    pub fn next_change(&self, at: Time, interval: Span) -> Time {
        let first = self.series().map(|s| next_change(s, at)).min().unwrap_or(Time::MAX);
        if first == Time::MAX {
            return first;
        }
        let grid = interval.get().max(1);
        Time::from_ms(first.ms().div_ceil(grid) * grid)
    }

    /// Returns the owner's highest use of CPU, memory and each GPU between two times: what an
    /// oracle would keep free.
    #[must_use]
    pub fn peaks(&self, from: Time, to: Time) -> (BasisPoints, BasisPoints, Vec<BasisPoints>) {
        let gpus = self.load.gpus.iter().map(|s| peak(s, from, to)).collect();
        (peak(&self.load.cpu, from, to), peak(&self.load.memory, from, to), gpus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_equal_percent_are_one_change() {
        let values = [1_000, 1_040, 2_000, 2_000, 1_000].map(BasisPoints::new).to_vec();
        let cpu = LoadSeries { name: "a".into(), step: Span::seconds(57), values };
        let feed = Feed::new(NodeLoad { cpu, ..NodeLoad::default() });
        let ten = Span::seconds(10);
        assert_eq!(feed.next_change(Time::ZERO, ten), Time::from_ms(120_000));
        assert_eq!(feed.sample(Time::from_ms(120_000)).cpu, BasisPoints::percent(20));
        assert_eq!(feed.next_change(Time::from_ms(120_000), ten), Time::from_ms(230_000));
        let (cpu, ..) = feed.peaks(Time::ZERO, Time::from_ms(115_000));
        assert_eq!(cpu, BasisPoints::percent(20));
    }
}
