//! The leases that a node honours: what was ordered, and how far each has come.

use crate::bundle::Bundle;
use crate::canary::{Canary, planted};
use crate::ids::{Epoch, LeaseId};
use crate::units::{MilliCores, Span, Time};
use crate::wire::{EvictionReason, Item, Outcome, Start, Status};
use serde::{Deserialize, Serialize};

/// How far a lease has come on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It runs.
    Running,
    /// Its processes are stopped since then, and go on or leave later.
    Paused(Time),
    /// It was told to leave, and is killed then.
    Leaving(Time, EvictionReason),
    /// It was killed then; something of it is still there.
    Killed(Time, EvictionReason),
    /// Nothing of it is left; and why it was told to leave here, if it was.
    Ended(Outcome, Option<EvictionReason>),
}

/// One lease on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What was ordered.
    pub start: Start,
    /// When it was started here.
    pub began: Time,
    /// When its permission ends; [`Time::MAX`] where the halves are joined directly.
    pub until: Time,
    /// How far it has come.
    pub phase: Phase,
    /// Whether its account has it suspended: its processes stand still, whatever its owner does.
    pub suspended: bool,
    /// When something is next to be done about it.
    pub due: Time,
}

/// What a node keeps on its disk of a lease, synced before the first process is started: what a
/// station that starts anew needs to adopt it (LIVE.md P3, P10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// What was ordered.
    pub start: Start,
    /// When it was started, by the node's clock.
    pub began: Time,
    /// When its permission ends, by the node's clock.
    pub until: Time,
    /// Since when its processes are stopped, if they are.
    pub paused: Option<Time>,
    /// Whether its account has it suspended.
    pub suspended: bool,
    /// When it is killed, if it was told to leave, and why.
    pub leaving: Option<(Time, EvictionReason)>,
    /// How it ended, until the coordinator has heard it.
    pub ended: Option<Outcome>,
}

/// What leases hold together at the least, while that is known. Derived.
#[derive(Clone, Debug, Default)]
pub(super) struct Sum(pub(super) Option<Bundle>);

impl PartialEq for Sum {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Sum {}

/// Sums what leases hold at the least; what a disk or a coordinator says of them is not trusted to
/// fit.
pub(super) fn least_of<'a>(leases: impl Iterator<Item = &'a Held>, direct: bool) -> Bundle {
    let mut sum = Bundle::ZERO;
    leases.filter(|held| held.counts(direct)).for_each(|held| sum.add_capped(&held.least()));
    sum
}

impl Held {
    /// Says of a lease of which nothing ever was here that it has ended.
    #[must_use]
    pub fn nothing(lease: LeaseId, epoch: Epoch, now: Time) -> Self {
        let start = Start { lease, epoch, ..Start::default() };
        let phase = Phase::Ended(Outcome::Refused, None);
        Self { start, began: now, until: now, phase, suspended: false, due: Time::MAX }
    }

    /// Returns whether processes of it may be there.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Ended(..))
    }

    /// Returns whether its capacity is used: where the halves are joined directly, what was killed
    /// is gone at that very instant.
    #[must_use]
    pub fn counts(&self, direct: bool) -> bool {
        self.is_alive() && !(direct && self.is_killed())
    }

    /// Returns whether it was neither told to leave nor has ended.
    #[must_use]
    pub fn is_staying(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Paused(_))
    }

    /// Returns the CPU that it can do without.
    #[must_use]
    pub fn spare(&self) -> MilliCores {
        let least = self.start.least.unwrap_or(self.start.needs.cpu);
        self.start.needs.cpu.saturating_sub(least)
    }

    /// Returns the least that it can do with.
    #[must_use]
    pub fn least(&self) -> Bundle {
        let needs = &self.start.needs;
        Bundle { cpu: needs.cpu.saturating_sub(self.spare()), ..*needs }
    }

    /// Returns whether it was killed and something of it is still there.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        matches!(self.phase, Phase::Killed(..))
    }

    /// Returns whether pausing it is possible and helps. Whatever its order says, a device is given
    /// back only by leaving: an owner who lacks one does not wait for a pause first.
    #[must_use]
    pub fn can_pause(&self) -> bool {
        let start = &self.start;
        let helps = start.pausable && start.devices == 0 && !start.needs.cpu.is_zero();
        self.phase == Phase::Running && helps
    }

    /// Orders who leaves when the owner returns: others before the owner's own, lowest class, least
    /// lost work, youngest, id.
    #[must_use]
    pub fn victim_order(&self, now: Time) -> (bool, u8, Span, core::cmp::Reverse<Time>, LeaseId) {
        let start = &self.start;
        let ran = now.since(self.began);
        let lost = match start.checkpoint {
            None => ran,
            Some(step) => Span::new(ran.get().checked_rem(step.get()).unwrap_or(0)),
        };
        (start.own, start.class, lost, core::cmp::Reverse(self.began), start.lease)
    }

    /// Returns when something is next to be done about it.
    #[must_use]
    pub fn next(&self, suspend_max: Span, kill: Span) -> Time {
        match self.phase {
            Phase::Running => self.until,
            Phase::Paused(_) if planted(Canary::PauseForEver) => self.until,
            Phase::Paused(since) => self.until.min(since.after(suspend_max)),
            Phase::Leaving(..) if planted(Canary::NeverKill) => Time::MAX,
            Phase::Leaving(kill_at, _) => kill_at,
            // Only to be called stuck.
            Phase::Killed(at, _) => at.after(kill),
            Phase::Ended(..) => Time::MAX,
        }
    }

    /// Returns what the coordinator is told of it.
    #[must_use]
    pub fn status(&self, now: Time, kill: Span) -> Status {
        match self.phase {
            Phase::Running => Status::Running,
            Phase::Paused(_) => Status::Paused,
            Phase::Leaving(kill_at, reason) => Status::Leaving(reason, kill_at.since(now)),
            Phase::Killed(at, reason) if now >= at.after(kill) && !kill.is_zero() => {
                Status::Stuck(reason)
            }
            Phase::Killed(_, reason) => Status::Leaving(reason, Span::ZERO),
            Phase::Ended(outcome, reason) => Status::Ended(outcome, reason),
        }
    }

    /// Returns its line in the inventory.
    #[must_use]
    pub fn item(&self, now: Time, kill: Span) -> Item {
        let (lease, epoch) = self.name();
        Item { lease, epoch, cpu: self.start.needs.cpu, status: self.status(now, kill) }
    }

    /// Returns its lease and epoch.
    #[must_use]
    pub fn name(&self) -> (LeaseId, Epoch) {
        (self.start.lease, self.start.epoch)
    }

    /// Returns what the disk must hold of it.
    #[must_use]
    pub fn marker(&self) -> Marker {
        let (leaving, ended) = match self.phase {
            Phase::Running | Phase::Paused(_) => (None, None),
            Phase::Leaving(at, reason) | Phase::Killed(at, reason) => (Some((at, reason)), None),
            Phase::Ended(outcome, reason) => {
                (reason.map(|reason| (self.until, reason)), Some(outcome))
            }
        };
        let paused = match self.phase {
            Phase::Paused(since) => Some(since),
            Phase::Running | Phase::Leaving(..) | Phase::Killed(..) | Phase::Ended(..) => None,
        };
        let (start, began, until) = (self.start.clone(), self.began, self.until);
        Marker { start, began, until, paused, suspended: self.suspended, leaving, ended }
    }
}
