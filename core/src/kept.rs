//! A part of a node that is kept for somebody from an instant on, and who may be there beside it.
//! Nothing here changes anything.

use crate::bundle::{Bundle, Needs};
use crate::endings::{end_of, ends_at};
use crate::ids::{JobId, LeaseId, NodeId};
use crate::jobs::Job;
use crate::shapes::Shape;
use crate::state::State;
use crate::tags::meet;
use crate::units::{PerMille, Span, Time};
use alloc::string::String;
use alloc::vec::Vec;

/// An instant at which a place may begin, and what is gone by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant {
    pub(crate) at: Time,
    /// What was to end by this time is gone. `None`: nothing is, whatever was to have ended.
    pub(crate) over: Option<Time>,
}

impl Instant {
    /// Returns when what ends at a time is gone: what should have ended by now may have by the next
    /// instant.
    pub(crate) fn behind(end: Time, now: Time) -> Self {
        Self { at: end.max(now.after(Span::new(1))), over: Some(end) }
    }

    /// Returns a time as an instant, in which nothing is gone if it is now.
    pub(crate) fn at(time: Time, now: Time) -> Self {
        if time > now { Self::behind(time, now) } else { Self { at: now, over: None } }
    }

    /// Returns a later time as an instant, before all that ends by the next one.
    pub(crate) fn past(time: Time, now: Time) -> Self {
        let next = now.after(Span::new(1));
        Self { at: time, over: (time > next).then_some(time) }
    }

    /// Returns whether what ends at a time is gone.
    pub(crate) fn ends(self, end: Time) -> bool {
        self.over.is_some_and(|over| end <= over)
    }
}

/// A part of a node that is kept from a time on, and what must not be taken there by what is still
/// there then.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) job: JobId,
    pub(crate) node: NodeId,
    pub(crate) from: Instant,
    /// What is there then that is in nobody's way: all that ends later.
    pub(crate) rest: Instant,
    pub(crate) until: Time,
    pub(crate) needs: Needs,
    pub(crate) count: u32,
    pub(crate) tags: Vec<String>,
    /// Tags that it must be near.
    pub(crate) wants: Vec<String>,
    /// Those of them that it is to begin: it carries them, and nothing with them runs in its pool.
    pub(crate) begins: Vec<String>,
    /// Nobody else begins them who is still there then: nobody at all, unless it is promised for
    /// later, or nobody knows when.
    pub(crate) begins_at: Time,
    /// Tags that must not run there then.
    pub(crate) avoids: Vec<String>,
    /// What is free then beside all that is kept.
    pub(crate) room: Bundle,
    /// Whether its devices are alike and whole then, used or free, so that any free one will do.
    pub(crate) whole: bool,
}

impl Kept {
    /// Returns the place of so many members of a job on a node from a time on; what is free beside
    /// it is not known yet.
    pub(crate) fn of(
        state: &State,
        job: &Job,
        (node, count): (NodeId, u32),
        from: Instant,
    ) -> Self {
        let (shape, until) = (&state.shapes[job.shape], end_of(state, from.at, job.limit));
        let (tags, avoids) = (shape.tags.clone(), shape.anti_affinity.clone());
        let wants = shape.affinity.clone();
        let bits = shape.begins(&state.pools[shape.pool].tags);
        let first = wants.iter().enumerate().filter(|(i, _)| bits & 1 << i != 0);
        let begins = first.map(|(_, tag)| tag.clone()).collect();
        let (needs, room, whole) = (shape.needs, Bundle::ZERO, false);
        let later = job.reserved || from.at == Time::MAX;
        let begins_at = if later { from.at } else { Time::ZERO };
        let (rest, job) = (from, job.id);
        Self {
            job,
            node,
            from,
            rest,
            until,
            needs,
            count,
            tags,
            wants,
            begins,
            begins_at,
            avoids,
            room,
            whole,
        }
    }

    /// Returns whether a job of a shape that is there until `end` delays it.
    pub(crate) fn is_delayed(&self, shape: &Shape, end: Time) -> bool {
        self.from.at < end && !self.takes(shape)
    }

    /// Returns whether a job of a shape can stay there throughout, for sure.
    pub(crate) fn takes(&self, shape: &Shape) -> bool {
        let gpus = shape.needs.gpus;
        let sure = gpus.count == 0 || (self.whole && gpus.share == PerMille::WHOLE);
        // Several members may meet on one node.
        let alone = shape.members == 1 && !meet(&self.avoids, &shape.tags);
        alone && sure && shape.needs.bundle().fits_in(&self.room)
    }

    /// As [`Kept::is_delayed`], if some leases leave for that job, which then has these devices: it
    /// may have what they would still have had then.
    pub(crate) fn is_delayed_instead(
        &self,
        state: &State,
        (shape, end): (&Shape, Time),
        (devices, gone): (u64, &[LeaseId]),
    ) -> bool {
        if self.is_soon(state) && meet(&shape.anti_affinity, &self.tags) {
            return true;
        }
        if !self.is_delayed(shape, end) {
            return false;
        }
        if self.is_soon(state) || meet(&self.avoids, &shape.tags) {
            // While they are leaving, what they hold and what is kept for that job count both.
            return true;
        }
        let (mut room, need) = (self.room, shape.needs.gpus);
        let (mut shares, mut memories) = ([0_u64; 64], [0_u64; 64]);
        let gone = gone.iter().map(|id| state.lease(*id));
        for lease in gone.filter(|lease| !self.rest.ends(ends_at(state, lease))) {
            for member in lease.members_on(self.node) {
                room = room.saturating_add(&lease.needs.bundle());
                let held = shares.iter_mut().zip(&mut memories).enumerate();
                for (_, (share, memory)) in held.filter(|(i, _)| member.devices & 1 << i != 0) {
                    *share += u64::from(lease.needs.gpus.share.get());
                    *memory += lease.needs.gpus.memory.get();
                }
            }
        }
        let mut held = shares.iter().zip(&memories).enumerate();
        let instead = held.all(|(i, (share, memory))| {
            let enough = *share >= need.share.get().into() && *memory >= need.memory.get();
            devices & 1 << i == 0 || enough
        });
        let sure = instead || (self.whole && need.share == PerMille::WHOLE);
        !(sure && shape.needs.bundle().fits_in(&room))
    }

    /// Returns whether it begins before a claim made now is given up.
    pub(crate) fn is_soon(&self, state: &State) -> bool {
        self.rest.at < state.now.after(state.rules.preemption.hold)
    }
}
