//! What a simulation is fed with: jobs, nodes, owners' load and faults, as plain records.
//!
//! Trace readers and generators produce these records and the driver consumes them; nothing here
//! decides. All amounts are integers already: a generator rounds each sample at once.

use gridcore::bundle::Needs;
use gridcore::command::{JobSpec, LabelNeed, Near};
use gridcore::ids::{NodeId, PoolId};
use gridcore::units::{BasisPoints, MicroAtp, MilliCores, Ppm, Priority, Span, Time};
use gridcore::wire::Task;

/// One job of a workload, before the core has seen it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobRecord {
    /// The name in the trace, or empty: then the run's number of the job is its name.
    pub name: Box<str>,
    /// The account that pays, by index into [`Workload::accounts`].
    pub account: u32,
    /// The pool, by name; `None` is the first pool.
    pub pool: Option<Box<str>>,
    /// When it is submitted.
    pub submit: Time,
    /// How long it runs undisturbed.
    pub run: Span,
    /// The declared limit; `None` is unbounded.
    pub limit: Option<Span>,
    /// How much it matters.
    pub priority: Priority,
    /// What each member needs.
    pub needs: Needs,
    /// How many members start together; 1 is an ordinary job.
    pub members: u16,
    /// Allowed values of the label `gpu_model`; empty allows all.
    pub gpu_models: Vec<Box<str>>,
    /// Whether it is refused when it cannot start at once.
    pub refuse_if_busy: bool,
    /// Work between checkpoints; `None` loses all work on eviction, zero loses none.
    pub checkpoint: Option<Span>,
    /// Of which array it is a part, counted from 1: all of it is one request. 0 is none.
    pub array: u32,
    /// What few jobs say.
    pub extra: Option<Box<JobExtra>>,
}

impl JobRecord {
    /// Describes it in the words of the core.
    ///
    /// # Errors
    /// The name of a preferred or excluded node that does not exist.
    pub fn spec(
        &self,
        pool: PoolId,
        find: impl Fn(&str) -> Option<NodeId>,
    ) -> Result<Box<JobSpec>, String> {
        let mut labels = Vec::new();
        if !self.gpu_models.is_empty() {
            let any_of = self.gpu_models.iter().map(ToString::to_string).collect();
            labels.push(LabelNeed { key: "gpu_model".to_owned(), any_of });
        }
        let mut spec = Box::new(JobSpec {
            pool,
            any_pool: self.pool.is_none(),
            priority: self.priority,
            needs: self.needs,
            members: self.members.max(1),
            limit: self.limit,
            checkpoint: self.checkpoint,
            refuse_if_busy: self.refuse_if_busy,
            task: Task { program: self.array.into(), index: 0 },
            labels,
            ..JobSpec::default()
        });
        if let Some(extra) = &self.extra {
            for (key, any_of) in &extra.labels {
                spec.labels.push(LabelNeed { key: key.clone(), any_of: any_of.clone() });
            }
            for name in &extra.preferred {
                spec.preferred.push(find(name).ok_or_else(|| name.clone())?);
            }
            for name in &extra.excluded {
                spec.excluded.push(find(name).ok_or_else(|| name.clone())?);
            }
            (spec.tags, spec.affinity) = (extra.tags.clone(), extra.affinity.clone());
            spec.anti_affinity = extra.anti_affinity.clone();
            let near = |name: &String| find(name).map_or(Near::Zone(name.clone()), Near::Node);
            spec.near = extra.near.as_ref().map(near);
            spec.spread = extra.spread;
            (spec.budget, spec.price_max) = (extra.budget, extra.price_max);
            spec.vacate = extra.vacate;
            spec.extra = extra.elastic;
            (spec.restart, spec.movable) = (extra.restart, extra.movable);
            (spec.begin, spec.reserve) = (extra.begin, extra.reserve);
        }
        Ok(spec)
    }
}

/// What few jobs say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobExtra {
    /// Labels the node must have, each with the values allowed.
    pub labels: Vec<(String, Vec<String>)>,
    /// Nodes to take before any other, by name.
    pub preferred: Vec<String>,
    /// Nodes never to take, by name.
    pub excluded: Vec<String>,
    /// What it is, for those that want to be near it or away from it.
    pub tags: Vec<String>,
    /// Tags of which each must run on a member's node.
    pub affinity: Vec<String>,
    /// Tags of which none may run on a member's node.
    pub anti_affinity: Vec<String>,
    /// The node where its data lies, or the zone.
    pub near: Option<String>,
    /// CPU that it can use beside its needs; it runs for so long as it was said with all of it.
    pub elastic: MilliCores,
    /// Whether no two members may share a node.
    pub spread: bool,
    /// Most credit it may cost.
    pub budget: Option<MicroAtp>,
    /// The highest price that it pays for what it needs, as a multiple of the rates.
    pub price_max: Option<Ppm>,
    /// Longest notice it asks for.
    pub vacate: Option<Span>,
    /// Time a restart takes before work goes on.
    pub restart: Span,
    /// Whether it may move to another node although it says no checkpoint.
    pub movable: bool,
    /// When it may start at the earliest.
    pub begin: Option<Time>,
    /// Whether a place is kept for it from then on.
    pub reserve: bool,
    /// Whether it stays until it is killed when it is told to leave.
    pub ignores_notice: bool,
    /// Whether it ends with an error.
    pub fails: bool,
    /// What it uses of each GPU while it works, at most 100 %; `None` does not say it, and then
    /// nothing is known of what leases use there.
    pub gpu_use: Option<BasisPoints>,
    /// How long after its submission its account cancels it, if it is still there.
    pub cancel: Option<Span>,
    /// Jobs that must complete before it may start, by name; they are submitted before it.
    pub after: Vec<String>,
}

/// Jobs in the order of submission, and the names of the accounts they belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Account names that [`JobRecord::account`] indexes.
    pub accounts: Vec<Box<str>>,
    /// Jobs, sorted by submission time; ties stay in the order of the source.
    pub jobs: Vec<JobRecord>,
}

/// One node of an inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRecord {
    /// The node's name, unique.
    pub name: Box<str>,
    /// Hardware: compute, memory, storage and GPUs (count, memory of each).
    pub capacity: Needs,
    /// The GPU model, or empty.
    pub gpu_model: Box<str>,
}

/// One machine's load by its owner, as a series of samples that hold until the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadSeries {
    /// The machine's name in the source.
    pub name: Box<str>,
    /// The length of one sample when the samples are evenly spaced and start at zero.
    pub step: Span,
    /// Utilisation per step, 0 to 100 %. A missing value repeats the one before it.
    pub values: Vec<BasisPoints>,
}

/// One scheduled change of a node's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultRecord {
    /// When it happens.
    pub at: Time,
    /// The node, by index into the scenario's nodes.
    pub node: u32,
    /// Whether the node comes back (`true`) or fails (`false`).
    pub up: bool,
}

/// How messages travel between the halves. Shares are in parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkRecord {
    /// The shortest time a message takes.
    pub latency_min: Span,
    /// The longest, without a fault.
    pub latency_max: Span,
    /// Messages that are lost.
    pub lost: u32,
    /// Messages that arrive twice.
    pub doubled: u32,
    /// Messages that are overtaken by later ones.
    pub overtaken: u32,
    /// The most that a node's clock drifts.
    pub drift: u32,
    /// Until then messages are lost, doubled and overtaken, and owners use their machines.
    pub heals: Time,
}

/// What can happen to a cluster beside what its network does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blow {
    /// The coordinator dies in the middle of its next entry, and starts again from what was synced.
    CoordinatorCrash,
    /// The coordinator's disk fails to sync an entry: it stops, and starts again.
    SyncError,
    /// A node's station dies in the middle of what it next does, and starts again; the processes
    /// go on.
    StationCrash,
    /// A machine dies with everything on it, and starts again with its disk.
    MachineCrash,
    /// A machine dies and comes back with an empty disk.
    Wipe,
    /// No message passes between a node and the coordinator.
    Cut,
    /// No message passes from a node to the coordinator.
    CutUp,
    /// No message passes from the coordinator to a node.
    CutDown,
    /// Messages of a node stand still, without an error, and all arrive in the end.
    Stall,
    /// A connection breaks and is made anew.
    Reset,
    /// A machine stands still, its processes too; its clock goes on.
    Freeze,
    /// Everything on a node's line takes fifty times as long.
    Slow,
    /// A node's disk takes nothing new.
    DiskFull,
    /// A node's disk fails to sync: what is written may be there or not.
    DiskError,
    /// What is killed on a node stays there for a while.
    Stuck,
    /// The rules change.
    Configure,
    /// A node runs a version that shares none with the coordinator's, then one that does.
    Versions,
    /// A node states things about leases of other nodes, and about leases that never were.
    Lie,
    /// A node's wall clock jumps.
    WallJump,
    /// The owner of a node takes everything back with notice, and lends again later.
    OwnerReclaim,
    /// The owner of a node takes everything back at once, and lends again later.
    OwnerReclaimNow,
    /// Some nodes' lines stand still one after the other, and come back one after the other.
    Swizzle,
    /// The coordinator's disk is full: it takes no requests, what runs goes on.
    StoreFull,
    /// What a node and the coordinator have lately said to each other arrives once more.
    Replay,
    /// The coordinator stops in good order, and starts again later.
    CleanStop,
    /// Somebody lets one of the running jobs wait again.
    Requeue,
    /// One of a node's GPUs is not seen for a while.
    GpuLost,
    /// Somebody suspends one of the running jobs, and resumes it later.
    Suspend,
    /// A machine is broken in a way that nobody sees: whatever begins on it fails within a second.
    Broken,
}

impl Blow {
    /// All of them, in their stated order.
    pub const ALL: [Self; 29] = [
        Self::CoordinatorCrash,
        Self::SyncError,
        Self::StationCrash,
        Self::MachineCrash,
        Self::Wipe,
        Self::Cut,
        Self::CutUp,
        Self::CutDown,
        Self::Stall,
        Self::Reset,
        Self::Freeze,
        Self::Slow,
        Self::DiskFull,
        Self::DiskError,
        Self::Stuck,
        Self::Configure,
        Self::Versions,
        Self::Lie,
        Self::WallJump,
        Self::OwnerReclaim,
        Self::OwnerReclaimNow,
        Self::Swizzle,
        Self::StoreFull,
        Self::Replay,
        Self::CleanStop,
        Self::Requeue,
        Self::GpuLost,
        Self::Suspend,
        Self::Broken,
    ];

    /// Returns the blow that users call so.
    ///
    /// # Errors
    /// When there is none; the text lists all.
    pub fn named(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|blow| blow.name() == name);
        found.ok_or_else(|| format!("it is none of {}", Self::ALL.map(Self::name).join(", ")))
    }

    /// Returns whether it falls on the coordinator or on everything, not on one node.
    #[must_use]
    pub const fn is_alone(self) -> bool {
        match self {
            Self::CoordinatorCrash
            | Self::SyncError
            | Self::Configure
            | Self::Swizzle
            | Self::CleanStop
            | Self::Requeue
            | Self::Suspend
            | Self::StoreFull => true,
            Self::StationCrash
            | Self::MachineCrash
            | Self::Wipe
            | Self::Cut
            | Self::CutUp
            | Self::CutDown
            | Self::Stall
            | Self::Reset
            | Self::Freeze
            | Self::Slow
            | Self::DiskFull
            | Self::DiskError
            | Self::Stuck
            | Self::Versions
            | Self::Lie
            | Self::WallJump
            | Self::OwnerReclaim
            | Self::OwnerReclaimNow
            | Self::GpuLost
            | Self::Broken
            | Self::Replay => false,
        }
    }

    /// Returns the name that users meet.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CoordinatorCrash => "coordinator_crash",
            Self::SyncError => "sync_error",
            Self::StationCrash => "station_crash",
            Self::MachineCrash => "machine_crash",
            Self::Wipe => "wipe",
            Self::Cut => "cut",
            Self::CutUp => "cut_up",
            Self::CutDown => "cut_down",
            Self::Stall => "stall",
            Self::Reset => "reset",
            Self::Freeze => "freeze",
            Self::Slow => "slow",
            Self::DiskFull => "disk_full",
            Self::DiskError => "disk_error",
            Self::Stuck => "stuck",
            Self::Configure => "configure",
            Self::Versions => "versions",
            Self::Lie => "lie",
            Self::WallJump => "wall_jump",
            Self::OwnerReclaim => "owner_reclaim",
            Self::OwnerReclaimNow => "owner_reclaim_now",
            Self::Swizzle => "swizzle",
            Self::StoreFull => "store_full",
            Self::Replay => "replay",
            Self::CleanStop => "clean_stop",
            Self::Requeue => "requeue",
            Self::GpuLost => "gpu_lost",
            Self::Suspend => "suspend",
            Self::Broken => "broken",
        }
    }
}

/// One blow, and how long it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlowRecord {
    /// When it falls.
    pub at: Time,
    /// The node it falls on, by index; the coordinator's say nothing by it.
    pub node: u32,
    /// What it is.
    pub blow: Blow,
    /// How long until it is over.
    pub lasts: Span,
}

/// A network between the halves, and what happens to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// The network.
    pub network: NetworkRecord,
    /// The blows, by time.
    pub blows: Vec<BlowRecord>,
    /// Whether every job must have ended once the weather is over, but for credit or a price.
    pub all_end: bool,
}
