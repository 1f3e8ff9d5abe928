//! Idle GPUs: a lease that leaves all it holds unused is warned, and told to leave when it stays
//! so. Which do says [`crate::idle`].
//!
//! What a sample shows belongs to its node alone (invariant 46): the leases are looked at with that
//! instant's wake. A node has one timer, for the first of its leases that something is due about.

use super::Work;
use super::release::begin_release;
use crate::due::Due;
use crate::effect::{Effect, EvictionReason, Idleness};
use crate::idle::{next, reclaim_at, since, warn_at};
use crate::ids::{LeaseId, NodeId};
use crate::units::{BasisPoints, Time};
use crate::wire::Sample;
use alloc::vec::Vec;

impl Work<'_> {
    /// Notes what leases use of a node's GPUs, as far as a sample says it.
    pub(super) fn note_use(&mut self, id: NodeId, sample: &Sample) {
        let (now, least) = (self.state.now, self.state.rules.utilization.gpu_min);
        let said = sample.gpus.iter().map(|gpu| gpu.leased).chain(core::iter::repeat(None));
        let mut idle = false;
        for (gpu, in_use) in self.state.nodes[id].gpus.iter_mut().zip(said) {
            idle |= gpu.note_use(in_use, least, now);
        }
        if idle {
            self.look_at(id, now);
        }
    }

    /// Knows nothing any more of what leases use of a node's GPUs: clocks start anew when it is
    /// heard again.
    pub(super) fn forget_use(&mut self, id: NodeId) {
        for gpu in &mut self.state.nodes[id].gpus {
            (gpu.in_use, gpu.idle_since) = (None, None);
        }
    }

    /// Judges all GPUs by new rules; `least` is what counted as use before. Where another part does
    /// now, what is idle is so from now on.
    pub(super) fn adopt_utilization(&mut self, least: BasisPoints) {
        let (now, new) = (self.state.now, self.state.rules.utilization.gpu_min);
        for id in self.state.nodes.ids() {
            for gpu in &mut self.state.nodes[id].gpus {
                gpu.idle_since = gpu.idle_since.filter(|_| new == least);
                gpu.note_use(gpu.in_use, new, now);
            }
            if self.state.nodes[id].gpus.iter().any(|gpu| gpu.idle_since.is_some()) {
                self.look_at(id, now);
            }
        }
    }

    /// Makes sure that a node's leases are looked at by then; there is one such timer per node.
    fn look_at(&mut self, id: NodeId, at: Time) {
        let node = &mut self.state.nodes[id];
        if node.idle_check.is_some_and(|old| old <= at) {
            return;
        }
        if let Some(old) = node.idle_check.replace(at) {
            self.state.timers.clear(old, Due::Idle(id));
        }
        self.state.timers.set(at, Due::Idle(id));
    }

    /// Sets when a lease is looked at, should its GPUs stay idle.
    pub(super) fn watch_idle(&mut self, id: LeaseId) {
        let lease = self.state.lease(id);
        let Some(at) = next(self.state, lease) else { return };
        for node in lease.places() {
            self.look_at(node, at);
        }
    }

    /// Warns or ends what has left its GPUs on a node idle for too long.
    pub fn look_for_idle(&mut self, id: NodeId) {
        let now = self.state.now;
        let node = &mut self.state.nodes[id];
        if node.idle_check.is_none_or(|at| at > now) {
            return;
        }
        node.idle_check = None;
        let leases: Vec<LeaseId> = node.leases.iter().copied().collect();
        for lease in leases {
            self.judge_idle(lease);
            if let Some(at) = next(self.state, self.state.lease(lease)) {
                self.look_at(id, at);
            }
        }
    }

    /// Warns one lease or tells it to leave, if it is time.
    fn judge_idle(&mut self, id: LeaseId) {
        let (now, lease) = (self.state.now, self.state.lease(id));
        let Some(since) = since(self.state, lease) else { return };
        let (job, reclaim_at) = (lease.job, reclaim_at(self.state, since));
        if reclaim_at.is_some_and(|at| at <= now) {
            let grace = self.state.rules.preemption.grace;
            begin_release(self, id, EvictionReason::IdleTimeout, grace);
        } else if warn_at(self.state, lease, since).is_some_and(|at| at <= now) {
            self.state.lease_mut(id).warned = Some(since);
            self.effects.push(Effect::Idle(Idleness { lease: id, job, since, reclaim_at }));
        }
    }
}
