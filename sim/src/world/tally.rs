//! Sums over time: what was there, used, lent and waiting, as exact integrals.

use crate::record::Amounts;
use gridcore::bundle::Bundle;
use gridcore::nodes::Node;
use gridcore::units::{BasisPoints, Bytes, MilliCores, MilliGpus, Span, Time};

/// CPU, memory and GPU of a bundle.
pub type Triple = [u64; 3];

/// Returns CPU, memory and GPU of a bundle.
#[must_use]
pub fn triple(bundle: &Bundle) -> Triple {
    [bundle.cpu.get(), bundle.memory.get(), bundle.gpu.get()]
}

/// Integrals over milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Integrals {
    /// Hardware of nodes that are up.
    pub capacity: [u128; 3],
    /// In use by owners.
    pub owner: [u128; 3],
    /// Leased, per band.
    pub lent: [[u128; 3]; 4],
    /// Jobs waiting, per band.
    pub waiting: [u128; 4],
    /// Thousandths of GPUs on offer and not leased while a GPU job waits.
    pub unallocated: u128,
}

/// What is there now, and the sums so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Up to when the sums reach.
    at: Time,
    /// Hardware of nodes that are up.
    pub capacity: Triple,
    /// In use by owners.
    pub owner: Triple,
    /// Leased, per band.
    pub lent: [Triple; 4],
    /// Jobs waiting, per band.
    pub waiting: [u32; 4],
    /// Jobs running.
    pub running: u32,
    /// GPU jobs waiting.
    pub gpu_waiting: u32,
    /// GPUs on offer, in thousandths, at the last look.
    pub gpu_offered: u64,
    /// The sums.
    pub sums: Integrals,
}

/// Adds `amount` times `span` to each sum.
fn add(sums: &mut [u128; 3], amounts: Triple, span: u128) {
    for (sum, amount) in sums.iter_mut().zip(amounts) {
        if amount > 0 {
            *sum += u128::from(amount) * span;
        }
    }
}

impl Tally {
    /// Carries the sums on to a later time.
    pub fn advance(&mut self, to: Time) {
        let span = u128::from(to.since(self.at).get());
        self.at = to;
        if span == 0 {
            return;
        }
        add(&mut self.sums.capacity, self.capacity, span);
        add(&mut self.sums.owner, self.owner, span);
        for (sums, lent) in self.sums.lent.iter_mut().zip(self.lent) {
            add(sums, lent, span);
        }
        for (sum, count) in self.sums.waiting.iter_mut().zip(self.waiting) {
            if count > 0 {
                *sum += u128::from(count) * span;
            }
        }
        if self.gpu_waiting > 0 {
            let lent: u64 = self.lent.iter().map(|l| l[2]).sum();
            self.sums.unallocated += u128::from(self.gpu_offered.saturating_sub(lent)) * span;
        }
    }

    /// Changes what is leased in a band.
    pub fn lend(&mut self, band: usize, needs: Amounts, add: bool) {
        if let Some(lent) = self.lent.get_mut(band) {
            for (slot, amount) in
                lent.iter_mut().zip([needs.cpu.get(), needs.memory.get(), needs.gpu.get()])
            {
                *slot = if add { *slot + amount } else { *slot - amount };
            }
        }
    }

    /// Replaces one node's part of capacity and owner's use.
    pub fn replace(&mut self, slot: Which, old: Triple, new: Triple) {
        let sums = match slot {
            Which::Capacity => &mut self.capacity,
            Which::Owner => &mut self.owner,
        };
        for ((sum, old), new) in sums.iter_mut().zip(old).zip(new) {
            *sum = *sum - old + new;
        }
    }
}

/// Which sum a node's part belongs to.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    /// Hardware of nodes that are up.
    Capacity,
    /// Owners' use.
    Owner,
}

/// Returns what a node's owner uses now, in amounts.
#[must_use]
pub fn owner_amounts(node: &Node) -> Triple {
    let Some(load) = &node.load else { return [0; 3] };
    let [cpu, memory, gpu] = load.owner();
    let amount = |part: BasisPoints, whole: u64| part.of_floor(whole);
    let capacity = &node.spec.capacity;
    [
        amount(cpu, capacity.cpu.get()),
        amount(memory, capacity.memory.get()),
        amount(gpu, capacity.gpu.get()),
    ]
}

/// Returns the mean over a span of what two states of a sum differ by, each amount by itself.
#[must_use]
pub fn mean(after: [u128; 3], before: [u128; 3], span: Span) -> Amounts {
    let span = u128::from(span.get()).max(1);
    let one = |i: usize| {
        let (after, before) = (after.get(i).copied(), before.get(i).copied());
        let sum = after.unwrap_or(0) - before.unwrap_or(0);
        // Most sums are of what is not there, and a division is long.
        if sum == 0 { 0 } else { u64::try_from(sum / span).unwrap_or(u64::MAX) }
    };
    Amounts {
        cpu: MilliCores::new(one(0)),
        memory: Bytes::new(one(1)),
        gpu: MilliGpus::new(one(2)),
    }
}
