//! What a run comes to: the content of `summary.json`, in integers to the last place.
//!
//! Distributions are over jobs that ended by themselves or at their limit. The mean carries six
//! decimals, rounded half up; percentiles are by nearest rank. Little's law is not a metric but an
//! invariant: the integral of the number of waiting jobs must equal the sum of their waits, to the
//! millisecond, in every run.

use crate::json::{Json, object};
use crate::record::{JobRow, JobState, RunRecord};
use crate::world::Finished;
use gridcore::effect::EvictionReason;
use gridcore::ledger::Account;
use gridcore::units::{Band, Span};
use std::collections::BTreeMap;

/// The version of the layout of `summary.json`.
const SCHEMA: &str = "gridsim-summary/1";

/// A broken law: the run must not be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Little's law is broken for class {class}: {integral} job-ms waiting, {waits} ms waited")]
pub struct LittleError {
    /// The band.
    pub class: &'static str,
    /// The integral of the number of waiting jobs.
    pub integral: u128,
    /// The sum of the waits.
    pub waits: u128,
}

/// Divides and rounds half up.
fn divide(value: u128, by: u128) -> i128 {
    let rounded = (2 * value + by).checked_div(2 * by).unwrap_or(0);
    i128::try_from(rounded).unwrap_or(i128::MAX)
}

/// Returns a share in millionths; nothing of nothing is nothing.
fn share(part: u128, whole: u128) -> Json {
    Json::Fixed(divide(part * 1_000_000, whole.max(1)))
}

/// Describes a distribution of values in millionths of millionths: a mean of many is exact to the
/// millionth.
fn distribution(mut values: Vec<u128>) -> Json {
    values.sort_unstable();
    let count = values.len() as u128;
    let sum: u128 = values.iter().sum();
    let rank = |percent: usize| {
        let place = (values.len() * percent).div_ceil(100).max(1) - 1;
        Json::Fixed(divide(values.get(place).copied().unwrap_or(0), FINE))
    };
    object([
        ("mean", Json::Fixed(divide(sum, count.max(1) * FINE))),
        ("p50", rank(50)),
        ("p95", rank(95)),
        ("p99", rank(99)),
        ("max", rank(100)),
    ])
}

/// How many of the units of a distribution make a millionth.
const FINE: u128 = 1_000_000;

/// Returns a span as a distribution takes it, in seconds.
fn fine(span: Span) -> u128 {
    u128::from(span.get()) * 1_000 * FINE
}

/// Returns whether a job counts in the distributions.
fn ended(row: &JobRow) -> bool {
    matches!(row.state, JobState::Completed | JobState::Timeout | JobState::Failed)
}

/// Returns how long a job would have taken undisturbed.
fn service(row: &JobRow) -> Span {
    if row.state == JobState::Completed { row.work } else { row.run }
}

/// Returns a job's time from submission to end.
fn flow(row: &JobRow) -> Span {
    row.end.map_or(Span::ZERO, |end| end.since(row.submit))
}

/// Returns flow over service as a distribution takes it: service is at least `floor`, the result at
/// least 1.
fn slowdown(row: &JobRow, floor: Span) -> u128 {
    let (service, one) = (u128::from(service(row).max(floor).get().max(1)), 1_000_000 * FINE);
    (u128::from(flow(row).get()) * one / service).max(one)
}

/// The bound of the bounded slowdown.
const TAU: Span = Span::seconds(10);

/// Describes waits, flows and slowdowns of some jobs.
fn times<'a>(rows: impl Iterator<Item = &'a JobRow> + Clone) -> Vec<(&'static str, Json)> {
    let over = |f: &dyn Fn(&JobRow) -> u128| {
        distribution(rows.clone().filter(|row| ended(row)).map(f).collect())
    };
    vec![
        ("wait_s", over(&|row| fine(row.wait))),
        ("flow_s", over(&|row| fine(flow(row)))),
        ("bounded_slowdown", over(&|row| slowdown(row, TAU))),
        ("slowdown", over(&|row| slowdown(row, Span::new(1)))),
    ]
}

/// Builds the summary of a run.
///
/// # Errors
/// When Little's law does not hold.
pub fn summary(run: &Finished) -> Result<Json, LittleError> {
    check_little(run)?;
    let record = &run.record;
    Ok(object([
        ("schema", Json::Text(SCHEMA.to_owned())),
        ("scenario", Json::Text(record.scenario.clone())),
        ("seed", Json::Int(i128::from(record.seed))),
        ("digest", Json::Text(run.grid.digest().to_string())),
        ("complete", Json::Bool(record.complete)),
        ("counts", counts(run)),
        ("metrics", metrics(run)),
    ]))
}

/// Checks Little's law for every band.
fn check_little(run: &Finished) -> Result<(), LittleError> {
    for band in Band::ALL {
        let rows = run.record.jobs.iter().filter(|row| row.band() == band);
        let waits: u128 = rows.map(|row| u128::from(row.wait.get())).sum();
        let integral = run.tally.sums.waiting.get(band as usize).copied().unwrap_or(0);
        if waits != integral {
            return Err(LittleError { class: band.name(), integral, waits });
        }
    }
    Ok(())
}

/// All states in the order of the counts.
const STATES: [JobState; 10] = [
    JobState::Completed,
    JobState::Running,
    JobState::Waiting,
    JobState::Refused,
    JobState::Failed,
    JobState::Timeout,
    JobState::Cancelled,
    JobState::Preempted,
    JobState::NodeFail,
    JobState::OutOfBudget,
];

fn counts(run: &Finished) -> Json {
    let record = &run.record;
    let mut by_state: BTreeMap<JobState, i128> = BTreeMap::new();
    let mut by_refusal: BTreeMap<&str, i128> = BTreeMap::new();
    for row in &record.jobs {
        *by_state.entry(row.state).or_insert(0) += 1;
        if !row.refusal.is_empty() {
            *by_refusal.entry(row.refusal).or_insert(0) += 1;
        }
    }
    let mut pairs = vec![
        ("nodes".to_owned(), Json::Int(record.nodes.len() as i128)),
        ("accounts".to_owned(), Json::Int(record.accounts.len() as i128)),
        ("jobs".to_owned(), Json::Int(record.jobs.len() as i128)),
    ];
    for state in STATES {
        let count = by_state.get(&state).copied().unwrap_or(0);
        pairs.push((state.name().to_owned(), Json::Int(count)));
    }
    let refusals = by_refusal.into_iter().map(|(why, count)| (why, Json::Int(count)));
    pairs.push(("refused_because".to_owned(), object(refusals)));
    pairs.push(("leases".to_owned(), Json::Int(record.leases.len() as i128)));
    pairs.push(("entries".to_owned(), Json::Int(i128::from(run.counts.entries))));
    let evictions = EvictionReason::ALL.iter().zip(run.harm.evictions);
    let evictions = evictions.map(|(why, count)| (why.name(), Json::Int(i128::from(count))));
    pairs.push(("evictions".to_owned(), object(evictions)));
    Json::Object(pairs)
}

fn metrics(run: &Finished) -> Json {
    let record = &run.record;
    let mut pairs: Vec<(String, Json)> =
        times(record.jobs.iter()).into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    let mut put = |key: &str, value: Json| pairs.push((key.to_owned(), value));
    let reclaims = run.harm.reclaims.iter().map(|span| fine(*span)).collect();
    put("reclaim_latency_s", distribution(reclaims));
    put("by_class", by_class(record));
    put("by_account", by_account(record));
    // From the first submission to the last end.
    let last = record.jobs.iter().filter_map(|row| row.end).max().unwrap_or_default();
    let first = record.jobs.iter().map(|row| row.submit).min().unwrap_or_default();
    put("makespan_s", Json::Fixed(i128::from(last.since(first).get()) * 1_000));
    let sums = &run.tally.sums;
    let lent = |i: usize| -> u128 { sums.lent.iter().filter_map(|l| l.get(i)).sum() };
    let resources = ["cpu", "memory", "gpu"];
    let each = |f: &dyn Fn(usize) -> Json| object((0..3).map(|i| (resources[i], f(i))));
    put("utilisation", each(&|i| share(sums.owner[i] + lent(i), sums.capacity[i])));
    put("lent_over_capacity", each(&|i| share(lent(i), sums.capacity[i])));
    put("lent_over_lendable", each(&|i| share(run.harm.offered[i], run.harm.lendable[i])));
    put("owner_harm", owner_harm(run));
    put("efficiency", each(&|i| efficiency(record, i)));
    let preemptions: u64 = record.jobs.iter().map(|row| u64::from(row.preemptions)).sum();
    put("preemptions", Json::Int(i128::from(preemptions)));
    let moves: u64 = record.jobs.iter().map(|row| u64::from(row.moves)).sum();
    put("moves", Json::Int(i128::from(moves)));
    let lost: u128 = record.jobs.iter().map(|row| fine(row.lost) / FINE).sum();
    put("destroyed_work_s", Json::Fixed(i128::try_from(lost).unwrap_or(i128::MAX)));
    let placed = record.jobs.iter().filter(|row| row.attempts > 0).count() as u128;
    put("allocation_success_share", share(placed, record.jobs.len() as u128));
    put("jain", jain(&shares_of_accounts(record)));
    let accounts = run.grid.state().ledger.accounts.iter();
    put("gini", gini(accounts.map(|(_, a)| a.balance().get().into()).collect()));
    let gpus = divide(sums.unallocated * 1_000, u128::from(record.end.ms()).max(1));
    put("unallocated_gpus", Json::Fixed(gpus));
    let fates = run.grid.state().fates;
    put(
        "offers",
        object([
            ("opened", Json::Int(i128::from(fates.opened))),
            ("leased", Json::Int(i128::from(fates.leased))),
            ("expired", Json::Int(i128::from(fates.expired))),
            ("withdrawn", Json::Int(i128::from(fates.withdrawn))),
            ("revoked", Json::Int(i128::from(fates.revoked))),
        ]),
    );
    put("atp", atp(run));
    if run.grid.state().rules.atp.is_dynamic() {
        put("price", each(&|i| prices(record, i)));
    }
    if !record.fill.is_empty() {
        put("allocated_gpu_percent_at", fill(record));
    }
    Json::Object(pairs)
}

/// Returns the mean and the extremes of a resource's price over the run, as multiples of its rate.
fn prices(record: &RunRecord, resource: usize) -> Json {
    let rows = record.timeline.iter().filter_map(|row| row.price_ppm.get(resource));
    let prices: Vec<u32> = rows.copied().collect();
    let sum: u128 = prices.iter().copied().map(u128::from).sum();
    let end = |price: Option<&u32>| Json::Fixed(price.copied().unwrap_or(1_000_000).into());
    object([
        ("mean", Json::Fixed(divide(sum, prices.len().max(1) as u128))),
        ("min", end(prices.iter().min())),
        ("max", end(prices.iter().max())),
    ])
}

fn by_class(record: &RunRecord) -> Json {
    object(Band::ALL.into_iter().filter_map(|band| {
        let rows = record.jobs.iter().filter(move |row| row.band() == band);
        let jobs = rows.clone().count();
        let mut pairs = vec![("jobs", Json::Int(jobs as i128))];
        pairs.extend(times(rows));
        (jobs > 0).then(|| (band.name(), object(pairs)))
    }))
}

fn by_account(record: &RunRecord) -> Json {
    let mut rows: BTreeMap<u32, Vec<&JobRow>> = BTreeMap::new();
    for row in &record.jobs {
        rows.entry(row.account).or_default().push(row);
    }
    object(rows.into_iter().filter_map(|(account, rows)| {
        let name = record.accounts.get(account as usize)?;
        let mut pairs = vec![("jobs", Json::Int(rows.len() as i128))];
        pairs.extend(times(rows.iter().copied()));
        Some((name.clone(), object(pairs)))
    }))
}

fn owner_harm(run: &Finished) -> Json {
    let harm = &run.harm;
    let overshoot = divide(harm.overshoot_ppm, u128::from(harm.looked.max(1)));
    object([
        ("intervals_share", share(u128::from(harm.harmed), u128::from(harm.intervals))),
        ("overshoot_share", Json::Fixed(overshoot)),
    ])
}

/// Used over reserved: reserved time less the work that evictions destroyed.
fn efficiency(record: &RunRecord, resource: usize) -> Json {
    let (mut used, mut reserved) = (0_u128, 0_u128);
    for row in &record.jobs {
        let needs = [row.needs.cpu.get(), row.needs.memory.get(), row.needs.gpu.get()];
        let amount = u128::from(needs.get(resource).copied().unwrap_or(0));
        reserved += amount * u128::from(row.run.get());
        used += amount * u128::from(row.run.saturating_sub(row.lost).get());
    }
    share(used, reserved)
}

/// Returns each account's dominant share of capacity over time, in millionths, over its weight 1.
fn shares_of_accounts(record: &RunRecord) -> Vec<u128> {
    let whole = record.nodes.iter().fold([0_u128; 3], |mut sum, node| {
        let parts = [node.capacity.cpu.get(), node.capacity.memory.get(), node.capacity.gpu.get()];
        for (sum, part) in sum.iter_mut().zip(parts) {
            *sum += u128::from(part);
        }
        sum
    });
    let mut used: BTreeMap<u32, [u128; 3]> = BTreeMap::new();
    for row in &record.jobs {
        let needs = [row.needs.cpu.get(), row.needs.memory.get(), row.needs.gpu.get()];
        for (sum, need) in used.entry(row.account).or_default().iter_mut().zip(needs) {
            *sum += u128::from(need) * u128::from(row.run.get());
        }
    }
    let dominant = |sums: [u128; 3]| {
        let parts = sums.into_iter().zip(whole);
        parts.map(|(sum, whole)| sum.checked_div(whole).unwrap_or(0)).max().unwrap_or(0)
    };
    used.into_values().map(dominant).collect()
}

/// Jain's index: (sum x)^2 / (n sum x^2); 1 is equal.
fn jain(values: &[u128]) -> Json {
    let sum: u128 = values.iter().sum();
    let squares: u128 = values.iter().map(|v| v * v).sum();
    share(sum * sum / (values.len() as u128).max(1), squares)
}

/// The Gini coefficient of what accounts have: 0 is equal.
fn gini(mut values: Vec<u128>) -> Json {
    values.sort_unstable();
    let n = values.len() as u128;
    let sum: u128 = values.iter().sum();
    let weighted: u128 = (1..).zip(&values).map(|(i, x): (u128, &u128)| i * x).sum();
    share((2 * weighted).saturating_sub((n + 1) * sum), n * sum)
}

fn atp(run: &Finished) -> Json {
    let ledger = &run.grid.state().ledger;
    let held: u128 = ledger.accounts.iter().map(|(_, a)| u128::from(a.held.get())).sum();
    let granted: u128 = ledger.accounts.iter().map(|(_, a)| a.granted).sum();
    // Their squares must fit: what is lost is below a millionth of the largest.
    let most = ledger.accounts.iter().map(|(_, a)| a.earned).max().unwrap_or(0);
    let shift = (128 - most.leading_zeros()).saturating_sub(48);
    let earned: Vec<u128> = ledger.accounts.iter().map(|(_, a)| a.earned >> shift).collect();
    let deposited: u128 = ledger.accounts.iter().map(|(_, a)| a.deposited).sum();
    let refunded: u128 = run.record.jobs.iter().map(|row| u128::from(row.refunded.get())).sum();
    let micro = |value: u128| Json::Fixed(i128::try_from(value).unwrap_or(i128::MAX));
    object([
        ("minted", micro(ledger.mint.unsigned_abs())),
        ("deposited", micro(deposited)),
        ("granted", micro(granted)),
        ("settled", micro(ledger.settled)),
        ("refunded", micro(refunded)),
        ("burned", micro(ledger.burned)),
        ("held", micro(held)),
        ("treasury", micro(u128::from(ledger.treasury.get()))),
        ("jain_earned", jain(&earned)),
        ("gini_earned", gini(earned)),
        ("by_account", object(ledger.accounts.iter().map(|(_, a)| of_account(a)))),
    ])
}

/// What an account has at the end, and what its lifetime totals are.
fn of_account(account: &Account) -> (String, Json) {
    let micro = |value: u128| Json::Fixed(i128::try_from(value).unwrap_or(i128::MAX));
    let totals = object([
        ("balance", micro(account.balance().get().into())),
        ("deposited", micro(account.deposited)),
        ("granted", micro(account.granted)),
        ("earned", micro(account.earned)),
        ("spent", micro(account.spent)),
        ("refunded", micro(account.refunded)),
        ("decayed", micro(account.decayed)),
        ("reputation", micro(account.standing.get().get().into())),
    ]);
    (account.spec.name.clone(), totals)
}

/// The percentages of arrived requests that the fill is read at.
const FILL_AT: [u32; 7] = [50, 80, 90, 95, 100, 110, 130];

fn fill(record: &RunRecord) -> Json {
    object(FILL_AT.into_iter().filter_map(|percent| {
        let reached = record.fill.iter().find(|p| p.arrived_bp >= percent * 100);
        // The last point of a run that stops just before its target counts for it.
        let near = |p: &&crate::record::FillPoint| p.arrived_bp + 100 >= percent * 100;
        let point = reached.or_else(|| record.fill.last().filter(near))?;
        // Thousandths of a basis point are hundred-thousandths of a percent.
        Some((percent.to_string(), Json::Fixed(i128::from(point.allocated_mbp) * 10)))
    }))
}

/// Returns the rows of the summary table, headline first.
#[must_use]
pub fn table(summary: &Json) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    flatten(summary, "", &mut rows);
    rows
}

/// Turns nested values into rows, leaving out what is kept per account.
fn flatten(value: &Json, path: &str, rows: &mut Vec<(String, String)>) {
    match value {
        Json::Object(pairs) if is_distribution(pairs) => {
            let shown: Vec<String> =
                pairs.iter().map(|(k, v)| format!("{k} {}", plain(v))).collect();
            rows.push((path.to_owned(), shown.join("  ")));
        }
        Json::Object(pairs) => {
            for (key, value) in pairs.iter().filter(|(key, _)| key != "by_account") {
                let path = if path.is_empty() || path == "metrics" || path == "counts" {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                flatten(value, &path, rows);
            }
        }
        Json::Null | Json::Bool(_) | Json::Int(_) | Json::Fixed(_) | Json::Text(_) => {
            rows.push((path.to_owned(), plain(value)));
        }
    }
}

fn is_distribution(pairs: &[(String, Json)]) -> bool {
    pairs.first().is_some_and(|(key, _)| key == "mean")
}

/// Writes a value for people: three decimals are enough for them.
fn plain(value: &Json) -> String {
    match value {
        Json::Fixed(millionths) => {
            let rounded = (millionths + 500).div_euclid(1_000);
            format!("{}.{:03}", rounded.div_euclid(1_000), rounded.rem_euclid(1_000))
        }
        Json::Int(value) => value.to_string(),
        Json::Text(text) => text.clone(),
        Json::Bool(yes) => yes.to_string(),
        Json::Null | Json::Object(_) => String::new(),
    }
}
