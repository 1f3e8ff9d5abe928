//! Jobs as a plain table: the columns of `jobs.csv` that describe a job.
//!
//! `name,account,pool,priority,submit_s,run_s,limit_s,cpu_cores,memory_gb,gpus,gpu_share,
//! gpu_memory_gb`, and for what else a job may have `members,checkpoint_s,gpu_models,if_busy`. Only
//! `submit_s` and `run_s` are required. Seconds and cores have three decimals; **a GB of our
//! keys is a GiB (2^30 bytes)**; `gpu_share` is the part of each device, 0 to 1; `priority` is 0 to
//! 100 or `low`, `medium`, `high`, `urgent`. What is written is read back
//! as it was, down to the byte.

use super::columns::{Column, Table, optional, required};
use super::openb::models;
use super::read::{Lines, TraceError, shown};
use super::{Accounts, Imported};
use crate::work::{JobRecord, Workload};
use gridcore::bundle::{GPUS_MAX, GpuNeed, Needs};
use gridcore::units::{Bytes, MilliCores, PerMille, Priority, Span, Time};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

const COLUMNS: &[Column] = &[
    optional("name"),
    optional("account"),
    optional("pool"),
    optional("priority"),
    required("submit_s"),
    required("run_s"),
    optional("limit_s"),
    optional("cpu_cores"),
    optional("memory_gb"),
    optional("gpus"),
    optional("gpu_share"),
    optional("gpu_memory_gb"),
    optional("members"),
    optional("checkpoint_s"),
    optional("gpu_models"),
    optional("if_busy"),
];

const GIB: u64 = 1 << 30;

/// The account of rows that name none.
pub const DEFAULT_ACCOUNT: &str = "default";

/// Reads a table of jobs.
///
/// # Errors
/// When the file breaks the format, holds no job, or a name twice.
pub fn jobs(path: &Path) -> Result<Imported, TraceError> {
    jobs_from(Lines::open(path)?)
}

/// Reads a table of jobs from lines, as [`jobs`].
///
/// # Errors
/// As [`jobs`].
pub fn jobs_from(lines: Lines) -> Result<Imported, TraceError> {
    let mut table = Table::open(lines, COLUMNS)?;
    let mut imported = Imported::default();
    let mut accounts = Accounts::default();
    let mut names = BTreeSet::new();
    while table.advance()? {
        let name: Box<str> = table.text(0).into();
        if !name.is_empty() && !names.insert(name.clone()) {
            let what = format!("the name `{}` stands there twice", shown(&name));
            return Err(table.error(what, "names are unique: rename one job or leave it empty"));
        }
        let account = match table.text(1) {
            "" => DEFAULT_ACCOUNT,
            account => account,
        };
        imported.workload.jobs.push(JobRecord {
            name,
            account: accounts.index(account),
            pool: Some(table.text(2)).filter(|pool| !pool.is_empty()).map(Box::from),
            submit: Time::from_ms(table.amount(4, 1_000)?),
            run: Span::new(table.amount(5, 1_000)?),
            limit: table.some_amount(6, 1_000)?.map(Span::new),
            priority: priority(&table)?,
            needs: needs(&table)?,
            members: members(&table)?,
            gpu_models: models(table.text(14)),
            refuse_if_busy: refuse_if_busy(&table)?,
            checkpoint: table.some_amount(13, 1_000)?.map(Span::new),
            array: 0,
            extra: None,
        });
    }
    if imported.workload.jobs.is_empty() {
        return Err(table.empty("the table must hold at least one job"));
    }
    imported.workload.accounts = accounts.names;
    Ok(imported.finish())
}

/// Reads a priority as users write it: 0 to 100, or the name of a band.
#[must_use]
pub fn named_priority(text: &str) -> Option<Priority> {
    match text {
        "low" => Some(Priority::LOW),
        "medium" => Some(Priority::MEDIUM),
        "high" => Some(Priority::HIGH),
        "urgent" => Some(Priority::URGENT),
        number => number.parse().ok().and_then(Priority::new),
    }
}

fn priority(table: &Table) -> Result<Priority, TraceError> {
    let text = table.text(3);
    if text.is_empty() {
        return Ok(Priority::default());
    }
    named_priority(text).ok_or_else(|| {
        let what = format!("column priority is `{}`", shown(text));
        table.error(what, "give 0 to 100, or low, medium, high or urgent")
    })
}

fn needs(table: &Table) -> Result<Needs, TraceError> {
    let gpus_most = u64::try_from(GPUS_MAX).unwrap_or(u64::MAX);
    let count = u8::try_from(table.bounded(9, 1, gpus_most)?).unwrap_or(u8::MAX);
    let share = match table.text(10) {
        "" => 1_000,
        _ => u16::try_from(table.bounded(10, 1_000, 1_000)?).unwrap_or(1_000),
    };
    let memory = Bytes::new(table.some_amount(11, GIB)?.unwrap_or(0));
    let gpus = match (count, share) {
        (0, _) => GpuNeed::NONE,
        (_, 0) => return Err(table.error("column gpu_share is 0", "give more than 0, up to 1")),
        _ => GpuNeed { count, share: PerMille::new(share), memory },
    };
    Ok(Needs {
        cpu: MilliCores::new(table.some_amount(7, 1_000)?.unwrap_or(0)),
        memory: Bytes::new(table.some_amount(8, GIB)?.unwrap_or(0)),
        gpus,
        ..Needs::default()
    })
}

fn members(table: &Table) -> Result<u16, TraceError> {
    let members = match table.text(12) {
        "" => 1,
        _ => table.bounded(12, 1, u64::from(u16::MAX))?,
    };
    if members == 0 {
        return Err(table.error("column members is 0", "a job has at least 1 member"));
    }
    Ok(u16::try_from(members).unwrap_or(u16::MAX))
}

fn refuse_if_busy(table: &Table) -> Result<bool, TraceError> {
    match table.text(15) {
        "" | "wait" => Ok(false),
        "refuse" => Ok(true),
        other => {
            let what = format!("column if_busy is `{}`", shown(other));
            Err(table.error(what, "give wait or refuse"))
        }
    }
}

/// Writes the jobs as a table that [`jobs`] reads back.
///
/// Storage and custom resources have no column and are left out.
///
/// # Errors
/// When writing fails, an account index names no account, or a name holds a line break or blanks
/// at its ends, which the table cannot carry.
pub fn write_jobs(workload: &Workload, out: impl Write) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(COLUMNS.iter().map(|column| column.name))?;
    for job in &workload.jobs {
        let account = usize::try_from(job.account).ok().and_then(|i| workload.accounts.get(i));
        let account = account.ok_or_else(|| refused("an account index names no account"))?;
        let pool = job.pool.as_deref().unwrap_or("");
        let models = job.gpu_models.join("|");
        let names = [job.name.as_ref(), account.as_ref(), pool, models.as_str()];
        if names.iter().any(|name| name.trim() != *name || name.contains(['\n', '\r'])) {
            return Err(refused("a name holds a line break, or blanks at its ends"));
        }
        let gpus = &job.needs.gpus;
        let some_gpus = |text: String| if gpus.count > 0 { text } else { String::new() };
        writer.write_record([
            names[0],
            names[1],
            names[2],
            &priority_text(job.priority),
            &thousandths(job.submit.ms()),
            &thousandths(job.run.get()),
            &job.limit.map(|limit| thousandths(limit.get())).unwrap_or_default(),
            &thousandths(job.needs.cpu.get()),
            &gib(job.needs.memory.get()),
            &gpus.count.to_string(),
            &some_gpus(thousandths(u64::from(gpus.share.get()))),
            &some_gpus(gib(gpus.memory.get())),
            &job.members.to_string(),
            &job.checkpoint.map(|every| thousandths(every.get())).unwrap_or_default(),
            &models,
            if job.refuse_if_busy { "refuse" } else { "wait" },
        ])?;
    }
    writer.flush()
}

fn refused(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Writes the name of a band where the number is the one the name stands for.
fn priority_text(priority: Priority) -> String {
    let band = priority.band().name();
    let is_named = named_priority(band) == Some(priority);
    if is_named { band.to_owned() } else { priority.get().to_string() }
}

fn thousandths(number: u64) -> String {
    format!("{}.{:03}", number / 1_000, number % 1_000)
}

/// Writes bytes in GiB with ten decimals, which tell every byte from the next.
fn gib(bytes: u64) -> String {
    let (whole, rest) = (bytes / GIB, bytes % GIB);
    if rest == 0 {
        return format!("{whole}");
    }
    // rest < 2^30, so rest x 10^10 < 2^64 and the rounded quotient stays below 10^10.
    let digits = format!("{:010}", (rest * 10_000_000_000 + GIB / 2) / GIB);
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples::lines;

    #[test]
    fn only_times_are_required() {
        let read = jobs_from(lines("run_s,submit_s\n1.5,10\n2,0.0005\n")).unwrap();
        let [first, second] = &read.workload.jobs[..] else { panic!("two jobs") };
        assert_eq!((first.submit, first.run), (Time::from_ms(1), Span::seconds(2)));
        assert_eq!((second.run, second.members, second.limit), (Span::new(1_500), 1, None));
        assert_eq!(read.workload.accounts, [DEFAULT_ACCOUNT.into()]);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut random = crate::rng::stream(3, "table", 0);
        let mut workload = Workload { accounts: vec!["b, \"x\"".into(), "a".into()], jobs: vec![] };
        for number in 0..500_u32 {
            let small = |random: &mut crate::rng::Stream, n| u8::try_from(random.below(n)).unwrap();
            let gpus = GpuNeed {
                count: 1 + small(&mut random, 8),
                share: PerMille::new(1 + u16::from(small(&mut random, 200)) * 4),
                memory: Bytes::new(random.below(1 << 37)),
            };
            workload.jobs.push(JobRecord {
                name: if number % 3 == 0 { "".into() } else { format!("j{number}").into() },
                account: number % 2,
                pool: (number % 5 == 0).then(|| "big".into()),
                submit: Time::from_ms(u64::from(number) * 777),
                run: if number == 7 { Span::MAX } else { Span::new(random.below(1 << 40)) },
                limit: (number % 2 == 0).then(|| Span::new(random.below(1 << 40))),
                priority: Priority::new(small(&mut random, 101)).unwrap(),
                needs: Needs {
                    cpu: MilliCores::new(random.below(100_000)),
                    memory: Bytes::new(random.below(1 << 42)),
                    gpus: if number % 4 == 0 { GpuNeed::NONE } else { gpus },
                    ..Needs::default()
                },
                members: 1 + u16::from(small(&mut random, 9)),
                gpu_models: if number % 6 == 0 { vec!["T4".into(), "G2".into()] } else { vec![] },
                refuse_if_busy: number % 7 == 0,
                checkpoint: (number % 8 == 0).then(|| Span::new(random.below(1 << 20))),
                array: 0,
                extra: None,
            });
        }
        let mut text = Vec::new();
        write_jobs(&workload, &mut text).unwrap();
        let read = jobs_from(lines(core::str::from_utf8(&text).unwrap())).unwrap();
        assert_eq!(read.workload, workload);
    }

    #[test]
    fn a_name_that_the_table_cannot_carry_is_refused() {
        let job = JobRecord { name: "a\nb".into(), members: 1, ..JobRecord::default() };
        let workload = Workload { accounts: vec!["a".into()], jobs: vec![job] };
        assert!(write_jobs(&workload, Vec::new()).is_err());
        let orphan = Workload { accounts: vec![], jobs: vec![JobRecord::default()] };
        assert!(write_jobs(&orphan, Vec::new()).is_err());
    }

    #[test]
    fn rows_that_cannot_be_are_refused() {
        for (header, row, why) in [
            ("", "", "column `submit_s` is missing"),
            (",start_s", ",0", "unknown column `start_s`"),
            (",gpu_share,gpus", ",1.5,1", "column gpu_share is `1.5`: too large"),
            (",gpu_share,gpus", ",0,1", "column gpu_share is 0"),
            (",members", ",0", "column members is 0"),
            (",priority", ",101", "column priority is `101`"),
            (",if_busy", ",perhaps", "column if_busy is `perhaps`"),
        ] {
            let text = match header {
                "" => "run_s\n1\n".to_owned(),
                _ => format!("submit_s,run_s{header}\n0,1{row}\n"),
            };
            let error = jobs_from(lines(&text)).unwrap_err().to_string();
            assert!(error.contains(why), "{header}: {error}");
        }
    }
}
