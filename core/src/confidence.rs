//! Confidence in placements: how sure it is that a job may stay where it starts until its limit
//! (RULES.md section 6).
//!
//! It has four parts of 250 each: room for an owner who uses more than is predicted, how lately the
//! node was heard, its reputation, and how much of the job's limit passes before its owner is
//! foreseen to return. Questions only; who asks for `scheduling.min_confidence` passes nodes over.
//! Devices have no part in the room: an owner who uses a device at all takes the whole of it.

use crate::bundle::Bundle;
use crate::config::Rules;
use crate::effect::Confidence;
use crate::forecast::{DAY_SLOTS, SLOT};
use crate::ids::NodeId;
use crate::jobs::Job;
use crate::leases::Member;
use crate::nodes::{Node, buffer};
use crate::shapes::Shape;
use crate::state::State;
use crate::units::{BasisPoints, PerMille, Ppm, Span, Time, scale_floor};
use alloc::vec::Vec;

/// All of one part.
const WHOLE: u64 = 250;
/// What a job without a limit is judged by: the hour that RULES.md section 5 has it run where
/// others are to have run their limit.
pub const UNLIMITED: Span = Span::minutes(60);

/// When a job starts, and for how long at most.
pub type Stay = (Time, Option<Span>);

/// Returns whether the rules ask for any confidence.
#[must_use]
pub fn is_asked(state: &State) -> bool {
    !state.rules.scheduling.min_confidence.is_zero()
}

/// Returns the confidence in a node of which so much is held, the start included.
#[must_use]
pub fn confidence(state: &State, id: NodeId, held: &Bundle, stay: Stay) -> Confidence {
    let (node, rules) = (&state.nodes[id], &state.rules);
    let reputation = u64::from(node.reputation.at(state.now).get());
    let part = |part: u64| PerMille::new(u16::try_from(part.min(WHOLE)).unwrap_or(0));
    Confidence {
        head_room: part(head_room(node, held, state.now, rules)),
        freshness: part(freshness(state, id)),
        reputation: part(scale_floor(reputation, WHOLE, Ppm::ONE.get().into())),
        stay: part(stays(node, held, stay, rules)),
    }
}

/// Returns the confidence in places that leases and claims hold already: that of the worst.
#[must_use]
pub fn of_places(state: &State, members: &[Member], stay: Stay) -> Confidence {
    let of = |m: &Member| {
        let node = &state.nodes[m.node];
        // Where nobody owns it, what is held keeps nobody from it.
        let held = if node.spec.dedicated { Bundle::ZERO } else { held(node) };
        confidence(state, m.node, &held, stay)
    };
    members.iter().map(of).min_by_key(Confidence::total).unwrap_or_default()
}

/// Returns what leases and claims hold of a node.
#[must_use]
pub fn held(node: &Node) -> Bundle {
    node.leased.saturating_add(&node.claimed)
}

/// Returns the confidence in so many members of a job that start on a node now.
fn with(state: &State, id: NodeId, (shape, job): (&Shape, &Job), members: u32) -> PerMille {
    let held = add(&held(&state.nodes[id]), shape, members);
    confidence(state, id, &held, (state.now, job.limit)).total()
}

/// Adds what so many members of a shape hold.
fn add(held: &Bundle, shape: &Shape, members: u32) -> Bundle {
    let more = |sum: u64, need: u64| sum.saturating_add(need.saturating_mul(members.into()));
    held.zip(&shape.needs.bundle(), more)
}

/// Returns whether there is enough confidence to start so many members of a job on a node now.
#[must_use]
pub fn suffices(state: &State, id: NodeId, of: (&Shape, &Job), members: u32) -> bool {
    !is_asked(state) || with(state, id, of, members) >= state.rules.scheduling.min_confidence
}

/// Returns the confidence in each of so many members of a job that fit on a node now: how many of
/// them may start is how many have enough.
#[must_use]
pub fn of_each(state: &State, id: NodeId, of: (&Shape, &Job), members: u32) -> Vec<PerMille> {
    (1..=members).map(|count| with(state, id, of, count)).collect()
}

/// Returns how many of so many members of a shape may start on a node beside what is held there
/// then.
#[must_use]
pub fn trusted(state: &State, id: NodeId, of: (&Bundle, &Shape), most: u32, stay: Stay) -> u32 {
    if !is_asked(state) {
        return most;
    }
    let wanted = state.rules.scheduling.min_confidence;
    let enough =
        |count: &u32| confidence(state, id, &add(of.0, of.1, *count), stay).total() >= wanted;
    (1..=most).rev().find(enough).unwrap_or(0)
}

/// Returns when to look again at who waits for confidence: it changes without anybody saying so.
#[must_use]
pub fn next_look(state: &State) -> Time {
    let interval = state.rules.balance.monitoring_interval.get().max(1);
    // At whole intervals, however often somebody asks: there is one such time at a time.
    Time::from_ms((state.now.ms() / interval).saturating_add(1).saturating_mul(interval))
}

/// Returns the part for room: what is left beside the predicted peak and all that is held, in
/// buffers. Half is left where only the buffer is, all where as much again is.
fn head_room(node: &Node, held: &Bundle, now: Time, rules: &Rules) -> u64 {
    if node.spec.dedicated {
        return WHOLE;
    }
    let Some(load) = &node.load else { return 0 };
    let (all, buffer) = (&node.spec.capacity, buffer(&node.spec.capacity));
    let mut peaks = load.forecasts.iter().map(|f| f.peak(now, &rules.balance));
    let mut part = |all: u64, held: u64, buffer: u64| {
        let peak = peaks.next().unwrap_or(BasisPoints::ALL).of_ceil(all);
        let left = all.saturating_sub(peak).saturating_sub(held);
        let most = buffer.saturating_mul(2).max(1);
        if held == 0 { WHOLE } else { scale_floor(left.min(most), WHOLE, most) }
    };
    let cpu = part(all.cpu.get(), held.cpu.get(), buffer.cpu.get());
    cpu.min(part(all.memory.get(), held.memory.get(), buffer.memory.get()))
}

/// Returns the part for freshness: all within one monitoring interval, nothing after three. Where
/// the halves are joined directly the last sample holds until the next.
fn freshness(state: &State, id: NodeId) -> u64 {
    let Some(link) = state.links.find(id).filter(|_| state.network) else { return WHOLE };
    let interval = state.rules.balance.monitoring_interval.get().max(1);
    let age = state.now.since(link.heard).get();
    if age <= interval { WHOLE } else { WHOLE - WHOLE * (age / interval).min(3) / 3 }
}

/// Returns the part for the owner's return: how much of the limit has passed by then.
fn stays(node: &Node, held: &Bundle, (from, limit): Stay, rules: &Rules) -> u64 {
    let limit = limit.unwrap_or(UNLIMITED).get().max(1);
    let left = foreseen(node, held, (from, Span::new(limit)), rules);
    left.map_or(WHOLE, |left| scale_floor(left.get().min(limit), WHOLE, limit))
}

/// Returns how long it is until the profile of the day says that the owner and what is held exceed
/// the node; `None` where it does not within `limit`, or nobody keeps a profile.
fn foreseen(
    node: &Node,
    held: &Bundle,
    (from, limit): (Time, Span),
    rules: &Rules,
) -> Option<Span> {
    let load = node.load.as_ref().filter(|_| !node.spec.dedicated)?;
    // One profile is kept where all are.
    load.forecasts.first().and_then(|forecast| forecast.slot(0))?;
    let all = &node.spec.capacity;
    let over = |all: u64, held: u64, used: BasisPoints| {
        held > 0 && used.capped().of_ceil(all).saturating_add(held) > all
    };
    let lacks = |slot: u64| {
        let mut uses = load.forecasts.iter().map(|forecast| forecast.slot(slot));
        let mut next = || uses.next().flatten().unwrap_or(BasisPoints::ZERO);
        let cpu = over(all.cpu.get(), held.cpu.get(), next());
        let memory = over(all.memory.get(), held.memory.get(), next());
        let busy = |use_: &Option<BasisPoints>| {
            use_.is_some_and(|use_| use_ >= rules.offering.gates.gpu_utilization_max)
        };
        let idle = uses.filter(|use_| !busy(use_)).count() as u64;
        cpu || memory || held.gpu.get().div_ceil(1_000) > idle
    };
    let first = from.ms() / SLOT.get();
    let last = from.after(limit).ms() / SLOT.get();
    let slot = (first..=last.min(first.saturating_add(DAY_SLOTS))).find(|slot| lacks(*slot))?;
    Some(Time::from_ms(slot.saturating_mul(SLOT.get())).since(from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Sample;
    use crate::config::{AccountSpec, Config, NodeSpec, Policy, PoolSpec};
    use crate::load::Load;
    use crate::units::{Bytes, MicroAtp, MilliCores};
    use alloc::string::String;

    const NODE: NodeId = NodeId::new(0);

    /// One machine of 20 cores, of which the owner uses 8 now.
    fn state(policy: Policy, network: bool) -> State {
        let capacity = Bundle { memory: Bytes::gib(64), ..Bundle::cpu(MilliCores::whole(20)) };
        let mut config = Config { network, ..Config::default() };
        config.nodes.push(NodeSpec { dedicated: false, ..NodeSpec::dedicated("n", capacity) });
        config.pools.push(PoolSpec { name: String::from("main"), quota: None });
        config.accounts.push(AccountSpec::new("lab", MicroAtp::ZERO));
        config.rules.balance.policy = policy;
        let mut state = State::new(config, Time::ZERO);
        state.nodes[NODE].load = Some(Load::new(0, Time::ZERO));
        use_from(&mut state, 0, 4_000);
        state
    }

    /// Lets the owner use so many hundredths of a percent of the cores from a second on.
    fn use_from(state: &mut State, second: u64, cpu: u16) {
        state.now = Time::from_ms(second * 1_000);
        let sample = Sample { cpu: BasisPoints::new(cpu), ..Sample::default() };
        let (now, balance) = (state.now, state.rules.balance.clone());
        if let Some(load) = &mut state.nodes[NODE].load {
            load.sample(&sample, now, [BasisPoints::ZERO; 3], &balance);
        }
    }

    fn sure(state: &State, cores: u32, limit: Option<u64>) -> Confidence {
        let held = Bundle::cpu(MilliCores::whole(cores));
        confidence(state, NODE, &held, (state.now, limit.map(Span::minutes)))
    }

    #[test]
    fn half_of_the_room_is_left_where_only_the_buffer_is() {
        let state = state(Policy::Balanced, false);
        let room = |cores| sure(&state, cores, None).head_room.get();
        // Twelve are left beside the owner; the buffer is one.
        assert_eq!([0, 4, 10, 11, 12, 20].map(room), [250, 250, 250, 125, 0, 0]);
    }

    #[test]
    fn a_node_is_less_fresh_with_every_interval_and_not_at_all_after_three() {
        let mut state = state(Policy::Balanced, true);
        let mut fresh = |seconds: u64| {
            state.now = Time::from_ms(seconds * 1_000);
            sure(&state, 1, None).freshness.get()
        };
        assert_eq!(
            [0, 10, 11, 20, 29, 30, 31, 90].map(&mut fresh),
            [250, 250, 167, 84, 84, 0, 0, 0]
        );
        state.network = false;
        assert_eq!(sure(&state, 1, None).freshness.get(), 250, "a sample holds until the next");
    }

    #[test]
    fn what_the_owner_did_yesterday_shortens_a_stay_and_only_under_predictive() {
        for policy in [Policy::Conservative, Policy::Balanced, Policy::Aggressive] {
            let mut state = state(policy, false);
            use_from(&mut state, 36_000, 9_000);
            use_from(&mut state, 86_400, 0);
            assert_eq!(sure(&state, 1, Some(1_440)).stay.get(), 250, "{policy:?}");
        }
        let mut state = state(Policy::Predictive, false);
        use_from(&mut state, 36_000, 9_000);
        use_from(&mut state, 39_600, 0);
        // Twenty hours later it is six in the morning, four hours before the owner came.
        use_from(&mut state, 108_000, 0);
        let stay = |cores, hours: u64| sure(&state, cores, Some(hours * 60)).stay.get();
        assert_eq!([4, 5, 8, 16].map(|hours| stay(3, hours)), [250, 200, 125, 62]);
        // Two cores are beside the owner even then.
        assert_eq!(stay(2, 16), 250);
        assert_eq!(sure(&state, 3, None).stay.get(), 250, "an hour stands for no limit");
    }

    #[test]
    fn the_parts_sum_up_and_reputation_is_one_of_them() {
        let mut state = state(Policy::Balanced, false);
        let before = sure(&state, 4, None);
        assert_eq!((before.total().get(), before.reputation.get()), (875, 125));
        state.nodes[NODE].reputation.lose(Time::ZERO);
        assert_eq!(sure(&state, 4, None).total().get(), 859);
    }

    #[test]
    fn one_time_to_look_again_stands_for_a_whole_interval() {
        let mut state = state(Policy::Balanced, false);
        let mut look = |ms: u64| {
            state.now = Time::from_ms(ms);
            next_look(&state).ms()
        };
        assert_eq!([0, 1, 9_999, 10_000].map(&mut look), [10_000, 10_000, 10_000, 20_000]);
    }
}
