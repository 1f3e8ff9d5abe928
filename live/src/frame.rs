//! What travels between the daemon and an agent: magic bytes both ways, then frames.
//!
//! A frame is its length, a crc32c and a value in the core's canonical encoding. The length is
//! never trusted to set memory aside, and bounded. Whatever a shell prints before the magic is
//! skipped, up to a bound.

use crate::program::Program;
use gridcore::decode::from_bytes;
use gridcore::encode::to_bytes;
use gridcore::ids::{Epoch, JobId, LeaseId, NodeId};
use gridcore::station::ladder::OwnerSays;
use gridcore::units::{Bytes, Span};
use gridcore::wire::{FromNode, ToNode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What both sides send first.
pub const MAGIC: &[u8] = b"\x00gridlive-1\x00";
/// Most bytes of a frame.
pub const FRAME_MAX: usize = 1 << 20;
/// Most bytes of logs in one frame.
pub const DATA_MAX: usize = 256 << 10;
/// Most bytes that a shell may print before the magic.
const BANNER_MAX: usize = 64 << 10;
/// Bytes before what a frame holds.
const HEAD: usize = 8;

/// Who a node is in its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The cluster.
    pub cluster: u64,
    /// The node's number there.
    pub node: NodeId,
    /// Its name there.
    pub name: String,
    /// What it may lend of itself, as the cluster knows it.
    pub machine: gridcore::station::ladder::Machine,
}

/// What a machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// Processors.
    pub cores: u32,
    /// Memory.
    pub memory: Bytes,
    /// Its own name.
    pub host: String,
    /// Its kernel.
    pub kernel: String,
    /// What runs there.
    pub build: String,
    /// Its GPUs, in the order of their numbers.
    pub gpus: Vec<Device>,
    /// What it can give, and what it cannot.
    pub notes: Vec<Note>,
}

/// One thing to say of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Whether somebody should look at it.
    pub warns: bool,
    /// In words.
    pub what: String,
}

/// One GPU, as its driver described it at the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The name that no other device has.
    pub uuid: String,
    /// Its model.
    pub model: String,
    /// Its memory.
    pub memory: Bytes,
    /// What is used of its memory.
    pub used: Bytes,
    /// How busy it was, in percent; `None` where that cannot be told, which is not idle.
    pub busy: Option<u8>,
    /// Processes that compute on it.
    pub processes: Vec<DeviceProcess>,
    /// Its temperature.
    pub celsius: Option<u32>,
    /// Its power.
    pub milliwatts: Option<u32>,
    /// The energy it has used since its driver was loaded.
    pub millijoules: Option<u64>,
    /// Whether it is split into parts (MIG).
    pub split: bool,
    /// Why it must not be used.
    pub sick: Option<String>,
}

impl Device {
    /// Says what there is to say of it: whether it is of use, as it was at the last look.
    #[must_use]
    pub fn note(&self) -> Note {
        let name = format!("{} {}", self.model, self.uuid);
        let (warns, what) = match (&self.sick, self.busy) {
            (Some(why), _) => (true, format!("{name} is not lent: {why}")),
            (None, None) => {
                (true, format!("{name} does not say how busy it is: only lent when free"))
            }
            (None, Some(_)) => (false, format!("{name}, {} MiB", self.memory.get() >> 20)),
        };
        Note { warns, what }
    }
}

/// A process that computes on a GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceProcess {
    /// Its number, as the driver sees it.
    pub pid: u32,
    /// Device memory that it uses, where the driver tells.
    pub memory: Option<Bytes>,
    /// Whose it is, where it can be seen.
    pub user: Option<String>,
}

/// How a machine as a whole is doing, whoever's work it is: shown to people, it decides nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vitals {
    /// The part of the last ten seconds in which something waited for processors, memory and disks,
    /// in basis points (PSI, `some`); `None` where the kernel does not tell.
    pub stalls: Option<[u16; 3]>,
    /// What is free where jobs print and work.
    pub disk_free: Bytes,
    /// Bytes received and sent per second by all interfaces but the loopback.
    pub network: [u64; 2],
}

/// What the daemon tells an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Down {
    /// It belongs to this cluster; the first frame.
    Join(Box<Membership>),
    /// A message of the core.
    Core(Box<ToNode>),
    /// What a job runs, before its start is ordered.
    Program(u64, Box<Program>),
    /// A part of what a job printed.
    Read {
        /// Comes back with the answer.
        ask: u64,
        /// The job.
        job: JobId,
        /// Which start of it.
        epoch: Epoch,
        /// Whether it is what it printed as errors.
        errors: bool,
        /// From which byte on.
        from: u64,
    },
    /// A part of what a job reads.
    Input {
        /// Comes back with the answer.
        ask: u64,
        /// The job.
        job: JobId,
        /// Which start of it.
        epoch: Epoch,
        /// Where the bytes begin in all there are.
        from: u64,
        /// The bytes.
        bytes: Vec<u8>,
        /// Whether none follow.
        last: bool,
    },
    /// What the owner says, and for how long where it is for a while.
    Owner(OwnerSays, Option<Span>),
    /// Go; what runs goes on, and another build of the agent takes it over.
    Retire,
    /// It belongs to no cluster any more: end everything, leave nothing, and go.
    Leave,
}

/// How an attempt ended, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The code, if it ended by itself.
    pub code: Option<i32>,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
    /// Milliseconds of processor time of the whole tree.
    pub cpu_ms: u64,
}

/// What an agent tells the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Up {
    /// What the machine is; the first frame.
    Hardware(Hardware),
    /// Its GPUs as they are now.
    Devices(Vec<Device>),
    /// A message of the core.
    Core(Box<FromNode>),
    /// How an attempt ended; said again until its lease is forgotten.
    Exited {
        /// The lease.
        lease: LeaseId,
        /// Its job.
        job: JobId,
        /// Which start of it.
        epoch: Epoch,
        /// How.
        exit: Exit,
    },
    /// The answer to a question for what a job printed.
    Data {
        /// The question.
        ask: u64,
        /// The bytes; none at the end, for now.
        bytes: Vec<u8>,
        /// Whether nothing more will come.
        over: bool,
    },
    /// The answer to a part of what a job reads.
    Taken {
        /// Which part.
        ask: u64,
        /// How many bytes the job's pipe has taken so far.
        at: u64,
        /// Whether nobody reads: not yet, or not any more.
        over: bool,
    },
    /// It does not join, and why.
    Refused(String),
    /// How the machine is doing; said when it has changed.
    Vitals(Vitals),
}

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The magic never came.
    #[error("no agent answers there: it said {0:?}")]
    Banner(String),
    /// The length is out of bounds.
    #[error("a frame of {0} bytes: at most {FRAME_MAX} are allowed")]
    Length(usize),
    /// The checksum is wrong.
    #[error("a frame's checksum is wrong")]
    Checksum,
    /// It is none of the values that this version knows.
    #[error("a frame holds nothing that this version knows")]
    Value,
}

/// Returns the bytes of a frame.
///
/// # Errors
/// When the value is too large for one.
pub fn frame<T: Serialize>(value: &T) -> Result<Vec<u8>, FrameError> {
    let body = to_bytes(value).map_err(|_| FrameError::Value)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= FRAME_MAX);
    let length = length.ok_or(FrameError::Length(body.len()))?;
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend(body);
    Ok(bytes)
}

/// Bytes that arrive, as frames.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Whether the magic has come.
    begun: bool,
}

impl Frames {
    /// Takes bytes that have arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns whether the magic has come.
    ///
    /// # Errors
    /// When it is not among the first bytes.
    pub fn begins(&mut self) -> Result<bool, FrameError> {
        if self.begun {
            return Ok(true);
        }
        let found = self.bytes.windows(MAGIC.len()).position(|window| window == MAGIC);
        if let Some(at) = found {
            self.bytes.drain(..at + MAGIC.len());
            self.begun = true;
        } else if self.bytes.len() > BANNER_MAX {
            return Err(FrameError::Banner(self.banner()));
        }
        Ok(self.begun)
    }

    /// Returns the end of what came before the magic, for people.
    #[must_use]
    pub fn banner(&self) -> String {
        let from = self.bytes.len().saturating_sub(500);
        let text = String::from_utf8_lossy(self.bytes.get(from..).unwrap_or_default());
        text.trim().to_owned()
    }

    /// Returns the next frame that is complete.
    ///
    /// # Errors
    /// When what has come is none; nothing after it can be read.
    pub fn take<T: DeserializeOwned + Serialize>(&mut self) -> Result<Option<T>, FrameError> {
        if !self.begins()? {
            return Ok(None);
        }
        let Some((head, rest)) = self.bytes.split_at_checked(HEAD) else { return Ok(None) };
        let part = |range: core::ops::Range<usize>| {
            let bytes = head.get(range).and_then(|bytes| bytes.try_into().ok());
            u32::from_le_bytes(bytes.unwrap_or_default())
        };
        let length = usize::try_from(part(0..4)).unwrap_or(usize::MAX);
        if length > FRAME_MAX {
            return Err(FrameError::Length(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        if crc32c::crc32c(body) != part(4..8) {
            return Err(FrameError::Checksum);
        }
        let value = from_bytes(body).map_err(|_| FrameError::Value)?;
        self.bytes.drain(..HEAD + length);
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Up {
        Up::Hardware(Hardware { cores: 4, host: "gpu1".into(), ..Hardware::default() })
    }

    #[test]
    fn frames_survive_banners_and_any_cut() {
        let mut bytes = b"Last login: today\r\nmotd \x00grid\n".to_vec();
        bytes.extend_from_slice(MAGIC);
        bytes.extend(frame(&sample()).unwrap());
        bytes.extend(frame(&Up::Refused("no".into())).unwrap());
        for step in [1, 2, 7, 1_000] {
            let (mut frames, mut got) = (Frames::default(), Vec::new());
            for part in bytes.chunks(step) {
                frames.push(part);
                while let Some(up) = frames.take::<Up>().unwrap() {
                    got.push(up);
                }
            }
            assert_eq!(got, [sample(), Up::Refused("no".into())]);
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let mut frames = Frames::default();
        frames.push(&[b'x'; BANNER_MAX + 1]);
        assert!(matches!(frames.take::<Up>(), Err(FrameError::Banner(_))));
        let good = frame(&sample()).unwrap();
        for at in 0..good.len() {
            let mut bad = MAGIC.to_vec();
            bad.extend_from_slice(&good);
            bad[MAGIC.len() + at] ^= 0x10;
            let mut frames = Frames::default();
            frames.push(&bad);
            // A changed length may ask for more; it never yields a value.
            assert!(!matches!(frames.take::<Up>(), Ok(Some(_))), "byte {at}");
        }
    }
}
