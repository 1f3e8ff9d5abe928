//! The cap on urgent work: beyond its part of a pool's hour it counts as high, in order, price and
//! preemption (RULES.md section 5). What it counts as is fixed for a term.

use super::Work;
use crate::charges::{is_urgent, may_be_urgent, standing};
use crate::ids::{LeaseId, PoolId};
use crate::queue::LineKey;
use crate::units::{Priority, Span, Time};
use crate::urgent::{Part, next_minute};
use alloc::vec::Vec;

impl Work<'_> {
    /// Lets urgent jobs that wait in a pool count as what they would start with.
    pub(super) fn judge_urgent(&mut self, pool: PoolId) {
        let lines: Vec<LineKey> = self.state.queue.urgent_lines(pool).collect();
        let mut waits = false;
        for line in lines {
            let Some(head) = self.state.queue.jobs(line).next() else { continue };
            let high = !is_urgent(standing(self.state, self.state.job(head)));
            let usage = self.state.rank_usage(line);
            self.state.queue.demote(line, high, usage);
            waits |= high;
        }
        if waits {
            let at = next_minute(self.state.now);
            self.retry_later(pool, at);
        }
    }

    /// Returns what a lease counts as in a next term of some length.
    pub(super) fn next_standing(&self, id: LeaseId, span: Span) -> Priority {
        let lease = self.state.lease(id);
        let declared = self.state.job(lease.job).priority;
        if !is_urgent(declared) {
            return lease.priority;
        }
        let had = lease.urgent_since.map(|since| (since, lease.term_ends));
        let may = may_be_urgent(self.state, lease.shape, span, had);
        if may { declared } else { Priority::HIGH }
    }

    /// Lets a lease count as what its next term was set aside for; that begins at `at`.
    pub(super) fn stand_anew(&mut self, id: LeaseId, at: Time) {
        let lease = self.state.lease_mut(id);
        let (old, new) = (lease.priority, lease.next_priority);
        lease.priority = new;
        lease.urgent_since = lease.urgent_since.or(Some(at)).filter(|_| is_urgent(new));
        let shape = lease.shape;
        if old != new {
            let pool = self.state.shapes[shape].pool;
            self.state.pools[pool].running.leave(old);
            self.state.pools[pool].running.enter(new);
        }
    }

    /// Books what an urgent lease is going to have.
    pub(super) fn book_urgent(&mut self, id: LeaseId, from: Time, to: Time) {
        let lease = self.state.lease(id);
        if is_urgent(lease.priority) && to < Time::MAX {
            let shape = &self.state.shapes[lease.shape];
            let (pool, amounts, now) = (shape.pool, shape.total(), self.state.now);
            self.state.pools[pool].urgent.book(Part { amounts: &amounts, from, to }, now);
            // Who waits may count as less now.
            self.state.changed.stir();
        }
    }

    /// Books the next term of a lease that is urgent in it.
    pub(super) fn book_next_urgent(&mut self, id: LeaseId) {
        if let Some((pool, amounts, from, to)) = self.next_urgent(id) {
            let now = self.state.now;
            self.state.pools[pool].urgent.book(Part { amounts: &amounts, from, to }, now);
            // Who waits may count as less now.
            self.state.changed.stir();
        }
    }

    /// Takes back what was booked for the next term.
    pub(super) fn unbook_next_urgent(&mut self, id: LeaseId) {
        if let Some((pool, amounts, from, to)) = self.next_urgent(id) {
            self.state.pools[pool].urgent.unbook(Part { amounts: &amounts, from, to });
            self.state.changed.stir();
        }
    }

    /// Returns what an urgent next term of a lease has of which pool, from when until when.
    fn next_urgent(&self, id: LeaseId) -> Option<(PoolId, crate::bundle::Bundle, Time, Time)> {
        let lease = self.state.lease(id);
        let span = lease.next_span.filter(|_| is_urgent(lease.next_priority))?;
        let shape = &self.state.shapes[lease.shape];
        Some((shape.pool, shape.total(), lease.term_ends, lease.term_ends.after(span)))
    }

    /// Takes back what was booked for an urgent lease after `until`, its next term included.
    pub(super) fn unbook_urgent(&mut self, id: LeaseId, until: Time) {
        self.unbook_next_urgent(id);
        let lease = self.state.lease(id);
        if is_urgent(lease.priority) && lease.term_ends < Time::MAX {
            let (from, to) = (until.max(lease.term_began), lease.term_ends);
            let shape = &self.state.shapes[lease.shape];
            let (pool, amounts) = (shape.pool, shape.total());
            self.state.pools[pool].urgent.unbook(Part { amounts: &amounts, from, to });
            self.state.changed.stir();
        }
    }
}
