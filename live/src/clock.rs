//! The clock: the one file of the daemon that reads it.
//!
//! Decisions use the boot-time clock, which counts suspended time and no wall-clock jump changes
//! (LIVE.md P11). Wall time is only shown.

use gridcore::units::Time;
use rustix::event::Timespec;
use rustix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the time since the machine was started.
#[must_use]
pub fn since_boot() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    Time::from_ms(seconds * 1_000 + nanos / 1_000_000)
}

/// Returns the microseconds since the machine was started, to measure with.
#[must_use]
pub fn micros() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000
}

/// Returns the seconds since 1970, for people.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock's module")]
pub fn wall_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Returns seconds since 1970 as a time of this machine's zone, for people.
#[must_use]
pub fn local_time(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    let zone = jiff::tz::TimeZone::system();
    at.map_or_else(String::new, |at| at.to_zoned(zone).strftime("%F %T").to_string())
}

/// Returns the seconds until the next time that the clock on the wall shows a time of the day.
///
/// # Errors
/// When the text is no time of the day.
pub fn seconds_until(text: &str) -> Result<i64, String> {
    let wrong = |_| format!("{text:?} is no time of the day: write 18:00");
    let wanted = jiff::civil::Time::strptime("%H:%M", text).map_err(wrong)?;
    let now = jiff::Zoned::now();
    let next = |days: i8| {
        let date = now.date().checked_add(jiff::Span::new().days(days))?;
        date.to_datetime(wanted).to_zoned(now.time_zone().clone())
    };
    let today = next(0).map_err(wrong)?;
    let at = if today > now { today } else { next(1).map_err(wrong)? };
    Ok(now.duration_until(&at).as_secs().max(1))
}

/// Returns a number that no other call on any machine returns, by all likelihood.
///
/// # Errors
/// When the kernel gives none.
pub fn unique() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Returns how long to wait from one time until another, at most a minute, as polling takes it.
#[must_use]
pub fn wait(now: Time, until: Time) -> Timespec {
    let ms = until.since(now).get().min(60_000);
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    let seconds = i64::try_from(seconds).unwrap_or(60);
    Timespec { tv_sec: seconds, tv_nsec: i64::try_from(ms * 1_000_000).unwrap_or(0) }
}
