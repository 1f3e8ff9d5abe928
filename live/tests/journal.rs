//! The journal under damage: every flipped bit and every cut is noticed, or changes nothing.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use gridcore::bundle::Bundle;
use gridcore::command::{Command, Entry, JobSpec, Request};
use gridcore::config::{AccountSpec, Config, NodeSpec, PoolSpec};
use gridcore::grid::Grid;
use gridcore::ids::{AccountId, Seq};
use gridcore::units::{Bytes, MicroAtp, MilliCores, Time};
use gridlive::daemon::store::{Store, StoreError};
use gridsim::journal::Reader;
use house::record;
use std::path::Path;

fn config() -> Config {
    let capacity = Bundle { cpu: MilliCores::whole(4), memory: Bytes::gib(8), ..Bundle::ZERO };
    Config {
        network: true,
        cluster: 7,
        pools: vec![PoolSpec { name: "default".into(), quota: None }],
        accounts: vec![AccountSpec::new("lab", MicroAtp::whole(1_000))],
        nodes: vec![NodeSpec::dedicated("n1", capacity)],
        ..Config::default()
    }
}

fn submit(seq: u64) -> Entry<Command> {
    let mut spec = JobSpec::default();
    spec.needs.cpu = MilliCores::new(500 + seq);
    let request = Request::SubmitJob { account: AccountId::new(0), job: Box::new(spec) };
    Entry { seq: Seq::new(seq), at: Time::from_ms(seq * 10), command: Command::Request(request) }
}

/// Returns how many bytes of a segment are synced, by its note.
fn used(bytes: &[u8]) -> usize {
    usize::try_from(u64::from_le_bytes(bytes[16..24].try_into().unwrap())).unwrap()
}

/// Writes a journal of so many entries; returns the state after them.
fn write(folder: &Path, entries: u64) -> Grid {
    let mut store = Store::begin(folder, &config()).unwrap();
    let mut grid = Grid::new(config(), Time::ZERO).unwrap();
    for seq in 1..=entries {
        store.append(&submit(seq)).unwrap();
        // In groups of three.
        if seq % 3 == 0 || seq == entries {
            store.sync().unwrap();
        }
        let _ = grid.apply(&submit(seq), &mut Vec::new());
    }
    grid
}

/// Reads a segment as a daemon that starts again does: the entries, or a refusal.
fn read(bytes: Vec<u8>) -> Result<u64, String> {
    let (mut reader, _) =
        Reader::in_memory(Path::new("memory"), bytes).map_err(|e| e.to_string())?;
    let mut entries = 0;
    loop {
        match reader.next_entry() {
            Ok(Some(entry)) => {
                assert_eq!(entry, submit(entries + 1), "an entry is another");
                entries += 1;
            }
            Ok(None) => return Ok(entries),
            Err(_) if reader.is_torn_end() => return Ok(entries),
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed_or_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let entries = std::env::var("GRID_ENTRIES").ok().and_then(|text| text.parse().ok());
    let entries: u64 = entries.unwrap_or(24);
    write(folder.path(), entries);
    let mut bytes = std::fs::read(folder.path().join(format!("{:020}.log", 0))).unwrap();
    let used = used(&bytes);
    bytes.truncate(used + 64);
    assert_eq!(read(bytes.clone()), Ok(entries));
    let (mut refused, mut same) = (0_u64, 0_u64);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            match read(bad) {
                Ok(found) => {
                    assert_eq!(
                        found, entries,
                        "byte {at}, bit {bit}: entries that were synced are gone"
                    );
                    same += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    for length in 0..used {
        // The rest as zeros, and not there at all.
        let mut cut = bytes.clone();
        cut.truncate(length);
        assert!(read(cut.clone()).is_err(), "cut at {length}");
        cut.resize(bytes.len(), 0);
        // Where a record ends in zeros, nothing has changed.
        assert!(cut == bytes || read(cut).is_err(), "zeros from {length}");
    }
    assert!(refused > same && same > 0, "{refused} refused, {same} the same");
    record("damage", "flips", refused + same, used as u64);
}

#[test]
fn a_torn_end_is_cut_and_what_was_synced_stays() {
    let folder = tempfile::tempdir().unwrap();
    let before = write(folder.path(), 9).digest();
    let log = folder.path().join(format!("{:020}.log", 0));
    let whole = std::fs::read(&log).unwrap();
    let used = used(&whole);
    for torn in [1, 8, 40, 200] {
        let mut bytes = whole.clone();
        for (i, byte) in bytes.iter_mut().skip(used).take(torn).enumerate() {
            *byte = u8::try_from(i % 251).unwrap() + 1;
        }
        std::fs::write(&log, &bytes).unwrap();
        let (mut store, mut grid, found) = Store::recover(folder.path()).unwrap();
        assert_eq!((grid.digest(), found.entries), (before, 9));
        assert!(found.cut > 0);
        // It goes on after what stayed.
        store.append(&submit(10)).unwrap();
        store.sync().unwrap();
        let _ = grid.apply(&submit(10), &mut Vec::new());
        drop(store);
        let (_, again, found) = Store::recover(folder.path()).unwrap();
        assert_eq!((again.digest(), found.entries, found.cut), (grid.digest(), 10, 0));
    }
}

#[test]
fn a_snapshot_begins_a_segment_and_a_damaged_one_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), 5);
    let mut digests = Vec::new();
    for round in 0..3 {
        let (mut store, mut grid, _) = Store::recover(folder.path()).unwrap();
        let next = grid.state().seq.get() + 1;
        store.snapshot(&grid).unwrap();
        store.append(&submit(next)).unwrap();
        store.sync().unwrap();
        let _ = grid.apply(&submit(next), &mut Vec::new());
        digests.push(grid.digest());
        assert_eq!(next, 6 + round);
    }
    let snapshots = || -> Vec<_> {
        let all = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path());
        let mut found: Vec<_> =
            all.filter(|path| path.extension().is_some_and(|e| e == "state")).collect();
        found.sort();
        found
    };
    assert_eq!(snapshots().len(), 2, "two are kept");
    let (_, grid, found) = Store::recover(folder.path()).unwrap();
    assert_eq!((grid.digest(), found.entries), (digests[2], 1));
    let newest = snapshots().pop().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let (_, grid, found) = Store::recover(folder.path()).unwrap();
    assert_eq!((grid.digest(), found.entries), (digests[2], 2));
    // All of it is there for the simulator.
    let (mut reader, config) = Reader::open(folder.path()).unwrap();
    let mut replayed = Grid::new(config, Time::ZERO).unwrap();
    while let Some(entry) = reader.next_entry().unwrap() {
        let _ = replayed.apply(&entry, &mut Vec::new());
    }
    assert_eq!(replayed.digest(), digests[2]);
}

#[test]
fn a_crash_while_a_segment_is_made_leaves_nothing_that_is_used() {
    // Before there was a configuration: there is no history yet.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("unmade"), [0; 100]).unwrap();
    assert!(!Store::exists(folder.path()));
    write(folder.path(), 3);
    // While the next was set aside: the one that is used is made anew.
    std::fs::remove_file(folder.path().join("reserve")).unwrap();
    std::fs::write(folder.path().join("unmade"), [0; 100]).unwrap();
    let (mut store, mut grid, _) = Store::recover(folder.path()).unwrap();
    store.snapshot(&grid).unwrap();
    store.append(&submit(4)).unwrap();
    store.sync().unwrap();
    let _ = grid.apply(&submit(4), &mut Vec::new());
    drop(store);
    let (_, again, found) = Store::recover(folder.path()).unwrap();
    assert_eq!((again.digest(), found.entries), (grid.digest(), 1));
}

#[test]
fn a_folder_belongs_to_one_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let _held = Store::begin(folder.path(), &config()).unwrap();
    assert!(matches!(Store::recover(folder.path()), Err(StoreError::Held(_))));
}
