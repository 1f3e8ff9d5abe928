//! `audit`: every balance of a run once more, from its transfers alone and from its journal.

use super::show;
use crate::journal::Reader;
use anyhow::{Context, bail, ensure};
use clap::Args;
use gridcore::effect::{Effect, LeaseEnd, Party};
use gridcore::grid::Grid;
use gridcore::units::Time;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Options of `audit`.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// The folder that a run has left.
    folder: PathBuf,
}

/// What `summary.json` says of the run and its credit.
#[derive(Debug, Deserialize)]
struct Summary {
    digest: String,
    metrics: Metrics,
}

#[derive(Debug, Deserialize)]
struct Metrics {
    atp: Atp,
}

#[derive(Debug, Deserialize)]
struct Atp {
    minted: Box<RawValue>,
    treasury: Box<RawValue>,
    burned: Box<RawValue>,
    by_account: BTreeMap<String, Totals>,
}

#[derive(Debug, Deserialize)]
struct Totals {
    balance: Box<RawValue>,
}

/// The heads of the chains over what ended leases were charged, by the lease's number.
type Chains = BTreeMap<u64, String>;

/// Balances in micro-ATP by the names that `ledger.csv` has.
type Balances = BTreeMap<String, i128>;

/// What accounts' names have behind them in `ledger.csv` where credit is held.
const HELD: &str = ":held";

/// Recomputes all balances of a run and holds them against its summary.
pub(super) fn audit(args: &AuditArgs) -> anyhow::Result<()> {
    let path = args.folder.join("summary.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let summary: Summary = serde_json::from_str(&text)
        .with_context(|| format!("{} says nothing of accounts' credit", path.display()))?;
    let said = said(&summary.metrics.atp)?;
    let (transfers, booked) = of_ledger(&args.folder.join("ledger.csv"))?;
    let journal = args.folder.join("journal");
    let replayed = journal.is_dir().then(|| of_journal(&journal, &summary.digest)).transpose()?;
    let (replayed, chains) = replayed.unzip();
    let metered = match &chains {
        Some(chains) => compare(&of_leases(&args.folder.join("leases.csv"))?, chains)?,
        None => 0,
    };
    let wrong = print(&said, &booked, replayed.as_ref());
    let sum: i128 = said.values().sum();
    ensure!(sum == 0, "the summary's balances add up to {}, not to nothing", exact(sum));
    if wrong > 0 {
        bail!("{wrong} of {} balances differ", said.len());
    }
    let all = if replayed.is_some() { "and its journal " } else { "" };
    show::line(&format!(
        "{transfers} transfers {all}come to what the summary says, to the last micro-ATP"
    ));
    if chains.is_some() {
        show::line(&format!(
            "{metered} leases were charged term by term as leases.csv says: the same chains"
        ));
    }
    Ok(())
}

/// Reads the chains that `leases.csv` has; a lease has a line for every member.
fn of_leases(path: &Path) -> anyhow::Result<Chains> {
    let named = || path.display().to_string();
    let mut reader = csv::Reader::from_path(path).with_context(named)?;
    let column = |name: &str, headers: &csv::StringRecord| {
        let found = headers.iter().position(|header| header == name);
        found.with_context(|| format!("{} has no column {name}", named()))
    };
    let headers = reader.headers().with_context(named)?;
    let (lease, chain) = (column("lease_id", headers)?, column("metering", headers)?);
    let mut out = Chains::new();
    for row in reader.records() {
        let row = row.with_context(named)?;
        let field = |n: usize| row.get(n).unwrap_or_default();
        if !field(chain).is_empty() {
            let id = field(lease).parse().with_context(named)?;
            out.insert(id, field(chain).to_owned());
        }
    }
    Ok(out)
}

/// Compares the chains that were written with those of a replay, and returns how many are the same.
fn compare(said: &Chains, replayed: &Chains) -> anyhow::Result<usize> {
    let mut leases: Vec<&u64> = said.keys().chain(replayed.keys()).collect();
    leases.sort_unstable();
    leases.dedup();
    for lease in &leases {
        let of = |chains: &Chains| chains.get(lease).map_or("nothing", String::as_str).to_owned();
        let (said, found) = (of(said), of(replayed));
        ensure!(
            said == found,
            "lease {lease}: leases.csv has the chain {said}, its journal comes to {found}: it was \
             charged for another term, or otherwise, than is written there"
        );
    }
    Ok(leases.len())
}

/// Returns the balances that the summary has.
fn said(atp: &Atp) -> anyhow::Result<Balances> {
    let mut out = Balances::new();
    out.insert("MINT".to_owned(), -micro(atp.minted.get())?);
    out.insert("TREASURY".to_owned(), micro(atp.treasury.get())?);
    out.insert("BURN".to_owned(), micro(atp.burned.get())?);
    for (name, totals) in &atp.by_account {
        out.insert(name.clone(), micro(totals.balance.get())?);
    }
    Ok(out)
}

/// Adds up the transfers of `ledger.csv`; what an account has held is its own.
fn of_ledger(path: &Path) -> anyhow::Result<(u64, Balances)> {
    let named = || path.display().to_string();
    let mut reader = csv::Reader::from_path(path).with_context(named)?;
    let (mut transfers, mut out) = (0, Balances::new());
    for row in reader.records() {
        let row = row.with_context(named)?;
        let field =
            |n: usize| row.get(n).with_context(|| format!("{}: a field is missing", named()));
        let amount = micro(field(4)?).with_context(named)?;
        for (party, amount) in [(field(2)?, -amount), (field(3)?, amount)] {
            let name = party.strip_suffix(HELD).unwrap_or(party);
            *out.entry(name.to_owned()).or_default() += amount;
        }
        transfers += 1;
    }
    Ok((transfers, out))
}

/// Replays a journal, adds up the transfers that follow from it, and notes the chains of leases
/// that end.
fn of_journal(folder: &Path, digest: &str) -> anyhow::Result<(Balances, Chains)> {
    let (mut reader, config) = Reader::open(folder)?;
    let names: Vec<String> = config.accounts.iter().map(|account| account.name.clone()).collect();
    let mut grid = Grid::new(config, Time::ZERO)?;
    let (mut effects, mut out, mut chains) = (Vec::new(), Balances::new(), Chains::new());
    while let Some(entry) = reader.next_entry()? {
        let _denied = grid.apply(&entry, &mut effects);
        for effect in effects.drain(..) {
            if let Effect::Closed(LeaseEnd { lease, metered: Some(metered), .. }) = &effect {
                chains.insert(lease.get(), metered.head.to_string());
            }
            let Effect::Moved(transfer) = effect else { continue };
            let amount = i128::from(transfer.amount.get());
            for (party, amount) in [(transfer.from, -amount), (transfer.to, amount)] {
                *out.entry(name_of(party, &names).to_owned()).or_default() += amount;
            }
        }
    }
    let found = grid.digest().to_string();
    ensure!(found == digest, "the journal ends in state {found}, the summary is of {digest}");
    Ok((out, chains))
}

/// Returns the name of a party as `ledger.csv` has it.
fn name_of(party: Party, names: &[String]) -> &str {
    match party {
        Party::Mint => "MINT",
        Party::Treasury => "TREASURY",
        Party::Burn => "BURN",
        Party::Account(id) | Party::Held(id) => {
            let name = usize::try_from(id.get()).ok().and_then(|id| names.get(id));
            name.map_or("", String::as_str)
        }
    }
}

/// Prints every balance from each source, and returns how many differ.
fn print(said: &Balances, booked: &Balances, replayed: Option<&Balances>) -> usize {
    let mut names: Vec<&String> = said.keys().chain(booked.keys()).collect();
    names.extend(replayed.into_iter().flat_map(BTreeMap::keys));
    names.sort_unstable();
    names.dedup();
    let (mut rows, mut wrong) = (Vec::new(), 0);
    for name in names {
        let of = |balances: &Balances| balances.get(name).copied().unwrap_or(0);
        let replay = replayed.map(of);
        let same = of(said) == of(booked) && replay.is_none_or(|found| found == of(said));
        wrong += usize::from(!same);
        rows.push(vec![
            name.clone(),
            exact(of(said)),
            exact(of(booked)),
            replay.map_or_else(|| "no journal".to_owned(), exact),
            if same { "same" } else { "DIFFERS" }.to_owned(),
        ]);
    }
    let header = ["party", "summary.json (ATP)", "ledger.csv (ATP)", "journal (ATP)", ""];
    show::table(&header, &rows);
    wrong
}

/// Reads an amount of ATP with six decimals, exactly.
fn micro(text: &str) -> anyhow::Result<i128> {
    let is_exact = text.split_once('.').is_some_and(|(_, places)| places.len() == 6);
    ensure!(is_exact, "{text:?} is no amount of ATP with six decimals");
    Ok(text.replace('.', "").parse()?)
}

/// Returns an amount to the last micro-ATP.
fn exact(amount: i128) -> String {
    crate::json::fixed(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_to_the_last_micro_atp() {
        assert_eq!(micro("9007199254740993.000001").ok(), Some(9_007_199_254_740_993_000_001));
        assert_eq!(micro("-0.000001").ok(), Some(-1));
        for wrong in ["1", "1.5", "1.0000001", "a.bcdefg", ""] {
            assert!(micro(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_difference_in_any_source_counts() {
        let balances = |amount| Balances::from([("lab".to_owned(), amount)]);
        let (one, two) = (balances(1), balances(2));
        assert_eq!(print(&one, &one, None), 0);
        assert_eq!(print(&one, &one, Some(&one)), 0);
        assert_eq!(print(&one, &two, Some(&one)), 1);
        assert_eq!(print(&one, &one, Some(&two)), 1);
        assert_eq!(print(&one, &Balances::new(), None), 1);
    }

    #[test]
    fn a_chain_that_differs_or_is_missing_is_named() {
        let chains = |head: &str| Chains::from([(7, head.to_owned())]);
        assert_eq!(compare(&chains("a"), &chains("a")).ok(), Some(1));
        for (said, replayed) in [("a", chains("b")), ("a", Chains::new())] {
            let error = compare(&chains(said), &replayed).err().map(|error| error.to_string());
            assert!(error.is_some_and(|error| error.starts_with("lease 7: ")), "{said}");
        }
        assert!(compare(&Chains::new(), &chains("b")).is_err());
    }
}
