//! What a daemon's journal says to whoever keeps the books, while money moves.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use house::Cluster;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const MONEY: &str = "atp: { enabled: true }\n\
    accounts: [{ name: lab, deposit_atp: 5000 }, { name: owners, deposit_atp: 7 }]";

/// Starts a cluster where `lab` borrows from `owners`, and lets two jobs be paid.
fn with_money_moved() -> Cluster {
    let cluster = Cluster::begin_owned(MONEY, "owners");
    for (account, script) in [("lab", "sleep 1"), ("lab", "exit 3"), ("owners", "true")] {
        let job = cluster.submit(&["-A", account, "-t", "10m"], script);
        let state = if script == "exit 3" { "failed" } else { "completed" };
        cluster.until_state(job, state);
    }
    cluster
}

/// Runs a verb that needs no daemon; `socket` is where it looks for one.
fn beside(socket: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(house::GRIDLIVE);
    let output = command.env("GRIDLIVE_SOCKET", socket).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn amount(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"))
}

/// Checks that an account has what its transfers come to.
fn sums(row: &Value) -> bool {
    let came: f64 =
        ["deposited_atp", "earned_atp", "refunded_atp"].iter().map(|key| amount(row, key)).sum();
    let went: f64 =
        ["paid_atp", "fees_atp", "compensated_atp"].iter().map(|key| amount(row, key)).sum();
    let has = amount(row, "available_atp") + amount(row, "held_atp");
    (came - went - has).abs() < 1e-6
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn an_audit_recomputes_every_balance_and_agrees_with_a_daemon_that_goes_on() {
    let mut cluster = with_money_moved();
    let running = cluster.submit(&["-A", "lab"], "sleep 600");
    cluster.until_state(running, "running");
    let state = cluster.path("state");
    let args = ["audit", "--json", "--state", state.to_str().unwrap()];
    let socket = cluster.path("sock");
    let (code, text, said) = beside(&socket, &args);
    assert_eq!(code, Some(0), "{text}{said}");
    let found: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&found["agrees"], &found["difference"]), (&true.into(), &Value::Null));
    assert!(found["daemon"].as_str().unwrap().contains("the same digest"), "{text}");
    let rows = found["accounts"].as_array().unwrap();
    assert!(rows.iter().all(sums), "{text}");
    let [lab, owners] = rows.as_slice() else { panic!("{text}") };
    assert_eq!((&lab["account"], amount(lab, "deposited_atp")), (&"lab".into(), 5_000.0));
    assert!(amount(lab, "paid_atp") > 0.0 && amount(lab, "held_atp") > 0.0, "{text}");
    assert_eq!(amount(owners, "earned_atp"), amount(lab, "paid_atp"));
    assert_eq!(amount(lab, "fees_atp"), amount(&found, "treasury_atp"));
    assert_eq!(amount(&found, "minted_atp"), 5_007.0);
    let people = beside(&socket, &["audit", "--state", state.to_str().unwrap()]).1;
    assert!(people.contains("COMPENSATED ATP") && people.ends_with("agrees\n"), "{people}");
    // It needs no daemon, and takes no other cluster's for it.
    let other = Cluster::begin(1, "");
    let (code, text, _) = beside(&other.path("sock"), &args);
    assert!(code == Some(0) && text.contains("another cluster"), "{text}");
    cluster.kill_daemon();
    let (code, text, _) = beside(&socket, &args);
    assert!(code == Some(0) && text.contains("no daemon answers"), "{text}");
}

#[test]
fn an_audit_of_a_journal_that_is_not_the_daemons_whole_one_says_where_they_part() {
    let cluster = with_money_moved();
    let (journal, old) = (cluster.path("state/journal"), cluster.path("old"));
    copy(&journal, &old.join("journal"));
    cluster.submit(&["-A", "lab"], "true");
    cluster.until_idle();
    let args = ["audit", "--state", old.to_str().unwrap()];
    let (code, text, _) = beside(&cluster.path("sock"), &args);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("differs: the daemon is at entry "), "{text}");
    // Damage is told with the place of it, by all that read a journal.
    let segment = old.join("journal").join(format!("{:020}.log", 0));
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[2_000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    for verb in [vec!["audit"], vec!["journal", "verify"]] {
        let args = [verb.as_slice(), &["--state", old.to_str().unwrap()]].concat();
        let (code, _, said) = beside(&cluster.path("sock"), &args);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("byte") && said.contains("whole up to entry "), "{said}");
    }
}
