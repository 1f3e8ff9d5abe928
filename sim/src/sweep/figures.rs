//! The pictures of a sweep or a search.

use crate::compare::Metric;
use crate::picture::Svg;
use crate::picture::compare::{self, Estimate, Variant};
use crate::picture::front::{Candidate, Measure, front};
use crate::picture::matrix::{self, Effect, Side, Surface};
use crate::picture::number::of_millionths;
use crate::sweep::influence::influence;
use crate::sweep::{Exploration, Trial, Way, metrics};

/// Most combinations that are drawn one by one.
const ROWS_MAX: usize = 16;

impl Exploration {
    /// Draws everything that can be shown, with the stems of the files.
    #[must_use]
    pub fn pictures(&self) -> Vec<(&'static str, Svg)> {
        [
            ("front", self.front_picture()),
            ("influence", self.influence_picture()),
            ("grid", self.grid_picture()),
            ("combinations", self.rows_picture()),
        ]
        .into_iter()
        .filter_map(|(stem, svg)| svg.map(|svg| (stem, svg)))
        .collect()
    }

    /// Returns the metrics at these places.
    fn measures(&self, of: &[usize]) -> Vec<Measure> {
        of.iter().filter_map(|i| metrics().nth(*i)).map(Metric::measure).collect()
    }

    /// Returns what a trial came to in one metric.
    fn estimate(trial: &Trial, metric: usize) -> Option<Estimate> {
        Some(metrics().nth(metric)?.estimate(trial.spread(metric)?))
    }

    fn front_picture(&self) -> Option<Svg> {
        let candidate = |(i, trial): (usize, &Trial)| Candidate {
            label: self.space.label(&trial.point),
            rank: self.rank(i),
            estimates: self.objectives.iter().map(|m| Self::estimate(trial, *m)).collect(),
        };
        let candidates: Vec<Candidate> = self.trials.iter().enumerate().map(candidate).collect();
        front(&self.subtitle(), &self.measures(&self.objectives), &candidates)
    }

    fn influence_picture(&self) -> Option<Svg> {
        let known = self.known();
        let effect = |key: usize, metric: usize| {
            let found = influence(self, key, metric)?;
            Some(Effect { part: of_millionths(found.part), best: found.best })
        };
        let key = |(key, label): (usize, String)| Variant {
            label,
            data: known.iter().map(|metric| effect(key, *metric)).collect(),
        };
        let keys: Vec<Variant<Vec<Option<Effect>>>> =
            self.space.names().into_iter().enumerate().map(key).collect();
        let designed = self.trials.iter().filter(|trial| trial.is_designed).count();
        let note = match self.way {
            Way::Sweep => "Means over every combination of the other keys".to_owned(),
            Way::Tune { .. } => format!(
                "Means over the {designed} combinations that were spread evenly, before the \
                 search; long ranges in three parts"
            ),
        };
        matrix::influence((&self.subtitle(), &note), &self.measures(&known), &keys)
    }

    /// Two keys that were swept: each objective over both.
    fn grid_picture(&self) -> Option<Svg> {
        let ([down, across], Way::Sweep) = (self.space.axes(), self.way) else { return None };
        let mut names = self.space.names().into_iter();
        let mut side = |axis: &crate::sweep::axis::Axis| Side {
            name: names.next().unwrap_or_default(),
            values: (0..axis.count()).map(|i| axis.value(i)).collect(),
        };
        let sides = (side(down), side(across));
        let surface = |metric: &usize| {
            let mean = |trial: &Trial| Some(of_millionths(trial.spread(*metric)?.mean));
            let measure = metrics().nth(*metric)?.measure();
            Some(Surface { measure, cells: self.trials.iter().map(mean).collect() })
        };
        let surfaces: Vec<Surface> = self.objectives.iter().filter_map(surface).collect();
        matrix::surfaces(&self.subtitle(), (&sides.0, &sides.1), &surfaces)
    }

    /// A few combinations: each with its interval in each metric.
    fn rows_picture(&self) -> Option<Svg> {
        if self.trials.len() > ROWS_MAX {
            return None;
        }
        let known = self.known();
        let variant = |trial: &Trial| Variant {
            label: self.space.values(&trial.point).join(", "),
            data: known.iter().filter_map(|metric| Self::estimate(trial, *metric)).collect(),
        };
        let variants: Vec<Variant<Vec<Estimate>>> = self.trials.iter().map(variant).collect();
        compare::metrics(&self.subtitle(), &variants)
    }
}
