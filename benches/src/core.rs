//! The core alone: commands per second through `Grid::apply`, and how the cost of a decision grows
//! with the cluster.

use crate::measure::{Dice, median, nanos, say, tenths};
use gridcore::bundle::{Bundle, Needs};
use gridcore::command::{Command, Entry, JobSpec, Outcome, Report, Request};
use gridcore::config::{AccountSpec, Backfill, Config, NodeSpec, PoolSpec, Rules};
use gridcore::effect::Effect;
use gridcore::explain::explain;
use gridcore::grid::Grid;
use gridcore::ids::{AccountId, Epoch, LeaseId, NodeId, Seq};
use gridcore::jobs::{Job, JobState};
use gridcore::units::{Bytes, MicroAtp, MilliCores, Priority, Span, Time};
use gridcore::wire::{Item, Order, Status};
use std::hint::black_box;

/// Pairs of an end and a submission per measurement.
const PAIRS: u64 = 20_000;
/// Pairs of single decisions that are timed.
const DECISIONS: u64 = 5_000;
/// Different requests.
const SHAPES: u64 = 16;
/// Borrowing accounts; one more lends.
const ACCOUNTS: u32 = 8;
/// Cores of a node.
const CORES: u32 = 32;

/// A cluster that is kept busy.
struct Busy {
    grid: Grid,
    seq: Seq,
    now: Time,
    dice: Dice,
    effects: Vec<Effect>,
    running: Vec<(NodeId, LeaseId, Epoch)>,
    /// Those among them that were told to leave.
    leaving: Vec<(NodeId, LeaseId, Epoch)>,
}

/// Prints a row per size, with and without money, then with a long queue.
pub(crate) fn run() {
    say("core: 90 % full, 16 shapes, 8 accounts, fair, greedy, best_fit; ns per command");
    say("   nodes   no money  kcmd/s      money  kcmd/s   10,000 waiting  kcmd/s");
    let mut firsts = [0; 3];
    let mut lasts = [0; 3];
    for nodes in [100, 1_000, 10_000] {
        let row = [(false, 0), (true, 0), (true, 10_000)].map(|(money, waiting)| {
            let mut busy = Busy::new(nodes, money, waiting);
            median(|| nanos(|| busy.steady())) / u128::from(2 * PAIRS)
        });
        let [plain, money, queue] = row.map(|ns| (ns, 1_000_000 / ns.max(1)));
        say(&format!(
            "{nodes:>8} {:>10} {:>7} {:>10} {:>7} {:>16} {:>7}",
            plain.0, plain.1, money.0, money.1, queue.0, queue.1
        ));
        firsts = if nodes == 100 { row } else { firsts };
        lasts = row;
    }
    let ratio = |(last, first): (u128, u128)| tenths(last, first);
    let [a, b, c] = [0, 1, 2].map(|i: usize| {
        let at = |row: [u128; 3]| row.get(i).copied().unwrap_or(1);
        ratio((at(lasts), at(firsts)))
    });
    say(&format!("   10,000 nodes over 100: {a} without money, {b} with, {c} with a long queue"));
}

/// Prints how long single decisions take where much waits: ends, submissions of every class, those
/// that make others leave, and the reasons of jobs that wait.
pub(crate) fn decisions() {
    say("decisions: full, 10,000 jobs waiting, 16 shapes, fair, money, preemption; microseconds");
    say("   nodes  backfill    applied    p50    p99     max   explained    p50    p99     max");
    for nodes in [100, 1_000, 10_000] {
        for backfill in [Backfill::Greedy, Backfill::Easy] {
            let mut busy = Busy::new(nodes, true, 10_000);
            let mut rules = busy.grid.state().rules.clone();
            rules.scheduling.backfill = backfill;
            rules.preemption.runtime_min = Span::ZERO;
            rules.preemption.per_hour_max = None;
            busy.apply(Command::Request(Request::Configure(Box::new(rules))));
            let (applied, explained) = busy.decide();
            let name = if backfill == Backfill::Easy { "easy" } else { "greedy" };
            say(&format!("{nodes:>8} {name:>9} {} {}", spread(applied), spread(explained)));
        }
    }
}

/// Writes how many times there are, and their median, 99th percentile and largest in microseconds.
fn spread(mut times: Vec<u128>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1));
    let us = |time: Option<&u128>| tenths(time.copied().unwrap_or(0), 1_000);
    format!("{:>10} {:>6} {:>6} {:>7}", times.len(), us(at(50)), us(at(99)), us(times.last()))
}

/// Runs one size once, to count its instructions from outside.
pub(crate) fn run_one(nodes: &str) {
    let nodes = nodes.parse().unwrap_or(100);
    let mut busy = Busy::new(nodes, true, 0);
    busy.steady();
    say(&format!("{} commands on {nodes} nodes", 2 * PAIRS));
}

impl Busy {
    /// Fills a cluster to nine tenths, or until this many jobs wait.
    fn new(nodes: u32, money: bool, waiting: u64) -> Self {
        let grid = Grid::new(config(nodes, money), Time::ZERO);
        let Ok(grid) = grid else { panic!("the configuration is valid") };
        let mut busy = Self {
            grid,
            seq: Seq::new(0),
            now: Time::ZERO,
            dice: Dice(7),
            effects: Vec::new(),
            running: Vec::new(),
            leaving: Vec::new(),
        };
        busy.apply(Command::Wake);
        let full = u64::from(nodes) * u64::from(CORES) * 900;
        let pool = gridcore::ids::PoolId::new(0);
        loop {
            let state = busy.grid.state();
            let queued: u64 = state.queue.waiting(pool).iter().sum();
            let leased = state.pools[pool].leased.cpu.get();
            if if waiting == 0 { leased >= full } else { queued >= waiting } {
                return busy;
            }
            busy.submit();
        }
    }

    /// Ends a random lease and submits a random job, over and over.
    #[inline(never)]
    fn steady(&mut self) {
        for pair in 0..PAIRS {
            if pair.is_multiple_of(20) {
                self.now = self.now.after(Span::new(1));
            }
            self.end();
            self.submit();
        }
    }

    /// Ends and submits as [`Busy::steady`], now and then a job of a higher class; returns how long
    /// each command took, and each question why a job waits.
    fn decide(&mut self) -> (Vec<u128>, Vec<u128>) {
        let (mut applied, mut explained) = (Vec::new(), Vec::new());
        for pair in 0..DECISIONS {
            self.now = self.now.after(Span::new(50));
            applied.push(nanos(|| self.end()));
            while let Some((node, lease, epoch)) = self.leaving.pop() {
                let status = Status::Ended(Outcome::Stopped, None);
                let item = Item { lease, epoch, cpu: MilliCores::ZERO, status };
                let gone = Report::Lease { node, item };
                applied.push(nanos(|| self.apply(Command::Report(gone))));
            }
            let priority = match self.dice.below(50) {
                0 => Priority::URGENT,
                1 | 2 => Priority::HIGH,
                _ => Priority::MEDIUM,
            };
            let limit = Some(Span::minutes(30 + self.dice.below(600)));
            applied.push(nanos(|| self.submit_as(priority, limit)));
            if pair.is_multiple_of(10) {
                let waits = |job: &&Job| job.state == JobState::Pending;
                let jobs = self.grid.state().jobs.values().filter(waits);
                let nth = usize::try_from(self.dice.below(10_000)).unwrap_or(0);
                let job = jobs.map(|job| job.id).nth(nth);
                let state = self.grid.state();
                explained.extend(job.map(|job| nanos(|| drop(black_box(explain(state, job))))));
            }
        }
        (applied, explained)
    }

    fn submit(&mut self) {
        self.submit_as(Priority::MEDIUM, None);
    }

    fn submit_as(&mut self, priority: Priority, limit: Option<Span>) {
        let shape = self.dice.below(SHAPES);
        let account =
            AccountId::new(u32::try_from(self.dice.below(u64::from(ACCOUNTS))).unwrap_or(0));
        let needs = Needs {
            cpu: MilliCores::new(1_000 + shape % 4 * 1_000),
            memory: Bytes::new((1 + shape / 4) << 30),
            ..Needs::default()
        };
        let job = Box::new(JobSpec { needs, priority, limit, ..JobSpec::default() });
        self.apply(Command::Request(Request::SubmitJob { account, job }));
    }

    fn end(&mut self) {
        let count = self.running.len() as u64;
        let pick = usize::try_from(self.dice.below(count.max(1))).unwrap_or(0);
        if pick >= self.running.len() {
            return;
        }
        let (node, lease, epoch) = self.running.swap_remove(pick);
        let status = Status::Ended(Outcome::Completed, None);
        let item = Item { lease, epoch, cpu: MilliCores::ZERO, status };
        self.apply(Command::Report(Report::Lease { node, item }));
    }

    fn apply(&mut self, command: Command) {
        self.seq = self.seq.next();
        let entry = Entry { seq: self.seq, at: self.now, command };
        let applied = self.grid.apply(&entry, &mut self.effects);
        assert!(applied.is_ok(), "nothing here is refused: {applied:?}");
        for effect in self.effects.drain(..) {
            if let Effect::Order { node, order: Order::Start(start) } = effect {
                self.running.push((node, start.lease, start.epoch));
            } else if let Effect::Order { order: Order::Leave { lease, .. }, .. } = effect {
                let here = self.running.iter().position(|(_, other, _)| *other == lease);
                self.leaving.extend(here.map(|i| self.running.swap_remove(i)));
            }
        }
    }
}

/// Describes dedicated nodes of one lender, and eight borrowers.
fn config(nodes: u32, money: bool) -> Config {
    let mut rules = Rules::default();
    rules.atp.enabled = money;
    // Eight accounts fill everything: no cap keeps them from it.
    (rules.caps.leases, rules.caps.open_requests, rules.caps.pool_share) = (None, None, None);
    rules.scheduling.backfill = Backfill::Greedy;
    let account = |i: u32| AccountSpec::new(&format!("a{i}"), MicroAtp::new(1 << 58));
    let capacity =
        Bundle { cpu: MilliCores::whole(CORES), memory: Bytes::gib(128), ..Bundle::ZERO };
    let node = |i: u32| NodeSpec {
        owner: AccountId::new(ACCOUNTS),
        ..NodeSpec::dedicated(&format!("n{i}"), capacity)
    };
    Config {
        rules,
        resources: Vec::new(),
        cluster: 0,
        network: false,
        pools: vec![PoolSpec { name: "all".to_owned(), quota: None }],
        accounts: (0..=ACCOUNTS).map(account).collect(),
        nodes: (0..nodes).map(node).collect(),
    }
}
