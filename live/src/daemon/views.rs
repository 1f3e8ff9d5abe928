//! What people see of the state, as JSON: names for numbers, units in the keys.

use super::credit::{held_for, metering};
use super::history::{History, Memory};
use super::nodes::{Line, LineState};
use crate::frame::{Device, Note};
use gridcore::blocker::IN_VAIN;
use gridcore::bundle::{Bundle, Dimension};
use gridcore::explain::{Blocker, explain};
use gridcore::idle::{reclaim_at, since};
use gridcore::ids::{JobId, LeaseId, NodeId};
use gridcore::jobs::{Job, JobState};
use gridcore::leases::LeaseState;
use gridcore::nodes::Node;
use gridcore::pressure::score;
use gridcore::state::State;
use gridcore::units::{Bytes, MilliCores, Span, Time};
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
pub(super) fn thousandths(amount: u64) -> Value {
    let text = format!("{}.{:03}", amount / 1_000, amount % 1_000);
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// Returns credit, in micro-ATP, as ATP with six decimals.
#[must_use]
pub fn atp(amount: impl Into<i128>) -> Value {
    millionths(amount.into())
}

/// Returns millionths as a decimal.
#[must_use]
pub(super) fn millionths(amount: i128) -> Value {
    let (sign, amount) = (if amount < 0 { "-" } else { "" }, amount.unsigned_abs());
    let text = format!("{sign}{}.{:06}", amount / 1_000_000, amount % 1_000_000);
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// Returns amounts as people write them.
#[must_use]
pub fn bundle(amounts: &Bundle) -> Value {
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
    lease.places().map(|node| state.nodes[node].spec.name.clone()).collect()
}

/// Returns what a job waits for, in words.
#[must_use]
pub fn why(state: &State, job: JobId) -> Vec<String> {
    let found = explain(state, job).map(|why| why.blockers).unwrap_or_default();
    found.iter().map(|blocker| said(state, blocker)).collect()
}

/// Returns one reason in words, with names and units where the core has numbers.
fn said(state: &State, blocker: &Blocker) -> String {
    let seconds = |at: &Time| at.since(state.now).get().div_ceil(1_000);
    if let Blocker::BeginTime { at } = blocker {
        return format!("it is not to start before {} s from now", seconds(at));
    }
    if let Blocker::BackoffAfterUnpaid { at } = blocker {
        return format!("{IN_VAIN} in {} s", seconds(at));
    }
    let Blocker::Resources { short, nearest } = blocker else { return blocker.to_string() };
    let on = |(dimension, nodes): &(Dimension, u32)| {
        let s = if *nodes == 1 { "" } else { "s" };
        format!("{} on {nodes} node{s}", amount(state, *dimension, None))
    };
    let short = short.iter().map(on).collect::<Vec<String>>().join(", ");
    let nearest = nearest.map(|(node, dimension, lacks)| {
        let name = &state.nodes[node].spec.name;
        format!("; nearest is {name}, which lacks {}", amount(state, dimension, Some(lacks)))
    });
    format!("too little is free: {short}{}", nearest.unwrap_or_default())
}

/// Returns a resource by name, and how much of it in the unit of people.
fn amount(state: &State, dimension: Dimension, amount: Option<u64>) -> String {
    let gib = |bytes: u64| thousandths(bytes / (1 << 20) * 1_000 / 1_024);
    let (name, unit): (&str, fn(u64) -> Value) = match dimension {
        Dimension::Cpu => ("cores", thousandths),
        Dimension::Memory => ("GiB of memory", gib),
        Dimension::Storage => ("GiB of storage", gib),
        Dimension::Gpu => ("GPUs", thousandths),
        Dimension::Custom(i) => {
            let name = state.resources.get(usize::from(i));
            (name.map_or("a custom resource", String::as_str), |n| json!(n))
        }
    };
    amount.map_or_else(|| name.to_owned(), |amount| format!("{} {name}", unit(amount)))
}

/// Returns how many cores an elastic job has beside its needs, and can have.
fn has_beside(state: &State, job: &Job) -> Value {
    if job.extra.is_zero() {
        return Value::Null;
    }
    let mut has = 0;
    if let JobState::Running(lease) = job.state {
        has = state.leases.get(&lease).map_or(0, |lease| lease.extra.cpu.get());
    }
    json!({"now": thousandths(has), "most": thousandths(job.extra.get())})
}

/// Returns for how long a job has left all its GPUs idle since a time, and when it is told to leave
/// if it goes on so.
pub(super) fn idle(state: &State, since: Time) -> Value {
    let left = reclaim_at(state, since).map(|at| thousandths(at.since(state.now).get()));
    json!({ "idle_s": thousandths(state.now.since(since).get()), "reclaimed_in_s": left })
}

/// Returns what is to become of a running job whose account was warned, in words.
fn warning(state: &State, since: Time) -> String {
    let seconds = |span: Span| span.get() / 1_000;
    let idle = seconds(state.now.since(since));
    let leaves = reclaim_at(state, since).map(|at| seconds(at.since(state.now)));
    let leaves = leaves.map(|left| format!("; it is told to leave in {left} s unless it uses one"));
    format!("it has left its GPUs idle for {idle} s{}", leaves.unwrap_or_default())
}

/// What is to become of a running job that pays no more, in words.
const UNPAID: &str = "its account cannot pay this term; it makes way for anyone who pays";

/// Returns a job that waits or runs.
pub(super) fn live_job(state: &State, job: &Job, memory: Option<&Memory>) -> Value {
    let shape = &state.shapes[job.shape];
    let (mut status, mut nodes) = (job.state.name(), Vec::new());
    let (mut began, mut unused, mut warned, mut unpaid) = (None, None, None, false);
    if let JobState::Running(lease) = job.state {
        nodes = places(state, lease);
        if let Some(lease) = state.leases.get(&lease) {
            began = Some(state.now.since(lease.granted).get());
            unused = since(state, lease);
            unpaid = lease.unpaid;
            warned = unused.filter(|since| lease.warned == Some(*since));
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
        "extra_cpus": has_beside(state, job),
        "members": shape.members,
        "attempts": job.epoch.get(),
        "nodes": nodes,
        "confidence": memory.confidence.filter(|_| began.is_some()),
        "waits_s": began.is_none().then(|| thousandths(state.now.since(job.submitted).get())),
        "runs_s": began.map(thousandths),
        "charged_atp": atp(job.charged.get()),
        "refunded_atp": atp(job.refunded.get()),
        "in_flight_atp": atp(held_for(state, job).get()),
        "committed_atp": job.budget.map(|all| atp(all.saturating_sub(job.charged).get())),
        "submitted": memory.submitted,
        "after": job.after.iter().map(|job| job.get()).collect::<Vec<u64>>(),
        "idle": unused.map(|since| idle(state, since)),
        "why": match (began, warned) {
            (None, _) => why(state, job.id),
            (Some(_), Some(since)) => vec![warning(state, since)],
            (Some(_), None) if unpaid => vec![UNPAID.to_owned()],
            (Some(_), None) => Vec::new(),
        },
    })
}

/// Returns a job that has ended.
pub(super) fn past_job(state: &State, memory: &Memory) -> Value {
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
        "reason": memory.reason,
        "confidence": memory.confidence,
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
        let mut row = live_job(state, job, history.get(id));
        if let Some(keys) = row.as_object_mut() {
            keys.insert("metering".to_owned(), metering(state, job));
        }
        return Some(row);
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
    if let (Some(vitals), Some(keys)) = (&line.vitals, found.as_object_mut()) {
        let stalls = vitals.stalls.map(
            |[cpu, memory, io]| json!({ "cpu": cpu / 100, "memory": memory / 100, "io": io / 100 }),
        );
        let [received, sent] = vitals.network.map(|rate| thousandths(rate / 1_000));
        keys.insert("stalls_percent".to_owned(), json!(stalls));
        keys.insert("disk_free_gb".to_owned(), json!(vitals.disk_free.get() >> 30));
        let network = json!({ "received": received, "sent": sent });
        keys.insert("network_mb_per_s".to_owned(), network);
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
        let said = &node.spec.capacity;
        if said.cpu > MilliCores::whole(hardware.cores) {
            let (said, found) = (said.cpu.get() / 1_000, hardware.cores);
            let what = format!("{said} cores are in the configuration, {found} are there");
            checks.push(note("warn", what));
        }
        // The kernel keeps a little of it to itself.
        if said.memory.get() - said.memory.get() / 16 > hardware.memory.get() {
            let (said, found) = (said.memory.get() >> 20, hardware.memory.get() >> 20);
            let what = format!("{said} MiB of memory are in the configuration, {found} are there");
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
        "unpaid": lease.unpaid,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Hardware;
    use gridcore::config::{AccountSpec, Config, NodeSpec, PoolSpec};
    use gridcore::grid::Grid;
    use gridcore::units::MicroAtp;

    #[test]
    fn what_is_configured_beyond_what_a_machine_has_is_told() {
        let mut config = Config::default();
        config.pools.push(PoolSpec { name: "main".into(), quota: None });
        config.accounts.push(AccountSpec::new("lab", MicroAtp::ZERO));
        let said = Bundle { memory: Bytes::gib(4), ..Bundle::cpu(MilliCores::whole(16)) };
        config.nodes.push(NodeSpec::dedicated("n", said));
        let grid = Grid::new(config, Time::ZERO).unwrap();
        let warned = |cores, memory| -> Vec<String> {
            let hardware = Hardware { cores, memory, ..Hardware::default() };
            let line = LineState { up: true, hardware: Some(hardware), ..LineState::default() };
            let found = doctor(grid.state(), NodeId::new(0), &line).unwrap();
            let checks = found["checks"].as_array().unwrap().iter();
            let warns = checks.filter(|check| check["level"] == "warn");
            warns.map(|check| check["what"].as_str().unwrap().to_owned()).collect()
        };
        assert!(warned(16, Bytes::new((4 << 30) - (200 << 20))).is_empty());
        let cores = "16 cores are in the configuration, 2 are there";
        let memory = "4096 MiB of memory are in the configuration, 1024 are there";
        assert_eq!(warned(2, Bytes::gib(1)), [cores, memory]);
    }
}
