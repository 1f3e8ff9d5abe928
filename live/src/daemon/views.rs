//! What people see of the state, as JSON: names for numbers, units in the keys.

use super::history::{History, Memory};
use super::nodes::{Line, LineState};
use crate::frame::{Device, Note};
use gridcore::bundle::{Bundle, GpuNeed, Needs};
use gridcore::explain::explain;
use gridcore::ids::{JobId, LeaseId, NodeId};
use gridcore::jobs::{Job, JobState};
use gridcore::leases::LeaseState;
use gridcore::nodes::Node;
use gridcore::pressure::score;
use gridcore::state::State;
use gridcore::tariff::cost;
use gridcore::units::{Band, Bytes, MicroAtp, MilliCores, Span, Time};
use serde_json::{Value, json};

/// The version of what is answered.
pub const SCHEMA: u32 = 1;

/// Returns a time as seconds with three decimals.
#[must_use]
pub fn seconds(at: Time) -> Value {
    thousandths(at.ms())
}

/// Returns thousandths as a decimal.
#[must_use]
fn thousandths(amount: u64) -> Value {
    let text = format!("{}.{:03}", amount / 1_000, amount % 1_000);
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// Returns credit, in micro-ATP, as ATP with six decimals.
#[must_use]
pub fn atp(amount: impl Into<i128>) -> Value {
    let amount: i128 = amount.into();
    let (sign, amount) = (if amount < 0 { "-" } else { "" }, amount.unsigned_abs());
    let text = format!("{sign}{}.{:06}", amount / 1_000_000, amount % 1_000_000);
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// Returns amounts as people write them.
fn bundle(amounts: &Bundle) -> Value {
    json!({
        "cpu_cores": thousandths(amounts.cpu.get()),
        "memory_gb": thousandths(amounts.memory.get() / (1 << 20) * 1_000 / 1_024),
        "gpus": thousandths(amounts.gpu.get()),
    })
}

/// Returns the names of the nodes of a lease.
#[must_use]
pub fn places(state: &State, lease: LeaseId) -> Vec<String> {
    let Some(lease) = state.leases.get(&lease) else { return Vec::new() };
    lease.places().iter().map(|node| state.nodes[*node].spec.name.clone()).collect()
}

/// Returns what a job waits for, in words.
#[must_use]
pub fn why(state: &State, job: JobId) -> Vec<String> {
    let found = explain(state, job).map(|why| why.blockers).unwrap_or_default();
    found.iter().map(ToString::to_string).collect()
}

/// Returns a job that waits or runs.
fn live_job(state: &State, job: &Job, memory: Option<&Memory>) -> Value {
    let shape = &state.shapes[job.shape];
    let (mut status, mut nodes) = (job.state.name(), Vec::new());
    let mut began = None;
    if let JobState::Running(lease) = job.state {
        nodes = places(state, lease);
        if let Some(lease) = state.leases.get(&lease) {
            began = Some(state.now.since(lease.granted).get());
            if lease.state != LeaseState::Active {
                status = "leaving";
            } else if lease.suspended.is_some() {
                status = "suspended";
            } else if lease.paused.is_some() {
                status = "paused";
            }
        }
    }
    let memory = memory.cloned().unwrap_or_default();
    json!({
        "job": job.id.get(),
        "name": memory.name,
        "command": memory.command,
        "account": state.ledger.accounts[job.account].spec.name,
        "pool": state.pools[shape.pool].spec.name,
        "priority": job.priority.get(),
        "state": status,
        "needs": bundle(&shape.needs.bundle()),
        "members": shape.members,
        "attempts": job.epoch.get(),
        "nodes": nodes,
        "waits_s": began.is_none().then(|| thousandths(state.now.since(job.submitted).get())),
        "runs_s": began.map(thousandths),
        "charged_atp": atp(job.charged.get()),
        "refunded_atp": atp(job.refunded.get()),
        "submitted": memory.submitted,
        "after": job.after.iter().map(|job| job.get()).collect::<Vec<u64>>(),
        "why": if began.is_none() { why(state, job.id) } else { Vec::new() },
    })
}

/// Returns a job that has ended.
fn past_job(state: &State, memory: &Memory) -> Value {
    let ended = memory.ended.as_ref();
    let account = gridcore::ids::AccountId::new(memory.account);
    let account = state.ledger.accounts.find(account).map(|account| account.spec.name.clone());
    let ran = (memory.started > 0).then(|| memory.finished.saturating_sub(memory.started));
    json!({
        "job": memory.job,
        "name": memory.name,
        "command": memory.command,
        "account": account,
        "state": ended.map(|ended| ended.state.clone()),
        "attempts": memory.attempts,
        "nodes": memory.nodes,
        "exit_code": memory.exit.and_then(|exit| exit.code),
        "signal": memory.exit.and_then(|exit| exit.signal),
        "cpu_s": memory.exit.map(|exit| thousandths(exit.cpu_ms)),
        "runs_s": ran,
        "charged_atp": ended.map(|ended| atp(ended.charged)),
        "refunded_atp": ended.map(|ended| atp(ended.refunded)),
        "submitted": memory.submitted,
        "finished": memory.finished,
    })
}

/// Returns one job; `None` when nobody knows it.
#[must_use]
pub fn job(state: &State, history: &History, id: JobId) -> Option<Value> {
    if let Some(job) = state.jobs.get(&id) {
        return Some(live_job(state, job, history.get(id)));
    }
    history.get(id).filter(|memory| memory.ended.is_some()).map(|m| past_job(state, m))
}

/// Returns the jobs that wait or run.
#[must_use]
pub fn queue(state: &State, history: &History, most: usize) -> Value {
    let jobs = state.jobs.values().take(most);
    let rows: Vec<Value> = jobs.map(|job| live_job(state, job, history.get(job.id))).collect();
    json!({ "schema": SCHEMA, "jobs": rows, "all": state.jobs.len() })
}

/// Returns the jobs that have ended, the newest first.
#[must_use]
pub fn past(state: &State, history: &History, most: usize) -> Value {
    let rows: Vec<Value> = history.ended().take(most).map(|m| past_job(state, m)).collect();
    json!({ "schema": SCHEMA, "jobs": rows })
}

/// Returns one node.
fn node_row(state: &State, id: NodeId, node: &Node, line: &LineState) -> Value {
    let status = if let Some(why) = &node.draining {
        format!("draining: {why}")
    } else if !line.up {
        "unreachable".to_owned()
    } else if node.silent {
        "silent".to_owned()
    } else if !node.lending.open {
        "reclaimed".to_owned()
    } else {
        "up".to_owned()
    };
    let owner = node.load.as_ref().map(|load| {
        let [cpu, memory, _] = load.owner();
        json!({ "cpu_percent": cpu.get() / 100, "memory_percent": memory.get() / 100 })
    });
    json!({
        "node": node.spec.name,
        "number": id.get(),
        "state": status,
        "error": line.error,
        "owner": state.ledger.accounts[node.spec.owner].spec.name,
        "pool": state.pools[node.spec.pool].spec.name,
        "capacity": bundle(&node.spec.capacity),
        "offered": node.offer.as_ref().map(|offer| bundle(&offer.total)),
        "leased": bundle(&node.leased),
        "owner_uses": owner,
        "leases": node.leases.len(),
        "connections": line.begun,
        "build": line.hardware.as_ref().map(|hardware| hardware.build.clone()),
        "kernel": line.hardware.as_ref().map(|hardware| hardware.kernel.clone()),
    })
}

/// Returns all about one node: what is seen of it, how pressed it is, and where it tends to.
#[must_use]
pub fn node(state: &State, id: NodeId, line: &LineState) -> Option<Value> {
    let node = state.nodes.find(id)?;
    let mut found = node_row(state, id, node, line);
    let rules = &state.rules.balance;
    if let (Some(load), Some(keys)) = (&node.load, found.as_object_mut()) {
        let (mut uses, leased) = (load.owner(), node.leased_share());
        uses.iter_mut().zip(leased).for_each(|(all, part)| *all = all.saturating_add(part));
        let pressure = score(uses, !node.gpus.is_empty()).get();
        keys.insert("pressure_percent".to_owned(), json!(pressure / 100));
        keys.insert("pressure".to_owned(), json!(format!("{:?}", load.pressure.level())));
        let trends = rules.trend_windows.map(|window| {
            let [cpu, memory, gpu] = load.history.trend(state.now, window).map(|t| t / 100);
            json!({
                "window_s": window.get() / 1_000,
                "cpu_points": cpu,
                "memory_points": memory,
                "gpu_points": gpu,
            })
        });
        keys.insert("trends".to_owned(), json!(trends));
    }
    if let (Some(hardware), Some(keys)) = (&line.hardware, found.as_object_mut()) {
        let open = node.open_devices();
        let device = |(number, device)| device_row(number, device, open);
        let devices: Vec<Value> = hardware.gpus.iter().enumerate().map(device).collect();
        keys.insert("gpus".to_owned(), json!(devices));
        keys.insert("host".to_owned(), json!(hardware.host));
    }
    Some(found)
}

/// Returns what there is to say of a node: how it is reached, and what it can give.
#[must_use]
pub fn doctor(state: &State, id: NodeId, line: &LineState) -> Option<Value> {
    let node = state.nodes.find(id)?;
    let note = |level: &str, what: String| json!({ "level": level, "what": what });
    let mut checks = Vec::new();
    match (&line.error, line.up) {
        (_, true) => checks.push(note("ok", "its agent answers".to_owned())),
        (Some(error), false) => checks.push(note("fail", format!("it is not reached: {error}"))),
        (None, false) => checks.push(note("fail", "it has not answered yet".to_owned())),
    }
    if node.silent && line.up {
        checks.push(note("warn", "its station has not been heard for a while".to_owned()));
    }
    if let Some(why) = &node.draining {
        checks.push(note("warn", format!("it is drained: {why}")));
    }
    if let Some(hardware) = &line.hardware {
        let (found, said) = (hardware.gpus.len(), node.spec.gpus.len());
        if found != said {
            let what = format!("{said} GPUs are in the configuration, {found} answer");
            checks.push(note("warn", what));
        }
        let level = |warns: bool| if warns { "warn" } else { "ok" };
        let devices: Vec<Note> = hardware.gpus.iter().map(Device::note).collect();
        let notes = hardware.notes.iter().chain(&devices);
        checks.extend(notes.map(|n| note(level(n.warns), n.what.clone())));
    }
    Some(json!({ "schema": SCHEMA, "node": node.spec.name, "checks": checks }))
}

/// Returns one GPU, as its driver describes it.
fn device_row(number: usize, device: &Device, open: u64) -> Value {
    let users = device.processes.iter().map(|process| {
        let user = process.user.as_deref().unwrap_or("somebody");
        format!("{user} ({})", process.pid)
    });
    let mib = |bytes: Bytes| bytes.get() >> 20;
    json!({
        "gpu": number,
        "model": device.model,
        "uuid": device.uuid,
        "memory_mib": mib(device.memory),
        "used_mib": mib(device.used),
        "busy_percent": device.busy,
        "celsius": device.celsius,
        "watts": device.milliwatts.map(|power| thousandths(power.into())),
        "joules": device.millijoules.map(thousandths),
        "processes": users.collect::<Vec<String>>(),
        "offered": open & 1 << number != 0,
        "sick": device.sick,
    })
}

/// Returns the nodes.
#[must_use]
pub fn nodes(state: &State, lines: &[Line]) -> Value {
    let states = lines.iter().map(Line::state).chain(std::iter::repeat_with(LineState::default));
    let rows: Vec<Value> = state
        .nodes
        .iter()
        .zip(states)
        .map(|((id, n), line)| node_row(state, id, n, &line))
        .collect();
    json!({ "schema": SCHEMA, "nodes": rows })
}

/// Returns the open offers.
#[must_use]
pub fn offers(state: &State) -> Value {
    let rows = state.nodes.iter().filter_map(|(_, node)| {
        let offer = node.offer.as_ref()?;
        let ends = (offer.ends < Time::MAX).then(|| thousandths(offer.ends.since(state.now).get()));
        Some(json!({
            "offer": offer.id.get(),
            "node": node.spec.name,
            "pool": state.pools[node.spec.pool].spec.name,
            "total": bundle(&offer.total),
            "free": bundle(&node.free()),
            "ends_in_s": ends,
        }))
    });
    json!({ "schema": SCHEMA, "offers": rows.collect::<Vec<Value>>() })
}

/// Returns the leases.
#[must_use]
pub fn leases(state: &State) -> Value {
    let rows = state.leases.values().map(|lease| {
        json!({
            "lease": lease.id.get(),
            "job": lease.job.get(),
            "attempt": lease.epoch.get(),
            "nodes": places(state, lease.id),
            "state": format!("{:?}", lease.state).to_lowercase(),
            "stuck": lease.stuck,
            "paused": lease.paused.is_some(),
            "suspended": lease.suspended.is_some(),
            "term_ends_in_s": thousandths(lease.term_ends.since(state.now).get()),
            "reason": lease.reason.map(gridcore::wire::EvictionReason::name),
        })
    });
    json!({ "schema": SCHEMA, "leases": rows.collect::<Vec<Value>>() })
}

/// Returns the pools.
#[must_use]
pub fn pools(state: &State) -> Value {
    let rows = state.pools.iter().map(|(id, pool)| {
        json!({
            "pool": pool.spec.name,
            "nodes": pool.nodes.len(),
            "capacity": bundle(&pool.capacity),
            "leased": bundle(&pool.leased),
            "waiting": state.queue.waiting(id).iter().sum::<u64>(),
        })
    });
    json!({ "schema": SCHEMA, "pools": rows.collect::<Vec<Value>>() })
}

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
    let total = |amount: u128| i128::try_from(amount).unwrap_or(i128::MAX);
    let [deposited, earned, paid] = [account.granted, account.earned, account.spent].map(total);
    let (available, held) = (account.available.get(), account.held.get());
    let has = i128::from(available) + i128::from(held);
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
        "refunded_atp": atp(has - deposited - earned + paid),
        "jobs": jobs.collect::<Vec<Value>>(),
        "all": history.of(id).count(),
    }))
}

/// Returns what is set aside for the terms of a job that runs.
fn held_for(state: &State, job: &Job) -> MicroAtp {
    let JobState::Running(lease) = job.state else { return MicroAtp::ZERO };
    let Some(lease) = state.leases.get(&lease) else { return MicroAtp::ZERO };
    let holds = [lease.hold, lease.next_hold].into_iter().flatten();
    let holds = holds.filter_map(|hold| state.ledger.holds.get(&hold));
    holds.fold(MicroAtp::ZERO, |sum, hold| sum.saturating_add(hold.amount))
}

/// Returns what an hour of each resource costs, by class.
#[must_use]
pub fn prices(state: &State) -> Value {
    let rates = &state.rules.atp.rates;
    let units = [
        ("cpu", "core", Needs { cpu: MilliCores::whole(1), ..Needs::default() }),
        ("memory", "GiB", Needs { memory: Bytes::gib(1), ..Needs::default() }),
        ("gpu", "GPU", Needs { gpus: GpuNeed::whole(1), ..Needs::default() }),
    ];
    let rows = units.map(|(resource, unit, needs)| {
        let hour = |band| atp(cost(&needs, Span::seconds(3_600), band, rates).get());
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

/// Returns the whole in a few numbers.
#[must_use]
pub fn status(state: &State, digest: &str, lines: &[Line]) -> Value {
    let running = state.leases.len();
    let up = lines.iter().filter(|line| line.state().up).count();
    let sum = |part: fn(&Node) -> Bundle| {
        let mut total = Bundle::ZERO;
        state.nodes.iter().for_each(|(_, node)| total.add(&part(node)));
        bundle(&total)
    };
    json!({
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
        "cluster": format!("{:016x}", state.cluster),
        "nodes": state.nodes.len(),
        "nodes_up": up,
        "jobs": state.jobs.len(),
        "running": running,
        "waiting": state.jobs.len().saturating_sub(running),
        "capacity": sum(|node| node.spec.capacity),
        "offered": sum(|node| node.offer.as_ref().map_or(Bundle::ZERO, |offer| offer.total)),
        "leased": sum(|node| node.leased),
        "entries": state.seq.get(),
        "time_s": seconds(state.now),
        "digest": digest,
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
