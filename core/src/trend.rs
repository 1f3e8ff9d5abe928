//! Trends: how a node's use has changed over 5, 15 and 60 minutes. Shown and used for direction,
//! never to size an offer (RULES.md section 2: extrapolating them is worse than the last value).

use crate::units::{BasisPoints, Span, Time};
use alloc::collections::VecDeque;
use serde::{Deserialize, Serialize};

/// The ring is cleared of old runs whenever its length is a multiple of this: its two ends lie far
/// apart in memory.
const FORGET: usize = 16;

/// A run of equal samples: the values of CPU, memory and GPU from a time until the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    from: Time,
    uses: [BasisPoints; 3],
}

/// The recent past of one node as a ring of runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    runs: VecDeque<Run>,
    /// The uses of the last run, kept here too: most samples are compared with nothing else.
    last: [BasisPoints; 3],
}

impl History {
    /// Records the use from `at` on, and forgets what no window of `keep` reaches.
    pub fn push(&mut self, at: Time, uses: [BasisPoints; 3], keep: Span, runs_max: usize) {
        if self.last == uses && !self.runs.is_empty() {
            return;
        }
        self.last = uses;
        self.runs.push_back(Run { from: at, uses });
        while self.runs.len() > runs_max.max(1) {
            self.runs.pop_front();
        }
        if !self.runs.len().is_multiple_of(FORGET) {
            return;
        }
        while self.runs.get(1).is_some_and(|next| next.from.after(keep) < at) {
            self.runs.pop_front();
        }
    }

    /// Returns how many basis points the mean of the window's later half lies above (positive) or
    /// below its earlier half, per resource.
    #[must_use]
    pub fn trend(&self, now: Time, window: Span) -> [i32; 3] {
        let half = Span::new(window.get() / 2);
        let middle = now.before(half);
        let late = self.mean(middle, now);
        let early = self.mean(now.before(window), middle);
        let mut out = [0; 3];
        for ((slot, l), e) in out.iter_mut().zip(late).zip(early) {
            *slot = i32::from(l.get()) - i32::from(e.get());
        }
        out
    }

    /// Returns the time-weighted mean between two times, from what the ring still holds.
    fn mean(&self, from: Time, to: Time) -> [BasisPoints; 3] {
        let mut sums = [0_u64; 3];
        let mut total = 0_u64;
        let ends = self.runs.iter().skip(1).map(|next| next.from).chain([Time::MAX]);
        for (run, end) in self.runs.iter().zip(ends) {
            let covered = end.min(to).since(run.from.max(from)).get();
            total += covered;
            for (sum, value) in sums.iter_mut().zip(run.uses) {
                *sum += covered * u64::from(value.get());
            }
        }
        let mean = |sum: u64| u16::try_from(sum.checked_div(total).unwrap_or(0)).unwrap_or(10_000);
        sums.map(|sum| BasisPoints::new(mean(sum)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_up_is_a_positive_trend_until_the_window_has_passed() {
        let mut h = History::default();
        let at = |s: u64| Time::from_ms(s * 1_000);
        let uses = |p: u16| [BasisPoints::percent(p); 3];
        h.push(at(0), uses(10), Span::minutes(60), 100);
        h.push(at(450), uses(30), Span::minutes(60), 100);
        assert_eq!(h.trend(at(600), Span::minutes(5)), [2_000; 3]);
        assert_eq!(h.trend(at(900), Span::minutes(15)), [2_000; 3]);
        assert_eq!(h.trend(at(900), Span::minutes(5)), [0; 3]);
    }
}
