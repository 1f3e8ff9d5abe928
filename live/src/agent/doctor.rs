//! What a machine can give a job's owner and its own, and what it cannot: said plainly.

use super::cgroup::Bounds;
use super::gpu::user_name;
use crate::frame::{Device, Note};
use std::fs;
use std::path::Path;

/// Free space below which a machine is warned about.
const SPACE: u64 = 1 << 30;

fn ok(what: impl Into<String>) -> Note {
    Note { warns: false, what: what.into() }
}

fn warn(what: impl Into<String>) -> Note {
    Note { warns: true, what: what.into() }
}

/// Returns what there is to say of this machine.
pub(super) fn notes(root: &Path, gpus: &[Device], groups: Result<Bounds, &str>) -> Vec<Note> {
    let mut notes = vec![user(), ok("a job's processes end with it: none outlives its keeper")];
    notes.extend(grouped(groups));
    if !Path::new("/proc/pressure/cpu").exists() {
        notes.push(warn("the kernel tells no pressure (PSI): /proc/pressure is missing"));
    }
    notes.extend(space(root));
    notes.push(ok("network traffic is not charged: nothing here counts it for each job"));
    if gpus.is_empty() {
        notes.push(ok("no GPUs: neither NVML nor nvidia-smi shows one"));
    } else {
        notes.push(warn("CUDA_VISIBLE_DEVICES is advice: a program can use GPUs it was not given"));
    }
    notes
}

/// Who jobs are on this machine.
fn user() -> Note {
    let uid = rustix::process::geteuid().as_raw();
    let name = user_name(uid);
    let home = std::env::var_os("HOME").unwrap_or_default();
    let has = |file: &str| Path::new(&home).join(file).exists();
    let person = [".bash_history", ".zsh_history", ".ssh/id_ed25519", ".ssh/id_rsa"];
    if uid == 0 {
        return warn("jobs run as root: they may do everything here; give the pool its own user");
    }
    if person.into_iter().any(has) {
        return warn(format!(
            "jobs run as {name}, which looks like a person's own account: they can read its files"
        ));
    }
    ok(format!("jobs run as {name}"))
}

/// What the kernel's groups do for jobs here.
fn grouped(groups: Result<Bounds, &str>) -> Vec<Note> {
    let mut notes = vec![match groups {
        Ok(_) => ok("jobs have cgroups: also what hides from a killed keeper is found and ended"),
        Err(why) => warn(format!(
            "jobs have no cgroups ({why}): of a killed keeper's job only what has kept its \
             environment is found"
        )),
    }];
    let bounds = groups.unwrap_or_default();
    let all = [("memory", bounds.memory), ("processes", bounds.processes)];
    let those = |bounded: bool| {
        let names = all.iter().filter(|(_, has)| *has == bounded).map(|(name, _)| *name);
        Some(names.collect::<Vec<_>>().join(" and ")).filter(|names| !names.is_empty())
    };
    notes.extend(those(true).map(|those| ok(format!("bounded by the kernel: {those} of jobs"))));
    let looked_at = "looked at once a second, not bounded by the kernel";
    notes.extend(those(false).map(|those| warn(format!("{looked_at}: {those} of jobs"))));
    notes
}

fn space(root: &Path) -> Option<Note> {
    let found = rustix::fs::statvfs(root).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let text = format!("{} MiB are free where jobs print and work", free >> 20);
    Some(if free < SPACE { warn(text) } else { ok(text) })
}

/// Returns the kernel's own words on whether it can do what is needed, for a machine that cannot.
pub(super) fn missing() -> Option<String> {
    let me = rustix::process::getpid();
    if rustix::process::pidfd_open(me, rustix::process::PidfdFlags::empty()).is_err() {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        return Some(format!("kernel {} has no pidfd_open: 5.3 is needed", kernel.trim()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_kernel_bounds_is_said_to_be_bounded() {
        let said = |groups| {
            let notes = grouped(groups).into_iter();
            notes.map(|note| (note.warns, note.what)).collect::<Vec<_>>()
        };
        let none = said(Err("/a: Permission denied"));
        assert!(none.iter().all(|(warns, _)| *warns) && none[0].1.contains("(/a: Permission"));
        assert!(none[1].1.ends_with("not bounded by the kernel: memory and processes of jobs"));
        let some = said(Ok(Bounds { memory: false, processes: true }));
        assert_eq!(some.iter().map(|(warns, _)| *warns).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!(some[1].1, "bounded by the kernel: processes of jobs");
        assert!(some[2].1.ends_with("not bounded by the kernel: memory of jobs"));
        let all = said(Ok(Bounds { memory: true, processes: true }));
        assert_eq!(all[1].1, "bounded by the kernel: memory and processes of jobs");
        assert_eq!(all.len(), 2);
    }
}
