//! What a job runs: kept by the daemon in a file of its own, synced before the journal names it,
//! and sent to the node that is to run it. The core only carries its number.

use rustix::fs::Mode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Most bytes of a program: command and environment.
pub const PROGRAM_MAX: usize = 512 << 10;

/// What a job runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The job's name, for people.
    #[serde(default)]
    pub name: String,
    /// The command and its arguments; it is executed as it is, no shell reads it. None holds
    /// capacity without running anything.
    #[serde(default)]
    pub command: Vec<String>,
    /// Its environment, beside what the grid sets.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// The folder it runs in; without it one of its own.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Who submitted it, for people.
    #[serde(default)]
    pub user: String,
    /// Whether somebody sends it what it reads; without that it reads nothing.
    #[serde(default)]
    pub input: bool,
}

impl Program {
    /// Checks what no machine could run.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn check(&self) -> Result<(), String> {
        let all = || {
            let env = self.env.iter().flat_map(|(key, value)| [key, value]);
            self.command.iter().chain(env).chain(&self.cwd).chain([&self.name, &self.user])
        };
        if let Some(text) = all().find(|text| text.contains('\0')) {
            return Err(format!("{text:?} holds a zero byte: no command line can"));
        }
        let bytes: usize = all().map(|text| text.len() + 9).sum();
        if bytes > PROGRAM_MAX {
            return Err(format!(
                "command and environment have {bytes} bytes; at most {PROGRAM_MAX}"
            ));
        }
        if self.command.first().is_some_and(String::is_empty) {
            return Err("the command is empty".to_owned());
        }
        let named = |key: &String| !key.is_empty() && !key.contains('=');
        if let Some((key, _)) = self.env.iter().find(|(key, _)| !named(key)) {
            return Err(format!("{key:?} is no name of an environment variable"));
        }
        match &self.cwd {
            Some(cwd) if !cwd.starts_with('/') => Err(format!("cwd is {cwd:?}: give a full path")),
            Some(_) | None => Ok(()),
        }
    }
}

/// Keeps what this process makes to its user, with whatever umask it was started.
pub fn keep_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Writes bytes to a file so that it is there whole or not at all, synced, for its owner only.
///
/// # Errors
/// When the disk does not take it.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes, true)
}

/// Writes bytes as [`write_whole`] does, for as long as the machine runs.
///
/// # Errors
/// When the disk does not take it.
pub fn write_unsynced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes, false)
}

fn put(path: &Path, bytes: &[u8], synced: bool) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.new"));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    if synced {
        file.sync_all()?;
    }
    std::fs::rename(&beside, path)?;
    if synced { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Writes a value with its checksum, as [`write_whole`].
///
/// # Errors
/// When the disk does not take it.
pub fn save<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    put(path, &checked(value)?, true)
}

/// Writes a value as [`save`] does, for as long as the machine runs: a power failure may lose it.
///
/// # Errors
/// When the disk does not take it.
pub fn note<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    put(path, &checked(value)?, false)
}

/// Returns a value's bytes with their checksum.
fn checked<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let body = gridcore::encode::to_bytes(value).map_err(io::Error::other)?;
    let mut bytes = crc32c::crc32c(&body).to_le_bytes().to_vec();
    bytes.extend(body);
    Ok(bytes)
}

/// Reads a value back that [`save`] wrote; `None` where there is no file.
///
/// # Errors
/// When the file cannot be read, or is damaged.
pub fn load<T>(path: &Path) -> io::Result<Option<T>>
where
    T: serde::de::DeserializeOwned + Serialize,
{
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let damaged = || io::Error::other(format!("{} is damaged", path.display()));
    let (crc, body) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(damaged());
    }
    gridcore::decode::from_bytes(body).map(Some).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_could_run_is_refused() {
        let command = |words: &[&str]| Program {
            command: words.iter().map(ToString::to_string).collect(),
            ..Program::default()
        };
        assert_eq!(command(&["echo", "'; rm -rf ~ \n$(x)"]).check(), Ok(()));
        assert!(command(&["a\0b"]).check().is_err());
        assert!(command(&[""]).check().is_err());
        assert!(command(&["x", &"y".repeat(PROGRAM_MAX)]).check().is_err());
        let env = |key: &str| Program { env: vec![(key.into(), "1".into())], ..command(&["x"]) };
        assert!(
            env("OK").check().is_ok() && env("A=B").check().is_err() && env("").check().is_err()
        );
        let cwd = |cwd: &str| Program { cwd: Some(cwd.into()), ..command(&["x"]) };
        assert!(cwd("/tmp").check().is_ok() && cwd("tmp").check().is_err());
    }
}
