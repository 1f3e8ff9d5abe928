//! Explain, as data: every reason why a job waits, and the nearest single change that would start
//! it (RULES.md section 8). A question to the state; it walks the nodes and is asked by people, and
//! once per job that says `if_busy: refuse`.

pub use crate::blocker::{Blocker, Explanation};

use crate::bundle::Dimension;
use crate::caps::{is_refused, over_leases, over_share};
use crate::charges;
use crate::confidence::{is_asked, of_each, suffices};
use crate::config::Backfill;
use crate::endings::end_of;
use crate::ids::{JobId, NodeId, PoolId};
use crate::jobs::{Job, JobState, STARVING};
use crate::placement::{bears, bears_what_runs, members_on, suits};
use crate::preempt::{Loans, Right, is_within_quota, least_class};
use crate::queue::Rank;
use crate::shadow::Shadow;
use crate::shapes::Shape;
use crate::state::State;
use crate::units::PerMille;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// What the suitable nodes look like to one job.
#[derive(Default)]
struct Survey {
    suitable: u32,
    down: u32,
    draining: u32,
    reclaiming: u32,
    closed: u32,
    apart: u32,
    /// Members that would fit where others keep it away.
    apart_fit: u32,
    fit: u32,
    /// The confidence in each member that fits and is too unsure to stay.
    unsure: Vec<PerMille>,
    short: BTreeMap<Dimension, u32>,
    nearest: Option<(usize, u64, NodeId, Dimension)>,
}

/// Returns every reason why a job waits; `None` when it does not wait or does not exist.
#[must_use]
pub fn explain(state: &State, id: JobId) -> Option<Explanation> {
    let job = state.jobs.get(&id)?;
    let mut blockers = Vec::new();
    match job.state {
        JobState::Running(_) => return None,
        JobState::Held if job.suspect => {
            let nodes = count(job.lost_with.len());
            blockers.push(Blocker::BackoffAfterFailure { nodes });
        }
        JobState::Held => blockers.push(Blocker::Held),
        JobState::Nominated => {
            let left = state.claims.get(&id).map_or(0, |claim| claim.awaits().count());
            blockers.push(Blocker::WaitingForPreempted { leases: count(left) });
        }
        JobState::Pending | JobState::Dependent => {}
    }
    blockers.extend(job.begin.map(|at| Blocker::BeginTime { at }));
    if let Some(on) = job.after.first() {
        blockers.push(Blocker::Dependency { on, jobs: count(job.after.len()) });
    }
    blockers.extend(job.hopeless.map(|on| Blocker::DependencyNeverSatisfied { on }));
    let shape = &state.shapes[job.shape];
    let promised = state.claims.get(&id).is_some_and(|claim| claim.promise.is_some());
    if !promised {
        // Where others make way for it, what it pays is set aside at its price, and counts for the
        // caps and the quota.
        blockers.extend(account_blockers(state, job, shape));
    }
    let survey = survey(state, job);
    blockers.extend(room_blockers(state, job, shape, &survey));
    if blockers.is_empty() || !survey.blocks(shape) {
        let reserved = |id: JobId| state.job(id).reserved;
        blockers.extend(ahead(state, job).map(|id| match reserved(id) {
            true => Blocker::Reservation { job: id },
            false => Blocker::Priority { behind: id },
        }));
    }
    blockers.sort();
    Some(Explanation { blockers })
}

/// Returns a length as a count.
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Returns what its pool's quota and price, its account and its own budget have against a job.
fn account_blockers(state: &State, job: &Job, shape: &Shape) -> Vec<Blocker> {
    let mut out = Vec::new();
    if let Some((dimension, needed, quota)) = charges::over_quota(state, shape) {
        out.push(Blocker::QuotaExceeded { dimension, needed, quota });
    }
    if let Some((dimension, needed, most)) = over_share(state, job, shape, shape.members.into()) {
        out.push(Blocker::ExceedsMaxShare { dimension, needed, most });
    }
    if let Some((held, most)) = over_leases(state, job.account) {
        out.push(Blocker::LeasesExceeded { held, most });
    }
    let (rests, first) = (charges::is_resting(state, job), charges::first_hold(state, job, shape));
    out.extend(rests.then_some(Blocker::BackoffAfterUnpaid { at: job.setback.until }));
    let short = rests && job.setback.short;
    let needed = if short { charges::credit_to_go_on(state, job) } else { first };
    let available = state.ledger.available(job.account);
    if needed > available {
        out.push(Blocker::AtpBudgetExceeded { needed, available });
    }
    if let Some(budget) = job.budget {
        let needed = job.charged.saturating_add(first);
        if needed > budget {
            out.push(Blocker::BudgetCommitted { needed, budget });
        }
    }
    if let Some((dimension, price, limit)) = charges::over_price(state, job, shape) {
        out.push(Blocker::PriceAboveLimit { dimension, price, limit });
    }
    out
}

impl Survey {
    /// Returns whether too few members fit.
    fn blocks(&self, shape: &Shape) -> bool {
        self.fit < u32::from(shape.members)
    }
}

/// Looks at every suitable node.
fn survey(state: &State, job: &Job) -> Survey {
    let (mut survey, shape) = (Survey::default(), &state.shapes[job.shape]);
    let bundle = shape.needs.bundle();
    for id in state.pools[shape.pool].nodes.iter().copied() {
        if !suits(state, shape, id) {
            continue;
        }
        let node = &state.nodes[id];
        survey.suitable += 1;
        // What its own claim keeps away is no reason.
        let own = state.claims.get(&job.id).is_some_and(|claim| claim.is_on(id));
        let bears = if own { bears_what_runs(state, shape, id) } else { bears(state, shape, id) };
        survey.apart += u32::from(!bears);
        if !node.up || node.silent {
            survey.down += 1;
        } else if node.draining.is_some() {
            survey.draining += 1;
        } else if !node.lending.open && !node.leases.is_empty() {
            survey.reclaiming += 1;
        } else if !node.takes_work(state.now) {
            survey.closed += 1;
        } else if !node.fits(&shape.needs, &bundle) {
            survey.note_short(state, shape, id);
        } else {
            let fit = if shape.spread { 1 } else { members_on(node.clone(), shape) };
            if bears {
                survey.note_fit(state, job, id, fit);
            } else {
                survey.apart_fit += fit;
            }
        }
    }
    survey
}

impl Survey {
    /// Counts the members that fit on a node, those apart of which it is too unsure that they stay.
    fn note_fit(&mut self, state: &State, job: &Job, id: NodeId, members: u32) {
        if !is_asked(state) {
            self.fit += members;
            return;
        }
        let wanted = state.rules.scheduling.min_confidence;
        for confidence in of_each(state, id, (&state.shapes[job.shape], job), members) {
            if confidence < wanted {
                self.unsure.push(confidence);
            } else {
                self.fit += 1;
            }
        }
    }

    /// Returns the confidence with which all members would have a place, or the highest of those
    /// that are unsure where there is no room for all.
    fn best(&self, shape: &Shape) -> Option<PerMille> {
        let mut unsure = self.unsure.clone();
        unsure.sort_unstable_by_key(|confidence| core::cmp::Reverse(*confidence));
        let missing = usize::from(shape.members).checked_sub(self.fit as usize + 1)?;
        unsure.get(missing).or(unsure.first()).copied()
    }

    /// Counts the dimensions in which a node falls short, and keeps the nearest node.
    fn note_short(&mut self, state: &State, shape: &Shape, id: NodeId) {
        let (need, free) = (shape.needs.bundle(), state.nodes[id].free());
        let mut short: Vec<(Dimension, u64)> = Dimension::all()
            .filter_map(|d| need.amount(d).checked_sub(free.amount(d)).map(|lack| (d, lack)))
            .filter(|(_, lack)| *lack > 0)
            .collect();
        if short.is_empty() {
            // Enough in sum, but not on enough single devices.
            short.push((Dimension::Gpu, shape.needs.gpus.total().get()));
        }
        for (dimension, _) in &short {
            *self.short.entry(*dimension).or_insert(0) += 1;
        }
        let Some((dimension, lack)) = short.first().copied() else { return };
        let found = (short.len(), lack, id, dimension);
        if self.nearest.is_none_or(|best| found < best) {
            self.nearest = Some(found);
        }
    }
}

/// Returns what the nodes have against a job.
fn room_blockers(state: &State, job: &Job, shape: &Shape, survey: &Survey) -> Vec<Blocker> {
    let mut out = Vec::new();
    if survey.suitable == 0 {
        out.push(Blocker::NoMatchingNode);
        return out;
    }
    if !survey.blocks(shape) {
        return out;
    }
    let states = [
        (survey.draining, Blocker::NodeDraining { nodes: survey.draining }),
        (survey.down, Blocker::NodeUnreachable { nodes: survey.down }),
        (survey.reclaiming, Blocker::WaitingForReclaim { nodes: survey.reclaiming }),
        (survey.apart, Blocker::Affinity { nodes: survey.apart }),
    ];
    out.extend(states.into_iter().filter(|(n, _)| *n > 0).map(|(_, blocker)| blocker));
    let best = survey.best(shape);
    let wanted = state.rules.scheduling.min_confidence;
    out.extend(best.map(|best| Blocker::LowConfidence { best, wanted }));
    let fit = survey.fit + survey.apart_fit + count(survey.unsure.len());
    let needed = u32::from(shape.members);
    if (1..needed).contains(&fit) {
        out.push(Blocker::GangIncomplete { fit, needed });
    }
    if survey.short.is_empty() && survey.closed > 0 {
        out.push(Blocker::NoOffers { nodes: survey.closed });
    }
    if !survey.short.is_empty() {
        let short = survey.short.iter().map(|(d, n)| (*d, *n)).collect();
        let nearest = survey.nearest.map(|(_, lack, node, dimension)| (node, dimension, lack));
        out.push(Blocker::Resources { short, nearest });
    }
    let young = protected(state, job, shape);
    if young > 0 {
        out.push(Blocker::MinRuntimeProtected { leases: young });
    }
    out
}

/// Returns how many leases of a lower class have not run long enough to be victims.
fn protected(state: &State, job: &Job, shape: &Shape) -> u32 {
    let rules = &state.rules.preemption;
    let least = least_class(state, shape.pool);
    let class = charges::standing(state, job).class().min(job.priority.class());
    let recalls = is_within_quota(state, job);
    if !rules.enabled || !(recalls || least.is_some_and(|least| class >= least)) {
        return 0;
    }
    let loans = Loans::of(state, shape.pool);
    let rights = [(true, Right::Class(class)), (recalls, Right::Quota)];
    let young = |lease: &&crate::leases::Lease| {
        let mut rights = rights.iter().filter(|(may, _)| *may);
        lease.ran(state.now) < rules.runtime_min
            && !lease.unpaid
            && rights.any(|(_, right)| right.reaches(state, &loans, lease, job))
    };
    count(state.leases.values().filter(young).count())
}

/// Returns the job that goes before this one, if any.
fn ahead(state: &State, job: &Job) -> Option<JobId> {
    let pool = state.shapes[job.shape].pool;
    let mine = state.line_of(job);
    let backfill = state.rules.scheduling.backfill;
    let starves = usize::from(backfill != Backfill::Strict && state.queue.starves(pool));
    let (strict, reserved) = (backfill == Backfill::Strict, state.reserved.contains_key(&pool));
    if backfill.reservations() + starves > 0 || (reserved && !strict) {
        let first = state.queue.jobs(mine).next().filter(|first| *first < job.id);
        return delayed(state, job, pool, backfill.reservations() + starves).or(first);
    }
    let first = state.queue.jobs(mine).next().filter(|first| *first < job.id);
    // Under `strict` the first that lacks room; who only lacks credit keeps nobody waiting.
    let blocks = |rank: &Rank| {
        let other = state.job(rank.head);
        let shape = &state.shapes[other.shape];
        if charges::over_quota(state, shape).is_some() {
            return survey(state, other).fit == 0;
        }
        !is_refused(state, other, shape) || survey(state, other).blocks(shape)
    };
    let any = || {
        let mut before = state.queue.ranks(pool).take_while(|rank| rank.line != mine);
        before.find(|rank| strict && blocks(rank)).map(|rank| rank.head)
    };
    let kept = || delayed(state, job, pool, 0).filter(|_| reserved);
    first.or_else(any).or_else(kept)
}

/// Returns the first job with a place that this one would delay wherever it fits now, if it would.
fn delayed(state: &State, job: &Job, pool: PoolId, most: usize) -> Option<JobId> {
    let mut shadow = Shadow::of_reservations(state, pool, Some(job.id));
    let most = most + shadow.len();
    let greedy = state.rules.scheduling.backfill == Backfill::Greedy;
    let of_line = |rank: Rank| {
        let jobs = state.queue.jobs(rank.line);
        let usage = state.rank_usage(&rank.line);
        jobs.map(move |job| state.queue.rank_of(rank.line, job, usage))
    };
    let mut order: Vec<Rank> = state.queue.ranks(pool).flat_map(of_line).collect();
    order.sort_unstable();
    for (id, class) in order.into_iter().map(|rank| (rank.head, rank.class())) {
        let other = state.job(id);
        let shape = &state.shapes[other.shape];
        if id == job.id || shadow.len() >= most {
            break;
        }
        if shadow.holds(id) {
            continue;
        }
        let keeps = !greedy || class == STARVING;
        let waits = keeps && !is_refused(state, other, shape);
        let blocked = waits && survey(state, other).blocks(shape);
        if blocked || (waits && held_back(state, &shadow, other).is_some()) {
            shadow.keep_by_search(state, other);
        }
    }
    held_back(state, &shadow, job)
}

/// Returns whose place a job would take wherever it fits now; `None` where it delays nobody.
fn held_back(state: &State, shadow: &Shadow, job: &Job) -> Option<JobId> {
    let shape = &state.shapes[job.shape];
    let fits = |id: &NodeId| {
        let node = &state.nodes[*id];
        suits(state, shape, *id)
            && node.takes_work(state.now)
            && node.fits(&shape.needs, &shape.needs.bundle())
            && bears(state, shape, *id)
            && suffices(state, *id, (shape, job), 1)
    };
    let pool = &state.pools[shape.pool];
    let nodes: Vec<NodeId> = pool.nodes.iter().copied().filter(fits).collect();
    let end = end_of(state, state.now, job.limit);
    if shape.members > 1 {
        // Too few are left for all of it where any is kept from it.
        return nodes.iter().find_map(|node| shadow.in_whose_way(shape, end, &[*node]));
    }
    shadow.in_whose_way(shape, end, &nodes).filter(|_| !nodes.is_empty())
}
