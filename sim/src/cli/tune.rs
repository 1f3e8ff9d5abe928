//! `tune`: a search for the front.

use super::explore::{COMBINATIONS_MAX, ExploreArgs, Ground};
use super::{Usage, show};
use crate::sweep::axis::Point;
use crate::sweep::search::{GENERATION, Search};
use crate::sweep::{Exploration, Trial, Way, front};
use clap::Args;
use std::cell::RefCell;
use std::num::NonZeroU32;

/// Options of `tune`.
#[derive(Debug, Args)]
pub(super) struct TuneArgs {
    #[command(flatten)]
    explore: ExploreArgs,
    /// How many combinations are tried: a third all over, the others near the best.
    #[arg(long, short = 'n', value_name = "N", default_value = "60")]
    trials: NonZeroU32,
    /// Seed of the choices of the search.
    #[arg(long, value_name = "N", default_value_t = 0)]
    search_seed: u64,
}

/// Searches the space and writes one report.
pub(super) fn tune(args: &TuneArgs) -> anyhow::Result<()> {
    let wanted = args.trials.get();
    if u128::from(wanted) > COMBINATIONS_MAX {
        return Err(Usage(format!("--trials {wanted}: at most {COMBINATIONS_MAX} are run")).into());
    }
    let ground = args.explore.ground("tune")?;
    let (trials, refused, why) = search(args, &ground)?;
    let (found, way) = (trials.len(), Way::Tune { seed: args.search_seed, refused });
    if found < usize::try_from(wanted).unwrap_or(usize::MAX) {
        show::note(&format!("note: no other combination can be run: {found} trials"));
    }
    if let Some(why) = why {
        show::note(&format!("note: {refused} combinations cannot be run; the last: {why:#}"));
    }
    ground.report(&Exploration::new(ground.question(way), trials))
}

/// Tries combinations until there are enough or there are no more; returns how many cannot be run,
/// and why the last of them.
fn search(
    args: &TuneArgs,
    ground: &Ground<'_>,
) -> anyhow::Result<(Vec<Trial>, u64, Option<anyhow::Error>)> {
    let why = RefCell::new(None);
    let fits = |point: &Point| match ground.go_on().map_err(Into::into).and(ground.check(point)) {
        Ok(()) => true,
        Err(error) => {
            why.replace(Some(error));
            false
        }
    };
    let wanted = args.trials.get();
    let mut search = Search::new(&ground.space, args.search_seed, &fits);
    let design = search.design(wanted.div_ceil(3));
    ground.go_on()?;
    if design.is_empty() {
        let why = why.take().unwrap_or_else(|| anyhow::anyhow!("there is none"));
        return Err(why.context("no combination can be run; the last that was looked at"));
    }
    let bar = ground
        .progress(u64::from(wanted).min(u64::try_from(ground.space.size()).unwrap_or(u64::MAX)));
    let mut trials = ground.run(design, true, &bar)?;
    let objectives = ground.objectives();
    loop {
        let left = usize::try_from(wanted).unwrap_or(usize::MAX).saturating_sub(trials.len());
        let best = front(&trials, &objectives).into_iter().filter_map(|i| trials.get(i));
        let parents: Vec<Point> = best.map(|trial| trial.point.clone()).collect();
        let children = search.children(&parents, left.min(GENERATION));
        ground.go_on()?;
        if children.is_empty() {
            bar.finish_and_clear();
            return Ok((trials, search.refused(), why.take()));
        }
        trials.extend(ground.run(children, false, &bar)?);
    }
}
