//! Random clusters, workloads, weather and rules, one of each for a seed.
//!
//! [`Case::draw`] makes a case from a seed; [`Case::play`] runs it through both halves with every
//! invariant checked after every entry, lets the weather end, and checks that everything settles.
//! A case that fails is made smaller by leaving out what it does not need.

use crate::rng::{Stream, stream};
use crate::scenario::build::{NodeLoad, Setup};
use crate::work::{Blow, BlowRecord, JobExtra, JobRecord, LoadSeries, NetworkRecord, Weather};
use crate::world::{Finished, World};
use gridcore::bundle::{Bundle, GpuNeed, Needs};
use gridcore::config::{
    AccountSpec, Backfill, Config, Lend, NodeSpec, Order, Policy, PoolSpec, Rules, Strategy,
};
use gridcore::ids::AccountId;
use gridcore::units::{BasisPoints, Bytes, MicroAtp, MilliCores, PerMille, Priority, Span, Time};

/// How long the weather lasts, unless a case says otherwise.
pub const WEATHER: Span = Span::minutes(60);
/// How long a cluster has, once the weather is over, until everything must have settled.
const AFTER: Span = Span::minutes(16 * 60);

/// Which part of a drawn case is played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most nodes.
    pub nodes: usize,
    /// Most jobs.
    pub jobs: usize,
    /// The blows, by their place in the drawn list; `None` is all.
    pub blows: Option<Vec<usize>>,
    /// Whether messages are neither lost, doubled nor overtaken, and clocks are exact.
    pub calm: bool,
    /// Which family of blows may be drawn.
    pub family: Family,
}

/// A family of blows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// All of them.
    All,
    /// Those of the network alone.
    Network,
}

impl Default for Limits {
    fn default() -> Self {
        let (nodes, jobs) = (usize::MAX, usize::MAX);
        Self { nodes, jobs, blows: None, calm: false, family: Family::All }
    }
}

impl Limits {
    /// Returns the command that plays a seed within these limits.
    #[must_use]
    pub fn command(&self, seed: u64) -> String {
        let mut line = format!("gridsim swarm --seeds {seed}..{}", seed + 1);
        let mut add = |text: &str| {
            line.push(' ');
            line.push_str(text);
        };
        if self.nodes < usize::MAX {
            add(&format!("--nodes {}", self.nodes));
        }
        if self.jobs < usize::MAX {
            add(&format!("--work {}", self.jobs));
        }
        if let Some(blows) = &self.blows {
            let list: Vec<String> = blows.iter().map(ToString::to_string).collect();
            let list = if list.is_empty() { "none".to_owned() } else { list.join(",") };
            add(&format!("--blows {list}"));
        }
        if self.calm {
            add("--calm");
        }
        if self.family == Family::Network {
            add("--network");
        }
        line
    }
}

/// A drawn case.
pub struct Case {
    /// The seed.
    pub seed: u64,
    /// What the cluster is.
    pub config: Config,
    /// Its owners' load.
    pub loads: Vec<NodeLoad>,
    /// Its jobs.
    pub jobs: Vec<JobRecord>,
    /// Its weather.
    pub weather: Weather,
}

/// Draws with names.
struct Dice(Stream);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0.below(n)
    }

    fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.0.below(to - from + 1)
    }

    fn small(&mut self, from: u32, to: u32) -> u32 {
        u32::try_from(self.between(from.into(), to.into())).unwrap_or(from)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, things: &[T]) -> Option<T> {
        let index = usize::try_from(self.below(things.len() as u64)).ok()?;
        things.get(index).copied()
    }

    fn seconds(&mut self, from: u64, to: u64) -> Span {
        Span::new(self.between(from * 1_000, to * 1_000))
    }
}

impl Case {
    /// Draws the case of a seed, as far as the limits allow.
    #[must_use]
    pub fn draw(seed: u64, limits: &Limits) -> Self {
        let mut dice = Dice(stream(seed, "swarm", 0));
        // Mostly a handful of nodes, now and then a hundred.
        let most = dice.pick(&[2, 4, 8, 8, 16, 16, 32, 100]).unwrap_or(8);
        let nodes = usize::try_from(dice.between(1, most)).unwrap_or(1).min(limits.nodes);
        let rules = draw_rules(&mut Dice(stream(seed, "swarm rules", 0)));
        let mut config = Config { rules, cluster: seed, network: true, ..Config::default() };
        config.pools.push(PoolSpec { name: "main".to_owned(), quota: None });
        for name in ["ada", "bo", "cy"] {
            let deposit = MicroAtp::whole(2_000_000_000);
            config.accounts.push(AccountSpec { name: name.to_owned(), weight: 1, deposit });
        }
        let mut loads = Vec::new();
        for i in 0..nodes {
            let mut dice = Dice(stream(seed, "swarm node", i as u64));
            let spec = draw_node(&mut dice, i);
            let gentle = config.rules.balance.policy == Policy::Conservative;
            loads.push(draw_load(&mut dice, &spec, gentle));
            config.nodes.push(spec);
        }
        let weather = draw_weather(seed, nodes, limits);
        let count = usize::try_from(dice.between(1, 4 * nodes as u64 + 6)).unwrap_or(1);
        let count = count.min(200).min(limits.jobs);
        let jobs =
            (0..count).map(|i| draw_job(&mut Dice(stream(seed, "swarm job", i as u64)), &config));
        let mut jobs: Vec<JobRecord> = jobs.collect();
        jobs.sort_by_key(|job| job.submit);
        Self { seed, config, loads, jobs, weather }
    }

    /// Plays the case.
    ///
    /// # Panics
    /// When a drawn configuration is refused: our bug.
    #[must_use]
    pub fn play(self) -> Finished {
        let heals = self.weather.network.heals;
        let job_accounts = (0..3).map(AccountId::new).collect();
        let setup = Setup {
            config: self.config,
            jobs: Box::new(self.jobs.into_iter()),
            job_accounts,
            loads: self.loads,
            faults: Vec::new(),
            weather: Some(self.weather),
            horizon: Some(heals.after(AFTER)),
            record: Span::minutes(60),
            seed: self.seed,
            name: "swarm".to_owned(),
            about: String::new(),
        };
        let mut world = match World::new(setup) {
            Ok(world) => world,
            Err(error) => panic!("a drawn configuration is accepted: {error}"),
        };
        world.check_invariants();
        world.run(|_| true)
    }
}

fn draw_rules(dice: &mut Dice) -> Rules {
    let mut rules = Rules::default();
    let places = [
        Strategy::BestFit,
        Strategy::WorstFit,
        Strategy::FirstFit,
        Strategy::Pack,
        Strategy::Random,
        Strategy::LocalFirst,
        Strategy::GpuClustering,
    ];
    rules.scheduling.strategy = dice.pick(&places).unwrap_or(Strategy::BestFit);
    rules.scheduling.order = if dice.one_in(2) { Order::Fair } else { Order::Fifo };
    rules.scheduling.backfill = if dice.one_in(4) { Backfill::Strict } else { Backfill::Greedy };
    rules.scheduling.seed = dice.below(1_000);
    rules.term.0 = dice.pick(&[60, 60, 120, 300, 300]).map_or(Span::minutes(5), Span::seconds);
    rules.preemption.grace = dice.seconds(0, 60);
    rules.preemption.runtime_min = dice.seconds(0, 300);
    rules.preemption.hold = Span::seconds(150);
    rules.offering.kill = dice.pick(&[5, 30, 30, 60]).map_or(Span::seconds(30), Span::seconds);
    rules.offering.busy_latch = dice.seconds(10, 120);
    rules.offering.resume_after = dice.seconds(30, 300);
    rules.offering.suspend_max = dice.seconds(30, 600);
    rules.offering.idle_before_offer = dice.seconds(10, 900);
    rules.offering.lend = if dice.one_in(4) { Lend::Idle } else { Lend::Excess };
    rules.atp.enabled = !dice.one_in(3);
    let policies = [Policy::Conservative, Policy::Balanced, Policy::Aggressive, Policy::Predictive];
    rules.balance.policy = dice.pick(&policies).unwrap_or(Policy::Balanced);
    rules
}

fn draw_node(dice: &mut Dice, i: usize) -> NodeSpec {
    let (cores, gib) = (dice.small(8, 32), dice.small(16, 64));
    let capacity = Bundle {
        cpu: MilliCores::whole(cores),
        memory: Bytes::gib(gib),
        storage: Bytes::gib(500),
        ..Bundle::ZERO
    };
    let mut spec = NodeSpec::dedicated(&format!("n{i}"), capacity);
    let gpus = dice.pick(&[0, 0, 1, 2, 4]).unwrap_or(0);
    spec = spec.with_gpus(gpus, Bytes::gib(24));
    spec.owner = AccountId::new(dice.small(0, 2));
    spec.dedicated = dice.one_in(3);
    spec
}

/// Draws an owner's load; a gentle one has no peak that a policy would keep free for a day.
fn draw_load(dice: &mut Dice, spec: &NodeSpec, gentle: bool) -> NodeLoad {
    let mut series = |busy: u64| {
        let steps = 120;
        let mut now = 0;
        let values = (0..steps).map(|_| {
            if dice.one_in(6) {
                now = if !gentle && dice.one_in(3) {
                    dice.between(60, 100)
                } else {
                    dice.below(busy + 1)
                };
            }
            BasisPoints::percent(u16::try_from(now).unwrap_or(100))
        });
        LoadSeries { name: "owner".into(), step: Span::seconds(30), values: values.collect() }
    };
    if spec.dedicated {
        return NodeLoad::default();
    }
    let (cpu, memory) = (series(30), series(40));
    let gpus = spec.gpus.iter().map(|_| series(10)).collect();
    NodeLoad { cpu, memory, gpus }
}

fn draw_job(dice: &mut Dice, config: &Config) -> JobRecord {
    // It fits a node of the cluster, as far as the rules let it lend.
    let node = dice.pick(&(0..config.nodes.len()).collect::<Vec<_>>()).unwrap_or(0);
    let (cores, gpus) = config.nodes.get(node).map_or((8, 0), |spec| {
        (spec.capacity.cpu.get() / 1_000, u8::try_from(spec.gpus.len()).unwrap_or(0))
    });
    let gpu = gpus > 0 && dice.one_in(2);
    let share = if dice.one_in(3) { 500 } else { 1_000 };
    let gpus = if gpu {
        let count = u8::try_from(dice.between(1, gpus.into())).unwrap_or(1);
        GpuNeed { count, share: PerMille::new(share), memory: Bytes::ZERO }
    } else {
        GpuNeed::NONE
    };
    let cpu = MilliCores::new(dice.between(500, (cores * 400).max(1_000)));
    let needs = Needs { cpu, memory: Bytes::gib(dice.small(0, 4)), gpus, ..Needs::default() };
    let longest = if dice.one_in(4) { 2_400 } else { 600 };
    let run = dice.seconds(5, longest);
    let priorities =
        [Priority::LOW, Priority::MEDIUM, Priority::MEDIUM, Priority::HIGH, Priority::URGENT];
    let extra = JobExtra {
        vacate: dice.one_in(2).then(|| dice.seconds(0, 120)),
        spread: dice.one_in(2),
        ..JobExtra::default()
    };
    let gang = config.nodes.len() >= 3 && !gpu && dice.one_in(6);
    JobRecord {
        account: dice.small(0, 2),
        submit: Time::ZERO.after(dice.seconds(0, WEATHER.get() / 1_000)),
        run,
        limit: dice.one_in(2).then(|| run.saturating_add(dice.seconds(0, 900))),
        priority: dice.pick(&priorities).unwrap_or(Priority::MEDIUM),
        members: if gang { 2 } else { 1 },
        checkpoint: dice.one_in(2).then(|| dice.seconds(0, 120)),
        needs: if gang { Needs { cpu: MilliCores::new(500), ..Needs::default() } } else { needs },
        extra: Some(Box::new(extra)),
        ..JobRecord::default()
    }
}

fn draw_weather(seed: u64, nodes: usize, limits: &Limits) -> Weather {
    let mut dice = Dice(stream(seed, "swarm weather", 0));
    let heals = Time::ZERO.after(WEATHER);
    let mut share = |most: u64| {
        let drawn = if dice.one_in(2) { 0 } else { dice.below(most) };
        u32::try_from(drawn).unwrap_or(0)
    };
    let (lost, doubled, overtaken) = (share(100_000), share(100_000), share(200_000));
    let drift = if dice.one_in(2) { 0 } else { dice.small(0, 20_000) };
    let latency_max = dice.pick(&[0, 5, 50, 500, 3_000]).map_or(Span::ZERO, Span::new);
    let mut network = NetworkRecord {
        latency_min: Span::new(latency_max.get() / 4),
        latency_max,
        lost,
        doubled,
        overtaken,
        drift,
        heals,
    };
    if limits.calm {
        (network.lost, network.doubled, network.overtaken, network.drift) = (0, 0, 0, 0);
    }
    let kinds: Vec<Blow> = match limits.family {
        Family::All => Blow::ALL.to_vec(),
        Family::Network => vec![Blow::Cut, Blow::CutUp, Blow::CutDown, Blow::Stall, Blow::Reset],
    };
    // Every seed has its own climate: which blows fall at all.
    let kinds: Vec<Blow> = kinds.into_iter().filter(|_| dice.one_in(2)).collect();
    let count = if kinds.is_empty() { 0 } else { dice.between(0, 6 + 2 * nodes as u64).min(60) };
    let mut blows: Vec<BlowRecord> = Vec::new();
    for _ in 0..count {
        let at = Time::ZERO.after(dice.seconds(0, WEATHER.get() / 1_000 - 1));
        let long = if dice.one_in(3) { 1_500 } else { 120 };
        let lasts = dice.seconds(0, long).min(heals.since(at));
        let node = dice.small(0, u32::try_from(nodes.max(1) - 1).unwrap_or(0));
        if let Some(blow) = dice.pick(&kinds) {
            blows.push(BlowRecord { at, node, blow, lasts });
        }
    }
    blows.sort_unstable();
    if let Some(kept) = &limits.blows {
        let all = std::mem::take(&mut blows);
        blows = kept.iter().filter_map(|i| all.get(*i).copied()).collect();
    }
    Weather { network, blows }
}

/// What a seed came to.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What must never happen and did.
    pub broken: Vec<String>,
    /// What the weather did.
    pub weather: std::collections::BTreeMap<&'static str, u64>,
    /// How long owners waited.
    pub reclaims: Vec<(Span, Span, bool)>,
    /// Entries of the coordinator.
    pub entries: u64,
    /// Simulated time.
    pub simulated: Span,
    /// Jobs that ended, and of these those that did their work.
    pub jobs: (u64, u64),
    /// The fingerprint of the last state and all rows.
    pub digest: String,
    /// Nodes.
    pub nodes: usize,
}

/// Plays the case of a seed; a panic is a finding.
#[must_use]
pub fn verdict(seed: u64, limits: &Limits) -> Verdict {
    let case = Case::draw(seed, limits);
    let nodes = case.config.nodes.len();
    // A broken promise inside the core is a finding like any other.
    let run = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case.play())) {
        Ok(run) => run,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            let broken = vec![format!("[panic] {}", text.unwrap_or_default())];
            return Verdict { broken, nodes, ..Verdict::default() };
        }
    };
    let completed = run.record.jobs.iter();
    let completed = completed.filter(|job| job.state == crate::record::JobState::Completed).count();
    Verdict {
        weather: run.weather,
        reclaims: run.reclaims,
        entries: run.counts.entries,
        simulated: run.record.end.since(Time::ZERO),
        jobs: (run.counts.ended, completed as u64),
        digest: run.grid.digest().to_string(),
        broken: run.broken,
        nodes,
    }
}

/// Leaves out of a failing case what it does not need to fail; returns the limits of what is left.
#[must_use]
pub fn shrink(seed: u64, limits: &Limits) -> Limits {
    let fails = |limits: &Limits| !verdict(seed, limits).broken.is_empty();
    let mut small = limits.clone();
    let calm = Limits { calm: true, ..small.clone() };
    if fails(&calm) {
        small = calm;
    }
    let drawn = Case::draw(seed, &small);
    for jobs in halves(drawn.jobs.len()) {
        let fewer = Limits { jobs, ..small.clone() };
        if fails(&fewer) {
            small = fewer;
        }
    }
    let all = small.blows.clone();
    let mut blows = all.unwrap_or_else(|| (0..drawn.weather.blows.len()).collect());
    let mut step = blows.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        while at < blows.len() {
            let mut fewer = blows.clone();
            fewer.drain(at..(at + step).min(blows.len()));
            let trial = Limits { blows: Some(fewer.clone()), ..small.clone() };
            if fails(&trial) {
                (blows, small) = (fewer, trial);
            } else {
                at += step;
            }
        }
        if step == 1 {
            return small;
        }
        step = step.div_ceil(2);
    }
}

/// Returns smaller and smaller numbers.
fn halves(from: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(from / 2), |n| (*n > 1).then_some(n / 2))
}
