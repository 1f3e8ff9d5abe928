//! Forecasters of an owner's load: which peak to keep free.
//!
//! One [`Forecast`] follows one resource of one node in basis points. It advances over runs of
//! equal samples with the same result as sample by sample, and carries the adaptive margin whose
//! bound RULES.md section 2 states: the share of horizons in which the owner used more than
//! predicted stays near 1/(up + 1) for any load. It keeps no capacity and decides nothing.

use crate::config::{Balance, Policy};
use crate::units::{BasisPoints, Span, Time};
use alloc::boxed::Box;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Slots of the profile of the day: ten minutes each.
const SLOTS: usize = 144;
/// The same, to count by.
pub const DAY_SLOTS: u64 = SLOTS as u64;
/// Milliseconds of one slot.
const SLOT_MS: u64 = 600_000;
/// One slot.
pub const SLOT: Span = Span::new(SLOT_MS);
/// Fraction bits of the moving average and its deviation.
const SHIFT: u32 = 16;

/// What the policy `predictive` learns beside the window: an average and a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Day {
    /// Moving average, weight 1/4, with [`SHIFT`] fraction bits.
    mean: u64,
    /// Moving absolute deviation, weight 1/32, with [`SHIFT`] fraction bits.
    deviation: u64,
    /// The highest use in each ten minutes of the day, of the last day that had samples there.
    slots: Vec<u16>,
    /// The slot that is being filled.
    current: u32,
}

/// A value that was sampled, and the last time it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Past {
    seen: Time,
    value: u16,
}

/// What is known of one resource's use. It fits a cache line of 64 bytes: a cluster has tens of
/// thousands of them, and a sample of a machine reads all of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// Former values that can still be the window's maximum: the highest (when it was last seen and
    /// its value), then the falling rest.
    top_seen: Time,
    top: u16,
    rest: Vec<Past>,
    /// The value of the last of the rest; nothing where there is none.
    least: u16,
    day: Option<Box<Day>>,
    /// Resolved predictions, and those the owner exceeded.
    outcomes: u32,
    misses: u32,
    /// The present value, which holds until the next.
    last: u16,
    /// The adaptive margin q. It may pass 100 %: the bound counts on every step being kept.
    margin: u16,
    /// The peak predicted for the running horizon, and the highest use in it so far.
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

const _: () = assert!(size_of::<Forecast>() <= 64, "a forecast fits a cache line");

impl Forecast {
    /// Records that `value` holds from `at` on; the present one was last sampled at `until`.
    pub fn change(&mut self, value: BasisPoints, until: Time, at: Time, balance: &Balance) {
        let value = value.capped().get();
        let window = shape(balance.policy).0;
        if value != self.last && !window.is_zero() {
            self.pass(Past { seen: until, value: self.last });
            self.forget(window, at);
        }
        self.last = value;
        self.seen = self.seen.max(value);
    }

    /// Adds a value that no longer holds to the window.
    fn pass(&mut self, past: Past) {
        if past.value >= self.top {
            (self.top_seen, self.top) = (past.seen, past.value);
            self.rest.clear();
            self.least = 0;
            return;
        }
        // Mostly decided without a look at the list, which is elsewhere in memory.
        if past.value >= self.least {
            while self.rest.last().is_some_and(|kept| kept.value <= past.value) {
                self.rest.pop();
            }
        }
        self.rest.push(past);
        self.least = past.value;
    }

    /// Drops from the window what lies too far back.
    fn forget(&mut self, window: Span, at: Time) {
        if self.top_seen.after(window) >= at {
            return;
        }
        let gone = self.rest.iter().take_while(|past| past.seen.after(window) < at).count();
        self.rest.drain(..gone);
        let top = if self.rest.is_empty() { Past::default() } else { self.rest.remove(0) };
        (self.top_seen, self.top) = (top.seen, top.value);
        self.least = self.rest.last().map_or(0, |past| past.value);
    }

    /// Feeds `count` samples of the present value, the last at `at`, to what counts samples.
    pub fn repeat(&mut self, count: u64, at: Time, balance: &Balance) {
        if balance.policy != Policy::Predictive {
            return;
        }
        let value = self.last;
        let day = self.day.get_or_insert_with(|| Box::new(Day::new()));
        day.average(value, count);
        let run = balance.monitoring_interval.get().saturating_mul(count.saturating_sub(1));
        day.remember(value, (at.before(Span::new(run)), at));
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
                let live = |past: &&Past| past.seen.after(window) >= now;
                let top = Past { seen: self.top_seen, value: self.top };
                let past = [&top].into_iter().chain(&self.rest).find(live);
                past.map_or(self.last, |past| past.value.max(self.last))
            }
            Policy::Aggressive => self.last,
            Policy::Predictive => {
                let day = self.day.as_ref();
                day.map_or(0, |day| day.spread().max(day.peak(now, balance.horizon)))
            }
        }
    }

    /// Returns the highest use in the ten minutes of a number, counted from the beginning, on the
    /// last day that had samples there; `None` where no profile of the day is kept.
    #[must_use]
    pub fn slot(&self, number: u64) -> Option<BasisPoints> {
        let slot = usize::try_from(number % DAY_SLOTS).ok()?;
        self.day.as_ref()?.slots.get(slot).copied().map(BasisPoints::new)
    }

    /// Predicts the peak until the horizon has passed.
    pub fn predict(&mut self, now: Time, balance: &Balance) {
        self.predicted = self.peak(now, balance).get();
        self.seen = self.last;
    }

    /// Judges the last prediction, whose horizon has passed, and moves the margin.
    pub fn resolve(&mut self, balance: &Balance) {
        let (_, up) = shape(balance.policy);
        let step = balance.margin_step;
        let missed = self.seen > self.predicted;
        self.outcomes = self.outcomes.saturating_add(1);
        self.misses = self.misses.saturating_add(u32::from(missed));
        self.margin = if missed {
            self.margin.saturating_add(up.saturating_mul(step))
        } else {
            self.margin.saturating_sub(step)
        };
    }

    /// Returns resolved predictions and how many of them the owner exceeded.
    #[must_use]
    pub fn record(&self) -> (u64, u64) {
        (self.outcomes.into(), self.misses.into())
    }

    /// Returns the adaptive margin.
    #[must_use]
    pub fn margin(&self) -> BasisPoints {
        BasisPoints::new(self.margin)
    }
}

impl Day {
    /// Knows nothing.
    fn new() -> Self {
        Self { mean: 0, deviation: 0, slots: alloc::vec![0; SLOTS], current: u32::MAX }
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

    /// Keeps the highest use of each ten minutes of the day that the samples lie in.
    fn remember(&mut self, value: u16, (first, last): (Time, Time)) {
        let (first, last) = (first.ms() / SLOT_MS, last.ms() / SLOT_MS);
        for i in first.max((last + 1).saturating_sub(SLOTS as u64))..=last {
            let slot = u32::try_from(i % SLOTS as u64).unwrap_or(0);
            let fresh = self.current != slot;
            self.current = slot;
            if let Some(kept) = self.slots.get_mut(slot as usize) {
                *kept = if fresh { value } else { value.max(*kept) };
            }
        }
    }

    /// Returns the average and twice the deviation.
    fn spread(&self) -> u16 {
        u16::try_from((self.mean + 2 * self.deviation) >> SHIFT).unwrap_or(u16::MAX)
    }

    /// Returns the highest use seen between now and the horizon.
    fn peak(&self, now: Time, horizon: Span) -> u16 {
        let first = now.ms() / SLOT_MS;
        let last = now.after(horizon).ms() / SLOT_MS;
        let slot = |i: u64| usize::try_from(i % SLOTS as u64).unwrap_or(0);
        let values = (first..=last.min(first + SLOTS as u64)).map(slot);
        values.filter_map(|i| self.slots.get(i)).copied().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balance(policy: Policy) -> Balance {
        Balance { policy, ..Balance::default() }
    }

    /// One forecaster as its node drives it.
    #[derive(Default)]
    struct Driven {
        forecast: Forecast,
        at: Time,
        predicted_until: Option<Time>,
    }

    impl Driven {
        fn observe(&mut self, percent: u16, count: u64, at: Time, b: &Balance) {
            self.forecast.change(BasisPoints::new(percent), self.at, at, b);
            self.forecast.repeat(count, at, b);
            self.at = at;
        }

        fn judge(&mut self, now: Time, b: &Balance) {
            if self.predicted_until.is_some() {
                self.forecast.resolve(b);
            }
            self.forecast.predict(now, b);
            self.predicted_until = Some(now.after(b.horizon));
        }
    }

    #[test]
    fn a_run_of_equal_samples_counts_as_one_by_one() {
        for policy in
            [Policy::Conservative, Policy::Balanced, Policy::Aggressive, Policy::Predictive]
        {
            let b = balance(policy);
            let (mut runs, mut singles) = (Driven::default(), Driven::default());
            let mut now = Time::ZERO;
            for (value, count) in
                [(100, 7), (9_000, 1), (50, 4_000), (51, 3), (50, 1), (10_000, 90)]
            {
                for i in 1..=count {
                    let at = now.after(Span::seconds(10 * i));
                    singles.observe(value, 1, at, &b);
                }
                now = now.after(Span::seconds(10 * count));
                runs.observe(value, count, now, &b);
                let (runs, singles) = (&runs.forecast, &singles.forecast);
                assert_eq!(runs.peak(now, &b), singles.peak(now, &b), "{policy:?}");
                assert_eq!(runs.day, singles.day);
            }
        }
    }

    #[test]
    fn the_windows_forget_after_their_length() {
        let b = balance(Policy::Balanced);
        let mut f = Driven::default();
        f.observe(9_000, 1, Time::ZERO, &b);
        f.observe(1_000, 1, Time::from_ms(10_000), &b);
        assert_eq!(f.forecast.peak(Time::from_ms(3_600_000), &b), BasisPoints::percent(90));
        assert_eq!(f.forecast.peak(Time::from_ms(3_600_001), &b), BasisPoints::percent(10));
    }

    #[test]
    fn the_window_gives_the_highest_of_what_it_still_holds() {
        // Against the plain definition: all samples of the last hour.
        let b = balance(Policy::Balanced);
        let mut f = Driven::default();
        let mut samples: Vec<(Time, u16)> = Vec::new();
        let mut seed = 7_u64;
        for step in 1..5_000_u64 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let value = u16::try_from((seed >> 33) % (10 + step % 90)).unwrap_or(0) * 100;
            let at = Time::from_ms(step * 97_000 + (seed >> 60) * 1_000);
            f.observe(value, 1, at, &b);
            samples.push((at, value));
            let now = at.after(Span::seconds(seed >> 52));
            let live = samples.iter().filter(|(t, _)| t.after(Span::minutes(60)) >= now);
            let highest = live.map(|(_, v)| *v).max().unwrap_or(0).max(value);
            assert_eq!(f.forecast.peak(now, &b).get(), highest, "at {now}");
        }
    }

    #[test]
    fn misses_stay_under_the_bound_for_an_adversary_too() {
        // Whenever the margin has room, the owner uses one basis point more than predicted.
        for (policy, up) in
            [(Policy::Conservative, 199), (Policy::Balanced, 49), (Policy::Aggressive, 19)]
        {
            let b = balance(policy);
            let mut f = Driven::default();
            let mut now = Time::ZERO;
            f.observe(0, 1, now, &b);
            for outcomes in 1..=50_000_u64 {
                f.judge(now, &b);
                let more = f.forecast.peak(now, &b).get().saturating_add(1).min(10_000);
                now = now.after(b.horizon);
                f.observe(more, 1, now, &b);
                if outcomes.is_multiple_of(2) {
                    f.observe(0, 1, now.after(Span::new(1)), &b);
                }
                let (t, misses) = f.forecast.record();
                let k = u64::from(b.margin_step);
                let bound = (t + 10_000 / k + up) / (up + 1) + 1;
                assert!(misses <= bound, "{policy:?}: {misses} misses in {t}, bound {bound}");
            }
            assert!(f.forecast.record().1 > 0, "{policy:?}: the adversary must hit at all");
        }
    }
}
