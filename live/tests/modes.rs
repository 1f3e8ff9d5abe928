//! Who may read what daemon and agents make: their user alone, with whatever umask they start.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use house::{Cluster, until};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

fn mode(path: &Path) -> Option<u32> {
    Some(std::fs::symlink_metadata(path).ok()?.permissions().mode() & 0o7777)
}

/// Checks everything below a folder, and the folder; returns how much there is.
fn check(path: &Path, umask: &str) -> usize {
    // What is being written is renamed when it is whole.
    let Ok(kind) = std::fs::symlink_metadata(path).map(|found| found.file_type()) else { return 0 };
    // A socket's mode is all that the umask leaves (bind(2)).
    let wanted = if kind.is_dir() || kind.is_socket() { 0o700 } else { 0o600 };
    let right = mode(path).is_none_or(|mode| mode == wanted);
    assert!(right, "{} is {:?} under umask {umask}", path.display(), mode(path));
    // What a job makes is its own.
    if !kind.is_dir() || path.parent().is_some_and(|above| above.ends_with("work")) {
        return 1;
    }
    let below = std::fs::read_dir(path).unwrap().map(|entry| check(&entry.unwrap().path(), umask));
    1 + below.sum::<usize>()
}

/// Starts a cluster of one node, whose daemon and agent have this umask.
fn begin(place: &Path, umask: &str, accounts: &str) -> Cluster {
    let program = place.join("gridlive");
    let script = format!("#!/bin/sh\numask {umask}\nexec '{}' \"$@\"\n", house::GRIDLIVE);
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let node = "- { name: n1, cores: 2, memory_gb: 1, owner_use: none, ssh: { local: HERE/n1 } }";
    let mut cluster = Cluster::describe(node, accounts);
    cluster.set_program(program);
    cluster.start_daemon();
    until("the node is up", || {
        cluster.ask(&["status"]).is_some_and(|status| status["nodes_up"] == 1)
    });
    cluster
}

#[test]
fn what_daemon_and_agents_make_is_their_users_alone_under_any_umask() {
    for umask in ["000", "077", "777"] {
        let folder = tempfile::Builder::new().prefix("glmode").tempdir_in("/tmp").unwrap();
        let cluster = begin(folder.path(), umask, "");
        let script = "trap 'stat -c %a $GRID_NOTICE_FILE; exit 0' TERM; umask; touch made; \
                      stat -c %a made; echo ready; while :; do sleep 0.1; done";
        let job = cluster.submit(&["-t", "10m"], script);
        until("it is there", || cluster.output(job).contains("ready"));
        assert_eq!(cluster.output(job), "0022\n644\nready\n");
        let (state, node) = (cluster.path("state"), cluster.path("n1"));
        assert!(check(&state, umask) > 5 && check(&node, umask) > 15);
        assert_eq!(mode(&cluster.path("sock")), Some(0o600));
        // Its notice is a file, too.
        assert!(cluster.run(&["cancel", &job.to_string()]).status.success());
        until("it was told", || cluster.output(job).ends_with("ready\n600\n"));
        check(&state, umask);
        check(&node, umask);
    }
}

#[test]
fn a_socket_for_several_users_is_open_under_any_umask() {
    let folder = tempfile::Builder::new().prefix("glmode").tempdir_in("/tmp").unwrap();
    let cluster = begin(folder.path(), "077", "accounts: [{ name: lab, users: [\"64711\"] }]");
    assert_eq!(mode(&cluster.path("sock")), Some(0o666));
}
