//! `replay`: a journal once more through the core.

use super::show;
use crate::journal::Reader;
use crate::json::{Json, object};
use clap::Args;
use gridcore::grid::Grid;
use gridcore::units::Time;
use std::path::PathBuf;

/// Options of `replay`.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The folder of a journal.
    journal: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Replays a journal and prints what it comes to; the digest is that of the run that wrote it.
pub(super) fn replay(args: &ReplayArgs) -> anyhow::Result<()> {
    let (mut reader, config) = Reader::open(&args.journal)?;
    let mut grid = Grid::new(config, Time::ZERO)?;
    let (mut entries, mut denied, mut effects) = (0_u64, 0_u64, Vec::new());
    while let Some(entry) = reader.next_entry()? {
        denied += u64::from(grid.apply(&entry, &mut effects).is_err());
        effects.clear();
        entries += 1;
    }
    let (digest, end) = (grid.digest().to_string(), grid.state().now);
    if args.json {
        let result = object([
            ("entries", Json::Int(entries.into())),
            ("denied", Json::Int(denied.into())),
            ("end_s", Json::Fixed(i128::from(end.ms()) * 1_000)),
            ("digest", Json::Text(digest)),
        ]);
        return show::bytes(result.text().as_bytes());
    }
    show::table(
        &["replay", "value"],
        &[
            vec!["entries".to_owned(), entries.to_string()],
            vec!["denied".to_owned(), denied.to_string()],
            vec!["end_s".to_owned(), format!("{}.{:03}", end.ms() / 1_000, end.ms() % 1_000)],
            vec!["digest".to_owned(), digest],
        ],
    );
    Ok(())
}
