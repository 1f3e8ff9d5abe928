//! Accounts recomputed from transfers alone, and held against the ledger.
//!
//! It knows no job or price: only who gave whom how much, and for which lease. What the ledger says
//! and the transfers do not is its error, or that of who keeps it.

use gridcore::effect::{LeaseEnd, Party, Transfer, TransferKind};
use gridcore::ids::{AccountId, LeaseId};
use gridcore::ledger::{Account, Ledger};
use gridlive::daemon::views::atp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What the transfers of one account come to, in micro-ATP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Row {
    /// Came from the mint, by an administrator.
    deposited: i128,
    /// Came from the treasury or the mint: with an epoch, as a newcomer, by an administrator.
    granted: i128,
    /// Went to lenders.
    paid: i128,
    /// Went to the treasury with it.
    fees: i128,
    /// Came from lending.
    earned: i128,
    /// Came from who preempted its jobs.
    refunded: i128,
    /// Went to those whose jobs it preempted.
    compensated: i128,
    /// Was burned.
    decayed: i128,
    available: i128,
    held: i128,
}

/// The accounts, by transfers.
#[derive(Debug, Default)]
pub(super) struct Books {
    rows: Vec<Row>,
    treasury: i128,
    mint: i128,
    burned: i128,
    reserved: i128,
    transfers: u64,
    /// What lenders and the treasury had for terms of leases that have not ended.
    leases: BTreeMap<LeaseId, (i128, i128)>,
}

impl Books {
    /// Opens the books of so many accounts, empty.
    pub(super) fn new(accounts: usize) -> Self {
        Self { rows: vec![Row::default(); accounts], ..Self::default() }
    }

    fn row(&mut self, account: AccountId) -> Option<&mut Row> {
        self.rows.get_mut(usize::try_from(account.get()).ok()?)
    }

    /// Books a transfer.
    pub(super) fn book(&mut self, transfer: &Transfer) {
        let amount = i128::from(transfer.amount.get());
        self.transfers += 1;
        self.change(transfer.from, -amount);
        self.change(transfer.to, amount);
        if transfer.kind == TransferKind::Hold {
            self.reserved += amount;
        }
        if let Some(lease) = transfer.lease {
            if transfer.kind == TransferKind::Settle {
                self.leases.entry(lease).or_default().0 += amount;
            } else if transfer.kind == TransferKind::Fee {
                self.leases.entry(lease).or_default().1 += amount;
            }
        }
        if let Some(row) = account_of(transfer.from).and_then(|account| self.row(account)) {
            match transfer.kind {
                TransferKind::Settle => row.paid += amount,
                TransferKind::Fee => row.fees += amount,
                TransferKind::Refund => row.compensated += amount,
                TransferKind::Decay | TransferKind::Overflow => row.decayed += amount,
                TransferKind::Deposit
                | TransferKind::Award
                | TransferKind::Grant
                | TransferKind::Newcomer
                | TransferKind::Hold
                | TransferKind::Restore => {}
            }
        }
        if let Some(row) = account_of(transfer.to).and_then(|account| self.row(account)) {
            match transfer.kind {
                TransferKind::Deposit => row.deposited += amount,
                TransferKind::Award | TransferKind::Grant | TransferKind::Newcomer => {
                    row.granted += amount;
                }
                TransferKind::Settle => row.earned += amount,
                TransferKind::Refund => row.refunded += amount,
                TransferKind::Decay
                | TransferKind::Overflow
                | TransferKind::Hold
                | TransferKind::Restore
                | TransferKind::Fee => {}
            }
        }
    }

    /// Closes the books of a lease that has ended; returns how its meter tells another than its
    /// transfers do.
    pub(super) fn close(&mut self, end: &LeaseEnd) -> Option<String> {
        let (lenders, fees) = self.leases.remove(&end.lease).unwrap_or_default();
        let totals = end.metered.as_ref().map(|metered| metered.totals).unwrap_or_default();
        let found = first(&[
            ("paid to lenders", lenders, signed(totals.lenders())),
            ("fees", fees, signed(totals.fee)),
        ]);
        found.map(|found| format!("lease {}, as metered: {found}", end.lease))
    }

    fn change(&mut self, party: Party, amount: i128) {
        match party {
            Party::Mint => self.mint += amount,
            Party::Treasury => self.treasury += amount,
            Party::Burn => self.burned += amount,
            Party::Account(account) => {
                self.row(account).into_iter().for_each(|row| row.available += amount);
            }
            Party::Held(account) => {
                self.row(account).into_iter().for_each(|row| row.held += amount);
            }
        }
    }

    /// Returns the first thing in which a ledger says another than its transfers do.
    pub(super) fn differs(&self, ledger: &Ledger) -> Option<String> {
        let of_account = |(id, account): (AccountId, &Account)| {
            let row = usize::try_from(id.get()).ok().and_then(|index| self.rows.get(index));
            differs_in(row.copied().unwrap_or_default(), account)
        };
        ledger.accounts.iter().find_map(of_account).or_else(|| self.differs_in_all(ledger))
    }

    /// Returns where one party of a transfer has another balance than its transfers come to.
    pub(super) fn differs_after(&self, transfer: &Transfer, ledger: &Ledger) -> Option<String> {
        [transfer.from, transfer.to].into_iter().find_map(|party| {
            let Some(id) = account_of(party) else {
                return self.differs_in_stock(ledger);
            };
            let row = usize::try_from(id.get()).ok().and_then(|index| self.rows.get(index));
            differs_in(row.copied().unwrap_or_default(), ledger.accounts.find(id)?)
        })
    }

    fn differs_in_stock(&self, ledger: &Ledger) -> Option<String> {
        first(&[
            ("the treasury", self.treasury, ledger.treasury.get().into()),
            ("the mint", self.mint, ledger.mint),
            ("what was burned", self.burned, signed(ledger.burned)),
        ])
    }

    /// Returns what differs of that which is nobody's.
    fn differs_in_all(&self, ledger: &Ledger) -> Option<String> {
        let sum = |part: fn(&Row) -> i128| self.rows.iter().map(part).sum::<i128>();
        let all = sum(|row| row.available + row.held) + self.treasury + self.mint + self.burned;
        let open = ledger.holds.values().map(|hold| i128::from(hold.amount.get())).sum();
        self.differs_in_stock(ledger).or_else(|| {
            first(&[
                ("the sum over all parties", all, 0),
                ("what is held", sum(|row| row.held), open),
                ("all that was settled", sum(|row| row.paid + row.fees), signed(ledger.settled)),
                ("all that was held", self.reserved, signed(ledger.reserved)),
                ("all that was refunded", sum(|row| row.refunded), signed(ledger.refunded)),
            ])
        })
    }

    /// Returns the accounts for people and programs, by the names that the ledger has.
    pub(super) fn shown(&self, ledger: &Ledger) -> Value {
        let rows = ledger.accounts.iter().zip(&self.rows).map(|((_, account), row)| {
            json!({
                "account": account.spec.name,
                "deposited_atp": atp(row.deposited),
                "granted_atp": atp(row.granted),
                "earned_atp": atp(row.earned),
                "paid_atp": atp(row.paid),
                "fees_atp": atp(row.fees),
                "refunded_atp": atp(row.refunded),
                "compensated_atp": atp(row.compensated),
                "decayed_atp": atp(row.decayed),
                "available_atp": atp(row.available),
                "held_atp": atp(row.held),
            })
        });
        json!({
            "accounts": rows.collect::<Vec<Value>>(),
            "treasury_atp": atp(self.treasury),
            "minted_atp": atp(-self.mint),
            "burned_atp": atp(self.burned),
            "transfers": self.transfers,
        })
    }
}

/// Returns whose a side of a transfer is.
fn account_of(party: Party) -> Option<AccountId> {
    match party {
        Party::Account(account) | Party::Held(account) => Some(account),
        Party::Mint | Party::Treasury | Party::Burn => None,
    }
}

fn signed(amount: u128) -> i128 {
    i128::try_from(amount).unwrap_or(i128::MAX)
}

/// Returns where an account has another amount than its transfers come to.
fn differs_in(row: Row, account: &Account) -> Option<String> {
    let found = first(&[
        ("available", row.available, account.available.get().into()),
        ("held", row.held, account.held.get().into()),
        ("deposited", row.deposited, signed(account.deposited)),
        ("granted", row.granted, signed(account.granted)),
        ("earned", row.earned, signed(account.earned)),
        ("paid in all", row.paid + row.fees + row.compensated, signed(account.spent)),
        ("refunded", row.refunded, signed(account.refunded)),
        ("decayed", row.decayed, signed(account.decayed)),
    ]);
    found.map(|found| format!("account {}: {found}", account.spec.name))
}

/// Returns the first pair that is none.
fn first(pairs: &[(&str, i128, i128)]) -> Option<String> {
    let (what, moved, said) = pairs.iter().find(|(_, moved, said)| moved != said)?;
    let (moved, said) = (exact(*moved), exact(*said));
    Some(format!("{what}: the transfers come to {moved} ATP, the ledger says {said}"))
}

/// Returns an amount to the last micro-ATP.
fn exact(amount: i128) -> String {
    let (sign, amount) = (if amount < 0 { "-" } else { "" }, amount.unsigned_abs());
    format!("{sign}{}.{:06}", amount / 1_000_000, amount % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridcore::config::AccountSpec;
    use gridcore::effect::Effect;
    use gridcore::encode::Digest;
    use gridcore::ids::JobId;
    use gridcore::ledger::{Hold, Payment};
    use gridcore::meter::{Metered, Totals};
    use gridcore::units::{MicroAtp, Ppm, Time};

    /// Lets a borrower pay a lender, a preemptor a borrower, and keeps one hold open.
    fn moved() -> (Books, Ledger) {
        let spec = |name: &str| AccountSpec::new(name, MicroAtp::ZERO);
        let mut ledger = Ledger::new(&["lab", "owner", "rush"].map(spec));
        let [lab, owner, rush] = [0, 1, 2].map(AccountId::new);
        let mut effects = Vec::new();
        let (now, lease) = (Time::ZERO, LeaseId::new(1));
        let hundred = MicroAtp::whole(100);
        for account in [lab, rush] {
            ledger.deposit(account, hundred, now, &mut effects).unwrap();
        }
        let mut hold = |account, amount: u64, effects: &mut Vec<Effect>| {
            let hold = Hold { account, amount: MicroAtp::whole(amount), lease: Some(lease) };
            ledger.hold(hold, now, effects).unwrap()
        };
        let first = hold(lab, 40, &mut effects);
        let cover = hold(rush, 10, &mut effects);
        hold(lab, 7, &mut effects);
        let (amount, refund) = (MicroAtp::whole(20), MicroAtp::whole(5));
        let payments = [Payment { to: owner, amount, refund }];
        ledger.settle(first, &payments, Ppm::new(50_000), now, &mut effects);
        ledger.refund(cover, lab, MicroAtp::whole(3), now, &mut effects);
        let kinds = [TransferKind::Grant, TransferKind::Newcomer];
        let gifts = [(owner, MicroAtp::whole(8)), (rush, MicroAtp::whole(2))];
        for (gift, kind) in gifts.into_iter().zip(kinds) {
            ledger.endow(gift, kind, now, &mut effects);
        }
        ledger.burn((rush, MicroAtp::whole(4)), TransferKind::Decay, now, &mut effects);
        ledger.burn((rush, MicroAtp::whole(1)), TransferKind::Overflow, now, &mut effects);
        let mut books = Books::new(3);
        for effect in &effects {
            if let Effect::Moved(transfer) = effect {
                books.book(transfer);
            }
        }
        (books, ledger)
    }

    #[test]
    fn transfers_alone_come_to_what_the_ledger_says() {
        let (books, ledger) = moved();
        assert_eq!(books.differs(&ledger), None);
        let shown = books.shown(&ledger);
        let lab = &shown["accounts"][0];
        let of = |key: &str| lab[key].to_string();
        assert_eq!([of("deposited_atp"), of("paid_atp"), of("fees_atp")], ["100.0", "14.0", "1.0"]);
        assert_eq!(
            [of("refunded_atp"), of("available_atp"), of("held_atp")],
            ["3.0", "81.0", "7.0"]
        );
        assert_eq!(shown["accounts"][2]["compensated_atp"].to_string(), "3.0");
        assert_eq!(shown["treasury_atp"].to_string(), "1.0");
        assert_eq!(shown["minted_atp"].to_string(), "210.0");
        assert_eq!(shown["burned_atp"].to_string(), "5.0");
        let rush = &shown["accounts"][2];
        let of = |key: &str| rush[key].to_string();
        assert_eq!([of("granted_atp"), of("decayed_atp")], ["2.0", "5.0"]);
    }

    #[test]
    fn a_meter_that_tells_another_than_the_transfers_is_named() {
        let totals = |cost, fee| Totals { cost, refunded: 5_000_000, fee, ..Totals::default() };
        let end = |totals| LeaseEnd {
            lease: LeaseId::new(1),
            job: JobId::new(1),
            reason: None,
            held: MicroAtp::whole(40),
            settled: MicroAtp::whole(15),
            metered: Some(Box::new(Metered { totals, head: Digest(0) })),
            unpaid_terms: 0,
            noticed: None,
        };
        let close = |totals| moved().0.close(&end(totals));
        assert_eq!(close(totals(20_000_000, 1_000_000)), None);
        let found = close(totals(20_000_001, 1_000_000)).unwrap_or_default();
        assert!(found.starts_with("lease l1, as metered: paid to lenders"), "{found}");
        let found = close(totals(20_000_001, 1_000_001)).unwrap_or_default();
        assert!(found.contains("fees"), "{found}");
        let (mut books, _) = moved();
        assert_eq!(books.close(&end(totals(20_000_000, 1_000_000))), None);
        assert!(books.close(&end(totals(20_000_000, 1_000_000))).is_some(), "closed once");
    }

    #[test]
    fn the_first_difference_is_named_to_the_last_micro_atp() {
        let change = |change: fn(&mut Ledger)| {
            let (books, mut ledger) = moved();
            change(&mut ledger);
            books.differs(&ledger).unwrap_or_default()
        };
        assert_eq!(
            change(|ledger| {
                let row = &mut ledger.accounts[AccountId::new(0)];
                row.available = row.available.saturating_add(MicroAtp::new(1));
            }),
            "account lab: available: the transfers come to 81.000000 ATP, the ledger says 81.000001"
        );
        assert!(
            change(|ledger| ledger.accounts[AccountId::new(1)].earned += 1)
                .contains("owner: earned")
        );
        assert!(
            change(|ledger| ledger.accounts[AccountId::new(2)].spent += 1).contains("rush: paid")
        );
        assert!(change(|ledger| ledger.treasury = MicroAtp::ZERO).starts_with("the treasury"));
        assert!(change(|ledger| ledger.mint += 1).starts_with("the mint"));
        assert!(change(|ledger| ledger.burned += 1).starts_with("what was burned"));
        assert!(
            change(|ledger| ledger.accounts[AccountId::new(2)].decayed += 1)
                .contains("rush: decayed")
        );
        assert!(
            change(|ledger| ledger.accounts[AccountId::new(1)].granted += 1)
                .contains("owner: granted")
        );
        assert!(change(|ledger| ledger.refunded += 1).starts_with("all that was refunded"));
        assert!(change(|ledger| ledger.settled += 1).starts_with("all that was settled"));
        let open = change(|ledger| {
            let last = ledger.holds.keys().last().expect("one is open");
            ledger.holds.remove(&last);
        });
        assert!(open.starts_with("what is held"), "{open}");
    }
}
