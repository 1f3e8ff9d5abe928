//! Rebalancing: running work leaves nodes under high pressure for others (RULES.md section 7).
//!
//! A move is an eviction whose place elsewhere is kept from the start: the lease is told to leave,
//! and its job starts on its claim when it has. Which moves there are says [`crate::rebalance`].

use super::Work;
use super::release::begin_release;
use crate::config::Mode;
use crate::due::Due;
use crate::effect::EvictionReason;
use crate::ids::{NodeId, PoolId};
use crate::rebalance::{Move, is_donor, moves};
use crate::units::Span;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

impl Work<'_> {
    /// Sets when a node's pool is looked at next, if work should leave the node.
    pub fn watch_pressure(&mut self, id: NodeId) {
        let (now, rules) = (self.state.now, &self.state.rules);
        let node = &self.state.nodes[id];
        let moves = rules.rebalance.mode == Mode::DynamicBalancing && !node.leases.is_empty();
        if !moves || !is_donor(node, now, &rules.balance) {
            return;
        }
        let (interval, id) = (rules.rebalance.interval, node.spec.pool);
        let pool = &mut self.state.pools[id];
        if pool.balance_at.is_none() {
            // What the samples of this instant lead to, such as a pause, is known just after it.
            let soon = now.after(Span::new(1));
            let at = pool.balanced.map_or(soon, |last| last.after(interval).max(soon));
            pool.balance_at = Some(at);
            self.state.timers.set(at, Due::Rebalance(id));
        }
    }

    /// Moves what should move in one pool, and looks again while a node is under high pressure.
    pub fn rebalance(&mut self, id: PoolId) {
        let now = self.state.now;
        let pool = &mut self.state.pools[id];
        if pool.balance_at.is_none_or(|at| at > now) {
            return;
        }
        (pool.balanced, pool.balance_at) = (Some(now), None);
        if self.state.rules.rebalance.mode != Mode::DynamicBalancing {
            return;
        }
        for step in moves(self.state, id) {
            self.carry_over(step);
        }
        let nodes: Vec<NodeId> = self.state.pools[id].nodes.clone();
        for node in nodes {
            self.watch_pressure(node);
        }
    }

    /// Keeps a running job's next place and tells it to leave the present one.
    fn carry_over(&mut self, step: Move) {
        let now = self.state.now;
        let lease = self.state.lease(step.lease);
        let (job, needs) = (lease.job, lease.needs);
        for node in [step.from, step.to.node] {
            self.state.nodes[node].moved_at = Some(now);
        }
        self.state.job_mut(job).moved_at = Some(now);
        let members = (Vec::from([step.to]), None);
        self.keep_claim(job, needs, members, (BTreeSet::from([step.lease]), BTreeSet::new()));
        let grace = self.state.rules.preemption.grace;
        begin_release(self, step.lease, EvictionReason::Rebalance, grace);
    }
}
