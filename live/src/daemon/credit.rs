//! Credit as people see it: balances, statements, prices.

use super::history::History;
use super::views::{SCHEMA, atp, live_job, past_job};
use gridcore::bundle::{GpuNeed, Needs};
use gridcore::ids::JobId;
use gridcore::jobs::{Job, JobState};
use gridcore::ledger::Account;
use gridcore::state::State;
use gridcore::tariff::cost;
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
        })
    });
    let enabled = state.rules.atp.enabled;
    json!({ "schema": SCHEMA, "money": enabled, "accounts": rows.collect::<Vec<Value>>() })
}

/// Returns what an account has, earned and paid, and its jobs, the newest first; `None` when there
/// is no such account.
///
/// Deposited, earned and refunded less paid is what it has, to the micro-ATP. What a lender gave
/// back lowers what was paid; refunded is what those who preempted its jobs gave, less what it gave
/// so itself.
#[must_use]
pub fn statement(state: &State, history: &History, name: &str, most: usize) -> Option<Value> {
    let mut accounts = state.ledger.accounts.iter();
    let (id, account) = accounts.find(|(_, account)| account.spec.name == name)?;
    let [deposited, earned, paid] = totals(account);
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
        "deposited_atp": atp(deposited),
        "earned_atp": atp(earned),
        "paid_atp": atp(paid),
        "refunded_atp": atp(refunded(account)),
        "jobs": jobs.collect::<Vec<Value>>(),
        "all": history.of(id).count(),
    }))
}

/// Returns what an account was given, earned and paid over all time.
fn totals(account: &Account) -> [i128; 3] {
    let total = |amount: u128| i128::try_from(amount).unwrap_or(i128::MAX);
    [account.granted, account.earned, account.spent].map(total)
}

/// Returns what came back to an account for work that others destroyed, less what it gave so.
#[must_use]
pub fn refunded(account: &Account) -> i128 {
    let [deposited, earned, paid] = totals(account);
    let has = i128::from(account.available.get()) + i128::from(account.held.get());
    has - deposited - earned + paid
}

/// Returns what is set aside for the terms of a job that runs.
fn held_for(state: &State, job: &Job) -> MicroAtp {
    let JobState::Running(lease) = job.state else { return MicroAtp::ZERO };
    let Some(lease) = state.leases.get(&lease) else { return MicroAtp::ZERO };
    let holds = [lease.hold, lease.next_hold].into_iter().flatten();
    let holds = holds.filter_map(|hold| state.ledger.holds.get(&hold));
    holds.fold(MicroAtp::ZERO, |sum, hold| sum.saturating_add(hold.amount))
}

/// Returns a unit of each resource that has a price: its name, the unit's name, and the unit.
#[must_use]
pub fn units() -> [(&'static str, &'static str, Needs); 3] {
    [
        ("cpu", "core", Needs { cpu: MilliCores::whole(1), ..Needs::default() }),
        ("memory", "GiB", Needs { memory: Bytes::gib(1), ..Needs::default() }),
        ("gpu", "GPU", Needs { gpus: GpuNeed::whole(1), ..Needs::default() }),
    ]
}

/// Returns what an hour of something costs in a class.
#[must_use]
pub fn hour_cost(state: &State, needs: &Needs, band: Band) -> MicroAtp {
    cost(needs, Span::seconds(3_600), band, &state.rules.atp.rates)
}

/// Returns what an hour of each resource costs, by class.
#[must_use]
pub fn prices(state: &State) -> Value {
    let rows = units().map(|(resource, unit, needs)| {
        let hour = |band| atp(hour_cost(state, &needs, band).get());
        json!({
            "resource": resource,
            "unit": format!("ATP per {unit} and hour"),
            "low": hour(Band::Low),
            "medium": hour(Band::Medium),
            "high": hour(Band::High),
            "urgent": hour(Band::Urgent),
        })
    });
    json!({ "schema": SCHEMA, "money": state.rules.atp.enabled, "prices": rows })
}

/// Returns micro-ATP from ATP as people write them.
///
/// # Errors
/// When the text is no amount.
pub fn micro(text: &str) -> Result<MicroAtp, String> {
    let amount = gridsim::decimal::scaled(text, 1_000_000);
    amount.map(MicroAtp::new).map_err(|e| format!("{text:?} is no amount of ATP: {e}"))
}
