//! What the owner of a machine uses: all that is used, less what our own attempts use.

use super::tree::{Row, below};
use crate::frame::Hardware;
use gridcore::units::{BasisPoints, Bytes};
use gridcore::wire::Sample;
use std::collections::BTreeMap;
use std::fs;

/// Returns what this machine is, without its GPUs and what there is to say of it.
#[must_use]
pub fn hardware() -> Hardware {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Hardware {
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
        memory: memory().0,
        host,
        kernel: kernel.trim().to_owned(),
        build: build(),
        gpus: Vec::new(),
        notes: Vec::new(),
    }
}

/// Returns the build of this program: its version, and a digest of its own file.
#[must_use]
pub fn build() -> String {
    static BUILD: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let make = || {
        let bytes = fs::read("/proc/self/exe").unwrap_or_default();
        let digest = gridcore::encode::digest_of(&bytes).to_string();
        format!("{}+{}", env!("CARGO_PKG_VERSION"), digest.get(..12).unwrap_or_default())
    };
    BUILD.get_or_init(make).clone()
}

/// Returns all memory, and what is used of it.
fn memory() -> (Bytes, Bytes) {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0).saturating_mul(1_024)
    };
    let (total, available) = (of("MemTotal:"), of("MemAvailable:"));
    (Bytes::new(total), Bytes::new(total.saturating_sub(available)))
}

/// Returns the ticks that all processors have worked and that have passed on all of them.
fn processors() -> (u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> =
        line.split_ascii_whitespace().skip(1).take(8).filter_map(|f| f.parse().ok()).collect();
    let all: u64 = fields.iter().sum();
    // The fourth and fifth are idle, and idle while a disk works.
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    (all - idle, all)
}

/// What was counted at the last look.
#[derive(Debug, Default)]
pub(super) struct Meter {
    busy: u64,
    all: u64,
    /// Ticks of each attempt, by its keeper.
    ours: BTreeMap<i32, u64>,
}

/// Returns the processor ticks and bytes of memory of a keeper's tree.
fn used(rows: &BTreeMap<i32, Row>, keeper: i32) -> (u64, u64) {
    let page = rustix::param::page_size() as u64;
    let tree = below(rows, keeper).into_iter().chain([keeper]);
    tree.filter_map(|pid| rows.get(&pid))
        .fold((0, 0), |(ticks, bytes), row| (ticks + row.ticks, bytes + row.pages * page))
}

impl Meter {
    /// Looks at the machine beside its GPUs; the first look tells nothing of its processors.
    pub(super) fn look(&mut self, keepers: &[i32], rows: &BTreeMap<i32, Row>) -> Option<Sample> {
        let (busy, all) = processors();
        let (mut ticks, mut bytes, mut ours) = (0, 0, BTreeMap::new());
        for keeper in keepers {
            let (now, memory) = used(rows, *keeper);
            ticks += now.saturating_sub(self.ours.get(keeper).copied().unwrap_or(0));
            bytes += memory;
            ours.insert(*keeper, now);
        }
        let passed = all.saturating_sub(self.all);
        let worked = busy.saturating_sub(self.busy).saturating_sub(ticks);
        let first = self.all == 0;
        *self = Self { busy, all, ours };
        if first || passed == 0 {
            return None;
        }
        let (total, in_use) = memory();
        Some(Sample {
            cpu: share(worked, passed),
            memory: share(in_use.get().saturating_sub(bytes), total.get()),
            gpus: Vec::new(),
        })
    }
}

/// Returns a part of a whole, at most all of it, in whole percent: finer is noise.
fn share(part: u64, whole: u64) -> BasisPoints {
    let percent = part.min(whole).saturating_mul(100).div_ceil(whole.max(1));
    BasisPoints::percent(u16::try_from(percent).unwrap_or(100))
}
