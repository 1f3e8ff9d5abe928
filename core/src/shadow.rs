//! Shadows: where and when a job that waits can start at the latest, by the limits of what runs,
//! and what may start before it without delaying it.
//!
//! A reservation is a place kept from a time on. It is made anew in every pass from the state alone
//! and is kept nowhere: nothing can go stale. What has no limit never ends here, so nothing is
//! promised that a limit does not keep. Nothing here changes anything.

use crate::bundle::{Bundle, Needs};
use crate::confidence::{is_asked, trusted};
use crate::ids::{JobId, NodeId, PoolId};
use crate::jobs::{Ahead, Job, Places, Shape};
use crate::leases::{Claim, Lease, LeaseState};
use crate::nodes::{Gpu, Node};
use crate::placement::{suits, tightest_of};
use crate::state::State;
use crate::tags::{Tags, meet};
use crate::units::{PerMille, Span, Time};
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

/// Returns when what a lease holds is free again, by its limit or its notice; [`Time::MAX`] when
/// nobody can know.
#[must_use]
pub fn ends_at(state: &State, lease: &Lease) -> Time {
    match lease.state {
        LeaseState::Active => lease.limit_at.map_or(Time::MAX, |at| at.after(leaving(state))),
        // It was killed and is still there: nothing says that it ever goes.
        LeaseState::Releasing if lease.stuck => Time::MAX,
        LeaseState::Releasing => {
            let kill = state.rules.offering.kill;
            lease.kill_at.map_or(Time::MAX, |at| at.after(kill))
        }
        LeaseState::Released => state.now,
    }
}

/// Returns how long what has reached its limit may take to leave.
fn leaving(state: &State) -> Span {
    state.rules.preemption.grace.saturating_add(state.rules.offering.kill)
}

/// Returns when a job has left at the latest that starts on a claim made now.
#[must_use]
pub fn end_behind(state: &State, limit: Option<Span>) -> Time {
    end_of(state, state.now.after(state.rules.preemption.hold), limit)
}

/// Returns when a job that starts at a time has left at the latest, by its limit.
#[must_use]
pub fn end_of(state: &State, start: Time, limit: Option<Span>) -> Time {
    limit.map_or(Time::MAX, |limit| start.after(limit).after(leaving(state)))
}

/// The end of all times that somebody may know: only what never ends by a limit is there later.
const UNKNOWN: Time = Time::from_ms(u64::MAX - 1);

/// What is used of a node: by leases, on each device, and by whom where that matters.
#[derive(Clone, Debug)]
struct Use {
    leased: Bundle,
    claimed: Bundle,
    gpus: Vec<Gpu>,
    tags: Tags,
}

impl Use {
    /// Returns what is used of a node now; devices and tags only where they matter.
    fn of(node: &Node, devices: bool, tags: bool) -> Self {
        let gpus = if devices { node.gpus.clone() } else { Vec::new() };
        let tags = if tags { node.tags.clone() } else { Tags::default() };
        Self { leased: node.leased, claimed: node.claimed, gpus, tags }
    }

    /// Takes out what one lease uses on a node; its tags only where they matter.
    fn end(&mut self, state: &State, lease: &Lease, node: NodeId, tags: bool) {
        for member in lease.members.iter().filter(|member| member.node == node) {
            if tags {
                self.tags.leave(&state.shapes[lease.shape].tags);
            }
            self.leased = self.leased.saturating_sub(&lease.needs.bundle());
            for (i, gpu) in self.gpus.iter_mut().enumerate() {
                if member.devices & 1 << i != 0 {
                    gpu.used = gpu.used.saturating_sub(lease.needs.gpus.share);
                    gpu.memory_used = gpu.memory_used.saturating_sub(lease.needs.gpus.memory);
                }
            }
        }
    }

    /// Takes out what a claim keeps on a node.
    fn end_claim(&mut self, claim: &Claim, node: NodeId) {
        for member in claim.members.iter().filter(|member| member.node == node) {
            self.claimed = self.claimed.saturating_sub(&claim.needs.bundle());
            for (i, gpu) in self.gpus.iter_mut().enumerate() {
                if member.devices & 1 << i != 0 {
                    gpu.claimed = gpu.claimed.saturating_sub(claim.needs.gpus.share);
                    gpu.memory_claimed = gpu.memory_claimed.saturating_sub(claim.needs.gpus.memory);
                }
            }
        }
    }

    /// Adds one member on devices.
    fn begin(&mut self, needs: &Needs, devices: u64) {
        self.leased = self.leased.zip(&needs.bundle(), u64::saturating_add);
        for (i, gpu) in self.gpus.iter_mut().enumerate() {
            if devices & 1 << i != 0 {
                gpu.used = gpu.used.saturating_add(needs.gpus.share);
                gpu.memory_used = gpu.memory_used.saturating_add(needs.gpus.memory);
            }
        }
    }

    /// Places one more member where it fits most tightly; returns whether it fits.
    fn place(&mut self, node: &Node, needs: &Needs) -> bool {
        if !needs.bundle().fits_beside(&node.offered(), [&self.leased, &self.claimed]) {
            return false;
        }
        let Some(devices) = tightest_of(&self.gpus, &node.spec.gpus, needs.gpus) else {
            return false;
        };
        self.begin(needs, devices);
        true
    }

    /// Places as many members as fit, at most `most`; returns how many.
    fn place_many(&mut self, node: &Node, needs: &Needs, most: u32) -> u32 {
        let fits = (0..most).take_while(|_| self.place(node, needs));
        u32::try_from(fits.count()).unwrap_or(most)
    }
}

/// Walks the leases of a node, each with when it ends.
fn endings<'a>(state: &'a State, node: &'a Node) -> impl Iterator<Item = (Time, &'a Lease)> {
    node.leases.iter().map(|id| state.lease(*id)).map(|lease| (ends_at(state, lease), lease))
}

/// Returns when one member of a shape first fits on a node if nothing else starts there, and how
/// many leases without a known end must have ended by then: now is [`Time::ZERO`], and
/// [`Time::MAX`] when there are such leases. `None` when it never fits as things are.
#[must_use]
pub fn earliest(state: &State, shape: &Shape, id: NodeId) -> Option<(Time, u32)> {
    let node = &state.nodes[id];
    let (need, total) = (shape.needs.bundle(), node.offer.as_ref()?.total);
    if !node.takes_work(state.now) || !need.fits_in(&total.saturating_sub(&node.claimed)) {
        return None;
    }
    let (devices, choosy) = (shape.needs.gpus.count > 0, shape.is_choosy());
    let mut used = Use::of(node, devices, choosy);
    let begins = shape.begins(&state.pools[shape.pool].tags);
    let fits = |used: &Use| {
        need.fits_beside(&node.offered(), [&used.leased, &used.claimed])
            && tightest_of(&used.gpus, &node.spec.gpus, shape.needs.gpus).is_some()
            && shape.bears(&used.tags, begins)
    };
    if fits(&used) {
        return Some((Time::ZERO, 0));
    }
    let mut ends: Vec<(Time, &Lease)> = endings(state, node).collect();
    ends.sort_unstable_by_key(|(at, lease)| (*at, lease.id));
    let mut unknown = 0;
    for (at, lease) in ends {
        used.end(state, lease, id, choosy);
        unknown += u32::from(at == Time::MAX);
        if fits(&used) {
            return Some((at, unknown));
        }
    }
    None
}

/// A part of a node that is kept from a time on.
#[derive(Clone, Debug)]
struct Kept {
    job: JobId,
    node: NodeId,
    from: Time,
    until: Time,
    needs: Needs,
    count: u32,
    tags: Vec<String>,
    avoids: Vec<String>,
}

/// What must not be taken of a node by what is still there at a time.
#[derive(Clone, Debug)]
struct Slot {
    job: JobId,
    node: NodeId,
    at: Time,
    /// What is free then beside all that is kept.
    room: Bundle,
    /// Whether its devices are alike and whole then, used or free, so that any free one will do.
    whole: bool,
    /// Tags that must not run there then.
    avoids: Vec<String>,
}

impl Slot {
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
    jobs: BTreeSet<JobId>,
    kept: Vec<Kept>,
    slots: Vec<Slot>,
    /// The nodes of which a part is kept, in order.
    pub nodes: Vec<NodeId>,
}

impl Shadow {
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
    /// there is any. `soonest` is where one member fits first, and when: of use where nobody asks
    /// for confidence.
    pub fn keep(&mut self, state: &State, job: &Job, soonest: Option<(Time, NodeId)>) -> bool {
        let shape = &state.shapes[job.shape];
        let found = if shape.members == 1 && self.kept.is_empty() && !is_asked(state) {
            soonest.map(|(at, node)| (at, Vec::from([(node, 1)])))
        } else {
            self.search(state, shape, job.limit, state.now)
        };
        let Some((from, places)) = found else { return false };
        self.keep_parts(state, job, from.max(state.now), &places);
        true
    }

    /// Keeps these places for a job from a time on.
    fn keep_parts(&mut self, state: &State, job: &Job, from: Time, places: &Places) {
        self.jobs.insert(job.id);
        let shape = &state.shapes[job.shape];
        let (id, needs, until) = (job.id, shape.needs, end_of(state, from, job.limit));
        for (node, count) in places.iter().copied() {
            let (tags, avoids) = (shape.tags.clone(), shape.anti_affinity.clone());
            self.keep_part(state, Kept { job: id, node, from, until, needs, count, tags, avoids });
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
        let soonest = nodes.filter_map(|id| {
            let (at, unknown) = earliest(state, shape, *id)?;
            Some((at, unknown, state.tie(*id), *id))
        });
        self.keep(state, job, soonest.min().map(|(at, _, _, id)| (at, id)))
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
            let held = used.leased.zip(&used.claimed, u64::saturating_add);
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
        let later = self.slots.iter().filter(|s| s.node == id && s.at > from && s.at < to);
        later.fold(fit, |fit, slot| {
            if meet(&slot.avoids, &shape.tags) {
                return 0;
            }
            let fits = |count: &u32| {
                let all = need.times(u64::from(*count));
                all.fits_in(&slot.room)
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
        let (job, id, needs, count) = (kept.job, kept.node, kept.needs, kept.count);
        let node = &state.nodes[id];
        if let Err(at) = self.nodes.binary_search(&id) {
            self.nodes.insert(at, id);
        }
        if kept.from == Time::MAX {
            // Nobody knows when it can start: only what ends before everything known to end there
            // may come before it.
            let first = endings(state, node).map(|(at, _)| at).min().unwrap_or(state.now);
            kept.from = first.min(UNKNOWN).max(state.now);
            let (room, avoids) = (Bundle::ZERO, kept.avoids.clone());
            self.slots.push(Slot { job, node: id, at: kept.from, room, whole: false, avoids });
            self.kept.push(kept);
            return;
        }
        let all = needs.bundle().times(u64::from(count));
        let within =
            |slot: &&mut Slot| slot.node == id && kept.from <= slot.at && slot.at < kept.until;
        for slot in self.slots.iter_mut().filter(within) {
            slot.room = slot.room.saturating_sub(&all);
        }
        let (at, avoids) = (kept.from, kept.avoids.clone());
        self.kept.push(kept);
        let used = self.use_at(state, id, at, endings(state, node));
        let halved = |gpu: &Gpu| !gpu.used.is_zero() && gpu.used < PerMille::WHOLE;
        let alike = node.spec.gpus.iter().all(|size| Some(size) == node.spec.gpus.first());
        let whole = alike && !used.gpus.iter().any(halved);
        let room = node.offered().saturating_sub(&used.leased).saturating_sub(&used.claimed);
        self.slots.push(Slot { job, node: id, at, room, whole, avoids });
    }

    /// Returns the nodes on which a job of a shape, there until `end`, would delay somebody.
    #[must_use]
    pub fn forbidden(&self, shape: &Shape, end: Time) -> BTreeSet<NodeId> {
        let delays = |slot: &&Slot| slot.at < end && !slot.takes(shape);
        self.slots.iter().filter(delays).map(|slot| slot.node).collect()
    }

    /// Returns whose place a job of a shape, there until `end`, would take on some nodes; `None`
    /// where it delays nobody on one of them.
    #[must_use]
    pub fn in_whose_way(&self, shape: &Shape, end: Time, nodes: &[NodeId]) -> Option<JobId> {
        let on = |node: &NodeId| {
            let mut slots = self.slots.iter().filter(|slot| slot.node == *node);
            slots.find(|slot| slot.at < end && !slot.takes(shape)).map(|slot| slot.job)
        };
        let found: Option<Vec<JobId>> = nodes.iter().map(on).collect();
        found.and_then(|jobs| jobs.into_iter().min())
    }

    /// Returns the last end with which a job of a shape may start on a node: [`Time::MAX`] where it
    /// delays nobody however long it runs.
    #[must_use]
    pub fn window(&self, node: NodeId, shape: &Shape) -> Time {
        let delays = |slot: &&Slot| slot.node == node && !slot.takes(shape);
        self.slots.iter().filter(delays).map(|slot| slot.at).min().unwrap_or(Time::MAX)
    }

    /// Notes that something starts now on a node and is there until `end`.
    pub fn begin(&mut self, node: NodeId, bundle: &Bundle, end: Time) {
        for slot in self.slots.iter_mut().filter(|slot| slot.node == node && slot.at < end) {
            slot.room = slot.room.saturating_sub(bundle);
        }
    }
}
