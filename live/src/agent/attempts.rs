//! Attempts: their shims started, watched, reminded and concluded.

use super::order::{self, LeaseFolder, Order, Told, log_file, mark};
use super::{Agent, LOGS_MAX, SHIM_STARTS, Shim, hardware, tree};
use crate::clock::{since_boot, wait};
use crate::frame::{DATA_MAX, Exit, Membership, Up};
use crate::program::note;
use gridcore::ids::{Epoch, JobId, LeaseId};
use gridcore::station::{Event, Station};
use gridcore::units::{MilliCores, Span, Time};
use gridcore::wire::{Outcome, Start};
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

/// How long the driver may take to free a device whose processes are gone.
const FREES: Span = Span::seconds(10);

impl Agent {
    /// Starts the shim of a lease.
    pub(super) fn spawn(&mut self, lease: LeaseId, epoch: Epoch, until: Time) -> io::Result<()> {
        let (Some(station), Some(member)) = (&self.station, &self.member) else { return Ok(()) };
        let held = station.leases.get(&lease);
        let start = held.map(|held| held.start.clone()).unwrap_or_default();
        let program = self.programs.get(&start.task.program).cloned();
        let program = program.ok_or_else(|| io::Error::other("its program never came"))?;
        let processors = self.choose_processors(lease, start.needs.cpu);
        let folder = LeaseFolder::of(&self.root, lease);
        let gpus = self.gpus.names(start.devices);
        let gpus = gpus.ok_or_else(|| io::Error::other("one of its GPUs is not there"))?;
        let env = environment(&start, member, (&processors, &gpus), &folder, until);
        let kill = self.watch.offering.kill;
        let (job, used_before) = (start.job, self.gpus.used(start.devices));
        self.processors.insert(lease, processors.clone());
        self.used_before.insert(lease, used_before);
        let memory = start.needs.memory;
        let order =
            Order { lease, epoch, job, program, env, processors, memory, used_before, until, kill };
        let runs = !order.program.command.is_empty();
        if let Some(leaf) = runs.then(|| self.cgroups.leaf(lease, memory)).flatten() {
            folder.set_leaf(&leaf)?;
        }
        // After a power failure there is no shim that could read it.
        note(&folder.file("order"), &order)?;
        folder.set_processors(&order.processors)?;
        let mut shim = Command::new("/proc/self/exe");
        shim.arg("shim").arg(&self.root).arg(folder.path()).env_clear();
        shim.envs(std::env::vars_os().filter(|(key, _)| key != "GRID_LEASE"));
        shim.env("GRID_LEASE", mark_value(start.lease, epoch, member.cluster));
        shim.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        self.shims.insert(lease, Shim::Spawned(since_boot()));
        Ok(())
    }

    /// Gives the processes of a lease so much CPU from now on.
    pub(super) fn resize(&mut self, lease: LeaseId, cpu: MilliCores) {
        let processors = self.choose_processors(lease, cpu);
        self.tell(lease, Told::Processors(order::mask_of(&processors)));
        // Its job reads there what it has; a full disk keeps nobody from getting it.
        let _ = LeaseFolder::of(&self.root, lease).set_processors(&processors);
        self.processors.insert(lease, processors);
    }

    /// Chooses the processors of a lease: those that the fewest others have, its own before others,
    /// lowest first.
    fn choose_processors(&self, lease: LeaseId, cpu: MilliCores) -> Vec<u32> {
        let count = cpu.get().div_ceil(1_000);
        let cores = hardware().cores;
        if count == 0 || count >= u64::from(cores) {
            return (0..cores).collect();
        }
        let mut used: BTreeMap<u32, u32> = (0..cores).map(|core| (core, 0)).collect();
        for (_, processors) in self.processors.iter().filter(|(other, _)| **other != lease) {
            for core in processors {
                *used.entry(*core).or_insert(0) += 1;
            }
        }
        let own = self.processors.get(&lease);
        let moves = |core: u32| own.is_some_and(|own| !own.contains(&core));
        let mut order: Vec<(u32, bool, u32)> =
            used.into_iter().map(|(core, n)| (n, moves(core), core)).collect();
        order.sort_unstable();
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let chosen: BTreeSet<u32> = order.into_iter().take(count).map(|(.., core)| core).collect();
        chosen.into_iter().collect()
    }

    /// Notes which shims are there and which have ended.
    pub(super) fn look_at_shims(&mut self) {
        // Only shims are this process's children, and what shims that were killed have left it.
        while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
        let leases: Vec<LeaseId> = self.shims.keys().copied().collect();
        let now = since_boot();
        for lease in leases {
            let folder = LeaseFolder::of(&self.root, lease);
            let lost = match self.shims.get(&lease) {
                Some(Shim::Spawned(since)) => match folder.shim() {
                    Some(shim) => match shim.open() {
                        Some(handle) => {
                            self.shims.insert(lease, Shim::There(handle, shim.pid));
                            self.remind(lease);
                            false
                        }
                        None => true,
                    },
                    None => since.after(SHIM_STARTS) <= now && folder.close(),
                },
                Some(Shim::There(handle, _)) => has_ended(handle),
                Some(Shim::Lost(_)) => true,
                None => false,
            };
            if lost {
                self.conclude(lease, &folder);
            }
        }
        if let Some(station) = &self.station {
            self.cgroups.tidy(|lease| station.leases.contains_key(&lease));
        }
    }

    /// Tells a shim that has just come what it may have missed.
    fn remind(&self, lease: LeaseId) {
        use gridcore::station::held::Phase;
        let held = self.station.as_ref().and_then(|station| station.leases.get(&lease));
        let Some(held) = held else { return };
        self.tell(lease, Told::Until(held.until, self.watch.offering.kill));
        if let Some(processors) = self.processors.get(&lease).filter(|_| held.start.least.is_some())
        {
            self.tell(lease, Told::Processors(order::mask_of(processors)));
        }
        match held.phase {
            Phase::Paused(_) => self.tell(lease, Told::Pause),
            Phase::Leaving(at, _) => self.tell(lease, Told::Terminate(at)),
            Phase::Killed(..) => self.tell(lease, Told::Kill),
            Phase::Running if held.suspended => self.tell(lease, Told::Pause),
            Phase::Running | Phase::Ended(..) => {}
        }
    }

    /// Notes the end of a lease whose shim is gone, once nothing of it is left.
    fn conclude(&mut self, lease: LeaseId, folder: &LeaseFolder) {
        let held = self.station.as_ref().and_then(|station| station.leases.get(&lease));
        let Some((_, epoch)) = held.map(gridcore::station::held::Held::name) else {
            self.shims.remove(&lease);
            return;
        };
        let job = held.map_or(JobId::new(0), |held| held.start.job);
        let devices = held.map_or(0, |held| held.start.devices);
        let (end, now) = (folder.end(), since_boot());
        if end.is_none() {
            // It was killed: what it kept is in its group, still carries its mark, or both.
            let cluster = self.member.as_ref().map_or(0, |member| member.cluster);
            let grouped = self.cgroups.kill(lease);
            let left = tree::marked(&mark(lease, epoch, cluster));
            if grouped || !left.is_empty() {
                let mut rows = tree::all();
                rows.retain(|pid, _| left.contains(pid));
                tree::signal_all(&rows, rustix::process::Signal::KILL);
                self.shims.insert(lease, Shim::Lost(now));
                return;
            }
        }
        if devices != 0 && !self.has_left(lease, devices) {
            return;
        }
        self.shims.remove(&lease);
        self.processors.remove(&lease);
        self.inputs.remove(&lease);
        self.used_before.remove(&lease);
        self.cgroups.remove(lease);
        let exit = end.map_or(Exit { signal: Some(9), ..Exit::default() }, |end| end.exit);
        self.say(&Up::Exited { lease, job, epoch, exit });
        let ended = end.as_ref().map_or(Outcome::Stopped, outcome);
        self.happen(Event::Ended(lease, epoch, ended));
    }

    /// Returns whether a lease whose processes are gone has left its GPUs, too; where they are not
    /// seen free in time, it has, and they are not lent until they are.
    fn has_left(&mut self, lease: LeaseId, devices: u64) -> bool {
        let now = since_boot();
        let gone = match self.shims.get(&lease) {
            Some(Shim::Lost(gone)) => *gone,
            Some(Shim::Spawned(_) | Shim::There(..)) | None => now,
        };
        self.shims.insert(lease, Shim::Lost(gone));
        let before = self.used_before.get(&lease).copied().unwrap_or_default();
        if self.gpus.are_free(devices, before, gone) == Some(true) {
            return true;
        }
        if gone.after(FREES) <= now {
            self.gpus.soil(devices, before);
            // Nothing starts there between the end of the lease and the next look.
            self.sample();
            return true;
        }
        self.gpus.ask();
        false
    }

    /// Says again how attempts ended that nobody has forgotten yet.
    pub(super) fn tell_exits(&mut self) {
        let Some(station) = &self.station else { return };
        let ended: Vec<Up> = station
            .leases
            .values()
            .filter(|held| !held.is_alive())
            .filter_map(|held| {
                let (lease, epoch) = held.name();
                let end = LeaseFolder::of(&self.root, lease).end()?;
                Some(Up::Exited { lease, job: held.start.job, epoch, exit: end.exit })
            })
            .collect();
        ended.iter().for_each(|up| self.say(up));
    }

    /// Keeps nothing of a lease but what its job has printed.
    pub(super) fn erase(&mut self, lease: LeaseId) {
        let _ = fs::remove_dir_all(LeaseFolder::of(&self.root, lease).path());
        self.shims.remove(&lease);
        self.processors.remove(&lease);
        self.inputs.remove(&lease);
        self.used_before.remove(&lease);
        self.cgroups.remove(lease);
        for part in ["jobs", "work"] {
            let entries = fs::read_dir(self.root.join(part)).into_iter().flatten().flatten();
            let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            let mut jobs: Vec<u64> = numbers.collect();
            jobs.sort_unstable();
            let old = jobs.len().saturating_sub(LOGS_MAX);
            for job in jobs.into_iter().take(old) {
                let _ = fs::remove_dir_all(self.root.join(part).join(job.to_string()));
            }
        }
    }

    /// Reads what a job has printed; the flag says that nothing more will come.
    pub(super) fn read_log(
        &self,
        job: JobId,
        epoch: Epoch,
        errors: bool,
        from: u64,
    ) -> (Vec<u8>, bool) {
        let runs = |station: &Station| {
            let mut of_job = station.leases.values().filter(|held| held.start.job == job);
            of_job.any(|held| held.start.epoch == epoch && held.is_alive())
        };
        let over = !self.station.as_ref().is_some_and(runs);
        let mut bytes = Vec::new();
        let read = File::open(log_file(&self.root, job, epoch, errors)).and_then(|mut file| {
            file.seek(SeekFrom::Start(from))?;
            file.take(DATA_MAX as u64).read_to_end(&mut bytes)
        });
        let at_end = read.is_err() || bytes.len() < DATA_MAX;
        (bytes, over && at_end)
    }
}

/// Returns whether a process has ended.
fn has_ended(handle: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(handle, PollFlags::IN)];
    let at_once = wait(Time::ZERO, Time::ZERO);
    poll(&mut fds, Some(&at_once)).is_ok_and(|count| count > 0)
}

/// Returns what the core is told of an end.
pub(super) fn outcome(end: &order::End) -> Outcome {
    match end.exit.code {
        _ if end.told => Outcome::Stopped,
        Some(0) => Outcome::Completed,
        Some(_) | None => Outcome::Failed,
    }
}

fn mark_value(lease: LeaseId, epoch: Epoch, cluster: u64) -> String {
    mark(lease, epoch, cluster).trim_start_matches("GRID_LEASE=").to_owned()
}

/// Returns what the grid adds to a job's environment.
fn environment(
    start: &Start,
    member: &Membership,
    (processors, gpus): (&[u32], &[String]),
    folder: &LeaseFolder,
    until: Time,
) -> Vec<(String, String)> {
    let expires = crate::clock::wall_seconds() + until.since(since_boot()).get() / 1_000;
    let pairs = [
        ("GRID_JOB_ID", start.job.get().to_string()),
        ("GRID_ATTEMPT", start.epoch.get().to_string()),
        ("GRID_ARRAY_INDEX", start.task.index.to_string()),
        ("GRID_NODE", member.name.clone()),
        ("GRID_CPUS", start.needs.cpu.get().div_ceil(1_000).to_string()),
        ("GRID_CPU_LIST", order::list(processors)),
        ("GRID_CPU_LIST_FILE", folder.file("processors").to_string_lossy().into_owned()),
        ("GRID_MEM_BYTES", start.needs.memory.get().to_string()),
        ("GRID_GPUS", gpus.len().to_string()),
        ("GRID_LEASE_EXPIRES_AT", expires.to_string()),
        ("GRID_NOTICE_FILE", folder.file("notice").to_string_lossy().into_owned()),
        ("GRID_LEASE", mark_value(start.lease, start.epoch, member.cluster)),
        // Empty, not unset: a job without a GPU sees none.
        ("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()),
        ("CUDA_VISIBLE_DEVICES", gpus.join(",")),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
