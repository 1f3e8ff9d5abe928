//! Owners' load: what the machines' own work uses, one series per resource.
//!
//! Two generators have the shape of published measurements (TRUTHS.md section 5): `planetlab_like`
//! for CPU, `duty_cycle` for GPUs. The others are plain: constant, a day's wave, office hours, a
//! slow walk for memory. Each machine and resource draws from its own stream.

use super::GenerateError;
use super::lasting::{between, exponential};
use super::sample::{daily_wave, float, positive_unit, unit, whole};
use crate::decimal::Decimal;
use crate::rng::{Stream, stream};
use crate::trace::series::{OwnerLoad, SAMPLES_MAX};
use crate::work::LoadSeries;
use gridcore::units::{BasisPoints, Span};
use serde::Deserialize;

/// The load of a machine by its owner; a resource without a generator has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoadGenerator {
    /// Compute.
    pub cpu: Option<SeriesGenerator>,
    /// Main memory.
    pub memory: Option<SeriesGenerator>,
    /// GPUs.
    pub gpu: Option<SeriesGenerator>,
}

/// How one resource is used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SeriesGenerator {
    /// Five-minute samples like PlanetLab's: mean 9 to 12 %, 87 to 90 % of them under 30 %, runs
    /// under 30 % with a median of 2 to 3 samples, a mean of 21 and a heavy tail.
    PlanetlabLike,
    /// Samples 57 s apart like those of GPUs that serve models: mean 7 %, two thirds exactly 0,
    /// windows under 20 % with a median of 2.9 and a mean of 7.7 minutes.
    DutyCycle,
    /// A walk that moves by at most one point per 5 minutes and returns to its mean.
    SlowWalk {
        /// The mean over machines and time, 0 to 100.
        mean_percent: Decimal,
        /// How far machine means lie from it at most, 0 to 100.
        swing_percent: Decimal,
    },
    /// Always the same.
    Constant {
        /// The utilisation, 0 to 100.
        percent: Decimal,
    },
    /// A cosine over the day with noise.
    Diurnal {
        /// The mean, 0 to 100.
        mean_percent: Decimal,
        /// From the mean to the peak, 0 to 100.
        swing_percent: Decimal,
        /// The hour of the peak, 0 to 24; the run begins at hour 0.
        peak_hour: Decimal,
        /// The most that a sample is off, 0 to 100.
        noise_percent: Decimal,
    },
    /// One level in office hours from Monday to Friday, another else; the run begins on a Monday.
    OfficeHours {
        /// The level in office hours, 0 to 100.
        busy_percent: Decimal,
        /// The level outside, 0 to 100.
        idle_percent: Decimal,
        /// The first hour, 0 to 24.
        from_hour: Decimal,
        /// The hour at which the office closes, 0 to 24.
        to_hour: Decimal,
        /// The most that a sample is off, 0 to 100.
        noise_percent: Decimal,
    },
}

impl LoadGenerator {
    /// Generates the load of machine number `machine` up to `horizon`, of which the last sample may
    /// stand across.
    ///
    /// # Errors
    /// When a number of the description is outside its range, or there are too many samples.
    pub fn load(&self, seed: u64, machine: u64, horizon: Span) -> Result<OwnerLoad, GenerateError> {
        let series = |key: &str, generator: &Option<SeriesGenerator>| match generator {
            Some(generator) => {
                let drawn = stream(seed, &format!("owner-{key}"), machine);
                generator.series(key, drawn, horizon)
            }
            None => Ok(LoadSeries::default()),
        };
        let mut load = OwnerLoad {
            name: format!("machine-{machine}").into(),
            cpu: series("cpu", &self.cpu)?,
            memory: series("memory", &self.memory)?,
            gpu: series("gpu", &self.gpu)?,
        };
        for series in [&mut load.cpu, &mut load.memory, &mut load.gpu] {
            series.name = load.name.clone();
        }
        Ok(load)
    }
}

const FIVE_MINUTES: Span = Span::minutes(5);

impl SeriesGenerator {
    /// Returns the length of a sample: 57 s for the duty cycle, else 5 minutes.
    #[must_use]
    pub const fn step(&self) -> Span {
        match self {
            Self::DutyCycle => Span::seconds(57),
            Self::PlanetlabLike
            | Self::SlowWalk { .. }
            | Self::Constant { .. }
            | Self::Diurnal { .. }
            | Self::OfficeHours { .. } => FIVE_MINUTES,
        }
    }

    fn series(
        &self,
        key: &str,
        mut drawn: Stream,
        horizon: Span,
    ) -> Result<LoadSeries, GenerateError> {
        let step = self.step();
        let samples = horizon.get().div_ceil(step.get());
        if samples > SAMPLES_MAX {
            let what = format!("{samples} samples, more than {SAMPLES_MAX}: shorten the horizon");
            return Err(GenerateError::at(key, what));
        }
        let percent = |number: Decimal, of: &str| between(number, (0, 100_000_000), key, of);
        let hour = |number: Decimal, of: &str| between(number, (0, 24_000_000), key, of);
        let values = match self {
            Self::PlanetlabLike => on_off(&PLANETLAB, &mut drawn, samples),
            Self::DutyCycle => on_off(&SERVING, &mut drawn, samples),
            Self::SlowWalk { mean_percent, swing_percent } => {
                let mean = percent(*mean_percent, "slow_walk.mean_percent")?;
                let swing = percent(*swing_percent, "slow_walk.swing_percent")?;
                slow_walk(mean, swing, &mut drawn, samples)
            }
            Self::Constant { percent: level } => {
                let level = points(percent(*level, "constant.percent")?);
                (0..samples).map(|_| level).collect()
            }
            Self::Diurnal { mean_percent, swing_percent, peak_hour, noise_percent } => {
                let mean = percent(*mean_percent, "diurnal.mean_percent")?;
                let swing = percent(*swing_percent, "diurnal.swing_percent")?;
                let peak = hour(*peak_hour, "diurnal.peak_hour")?;
                let noise = percent(*noise_percent, "diurnal.noise_percent")?;
                let level = |hours: f64| mean + swing * daily_wave(hours, peak);
                with_noise(level, noise, &mut drawn, (step, samples))
            }
            Self::OfficeHours { busy_percent, idle_percent, from_hour, to_hour, noise_percent } => {
                let busy = percent(*busy_percent, "office_hours.busy_percent")?;
                let idle = percent(*idle_percent, "office_hours.idle_percent")?;
                let from = hour(*from_hour, "office_hours.from_hour")?;
                let to = hour(*to_hour, "office_hours.to_hour")?;
                let noise = percent(*noise_percent, "office_hours.noise_percent")?;
                let level = |hours: f64| {
                    let (of_week, of_day) = (hours % 168.0, hours % 24.0);
                    let is_open = of_week < 120.0 && (from..to).contains(&of_day);
                    if is_open { busy } else { idle }
                };
                with_noise(level, noise, &mut drawn, (step, samples))
            }
        };
        Ok(LoadSeries { name: Box::default(), step, values })
    }
}

/// Turns percent into basis points, inside 0 to 100 %.
fn points(percent: f64) -> BasisPoints {
    let rounded = whole(percent * 100.0).min(10_000);
    BasisPoints::new(u16::try_from(rounded).unwrap_or(10_000))
}

/// Alternates idle runs, whose lengths have a power-law tail, and geometric busy runs.
struct OnOff {
    /// P(idle run >= n) = n^-tail.
    tail: f64,
    /// The longest idle run, in samples.
    idle_max: f64,
    /// The mean busy run, in samples.
    busy_mean: f64,
    /// The border between idle and busy, in percent.
    border: f64,
    /// The mean of what a busy run is above the border.
    above_mean: f64,
    /// How an idle sample comes about.
    idle: Idle,
}

enum Idle {
    /// Around a level of the machine, exponential over machines with this mean, in percent.
    MachineLevel(f64),
    /// Exactly 0 with this probability, else uniform under the border.
    MostlyZero(f64),
}

/// Fitted to 8,925 machine days of 2011 (see the tests for how closely).
const PLANETLAB: OnOff = OnOff {
    tail: 0.68,
    idle_max: 864.0,
    busy_mean: 3.2,
    border: 30.0,
    above_mean: 16.0,
    idle: Idle::MachineLevel(6.0),
};

/// Fitted to 143 serving containers over 23 hours (see the tests for how closely).
const SERVING: OnOff = OnOff {
    tail: 0.63,
    idle_max: 40.0,
    busy_mean: 1.5,
    border: 20.0,
    above_mean: 17.0,
    idle: Idle::MostlyZero(0.79),
};

fn on_off(shape: &OnOff, drawn: &mut Stream, samples: u64) -> Vec<BasisPoints> {
    let level = match shape.idle {
        Idle::MachineLevel(mean) => mean * exponential(drawn),
        Idle::MostlyZero(_) => 0.0,
    };
    // Machines are met at any point of a run: a random stretch goes unseen.
    let unseen = drawn.below(whole(shape.idle_max));
    let mut values = Vec::new();
    let mut at = 0;
    let mut is_idle = true;
    while at < unseen + samples {
        let (run, peak) = if is_idle {
            let run = positive_unit(drawn).powf(-1.0 / shape.tail).min(shape.idle_max).floor();
            (run, 0.0)
        } else {
            let goes_on = 1.0 - 1.0 / shape.busy_mean;
            let run = 1.0 + (positive_unit(drawn).ln() / goes_on.ln()).floor();
            (run, shape.border + shape.above_mean * exponential(drawn))
        };
        for _ in 0..whole(run) {
            let value = match (is_idle, &shape.idle) {
                (false, _) => (peak * (0.9 + 0.2 * unit(drawn))).max(shape.border),
                (true, Idle::MachineLevel(_)) => {
                    (level * (0.6 + 0.8 * unit(drawn))).min(shape.border - 0.01)
                }
                (true, Idle::MostlyZero(zero)) if unit(drawn) < *zero => 0.0,
                (true, Idle::MostlyZero(_)) => (shape.border - 0.01) * unit(drawn),
            };
            if (unseen..unseen + samples).contains(&at) {
                values.push(points(value));
            }
            at += 1;
        }
        is_idle = !is_idle;
    }
    values
}

fn slow_walk(mean: f64, swing: f64, drawn: &mut Stream, samples: u64) -> Vec<BasisPoints> {
    let home = (mean + swing * (2.0 * unit(drawn) - 1.0)).clamp(0.0, 100.0);
    let mut level = home;
    let mut step = || {
        level += (0.8 * (2.0 * unit(drawn) - 1.0) + 0.02 * (home - level)).clamp(-1.0, 1.0);
        level = level.clamp(0.0, 100.0);
        points(level)
    };
    (0..samples).map(|_| step()).collect()
}

fn with_noise(
    level: impl Fn(f64) -> f64,
    noise: f64,
    drawn: &mut Stream,
    (step, samples): (Span, u64),
) -> Vec<BasisPoints> {
    let value = |sample: u64| {
        let hours = float(sample) * float(step.get()) / 3.6e6;
        points(level(hours) + noise * (2.0 * unit(drawn) - 1.0))
    };
    (0..samples).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples::LoadShape;

    fn many(text: &str, machines: u64, days: u64) -> Vec<OwnerLoad> {
        let generator: LoadGenerator = serde_saphyr::from_str(text).unwrap();
        let horizon = Span::minutes(days * 24 * 60);
        (0..machines).map(|machine| generator.load(1, machine, horizon).unwrap()).collect()
    }

    #[test]
    fn planetlab_like_load_has_the_published_shape() {
        let loads = many("cpu: planetlab_like", 4_000, 1);
        assert_eq!(loads[0].cpu.values.len(), 288);
        let shape = LoadShape::of(loads.iter().map(|load| &load.cpu), 3_000);
        println!("planetlab_like: {shape:?}");
        assert!((900..=1_200).contains(&shape.mean), "{shape:?}");
        assert!((8_500..=9_000).contains(&shape.below), "{shape:?}");
        assert!((2..=3).contains(&shape.run_median), "{shape:?}");
        assert!((1_900..=2_300).contains(&shape.run_mean), "{shape:?}");
    }

    #[test]
    fn duty_cycles_have_the_published_shape() {
        let loads = many("gpu: duty_cycle", 500, 1);
        let shape = LoadShape::of(loads.iter().map(|load| &load.gpu), 2_000);
        println!("duty_cycle: {shape:?}");
        assert!((650..=750).contains(&shape.mean), "{shape:?}");
        assert!((6_500..=6_850).contains(&shape.zero), "{shape:?}");
        // 3 samples are 2.85 minutes; 8.1 samples are 7.7 minutes.
        assert_eq!(shape.run_median, 3);
        assert!((780..=860).contains(&shape.run_mean), "{shape:?}");
    }

    #[test]
    fn plain_loads_are_where_they_are_said_to_be() {
        let text = "
cpu:
  office_hours:
    {busy_percent: 60, idle_percent: 5, from_hour: 9, to_hour: 17.5, noise_percent: 2}
memory: {slow_walk: {mean_percent: 40, swing_percent: 20}}
gpu: {diurnal: {mean_percent: 50, swing_percent: 30, peak_hour: 15, noise_percent: 0}}
";
        for load in many(text, 20, 7) {
            let at = |series: &LoadSeries, day: usize, hour: usize| {
                series.values[(day * 24 + hour) * 12].get()
            };
            assert!((5_800..=6_200).contains(&at(&load.cpu, 1, 10)));
            assert!((300..=700).contains(&at(&load.cpu, 1, 18)));
            assert!((300..=700).contains(&at(&load.cpu, 5, 10)), "a Saturday");
            assert_eq!((at(&load.gpu, 2, 15), at(&load.gpu, 2, 3)), (8_000, 2_000));
            let moved = load.memory.values.windows(2).map(|w| w[0].get().abs_diff(w[1].get()));
            assert!(moved.max().unwrap() <= 100);
        }
        let constant = many("cpu: {constant: {percent: 12.34}}", 1, 1);
        assert!(constant[0].cpu.values.iter().all(|value| value.get() == 1_234));
        assert!(constant[0].gpu.values.is_empty());
    }

    #[test]
    fn levels_outside_their_range_are_refused() {
        let generator: LoadGenerator =
            serde_saphyr::from_str("cpu: {constant: {percent: 101}}").unwrap();
        let why = generator.load(1, 0, FIVE_MINUTES).unwrap_err().to_string();
        assert_eq!(why, "cpu.constant.percent: is 101: give 0 to 100");
        let endless: LoadGenerator = serde_saphyr::from_str("gpu: duty_cycle").unwrap();
        assert!(endless.load(1, 0, Span::MAX).is_err());
        assert!(serde_saphyr::from_str::<LoadGenerator>("cpus: {}").is_err());
    }
}
