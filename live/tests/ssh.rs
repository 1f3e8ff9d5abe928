//! Nodes over SSH: an sshd of our own on this machine, with keys and known hosts of its own.
//!
//! Needs `sshd`; the test command installs it. Without it this says so and does nothing.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use house::sshd::Sshd;
use house::{Cluster, record, rest, signal, until};
use std::process::{Command, Stdio};

#[test]
fn nodes_over_ssh_are_brought_their_agent_measured_and_adopted() {
    let folder = tempfile::Builder::new().prefix("glssh").tempdir_in("/tmp").unwrap();
    let Some(mut sshd) = Sshd::start(folder.path()) else {
        println!("skipped: there is no sshd; install openssh-server");
        return;
    };
    let nodes: String = (1..=3).map(|n| sshd.node(&format!("host{n}"))).collect();
    let mut cluster = Cluster::of(&nodes, 3, "");
    let status = cluster.ask(&["status"]).unwrap();
    let cores = std::thread::available_parallelism().unwrap().get() * 3;
    assert_eq!(
        status["capacity"]["cpu_cores"].to_string(),
        format!("{cores}.0"),
        "every machine was measured"
    );
    let agents = folder.path().join("home/.gridlive/agents");
    assert_eq!(std::fs::read_dir(&agents).unwrap().count(), 1, "one build is there");
    let jobs: Vec<u64> =
        (0..6).map(|n| cluster.submit(&[], &format!("echo {n} on $GRID_NODE"))).collect();
    cluster.until_idle();
    for (n, job) in (0..).zip(&jobs) {
        assert!(cluster.output(*job).starts_with(&format!("{n} on host")));
    }
    // A shell beside a job goes the daemon's way, with a terminal where it is started on one.
    let job = cluster.submit(&["-c", "1"], "sleep 600");
    cluster.until_state(job, "running");
    let node = cluster.job(job)["nodes"][0].as_str().unwrap().to_owned();
    let words = "echo on $GRID_NODE of $GRID_JOB_ID; tty; pwd; exit 7\n";
    let (code, said) = house::shell_beside(&cluster, &[&job.to_string()], words);
    assert_eq!(code, Some(7), "{said}");
    assert!(said.contains(&format!("on {node} of {job}\nnot a tty\n")), "{said}");
    assert!(said.contains("/home/.gridlive/nodes/") && !said.contains("no part"), "{said}");
    if let Some((code, said)) = house::shell_on_terminal(&cluster, &[&job.to_string()], words) {
        assert_eq!(code, Some(7), "{said}");
        assert!(said.contains("it is no part of the job") && said.contains("/dev/pts/"), "{said}");
        assert!(said.contains(&format!("on {node} of {job}\r\n")), "{said}");
    }
    // Strict keys hold for it, too.
    sshd.know_by("user.pub");
    let (code, said) = house::shell_beside(&cluster, &[&job.to_string()], words);
    assert!(code == Some(255) && !said.contains(&format!("of {job}")), "{said}");
    sshd.know_by("host.pub");
    assert!(cluster.run(&["cancel", &job.to_string()]).status.success());
    cluster.until_idle();
    // The lines break; what runs goes on, and is adopted.
    let job = cluster.submit(&[], "sleep 2; echo through");
    cluster.until_state(job, "running");
    let lines: Vec<i32> = house::with_words("gridlive agent --stdio --dir .gridlive/nodes/");
    lines.into_iter().for_each(|pid| signal(pid, "KILL"));
    rest(300);
    let ended = cluster.until_state(job, "completed");
    assert_eq!((&ended["attempts"], cluster.output(job).as_str()), (&1.into(), "through\n"));
    // A host whose key is another's is not talked to.
    sshd.know_by("user.pub");
    cluster.kill_daemon();
    cluster.start_daemon();
    until("the daemon says why", || {
        cluster.ask(&["nodes"]).is_some_and(|found| {
            let error = found["nodes"][0]["error"].as_str().unwrap_or_default().to_owned();
            error.contains("verification failed") || error.contains("changed")
        })
    });
    sshd.know_by("host.pub");
    until("the nodes are back", || cluster.ask(&["status"]).is_some_and(|s| s["nodes_up"] == 3));
    assert!(cluster.run(&["down"]).status.success());
    until("nothing is left there", || !folder.path().join("home/.gridlive").exists());
    sshd.stop();
    record("ssh", "hosts", 3, jobs.len() as u64 + 1);
}

#[test]
fn a_host_is_trusted_once_its_keys_were_seen() {
    let folder = tempfile::Builder::new().prefix("gltrust").tempdir_in("/tmp").unwrap();
    let Some(sshd) = Sshd::start(folder.path()) else {
        println!("skipped: there is no sshd; install openssh-server");
        return;
    };
    let known = folder.path().join("new/known_hosts");
    let trust = |more: &[&str]| {
        let mut command = Command::new(house::GRIDLIVE);
        command.args(["trust", "127.0.0.1", "-p", &sshd.port.to_string(), "--known-hosts"]);
        let output = command.arg(&known).args(more).stdin(Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let (done, said) = trust(&[]);
    assert!(!done && said.contains("SHA256:") && said.contains("nobody is here"), "{said}");
    assert!(!known.exists());
    let (done, said) = trust(&["--yes"]);
    assert!(done && said.contains("trusted from now on"), "{said}");
    let key = std::fs::read_to_string(folder.path().join("host.pub")).unwrap();
    let key = key.split_whitespace().nth(1).unwrap();
    assert!(std::fs::read_to_string(&known).unwrap().contains(key));
    let (done, said) = trust(&["--yes"]);
    assert!(done && said.contains("already"), "{said}");
    let mut odd = Command::new(house::GRIDLIVE);
    assert_eq!(odd.args(["trust", "a;b"]).output().unwrap().status.code(), Some(1));
}
