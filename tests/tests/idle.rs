//! Idle GPUs: who is warned and told to leave, by a model that knows only entries and effects.
//!
//! The model keeps the last word of every device and asks nothing of the core's own clocks: each
//! warning and each `IdleTimeout` must follow from what was said, and none may be missing.

use gridcore::command::{Command, Entry, GpuSample, Report, Request, Sample};
use gridcore::config::Utilization;
use gridcore::effect::{Effect, EvictionReason};
use gridcore::grid::Grid;
use gridcore::ids::{AccountId, LeaseId, NodeId};
use gridcore::leases::{LeaseState, Member};
use gridcore::state::State;
use gridcore::units::{BasisPoints, Time};
use gridtests::generate::{Case, Op, Profile, case};
use gridtests::run::property;
use gridtests::world::Checks;
use proptest::prop_assert;
use proptest::strategy::Strategy;
use proptest::test_runner::TestCaseError;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

/// What was last said of a device, and since when that has been idle.
#[derive(Clone, Copy, Default)]
struct Word {
    said: Option<BasisPoints>,
    idle: Option<Time>,
}

/// What the model knows.
#[derive(Default)]
struct Model {
    words: BTreeMap<(NodeId, usize), Word>,
    /// Since when, to whom, and where: who was warned may have ended in the same entry.
    granted: BTreeMap<LeaseId, (Time, AccountId, Vec<Member>)>,
    warned: BTreeSet<(LeaseId, Time)>,
    warnings: u64,
    ends: u64,
}

impl Model {
    /// Hears an entry: it counts after what was due by then. `least` is what counted as use before.
    fn hear(&mut self, state: &State, least: BasisPoints, entry: &Entry<Command>) {
        match &entry.command {
            Command::Report(Report::Sample { node, sample }) => {
                let Some(row) = state.nodes.find(*node).filter(|row| row.up) else { return };
                for device in 0..row.gpus.len() {
                    let said = sample.gpus.get(device).and_then(|gpu| gpu.leased);
                    let word = self.words.entry((*node, device)).or_default();
                    let before = word.idle.unwrap_or(entry.at);
                    let idle = said.filter(|part| *part < least).map(|_| before);
                    *word = Word { said, idle };
                }
            }
            Command::Report(Report::NodeDown { node }) => {
                self.words.retain(|(place, _), _| place != node);
            }
            Command::Request(Request::Configure(rules)) if rules.validate().is_ok() => {
                let new = rules.utilization.gpu_min;
                for word in self.words.values_mut().filter(|_| new != least) {
                    word.idle = word.said.filter(|part| *part < new).map(|_| entry.at);
                }
            }
            Command::Report(_) | Command::Request(_) | Command::Numbered(_) | Command::Wake => {}
        }
    }

    /// Returns since when a lease has left all its GPUs on others' nodes idle.
    fn since(&self, state: &State, id: LeaseId) -> Option<Time> {
        let (granted, account, members) = self.granted.get(&id)?;
        let others = |node: NodeId| state.nodes[node].spec.owner != *account;
        let (mut since, mut devices) = (*granted, 0);
        for member in members {
            for device in (0..64).filter(|device| member.devices >> device & 1 == 1) {
                since = since.max(self.words.get(&(member.node, device))?.idle?);
                devices += 1;
            }
        }
        let lent = members.iter().any(|member| others(member.node));
        (devices > 0 && lent).then_some(since)
    }

    /// Judges what followed from an entry, by the rules before it.
    fn judge(
        &mut self,
        state: &State,
        rules: &Utilization,
        effects: &[Effect],
    ) -> Result<(), TestCaseError> {
        for effect in effects {
            match effect {
                Effect::Granted { lease, .. } => {
                    let row = state.lease(*lease);
                    let grant = (state.now, row.account, row.members.clone());
                    self.granted.insert(*lease, grant);
                }
                Effect::Idle(idle) => {
                    let since = self.since(state, idle.lease);
                    prop_assert!(since == Some(idle.since), "{idle:?}, since {since:?}");
                    let long = rules.warn_after.map(|after| idle.since.after(after));
                    prop_assert!(long.is_some_and(|at| at <= state.now), "{idle:?} too soon");
                    let first = self.warned.insert((idle.lease, idle.since));
                    prop_assert!(first, "{idle:?} is said twice");
                    self.warnings += 1;
                }
                Effect::Evicted { lease, reason: EvictionReason::IdleTimeout, .. } => {
                    let since = self.since(state, *lease);
                    let at = since.and_then(|at| rules.reclaim_after.map(|after| at.after(after)));
                    let over = at.is_some_and(|at| at <= state.now);
                    prop_assert!(over, "{lease} leaves at {}, idle since {since:?}", state.now);
                    self.ends += 1;
                }
                Effect::Evicted { .. }
                | Effect::Resized { .. }
                | Effect::Order { .. }
                | Effect::Send { .. }
                | Effect::Closed(_)
                | Effect::Finished(_)
                | Effect::Requeued { .. }
                | Effect::Drained { .. }
                | Effect::Moved(_)
                | Effect::Offer { .. } => {}
            }
        }
        Ok(())
    }

    /// Finds who should have been warned or told to leave by now.
    fn find_missed(&self, state: &State) -> Result<(), TestCaseError> {
        let rules = &state.rules.utilization;
        for lease in state.leases.values().filter(|lease| lease.state == LeaseState::Active) {
            let Some(since) = self.since(state, lease.id) else { continue };
            let over = |after| since.after(after) <= state.now;
            let ends = rules.reclaim_after.is_some_and(over);
            prop_assert!(!ends, "{} is idle since {since} and goes on", lease.id);
            let warned = self.warned.contains(&(lease.id, since));
            let due = rules.warn_after.is_some_and(over);
            prop_assert!(warned || !due, "{} is idle since {since}, not warned", lease.id);
        }
        Ok(())
    }
}

/// Lets nodes say between what happens that next to nothing is used of their devices.
fn with_idle_devices(mut case: Case) -> Case {
    let gpu = |part| GpuSample { leased: Some(BasisPoints::percent(part)), ..GpuSample::default() };
    let mut ops = Vec::new();
    for (i, op) in (0..).zip(case.ops) {
        ops.push(op);
        if i % 2 == 0 {
            let gpus = vec![gpu(i % 16 / 14); 5];
            ops.push(Op::Sample(i / 2, Sample { gpus, ..Sample::default() }));
        }
    }
    case.ops = ops;
    case
}

#[test]
fn who_is_warned_and_told_to_leave_follows_from_what_was_said() {
    let name = "who_is_warned_and_told_to_leave_follows_from_what_was_said";
    let (warnings, ends) = (Cell::new(0), Cell::new(0));
    let cases = case(Profile::ALL).prop_map(with_idle_devices);
    property(name, 1_500, &cases, |case, counts| {
        let world = case.play(Checks::Off);
        let grid = Grid::new(case.config.clone(), Time::ZERO);
        prop_assert!(grid.is_ok());
        let Ok(mut grid) = grid else { return Ok(()) };
        let mut model = Model::default();
        for entry in &world.entries {
            let rules = grid.state().rules.utilization.clone();
            let mut effects = Vec::new();
            let _ = grid.apply(entry, &mut effects);
            model.judge(grid.state(), &rules, &effects)?;
            model.hear(grid.state(), rules.gpu_min, entry);
            if grid.next_wake().is_none_or(|(at, _)| at > entry.at) {
                model.find_missed(grid.state())?;
            }
        }
        warnings.set(warnings.get() + model.warnings);
        ends.set(ends.get() + model.ends);
        counts.case(world.entries.len());
        Ok(())
    });
    let (warnings, ends) = (warnings.get(), ends.get());
    assert!(warnings > 200 && ends > 100, "only {warnings} warnings and {ends} ends");
}
