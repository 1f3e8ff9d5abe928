//! `gridlive up`: a daemon of its own session, and waiting until its nodes are there.

use super::show::cell;
use anyhow::Context;
use gridlive::client::Client;
use gridlive::clock::since_boot;
use gridlive::daemon::Place;
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Starts a daemon that outlives this command.
fn start(place: &Place) -> anyhow::Result<Child> {
    gridlive::agent::order::make_folder(&place.state)?;
    let path = place.state.join("daemon.log");
    let log = File::options().append(true).create(true).mode(0o600).open(&path);
    let log = log.with_context(|| path.display().to_string())?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("daemon").arg("--detached").arg(&place.config);
    command.arg("--state").arg(&place.state).arg("--socket").arg(&place.socket);
    if let Some(remote) = &place.remote {
        command.arg("--listen").arg(remote.listen.to_string());
        if let Some((cert, key)) = &remote.tls {
            command.arg("--tls-cert").arg(cert).arg("--tls-key").arg(key);
        }
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().context("the daemon does not start")
}

/// Starts a daemon and waits until every node is there, or for so many seconds.
///
/// # Errors
/// When the daemon does not start, or not every node is there in time.
pub(super) async fn run(place: &Place, seconds: u64) -> anyhow::Result<()> {
    let client = Client::new(&place.socket);
    anyhow::ensure!(
        client.get("/v1/status").await.is_err(),
        "a daemon answers on {} already",
        place.socket.display()
    );
    let began = since_boot();
    let mut daemon = start(place)?;
    let log = place.state.join("daemon.log");
    let mut seen = 0;
    loop {
        if let Some(status) = daemon.try_wait()? {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let last = said.lines().next_back().unwrap_or_default().to_owned();
            anyhow::bail!("the daemon has ended ({status}): {last}\nsee {}", log.display());
        }
        let passed = since_boot().since(began).get();
        if let Ok(status) = client.get("/v1/status").await {
            let (up, all) = (status["nodes_up"].as_u64(), status["nodes"].as_u64());
            if up > Some(seen) {
                seen = up.unwrap_or(0);
                println!(
                    "{:>5}.{} s  {seen} of {} nodes",
                    passed / 1_000,
                    passed % 1_000 / 100,
                    cell(&status["nodes"])
                );
            }
            if up == all {
                return Ok(());
            }
        }
        if passed > seconds * 1_000 {
            let found = client.get("/v1/nodes").await.unwrap_or_default();
            for node in found["nodes"].as_array().into_iter().flatten() {
                if let Value::String(error) = &node["error"] {
                    eprintln!("{}: {}", cell(&node["node"]), cell(&Value::String(error.clone())));
                }
            }
            anyhow::bail!("not every node is there after {seconds} s; the daemon goes on trying");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
