//! Pressure: how loaded a node is, and whether that counts as high or low (RULES.md section 3).
//!
//! P = (30 CPU + 30 memory + 40 GPU)/100; a node without a GPU: (CPU + memory)/2. High and low are
//! entered only after several samples in a row and left past a band of ten points, so that a value
//! at the border does not flap.

use crate::config::Balance;
use crate::units::BasisPoints;
use serde::{Deserialize, Serialize};

/// Samples in a row before a node counts as high.
const HIGH_SAMPLES: u64 = 3;
/// Samples in a row before a node counts as low.
const LOW_SAMPLES: u64 = 6;
/// The width of the band that is kept before a level is left.
const BAND: u16 = 1_000;

/// Whether a node is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// Little to do.
    Low,
    /// Neither.
    #[default]
    Normal,
    /// Too much to do.
    High,
}

/// The pressure of one node, and for how long it has been near a border.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    level: Level,
    high_run: u64,
    low_run: u64,
}

/// Returns the weights of CPU, memory and GPUs in P, in hundredths.
#[must_use]
pub const fn weights(has_gpu: bool) -> [u64; 3] {
    if has_gpu { [30, 30, 40] } else { [50, 50, 0] }
}

/// Returns P in basis points from the use of CPU, memory and GPUs.
#[must_use]
pub fn score(uses: [BasisPoints; 3], has_gpu: bool) -> BasisPoints {
    let weighted = uses.iter().zip(weights(has_gpu)).map(|(u, w)| u64::from(u.capped().get()) * w);
    BasisPoints::new(u16::try_from(weighted.sum::<u64>() / 100).unwrap_or(10_000))
}

impl Pressure {
    /// Records `count` equal samples.
    pub fn observe(
        &mut self,
        uses: [BasisPoints; 3],
        has_gpu: bool,
        count: u64,
        balance: &Balance,
    ) {
        let p = score(uses, has_gpu).get();
        let mean = |limits: [BasisPoints; 3]| {
            u16::try_from(limits.iter().map(|l| u32::from(l.get())).sum::<u32>() / 3)
                .unwrap_or(10_000)
        };
        let (high, low) = (mean(balance.high), mean(balance.low));
        let limits = balance.high.map(|l| (l.get() + BAND).min(10_000));
        let over = |slack: u16| {
            uses.iter().zip(limits).any(|(u, l)| u.get() >= l.saturating_sub(slack).max(1))
        };
        let is_high = p >= high || over(0);
        let is_low = p <= low;
        self.high_run = if is_high { self.high_run.saturating_add(count) } else { 0 };
        self.low_run = if is_low { self.low_run.saturating_add(count) } else { 0 };
        let stays_high = p > high.saturating_sub(BAND) || over(BAND);
        let stays_low = p < low.saturating_add(BAND);
        self.level = match self.level {
            _ if self.high_run >= HIGH_SAMPLES => Level::High,
            Level::High if stays_high => Level::High,
            _ if self.low_run >= LOW_SAMPLES => Level::Low,
            Level::Low if stays_low => Level::Low,
            Level::Low | Level::Normal | Level::High => Level::Normal,
        };
    }

    /// Returns how many samples in a row have been high.
    #[must_use]
    pub fn high_samples(&self) -> u64 {
        self.high_run
    }

    /// Returns the level.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(percent: u16) -> [BasisPoints; 3] {
        [BasisPoints::percent(percent); 3]
    }

    #[test]
    fn high_takes_three_samples_and_leaves_ten_points_lower() {
        let b = Balance::default();
        let mut p = Pressure::default();
        p.observe(uses(80), true, 2, &b);
        assert_eq!(p.level(), Level::Normal);
        p.observe(uses(80), true, 1, &b);
        assert_eq!(p.level(), Level::High);
        p.observe(uses(75), true, 50, &b);
        assert_eq!(p.level(), Level::High);
        p.observe(uses(70), true, 1, &b);
        assert_eq!(p.level(), Level::Normal);
    }

    #[test]
    fn one_resource_at_its_limit_is_enough() {
        let b = Balance::default();
        let mut p = Pressure::default();
        let only_memory = [BasisPoints::ZERO, BasisPoints::percent(90), BasisPoints::ZERO];
        p.observe(only_memory, true, 3, &b);
        assert_eq!(p.level(), Level::High);
    }

    #[test]
    fn a_node_without_gpu_can_count_as_high() {
        let cpu_memory = [BasisPoints::percent(90), BasisPoints::percent(70), BasisPoints::ZERO];
        assert_eq!(score(cpu_memory, false), BasisPoints::percent(80));
        assert_eq!(score(cpu_memory, true), BasisPoints::percent(48));
    }
}
