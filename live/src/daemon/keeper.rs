//! The loop over the core: one thread that owns [`Grid`] and its journal.
//!
//! What has come is stamped, appended and synced as one group; only then is it applied, and only
//! then does anything follow: replies, messages to nodes, what people are told.

use super::history::{Ended, Happening, History};
use super::metrics::Counters;
use super::store::Store;
use crate::clock::{micros, since_boot};
use crate::frame::{Down, Exit};
use gridcore::command::{Command, Entry, Reply, Report};
use gridcore::deny::Denied;
use gridcore::effect::Effect;
use gridcore::grid::Grid;
use gridcore::ids::{Epoch, JobId, NodeId};
use gridcore::units::{Span, Time};
use serde_json::{Value, json};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};

/// Requests and messages that may wait; more are refused.
const WAITING_MAX: usize = 16_384;
/// Most entries of one group.
const GROUP_MAX: usize = 1_024;
/// Events that a slow listener may miss.
const EVENTS_KEPT: usize = 4_096;

/// Why the daemon does not answer a request with what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The core says no.
    #[error("{0}")]
    Denied(Denied),
    /// More waits than may.
    #[error("the daemon is busy: {WAITING_MAX} requests wait; try again")]
    Busy,
    /// No space is left for new work.
    #[error("the daemon's disk is full: nothing new is taken, what runs goes on")]
    DiskFull,
    /// It is stopping.
    #[error("the daemon is stopping")]
    Stopping,
}

/// An answer that is to come.
pub struct Answered(oneshot::Receiver<Result<Reply, Refusal>>);

impl Answered {
    /// Waits for it.
    ///
    /// # Errors
    /// When it is a refusal.
    pub async fn take(self) -> Result<Reply, Refusal> {
        self.0.await.unwrap_or(Err(Refusal::Stopping))
    }
}

type Answer = oneshot::Sender<Result<Reply, Refusal>>;
type Look = Box<dyn FnOnce(&Grid, &mut History) + Send>;
type Count = oneshot::Sender<Counters>;

/// What may reach the loop.
enum Input {
    /// Something that happened, or is asked for.
    Command(Box<Command>, Option<Answer>),
    /// Somebody wants to know something.
    Look(Look),
    /// Somebody wants to know what was counted.
    Count(Count),
    /// A node says how an attempt ended.
    Exited(JobId, Epoch, Exit),
    /// The disk has failed elsewhere: stop.
    Failed(io::Error),
    /// Stop, and say when all is synced.
    Stop(oneshot::Sender<()>),
}

/// The way to the loop.
#[derive(Clone)]
pub struct Handle {
    inputs: SyncSender<Input>,
    events: broadcast::Sender<Happening>,
}

impl Handle {
    fn send(&self, input: Input) -> Result<(), Refusal> {
        self.inputs.try_send(input).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::Busy,
            TrySendError::Disconnected(_) => Refusal::Stopping,
        })
    }

    /// Asks for something; the answer comes when it is synced and done.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn ask(&self, command: Command) -> Result<Reply, Refusal> {
        self.begin(command)?.take().await
    }

    /// Begins to ask for something: what is begun first is done first.
    ///
    /// # Errors
    /// When too much waits, or the daemon is stopping.
    pub fn begin(&self, command: Command) -> Result<Answered, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.send(Input::Command(Box::new(command), Some(answer)))?;
        Ok(Answered(answered))
    }

    /// States a fact.
    pub fn report(&self, report: Report) {
        // A message that is not taken is as good as lost on its way: it is said again.
        let _ = self.send(Input::Command(Box::new(Command::Report(report)), None));
    }

    /// Passes on how an attempt ended.
    pub fn exited(&self, job: JobId, epoch: Epoch, exit: Exit) {
        let _ = self.send(Input::Exited(job, epoch, exit));
    }

    /// Stops the daemon, whose disk has failed: nobody can know what it holds. Waits until the loop
    /// has room for it.
    pub fn failed(&self, error: io::Error) {
        let _ = self.inputs.send(Input::Failed(error));
    }

    /// Looks at the state as it is between two entries.
    ///
    /// # Errors
    /// When the daemon is busy or stopping.
    pub async fn look<T: Send + 'static>(
        &self,
        at: impl FnOnce(&Grid, &mut History) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (seen, sees) = oneshot::channel();
        let look: Look = Box::new(move |grid, history| {
            let _ = seen.send(at(grid, history));
        });
        self.send(Input::Look(look))?;
        sees.await.map_err(|_| Refusal::Stopping)
    }

    /// Returns what was counted since the start.
    ///
    /// # Errors
    /// When the daemon is busy or stopping.
    pub async fn counters(&self) -> Result<Counters, Refusal> {
        let (told, tells) = oneshot::channel();
        self.send(Input::Count(told))?;
        tells.await.map_err(|_| Refusal::Stopping)
    }

    /// Listens to what happens from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Happening> {
        self.events.subscribe()
    }

    /// Stops the loop once all it was given is synced.
    pub async fn stop(&self) {
        let (done, is_done) = oneshot::channel();
        if self.send(Input::Stop(done)).is_ok() {
            let _ = is_done.await;
        }
    }
}

/// The loop.
pub struct Keeper {
    grid: Grid,
    store: Store,
    history: History,
    inputs: Receiver<Input>,
    nodes: Vec<mpsc::UnboundedSender<Down>>,
    events: broadcast::Sender<Happening>,
    /// What the clock showed when this start began, and what the history's time was then.
    began: (Time, Time),
    effects: Vec<Effect>,
    counters: Counters,
    stopped: Option<oneshot::Sender<()>>,
}

impl Keeper {
    /// Makes the loop over a state, and the way to it.
    #[must_use]
    pub fn new(grid: Grid, store: Store, history: History) -> (Self, Handle) {
        let (to, inputs) = sync_channel(WAITING_MAX);
        let (events, _) = broadcast::channel(EVENTS_KEPT);
        let began = (since_boot(), grid.state().now);
        let nodes = Vec::new();
        let handle = Handle { inputs: to, events: events.clone() };
        let effects = Vec::new();
        let stopped = None;
        let counters = Counters::default();
        let keeper =
            Self { grid, store, history, inputs, nodes, events, began, effects, counters, stopped };
        (keeper, handle)
    }

    /// Sets the ways to the nodes, in their order.
    pub fn set_nodes(&mut self, nodes: Vec<mpsc::UnboundedSender<Down>>) {
        self.nodes = nodes;
    }

    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// When the disk fails: nobody can know what it holds then.
    pub fn run(mut self, restarted: bool) -> io::Result<()> {
        if restarted {
            self.group(vec![(Command::Report(Report::Restarted), None)])?;
        }
        while self.stopped.is_none() {
            let inputs = self.gather();
            self.take(inputs)?;
        }
        self.store.sync()?;
        if let Some(done) = self.stopped.take() {
            let _ = done.send(());
        }
        Ok(())
    }

    /// Returns the history's time.
    fn now(&self) -> Time {
        let passed = since_boot().since(self.began.0);
        self.began.1.after(passed).max(self.grid.state().now)
    }

    /// Waits for what comes next, at most until the core wants to be woken.
    fn gather(&self) -> Vec<Input> {
        let next = self.grid.next_wake().map_or(Time::MAX, |(at, _)| at);
        let left = next.since(self.now()).min(Span::seconds(5));
        let mut inputs = Vec::new();
        match self.inputs.recv_timeout(Duration::from_millis(left.get())) {
            Ok(input) => inputs.push(input),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return inputs,
        }
        while inputs.len() < GROUP_MAX
            && let Ok(input) = self.inputs.try_recv()
        {
            inputs.push(input);
        }
        inputs
    }

    /// Takes what has come, and what is due.
    fn take(&mut self, inputs: Vec<Input>) -> io::Result<()> {
        let (mut commands, mut looks) = (Vec::new(), Vec::new());
        for input in inputs {
            match input {
                Input::Command(command, answer) => {
                    let asks = matches!(*command, Command::Request(_) | Command::Numbered(_));
                    if asks && self.store.full {
                        answer.map(|answer| answer.send(Err(Refusal::DiskFull)));
                    } else {
                        commands.push((*command, answer));
                    }
                }
                Input::Look(look) => looks.push(look),
                Input::Count(told) => drop(told.send(self.counters.clone())),
                Input::Exited(job, epoch, exit) => self.history.exited(job, epoch, exit),
                Input::Failed(error) => return Err(error),
                Input::Stop(done) => self.stopped = Some(done),
            }
        }
        if !commands.is_empty() {
            self.group(commands)?;
        }
        while self.grid.next_wake().is_some_and(|(at, _)| at <= self.now()) {
            self.group(vec![(Command::Wake, None)])?;
        }
        for look in looks {
            look(&self.grid, &mut self.history);
        }
        if self.store.full {
            self.store.reserve()?;
        }
        if self.store.wants_snapshot() {
            self.store.snapshot(&self.grid)?;
        }
        Ok(())
    }

    /// Journals some commands as one group, then applies them.
    fn group(&mut self, commands: Vec<(Command, Option<Answer>)>) -> io::Result<()> {
        let (at, mut seq) = (self.now(), self.grid.state().seq);
        let mut entries = Vec::with_capacity(commands.len());
        for (command, answer) in commands {
            seq = seq.next();
            let entry = Entry { seq, at, command };
            self.store.append(&entry)?;
            entries.push((entry, answer));
        }
        self.store.sync()?;
        for (entry, answer) in entries {
            let mut effects = std::mem::take(&mut self.effects);
            let began = micros();
            let reply = self.grid.apply(&entry, &mut effects);
            self.counters.decided(micros().saturating_sub(began), since_boot());
            if let Ok(Reply::Submitted(job)) = &reply {
                self.submitted(*job);
            }
            for effect in effects.drain(..) {
                self.perform(effect);
            }
            self.effects = effects;
            if let Some(answer) = answer {
                let _ = answer.send(reply.map_err(Refusal::Denied));
            }
        }
        Ok(())
    }

    fn submitted(&mut self, id: JobId) {
        let Some(job) = self.grid.state().jobs.get(&id) else { return };
        self.history.submitted(job);
        let name = self.history.name(id);
        self.tell("submitted", json!({ "job": id.get(), "name": name }));
    }

    /// Tells whoever listens.
    fn tell(&mut self, what: &str, mut about: Value) {
        if let Some(about) = about.as_object_mut() {
            about.insert("event".to_owned(), json!(what));
            about.insert("at_s".to_owned(), super::views::seconds(self.grid.state().now));
        }
        let _ = self.events.send(self.history.happened(about));
    }

    /// Does what follows from an entry.
    fn perform(&mut self, effect: Effect) {
        self.counters.count(&effect, self.grid.state().now);
        match effect {
            Effect::Send { node, message } => {
                if let Some(way) = self.way(node) {
                    let _ = way.send(Down::Core(message));
                }
            }
            Effect::Granted { lease, job, epoch, confidence } => {
                let nodes = super::views::places(self.grid.state(), lease);
                let sure = confidence.total().get();
                self.history.started(job, epoch, &nodes, Some(sure));
                let (job, attempt) = (job.get(), epoch.get());
                let about =
                    json!({ "job": job, "attempt": attempt, "nodes": nodes, "confidence": sure });
                self.tell("started", about);
            }
            Effect::Resized { lease, cpu } => {
                let job = self.grid.state().leases.get(&lease).map(|lease| lease.job.get());
                let cores = super::views::thousandths(cpu.get());
                self.tell("resized", json!({ "job": job, "cpu_cores": cores }));
            }
            Effect::Evicted { lease, reason, .. } => {
                let job = self.grid.state().leases.get(&lease).map(|lease| lease.job.get());
                self.tell("told to leave", json!({ "job": job, "reason": reason.name() }));
            }
            Effect::Requeued { job, reason, lost } => {
                let lost = lost.get() / 1_000;
                let about =
                    json!({ "job": job.get(), "reason": reason.name(), "lost_work_s": lost });
                self.history.requeued(job);
                self.tell("requeued", about);
            }
            Effect::Idle(idle) => {
                let state = self.grid.state();
                let mut about = super::views::idle(state, idle.since);
                about["job"] = json!(idle.job.get());
                self.tell("idle", about);
            }
            Effect::Drained { node } => {
                let row = &self.grid.state().nodes[node];
                let about = json!({ "node": row.spec.name, "reason": row.draining });
                self.tell("drained", about);
            }
            Effect::Finished(end) => {
                let about = json!({ "job": end.job.get(), "state": state_name(end.state) });
                let ended = Ended {
                    state: state_name(end.state).to_owned(),
                    charged: end.charged.get(),
                    refunded: end.refunded.get(),
                };
                self.history.finished(end.job, ended);
                self.tell("ended", about);
            }
            Effect::Offer { node, fate, .. } => {
                let node = self.grid.state().nodes[node].spec.name.clone();
                self.tell("offer", json!({ "node": node, "fate": format!("{fate:?}") }));
            }
            Effect::Closed(end) => self.history.closed(end.job, end.reason),
            Effect::Moved(_) => {}
            // The halves are never joined directly here.
            Effect::Order { .. } => {}
        }
    }

    fn way(&self, node: NodeId) -> Option<&mpsc::UnboundedSender<Down>> {
        self.nodes.get(usize::try_from(node.get()).ok()?)
    }
}

/// Returns the name of a last state that users meet.
fn state_name(state: gridcore::effect::FinalState) -> &'static str {
    use gridcore::effect::FinalState;
    match state {
        FinalState::Completed => "completed",
        FinalState::Failed => "failed",
        FinalState::Timeout => "timeout",
        FinalState::Cancelled => "cancelled",
        FinalState::Preempted => "preempted",
        FinalState::NodeFail => "node_fail",
        FinalState::OutOfBudget => "out_of_budget",
    }
}
