//! Who starves has its turn: on random clusters that are asked for more than they have, by the
//! bound that its place promises, however many come after it (RULES.md section 5, invariant 28).
//!
//! More: `GRID_CLUSTERS=10000 cargo nextest run -p gridtests starv --no-capture`.

use gridcore::config::{Backfill, BackfillOrder, Config, Order};
use gridcore::effect::Effect;
use gridcore::ids::{AccountId, JobId, PoolId};
use gridcore::jobs::{Ahead, STARVING};
use gridcore::shadow::Shadow;
use gridcore::state::State;
use gridcore::units::{Priority, Span, Time};
use gridsim::draw::Dice;
use gridtests::cluster::{Cluster, cpu_job};
use gridtests::world::{Checks, Work, World};
use std::collections::BTreeMap;

/// The pool of all nodes.
const POOL: PoolId = PoolId::new(0);
/// How long jobs come.
const BUSY: u64 = 3_000;

/// Describes one to four machines of two to eight cores, where jobs starve soon.
fn cluster(dice: &mut Dice<'_>) -> Config {
    let fills = [Backfill::Strict, Backfill::Greedy, Backfill::Easy, Backfill::Conservative];
    let behind = [BackfillOrder::Queue, BackfillOrder::Shortest, BackfillOrder::Smallest];
    let long = Span::seconds(dice.between(60, 400));
    let mut cluster = Cluster::new().account("other", 0).rules(|rules| {
        let scheduling = &mut rules.scheduling;
        scheduling.backfill = dice.pick(&fills).unwrap_or(Backfill::Greedy);
        scheduling.backfill_order = dice.pick(&behind).unwrap_or(BackfillOrder::Queue);
        scheduling.order = dice.pick(&[Order::Fifo, Order::Fair]).unwrap_or(Order::Fifo);
        scheduling.ageing = dice.one_in(2).then_some(Span::seconds(90));
        scheduling.starvation_after = Some(long);
    });
    for _ in 0..dice.between(1, 4) {
        let cores = u32::try_from(dice.between(2, 8)).unwrap_or(2);
        cluster = cluster.dedicated(1, cores, 64);
    }
    cluster.config
}

/// Submits one job that ends by its limit or before.
fn submit(world: &mut World, dice: &mut Dice<'_>) {
    // Most are small and high, and would always find room first.
    let big = dice.one_in(6);
    let mut spec = cpu_job(u32::try_from(dice.between(1, if big { 8 } else { 2 })).unwrap_or(1));
    spec.priority = if big { Priority::LOW } else { Priority::HIGH };
    spec.members = if dice.one_in(5) { 2 } else { 1 };
    spec.spread = dice.one_in(2);
    let limit = dice.between(10, 300);
    spec.limit = Some(Span::seconds(limit));
    let account = AccountId::new(u32::from(dice.one_in(3)));
    // What nowhere fits is refused.
    let _ = world.submit(account, &spec, Work::seconds(dice.between(1, limit)));
}

/// Returns the job that starves and is the first in the queue, and by when it can start if nothing
/// else starts before; none that needs more than three quarters of all.
fn first_starving(state: &State) -> Option<(JobId, Time)> {
    let first = state.queue.ranks(POOL).next().filter(|rank| rank.class() == STARVING)?;
    let (job, all) = (state.job(first.head), state.pools[POOL].capacity);
    let needs = state.shapes[job.shape].total();
    let ahead = Ahead { begin: state.now, ..Ahead::default() };
    let (at, _) = Shadow::default().keep_ahead(state, job, &ahead)?;
    (needs.cpu.get() <= all.cpu.get() / 4 * 3).then_some((job.id, at))
}

#[test]
fn who_starves_starts_by_the_time_that_its_place_promises() {
    let clusters = std::env::var("GRID_CLUSTERS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let (mut starved, mut passed, mut entries) = (0_u64, 0_u64, 0_u64);
    for seed in 0..clusters {
        let mut dice = Dice::random(seed, "starving", 0);
        let mut world = World::new(cluster(&mut dice), Checks::Every);
        let mut due: BTreeMap<JobId, Time> = BTreeMap::new();
        let mut seen = 0;
        for second in (0..BUSY * 2).step_by(10) {
            world.run_to(Time::from_ms(second * 1_000));
            if second < BUSY && dice.one_in(2) {
                submit(&mut world, &mut dice);
            }
            for (at, effect) in world.effects.iter().skip(seen) {
                let Effect::Granted { job, .. } = effect else { continue };
                match due.remove(job) {
                    Some(by) => {
                        assert!(*at <= by, "seed {seed}: {job} starts at {at}, promised {by}");
                    }
                    None => passed += u64::from(!due.is_empty()),
                }
            }
            seen = world.effects.len();
            if let Some((job, at)) = first_starving(world.grid.state()) {
                due.entry(job).or_insert_with(|| {
                    starved += 1;
                    at
                });
            }
        }
        entries += world.entries.len() as u64;
        let late: Vec<_> = due.iter().filter(|(_, by)| **by < world.now).collect();
        assert!(late.is_empty(), "seed {seed}: {late:?} have not started");
    }
    println!("{starved} jobs starved on {clusters} clusters; {passed} started beside the places");
    assert!(starved >= 3 * clusters && passed >= 5 * clusters, "{starved} {passed}");
    gridtests::run::record("properties", "starving", clusters, entries);
}
