//! Who makes way: for which waiting job others are told to leave, and what that costs its account.
//! Which leases those are says [`crate::preempt`].

use super::Work;
use super::release::begin_release;
use super::waiting::dequeue;
use crate::canary::{Canary, planted};
use crate::caps::{is_capped, is_refused};
use crate::charges::{
    foreign, is_barred, is_urgent, over_quota_without, priced_loss, prices, standing, term,
    term_cost,
};
use crate::config::Backfill;
use crate::effect::EvictionReason;
use crate::ids::{AccountId, HoldId, JobId, LeaseId, PoolId, ShapeId};
use crate::jobs::{JobState, Vain};
use crate::leases::{Lease, Promise};
use crate::ledger::Hold;
use crate::preempt::{Loans, Need, Plan, Right, is_within_quota, least_class, plan};
use crate::queue::Rank;
use crate::shadow::Shadow;
use crate::units::{MicroAtp, MilliCores, Priority, Span, Time};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::cell::Cell;

/// How many plans one pass may try without success.
const PLANS_MAX: usize = 4;
/// So many lines behind one for which nobody makes way are looked at for those that end sooner, and
/// those of accounts whose own nodes may do.
const LINES_MAX: usize = 64;
/// When the next are asked, if nothing happens before.
const NEXT_PLANS: Span = Span::seconds(1);
/// The window of `preemption.max_per_hour`.
const HOUR: Span = Span::minutes(60);

/// How far a look for a job worth preempting for came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
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
    /// They are not.
    InVain(Vain),
    /// Nobody looked: the job could not pay.
    Refused,
}

impl Work<'_> {
    /// Lets the first waiting job of a higher class take the place of lower ones, or one within its
    /// account's quota that of loans, if that makes room for all of it.
    pub(super) fn preempt(&mut self, pool: PoolId) -> Asked {
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
            let mut ranks =
                self.state.queue.ranks_of(pool, shape).take_while(|rank| rank.class() >= least);
            heads.extend(ranks.find(|rank| higher(self, rank)));
            if self.state.ledger.guarantees {
                let mut ranks = self.state.queue.ranks_of(pool, shape);
                heads.extend(ranks.find(|rank| self.may_recall(rank.head)));
            }
        }
        let strict = self.state.rules.scheduling.backfill == Backfill::Strict;
        let (mut failed, mut rest, mut loans, mut at_home) = (0, 0, None, BTreeSet::new());
        while let Some(rank) = heads.pop_first() {
            let again = self.state.job(rank.head).preempt_after;
            let home = at_home.contains(&rank);
            let found = if again > now {
                self.retry_later(pool, again);
                rest += 1;
                let job = self.state.job(rank.head);
                if is_barred(self.state, job, &self.state.shapes[job.shape]) {
                    Nomination::Refused
                } else {
                    Nomination::InVain(job.in_vain)
                }
            } else if failed >= PLANS_MAX {
                self.retry_later(pool, now.after(NEXT_PLANS));
                let known = self.state.pools[pool].in_vain;
                self.state.pools[pool].in_vain = known.max(rest + failed as u64);
                return Asked::Some;
            } else {
                let loans = loans.get_or_insert_with(|| Loans::of(self.state, pool));
                let found = self.nominate(&rank, (higher(self, &rank), home), loans);
                if found == Nomination::Done {
                    return Asked::Nominated;
                }
                failed += usize::from(found != Nomination::Refused);
                // No sooner than all others have had their turn, and some that nobody knows yet.
                let others = (rest + heads.len() as u64).max(2 * self.state.pools[pool].in_vain);
                let turns = others / PLANS_MAX as u64 + 1;
                let turns = Span::new(NEXT_PLANS.get().saturating_mul(turns));
                let again = now.after(interval.max(turns));
                let job = self.state.job_mut(rank.head);
                job.preempt_after = again;
                job.in_vain = match found {
                    Nomination::InVain(why) => why,
                    Nomination::Refused | Nomination::Done => Vain::Account,
                };
                self.retry_later(pool, again);
                found
            };
            if strict {
                break;
            }
            if !home {
                let why = match found {
                    Nomination::InVain(why) if !self.state.ledger.guarantees => why,
                    Nomination::InVain(_) | Nomination::Refused | Nomination::Done => Vain::Account,
                };
                self.line_up_behind((pool, rank), (least, why), &mut heads, &mut at_home);
            }
        }
        self.state.pools[pool].in_vain = rest + failed as u64;
        Asked::All
    }

    /// Adds who is asked because one line was in vain: the next, if that was for its account; else
    /// the next of a higher class, the next that ends sooner, where that matters, and those of
    /// accounts that own nodes, for which others may make way there.
    fn line_up_behind(
        &self,
        (pool, rank): (PoolId, Rank),
        (least, why): (u8, Vain),
        heads: &mut BTreeSet<Rank>,
        at_home: &mut BTreeSet<Rank>,
    ) {
        let (state, line) = (&*self.state, &rank.line);
        // Nobody counts as more than its rank says.
        let reaches = |next: &Rank| state.ledger.guarantees || next.class() >= least;
        let behind = || state.queue.ranks_behind(pool, line.shape, rank).take_while(reaches);
        let may = |next: &Rank| self.is_higher(next, least) || self.may_recall(next.head);
        let above;
        let mut sooner = None;
        if why == Vain::Account {
            above = behind().find(may);
        } else {
            // None of a higher class is behind those that go by no more than this.
            let class = line.priority.class();
            let mut ahead = behind().take_while(|next| next.class() > class);
            above = ahead.find(|next| next.line.priority.class() > class && may(next));
            let ends = |rank: &Rank| state.job(rank.head).limit.unwrap_or(Span::MAX);
            for next in behind().filter(may).take(LINES_MAX) {
                if sooner.is_none() && why == Vain::Stay && ends(&next) < ends(&rank) {
                    sooner = Some(next);
                } else if next.line.account != line.account
                    && self.owns(next.line.account)
                    && heads.insert(next)
                {
                    at_home.insert(next);
                }
            }
        }
        for next in above.into_iter().chain(sooner) {
            at_home.remove(&next);
            heads.insert(next);
        }
    }

    /// Returns whether an account owns nodes.
    fn owns(&self, account: AccountId) -> bool {
        !self.index.owned(account).is_empty()
    }

    /// Returns whether others may have to make way for somebody who waits in a pool.
    pub(super) fn may_preempt_in(&self, pool: PoolId) -> bool {
        if !self.state.rules.preemption.enabled {
            return false;
        }
        let highest = [Priority::LOW, Priority::MEDIUM, Priority::HIGH, Priority::URGENT];
        let waiting = highest.into_iter().zip(self.state.queue.waiting(pool));
        let highest = waiting.filter(|(_, n)| *n > 0).map(|(band, _)| band.class()).next_back();
        let least = least_class(self.state, pool);
        self.state.ledger.guarantees || least.is_some_and(|least| highest >= Some(least))
    }

    /// Returns whether the first job of a line is of at least a class, as it would start now.
    fn is_higher(&self, rank: &Rank, least: u8) -> bool {
        // Only what is urgent may start as less than it is.
        let class = || standing(self.state, self.state.job(rank.head)).class();
        let declared = rank.line.priority;
        declared.class() >= least && (!is_urgent(declared) || class() >= least)
    }

    /// Makes a plan for the first job of a line and carries it out, if there is one: anywhere, or
    /// only at `home`, on the nodes of its account, which cost that nothing.
    fn nominate(&mut self, rank: &Rank, (higher, home): (bool, bool), loans: &Loans) -> Nomination {
        let id = rank.head;
        let job = self.state.job(id);
        let (account, shape) = (job.account, &self.state.shapes[job.shape]);
        let (barred, owns) = (is_barred(self.state, job, shape), self.owns(account));
        if barred && !owns {
            return Nomination::Refused;
        }
        self.index.refresh(self.state, job.shape);
        let first = self.is_first(rank);
        // What it is paid for takes nobody's place: it takes those that what it is itself may.
        let class = standing(self.state, job).class().min(job.priority.class());
        let rights = [(higher, Right::Class(class)), (self.may_recall(id), Right::Quota)];
        let stays = Cell::new(false);
        let mut found = None;
        let (promised, kept) = self.kept_before(rank);
        for (_, right) in rights.into_iter().filter(|(may, _)| *may) {
            // What is on loan is recalled whoever waits for it.
            let by_class = matches!(right, Right::Class(_));
            let shadows = (if by_class { &kept } else { &promised }, &kept);
            for only in [None, Some(account)] {
                if (only.is_none() && (home || barred)) || (only.is_some() && !owns) {
                    continue;
                }
                match self.try_plan(id, (right, loans), (shadows, only, first), &stays) {
                    Some(Nomination::Done) => return Nomination::Done,
                    tried => found = tried.or(found),
                }
            }
        }
        let why = if stays.get() { Vain::Stay } else { Vain::Nobody };
        found.unwrap_or(if barred { Nomination::Refused } else { Nomination::InVain(why) })
    }

    /// Returns whether nobody waits for room before the first job of a line.
    fn is_first(&self, rank: &Rank) -> bool {
        let state = &*self.state;
        let before = state.queue.ranks(state.shapes[rank.line.shape].pool);
        let waits = |other: Rank| {
            let job = state.job(other.head);
            !is_refused(state, job, &state.shapes[job.shape])
        };
        before.take_while(|other| other < rank).all(|other| !waits(other))
    }

    /// Returns the places that are promised, and all that are kept, before the first job of a line
    /// has its turn.
    fn kept_before(&self, rank: &Rank) -> (Shadow, Shadow) {
        let (id, state) = (rank.head, &*self.state);
        let pool = state.shapes[rank.line.shape].pool;
        let promised = Shadow::of_reservations(state, pool, Some(id));
        if state.pools[pool].first_kept.is_none_or(|first| first >= *rank) {
            return (promised.clone(), promised);
        }
        let before = |other: JobId| {
            let line = state.line_of(state.job(other));
            other != id && state.queue.rank_of(line, other, state.rank_usage(&line)) < *rank
        };
        let kept = self.index.shadow.as_ref();
        let kept = kept.map(|shadow| shadow.before(state, pool, (id, &before)));
        (promised, kept.unwrap_or_default())
    }

    /// Makes a plan by one right and carries it out, if it may be; `None` where there is none.
    fn try_plan(
        &mut self,
        id: JobId,
        (right, loans): (Right, &Loans),
        ((kept, taken), only, first): ((&Shadow, &Shadow), Option<AccountId>, bool),
        stays: &Cell<bool>,
    ) -> Option<Nomination> {
        let job = self.state.job(id);
        let need = Need { job, right, loans, kept, taken, only, first, stays };
        let plan = plan(self.state, self.index, need)?;
        let (account, shape) = (job.account, &self.state.shapes[job.shape]);
        let foreign = foreign(self.state, account, &plan.members);
        let barred = foreign > 0 && is_barred(self.state, job, shape);
        let by_class = matches!(right, Right::Class(_));
        let gone: Vec<LeaseId> = plan.victims.iter().chain(&plan.leaving).copied().collect();
        if barred
            || over_quota_without(self.state, shape, &gone).is_some()
            || is_capped(self.state, job, shape, foreign)
            || (by_class && !self.may_preempt(account, plan.victims.len()))
        {
            return Some(Nomination::InVain(Vain::Account));
        }
        let Some((promise, covers)) = self.hold_covers(id, &plan) else {
            return Some(Nomination::InVain(Vain::Account));
        };
        self.carry_out(id, plan, (promise, covers), right.reason());
        Some(Nomination::Done)
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
    fn worst_loss(&self, lease: &Lease, kill: Time) -> MicroAtp {
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
        let leaving = plan.leaving.into_iter().collect();
        self.keep_claim(id, needs, (plan.members, Some(promise)), (victims, leaving));
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
