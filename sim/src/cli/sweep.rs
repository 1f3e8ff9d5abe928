//! `sweep`: every combination.

use super::Usage;
use super::explore::{COMBINATIONS_MAX, ExploreArgs};
use crate::sweep::axis::Point;
use crate::sweep::{Exploration, Way};
use clap::Args;

/// Options of `sweep`.
#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    #[command(flatten)]
    explore: ExploreArgs,
}

/// Runs every combination with every seed and writes one report.
pub(super) fn sweep(args: &SweepArgs) -> anyhow::Result<()> {
    let ground = args.explore.ground("sweep")?;
    let size = ground.space.size();
    if size > COMBINATIONS_MAX {
        return Err(Usage(format!(
            "{size} combinations, more than {COMBINATIONS_MAX}; vary fewer keys, take larger \
             steps, or search with `gridsim tune`"
        ))
        .into());
    }
    let points: Vec<Point> = (0..size).map(|number| ground.space.point(number)).collect();
    ground.check_all(&points)?;
    let bar = ground.progress(u64::try_from(size).unwrap_or(u64::MAX));
    let trials = ground.run(points, true, &bar);
    bar.finish_and_clear();
    ground.report(&Exploration::new(ground.question(Way::Sweep), trials?))
}
