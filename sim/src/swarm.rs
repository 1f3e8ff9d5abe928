//! Random clusters, workloads, weather and rules, one of each for a seed.
//!
//! [`Case::draw`] makes a case from a seed; [`Case::play`] runs it through both halves with every
//! invariant checked after every entry, lets the weather end, and checks that everything settles.
//! A case that fails is made smaller by leaving out what it does not need.

use crate::draw::{self, Dice, WEATHER};
use crate::record::JobState;
use crate::scenario::build::{NodeLoad, Setup};
use crate::work::{Blow, BlowRecord, JobExtra, JobRecord, Weather};
use crate::world::{Finished, World};
use gridcore::config::{AccountSpec, Config, NodeSpec, Policy, PoolSpec, Rules};
use gridcore::ids::AccountId;
use gridcore::units::{MicroAtp, Span, Time};

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

impl Case {
    /// Draws the case of a seed, as far as the limits allow.
    #[must_use]
    pub fn draw(seed: u64, limits: &Limits) -> Self {
        let mut dice = Dice::random(seed, "swarm", 0);
        // Mostly a handful of nodes, now and then a hundred.
        let most = dice.pick(&[2, 4, 8, 8, 16, 16, 32, 100]).unwrap_or(8);
        let nodes = usize::try_from(dice.between(1, most)).unwrap_or(1).min(limits.nodes);
        let mut rules = draw::rules(&mut Dice::random(seed, "swarm rules", 0));
        draw::balancing(&mut rules, &mut Dice::random(seed, "swarm balance", 0));
        draw::utilization(&mut rules, &mut Dice::random(seed, "swarm utilization", 0));
        draw::pricing(&mut rules, &mut Dice::random(seed, "swarm price", 0));
        let mut config = Config { rules, cluster: seed, network: true, ..Config::default() };
        config.pools.push(PoolSpec { name: "main".to_owned(), quota: None });
        for name in ["ada", "bo", "cy"] {
            let deposit = MicroAtp::whole(2_000_000_000);
            let mut spec = AccountSpec::new(name, deposit);
            spec.quota = draw::quota(&mut Dice::random(seed, name, 0));
            config.accounts.push(spec);
        }
        let mut loads = Vec::new();
        for i in 0..nodes {
            let mut dice = Dice::random(seed, "swarm node", i as u64);
            let spec = draw::node(&mut dice, i);
            let gentle = config.rules.balance.policy == Policy::Conservative;
            loads.push(draw::load(&mut dice, &spec, gentle));
            config.nodes.push(spec);
        }
        let mut weather = draw_weather(seed, nodes, limits);
        // Where more is asked for, what was lost in the weather may keep jobs for days.
        weather.all_end = config.rules.scheduling.min_confidence <= draw::SURE_AT_LAST;
        let count = usize::try_from(dice.between(1, 4 * nodes as u64 + 6)).unwrap_or(1);
        let count = count.min(200).min(limits.jobs);
        let jobs =
            (0..count).map(|i| draw::job(&mut Dice::random(seed, "swarm job", i as u64), &config));
        let mut jobs: Vec<JobRecord> = jobs.collect();
        jobs.sort_by_key(|job| job.submit);
        draw_dependencies(seed, &mut jobs);
        draw_company(seed, &config.nodes, &mut jobs);
        draw_use(seed, &mut jobs);
        draw_prices(seed, &config.rules, &mut jobs);
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

/// Lets some jobs wait for others; who waits in vain is taken back in the end.
fn draw_dependencies(seed: u64, jobs: &mut [JobRecord]) {
    let mut dice = Dice::random(seed, "swarm dependencies", 0);
    for (i, job) in (0..).zip(jobs) {
        job.name = format!("j{i}").into();
        if i > 0 && dice.one_in(6) {
            let extra = job.extra.get_or_insert_default();
            extra.after = (0..dice.between(1, 2)).map(|_| format!("j{}", dice.below(i))).collect();
            extra.cancel = Some(dice.seconds(1_200, 2_400));
        }
    }
}

/// Lets some jobs want to be near others, or away from them.
fn draw_company(seed: u64, nodes: &[NodeSpec], jobs: &mut [JobRecord]) {
    let mut dice = Dice::random(seed, "swarm company", 0);
    if dice.one_in(2) {
        return;
    }
    for job in jobs {
        let mut words = |n: u64| -> Vec<String> {
            let word = if dice.one_in(2) { "store" } else { "web" };
            dice.one_in(n).then(|| word.to_owned()).into_iter().collect()
        };
        let (mut tags, affinity, anti_affinity) = (words(3), words(8), words(6));
        // Who waits for company is some himself, or nobody might ever come.
        tags.extend(
            affinity.iter().filter(|word| !tags.contains(word)).cloned().collect::<Vec<_>>(),
        );
        let excluded = nodes.get(usize::try_from(dice.below(nodes.len() as u64)).unwrap_or(0));
        let excluded = excluded.filter(|_| nodes.len() > 2 && dice.one_in(8));
        // Elsewhere there is as much room for it as draws leave.
        let room = |out: &NodeSpec| {
            let others = nodes.iter().filter(|node| node.name != out.name);
            others.into_iter().any(|node| draw::has_room(node, &job.needs))
        };
        let excluded = excluded.filter(|node| room(node));
        let excluded = excluded.map(|node| node.name.clone()).into_iter().collect();
        let near = dice.pick(&["n0", "n1", "east"]).filter(|_| dice.one_in(2));
        let near = near.map(str::to_owned);
        let extra = *job.extra.take().unwrap_or_default();
        let extra = JobExtra { tags, affinity, anti_affinity, excluded, near, ..extra };
        job.extra = Some(Box::new(extra));
    }
}

/// Lets some jobs say what they use of their GPUs, in half the seeds.
fn draw_use(seed: u64, jobs: &mut [JobRecord]) {
    let mut dice = Dice::random(seed, "swarm use", 0);
    if dice.one_in(2) {
        return;
    }
    for job in jobs.iter_mut().filter(|job| job.needs.gpus.count > 0) {
        job.extra.get_or_insert_default().gpu_use = draw::gpu_use(&mut dice);
    }
}

/// Lets some jobs pay no more than so much, where prices move.
fn draw_prices(seed: u64, rules: &Rules, jobs: &mut [JobRecord]) {
    let mut dice = Dice::random(seed, "swarm highest price", 0);
    for job in jobs.iter_mut().filter(|_| rules.atp.is_dynamic()) {
        job.extra.get_or_insert_default().price_max = draw::price_max(&mut dice);
    }
}

fn draw_weather(seed: u64, nodes: usize, limits: &Limits) -> Weather {
    let mut dice = Dice::random(seed, "swarm weather", 0);
    let mut network = draw::network(&mut dice, Time::ZERO.after(WEATHER));
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
    let blows = (0..count).filter_map(|_| draw::blow(&mut dice, &kinds, nodes));
    let mut blows: Vec<BlowRecord> = blows.collect();
    // Kills that do not work are only seen where something is killed.
    let stuck = blows.iter().filter(|blow| blow.blow == Blow::Stuck);
    let killed = stuck.map(|blow| {
        let at = blow.at.after(Span::seconds(1));
        BlowRecord { at, blow: Blow::OwnerReclaimNow, ..*blow }
    });
    let killed: Vec<BlowRecord> = killed.collect();
    // A hello that was answered before a crash is only heard after it where lines have just broken.
    let crashes = blows.iter().filter(|blow| blow.blow == Blow::CoordinatorCrash);
    let broken = crashes.flat_map(|crash| {
        let at = crash.at.before(Span::seconds(20));
        let lines = 0..u32::try_from(nodes.min(8)).unwrap_or(8);
        lines.map(move |node| BlowRecord { at, node, blow: Blow::Reset, lasts: Span::ZERO })
    });
    let broken: Vec<BlowRecord> = broken.collect();
    blows.extend(killed.into_iter().chain(broken));
    blows.sort_unstable();
    if let Some(kept) = &limits.blows {
        let all = std::mem::take(&mut blows);
        blows = kept.iter().filter_map(|i| all.get(*i).copied()).collect();
    }
    Weather { network, blows, all_end: false }
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

impl Verdict {
    /// Plays something on so many nodes. A panic is a finding like any other.
    #[must_use]
    pub fn of(nodes: usize, play: impl FnOnce() -> Finished) -> Self {
        let run = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(play)) {
            Ok(run) => run,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                let broken = vec![format!("[panic] {}", text.unwrap_or_default())];
                return Self { broken, nodes, ..Self::default() };
            }
        };
        let completed = run.record.jobs.iter().filter(|job| job.state == JobState::Completed);
        Self {
            weather: run.weather,
            reclaims: run.reclaims,
            entries: run.counts.entries,
            simulated: run.record.end.since(Time::ZERO),
            jobs: (run.counts.ended, completed.count() as u64),
            digest: run.grid.digest().to_string(),
            broken: run.broken,
            nodes,
        }
    }
}

/// Plays the case of a seed.
#[must_use]
pub fn verdict(seed: u64, limits: &Limits) -> Verdict {
    let case = Case::draw(seed, limits);
    Verdict::of(case.config.nodes.len(), || case.play())
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
