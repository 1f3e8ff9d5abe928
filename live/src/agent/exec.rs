//! Becoming a job, or a shell beside one: with its processors, its folder and its environment.

use super::order::{LeaseFolder, Mask, Order, make_folder, mask_of, work_folder};
use gridcore::ids::LeaseId;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, setrlimit, setsid};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::convert::Infallible;
use std::io::{self, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Variables that a job keeps of its machine's.
const KEPT: [&str; 8] = ["HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TZ", "USER"];
/// What a shell keeps beside them: without it it cannot use its terminal.
const TERMINAL: &str = "TERM";

/// Becomes the job: its own session, its processors, its environment, its folder.
///
/// # Errors
/// Only when it could not.
pub fn exec(root: &Path, folder: &LeaseFolder) -> io::Result<Infallible> {
    let order = folder.order()?;
    if let Some(Err(error)) = folder.leaf().map(|leaf| leaf.enter()) {
        // All else holds without it.
        let _ = writeln!(io::stderr(), "[gridlive: it runs outside of its cgroup: {error}]");
    }
    let _ = setsid();
    let core = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, core);
    let [program, args @ ..] = order.program.command.as_slice() else {
        return Err(io::Error::other("there is no command"));
    };
    let mut command = with_all_of(root, &order, program, &[])?;
    let error = command.args(args).exec();
    Err(io::Error::new(error.kind(), format!("{program}: {error}")))
}

/// Becomes the user's shell beside the job of a lease. It is no part of the job: it is in no group
/// of its, carries no mark, is not counted, and nobody ends it.
///
/// # Errors
/// Only when it could not: nothing of that lease runs here.
pub fn enter(root: &Path, lease: LeaseId) -> io::Result<Infallible> {
    let folder = LeaseFolder::of(root, lease);
    let runs = folder.shim().is_some_and(|shim| shim.is_alive());
    let order = folder.order().ok().filter(|_| runs && folder.end().is_none());
    let order = order.ok_or_else(|| {
        let place = folder.path().display();
        io::Error::other(format!("nothing of lease {} runs in {place}", lease.get()))
    })?;
    let shell = std::env::var("SHELL").ok().filter(|shell| !shell.is_empty());
    let shell = shell.unwrap_or_else(|| "sh".to_owned());
    let mut command = with_all_of(root, &order, &shell, &[TERMINAL])?;
    // With it, it would end with the job.
    command.env_remove("GRID_LEASE");
    if io::stdin().is_terminal() {
        let job = order.job.get();
        let _ = writeln!(
            io::stderr(),
            "gridlive: a shell beside job {job}, with what it has; it is no part of the job, and \
             does not end with it"
        );
    }
    let error = command.exec();
    Err(io::Error::new(error.kind(), format!("{shell}: {error}")))
}

/// Returns a set of processors as the kernel takes it.
pub(super) fn set_of(mask: &Mask) -> CpuSet {
    let mut set = CpuSet::new();
    let has = |i: &usize| mask.get(i / 64).is_some_and(|word| word & 1 << (i % 64) != 0);
    (0..CpuSet::MAX_CPU).filter(has).for_each(|i| set.set(i));
    set
}

/// Returns the bits of a set of processors.
pub(super) fn bits(set: &CpuSet) -> Mask {
    let mut mask = Mask::default();
    for i in (0..CpuSet::MAX_CPU).filter(|i| set.is_set(*i)) {
        if let Some(word) = mask.get_mut(i / 64) {
            *word |= 1 << (i % 64);
        }
    }
    mask
}

/// Takes the processors and the folder of an attempt, and returns a program with its environment.
fn with_all_of(root: &Path, order: &Order, program: &str, more: &[&str]) -> io::Result<Command> {
    // They may have changed since.
    let now = LeaseFolder::of(root, order.lease).processors();
    let set = set_of(&mask_of(now.as_ref().unwrap_or(&order.processors)));
    if set.count() > 0 {
        // Where an administrator has set others apart, those stay.
        let _ = sched_setaffinity(None, &set);
    }
    let work = order.program.cwd.as_ref().map(std::path::PathBuf::from);
    let work = match work {
        Some(work) => work,
        None => {
            let work = work_folder(root, order.job);
            make_folder(&work)?;
            work
        }
    };
    // Nobody else writes what it makes; who may read it, it says itself.
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    let kept = |key: &std::ffi::OsStr| KEPT.iter().chain(more).any(|kept| key == *kept);
    let mut command = Command::new(program);
    command.env_clear();
    command.envs(std::env::vars_os().filter(|(key, _)| kept(key)));
    command.envs(order.program.env.iter().map(|(key, value)| (key, value)));
    command.envs(order.env.iter().map(|(key, value)| (key, value)));
    std::env::set_current_dir(&work)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", work.display())))?;
    Ok(command)
}

/// Returns the code that a shell would give for a command that could not be started.
#[must_use]
pub fn code_of(error: &io::Error) -> i32 {
    if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
}
