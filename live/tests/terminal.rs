//! What others wrote does not steer a terminal, and arrives in a pipe as it was.
//!
//! Needs util-linux' `script` for a pseudo-terminal. Without it this says so and does nothing.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use house::{Cluster, record, until};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// A title, colours in both ways, a line that reads backwards, and text that is none of it.
const HOSTILE: &str =
    "evil\u{1b}]0;owned\u{7}\u{1b}[31m\u{9b}31m\u{202e}txet\u{2066}\u{7f}\u{85}\u{61c} ä😀";

/// Returns whether a terminal would obey a character, or turn what follows.
fn steers(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (c.is_control() && !matches!(c, '\t' | '\r' | '\n'))
}

/// The client on a terminal: what it shows goes where `to` leads.
fn shell(cluster: &Cluster, args: &[&str], to: Stdio) -> Command {
    let quoted = |word: &&str| format!("'{}'", word.replace('\'', "'\\''"));
    let words: Vec<String> = [house::GRIDLIVE].iter().chain(args).map(quoted).collect();
    let mut command = Command::new("script");
    command.args(["-qec", &words.join(" "), "/dev/null"]).stdin(Stdio::null()).stdout(to);
    command.env("GRIDLIVE_SOCKET", cluster.path("sock"));
    command
}

/// Returns what the client said on a terminal: not what that says of the end of its input.
fn said(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("it is text").replace("^D\u{8}\u{8}", "")
}

/// Runs the client on a terminal; returns what is shown there, which steers nothing.
fn shown(cluster: &Cluster, args: &[&str]) -> String {
    let output = shell(cluster, args, Stdio::piped()).output().unwrap();
    let text = said(output.stdout);
    assert!(!text.chars().any(steers), "{args:?}: {text:?}");
    text
}

/// A cluster of two nodes: one works, and the line to the other says what it likes.
fn begin(place: &std::path::Path) -> Cluster {
    let ssh = place.join("bin/ssh");
    std::fs::create_dir_all(place.join("bin")).unwrap();
    std::fs::write(&ssh, format!("#!/bin/sh\ncat >&2 <<'END'\nssh: {HOSTILE}\nEND\nexit 255\n"))
        .unwrap();
    std::fs::set_permissions(&ssh, PermissionsExt::from_mode(0o755)).unwrap();
    let node = "cores: 2, memory_gb: 1, owner_use: none";
    let nodes = format!(
        "- {{ name: bad, {node} }}\n- {{ name: good, {node}, ssh: {{ local: HERE/good }} }}"
    );
    let mut cluster = Cluster::describe(&nodes, "");
    let path = std::env::var("PATH").unwrap();
    cluster.set_env("PATH", format!("{}:{path}", place.join("bin").display()).into());
    cluster.start_daemon();
    until("one node is up", || {
        cluster.ask(&["status"]).is_some_and(|status| status["nodes_up"] == 1)
    });
    cluster
}

#[test]
fn nothing_that_others_wrote_steers_a_terminal() {
    let script = Command::new("script").arg("--version").output();
    if !script.is_ok_and(|output| output.status.success()) {
        record("skipped", "terminal: there is no script; install bsdutils", 0, 1);
        return;
    }
    let folder = tempfile::Builder::new().prefix("glterm").tempdir_in("/tmp").unwrap();
    let cluster = begin(folder.path());
    let heard = cluster.path("heard");
    let to = std::fs::File::create(&heard).unwrap();
    let mut listens = shell(&cluster, &["events", "-f"], to.into()).spawn().unwrap();
    let prints = format!("printf %s '{HOSTILE}'; printf '\\233' >&2; printf %s '{HOSTILE}' >&2");
    let number = |args: &[&str]| {
        let output = cluster.run(args);
        let said = String::from_utf8_lossy(&output.stdout).trim().parse::<u64>();
        said.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    };
    let job = number(&["submit", "--name", HOSTILE, "--", "sh", "-c", &prints]);
    cluster.until_state(job, "completed");
    let (job, mut all) = (job.to_string(), 0);
    let mut has = |args: &[&str], what: &str| {
        let text = shown(&cluster, args);
        assert!(text.contains(what), "{args:?}: {text}");
        all += 1;
    };
    for args in [&["history"][..], &["show", &job], &["logs", &job], &["logs", "--stderr", &job]] {
        has(args, "\\u{202e}txet\\u{2066}");
        has(args, " ä😀");
    }
    has(&["logs", &job], "\\x1b]0;owned\\x07\\x1b[31m\\u{9b}31m");
    has(&["logs", "--stderr", &job], "\\x9bevil");
    has(&["history", "--json"], "\\u001b]0;owned\\u0007\\u001b[31m\\u009b31m\\u202etxet");
    has(&["run", "--", "sh", "-c", &prints], "\\u{9b}31m");
    has(&["wait", &job], "completed");
    has(&["nodes"], "ssh: evil\\u{1b}");
    has(&["show", "bad"], "ssh: evil\\u{1b}");
    has(&["doctor", "bad"], "ssh: evil\\u{1b}");
    has(&["show", HOSTILE], "evil\\u{1b}");
    has(&["submit", "-n", HOSTILE, "--", "true"], "evil\\");
    assert!(cluster.run(&["drain", "good", "--reason", HOSTILE]).status.success());
    has(&["nodes"], "draining: evil\\u{1b}");
    let waits = number(&["submit", "--name", HOSTILE, "--", "true"]).to_string();
    has(&["queue"], "evil\\u{1b}]0;owned\\u{7}");
    has(&["explain", &waits], "draining");
    until("the events were heard", || {
        std::fs::read_to_string(&heard).is_ok_and(|text| text.contains("ended"))
    });
    house::signal(i32::try_from(listens.id()).unwrap(), "TERM");
    listens.wait().unwrap();
    let heard = said(std::fs::read(&heard).unwrap());
    assert!(heard.contains("\\u009b31m") && !heard.chars().any(steers), "{heard:?}");
    assert!(!cluster.log().chars().any(steers), "{:?}", cluster.log());
    record("terminal", "shown", all + 1, 0);
}

#[test]
fn what_a_job_prints_arrives_in_a_pipe_as_it_was() {
    let cluster = Cluster::begin(1, "");
    let bytes: Vec<u8> = (0..=255).chain(HOSTILE.bytes()).collect();
    let octal: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let job = cluster.submit(&[], &format!("printf '{octal}'; printf '{octal}' >&2"));
    cluster.until_state(job, "completed");
    assert_eq!(cluster.run(&["logs", &job.to_string()]).stdout, bytes);
    assert_eq!(cluster.run(&["logs", "--stderr", &job.to_string()]).stderr, bytes);
    let run = cluster.run(&["run", "--", "printf", &octal]);
    assert_eq!(run.stdout, bytes);
}
