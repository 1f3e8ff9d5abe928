//! The verb `reserve`: capacity that is kept ahead.

use super::Asking;
use super::job::{SharedArgs, from_now};
use super::list::{List, Listing};
use super::screen;
use clap::Subcommand;
use std::process::ExitCode;

/// What is done about reservations.
#[derive(Debug, Subcommand)]
pub(super) enum ReserveVerb {
    /// Keep capacity from a time on, for an account; prints the number. For administrators.
    ///
    /// It begins as an allocation, which `dealloc` gives back: it is paid from then on, and `ssh`
    /// opens a shell in it.
    Create {
        #[command(flatten)]
        shared: SharedArgs,
        /// From when: a span from now such as 2h, or a time of the day such as 18:00.
        #[arg(long, value_name = "WHEN")]
        begin: String,
        /// For how long, such as 90m.
        #[arg(long, short = 't')]
        time: String,
        /// Who pays [default: the first account].
        #[arg(long, short = 'A')]
        account: Option<String>,
        #[command(flatten)]
        asking: Asking,
    },
    /// List what is kept ahead.
    List {
        #[command(flatten)]
        listing: Listing,
    },
    /// Give a reservation up before it begins.
    Cancel {
        /// Its number.
        job: u64,
        #[command(flatten)]
        asking: Asking,
    },
}

const RESERVATIONS: List<'_> = List {
    path: "/v1/reservations",
    rows: "reservations",
    columns: &["job", "name", "account", "begins_in_s", "limit_s", "nodes", "needs"],
    wide: &["pool", "members"],
};

/// Runs a verb.
pub(super) async fn run(verb: ReserveVerb) -> anyhow::Result<ExitCode> {
    match verb {
        ReserveVerb::Create { shared, begin, time, account, asking } => {
            let mut request = shared.request(time)?;
            (request.begin, request.reserve) = (Some(from_now(&begin)?), true);
            request.account = account;
            let taken = asking.client()?.request_resources(&request).await?;
            if asking.json {
                println!("{}", screen::json(&serde_json::to_value(&taken)?));
            } else {
                println!("{}", taken.allocation);
            }
        }
        ReserveVerb::List { listing } => listing.print(&RESERVATIONS).await?,
        ReserveVerb::Cancel { job, asking } => asking.client()?.cancel(job).await?,
    }
    Ok(ExitCode::SUCCESS)
}
