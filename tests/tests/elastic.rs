//! Elastic leases: nobody waits for what they have beside their needs, and they pay for what they
//! had.

use gridcore::bundle::Needs;
use gridcore::command::JobSpec;
use gridcore::config::{AccountSpec, Config, PoolSpec};
use gridcore::effect::Effect;
use gridcore::ids::{AccountId, LeaseId};
use gridcore::price::Prices;
use gridcore::tariff::{Tariff, cost};
use gridcore::units::{Band, Bytes, MicroAtp, MilliCores, Span, Time};
use gridcore::wire::Order;
use gridsim::draw::Dice;
use gridtests::cluster::{Cluster, cpu_job, plain_rules};
use gridtests::generate::{Case, Op, Profile, case};
use gridtests::run::property;
use gridtests::world::{Checks, Work, World};
use proptest::test_runner::TestCaseError;
use std::collections::BTreeMap;

/// Returns what became of the jobs, without what anybody had beside his needs.
fn fates(world: &World) -> Vec<(Time, Effect)> {
    let told = |(_, effect): &&(Time, Effect)| {
        let beside = matches!(effect, Effect::Resized { .. } | Effect::Order { .. });
        !beside && !matches!(effect, Effect::Moved(_) | Effect::Send { .. })
    };
    world.effects.iter().filter(told).cloned().collect()
}

/// Lets the jobs of a case that `are` so have nothing beside their needs.
fn set_extra(case: &mut Case, are: impl Fn(&JobSpec) -> bool) {
    for spec in case.ops.iter_mut().filter_map(Op::spec_mut).filter(|spec| are(spec)) {
        spec.extra = MilliCores::ZERO;
    }
}

#[test]
fn what_elastic_jobs_have_beside_their_needs_keeps_nobody_waiting() {
    let name = "what_elastic_jobs_have_beside_their_needs_keeps_nobody_waiting";
    property(name, 200, &case(Profile::ALL), |mut case: Case, counts| {
        case.config.rules.atp.enabled = false;
        case.ops.retain(|op| !matches!(op, Op::Configure(_)));
        // What may not be elastic is refused.
        set_extra(&mut case, |spec| spec.members != 1 || spec.needs.cpu.is_zero());
        let elastic = case.play(Checks::Every);
        set_extra(&mut case, |_| true);
        let plain = case.play(Checks::Off);
        let (one, other) = (fates(&elastic), fates(&plain));
        let differs = one.iter().zip(&other).find(|(one, other)| one != other);
        if differs.is_some() || one.len() != other.len() {
            return Err(TestCaseError::fail(format!("{differs:?}")));
        }
        counts.case(elastic.entries.len());
        Ok(())
    });
}

/// All the CPU that a lease had: since when how much.
type Sizes = Vec<(Time, MilliCores)>;

/// Returns what a lease of these sizes costs to the last micro-ATP, were it one term.
fn exact(needs: &Needs, sizes: &Sizes, ends: Time, rates: &[u64; 12]) -> u64 {
    let began = sizes.first().map_or(ends, |(at, _)| *at);
    let mut integral = 0_u128;
    for (i, (at, cpu)) in sizes.iter().enumerate() {
        let until = sizes.get(i + 1).map_or(ends, |(at, _)| *at);
        integral += u128::from(cpu.get()) * u128::from(until.since(*at).get());
    }
    let rest = Needs { cpu: MilliCores::ZERO, ..*needs };
    let tariff = Tariff { rates, prices: &Prices::STATIC, band: Band::Medium };
    let rest = cost(&rest, ends.since(began), tariff).get();
    let cpu = (integral * 1_000_000).div_ceil(u128::from(rates[0]));
    rest + u64::try_from(cpu).unwrap_or(u64::MAX)
}

/// Describes one machine whose owner runs nothing himself.
fn one_machine(dice: &mut Dice<'_>) -> Config {
    let mut config = Cluster::new().config;
    (config.rules, config.pools, config.accounts) = (plain_rules(), Vec::new(), Vec::new());
    (config.rules.atp.enabled, config.rules.term.0) = (true, dice.seconds(10, 300));
    config.pools.push(PoolSpec { name: "main".to_owned(), quota: None });
    for name in ["a", "b", "owner"] {
        config.accounts.push(AccountSpec::new(name, MicroAtp::whole(100_000_000)));
    }
    let mut config = Cluster { config }.dedicated(1, 16, 64).config;
    config.nodes[0].owner = AccountId::new(2);
    config
}

#[test]
fn an_elastic_lease_pays_for_what_it_had() {
    let (mut leases, mut changes) = (0_u64, 0_usize);
    for seed in 0..100 {
        let mut dice = Dice::random(seed, "elastic", 0);
        let config = one_machine(&mut dice);
        let (rates, term) = (config.rules.atp.rates, config.rules.term.0.get());
        let mut world = World::new(config, Checks::Every);
        let mut jobs: BTreeMap<_, JobSpec> = BTreeMap::new();
        for _ in 0..30 {
            let mut spec = cpu_job(dice.small(1, 6));
            spec.needs.memory = Bytes::gib(dice.small(0, 4));
            spec.extra = MilliCores::new(dice.below(3) * dice.between(0, 5_000));
            let work = Work::seconds(dice.between(1, 1_500));
            let account = AccountId::new(dice.small(0, 1));
            if let Ok(id) = world.submit(account, &spec, work) {
                jobs.insert(id, spec);
            }
            world.run_to(world.now.after(dice.seconds(0, 200)));
        }
        world.run_to(world.now.after(Span::seconds(100_000)));
        let mut open: BTreeMap<LeaseId, Sizes> = BTreeMap::new();
        for (at, effect) in &world.effects {
            if let Effect::Order { order: Order::Start(start), .. } = effect {
                open.insert(start.lease, vec![(*at, start.needs.cpu)]);
            }
            if let Effect::Resized { lease, cpu } = effect {
                open.entry(*lease).or_default().push((*at, *cpu));
            }
            if let Effect::Closed(end) = effect {
                let sizes = open.remove(&end.lease).unwrap_or_default();
                let least = exact(&jobs[&end.job].needs, &sizes, *at, &rates);
                let ran = sizes.first().map_or(0, |(from, _)| at.since(*from).get());
                // A ceiling for each of two resources in each term.
                let most = least + 2 * (ran / term + 1);
                let paid = end.settled.get();
                let fair = (least..=most).contains(&paid);
                assert!(fair, "seed {seed}: {paid} paid, {least} to {most} due: {sizes:?}");
                (leases, changes) = (leases + 1, changes + sizes.len() - 1);
            }
        }
    }
    println!("elastic: {leases} leases, {changes} changes of size");
    assert!(leases > 2_000 && changes > 1_000, "{leases} leases, {changes} changes");
}
