//! What nodes state of their leases: paused, leaving, stuck, ended.

use super::Work;
use super::grant::{clear_timers, set_timer};
use super::release::{end_on, told_to_leave};
use crate::command::{Outcome, Reply};
use crate::due::Due;
use crate::effect::EvictionReason;
use crate::ids::{LeaseId, NodeId};
use crate::leases::LeaseState;
use crate::units::Span;
use crate::wire::{Item, Status};

impl Work<'_> {
    /// Applies what a node states of a lease; what it has stated before changes nothing.
    pub fn status(&mut self, node: NodeId, item: Item) -> Reply {
        let Item { lease: id, epoch, status, .. } = item;
        if !self.is_on(node, id, epoch) {
            self.state.stale_reports += 1;
            return Reply::Stale;
        }
        self.heard_size(node, item);
        match status {
            Status::Running => self.resume(id),
            Status::Paused => self.pause(id),
            Status::Leaving(reason, notice) => self.leaving(node, id, reason, notice),
            Status::Stuck(reason) => {
                // That it was told to leave may never have been heard.
                self.leaving(node, id, reason, Span::ZERO);
                self.state.lease_mut(id).stuck = true;
                self.note_places(id);
            }
            Status::Ended(outcome, reason) => self.ended(node, id, outcome, reason),
        }
        Reply::Done
    }

    /// Notes that a node has told a lease to leave.
    fn leaving(&mut self, node: NodeId, id: LeaseId, reason: EvictionReason, notice: Span) {
        let reason = self.as_known(id, reason.said_by_node());
        if reason == EvictionReason::OwnerReturn {
            self.note_reclaim(node, id, notice);
            self.blame(id, node);
        }
        if notice.is_zero() {
            self.note_overstay(id);
        }
        told_to_leave(self, id, reason, notice, Some(node));
    }

    /// Returns why a lease leaves, given what its node says: that only knows that its permission
    /// was not renewed, and not that there was no credit for it.
    fn as_known(&self, id: LeaseId, said: EvictionReason) -> EvictionReason {
        let unpaid = said == EvictionReason::PermissionLost && self.is_spent(id);
        if unpaid { EvictionReason::BudgetExhausted } else { said }
    }

    /// Notes whose owner or failure a running lease ends for.
    fn blame(&mut self, id: LeaseId, node: NodeId) {
        let lease = self.state.lease_mut(id);
        if lease.state == LeaseState::Active {
            lease.blame = Some(node);
        }
    }

    /// Notes that nothing of a lease is left on a node, and why it ended if nobody here knew.
    fn ended(
        &mut self,
        node: NodeId,
        id: LeaseId,
        outcome: Outcome,
        reason: Option<EvictionReason>,
    ) {
        if self.state.lease(id).state == LeaseState::Active {
            let reason = match outcome {
                Outcome::Refused => {
                    self.back_off(node);
                    Some(EvictionReason::Refused)
                }
                Outcome::Stopped => reason.map(|said| self.as_known(id, said.said_by_node())),
                Outcome::Completed | Outcome::Failed => None,
            };
            if reason == Some(EvictionReason::OwnerReturn) {
                self.blame(id, node);
            }
            self.state.lease_mut(id).reason = reason;
        }
        end_on(self, id, node, outcome);
    }

    /// Asks a node that has refused a start nothing for an interval: it will say why.
    fn back_off(&mut self, node: NodeId) {
        let again = self.state.now.after(self.state.rules.balance.monitoring_interval);
        self.state.nodes[node].asked_again = again;
        self.state.changed.note(node);
        self.state.timers.set(again, Due::Ask(node));
    }

    /// Notes that a lease is paused: neither charged nor earned, and its limit stands still.
    fn pause(&mut self, id: LeaseId) {
        let now = self.state.now;
        let lease = self.state.lease(id);
        if lease.state != LeaseState::Active || lease.paused.is_some() {
            return;
        }
        clear_timers(self.state, id);
        self.state.lease_mut(id).begin_pause(now);
        set_timer(self.state, id);
        self.note_places(id);
    }

    /// Notes that a lease ends at another time than it did.
    fn note_places(&mut self, id: LeaseId) {
        for node in self.state.lease(id).places() {
            self.state.changed.note(node);
        }
    }

    /// Notes that a paused lease goes on.
    fn resume(&mut self, id: LeaseId) {
        let now = self.state.now;
        if self.state.lease(id).paused.is_none() {
            return;
        }
        clear_timers(self.state, id);
        self.state.lease_mut(id).end_pause(now);
        set_timer(self.state, id);
        self.watch_idle(id);
        self.note_places(id);
    }
}
