//! Health: nodes on which everything fails, and jobs with which every node is lost.
//!
//! A job's own exit code says nothing of a node. That jobs of several accounts fail there one after
//! another, while the same accounts' jobs complete elsewhere, does: one bad node would else take
//! job after job until the queue is empty.

use super::Work;
use crate::command::Outcome;
use crate::effect::Effect;
use crate::ids::{AccountId, JobId, NodeId};
use crate::leases::Lease;
use crate::ledger::Ended;
use crate::nodes::Failure;
use crate::reputation::Fault;
use crate::units::Time;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

/// Most failures that are remembered of a node.
const FAILURES_MAX: usize = 64;

impl Work<'_> {
    /// Notes how a job has ended, and drains a node on which too many have failed. Which member of
    /// a gang was the first to fail is not known: a gang says nothing of its nodes by failing.
    pub(super) fn note_health(&mut self, lease: &Lease, outcome: Outcome) {
        match outcome {
            Outcome::Completed => lease.nodes().for_each(|node| self.note_well(lease, node)),
            Outcome::Failed => {
                let soon = lease.worked(self.state.now) <= self.state.rules.health.soon;
                if let Some(node) = alone(lease).filter(|_| soon) {
                    self.note_failed(lease, node);
                }
            }
            Outcome::Stopped | Outcome::Refused => {}
        }
    }

    /// Notes that a node works, for jobs like this one at least.
    fn note_well(&mut self, lease: &Lease, node: NodeId) {
        let like = |f: &Failure| (f.account, f.shape) == (lease.account, lease.shape);
        self.state.nodes[node].failures.retain(|failure| !like(failure));
        self.note_end(lease.account, Ended { node, at: self.state.now, well: true });
    }

    /// Notes how the last job of an account ended, and keeps the last on another node.
    fn note_end(&mut self, account: AccountId, end: Ended) {
        let [last, other] = &mut self.state.ledger.accounts[account].ended;
        if last.is_some_and(|last| last.node != end.node) {
            *other = *last;
        }
        *last = Some(end);
    }

    /// Notes that a job failed on a node soon after its start.
    fn note_failed(&mut self, lease: &Lease, node: NodeId) {
        let (at, rules) = (self.state.now, &self.state.rules.health);
        let Some(most) = rules.failures else { return };
        let since = at.before(rules.window);
        let (job, account, shape) = (lease.job, lease.account, lease.shape);
        let failures = &mut self.state.nodes[node].failures;
        failures.retain(|failure| failure.at >= since);
        if failures.len() == FAILURES_MAX {
            failures.remove(0);
        }
        failures.push(Failure { at, job, account, shape });
        self.note_end(account, Ended { node, at, well: false });
        let [_, elsewhere] = self.state.account(account).ended;
        if elsewhere.is_some_and(|end| !end.well && end.at >= since) {
            self.blame_borrower(lease, Fault::Crashes);
        }
        let counts = |f: &&Failure| self.is_well_elsewhere(f.account, node, since);
        let bad: Vec<&Failure> = self.state.nodes[node].failures.iter().filter(counts).collect();
        let jobs: BTreeSet<JobId> = bad.iter().map(|failure| failure.job).collect();
        let accounts: BTreeSet<AccountId> = bad.iter().map(|failure| failure.account).collect();
        let enough = jobs.len() >= usize::try_from(most).unwrap_or(usize::MAX);
        if !enough || accounts.len() < 2 || !self.may_spare(node) {
            return;
        }
        let (jobs, accounts) = (jobs.len(), accounts.len());
        let reason = format!(
            "{jobs} jobs of {accounts} accounts failed here soon after their start, the last of \
             them {job}, and such complete elsewhere"
        );
        // What it claims cannot be used: it has to prove anew that there is any of it.
        let row = &mut self.state.nodes[node];
        row.reputation.disprove(at);
        row.honoured = None;
        let drained = self.drain(node, &reason);
        debug_assert!(drained.is_ok(), "a lease's node exists");
        self.effects.push(Effect::Drained { node });
    }

    /// Returns whether what an account last ended on another node completed: else it is not this
    /// node that its jobs fail by.
    fn is_well_elsewhere(&self, account: AccountId, node: NodeId, since: Time) -> bool {
        let ends = self.state.account(account).ended;
        let last = ends.into_iter().flatten().find(|end| end.node != node);
        last.is_some_and(|end| end.well && end.at >= since)
    }

    /// Returns whether a node works and half of its pool stays in service without it.
    fn may_spare(&self, node: NodeId) -> bool {
        let nodes = &self.state.pools[self.state.nodes[node].spec.pool].nodes;
        let out = nodes.iter().filter(|node| self.state.nodes[**node].draining.is_some()).count();
        self.state.nodes[node].draining.is_none() && 2 * (out + 1) <= nodes.len()
    }

    /// Notes that a node was lost with a job, and returns whether there were too many, each soon
    /// after its start there: it may be what they are lost by.
    pub(super) fn note_lost_with(&mut self, lease: &Lease, until: Time) -> bool {
        // Over a network its node tells of the end only when it is there again.
        let seen = if self.state.network { lease.proof } else { until };
        let rules = &self.state.rules.health;
        let (soon, most) = (seen.since(lease.granted) <= rules.soon, rules.nodes);
        let job = self.state.job_mut(lease.job);
        if !soon {
            job.lost_with.clear();
        } else if most.is_some()
            && let Some(node) = lease.blame.or_else(|| alone(lease))
        {
            job.lost_with.insert(node);
        }
        most.is_some_and(|most| job.lost_with.len() >= usize::try_from(most).unwrap_or(usize::MAX))
    }
}

/// Returns the node of a lease that has only one.
fn alone(lease: &Lease) -> Option<NodeId> {
    let [first, rest @ ..] = lease.members.as_slice() else { return None };
    rest.iter().all(|member| member.node == first.node).then_some(first.node)
}
