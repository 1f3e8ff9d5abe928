//! The folder of a node's agent: who it is, and one folder for each lease.
//!
//! ```text
//! agent.sock  agent.log  lock  life  member  owner  watch  devices  cgroups
//! leases/L/   stdin  marker  cgroup  order  shim  exit  lock  ctl  void  notice  processors
//! jobs/J/     E.out  E.err          what an attempt printed
//! work/J/                           where a job runs that names no folder
//! ```

use super::cgroup::Leaf;
use super::tree::ProcessId;
use crate::frame::Exit;
use crate::program::{Program, load, note, save, write_unsynced};
use gridcore::ids::{Epoch, JobId, LeaseId};
use gridcore::units::{Bytes, Span, Time};
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What a shim is to run: written before it is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The lease.
    pub lease: LeaseId,
    /// Which start of the job it is.
    pub epoch: Epoch,
    /// The job.
    pub job: JobId,
    /// What it runs.
    pub program: Program,
    /// What the grid adds to its environment.
    pub env: Vec<(String, String)>,
    /// The processors it may use.
    pub processors: Vec<u32>,
    /// Memory it was granted; zero: it asked for none, and nobody counts.
    pub memory: Bytes,
    /// What was used of its GPUs before it began.
    pub used_before: Bytes,
    /// Until when it may run, by the boot-time clock.
    pub until: Time,
    /// How long after a notice it is killed.
    pub kill: Span,
}

/// Processors, one bit each: as many as the kernel's own sets hold.
pub type Mask = [u64; 16];

/// Returns processors as bits; what has no bit is left out.
#[must_use]
pub fn mask_of(processors: &[u32]) -> Mask {
    let mut mask = Mask::default();
    for processor in processors {
        if let Some(word) = mask.get_mut(*processor as usize / 64) {
            *word |= 1 << (processor % 64);
        }
    }
    mask
}

/// What a shim is told, one datagram each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// It may run until then, and is killed so long after.
    Until(Time, Span),
    /// It has these processors from now on, one bit each.
    Processors(Mask),
    /// Stop everything for a while.
    Pause,
    /// Go on.
    Resume,
    /// Let it end; it is killed then.
    Terminate(Time),
    /// Kill everything.
    Kill,
    /// All that it is to read has come.
    InputEnds,
}

/// How an attempt ended, as its shim saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Code or signal.
    pub exit: Exit,
    /// Whether it had been told to end.
    pub told: bool,
}

/// Returns processors as a job reads them: numbers with commas.
#[must_use]
pub fn list(processors: &[u32]) -> String {
    let numbers: Vec<String> = processors.iter().map(u32::to_string).collect();
    numbers.join(",")
}

/// The folder of one lease.
#[derive(Clone, Debug)]
pub struct LeaseFolder(PathBuf);

/// Makes a folder for its owner only, with those above it.
///
/// # Errors
/// When the disk refuses.
pub fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

impl LeaseFolder {
    /// Names the folder of a lease.
    #[must_use]
    pub fn of(root: &Path, lease: LeaseId) -> Self {
        Self(root.join("leases").join(lease.get().to_string()))
    }

    /// Wraps the path of one.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Returns its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path of one of its files.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Returns the control group that its job is to enter, if there is one.
    #[must_use]
    pub fn leaf(&self) -> Option<Leaf> {
        load(&self.file("cgroup")).ok().flatten()
    }

    /// Notes the control group that its job is to enter; it is none after a power failure.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn set_leaf(&self, leaf: &Leaf) -> io::Result<()> {
        note(&self.file("cgroup"), leaf)
    }

    /// Reads the order.
    ///
    /// # Errors
    /// When it is damaged, or not there.
    pub fn order(&self) -> io::Result<Order> {
        load(&self.file("order"))?.ok_or_else(|| io::Error::other("there is no order"))
    }

    /// Sets which processors it has, for its shim and its job to read.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn set_processors(&self, processors: &[u32]) -> io::Result<()> {
        let text = format!("{}\n", list(processors));
        write_unsynced(&self.file("processors"), text.as_bytes())
    }

    /// Returns which processors it has, where that has changed since it was ordered.
    #[must_use]
    pub fn processors(&self) -> Option<Vec<u32>> {
        let text = std::fs::read_to_string(self.file("processors")).ok()?;
        text.trim().split(',').map(|number| number.parse().ok()).collect()
    }

    /// Returns the shim that said it is there.
    #[must_use]
    pub fn shim(&self) -> Option<ProcessId> {
        load(&self.file("shim")).ok().flatten()
    }

    /// Returns how it ended, if its shim saw it.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        load(&self.file("exit")).ok().flatten()
    }

    /// Notes how it ended.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn set_end(&self, end: &End) -> io::Result<()> {
        save(&self.file("exit"), end)
    }

    /// Takes the lock that only one shim may ever hold; `None` while another has it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn lock(&self) -> io::Result<Option<File>> {
        let mut options = OpenOptions::new();
        let path = self.file("lock");
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let taken = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        Ok(taken.is_ok().then_some(file))
    }

    /// Makes sure that no shim begins any more; returns whether none ever will, and none runs.
    #[must_use]
    pub fn close(&self) -> bool {
        let Ok(Some(_held)) = self.lock() else { return false };
        // A shim that comes late finds this while it holds the lock.
        crate::program::write_whole(&self.file("void"), &[]).is_ok()
    }

    /// Tells its shim something.
    ///
    /// # Errors
    /// When no shim listens.
    pub fn tell(&self, told: Told) -> io::Result<()> {
        let bytes = gridcore::encode::to_bytes(&told).map_err(io::Error::other)?;
        // A socket's path is short; this one is as short as the folder's handle.
        let folder = File::open(&self.0)?;
        let handle = std::os::fd::AsRawFd::as_raw_fd(&folder);
        let socket = std::os::unix::net::UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to(&bytes, format!("/proc/self/fd/{handle}/ctl")).map(drop)
    }
}

/// Returns the file of what an attempt prints.
#[must_use]
pub fn log_file(root: &Path, job: JobId, epoch: Epoch, errors: bool) -> PathBuf {
    let ending = if errors { "err" } else { "out" };
    root.join("jobs").join(job.get().to_string()).join(format!("{}.{ending}", epoch.get()))
}

/// Returns the folder that a job works in when it names none.
#[must_use]
pub fn work_folder(root: &Path, job: JobId) -> PathBuf {
    root.join("work").join(job.get().to_string())
}

/// The variable that marks every process of an attempt.
#[must_use]
pub fn mark(lease: LeaseId, epoch: Epoch, cluster: u64) -> String {
    format!("GRID_LEASE={cluster:x}.{}.{}", lease.get(), epoch.get())
}
