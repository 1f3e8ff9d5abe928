//! Machines behind a network: clocks, disks, stations that die and processes that go on.

use super::World;
use super::disk::Disk;
use super::network::Todo;
use super::pace::Doing;
use super::tally::{Which, triple};
use gridcore::command::Outcome;
use gridcore::ids::{LeaseId, NodeId};
use gridcore::station::held::Marker;
use gridcore::station::link::Identity;
use gridcore::station::{Action, Event, Station};
use gridcore::units::{Span, Time};
use gridcore::wire::{FromNode, ToNode};
use std::collections::VecDeque;

/// A crash that is to come to a station.
#[derive(Clone, Copy, Debug)]
pub(super) struct Death {
    /// How long the station is away.
    pub(super) away: Span,
    /// What it waits for.
    pub(super) aim: Aim,
    /// Until when it waits for that; then any event will do.
    pub(super) waits: Time,
}

/// What a crash waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// Anything that happens.
    Any,
    /// A start.
    Start,
    /// Another size, a pause, its end, a notice or a kill.
    Stop,
    /// The end of a lease, heard or not.
    End,
}

impl Aim {
    /// Returns whether an action is what it waits for.
    fn is_met(self, action: &Action) -> bool {
        match action {
            Action::Spawn(..) => self == Self::Start,
            Action::Resize(..)
            | Action::Pause(..)
            | Action::Resume(..)
            | Action::Terminate(..)
            | Action::Kill(..) => self == Self::Stop,
            Action::Erase(_) => self == Self::End,
            Action::Save(marker) => self == Self::End && marker.ended.is_some(),
            Action::Extend(..) | Action::Tell(..) | Action::Lend(_) | Action::Send(_) => false,
        }
    }
}

/// One machine.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) up: bool,
    pub(super) station_up: bool,
    pub(super) frozen_until: Time,
    /// Until when its first GPU is not seen; zero: none ever was lost.
    pub(super) gpu_lost_until: Time,
    pub(super) cut_up: Time,
    pub(super) cut_down: Time,
    pub(super) stall_until: Time,
    pub(super) slow_until: Time,
    pub(super) full_until: Time,
    /// Until when its disk fails to sync.
    pub(super) fails_until: Time,
    /// The crash that its station's next event meets.
    pub(super) dies: Option<Death>,
    pub(super) stuck_until: Time,
    /// Until when whatever begins on it fails.
    pub(super) broken_until: Time,
    pub(super) lies_until: Time,
    pub(super) lied: Time,
    /// What the coordinator takes its owner to use.
    pub(super) owner_uses: [u64; 3],
    pub(super) versions: (u16, u16),
    /// How many starts its station has had.
    life: u32,
    /// When it was last started: its clock begins then.
    booted: Time,
    /// What its clock gains in a million milliseconds; losses are below a million.
    rate: u64,
    /// What it has lately said and been told, oldest first.
    pub(super) said: VecDeque<FromNode>,
    pub(super) told: VecDeque<ToNode>,
    /// Its last hello.
    pub(super) hello: Option<FromNode>,
    /// What its disk holds.
    pub(super) disk: Disk,
}

/// A clock that neither gains nor loses.
pub(super) const EXACT: u64 = 1_000_000;

impl Host {
    pub(super) fn new(rate: u64) -> Self {
        Self {
            up: true,
            station_up: true,
            frozen_until: Time::ZERO,
            gpu_lost_until: Time::ZERO,
            cut_up: Time::ZERO,
            cut_down: Time::ZERO,
            stall_until: Time::ZERO,
            slow_until: Time::ZERO,
            full_until: Time::ZERO,
            fails_until: Time::ZERO,
            broken_until: Time::ZERO,
            dies: None,
            stuck_until: Time::ZERO,
            lies_until: Time::ZERO,
            lied: Time::ZERO,
            owner_uses: [0; 3],
            versions: gridcore::wire::VERSIONS,
            life: 1,
            booted: Time::ZERO,
            rate,
            said: VecDeque::new(),
            told: VecDeque::new(),
            hello: None,
            disk: Disk::default(),
        }
    }

    /// Returns whether the machine and its station run.
    pub(super) fn runs(&self, now: Time) -> bool {
        self.up && self.station_up && self.frozen_until <= now
    }

    pub(super) fn is_cut(&self, up: bool, now: Time) -> bool {
        (if up { self.cut_up } else { self.cut_down }) > now
    }

    /// Returns what its clock shows.
    pub(super) fn local(&self, now: Time) -> Time {
        let ms = u128::from(now.since(self.booted).get()) * u128::from(self.rate);
        Time::from_ms(u64::try_from(ms / u128::from(EXACT)).unwrap_or(u64::MAX))
    }

    /// Returns when its clock shows a time.
    pub(super) fn global(&self, local: Time) -> Time {
        if local == Time::MAX {
            return local;
        }
        let ms = (u128::from(local.ms()) * u128::from(EXACT)).div_ceil(u128::from(self.rate));
        self.booted.after(Span::new(u64::try_from(ms).unwrap_or(u64::MAX)))
    }
}

impl World {
    /// Returns a node's machine, where there is a network.
    pub(super) fn host(&self, node: NodeId) -> Option<&Host> {
        self.far.as_ref().and_then(|far| far.hosts.get(node.get() as usize))
    }

    /// Marks a machine, where there is a network.
    pub(super) fn strike(&mut self, node: NodeId, mark: impl FnOnce(&mut Host)) {
        let hosts = self.far.as_mut().map(|far| &mut far.hosts);
        if let Some(host) = hosts.and_then(|hosts| hosts.get_mut(node.get() as usize)) {
            mark(host);
        }
    }

    /// Returns whether a node's station runs.
    pub(super) fn runs(&self, node: NodeId) -> bool {
        self.far.is_none() || self.host(node).is_some_and(|host| host.runs(self.now))
    }

    /// Lets a node's station die; its processes go on.
    pub(super) fn lose_station(&mut self, node: NodeId, back: Time) {
        self.strike(node, |host| host.station_up = false);
        self.later(back, Todo::Return(node));
    }

    /// Lets a machine die with everything on it.
    pub(super) fn lose_machine(&mut self, node: NodeId, back: Time, wiped: bool) {
        let here: Vec<usize> =
            self.living().filter(|(_, p)| p.node == node).map(|(index, _)| index).collect();
        for index in here {
            self.over(index, Some(Outcome::Stopped));
        }
        let hardware = triple(&self.grid.state().nodes[node].spec.capacity);
        self.tally.replace(Which::Capacity, hardware, [0; 3]);
        self.strike(node, |host| {
            (host.up, host.station_up) = (false, false);
        });
        if let Some(far) = &mut self.far
            && let Some(host) = far.hosts.get_mut(node.get() as usize)
        {
            if wiped {
                host.disk = Disk::default();
            } else if host.disk.lose(&mut far.dice) {
                far.count("write_lost");
            }
        }
        self.later(back, Todo::Return(node));
    }

    /// Starts a node's station again, from its disk and what it finds alive.
    pub(super) fn return_node(&mut self, node: NodeId) {
        let now = self.now;
        let watch = self.grid.state().rules.watch();
        let cluster = self.grid.state().cluster;
        let Some(far) = &mut self.far else { return };
        let Some(host) = far.hosts.get_mut(node.get() as usize) else { return };
        if host.station_up {
            return;
        }
        let booted = !host.up;
        if booted {
            (host.up, host.booted) = (true, now);
        }
        (host.station_up, host.dies) = (true, None);
        host.life += 1;
        let mut identity = Identity::new(cluster, node, host.life);
        identity.versions = host.versions;
        host.versions = gridcore::wire::VERSIONS;
        let (markers, local): (Vec<Marker>, Time) =
            (host.disk.seen().into_values().collect(), host.local(now));
        if booted {
            let hardware = triple(&self.grid.state().nodes[node].spec.capacity);
            self.tally.replace(Which::Capacity, [0; 3], hardware);
        }
        let found = markers.into_iter().map(|marker| {
            let index = self.process_on(node, marker.start.lease);
            let process = index.and_then(|i| self.processes.get(&i));
            let ended = match process.map(|p| (p.doing, p.outcome)) {
                Some((Doing::Working(_) | Doing::Paused(_), _)) => None,
                Some((Doing::Ended, outcome)) => Some(outcome.unwrap_or(Outcome::Stopped)),
                Some((Doing::Nothing, _)) | None => Some(Outcome::Refused),
            };
            (marker, ended)
        });
        let found: Vec<(Marker, Option<Outcome>)> = found.collect();
        let Some(station) = self.stations.get_mut(node.get() as usize) else { return };
        let (machine, mut actions) = (station.machine.clone(), Vec::new());
        *station = Station::recover(machine, watch, identity, found, local, &mut actions);
        for action in actions {
            self.act(node, action);
        }
        if let Some(wake) = self.node_wakes.get_mut(node.get() as usize) {
            *wake = Time::MAX;
        }
        self.happen(node, Event::Connected);
        if self.grid.state().rules.offering.lend_hours.is_some() {
            self.tell_minute(node);
        }
        self.sample_again(node);
    }

    /// Lets a machine go on after it stood still; one whose version nobody speaks starts again.
    pub(super) fn thaw(&mut self, node: NodeId) {
        let link = self.station(node).and_then(|station| station.link.as_ref());
        let foreign = link.is_some_and(|l| l.identity.versions != gridcore::wire::VERSIONS);
        if foreign && self.runs(node) {
            self.lose_station(node, self.now);
            return;
        }
        if self.runs(node) {
            self.happen(node, Event::Wake);
            if self.grid.state().rules.offering.lend_hours.is_some() {
                self.tell_minute(node);
            }
            self.sample_again(node);
        }
    }

    /// Lets what was killed and would not die, die.
    pub(super) fn die(&mut self, node: NodeId) {
        let stuck = self.living().filter(|(_, p)| p.node == node && p.stuck);
        let leases: Vec<LeaseId> = stuck.map(|(_, process)| process.lease).collect();
        for lease in leases {
            self.stop_at(node, lease, self.now);
        }
    }

    /// Writes to a node's disk; returns whether it took it.
    pub(super) fn save(&mut self, node: NodeId, marker: Marker) -> bool {
        let now = self.now;
        let Some(far) = &mut self.far else { return true };
        let Some(host) = far.hosts.get_mut(node.get() as usize) else { return true };
        if host.full_until > now {
            far.count("save_refused");
            return false;
        }
        let lease = marker.start.lease;
        if host.fails_until > now {
            // It may be in its place by then.
            if far.dice.below(2) == 0 {
                host.disk.write(now, marker);
            }
            far.count("save_failed");
            return false;
        }
        host.disk.write(now, marker);
        host.disk.sync(lease);
        true
    }

    /// Lets a station die in the middle of what it does, if that is to come: returns how many of
    /// the actions are still done.
    pub(super) fn meet_death(&mut self, node: NodeId, actions: &[Action]) -> Option<usize> {
        let now = self.now;
        let far = self.far.as_mut()?;
        let host = far.hosts.get_mut(node.get() as usize)?;
        let met = |death: &mut Death| {
            death.waits <= now || actions.iter().any(|action| death.aim.is_met(action))
        };
        let death = host.dies.take_if(met)?;
        let done = usize::try_from(far.dice.below(actions.len() as u64 + 1)).ok()?;
        if let Some(Action::Save(marker)) = actions.get(done)
            && far.dice.below(2) == 0
        {
            host.disk.write(now, (**marker).clone());
        }
        if done < actions.len() {
            far.count("action_lost");
        }
        self.lose_station(node, now.after(death.away));
        Some(done)
    }
}
