//! `swarm`: random clusters, workloads and weather through both halves, every invariant checked.

use super::many::ManyArgs;
use super::{Seeds, show};
use crate::swarm::{Case, Family, Limits, shrink, verdict};
use clap::Args;

/// Options of `swarm`.
#[derive(Debug, Args)]
pub(super) struct SwarmArgs {
    /// The seeds to play; each draws a cluster, its work, its weather and its rules.
    #[arg(long, value_name = "A..B", default_value = "0..100")]
    seeds: Seeds,
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
    #[command(flatten)]
    many: ManyArgs,
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

/// Plays the seeds and prints what they came to.
pub(super) fn swarm(args: &SwarmArgs) -> anyhow::Result<()> {
    let limits = args.limits()?;
    let seeds = args.seeds.from..args.seeds.to;
    let sum = args.many.play("seeds", seeds, |seed| verdict(seed, &limits))?;
    let Some((seed, what)) = sum.failed.first() else { return Ok(()) };
    let small = if args.no_shrink {
        limits
    } else {
        show::note(&format!("seed {seed} fails; making it smaller"));
        shrink(*seed, &limits)
    };
    let rerun = small.command(*seed);
    if !args.many.quiet && small.blows.is_some() {
        for blow in Case::draw(*seed, &small).weather.blows {
            let (at, lasts) = (blow.at, blow.lasts.get());
            let (name, node) = (blow.blow.name(), blow.node);
            let (seconds, rest) = (lasts / 1_000, lasts % 1_000);
            show::note(&format!("{at} {name} on n{node} for {seconds}.{rest:03}s"));
        }
    }
    let (failed, all) = (sum.failed.len(), sum.played);
    anyhow::bail!("{failed} of {all} seeds failed; seed {seed}: {what}\nrerun it with: {rerun}")
}
