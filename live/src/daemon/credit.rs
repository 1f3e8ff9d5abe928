//! Credit as people see it: balances, statements, prices.

use super::history::History;
use super::views::{SCHEMA, atp, live_job, past_job};
use gridcore::bundle::{GpuNeed, Needs};
use gridcore::ids::JobId;
use gridcore::jobs::{Job, JobState};
use gridcore::ledger::Account;
use gridcore::meter::{Meter, Metered};
use gridcore::state::{Pool, State};
use gridcore::tariff::{Tariff, cost};
use gridcore::units::{Band, Bytes, MicroAtp, MilliCores, Span};
use serde_json::{Value, json};

/// Returns the accounts that somebody may look at, and their credit.
#[must_use]
pub fn accounts(state: &State, may: impl Fn(&str) -> bool) -> Value {
    let listed = state.ledger.accounts.iter();
    let rows = listed.filter(|(_, account)| may(&account.spec.name)).map(|(id, account)| {
        json!({
            "account": account.spec.name,
            "available_atp": atp(state.ledger.available(id).get()),
            "held_atp": atp(account.held.get()),
            "deposited_atp": total(account.deposited),
            "granted_atp": total(account.granted),
            "earned_atp": total(account.earned),
            "spent_atp": total(account.spent),
            "refunded_atp": total(account.refunded),
            "decayed_atp": total(account.decayed),
            "cap_atp": cap(state, account),
            "reputation": account.standing.get().get(),
        })
    });
    let enabled = state.rules.atp.enabled;
    json!({ "schema": SCHEMA, "money": enabled, "accounts": rows.collect::<Vec<Value>>() })
}

/// Returns what an account has, earned and paid, and its jobs, the newest first; `None` when there
/// is no such account.
///
/// Deposited, granted, earned and refunded less paid and decayed is what it has, to the micro-ATP.
/// What a lender gave back lowers what was paid; refunded is what those who preempted its jobs
/// gave, and paid counts what it gave so itself.
#[must_use]
pub fn statement(state: &State, history: &History, name: &str, most: usize) -> Option<Value> {
    let mut accounts = state.ledger.accounts.iter();
    let (id, account) = accounts.find(|(_, account)| account.spec.name == name)?;
    let (available, held) = (account.available.get(), account.held.get());
    let jobs = history.of(id).take(most).map(|memory| {
        let Some(job) = state.jobs.get(&JobId::new(memory.job)) else {
            return past_job(state, memory);
        };
        let mut row = live_job(state, job, Some(memory));
        if let Some(keys) = row.as_object_mut() {
            keys.insert("held_atp".to_owned(), atp(held_for(state, job).get()));
        }
        row
    });
    Some(json!({
        "schema": SCHEMA,
        "money": state.rules.atp.enabled,
        "account": name,
        "available_atp": atp(available),
        "held_atp": atp(held),
        "deposited_atp": total(account.deposited),
        "granted_atp": total(account.granted),
        "earned_atp": total(account.earned),
        "paid_atp": total(account.spent),
        "refunded_atp": total(account.refunded),
        "decayed_atp": total(account.decayed),
        "cap_atp": cap(state, account),
        "reputation": account.standing.get().get(),
        "jobs": jobs.collect::<Vec<Value>>(),
        "all": history.of(id).count(),
    }))
}

/// Returns a lifetime total in ATP.
fn total(amount: u128) -> Value {
    atp(i128::try_from(amount).unwrap_or(i128::MAX))
}

/// Returns the most that an account keeps when an epoch ends; nothing is said where nothing is
/// capped.
fn cap(state: &State, account: &Account) -> Value {
    let (rules, weight) = (&state.rules.atp, account.spec.weight);
    if !state.epochs.are_open(rules) {
        return Value::Null;
    }
    atp(state.epochs.days(rules).cap(weight, account.deposited).get())
}

/// Returns what the meter of a running job's lease tells: its settled terms, and the head of the
/// chain over them, to which a replay of the journal comes too.
pub(super) fn metering(state: &State, job: &Job) -> Value {
    let JobState::Running(lease) = job.state else { return Value::Null };
    let meter = state.leases.get(&lease).and_then(|lease| lease.meter.as_ref());
    let told = |meter: &Meter| {
        let Metered { totals, head } = meter.told();
        json!({
            "lease": lease.get(),
            "terms": totals.terms,
            "expired": totals.expired,
            "paid_atp": total(totals.paid()),
            "lenders_atp": total(totals.lenders()),
            "fee_atp": total(totals.fee),
            "chain": head.to_string(),
        })
    };
    meter.map_or(Value::Null, |meter| told(meter))
}

/// Returns what is set aside for the terms of a job that runs, or for which others make way.
pub(super) fn held_for(state: &State, job: &Job) -> MicroAtp {
    let promised = || state.claims.get(&job.id)?.promise.as_ref()?.hold;
    let of_lease = |id| state.leases.get(&id).map_or([None; 2], |l| [l.hold, l.next_hold]);
    let holds =
        if let JobState::Running(lease) = job.state { of_lease(lease) } else { [promised(), None] };
    let holds = holds.into_iter().flatten();
    let holds = holds.filter_map(|hold| state.ledger.holds.get(&hold));
    holds.fold(MicroAtp::ZERO, |sum, hold| sum.saturating_add(hold.amount))
}

/// A resource that has a price in hours, and its unit.
pub struct Unit {
    /// The resource's name.
    pub resource: &'static str,
    /// The unit's name.
    pub name: &'static str,
    /// The unit.
    pub needs: Needs,
    /// Its place among the prices.
    place: usize,
}

/// Returns the resources that have a price in hours.
#[must_use]
pub fn units() -> [Unit; 3] {
    let unit = |place, resource, name, needs| Unit { resource, name, needs, place };
    [
        unit(0, "cpu", "core", Needs { cpu: MilliCores::whole(1), ..Needs::default() }),
        unit(1, "memory", "GiB", Needs { memory: Bytes::gib(1), ..Needs::default() }),
        unit(3, "gpu", "GPU", Needs { gpus: GpuNeed::whole(1), ..Needs::default() }),
    ]
}

/// Returns what an hour of a resource costs in a pool and class.
#[must_use]
pub fn hour_cost(state: &State, pool: &Pool, unit: &Unit, band: Band) -> MicroAtp {
    let tariff = Tariff { rates: &state.rules.atp.rates, prices: &pool.market.prices, band };
    cost(&unit.needs, Span::seconds(3_600), tariff)
}

/// Returns what an hour of each resource costs in each pool, by class, as which multiple of its
/// rate, and what the price last followed: what was used and waited for of what was lent.
#[must_use]
pub fn prices(state: &State) -> Value {
    let pools = state.pools.iter().map(|(_, pool)| pool);
    let rows = pools.flat_map(|pool| units().map(|unit| price(state, pool, &unit)));
    let dynamic = state.rules.atp.is_dynamic();
    json!({
        "schema": SCHEMA,
        "money": state.rules.atp.enabled,
        "dynamic": dynamic,
        "prices": rows.collect::<Vec<Value>>(),
    })
}

/// Returns the price of one resource in a pool.
fn price(state: &State, pool: &Pool, unit: &Unit) -> Value {
    let hour = |band| atp(hour_cost(state, pool, unit, band).get());
    let multiple = pool.market.prices.0.get(unit.place).map(|ppm| atp(ppm.get()));
    let used = pool.market.used.get(unit.place).copied().flatten();
    json!({
        "pool": pool.spec.name,
        "resource": unit.resource,
        "unit": format!("ATP per {} and hour", unit.name),
        "price": multiple,
        "demand_percent": used.map(|ppm| ppm.get().div_ceil(10_000)),
        "low": hour(Band::Low),
        "medium": hour(Band::Medium),
        "high": hour(Band::High),
        "urgent": hour(Band::Urgent),
    })
}

/// Returns micro-ATP from ATP as people write them.
///
/// # Errors
/// When the text is no amount.
pub fn micro(text: &str) -> Result<MicroAtp, String> {
    let amount = gridsim::decimal::scaled(text, 1_000_000);
    amount.map(MicroAtp::new).map_err(|e| format!("{text:?} is no amount of ATP: {e}"))
}
