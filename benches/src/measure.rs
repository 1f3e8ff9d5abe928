//! How work is measured and printed.

use gridsim::clock::Stopwatch;

/// Prints one line.
#[expect(clippy::print_stdout, reason = "a bench has nothing but its output")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Numbers from a seed: the generator of SplitMix64.
pub(crate) struct Dice(pub u64);

impl Dice {
    /// Returns a number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        gridcore::state::mix(0x0062_656e_6368_6573, self.0) % bound
    }
}

/// Returns the nanoseconds that `work` takes.
pub(crate) fn nanos(work: impl FnOnce()) -> u128 {
    let watch = Stopwatch::start();
    work();
    watch.elapsed().as_nanos().max(1)
}

/// Returns the median of five measurements of `work`.
pub(crate) fn median(mut work: impl FnMut() -> u128) -> u128 {
    let mut all: Vec<u128> = (0..5).map(|_| work()).collect();
    all.sort_unstable();
    all.get(2).copied().unwrap_or(1)
}

/// Writes `value / unit` with one decimal.
pub(crate) fn tenths(value: u128, unit: u128) -> String {
    let scaled = value * 10 / unit.max(1);
    format!("{}.{}", scaled / 10, scaled % 10)
}
