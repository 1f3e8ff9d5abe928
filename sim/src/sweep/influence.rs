//! How much each key moves each metric: what a change of it alone does, on the mean over all
//! others (a main effect, as in the analysis of factorial experiments).

use crate::sweep::axis::Axis;
use crate::sweep::{Exploration, Trial, is_higher_better};
use std::collections::BTreeMap;

/// Most values of a range that are levels of their own; more are put into [`LEVELS`] parts.
const VALUES_MAX: u64 = 6;
/// Parts of a long range: low, middle, high.
const LEVELS: u64 = 3;

/// What one key does to one metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Influence {
    /// From the lowest to the highest mean over the values of the key, in millionths of the mean
    /// over everything.
    pub part: i128,
    /// The values at which the metric is best; nothing where they do not differ.
    pub best: String,
}

/// Returns what a key does to a metric; `None` where it has one value only, or nothing is known or
/// the mean is nothing.
///
/// Of a search only the combinations count that were chosen without looking at any other: among the
/// rest the keys are no longer independent, and one that has settled would seem to do nothing.
#[must_use]
pub fn influence(of: &Exploration, key: usize, metric: usize) -> Option<Influence> {
    let axis = of.space.axes().get(key)?;
    let known: Vec<(u64, i128)> =
        of.trials.iter().filter_map(|trial| designed(trial, key, metric)).collect();
    let levels_of = Levels::over(axis, known.iter().map(|(index, _)| *index))?;
    let mut levels: BTreeMap<u64, (i128, i128)> = BTreeMap::new();
    for (index, mean) in known {
        let (sum, count) = levels.entry(levels_of.level(index)).or_insert((0, 0));
        *sum += mean;
        *count += 1;
    }
    let (sum, count) =
        levels.values().fold((0, 0), |whole, part| (whole.0 + part.0, whole.1 + part.1));
    let means: Vec<(u64, i128)> =
        levels.into_iter().map(|(level, (sum, count))| (level, sum / count)).collect();
    let low = means.iter().map(|(_, mean)| *mean).min()?;
    let high = means.iter().map(|(_, mean)| *mean).max()?;
    let overall = (sum / count).abs();
    if means.len() < 2 || overall == 0 {
        return None;
    }
    let wanted = if is_higher_better(metric) { high } else { low };
    let best = means.iter().find(|(_, mean)| *mean == wanted).filter(|_| low < high);
    let best = best.map(|(level, _)| levels_of.name(axis, *level)).unwrap_or_default();
    Some(Influence { part: (high - low) * 1_000_000 / overall, best })
}

/// Returns the value of a key and the mean of a metric, of a combination that counts.
fn designed(trial: &Trial, key: usize, metric: usize) -> Option<(u64, i128)> {
    let mean = trial.spread(metric).filter(|_| trial.is_designed)?.mean;
    Some((*trial.point.get(key)?, mean))
}

/// How the values of a key are put together.
enum Levels {
    /// Each is a level of its own.
    Values,
    /// Equal parts of what was tried, which the rules may have cut short.
    Parts { from: u64, to: u64 },
}

impl Levels {
    /// Returns the levels of a key of which these values were tried.
    fn over(axis: &Axis, tried: impl Iterator<Item = u64> + Clone) -> Option<Self> {
        let (from, to) = (tried.clone().min()?, tried.max()?);
        let is_long = axis.is_range() && to - from >= VALUES_MAX;
        Some(if is_long { Self::Parts { from, to } } else { Self::Values })
    }

    /// Returns the level that a value belongs to.
    fn level(&self, index: u64) -> u64 {
        match self {
            Self::Values => index,
            Self::Parts { from, to } => (index - from) * LEVELS / (to - from + 1),
        }
    }

    /// Returns the values of a level, for people.
    fn name(&self, axis: &Axis, level: u64) -> String {
        match self {
            Self::Values => axis.value(level),
            Self::Parts { from, to } => {
                let begin = |level: u64| from + (level * (to - from + 1)).div_ceil(LEVELS);
                format!("{}..{}", axis.value(begin(level)), axis.value(begin(level + 1) - 1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::axis::Space;
    use crate::sweep::{Question, Way, metrics};

    /// Runs every combination of two keys through a function from values to waits.
    fn explored(keys: [&str; 2], wait: impl Fn(u64, u64) -> i128) -> Exploration {
        let space = Space::new(keys.map(|key| key.parse().unwrap()).to_vec()).unwrap();
        let trials = (0..space.size()).map(|number| {
            let point = space.point(number);
            let mut run = vec![None; metrics().count()];
            run[0] = Some(wait(point[0], point[1]));
            Trial::of(point, true, &[run])
        });
        let trials = trials.collect();
        let (way, scenario) = (Way::Sweep, "x".to_owned());
        let question = Question { scenario, way, seeds: (0, 1), space, objectives: vec![0] };
        Exploration::new(question, trials)
    }

    #[test]
    fn a_key_that_does_nothing_moves_nothing() {
        let of = explored(["a=p,q", "b=1..4"], |a, _| 100 + 100 * i128::from(a));
        let part = |key| influence(&of, key, 0).unwrap();
        // The means are 100 and 200, the overall one is 150.
        assert_eq!(part(0), Influence { part: 666_666, best: "p".to_owned() });
        assert_eq!(part(1), Influence { part: 0, best: String::new() });
        assert_eq!(influence(&of, 0, 1), None, "a metric that nobody has");
    }

    #[test]
    fn a_long_range_has_three_levels_that_cover_it() {
        let of = explored(["a=0..99", "b=1,2"], |a, _| 1_000 - i128::from(a));
        let found = influence(&of, 0, 0).unwrap();
        assert_eq!(found.best, "67..99");
        let axis = &of.space.axes()[0];
        let levels = Levels::over(axis, 0..100).unwrap();
        for (at, name_of) in [(0, "0..33"), (33, "0..33"), (34, "34..66"), (99, "67..99")] {
            assert_eq!(levels.name(axis, levels.level(at)), name_of);
        }
        let cut = Levels::over(axis, 10..=19).unwrap();
        assert_eq!([10, 19].map(|at| cut.name(axis, cut.level(at))), ["10..13", "17..19"]);
    }
}
