//! The samples under `scenarios/data/`, all made here, and where tests find them.
//!
//! `UPDATE=1 cargo nextest run -p gridsim the_committed_samples` writes them anew.

use super::faults::write_faults;
use super::read::Lines;
use crate::decimal::{Decimal, Seconds};
use crate::generate::faults::{FaultProcess, Lasting, faults};
use crate::generate::load::{LoadGenerator, SeriesGenerator};
use crate::rng::{Stream, stream};
use crate::work::LoadSeries;
use gridcore::units::Span;
use std::fmt::Write;
use std::io::Cursor;
use std::path::PathBuf;

/// Returns the path of a committed sample.
pub(crate) fn sample(name: &str) -> PathBuf {
    PathBuf::from("../scenarios/data").join(name)
}

/// Returns the path of a published trace, where the traces lie beside the workspace.
pub(crate) fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from("../../shared/traces").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("{} is absent: only the committed sample is tested", path.display());
    None
}

/// Returns the lines of a text called `t`.
pub(crate) fn lines(text: &str) -> Lines {
    Lines::from_reader("t", Cursor::new(text.to_owned())).unwrap()
}

/// Figures of many load series, in basis points unless said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LoadShape {
    /// Mean utilisation.
    pub(crate) mean: u64,
    /// Share of samples that are exactly 0.
    pub(crate) zero: u64,
    /// Share of samples below the limit.
    pub(crate) below: u64,
    /// Median length of the runs of samples below the limit, in samples.
    pub(crate) run_median: u64,
    /// Mean length of the runs, in hundredths of a sample.
    pub(crate) run_mean: u64,
}

impl LoadShape {
    pub(crate) fn of<'a>(all: impl Iterator<Item = &'a LoadSeries>, limit: u16) -> Self {
        let (mut samples, mut sum, mut zero, mut below) = (0_u64, 0_u64, 0_u64, 0_u64);
        let mut runs = Vec::new();
        for series in all {
            let mut run = 0_u64;
            for value in &series.values {
                samples += 1;
                sum += u64::from(value.get());
                zero += u64::from(value.is_zero());
                if value.get() < limit {
                    below += 1;
                    run += 1;
                } else if run > 0 {
                    runs.push(core::mem::take(&mut run));
                }
            }
            if run > 0 {
                runs.push(run);
            }
        }
        runs.sort_unstable();
        let count = runs.len() as u64;
        Self {
            mean: sum / samples,
            zero: zero * 10_000 / samples,
            below: below * 10_000 / samples,
            run_median: runs[runs.len() / 2],
            run_mean: runs.iter().sum::<u64>() * 100 / count,
        }
    }
}

/// Draws one of several.
fn pick<T: Copy>(random: &mut Stream, of: &[T]) -> T {
    of[usize::try_from(random.below(of.len() as u64)).unwrap()]
}

fn openb_nodes() -> String {
    let mut out = "sn,cpu_milli,memory_mib,gpu,model\n".to_owned();
    let kinds =
        [(8, "T4", 96, 384), (2, "P100", 64, 256), (8, "V100M32", 96, 768), (0, "", 64, 256)];
    for (number, (gpus, model, cores, gib)) in (0..40).zip(kinds.iter().cycle()) {
        let (milli, mib) = (cores * 1_000, gib * 1_024);
        writeln!(out, "sample-node-{number:04},{milli},{mib},{gpus},{model}").unwrap();
    }
    out
}

fn openb_tasks() -> String {
    let mut random = stream(2023, "sample-openb", 0);
    let mut out = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,\
                   creation_time,deletion_time,scheduled_time\n"
        .to_owned();
    for number in 0..200 {
        let (gpus, milli) = match random.below(40) {
            0..=9 => (0, 0),
            10..=24 => (1, 50 * (1 + random.below(19))),
            25..=34 => (1, 1_000),
            35..=38 => (2, 1_000),
            _ => (8, 1_000),
        };
        let cores = (2 + random.below(6)) * gpus.max(1);
        let spec = if gpus == 1 && random.below(5) == 0 { "T4|P100" } else { "" };
        let qos = pick(&mut random, &["LS", "LS", "BE", "BE", "Burstable", "Guaranteed"]);
        let (created, waited) = (number * 300 + random.below(300), random.below(60));
        let deleted = created + waited + 60 + random.below(40_000);
        let never = random.below(10) == 0;
        let scheduled = if never { String::new() } else { (created + waited).to_string() };
        let phase = if never { "Pending" } else { "Running" };
        writeln!(
            out,
            "sample-task-{number:04},{},{},{gpus},{milli},{spec},{qos},{phase},{created},\
             {deleted},{scheduled}",
            cores * 1_000,
            cores * 4_096
        )
        .unwrap();
    }
    out
}

fn small_swf() -> String {
    let mut random = stream(1996, "sample-swf", 0);
    let mut out = "; A made log of 200 jobs on 64 processors, not a measured one.\n\
                   ; Version: 2.2\n; MaxProcs: 64\n"
        .to_owned();
    let mut submit = 0;
    for number in 1..=200 {
        submit += random.below(900);
        let processors = 1_u64 << random.below(7);
        let run = if random.below(40) == 0 { 0 } else { 10 + random.below(7_200) };
        let requested = 600 * (1 + random.below(15));
        let user = 1 + random.below(9);
        writeln!(
            out,
            "{number} {submit} -1 {run} {processors} -1 -1 {processors} {requested} -1 1 {user} \
             -1 -1 -1 -1 -1 -1"
        )
        .unwrap();
    }
    out
}

fn philly() -> String {
    let mut random = stream(2017, "sample-philly", 0);
    let mut out = "timestamp,duration,num_gpus,gpu_time,cluster\n".to_owned();
    for _ in 0..200 {
        let gpus = pick(&mut random, &[1, 1, 1, 1, 1, 1, 2, 4, 8, 16]);
        let (day, hour) = (1 + random.below(7), random.below(24));
        let (minute, second) = (random.below(60), random.below(60));
        let scale = 5 + random.below(12);
        let duration = 30 + random.below(1 << scale);
        let cluster = pick(&mut random, &["vc-a", "vc-b", "vc-c"]);
        writeln!(
            out,
            "2017-10-{day:02} {hour:02}:{minute:02}:{second:02},{duration}.0,{gpus},{}.0,{cluster}",
            duration * gpus
        )
        .unwrap();
    }
    out
}

fn planetlab_wide() -> String {
    let mut out = String::new();
    let generator =
        LoadGenerator { cpu: Some(SeriesGenerator::PlanetlabLike), ..LoadGenerator::default() };
    for machine in 0..50 {
        let load = generator.load(2011, machine, Span::minutes(24 * 60)).unwrap();
        write!(out, "sample-vm-{machine:02}").unwrap();
        for value in &load.cpu.values {
            write!(out, ",{}", value.get() / 100).unwrap();
        }
        out.push('\n');
    }
    out
}

fn fault_trace() -> String {
    let names: Vec<Box<str>> = (1..=10).map(|i| format!("node-{i:02}").into()).collect();
    let process = FaultProcess {
        up: Lasting::Weibull {
            scale: Seconds(Span::minutes(24 * 60)),
            shape: Decimal::from_millionths(800_000),
        },
        repair: Lasting::Lognormal { median: Seconds(Span::minutes(30)), sigma: Decimal::whole(1) },
    };
    let made = faults(&process, 7, 10, Span::minutes(7 * 24 * 60)).unwrap();
    let mut out = Vec::new();
    write_faults(&made, &names, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_committed_samples_are_what_their_makers_write() {
    for (name, text) in [
        ("openb_nodes.csv", openb_nodes()),
        ("openb_tasks.csv", openb_tasks()),
        ("small.swf", small_swf()),
        ("philly.csv", philly()),
        ("planetlab_like.csv", planetlab_wide()),
        ("faults.csv", fault_trace()),
    ] {
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(sample("")).unwrap();
            std::fs::write(sample(name), &text).unwrap();
        }
        let committed = std::fs::read_to_string(sample(name)).unwrap_or_default();
        assert!(committed == text, "{name} differs from its maker: rerun with UPDATE=1");
    }
}

/// Feeds every reader broken and random bytes: an error is fine, a panic is not.
#[test]
fn no_bytes_make_a_reader_panic() {
    let seeds = [openb_nodes(), openb_tasks(), small_swf(), philly(), fault_trace()];
    let wide = format!("m{}\n", ",7".repeat(288));
    let more = [
        "vm,t_s,duration_s,cpu_count,cpu_usage_mhz\n1,0,300,1,9\n1,900,600,1,7\n",
        "container,0,57,114\na,1,,2.5\n",
        "time_s,node,cpu_percent,memory_percent,gpu_percent\n0,a,1,2,3\n60,a,1,2,3\n",
        "submit_s,run_s,gpus,gpu_share,members\n0,1,1,0.5,2\n",
        wide.as_str(),
    ];
    let mut random = stream(5, "noise", 0);
    let texts: Vec<&str> = seeds.iter().map(String::as_str).chain(more).collect();
    for round in 0..3_000 {
        let text = texts[round % texts.len()].as_bytes();
        let mut bytes = text[..text.len().min(600)].to_vec();
        for _ in 0..random.below(12) {
            let place = usize::try_from(random.below(bytes.len() as u64)).unwrap();
            match random.below(4) {
                0 => bytes[place] = random.bits().to_le_bytes()[0],
                1 => bytes[place] = pick(&mut random, b"0123456789,.-e\n\"|"),
                2 => bytes.truncate(place + 1),
                _ => bytes.insert(place, pick(&mut random, b"9,-\n")),
            }
        }
        read_all(&bytes);
    }
    read_all(b"");
    read_all(b"\n\n");
}

fn read_all(bytes: &[u8]) {
    use super::{faults, openb, philly, series, swf, table};
    let lines = || Lines::from_reader("noise", Cursor::new(bytes.to_vec()));
    let Ok(_) = lines() else { return };
    let open = || lines().unwrap();
    let _ = openb::nodes_from(open());
    let _ = openb::tasks_from(open(), &openb::QosPriorities::default());
    let _ = swf::jobs_from(open(), 100);
    let _ = philly::jobs_from(open(), &philly::Shape::default());
    let _ = table::jobs_from(open());
    let _ = faults::faults_from(open(), &["node-01".into()]);
    for format in series::Format::ALL {
        let _ = series::loads_from(open(), format, series::Resource::Gpu);
    }
    let _ = series::detect_from(open());
}
