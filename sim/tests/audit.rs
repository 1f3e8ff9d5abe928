//! The audit of a run: whole, without a journal, and with an amount changed in the summary, rows missing
//! in the ledger, or a journal that is damaged, cut, or another run's.

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
    seeded(home, 7)
}

fn seeded(home: &str, seed: u64) -> std::path::PathBuf {
    let folder = common::scratch(home).join("out");
    let scenario = common::scenario("burst").display().to_string();
    let out = folder.display().to_string();
    let set = format!("seed={seed}");
    let args = ["run", &scenario, "--journal", "--quiet", "--set", &set, "--out", &out];
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
    assert!(said.contains("add up to"), "{said}");
}

#[test]
fn a_transfer_that_is_missing_is_found() {
    let folder = run("audit-missing");
    let path = folder.join("ledger.csv");
    let ledger = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = ledger.lines().filter(|line| !line.contains(",settle")).collect();
    let fewer = ledger.lines().count() - lines.len();
    assert!(fewer > 100, "{fewer} settlements");
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    let (code, said) = audit(&folder);
    assert!(code == Some(1) && said.contains("DIFFERS"), "{said}");
    assert!(said.contains("balances differ"), "{said}");
}

#[test]
fn a_journal_that_is_damaged_cut_or_of_another_run_is_told_apart() {
    let (folder, other) = (run("audit-journal"), seeded("audit-other", 8));
    let first = |folder: &Path| folder.join("journal/00000000000000000000.log");
    let (path, whole) = (first(&folder), std::fs::read(first(&folder)).unwrap());
    let says = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).unwrap();
        let (code, said) = audit(&folder);
        assert!(code == Some(1) && said.contains(what), "{what}: {code:?} {said}");
    };
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    says(&flipped, "the checksum of a record is wrong");
    says(&whole[..whole.len() / 2], "ends in the middle of a record");
    says(&std::fs::read(first(&other)).unwrap(), "the summary is of");
}

#[test]
fn an_array_is_one_request_however_long_it_is() {
    let folder = common::scratch("audit-array");
    std::fs::create_dir_all(&folder).unwrap();
    let text = "name: array\n\
        accounts: [{ name: lab, deposit_atp: 1000000 }, { name: own }]\n\
        nodes: [{ name: n, count: 4, cores: 8, memory_gb: 16, owner: own, owner_use: none }]\n\
        jobs:\n\
        - { name: many, array: 1500, account: lab, needs: { cpu_cores: 1 }, runs: 20s, limit: 60s }\n\
        - { name: last, account: lab, needs: { cpu_cores: 1 }, runs: 20s, limit: 60s }\n";
    std::fs::write(folder.join("array.yaml"), text).unwrap();
    let (scenario, out) = (folder.join("array.yaml"), folder.join("out"));
    let (scenario, out) = (scenario.display().to_string(), out.display().to_string());
    let completed = |set: &str| {
        let args = ["run", &scenario, "--quiet", "--json", "--no-pictures", "--out", &out];
        let output = common::gridsim(&common::root(), &[&args, ["--set", set].as_slice()].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let count = |key: &str| summary["counts"][key].as_u64().unwrap();
        (count("completed"), count("refused"))
    };
    assert_eq!(completed("atp.caps.open_requests=2"), (1_501, 0));
    // Alone, the last would be one too many.
    assert_eq!(completed("atp.caps.open_requests=1"), (1_500, 1));
}
