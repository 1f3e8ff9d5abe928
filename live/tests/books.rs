//! What a daemon's journal says to whoever keeps the books, while money moves.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use gridcore::command::Entry;
use gridcore::effect::Effect;
use gridcore::grid::Grid;
use gridcore::ids::Seq;
use gridcore::units::Time;
use house::Cluster;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
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
    let came: f64 = ["deposited_atp", "granted_atp", "earned_atp", "refunded_atp"]
        .iter()
        .map(|key| amount(row, key))
        .sum();
    let went: f64 = ["paid_atp", "fees_atp", "compensated_atp", "decayed_atp"]
        .iter()
        .map(|key| amount(row, key))
        .sum();
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

#[test]
fn a_statement_tells_what_an_account_has_earned_and_paid_and_for_which_jobs() {
    let mut cluster = with_money_moved();
    let running = cluster.submit(&["-A", "lab", "--name", "long"], "sleep 600");
    cluster.until_state(running, "running");
    let of = |cluster: &Cluster, account: &str| cluster.ask(&["statement", account]).unwrap();
    let lab = of(&cluster, "lab");
    let has = |row: &Value| {
        let came: f64 = ["deposited_atp", "granted_atp", "earned_atp", "refunded_atp"]
            .iter()
            .map(|k| amount(row, k))
            .sum();
        let left = amount(row, "available_atp") + amount(row, "held_atp");
        let went = amount(row, "paid_atp") + amount(row, "decayed_atp");
        (came - went - left).abs() < 1e-6
    };
    assert!(has(&lab) && amount(&lab, "deposited_atp") == 5_000.0, "{lab}");
    let jobs = lab["jobs"].as_array().unwrap();
    let states: Vec<&Value> = jobs.iter().map(|job| &job["state"]).collect();
    assert_eq!(states, ["running", "failed", "completed"], "the newest first, and no other's");
    assert_eq!(jobs[0]["held_atp"], lab["held_atp"]);
    assert!(amount(&lab, "held_atp") > 0.0);
    let charged: f64 = jobs.iter().map(|job| amount(job, "charged_atp")).sum();
    assert!((charged - amount(&lab, "paid_atp")).abs() < 1e-6 && charged > 0.0, "{lab}");
    assert!(jobs.iter().all(|job| amount(job, "refunded_atp") == 0.0));
    let owners = of(&cluster, "owners");
    assert!(has(&owners) && amount(&owners, "earned_atp") > 0.0, "{owners}");
    assert_eq!(amount(&owners, "paid_atp"), 0.0, "its own node costs it nothing");
    // All forms of lists, of one account and of all of them.
    let text = |args: &[&str]| {
        let output = cluster.run(&[&["statement"], args].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(text(&["lab", "-n", "2", "-o", "name"]), format!("{running}\n{}\n", running - 2));
    assert_eq!(text(&["-o", "name"]).lines().count(), 4);
    let table = text(&["-n", "1"]);
    assert!(table.starts_with(" ACCOUNT") && table.contains("owners"), "{table}");
    assert!(table.contains("long") && table.ends_with("1 of 4\n"), "{table}");
    let csv = text(&["lab", "-o", "csv"]);
    assert!(csv.starts_with("job,account,name,state,runs_s,charged_atp,refunded_atp,held_atp,"));
    assert_eq!(text(&["--json"]).lines().count(), 2, "each account's answer on a line");
    assert_eq!(cluster.run(&["statement", "nobodys"]).status.code(), Some(4));
    // What has ended is remembered.
    cluster.kill_daemon();
    cluster.start_daemon();
    cluster.until_up_but_busy();
    let again = of(&cluster, "lab");
    assert_eq!(again["jobs"].as_array().unwrap()[1..], jobs[1..]);
    assert_eq!((&again["paid_atp"], has(&again)), (&lab["paid_atp"], true));
}

#[test]
fn what_a_preemptor_destroyed_comes_back_and_all_books_say_who_gave_it() {
    let rules = "atp: { enabled: true }\n\
        execution: { preemption: { min_runtime: 0, grace_seconds: 1 } }\n\
        accounts: [{ name: lab, deposit_atp: 5000 }, { name: owners }, \
        { name: rush, deposit_atp: 5000 }]";
    let cluster = Cluster::begin_owned(rules, "owners");
    let job = cluster.submit(&["-A", "lab", "-c", "2", "-p", "low", "-t", "1h"], "sleep 600");
    cluster.until_state(job, "running");
    house::rest(1_200);
    let urgent = ["-A", "rush", "-c", "2", "-p", "urgent", "-t", "1m"];
    let urgent = cluster.submit(&urgent, "sleep 0.5");
    cluster.until_state(urgent, "completed");
    cluster.until_state(job, "running");
    let of = |account: &str| cluster.ask(&["statement", account]).unwrap();
    let (lab, rush) = (of("lab"), of("rush"));
    let row = &lab["jobs"][0];
    let (charged, refunded) = (amount(row, "charged_atp"), amount(row, "refunded_atp"));
    assert!(refunded > 0.0 && refunded <= charged, "{lab}");
    assert_eq!(amount(&lab, "refunded_atp"), refunded);
    assert_eq!(amount(&rush, "refunded_atp"), 0.0);
    let own: f64 =
        rush["jobs"].as_array().unwrap().iter().map(|job| amount(job, "charged_atp")).sum();
    assert!((amount(&rush, "paid_atp") - own - refunded).abs() < 1e-6, "{rush}");
    assert_eq!(amount(&lab, "paid_atp"), charged);
    let state = cluster.path("state");
    let args = ["audit", "--json", "--state", state.to_str().unwrap()];
    let (code, text, _) = beside(&cluster.path("sock"), &args);
    let found: Value = serde_json::from_str(&text).unwrap();
    let rows = found["accounts"].as_array().unwrap();
    assert!(code == Some(0) && rows.iter().all(sums), "{text}");
    assert_eq!(rows[2]["compensated_atp"], lab["refunded_atp"]);
}

/// Names of all kinds; nothing else of a journal holds the letter z twice.
const NAMES: [&str; 9] = [
    "zznode",
    "zzaccount",
    "zzother",
    "zzpool",
    "zzkey",
    "zzvalue",
    "zzresource",
    "zzmodel",
    "zz reason",
];

/// Replays an export; returns the digest at its end, and all that has moved or become of jobs.
fn replay(export: &str) -> (String, Vec<Effect>) {
    let mut lines = export.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let config = serde_json::from_value(lines.next().unwrap()["config"].take()).unwrap();
    let mut grid = Grid::new(config, Time::ZERO).unwrap();
    let mut effects = Vec::new();
    for mut line in lines {
        let command = serde_json::from_value(line["command"].take()).unwrap();
        let number = |key: &str| line[key].as_u64().unwrap();
        let (seq, at) = (Seq::new(number("seq")), Time::from_ms(number("at_ms")));
        let _ = grid.apply(&Entry { seq, at, command }, &mut effects);
    }
    assert!(gridcore::invariants::check(grid.state()).is_empty());
    effects.retain(|effect| !matches!(effect, Effect::Send { .. }));
    (grid.digest().to_string(), effects)
}

#[test]
fn an_export_is_the_whole_history_and_holds_no_name_that_was_not_asked_for() {
    let rules = "atp: { enabled: true }\nresources: [zzresource]\npools: [{ name: zzpool, nodes: all }]\n\
        accounts: [{ name: zzaccount, deposit_atp: 900 }, { name: zzother, deposit_atp: 800 }]";
    let node = "- { name: zznode, owner: zzother, cores: 2, memory_gb: 1, owner_use: none, \
        gpu_model: zzmodel, labels: { zzkey: zzvalue }, resources: { zzresource: 5 }, \
        ssh: { local: HERE/n1 } }\n";
    let cluster = Cluster::of(node, 1, rules);
    let submit = ["-A", "zzaccount", "-t", "1m", "--gpu-model", "zzmodel", "--pool", "zzpool"];
    let job = cluster.submit(&[&submit[..], &["-n", "zznode"]].concat(), "echo zzcommand");
    cluster.until_state(job, "completed");
    assert!(cluster.run(&["drain", "zznode", "--reason", "zz reason"]).status.success());
    // Rules are in it, too.
    let config = std::fs::read_to_string(cluster.path("c.yaml")).unwrap();
    let more = "preemption: { min_gap: 11 }\n";
    let changed = format!("{config}\nexecution:\n  {more}");
    std::fs::write(cluster.path("c.yaml"), changed).unwrap();
    cluster.hang_up();
    house::until("the rules are read", || cluster.log().contains("hold from now on"));
    assert!(cluster.run(&["down"]).status.success());
    let state = cluster.path("state");
    let export = |more: &[&str]| {
        let args = [&["journal", "export", "--state", state.to_str().unwrap()], more].concat();
        let (code, text, said) = beside(&cluster.path("none"), &args);
        assert_eq!((code, said.as_str()), (Some(0), ""));
        text
    };
    let raw = export(&["--raw"]);
    NAMES.iter().for_each(|name| assert!(raw.contains(name), "{name} is not in {raw}"));
    assert!(!raw.contains("zzcommand"), "commands are in no journal");
    let hidden = export(&[]);
    assert!(!hidden.to_lowercase().contains("zz"), "{hidden}");
    assert_eq!(hidden.lines().count(), raw.lines().count());
    assert_ne!(hidden, export(&[]), "each has a key of its own");
    // What was done is the same, whatever the names are; only they make another digest.
    let verified =
        beside(&cluster.path("none"), &["journal", "verify", "--state", state.to_str().unwrap()]).1;
    let ((digest, effects), (other, same)) = (replay(&raw), replay(&hidden));
    assert!(verified.contains(&digest) && digest != other, "{verified}");
    assert!(effects == same && effects.iter().any(|effect| matches!(effect, Effect::Moved(_))));
}

/// Submits over the socket without asking again; returns the status line.
fn submit_once(socket: &Path, number: u64) -> String {
    let job = r#"{"account": "lab", "limit": "1m", "needs": {"cpu_cores": 1}}"#;
    let program = r#"{"command": ["true"]}"#;
    let body =
        format!(r#"{{"client": 7, "number": {number}, "job": {job}, "program": {program}}}"#);
    let mut stream = UnixStream::connect(socket).unwrap();
    let head = "POST /v1/jobs HTTP/1.1\r\nhost: g\r\nconnection: close\r\n";
    let kind = "content-type: application/json";
    write!(stream, "{head}{kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let early = answer.contains("429 ");
    assert_eq!(early, answer.to_lowercase().contains("retry-after: 1"), "{answer}");
    answer.lines().next().unwrap_or_default().to_owned()
}

/// What an account submits beyond its pace is refused for now, and the client asks again; an array
/// is one request, and what takes something back never waits.
#[test]
fn who_submits_too_fast_waits_and_submits_once() {
    let rules = "atp: { enabled: true, caps: { requests_per_second: 1, burst: 2 } }\n\
        accounts: [{ name: lab, deposit_atp: 50000 }, { name: owners }]";
    let cluster = Cluster::begin_owned(rules, "owners");
    let lines: Vec<String> = (0..40).map(|n| submit_once(&cluster.path("sock"), n)).collect();
    let with = |status: &str| lines.iter().filter(|line| line.contains(status)).count();
    // Forty in a row are not asked in forty seconds.
    assert!(with(" 429 ") > 0 && with(" 200 ") >= 2, "{lines:?}");
    assert_eq!(with(" 429 ") + with(" 200 "), 40, "{lines:?}");
    let jobs: std::collections::BTreeSet<u64> =
        (0..4).map(|_| cluster.submit(&["-A", "lab", "-t", "1m"], "true")).collect();
    assert_eq!(jobs.len(), 4);
    let array = ["submit", "-A", "lab", "-t", "1m", "--array", "20", "--", "sleep", "60"];
    let said = String::from_utf8(cluster.run(&array).stdout).unwrap();
    let (first, last) = said.trim().split_once('-').unwrap();
    let parts = first.parse::<u64>().unwrap()..=last.parse().unwrap();
    assert_eq!(parts.clone().count(), 20, "{said}");
    for part in parts {
        assert!(cluster.run(&["cancel", &part.to_string()]).status.success());
    }
    cluster.until_idle();
    let all = cluster.ask(&["history"]).unwrap();
    let rows = all["jobs"].as_array().map_or(0, Vec::len);
    assert_eq!(rows, with(" 200 ") + 4 + 20, "{all}");
}
