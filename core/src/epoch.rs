//! Epochs: how much credit is granted, how much decays, and what an account may keep (CREDITS.md
//! "Grants, decay, newcomers").
//!
//! Arithmetic only: no ledger, no node and no account, so that each rule can be tried by itself.
//! What an account is granted a day, and the most that it may keep, follow from the capacity that
//! the configuration registers, not from what is on offer just now: floor and cap stand still.
//! The curve of [`crate::usage`] is good for ranks, but would be wrong by a part in twenty for the
//! share of an epoch in a week; here powers of two are exact to 60 bits.

use crate::bundle::{Bundle, DIMENSIONS};
use crate::config::{Atp, BALANCE_MAX};
use crate::ids::AccountId;
use crate::units::{MicroAtp, Span, Time};
use alloc::vec::Vec;
use core::cmp::Reverse;
use serde::{Deserialize, Serialize};

/// One day: what a daily grant is for, and how long a lender counts as one that honours leases.
pub const DAY: Span = Span::seconds(86_400);
/// How many daily grants an account may keep.
const DAYS_KEPT: u64 = 28;
/// The natural logarithm of 2 in parts of 2^64.
const LN_2: u128 = 0xB172_17F7_D1CF_79AB;
/// No value is counted above this, so that its product with a weight still fits.
const VALUE_MAX: u128 = 1 << 95;

/// What grants are shared out by, and when the epoch ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epochs {
    /// What the configuration lets all nodes together lend.
    registered: Bundle,
    /// The weights of all accounts together.
    weights: u64,
    /// When the epoch ends; `None` while its end would change nothing.
    pub ends: Option<Time>,
}

impl Epochs {
    /// Counts the weights of a cluster's accounts; its nodes are counted by [`Epochs::register`].
    #[must_use]
    pub fn new(weights: impl Iterator<Item = u32>) -> Self {
        let weights = weights.fold(0, |sum: u64, weight| sum.saturating_add(weight.into()));
        Self { registered: Bundle::ZERO, weights, ends: None }
    }

    /// Counts what a node may lend.
    pub fn register(&mut self, capacity: &Bundle) {
        self.registered.add(capacity);
    }

    /// Returns what follows from a day of everything registered.
    #[must_use]
    pub fn days(&self, atp: &Atp) -> Days {
        Days { all: granted(&self.registered, DAY, atp), weights: self.weights.max(1) }
    }

    /// Returns whether credit is granted at all. Where it is not, none decays and nothing is
    /// capped: what only drains would end with nobody having any.
    #[must_use]
    pub fn are_open(&self, atp: &Atp) -> bool {
        atp.enabled && self.days(atp).all > 0
    }
}

/// What all accounts are granted a day while everything registered is on offer.
#[derive(Clone, Copy, Debug)]
pub struct Days {
    all: u128,
    weights: u64,
}

impl Days {
    /// Returns the daily grant of an account of some weight: below it nothing decays.
    #[must_use]
    pub fn day(&self, weight: u32) -> MicroAtp {
        let part = self.all * u128::from(weight) / u128::from(self.weights);
        MicroAtp::new(u64::try_from(part).unwrap_or(u64::MAX)).min(BALANCE_MAX)
    }

    /// Returns the most that an account of some weight may keep: four weeks' grant and all that was
    /// ever deposited, at most [`BALANCE_MAX`].
    #[must_use]
    pub fn cap(&self, weight: u32, deposited: u128) -> MicroAtp {
        let weeks = u128::from(self.day(weight).get()) * u128::from(DAYS_KEPT);
        let cap = u64::try_from(weeks.saturating_add(deposited)).unwrap_or(u64::MAX);
        MicroAtp::new(cap).min(BALANCE_MAX)
    }
}

/// Returns what is granted to all for capacity that is on offer for a span: the fraction of its
/// base value, in micro-ATP.
#[must_use]
pub fn granted(offered: &Bundle, span: Span, atp: &Atp) -> u128 {
    let value = value(offered, span, &atp.rates).min(VALUE_MAX);
    value * u128::from(atp.grant_fraction.get()) / 1_000_000
}

/// Returns the base value of capacity over a span, in micro-ATP: at the static price, class medium,
/// rounded down per resource.
#[must_use]
pub fn value(amounts: &Bundle, span: Span, rates: &[u64; DIMENSIONS]) -> u128 {
    let priced = amounts.amounts().into_iter().zip(*rates).filter(|(_, rate)| *rate > 0);
    priced.fold(0, |sum, (amount, rate)| {
        let integral = u128::from(amount) * u128::from(span.get());
        let (whole, rest) = (integral / u128::from(rate), integral % u128::from(rate));
        let micro = whole.saturating_mul(1_000_000) + rest * 1_000_000 / u128::from(rate);
        sum.saturating_add(micro)
    })
}

/// Returns the first end of an epoch after a time: they are counted from the beginning.
#[must_use]
pub fn next_end(now: Time, epoch: Span) -> Time {
    let long = epoch.get().max(1);
    Time::from_ms((now.ms() / long).saturating_add(1).saturating_mul(long))
}

/// Returns which part of what lies above the floor decays in a span, in parts of 2^64: 1 less 2 to
/// the power of minus the span over the half-life.
#[must_use]
pub fn decayed_part(span: Span, half_life: Span) -> u64 {
    let life = u128::from(half_life.get().max(1));
    let (halvings, rest) = (u128::from(span.get()) / life, u128::from(span.get()) % life);
    if halvings >= 64 {
        return u64::MAX;
    }
    // 1 - e^-y = y - y^2/2 + y^3/6 ..., for y below ln 2: each term is below half of the last.
    let y = (((rest << 64) / life) * LN_2) >> 64;
    let (mut part, mut term) = (0_u128, y);
    for n in 2..40 {
        part = if n % 2 == 0 { part + term } else { part - term };
        term = ((term * y) >> 64) / n;
    }
    let left = ((1_u128 << 64) - part) >> halvings;
    u64::try_from((1_u128 << 64) - left).unwrap_or(u64::MAX)
}

/// Returns what decays of a balance: the part of all above the floor, held credit included, but
/// taken from what is available only.
#[must_use]
pub fn decay(available: MicroAtp, held: MicroAtp, floor: MicroAtp, part: u64) -> MicroAtp {
    let above = available.saturating_add(held).saturating_sub(floor);
    let decayed = (u128::from(above.get()) * u128::from(part)) >> 64;
    MicroAtp::new(u64::try_from(decayed).unwrap_or(u64::MAX)).min(available)
}

/// Returns what of a balance is above the cap and may be taken.
#[must_use]
pub fn overflow(available: MicroAtp, held: MicroAtp, cap: MicroAtp) -> MicroAtp {
    available.saturating_add(held).saturating_sub(cap).min(available)
}

/// Shares an amount out by weight, to the last micro-ATP: what is left by rounding down goes to the
/// largest remainders, then to the smallest ids.
#[must_use]
pub fn split(total: MicroAtp, weights: &[(AccountId, u32)]) -> Vec<(AccountId, MicroAtp)> {
    let sum: u128 = weights.iter().map(|(_, weight)| u128::from(*weight)).sum();
    let of = |weight: u32| u128::from(total.get()) * u128::from(weight);
    let (mut parts, mut rests) = (Vec::new(), Vec::new());
    let mut left = total.get();
    for (at, (id, weight)) in weights.iter().enumerate() {
        let part = of(*weight).checked_div(sum).and_then(|part| u64::try_from(part).ok());
        let part = part.unwrap_or(0);
        left = left.saturating_sub(part);
        parts.push((*id, MicroAtp::new(part)));
        rests.push((Reverse(of(*weight).checked_rem(sum).unwrap_or(0)), *id, at));
    }
    rests.sort_unstable();
    // Fewer are left than there are accounts.
    for (_, _, at) in rests.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
        if let Some((_, part)) = parts.get_mut(at) {
            *part = part.saturating_add(MicroAtp::new(1));
        }
    }
    parts
}

/// How many hours' fees are kept: those of the last 24 hours, and what the hour under way adds.
const HOURS: u64 = 25;
/// Milliseconds in an hour.
const HOUR_MS: u64 = 3_600_000;

/// The fees of the last day, by the hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fees {
    /// Hours since the beginning and what came in them, oldest first; those without any left out.
    hours: Vec<(u64, MicroAtp)>,
}

impl Fees {
    /// Notes fees that have come.
    pub fn note(&mut self, amount: MicroAtp, now: Time) {
        let hour = now.ms() / HOUR_MS;
        if amount.is_zero() {
            return;
        }
        self.hours.retain(|(at, _)| at.saturating_add(HOURS) > hour);
        match self.hours.last_mut() {
            Some((at, sum)) if *at == hour => *sum = sum.saturating_add(amount),
            _ => self.hours.push((hour, amount)),
        }
    }

    /// Returns what came in the last 24 hours, and in no more than 25.
    #[must_use]
    pub fn of_day(&self, now: Time) -> MicroAtp {
        let hour = now.ms() / HOUR_MS;
        let fresh = self.hours.iter().filter(|(at, _)| at.saturating_add(HOURS) > hour);
        fresh.fold(MicroAtp::ZERO, |sum, (_, amount)| sum.saturating_add(*amount))
    }

    /// Returns whether it keeps no more than it needs.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.hours.len() as u64 <= HOURS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{MilliCores, Ppm};

    const EPOCH: Span = Span::seconds(300);
    const WEEK: Span = Span::seconds(7 * 86_400);

    fn id(n: u32) -> AccountId {
        AccountId::new(n)
    }

    fn atp(micro: u64) -> MicroAtp {
        MicroAtp::new(micro)
    }

    #[test]
    fn decayed_parts_are_right_to_the_last_bits() {
        // 1 - 2^-1 and 1 - 2^-2, and 1 - 2^-(1/2) = 0.292893218813452475...
        assert_eq!(decayed_part(WEEK, WEEK), 1 << 63);
        assert_eq!(decayed_part(Span::new(2 * WEEK.get()), WEEK), 3 << 62);
        let half = decayed_part(Span::new(WEEK.get() / 2), WEEK);
        assert!(half.abs_diff(0x4AFB_0CCC_0621_9B7B) < 64, "{half:x}");
        // 1 - 2^-(300/604800) = 3.43763...e-4, by its series to three terms.
        let r = decayed_part(EPOCH, WEEK);
        let y = ((300_u128 << 64) / 604_800 * LN_2) >> 64;
        let square = (y * y) >> 64;
        let series = y - square / 2 + ((square * y) >> 64) / 6;
        assert!(u128::from(r).abs_diff(series) < 1 << 20, "{r} is near {series}");
        assert_eq!(decayed_part(Span::ZERO, WEEK), 0);
        assert_eq!(decayed_part(Span::MAX, Span::new(1)), u64::MAX);
        let parts = (0..2_000).map(|n| decayed_part(Span::seconds(n * 1_000), WEEK));
        assert!(parts.collect::<Vec<_>>().is_sorted());
    }

    #[test]
    fn ten_thousand_epochs_are_one_power_of_two() {
        // Each epoch rounds down by less than one micro-ATP, and what it leaves decays on itself.
        let (floor, start) = (atp(500_000_000), atp(77_000_000_000_123));
        let mut balance = start;
        let part = decayed_part(EPOCH, WEEK);
        for epoch in 1..=10_000_u64 {
            balance = balance.saturating_sub(decay(balance, MicroAtp::ZERO, floor, part));
            let all = decayed_part(Span::new(EPOCH.get() * epoch), WEEK);
            let left = start.saturating_sub(decay(start, MicroAtp::ZERO, floor, all));
            // At most one for each epoch, and at most what a rest of less than one each leaves.
            let off = balance.get() - left.get();
            assert!(balance >= left && off <= epoch.min(2_909), "after {epoch}: {off} off");
        }
    }

    #[test]
    fn who_is_at_the_floor_stays_there() {
        let part = decayed_part(EPOCH, WEEK);
        for balance in [0, 1, 499, 500] {
            assert_eq!(decay(atp(balance), MicroAtp::ZERO, atp(500), part), MicroAtp::ZERO);
        }
        let mut balance = atp(1_000_000);
        for _ in 0..100_000 {
            balance = balance.saturating_sub(decay(balance, MicroAtp::ZERO, atp(500), part));
            assert!(balance >= atp(500));
        }
        assert_eq!(decay(balance, MicroAtp::ZERO, atp(500), part), MicroAtp::ZERO);
    }

    #[test]
    fn what_is_parked_in_holds_decays_from_the_rest() {
        let part = decayed_part(WEEK, WEEK);
        assert_eq!(decay(atp(1_000), atp(0), atp(0), part), atp(500));
        assert_eq!(decay(atp(600), atp(400), atp(0), part), atp(500));
        // Nothing is taken from a hold itself.
        assert_eq!(decay(atp(100), atp(900), atp(0), part), atp(100));
        assert_eq!(overflow(atp(100), atp(900), atp(950)), atp(50));
        assert_eq!(overflow(atp(100), atp(900), atp(500)), atp(100));
        assert_eq!(overflow(atp(100), atp(0), atp(500)), atp(0));
    }

    #[test]
    fn parts_add_up_and_the_largest_remainders_get_the_rest() {
        let weights = [(id(0), 1), (id(1), 1), (id(2), 1)];
        let parts = |total| -> Vec<u64> {
            split(atp(total), &weights).into_iter().map(|(_, part)| part.get()).collect()
        };
        assert_eq!(parts(8), [3, 3, 2]);
        assert_eq!(parts(0), [0, 0, 0]);
        let uneven = split(atp(10), &[(id(0), 2), (id(1), 3), (id(2), 7)]);
        // 1.67, 2.5 and 5.83: the two that lack least are rounded up.
        assert_eq!(uneven, [(id(0), atp(2)), (id(1), atp(2)), (id(2), atp(6))]);
        assert_eq!(split(atp(10), &[]), []);
        let most: Vec<_> = (0..10_000).map(|n| (id(n), u32::MAX - n)).collect();
        let total = MicroAtp::new(u64::MAX);
        let sum: u128 = split(total, &most).iter().map(|(_, part)| u128::from(part.get())).sum();
        assert_eq!(sum, u128::from(u64::MAX));
    }

    #[test]
    fn a_grant_is_the_fraction_of_the_base_value() {
        // A core-second is one ATP: .70 of it is granted.
        let rules = Atp::default();
        let core = Bundle::cpu(MilliCores::whole(1));
        assert_eq!(granted(&core, EPOCH, &rules), 210_000_000);
        let mut epochs = Epochs::new([1, 3].into_iter());
        epochs.registered = core;
        let days = epochs.days(&rules);
        assert_eq!(days.day(1), MicroAtp::whole(15_120));
        assert_eq!(days.day(3), MicroAtp::whole(45_360));
        assert_eq!(days.cap(1, 7), MicroAtp::new(28 * 15_120_000_000 + 7));
        assert!(epochs.are_open(&rules));
        assert!(!epochs.are_open(&Atp { grant_fraction: Ppm::ZERO, ..rules.clone() }));
        assert!(!epochs.are_open(&Atp { enabled: false, ..rules }));
    }

    #[test]
    fn nothing_overflows_at_the_declared_maxima_and_beyond() {
        let rules = Atp { rates: [1; DIMENSIONS], grant_fraction: Ppm::ONE, ..Atp::default() };
        let all = Bundle::from_amounts([u64::MAX; DIMENSIONS]);
        let mut epochs = Epochs::new(core::iter::repeat_n(u32::MAX, 10_000));
        epochs.registered = all;
        assert_eq!(epochs.days(&rules).day(u32::MAX), BALANCE_MAX);
        assert_eq!(epochs.days(&rules).cap(u32::MAX, u128::MAX), BALANCE_MAX);
        assert_eq!(granted(&all, Span::MAX, &rules), VALUE_MAX);
        // 100,000 nodes of 4,096 cores, 64 TiB, 1 PiB and 64 GPUs at the documented rates.
        let mut most = Bundle::cpu(MilliCores::new(100_000 * 4_096_000));
        most.memory = crate::units::Bytes::new(100_000 * (64 << 40));
        most.gpu = crate::units::MilliGpus::new(100_000 * 64_000);
        let day = value(&most, DAY, &Atp::default().rates);
        assert!((1 << 64..1 << 70).contains(&day), "{day} is counted exactly");
        let full = decay(BALANCE_MAX, BALANCE_MAX, MicroAtp::ZERO, u64::MAX);
        assert_eq!(full, BALANCE_MAX);
    }

    #[test]
    fn ends_are_counted_from_the_beginning() {
        let at = |ms| next_end(Time::from_ms(ms), EPOCH).ms();
        assert_eq!([at(0), at(1), at(299_999), at(300_000)], [300_000, 300_000, 300_000, 600_000]);
        assert_eq!(next_end(Time::MAX, EPOCH), Time::MAX);
    }

    #[test]
    fn a_days_fees_are_those_of_the_last_24_hours() {
        let mut fees = Fees::default();
        let hour = |n: u64| Time::from_ms(n * HOUR_MS);
        for n in 0..1_000 {
            fees.note(atp(1), hour(n));
            fees.note(atp(1), hour(n));
            assert!(fees.is_bounded());
            assert_eq!(fees.of_day(hour(n)).get(), 2 * (n + 1).min(HOURS));
        }
        assert_eq!(fees.of_day(hour(1_024)), MicroAtp::ZERO);
        assert_eq!(fees.of_day(hour(1_023)), atp(2));
        assert_eq!(fees.of_day(Time::MAX), MicroAtp::ZERO);
    }
}
