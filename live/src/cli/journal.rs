//! Verbs that read a daemon's journal, also beside one that runs: they change nothing.

use super::books::Books;
use super::hide::{Key, hidden};
use super::{Asking, list, screen, state_folder};
use clap::{Args, Subcommand};
use gridcore::command::{Command, Entry};
use gridcore::effect::{Effect, LeaseEnd, Transfer};
use gridcore::encode::RULES_VERSION;
use gridcore::grid::Grid;
use gridcore::units::Time;
use gridlive::client::ClientError;
use gridlive::daemon::views::SCHEMA;
use gridsim::journal::{JournalError, Reader};
use serde_json::{Value, json};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Verbs about a journal.
#[derive(Debug, Subcommand)]
pub(super) enum JournalVerb {
    /// Read all of it and apply every entry: is it whole, and what does it come to?
    Verify {
        /// The daemon's folder [default: as for the daemon].
        #[arg(long)]
        state: Option<PathBuf>,
    },
    /// Print all of it as JSON lines: the configuration, then every entry.
    ///
    /// Names of nodes, accounts, pools, resources, labels and GPU models and the reasons of drains
    /// are replaced by hashes, whose key is drawn anew each time and not kept: the same name has
    /// the same hash in one export. Commands are in no journal.
    Export {
        /// The daemon's folder [default: as for the daemon].
        #[arg(long)]
        state: Option<PathBuf>,
        /// With all names, as they are.
        #[arg(long)]
        raw: bool,
    },
}

/// Where the books are.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// The daemon's folder [default: as for the daemon].
    #[arg(long)]
    state: Option<PathBuf>,
    #[command(flatten)]
    asking: Asking,
}

/// Runs a verb.
pub(super) fn run(verb: JournalVerb) -> anyhow::Result<ExitCode> {
    match verb {
        JournalVerb::Verify { state } => verify(&journal_of(state)?)?,
        JournalVerb::Export { state, raw } => export(&journal_of(state)?, raw)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn journal_of(state: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    Ok(state_folder(state)?.join("journal"))
}

/// Hands over every entry; returns what is torn at the end, which was never synced: a daemon that
/// runs may be writing it just now.
fn each_entry(
    reader: &mut Reader,
    mut each: impl FnMut(&Entry<Command>) -> anyhow::Result<()>,
) -> anyhow::Result<Option<JournalError>> {
    loop {
        match reader.next_entry() {
            Ok(Some(entry)) => each(&entry)?,
            Ok(None) => return Ok(None),
            Err(torn) if reader.is_torn_end() => return Ok(Some(torn)),
            Err(error) => {
                let ((whole, _), _) = reader.position();
                let next = "what was synced is damaged: put a copy of that file back";
                anyhow::bail!("{error}\nwhole up to entry {whole}; {next}");
            }
        }
    }
}

/// Reads a journal from its beginning.
fn verify(folder: &Path) -> anyhow::Result<()> {
    let (mut reader, config) = Reader::open(folder)?;
    let mut grid = Grid::new(config, Time::ZERO)?;
    let mut effects = Vec::new();
    let torn = each_entry(&mut reader, |entry| {
        let _ = grid.apply(entry, &mut effects);
        effects.clear();
        Ok(())
    })?;
    let entries = grid.state().seq.get();
    if let Some(torn) = torn {
        let next = "only a torn end that was never synced follows: the daemon cuts it off";
        anyhow::bail!("{torn}\nwhole up to entry {entries}; {next}");
    }
    println!("{}: whole, {entries} entries, digest {}", folder.display(), grid.digest());
    Ok(())
}

/// Prints a journal as JSON lines, with names or with hashes in their place.
fn export(folder: &Path, raw: bool) -> anyhow::Result<()> {
    let (mut reader, config) = Reader::open(folder)?;
    let key = if raw { None } else { Some(Key::draw()?) };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let config = shown(&config, key.as_ref())?;
    let first = json!({ "schema": SCHEMA, "rules": RULES_VERSION, "config": config });
    writeln!(out, "{}", screen::json(&first))?;
    let torn = each_entry(&mut reader, |entry| {
        let command = shown(&entry.command, key.as_ref())?;
        let line = json!({ "seq": entry.seq.get(), "at_ms": entry.at.ms(), "command": command });
        Ok(writeln!(out, "{}", screen::json(&line))?)
    })?;
    out.flush()?;
    if let Some(torn) = torn {
        eprintln!("gridlive: only a torn end that was never synced follows: {torn}");
    }
    Ok(())
}

fn shown(value: &impl serde::Serialize, key: Option<&Key>) -> serde_json::Result<Value> {
    match key {
        Some(key) => hidden(value, key),
        None => serde_json::to_value(value),
    }
}

/// What a daemon tells of itself.
enum Told {
    /// The cluster it coordinates, how many entries it has applied, and the digest then.
    State { cluster: String, entries: u64, digest: String },
    /// There is none that tells, and why.
    Nothing(String),
}

/// Asks the daemon before the journal is opened: what it tells of is synced by then.
async fn told(asking: &Asking) -> anyhow::Result<Told> {
    match asking.client()?.get("/v1/status").await {
        Ok(found) => {
            let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
            let entries = found["entries"].as_u64().unwrap_or(0);
            Ok(Told::State { cluster: text("cluster"), entries, digest: text("digest") })
        }
        Err(ClientError::Unreachable(..)) => Ok(Told::Nothing("no daemon answers".to_owned())),
        Err(error) => Ok(Told::Nothing(error.to_string())),
    }
}

/// A journal that is replayed, and the books of its transfers.
struct Audit {
    grid: Grid,
    effects: Vec<Effect>,
    books: Books,
    told: Told,
    /// What is compared with the daemon, in words.
    daemon: String,
    /// The first thing that is not as it should be.
    differs: Option<String>,
}

impl Audit {
    /// Applies an entry, and compares what it has moved.
    fn take(&mut self, entry: &Entry<Command>) {
        let _ = self.grid.apply(entry, &mut self.effects);
        let mut ends: Vec<LeaseEnd> = Vec::new();
        let moved = |effect: Effect| match effect {
            Effect::Moved(transfer) => Some(transfer),
            Effect::Closed(end) => {
                ends.push(end);
                None
            }
            Effect::Order { .. }
            | Effect::Send { .. }
            | Effect::Granted { .. }
            | Effect::Resized { .. }
            | Effect::Evicted { .. }
            | Effect::Finished(_)
            | Effect::Requeued { .. }
            | Effect::Idle(_)
            | Effect::Drained { .. }
            | Effect::Offer { .. } => None,
        };
        let moves: Vec<Transfer> = self.effects.drain(..).filter_map(moved).collect();
        moves.iter().for_each(|transfer| self.books.book(transfer));
        let metered: Vec<String> = ends.iter().filter_map(|end| self.books.close(end)).collect();
        let ledger = &self.grid.state().ledger;
        if self.differs.is_none() {
            let found = moves.iter().find_map(|moved| self.books.differs_after(moved, ledger));
            let found = found.or_else(|| metered.first().cloned());
            self.differs = found.map(|found| format!("entry {}: {found}", entry.seq));
        }
        self.compare(entry.seq.get());
    }

    /// Compares the state with what the daemon told, where it told of this entry.
    fn compare(&mut self, seq: u64) {
        let Told::State { cluster, entries, digest } = &self.told else { return };
        let ours = format!("{:016x}", self.grid.state().cluster);
        if *entries != seq || *cluster != ours {
            return;
        }
        let replayed = self.grid.digest().to_string();
        self.daemon = format!("the daemon tells the same digest at entry {seq}");
        if replayed != *digest {
            self.daemon = format!("the daemon tells another digest at entry {seq}");
            let found =
                format!("entry {seq}: the daemon tells digest {digest}, its journal {replayed}");
            self.differs.get_or_insert(found);
        }
    }

    /// Compares all that is left once the journal is over.
    fn finish(&mut self) {
        let state = self.grid.state();
        let (seq, ours) = (state.seq.get(), format!("{:016x}", state.cluster));
        let found = self.books.differs(&state.ledger);
        let found = found.map(|found| format!("entry {seq}, the last: {found}"));
        match &self.told {
            Told::Nothing(why) => self.daemon = format!("compared with no daemon: {why}"),
            Told::State { cluster, .. } if *cluster != ours => {
                self.daemon = "compared with no daemon: another cluster's answers".to_owned();
            }
            Told::State { entries, .. } if *entries > seq => {
                self.daemon = format!("the daemon is at entry {entries}, the journal at {seq}");
                let missing = self.daemon.clone();
                self.differs.get_or_insert(missing);
            }
            Told::State { .. } => {}
        }
        if let Some(found) = found {
            self.differs.get_or_insert(found);
        }
    }
}

/// The columns of an audit.
const COLUMNS: [&str; 11] = [
    "account",
    "deposited_atp",
    "granted_atp",
    "earned_atp",
    "paid_atp",
    "fees_atp",
    "refunded_atp",
    "compensated_atp",
    "decayed_atp",
    "available_atp",
    "held_atp",
];

/// Recomputes all balances from the transfers of a journal, and says whether they agree.
pub(super) async fn audit(args: AuditArgs) -> anyhow::Result<ExitCode> {
    let told = told(&args.asking).await?;
    let (mut reader, config) = Reader::open(&journal_of(args.state)?)?;
    let books = Books::new(config.accounts.len());
    let grid = Grid::new(config, Time::ZERO)?;
    let (effects, daemon, differs) = (Vec::new(), String::new(), None);
    let mut audit = Audit { grid, effects, books, told, daemon, differs };
    audit.compare(0);
    let torn = each_entry(&mut reader, |entry| {
        audit.take(entry);
        Ok(())
    })?;
    audit.finish();
    let state = audit.grid.state();
    let mut found = audit.books.shown(&state.ledger);
    if let Some(keys) = found.as_object_mut() {
        let mut add = |key: &str, value: Value| drop(keys.insert(key.to_owned(), value));
        add("schema", json!(SCHEMA));
        add("agrees", json!(audit.differs.is_none()));
        add("difference", json!(audit.differs));
        add("entries", json!(state.seq.get()));
        add("digest", json!(audit.grid.digest().to_string()));
        add("daemon", json!(audit.daemon));
        add("torn_end", json!(torn.is_some()));
    }
    if args.asking.json {
        println!("{}", screen::json(&found));
    } else {
        print(&found);
    }
    Ok(if audit.differs.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(found: &Value) {
    let rows: Vec<&Value> = found["accounts"].as_array().into_iter().flatten().collect();
    print!("{}", list::table(&COLUMNS, &rows, found));
    println!(
        "{} transfers in {} entries; minted {} ATP, the treasury has {}",
        found["transfers"], found["entries"], found["minted_atp"], found["treasury_atp"]
    );
    let text = |key: &str| screen::escaped(found[key].as_str().unwrap_or_default());
    println!("{}", text("daemon"));
    if found["difference"].is_null() {
        println!("agrees");
    } else {
        println!("differs: {}", text("difference"));
    }
}
