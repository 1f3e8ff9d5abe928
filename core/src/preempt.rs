//! Preemption: which leases must leave so that a job fits, and only if it then does.
//!
//! A plan names the nodes, the devices and the victims, and is whole: with the victims gone every
//! member fits. It is the smallest set by inclusion (greedy, then fill back). Nothing is evicted
//! here. Members of one gang are planned on different nodes.

use crate::bundle::{Bundle, Dimension, Needs};
use crate::canary::{Canary, planted};
use crate::confidence::{is_asked, trusted};
use crate::config::Exhaustion;
use crate::effect::EvictionReason;
use crate::endings::end_behind;
use crate::ids::{AccountId, JobId, LeaseId, NodeId, PoolId};
use crate::index::Index;
use crate::jobs::{Job, Shape};
use crate::leases::{Lease, LeaseState, Member};
use crate::nodes::{Gpu, Node};
use crate::placement::{bears, tightest_of};
use crate::shadow::Shadow;
use crate::state::State;
use crate::tags::meet;
use crate::units::{Priority, Span};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// Where a job goes and who leaves for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The members' places.
    pub members: Vec<Member>,
    /// The leases that must leave.
    pub victims: Vec<LeaseId>,
}

/// What one node would have to give up: worst victim's class, lost work, victims, tie.
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
        let other = lease.account != job.account;
        let may = match self {
            Self::Class(class) => {
                let gap = class.checked_sub(lease.priority.class());
                let boosted = state.job(lease.job).is_boosted(lease.ran(state.now), rules);
                let guarded = other && loans.spare(state, lease);
                let far = gap.is_some_and(|gap| gap >= rules.gap_min) && !boosted && !guarded;
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

/// Returns the best plan for a waiting job, or `None` when no victims make room for all of it.
#[must_use]
pub fn plan(
    state: &State,
    index: &Index,
    id: JobId,
    (right, loans): (Right, &Loans),
) -> Option<Plan> {
    let job = state.job(id);
    let shape = &state.shapes[job.shape];
    let mut plans: Vec<NodePlan> = Vec::new();
    let kept = Shadow::of_reservations(state, shape.pool, Some(id));
    let kept = kept.forbidden(shape, end_behind(state, job.limit));
    for node in &state.pools[shape.pool].nodes {
        if index.is_suitable(job.shape, *node) && !kept.contains(node) {
            plans.extend(plan_node(state, (job, right, loans), shape, *node));
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
    let mut victims: Vec<LeaseId> = all.into_iter().collect();
    victims.sort_by_key(|lease| right.order(state, state.lease(*lease)));
    let places = |gone: &[LeaseId]| -> Option<Vec<Member>> {
        nodes.iter().map(|n| place(state, *n, gone, &shape.needs)).collect()
    };
    let victims = fill_back(victims, |gone| places(gone).is_some());
    let members = places(&victims)?;
    let sure = |member: &Member| is_sure(state, member.node, (job, shape), &victims);
    if !members.iter().all(sure) {
        return None;
    }
    (!victims.is_empty()).then_some(Plan { members, victims })
}

/// Returns the smallest set of victims on one node that lets one member fit; none when it fits.
fn plan_node(
    state: &State,
    (job, right, loans): (&Job, Right, &Loans),
    shape: &Shape,
    id: NodeId,
) -> Option<NodePlan> {
    let node = &state.nodes[id];
    let fresh = node.spec.dedicated || node.load.is_some();
    if !node.takes_work(state.now) || !fresh || !bears(state, shape, id) {
        return None;
    }
    // What fits with some leases gone fits with all: most nodes are ruled out by sums alone, first
    // over everything, then over those that may be victims.
    let need = shape.needs.bundle();
    if !need.fits_in(&node.offer.as_ref()?.total.saturating_sub(&node.claimed)) {
        return None;
    }
    let leases = node.leases.iter().map(|lease| state.lease(*lease));
    // What it must be near stays.
    let wanted = |lease: &Lease| meet(&shape.affinity, &state.shapes[lease.shape].tags);
    let may = |lease: &&Lease| right.covers(state, loans, lease, job) && !wanted(lease);
    let mut eligible: Vec<&Lease> = leases.filter(may).collect();
    let mut room = node.free();
    for lease in &eligible {
        let members = lease.members.iter().filter(|member| member.node == id).count() as u64;
        room = room.zip(&lease.needs.bundle(), |sum, need| {
            sum.saturating_add(need.saturating_mul(members))
        });
    }
    if !need.fits_in(&room) {
        return None;
    }
    eligible.sort_by_cached_key(|lease| right.order(state, lease));
    let all: Vec<LeaseId> = eligible.iter().map(|lease| lease.id).collect();
    place(state, id, &all, &shape.needs)?;
    let mut gone: Vec<LeaseId> = Vec::new();
    let mut rest = eligible.iter();
    while place(state, id, &gone, &shape.needs).is_none() {
        gone.push(rest.next()?.id);
    }
    let gone = fill_back(gone, |gone| place(state, id, gone, &shape.needs).is_some());
    if !is_sure(state, id, (job, shape), &gone) {
        return None;
    }
    let leases = || gone.iter().map(|lease| state.lease(*lease));
    let worst = leases().map(|lease| lease.priority.class()).max().unwrap_or(0);
    let lost = leases().map(|l| state.job(l.job).lost_after(l.worked(state.now)).get()).sum();
    Some(((worst, lost, gone.len()), state.tie(id), id, gone))
}

/// Returns whether there is enough confidence to start one member on a node once some leases are
/// gone.
fn is_sure(state: &State, id: NodeId, (job, shape): (&Job, &Shape), gone: &[LeaseId]) -> bool {
    is_asked(state).then(|| {
        let node = &state.nodes[id];
        let (leased, _) = without(state, node, id, gone);
        let held = leased.saturating_add(&node.claimed);
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

/// Returns where one member fits on a node once some leases are gone.
fn place(state: &State, id: NodeId, gone: &[LeaseId], needs: &Needs) -> Option<Member> {
    let node = &state.nodes[id];
    let (leased, gpus) = without(state, node, id, gone);
    let total = node.offer.as_ref()?.total;
    let free = total.saturating_sub(&leased).saturating_sub(&node.claimed);
    if !needs.bundle().fits_in(&free) {
        return None;
    }
    let devices = tightest_of(&gpus, &node.spec.gpus, needs.gpus)?;
    Some(Member { node: id, devices })
}

/// Returns what a node would have leased, and its devices, once some leases are gone.
fn without(state: &State, node: &Node, id: NodeId, gone: &[LeaseId]) -> (Bundle, Vec<Gpu>) {
    let (mut leased, mut gpus) = (node.leased, node.gpus.clone());
    for lease in gone.iter().map(|lease| state.lease(*lease)) {
        for member in lease.members.iter().filter(|member| member.node == id) {
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
