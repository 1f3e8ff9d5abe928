//! Reputation: of nodes, how far what they lent could be used until the end, and of accounts, how
//! they used what they borrowed (CREDITS.md "Lenders and reputation").
//!
//! That of a node touches nothing but the confidence in a placement, that of an account nothing but
//! its caps: neither buys a place in the queue or a price. Both drift home when nothing happens, by
//! a closed form of the last event, so how often somebody looks changes nothing. Neither leaves 0
//! to 1,000,000.

use crate::ids::AccountId;
use crate::units::{Ppm, Span, Time};
use crate::usage::{Inflation, Usage};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What a node begins with and drifts back to.
const HOME: u32 = 500_000;
/// How long it takes half of the way home.
const HALF_LIFE: Span = Span::seconds(7 * 86_400);
/// Milliseconds in which one of the others can raise it once.
const HOUR_MS: u64 = 3_600_000;
/// Most others whose terms count in one hour: the list of them has an end.
const BORROWERS_MAX: usize = 16;

/// The reputation of one node, or of one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reputation {
    /// What it was after the last event.
    value: Ppm,
    /// When that was.
    at: Time,
    /// The hour, counted from the beginning, in which terms were counted last.
    hour: u64,
    /// Whose terms were counted in it: those of borrowers for a node, of lenders for an account.
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

    /// Counts a term that was honoured for a borrower, or with a lender, once per hour for each.
    pub fn honour(&mut self, borrower: AccountId, now: Time) {
        let hour = now.ms() / HOUR_MS;
        if self.hour != hour {
            self.hour = hour;
            self.borrowers.clear();
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

    /// Counts that a node was found not to do what it claims.
    pub fn disprove(&mut self, now: Time) {
        self.set(now, |r| r - (r >> 2));
    }

    /// Counts what a borrower did that it should not have.
    pub fn blame(&mut self, fault: Fault, now: Time) {
        self.set(now, |r| r - (r >> fault.shift()));
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

/// What a borrower did that it should not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A job of it went on beyond its limit, and was told to leave for that.
    Overran,
    /// Jobs of it fail soon after their start on one node after another.
    Crashes,
    /// Node after node was lost with a job of it.
    LosesNodes,
    /// A job of it had all the notice that it needs, and had to be killed.
    IgnoredNotice,
}

impl Fault {
    /// Returns by what power of two its reputation is divided for what it loses. What takes from
    /// others (an owner's machine, a node) weighs as a lost lease does; what wastes only what was
    /// paid for weighs half.
    fn shift(self) -> u32 {
        match self {
            Self::Overran | Self::Crashes => 4,
            Self::LosesNodes | Self::IgnoredNotice => 3,
        }
    }
}

/// How an account stands as a borrower: its reputation, and what of it is in force.
///
/// What is in force moves with an event or the end of an epoch only, so between two of them nothing
/// that it decides can change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    reputation: Reputation,
    /// What it was after the last event or end of an epoch.
    force: Ppm,
}

impl Default for Standing {
    fn default() -> Self {
        Self { reputation: Reputation::default(), force: Ppm::new(HOME) }
    }
}

impl Standing {
    /// Returns the reputation that is in force, 0 to 1,000,000.
    #[must_use]
    pub fn get(&self) -> Ppm {
        self.force
    }

    /// Returns whether it is what accounts begin with.
    #[must_use]
    pub fn is_home(&self) -> bool {
        self.force == Ppm::new(HOME)
    }

    /// Returns whether it is within its range, and its memory within its bound.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.force <= Ppm::ONE && self.reputation.is_sound()
    }

    /// Returns a cap as it is for the account: half to one and a half of it, to the nearest whole,
    /// so that a cap of one stays one.
    #[must_use]
    pub fn scale(&self, cap: u32) -> u32 {
        let one = u64::from(Ppm::ONE.get());
        let part = u64::from(HOME) + u64::from(self.force.get());
        let scaled = (u64::from(cap) * part + one / 2) / one;
        u32::try_from(scaled).unwrap_or(u32::MAX)
    }

    /// Returns a cap on a part as it is for the account, at most the whole.
    #[must_use]
    pub fn scale_part(&self, cap: Ppm) -> Ppm {
        Ppm::new(self.scale(cap.get())).min(Ppm::ONE)
    }

    /// Counts a term on a lender's nodes, once per lender and hour.
    pub fn honour(&mut self, lender: AccountId, now: Time) {
        self.reputation.honour(lender, now);
        self.drift(now);
    }

    /// Counts what it did that it should not have.
    pub fn blame(&mut self, fault: Fault, now: Time) {
        self.reputation.blame(fault, now);
        self.drift(now);
    }

    /// Puts in force what it has drifted to.
    pub fn drift(&mut self, now: Time) {
        self.force = self.reputation.at(now);
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
            match i % 3 {
                0 => down.lose(now),
                1 => down.reclaim(now),
                _ => down.disprove(now),
            }
            assert!(up.is_sound() && down.is_sound());
            assert!(up.at(now) <= Ppm::ONE && down.at(now).get() <= HOME);
        }
        assert!(up.at(at(0)).get() > 900_000 && down.at(at(10_000 * HOUR_MS / 8)).get() < 10_000);
    }

    #[test]
    fn a_standing_scales_caps_between_a_half_and_one_and_a_half_and_moves_only_when_told() {
        let mut standing = Standing::default();
        assert_eq!([1, 3, 1_000].map(|cap| standing.scale(cap)), [1, 3, 1_000]);
        assert_eq!(standing.scale_part(Ppm::ONE), Ppm::ONE);
        standing.blame(Fault::Overran, Time::ZERO);
        assert_eq!((standing.get().get(), standing.scale(1_000)), (468_750, 969));
        standing.blame(Fault::IgnoredNotice, Time::ZERO);
        assert_eq!((standing.get().get(), standing.scale(1)), (410_157, 1));
        standing.drift(at(7 * DAY));
        assert_eq!(standing.get().get(), 455_079);
        for i in 0..10_000 {
            standing.blame(Fault::LosesNodes, at(7 * DAY + i));
            assert!(standing.is_sound());
        }
        assert_eq!([1, 2, 1_000].map(|cap| standing.scale(cap)), [1, 1, 500]);
        // Of 7 an eighth is nothing; in the time between it drifts a little.
        assert!(standing.get() <= Ppm::new(20));
        let half = 1 << 31;
        assert!((half..half + 100_000).contains(&standing.scale(u32::MAX)));
        for hour in 0..10_000 {
            standing.honour(AccountId::new(1), at(8 * DAY + hour * HOUR_MS));
            assert!(standing.is_sound());
        }
        assert!((1_400..=1_500).contains(&standing.scale(1_000)));
        assert!(standing.scale(u32::MAX) == u32::MAX && standing.scale_part(Ppm::ONE) == Ppm::ONE);
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
