//! The Standard Workload Format of the Parallel Workloads Archive: 18 fields per job.
//!
//! Cleaned as in the published EASY figures (TRUTHS.md section 1). Used fields: 1 job number,
//! 2 submit, 4 run, 5 processors allocated, 8 processors requested, 9 time requested, 12 user;
//! times in seconds, -1 where unknown. Lines that start with `;` are comments.

use super::read::{Lines, TraceError, shown};
use super::{Accounts, Imported};
use crate::work::JobRecord;
use gridcore::bundle::Needs;
use gridcore::units::{MilliCores, Span, Time};
use std::collections::BTreeSet;
use std::path::Path;

const TOO_MANY: &str = "more processors than the machine has";
const NO_PROCESSORS: &str = "no processor count";
const NO_RUN: &str = "run time is not positive";
const NO_LIMIT: &str = "requested time is not positive";
const EARLY: &str = "submitted before the log begins";
const CUT: &str = "run time cut to the requested time";

/// How many fields a row has.
const FIELDS: usize = 18;

/// Reads a log of a machine with `processors` processors.
///
/// A kept row becomes a job of the account `uUSER` that needs its processors as whole cores,
/// limited to its requested time. Its run time is at most that.
///
/// # Errors
/// When the file breaks the format, or a job number stands there twice.
pub fn jobs(path: &Path, processors: u32) -> Result<Imported, TraceError> {
    jobs_from(Lines::open(path)?, processors)
}

/// Reads a log from lines, as [`jobs`].
///
/// # Errors
/// As [`jobs`].
pub fn jobs_from(mut lines: Lines, processors: u32) -> Result<Imported, TraceError> {
    let reasons = [TOO_MANY, NO_PROCESSORS, NO_RUN, NO_LIMIT, EARLY];
    let mut imported = Imported::knowing(&reasons, &[CUT]);
    let mut accounts = Accounts::default();
    let mut numbers = BTreeSet::new();
    let mut rows = 0_u64;
    while lines.advance()? {
        if lines.text().trim_start().starts_with(';') {
            continue;
        }
        rows += 1;
        let row = Row::read(&lines)?;
        if !numbers.insert(row.number) {
            let what = format!("job number {} stands there twice", row.number);
            return Err(lines.error(what, "renumber one of the rows"));
        }
        match row.clean(processors) {
            Err(reason) => imported.drop_row(reason),
            Ok(cores) => {
                if row.run > row.requested {
                    imported.map_row(CUT);
                }
                let account = accounts.index(&format!("u{}", row.user));
                imported.workload.jobs.push(row.job(cores, account));
            }
        }
    }
    if rows == 0 {
        return Err(lines.empty("a log has one line of 18 fields per job"));
    }
    imported.workload.accounts = accounts.names;
    Ok(imported.finish())
}

/// The fields that matter; times in milliseconds.
struct Row {
    number: i64,
    submit: i64,
    run: i64,
    allocated: i64,
    wanted: i64,
    requested: i64,
    user: i64,
}

impl Row {
    fn read(lines: &Lines) -> Result<Self, TraceError> {
        let mut fields = [""; FIELDS];
        let mut count = 0;
        for text in lines.text().split_ascii_whitespace() {
            if let Some(field) = fields.get_mut(count) {
                *field = text;
            }
            count += 1;
        }
        if count != FIELDS {
            let what = format!("{count} fields instead of {FIELDS}");
            return Err(lines.error(what, "check that this is a log in SWF"));
        }
        let [number, submit, _, run, allocated, _, _, wanted, requested, _, _, user, ..] = fields;
        let whole = |name, text: &str| {
            if text.contains('.') {
                let what = format!("field {name} is `{}`: not a whole number", shown(text));
                return Err(lines.error(what, "correct the row, or leave it out"));
            }
            lines.signed(name, text, 0)
        };
        Ok(Self {
            number: whole("1 (job number)", number)?,
            submit: lines.signed("2 (submit)", submit, 3)?,
            run: lines.signed("4 (run time)", run, 3)?,
            allocated: whole("5 (processors allocated)", allocated)?,
            wanted: whole("8 (processors requested)", wanted)?,
            requested: lines.signed("9 (time requested)", requested, 3)?,
            user: whole("12 (user)", user)?,
        })
    }

    /// Returns the processors, or why the row is dropped.
    fn clean(&self, processors: u32) -> Result<u32, &'static str> {
        let most = i64::from(processors);
        if self.allocated > most || self.wanted > most {
            return Err(TOO_MANY);
        }
        let cores = if self.wanted > 0 { self.wanted } else { self.allocated };
        match u32::try_from(cores) {
            Ok(0) | Err(_) => Err(NO_PROCESSORS),
            Ok(_) if self.run <= 0 => Err(NO_RUN),
            Ok(_) if self.requested <= 0 => Err(NO_LIMIT),
            Ok(_) if self.submit < 0 => Err(EARLY),
            Ok(cores) => Ok(cores),
        }
    }

    fn job(&self, cores: u32, account: u32) -> JobRecord {
        let requested = Span::new(self.requested.unsigned_abs());
        JobRecord {
            name: self.number.to_string().into(),
            account,
            submit: Time::from_ms(self.submit.unsigned_abs()),
            run: Span::new(self.run.unsigned_abs()).min(requested),
            limit: Some(requested),
            needs: Needs { cpu: MilliCores::whole(cores), ..Needs::default() },
            members: 1,
            ..JobRecord::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples::{lines, sample, shared};

    #[test]
    fn rows_are_cleaned_by_the_published_rules() {
        // Field 12 is the user.
        let row = |number, submit, run, allocated, wanted, requested| {
            format!(
                "{number} {submit} -1 {run} {allocated} -1 -1 {wanted} {requested} \
                 -1 1 7 -1 -1 -1 -1 -1 -1\n"
            )
        };
        let mut log = "; MaxProcs: 8\n".to_owned();
        log.push_str(&row(1, 50, 100, 4, -1, 60));
        log.push_str(&row(2, 0, 10, 4, 2, 60));
        log.push_str(&row(3, 0, 10, 9, 2, 60));
        log.push_str(&row(4, 0, 10, 2, 9, 60));
        log.push_str(&row(5, 0, 10, -1, 0, 60));
        log.push_str(&row(6, 0, 0, 1, 1, 60));
        log.push_str(&row(7, 0, 10, 1, 1, -1));
        log.push_str(&row(8, -1, 10, 1, 1, 60));
        let read = jobs_from(lines(&log), 8).unwrap();
        assert_eq!((read.kept, read.mapped[0].1), (2, 1));
        assert_eq!(read.dropped.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [2, 1, 1, 1, 1]);
        let [first, second] = &read.workload.jobs[..] else { panic!("two jobs") };
        assert_eq!((first.name.as_ref(), first.needs.cpu), ("2", MilliCores::whole(2)));
        assert_eq!((second.run, second.limit), (Span::seconds(60), Some(Span::seconds(60))));
        assert_eq!(read.workload.accounts, ["u7".into()]);
        log.push_str(&row(2, 0, 10, 4, 2, 60));
        let why = jobs_from(lines(&log), 8).unwrap_err().to_string();
        assert!(why.contains(":10: job number 2 stands there twice"), "{why}");
        assert!(jobs_from(lines("1 2 3\n"), 8).unwrap_err().what.contains("3 fields"));
        assert!(jobs_from(lines("; nothing\n"), 8).is_err());
    }

    #[test]
    fn the_sample_log_is_read() {
        let read = jobs(&sample("small.swf"), 64).unwrap();
        assert_eq!(read.kept + read.dropped.iter().map(|(_, n)| n).sum::<u64>(), 200);
        assert!(read.kept >= 190);
    }

    #[test]
    fn the_archive_logs_keep_the_published_numbers_of_jobs() {
        for (file, processors, kept) in [
            ("KTH-SP2-1996-2", 100, Some(28_481)),
            ("KTH-SP2-1996-2.1-cln", 100, Some(27_992)),
            ("LLNL-Thunder-2007-1.1-cln", 4_008, None),
            ("METACENTRUM-2009-2", 806, None),
            ("RICC-2010-2", 8_192, None),
        ] {
            let Some(path) = shared(&format!("swf/{file}.swf.gz")) else { return };
            let read = jobs(&path, processors).unwrap();
            println!("{file}: kept {}, dropped {:?}", read.kept, read.dropped);
            assert!(kept.is_none_or(|jobs| jobs == read.kept), "{file}: {}", read.kept);
            assert!(read.workload.jobs.is_sorted_by_key(|job| job.submit));
        }
    }
}
