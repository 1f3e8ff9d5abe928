//! The strategy `fgd`: place where GPU fragmentation grows least.
//!
//! Source: Weng et al., "Beware of Fragmentation", USENIX ATC 2023. The fragmentation F of a node
//! is the expected idle GPU capacity that a task drawn from the class table cannot use there. A
//! node's score is int(100 sigmoid((F before - F after)/1000)), here in integers: class counts
//! instead of fractions, so that the difference is exact, and a table of thresholds instead of the
//! sigmoid.

use crate::bundle::{GPUS_MAX, Needs};
use crate::config::TaskClass;
use crate::nodes::Node;
use crate::units::PerMille;
use alloc::vec::Vec;

/// ceil(1000 ln(k/(100-k)) 2^20) for k = 1 to 99: a difference of at least the k-th scores k.
const THRESHOLDS: [i64; 99] = [
    -4_818_332_391,
    -4_080_869_360,
    -3_644_953_659,
    -3_332_430_973,
    -3_087_468_047,
    -2_885_193_892,
    -2_712_340_365,
    -2_560_986_484,
    -2_426_022_059,
    -2_303_956_958,
    -2_192_300_936,
    -2_089_214_452,
    -1_993_299_733,
    -1_903_469_492,
    -1_818_861_036,
    -1_738_778_163,
    -1_662_650_693,
    -1_590_005_585,
    -1_520_445_869,
    -1_453_634_996,
    -1_389_284_991,
    -1_327_147_383,
    -1_267_006_131,
    -1_208_672_069,
    -1_151_978_479,
    -1_096_777_523,
    -1_042_937_361,
    -990_339_775,
    -938_878_222,
    -888_456_201,
    -838_985_895,
    -790_387_021,
    -742_585_855,
    -695_514_397,
    -649_109_656,
    -603_313_033,
    -558_069_777,
    -513_328_519,
    -469_040_856,
    -425_160_981,
    -381_645_359,
    -338_452_432,
    -295_542_353,
    -252_876_744,
    -210_418_475,
    -168_131_454,
    -125_980_441,
    -83_930_862,
    -41_948_633,
    0,
    41_948_634,
    83_930_863,
    125_980_442,
    168_131_455,
    210_418_476,
    252_876_745,
    295_542_354,
    338_452_433,
    381_645_360,
    425_160_982,
    469_040_857,
    513_328_520,
    558_069_778,
    603_313_034,
    649_109_657,
    695_514_398,
    742_585_856,
    790_387_022,
    838_985_896,
    888_456_202,
    938_878_223,
    990_339_776,
    1_042_937_362,
    1_096_777_524,
    1_151_978_480,
    1_208_672_070,
    1_267_006_132,
    1_327_147_384,
    1_389_284_992,
    1_453_634_997,
    1_520_445_870,
    1_590_005_586,
    1_662_650_694,
    1_738_778_164,
    1_818_861_037,
    1_903_469_493,
    1_993_299_734,
    2_089_214_453,
    2_192_300_937,
    2_303_956_959,
    2_426_022_060,
    2_560_986_485,
    2_712_340_366,
    2_885_193_893,
    3_087_468_048,
    3_332_430_974,
    3_644_953_660,
    4_080_869_361,
    4_818_332_392,
];

/// The class table, prepared.
#[derive(Clone, Debug, Default)]
pub struct Fragmentation {
    classes: Vec<Class>,
    total: i128,
}

/// One class of tasks in the units of the node tables.
#[derive(Clone, Debug)]
struct Class {
    cpu: u64,
    gpus: usize,
    share: u16,
    models: Vec<alloc::string::String>,
    count: i128,
}

/// What a node has free, as scores by task classes see it.
#[derive(Clone)]
pub(super) struct Room {
    /// Compute, in thousandths of a core.
    pub(super) cpu: u64,
    /// Devices, in thousandths each; those from `len` on are none.
    pub(super) gpus: [u16; GPUS_MAX],
    pub(super) len: usize,
    /// Which classes its GPU model lets run, one bit each.
    pub(super) runnable: u64,
}

impl Fragmentation {
    /// Prepares a class table.
    #[must_use]
    pub fn new(classes: &[TaskClass]) -> Self {
        let prepared = classes.iter().map(|class| Class {
            cpu: class.cpu.get(),
            gpus: usize::from(class.gpus.count),
            share: class.gpus.share.get(),
            models: class.models.clone(),
            count: i128::from(class.count),
        });
        let classes: Vec<Class> = prepared.collect();
        let total = classes.iter().map(|class| class.count).sum();
        Self { classes, total }
    }

    /// Returns which classes a node's GPU model lets run, one bit each.
    #[must_use]
    pub fn runnable(&self, node: &Node) -> u64 {
        let model = node.spec.labels.get("gpu_model");
        let allows = |class: &Class| {
            class.models.is_empty() || model.is_some_and(|m| class.models.contains(m))
        };
        let bits = self.classes.iter().enumerate().filter(|(_, class)| allows(class));
        bits.fold(0, |mask, (i, _)| mask | 1 << i)
    }

    /// Returns the best score of placing `needs` on a node where it fits, and the devices to use.
    #[must_use]
    pub fn place(&self, node: &Node, runnable: u64, needs: &Needs) -> (i64, u64) {
        let mut room = Room::of(node, runnable);
        let before = self.fragmentation(&room);
        room.cpu = room.cpu.saturating_sub(needs.cpu.get());
        if needs.gpus.count == 0 || needs.gpus.is_exclusive() || needs.gpus.count > 1 {
            let devices = super::tightest(node, needs.gpus);
            room.take(devices, needs.gpus.share);
            return (self.score(before - self.fragmentation(&room)), devices);
        }
        let mut best: Option<(i128, usize)> = None;
        for i in (0..room.len).filter(|i| node.gpu_fits(*i, needs.gpus)) {
            let mut after = room.clone();
            after.take(1 << i, needs.gpus.share);
            let gain = before - self.fragmentation(&after);
            if best.is_none_or(|(most, _)| gain > most) {
                best = Some((gain, i));
            }
        }
        best.map_or((0, 0), |(gain, device)| (self.score(gain), 1 << device))
    }

    /// Returns F times the number of counted tasks, in thousandths of a GPU.
    fn fragmentation(&self, room: &Room) -> i128 {
        let free = room.gpus.get(..room.len).unwrap_or_default();
        let idle: i64 = free.iter().map(|f| i64::from(*f)).sum();
        let mut sum = 0_i128;
        for (i, class) in self.classes.iter().enumerate() {
            let mut able = 0;
            let mut stranded = 0_i64;
            for share in free {
                let fits = *share >= class.share;
                able += usize::from(fits);
                stranded += if fits { 0 } else { i64::from(*share) };
            }
            let runs = class.gpus > 0
                && room.runnable & 1 << i != 0
                && room.cpu >= class.cpu
                && able >= class.gpus;
            sum += class.count * i128::from(if runs { stranded } else { idle });
        }
        sum
    }

    /// Returns 0 to 99: the sigmoid of the fall of fragmentation.
    fn score(&self, gain: i128) -> i64 {
        let scaled = gain << 20;
        let reached = THRESHOLDS.partition_point(|t| scaled >= i128::from(*t) * self.total);
        i64::try_from(reached).unwrap_or(0)
    }
}

impl Room {
    /// Returns what is free of a node.
    pub(super) fn of(node: &Node, runnable: u64) -> Self {
        let mut gpus = [0; GPUS_MAX];
        for (i, slot) in gpus.iter_mut().enumerate().take(node.gpus.len()) {
            *slot = node.gpu_free(i).0.get();
        }
        Self { cpu: node.free().cpu.get(), gpus, len: node.gpus.len(), runnable }
    }

    /// Takes a share of some devices, one bit each.
    pub(super) fn take(&mut self, devices: u64, share: PerMille) {
        for (i, free) in self.gpus.iter_mut().enumerate().take(self.len) {
            if devices & 1 << i != 0 {
                *free = free.saturating_sub(share.get());
            }
        }
    }
}
