//! Many at once: the options of every verb that runs many, and what `swarm` and `validate` played
//! came to.

use super::Interrupted;
use super::run::interruption;
use super::show;
use crate::clock::Stopwatch;
use crate::json::{Json, object};
use crate::swarm::Verdict;
use clap::Args;
use gridcore::units::Span;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Options of every verb that runs many.
#[derive(Debug, Args)]
pub(super) struct ManyArgs {
    /// How many run at once [default: one for each core].
    #[arg(long, short, value_name = "N")]
    jobs: Option<usize>,
    /// Print no progress and no table.
    #[arg(long, short)]
    pub(super) quiet: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// All verdicts together.
#[derive(Default)]
pub(super) struct Sum {
    /// How many there are.
    pub(super) played: u64,
    entries: u64,
    simulated_ms: u128,
    nodes: u64,
    jobs: u64,
    completed: u64,
    weather: BTreeMap<&'static str, u64>,
    reclaims: Vec<(Span, Span, bool)>,
    digest: u64,
    /// Those that found something, by number, with what they found first.
    pub(super) failed: Vec<(u64, String)>,
}

impl Sum {
    fn add(&mut self, number: u64, verdict: Verdict) {
        self.played += 1;
        self.entries += verdict.entries;
        self.simulated_ms += u128::from(verdict.simulated.get());
        self.nodes += verdict.nodes as u64;
        self.jobs += verdict.jobs.0;
        self.completed += verdict.jobs.1;
        for (name, count) in verdict.weather {
            *self.weather.entry(name).or_insert(0) += count;
        }
        self.reclaims.extend(verdict.reclaims);
        let part = verdict.digest.get(..16).and_then(|text| u64::from_str_radix(text, 16).ok());
        self.digest = gridcore::state::mix(self.digest, part.unwrap_or(0));
        if let Some(first) = verdict.broken.into_iter().next() {
            self.failed.push((number, first));
        }
    }

    /// Returns the 50th and 99th percentile and the highest of the waits of owners whose
    /// coordinator could be reached, or not.
    fn waits(&self, reached: bool) -> (usize, [u64; 3]) {
        let waits = self.reclaims.iter().filter(|(.., could)| *could == reached);
        let mut waits: Vec<u64> = waits.map(|(took, ..)| took.get()).collect();
        waits.sort_unstable();
        let at = |percent: usize| {
            let rank = (waits.len() * percent).div_ceil(100).saturating_sub(1);
            waits.get(rank).copied().unwrap_or(0)
        };
        (waits.len(), [at(50), at(99), at(100)])
    }
}

impl ManyArgs {
    /// Returns the threads that run them.
    pub(super) fn pool(&self) -> anyhow::Result<rayon::ThreadPool> {
        Ok(rayon::ThreadPoolBuilder::new().num_threads(self.jobs.unwrap_or(0)).build()?)
    }

    /// Returns whether nothing is shown on the way.
    pub(super) fn is_silent(&self) -> bool {
        self.quiet || self.json
    }

    /// Plays each of some numbers and prints what they came to; `unit` is what they number.
    pub(super) fn play(
        &self,
        unit: &'static str,
        numbers: Range<u64>,
        one: impl Fn(u64) -> Verdict + Sync,
    ) -> anyhow::Result<Sum> {
        // What panics is found, made smaller and told with its number; alone it tells all.
        if numbers.end - numbers.start > 1 {
            std::panic::set_hook(Box::new(|_| {}));
        }
        let stop = interruption();
        let numbers: Vec<u64> = numbers.collect();
        let progress = show::counting(numbers.len() as u64, self.is_silent());
        let watch = Stopwatch::start();
        let pool = self.pool()?;
        let verdicts: Vec<(u64, Option<Verdict>)> = pool.install(|| {
            let play = |number: &u64| {
                let played = (!stop.load(Ordering::Relaxed)).then(|| one(*number));
                progress.inc(1);
                (*number, played)
            };
            numbers.par_iter().map(play).collect()
        });
        progress.finish_and_clear();
        let wall = watch.elapsed();
        let mut sum = Sum::default();
        for (number, played) in verdicts {
            if let Some(verdict) = played {
                sum.add(number, verdict);
            }
        }
        if self.json {
            show::bytes(json(&sum, unit).text().as_bytes())?;
        } else if !self.quiet {
            table(&sum, unit, wall.as_millis());
        }
        if sum.failed.is_empty() && stop.load(Ordering::Relaxed) {
            return Err(Interrupted(format!("after {} {unit}", sum.played)).into());
        }
        Ok(sum)
    }
}

/// Failed ones that a table names.
const FAILED_SHOWN: usize = 20;

/// Prints a table of what all came to; `unit` is what was played.
fn table(sum: &Sum, unit: &str, wall_ms: u128) {
    let mut rows = vec![
        vec![unit.to_owned(), sum.played.to_string()],
        vec!["failed".to_owned(), sum.failed.len().to_string()],
        vec!["nodes".to_owned(), sum.nodes.to_string()],
        vec!["jobs ended".to_owned(), sum.jobs.to_string()],
        vec!["jobs completed".to_owned(), sum.completed.to_string()],
        vec!["entries".to_owned(), sum.entries.to_string()],
        vec!["simulated s".to_owned(), (sum.simulated_ms / 1_000).to_string()],
        vec!["simulated s per s".to_owned(), (sum.simulated_ms / wall_ms.max(1)).to_string()],
        vec!["digest of all".to_owned(), format!("{:016x}", sum.digest)],
    ];
    for (name, count) in &sum.weather {
        rows.push(vec![(*name).to_owned(), count.to_string()]);
    }
    for (reached, name) in [(true, "owner waited"), (false, "owner waited, nobody in reach")] {
        let (count, waits) = sum.waits(reached);
        let [median, most, all] = waits.map(|ms| format!("{}.{:03}", ms / 1_000, ms % 1_000));
        let text = format!("{count} times, p50 {median} p99 {most} max {all} s");
        rows.push(vec![name.to_owned(), text]);
    }
    for (number, what) in sum.failed.iter().take(FAILED_SHOWN) {
        let what: String = what.chars().take(60).collect();
        rows.push(vec![format!("failed: {number}"), what]);
    }
    show::table(&["what", "value"], &rows);
}

/// Returns the same as JSON.
fn json(sum: &Sum, unit: &str) -> Json {
    let int = |n: u64| Json::Int(n.into());
    let waits = |reached: bool| {
        let (count, [median, most, all]) = sum.waits(reached);
        let fixed = |ms: u64| Json::Fixed(i128::from(ms) * 1_000);
        object([
            ("count", int(count as u64)),
            ("p50", fixed(median)),
            ("p99", fixed(most)),
            ("max", fixed(all)),
        ])
    };
    let failed = sum.failed.iter().map(|(seed, what)| (seed.to_string(), Json::Text(what.clone())));
    object([
        (unit, int(sum.played)),
        ("nodes", int(sum.nodes)),
        ("jobs_ended", int(sum.jobs)),
        ("jobs_completed", int(sum.completed)),
        ("entries", int(sum.entries)),
        ("simulated_s", Json::Int((sum.simulated_ms / 1_000).try_into().unwrap_or(i128::MAX))),
        ("digest", Json::Text(format!("{:016x}", sum.digest))),
        ("weather", object(sum.weather.iter().map(|(name, n)| (*name, int(*n))))),
        ("owner_waited_s", waits(true)),
        ("owner_waited_out_of_reach_s", waits(false)),
        ("failed", object(failed)),
    ])
}
