//! Who goes next, and where: the block `scheduling`.

use crate::units::{MilliCores, PerMille, Ppm, Span};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Most task classes of the strategies `fgd` and `headroom`.
pub const FGD_CLASSES_MAX: usize = 64;

/// Block `scheduling`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// Where a job goes.
    pub strategy: Strategy,
    /// Who goes next.
    pub order: Order,
    /// What happens behind a job that does not fit.
    pub backfill: Backfill,
    /// In which order jobs are tried behind one that does not fit.
    pub backfill_order: BackfillOrder,
    /// The least confidence with which a job starts anywhere, 0 to 1,000: less of it, and the job
    /// waits. Nothing asks for none.
    pub min_confidence: PerMille,
    /// A job that has waited so long for room counts 25 classes more, up to high; again after as
    /// long again. `None` never.
    pub ageing: Option<Span>,
    /// One that has waited so long for room goes before all but urgent ones and keeps a place,
    /// whatever happens behind others. `None` never.
    pub starvation_after: Option<Span>,
    /// Seeds the order of equal nodes and the strategy `random`.
    pub seed: u64,
    /// What the order `karma` counts by.
    pub karma: Karma,
    /// Task classes of the strategies `fgd` and `headroom`, at most [`FGD_CLASSES_MAX`].
    pub fgd_classes: Vec<TaskClass>,
}

impl Scheduling {
    /// Returns whether those that wait go before others with time.
    #[must_use]
    pub fn ages(&self) -> bool {
        self.ageing.is_some() || self.starvation_after.is_some()
    }
}

impl Default for Scheduling {
    fn default() -> Self {
        Self {
            strategy: Strategy::BestFit,
            order: Order::Fair,
            backfill: Backfill::Easy,
            backfill_order: BackfillOrder::Queue,
            min_confidence: PerMille::ZERO,
            ageing: Some(Span::seconds(600)),
            starvation_after: Some(Span::minutes(24 * 60)),
            seed: 0,
            karma: Karma::default(),
            fgd_classes: Vec::new(),
        }
    }
}

/// A class of tasks that fragmentation and headroom are measured against (FGD, USENIX ATC 2023).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskClass {
    /// Compute a task asks for.
    pub cpu: MilliCores,
    /// GPUs a task asks for.
    pub gpus: crate::bundle::GpuNeed,
    /// GPU models it may run on (values of the label `gpu_model`); empty allows all.
    pub models: Vec<String>,
    /// How many tasks of the class were counted, at least 1.
    pub count: u32,
}

/// Where a job goes (RULES.md section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Strategy {
    /// The first node in the order of the seeded permutation.
    FirstFit,
    /// The node with the least left over.
    BestFit,
    /// The node with the most left over; also called `load_balanced`.
    WorstFit,
    /// Full nodes and devices before empty ones.
    Pack,
    /// The node whose free vector is least aligned with the request.
    DotProduct,
    /// Nodes that already run this kind of GPU job.
    GpuClustering,
    /// Any node that fits, by a counter-based generator.
    Random,
    /// The node whose GPU fragmentation grows least.
    Fgd,
    /// The borrower's own nodes before others, then the least left over.
    LocalFirst,
    /// The node nearest to a job's data in the network (the same, then the same zone), then the
    /// least left over.
    NearData,
    /// The node whose room for further tasks of all classes shrinks least.
    Headroom,
    /// Where the first term costs least: the borrower's own nodes, which are free, then the least
    /// left over. A job that names no pool goes to the one in which it costs least.
    Cheapest,
}

impl Strategy {
    /// Returns whether a borrower's own nodes come before all others.
    #[must_use]
    pub const fn is_home_first(self) -> bool {
        matches!(self, Self::LocalFirst | Self::Cheapest)
    }
}

/// Who goes next (RULES.md section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Order {
    /// Class, then decayed dominant use over weight, then submission.
    Fair,
    /// Class, then the dominant share of what is held now over weight, then submission (dominant
    /// resource fairness; Ghodsi et al., NSDI 2011).
    Drf,
    /// Class, then submission.
    Fifo,
    /// Class, then who holds less than its guaranteed part of the cluster, then who has more
    /// credits left to borrow with, then submission (Vuppalapati et al., Karma, OSDI 2023). Exact
    /// only where jobs are of one unit and ask for one resource; who has no credits left still
    /// takes what nobody else wants, and owes it.
    Karma,
    /// Class, then when the job would have ended at the latest had it not waited: its submission
    /// plus its limit (earliest due date first; Jackson, UCLA 1955). Short work passes long work,
    /// but none that was submitted later than after its limit. What has no limit comes last.
    EarliestDue,
}

impl Order {
    /// Returns whether what accounts use or have used ranks their jobs.
    #[must_use]
    pub const fn follows_use(self) -> bool {
        matches!(self, Self::Fair | Self::Drf | Self::Karma)
    }
}

/// Block `scheduling.karma`: what the order `karma` counts by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Karma {
    /// What is borrowed is paid for once per so long; at least 1 s.
    pub quantum: Span,
    /// The part of the cluster that is guaranteed to its accounts by weight, at most one; the rest
    /// is shared.
    pub guaranteed: Ppm,
    /// Credits that each account begins with: one pays for one GPU (in a cluster without any, one
    /// core) over one quantum. At most 10^15.
    pub initial: u64,
}

impl Default for Karma {
    fn default() -> Self {
        Self { quantum: Span::seconds(300), guaranteed: Ppm::new(500_000), initial: 1_000_000 }
    }
}

/// What happens behind a job that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Backfill {
    /// A blocked head blocks the pool.
    Strict,
    /// What does not fit is skipped.
    Greedy,
    /// The first that does not fit keeps the place where it can start soonest; others start where
    /// they do not delay it (Lifka, The ANL/IBM SP Scheduling System, JSSPP 1995).
    Easy,
    /// So does every one that does not fit, up to [`Backfill::RESERVATIONS_MAX`] of a pool (Mu'alem
    /// and Feitelson, IEEE TPDS 12(6), 2001).
    Conservative,
}

impl Backfill {
    /// Most jobs of one pool that places are kept for at once.
    pub const RESERVATIONS_MAX: usize = 100;

    /// Returns for how many waiting jobs of a pool a place is kept.
    #[must_use]
    pub const fn reservations(self) -> usize {
        match self {
            Self::Strict | Self::Greedy => 0,
            Self::Easy => 1,
            Self::Conservative => Self::RESERVATIONS_MAX,
        }
    }
}

/// In which order jobs are tried behind one that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum BackfillOrder {
    /// That of the queue.
    Queue,
    /// The shortest limit first, then that of the queue (SJBF; Tsafrir, Etsion and Feitelson, IEEE
    /// TPDS 18(6), 2007).
    Shortest,
    /// The smallest area first, limit times dominant share of the cluster, then that of the queue.
    Smallest,
}
