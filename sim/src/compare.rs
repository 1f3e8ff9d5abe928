//! Several runs of the same work side by side: means over seeds with confidence intervals.

use crate::json::{Json, fixed, object};
use crate::page::Cell;
use crate::picture::compare::Estimate;
use crate::picture::front::Measure;
use crate::picture::number::of_millionths;

/// One metric over several seeds, in millionths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Its key, with dots.
    pub key: String,
    /// The mean.
    pub mean: i128,
    /// Half the width of the 95 % confidence interval of the mean (Student's t); nothing for one
    /// seed.
    pub half: i128,
    /// The smallest value.
    pub min: i128,
    /// The largest value.
    pub max: i128,
    /// How many seeds.
    pub seeds: usize,
}

/// The 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom, in thousandths (any table).
const STUDENT: [i128; 30] = [
    12_706, 4_303, 3_182, 2_776, 2_571, 2_447, 2_365, 2_306, 2_262, 2_228, 2_201, 2_179, 2_160,
    2_145, 2_131, 2_120, 2_110, 2_101, 2_093, 2_086, 2_080, 2_074, 2_069, 2_064, 2_060, 2_056,
    2_052, 2_048, 2_045, 2_042,
];

impl Spread {
    /// Summarises one metric.
    #[must_use]
    pub fn of(key: String, values: &[i128]) -> Self {
        let n = i128::try_from(values.len()).unwrap_or(1).max(1);
        let mean = values.iter().sum::<i128>() / n;
        let squares: u128 = values.iter().map(|v| (v - mean).unsigned_abs().pow(2)).sum();
        let freedom = values.len().saturating_sub(1);
        let t = STUDENT.get(freedom.wrapping_sub(1)).copied().unwrap_or(1_960);
        let half = if freedom == 0 {
            0
        } else {
            // t * sqrt(squares / (n-1) / n)
            let variance = squares / (freedom as u128 * values.len() as u128);
            i128::try_from(variance.isqrt()).unwrap_or(i128::MAX / 20_000) * t / 1_000
        };
        let min = values.iter().min().copied().unwrap_or(0);
        let max = values.iter().max().copied().unwrap_or(0);
        Self { key, mean, half, min, max, seeds: values.len() }
    }

    /// Returns the cells of a row: key, mean, interval, extremes.
    #[must_use]
    pub fn row(&self) -> Vec<String> {
        let cells = [self.mean, self.mean - self.half, self.mean + self.half, self.min, self.max];
        std::iter::once(self.key.clone()).chain(cells.map(fixed)).collect()
    }

    /// Returns mean and half the interval for people: rounded to three decimals.
    #[must_use]
    pub fn short(&self) -> [String; 2] {
        [self.mean, self.half].map(|value| {
            let text = fixed((value + 500).div_euclid(1_000) * 1_000);
            text.get(..text.len() - 3).unwrap_or(&text).to_owned()
        })
    }

    /// Returns the same as a cell of a page, sorted by the mean.
    #[must_use]
    pub fn cell(&self) -> Cell {
        let [text, half] = self.short();
        Cell::Shown { text, small: format!("\u{00B1} {half}"), order: fixed(self.mean) }
    }

    /// Describes the mean, its interval and the extremes.
    #[must_use]
    pub fn json(&self) -> Json {
        object([
            ("mean", Json::Fixed(self.mean)),
            ("low", Json::Fixed(self.mean - self.half)),
            ("high", Json::Fixed(self.mean + self.half)),
            ("min", Json::Fixed(self.min)),
            ("max", Json::Fixed(self.max)),
        ])
    }
}

/// Summarises every number of several summaries of the same layout, except those per account.
#[must_use]
pub fn spreads(summaries: &[Json]) -> Vec<Spread> {
    let mut keys: Vec<String> = Vec::new();
    for summary in summaries {
        paths(summary, &mut Vec::new(), &mut keys);
    }
    let mut seen = std::collections::BTreeSet::new();
    keys.retain(|key| seen.insert(key.clone()));
    let spread = |key: String| {
        let path: Vec<&str> = key.split('\u{1f}').collect();
        let values: Vec<i128> = summaries.iter().filter_map(|s| s.number(&path)).collect();
        Spread::of(key.replace('\u{1f}', "."), &values)
    };
    keys.into_iter().map(spread).collect()
}

/// Collects the paths of all numbers under `metrics` and `counts`.
fn paths(value: &Json, path: &mut Vec<String>, out: &mut Vec<String>) {
    match value {
        Json::Object(pairs) => {
            for (key, value) in pairs {
                let wanted = !path.is_empty() || key == "metrics" || key == "counts";
                if wanted && key != "by_account" {
                    path.push(key.clone());
                    paths(value, path, out);
                    path.pop();
                }
            }
        }
        Json::Int(_) | Json::Fixed(_) if !path.is_empty() => out.push(path.join("\u{1f}")),
        Json::Int(_) | Json::Fixed(_) | Json::Null | Json::Bool(_) | Json::Text(_) => {}
    }
}

/// Describes several seeds of one scenario.
#[must_use]
pub fn seeds_json(scenario: &str, first: u64, spreads: &[Spread]) -> Json {
    let seeds = spreads.iter().map(|s| s.seeds).max().unwrap_or(0);
    object([
        ("schema", Json::Text("gridsim-seeds/1".to_owned())),
        ("scenario", Json::Text(scenario.to_owned())),
        ("first_seed", Json::Int(i128::from(first))),
        ("seeds", Json::Int(seeds as i128)),
        ("metrics", object(spreads.iter().map(|s| (s.key.clone(), s.json())))),
    ])
}

/// What runs are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Where it stands in a summary, with dots.
    pub key: &'static str,
    /// What it is, with its unit.
    pub name: &'static str,
    /// One word for it, on the command line and above a column.
    pub word: &'static str,
    /// Whether more of it is better.
    pub is_higher_better: bool,
}

impl Metric {
    /// Returns what pictures say of it.
    #[must_use]
    pub fn measure(&self) -> Measure {
        Measure { name: self.name.to_owned(), is_higher_better: self.is_higher_better }
    }

    /// Returns its mean and interval, for pictures.
    #[must_use]
    pub fn estimate(&self, spread: &Spread) -> Estimate {
        let (low, high) = (spread.mean - spread.half, spread.mean + spread.half);
        let [mean, low, high] = [spread.mean, low, high].map(of_millionths);
        Estimate { metric: self.name.to_owned(), mean, low, high }
    }
}

/// A metric of which less is better.
const fn lower(key: &'static str, name: &'static str, word: &'static str) -> Metric {
    Metric { key, name, word, is_higher_better: false }
}

/// A metric of which more is better.
const fn higher(key: &'static str, name: &'static str, word: &'static str) -> Metric {
    Metric { key, name, word, is_higher_better: true }
}

/// The metrics that a comparison draws.
pub const HEADLINE: [Metric; 11] = [
    lower("metrics.wait_s.mean", "mean wait, s", "wait_s"),
    lower("metrics.bounded_slowdown.mean", "mean bounded slowdown", "bounded_slowdown"),
    higher("metrics.utilisation.gpu", "GPU utilisation", "gpu_utilisation"),
    higher("metrics.utilisation.cpu", "CPU utilisation", "cpu_utilisation"),
    higher(
        "metrics.lent_over_lendable.gpu",
        "GPUs offered / oracle-lendable",
        "gpus_offered_over_lendable",
    ),
    higher(
        "metrics.lent_over_lendable.cpu",
        "CPU offered / oracle-lendable",
        "cpu_offered_over_lendable",
    ),
    lower("metrics.owner_harm.intervals_share", "intervals with owner harm", "owner_harm_share"),
    lower("metrics.preemptions", "evictions", "evictions"),
    lower("metrics.moves", "moves to other nodes", "moves"),
    lower("metrics.destroyed_work_s", "destroyed work, s", "destroyed_work_s"),
    higher("counts.completed", "jobs completed", "jobs_completed"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_two_seeds_is_students() {
        let spread = Spread::of("x".to_owned(), &[1_000_000, 3_000_000]);
        // Mean 2, standard error 1, t(1) = 12.706.
        assert_eq!((spread.mean, spread.half), (2_000_000, 12_706_000));
        assert_eq!(Spread::of("x".to_owned(), &[5]).half, 0);
    }

    #[test]
    fn every_number_below_metrics_is_summarised() {
        let one = |v| object([("metrics", object([("a", object([("b", Json::Int(v))]))]))]);
        let found = spreads(&[one(1), one(3)]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].key.as_str(), found[0].mean), ("metrics.a.b", 2_000_000));
    }
}
