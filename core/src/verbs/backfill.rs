//! Backfill: the first jobs that cannot start keep a place, and others start where they do not
//! delay them.
//!
//! Jobs are asked in the order of the queue, each by itself, because their limits differ. Once
//! enough have a place, only jobs of shapes that fit somewhere are asked, and of those only such as
//! end in time or need nothing of what is kept.

use super::Work;
use super::grant::Refusal;
use crate::caps::is_refused;
use crate::charges::{is_urgent, over_quota};
use crate::confidence::suffices;
use crate::config::{Backfill, BackfillOrder};
use crate::endings::end_of;
use crate::ids::{JobId, LeaseId, PoolId, ShapeId};
use crate::index::{Front, Index};
use crate::jobs::{Ahead, JobState, Places, STARVING};
use crate::leases::Member;
use crate::placement::{bears, tightest};
use crate::queue::{LineKey, Rank};
use crate::shadow::Shadow;
use crate::state::State;
use crate::tariff::dominant;
use crate::units::{Span, Time};
use alloc::collections::{BTreeSet, BinaryHeap};
use alloc::vec::Vec;
use core::cmp::Reverse;

/// Jobs that may be asked.
type Fronts = BinaryHeap<Front>;

/// How far jobs were asked in the order of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    /// All of them.
    All,
    /// Until enough have a place.
    Enough,
    /// Until one started that others must be near: all are asked again.
    Again,
}

impl Work<'_> {
    /// Starts what can start in one pool, and keeps places for so many of those that cannot.
    ///
    /// Under `greedy` only jobs that starve keep one.
    ///
    /// Returns whether all must be asked again: because what others must be near has started,
    /// because somebody is promised nothing any more, or because something has started and
    ///
    /// - jobs grow older, or use ranks them: somebody else may go first;
    /// - a quota or a cap binds: whoever keeps a place may have no right to it any more;
    /// - the place of a gang or of one with affinity may have moved, or the cap on urgent work has
    ///   been reached, so somebody may pay less.
    pub(super) fn pass_with_reservations(&mut self, pool: PoolId, reservations: usize) -> bool {
        let started = self.state.next.lease;
        let mut shadow = self.index.shadow.take().unwrap_or_default();
        shadow.clear();
        let again = self.serve(pool, reservations, &mut shadow);
        let moved = shadow.has_moved();
        self.state.changed.stands = shadow.stands();
        self.index.shadow = Some(shadow);
        let scheduling = &self.state.rules.scheduling;
        let ranks = scheduling.ages() || scheduling.order.follows_use();
        let bound = self.state.pools[pool].spec.quota.is_some() || self.state.rules.caps_accounts();
        again || ((ranks || bound || moved) && self.state.next.lease != started)
    }

    /// Asks who waits in a pool; returns whether all must be asked again.
    fn serve(&mut self, pool: PoolId, reservations: usize, shadow: &mut Shadow) -> bool {
        if self.state.reserved.contains_key(&pool) && self.serve_reserved(pool, shadow) {
            // What has started is no promise any more.
            return true;
        }
        let (most, mut poor) = (reservations + shadow.len(), BTreeSet::new());
        match self.serve_in_order(pool, most, shadow, &mut poor) {
            Served::Again => true,
            Served::Enough => self.serve_behind(pool, shadow, &mut poor),
            Served::All => false,
        }
    }

    /// Starts jobs whose reservation has begun, and keeps the places of the others: nobody goes
    /// before them. Returns whether one has started, or is not promised anything any more.
    #[inline(never)]
    fn serve_reserved(&mut self, pool: PoolId, shadow: &mut Shadow) -> bool {
        let promised: Vec<(JobId, Ahead)> =
            self.state.reserved(pool).map(|(id, ahead)| (id, ahead.clone())).collect();
        let (now, mut due): (Time, Vec<(JobId, Places)>) = (self.state.now, Vec::new());
        let all: Vec<(JobId, &Ahead)> = promised.iter().map(|(id, ahead)| (*id, ahead)).collect();
        let kept = shadow.keep_promises(self.state, &all);
        for ((id, mut ahead), found) in promised.into_iter().zip(kept) {
            let Some((from, places)) = found else { continue };
            if self.state.job(id).state == JobState::Pending && from <= now {
                due.push((id, places));
            } else if from == ahead.begin && from > now && places != ahead.places {
                ahead.places = places;
                self.state.reserved.entry(pool).or_default().insert(id, ahead);
            }
        }
        due.iter().fold(false, |any, (id, places)| self.start_reserved(*id, places) || any)
    }

    /// Starts a job on its places, if all of it fits there now; who cannot pay keeps nobody
    /// waiting. Returns whether it is promised nothing any more.
    fn start_reserved(&mut self, id: JobId, places: &Places) -> bool {
        let shape = self.state.shapes[self.state.job(id).shape].clone();
        let (needs, bundle) = (shape.needs, shape.needs.bundle());
        let (mut members, mut fits): (Vec<Member>, bool) = (Vec::new(), true);
        for node in places.iter().flat_map(|(node, n)| core::iter::repeat_n(*node, *n as usize)) {
            let row = &self.state.nodes[node];
            fits &= row.takes_work(self.state.now) && row.fits(&needs, &bundle);
            fits &= bears(self.state, &shape, node);
            let devices = tightest(&self.state.nodes[node], needs.gpus);
            self.state.nodes[node].claim(&needs, devices);
            members.push(Member { node, devices });
        }
        for member in &members {
            self.state.nodes[member.node].unclaim(&needs, member.devices);
        }
        let job = self.state.job(id);
        let mut placed = places.iter();
        fits &= placed.all(|(node, n)| suffices(self.state, *node, (&shape, job), *n));
        if !fits {
            return false;
        }
        // An administrator's promise holds whatever its account has: no cap is asked.
        if over_quota(self.state, &shape).is_some() || self.grant_on(id, members, None).is_err() {
            self.state.release_place(id);
        }
        self.index.read_changes(self.state);
        true
    }

    /// Asks jobs in the order of the queue until so many have a place that could not start.
    fn serve_in_order(
        &mut self,
        pool: PoolId,
        reservations: usize,
        shadow: &mut Shadow,
        poor: &mut BTreeSet<LineKey>,
    ) -> Served {
        // First jobs of lines come from the queue, later ones of a line from here.
        let greedy = self.state.rules.scheduling.backfill == Backfill::Greedy;
        // Under `strict` the first that does not fit keeps all others back.
        let strict = self.state.rules.scheduling.backfill == Backfill::Strict;
        let (mut cursor, mut later): (Option<Rank>, BTreeSet<Rank>) = (None, BTreeSet::new());
        let goes_on = |shadow: &Shadow| strict || shadow.len() < reservations;
        while goes_on(shadow) {
            let first = self.state.queue.next_of(pool, cursor);
            let from_queue = first.filter(|first| later.first().is_none_or(|other| first < other));
            let Some(rank) = from_queue.or_else(|| later.pop_first()) else { return Served::All };
            cursor = from_queue.or(cursor);
            if shadow.holds(rank.head) {
                later.extend(behind(self.state, rank).next());
                continue;
            }
            if poor.contains(&rank.line) {
                continue;
            }
            let usage = self.state.rank_usage(&rank.line);
            if rank.is_stale(usage) || self.state.queue.is_demoted(&rank) {
                later.insert(self.state.queue.rank_of(rank.line, rank.head, usage));
                continue;
            }
            if greedy && rank.class() < STARVING {
                // Only those that starve keep a place; the others are asked behind them.
                return Served::Enough;
            }
            let granted = self.ask_under(rank.head, shadow);
            if granted.is_ok_and(|lease| self.lets_others_start(lease)) {
                return Served::Again;
            }
            if strict && matches!(granted, Err(Refusal::Room | Refusal::Doubt)) {
                return Served::All;
            }
            let only = reservations == 1 && shadow.is_empty();
            let alone = granted == Err(Refusal::Room) && only && !self.any_fits(pool);
            if alone && !self.may_preempt_in(pool) {
                // Nobody could go ahead of it: where it could start later matters to nobody.
                return Served::All;
            }
            let keeps = !greedy || rank.class() == STARVING;
            let serves = match granted {
                Ok(_) => true,
                Err(Refusal::Room | Refusal::Doubt) if !keeps => true,
                Err(Refusal::Room | Refusal::Doubt) => self.keep_place((rank, !alone), shadow),
                Err(Refusal::Account) => false,
            };
            if !serves && granted == Err(Refusal::Doubt) {
                // One with a shorter limit may be sure to stay.
                later.extend(self.shorter_behind(rank));
            } else if !serves {
                // Who cannot pay, or has nowhere to wait for, keeps the rest of its line back.
                poor.insert(rank.line);
            } else if goes_on(shadow) && (granted.is_err() || from_queue.is_none()) {
                later.extend(behind(self.state, rank).next());
            }
        }
        Served::Enough
    }

    /// Returns the rank of the next job of a line whose limit nothing has been found to be too long
    /// for in this pass.
    fn shorter_behind(&self, rank: Rank) -> Option<Rank> {
        let sure = |rank: &Rank| !self.index.is_doubted(self.state.job(rank.head));
        behind(self.state, rank).find(sure)
    }

    /// Returns whether any shape that waits in a pool fits somewhere now.
    pub(super) fn any_fits(&mut self, pool: PoolId) -> bool {
        let Self { state, index, .. } = self;
        state.queue.shapes(pool).any(|shape| index.refresh(state, shape) > 0)
    }

    /// Grants a job its best place among those where it delays nobody.
    pub(super) fn ask_under(&mut self, id: JobId, shadow: &mut Shadow) -> Result<LeaseId, Refusal> {
        let job = self.state.job(id);
        if self.index.refresh(self.state, job.shape) == 0 {
            return Err(Refusal::Room);
        }
        let (shape, end) =
            (&self.state.shapes[job.shape], end_of(self.state, self.state.now, job.limit));
        if shadow.forestalled(shape, end).is_some() {
            return Err(Refusal::Room);
        }
        let forbidden = shadow.forbidden(shape, end);
        match self.try_grant(id, &forbidden) {
            Ok(lease) => {
                let granted = self.state.lease(lease);
                let (pool, need) = (self.state.shapes[granted.shape].pool, granted.needs.bundle());
                for member in &granted.members {
                    shadow.begin(member.node, &need, end);
                }
                if is_urgent(granted.priority) {
                    let demoted = self.judge_urgent(pool);
                    shadow.note_move(demoted);
                }
                self.index.read_changes(self.state);
                Ok(lease)
            }
            Err(Refusal::Account) => {
                self.note_refusal();
                Err(Refusal::Account)
            }
            Err(why @ (Refusal::Room | Refusal::Doubt)) => Err(why),
        }
    }

    /// Keeps a place for the first job of a line that only lacks room; returns whether there is
    /// one. Where nothing fits, credit that moves lets nobody start: `fits` says whether anything
    /// does.
    fn keep_place(&mut self, (rank, fits): (Rank, bool), shadow: &mut Shadow) -> bool {
        let id = rank.head;
        let job = self.state.job(id);
        let pool = self.state.shapes[job.shape].pool;
        if is_refused(self.state, job, &self.state.shapes[job.shape]) {
            // Another place is kept once its account has credit.
            if fits {
                self.note_refusal();
            }
            return false;
        }
        let soonest = self.index.soonest(self.state, job.shape);
        if fits {
            // The place lapses where its account loses credit.
            self.note_refusal();
        }
        let kept = shadow.keep(self.state, self.state.job(id), soonest);
        if kept {
            self.state.pools[pool].first_kept.get_or_insert(rank);
        }
        kept
    }

    /// Asks the jobs behind those that have a place; returns whether all must be asked again.
    fn serve_behind(
        &mut self,
        pool: PoolId,
        shadow: &mut Shadow,
        poor: &mut BTreeSet<LineKey>,
    ) -> bool {
        let mut fronts = Fronts::from(core::mem::take(&mut self.index.fronts));
        let again = self.serve_fronts(pool, shadow, poor, &mut fronts);
        fronts.clear();
        self.index.fronts = fronts.into_vec();
        again
    }

    /// As [`Work::serve_behind`]; `fronts` is empty, and memory to work in.
    fn serve_fronts(
        &mut self,
        pool: PoolId,
        shadow: &mut Shadow,
        poor: &mut BTreeSet<LineKey>,
        fronts: &mut Fronts,
    ) -> bool {
        let Self { state, index, .. } = self;
        for (shape, ranks) in state.queue.ranks_by_shape(pool) {
            if index.refresh(state, shape) > 0 {
                let window = window(state, index, shape, shadow);
                for rank in ranks {
                    let usage = state.rank_usage(&rank.line);
                    let again;
                    let first = if rank.is_stale(usage) || state.queue.is_demoted(rank) {
                        again = state.queue.rank_of(rank.line, rank.head, usage);
                        &again
                    } else {
                        rank
                    };
                    line_up((state, index), (Some(first), rank), window, shadow, fronts);
                }
            }
        }
        while let Some(Reverse((class, key, rank))) = fronts.pop() {
            if poor.contains(&rank.line) {
                continue;
            }
            let usage = self.state.rank_usage(&rank.line);
            if rank.is_stale(usage) || self.state.queue.is_demoted(&rank) {
                let rank = self.state.queue.rank_of(rank.line, rank.head, usage);
                fronts.push(Reverse((class.max(100 - rank.class()), key, rank)));
                continue;
            }
            let granted = self.ask_under(rank.head, shadow);
            if granted.is_ok_and(|lease| self.lets_others_start(lease)) {
                return true;
            }
            let gang = self.state.shapes[rank.line.shape].members > 1;
            if granted == Err(Refusal::Account) || (gang && granted == Err(Refusal::Room)) {
                // Neither would the rest of its line have credit, or room for so many.
                poor.insert(rank.line);
            } else if self.state.rules.scheduling.backfill_order == BackfillOrder::Queue
                && self.index.refresh(self.state, rank.line.shape) > 0
            {
                let (state, index) = (&*self.state, &*self.index);
                let window = window(state, index, rank.line.shape, shadow);
                line_up((state, index), (None, &rank), window, shadow, fronts);
            }
        }
        false
    }
}

/// Walks the jobs of a line that stand behind one of them, as they would rank.
fn behind(state: &State, rank: Rank) -> impl Iterator<Item = Rank> {
    let usage = state.rank_usage(&rank.line);
    let next = state.queue.jobs_after(rank.line, rank.head);
    next.map(move |job| state.queue.rank_of(rank.line, job, usage))
}

/// Adds the jobs of a line that end within a window, of `first` and those behind `rank`: the first,
/// or all where the shortest or smallest goes first.
fn line_up(
    (state, index): (&State, &Index),
    (first, rank): (Option<&Rank>, &Rank),
    window: Time,
    shadow: &Shadow,
    fronts: &mut Fronts,
) {
    let fits = |rank: &Rank| {
        let job = state.job(rank.head);
        let ends = window == Time::MAX || end_of(state, state.now, job.limit) <= window;
        ends && !shadow.holds(rank.head) && !index.is_doubted(job)
    };
    let first = first.filter(|first| fits(first));
    let all = || first.copied().into_iter().chain(behind(state, *rank).filter(fits));
    let key = |rank: Rank, size: u128| Reverse((100 - rank.class(), size, rank));
    let span = |rank: &Rank| {
        let limit = state.job(rank.head).limit;
        u128::from(limit.unwrap_or(Span::MAX).get())
    };
    match state.rules.scheduling.backfill_order {
        BackfillOrder::Queue => {
            if let Some(rank) = first.copied().or_else(|| behind(state, *rank).find(fits)) {
                fronts.push(key(rank, 0));
            }
        }
        BackfillOrder::Shortest => fronts.extend(all().map(|rank| key(rank, span(&rank)))),
        BackfillOrder::Smallest => {
            let total = state.shapes[rank.line.shape].total();
            let share = u128::from(dominant(&total, &state.capacity, [1; 3]));
            fronts.extend(all().map(|rank| key(rank, span(&rank) * share)));
        }
    }
}

/// Returns the last end with which a job of a shape, which must be up to date, may start somewhere.
fn window(state: &State, index: &Index, id: ShapeId, shadow: &Shadow) -> Time {
    let shape = &state.shapes[id];
    let (mut kept, mut last) = (0, None);
    for node in shadow.nodes.iter().filter(|node| index.fits(id, **node)) {
        kept += 1;
        last = last.max(Some(shadow.window(*node, shape)));
    }
    // It may fit where nothing is kept.
    if kept < index.len(id) { Time::MAX } else { last.unwrap_or(Time::MAX) }
}
