//! Control groups of attempts: one folder of the kernel's for each, out of which no fork, session
//! or environment leads, and which is killed at once (cgroups(7), version 2).
//!
//! ```text
//! A/               the agent's own group or one above it; agent and shims stay where they are
//!   gridlive-X/    this node's: X is no other's, and noted in `cgroups` in the node's folder
//!     L/           the attempt of one lease
//! ```
//!
//! A process may only be moved by who may write the nearest group above both places, and memory is
//! bounded only below a group that holds no processes of its own: hence the search upwards. Where
//! nothing is found all else does without, and `doctor` says so.

use crate::clock::{since_boot, unique, wait};
use crate::program::write_whole;
use gridcore::ids::LeaseId;
use gridcore::units::{Bytes, Span, Time};
use rustix::event::poll;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

/// Most threads of one attempt, for the kernel counts those. Its processes may be a quarter, looked
/// at once a second; this stops what forks faster.
const TASKS_MAX: u64 = 16_384;
/// How long killed processes may take to leave, before their folders stay behind.
const LEAVES: Span = Span::seconds(5);
/// How often it looks whether they have.
const LOOK: Span = Span::new(20);
/// The file in a node's folder that notes its places.
const NOTED: &str = "cgroups";
/// What the names of all nodes' places begin with.
const PREFIX: &str = "gridlive-";

/// What the kernel bounds of an attempt, beside ending all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bounds {
    /// Its memory.
    pub memory: bool,
    /// How many threads it has.
    pub processes: bool,
}

impl Bounds {
    const ALL: Self = Self { memory: true, processes: true };

    /// Reads them from what is on for the groups below one.
    fn of(controllers: &str) -> Self {
        let has = |name| controllers.split_ascii_whitespace().any(|word| word == name);
        Self { memory: has("memory"), processes: has("pids") }
    }
}

/// The groups of a node.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// All places that it has made and that may be there: an agent that is started from elsewhere
    /// reaches another one.
    places: Vec<PathBuf>,
    /// The one where attempts start now, or why there is none.
    here: Result<(PathBuf, Bounds), String>,
    /// Whether there may be groups that no lease has.
    untidy: bool,
}

/// The group of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf(PathBuf);

impl Cgroups {
    /// Finds the place for a node's groups that gives most, by trying; the nearest of several.
    pub(super) fn find(root: &Path) -> Self {
        let noted = fs::read_to_string(root.join(NOTED)).unwrap_or_default();
        let ours = |place: &PathBuf| place.is_absolute() && place.file_name().is_some_and(is_place);
        let places = noted.lines().map(PathBuf::from).filter(ours).collect();
        let mut found = Self { places, here: Err(String::new()), untidy: true };
        found.here = found.search(root).map_err(|error| error.to_string());
        found.places.retain(|place| place.is_dir());
        found
    }

    fn search(&mut self, root: &Path) -> io::Result<(PathBuf, Bounds)> {
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let groups = above(&own, &fs::read_to_string("/proc/self/mountinfo")?);
        let noted = self.places.first().and_then(|place| place.file_name());
        let name = match noted {
            Some(name) => name.to_owned(),
            None => format!("{PREFIX}{:016x}", unique()?).into(),
        };
        let wanted: Vec<PathBuf> = groups.iter().map(|group| group.join(&name)).collect();
        self.note(root, &wanted)?;
        let (mut best, mut why) = (None, None);
        for place in wanted {
            match make(&place) {
                Ok(bounds) if best.as_ref().is_none_or(|(_, most)| bounds > *most) => {
                    best = Some((place, bounds));
                    if bounds == Bounds::ALL {
                        break;
                    }
                }
                Ok(_) => {}
                // Of its own group, the first, somebody may want to know.
                Err(error) => why = why.or(Some((place, error))),
            }
        }
        let chosen = best.as_ref().map(|(place, _)| place);
        for other in self.places.iter().filter(|place| Some(*place) != chosen) {
            // What still runs there keeps it.
            let _ = fs::remove_dir(other);
        }
        best.ok_or_else(|| match why {
            Some((place, error)) => {
                let group = place.parent().unwrap_or(&place).display();
                io::Error::other(format!("{group}: {error}"))
            }
            None => io::Error::other("none of version 2 is mounted"),
        })
    }

    /// Notes places before they are made: none is ever forgotten.
    fn note(&mut self, root: &Path, wanted: &[PathBuf]) -> io::Result<()> {
        let old = self.places.clone();
        self.places.retain(|place| place.is_dir());
        for place in wanted {
            if !self.places.contains(place) {
                self.places.push(place.clone());
            }
        }
        if self.places == old {
            return Ok(());
        }
        let lines = self.places.iter().map(|place| format!("{}\n", place.display()));
        write_whole(&root.join(NOTED), lines.collect::<String>().as_bytes())
    }

    /// Returns what the kernel bounds here, or why there are no groups.
    pub(super) fn gives(&self) -> Result<Bounds, &str> {
        self.here.as_ref().map(|(_, bounds)| *bounds).map_err(String::as_str)
    }

    /// Makes the group of an attempt, bounded by what it was granted; `None` where there is none.
    pub(super) fn leaf(&self, lease: LeaseId, memory: Bytes) -> Option<Leaf> {
        let (place, bounds) = self.here.as_ref().ok()?;
        let leaf = Leaf(place.join(lease.get().to_string()));
        if fs::create_dir(&leaf.0).is_err() {
            // Somebody has tidied up here; or it is left of a start that never was.
            leaf.remove();
            make(place).ok()?;
            fs::create_dir(&leaf.0).ok()?;
        }
        leaf.bound(*bounds, memory);
        Some(leaf)
    }

    /// Kills what is in a lease's group; returns whether something still is.
    pub(super) fn kill(&self, lease: LeaseId) -> bool {
        let leaves: Vec<Leaf> = self.leaves(lease).collect();
        leaves.iter().for_each(Leaf::kill);
        leaves.iter().any(Leaf::is_populated)
    }

    /// Removes a lease's group.
    pub(super) fn remove(&mut self, lease: LeaseId) {
        let left = self.leaves(lease).filter(|leaf| !leaf.remove()).count();
        self.untidy |= left > 0;
    }

    fn leaves(&self, lease: LeaseId) -> impl Iterator<Item = Leaf> {
        let name = lease.get().to_string();
        self.places.iter().map(move |place| Leaf(place.join(&name)))
    }

    /// Kills and removes the groups of leases that nobody knows.
    pub(super) fn tidy(&mut self, is_known: impl Fn(LeaseId) -> bool) {
        if !self.untidy {
            return;
        }
        self.untidy = false;
        for leaf in self.places.iter().flat_map(|place| folders(place)).map(Leaf) {
            let name = leaf.0.file_name().and_then(OsStr::to_str).unwrap_or_default();
            if name.parse().is_ok_and(|number| is_known(LeaseId::new(number))) {
                continue;
            }
            leaf.kill();
            self.untidy |= !leaf.remove();
        }
    }

    /// Leaves nothing of this node in the hierarchy.
    pub(super) fn leave(&self) {
        let until = since_boot().after(LEAVES);
        for place in self.places.iter().cloned().map(Leaf) {
            place.kill();
            while !place.remove() && since_boot() < until {
                let _ = poll(&mut [], Some(&wait(Time::ZERO, Time::ZERO.after(LOOK))));
            }
        }
    }
}

impl Leaf {
    /// Bounds it by what was granted.
    fn bound(&self, bounds: Bounds, memory: Bytes) {
        if bounds.memory && memory != Bytes::ZERO {
            let _ = put(&self.0.join("memory.max"), &memory.get().to_string());
            // What was granted is memory, and half a job is none.
            let _ = put(&self.0.join("memory.swap.max"), "0");
            let _ = put(&self.0.join("memory.oom.group"), "1");
        }
        if bounds.processes {
            let _ = put(&self.0.join("pids.max"), &TASKS_MAX.to_string());
        }
    }

    /// Moves this process into it.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn enter(&self) -> io::Result<()> {
        put(&self.0.join("cgroup.procs"), "0")
    }

    /// Kills all that is in it.
    pub(super) fn kill(&self) {
        let _ = put(&self.0.join("cgroup.kill"), "1");
    }

    /// Returns whether a process is in it; where it is gone, none can be.
    pub(super) fn is_populated(&self) -> bool {
        self.count("cgroup.events", "populated") > 0
    }

    /// Returns whether something in it was killed because it had no more memory than its bound.
    pub(super) fn ran_out(&self) -> bool {
        // Where the whole machine has run out, its own bound was not reached.
        self.count("memory.events.local", "oom") > 0 && self.count("memory.events", "oom_kill") > 0
    }

    /// Reads a number from one of its files.
    fn count(&self, file: &str, name: &str) -> u64 {
        let text = fs::read_to_string(self.0.join(file)).unwrap_or_default();
        let mut words = text.lines().filter_map(|line| line.split_once(' '));
        words.find(|(word, _)| *word == name).and_then(|(_, n)| n.parse().ok()).unwrap_or(0)
    }

    /// Removes it, with what was made below it; returns whether it is gone.
    fn remove(&self) -> bool {
        let (mut open, mut found) = (vec![self.0.clone()], Vec::new());
        while let Some(folder) = open.pop() {
            open.extend(folders(&folder));
            found.push(folder);
        }
        for folder in found.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
        !self.0.exists()
    }
}

/// Returns whether a group has the name of a node's.
fn is_place(name: &OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).unwrap_or_default();
    number.len() == 16 && number.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// Makes a place, and finds out what it gives.
fn make(place: &Path) -> io::Result<Bounds> {
    match fs::create_dir(place) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let tried = try_out(place);
    if tried.is_err() {
        let _ = fs::remove_dir(place);
    }
    tried
}

fn try_out(place: &Path) -> io::Result<Bounds> {
    if !place.join("cgroup.procs").exists() {
        return Err(io::Error::other("it is no cgroup"));
    }
    if !place.join("cgroup.kill").exists() {
        return Err(io::Error::other("the kernel has no cgroup.kill: 5.14 is needed"));
    }
    // Processes are moved by who may write this.
    let above = place.parent().unwrap_or(place).join("cgroup.procs");
    File::options().write(true).open(above)?;
    let kind = fs::read_to_string(place.join("cgroup.type"))?;
    if kind.trim() != "domain" {
        return Err(io::Error::other(format!("groups in it are {}", kind.trim())));
    }
    let switch = place.join("cgroup.subtree_control");
    for controller in ["memory", "pids", "cpu"] {
        // What is not there is not given.
        let _ = put(&switch, &format!("+{controller}"));
    }
    Ok(Bounds::of(&fs::read_to_string(switch)?))
}

/// Writes to one of the kernel's files; makes none.
fn put(path: &Path, text: &str) -> io::Result<()> {
    File::options().write(true).open(path)?.write_all(text.as_bytes())
}

/// Returns the folders in one.
fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries.filter(is_folder).map(|entry| entry.path()).collect()
}

/// Returns where a process's own group of version 2 and those above it are mounted, nearest first,
/// by what `/proc` says of the process (cgroups(7)) and of its mounts (proc(5), `mountinfo`).
fn above(own: &str, mounts: &str) -> Vec<PathBuf> {
    let Some(own) = own.lines().find_map(|line| line.strip_prefix("0::")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for line in mounts.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else { continue };
        let mut fields = mount.split(' ').skip(3).map(unescaped);
        let (Some(root), Some(point)) = (fields.next(), fields.next()) else { continue };
        // A namespace may begin below what is mounted, or elsewhere.
        let Ok(below) = Path::new(own).strip_prefix(&root) else { continue };
        let is_name = |part: Component<'_>| matches!(part, Component::Normal(_));
        if kind.split(' ').next() != Some("cgroup2") || !below.components().all(is_name) {
            continue;
        }
        let names: Vec<&OsStr> = below.iter().collect();
        // A node that is itself a job stays in its attempt's group.
        let least = names.iter().rposition(|name| is_place(name)).map_or(0, |place| place + 2);
        for depth in (least.min(names.len())..=names.len()).rev() {
            let mut group = PathBuf::from(&point);
            group.extend(names.iter().take(depth));
            found.push(group);
        }
    }
    // One path is one line where they are noted.
    found.retain(|group| group.to_str().is_some_and(|path| !path.contains('\n')));
    found
}

/// Returns a field of `mountinfo` without its escapes: three octal digits after a backslash.
fn unescaped(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(3).unwrap_or((part, ""));
        let byte = u8::from_str_radix(code, 8).ok();
        text.extend(byte.map(char::from));
        text.push_str(if byte.is_some() { rest } else { part });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(own: &str, mounts: &str) -> Vec<String> {
        above(own, mounts).iter().map(|path| path.display().to_string()).collect()
    }

    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_own_group_is_found_with_those_above_it() {
        let session = "0::/user.slice/user-1000.slice/session-3.scope\n";
        let slice = "/sys/fs/cgroup/user.slice/user-1000.slice";
        let wanted = [
            &format!("{slice}/session-3.scope"),
            slice,
            "/sys/fs/cgroup/user.slice",
            "/sys/fs/cgroup",
        ];
        assert_eq!(paths(session, UNIFIED), wanted);
        // Both versions beside each other, as systemd and others mount them.
        let hybrid = "35 31 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let own = "4:memory:/a\n1:name=systemd:/b\n0::/c\n";
        let unified = "/sys/fs/cgroup/unified";
        assert_eq!(paths(own, hybrid), [&format!("{unified}/c"), unified]);
        // Version 1 alone, and no line of version 2.
        assert_eq!(paths("4:memory:/a\n", hybrid), [""; 0]);
        assert_eq!(paths(own, hybrid.lines().next().unwrap()), [""; 0]);
    }

    #[test]
    fn containers_see_part_of_a_hierarchy() {
        assert_eq!(paths("0::/\n", UNIFIED), ["/sys/fs/cgroup"]);
        let part = |root: &str| {
            format!("9 8 0:26 {root} /mnt/c\\040g/\\134 ro,nosuid - cgroup2 cgroup rw,nsdelegate\n")
        };
        // A part is mounted, and the names are the host's.
        let own = "0::/docker/abc/x\n";
        assert_eq!(paths(own, &part("/docker/abc")), ["/mnt/c g/\\/x", "/mnt/c g/\\"]);
        assert_eq!(paths(own, &part("/docker/ab")), [""; 0]);
        // What is mounted lies outside of the namespace, or the process does.
        assert_eq!(paths("0::/\n", &part("/..")), [""; 0]);
        assert_eq!(paths("0::/../other\n", &part("/")), [""; 0]);
        assert_eq!(paths("0::/../x\n", &part("/../x")), ["/mnt/c g/\\"]);
    }

    #[test]
    fn a_node_in_a_job_stays_in_its_group() {
        let own = "/a.slice/gridlive-0123456789abcdef/12";
        let leaf = format!("/sys/fs/cgroup{own}");
        assert_eq!(paths(&format!("0::{own}\n"), UNIFIED), [leaf.as_str()]);
        assert_eq!(paths(&format!("0::{own}/b\n"), UNIFIED), [format!("{leaf}/b"), leaf]);
        // A unit may have any name.
        let unit = "/sys/fs/cgroup/gridlive-lab.service";
        assert_eq!(paths("0::/gridlive-lab.service\n", UNIFIED), [unit, "/sys/fs/cgroup"]);
    }

    #[test]
    fn what_was_granted_is_written_where_the_kernel_bounds_it() {
        let folder = tempfile::tempdir().unwrap();
        let leaf = Leaf(folder.path().join("7"));
        fs::create_dir(&leaf.0).unwrap();
        let names = ["memory.max", "memory.swap.max", "memory.oom.group", "pids.max"];
        let written = |bounds: Bounds, memory| {
            names.iter().for_each(|name| fs::write(leaf.0.join(name), "").unwrap());
            leaf.bound(bounds, memory);
            names.map(|name| fs::read_to_string(leaf.0.join(name)).unwrap())
        };
        let bounds = Bounds::of("cpu memory pids\n");
        assert_eq!(bounds, Bounds::ALL);
        assert_eq!(written(bounds, Bytes::new(4_096)), ["4096", "0", "1", "16384"]);
        // It asked for none, so nobody counts.
        assert_eq!(written(bounds, Bytes::ZERO), ["", "", "", "16384"]);
        assert_eq!(written(Bounds::of("cpu"), Bytes::new(4_096)), [""; 4]);
        assert_eq!(written(Bounds::of("memory"), Bytes::new(1)), ["1", "0", "1", ""]);
        // Where the kernel has no such file, none is made.
        fs::remove_file(leaf.0.join("pids.max")).unwrap();
        leaf.bound(bounds, Bytes::ZERO);
        assert!(!leaf.0.join("pids.max").exists());
    }

    #[test]
    fn its_state_is_read_from_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let leaf = Leaf(folder.path().to_owned());
        assert!(!leaf.is_populated() && !leaf.ran_out());
        let put = |name: &str, text: &str| fs::write(leaf.0.join(name), text).unwrap();
        put("cgroup.events", "populated 1\nfrozen 0\n");
        assert!(leaf.is_populated());
        put("cgroup.events", "populated 0\nfrozen 1\n");
        assert!(!leaf.is_populated());
        // The machine as a whole had no memory left.
        put("memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 2\noom_group_kill 0\n");
        put("memory.events.local", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 2\n");
        assert!(!leaf.ran_out());
        put("memory.events.local", "low 0\nhigh 0\nmax 31\noom 1\noom_kill 2\n");
        assert!(leaf.ran_out());
    }

    #[test]
    fn a_folder_of_another_kind_is_no_place() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("gridlive-1");
        assert!(make(&place).unwrap_err().to_string().contains("it is no cgroup"));
        assert!(!place.exists());
    }
}
