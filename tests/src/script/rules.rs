//! What a script says of the rules.

use super::Line;
use gridcore::config::{
    Backfill, BackfillOrder, Exhaustion, Lend, Mode, Order, Policy, Pricing, Rules, Strategy,
};
use gridcore::units::{BasisPoints, PerMille, Ppm, Span};

/// Changes rules by the keys and words of a line.
pub(super) fn rules(rules: &mut Rules, line: &Line<'_>) -> Result<(), String> {
    let spans: [(&str, &mut Span); 15] = [
        ("epoch", &mut rules.atp.epoch),
        ("term", &mut rules.term.0),
        ("grace", &mut rules.preemption.grace),
        ("kill", &mut rules.offering.kill),
        ("hold", &mut rules.preemption.hold),
        ("min_runtime", &mut rules.preemption.runtime_min),
        ("check", &mut rules.offering.check_interval),
        ("expiry", &mut rules.offering.offer_expiry),
        ("idle", &mut rules.offering.idle_before_offer),
        ("latch", &mut rules.offering.busy_latch),
        ("suspend", &mut rules.offering.suspend_max),
        ("resume", &mut rules.offering.resume_after),
        ("horizon", &mut rules.balance.horizon),
        ("cooldown", &mut rules.rebalance.job_cooldown),
        ("quantum", &mut rules.scheduling.karma.quantum),
    ];
    let ages = ["ageing", "starvation", "warn", "reclaim", "half_life"];
    let others = ["guaranteed", "urgent_percent", "gpu_min", "confidence", "grant_ppm"];
    let caps = ["share_percent", "leases", "open_requests"];
    let known = spans.iter().map(|(name, _)| *name).chain(ages).chain(others).chain(caps);
    if let Some(key) = line.values.keys().find(|key| !known.clone().any(|name| name == **key)) {
        return Err(format!("{key} is no rule"));
    }
    for (key, slot) in spans {
        *slot = line.span(key)?.unwrap_or(*slot);
    }
    spans_and_parts(rules, line, ages)?;
    rules.atp.enabled |= line.has("money");
    rules.preemption.enabled |= line.has("preempt");
    for word in &line.words[1..] {
        match *word {
            "money" | "preempt" => {}
            "dynamic_price" => rules.atp.price = Pricing::Dynamic,
            "static_price" => rules.atp.price = Pricing::Static,
            "cheapest" => rules.scheduling.strategy = Strategy::Cheapest,
            "strict" => rules.scheduling.backfill = Backfill::Strict,
            "greedy" => rules.scheduling.backfill = Backfill::Greedy,
            "boosted" => rules.preemption.boost_after = Some(1),
            "easy" => rules.scheduling.backfill = Backfill::Easy,
            "conservative_backfill" => rules.scheduling.backfill = Backfill::Conservative,
            "shortest" => rules.scheduling.backfill_order = BackfillOrder::Shortest,
            "smallest" => rules.scheduling.backfill_order = BackfillOrder::Smallest,
            "fair" => rules.scheduling.order = Order::Fair,
            "drf" => rules.scheduling.order = Order::Drf,
            "karma" => rules.scheduling.order = Order::Karma,
            "fifo" => rules.scheduling.order = Order::Fifo,
            "balancing" => rules.rebalance.mode = Mode::DynamicBalancing,
            "offload_only" => rules.rebalance.mode = Mode::OffloadOnly,
            "predictive" => rules.balance.policy = Policy::Predictive,
            "earliest_due" => rules.scheduling.order = Order::EarliestDue,
            "lend_idle" => rules.offering.lend = Lend::Idle,
            "unpaid_exhausted" => rules.atp.on_exhaustion = Exhaustion::ContinueLow,
            "kill_exhausted" => rules.atp.on_exhaustion = Exhaustion::Kill,
            "aggressive" => rules.balance.policy = Policy::Aggressive,
            "conservative" => rules.balance.policy = Policy::Conservative,
            "first_fit" => rules.scheduling.strategy = Strategy::FirstFit,
            "best_fit" => rules.scheduling.strategy = Strategy::BestFit,
            "near_data" => rules.scheduling.strategy = Strategy::NearData,
            "worst_fit" => rules.scheduling.strategy = Strategy::WorstFit,
            other => return Err(format!("{other} is no rule")),
        }
    }
    Ok(())
}

/// Reads the spans that may be never, by these keys, and the parts.
fn spans_and_parts(rules: &mut Rules, line: &Line<'_>, ages: [&str; 5]) -> Result<(), String> {
    let (scheduling, utilization) = (&mut rules.scheduling, &mut rules.utilization);
    let slots = [
        &mut scheduling.ageing,
        &mut scheduling.starvation_after,
        &mut utilization.warn_after,
        &mut utilization.reclaim_after,
        &mut rules.atp.decay_half_life,
    ];
    for (key, slot) in ages.into_iter().zip(slots) {
        *slot = line.span(key)?.or(*slot);
    }
    if let Some(percent) = line.number("urgent_percent")? {
        let ppm = u32::try_from(percent * 10_000).map_err(|e| e.to_string())?;
        rules.caps.urgent_share = Some(Ppm::new(ppm));
    }
    if let Some(percent) = line.number("share_percent")? {
        let ppm = u32::try_from(percent * 10_000).map_err(|e| e.to_string())?;
        rules.caps.pool_share = Some(Ppm::new(ppm));
    }
    let counts =
        [("leases", &mut rules.caps.leases), ("open_requests", &mut rules.caps.open_requests)];
    for (key, slot) in counts {
        let count = line.number(key)?.map(u32::try_from).transpose();
        *slot = count.map_err(|e| e.to_string())?.or(*slot);
    }
    if let Some(percent) = line.number("gpu_min")? {
        let percent = u16::try_from(percent).map_err(|e| e.to_string())?;
        rules.utilization.gpu_min = BasisPoints::percent(percent);
    }
    if let Some(least) = line.number("confidence")? {
        let least = u16::try_from(least).map_err(|e| e.to_string())?;
        rules.scheduling.min_confidence = PerMille::new(least);
    }
    if let Some(ppm) = line.number("grant_ppm")? {
        rules.atp.grant_fraction = Ppm::new(u32::try_from(ppm).map_err(|e| e.to_string())?);
    }
    let guaranteed = line.small("guaranteed", 50)?;
    rules.scheduling.karma.guaranteed = Ppm::new(guaranteed * 10_000);
    Ok(())
}
