//! Arrival processes: when jobs are submitted.

use super::GenerateError;
use super::lasting::{between, exponential};
use super::sample::{daily_wave, float, positive_unit, real, unit, whole};
use crate::decimal::{Decimal, Seconds};
use crate::rng::{Stream, stream};
use gridcore::units::{Span, Time};
use serde::Deserialize;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How jobs arrive. Rates are means over a long time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrivals {
    /// One at a time, after equal spans, the first at the beginning.
    Regular {
        /// From one to the next, above 0.
        every: Seconds,
    },
    /// Independent of each other and of the time.
    Poisson {
        /// Jobs per hour, above 0 up to 10^9.
        rate_per_hour: Decimal,
    },
    /// Independent, with a rate that swings over the day as a cosine (by thinning).
    Diurnal {
        /// Mean jobs per hour, above 0 up to 10^9.
        rate_per_hour: Decimal,
        /// The highest rate over the mean, 1 to 2; with 2 the lowest is 0.
        peak_factor: Decimal,
        /// The hour of the highest rate, 0 to 24; the run begins at hour 0.
        peak_hour: Decimal,
    },
    /// Bursts arrive independently; each holds a geometric number of jobs.
    Bursts {
        /// Bursts per hour, above 0 up to 10^9.
        bursts_per_hour: Decimal,
        /// The mean number of jobs in a burst, 1 to 10^6.
        size_mean: Decimal,
        /// From one job of a burst to the next; may be 0.
        spacing: Seconds,
    },
}

/// The highest rate per hour, in millionths.
const RATE_MAX: i64 = 1_000_000_000_000_000;

const HOUR_US: f64 = 3.6e9;

impl Arrivals {
    /// Opens the times of arrival under `seed`: ascending, without end.
    pub(super) fn times(&self, seed: u64) -> Result<Times, GenerateError> {
        let key = "arrivals";
        let rate = |rate: Decimal, of: &str| between(rate, (1, RATE_MAX), key, of);
        let kind = match self {
            Self::Regular { every } => {
                if every.0.is_zero() {
                    return Err(GenerateError::at("arrivals.regular.every", "is 0: give more"));
                }
                Kind::Regular { every_us: us(every.0) }
            }
            Self::Poisson { rate_per_hour } => {
                Kind::Poisson { gap_us: HOUR_US / rate(*rate_per_hour, "poisson.rate_per_hour")? }
            }
            Self::Diurnal { rate_per_hour, peak_factor, peak_hour } => {
                let of = "diurnal.peak_factor";
                let peak = between(*peak_factor, (1_000_000, 2_000_000), key, of)?;
                let of = "diurnal.peak_hour";
                let peak_hour = between(*peak_hour, (0, 24_000_000), key, of)?;
                let highest = rate(*rate_per_hour, "diurnal.rate_per_hour")? * peak;
                Kind::Diurnal { gap_us: HOUR_US / highest, peak, peak_hour }
            }
            Self::Bursts { bursts_per_hour, size_mean, spacing } => {
                let of = "bursts.size_mean";
                let size = between(*size_mean, (1_000_000, 1_000_000_000_000), key, of)?;
                let gap_us = HOUR_US / rate(*bursts_per_hour, "bursts.bursts_per_hour")?;
                let next_us = 0;
                let bursts = Bursts { gap_us, size, spacing_us: us(spacing.0), next_us };
                Kind::Bursts(bursts, BinaryHeap::new())
            }
        };
        let mut times = Times { kind, now_us: 0, drawn: stream(seed, "arrivals", 0) };
        times.begin();
        Ok(times)
    }

    /// Returns about how many jobs arrive within `horizon`.
    pub(super) fn expected(&self, horizon: Span) -> u64 {
        let hours = float(horizon.get()) / 3.6e6;
        whole(match self {
            Self::Regular { every } => float(horizon.get()) / float(every.0.get().max(1)),
            Self::Poisson { rate_per_hour } | Self::Diurnal { rate_per_hour, .. } => {
                real(*rate_per_hour) * hours
            }
            Self::Bursts { bursts_per_hour, size_mean, .. } => {
                real(*bursts_per_hour) * real(*size_mean) * hours
            }
        })
    }
}

fn us(span: Span) -> u64 {
    span.get().saturating_mul(1_000)
}

/// Times of arrival, kept in microseconds so that rounding to milliseconds does not add up.
#[derive(Clone, Debug)]
pub(super) struct Times {
    kind: Kind,
    now_us: u64,
    drawn: Stream,
}

#[derive(Clone, Debug)]
enum Kind {
    Regular { every_us: u64 },
    Poisson { gap_us: f64 },
    Diurnal { gap_us: f64, peak: f64, peak_hour: f64 },
    Bursts(Bursts, BinaryHeap<Reverse<(u64, u64)>>),
}

/// Bursts, of which the next is known. Those under way are `(next arrival, jobs left)` in a heap.
#[derive(Clone, Debug)]
struct Bursts {
    gap_us: f64,
    size: f64,
    spacing_us: u64,
    next_us: u64,
}

impl Times {
    /// Draws what must be known before the first arrival.
    fn begin(&mut self) {
        if let Kind::Bursts(bursts, _) = &mut self.kind {
            bursts.next_us = gap(bursts.gap_us, &mut self.drawn);
        }
    }

    /// Returns the next time of arrival, never before the last; [`Time::MAX`] at the end of time.
    pub(super) fn next_time(&mut self) -> Time {
        let Self { kind, now_us, drawn } = self;
        let at = match kind {
            Kind::Regular { every_us } => {
                let at = *now_us;
                *now_us = at.saturating_add(*every_us);
                at
            }
            Kind::Poisson { gap_us } => {
                *now_us = now_us.saturating_add(gap(*gap_us, drawn));
                *now_us
            }
            Kind::Diurnal { gap_us, peak, peak_hour } => {
                loop {
                    *now_us = now_us.saturating_add(gap(*gap_us, drawn));
                    let wave = daily_wave(float(*now_us) / HOUR_US, *peak_hour);
                    let rate = 1.0 + (*peak - 1.0) * wave;
                    if *now_us == u64::MAX || unit(drawn) * *peak < rate {
                        break;
                    }
                }
                *now_us
            }
            Kind::Bursts(bursts, under_way) => bursts.next_arrival(under_way, drawn),
        };
        if at == u64::MAX { Time::MAX } else { Time::from_ms(at / 1_000) }
    }
}

/// Draws an exponential gap in whole microseconds.
fn gap(mean_us: f64, drawn: &mut Stream) -> u64 {
    whole(mean_us * exponential(drawn))
}

impl Bursts {
    /// Returns the earliest arrival of the bursts under way, after opening those due by then.
    fn next_arrival(
        &mut self,
        under_way: &mut BinaryHeap<Reverse<(u64, u64)>>,
        drawn: &mut Stream,
    ) -> u64 {
        while under_way.peek().is_none_or(|Reverse((at, _))| *at >= self.next_us) {
            let size = self.draw_size(drawn);
            under_way.push(Reverse((self.next_us, size)));
            let next = self.next_us.saturating_add(gap(self.gap_us, drawn));
            if next == u64::MAX || next == self.next_us {
                // The end of time, or a gap below a microsecond: that one begins a little later.
                self.next_us = self.next_us.saturating_add(1);
                break;
            }
            self.next_us = next;
        }
        let Some(Reverse((at, left))) = under_way.pop() else { return u64::MAX };
        if left > 1 {
            under_way.push(Reverse((at.saturating_add(self.spacing_us), left - 1)));
        }
        at
    }

    /// Draws a geometric number from 1 on, by inversion.
    fn draw_size(&self, drawn: &mut Stream) -> u64 {
        let goes_on = 1.0 - 1.0 / self.size;
        if goes_on <= 0.0 {
            return 1;
        }
        1 + whole((positive_unit(drawn).ln() / goes_on.ln()).floor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(text: &str, days: u64) -> Vec<Time> {
        let arrivals: Arrivals = serde_saphyr::from_str(text).unwrap();
        let mut times = arrivals.times(5).unwrap();
        let end = Time::from_ms(days * 86_400_000);
        std::iter::from_fn(|| Some(times.next_time())).take_while(|at| *at < end).collect()
    }

    #[test]
    fn every_process_keeps_its_rate_and_its_order() {
        for (text, per_day) in [
            ("regular: {every: 8.64}", 10_000),
            ("poisson: {rate_per_hour: 500}", 12_000),
            ("diurnal: {rate_per_hour: 500, peak_factor: 1.8, peak_hour: 15}", 12_000),
            ("bursts: {bursts_per_hour: 100, size_mean: 5, spacing: 30s}", 12_000),
            ("bursts: {bursts_per_hour: 500, size_mean: 1, spacing: 0}", 12_000),
        ] {
            let times = times(text, 20);
            let expected = per_day * 20;
            assert!(times.len().abs_diff(expected) * 33 < expected, "{text}: {}", times.len());
            assert!(times.is_sorted(), "{text}");
        }
    }

    #[test]
    fn poisson_gaps_vary_as_their_mean_and_days_have_their_peak() {
        let gaps = times("poisson: {rate_per_hour: 500}", 20);
        let gaps: Vec<f64> = gaps.windows(2).map(|w| float(w[1].since(w[0]).get())).collect();
        let mean = gaps.iter().sum::<f64>() / float(gaps.len() as u64);
        let square = gaps.iter().map(|gap| gap * gap).sum::<f64>() / float(gaps.len() as u64);
        assert!((square / (mean * mean) - 2.0).abs() < 0.05, "{square} {mean}");
        let daily = times("diurnal: {rate_per_hour: 500, peak_factor: 1.8, peak_hour: 15}", 20);
        let mut hours = [0_u64; 24];
        for at in &daily {
            hours[(at.ms() / 3_600_000 % 24) as usize] += 1;
        }
        let (peak, low) = (hours[14] + hours[15], hours[2] + hours[3]);
        assert!((7..=11).contains(&(peak / low)), "{hours:?}");
    }

    #[test]
    fn rates_outside_their_range_are_refused() {
        for text in [
            "regular: {every: 0}",
            "poisson: {rate_per_hour: 0}",
            "poisson: {rate_per_hour: 1e12}",
            "diurnal: {rate_per_hour: 1, peak_factor: 2.5, peak_hour: 1}",
            "bursts: {bursts_per_hour: 1, size_mean: 0.5, spacing: 0}",
        ] {
            let arrivals: Arrivals = serde_saphyr::from_str(text).unwrap();
            assert!(arrivals.times(1).is_err(), "{text}");
        }
    }
}
