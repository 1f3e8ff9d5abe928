//! What raises and lowers reputation (CREDITS.md "Lenders and reputation"). A node's: terms that it
//! has honoured, leases that it took back without notice, leases that were lost with it, and that
//! it was drained because what others complete elsewhere fails there ([`super::health`]). An
//! account's: terms of it that ended in order, and its faults as a borrower.
//!
//! What an account runs on its own nodes counts for nothing, nor does a term in which less than a
//! tenth of the node was used: a whole node for half a minute is as much as a tenth of it for five.
//! A term that counts also proves that the capacity exists: for a day the node's offers count for
//! what is granted, and its owner is a newcomer no more (see [`super::epoch`]).

use super::Work;
use crate::charges::foreign;
use crate::command::Outcome;
use crate::effect::EvictionReason;
use crate::ids::{AccountId, LeaseId, NodeId};
use crate::leases::{Lease, LeaseState};
use crate::reputation::{Fault, Standing};
use crate::state::State;
use crate::units::{Span, Time};

/// A term counts where the lease had at least one part in so many of the node for a whole term.
const SMALLEST: u64 = 10;

impl Work<'_> {
    /// Counts a term of a running lease that has ended in order.
    pub(super) fn note_term(&mut self, id: LeaseId) {
        let (now, lease) = (self.state.now, self.state.lease(id));
        let account = lease.account;
        for node in lease.nodes() {
            let lease = self.state.lease(id);
            if counts(self.state, lease, node, lease.term_ends) {
                self.honour(node, account, now);
                self.credit(node, account);
            }
        }
    }

    /// Counts the last term of a lease that was last known to live at `until`, unless one of its
    /// nodes has cut it short, or was lost with it.
    pub(super) fn note_last_term(&mut self, lease: &Lease, until: Time) {
        let honoured = match lease.reason {
            None
            | Some(
                EvictionReason::PriorityPreemption
                | EvictionReason::QuotaReclaim
                | EvictionReason::Rebalance
                | EvictionReason::BudgetExhausted
                | EvictionReason::TimeLimit
                | EvictionReason::IdleTimeout
                | EvictionReason::UserRequest,
            ) => true,
            Some(
                EvictionReason::OwnerReturn
                | EvictionReason::NodeFailure
                | EvictionReason::GangEnded
                | EvictionReason::Refused
                | EvictionReason::PermissionLost,
            ) => false,
        };
        if honoured && until == self.state.now {
            for node in lease.nodes() {
                if !counts(self.state, lease, node, until) {
                    continue;
                }
                self.honour(node, lease.account, self.state.now);
                // A job that failed is no term in order, whatever was paid for it.
                let failed = lease.outcome == Some(Outcome::Failed);
                if fault(lease).is_none() && !failed {
                    self.credit(node, lease.account);
                }
            }
        }
    }

    /// Counts a term that an account had in order on another's node.
    fn credit(&mut self, node: NodeId, account: AccountId) {
        let (now, lender) = (self.state.now, self.state.nodes[node].spec.owner);
        self.stand(account, |standing| standing.honour(lender, now));
    }

    /// Counts a fault of a lease's account, if any of the lease's nodes is another's.
    pub(super) fn blame_borrower(&mut self, lease: &Lease, fault: Fault) {
        let now = self.state.now;
        if foreign(self.state, lease.account, &lease.members) > 0 {
            self.stand(lease.account, |standing| standing.blame(fault, now));
        }
    }

    /// Counts what a lease that is over did wrong: the worst only.
    pub(super) fn note_conduct(&mut self, lease: &Lease) {
        if let Some(fault) = fault(lease) {
            self.blame_borrower(lease, fault);
        }
    }

    /// Notes that a node kills a lease: it overstays where it had all the notice that it needs.
    pub(super) fn note_overstay(&mut self, id: LeaseId) {
        let (now, lease) = (self.state.now, self.state.lease(id));
        let needed = self.vacate(lease);
        let told = lease.noticed.zip(lease.kill_at);
        let had = told.is_some_and(|(from, until)| now >= until && until.since(from) >= needed);
        if had && !needed.is_zero() && lease.state == LeaseState::Releasing {
            self.state.lease_mut(id).overstayed = true;
        }
    }

    /// Puts in force what reputations have drifted to, at the end of an epoch.
    pub(super) fn drift(&mut self) {
        let now = self.state.now;
        for id in self.state.ledger.accounts.ids() {
            self.stand(id, |standing| standing.drift(now));
        }
    }

    /// Changes how an account stands. Its caps say who may start, and who keeps whom waiting.
    fn stand(&mut self, account: AccountId, change: impl FnOnce(&mut Standing)) {
        let standing = &mut self.state.ledger.accounts[account].standing;
        let before = standing.get();
        change(standing);
        assert!(standing.is_sound(), "{account} stands at {}", standing.get());
        if standing.get() != before && self.state.rules.caps_accounts() {
            self.state.changed.stir();
            self.keep_epochs();
        }
    }

    /// Counts a term that a node has honoured for an account.
    fn honour(&mut self, node: NodeId, account: AccountId, now: Time) {
        let row = &mut self.state.nodes[node];
        row.reputation.honour(account, now);
        row.honoured = Some(now);
        let owner = row.spec.owner;
        self.state.ledger.welcome(owner);
        self.keep_epochs();
    }

    /// Counts a running lease that an owner takes the node back from without notice, although its
    /// job needs one. Over a network a notice may have been over before anybody heard of it.
    pub(super) fn note_reclaim(&mut self, node: NodeId, id: LeaseId, notice: Span) {
        let (now, lease) = (self.state.now, self.state.lease(id));
        let needed = self.vacate(lease);
        let seen = !self.state.network || now.since(lease.proof) < needed;
        let other = lease.account != self.state.nodes[node].spec.owner;
        let sudden = notice.is_zero() && !needed.is_zero() && seen;
        if sudden && other && lease.state == LeaseState::Active {
            self.state.nodes[node].reputation.reclaim(now);
        }
    }

    /// Counts a running lease that was lost with a node.
    pub(super) fn note_loss(&mut self, node: NodeId, id: LeaseId) {
        let (now, account) = (self.state.now, self.state.lease(id).account);
        if account != self.state.nodes[node].spec.owner {
            self.state.nodes[node].reputation.lose(now);
        }
    }
}

/// Returns whether a lease has had enough of another's node for its term until a time to count.
fn counts(state: &State, lease: &Lease, node: NodeId, until: Time) -> bool {
    let row = &state.nodes[node];
    // What nobody pays for proves nothing, and costs a pair of accounts nothing.
    if lease.unpaid || row.spec.owner == lease.account {
        return false;
    }
    let (ran, term) = (lease.ran_in_term(until).get(), state.rules.term.0.get());
    let members = lease.members.iter().filter(|member| member.node == node).count() as u64;
    let times = members * SMALLEST;
    let (needs, all) = (&lease.needs, &row.spec.capacity);
    let parts = [
        (needs.cpu.get(), all.cpu.get()),
        (needs.memory.get(), all.memory.get()),
        (needs.gpus.total().get(), all.gpu.get()),
    ];
    let is_enough = |(part, whole): (u64, u64)| {
        let had = u128::from(part.saturating_mul(times)) * u128::from(ran);
        whole > 0 && had >= u128::from(whole) * u128::from(term)
    };
    parts.into_iter().any(is_enough)
}

/// Returns what a lease's account did wrong with it, by how it was ended.
fn fault(lease: &Lease) -> Option<Fault> {
    if lease.overstayed {
        Some(Fault::IgnoredNotice)
    } else {
        (lease.reason == Some(EvictionReason::TimeLimit)).then_some(Fault::Overran)
    }
}
