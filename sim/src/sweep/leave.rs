//! What a sweep or a search leaves to be read by programs: a table and a summary.

use crate::compare::Metric;
use crate::json::{Json, fixed, object};
use crate::sweep::influence::influence;
use crate::sweep::{Exploration, Trial, Way, metrics};
use std::io::{self, Write};

impl Exploration {
    /// Writes one row per combination in the order in which they were run: its number, the keys,
    /// each metric's mean over the seeds and half the width of its 95 % confidence interval, and
    /// whether it is on the front.
    ///
    /// # Errors
    /// As `out`.
    pub fn write_csv(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut writer = csv::Writer::from_writer(out);
        let mut header = vec!["combination".to_owned()];
        if self.way != Way::Sweep {
            header.push("stage".to_owned());
        }
        header.extend(self.space.axes().iter().map(|axis| axis.key().to_owned()));
        for metric in metrics() {
            header.extend([metric.word.to_owned(), format!("{}_half_95", metric.word)]);
        }
        header.push("pareto".to_owned());
        writer.write_record(header)?;
        for (i, trial) in self.trials.iter().enumerate() {
            let mut row = vec![(i + 1).to_string()];
            if self.way != Way::Sweep {
                row.push(stage(trial).to_owned());
            }
            row.extend(self.space.values(&trial.point));
            for spread in &trial.spreads {
                let cells = spread.as_ref().map(|s| [fixed(s.mean), fixed(s.half)]);
                row.extend(cells.unwrap_or_default());
            }
            row.push(if self.rank(i).is_some() { "yes" } else { "no" }.to_owned());
            writer.write_record(row)?;
        }
        writer.flush()
    }

    /// Describes everything.
    #[must_use]
    pub fn json(&self) -> Json {
        let (from, to) = self.seeds;
        let text = |text: &str| Json::Text(text.to_owned());
        let mut pairs = vec![
            ("schema", text(&format!("gridsim-{}/1", self.word()))),
            ("scenario", text(&self.scenario)),
            ("first_seed", Json::Int(from.into())),
            ("seeds", Json::Int((to - from).into())),
            ("complete", Json::Bool(true)),
        ];
        if let Way::Tune { seed, refused } = self.way {
            pairs.push(("search_seed", Json::Int(seed.into())));
            pairs.push(("refused", Json::Int(refused.into())));
        }
        let objective = |i: &usize| {
            let metric = metrics().nth(*i)?;
            Some((metric.word, text(if metric.is_higher_better { "higher" } else { "lower" })))
        };
        pairs.push(("objectives", object(self.objectives.iter().filter_map(objective))));
        pairs.push(("combinations", Json::Int(self.trials.len() as i128)));
        let front = (1..)
            .zip(self.front())
            .map(|(rank, i): (usize, &usize)| (rank.to_string(), Json::Int(*i as i128 + 1)));
        pairs.push(("front", object(front)));
        pairs.push(("influence", self.influences()));
        pairs.push(("trials", object((0..self.trials.len()).filter_map(|i| self.named(i)))));
        object(pairs)
    }

    /// Returns the number of a trial, as in the table, and what it came to.
    fn named(&self, i: usize) -> Option<(String, Json)> {
        let trial = self.trials.get(i)?;
        let axes = self.space.axes().iter().map(|axis| axis.key());
        let keys = axes.zip(self.space.values(&trial.point)).map(|(k, v)| (k, Json::Text(v)));
        let spread = |(metric, spread): (&Metric, &Option<crate::compare::Spread>)| {
            Some((metric.word, spread.as_ref()?.json()))
        };
        let mut pairs = vec![("keys", object(keys))];
        if self.way != Way::Sweep {
            pairs.push(("stage", Json::Text(stage(trial).to_owned())));
        }
        pairs.push(("pareto", Json::Bool(self.rank(i).is_some())));
        pairs.push(("metrics", object(metrics().zip(&trial.spreads).filter_map(spread))));
        Some(((i + 1).to_string(), object(pairs)))
    }

    /// Describes how far each key moves each metric.
    fn influences(&self) -> Json {
        let of_key = |key: usize| {
            let of_metric = |(i, metric): (usize, &'static Metric)| {
                let found = influence(self, key, i)?;
                let pairs = [("part", Json::Fixed(found.part)), ("best", Json::Text(found.best))];
                Some((metric.word, object(pairs)))
            };
            object(metrics().enumerate().filter_map(of_metric))
        };
        let axes = self.space.axes().iter().enumerate();
        object(axes.map(|(key, axis)| (axis.key().to_owned(), of_key(key))))
    }
}

/// Returns in which part of a search a combination was chosen.
pub(super) fn stage(trial: &Trial) -> &'static str {
    if trial.is_designed { "design" } else { "search" }
}
