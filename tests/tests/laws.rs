//! Laws over generated histories: invariants, replay, snapshots, the index, order of samples,
//! money.

use gridcore::command::{Command, Entry, Report};
use gridcore::config::{Backfill, Order};
use gridcore::decode::from_bytes;
use gridcore::effect::{Effect, Party};
use gridcore::explain::{Blocker, explain};
use gridcore::grid::Grid;
use gridcore::ids::{AccountId, Seq};
use gridcore::snapshot::Snapshot;
use gridcore::state::State;
use gridcore::units::{PerMille, Time};
use gridtests::anew::decides_the_same;
use gridtests::generate::{Case, Profile, case, sample};
use gridtests::run::property;
use gridtests::world::{Checks, World};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::test_runner::TestCaseError;
use proptest::{prop_assert, prop_assert_eq};
use std::cell::Cell;
use std::collections::BTreeMap;

/// Builds the core of a case anew.
fn fresh(case: &Case) -> Grid {
    match Grid::new(case.config.clone(), Time::ZERO) {
        Ok(grid) => grid,
        Err(error) => panic!("a generated configuration is accepted: {error}"),
    }
}

/// Reads a snapshot back.
fn restored(snapshot: &Snapshot) -> Grid {
    match Grid::restore(snapshot) {
        Ok(grid) => grid,
        Err(error) => panic!("a snapshot is readable: {error}"),
    }
}

/// Applies entries and returns everything that followed.
fn fold(grid: &mut Grid, entries: &[Entry<Command>]) -> Vec<Effect> {
    let mut effects = Vec::new();
    for entry in entries {
        let _ = grid.apply(entry, &mut effects);
    }
    effects
}

fn followed(world: &World) -> Vec<Effect> {
    world.effects.iter().map(|(_, effect)| effect.clone()).collect()
}

#[test]
fn every_invariant_holds_after_every_entry() {
    property(
        "every_invariant_holds_after_every_entry",
        600,
        &case(Profile::ALL),
        |case, counts| {
            let world = case.play(Checks::Every);
            counts.case(world.entries.len());
            Ok(())
        },
    );
}

#[test]
fn a_replay_of_the_entries_ends_in_the_same_state() {
    let name = "a_replay_of_the_entries_ends_in_the_same_state";
    property(name, 300, &case(Profile::ALL), |case, counts| {
        let world = case.play(Checks::Off);
        let mut again = fresh(&case);
        let effects = fold(&mut again, &world.entries);
        prop_assert_eq!(again.digest(), world.grid.digest());
        prop_assert_eq!(effects, followed(&world));
        counts.case(world.entries.len());
        Ok(())
    });
}

#[test]
fn a_snapshot_at_any_point_goes_on_as_the_original() {
    let name = "a_snapshot_at_any_point_goes_on_as_the_original";
    property(name, 300, &(case(Profile::ALL), any::<u16>()), |(case, at), counts| {
        let world = case.play(Checks::Off);
        let at = usize::from(at) % (world.entries.len() + 1);
        let (head, tail) = world.entries.split_at(at);
        let mut grid = fresh(&case);
        let mut effects = fold(&mut grid, head);
        let snapshot = grid.snapshot();
        let mut other = restored(&snapshot);
        prop_assert_eq!(other.snapshot(), snapshot);
        prop_assert_eq!(other.digest(), grid.digest());
        effects.extend(fold(&mut other, tail));
        prop_assert_eq!(other.digest(), world.grid.digest());
        prop_assert_eq!(effects, followed(&world));
        counts.case(world.entries.len());
        Ok(())
    });
}

#[test]
fn an_index_built_anew_before_every_entry_decides_the_same() {
    let name = "an_index_built_anew_before_every_entry_decides_the_same";
    property(name, 600, &case(Profile::ALL), |case, counts| {
        decides_the_same_anew(&case)?;
        // The same again where most passes are left out, because a start moves nobody else.
        let mut still = case.clone();
        let rules = &mut still.config.rules;
        (rules.atp.enabled, rules.preemption.enabled) = (false, false);
        let scheduling = &mut rules.scheduling;
        (scheduling.order, scheduling.backfill) = (Order::Fifo, Backfill::Easy);
        (scheduling.ageing, scheduling.starvation_after) = (None, None);
        counts.case(decides_the_same_anew(&still)?);
        // And where confidence is asked for: it changes without anything being said.
        let mut asking = case;
        asking.config.rules.scheduling.min_confidence = PerMille::new(860);
        counts.case(decides_the_same_anew(&asking)?);
        Ok(())
    });
}

/// Plays a case, and again with an index built anew before every entry; returns how many entries
/// there are.
fn decides_the_same_anew(case: &Case) -> Result<usize, TestCaseError> {
    let world = case.play(Checks::Off);
    decides_the_same(&case.config, &world).map_err(TestCaseError::fail)?;
    Ok(world.entries.len())
}

#[test]
fn every_start_has_the_confidence_that_is_asked_for() {
    let name = "every_start_has_the_confidence_that_is_asked_for";
    let (sure, doubted) = (Cell::new(0_u64), Cell::new(0_u64));
    property(name, 800, &case(Profile::ALL), |mut case, counts| {
        // Where a case asks for none, much is asked for.
        let least = &mut case.config.rules.scheduling.min_confidence;
        *least = if least.is_zero() { PerMille::new(860) } else { *least };
        let world = case.play(Checks::Off);
        let mut grid = fresh(&case);
        for entry in &world.entries {
            let asked = |grid: &Grid| grid.state().rules.scheduling.min_confidence;
            let (before, mut effects) = (asked(&grid), Vec::new());
            let _ = grid.apply(entry, &mut effects);
            // What was due by then went by the rules before.
            let least = before.min(asked(&grid));
            for effect in effects {
                let Effect::Granted { job, confidence: c, .. } = effect else { continue };
                let parts = [c.head_room, c.freshness, c.reputation, c.stay];
                prop_assert!(parts.iter().all(|part| part.get() <= 250), "{c:?}");
                let sum: u16 = parts.iter().map(|part| part.get()).sum();
                prop_assert_eq!(sum, c.total().get());
                prop_assert!(c.total() >= least, "{job} starts with {c:?} of {least:?}");
                sure.set(sure.get() + u64::from(!least.is_zero()));
            }
            let jobs = if asked(&grid).is_zero() { None } else { Some(grid.state().jobs.keys()) };
            let why = jobs.into_iter().flatten().filter_map(|id| explain(grid.state(), id));
            let low = |b: &Blocker| matches!(b, Blocker::LowConfidence { .. });
            let waits = why.filter(|why| why.blockers.iter().any(low)).count();
            doubted.set(doubted.get() + waits as u64);
        }
        counts.case(world.entries.len());
        Ok(())
    });
    assert!(sure.get() > 100 && doubted.get() > 100, "{sure:?} sure, {doubted:?} doubted");
}

#[test]
fn the_order_of_samples_at_one_instant_does_not_matter() {
    let name = "the_order_of_samples_at_one_instant_does_not_matter";
    let samples = vec(sample(), 2..9);
    property(name, 300, &(case(Profile::ALL), samples), |(case, samples), counts| {
        let world = case.play(Checks::Off);
        let nodes: Vec<_> = world.grid.state().nodes.ids().collect();
        let reports: Vec<_> = nodes.into_iter().zip(samples).collect();
        let told = |order: Vec<_>| {
            let mut world = world.clone();
            for (node, sample) in order {
                world.report(Report::Sample { node, sample });
            }
            let digest = world.grid.digest();
            world.run_to(world.now);
            (digest, world.grid.digest(), followed(&world))
        };
        let there = told(reports.clone());
        let back = told(reports.into_iter().rev().collect());
        prop_assert_eq!(there, back);
        counts.case(world.entries.len());
        Ok(())
    });
}

#[test]
fn a_higher_sample_never_gives_a_larger_offer() {
    let name = "a_higher_sample_never_gives_a_larger_offer";
    let pair = (sample(), sample(), any::<u16>());
    property(name, 500, &(case(Profile::ALL), pair), |(case, (low, high, n)), counts| {
        let world = case.play(Checks::Off);
        let state = world.grid.state();
        let node = gridcore::ids::NodeId::new(
            u32::from(n) % u32::try_from(state.nodes.len()).unwrap_or(1),
        );
        let mut high = high;
        (high.cpu, high.memory) = (high.cpu.max(low.cpu), high.memory.max(low.memory));
        // A device that is left out counts as used by its owner.
        high.gpus.truncate(low.gpus.len());
        for (more, less) in high.gpus.iter_mut().zip(&low.gpus) {
            more.busy = more.busy.max(less.busy);
            more.memory = more.memory.max(less.memory);
            more.foreign |= less.foreign;
        }
        let lent = |sample| {
            let mut world = world.clone();
            world.report(Report::Sample { node, sample });
            world.run_to(world.now);
            let row = &world.grid.state().nodes[node];
            let rules = &world.grid.state().rules;
            let lendable = row.lendable(world.now, rules);
            (lendable.bundle, row.offer.as_ref().map_or_else(Default::default, |o| o.total))
        };
        let (less, more) = (lent(high), lent(low));
        prop_assert!(less.0.fits_in(&more.0), "lendable {:?}, then {:?}", more.0, less.0);
        prop_assert!(less.1.fits_in(&more.1), "on offer {:?}, then {:?}", more.1, less.1);
        counts.case(world.entries.len());
        Ok(())
    });
}

/// Balances as the transfers alone say.
#[derive(Default)]
struct Books {
    parties: BTreeMap<Party, i128>,
}

impl Books {
    fn of(&self, party: Party) -> i128 {
        self.parties.get(&party).copied().unwrap_or(0)
    }

    fn agree(&self, state: &State) -> bool {
        let account = |id: AccountId| {
            let row = state.account(id);
            self.of(Party::Account(id)) == i128::from(row.available.get())
                && self.of(Party::Held(id)) == i128::from(row.held.get())
        };
        self.of(Party::Treasury) == i128::from(state.ledger.treasury.get())
            && self.of(Party::Mint) == state.ledger.mint
            && u128::try_from(self.of(Party::Burn)) == Ok(state.ledger.burned)
            && state.ledger.accounts.ids().all(account)
    }
}

#[test]
fn the_transfers_add_up_to_the_balances_after_every_entry() {
    let name = "the_transfers_add_up_to_the_balances_after_every_entry";
    property(name, 300, &case(Profile::ALL), |case, counts| {
        let world = case.play(Checks::Off);
        let mut grid = fresh(&case);
        let mut books = Books::default();
        let mut last = 0;
        for entry in &world.entries {
            let mut effects = Vec::new();
            let _ = grid.apply(entry, &mut effects);
            for effect in effects {
                let Effect::Moved(t) = effect else { continue };
                prop_assert_eq!(t.id.get(), last + 1, "transfers are numbered without gaps");
                last = t.id.get();
                prop_assert!(!t.amount.is_zero());
                *books.parties.entry(t.from).or_insert(0) -= i128::from(t.amount.get());
                *books.parties.entry(t.to).or_insert(0) += i128::from(t.amount.get());
            }
            prop_assert!(books.agree(grid.state()), "after {entry:?}");
        }
        counts.case(world.entries.len());
        Ok(())
    });
}

#[test]
fn no_bytes_make_the_decoder_panic() {
    let name = "no_bytes_make_the_decoder_panic";
    let damage = vec((any::<u32>(), any::<u8>()), 1..6);
    let inputs = (case(Profile::ALL), vec(any::<u8>(), 0..300), damage);
    property(name, 200, &inputs, |(case, noise, damage), counts| {
        let world = case.play(Checks::Off);
        prop_assert!(from_bytes::<State>(&noise).is_err());
        prop_assert!(Grid::restore(&Snapshot::from_bytes(noise)).is_err());
        let whole = world.grid.snapshot().as_bytes().to_vec();
        let mut broken = whole.clone();
        for (at, byte) in damage {
            let at = usize::try_from(at).unwrap_or(0) % broken.len();
            broken[at] = byte;
        }
        // The body alone may by chance be another state; it must not panic.
        let _ = from_bytes::<State>(&broken[28..]);
        let short = broken.len() / 2;
        prop_assert!(Grid::restore(&Snapshot::from_bytes(whole[..short].to_vec())).is_err());
        if broken != whole {
            prop_assert!(Grid::restore(&Snapshot::from_bytes(broken)).is_err());
        }
        counts.case(world.entries.len());
        Ok(())
    });
}

#[test]
fn the_state_stays_small_however_long_the_history() {
    let name = "the_state_stays_small_however_long_the_history";
    let many = case(Profile { length: 40, ..Profile::ALL }).prop_map(|case| case);
    property(name, 40, &many, |case, counts| {
        let mut world = World::new(case.config.clone(), Checks::Off);
        for _ in 0..12 {
            for op in &case.ops {
                op.run(&mut world);
            }
        }
        let state = world.grid.state();
        let most = state.jobs.len() + 257 + 1;
        prop_assert!(state.shapes.len() <= most, "{} shapes", state.shapes.len());
        let waits: u64 = state.pools.ids().flat_map(|pool| state.queue.waiting(pool)).sum();
        let pending = state.jobs.values();
        let pending = pending.filter(|j| j.state == gridcore::jobs::JobState::Pending).count();
        prop_assert_eq!(waits, pending as u64);
        counts.case(world.entries.len());
        Ok(())
    });
}

#[test]
fn an_entry_out_of_order_is_a_broken_promise() {
    let case =
        Case { config: gridtests::cluster::Cluster::new().dedicated(1, 1, 1).config, ops: vec![] };
    let mut grid = fresh(&case);
    let wake =
        |seq, at| Entry { seq: Seq::new(seq), at: Time::from_ms(at), command: Command::Wake };
    assert!(grid.apply(&wake(1, 5), &mut Vec::new()).is_ok());
    for (seq, at) in [(1, 6), (3, 6), (2, 4)] {
        let mut grid = grid.clone();
        let apply = move || grid.apply(&wake(seq, at), &mut Vec::new()).is_ok();
        assert!(std::panic::catch_unwind(apply).is_err(), "entry {seq} at {at} is refused");
    }
}
