//! The nodes' halves: one station for each machine, joined directly to the coordinator's.
//!
//! What the coordinator orders reaches a station at once; what a station tells is heard by the
//! coordinator at the same instant, after the entry that it followed from.

use super::World;
use crate::kernel::Class;
use gridcore::command::{Outcome, Report};
use gridcore::ids::NodeId;
use gridcore::station::{Action, Event, Station};
use gridcore::units::Time;
use gridcore::wire::Order;

impl World {
    /// Hands an order to a node.
    pub(super) fn order(&mut self, node: NodeId, order: Order) {
        if self.grid.state().nodes[node].up {
            self.happen(node, Event::Order(order));
        }
    }

    /// Lets something happen to a station, and does what it wants done.
    pub(super) fn happen(&mut self, node: NodeId, event: Event) -> Option<Event> {
        if self.check {
            self.check_agrees(node);
        }
        let local = self.local(node);
        let station = self.stations.get_mut(node.get() as usize)?;
        let entry = station.entry(local, event);
        let mut actions = std::mem::take(&mut self.actions);
        station.apply(&entry, &mut actions);
        if self.check {
            let breaches = gridcore::station::check(station);
            if !breaches.is_empty() {
                let found = format!("{node} after {:?}: {breaches:?}", entry.command);
                self.broken.push(found);
            }
            self.check_empty(node);
        }
        let died = self.meet_death(node, &actions);
        if let Some(done) = died {
            actions.truncate(done);
        }
        let (mut unsaved, mut refused) = (None, Vec::new());
        for action in actions.drain(..) {
            match action {
                // What cannot be kept on disk is not started.
                Action::Spawn(lease, epoch, _) if unsaved == Some((lease, epoch)) => {
                    refused.push((lease, epoch));
                }
                Action::Save(marker) => {
                    let name = (marker.start.lease, marker.start.epoch);
                    unsaved = (!self.save(node, *marker)).then_some(name);
                }
                Action::Spawn(..)
                | Action::Erase(_)
                | Action::Extend(..)
                | Action::Resize(..)
                | Action::Pause(..)
                | Action::Resume(..)
                | Action::Terminate(..)
                | Action::Kill(..)
                | Action::Tell(..)
                | Action::Lend(_)
                | Action::Send(_) => self.act(node, action),
            }
        }
        self.actions = actions;
        if died.is_some() {
            return Some(entry.command);
        }
        self.schedule_node(node);
        for (lease, epoch) in refused {
            self.happen(node, Event::Ended(lease, epoch, Outcome::Refused));
        }
        Some(entry.command)
    }

    /// Does what a station wants done.
    pub(super) fn act(&mut self, node: NodeId, action: Action) {
        match action {
            Action::Spawn(lease, _, until) => {
                self.check_start(node, lease);
                self.go_on(node, lease);
                self.set_deadline(node, lease, until);
            }
            Action::Extend(lease, _, until) => self.set_deadline(node, lease, until),
            Action::Resize(lease, _, cpu) => self.resize(node, lease, cpu),
            Action::Resume(lease, _) => self.go_on(node, lease),
            Action::Pause(lease, _) => self.pause(node, lease),
            Action::Terminate(lease, _, kill_at) => {
                self.note_leaving(node, lease);
                self.set_kill(node, lease, kill_at);
                let kill_at = self.global(node, kill_at);
                self.notice(node, lease, kill_at);
            }
            Action::Kill(lease, _) => {
                self.note_leaving(node, lease);
                self.decide("kill", lease, None);
                self.kill(node, lease);
            }
            Action::Tell(item) => self.told.push_back(Report::Lease { node, item }),
            Action::Lend(lending) => self.told.push_back(Report::Lending { node, lending }),
            Action::Save(marker) => {
                self.save(node, *marker);
            }
            Action::Erase(lease) => self.erase(node, lease),
            Action::Send(mut message) => {
                self.lie(node, &mut message);
                self.send_up(node, &message);
            }
        }
    }

    /// Tells the coordinator what stations have told.
    pub(super) fn hear(&mut self) {
        while let Some(report) = self.told.pop_front() {
            self.report(report);
        }
    }

    /// Makes sure that an event wakes a station when it asked for it.
    fn schedule_node(&mut self, node: NodeId) {
        let index = node.get() as usize;
        let Some(next) = self.stations.get(index).map(Station::next_wake) else { return };
        let next = self.global(node, next);
        let Some(scheduled) = self.node_wakes.get_mut(index) else { return };
        let next = next.max(self.now);
        if next < *scheduled {
            *scheduled = next;
            self.events.push(next, Class::Node, u64::from(node.get()));
        }
    }

    /// Wakes a station if it still wants to be.
    pub(super) fn wake_node(&mut self, node: u64) {
        let id = NodeId::new(u32::try_from(node).unwrap_or(u32::MAX));
        let Some(scheduled) = self.node_wakes.get_mut(id.get() as usize) else { return };
        if *scheduled > self.now {
            return;
        }
        *scheduled = Time::MAX;
        if !self.runs(id) {
            return;
        }
        let local = self.local(id);
        if self.station(id).is_some_and(|station| station.next_wake() <= local) {
            self.happen(id, Event::Wake);
        } else {
            self.schedule_node(id);
        }
    }

    /// Tells every station the hour, and comes back when the next one that a rule names is reached.
    /// A run begins at midnight.
    pub(super) fn clock(&mut self) {
        let Some(hours) = self.grid.state().rules.offering.lend_hours else { return };
        let day = 1_440;
        let minutes = self.now.ms() / 60_000;
        let minute = minutes % day;
        for node in self.grid.state().nodes.ids() {
            self.tell_minute(node);
        }
        let until = |hour: u16| match (u64::from(hour) % day + day - minute) % day {
            0 => day,
            span => span,
        };
        let next = minutes + until(hours.from).min(until(hours.to));
        self.events.push(Time::from_ms(next * 60_000), Class::Clock, 0);
    }

    /// Tells a station the minute of the day, if it runs.
    pub(super) fn tell_minute(&mut self, node: NodeId) {
        let minute = u16::try_from(self.now.ms() / 60_000 % 1_440).unwrap_or(0);
        if self.runs(node) {
            self.happen(node, Event::Minute(minute));
        }
    }

    /// Lets a node that has failed or come back begin anew: nothing runs on it, and it goes by the
    /// rules of the day.
    pub(super) fn begin_node(&mut self, node: NodeId) {
        let watch = self.grid.state().rules.watch();
        let minute = self.stations.get(node.get() as usize).and_then(|s| s.ladder.minute);
        let Some(station) = self.stations.get_mut(node.get() as usize) else { return };
        let fresh = Station::new(station.machine.clone(), watch, None, self.now);
        let lost = std::mem::replace(station, fresh);
        for lease in lost.leases.keys() {
            self.vanish(node, *lease);
        }
        if let Some(minute) = minute {
            self.happen(node, Event::Minute(minute));
        }
    }
}
