//! Reading a journal back, record by record, believing nothing.

use super::{CONFIG, ENTRY, FIELDS, FORMAT, HEADER, JournalError, MAGIC, RECORD_MAX};
use gridcore::command::{Command, Entry};
use gridcore::config::Config;
use gridcore::decode::from_bytes;
use gridcore::encode::{Digest, RULES_VERSION, digest_of};
use gridcore::ids::Seq;
use gridcore::units::Time;
use std::path::{Path, PathBuf};

/// Reads a journal, one segment at a time.
pub struct Reader {
    /// Segments still to be read, the next one last.
    left: Vec<PathBuf>,
    path: PathBuf,
    bytes: Vec<u8>,
    at: usize,
    /// Where the last record that was asked for begins.
    begins: usize,
    /// What the loaded segment's note says.
    synced: usize,
    chain: Digest,
    /// Number and time of the last record.
    last: (u64, Time),
}

/// Returns the segments of a folder, the first one last.
fn segments(folder: &Path) -> Result<Vec<PathBuf>, JournalError> {
    let failed = |error| JournalError::Read(folder.to_owned(), error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|ending| ending == "log") {
            found.push(path);
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Returns the number of the first record of a segment, by its name.
fn first_of(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// One record.
struct Record {
    seq: u64,
    kind: u8,
    at: Time,
    payload: std::ops::Range<usize>,
}

impl Reader {
    /// Opens a journal and reads the configuration it begins with.
    ///
    /// # Errors
    /// When there is none, it cannot be read, or it is damaged or of other rules.
    pub fn open(folder: &Path) -> Result<(Self, Config), JournalError> {
        let mut left = segments(folder)?;
        let path = left.pop().ok_or_else(|| JournalError::Empty(folder.to_owned()))?;
        let bytes = std::fs::read(&path);
        let bytes = bytes.map_err(|error| JournalError::Read(path.clone(), error))?;
        Self::begin(left, path, bytes)
    }

    /// Reads a journal of one segment that is in memory; `path` is for messages.
    ///
    /// # Errors
    /// When it is damaged or of other rules.
    pub fn in_memory(path: &Path, bytes: Vec<u8>) -> Result<(Self, Config), JournalError> {
        Self::begin(Vec::new(), path.to_owned(), bytes)
    }

    /// Begins with a first segment and the configuration in it.
    fn begin(
        left: Vec<PathBuf>,
        path: PathBuf,
        bytes: Vec<u8>,
    ) -> Result<(Self, Config), JournalError> {
        let chain = digest_of(&[]);
        let last = (0, Time::ZERO);
        let mut reader = Self { left, path, bytes, at: 0, begins: 0, synced: 0, chain, last };
        reader.header()?;
        let first = reader.record()?;
        let first = first.filter(|record| record.kind == CONFIG && record.seq == 0);
        let first =
            first.ok_or_else(|| reader.damaged("it does not begin with a configuration"))?;
        let config = reader.decode(&first)?;
        Ok((reader, config))
    }

    /// Reads records that follow an entry and no header precedes.
    pub(super) fn of_records(
        path: PathBuf,
        bytes: Vec<u8>,
        last: (u64, Time),
        chain: Digest,
    ) -> Self {
        Self { left: Vec::new(), path, bytes, at: 0, begins: 0, synced: 0, chain, last }
    }

    /// Returns where the next record begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Opens a journal after an entry that a segment ends with: its number, its time and the chain
    /// up to it.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn after(folder: &Path, last: (u64, Time), chain: Digest) -> Result<Self, JournalError> {
        let mut left = segments(folder)?;
        left.retain(|path| first_of(path).is_some_and(|first| first > last.0));
        let path = folder.to_owned();
        Ok(Self { left, path, bytes: Vec::new(), at: 0, begins: 0, synced: 0, chain, last })
    }

    /// Returns the number and time of the last entry, and the chain up to it.
    #[must_use]
    pub fn position(&self) -> ((u64, Time), Digest) {
        (self.last, self.chain)
    }

    /// Returns the loaded segment, and where in it the record that was asked for last begins, or
    /// would.
    #[must_use]
    pub fn place(&self) -> (&Path, u64) {
        (&self.path, self.begins as u64)
    }

    /// Returns whether damage where the last record begins takes nothing that was synced for sure:
    /// then it is the torn end of the last segment.
    #[must_use]
    pub fn is_torn_end(&self) -> bool {
        self.left.is_empty() && self.begins >= self.synced.max(HEADER)
    }

    /// Returns the next entry; `None` at the end.
    ///
    /// # Errors
    /// When a segment cannot be read or is damaged.
    pub fn next_entry(&mut self) -> Result<Option<Entry<Command>>, JournalError> {
        while self.is_at_end()? {
            let Some(path) = self.left.pop() else { return Ok(None) };
            let bytes = std::fs::read(&path);
            self.bytes = bytes.map_err(|error| JournalError::Read(path.clone(), error))?;
            self.path = path;
            self.header()?;
        }
        let Some(record) = self.record()? else { return Ok(None) };
        if record.kind != ENTRY {
            return Err(self.damaged("a record of a kind that no program wrote"));
        }
        if record.seq != self.last.0 + 1 || record.at < self.last.1 {
            return Err(self.damaged("an entry does not follow the one before it"));
        }
        self.last = (record.seq, record.at);
        let command = self.decode(&record)?;
        Ok(Some(Entry { seq: Seq::new(record.seq), at: record.at, command }))
    }

    /// Checks the header of the loaded segment.
    fn header(&mut self) -> Result<(), JournalError> {
        (self.at, self.begins) = (0, 0);
        let magic = self.take(8)?;
        if self.bytes.get(magic) != Some(MAGIC.as_slice()) {
            return Err(self.damaged("this is no journal"));
        }
        if self.number::<4>()? != u64::from(FORMAT) {
            return Err(self.damaged("the format of another version"));
        }
        let found = u32::try_from(self.number::<4>()?).unwrap_or(u32::MAX);
        if found != RULES_VERSION {
            return Err(JournalError::Rules { path: self.path.clone(), found });
        }
        let synced = self.number::<8>()?;
        let crc = self.number::<4>()?;
        if u64::from(crc32c::crc32c(&synced.to_le_bytes())) != crc {
            return Err(self.damaged("the note of what was synced is damaged"));
        }
        self.synced = usize::try_from(synced).unwrap_or(usize::MAX);
        self.begins = self.at;
        Ok(())
    }

    /// Returns whether the loaded segment has no more records: it ends, or zeros follow.
    fn is_at_end(&mut self) -> Result<bool, JournalError> {
        self.begins = self.at;
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let zeros = |count: usize| rest.iter().take(count).all(|byte| *byte == 0);
        let ends = zeros(4) && zeros(rest.len());
        if ends && self.at < self.synced {
            return Err(self.damaged("records that were synced are missing"));
        }
        Ok(ends)
    }

    /// Reads one record of the loaded segment; `None` at its end.
    fn record(&mut self) -> Result<Option<Record>, JournalError> {
        if self.is_at_end()? {
            return Ok(None);
        }
        let length = usize::try_from(self.number::<4>()?).unwrap_or(usize::MAX);
        let crc = self.number::<4>()?;
        if !(FIELDS..=RECORD_MAX).contains(&length) {
            return Err(self.damaged("the length of a record is impossible"));
        }
        let body = self.take(length)?;
        let bytes = self.bytes.get(body.clone()).unwrap_or_default();
        if u64::from(crc32c::crc32c(bytes)) != crc {
            return Err(self.damaged("the checksum of a record is wrong"));
        }
        let (next, end) = (digest_of(bytes), self.at);
        self.at = body.start;
        let seq = self.number::<8>()?;
        let chain = u128::from(self.number::<8>()?) | u128::from(self.number::<8>()?) << 64;
        if chain != self.chain.0 {
            return Err(self.damaged("a record does not follow the one before it"));
        }
        let kind = u8::try_from(self.number::<1>()?).unwrap_or(u8::MAX);
        let at = Time::from_ms(self.number::<8>()?);
        let payload = self.at..end;
        (self.at, self.chain) = (end, next);
        Ok(Some(Record { seq, kind, at, payload }))
    }

    /// Takes so many bytes.
    fn take(&mut self, count: usize) -> Result<std::ops::Range<usize>, JournalError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.damaged("it ends in the middle of a record"))?;
        let taken = self.at..end;
        self.at = end;
        Ok(taken)
    }

    /// Takes a little-endian number of `N` bytes, at most eight.
    fn number<const N: usize>(&mut self) -> Result<u64, JournalError> {
        let taken = self.take(N)?;
        let bytes = self.bytes.get(taken).unwrap_or_default();
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Decodes what a record holds.
    fn decode<T>(&self, record: &Record) -> Result<T, JournalError>
    where
        T: serde::de::DeserializeOwned + serde::Serialize,
    {
        let payload = self.bytes.get(record.payload.clone()).unwrap_or_default();
        from_bytes(payload).map_err(|_| self.damaged("a record holds no value of its kind"))
    }

    fn damaged(&self, what: &'static str) -> JournalError {
        JournalError::Damaged { path: self.path.clone(), at: self.at as u64, what }
    }
}
