//! The journal: the history of a run as the entries that its core applied, on disk.
//!
//! A folder of segments named by their first sequence number. A segment is a header (magic, version
//! of the format, [`RULES_VERSION`]) and records: length, crc32c of what follows, sequence, chain,
//! kind, time, payload, little-endian. The first record of the first segment holds the
//! configuration; every other, one command in the core's canonical encoding. The chain of a record
//! is a digest over everything before it, so that no record can be missing, moved or repeated.

use gridcore::command::{Command, Entry};
use gridcore::config::Config;
use gridcore::decode::from_bytes;
use gridcore::encode::{Digest, RULES_VERSION, digest_of, to_bytes};
use gridcore::ids::Seq;
use gridcore::units::Time;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The first bytes of a segment.
const MAGIC: &[u8; 8] = b"gridjrnl";
/// The version of the format of files and records.
const FORMAT: u32 = 1;
/// Bytes of a segment's header.
const HEADER: usize = 16;
/// A segment that has grown past this many bytes is followed by another.
const SEGMENT: u64 = 64 << 20;
/// Bytes of a record before its checksum ends, and those of its fixed fields after it.
const FRAME: usize = 8;
const FIELDS: usize = 8 + 16 + 1 + 8;
/// Most bytes of one record: more is damage.
const RECORD_MAX: usize = 1 << 30;

/// What a record holds.
const CONFIG: u8 = 0;
const ENTRY: u8 = 1;

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, io::Error),
    /// The folder holds no segment.
    #[error("{0} holds no journal: no file in it ends in .log")]
    Empty(PathBuf),
    /// The segment was written under other rules, which decide otherwise.
    #[error("{path} was written under rules {found}; this program knows {RULES_VERSION}")]
    Rules {
        /// The segment.
        path: PathBuf,
        /// Its version of the rules.
        found: u32,
    },
    /// The segment is damaged.
    #[error("{path}, byte {at}: {what}")]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        at: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// Writes a journal. The first failure is kept, and nothing is written after it.
pub struct Writer {
    folder: PathBuf,
    out: BufWriter<File>,
    chain: Digest,
    /// Bytes of the running segment.
    written: u64,
    failed: Option<io::Error>,
}

impl Writer {
    /// Makes a folder and writes the configuration that the history begins with.
    ///
    /// # Errors
    /// When the folder or its first file cannot be written.
    pub fn begin(folder: &Path, config: &Config) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut writer = Self {
            folder: folder.to_owned(),
            out: segment(folder, 0)?,
            chain: digest_of(&[]),
            written: HEADER as u64,
            failed: None,
        };
        let payload = to_bytes(config).map_err(io::Error::other)?;
        writer.record(0, CONFIG, Time::ZERO, &payload)?;
        Ok(writer)
    }

    /// Appends an entry.
    pub fn append(&mut self, entry: &Entry<Command>) {
        if self.failed.is_some() {
            return;
        }
        let (seq, at) = (entry.seq.get(), entry.at);
        let payload = to_bytes(&entry.command).map_err(io::Error::other);
        let written = payload.and_then(|payload| self.record(seq, ENTRY, at, &payload));
        self.failed = written.err();
    }

    /// Appends a record, in a new segment when the running one is full.
    fn record(&mut self, seq: u64, kind: u8, at: Time, payload: &[u8]) -> io::Result<()> {
        if self.written > SEGMENT {
            self.out.flush()?;
            self.out = segment(&self.folder, seq)?;
            self.written = HEADER as u64;
        }
        let framed = frame(&mut self.chain, (seq, at), kind, payload).map_err(io::Error::other)?;
        self.out.write_all(&framed)?;
        self.written += framed.len() as u64;
        Ok(())
    }

    /// Ends the journal.
    ///
    /// # Errors
    /// The first failure since it began.
    pub fn finish(&mut self) -> io::Result<()> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }
}

/// Returns the bytes of a record, and carries the chain on to it.
fn frame(
    chain: &mut Digest,
    (seq, at): (u64, Time),
    kind: u8,
    payload: &[u8],
) -> Result<Vec<u8>, std::num::TryFromIntError> {
    let length = u32::try_from(FIELDS + payload.len())?;
    let mut record = Vec::with_capacity(FRAME + FIELDS + payload.len());
    record.extend_from_slice(&length.to_le_bytes());
    record.extend_from_slice(&[0; 4]);
    record.extend_from_slice(&seq.to_le_bytes());
    record.extend_from_slice(&chain.0.to_le_bytes());
    record.push(kind);
    record.extend_from_slice(&at.ms().to_le_bytes());
    record.extend_from_slice(payload);
    if let Some((head, body)) = record.split_at_mut_checked(FRAME) {
        let crc = crc32c::crc32c(body).to_le_bytes();
        head.iter_mut().skip(4).zip(crc).for_each(|(slot, byte)| *slot = byte);
        *chain = digest_of(body);
    }
    Ok(record)
}

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
        let mut reader = Reader { left: Vec::new(), path, bytes, at: 0, chain, last: self.after };
        let mut entries = Vec::new();
        loop {
            let begins = reader.at;
            match reader.next_entry() {
                Ok(Some(entry)) => entries.push(entry),
                Ok(None) => return Ok(entries),
                Err(_) if begins >= self.synced => return Ok(entries),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Begins a segment.
fn segment(folder: &Path, first: u64) -> io::Result<BufWriter<File>> {
    let file = File::create(folder.join(format!("{first:020}.log")))?;
    let mut out = BufWriter::with_capacity(1 << 18, file);
    out.write_all(MAGIC)?;
    out.write_all(&FORMAT.to_le_bytes())?;
    out.write_all(&RULES_VERSION.to_le_bytes())?;
    Ok(out)
}

/// Reads a journal, one segment at a time.
pub struct Reader {
    /// Segments still to be read, the next one last.
    left: Vec<PathBuf>,
    path: PathBuf,
    bytes: Vec<u8>,
    at: usize,
    chain: Digest,
    /// Number and time of the last record.
    last: (u64, Time),
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
        let failed = |error| JournalError::Read(folder.to_owned(), error);
        let mut left = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|ending| ending == "log") {
                left.push(path);
            }
        }
        left.sort_unstable_by(|a, b| b.cmp(a));
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
        let mut reader = Self { left, path, bytes, at: 0, chain, last };
        reader.header()?;
        let first = reader.record()?;
        let first = first.filter(|record| record.kind == CONFIG && record.seq == 0);
        let first =
            first.ok_or_else(|| reader.damaged("it does not begin with a configuration"))?;
        let config = reader.decode(&first)?;
        Ok((reader, config))
    }

    /// Returns the next entry; `None` at the end.
    ///
    /// # Errors
    /// When a segment cannot be read or is damaged.
    pub fn next_entry(&mut self) -> Result<Option<Entry<Command>>, JournalError> {
        while self.at == self.bytes.len() {
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
        self.at = 0;
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
        Ok(())
    }

    /// Reads one record of the loaded segment; `None` at its end.
    fn record(&mut self) -> Result<Option<Record>, JournalError> {
        if self.at == self.bytes.len() {
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
