//! The nodes' halves: one station for each machine, joined directly to the coordinator's.
//!
//! What the coordinator orders reaches a station at once; what a station tells is heard by the
//! coordinator at the same instant, after the entry that it followed from.

use super::World;
use crate::kernel::Class;
use gridcore::command::{Command, Report};
use gridcore::ids::NodeId;
use gridcore::station::{Action, Event, Station};
use gridcore::units::Time;
use gridcore::wire::Order;

impl World {
    /// Hands an order to a node.
    pub(super) fn order(&mut self, node: NodeId, order: &Order) {
        if self.grid.state().nodes[node].up {
            self.happen(node, Event::Order(order.clone()));
        }
    }

    /// Lets something happen to a station, and does what it wants done.
    pub(super) fn happen(&mut self, node: NodeId, event: Event) -> Option<Event> {
        let station = self.stations.get_mut(node.get() as usize)?;
        let entry = station.entry(self.now, event);
        let mut actions = std::mem::take(&mut self.actions);
        station.apply(&entry, &mut actions);
        if self.check {
            let breaches = gridcore::station::check(station);
            assert!(breaches.is_empty(), "{node} after {entry:?}: {breaches:?}");
        }
        for action in actions.drain(..) {
            self.act(node, action);
        }
        self.actions = actions;
        self.schedule_node(node);
        Some(entry.command)
    }

    /// Does what a station wants done.
    fn act(&mut self, node: NodeId, action: Action) {
        match action {
            Action::Spawn(lease, ..) | Action::Resume(lease, _) => self.go_on(node, lease),
            Action::Pause(lease, _) => self.pause(node, lease),
            Action::Terminate(lease, _, kill_at) => self.notice(node, lease, kill_at),
            Action::Kill(lease, _) => {
                self.decide("kill", lease);
                self.stop_at(node, lease, self.now);
            }
            Action::Tell(lease, epoch, status) => {
                self.told.push_back(Report::Lease { node, lease, epoch, status });
            }
            Action::Lend(lending) => self.told.push_back(Report::Lending { node, lending }),
            Action::Save(_) | Action::Erase(_) | Action::Extend(..) | Action::Send(_) => {
                debug_assert!(false, "halves that are joined directly need no {action:?}");
            }
        }
    }

    /// Tells the coordinator what stations have told.
    pub(super) fn hear(&mut self) {
        while let Some(report) = self.told.pop_front() {
            let heard = self.apply(Command::Report(report));
            debug_assert!(heard.is_ok(), "a report is never refused");
        }
    }

    /// Makes sure that an event wakes a station when it asked for it.
    fn schedule_node(&mut self, node: NodeId) {
        let index = node.get() as usize;
        let Some(next) = self.stations.get(index).map(Station::next_wake) else { return };
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
        let due = self.stations.get(id.get() as usize).is_some_and(|s| s.next_wake() <= self.now);
        if due {
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
            self.happen(node, Event::Minute(u16::try_from(minute).unwrap_or(0)));
        }
        let until = |hour: u16| match (u64::from(hour) % day + day - minute) % day {
            0 => day,
            span => span,
        };
        let next = minutes + until(hours.from).min(until(hours.to));
        self.events.push(Time::from_ms(next * 60_000), Class::Clock, 0);
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
