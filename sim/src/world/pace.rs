//! How fast a process works: with less CPU than its job can use, it takes longer.

use super::World;
use crate::kernel::Class;
use crate::record::Amounts;
use gridcore::bundle::Bundle;
use gridcore::command::Outcome;
use gridcore::ids::{Epoch, LeaseId, NodeId};
use gridcore::leases::Lease;
use gridcore::units::{MilliCores, Span, Time};

/// What a process tree does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Doing {
    /// Nothing yet: its node has not started it.
    #[default]
    Nothing,
    /// It works since then.
    Working(Time),
    /// It is stopped for a while.
    Paused(Time),
    /// It has ended.
    Ended,
}

/// What a machine and its owner have told a process; only where there is a network.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    /// Until when it may run, by its machine's clock.
    pub(super) until: Time,
    /// How long after that it is killed, by the rules of the day on which it was told.
    pub(super) kill: Span,
    /// When it is killed because it was told to leave, by its machine's clock.
    pub(super) kill_at: Option<Time>,
    /// When it was told to leave for its owner's sake, how long that may take, and whether the
    /// coordinator could be reached.
    pub(super) reclaimed: Option<(Time, Span, bool)>,
}

/// A process tree: one lease's on one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    pub(super) lease: LeaseId,
    pub(super) epoch: Epoch,
    pub(super) node: NodeId,
    /// The row of its job.
    pub(super) row: u32,
    pub(super) doing: Doing,
    /// Work that was left when it last went on, with all the CPU that it can use.
    pub(super) left: Span,
    /// The CPU that it has, and all that it can use: nothing where that is the same.
    pub(super) speed: (u64, u64),
    /// When it ends, as things stand.
    pub(super) ends: Time,
    /// How it ended, as its machine keeps it.
    pub(super) outcome: Option<Outcome>,
    /// What it was told, once it was.
    pub(super) bounds: Option<Box<Bounds>>,
    /// Whether it was killed and does not die for now.
    pub(super) stuck: bool,
    /// Whether it fails because its machine is broken.
    pub(super) broken: bool,
}

impl Process {
    /// Returns what it was told.
    pub(super) fn bounds(&self) -> Bounds {
        self.bounds.as_deref().copied().unwrap_or_default()
    }

    /// Returns what it was told, to change it.
    pub(super) fn bounds_mut(&mut self) -> &mut Bounds {
        self.bounds.get_or_insert_default()
    }

    /// Returns whether it was started and has not ended.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.doing, Doing::Working(_) | Doing::Paused(_))
    }

    /// Returns how long some work takes with the CPU that it has.
    fn takes(&self, work: Span) -> Span {
        let (has, most) = self.speed;
        if has == 0 { work } else { Span::new(scaled(work, most, has, true)) }
    }

    /// Counts the work that it has done since it last went on; returns how much more it would have
    /// been with all the CPU that it can use.
    pub(super) fn work(&mut self, now: Time) -> Span {
        let Doing::Working(since) = self.doing else { return Span::ZERO };
        let (span, (has, most)) = (now.since(since), self.speed);
        let done = if has == 0 { span.get() } else { scaled(span, has, most, false) };
        self.left = self.left.saturating_sub(Span::new(done));
        self.doing = Doing::Working(now);
        span.saturating_sub(Span::new(done))
    }

    /// Returns when its work is done, if it is left alone.
    pub(super) fn done(&self) -> Time {
        match self.doing {
            Doing::Working(since) => since.after(self.takes(self.left)),
            Doing::Nothing | Doing::Paused(_) | Doing::Ended => Time::MAX,
        }
    }
}

/// Returns a span times a fraction, rounded up or down.
fn scaled(span: Span, times: u64, parts: u64, up: bool) -> u64 {
    let (whole, parts) = (u128::from(span.get()) * u128::from(times), u128::from(parts.max(1)));
    let scaled = if up { whole.div_ceil(parts) } else { whole / parts };
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

/// Returns what a lease holds on each of its nodes.
pub(super) fn on_each(lease: &Lease) -> Bundle {
    let mut holds = lease.needs.bundle();
    holds.cpu = holds.cpu.saturating_add(lease.extra.cpu);
    holds
}

/// Returns what a lease holds in all.
pub(super) fn in_all(lease: &Lease) -> Amounts {
    let members = lease.members.len() as u64;
    on_each(lease).zip(&Bundle::ZERO, |amount, _| amount.saturating_mul(members)).into()
}

impl World {
    /// Gives a process so much CPU from now on.
    pub(super) fn resize(&mut self, node: NodeId, lease: LeaseId, cpu: MilliCores) {
        let now = self.now;
        let Some(index) = self.process_on(node, lease) else { return };
        let Some(process) = self.processes.get_mut(&index) else { return };
        let slowed = process.work(now);
        process.speed = (cpu.get().min(process.speed.1), process.speed.1);
        let row = process.row as usize;
        if matches!(process.doing, Doing::Working(_)) {
            let ends = process.done();
            process.ends = if process.broken { ends.min(process.ends) } else { ends };
            self.settled_at = self.settled_at.max(process.ends);
            self.events.push(process.ends, Class::End, index as u64);
        }
        self.slow(row, slowed);
    }

    /// Counts work that a job has not done because it had less CPU than it can use.
    pub(super) fn slow(&mut self, row: usize, by: Span) {
        if let Some(progress) = self.progress.get_mut(&row) {
            progress.slowed = progress.slowed.saturating_add(by);
        }
    }

    /// Notes what a lease has from now on.
    pub(super) fn resized(&mut self, id: LeaseId) {
        let Some(lease) = self.grid.state().leases.get(&id) else { return };
        let (holds, index) = (in_all(lease), self.row(lease.job));
        let (Some(row), Some(progress)) =
            (self.record.jobs.get(index), self.progress.get_mut(&index))
        else {
            return;
        };
        let before = std::mem::replace(&mut progress.holds, holds);
        self.tally.lend(row.band() as usize, before, false);
        self.tally.lend(row.band() as usize, holds, true);
    }
}
