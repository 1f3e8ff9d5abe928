//! Fuzz targets: one for every message and every record of a store.
//!
//! Each takes bytes from anywhere and returns whether they are a value at all. What is a value must
//! encode to the same bytes, and is then given to the half that would read it, in the middle of its
//! work: the half refuses it or follows it, every invariant holds, and it goes on. A target that
//! panics has found a mistake. `tests/tests/fuzz.rs` replays the corpus and plays mutations of it;
//! `tests/fuzz` runs the same targets under libFuzzer.

pub mod ground;
pub mod mutate;
pub mod samples;
pub mod segment;
mod words;

use crate::cluster::load;
use gridcore::command::{Command, Entry, Outcome, Report, Request};
use gridcore::config::Config;
use gridcore::decode::from_bytes;
use gridcore::encode::{RULES_VERSION, digest_of, to_bytes};
use gridcore::grid::Grid;
use gridcore::ids::{LeaseId, NodeId};
use gridcore::invariants::{check, check_step};
use gridcore::snapshot::Snapshot;
use gridcore::state::State;
use gridcore::station::held::Marker;
use gridcore::station::ladder::OwnerSays;
use gridcore::station::link::Identity;
use gridcore::station::{Event, Station, machine};
use gridcore::units::{Span, Time};
use gridcore::wire::{FromBody, FromNode, ToBody, ToNode};
use gridsim::journal::{JournalError, Reader};
use ground::{DIRECT, NET};
use std::path::Path;

/// A target: takes bytes, returns whether they are a value.
pub type Target = fn(&[u8]) -> bool;

/// All targets by name: that of the folder of its corpus.
pub const TARGETS: [(&str, Target); 9] = [
    ("from_node", from_node),
    ("to_node", to_node),
    ("marker", marker),
    ("entry", entry),
    ("history", history),
    ("config", config),
    ("snapshot", snapshot),
    ("journal", journal),
    ("scenario", scenario),
];

/// The longest time between two entries of an input: times come from the driver's own clock.
const STEP_MAX: Span = Span::seconds(6 * 3_600);

/// The most entries of one input that are applied.
const ENTRIES_MAX: usize = 24;

/// How often a half is woken after an input.
const WAKES: usize = 6;

/// Decodes a value that must encode to the very bytes it came from.
macro_rules! exact {
    ($type:ty, $bytes:expr) => {{
        let value: Option<$type> = from_bytes($bytes).ok();
        let again = value.as_ref().map(to_bytes);
        let again = again.transpose().expect("what was decoded can be encoded");
        assert!(again.is_none_or(|again| again == $bytes), "a value has one encoding");
        value
    }};
}

/// Applies what happens next to a coordinator and checks every invariant; returns the state before.
fn apply(grid: &mut Grid, at: Time, command: Command) -> State {
    let before = grid.state().clone();
    let entry = Entry { seq: before.seq.next(), at: at.max(before.now), command };
    let answer = grid.apply(&entry, &mut Vec::new());
    let report = matches!(entry.command, Command::Report(_) | Command::Wake);
    assert!(!report || answer.is_ok(), "a fact is never denied: {answer:?}");
    let mut breaches = check(grid.state());
    breaches.extend(check_step(&before, &entry, grid.state()));
    assert!(breaches.is_empty(), "after {entry:?}: {breaches:#?}");
    before
}

/// Lets a coordinator do what it wants to do next, a few times.
fn go_on(grid: &mut Grid) {
    for _ in 0..WAKES {
        let Some((at, _)) = grid.next_wake() else { return };
        apply(grid, at, Command::Wake);
    }
    let bytes = grid.snapshot();
    let again = Grid::restore(&bytes).map(|grid| grid.snapshot());
    assert_eq!(again, Ok(bytes), "the state can be kept");
}

/// Makes a message the next one of its node's session, so that it is followed.
fn make_next(message: &mut FromNode, state: &State) {
    let count = u32::try_from(state.links.len()).unwrap_or(u32::MAX).max(1);
    let envelope = &mut message.envelope;
    envelope.cluster = state.cluster;
    envelope.node = NodeId::new(envelope.node.get() % count);
    let Some(link) = state.links.find(envelope.node) else { return };
    envelope.session = link.session;
    envelope.number = envelope.number.max(link.beat.saturating_add(1));
    if let FromBody::Hello { hello, .. } = &mut message.body {
        *hello = link.hello.saturating_add(*hello % 4);
    }
}

/// A message of a node: as it came, and as the next one of a session, about leases that exist.
pub fn from_node(bytes: &[u8]) -> bool {
    let Some(mut message) = exact!(FromNode, bytes) else { return false };
    hear(message.clone());
    let state = NET.grid.state();
    make_next(&mut message, state);
    hear(message.clone());
    for item in &mut message.inventory {
        item.lease = LeaseId::new(item.lease.get() % state.next.lease.get());
        let open = state.leases.get(&item.lease);
        item.epoch = open.map_or(item.epoch, |lease| lease.epoch);
    }
    hear(message);
    true
}

/// Gives a message to the coordinator: it may change what its own node has, and nothing else.
fn hear(message: FromNode) {
    let node = message.envelope.node;
    let mut grid = NET.grid.clone();
    let at = NET.now.after(Span::seconds(1));
    let before = apply(&mut grid, at, Command::Report(Report::Message(Box::new(message))));
    let after = grid.state();
    let shared = |other: NodeId| {
        let on =
            |lease: &gridcore::leases::Lease, node| lease.members.iter().any(|m| m.node == node);
        let claimed = before.claims.values().any(|c| c.members.iter().any(|m| m.node == other));
        claimed || before.leases.values().any(|lease| on(lease, node) && on(lease, other))
    };
    for (other, row) in before.nodes.iter().filter(|(other, _)| *other != node) {
        let same = *row == after.nodes[other];
        assert!(same || shared(other), "a message of {node} changes {other}");
    }
    for (id, lease) in before.leases.iter() {
        if lease.members.iter().all(|member| member.node != node) {
            assert_eq!(Some(lease), after.leases.get(&id), "a message of {node} changes {id}");
        }
    }
    go_on(&mut grid);
}

/// A message of the coordinator: as it came, as the next one of a session, and as the answer to a
/// hello. Orders that nobody sane gives may leave a node no better than they are; it goes on.
pub fn to_node(bytes: &[u8]) -> bool {
    let Some(message) = exact!(ToNode, bytes) else { return false };
    for station in &NET.stations {
        obey(station.clone(), message.clone());
    }
    let at = usize::try_from(message.envelope.node.get()).unwrap_or(0) % NET.stations.len();
    let Some(station) = NET.stations.get(at) else { return true };
    let Some(link) = &station.link else { return true };
    let mut next = message;
    next.envelope.cluster = link.identity.cluster;
    next.envelope.node = link.identity.node;
    next.envelope.session = link.session;
    next.envelope.number = next.envelope.number.max(link.seen + 1);
    obey(station.clone(), next.clone());
    let mut lost = station.clone();
    let entry = lost.entry(NET.now, Event::Connected);
    lost.apply(&entry, &mut Vec::new());
    let last = lost.link.as_ref().map_or(0, |link| link.hello);
    match &mut next.body {
        ToBody::Welcome { hello, .. }
        | ToBody::Resync { hello }
        | ToBody::Incompatible { hello, .. } => *hello = last,
        ToBody::Orders(_) => {}
    }
    obey(lost, next);
    true
}

/// Gives a message to a station, and lets everything happen to it that may follow.
fn obey(mut station: Station, message: ToNode) {
    happen(&mut station, Event::Message(Box::new(message)), None);
    outlive(&mut station, None);
}

/// Lets the next thing happen to a station, and checks every invariant but one.
fn happen(station: &mut Station, event: Event, but: Option<u8>) {
    let mut actions = Vec::new();
    let at = station.now.after(Span::seconds(1));
    let entry = station.entry(at, event);
    station.apply(&entry, &mut actions);
    let held = station.leases.keys().copied();
    assert!(held.eq(station.leases.values().map(|held| held.start.lease)), "a lease has one name");
    let mut breaches = gridcore::station::check(station);
    breaches.retain(|breach| Some(breach.invariant) != but);
    assert!(breaches.is_empty(), "after {entry:?}: {breaches:#?}");
}

/// Lets an owner come and go, processes end, and time pass.
fn outlive(station: &mut Station, but: Option<u8>) {
    for event in [
        Event::Sample(load(95, 95, 0)),
        Event::Sample(load(5, 5, 2)),
        Event::Minute(1_439),
        Event::Owner(OwnerSays::Reclaim { now: false }),
        Event::Connected,
    ] {
        happen(station, event, but);
    }
    for _ in 0..WAKES {
        let at = station.next_wake().max(station.now);
        if at == Time::MAX {
            break;
        }
        let entry = station.entry(at, Event::Wake);
        station.apply(&entry, &mut Vec::new());
    }
    let all: Vec<_> = station.leases.values().map(|held| held.name()).collect();
    for (lease, epoch) in all {
        happen(station, Event::Ended(lease, epoch, Outcome::Stopped), but);
    }
}

/// A marker on a node's disk: alone and beside others, its processes alive or ended.
pub fn marker(bytes: &[u8]) -> bool {
    let Some(marker) = exact!(Marker, bytes) else { return false };
    let mut other = marker.clone();
    other.start.lease = LeaseId::new(marker.start.lease.get() ^ 1);
    for spec in &NET.config.nodes {
        for ended in [None, Some(Outcome::Completed), Some(Outcome::Stopped)] {
            let found = vec![(marker.clone(), ended), (other.clone(), None)];
            let (node, watch) = (NodeId::new(0), NET.config.rules.watch());
            let identity = Identity::new(NET.config.cluster, node, 2);
            let mut actions = Vec::new();
            let machine = machine(spec);
            let now = NET.now;
            let mut station = Station::recover(machine, watch, identity, found, now, &mut actions);
            // A false marker may name more than the machine has.
            outlive(&mut station, Some(20));
        }
    }
    true
}

/// Returns the time of an entry of an input after `now`.
fn time_of(entry: &Entry<Command>, now: Time) -> Time {
    now.after(Span::new(entry.at.ms() % STEP_MAX.get()))
}

/// One entry of a journal, as the next one of a history: refused or accepted.
pub fn entry(bytes: &[u8]) -> bool {
    let Some(entry) = exact!(Entry<Command>, bytes) else { return false };
    for mut grid in [DIRECT.grid.clone(), NET.grid.clone()] {
        let at = time_of(&entry, grid.state().now);
        apply(&mut grid, at, entry.command.clone());
        go_on(&mut grid);
    }
    true
}

/// Several entries, one after another; messages of nodes are the next ones of their sessions.
pub fn history(bytes: &[u8]) -> bool {
    let Some(entries) = exact!(Vec<Entry<Command>>, bytes) else { return false };
    let network = entries.first().is_some_and(|entry| entry.seq.get() % 2 == 1);
    let mut grid = if network { NET.grid.clone() } else { DIRECT.grid.clone() };
    for mut entry in entries.into_iter().take(ENTRIES_MAX) {
        if let Command::Report(Report::Message(message)) = &mut entry.command {
            make_next(message, grid.state());
        }
        let at = time_of(&entry, grid.state().now);
        apply(&mut grid, at, entry.command);
    }
    go_on(&mut grid);
    true
}

/// The configuration at a journal's head: refused, or good enough to work under.
pub fn config(bytes: &[u8]) -> bool {
    let Some(config) = exact!(Config, bytes) else { return false };
    let network = config.network;
    let Ok(mut grid) = Grid::new(config, Time::ZERO) else { return true };
    apply(&mut grid, Time::ZERO, Command::Wake);
    for node in grid.state().nodes.ids().take(4) {
        let sample = load(10, 20, 2);
        apply(&mut grid, Time::ZERO, Command::Report(Report::Sample { node, sample }));
    }
    if network {
        let said = |message: &&FromNode| matches!(message.body, FromBody::Hello { .. });
        for message in NET.up.iter().filter(said).take(4) {
            let mut message = Box::new(message.clone());
            message.envelope.cluster = grid.state().cluster;
            apply(&mut grid, Time::ZERO, Command::Report(Report::Message(message)));
        }
    }
    go_on(&mut grid);
    for (account, job) in ground::jobs() {
        let now = grid.state().now;
        let job = Box::new(job);
        apply(&mut grid, now, Command::Request(Request::SubmitJob { account, job }));
    }
    go_on(&mut grid);
    true
}

/// A snapshot: as it came, and with its digest made right.
///
/// # Panics
/// When it has found a mistake, as every target.
pub fn snapshot(bytes: &[u8]) -> bool {
    let came = Snapshot::from_bytes(bytes.to_vec());
    if let Ok(grid) = Grid::restore(&came) {
        assert_eq!(grid.snapshot(), came, "a snapshot that is not refused is the state");
    }
    // What only our own program can have written may be believed; it must be read without harm.
    let body = bytes.get(28..).unwrap_or_default();
    let mut mended = b"gridsnap".to_vec();
    mended.extend_from_slice(&RULES_VERSION.to_le_bytes());
    mended.extend_from_slice(&digest_of(body).0.to_le_bytes());
    mended.extend_from_slice(body);
    let mended = Snapshot::from_bytes(mended);
    let Ok(state) = mended.state() else { return false };
    assert_eq!(Snapshot::of(&state), mended, "a state has one encoding");
    true
}

/// A segment of a journal: as it came, and with its checksums and chain made right.
pub fn journal(bytes: &[u8]) -> bool {
    let came = read(bytes.to_vec()).is_some_and(replay);
    let mended = segment::mend(bytes);
    let mended = mended != bytes && read(mended).is_some_and(replay);
    came || mended
}

/// Reads all that can be read of a segment.
fn read(bytes: Vec<u8>) -> Option<(Config, Vec<Entry<Command>>)> {
    let (mut reader, config) = Reader::in_memory(Path::new("fuzz"), bytes).ok()?;
    let mut entries = Vec::new();
    loop {
        match reader.next_entry() {
            Ok(Some(entry)) => entries.push(entry),
            Ok(None) | Err(JournalError::Damaged { .. }) => return Some((config, entries)),
            Err(error) => panic!("a segment in memory can only be damaged: {error}"),
        }
    }
}

/// Plays what was read; returns whether anything was.
fn replay((config, entries): (Config, Vec<Entry<Command>>)) -> bool {
    let Ok(mut grid) = Grid::new(config, Time::ZERO) else { return !entries.is_empty() };
    for entry in entries.iter().take(ENTRIES_MAX) {
        if entry.at.since(grid.state().now) > STEP_MAX {
            break;
        }
        apply(&mut grid, entry.at, entry.command.clone());
    }
    go_on(&mut grid);
    !entries.is_empty()
}

/// The text of a scenario.
pub fn scenario(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let path = Path::new("fuzz.yaml");
    let read = gridsim::scenario::parse(path, text, &[]).is_ok();
    if read {
        let sets = [String::from("seed=7"), String::from("nodes.0.cores=4")];
        // An override may ask for a node that is not there.
        let _ = gridsim::scenario::parse(path, text, &sets);
    }
    read
}
