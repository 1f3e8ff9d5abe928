//! Submission: the next job of the workload, in the words of the core.

use super::World;
use super::network::Todo;
use super::process::JobProgress;
use crate::record::{FillPoint, JobRow, JobState};
use crate::work::JobRecord;
use gridcore::command::{Command, Numbered, Reply, Request};
use gridcore::deny::Denied;
use gridcore::ids::{AccountId, JobId, PoolId};
use gridcore::units::{MilliGpus, Span, Time};

/// For how many jobs room is made before there are any: what is not used is never touched.
const JOBS_ROOM: usize = 2_000_000;
/// For how many intervals.
const INTERVALS_ROOM: usize = 20_000;

/// What a job waits for.
enum Waits {
    /// These, which have not completed.
    For(Vec<JobId>),
    /// Jobs that were asked for and have no number yet.
    Unknown,
    /// A job that will never complete.
    InVain,
}

impl World {
    /// Makes room for the rows of so many jobs, each started once, and of intervals as far as their
    /// number can be told: what grows is copied.
    pub(super) fn make_room(&mut self, jobs: usize, interval: Span) {
        let jobs = jobs.min(JOBS_ROOM);
        self.record.jobs.reserve_exact(jobs);
        self.record.leases.reserve_exact(jobs);
        self.row_of.reserve_exact(jobs);
        self.processes_to.reserve_exact(jobs);
        let count = |end: Time| usize::try_from(end.ms() / interval.get().max(1)).ok();
        let rows = self.horizon.and_then(count).unwrap_or(jobs / 2).min(INTERVALS_ROOM);
        self.record.timeline.reserve_exact(rows);
        self.record.node_samples.reserve_exact((rows * self.stations.len()).min(JOBS_ROOM));
    }

    /// Submits the next job.
    pub(super) fn submit(&mut self) {
        let Some(mut job) = self.next_job.take() else { return };
        self.fetch_job();
        let account = usize::try_from(job.account).ok().and_then(|i| self.job_accounts.get(i));
        let account = account.copied().unwrap_or_default();
        let pool =
            job.pool.as_ref().map_or(Some(PoolId::new(0)), |p| self.pools.get(&**p).copied());
        let row = self.new_row(&mut job, account, pool.unwrap_or_default());
        let index = self.record.jobs.len();
        self.record.jobs.push(row);
        let find = |name: &str| self.node_ids.get(name).copied();
        let spec = pool.map(|pool| job.spec(pool, find));
        let names = job.extra.iter().flat_map(|extra| &extra.after);
        let after: Option<Box<[u32]>> = names.map(|name| self.row_named(name)).collect();
        let known = after.is_some();
        self.arrived_gpu += u128::from(job.needs.gpus.total().get()) * u128::from(job.members);
        let progress = JobProgress::new(job, after.unwrap_or_default(), self.now);
        self.progress.insert(index, progress);
        let row = u32::try_from(index).unwrap_or(u32::MAX);
        self.says_use |= self.gpu_use(row).is_some();
        match spec {
            None => self.refuse(row, "NoPool"),
            Some(_) if !known => self.refuse(row, "NoJob"),
            Some(Err(_)) => self.refuse(row, "NoNode"),
            Some(Ok(job)) => {
                let array = (account, job.task.program);
                self.ask_in_turn(row, array, Request::SubmitJob { account, job });
            }
        }
        self.note_fill();
    }

    /// Asks for a job, at once or when its account's pace lets it; an array is one request.
    fn ask_in_turn(&mut self, row: u32, (account, array): (AccountId, u64), request: Request) {
        let begun = self.arrays.get(&(account, array)).copied().filter(|_| array > 0);
        let at = begun.unwrap_or_else(|| {
            let state = self.grid.state();
            let (rules, standing) = (&state.rules, &state.account(account).standing);
            let pace = self.paces.entry(account).or_default();
            let wait = pace.wait(self.now, rules, standing);
            pace.count(self.now, rules, standing);
            self.now.after(wait)
        });
        if array > 0 {
            self.arrays.insert((account, array), at);
        }
        if at <= self.now {
            self.ask(row, 1, request);
        } else {
            self.later(at, Todo::Ask(row, 1, Box::new(request)));
        }
    }

    /// Notes that a job was refused.
    fn refuse(&mut self, row: u32, refusal: &'static str) {
        if let Some(job) = self.record.jobs.get_mut(row as usize) {
            job.state = JobState::Refused;
            job.refusal = refusal;
            job.end = Some(self.now);
            self.counts.ended += 1;
        }
        self.forget_job(row as usize);
    }

    /// Asks the coordinator for something about the job of a row; over a network under a number,
    /// and again until it answers.
    pub(super) fn ask(&mut self, row: u32, number: u64, mut request: Request) {
        let submits = matches!(request, Request::SubmitJob { .. });
        // One that was accepted and never answered is asked again as it was.
        let accepted = self.progress.get(&(row as usize)).is_some_and(|p| p.job.is_some());
        if let Request::SubmitJob { job, .. } = &mut request
            && !accepted
        {
            match self.dependencies(row) {
                Waits::For(jobs) => job.after = jobs,
                Waits::Unknown => return self.ask_again(row, number, request),
                Waits::InVain => return self.refuse(row, "DependencyNeverSatisfied"),
            }
        }
        self.asking = submits.then_some(row);
        let answer = if self.far.is_none() {
            self.apply(Command::Request(request))
        } else {
            let client = u64::from(row) + 1;
            let request = Box::new(request);
            let numbered = Numbered { client, number, request };
            let answer =
                if self.refuses() { None } else { self.apply(Command::Numbered(numbered.clone())) };
            if answer.is_none() {
                self.ask_again(row, number, *numbered.request);
            }
            answer
        };
        self.asking = None;
        match answer {
            Some(Ok(Reply::Submitted(id))) => {
                self.note_pool(id, row);
                self.check_answer(id, row);
                self.cancel_later(id, row);
            }
            Some(Err(denied)) if submits => self.refuse(row, refusal(&denied)),
            Some(Ok(Reply::Done)) => {
                if let Some(progress) = self.progress.get_mut(&(row as usize)) {
                    progress.cancelled = true;
                }
            }
            Some(Ok(Reply::Stale) | Err(_)) | None => {}
        }
    }

    /// Notes the pool that a job went to that named none.
    fn note_pool(&mut self, id: JobId, row: u32) {
        let state = self.grid.state();
        let job = state.jobs.get(&id);
        if let (Some(job), Some(row)) = (job, self.record.jobs.get_mut(row as usize)) {
            row.pool = state.shapes[job.shape].pool.get();
        }
    }

    /// Returns the row of the last job of a name.
    fn row_named(&self, name: &str) -> Option<u32> {
        let row = self.record.jobs.iter().rposition(|row| *row.name == *name)?;
        u32::try_from(row).ok()
    }

    /// Returns the jobs that the one of a row is to wait for, as far as they have not completed.
    fn dependencies(&self, row: u32) -> Waits {
        let rows = self.progress.get(&(row as usize)).map(|progress| &*progress.after);
        let mut jobs = Vec::new();
        for row in rows.unwrap_or_default().iter().map(|row| *row as usize) {
            let id = self.progress.get(&row).and_then(|progress| progress.job);
            let state = self.record.jobs.get(row).map_or(JobState::Refused, |row| row.state);
            match id {
                Some(id) if self.grid.state().jobs.contains_key(&id) => jobs.push(id),
                Some(_) | None if state == JobState::Completed => {}
                None if !state.is_final() => return Waits::Unknown,
                Some(_) | None => return Waits::InVain,
            }
        }
        Waits::For(jobs)
    }

    /// Returns whether the coordinator refuses requests because its disk is full (LIVE.md P12).
    fn refuses(&mut self) -> bool {
        let now = self.now;
        let Some(far) = &mut self.far else { return false };
        let refused = far.store.full_until > now;
        if refused {
            far.count("request_refused");
        }
        refused
    }

    /// Asks once more in a while: nobody answered, or the disk was full.
    fn ask_again(&mut self, row: u32, number: u64, request: Request) {
        let wait = match &mut self.far {
            Some(far) => {
                far.count("client_retry");
                500 + far.dice.below(4_500)
            }
            None => 1_000,
        };
        let again = self.now.after(Span::new(wait));
        self.later(again, Todo::Ask(row, number, Box::new(request)));
    }

    /// Has a job cancelled in a while, if its account will.
    fn cancel_later(&mut self, job: JobId, row: u32) {
        let progress = self.progress.get(&(row as usize));
        let account = self.record.jobs.get(row as usize).map(|row| AccountId::new(row.account));
        if let (Some(after), Some(account)) =
            (progress.and_then(|p| p.said.as_ref()?.cancel), account)
        {
            let request = Box::new(Request::CancelJob { account, job });
            self.later(self.now.after(after), Todo::Ask(row, 2, request));
        }
    }

    /// Checks that an acknowledged job is the one that was asked for (LIVE.md P1, P2).
    fn check_answer(&mut self, id: JobId, row: u32) {
        if self.row(id) != row as usize {
            self.broken.push(format!("[P1] {id} was acknowledged to row {row} and is another's"));
        }
    }

    /// Makes the row of a job that is being submitted.
    fn new_row(&self, job: &mut JobRecord, account: AccountId, pool: PoolId) -> JobRow {
        let members = u64::from(job.members.max(1));
        let total = job.needs.bundle().amounts().map(|a| a.saturating_mul(members));
        JobRow {
            name: std::mem::take(&mut job.name),
            account: account.get(),
            pool: pool.get(),
            priority: job.priority.get(),
            members: job.members.max(1),
            submit: self.now,
            work: job.run,
            limit: job.limit,
            needs: gridcore::bundle::Bundle::from_amounts(total).into(),
            gpu_share: job.needs.gpus.share.get(),
            gpu_memory: job.needs.gpus.memory.get(),
            ..JobRow::default()
        }
    }

    /// Notes one point of the fill curve whenever the arrived request passes a whole percent.
    fn note_fill(&mut self) {
        let capacity = u128::from(self.capacity_gpu);
        if capacity == 0 || !self.record.complete {
            return;
        }
        let arrived = self.arrived_gpu * 10_000 / capacity;
        let last = self.record.fill.last().map_or(0, |point| u128::from(point.arrived_bp));
        if arrived / 100 > last / 100 {
            let lent: u64 = self.tally.lent.iter().map(|l| l[2]).sum();
            let allocated = u128::from(MilliGpus::new(lent).get()) * 10_000_000 / capacity;
            self.record.fill.push(FillPoint {
                arrived_bp: u32::try_from(arrived).unwrap_or(u32::MAX),
                allocated_mbp: u64::try_from(allocated).unwrap_or(u64::MAX),
            });
        }
    }
}

/// Returns a short name of a refusal.
fn refusal(denied: &Denied) -> &'static str {
    match denied {
        Denied::Busy(_) => "Busy",
        Denied::NoMatchingNode { .. } => "NoMatchingNode",
        Denied::OverQuota { .. } => "QuotaExceeded",
        Denied::Full { .. } => "Full",
        Denied::TooManyRequests { .. } => "TooManyRequests",
        Denied::NoPool(_) => "NoPool",
        Denied::NoNode(_) => "NoNode",
        Denied::NoAccount(_) => "NoAccount",
        Denied::Empty => "Empty",
        Denied::Range { .. } => "Range",
        Denied::NoPlaceThen { .. } => "NoPlaceThen",
        Denied::NoJob(_)
        | Denied::NotYours { .. }
        | Denied::OverBudget { .. }
        | Denied::WrongState { .. }
        | Denied::Config(_)
        | Denied::TooOld { .. }
        | Denied::TreasuryShort { .. }
        | Denied::TooRich { .. } => "Refused",
    }
}
