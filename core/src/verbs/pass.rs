//! The scheduling pass: who starts now. Who must make way says [`super::nominate`].
//!
//! A pass walks lines in rank order, but only those of shapes that fit somewhere; a shape that does
//! not fit costs one look. What was blocked before a grant mostly stays blocked after it, so no
//! line is looked at twice unless its rank fell behind; where a grant may let others start, all are
//! asked again.

use super::Work;
use super::grant::Refusal;
use super::nominate::Asked;
use crate::canary::{Canary, planted};
use crate::confidence::{is_asked, next_look};
use crate::config::Backfill;
use crate::ids::{JobId, LeaseId, PoolId, ShapeId};
use crate::jobs::Ahead;
use crate::queue::Rank;
use crate::tags::meet;
use crate::units::Priority;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

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
        let strict = backfill == Backfill::Strict || planted(Canary::ForgetStarving);
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
        if !self.index.doubted.is_empty() {
            self.index.doubted.clear();
        }
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
                && !rank.is_stale(self.state.rank_usage(&rank.line))
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
}
