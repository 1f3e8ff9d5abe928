//! A shell where a job runs, by the way that the daemon goes.

use super::show::coded;
use super::{Asking, screen};
use anyhow::Context;
use clap::Args;
use gridcore::ids::{LeaseId, NodeId};
use gridlive::daemon::way::{Way, place};
use gridsim::scenario::schema::Ssh;
use serde_json::Value;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Which job, and where.
#[derive(Debug, Args)]
pub(super) struct SshArgs {
    /// Its number.
    job: u64,
    /// Which node of a gang [default: the first].
    #[arg(long)]
    node: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

/// Becomes a shell beside a job; with `--json` only says where that is.
pub(super) async fn run(args: &SshArgs) -> anyhow::Result<ExitCode> {
    let which = args.node.as_ref().map(|node| format!("?node={}", coded(node)));
    let path = format!("/v1/jobs/{}/place{}", args.job, which.unwrap_or_default());
    let found = args.asking.client()?.get(&path).await?;
    if args.asking.json {
        println!("{}", screen::json(&found));
        return Ok(ExitCode::SUCCESS);
    }
    let here = args.asking.server.is_none();
    let other = "that node is the daemon's own machine: open the shell there";
    anyhow::ensure!(here || found["ssh"]["local"].is_null(), other);
    let mut command = command(&found)?;
    // It takes this process's place: its end is this command's.
    let error = command.exec();
    Err(error).with_context(|| command.get_program().to_string_lossy().into_owned())
}

/// Returns what becomes the shell.
fn command(found: &Value) -> anyhow::Result<Command> {
    let number = |key: &str| found[key].as_u64().with_context(|| format!("no {key} came back"));
    let text = |key: &str| found[key].as_str().unwrap_or_default();
    let ssh: Ssh = serde_json::from_value(found["ssh"].clone())?;
    let lease = LeaseId::new(number("lease")?);
    if let Some(folder) = &ssh.local {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["enter", "--dir", folder]).arg(lease.get().to_string());
        return Ok(command);
    }
    let cluster = u64::from_str_radix(text("cluster"), 16)?;
    let node = NodeId::new(u32::try_from(number("number")?)?);
    let way = Way { name: text("node").to_owned(), ssh, place: place(cluster, node) };
    let script = way.enter_script(text("agent"), lease);
    let script = script.context("the daemon names no agent")?;
    let mut command = Command::new("ssh");
    command.args(way.ssh(std::io::stdin().is_terminal(), &script));
    Ok(command)
}
