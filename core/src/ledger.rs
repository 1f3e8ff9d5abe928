//! The ledger: accounts, holds and transfers, in double entry.
//!
//! Every change of a balance is a transfer between two parties, so the sum over all parties is
//! always nothing (invariant 1). A hold sets credit aside for one term and is resolved exactly
//! once: settled for the actual cost, the rest restored in the same step. The ledger knows no
//! lease, no job and no price; who is paid how much is decided elsewhere and arrives as
//! [`Payment`]s.

use crate::bundle::Bundle;
use crate::canary::{Canary, planted};
use crate::config::{AccountSpec, BALANCE_MAX, MINTED_MAX};
use crate::deny::Denied;
use crate::effect::{Effect, Party, Transfer, TransferKind};
use crate::epoch::{DAY, Fees};
use crate::ids::{AccountId, HoldId, LeaseId, NodeId, Table, TransferId};
use crate::rows::Rows;
use crate::units::{MicroAtp, Ppm, Time};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// One account's money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What the configuration says of it.
    pub spec: AccountSpec,
    /// Credit it can use.
    pub available: MicroAtp,
    /// Credit set aside in its open holds.
    pub held: MicroAtp,
    /// Deposits over its lifetime.
    pub deposited: u128,
    /// Granted over its lifetime: with epochs, as a newcomer, and by administrators.
    pub granted: u128,
    /// Earned as a lender over its lifetime.
    pub earned: u128,
    /// Paid as a borrower over its lifetime: for its terms, and for work that made way for its own.
    pub spent: u128,
    /// What came back over its lifetime for its work that others destroyed.
    pub refunded: u128,
    /// What decayed over its lifetime, or was above its cap.
    pub decayed: u128,
    /// When it last paid for a term or earned one.
    pub active: Option<Time>,
    /// Whether it has been given what newcomers are given.
    pub welcome: Welcome,
    /// What its leases hold, those that are leaving included.
    pub using: Bundle,
    /// How many of them hold anything on others' nodes.
    pub leases: u32,
    /// Its jobs that wait or run; the jobs of an array are one.
    pub requests: u32,
    /// The last job of it that completed, or failed soon; and the last such on another node.
    pub ended: [Option<Ended>; 2],
    /// Decayed dominant use over weight, for the order `fair` (see [`crate::usage::Usage`]).
    pub usage: crate::usage::Usage,
    /// How it stands as a borrower.
    pub standing: crate::reputation::Standing,
}

impl Account {
    /// Returns all the credit it has.
    #[must_use]
    pub fn balance(&self) -> MicroAtp {
        self.available.saturating_add(self.held)
    }

    /// Returns what its lifetime totals come to: its balance, always (invariant 7).
    #[must_use]
    pub fn of_totals(&self) -> Option<u128> {
        let came = self.deposited + self.granted + self.earned + self.refunded;
        came.checked_sub(self.spent + self.decayed)
    }

    /// Returns whether it has paid or earned within a day.
    #[must_use]
    pub fn is_active(&self, now: Time) -> bool {
        self.active.is_some_and(|at| now.since(at) <= DAY)
    }
}

/// Whether an account has been given what newcomers are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Welcome {
    /// No node of it has ever honoured a lease of another account.
    #[default]
    Unknown,
    /// One has: it is given with the end of the epoch.
    Due,
    /// It has been.
    Given,
}

/// How a job of an account ended somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Where.
    pub node: NodeId,
    /// When.
    pub at: Time,
    /// Whether it completed; else it failed soon after its start.
    pub well: bool,
}

/// Credit set aside for a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Whose.
    pub account: AccountId,
    /// How much.
    pub amount: MicroAtp,
    /// For which lease; `None` before there is one.
    pub lease: Option<LeaseId>,
}

/// What one lender is due from a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The lender.
    pub to: AccountId,
    /// Its part of the cost, before the fee.
    pub amount: MicroAtp,
    /// What it gives back for work that its own node's return or failure destroyed.
    pub refund: MicroAtp,
}

/// What a settlement came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// What the borrower paid.
    pub paid: MicroAtp,
    /// What the treasury had of it.
    pub fees: MicroAtp,
}

/// All money.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The accounts.
    pub accounts: Table<AccountId, Account>,
    /// The open holds.
    pub holds: Rows<HoldId, Hold>,
    /// Whether any account has a quota of its own.
    pub guarantees: bool,
    /// Fees and what came of them.
    pub treasury: MicroAtp,
    /// Everything ever minted, as a negative balance.
    pub mint: i128,
    /// Everything ever burned.
    pub burned: u128,
    /// The fees of the last day: so much of the treasury is not granted.
    pub fees: Fees,
    /// Everything ever settled, and ever held.
    pub settled: u128,
    /// Everything ever set aside.
    pub reserved: u128,
    /// Everything that came back to a borrower for work that others destroyed.
    pub refunded: u128,
    next_hold: HoldId,
    next_transfer: TransferId,
}

impl Ledger {
    /// Opens the accounts; deposits are made by [`Ledger::deposit`].
    #[must_use]
    pub fn new(specs: &[AccountSpec]) -> Self {
        let mut ledger = Self {
            next_hold: HoldId::new(1),
            next_transfer: TransferId::new(1),
            guarantees: specs.iter().any(|spec| spec.quota.is_some()),
            ..Self::default()
        };
        for spec in specs {
            ledger.accounts.push(Account {
                spec: spec.clone(),
                available: MicroAtp::ZERO,
                held: MicroAtp::ZERO,
                deposited: 0,
                granted: 0,
                earned: 0,
                spent: 0,
                refunded: 0,
                decayed: 0,
                active: None,
                welcome: Welcome::default(),
                using: Bundle::ZERO,
                leases: 0,
                requests: 0,
                ended: [None; 2],
                usage: crate::usage::Usage::default(),
                standing: crate::reputation::Standing::default(),
            });
        }
        ledger
    }

    /// Puts new credit into an account.
    ///
    /// # Errors
    /// When the account does not exist, would hold more than [`BALANCE_MAX`], or all credit would
    /// pass [`MINTED_MAX`].
    pub fn deposit(
        &mut self,
        account: AccountId,
        amount: MicroAtp,
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Denied> {
        self.check_gift(account, amount)?;
        if amount > self.mintable() {
            return Err(Denied::TooRich { account, amount });
        }
        // Nothing below can be refused.
        self.accounts[account].deposited += u128::from(amount.get());
        let (from, to) = (Party::Mint, Party::Account(account));
        self.transfer(
            Move { from, to, amount, kind: TransferKind::Deposit, lease: None },
            now,
            effects,
        );
        Ok(())
    }

    /// Sets credit aside.
    ///
    /// # Errors
    /// When the account has less available.
    pub fn hold(
        &mut self,
        hold: Hold,
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Result<HoldId, Denied> {
        let Hold { account, amount, lease } = hold;
        let balance = self.accounts[account].available;
        if balance < amount {
            return Err(Denied::OverBudget { account, balance, needed: amount });
        }
        // Nothing below can be refused.
        let id = self.next_hold;
        self.next_hold = id.next();
        self.holds.insert(id, hold);
        self.reserved += u128::from(amount.get());
        let (from, to) = (Party::Account(account), Party::Held(account));
        self.transfer(Move { from, to, amount, kind: TransferKind::Hold, lease }, now, effects);
        Ok(id)
    }

    /// Pays from a hold what each lender is due less the fee, and restores the rest.
    /// Returns what was paid.
    ///
    /// # Panics
    /// When the payments exceed the hold or the hold is not open: our bug.
    pub fn settle(
        &mut self,
        id: HoldId,
        payments: &[Payment],
        fee: Ppm,
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Settled {
        let hold = self.holds.remove(&id);
        assert!(hold.is_some(), "hold {id} is resolved once");
        let Some(Hold { account, amount, lease }) = hold else { return Settled::default() };
        let from = Party::Held(account);
        let total = payments.iter().fold(MicroAtp::ZERO, |sum, p| {
            assert!(p.refund <= p.amount, "a refund stays inside this term's charge");
            sum.saturating_add(p.amount).saturating_sub(p.refund)
        });
        let rest = amount.checked_sub(total);
        assert!(rest.is_some(), "a settlement of {total} stays inside its hold of {amount}");
        let (mut gross, mut fees) = (0_u64, MicroAtp::ZERO);
        let times = if planted(Canary::ChargeTwice) { 2 } else { 1 };
        for payment in payments.iter().cycle().take(times * payments.len()) {
            // The fee on the running sum, so that the parts add up to the fee on the whole.
            let before = fee.of_floor(gross);
            gross += payment.amount.get();
            let part = MicroAtp::new(fee.of_floor(gross) - before);
            let due = payment.amount.saturating_sub(payment.refund);
            let part = part.min(due);
            fees = fees.saturating_add(part);
            let net = due.saturating_sub(part);
            self.accounts[payment.to].earned += u128::from(net.get());
            if !net.is_zero() {
                self.accounts[payment.to].active = Some(now);
            }
            let to = Party::Account(payment.to);
            let paid = Move { from, to, amount: net, kind: TransferKind::Settle, lease };
            self.transfer(paid, now, effects);
        }
        let fee = Move { from, to: Party::Treasury, amount: fees, kind: TransferKind::Fee, lease };
        self.transfer(fee, now, effects);
        self.fees.note(fees, now);
        let to = Party::Account(account);
        let amount = rest.unwrap_or_default();
        let back = Move { from, to, amount, kind: TransferKind::Restore, lease };
        if !planted(Canary::ForgetRestore) {
            self.transfer(back, now, effects);
        }
        self.settled += u128::from(total.get());
        self.accounts[account].spent += u128::from(total.get());
        if !total.is_zero() {
            self.accounts[account].active = Some(now);
        }
        Settled { paid: total, fees }
    }

    /// Pays from a hold to the account whose work was destroyed, and restores the rest.
    ///
    /// # Panics
    /// When the refund exceeds the hold or the hold is not open: our bug.
    pub fn refund(
        &mut self,
        id: HoldId,
        to: AccountId,
        amount: MicroAtp,
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        let hold = self.holds.remove(&id);
        assert!(hold.is_some_and(|h| h.amount >= amount), "hold {id} covers the refund once");
        let Some(Hold { account, amount: held, lease }) = hold else { return };
        self.accounts[account].spent += u128::from(amount.get());
        self.accounts[to].refunded += u128::from(amount.get());
        let (from, to) = (Party::Held(account), Party::Account(to));
        self.transfer(Move { from, to, amount, kind: TransferKind::Refund, lease }, now, effects);
        let rest = held.saturating_sub(amount);
        let to = Party::Account(account);
        let back = Move { from, to, amount: rest, kind: TransferKind::Restore, lease };
        self.transfer(back, now, effects);
        self.refunded += u128::from(amount.get());
    }

    /// Pays an account from the treasury, as far as that reaches; returns how much.
    pub fn compensate(
        &mut self,
        (lease, to): (LeaseId, AccountId),
        amount: MicroAtp,
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> MicroAtp {
        let amount = amount.min(self.treasury);
        self.accounts[to].refunded += u128::from(amount.get());
        let (from, to, lease) = (Party::Treasury, Party::Account(to), Some(lease));
        self.transfer(Move { from, to, amount, kind: TransferKind::Refund, lease }, now, effects);
        self.refunded += u128::from(amount.get());
        amount
    }

    /// Gives an account credit that the treasury has to spare; nothing is minted. Unlike a deposit
    /// it raises no cap.
    ///
    /// # Errors
    /// When the account does not exist or would hold more than [`BALANCE_MAX`], or the treasury has
    /// less to spare.
    pub fn award(
        &mut self,
        account: AccountId,
        amount: MicroAtp,
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Denied> {
        self.check_gift(account, amount)?;
        let spare = self.spare(now);
        if amount > spare {
            return Err(Denied::TreasuryShort { spare, needed: amount });
        }
        // Nothing below can be refused.
        self.endow((account, amount), TransferKind::Award, now, effects);
        Ok(())
    }

    /// Refuses a gift of nothing, to nobody, or to who would have too much.
    fn check_gift(&self, account: AccountId, amount: MicroAtp) -> Result<(), Denied> {
        let Some(row) = self.accounts.find(account) else {
            return Err(Denied::NoAccount(account));
        };
        if amount.is_zero() {
            return Err(Denied::Range { what: "amount".into(), value: 0, range: "above 0".into() });
        }
        if row.balance().checked_add(amount).is_none_or(|total| total > BALANCE_MAX) {
            return Err(Denied::TooRich { account, amount });
        }
        Ok(())
    }

    /// Gives an account credit: out of what the treasury has to spare, the rest from the mint as
    /// far as that may go. Returns how much.
    pub fn endow(
        &mut self,
        (account, amount): (AccountId, MicroAtp),
        kind: TransferKind,
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> MicroAtp {
        let old = amount.min(self.spare(now));
        let new = amount.saturating_sub(old).min(self.mintable());
        let (to, lease) = (Party::Account(account), None);
        for (from, amount) in [(Party::Treasury, old), (Party::Mint, new)] {
            self.transfer(Move { from, to, amount, kind, lease }, now, effects);
        }
        let given = old.saturating_add(new);
        self.accounts[account].granted += u128::from(given.get());
        given
    }

    /// Burns available credit of an account.
    pub fn burn(
        &mut self,
        (account, amount): (AccountId, MicroAtp),
        kind: TransferKind,
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        self.accounts[account].decayed += u128::from(amount.get());
        let (from, to, lease) = (Party::Account(account), Party::Burn, None);
        self.transfer(Move { from, to, amount, kind, lease }, now, effects);
    }

    /// Notes that a node of an account has honoured a lease of another account.
    pub fn welcome(&mut self, account: AccountId) {
        let row = &mut self.accounts[account];
        if row.welcome == Welcome::Unknown {
            row.welcome = Welcome::Due;
        }
    }

    /// Returns what the treasury has beside the fees of the last day, which are kept for those
    /// whose jobs are moved.
    #[must_use]
    pub fn spare(&self, now: Time) -> MicroAtp {
        self.treasury.saturating_sub(self.fees.of_day(now))
    }

    /// Returns how much may be minted now.
    #[must_use]
    pub fn mintable(&self) -> MicroAtp {
        let minted = u128::try_from(-self.mint).unwrap_or(0);
        let room = (u128::from(MINTED_MAX.get()) + self.burned).saturating_sub(minted);
        MicroAtp::new(u64::try_from(room).unwrap_or(u64::MAX)).min(MINTED_MAX)
    }

    /// Moves credit from one party to another and records it; nothing moves when it is nothing.
    fn transfer(&mut self, step: Move, now: Time, effects: &mut Vec<Effect>) {
        let Move { from, to, amount, kind, lease } = step;
        if amount.is_zero() {
            return;
        }
        self.change(from, amount, false);
        self.change(to, amount, true);
        let id = self.next_transfer;
        self.next_transfer = id.next();
        effects.push(Effect::Moved(Transfer { id, at: now, from, to, amount, kind, lease }));
    }

    /// Adds to or takes from one party.
    fn change(&mut self, party: Party, amount: MicroAtp, add: bool) {
        let balance = match party {
            Party::Mint => {
                let amount = i128::from(amount.get());
                self.mint += if add { amount } else { -amount };
                return;
            }
            Party::Burn => {
                assert!(add, "what is burned never comes back");
                self.burned += u128::from(amount.get());
                return;
            }
            Party::Treasury => &mut self.treasury,
            Party::Account(account) => &mut self.accounts[account].available,
            Party::Held(account) => &mut self.accounts[account].held,
        };
        let next = if add { balance.checked_add(amount) } else { balance.checked_sub(amount) };
        assert!(next.is_some(), "{party:?} has {balance} and moves {amount}");
        *balance = next.unwrap_or_default();
    }

    /// Returns the number of the next transfer: another one when credit has moved.
    #[must_use]
    pub fn moves(&self) -> TransferId {
        self.next_transfer
    }

    /// Returns an account's available credit.
    #[must_use]
    pub fn available(&self, account: AccountId) -> MicroAtp {
        self.accounts[account].available
    }
}

/// One transfer before it has a number.
struct Move {
    from: Party,
    to: Party,
    amount: MicroAtp,
    kind: TransferKind,
    lease: Option<LeaseId>,
}
