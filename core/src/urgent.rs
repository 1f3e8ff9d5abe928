//! How much of a pool urgent work has had within the hour (RULES.md section 5, "urgent cap").
//!
//! Capacity-time is booked ahead, a term at a time, minute by minute. What counts is everything
//! since the minute an hour ago, what is booked ahead included: that covers any hour that ends with
//! a running term.

use crate::bundle::{Bundle, DIMENSIONS};
use crate::units::{Ppm, Span, Time};
use alloc::collections::BTreeMap;
use serde::{Deserialize, Serialize};

/// Milliseconds in a minute.
const MINUTE: u64 = 60_000;
/// Minutes in the window.
const HOUR: u64 = 60;

/// Amounts times milliseconds, by dimension.
type Volume = [u128; DIMENSIONS];

/// Urgent capacity-time of one pool, by minute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Urgent {
    minutes: BTreeMap<u64, Volume>,
}

/// One lease's part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// What it holds.
    pub amounts: &'a Bundle,
    /// From then on.
    pub from: Time,
    /// Until then.
    pub to: Time,
}

impl Part<'_> {
    /// Returns the volume of the part that lies in a minute.
    fn in_minute(&self, minute: u64) -> Volume {
        let begins = Time::from_ms(minute.saturating_mul(MINUTE)).max(self.from);
        let ends = Time::from_ms((minute + 1).saturating_mul(MINUTE)).min(self.to);
        let span = u128::from(ends.since(begins).get());
        self.amounts.amounts().map(|amount| u128::from(amount) * span)
    }

    /// Walks the minutes that it touches.
    fn minutes(&self) -> core::ops::Range<u64> {
        self.from.ms() / MINUTE..self.to.ms().div_ceil(MINUTE)
    }
}

impl Urgent {
    /// Books what an urgent lease will have had, and forgets what is over an hour old.
    pub fn book(&mut self, part: Part<'_>, now: Time) {
        let since = since(now);
        self.minutes.retain(|minute, _| *minute >= since);
        for minute in part.minutes() {
            let volume = self.minutes.entry(minute).or_insert([0; DIMENSIONS]);
            for (sum, more) in volume.iter_mut().zip(part.in_minute(minute)) {
                *sum = sum.saturating_add(more);
            }
        }
    }

    /// Takes back what was booked and did not happen.
    pub fn unbook(&mut self, part: Part<'_>) {
        for minute in part.minutes() {
            let Some(volume) = self.minutes.get_mut(&minute) else { continue };
            for (sum, less) in volume.iter_mut().zip(part.in_minute(minute)) {
                *sum = sum.saturating_sub(less);
            }
            if volume.iter().all(|sum| *sum == 0) {
                self.minutes.remove(&minute);
            }
        }
    }

    /// Returns what counts now.
    fn counted(&self, now: Time) -> Volume {
        let mut sum: Volume = [0; DIMENSIONS];
        for volume in self.minutes.range(since(now)..).map(|(_, volume)| volume) {
            for (sum, more) in sum.iter_mut().zip(volume) {
                *sum = sum.saturating_add(*more);
            }
        }
        sum
    }

    /// Returns whether urgent work may have `more` for a span from now, of a pool of some capacity:
    /// what counts stays within `share` of an hour of it in every resource that is asked for, or
    /// nothing counts but what one lease, `own`, has had itself. What is `coming` counts already.
    #[must_use]
    pub fn admits(
        &self,
        (more, span): (&Bundle, Span),
        own: Option<Part<'_>>,
        coming: impl Iterator<Item = (Bundle, Span)>,
        (capacity, share): (&Bundle, Ppm),
        now: Time,
    ) -> bool {
        let mut counted = self.counted(now);
        for (amounts, span) in coming {
            for (sum, more) in counted.iter_mut().zip(amounts.amounts()) {
                *sum = sum.saturating_add(u128::from(more) * u128::from(span.get()));
            }
        }
        let mut mine: Volume = [0; DIMENSIONS];
        if let Some(part) = own {
            for minute in part.minutes().filter(|minute| *minute >= since(now)) {
                for (sum, more) in mine.iter_mut().zip(part.in_minute(minute)) {
                    *sum += more;
                }
            }
        }
        let alone = counted.iter().zip(mine).all(|(counted, mine)| *counted <= mine);
        let hour = u128::from(HOUR * MINUTE) * u128::from(share.get());
        let dimensions = counted.iter().zip(more.amounts()).zip(capacity.amounts());
        let within = |((counted, more), capacity): ((&u128, u64), u64)| {
            let with = counted.saturating_add(u128::from(more) * u128::from(span.get()));
            let most = u128::from(capacity).saturating_mul(hour) / 1_000_000;
            more == 0 || with <= most
        };
        alone || dimensions.into_iter().all(within)
    }
}

/// Returns the first minute that counts.
const fn since(now: Time) -> u64 {
    (now.ms() / MINUTE).saturating_sub(HOUR)
}

/// Returns when the next minute begins: then less may count.
#[must_use]
pub const fn next_minute(now: Time) -> Time {
    Time::from_ms((now.ms() / MINUTE + 1) * MINUTE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MilliCores;
    use core::iter::empty;

    fn cores(cores: u32) -> Bundle {
        Bundle { cpu: MilliCores::whole(cores), ..Bundle::ZERO }
    }

    #[test]
    fn a_quarter_of_an_hour_is_admitted_and_no_more() {
        let (pool, quarter) = (cores(4), Ppm::new(250_000));
        let at = |minute: u64| Time::from_ms(minute * MINUTE);
        let mut urgent = Urgent::default();
        let admits = |urgent: &Urgent, cores: &Bundle, minutes, now| {
            urgent.admits((cores, Span::minutes(minutes)), None, empty(), (&pool, quarter), now)
        };
        // One core for an hour is a quarter of four.
        assert!(admits(&urgent, &cores(4), 1_000, at(0)), "one lease may always");
        urgent.book(Part { amounts: &cores(2), from: at(0), to: at(20) }, at(0));
        assert!(admits(&urgent, &cores(2), 10, at(20)));
        assert!(!admits(&urgent, &cores(2), 11, at(20)));
        assert!(admits(&urgent, &Bundle::ZERO, 11, at(20)), "who asks for nothing takes nothing");
        urgent.unbook(Part { amounts: &cores(2), from: at(10), to: at(20) });
        assert!(admits(&urgent, &cores(2), 20, at(20)));
        // After an hour it is forgotten, a minute at a time.
        assert!(!admits(&urgent, &cores(2), 29, at(65)));
        assert!(admits(&urgent, &cores(2), 29, at(70)));
    }

    #[test]
    fn what_a_lease_had_itself_does_not_count_against_it() {
        let (pool, quarter, all) = (cores(4), Ppm::new(250_000), cores(4));
        let at = |minute: u64| Time::from_ms(minute * MINUTE);
        let own = Part { amounts: &all, from: at(0), to: at(30) };
        let mut urgent = Urgent::default();
        urgent.book(own, at(0));
        let more = (&all, Span::minutes(5));
        assert!(urgent.admits(more, Some(own), empty(), (&pool, quarter), at(30)));
        assert!(!urgent.admits(more, None, empty(), (&pool, quarter), at(30)));
        urgent.book(Part { amounts: &cores(1), from: at(1), to: at(2) }, at(1));
        assert!(
            !urgent.admits(more, Some(own), empty(), (&pool, quarter), at(30)),
            "somebody else has had some"
        );
    }
}
