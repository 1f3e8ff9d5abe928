//! The tables of the page, written as HTML so that they can be read without scripts.

use crate::page::table::{Cell, Table, columns};
use crate::picture::number::{atp, of_u64, of_usize, percent, ratio, seconds, span_seconds};
use crate::picture::{slowdown, wait};
use crate::record::{JobRow, JobState, LeaseRow, Party, RunRecord};
use core::cmp::Reverse;
use std::collections::BTreeMap;

/// How many jobs and nodes are listed at most.
const ROWS_MAX: usize = 500;

/// Returns all tables of a run.
pub(crate) fn html(run: &RunRecord) -> String {
    let mut out = String::new();
    for table in [accounts(run), reasons(run), nodes(run), jobs(run)] {
        if !table.rows.is_empty() {
            table.write(&mut out);
        }
    }
    if out.is_empty() {
        out.push_str("<p class=\"note\">This run has no rows.</p>");
    }
    out
}

/// Returns the name of an account.
fn account_name(run: &RunRecord, account: u32) -> String {
    let name = usize::try_from(account).ok().and_then(|id| run.accounts.get(id));
    name.cloned().unwrap_or_default()
}

/// What an account did, added up.
#[derive(Clone, Default)]
struct Sums {
    jobs: usize,
    completed: usize,
    waits: Vec<f64>,
    charged: f64,
    refunded: f64,
    earned: f64,
    balance: f64,
}

/// Lists what each account asked for, waited, paid and earned.
fn accounts(run: &RunRecord) -> Table {
    let mut sums = vec![Sums::default(); run.accounts.len()];
    let place = |account: u32| usize::try_from(account).unwrap_or(usize::MAX);
    for job in &run.jobs {
        let Some(sum) = sums.get_mut(place(job.account)) else { continue };
        sum.jobs += 1;
        sum.completed += usize::from(job.state == JobState::Completed);
        sum.waits.extend(wait(job));
        sum.charged += atp(job.charged);
        sum.refunded += atp(job.refunded);
    }
    for transfer in run.transfers.iter() {
        let id = |party: Party| match party {
            Party::Account(id) | Party::Held(id) => Some(id),
            Party::Mint | Party::Treasury | Party::Burn => None,
        };
        let (from, to, amount) = (id(transfer.from), id(transfer.to), atp(transfer.amount));
        if let Some(sum) = from.and_then(|from| sums.get_mut(place(from))) {
            sum.balance -= amount;
        }
        if let Some(sum) = to.and_then(|to| sums.get_mut(place(to))) {
            sum.balance += amount;
            sum.earned += if from.is_some() && from != to { amount } else { 0.0 };
        }
    }
    let row = |(name, sum): (&String, Sums)| {
        let mut waits = sum.waits;
        waits.sort_by(f64::total_cmp);
        let quantile = |part| Cell::Number(crate::picture::quantile(&waits, part), 1);
        vec![
            Cell::Text(name.clone()),
            Cell::Number(of_usize(sum.jobs), 0),
            Cell::Number(of_usize(sum.completed), 0),
            quantile(0.5),
            quantile(0.95),
            Cell::Number(sum.charged, 2),
            Cell::Number(sum.refunded, 2),
            Cell::Number(sum.earned, 2),
            Cell::Number(sum.balance, 2),
        ]
    };
    Table {
        id: "accounts",
        title: "Accounts",
        note: "Waits of the jobs that started; earned: received from other accounts; balance: \
               available and held at the end."
            .to_owned(),
        columns: columns(&[
            ("account", false),
            ("jobs", true),
            ("completed", true),
            ("wait p50 (s)", true),
            ("wait p95 (s)", true),
            ("charged (ATP)", true),
            ("refunded (ATP)", true),
            ("earned (ATP)", true),
            ("balance (ATP)", true),
        ]),
        rows: run.accounts.iter().zip(sums).map(row).collect(),
    }
}

/// Returns how long a lease lasted, in hours.
fn hours(run: &RunRecord, lease: &LeaseRow) -> f64 {
    seconds(lease.ended.unwrap_or(run.end)) / 3_600.0 - seconds(lease.granted) / 3_600.0
}

/// Lists why leases ended.
fn reasons(run: &RunRecord) -> Table {
    let mut sums: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for lease in &run.leases {
        let why = if lease.why.is_empty() { "(running at the end)" } else { lease.why };
        let sum = sums.entry(why).or_default();
        sum.0 += 1;
        sum.1 += hours(run, lease);
    }
    let row = |(why, (count, hours)): (&str, (usize, f64))| {
        vec![
            Cell::Text(why.to_owned()),
            Cell::Number(of_usize(count), 0),
            Cell::Number(100.0 * ratio(of_usize(count), of_usize(run.leases.len())), 2),
            Cell::Number(hours, 2),
            Cell::Number(60.0 * ratio(hours, of_usize(count)), 1),
        ]
    };
    Table {
        id: "reasons",
        title: "Leases by how they ended",
        note: "One row per reason; a gang counts once per member.".to_owned(),
        columns: columns(&[
            ("reason", false),
            ("leases", true),
            ("share (%)", true),
            ("node-hours", true),
            ("mean (min)", true),
        ]),
        rows: sums.into_iter().map(row).collect(),
    }
}

/// Lists the nodes with what they lent.
fn nodes(run: &RunRecord) -> Table {
    let count = run.nodes.len();
    let mut leased = vec![(0_usize, 0.0); count];
    for lease in &run.leases {
        if let Some(sum) = usize::try_from(lease.node).ok().and_then(|i| leased.get_mut(i)) {
            sum.0 += 1;
            sum.1 += hours(run, lease);
        }
    }
    let mut means = vec![([0.0; 4], 0_usize); count];
    for (i, sample) in run.node_samples.iter().enumerate() {
        let Some((sums, samples)) = means.get_mut(i % count.max(1)) else { continue };
        let values = [sample.owner[0], sample.lent[0], sample.lent[2], sample.pressure];
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += percent(value);
        }
        *samples += 1;
    }
    let rows = run.nodes.iter().zip(leased).zip(means).take(ROWS_MAX);
    let row = |((node, (leases, hours)), (sums, samples)): ((&crate::record::NodeRow, _), _)| {
        let mut cells = vec![
            Cell::Text(node.name.clone()),
            Cell::Text(account_name(run, node.owner)),
            Cell::Number(of_u64(node.capacity.cpu.get()) / 1_000.0, 0),
            Cell::Number(of_u64(node.capacity.gpu.get()) / 1_000.0, 0),
            Cell::Text(node.gpu_model.clone()),
            Cell::Number(of_usize(leases), 0),
            Cell::Number(hours, 2),
        ];
        let mean = |sum: f64| Cell::Number(ratio(sum, of_usize(samples)), 1);
        cells.extend(<[f64; 4]>::map(sums, mean));
        cells
    };
    Table {
        id: "nodes",
        title: "Nodes",
        note: limited(count, "nodes, in the order of the scenario"),
        columns: columns(&[
            ("node", false),
            ("owner", false),
            ("cores", true),
            ("GPUs", true),
            ("model", false),
            ("leases", true),
            ("lease-hours", true),
            ("owner CPU (%)", true),
            ("lent CPU (%)", true),
            ("lent GPU (%)", true),
            ("pressure (%)", true),
        ]),
        rows: rows.map(row).collect(),
    }
}

/// Says how many of the rows are listed.
fn limited(count: usize, what: &str) -> String {
    if count > ROWS_MAX {
        format!("The first {ROWS_MAX} of {count} {what}; all of them are in the CSV files.")
    } else {
        format!("All {count} {what}.")
    }
}

/// Lists the slowest jobs.
fn jobs(run: &RunRecord) -> Table {
    let mut order: Vec<(u64, &JobRow)> = (0..).zip(&run.jobs).collect();
    order.sort_by_key(|(id, job)| (Reverse(job.wait), *id));
    let row = |(id, job): (u64, &JobRow)| {
        let time = |at: Option<gridcore::units::Time>| {
            at.map_or(Cell::Nothing, |at| Cell::Number(seconds(at), 0))
        };
        vec![
            Cell::Number(of_u64(id), 0),
            Cell::Text(job.name.to_string()),
            Cell::Text(account_name(run, job.account)),
            Cell::Number(f64::from(job.priority), 0),
            Cell::Number(of_u64(job.needs.cpu.get()) / 1_000.0, 1),
            Cell::Number(of_u64(job.needs.gpu.get()) / 1_000.0, 2),
            time(Some(job.submit)),
            time(job.start),
            time(job.end),
            Cell::Number(span_seconds(job.wait), 0),
            Cell::Number(span_seconds(job.run), 0),
            slowdown(job).map_or(Cell::Nothing, |value| Cell::Number(value, 2)),
            Cell::Text(JobState::name(job.state).to_owned()),
            Cell::Number(f64::from(job.preemptions), 0),
            Cell::Number(atp(job.charged), 2),
        ]
    };
    Table {
        id: "jobs",
        title: "Jobs that waited longest",
        note: limited(run.jobs.len(), "jobs by wait, the longest first"),
        columns: columns(&[
            ("id", true),
            ("name", false),
            ("account", false),
            ("priority", true),
            ("cores", true),
            ("GPUs", true),
            ("submit (s)", true),
            ("start (s)", true),
            ("end (s)", true),
            ("wait (s)", true),
            ("run (s)", true),
            ("slowdown", true),
            ("state", false),
            ("preemptions", true),
            ("charged (ATP)", true),
        ]),
        rows: order.into_iter().take(ROWS_MAX).map(row).collect(),
    }
}
