//! The ledger alone: terms of leases, each set aside, settled for less and restored, on one core.

use crate::measure::{Dice, median, nanos, say, tenths};
use gridcore::config::AccountSpec;
use gridcore::ids::{AccountId, LeaseId};
use gridcore::ledger::{Hold, Ledger, Payment};
use gridcore::units::{MicroAtp, Ppm, Time};
use std::hint::black_box;

/// Terms per measurement.
const TERMS: u64 = 500_000;
/// Terms that are open at once.
const OPEN: usize = 1_000;

/// Prints a row per number of accounts.
pub(crate) fn run() {
    say("ledger: terms of 1,000 open leases; a term is a hold, a settlement, a fee and a restore");
    say(" accounts   ns/transfer   M transfers/s");
    for accounts in [10, 1_000, 10_000] {
        let mut moved = 0;
        let ns = median(|| {
            let (ns, transfers) = terms(accounts);
            moved = transfers;
            ns
        });
        let (each, rate) = (tenths(ns, moved), tenths(moved * 1_000, ns));
        say(&format!("{accounts:>9} {each:>13} {rate:>15}"));
    }
}

/// Runs terms between random accounts; returns the nanoseconds and how many transfers there were.
fn terms(accounts: u32) -> (u128, u128) {
    let spec = |i: u32| AccountSpec::new(&format!("a{i}"), MicroAtp::ZERO);
    let specs: Vec<AccountSpec> = (0..accounts).map(spec).collect();
    let (mut ledger, mut effects, mut dice) = (Ledger::new(&specs), Vec::new(), Dice(3));
    for i in 0..accounts {
        let paid =
            ledger.deposit(AccountId::new(i), MicroAtp::new(1 << 48), Time::ZERO, &mut effects);
        assert!(paid.is_ok(), "all of it may be minted");
    }
    let mut open = std::collections::VecDeque::new();
    let (mut transfers, fee) = (0_u128, Ppm::new(50_000));
    let ns = nanos(|| {
        for i in 0..TERMS {
            effects.clear();
            let mut pick =
                || AccountId::new(u32::try_from(dice.below(accounts.into())).unwrap_or(0));
            let (account, to) = (pick(), pick());
            let amount = MicroAtp::new(1_000 + i % 977);
            let (now, lease) = (Time::from_ms(i), LeaseId::new(i + 1));
            let hold = ledger.hold(Hold { account, amount, lease: Some(lease) }, now, &mut effects);
            open.extend(hold.ok().map(|id| (id, to)));
            if open.len() > OPEN
                && let Some((id, to)) = open.pop_front()
            {
                let (amount, refund) = (MicroAtp::new(900), MicroAtp::ZERO);
                ledger.settle(id, &[Payment { to, amount, refund }], fee, now, &mut effects);
            }
            transfers += effects.len() as u128;
            black_box(&effects);
        }
    });
    (ns, transfers)
}
