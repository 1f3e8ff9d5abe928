//! Prepared halves for fuzz targets to be thrown at: a small cluster over a perfect network, in the
//! middle of its work, and one whose halves are joined directly.
//!
//! Nothing is drawn: two builds of one ground are equal, so that an input means the same for ever.

use crate::cluster::{Cluster, LAB, cpu_job, load};
use crate::world::{Checks, Work, World};
use gridcore::bundle::GpuNeed;
use gridcore::command::{Command, Entry, JobSpec, Outcome, Report, Request};
use gridcore::config::{Config, Order};
use gridcore::effect::Effect;
use gridcore::grid::Grid;
use gridcore::ids::{AccountId, JobId, NodeId, Seq};
use gridcore::station::held::Marker;
use gridcore::station::link::Identity;
use gridcore::station::{Action, Event, Station, machine};
use gridcore::units::{MicroAtp, Ppm, Priority, Span, Time};
use gridcore::wire::{FromNode, ToNode};
use std::collections::VecDeque;
use std::sync::LazyLock;

/// Who owns the nodes of the grounds; [`LAB`] borrows.
pub const OWNER: AccountId = AccountId::new(1);

/// What is under way between the halves.
enum Under {
    Up(Box<FromNode>),
    Down(NodeId, Box<ToNode>),
}

/// A cluster over a network that loses nothing, and what was said in it.
pub struct Net {
    /// What it was made from.
    pub config: Config,
    /// The coordinator.
    pub grid: Grid,
    /// The nodes.
    pub stations: Vec<Station>,
    /// What the coordinator has applied.
    pub entries: Vec<Entry<Command>>,
    /// What nodes have said.
    pub up: Vec<FromNode>,
    /// What the coordinator has said.
    pub down: Vec<ToNode>,
    /// What nodes have kept on disk.
    pub markers: Vec<Marker>,
    /// The present.
    pub now: Time,
    under: VecDeque<Under>,
}

/// The coordinator and the nodes, in the middle of their work.
pub static NET: LazyLock<Net> = LazyLock::new(busy_net);

/// A coordinator whose nodes are joined directly, in the middle of its work.
pub static DIRECT: LazyLock<World> = LazyLock::new(busy_world);

/// Describes two dedicated nodes and three whose owner uses them too, rules under which everything
/// happens, and two accounts with credit.
#[must_use]
pub fn config(network: bool) -> Config {
    let cluster = Cluster::new().account("owner", 1_000_000).dedicated(2, 8, 32);
    let cluster = cluster.owned(2, 16, 64, 2).owned(1, 4, 8, 0).rules(|rules| {
        rules.atp.enabled = true;
        rules.atp.grant_fraction = Ppm::new(700_000);
        rules.atp.epoch = Span::seconds(30);
        rules.atp.decay_half_life = Some(Span::seconds(600));
        rules.scheduling.order = Order::Fair;
        rules.preemption.enabled = true;
        rules.preemption.runtime_min = Span::ZERO;
        rules.preemption.grace = Span::seconds(200);
        rules.preemption.hold = Span::seconds(400);
        rules.offering.kill = Span::seconds(30);
    });
    let mut config = cluster.config;
    (config.network, config.cluster) = (network, 7);
    for node in &mut config.nodes {
        node.owner = OWNER;
        node.labels.insert(String::from("zone-name"), String::from("a"));
        node.labels.insert(String::from("gpu_model"), String::from("x"));
    }
    config
}

/// Returns jobs of every kind: with GPUs, a gang, one with a limit, some that wait, one that is
/// refused when it cannot start, and one of the nodes' owner.
#[must_use]
pub fn jobs() -> Vec<(AccountId, JobSpec)> {
    let mut with_gpu = cpu_job(2);
    (with_gpu.needs.gpus, with_gpu.checkpoint) = (GpuNeed::whole(1), Some(Span::seconds(60)));
    let gang = JobSpec { members: 2, spread: true, ..cpu_job(4) };
    let limited = JobSpec { limit: Some(Span::seconds(3_600)), ..cpu_job(4) };
    let budgeted = JobSpec { budget: Some(MicroAtp::whole(900_000)), ..cpu_job(16) };
    let impatient = JobSpec { refuse_if_busy: true, ..cpu_job(16) };
    let low = JobSpec { priority: Priority::LOW, ..cpu_job(4) };
    let all = [with_gpu, gang, limited, low, cpu_job(3), budgeted, cpu_job(15), impatient];
    let all = all.into_iter().map(|job| (LAB, job));
    all.chain([(OWNER, cpu_job(1))]).collect()
}

/// Returns the job that others must make way for, and that waits until they have.
#[must_use]
pub fn urgent() -> JobSpec {
    JobSpec { priority: Priority::URGENT, ..cpu_job(12) }
}

/// The nodes whose owner uses them too, and their GPUs.
const OWNED: [(NodeId, usize); 3] = [(NodeId::new(2), 2), (NodeId::new(3), 2), (NodeId::new(4), 0)];

/// The job that its account holds, and one that runs and is taken back at last.
const HELD: JobId = JobId::new(6);
const CANCELLED: JobId = JobId::new(3);

impl Net {
    /// Begins with stations that have just started.
    ///
    /// # Panics
    /// When the configuration is refused.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let watch = config.rules.watch();
        let station = |(node, spec)| {
            let identity = Identity::new(config.cluster, NodeId::new(node), 1);
            Station::new(machine(spec), watch.clone(), Some(identity), Time::ZERO)
        };
        let stations = (0..).zip(&config.nodes).map(station).collect();
        let grid = match Grid::new(config.clone(), Time::ZERO) {
            Ok(grid) => grid,
            Err(error) => panic!("the ground's configuration is accepted: {error}"),
        };
        Self {
            config,
            grid,
            stations,
            entries: Vec::new(),
            up: Vec::new(),
            down: Vec::new(),
            markers: Vec::new(),
            now: Time::ZERO,
            under: VecDeque::new(),
        }
    }

    /// Applies an entry, and lets everything arrive that follows.
    pub fn enter(&mut self, command: Command) {
        self.apply(command);
        self.deliver();
    }

    fn apply(&mut self, command: Command) {
        let seq = self.entries.last().map_or(Seq::new(1), |last| last.seq.next());
        let entry = Entry { seq, at: self.now, command };
        let mut effects = Vec::new();
        // A refusal is an answer too.
        let _ = self.grid.apply(&entry, &mut effects);
        self.entries.push(entry);
        for effect in effects {
            if let Effect::Send { node, message } = effect {
                self.down.push((*message).clone());
                self.under.push_back(Under::Down(node, message));
            }
        }
    }

    /// Lets something happen to a station. What is told to leave stays; what is killed is gone.
    pub fn happen(&mut self, node: NodeId, event: Event) {
        let Some(station) = self.stations.get_mut(node.get() as usize) else { return };
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut actions = Vec::new();
            let entry = station.entry(self.now, event);
            station.apply(&entry, &mut actions);
            for action in actions {
                match action {
                    Action::Send(message) => {
                        self.up.push((*message).clone());
                        self.under.push_back(Under::Up(message));
                    }
                    Action::Save(marker) => self.markers.push(*marker),
                    Action::Kill(lease, epoch) => {
                        events.push(Event::Ended(lease, epoch, Outcome::Stopped));
                    }
                    Action::Erase(_)
                    | Action::Spawn(..)
                    | Action::Extend(..)
                    | Action::Resize(..)
                    | Action::Pause(..)
                    | Action::Resume(..)
                    | Action::Terminate(..)
                    | Action::Tell(..)
                    | Action::Lend(_) => {}
                }
            }
        }
    }

    fn deliver(&mut self) {
        while let Some(under) = self.under.pop_front() {
            match under {
                Under::Up(message) => self.apply(Command::Report(Report::Message(message))),
                Under::Down(node, message) => self.happen(node, Event::Message(message)),
            }
        }
    }

    /// Lets time pass, second by second.
    pub fn advance(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now.after(Span::seconds(1));
            for node in (0..self.stations.len()).zip(0..).map(|(_, node)| NodeId::new(node)) {
                let station = &self.stations[node.get() as usize];
                if station.next_wake() <= self.now {
                    self.happen(node, Event::Wake);
                }
            }
            self.deliver();
            while self.grid.next_wake().is_some_and(|(at, _)| at <= self.now) {
                self.enter(Command::Wake);
            }
        }
    }
}

/// Plays the beginning of a cluster over a network. The last orders are still under way.
fn busy_net() -> Net {
    let mut net = Net::new(config(true));
    for node in (0..5).map(NodeId::new) {
        net.happen(node, Event::Connected);
    }
    net.deliver();
    let amount = MicroAtp::whole(5_000_000);
    net.enter(Command::Request(Request::Deposit { account: LAB, amount }));
    for (node, gpus) in OWNED {
        net.happen(node, Event::Sample(load(10, 20, gpus)));
    }
    net.advance(400);
    let submit =
        |account, job| Command::Request(Request::SubmitJob { account, job: Box::new(job) });
    for (account, job) in jobs() {
        net.enter(submit(account, job));
        net.advance(30);
    }
    net.enter(Command::Request(Request::HoldJob { account: LAB, job: HELD }));
    // An owner comes back.
    net.happen(NodeId::new(2), Event::Sample(load(95, 20, 2)));
    net.advance(20);
    net.enter(submit(LAB, urgent()));
    net.advance(20);
    net.apply(submit(LAB, cpu_job(1)));
    net.apply(Command::Request(Request::CancelJob { account: LAB, job: CANCELLED }));
    net.under.clear();
    net
}

/// Plays the same beginning with halves that are joined directly.
fn busy_world() -> World {
    let mut world = World::new(config(false), Checks::Off);
    for (node, gpus) in OWNED {
        world.report(Report::Sample { node, sample: load(10, 20, gpus) });
    }
    let deposit = Request::Deposit { account: LAB, amount: MicroAtp::whole(5_000_000) };
    let paid = world.request(deposit);
    assert!(paid.is_ok(), "the ground has credit: {paid:?}");
    world.advance(Span::seconds(400));
    let work = Work { leaves: None, ..Work::seconds(90_000) };
    for (account, job) in jobs() {
        // Some are refused, as over the network.
        let _ = world.submit(account, &job, work);
        world.advance(Span::seconds(30));
    }
    let held = world.request(Request::HoldJob { account: LAB, job: HELD });
    assert!(held.is_ok(), "a job waits on the ground: {held:?}");
    world.report(Report::Sample { node: NodeId::new(2), sample: load(95, 20, 2) });
    world.advance(Span::seconds(20));
    let urgent = world.submit(LAB, &urgent(), work);
    assert!(urgent.is_ok(), "others make way: {urgent:?}");
    world.advance(Span::seconds(20));
    world
}
