//! Shadows: where and when a job that waits can start at the latest, by the limits of what runs,
//! and what may start before it without delaying it.
//!
//! A reservation is a place kept from a time on. It is made anew in every pass from the state alone
//! and is no part of it; between passes it is used only while a pass would make the same
//! ([`Shadow::stands`]). What has no limit never ends here, so nothing is promised that a limit
//! does not keep. Nothing here changes anything.

use crate::bundle::{Bundle, Needs};
use crate::confidence::{is_asked, trusted};
use crate::endings::{First, Soonest, Use, earliest, end_of, endings};
use crate::flat::FlatSet;
use crate::ids::{JobId, NodeId, PoolId};
use crate::jobs::{Ahead, Job, Places, Shape};
use crate::leases::Lease;
use crate::nodes::Gpu;
use crate::placement::suits;
use crate::state::State;
use crate::tags::meet;
use crate::units::{PerMille, Span, Time};
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

/// The end of all times that somebody may know: only what never ends by a limit is there later.
const UNKNOWN: Time = Time::from_ms(u64::MAX - 1);

/// A part of a node that is kept from a time on, and what must not be taken there by what is still
/// there then.
#[derive(Clone, Debug)]
struct Kept {
    job: JobId,
    node: NodeId,
    from: Time,
    until: Time,
    needs: Needs,
    count: u32,
    tags: Vec<String>,
    /// Tags that must not run there then.
    avoids: Vec<String>,
    /// What is free then beside all that is kept.
    room: Bundle,
    /// Whether its devices are alike and whole then, used or free, so that any free one will do.
    whole: bool,
}

impl Kept {
    /// Returns the place of so many members of a job on a node from a time on; what is free beside
    /// it is not known yet.
    fn of(state: &State, job: &Job, (node, count): (NodeId, u32), from: Time) -> Self {
        let (shape, until) = (&state.shapes[job.shape], end_of(state, from, job.limit));
        let (tags, avoids) = (shape.tags.clone(), shape.anti_affinity.clone());
        let (job, needs, room, whole) = (job.id, shape.needs, Bundle::ZERO, false);
        Self { job, node, from, until, needs, count, tags, avoids, room, whole }
    }

    /// Returns whether a job of a shape can stay there throughout, for sure.
    fn takes(&self, shape: &Shape) -> bool {
        let gpus = shape.needs.gpus;
        let sure = gpus.count == 0 || (self.whole && gpus.share == PerMille::WHOLE);
        // Several members may meet on one node.
        let alone = shape.members == 1 && !meet(&self.avoids, &shape.tags);
        alone && sure && shape.needs.bundle().fits_in(&self.room)
    }
}

/// The places that are kept in one pass over one pool.
#[derive(Clone, Debug, Default)]
pub struct Shadow {
    jobs: FlatSet<JobId>,
    kept: Vec<Kept>,
    /// The nodes of which a part is kept.
    pub nodes: FlatSet<NodeId>,
    /// Until when the only place that is kept is the one that would be kept anew, as long as
    /// nothing but starts beside it changes.
    stands: Time,
}

impl Shadow {
    /// Forgets all places.
    pub fn clear(&mut self) {
        self.jobs.clear();
        self.kept.clear();
        self.nodes.clear();
        self.stands = Time::ZERO;
    }

    /// Returns whether the place that was kept for a job, and no other, is the one that would be
    /// kept for it now, if nothing but starts beside it has changed since.
    #[must_use]
    pub fn stands(&self, job: JobId, now: Time) -> bool {
        self.jobs.len() == 1 && self.holds(job) && now < self.stands
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
        if shape.members > 1 || !self.kept.is_empty() || is_asked(state) {
            let found = self.search(state, shape, job.limit, state.now);
            let Some((from, places)) = found else { return false };
            self.keep_parts(state, job, from.max(state.now), &places);
            return true;
        }
        let Some((from, id, leased)) = soonest else { return false };
        // Where nobody knows when it can start, what starts beside it counts as well.
        self.stands = if from < Time::MAX { from } else { Time::ZERO };
        let node = &state.nodes[id];
        let plain = state.claims.is_empty() && node.spec.gpus.is_empty();
        match leased.filter(|_| plain && state.now < from && from < Time::MAX) {
            Some(leased) => {
                let mut kept = Kept::of(state, job, (id, 1), from);
                let mut room = node.offered().saturating_sub(&leased);
                room.lessen(&node.claimed);
                room.lessen(&shape.needs.bundle());
                (kept.room, kept.whole) = (room, true);
                self.jobs.insert(job.id);
                self.nodes.insert(id);
                self.kept.push(kept);
            }
            None => self.keep_parts(state, job, from.max(state.now), &[(id, 1)]),
        }
        true
    }

    /// Keeps these places for a job from a time on.
    fn keep_parts(&mut self, state: &State, job: &Job, from: Time, places: &[(NodeId, u32)]) {
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
        for (id, ahead) in state.reserved(pool).filter(|(id, _)| Some(*id) != but) {
            shadow.keep_ahead(state, state.job(id), ahead);
        }
        shadow
    }

    /// Keeps a place for a job from its beginning on: where it was promised, or else where there is
    /// room, as soon after as that is. Returns from when and where, if anybody can know.
    pub fn keep_ahead(
        &mut self,
        state: &State,
        job: &Job,
        ahead: &Ahead,
    ) -> Option<(Time, Places)> {
        let shape = &state.shapes[job.shape];
        let begin = ahead.begin.max(state.now);
        let fits = |(node, count): &(NodeId, u32)| {
            let steps = self.steps(state, shape, *node, (*count, job.limit, begin));
            steps.first().is_some_and(|(at, fit)| *at == begin && fit >= count)
        };
        let same = !ahead.places.is_empty() && ahead.places.iter().all(fits);
        let (from, places) = if same {
            (begin, ahead.places.clone())
        } else {
            self.search(state, shape, job.limit, begin)?
        };
        self.keep_parts(state, job, from, &places);
        (from < Time::MAX).then_some((from, places))
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

    /// Finds the soonest time from `begin` on at which all members fit, and where.
    fn search(
        &self,
        state: &State,
        shape: &Shape,
        limit: Option<Span>,
        begin: Time,
    ) -> Option<(Time, Places)> {
        let most = if shape.spread { 1 } else { u32::from(shape.members) };
        let mut steps: Vec<(Time, (i32, u32), NodeId, u32)> = Vec::new();
        for id in state.pools[shape.pool].nodes.iter().copied() {
            if suits(state, shape, id) {
                let more = self.steps(state, shape, id, (most, limit, begin));
                steps.extend(more.into_iter().map(|(at, count)| (at, state.tie(id), id, count)));
            }
        }
        steps.sort_unstable();
        let mut places: Vec<(NodeId, u32)> = Vec::new();
        for (at, _, id, count) in steps {
            places.retain(|(other, _)| *other != id);
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

    /// Returns when more members of a shape fit on a node, and how many then.
    fn steps(
        &self,
        state: &State,
        shape: &Shape,
        id: NodeId,
        (most, limit, begin): (u32, Option<Span>, Time),
    ) -> Vec<(Time, u32)> {
        let node = &state.nodes[id];
        if !node.takes_work(state.now) {
            return Vec::new();
        }
        let ends: Vec<(Time, &Lease)> = endings(state, node).collect();
        // What should have ended by now may have by the next instant.
        let next = state.now.after(Span::new(1));
        let mut times: Vec<Time> = ends.iter().map(|(at, _)| (*at).max(next)).collect();
        times.push(begin);
        times.extend(self.kept.iter().filter(|kept| kept.node == id).map(|kept| kept.until));
        times.retain(|at| *at >= begin);
        times.sort_unstable();
        times.dedup();
        let (mut out, mut before) = (Vec::new(), 0);
        let begins = shape.begins(&state.pools[shape.pool].tags);
        for at in times {
            let mut used = self.use_at(state, id, at, ends.iter().copied());
            if !shape.bears(&used.tags, begins) {
                continue;
            }
            let held = used.leased.saturating_add(&used.claimed);
            let fit = used.place_many(node, &shape.needs, most);
            let fit = trusted(state, id, (&held, shape), fit, (at, limit));
            let fit = self.fit_through(id, shape, (at, end_of(state, at, limit)), fit);
            if fit > before {
                before = fit;
                out.push((at, fit));
            }
        }
        out
    }

    /// Returns how many of so many members can stay on a node throughout, beside what is kept there
    /// later.
    fn fit_through(&self, id: NodeId, shape: &Shape, (from, to): (Time, Time), fit: u32) -> u32 {
        let need = shape.needs.bundle();
        let later = self.kept.iter().filter(|k| k.node == id && k.from > from && k.from < to);
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

    /// Returns what is used of a node at a time: by what has not ended, and by what is kept then.
    fn use_at<'a>(
        &self,
        state: &State,
        id: NodeId,
        at: Time,
        ends: impl Iterator<Item = (Time, &'a Lease)>,
    ) -> Use {
        let node = &state.nodes[id];
        let mut used = Use::of(node, true, true);
        // What is there now is there, whatever was to have ended.
        let over = |end: Time| end <= at && at > state.now;
        for (_, lease) in ends.filter(|(end, _)| over(*end)) {
            used.end(state, lease, id, true);
        }
        // Whoever has a claim starts on it before it is given up, and has left by its limit.
        for (job, claim) in &state.claims {
            if over(end_of(state, claim.ends, state.job(*job).limit)) {
                used.end_claim(claim, id);
            }
        }
        let now = |kept: &&Kept| kept.node == id && kept.from <= at && at < kept.until;
        for kept in self.kept.iter().filter(now) {
            used.place_many(node, &kept.needs, kept.count);
            used.tags.enter(&kept.tags);
        }
        used
    }

    /// Keeps a part of a node.
    fn keep_part(&mut self, state: &State, mut kept: Kept) {
        let (id, at) = (kept.node, kept.from);
        let node = &state.nodes[id];
        self.nodes.insert(id);
        if at == Time::MAX {
            // Nobody knows when it can start: only what ends before everything known to end there
            // may come before it.
            let first = endings(state, node).map(|(at, _)| at).min().unwrap_or(state.now);
            kept.from = first.min(UNKNOWN).max(state.now);
            self.kept.push(kept);
            return;
        }
        let all = kept.needs.bundle().times(u64::from(kept.count));
        let within = |k: &&mut Kept| k.node == id && at <= k.from && k.from < kept.until;
        for other in self.kept.iter_mut().filter(within) {
            other.room.lessen(&all);
        }
        self.kept.push(kept);
        let used = self.use_at(state, id, at, endings(state, node));
        let halved = |gpu: &Gpu| !gpu.used.is_zero() && gpu.used < PerMille::WHOLE;
        let alike = node.spec.gpus.iter().all(|size| Some(size) == node.spec.gpus.first());
        let mut room = node.offered().saturating_sub(&used.leased);
        room.lessen(&used.claimed);
        if let Some(kept) = self.kept.last_mut() {
            (kept.room, kept.whole) = (room, alike && !used.gpus.iter().any(halved));
        }
    }

    /// Returns the nodes on which a job of a shape, there until `end`, would delay somebody.
    #[must_use]
    pub fn forbidden(&self, shape: &Shape, end: Time) -> BTreeSet<NodeId> {
        let delays = |kept: &&Kept| kept.from < end && !kept.takes(shape);
        self.kept.iter().filter(delays).map(|kept| kept.node).collect()
    }

    /// Returns whose place a job of a shape, there until `end`, would take on some nodes; `None`
    /// where it delays nobody on one of them.
    #[must_use]
    pub fn in_whose_way(&self, shape: &Shape, end: Time, nodes: &[NodeId]) -> Option<JobId> {
        let on = |node: &NodeId| {
            let mut here = self.kept.iter().filter(|kept| kept.node == *node);
            here.find(|kept| kept.from < end && !kept.takes(shape)).map(|kept| kept.job)
        };
        let found: Option<Vec<JobId>> = nodes.iter().map(on).collect();
        found.and_then(|jobs| jobs.into_iter().min())
    }

    /// Returns the last end with which a job of a shape may start on a node: [`Time::MAX`] where it
    /// delays nobody however long it runs.
    #[must_use]
    pub fn window(&self, node: NodeId, shape: &Shape) -> Time {
        let delays = |kept: &&Kept| kept.node == node && !kept.takes(shape);
        self.kept.iter().filter(delays).map(|kept| kept.from).min().unwrap_or(Time::MAX)
    }

    /// Notes that something starts now on a node and is there until `end`.
    pub fn begin(&mut self, node: NodeId, bundle: &Bundle, end: Time) {
        for kept in self.kept.iter_mut().filter(|kept| kept.node == node && kept.from < end) {
            kept.room.lessen(bundle);
        }
    }
}
