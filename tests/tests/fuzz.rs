//! The fuzz targets in every test run: the corpus, and mutations of it.
//!
//! `UPDATE=1` writes the samples that come from code anew; what was found or written by hand stays.
//! `GRID_FUZZ=TARGET` plays one target, `GRID_FUZZ=TARGET:SEED` one mutation, `GRID_CASES` more of
//! them (in percent). Longer runs: `tests/fuzz`.

use gridcore::command::{Command, Entry, Outcome, Report};
use gridcore::ids::{Epoch, LeaseId, NodeId};
use gridcore::jobs::JobState;
use gridcore::links::ANSWERS_MAX;
use gridcore::station::held::Phase;
use gridcore::units::MilliCores;
use gridcore::wire::{Envelope, FromBody, FromNode, Item, Lending, Order, Status};
use gridtests::fuzz::ground;
use gridtests::fuzz::mutate::mutate;
use gridtests::fuzz::samples::samples;
use gridtests::fuzz::{TARGETS, Target, segment};
use gridtests::run::{number, record};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The fewest inputs of a target.
const INPUTS_MIN: usize = 6;
/// The most bytes of the whole corpus.
const BYTES_MAX: usize = 300 << 10;
/// Mutations of each target in a plain run.
const MUTATIONS: u64 = 5_000;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// Returns the inputs of a target by name.
fn inputs(target: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = corpus().join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = files.map(|file| file.expect("the folder can be read").path());
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    paths
        .map(|path| (name(&path).expect("a name"), fs::read(&path).expect("an input can be read")))
        .collect()
}

/// Plays one input; a panic is told with its name and the command that plays it again.
fn play(target: (&str, Target), input: &str, bytes: &[u8], again: &str) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| target.1(bytes)));
    outcome.unwrap_or_else(|_| {
        let hex: String = bytes.iter().take(1_024).map(|byte| format!("{byte:02x}")).collect();
        panic!("{} does not stand {input} ({} bytes: {hex})\n  {again}", target.0, bytes.len())
    })
}

/// Returns the targets to be played, and the one seed to play.
fn wanted() -> (Vec<(&'static str, Target)>, Option<u64>) {
    let asked = std::env::var("GRID_FUZZ").unwrap_or_default();
    let (name, seed) = asked.split_once(':').unwrap_or((asked.as_str(), ""));
    let one = |target: &(&str, Target)| name.is_empty() || target.0 == name;
    (TARGETS.into_iter().filter(one).collect(), seed.parse().ok())
}

#[test]
fn the_corpus_is_what_the_code_writes() {
    let again = "UPDATE=1 cargo nextest run -p gridtests the_corpus_is";
    for (target, _) in TARGETS {
        let samples: BTreeMap<String, Vec<u8>> = samples(target).into_iter().collect();
        let folder = corpus().join(target);
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(&folder).expect("the corpus can be written");
            let old = inputs(target).into_keys();
            for old in old.filter(|n| n.starts_with("valid-") || n.starts_with("damaged-")) {
                fs::remove_file(folder.join(old)).expect("a stale sample can be removed");
            }
            for (name, bytes) in &samples {
                fs::write(folder.join(name), bytes).expect("a sample can be written");
            }
        }
        let found = inputs(target);
        for (name, bytes) in &samples {
            let same = found.get(name) == Some(bytes);
            assert!(same, "{target}/{name} is not what the code writes: {again}");
        }
        let stale = |name: &&String| name.starts_with("valid-") && !samples.contains_key(*name);
        let stale: Vec<&String> = found.keys().filter(stale).collect();
        assert!(stale.is_empty(), "{target}: nothing writes {stale:?}: {again}");
    }
}

#[test]
fn every_input_of_the_corpus_is_withstood() {
    let mut bytes = 0;
    for target in wanted().0 {
        let inputs = inputs(target.0);
        assert!(inputs.len() >= INPUTS_MIN, "{} has {} inputs", target.0, inputs.len());
        for (name, input) in &inputs {
            let again = "cargo nextest run -p gridtests every_input_of_the_corpus";
            let again = format!("GRID_FUZZ={} {again}", target.0);
            let value = play(target, name, input, &again);
            let valid = ["valid-", "written-"].iter().any(|kind| name.starts_with(kind));
            assert!(value || !valid, "{}/{name} is not a value any more", target.0);
        }
        bytes += inputs.values().map(Vec::len).sum::<usize>();
        record("fuzz", target.0, inputs.len() as u64, 0);
    }
    assert!(bytes <= BYTES_MAX, "the corpus has {bytes} bytes, {BYTES_MAX} are enough");
    let names: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    let manifest = fs::read_to_string(corpus().join("../Cargo.toml")).expect("a manifest");
    for name in &names {
        let call = fs::read_to_string(corpus().join(format!("../fuzz_targets/{name}.rs")));
        let called = call.is_ok_and(|call| call.contains(&format!("gridtests::fuzz::{name}(")));
        let listed = manifest.contains(&format!("name = \"{name}\""));
        assert!(called && listed, "tests/fuzz does not run {name} under libFuzzer");
    }
    for folder in fs::read_dir(corpus()).expect("the corpus can be read").flatten() {
        let name = folder.file_name();
        let known = name.to_str().is_some_and(|name| names.contains(name));
        assert!(known, "tests/fuzz/corpus/{} has no target", name.display());
    }
}

#[test]
fn mutations_of_the_corpus_are_withstood_and_not_all_refused() {
    let (targets, only) = wanted();
    let count = MUTATIONS * number("GRID_CASES", 100) / 100;
    let first = number("GRID_SEED", 1) << 32;
    for target in targets {
        let inputs: Vec<Vec<u8>> = inputs(target.0).into_values().collect();
        let seeds = only.map_or(first..first + count, |seed| seed..seed + 1);
        let (mut values, played) = (0, seeds.end - seeds.start);
        for seed in seeds {
            let at = usize::try_from(seed).unwrap_or(0);
            let other = &inputs[(at / inputs.len()) % inputs.len()];
            let bytes = mutate(&inputs[at % inputs.len()], other, seed);
            let again = "cargo nextest run -p gridtests mutations_of_the_corpus";
            let again = format!("GRID_FUZZ={}:{seed} {again}", target.0);
            values += u64::from(play(target, &format!("seed {seed}"), &bytes, &again));
        }
        // A mutation is mostly no value, and else mostly a strange one: both are wanted.
        let most = only.is_some() || values > played / 50 && values < played;
        assert!(most, "{values} of {played} inputs of {} are values", target.0);
        record("fuzz", target.0, 0, played);
    }
}

#[test]
fn a_mended_segment_is_what_the_writer_writes() {
    let net = &ground::NET;
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = gridsim::journal::Writer::begin(folder.path(), &net.config).expect("a file");
    net.entries.iter().for_each(|entry| writer.append(entry));
    writer.finish().expect("a journal can be written");
    let written = fs::read(folder.path().join("00000000000000000000.log")).expect("a segment");
    assert_eq!(segment::segment(&net.config, &net.entries), written);
    assert_eq!(segment::mend(&written), written, "what is whole stays");
    let mut torn = written.clone();
    // The magic, the checksum of the first record, its place in the chain.
    for at in [0, 20, 32] {
        torn[at] ^= 1;
    }
    assert_eq!(segment::mend(&torn), written, "checksums and chain are made right");
}

#[test]
fn the_grounds_are_in_the_middle_of_their_work() {
    for grid in [&ground::NET.grid, &ground::DIRECT.grid] {
        let state = grid.state();
        let is = |wanted: fn(&JobState) -> bool| state.jobs.values().any(|job| wanted(&job.state));
        assert!(is(|state| matches!(state, JobState::Running(_))));
        assert!(is(|state| *state == JobState::Pending) && is(|state| *state == JobState::Held));
        assert!(is(|state| *state == JobState::Nominated) && !state.claims.is_empty());
        assert!(state.leases.values().any(|lease| lease.members.len() > 1), "a gang runs");
        assert!(state.leases.values().any(|lease| lease.needs.gpus.count > 0), "a GPU is lent");
        assert!(state.leases.values().any(|lease| lease.hold.is_some()), "somebody pays");
        assert!(state.leases.values().any(|lease| lease.cover.is_some()), "work is covered");
        let states: BTreeSet<_> = state.leases.values().map(|lease| lease.state).collect();
        assert!(states.len() > 1, "{states:?}");
    }
    let net = &ground::NET;
    let links = || net.grid.state().links.iter();
    assert!(links().all(|(_, link)| link.session > 0), "every node has a session");
    let under = |start: bool| {
        let orders = links().flat_map(|(_, link)| link.outbox.values());
        orders.filter(|pending| matches!(pending.order, Order::Start(_)) == start).count()
    };
    assert!(under(true) > 0 && under(false) > 0, "orders are under way");
    let held = net.stations.iter().flat_map(|station| station.leases.values());
    let phases: Vec<Phase> = held.map(|held| held.phase).collect();
    assert!(phases.contains(&Phase::Running), "{phases:?}");
    assert!(phases.iter().any(|phase| matches!(phase, Phase::Leaving(..))), "{phases:?}");
}

#[test]
fn an_inventory_of_strangers_cannot_fill_an_outbox() {
    let mut grid = ground::NET.grid.clone();
    let node = NodeId::new(0);
    let link = &grid.state().links[node];
    let (session, beat) = (link.session, link.beat);
    for round in 1..=4_u64 {
        let status =
            if round % 2 == 0 { Status::Running } else { Status::Ended(Outcome::Failed, None) };
        let cpu = MilliCores::ZERO;
        let item = |id| Item { lease: LeaseId::new(id), epoch: Epoch::new(1), cpu, status };
        let message = FromNode {
            envelope: Envelope { cluster: 7, node, session, number: beat + round },
            // It never says that it has heard.
            body: FromBody::Beat { seen: 0 },
            lending: Lending::ALL,
            sample: None,
            inventory: (round * 100_000..).take(5_000).map(item).collect(),
        };
        let command = Command::Report(Report::Message(Box::new(message)));
        let state = grid.state();
        let entry = Entry { seq: state.seq.next(), at: state.now, command };
        assert!(grid.apply(&entry, &mut Vec::new()).is_ok());
        let outbox = grid.state().links[node].outbox.len();
        assert!((1..=ANSWERS_MAX + 2).contains(&outbox), "{outbox} orders under way");
    }
}
