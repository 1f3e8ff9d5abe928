//! What may enter the core: requests of people, reports of machines, and the passing of time.

use crate::bundle::Needs;
use crate::config::Rules;
use crate::ids::{AccountId, JobId, NodeId, PoolId, Seq};
use crate::units::{MicroAtp, MilliCores, Ppm, Priority, Span, Time};
use crate::wire::{FromNode, Item, Lending, Task};
pub use crate::wire::{GpuSample, Outcome, Sample};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// One line of history: what the journal holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<C> {
    /// Its position, without gaps.
    pub seq: Seq,
    /// When it happened, never before the entry in front of it.
    pub at: Time,
    /// What happened.
    pub command: C,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Somebody asks; may be denied.
    Request(Request),
    /// A client asks under a number, and may ask again until it has an answer.
    Numbered(Numbered),
    /// A machine states a fact; never denied.
    Report(Report),
    /// Time has passed.
    Wake,
}

/// A request that is carried out once, however often it is asked (LIVE.md P2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    /// The client's session, which the driver gives out once.
    pub client: u64,
    /// Counts the client's requests, from 1.
    pub number: u64,
    /// What it asks for.
    pub request: Box<Request>,
}

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Run a job.
    SubmitJob {
        /// Who pays.
        account: AccountId,
        /// What to run.
        job: Box<JobSpec>,
    },
    /// Take a job back, waiting or running.
    CancelJob {
        /// Who asks: the job's account.
        account: AccountId,
        /// The job.
        job: JobId,
    },
    /// Keep a waiting job from starting.
    HoldJob {
        /// Who asks: the job's account.
        account: AccountId,
        /// The job.
        job: JobId,
    },
    /// Let a held job start again.
    ReleaseJob {
        /// Who asks: the job's account.
        account: AccountId,
        /// The job.
        job: JobId,
    },
    /// End a running attempt within a notice, and let its job wait again.
    RequeueJob {
        /// Who asks: the job's account.
        account: AccountId,
        /// The job.
        job: JobId,
    },
    /// Stop a running job's processes until it is resumed. It keeps what it holds and pays for it.
    SuspendJob {
        /// Who asks: the job's account.
        account: AccountId,
        /// The job.
        job: JobId,
    },
    /// Let a suspended job's processes go on.
    ResumeJob {
        /// Who asks: the job's account.
        account: AccountId,
        /// The job.
        job: JobId,
    },
    /// Put credit into an account, from the mint.
    Deposit {
        /// The account.
        account: AccountId,
        /// How much.
        amount: MicroAtp,
    },
    /// Give an account credit that the treasury has, above what it keeps back for a day: see
    /// [`crate::ledger::Ledger::award`].
    Grant {
        /// The account.
        account: AccountId,
        /// How much.
        amount: MicroAtp,
    },
    /// Let a node finish what it runs and take nothing new.
    Drain {
        /// The node.
        node: NodeId,
        /// Why, for people.
        reason: String,
    },
    /// Let a drained node work again.
    Undrain {
        /// The node.
        node: NodeId,
    },
    /// Change the rules; they hold from this entry on.
    Configure(Box<Rules>),
}

/// A fact about a machine or a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// What the owner of a node, and leases of its GPUs, use from now on, until the next sample.
    Sample {
        /// The node.
        node: NodeId,
        /// What is used.
        sample: Sample,
    },
    /// The node has failed: nothing on it runs any more.
    NodeDown {
        /// The node.
        node: NodeId,
    },
    /// The node is back, empty.
    NodeUp {
        /// The node.
        node: NodeId,
    },
    /// What has become of a lease on one of its nodes.
    Lease {
        /// The node.
        node: NodeId,
        /// What it states; another epoch is stale.
        item: Item,
    },
    /// A message of a node has arrived over the network.
    Message(Box<FromNode>),
    /// The coordinator has started anew: the first entry of every start but the first.
    Restarted,
    /// The coordinator is about to stop in good order: what runs goes on without it for a while.
    Stopping,
    /// What the owner of a node lets it lend from now on.
    Lending {
        /// The node.
        node: NodeId,
        /// What it lends.
        lending: Lending,
    },
}

/// What to run, and under which conditions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The pool.
    pub pool: PoolId,
    /// Whether it named none: under the strategy `cheapest` it then goes to that in which its first
    /// term costs least.
    pub any_pool: bool,
    /// How much it matters.
    pub priority: Priority,
    /// What each member needs.
    pub needs: Needs,
    /// CPU that it can use beside that where nobody else needs it: it is given and taken back while
    /// the job runs. Nothing for a gang.
    pub extra: MilliCores,
    /// How many members start together, 1 to 1,024.
    pub members: u16,
    /// Whether no two members may share a node.
    pub spread: bool,
    /// Labels the node must have.
    pub labels: Vec<LabelNeed>,
    /// Nodes to take before any other.
    pub preferred: Vec<NodeId>,
    /// Nodes never to take, at most 64.
    pub excluded: Vec<NodeId>,
    /// What the job is, for those that want to be near it or away from it: at most 64 words of at
    /// most 253 bytes.
    pub tags: Vec<String>,
    /// Each member starts only on a node where a job with each of these tags runs. One that carries
    /// a tag itself may start anywhere while nothing with that tag runs in its pool. At most 64.
    pub affinity: Vec<String>,
    /// Each member starts only on a node where no job with any of these tags runs. At most 64.
    /// Members of one gang are not judged by each other.
    pub anti_affinity: Vec<String>,
    /// Where its data lies, for the strategy `near_data`.
    pub near: Option<Near>,
    /// Longest run; `None` is unbounded.
    pub limit: Option<Span>,
    /// Work between two checkpoints; `None` means all work is lost on eviction, zero none.
    pub checkpoint: Option<Span>,
    /// Time that a restart takes before work goes on: what a move costs beside work not kept.
    pub restart: Span,
    /// Whether it may move to another node although it says no checkpoint: what it did is then
    /// lost.
    pub movable: bool,
    /// Most credit the job may cost over all attempts.
    pub budget: Option<MicroAtp>,
    /// The highest price that it pays for each resource it needs, as a multiple of the rate
    /// (1,000,000 is the rate itself): above that it neither starts nor goes on, but on its
    /// account's own nodes, where it pays nothing. `None` is any price.
    pub price_max: Option<Ppm>,
    /// Longest notice the job asks for when its node's owner returns; `None` is the pool's default.
    pub vacate: Option<Span>,
    /// When it may start at the earliest; `None` is at once.
    pub begin: Option<Time>,
    /// Whether a place is kept for it from its beginning on, whatever else waits: it must have a
    /// beginning and a limit, and is refused where no place can be kept.
    pub reserve: bool,
    /// Jobs that must complete before it may start: at most 1,024, all of them still there.
    pub after: Vec<JobId>,
    /// Whether it is refused when it cannot start at once.
    pub refuse_if_busy: bool,
    /// What it runs.
    pub task: Task,
}

impl Default for JobSpec {
    fn default() -> Self {
        Self {
            pool: PoolId::new(0),
            any_pool: false,
            priority: Priority::MEDIUM,
            needs: Needs::default(),
            extra: MilliCores::ZERO,
            members: 1,
            spread: false,
            labels: Vec::new(),
            preferred: Vec::new(),
            excluded: Vec::new(),
            tags: Vec::new(),
            affinity: Vec::new(),
            anti_affinity: Vec::new(),
            near: None,
            limit: None,
            checkpoint: None,
            restart: Span::ZERO,
            movable: false,
            budget: None,
            price_max: None,
            vacate: None,
            begin: None,
            reserve: false,
            after: Vec::new(),
            refuse_if_busy: false,
            task: Task::default(),
        }
    }
}

/// Where a job's data lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Near {
    /// On this node.
    Node(NodeId),
    /// In this zone, on no node in particular: 1 to 253 bytes.
    Zone(String),
}

/// A label the node must have, with one of these values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LabelNeed {
    /// The label.
    pub key: String,
    /// The values allowed; empty allows any value.
    pub any_of: Vec<String>,
}

/// The answer to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done, nothing more to say.
    Done,
    /// The job was accepted under this id.
    Submitted(JobId),
    /// The report was about something that is no longer open, and changed nothing.
    Stale,
}
