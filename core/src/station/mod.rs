//! The node's half: one door, one match.
//!
//! A station knows its machine, the leases it honours, and its owner. It starts, pauses, stops and
//! kills what the coordinator orders or what the owner's return demands, and tells what has become
//! of it. It needs nobody to take back what it lent: when the coordinator is silent, every lease
//! ends with its permission. It never decides who gets what, and money is unknown to it.

mod check;
pub mod held;
pub mod ladder;
pub mod link;
mod work;

pub use check::check;

use crate::canary::{Canary, planted};
use crate::command::Entry;
use crate::config::{NodeSpec, Watch};
use crate::flat::FlatMap;
use crate::ids::{Epoch, LeaseId, Seq};
use crate::units::{MilliCores, Time};
use crate::wire::{EvictionReason, FromNode, Item, Lending, Order, Outcome, Sample, ToNode};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use held::{Held, Marker, Phase, Sum};
use ladder::{Ladder, Machine, OwnerSays};
use link::{Identity, Link};
use serde::{Deserialize, Serialize};
use work::Work;

/// What may happen to a station.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// What the owner uses from now on.
    Sample(Sample),
    /// The coordinator wants something; the halves are joined directly.
    Order(Order),
    /// A message of the coordinator has arrived.
    Message(Box<ToNode>),
    /// There is a way to the coordinator, or a new one.
    Connected,
    /// The process tree of a lease is seen empty.
    Ended(LeaseId, Epoch, Outcome),
    /// The owner says something.
    Owner(OwnerSays),
    /// The minute of the day, by the wall clock.
    Minute(u16),
    /// Time has passed.
    Wake,
}

/// What a station wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Keep this on disk, synced before anything that follows is done.
    Save(Box<Marker>),
    /// Keep nothing of it any more.
    Erase(LeaseId),
    /// Start its processes; they are told to end at this time and killed the kill time of the
    /// present rules later, whatever becomes of the station.
    Spawn(LeaseId, Epoch, Time),
    /// Its processes may run until then.
    Extend(LeaseId, Epoch, Time),
    /// Give its processes so much CPU from now on.
    Resize(LeaseId, Epoch, MilliCores),
    /// Stop its processes for a while.
    Pause(LeaseId, Epoch),
    /// Let them go on.
    Resume(LeaseId, Epoch),
    /// Tell its processes to end: they are killed then, whatever becomes of the station. A paused
    /// one goes on at the lowest weight.
    Terminate(LeaseId, Epoch, Time),
    /// Kill its process tree, and say when it is empty.
    Kill(LeaseId, Epoch),
    /// The coordinator is to know this; the halves are joined directly.
    Tell(Item),
    /// The coordinator is to know what the node lends; the halves are joined directly.
    Lend(Lending),
    /// Send this to the coordinator.
    Send(Box<FromNode>),
}

/// A node, as it sees itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Station {
    /// The machine.
    pub machine: Machine,
    /// The rules by which it watches its owner.
    pub watch: Watch,
    /// The last event.
    pub seq: Seq,
    /// Its time.
    pub now: Time,
    /// The leases it honours, and those whose end nobody has heard yet.
    pub leases: FlatMap<LeaseId, Held>,
    /// Its owner.
    pub ladder: Ladder,
    /// Its way to the coordinator; `None` where the halves are joined directly.
    pub link: Option<Link>,
    timers: BTreeSet<(Time, LeaseId)>,
    /// What its leases hold: a start need not look at each.
    #[serde(skip)]
    sum: Sum,
}

impl Station {
    /// Makes a station that holds nothing.
    #[must_use]
    pub fn new(machine: Machine, watch: Watch, identity: Option<Identity>, now: Time) -> Self {
        Self {
            machine,
            watch,
            seq: Seq::new(0),
            now,
            leases: FlatMap::default(),
            ladder: Ladder::default(),
            link: identity.map(|identity| Link::new(identity, now)),
            timers: BTreeSet::new(),
            sum: Sum::default(),
        }
    }

    /// Makes a station anew from what its disk holds. Each marker comes with how its processes
    /// ended, or `None` where they are found alive; what never ran counts as refused. What is to be
    /// done at once is appended to `actions`.
    #[must_use]
    pub fn recover(
        machine: Machine,
        watch: Watch,
        identity: Identity,
        found: Vec<(Marker, Option<Outcome>)>,
        now: Time,
        actions: &mut Vec<Action>,
    ) -> Self {
        let mut station = Self::new(machine, watch, Some(identity), now);
        for (marker, mut ended) in found {
            if planted(Canary::AdoptStranger) {
                ended = None;
            }
            let told = marker.leaving.map(|(_, reason)| reason);
            // What ended without having been told to, and not by itself, ended with its machine.
            let died = marker.ended.is_none() && ended == Some(Outcome::Stopped);
            let why = told.or(died.then_some(EvictionReason::NodeFailure));
            let phase = match (marker.ended.or(ended), marker.leaving) {
                (Some(outcome), _) => Phase::Ended(outcome, why),
                (None, Some((at, reason))) => Phase::Leaving(at, reason),
                (None, None) => marker.paused.map_or(Phase::Running, Phase::Paused),
            };
            let (id, began, until) = (marker.start.lease, marker.began, marker.until);
            let (start, suspended) = (marker.start, marker.suspended);
            let held = Held { start, began, until, phase, suspended, due: Time::MAX };
            let epoch = held.start.epoch;
            // The last station may have died between the disk and its processes.
            if held.is_alive() && held.start.least.is_some() && !planted(Canary::TrustProcesses) {
                actions.push(Action::Resize(id, epoch, held.start.needs.cpu));
            }
            match held.phase {
                _ if planted(Canary::TrustProcesses) => {}
                Phase::Running => {
                    let go_on = if suspended { Action::Pause } else { Action::Resume };
                    actions.extend([Action::Extend(id, epoch, until), go_on(id, epoch)]);
                }
                Phase::Paused(_) => actions.push(Action::Pause(id, epoch)),
                Phase::Leaving(at, _) => actions.push(Action::Terminate(id, epoch, at)),
                Phase::Killed(..) | Phase::Ended(..) => {}
            }
            station.leases.insert(id, held);
            station.arm(id);
        }
        station
    }

    /// Applies one event and appends what is to be done to `actions`.
    ///
    /// # Panics
    /// When the event does not follow the last one: sequences have no gap and time never goes back.
    pub fn apply(&mut self, entry: &Entry<Event>, actions: &mut Vec<Action>) {
        let follows = entry.seq == self.seq.next() && entry.at >= self.now;
        assert!(follows, "event {} at {} follows {}", entry.seq, entry.at, self.seq);
        (self.seq, self.now) = (entry.seq, entry.at);
        let mut work = Work { station: self, actions, told: false };
        work.run_due();
        match &entry.command {
            Event::Sample(sample) => work.sample(sample),
            Event::Order(order) => work.order(order, None),
            Event::Message(message) => work.message(message),
            Event::Connected => work.connected(),
            Event::Ended(lease, epoch, outcome) => work.ended(*lease, *epoch, *outcome),
            Event::Owner(says) => work.station.ladder.owner = *says,
            Event::Minute(minute) => work.station.ladder.minute = Some(*minute),
            Event::Wake => {}
        }
        work.climb();
        work.talk();
    }

    /// Stamps what happens next.
    #[must_use]
    pub fn entry(&self, at: Time, event: Event) -> Entry<Event> {
        Entry { seq: self.seq.next(), at, command: event }
    }

    /// Returns when the station next needs an event.
    #[must_use]
    pub fn next_wake(&self) -> Time {
        let lease = self.timers.first().map_or(Time::MAX, |(at, _)| *at);
        let link = self.link.as_ref().map_or(Time::MAX, |link| link.next);
        if self.machine.dedicated {
            return lease.min(link);
        }
        let paused = || self.leases.values().any(|held| matches!(held.phase, Phase::Paused(_)));
        let any_paused = self.ladder.away_since.is_some() && paused();
        lease.min(link).min(self.ladder.next(&self.watch, any_paused, self.now))
    }

    /// Sets when something is next to be done about a lease.
    fn arm(&mut self, id: LeaseId) {
        let rules = &self.watch.offering;
        let Some(held) = self.leases.get_mut(&id) else { return };
        let next = held.next(rules.suspend_max, rules.kill);
        if next == held.due {
            return;
        }
        if held.due < Time::MAX {
            self.timers.remove(&(held.due, id));
        }
        held.due = next;
        if next < Time::MAX {
            self.timers.insert((next, id));
        }
    }
}

/// Returns the machine of a node.
#[must_use]
pub fn machine(spec: &NodeSpec) -> Machine {
    let gpus = u8::try_from(spec.gpus.len()).unwrap_or(u8::MAX);
    Machine { capacity: spec.capacity, gpus, dedicated: spec.dedicated }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Bundle;
    use crate::config::Rules;
    use crate::ids::NodeId;
    use crate::wire::Start;
    use alloc::vec;

    fn marker(lease: u64) -> Marker {
        let start = Start { lease: LeaseId::new(lease), ..Start::default() };
        let (began, until) = (Time::ZERO, Time::from_ms(90_000));
        let (paused, suspended) = (None, false);
        Marker { start, began, until, paused, suspended, leaving: None, ended: None }
    }

    /// A station may die after its disk has taken what is to become of a lease, and before the
    /// processes hear of it.
    #[test]
    fn what_the_disk_says_is_done_again() {
        let at = Time::from_ms(60_000);
        let paused = Marker { paused: Some(Time::from_ms(1)), ..marker(2) };
        let leaving = Marker { leaving: Some((at, EvictionReason::OwnerReturn)), ..marker(3) };
        let ended = Marker { ended: Some(Outcome::Completed), ..marker(4) };
        let suspended = Marker { suspended: true, ..marker(6) };
        let found = vec![
            (marker(1), None),
            (paused, None),
            (leaving, None),
            (ended, Some(Outcome::Completed)),
            (marker(5), Some(Outcome::Refused)),
            (suspended, None),
        ];
        let machine = Machine { capacity: Bundle::ZERO, gpus: 0, dedicated: false };
        let identity = Identity::new(1, NodeId::new(0), 2);
        let (now, mut actions) = (Time::from_ms(5), vec![]);
        let watch = Rules::default().watch();
        let station = Station::recover(machine, watch, identity, found, now, &mut actions);
        let (id, epoch) = (LeaseId::new, Epoch::new(0));
        let wanted = vec![
            Action::Extend(id(1), epoch, Time::from_ms(90_000)),
            Action::Resume(id(1), epoch),
            Action::Pause(id(2), epoch),
            Action::Terminate(id(3), epoch, at),
            Action::Extend(id(6), epoch, Time::from_ms(90_000)),
            Action::Pause(id(6), epoch),
        ];
        assert_eq!(actions, wanted);
        assert_eq!(station.leases.len(), 6);
    }
}
