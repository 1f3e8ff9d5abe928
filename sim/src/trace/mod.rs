//! Readers of traces: each turns one kind of file into the plain records of [`crate::work`].
//!
//! A reader keeps, maps or drops; it says how much it dropped and why, and never guesses. A file
//! that breaks its format is refused with its name, line and what to do next; no file makes a
//! reader panic, and none is held in memory whole. Numbers never pass through a float.

pub mod columns;
pub mod faults;
mod long;
pub mod openb;
pub mod philly;
pub mod read;
pub mod series;
pub mod swf;
pub mod table;

#[cfg(test)]
pub(crate) mod samples;

use crate::work::Workload;

/// A workload as read, and what became of the rows of its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The jobs and accounts.
    pub workload: Workload,
    /// How many rows became jobs.
    pub kept: u64,
    /// How many rows were dropped, by reason, in the order in which the reasons are tried.
    pub dropped: Vec<(&'static str, u64)>,
    /// How many rows were changed to fit our words, by what was changed.
    pub mapped: Vec<(&'static str, u64)>,
}

impl Imported {
    /// Starts with the reasons and changes that a reader knows, all at zero.
    fn knowing(dropped: &[&'static str], mapped: &[&'static str]) -> Self {
        let zeros = |names: &[&'static str]| names.iter().map(|name| (*name, 0)).collect();
        Self { dropped: zeros(dropped), mapped: zeros(mapped), ..Self::default() }
    }

    /// Counts a dropped row under a known reason.
    fn drop_row(&mut self, reason: &'static str) {
        count(&mut self.dropped, reason);
    }

    /// Counts a changed row under a known change.
    fn map_row(&mut self, change: &'static str) {
        count(&mut self.mapped, change);
    }

    /// Sorts the jobs by submission (ties stay in the order of the file) and counts them.
    fn finish(mut self) -> Self {
        self.workload.jobs.sort_by_key(|job| job.submit);
        self.kept = u64::try_from(self.workload.jobs.len()).unwrap_or(u64::MAX);
        self
    }
}

fn count(counts: &mut Vec<(&'static str, u64)>, name: &'static str) {
    match counts.iter_mut().find(|(known, _)| *known == name) {
        Some((_, rows)) => *rows += 1,
        None => counts.push((name, 1)),
    }
}

/// Names of accounts in the order of their first job, with the index of each.
#[derive(Debug, Default)]
struct Accounts {
    names: Vec<Box<str>>,
    index: std::collections::BTreeMap<Box<str>, u32>,
}

impl Accounts {
    /// Returns the index of `name`, which is added when it is new.
    fn index(&mut self, name: &str) -> u32 {
        if let Some(index) = self.index.get(name) {
            return *index;
        }
        // Rows are bounded far below 2^32 (`read::LINES_MAX`).
        let index = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.into());
        self.index.insert(name.into(), index);
        index
    }
}
