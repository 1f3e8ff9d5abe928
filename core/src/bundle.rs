//! A bundle: one amount per resource, with arithmetic that never goes below nothing.
//!
//! CPU, memory, storage, GPUs (in thousandths, summed over devices) and up to
//! [`RESOURCES_MAX`] custom resources that the configuration names. What single devices have left
//! is not here but with the node; [`GpuNeed`] says what a job asks of each device.

use crate::units::{Bytes, MilliCores, MilliGpus, PerMille};
use core::hint::cold_path;
use serde::{Deserialize, Serialize};

/// How many custom resources a cluster may name.
pub const RESOURCES_MAX: usize = 8;

/// How many GPUs a node may have (CREDITS.md "declared maxima").
pub const GPUS_MAX: usize = 64;

/// Amounts of every resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Bundle {
    /// Compute.
    pub cpu: MilliCores,
    /// Main memory.
    pub memory: Bytes,
    /// Space for work directories.
    pub storage: Bytes,
    /// GPU capacity, summed over devices.
    pub gpu: MilliGpus,
    /// Custom resources, in the order in which the configuration names them.
    pub custom: [u64; RESOURCES_MAX],
}

/// One dimension of a [`Bundle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Dimension {
    /// Compute, in millicores.
    Cpu,
    /// Main memory, in bytes.
    Memory,
    /// Storage, in bytes.
    Storage,
    /// GPUs, in thousandths of a device.
    Gpu,
    /// A custom resource, by its place in the configuration.
    Custom(u8),
}

/// How many dimensions a bundle has.
pub const DIMENSIONS: usize = 4 + RESOURCES_MAX;

impl Dimension {
    /// Walks all dimensions in their stated order.
    pub fn all() -> impl Iterator<Item = Self> {
        let custom = (0..RESOURCES_MAX).map(|i| Self::Custom(u8::try_from(i).unwrap_or(u8::MAX)));
        [Self::Cpu, Self::Memory, Self::Storage, Self::Gpu].into_iter().chain(custom)
    }
}

impl Bundle {
    /// Nothing of anything.
    pub const ZERO: Self = Self {
        cpu: MilliCores::ZERO,
        memory: Bytes::ZERO,
        storage: Bytes::ZERO,
        gpu: MilliGpus::ZERO,
        custom: [0; RESOURCES_MAX],
    };

    /// Returns a bundle of compute alone.
    #[must_use]
    pub fn cpu(cpu: MilliCores) -> Self {
        Self { cpu, ..Self::ZERO }
    }

    /// Returns the amounts in the order of [`Dimension::all`].
    #[must_use]
    pub fn amounts(&self) -> [u64; DIMENSIONS] {
        let (cpu, memory, storage) = (self.cpu.get(), self.memory.get(), self.storage.get());
        let [a, b, c, d, e, f, g, h] = self.custom;
        [cpu, memory, storage, self.gpu.get(), a, b, c, d, e, f, g, h]
    }

    /// Builds a bundle from amounts in the order of [`Dimension::all`].
    #[must_use]
    pub fn from_amounts(amounts: [u64; DIMENSIONS]) -> Self {
        let [cpu, memory, storage, gpu, custom @ ..] = amounts;
        Self {
            cpu: MilliCores::new(cpu),
            memory: Bytes::new(memory),
            storage: Bytes::new(storage),
            gpu: MilliGpus::new(gpu),
            custom,
        }
    }

    /// Returns the amount in one dimension.
    #[must_use]
    pub fn amount(&self, dimension: Dimension) -> u64 {
        match dimension {
            Dimension::Cpu => self.cpu.get(),
            Dimension::Memory => self.memory.get(),
            Dimension::Storage => self.storage.get(),
            Dimension::Gpu => self.gpu.get(),
            Dimension::Custom(i) => self.custom.get(usize::from(i)).copied().unwrap_or(0),
        }
    }

    /// Returns so many times each amount, or the most there is.
    #[must_use]
    #[inline(never)]
    pub fn times(&self, count: u64) -> Self {
        if count == 1 {
            return *self;
        }
        self.zip(&Self::ZERO, |amount, _| amount.saturating_mul(count))
    }

    /// Combines two bundles amount by amount.
    #[must_use]
    pub fn zip(&self, other: &Self, mut f: impl FnMut(u64, u64) -> u64) -> Self {
        let mut amounts = self.amounts();
        for (mine, theirs) in amounts.iter_mut().zip(other.amounts()) {
            *mine = f(*mine, theirs);
        }
        Self::from_amounts(amounts)
    }

    /// Changes each amount by the other's, of which nothing changes nothing: hardly anybody has
    /// custom resources.
    fn change(&mut self, other: &Self, mut f: impl FnMut(u64, u64) -> u64) {
        self.cpu = MilliCores::new(f(self.cpu.get(), other.cpu.get()));
        self.memory = Bytes::new(f(self.memory.get(), other.memory.get()));
        self.storage = Bytes::new(f(self.storage.get(), other.storage.get()));
        self.gpu = MilliGpus::new(f(self.gpu.get(), other.gpu.get()));
        if other.is_custom() {
            cold_path();
            for (mine, theirs) in self.custom.iter_mut().zip(other.custom) {
                *mine = f(*mine, theirs);
            }
        }
    }

    /// Returns whether there is any custom resource in it.
    fn is_custom(&self) -> bool {
        self.custom.iter().fold(0, |all, amount| all | amount) != 0
    }

    /// Returns whether every amount is at most the other's.
    #[must_use]
    pub fn fits_in(&self, room: &Self) -> bool {
        self.cpu <= room.cpu
            && self.memory <= room.memory
            && self.gpu <= room.gpu
            && self.storage <= room.storage
            && (!self.is_custom() || self.custom_fits_in(room))
    }

    #[cold]
    fn custom_fits_in(&self, room: &Self) -> bool {
        self.custom.iter().zip(room.custom).all(|(mine, theirs)| *mine <= theirs)
    }

    /// Returns whether every amount is at most what two others leave of a whole.
    #[must_use]
    #[inline]
    pub fn fits_beside(&self, whole: &Self, [one, other]: [&Self; 2]) -> bool {
        let fits = |of: fn(&Self) -> u64| {
            let need = of(self);
            need == 0 || need <= of(whole).saturating_sub(of(one)).saturating_sub(of(other))
        };
        // CPU is what is short most often.
        let custom = || self.custom_fits_in(&whole.saturating_sub(one).saturating_sub(other));
        fits(|bundle| bundle.cpu.get())
            && fits(|bundle| bundle.memory.get())
            && fits(|bundle| bundle.gpu.get())
            && fits(|bundle| bundle.storage.get())
            && (!self.is_custom() || custom())
    }

    /// Returns whether there is nothing in it.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// Adds, or returns `None` when one sum does not fit.
    #[must_use]
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        let mut sum = *self;
        sum.try_add(other).then_some(sum)
    }

    /// Adds in place; returns whether every sum fits.
    fn try_add(&mut self, other: &Self) -> bool {
        let mut fits = true;
        self.change(other, |a, b| {
            let (sum, over) = a.overflowing_add(b);
            fits &= !over;
            sum
        });
        fits
    }

    /// Subtracts and stops at nothing in every dimension.
    #[must_use]
    #[inline(never)]
    pub fn saturating_sub(&self, other: &Self) -> Self {
        let mut rest = *self;
        rest.lessen(other);
        rest
    }

    /// Subtracts in place and stops at nothing in every dimension.
    #[inline(never)]
    pub fn lessen(&mut self, other: &Self) {
        self.change(other, u64::saturating_sub);
    }

    /// Adds, and stops at the most there is in every dimension.
    #[must_use]
    #[inline(never)]
    pub fn saturating_add(&self, other: &Self) -> Self {
        let mut sum = *self;
        sum.add_capped(other);
        sum
    }

    /// Adds in place, and stops at the most there is in every dimension.
    #[inline]
    pub fn add_capped(&mut self, other: &Self) {
        self.change(other, u64::saturating_add);
    }

    /// Returns the smaller amount in every dimension.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        self.zip(other, u64::min)
    }

    /// Adds in place.
    ///
    /// # Panics
    /// When a sum does not fit 64 bits: the declared maxima rule that out, so it is our bug.
    pub fn add(&mut self, other: &Self) {
        let fits = self.try_add(other);
        assert!(fits, "amounts stay inside the declared maxima");
    }

    /// Takes away in place.
    ///
    /// # Panics
    /// When more is taken than is there: capacity was counted wrong, which is our bug.
    pub fn take(&mut self, other: &Self) {
        assert!(other.fits_in(self), "{other:?} is taken from {self:?}");
        self.lessen(other);
    }
}

/// What a job asks of each GPU, and of how many.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct GpuNeed {
    /// How many devices, 0 to [`GPUS_MAX`].
    pub count: u8,
    /// The part of each device, 1 to 1,000 thousandths; 1,000 is exclusive use.
    pub share: PerMille,
    /// Video memory on each device.
    pub memory: Bytes,
}

impl GpuNeed {
    /// No GPU at all.
    pub const NONE: Self = Self { count: 0, share: PerMille::ZERO, memory: Bytes::ZERO };

    /// Whole devices, whatever memory they have.
    #[must_use]
    pub const fn whole(count: u8) -> Self {
        Self { count, share: PerMille::WHOLE, memory: Bytes::ZERO }
    }

    /// Returns the capacity over all devices.
    #[must_use]
    pub fn total(&self) -> MilliGpus {
        MilliGpus::new(u64::from(self.count) * u64::from(self.share.get()))
    }

    /// Returns which kind of GPU job this is: 0 for none, 255 for a part of devices, else how many.
    #[must_use]
    pub fn kind(&self) -> u8 {
        match (self.count, self.is_exclusive()) {
            (0, _) => 0,
            (_, false) => u8::MAX,
            (count, true) => count,
        }
    }

    /// Returns whether the devices are used exclusively.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.count > 0 && self.share == PerMille::WHOLE
    }
}

/// What one member of a job asks for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Needs {
    /// Compute.
    pub cpu: MilliCores,
    /// Main memory.
    pub memory: Bytes,
    /// Space for the work directory.
    pub storage: Bytes,
    /// GPUs.
    pub gpus: GpuNeed,
    /// Custom resources, in the order in which the configuration names them.
    pub custom: [u64; RESOURCES_MAX],
}

impl Needs {
    /// Returns the amounts without the shape of the GPU request.
    #[must_use]
    #[inline(never)]
    pub fn bundle(&self) -> Bundle {
        Bundle {
            cpu: self.cpu,
            memory: self.memory,
            storage: self.storage,
            gpu: self.gpus.total(),
            custom: self.custom,
        }
    }

    /// Returns whether nothing is asked for.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.bundle().is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_fits_only_when_every_amount_does() {
        let room = Bundle { cpu: MilliCores::whole(2), memory: Bytes::gib(4), ..Bundle::ZERO };
        assert!(Bundle::cpu(MilliCores::whole(2)).fits_in(&room));
        assert!(!Bundle::cpu(MilliCores::whole(3)).fits_in(&room));
        let mut special = Bundle::ZERO;
        special.custom = [0, 1, 0, 0, 0, 0, 0, 0];
        assert!(!special.fits_in(&room));
    }

    #[test]
    fn what_fits_beside_two_others_fits_into_what_they_leave_of_every_amount() {
        let all = |amount| Bundle::from_amounts([amount; DIMENSIONS]);
        let (whole, one, other) = (all(10), all(4), all(3));
        assert!(all(3).fits_beside(&whole, [&one, &other]));
        for i in 0..DIMENSIONS {
            let mut amounts = [0; DIMENSIONS];
            amounts[i] = 4;
            let more = Bundle::from_amounts(amounts);
            assert!(!more.fits_beside(&whole, [&one, &other]), "{more:?}");
            assert!(!one.fits_beside(&more, [&other, &Bundle::ZERO]), "{more:?}");
        }
        assert!(Bundle::ZERO.fits_beside(&one, [&whole, &whole]), "nothing always fits");
    }

    #[test]
    fn amounts_go_out_and_in_unchanged() {
        let bundle = Bundle {
            cpu: MilliCores::new(1),
            memory: Bytes::new(2),
            storage: Bytes::new(3),
            gpu: MilliGpus::new(4),
            custom: [5, 6, 7, 8, 9, 10, 11, 12],
        };
        assert_eq!(Bundle::from_amounts(bundle.amounts()), bundle);
        for (dimension, amount) in Dimension::all().zip(bundle.amounts()) {
            assert_eq!(bundle.amount(dimension), amount);
        }
    }
}
