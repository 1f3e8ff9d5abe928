//! `import` and `generate`: traces to and from scenario files.

use super::{ScenarioArgs, show};
use crate::output::Staging;
use crate::scenario::build::build;
use crate::scenario::schema::TraceFormat;
use crate::trace::{Imported, openb, philly, swf, table};
use crate::work::Workload;
use anyhow::Context as _;
use clap::Args;
use std::path::{Path, PathBuf};

/// Options of `import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The format of the trace.
    #[arg(value_enum)]
    format: TraceFormat,
    /// Its file; for openb first the nodes, then the tasks.
    #[arg(required = true, num_args = 1..=2)]
    files: Vec<PathBuf>,
    /// The scenario file to write; the jobs go beside it as NAME.jobs.csv.
    #[arg(long)]
    out: PathBuf,
    /// Processors of the machine that an swf log was taken from.
    #[arg(long, required_if_eq("format", "swf"))]
    processors: Option<u32>,
}

/// Options of `generate`.
#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// Seed of all random streams.
    #[arg(long)]
    seed: Option<u64>,
    /// The CSV file to write.
    #[arg(long)]
    out: PathBuf,
}

/// Reads a trace and writes a scenario with its jobs as CSV.
pub(super) fn import(args: &ImportArgs) -> anyhow::Result<()> {
    let first = args.files.first().context("give the file of the trace")?;
    let second = args.files.get(1);
    let (imported, nodes) = match args.format {
        TraceFormat::Openb => {
            let tasks = second.context("openb has two files: NODES TASKS")?;
            let nodes = openb::nodes(first)?;
            let qos = openb::QosPriorities::default();
            (openb::tasks(tasks, &qos)?, nodes.iter().map(node_yaml).collect())
        }
        TraceFormat::Swf => {
            let processors = args.processors.context("an swf log needs --processors")?;
            (swf::jobs(first, processors)?, machine_yaml(processors))
        }
        TraceFormat::Philly => (philly::jobs(first, &philly::Shape::default())?, philly_yaml()),
        TraceFormat::Csv => (table::jobs(first)?, String::new()),
    };
    anyhow::ensure!(
        args.format == TraceFormat::Openb || second.is_none(),
        "this format has one file"
    );
    let stem = args.out.file_stem().and_then(|s| s.to_str()).unwrap_or("imported");
    let jobs = format!("{stem}.jobs.csv");
    let yaml = scenario_yaml(stem, &jobs, &nodes);
    let folder = args.out.parent().filter(|p| !p.as_os_str().is_empty());
    let mut staging = Staging::begin(folder.unwrap_or(Path::new(".")))?;
    staging.write(&jobs, |out| table::write_jobs(&imported.workload, out))?;
    let file = args.out.file_name().and_then(|s| s.to_str()).context("give a file with --out")?;
    staging.write(file, |out| out.write_all(yaml.as_bytes()))?;
    staging.finish()?;
    report(&imported);
    show::line(&format!("scenario: {}", args.out.display()));
    Ok(())
}

/// Prints what was kept, mapped and dropped.
fn report(imported: &Imported) {
    let mut rows = vec![vec!["kept".to_owned(), "jobs".to_owned(), imported.kept.to_string()]];
    let lists = [("mapped", &imported.mapped), ("dropped", &imported.dropped)];
    for (kind, list) in lists {
        for (what, count) in list {
            rows.push(vec![kind.to_owned(), (*what).to_owned(), count.to_string()]);
        }
    }
    show::table(&["", "what", "count"], &rows);
}

/// Writes a scenario around a list of jobs.
fn scenario_yaml(name: &str, jobs: &str, nodes: &str) -> String {
    let nodes = if nodes.is_empty() {
        "- { name: node, count: 100, cores: 32, memory_gb: 128, gpus: 4, gpu_memory_gb: 24, \
         owner_use: none }\n"
            .to_owned()
    } else {
        nodes.to_owned()
    };
    format!(
        "name: {name}\nabout: Imported; change nodes and rules to what you want to know.\n\
         atp: {{ enabled: false }}\njobs:\n  trace: {{ format: csv, files: {{ jobs: {jobs} }} }}\n\
         nodes:\n{nodes}"
    )
}

/// Describes a node of a trace.
fn node_yaml(node: &crate::work::NodeRecord) -> String {
    let needs = node.capacity;
    format!(
        "- {{ name: {}, cores: {}.{:03}, memory_gb: {}, gpus: {}, gpu_model: \"{}\", \
         owner_use: none }}\n",
        node.name,
        needs.cpu.get() / 1_000,
        needs.cpu.get() % 1_000,
        needs.memory.get() >> 30,
        needs.gpus.count,
        node.gpu_model
    )
}

/// Describes the machine of an swf log: one node, a core per processor.
fn machine_yaml(processors: u32) -> String {
    format!("- {{ name: machine, cores: {processors}, memory_gb: 1, owner_use: none }}\n")
}

/// Describes a cluster like Philly's.
fn philly_yaml() -> String {
    "- { name: box, count: 250, cores: 48, memory_gb: 256, gpus: 8, gpu_memory_gb: 24, \
     owner_use: none }\n- { name: small, count: 100, cores: 16, memory_gb: 64, gpus: 2, \
     gpu_memory_gb: 24, owner_use: none }\n"
        .to_owned()
}

/// Writes the jobs of a scenario as CSV.
pub(super) fn generate(args: &GenerateArgs) -> anyhow::Result<()> {
    let loaded = args.scenario.load()?;
    let seed = args.seed.unwrap_or(loaded.scenario.seed);
    let setup = build(&loaded, seed)?;
    let names = setup.config.accounts.iter().map(|a| a.name.as_str().into()).collect();
    let index = |account: u32| {
        let id = usize::try_from(account).ok().and_then(|i| setup.job_accounts.get(i));
        id.map_or(0, |id| id.get())
    };
    let jobs: Vec<_> = setup
        .jobs
        .map(|job| crate::work::JobRecord { account: index(job.account), ..job })
        .collect();
    let workload = Workload { accounts: names, jobs };
    let count = workload.jobs.len();
    let folder = args.out.parent().filter(|p| !p.as_os_str().is_empty());
    let file = args.out.file_name().and_then(|s| s.to_str()).context("give a file with --out")?;
    let mut staging = Staging::begin(folder.unwrap_or(Path::new(".")))?;
    staging.write(file, |out| table::write_jobs(&workload, out))?;
    staging.finish()?;
    show::line(&format!("{count} jobs: {}", args.out.display()));
    Ok(())
}
