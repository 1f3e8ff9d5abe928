//! Where owners' load comes from: drawn, or read from one file per resource.

use super::build::NodeLoad;
use super::rules::scaled;
use super::schema as file;
use super::{Fault, Loaded, ScenarioError, at};
use crate::decimal::Decimal;
use crate::generate;
use crate::trace::series::{Format, OwnerLoad, Resource, detect, loads};
use crate::work::LoadSeries;
use gridcore::units::{BasisPoints, Span};
use std::path::Path;

/// Machine numbers of the further GPUs of a node lie above those of the nodes.
const GPU_MACHINES: u64 = 1 << 32;

/// Most steps of a listed load.
const STEPS_MAX: u64 = 1_000_000;

/// Where the load of some nodes' owners comes from.
pub(super) enum LoadSource {
    Nothing,
    Drawn(generate::load::LoadGenerator),
    Read(Vec<OwnerLoad>),
    Listed(Vec<file::LoadPart>),
}

impl LoadSource {
    pub(super) fn open(
        loaded: &Loaded,
        said: Option<&file::OwnerLoad>,
    ) -> Result<Self, ScenarioError> {
        match said {
            None => Ok(Self::Nothing),
            Some(file::OwnerLoad::Generator(generator)) => Ok(Self::Drawn(generator.clone())),
            Some(file::OwnerLoad::Trace(files)) => {
                let mut all: Vec<OwnerLoad> = Vec::new();
                for one in files {
                    merge(&mut all, read_loads(&loaded.file(&one.file), one)?);
                }
                Ok(Self::Read(all))
            }
            Some(file::OwnerLoad::List(parts)) => Ok(Self::Listed(parts.clone())),
        }
    }

    /// Returns how many series there are to give nodes to.
    pub(super) fn len(&self) -> Option<usize> {
        match self {
            Self::Nothing | Self::Drawn(_) | Self::Listed(_) => None,
            Self::Read(all) => Some(all.len()),
        }
    }

    pub(super) fn load(
        &self,
        seed: u64,
        machine: u64,
        gpus: u8,
        span: Span,
    ) -> Result<NodeLoad, Fault> {
        match self {
            Self::Nothing => Ok(NodeLoad::default()),
            Self::Listed(parts) => listed(parts, gpus, span),
            Self::Read(all) => {
                let pick = |n: u64| all.get(usize::try_from(n).unwrap_or(0) % all.len().max(1));
                let Some(own) = pick(machine) else { return Ok(NodeLoad::default()) };
                let gpu = |g: u8| pick(machine * u64::from(gpus) + u64::from(g));
                let gpus = (0..gpus).filter_map(gpu).map(|load| load.gpu.clone()).collect();
                Ok(NodeLoad { cpu: own.cpu.clone(), memory: own.memory.clone(), gpus })
            }
            Self::Drawn(generator) => {
                let wrong = |e: generate::GenerateError| at("owner_load.generator", e.to_string());
                let own = generator.load(seed, machine, span).map_err(wrong)?;
                let only_gpu = generate::load::LoadGenerator {
                    cpu: None,
                    memory: None,
                    gpu: generator.gpu.clone(),
                };
                let mut series = Vec::new();
                for g in 0..gpus {
                    let number = GPU_MACHINES + machine * 64 + u64::from(g);
                    series.push(only_gpu.load(seed, number, span).map_err(wrong)?.gpu);
                }
                Ok(NodeLoad { cpu: own.cpu, memory: own.memory, gpus: series })
            }
        }
    }
}

/// Turns listed parts into series as long as the run. Where parts overlap, the later one counts.
fn listed(parts: &[file::LoadPart], gpus: u8, span: Span) -> Result<NodeLoad, Fault> {
    let second = 1_000;
    let mut step = span.get().div_ceil(second).max(1);
    for (i, part) in parts.iter().enumerate() {
        let (from, to) = (part.from.0.get(), part.to.0.get());
        let whole = from.is_multiple_of(second) && to.is_multiple_of(second);
        if !whole || from >= to || to > span.get() {
            let what = "from and to are whole seconds, from before to, to within the run";
            return Err(at(&format!("owner_load.list.{i}"), what.to_owned()));
        }
        step = common_divisor(common_divisor(step, from / second), to / second);
    }
    let count = span.get().div_ceil(second) / step;
    if count > STEPS_MAX {
        let what = format!("{count} steps of {step} s: use coarser times or a shorter run");
        return Err(at("owner_load.list", what));
    }
    let series = |name: &str, value: fn(&file::LoadPart) -> Decimal| {
        let mut values = vec![BasisPoints::ZERO; usize::try_from(count).unwrap_or(0)];
        for (i, part) in parts.iter().enumerate() {
            let key = format!("owner_load.list.{i}.{name}");
            let points = scaled(&key, value(part), 100)?;
            let points = u16::try_from(points).ok().filter(|points| *points <= 10_000);
            let points = points.ok_or_else(|| at(&key, "it is at most 100".to_owned()))?;
            let place = |at: Span| usize::try_from(at.get() / second / step).unwrap_or(usize::MAX);
            let range = place(part.from.0)..place(part.to.0);
            values.get_mut(range).unwrap_or_default().fill(BasisPoints::new(points));
        }
        Ok(LoadSeries { name: name.into(), step: Span::seconds(step), values })
    };
    let gpu = series("gpu_percent", |part| part.gpu_percent)?;
    Ok(NodeLoad {
        cpu: series("cpu_percent", |part| part.cpu_percent)?,
        memory: series("memory_percent", |part| part.memory_percent)?,
        gpus: vec![gpu; gpus.into()],
    })
}

/// Returns the greatest common divisor.
const fn common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Adds the resources of a further file to the machines read so far, place by place.
fn merge(all: &mut Vec<OwnerLoad>, more: Vec<OwnerLoad>) {
    if all.is_empty() {
        *all = more;
        return;
    }
    let len = more.len().max(1);
    for (i, load) in all.iter_mut().enumerate() {
        let Some(other) = more.get(i % len) else { continue };
        for (mine, theirs) in [
            (&mut load.cpu, &other.cpu),
            (&mut load.memory, &other.memory),
            (&mut load.gpu, &other.gpu),
        ] {
            if mine.values.is_empty() {
                mine.clone_from(theirs);
            }
        }
    }
}

fn read_loads(path: &Path, said: &file::LoadTrace) -> Result<Vec<OwnerLoad>, ScenarioError> {
    let format = match said.format {
        Some(file::LoadFormat::Planetlab) => Format::Planetlab,
        Some(file::LoadFormat::Bitbrains) => Format::Bitbrains,
        Some(file::LoadFormat::WidePercent) => Format::WidePercent,
        Some(file::LoadFormat::WideFraction) => Format::WideFraction,
        Some(file::LoadFormat::Long) => Format::Long,
        None => detect(path)?,
    };
    let resource = match said.resource {
        file::LoadResource::Cpu => Resource::Cpu,
        file::LoadResource::Memory => Resource::Memory,
        file::LoadResource::Gpu => Resource::Gpu,
    };
    Ok(loads(path, format, resource)?)
}
