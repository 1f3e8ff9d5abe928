//! Health: nodes on which everything fails, and jobs with which every node is lost.
//!
//! A job's own exit code says nothing of a node. That jobs of several accounts fail there one after
//! another, while the same accounts' jobs complete elsewhere, does: one bad node would else take
//! job after job until the queue is empty.

use super::Work;
use crate::command::Outcome;
use crate::effect::{Effect, EvictionReason};
use crate::ids::{AccountId, JobId, NodeId};
use crate::leases::Lease;
use crate::nodes::Failure;
use crate::units::Time;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

/// Most failures that are remembered of a node.
const FAILURES_MAX: usize = 64;

impl Work<'_> {
    /// Notes how a job has ended on its nodes, and drains one on which too many have failed.
    pub(super) fn note_health(&mut self, lease: &Lease, outcome: Outcome) {
        let soon = lease.worked(self.state.now) <= self.state.rules.health.soon;
        let nodes: BTreeSet<NodeId> = lease.members.iter().map(|member| member.node).collect();
        for node in nodes {
            match outcome {
                Outcome::Completed => self.note_completed(lease, node),
                Outcome::Failed if soon => self.note_failed(lease, node),
                Outcome::Failed | Outcome::Stopped | Outcome::Refused => {}
            }
        }
    }

    /// Notes that a node works, for jobs like this one at least.
    fn note_completed(&mut self, lease: &Lease, node: NodeId) {
        let like = |f: &Failure| (f.account, f.shape) == (lease.account, lease.shape);
        self.state.nodes[node].failures.retain(|failure| !like(failure));
        let [last, other] = &mut self.state.ledger.accounts[lease.account].completed;
        if last.is_some_and(|(there, _)| there != node) {
            *other = *last;
        }
        *last = Some((node, self.state.now));
    }

    /// Notes that a job failed on a node soon after its start.
    fn note_failed(&mut self, lease: &Lease, node: NodeId) {
        let (now, rules) = (self.state.now, &self.state.rules.health);
        let Some(most) = rules.failures else { return };
        let since = now.before(rules.window);
        let (job, account, shape) = (lease.job, lease.account, lease.shape);
        let failures = &mut self.state.nodes[node].failures;
        failures.retain(|failure| failure.at >= since);
        if failures.len() == FAILURES_MAX {
            failures.remove(0);
        }
        failures.push(Failure { at: now, job, account, shape });
        let counts = |f: &&Failure| self.completes_elsewhere(f.account, node, since);
        let bad: Vec<&Failure> = self.state.nodes[node].failures.iter().filter(counts).collect();
        let jobs: BTreeSet<JobId> = bad.iter().map(|failure| failure.job).collect();
        let accounts: BTreeSet<AccountId> = bad.iter().map(|failure| failure.account).collect();
        let enough = jobs.len() >= usize::try_from(most).unwrap_or(usize::MAX);
        if !enough || accounts.len() < 2 || self.state.nodes[node].draining.is_some() {
            return;
        }
        let (jobs, accounts) = (jobs.len(), accounts.len());
        let reason = format!(
            "{jobs} jobs of {accounts} accounts failed here soon after their start, the last of \
             them {job}, and such complete elsewhere"
        );
        let drained = self.drain(node, &reason);
        debug_assert!(drained.is_ok(), "a lease's node exists");
        self.effects.push(Effect::Drained { node });
    }

    /// Returns whether work of an account has completed on another node since.
    fn completes_elsewhere(&self, account: AccountId, node: NodeId, since: Time) -> bool {
        let places = self.state.account(account).completed;
        places.into_iter().flatten().any(|(there, at)| there != node && at >= since)
    }

    /// Notes whether the node was lost soon after a job's start there: one with which node after
    /// node is lost may be what they are lost by.
    pub(super) fn note_lost_with(&mut self, lease: &Lease, reason: EvictionReason, until: Time) {
        let soon = until.since(lease.granted) <= self.state.rules.health.soon;
        let job = self.state.job_mut(lease.job);
        match (reason, soon) {
            (EvictionReason::NodeFailure, true) => job.lost_with.extend(lease.blame),
            (EvictionReason::NodeFailure, false) => job.lost_with.clear(),
            _ => {}
        }
    }
}
