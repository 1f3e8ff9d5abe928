//! What must always hold on a node.

use super::Station;
use super::held::{Phase, least_of};
use crate::bundle::Bundle;
use crate::invariants::Breach;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Checks every invariant that a station alone shows, after an event.
#[must_use]
pub fn check(station: &Station) -> Vec<Breach> {
    let mut out = Vec::new();
    let mut need = |invariant: u8, holds: bool, found: &dyn Fn() -> String| {
        if !holds {
            out.push(Breach { invariant, found: found() });
        }
    };
    let mut sum = Bundle::ZERO;
    for (id, held) in station.leases.iter() {
        if held.counts(station.link.is_none()) {
            sum = sum.saturating_add(&held.start.needs);
        }
        // Invariant 51: nothing goes on without permission.
        let late = held.is_staying() && held.until <= station.now;
        need(51, !late, &|| format!("{id} runs, its permission ended at {}", held.until));
        let overdue = matches!(held.phase, Phase::Leaving(at, _) if at <= station.now);
        need(51, !overdue, &|| format!("{id} was to be killed by now"));
        let most = station.watch.offering.suspend_max;
        let rested = matches!(held.phase, Phase::Paused(at) if at.after(most) < station.now);
        need(18, !rested, &|| format!("{id} has been paused for too long"));
    }
    let least = least_of(station.leases.values(), station.link.is_none());
    let known = station.sum.0.is_none_or(|known| known == least);
    need(20, known, &|| format!("{:?} was counted for {least:?}", station.sum));
    need(20, sum.fits_in(&station.machine.capacity), &|| format!("{sum:?} is more than it has"));
    if station.machine.dedicated {
        return out;
    }
    // Invariant 18: what stands in the owner's way is on its way out.
    let Station { machine, watch, leases, ladder, now, .. } = station;
    let shrinks = ladder.shrinks(machine, watch, leases, *now);
    need(18, shrinks.is_empty(), &|| format!("the ladder has not shrunk {shrinks:?}"));
    let steps =
        station.ladder.steps(&station.machine, &station.watch, &station.leases, station.now);
    need(18, steps.is_empty(), &|| format!("the ladder has stopped before {steps:?}"));
    let lacks = station.ladder.lacks(&station.machine, &station.watch, &station.leases);
    let closed = !lacks.is_any() || !station.ladder.lending.open;
    need(18, closed, &|| String::from("the owner is there and the node still lends"));
    out
}
