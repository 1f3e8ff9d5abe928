//! Deadlines that processes keep without their station, and what must hold between both halves.

use super::World;
use super::pace::{Doing, Process};
use crate::kernel::Class;
use gridcore::canary::{Canary, planted};
use gridcore::effect::{FinalState, JobEnd};
use gridcore::explain::{Blocker, Explanation, explain};
use gridcore::ids::{JobId, LeaseId, NodeId};
use gridcore::leases::LeaseState;
use gridcore::station::held::{Held, Phase};
use gridcore::units::{Span, Time};
use gridcore::wire::EvictionReason;

/// How late the end of a process may be noticed.
const SLACK: Span = Span::seconds(2);

/// Returns whether a reason to wait may stay once nothing happens any more.
const fn lasts(blocker: &Blocker) -> bool {
    match blocker {
        Blocker::Held
        | Blocker::BackoffAfterFailure { .. }
        | Blocker::DependencyNeverSatisfied { .. }
        | Blocker::NoMatchingNode
        | Blocker::QuotaExceeded { .. }
        | Blocker::ExceedsMaxShare { .. }
        | Blocker::LeasesExceeded { .. }
        | Blocker::AtpBudgetExceeded { .. }
        | Blocker::BudgetCommitted { .. }
        | Blocker::PriceAboveLimit { .. }
        | Blocker::NoOffers { .. }
        | Blocker::Resources { .. }
        | Blocker::Priority { .. }
        | Blocker::GangIncomplete { .. }
        | Blocker::Affinity { .. }
        | Blocker::LowConfidence { .. }
        | Blocker::NodeDraining { .. } => true,
        Blocker::BackoffAfterUnpaid { .. }
        | Blocker::Dependency { .. }
        | Blocker::BeginTime { .. }
        | Blocker::Reservation { .. }
        | Blocker::WaitingForPreempted { .. }
        | Blocker::NodeUnreachable { .. }
        | Blocker::WaitingForReclaim { .. }
        | Blocker::MinRuntimeProtected { .. } => false,
    }
}

impl World {
    /// Sets until when a process may run, whatever becomes of its station.
    pub(super) fn set_deadline(&mut self, node: NodeId, lease: LeaseId, until: Time) {
        if self.far.is_none() {
            return;
        }
        let Some(index) = self.process_on(node, lease) else { return };
        let at = self.global(node, until);
        let kill = self.station(node).map_or(Span::ZERO, |s| s.watch.offering.kill);
        if let Some(process) = self.processes.get_mut(&index) {
            let bounds = process.bounds_mut();
            (bounds.until, bounds.kill) = (until, kill);
        }
        self.events.push(at.max(self.now), Class::Deadline, index as u64);
    }

    /// Sets when a process that was told to leave is killed, whatever becomes of its station.
    pub(super) fn set_kill(&mut self, node: NodeId, lease: LeaseId, kill_at: Time) {
        let index = self.process_on(node, lease).filter(|_| self.far.is_some());
        let Some(process) = index.and_then(|i| self.processes.get_mut(&i)) else { return };
        let bounds = process.bounds_mut();
        bounds.kill_at = Some(bounds.kill_at.map_or(kill_at, |at| at.min(kill_at)));
        let at = self.global(node, kill_at).max(self.now);
        self.events.push(at, Class::Deadline, index.unwrap_or(0) as u64);
    }

    /// Ends a process whose permission is over: first with a notice, then for good. One that is
    /// there even later is a breach.
    pub(super) fn deadline(&mut self, index: u64) {
        let Ok(index) = usize::try_from(index) else { return };
        let Some(process) = self.processes.get(&index).cloned() else { return };
        let (bounds, node) = (process.bounds(), process.node);
        if !process.is_alive() || process.stuck || planted(Canary::SkipDeadline) {
            return;
        }
        if let Some(thaws) = self.frozen_until(node) {
            self.events.push(thaws, Class::Deadline, index as u64);
            return;
        }
        let local = self.local(node);
        if bounds.kill_at.is_some_and(|at| at <= local) {
            self.kill(node, process.lease);
        }
        let (until, killed) = (bounds.until, bounds.until.after(bounds.kill));
        if local < until {
            return;
        }
        let next = if local < killed {
            let at = self.global(node, killed);
            if process.ends > at {
                self.notice(node, process.lease, at);
            }
            at
        } else if local < killed.after(SLACK) {
            self.kill(node, process.lease);
            self.global(node, killed.after(SLACK))
        } else {
            let thawed = self.thawed_at(node).after(SLACK) >= self.now;
            if !thawed {
                let found = format!("{} on {node} outlives its permission", process.lease);
                self.broken.push(format!("[51] {found}: {until}, now {local}"));
            }
            return;
        };
        self.events.push(next, Class::Deadline, index as u64);
    }

    /// Kills a process; some do not die for a while.
    pub(super) fn kill(&mut self, node: NodeId, lease: LeaseId) {
        let now = self.now;
        if self.host(node).is_none_or(|host| host.stuck_until <= now) {
            self.stop_at(node, lease, now);
            return;
        }
        let Some(index) = self.process_on(node, lease) else { return };
        let Some(process) = self.processes.get_mut(&index) else { return };
        if process.is_alive() && process.ends > now {
            (process.stuck, process.ends) = (true, Time::MAX);
            if let Some(far) = &mut self.far {
                far.count("kill_survived");
            }
        }
    }

    /// Puts the end of a process off while its machine stands still.
    pub(super) fn defer_end(&mut self, index: usize) -> bool {
        let node = self.processes.get(&index).map(|process| process.node);
        let Some(thaws) = node.and_then(|node| self.frozen_until(node)) else { return false };
        if let Some(process) = self.processes.get_mut(&index) {
            process.ends = thaws;
        }
        self.events.push(thaws, Class::End, index as u64);
        true
    }

    fn frozen_until(&self, node: NodeId) -> Option<Time> {
        let at = self.thawed_at(node);
        (at > self.now).then_some(at)
    }

    /// Returns when a machine goes on that stands still, or last did.
    fn thawed_at(&self, node: NodeId) -> Time {
        self.host(node).map_or(Time::ZERO, |host| host.frozen_until)
    }

    /// Checks that a node starts nothing while it lends nothing: that is its owner's veto.
    fn check_veto(&mut self, node: NodeId, lease: LeaseId) {
        let vetoed =
            |s: &gridcore::station::Station| !s.machine.dedicated && !s.ladder.lending.open;
        if self.station(node).is_some_and(vetoed) {
            self.broken.push(format!("[veto] {lease} starts on {node}, which lends nothing"));
        }
    }

    /// Checks that a lease is started once, and that no other attempt of its job is alive: who
    /// stands still or cannot be killed does not count, its result will be refused.
    pub(super) fn check_start(&mut self, node: NodeId, lease: LeaseId) {
        if self.far.is_none() {
            return;
        }
        let Some(index) = self.process_on(node, lease) else { return };
        let Some(process) = self.processes.get(&index).cloned() else { return };
        self.check_veto(node, lease);
        if process.doing != Doing::Nothing {
            self.broken.push(format!("[P3] {lease} is started twice on {node}"));
        }
        let others = self
            .living()
            .filter(|(_, other)| other.row == process.row && other.lease != lease && !other.stuck);
        let found: Vec<String> = others
            .filter(|(_, other)| self.frozen_until(other.node).is_none())
            .map(|(_, other)| format!("{} on {} and {lease} on {node}", other.lease, other.node))
            .collect();
        self.broken.extend(found.into_iter().map(|both| format!("[51] two attempts live: {both}")));
    }

    /// Checks that nothing runs of what a node calls empty (LIVE.md P7).
    pub(super) fn check_empty(&mut self, node: NodeId) {
        let Some(station) = self.station(node).filter(|_| self.far.is_some()) else { return };
        let empty = station.leases.values().filter(|held| !held.is_alive());
        let alive = |lease| {
            let process = self.process_on(node, lease).and_then(|i| self.processes.get(&i));
            process.is_some_and(Process::is_alive)
        };
        let runs = empty.map(|held| held.start.lease).find(|lease| alive(*lease));
        if let Some(lease) = runs {
            self.broken.push(format!("[P7] {lease} counts as gone on {node} and runs"));
        }
    }

    /// Checks that processes do what their station takes them to do, whatever it died of before:
    /// they stand still when it paused them, and were told when it takes them to leave.
    pub(super) fn check_agrees(&mut self, node: NodeId) {
        let Some(station) = self.station(node).filter(|_| self.far.is_some()) else { return };
        let local = self.local(node);
        let wrong = |held: &Held| {
            let process = self.processes.get(&self.process_on(node, held.start.lease)?)?;
            let bounds = process.bounds();
            if bounds.until <= local {
                // Its keeper lets it leave before the station does.
                return None;
            }
            let as_taken = match (held.phase, process.doing) {
                (_, Doing::Nothing | Doing::Ended) | (Phase::Killed(..) | Phase::Ended(..), _) => {
                    true
                }
                (Phase::Running, doing) if !held.suspended => matches!(doing, Doing::Working(_)),
                (Phase::Running | Phase::Paused(_), doing) => matches!(doing, Doing::Paused(_)),
                (Phase::Leaving(at, _), _) => bounds.kill_at.is_some_and(|told| told <= at),
            };
            (!as_taken).then(|| {
                let (lease, phase, doing) = (held.start.lease, held.phase, process.doing);
                format!("[P10] {lease} on {node} is {phase:?} and does {doing:?}")
            })
        };
        let found = station.leases.values().find_map(wrong);
        self.broken.extend(found);
        let found = self.check_suspended(node);
        self.broken.extend(found);
    }

    /// Checks that a node whose coordinator has nothing more to say to it knows what is suspended.
    fn check_suspended(&self, node: NodeId) -> Option<String> {
        let (station, state) = (self.station(node)?, self.grid.state());
        let ours = &state.links[node];
        let theirs = station.link.as_ref()?;
        if ours.session == 0 || ours.session != theirs.session {
            return None;
        }
        station.leases.values().find_map(|held| {
            let (lease, epoch) = held.name();
            let open = state.leases.get(&lease)?;
            let same = open.epoch == epoch && open.state == LeaseState::Active;
            let settled = same && held.is_staying() && !ours.is_ordering(lease);
            (settled && held.suspended != open.suspended.is_some())
                .then(|| format!("[P9] {lease} on {node} is suspended at one end only"))
        })
    }

    /// Checks that nothing runs any more of a job that is over.
    pub(super) fn check_finished(&mut self, row: usize, end: &JobEnd) {
        if self.far.is_none() || end.state == FinalState::Cancelled {
            return;
        }
        let alive = self.living().filter(|(_, p)| p.row as usize == row);
        let alive = alive.filter(|(_, p)| !p.stuck && self.frozen_until(p.node).is_none());
        let found: Vec<String> = alive.map(|(_, p)| format!("{} on {}", p.lease, p.node)).collect();
        if !found.is_empty() {
            self.broken.push(format!("[P7] {} is over and {found:?} runs", end.job));
        }
    }

    /// Notes that a lease is told to leave for its owner's sake.
    pub(super) fn note_leaving(&mut self, node: NodeId, lease: LeaseId) {
        let Some(far) = &self.far else { return };
        let held = self.station(node).and_then(|station| station.leases.get(&lease));
        let told = held.and_then(|held| held.marker().leaving);
        let Some((kill_at, EvictionReason::OwnerReturn)) = told else { return };
        let (now, kill_at) = (self.now, self.global(node, kill_at));
        let cut =
            self.host(node).is_none_or(|host| host.is_cut(true, now) || host.is_cut(false, now));
        let reached = far.store.up && !cut;
        let bound = kill_at.since(now).saturating_add(SLACK);
        let Some(index) = self.process_on(node, lease) else { return };
        if let Some(process) = self.processes.get_mut(&index)
            && process.is_alive()
        {
            process.bounds_mut().reclaimed.get_or_insert((now, bound, reached));
        }
    }

    /// Notes how long an owner waited for what has just ended. Of a machine that stood still
    /// meanwhile nothing is said: nobody could use it.
    pub(super) fn note_reclaim(&mut self, index: usize) {
        let Some(process) = self.processes.get_mut(&index) else { return };
        if process.bounds().reclaimed.is_none() {
            return;
        }
        let (Some((told, bound, reached)), false) =
            (process.bounds_mut().reclaimed.take(), process.stuck)
        else {
            return;
        };
        let (took, node, lease) = (self.now.since(told), process.node, process.lease);
        if self.thawed_at(node) > told {
            return;
        }
        let Some(far) = &mut self.far else { return };
        far.reclaims.push((took, bound, reached));
        self.observer.count_reclaim(took);
        if took > bound {
            let found = format!("{lease} left {node} {} ms after its owner came", took.get());
            self.broken.push(format!("[RULES 4] {found}, {} are allowed", bound.get()));
        }
    }

    /// Returns the jobs that run, or wait for what does not last: where all must end, for anything
    /// but credit or a price, of which the one may never be enough and the other never low enough.
    pub(super) fn stranded(&self) -> impl Iterator<Item = (JobId, Option<Explanation>)> {
        let state = self.grid.state();
        let waits = state.jobs.keys().filter(|id| !self.may_stay(*id));
        waits.map(|id| (id, explain(state, id)))
    }

    /// Returns whether a job waits for what may stay, or for a job that does.
    fn may_stay(&self, id: JobId) -> bool {
        let all_end = self.far.as_ref().is_some_and(|far| far.all_end);
        let why = explain(self.grid.state(), id);
        let stays = |blocker: &Blocker| {
            use Blocker::{AtpBudgetExceeded, BackoffAfterUnpaid, PriceAboveLimit};
            use Blocker::{Dependency, Priority};
            let unpaid = matches!(blocker, AtpBudgetExceeded { .. } | PriceAboveLimit { .. });
            // What was stopped for want of one of these waits before it tries again.
            let tries = matches!(blocker, BackoffAfterUnpaid { at } if *at > self.grid_now());
            let other = matches!(blocker, Dependency { on: other, .. } | Priority { behind: other }
                if *other < id && self.may_stay(*other));
            unpaid || tries || other || (!all_end && lasts(blocker))
        };
        why.is_some_and(|why| why.blockers.iter().any(stays))
    }

    /// Checks that once the weather was over everything has settled: every job has ended, or waits
    /// for what only people can change; nothing is held anywhere, and every node is known.
    pub(super) fn check_end(&mut self) {
        let Some(far) = &self.far else { return };
        if !self.broken.is_empty() || self.now < far.network.heals {
            return;
        }
        let open = self.record.jobs.len() as u64 - self.counts.ended;
        let lost = open.saturating_sub(self.grid.state().jobs.len() as u64);
        let mut found: Vec<String> = (lost > 0)
            .then(|| format!("{lost} jobs that were asked for are gone"))
            .into_iter()
            .collect();
        found.extend(
            self.stranded().take(3).map(|(id, why)| format!("{id} has not ended: {why:?}")),
        );
        for (id, node) in self.grid.state().nodes.iter() {
            let link = &self.grid.state().links[id];
            if node.silent || !link.outbox.is_empty() {
                found.push(format!("{id} is silent: {}, open: {:?}", node.silent, link.outbox));
            }
        }
        let held = self.stations.iter().flat_map(|station| station.leases.values());
        found.extend(
            held.map(|held| format!("{} is still held: {:?}", held.start.lease, held.phase)),
        );
        if let Some(lease) = self.grid.state().leases.values().next() {
            found.push(format!("{} is still open: {:?}", lease.id, lease.state));
        }
        self.broken.extend(found.into_iter().map(|what| format!("[live] {what}")));
    }

    /// Keeps nothing of a lease on a node's disk.
    pub(super) fn erase(&mut self, node: NodeId, lease: LeaseId) {
        let now = self.now;
        self.strike(node, |host| host.disk.erase(now, lease));
    }
}
