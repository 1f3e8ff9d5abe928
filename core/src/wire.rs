//! What the two halves tell each other, as plain data.
//!
//! The coordinator gives a node [`Order`]s; a node states what has become of each lease
//! ([`Status`]) and what it is willing to lend ([`Lending`]). Joined directly, the halves hand
//! these over as they are. Over a network they travel in [`ToNode`] and [`FromNode`]: every message
//! of a node is a whole inventory, every message of the coordinator repeats all that the node has
//! not confirmed. So a lost, repeated or overtaken message changes nothing (LIVE.md P3 to P5).

use crate::bundle::Bundle;
use crate::config::Watch;
use crate::ids::{Epoch, JobId, LeaseId, NodeId};
use crate::units::{BasisPoints, Bytes, MilliCores, Span};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The versions of the protocol that this build speaks, lowest and highest.
pub const VERSIONS: (u16, u16) = (1, 1);

/// How a process tree ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Outcome {
    /// The job did its work.
    Completed,
    /// The job ended itself with an error.
    Failed,
    /// It was stopped: by notice, by the kill, or at its limit.
    Stopped,
    /// Nothing ran: the node refused it, or it never got there.
    Refused,
}

/// What the owner of a node uses, and what leases use of its GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Compute, as a part of the hardware.
    pub cpu: BasisPoints,
    /// Memory, as a part of the hardware.
    pub memory: BasisPoints,
    /// Each GPU, in device order; one that is left out counts as used by its owner.
    pub gpus: Vec<GpuSample>,
}

impl Sample {
    /// Walks the utilisation of CPU, memory, then every GPU.
    pub fn uses(&self) -> impl Iterator<Item = BasisPoints> {
        [self.cpu, self.memory].into_iter().chain(self.gpus.iter().map(|gpu| gpu.busy))
    }
}

/// What the owner uses of one GPU, and what leases do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuSample {
    /// Utilisation.
    pub busy: BasisPoints,
    /// Video memory in use.
    pub memory: Bytes,
    /// Whether a process that is not ours computes on it.
    pub foreign: bool,
    /// What leases use of it, all together; `None` where that is not known, and where none holds
    /// any of it.
    pub leased: Option<BasisPoints>,
}

/// Why a lease was ended by somebody else than its job (RULES.md section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EvictionReason {
    /// The owner of the node needs it.
    OwnerReturn,
    /// A job of a higher class needs it.
    PriorityPreemption,
    /// The account cannot pay the next term.
    BudgetExhausted,
    /// The job reached its limit.
    TimeLimit,
    /// The node failed.
    NodeFailure,
    /// The job's account asked.
    UserRequest,
    /// Another member of the job has ended.
    GangEnded,
    /// The node did not take the start: nothing ran.
    Refused,
    /// The node lost its permission: nobody told it to go on.
    PermissionLost,
    /// It was on loan above its account's quota, and an account within its own needs it.
    QuotaReclaim,
    /// Its node is under high pressure, and another is not: it goes on there.
    Rebalance,
    /// It left its GPUs idle for too long.
    IdleTimeout,
}

impl EvictionReason {
    /// All reasons, in their stated order.
    pub const ALL: [Self; 12] = [
        Self::OwnerReturn,
        Self::PriorityPreemption,
        Self::BudgetExhausted,
        Self::TimeLimit,
        Self::NodeFailure,
        Self::UserRequest,
        Self::GangEnded,
        Self::Refused,
        Self::PermissionLost,
        Self::QuotaReclaim,
        Self::Rebalance,
        Self::IdleTimeout,
    ];

    /// Returns the reason that counts when a node names this one for what nobody had told it to
    /// end: its owner, its permission, and else its own failure.
    #[must_use]
    pub const fn said_by_node(self) -> Self {
        match self {
            Self::OwnerReturn | Self::PermissionLost => self,
            Self::PriorityPreemption
            | Self::BudgetExhausted
            | Self::TimeLimit
            | Self::NodeFailure
            | Self::UserRequest
            | Self::GangEnded
            | Self::Refused
            | Self::QuotaReclaim
            | Self::Rebalance
            | Self::IdleTimeout => Self::NodeFailure,
        }
    }

    /// Returns the name that users meet.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OwnerReturn => "OwnerReturn",
            Self::PriorityPreemption => "PriorityPreemption",
            Self::BudgetExhausted => "BudgetExhausted",
            Self::TimeLimit => "TimeLimit",
            Self::NodeFailure => "NodeFailure",
            Self::UserRequest => "UserRequest",
            Self::GangEnded => "GangEnded",
            Self::Refused => "Refused",
            Self::PermissionLost => "PermissionLost",
            Self::QuotaReclaim => "QuotaReclaim",
            Self::Rebalance => "Rebalance",
            Self::IdleTimeout => "IdleTimeout",
        }
    }
}

/// What a node is willing to lend: the station's veto.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lending {
    /// Counts its changes; every start names the one it was decided under.
    pub version: u32,
    /// Whether it lends at all.
    pub open: bool,
    /// Most GPUs it lends.
    pub gpus_max: u8,
    /// GPUs that a node without an owner does not lend, one bit each: broken, gone, or used by
    /// somebody. Elsewhere its samples say so.
    pub withheld: u64,
}

impl Lending {
    /// A node that never said no.
    pub const ALL: Self = Self { version: 0, open: true, gpus_max: u8::MAX, withheld: 0 };
}

impl Default for Lending {
    fn default() -> Self {
        Self::ALL
    }
}

/// The right to run until a span has passed since the node sent a heartbeat (LIVE.md P5): both
/// sides can count it, neither needs the other's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// The newest heartbeat that the coordinator had when it decided.
    pub beat: u64,
    /// How long the right lasts from the sending of that heartbeat.
    pub span: Span,
}

/// What a job runs, as far as the core cares: two numbers that it carries to the node unseen. A
/// driver keeps the commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Task {
    /// The number under which the driver keeps the command.
    pub program: u64,
    /// Which of an array's jobs it is.
    pub index: u32,
}

/// What a node must know to run its part of a lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The lease.
    pub lease: LeaseId,
    /// Which start of the job it is.
    pub epoch: Epoch,
    /// The job.
    pub job: JobId,
    /// What it runs.
    pub task: Task,
    /// What it holds on this node.
    pub needs: Bundle,
    /// The least CPU that it can do with, where it can do with less than it has been given.
    pub least: Option<MilliCores>,
    /// Its devices, one bit each.
    pub devices: u64,
    /// The job's class: who leaves first when the owner returns.
    pub class: u8,
    /// Whether the owner of the node runs it.
    pub own: bool,
    /// Whether it may be paused: it holds no GPU, whose memory it would keep, and nobody elsewhere
    /// waits for it.
    pub pausable: bool,
    /// How long it may take to leave when the owner returns.
    pub vacate: Span,
    /// Work between two checkpoints; `None` means all is lost, zero none.
    pub checkpoint: Option<Span>,
    /// Whether its account has it suspended already.
    pub suspended: bool,
    /// The version of what the node lends that this was decided under.
    pub lending: u32,
}

/// What the coordinator wants of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Run this.
    Start(Box<Start>),
    /// Go on: permission is given anew.
    Extend {
        /// The lease.
        lease: LeaseId,
        /// Its epoch.
        epoch: Epoch,
        /// Whether its account has it suspended.
        suspended: bool,
        /// The CPU that it has from now on, where that may change.
        cpu: Option<MilliCores>,
    },
    /// End it within a notice.
    Leave {
        /// The lease.
        lease: LeaseId,
        /// Its epoch.
        epoch: Epoch,
        /// How long it may take.
        notice: Span,
        /// Why.
        reason: EvictionReason,
    },
    /// Kill it now.
    Kill(LeaseId, Epoch),
    /// Its end has been heard: it need not be told again.
    Forget(LeaseId, Epoch),
    /// Watch the owner by these rules from now on.
    Watch(Box<Watch>),
}

impl Order {
    /// Returns the lease and epoch that it is about, if it is about one.
    #[must_use]
    pub fn about(&self) -> Option<(LeaseId, Epoch)> {
        match self {
            Self::Start(start) => Some((start.lease, start.epoch)),
            Self::Extend { lease, epoch, .. }
            | Self::Leave { lease, epoch, .. }
            | Self::Kill(lease, epoch)
            | Self::Forget(lease, epoch) => Some((*lease, *epoch)),
            Self::Watch(_) => None,
        }
    }
}

/// What has become of a lease on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It runs.
    Running,
    /// It is stopped for a while, because the owner needs its CPU.
    Paused,
    /// The node has told it to leave; the notice ends after this span.
    Leaving(EvictionReason, Span),
    /// It was killed and processes are still there: its capacity is in quarantine; and why it
    /// was to end.
    Stuck(EvictionReason),
    /// Nothing of it is left on the node; and why the node told it to leave, if it did.
    Ended(Outcome, Option<EvictionReason>),
}

/// What a node states of a lease: one line of its inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The lease.
    pub lease: LeaseId,
    /// Its epoch.
    pub epoch: Epoch,
    /// The CPU that it has.
    pub cpu: MilliCores,
    /// What has become of it.
    pub status: Status,
}

/// Who a message is from and to: what makes it stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The cluster.
    pub cluster: u64,
    /// The node.
    pub node: NodeId,
    /// The session, which the coordinator gives out anew at every hello; 0 before there is one.
    pub session: u64,
    /// Counts the messages of one side in a session.
    pub number: u64,
}

/// A message of the coordinator to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToNode {
    /// From and to.
    pub envelope: Envelope,
    /// What it says.
    pub body: ToBody,
}

/// What the coordinator says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToBody {
    /// A session begins.
    Welcome {
        /// The hello it answers.
        hello: u64,
        /// The version both speak.
        version: u16,
        /// The rules to watch the owner by.
        watch: Box<Watch>,
    },
    /// There is no such session, or the hello is one from before the coordinator's last start: say
    /// hello anew.
    Resync {
        /// The hello it answers; 0 where it answers a heartbeat.
        hello: u64,
    },
    /// The versions have nothing in common.
    Incompatible {
        /// The hello it answers.
        hello: u64,
        /// Lowest and highest version of the coordinator.
        versions: (u16, u16),
    },
    /// All that the node has not confirmed.
    Orders(Vec<(Order, Option<Permission>)>),
}

/// A message of a node to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromNode {
    /// From and to.
    pub envelope: Envelope,
    /// What it says.
    pub body: FromBody,
    /// What the node is willing to lend.
    pub lending: Lending,
    /// What its owner uses, and leases of its GPUs; `None` before the first sample.
    pub sample: Option<Sample>,
    /// Every lease it knows.
    pub inventory: Vec<Item>,
}

/// What a node says beside its inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromBody {
    /// It has come into reach, or lost its session.
    Hello {
        /// Counts the node's hellos; never used twice, restarts included.
        hello: u64,
        /// Lowest and highest version of the node.
        versions: (u16, u16),
        /// The build, for people.
        build: String,
    },
    /// It is there.
    Beat {
        /// The last message of the coordinator that it has followed.
        seen: u64,
    },
}

/// Returns the highest version that two ranges share.
#[must_use]
pub fn common_version(ours: (u16, u16), theirs: (u16, u16)) -> Option<u16> {
    let (lowest, highest) = (ours.0.max(theirs.0), ours.1.min(theirs.1));
    (lowest <= highest).then_some(highest)
}

/// Returns how long the coordinator waits after giving a permission before it takes what runs by it
/// for gone: (span + kill)(1 + rho)/(1 - rho) + 5 s, with rho the most that a clock drifts, in
/// parts per million (LIVE.md P5).
#[must_use]
pub fn wait(span: Span, kill: Span, drift: u32) -> Span {
    let rho = u64::from(drift.min(900_000));
    let whole = span.saturating_add(kill).get();
    Span::new(crate::units::scale_ceil(whole.into(), 1_000_000 + rho, 1_000_000 - rho))
        .saturating_add(Span::seconds(5))
}
