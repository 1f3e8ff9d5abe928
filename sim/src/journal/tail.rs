//! A journal's end in memory, for crashes that are simulated.

use super::{ENTRY, JournalError, Reader, frame};
use gridcore::command::{Command, Entry};
use gridcore::encode::{Digest, digest_of, to_bytes};
use gridcore::ids::Seq;
use gridcore::units::Time;
use std::path::PathBuf;

/// The records that follow some state, on a disk that may lose what was not synced.
#[derive(Clone, Debug)]
pub struct Tail {
    bytes: Vec<u8>,
    chain: Digest,
    /// Number and time of the state's last entry.
    after: (u64, Time),
    /// Bytes that no crash takes.
    synced: usize,
    /// Records.
    count: usize,
}

impl Tail {
    /// Begins after an entry.
    #[must_use]
    pub fn after(seq: Seq, at: Time) -> Self {
        let (chain, after) = (digest_of(&[]), (seq.get(), at));
        Self { bytes: Vec::new(), chain, after, synced: 0, count: 0 }
    }

    /// Returns how many records were appended.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Appends an entry, which is not synced yet.
    ///
    /// # Panics
    /// When a command cannot be encoded: our bug.
    pub fn append(&mut self, entry: &Entry<Command>) {
        let payload = to_bytes(&entry.command).ok();
        let name = (entry.seq.get(), entry.at);
        let framed = payload.and_then(|p| frame(&mut self.chain, name, ENTRY, &p).ok());
        assert!(framed.is_some(), "every command has an encoding");
        self.bytes.extend(framed.unwrap_or_default());
        self.count += 1;
    }

    /// Syncs what was appended.
    pub fn sync(&mut self) {
        self.synced = self.bytes.len();
    }

    /// Returns how many bytes are not synced.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.bytes.len() - self.synced
    }

    /// Loses what was not synced but for the first bytes of it; one of these may have changed.
    pub fn tear(&mut self, kept: usize, changed: Option<usize>) {
        self.bytes.truncate(self.synced + kept);
        let place = changed.map(|place| self.synced + place);
        if let Some(byte) = place.and_then(|place| self.bytes.get_mut(place)) {
            *byte = !*byte;
        }
    }

    /// Reads the entries back. A record that is damaged past the last sync is where it ends.
    ///
    /// # Errors
    /// When anything before that is damaged.
    pub fn entries(&self) -> Result<Vec<Entry<Command>>, JournalError> {
        let (path, bytes, chain) = (PathBuf::from("memory"), self.bytes.clone(), digest_of(&[]));
        let last = self.after;
        let mut reader = Reader::of_records(path, bytes, last, chain);
        let mut entries = Vec::new();
        loop {
            let begins = reader.at();
            match reader.next_entry() {
                Ok(Some(entry)) => entries.push(entry),
                Ok(None) => return Ok(entries),
                Err(_) if begins >= self.synced => return Ok(entries),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(synced: u64, more: u64) -> Tail {
        let mut tail = Tail::after(Seq::new(7), Time::ZERO);
        for i in 1..=synced + more {
            let entry =
                Entry { seq: Seq::new(7 + i), at: Time::from_ms(i), command: Command::Wake };
            tail.append(&entry);
            if i <= synced {
                tail.sync();
            }
        }
        tail
    }

    #[test]
    fn what_was_synced_survives_any_torn_tail() {
        let whole = tail(3, 1);
        assert_eq!(whole.entries().unwrap().len(), 4);
        for kept in 0..whole.unsynced() {
            for changed in (0..kept).map(Some).chain([None]) {
                let mut torn = whole.clone();
                torn.tear(kept, changed);
                assert_eq!(torn.entries().unwrap().len(), 3, "{kept} bytes, {changed:?} changed");
            }
        }
    }

    #[test]
    fn damage_before_the_last_sync_is_refused() {
        let mut damaged = tail(3, 0);
        let middle = damaged.bytes.len() / 2;
        damaged.bytes[middle] ^= 1;
        assert!(damaged.entries().is_err());
    }
}
