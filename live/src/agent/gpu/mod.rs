//! The GPUs of a machine: which they are, who uses them, and whether they are well.
//!
//! A driver can hang for ever, so a thread of its own asks it. What it has not answered in time is
//! not known, and what is not known counts as used by the owner.

mod probe;

use crate::clock::since_boot;
use crate::frame::Device;
use crate::program::{load, save};
use gridcore::units::{BasisPoints, Bytes, Span, Time};
use gridcore::wire::GpuSample;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

/// How long the first look may take: a driver that sleeps wakes up device by device.
const FIRST: Span = Span::seconds(10);
/// How long a look may take before its devices count as used.
pub(super) const ANSWERS: Span = Span::seconds(2);
/// What is used of a device beyond what was used before, and still counts as freed.
const NOISE: u64 = 256 << 20;
/// A device that must not be lent. It says nothing of how busy its owner is: that would be
/// remembered.
const TAKEN: GpuSample =
    GpuSample { busy: BasisPoints::ZERO, memory: Bytes::ZERO, foreign: true, leased: None };

/// The GPUs, as their agent knows them.
pub(super) struct Gpus {
    asks: Sender<()>,
    answers: Receiver<Option<Vec<Device>>>,
    wake: UnixStream,
    /// Since when an answer is due.
    asked: Option<Time>,
    /// The devices at the last look, and when it was asked for.
    last: Vec<Device>,
    seen: Time,
    /// Which devices the cluster's numbers stand for: they stay, whatever is found.
    numbers: Vec<String>,
    file: PathBuf,
    /// Devices that a lease has left and that were not seen free since; what may be in use there.
    dirty: BTreeMap<usize, Bytes>,
}

impl Gpus {
    /// Finds the devices of this machine; those that had a number before keep it.
    ///
    /// # Errors
    /// When no thread can be started, or the list on disk cannot be read.
    pub(super) fn find(root: &Path) -> io::Result<Self> {
        let (asks, asked) = channel();
        let (told, answers) = channel();
        let (wake, wakes) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        wakes.set_nonblocking(true)?;
        let thread = std::thread::Builder::new().name("gpus".into());
        thread.spawn(move || probe::run(&asked, &told, &wakes))?;
        let file = root.join("devices");
        let numbers = load(&file)?.unwrap_or_default();
        let mut gpus = Self {
            asks,
            answers,
            wake,
            asked: None,
            last: Vec::new(),
            seen: Time::ZERO,
            numbers,
            file,
            dirty: BTreeMap::new(),
        };
        gpus.ask();
        let wait = std::time::Duration::from_millis(FIRST.get());
        if let Ok(devices) = gpus.answers.recv_timeout(wait) {
            gpus.note(devices);
        }
        Ok(gpus)
    }

    /// Asks for a look, unless one is under way.
    pub(super) fn ask(&mut self) {
        if self.asked.is_none() && self.asks.send(()).is_ok() {
            self.asked = Some(since_boot());
        }
    }

    /// Returns whether a look is under way, and not for too long.
    pub(super) fn is_looking(&self) -> bool {
        self.asked.is_some_and(|at| since_boot() < at.after(ANSWERS))
    }

    /// Returns what wakes the agent when a look has ended.
    pub(super) fn wakes(&self) -> &UnixStream {
        &self.wake
    }

    /// Takes the answers that have come.
    pub(super) fn take(&mut self) {
        let mut bytes = [0; 64];
        while (&self.wake).read(&mut bytes).is_ok_and(|count| count > 0) {}
        while let Ok(devices) = self.answers.try_recv() {
            self.note(devices);
        }
    }

    fn note(&mut self, devices: Option<Vec<Device>>) {
        // A device in parts of its own (MIG) has no whole to lend.
        let whole = devices.into_iter().flatten().filter(|device| !device.split);
        self.last = whole.collect();
        self.seen = self.asked.take().unwrap_or_default();
        let found = self.last.iter().map(|device| &device.uuid);
        let new: Vec<String> = found.filter(|uuid| !self.numbers.contains(uuid)).cloned().collect();
        if !new.is_empty() {
            self.numbers.extend(new);
            // Without it the next agent counts anew, by the same order.
            let _ = save(&self.file, &self.numbers);
        }
    }

    /// Returns the devices of the last look, by number; `None` where one was not seen.
    pub(super) fn devices(&self) -> Vec<Option<&Device>> {
        let of = |uuid: &String| self.last.iter().find(|device| device.uuid == *uuid);
        self.numbers.iter().map(of).collect()
    }

    /// Returns whether there never were any.
    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Returns the names of some devices, one bit each; `None` where one is not there, or broken.
    pub(super) fn names(&self, mask: u64) -> Option<Vec<String>> {
        let devices = self.devices();
        let name = |number: usize| {
            let device = devices.get(number).copied().flatten()?;
            device.sick.is_none().then(|| device.uuid.clone())
        };
        numbers(mask).map(name).collect()
    }

    /// Returns what is used of some devices.
    pub(super) fn used(&self, mask: u64) -> Bytes {
        let devices = self.devices();
        let used = numbers(mask).filter_map(|n| Some(devices.get(n).copied().flatten()?.used));
        used.fold(Bytes::ZERO, Bytes::saturating_add)
    }

    /// Returns whether devices that a lease has left were seen free since `at`: no process of the
    /// past on them, and no more memory in use than before; `None` while that is not known.
    pub(super) fn are_free(&self, mask: u64, before: Bytes, at: Time) -> Option<bool> {
        if self.seen <= at {
            return None;
        }
        let devices = self.devices();
        let here = || numbers(mask).filter_map(|number| devices.get(number).copied().flatten());
        let all = || here().flat_map(|device| &device.processes);
        if all().any(|process| !is_there(process.pid)) {
            return Some(false);
        }
        // What others use there by now explains any amount.
        Some(all().next().is_some() || is_freed(self.used(mask), before))
    }

    /// Notes that devices were left and not seen free: they are lent when they were.
    pub(super) fn soil(&mut self, mask: u64, before: Bytes) {
        self.dirty.extend(numbers(mask).map(|number| (number, before)));
    }

    /// Returns what the owner uses of each device, beside our own processes and leases, and what
    /// leases use of those they hold.
    pub(super) fn sample(&mut self, ours: &BTreeSet<i32>, leased: u64) -> Vec<GpuSample> {
        let fresh = since_boot() < self.seen.after(ANSWERS);
        let mut dirty = std::mem::take(&mut self.dirty);
        let judge = |(number, device): (usize, Option<&Device>)| {
            let Some(device) = device.filter(|_| fresh) else { return TAKEN };
            let free = |before| match device.processes.as_slice() {
                [] => is_freed(device.used, before),
                users => users.iter().all(|process| is_there(process.pid)),
            };
            dirty.retain(|dirt, before| *dirt != number || !free(*before));
            if dirty.contains_key(&number) || device.sick.is_some() {
                return TAKEN;
            }
            of_owner(device, ours, leased & 1 << number != 0)
        };
        let samples = self.devices().into_iter().enumerate().take(64).map(judge).collect();
        self.dirty = dirty;
        samples
    }
}

/// Returns what the owner uses of one device, and what leases do where they alone use it.
fn of_owner(device: &Device, ours: &BTreeSet<i32>, leased: bool) -> GpuSample {
    // A process that `/proc` does not show has just ended, or is in another container: ours, where
    // the device is ours.
    let foreign = device.processes.iter().any(|process| {
        let known = i32::try_from(process.pid).is_ok_and(|pid| ours.contains(&pid));
        !known && (is_there(process.pid) || !leased)
    });
    let seen = device.busy.map(|busy| BasisPoints::percent(busy.into()));
    if foreign || !leased {
        let busy = seen.unwrap_or(BasisPoints::ALL);
        return GpuSample { busy, memory: device.used, foreign, leased: None };
    }
    GpuSample { busy: BasisPoints::ZERO, memory: Bytes::ZERO, foreign: false, leased: seen }
}

/// Walks the numbers of a mask's bits.
fn numbers(mask: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |number| mask & 1 << number != 0)
}

fn is_freed(used: Bytes, before: Bytes) -> bool {
    used.get() <= before.get() + NOISE
}

fn is_there(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// Returns whose process it is, by name where the machine's own list has it.
fn user_of(pid: u32) -> Option<String> {
    let user = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    Some(user_name(user))
}

/// Returns the name of a user of this machine, or the number.
#[must_use]
pub fn user_name(user: u32) -> String {
    let list = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(user)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| user.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::DeviceProcess;

    /// A number that no process has.
    const NOBODY: u32 = u32::MAX;

    fn device(pids: &[u32], busy: Option<u8>) -> Device {
        let process = |pid: &u32| DeviceProcess { pid: *pid, memory: None, user: None };
        let processes = pids.iter().map(process).collect();
        Device { used: Bytes::gib(3), busy, processes, ..Device::default() }
    }

    #[test]
    fn what_our_own_work_uses_is_not_the_owners() {
        let me = std::process::id();
        let ours = BTreeSet::from([i32::try_from(me).unwrap()]);
        let nothing = |leased: Option<u16>| GpuSample {
            leased: leased.map(BasisPoints::percent),
            ..GpuSample::default()
        };
        let of = |device: &Device, leased| of_owner(device, &ours, leased);
        assert_eq!(of(&device(&[me], Some(97)), true), nothing(Some(97)));
        // Another container's, where the device is ours; else a stranger.
        assert_eq!(of(&device(&[me, NOBODY], Some(97)), true), nothing(Some(97)));
        // What cannot be told of ours is not idle either.
        assert_eq!(of(&device(&[me], None), true), nothing(None));
        assert!(of(&device(&[NOBODY], Some(0)), false).foreign);
        let beside = of(&device(&[me, 1], Some(97)), true);
        assert_eq!((beside.foreign, beside.leased), (true, None));
        // The owner draws on it, and nobody computes.
        let drawn = of(&device(&[], Some(40)), false);
        assert_eq!((drawn.busy.get(), drawn.memory, drawn.foreign), (4_000, Bytes::gib(3), false));
        // What cannot be told is not idle.
        assert_eq!(of(&device(&[], None), false).busy, BasisPoints::ALL);
    }

    #[test]
    fn users_have_names() {
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_000), "4000000000");
    }
}
