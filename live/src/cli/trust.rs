//! `gridlive trust HOST`: a host's keys, shown before they are believed.

use anyhow::Context;
use clap::Args;
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What to trust, and where that is noted.
#[derive(Debug, Args)]
pub(super) struct TrustArgs {
    /// The host, as ssh is to reach it.
    host: String,
    /// Its port.
    #[arg(long, short = 'p', default_value_t = 22)]
    port: u16,
    /// The file of known hosts [default: ~/.ssh/known_hosts].
    #[arg(long)]
    known_hosts: Option<PathBuf>,
    /// Do not ask: the fingerprints were compared elsewhere.
    #[arg(long)]
    yes: bool,
}

/// Asks a host for its keys, shows their fingerprints, and notes them once somebody agrees.
///
/// # Errors
/// When the host does not answer, is known by other keys, or nobody agrees.
pub(super) fn run(args: &TrustArgs) -> anyhow::Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
    let named = args.host.chars().all(plain) && !args.host.starts_with('-');
    anyhow::ensure!(named && !args.host.is_empty(), "{:?} is no name of a host", args.host);
    let file = match &args.known_hosts {
        Some(file) => file.clone(),
        None => {
            let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
            let home = home.context("HOME is not set: say --known-hosts")?;
            PathBuf::from(home).join(".ssh/known_hosts")
        }
    };
    let port = args.port.to_string();
    let mut scan = Command::new("ssh-keyscan");
    scan.args(["-T", "10", "-p", &port, &args.host]).stderr(Stdio::null());
    let keys = scan.output().context("ssh-keyscan cannot be run: install OpenSSH")?.stdout;
    let keys: String = String::from_utf8_lossy(&keys)
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    anyhow::ensure!(!keys.is_empty(), "{} does not answer on port {port}", args.host);
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    let fresh: Vec<&str> = keys.lines().filter(|key| !known.lines().any(|k| k == *key)).collect();
    if fresh.is_empty() {
        println!("{} is trusted already, by {}", args.host, file.display());
        return Ok(());
    }
    println!("{} says it is:", args.host);
    print!("{}", super::screen::lines(&fingerprints(&keys)?));
    if !args.yes {
        println!(
            "Compare with what its administrator sees: ssh-keygen -lf /etc/ssh/ssh_host_*.pub"
        );
        anyhow::ensure!(
            std::io::stdin().is_terminal(),
            "nobody is here to agree: compare the fingerprints and say --yes"
        );
        print!("Trust it? [y/N] ");
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        anyhow::ensure!(matches!(answer.trim(), "y" | "yes"), "it is not trusted");
    }
    if let Some(folder) = file.parent() {
        gridlive::agent::order::make_folder(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    let mut to = options.append(true).create(true).mode(0o600).open(&file)?;
    let cut = if known.is_empty() || known.ends_with('\n') { "" } else { "\n" };
    to.write_all(format!("{cut}{}\n", fresh.join("\n")).as_bytes())?;
    to.sync_all()?;
    println!("{} is trusted from now on, by {}", args.host, file.display());
    Ok(())
}

/// Returns the fingerprints of keys, a line each.
fn fingerprints(keys: &str) -> anyhow::Result<String> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-l", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("ssh-keygen cannot be run: install OpenSSH")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(keys.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    anyhow::ensure!(output.status.success(), "the host's answer holds no keys");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
