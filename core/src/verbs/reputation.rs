//! What raises and lowers a node's reputation (CREDITS.md "Lenders and reputation"): terms that it
//! has honoured, leases that it took back without notice, leases that were lost with it.
//!
//! What an account runs on its own nodes counts for nothing. A term that counts also proves that
//! the capacity exists: for a day the node's offers count for what is granted, and its owner is a
//! newcomer no more (see [`super::epoch`]).

use super::Work;
use crate::effect::EvictionReason;
use crate::ids::{AccountId, LeaseId, NodeId};
use crate::leases::{Lease, LeaseState};
use crate::state::State;
use crate::units::{Span, Time};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// A term counts where the lease holds at least one part in so many of the node.
const SMALLEST: u64 = 10;

impl Work<'_> {
    /// Counts a term of a running lease that has ended in order.
    pub(super) fn note_term(&mut self, id: LeaseId) {
        let (now, lease) = (self.state.now, self.state.lease(id));
        let account = lease.account;
        for node in counting(self.state, lease) {
            self.honour(node, account, now);
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
            for node in counting(self.state, lease) {
                self.honour(node, lease.account, self.state.now);
            }
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

/// Returns the nodes of others of which a lease holds enough for its terms to count.
fn counting(state: &State, lease: &Lease) -> Vec<NodeId> {
    let nodes: BTreeSet<NodeId> = lease.members.iter().map(|member| member.node).collect();
    let counts = |node: &NodeId| {
        let row = &state.nodes[*node];
        let members = lease.members.iter().filter(|member| member.node == *node).count() as u64;
        let (needs, all) = (lease.needs.bundle(), &row.spec.capacity);
        let parts = [
            (needs.cpu.get(), all.cpu.get()),
            (needs.memory.get(), all.memory.get()),
            (needs.gpu.get(), all.gpu.get()),
        ];
        let is_enough = |(part, whole): (u64, u64)| {
            let part = u128::from(part) * u128::from(members) * u128::from(SMALLEST);
            whole > 0 && part >= u128::from(whole)
        };
        let enough = parts.into_iter().any(is_enough);
        enough && row.spec.owner != lease.account
    };
    nodes.into_iter().filter(counts).collect()
}
