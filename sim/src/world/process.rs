//! Processes: what the core's orders do to modelled jobs, and what becomes of their work.

use super::World;
use super::network::Far;
use super::pace::{Doing, Process, in_all, on_each};
use crate::kernel::Class;
use crate::record::{Amounts, DecisionRow, JobState, LeaseRow};
use crate::work::{JobExtra, JobRecord};
use gridcore::command::Outcome;
use gridcore::effect::{self, Confidence, Effect, FinalState, JobEnd, LeaseEnd};
use gridcore::encode::Digest;
use gridcore::ids::{Epoch, JobId, LeaseId, NodeId};
use gridcore::state::mix;
use gridcore::station::Event;
use gridcore::units::{BasisPoints, Span, Time};
use std::ops::Range;

/// How long a job that is told to leave takes at most; it draws a time up to this or its notice.
const VACATE_MAX: Span = Span::seconds(20);

/// How far a job's work has come.
#[derive(Clone, Debug, Default)]
pub(super) struct JobProgress {
    /// Work that no eviction can take any more.
    saved: Span,
    /// Since when it waits.
    pub(super) waits_since: Time,
    /// When the running attempt began.
    pub(super) began: Time,
    /// How long it was paused in the running attempt.
    rested: Span,
    /// Work that the running attempt has not done because it had less CPU than it can use.
    pub(super) slowed: Span,
    /// What its lease holds of each kind.
    pub(super) holds: Amounts,
    /// Rows of the running attempt's lease, first and count.
    rows: (u32, u32),
    /// Whether it keeps work when it is evicted.
    keeps: bool,
    /// Its number, once it has one.
    pub(super) job: Option<JobId>,
    /// What few jobs say.
    pub(super) said: Option<Box<JobExtra>>,
    /// The rows of the jobs that must complete before it may start.
    pub(super) after: Box<[u32]>,
    /// Whether its cancellation was acknowledged.
    pub(super) cancelled: bool,
}

impl JobProgress {
    pub(super) fn new(job: JobRecord, after: Box<[u32]>, now: Time) -> Self {
        let (keeps, said) = (job.checkpoint.is_some(), job.extra);
        Self { keeps, said, after, waits_since: now, ..Self::default() }
    }

    /// Returns the time that a restart takes before work goes on.
    fn restart(&self) -> Span {
        self.said.as_ref().map_or(Span::ZERO, |said| said.restart)
    }
}

impl World {
    /// Notes which row a job that the core accepted has, and that it waits.
    pub(super) fn admit(&mut self, id: JobId, row: u32) {
        debug_assert_eq!(self.row_of.len() as u64, id.get(), "job numbers have no gap");
        self.row_of.push(row);
        // Over a network that may be long after it was first asked for.
        if let Some(progress) = self.progress.get_mut(&(row as usize)) {
            progress.waits_since = self.now;
            if let Some(first) = progress.job.replace(id) {
                self.broken.push(format!("[P2] one submission has become {first} and {id}"));
            }
        }
        self.wait(row, true);
    }

    /// Returns what the job of a row says that few do.
    fn said(&self, row: u32) -> Option<&JobExtra> {
        self.progress.get(&(row as usize))?.said.as_deref()
    }

    /// Returns what the job of a row uses of each GPU, if it says so.
    pub(super) fn gpu_use(&self, row: u32) -> Option<BasisPoints> {
        self.said(row)?.gpu_use
    }

    /// Returns the row of a job.
    pub(super) fn row(&self, job: JobId) -> usize {
        let index = usize::try_from(job.get()).unwrap_or(usize::MAX);
        self.row_of.get(index).copied().unwrap_or(u32::MAX) as usize
    }

    /// Counts a job into or out of the waiting ones.
    fn wait(&mut self, row: u32, begins: bool) {
        let Some(job) = self.record.jobs.get(row as usize) else { return };
        let step = |count: &mut u32| *count = if begins { *count + 1 } else { *count - 1 };
        if let Some(count) = self.tally.waiting.get_mut(job.band() as usize) {
            step(count);
        }
        if !job.needs.gpu.is_zero() {
            step(&mut self.tally.gpu_waiting);
        }
    }

    /// Performs one effect of the core.
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Order { node, order } => self.order(node, order),
            Effect::Send { node, message } => self.send_down(node, &message),
            Effect::Granted { lease, epoch, job, confidence } => {
                self.granted(lease, epoch, job);
                self.decide("place", lease, Some(confidence));
            }
            Effect::Evicted { lease, reason, .. } => {
                let moves = reason == effect::EvictionReason::Rebalance;
                self.decide(if moves { "move" } else { "evict" }, lease, None);
                self.check_idle(lease, reason);
            }
            Effect::Resized { lease, .. } => {
                self.resized(lease);
                self.decide("resize", lease, None);
            }
            Effect::Idle(idle) => self.warned(idle.lease),
            Effect::Closed(end) => self.closed(&end),
            Effect::Finished(end) => self.finished(&end),
            Effect::Requeued { job, reason, lost } => self.requeued(job, reason, lost),
            Effect::Drained { .. } => {
                if let Some(far) = &mut self.far {
                    far.count("node_drained");
                }
            }
            Effect::Moved(transfer) => self.record.transfers.push(&(&transfer).into()),
            Effect::Offer { fate, .. } => self.observer.count_offer(fate),
        }
    }

    /// Notes that a job was granted a lease: its processes are there, and do nothing yet.
    fn granted(&mut self, lease: LeaseId, epoch: Epoch, job: JobId) {
        let index = self.row(job);
        let granted = self.grid.state().lease(lease);
        let (Some(row), Some(progress)) =
            (self.record.jobs.get_mut(index), self.progress.get_mut(&index))
        else {
            return;
        };
        row.wait = row.wait.saturating_add(self.now.since(progress.waits_since));
        self.observer.count_wait(row.band() as usize, self.now.since(row.submit), row.attempts);
        row.start = Some(self.now);
        row.attempts += 1;
        row.state = JobState::Running;
        row.nodes = granted.members.iter().map(|m| m.node.get()).collect();
        let overhead = if row.attempts > 1 { progress.restart() } else { Span::ZERO };
        let left = row.work.saturating_sub(progress.saved).saturating_add(overhead);
        (progress.began, progress.rested) = (self.now, Span::ZERO);
        (progress.slowed, progress.holds) = (Span::ZERO, in_all(granted));
        let most = granted.needs.cpu.saturating_add(self.grid.state().job(job).extra).get();
        // Whoever has all and always will does not count.
        let elastic = most > granted.needs.cpu.get();
        let speed = if elastic { (granted.cpu().get(), most) } else { (0, 0) };
        let first = u32::try_from(self.record.leases.len()).unwrap_or(u32::MAX);
        progress.rows = (first, u32::try_from(granted.members.len()).unwrap_or(0));
        let (attempt, band, holds) = (row.attempts, row.band() as usize, progress.holds);
        for member in &granted.members {
            self.record.leases.push(LeaseRow {
                lease: lease.get(),
                job: index as u64 + 1,
                attempt,
                node: member.node.get(),
                needs: on_each(granted).into(),
                gpus: member.devices,
                granted: self.now,
                ended: None,
                why: "",
                held: granted.held,
                settled: granted.settled,
                unpaid_terms: 0,
                metered_terms: 0,
                expired_terms: 0,
                metering: Digest::default(),
            });
        }
        self.tally.lend(band, holds, true);
        self.tally.running += 1;
        let row = u32::try_from(index).unwrap_or(u32::MAX);
        let mut before: Option<NodeId> = None;
        for node in self.grid.state().lease(lease).places() {
            debug_assert!(before.replace(node) != Some(node), "a lease has one tree per node");
            let process = Process { lease, epoch, node, row, left, speed, ..Process::default() };
            self.processes.insert(self.process_count, process);
            self.process_count += 1;
        }
        self.processes_to.push(self.process_count);
        debug_assert_eq!(self.processes_to.len() as u64, lease.get() + 1, "leases have no gap");
        self.wait(row, false);
    }

    /// Keeps a row of a decision, where the run was asked to.
    pub(super) fn decide(&mut self, kind: &'static str, id: LeaseId, sure: Option<Confidence>) {
        if self.decisions {
            self.keep_decision(kind, id, sure);
        }
    }

    #[cold]
    fn keep_decision(&mut self, kind: &'static str, id: LeaseId, sure: Option<Confidence>) {
        let Some(lease) = self.grid.state().leases.get(&id) else { return };
        // Where what moves goes to stands behind where it was.
        let claim = self.grid.state().claims.get(&lease.job).filter(|_| kind == "move");
        let next = claim.iter().flat_map(|claim| &claim.members);
        let strategy = || self.record.rules.get(1).cloned().unwrap_or_default();
        self.record.decisions.push(DecisionRow {
            at: self.now,
            kind,
            job: self.row(lease.job) as u64 + 1,
            lease: id.get(),
            nodes: lease.members.iter().chain(next).map(|member| member.node.get()).collect(),
            reason: lease.reason.map_or_else(strategy, |reason| reason.name().to_owned()),
            confidence: sure.map(|confidence| confidence.total().get()),
        });
    }

    /// Returns the number of a lease's process on a node.
    pub(super) fn process_on(&self, node: NodeId, lease: LeaseId) -> Option<usize> {
        let is_there = |i: &usize| self.processes.get(i).is_some_and(|p| p.node == node);
        self.processes_of(lease).find(is_there)
    }

    /// Returns the numbers of a lease's processes.
    fn processes_of(&self, lease: LeaseId) -> Range<usize> {
        let index = usize::try_from(lease.get()).unwrap_or(usize::MAX);
        let to = |index: Option<usize>| index.and_then(|i| self.processes_to.get(i).copied());
        to(index.checked_sub(1)).unwrap_or(0)..to(Some(index)).unwrap_or(0)
    }

    /// Lets a process work, from where it stands.
    pub(super) fn go_on(&mut self, node: NodeId, lease: LeaseId) {
        let now = self.now;
        let Some(index) = self.process_on(node, lease) else { return };
        let held = self.station(node).and_then(|station| station.leases.get(&lease));
        let given = held.map(|held| held.start.needs.cpu.get());
        let Some(process) = self.processes.get_mut(&index) else { return };
        match process.doing {
            Doing::Nothing => {
                if let Some(far) = &mut self.far {
                    far.living.insert(index);
                }
            }
            Doing::Paused(since) => {
                if let Some(progress) = self.progress.get_mut(&(process.row as usize)) {
                    progress.rested = progress.rested.saturating_add(now.since(since));
                }
            }
            Doing::Working(_) | Doing::Ended => return,
        }
        let fresh = process.doing == Doing::Nothing;
        // What it was granted may have changed before it began.
        if let Some(cpu) = given.filter(|_| process.speed.1 > 0) {
            process.speed.0 = cpu.min(process.speed.1);
        }
        process.doing = Doing::Working(now);
        process.ends = process.done();
        let broken = |far: &Far| far.hosts.get(node.get() as usize).map(|host| host.broken_until);
        if fresh && self.far.as_deref().and_then(broken).is_some_and(|until| until > now) {
            process.broken = true;
            process.ends = process.ends.min(now.after(Span::seconds(1)));
        }
        if process.ends < Time::MAX {
            self.settled_at = self.settled_at.max(process.ends);
            self.events.push(process.ends, Class::End, index as u64);
        }
        self.look_again(index);
    }

    /// Stops a process for a while.
    pub(super) fn pause(&mut self, node: NodeId, lease: LeaseId) {
        let now = self.now;
        let index = self.process_on(node, lease);
        let Some(process) = index.and_then(|i| self.processes.get_mut(&i)) else { return };
        if matches!(process.doing, Doing::Working(_)) {
            let slowed = process.work(now);
            (process.doing, process.ends) = (Doing::Paused(now), Time::MAX);
            let row = process.row as usize;
            self.slow(row, slowed);
        }
        index.into_iter().for_each(|index| self.look_again(index));
    }

    /// Lets a process leave within its notice; a paused one goes on to do so.
    pub(super) fn notice(&mut self, node: NodeId, lease: LeaseId, kill_at: Time) {
        self.go_on(node, lease);
        let row = self.process_on(node, lease).and_then(|i| self.processes.get(&i)).map(|p| p.row);
        if row.and_then(|row| self.said(row)).is_some_and(|said| said.ignores_notice) {
            return;
        }
        let notice = kill_at.since(self.now).min(VACATE_MAX);
        let leaves = mix(self.record.seed, lease.get()) % (notice.get() + 1);
        self.stop_at(node, lease, self.now.after(Span::new(leaves)));
    }

    /// Ends a process at a time, unless it ends before.
    pub(super) fn stop_at(&mut self, node: NodeId, lease: LeaseId, at: Time) {
        let Some(index) = self.process_on(node, lease) else { return };
        let Some(process) = self.processes.get_mut(&index) else { return };
        if !process.is_alive() || process.ends <= at {
            return;
        }
        process.ends = at;
        self.events.push(at, Class::End, index as u64);
    }

    /// Ends a process, if it really ends now, and lets its node see it.
    pub(super) fn end(&mut self, index: u64) {
        let now = self.now;
        let Ok(index) = usize::try_from(index) else { return };
        let Some(process) = self.processes.get(&index) else { return };
        if !process.is_alive() || process.ends != now {
            return;
        }
        let node = process.node;
        if self.defer_end(index) {
            return;
        }
        let Some(process) = self.processes.get(&index) else { return };
        let done = process.done() <= now;
        let (lease, epoch, broken) = (process.lease, process.epoch, process.broken);
        let fails = self.said(process.row).is_some_and(|said| said.fails);
        let outcome = match (done, fails) {
            (true, false) => Outcome::Completed,
            (true, true) => Outcome::Failed,
            (false, _) if broken => Outcome::Failed,
            (false, _) => Outcome::Stopped,
        };
        self.over(index, Some(outcome));
        self.note_reclaim(index);
        if self.runs(node) {
            self.happen(node, Event::Ended(lease, epoch, outcome));
        }
    }

    /// Ends a process without a word: its node has failed.
    pub(super) fn vanish(&mut self, node: NodeId, lease: LeaseId) {
        if let Some(index) = self.process_on(node, lease) {
            self.over(index, None);
        }
    }

    /// Notes that nothing is left of a process, and what its machine knows of how it ended.
    pub(super) fn over(&mut self, index: usize, outcome: Option<Outcome>) {
        let now = self.now;
        if let Some(process) = self.processes.get_mut(&index) {
            let slowed = process.work(now);
            (process.doing, process.outcome) = (Doing::Ended, outcome);
            let row = process.row as usize;
            self.slow(row, slowed);
        }
        if let Some(far) = &mut self.far {
            far.living.remove(&index);
        }
        self.look_again(index);
        self.forget_process(index);
    }

    /// Keeps nothing of a process that does nothing any more. Where there is a network its machine
    /// may yet be asked how it ended.
    fn forget_process(&mut self, index: usize) {
        if self.far.is_none() && !self.processes.get(&index).is_some_and(Process::is_alive) {
            self.processes.remove(&index);
        }
    }

    /// Keeps nothing but the row of a job that has ended. Where there is a network somebody may yet
    /// ask for it again.
    pub(super) fn forget_job(&mut self, index: usize) {
        if self.far.is_none() {
            self.progress.remove(&index);
        }
    }

    /// Returns whether nothing is kept of what is over, where there is no network.
    pub(super) fn keeps_what_lasts(&self) -> bool {
        let open = self.record.jobs.len() as u64 - self.counts.ended;
        let leases = &self.grid.state().leases;
        let lasts = |p: &Process| p.is_alive() || leases.contains_key(&p.lease);
        self.far.is_some()
            || self.progress.len() as u64 == open && self.processes.values().all(lasts)
    }

    /// Walks the processes that are alive, where there is a network.
    pub(super) fn living(&self) -> impl Iterator<Item = (usize, &Process)> {
        let living = self.far.iter().flat_map(|far| far.living.iter().copied());
        living.filter_map(|index| Some((index, self.processes.get(&index)?)))
    }

    /// Notes the end of a lease.
    fn closed(&mut self, end: &LeaseEnd) {
        let index = self.row(end.job);
        let now = self.now;
        let (Some(row), Some(progress)) =
            (self.record.jobs.get_mut(index), self.progress.get_mut(&index))
        else {
            return;
        };
        row.run = row.run.saturating_add(now.since(progress.began));
        let (first, count) = progress.rows;
        let range = first as usize..(first + count) as usize;
        for lease in self.record.leases.get_mut(range).into_iter().flatten() {
            lease.ended = Some(now);
            lease.why = end.reason.map_or("Ended", effect::EvictionReason::name);
            (lease.held, lease.settled) = (end.held, end.settled);
            lease.unpaid_terms = end.unpaid_terms;
            if let Some(metered) = &end.metered {
                let count = |terms: u64| u32::try_from(terms).unwrap_or(u32::MAX);
                lease.metered_terms = count(metered.totals.terms);
                lease.expired_terms = count(metered.totals.expired);
                lease.metering = metered.head;
            }
        }
        self.tally.lend(row.band() as usize, progress.holds, false);
        self.tally.running -= 1;
        // Over a network the machine's own clock tells how long its owner waited.
        if self.far.is_none()
            && end.reason == Some(effect::EvictionReason::OwnerReturn)
            && let Some(noticed) = end.noticed
        {
            self.observer.count_reclaim(now.since(noticed));
        }
        if let Some(reason) = end.reason {
            self.observer.count_eviction(reason);
        }
        self.processes_of(end.lease).for_each(|index| self.forget_process(index));
    }

    /// Notes that an evicted job waits again, with the work it has saved.
    fn requeued(&mut self, job: JobId, reason: effect::EvictionReason, lost: Span) {
        let index = self.row(job);
        let now = self.now;
        let (Some(row), Some(progress)) =
            (self.record.jobs.get_mut(index), self.progress.get_mut(&index))
        else {
            return;
        };
        if progress.cancelled {
            self.broken.push(format!("[P1] {job} was cancelled and waits again"));
        }
        let ran = now.since(progress.began).saturating_sub(progress.rested);
        let overhead = if row.attempts > 1 { progress.restart() } else { Span::ZERO };
        let kept = ran.saturating_sub(lost).saturating_sub(overhead);
        let kept = kept.saturating_sub(progress.slowed);
        let kept = if progress.keeps { kept } else { Span::ZERO };
        progress.saved = progress.saved.saturating_add(kept).min(row.work);
        progress.waits_since = now;
        // Where a node refused the start, nothing ran.
        row.preemptions += u32::from(reason != effect::EvictionReason::Refused);
        row.moves += u32::from(reason == effect::EvictionReason::Rebalance);
        row.lost = row.lost.saturating_add(lost);
        row.state = JobState::Waiting;
        self.wait(u32::try_from(index).unwrap_or(u32::MAX), true);
    }

    /// Notes the end of a job.
    fn finished(&mut self, end: &JobEnd) {
        let index = self.row(end.job);
        self.check_finished(index, end);
        let now = self.now;
        let waited = self.record.jobs.get(index).is_some_and(|row| row.state == JobState::Waiting);
        if waited {
            self.wait(u32::try_from(index).unwrap_or(u32::MAX), false);
        }
        let (Some(row), Some(progress)) =
            (self.record.jobs.get_mut(index), self.progress.get(&index))
        else {
            return;
        };
        if waited {
            row.wait = row.wait.saturating_add(now.since(progress.waits_since));
        }
        self.last_end = now;
        row.end = Some(now);
        row.charged = end.charged;
        row.refunded = end.refunded;
        row.state = match end.state {
            FinalState::Completed => JobState::Completed,
            FinalState::Failed => JobState::Failed,
            FinalState::Timeout => JobState::Timeout,
            FinalState::Cancelled => JobState::Cancelled,
            FinalState::Preempted => JobState::Preempted,
            FinalState::NodeFail => JobState::NodeFail,
            FinalState::OutOfBudget => JobState::OutOfBudget,
        };
        self.counts.ended += 1;
        self.forget_job(index);
    }
}
