//! Many rules on the same work: what each combination of them comes to, which of them nothing
//! beats, and which key moves what.
//!
//! A sweep takes every combination of a [`axis::Space`], a search ([`search`]) draws its own. Both
//! run every combination with the same seeds, so that what differs comes from the keys. Everything
//! that is decided here (who is on the front, what is tried next) compares integers.

pub mod axis;
mod figures;
pub mod front;
pub mod influence;
mod leave;
pub mod search;

use crate::compare::{HEADLINE, Metric, Spread};
use crate::json::Json;
use axis::{Point, Space};
use front::Front;

/// How full a cluster becomes without departures, where that is measured.
const FILL: Metric = Metric {
    key: "metrics.allocated_gpu_percent_at.100",
    name: "GPUs allocated % at 100 % requested",
    word: "gpus_allocated_percent",
    is_higher_better: true,
};

/// Returns what is measured of every combination, in the order of the columns.
pub fn metrics() -> impl Iterator<Item = &'static Metric> {
    HEADLINE.iter().chain(std::iter::once(&FILL))
}

/// What is known of one run: each of [`metrics`] in millionths, if the run has it.
///
/// A run in which no job ended has no waits and no slowdowns; without this, rules under which
/// nothing starts would count as those under which nobody waits.
#[must_use]
pub fn measured(summary: &Json) -> Vec<Option<i128>> {
    let count = |state| summary.number(&["counts", state]).unwrap_or(0);
    let ended = ["completed", "failed", "timeout"].map(count).iter().any(|count| *count > 0);
    let of_jobs = ["metrics.wait_s", "metrics.bounded_slowdown"];
    let value = |metric: &'static Metric| {
        let is_known = ended || !of_jobs.iter().any(|key| metric.key.starts_with(key));
        let path: Vec<&str> = metric.key.split('.').collect();
        summary.number(&path).filter(|_| is_known)
    };
    metrics().map(value).collect()
}

/// One combination and what it came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The combination.
    pub point: Point,
    /// Whether it was chosen without looking at any other.
    pub is_designed: bool,
    /// Each of [`metrics`] over the seeds, if any run had it.
    pub spreads: Vec<Option<Spread>>,
}

impl Trial {
    /// Summarises the runs of a combination with each seed.
    #[must_use]
    pub fn of(point: Point, is_designed: bool, runs: &[Vec<Option<i128>>]) -> Self {
        let spread = |(i, metric): (usize, &Metric)| {
            let values: Vec<i128> = runs.iter().filter_map(|run| *run.get(i)?).collect();
            (!values.is_empty()).then(|| Spread::of(metric.key.to_owned(), &values))
        };
        Self { point, is_designed, spreads: metrics().enumerate().map(spread).collect() }
    }

    /// Returns the spread of one of [`metrics`].
    #[must_use]
    pub fn spread(&self, metric: usize) -> Option<&Spread> {
        self.spreads.get(metric)?.as_ref()
    }

    /// Returns the means that count, turned so that less is better; `None` where one is not known.
    #[must_use]
    pub fn costs(&self, objectives: &[usize]) -> Option<Vec<i128>> {
        let cost = |metric: &usize| {
            let mean = self.spread(*metric)?.mean;
            Some(if is_higher_better(*metric) { -mean } else { mean })
        };
        objectives.iter().map(cost).collect()
    }
}

/// Returns whether more of one of [`metrics`] is better.
#[must_use]
pub fn is_higher_better(metric: usize) -> bool {
    metrics().nth(metric).is_some_and(|metric| metric.is_higher_better)
}

/// Returns the places of the trials that nothing dominates. One of which an objective is not known
/// is not among them.
#[must_use]
pub fn front(trials: &[Trial], objectives: &[usize]) -> Vec<usize> {
    let mut front = Front::default();
    for (i, trial) in trials.iter().enumerate() {
        if let Some(costs) = trial.costs(objectives) {
            front.offer(i, costs);
        }
    }
    front.numbers().collect()
}

/// How combinations were chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// All of them.
    Sweep,
    /// By a search with this seed, which looked at so many more that cannot be run.
    Tune {
        /// The seed of its choices.
        seed: u64,
        /// How many combinations were refused.
        refused: u64,
    },
}

/// Everything that a sweep or a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exploration {
    /// The scenario's name.
    pub scenario: String,
    /// How combinations were chosen.
    pub way: Way,
    /// The seeds of every combination: the first, and the one after the last.
    pub seeds: (u64, u64),
    /// What was varied.
    pub space: Space,
    /// What defines the front, as places in [`metrics`].
    pub objectives: Vec<usize>,
    /// What was run, in order.
    pub trials: Vec<Trial>,
    /// The front: places of trials, the best in the first objective first.
    front: Vec<usize>,
}

/// What was asked for, before anything is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The scenario's name.
    pub scenario: String,
    /// How combinations are chosen.
    pub way: Way,
    /// The seeds of every combination: the first, and the one after the last.
    pub seeds: (u64, u64),
    /// What is varied.
    pub space: Space,
    /// What defines the front, as places in [`metrics`].
    pub objectives: Vec<usize>,
}

impl Exploration {
    /// Puts together what was asked and what was found.
    #[must_use]
    pub fn new(question: Question, trials: Vec<Trial>) -> Self {
        let Question { scenario, way, seeds, space, objectives } = question;
        let mut front = front(&trials, &objectives);
        // Places end every choice, so that equals have an order too.
        front.sort_by_key(|i| (trials.get(*i).and_then(|t| t.costs(&objectives)), *i));
        Self { scenario, way, seeds, space, objectives, trials, front }
    }

    /// Returns the front: places of trials, the best in the first objective first.
    #[must_use]
    pub fn front(&self) -> &[usize] {
        &self.front
    }

    /// Returns the rank of a trial on the front, from 1 up.
    #[must_use]
    pub fn rank(&self, trial: usize) -> Option<usize> {
        self.front.iter().position(|i| *i == trial).map(|place| place + 1)
    }

    /// Returns all trials with their places: the front, then the others as they were run.
    pub fn ranked(&self) -> impl Iterator<Item = (usize, &Trial)> {
        let others = (0..self.trials.len()).filter(|i| !self.front.contains(i));
        let places = self.front.iter().copied().chain(others);
        places.filter_map(|i| Some((i, self.trials.get(i)?)))
    }

    /// Returns the places of the metrics that any trial has.
    #[must_use]
    pub fn known(&self) -> Vec<usize> {
        let known = |i: &usize| self.trials.iter().any(|trial| trial.spread(*i).is_some());
        (0..metrics().count()).filter(known).collect()
    }

    /// Returns the word for the way, which names its files too.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.way {
            Way::Sweep => "sweep",
            Way::Tune { .. } => "tune",
        }
    }

    /// Says what was run and how often.
    #[must_use]
    pub fn subtitle(&self) -> String {
        use crate::picture::number::counted;
        let (from, to) = self.seeds;
        let count = usize::try_from(to - from).unwrap_or(usize::MAX);
        let mut parts = vec![self.scenario.clone(), counted(self.trials.len(), "combination")];
        parts.push(format!("{} from {from}", counted(count, "seed")));
        if let Way::Tune { seed, .. } = self.way {
            parts.push(format!("search seed {seed}"));
        }
        parts.join(" \u{00B7} ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::object;

    fn place(word: &str) -> usize {
        metrics().position(|metric| metric.word == word).unwrap()
    }

    fn summary(completed: i128, wait: i128) -> Json {
        let wait = object([("mean", Json::Fixed(wait))]);
        object([
            ("counts", object([("completed", Json::Int(completed))])),
            ("metrics", object([("wait_s", wait), ("preemptions", Json::Int(3))])),
        ])
    }

    #[test]
    fn a_wait_of_nobody_is_not_known_and_keeps_its_rules_off_the_front() {
        let [wait, evictions] = [place("wait_s"), place("evictions")];
        let [none, some] = [measured(&summary(0, 0)), measured(&summary(1, 5))];
        assert_eq!((none[wait], none[evictions]), (None, Some(3_000_000)));
        assert_eq!(some[wait], Some(5));
        let trials = [Trial::of(vec![0], true, &[none]), Trial::of(vec![1], true, &[some])];
        assert_eq!(front(&trials, &[wait, evictions]), [1]);
        assert_eq!(front(&trials, &[evictions]), [0, 1]);
    }

    #[test]
    fn every_metric_has_a_word_of_its_own() {
        let words: std::collections::BTreeSet<&str> = metrics().map(|m| m.word).collect();
        assert_eq!(words.len(), metrics().count());
    }
}
