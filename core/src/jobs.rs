//! Jobs: accepted requests on their way.

use crate::command::JobSpec;
use crate::config::{Preemption, Scheduling};
use crate::flat::FlatSet;
use crate::ids::{AccountId, Epoch, JobId, LeaseId, NodeId, ShapeId};
use crate::units::{MicroAtp, MilliCores, Ppm, Priority, Span, Time};
use crate::wire::Task;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Nodes, and how many members on each.
pub type Places = Vec<(NodeId, u32)>;

/// What was promised to a job that is to begin later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    /// From when.
    pub begin: Time,
    /// Where; others where there is no room there any more.
    pub places: Places,
}

/// What a job waits for after attempts that were stopped because their next term was not paid for,
/// and of which nothing was kept: neither credit that comes in drops nor a price that comes and
/// goes is to be burnt on attempts without end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setback {
    /// How long it waits: twice as long with every such attempt, at least twice what it lost.
    pub span: Span,
    /// Until when; [`Time::ZERO`] once it has started again.
    pub until: Time,
    /// Whether it starts before then if its account can pay for so long, at most for its limit.
    pub short: bool,
}

/// What keeps others from making way for a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Vain {
    /// There is nobody who could.
    #[default]
    Nobody,
    /// It would stay too long: somebody's place is kept there, or it is not sure enough to stay.
    Stay,
    /// Its account or its pool has no right to that, or no credit.
    Account,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum JobState {
    /// In the queue.
    Pending,
    /// Kept from starting by its account, or because node after node was lost with it.
    Held,
    /// Waiting for other jobs to complete, or for its beginning.
    Dependent,
    /// Waiting for its victims to leave.
    Nominated,
    /// Holding a lease.
    Running(LeaseId),
}

impl JobState {
    /// Returns whether it holds a lease.
    #[must_use]
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Running(_))
    }

    /// Returns the name that users meet.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Held => "held",
            Self::Dependent => "dependent",
            Self::Nominated => "reserved",
            Self::Running(_) => "running",
        }
    }
}

/// The class of jobs that starve: before all but urgent ones.
pub const STARVING: u8 = 99;
/// The highest class that ageing gives.
const AGED_MAX: u8 = 75;
/// Classes that one step of ageing gives.
const STEP: u8 = 25;
/// Where there are no steps of ageing, it is asked no more often than this whether a job waits for
/// room.
const ASKED_AGAIN: Span = Span::minutes(10);
/// On the way to starving that is asked so often.
const STARVING_STEPS: u64 = 24;

/// One accepted request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its number: the order of submission, which survives a requeue.
    pub id: JobId,
    /// Who pays.
    pub account: AccountId,
    /// What it asks for.
    pub shape: ShapeId,
    /// How much it matters.
    pub priority: Priority,
    /// CPU that it can use beside its needs.
    pub extra: MilliCores,
    /// Longest run of one attempt.
    pub limit: Option<Span>,
    /// Work between two checkpoints.
    pub checkpoint: Option<Span>,
    /// Time that a restart takes before work goes on.
    pub restart: Span,
    /// Whether it may move to another node although it says no checkpoint.
    pub movable: bool,
    /// When it was last told to move to another node.
    pub moved_at: Option<Time>,
    /// Most credit it may cost over all attempts.
    pub budget: Option<MicroAtp>,
    /// The highest price that it pays, as a multiple of the rates.
    pub price_max: Option<Ppm>,
    /// Longest notice it asks for when an owner returns.
    pub vacate: Option<Span>,
    /// What it runs.
    pub task: Task,
    /// When it was submitted.
    pub submitted: Time,
    /// When it may start, while that is not yet.
    pub begin: Option<Time>,
    /// Whether a place is kept for it from its beginning on, until it has started.
    pub reserved: bool,
    /// Jobs that it waits for.
    pub after: FlatSet<JobId>,
    /// One of those that it was to wait for, and that has ended without completing.
    pub hopeless: Option<JobId>,
    /// Where it stands.
    pub state: JobState,
    /// How often it was started; the epoch of the last start.
    pub epoch: Epoch,
    /// What its account paid so far, before refunds.
    pub charged: MicroAtp,
    /// What came back so far.
    pub refunded: MicroAtp,
    /// What came of attempts that were stopped because the next term was not paid for.
    pub setback: Setback,
    /// Before then it does not preempt again.
    pub preempt_after: Time,
    /// What kept it from that when it last tried.
    pub in_vain: Vain,
    /// How long it waited for room before it last entered the queue.
    pub waited: Span,
    /// Since when it waits for room.
    pub waits_since: Option<Time>,
    /// When it counts a class more next, while it waits.
    pub ages_at: Option<Time>,
    /// How often it made way for a higher class.
    pub preempted: u32,
    /// Nodes that were lost one after another soon after it had started there.
    pub lost_with: FlatSet<NodeId>,
    /// Whether it is held because there were too many of them.
    pub suspect: bool,
    /// Whether its account took it back while it was running: it does not wait again.
    pub cancelled: bool,
}

impl Job {
    /// Makes a job that has just been accepted.
    #[must_use]
    pub fn new(id: JobId, account: AccountId, shape: ShapeId, spec: &JobSpec, now: Time) -> Self {
        Self {
            id,
            account,
            shape,
            priority: spec.priority,
            extra: spec.extra,
            limit: spec.limit,
            checkpoint: spec.checkpoint,
            restart: spec.restart,
            movable: spec.movable,
            moved_at: None,
            budget: spec.budget,
            price_max: spec.price_max,
            vacate: spec.vacate,
            task: spec.task,
            submitted: now,
            begin: spec.begin.filter(|begin| *begin > now),
            reserved: spec.reserve,
            after: spec.after.iter().copied().collect(),
            hopeless: None,
            state: JobState::Pending,
            epoch: Epoch::new(0),
            charged: MicroAtp::ZERO,
            refunded: MicroAtp::ZERO,
            setback: Setback::default(),
            preempt_after: Time::ZERO,
            in_vain: Vain::Nobody,
            waited: Span::ZERO,
            waits_since: None,
            ages_at: None,
            preempted: 0,
            lost_with: FlatSet::default(),
            suspect: false,
            cancelled: false,
        }
    }

    /// Returns whether it must not start yet, because of other jobs or of the time.
    #[must_use]
    pub fn depends(&self) -> bool {
        !self.after.is_empty() || self.hopeless.is_some() || self.begin.is_some()
    }

    /// Returns how long it has waited for room so far.
    #[must_use]
    pub fn waited(&self, now: Time) -> Span {
        self.waited.saturating_add(self.waits_since.map_or(Span::ZERO, |since| now.since(since)))
    }

    /// Returns the class by which it goes after waiting so long: urgent ones by theirs, as long as
    /// they count as urgent, others by what they have come to by then.
    #[must_use]
    pub fn class_after(&self, wait: Span, rules: &Scheduling) -> u8 {
        let declared = self.priority.class();
        if declared == Priority::URGENT.class() {
            return declared;
        }
        self.aged_after(wait, rules)
    }

    /// Returns the class that it has come to by waiting so long: those that starve go right after
    /// urgent ones, others count 25 more for each step of ageing, up to high. An urgent one that
    /// starves goes so where the cap on urgent work lets it count as high only.
    #[must_use]
    pub fn aged_after(&self, wait: Span, rules: &Scheduling) -> u8 {
        let declared = self.priority.class();
        if rules.starvation_after.is_some_and(|long| wait >= long) {
            return STARVING;
        }
        let steps = rules.ageing.map_or(0, |step| wait.get() / step.get().max(1));
        let aged = steps.saturating_mul(STEP.into()).saturating_add(declared.into());
        declared.max(u8::try_from(aged.min(AGED_MAX.into())).unwrap_or(AGED_MAX))
    }

    /// Returns how long it must have waited to be asked whether that was for room: to count as more
    /// than after waiting so long, or at least as long as it may come to starve.
    #[must_use]
    pub fn next_ageing(&self, wait: Span, rules: &Scheduling) -> Option<Span> {
        let class = self.aged_after(wait, rules);
        let starves = rules.starvation_after.filter(|_| class != STARVING);
        let ages = rules.ageing.is_some() && class < AGED_MAX;
        let step = self.ageing_step(wait, rules).get();
        let next = Span::new((wait.get() / step + 1) * step);
        let older = (ages || starves.is_some()).then_some(next);
        older.into_iter().chain(starves).min()
    }

    /// Returns how long it waits, after waiting so long, until it is asked whether that is for
    /// room: a step of ageing, or where it can only come to starve some part of that.
    #[must_use]
    pub fn ageing_step(&self, wait: Span, rules: &Scheduling) -> Span {
        let step = rules.ageing.unwrap_or(ASKED_AGAIN).max(Span::new(1));
        if rules.ageing.is_some() && self.aged_after(wait, rules) < AGED_MAX {
            return step;
        }
        rules.starvation_after.map_or(step, |long| step.max(Span::new(long.get() / STARVING_STEPS)))
    }

    /// Returns whether it makes way for nobody, having run for `ran`: others took its place too
    /// often.
    #[must_use]
    pub fn is_boosted(&self, ran: Span, rules: &Preemption) -> bool {
        let often = rules.boost_after.is_some_and(|most| self.preempted >= most);
        often && ran < self.limit.unwrap_or(Span::minutes(60))
    }

    /// Returns the priority that its next attempt pays by.
    #[must_use]
    pub fn pays_as(&self, rules: &Preemption) -> Priority {
        if self.is_boosted(Span::ZERO, rules) {
            return self.priority.max(Priority::MEDIUM);
        }
        self.priority
    }

    /// Returns the work that would be lost if it were stopped after running for `ran`.
    #[must_use]
    pub fn lost_after(&self, ran: Span) -> Span {
        match self.checkpoint {
            None => ran,
            Some(interval) if interval.is_zero() => Span::ZERO,
            Some(interval) => Span::new(ran.get() % interval.get()),
        }
    }
}
