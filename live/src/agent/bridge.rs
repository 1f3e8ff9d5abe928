//! The near end of a line: bytes between this process's standard streams and the agent of a folder,
//! which is started where none runs. The agent's work outlives the line.

use super::order::make_folder;
use crate::clock::{since_boot, wait};
use gridcore::units::{Span, Time};
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

/// How long an agent may take to start.
const STARTS: Span = Span::seconds(10);

/// Carries bytes both ways until either side ends.
///
/// # Errors
/// When no agent can be reached or started.
pub fn carry(root: &Path) -> io::Result<()> {
    crate::program::keep_private();
    make_folder(root)?;
    let stream = reach(root)?;
    let mut up = stream.try_clone()?;
    let down = stream.try_clone()?;
    std::thread::spawn(move || {
        let _ = copy(&mut io::stdin().lock(), &mut &down);
        let _ = down.shutdown(Shutdown::Both);
    });
    copy(&mut up, &mut io::stdout().lock())
}

/// Copies bytes as they come.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut bytes = [0; 64 << 10];
    loop {
        let count = match from.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(bytes.get(..count).unwrap_or_default())?;
        to.flush()?;
    }
}

/// Connects to the agent of a folder.
fn reach(root: &Path) -> io::Result<UnixStream> {
    let socket = root.join("agent.sock");
    if let Ok(stream) = UnixStream::connect(&socket) {
        return Ok(stream);
    }
    let mut options = OpenOptions::new();
    let log = options.append(true).create(true).mode(0o600).open(root.join("agent.log"))?;
    let mut agent = Command::new("/proc/self/exe");
    agent.arg("agent").arg("--serve").arg("--dir").arg(root);
    agent.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    agent.current_dir("/").spawn()?;
    let until = since_boot().after(STARTS);
    loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => return Ok(stream),
            Err(error) if since_boot() >= until => {
                let log = root.join("agent.log");
                let what = format!("the agent does not start ({error}): see {}", log.display());
                return Err(io::Error::other(what));
            }
            Err(_) => {
                let step = wait(Time::ZERO, Time::from_ms(10));
                let _ = rustix::event::poll(&mut [], Some(&step));
            }
        }
    }
}
