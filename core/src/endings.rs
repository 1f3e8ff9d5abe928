//! When what runs on a node ends, by its limit or its notice, and what is used of the node then.
//! Nothing here changes anything.

use crate::bundle::{Bundle, Needs};
use crate::ids::{JobId, LeaseId, NodeId};
use crate::leases::{Claim, Lease, LeaseState};
use crate::nodes::{Gpu, Node};
use crate::placement::tightest_of;
use crate::shapes::Shape;
use crate::state::State;
use crate::tags::Tags;
use crate::units::{Span, Time};
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

/// What is used of a node: by leases, on each device, and by whom where that matters.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    /// By leases.
    pub(crate) leased: Bundle,
    /// For jobs whose victims are leaving.
    pub(crate) claimed: Bundle,
    /// On each device.
    pub(crate) gpus: Vec<Gpu>,
    /// By whom.
    pub(crate) tags: Tags,
}

impl Use {
    /// Returns what is used of a node now; devices and tags only where they matter.
    pub(crate) fn of(node: &Node, devices: bool, tags: bool) -> Self {
        let gpus = if devices { node.gpus.clone() } else { Vec::new() };
        let tags = if tags { node.tags.clone() } else { Tags::default() };
        Self { leased: node.leased, claimed: node.claimed, gpus, tags }
    }

    /// Takes out what one lease uses on a node; its tags only where they matter.
    pub(crate) fn end(&mut self, state: &State, lease: &Lease, node: NodeId, tags: bool) {
        let needs = lease.needs.bundle();
        for member in lease.members.iter().filter(|member| member.node == node) {
            if tags {
                self.tags.leave(&state.shapes[lease.shape].tags);
            }
            self.leased.lessen(&needs);
            for (i, gpu) in self.gpus.iter_mut().enumerate() {
                if member.devices & 1 << i != 0 {
                    gpu.used = gpu.used.saturating_sub(lease.needs.gpus.share);
                    gpu.memory_used = gpu.memory_used.saturating_sub(lease.needs.gpus.memory);
                }
            }
        }
    }

    /// Takes out what ends on a node; tags only where they matter.
    fn pass(&mut self, state: &State, end: End, node: NodeId, tags: bool) {
        match end {
            End::Lease(id) => self.end(state, state.lease(id), node, tags),
            End::Claim(job) => {
                if let Some(claim) = state.claims.get(&job) {
                    self.end_claim(claim, node);
                }
            }
        }
    }

    /// Takes out what a claim keeps on a node.
    pub(crate) fn end_claim(&mut self, claim: &Claim, node: NodeId) {
        for member in claim.members.iter().filter(|member| member.node == node) {
            self.claimed.lessen(&claim.needs.bundle());
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
        self.leased = self.leased.saturating_add(&needs.bundle());
        for (i, gpu) in self.gpus.iter_mut().enumerate() {
            if devices & 1 << i != 0 {
                gpu.used = gpu.used.saturating_add(needs.gpus.share);
                gpu.memory_used = gpu.memory_used.saturating_add(needs.gpus.memory);
            }
        }
    }

    /// Places one more member where it fits most tightly; returns whether it fits.
    fn place(&mut self, node: &Node, needs: &Needs) -> bool {
        if !needs.bundle().fits_beside(node.offered(), [&self.leased, &self.claimed]) {
            return false;
        }
        let Some(devices) = tightest_of(&self.gpus, &node.spec.gpus, needs.gpus) else {
            return false;
        };
        self.begin(needs, devices);
        true
    }

    /// Places as many members as fit, at most `most`; returns how many.
    pub(crate) fn place_many(&mut self, node: &Node, needs: &Needs, most: u32) -> u32 {
        let fits = (0..most).take_while(|_| self.place(node, needs));
        u32::try_from(fits.count()).unwrap_or(most)
    }
}

/// Walks the leases of a node, each with when it ends.
pub(crate) fn endings<'a>(
    state: &'a State,
    node: &'a Node,
) -> impl Iterator<Item = (Time, &'a Lease)> {
    node.leases.iter().map(|id| state.lease(*id)).map(|lease| (ends_at(state, lease), lease))
}

/// When one member of a shape first fits on a node if nothing else starts there.
#[derive(Clone, Copy, Debug)]
pub struct First {
    /// When: now is [`Time::ZERO`], and [`Time::MAX`] when leases without a known end must end
    /// before.
    pub at: Time,
    /// How many of those there are.
    pub unknown: u32,
    /// What is leased there then by what has not ended.
    pub leased: Bundle,
}

/// What ends on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A lease.
    Lease(LeaseId),
    /// What is kept for a job whose victims are leaving.
    Claim(JobId),
}

/// Where one member of a job can start soonest, when, and what is leased there then, if that is
/// known.
pub type Soonest = (Time, NodeId, Option<Bundle>);

/// Returns when one member of a shape first fits on a node; `None` when it never does as things
/// are. `ends` is memory to work in.
#[must_use]
pub fn earliest(
    state: &State,
    shape: &Shape,
    id: NodeId,
    ends: &mut Vec<(Time, End)>,
) -> Option<First> {
    let node = &state.nodes[id];
    let (need, total) = (shape.needs.bundle(), node.offer.as_ref()?.total);
    if !node.takes_work(state.now) || !need.fits_in(&total) {
        return None;
    }
    let (devices, choosy) = (shape.needs.gpus.count > 0, shape.is_choosy());
    let mut used = Use::of(node, devices, choosy);
    let begins = shape.begins(&state.pools[shape.pool].tags);
    let fits = |used: &Use| {
        need.fits_beside(node.offered(), [&used.leased, &used.claimed])
            && tightest_of(&used.gpus, &node.spec.gpus, shape.needs.gpus).is_some()
            && shape.bears(&used.tags, begins)
    };
    if fits(&used) {
        return Some(First { at: Time::ZERO, unknown: 0, leased: used.leased });
    }
    ends.clear();
    ends.extend(node.leases.iter().map(|id| {
        let end = ends_at(state, state.lease(*id));
        (end, End::Lease(*id))
    }));
    if !node.claimed.is_zero() {
        let claims = state.claims.iter().filter(|(_, claim)| claim.is_on(id));
        ends.extend(claims.map(|(job, claim)| (claim_ends(state, *job, claim), End::Claim(*job))));
    }
    ends.sort_unstable();
    let (mut ends, mut unknown) = (ends.iter().peekable(), 0);
    while let Some((at, end)) = ends.next() {
        used.pass(state, *end, id, choosy);
        unknown += u32::from(*at == Time::MAX);
        if fits(&used) {
            while let Some((_, end)) = ends.next_if(|(end, _)| end == at && *at < Time::MAX) {
                used.pass(state, *end, id, choosy);
            }
            return Some(First { at: *at, unknown, leased: used.leased });
        }
    }
    None
}

/// Returns when what a claim is kept for has left at the latest: its job starts on it before it is
/// given up, and has left by its limit.
pub(crate) fn claim_ends(state: &State, job: JobId, claim: &Claim) -> Time {
    end_of(state, claim.ends, state.job(job).limit)
}
