//! What a run leaves in memory: the rows of its tables, from which files, pictures and the page are
//! made. Rows hold integers; only a picture or a mean turns them into decimals.

pub mod transfers;

use gridcore::bundle::{Bundle, Dimension};
use gridcore::encode::Digest;
use gridcore::units::{Band, BasisPoints, Bytes, MicroAtp, MilliCores, MilliGpus, Span, Time};
use transfers::Transfers;

/// Everything that one run leaves.
#[derive(Clone, Debug, Default)]
pub struct RunRecord {
    /// The scenario's name.
    pub scenario: String,
    /// One sentence of the scenario on what it shows, or empty.
    pub about: String,
    /// The seed of all random streams.
    pub seed: u64,
    /// Policy, strategy, order and filling, as the configuration names them.
    pub rules: [String; 4],
    /// Whether the run reached its end (`false` after Ctrl-C).
    pub complete: bool,
    /// When the run ended.
    pub end: Time,
    /// The interval of [`RunRecord::timeline`] and [`RunRecord::node_samples`].
    pub interval: Span,
    /// Accounts by id.
    pub accounts: Vec<String>,
    /// Pools by id.
    pub pools: Vec<String>,
    /// Nodes by id.
    pub nodes: Vec<NodeRow>,
    /// Jobs by id (the first job is row 0).
    pub jobs: Vec<JobRow>,
    /// Leases in the order in which they were granted.
    pub leases: Vec<LeaseRow>,
    /// The cluster by interval.
    pub timeline: Vec<TimelineRow>,
    /// Nodes by interval: all nodes of the first interval in id order, then of the second, ...
    pub node_samples: Vec<NodeSample>,
    /// Transfers of credit in order.
    pub transfers: Transfers,
    /// Every start and eviction, when a run was asked to keep them.
    pub decisions: Vec<DecisionRow>,
    /// The fill curve of runs without departures: arrived GPU request against allocated GPUs.
    pub fill: Vec<FillPoint>,
}

impl RunRecord {
    /// Returns a job by its number, which counts from 1.
    #[must_use]
    pub fn job(&self, number: u64) -> Option<&JobRow> {
        self.jobs.get(usize::try_from(number.checked_sub(1)?).ok()?)
    }
}

/// A node's hardware.
#[derive(Clone, Debug, Default)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// Its hardware.
    pub capacity: Bundle,
    /// Its GPU model, or empty.
    pub gpu_model: String,
    /// The account of its owner.
    pub owner: u32,
}

/// The last word on a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobState {
    /// Not submitted before the run ended, or still waiting.
    #[default]
    Waiting,
    /// Holding resources when the run ended.
    Running,
    /// Did its work.
    Completed,
    /// Ended itself with an error.
    Failed,
    /// Ran into its limit.
    Timeout,
    /// Taken back by its owner.
    Cancelled,
    /// Preempted, and not to be requeued.
    Preempted,
    /// Lost with its node, and not to be requeued.
    NodeFail,
    /// Ended because its account could not pay.
    OutOfBudget,
    /// Refused at submission.
    Refused,
}

impl JobState {
    /// Returns whether the job is over.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Waiting | Self::Running => false,
            Self::Completed
            | Self::Failed
            | Self::Timeout
            | Self::Cancelled
            | Self::Preempted
            | Self::NodeFail
            | Self::OutOfBudget
            | Self::Refused => true,
        }
    }

    /// Returns the name that users meet.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Preempted => "preempted",
            Self::NodeFail => "node_fail",
            Self::OutOfBudget => "out_of_budget",
            Self::Refused => "refused",
        }
    }
}

/// CPU, memory and GPU: what rows keep of a [`Bundle`], a quarter of its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Compute.
    pub cpu: MilliCores,
    /// Main memory.
    pub memory: Bytes,
    /// GPU capacity, summed over devices.
    pub gpu: MilliGpus,
}

impl Amounts {
    /// Returns the amount in one dimension: nothing of one that is not kept.
    #[must_use]
    pub fn amount(&self, dimension: Dimension) -> u64 {
        match dimension {
            Dimension::Cpu => self.cpu.get(),
            Dimension::Memory => self.memory.get(),
            Dimension::Gpu => self.gpu.get(),
            Dimension::Storage | Dimension::Custom(_) => 0,
        }
    }
}

impl From<Bundle> for Amounts {
    fn from(bundle: Bundle) -> Self {
        Self { cpu: bundle.cpu, memory: bundle.memory, gpu: bundle.gpu }
    }
}

/// The nodes of an attempt: mostly one, which needs no memory of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Nodes {
    /// It has not started.
    #[default]
    None,
    /// One.
    One(u32),
    /// One for each member.
    Many(Box<[u32]>),
}

impl Nodes {
    /// Returns them, by index into [`RunRecord::nodes`].
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Self::None => &[],
            Self::One(node) => core::slice::from_ref(node),
            Self::Many(nodes) => nodes,
        }
    }
}

impl FromIterator<u32> for Nodes {
    fn from_iter<I: IntoIterator<Item = u32>>(nodes: I) -> Self {
        let mut nodes = nodes.into_iter();
        match (nodes.next(), nodes.next()) {
            (None, _) => Self::None,
            (Some(node), None) => Self::One(node),
            (Some(first), Some(second)) => {
                Self::Many([first, second].into_iter().chain(nodes).collect())
            }
        }
    }
}

/// One job.
#[derive(Clone, Debug, Default)]
pub struct JobRow {
    /// The name in the trace, or empty.
    pub name: Box<str>,
    /// The account.
    pub account: u32,
    /// The pool.
    pub pool: u32,
    /// Its priority, 0 to 100.
    pub priority: u8,
    /// How many members.
    pub members: u16,
    /// When it was submitted.
    pub submit: Time,
    /// When its last attempt started.
    pub start: Option<Time>,
    /// When it ended.
    pub end: Option<Time>,
    /// The time it waited over all attempts.
    pub wait: Span,
    /// The time it held resources over all attempts.
    pub run: Span,
    /// The work it had to do.
    pub work: Span,
    /// The declared limit.
    pub limit: Option<Span>,
    /// What all members need together.
    pub needs: Amounts,
    /// The part of each GPU, in thousandths.
    pub gpu_share: u16,
    /// Video memory on each GPU, in bytes.
    pub gpu_memory: u64,
    /// The nodes of the last attempt.
    pub nodes: Nodes,
    /// Its state.
    pub state: JobState,
    /// Why it was refused, or empty.
    pub refusal: &'static str,
    /// How often it was started.
    pub attempts: u32,
    /// How often it was evicted.
    pub preemptions: u32,
    /// How often of these it moved from a loaded node to another.
    pub moves: u32,
    /// Work that evictions and failures destroyed.
    pub lost: Span,
    /// What its account paid.
    pub charged: MicroAtp,
    /// What its account was refunded.
    pub refunded: MicroAtp,
}

impl JobRow {
    /// Returns the band of its priority.
    #[must_use]
    pub fn band(&self) -> Band {
        match self.priority {
            0..=25 => Band::Low,
            26..=50 => Band::Medium,
            51..=75 => Band::High,
            _ => Band::Urgent,
        }
    }
}

/// One lease on one node: a gang leaves one row per member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// The lease.
    pub lease: u64,
    /// The job: its place in the table of jobs, counted from 1.
    pub job: u64,
    /// Which attempt of the job, from 1.
    pub attempt: u32,
    /// The node.
    pub node: u32,
    /// What the member holds.
    pub needs: Amounts,
    /// The devices it uses, one bit each.
    pub gpus: u64,
    /// When it was granted.
    pub granted: Time,
    /// When its capacity was free again.
    pub ended: Option<Time>,
    /// Why it ended, or empty while it runs.
    pub why: &'static str,
    /// Credit held for it over all terms (of the whole lease).
    pub held: MicroAtp,
    /// Credit settled for it (of the whole lease).
    pub settled: MicroAtp,
    /// How many of its terms were unpaid.
    pub unpaid_terms: u32,
    /// How many were charged, as its meter told when it ended (of the whole lease).
    pub metered_terms: u32,
    /// How many of these expired.
    pub expired_terms: u32,
    /// The head of the chain over all that were charged.
    pub metering: Digest,
}

/// The cluster at the end of one interval; amounts are means over the interval.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimelineRow {
    /// The end of the interval.
    pub at: Time,
    /// Hardware of nodes that are up.
    pub capacity: Amounts,
    /// In use by owners.
    pub owner: Amounts,
    /// Leased to jobs of each band, lowest first.
    pub lent: [Amounts; 4],
    /// On offer, the leased part included.
    pub offered: Amounts,
    /// What an oracle would have lent (NAMES.md "Definitions").
    pub lendable: Amounts,
    /// Jobs waiting per band at the end of the interval.
    pub queued: [u32; 4],
    /// Jobs running at the end of the interval.
    pub running: u32,
    /// Mean wait of the jobs that started in the interval, per band; `None` when none started.
    pub wait: [Option<Span>; 4],
    /// Prices of CPU, memory and GPUs in ppm of the rates: the mean over pools by what they have.
    pub price_ppm: [u32; 3],
    /// What of CPU, memory and GPUs was used and waited for when prices last moved, in ppm of what
    /// was lent, at most twice that; likewise. `None` where prices do not move.
    pub demand_ppm: [Option<u32>; 3],
    /// Offers by fate since the run began: opened, leased, expired, withdrawn, revoked.
    pub offers: [u64; 5],
}

/// One node at the end of one interval.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeSample {
    /// The owner's use of CPU, memory and GPUs (mean over devices).
    pub owner: [BasisPoints; 3],
    /// Leased CPU, memory and GPUs as parts of the hardware.
    pub lent: [BasisPoints; 3],
    /// On offer, the leased part included, as parts of the hardware.
    pub offered: [BasisPoints; 3],
    /// Pressure, 0 to 100 %.
    pub pressure: BasisPoints,
    /// The node's state, as RULES.md section 8 names it.
    pub state: &'static str,
}

/// One transfer of credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferRow {
    /// Its number.
    pub id: u64,
    /// When.
    pub at: Time,
    /// Who gives.
    pub from: Party,
    /// Who gets.
    pub to: Party,
    /// How much.
    pub amount: MicroAtp,
    /// What for.
    pub kind: &'static str,
    /// The lease it belongs to, or none.
    pub lease: Option<u64>,
}

/// One decision of the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionRow {
    /// When.
    pub at: Time,
    /// `place` or `evict`.
    pub kind: &'static str,
    /// The job: its place in the table of jobs, counted from 1.
    pub job: u64,
    /// Its lease.
    pub lease: u64,
    /// The nodes of the lease.
    pub nodes: Vec<u32>,
    /// The strategy that placed it, or why it was evicted.
    pub reason: String,
    /// How sure it was to stay where it was placed, 0 to 1,000.
    pub confidence: Option<u16>,
}

/// One side of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Party {
    /// Credit is made here.
    Mint,
    /// Fees go here.
    Treasury,
    /// Credit ends here.
    Burn,
    /// An account's available credit.
    Account(u32),
    /// An account's held credit.
    Held(u32),
}

/// One step of a fill without departures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FillPoint {
    /// GPUs requested so far, in basis points of capacity (may pass 10,000).
    pub arrived_bp: u32,
    /// GPUs allocated, in thousandths of a basis point of capacity: 95.123 % is 9,512,300.
    pub allocated_mbp: u64,
}
