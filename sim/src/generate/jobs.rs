//! Jobs from classes: who submits, what is needed, how long it runs.

use super::GenerateError;
use super::arrivals::{Arrivals, Times};
use super::lasting::{Lasting, Sampler, Weights};
use crate::decimal::{Decimal, Seconds};
use crate::rng::{Stream, stream};
use crate::trace::table::{DEFAULT_ACCOUNT, named_priority};
use crate::work::{JobExtra, JobRecord, Workload};
use core::fmt;
use gridcore::bundle::{GPUS_MAX, GpuNeed, Needs};
use gridcore::units::{BasisPoints, Bytes, MilliCores, PerMille, Ppm, Priority, Span, Time};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// The most jobs of one generator.
pub const JOBS_MAX: u64 = 20_000_000;

/// A workload to generate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generator {
    /// When jobs arrive.
    pub arrivals: Arrivals,
    /// How many jobs at most; without it, all that arrive within the horizon.
    #[serde(default)]
    pub jobs: Option<u64>,
    /// The kinds of jobs, at least one.
    pub classes: Vec<Class>,
}

/// One kind of job.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// The first part of the jobs' names, `NAME-1` and on; empty leaves the jobs without names.
    #[serde(default)]
    pub name: Box<str>,
    /// How often it is drawn against the other classes.
    #[serde(default = "one")]
    pub weight: Decimal,
    /// Who pays; empty is the account `default`.
    #[serde(default)]
    pub accounts: Vec<Payer>,
    /// The pool; `None` is the first.
    #[serde(default)]
    pub pool: Option<Box<str>>,
    /// How much it matters: 0 to 100, or `low`, `medium`, `high`, `urgent`.
    #[serde(default)]
    pub priority: NamedPriority,
    /// What each member needs.
    #[serde(default)]
    pub needs: ClassNeeds,
    /// How long a job runs.
    pub duration: Lasting,
    /// The declared limit as a multiple of the run time, 0 to 1,000, rounded up to a millisecond;
    /// without it there is no limit.
    #[serde(default)]
    pub limit_factor: Option<Decimal>,
    /// How many members start together, at least 1.
    #[serde(default = "single")]
    pub members: u16,
    /// From one checkpoint to the next; without it eviction loses all work, with 0 none.
    #[serde(default)]
    pub checkpoint: Option<Seconds>,
    /// Allowed GPU models; empty allows all.
    #[serde(default)]
    pub gpu_models: Vec<Box<str>>,
    /// What happens when it cannot start at once.
    #[serde(default)]
    pub if_busy: IfBusy,
    /// What a job uses of each GPU while it works, 0 to 100 %; without it that is not known.
    #[serde(default)]
    pub gpu_use: Option<Decimal>,
    /// The highest price that a job pays for what it needs, as a multiple of the rates.
    #[serde(default)]
    pub max_price: Option<Decimal>,
}

fn one() -> Decimal {
    Decimal::whole(1)
}

const fn single() -> u16 {
    1
}

/// An account and how often it is drawn against the others of its class.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payer {
    /// The account's name.
    pub name: Box<str>,
    /// Its weight.
    #[serde(default = "one")]
    pub weight: Decimal,
}

/// What a job does when it cannot start at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfBusy {
    /// It waits.
    #[default]
    Wait,
    /// It is refused.
    Refuse,
}

/// Needs as users write them. A GB is a GiB (2^30 bytes).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClassNeeds {
    /// Compute in cores, three decimals.
    pub cpu_cores: Decimal,
    /// Main memory.
    pub memory_gb: Decimal,
    /// Space for the work directory.
    pub storage_gb: Decimal,
    /// Devices, 0 to 64.
    pub gpus: u8,
    /// The part of each device, above 0 up to 1.
    pub gpu_share: Decimal,
    /// Video memory on each device.
    pub gpu_memory_gb: Decimal,
}

impl Default for ClassNeeds {
    fn default() -> Self {
        let nothing = Decimal::default();
        Self {
            cpu_cores: nothing,
            memory_gb: nothing,
            storage_gb: nothing,
            gpus: 0,
            gpu_share: one(),
            gpu_memory_gb: nothing,
        }
    }
}

/// A priority written as a number or as the name of a band.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamedPriority(pub Priority);

impl<'de> Deserialize<'de> for NamedPriority {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Named;
        impl Visitor<'_> for Named {
            type Value = NamedPriority;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("0 to 100, or low, medium, high or urgent")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<NamedPriority, E> {
                let found = named_priority(text).map(NamedPriority);
                found.ok_or_else(|| {
                    E::custom(format!(
                        "`{text}` is no priority: give 0 to 100, or low, medium, high or urgent"
                    ))
                })
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<NamedPriority, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<NamedPriority, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Named)
    }
}

/// Generates all jobs that arrive before `horizon`.
///
/// # Errors
/// When a number of the description is outside its range, or more than [`JOBS_MAX`] jobs are
/// expected.
pub fn generate(spec: &Generator, seed: u64, horizon: Span) -> Result<Workload, GenerateError> {
    let (accounts, jobs) = stream_jobs(spec, seed, horizon)?;
    Ok(Workload { accounts, jobs: jobs.collect() })
}

/// Opens a workload job by job, for more jobs than fit in memory: the names of the accounts, and
/// the jobs of [`generate`] one after the other.
///
/// # Errors
/// As [`generate`].
pub fn stream_jobs(
    spec: &Generator,
    seed: u64,
    horizon: Span,
) -> Result<(Vec<Box<str>>, Jobs), GenerateError> {
    let times = spec.arrivals.times(seed)?;
    let expected = spec.arrivals.expected(horizon);
    let (left, counted) = (spec.jobs.unwrap_or(JOBS_MAX), spec.jobs.is_some());
    if left > JOBS_MAX || (spec.jobs.is_none() && expected > JOBS_MAX) {
        let jobs = spec.jobs.unwrap_or(expected);
        let what = format!("{jobs} jobs, more than {JOBS_MAX}: lower the rate or the horizon");
        return Err(GenerateError::at("jobs", what));
    }
    let weights = Weights::new(spec.classes.iter().map(|class| class.weight))
        .map_err(|what| GenerateError::at("classes", what))?;
    let mut accounts: Vec<Box<str>> = Vec::new();
    let mut classes = Vec::new();
    for (index, class) in (0_u64..).zip(&spec.classes) {
        classes.push(ClassDraws::open(class, index, seed, &mut accounts)?);
    }
    let end = Time::ZERO.after(horizon);
    let drawn = stream(seed, "classes", 0);
    Ok((accounts, Jobs { times, end, left, counted, weights, drawn, classes }))
}

/// The jobs of a generator, one after the other.
#[derive(Clone, Debug)]
pub struct Jobs {
    times: Times,
    end: Time,
    left: u64,
    /// Whether somebody said how many there are.
    counted: bool,
    weights: Weights,
    drawn: Stream,
    classes: Vec<ClassDraws>,
}

impl Iterator for Jobs {
    type Item = JobRecord;

    fn next(&mut self) -> Option<JobRecord> {
        self.left = self.left.checked_sub(1)?;
        let submit = self.times.next_time();
        if submit >= self.end {
            self.left = 0;
            return None;
        }
        let class = self.weights.draw(&mut self.drawn);
        self.classes.get_mut(class).map(|class| class.draw(submit))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, usize::try_from(self.left).ok().filter(|_| self.counted))
    }
}

/// One class with its streams.
#[derive(Clone, Debug)]
struct ClassDraws {
    name: Box<str>,
    made: u64,
    /// What all jobs of the class share.
    model: JobRecord,
    accounts: Vec<u32>,
    account_weights: Weights,
    payers: Stream,
    duration: Sampler,
    durations: Stream,
    /// The limit as a multiple of the run time, in millionths.
    limit_factor: Option<u64>,
}

impl ClassDraws {
    fn open(
        class: &Class,
        index: u64,
        seed: u64,
        all: &mut Vec<Box<str>>,
    ) -> Result<Self, GenerateError> {
        let key = format!("classes.{index}");
        let at = |of: &str, what: &str| GenerateError::at(format!("{key}.{of}"), what);
        if class.members == 0 {
            return Err(at("members", "is 0: give at least 1"));
        }
        let factor = class.limit_factor.map(|factor| u64::try_from(factor.millionths()));
        if factor.is_some_and(|factor| factor.is_err() || factor.is_ok_and(|f| f > 1_000_000_000)) {
            return Err(at("limit_factor", "give 0 to 1000"));
        }
        let gpu_use = class.gpu_use.map(|part| u16::try_from(part.millionths() / 10_000));
        if gpu_use.is_some_and(|part| part.is_err() || part.is_ok_and(|part| part > 10_000)) {
            return Err(at("gpu_use", "give 0 to 100"));
        }
        let gpu_use = gpu_use.and_then(Result::ok).map(BasisPoints::new);
        let price_max = class.max_price.map(multiple);
        if price_max == Some(None) {
            return Err(at("max_price", "give a multiple above 0, at most 1000"));
        }
        let extra = JobExtra { gpu_use, price_max: price_max.flatten(), ..JobExtra::default() };
        let default = [Payer { name: DEFAULT_ACCOUNT.into(), weight: one() }];
        let payers = if class.accounts.is_empty() { &default[..] } else { &class.accounts };
        let account_weights =
            Weights::new(payers.iter().map(|p| p.weight)).map_err(|what| at("accounts", what))?;
        Ok(Self {
            name: class.name.clone(),
            made: 0,
            model: JobRecord {
                pool: class.pool.clone(),
                priority: class.priority.0,
                needs: class.needs.needs(&key)?,
                members: class.members,
                gpu_models: class.gpu_models.clone(),
                refuse_if_busy: class.if_busy == IfBusy::Refuse,
                checkpoint: class.checkpoint.map(|every| every.0),
                array: 0,
                extra: (extra != JobExtra::default()).then(|| Box::new(extra)),
                ..JobRecord::default()
            },
            accounts: payers.iter().map(|payer| account_index(all, &payer.name)).collect(),
            account_weights,
            payers: stream(seed, "accounts", index),
            duration: class.duration.sampler(&format!("{key}.duration"))?,
            durations: stream(seed, "durations", index),
            limit_factor: factor.and_then(Result::ok),
        })
    }

    fn draw(&mut self, submit: Time) -> JobRecord {
        let payer = self.account_weights.draw(&mut self.payers);
        let run = self.duration.draw(&mut self.durations);
        let limit = self.limit_factor.map(|factor| {
            let product = u128::from(run.get()) * u128::from(factor);
            Span::new(u64::try_from(product.div_ceil(1_000_000)).unwrap_or(u64::MAX))
        });
        self.made += 1;
        let name = match self.name.as_ref() {
            "" => Box::default(),
            name => format!("{name}-{}", self.made).into(),
        };
        let account = self.accounts.get(payer).copied().unwrap_or(0);
        JobRecord { name, account, submit, run, limit, ..self.model.clone() }
    }
}

/// Returns a multiple of the rates in millionths; `None` where it is not above 0, or above 1,000.
#[must_use]
pub fn multiple(of: Decimal) -> Option<Ppm> {
    let ppm = u32::try_from(of.millionths()).ok()?;
    (1..=1_000_000_000).contains(&ppm).then_some(Ppm::new(ppm))
}

fn account_index(all: &mut Vec<Box<str>>, name: &str) -> u32 {
    let place = all.iter().position(|known| known.as_ref() == name).unwrap_or_else(|| {
        all.push(name.into());
        all.len() - 1
    });
    u32::try_from(place).unwrap_or(u32::MAX)
}

impl ClassNeeds {
    /// Turns what users write into the core's units, rounded half up.
    ///
    /// # Errors
    /// When an amount is negative or a share is no share; the error's key begins with `key`.
    pub fn needs(&self, key: &str) -> Result<Needs, GenerateError> {
        let amount = |of: &str, number: Decimal, factor: u64| {
            let Ok(millionths) = u64::try_from(number.millionths()) else {
                return Err(GenerateError::at(format!("{key}.needs.{of}"), "must not be negative"));
            };
            let product = u128::from(millionths) * u128::from(factor);
            Ok(u64::try_from((product + 500_000) / 1_000_000).unwrap_or(u64::MAX))
        };
        let gib = 1 << 30;
        let share = amount("gpu_share", self.gpu_share, 1_000)?;
        let gpus = match (self.gpus, u16::try_from(share)) {
            (0, _) => GpuNeed::NONE,
            (count, Ok(share @ 1..=1_000)) if usize::from(count) <= GPUS_MAX => GpuNeed {
                count,
                share: PerMille::new(share),
                memory: Bytes::new(amount("gpu_memory_gb", self.gpu_memory_gb, gib)?),
            },
            _ => {
                let what = format!("give 0 to {GPUS_MAX} gpus and a gpu_share above 0 up to 1");
                return Err(GenerateError::at(format!("{key}.needs.gpus"), what));
            }
        };
        Ok(Needs {
            cpu: MilliCores::new(amount("cpu_cores", self.cpu_cores, 1_000)?),
            memory: Bytes::new(amount("memory_gb", self.memory_gb, gib)?),
            storage: Bytes::new(amount("storage_gb", self.storage_gb, gib)?),
            gpus,
            ..Needs::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_CLASSES: &str = "
arrivals: {poisson: {rate_per_hour: 3600}}
classes:
- name: small
  weight: 3
  accounts: [{name: a}, {name: b, weight: 3}]
  needs: {cpu_cores: 1.5, memory_gb: 2}
  duration: {exponential: {mean: 1000}}
  limit_factor: 1.5
- name: big
  priority: high
  members: 2
  accounts: [{name: b}]
  needs: {cpu_cores: 8, gpus: 2, gpu_share: 1}
  duration: {lognormal: {median: 2h, sigma: 1.5}}
  checkpoint: 10m
  if_busy: refuse
";

    fn spec(text: &str) -> Generator {
        serde_saphyr::from_str(text).unwrap()
    }

    const DAY: Span = Span::minutes(24 * 60);

    #[test]
    fn classes_and_accounts_come_in_their_shares() {
        let workload = generate(&spec(TWO_CLASSES), 1, DAY).unwrap();
        let jobs = &workload.jobs;
        assert!((85_000..88_000).contains(&jobs.len()), "{}", jobs.len());
        assert!(jobs.is_sorted_by_key(|job| job.submit));
        assert_eq!(workload.accounts, ["a".into(), "b".into()]);
        let small: Vec<_> = jobs.iter().filter(|job| job.name.starts_with("small-")).collect();
        let share = small.len() * 1_000 / jobs.len();
        assert!((735..765).contains(&share), "{share}");
        let paid_by_a = small.iter().filter(|job| job.account == 0).count() * 1_000 / small.len();
        assert!((235..265).contains(&paid_by_a), "{paid_by_a}");
        let first = small[0];
        assert_eq!(first.limit.unwrap().get(), (first.run.get() * 3).div_ceil(2));
        assert_eq!((first.needs.cpu, first.needs.memory), (MilliCores::new(1_500), Bytes::gib(2)));
        let big = jobs.iter().find(|job| job.members == 2).unwrap();
        assert_eq!((big.priority, big.limit, big.account), (Priority::HIGH, None, 1));
        assert!(big.refuse_if_busy && big.checkpoint == Some(Span::minutes(10)));
    }

    #[test]
    fn one_purpose_does_not_shift_another() {
        let base = generate(&spec(TWO_CLASSES), 1, DAY).unwrap().jobs;
        let longer = spec(&TWO_CLASSES.replace("mean: 1000", "mean: 2000"));
        let longer = generate(&longer, 1, DAY).unwrap().jobs;
        assert_eq!(base.len(), longer.len());
        for (one, other) in base.iter().zip(&longer) {
            assert_eq!(
                (one.submit, &one.name, one.account),
                (other.submit, &other.name, other.account)
            );
            assert!(one.members == 1 || one.run == other.run);
        }
        assert_eq!(base, generate(&spec(TWO_CLASSES), 1, DAY).unwrap().jobs);
        assert_ne!(base, generate(&spec(TWO_CLASSES), 2, DAY).unwrap().jobs);
    }

    #[test]
    fn a_million_jobs_are_made_and_streamed_alike() {
        let mut spec = spec(TWO_CLASSES);
        spec.jobs = Some(1_000_000);
        let workload = generate(&spec, 1, Span::MAX).unwrap();
        assert_eq!(workload.jobs.len(), 1_000_000);
        let (_, streamed) = stream_jobs(&spec, 1, Span::MAX).unwrap();
        assert!(streamed.eq(workload.jobs.iter().cloned()));
    }

    #[test]
    fn descriptions_that_cannot_be_are_refused_by_key() {
        for (from, to, why) in [
            ("weight: 3", "weight: -3", "classes: a weight is negative"),
            ("cpu_cores: 8", "cpu_cores: -8", "classes.1.needs.cpu_cores: must not be"),
            ("gpus: 2", "gpus: 65", "classes.1.needs.gpus: give 0 to 64"),
            ("members: 2", "members: 0", "classes.1.members: is 0"),
            ("members: 2", "gpu_use: 100.01", "classes.1.gpu_use: give 0 to 100"),
            ("members: 2", "gpu_use: -1", "classes.1.gpu_use: give 0 to 100"),
            ("limit_factor: 1.5", "limit_factor: 1001", "classes.0.limit_factor: give"),
            ("median: 2h", "median: 0", "classes.1.duration.lognormal.median: is 0"),
            ("rate_per_hour: 3600", "rate_per_hour: 900000000", "jobs: 21600000000 jobs, more"),
        ] {
            assert!(TWO_CLASSES.contains(from));
            let spec = spec(&TWO_CLASSES.replace(from, to));
            let error = generate(&spec, 1, DAY).unwrap_err().to_string();
            assert!(error.starts_with(why), "{to}: {error}");
        }
        for (from, to) in [("members", "membres"), ("priority: high", "priority: 101")] {
            assert!(serde_saphyr::from_str::<Generator>(&TWO_CLASSES.replace(from, to)).is_err());
        }
    }
}
