//! A tiny world around the core: it stamps entries, answers effects as machines would, wakes the
//! core when it asks for it, and checks every invariant after every entry.
//!
//! Nothing here is drawn at random: how long a job works and how it answers a notice comes with the
//! job. Two worlds that are told the same do the same.

use gridcore::command::{Command, Entry, JobSpec, Outcome, Reply, Report, Request};
use gridcore::config::Config;
use gridcore::deny::Denied;
use gridcore::effect::Effect;
use gridcore::grid::Grid;
use gridcore::ids::{AccountId, Epoch, JobId, LeaseId, NodeId, Seq};
use gridcore::invariants::{check, check_step};
use gridcore::units::{Span, Time};
use std::collections::{BTreeMap, BTreeSet};

/// How a job behaves on its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// How long it works in all.
    pub work: Span,
    /// Whether it ends with an error.
    pub fails: bool,
    /// How long it takes to leave after a notice; `None` ignores it and waits to be killed.
    pub leaves: Option<Span>,
    /// How long its processes need to die once they are killed.
    pub dies: Span,
}

impl Work {
    /// A job that works for `seconds` and leaves at once when asked.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        let (work, dies) = (Span::seconds(seconds), Span::ZERO);
        Self { work, fails: false, leaves: Some(Span::ZERO), dies }
    }
}

/// A process tree on its machines.
#[derive(Clone, Debug)]
struct Process {
    job: JobId,
    epoch: Epoch,
    started: Time,
    /// The nodes where it still has processes.
    alive: BTreeSet<NodeId>,
    /// Its next event, if any.
    event: Option<(Time, u64)>,
}

/// What is checked after each entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// Nothing.
    Off,
    /// The state, and the step that led to it.
    Every,
}

/// The core and its machines.
#[derive(Clone, Debug)]
pub struct World {
    /// The core.
    pub grid: Grid,
    /// What has been applied.
    pub entries: Vec<Entry<Command>>,
    /// What followed from each entry, in order.
    pub effects: Vec<(Time, Effect)>,
    /// The same as text, as it was when it happened, if the world narrates.
    pub texts: Option<Vec<(Time, String)>>,
    /// What the refusals were.
    pub denials: Vec<Denied>,
    /// The present.
    pub now: Time,
    checks: Checks,
    seq: Seq,
    jobs: BTreeMap<JobId, (Work, Span)>,
    processes: BTreeMap<LeaseId, Process>,
    events: BTreeMap<(Time, u64), (LeaseId, Outcome)>,
    order: u64,
}

/// Most entries the core may ask for at one instant before that counts as running in circles.
const WAKES_MAX: u32 = 1_000;

impl World {
    /// Builds a world at time zero.
    ///
    /// # Panics
    /// When the configuration is refused.
    #[must_use]
    pub fn new(config: Config, checks: Checks) -> Self {
        let grid = match Grid::new(config, Time::ZERO) {
            Ok(grid) => grid,
            Err(error) => panic!("a test's configuration is accepted: {error}"),
        };
        Self {
            grid,
            entries: Vec::new(),
            effects: Vec::new(),
            texts: None,
            denials: Vec::new(),
            now: Time::ZERO,
            checks,
            seq: Seq::new(0),
            jobs: BTreeMap::new(),
            processes: BTreeMap::new(),
            events: BTreeMap::new(),
            order: 0,
        }
    }

    /// Submits a job that behaves as `work` says.
    ///
    /// # Errors
    /// The core's refusal.
    ///
    /// # Panics
    /// When the core numbers jobs otherwise than in order.
    pub fn submit(
        &mut self,
        account: AccountId,
        job: &JobSpec,
        work: Work,
    ) -> Result<JobId, Denied> {
        // The core may start it in the same entry.
        let next = self.grid.state().next.job;
        let before = self.jobs.insert(next, (work, Span::ZERO));
        assert!(before.is_none(), "job ids are handed out once");
        let request = Request::SubmitJob { account, job: Box::new(job.clone()) };
        match self.request(request) {
            Ok(Reply::Submitted(id)) => {
                assert_eq!(id, next, "job ids are counted");
                Ok(id)
            }
            Ok(reply) => panic!("a submission is answered with {reply:?}"),
            Err(denied) => {
                self.jobs.remove(&next);
                Err(denied)
            }
        }
    }

    /// Asks for something.
    ///
    /// # Errors
    /// The core's refusal.
    pub fn request(&mut self, request: Request) -> Result<Reply, Denied> {
        let answer = self.apply(Command::Request(request));
        if let Err(denied) = &answer {
            self.denials.push(denied.clone());
        }
        answer
    }

    /// States a fact.
    ///
    /// # Panics
    /// When the core denies it.
    pub fn report(&mut self, report: Report) -> Reply {
        if let Report::NodeDown { node } = report {
            self.lose_node(node);
        }
        match self.apply(Command::Report(report)) {
            Ok(reply) => reply,
            Err(denied) => panic!("a report is never denied: {denied}"),
        }
    }

    /// Lets time pass, and everything happen that happens by then.
    pub fn advance(&mut self, span: Span) {
        self.run_to(self.now.after(span));
    }

    /// Lets everything happen that happens until `end`, that instant included.
    ///
    /// # Panics
    /// When the core wants to be woken for ever.
    pub fn run_to(&mut self, end: Time) {
        let mut wakes = 0;
        loop {
            let event = self.events.keys().next().map(|key| key.0);
            let wake = self.grid.next_wake().map(|(at, _)| at.max(self.now));
            let next = event.into_iter().chain(wake).min().filter(|at| *at <= end);
            let Some(at) = next else { break };
            wakes = if at > self.now { 0 } else { wakes + 1 };
            assert!(wakes < WAKES_MAX, "the core asks to be woken at {at} for ever");
            self.now = at;
            // Ends come before the wake of the same instant.
            if event.is_some_and(|t| t <= at) {
                self.run_event();
            } else {
                let woken = self.apply(Command::Wake);
                assert!(woken.is_ok(), "a wake is never denied");
            }
        }
        self.now = end;
    }

    /// Reports the first process that ends.
    fn run_event(&mut self) {
        let Some((_, (lease, outcome))) = self.events.pop_first() else { return };
        let Some(process) = self.processes.remove(&lease) else { return };
        let ran = self.now.since(process.started);
        if let Some((_, done)) = self.jobs.get_mut(&process.job) {
            *done = done.saturating_add(ran);
        }
        self.report(Report::Ended { lease, epoch: process.epoch, outcome });
    }

    /// Applies one entry at the present time.
    fn apply(&mut self, command: Command) -> Result<Reply, Denied> {
        self.seq = self.seq.next();
        let entry = Entry { seq: self.seq, at: self.now, command };
        let before = (self.checks == Checks::Every).then(|| self.grid.state().clone());
        let mut effects = Vec::new();
        let answer = self.grid.apply(&entry, &mut effects);
        if let Some(before) = before {
            let state = self.grid.state();
            let mut breaches = check(state);
            breaches.extend(check_step(&before, &entry, state));
            assert!(breaches.is_empty(), "after {entry:?}: {breaches:#?}");
        }
        self.entries.push(entry);
        for effect in effects {
            if let Some(texts) = &mut self.texts {
                texts.push((self.now, crate::text::effect(self.grid.state(), &effect)));
            }
            self.perform(&effect);
            self.effects.push((self.now, effect));
        }
        answer
    }

    /// Does what the core wants done.
    fn perform(&mut self, effect: &Effect) {
        match effect {
            Effect::Start { lease, epoch, job } => self.start(*lease, *epoch, *job),
            Effect::Notice { lease, .. } => self.notice(*lease),
            Effect::Kill { lease, .. } => {
                let Some(process) = self.processes.get(lease) else { return };
                let dies = self.jobs.get(&process.job).map_or(Span::ZERO, |(work, _)| work.dies);
                self.stop_after(*lease, dies);
            }
            Effect::Requeued { job, lost, .. } => {
                if let Some((_, done)) = self.jobs.get_mut(job) {
                    *done = done.saturating_sub(*lost);
                }
            }
            Effect::Finished(end) => {
                self.jobs.remove(&end.job);
            }
            Effect::Closed(_) | Effect::Moved(_) | Effect::Offer { .. } => {}
        }
    }

    fn start(&mut self, lease: LeaseId, epoch: Epoch, job: JobId) {
        let Some(row) = self.grid.state().leases.get(&lease) else { return };
        let alive = row.members.iter().map(|member| member.node).collect();
        let started = self.now;
        let process = Process { job, epoch, started, alive, event: None };
        let twice = self.processes.insert(lease, process);
        assert!(twice.is_none(), "a lease starts once");
        let Some((work, done)) = self.jobs.get(&job).copied() else { return };
        let outcome = if work.fails { Outcome::Failed } else { Outcome::Completed };
        self.end_at(lease, self.now.after(work.work.saturating_sub(done)), outcome);
    }

    fn notice(&mut self, lease: LeaseId) {
        let Some(process) = self.processes.get(&lease) else { return };
        if let Some((Work { leaves: Some(leaves), .. }, _)) = self.jobs.get(&process.job) {
            let leaves = *leaves;
            self.stop_after(lease, leaves);
        }
    }

    /// Ends a process as stopped after a while, unless it ends before by itself.
    fn stop_after(&mut self, lease: LeaseId, span: Span) {
        let at = self.now.after(span);
        let Some(process) = self.processes.get(&lease) else { return };
        if process.event.is_none_or(|(end, _)| at < end) {
            self.end_at(lease, at, Outcome::Stopped);
        }
    }

    fn end_at(&mut self, lease: LeaseId, at: Time, outcome: Outcome) {
        let Some(process) = self.processes.get_mut(&lease) else { return };
        if let Some(old) = process.event.take() {
            self.events.remove(&old);
        }
        self.order += 1;
        process.event = Some((at, self.order));
        self.events.insert((at, self.order), (lease, outcome));
    }

    /// Ends the processes on a node without a word; a gang with members elsewhere does not finish.
    fn lose_node(&mut self, node: NodeId) {
        if !self.grid.state().nodes.find(node).is_some_and(|row| row.up) {
            return;
        }
        for process in self.processes.values_mut() {
            if process.alive.remove(&node)
                && let Some(event) = process.event.take()
            {
                self.events.remove(&event);
            }
        }
        self.processes.retain(|_, process| !process.alive.is_empty());
    }

    /// Returns the leases whose processes live.
    pub fn living(&self) -> impl Iterator<Item = (LeaseId, Epoch)> {
        self.processes.iter().map(|(lease, process)| (*lease, process.epoch))
    }
}
