//! What accounts have, earned and paid, and for which jobs.

use super::Asking;
use super::list::{List, Listing, table};
use super::show::coded;
use clap::Args;
use gridlive::client::Client;
use serde_json::{Value, json};

/// What an administrator gives to an account.
#[derive(Debug, Args)]
pub(super) struct Gift {
    /// The account.
    account: String,
    /// How much, in ATP.
    atp: String,
    #[command(flatten)]
    asking: Asking,
}

impl Gift {
    /// Asks the daemon to deposit or to grant it.
    pub(super) async fn give(&self, verb: &str) -> anyhow::Result<()> {
        let (account, atp) = (coded(&self.account), coded(&self.atp));
        let path = format!("/v1/accounts/{account}/{verb}?atp={atp}");
        self.asking.client()?.post(&path, &Value::Null).await?;
        Ok(())
    }
}

/// Whose statement.
#[derive(Debug, Args)]
pub(super) struct StatementArgs {
    /// The account [default: all that you act for].
    account: Option<String>,
    /// How many jobs.
    #[arg(long, short = 'n', default_value_t = 50)]
    most: usize,
    #[command(flatten)]
    listing: Listing,
}

const JOBS: List<'_> = List {
    path: "",
    rows: "jobs",
    columns: &[
        "job",
        "account",
        "name",
        "state",
        "runs_s",
        "charged_atp",
        "refunded_atp",
        "held_atp",
    ],
    wide: &["priority", "nodes", "attempts", "submitted", "finished", "command"],
};
const ACCOUNT: [&str; 11] = [
    "account",
    "available_atp",
    "held_atp",
    "deposited_atp",
    "granted_atp",
    "earned_atp",
    "paid_atp",
    "refunded_atp",
    "decayed_atp",
    "cap_atp",
    "reputation",
];

/// Prints the statements.
pub(super) async fn run(args: &StatementArgs) -> anyhow::Result<()> {
    args.listing.repeat(async |client| args.text(&args.ask(client).await?)).await
}

impl StatementArgs {
    /// Asks for the statement of every account that is meant.
    async fn ask(&self, client: &Client) -> anyhow::Result<Vec<Value>> {
        let names = match &self.account {
            Some(account) => vec![account.clone()],
            None => {
                let found = client.get("/v1/accounts").await?;
                let rows = found["accounts"].as_array().into_iter().flatten();
                rows.filter_map(|row| row["account"].as_str().map(ToOwned::to_owned)).collect()
            }
        };
        let mut found = Vec::new();
        for name in names {
            let path = format!("/v1/accounts/{}/statement?most={}", coded(&name), self.most);
            found.push(client.get(&path).await?);
        }
        Ok(found)
    }

    /// Returns what is printed: each answer as it is, or their jobs in one list.
    fn text(&self, found: &[Value]) -> anyhow::Result<String> {
        if self.listing.is_json() {
            return Ok(found.iter().map(|one| self.listing.text(&JOBS, one)).collect());
        }
        let jobs = found.iter().flat_map(|one| one["jobs"].as_array().into_iter().flatten());
        let mut jobs: Vec<&Value> = jobs.collect();
        jobs.sort_by_key(|row| std::cmp::Reverse(row["job"].as_u64()));
        jobs.truncate(self.most);
        let all = found.iter().filter_map(|one| one["all"].as_u64()).sum::<u64>();
        let list = self.listing.text(&JOBS, &json!({ "jobs": jobs, "all": all }));
        if !self.listing.is_for_people() {
            return Ok(list);
        }
        let accounts: Vec<&Value> = found.iter().collect();
        Ok(format!("{}\n{list}", table(&ACCOUNT, &accounts, &Value::Null)))
    }
}
