//! The way to a node: how `ssh` is called, and what the shell there is given to run.
//!
//! The daemon's lines and `gridlive ssh` go the same way. What runs there is made of constants and
//! numbers of ours: no word of a user is in it.

use gridcore::ids::{LeaseId, NodeId};
use gridsim::scenario::schema::Ssh;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

/// What the remote command prints where the agent is missing.
pub const MISSING: &str = "GRIDLIVE-AGENT-MISSING";

/// The way to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The node's name, for people.
    pub name: String,
    /// How it is reached.
    pub ssh: Ssh,
    /// Where its agent's folder is, from the home directory there: numbers of ours.
    pub place: String,
}

/// Returns where the folder of a node's agent is, from the home directory there.
#[must_use]
pub fn place(cluster: u64, node: NodeId) -> String {
    format!(".gridlive/nodes/{cluster:016x}-{}", node.get())
}

impl Way {
    /// Returns the words of an `ssh` that runs a script of ours there, with a terminal or without.
    #[must_use]
    pub fn ssh(&self, terminal: bool, script: &str) -> Vec<String> {
        let mut words = vec![if terminal { "-t" } else { "-T" }.to_owned()];
        let mut add = |more: &[&str]| words.extend(more.iter().map(ToString::to_string));
        add(&["-o", "BatchMode=yes", "-o", "ClearAllForwardings=yes"]);
        add(&["-o", "StrictHostKeyChecking=yes", "-o", "ServerAliveInterval=15"]);
        let seconds = self.ssh.connect_timeout.unwrap_or(15);
        add(&["-o", &format!("ConnectTimeout={seconds}")]);
        if let Some(port) = self.ssh.port {
            add(&["-p", &port.to_string()]);
        }
        if let Some(user) = &self.ssh.user {
            add(&["-l", user]);
        }
        if let Some(key) = &self.ssh.identity_file {
            add(&["-i", key, "-o", "IdentitiesOnly=yes"]);
        }
        if let Some(known) = &self.ssh.known_hosts {
            add(&["-o", &format!("UserKnownHostsFile={known}")]);
        }
        add(&["--", self.ssh.host.as_deref().unwrap_or(&self.name), script]);
        words
    }

    /// Returns what the remote shell runs for a line: the agent of this build, which it takes from
    /// its input first where it is missing, whole or not at all.
    ///
    /// # Errors
    /// When this program's own file cannot be read.
    pub fn line_script(&self) -> io::Result<String> {
        let (hash, size) = (own_hash()?, own_binary()?.metadata()?.len());
        let (place, agent) = (&self.place, agent(&hash));
        let folder = agent.trim_end_matches("/gridlive");
        let new = format!("{folder}/new.$$");
        Ok(format!(
            "cd && if [ ! -x {agent} ]; then echo {MISSING} && umask 077 && mkdir -p {folder} && \
             head -c {size} > {new} && echo {hash}  {new} | sha256sum -c - >/dev/null && \
             chmod 700 {new} && mv {new} {agent}; fi && exec {agent} agent --stdio --dir {place}"
        ))
    }

    /// Returns what the remote shell runs to become one beside the job of a lease. `None` when the
    /// hash of the agent there is none.
    #[must_use]
    pub fn enter_script(&self, hash: &str, lease: LeaseId) -> Option<String> {
        let digits = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let (place, lease, agent) = (&self.place, lease.get(), agent(hash));
        let script = format!("cd && exec {agent} enter --dir {place} {lease}");
        (hash.len() == 64 && digits(hash)).then_some(script)
    }
}

/// Returns the agent's file, from the home directory there.
fn agent(hash: &str) -> String {
    format!(".gridlive/agents/{hash}/gridlive")
}

/// Opens this program's own file.
///
/// # Errors
/// When it cannot be read.
pub fn own_binary() -> io::Result<File> {
    File::open("/proc/self/exe")
}

/// Returns the hash of this program's own file.
///
/// # Errors
/// When it cannot be read.
pub fn own_hash() -> io::Result<String> {
    static HASH: Mutex<Option<String>> = Mutex::new(None);
    let mut kept = HASH.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(hash) = &*kept {
        return Ok(hash.clone());
    }
    let mut hasher = Sha256::new();
    io::copy(&mut own_binary()?, &mut hasher)?;
    let digest = hasher.finalize();
    let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    *kept = Some(hash.clone());
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_of_anybody_s_is_in_what_the_remote_shell_runs() {
        let name = "$(touch x)".to_owned();
        let ssh = Ssh { user: Some("'; y".into()), host: Some("-oz".into()), ..Ssh::default() };
        let way = Way { name, ssh, place: place(0xabc, NodeId::new(3)) };
        let hash = "0123456789abcdef".repeat(4);
        let script = way.enter_script(&hash, LeaseId::new(9)).unwrap();
        assert_eq!(
            script,
            format!(
                "cd && exec .gridlive/agents/{hash}/gridlive enter \
                 --dir .gridlive/nodes/0000000000000abc-3 9"
            )
        );
        for odd in ["", "; true", &"A".repeat(64), &format!("{hash}0")] {
            assert_eq!(way.enter_script(odd, LeaseId::new(9)), None, "{odd}");
        }
        let words = way.ssh(true, &script);
        assert_eq!(words.first().map(String::as_str), Some("-t"));
        assert!(words.windows(2).any(|pair| *pair == ["-o", "StrictHostKeyChecking=yes"]));
        // What looks like an option is a host.
        assert_eq!(words[words.len() - 3..], ["--".to_owned(), "-oz".to_owned(), script]);
    }
}
