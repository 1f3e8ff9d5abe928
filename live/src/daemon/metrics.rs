//! The metrics that Prometheus reads (names: NAMES.md), in its text format.

use super::credit::{hour_cost, units};
use super::nodes::LineState;

use crate::frame::Vitals;
use gridcore::effect::{Effect, EvictionReason};
use gridcore::explain::explain;
use gridcore::ids::AccountId;
use gridcore::jobs::JobState;
use gridcore::ledger::Account;
use gridcore::pressure::Level;
use gridcore::state::State;
use gridcore::units::{Band, Span, Time};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Upper bounds of the classes of how long an entry took, in microseconds.
const DECISIONS: [u64; 7] = [10, 100, 1_000, 5_000, 10_000, 100_000, 1_000_000];
/// Upper bounds of the classes of how long an owner waited, in milliseconds.
const RECLAIMS: [u64; 7] = [1_000, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000];

/// How often something took at most so long.
#[derive(Clone, Debug)]
struct Histogram {
    classes: [u64; 7],
    counts: [u64; 7],
    count: u64,
    sum: u64,
}

impl Histogram {
    const fn new(classes: [u64; 7]) -> Self {
        Self { classes, counts: [0; 7], count: 0, sum: 0 }
    }

    fn add(&mut self, value: u64) {
        for (count, bound) in self.counts.iter_mut().zip(self.classes) {
            *count += u64::from(value <= bound);
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
    }
}

/// What is counted from the daemon's start on.
#[derive(Clone, Debug)]
pub struct Counters {
    evicted: BTreeMap<EvictionReason, u64>,
    /// Nodes drained because too much has failed there.
    drained: u64,
    lost: Span,
    decisions: Histogram,
    reclaims: Histogram,
    last: Time,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            evicted: BTreeMap::new(),
            drained: 0,
            lost: Span::ZERO,
            decisions: Histogram::new(DECISIONS),
            reclaims: Histogram::new(RECLAIMS),
            last: Time::ZERO,
        }
    }
}

impl Counters {
    /// Counts what followed from an entry, at the core's time.
    pub fn count(&mut self, effect: &Effect, now: Time) {
        match effect {
            Effect::Evicted { reason, .. } => *self.evicted.entry(*reason).or_insert(0) += 1,
            Effect::Drained { .. } => self.drained += 1,
            Effect::Requeued { lost, .. } => self.lost = self.lost.saturating_add(*lost),
            Effect::Closed(end) => {
                let owner = end.reason == Some(EvictionReason::OwnerReturn);
                if let Some(noticed) = end.noticed.filter(|_| owner) {
                    self.reclaims.add(now.since(noticed).get());
                }
            }
            Effect::Order { .. }
            | Effect::Send { .. }
            | Effect::Granted { .. }
            | Effect::Resized { .. }
            | Effect::Idle(_)
            | Effect::Finished(_)
            | Effect::Moved(_)
            | Effect::Offer { .. } => {}
        }
    }

    /// Counts an entry that was applied.
    pub fn decided(&mut self, micros: u64, now: Time) {
        self.decisions.add(micros);
        self.last = now;
    }
}

/// Returns what the budgets of live jobs may still cost, by account.
fn committed(state: &State) -> BTreeMap<AccountId, u128> {
    let mut all = BTreeMap::new();
    for job in state.jobs.values() {
        let left = job.budget.map_or(0, |budget| budget.saturating_sub(job.charged).get());
        *all.entry(job.account).or_insert(0) += u128::from(left);
    }
    all
}

/// A page of metrics.
struct Page(String);

impl Page {
    fn kind(&mut self, name: &str, kind: &str, about: &str) {
        let _ = writeln!(self.0, "# HELP {name} {about}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        // Names are checked by the configuration; this is the format's own escape all the same.
        let plain =
            |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", plain(value))).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    /// Writes a histogram whose values are parts of ten to some power of a second.
    fn histogram(&mut self, name: &str, about: &str, found: &Histogram, digits: usize) {
        self.kind(name, "histogram", about);
        let (bucket, decimal) = (format!("{name}_bucket"), |n: u64| seconds(n, digits));
        for (count, bound) in found.counts.iter().zip(found.classes) {
            self.value(&bucket, &[("le", &decimal(bound))], count);
        }
        self.value(&bucket, &[("le", "+Inf")], found.count);
        self.value(&format!("{name}_sum"), &[], decimal(found.sum));
        self.value(&format!("{name}_count"), &[], found.count);
    }

    fn jobs(&mut self, state: &State) {
        let mut pending: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut known = BTreeMap::new();
        let mut running = 0;
        for job in state.jobs.values() {
            if matches!(job.state, JobState::Running(_)) {
                running += 1;
                continue;
            }
            // Jobs that ask for the same in one name wait for the same.
            let reason = *known
                .entry((job.shape, job.account, job.state, job.suspect))
                .or_insert_with(|| {
                    let why =
                        explain(state, job.id).and_then(|why| why.blockers.into_iter().next());
                    why.map_or("Starting", |blocker| blocker.name())
                });
            *pending.entry(reason).or_insert(0) += 1;
        }
        self.kind("grid_pending_jobs", "gauge", "Jobs that wait, by their first reason.");
        for (reason, count) in pending {
            self.value("grid_pending_jobs", &[("reason", reason)], count);
        }
        self.kind("grid_running_jobs", "gauge", "Jobs that run.");
        self.value("grid_running_jobs", &[], running);
    }

    fn nodes(&mut self, state: &State, lines: &[LineState]) {
        let up = lines.iter().filter(|line| line.up).count();
        self.kind("grid_nodes", "gauge", "Machines, and those that can be reached.");
        self.value("grid_nodes", &[("state", "known")], state.nodes.len());
        self.value("grid_nodes", &[("state", "up")], up);
        let again: u64 = lines.iter().map(|line| line.begun.saturating_sub(1)).sum();
        let name = "grid_ssh_reconnects_total";
        self.kind(name, "counter", "Connections to machines that were begun again.");
        self.value(name, &[], again);
        let name = "grid_offers_open";
        self.kind(name, "gauge", "What is on offer: cores, bytes, GPUs.");
        for (_, node) in state.nodes.iter() {
            let Some(offer) = &node.offer else { continue };
            let on = &node.spec.name;
            let amounts = [
                ("cpu", thousandths(offer.total.cpu.get())),
                ("memory", offer.total.memory.get().to_string()),
                ("gpu", thousandths(offer.total.gpu.get())),
            ];
            for (resource, amount) in amounts {
                self.value(name, &[("node", on), ("resource", resource)], amount);
            }
        }
        self.kind("grid_pressure", "gauge", "Pressure: 0 low, 1 normal, 2 high.");
        for (_, node) in state.nodes.iter() {
            let Some(load) = &node.load else { continue };
            let level = match load.pressure.level() {
                Level::Low => 0,
                Level::Normal => 1,
                Level::High => 2,
            };
            self.value("grid_pressure", &[("node", &node.spec.name)], level);
        }
    }

    /// Writes how machines are doing, as far as they say it.
    fn vitals(&mut self, state: &State, lines: &[LineState]) {
        let names = state.nodes.iter().map(|(_, node)| node.spec.name.as_str());
        let known = names.zip(lines).filter_map(|(name, line)| Some((name, line.vitals.as_ref()?)));
        let known: Vec<(&str, &Vitals)> = known.collect();
        let name = "grid_stall_ratio";
        self.kind(name, "gauge", "Part of ten seconds in which work waited for it (PSI, some).");
        for (on, vitals) in &known {
            for (resource, part) in
                ["cpu", "memory", "io"].iter().zip(vitals.stalls.iter().flatten())
            {
                self.value(
                    name,
                    &[("node", on), ("resource", resource)],
                    seconds((*part).into(), 4),
                );
            }
        }
        let name = "grid_disk_free_bytes";
        self.kind(name, "gauge", "What is free where jobs print and work.");
        for (on, vitals) in &known {
            self.value(name, &[("node", on)], vitals.disk_free.get());
        }
    }

    /// Writes the credit of the accounts that whoever asks may look at.
    fn accounts(&mut self, state: &State, may: impl Fn(&str) -> bool) {
        let shown = || state.ledger.accounts.iter().filter(|(_, a)| may(&a.spec.name));
        let atp = |amount: u128| format!("{}.{:06}", amount / 1_000_000, amount % 1_000_000);
        type Of = fn(&State, AccountId) -> u128;
        let all: [(&str, &str, &str, Of); 7] = [
            ("grid_atp_available", "gauge", "Credit that can be spent, in ATP.", |state, id| {
                state.ledger.available(id).get().into()
            }),
            (
                "grid_atp_in_flight",
                "gauge",
                "Credit set aside for running terms, in ATP.",
                |state, id| state.ledger.accounts[id].held.get().into(),
            ),
            ("grid_atp_settled", "counter", "Credit paid as a borrower, in ATP.", |state, id| {
                state.ledger.accounts[id].spent
            }),
            ("grid_atp_earned", "counter", "Credit earned by lending, in ATP.", |state, id| {
                state.ledger.accounts[id].earned
            }),
            (
                "grid_atp_refunded",
                "counter",
                "Credit that came back for work others destroyed, in ATP.",
                |state, id| state.ledger.accounts[id].refunded,
            ),
            ("grid_atp_granted", "counter", "Credit granted, in ATP.", |state, id| {
                state.ledger.accounts[id].granted
            }),
            ("grid_atp_decayed", "counter", "Credit burned, in ATP.", |state, id| {
                state.ledger.accounts[id].decayed
            }),
        ];
        for (name, kind, about, of) in all {
            self.kind(name, kind, about);
            for (id, account) in shown() {
                self.value(name, &[("account", &account.spec.name)], atp(of(state, id)));
            }
        }
        let (name, committed) = ("grid_atp_committed", committed(state));
        self.kind(name, "gauge", "Credit that the budgets of live jobs may still cost, in ATP.");
        for (id, account) in shown() {
            let amount = committed.get(&id).copied().unwrap_or(0);
            self.value(name, &[("account", &account.spec.name)], atp(amount));
        }
        let name = "grid_reputation";
        self.kind(name, "gauge", "Reputation of a borrower, which scales its caps: half is home.");
        for (_, account) in shown() {
            let part = account.standing.get().get().into();
            self.value(name, &[("account", &account.spec.name)], seconds(part, 6));
        }
        let name = "grid_share";
        self.kind(name, "gauge", "Part of all decayed use over weight, the order of `fair`.");
        let use_of = |account: &Account| account.usage.get() >> 40;
        let accounts = || state.ledger.accounts.iter().map(|(_, account)| account);
        let all = accounts().map(use_of).fold(0_u128, u128::saturating_add);
        for (_, account) in shown() {
            let part = use_of(account).saturating_mul(1_000_000).checked_div(all).unwrap_or(0);
            let part = u64::try_from(part).unwrap_or(0);
            self.value(name, &[("account", &account.spec.name)], seconds(part, 6));
        }
    }

    fn prices(&mut self, state: &State) {
        let name = "grid_price";
        self.kind(name, "gauge", "ATP for a core, GiB or GPU and hour, at the class medium.");
        for (_, pool) in state.pools.iter() {
            for unit in units() {
                let hour = hour_cost(state, pool, &unit, Band::Medium).get();
                let labels = [("pool", pool.spec.name.as_str()), ("resource", unit.resource)];
                self.value(name, &labels, seconds(hour, 6));
            }
        }
    }

    fn counters(&mut self, counters: &Counters, now: Time) {
        let name = "grid_evicted_jobs_total";
        self.kind(name, "counter", "Leases that were told to leave, since the daemon's start.");
        for (reason, count) in &counters.evicted {
            self.value(name, &[("reason", reason.name())], count);
        }
        let name = "grid_drained_nodes_total";
        self.kind(name, "counter", "Nodes drained because jobs of several accounts failed there.");
        self.value(name, &[], counters.drained);
        let name = "grid_destroyed_work_seconds_total";
        self.kind(name, "counter", "Work that was lost with them.");
        self.value(name, &[], thousandths(counters.lost.get()));
        let about = "How long the core took for an entry.";
        self.histogram("grid_decision_seconds", about, &counters.decisions, 6);
        let about = "From an owner's notice to a guest until nothing of it was left.";
        self.histogram("grid_reclaim_latency_seconds", about, &counters.reclaims, 3);
        let name = "grid_last_decision_age_seconds";
        self.kind(name, "gauge", "How long ago the last entry was applied.");
        self.value(name, &[], thousandths(now.since(counters.last).get()));
    }
}

fn thousandths(amount: u64) -> String {
    seconds(amount, 3)
}

/// Returns a number of parts of ten to some power as a decimal.
fn seconds(parts: u64, digits: usize) -> String {
    let whole = 10_u64.pow(u32::try_from(digits).unwrap_or(0));
    format!("{}.{:0digits$}", parts / whole, parts % whole)
}

/// Returns the page.
#[must_use]
pub fn text(
    state: &State,
    lines: &[LineState],
    (counters, now): (&Counters, Time),
    may: impl Fn(&str) -> bool,
) -> String {
    let mut page = Page(String::new());
    page.jobs(state);
    page.nodes(state, lines);
    page.vitals(state, lines);
    page.accounts(state, may);
    page.prices(state);
    page.counters(counters, now);
    page.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridcore::effect::LeaseEnd;
    use gridcore::ids::{JobId, LeaseId};
    use gridcore::units::MicroAtp;

    #[test]
    fn numbers_are_exact_and_names_cannot_break_the_page() {
        assert_eq!((seconds(1_500_001, 6), thousandths(42)), ("1.500001".into(), "0.042".into()));
        let mut page = Page(String::new());
        page.value("grid_x", &[("node", "a\"b\\c\nd")], 1);
        assert_eq!(page.0, "grid_x{node=\"a\\\"b\\\\c\\nd\"} 1\n");
        let mut counters = Counters::default();
        counters.decided(50, Time::from_ms(7));
        counters.decided(2_000_000, Time::from_ms(9));
        assert_eq!(counters.decisions.counts, [0, 1, 1, 1, 1, 1, 1]);
        assert_eq!((counters.decisions.count, counters.decisions.sum), (2, 2_000_050));
        let (lease, job) = (LeaseId::new(1), JobId::new(1));
        let zero = MicroAtp::ZERO;
        let end = |reason| {
            let noticed = Some(Time::from_ms(1_000));
            let (held, settled, metered, unpaid_terms) = (zero, zero, None, 0);
            LeaseEnd { lease, job, reason, held, settled, metered, unpaid_terms, noticed }
        };
        for reason in [Some(EvictionReason::OwnerReturn), Some(EvictionReason::TimeLimit), None] {
            counters.count(&Effect::Closed(end(reason)), Time::from_ms(7_000));
        }
        assert_eq!(counters.reclaims.counts, [0, 0, 1, 1, 1, 1, 1]);
        page.histogram("h", "about", &counters.reclaims, 3);
        assert!(
            page.0.ends_with("h_bucket{le=\"+Inf\"} 1\nh_sum 6.000\nh_count 1\n"),
            "{}",
            page.0
        );
    }
}
