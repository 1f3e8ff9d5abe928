//! What a lease was charged: its last terms one by one, totals over all, and a chain of digests.
//!
//! A lease that never paid for a term has none. It decides nothing, but it is part of the state: a
//! restored grid tells the same. The chain proves what fell out of the ring without keeping it: who
//! has all the records, by a replay of the journal, comes to the same head or has other records.

use crate::bundle::DIMENSIONS;
use crate::encode::{Digest, digest};
use crate::units::{Band, MicroAtp, Ppm, Span, Time};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use serde::{Deserialize, Serialize};

/// How many records a lease keeps (CREDITS.md "Rates").
pub const RING: usize = 256;

/// How a term's hold was resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resolution {
    /// Settled when the term or its lease ended, as everybody saw.
    Settled,
    /// Expired at the end of the wait for a node that was not heard: nobody knows how long it ran,
    /// and it was charged to the last proof of life.
    Expired,
}

/// One settled term. Every node that is paid costs the same, so that one record stands for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When the term began.
    pub from: Time,
    /// Until when it was charged.
    pub until: Time,
    /// How that came to be known.
    pub by: Resolution,
    /// How long it ran between, pauses left out.
    pub ran: Span,
    /// Millicore-milliseconds that it had beside its needs.
    pub extra: u128,
    /// The band, which sets the factor of the class.
    pub band: Band,
    /// The prices, where any was not one.
    pub prices: Option<Box<[Ppm; DIMENSIONS]>>,
    /// How many nodes were paid: those of other accounts.
    pub nodes: u32,
    /// What each of them cost, before refunds.
    pub cost: MicroAtp,
    /// What the node to blame gave back of that.
    pub refunded: MicroAtp,
    /// What the treasury had of the rest.
    pub fee: MicroAtp,
}

impl Record {
    /// Returns what all nodes cost, before refunds.
    #[must_use]
    pub fn gross(&self) -> u128 {
        u128::from(self.cost.get()) * u128::from(self.nodes)
    }

    /// Returns the head of a chain when this record follows it.
    #[must_use]
    pub fn follow(&self, before: Digest) -> Digest {
        digest(&(before, self))
    }
}

/// Sums over records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// How many.
    pub terms: u64,
    /// How many of them expired.
    pub expired: u64,
    /// Milliseconds on paid nodes: times what it holds on each, the integral of a resource.
    pub node_ms: u128,
    /// Millicore-milliseconds beside its needs, on paid nodes.
    pub extra: u128,
    /// The cost before refunds, in micro-ATP as what follows.
    pub cost: u128,
    /// What nodes gave back.
    pub refunded: u128,
    /// What the treasury had.
    pub fee: u128,
}

impl Totals {
    /// Adds a record.
    pub fn add(&mut self, record: &Record) {
        let nodes = u128::from(record.nodes);
        self.terms += 1;
        self.expired += u64::from(record.by == Resolution::Expired);
        self.node_ms += nodes * u128::from(record.ran.get());
        self.extra = self.extra.saturating_add(nodes.saturating_mul(record.extra));
        self.cost += record.gross();
        self.refunded += u128::from(record.refunded.get());
        self.fee += u128::from(record.fee.get());
    }

    /// Returns what the borrower paid.
    #[must_use]
    pub fn paid(&self) -> u128 {
        self.cost.saturating_sub(self.refunded)
    }

    /// Returns what the lenders had of it.
    #[must_use]
    pub fn lenders(&self) -> u128 {
        self.paid().saturating_sub(self.fee)
    }
}

/// What is told of a lease's charges when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metered {
    /// Sums over all its terms.
    pub totals: Totals,
    /// The head of the chain over all its records.
    pub head: Digest,
}

/// The charges of one lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    /// Sums over all its terms.
    totals: Totals,
    /// Sums over those that fell out of the ring.
    fallen: Totals,
    /// The head of the chain over those.
    chain: Digest,
    /// The last terms, at most [`RING`].
    ring: VecDeque<Record>,
}

impl Default for Meter {
    fn default() -> Self {
        let (totals, fallen) = (Totals::default(), Totals::default());
        Self { totals, fallen, chain: Digest(0), ring: VecDeque::new() }
    }
}

impl Meter {
    /// Adds the record of a term; the oldest falls out of a full ring, into the chain.
    pub fn note(&mut self, record: Record) {
        if self.ring.len() >= RING
            && let Some(oldest) = self.ring.pop_front()
        {
            self.fallen.add(&oldest);
            self.chain = oldest.follow(self.chain);
        }
        self.totals.add(&record);
        self.ring.push_back(record);
    }

    /// Returns the last terms, the oldest first.
    pub fn records(&self) -> impl ExactSizeIterator<Item = &Record> {
        self.ring.iter()
    }

    /// Returns the sums over all terms.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Returns the sums, and the head of the chain over all records, those in the ring included.
    #[must_use]
    pub fn told(&self) -> Metered {
        let head = self.ring.iter().fold(self.chain, |head, record| record.follow(head));
        Metered { totals: self.totals, head }
    }

    /// Returns whether the ring is bounded, and it and what fell out of it come to the totals.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let mut sum = self.fallen;
        self.ring.iter().for_each(|record| sum.add(record));
        let full = self.ring.len() == RING || self.fallen == Totals::default();
        self.ring.len() <= RING && full && sum == self.totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn record(i: u64) -> Record {
        let at = |i: u64| Time::from_ms(i * 60_000);
        Record {
            from: at(i),
            until: at(i + 1),
            by: if i.is_multiple_of(5) { Resolution::Expired } else { Resolution::Settled },
            ran: Span::new(60_000),
            extra: u128::from(i % 3),
            band: Band::Medium,
            prices: None,
            nodes: 2,
            cost: MicroAtp::new(100 + i),
            refunded: MicroAtp::new(i % 2),
            fee: MicroAtp::new(10),
        }
    }

    #[test]
    fn the_head_is_that_of_all_records_however_many_fell_out() {
        for count in [0, 1, 255, 256, 257, 1_000] {
            let all: Vec<Record> = (0..count).map(record).collect();
            let mut meter = Meter::default();
            all.iter().cloned().for_each(|record| meter.note(record));
            let head = all.iter().fold(Digest(0), |head, record| record.follow(head));
            let mut totals = Totals::default();
            all.iter().for_each(|record| totals.add(record));
            assert_eq!(meter.told(), Metered { totals, head }, "{count}");
            assert!(meter.is_sound() && meter.records().len() <= RING, "{count}");
            assert_eq!(totals.lenders() + totals.fee + totals.refunded, totals.cost);
        }
    }

    #[test]
    fn another_record_or_order_is_another_head() {
        let head = |order: &[u64]| {
            let mut meter = Meter::default();
            order.iter().for_each(|i| meter.note(record(*i)));
            meter.told().head
        };
        let heads = [head(&[]), head(&[1]), head(&[1, 2]), head(&[2, 1]), head(&[1, 3])];
        for (i, one) in heads.iter().enumerate() {
            assert!(!heads.iter().skip(i + 1).any(|other| other == one), "{i}: {heads:?}");
        }
    }

    #[test]
    fn nothing_overflows_at_the_declared_maxima() {
        // 100,000 nodes at nearly 2^62 micro-ATP each, a term an hour, for ten thousand years.
        let top = Record { nodes: 100_000, cost: MicroAtp::new(1 << 62), ..record(1) };
        let top = Record { ran: Span::new(3_600_000), extra: 4_096_000 * 3_600_000, ..top };
        let mut totals = Totals::default();
        totals.add(&top);
        let terms = 10_000 * 366 * 24;
        let all = [totals.cost, totals.node_ms, totals.extra].map(|one| one.checked_mul(terms));
        assert!(all.iter().all(Option::is_some), "{all:?}");
    }
}
