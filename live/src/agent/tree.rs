//! Process trees: who belongs to an attempt, what it uses, and ending all of it.
//!
//! A process is known by its number and when it was started, never by its number alone: numbers
//! are used again. Signals go through a handle of the process, opened before its start time is
//! looked at.

use gridcore::units::Bytes;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;

/// One process, for as long as the machine runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// When it was started, in ticks since boot.
    pub started: u64,
    /// Which start of the machine.
    pub boot: String,
}

/// What `/proc` says of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// Its parent.
    pub parent: i32,
    /// When it was started, in ticks since boot.
    pub started: u64,
    /// Ticks of processor time, its reaped children's included.
    pub ticks: u64,
    /// Pages in memory.
    pub pages: u64,
    /// Whether it has ended and is not yet reaped.
    pub is_zombie: bool,
}

/// Returns which start of the machine this is.
#[must_use]
pub(super) fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Reads what `/proc` says of a process; `None` when there is none.
#[must_use]
pub(super) fn row(pid: i32) -> Option<Row> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Parses a line of `/proc/PID/stat`; the name in it may hold anything (proc(5)).
fn parse(line: &str) -> Option<Row> {
    let (_, rest) = line.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Fields are counted from the third, the state.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let ticks = [14, 15, 16, 17].map(number).into_iter().flatten().sum();
    Some(Row {
        parent: fields.get(1)?.parse().ok()?,
        started: number(22)?,
        ticks,
        pages: number(24)?,
        is_zombie: matches!(fields.first(), Some(&("Z" | "X"))),
    })
}

/// Walks the threads of processes.
pub(super) fn threads(rows: &BTreeMap<i32, Row>) -> impl Iterator<Item = Pid> {
    rows.keys().flat_map(|pid| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        tasks.filter_map(|task| Pid::from_raw(task.file_name().to_str()?.parse().ok()?))
    })
}

/// Reads all processes.
#[must_use]
pub(super) fn all() -> BTreeMap<i32, Row> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, row(pid)?))).collect()
}

/// Returns the processes below one, without it; zombies hold nothing and do not count.
#[must_use]
pub(super) fn below(rows: &BTreeMap<i32, Row>, root: i32) -> BTreeSet<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (pid, row) in rows {
        children.entry(row.parent).or_default().push(*pid);
    }
    let (mut found, mut open) = (BTreeSet::new(), vec![root]);
    while let Some(parent) = open.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            if found.insert(*child) {
                open.push(*child);
            }
        }
    }
    found.retain(|pid| rows.get(pid).is_some_and(|row| !row.is_zombie));
    found
}

/// Returns the processes below one, as the kernel lists them parent by parent: looking at all that
/// run costs every keeper of a busy machine too much. One that has ended counts until it is reaped:
/// threads of it may still run.
#[must_use]
pub(super) fn family(root: i32) -> BTreeMap<i32, Row> {
    let (mut found, mut open) = (BTreeMap::new(), vec![root]);
    while let Some(parent) = open.pop() {
        let Some(children) = children(parent) else {
            if parent == root {
                // The kernel keeps no such lists.
                let rows = all();
                let tree = below(&rows, root);
                return rows.into_iter().filter(|(pid, _)| tree.contains(pid)).collect();
            }
            continue;
        };
        for child in children {
            if let Some(row) = row(child)
                && found.insert(child, row).is_none()
            {
                open.push(child);
            }
        }
    }
    found
}

/// Returns the children of all threads of a process (proc(5), `children`).
fn children(pid: i32) -> Option<Vec<i32>> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let list = fs::read_to_string(task.path().join("children")).ok()?;
        found.extend(list.split_ascii_whitespace().filter_map(|child| child.parse::<i32>().ok()));
    }
    Some(found)
}

/// Returns the memory of some processes: what each has in memory, and where that is more than
/// `bound`, what is theirs when pages that several share are counted once.
#[must_use]
pub(super) fn memory_of(rows: &BTreeMap<i32, Row>, bound: Bytes) -> Bytes {
    let page = rustix::param::page_size() as u64;
    let pages: u64 = rows.values().map(|row| row.pages).sum();
    let resident = Bytes::new(pages.saturating_mul(page));
    if resident <= bound {
        return resident;
    }
    let shares = rows.keys().filter_map(|pid| proportional(*pid));
    shares.fold(Bytes::ZERO, Bytes::saturating_add).min(resident)
}

/// Returns a process's proportional share of memory (proc(5), `smaps_rollup`).
fn proportional(pid: i32) -> Option<Bytes> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib = line.split_ascii_whitespace().next()?.parse::<u64>().ok()?;
    Some(Bytes::new(kib.saturating_mul(1_024)))
}

/// Returns the processes that carry a mark in their environment: what is left of an attempt whose
/// keeper was killed.
#[must_use]
pub(super) fn marked(mark: &str) -> BTreeSet<i32> {
    let carries = |pid: &i32| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|line| line == mark.as_bytes())
    };
    let rows = all();
    let alive = rows.iter().filter(|(_, row)| !row.is_zombie).map(|(pid, _)| *pid);
    alive.filter(carries).collect()
}

/// Sends a signal to a process that was started then, and to no other that has its number.
pub(super) fn signal(pid: i32, started: u64, signal: Signal) {
    if let Some(handle) = handle(pid, started) {
        let _ = pidfd_send_signal(handle, signal);
    }
}

/// Sends a signal to every process of a set.
pub(super) fn signal_all(rows: &BTreeMap<i32, Row>, with: Signal) {
    for (pid, row) in rows {
        signal(*pid, row.started, with);
    }
}

/// Opens a process that was started then: the handle never becomes another's.
fn handle(pid: i32, started: u64) -> Option<OwnedFd> {
    let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    (row(pid)?.started == started).then_some(handle)
}

impl ProcessId {
    /// Returns the identity of a process that runs.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, started: row(pid)?.started, boot: boot() })
    }

    /// Opens it, if it runs: the handle can be polled for its end.
    #[must_use]
    pub fn open(&self) -> Option<OwnedFd> {
        handle(self.pid, self.started).filter(|_| self.is_alive())
    }

    /// Returns whether it runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let same = row(self.pid).filter(|row| row.started == self.started && !row.is_zombie);
        same.is_some() && self.boot == boot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_and_spaces_are_parsed() {
        let tail = "S 1 9 9 0 -1 4 5 6 7 8 10 20 30 40 20 0 1 0 777 9999 55 18446744073709551615";
        let row = parse(&format!("42 (a ) S 2 (c)) {tail}")).unwrap();
        let wanted = Row { parent: 1, started: 777, ticks: 100, pages: 55, is_zombie: false };
        assert_eq!(row, wanted);
    }

    #[test]
    fn this_process_is_alive_and_no_other_with_its_number() {
        let me = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.is_alive());
        assert!(!ProcessId { started: me.started + 1, ..me.clone() }.is_alive());
        assert!(!ProcessId { boot: "another".into(), ..me.clone() }.is_alive());
        assert!(below(&all(), row(me.pid).unwrap().parent).contains(&me.pid));
        assert!(family(row(me.pid).unwrap().parent).contains_key(&me.pid));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(family(me.pid).contains_key(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!family(me.pid).contains_key(&pid));
    }
}
