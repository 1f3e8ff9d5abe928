//! The network between the halves: what is under way, and what becomes of it.
//!
//! A message is lost, doubled, overtaken, held back or cut off by what the weather says, drawn from
//! one stream, so that the same seed gives the same history. Without weather there is no network:
//! the halves are joined directly.

use super::World;
use super::machines::Host;
use super::store::Store;
use super::tally::{Which, owner_amounts};
use crate::kernel::Class;
use crate::rng::Stream;
use crate::work::{BlowRecord, NetworkRecord};
use gridcore::command::{Report, Request};
use gridcore::config::Policy;
use gridcore::ids::{AccountId, JobId, NodeId};
use gridcore::station::ladder::OwnerSays;
use gridcore::station::{Event, Station};
use gridcore::units::{Span, Time};
use gridcore::wire::{FromBody, FromNode, ToNode};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Something that is to happen by the weather.
pub(super) enum Todo {
    /// A blow falls.
    Blow(BlowRecord),
    /// A message reaches a node.
    ToNode(NodeId, Box<ToNode>),
    /// A message reaches the coordinator.
    FromNode(Box<FromNode>),
    /// A client asks: the row of its job, the number of the request.
    Ask(u32, u64, Box<Request>),
    /// A node finds a way to the coordinator.
    Connect(NodeId),
    /// The coordinator starts again.
    Restart,
    /// A node's station, or its whole machine, starts again.
    Return(NodeId),
    /// A machine goes on after standing still.
    Thaw(NodeId),
    /// An owner who took everything back lends again.
    Lend(NodeId),
    /// What was killed and stood still dies.
    Die(NodeId),
    /// The coordinator stops in good order, for so long.
    Stop(Span),
    /// The operator puts a policy back.
    Policy(Policy),
    /// The operator lets what was taken out of service work again.
    Mend,
    /// A machine sees that its leases use other parts of its GPUs.
    Look(NodeId),
    /// A suspended job's account lets it go on.
    Resume(AccountId, JobId),
}

/// What is to happen later, by place.
#[derive(Default)]
pub(super) struct Agenda {
    todo: Vec<Option<Todo>>,
    free: Vec<usize>,
}

/// All that is there only with a network.
pub(super) struct Far {
    pub(super) network: NetworkRecord,
    pub(super) dice: Stream,
    pub(super) hosts: Vec<Host>,
    pub(super) store: Store,
    /// The processes that are alive: there may have been many more.
    pub(super) living: BTreeSet<usize>,
    /// Whether every job must have ended once the weather is over, but for credit or a price.
    pub(super) all_end: bool,
    /// How often what has happened.
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// How long owners waited for their machines: the time, the bound, and whether the coordinator
    /// could be reached.
    pub(super) reclaims: Vec<(Span, Span, bool)>,
}

impl Far {
    pub(super) fn new(
        network: NetworkRecord,
        dice: Stream,
        hosts: Vec<Host>,
        store: Store,
    ) -> Self {
        Self {
            network,
            dice,
            hosts,
            store,
            living: BTreeSet::new(),
            all_end: false,
            counts: BTreeMap::new(),
            reclaims: Vec::new(),
        }
    }

    /// Counts one more of something.
    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_insert(0) += 1;
    }

    /// Returns whether something with a share of so many millionths happens.
    fn chance(&mut self, share: u32) -> bool {
        share > 0 && self.dice.below(1_000_000) < u64::from(share)
    }

    /// Returns when the copies of a message arrive that is sent now, none when it is lost.
    fn travels(&mut self, node: NodeId, up: bool, now: Time) -> Vec<Time> {
        let NetworkRecord { latency_min, latency_max, .. } = self.network;
        let Some(host) = self.hosts.get(node.get() as usize) else { return Vec::new() };
        let (cut, slow, stall) = (host.is_cut(up, now), host.slow_until > now, host.stall_until);
        if cut {
            self.count("message_cut");
            return Vec::new();
        }
        let rough = now < self.network.heals;
        if rough && self.chance(self.network.lost) {
            self.count("message_lost");
            return Vec::new();
        }
        let more = latency_max.get().saturating_sub(latency_min.get());
        let mut arrivals = Vec::new();
        let doubled = rough && self.chance(self.network.doubled);
        if doubled {
            self.count("message_doubled");
        }
        for _ in 0..1 + u32::from(doubled) {
            let drawn = if more == 0 { 0 } else { self.dice.below(more + 1) };
            let mut span = latency_min.get() + drawn;
            if rough && self.chance(self.network.overtaken) {
                self.count("message_overtaken");
                // Now and then by minutes: an old line is read to its end long after.
                let most = if self.dice.below(8) == 0 { 600_000 } else { 20_000 };
                span += self.dice.below(most);
            }
            if slow {
                span = span.saturating_mul(50);
            }
            arrivals.push(now.after(Span::new(span)).max(stall));
        }
        arrivals
    }
}

/// How many messages of each side may arrive once more.
const PAST_MAX: usize = 8;

/// Remembers a message that may arrive once more.
fn remember<T: Clone>(past: &mut VecDeque<T>, message: &T, rough: bool) {
    if rough {
        past.push_back(message.clone());
        if past.len() > PAST_MAX {
            past.pop_front();
        }
    }
}

impl World {
    /// Lets some lines give out once more what was said before the coordinator started again.
    pub(super) fn replay_all(&mut self) {
        for node in self.grid.state().nodes.ids().collect::<Vec<_>>() {
            let rough = self.far.as_ref().is_some_and(|far| far.network.overtaken > 0);
            if rough && self.far.as_mut().is_some_and(|far| far.dice.below(2) == 0) {
                self.replay(node);
            }
        }
    }

    /// Lets what a node and the coordinator have lately said arrive once more, in any order.
    pub(super) fn replay(&mut self, node: NodeId) {
        let now = self.now;
        let Some(far) = &mut self.far else { return };
        let Some(host) = far.hosts.get(node.get() as usize) else { return };
        // However long ago, its last hello is what a coordinator knows it by.
        let said = host.hello.iter().chain(&host.said);
        let said = said.map(|message| Todo::FromNode(Box::new(message.clone())));
        let told = host.told.iter().map(|message| Todo::ToNode(node, Box::new(message.clone())));
        for todo in said.chain(told).collect::<Vec<Todo>>() {
            let Some(far) = &mut self.far else { return };
            let wait = Span::new(far.dice.below(3_000));
            self.later(now.after(wait), todo);
        }
    }

    /// Has something happen later.
    pub(super) fn later(&mut self, at: Time, todo: Todo) {
        let agenda = &mut self.agenda;
        let index = agenda.free.pop().unwrap_or(agenda.todo.len());
        match agenda.todo.get_mut(index) {
            Some(slot) => *slot = Some(todo),
            None => agenda.todo.push(Some(todo)),
        }
        self.events.push(at, Class::Weather, index as u64);
    }

    /// Sends a message of the coordinator.
    pub(super) fn send_down(&mut self, node: NodeId, message: &ToNode) {
        let now = self.now;
        let Some(far) = &mut self.far else { return };
        if let Some(host) = far.hosts.get_mut(node.get() as usize) {
            remember(&mut host.told, message, far.network.heals > now);
        }
        for at in far.travels(node, false, now) {
            self.later(at, Todo::ToNode(node, Box::new(message.clone())));
        }
    }

    /// Sends a message of a node.
    pub(super) fn send_up(&mut self, node: NodeId, message: &FromNode) {
        let now = self.now;
        let Some(far) = &mut self.far else { return };
        if let Some(host) = far.hosts.get_mut(node.get() as usize) {
            remember(&mut host.said, message, far.network.heals > now);
            if matches!(message.body, FromBody::Hello { .. }) {
                host.hello = Some(message.clone());
            }
        }
        for at in far.travels(node, true, now) {
            self.later(at, Todo::FromNode(Box::new(message.clone())));
        }
    }

    /// Lets what is due happen.
    pub(super) fn weather(&mut self, index: u64) {
        let Ok(index) = usize::try_from(index) else { return };
        let Some(todo) = self.agenda.todo.get_mut(index).and_then(Option::take) else { return };
        self.agenda.free.push(index);
        let up = self.far.as_ref().is_none_or(|far| far.store.up);
        match todo {
            Todo::Blow(blow) => self.blow(blow),
            Todo::FromNode(message) => {
                if up {
                    let node = message.envelope.node;
                    self.report(Report::Message(message));
                    self.note_owner(node);
                }
            }
            Todo::ToNode(node, message) => {
                let Some(host) = self.host(node) else { return };
                if host.frozen_until > self.now {
                    let at = host.frozen_until;
                    self.later(at, Todo::ToNode(node, message));
                } else if host.station_up {
                    self.happen(node, Event::Message(message));
                }
            }
            Todo::Connect(node) => {
                if up && self.runs(node) {
                    self.happen(node, Event::Connected);
                }
            }
            Todo::Ask(row, number, request) => self.ask(row, number, *request),
            Todo::Restart => self.restart(),
            Todo::Return(node) => self.return_node(node),
            Todo::Thaw(node) => self.thaw(node),
            Todo::Lend(node) => self.lend_again(node),
            Todo::Die(node) => self.die(node),
            Todo::Stop(away) if up => self.stop_coordinator(away),
            Todo::Stop(_) => {}
            Todo::Policy(policy) => self.set_policy(policy),
            Todo::Mend => self.mend(),
            Todo::Look(node) => self.look(node),
            Todo::Resume(account, job) => self.resume_job(account, job),
        }
    }

    /// Notes what the coordinator takes an owner to use.
    pub(super) fn note_owner(&mut self, node: NodeId) {
        let after = owner_amounts(&self.grid.state().nodes[node]);
        let mut before = after;
        self.strike(node, |host| before = std::mem::replace(&mut host.owner_uses, after));
        self.tally.replace(Which::Owner, before, after);
    }

    /// Lets every node find its way to a coordinator that has just started.
    pub(super) fn connect_all(&mut self) {
        let nodes: Vec<NodeId> = self.grid.state().nodes.ids().collect();
        for node in nodes {
            let rough = self.far.as_ref().is_some_and(|far| far.network.latency_max > Span::ZERO);
            let wait = match &mut self.far {
                Some(far) if rough => Span::new(far.dice.below(10_000)),
                Some(_) | None => Span::ZERO,
            };
            self.later(self.now.after(wait), Todo::Connect(node));
        }
    }

    /// Lets an owner say something, if the machine runs.
    pub(super) fn owner_says(&mut self, node: NodeId, says: OwnerSays) {
        if self.runs(node) {
            self.happen(node, Event::Owner(says));
        }
    }

    /// Lets an owner who took everything back lend again, once the machine hears it.
    fn lend_again(&mut self, node: NodeId) {
        let thaws = self.host(node).map_or(Time::ZERO, |host| host.frozen_until);
        if thaws > self.now {
            self.later(thaws, Todo::Lend(node));
        } else {
            self.owner_says(node, OwnerSays::Nothing);
        }
    }

    /// Returns the node's local time.
    pub(super) fn local(&self, node: NodeId) -> Time {
        self.host(node).map_or(self.now, |host| host.local(self.now))
    }

    /// Returns when a node's clock shows a time.
    pub(super) fn global(&self, node: NodeId, local: Time) -> Time {
        self.host(node).map_or(local, |host| host.global(local))
    }

    /// Returns the coordinator's time: it does not count while it is away.
    pub(super) fn grid_now(&self) -> Time {
        let lag = self.far.as_ref().map_or(Span::ZERO, |far| far.store.lag);
        self.now.before(lag)
    }

    /// Returns the time that a coordinator's time comes to.
    pub(super) fn when_grid(&self, at: Time) -> Time {
        let lag = self.far.as_ref().map_or(Span::ZERO, |far| far.store.lag);
        at.after(lag)
    }

    /// Returns a station, where the node has one that runs.
    pub(super) fn station(&self, node: NodeId) -> Option<&Station> {
        self.stations.get(node.get() as usize)
    }
}
