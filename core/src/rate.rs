//! How fast one account may submit: so many requests per second, once its burst is used up
//! (CREDITS.md "Caps against exhaustion"). Drivers ask here before the core hears of a request, so
//! it is no part of the state.

use crate::config::Rules;
use crate::reputation::Standing;
use crate::units::{Span, Time};

/// Thousandths of one request: what a rate of one per second gives back in a millisecond.
const ONE: u64 = 1_000;

/// What one account has asked for of late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Thousandths of requests that have not been made up for by time.
    open: u64,
    /// When that was counted.
    at: Time,
}

impl Pace {
    /// Returns how long one more request must wait: nothing within the burst, or where nothing is
    /// capped. The account's standing scales the rate, not the burst.
    #[must_use]
    pub fn wait(&self, now: Time, rules: &Rules, standing: &Standing) -> Span {
        let Some(rate) = rate(rules, standing) else { return Span::ZERO };
        let over = (self.open(now, rate) + ONE).saturating_sub(u64::from(rules.caps.burst) * ONE);
        Span::new(over.div_ceil(rate))
    }

    /// Counts one request, that of now or one that waits for its turn.
    pub fn count(&mut self, now: Time, rules: &Rules, standing: &Standing) {
        if let Some(rate) = rate(rules, standing) {
            *self = Self { open: self.open(now, rate).saturating_add(ONE), at: now };
        }
    }

    /// Returns what is open at a time.
    fn open(&self, now: Time, rate: u64) -> u64 {
        self.open.saturating_sub(now.since(self.at).get().saturating_mul(rate))
    }
}

/// Returns the requests per second that are taken of an account; `None` where that is not capped.
fn rate(rules: &Rules, standing: &Standing) -> Option<u64> {
    let rate = rules.caps.requests_per_second.filter(|_| rules.atp.enabled)?;
    Some(u64::from(standing.scale(rate).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_at_once_and_what_follows_at_the_rate() {
        let mut rules = Rules::default();
        (rules.caps.requests_per_second, rules.caps.burst) = (Some(10), 3);
        let (mut pace, now) = (Pace::default(), Time::from_ms(5_000));
        let waits: [u64; 6] = core::array::from_fn(|_| {
            let wait = pace.wait(now, &rules, &Standing::default());
            pace.count(now, &rules, &Standing::default());
            wait.get()
        });
        assert_eq!(waits, [0, 0, 0, 100, 200, 300]);
        // Six are open: three more are made up for in 300 ms, and the burst is whole 300 ms later.
        let later = |ms: u64| now.after(Span::new(ms));
        assert_eq!(pace.wait(later(399), &rules, &Standing::default()), Span::new(1));
        assert_eq!(pace.wait(later(400), &rules, &Standing::default()), Span::ZERO);
        pace.count(later(10_000), &rules, &Standing::default());
        assert_eq!(pace.wait(later(10_000), &rules, &Standing::default()), Span::ZERO);
    }

    #[test]
    fn in_any_span_no_more_pass_than_the_burst_and_the_rate_give() {
        let mut rules = Rules::default();
        (rules.caps.requests_per_second, rules.caps.burst) = (Some(7), 20);
        let (mut pace, mut passed) = (Pace::default(), alloc::vec::Vec::new());
        for ms in 0..30_000 {
            let now = Time::from_ms(ms);
            // Asks again and again, and is counted only where it passes.
            while pace.wait(now, &rules, &Standing::default()).is_zero() {
                pace.count(now, &rules, &Standing::default());
                passed.push(ms);
            }
        }
        for (i, from) in passed.iter().enumerate() {
            let within = passed.iter().skip(i).take_while(|ms| *ms - from < 1_000).count();
            assert!(within <= 27, "{within} within a second from {from}");
        }
        assert_eq!(passed.len(), 20 + 7 * 30 - 1);
    }

    #[test]
    fn without_a_rate_or_without_money_nothing_waits() {
        let mut rules = Rules::default();
        rules.atp.enabled = false;
        let mut pace = Pace::default();
        (0..1_000).for_each(|_| pace.count(Time::ZERO, &rules, &Standing::default()));
        assert_eq!(pace.wait(Time::ZERO, &rules, &Standing::default()), Span::ZERO);
        rules.atp.enabled = true;
        rules.caps.requests_per_second = None;
        assert_eq!(pace.wait(Time::ZERO, &rules, &Standing::default()), Span::ZERO);
    }
}
