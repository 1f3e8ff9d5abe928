//! Who may do what, by the user at the other end of the socket (LIVE.md P19).

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use house::{Cluster, record};

/// Users of nobody's: of an account, of another that owns the node, an administrator, a stranger.
const MEMBER: u32 = 64_711;
const OWNER: u32 = 64_712;
const ADMIN: u32 = 64_713;
const STRANGER: u32 = 64_714;

/// What is done, and how it ends for each of them.
const MATRIX: &[(&[&str], [i32; 4])] = &[
    (&["status"], [0, 0, 0, 7]),
    (&["queue"], [0, 0, 0, 7]),
    (&["nodes"], [0, 0, 0, 7]),
    (&["share"], [0, 0, 0, 7]),
    (&["quota"], [0, 0, 0, 7]),
    (&["prio"], [0, 0, 0, 7]),
    (&["show", "JOB"], [0, 0, 0, 7]),
    (&["logs", "JOB"], [0, 7, 0, 7]),
    (&["hold", "WAITING"], [0, 7, 0, 7]),
    (&["release", "WAITING"], [0, 7, 0, 7]),
    (&["suspend", "JOB"], [0, 7, 0, 7]),
    (&["resume", "JOB"], [0, 7, 0, 7]),
    (&["requeue", "JOB"], [0, 7, 0, 7]),
    (&["ssh", "WAITING"], [5, 7, 5, 7]),
    // Whose own keys, or user, do not reach the node gets no further than to know where it is.
    (&["ssh", "JOB", "--json"], [0, 7, 0, 7]),
    (&["ssh", "JOB"], [1, 7, 1, 7]),
    (&["ssh", "4711"], [4, 4, 4, 7]),
    (&["cancel", "WAITING"], [0, 7, 0, 7]),
    (&["cancel", "JOB"], [0, 7, 0, 7]),
    (&["submit", "--", "true"], [0, 0, 0, 7]),
    (&["submit", "-A", "lab", "--", "true"], [0, 7, 0, 7]),
    (&["submit", "-A", "owners", "--", "true"], [7, 0, 0, 7]),
    // Refused only because nobody uses that node beside the pool.
    (&["reclaim", "n1"], [7, 5, 5, 7]),
    (&["lend", "n1"], [7, 5, 5, 7]),
    (&["drain", "n1"], [7, 7, 0, 7]),
    (&["undrain", "n1"], [7, 7, 0, 7]),
    (&["statement"], [0, 0, 0, 7]),
    (&["statement", "lab"], [0, 7, 0, 7]),
    (&["statement", "owners"], [7, 0, 0, 7]),
    (&["statement", "nobodys"], [7, 7, 4, 7]),
    (&["deposit", "lab", "1"], [7, 7, 0, 7]),
    // Nobody has paid a fee yet: the treasury has nothing to give.
    (&["grant", "lab", "1"], [7, 7, 5, 7]),
    (&["down"], [7, 7, 0, 7]),
];

#[test]
fn everybody_may_do_what_is_theirs_and_nothing_else() {
    if !rustix::process::geteuid().is_root() {
        record("skipped", "access matrix: it needs root, to be several users", 0, 1);
        return;
    }
    let accounts = format!(
        "admins: [\"{ADMIN}\"]\n\
         accounts: [{{ name: lab, users: [\"{MEMBER}\"] }}, {{ name: owners, users: [\"{OWNER}\"] }}]"
    );
    let mut done = 0;
    for (i, user) in [MEMBER, OWNER, ADMIN, STRANGER].into_iter().enumerate() {
        // What one of them is allowed to do is not there any more for the next.
        let cluster = Cluster::begin_owned(&accounts, "owners");
        let job = cluster.submit(&["-A", "lab", "-c", "2"], "sleep 600").to_string();
        cluster.until_state(job.parse().unwrap(), "running");
        let waiting = cluster.submit(&["-A", "lab", "-c", "2"], "true").to_string();
        for (words, wanted) in MATRIX {
            let word = |word: &&str| match *word {
                "JOB" => job.clone(),
                "WAITING" => waiting.clone(),
                word => word.to_owned(),
            };
            let words: Vec<String> = words.iter().map(word).collect();
            if words.first().is_some_and(|verb| verb == "requeue") {
                cluster.until_state(job.parse().unwrap(), "running");
            }
            let args: Vec<&str> = words.iter().map(String::as_str).collect();
            let output = cluster.run_as(user, &args);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(wanted[i]), "{user} {words:?}: {said}");
            done += 1;
        }
        if user == MEMBER {
            let budget = cluster.run_as(user, &["budget", "--json"]);
            let budget = String::from_utf8_lossy(&budget.stdout).into_owned();
            assert!(budget.contains("\"lab\"") && !budget.contains("\"owners\""), "{budget}");
        }
    }
    record("access", "matrix", done, 0);
}

#[test]
fn a_daemon_that_lists_nobody_is_its_own_users_alone() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Cluster::begin(1, "");
    let mode = std::fs::metadata(cluster.path("sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    if rustix::process::geteuid().is_root() {
        assert_eq!(cluster.run_as(STRANGER, &["status"]).status.code(), Some(3));
    }
}
