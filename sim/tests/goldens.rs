//! The summaries of small scenarios, to the byte. `UPDATE=1 cargo nextest run -p gridsim goldens`
//! rewrites them. They hold numbers, so they also show that this crate built alone computes what
//! the whole workspace does.

mod common;

use gridsim::run::{Keep, simulate};
use gridsim::scenario::load;

/// The scenarios and what makes each small.
const GOLDEN: [(&str, &[&str]); 6] = [
    ("drf-toy", &[]),
    ("fgd-openb", &[]),
    ("mmc-truth", &["jobs.generator.jobs=20000"]),
    ("owner-load", &[]),
    ("burst", &[]),
    ("flicker", &["horizon_seconds=6h"]),
];

#[test]
fn summaries_are_what_they_were() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut different = Vec::new();
    for (name, sets) in GOLDEN {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let loaded = load(&common::scenario(name), &sets).unwrap();
        let run = simulate(&loaded, loaded.scenario.seed, &Keep::default(), |_| true).unwrap();
        let text = run.summary.text();
        let path = common::root().join("reports").join(format!("{name}.summary.json"));
        if update {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        let changed = golden.lines().zip(text.lines()).find(|(old, new)| old != new);
        if golden != text {
            different.push(format!("{name}: {changed:?}"));
        }
    }
    assert!(
        different.is_empty(),
        "{different:#?}\nif this is meant: UPDATE=1 cargo nextest run -p gridsim --test goldens"
    );
}
