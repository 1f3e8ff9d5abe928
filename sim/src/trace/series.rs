//! Owners' load as series of samples: four layouts of files, one result.
//!
//! - **planetlab**: no header; a machine's name, then one percentage per 5 minutes.
//! - **bitbrains**: `vm,t_s,duration_s,cpu_count,cpu_usage_mhz`; a core has 2,926 MHz.
//! - **wide**: a header of a label and evenly spaced seconds from 0; then a machine per line.
//! - **long**: `time_s,node,cpu_percent,memory_percent,gpu_percent`.
//!
//! A missing value repeats the one before it, and is 0 before the first. Values up to 5 points
//! outside 0 to 100 % are taken for noise of the measurement and set to the border.

use super::columns::{Column, Row, Table, required};
use super::read::{Lines, TraceError, shown};
use crate::work::LoadSeries;
use gridcore::units::{BasisPoints, Span};
use std::collections::BTreeMap;
use std::path::Path;

/// The most samples that one file may give, over all machines: 400 MB of memory.
pub const SAMPLES_MAX: u64 = 200_000_000;

/// The clock of a core in the bitbrains trace, in MHz.
pub const MHZ_PER_CORE: u64 = 2_926;

/// The step of planetlab and bitbrains.
pub(super) const FIVE_MINUTES: Span = Span::minutes(5);

/// One machine's load in three resources; a series without values is a resource without load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerLoad {
    /// The machine's name in the source.
    pub name: Box<str>,
    /// Compute in use.
    pub cpu: LoadSeries,
    /// Main memory in use.
    pub memory: LoadSeries,
    /// GPUs in use.
    pub gpu: LoadSeries,
}

/// The resource that a file with one series per machine is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Compute.
    Cpu,
    /// Main memory.
    Memory,
    /// GPUs.
    Gpu,
}

/// The layout of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Name and percentages, 5 minutes apart.
    Planetlab,
    /// One row per virtual machine and sample, in MHz.
    Bitbrains,
    /// A header of seconds; values in percent.
    WidePercent,
    /// A header of seconds; values from 0 to 1.
    WideFraction,
    /// One row per node and time, three percentages.
    Long,
}

impl Format {
    /// All layouts.
    pub const ALL: [Self; 5] =
        [Self::Planetlab, Self::Bitbrains, Self::WidePercent, Self::WideFraction, Self::Long];
}

/// Reads a file of owners' load. All but [`Format::Long`] hold one resource, which is `resource`.
///
/// # Errors
/// When the file breaks the layout, holds no machine, a machine twice, or too many samples.
pub fn loads(
    path: &Path,
    format: Format,
    resource: Resource,
) -> Result<Vec<OwnerLoad>, TraceError> {
    loads_from(Lines::open(path)?, format, resource)
}

/// Reads owners' load from lines, as [`loads`].
///
/// # Errors
/// As [`loads`].
pub fn loads_from(
    lines: Lines,
    format: Format,
    resource: Resource,
) -> Result<Vec<OwnerLoad>, TraceError> {
    let series = match format {
        Format::Planetlab => planetlab(lines)?,
        Format::Bitbrains => bitbrains(lines)?,
        Format::WidePercent => wide(lines, 2)?,
        Format::WideFraction => wide(lines, 4)?,
        Format::Long => return super::long::loads(lines),
    };
    let of = |series: LoadSeries| {
        let mut load = OwnerLoad { name: series.name.clone(), ..OwnerLoad::default() };
        match resource {
            Resource::Cpu => load.cpu = series,
            Resource::Memory => load.memory = series,
            Resource::Gpu => load.gpu = series,
        }
        load
    };
    Ok(series.into_iter().map(of).collect())
}

/// Tells the layout of a file by its first lines.
///
/// A wide table whose first 50 rows stay below 1.05 is taken for fractions.
///
/// # Errors
/// When the file cannot be read or its first line fits no layout.
pub fn detect(path: &Path) -> Result<Format, TraceError> {
    detect_from(Lines::open(path)?)
}

/// Tells the layout by the first lines, as [`detect`].
///
/// # Errors
/// As [`detect`].
pub fn detect_from(mut lines: Lines) -> Result<Format, TraceError> {
    let hint = "the layouts are planetlab, bitbrains, wide (a header of seconds) and long \
                (time_s,node,cpu_percent,...)";
    if !lines.advance()? {
        return Err(lines.empty(hint));
    }
    let mut row = Row::default();
    row.split(&lines)?;
    let has = |name: &str| row.fields().any(|field| field.trim() == name);
    if has("cpu_usage_mhz") {
        return Ok(Format::Bitbrains);
    }
    if has("time_s") && has("node") {
        return Ok(Format::Long);
    }
    let is_word = |field: &str| lines.signed("", field.trim(), 3).is_err();
    if row.width() < 2 || row.fields().skip(1).any(is_word) {
        let what = format!("`{}` begins no known layout of load", shown(lines.text()));
        return Err(lines.error(what, hint));
    }
    // A header of seconds begins at 0 and leaves 100 soon; percentages of a machine do not.
    if even_step(&lines, &row).is_err() {
        return Ok(Format::Planetlab);
    }
    for _ in 0..50 {
        if !lines.advance()? {
            break;
        }
        row.split(&lines)?;
        let mut values = row.fields().skip(1).filter_map(|f| lines.signed("", f.trim(), 2).ok());
        if values.any(|value| value > 105) {
            return Ok(Format::WidePercent);
        }
    }
    Ok(Format::WideFraction)
}

/// Series under construction, in the order of first appearance.
#[derive(Default)]
pub(super) struct Collected {
    series: Vec<LoadSeries>,
    pub(super) index: BTreeMap<Box<str>, usize>,
    samples: u64,
}

impl Collected {
    /// Adds a series that must be new.
    pub(super) fn add(
        &mut self,
        lines: &Lines,
        name: &str,
        step: Span,
    ) -> Result<usize, TraceError> {
        let index = self.series.len();
        if self.index.insert(name.into(), index).is_some() {
            let what = format!("the machine `{}` stands there twice", shown(name));
            return Err(lines.error(what, "names are unique: rename one or leave it out"));
        }
        self.series.push(LoadSeries { name: name.into(), step, values: Vec::new() });
        Ok(index)
    }

    /// Counts samples to come.
    fn count(&mut self, lines: &Lines, samples: u64) -> Result<(), TraceError> {
        self.samples = self.samples.saturating_add(samples);
        if self.samples > SAMPLES_MAX {
            let what = format!("more than {SAMPLES_MAX} samples");
            return Err(lines.error(what, "check the times, or import fewer machines or days"));
        }
        Ok(())
    }

    pub(super) fn finish(self, lines: &Lines) -> Result<Vec<LoadSeries>, TraceError> {
        if self.series.is_empty() {
            return Err(lines.empty("a load file holds at least one machine"));
        }
        Ok(self.series)
    }
}

/// Reads one value; `places` is 2 for percent and 4 for fractions.
pub(super) fn utilisation(
    lines: &Lines,
    text: &str,
    places: u32,
) -> Result<BasisPoints, TraceError> {
    let value = lines.signed("value", text, places)?;
    match u16::try_from(value.clamp(0, 10_000)) {
        Ok(inside) if (-500..=10_500).contains(&value) => Ok(BasisPoints::new(inside)),
        _ => {
            let what = format!("utilisation `{}` is outside 0 to 100 %", shown(text));
            Err(lines.error(what, "check whether the file holds percent or fractions"))
        }
    }
}

fn planetlab(mut lines: Lines) -> Result<Vec<LoadSeries>, TraceError> {
    let mut collected = Collected::default();
    let mut width = None;
    let mut row = Row::default();
    while lines.advance()? {
        row.split(&lines)?;
        fill_row(
            &lines,
            &row,
            &mut collected,
            Filling { width: *width.get_or_insert(row.width()), step: FIVE_MINUTES, places: 2 },
        )?;
    }
    collected.finish(&lines)
}

fn wide(mut lines: Lines, places: u32) -> Result<Vec<LoadSeries>, TraceError> {
    let mut collected = Collected::default();
    let mut row = Row::default();
    if !lines.advance()? {
        return Err(lines.empty("the first line names the seconds of the samples"));
    }
    row.split(&lines)?;
    let step = even_step(&lines, &row)?;
    let width = row.width();
    while lines.advance()? {
        row.split(&lines)?;
        fill_row(&lines, &row, &mut collected, Filling { width, step, places })?;
    }
    collected.finish(&lines)
}

/// What holds for every row of a table with one machine per line.
struct Filling {
    width: usize,
    step: Span,
    places: u32,
}

/// Reads one line: a name and its values. A machine without a name is called by its line.
fn fill_row(
    lines: &Lines,
    row: &Row,
    collected: &mut Collected,
    filling: Filling,
) -> Result<(), TraceError> {
    if row.width() != filling.width || filling.width < 2 {
        let (has, want) = (row.width(), filling.width.max(2));
        let what = format!("{has} fields instead of {want}");
        return Err(lines.error(what, "give a name and one value per sample"));
    }
    let name = match row.field(0).trim() {
        "" => format!("line-{}", lines.number()),
        name => name.to_owned(),
    };
    let index = collected.add(lines, &name, filling.step)?;
    collected.count(lines, u64::try_from(filling.width).unwrap_or(u64::MAX))?;
    let mut last = BasisPoints::ZERO;
    let mut values = Vec::with_capacity(filling.width - 1);
    for text in row.fields().skip(1).map(str::trim) {
        if !text.is_empty() {
            last = utilisation(lines, text, filling.places)?;
        }
        values.push(last);
    }
    collected.series[index].values = values;
    Ok(())
}

/// Returns the step of a header of seconds, which begins at 0.
fn even_step(lines: &Lines, header: &Row) -> Result<Span, TraceError> {
    let hint = "the header gives the seconds of the samples: evenly spaced, from 0";
    let mut times = Vec::with_capacity(header.width());
    for text in header.fields().skip(1) {
        times.push(lines.amount("of the header", text.trim(), 1_000)?);
    }
    let [0, step, ..] = times[..] else {
        return Err(lines.error("the header does not begin at 0 with two samples or more", hint));
    };
    let is_even = times.windows(2).all(|pair| pair[1].checked_sub(pair[0]) == Some(step));
    if step == 0 || !is_even {
        return Err(lines.error("the seconds of the header are not evenly spaced", hint));
    }
    Ok(Span::new(step))
}

const BITBRAINS: &[Column] = &[
    required("vm"),
    required("t_s"),
    required("duration_s"),
    required("cpu_count"),
    required("cpu_usage_mhz"),
];

fn bitbrains(lines: Lines) -> Result<Vec<LoadSeries>, TraceError> {
    let mut table = Table::open(lines, BITBRAINS)?;
    let mut collected = Collected::default();
    while table.advance()? {
        let index = match collected.index.get(table.text(0)) {
            Some(index) => *index,
            None => collected.add(table.lines(), table.text(0), FIVE_MINUTES)?,
        };
        // A machine that is switched off has 0 cores and uses nothing.
        let capacity = table.amount(3, 1)?.saturating_mul(MHZ_PER_CORE * 1_000);
        let value = BasisPoints::ratio(table.amount(4, 1_000)?, capacity);
        let slot = table.amount(1, 1_000)? / FIVE_MINUTES.get();
        let series = &mut collected.series[index];
        // Of two samples in one step the later counts: the clock of the source wanders.
        let full = usize::try_from(slot).unwrap_or(usize::MAX).saturating_add(1);
        if series.values.len() == full {
            series.values.pop();
        }
        let have = u64::try_from(series.values.len()).unwrap_or(u64::MAX);
        let Some(missing) = slot.checked_sub(have) else {
            let what = format!("t_s of `{}` goes back", shown(table.text(0)));
            return Err(table.error(what, "give the rows of a machine in order of time"));
        };
        collected.count(table.lines(), missing.saturating_add(1))?;
        let values = &mut collected.series[index].values;
        let last = values.last().copied().unwrap_or(BasisPoints::ZERO);
        values.extend((0..missing).map(|_| last));
        values.push(value);
    }
    collected.finish(table.lines())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples::{LoadShape, lines, sample, shared};

    fn read(text: &str, format: Format) -> Result<Vec<OwnerLoad>, TraceError> {
        loads_from(lines(text), format, Resource::Cpu)
    }

    fn points(series: &LoadSeries) -> Vec<u16> {
        series.values.iter().map(|value| value.get()).collect()
    }

    #[test]
    fn missing_samples_repeat_the_one_before() {
        let text = "container,0,57,114,171\na,,12.345,,-0.01\n,100.2,0,1e-1,\n";
        let wide = read(text, Format::WidePercent).unwrap();
        assert_eq!(points(&wide[0].cpu), [0, 1_235, 1_235, 0]);
        assert_eq!(points(&wide[1].cpu), [10_000, 0, 10, 10]);
        assert_eq!((wide[1].name.as_ref(), wide[1].cpu.step), ("line-3", Span::seconds(57)));
        let header = "vm,t_s,duration_s,cpu_count,cpu_usage_mhz\n";
        let rows = "1,300,300,2,9\n1,301,1,2,2926\n2,0,300,1,9999\n1,1200,900,0,0\n";
        let vms = read(&format!("{header}{rows}"), Format::Bitbrains).unwrap();
        assert_eq!(points(&vms[0].cpu), [0, 5_000, 5_000, 5_000, 0]);
        assert_eq!(points(&vms[1].cpu), [10_000]);
        let text = "time_s,node,gpu_percent,cpu_percent\n60,a,1,\n0,b,2,3\n180,a,,50\n";
        let long = read(text, Format::Long).unwrap();
        assert_eq!(points(&long[0].gpu), [0, 100, 100, 100]);
        assert_eq!(points(&long[0].cpu), [0, 0, 0, 5_000]);
        assert_eq!(points(&long[1].cpu), [300; 4]);
        assert_eq!(long[0].cpu.step, Span::seconds(60));
    }

    #[test]
    fn series_that_cannot_be_are_refused() {
        for (format, text, why) in [
            (Format::Planetlab, "", "t: the file has no rows"),
            (Format::Planetlab, "a,1,2\nb,1\n", "t:2: 2 fields instead of 3"),
            (Format::Planetlab, "a,1\na,1\n", "t:2: the machine `a` stands there twice"),
            (Format::Planetlab, "a,106\n", "t:1: utilisation `106` is outside"),
            (Format::Planetlab, "a,inf\n", "t:1: column value is `inf`"),
            (Format::WidePercent, "n,0,60,121\n", "t:1: the seconds of the header are not"),
            (Format::WidePercent, "n,60,120\n", "t:1: the header does not begin at 0"),
            (Format::WideFraction, "n,0,60\na,0,40\n", "t:2: utilisation `40` is outside"),
            (Format::Long, "time_s,node\n5,a\n5,a\n", "t:3: time_s of `a` does not grow"),
            (Format::Long, "time_s,node\n0.001,a\n9e9,b\n", "t:3: 2 machines with"),
        ] {
            let error = read(text, format).unwrap_err().to_string();
            assert!(error.starts_with(why), "{text:?}: {error}");
        }
        let back = "vm,t_s,duration_s,cpu_count,cpu_usage_mhz\n1,600,300,1,1\n1,299,300,1,1\n";
        assert!(read(back, Format::Bitbrains).unwrap_err().what.contains("goes back"));
        let far = "vm,t_s,duration_s,cpu_count,cpu_usage_mhz\n1,99999999999,300,1,1\n";
        assert!(read(far, Format::Bitbrains).unwrap_err().what.contains("samples"));
    }

    #[test]
    fn the_layout_is_told_by_the_first_lines() {
        for (text, format) in [
            ("vm,t_s,duration_s,cpu_count,cpu_usage_mhz\n", Format::Bitbrains),
            ("node,time_s,cpu_percent\n", Format::Long),
            ("a,0,12,7\n", Format::Planetlab),
            ("x,0,57,114\na,0.1,0.99,1\n", Format::WideFraction),
            ("x,0,57,114\na,0.1,20,1\n", Format::WidePercent),
        ] {
            assert_eq!(detect_from(lines(text)), Ok(format), "{text}");
        }
        assert!(detect_from(lines("a,b,c\n")).is_err());
    }

    #[test]
    fn planetlab_files_have_the_published_shape() {
        let made = loads(&sample("planetlab_like.csv"), Format::Planetlab, Resource::Cpu).unwrap();
        assert_eq!((made.len(), made[0].cpu.values.len()), (50, 288));
        let mut days = Vec::new();
        for day in ["0303", "0306", "0309", "0322", "0325", "0411", "0412", "0420"] {
            let Some(path) = shared(&format!("planetlab/2011{day}.csv.gz")) else { return };
            assert_eq!(detect(&path), Ok(Format::Planetlab));
            days.extend(loads(&path, Format::Planetlab, Resource::Cpu).unwrap());
        }
        let shape = LoadShape::of(days.iter().map(|load| &load.cpu), 3_000);
        println!("planetlab: {} machine days, {shape:?}", days.len());
        assert_eq!(days.len(), 8_925);
        assert!((1_000..1_200).contains(&shape.mean) && shape.below > 8_500, "{shape:?}");
        assert!(shape.run_median <= 3 && (2_000..2_300).contains(&shape.run_mean), "{shape:?}");
    }

    #[test]
    fn serving_containers_have_the_published_shape() {
        let Some(path) = shared("genai/pod_gpu_duty_cycle_anon.wide.csv.gz") else { return };
        assert_eq!(detect(&path), Ok(Format::WidePercent));
        let pods = loads(&path, Format::WidePercent, Resource::Gpu).unwrap();
        let shape = LoadShape::of(pods.iter().map(|load| &load.gpu), 2_000);
        println!("genai gpu: {} containers, {shape:?}", pods.len());
        assert_eq!((pods.len(), pods[0].gpu.values.len()), (143, 1_441));
        assert!((500..800).contains(&shape.mean) && shape.zero > 6_500, "{shape:?}");
        let path = shared("genai/pod_memory_util_anon.wide.csv.gz").unwrap();
        assert_eq!(detect(&path), Ok(Format::WideFraction));
        assert_eq!(loads(&path, Format::WideFraction, Resource::Memory).unwrap().len(), 208);
        let path = shared("bitbrains/bitbrains_small_50vm.csv.gz").unwrap();
        assert_eq!(detect(&path), Ok(Format::Bitbrains));
        let vms = loads(&path, Format::Bitbrains, Resource::Cpu).unwrap();
        println!("bitbrains: {:?}", LoadShape::of(vms.iter().map(|load| &load.cpu), 3_000));
        assert_eq!(vms.len(), 50);
    }
}
