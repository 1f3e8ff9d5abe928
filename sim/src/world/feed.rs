//! What owners use, as a feed of changes on the monitoring grid.
//!
//! Series are quantised to whole percent, as a live agent does, and runs of equal values are
//! merged: a node's next change is one event, however many samples lie in between. What all nodes
//! use is read millions of times in random order, so a feed is kept small and in one piece.

use crate::scenario::build::NodeLoad;
use crate::work::LoadSeries;
use gridcore::command::{GpuSample, Sample};
use gridcore::units::{BasisPoints, Span, Time};

/// One resource of one node: a series that repeats for ever.
#[derive(Clone, Debug)]
struct Track {
    /// Whole percent per step.
    values: Box<[u8]>,
    /// The length of one step in milliseconds.
    step: u64,
    /// Until when the present value holds; the end of time when it never changes.
    holds: Time,
    /// The present value.
    now: u8,
}

/// The feed of one node.
#[derive(Clone, Debug)]
pub struct Feed {
    /// CPU, memory, then every GPU.
    tracks: Box<[Track]>,
    /// The first time at which one of them changes.
    next: Time,
}

impl Track {
    /// Takes a series up: it is rounded to whole percent, half up. Where there is none, nothing is
    /// used.
    fn new(series: &LoadSeries) -> Self {
        let percent = |v: &BasisPoints| u8::try_from((v.capped().get() + 50) / 100).unwrap_or(100);
        let values = series.values.iter().map(percent).collect();
        Self { values, step: series.step.get().max(1), holds: Time::ZERO, now: 0 }
    }

    /// Returns the values from the one that holds at a time, and when that one began.
    fn from(&self, at: Time) -> (impl Iterator<Item = u8>, Time) {
        let begun = at.ms() / self.step;
        let first = begun.checked_rem(self.values.len() as u64).unwrap_or(0);
        let first = usize::try_from(first).unwrap_or(0);
        let (before, after) = self.values.split_at_checked(first).unwrap_or_default();
        (after.iter().chain(before).copied(), Time::from_ms(begun * self.step))
    }

    /// Carries the present value on to a later time.
    fn advance(&mut self, to: Time) {
        let (now, holds) = {
            let (mut values, begun) = self.from(to);
            let now = values.next().unwrap_or(0);
            let run = values.position(|other| other != now);
            let ends = run.map(|more| self.step.saturating_mul(more as u64 + 1));
            (now, ends.map_or(Time::MAX, |span| begun.after(Span::new(span))))
        };
        (self.now, self.holds) = (now, holds);
    }

    /// Returns the highest value between two times, both inside: where looks and values come at the
    /// same instants, the end of one horizon is the first that could not be known.
    fn peak(&self, at: Time, to: Time) -> BasisPoints {
        if self.holds > to {
            return self.now();
        }
        let (values, begun) = self.from(at);
        let steps = to.since(begun).get() / self.step + 1;
        let highest = values.take(usize::try_from(steps).unwrap_or(usize::MAX)).max();
        BasisPoints::percent(highest.unwrap_or(0).into())
    }

    /// Returns the present value.
    fn now(&self) -> BasisPoints {
        BasisPoints::percent(self.now.into())
    }
}

impl Feed {
    /// Follows the load of one node with so many GPUs from the beginning. What no series describes
    /// is idle.
    #[must_use]
    pub fn new(load: &NodeLoad, gpus: usize) -> Self {
        let idle = LoadSeries::default();
        let gpus = load.gpus.iter().chain(std::iter::repeat(&idle)).take(gpus);
        let series = [&load.cpu, &load.memory].into_iter().chain(gpus);
        let mut feed = Self { tracks: series.map(Track::new).collect(), next: Time::ZERO };
        feed.advance(Time::ZERO);
        feed
    }

    /// Carries the feed on to a later time.
    pub fn advance(&mut self, to: Time) {
        if self.next > to {
            return;
        }
        self.next = Time::MAX;
        for track in &mut self.tracks {
            if track.holds <= to {
                track.advance(to);
            }
            self.next = self.next.min(track.holds);
        }
    }

    /// Writes what the owner uses since the last [`Feed::advance`].
    pub fn write(&self, sample: &mut Sample) {
        let mut now = self.tracks.iter().map(Track::now);
        sample.cpu = now.next().unwrap_or_default();
        sample.memory = now.next().unwrap_or_default();
        sample.gpus.clear();
        sample.gpus.extend(now.map(|busy| GpuSample { busy, ..GpuSample::default() }));
    }

    /// Returns the first monitoring instant at which the owner's use differs from the present one;
    /// the end of time when there is none.
    #[must_use]
    pub fn next_change(&self, interval: Span) -> Time {
        if self.next == Time::MAX {
            return Time::MAX;
        }
        let grid = interval.get().max(1);
        Time::from_ms(self.next.ms().div_ceil(grid) * grid)
    }

    /// Returns the owner's highest use of CPU, memory and each GPU from `at`, not before the last
    /// [`Feed::advance`], to `to`: what an oracle would keep free.
    pub fn peaks(&self, at: Time, to: Time) -> impl Iterator<Item = BasisPoints> {
        self.tracks.iter().map(move |track| track.peak(at, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu_of(feed: &Feed) -> BasisPoints {
        let mut sample = Sample::default();
        feed.write(&mut sample);
        sample.cpu
    }

    fn peak(feed: &Feed, to: u64) -> Option<BasisPoints> {
        feed.peaks(Time::ZERO, Time::from_ms(to)).next()
    }

    #[test]
    fn runs_of_equal_percent_are_one_change() {
        let values = [1_000, 1_040, 2_000, 2_000, 1_000].map(BasisPoints::new).to_vec();
        let cpu = LoadSeries { name: "a".into(), step: Span::seconds(57), values };
        let mut feed = Feed::new(&NodeLoad { cpu, ..NodeLoad::default() }, 0);
        let ten = Span::seconds(10);
        assert_eq!(feed.next_change(ten), Time::from_ms(120_000));
        assert_eq!(peak(&feed, 113_999), Some(BasisPoints::percent(10)));
        assert_eq!(peak(&feed, 114_000), Some(BasisPoints::percent(20)));
        feed.advance(Time::from_ms(120_000));
        assert_eq!(cpu_of(&feed), BasisPoints::percent(20));
        assert_eq!(feed.next_change(ten), Time::from_ms(230_000));
        // The series begins anew after 285 s with the value it ended with.
        feed.advance(Time::from_ms(230_000));
        assert_eq!(cpu_of(&feed), BasisPoints::percent(10));
        assert_eq!(feed.next_change(ten), Time::from_ms(400_000));
    }
}
