//! Preemption: which leases must leave so that a job fits, and only if it then does.
//!
//! A plan names the nodes, the devices and the victims, and is whole: with the victims gone every
//! member fits. It is the smallest set by inclusion (greedy, then fill back). Nothing is evicted
//! here. Members of one gang are planned on different nodes.

use crate::bundle::{Bundle, Dimension, GpuNeed, Needs};
use crate::canary::{Canary, planted};
use crate::confidence::{is_asked, trusted};
use crate::config::Exhaustion;
use crate::effect::EvictionReason;
use crate::endings::{end_behind, end_of, ends_at};
use crate::ids::{AccountId, JobId, LeaseId, NodeId, PoolId};
use crate::index::Index;
use crate::jobs::Job;
use crate::leases::{Claim, Lease, LeaseState, Member};
use crate::nodes::{Gpu, Node};
use crate::placement::{bears, tightest_of};
use crate::shadow::Shadow;
use crate::shapes::Shape;
use crate::state::State;
use crate::tags::meet;
use crate::units::{Bytes, PerMille, Priority, Span};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cell::Cell;

/// Where a job goes and who leaves for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The members' places.
    pub members: Vec<Member>,
    /// The leases that must leave.
    pub victims: Vec<LeaseId>,
    /// Those that are leaving already and whose places it takes, too.
    pub leaving: Vec<LeaseId>,
}

/// For whom a plan is made, and what it heeds.
#[derive(Clone, Copy, Debug)]
pub struct Need<'a> {
    /// The job.
    pub job: &'a Job,
    /// By what right others make way.
    pub right: Right,
    /// What others have on loan.
    pub loans: &'a Loans,
    /// Whose places it must leave alone.
    pub kept: &'a Shadow,
    /// Whose places keep it from what is free, too.
    pub taken: &'a Shadow,
    /// On this account's own nodes only, if it says so.
    pub only: Option<AccountId>,
    /// Whether nobody waits for room before it: then it may take what is being left anyway.
    pub first: bool,
    /// Set where one that stays less long might have had a place.
    pub stays: &'a Cell<bool>,
}

/// What one node would have to give up: worst victim's class, lost work, who leaves, tie.
type NodePlan = ((u8, u64, usize), (i32, u32), NodeId, Vec<LeaseId>);

/// By what right others make way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// The job is of a higher class than others: of this one.
    Class(u8),
    /// The job is within its account's quota, and what makes way is on loan to others.
    Quota,
}

impl Right {
    /// Returns what is said to those that make way.
    #[must_use]
    pub const fn reason(self) -> EvictionReason {
        match self {
            Self::Class(_) => EvictionReason::PriorityPreemption,
            Self::Quota => EvictionReason::QuotaReclaim,
        }
    }

    /// Returns whether a lease may be a victim of a job once it has run long enough.
    #[must_use]
    pub fn reaches(self, state: &State, loans: &Loans, lease: &Lease, job: &Job) -> bool {
        let rules = &state.rules.preemption;
        let (other, row) = (lease.account != job.account, state.job(lease.job));
        let may = match self {
            Self::Class(class) => {
                let gap = class.checked_sub(lease.priority.class());
                let boosted = row.is_boosted(lease.ran(state.now), rules);
                let guarded = other && loans.spare(state, lease);
                // Whatever it counts as: who made way takes nobody's place of its own class.
                let back = job.preempted > 0 && row.priority.class() >= job.priority.class();
                let far = gap.is_some_and(|gap| gap >= rules.gap_min);
                let far = far && !boosted && !guarded && !back;
                far || other && lease.unpaid && gap.is_some()
            }
            Self::Quota => other && loans.0.as_ref().is_some_and(|all| all.contains(&lease.id)),
        };
        lease.state == LeaseState::Active && may && (!other || !is_at_home(state, lease))
    }

    /// Returns whether a lease may be a victim of a job.
    fn covers(self, state: &State, loans: &Loans, lease: &Lease, job: &Job) -> bool {
        let least = state.rules.preemption.runtime_min;
        let ran = lease.ran(state.now) >= least || planted(Canary::SkipMinRuntime);
        (ran || lease.unpaid) && self.reaches(state, loans, lease, job)
    }

    /// Orders victims: lowest class, least lost work, youngest, id; of loans the youngest first.
    fn order(self, state: &State, lease: &Lease) -> VictimOrder {
        let youngest = (core::cmp::Reverse(lease.granted.ms()), lease.id);
        match self {
            Self::Class(_) => {
                let lost = state.job(lease.job).lost_after(lease.worked(state.now));
                (lease.priority.class(), lost, youngest)
            }
            Self::Quota => (0, Span::ZERO, youngest),
        }
    }
}

/// Returns the lowest class that may preempt in a pool; `None` where nothing runs.
#[must_use]
pub fn least_class(state: &State, pool: PoolId) -> Option<u8> {
    let lowest = state.pools[pool].running.lowest()?;
    // Where anything may run unpaid, that makes way for all.
    let unpaid = lowest == Priority::NONE.class()
        && state.rules.atp.on_exhaustion == Exhaustion::ContinueLow;
    Some(lowest.saturating_add(if unpaid { 0 } else { state.rules.preemption.gap_min }))
}

/// Returns whether a lease has a member on a node of its own account: that is nobody's loan.
#[must_use]
pub fn is_at_home(state: &State, lease: &Lease) -> bool {
    lease.members.iter().any(|member| state.nodes[member.node].spec.owner == lease.account)
}

/// See [`Right::order`].
type VictimOrder = (u8, Span, (core::cmp::Reverse<u64>, LeaseId));

/// Returns whether a job could start within the quota of its account, beside those for which others
/// are making way.
#[must_use]
pub fn is_within_quota(state: &State, job: &Job) -> bool {
    let row = state.account(job.account);
    let Some(quota) = &row.spec.quota else { return false };
    let coming = state.claims.keys().map(|id| state.job(*id));
    // What moves holds its old place until it has the new one.
    let coming = coming.filter(|other| other.account == job.account && other.id != job.id);
    let coming = coming.filter(|other| !other.state.is_running());
    let mut with = row.using;
    for job in coming.chain([job]) {
        with = with.saturating_add(&state.shapes[job.shape].total());
    }
    with.fits_in(quota)
}

/// The leases of a pool that their accounts hold above what is theirs by right. Nothing where no
/// account has a quota.
#[derive(Clone, Debug, Default)]
pub struct Loans(Option<BTreeSet<LeaseId>>);

impl Loans {
    /// Finds them: of each account the youngest leases that are not at home, until what is left of
    /// all that it holds is within its quota. A lease that is leaving counts as gone.
    #[must_use]
    pub fn of(state: &State, pool: PoolId) -> Self {
        if !state.ledger.guarantees {
            return Self::default();
        }
        let mut holds: BTreeMap<AccountId, (Bundle, Vec<&Lease>)> = BTreeMap::new();
        for lease in state.leases.values().filter(|lease| lease.state == LeaseState::Active) {
            let shape = &state.shapes[lease.shape];
            let (using, here) = holds.entry(lease.account).or_default();
            using.add(&shape.total());
            if shape.pool == pool && !is_at_home(state, lease) {
                here.push(lease);
            }
        }
        let mut out = BTreeSet::new();
        for (account, (mut using, mut leases)) in holds {
            leases.sort_unstable_by_key(|lease| (lease.granted, lease.id));
            let quota = state.account(account).spec.quota.unwrap_or(Bundle::ZERO);
            while let Some(lease) = leases.pop() {
                let held = state.shapes[lease.shape].total();
                let above = |d: Dimension| held.amount(d) > 0 && using.amount(d) > quota.amount(d);
                if Dimension::all().any(above) {
                    out.insert(lease.id);
                    using.take(&held);
                }
            }
        }
        Self(Some(out))
    }

    /// Returns whether a lease is its account's by right: no other account's class takes it.
    fn spare(&self, state: &State, lease: &Lease) -> bool {
        let quota = state.account(lease.account).spec.quota.is_some();
        quota && self.0.as_ref().is_some_and(|loans| !loans.contains(&lease.id))
    }
}

/// Returns the best plan for a waiting job, or `None` when nobody who leaves makes room for all of
/// it, or nobody has to.
#[must_use]
pub fn plan(state: &State, index: &Index, need: Need<'_>) -> Option<Plan> {
    let shape = &state.shapes[need.job.shape];
    let mut plans: Vec<NodePlan> = Vec::new();
    let nodes = match need.only {
        None => state.pools[shape.pool].nodes.as_slice(),
        Some(account) => index.owned(account),
    };
    for node in nodes {
        if index.is_suitable(need.job.shape, *node) {
            plans.extend(plan_node(state, need, shape, *node));
        }
    }
    plans.sort();
    let members = usize::from(shape.members);
    if plans.len() < members {
        return None;
    }
    plans.truncate(members);
    let nodes: Vec<NodeId> = plans.iter().map(|plan| plan.2).collect();
    let all: BTreeSet<LeaseId> = plans.iter().flat_map(|plan| plan.3.iter().copied()).collect();
    let mut gone: Vec<LeaseId> = all.into_iter().collect();
    gone.sort_by_key(|lease| need.order(state, state.lease(*lease)));
    let places = |gone: &[LeaseId]| -> Option<Vec<Member>> {
        nodes.iter().map(|node| need.place(state, shape, *node, gone)).collect()
    };
    let gone = fill_back(gone, |gone| places(gone).is_some());
    let members = places(&gone)?;
    let fits = |gone: &[LeaseId]| {
        nodes.iter().all(|node| place(state, *node, gone, &shape.needs).is_some())
    };
    if !is_least(&gone, fits) {
        return None;
    }
    let sure = |member: &Member| is_sure(state, member.node, (need.job, shape), &gone);
    let sure = members.iter().all(sure);
    need.stays.set(need.stays.get() || !sure);
    if gone.is_empty() || !sure {
        return None;
    }
    let leaves = |lease: &LeaseId| state.lease(*lease).state == LeaseState::Releasing;
    let (leaving, victims) = gone.into_iter().partition(leaves);
    Some(Plan { members, victims, leaving })
}

impl Need<'_> {
    /// Orders who leaves: those that do anyway first.
    fn order(self, state: &State, lease: &Lease) -> (bool, VictimOrder) {
        (lease.state == LeaseState::Active, self.right.order(state, lease))
    }

    /// Returns whether a lease may be one that leaves.
    fn covers(self, state: &State, lease: &Lease) -> bool {
        (self.first && leaves_in_time(state, lease))
            || self.right.covers(state, self.loans, lease, self.job)
    }

    /// Returns whether nothing that is used or kept keeps it from a place on a node where nobody
    /// has to leave for it.
    fn fits(self, state: &State, id: NodeId) -> bool {
        let shape = &state.shapes[self.job.shape];
        let end = end_of(state, state.now, self.job.limit);
        let free = state.nodes[id].fits(&shape.needs, &shape.needs.bundle());
        shape.members > 1 || (free && self.taken.in_whose_way(shape, end, &[id]).is_none())
    }

    /// Returns where one member fits on a node once some leases are gone, in nobody's way.
    fn place(self, state: &State, shape: &Shape, id: NodeId, gone: &[LeaseId]) -> Option<Member> {
        let member = place(state, id, gone, &shape.needs)?;
        let of = (shape, end_behind(state, self.job.limit));
        let delays = self.kept.is_delayed_instead(state, of, (&member, gone));
        self.stays.set(self.stays.get() || delays);
        (!delays).then_some(member)
    }
}

/// Returns whether a lease is leaving and will have left before a claim made now is given up, as
/// far as anybody knows.
fn leaves_in_time(state: &State, lease: &Lease) -> bool {
    let claimed = state.now..=state.now.after(state.rules.preemption.hold);
    lease.state == LeaseState::Releasing && claimed.contains(&ends_at(state, lease))
}

/// Returns the smallest set of leases that leave on one node and let one member fit; none when it
/// fits.
fn plan_node(state: &State, need: Need<'_>, shape: &Shape, id: NodeId) -> Option<NodePlan> {
    let node = &state.nodes[id];
    let fresh = node.spec.dedicated || node.load.is_some();
    let apart = !node.claimed.is_zero() && comes_apart(state, shape, id);
    if !node.takes_work(state.now) || !fresh || apart || !bears(state, shape, id) {
        return None;
    }
    // What fits with some leases gone fits with all: most nodes are ruled out by sums alone, first
    // over everything, then over those that may leave.
    let all = shape.needs.bundle();
    if !all.fits_in(&node.offer.as_ref()?.total.saturating_sub(&node.claimed)) {
        return None;
    }
    let leases = node.leases.iter().map(|lease| state.lease(*lease));
    // What it must be near stays.
    let wanted = |lease: &Lease| meet(&shape.affinity, &state.shapes[lease.shape].tags);
    let needed = |lease: &Lease| wanted(lease) || need.kept.needs(state, id, lease);
    let mut eligible: Vec<&Lease> =
        leases.filter(|lease| need.covers(state, lease) && !needed(lease)).collect();
    let mut stay = node.leased;
    for lease in &eligible {
        stay.lessen(&lease.needs.bundle().times(lease.members_on(id).count() as u64));
    }
    if !all.fits_beside(node.offered(), [&stay, &Bundle::ZERO]) {
        return None;
    }
    eligible.sort_by_cached_key(|lease| need.order(state, lease));
    let all: Vec<LeaseId> = eligible.iter().map(|lease| lease.id).collect();
    let fits = |gone: &[LeaseId]| need.place(state, shape, id, gone).is_some();
    if !fits(&all) {
        return None;
    }
    let mut gone: Vec<LeaseId> = Vec::new();
    let mut rest = eligible.iter();
    while !fits(&gone) {
        gone.push(rest.next()?.id);
    }
    let gone = fill_back(gone, fits);
    if !is_least(&gone, |gone| place(state, id, gone, &shape.needs).is_some()) {
        // It fits beside some of them: they would leave only to delay nobody.
        return None;
    }
    let sure = is_sure(state, id, (need.job, shape), &gone);
    need.stays.set(need.stays.get() || !sure);
    if !sure || (gone.is_empty() && !need.fits(state, id)) {
        return None;
    }
    let victims = gone.iter().map(|lease| state.lease(*lease));
    let victims = || victims.clone().filter(|lease| lease.state == LeaseState::Active);
    let worst = victims().map(|lease| lease.priority.class()).max().unwrap_or(0);
    let lost = victims().map(|l| state.job(l.job).lost_after(l.worked(state.now)).get()).sum();
    Some(((worst, lost, gone.len()), state.tie(id), id, gone))
}

/// Returns whether a job of a shape avoids somebody for whom a part of a node is kept.
#[must_use]
pub fn comes_apart(state: &State, shape: &Shape, id: NodeId) -> bool {
    let mut claims = state.claims.iter().filter(|(_, claim)| claim.is_on(id));
    let tags = |job: &JobId| &state.shapes[state.job(*job).shape].tags;
    !shape.anti_affinity.is_empty() && claims.any(|(job, _)| meet(&shape.anti_affinity, tags(job)))
}

/// Returns whether there is enough confidence to start one member on a node once some leases are
/// gone.
fn is_sure(state: &State, id: NodeId, (job, shape): (&Job, &Shape), gone: &[LeaseId]) -> bool {
    is_asked(state).then(|| {
        let (held, _) = used_without(state, &state.nodes[id], id, gone);
        trusted(state, id, (&held, shape), 1, (state.now, job.limit))
    }) != Some(0)
}

/// Drops every member of a set that `holds` does not need, last first.
pub fn fill_back(mut set: Vec<LeaseId>, holds: impl Fn(&[LeaseId]) -> bool) -> Vec<LeaseId> {
    let mut at = set.len();
    while at > 0 {
        at -= 1;
        let without: Vec<LeaseId> =
            set.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, lease)| *lease).collect();
        if holds(&without) {
            set = without;
        }
    }
    set
}

/// Returns whether so many members of a job, whose claim was just given up, may start on a place
/// that was kept for them: it is free, and what is kept there for others still fits once those that
/// they wait for have left, and where this one comes `early`, before all have that it waited for,
/// whoever leaves first.
#[must_use]
pub fn is_free_for(
    state: &State,
    job: &Job,
    member: &Member,
    (members, early): (u32, bool),
) -> bool {
    let (shape, id) = (&state.shapes[job.shape], member.node);
    let (node, need) = (&state.nodes[id], shape.needs.gpus);
    let claims = state.claims.values().filter(|claim| claim.is_on(id));
    let awaited: BTreeSet<LeaseId> = claims.flat_map(Claim::awaits).collect();
    let awaited: Vec<LeaseId> = awaited.into_iter().collect();
    let (held, gpus) = used_without(state, node, id, &awaited);
    let unused = |(gpu, size): (&Gpu, &Bytes)| {
        let gpu = Gpu { claimed: PerMille::ZERO, memory_claimed: Bytes::ZERO, ..gpu.clone() };
        let (share, memory) = gpu.free(*size);
        share >= need.share && memory >= need.memory
    };
    let mut devices = node.gpus.iter().zip(&node.spec.gpus).enumerate();
    node.takes_work(state.now)
        && bears(state, shape, id)
        && shape.needs.bundle().fits_beside(node.offered(), [&node.leased, &Bundle::ZERO])
        && devices.all(|(i, device)| member.devices & 1 << i == 0 || unused(device))
        && shape.needs.bundle().fits_beside(node.offered(), [&held, &Bundle::ZERO])
        && tightest_of(&gpus, &node.spec.gpus, need).is_some()
        && trusted(state, id, (&held, shape), members, (state.now, job.limit)) == members
        && (!early || place(state, id, &[], &shape.needs).is_some())
}

/// Returns whether all of a set are needed for something to hold.
fn is_least(set: &[LeaseId], holds: impl Fn(&[LeaseId]) -> bool) -> bool {
    fill_back(set.to_vec(), holds).len() == set.len()
}

/// Returns where one member fits on a node once some leases are gone.
fn place(state: &State, id: NodeId, gone: &[LeaseId], needs: &Needs) -> Option<Member> {
    let node = &state.nodes[id];
    let (used, gpus) = used_without(state, node, id, gone);
    if !needs.bundle().fits_beside(node.offered(), [&used, &Bundle::ZERO]) {
        return None;
    }
    let devices = tightest_of(&gpus, &node.spec.gpus, needs.gpus)?;
    Some(Member { node: id, devices })
}

/// Returns what of a node would be used or claimed, and its devices, once some leases are gone.
/// What a claim keeps and what those hold that it waits for are the same room as far as they go.
fn used_without(state: &State, node: &Node, id: NodeId, gone: &[LeaseId]) -> (Bundle, Vec<Gpu>) {
    let (mut used, mut gpus) = without(state, node, id, gone);
    if node.claimed.is_zero() {
        return (used, gpus);
    }
    let mut seen: BTreeSet<LeaseId> = gone.iter().copied().collect();
    for gpu in &mut gpus {
        (gpu.claimed, gpu.memory_claimed) = (PerMille::ZERO, Bytes::ZERO);
    }
    for claim in state.claims.values().filter(|claim| claim.is_on(id)) {
        let awaited: Vec<LeaseId> = claim.awaits().filter(|lease| seen.insert(*lease)).collect();
        let mut awaited_gpus = alloc::vec![Gpu::default(); gpus.len()];
        let mut held = Bundle::ZERO;
        for lease in awaited.iter().map(|lease| state.lease(*lease)) {
            for member in lease.members_on(id) {
                held = held.saturating_add(&lease.needs.bundle());
                add(&mut awaited_gpus, member.devices, lease.needs.gpus);
            }
        }
        let mut kept = Bundle::ZERO;
        let mut kept_gpus = alloc::vec![Gpu::default(); gpus.len()];
        for member in claim.members.iter().filter(|member| member.node == id) {
            kept = kept.saturating_add(&claim.needs.bundle());
            add(&mut kept_gpus, member.devices, claim.needs.gpus);
        }
        used = used.saturating_add(&kept.saturating_sub(&held));
        for ((gpu, kept), held) in gpus.iter_mut().zip(kept_gpus).zip(awaited_gpus) {
            let (share, memory) = (kept.used, kept.memory_used);
            let (share, memory) =
                (share.saturating_sub(held.used), memory.saturating_sub(held.memory_used));
            gpu.claimed = gpu.claimed.saturating_add(share);
            gpu.memory_claimed = gpu.memory_claimed.saturating_add(memory);
        }
    }
    (used, gpus)
}

/// Adds what one member uses of its devices.
fn add(gpus: &mut [Gpu], devices: u64, need: GpuNeed) {
    for (_, gpu) in gpus.iter_mut().enumerate().filter(|(i, _)| devices & 1 << i != 0) {
        gpu.used = gpu.used.saturating_add(need.share);
        gpu.memory_used = gpu.memory_used.saturating_add(need.memory);
    }
}

/// Returns what a node would have leased, and its devices, once some leases are gone.
fn without(state: &State, node: &Node, id: NodeId, gone: &[LeaseId]) -> (Bundle, Vec<Gpu>) {
    let (mut leased, mut gpus) = (node.leased, node.gpus.clone());
    for lease in gone.iter().map(|lease| state.lease(*lease)) {
        for member in lease.members_on(id) {
            leased = leased.saturating_sub(&lease.needs.bundle());
            for (i, gpu) in gpus.iter_mut().enumerate() {
                if member.devices & 1 << i != 0 {
                    gpu.used = gpu.used.saturating_sub(lease.needs.gpus.share);
                    gpu.memory_used = gpu.memory_used.saturating_sub(lease.needs.gpus.memory);
                }
            }
        }
    }
    (leased, gpus)
}
