//! Requests from other machines: TLS, tokens, and what is refused without them.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use house::{Cluster, GRIDLIVE, until};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};

/// A cluster that listens, and the address.
fn listening() -> (Cluster, u16) {
    let accounts = "accounts: [{ name: lab, users: [daemon] }, { name: others }]";
    let mut cluster = Cluster::begin(1, accounts);
    cluster.stop_daemon();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    cluster.add_args(&["--listen", &format!("127.0.0.1:{port}")]);
    cluster.start_daemon();
    cluster.until_up_but_busy();
    (cluster, port)
}

fn token(cluster: &Cluster, more: &[&str]) -> String {
    let mut command = Command::new(GRIDLIVE);
    command.arg("token").args(more).arg("--state").arg(cluster.path("state"));
    let output = command.output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Asks as another machine would.
fn ask(server: &str, ca: &PathBuf, token: &str, args: &[&str]) -> Output {
    let mut command = Command::new(GRIDLIVE);
    command.env("GRIDLIVE_SERVER", server).env("GRIDLIVE_CA", ca).env("GRIDLIVE_TOKEN", token);
    command.args(args).output().unwrap()
}

#[test]
fn other_machines_ask_with_a_token_over_tls_and_not_without() {
    let (cluster, port) = listening();
    let (server, ca) = (format!("https://localhost:{port}"), cluster.path("state/tls-cert.pem"));
    let (admin, ada) = (token(&cluster, &["root"]), token(&cluster, &["daemon"]));
    let code = |token: &str, args: &[&str]| ask(&server, &ca, token, args).status.code();
    // All verbs go this way, streams and input included.
    let output =
        ask(&server, &ca, &ada, &["run", "-A", "lab", "--", "sh", "-c", "echo $GRID_NODE"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"n1\n"[..]));
    assert_eq!(code(&ada, &["submit", "-A", "others", "--", "true"]), Some(7));
    assert_eq!(code(&ada, &["drain", "n1"]), Some(7));
    assert_eq!(code(&admin, &["drain", "n1"]), Some(0));
    assert_eq!(code(&admin, &["undrain", "n1"]), Some(0));
    // No token, another's, one that was taken back, one of a user whom nobody lists.
    let stranger = token(&cluster, &["mallory"]);
    for wrong in ["x", "grid_0", &ada[..40], &stranger] {
        assert_eq!(code(wrong, &["status"]), Some(7), "{wrong}");
    }
    assert_eq!(code(&ada, &["status"]), Some(0));
    token(&cluster, &["daemon", "--revoke"]);
    assert_eq!(code(&ada, &["status"]), Some(7));
    let kept = std::fs::read_to_string(cluster.path("state/tokens")).unwrap();
    assert!(!kept.contains(&admin));
    let openly = format!("http://localhost:{port}");
    assert_eq!(ask(&openly, &ca, &admin, &["status"]).status.code(), Some(1));
    let by_ip = ask(&format!("https://127.0.0.1:{port}"), &ca, &admin, &["status"]);
    assert!(by_ip.status.success());
}

#[test]
fn what_is_no_tls_gets_no_answer_and_keeps_nobody_waiting() {
    let (cluster, port) = listening();
    let ca = cluster.path("state/tls-cert.pem");
    let admin = token(&cluster, &["root"]);
    // Some say nothing, some speak plainly.
    let silent: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let mut plain = TcpStream::connect(("127.0.0.1", port)).unwrap();
    plain.write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    let server = format!("https://localhost:{port}");
    until("others are answered", || ask(&server, &ca, &admin, &["status"]).status.success());
    drop(silent);
    // A server whose certificate is not the one we were given is none of ours.
    let (second, its) = listening();
    let answer = ask(&format!("https://localhost:{its}"), &ca, &admin, &["status"]);
    assert_eq!(answer.status.code(), Some(3), "{}", String::from_utf8_lossy(&answer.stderr));
    drop(second);
}
