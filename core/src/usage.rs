//! Decayed use: what an account has had of its pools, for the order `fair`.
//!
//! Kept without touching it as time passes: all accounts share one growing factor.

use crate::units::{Span, Time};
use serde::{Deserialize, Serialize};

/// An account's use, decayed by inflating what is booked later instead of shrinking what was booked
/// before: all accounts share the same factor, so their order needs no work as time passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Usage(u128);

impl Usage {
    /// Returns the inflated use.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }

    /// Books use.
    pub fn book(&mut self, amount: u128) {
        self.0 = self.0.saturating_add(amount);
    }

    /// Takes back use that was booked ahead and did not happen.
    pub fn unbook(&mut self, amount: u128) {
        self.0 = self.0.saturating_sub(amount);
    }

    /// Counts only what is left of the use.
    pub fn decay(&mut self, left: u128) {
        self.0 = left;
    }

    /// Halves the use `times` times, when the common factor is brought back to one.
    pub fn halve(&mut self, times: u32) {
        self.0 = self.0.checked_shr(times).unwrap_or(0);
    }
}

/// The common factor of all [`Usage`]s: it doubles every half-life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inflation {
    /// Half-lives since the factor was brought back to one are counted from here.
    origin: Time,
}

/// After this many half-lives the common factor is brought back to one.
const RENORMALISE: u64 = 24;

impl Inflation {
    /// Returns how often all usages must be halved now, and counts from a new origin.
    pub fn renormalise(&mut self, now: Time, half_life: Span) -> u32 {
        let lives = now.since(self.origin).get() / half_life.get().max(1);
        if lives < RENORMALISE {
            return 0;
        }
        self.origin = self.origin.after(Span::new(half_life.get().saturating_mul(lives)));
        u32::try_from(lives).unwrap_or(u32::MAX)
    }

    /// Counts half-lives from now on.
    pub fn restart(&mut self, now: Time) {
        self.origin = now;
    }

    /// Returns a use as it counts now: what was booked a half-life ago counts half.
    #[must_use]
    pub fn decayed(&self, usage: Usage, now: Time, half_life: Span) -> u128 {
        let (whole, curve) = self.factor(now, half_life);
        let value = usage.get().checked_shr(whole).unwrap_or(0);
        // The rest is a division by at most 2, with 32 fraction bits.
        let (high, low) = (value / curve, value % curve);
        (high << 32).saturating_add((low << 32) / curve)
    }

    /// Returns the common factor at a time: whole doublings, and the rest from 1 to 2 with 32
    /// fraction bits.
    fn factor(&self, now: Time, half_life: Span) -> (u32, u128) {
        let elapsed = now.since(self.origin).get();
        let life = half_life.get().max(1);
        let (whole, part) = (elapsed / life, elapsed % life);
        // 2^x for x in [0, 1) by 1 + x(.6565 + .3435 x): exact at both ends, within .2 % between.
        let x = (u128::from(part) << 32) / u128::from(life);
        let one = 1_u128 << 32;
        let curve = one + ((x * (2_819_677_000 + ((x * 1_475_290_296) >> 32))) >> 32);
        (u32::try_from(whole.min(RENORMALISE + 1)).unwrap_or(0), curve)
    }

    /// Returns `share` (in parts of 2^32) held for `span`, inflated to `now`, over `weight`.
    #[must_use]
    pub fn inflated(
        &self,
        share: u64,
        span: Span,
        now: Time,
        half_life: Span,
        weight: u32,
    ) -> u128 {
        let (whole, curve) = self.factor(now, half_life);
        let amount = (u128::from(share) * u128::from(span.get())) / u128::from(weight.max(1));
        (((amount >> 8) * curve) >> 24) << whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_decays_by_half_in_a_half_life() {
        // HTCondor's user priority after use has ended: 10, a half-life of a day later 5, then 2.5.
        let (inflation, day) = (Inflation::default(), Span::seconds(86_400));
        let mut usage = Usage::default();
        let hour = Span::minutes(60);
        usage.book(inflation.inflated(10 << 32, hour, Time::ZERO, day, 1));
        let tenths = |days: u64| {
            let now = Time::ZERO.after(Span::seconds(days * 86_400));
            inflation.decayed(usage, now, day) * 10 / (u128::from(hour.get()) << 32)
        };
        assert_eq!([tenths(0), tenths(1), tenths(2)], [100, 50, 25]);
        // In between it falls all the time, to within .2 % of the curve.
        let half = inflation.decayed(usage, Time::from_ms(43_200_000), day);
        let ratio = half * 1_000_000 / ((10 * u128::from(hour.get())) << 32);
        assert!((705_700..708_600).contains(&ratio), "the root of 1/2 is .7071, got {ratio}");
    }

    #[test]
    fn use_booked_a_half_life_later_counts_twice_as_much() {
        let inflation = Inflation::default();
        let life = Span::seconds(1_000);
        let at = |s: u64| {
            inflation.inflated(1 << 32, Span::seconds(10), Time::from_ms(s * 1_000), life, 1)
        };
        let ratio = |a: u128, b: u128| a * 1_000 / b;
        assert_eq!(ratio(at(1_000), at(0)), 2_000);
        assert_eq!(ratio(at(3_000), at(0)), 8_000);
        let half = ratio(at(500), at(0));
        assert!((1_411..=1_417).contains(&half), "2^0.5 is 1.414, got {half}");
    }
}
