//! Idleness: which leases hold GPUs and leave them idle, since when, and what is next done about
//! it. Questions only.
//!
//! A lease is idle while leases use less of **each** of its devices than the rules ask. Several
//! leases may share a device, and a sample tells only what they use of it together: all of that
//! counts for each of them, so nobody who computes is ever taken for idle, and who sits beside
//! somebody who computes is not found out.

use crate::leases::{Lease, LeaseState};
use crate::state::State;
use crate::units::Time;

/// Returns since when a lease has left all its GPUs idle; `None` where it does not, or where that
/// is not known of one of them. One that its node has paused is not idle. One that its account has
/// suspended is: nobody else can use what it keeps. A lease of the nodes' own owner never counts:
/// what he leaves idle is his.
#[must_use]
pub fn since(state: &State, lease: &Lease) -> Option<Time> {
    if lease.needs.gpus.count == 0 || lease.state != LeaseState::Active || lease.paused.is_some() {
        return None;
    }
    let (mut since, mut lent) = (lease.idle_from, false);
    for member in &lease.members {
        let node = &state.nodes[member.node];
        lent |= node.spec.owner != lease.account;
        for (_, gpu) in node.gpus.iter().enumerate().filter(|(i, _)| member.devices & 1 << i != 0) {
            since = since.max(gpu.idle_since?);
        }
    }
    lent.then_some(since)
}

/// Returns when a lease that has been idle since a time is told to leave, if ever.
#[must_use]
pub fn reclaim_at(state: &State, since: Time) -> Option<Time> {
    state.rules.utilization.reclaim_after.map(|after| since.after(after))
}

/// Returns when a lease that has been idle since a time is warned; `None` where it was, or never
/// is.
#[must_use]
pub fn warn_at(state: &State, lease: &Lease, since: Time) -> Option<Time> {
    let fresh = lease.warned != Some(since);
    state.rules.utilization.warn_after.filter(|_| fresh).map(|after| since.after(after))
}

/// Returns when something is next to be done about a lease, if its GPUs stay idle.
#[must_use]
pub fn next(state: &State, lease: &Lease) -> Option<Time> {
    let since = since(state, lease)?;
    warn_at(state, lease, since).into_iter().chain(reclaim_at(state, since)).min()
}
