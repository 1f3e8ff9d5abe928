//! The lines to the nodes: one task each, so that a slow node slows no other (LIVE.md P16).
//!
//! A line is a process whose standard streams lead to the node's agent: `ssh`, or the agent's own
//! bridge on this machine. Every step has a deadline of its own; whatever ends is begun anew.

use super::history::program_file;
use super::keeper::Handle;
pub use super::way::Way;
use super::way::{MISSING, own_binary};
use crate::frame::{Down, Frames, Hardware, MAGIC, Membership, Up, Vitals, frame};
use crate::program::{Program, load};
use gridcore::command::Report;
use gridcore::wire::{Order, ToBody};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How long a node may take to answer at all.
const ANSWERS: Duration = Duration::from_secs(30);
/// How long an upload of the agent may take.
const UPLOADS: Duration = Duration::from_secs(300);
/// How long a line may say nothing, or take nothing.
const SILENCE: Duration = Duration::from_secs(60);
/// The first and the longest wait before a line is begun anew.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));
/// What is known of a line, for people.
#[derive(Clone, Debug, Default)]
pub struct LineState {
    /// Whether it stands.
    pub up: bool,
    /// Why it does not.
    pub error: Option<String>,
    /// What the machine is.
    pub hardware: Option<Hardware>,
    /// How the machine is doing.
    pub vitals: Option<Vitals>,
    /// How often it was begun.
    pub begun: u64,
}

/// What an agent answers a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A part of what a job printed, and whether nothing more will come.
    Data(Vec<u8>, bool),
    /// How many bytes of its input a job has taken so far, and whether nobody reads there.
    Taken(u64, bool),
}

/// A line that others may use.
#[derive(Clone)]
pub struct Line {
    way: Arc<Way>,
    downs: mpsc::UnboundedSender<Down>,
    state: Arc<Mutex<LineState>>,
    asks: Arc<Mutex<BTreeMap<u64, oneshot::Sender<Told>>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    /// Returns the way to its node.
    #[must_use]
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// Returns what is known of it.
    #[must_use]
    pub fn state(&self) -> LineState {
        locked(&self.state).clone()
    }

    /// Tells the node's agent something.
    pub fn tell(&self, down: Down) {
        let _ = self.downs.send(down);
    }

    /// Hands an answer to whoever asked.
    fn answer(&self, ask: u64, told: Told) {
        if let Some(answer) = locked(&self.asks).remove(&ask) {
            let _ = answer.send(told);
        }
    }

    /// Asks the node's agent something; `None` when it does not answer in time.
    pub async fn ask(&self, make: impl FnOnce(u64) -> Down) -> Option<Told> {
        if !self.state().up {
            // Nothing piles up for a node that is away.
            return None;
        }
        let (answer, answered) = oneshot::channel();
        let ask = {
            let mut asks = locked(&self.asks);
            let ask = asks.keys().next_back().map_or(1, |last| last + 1);
            asks.insert(ask, answer);
            ask
        };
        self.tell(make(ask));
        let data = timeout(Duration::from_secs(10), answered).await.ok().and_then(Result::ok);
        locked(&self.asks).remove(&ask);
        data
    }
}

/// What a line needs to know.
pub struct Plan {
    /// The way.
    pub way: Way,
    /// Who the node is.
    pub member: Membership,
    /// Where programs lie.
    pub programs: PathBuf,
    /// The line that stands already.
    pub measured: Option<Measured>,
}

/// Begins a line; returns how others use it, and where the core's messages go.
#[must_use]
pub fn begin(mut plan: Plan, handle: Handle) -> (Line, mpsc::UnboundedSender<Down>) {
    let (downs, mut from) = mpsc::unbounded_channel();
    let way = Arc::new(plan.way.clone());
    let line = Line { way, downs: downs.clone(), state: Arc::default(), asks: Arc::default() };
    let ours = line.clone();
    tokio::spawn(async move {
        let mut again = AGAIN.0;
        loop {
            locked(&ours.state).begun += 1;
            let first = plan.measured.take();
            let ended = stand(&plan, first, &handle, &ours, &mut from).await;
            let was_up = {
                let mut state = locked(&ours.state);
                state.error = ended.as_ref().err().map(ToString::to_string);
                state.vitals = None;
                std::mem::take(&mut state.up)
            };
            if ended.is_ok() {
                return;
            }
            again = if was_up { AGAIN.0 } else { (again * 2).min(AGAIN.1) };
            tokio::time::sleep(again).await;
        }
    });
    (line, downs)
}

/// Lets a line stand until it breaks, or nobody needs it any more.
async fn stand(
    plan: &Plan,
    first: Option<Measured>,
    handle: &Handle,
    line: &Line,
    from: &mut mpsc::UnboundedReceiver<Down>,
) -> io::Result<()> {
    let (mut wire, hardware) = match first {
        Some(Measured { wire, hardware }) => (wire, hardware),
        None => open(&plan.way).await?,
    };
    if hardware.build != crate::agent::build() {
        // What runs goes on; the next agent is of our build and takes it over.
        wire.send(&Down::Retire).await?;
        // The line is let go when the agent has: before, it may not have heard.
        while let Ok(Ok(_)) = timeout(ANSWERS, wire.next()).await {}
        return Err(io::Error::other(format!("its agent was of build {}", hardware.build)));
    }
    {
        let mut state = locked(&line.state);
        (state.up, state.error, state.hardware) = (true, None, Some(hardware));
    }
    wire.send(&Down::Join(Box::new(plan.member.clone()))).await?;
    let mut sent = BTreeSet::new();
    loop {
        tokio::select! {
            up = timeout(SILENCE, wire.next()) => {
                let up = up.map_err(|_| io::Error::other("it has said nothing for a minute"))??;
                hear(up, handle, line)?;
            }
            down = from.recv() => {
                let Some(down) = down else { return Ok(()) };
                for program in missing(&down, &mut sent, &plan.programs) {
                    wire.send(&program).await?;
                }
                let leaves = down == Down::Leave;
                wire.send(&down).await?;
                if leaves {
                    // It ends when nothing is left there.
                    let ended = async { while wire.next().await.is_ok() {} };
                    let _ = timeout(SILENCE, ended).await;
                    return Ok(());
                }
            }
        }
    }
}

/// Passes on what an agent says.
fn hear(up: Up, handle: &Handle, line: &Line) -> io::Result<()> {
    match up {
        Up::Hardware(hardware) => locked(&line.state).hardware = Some(hardware),
        Up::Devices(devices) => {
            if let Some(hardware) = &mut locked(&line.state).hardware {
                hardware.gpus = devices;
            }
        }
        Up::Vitals(vitals) => locked(&line.state).vitals = Some(vitals),
        Up::Core(message) => handle.report(Report::Message(message)),
        Up::Exited { job, epoch, exit, .. } => handle.exited(job, epoch, exit),
        Up::Data { ask, bytes, over } => line.answer(ask, Told::Data(bytes, over)),
        Up::Taken { ask, at, over } => line.answer(ask, Told::Taken(at, over)),
        Up::Refused(why) => return Err(io::Error::other(why)),
    }
    Ok(())
}

/// Returns the programs that a node needs before a message.
fn missing(down: &Down, sent: &mut BTreeSet<u64>, folder: &Path) -> Vec<Down> {
    let Down::Core(message) = down else { return Vec::new() };
    let ToBody::Orders(orders) = &message.body else { return Vec::new() };
    let starts = orders.iter().filter_map(|(order, _)| match order {
        Order::Start(start) => Some(start.task.program),
        Order::Extend { .. }
        | Order::Leave { .. }
        | Order::Kill(..)
        | Order::Forget(..)
        | Order::Watch(_) => None,
    });
    let fresh: Vec<u64> = starts.filter(|number| sent.insert(*number)).collect();
    let read = |number: u64| {
        let program: Program = load(&program_file(folder, number)).ok()??;
        Some(Down::Program(number, Box::new(program)))
    };
    // A start whose program is lost is refused by its node.
    fresh.into_iter().filter_map(read).collect()
}

/// A line that stands.
struct Wire {
    _child: Child,
    input: ChildStdin,
    output: ChildStdout,
    frames: Frames,
}

impl Wire {
    async fn send(&mut self, down: &Down) -> io::Result<()> {
        let bytes = frame(down).map_err(io::Error::other)?;
        let written = timeout(SILENCE, self.input.write_all(&bytes)).await;
        written.map_err(|_| io::Error::other("it has taken nothing for a minute"))?
    }

    async fn next(&mut self) -> io::Result<Up> {
        loop {
            if let Some(up) = self.frames.take().map_err(io::Error::other)? {
                return Ok(up);
            }
            self.fill().await?;
        }
    }

    /// Waits for more bytes.
    async fn fill(&mut self) -> io::Result<()> {
        let mut bytes = vec![0; 64 << 10];
        match self.output.read(&mut bytes).await? {
            0 => {
                let said = self.frames.banner();
                let said = if said.is_empty() { "the line has ended".into() } else { said };
                Err(io::Error::other(said))
            }
            count => {
                self.frames.push(bytes.get(..count).unwrap_or_default());
                Ok(())
            }
        }
    }
}

/// Opens a line; brings the agent there first where it is missing, over the same connection.
async fn open(way: &Way) -> io::Result<(Wire, Hardware)> {
    let mut command = match &way.ssh.local {
        Some(folder) => {
            let mut command = Command::new("/proc/self/exe");
            command.args(["agent", "--stdio", "--dir"]).arg(folder);
            if let Some(files) = super::door::files_before() {
                command.arg("--files").arg(files.to_string());
            }
            command
        }
        None => {
            let mut command = Command::new("ssh");
            command.args(way.ssh(false, &way.line_script()?));
            command
        }
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn()?;
    let (Some(input), Some(output), Some(mut errors)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(io::Error::other("its streams are gone"));
    };
    let mut wire = Wire { _child: child, input, output, frames: Frames::default() };
    match greet(&mut wire).await {
        Ok(hardware) => {
            // What it prints as errors later is of no use to anybody.
            tokio::spawn(async move { tokio::io::copy(&mut errors, &mut tokio::io::sink()).await });
            Ok((wire, hardware))
        }
        Err(error) => {
            let mut said = vec![0; 2_000];
            let more = timeout(Duration::from_secs(1), errors.read(&mut said)).await;
            let count = more.ok().and_then(Result::ok).unwrap_or(0);
            let said = String::from_utf8_lossy(said.get(..count).unwrap_or_default());
            let said = said.trim();
            Err(io::Error::other(if said.is_empty() { error.to_string() } else { said.to_owned() }))
        }
    }
}

/// Waits until an agent answers, which it may have to be brought for.
async fn greet(wire: &mut Wire) -> io::Result<Hardware> {
    let slow = |_| io::Error::other(format!("no answer in {} s", ANSWERS.as_secs()));
    let mut brought = false;
    while !wire.frames.begins().map_err(io::Error::other)? {
        if !brought && wire.frames.banner().contains(MISSING) {
            brought = true;
            let sent = timeout(UPLOADS, bring(&mut wire.input)).await;
            sent.map_err(|_| io::Error::other("the agent's upload took too long"))??;
        }
        timeout(ANSWERS, wire.fill()).await.map_err(slow)??;
    }
    wire.input.write_all(MAGIC).await?;
    match timeout(ANSWERS, wire.next()).await.map_err(slow)?? {
        Up::Hardware(hardware) => Ok(hardware),
        Up::Refused(why) => Err(io::Error::other(why)),
        up @ (Up::Core(_)
        | Up::Devices(_)
        | Up::Vitals(_)
        | Up::Exited { .. }
        | Up::Data { .. }
        | Up::Taken { .. }) => Err(io::Error::other(format!("it does not greet: {up:?}"))),
    }
}

/// Sends this program.
async fn bring(input: &mut ChildStdin) -> io::Result<()> {
    use std::io::Read;
    let mut binary = own_binary()?;
    let mut bytes = vec![0; 256 << 10];
    loop {
        let count = binary.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        input.write_all(bytes.get(..count).unwrap_or_default()).await?;
    }
}

/// A node that was measured, and the line to it, which goes on to be used.
pub struct Measured {
    wire: Wire,
    /// What the machine is.
    pub hardware: Hardware,
}

/// Measures a node's machine.
///
/// # Errors
/// When it cannot be reached.
pub async fn measure(way: &Way) -> io::Result<Measured> {
    let (wire, hardware) = open(way).await?;
    Ok(Measured { wire, hardware })
}
