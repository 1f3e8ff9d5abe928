//! `swarm`: random clusters, workloads and weather through both halves, every invariant checked.

use super::run::interruption;
use super::{Seeds, show};
use crate::clock::Stopwatch;
use crate::json::{Json, object};
use crate::swarm::{Case, Family, Limits, Verdict, shrink, verdict};
use clap::Args;
use gridcore::units::Span;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// Options of `swarm`.
#[derive(Debug, Args)]
pub(super) struct SwarmArgs {
    /// The seeds to play; each draws a cluster, its work, its weather and its rules.
    #[arg(long, value_name = "A..B", default_value = "0..100")]
    seeds: Seeds,
    /// How many seeds are played at once [default: one for each core].
    #[arg(long, short, value_name = "N")]
    jobs: Option<usize>,
    /// Let only the network misbehave.
    #[arg(long)]
    network: bool,
    /// Most nodes of a cluster.
    #[arg(long, value_name = "N")]
    nodes: Option<usize>,
    /// Most jobs of a cluster.
    #[arg(long, value_name = "N")]
    work: Option<usize>,
    /// The blows that fall, by their place in the seed's list, with commas; `none` for none.
    #[arg(long, value_name = "LIST")]
    blows: Option<String>,
    /// No message is lost, doubled or overtaken, and clocks are exact.
    #[arg(long)]
    calm: bool,
    /// Do not make a failing seed smaller.
    #[arg(long)]
    no_shrink: bool,
    /// Print no progress and no table.
    #[arg(long, short)]
    quiet: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl SwarmArgs {
    fn limits(&self) -> anyhow::Result<Limits> {
        let number = |text: &str| {
            text.trim().parse::<usize>().map_err(|_| {
                anyhow::anyhow!(
                    "--blows: `{text}` is no number: write numbers with commas, or none"
                )
            })
        };
        let blows = match self.blows.as_deref() {
            None => None,
            Some("none") => Some(Vec::new()),
            Some(list) => Some(list.split(',').map(number).collect::<anyhow::Result<_>>()?),
        };
        Ok(Limits {
            nodes: self.nodes.unwrap_or(usize::MAX),
            jobs: self.work.unwrap_or(usize::MAX),
            blows,
            calm: self.calm,
            family: if self.network { Family::Network } else { Family::All },
        })
    }
}

/// All seeds together.
#[derive(Default)]
struct Sum {
    seeds: u64,
    entries: u64,
    simulated_ms: u128,
    nodes: u64,
    jobs: u64,
    completed: u64,
    weather: BTreeMap<&'static str, u64>,
    reclaims: Vec<(Span, Span, bool)>,
    digest: u64,
    failed: Vec<(u64, String)>,
}

impl Sum {
    fn add(&mut self, seed: u64, verdict: Verdict) {
        self.seeds += 1;
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
            self.failed.push((seed, first));
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

/// Plays the seeds and prints what they came to.
pub(super) fn swarm(args: &SwarmArgs) -> anyhow::Result<()> {
    let limits = args.limits()?;
    // What panics is found, made smaller and told with its seed.
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let stop = interruption();
    let seeds: Vec<u64> = (args.seeds.from..args.seeds.to).collect();
    let progress = show::counting(seeds.len() as u64, args.quiet || args.json);
    let watch = Stopwatch::start();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.jobs.unwrap_or(0)).build()?;
    let verdicts: Vec<(u64, Option<Verdict>)> = pool.install(|| {
        let play = |seed: &u64| {
            let go = !stop.load(Ordering::Relaxed);
            let played = go.then(|| verdict(*seed, &limits));
            progress.inc(1);
            (*seed, played)
        };
        seeds.par_iter().map(play).collect()
    });
    progress.finish_and_clear();
    let wall = watch.elapsed();
    let mut sum = Sum::default();
    for (seed, played) in verdicts {
        if let Some(verdict) = played {
            sum.add(seed, verdict);
        }
    }
    if args.json {
        show::bytes(json(&sum).text().as_bytes())?;
    } else if !args.quiet {
        table(&sum, wall.as_millis());
    }
    let Some((seed, what)) = sum.failed.first() else {
        anyhow::ensure!(!stop.load(Ordering::Relaxed), "interrupted after {} seeds", sum.seeds);
        return Ok(());
    };
    let small = if args.no_shrink { limits } else { shrink(*seed, &limits) };
    let rerun = small.command(*seed);
    if !args.quiet && small.blows.is_some() {
        for blow in Case::draw(*seed, &small).weather.blows {
            let (at, lasts) = (blow.at, blow.lasts.get());
            let (name, node) = (blow.blow.name(), blow.node);
            show::note(&format!(
                "{at} {name} on n{node} for {}.{:03}s",
                lasts / 1_000,
                lasts % 1_000
            ));
        }
    }
    let (failed, all) = (sum.failed.len(), sum.seeds);
    anyhow::bail!("{failed} of {all} seeds failed; seed {seed}: {what}\nrerun it with: {rerun}")
}

fn table(sum: &Sum, wall_ms: u128) {
    let mut rows = vec![
        vec!["seeds".to_owned(), sum.seeds.to_string()],
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
    show::table(&["swarm", "value"], &rows);
}

fn json(sum: &Sum) -> Json {
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
        ("seeds", int(sum.seeds)),
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
