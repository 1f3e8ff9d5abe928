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
use gridcore::station::ladder::OwnerSays;
use gridcore::station::{Action, Event, Station, machine};
use gridcore::units::{Span, Time};
use std::collections::{BTreeMap, VecDeque};

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

/// A lease's process tree on one node.
#[derive(Clone, Debug)]
struct Process {
    job: JobId,
    epoch: Epoch,
    /// What was done of the job's work when it went on, and when that was; paused, it does nothing.
    done: Span,
    since: Option<Time>,
    /// Its next event, if any.
    event: Option<(Time, u64)>,
}

/// A lease on one node.
type Place = (NodeId, LeaseId);

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
    /// The nodes' halves, joined directly.
    pub stations: Vec<Station>,
    jobs: BTreeMap<JobId, (Work, Span)>,
    processes: BTreeMap<Place, Process>,
    events: BTreeMap<(Time, u64), (Place, Outcome)>,
    /// What stations told and the core has not heard yet.
    told: VecDeque<Report>,
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
        let watch = config.rules.watch();
        let station = |spec| Station::new(machine(spec), watch.clone(), None, Time::ZERO);
        let stations = config.nodes.iter().map(station).collect();
        let grid = Grid::new(config, Time::ZERO)
            .unwrap_or_else(|error| panic!("a test's configuration is accepted: {error}"));
        Self {
            grid,
            entries: Vec::new(),
            effects: Vec::new(),
            texts: None,
            denials: Vec::new(),
            now: Time::ZERO,
            checks,
            seq: Seq::new(0),
            stations,
            jobs: BTreeMap::new(),
            processes: BTreeMap::new(),
            events: BTreeMap::new(),
            told: VecDeque::new(),
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
        match self.request(Request::SubmitJob { account, job: Box::new(job.clone()) }) {
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
        self.hear();
        let answer = self.apply(Command::Request(request));
        self.hear();
        self.denials.extend(answer.as_ref().err().cloned());
        answer
    }

    /// States a fact. A sample reaches the node's station too.
    ///
    /// # Panics
    /// When the core denies it.
    pub fn report(&mut self, report: Report) -> Reply {
        match report {
            Report::NodeDown { node } if self.is_up(node) => self.lose_node(node),
            Report::NodeUp { node } if !self.is_up(node) => self.renew_station(node),
            Report::NodeDown { .. }
            | Report::NodeUp { .. }
            | Report::Sample { .. }
            | Report::Lease { .. }
            | Report::Lending { .. }
            | Report::Message(_)
            | Report::Restarted
            | Report::Stopping => {}
        }
        let sampled = match &report {
            Report::Sample { node, sample } if self.is_up(*node) => Some((*node, sample.clone())),
            Report::Sample { .. }
            | Report::NodeDown { .. }
            | Report::NodeUp { .. }
            | Report::Lease { .. }
            | Report::Lending { .. }
            | Report::Message(_)
            | Report::Restarted
            | Report::Stopping => None,
        };
        // What stations tell because of samples is heard when all samples of the instant are in:
        // their order must not matter (invariant 46).
        let is_sample = matches!(report, Report::Sample { .. });
        if !is_sample {
            self.hear();
        }
        let reply = match self.apply(Command::Report(report)) {
            Ok(reply) => reply,
            Err(denied) => panic!("a report is never denied: {denied}"),
        };
        if let Some((node, sample)) = sampled {
            self.happen(node, Event::Sample(sample));
        }
        if !is_sample {
            self.hear();
        }
        reply
    }

    /// Lets an owner say something to the own node.
    pub fn owner_says(&mut self, node: NodeId, says: OwnerSays) {
        if self.is_up(node) {
            self.happen(node, Event::Owner(says));
        }
        self.hear();
    }

    fn is_up(&self, node: NodeId) -> bool {
        self.grid.state().nodes.find(node).is_some_and(|row| row.up)
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
        self.hear();
        loop {
            let event = self.events.keys().next().map(|key| key.0);
            let stations = self.stations.iter().map(Station::next_wake);
            let station = stations.min().filter(|at| *at < Time::MAX).map(|at| at.max(self.now));
            let wake = self.grid.next_wake().map(|(at, _)| at.max(self.now));
            let next = event.into_iter().chain(station).chain(wake).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            wakes = if at > self.now { 0 } else { wakes + 1 };
            assert!(wakes < WAKES_MAX, "the core asks to be woken at {at} for ever");
            self.now = at;
            // Ends come before the wakes of the same instant, the nodes' before the core's.
            if event.is_some_and(|t| t <= at) {
                self.run_event();
            } else if station.is_some_and(|t| t <= at) {
                self.wake_stations();
            } else {
                self.wake();
            }
            self.hear();
        }
        self.now = end;
    }

    /// Ends the first process that ends.
    fn run_event(&mut self) {
        let Some((_, (place, outcome))) = self.events.pop_first() else { return };
        let Some(process) = self.processes.remove(&place) else { return };
        let done = process.done(self.now);
        if let Some((_, all)) = self.jobs.get_mut(&process.job) {
            *all = done.max(*all);
        }
        self.happen(place.0, Event::Ended(place.1, process.epoch, outcome));
    }

    /// Wakes every station that asked for it.
    fn wake_stations(&mut self) {
        for (i, node) in (0..self.stations.len()).zip((0..).map(NodeId::new)) {
            if self.stations[i].next_wake() <= self.now {
                self.happen(node, Event::Wake);
            }
        }
    }

    /// Lets something happen to a station, and does what it wants done.
    fn happen(&mut self, node: NodeId, event: Event) {
        let now = self.now;
        let Some(station) = self.stations.get_mut(node.get() as usize) else { return };
        let mut actions = Vec::new();
        let entry = station.entry(now, event);
        station.apply(&entry, &mut actions);
        if self.checks == Checks::Every {
            let breaches = gridcore::station::check(station);
            assert!(breaches.is_empty(), "{node} after {entry:?}: {breaches:#?}");
        }
        for action in actions {
            self.act(node, action);
        }
    }

    /// Tells the core what stations have told, each node's in its order, by the nodes' numbers.
    fn hear(&mut self) {
        self.told.make_contiguous().sort_by_key(|report| match report {
            Report::Lease { node, .. }
            | Report::Lending { node, .. }
            | Report::Sample { node, .. }
            | Report::NodeDown { node }
            | Report::NodeUp { node } => Some(*node),
            Report::Message(_) | Report::Restarted | Report::Stopping => None,
        });
        while let Some(report) = self.told.pop_front() {
            let heard = self.apply(Command::Report(report));
            assert!(heard.is_ok(), "a report is never denied");
        }
    }

    /// Lets the core do what is due, and know what time it is: that is never denied.
    pub fn wake(&mut self) {
        let _ = self.apply(Command::Wake);
    }

    /// Applies one entry at the present time.
    fn apply(&mut self, command: Command) -> Result<Reply, Denied> {
        self.seq = self.seq.next();
        let entry = Entry { seq: self.seq, at: self.now, command };
        let before = (self.checks == Checks::Every).then(|| self.grid.state().clone());
        let mut effects = Vec::new();
        let answer = self.grid.apply(&entry, &mut effects);
        assert!(answer.is_ok() || entry.command != Command::Wake, "a wake is never denied");
        if let Some(before) = before {
            let state = self.grid.state();
            let mut breaches = check(state);
            breaches.extend(check_step(&before, &entry, state));
            assert!(breaches.is_empty(), "after {entry:?}: {breaches:#?}");
        }
        self.entries.push(entry);
        for effect in effects {
            if let Some(texts) = &mut self.texts {
                let text = crate::text::effect(self.grid.state(), &effect);
                texts.extend(text.map(|text| (self.now, text)));
            }
            self.perform(&effect);
            self.effects.push((self.now, effect));
        }
        answer
    }

    /// Does what the core wants done.
    fn perform(&mut self, effect: &Effect) {
        match effect {
            Effect::Order { node, order } => {
                if self.is_up(*node) {
                    self.happen(*node, Event::Order(order.clone()));
                }
            }
            Effect::Requeued { job, lost, .. } => {
                if let Some((_, done)) = self.jobs.get_mut(job) {
                    *done = done.saturating_sub(*lost);
                }
            }
            Effect::Finished(end) => drop(self.jobs.remove(&end.job)),
            Effect::Send { .. }
            | Effect::Granted { .. }
            | Effect::Resized { .. }
            | Effect::Evicted { .. }
            | Effect::Idle(_)
            | Effect::Closed(_)
            | Effect::Drained { .. }
            | Effect::Moved(_)
            | Effect::Offer { .. } => {}
        }
    }

    /// Does what a station wants done.
    fn act(&mut self, node: NodeId, action: Action) {
        match action {
            Action::Spawn(lease, epoch, _) => self.start((node, lease), epoch),
            Action::Pause(lease, _) => {
                self.say(format!("pause {lease}"));
                self.pause((node, lease));
            }
            Action::Resume(lease, _) => {
                self.say(format!("resume {lease}"));
                self.go_on((node, lease));
            }
            Action::Resize(lease, _, cpu) => self.say(format!("resize {lease} to {}m", cpu.get())),
            Action::Terminate(lease, ..) => self.notice((node, lease)),
            Action::Kill(lease, _) => {
                let place = (node, lease);
                let Some(process) = self.processes.get(&place) else { return };
                let dies = self.jobs.get(&process.job).map_or(Span::ZERO, |(work, _)| work.dies);
                self.stop_after(place, dies);
            }
            Action::Tell(item) => self.told.push_back(Report::Lease { node, item }),
            Action::Lend(lending) => self.told.push_back(Report::Lending { node, lending }),
            Action::Save(_) | Action::Erase(_) | Action::Extend(..) | Action::Send(_) => {
                panic!("halves that are joined directly need no {action:?}")
            }
        }
    }

    /// Adds a line to the story, if the world narrates.
    fn say(&mut self, text: String) {
        if let Some(texts) = &mut self.texts {
            texts.push((self.now, text));
        }
    }

    fn start(&mut self, place: Place, epoch: Epoch) {
        let Some(row) = self.grid.state().leases.get(&place.1) else { return };
        let job = row.job;
        let Some((_, done)) = self.jobs.get(&job).copied() else { return };
        let process = Process { job, epoch, done, since: None, event: None };
        let twice = self.processes.insert(place, process);
        assert!(twice.is_none(), "a lease starts once");
        self.go_on(place);
    }

    /// Lets a process work, from where it stands.
    fn go_on(&mut self, place: Place) {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&place) else { return };
        let Some((work, _)) = self.jobs.get(&process.job).copied() else { return };
        if process.since.is_some() {
            return;
        }
        process.since = Some(now);
        let left = work.work.saturating_sub(process.done);
        let outcome = if work.fails { Outcome::Failed } else { Outcome::Completed };
        self.end_at(place, now.after(left), outcome);
    }

    fn pause(&mut self, place: Place) {
        let now = self.now;
        let Some(process) = self.processes.get_mut(&place) else { return };
        process.done = process.done(now);
        process.since = None;
        if let Some(event) = process.event.take() {
            self.events.remove(&event);
        }
    }

    fn notice(&mut self, place: Place) {
        self.go_on(place);
        let Some(process) = self.processes.get(&place) else { return };
        if let Some((Work { leaves: Some(leaves), .. }, _)) = self.jobs.get(&process.job) {
            let leaves = *leaves;
            self.stop_after(place, leaves);
        }
    }

    /// Ends a process as stopped after a while, unless it ends before by itself.
    fn stop_after(&mut self, place: Place, span: Span) {
        let at = self.now.after(span);
        let Some(process) = self.processes.get(&place) else { return };
        if process.event.is_none_or(|(end, _)| at < end) {
            self.end_at(place, at, Outcome::Stopped);
        }
    }

    fn end_at(&mut self, place: Place, at: Time, outcome: Outcome) {
        let Some(process) = self.processes.get_mut(&place) else { return };
        if let Some(old) = process.event.take() {
            self.events.remove(&old);
        }
        self.order += 1;
        process.event = Some((at, self.order));
        self.events.insert((at, self.order), (place, outcome));
    }

    /// Starts a node's station anew, by the rules in force.
    fn renew_station(&mut self, node: NodeId) {
        let (watch, now) = (self.grid.state().rules.watch(), self.now);
        if let Some(station) = self.stations.get_mut(node.get() as usize) {
            *station = Station::new(station.machine.clone(), watch, None, now);
        }
    }

    /// Ends the processes on a node without a word, and its station with them.
    fn lose_node(&mut self, node: NodeId) {
        self.renew_station(node);
        let events = &mut self.events;
        self.processes.retain(|place, process| {
            if place.0 == node
                && let Some(event) = process.event.take()
            {
                events.remove(&event);
            }
            place.0 != node
        });
    }

    /// Returns what runs, and where.
    pub fn living(&self) -> impl Iterator<Item = (NodeId, LeaseId, Epoch)> {
        self.processes.iter().map(|((node, lease), process)| (*node, *lease, process.epoch))
    }
}

impl Process {
    /// Returns how much of its job's work is done at a time.
    fn done(&self, now: Time) -> Span {
        self.since.map_or(self.done, |since| self.done.saturating_add(now.since(since)))
    }
}
