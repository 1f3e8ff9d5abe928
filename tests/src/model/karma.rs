//! Credits in the model: unit by unit, as they are published.

use super::{Leaving, Model, Task};
use gridcore::config::{Config, Order};
use gridcore::ids::AccountId;

/// The credits of the order `karma`, in thousandths.
#[derive(Clone, Debug, Default)]
pub(super) struct Credits {
    /// When the quantum ends; `None` under another order.
    ends: Option<u64>,
    of: Vec<i128>,
    common: i128,
}

/// How much of the counted resource there is, and which it is.
fn whole(config: &Config) -> (u64, usize) {
    let sum = |d: usize| config.nodes.iter().map(|node| node.capacity.amounts()[d]).sum::<u64>();
    if sum(3) > 0 { (sum(3), 3) } else { (sum(0), 0) }
}

/// What is guaranteed to an account, and what it is given per quantum.
fn part(config: &Config, account: usize) -> (i128, i128) {
    let whole = i128::from(whole(config).0);
    let weight = |i: usize| i128::from(config.accounts[i].weight);
    let all: i128 = (0..config.accounts.len()).map(weight).sum();
    let ppm = i128::from(config.rules.scheduling.karma.guaranteed.get());
    let guaranteed = whole * ppm / 1_000_000;
    (guaranteed * weight(account) / all, (whole - guaranteed) * weight(account) / all)
}

impl Credits {
    /// Gives every account what it begins with.
    pub(super) fn new(config: &Config) -> Self {
        let rules = &config.rules.scheduling;
        let start = |i| i128::from(rules.karma.initial) * 1_000 + part(config, i).1;
        let ends = (rules.order == Order::Karma).then_some(rules.karma.quantum.get());
        Self { ends, of: (0..config.accounts.len()).map(start).collect(), common: 0 }
    }
}

impl Model {
    /// Ends the quantum if that is due at or before `until`; returns whether it was.
    pub(super) fn close_quantum(&mut self, until: u64) -> bool {
        let Some(ends) = self.credits.ends.filter(|ends| *ends <= until) else { return false };
        self.credits.ends = Some(ends + self.config.rules.scheduling.karma.quantum.get());
        let accounts = self.credits.of.len();
        let (mut borrowed, mut left) = (0, vec![0; accounts]);
        let before = self.credits.of.clone();
        for (account, left) in left.iter_mut().enumerate() {
            let (guaranteed, _) = part(&self.config, account);
            let (using, waiting) = self.counts(account);
            let above = (using - guaranteed).max(0);
            self.credits.of[account] -= above;
            borrowed += above;
            *left = (guaranteed - using - waiting).max(0);
        }
        let mut level = before;
        while borrowed > 0 {
            let donors = (0..accounts).filter(|i| left[*i] > 0);
            let Some(donor) = donors.min_by_key(|i| (level[*i], *i)) else { break };
            let step = left[donor].min(borrowed).min(1_000);
            level[donor] += step;
            left[donor] -= step;
            borrowed -= step;
            self.credits.of[donor] += step;
        }
        self.credits.common += borrowed;
        self.share_out();
        true
    }

    /// Shares out what was paid for the shared part, and gives everybody what is free.
    fn share_out(&mut self) {
        let accounts = self.credits.of.len();
        let weights: i128 = self.config.accounts.iter().map(|a| i128::from(a.weight)).sum();
        let units = self.credits.common / 1_000;
        for (i, account) in self.config.accounts.iter().enumerate() {
            if units > i128::try_from(accounts).unwrap_or(0) {
                let part = units * i128::from(account.weight) / weights * 1_000;
                self.credits.of[i] += part;
                self.credits.common -= part;
            }
            self.credits.of[i] += part(&self.config, i).1;
        }
    }

    /// What an account holds and waits for of the counted resource.
    fn counts(&self, account: usize) -> (i128, i128) {
        let id = AccountId::new(u32::try_from(account).unwrap_or(u32::MAX));
        let dimension = whole(&self.config).1;
        let of = |task: &Task| i128::from(task.spec.needs.bundle().amounts()[dimension]);
        let (mut using, mut waiting) = (0, 0);
        for task in self.tasks.values().filter(|task| task.account == id) {
            match &task.places {
                Some(_) if task.leaving == Some(Leaving::Limit) => {}
                Some(places) => {
                    let there = places.iter().filter(|(node, _)| !task.gone.contains(node));
                    using += of(task) * i128::try_from(there.count()).unwrap_or(0);
                }
                None if !task.held && task.after.is_empty() && !task.in_vain => {
                    waiting += of(task) * i128::from(task.spec.members);
                }
                None => {}
            }
        }
        (using, waiting)
    }

    /// Where an account stands, the lower the earlier.
    pub(super) fn credit_rank(&self, account: AccountId) -> u128 {
        let account = account.get() as usize;
        let (using, guaranteed) = (self.counts(account).0, part(&self.config, account).0);
        if using < guaranteed {
            return 0;
        }
        let left = self.credits.of[account] - (using - guaranteed);
        u128::try_from((1 << 100) - left).unwrap_or(0)
    }
}
