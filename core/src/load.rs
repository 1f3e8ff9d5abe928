//! The load of one node by its owner: the last sample, and everything that follows it.

use crate::command::{GpuSample, Sample};
use crate::config::{Balance, Policy};
use crate::forecast::Forecast;
use crate::pressure::Pressure;
use crate::trend::History;
use crate::units::{BasisPoints, Bytes, Span, Time};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What is taken for true of a device that a sample says nothing about: its owner uses all of it.
const UNKNOWN: GpuSample =
    GpuSample { busy: BasisPoints::ALL, memory: Bytes::ZERO, foreign: true, leased: None };

/// What is known of an owner's use of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// The last sample, which holds until the next.
    pub sample: Sample,
    /// When the forecasters were last advanced.
    pub advanced: Time,
    /// When the node was last heard.
    pub heard: Time,
    /// Forecasts of CPU, memory, then every GPU.
    pub forecasts: Vec<Forecast>,
    /// The end of the horizon that they last predicted for.
    pub predicted_until: Option<Time>,
    /// Its pressure.
    pub pressure: Pressure,
    /// Its recent past.
    pub history: History,
}

impl Load {
    /// Begins to follow a node.
    #[must_use]
    pub fn new(gpus: usize, now: Time) -> Self {
        let sample = Sample { gpus: alloc::vec![GpuSample::default(); gpus], ..Sample::default() };
        Self {
            forecasts: alloc::vec![Forecast::default(); 2 + gpus],
            sample,
            advanced: now,
            heard: now,
            predicted_until: None,
            pressure: Pressure::default(),
            history: History::default(),
        }
    }

    /// Feeds `count` samples of the present value into everything that counts samples.
    fn repeat(&mut self, count: u64, now: Time, leased: [BasisPoints; 3], balance: &Balance) {
        if balance.policy == Policy::Predictive {
            for forecast in &mut self.forecasts {
                forecast.repeat(count, now, balance);
            }
        }
        let mut all = self.owner();
        for (sum, part) in all.iter_mut().zip(leased) {
            *sum = sum.saturating_add(part).capped();
        }
        self.pressure.observe(all, !self.sample.gpus.is_empty(), count, balance);
        let [.., keep] = balance.trend_windows;
        let runs_max = usize::try_from(balance.samples_max).unwrap_or(usize::MAX);
        self.history.push(now, all, keep, runs_max);
    }

    /// Returns the owner's use of CPU, memory and GPUs (mean over devices).
    #[must_use]
    pub fn owner(&self) -> [BasisPoints; 3] {
        let gpus = self.sample.gpus.len() as u64;
        let sum: u64 = self.sample.gpus.iter().map(|g| u64::from(g.busy.get())).sum();
        let mean = u16::try_from(sum.checked_div(gpus).unwrap_or(0)).unwrap_or(10_000);
        [self.sample.cpu, self.sample.memory, BasisPoints::new(mean)]
    }

    /// Catches up with the samples that repeated the present value until `now`.
    pub fn advance(&mut self, now: Time, leased: [BasisPoints; 3], balance: &Balance) {
        let step = balance.monitoring_interval.get().max(1);
        let count = now.since(self.advanced).get() / step;
        if count > 0 {
            self.advanced = self.advanced.after(Span::new(count * step));
            self.repeat(count, self.advanced, leased, balance);
        }
    }

    /// Returns whether a sample may raise what is kept free for the owner: some use rises, or the
    /// policy learns from more than the highest.
    #[must_use]
    pub fn may_rise(&self, sample: &Sample, balance: &Balance) -> bool {
        let missing = sample.gpus.len() < self.sample.gpus.len();
        let rises = |(old, new): (&GpuSample, &GpuSample)| {
            new.busy > old.busy || new.memory > old.memory || new.foreign && !old.foreign
        };
        missing
            || balance.policy == Policy::Predictive
            || sample.cpu > self.sample.cpu
            || sample.memory > self.sample.memory
            || self.sample.gpus.iter().zip(&sample.gpus).any(rises)
    }

    /// Records a sample in which only what leases use is new, and returns whether it is one. The
    /// owner uses what he did: nothing that counts samples has anything to learn from it.
    pub fn note_leased(&mut self, sample: &Sample, now: Time) -> bool {
        let owner = |gpu: &GpuSample| GpuSample { leased: None, ..*gpu };
        let same = (sample.cpu, sample.memory) == (self.sample.cpu, self.sample.memory)
            && sample.gpus.iter().map(owner).eq(self.sample.gpus.iter().map(owner))
            && sample.gpus != self.sample.gpus;
        if same {
            self.sample.clone_from(sample);
            self.heard = now;
        }
        same
    }

    /// Records a new sample. Only the forecasts of what changed are touched.
    pub fn sample(
        &mut self,
        sample: &Sample,
        now: Time,
        leased: [BasisPoints; 3],
        balance: &Balance,
    ) {
        self.advance(now, leased, balance);
        let until = self.advanced;
        // A device that the sample leaves out is not known to be idle.
        let new = sample.uses().chain(core::iter::repeat(UNKNOWN.busy));
        for ((forecast, old), new) in self.forecasts.iter_mut().zip(self.sample.uses()).zip(new) {
            if old != new {
                forecast.change(new, until, now, balance);
            }
        }
        let gpus = self.sample.gpus.len();
        self.sample.clone_from(sample);
        self.sample.gpus.resize(gpus, UNKNOWN);
        self.heard = now;
        self.advanced = now;
        self.repeat(1, now, leased, balance);
    }

    /// Judges the last predictions when their horizon has passed, and makes the next.
    pub fn judge(&mut self, now: Time, balance: &Balance) {
        if let Some(until) = self.predicted_until {
            if now < until {
                return;
            }
            for forecast in &mut self.forecasts {
                forecast.resolve(balance);
            }
        }
        for forecast in &mut self.forecasts {
            forecast.predict(now, balance);
        }
        self.predicted_until = Some(now.after(balance.horizon));
    }
}
