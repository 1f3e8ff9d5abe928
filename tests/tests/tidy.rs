//! The architecture as a test: floors, forbidden words, sizes, manifests.
//!
//! A module of a package uses only modules on lower floors, or on its own floor without a circle. A
//! module that is in no table fails the test: say here on which floor it stands.

use gridtests::run::record;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Floors of the core, as in `core/src/lib.rs`.
const CORE: &[(u8, &[&str])] = &[
    (8, &["grid", "station"]),
    (7, &["verbs"]),
    (
        6,
        &[
            "placement",
            "index",
            "endings",
            "kept",
            "shadow",
            "preempt",
            "rebalance",
            "charges",
            "caps",
        ],
    ),
    (6, &["confidence", "explain", "invariants", "snapshot", "idle"]),
    (5, &["state"]),
    (
        4,
        &[
            "nodes",
            "load",
            "offers",
            "shapes",
            "jobs",
            "queue",
            "leases",
            "ledger",
            "epoch",
            "karma",
            "price",
            "tariff",
            "due",
            "changed",
            "links",
            "clients",
            "rate",
            "urgent",
            "reputation",
        ],
    ),
    (3, &["config", "command", "effect", "deny", "blocker", "forecast", "pressure", "trend"]),
    (3, &["usage", "meter", "wire", "encode", "decode"]),
    (2, &["bundle", "flat", "rows", "tags"]),
    (1, &["units", "ids", "canary", "share", "legacy"]),
];

/// Floors of the simulator, as in `sim/src/lib.rs`.
const SIM: &[(u8, &[&str])] = &[
    (8, &["main"]),
    (7, &["cli"]),
    (6, &["run", "compare", "sweep", "swarm", "validate"]),
    (5, &["output"]),
    (4, &["page", "metrics"]),
    (3, &["world", "picture"]),
    (2, &["scenario", "draw"]),
    (1, &["trace", "generate"]),
    (0, &["kernel", "rng", "decimal", "work", "record", "clock", "json", "journal"]),
];

/// Floors of the daemon.
const LIVE: &[(u8, &[&str])] = &[
    (5, &["main"]),
    (4, &["cli"]),
    (3, &["daemon", "client"]),
    (2, &["agent"]),
    (1, &["frame"]),
    (0, &["program", "clock"]),
];

/// The one file per driver that may read a clock.
const CLOCKS: [&str; 2] = ["sim/src/clock.rs", "live/src/clock.rs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the files below a folder with this ending, by their path from the root, sorted.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut open = vec![root().join(folder)];
    while let Some(path) = open.pop() {
        let Ok(entries) = fs::read_dir(&path) else { continue };
        for entry in entries.flatten().map(|entry| entry.path()) {
            if entry.is_dir() {
                open.push(entry);
            } else if entry.to_string_lossy().ends_with(ending) {
                let text = fs::read_to_string(&entry).unwrap_or_default();
                let name = entry.strip_prefix(root()).unwrap_or(&entry);
                out.push((name.to_string_lossy().replace('\\', "/"), text));
            }
        }
    }
    out.sort();
    out
}

/// Returns the code of a file: without comments and without its unit tests.
fn code(text: &str) -> String {
    let body = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let line = |line: &str| line.split("//").next().unwrap_or_default().to_string();
    body.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Returns whether a file is compiled for unit tests only: its parent says so.
fn is_test(path: &str) -> bool {
    let Some((folder, name)) = path.rsplit_once('/') else { return false };
    let name = name.trim_end_matches(".rs");
    let declared = ["", "pub(crate) "].map(|seen| format!("#[cfg(test)]\n{seen}mod {name};"));
    ["mod.rs", "lib.rs"].iter().any(|parent| {
        let text = fs::read_to_string(root().join(folder).join(parent)).unwrap_or_default();
        declared.iter().any(|line| text.contains(line))
    })
}

/// Returns the module at the top of a package that a file belongs to.
fn module(path: &str) -> Option<String> {
    let inside = path.split_once("/src/")?.1;
    let name = inside.split('/').next()?.trim_end_matches(".rs");
    (name != "lib" && name != "bin").then(|| name.to_string())
}

/// Returns the modules that code names as `crate::x`, in a list of imports too, or as `package::x`
/// in its binary.
fn named(code: &str, package: &str) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for prefix in ["crate::", &format!("{package}::")] {
        for after in code.split(prefix).skip(1) {
            let list =
                after.strip_prefix('{').map(|rest| rest.split('}').next().unwrap_or_default());
            for item in list.unwrap_or(after).split(',') {
                let word = |c: char| !(c.is_alphanumeric() || c == '_');
                let name = item.trim().split(word).next().unwrap_or_default();
                if name.starts_with(|c: char| c.is_lowercase()) {
                    out.insert(name.to_string());
                }
                if list.is_none() {
                    break;
                }
            }
        }
    }
    out
}

/// Returns what is wrong with the floors of one package.
fn breaches(folder: &str, package: &str, table: &[(u8, &[&str])]) -> Vec<String> {
    let mut floors: BTreeMap<&str, u8> = BTreeMap::new();
    for (floor, modules) in table {
        floors.extend(modules.iter().map(|module| (*module, *floor)));
    }
    let mut out = Vec::new();
    let mut level: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, text) in files(&format!("{folder}/src"), ".rs") {
        let Some(here) = module(&path).filter(|_| !is_test(&path)) else { continue };
        let Some(floor) = floors.get(here.as_str()) else {
            out.push(format!(
                "{path}: add `{here}` to the table of {folder} in tests/tests/tidy.rs"
            ));
            continue;
        };
        for there in named(&code(&text), package).into_iter().filter(|there| *there != here) {
            match floors.get(there.as_str()) {
                Some(below) if below < floor => {}
                Some(same) if same == floor => {
                    level.entry(here.clone()).or_default().insert(there);
                }
                Some(above) => out.push(format!("{path} (floor {floor}) uses {there} ({above})")),
                None => {}
            }
        }
    }
    out.extend(circle(&level).map(|round| format!("{folder}: a circle of {round:?}")));
    out
}

/// Returns the modules of a circle among modules of one floor, if there is one.
fn circle(uses: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut left = uses.clone();
    loop {
        let done = |there: &String| !left.contains_key(there);
        let free: Vec<String> = left
            .iter()
            .filter(|(_, to)| to.iter().all(done))
            .map(|(from, _)| from.clone())
            .collect();
        if free.is_empty() {
            return (!left.is_empty()).then(|| left.into_keys().collect());
        }
        left.retain(|from, _| !free.contains(from));
    }
}

fn nothing(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

/// Returns the places where code holds one of these words.
fn holding(folders: &[&str], words: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    for (path, text) in folders.iter().flat_map(|folder| files(folder, ".rs")) {
        for (i, line) in code(&text).lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                out.push(format!("{path}:{}: {word}", i + 1));
            }
        }
    }
    out
}

#[test]
fn imports_go_down_without_a_circle() {
    let mut found = breaches("core", "gridcore", CORE);
    found.extend(breaches("sim", "gridsim", SIM));
    found.extend(breaches("live", "gridlive", LIVE));
    nothing("modules leave their floor", &found);
    record("tidy", "imports_go_down_without_a_circle", files("core/src", ".rs").len() as u64, 0);
}

#[test]
fn a_planted_circle_and_a_planted_climb_are_found() {
    let names = |list: &[&str]| list.iter().map(|s| (*s).to_string()).collect::<BTreeSet<_>>();
    let round = BTreeMap::from([
        ("a".to_string(), names(&["b"])),
        ("b".to_string(), names(&["a"])),
        ("c".to_string(), names(&["a"])),
    ]);
    assert!(circle(&round).is_some());
    let code = code("use crate::{units::Time, ids};\nlet x = crate::grid::f(); // crate::no\n");
    assert_eq!(named(&code, "gridcore"), names(&["grid", "ids", "units"]));
}

#[test]
fn nothing_that_decides_reads_a_clock_a_float_or_a_hash() {
    let floats = holding(&["core/src"], &["f32", "f64"]);
    // The encoding names floats only to refuse them.
    let floats: Vec<String> =
        floats.into_iter().filter(|place| !place.contains("code.rs:")).collect();
    nothing("floats in the core", &floats);
    let words = ["HashMap", "HashSet", "SystemTime", "Instant::now"];
    let mut found = holding(&["core/src", "sim/src"], &words);
    found.retain(|place| !CLOCKS.iter().any(|clock| place.starts_with(clock)));
    nothing("hash order or a clock", &found);
    nothing("the simulator knows the daemon", &holding(&["sim/src"], &["gridlive"]));
}

#[test]
fn files_and_lines_stay_short_and_nothing_is_left_undone() {
    let folders = ["core/src", "sim/src", "live/src", "tests/src", "tests/tests", "benches/src"];
    let mut found = Vec::new();
    let mut count = 0;
    for (path, text) in folders.iter().flat_map(|folder| files(folder, ".rs")) {
        count += 1;
        let lines = text.lines().count();
        if lines > 500 {
            found.push(format!("{path} has {lines} lines, 500 are enough"));
        }
        for (i, line) in text.lines().enumerate() {
            // A row of a table cannot be broken.
            if line.chars().count() > 100 && !line.trim_start().starts_with("//! |") {
                found.push(format!("{path}:{} is longer than 100 characters", i + 1));
            }
        }
    }
    nothing("too long", &found);
    let undone = [concat!("#[ign", "ore"), concat!("to", "do!("), concat!("unimplem", "ented!(")];
    nothing("left undone", &holding(&folders, &undone));
    record("tidy", "files_and_lines_stay_short_and_nothing_is_left_undone", count, 0);
}

#[test]
fn the_core_depends_on_two_crates_and_every_dependency_has_a_reason() {
    let mut found = Vec::new();
    for member in ["core", "sim", "live", "tests", "benches"] {
        let path = root().join(member).join("Cargo.toml");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let (mut inside, mut before) = (false, String::new());
        let mut names = Vec::new();
        for line in text.lines() {
            if line.starts_with('[') {
                inside = line.contains("dependencies");
            } else if inside && line.contains('=') && !line.starts_with('#') {
                let name = line.split(['=', '.', ' ']).next().unwrap_or_default().to_string();
                let ours = name.starts_with("grid") && member != "live";
                // A comment may speak for the group of lines below it.
                if before.is_empty() && !ours {
                    found.push(format!("{member}: {name} has no comment that says what for"));
                }
                if line.contains("git =") || line.contains("git=") {
                    found.push(format!("{member}: {name} comes from git"));
                }
                names.push(name);
            }
            if !line.contains('=') || line.starts_with('#') || line.starts_with('[') {
                before = if line.starts_with('#') { line.to_string() } else { String::new() };
            }
        }
        if member == "core" && names != ["serde", "thiserror"] {
            found.push(format!("the core depends on {names:?}"));
        }
    }
    let whole = fs::read_to_string(root().join("Cargo.toml")).unwrap_or_default();
    if whole.contains("[patch") || whole.contains("git =") {
        found.push(String::from("the workspace patches a crate or takes one from git"));
    }
    nothing("manifests", &found);
}

#[test]
fn every_scenario_is_listed() {
    let list = fs::read_to_string(root().join("scenarios/README.md"));
    let Ok(list) = list else { return };
    let missing = files("scenarios", ".yaml").into_iter().map(|(path, _)| path).filter(|path| {
        let name = path.rsplit('/').next().unwrap_or_default();
        !list.contains(name)
    });
    nothing("scenarios that scenarios/README.md does not list", &missing.collect::<Vec<_>>());
}
