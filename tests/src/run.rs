//! Seeded runs of generated cases, and the counts that the end of a test run shows.
//!
//! The seed is fixed, so that two runs on two machines try the same cases. `GRID_CASES` multiplies
//! how many (in percent; 100 by default), `GRID_SEED` tries others.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use std::cell::Cell;
use std::io::Write;
use std::path::PathBuf;

/// What a property counted.
#[derive(Debug, Default)]
pub struct Counts {
    cases: Cell<u64>,
    commands: Cell<u64>,
}

impl Counts {
    /// Counts one case of so many commands.
    pub fn case(&self, commands: usize) {
        self.cases.set(self.cases.get() + 1);
        self.commands.set(self.commands.get() + commands as u64);
    }
}

/// Returns the number in an environment variable, or this one.
#[must_use]
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs a property on generated cases; the last line names the test, cases and commands.
///
/// # Panics
/// When the property fails: with the smallest case found, the seed, and the command to run again.
pub fn property<S: Strategy>(
    name: &str,
    cases: u32,
    strategy: &S,
    test: impl Fn(S::Value, &Counts) -> Result<(), TestCaseError>,
) {
    let percent = number("GRID_CASES", 100);
    let cases = u64::from(cases) * percent / 100;
    let cases = u32::try_from(cases.max(1)).unwrap_or(u32::MAX);
    let seed = number("GRID_SEED", 1);
    let mut bytes = [0_u8; 32];
    for (slot, byte) in bytes.iter_mut().zip(seed.to_le_bytes().into_iter().chain(name.bytes())) {
        *slot = byte;
    }
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 3_000,
        rng_algorithm: RngAlgorithm::ChaCha,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let counts = Counts::default();
    let outcome = runner.run(strategy, |case| test(case, &counts));
    let tell =
        format!("GRID_SEED={seed} GRID_CASES={percent} cargo nextest run -p gridtests {name}");
    if let Err(error) = outcome {
        panic!("{error}\nseed {seed}; run again with\n  {tell}");
    }
    record("property", name, counts.cases.get(), counts.commands.get());
}

/// Prints what a test did and appends it to the file that the last page of a test run sums up.
///
/// # Panics
/// When that file cannot be written.
#[expect(clippy::print_stdout, reason = "every test says what it ran")]
pub fn record(kind: &str, name: &str, cases: u64, commands: u64) {
    println!("{name}: {cases} cases, {commands} commands");
    let Some(path) = std::env::var_os("GRID_COUNTS") else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(PathBuf::from(path));
    let line = format!("{kind} {name} {cases} {commands}\n");
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    assert!(written.is_ok(), "the counts file can be written: {written:?}");
}
