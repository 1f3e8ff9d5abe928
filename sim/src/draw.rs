//! Draws: rules, machines, owners, jobs and blows as functions of a stream of choices.
//!
//! The choices come from a seeded random stream, or from a list of words that somebody else makes:
//! a test that makes failing cases smaller, or a fuzzer. A smaller word is a simpler choice, and
//! where the words have run out every choice is the simplest.

use crate::rng::{Stream, stream};
use crate::scenario::build::NodeLoad;
use crate::work::{Blow, BlowRecord, JobExtra, JobRecord, LoadSeries, NetworkRecord};
use gridcore::bundle::{Bundle, DIMENSIONS, GpuNeed, Needs};
use gridcore::config::{
    Backfill, BackfillOrder, Config, Exhaustion, Hours, Lend, Mode, NodeSpec, Order, Policy,
    Pricing, Rules, Strategy,
};
use gridcore::ids::AccountId;
use gridcore::units::{
    BasisPoints, Bytes, MilliCores, MilliGpus, PerMille, Ppm, Priority, Span, Time,
};

/// How long the weather of a drawn case lasts.
pub const WEATHER: Span = Span::minutes(60);

/// A stream of choices.
pub struct Dice<'a>(Source<'a>);

/// Where choices come from.
enum Source<'a> {
    Random(Stream),
    Words(core::slice::Iter<'a, u32>),
}

impl<'a> Dice<'a> {
    /// Takes choices from the random stream of a purpose.
    #[must_use]
    pub fn random(seed: u64, purpose: &str, index: u64) -> Self {
        Self(Source::Random(stream(seed, purpose, index)))
    }

    /// Takes choices from words.
    #[must_use]
    pub fn words(words: &'a [u32]) -> Self {
        Self(Source::Words(words.iter()))
    }

    /// Chooses a number below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        match &mut self.0 {
            Source::Random(stream) => stream.below(n),
            Source::Words(words) => {
                let word = words.next().copied().unwrap_or(0);
                let product = u128::from(word) * u128::from(n);
                u64::try_from(product >> 32).unwrap_or(0)
            }
        }
    }

    /// Chooses a number from `from` to `to`, both inside.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// Chooses a small number from `from` to `to`, both inside.
    pub fn small(&mut self, from: u32, to: u32) -> u32 {
        u32::try_from(self.between(from.into(), to.into())).unwrap_or(from)
    }

    /// Chooses whether something happens that happens once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.below(n) == n - 1
    }

    /// Chooses one of some things.
    pub fn pick<T: Copy>(&mut self, things: &[T]) -> Option<T> {
        let index = usize::try_from(self.below(things.len() as u64)).ok()?;
        things.get(index).copied()
    }

    /// Chooses a span from `from` to `to` seconds.
    pub fn seconds(&mut self, from: u64, to: u64) -> Span {
        Span::new(self.between(from * 1_000, to * 1_000))
    }
}

/// A confidence that every job has on any node that lends and is heard: half of the part for room,
/// where only the buffer is left, and two thirds of that for freshness.
pub const SURE_AT_LAST: PerMille = PerMille::new(290);

/// Chooses rules.
pub fn rules(dice: &mut Dice<'_>) -> Rules {
    let mut rules = Rules::default();
    let places = [
        Strategy::BestFit,
        Strategy::WorstFit,
        Strategy::FirstFit,
        Strategy::Pack,
        Strategy::Random,
        Strategy::LocalFirst,
        Strategy::NearData,
        Strategy::GpuClustering,
    ];
    rules.scheduling.strategy = dice.pick(&places).unwrap_or(Strategy::BestFit);
    let orders =
        [Order::Fair, Order::Fair, Order::Fifo, Order::Drf, Order::Karma, Order::EarliestDue];
    rules.scheduling.order = dice.pick(&orders).unwrap_or(Order::Fair);
    waiting(&mut rules, dice);
    rules.scheduling.seed = dice.below(1_000);
    // A quarter of the seeds asks for confidence: for what is heard well, or for nodes that keep
    // what they lend, too.
    rules.scheduling.min_confidence = match rules.scheduling.seed / 8 % 8 {
        0 => SURE_AT_LAST,
        1 => PerMille::new(780),
        _ => PerMille::ZERO,
    };
    epochs(&mut rules);
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
    if dice.one_in(6) {
        // Closed for a while within the hour of weather, which begins at midnight.
        let to = u16::try_from(dice.between(1, 40)).unwrap_or(1);
        let closed = u16::try_from(dice.between(1, 15)).unwrap_or(1);
        rules.offering.lend_hours = Some(Hours { from: to + closed, to });
    }
    rules
}

/// Sets what is granted and decays, by the seed of ties: epochs shorter than most terms, half-lives
/// of days, so that nobody runs out of credit by decay alone before the weather is over, and, for a
/// quarter of all, what users have by default or no grants at all.
fn epochs(rules: &mut Rules) {
    let seed = rules.scheduling.seed;
    if seed % 5 < 2 {
        rules.atp.on_exhaustion = Exhaustion::ContinueLow;
    }
    match seed % 8 {
        0 => rules.atp.grant_fraction = Ppm::ZERO,
        1 => {}
        _ => {
            rules.atp.epoch = Span::seconds(20 + seed % 5 * 40);
            rules.atp.grant_fraction = Ppm::new(if seed.is_multiple_of(3) { 700_000 } else { 100 });
            rules.atp.decay_half_life =
                (!seed.is_multiple_of(7)).then(|| Span::seconds(86_400 << (seed % 4)));
            rules.atp.newcomer = !seed.is_multiple_of(11);
        }
    }
}

/// Chooses how running work is balanced: mostly it moves, and often from limits that are soon
/// reached.
pub fn balancing(rules: &mut Rules, dice: &mut Dice<'_>) {
    let modes = [Mode::DynamicBalancing, Mode::DynamicBalancing, Mode::ShareAndOffload];
    rules.rebalance.mode = dice.pick(&modes).unwrap_or(Mode::DynamicBalancing);
    rules.rebalance.interval = dice.seconds(5, 60);
    rules.rebalance.job_cooldown = dice.seconds(30, 300);
    let shares = [None, Some(0), Some(50_000), Some(250_000)];
    rules.caps.urgent_share = dice.pick(&shares).unwrap_or(None).map(Ppm::new);
    let shares = [None, Some(500_000), Some(300_000), Some(100_000)];
    rules.caps.pool_share = dice.pick(&shares).unwrap_or(None).map(Ppm::new);
    rules.caps.leases = dice.pick(&[None, None, Some(2), Some(4)]).unwrap_or(None);
    rules.caps.open_requests = dice.pick(&[None, None, None, Some(20)]).unwrap_or(None);
    rules.caps.requests_per_second = dice.pick(&[None, Some(1), Some(10)]).unwrap_or(None);
    rules.caps.burst = dice.pick(&[1, 5, 100]).unwrap_or(100);
    let high = dice.pick(&[40, 60, 80]).map_or(BasisPoints::percent(80), BasisPoints::percent);
    rules.balance.high = [high; 3];
}

/// Chooses whether prices move, and whether work goes where it costs least.
pub fn pricing(rules: &mut Rules, dice: &mut Dice<'_>) {
    if dice.one_in(2) {
        rules.atp.price = Pricing::Dynamic;
    }
    if dice.one_in(8) {
        rules.scheduling.strategy = Strategy::Cheapest;
    }
}

/// Chooses the highest price that a job pays: most pay any, and some only one that comes when much
/// lies idle.
pub fn price_max(dice: &mut Dice<'_>) -> Option<Ppm> {
    let most = dice.pick(&[300_000, 1_000_000, 1_000_000, 1_020_000, 1_500_000]);
    most.map(Ppm::new).filter(|_| dice.one_in(3))
}

/// Chooses what is asked of GPUs: mostly what jobs may soon fall short of.
pub fn utilization(rules: &mut Rules, dice: &mut Dice<'_>) {
    let spans = [None, Some(20), Some(60), Some(300)].map(|span| span.map(Span::seconds));
    let rules = &mut rules.utilization;
    rules.warn_after = dice.pick(&spans).unwrap_or(None);
    rules.reclaim_after = dice.pick(&spans).unwrap_or(None).map(|after| {
        let warned = rules.warn_after.unwrap_or_default();
        warned.saturating_add(after)
    });
    let least = dice.pick(&[5, 20, 100]).unwrap_or(5);
    rules.gpu_min = BasisPoints::percent(least);
}

/// Chooses what a job uses of its GPUs: every other does not say it.
pub fn gpu_use(dice: &mut Dice<'_>) -> Option<BasisPoints> {
    let part = dice.pick(&[0, 0, 4, 5, 50, 100]).map(BasisPoints::percent);
    part.filter(|_| dice.one_in(2))
}

/// Draws what an account has by right: mostly nothing.
pub fn quota(dice: &mut Dice<'_>) -> Option<Bundle> {
    let some = dice.one_in(4);
    let (cores, gpus) = (dice.between(0, 32), dice.between(0, 8));
    let unlimited = Bundle::from_amounts([u64::MAX; DIMENSIONS]);
    let (cpu, gpu) = (MilliCores::new(cores * 1_000), MilliGpus::new(gpus * 1_000));
    some.then_some(Bundle { cpu, gpu, ..unlimited })
}

/// Draws how jobs get past each other: in half the seeds places are kept and who waits grows older.
fn waiting(rules: &mut Rules, dice: &mut Dice<'_>) {
    if dice.one_in(2) {
        rules.scheduling.backfill =
            if dice.one_in(4) { Backfill::Strict } else { Backfill::Greedy };
        (rules.scheduling.ageing, rules.scheduling.starvation_after) = (None, None);
        rules.preemption.boost_after = None;
        return;
    }
    let behind = [Backfill::Strict, Backfill::Greedy, Backfill::Easy, Backfill::Conservative];
    rules.scheduling.backfill = dice.pick(&behind).unwrap_or(Backfill::Easy);
    let orders = [BackfillOrder::Queue, BackfillOrder::Shortest, BackfillOrder::Smallest];
    rules.scheduling.backfill_order = dice.pick(&orders).unwrap_or(BackfillOrder::Queue);
    let steps = [None, Some(60), Some(300)].map(|step| step.map(Span::seconds));
    rules.scheduling.ageing = dice.pick(&steps).unwrap_or(None);
    rules.scheduling.starvation_after = dice.pick(&steps).unwrap_or(None);
}

/// Chooses the machine of a number.
pub fn node(dice: &mut Dice<'_>, i: usize) -> NodeSpec {
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
    spec.lend_unpaid = dice.one_in(2);
    spec.zone = dice.pick(&["", "east", "west"]).unwrap_or_default().to_owned();
    spec
}

/// Draws an owner's load; a gentle one has no peak that a policy would keep free for a day.
pub fn load(dice: &mut Dice<'_>, spec: &NodeSpec, gentle: bool) -> NodeLoad {
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

/// Returns the most CPU that a job drawn for a node of so many cores needs, in thousandths.
fn cpu_max(cores: u64) -> u64 {
    (cores * 400).max(1_000)
}

/// Returns whether a node has the room that the jobs drawn for it have.
pub fn has_room(node: &NodeSpec, needs: &Needs) -> bool {
    let cores = node.capacity.cpu.get() / 1_000;
    needs.cpu.get() <= cpu_max(cores) && usize::from(needs.gpus.count) <= node.gpus.len()
}

/// Chooses a job that fits some node of a cluster, as far as its owner and the rules let it.
pub fn job(dice: &mut Dice<'_>, config: &Config) -> JobRecord {
    let node = usize::try_from(dice.below(config.nodes.len() as u64)).unwrap_or(0);
    let spec = config.nodes.get(node);
    let (cores, gpus) = spec.map_or((8, 0), |spec| {
        (spec.capacity.cpu.get() / 1_000, u8::try_from(spec.gpus.len()).unwrap_or(0))
    });
    let pool = spec.and_then(|spec| config.pools.get(spec.pool.get() as usize));
    let cpu = MilliCores::new(dice.between(500, cpu_max(cores)));
    let mut needs = Needs { cpu, memory: Bytes::gib(dice.small(0, 4)), ..Needs::default() };
    let longest = if dice.one_in(4) { 2_400 } else { 600 };
    let run = dice.seconds(5, longest);
    let submit = Time::ZERO.after(dice.seconds(0, WEATHER.get() / 1_000));
    let mut members = 1;
    if gpus > 0 && dice.one_in(2) {
        let count = u8::try_from(dice.between(1, gpus.into())).unwrap_or(1);
        let share = PerMille::new(if dice.one_in(3) { 500 } else { 1_000 });
        needs.gpus = GpuNeed { count, share, memory: Bytes::ZERO };
    } else if config.nodes.len() >= 3 && dice.one_in(6) {
        members = 2;
        needs = Needs { cpu: MilliCores::new(500), ..Needs::default() };
    }
    let priorities =
        [Priority::MEDIUM, Priority::MEDIUM, Priority::LOW, Priority::HIGH, Priority::URGENT];
    let accounts = u32::try_from(config.accounts.len().max(1) - 1).unwrap_or(0);
    let late = run.get().is_multiple_of(7);
    JobRecord {
        account: dice.small(0, accounts),
        pool: pool.map(|pool| pool.name.as_str().into()),
        submit,
        run,
        limit: dice.one_in(2).then(|| run.saturating_add(dice.seconds(0, 900))),
        priority: dice.pick(&priorities).unwrap_or(Priority::MEDIUM),
        needs,
        members,
        checkpoint: dice.one_in(2).then(|| dice.seconds(0, 120)),
        array: 0,
        extra: Some(Box::new(JobExtra {
            vacate: dice.one_in(2).then(|| dice.seconds(0, 120)),
            movable: run.get().is_multiple_of(2),
            elastic: if members == 1 && run.get().is_multiple_of(5) {
                cpu
            } else {
                MilliCores::ZERO
            },
            begin: late.then(|| submit.after(Span::new(run.get() % 900_000))),
            reserve: late && run.get().is_multiple_of(3),
            spread: members > 1 && dice.one_in(2),
            ignores_notice: dice.one_in(6),
            fails: dice.one_in(10),
            cancel: dice.one_in(10).then(|| dice.seconds(0, 600)),
            ..JobExtra::default()
        })),
        ..JobRecord::default()
    }
}

/// Chooses how messages travel until `heals`.
pub fn network(dice: &mut Dice<'_>, heals: Time) -> NetworkRecord {
    let mut share = |most: u64| {
        let drawn = if dice.one_in(2) { dice.below(most) } else { 0 };
        u32::try_from(drawn).unwrap_or(0)
    };
    let (lost, doubled, overtaken) = (share(100_000), share(200_000), share(300_000));
    let drift = if dice.one_in(2) { dice.small(0, 20_000) } else { 0 };
    let latency_max = dice.pick(&[0, 5, 50, 500, 3_000]).map_or(Span::ZERO, Span::new);
    let latency_min = Span::new(latency_max.get() / 4);
    NetworkRecord { latency_min, latency_max, lost, doubled, overtaken, drift, heals }
}

/// Chooses a blow of some kinds on one of so many nodes; all are over when the weather is.
pub fn blow(dice: &mut Dice<'_>, kinds: &[Blow], nodes: usize) -> Option<BlowRecord> {
    let at = Time::ZERO.after(dice.seconds(0, WEATHER.get() / 1_000 - 1));
    let long = dice.pick(&[10, 120, 1_500]).unwrap_or(10);
    let lasts = dice.seconds(0, long).min(Time::ZERO.after(WEATHER).since(at));
    let node = dice.small(0, u32::try_from(nodes.max(1) - 1).unwrap_or(0));
    Some(BlowRecord { at, node, blow: dice.pick(kinds)?, lasts })
}
