//! Rebalancing settles: random overloaded clusters whose use stays as it is, through the real core,
//! and beside each what a rule without a guard does there (RULES.md section 7, invariant 39).
//!
//! More: `GRID_CLUSTERS=10000 cargo nextest run -p gridtests settles --no-capture`.

use gridcore::command::{Report, Sample};
use gridcore::config::{AccountSpec, Config, Mode, NodeSpec, Policy, PoolSpec, Rules, Strategy};
use gridcore::effect::{Effect, EvictionReason};
use gridcore::flat::FlatSet;
use gridcore::ids::{AccountId, LeaseId, NodeId};
use gridcore::rebalance::load;
use gridcore::state::State;
use gridcore::units::{BasisPoints, Bytes, MilliCores, Span, Time};
use gridsim::draw::Dice;
use gridtests::cluster::{cpu_job, hardware, plain_rules};
use gridtests::world::{Checks, Work, World};
use std::collections::BTreeSet;

/// When the owners begin to use their machines: by then all they lend is on offer.
const RISE: Time = Time::from_ms(1_500_000);
/// When everything must have settled: nothing moves in the hour before the end.
const SETTLED: Time = Time::from_ms(12_300_000);
/// The end.
const END: Time = Time::from_ms(15_900_000);

/// Describes a cluster of 3 to 12 machines of different sizes.
fn cluster(dice: &mut Dice<'_>) -> Config {
    let mut rules = Rules { ..plain_rules() };
    rules.rebalance.mode = Mode::DynamicBalancing;
    rules.balance.policy = Policy::Aggressive;
    rules.scheduling.strategy = Strategy::Random;
    rules.scheduling.seed = dice.between(0, 1 << 40);
    let mut config = Config { rules, ..Config::default() };
    config.pools.push(PoolSpec { name: "main".to_owned(), quota: None });
    for name in ["lab", "owners"] {
        config.accounts.push(AccountSpec::new(name, Default::default()));
    }
    for i in 0..dice.between(3, 12) {
        let cores = u32::try_from(dice.between(8, 64)).unwrap_or(8);
        let gib = u32::try_from(dice.between(16, 128)).unwrap_or(16);
        let mut spec = NodeSpec::dedicated(&format!("n{i}"), hardware(cores, gib));
        (spec.dedicated, spec.owner) = (false, AccountId::new(1));
        config.nodes.push(spec);
    }
    config
}

/// Fills a cluster with jobs that can move, then lets owners use most of what is left.
fn fill(dice: &mut Dice<'_>) -> World {
    let mut world = World::new(cluster(dice), Checks::Off);
    let nodes: Vec<NodeId> = world.grid.state().nodes.ids().collect();
    for node in &nodes {
        world.report(Report::Sample { node: *node, sample: Sample::default() });
    }
    world.run_to(Time::from_ms(1_400_000));
    for _ in 0..dice.between(4, 12) * nodes.len() as u64 {
        let mut spec = cpu_job(0);
        spec.needs.cpu = MilliCores::new(dice.between(500, 8_000));
        spec.needs.memory = Bytes::gib(u32::try_from(dice.between(1, 12)).unwrap_or(1));
        (spec.checkpoint, spec.refuse_if_busy) = (Some(Span::ZERO), true);
        let _ = world.submit(AccountId::new(0), &spec, Work::seconds(1_000_000));
    }
    world.run_to(RISE);
    for node in nodes {
        let row = &world.grid.state().nodes[node];
        // A third of them use nearly all that is left, the others less.
        let (least, most) = if dice.between(0, 2) == 0 { (85, 100) } else { (0, 70) };
        let [cpu, memory, _] = row.leased_share();
        // No more than leaves the buffer free: nobody has to leave for the owner's sake.
        let mut use_of = |leased: BasisPoints, all: u16| {
            let room = all.saturating_sub(leased.get());
            let percent = dice.between(least, most);
            let used = u64::from(room) * percent / 100;
            BasisPoints::new(u16::try_from(used).unwrap_or(0))
        };
        let (cpu, memory) = (use_of(cpu, 9_900), use_of(memory, 8_900));
        world.report(Report::Sample { node, sample: Sample { cpu, memory, gpus: vec![] } });
    }
    world
}

/// Returns the sum of the squares of all loads.
fn squares(state: &State) -> u128 {
    let loads =
        state.nodes.iter().map(|(_, n)| load(n, &n.leased, state.now, &state.rules.balance));
    loads.map(|load| u128::from(load) * u128::from(load)).sum()
}

/// Returns whether the rule "from the fullest to the emptiest" ends on a cluster: while the fullest
/// node is under high pressure, its largest lease that fits moves to the emptiest.
fn naive_settles(state: &State) -> bool {
    let balance = &state.rules.balance;
    let mut nodes: Vec<_> = state.nodes.iter().map(|(_, node)| node.clone()).collect();
    let mut on: Vec<FlatSet<LeaseId>> = nodes.iter().map(|n| n.leases.clone()).collect();
    let mut seen = BTreeSet::new();
    loop {
        if !seen.insert(on.clone()) {
            return false;
        }
        let loads =
            nodes.iter().enumerate().map(|(i, n)| (load(n, &n.leased, state.now, balance), i));
        let loads: Vec<(u64, usize)> = loads.collect();
        let (Some((most, from)), Some((_, to))) = (loads.iter().max(), loads.iter().min()) else {
            return true;
        };
        let (from, to) = (*from, *to);
        if *most < 800_000 || from == to {
            return true;
        }
        let fits = |id: &&LeaseId| {
            let need = state.lease(**id).needs.bundle();
            nodes[to]
                .leased
                .checked_add(&need)
                .is_some_and(|all| all.fits_in(&nodes[to].spec.capacity))
        };
        let largest = |id: &&LeaseId| state.lease(**id).needs.cpu;
        let Some(lease) = on[from].iter().filter(fits).max_by_key(largest).copied() else {
            return true;
        };
        let need = state.lease(lease).needs.bundle();
        nodes[from].leased.take(&need);
        nodes[to].leased.add(&need);
        on[from].remove(&lease);
        on[to].insert(lease);
    }
}

#[test]
fn every_overloaded_cluster_settles_and_the_naive_rule_does_not() {
    let clusters = std::env::var("GRID_CLUSTERS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let (mut loaded, mut moved, mut most, mut naive) = (0_u64, 0_u64, 0, 0_u64);
    for seed in 0..clusters {
        let mut world = fill(&mut Dice::random(seed, "settles", 0));
        naive += u64::from(!naive_settles(world.grid.state()));
        let before = squares(world.grid.state());
        world.effects.clear();
        world.run_to(END);
        let moves = |effect: &&(Time, Effect)| {
            let reason = EvictionReason::Rebalance;
            matches!(effect.1, Effect::Evicted { reason: why, .. } if why == reason)
        };
        let ours: Vec<Time> = world.effects.iter().filter(moves).map(|(at, _)| *at).collect();
        assert!(ours.iter().all(|at| *at < SETTLED), "seed {seed} moves until {:?}", ours.last());
        let after = squares(world.grid.state());
        assert!(ours.is_empty() || after < before, "seed {seed}: {before} to {after}");
        loaded += u64::from(!ours.is_empty());
        moved += ours.len() as u64;
        most = most.max(ours.len());
    }
    println!("settles: {clusters} clusters, {loaded} with moves, {moved} moves, at most {most}");
    println!("settles: the rule without a guard never ends on {naive}");
    assert!(moved > clusters / 4, "only {moved} moves");
    assert!(naive * 5 > clusters, "the naive rule ended on all but {naive}");
}
