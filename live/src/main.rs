//! The command line of the daemon, its agents and clients.
#![expect(clippy::print_stdout, reason = "this is the terminal's module")]

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Lends idle machines over plain SSH.
#[derive(Debug, Parser)]
#[command(name = "gridlive", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Check a configuration without starting anything.
    Check {
        /// The configuration file.
        #[arg(env = "GRIDLIVE_CONFIG")]
        config: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    let Verb::Check { config } = Cli::parse().verb;
    let found = gridlive::check(&config)?;
    println!(
        "{}: ok ({} nodes, {} pools, {} accounts)",
        config.display(),
        found.nodes,
        found.pools,
        found.accounts
    );
    Ok(())
}
