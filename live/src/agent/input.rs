//! What a job reads: a pipe in its lease's folder, which its shim keeps open until all has come.
//!
//! The bytes are counted. An agent that starts again counts anew, which whoever sends them sees: a
//! job never takes a part of what it was sent for the whole.

use super::Agent;
use super::order::{LeaseFolder, Told};
use crate::frame::Up;
use gridcore::ids::{Epoch, JobId, LeaseId};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

/// The near end of a job's input.
pub(super) struct Input {
    /// Gone once the last byte was taken: asked again, it is answered again.
    pipe: Option<File>,
    /// Bytes that the job's pipe has taken.
    taken: u64,
}

/// A part of a job's input.
pub(super) struct Part {
    /// Comes back with the answer.
    pub ask: u64,
    /// The job.
    pub job: JobId,
    /// Which start of it.
    pub epoch: Epoch,
    /// Where the bytes begin in all there are.
    pub from: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether none follow.
    pub last: bool,
}

impl Agent {
    /// Hands a job a part of its input, as much as it takes now, and says how much that was.
    pub(super) fn put_input(&mut self, part: &Part) {
        let held = self.station.iter().flat_map(|station| station.leases.values());
        let lease = held
            .filter(|held| held.is_alive() && held.start.epoch == part.epoch)
            .find_map(|held| (held.start.job == part.job).then_some(held.start.lease));
        let put = lease.map(|lease| self.put(lease, part));
        let (at, over) = match put {
            Some(Ok(at)) => (at, false),
            // Nobody reads yet, or any more.
            Some(Err(_)) | None => (part.from, true),
        };
        self.say(&Up::Taken { ask: part.ask, at, over });
    }

    fn put(&mut self, lease: LeaseId, part: &Part) -> io::Result<u64> {
        if !self.inputs.contains_key(&lease) {
            let mut options = File::options();
            let nonblocking = rustix::fs::OFlags::NONBLOCK.bits();
            let flags = i32::try_from(nonblocking).map_err(io::Error::other)?;
            let path = LeaseFolder::of(&self.root, lease).file("stdin");
            let pipe = options.write(true).custom_flags(flags).open(path)?;
            self.inputs.insert(lease, Input { pipe: Some(pipe), taken: 0 });
        }
        let input = self.inputs.get_mut(&lease).ok_or(io::ErrorKind::NotFound)?;
        let Some(pipe) = input.pipe.as_mut().filter(|_| input.taken == part.from) else {
            return Ok(input.taken);
        };
        let mut rest = part.bytes.as_slice();
        while !rest.is_empty() {
            match pipe.write(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        input.taken += (part.bytes.len() - rest.len()) as u64;
        let at = input.taken;
        if part.last && rest.is_empty() {
            input.pipe = None;
            self.tell(lease, Told::InputEnds);
        }
        Ok(at)
    }
}
