//! The journal: the history of a run as the entries that its core applied, on disk.
//!
//! A folder of segments named by their first sequence number. A segment is a header (magic, version
//! of the format, [`RULES_VERSION`], the note) and records: length, crc32c of what follows, then
//! sequence, chain, kind, time and payload, little-endian. The first record of the first segment
//! holds the configuration; every other, one command in the core's canonical encoding. The chain of
//! a record is a digest over everything before it, so that no record can be missing, moved or
//! repeated.
//!
//! The daemon writes into space that it has set aside: zeros where a record would begin end a
//! segment. Its note says how many bytes of the segment were synced when it was written (with a
//! checksum), so that what ends before that has lost something; a simulation's is zero.

mod read;
mod tail;

pub use read::Reader;
pub use tail::Tail;

use gridcore::command::{Command, Entry};
use gridcore::config::Config;
use gridcore::encode::{Digest, RULES_VERSION, digest_of, to_bytes};
use gridcore::units::Time;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The first bytes of a segment.
const MAGIC: &[u8; 8] = b"gridjrnl";
/// The version of the format of files and records.
const FORMAT: u32 = 2;
/// Bytes of a segment's header.
pub const HEADER: usize = 28;
/// Where the note begins in it.
pub const NOTE_AT: u64 = 16;
/// A segment that has grown past this many bytes is followed by another.
pub const SEGMENT: u64 = 64 << 20;
/// Bytes of a record before its checksum ends, and those of its fixed fields after it.
const FRAME: usize = 8;
const FIELDS: usize = 8 + 16 + 1 + 8;
/// Most bytes of one record: more is damage.
const RECORD_MAX: usize = 1 << 30;

/// A record that holds the configuration.
pub const CONFIG: u8 = 0;
/// A record that holds an entry.
pub const ENTRY: u8 = 1;

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

/// Returns a segment's note: how many of its bytes are synced.
#[must_use]
pub fn note(synced: u64) -> [u8; 12] {
    let mut note = [0; 12];
    let bytes = synced.to_le_bytes();
    let crc = crc32c::crc32c(&bytes).to_le_bytes();
    note.iter_mut().zip(bytes.into_iter().chain(crc)).for_each(|(slot, byte)| *slot = byte);
    note
}

/// Returns a segment's header.
#[must_use]
pub fn header(synced: u64) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&FORMAT.to_le_bytes());
    header.extend_from_slice(&RULES_VERSION.to_le_bytes());
    header.extend_from_slice(&note(synced));
    header
}

/// Returns the bytes of a record, and carries the chain on to it.
///
/// # Errors
/// When the payload is longer than a record can say.
pub fn frame(
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

/// Begins a segment.
fn segment(folder: &Path, first: u64) -> io::Result<BufWriter<File>> {
    let file = File::create(folder.join(format!("{first:020}.log")))?;
    let mut out = BufWriter::with_capacity(1 << 18, file);
    out.write_all(&header(0))?;
    Ok(out)
}
