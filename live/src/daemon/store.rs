//! The daemon's disk: the journal it appends to, snapshots, and starting again from both.
//!
//! Nothing follows from an entry before it is synced. Space is set aside ahead, so that a full disk
//! is met when it is asked for, never in the middle of an entry. After each sync the segment's note
//! says how far it went: what is damaged before that is refused, what is torn after it never was.

use gridcore::command::{Command, Entry};
use gridcore::config::Config;
use gridcore::encode::{Digest, digest_of, to_bytes};
use gridcore::grid::Grid;
use gridcore::snapshot::Snapshot;
use gridcore::units::Time;
use gridsim::journal::{CONFIG, ENTRY, HEADER, JournalError, NOTE_AT, Reader, SEGMENT};
use gridsim::journal::{frame, header, note};
use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Entries between two snapshots.
const SNAPSHOT_EVERY: u64 = 100_000;
/// Snapshots that are kept.
const SNAPSHOTS: usize = 2;
/// The segment that is set aside for later.
const RESERVE: &str = "reserve";
/// A segment that is being made; a crash leaves it behind, and the next is made over it.
const UNMADE: &str = "unmade";

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refused.
    #[error("{0}: {1}")]
    Disk(PathBuf, io::Error),
    /// Another daemon holds it.
    #[error("{0} is held by another daemon: stop that one first")]
    Held(PathBuf),
    /// The journal cannot be read.
    #[error(
        "{0}\nthe journal is refused as it is; `gridlive journal verify` says how far it is whole"
    )]
    Journal(#[from] JournalError),
    /// The configuration is refused.
    #[error("the journal's configuration is refused: {0}")]
    Config(String),
}

/// What was found on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Entries that were read after the snapshot.
    pub entries: u64,
    /// Bytes of a torn end that were cut off.
    pub cut: u64,
}

/// A journal that is written.
pub struct Store {
    folder: PathBuf,
    file: File,
    /// Bytes of the segment that are written, and those that are to be.
    written: u64,
    pending: Vec<u8>,
    chain: Digest,
    /// The last entry.
    last: u64,
    snapshot_at: u64,
    /// Whether no space could be set aside: no new work is taken.
    pub full: bool,
    /// Held as long as the store is.
    _lock: File,
}

/// Names the file in an error.
fn at(path: &Path) -> impl Fn(io::Error) -> StoreError + '_ {
    |error| StoreError::Disk(path.to_owned(), error)
}

impl Store {
    /// Begins a history.
    ///
    /// # Errors
    /// When the folder is held by another daemon, or the disk refuses.
    pub fn begin(folder: &Path, config: &Config) -> Result<Self, StoreError> {
        let lock = lock(folder)?;
        // There is a history only once it begins with a configuration.
        let (path, unmade) = (folder.join(format!("{:020}.log", 0)), folder.join(UNMADE));
        let file = make(&unmade).map_err(at(&unmade))?;
        let mut store = Self::on(folder, file, (HEADER as u64, 0, digest_of(&[])), lock);
        let payload = to_bytes(config).map_err(|e| at(&path)(io::Error::other(e)))?;
        store.record((0, Time::ZERO), CONFIG, &payload).map_err(at(&path))?;
        store.sync().map_err(at(&path))?;
        std::fs::rename(&unmade, &path).map_err(at(&path))?;
        File::open(folder).and_then(|f| f.sync_all()).map_err(at(folder))?;
        store.reserve().map_err(at(folder))?;
        Ok(store)
    }

    fn on(
        folder: &Path,
        file: File,
        (written, last, chain): (u64, u64, Digest),
        lock: File,
    ) -> Self {
        Self {
            folder: folder.to_owned(),
            file,
            written,
            pending: Vec::new(),
            chain,
            last,
            snapshot_at: last + SNAPSHOT_EVERY,
            full: false,
            _lock: lock,
        }
    }

    /// Returns whether a folder holds a history.
    #[must_use]
    pub fn exists(folder: &Path) -> bool {
        folder.join(format!("{:020}.log", 0)).exists()
    }

    /// Reads a history back and goes on with it.
    ///
    /// # Errors
    /// When the folder is held by another daemon, cannot be read, or is damaged before what was
    /// synced last.
    pub fn recover(folder: &Path) -> Result<(Self, Grid, Recovered), StoreError> {
        let lock = lock(folder)?;
        let (mut grid, mut reader, snapshot) = begin_reading(folder)?;
        let (mut found, mut effects) = (Recovered::default(), Vec::new());
        let mut torn = false;
        loop {
            match reader.next_entry() {
                Ok(Some(entry)) => {
                    let _ = grid.apply(&entry, &mut effects);
                    effects.clear();
                    found.entries += 1;
                }
                Ok(None) => break,
                Err(JournalError::Damaged { .. }) if reader.is_torn_end() => {
                    torn = true;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let ((last, _), chain) = reader.position();
        let (path, place) = reader.place();
        let path =
            if path.is_dir() { newest(folder).map_err(at(folder))? } else { path.to_owned() };
        let place = place.max(HEADER as u64);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(at(&path))?;
        if torn {
            let length = file.metadata().map_err(at(&path))?.len();
            found.cut = length.saturating_sub(place);
            clear_from(&file, place).map_err(at(&path))?;
        }
        write_again(&file, place).map_err(at(&path))?;
        let mut store = Self::on(folder, file, (place, last, chain), lock);
        store.snapshot_at = snapshot + SNAPSHOT_EVERY;
        store.sync().map_err(at(&path))?;
        store.reserve().map_err(at(folder))?;
        Ok((store, grid, found))
    }

    /// Appends an entry; nothing may follow from it before [`Store::sync`].
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn append(&mut self, entry: &Entry<Command>) -> io::Result<()> {
        let payload = to_bytes(&entry.command).map_err(io::Error::other)?;
        self.record((entry.seq.get(), entry.at), ENTRY, &payload)?;
        self.last = entry.seq.get();
        Ok(())
    }

    fn record(&mut self, name: (u64, Time), kind: u8, payload: &[u8]) -> io::Result<()> {
        let bytes = self.pending.len() + payload.len() + 64;
        if self.written + bytes as u64 > SEGMENT && self.written > HEADER as u64 {
            self.sync()?;
            self.roll(name.0)?;
        }
        let framed = frame(&mut self.chain, name, kind, payload).map_err(io::Error::other)?;
        self.pending.extend(framed);
        Ok(())
    }

    /// Makes sure that no crash takes what was appended.
    ///
    /// # Errors
    /// When the disk does not say so. Nobody can know what it holds then: the daemon stops.
    pub fn sync(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.file.write_all_at(&self.pending, self.written)?;
            self.written += self.pending.len() as u64;
            self.pending.clear();
        }
        self.file.sync_data()?;
        self.file.write_all_at(&note(self.written), NOTE_AT)
    }

    /// Goes on in a new segment.
    fn roll(&mut self, first: u64) -> io::Result<()> {
        self.file.set_len(self.written)?;
        self.file.sync_all()?;
        let (path, reserve) =
            (self.folder.join(format!("{first:020}.log")), self.folder.join(RESERVE));
        if !reserve.exists() {
            set_aside(&self.folder)?;
        }
        std::fs::rename(&reserve, &path)?;
        self.file = OpenOptions::new().read(true).write(true).open(&path)?;
        self.written = HEADER as u64;
        File::open(&self.folder)?.sync_all()?;
        self.reserve()
    }

    /// Sets the next segment's space aside; where there is none, no new work is taken.
    ///
    /// # Errors
    /// When the disk fails otherwise.
    pub fn reserve(&mut self) -> io::Result<()> {
        self.full = false;
        if self.folder.join(RESERVE).exists() {
            return Ok(());
        }
        let Err(error) = set_aside(&self.folder) else { return Ok(()) };
        let _ = std::fs::remove_file(self.folder.join(UNMADE));
        self.full = is_full(&error);
        if self.full { Ok(()) } else { Err(error) }
    }

    /// Returns whether it is time for a snapshot.
    #[must_use]
    pub fn wants_snapshot(&self) -> bool {
        self.last >= self.snapshot_at
    }

    /// Keeps the whole state after the last entry, in a file of its own.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn snapshot(&mut self, grid: &Grid) -> io::Result<()> {
        self.snapshot_at = self.last + SNAPSHOT_EVERY;
        self.sync()?;
        self.roll(self.last + 1)?;
        let mut bytes = self.chain.0.to_le_bytes().to_vec();
        bytes.extend_from_slice(grid.snapshot().as_bytes());
        let crc = crc32c::crc32c(&bytes).to_le_bytes();
        bytes.extend_from_slice(&crc);
        crate::program::write_whole(&self.folder.join(format!("{:020}.state", self.last)), &bytes)?;
        for old in snapshots(&self.folder)?.into_iter().skip(SNAPSHOTS) {
            std::fs::remove_file(old.1)?;
        }
        Ok(())
    }
}

/// Takes the folder for this daemon alone.
fn lock(folder: &Path) -> Result<File, StoreError> {
    std::fs::create_dir_all(folder).map_err(at(folder))?;
    let path = folder.join("lock");
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(at(&path))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| StoreError::Held(folder.to_owned()))?;
    Ok(file)
}

/// Returns whether an error only says that there is no room, for bytes or for one more open file:
/// the disk holds what it held.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let many = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    matches!(error.kind(), FileTooLarge | QuotaExceeded | StorageFull)
        || error.raw_os_error().is_some_and(|code| many.contains(&code))
}

/// Writes again what no sync is known to have kept, up to a byte. After an error of the disk the
/// kernel shows what was written and takes it for kept: the next sync would say so, too.
fn write_again(file: &File, place: u64) -> io::Result<()> {
    let mut synced = [0; 8];
    file.read_exact_at(&mut synced, NOTE_AT)?;
    let synced = u64::from_le_bytes(synced).max(HEADER as u64);
    let count = usize::try_from(place.saturating_sub(synced)).map_err(io::Error::other)?;
    let mut bytes = vec![0; count];
    file.read_exact_at(&mut bytes, synced)?;
    file.write_all_at(&bytes, synced)
}

/// Sets a segment aside, whole or not at all.
fn set_aside(folder: &Path) -> io::Result<()> {
    let unmade = folder.join(UNMADE);
    drop(make(&unmade)?);
    std::fs::rename(&unmade, folder.join(RESERVE))?;
    File::open(folder)?.sync_all()
}

/// Makes a segment of zeros with a header.
fn make(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, SEGMENT)?;
    file.write_all_at(&header(0), 0)?;
    file.sync_all()?;
    Ok(file)
}

/// Leaves nothing of a segment from a byte on.
fn clear_from(file: &File, place: u64) -> io::Result<()> {
    file.set_len(place)?;
    let rest = SEGMENT.saturating_sub(place).max(1);
    fallocate(file, FallocateFlags::empty(), place, rest)?;
    file.sync_all()
}

/// Returns the last segment.
fn newest(folder: &Path) -> io::Result<PathBuf> {
    let names = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let logs = names.filter(|path| path.extension().is_some_and(|ending| ending == "log"));
    logs.max().ok_or_else(|| io::Error::other("no segment is left"))
}

/// Returns the snapshots of a folder, newest first, by the entry after which they were made.
fn snapshots(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_state = path.extension().is_some_and(|ending| ending == "state");
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        if let (true, Some(number)) = (is_state, number) {
            found.push((number, path));
        }
    }
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Opens the newest snapshot that is whole, or the beginning.
fn begin_reading(folder: &Path) -> Result<(Grid, Reader, u64), StoreError> {
    for (number, path) in snapshots(folder).map_err(at(folder))? {
        let bytes = std::fs::read(&path).map_err(at(&path))?;
        let Some((body, crc)) = bytes.split_last_chunk::<4>() else { continue };
        let Some((chain, state)) = body.split_first_chunk::<16>() else { continue };
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            continue;
        }
        let Ok(grid) = Grid::restore(&Snapshot::from_bytes(state.to_vec())) else { continue };
        let (last, chain) = ((number, grid.state().now), Digest(u128::from_le_bytes(*chain)));
        return Ok((grid, Reader::after(folder, last, chain)?, number));
    }
    let (reader, config) = Reader::open(folder)?;
    let grid = Grid::new(config, Time::ZERO).map_err(|e| StoreError::Config(e.to_string()))?;
    Ok((grid, reader, 0))
}
