//! Forecasters of an owner's load: which peak to keep free.
//!
//! One [`Forecast`] follows one resource of one node in basis points. It advances over runs of
//! equal samples with the same result as sample by sample, and carries the adaptive margin whose
//! bound RULES.md section 2 states: the share of horizons in which the owner used more than
//! predicted stays near 1/(up + 1) for any load. It keeps no capacity and decides nothing.

use crate::config::{Balance, Policy};
use crate::units::{BasisPoints, Span, Time};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use serde::{Deserialize, Serialize};

/// Slots of the profile of the day: ten minutes each.
const SLOTS: usize = 144;
/// Milliseconds of one slot.
const SLOT_MS: u64 = 600_000;
/// Fraction bits of the moving average and its deviation.
const SHIFT: u32 = 16;

/// The highest use in each ten minutes of the day, of the last day that had samples there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Profile {
    slots: VecDeque<u16>,
    /// The slot that is being filled.
    current: u32,
}

/// What is known of one resource's use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// Values that can still be the window's maximum, falling, with the last time each was seen.
    window: VecDeque<(Time, u16)>,
    last: u16,
    /// Moving average, weight 1/4, with [`SHIFT`] fraction bits.
    mean: u64,
    /// Moving absolute deviation, weight 1/32, with [`SHIFT`] fraction bits.
    deviation: u64,
    profile: Option<Box<Profile>>,
    /// The adaptive margin q. It may pass 100 %: the bound counts on every step being kept.
    margin: u16,
    pending: Option<Pending>,
    /// Resolved predictions, and those the owner exceeded.
    outcomes: u64,
    misses: u64,
}

/// A prediction whose horizon has not passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    ends: Time,
    predicted: u16,
    seen: u16,
}

/// How long a policy looks back and how steep its margin is.
const fn shape(policy: Policy) -> (Span, u16) {
    match policy {
        Policy::Conservative => (Span::minutes(24 * 60), 199),
        Policy::Balanced => (Span::minutes(60), 49),
        Policy::Aggressive => (Span::ZERO, 19),
        Policy::Predictive => (Span::ZERO, 49),
    }
}

impl Forecast {
    /// Records that `value` was sampled `count` more times, the last time at `at`.
    pub fn observe(&mut self, value: BasisPoints, count: u64, at: Time, balance: &Balance) {
        let value = value.capped().get();
        self.last = value;
        let window = shape(balance.policy).0;
        if !window.is_zero() {
            while self.window.back().is_some_and(|(_, v)| *v <= value) {
                self.window.pop_back();
            }
            self.window.push_back((at, value));
            while self.window.front().is_some_and(|(t, _)| t.after(window) < at) {
                self.window.pop_front();
            }
        }
        if let Some(pending) = &mut self.pending {
            pending.seen = pending.seen.max(value);
        }
        if balance.policy == Policy::Predictive {
            self.average(value, count);
            self.remember(value, at);
        }
    }

    /// Advances the moving average and deviation by `count` equal samples.
    fn average(&mut self, value: u16, count: u64) {
        let target = u64::from(value) << SHIFT;
        for _ in 0..count {
            let before = (self.mean, self.deviation);
            let error = target.abs_diff(self.mean);
            self.mean = if target >= self.mean {
                self.mean + error / 4
            } else {
                self.mean - error.div_ceil(4)
            };
            self.deviation = self.deviation - self.deviation.div_ceil(32) + error / 32;
            if (self.mean, self.deviation) == before {
                break;
            }
        }
    }

    /// Keeps the highest use of each ten minutes of the day.
    fn remember(&mut self, value: u16, at: Time) {
        let slot = u32::try_from(at.ms() / SLOT_MS % SLOTS as u64).unwrap_or(0);
        let profile = self.profile.get_or_insert_with(|| {
            Box::new(Profile { slots: core::iter::repeat_n(0, SLOTS).collect(), current: u32::MAX })
        });
        let fresh = profile.current != slot;
        profile.current = slot;
        if let Some(kept) = profile.slots.get_mut(slot as usize) {
            *kept = if fresh { value } else { value.max(*kept) };
        }
    }

    /// Returns the peak to keep free until the horizon has passed: base and margin, at most 100 %.
    #[must_use]
    pub fn peak(&self, now: Time, balance: &Balance) -> BasisPoints {
        BasisPoints::new(self.base(now, balance).saturating_add(self.margin)).capped()
    }

    /// Returns the policy's base without the margin.
    fn base(&self, now: Time, balance: &Balance) -> u16 {
        let (window, _) = shape(balance.policy);
        match balance.policy {
            Policy::Conservative | Policy::Balanced => {
                let live = self.window.iter().find(|(t, _)| t.after(window) >= now);
                live.map_or(self.last, |(_, v)| (*v).max(self.last))
            }
            Policy::Aggressive => self.last,
            Policy::Predictive => {
                let spread = (self.mean + 2 * self.deviation) >> SHIFT;
                let average = u16::try_from(spread).unwrap_or(u16::MAX);
                average.max(self.profile_peak(now, balance.horizon))
            }
        }
    }

    /// Returns the highest use that the profile saw between now and the horizon.
    fn profile_peak(&self, now: Time, horizon: Span) -> u16 {
        let Some(profile) = &self.profile else { return 0 };
        let first = now.ms() / SLOT_MS;
        let last = now.after(horizon).ms() / SLOT_MS;
        let slot = |i: u64| usize::try_from(i % SLOTS as u64).unwrap_or(0);
        let values = (first..=last.min(first + SLOTS as u64)).map(slot);
        values.filter_map(|i| profile.slots.get(i)).copied().max().unwrap_or(0)
    }

    /// Judges the last prediction when its horizon has passed, moves the margin, and makes the
    /// next.
    pub fn judge(&mut self, now: Time, balance: &Balance) {
        if let Some(pending) = self.pending {
            if now < pending.ends {
                return;
            }
            let up = shape(balance.policy).1;
            let step = balance.margin_step;
            let missed = pending.seen > pending.predicted;
            self.outcomes += 1;
            self.misses += u64::from(missed);
            self.margin = if missed {
                self.margin.saturating_add(up.saturating_mul(step))
            } else {
                self.margin.saturating_sub(step)
            };
        }
        let predicted = self.peak(now, balance).get();
        self.pending =
            Some(Pending { ends: now.after(balance.horizon), predicted, seen: self.last });
    }

    /// Returns resolved predictions and how many of them the owner exceeded.
    #[must_use]
    pub fn record(&self) -> (u64, u64) {
        (self.outcomes, self.misses)
    }

    /// Returns the adaptive margin.
    #[must_use]
    pub fn margin(&self) -> BasisPoints {
        BasisPoints::new(self.margin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balance(policy: Policy) -> Balance {
        Balance { policy, ..Balance::default() }
    }

    #[test]
    fn a_run_of_equal_samples_counts_as_one_by_one() {
        for policy in
            [Policy::Conservative, Policy::Balanced, Policy::Aggressive, Policy::Predictive]
        {
            let b = balance(policy);
            let (mut runs, mut singles) = (Forecast::default(), Forecast::default());
            let mut now = Time::ZERO;
            for (value, count) in
                [(100, 7), (9_000, 1), (50, 4_000), (51, 3), (50, 1), (10_000, 90)]
            {
                for i in 1..=count {
                    let at = now.after(Span::seconds(10 * i));
                    singles.observe(BasisPoints::new(value), 1, at, &b);
                }
                now = now.after(Span::seconds(10 * count));
                runs.observe(BasisPoints::new(value), count, now, &b);
                assert_eq!(runs.peak(now, &b), singles.peak(now, &b), "{policy:?}");
                assert_eq!((runs.mean, runs.deviation), (singles.mean, singles.deviation));
            }
        }
    }

    #[test]
    fn the_windows_forget_after_their_length() {
        let b = balance(Policy::Balanced);
        let mut f = Forecast::default();
        f.observe(BasisPoints::percent(90), 1, Time::ZERO, &b);
        f.observe(BasisPoints::percent(10), 1, Time::from_ms(10_000), &b);
        assert_eq!(f.peak(Time::from_ms(3_600_000), &b), BasisPoints::percent(90));
        assert_eq!(f.peak(Time::from_ms(3_600_001), &b), BasisPoints::percent(10));
    }

    #[test]
    fn misses_stay_under_the_bound_for_an_adversary_too() {
        // Whenever the margin has room, the owner uses one basis point more than predicted.
        for (policy, up) in
            [(Policy::Conservative, 199), (Policy::Balanced, 49), (Policy::Aggressive, 19)]
        {
            let b = balance(policy);
            let mut f = Forecast::default();
            let mut now = Time::ZERO;
            f.observe(BasisPoints::ZERO, 1, now, &b);
            for outcomes in 1..=50_000_u64 {
                f.judge(now, &b);
                let more = f.peak(now, &b).get().saturating_add(1).min(10_000);
                now = now.after(b.horizon);
                f.observe(BasisPoints::new(more), 1, now, &b);
                if outcomes.is_multiple_of(2) {
                    f.observe(BasisPoints::ZERO, 1, now.after(Span::new(1)), &b);
                }
                let (t, misses) = f.record();
                let k = u64::from(b.margin_step);
                let bound = (t + 10_000 / k + up) / (up + 1) + 1;
                assert!(misses <= bound, "{policy:?}: {misses} misses in {t}, bound {bound}");
            }
            assert!(f.record().1 > 0, "{policy:?}: the adversary must hit at all");
        }
    }
}
