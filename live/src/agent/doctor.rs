//! What a machine can give a job's owner and its own, and what it cannot: said plainly.

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
pub(super) fn notes(root: &Path, gpus: &[Device]) -> Vec<Note> {
    let mut notes = vec![user(), ok("a job's processes end with it: none outlives its keeper")];
    notes.push(warn(
        "memory and processes of jobs are looked at once a second, not bounded by the kernel",
    ));
    if !Path::new("/proc/pressure/cpu").exists() {
        notes.push(warn("the kernel tells no pressure (PSI): /proc/pressure is missing"));
    }
    notes.extend(space(root));
    notes.extend(gpus.iter().map(gpu));
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

fn space(root: &Path) -> Option<Note> {
    let found = rustix::fs::statvfs(root).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let text = format!("{} MiB are free where jobs print and work", free >> 20);
    Some(if free < SPACE { warn(text) } else { ok(text) })
}

fn gpu(device: &Device) -> Note {
    let name = format!("{} {}", device.model, device.uuid);
    match (&device.sick, device.busy) {
        (Some(why), _) => warn(format!("{name} is not lent: {why}")),
        (None, None) => warn(format!("{name} does not say how busy it is: only lent when free")),
        (None, Some(_)) => ok(format!("{name}, {} MiB", device.memory.get() >> 20)),
    }
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
