//! Queues with known answers (TRUTHS.md section 3), run through the scenario schema and the core,
//! and the judgement of their results by batch means.
#![expect(clippy::cast_precision_loss, reason = "an estimate needs no more than 53 bits")]

use gridcore::units::Band;
use gridsim::record::{JobRow, JobState};
use gridsim::run::{Keep, simulate};
use gridsim::scenario::{Loaded, parse};
use std::path::PathBuf;

/// Batches of one estimate.
const BATCHES: usize = 32;
/// The 99.95 % quantile of Student's t with 31 degrees of freedom (any table).
const STUDENT: f64 = 3.633;
/// Mean service in seconds: the unit of the closed forms.
const SERVICE: f64 = 100.0;

/// What is measured of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measure {
    /// Its wait.
    Wait,
    /// The time from its submission to its end.
    Response,
    /// Whether it is refused.
    Blocked,
}

/// One queue.
pub(crate) struct Case {
    /// Its name.
    pub(crate) name: &'static str,
    servers: u32,
    rate_per_hour: &'static str,
    classes: String,
    preemption: &'static str,
    /// What is known of it: the measure, of one class or of all, and the closed form with mean
    /// service 1.
    known: Vec<(Measure, Option<Band>, f64)>,
}

/// One estimate against the closed form, in units of the mean service.
pub(crate) struct Verdict {
    /// What is measured of whom.
    pub(crate) what: String,
    /// The simulated mean.
    pub(crate) mean: f64,
    /// Half the 99.9 % confidence interval.
    pub(crate) half: f64,
    /// The closed form.
    pub(crate) known: f64,
}

impl Verdict {
    /// Returns whether the closed form lies inside the interval.
    pub(crate) fn holds(&self) -> bool {
        (self.mean - self.known).abs() <= self.half
    }
}

/// One class of jobs on one core each.
fn class(duration: &str, more: &str) -> String {
    format!("    - {{ needs: {{ cpu_cores: 1 }}, duration: {duration}{more} }}\n")
}

const EXPONENTIAL: &str = "{ exponential: { mean: 100s } }";
const CONSTANT: &str = "{ constant: { span: 100s } }";
const NO_PREEMPTION: &str = "{ enabled: false }";
/// Preemption at once, without notice, claim or limit.
const RESUME: &str = "{ enabled: true, min_runtime: 0, grace_seconds: 0, hold_seconds: 20, \
                      max_per_hour: null, boost_after: null, requeue: true }";

/// All queues of TRUTHS.md section 3.
pub(crate) fn cases() -> Vec<Case> {
    let plain = |name, servers, rate_per_hour, wait| Case {
        name,
        servers,
        rate_per_hour,
        classes: class(EXPONENTIAL, ""),
        preemption: NO_PREEMPTION,
        known: vec![(Measure::Wait, None, wait)],
    };
    let even =
        |name, rate, wait| Case { classes: class(CONSTANT, ""), ..plain(name, 1, rate, wait) };
    let lossy = |name, servers, rate, share| Case {
        classes: class(EXPONENTIAL, ", if_busy: refuse"),
        known: vec![(Measure::Blocked, None, share)],
        ..plain(name, servers, rate, share)
    };
    let two = |name, preemption, measure, high, low| Case {
        classes: class(EXPONENTIAL, ", weight: 3, priority: high, checkpoint: 0")
            + &class(EXPONENTIAL, ", weight: 5, priority: low, checkpoint: 0"),
        preemption,
        known: vec![(measure, Some(Band::High), high), (measure, Some(Band::Low), low)],
        ..plain(name, 1, "28.8", high)
    };
    vec![
        plain("M/M/1 .5", 1, "18", 1.0),
        plain("M/M/1 .9", 1, "32.4", 9.0),
        plain("M/M/2 .5", 2, "36", 0.333_333_333),
        plain("M/M/4 .8", 4, "115.2", 0.745_540_590),
        plain("M/M/8 .9", 8, "259.2", 0.876_916_238),
        plain("M/M/100 .95", 100, "3420", 0.101_291_371),
        lossy("Erlang B 10, 8", 10, "288", 0.121_661_064),
        lossy("Erlang B 100, 100", 100, "3600", 0.075_700_453),
        even("M/D/1 .5", "18", 0.5),
        even("M/D/1 .8", "28.8", 2.0),
        even("M/D/1 .9", "32.4", 4.5),
        two("preemptive resume", RESUME, Measure::Response, 1.428_571, 7.142_857),
        two("non-preemptive", NO_PREEMPTION, Measure::Wait, 1.142_857, 5.714_286),
    ]
}

impl Case {
    /// Writes the scenario.
    pub(crate) fn yaml(&self, jobs: u64) -> String {
        format!(
            "name: queue\nrecord_seconds: 100000000\natp: {{ enabled: false }}\n\
             resource_sharing: {{ owner: {{ kill_seconds: 0 }} }}\n\
             execution:\n  scheduling: {{ strategy: first_fit, order: fifo, backfill: strict, \
             ageing: null, starvation_after: null }}\n  \
             preemption: {}\nnodes: [{{ name: server, cores: {}, owner_use: none }}]\njobs:\n  \
             generator:\n    arrivals: {{ poisson: {{ rate_per_hour: {} }} }}\n    \
             jobs: {jobs}\n    classes:\n{}",
            self.preemption, self.servers, self.rate_per_hour, self.classes
        )
    }

    /// Runs it and judges what is known.
    pub(crate) fn judge(&self, seed: u64, jobs: u64) -> Vec<Verdict> {
        let path = PathBuf::from("queue.yaml");
        let scenario = parse(&path, &self.yaml(jobs), &[]).expect("the scenario is well-formed");
        let run = simulate(&Loaded { scenario, path }, seed, &Keep::default(), |_| true);
        let run = run.unwrap_or_else(|why| panic!("{}: {why}", self.name)).run;
        assert!(run.record.complete, "{}: the run was cut", self.name);
        let rows = &run.record.jobs;
        self.known.iter().map(|known| estimate(rows, *known)).collect()
    }
}

/// Estimates one mean by batch means: the first tenth is dropped.
fn estimate(rows: &[JobRow], (measure, band, known): (Measure, Option<Band>, f64)) -> Verdict {
    let chosen = rows.iter().filter(|row| band.is_none_or(|band| row.band() == band));
    let values: Vec<f64> = chosen.map(|row| value(row, measure)).collect();
    let kept = values.get(values.len() / 10..).unwrap_or_default();
    let size = kept.len() / BATCHES;
    assert!(size > 100, "too few jobs: {}", rows.len());
    let means: Vec<f64> = kept
        .chunks_exact(size)
        .take(BATCHES)
        .map(|b| b.iter().sum::<f64>() / size as f64)
        .collect();
    let count = means.len() as f64;
    let mean = means.iter().sum::<f64>() / count;
    let squares: f64 = means.iter().map(|m| (m - mean) * (m - mean)).sum();
    let half = STUDENT * (squares / (count - 1.0) / count).sqrt();
    let of = band.map_or("all", Band::name);
    Verdict { what: format!("{measure:?} {of}"), mean, half, known }
}

fn value(row: &JobRow, measure: Measure) -> f64 {
    let seconds = |ms: u64| ms as f64 / 1_000.0 / SERVICE;
    match measure {
        Measure::Wait => seconds(row.wait.get()),
        Measure::Response => {
            let end = row.end.expect("every job ends in a run without a horizon");
            seconds(end.since(row.submit).get())
        }
        Measure::Blocked => f64::from(u8::from(row.state == JobState::Refused)),
    }
}
