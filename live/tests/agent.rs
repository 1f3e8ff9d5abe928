//! Agents that nobody needs cost their machine nothing.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use house::{Cluster, GRIDLIVE, rest, signal, until, with_words};
use std::process::{Command, Stdio};

/// Returns the ticks of processor time that a process has used.
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = stat.rsplit_once(')').unwrap().1;
    rest.split_ascii_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum()
}

#[test]
fn an_agent_that_belongs_nowhere_stands_still() {
    let folder = tempfile::Builder::new().prefix("glalone").tempdir_in("/tmp").unwrap();
    let place = folder.path().join("n1");
    let mut bridge = Command::new(GRIDLIVE);
    bridge.args(["agent", "--stdio", "--dir"]).arg(&place);
    let mut bridge = bridge.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let words = format!("--serve --dir {}", place.display());
    until("its agent is there", || place.join("agent.sock").exists());
    let agent = with_words(&words)[0];
    // Whoever started it goes without a word.
    bridge.kill().unwrap();
    bridge.wait().unwrap();
    rest(500);
    let before = ticks(agent);
    rest(1_500);
    let used = ticks(agent) - before;
    signal(agent, "KILL");
    assert!(used < 30, "it used {used} ticks of 150");
}

#[test]
fn an_agent_whose_folder_is_gone_goes_too() {
    let rules = "resource_sharing: { owner: { poll_seconds: 1 } }";
    let mut cluster = Cluster::begin(1, rules);
    let agent = cluster.agent("n1").unwrap();
    cluster.kill_daemon();
    std::fs::remove_dir_all(cluster.path("n1")).unwrap();
    until("its agent is gone", || std::fs::metadata(format!("/proc/{agent}")).is_err());
}
