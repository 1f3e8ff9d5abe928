//! What ran for real is what is replayed: a history with faults, through the simulator's own binary.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use house::{Cluster, GRIDLIVE, rest, signal, until};
use std::path::Path;
use std::process::Command;

/// Builds the simulator beside the program under test.
fn gridsim() -> std::path::PathBuf {
    let target = Path::new(GRIDLIVE).ancestors().nth(2).unwrap();
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--package", "gridsim", "--target-dir"]).arg(target);
    build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
    assert!(build.status().unwrap().success());
    target.join("debug").join("gridsim")
}

#[test]
fn a_real_history_with_faults_replays_to_the_digest_that_the_daemon_told() {
    let program = gridsim();
    let rules = "lease: { term_seconds: 10 }\n\
                 resource_sharing: { owner: { poll_seconds: 1, kill_seconds: 1 } }";
    let mut cluster = Cluster::begin(3, rules);
    let say = |cluster: &Cluster, words: &[&str]| assert!(cluster.run(words).status.success());
    let long: Vec<String> =
        (0..4).map(|_| cluster.submit(&["-c", "1"], "sleep 600").to_string()).collect();
    let first = cluster.submit(&["-c", "1"], "exit 3");
    cluster.submit(&["-c", "1", "--after", &long[0]], "true");
    assert!(cluster.run(&["submit", "--array", "20", "-c", "0.1", "--", "true"]).status.success());
    cluster.until_state(first, "failed");
    say(&cluster, &["suspend", &long[0]]);
    say(&cluster, &["requeue", &long[1]]);
    say(&cluster, &["cancel", &long[2]]);
    say(&cluster, &["drain", "n3", "--reason", "dust"]);
    // The node dies with its jobs' keepers, the daemon in the middle of it all, and again.
    cluster.processes_of("n1").into_iter().for_each(|pid| signal(pid, "KILL"));
    cluster.kill_daemon();
    cluster.start_daemon();
    signal(cluster.agent("n2").unwrap(), "KILL");
    rest(500);
    cluster.kill_daemon();
    cluster.start_daemon();
    until("it answers", || cluster.ask(&["status"]).is_some());
    cluster.stop_daemon();
    cluster.start_daemon();
    until("all that can end has ended", || {
        let queue = cluster.ask(&["queue"]).unwrap_or_default();
        let jobs = queue["jobs"].as_array().cloned().unwrap_or_default();
        !jobs.is_empty()
            && jobs.iter().all(|job| job["name"] != "true" || job["state"] == "dependent")
    });
    say(&cluster, &["cancel", &long[0]]);
    say(&cluster, &["cancel", &long[1]]);
    say(&cluster, &["cancel", &long[3]]);
    until("what ran has ended", || {
        cluster.ask(&["leases"]).is_some_and(|found| found["leases"].as_array().unwrap().is_empty())
    });
    cluster.stop_daemon();
    let told = cluster.log();
    let mut verify = Command::new(GRIDLIVE);
    let verify = verify.args(["journal", "verify", "--state"]).arg(cluster.path("state"));
    let verified = verify.output().unwrap();
    let verified = String::from_utf8(verified.stdout).unwrap();
    let digest = verified.rsplit(' ').next().unwrap().trim();
    let journal = cluster.path("state/journal");
    let replayed = Command::new(program).arg("replay").arg(&journal).output().unwrap();
    let said = String::from_utf8(replayed.stdout).unwrap();
    assert!(replayed.status.success() && said.contains(digest), "{verified}{said}{told}");
    // And what the daemon itself comes to, from its snapshot and the rest.
    cluster.start_daemon();
    until("it answers", || cluster.ask(&["status"]).is_some());
    cluster.check_replay();
}
