//! Who begins to wait, or would: whether it can only wait, may start alone, or needs a pass over
//! all that waits.
//!
//! Where nothing else has changed since the last pass, nobody else can start: whoever could would
//! have started then.

use super::Work;
use super::grant::Refusal;
use crate::confidence::is_asked;
use crate::ids::{JobId, PoolId};
use crate::jobs::JobState;
use crate::preempt::least_class;
use crate::queue::Rank;
use crate::units::{Priority, Span};

/// What a job means to a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entered {
    /// Nothing: it fits nowhere, takes nobody's place, and whoever keeps a place keeps it.
    Waits,
    /// It fits, and its start moves nobody else: nobody else waits, or the only one that keeps a
    /// place stands before it.
    MayStart(Option<JobId>),
    /// It may change what becomes of others.
    Matters,
}

impl Work<'_> {
    /// Starts a job that has just been submitted, if it is the only one who may start: then it
    /// never waits. Returns whether a pass would do no more because of it, should it wait.
    pub(super) fn starts_at_once(&mut self, id: JobId) -> bool {
        let job = self.state.job(id);
        let plain = !job.depends() && !job.reserved && self.state.released == 0;
        let class = job.class_after(Span::ZERO, &self.state.rules.scheduling);
        let first = plain && class == job.priority.class() && !self.state.changed.has_entered();
        first
            && self.is_settled()
            && match self.judge_entered(id) {
                Entered::Waits => true,
                Entered::MayStart(kept) => self.ask_alone(id, kept),
                Entered::Matters => false,
            }
    }

    /// Asks the one that has begun to wait since the last pass and may start, if there is one;
    /// returns whether a pass would do no more.
    pub(super) fn asks_entered(&mut self) -> bool {
        let mut may_start = None;
        while let Some(id) = self.state.changed.pop_entered() {
            match self.judge_entered(id) {
                Entered::Waits => {}
                Entered::MayStart(kept) if may_start.is_none() => may_start = Some((id, kept)),
                Entered::MayStart(_) | Entered::Matters => return false,
            }
        }
        may_start.is_none_or(|(id, kept)| self.ask_alone(id, kept))
    }

    /// Asks a job that may start, beside the place of the one that keeps one; returns whether a
    /// pass would do no more.
    fn ask_alone(&mut self, id: JobId, kept: Option<JobId>) -> bool {
        let mut shadow = self.index.shadow.take().unwrap_or_default();
        if kept.is_none_or(|kept| !shadow.holds(kept)) {
            shadow.clear();
            if let Some(job) = kept.and_then(|kept| self.state.jobs.get(&kept)) {
                let soonest = self.index.soonest(self.state, job.shape);
                shadow.keep(self.state, job, soonest);
            }
        }
        let granted = self.ask_under(id, &mut shadow);
        self.index.shadow = Some(shadow);
        match granted {
            Ok(lease) if self.lets_others_start(lease) => false,
            Ok(_) => {
                self.state.changed.settle(true);
                true
            }
            // It would take the place of the one that keeps it.
            Err(Refusal::Room) => kept.is_some(),
            Err(Refusal::Account | Refusal::Doubt) => false,
        }
    }

    /// Returns what a job means to a pass that has begun to wait since the last, or would.
    fn judge_entered(&mut self, id: JobId) -> Entered {
        let Some(job) = self.state.jobs.get(&id) else { return Entered::Waits };
        let (shape, class, line) = (job.shape, job.priority.class(), self.state.line_of(job));
        let (pool, itself) = (self.state.shapes[shape].pool, u64::from(job.waits_since.is_some()));
        // Before others of its line it takes the rank that one of them had by its age.
        let (queue, rules) = (&self.state.queue, &self.state.rules);
        let (first, waiting) = queue.first(line);
        let alone = waiting == itself;
        // Who waits says whom the cap on a part of a pool keeps waiting.
        if (!alone && first.is_none_or(|first| first >= id)) || rules.caps_shares() {
            return Entered::Matters;
        }
        let preempts = self.state.rules.preemption.enabled
            && (self.state.ledger.guarantees
                || least_class(self.state, pool).is_some_and(|least| class >= least));
        let urgent = class == Priority::URGENT.class();
        let promised = self.state.reserved.contains_key(&pool);
        if job.state != JobState::Pending || urgent || preempts || promised || is_asked(self.state)
        {
            return Entered::Matters;
        }
        let fits = self.index.refresh(self.state, shape) > 0;
        if fits && self.waiting() == itself {
            return Entered::MayStart(None);
        }
        let reservations = self.reservations(pool);
        if reservations != 1 {
            return if fits || reservations > 0 { Entered::Matters } else { Entered::Waits };
        }
        let usage = self.state.rank_usage(&line);
        let rank = self.state.queue.rank_of(line, id, usage);
        match self.state.pools[pool].first_kept.filter(|kept| *kept < rank) {
            Some(kept) if fits && alone && self.may_start_beside(&kept, pool) => {
                Entered::MayStart(Some(kept.head))
            }
            Some(_) if !fits => Entered::Waits,
            None if !fits && !self.any_fits(pool) => {
                // Nobody could go ahead of it, so nobody keeps a place.
                self.state.pools[pool].first_kept = None;
                Entered::Waits
            }
            Some(_) | None => Entered::Matters,
        }
    }

    /// Returns how many wait in all pools.
    fn waiting(&self) -> u64 {
        let pools = self.state.pools.ids();
        pools.map(|pool| self.state.queue.waiting(pool).iter().sum::<u64>()).sum()
    }

    /// Returns whether the place that the last pass kept is the one that a pass would keep, and a
    /// start beside it would move nobody else: neither by credit, quota or use, nor as a victim,
    /// nor as what somebody must be near.
    fn may_start_beside(&self, kept: &Rank, pool: PoolId) -> bool {
        let (rules, state) = (&self.state.rules, &*self.state);
        let moves = rules.scheduling.ages() || rules.scheduling.order.follows_use();
        let paid = rules.atp.enabled || rules.preemption.enabled;
        let bound = state.pools[pool].spec.quota.is_some();
        let here: u64 = state.queue.waiting(pool).iter().sum();
        !moves
            && !paid
            && !bound
            && self.waiting() == here
            && state
                .changed
                .stands
                .is_some_and(|(job, until)| job == kept.head && state.now < until)
    }
}
