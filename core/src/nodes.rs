//! Nodes: hardware, the owner's load, what is lent, and what every device has left.
//!
//! A node never decides who gets what. It keeps three counts apart: what it lends (its offer), what
//! is leased, and what is claimed for a job whose victims are still leaving; free is what remains.

use crate::bundle::{Bundle, GpuNeed, Needs};
use crate::config::{Balance, Gates, Lend, NodeSpec, Offering, Rules};
use crate::flat::FlatSet;
use crate::ids::{AccountId, JobId, LeaseId, ShapeId};
use crate::load::Load;
use crate::offers::Offer;
use crate::reputation::Reputation;
use crate::tags::Tags;
use crate::units::{BasisPoints, Bytes, MilliCores, MilliGpus, PerMille, Time};
use crate::wire::Lending;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// One GPU of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Whether the node lends it.
    pub open: bool,
    /// The part that leases use.
    pub used: PerMille,
    /// The video memory that leases use.
    pub memory_used: Bytes,
    /// The part that is claimed for jobs whose victims are leaving.
    pub claimed: PerMille,
    /// The video memory that is claimed likewise.
    pub memory_claimed: Bytes,
    /// What leases use of it, by the last sample; `None` where that is not known.
    pub in_use: Option<BasisPoints>,
    /// Since when that has been known to be below what counts as use.
    pub idle_since: Option<Time>,
}

impl Gpu {
    /// Returns the share and the video memory it has free, given how much memory it has.
    #[must_use]
    pub fn free(&self, memory: Bytes) -> (PerMille, Bytes) {
        if !self.open {
            return (PerMille::ZERO, Bytes::ZERO);
        }
        let share = PerMille::WHOLE.saturating_sub(self.used).saturating_sub(self.claimed);
        (share, memory.saturating_sub(self.memory_used).saturating_sub(self.memory_claimed))
    }

    /// Notes what leases use of it; less than `least` is idle. Returns whether it has become so.
    pub fn note_use(&mut self, in_use: Option<BasisPoints>, least: BasisPoints, now: Time) -> bool {
        let before = self.idle_since;
        let idle = in_use.is_some_and(|part| part < least);
        self.in_use = in_use;
        self.idle_since = if idle { before.or(Some(now)) } else { None };
        idle && before.is_none()
    }
}

/// A job that failed on a node soon after its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub at: Time,
    /// The job.
    pub job: JobId,
    /// Its account.
    pub account: AccountId,
    /// Its shape.
    pub shape: ShapeId,
}

/// A machine with an owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// What the configuration says of it.
    pub spec: NodeSpec,
    /// Whether it is reachable and running.
    pub up: bool,
    /// Why it takes nothing new, if an administrator said so.
    pub draining: Option<String>,
    /// Jobs that failed here soon after their start, oldest first, while nothing of the same
    /// account and shape has completed here since.
    pub failures: Vec<Failure>,
    /// Its devices.
    pub gpus: Vec<Gpu>,
    /// What leases hold, those that are leaving included.
    pub leased: Bundle,
    /// What is claimed for jobs whose victims are leaving.
    pub claimed: Bundle,
    /// CPU that leases have beside their needs: free all the same, for whoever needs it.
    pub extra: MilliCores,
    /// Its open offer.
    pub offer: Option<Offer>,
    /// The leases on it.
    pub leases: FlatSet<LeaseId>,
    /// What it runs, by tag.
    pub tags: Tags,
    /// Tags that must not begin here: those for which a part of it is claimed avoid them.
    pub avoided: Tags,
    /// How many members of each kind of GPU job it runs (see [`GpuNeed::kind`]).
    pub kinds: BTreeMap<u8, u32>,
    /// What is known of its owner's use; `None` until the first sample and after a failure.
    pub load: Option<Load>,
    /// Its owner has been below the gates since then (under [`Lend::Idle`]).
    pub idle_since: Option<Time>,
    /// Whether it has not been heard for three intervals; never where the halves are joined.
    pub silent: bool,
    /// It has refused a start and is asked nothing before then.
    pub asked_again: Time,
    /// What its station says it is willing to lend.
    pub lending: Lending,
    /// When a lease was last told to move from here or to here.
    pub moved_at: Option<Time>,
    /// When its offer is checked next.
    pub next_check: Option<Time>,
    /// When its leases are next looked at for idle GPUs.
    pub idle_check: Option<Time>,
    /// How far what it lent could be relied on.
    pub reputation: Reputation,
    /// When it last honoured a term of another account that used enough of it to count.
    pub honoured: Option<Time>,
}

/// What a node could lend now, were there no growth limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lendable {
    /// Amounts; the GPU amount counts open devices.
    pub bundle: Bundle,
    /// Which devices, one bit each.
    pub gpus: u64,
}

impl Node {
    /// Makes a node that is up and unknown.
    #[must_use]
    pub fn new(spec: NodeSpec) -> Self {
        let gpus = alloc::vec![Gpu::default(); spec.gpus.len()];
        Self {
            spec,
            up: true,
            draining: None,
            failures: Vec::new(),
            gpus,
            leased: Bundle::ZERO,
            claimed: Bundle::ZERO,
            extra: MilliCores::ZERO,
            offer: None,
            leases: FlatSet::default(),
            tags: Tags::default(),
            avoided: Tags::default(),
            kinds: BTreeMap::new(),
            load: None,
            idle_since: None,
            silent: false,
            asked_again: Time::ZERO,
            lending: Lending::ALL,
            moved_at: None,
            next_check: None,
            idle_check: None,
            reputation: Reputation::default(),
            honoured: None,
        }
    }

    /// Returns the same node as it would be with all it may lend on offer and nothing leased.
    #[must_use]
    pub fn emptied(&self) -> Self {
        let mut node = Self::new(self.spec.clone());
        let all = self.spec.capacity.meet(&self.spec.share_max);
        let mut open = all.gpu.get() / 1_000;
        for gpu in &mut node.gpus {
            gpu.open = open > 0;
            open = open.saturating_sub(1);
        }
        let (id, opened) = (crate::ids::OfferId::default(), Time::ZERO);
        let (version, ends, leased) = (0, Time::MAX, false);
        node.offer = Some(Offer { id, version, total: all, opened, ends, leased });
        node
    }

    /// Returns the most that its configuration lets it lend, whatever its owner uses.
    #[must_use]
    pub fn registered(&self) -> Bundle {
        if !self.spec.can_share {
            return Bundle::ZERO;
        }
        self.spec.capacity.meet(&self.spec.share_max)
    }

    /// Returns whether new leases may start here.
    #[must_use]
    pub fn takes_work(&self, now: Time) -> bool {
        let open = self.offer.as_ref().is_some_and(|offer| offer.is_open(now));
        let asked = now >= self.asked_again && !self.silent;
        self.up && self.draining.is_none() && self.lending.open && asked && open
    }

    /// Returns what is on offer, the leased part included.
    #[must_use]
    pub fn offered(&self) -> &Bundle {
        self.offer.as_ref().map_or(&Bundle::ZERO, |offer| &offer.total)
    }

    /// Returns what is on offer and neither leased nor claimed.
    #[must_use]
    pub fn free(&self) -> Bundle {
        let Some(offer) = &self.offer else { return Bundle::ZERO };
        offer.total.saturating_sub(&self.leased).saturating_sub(&self.claimed)
    }

    /// Returns the CPU that nobody has: free, and not given to a lease beside its needs.
    #[must_use]
    pub fn spare(&self) -> MilliCores {
        self.free().cpu.saturating_sub(self.extra)
    }

    /// Returns what one device has free for leases: its share and its video memory.
    #[must_use]
    pub fn gpu_free(&self, device: usize) -> (PerMille, Bytes) {
        match (self.gpus.get(device), self.spec.gpus.get(device)) {
            (Some(gpu), Some(memory)) => gpu.free(*memory),
            _ => (PerMille::ZERO, Bytes::ZERO),
        }
    }

    /// Returns which devices are on offer, one bit each.
    #[must_use]
    pub fn open_devices(&self) -> u64 {
        let open = self.gpus.iter().enumerate().filter(|(_, gpu)| gpu.open);
        open.fold(0, |mask, (i, _)| mask | 1 << i)
    }

    /// Returns whether one device can take one device's part of a request.
    #[must_use]
    pub fn gpu_fits(&self, device: usize, need: GpuNeed) -> bool {
        let (share, memory) = self.gpu_free(device);
        share >= need.share && memory >= need.memory
    }

    /// Returns whether the needs of one member fit into what is free.
    #[must_use]
    #[inline]
    pub fn fits(&self, needs: &Needs, bundle: &Bundle) -> bool {
        if !bundle.fits_beside(self.offered(), [&self.leased, &self.claimed]) {
            return false;
        }
        let want = usize::from(needs.gpus.count);
        want == 0 || (0..self.gpus.len()).filter(|g| self.gpu_fits(*g, needs.gpus)).count() >= want
    }

    /// Returns whether the hardware could ever hold the needs of one member.
    #[must_use]
    pub fn could_fit(&self, needs: &Needs) -> bool {
        let room = self.spec.capacity.meet(&self.spec.share_max);
        let devices = self.spec.gpus.iter().filter(|memory| **memory >= needs.gpus.memory).count();
        let count = u64::from(needs.gpus.count);
        // Parts of devices may fit the share in sum, but only so many devices are lent.
        let lent = count <= self.spec.share_max.gpu.get() / 1_000;
        needs.bundle().fits_in(&room) && devices >= usize::from(needs.gpus.count) && lent
    }

    /// Returns the leased part of CPU, memory and GPUs.
    #[must_use]
    pub fn leased_share(&self) -> [BasisPoints; 3] {
        share_of(&self.leased, &self.spec.capacity)
    }

    /// Adds the use of one member with these tags to the counts.
    pub fn take(&mut self, lease: LeaseId, (needs, tags): (&Needs, &[String]), devices: u64) {
        self.leased.add(&needs.bundle());
        self.tags.enter(tags);
        for gpu in selected(&mut self.gpus, devices) {
            gpu.used = gpu.used.saturating_add(needs.gpus.share);
            gpu.memory_used = gpu.memory_used.saturating_add(needs.gpus.memory);
        }
        self.leases.insert(lease);
        if needs.gpus.count > 0 {
            *self.kinds.entry(needs.gpus.kind()).or_insert(0) += 1;
        }
    }

    /// Takes the use of one member with these tags out of the counts.
    ///
    /// # Panics
    /// When more is given back than was taken: our bug.
    pub fn give_back(&mut self, lease: LeaseId, (needs, tags): (&Needs, &[String]), devices: u64) {
        self.leased.take(&needs.bundle());
        self.tags.leave(tags);
        for gpu in selected(&mut self.gpus, devices) {
            assert!(gpu.used >= needs.gpus.share, "a device gives back no more than it lent");
            gpu.used = gpu.used.saturating_sub(needs.gpus.share);
            gpu.memory_used = gpu.memory_used.saturating_sub(needs.gpus.memory);
        }
        self.leases.remove(&lease);
        if let Some(count) = self.kinds.get_mut(&needs.gpus.kind()) {
            *count -= 1;
            if *count == 0 {
                self.kinds.remove(&needs.gpus.kind());
            }
        }
    }

    /// Keeps what one member needs from everybody else.
    pub fn claim(&mut self, needs: &Needs, devices: u64) {
        self.claimed.add(&needs.bundle());
        for gpu in selected(&mut self.gpus, devices) {
            gpu.claimed = gpu.claimed.saturating_add(needs.gpus.share);
            gpu.memory_claimed = gpu.memory_claimed.saturating_add(needs.gpus.memory);
        }
    }

    /// Gives up a claim.
    ///
    /// # Panics
    /// When it was not claimed: our bug.
    pub fn unclaim(&mut self, needs: &Needs, devices: u64) {
        self.claimed.take(&needs.bundle());
        for gpu in selected(&mut self.gpus, devices) {
            assert!(gpu.claimed >= needs.gpus.share, "a claim is given up once");
            gpu.claimed = gpu.claimed.saturating_sub(needs.gpus.share);
            gpu.memory_claimed = gpu.memory_claimed.saturating_sub(needs.gpus.memory);
        }
    }

    /// Returns the state that users see (RULES.md section 8).
    #[must_use]
    pub fn state_name(&self, now: Time) -> &'static str {
        let lends = self.offer.as_ref().is_some_and(|offer| offer.is_open(now));
        match (self.up, &self.draining) {
            (false, _) => "down",
            (true, _) if self.silent => "unreachable",
            (true, Some(_)) if self.leases.is_empty() => "drained",
            (true, Some(_)) => "draining",
            (true, None) if !self.leases.is_empty() && !self.lending.open => "reclaiming",
            (true, None) if !self.leases.is_empty() => "lending",
            (true, None) if lends => "idle",
            (true, None) => "owner",
        }
    }

    /// Returns what the node could lend now (RULES.md section 2): capacity less the predicted
    /// owner's peak less a buffer, nothing of a resource whose excess is too small, at most its
    /// share.
    #[must_use]
    pub fn lendable(&self, now: Time, rules: &Rules) -> Lendable {
        let (offering, balance) = (&rules.offering, &rules.balance);
        let nothing = Lendable { bundle: Bundle::ZERO, gpus: 0 };
        let lends = self.spec.lends(rules.rebalance.mode) && self.lending.open;
        if !self.up || self.draining.is_some() || !lends {
            return nothing;
        }
        let all = u64::MAX.checked_shr(64 - u32::try_from(self.gpus.len()).unwrap_or(64));
        let all = all.unwrap_or(0);
        if self.spec.dedicated {
            return self.capped(self.spec.capacity, all);
        }
        let Some(load) = &self.load else { return nothing };
        if !offering.enabled || !self.passes_gates(load, now, offering) {
            return nothing;
        }
        let capacity = &self.spec.capacity;
        let mut peaks = load.forecasts.iter().map(|f| f.peak(now, balance));
        let cpu_peak = peaks.next().unwrap_or(BasisPoints::ALL);
        let memory_peak = peaks.next().unwrap_or(BasisPoints::ALL);
        let buffer = buffer(capacity);
        let cpu = left_over(capacity.cpu.get(), cpu_peak, buffer.cpu.get(), balance);
        let memory = left_over(capacity.memory.get(), memory_peak, buffer.memory.get(), balance);
        let gates = &offering.gates;
        let mut gpus = 0;
        for (i, ((peak, sample), size)) in
            peaks.zip(&load.sample.gpus).zip(&self.spec.gpus).enumerate()
        {
            let free = size.saturating_sub(sample.memory);
            let idle = peak < gates.gpu_utilization_max && free >= gates.gpu_memory_min;
            gpus |= u64::from(idle && !sample.foreign) << i;
        }
        let bundle = Bundle { cpu: MilliCores::new(cpu), memory: Bytes::new(memory), ..*capacity };
        self.capped(bundle, gpus)
    }

    /// Applies the node's own share limit and counts the devices.
    fn capped(&self, bundle: Bundle, gpus: u64) -> Lendable {
        let devices = (self.spec.share_max.gpu.get() / 1_000).min(self.lending.gpus_max.into());
        let gpus = gpus & !self.lending.withheld;
        let mut kept = 0_u64;
        // A device that already works for the pool is kept before an unused one.
        let idle = |i: &usize| self.gpus.get(*i).is_some_and(|gpu| gpu.used.is_zero());
        // One that is not to be lent any more is lent until its lease has left.
        let lost = (0..self.gpus.len()).filter(|i| !idle(i) && gpus & (1 << i) == 0).count();
        let devices = devices.saturating_sub(lost as u64);
        let working = (0..self.gpus.len()).filter(|i| !idle(i));
        let order = working.chain((0..self.gpus.len()).filter(idle));
        for i in order.filter(|i| gpus & (1 << i) != 0) {
            if u64::from(kept.count_ones()) < devices {
                kept |= 1 << i;
            }
        }
        let gpu = MilliGpus::new(u64::from(kept.count_ones()) * 1_000);
        let bundle = Bundle { gpu, ..bundle.meet(&self.spec.share_max) };
        Lendable { bundle, gpus: kept }
    }

    /// Returns whether the gates of `lend: idle` and the free-amount gates let the node offer.
    fn passes_gates(&self, load: &Load, now: Time, offering: &Offering) -> bool {
        let gates = &offering.gates;
        let free = |capacity: u64, used: BasisPoints| capacity - used.capped().of_ceil(capacity);
        let cpu = free(self.spec.capacity.cpu.get(), load.sample.cpu);
        let memory = free(self.spec.capacity.memory.get(), load.sample.memory);
        if cpu < gates.cpu_min.get() || memory < gates.memory_min.get() {
            return false;
        }
        match offering.lend {
            Lend::Excess => true,
            Lend::Idle => {
                let since = self.idle_since;
                since.is_some_and(|t| now >= t.after(offering.idle_before_offer))
            }
        }
    }

    /// Notes under `lend: idle` since when the owner has been away.
    pub fn note_idleness(&mut self, now: Time, gates: &Gates) {
        let Some(load) = &self.load else { return };
        let idle = load.sample.cpu < gates.cpu_max && load.sample.memory < gates.memory_max;
        self.idle_since = if idle { self.idle_since.or(Some(now)) } else { None };
    }
}

/// Returns what is left of a resource beside the owner's peak and the buffer; nothing while the
/// excess is below its threshold.
fn left_over(capacity: u64, peak: BasisPoints, buffer: u64, balance: &Balance) -> u64 {
    let excess = capacity - peak.of_ceil(capacity);
    if excess < balance.excess_threshold.of_ceil(capacity) {
        return 0;
    }
    excess.saturating_sub(buffer)
}

/// Returns what is kept free beside an owner's predicted peak (RULES.md section 2): one core or 5 %
/// of them, 1 GiB or 10 % of the memory, whichever is more.
#[must_use]
pub fn buffer(capacity: &Bundle) -> Bundle {
    let part = |percent, amount, unit| BasisPoints::percent(percent).of_ceil(amount).max(unit);
    Bundle {
        cpu: MilliCores::new(part(5, capacity.cpu.get(), 1_000)),
        memory: Bytes::new(part(10, capacity.memory.get(), 1 << 30)),
        ..Bundle::ZERO
    }
}

/// Returns CPU, memory and GPU of a bundle as parts of another.
#[must_use]
pub fn share_of(part: &Bundle, whole: &Bundle) -> [BasisPoints; 3] {
    [
        BasisPoints::ratio(part.cpu.get(), whole.cpu.get()),
        BasisPoints::ratio(part.memory.get(), whole.memory.get()),
        BasisPoints::ratio(part.gpu.get(), whole.gpu.get()),
    ]
}

/// Walks the devices whose bit is set.
fn selected(gpus: &mut [Gpu], devices: u64) -> impl Iterator<Item = &mut Gpu> {
    let is_set = move |i: usize| devices & (1 << i) != 0;
    gpus.iter_mut().enumerate().filter(move |(i, _)| is_set(*i)).map(|(_, gpu)| gpu)
}
