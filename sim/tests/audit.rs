//! The audit of a run: whole, without a journal, and with one amount changed in either file.

mod common;

use std::path::Path;

/// Audits a folder; returns the exit code and what was said.
fn audit(folder: &Path) -> (Option<i32>, String) {
    let folder = folder.display().to_string();
    let output = common::gridsim(&common::root(), &["audit", &folder]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// Runs `burst` with a journal in a fresh folder.
fn run(home: &str) -> std::path::PathBuf {
    let folder = common::scratch(home).join("out");
    let scenario = common::scenario("burst").display().to_string();
    let out = folder.display().to_string();
    let args = ["run", &scenario, "--journal", "--quiet", "--out", &out];
    assert!(common::gridsim(&common::root(), &args).status.success());
    folder
}

#[test]
fn a_run_audits_to_the_last_micro_atp_with_and_without_its_journal() {
    let folder = run("audit-whole");
    let (code, said) = audit(&folder);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("and its journal come to what the summary says"), "{said}");
    for party in ["MINT", "TREASURY", "BURN", "trainers", "sweepers", "pool"] {
        assert!(said.contains(party), "{party} is missing: {said}");
    }
    std::fs::remove_dir_all(folder.join("journal")).unwrap();
    let (code, said) = audit(&folder);
    assert!(code == Some(0) && said.contains("no journal"), "{said}");
}

#[test]
fn a_balance_that_differs_is_named_and_ends_with_1() {
    let folder = run("audit-changed");
    let summary = std::fs::read_to_string(folder.join("summary.json")).unwrap();
    let at = summary.find("\"balance\"").expect("accounts have balances");
    let digit = at + summary[at..].find('.').unwrap() + 6;
    let mut bytes = summary.into_bytes();
    bytes[digit] = if bytes[digit] == b'9' { b'8' } else { bytes[digit] + 1 };
    std::fs::write(folder.join("summary.json"), bytes).unwrap();
    let (code, said) = audit(&folder);
    assert!(code == Some(1) && said.contains("DIFFERS"), "{said}");
    assert!(said.contains("1 of 6 balances differ"), "{said}");
}
