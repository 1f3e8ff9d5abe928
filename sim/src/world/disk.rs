//! A node's disk: what its station finds again after it died, and what the whole machine takes with
//! it.
//!
//! A marker is written beside the old one, synced, and put in its place, so it is never torn: there
//! is the old one or the new one. What was put in place and not synced is seen by a station that
//! starts again, because the machine lives; a machine that dies may lose it. Nobody waits for the
//! sync of an erasure.

use crate::rng::Stream;
use gridcore::ids::LeaseId;
use gridcore::station::held::Marker;
use gridcore::units::{Span, Time};
use std::collections::{BTreeMap, BTreeSet};

/// How long a machine keeps what nobody asked it to sync.
const FLUSHED_AFTER: Span = Span::seconds(30);

/// A change that is seen and not synced; `None` erases.
type Change = (Time, LeaseId, Option<Marker>);

/// What a node has on its disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    synced: BTreeMap<LeaseId, Marker>,
    /// In the order in which they were made.
    unsynced: Vec<Change>,
}

impl Disk {
    /// Puts a marker in its place.
    pub(super) fn write(&mut self, now: Time, marker: Marker) {
        self.change((now, marker.start.lease, Some(marker)));
    }

    /// Takes a marker away.
    pub(super) fn erase(&mut self, now: Time, lease: LeaseId) {
        self.change((now, lease, None));
    }

    fn change(&mut self, change: Change) {
        let old = |at: &Time| at.after(FLUSHED_AFTER) <= change.0;
        let count = self.unsynced.iter().take_while(|(at, ..)| old(at)).count();
        for (_, lease, marker) in self.unsynced.drain(..count) {
            set(&mut self.synced, lease, marker);
        }
        self.unsynced.push(change);
    }

    /// Makes sure that no crash takes what was done to a lease's marker.
    pub(super) fn sync(&mut self, lease: LeaseId) {
        let changes = self.unsynced.extract_if(.., |(_, of, _)| *of == lease);
        if let Some((_, _, marker)) = changes.last() {
            set(&mut self.synced, lease, marker);
        }
    }

    /// Returns what a station finds that starts on the living machine.
    pub(super) fn seen(&self) -> BTreeMap<LeaseId, Marker> {
        let mut seen = self.synced.clone();
        for (_, lease, marker) in &self.unsynced {
            set(&mut seen, *lease, marker.clone());
        }
        seen
    }

    /// Loses with the machine what was not synced: of each lease, every change from some point on.
    /// Returns whether anything is lost.
    pub(super) fn lose(&mut self, dice: &mut Stream) -> bool {
        let mut gone = BTreeSet::new();
        for (_, lease, marker) in std::mem::take(&mut self.unsynced) {
            if gone.contains(&lease) || dice.below(2) == 0 {
                gone.insert(lease);
            } else {
                set(&mut self.synced, lease, marker);
            }
        }
        !gone.is_empty()
    }
}

fn set(markers: &mut BTreeMap<LeaseId, Marker>, lease: LeaseId, marker: Option<Marker>) {
    match marker {
        Some(marker) => markers.insert(lease, marker),
        None => markers.remove(&lease),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;
    use gridcore::wire::Start;

    fn marker(lease: u64, until: u64) -> Marker {
        let start = Start { lease: LeaseId::new(lease), ..Start::default() };
        let (began, until) = (Time::ZERO, Time::from_ms(until));
        let (paused, suspended) = (None, false);
        Marker { start, began, until, paused, suspended, leaving: None, ended: None }
    }

    /// Returns which leases are seen, and until when.
    fn seen(disk: &Disk) -> Vec<(u64, u64)> {
        disk.seen().values().map(|m| (m.start.lease.get(), m.until.ms())).collect()
    }

    #[test]
    fn a_machine_that_dies_takes_only_what_was_not_synced() {
        let mut found = BTreeSet::new();
        for seed in 0..100 {
            let mut disk = Disk::default();
            let at = Time::from_ms(1);
            for lease in [1, 2] {
                disk.write(at, marker(lease, 10));
                disk.sync(LeaseId::new(lease));
            }
            disk.write(at, marker(1, 20));
            disk.write(at, marker(1, 30));
            disk.erase(at, LeaseId::new(2));
            assert_eq!(seen(&disk), [(1, 30)]);
            let lost = disk.lose(&mut stream(seed, "disk", 0));
            assert_eq!(lost, seen(&disk) != [(1, 30)]);
            found.insert(seen(&disk));
        }
        let both = [10, 20, 30].map(|until| vec![(1, until), (2, 10)]);
        let one = [10, 20, 30].map(|until| vec![(1, until)]);
        assert_eq!(found, both.into_iter().chain(one).collect());
    }

    #[test]
    fn what_is_old_is_on_the_disk() {
        let mut disk = Disk::default();
        disk.write(Time::from_ms(1), marker(1, 10));
        disk.erase(Time::from_ms(30_000), LeaseId::new(1));
        assert_eq!(disk.unsynced.len(), 2);
        disk.erase(Time::from_ms(30_001), LeaseId::new(2));
        assert_eq!((disk.unsynced.len(), disk.synced.len()), (2, 1));
    }
}
