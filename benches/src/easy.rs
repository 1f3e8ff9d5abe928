//! EASY backfilling on one machine, through the core and as a bare loop: what the rest costs.
//!
//! The bare loop knows nothing but processors and limits: no accounts, leases, stations or rows. It
//! must start every job when the core does, or it measures something else.

use crate::measure::{median, nanos, say, tenths};
use gridsim::record::JobRow;
use gridsim::run::{Keep, Outcome, simulate};
use gridsim::scenario::load;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;
use std::path::Path;
use std::process::ExitCode;

/// Prints one row: a log with EASY, by default the small one of the repository, on a machine of so
/// many processors, by default 100.
pub(crate) fn run(words: &[&str]) -> ExitCode {
    match measured(words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}

/// Runs the scenario once.
fn through_core(sets: &[String]) -> Result<Outcome, String> {
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/easy-kth.yaml");
    let loaded = load(&scenario, sets).map_err(|error| error.to_string())?;
    simulate(&loaded, 1, &Keep::default(), |_| true).map_err(|error| error.to_string())
}

fn measured(words: &[&str]) -> Result<(), String> {
    let mut sets = Vec::new();
    if let Some(log) = words.first() {
        let path = std::path::absolute(log).map_err(|error| format!("{log}: {error}"))?;
        sets.push(format!("jobs.trace.files.jobs={}", path.display()));
    }
    sets.extend(words.get(1).map(|processors| format!("nodes.0.cores={processors}")));
    let outcome = through_core(&sets)?;
    let record = &outcome.run.record;
    let processors = record.nodes.first().map_or(0, |node| node.capacity.cpu.get() / 1_000);
    let jobs: Vec<Job> = record.jobs.iter().map(Job::of).collect();
    let starts = Bare::new(&jobs, processors).run();
    let by_core = record.jobs.iter().map(|job| job.start.map_or(u64::MAX, |at| at.ms()));
    if !by_core.eq(starts) {
        return Err("the bare loop starts a job at another time than the core".to_owned());
    }
    let bare = median(|| nanos(|| drop(black_box(Bare::new(&jobs, processors).run()))));
    let mut walls = Vec::new();
    for _ in 0..5 {
        walls.push(through_core(&sets)?.wall.as_nanos());
    }
    let mut walls = walls.into_iter();
    let core = median(|| walls.next().unwrap_or(1));
    say("easy: one machine with EASY, every job started at the same time by both; ms");
    say("processors      jobs  through the core  bare loop  ratio");
    say(&format!(
        "{processors:>10} {:>9} {:>17} {:>10} {:>6}",
        jobs.len(),
        tenths(core, 1_000_000),
        tenths(bare, 1_000_000),
        tenths(core, bare)
    ));
    Ok(())
}

/// A rigid job; times are milliseconds.
#[derive(Clone, Copy)]
struct Job {
    submit: u64,
    run: u64,
    limit: u64,
    processors: u64,
}

impl Job {
    fn of(row: &JobRow) -> Self {
        let limit = row.limit.map_or(u64::MAX / 2, |limit| limit.get());
        let run = row.work.get().min(limit);
        Self { submit: row.submit.ms(), run, limit, processors: row.needs.cpu.get() / 1_000 }
    }
}

/// The machine of the bare loop.
struct Bare<'a> {
    jobs: &'a [Job],
    free: u64,
    /// Jobs in the order of submission.
    queue: Vec<usize>,
    /// What runs and has not reached its limit, by when it does: the limit's time and the job.
    running: Vec<(u64, usize)>,
    /// What ends, by when and in the order in which it started.
    ends: BinaryHeap<Reverse<(u64, usize, usize)>>,
    starts: Vec<u64>,
    started: usize,
}

impl<'a> Bare<'a> {
    fn new(jobs: &'a [Job], processors: u64) -> Self {
        Self {
            jobs,
            free: processors,
            queue: Vec::new(),
            running: Vec::new(),
            ends: BinaryHeap::new(),
            starts: vec![u64::MAX; jobs.len()],
            started: 0,
        }
    }

    /// Runs all jobs; returns when each started.
    fn run(mut self) -> Vec<u64> {
        let mut next = 0;
        loop {
            let submit = self.jobs.get(next).map(|job| job.submit);
            let end = self.ends.peek().map(|Reverse((at, ..))| *at);
            // At one instant submissions come first.
            match (submit, end) {
                (Some(now), end) if end.is_none_or(|end| now <= end) => {
                    self.free_overdue(now);
                    self.queue.push(next);
                    if self.jobs.get(next).is_some_and(|job| job.processors <= self.free) {
                        self.pass(now);
                    }
                    next += 1;
                }
                (_, Some(now)) => {
                    self.free_overdue(now);
                    let Some(Reverse((_, _, job))) = self.ends.pop() else { break };
                    if let Some(place) = self.running.iter().position(|(_, other)| *other == job) {
                        self.running.remove(place);
                        self.free += self.jobs.get(job).map_or(0, |job| job.processors);
                    }
                    self.pass(now);
                }
                (_, None) => break,
            }
        }
        self.starts
    }

    /// Gives back what has reached its limit, although its end comes only now.
    fn free_overdue(&mut self, now: u64) {
        let over = self.running.iter().take_while(|(at, _)| *at <= now).count();
        for (_, job) in self.running.drain(..over) {
            self.free += self.jobs.get(job).map_or(0, |job| job.processors);
        }
    }

    fn start(&mut self, id: usize, now: u64) {
        let Some(job) = self.jobs.get(id).copied() else { return };
        self.free -= job.processors;
        let until = now + job.limit;
        let place = self.running.partition_point(|(at, _)| *at <= until);
        self.running.insert(place, (until, id));
        self.ends.push(Reverse((now + job.run, self.started, id)));
        self.started += 1;
        if let Some(start) = self.starts.get_mut(id) {
            *start = now;
        }
    }

    /// Starts the first jobs as long as they fit, and behind the first that does not those that do
    /// not delay it.
    fn pass(&mut self, now: u64) {
        let jobs = self.jobs;
        let need = |id: usize| jobs.get(id).map_or(0, |job| job.processors);
        let mut fit = 0;
        while let Some(id) = self.queue.get(fit).copied().filter(|id| need(*id) <= self.free) {
            self.start(id, now);
            fit += 1;
        }
        self.queue.drain(..fit);
        let Some(first) = self.queue.first().copied().filter(|_| self.free > 0) else { return };
        let (mut shadow, mut left) = (u64::MAX, self.free);
        for (at, id) in &self.running {
            if left >= need(first) && *at > shadow {
                break;
            }
            left += need(*id);
            if left >= need(first) {
                shadow = *at;
            }
        }
        let mut extra = left.saturating_sub(need(first));
        let mut at = 1;
        while let Some(id) = self.queue.get(at).copied().filter(|_| self.free > 0) {
            let in_time = jobs.get(id).is_some_and(|job| now + job.limit <= shadow);
            if need(id) <= self.free && (in_time || need(id) <= extra) {
                if !in_time {
                    extra -= need(id);
                }
                self.start(id, now);
                self.queue.remove(at);
            } else {
                at += 1;
            }
        }
    }
}
