//! Transfers of credit as a run keeps them: 32 bytes each, because there are several per job.
//!
//! They go in and come out as [`TransferRow`]s. Numbers have no gap, so only the first is kept.

use crate::record::{Party, TransferRow};
use gridcore::effect::{self, Transfer};
use gridcore::ids::LeaseId;
use gridcore::units::{MicroAtp, Time};

/// Transfers in the order of their numbers.
#[derive(Clone, Debug, Default)]
pub struct Transfers {
    first: u64,
    /// In blocks of [`BLOCK`]: what grows in one piece is there twice while it does.
    blocks: Vec<Vec<Packed>>,
    /// The names that [`Packed::kind`] counts.
    kinds: Vec<&'static str>,
}

/// One transfer, packed.
#[derive(Clone, Copy, Debug)]
struct Packed {
    at: Time,
    amount: MicroAtp,
    lease: u32,
    from: u32,
    to: u32,
    kind: u8,
}

/// How many transfers are kept in one piece.
const BLOCK: usize = 1 << 16;
/// The mark of a transfer that belongs to no lease.
const NO_LEASE: u32 = u32::MAX;
/// Parties below this are accounts, then come held credits, then those that are no account.
const HELD: u32 = 1 << 30;
const OTHERS: u32 = 1 << 31;

/// A transfer of the core as a row.
impl From<&Transfer> for TransferRow {
    fn from(transfer: &Transfer) -> Self {
        let party = |party: effect::Party| match party {
            effect::Party::Mint => Party::Mint,
            effect::Party::Treasury => Party::Treasury,
            effect::Party::Account(id) => Party::Account(id.get()),
            effect::Party::Held(id) => Party::Held(id.get()),
            effect::Party::Burn => Party::Burn,
        };
        Self {
            id: transfer.id.get(),
            at: transfer.at,
            from: party(transfer.from),
            to: party(transfer.to),
            amount: transfer.amount,
            kind: transfer.kind.name(),
            lease: transfer.lease.map(LeaseId::get),
        }
    }
}

/// Packs a party.
fn pack(party: Party) -> u32 {
    match party {
        Party::Account(id) => id,
        Party::Held(id) => HELD + id,
        Party::Mint => OTHERS,
        Party::Treasury => OTHERS + 1,
        Party::Burn => OTHERS + 2,
    }
}

/// Unpacks a party.
fn unpack(packed: u32) -> Party {
    match packed {
        0..HELD => Party::Account(packed),
        HELD..OTHERS => Party::Held(packed - HELD),
        OTHERS => Party::Mint,
        packed if packed == OTHERS + 1 => Party::Treasury,
        _ => Party::Burn,
    }
}

impl Transfers {
    /// Appends a transfer.
    ///
    /// # Panics
    /// When its number does not follow the last one.
    pub fn push(&mut self, row: &TransferRow) {
        if self.is_empty() {
            self.first = row.id;
        }
        assert_eq!(row.id, self.first + self.len() as u64, "transfers have no gap");
        let known = self.kinds.iter().position(|kind| *kind == row.kind);
        let kind = known.unwrap_or_else(|| {
            self.kinds.push(row.kind);
            self.kinds.len() - 1
        });
        let packed = Packed {
            at: row.at,
            amount: row.amount,
            lease: row.lease.map_or(NO_LEASE, |id| u32::try_from(id).unwrap_or(NO_LEASE)),
            from: pack(row.from),
            to: pack(row.to),
            kind: u8::try_from(kind).unwrap_or(u8::MAX),
        };
        match self.blocks.last_mut().filter(|block| block.len() < BLOCK) {
            Some(block) => block.push(packed),
            None => self.blocks.push(vec![packed]),
        }
    }

    /// Walks the transfers in order.
    pub fn iter(&self) -> impl Iterator<Item = TransferRow> {
        (self.first..).zip(self.blocks.iter().flatten()).map(|(id, row)| TransferRow {
            id,
            at: row.at,
            from: unpack(row.from),
            to: unpack(row.to),
            amount: row.amount,
            kind: self.kinds.get(usize::from(row.kind)).copied().unwrap_or_default(),
            lease: (row.lease != NO_LEASE).then_some(u64::from(row.lease)),
        })
    }

    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let full = self.blocks.len().saturating_sub(1) * BLOCK;
        full + self.blocks.last().map_or(0, Vec::len)
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

impl From<Vec<TransferRow>> for Transfers {
    fn from(rows: Vec<TransferRow>) -> Self {
        let mut out = Self::default();
        for row in &rows {
            out.push(row);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_come_out_as_they_went_in() {
        let parties =
            [Party::Mint, Party::Treasury, Party::Burn, Party::Account(7), Party::Held(1 << 29)];
        let mut rows = Vec::new();
        // More than one block of them.
        let parties = parties.into_iter().cycle().take(BLOCK + 3).collect::<Vec<_>>();
        for (from, to) in parties.iter().copied().zip(parties.iter().rev().copied()) {
            let id = 5 + rows.len() as u64;
            let (at, amount) = (Time::from_ms(id * 10), MicroAtp::new(u64::MAX - id));
            let lease = (id.is_multiple_of(2)).then_some(id);
            let kind = if id.is_multiple_of(2) { "hold" } else { "fee" };
            rows.push(TransferRow { id, at, from, to, amount, kind, lease });
        }
        let packed = Transfers::from(rows.clone());
        assert_eq!(packed.iter().collect::<Vec<_>>(), rows);
        assert_eq!(packed.len(), rows.len());
        assert_eq!(size_of::<Packed>(), 32);
    }
}
