//! The agent's end of its line: bytes in and out, never waiting.

use crate::frame::{Down, Frames, MAGIC, Up, frame};
use rustix::event::PollFlags;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Most bytes that wait to be sent: a coordinator that reads nothing loses the line.
const QUEUE_MAX: usize = 8 << 20;

/// A line to the coordinator.
pub(super) struct Connection {
    stream: UnixStream,
    frames: Frames,
    out: VecDeque<u8>,
    broken: bool,
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let out = MAGIC.iter().copied().collect();
        Ok(Self { stream, frames: Frames::default(), out, broken: false })
    }

    /// Returns what to wait for.
    pub(super) fn wants(&self) -> PollFlags {
        if self.out.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT }
    }

    /// Sends something, as soon as the line takes it.
    pub(super) fn send(&mut self, up: &Up) {
        match frame(up) {
            Ok(bytes) if self.out.len() + bytes.len() <= QUEUE_MAX => self.out.extend(bytes),
            Ok(_) | Err(_) => self.broken = true,
        }
    }

    /// Reads what has come.
    pub(super) fn read(&mut self) -> io::Result<Vec<Down>> {
        let (mut downs, mut bytes) = (Vec::new(), [0; 64 << 10]);
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.frames.push(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            while let Some(down) = self.frames.take().map_err(io::Error::other)? {
                downs.push(down);
            }
        }
        Ok(downs)
    }

    /// Writes what the line takes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("the coordinator reads nothing"));
        }
        while !self.out.is_empty() {
            let (first, _) = self.out.as_slices();
            match self.stream.write(first) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
