//! The scheduling pass: who starts now, and who must make way.
//!
//! A pass walks lines in rank order, but only those of shapes that fit somewhere; a shape that does
//! not fit costs one look. What was blocked before a grant mostly stays blocked after it, so no
//! line is looked at twice unless its rank fell behind; where a grant may let others start, all are
//! asked again.

use super::Work;
use super::grant::Refusal;
use super::release::begin_release;
use super::waiting::dequeue;
use crate::canary::{Canary, planted};
use crate::caps::is_capped;
use crate::charges::{
    foreign, is_barred, over_quota_without, priced_loss, prices, standing, term, term_cost,
};
use crate::confidence::{is_asked, next_look};
use crate::config::Backfill;
use crate::effect::EvictionReason;
use crate::ids::{AccountId, HoldId, JobId, LeaseId, PoolId, ShapeId};
use crate::jobs::{Ahead, JobState};
use crate::leases::Promise;
use crate::ledger::Hold;
use crate::preempt::{Loans, Plan, Right, is_within_quota, least_class, plan};
use crate::queue::Rank;
use crate::tags::meet;
use crate::units::{MicroAtp, MilliCores, Priority, Span, Time};
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

/// How many plans one pass may try without success.
const PLANS_MAX: usize = 4;
/// When the next are asked, if nothing happens before.
const NEXT_PLANS: Span = Span::seconds(1);
/// The window of `preemption.max_per_hour`.
const HOUR: Span = Span::minutes(60);

/// How far a look for a job worth preempting for came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Every first job was asked: none can have a place.
    All,
    /// Enough plans have failed for one pass.
    Some,
    /// Others make way for one of them.
    Nominated,
}

/// What came of a look for those that could make way for one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nomination {
    /// They are told to.
    Done,
    /// There are none.
    Nowhere,
    /// There are, but its account or its pool has no right to that, or no credit.
    Forbidden,
    /// Nobody looked: the job could not pay.
    Refused,
}

impl Work<'_> {
    /// Runs a pass over every pool in which something waits, unless nothing has changed that one
    /// could act on: no node, line or retry has moved since the last, no credit if that was what
    /// was missing, and who has begun to wait can only wait, or is the only one who may start and
    /// is asked alone.
    pub fn pass(&mut self) {
        if self.is_settled() && self.asks_entered() {
            return;
        }
        self.state.changed.refused_at = None;
        self.state.changed.stands = None;
        // What an account uses in one pool may put another line first in a pool before.
        let by_use = self.state.rules.scheduling.order.follows_use();
        let again = by_use && self.state.pools.len() > 1;
        let mut started = self.state.next.lease;
        let mut done = self.pass_pools();
        while again && self.state.next.lease != started {
            started = self.state.next.lease;
            done = self.pass_pools();
        }
        self.index.read_changes(self.state);
        // Under `random` the next draw may name a place that the account can pay for.
        let redraw = self.index.scorer().is_random() && self.state.changed.refused_at.is_some();
        // Confidence changes without anybody saying so: who waits is asked with every entry.
        let asks = is_asked(self.state);
        let asks = asks && self.state.pools.ids().any(|pool| self.state.is_waiting(pool));
        self.state.changed.settle(done && !redraw && !asks);
    }

    /// Returns whether nothing has changed since the last pass that one could act on, but for jobs
    /// that have begun to wait.
    pub(super) fn is_settled(&self) -> bool {
        let credit_moved =
            self.state.changed.refused_at.is_some_and(|at| at != self.state.ledger.moves());
        !self.state.changed.is_stirred() && !credit_moved
    }

    /// Returns how many keep a place in a pool. One that starves keeps one of its own, beside the
    /// first that does not fit.
    pub(super) fn reservations(&self, pool: PoolId) -> usize {
        let backfill = self.state.rules.scheduling.backfill;
        let strict = backfill == Backfill::Strict;
        backfill.reservations() + usize::from(!strict && self.state.queue.starves(pool))
    }

    /// Notes that another pass may decide otherwise once credit has moved, from the first such case
    /// on: what moves later in this pass may have decided it.
    pub(super) fn note_refusal(&mut self) {
        self.state.changed.refused_at.get_or_insert(self.state.ledger.moves());
    }

    /// Passes every pool once; returns whether all was asked that could start.
    fn pass_pools(&mut self) -> bool {
        let mut done = true;
        for pool in self.state.pools.ids() {
            let waits = self.state.is_waiting(pool);
            if !waits {
                // Whoever kept a place there is gone.
                self.state.pools[pool].first_kept = None;
            }
            let mut more = waits;
            while more {
                self.pass_pool(pool);
                let asked = self.preempt(pool);
                // A job that others make way for leaves the queue: the next one's turn has come.
                more = asked == Asked::Nominated;
                done &= asked != Asked::Some;
            }
            if waits && is_asked(self.state) {
                self.look_again(pool);
            }
        }
        done
    }

    /// Sets when a pool is passed again in which somebody waits for confidence, or for a promised
    /// place.
    fn look_again(&mut self, pool: PoolId) {
        let doubted = !core::mem::take(&mut self.index.doubted).is_empty();
        let late = |(_, ahead): (JobId, &Ahead)| ahead.begin <= self.state.now;
        if doubted || self.state.reserved(pool).any(late) {
            self.retry_later(pool, next_look(self.state));
        }
    }

    /// Starts what can start in one pool: again where a start has put somebody before those that
    /// were asked already, moved a place that is kept, or made somebody pay less, or where those
    /// may have started who a cap kept somebody waiting for.
    pub fn pass_pool(&mut self, pool: PoolId) {
        loop {
            let started = self.state.next.lease;
            self.index.capped = false;
            let again = self.pass_once(pool);
            let capped = self.index.capped && self.state.next.lease != started;
            if !again && !capped {
                return;
            }
        }
    }

    /// Asks who waits in one pool once; returns whether somebody must be asked again.
    fn pass_once(&mut self, pool: PoolId) -> bool {
        self.index.read_changes(self.state);
        self.index.doubted.clear();
        self.judge_urgent(pool);
        self.state.pools[pool].first_kept = None;
        let strict = self.state.rules.scheduling.backfill == Backfill::Strict;
        let reservations = self.reservations(pool);
        if reservations > 0 || self.state.reserved.contains_key(&pool) {
            return self.pass_with_reservations(pool, reservations);
        }
        let shapes: Vec<ShapeId> = self.state.queue.shapes(pool).collect();
        let mut fronts: BTreeSet<Rank> = BTreeSet::new();
        for shape in shapes {
            // Under `strict` the order comes first, so even a shape that fits nowhere takes part.
            if strict || self.index.refresh(self.state, shape) > 0 {
                fronts.extend(self.state.queue.next(pool, shape, None));
            }
        }
        let low = planted(Canary::LowClassFirst);
        let next = |fronts: &mut BTreeSet<Rank>| {
            if low { fronts.pop_last() } else { fronts.pop_first() }
        };
        let mut again = false;
        while let Some(rank) = next(&mut fronts) {
            let shape = rank.line.shape;
            let current = self.state.queue.jobs(rank.line).next() == Some(rank.head)
                && !rank.is_stale(self.state.rank_usage(rank.line))
                && !self.state.queue.is_demoted(&rank);
            if !current {
                fronts.extend(self.state.queue.next(pool, shape, Some(rank)));
                continue;
            }
            let fits = self.index.refresh(self.state, shape) > 0;
            let anywhere = BTreeSet::new();
            let outcome =
                if fits { self.try_grant(rank.head, &anywhere) } else { Err(Refusal::Room) };
            match outcome {
                Ok(lease) if self.lets_others_start(lease) => return true,
                Ok(_) => {
                    if rank.class() == Priority::URGENT.class() {
                        // Who could not pay as urgent may as high.
                        again |= self.judge_urgent(pool);
                    }
                    again |= self.state.queue.is_before(rank);
                    self.index.read_changes(self.state);
                    fronts.extend(self.state.queue.next(pool, shape, Some(rank)));
                }
                Err(Refusal::Room | Refusal::Doubt) if strict => return again,
                Err(Refusal::Room) => {}
                // Others of its shape may have shorter limits.
                Err(Refusal::Doubt) => {
                    fronts.extend(self.state.queue.next(pool, shape, Some(rank)))
                }
                Err(Refusal::Account) => {
                    self.note_refusal();
                    fronts.extend(self.state.queue.next(pool, shape, Some(rank)));
                }
            }
        }
        again
    }

    /// Returns whether a lease that has just been granted is what somebody who waits must be near:
    /// then all must be asked again, as nothing else that starts makes a place for others.
    pub fn lets_others_start(&self, lease: LeaseId) -> bool {
        let lease = self.state.lease(lease);
        let shape = &self.state.shapes[lease.shape];
        let fresh = |tag: &String| {
            // Where one such runs already, others could start before.
            let members = lease.members.iter();
            let mut counts = members.map(|m| self.state.nodes[m.node].tags.count(tag));
            counts.any(|count| count <= u64::from(shape.members))
        };
        let wants = |id: ShapeId| meet(&self.state.shapes[id].affinity, &shape.tags);
        shape.tags.iter().any(fresh) && self.state.queue.shapes(shape.pool).any(wants)
    }

    /// Lets the first waiting job of a higher class take the place of lower ones, or one within its
    /// account's quota that of loans, if that makes room for all of it.
    fn preempt(&mut self, pool: PoolId) -> Asked {
        if !self.state.rules.preemption.enabled {
            return Asked::All;
        }
        let Some(least) = least_class(self.state, pool) else { return Asked::All };
        let (now, interval) = (self.state.now, self.state.rules.balance.monitoring_interval);
        let shapes: Vec<ShapeId> = self.state.queue.shapes(pool).collect();
        // Age gives a place in the queue, but takes nobody's.
        let higher = |work: &Self, rank: &Rank| work.is_higher(rank, least);
        let mut heads: BTreeSet<Rank> = BTreeSet::new();
        for shape in shapes {
            heads.extend(self.state.queue.ranks_of(pool, shape).find(|rank| higher(self, rank)));
            if self.state.ledger.guarantees {
                let mut ranks = self.state.queue.ranks_of(pool, shape);
                heads.extend(ranks.find(|rank| self.may_recall(rank.head)));
            }
        }
        let strict = self.state.rules.scheduling.backfill == Backfill::Strict;
        let (mut failed, mut loans) = (0, None);
        while let Some(rank) = heads.pop_first() {
            let again = self.state.job(rank.head).preempt_after;
            let found = if again > now {
                self.retry_later(pool, again);
                let job = self.state.job(rank.head);
                if is_barred(self.state, job, &self.state.shapes[job.shape]) {
                    Nomination::Refused
                } else {
                    Nomination::Nowhere
                }
            } else if failed >= PLANS_MAX {
                self.retry_later(pool, now.after(NEXT_PLANS));
                return Asked::Some;
            } else {
                let loans = loans.get_or_insert_with(|| Loans::of(self.state, pool));
                let found = self.nominate(rank.head, higher(self, &rank), loans);
                if found == Nomination::Done {
                    return Asked::Nominated;
                }
                failed += usize::from(found != Nomination::Refused);
                // No sooner than all others have had their turn.
                let turns = heads.len() / PLANS_MAX + 1;
                let turns = u64::try_from(turns).unwrap_or(u64::MAX);
                let turns = Span::new(NEXT_PLANS.get().saturating_mul(turns));
                let again = now.after(interval.max(turns));
                self.state.job_mut(rank.head).preempt_after = again;
                self.retry_later(pool, again);
                found
            };
            if strict {
                break;
            }
            if found != Nomination::Nowhere || self.state.ledger.guarantees {
                heads.extend(self.next_higher(pool, rank, least));
            }
        }
        Asked::All
    }

    /// Returns the next line of a shape for whose first job others may make way: what keeps the
    /// first from that may be its account.
    fn next_higher(&self, pool: PoolId, rank: Rank, least: u8) -> Option<Rank> {
        let next = |rank: &Rank| self.state.queue.next(pool, rank.line.shape, Some(*rank));
        let mut ranks = core::iter::successors(next(&rank), next);
        ranks.find(|next| self.is_higher(next, least) || self.may_recall(next.head))
    }

    /// Returns whether the first job of a line is of at least a class, as it would start now.
    fn is_higher(&self, rank: &Rank, least: u8) -> bool {
        let class = || standing(self.state, self.state.job(rank.head)).class();
        rank.line.priority.class() >= least && class() >= least
    }

    /// Makes a plan for one job and carries it out, if there is one.
    fn nominate(&mut self, id: JobId, higher: bool, loans: &Loans) -> Nomination {
        let job = self.state.job(id);
        let (account, shape_id) = (job.account, job.shape);
        if is_barred(self.state, job, &self.state.shapes[shape_id]) {
            return Nomination::Refused;
        }
        let mut found = Nomination::Nowhere;
        self.index.refresh(self.state, shape_id);
        let class = standing(self.state, self.state.job(id)).class();
        let rights = [(higher, Right::Class(class)), (self.may_recall(id), Right::Quota)];
        for (_, right) in rights.into_iter().filter(|(may, _)| *may) {
            let Some(plan) = plan(self.state, self.index, id, (right, loans)) else { continue };
            found = Nomination::Forbidden;
            let (job, shape) = (self.state.job(id), &self.state.shapes[shape_id]);
            if over_quota_without(self.state, shape, &plan.victims).is_some() {
                continue;
            }
            if is_capped(self.state, job, shape, foreign(self.state, account, &plan.members)) {
                continue;
            }
            let by_class = matches!(right, Right::Class(_));
            if by_class && !self.may_preempt(account, plan.victims.len()) {
                continue;
            }
            let Some((promise, covers)) = self.hold_covers(id, &plan) else { continue };
            self.carry_out(id, plan, (promise, covers), right.reason());
            return Nomination::Done;
        }
        found
    }

    /// Returns whether a job may recall what is on loan to other accounts.
    fn may_recall(&self, id: JobId) -> bool {
        self.state.ledger.guarantees && is_within_quota(self.state, self.state.job(id))
    }

    /// Returns whether an account may preempt this many leases within the hour.
    fn may_preempt(&mut self, account: AccountId, victims: usize) -> bool {
        let Some(most) = self.state.rules.preemption.per_hour_max else { return true };
        let since = self.state.now.before(HOUR);
        let Some(times) = self.state.preempted.get_mut(&account) else {
            return victims <= most as usize;
        };
        while times.front().is_some_and(|t| *t < since) {
            times.pop_front();
        }
        times.len() + victims <= most as usize
    }

    /// Sets aside what a job's account must pay for its first term, and for the work its victims
    /// lose; `None` when it cannot afford that.
    fn hold_covers(&mut self, id: JobId, plan: &Plan) -> Option<(Promise, Vec<Option<HoldId>>)> {
        let job = self.state.job(id);
        let (account, standing) = (job.account, standing(self.state, job));
        let prices = *prices(self.state, &self.state.shapes[job.shape]);
        let members = (plan.members.as_slice(), MilliCores::ZERO, standing.band());
        let first = (term(self.state, job.limit), &prices);
        let own = term_cost(self.state, job, members, first);
        let leave = self.state.now.after(self.state.rules.preemption.grace);
        let kill = leave.after(self.state.rules.offering.kill);
        let losses: Vec<MicroAtp> = plan
            .victims
            .iter()
            .map(|id| self.state.lease(*id))
            .map(|lease| {
                let at = |t: Time| priced_loss(self.state, lease, t);
                at(kill).max(at(self.state.now)).max(self.worst_loss(lease, kill))
            })
            .collect();
        let total = losses.iter().fold(own, |sum, loss| sum.saturating_add(*loss));
        if self.state.ledger.available(account) < total {
            return None;
        }
        // Nothing below can be refused.
        let now = self.state.now;
        let mut set_aside = |amount: MicroAtp, lease| {
            let hold = Hold { account, amount, lease };
            let held = || self.state.ledger.hold(hold, now, self.effects).ok();
            (!amount.is_zero()).then(held).flatten()
        };
        let promise = Promise { hold: set_aside(own, None), prices, standing };
        let losses = plan.victims.iter().zip(losses);
        let covers = losses.map(|(lease, amount)| set_aside(amount, Some(*lease))).collect();
        Some((promise, covers))
    }

    /// Returns the priced loss if the victim is stopped just before its next checkpoint.
    fn worst_loss(&self, lease: &crate::leases::Lease, kill: Time) -> MicroAtp {
        let checkpoint = self.state.job(lease.job).checkpoint.unwrap_or(Span::ZERO);
        let step = checkpoint.get();
        if step == 0 {
            return MicroAtp::ZERO;
        }
        let ran = lease.ran(kill).get();
        let just_before = (ran / step * step).saturating_sub(1);
        priced_loss(self.state, lease, lease.granted.after(Span::new(just_before)))
    }

    /// Claims the capacity and tells the victims to leave.
    fn carry_out(
        &mut self,
        id: JobId,
        plan: Plan,
        (promise, covers): (Promise, Vec<Option<HoldId>>),
        reason: EvictionReason,
    ) {
        let now = self.state.now;
        let job = self.state.job(id);
        let (account, needs) = (job.account, self.state.shapes[job.shape].needs);
        dequeue(self.state, id);
        self.state.job_mut(id).state = JobState::Nominated;
        // Its claim keeps its place from now on.
        self.state.release_place(id);
        let mut victims: BTreeSet<LeaseId> = plan.victims.iter().copied().collect();
        if planted(Canary::EvictWithoutPlan) {
            victims.pop_last();
        }
        self.keep_claim(id, needs, (plan.members, Some(promise)), victims);
        let grace = self.state.rules.preemption.grace;
        for (victim, cover) in plan.victims.into_iter().zip(covers) {
            self.state.lease_mut(victim).cover = cover;
            begin_release(self, victim, reason, grace);
            let counts = reason == EvictionReason::PriorityPreemption;
            if counts && self.state.rules.preemption.per_hour_max.is_some() {
                self.state.preempted.entry(account).or_default().push_back(now);
            }
        }
    }
}
