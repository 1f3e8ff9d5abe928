//! The world around the core: machines, owners, people and processes as events.
//!
//! One loop takes events in their stated order, turns each into an entry for the core, and performs
//! the core's effects by scheduling further events. Both halves of the core are the ones that
//! `gridlive` drives.

mod blows;
mod deadline;
mod disk;
pub mod feed;
mod machines;
mod network;
mod nodes;
mod observe;
mod pace;
mod process;
mod samples;
mod store;
mod submit;
pub mod tally;
mod usage;

use crate::kernel::{Class, Event as Next, EventQueue};
use crate::record::RunRecord;
use crate::scenario::build::{NodeLoad, Setup};
use crate::scenario::limits::RUN_MAX;
use crate::work::{BlowRecord, FaultRecord, JobRecord};
use feed::Feed;
use gridcore::canary::{Canary, planted};
use gridcore::command::{Command, Entry, Reply, Report, Sample};
use gridcore::config::{ConfigError, NodeSpec};
use gridcore::deny::Denied;
use gridcore::effect::Effect;
use gridcore::grid::Grid;
use gridcore::ids::{AccountId, NodeId, PoolId, Seq};
use gridcore::rate::Pace;
use gridcore::rows::Rows;
use gridcore::state::State;
use gridcore::station::link::Identity;
use gridcore::station::{Action, Station, machine};
use gridcore::units::{Span, Time};
use network::{Agenda, Far};
use pace::Process;
use process::JobProgress;
use std::collections::{BTreeMap, VecDeque};
use store::Crash;
use tally::{Tally, triple};

/// How far a run has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Simulated time.
    pub now: Time,
    /// The end, when it is known.
    pub horizon: Option<Time>,
    /// Events so far.
    pub events: u64,
    /// Jobs submitted so far.
    pub submitted: u64,
    /// Jobs that ended so far.
    pub ended: u64,
}

/// Sees every entry.
pub type Watch = Box<dyn FnMut(&Entry<Command>)>;

/// How many events lie between two looks at the outside.
const LOOK: u64 = 4_096;

/// How long a run without a horizon goes on after the last event that the core did not ask for
/// itself: longer than any of its timers, so that what still waits then waits for ever.
const PATIENCE: Span = Span::seconds(30 * 86_400);

/// How many events of one instant are too many for a cluster in foul weather.
const CROWD_MAX: u64 = 300_000;

/// How long a cluster is given to settle once the weather is over.
const SETTLES: Span = Span::seconds(600);

/// How long a cluster that has settled is given to take up what still waits.
const IDLE: Span = Span::seconds(3_600);

/// A simulated cluster on its way.
pub struct World {
    grid: Grid,
    events: EventQueue,
    now: Time,
    seq: Seq,
    wake_at: Option<Time>,
    /// The last fault, submission or end that is known.
    settled_at: Time,
    horizon: Option<Time>,
    jobs: Box<dyn Iterator<Item = JobRecord> + Send>,
    next_job: Option<JobRecord>,
    job_accounts: Vec<AccountId>,
    pools: BTreeMap<String, PoolId>,
    node_ids: BTreeMap<String, NodeId>,
    feeds: Vec<Feed>,
    /// What the next sample is written into: one allocation for all.
    sample: Sample,
    faults: Vec<FaultRecord>,
    blows: Vec<BlowRecord>,
    /// Row of each job the core has accepted, by job number.
    row_of: Vec<u32>,
    /// How fast each account has asked for jobs.
    paces: BTreeMap<AccountId, Pace>,
    /// When each account asked for each array.
    arrays: BTreeMap<(AccountId, u64), Time>,
    /// How far jobs are that are not over, by row.
    progress: Rows<usize, JobProgress>,
    /// Process trees by their number, as long as they do something.
    processes: Rows<usize, Process>,
    /// How many there were.
    process_count: usize,
    /// How many there were once each lease had its own, by lease number.
    processes_to: Vec<usize>,
    stations: Vec<Station>,
    /// When an event wakes each station.
    node_wakes: Vec<Time>,
    /// What stations told and the coordinator has not heard yet.
    told: VecDeque<Report>,
    effects: Vec<Effect>,
    actions: Vec<Action>,
    tally: Tally,
    observer: observe::Observer,
    record: RunRecord,
    counts: Counts,
    watch: Option<Watch>,
    /// What is to happen by the weather, or because somebody asks.
    agenda: Agenda,
    /// What is there only with a network.
    far: Option<Box<Far>>,
    /// When the last job ended.
    last_end: Time,
    /// The row that is being asked for.
    asking: Option<u32>,
    /// What must never happen and did.
    broken: Vec<String>,
    check: bool,
    decisions: bool,
    arrived_gpu: u128,
    capacity_gpu: u64,
    /// Whether some job says what it uses of its GPUs.
    says_use: bool,
}

/// What a run counts beside its rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Events taken from the queue.
    pub events: u64,
    /// Entries applied by the core.
    pub entries: u64,
    /// Jobs that ended in any way.
    pub ended: u64,
}

/// The result of a run.
pub struct Finished {
    /// Its rows.
    pub record: RunRecord,
    /// The core at its end.
    pub grid: Grid,
    /// The sums over time.
    pub tally: Tally,
    /// What the observer counted.
    pub harm: Harm,
    /// What was counted.
    pub counts: Counts,
    /// What must never happen and did.
    pub broken: Vec<String>,
    /// What the weather did, by name, and how often.
    pub weather: BTreeMap<&'static str, u64>,
    /// How long owners waited: the time, the bound, and whether the coordinator could be reached.
    pub reclaims: Vec<(Span, Span, bool)>,
}

/// An answer of the coordinator.
type Answer = Result<Reply, Denied>;

pub use observe::Harm;

impl World {
    /// Builds a world that has not begun.
    ///
    /// # Errors
    /// When the core refuses the configuration.
    pub fn new(setup: Setup) -> Result<Self, ConfigError> {
        let Setup { config, jobs, job_accounts, loads, faults, horizon, record, seed, .. } = setup;
        let dedicated = config.nodes.iter().all(|node| node.dedicated);
        let pools = (0..).zip(&config.pools).map(|(i, p)| (p.name.clone(), PoolId::new(i)));
        let nodes = (0..).zip(&config.nodes).map(|(i, n)| (n.name.clone(), NodeId::new(i)));
        let (pools, node_ids) = (pools.collect(), nodes.collect());
        let rows = observe::first_rows(&config, (&setup.name, &setup.about), seed, record);
        let of_node = |(load, node): (&NodeLoad, &NodeSpec)| Feed::new(load, node.gpus.len());
        let feeds = loads.iter().zip(&config.nodes).map(of_node).collect();
        let watch = config.rules.watch();
        let ids = (0..).map(NodeId::new);
        let station = |(id, spec)| {
            let identity = config.network.then(|| Identity::new(config.cluster, id, 1));
            Station::new(machine(spec), watch.clone(), identity, Time::ZERO)
        };
        let stations: Vec<Station> = ids.zip(&config.nodes).map(station).collect();
        let grid = Grid::new(config, Time::ZERO)?;
        let far = setup.weather.as_ref().map(|weather| blows::far(weather, seed, &grid));
        let capacity_gpu = rows.nodes.iter().map(|n| n.capacity.gpu.get()).sum();
        let (least, most) = jobs.size_hint();
        let mut world = Self {
            grid,
            events: EventQueue::new(),
            now: Time::ZERO,
            seq: Seq::new(0),
            wake_at: None,
            settled_at: Time::ZERO,
            horizon,
            jobs,
            next_job: None,
            job_accounts,
            pools,
            node_ids,
            feeds,
            sample: Sample::default(),
            faults,
            blows: setup.weather.as_ref().map_or_else(Vec::new, |w| w.blows.clone()),
            row_of: vec![u32::MAX],
            paces: BTreeMap::new(),
            arrays: BTreeMap::new(),
            progress: Rows::new(),
            processes: Rows::new(),
            process_count: 0,
            processes_to: vec![0],
            node_wakes: vec![Time::MAX; stations.len()],
            stations,
            told: VecDeque::new(),
            effects: Vec::new(),
            actions: Vec::new(),
            tally: Tally::default(),
            observer: observe::Observer::new(record, dedicated),
            record: rows,
            counts: Counts::default(),
            watch: None,
            agenda: Agenda::default(),
            far,
            last_end: Time::ZERO,
            asking: None,
            broken: Vec::new(),
            check: false,
            decisions: false,
            arrived_gpu: 0,
            capacity_gpu,
            says_use: false,
        };
        world.make_room(most.unwrap_or(least), record);
        world.begin();
        Ok(world)
    }

    /// Hands every entry that is kept to `watch`: the history that a replay needs.
    pub fn watch(&mut self, watch: Watch) {
        self.watch = Some(watch);
    }

    /// Keeps a row of every start and eviction.
    pub fn keep_decisions(&mut self) {
        self.decisions = true;
    }

    /// Checks every invariant after every entry; slow.
    pub fn check_invariants(&mut self) {
        self.check = true;
    }

    /// Schedules the first events.
    fn begin(&mut self) {
        for (i, fault) in self.faults.iter().enumerate() {
            self.events.push(fault.at, Class::Fault, i as u64);
            self.settled_at = self.settled_at.max(fault.at);
        }
        let mut capacity = [0; 3];
        for (id, node) in self.grid.state().nodes.iter() {
            let part = triple(&node.spec.capacity);
            for (sum, amount) in capacity.iter_mut().zip(part) {
                *sum += amount;
            }
            if !node.spec.dedicated {
                self.events.push(Time::ZERO, Class::Sample, u64::from(id.get()));
            }
        }
        self.tally.capacity = capacity;
        self.fetch_job();
        if self.grid.state().rules.offering.lend_hours.is_some() {
            self.events.push(Time::ZERO, Class::Clock, 0);
        }
        self.begin_weather();
        self.wake_at = Some(Time::ZERO);
        self.events.push(self.observer.next(), Class::Observe, 0);
    }

    /// Reads the next job and schedules its submission.
    fn fetch_job(&mut self) {
        self.next_job = self.jobs.next();
        if let Some(job) = &self.next_job {
            self.events.push(job.submit.max(self.now), Class::Submit, 0);
            self.settled_at = self.settled_at.max(job.submit);
        }
    }

    /// Runs to the end, or until `look` (asked now and then) returns `false`.
    pub fn run(mut self, mut look: impl FnMut(Progress) -> bool) -> Finished {
        let (mut complete, mut crowd) = (true, 0_u64);
        let end = self.horizon.unwrap_or(Time::ZERO.after(RUN_MAX));
        while !self.is_over() {
            let Some((at, class)) = self.next_event() else { break };
            if at >= end {
                self.now = end;
                // Without a horizon only the longest run there is ends like this: that is a cut.
                complete = self.horizon.is_some();
                break;
            }
            let popped = if class == Class::Wake { None } else { self.events.pop() };
            let what = popped.map_or(0, |event| event.what());
            crowd = if at > self.now { 0 } else { crowd + 1 };
            if crowd > CROWD_MAX && self.far.is_some() {
                self.broken.push(format!("[live] time stands still at {at}: {class:?}"));
            }
            self.now = at;
            self.tally.advance(at);
            self.counts.events += 1;
            match class {
                Class::Fault => self.fault(what),
                Class::Weather => self.weather(what),
                Class::Clock => self.clock(),
                Class::Sample => self.sample(what),
                Class::Submit => self.submit(),
                Class::End => self.end(what),
                Class::Deadline => self.deadline(what),
                Class::Node => self.wake_node(what),
                Class::Wake => self.wake(),
                Class::Observe => self.observe(),
            }
            // What stations tell because of samples is heard when all samples of the instant are
            // in: their order must not matter (invariant 46).
            let sampled = |next: Next| (next.at(), next.class()) == (at, Class::Sample);
            if class != Class::Sample || !self.events.peek().is_some_and(sampled) {
                self.hear();
            }
            if self.counts.events.is_multiple_of(LOOK) && !look(self.progress()) {
                complete = false;
                break;
            }
        }
        self.tally.advance(self.now);
        self.close(complete)
    }

    /// Returns when the next event happens, and its class. The wake of the coordinator's half is in
    /// no queue: it moves with every entry.
    fn next_event(&self) -> Option<(Time, Class)> {
        let next = self.events.peek().map(|event| (event.at(), event.class()));
        next.into_iter().chain(self.wake_at.map(|at| (at, Class::Wake))).min()
    }

    /// Returns how far the run has come.
    fn progress(&self) -> Progress {
        Progress {
            now: self.now,
            horizon: self.horizon,
            events: self.counts.events,
            submitted: self.record.jobs.len() as u64,
            ended: self.counts.ended,
        }
    }

    /// Returns whether all work is done in a run without a horizon, or nothing will change any
    /// more.
    fn is_over(&self) -> bool {
        if !self.broken.is_empty() {
            return true;
        }
        let swarm = self.far.as_ref().is_some_and(|far| far.network.heals < Time::MAX);
        if self.horizon.is_some() && !swarm || self.next_job.is_some() {
            return false;
        }
        let done = self.counts.ended == self.record.jobs.len() as u64 && self.now > Time::ZERO;
        if let Some(far) = &self.far {
            let heals = Some(far.network.heals).filter(|at| *at < Time::MAX);
            let calm = heals.unwrap_or(Time::ZERO).max(self.last_end);
            // Where not every job need end, it is enough that none has run for long.
            let long = heals.is_some() && self.now > calm.max(self.settled_at).after(IDLE);
            let idle = long && self.grid.state().leases.is_empty();
            return done && self.now > calm.after(SETTLES)
                || idle && self.stranded().next().is_none()
                || self.now > self.settled_at.after(PATIENCE);
        }
        done || self.now > self.settled_at.after(PATIENCE)
    }

    /// Gives one entry to the core and performs what follows; `None` when nobody answers.
    fn apply(&mut self, command: Command) -> Option<Answer> {
        if self.far.as_ref().is_some_and(|far| !far.store.up) {
            return None;
        }
        let entry = self.entry(command);
        self.apply_entry(&entry)
    }

    /// Stamps a command with the next sequence number and the coordinator's time.
    fn entry(&mut self, command: Command) -> Entry<Command> {
        self.seq = self.seq.next();
        Entry { seq: self.seq, at: self.grid_now(), command }
    }

    /// Gives one stamped entry to the core and performs what follows.
    fn apply_entry(&mut self, entry: &Entry<Command>) -> Option<Answer> {
        self.counts.entries += 1;
        let mut effects = std::mem::take(&mut self.effects);
        let before = self.check.then(|| self.grid.state().clone());
        let answer = self.grid.apply(entry, &mut effects);
        if let Some(before) = before {
            self.check_entry(&before, entry);
        }
        let grid = &self.grid;
        let far = self.far.as_deref_mut();
        let crash = far.and_then(|far| far.store.keep(entry, grid, &mut far.dice));
        if crash.is_some_and(|(crash, _)| crash == Crash::Before)
            && let Some(far) = &mut self.far
        {
            far.count("entry_lost_unsynced");
        }
        if let Some((crash, _)) = crash {
            Self::survive(crash, &mut effects);
        }
        let kept = crash.is_none_or(|(crash, _)| crash != Crash::Before);
        if let (true, Some(watch)) = (kept, &mut self.watch) {
            watch(entry);
        }
        if let (true, Ok(Reply::Submitted(id)), Some(row)) = (kept, &answer, self.asking)
            && id.get() >= self.row_of.len() as u64
        {
            self.admit(*id, row);
        }
        for effect in effects.drain(..) {
            self.perform(effect);
        }
        self.effects = effects;
        if let Some((_, away)) = crash {
            self.stop_coordinator(away);
            return planted(Canary::AnswerBeforeSync).then_some(answer);
        }
        self.schedule_wake();
        Some(answer)
    }

    /// Checks every invariant after an entry.
    #[cold]
    fn check_entry(&mut self, before: &State, entry: &Entry<Command>) {
        let state = self.grid.state();
        let mut breaches = gridcore::invariants::check(state);
        breaches.extend(gridcore::invariants::check_step(before, entry, state));
        if !breaches.is_empty() {
            self.broken.push(format!("after {:?}: {breaches:?}", entry.command));
        }
    }

    /// Sets when the core is woken: when it asked for that.
    fn schedule_wake(&mut self) {
        let next = self.grid.next_wake();
        self.wake_at = next.map(|(at, _)| self.when_grid(at).max(self.now));
    }

    /// Wakes the core, if it runs and still wants to be.
    fn wake(&mut self) {
        self.wake_at = None;
        if self.far.as_ref().is_some_and(|far| !far.store.up) {
            return;
        }
        let now = self.grid_now();
        if self.grid.next_wake().is_some_and(|(at, _)| at <= now) {
            let woken = self.apply(Command::Wake);
            debug_assert!(!matches!(woken, Some(Err(_))), "a wake is never refused");
        } else {
            self.schedule_wake();
        }
    }

    /// Applies a report, which is never refused.
    fn report(&mut self, report: Report) {
        let applied = self.apply(Command::Report(report));
        debug_assert!(!matches!(applied, Some(Err(_))), "a report is never refused");
    }
}
