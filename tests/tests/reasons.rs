//! Why jobs wait and who makes way: explain is sound, and no victim leaves in vain.

use gridcore::bundle::Bundle;
use gridcore::command::{Report, Request};
use gridcore::config::{Backfill, Mode, Pricing, Rules};
use gridcore::effect::{Effect, EvictionReason};
use gridcore::explain::{Blocker, explain};
use gridcore::ids::JobId;
use gridcore::jobs::{Job, JobState};
use gridcore::leases::Claim;
use gridcore::nodes::Node;
use gridcore::state::State;
use gridcore::tags::meet;
use gridcore::units::{MicroAtp, PerMille, Ppm, Span, Time};
use gridtests::generate::{Profile, case};
use gridtests::run::property;
use gridtests::world::{Checks, World};
use proptest::prop_assert;
use proptest::test_runner::TestCaseError;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

/// Whether a job was started among the last effects.
fn started(world: &World, before: usize, id: JobId) -> bool {
    let since = world.effects.iter().skip(before);
    since.into_iter().any(|(_, effect)| matches!(effect, Effect::Granted { job, .. } if *job == id))
}

fn waiting(state: &State) -> Vec<Job> {
    let waits = |job: &&Job| !matches!(job.state, JobState::Running(_));
    state.jobs.values().filter(waits).cloned().collect()
}

#[test]
fn every_job_that_waits_has_a_reason_after_every_entry() {
    let name = "every_job_that_waits_has_a_reason_after_every_entry";
    let asked = Cell::new(0_u64);
    property(name, 200, &case(Profile::ALL), |case, counts| {
        let mut world = World::new(case.config.clone(), Checks::Off);
        for op in &case.ops {
            op.run(&mut world);
            // What samples have changed is acted on with the wake of their instant.
            world.wake();
            let state = world.grid.state();
            // At this very instant ends follow, which the pass is left to.
            for job in waiting(state).into_iter().filter(|_| state.released == 0) {
                let why = explain(state, job.id).unwrap_or_default();
                prop_assert!(!why.blockers.is_empty(), "{} waits for nothing: {job:?}", job.id);
                asked.set(asked.get() + 1);
            }
        }
        counts.case(world.entries.len());
        Ok(())
    });
    assert!(asked.get() > 0, "nobody ever waited");
}

/// Lifts everything that may keep one job: all others leave, credit comes, nodes work again, and
/// prices are the rates where they are too `dear`.
fn lift_all(world: &mut World, id: JobId, dear: bool) {
    let state = world.grid.state();
    let others: Vec<Job> = state.jobs.values().filter(|job| job.id != id).cloned().collect();
    let asks = !state.rules.scheduling.min_confidence.is_zero();
    if asks || dear || state.rules.rebalance.mode == Mode::OffloadOnly {
        let mut rules = state.rules.clone();
        rules.scheduling.min_confidence = PerMille::ZERO;
        if dear {
            rules.atp.price = Pricing::Static;
        }
        rules.rebalance.mode = Mode::ShareAndOffload;
        let _ = world.request(Request::Configure(Box::new(rules)));
    }
    let state = world.grid.state();
    let account = state.jobs.get(&id).map(|job| (job.account, job.state));
    let rests = state.jobs.get(&id).map_or(Time::ZERO, |job| job.setback.until);
    for node in state.nodes.ids().collect::<Vec<_>>() {
        world.report(Report::NodeUp { node });
        let _ = world.request(Request::Undrain { node });
    }
    for job in others {
        let _ = world.request(Request::CancelJob { account: job.account, job: job.id });
    }
    let Some((account, was)) = account else { return };
    let _ = world.request(Request::Deposit { account, amount: MicroAtp::new(1 << 50) });
    if was == JobState::Held {
        let _ = world.request(Request::ReleaseJob { account, job: id });
    }
    // Whoever has not paid rests until then.
    world.run_to(world.now.max(rests).after(Span::seconds(300)));
}

#[test]
fn lifting_every_reason_starts_any_job_that_waits() {
    let name = "lifting_every_reason_starts_any_job_that_waits";
    let lifted = Cell::new(0_u64);
    let profile = Profile { owners: false, ..Profile::ALL };
    property(name, 250, &case(profile), |case, counts| {
        let world = case.play(Checks::Off);
        let state = world.grid.state();
        for job in waiting(state).into_iter().take(6) {
            let why = explain(state, job.id).unwrap_or_default();
            let spent = |b: &Blocker| matches!(b, Blocker::BudgetCommitted { .. });
            // The rates themselves are above what it pays.
            let dear = job.price_max.is_some_and(|most| most < Ppm::ONE);
            // Nobody can deposit any more once all the credit there may be is minted.
            let minted = state.ledger.mintable().get() < 1 << 51;
            // The others are taken back: who waits for them would wait in vain.
            // Nor does anything run any more that it must be near.
            let shape = &state.shapes[job.shape];
            let lonely = !shape.affinity.iter().all(|tag| shape.tags.contains(tag));
            if minted || lonely || dear || job.depends() || why.blockers.iter().any(spent) {
                continue;
            }
            let mut world = world.clone();
            let before = world.effects.len();
            let above = |b: &Blocker| matches!(b, Blocker::PriceAboveLimit { .. });
            lift_all(&mut world, job.id, why.blockers.iter().any(above));
            prop_assert!(
                started(&world, before, job.id),
                "{why:?} lifted, {job:?} still waits: {:?}",
                explain(world.grid.state(), job.id)
            );
            lifted.set(lifted.get() + 1);
        }
        counts.case(world.entries.len());
        Ok(())
    });
    assert!(lifted.get() > 100, "only {} jobs were tried", lifted.get());
}

/// Takes away what runs and a job must not be near, and who else waits: such could begin before it.
fn part(world: &mut World, job: &Job) -> Option<()> {
    let state = world.grid.state();
    let shape = &state.shapes[job.shape];
    let avoided = |other: &Job| meet(&shape.anti_affinity, &state.shapes[other.shape].tags);
    if !shape.affinity.is_empty() {
        return None;
    }
    let mut others: Vec<Job> = waiting(state);
    others.extend(state.jobs.values().filter(|other| avoided(other)).cloned());
    others.retain(|other| other.id != job.id);
    others.dedup_by_key(|other| other.id);
    for other in others {
        let (account, job) = (other.account, other.id);
        let _ = world.request(Request::CancelJob { account, job });
    }
    world.advance(Span::seconds(240));
    Some(())
}

/// Lifts one blocker and nothing else; `None` when it cannot be lifted alone.
fn lift(world: &mut World, job: &Job, blocker: &Blocker) -> Option<()> {
    let account = job.account;
    let answer = match blocker {
        Blocker::Held | Blocker::BackoffAfterFailure { .. } => {
            world.request(Request::ReleaseJob { account, job: job.id })
        }
        Blocker::AtpBudgetExceeded { needed, available } => {
            // Others of the account may be owed the credit first.
            let jobs = world.grid.state().jobs.values();
            if jobs.filter(|other| other.account == account).count() > 1 {
                return None;
            }
            let amount = needed.saturating_sub(*available);
            world.request(Request::Deposit { account, amount })
        }
        Blocker::Affinity { .. } => return part(world, job),
        Blocker::LeasesExceeded { .. } => {
            return configure_alone(world, job, |rules| rules.caps.leases = None);
        }
        Blocker::ExceedsMaxShare { .. } => {
            let state = world.grid.state();
            let capped = |b: &Blocker| matches!(b, Blocker::ExceedsMaxShare { .. });
            let others = waiting(state).into_iter().filter(|other| other.id != job.id);
            let whys = others.filter_map(|other| explain(state, other.id));
            // Whoever else it keeps may be owed the room first.
            if whys.into_iter().any(|why| why.blockers.iter().any(capped)) {
                return None;
            }
            let mut rules = state.rules.clone();
            rules.caps.pool_share = None;
            world.request(Request::Configure(Box::new(rules)))
        }
        Blocker::PriceAboveLimit { .. } => {
            return configure_alone(world, job, |rules| rules.atp.enabled = false);
        }
        Blocker::NoMatchingNode
        | Blocker::Dependency { .. }
        | Blocker::DependencyNeverSatisfied { .. }
        | Blocker::QuotaExceeded { .. }
        | Blocker::BudgetCommitted { .. }
        | Blocker::NoOffers { .. }
        | Blocker::Resources { .. }
        | Blocker::Priority { .. }
        | Blocker::BackoffAfterUnpaid { .. }
        | Blocker::BeginTime { .. }
        | Blocker::Reservation { .. }
        | Blocker::WaitingForPreempted { .. }
        | Blocker::GangIncomplete { .. }
        | Blocker::NodeDraining { .. }
        | Blocker::NodeUnreachable { .. }
        | Blocker::WaitingForReclaim { .. }
        | Blocker::LowConfidence { .. }
        | Blocker::MinRuntimeProtected { .. } => return None,
    };
    answer.is_ok().then_some(())
}

#[test]
fn a_job_blocked_by_one_thing_starts_when_that_alone_is_lifted() {
    let name = "a_job_blocked_by_one_thing_starts_when_that_alone_is_lifted";
    let kinds: std::cell::RefCell<BTreeMap<&str, u64>> = Default::default();
    let profile = Profile { owners: false, preempts: false, ..Profile::ALL };
    property(name, 1_500, &case(profile), |case, counts| {
        let mut world = World::new(case.config.clone(), Checks::Off);
        for op in &case.ops {
            op.run(&mut world);
            // What is asked now is answered as of now.
            world.wake();
            let state = world.grid.state();
            // At this very instant ends follow, which the pass is left to.
            if state.rules.scheduling.backfill == Backfill::Strict || state.released > 0 {
                continue;
            }
            for job in waiting(state).into_iter().take(4) {
                let why = explain(state, job.id).unwrap_or_default();
                let [only] = why.blockers.as_slice() else { continue };
                let mut other = world.clone();
                if lift(&mut other, &job, only).is_none() {
                    continue;
                }
                prop_assert!(
                    started(&other, world.effects.len(), job.id),
                    "{only:?} lifted, {job:?} still waits: {:?}",
                    explain(other.grid.state(), job.id)
                );
                *kinds.borrow_mut().entry(only.name()).or_insert(0) += 1;
            }
        }
        counts.case(world.entries.len());
        Ok(())
    });
    let kinds = kinds.into_inner();
    // A seventh, its share of the pool, is rarely all that keeps a job.
    let often = ["Held", "BackoffAfterFailure", "AtpBudgetExceeded", "Affinity", "LeasesExceeded"];
    let often = often.into_iter().chain(["PriceAboveLimit"]);
    let missing: Vec<&str> = often.filter(|kind| !kinds.contains_key(kind)).collect();
    assert!(missing.is_empty(), "{missing:?} never occur alone: {kinds:?}");
}

/// Takes away who else waits, and lets other rules come into force; `None` when somebody began
/// meanwhile, whom another had kept back.
fn configure_alone(world: &mut World, job: &Job, change: impl Fn(&mut Rules)) -> Option<()> {
    let mut others = waiting(world.grid.state());
    others.retain(|other| other.id != job.id);
    let leases = world.grid.state().next.lease;
    for other in others {
        let (account, job) = (other.account, other.id);
        let _ = world.request(Request::CancelJob { account, job });
    }
    let mut rules = world.grid.state().rules.clone();
    change(&mut rules);
    let alone = world.grid.state().next.lease == leases;
    (alone && world.request(Request::Configure(Box::new(rules))).is_ok()).then_some(())
}

#[test]
fn a_job_that_lacks_only_confidence_starts_when_less_is_asked_for() {
    let name = "a_job_that_lacks_only_confidence_starts_when_less_is_asked_for";
    let trusted = Cell::new(0_u64);
    let profile = Profile { preempts: false, ..Profile::ALL };
    property(name, 1_500, &case(profile), |case, counts| {
        let mut config = case.config.clone();
        config.rules.scheduling.min_confidence = PerMille::new(860);
        let mut world = World::new(config, Checks::Off);
        for op in &case.ops {
            op.run(&mut world);
            // What a node has still to say would be heard before the question below.
            world.run_to(world.now);
            let state = world.grid.state();
            let asks = !state.rules.scheduling.min_confidence.is_zero();
            for job in waiting(state).into_iter().filter(|_| asks).take(4) {
                let why = explain(state, job.id).unwrap_or_default();
                let [Blocker::LowConfidence { best, .. }] = why.blockers.as_slice() else {
                    continue;
                };
                let mut other = world.clone();
                // No more is asked for than it can have, and nobody could begin before it.
                let trusts = |rules: &mut Rules| rules.scheduling.min_confidence = *best;
                if configure_alone(&mut other, &job, trusts).is_none() {
                    continue;
                }
                let started = started(&other, world.effects.len(), job.id);
                prop_assert!(started, "{job:?} still waits, less than {best:?} is asked for");
                trusted.set(trusted.get() + 1);
            }
        }
        counts.case(world.entries.len());
        Ok(())
    });
    assert!(trusted.get() >= 20, "only {} jobs lacked nothing else", trusted.get());
}

/// Returns whether all members of a claim fit once these victims are gone.
fn fits_without(state: &State, claim: &Claim, gone: &[gridcore::ids::LeaseId]) -> bool {
    let mut nodes: BTreeMap<_, Node> = BTreeMap::new();
    for member in &claim.members {
        let node = nodes.entry(member.node).or_insert_with(|| state.nodes[member.node].clone());
        node.unclaim(&claim.needs, member.devices);
    }
    for lease in gone.iter().map(|id| state.lease(*id)) {
        for member in lease.members.iter().filter(|member| !lease.has_left(member.node)) {
            if let Some(node) = nodes.get_mut(&member.node) {
                let tags = &state.shapes[lease.shape].tags;
                node.give_back(lease.id, (&lease.needs, tags), member.devices);
            }
        }
    }
    let bundle: Bundle = claim.needs.bundle();
    nodes.values().all(|node| node.fits(&claim.needs, &bundle))
}

fn check_claim(state: &State, id: JobId, claim: &Claim) -> Result<(), TestCaseError> {
    if state.job(id).state.is_running() {
        // It moves: its next place is free already.
        prop_assert!(fits_without(state, claim, &[]), "{id}: moves to where it does not fit");
        return Ok(());
    }
    let victims: Vec<_> = claim.awaits().collect();
    // What other claims keep and what they wait for is the same room: it fits beside either.
    let leaving: BTreeSet<_> = state.claims.values().flat_map(Claim::awaits).collect();
    let leaving: Vec<_> = leaving.into_iter().collect();
    prop_assert!(fits_without(state, claim, &leaving), "{id}: not even all victims make room");
    let mut alone = state.clone();
    for (_, other) in state.claims.iter().filter(|(other, _)| **other != id) {
        for member in &other.members {
            alone.nodes[member.node].unclaim(&other.needs, member.devices);
        }
    }
    prop_assert!(fits_without(&alone, claim, &victims), "{id}: its own victims make no room");
    for spared in &victims {
        let rest: Vec<_> = victims.iter().copied().filter(|v| v != spared).collect();
        prop_assert!(!fits_without(state, claim, &rest), "{id}: {spared} leaves in vain");
        if claim.leaving.contains(spared) {
            continue;
        }
        let (job, lease) = (state.job(id), state.lease(*spared));
        let rules = &state.rules.preemption;
        if lease.reason == Some(EvictionReason::QuotaReclaim) {
            let account = state.account(lease.account);
            let quota = account.spec.quota.unwrap_or(Bundle::ZERO);
            prop_assert!(!account.using.fits_in(&quota) && lease.account != job.account);
        } else {
            let free = lease.unpaid && lease.account != job.account;
            let gap = if free { 0 } else { rules.gap_min };
            prop_assert!(job.priority.class() >= lease.priority.class() + gap);
        }
        prop_assert!(lease.unpaid || lease.ran(state.now) >= rules.runtime_min);
    }
    Ok(())
}

#[test]
fn every_victim_is_needed_and_the_whole_plan_is_feasible() {
    let name = "every_victim_is_needed_and_the_whole_plan_is_feasible";
    let claims = Cell::new(0_u64);
    property(name, 1_000, &case(Profile::ALL), |case, counts| {
        let world = case.play(Checks::Off);
        let mut grid = World::new(case.config.clone(), Checks::Off).grid;
        for entry in &world.entries {
            let before: Vec<JobId> = grid.state().claims.keys().copied().collect();
            let _ = grid.apply(entry, &mut Vec::new());
            let fresh = grid.state().claims.iter().filter(|(id, _)| !before.contains(id));
            // Of several plans of one entry each saw less room than the ones before it.
            if fresh.clone().count() > 1 {
                continue;
            }
            for (id, claim) in fresh {
                check_claim(grid.state(), *id, claim)?;
                claims.set(claims.get() + 1);
            }
        }
        counts.case(world.entries.len());
        Ok(())
    });
    assert!(claims.get() >= 20, "only {} plans were made", claims.get());
}
