//! Epochs: once in a while credit above a daily grant decays, what is above a cap is burned, and
//! new credit is granted for capacity that exists (CREDITS.md "Grants, decay, newcomers").
//!
//! An end of an epoch walks the nodes once and the accounts a few times. Between two of them
//! nothing is owed and nothing is looked at; while an end would change nothing, there is none.

use super::Work;
use crate::bundle::Bundle;
use crate::command::Reply;
use crate::deny::Denied;
use crate::due::Due;
use crate::effect::TransferKind;
use crate::epoch::{DAY, Days, decay, decayed_part, granted, next_end, overflow, split};
use crate::ids::AccountId;
use crate::ledger::{Account, Welcome};
use crate::state::State;
use crate::units::{MicroAtp, Span, Time};
use alloc::vec::Vec;

impl Work<'_> {
    /// Gives an account credit that the treasury has to spare.
    ///
    /// # Errors
    /// When the account does not exist or would hold too much, or the treasury has less.
    pub fn award(&mut self, account: AccountId, amount: MicroAtp) -> Result<Reply, Denied> {
        let now = self.state.now;
        self.state.ledger.award(account, amount, now, self.effects)?;
        Ok(Reply::Done)
    }

    /// Ends an epoch. What nobody woke the coordinator for decays at once, as if it had; what would
    /// have been granted meanwhile is not, because nobody knows what was on offer.
    pub fn close_epoch(&mut self) {
        let Some(due) = self.state.epochs.ends.take() else { return };
        let (rules, now) = (self.state.rules.atp.clone(), self.state.now);
        if !self.state.epochs.are_open(&rules) {
            return;
        }
        let long = rules.epoch.get().max(1);
        let missed = now.since(due).get() / long;
        self.decay(Span::new(long.saturating_mul(missed.saturating_add(1))));
        self.drift();
        self.welcome_newcomers();
        let proven = proven_offers(self.state);
        if let Some(offered) = &proven {
            let amount = granted(offered, rules.epoch, &rules);
            self.grant(MicroAtp::new(u64::try_from(amount).unwrap_or(u64::MAX)));
        }
        if proven.is_some() || is_due(self.state) {
            self.keep_epochs();
        }
    }

    /// Burns what decays of every balance in a span, and what is above its cap.
    fn decay(&mut self, span: Span) {
        let now = self.state.now;
        let part = self.state.rules.atp.decay_half_life.map_or(0, |life| decayed_part(span, life));
        let days = self.state.epochs.days(&self.state.rules.atp);
        let ledger = &mut self.state.ledger;
        for id in ledger.accounts.ids() {
            let row = &ledger.accounts[id];
            let floor = days.day(row.spec.weight);
            let cap = days.cap(row.spec.weight, row.deposited);
            let lost = decay(row.available, row.held, floor, part);
            ledger.burn((id, lost), TransferKind::Decay, now, self.effects);
            let row = &ledger.accounts[id];
            let above = overflow(row.available, row.held, cap);
            ledger.burn((id, above), TransferKind::Overflow, now, self.effects);
        }
    }

    /// Gives every account of which a node has first proven that it lends what active accounts have
    /// on average by weight, at most its daily grant: who comes under ten names is given no more.
    fn welcome_newcomers(&mut self) {
        let now = self.state.now;
        let due = |row: &Account| row.welcome == Welcome::Due;
        let accounts = self.state.ledger.accounts.iter();
        let newcomers: Vec<AccountId> =
            accounts.filter(|(_, r)| due(r)).map(|(id, _)| id).collect();
        if newcomers.is_empty() || !self.state.rules.atp.newcomer {
            return;
        }
        let (mut sum, mut weights) = (0_u128, 0_u128);
        for (_, row) in self.state.ledger.accounts.iter().filter(|(_, row)| row.is_active(now)) {
            sum += u128::from(row.balance().get());
            weights += u128::from(row.spec.weight);
        }
        let days = self.state.epochs.days(&self.state.rules.atp);
        for id in newcomers {
            self.state.ledger.accounts[id].welcome = Welcome::Given;
            let weight = self.state.account(id).spec.weight;
            let mean = (sum * u128::from(weight)).checked_div(weights).unwrap_or(0);
            let mean = MicroAtp::new(u64::try_from(mean).unwrap_or(u64::MAX));
            let amount = mean.min(days.day(weight));
            self.endow((id, amount), TransferKind::Newcomer, days);
        }
    }

    /// Shares out what an epoch grants by weight, as far as treasury and mint reach.
    fn grant(&mut self, amount: MicroAtp) {
        let ledger = &self.state.ledger;
        let amount = amount.min(ledger.spare(self.state.now).saturating_add(ledger.mintable()));
        let weights: Vec<(AccountId, u32)> =
            ledger.accounts.iter().map(|(id, row)| (id, row.spec.weight)).collect();
        let days = self.state.epochs.days(&self.state.rules.atp);
        for gift in split(amount, &weights) {
            self.endow(gift, TransferKind::Grant, days);
        }
    }

    /// Gives an account credit up to its cap.
    fn endow(&mut self, (id, amount): (AccountId, MicroAtp), kind: TransferKind, days: Days) {
        let (now, ledger) = (self.state.now, &mut self.state.ledger);
        let row = &ledger.accounts[id];
        let room = days.cap(row.spec.weight, row.deposited).saturating_sub(row.balance());
        ledger.endow((id, amount.min(room)), kind, now, self.effects);
    }

    /// Sees to it that the epoch under way ends, because its end may change something.
    pub fn keep_epochs(&mut self) {
        let state = &mut *self.state;
        if state.epochs.ends.is_none() && state.epochs.are_open(&state.rules.atp) {
            let ends = next_end(state.now, state.rules.atp.epoch);
            state.epochs.ends = Some(ends);
            state.timers.set(ends, Due::Epoch);
        }
    }

    /// Follows other rules: the epoch under way ends by them.
    pub fn adopt_epochs(&mut self) {
        if let Some(ends) = self.state.epochs.ends.take() {
            self.state.timers.clear(ends, Due::Epoch);
        }
        self.keep_epochs();
    }
}

/// Returns whether the end of an epoch would change anything without a grant.
fn is_due(state: &State) -> bool {
    let rules = &state.rules.atp;
    let days = state.epochs.days(rules);
    let part = rules.decay_half_life.map_or(0, |life| decayed_part(rules.epoch, life));
    state.ledger.accounts.iter().any(|(_, row)| {
        let floor = days.day(row.spec.weight);
        let cap = days.cap(row.spec.weight, row.deposited);
        let newcomer = rules.newcomer && row.welcome == Welcome::Due;
        let decays = !decay(row.available, row.held, floor, part).is_zero();
        let drifts = state.rules.caps_accounts() && !row.standing.is_home();
        decays || newcomer || drifts || !overflow(row.available, row.held, cap).is_zero()
    })
}

/// Returns the capacity on offer by nodes that have honoured a term of another account within a
/// day, at most what the configuration registers; `None` where no node has.
fn proven_offers(state: &State) -> Option<Bundle> {
    let is_proven = |at: Time| state.now.since(at) <= DAY;
    let mut out = None;
    for (_, node) in state.nodes.iter().filter(|(_, node)| node.honoured.is_some_and(is_proven)) {
        let offered = out.get_or_insert(Bundle::ZERO);
        let lends = node.up && !node.silent && node.draining.is_none();
        if let Some(offer) = node.offer.as_ref().filter(|_| lends) {
            offered.add(&offer.total.meet(&node.registered()));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::DIMENSIONS;
    use crate::config::{ACCOUNTS_MAX, AccountSpec, Config, NODES_MAX, NodeSpec, PoolSpec};
    use crate::effect::Effect;
    use crate::ids::OfferId;
    use crate::index::Index;
    use crate::invariants::check;
    use crate::offers::Offer;
    use crate::units::{Bytes, MilliCores, Ppm};
    use alloc::string::String;

    /// Returns a cluster of so many nodes and accounts, all of whose nodes lend all they have and
    /// have just honoured a term.
    fn cluster(nodes: usize, accounts: usize, capacity: Bundle) -> State {
        let mut config = Config::default();
        config.pools.push(PoolSpec { name: String::from("main"), quota: None });
        for n in 0..accounts {
            config.accounts.push(AccountSpec::new(&alloc::format!("a{n}"), MicroAtp::ZERO));
        }
        for n in 0..nodes {
            let mut spec = NodeSpec::dedicated(&alloc::format!("n{n}"), capacity);
            spec.owner = AccountId::new(u32::try_from(n % accounts).unwrap());
            config.nodes.push(spec);
        }
        assert_eq!(config.validate(), Ok(()));
        let mut state = State::new(config, Time::ZERO);
        let (id, opened, ends) = (OfferId::default(), Time::ZERO, Time::MAX);
        let offer = Offer { id, version: 0, total: capacity, opened, ends, leased: false };
        for (_, node) in state.nodes.iter_mut() {
            (node.offer, node.honoured) = (Some(offer.clone()), Some(Time::ZERO));
        }
        for (_, pool) in state.pools.iter_mut() {
            pool.offered = pool.capacity;
        }
        state
    }

    /// Lets so many epochs end, one after the other or all at once, and returns the effects.
    fn end_epochs(state: &mut State, count: u64, at_once: bool) -> Vec<Effect> {
        let mut index = Index::new(state);
        let mut effects = Vec::new();
        let long = state.rules.atp.epoch.get();
        let mut work = Work { state, index: &mut index, effects: &mut effects };
        work.keep_epochs();
        for n in 1..=count {
            if !at_once || n == count {
                work.state.now = Time::from_ms(n * long);
                while let Some((_, due)) = work.state.timers.pop(work.state.now) {
                    if due == Due::Epoch {
                        work.close_epoch();
                    }
                }
            }
        }
        effects
    }

    #[test]
    fn nothing_overflows_and_all_adds_up_at_the_declared_maxima() {
        let mut capacity = Bundle::cpu(MilliCores::new(16_384_000));
        (capacity.memory, capacity.storage) = (Bytes::new(64 << 40), Bytes::new(1 << 47));
        let mut state = cluster(NODES_MAX, ACCOUNTS_MAX, capacity);
        state.rules.atp.grant_fraction = Ppm::ONE;
        state.rules.atp.rates = [1; DIMENSIONS];
        for (n, (_, row)) in state.ledger.accounts.iter_mut().enumerate() {
            row.spec.weight = if n == 0 { 1 } else { u32::MAX };
        }
        let effects = end_epochs(&mut state, 3, false);
        // All there may be is granted at once, and from then on only what decays.
        assert_eq!(state.ledger.mintable(), MicroAtp::ZERO);
        assert!(effects.len() >= ACCOUNTS_MAX);
        assert_eq!(check(&state), []);
    }

    #[test]
    fn a_grant_is_shared_out_to_the_last_micro_atp_and_paid_by_the_treasury_first() {
        let mut state = cluster(3, 7, Bundle::cpu(MilliCores::new(1_001)));
        state.ledger.treasury = MicroAtp::new(1_000);
        state.ledger.mint = -1_000;
        let effects = end_epochs(&mut state, 1, true);
        let balances = state.ledger.accounts.iter().map(|(_, row)| row.balance().get());
        // 3.003 cores for 300 s at .70 ATP a core-second.
        assert_eq!(balances.sum::<u64>(), 630_630_000);
        assert_eq!((state.ledger.treasury, state.ledger.mint), (MicroAtp::ZERO, -630_630_000));
        assert_eq!(effects.len(), 8);
        assert_eq!(check(&state), []);
    }

    #[test]
    fn fees_of_the_last_day_are_not_granted() {
        let mut state = cluster(1, 1, Bundle::cpu(MilliCores::whole(1)));
        state.ledger.treasury = MicroAtp::new(1_000);
        state.ledger.mint = -1_000;
        state.ledger.fees.note(MicroAtp::new(900), Time::ZERO);
        end_epochs(&mut state, 1, true);
        assert_eq!(state.ledger.treasury, MicroAtp::new(900));
    }

    #[test]
    fn an_epoch_that_is_late_decays_as_many_would_have() {
        let left = |at_once: bool| {
            let mut state = cluster(1, 1, Bundle::cpu(MilliCores::whole(1)));
            state.nodes[crate::ids::NodeId::new(0)].honoured = None;
            let mut effects = Vec::new();
            let (lab, amount) = (AccountId::new(0), MicroAtp::whole(1_000_000));
            assert_eq!(state.ledger.deposit(lab, amount, Time::ZERO, &mut effects), Ok(()));
            end_epochs(&mut state, 2_016, at_once);
            assert_eq!(check(&state), []);
            state.ledger.available(lab).get()
        };
        // A half-life: half of what is above 60,480 ATP, and less than a micro-ATP per epoch more.
        assert_eq!(left(true), 530_240_000_000);
        assert!((530_240_000_000..530_240_002_016).contains(&left(false)));
    }

    #[test]
    fn a_newcomer_is_given_the_mean_of_who_is_active_once_and_at_most_a_days_grant() {
        let mut state = cluster(1, 4, Bundle::cpu(MilliCores::whole(1)));
        state.rules.atp.decay_half_life = None;
        let [own, rich, poor, idle] = [0, 1, 2, 3].map(AccountId::new);
        let mut effects = Vec::new();
        for (id, atp) in [(rich, 9_000), (poor, 300), (idle, 1_000_000)] {
            let amount = MicroAtp::whole(atp);
            assert_eq!(state.ledger.deposit(id, amount, Time::ZERO, &mut effects), Ok(()));
        }
        for id in [own, rich, poor] {
            state.ledger.accounts[id].active = Some(Time::ZERO);
        }
        state.nodes[crate::ids::NodeId::new(0)].honoured = None;
        let mut twin = state.clone();
        state.ledger.welcome(own);
        end_epochs(&mut state, 1, true);
        assert_eq!(state.ledger.available(own), MicroAtp::whole(3_100));
        state.ledger.welcome(own);
        state.epochs.ends = Some(state.now);
        end_epochs(&mut state, 2, true);
        assert_eq!(state.ledger.available(own), MicroAtp::whole(3_100));
        assert_eq!(check(&state), []);
        // Who lends nothing is given nothing, and nobody more than a day's grant.
        end_epochs(&mut twin, 1, true);
        assert_eq!(twin.ledger.available(own), MicroAtp::ZERO);
        twin.ledger.accounts[idle].active = Some(Time::ZERO);
        twin.ledger.welcome(own);
        end_epochs(&mut twin, 2, true);
        assert_eq!(twin.ledger.available(own), MicroAtp::whole(15_120));
    }

    #[test]
    fn ten_names_of_a_tenth_of_the_weight_are_given_what_one_is() {
        let given = |weights: &[u32]| {
            let mut state = cluster(1, 1 + weights.len(), Bundle::cpu(MilliCores::whole(1)));
            state.rules.atp.decay_half_life = None;
            state.nodes[crate::ids::NodeId::new(0)].honoured = None;
            let (rich, mut effects) = (AccountId::new(0), Vec::new());
            let deposited =
                state.ledger.deposit(rich, MicroAtp::whole(900), Time::ZERO, &mut effects);
            assert_eq!(deposited, Ok(()));
            state.ledger.accounts[rich].active = Some(Time::ZERO);
            let names: Vec<AccountId> = state.ledger.accounts.ids().skip(1).collect();
            for (id, weight) in names.iter().zip(weights) {
                state.ledger.accounts[*id].spec.weight = *weight;
                state.ledger.welcome(*id);
            }
            end_epochs(&mut state, 1, true);
            names.iter().map(|id| state.ledger.available(*id).get()).sum::<u64>()
        };
        assert_eq!(given(&[10]), 9_000_000_000);
        assert_eq!(given(&[1; 10]), 9_000_000_000);
    }

    #[test]
    fn where_nothing_is_granted_nothing_decays_and_no_epoch_ends() {
        let mut state = cluster(1, 1, Bundle::cpu(MilliCores::whole(1)));
        state.rules.atp.grant_fraction = Ppm::ZERO;
        let amount = MicroAtp::whole(1 << 30);
        let mut effects = Vec::new();
        let deposited = state.ledger.deposit(AccountId::new(0), amount, Time::ZERO, &mut effects);
        assert_eq!(deposited, Ok(()));
        assert_eq!(end_epochs(&mut state, 9, false), []);
        assert_eq!(state.ledger.burned, 0);
        assert!(state.epochs.ends.is_none());
    }
}
