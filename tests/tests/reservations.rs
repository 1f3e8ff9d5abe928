//! What is reserved starts at its time: on machines without owners, whatever else waits, runs and
//! is preempted there.

use gridcore::command::JobSpec;
use gridcore::config::{AccountSpec, Backfill, Config, Order, PoolSpec, Strategy};
use gridcore::deny::Denied;
use gridcore::effect::Effect;
use gridcore::ids::{AccountId, JobId};
use gridcore::units::{MicroAtp, Priority, Span, Time};
use gridsim::draw::Dice;
use gridtests::cluster::{Cluster, cpu_job, plain_rules};
use gridtests::world::{Checks, Work, World};

/// Describes a cluster without owners, and how jobs get past each other there.
fn cluster(dice: &mut Dice<'_>) -> Config {
    let mut rules = plain_rules();
    let behind = [Backfill::Strict, Backfill::Greedy, Backfill::Easy, Backfill::Conservative];
    rules.scheduling.backfill = dice.pick(&behind).unwrap_or(Backfill::Easy);
    rules.scheduling.order = dice.pick(&[Order::Fifo, Order::Fair]).unwrap_or(Order::Fifo);
    let places = [Strategy::BestFit, Strategy::WorstFit, Strategy::Random];
    rules.scheduling.strategy = dice.pick(&places).unwrap_or(Strategy::BestFit);
    rules.scheduling.ageing = dice.one_in(2).then(|| dice.seconds(60, 600));
    rules.preemption.enabled = dice.one_in(2);
    rules.preemption.runtime_min = dice.seconds(0, 120);
    rules.preemption.grace = Span::seconds(dice.below(3) * 10);
    rules.preemption.hold = Span::seconds(120);
    rules.atp.enabled = dice.one_in(2);
    let mut config = Cluster::new().config;
    (config.rules, config.pools, config.accounts) = (rules, Vec::new(), Vec::new());
    config.pools.push(PoolSpec { name: "main".to_owned(), quota: None });
    for name in ["a", "b", "owners"] {
        config.accounts.push(AccountSpec::new(name, MicroAtp::whole(1_000_000_000)));
    }
    let nodes = u32::try_from(dice.between(1, 4)).unwrap_or(1);
    let more = Cluster { config }.dedicated(nodes, 8, 32);
    let mut config = more.config;
    for node in &mut config.nodes {
        node.owner = AccountId::new(2);
    }
    config
}

/// Draws a job that comes at `now`.
fn job(dice: &mut Dice<'_>, now: Time) -> (JobSpec, Work) {
    let mut spec = cpu_job(u32::try_from(dice.between(1, 8)).unwrap_or(1));
    let priorities = [Priority::LOW, Priority::MEDIUM, Priority::HIGH, Priority::URGENT];
    spec.priority = dice.pick(&priorities).unwrap_or(Priority::MEDIUM);
    spec.members = u16::try_from(dice.between(1, 4)).map_or(1, |n| if n == 4 { 2 } else { 1 });
    spec.limit = (!dice.one_in(8)).then(|| dice.seconds(20, 900));
    if dice.one_in(4) {
        spec.begin = Some(now.after(dice.seconds(1, 1_500)));
        spec.reserve = spec.limit.is_some();
    }
    let work = spec.limit.map_or(400, |limit| limit.get() / 1_000 * dice.between(2, 10) / 10);
    (spec, Work::seconds(work.max(1)))
}

#[test]
fn what_is_reserved_starts_at_its_time() {
    let (mut kept, mut refused) = (0_u64, 0_u64);
    for seed in 0..150 {
        let mut dice = Dice::random(seed, "reservations", 0);
        let mut world = World::new(cluster(&mut dice), Checks::Every);
        let mut promised: Vec<(JobId, Time)> = Vec::new();
        for _ in 0..40 {
            let now = world.now;
            let (spec, work) = job(&mut dice, now);
            let account = AccountId::new(dice.small(0, 1));
            match world.submit(account, &spec, work) {
                Ok(id) => promised.extend(spec.begin.filter(|_| spec.reserve).map(|at| (id, at))),
                Err(Denied::NoPlaceThen { soonest }) => {
                    refused += 1;
                    assert!(soonest.is_none_or(|at| Some(at) > spec.begin), "seed {seed}");
                }
                Err(other) => assert!(matches!(other, Denied::NoMatchingNode { .. }), "{other}"),
            }
            world.run_to(now.after(dice.seconds(0, 120)));
        }
        world.run_to(Time::from_ms(20_000_000));
        for (id, begin) in promised {
            let starts = |(at, effect): &(Time, Effect)| {
                matches!(effect, Effect::Granted { job, .. } if *job == id).then_some(*at)
            };
            let first = world.effects.iter().find_map(starts);
            assert_eq!(first, Some(begin), "seed {seed}: {id} was promised {begin}");
            kept += 1;
        }
    }
    println!("reservations: {kept} kept, {refused} refused");
    assert!(kept > 200 && refused > 20, "{kept} kept, {refused} refused");
}
