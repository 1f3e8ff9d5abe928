//! Verbs that show the cluster, and those about nodes and credit.

use super::Asking;
use super::list::{List, Listing, shown};
use super::screen::{self, escaped};
use super::statement::{self, Gift, StatementArgs};
use clap::Subcommand;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use gridlive::client::types::Job;
use serde_json::Value;
use std::process::ExitCode;

/// Verbs that show.
#[derive(Debug, Subcommand)]
pub(super) enum ShowVerb {
    /// Show the cluster in a few numbers.
    Status {
        #[command(flatten)]
        asking: Asking,
    },
    /// List the jobs that wait or run.
    Queue {
        #[command(flatten)]
        listing: Listing,
    },
    /// List the jobs that have ended, the newest first.
    History {
        /// How many.
        #[arg(long, short = 'n', default_value_t = 50)]
        most: usize,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show all about one job or one node.
    Show {
        /// The job's number, or the node's name.
        what: String,
        #[command(flatten)]
        asking: Asking,
    },
    /// Say of every node, or one, what it can give and what it cannot; ends with 1 where one fails.
    Doctor {
        /// The node [default: all].
        node: Option<String>,
        #[command(flatten)]
        asking: Asking,
    },
    /// Say why a job waits.
    Explain {
        /// Its number.
        job: u64,
        #[command(flatten)]
        asking: Asking,
    },
    /// End everything on every node, leave nothing there, and stop the daemon; its journal stays.
    Down {
        #[command(flatten)]
        asking: Asking,
    },
    /// List the nodes.
    Nodes {
        #[command(flatten)]
        listing: Listing,
    },
    /// List what nodes offer.
    Offers {
        #[command(flatten)]
        listing: Listing,
    },
    /// List what is lent.
    Leases {
        #[command(flatten)]
        listing: Listing,
    },
    /// Show the cluster in a few numbers, as `status`: the name of the earlier tools.
    SharedStatus {
        #[command(flatten)]
        asking: Asking,
    },
    /// Print the metrics that Prometheus reads.
    Metrics {
        #[command(flatten)]
        asking: Asking,
    },
    /// Show what a resource costs for an hour, by class.
    Price {
        #[command(flatten)]
        listing: Listing,
    },
    /// List the pools.
    Pools {
        #[command(flatten)]
        listing: Listing,
    },
    /// Show each account's share of the cluster, what it has had of all use, its fair-share factor
    /// (1 for none, 0.5 for as much as its share), what it is due next, and what it holds now.
    Share {
        #[command(flatten)]
        listing: Listing,
    },
    /// Show what accounts have by right, and what they hold above that, which may be recalled.
    Quota {
        #[command(flatten)]
        listing: Listing,
    },
    /// Show who waits, first first: the priority asked for, the class that age makes of it, and,
    /// where past use decides, the account's fair-share factor.
    Prio {
        /// At most so many of each pool.
        #[arg(long, default_value_t = 100)]
        most: usize,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show the accounts' credit.
    Budget {
        #[command(flatten)]
        listing: Listing,
    },
    /// Show what accounts have, earned and paid, and for which jobs, the newest first.
    Statement(StatementArgs),
    /// Put new credit into an account; what it may keep rises with it.
    Deposit(Gift),
    /// Give an account credit that the treasury has beside the fees of the last day.
    Grant(Gift),
    /// Print what has happened lately, one JSON line each.
    Events {
        /// Go on with what happens, until interrupted.
        #[arg(long, short)]
        follow: bool,
        #[command(flatten)]
        asking: Asking,
    },
    /// Let a node finish what it runs and take nothing new.
    Drain {
        /// The node.
        node: String,
        /// Why, for people.
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        asking: Asking,
    },
    /// Let a drained node work again.
    Undrain {
        /// The node.
        node: String,
        #[command(flatten)]
        asking: Asking,
    },
    /// Let a node lend again after a reclaim, and outside of its hours.
    Lend {
        /// The node.
        node: String,
        /// Most GPUs.
        #[arg(long)]
        gpus: Option<u8>,
        /// For how long, such as 2h; then it is taken back [default: until it is].
        #[arg(long = "for")]
        lasts: Option<String>,
        /// Until this time of the day here, such as 18:00; then it is taken back.
        #[arg(long, conflicts_with = "lasts")]
        until: Option<String>,
        #[command(flatten)]
        asking: Asking,
    },
    /// Take a node back: what runs there gets its notice and leaves.
    Reclaim {
        /// The node.
        node: String,
        /// Without a notice.
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        asking: Asking,
    },
}

const PRICE: List<'_> = List {
    path: "/v1/price",
    rows: "prices",
    columns: &["pool", "resource", "price", "demand_percent", "unit", "medium"],
    wide: &["low", "high", "urgent"],
};
const QUEUE: List<'_> = List {
    path: "/v1/jobs",
    rows: "jobs",
    columns: &["job", "name", "account", "priority", "state", "nodes", "runs_s", "why"],
    wide: &[
        "pool",
        "needs",
        "extra_cpus",
        "members",
        "attempts",
        "waits_s",
        "charged_atp",
        "submitted",
        "command",
    ],
};
const PAST: List<'_> = List {
    path: "",
    rows: "jobs",
    columns: &["job", "name", "account", "state", "exit_code", "nodes", "runs_s", "finished"],
    wide: &[
        "reason",
        "signal",
        "attempts",
        "cpu_s",
        "charged_atp",
        "refunded_atp",
        "submitted",
        "command",
    ],
};
const NODES: List<'_> = List {
    path: "/v1/nodes",
    rows: "nodes",
    columns: &["node", "state", "owner_uses", "capacity", "offered", "leased", "error"],
    wide: &["owner", "pool", "leases", "connections", "kernel", "build"],
};
const OFFERS: List<'_> = List {
    path: "/v1/offers",
    rows: "offers",
    columns: &["offer", "node", "pool", "total", "free", "ends_in_s"],
    wide: &[],
};
const LEASES: List<'_> = List {
    path: "/v1/leases",
    rows: "leases",
    columns: &["lease", "job", "attempt", "nodes", "state", "term_ends_in_s", "reason"],
    wide: &["paused", "suspended", "stuck", "unpaid"],
};
const POOLS: List<'_> = List {
    path: "/v1/pools",
    rows: "pools",
    columns: &["pool", "nodes", "capacity", "leased", "waiting"],
    wide: &[],
};
const SHARE: List<'_> = List {
    path: "/v1/shares",
    rows: "accounts",
    columns: &[
        "account", "weight", "share", "used", "factor", "due", "holds", "running", "waiting",
    ],
    wide: &["credits"],
};
const QUOTA: List<'_> = List {
    path: "/v1/quotas",
    rows: "accounts",
    columns: &["account", "quota", "holds", "on_loan"],
    wide: &[],
};
const PRIO: List<'_> = List {
    path: "/v1/priorities",
    rows: "jobs",
    columns: &["place", "job", "name", "account", "priority", "class", "waited_s", "factor"],
    wide: &["pool"],
};
const BUDGET: List<'_> = List {
    path: "/v1/accounts",
    rows: "accounts",
    columns: &[
        "account",
        "available_atp",
        "held_atp",
        "granted_atp",
        "earned_atp",
        "spent_atp",
        "refunded_atp",
        "decayed_atp",
        "cap_atp",
    ],
    wide: &["deposited_atp", "reputation"],
};

/// Runs a verb.
pub(super) async fn run(verb: ShowVerb) -> anyhow::Result<ExitCode> {
    match verb {
        ShowVerb::Metrics { asking } => {
            print!("{}", screen::lines(&asking.client()?.text("/metrics").await?));
        }
        ShowVerb::Price { listing } => listing.print(&PRICE).await?,
        ShowVerb::Status { asking } | ShowVerb::SharedStatus { asking } => {
            one(&asking, "/v1/status").await?
        }
        ShowVerb::Queue { listing } => listing.print(&QUEUE).await?,
        ShowVerb::History { most, listing } => {
            let path = format!("/v1/history?most={most}");
            listing.print(&List { path: &path, ..PAST }).await?;
        }
        ShowVerb::Show { what, asking } if what.parse::<u64>().is_ok() => {
            one(&asking, &format!("/v1/jobs/{what}")).await?;
        }
        ShowVerb::Show { what, asking } => {
            one(&asking, &format!("/v1/nodes/{}", coded(&what))).await?;
        }
        ShowVerb::Doctor { node, asking } => return doctor(&asking, node).await,
        ShowVerb::Explain { job, asking } => explain(&asking, job).await?,
        ShowVerb::Down { asking } => down(&asking).await?,
        ShowVerb::Nodes { listing } => listing.print(&NODES).await?,
        ShowVerb::Offers { listing } => listing.print(&OFFERS).await?,
        ShowVerb::Leases { listing } => listing.print(&LEASES).await?,
        ShowVerb::Pools { listing } => listing.print(&POOLS).await?,
        ShowVerb::Share { listing } => listing.print(&SHARE).await?,
        ShowVerb::Quota { listing } => listing.print(&QUOTA).await?,
        ShowVerb::Prio { most, listing } => {
            let path = format!("/v1/priorities?most={most}");
            listing.print(&List { path: &path, ..PRIO }).await?;
        }
        ShowVerb::Budget { listing } => listing.print(&BUDGET).await?,
        ShowVerb::Statement(args) => statement::run(&args).await?,
        ShowVerb::Deposit(gift) => gift.give("deposit").await?,
        ShowVerb::Grant(gift) => gift.give("grant").await?,
        ShowVerb::Events { follow: true, asking } => {
            let print = |event: &str| println!("{}", screen::json(&event));
            asking.client()?.events(print).await?;
        }
        ShowVerb::Events { follow: false, asking } => {
            let found = asking.client()?.get("/v1/events/recent").await?;
            for event in found["events"].as_array().into_iter().flatten() {
                println!("{}", screen::json(event));
            }
        }
        ShowVerb::Drain { node, reason, asking } => {
            let words = format!("drain?reason={}", coded(&reason));
            node_verb(&asking, &node, &words).await?;
        }
        ShowVerb::Undrain { node, asking } => node_verb(&asking, &node, "undrain").await?,
        ShowVerb::Lend { node, gpus, lasts, until, asking } => {
            let gpus = gpus.map(|gpus| format!("&gpus={gpus}")).unwrap_or_default();
            let until = until.map(|until| gridlive::clock::seconds_until(&until)).transpose();
            let until = until.map_err(anyhow::Error::msg)?.map(|seconds| format!("{seconds}s"));
            let lasts = lasts.or(until);
            let lasts = lasts.map(|lasts| format!("&lasts={}", coded(&lasts))).unwrap_or_default();
            node_verb(&asking, &node, &format!("lend?now=false{gpus}{lasts}")).await?;
        }
        ShowVerb::Reclaim { node, now, asking } => {
            node_verb(&asking, &node, &format!("reclaim?now={now}")).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes the cluster down, and waits until the daemon has gone: then another may begin.
async fn down(asking: &Asking) -> anyhow::Result<()> {
    let client = asking.client()?;
    let answer = client.post("/v1/down", &Value::Null).await?;
    for _ in 0..100 {
        if client.get("/v1/status").await.is_err() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let left = answer["unreachable"].as_array().filter(|left| !left.is_empty());
    if let Some(left) = left {
        let names: Vec<String> = left.iter().map(cell).collect();
        anyhow::bail!("not reached, so something may be left on: {}", names.join(", "));
    }
    Ok(())
}

async fn node_verb(asking: &Asking, node: &str, words: &str) -> anyhow::Result<()> {
    asking.client()?.post(&format!("/v1/nodes/{}/{words}", coded(node)), &Value::Null).await?;
    Ok(())
}

/// Returns a word as a part of a path.
pub(super) fn coded(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    word.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Prints one object, a key a line.
async fn one(asking: &Asking, path: &str) -> anyhow::Result<()> {
    print(asking, &asking.client()?.get(path).await?);
    Ok(())
}

/// Prints one object.
pub(super) fn print(asking: &Asking, found: &Value) {
    if asking.json {
        println!("{}", screen::json(found));
        return;
    }
    let mut table = Table::new();
    table.load_style(NOTHING);
    for (key, value) in found.as_object().into_iter().flatten() {
        let list = value.as_array().filter(|list| list.iter().any(Value::is_object));
        if let Some(list) = list {
            // One line each.
            for value in list {
                table.add_row([words(key), cell(value)]);
            }
        } else if key != "schema" && !value.is_null() {
            table.add_row([words(key), shown(key, value)]);
        }
    }
    println!("{table}");
}

async fn doctor(asking: &Asking, node: Option<String>) -> anyhow::Result<ExitCode> {
    let client = asking.client()?;
    let nodes = match node {
        Some(node) => vec![node],
        None => {
            let found = client.get("/v1/nodes").await?;
            let rows = found["nodes"].as_array().into_iter().flatten();
            rows.filter_map(|row| row["node"].as_str().map(ToOwned::to_owned)).collect()
        }
    };
    let mut fails = false;
    for node in nodes {
        let found = client.get(&format!("/v1/nodes/{}/doctor", coded(&node))).await?;
        if asking.json {
            println!("{}", screen::json(&found));
        } else {
            println!("{}", escaped(&node));
        }
        for check in found["checks"].as_array().into_iter().flatten() {
            fails |= check["level"] == "fail";
            if !asking.json {
                println!("  {:4}  {}", cell(&check["level"]), cell(&check["what"]));
            }
        }
    }
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn explain(asking: &Asking, job: u64) -> anyhow::Result<()> {
    let found = asking.client()?.get(&format!("/v1/jobs/{job}")).await?;
    let why = &found["why"];
    if asking.json {
        println!("{}", screen::json(why));
        return Ok(());
    }
    let reasons: Vec<&str> =
        why.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if reasons.is_empty() {
        println!("job {job} does not wait: it is {}", cell(&found["state"]));
    }
    for reason in reasons {
        println!("{}", escaped(reason));
    }
    Ok(())
}

/// Returns a value as a cell: amounts as `4 cores 8 GiB`, lists with commas.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => escaped(text),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Array(list) => list.iter().map(cell).collect::<Vec<String>>().join(", "),
        Value::Object(parts) => {
            let short = [
                ("cpu_cores", " cores"),
                ("memory_gb", " GiB"),
                ("gpus", " GPUs"),
                ("cpu_percent", " % CPU"),
                ("memory_percent", " % memory"),
            ];
            let amount = |(key, unit): (&str, &str)| {
                let text = parts.get(key)?.to_string();
                let text = match text.split_once('.') {
                    Some(_) => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                    None => text,
                };
                (key != "gpus" || text != "0").then(|| format!("{text}{unit}"))
            };
            let mut said: Vec<String> = short.into_iter().filter_map(amount).collect();
            let known = |key: &String| short.iter().any(|(name, _)| name == key);
            let others = parts.iter().filter(|(key, value)| !known(key) && !value.is_null());
            said.extend(others.map(|(key, value)| format!("{} {}", words(key), cell(value))));
            said.join(", ")
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Returns a key as words.
pub(super) fn words(key: &str) -> String {
    escaped(&key.replace('_', " "))
}

/// Returns a job that has ended, as a line.
pub(super) fn line_of(found: &Job) -> String {
    let code = match (found.exit_code, found.signal) {
        (Some(code), _) => format!(", exit code {code}"),
        (None, Some(signal)) => format!(", signal {signal}"),
        (None, None) => String::new(),
    };
    format!("job {} {}{code}", found.job, escaped(&found.state))
}
