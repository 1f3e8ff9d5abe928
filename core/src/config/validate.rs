//! What no rule can work with: the ranges of every key, and why a configuration is refused.

use super::{
    ACCOUNTS_MAX, Config, FGD_CLASSES_MAX, Karma, MINTED_MAX, NODES_MAX, NodeSpec, POOLS_MAX, Rules,
};
use crate::bundle::{Bundle, GPUS_MAX, RESOURCES_MAX};
use crate::units::{BasisPoints, MicroAtp, PerMille, Ppm, Span};
use alloc::collections::BTreeSet;
use alloc::string::String;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum ConfigError {
    /// There is nothing to lend, or nowhere to lend it.
    #[error("a cluster needs at least one {0}")]
    Missing(String),
    /// A name stands twice.
    #[error("{what} {name} is named twice")]
    Duplicate {
        /// What kind of thing.
        what: String,
        /// Its name.
        name: String,
    },
    /// A node's name could be mistaken for something else.
    #[error("node name {0:?} must be 1 to 253 of [A-Za-z0-9._-] and not begin with -")]
    Name(String),
    /// An account's name stands for something else where parties are named.
    #[error("account name {0:?} stands for something else: not MINT, TREASURY, BURN or ...:held")]
    Party(String),
    /// A number is outside its range.
    #[error("{key} is {value}; it must be {range}")]
    Range {
        /// The key.
        key: String,
        /// The value given.
        value: u64,
        /// The range in words.
        range: String,
    },
    /// A node names an account or a pool that does not exist.
    #[error("node {node} names {what} {index}, which does not exist")]
    Dangling {
        /// The node.
        node: String,
        /// What is missing.
        what: String,
        /// Its index.
        index: u32,
    },
}

/// Refuses a number outside its range.
fn range(key: &str, value: u64, ok: bool, range: &str) -> Result<(), ConfigError> {
    if ok {
        return Ok(());
    }
    Err(ConfigError::Range { key: String::from(key), value, range: String::from(range) })
}

/// Refuses a name that stands twice.
fn unique<'a>(what: &str, names: impl Iterator<Item = &'a String>) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            let what = String::from(what);
            return Err(ConfigError::Duplicate { what, name: name.clone() });
        }
    }
    Ok(())
}

impl Rules {
    /// Checks every range.
    ///
    /// # Errors
    /// The first number that no rule can work with, by key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let offering = &self.offering;
        let check = offering.check_interval.get();
        range("resource_sharing.check_interval", check, check >= 1_000, "at least 1 s")?;
        let expiry = offering.offer_expiry.get();
        let enough = expiry >= check.saturating_mul(3);
        range(
            "resource_sharing.offer_expiry",
            expiry,
            enough,
            "at least 3 x check_interval, in ms",
        )?;
        let offers = u64::from(offering.offers_max);
        range("resource_sharing.max_offers_per_node", offers, offers >= 1, "at least 1")?;
        let monitor = self.balance.monitoring_interval.get();
        let key = "execution.resource_sharing.monitoring_interval_seconds";
        range(key, monitor, monitor >= 1_000, "at least 1 s")?;
        let poll = offering.poll.get();
        range("resource_sharing.owner.poll_seconds", poll, poll >= 1_000, "at least 1 s")?;
        let horizon = self.balance.horizon.get();
        range("horizon_seconds", horizon, horizon >= monitor, "at least one monitoring interval")?;
        for (high, low) in self.balance.high.iter().zip(self.balance.low) {
            let value = u64::from(high.get());
            let ok = *high <= BasisPoints::ALL && low < *high;
            range("thresholds.*_pressure_high", value, ok, "above *_pressure_low, at most 1")?;
        }
        let term = self.term.0.get();
        let ok = (10_000..=300_000).contains(&term);
        range("lease.term_seconds", term, ok, "between 10,000 and 300,000 ms")?;
        let stop = self.stop.0.get();
        range("lease.stop_seconds", stop, stop <= 86_400_000, "at most 86,400,000 ms")?;
        let drift = u64::from(self.drift.0.get());
        range("lease.clock_drift", drift, drift < 500_000, "below 0.5 (ppm)")?;
        let fee = u64::from(self.atp.fee.get());
        range("atp.fee", fee, fee <= 1_000_000, "between 0 and 1 (ppm)")?;
        self.validate_epochs()?;
        let half_life = self.fair_share.half_life.get();
        range("fair_share.half_life", half_life, half_life >= 60_000, "at least 60,000 ms")?;
        let p = &self.preemption;
        let hold = p.hold.get();
        let looks = self.balance.monitoring_interval.get().saturating_mul(2);
        let least = p.grace.get().saturating_add(offering.kill.get()).saturating_add(looks);
        let what = "at least grace + kill + 2 monitoring intervals, in ms";
        range("preemption.hold_seconds", hold, hold >= least, what)?;
        let gap = p.gap_min;
        range("preemption.min_gap", gap.into(), (1..=100).contains(&gap), "between 1 and 100")?;
        self.validate_scheduling()?;
        let often = p.boost_after.unwrap_or(1);
        range("preemption.boost_after", often.into(), often >= 1, "at least 1, or null")?;
        let health = &self.health;
        let failures = health.failures.unwrap_or(2);
        let ok = (2..=64).contains(&failures);
        range("execution.health.failures", failures.into(), ok, "2 to 64, or null")?;
        let nodes = health.nodes.unwrap_or(1);
        range("execution.health.nodes", nodes.into(), nodes >= 1, "at least 1, or null")?;
        let window = health.window.get();
        range(
            "execution.health.window",
            window,
            window >= health.soon.get(),
            "at least health.soon, in ms",
        )?;
        self.validate_rebalance()?;
        self.validate_utilization()?;
        self.validate_caps()
    }

    /// Checks the ranges of what nobody may have more of.
    fn validate_caps(&self) -> Result<(), ConfigError> {
        let caps = &self.caps;
        let shares = [
            ("atp.caps.pool_share", caps.pool_share),
            ("atp.caps.urgent_share_per_hour", caps.urgent_share),
        ];
        for (key, share) in shares {
            let share = u64::from(share.map_or(0, Ppm::get));
            range(key, share, share <= 1_000_000, "between 0 and 1 (ppm), or null")?;
        }
        let counts = [
            ("atp.caps.leases", caps.leases),
            ("atp.caps.open_requests", caps.open_requests),
            ("atp.caps.requests_per_second", caps.requests_per_second),
            ("atp.caps.burst", Some(caps.burst)),
        ];
        for (key, count) in counts {
            let count = count.unwrap_or(1);
            let ok = (1..=1_000_000).contains(&count);
            range(key, count.into(), ok, "1 to 1,000,000, or null where nothing is capped")?;
        }
        Ok(())
    }
}

impl Rules {
    /// Checks the ranges of who goes next, and where.
    fn validate_scheduling(&self) -> Result<(), ConfigError> {
        let rules = &self.scheduling;
        let step = rules.ageing.unwrap_or(Span::MAX).get();
        range("scheduling.ageing", step, step >= 1_000, "at least 1 s, or null")?;
        let long = rules.starvation_after.unwrap_or(Span::MAX).get();
        range("scheduling.starvation_after", long, long >= 1_000, "at least 1 s, or null")?;
        let least = rules.min_confidence;
        let key = "execution.scheduling.min_confidence";
        range(key, least.get().into(), least <= PerMille::WHOLE, "between 0 and 1,000")?;
        rules.karma.validate()?;
        let classes = rules.fgd_classes.len();
        let ok = classes <= FGD_CLASSES_MAX;
        range("scheduling.fgd_classes", classes as u64, ok, "at most 64 classes")
    }
}

impl Rules {
    /// Checks the ranges of what is granted and decays.
    fn validate_epochs(&self) -> Result<(), ConfigError> {
        let rules = &self.atp;
        let epoch = rules.epoch.get();
        let ok = (10_000..=86_400_000).contains(&epoch);
        range("atp.epoch", epoch, ok, "between 10,000 and 86,400,000 ms")?;
        let part = u64::from(rules.grant_fraction.get());
        range("atp.grant_fraction", part, part <= 1_000_000, "between 0 and 1 (ppm)")?;
        let life = rules.decay_half_life.unwrap_or(Span::MAX).get();
        range("atp.decay_half_life", life, life >= 60_000, "at least 60,000 ms, or null")
    }
}

impl Rules {
    /// Checks the ranges of rebalancing.
    fn validate_rebalance(&self) -> Result<(), ConfigError> {
        let rules = &self.rebalance;
        let interval = rules.interval.get();
        let key = "execution.resource_sharing.rebalance_interval_seconds";
        range(key, interval, interval >= 1_000, "at least 1 s")?;
        let margin = u64::from(rules.margin.get());
        let ok = (1..=5_000).contains(&margin);
        range("rebalance.margin", margin, ok, "above 0, at most 0.5 (basis points)")?;
        let cooldown = rules.job_cooldown.get();
        range("rebalance.job_cooldown", cooldown, cooldown >= 1_000, "at least 1 s")?;
        let most = u64::from(rules.moves_max.get());
        range("rebalance.max_share", most, most <= 1_000_000, "between 0 and 1 (ppm)")
    }
}

impl Rules {
    /// Checks the ranges of what is asked of GPUs.
    fn validate_utilization(&self) -> Result<(), ConfigError> {
        let rules = &self.utilization;
        let warn = rules.warn_after.unwrap_or(Span::MAX).get();
        let key = "execution.utilization_policy.warn_after";
        range(key, warn, warn >= 1_000, "at least 1 s, or null")?;
        let reclaim = rules.reclaim_after.unwrap_or(Span::MAX).get();
        let ok = reclaim >= 1_000 && (rules.warn_after.is_none() || reclaim > warn);
        let ok = ok || rules.reclaim_after.is_none();
        let key = "execution.utilization_policy.reclaim_after";
        range(key, reclaim, ok, "at least 1 s and above warn_after, in ms, or null")?;
        let least = u64::from(rules.gpu_min.get());
        let key = "execution.utilization_policy.min_gpu_utilization";
        range(key, least, (1..=10_000).contains(&least), "above 0, at most 100 (basis points)")
    }
}

impl Karma {
    /// Checks every range.
    fn validate(&self) -> Result<(), ConfigError> {
        let quantum = self.quantum.get();
        range("scheduling.karma.quantum", quantum, quantum >= 1_000, "at least 1 s")?;
        let part = u64::from(self.guaranteed.get());
        range("scheduling.karma.guaranteed", part, part <= 1_000_000, "between 0 and 1 (ppm)")?;
        let (initial, most) = (self.initial, 1_000_000_000_000_000);
        range("scheduling.karma.initial", initial, initial <= most, "at most 10^15")
    }
}

impl Config {
    /// Checks every range and name.
    ///
    /// # Errors
    /// The first thing that no rule can work with.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.rules.validate()?;
        for (what, len) in [
            ("pool", self.pools.len()),
            ("account", self.accounts.len()),
            ("node", self.nodes.len()),
        ] {
            if len == 0 {
                return Err(ConfigError::Missing(String::from(what)));
            }
        }
        let counts = [
            ("resources", self.resources.len(), RESOURCES_MAX),
            ("pools", self.pools.len(), POOLS_MAX),
            ("accounts", self.accounts.len(), ACCOUNTS_MAX),
            ("nodes", self.nodes.len(), NODES_MAX),
        ];
        for (key, len, max) in counts {
            range(key, len as u64, len <= max, "at most the declared maximum")?;
        }
        unique("pool", self.pools.iter().map(|p| &p.name))?;
        unique("account", self.accounts.iter().map(|a| &a.name))?;
        unique("node", self.nodes.iter().map(|n| &n.name))?;
        unique("resource", self.resources.iter())?;
        for account in &self.accounts {
            let name = account.name.as_str();
            // Tables name parties so that are no account.
            if matches!(name, "MINT" | "TREASURY" | "BURN") || name.ends_with(":held") {
                return Err(ConfigError::Party(account.name.clone()));
            }
            let weight = u64::from(account.weight);
            range("accounts.weight", weight, weight >= 1, "at least 1")?;
            let deposit = account.deposit.get();
            range("accounts.deposit_atp", deposit, deposit <= 1 << 62, "at most 2^62 micro-ATP")?;
        }
        let deposits = self
            .accounts
            .iter()
            .map(|a| a.deposit)
            .fold(MicroAtp::ZERO, |sum, d| sum.saturating_add(d));
        let ok = deposits <= MINTED_MAX;
        range("accounts.deposit_atp", deposits.get(), ok, "at most 2^63 micro-ATP in all")?;
        self.nodes.iter().try_for_each(|node| self.validate_node(node))?;
        let mut total = Bundle::ZERO;
        for node in &self.nodes {
            let Some(sum) = total.checked_add(&node.capacity) else {
                return range(
                    "nodes",
                    self.nodes.len() as u64,
                    false,
                    "less than 2^64 of each in all",
                );
            };
            total = sum;
        }
        Ok(())
    }

    /// Checks one node against the declared maxima.
    fn validate_node(&self, node: &NodeSpec) -> Result<(), ConfigError> {
        if !is_name(&node.name) {
            return Err(ConfigError::Name(node.name.clone()));
        }
        let dangling = |what: &str, index| {
            Err(ConfigError::Dangling { node: node.name.clone(), what: String::from(what), index })
        };
        if usize::try_from(node.owner.get()).map_or(true, |i| i >= self.accounts.len()) {
            return dangling("account", node.owner.get());
        }
        if usize::try_from(node.pool.get()).map_or(true, |i| i >= self.pools.len()) {
            return dangling("pool", node.pool.get());
        }
        let zone = node.zone.len();
        range("nodes.zone", zone as u64, zone <= 253, "at most 253 bytes")?;
        let gpus = node.gpus.len();
        range("nodes.gpus", gpus as u64, gpus <= GPUS_MAX, "at most 64")?;
        let milli = node.capacity.gpu.get();
        range("nodes.gpus", milli, milli == gpus as u64 * 1_000, "1,000 thousandths per device")?;
        let cpu = node.capacity.cpu.get();
        range("nodes.cores", cpu, cpu <= 16_384_000, "at most 16,384 cores")?;
        let memory = node.capacity.memory.get();
        range("nodes.memory_gb", memory, memory <= 64 << 40, "at most 64 TiB")?;
        let storage = node.capacity.storage.get();
        range("nodes.storage_gb", storage, storage <= 1 << 50, "at most 1 PiB")?;
        let custom = node.capacity.custom.iter().copied().max().unwrap_or(0);
        range("nodes.resources", custom, custom <= 1 << 50, "at most 2^50")
    }
}

/// Returns whether a name is 1 to 253 of `[A-Za-z0-9._-]` and does not begin with `-`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=253).contains(&name.len()) && !name.starts_with('-') && name.chars().all(ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_rule_can_work_with_is_refused_by_its_key() {
        assert_eq!(Rules::default().validate(), Ok(()));
        let second = Span::seconds(1);
        type Change = fn(&mut Rules, Span);
        let wrong: [(&str, Change); 5] = [
            // Equals could take each other's places for ever.
            ("preemption.min_gap", |rules, _| rules.preemption.gap_min = 0),
            ("preemption.boost_after", |rules, _| rules.preemption.boost_after = Some(0)),
            // What victims free would be given to others before the node has told of it.
            ("preemption.hold_seconds", |rules, second| {
                let victims = rules.preemption.grace.saturating_add(rules.offering.kill);
                let looks = Span::new(2 * rules.balance.monitoring_interval.get());
                rules.preemption.hold = victims.saturating_add(looks);
                assert_eq!(rules.validate(), Ok(()));
                rules.preemption.hold = rules.preemption.hold.saturating_sub(second);
            }),
            ("resource_sharing.offer_expiry", |rules, second| {
                rules.offering.offer_expiry = rules.offering.check_interval.saturating_add(second);
            }),
            ("scheduling.starvation_after", |rules, _| {
                rules.scheduling.starvation_after = Some(Span::ZERO);
            }),
        ];
        for (key, change) in wrong {
            let mut rules = Rules::default();
            change(&mut rules, second);
            let refused = rules.validate();
            assert!(
                matches!(&refused, Err(ConfigError::Range { key: found, .. }) if found == key),
                "{key}: {refused:?}"
            );
        }
    }
}
