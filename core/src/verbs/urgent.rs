//! The cap on urgent work: beyond its part of a pool's hour it counts as high, in order, price and
//! preemption (RULES.md section 5). What it counts as is fixed for a term.

use super::Work;
use crate::charges::{is_urgent, may_be_urgent, standing, term};
use crate::ids::{LeaseId, PoolId, ShapeId};
use crate::queue::LineKey;
use crate::units::{Priority, Span, Time};
use crate::urgent::{Part, next_minute};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

impl Work<'_> {
    /// Lets urgent jobs that wait in a pool count as what they would start with; returns whether
    /// any has come to count as less.
    pub(super) fn judge_urgent(&mut self, pool: PoolId) -> bool {
        let [.., urgent] = self.state.queue.waiting(pool);
        if urgent == 0 {
            return false;
        }
        let lines: Vec<LineKey> = self.state.queue.urgent_lines(pool).collect();
        let mut fewer = false;
        // Jobs of one shape and term count alike.
        let mut known: BTreeMap<(ShapeId, Span), bool> = BTreeMap::new();
        for line in lines {
            let Some(head) = self.state.queue.jobs(line).next() else { continue };
            let job = self.state.job(head);
            let key = (job.shape, term(self.state, job.limit));
            let high = known.get(&key).copied();
            let high = high.unwrap_or_else(|| !is_urgent(standing(self.state, job)));
            known.insert(key, high);
            let usage = self.state.rank_usage(&line);
            fewer |= self.state.queue.demote(line, high, usage) && high;
        }
        if known.values().any(|high| *high) {
            let at = next_minute(self.state.now);
            self.retry_later(pool, at);
        }
        fewer
    }

    /// Returns what a lease counts as in a next term of some length.
    pub(super) fn next_standing(&self, id: LeaseId, span: Span) -> Priority {
        let lease = self.state.lease(id);
        let job = self.state.job(lease.job);
        let declared = job.priority;
        if !is_urgent(declared) {
            // What was unpaid counts as itself again.
            return if lease.unpaid { standing(self.state, job) } else { lease.priority };
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

    /// Books a part of its pool's time for an urgent lease, where leases run in terms.
    fn book_urgent_part(&mut self, id: LeaseId, from: Time, to: Time) {
        if !self.state.runs_in_terms() {
            return;
        }
        let now = self.state.now;
        let lease = self.state.lease_mut(id);
        let before = lease.urgent_booked.filter(|(_, end)| *end == from);
        lease.urgent_booked = Some((before.map_or(from, |(begin, _)| begin), to));
        let shape = &self.state.shapes[self.state.lease(id).shape];
        let (pool, amounts) = (shape.pool, shape.total());
        self.state.pools[pool].urgent.book(Part { amounts: &amounts, from, to }, now);
        // Who waits may count as less now.
        self.state.changed.stir();
    }

    /// Books what an urgent lease is going to have in its first term.
    pub(super) fn book_urgent(&mut self, id: LeaseId, from: Time, to: Time) {
        if is_urgent(self.state.lease(id).priority) {
            self.book_urgent_part(id, from, to);
        }
    }

    /// Books the next term of a lease that is urgent in it.
    pub(super) fn book_next_urgent(&mut self, id: LeaseId) {
        let lease = self.state.lease(id);
        let (from, urgent) = (lease.term_ends, is_urgent(lease.next_priority));
        if let Some(span) = lease.next_span.filter(|_| urgent) {
            self.book_urgent_part(id, from, from.after(span));
        }
    }

    /// Takes back what was booked for a lease after a time.
    pub(super) fn unbook_urgent(&mut self, id: LeaseId, until: Time) {
        let lease = self.state.lease(id);
        let Some((begin, to)) = lease.urgent_booked.filter(|(_, end)| *end > until) else { return };
        let from = until.max(begin);
        let shape = &self.state.shapes[lease.shape];
        let (pool, amounts) = (shape.pool, shape.total());
        self.state.pools[pool].urgent.unbook(Part { amounts: &amounts, from, to });
        self.state.lease_mut(id).urgent_booked = (from > begin).then_some((begin, from));
        self.state.changed.stir();
    }
}
