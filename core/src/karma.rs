//! Karma: who lent and who borrowed, remembered as credits (Vuppalapati et al., OSDI 2023).
//!
//! Part of the cluster is guaranteed to its accounts by weight, the rest is shared. Time is cut
//! into quanta. With the end of each, an account pays a credit for every unit that it held above
//! what is guaranteed to it, and earns one for every unit of its own that it left to others and
//! that one of them took; what is guaranteed and left is taken before what is shared. Everybody is
//! given credits for the shared part by weight, and what was paid for it goes back to all. Whoever
//! has most credits borrows first. The table knows amounts and accounts, no job and no lease;
//! credits are never credit in ATP.
//!
//! Invariant: what accounts have and what waits to be shared out adds up to what was given out.

use crate::bundle::Bundle;
use crate::config::{Order, Scheduling};
use crate::ids::{AccountId, Table};
use crate::ledger::Ledger;
use crate::units::Time;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Thousandths in one unit, which is a GPU or a core: what credits are shared out by.
const UNIT: i128 = 1_000;
/// What ranks are counted down from: more credits than anybody may ever have.
const TOP: i128 = 1 << 120;

/// What belongs to one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    /// What is guaranteed to it, in thousandths of a unit.
    guaranteed: u64,
    /// What it is given for nothing per quantum, in thousandths of a credit.
    free: u64,
    /// Its weight.
    weight: u32,
    /// Its credits, in thousandths; below zero where it took what nobody else wanted.
    credits: i128,
}

/// What an account held and wanted when a quantum ended, in thousandths of a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// What its leases hold.
    pub using: u64,
    /// What its jobs wait for.
    pub waiting: u64,
}

/// The credits of all accounts; no row while another order is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Karma {
    rows: Table<AccountId, Row>,
    /// What was paid for the shared part and waits to be shared out, in thousandths of a credit.
    common: i128,
    /// Everything that was ever given out.
    given: i128,
    /// Whether GPUs are counted; else cores.
    gpus: bool,
    /// When the quantum ends; [`Time::MAX`] while another order is in force.
    ends: Time,
}

impl Karma {
    /// Begins the first quantum of a cluster of this capacity; nothing where another order is in
    /// force.
    #[must_use]
    pub fn new(rules: &Scheduling, ledger: &Ledger, capacity: &Bundle, now: Time) -> Self {
        let mut karma = Self { ends: Time::MAX, ..Self::default() };
        if rules.order != Order::Karma {
            return karma;
        }
        (karma.gpus, karma.ends) = (!capacity.gpu.is_zero(), now.after(rules.karma.quantum));
        let weights: u128 =
            ledger.accounts.iter().map(|(_, account)| u128::from(account.spec.weight)).sum();
        let whole = karma.counted(capacity);
        let guaranteed = rules.karma.guaranteed.of_floor(whole);
        for (_, account) in ledger.accounts.iter() {
            let weight = account.spec.weight;
            let part = |of: u64| {
                let part = (u128::from(of) * u128::from(weight)).checked_div(weights);
                part.and_then(|part| u64::try_from(part).ok()).unwrap_or(0)
            };
            let free = part(whole - guaranteed);
            let credits = i128::from(rules.karma.initial) * UNIT + i128::from(free);
            karma.given += credits;
            karma.rows.push(Row { guaranteed: part(guaranteed), free, weight, credits });
        }
        karma
    }

    /// Follows other rules: accounts keep their credits where the order stays in force, and a
    /// quantum under way ends when it was to end, or sooner.
    #[must_use]
    pub fn adopted(&self, fresh: Self) -> Self {
        if self.ends == Time::MAX || fresh.ends == Time::MAX {
            return fresh;
        }
        let (common, given, ends) = (self.common, self.given, self.ends.min(fresh.ends));
        let mut next = Self { common, given, ends, ..fresh };
        for (id, row) in self.rows.iter() {
            next.rows[id].credits = row.credits;
        }
        next
    }

    /// Returns when the quantum ends; [`Time::MAX`] while another order is in force.
    #[must_use]
    pub fn ends(&self) -> Time {
        self.ends
    }

    /// Returns what of a bundle counts, in thousandths: GPUs where the cluster has any, else cores.
    #[must_use]
    pub fn counted(&self, bundle: &Bundle) -> u64 {
        if self.gpus { bundle.gpu.get() } else { bundle.cpu.get() }
    }

    /// Returns an account's credits in thousandths: what it began the quantum with. Below zero
    /// where it took what nobody else wanted; `None` while another order is in force.
    #[must_use]
    pub fn credits(&self, account: AccountId) -> Option<i128> {
        self.rows.find(account).map(|row| row.credits)
    }

    /// Returns the place of an account that holds this much, lower first: who holds less than what
    /// is guaranteed to it, then whoever would have most credits left.
    #[must_use]
    pub fn rank(&self, account: AccountId, using: &Bundle) -> u128 {
        let Some(row) = self.rows.find(account) else { return 0 };
        let Some(borrows) = self.counted(using).checked_sub(row.guaranteed) else { return 0 };
        let left = row.credits - i128::from(borrows);
        u128::try_from(TOP - left).unwrap_or(0).max(1)
    }

    /// Ends the quantum at `ends` and begins the next, which ends at `next`: see the module.
    ///
    /// # Panics
    /// When credits were made or lost: our bug.
    pub fn close(&mut self, demands: &BTreeMap<AccountId, Demand>, next: Time) {
        let mut donors: Vec<Donor> = Vec::new();
        let (mut borrowed, mut donated) = (0_i128, 0_i128);
        for (id, row) in self.rows.iter_mut() {
            let Demand { using, waiting } = demands.get(&id).copied().unwrap_or_default();
            let above = i128::from(using.saturating_sub(row.guaranteed));
            let spare = row.guaranteed.saturating_sub(using.saturating_add(waiting));
            if spare > 0 {
                donors.push(Donor { credits: row.credits, id, spare: spare.into() });
            }
            row.credits -= above;
            (borrowed, donated) = (borrowed + above, donated + i128::from(spare));
        }
        for (id, earned) in earnings(donors, borrowed.min(donated)) {
            self.rows[id].credits += earned;
        }
        self.common += (borrowed - donated).max(0);
        self.share_out();
        for (_, row) in self.rows.iter_mut() {
            row.credits += i128::from(row.free);
            self.given += i128::from(row.free);
        }
        self.ends = next;
        assert!(self.is_balanced(), "credits are only moved, and given out");
    }

    /// Gives what was paid for the shared part back to all by weight, in whole credits, once there
    /// is more than one for each.
    fn share_out(&mut self) {
        let (whole, accounts) = (self.common / UNIT, self.rows.len());
        if whole <= i128::try_from(accounts).unwrap_or(i128::MAX) {
            return;
        }
        let weights: i128 = self.rows.iter().map(|(_, row)| i128::from(row.weight)).sum();
        for (_, row) in self.rows.iter_mut() {
            let part = whole * i128::from(row.weight) / weights.max(1) * UNIT;
            row.credits += part;
            self.common -= part;
        }
    }

    /// Returns whether all credits add up to what was given out.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        let held: i128 = self.rows.iter().map(|(_, row)| row.credits).sum();
        held + self.common == self.given
    }
}

/// An account that left to others what is guaranteed to it.
#[derive(Clone, Copy, Debug)]
struct Donor {
    credits: i128,
    id: AccountId,
    spare: i128,
}

impl Donor {
    /// Returns what it has earned when everybody below a level was served: whole units while it is
    /// below, at most what it left.
    fn earned(&self, level: i128) -> i128 {
        let below = (level - self.credits).max(0);
        ((below + UNIT - 1) / UNIT * UNIT).min(self.spare)
    }
}

/// Returns what donors earn when `taken` of all that they left was borrowed: unit by unit to the
/// one with the least credits, then the smallest id.
fn earnings(donors: Vec<Donor>, taken: i128) -> Vec<(AccountId, i128)> {
    let all = |level: i128| donors.iter().map(|donor| donor.earned(level)).sum::<i128>();
    let mut low = donors.iter().map(|donor| donor.credits).min().unwrap_or(0);
    let mut high = donors.iter().map(|donor| donor.credits + donor.spare).max().unwrap_or(0);
    // The highest level that all can be served up to.
    while low < high {
        let middle = low + (high - low + 1) / 2;
        if all(middle) <= taken {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    let mut rest = taken - all(low);
    let mut out = Vec::new();
    for donor in &donors {
        let more = (donor.earned(low + 1) - donor.earned(low)).min(rest);
        rest -= more;
        out.push((donor.id, donor.earned(low) + more));
    }
    assert!(rest == 0, "what was borrowed of donors was theirs");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_poorest_donors_earn_first_unit_by_unit() {
        let donor = |id, credits, spare| Donor { credits, id: AccountId::new(id), spare };
        let donors = |spares: [i128; 3]| {
            let [a, b, c] = spares;
            Vec::from([donor(0, 7_000, a), donor(1, 5_000, b), donor(2, 5_000, c)])
        };
        let earned = |spares, taken| -> Vec<i128> {
            earnings(donors(spares), taken).into_iter().map(|(_, earned)| earned).collect()
        };
        assert_eq!(earned([2_000; 3], 0), [0, 0, 0]);
        assert_eq!(earned([2_000; 3], 1_000), [0, 1_000, 0]);
        assert_eq!(earned([2_000; 3], 3_000), [0, 2_000, 1_000]);
        assert_eq!(earned([2_000; 3], 4_500), [500, 2_000, 2_000]);
        assert_eq!(earned([2_000; 3], 6_000), [2_000; 3]);
        assert_eq!(earned([1_500, 300, 2_000], 2_000), [0, 300, 1_700]);
        assert_eq!(earnings(Vec::new(), 0), []);
    }
}
