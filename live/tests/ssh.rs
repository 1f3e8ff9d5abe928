//! Nodes over SSH: an sshd of our own on this machine, with keys and known hosts of its own.
//!
//! Needs `sshd`; the test command installs it. Without it this says so and does nothing.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use house::{Cluster, record, rest, signal, until};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// An sshd for one user on loopback.
struct Sshd {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sshd_path() -> Option<PathBuf> {
    ["/usr/sbin/sshd", "/usr/bin/sshd"].map(PathBuf::from).into_iter().find(|path| path.exists())
}

fn key(path: &Path) {
    let mut command = Command::new("ssh-keygen");
    let made = command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
    assert!(made.unwrap().success());
}

impl Sshd {
    /// Starts one whose users are at home in a folder, and whose shell prints a banner.
    fn start(folder: &Path) -> Option<Self> {
        let sshd = sshd_path()?;
        std::fs::create_dir_all(folder.join("home")).unwrap();
        for name in ["host", "user"] {
            key(&folder.join(name));
        }
        let public = std::fs::read_to_string(folder.join("user.pub")).unwrap();
        std::fs::write(folder.join("authorized"), public).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let at = folder.display();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nPidFile none\n\
             AuthorizedKeysFile {at}/authorized\nStrictModes no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin yes\nUsePAM no\n\
             ForceCommand export HOME={at}/home; echo 'Welcome! \\033[31m news'; \
             exec sh -c \"$SSH_ORIGINAL_COMMAND\"\n"
        );
        std::fs::write(folder.join("sshd_config"), config).unwrap();
        // Where sshd keeps the processes that look at keys apart.
        let _ = std::fs::create_dir_all("/run/sshd");
        let log = std::fs::File::create(folder.join("sshd.log")).unwrap();
        let child = Command::new(sshd)
            .args(["-D", "-e", "-f"])
            .arg(folder.join("sshd_config"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        until("sshd listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        let host = std::fs::read_to_string(folder.join("host.pub")).unwrap();
        std::fs::write(folder.join("known"), format!("[127.0.0.1]:{port} {host}")).unwrap();
        Some(Self { child, port, folder: folder.to_owned() })
    }

    /// Returns the keys of a node that it serves.
    fn node(&self, name: &str) -> String {
        let (at, port) = (self.folder.display(), self.port);
        let mut line = format!("- {{ name: {name}, owner_use: none, ");
        writeln!(
            line,
            "ssh: {{ host: 127.0.0.1, port: {port}, identity_file: {at}/user, \
             known_hosts: {at}/known }} }}"
        )
        .unwrap();
        line
    }
}

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
    // The lines break; what runs goes on, and is adopted.
    let job = cluster.submit(&[], "sleep 2; echo through");
    cluster.until_state(job, "running");
    let lines: Vec<i32> = house::with_words("gridlive agent --stdio --dir .gridlive/nodes/");
    lines.into_iter().for_each(|pid| signal(pid, "KILL"));
    rest(300);
    let ended = cluster.until_state(job, "completed");
    assert_eq!((&ended["attempts"], cluster.output(job).as_str()), (&1.into(), "through\n"));
    // A host whose key is another's is not talked to.
    let stranger = std::fs::read_to_string(folder.path().join("user.pub")).unwrap();
    let line = format!("[127.0.0.1]:{} {stranger}", sshd.port);
    std::fs::write(folder.path().join("known"), line).unwrap();
    cluster.kill_daemon();
    cluster.start_daemon();
    until("the daemon says why", || {
        cluster.ask(&["nodes"]).is_some_and(|found| {
            let error = found["nodes"][0]["error"].as_str().unwrap_or_default().to_owned();
            error.contains("verification failed") || error.contains("changed")
        })
    });
    let host = std::fs::read_to_string(folder.path().join("host.pub")).unwrap();
    std::fs::write(folder.path().join("known"), format!("[127.0.0.1]:{} {host}", sshd.port))
        .unwrap();
    until("the nodes are back", || cluster.ask(&["status"]).is_some_and(|s| s["nodes_up"] == 3));
    assert!(cluster.run(&["down"]).status.success());
    until("nothing is left there", || !folder.path().join("home/.gridlive").exists());
    sshd.child.kill().unwrap();
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
