//! Microsoft's Philly trace of 2017 in its short form:
//! `timestamp,duration,num_gpus,gpu_time,cluster`.
//!
//! `timestamp` is a date and time of the day without zone, `duration` seconds, `cluster` the
//! virtual cluster, which is the account. CPU and memory are not in it: they follow from the GPUs.

use super::columns::{Column, Table, optional, required};
use super::read::{Lines, TraceError, shown};
use super::{Accounts, Imported};
use crate::work::JobRecord;
use gridcore::bundle::{GpuNeed, Needs};
use gridcore::units::{Bytes, MilliCores, Span, Time};
use std::path::Path;

const COLUMNS: &[Column] = &[
    required("timestamp"),
    required("duration"),
    required("num_gpus"),
    optional("gpu_time"),
    required("cluster"),
];

/// What the trace does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The most GPUs on one node, at least 1: a job with more becomes a gang of such nodes.
    pub gpus_per_node: u8,
    /// Compute for each GPU.
    pub cpu_per_gpu: MilliCores,
    /// Main memory for each GPU.
    pub memory_per_gpu: Bytes,
}

impl Default for Shape {
    /// Eight GPUs on a node; 6 cores and 32 GiB for each.
    fn default() -> Self {
        Self { gpus_per_node: 8, cpu_per_gpu: MilliCores::whole(6), memory_per_gpu: Bytes::gib(32) }
    }
}

const NO_GPU: &str = "asks for no GPU";
const NO_RUN: &str = "duration is 0";
const GANG: &str = "more GPUs than a node has: a gang";
const ROUNDED: &str = "GPUs rounded up to whole members";

/// Reads the trace: submissions relative to the earliest, sorted, without limits.
///
/// # Errors
/// When the file breaks the format, holds no job, or a job needs more than 65,535 nodes.
pub fn jobs(path: &Path, shape: &Shape) -> Result<Imported, TraceError> {
    jobs_from(Lines::open(path)?, shape)
}

/// Reads the trace from lines, as [`jobs`].
///
/// # Errors
/// As [`jobs`].
pub fn jobs_from(lines: Lines, shape: &Shape) -> Result<Imported, TraceError> {
    let mut table = Table::open(lines, COLUMNS)?;
    let mut imported = Imported::knowing(&[NO_GPU, NO_RUN], &[GANG, ROUNDED]);
    let mut accounts = Accounts::default();
    let mut rows = 0_u64;
    while table.advance()? {
        rows += 1;
        let Some(submit) = civil_seconds(table.text(0)) else {
            let what = format!("timestamp is `{}`", shown(table.text(0)));
            return Err(table.error(what, "write it as 2017-10-09 07:01:55"));
        };
        let run = Span::new(table.amount(1, 1_000)?);
        let gpus = table.amount(2, 1)?;
        if gpus == 0 {
            imported.drop_row(NO_GPU);
            continue;
        }
        if run.is_zero() {
            imported.drop_row(NO_RUN);
            continue;
        }
        let (members, needs) = members(&table, &mut imported, gpus, shape)?;
        imported.workload.jobs.push(JobRecord {
            account: accounts.index(table.text(4)),
            submit: Time::from_ms(submit.saturating_mul(1_000)),
            run,
            needs,
            members,
            ..JobRecord::default()
        });
    }
    if rows == 0 {
        return Err(table.empty("a trace has one row per job"));
    }
    imported.workload.accounts = accounts.names;
    let jobs = &mut imported.workload.jobs;
    let first = jobs.iter().map(|job| job.submit).min().unwrap_or(Time::ZERO);
    for job in jobs.iter_mut() {
        job.submit = Time::ZERO.after(job.submit.since(first));
    }
    Ok(imported.finish())
}

/// Spreads a job's GPUs over as few nodes as hold them.
fn members(
    table: &Table,
    imported: &mut Imported,
    gpus: u64,
    shape: &Shape,
) -> Result<(u16, Needs), TraceError> {
    let per_node = u64::from(shape.gpus_per_node.max(1));
    let Ok(members) = u16::try_from(gpus.div_ceil(per_node)) else {
        let what = format!("{gpus} GPUs are more than 65535 nodes of {per_node}");
        return Err(table.error(what, "correct the row, or leave it out"));
    };
    if members > 1 {
        imported.map_row(GANG);
        if !gpus.is_multiple_of(per_node) {
            imported.map_row(ROUNDED);
        }
    }
    let each = if members > 1 { per_node } else { gpus };
    let needs = Needs {
        cpu: MilliCores::new(shape.cpu_per_gpu.get().saturating_mul(each)),
        memory: Bytes::new(shape.memory_per_gpu.get().saturating_mul(each)),
        gpus: GpuNeed::whole(u8::try_from(each).unwrap_or(u8::MAX)),
        ..Needs::default()
    };
    Ok((members, needs))
}

/// Returns the seconds from the first of March of the year 0 to `YYYY-MM-DD hh:mm:ss` in the
/// Gregorian calendar, or `None` when the text is no such time. A `T` may stand for the blank.
fn civil_seconds(text: &str) -> Option<u64> {
    let (date, clock) = text.split_once([' ', 'T'])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    // The second 60 is a leap second: it counts as the next one.
    if year == 0 || day == 0 || day > days_in_month || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Years begin in March, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    // Months from March have 31 30 31 30 31, twice, then 31 and the rest: 153 days in five.
    let days = year * 365 + leap_days + (153 * month + 2) / 5 + day - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Reads three numbers of the given numbers of digits.
fn numbers(text: &str, between: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut out = [0; 3];
    let mut parts = text.split(between);
    for (number, digits) in out.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples::{lines, sample, shared};

    #[test]
    fn dates_count_seconds_over_months_and_leap_days() {
        let between = |from, to| civil_seconds(to).unwrap() - civil_seconds(from).unwrap();
        for (from, to, days) in [
            ("2017-12-31 00:00:00", "2018-01-01 00:00:00", 1),
            ("2016-02-28 00:00:00", "2016-03-01 00:00:00", 2),
            ("1900-02-28 00:00:00", "1900-03-01 00:00:00", 1),
            ("2000-02-28 00:00:00", "2000-03-01 00:00:00", 2),
            ("1970-01-01 00:00:00", "2017-09-04 00:00:00", 17_413),
        ] {
            assert_eq!(between(from, to), days * 86_400, "{from} to {to}");
        }
        assert_eq!(between("2017-09-04 10:30:41", "2017-09-04T11:00:00"), 1_759);
        for text in ["2017-02-29 00:00:00", "2017-13-01 00:00:00", "2017-1-01 00:00:00", "x y", ""]
        {
            assert_eq!(civil_seconds(text), None, "{text}");
        }
    }

    #[test]
    fn jobs_with_more_gpus_than_a_node_become_gangs() {
        let text = "timestamp,duration,num_gpus,gpu_time,cluster\n\
                    2017-10-02 00:00:10,66.5,12,1,b\n2017-10-02 00:00:00,5.0,8,1,a\n\
                    2017-10-02 00:00:00,5.0,0,1,a\n2017-10-02 00:00:00,0.0,1,1,a\n\n";
        let read = jobs_from(lines(text), &Shape::default()).unwrap();
        assert_eq!(read.dropped, [(NO_GPU, 1), (NO_RUN, 1)]);
        assert_eq!(read.mapped, [(GANG, 1), (ROUNDED, 1)]);
        let [first, gang] = &read.workload.jobs[..] else { panic!("two jobs") };
        assert_eq!((first.members, first.needs.gpus.count), (1, 8));
        assert_eq!((gang.members, gang.needs.gpus.count), (2, 8));
        assert_eq!((gang.submit, gang.run), (Time::from_ms(10_000), Span::new(66_500)));
        assert_eq!(gang.needs.cpu, MilliCores::whole(48));
    }

    #[test]
    fn the_sample_and_the_published_trace_are_read() {
        let read = jobs(&sample("philly.csv"), &Shape::default()).unwrap();
        assert_eq!(read.kept, 200);
        let Some(path) = shared("philly/philly.csv.gz") else { return };
        let read = jobs(&path, &Shape::default()).unwrap();
        println!("philly: kept {}, mapped {:?}", read.kept, read.mapped);
        assert_eq!((read.kept, read.workload.accounts.len()), (82_247, 15));
        // From 2017-09-04 10:30:41 to 2017-12-22 08:02:11.
        let last = read.workload.jobs.last().unwrap().submit;
        assert_eq!(last, Time::from_ms(9_408_690_000));
        assert_eq!(read.mapped[0], (GANG, 199 + 67 + 7 + 7 + 6 + 3));
    }
}
