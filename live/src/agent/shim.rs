//! The keeper of one attempt: a small process that owns the job's whole tree.
//!
//! It outlives its agent. It holds both deadlines itself, so the job stops in time whatever becomes
//! of agent and coordinator. Every process that the job leaves behind becomes its child; when it
//! has no child any more, nothing is left, and only then it says so and ends.

use super::cgroup::Leaf;
use super::exec::{bits, set_of};
use super::order::{End, LeaseFolder, Mask, Order, Told, log_file, make_folder, mask_of};
use super::tree::{ProcessId, family, memory_of, signal_all, threads};
use crate::clock::{since_boot, wait, wall_seconds};
use crate::frame::Exit;
use crate::program::note;
use gridcore::units::{Bytes, Span, Time};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, set_child_subreaper, setsid, wait as reap,
};
use rustix::thread::{sched_getaffinity, sched_setaffinity};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Most bytes that are kept of what an attempt prints, for each of its two streams.
const LOG_MAX: u64 = 64 << 20;
/// How often it looks for processes that were left to it.
const LOOK: Span = Span::seconds(1);
/// Most processes of one attempt: more are a mistake that takes the machine with it.
const PROCESSES_MAX: usize = 4_096;
/// How often it looks for what was started while it stopped the rest.
const SWEEPS: usize = 16;
/// How often it kills what is still there.
const AGAIN: Span = Span::new(50);

/// One of the two streams of a job.
struct Stream {
    pipe: Option<Box<dyn ReadFd>>,
    file: File,
    kept: u64,
}

/// A pipe that can be read and polled.
trait ReadFd: Read + std::os::fd::AsFd {}
impl<T: Read + std::os::fd::AsFd> ReadFd for T {}

impl Stream {
    fn new(pipe: Option<impl ReadFd + 'static>, path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let kept = file.metadata()?.len();
        let pipe = pipe.map(|pipe| Box::new(pipe) as Box<dyn ReadFd>);
        if let Some(pipe) = &pipe {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Self { pipe, file, kept })
    }

    /// Keeps what has been printed; says once where it is cut.
    fn drain(&mut self) {
        let mut bytes = [0; 64 << 10];
        // A job that prints without end does not keep its keeper from anything else.
        for _ in 0..16 {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut bytes) {
                Ok(0) => self.pipe = None,
                Ok(count) => self.keep(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = usize::try_from(LOG_MAX.saturating_sub(self.kept)).unwrap_or(usize::MAX);
        if room == 0 {
            return;
        }
        let part = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        // What a full disk does not take is lost; the job goes on.
        let _ = self.file.write_all(part);
        self.kept += part.len() as u64;
        if self.kept >= LOG_MAX {
            let _ = writeln!(self.file, "\n[cut here: more than {} MiB]", LOG_MAX >> 20);
        }
    }
}

/// A keeper at work.
struct Keeper {
    folder: LeaseFolder,
    /// The control group of all that it keeps, where there is one.
    leaf: Option<Leaf>,
    /// Keeps what its job reads from ending before all has come.
    input: Option<File>,
    /// Whether there never was a command.
    empty: bool,
    job: Option<Child>,
    /// Polled for the job's end: its pipes may be closed before, or kept open by others.
    ends: Option<OwnedFd>,
    streams: [Stream; 2],
    until: Time,
    kill: Span,
    memory: Bytes,
    /// The processors of what it keeps, and whether they have ever changed.
    processors: (Mask, bool),
    look_at: Time,
    kill_at: Option<Time>,
    notice: std::path::PathBuf,
    told: bool,
    killed: bool,
    exit: Exit,
}

/// Keeps the attempt whose order lies in a folder, until nothing of it is left.
///
/// # Errors
/// When nothing could be started; a later shim of the same lease starts nothing either.
pub fn keep(root: &Path, folder: LeaseFolder) -> io::Result<()> {
    let _ = setsid();
    set_child_subreaper(Some(rustix::process::getpid()))?;
    // Whoever else was started for this lease has it, or had it.
    let Some(_lock) = folder.lock()? else { return Ok(()) };
    if folder.file("void").exists() || folder.file("shim").exists() {
        return Ok(());
    }
    let order = folder.order()?;
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    let me =
        ProcessId::of(me).ok_or_else(|| io::Error::other("/proc does not show this process"))?;
    let socket = UnixDatagram::bind(folder.file("ctl")).or_else(|_| {
        // The path may be longer than a socket's may be.
        std::env::set_current_dir(folder.path())?;
        UnixDatagram::bind("ctl")
    })?;
    socket.set_nonblocking(true)?;
    // From here on it is there, and hears what it is told.
    note(&folder.file("shim"), &me)?;
    let mut keeper = Keeper::start(root, folder, &order)?;
    while !keeper.step(&socket)? {}
    let end = End { exit: keeper.exit, told: keeper.told };
    keeper.folder.set_end(&end)
}

impl Keeper {
    fn start(root: &Path, folder: LeaseFolder, order: &Order) -> io::Result<Self> {
        let log = |errors| log_file(root, order.job, order.epoch, errors);
        if let Some(parent) = log(false).parent() {
            make_folder(parent)?;
        }
        let mut exit = Exit::default();
        let (stdin, input) =
            if order.program.input { pipe(&folder)? } else { (Stdio::null(), None) };
        let spawned = if order.program.command.is_empty() {
            None
        } else {
            let mut stage = Command::new("/proc/self/exe");
            stage.arg("exec").arg(root).arg(folder.path()).stdin(stdin);
            stage.stdout(Stdio::piped()).stderr(Stdio::piped());
            match stage.spawn() {
                Ok(child) => Some(child),
                Err(_) => {
                    exit.code = Some(126);
                    None
                }
            }
        };
        let mut job = spawned;
        let (out, errors) = match &mut job {
            Some(child) => (child.stdout.take(), child.stderr.take()),
            None => (None, None),
        };
        let streams = [Stream::new(out, &log(false))?, Stream::new(errors, &log(true))?];
        let (until, kill) = (order.until, order.kill);
        let notice = folder.file("notice");
        Ok(Self {
            leaf: folder.leaf(),
            folder,
            input,
            empty: order.program.command.is_empty(),
            ends: job.as_ref().and_then(handle_of),
            job,
            streams,
            until,
            kill,
            memory: order.memory,
            processors: (mask_of(&order.processors), false),
            look_at: since_boot().after(LOOK),
            kill_at: None,
            notice,
            told: false,
            killed: false,
            exit,
        })
    }

    /// Returns whether it holds capacity without running anything.
    fn is_empty_handed(&self) -> bool {
        self.empty && !self.told
    }

    /// Waits for what comes next and does it; returns whether nothing is left.
    fn step(&mut self, socket: &UnixDatagram) -> io::Result<bool> {
        let now = since_boot();
        let busy = self.killed || (self.job.is_none() && !self.is_empty_handed());
        let look = now.after(if busy { AGAIN } else { LOOK });
        let due = self.kill_at.unwrap_or(self.until);
        let timeout = wait(now, look.min(due.max(now)));
        let mut fds = vec![PollFd::new(socket, PollFlags::IN)];
        fds.extend(self.ends.iter().map(|ends| PollFd::new(ends, PollFlags::IN)));
        let pipes = self.streams.iter().filter_map(|stream| stream.pipe.as_ref());
        fds.extend(pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        drop(fds);
        self.streams.iter_mut().for_each(Stream::drain);
        let mut bytes = [0; 256];
        while let Ok(count) = socket.recv(&mut bytes) {
            let told = bytes.get(..count).and_then(|b| gridcore::decode::from_bytes(b).ok());
            if let Some(told) = told {
                self.hear(told);
            }
        }
        self.keep_deadlines();
        self.keep_bounds();
        Ok(self.reap())
    }

    /// Does what it is told.
    fn hear(&mut self, told: Told) {
        match told {
            Told::Until(until, kill) => (self.until, self.kill) = (until, kill),
            Told::Processors(mask) => self.confine(Some(mask)),
            Told::Pause => stop_all(),
            Told::Resume => self.signal(Signal::CONT),
            Told::Terminate(at) => self.terminate(at),
            Told::Kill => self.kill_all(),
            Told::InputEnds => self.input = None,
        }
    }

    /// Ends what has run long enough: with a notice when the permission is over, then for good.
    fn keep_deadlines(&mut self) {
        let now = since_boot();
        if self.until <= now && self.kill_at.is_none() {
            self.terminate(self.until.after(self.kill));
        }
        if self.killed {
            self.signal(Signal::KILL);
        } else if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_all();
        }
    }

    /// Kills a job that holds more than it was granted: its machine's owner would pay for it.
    fn keep_bounds(&mut self) {
        let now = since_boot();
        if self.killed || self.job.is_none() || now < self.look_at {
            return;
        }
        self.look_at = now.after(LOOK);
        self.confine(None);
        let rows = family(i32::try_from(std::process::id()).unwrap_or(0));
        let over = if rows.len() > PROCESSES_MAX {
            format!("it has {} processes, and may have {PROCESSES_MAX}", rows.len())
        } else {
            let used = memory_of(&rows, self.memory);
            if self.memory == Bytes::ZERO || used <= self.memory {
                return;
            }
            let (used, granted) = (used.get() >> 20, self.memory.get() >> 20);
            format!("it uses {used} MiB of memory, and was granted {granted}")
        };
        // It fails: started again, it would do the same.
        self.killed = true;
        self.kill_at = Some(Time::ZERO);
        let [_, errors] = &mut self.streams;
        let _ = writeln!(errors.file, "[killed by gridlive: {over}]");
        self.signal(Signal::KILL);
    }

    /// Keeps every thread on its processors where these have changed, and gives threads that had
    /// all of the old ones all of the new ones. A thread that a job has bound itself stays where it
    /// is, as far as it may.
    fn confine(&mut self, new: Option<Mask>) {
        let (old, changed) = self.processors;
        let own = new.unwrap_or(old);
        self.processors = (own, changed || own != old);
        if !self.processors.1 {
            return;
        }
        let me = i32::try_from(std::process::id()).unwrap_or(0);
        for thread in threads(&family(me)) {
            // It may have ended since.
            let Ok(has) = sched_getaffinity(Some(thread)) else { continue };
            let has = bits(&has);
            let mut both = own;
            both.iter_mut().zip(has).for_each(|(word, has)| *word &= has);
            let wanted = if has == old || both == Mask::default() { own } else { both };
            if wanted != has {
                let _ = sched_setaffinity(Some(thread), &set_of(&wanted));
            }
        }
    }

    fn terminate(&mut self, at: Time) {
        let first = self.kill_at.is_none();
        self.kill_at = Some(self.kill_at.map_or(at, |old| old.min(at)));
        self.told = true;
        if first {
            let left = at.since(since_boot()).get().div_ceil(1_000);
            let text = format!("{}\n", wall_seconds() + left);
            let _ = std::fs::write(&self.notice, text);
            self.signal(Signal::TERM);
            self.signal(Signal::CONT);
        }
    }

    fn kill_all(&mut self) {
        (self.told, self.killed) = (true, true);
        self.kill_at = Some(self.kill_at.unwrap_or(Time::ZERO));
        self.signal(Signal::KILL);
    }

    /// Sends a signal to all that is left.
    fn signal(&self, signal: Signal) {
        let me = i32::try_from(std::process::id()).unwrap_or(0);
        if signal == Signal::KILL {
            self.leaf.iter().for_each(Leaf::kill);
            // What is stopped makes no new processes while the others are killed.
            signal_all(&family(me), Signal::STOP);
        }
        signal_all(&family(me), signal);
    }

    /// Takes note of what has ended; returns whether nothing is left.
    fn reap(&mut self) -> bool {
        if self.is_empty_handed() {
            return false;
        }
        let job = self.job.as_ref().and_then(|job| Pid::from_raw(i32::try_from(job.id()).ok()?));
        loop {
            match reap(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if Some(pid) == job => {
                    let code = status.exit_status();
                    let signal = status.terminating_signal();
                    (self.exit.code, self.exit.signal) = (code, signal);
                    (self.job, self.ends) = (None, None);
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    // What it left behind ends with it.
                    if self.job.is_none() {
                        self.signal(Signal::KILL);
                    }
                    return false;
                }
                // No child is left: none of the tree is.
                Err(_) => break,
            }
        }
        if self.leaf.as_ref().is_some_and(Leaf::is_populated) {
            // Somebody else's child was put there.
            self.signal(Signal::KILL);
            return false;
        }
        self.streams.iter_mut().for_each(Stream::drain);
        self.tell_memory();
        self.count();
        true
    }

    /// Says that the kernel has killed it for its memory, where it did.
    fn tell_memory(&mut self) {
        if !self.killed && self.leaf.as_ref().is_some_and(Leaf::ran_out) {
            let granted = self.memory.get() >> 20;
            let over =
                format!("it wanted more than {granted} MiB of memory, and was granted {granted}");
            let [_, errors] = &mut self.streams;
            let _ = writeln!(errors.file, "[killed by gridlive: {over}]");
        }
    }

    /// Notes what the whole tree has used.
    fn count(&mut self) {
        let me = i32::try_from(std::process::id()).unwrap_or(0);
        let ticks = super::tree::row(me).map_or(0, |row| row.ticks);
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        self.exit.cpu_ms = ticks.saturating_mul(1_000) / per_second;
    }
}

/// Stops all that is kept: again where something was started meanwhile.
fn stop_all() {
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    let mut stopped = std::collections::BTreeSet::new();
    for _ in 0..SWEEPS {
        let rows = family(me);
        signal_all(&rows, Signal::STOP);
        let before = stopped.len();
        stopped.extend(rows.into_keys());
        if stopped.len() == before {
            return;
        }
    }
}

/// Makes the pipe that a job reads; returns its far end, and a near end that keeps it open.
fn pipe(folder: &LeaseFolder) -> io::Result<(Stdio, Option<File>)> {
    let path = folder.file("stdin.new");
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode)?;
    // Neither end waits for the other to be opened; then the job waits for what it reads.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let far = File::options().read(true).custom_flags(flags).open(&path)?;
    let near = File::options().write(true).custom_flags(flags).open(&path)?;
    rustix::io::ioctl_fionbio(&far, false)?;
    // Whoever finds it finds that somebody reads.
    std::fs::rename(&path, folder.file("stdin"))?;
    Ok((far.into(), Some(near)))
}

/// Returns a handle of a child that can be polled for its end.
fn handle_of(child: &Child) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(child.id()).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}
