//! Processes: what the core's orders do to modelled jobs, and what becomes of their work.

use super::World;
use crate::kernel::Class;
use crate::record::{DecisionRow, JobState, LeaseRow, Party, TransferRow};
use crate::work::JobRecord;
use gridcore::command::{Outcome, Report};
use gridcore::deny::Denied;
use gridcore::effect::{self, Effect, FinalState, JobEnd, LeaseEnd, OfferFate, Transfer};
use gridcore::ids::{Epoch, JobId, LeaseId};
use gridcore::leases::LeaseState;
use gridcore::units::{Span, Time};

/// How long a job that is told to leave takes at most; it draws a time up to this or its notice.
const VACATE_MAX: Span = Span::seconds(20);

/// How far a job's work has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct JobProgress {
    /// Work that no eviction can take any more.
    saved: Span,
    checkpoint: Option<Span>,
    restart: Span,
    /// Since when it waits.
    waits_since: Time,
    /// When the running attempt began.
    began: Time,
    /// Rows of the running attempt's lease, first and count.
    rows: (u32, u32),
}

impl JobProgress {
    pub(super) fn new(job: &JobRecord, now: Time) -> Self {
        let restart = job.extra.as_ref().map_or(Span::ZERO, |extra| extra.restart);
        Self { checkpoint: job.checkpoint, restart, waits_since: now, ..Self::default() }
    }
}

/// A process tree: one lease's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    epoch: Epoch,
    /// When it ends, as things stand.
    ends: Time,
    /// When its work is done.
    done: Time,
    alive: bool,
}

/// Returns a short name of a refusal.
pub(super) fn refusal(denied: &Denied) -> &'static str {
    match denied {
        Denied::Busy(_) => "Busy",
        Denied::NoMatchingNode { .. } => "NoMatchingNode",
        Denied::OverQuota { .. } => "QuotaExceeded",
        Denied::Full { .. } => "Full",
        Denied::NoPool(_) => "NoPool",
        Denied::NoNode(_) => "NoNode",
        Denied::NoAccount(_) => "NoAccount",
        Denied::Empty => "Empty",
        Denied::Range { .. } => "Range",
        Denied::NoJob(_)
        | Denied::NotYours { .. }
        | Denied::OverBudget { .. }
        | Denied::WrongState { .. }
        | Denied::Config(_)
        | Denied::TooRich { .. } => "Refused",
    }
}

impl World {
    /// Notes which row a job that the core accepted has, and that it waits.
    pub(super) fn admit(&mut self, id: JobId) {
        let row = u32::try_from(self.record.jobs.len() - 1).unwrap_or(u32::MAX);
        self.row_of.push(row);
        debug_assert_eq!(self.row_of.len() as u64, id.get() + 1, "job numbers have no gap");
        self.wait(row, true);
    }

    /// Returns the row of a job.
    fn row(&self, job: JobId) -> usize {
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
    pub(super) fn perform(&mut self, effect: &Effect) {
        match effect {
            Effect::Start { lease, epoch, job } => {
                self.start(*lease, *epoch, *job);
                self.decide("place", *lease);
            }
            Effect::Notice { lease, kill_at, .. } => {
                self.decide("evict", *lease);
                self.notice(*lease, *kill_at);
            }
            Effect::Kill { lease, .. } => {
                self.decide("kill", *lease);
                self.stop_at(*lease, self.now);
            }
            Effect::Closed(end) => self.closed(end),
            Effect::Finished(end) => self.finished(end),
            Effect::Requeued { job, lost, .. } => self.requeued(*job, *lost),
            Effect::Moved(transfer) => self.record.transfers.push(&transfer_row(transfer)),
            Effect::Offer { fate, .. } => self.observer.count_offer(*fate),
        }
    }

    /// Starts a job's process.
    fn start(&mut self, lease: LeaseId, epoch: Epoch, job: JobId) {
        let index = self.row(job);
        let granted = self.grid.state().lease(lease);
        let (Some(row), Some(progress)) =
            (self.record.jobs.get_mut(index), self.progress.get_mut(index))
        else {
            return;
        };
        row.wait = row.wait.saturating_add(self.now.since(progress.waits_since));
        self.observer.count_wait(row.band() as usize, self.now.since(row.submit), row.attempts);
        row.start = Some(self.now);
        row.attempts += 1;
        row.state = JobState::Running;
        row.nodes = granted.members.iter().map(|m| m.node.get()).collect();
        let overhead = if row.attempts > 1 { progress.restart } else { Span::ZERO };
        let left = row.work.saturating_sub(progress.saved).saturating_add(overhead);
        progress.began = self.now;
        let first = u32::try_from(self.record.leases.len()).unwrap_or(u32::MAX);
        progress.rows = (first, u32::try_from(granted.members.len()).unwrap_or(0));
        let (attempt, band, needs) = (row.attempts, row.band() as usize, row.needs);
        for member in &granted.members {
            self.record.leases.push(LeaseRow {
                lease: lease.get(),
                job: job.get(),
                attempt,
                node: member.node.get(),
                needs: granted.needs.bundle().into(),
                gpus: member.devices,
                granted: self.now,
                ended: None,
                why: "",
                held: granted.held,
                settled: granted.settled,
            });
        }
        let done = self.now.after(left);
        let ends = granted.limit_at.map_or(done, |limit| limit.min(done));
        self.tally.lend(band, needs, true);
        self.tally.running += 1;
        self.wait(u32::try_from(index).unwrap_or(u32::MAX), false);
        debug_assert_eq!(self.processes.len() as u64, lease.get(), "lease numbers have no gap");
        self.processes.push(Process { epoch, ends, done, alive: true });
        if ends < Time::MAX {
            self.events.push(ends, Class::End, lease.get());
            self.settled_at = self.settled_at.max(ends);
        }
    }

    /// Keeps a row of a decision, where the run was asked to.
    fn decide(&mut self, kind: &'static str, id: LeaseId) {
        if !self.decisions {
            return;
        }
        let Some(lease) = self.grid.state().leases.get(&id) else { return };
        let strategy = || self.record.rules.get(1).cloned().unwrap_or_default();
        self.record.decisions.push(DecisionRow {
            at: self.now,
            kind,
            job: lease.job.get(),
            lease: id.get(),
            nodes: lease.members.iter().map(|member| member.node.get()).collect(),
            reason: lease.reason.map_or_else(strategy, |reason| reason.name().to_owned()),
        });
    }

    /// Returns a lease's process.
    fn process(&mut self, lease: u64) -> Option<&mut Process> {
        usize::try_from(lease).ok().and_then(|i| self.processes.get_mut(i))
    }

    /// Lets a process leave within its notice.
    fn notice(&mut self, lease: LeaseId, kill_at: Time) {
        let notice = kill_at.since(self.now).min(VACATE_MAX);
        let leaves = Span::new(self.vacating.below(notice.get() + 1));
        self.stop_at(lease, self.now.after(leaves));
    }

    /// Ends a process at a time, unless it ends before.
    fn stop_at(&mut self, lease: LeaseId, at: Time) {
        let Some(process) = self.process(lease.get()) else { return };
        if !process.alive || (process.ends <= at && process.done <= at) || process.ends == at {
            return;
        }
        process.ends = at;
        self.events.push(at, Class::End, lease.get());
    }

    /// Reports the end of a process, if it really ends now.
    pub(super) fn end(&mut self, lease: u64) {
        let now = self.now;
        let Some(process) = self.process(lease) else { return };
        if !process.alive || process.ends != now {
            return;
        }
        let (done, epoch) = (process.done <= now, process.epoch);
        let id = LeaseId::new(lease);
        let state = self.grid.state().leases.get(&id).map(|l| l.state);
        let outcome = match (done, state) {
            (true, _) => Outcome::Completed,
            // Its limit is reached, but nobody has told it to leave yet: that comes with the wake.
            (false, Some(LeaseState::Active) | None) => return,
            (false, Some(LeaseState::Releasing | LeaseState::Released)) => Outcome::Stopped,
        };
        if let Some(process) = self.process(lease) {
            process.alive = false;
        }
        self.report(Report::Ended { lease: id, epoch, outcome });
    }

    /// Notes the end of a lease.
    fn closed(&mut self, end: &LeaseEnd) {
        if let Some(process) = self.process(end.lease.get()) {
            process.alive = false;
        }
        let index = self.row(end.job);
        let now = self.now;
        let (Some(row), Some(progress)) =
            (self.record.jobs.get_mut(index), self.progress.get_mut(index))
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
        }
        let (band, needs) = (row.band() as usize, row.needs);
        self.tally.lend(band, needs, false);
        self.tally.running -= 1;
        if end.reason == Some(effect::EvictionReason::OwnerReturn)
            && let Some(noticed) = end.noticed
        {
            self.observer.count_reclaim(now.since(noticed));
        }
        if let Some(reason) = end.reason {
            self.observer.count_eviction(reason);
        }
    }

    /// Notes that an evicted job waits again, with the work it has saved.
    fn requeued(&mut self, job: JobId, lost: Span) {
        let index = self.row(job);
        let now = self.now;
        let (Some(row), Some(progress)) =
            (self.record.jobs.get_mut(index), self.progress.get_mut(index))
        else {
            return;
        };
        let ran = now.since(progress.began);
        let overhead = if row.attempts > 1 { progress.restart } else { Span::ZERO };
        let kept = ran.saturating_sub(lost).saturating_sub(overhead);
        let kept = if progress.checkpoint.is_some() { kept } else { Span::ZERO };
        progress.saved = progress.saved.saturating_add(kept).min(row.work);
        progress.waits_since = now;
        row.preemptions += 1;
        row.lost = row.lost.saturating_add(lost);
        row.state = JobState::Waiting;
        self.wait(u32::try_from(index).unwrap_or(u32::MAX), true);
    }

    /// Notes the end of a job.
    fn finished(&mut self, end: &JobEnd) {
        let index = self.row(end.job);
        let now = self.now;
        let waited = self.record.jobs.get(index).is_some_and(|row| row.state == JobState::Waiting);
        if waited {
            self.wait(u32::try_from(index).unwrap_or(u32::MAX), false);
        }
        let (Some(row), Some(progress)) =
            (self.record.jobs.get_mut(index), self.progress.get(index))
        else {
            return;
        };
        if waited {
            row.wait = row.wait.saturating_add(now.since(progress.waits_since));
        }
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
    }

    /// Completes the rows of jobs and leases that are still open when the run ends.
    pub(super) fn close_rows(&mut self) {
        let now = self.now;
        for (row, progress) in self.record.jobs.iter_mut().zip(&self.progress) {
            match row.state {
                JobState::Waiting => {
                    row.wait = row.wait.saturating_add(now.since(progress.waits_since));
                }
                JobState::Running => {
                    row.run = row.run.saturating_add(now.since(progress.began));
                }
                JobState::Completed
                | JobState::Failed
                | JobState::Timeout
                | JobState::Cancelled
                | JobState::Preempted
                | JobState::NodeFail
                | JobState::OutOfBudget
                | JobState::Refused => {}
            }
        }
        for (id, job) in self.grid.state().jobs.iter() {
            let index = usize::try_from(id.get()).unwrap_or(usize::MAX);
            let row = self.row_of.get(index).copied().unwrap_or(u32::MAX) as usize;
            if let Some(row) = self.record.jobs.get_mut(row) {
                (row.charged, row.refunded) = (job.charged, job.refunded);
            }
        }
    }
}

/// Turns a transfer of the core into a row.
fn transfer_row(transfer: &Transfer) -> TransferRow {
    let party = |party: effect::Party| match party {
        effect::Party::Mint => Party::Mint,
        effect::Party::Treasury => Party::Treasury,
        effect::Party::Account(id) => Party::Account(id.get()),
        effect::Party::Held(id) => Party::Held(id.get()),
    };
    TransferRow {
        id: transfer.id.get(),
        at: transfer.at,
        from: party(transfer.from),
        to: party(transfer.to),
        amount: transfer.amount,
        kind: transfer.kind.name(),
        lease: transfer.lease.map(LeaseId::get),
    }
}

/// Returns the place of a fate in [`crate::record::TimelineRow::offers`].
pub(super) const fn fate_index(fate: OfferFate) -> usize {
    match fate {
        OfferFate::Opened => 0,
        OfferFate::Leased => 1,
        OfferFate::Expired => 2,
        OfferFate::Withdrawn => 3,
        OfferFate::Revoked => 4,
    }
}
