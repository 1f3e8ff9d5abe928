//! The metrics that Prometheus reads (names: NAMES.md), in its text format.

use super::nodes::LineState;
use gridcore::effect::{Effect, EvictionReason};
use gridcore::explain::explain;
use gridcore::jobs::JobState;
use gridcore::pressure::Level;
use gridcore::state::State;
use gridcore::units::{Span, Time};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Upper bounds of the classes of how long an entry took, in microseconds.
const CLASSES: [u64; 7] = [10, 100, 1_000, 5_000, 10_000, 100_000, 1_000_000];

/// What is counted from the daemon's start on.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    evicted: BTreeMap<EvictionReason, u64>,
    lost: Span,
    decisions: [u64; CLASSES.len()],
    decided: (u64, u64),
    last: Time,
}

impl Counters {
    /// Counts what followed from an entry.
    pub fn count(&mut self, effect: &Effect) {
        match effect {
            Effect::Evicted { reason, .. } => *self.evicted.entry(*reason).or_insert(0) += 1,
            Effect::Requeued { lost, .. } => self.lost = self.lost.saturating_add(*lost),
            Effect::Order { .. }
            | Effect::Send { .. }
            | Effect::Granted { .. }
            | Effect::Closed(_)
            | Effect::Finished(_)
            | Effect::Moved(_)
            | Effect::Offer { .. } => {}
        }
    }

    /// Counts an entry that was applied.
    pub fn decided(&mut self, micros: u64, now: Time) {
        for (count, bound) in self.decisions.iter_mut().zip(CLASSES) {
            *count += u64::from(micros <= bound);
        }
        self.decided = (self.decided.0 + 1, self.decided.1 + micros);
        self.last = now;
    }
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
            let reason = *known.entry((job.shape, job.account, job.state)).or_insert_with(|| {
                let why = explain(state, job.id).and_then(|why| why.blockers.into_iter().next());
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

    fn accounts(&mut self, state: &State) {
        let atp = |amount: u64| format!("{}.{:06}", amount / 1_000_000, amount % 1_000_000);
        self.kind("grid_atp_available", "gauge", "Credit that can be spent, in ATP.");
        for (id, account) in state.ledger.accounts.iter() {
            let labels = [("account", account.spec.name.as_str())];
            self.value("grid_atp_available", &labels, atp(state.ledger.available(id).get()));
        }
        self.kind("grid_atp_in_flight", "gauge", "Credit set aside for running terms, in ATP.");
        for (_, account) in state.ledger.accounts.iter() {
            let labels = [("account", account.spec.name.as_str())];
            self.value("grid_atp_in_flight", &labels, atp(account.held.get()));
        }
    }

    fn counters(&mut self, counters: &Counters, now: Time) {
        let name = "grid_evicted_jobs_total";
        self.kind(name, "counter", "Leases that were told to leave, since the daemon's start.");
        for (reason, count) in &counters.evicted {
            self.value(name, &[("reason", reason.name())], count);
        }
        let name = "grid_destroyed_work_seconds_total";
        self.kind(name, "counter", "Work that was lost with them.");
        self.value(name, &[], thousandths(counters.lost.get()));
        let name = "grid_decision_seconds";
        self.kind(name, "histogram", "How long the core took for an entry.");
        let (bucket, micros) = (format!("{name}_bucket"), |n: u64| seconds(n, 6));
        for (count, bound) in counters.decisions.iter().zip(CLASSES) {
            self.value(&bucket, &[("le", &micros(bound))], count);
        }
        self.value(&bucket, &[("le", "+Inf")], counters.decided.0);
        self.value(&format!("{name}_sum"), &[], micros(counters.decided.1));
        self.value(&format!("{name}_count"), &[], counters.decided.0);
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
pub fn text(state: &State, lines: &[LineState], counters: &Counters, now: Time) -> String {
    let mut page = Page(String::new());
    page.jobs(state);
    page.nodes(state, lines);
    page.accounts(state);
    page.counters(counters, now);
    page.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_and_names_cannot_break_the_page() {
        assert_eq!((seconds(1_500_001, 6), thousandths(42)), ("1.500001".into(), "0.042".into()));
        let mut page = Page(String::new());
        page.value("grid_x", &[("node", "a\"b\\c\nd")], 1);
        assert_eq!(page.0, "grid_x{node=\"a\\\"b\\\\c\\nd\"} 1\n");
        let mut counters = Counters::default();
        counters.decided(50, Time::from_ms(7));
        counters.decided(2_000_000, Time::from_ms(9));
        assert_eq!(counters.decisions, [0, 1, 1, 1, 1, 1, 1]);
        assert_eq!(counters.decided, (2, 2_000_050));
    }
}
