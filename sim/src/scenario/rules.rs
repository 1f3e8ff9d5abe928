//! From the blocks of a scenario to the rules of the core. What a file leaves out keeps the core's
//! default; decimals become integers from their text.

use super::schema as file;
use super::{Fault, at};
use crate::decimal::{Decimal, Seconds};
use gridcore::config::{
    Atp, Backfill, BackfillOrder, Balance, Caps, Exhaustion, Gates, Hours, Lend, Mode, Offering,
    Order, Policy, Preemption, Pricing, Rebalance, Rules, Scheduling, Strategy, Utilization,
};
use gridcore::units::{BasisPoints, Bytes, MilliCores, PerMille, Ppm, Span};

/// Overwrites a default with what a file says.
pub(super) fn set<T>(slot: &mut T, said: Option<T>) {
    if let Some(value) = said {
        *slot = value;
    }
}

/// Overwrites a span.
fn set_span(slot: &mut Span, said: Option<Seconds>) {
    set(slot, said.map(|seconds| seconds.0));
}

/// Returns a decimal times `factor`, or what is wrong with it.
///
/// # Errors
/// When it is negative or does not fit.
pub(super) fn scaled(key: &str, value: Decimal, factor: u64) -> Result<u64, Fault> {
    let millionths = u64::try_from(value.millionths())
        .map_err(|_| at(key, "it must not be negative".to_owned()))?;
    let product = (u128::from(millionths) * u128::from(factor) + 500_000) / 1_000_000;
    u64::try_from(product).map_err(|_| at(key, "it is too large".to_owned()))
}

/// Returns a part of one in millionths.
///
/// # Errors
/// When it is not between 0 and 1.
pub(super) fn millionths(key: &str, value: Decimal) -> Result<u32, Fault> {
    let part = u32::try_from(value.millionths()).ok().filter(|part| *part <= 1_000_000);
    part.ok_or_else(|| at(key, "it must be between 0 and 1".to_owned()))
}

/// Returns an amount in GiB as bytes.
///
/// # Errors
/// As [`scaled`].
pub(super) fn gib(key: &str, value: Decimal) -> Result<Bytes, Fault> {
    scaled(key, value, 1 << 30).map(Bytes::new)
}

/// Returns an amount in cores as millicores.
///
/// # Errors
/// As [`scaled`].
pub(super) fn cores(key: &str, value: Decimal) -> Result<MilliCores, Fault> {
    scaled(key, value, 1_000).map(MilliCores::new)
}

/// Returns a fraction or a percentage as basis points; `factor` is 10,000 or 100.
fn basis_points(key: &str, value: Decimal, factor: u64) -> Result<BasisPoints, Fault> {
    let points = scaled(key, value, factor)?;
    match u16::try_from(points) {
        Ok(points) if points <= 10_000 => Ok(BasisPoints::new(points)),
        _ => Err(at(key, format!("it must be at most {}", 10_000 / factor))),
    }
}

/// Returns a percentage as basis points.
///
/// # Errors
/// When it is not between 0 and 100.
pub(super) fn percent(key: &str, value: Decimal) -> Result<BasisPoints, Fault> {
    basis_points(key, value, 100)
}

/// Overwrites a fraction.
fn set_points(
    slot: &mut BasisPoints,
    key: &str,
    said: Option<Decimal>,
    factor: u64,
) -> Result<(), Fault> {
    set(slot, said.map(|value| basis_points(key, value, factor)).transpose()?);
    Ok(())
}

/// Builds the rules of a scenario; `seed` orders equal nodes where the file says nothing.
///
/// # Errors
/// The first number that no rule can work with, with its key.
pub fn rules(scenario: &file::Scenario, seed: u64) -> Result<Rules, Fault> {
    let mut rules = Rules::default();
    offering(&mut rules.offering, &scenario.resource_sharing)?;
    balance(&mut rules.balance, &scenario.execution.resource_sharing, &scenario.history)?;
    rebalance(&mut rules.rebalance, &scenario.execution.resource_sharing)?;
    scheduling(&mut rules.scheduling, &scenario.execution.scheduling, seed)?;
    preemption(&mut rules.preemption, &scenario.execution.preemption);
    let fair = &scenario.execution.fair_share;
    set_span(&mut rules.fair_share.half_life, fair.half_life);
    let weights = [fair.weights.cpu, fair.weights.memory, fair.weights.gpu];
    for (slot, said) in rules.fair_share.weights.iter_mut().zip(weights) {
        set(slot, said);
    }
    let health = &scenario.execution.health;
    set(&mut rules.health.failures, health.failures);
    set_span(&mut rules.health.soon, health.soon);
    set_span(&mut rules.health.window, health.window);
    set(&mut rules.health.nodes, health.nodes);
    utilization(&mut rules.utilization, &scenario.execution.utilization_policy)?;
    atp(&mut rules.atp, &scenario.atp, &scenario.resources)?;
    caps(&mut rules.caps, &scenario.atp.caps)?;
    set_span(&mut rules.term.0, scenario.lease.term_seconds);
    set_span(&mut rules.stop.0, scenario.lease.stop_seconds);
    if let Some(drift) = scenario.lease.clock_drift {
        rules.drift.0 = Ppm::new(millionths("lease.clock_drift", drift)?);
    }
    Ok(rules)
}

fn caps(rules: &mut Caps, said: &file::Caps) -> Result<(), Fault> {
    let share = |key: &str, said: Option<Option<Decimal>>| {
        let part = said.map(|part| part.map(|part| millionths(key, part)).transpose());
        Ok::<_, Fault>(part.transpose()?.map(|part| part.map(Ppm::new)))
    };
    set(&mut rules.pool_share, share("atp.caps.pool_share", said.pool_share)?);
    let urgent = share("atp.caps.urgent_share_per_hour", said.urgent_share_per_hour)?;
    set(&mut rules.urgent_share, urgent);
    set(&mut rules.leases, said.leases);
    set(&mut rules.open_requests, said.open_requests);
    set(&mut rules.requests_per_second, said.requests_per_second);
    set(&mut rules.burst, said.burst);
    Ok(())
}

fn utilization(rules: &mut Utilization, said: &file::Utilization) -> Result<(), Fault> {
    let span = |said: Option<Option<Seconds>>| said.map(|after| after.map(|seconds| seconds.0));
    set(&mut rules.warn_after, span(said.warn_after));
    set(&mut rules.reclaim_after, span(said.reclaim_after));
    let key = "execution.utilization_policy.min_gpu_utilization";
    set_points(&mut rules.gpu_min, key, said.min_gpu_utilization, 100)
}

fn offering(rules: &mut Offering, said: &file::Sharing) -> Result<(), Fault> {
    set(&mut rules.enabled, said.enabled);
    set_span(&mut rules.check_interval, said.check_interval);
    set_span(&mut rules.offer_expiry, said.offer_expiry);
    set(&mut rules.offers_max, said.max_offers_per_node);
    gates(&mut rules.gates, &said.thresholds)?;
    set_span(&mut rules.idle_before_offer, said.owner.idle_before_offer);
    set_span(&mut rules.vacate_cpu, said.owner.vacate_seconds.cpu);
    set_span(&mut rules.vacate_gpu, said.owner.vacate_seconds.gpu);
    set_span(&mut rules.kill, said.owner.kill_seconds);
    set_span(&mut rules.poll, said.owner.poll_seconds);
    set_span(&mut rules.busy_latch, said.owner.busy_latch_seconds);
    let foreign = said.owner.foreign_gpu_process;
    set(&mut rules.foreign_gpu, foreign.map(|f| matches!(f, file::ForeignName::Reclaim)));
    set_span(&mut rules.resume_after, said.owner.resume_after);
    set_span(&mut rules.suspend_max, said.owner.max_suspend_seconds);
    rules.lend_hours = said.owner.lend_hours.as_deref().map(hours).transpose()?;
    let lend = said.owner.lend.map(|lend| match lend {
        file::LendName::Idle => Lend::Idle,
        file::LendName::Excess => Lend::Excess,
    });
    set(&mut rules.lend, lend);
    Ok(())
}

/// Reads a part of the day: `HH:MM-HH:MM`.
fn hours(text: &str) -> Result<Hours, Fault> {
    let minute = |text: &str| -> Option<u16> {
        let (hour, minute) = text.trim().split_once(':')?;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour <= 24 && minute < 60 && hour * 60 + minute <= 1_440).then_some(hour * 60 + minute)
    };
    let both = text.split_once('-').map(|(from, to)| (minute(from), minute(to)));
    match both {
        Some((Some(from), Some(to))) if from != to => Ok(Hours { from, to }),
        _ => Err(at(
            "resource_sharing.owner.lend_hours",
            format!("`{text}` is no part of the day: write it as 22:00-07:00"),
        )),
    }
}

fn gates(rules: &mut Gates, said: &file::Gates) -> Result<(), Fault> {
    let key = |name: &str| format!("resource_sharing.thresholds.{name}");
    let percent = 100;
    let name = key("gpu_utilization_max");
    set_points(&mut rules.gpu_utilization_max, &name, said.gpu_utilization_max, percent)?;
    set_points(
        &mut rules.memory_max,
        &key("memory_percent_max"),
        said.memory_percent_max,
        percent,
    )?;
    set_points(&mut rules.cpu_max, &key("cpu_percent_max"), said.cpu_percent_max, percent)?;
    let mib = |value| scaled(&key("gpu_memory_min_mb"), value, 1 << 20).map(Bytes::new);
    set(&mut rules.gpu_memory_min, said.gpu_memory_min_mb.map(mib).transpose()?);
    let memory = said.memory_min_gb.map(|value| gib(&key("memory_min_gb"), value));
    set(&mut rules.memory_min, memory.transpose()?);
    let cpu = said.cpu_min_cores.map(|value| cores(&key("cpu_min_cores"), value));
    set(&mut rules.cpu_min, cpu.transpose()?);
    Ok(())
}

fn balance(
    rules: &mut Balance,
    said: &file::Balance,
    history: &file::History,
) -> Result<(), Fault> {
    set(&mut rules.policy, said.policy.map(policy));
    set_span(&mut rules.monitoring_interval, said.monitoring_interval_seconds);
    set_span(&mut rules.horizon, said.horizon_seconds);
    set(&mut rules.margin_step, said.margin_step);
    let t = &said.thresholds;
    let high = [t.cpu_pressure_high, t.memory_pressure_high, t.gpu_pressure_high];
    let low = [t.cpu_pressure_low, t.memory_pressure_low, t.gpu_pressure_low];
    let key = |name: &str| format!("execution.resource_sharing.thresholds.{name}");
    for (slot, said) in rules.high.iter_mut().zip(high) {
        set_points(slot, &key("*_pressure_high"), said, 10_000)?;
    }
    for (slot, said) in rules.low.iter_mut().zip(low) {
        set_points(slot, &key("*_pressure_low"), said, 10_000)?;
    }
    let name = key("excess_threshold");
    set_points(&mut rules.excess_threshold, &name, t.excess_threshold, 10_000)?;
    set(&mut rules.samples_max, history.samples);
    set(&mut rules.trend_windows, history.trend_windows.map(|w| w.map(|s| s.0)));
    Ok(())
}

fn rebalance(rules: &mut Rebalance, said: &file::Balance) -> Result<(), Fault> {
    let mode = said.mode.map(|mode| match mode {
        file::ModeName::OffloadOnly => Mode::OffloadOnly,
        file::ModeName::ShareAndOffload => Mode::ShareAndOffload,
        file::ModeName::DynamicBalancing => Mode::DynamicBalancing,
    });
    set(&mut rules.mode, mode);
    set_span(&mut rules.interval, said.rebalance_interval_seconds);
    let (said, key) = (&said.rebalance, "execution.resource_sharing.rebalance");
    set_points(&mut rules.margin, &format!("{key}.margin"), said.margin, 10_000)?;
    set_span(&mut rules.job_cooldown, said.job_cooldown);
    set_span(&mut rules.node_cooldown, said.node_cooldown);
    let most = said.max_share.map(|part| millionths(&format!("{key}.max_share"), part));
    set(&mut rules.moves_max, most.transpose()?.map(Ppm::new));
    Ok(())
}

/// Returns the core's policy of a name.
#[must_use]
pub const fn policy(name: file::PolicyName) -> Policy {
    match name {
        file::PolicyName::Conservative => Policy::Conservative,
        file::PolicyName::Balanced => Policy::Balanced,
        file::PolicyName::Aggressive => Policy::Aggressive,
        file::PolicyName::Predictive => Policy::Predictive,
    }
}

/// Returns the core's strategy of a name.
#[must_use]
pub const fn strategy(name: file::StrategyName) -> Strategy {
    match name {
        file::StrategyName::FirstFit => Strategy::FirstFit,
        file::StrategyName::BestFit => Strategy::BestFit,
        file::StrategyName::WorstFit => Strategy::WorstFit,
        file::StrategyName::Pack => Strategy::Pack,
        file::StrategyName::DotProduct => Strategy::DotProduct,
        file::StrategyName::GpuClustering => Strategy::GpuClustering,
        file::StrategyName::Random => Strategy::Random,
        file::StrategyName::Fgd => Strategy::Fgd,
        file::StrategyName::LocalFirst => Strategy::LocalFirst,
        file::StrategyName::NearData => Strategy::NearData,
        file::StrategyName::Headroom => Strategy::Headroom,
        file::StrategyName::Cheapest => Strategy::Cheapest,
    }
}

fn scheduling(rules: &mut Scheduling, said: &file::Scheduling, seed: u64) -> Result<(), Fault> {
    set(&mut rules.strategy, said.strategy.map(strategy));
    let order = said.order.map(|order| match order {
        file::OrderName::Fair => Order::Fair,
        file::OrderName::Drf => Order::Drf,
        file::OrderName::Karma => Order::Karma,
        file::OrderName::Fifo => Order::Fifo,
        file::OrderName::EarliestDue => Order::EarliestDue,
    });
    set(&mut rules.order, order);
    let backfill = said.backfill.map(|backfill| match backfill {
        file::BackfillName::Strict => Backfill::Strict,
        file::BackfillName::Greedy => Backfill::Greedy,
        file::BackfillName::Easy => Backfill::Easy,
        file::BackfillName::Conservative => Backfill::Conservative,
    });
    set(&mut rules.backfill, backfill);
    let order = said.backfill_order.map(|order| match order {
        file::BackfillOrderName::Queue => BackfillOrder::Queue,
        file::BackfillOrderName::Shortest => BackfillOrder::Shortest,
        file::BackfillOrderName::Smallest => BackfillOrder::Smallest,
    });
    set(&mut rules.backfill_order, order);
    set(&mut rules.min_confidence, said.min_confidence.map(PerMille::new));
    set(&mut rules.ageing, said.ageing.map(|step| step.map(|s| s.0)));
    set(&mut rules.starvation_after, said.starvation_after.map(|long| long.map(|s| s.0)));
    rules.seed = said.seed.unwrap_or(seed);
    set_span(&mut rules.karma.quantum, said.karma.quantum);
    set(&mut rules.karma.initial, said.karma.initial);
    if let Some(part) = said.karma.guaranteed {
        rules.karma.guaranteed =
            Ppm::new(millionths("execution.scheduling.karma.guaranteed", part)?);
    }
    Ok(())
}

fn preemption(rules: &mut Preemption, said: &file::Preemption) {
    set(&mut rules.enabled, said.enabled);
    set(&mut rules.gap_min, said.min_gap);
    set_span(&mut rules.runtime_min, said.min_runtime);
    set_span(&mut rules.grace, said.grace_seconds);
    set_span(&mut rules.hold, said.hold_seconds);
    set(&mut rules.per_hour_max, said.max_per_hour);
    set(&mut rules.requeue, said.requeue);
    set(&mut rules.boost_after, said.boost_after);
}

fn atp(rules: &mut Atp, said: &file::Atp, resources: &[String]) -> Result<(), Fault> {
    set(&mut rules.enabled, said.enabled);
    let exhaustion = said.on_exhaustion.map(|name| match name {
        file::ExhaustionName::Pause => Exhaustion::Pause,
        file::ExhaustionName::Kill => Exhaustion::Kill,
        file::ExhaustionName::ContinueLow => Exhaustion::ContinueLow,
    });
    set(&mut rules.on_exhaustion, exhaustion);
    let price = said.price.map(|name| match name {
        file::PricingName::Static => Pricing::Static,
        file::PricingName::Dynamic => Pricing::Dynamic,
    });
    set(&mut rules.price, price);
    if let Some(fee) = said.fee {
        rules.fee = Ppm::new(millionths("atp.fee", fee)?);
    }
    set_span(&mut rules.epoch, said.epoch);
    if let Some(part) = said.grant_fraction {
        rules.grant_fraction = Ppm::new(millionths("atp.grant_fraction", part)?);
    }
    set(&mut rules.decay_half_life, said.decay_half_life.map(|life| life.map(|s| s.0)));
    set(&mut rules.newcomer, said.newcomer);
    let names = ["cpu", "memory", "storage", "gpu"].into_iter().map(str::to_owned);
    let names: Vec<String> = names.chain(resources.iter().cloned()).collect();
    for (name, rate) in &said.rates {
        let slot = names.iter().position(|known| known == name);
        let slot = slot.and_then(|i| rules.rates.get_mut(i));
        let slot = slot.ok_or_else(|| {
            at(
                &format!("atp.rates.{name}"),
                format!("there is no such resource; there are {names:?}"),
            )
        })?;
        *slot = *rate;
    }
    Ok(())
}
