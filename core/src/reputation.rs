//! Reputation of nodes: how far what they lent was theirs to use until the end (CREDITS.md "Lenders
//! and reputation").
//!
//! It touches nothing but the confidence in a placement: it buys no place in the queue and no
//! price. A node drifts home when nothing happens, by a closed form of the last event, so how often
//! somebody looks changes nothing. It never leaves 0 to 1,000,000.

use crate::ids::AccountId;
use crate::units::{Ppm, Span, Time};
use crate::usage::{Inflation, Usage};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What a node begins with and drifts back to.
const HOME: u32 = 500_000;
/// How long it takes half of the way home.
const HALF_LIFE: Span = Span::seconds(7 * 86_400);
/// Milliseconds in which one borrower can raise it once.
const HOUR_MS: u64 = 3_600_000;
/// Most borrowers whose terms count in one hour: the list of them has an end.
const BORROWERS_MAX: usize = 16;

/// The reputation of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reputation {
    /// What it was after the last event.
    value: Ppm,
    /// When that was.
    at: Time,
    /// The hour, counted from the beginning, in which terms were counted last.
    hour: u64,
    /// Whose terms were counted in it.
    borrowers: Vec<AccountId>,
}

impl Default for Reputation {
    fn default() -> Self {
        Self { value: Ppm::new(HOME), at: Time::ZERO, hour: 0, borrowers: Vec::new() }
    }
}

impl Reputation {
    /// Returns it as it is at a time, 0 to 1,000,000.
    #[must_use]
    pub fn at(&self, now: Time) -> Ppm {
        let value = self.value.get();
        let mut away = Usage::default();
        away.book(value.abs_diff(HOME).into());
        let elapsed = Time::ZERO.after(now.since(self.at));
        let left = Inflation::default().decayed(away, elapsed, HALF_LIFE);
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        Ppm::new(if value < HOME { HOME.saturating_sub(left) } else { HOME.saturating_add(left) })
    }

    /// Counts a term that the node has honoured for a borrower, once per borrower and hour.
    pub fn honour(&mut self, borrower: AccountId, now: Time) {
        let hour = now.ms() / HOUR_MS;
        if self.hour != hour {
            (self.hour, self.borrowers) = (hour, Vec::new());
        }
        if self.borrowers.len() < BORROWERS_MAX && !self.borrowers.contains(&borrower) {
            self.borrowers.push(borrower);
            self.set(now, |r| r + ((Ppm::ONE.get() - r) >> 5));
        }
    }

    /// Counts a lease whose owner took the node back without notice.
    pub fn reclaim(&mut self, now: Time) {
        self.set(now, |r| r - (r >> 4));
    }

    /// Counts a lease that was lost with the node.
    pub fn lose(&mut self, now: Time) {
        self.set(now, |r| r - (r >> 3));
    }

    /// Returns whether it is within its range, and its memory within its bound.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.value <= Ppm::ONE && self.borrowers.len() <= BORROWERS_MAX
    }

    /// Sets it to what an event makes of it.
    fn set(&mut self, now: Time, event: impl Fn(u32) -> u32) {
        self.value = Ppm::new(event(self.at(now).get().min(Ppm::ONE.get())));
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    fn at(ms: u64) -> Time {
        Time::from_ms(ms)
    }

    #[test]
    fn it_drifts_half_of_the_way_home_in_a_week_from_both_sides() {
        let mut low = Reputation::default();
        low.lose(Time::ZERO);
        assert_eq!(low.at(Time::ZERO).get(), 437_500);
        assert_eq!(low.at(at(7 * DAY)).get(), 468_750);
        assert_eq!(low.at(at(14 * DAY)).get(), 484_375);
        assert_eq!(low.at(at(3_650 * DAY)).get(), HOME);
        let mut high = Reputation::default();
        high.honour(AccountId::new(1), Time::ZERO);
        assert_eq!(high.at(Time::ZERO).get(), 515_625);
        assert_eq!(high.at(at(7 * DAY)).get(), 507_812);
        assert_eq!(Reputation::default().at(at(DAY)).get(), HOME);
    }

    #[test]
    fn one_borrower_counts_once_an_hour_and_only_so_many_borrowers_do() {
        let mut row = Reputation::default();
        (0..100).for_each(|second| row.honour(AccountId::new(0), at(second * 1_000)));
        let once = row.clone();
        assert_eq!(row.at(Time::ZERO).get(), 515_625);
        for account in 0..1_000 {
            row.honour(AccountId::new(account), at(HOUR_MS - 1));
        }
        assert!(row.is_sound());
        assert!(row.at(at(HOUR_MS - 1)) > once.at(at(HOUR_MS - 1)));
        let full = row.clone();
        row.honour(AccountId::new(5_000), at(HOUR_MS - 1));
        assert_eq!(row, full);
        row.honour(AccountId::new(0), at(HOUR_MS));
        assert!(row.at(at(HOUR_MS)) > full.at(at(HOUR_MS)));
    }

    #[test]
    fn it_stays_within_its_range_whatever_happens() {
        let (mut up, mut down) = (Reputation::default(), Reputation::default());
        for i in 0..10_000_u64 {
            let now = at(i * HOUR_MS / 8);
            up.honour(AccountId::new(u32::try_from(i % 50).unwrap()), now);
            if i.is_multiple_of(2) {
                down.lose(now)
            } else {
                down.reclaim(now)
            }
            assert!(up.is_sound() && down.is_sound());
            assert!(up.at(now) <= Ppm::ONE && down.at(now).get() <= HOME);
        }
        assert!(up.at(at(0)).get() > 900_000 && down.at(at(10_000 * HOUR_MS / 8)).get() < 10_000);
    }

    #[test]
    fn looking_changes_nothing() {
        let mut row = Reputation::default();
        row.lose(at(5));
        let same = row.clone();
        let looks: Vec<Ppm> = (0..100).map(|day| row.at(at(day * DAY))).collect();
        assert!(looks.is_sorted());
        assert_eq!(row, same);
    }
}
