//! The owner of the machine: looked at, and told to the station.

use super::{Agent, Shim, tree};
use crate::clock::since_boot;
use crate::frame::Up;
use gridcore::ids::LeaseId;
use gridcore::station::Event;
use gridcore::wire::Sample;
use std::collections::BTreeMap;

impl Agent {
    /// Looks at what the owner uses, when it is time and the GPUs have answered, or did not.
    pub(super) fn look_at_owner(&mut self) {
        let now = since_boot();
        if self.station.is_none() || (self.look_at > now && !self.looking) {
            return;
        }
        if !self.looking {
            self.looking = true;
            self.look_at = now.after(self.watch.offering.poll);
            self.gpus.ask();
        }
        if self.gpus.is_looking() {
            return;
        }
        self.looking = false;
        self.sample();
    }

    /// Tells the station what the owner uses, as far as it is known now.
    pub(super) fn sample(&mut self) {
        let keepers: Vec<i32> = self.keepers().map(|(_, pid)| pid).collect();
        // The trees of our own attempts, not all that run: the owner pays for looking.
        let tree =
            |pid: &i32| tree::family(*pid).into_iter().chain(Some(*pid).zip(tree::row(*pid)));
        let rows: BTreeMap<i32, tree::Row> = keepers.iter().flat_map(tree).collect();
        let dedicated = self.station.as_ref().is_some_and(|station| station.machine.dedicated);
        // Where nobody owns the processors, only the GPUs count.
        let seen = self.meter.look(&keepers, &rows).or(dedicated.then(Sample::default));
        let Some(mut sample) = seen else { return };
        if !self.gpus.is_empty() {
            let trees = keepers.iter().map(|keeper| tree::below(&rows, *keeper));
            sample.gpus = self.gpus.sample(&trees.flatten().collect(), self.leased_devices());
            let devices = self.gpus.devices().into_iter().flatten().cloned().collect();
            self.say(&Up::Devices(devices));
        }
        if let Some(vitals) = self.vitals.look(&self.root) {
            self.say(&Up::Vitals(vitals));
        }
        self.happen(Event::Sample(sample));
    }

    /// Walks the shims that are there.
    pub(super) fn keepers(&self) -> impl Iterator<Item = (LeaseId, i32)> {
        self.shims.iter().filter_map(|(lease, shim)| match shim {
            Shim::There(_, pid) => Some((*lease, *pid)),
            Shim::Spawned(_) | Shim::Lost(_) => None,
        })
    }

    /// Returns the devices that leases hold, one bit each.
    pub(super) fn leased_devices(&self) -> u64 {
        let held = self.station.iter().flat_map(|station| station.leases.values());
        held.filter(|held| held.is_alive()).fold(0, |mask, held| mask | held.start.devices)
    }
}
