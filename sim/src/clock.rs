//! The only place that reads a clock: how long a run took, for `speed.json` and progress bars.
//! Nothing that is simulated, decided or compared ever depends on it.

use std::time::{Duration, Instant};

/// A stopwatch.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts one.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that measures wall time")]
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Returns the time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// What the operating system says this process used: CPU seconds in milliseconds and peak memory in
/// KiB; nothing where `/proc` does not exist.
#[must_use]
pub fn process_usage() -> (Option<u64>, Option<u64>) {
    let stat = std::fs::read_to_string("/proc/self/stat").ok();
    // After the command's closing parenthesis: field 14 and 15 of proc(5) are ticks of 10 ms.
    let cpu = stat.as_ref().and_then(|text| {
        let rest = text.rsplit_once(')')?.1;
        let mut fields = rest.split_whitespace().skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some((user + system) * 10)
    });
    let status = std::fs::read_to_string("/proc/self/status").ok();
    let peak = status.and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    });
    (cpu, peak)
}
