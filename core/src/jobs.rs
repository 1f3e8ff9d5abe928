//! Jobs and the shapes they share.
//!
//! Many jobs ask for the same thing. A [`Shape`] is that thing: needs, pool and constraints; it is
//! what placement looks at, so that a decision costs by shape and not by job (HTCondor calls the
//! resulting groups autoclusters). A [`Job`] is one accepted request on its way.

use crate::bundle::{Bundle, Needs};
use crate::command::{JobSpec, LabelNeed};
use crate::ids::{AccountId, Epoch, JobId, LeaseId, NodeId, PoolId, ShapeId, Table};
use crate::units::{MicroAtp, Priority, Span, Time};
use crate::wire::Task;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What jobs have in common for placement.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shape {
    /// The pool.
    pub pool: PoolId,
    /// What each member needs.
    pub needs: Needs,
    /// How many members start together.
    pub members: u16,
    /// Whether no two members may share a node.
    pub spread: bool,
    /// Labels a node must have.
    pub labels: Vec<LabelNeed>,
    /// Nodes to take before any other.
    pub preferred: Vec<NodeId>,
    /// Whose nodes come first under `local_first`; `None` under other strategies.
    pub home: Option<AccountId>,
}

impl Shape {
    /// Returns what all members need together.
    #[must_use]
    pub fn total(&self) -> Bundle {
        let members = u64::from(self.members);
        self.needs.bundle().zip(&Bundle::ZERO, |need, _| need.saturating_mul(members))
    }
}

/// The shapes in use. A shape that no job uses keeps its place until another needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shapes {
    rows: Table<ShapeId, Shape>,
    users: Table<ShapeId, u64>,
    by_shape: BTreeMap<Shape, ShapeId>,
    /// Shapes without a job, oldest first by when they fell idle.
    idle: BTreeSet<(u64, ShapeId)>,
    idle_since: Table<ShapeId, u64>,
    clock: u64,
}

/// How many shapes without a job are remembered.
const IDLE_MAX: usize = 256;

impl Shapes {
    /// Returns the id of a shape and counts one more user; the flag says that the place now holds
    /// another shape than before.
    pub fn enter(&mut self, shape: Shape) -> (ShapeId, bool) {
        if let Some(id) = self.by_shape.get(&shape).copied() {
            if self.users[id] == 0 {
                self.idle.remove(&(self.idle_since[id], id));
            }
            self.users[id] += 1;
            return (id, false);
        }
        let reuse = if self.idle.len() > IDLE_MAX { self.idle.pop_first() } else { None };
        let id = if let Some((_, id)) = reuse {
            self.by_shape.remove(&self.rows[id]);
            self.rows[id] = shape.clone();
            id
        } else {
            self.users.push(0);
            self.idle_since.push(0);
            self.rows.push(shape.clone())
        };
        self.users[id] = 1;
        self.by_shape.insert(shape, id);
        (id, true)
    }

    /// Counts one user less.
    ///
    /// # Panics
    /// When it is left more often than entered: our bug.
    pub fn leave(&mut self, id: ShapeId) {
        assert!(self.users[id] > 0, "a shape is left once per job");
        self.users[id] -= 1;
        if self.users[id] == 0 {
            self.clock += 1;
            self.idle_since[id] = self.clock;
            self.idle.insert((self.clock, id));
        }
    }

    /// Returns whether a shape has a place.
    #[must_use]
    pub fn knows(&self, shape: &Shape) -> bool {
        self.by_shape.contains_key(shape)
    }

    /// Returns how many places there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether no shape was ever entered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl core::ops::Index<ShapeId> for Shapes {
    type Output = Shape;
    fn index(&self, id: ShapeId) -> &Shape {
        &self.rows[id]
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum JobState {
    /// In the queue.
    Pending,
    /// Kept from starting by its account.
    Held,
    /// Waiting for other jobs to complete.
    Dependent,
    /// Waiting for its victims to leave.
    Nominated,
    /// Holding a lease.
    Running(LeaseId),
}

impl JobState {
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
    /// Longest run of one attempt.
    pub limit: Option<Span>,
    /// Work between two checkpoints.
    pub checkpoint: Option<Span>,
    /// Most credit it may cost over all attempts.
    pub budget: Option<MicroAtp>,
    /// Longest notice it asks for when an owner returns.
    pub vacate: Option<Span>,
    /// What it runs.
    pub task: Task,
    /// When it was submitted.
    pub submitted: Time,
    /// Jobs that it waits for.
    pub after: BTreeSet<JobId>,
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
    /// Before then it does not preempt again.
    pub preempt_after: Time,
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
            limit: spec.limit,
            checkpoint: spec.checkpoint,
            budget: spec.budget,
            vacate: spec.vacate,
            task: spec.task,
            submitted: now,
            after: spec.after.iter().copied().collect(),
            hopeless: None,
            state: JobState::Pending,
            epoch: Epoch::new(0),
            charged: MicroAtp::ZERO,
            refunded: MicroAtp::ZERO,
            preempt_after: Time::ZERO,
            cancelled: false,
        }
    }

    /// Returns whether it must not start because of other jobs.
    #[must_use]
    pub fn depends(&self) -> bool {
        !self.after.is_empty() || self.hopeless.is_some()
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
