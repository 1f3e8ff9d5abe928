//! What has hurt others, as histories over a faulty network: each is a scenario, and the story that
//! came of it. `UPDATE=1` writes the stories anew; read them.

use gridcore::units::{Span, Time};
use gridsim::record::{JobState, RunRecord};
use gridsim::scenario::build::build;
use gridsim::scenario::load;
use gridsim::world::{Finished, World};
use gridtests::run::record;
use std::path::{Path, PathBuf};

/// Plays a history with every invariant checked after every entry.
fn play(path: &Path) -> Finished {
    let loaded = load(path, &[]).expect("a history is a scenario");
    let setup = build(&loaded, loaded.scenario.seed).expect("a history can be built");
    let mut world = World::new(setup).expect("a history has a cluster");
    world.check_invariants();
    world.keep_decisions();
    world.run(|_| true)
}

/// Returns what happened, by time.
fn story(done: &Finished) -> String {
    let run = &done.record;
    let node = |id: u32| run.nodes.get(id as usize).map_or("?", |node| &node.name);
    let name = |job: u64| run.job(job).map_or("?", |row| &row.name);
    let mut lines: Vec<(Time, usize, String)> = Vec::new();
    for row in &run.decisions {
        let nodes: Vec<&str> = row.nodes.iter().map(|id| node(*id)).collect();
        let (lease, nodes) = (row.lease, nodes.join(" "));
        let why = if row.kind == "place" { "" } else { row.reason.as_str() };
        let text = format!("{} l{lease} of {} on {nodes} {why}", row.kind, name(row.job));
        lines.push((row.at, lines.len(), text.trim_end().to_owned()));
    }
    for row in run.leases.iter() {
        if let Some(at) = row.ended {
            let text = format!(
                "gone l{} of {} on {}, {}",
                row.lease,
                name(row.job),
                node(row.node),
                row.why
            );
            lines.push((at, lines.len(), text));
        }
    }
    lines.extend(ends(run).map(|(at, text)| (at, usize::MAX, text)));
    lines.sort();
    let mut out: String =
        lines.into_iter().map(|(at, _, text)| format!("{} {text}\n", seconds(at))).collect();
    for (what, count) in &done.weather {
        out.push_str(&format!("{what} {count}\n"));
    }
    for (took, bound, reached) in &done.reclaims {
        let (took, bound) = (took.get(), bound.get());
        out.push_str(&format!(
            "owner waited {took} of {bound} ms, coordinator in reach: {reached}\n"
        ));
    }
    out
}

/// Returns how jobs ended.
fn ends(run: &RunRecord) -> impl Iterator<Item = (Time, String)> {
    run.jobs.iter().filter_map(|row| {
        let text = format!(
            "{} {:?} after {} attempts, waited {} s, lost {} s",
            row.name,
            row.state,
            row.attempts,
            whole(row.wait),
            whole(row.lost)
        );
        row.end.map(|at| (at, text))
    })
}

fn whole(span: Span) -> u64 {
    span.get() / 1_000
}

fn seconds(at: Time) -> String {
    format!("{:>5}.{:03}s", at.ms() / 1_000, at.ms() % 1_000)
}

fn histories() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("histories");
    let files = std::fs::read_dir(folder).expect("there are histories");
    let mut paths: Vec<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "yaml"));
    paths.sort();
    paths
}

#[test]
fn what_has_hurt_others_ends_well_here() {
    let update = std::env::var_os("UPDATE").is_some();
    let (mut different, mut entries) = (Vec::new(), 0);
    for path in histories() {
        let done = play(&path);
        assert!(done.broken.is_empty(), "{}: {:?}", path.display(), done.broken);
        let (mut failed, mut spent) = (0, 0);
        for row in &done.record.jobs {
            let ended = matches!(row.state, JobState::Completed | JobState::Cancelled);
            failed += usize::from(row.state == JobState::Failed);
            spent += usize::from(row.state == JobState::OutOfBudget);
            let known = ended || matches!(row.state, JobState::Failed | JobState::OutOfBudget);
            assert!(known, "{}: {} is {:?}", path.display(), row.name, row.state);
        }
        // What a broken node has failed before it is known is lost, and nothing else.
        let most = if path.ends_with("black_hole.yaml") { 3 } else { 0 };
        assert_eq!(failed, most, "{}", path.display());
        let most = usize::from(path.ends_with("exhausted.yaml"));
        assert_eq!(spent, most, "{}", path.display());
        entries += done.counts.entries;
        let (text, file) = (story(&done), path.with_extension("story"));
        if update {
            std::fs::write(&file, &text).expect("the story is written");
        }
        let golden = std::fs::read_to_string(&file).unwrap_or_default();
        if golden != text {
            different.push(format!("{}:\n{text}", path.display()));
        }
    }
    assert!(
        different.is_empty(),
        "{}\nif this is meant: UPDATE=1 cargo nextest run -p gridtests what_has_hurt",
        different.join("\n")
    );
    record("histories", "live", histories().len() as u64, entries);
}
