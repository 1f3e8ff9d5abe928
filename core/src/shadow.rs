//! Shadows: where and when a job that waits can start at the latest, by the limits of what runs,
//! and what may start before it without delaying it.
//!
//! A reservation is a place kept from a time on. It is made in every pass from the state alone and
//! is no part of it. Between passes it is used only while it would be the same if it were made anew
//! ([`Shadow::stands`]). What has no limit never ends here, so nothing is promised that a limit
//! does not keep. Nothing here changes anything.

use crate::bundle::Bundle;
use crate::confidence::{is_asked, trusted};
use crate::endings::{First, Soonest, Use, claim_ends, earliest, end_of, endings};
use crate::flat::FlatSet;
use crate::ids::{JobId, LeaseId, NodeId, PoolId};
use crate::jobs::{Ahead, Job, Places};
use crate::kept::{Instant, Kept};
use crate::leases::{Lease, Member};
use crate::nodes::Gpu;
use crate::placement::suits;
use crate::shapes::Shape;
use crate::state::State;
use crate::tags::meet;
use crate::units::{PerMille, Span, Time};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// The end of all times that somebody may know: only what never ends by a limit is there later.
const UNKNOWN: Time = Time::from_ms(u64::MAX - 1);

/// From when on another number of members fits on a node, whether more than before, where the node
/// stands among equal ones, which it is, and how many. Of one instant, those come first after which
/// fewer fit.
type Step = (Instant, bool, (i32, u32), NodeId, u32);

/// A job, and which others go before it.
type Before<'a> = (JobId, &'a dyn Fn(JobId) -> bool);

/// The places that are kept in one pass over one pool.
#[derive(Clone, Debug, Default)]
pub struct Shadow {
    jobs: FlatSet<JobId>,
    kept: Vec<Kept>,
    /// The nodes of which a part is kept.
    pub nodes: FlatSet<NodeId>,
    /// Until when the first place that was kept is the one that would be kept anew, as long as
    /// nothing but starts beside it changes; zero where nobody knows that.
    until: Time,
    /// Whether a start may move a place, or make one possible: a gang may do with others of its
    /// nodes, and one that must be near somebody may find another neighbour.
    movable: bool,
    /// Whether a start may have done so, or changed who is to have a place.
    moved: bool,
}

impl Shadow {
    /// Forgets all places.
    pub fn clear(&mut self) {
        self.jobs.clear();
        self.kept.clear();
        self.nodes.clear();
        (self.until, self.movable, self.moved) = (Time::ZERO, false, false);
    }

    /// Returns whether a start may have moved a place, made one possible, or changed who is to have
    /// one.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        self.moved
    }

    /// Notes whether a start may have done so.
    pub fn note_move(&mut self, moved: bool) {
        self.moved |= moved;
    }

    /// Returns the only job that has a place, if no start may move that, and until when it is the
    /// one that would be kept for it anew, as long as nothing but starts beside it changes.
    #[must_use]
    pub fn stands(&self) -> Option<(JobId, Time)> {
        let only = self.jobs.iter().next().filter(|_| self.jobs.len() == 1 && !self.movable);
        only.map(|job| (*job, self.until))
    }

    /// Returns how many jobs have a place.
    #[must_use]
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Returns whether no job has a place.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Returns whether a place is kept for a job.
    #[must_use]
    pub fn holds(&self, job: JobId) -> bool {
        self.jobs.contains(&job)
    }

    /// Keeps a place for a job that cannot start now, where it can start soonest; returns whether
    /// there is any. `soonest` is of use where nobody asks for confidence.
    pub fn keep(&mut self, state: &State, job: &Job, soonest: Option<Soonest>) -> bool {
        let shape = &state.shapes[job.shape];
        self.movable |= is_movable(shape);
        if shape.members > 1 || !self.kept.is_empty() || is_asked(state) {
            let found = self.search(state, shape, job.limit, state.now);
            let Some((from, places)) = found else { return false };
            self.keep_parts(state, job, from, &places);
            return true;
        }
        let Some((from, id, leased)) = soonest else { return false };
        // Where nobody knows when it can start, what starts beside it counts as well.
        self.until = if from < Time::MAX { from } else { Time::ZERO };
        let instant = Instant::behind(from, state.now);
        let node = &state.nodes[id];
        let plain = state.claims.is_empty() && node.spec.gpus.is_empty();
        match leased.filter(|_| plain && from < Time::MAX) {
            Some(leased) => {
                let mut kept = Kept::of(state, job, (id, 1), instant);
                let mut room = node.offered().saturating_sub(&leased);
                room.lessen(&node.claimed);
                room.lessen(&shape.needs.bundle());
                (kept.room, kept.whole) = (room, true);
                self.jobs.insert(job.id);
                self.nodes.insert(id);
                self.kept.push(kept);
            }
            None => self.keep_parts(state, job, instant, &[(id, 1)]),
        }
        true
    }

    /// Keeps these places for a job from an instant on.
    fn keep_parts(&mut self, state: &State, job: &Job, from: Instant, places: &[(NodeId, u32)]) {
        self.jobs.insert(job.id);
        for place in places {
            self.keep_part(state, Kept::of(state, job, *place, from));
        }
    }

    /// Keeps the places of all jobs of a pool that have one ahead, but one of them: where and from
    /// when they were promised, or as soon after as there is room.
    #[must_use]
    pub fn of_reservations(state: &State, pool: PoolId, but: Option<JobId>) -> Self {
        let mut shadow = Self::default();
        let others: Vec<(JobId, &Ahead)> =
            state.reserved(pool).filter(|(id, _)| Some(*id) != but).collect();
        shadow.keep_promises(state, &others);
        shadow
    }

    /// Keeps the places of jobs that have one ahead: first of those that can have the one that they
    /// were promised, so that nobody who must look for another takes it. Returns from when and
    /// where each has one, if anybody can know.
    pub fn keep_promises(
        &mut self,
        state: &State,
        promised: &[(JobId, &Ahead)],
    ) -> Vec<Option<(Time, Places)>> {
        let keep = |(id, ahead): &(JobId, &Ahead)| self.keep_promised(state, state.job(*id), ahead);
        let mut out: Vec<Option<(Time, Places)>> = promised.iter().map(keep).collect();
        for ((id, ahead), found) in promised.iter().zip(&mut out).filter(|(_, f)| f.is_none()) {
            *found = self.keep_ahead(state, state.job(*id), ahead);
        }
        out
    }

    /// Keeps the place that a job was promised, if all of it can have that.
    fn keep_promised(&mut self, state: &State, job: &Job, ahead: &Ahead) -> Option<(Time, Places)> {
        let shape = &state.shapes[job.shape];
        let begin = Instant::at(ahead.begin, state.now);
        let fits = |(node, count): &(NodeId, u32)| {
            let steps = self.steps(state, shape, *node, (*count, job.limit, begin.at));
            steps.first().is_some_and(|(from, fit)| *from == begin && fit >= count)
        };
        if ahead.places.is_empty() || !ahead.places.iter().all(fits) {
            return None;
        }
        self.keep_parts(state, job, begin, &ahead.places);
        Some((begin.at, ahead.places.clone()))
    }

    /// Keeps a place for a job where there is room from its beginning on, or as soon after as there
    /// is. Returns from when and where, if anybody can know.
    pub fn keep_ahead(
        &mut self,
        state: &State,
        job: &Job,
        ahead: &Ahead,
    ) -> Option<(Time, Places)> {
        let shape = &state.shapes[job.shape];
        self.movable |= is_movable(shape);
        let (from, places) = self.search(state, shape, job.limit, ahead.begin.max(state.now))?;
        self.keep_parts(state, job, from, &places);
        (from.at < Time::MAX).then_some((from.at, places))
    }

    /// Returns the places that one job must leave alone: those that are promised, and those that
    /// are kept for jobs `before` it.
    #[must_use]
    pub fn before(&self, state: &State, pool: PoolId, (id, before): Before<'_>) -> Self {
        let reserved = |job: JobId| state.job(job).reserved && job != id;
        if self.jobs.iter().all(|job| reserved(*job) || before(*job)) {
            return self.clone();
        }
        let mut shadow = Self::of_reservations(state, pool, Some(id));
        for kept in self.kept.iter().filter(|kept| before(kept.job)) {
            if !shadow.holds(kept.job) {
                shadow.keep_by_search(state, state.job(kept.job));
            }
        }
        shadow
    }

    /// As [`Shadow::keep`], with a look at every node instead of an index.
    pub fn keep_by_search(&mut self, state: &State, job: &Job) -> bool {
        let shape = &state.shapes[job.shape];
        let nodes = state.pools[shape.pool].nodes.iter().filter(|id| suits(state, shape, **id));
        let mut ends = Vec::new();
        let soonest = nodes.filter_map(|id| {
            let First { at, unknown, .. } = earliest(state, shape, *id, &mut ends)?;
            Some((at, unknown, state.tie(*id), *id))
        });
        self.keep(state, job, soonest.min().map(|(at, _, _, id)| (at, id, None)))
    }

    /// Finds the soonest instant from `begin` on at which all members fit, and where.
    fn search(
        &self,
        state: &State,
        shape: &Shape,
        limit: Option<Span>,
        begin: Time,
    ) -> Option<(Instant, Places)> {
        let most = if shape.spread { 1 } else { u32::from(shape.members) };
        let mut steps: Vec<Step> = Vec::new();
        for id in state.pools[shape.pool].nodes.iter().copied() {
            if suits(state, shape, id) {
                let mut before = 0;
                for (at, count) in self.steps(state, shape, id, (most, limit, begin)) {
                    steps.push((at, count > before, state.tie(id), id, count));
                    before = count;
                }
            }
        }
        steps.sort_unstable();
        let mut places: Vec<(NodeId, u32)> = Vec::new();
        for (at, _, _, id, count) in steps {
            places.retain(|(other, _)| *other != id);
            if count == 0 {
                continue;
            }
            places.push((id, count));
            let all: u32 = places.iter().map(|(_, count)| *count).sum();
            if all >= u32::from(shape.members) {
                let mut left = u32::from(shape.members);
                for (_, count) in &mut places {
                    *count = (*count).min(left);
                    left -= *count;
                }
                places.retain(|(_, count)| *count > 0);
                return Some((at, places));
            }
        }
        None
    }

    /// Returns when another number of members of a shape fits on a node, from then on throughout
    /// their stay, and how many then.
    fn steps(
        &self,
        state: &State,
        shape: &Shape,
        id: NodeId,
        (most, limit, begin): (u32, Option<Span>, Time),
    ) -> Vec<(Instant, u32)> {
        let node = &state.nodes[id];
        if !node.takes_work(state.now) {
            return Vec::new();
        }
        let ends: Vec<(Time, &Lease)> = endings(state, node).collect();
        let first = Instant::at(begin, state.now);
        let behind = |end: Time| Instant::behind(end, state.now);
        let mut instants: Vec<Instant> = ends.iter().map(|(at, _)| behind(*at)).collect();
        instants.push(first);
        let stay = end_of(state, Time::ZERO, limit);
        for kept in self.kept.iter().filter(|kept| kept.node == id) {
            instants.extend([kept.from, behind(kept.until)]);
            // From then on it would still be there when the place begins.
            let meets = kept.from.at.ms().checked_sub(stay.ms()).map(|at| Time::from_ms(at + 1));
            let meets = meets.filter(|at| *at > begin);
            instants.extend(meets.map(|at| Instant::past(at, state.now)));
        }
        instants.retain(|instant| *instant >= first);
        instants.sort_unstable();
        instants.dedup();
        let (mut out, mut before) = (Vec::new(), 0);
        let begins = shape.begins(&state.pools[shape.pool].tags);
        for instant in instants {
            let mut used = self.use_at(state, id, instant, ends.iter().copied());
            let held = used.leased.saturating_add(&used.claimed);
            let most = if shape.bears(&used.tags, begins) { most } else { 0 };
            let fit = used.place_many(node, &shape.needs, most);
            let fit = trusted(state, id, (&held, shape), fit, (instant.at, limit));
            let stay = (instant, end_of(state, instant.at, limit));
            let fit = self.fit_through(id, shape, stay, fit);
            if fit != before {
                before = fit;
                out.push((instant, fit));
            }
        }
        out
    }

    /// Returns how many of so many members can stay on a node throughout, beside what is kept there
    /// later.
    fn fit_through(&self, id: NodeId, shape: &Shape, (from, to): (Instant, Time), fit: u32) -> u32 {
        let need = shape.needs.bundle();
        let later = self.kept.iter().filter(|k| k.node == id && k.from > from && k.from.at < to);
        later.fold(fit, |fit, kept| {
            if meet(&kept.avoids, &shape.tags) {
                return 0;
            }
            let fits = |count: &u32| {
                let all = need.times(u64::from(*count));
                all.fits_in(&kept.room)
            };
            (0..=fit).rev().find(fits).unwrap_or(0)
        })
    }

    /// Returns what is used of a node at an instant: by what has not ended, and by what is kept
    /// then.
    fn use_at<'a>(
        &self,
        state: &State,
        id: NodeId,
        instant: Instant,
        ends: impl Iterator<Item = (Time, &'a Lease)>,
    ) -> Use {
        let node = &state.nodes[id];
        let mut used = Use::of(node, true, true);
        for (_, lease) in ends.filter(|(end, _)| instant.ends(*end)) {
            used.end(state, lease, id, true);
        }
        for (job, claim) in &state.claims {
            if instant.ends(claim_ends(state, *job, claim)) {
                used.end_claim(claim, id);
            }
        }
        let then =
            |kept: &&Kept| kept.node == id && kept.from <= instant && instant.at < kept.until;
        for kept in self.kept.iter().filter(then) {
            used.place_many(node, &kept.needs, kept.count);
            used.tags.enter(&kept.tags);
        }
        used
    }

    /// Keeps a part of a node.
    fn keep_part(&mut self, state: &State, mut kept: Kept) {
        let (id, from) = (kept.node, kept.from);
        let node = &state.nodes[id];
        self.nodes.insert(id);
        if from.at == Time::MAX {
            // Nobody knows when it can start: only what ends before everything known to end there
            // may come before it.
            let first = endings(state, node).map(|(at, _)| at).min().unwrap_or(state.now);
            kept.from = Instant::at(first.min(UNKNOWN), state.now);
            kept.rest = Instant { at: Time::MAX, over: Some(UNKNOWN) };
            self.kept.push(kept);
            return;
        }
        let all = kept.needs.bundle().times(u64::from(kept.count));
        let within = |k: &&mut Kept| k.node == id && from <= k.from && k.from.at < kept.until;
        for other in self.kept.iter_mut().filter(within) {
            other.room.lessen(&all);
        }
        self.kept.push(kept);
        let used = self.use_at(state, id, from, endings(state, node));
        let halved = |gpu: &Gpu| !gpu.used.is_zero() && gpu.used < PerMille::WHOLE;
        let alike = node.spec.gpus.iter().all(|size| Some(size) == node.spec.gpus.first());
        let mut room = node.offered().saturating_sub(&used.leased);
        room.lessen(&used.claimed);
        if is_asked(state) && !node.spec.dedicated {
            // Whoever is there beside it leaves it less sure to stay.
            room = Bundle::ZERO;
        }
        if let Some(kept) = self.kept.last_mut() {
            (kept.room, kept.whole) = (room, alike && !used.gpus.iter().any(halved));
        }
    }

    /// Returns the nodes on which a job of a shape, there until `end`, would delay somebody.
    #[must_use]
    pub fn forbidden(&self, shape: &Shape, end: Time) -> BTreeSet<NodeId> {
        // Mostly there is none: collecting them would sort a list first.
        let mut delayed = BTreeSet::new();
        for kept in self.kept.iter().filter(|kept| kept.is_delayed(shape, end)) {
            delayed.insert(kept.node);
        }
        delayed
    }

    /// Returns who is to begin what a job of a shape, there until `end`, would begin before: it
    /// would have to be near that, wherever its place is kept.
    #[must_use]
    pub fn forestalled(&self, shape: &Shape, end: Time) -> Option<JobId> {
        let begins = |kept: &&Kept| kept.begins_at < end && meet(&kept.begins, &shape.tags);
        self.kept.iter().find(begins).map(|kept| kept.job)
    }

    /// As [`Shadow::forbidden`], for one that has its place only by the end of a claim: nor where
    /// it avoids somebody who is to begin before.
    #[must_use]
    pub fn closed_to_claims(&self, state: &State, shape: &Shape, end: Time) -> BTreeSet<NodeId> {
        let apart = |kept: &&Kept| kept.is_soon(state) && meet(&shape.anti_affinity, &kept.tags);
        let mut closed = self.forbidden(shape, end);
        closed.extend(self.kept.iter().filter(apart).map(|kept| kept.node));
        closed
    }

    /// Returns whether a place on a node is kept for somebody who must be near a lease.
    #[must_use]
    pub fn needs(&self, state: &State, node: NodeId, lease: &Lease) -> bool {
        let tags = &state.shapes[lease.shape].tags;
        !tags.is_empty()
            && self.kept.iter().any(|kept| kept.node == node && meet(&kept.wants, tags))
    }

    /// Returns whether a job of a shape that leases make way for on a node, there until `end`,
    /// would delay somebody.
    #[must_use]
    pub fn is_delayed_instead(
        &self,
        state: &State,
        of: (&Shape, Time),
        (member, gone): (&Member, &[LeaseId]),
    ) -> bool {
        let mut here = self.kept.iter().filter(|kept| kept.node == member.node);
        here.any(|kept| kept.is_delayed_instead(state, of, (member.devices, gone)))
    }

    /// Returns whose place a job of a shape, there until `end`, would take on some nodes; `None`
    /// where it delays nobody on one of them.
    #[must_use]
    pub fn in_whose_way(&self, shape: &Shape, end: Time, nodes: &[NodeId]) -> Option<JobId> {
        let on = |node: &NodeId| {
            let mut here = self.kept.iter().filter(|kept| kept.node == *node);
            here.find(|kept| kept.is_delayed(shape, end)).map(|kept| kept.job)
        };
        let found: Option<Vec<JobId>> = nodes.iter().map(on).collect();
        self.forestalled(shape, end).or_else(|| found.and_then(|jobs| jobs.into_iter().min()))
    }

    /// Returns the last end with which a job of a shape may start on a node: [`Time::MAX`] where it
    /// delays nobody however long it runs.
    #[must_use]
    pub fn window(&self, node: NodeId, shape: &Shape) -> Time {
        let delays = |kept: &&Kept| kept.node == node && !kept.takes(shape);
        self.kept.iter().filter(delays).map(|kept| kept.from.at).min().unwrap_or(Time::MAX)
    }

    /// Notes that something starts now on a node and is there until `end`.
    pub fn begin(&mut self, node: NodeId, bundle: &Bundle, end: Time) {
        self.moved |= self.movable;
        for kept in self.kept.iter_mut().filter(|kept| kept.node == node && kept.from.at < end) {
            kept.room.lessen(bundle);
        }
    }
}

/// Returns whether a start beside the place of a job of a shape may move it.
fn is_movable(shape: &Shape) -> bool {
    shape.members > 1 || !shape.affinity.is_empty()
}
