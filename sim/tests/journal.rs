//! The journal: what it holds replays to the same state, and no damage goes unnoticed.

mod common;

use gridcore::encode::Digest;
use gridcore::grid::Grid;
use gridcore::units::Time;
use gridsim::journal::{JournalError, Reader};
use gridsim::run::{Keep, simulate};
use gridsim::scenario::load;
use std::path::{Path, PathBuf};

/// Runs a scenario with a journal in a fresh folder; returns the folder and the run's digest.
fn written(home: &str, name: &str, sets: &[&str]) -> (PathBuf, Digest) {
    let folder = common::scratch(home).join("journal");
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    let loaded = load(&common::scenario(name), &sets).expect("the scenario is well-formed");
    let keep = Keep { journal: Some(folder.clone()), ..Keep::default() };
    let run = simulate(&loaded, loaded.scenario.seed, &keep, |_| true);
    let run = run.expect("the run ends").run;
    (folder, run.grid.digest())
}

/// Replays a journal; returns the digest and the number of entries.
fn replayed(folder: &Path) -> Result<(Digest, u64), JournalError> {
    let (mut reader, config) = Reader::open(folder)?;
    let mut grid = Grid::new(config, Time::ZERO).expect("a journal holds a valid configuration");
    let (mut entries, mut effects) = (0, Vec::new());
    while let Some(entry) = reader.next_entry()? {
        let _denied = grid.apply(&entry, &mut effects);
        effects.clear();
        entries += 1;
    }
    Ok((grid.digest(), entries))
}

#[test]
fn a_journal_replays_to_the_digest_of_its_run() {
    // Terms are entries, too, and `drf` needs none.
    let fair = &["execution.scheduling.order=fair"][..];
    for (name, sets) in [("burst", &[][..]), ("owner-load", &[]), ("drf-toy", fair)] {
        let (folder, digest) = written(&format!("journal-{name}"), name, sets);
        let (again, entries) = replayed(&folder).unwrap();
        assert_eq!(again, digest, "{name}");
        assert!(entries > 60, "{name}: only {entries} entries");
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed_or_harmless() {
    let (folder, _) = written("journal-damage", "drf-toy", &[]);
    let segment = folder.join(format!("{:020}.log", 0));
    let whole = std::fs::read(&segment).unwrap();
    let (_, entries) = replayed(&folder).unwrap();
    let read = |bytes: &[u8]| {
        std::fs::write(&segment, bytes).unwrap();
        // Reading alone: what is damaged must not reach a grid.
        let (mut reader, _) = Reader::open(&folder)?;
        let mut count = 0;
        while reader.next_entry()?.is_some() {
            count += 1;
        }
        Ok::<u64, JournalError>(count)
    };
    for bit in 0..8 * whole.len() {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&bytes).is_err(), "bit {bit} flipped goes unnoticed");
    }
    let mut prefixes = 0;
    for length in 0..whole.len() {
        // A cut between two records is a shorter history; any other is damage.
        prefixes += u64::from(read(&whole[..length]).is_ok_and(|count| count < entries));
    }
    assert_eq!(prefixes, entries, "a cut inside a record goes unnoticed");
}

#[test]
fn a_missing_a_foreign_and_an_empty_journal_are_refused() {
    let home = common::scratch("journal-refused");
    let refused = |folder: &Path| Reader::open(folder).err().unwrap().to_string();
    assert!(refused(&home.join("none")).contains("cannot read"));
    assert!(refused(&home).contains("holds no journal"));
    std::fs::write(home.join("a.log"), b"hello, this is a text").unwrap();
    assert!(refused(&home).contains("byte 8: this is no journal"));
}
