//! Leases: grants to one attempt of a job, running in terms, and the claims that precede some.
//!
//! A lease is granted, renewed and ended as one, however many members it has. It knows its own
//! money (the open hold and what was settled) but moves none.

use crate::bundle::{DIMENSIONS, Needs};
use crate::command::Outcome;
use crate::effect::EvictionReason;
use crate::flat::{Few, FlatMap};
use crate::ids::{AccountId, Epoch, HoldId, JobId, LeaseId, NodeId, ShapeId};
use crate::meter::Meter;
use crate::price::Prices;
use crate::tariff::Tariff;
use crate::units::{Band, MicroAtp, MilliCores, Priority, Span, Time};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::{self, Vec};
use core::iter::Chain;
use core::option;
use serde::{Deserialize, Serialize};

/// One member of a lease: a node and the devices it uses there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its devices, one bit each.
    pub devices: u64,
}

/// Where a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LeaseState {
    /// The job runs.
    Active,
    /// The job was told to leave, or is being killed; capacity is not free yet.
    Releasing,
    /// The limit of a job on dedicated nodes without grace was reached: capacity is free, the end
    /// of its process is still to be reported at this very instant.
    Released,
}

/// A grant to one attempt of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its number.
    pub id: LeaseId,
    /// The job.
    pub job: JobId,
    /// Who pays.
    pub account: AccountId,
    /// Which start of the job.
    pub epoch: Epoch,
    /// What each member holds.
    pub needs: Needs,
    /// The CPU that it has beside that.
    pub extra: Extra,
    /// The shape the needs come from.
    pub shape: ShapeId,
    /// What its job counts as in the running term; its band sets the price.
    pub priority: Priority,
    /// What it counts as in the next term, once renewed: urgent work beyond its cap counts as high.
    pub next_priority: Priority,
    /// Since when it has counted as urgent without a break.
    pub urgent_since: Option<Time>,
    /// What of its pool's time is booked as urgent for it last: from when, until when.
    pub urgent_booked: Option<(Time, Time)>,
    /// Where.
    pub members: Vec<Member>,
    /// Where it stands.
    pub state: LeaseState,
    /// When it was granted.
    pub granted: Time,
    /// When the job's limit is reached.
    pub limit_at: Option<Time>,
    /// When the running term began.
    pub term_began: Time,
    /// When the running term ends.
    pub term_ends: Time,
    /// The hold of the running term.
    pub hold: Option<HoldId>,
    /// The hold of the next term, once renewed.
    pub next_hold: Option<HoldId>,
    /// The rates of the running term and of the next, once renewed: a term's price is fixed.
    pub rates: [u64; DIMENSIONS],
    /// The prices of the running term: those of its pool when its hold was made.
    pub prices: Prices,
    /// The prices of the next term, once renewed.
    pub next_prices: Prices,
    /// What its use was booked at: the dominant share in the pool, in parts of 2^32.
    pub share: u64,
    /// What the running term was booked at on its account, to take back what is left of it.
    pub booked: u128,
    /// Why it must leave.
    pub reason: Option<EvictionReason>,
    /// Whose return or failure made it leave.
    pub blame: Option<NodeId>,
    /// The nodes among its members' on which nothing of it is left.
    pub gone: Option<Few<NodeId>>,
    /// How its first member ended by itself; the others then end too.
    pub outcome: Option<Outcome>,
    /// Since when its node has it paused, for the owner's sake.
    pub paused: Option<Time>,
    /// Since when its account has it suspended, a pause left out.
    pub suspended: Option<Time>,
    /// How long it was suspended and not paused, a suspension under way left out.
    pub stood: Span,
    /// How long it was paused in the running term, a pause under way left out.
    pub rested: Span,
    /// The same over all terms.
    pub rested_in_all: Span,
    /// What was left of its limit when it was paused.
    pub limit_left: Option<Span>,
    /// When it was first told to leave.
    pub noticed: Option<Time>,
    /// From when on its GPUs may count as idle: its grant, or the end of its last pause.
    pub idle_from: Time,
    /// Since when they had been idle when its account was last warned.
    pub warned: Option<Time>,
    /// When it is killed if it has not left.
    pub kill_at: Option<Time>,
    /// The length of the next term, once it is set aside: a pause moves the limit, not what was
    /// paid for.
    pub next_span: Option<Span>,
    /// Until when its nodes were told that it may run.
    pub permit_until: Time,
    /// The longest span that a node was given at once.
    pub permitted: Span,
    /// When nothing of it can be left on a node that is not heard.
    pub safe_at: Time,
    /// When it is given up on nodes that are not heard, once it is to end.
    pub lost_at: Option<Time>,
    /// When it was last known to be there.
    pub proof: Time,
    /// Whether its node says that it was killed and is still there.
    pub stuck: bool,
    /// Whether it had to be killed, although it had all the notice that it needs.
    pub overstayed: bool,
    /// Credit that the job for which it makes way holds for the work lost here.
    pub cover: Option<HoldId>,
    /// Credit held over all terms.
    pub held: MicroAtp,
    /// Credit settled over all terms.
    pub settled: MicroAtp,
    /// Whether its running term is unpaid: it then makes way for anyone who pays (see
    /// [`crate::config::Exhaustion::ContinueLow`]).
    pub unpaid: bool,
    /// How many of its terms were unpaid, the running one included.
    pub unpaid_terms: u32,
    /// What it was charged, term by term; `None` while no term was paid.
    pub meter: Option<Box<Meter>>,
}

/// The CPU that a lease has beside its needs: what is left over on its node. It grows when a term
/// begins, and falls at any time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extra {
    /// What it has now.
    pub cpu: MilliCores,
    /// What it had when the running term began.
    first: MilliCores,
    /// Millicore-milliseconds that it had in the running term before the last change.
    metered: u128,
    /// How long it had run in the running term when that was.
    since: Span,
}

impl Extra {
    /// Makes the extra of a lease that is granted now.
    #[must_use]
    pub fn new(cpu: MilliCores) -> Self {
        Self { cpu, first: cpu, ..Self::default() }
    }

    /// Begins a term.
    pub fn begin_term(&mut self) {
        *self = Self::new(self.cpu);
    }

    /// Sets what it has after running for `ran` in the running term; it only falls there.
    pub fn set(&mut self, cpu: MilliCores, ran: Span) {
        self.metered = self.metered(ran);
        (self.cpu, self.since) = (cpu, ran.max(self.since));
    }

    /// Returns the millicore-milliseconds that it had in the running term after running for `ran`;
    /// where that lies before the last change, at most what it had at first.
    #[must_use]
    pub fn metered(&self, ran: Span) -> u128 {
        let integral = |cpu: MilliCores, span: Span| u128::from(cpu.get()) * u128::from(span.get());
        let sum = self.metered + integral(self.cpu, ran.saturating_sub(self.since));
        sum.min(integral(self.first, ran))
    }

    /// Returns the millicore-milliseconds of the last `work` of what it has run in the term.
    #[must_use]
    pub fn last(&self, ran: Span, work: Span) -> u128 {
        self.metered(ran).saturating_sub(self.metered(ran.saturating_sub(work)))
    }
}

/// Nodes of a lease, mostly one.
type Nodes = Chain<option::IntoIter<NodeId>, vec::IntoIter<NodeId>>;

impl Lease {
    /// Returns all the CPU that a lease of one member has.
    #[must_use]
    pub fn cpu(&self) -> MilliCores {
        self.needs.cpu.saturating_add(self.extra.cpu)
    }

    /// Returns whether it has more CPU than so much, beside its needs.
    #[must_use]
    pub fn has_more_than(&self, cpu: MilliCores) -> bool {
        !self.extra.cpu.is_zero() && cpu < self.cpu()
    }

    /// Returns what the running term is paid by.
    #[must_use]
    pub fn tariff(&self) -> Tariff<'_> {
        Tariff { rates: &self.rates, prices: &self.prices, band: self.band() }
    }

    /// Returns the price band.
    #[must_use]
    pub fn band(&self) -> Band {
        self.priority.band()
    }

    /// Returns the middle of the running term: from then on the next is set aside.
    #[must_use]
    pub fn half_term(&self) -> Time {
        self.term_began.after(Span::new(self.term_ends.since(self.term_began).get() / 2))
    }

    /// Returns the length of the running term.
    #[must_use]
    pub fn term_span(&self) -> Span {
        self.term_ends.since(self.term_began)
    }

    /// Returns how long it has run, pauses left out.
    #[must_use]
    pub fn ran(&self, now: Time) -> Span {
        let resting = self.paused.map_or(Span::ZERO, |since| now.since(since));
        now.since(self.granted).saturating_sub(self.rested_in_all).saturating_sub(resting)
    }

    /// Returns how long its job has worked: what it has run, suspensions left out.
    #[must_use]
    pub fn worked(&self, now: Time) -> Span {
        let since = self.suspended.filter(|_| self.paused.is_none());
        let standing = since.map_or(Span::ZERO, |since| now.since(since));
        self.ran(now).saturating_sub(self.stood).saturating_sub(standing)
    }

    /// Begins or ends a suspension.
    pub fn set_suspended(&mut self, suspended: bool, now: Time) {
        self.count_standing(now);
        self.suspended = suspended.then_some(now);
    }

    /// Begins a pause.
    pub fn begin_pause(&mut self, now: Time) {
        self.count_standing(now);
        self.paused = Some(now);
        self.limit_left = self.limit_at.take().map(|limit| limit.since(now));
    }

    /// Counts a suspension under way so far.
    fn count_standing(&mut self, now: Time) {
        if let (Some(since), None) = (&mut self.suspended, self.paused) {
            self.stood = self.stood.saturating_add(now.since(*since));
            *since = now;
        }
    }

    /// Returns how much of the running term it has run until a time, pauses left out.
    #[must_use]
    pub fn ran_in_term(&self, until: Time) -> Span {
        let until = until.min(self.term_ends);
        let resting = self.paused.map_or(Span::ZERO, |at| until.since(at.max(self.term_began)));
        until.since(self.term_began).saturating_sub(self.rested).saturating_sub(resting)
    }

    /// Walks the nodes of its members, each once and in order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        self.nodes_where(|_| true)
    }

    /// Walks the nodes on which something of it may be left, in order.
    pub fn places(&self) -> impl Iterator<Item = NodeId> + use<> {
        self.nodes_where(|node| !self.has_left(*node))
    }

    /// Walks some of its members' nodes. Almost always there is one.
    fn nodes_where(&self, which: impl Fn(&NodeId) -> bool) -> Nodes {
        let nodes = || self.members.iter().map(|member| member.node).filter(&which);
        let (one, mut all) = match self.members.as_slice() {
            [_] => (nodes().next(), Vec::new()),
            _ => (None, nodes().collect()),
        };
        all.sort_unstable();
        all.dedup();
        one.into_iter().chain(all)
    }

    /// Walks its members on a node of which something may be left.
    pub fn members_on(&self, node: NodeId) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.node == node && !self.has_left(node))
    }

    /// Returns whether something of it may be left on a node.
    #[must_use]
    pub fn is_on(&self, node: NodeId) -> bool {
        self.members.iter().any(|member| member.node == node) && !self.has_left(node)
    }

    /// Notes that nothing of it is left on a node.
    pub fn leave(&mut self, node: NodeId) {
        match &mut self.gone {
            None => self.gone = Some(Few::of(node)),
            Some(gone) => {
                gone.insert(node);
            }
        }
    }

    /// Returns whether nothing of it is left on one of its nodes.
    #[must_use]
    pub fn has_left(&self, node: NodeId) -> bool {
        self.gone.as_ref().is_some_and(|gone| gone.contains(&node))
    }

    /// Returns whether nothing of it is left anywhere.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.members.iter().all(|member| self.has_left(member.node))
    }

    /// Ends a pause under way.
    pub fn end_pause(&mut self, now: Time) {
        if let Some(since) = self.paused.take() {
            self.rested_in_all = self.rested_in_all.saturating_add(now.since(since));
            let in_term = now.since(since.max(self.term_began));
            self.rested = self.rested.saturating_add(in_term);
            self.suspended = self.suspended.map(|_| now);
            self.idle_from = now;
        }
        if let Some(left) = self.limit_left.take() {
            self.limit_at = Some(now.after(left));
        }
    }
}

/// Capacity kept for a job whose victims are still leaving.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// What each member needs.
    pub needs: Needs,
    /// Where.
    pub members: Vec<Member>,
    /// The leases that were told to leave for it and have not left yet.
    pub victims: BTreeSet<LeaseId>,
    /// Others that were leaving already, whose place it takes too, and that have not left yet.
    pub leaving: BTreeSet<LeaseId>,
    /// When it is given up.
    pub ends: Time,
    /// What its job's first term costs; `None` where it runs and only moves.
    pub promise: Option<Promise>,
}

impl Claim {
    /// Walks all leases that have to leave before it is fulfilled.
    pub fn awaits(&self) -> impl Iterator<Item = LeaseId> + '_ {
        self.victims.union(&self.leaving).copied()
    }

    /// Returns whether a part of a node is kept by it.
    #[must_use]
    pub fn is_on(&self, node: NodeId) -> bool {
        self.members.iter().any(|member| member.node == node)
    }
}

/// The terms on which others make way for a job: it starts on these, whatever prices and classes
/// are by then, unless the rules are others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// The credit of its first term, unless that costs nothing.
    pub hold: Option<HoldId>,
    /// The prices of its first term.
    pub prices: Prices,
    /// The most that it counts as.
    pub standing: Priority,
}

/// How many leases of each class hold capacity: no plan is tried where no victim can be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    by_class: FlatMap<u8, u64>,
}

impl Running {
    /// Counts a lease in.
    pub fn enter(&mut self, priority: Priority) {
        self.by_class.count(priority.class());
    }

    /// Counts a lease out.
    ///
    /// # Panics
    /// When it was not counted in: our bug.
    pub fn leave(&mut self, priority: Priority) {
        let counted = self.by_class.uncount(&priority.class());
        assert!(counted, "a lease is counted out once");
    }

    /// Returns the lowest class that runs.
    #[must_use]
    pub fn lowest(&self) -> Option<u8> {
        self.by_class.keys().next().copied()
    }
}
