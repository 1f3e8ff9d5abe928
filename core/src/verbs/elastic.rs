//! Elastic leases: CPU beside what a job needs, where nobody else needs it.
//!
//! What a lease has beside its needs stays free for everybody: no decision looks at it, and whoever
//! needs it gets it in the same entry. So it never keeps anybody waiting, and only its payer and
//! its node know of it. It grows when a term begins, because a term's credit is set aside before
//! it.

use super::Work;
use crate::canary::{Canary, planted};
use crate::due::Due;
use crate::effect::Effect;
use crate::ids::{LeaseId, NodeId};
use crate::leases::LeaseState;
use crate::units::MilliCores;
use crate::wire::{Item, Status};
use alloc::vec::Vec;
use core::cmp::Reverse;

/// The least by which a lease grows, where it can use so much more: less is not worth telling.
const GROWS_BY: MilliCores = MilliCores::new(250);

impl Work<'_> {
    /// Takes back on a node what leases have beside their needs and others need now: from the
    /// lowest class first, and there from the youngest.
    pub fn squeeze(&mut self, node: NodeId) {
        let row = &self.state.nodes[node];
        if row.extra.is_zero() {
            return;
        }
        let mut over = row.extra.saturating_sub(row.free().cpu);
        if over.is_zero() || planted(Canary::KeepExtra) {
            return;
        }
        let leases = row.leases.iter().map(|id| self.state.lease(*id));
        let having = leases.filter(|lease| !lease.extra.cpu.is_zero());
        let mut having: Vec<(u8, Reverse<LeaseId>, MilliCores)> = having
            .map(|lease| (lease.priority.class(), Reverse(lease.id), lease.extra.cpu))
            .collect();
        having.sort_unstable();
        for (_, Reverse(id), has) in having {
            let less = has.min(over);
            over = over.saturating_sub(less);
            if !less.is_zero() {
                self.set_extra(id, has.saturating_sub(less));
                self.order_to_go_on(id);
            }
        }
    }

    /// Squeezes a node that lends less with the instant's wake.
    pub fn squeeze_later(&mut self, node: NodeId) {
        if !self.state.nodes[node].extra.is_zero() {
            self.state.timers.set(self.state.now, Due::Squeeze(node));
        }
    }

    /// Sets what a lease has beside its needs.
    pub fn set_extra(&mut self, id: LeaseId, cpu: MilliCores) {
        let now = self.state.now;
        let lease = self.state.lease_mut(id);
        let (old, ran) = (lease.extra.cpu, lease.ran_in_term(now));
        if cpu == old {
            return;
        }
        lease.extra.set(cpu, ran);
        let (all, places) = (lease.cpu(), lease.places());
        for node in places {
            let extra = &mut self.state.nodes[node].extra;
            *extra = extra.saturating_add(cpu).saturating_sub(old);
        }
        self.effects.push(Effect::Resized { lease: id, cpu: all });
    }

    /// Gives a lease whose next term begins what is left over on its node, as far as it can use and
    /// pay that. One that stands still can use nothing.
    ///
    /// # Panics
    /// When the credit that was set aside for the term as it was is gone: our bug.
    pub fn grow(&mut self, id: LeaseId) {
        let lease = self.state.lease(id);
        let ([member], Some(span)) = (lease.members.as_slice(), lease.next_span) else { return };
        if lease.paused.is_some() || lease.suspended.is_some() {
            return;
        }
        let (has, standing) = (lease.extra.cpu, lease.next_priority);
        let most = self.state.job(lease.job).extra;
        let more = self.state.nodes[member.node].spare().min(most.saturating_sub(has));
        if more.is_zero() || more < GROWS_BY.min(most.saturating_sub(has)) {
            return;
        }
        self.take_back(id);
        self.set_extra(id, has.saturating_add(more));
        self.set_aside(id, span, standing);
        if self.state.lease(id).next_span.is_none() {
            self.set_extra(id, has);
            self.set_aside(id, span, standing);
        }
        assert!(self.state.lease(id).next_span.is_some(), "what was set aside is there again");
        if !self.state.network {
            self.order_to_go_on(id);
        }
    }

    /// Follows what a node says that a lease has: the node's owner comes first.
    pub(super) fn heard_size(&mut self, node: NodeId, item: Item) {
        let (network, id) = (self.state.network, item.lease);
        let lease = self.state.lease(id);
        let runs = matches!(item.status, Status::Running | Status::Paused);
        let stays = lease.state == LeaseState::Active && self.state.cpu_of(id).is_some();
        if !runs || !stays || network && self.state.links[node].is_ordering(id) {
            return;
        }
        let (more, less) = (item.cpu > lease.cpu(), lease.has_more_than(item.cpu));
        if less {
            let extra = item.cpu.saturating_sub(lease.needs.cpu);
            self.set_extra(id, extra);
        }
        if more || less && !network {
            self.order_to_go_on(id);
        }
    }
}
