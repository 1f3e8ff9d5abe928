//! A node's agent: the core's [`Station`] driven by a real machine.
//!
//! One thread, one loop: it waits for its coordinator, for the shims of its attempts, for the time
//! of the next look at its owner or of what the station wants, and does what the station says.

mod attempts;
pub mod bridge;
mod cgroup;
mod connection;
mod doctor;
pub mod exec;
mod gpu;
mod input;
mod measure;
pub mod order;
mod owner;
pub mod shim;
mod tree;
mod vitals;

pub use gpu::user_name;
pub use measure::{build, hardware};

use crate::clock::{since_boot, wait};
use crate::frame::{Down, Hardware, Membership, Up};
use crate::program::{Program, keep_private, load, save};
use attempts::outcome;
use cgroup::Cgroups;
use connection::Connection;
use gpu::Gpus;
use gridcore::config::{Rules, Watch};
use gridcore::ids::LeaseId;
use gridcore::station::held::Marker;
use gridcore::station::ladder::OwnerSays;
use gridcore::station::link::Identity;
use gridcore::station::{Action, Event, Station};
use gridcore::units::{Bytes, Span, Time};
use gridcore::wire::Outcome;
use measure::Meter;
use order::{LeaseFolder, Told, make_folder};
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Programs that are kept in case their start is ordered.
const PROGRAMS_MAX: usize = 1_024;
/// Jobs whose output is kept after they have ended.
const LOGS_MAX: usize = 1_000;
/// How often it looks for what a killed shim has left.
const SWEEP: Span = Span::new(100);
/// How long an agent waits for somebody to say which cluster it belongs to.
const ALONE: Span = Span::seconds(60);
/// How long after its spawning a shim must have said that it is there.
const SHIM_STARTS: Span = Span::seconds(10);

/// A shim, as its agent sees it.
enum Shim {
    /// It was spawned and has not said yet that it is there.
    Spawned(Time),
    /// It is there: polled for its end.
    There(OwnedFd, i32),
    /// It has ended since then: what it may have left is being ended, and its GPUs become free.
    Lost(Time),
}

/// An agent at work.
pub struct Agent {
    root: PathBuf,
    listener: UnixListener,
    connection: Option<Connection>,
    member: Option<Membership>,
    station: Option<Station>,
    life: u32,
    programs: BTreeMap<u64, Program>,
    shims: BTreeMap<LeaseId, Shim>,
    processors: BTreeMap<LeaseId, Vec<u32>>,
    inputs: BTreeMap<LeaseId, input::Input>,
    /// What was used of a lease's GPUs before it began.
    used_before: BTreeMap<LeaseId, Bytes>,
    watch: Watch,
    meter: Meter,
    vitals: vitals::Meter,
    gpus: Gpus,
    cgroups: Cgroups,
    look_at: Time,
    /// Whether a look has begun that waits for the GPUs.
    looking: bool,
    leaving: bool,
    /// When somebody was last there who may say where it belongs.
    heard: Time,
    _lock: File,
}

/// Runs the agent of a folder until it is told to go; returns at once where one runs already.
///
/// # Errors
/// When the folder cannot be used.
pub fn serve(root: &Path) -> io::Result<()> {
    let _ = rustix::process::setsid();
    keep_private();
    if let Some(why) = doctor::missing() {
        return Err(io::Error::other(why));
    }
    make_folder(root)?;
    for part in ["leases", "jobs", "work"] {
        make_folder(&root.join(part))?;
    }
    let lock = File::options().write(true).create(true).truncate(false).open(root.join("lock"))?;
    if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut agent = Agent::begin(root, lock)?;
    while !agent.step()? {}
    if agent.leaving {
        agent.cgroups.leave();
        fs::remove_dir_all(root)?;
        remove_binary();
    }
    Ok(())
}

/// Removes what was brought to this machine, as far as nothing else needs it.
fn remove_binary() {
    let Ok(binary) = fs::read_link("/proc/self/exe") else { return };
    let Some(folder) = binary.parent() else { return };
    let Some(agents) = folder.parent().filter(|agents| agents.ends_with(".gridlive/agents")) else {
        return;
    };
    let _ = fs::remove_dir_all(folder);
    let home = agents.parent().unwrap_or(agents);
    // Only those that are empty go.
    for left in [agents.to_owned(), home.join("nodes"), home.to_owned()] {
        let _ = fs::remove_dir(left);
    }
}

impl Agent {
    fn begin(root: &Path, lock: File) -> io::Result<Self> {
        let life = load::<u32>(&root.join("life"))?.unwrap_or(0) + 1;
        save(&root.join("life"), &life)?;
        let socket = root.join("agent.sock");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket)?;
        listener.set_nonblocking(true)?;
        let watch = load(&root.join("watch"))?.unwrap_or_else(|| Rules::default().watch());
        let mut agent = Self {
            root: root.to_owned(),
            listener,
            connection: None,
            member: load(&root.join("member"))?,
            station: None,
            life,
            programs: BTreeMap::new(),
            shims: BTreeMap::new(),
            processors: BTreeMap::new(),
            inputs: BTreeMap::new(),
            used_before: BTreeMap::new(),
            watch,
            meter: Meter::default(),
            vitals: vitals::Meter::default(),
            gpus: Gpus::find(root)?,
            cgroups: Cgroups::find(root),
            look_at: Time::ZERO,
            looking: false,
            leaving: false,
            heard: since_boot(),
            _lock: lock,
        };
        agent.recover()?;
        Ok(agent)
    }

    /// Adopts what its disk and its machine hold.
    fn recover(&mut self) -> io::Result<()> {
        let Some(member) = self.member.clone() else { return Ok(()) };
        let mut found = Vec::new();
        for entry in fs::read_dir(self.root.join("leases"))? {
            let folder = LeaseFolder::at(entry?.path());
            let Some(marker) = load::<Marker>(&folder.file("marker")).ok().flatten() else {
                // Its marker was never synced: nothing was started.
                let _ = fs::remove_dir_all(folder.path());
                continue;
            };
            let lease = marker.start.lease;
            if let Ok(order) = folder.order() {
                let processors = folder.processors().unwrap_or(order.processors);
                self.processors.insert(lease, processors);
                self.used_before.insert(lease, order.used_before);
            }
            let ended = self.find(lease, &folder);
            found.push((marker, ended));
        }
        let identity = Identity::new(member.cluster, member.node, self.life);
        let (watch, mut actions) = (self.watch.clone(), Vec::new());
        let now = since_boot();
        let station = Station::recover(member.machine, watch, identity, found, now, &mut actions);
        self.station = Some(station);
        self.act(actions);
        if let Some((boot, mut says)) = load::<(String, OwnerSays)>(&self.root.join("owner"))? {
            // Times of another start of the machine mean nothing here.
            if boot != tree::boot() && matches!(says, OwnerSays::Lend { until: Some(_), .. }) {
                says = OwnerSays::Reclaim { now: false };
            }
            self.happen(Event::Owner(says));
        }
        // What must not be lent is known before anybody hears of this node.
        self.sample();
        Ok(())
    }

    /// Finds out what has become of a lease: `None` where something of it may be alive.
    fn find(&mut self, lease: LeaseId, folder: &LeaseFolder) -> Option<Outcome> {
        if let Some(end) = folder.end() {
            return Some(outcome(&end));
        }
        match folder.shim() {
            None if folder.close() => Some(Outcome::Refused),
            // It has just been spawned.
            None => {
                self.shims.insert(lease, Shim::Spawned(since_boot()));
                None
            }
            Some(shim) => match shim.open() {
                Some(handle) => {
                    self.shims.insert(lease, Shim::There(handle, shim.pid));
                    None
                }
                None if shim.boot == tree::boot() => {
                    self.shims.insert(lease, Shim::Lost(since_boot()));
                    None
                }
                // The machine was started anew.
                None => Some(Outcome::Stopped),
            },
        }
    }

    /// Waits for what comes next and does it; returns whether it is to go.
    fn step(&mut self) -> io::Result<bool> {
        self.wait()?;
        if let Ok((stream, _)) = self.listener.accept() {
            // The newest is the one that is there.
            self.connection = Connection::new(stream).ok();
            self.vitals.forget();
            let gpus: Vec<_> = self.gpus.devices().into_iter().flatten().cloned().collect();
            let notes = doctor::notes(&self.root, &gpus, self.cgroups.gives());
            self.say(&Up::Hardware(Hardware { gpus, notes, ..hardware() }));
            if self.station.is_some() {
                self.happen(Event::Connected);
                self.tell_exits();
            }
        }
        let downs = match &mut self.connection {
            Some(connection) => connection.read(),
            None => Ok(Vec::new()),
        };
        match downs {
            Ok(downs) => {
                for down in downs {
                    if self.follow(down)? {
                        return Ok(true);
                    }
                }
            }
            Err(_) => self.connection = None,
        }
        if self.leaving {
            // Again and again: one that was just started may not have heard it.
            self.shims.keys().for_each(|lease| self.tell(*lease, Told::Kill));
        }
        self.gpus.take();
        self.look_at_shims();
        self.look_at_owner();
        let now = since_boot();
        if self.station.as_ref().is_some_and(|station| station.next_wake() <= now) {
            self.happen(Event::Wake);
        }
        if let Some(connection) = &mut self.connection
            && connection.flush().is_err()
        {
            self.connection = None;
        }
        Ok(self.is_empty() && (self.leaving || self.is_forgotten()))
    }

    /// Returns whether nobody can ever need it: it belongs nowhere, or its folder is gone.
    fn is_forgotten(&mut self) -> bool {
        if self.connection.is_some() {
            self.heard = since_boot();
        }
        let alone = self.station.is_none() && self.heard.after(ALONE) <= since_boot();
        alone || !self.root.join("lock").exists()
    }

    /// Waits until something is there to do.
    fn wait(&self) -> io::Result<()> {
        let now = since_boot();
        let mut next = now.after(ALONE);
        if let Some(station) = &self.station {
            next = next.min(self.look_at).min(station.next_wake());
        }
        let unsettled = |shim: &Shim| matches!(shim, Shim::Spawned(_) | Shim::Lost(_));
        if self.shims.values().any(unsettled) || self.leaving {
            next = next.min(now.after(SWEEP));
        }
        if self.looking {
            next = next.min(now.after(gpu::ANSWERS));
        }
        let timeout = wait(now, next.max(now));
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        fds.push(PollFd::new(self.gpus.wakes(), PollFlags::IN));
        if let Some(connection) = &self.connection {
            fds.push(PollFd::new(connection, connection.wants()));
        }
        let shims = self.shims.values().filter_map(|shim| match shim {
            Shim::There(handle, _) => Some(PollFd::new(handle, PollFlags::IN)),
            Shim::Spawned(_) | Shim::Lost(_) => None,
        });
        fds.extend(shims);
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether nothing of any lease is there.
    fn is_empty(&self) -> bool {
        let station = self.station.as_ref();
        self.shims.is_empty() && station.is_none_or(|s| s.leases.values().all(|h| !h.is_alive()))
    }

    /// Tells the coordinator something, if it is there.
    fn say(&mut self, up: &Up) {
        if let Some(connection) = &mut self.connection {
            connection.send(up);
        }
    }

    /// Follows the daemon; returns whether the agent is to go.
    fn follow(&mut self, down: Down) -> io::Result<bool> {
        match down {
            Down::Join(member) => self.join(*member)?,
            Down::Core(message) => self.happen(Event::Message(message)),
            Down::Program(number, program) => {
                self.programs.insert(number, *program);
                while self.programs.len() > PROGRAMS_MAX {
                    self.programs.pop_first();
                }
            }
            Down::Read { ask, job, epoch, errors, from } => {
                let (bytes, over) = self.read_log(job, epoch, errors, from);
                self.say(&Up::Data { ask, bytes, over });
            }
            Down::Input { ask, job, epoch, from, bytes, last } => {
                self.put_input(&input::Part { ask, job, epoch, from, bytes, last });
            }
            Down::Owner(mut says, lasts) => {
                if let (OwnerSays::Lend { until, .. }, Some(lasts)) = (&mut says, lasts) {
                    *until = Some(since_boot().after(lasts));
                }
                // It holds whatever becomes of this agent.
                save(&self.root.join("owner"), &(tree::boot(), says))?;
                self.happen(Event::Owner(says));
            }
            Down::Retire => return Ok(true),
            Down::Leave => {
                self.leaving = true;
            }
        }
        Ok(false)
    }

    /// Becomes a node of a cluster, or says why not.
    fn join(&mut self, member: Membership) -> io::Result<()> {
        match &self.member {
            Some(mine) if mine.cluster != member.cluster || mine.node != member.node => {
                let name = &mine.name;
                let why =
                    format!("it is {name} of another cluster: `gridlive down` it there first");
                self.say(&Up::Refused(why));
                self.connection = None;
            }
            Some(mine) if *mine == member => {}
            _ => {
                save(&self.root.join("member"), &member)?;
                self.member = Some(member);
                if let (Some(station), Some(member)) = (&mut self.station, &self.member) {
                    station.machine = member.machine.clone();
                } else {
                    self.recover()?;
                    self.happen(Event::Connected);
                }
            }
        }
        Ok(())
    }

    /// Lets something happen to the station, and does what it wants done.
    fn happen(&mut self, event: Event) {
        let Some(station) = &mut self.station else { return };
        let at = since_boot().max(station.now);
        let (entry, mut actions) = (station.entry(at, event), Vec::new());
        station.apply(&entry, &mut actions);
        if station.watch != self.watch {
            self.watch = station.watch.clone();
            // Who is to look more often does not finish the old wait first.
            self.look_at = self.look_at.min(at.after(self.watch.offering.poll));
            // Without it the next agent begins by the defaults, until it is welcomed.
            let _ = save(&self.root.join("watch"), &self.watch);
        }
        self.act(actions);
    }

    /// Does what the station wants done.
    fn act(&mut self, actions: Vec<Action>) {
        let (mut unsaved, mut refused) = (None, Vec::new());
        for action in actions {
            match action {
                Action::Save(marker) => {
                    let name = (marker.start.lease, marker.start.epoch);
                    let folder = LeaseFolder::of(&self.root, name.0);
                    let saved = make_folder(folder.path())
                        .and_then(|()| save(&folder.file("marker"), &*marker));
                    unsaved = saved.is_err().then_some(name);
                }
                // What cannot be kept on disk is not started.
                Action::Spawn(lease, epoch, until) => {
                    let failed = unsaved == Some((lease, epoch));
                    if failed || self.spawn(lease, epoch, until).is_err() {
                        refused.push((lease, epoch));
                    }
                }
                Action::Extend(lease, _, until) => {
                    self.tell(lease, Told::Until(until, self.watch.offering.kill));
                }
                Action::Resize(lease, _, cpu) => self.resize(lease, cpu),
                Action::Pause(lease, _) => self.tell(lease, Told::Pause),
                Action::Resume(lease, _) => self.tell(lease, Told::Resume),
                Action::Terminate(lease, _, at) => self.tell(lease, Told::Terminate(at)),
                Action::Kill(lease, _) => self.tell(lease, Told::Kill),
                Action::Erase(lease) => self.erase(lease),
                Action::Send(message) => self.say(&Up::Core(message)),
                // The halves are not joined directly.
                Action::Tell(..) | Action::Lend(_) => {}
            }
        }
        for (lease, epoch) in refused {
            // Nothing was started, and nothing will be.
            if LeaseFolder::of(&self.root, lease).close() {
                self.happen(Event::Ended(lease, epoch, Outcome::Refused));
            }
        }
    }

    fn tell(&self, lease: LeaseId, told: Told) {
        // A shim that has just been spawned is told when it is there.
        let _ = LeaseFolder::of(&self.root, lease).tell(told);
    }
}
