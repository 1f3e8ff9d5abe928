//! The ladder: what a node does when its owner comes back (RULES.md section 4).
//!
//! First nothing new is taken, then jobs that hold only CPU are paused, then the fewest that still
//! stand in the way are told to leave, and what has not left is killed. It asks nobody: an owner
//! never waits for a network. It knows nothing of money, queues or other nodes.

use super::held::{Held, Phase};
use crate::bundle::Bundle;
use crate::config::{Hours, Lend, Watch};
use crate::flat::FlatMap;
use crate::ids::LeaseId;
use crate::units::{BasisPoints, Span, Time};
use crate::wire::{GpuSample, Lending, Sample};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// The machine, as far as the ladder needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its hardware.
    pub capacity: Bundle,
    /// How many GPUs it has.
    pub gpus: u8,
    /// Whether nobody but the pool uses it: then there is no ladder.
    pub dedicated: bool,
}

/// What the owner has said, without an administrator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwnerSays {
    /// Nothing: the rules decide.
    #[default]
    Nothing,
    /// Lend, whatever the hours.
    Lend {
        /// Most GPUs.
        gpus_max: u8,
        /// Until then; what is lent is taken back after it.
        until: Option<Time>,
    },
    /// Give everything back.
    Reclaim {
        /// Whether without notice.
        now: bool,
    },
}

/// What the node knows of its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ladder {
    /// The last sample, which holds until the next; without an owner only what leases use.
    pub sample: Option<Sample>,
    /// What the node is willing to lend.
    pub lending: Lending,
    /// The version of the last change that lent less.
    pub narrowed: u32,
    /// Whether the owner is there, or was a moment ago.
    pub busy: bool,
    /// Since when the owner has been away, once he was there.
    pub away_since: Option<Time>,
    /// What the owner has said.
    pub owner: OwnerSays,
    /// The minute of the day by the wall clock, where lending has hours.
    pub minute: Option<u16>,
}

/// What leases hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Demand {
    cpu: u64,
    memory: u64,
    devices: u64,
}

/// What the owner lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortage {
    /// Compute in millicores.
    cpu: u64,
    /// Memory in bytes.
    memory: u64,
    /// Devices, one bit each.
    devices: u64,
}

impl Shortage {
    /// Returns whether anything is lacking.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self != Self::default()
    }
}

/// One step of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Stop its processes for a while.
    Pause(LeaseId),
    /// Let them go on.
    Resume(LeaseId),
    /// Tell it to leave within this span.
    Notice(LeaseId, Span),
}

impl Demand {
    /// Sums what some leases hold; paused ones hold no CPU. What a disk or a coordinator says of
    /// them is not trusted to fit: a sum stops at the largest number.
    fn of<'a>(leases: impl Iterator<Item = &'a Held>) -> Self {
        let mut sum = Self::default();
        for held in leases {
            let needs = &held.start.needs;
            let paused = matches!(held.phase, Phase::Paused(_));
            let cpu = if paused { 0 } else { needs.cpu.get() };
            sum.cpu = sum.cpu.saturating_add(cpu);
            sum.memory = sum.memory.saturating_add(needs.memory.get());
            sum.devices |= held.start.devices;
        }
        sum
    }
}

impl Ladder {
    /// Returns what the owner lacks beside leases that hold this.
    fn shortage(&self, machine: &Machine, watch: &Watch, demand: Demand) -> Shortage {
        let Some(sample) = &self.sample else { return Shortage::default() };
        let (rules, capacity) = (&watch.offering, &machine.capacity);
        let used = |part: BasisPoints, whole: u64| part.capped().of_ceil(whole);
        let cpu = used(sample.cpu, capacity.cpu.get()).saturating_add(demand.cpu);
        let mut cpu = cpu.saturating_sub(capacity.cpu.get()).min(demand.cpu);
        if rules.lend == Lend::Idle && sample.cpu > rules.gates.cpu_max {
            cpu = demand.cpu;
        }
        let buffer = BasisPoints::percent(10).of_ceil(capacity.memory.get()).max(1 << 30);
        let memory = used(sample.memory, capacity.memory.get()).saturating_add(demand.memory);
        let memory = memory.saturating_add(buffer).saturating_sub(capacity.memory.get());
        let mut devices = 0;
        if rules.foreign_gpu && demand.devices != 0 {
            for i in 0..usize::from(machine.gpus) {
                let busy = rules.gates.gpu_utilization_max;
                let taken = sample.gpus.get(i).is_none_or(|gpu| gpu.foreign || gpu.busy >= busy);
                devices |= u64::from(taken) << i;
            }
        }
        Shortage { cpu, memory: memory.min(demand.memory), devices: devices & demand.devices }
    }

    /// Returns whether nothing keeps the node from lending all, nor did a moment ago.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let all = self.lending.open && self.lending.gpus_max == u8::MAX;
        all && !self.busy && self.owner == OwnerSays::Nothing
    }

    /// Returns what the owner lacks while everything that is still there goes on with the least
    /// that it can do with: what it has beside that is given back before he misses it.
    #[must_use]
    pub fn lacks(
        &self,
        machine: &Machine,
        watch: &Watch,
        leases: &FlatMap<LeaseId, Held>,
    ) -> Shortage {
        if machine.dedicated {
            return Shortage::default();
        }
        let alive = || leases.values().filter(|held| held.is_alive());
        let mut demand = Demand::of(alive());
        // A paused job would need its CPU again.
        let cpu = alive().map(|held| held.least().cpu.get());
        demand.cpu = cpu.fold(0, u64::saturating_add);
        self.shortage(machine, watch, demand)
    }

    /// Returns whether everything is to be given back, and whether without notice.
    #[must_use]
    pub fn takes_all_back(&self, watch: &Watch) -> Option<bool> {
        match self.owner {
            OwnerSays::Reclaim { now } => Some(now),
            OwnerSays::Lend { .. } => None,
            OwnerSays::Nothing => {
                let hours = watch.offering.lend_hours.as_ref();
                let closed = |hours: &Hours| self.minute.is_some_and(|m| !hours.contains(m));
                hours.is_some_and(closed).then_some(false)
            }
        }
    }

    /// Keeps what a sample says of the use that leases make of GPUs: nothing else of it counts on a
    /// node without an owner. Returns whether it is to be told at once, as [`Ladder::is_news`].
    pub fn note_use(&mut self, sample: &Sample) -> bool {
        let said = |gpu: &GpuSample| GpuSample { leased: gpu.leased, ..GpuSample::default() };
        let gpus: Vec<GpuSample> = sample.gpus.iter().map(said).collect();
        let nothing = gpus.iter().all(|gpu| gpu.leased.is_none());
        let sample = Sample { gpus, ..Sample::default() };
        let news = if self.sample.is_none() { !nothing } else { self.is_news(&sample) };
        if self.sample.is_some() || !nothing {
            self.sample = Some(sample);
        }
        news
    }

    /// Returns whether a sample is to be told at once: the owner uses another part than before, or
    /// what leases use of a device is known now and was not, or the other way round. How much that
    /// is can wait for the next heartbeat.
    #[must_use]
    pub fn is_news(&self, sample: &Sample) -> bool {
        let Some(last) = &self.sample else { return true };
        let alike = |(old, new): (&GpuSample, &GpuSample)| {
            old.leased.is_some() == new.leased.is_some()
                && GpuSample { leased: None, ..*old } == GpuSample { leased: None, ..*new }
        };
        let gpus = || last.gpus.iter().zip(&sample.gpus);
        (last.cpu, last.memory, last.gpus.len()) != (sample.cpu, sample.memory, sample.gpus.len())
            || !gpus().all(alike)
    }

    /// Keeps back the GPUs that a node without an owner must not lend; returns whether they are
    /// others than before.
    pub fn withhold(&mut self, machine: &Machine, sample: &Sample) -> bool {
        let lost = |i: &usize| sample.gpus.get(*i).is_none_or(|gpu| gpu.foreign);
        let lost = (0..usize::from(machine.gpus)).filter(lost);
        let withheld = lost.fold(0, |mask, i| mask | 1 << i);
        let old = self.lending;
        if old.withheld == withheld {
            return false;
        }
        self.lending = Lending { version: old.version.wrapping_add(1), withheld, ..old };
        true
    }

    /// Judges whether the owner is there, and sets what the node lends; returns whether that
    /// changed.
    pub fn judge(&mut self, watch: &Watch, lacks: Shortage, now: Time) -> bool {
        if let OwnerSays::Lend { until: Some(until), .. } = self.owner
            && until <= now
        {
            self.owner = OwnerSays::Reclaim { now: false };
        }
        if lacks.is_any() {
            (self.busy, self.away_since) = (true, None);
        } else if self.busy {
            let since = *self.away_since.get_or_insert(now);
            self.busy = now < since.after(watch.offering.busy_latch);
        }
        let open = !self.busy && self.takes_all_back(watch).is_none();
        let gpus_max = match self.owner {
            OwnerSays::Lend { gpus_max, .. } => gpus_max,
            OwnerSays::Nothing | OwnerSays::Reclaim { .. } => u8::MAX,
        };
        let old = self.lending;
        if (old.open, old.gpus_max) == (open, gpus_max) {
            return false;
        }
        self.lending = Lending { version: old.version.wrapping_add(1), open, gpus_max, ..old };
        if old.open && !open || gpus_max < old.gpus_max {
            self.narrowed = self.lending.version;
        }
        true
    }

    /// Returns whose CPU is to be brought down to the least that it can do with: the first thing
    /// that an owner who lacks some gets, and whoever starts where it does not fit otherwise.
    #[must_use]
    pub fn shrinks(
        &self,
        machine: &Machine,
        watch: &Watch,
        leases: &FlatMap<LeaseId, Held>,
        now: Time,
    ) -> Vec<LeaseId> {
        let running = || leases.values().filter(|held| held.phase == Phase::Running);
        let mut elastic: Vec<&Held> = running().filter(|held| !held.spare().is_zero()).collect();
        if elastic.is_empty() {
            return Vec::new();
        }
        elastic.sort_by_cached_key(|held| held.victim_order(now));
        let all = Demand::of(leases.values().filter(|held| held.is_staying()));
        let leaving = leases.values().filter(|held| held.is_alive() && !held.is_staying());
        let room = machine.capacity.cpu.get().saturating_sub(Demand::of(leaving).cpu);
        let enough = |shrunk: &[&Held]| {
            let spare = shrunk.iter().map(|held| held.spare().get());
            let cpu = all.cpu.saturating_sub(spare.fold(0, u64::saturating_add));
            cpu <= room && self.shortage(machine, watch, Demand { cpu, ..all }).cpu == 0
        };
        fewest(elastic.into_iter(), enough).iter().map(|held| held.start.lease).collect()
    }

    /// Returns what is to be done now that what can shrink has shrunk, at most one step for each
    /// lease.
    #[must_use]
    pub fn steps(
        &self,
        machine: &Machine,
        watch: &Watch,
        leases: &FlatMap<LeaseId, Held>,
        now: Time,
    ) -> Vec<Step> {
        if machine.dedicated {
            return Vec::new();
        }
        if let Some(at_once) = self.takes_all_back(watch) {
            let notice = |held: &Held| if at_once { Span::ZERO } else { held.start.vacate };
            let staying = leases.values().filter(|held| held.is_staying());
            return staying.map(|held| Step::Notice(held.start.lease, notice(held))).collect();
        }
        let mut staying: Vec<&Held> = leases.values().filter(|held| held.is_staying()).collect();
        if staying.is_empty() {
            return Vec::new();
        }
        staying.sort_by_cached_key(|held| held.victim_order(now));
        let without = |gone: &[&Held]| {
            let rest = staying.iter().copied();
            let rest = rest.filter(|held| gone.iter().all(|g| g.start.lease != held.start.lease));
            self.shortage(machine, watch, Demand::of(rest))
        };
        let lack = without(&[]);
        if !lack.is_any() {
            return self.resumes(machine, watch, &staying, now);
        }
        let mut paused: Vec<&Held> = Vec::new();
        if lack.cpu > 0 && lack.memory == 0 {
            let pausable = staying.iter().copied().filter(|held| held.can_pause());
            paused = fewest(pausable, |gone| without(gone).cpu == 0);
        }
        let enough = |gone: &[&Held]| {
            let all: Vec<&Held> = paused.iter().chain(gone).copied().collect();
            let left = without(&all);
            // Pausing gives no memory and no device back, but a lease that leaves does.
            let held = without(gone);
            left.cpu == 0 && held.memory == 0 && held.devices == 0
        };
        let others = staying.iter().copied();
        let others = others.filter(|held| paused.iter().all(|p| p.start.lease != held.start.lease));
        let leaving = fewest(others, enough);
        let pauses = paused.iter().map(|held| Step::Pause(held.start.lease));
        let notices = leaving.iter().map(|held| Step::Notice(held.start.lease, held.start.vacate));
        pauses.chain(notices).collect()
    }

    /// Returns which paused leases go on: those that fit again once the owner has been away long
    /// enough, the last to be paused first.
    fn resumes(&self, machine: &Machine, watch: &Watch, staying: &[&Held], now: Time) -> Vec<Step> {
        let rested = self.away_since.is_none_or(|t| t.after(watch.offering.resume_after) <= now);
        let paused = |held: &&&Held| matches!(held.phase, Phase::Paused(_));
        if !rested || self.busy {
            return Vec::new();
        }
        let mut demand = Demand::of(staying.iter().copied());
        // Whoever has more than he needs gives it back first.
        let spare = staying.iter().filter(|held| !paused(held)).map(|held| held.spare().get());
        demand.cpu = demand.cpu.saturating_sub(spare.fold(0, u64::saturating_add));
        let mut steps = Vec::new();
        for held in staying.iter().rev().filter(paused) {
            let cpu = demand.cpu.saturating_add(held.start.needs.cpu.get());
            let more = Demand { cpu, ..demand };
            if !self.shortage(machine, watch, more).is_any() {
                demand = more;
                steps.push(Step::Resume(held.start.lease));
            }
        }
        steps
    }

    /// Returns when the ladder is to be looked at again without anything having happened.
    #[must_use]
    pub fn next(&self, watch: &Watch, any_paused: bool, now: Time) -> Time {
        let mut next = Time::MAX;
        if let Some(since) = self.away_since {
            if self.busy {
                next = since.after(watch.offering.busy_latch);
            }
            let resume = since.after(watch.offering.resume_after);
            if any_paused && resume > now {
                next = next.min(resume);
            }
        }
        if let OwnerSays::Lend { until: Some(until), .. } = self.owner {
            next = next.min(until);
        }
        next
    }
}

/// Returns the fewest of `candidates`, taken in their order, with which `enough` holds, or all of
/// those that help when it never does: greedy, then every one that is not needed is put back.
fn fewest<'a>(
    candidates: impl Iterator<Item = &'a Held>,
    enough: impl Fn(&[&'a Held]) -> bool,
) -> Vec<&'a Held> {
    let mut gone: Vec<&Held> = Vec::new();
    for held in candidates {
        if enough(&gone) {
            break;
        }
        gone.push(held);
    }
    if !enough(&gone) {
        return gone;
    }
    let mut at = gone.len();
    while at > 0 {
        at -= 1;
        let kept = gone.remove(at);
        if !enough(&gone) {
            gone.insert(at, kept);
        }
    }
    gone
}
