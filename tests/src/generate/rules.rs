//! Generated rules.

use super::Profile;
use gridcore::bundle::GpuNeed;
use gridcore::config::{
    Backfill, BackfillOrder, Caps, Exhaustion, Karma, Lend, Mode, Order, Policy, Pricing, Rules,
    Strategy as Place, Utilization,
};
use gridcore::units::{BasisPoints, Bytes, MilliCores, PerMille, Ppm, Span};
use proptest::prelude::{Just, Strategy, any, prop_oneof};

/// Returns a step of ageing and when a job starves, either of which may be never.
fn ages(seed: u64) -> (Option<Span>, Option<Span>) {
    let (step, long) = (seed % 4 * 60, seed % 5 * 150);
    let some = |seconds: u64| (seconds > 0).then(|| Span::seconds(seconds));
    (some(step), some(long))
}

/// Returns what `karma` counts by: quanta shorter and longer than most jobs; nothing, a part or all
/// guaranteed; none or some credits to begin with.
fn karma(seed: u64) -> Karma {
    let guaranteed = u32::try_from(seed % 5).unwrap_or(0) * 250_000;
    let (quantum, initial) = (Span::seconds(20 + seed % 7 * 60), seed % 3 * 100);
    Karma { quantum, guaranteed: Ppm::new(guaranteed), initial }
}

/// Returns what is asked of GPUs: warned soon or never, told to leave soon or never.
fn utilization(seed: u64) -> Utilization {
    let warn_after = (!seed.is_multiple_of(4)).then(|| Span::seconds(10 + seed % 5 * 20));
    let reclaim_after = (!seed.is_multiple_of(5)).then(|| Span::seconds(100 + seed % 3 * 100));
    let least = u16::try_from(seed % 3 * 2 + 1).unwrap_or(1);
    Utilization { warn_after, reclaim_after, gpu_min: BasisPoints::percent(least) }
}

/// Returns the least confidence of a start, if any is asked for: with room for owners, or on nodes
/// that have lost nothing.
fn confidence(seed: u64) -> Option<PerMille> {
    let least = [600, 780, 865].get(usize::try_from(seed / 8 % 8).ok()?)?;
    Some(PerMille::new(*least))
}

/// Chooses what becomes of a job that cannot pay.
fn exhaustion(unpaid: bool, pause: bool) -> Exhaustion {
    match (unpaid, pause) {
        (true, _) => Exhaustion::ContinueLow,
        (false, true) => Exhaustion::Pause,
        (false, false) => Exhaustion::Kill,
    }
}

/// Sets what is granted and decays: epochs of seconds to minutes, half-lives so short that the
/// parts of one history differ, nothing granted in a fifth of all. The reference model knows no
/// epochs.
fn epochs(rules: &mut Rules, seed: u64, profile: Profile) {
    let atp = &mut rules.atp;
    let fraction = [0, 1, 100_000, 700_000, 1_000_000][usize::try_from(seed % 5).unwrap_or(0)];
    atp.grant_fraction = Ppm::new(if profile.grants { fraction } else { 0 });
    atp.epoch = Span::seconds(10 + seed / 5 % 6 * 50);
    atp.decay_half_life = (!seed.is_multiple_of(7)).then(|| Span::seconds(60 << (seed % 12)));
    atp.newcomer = !seed.is_multiple_of(3);
}

/// Chooses where a job goes.
fn places() -> impl Strategy<Value = Place> {
    prop_oneof![
        Just(Place::FirstFit),
        Just(Place::BestFit),
        Just(Place::WorstFit),
        Just(Place::Pack),
        Just(Place::DotProduct),
        Just(Place::GpuClustering),
        Just(Place::Random),
        Just(Place::Fgd),
        Just(Place::LocalFirst),
        Just(Place::NearData),
        Just(Place::Headroom),
        Just(Place::Cheapest),
    ]
}

/// Generates the rules.
pub fn rules(profile: Profile) -> impl Strategy<Value = Rules> {
    let most = if profile.reserves { 4_u8 } else { 2 };
    let order = prop_oneof![
        Just(Order::Fair),
        Just(Order::Fifo),
        Just(Order::Drf),
        Just(Order::Karma),
        Just(Order::EarliestDue),
    ];
    let scheduling = (places(), order, 0..most, 0..1_000_u64);
    let money = (any::<bool>(), any::<bool>(), 0..3_u32, 10..300_u64);
    let leave = (0..4_u8, any::<bool>(), 0..3_u64, prop_oneof![Just(0), 5..90_u64]);
    let policies = prop_oneof![
        Just(Policy::Conservative),
        Just(Policy::Balanced),
        Just(Policy::Aggressive),
        Just(Policy::Predictive),
    ];
    let lending = (policies, any::<bool>(), 0..20_u8, 3..6_u64);
    (scheduling, money, leave, lending).prop_map(move |(scheduling, money, leave, lending)| {
        let mut rules = Rules::default();
        rules.scheduling.strategy = scheduling.0;
        rules.scheduling.order = scheduling.1;
        rules.scheduling.backfill = match scheduling.2 {
            0 => Backfill::Strict,
            1 => Backfill::Greedy,
            2 => Backfill::Easy,
            _ => Backfill::Conservative,
        };
        rules.scheduling.seed = scheduling.3;
        rules.scheduling.karma = karma(scheduling.3);
        let sure = confidence(scheduling.3).filter(|_| profile.reserves);
        rules.scheduling.min_confidence = sure.unwrap_or(PerMille::ZERO);
        (rules.scheduling.ageing, rules.scheduling.starvation_after) =
            if profile.reserves { ages(scheduling.3) } else { (None, None) };
        rules.preemption.boost_after = (scheduling.3 % 3 > 0).then_some(1);
        rules.scheduling.backfill_order = match scheduling.3 % 3 {
            0 => BackfillOrder::Shortest,
            1 => BackfillOrder::Smallest,
            _ => BackfillOrder::Queue,
        };
        let cap = u32::try_from(scheduling.3 * 100).ok().filter(|_| profile.reserves);
        rules.caps.urgent_share = cap.map(Ppm::new);
        cap_accounts(&mut rules.caps, scheduling.3, profile);
        rules.scheduling.fgd_classes = classes();
        rules.health.failures = profile.fails.then_some(2);
        (rules.health.soon, rules.health.window) = (Span::minutes(90), Span::minutes(240));
        rules.health.nodes = (profile.fails && scheduling.3 % 2 == 0).then_some(1);
        rules.utilization = utilization(scheduling.3);
        rules.atp.enabled = money.0;
        if profile.reserves && scheduling.3 % 7 < 4 {
            rules.atp.price = Pricing::Dynamic;
        }
        let unpaid = profile.preempts && scheduling.3 % 4 == 1;
        rules.atp.on_exhaustion = exhaustion(unpaid, money.1);
        rules.atp.fee = Ppm::new(money.2 * 50_000);
        rules.atp.rates[1] >>= money.2;
        rules.atp.rates[3] <<= money.2;
        rules.term.0 = Span::seconds(money.3);
        epochs(&mut rules, scheduling.3, profile);
        rules.preemption.enabled = profile.preempts && leave.0 != 0;
        rules.preemption.requeue = leave.1;
        rules.preemption.runtime_min = Span::seconds(leave.2 * 30);
        rules.preemption.per_hour_max = (leave.2 != 1).then_some(3);
        rules.preemption.grace = Span::seconds(leave.3);
        rules.offering.kill = Span::seconds(if leave.3.is_multiple_of(2) { 0 } else { 20 });
        rules.preemption.hold = Span::seconds(leave.3 + 40).max(Span::seconds(120));
        lend(&mut rules, lending);
        rules
    })
}

/// Chooses when nodes lend, and how the cluster balances.
fn lend(rules: &mut Rules, lending: (Policy, bool, u8, u64)) {
    rules.balance.policy = lending.0;
    rules.rebalance.mode = match lending.2 {
        1 => Mode::OffloadOnly,
        2..=5 => Mode::ShareAndOffload,
        _ => Mode::DynamicBalancing,
    };
    rules.balance.high =
        [BasisPoints::percent(if lending.2.is_multiple_of(2) { 80 } else { 50 }); 3];
    rules.rebalance.job_cooldown = Span::seconds(lending.3 * 20);
    rules.offering.lend = if lending.1 { Lend::Excess } else { Lend::Idle };
    rules.offering.idle_before_offer = Span::seconds(120);
    let short = !lending.2.is_multiple_of(3);
    rules.offering.busy_latch = Span::seconds(if short { 30 } else { 120 });
    rules.offering.resume_after = Span::seconds(if short { 40 } else { 300 });
    rules.offering.suspend_max = Span::seconds(if short { 90 } else { 600 });
    rules.offering.enabled = lending.2 != 0;
    let check = if lending.2.is_multiple_of(2) { 60 } else { 20 };
    rules.offering.check_interval = Span::seconds(check);
    rules.offering.offer_expiry = Span::seconds(check * lending.3);
}

/// A few task classes to measure fragmentation against.
fn classes() -> Vec<gridcore::config::TaskClass> {
    let class = |cores, gpus, share, count| gridcore::config::TaskClass {
        cpu: MilliCores::whole(cores),
        gpus: GpuNeed { count: gpus, share: PerMille::new(share), memory: Bytes::ZERO },
        models: Vec::new(),
        count,
    };
    vec![class(1, 1, 300, 40), class(2, 1, 1_000, 30), class(8, 2, 1_000, 10), class(1, 0, 0, 20)]
}

/// Chooses what no account may have more of; nothing in the profile of the simple model.
fn cap_accounts(caps: &mut Caps, dice: u64, profile: Profile) {
    let pick = |choices: [Option<u32>; 4], by: u64| {
        let at = usize::try_from(dice / by % 4).unwrap_or(0);
        choices.get(at).copied().flatten().filter(|_| profile.reserves)
    };
    caps.pool_share = pick([None, Some(500_000), Some(300_000), Some(100_000)], 1).map(Ppm::new);
    caps.leases = pick([None, Some(3), None, Some(2)], 2);
    caps.open_requests = pick([None, Some(4), None, None], 1);
}
