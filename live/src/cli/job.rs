//! Verbs about jobs.

use super::Asking;
use super::reserve::{self, ReserveVerb};
use super::run::{Here, alloc, attached, logs, wait};
use super::screen;
use clap::{Args, Subcommand};
use gridlive::client::types::{
    CheckpointRequest, GangRequest, JobRequest, LeastRequest, NeedsRequest, ResourceRequest,
    Submission, Word,
};
use gridlive::program::Program;
use std::process::ExitCode;
use std::time::Duration;

/// What a job needs and runs.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct JobArgs {
    /// Its name.
    #[arg(long)]
    name: Option<String>,
    /// Cores it needs; fractions are allowed.
    #[arg(long, short = 'c', default_value = "1")]
    cpus: String,
    /// Cores it can do with: the others are taken from it while somebody needs them.
    #[arg(long)]
    min_cpus: Option<String>,
    /// Memory it needs, in GiB.
    #[arg(long, short = 'm', default_value = "0")]
    memory: String,
    /// GPUs it needs.
    #[arg(long, short = 'g', default_value_t = 0)]
    gpus: u8,
    /// The part of each GPU that it needs, above 0 up to 1.
    #[arg(long, requires = "gpus")]
    gpu_share: Option<String>,
    /// Memory it needs on each GPU, in GiB.
    #[arg(long, requires = "gpus")]
    gpu_memory: Option<String>,
    /// GPU models it may run on, with commas, as `show NODE` names them.
    #[arg(long, value_delimiter = ',')]
    gpu_model: Vec<String>,
    /// How much it matters: low, medium, high, urgent, or 0 to 100.
    #[arg(long, short = 'p', default_value = "medium")]
    priority: String,
    /// Who pays [default: the first account].
    #[arg(long, short = 'A')]
    account: Option<String>,
    /// The pool [default: the first].
    #[arg(long)]
    pool: Option<String>,
    /// Longest run of an attempt, such as 30m.
    #[arg(long, short = 't')]
    limit: Option<String>,
    /// Work between two checkpoints, such as 10m: the most that an eviction loses.
    #[arg(long)]
    checkpoint: Option<String>,
    /// Time that a restart takes before work goes on, such as 30s.
    #[arg(long, requires = "checkpoint")]
    restart: Option<String>,
    /// Let it move to another node although it says no checkpoint.
    #[arg(long)]
    movable: bool,
    /// Not to start before then: a span from now such as 2h, or a time of the day such as 18:00.
    #[arg(long, value_name = "WHEN", conflicts_with = "now")]
    begin: Option<String>,
    /// Longest notice it asks for when its node's owner returns, such as 2m.
    #[arg(long)]
    vacate: Option<String>,
    /// Most credit it may cost, in ATP.
    #[arg(long)]
    budget: Option<String>,
    /// The highest price that it pays, as a multiple of the rates, such as 1.5.
    #[arg(long)]
    max_price: Option<String>,
    /// Nodes to take before any other, with commas.
    #[arg(long, short = 'n', value_delimiter = ',')]
    preferred_nodes: Vec<String>,
    /// Nodes never to take, with commas.
    #[arg(long, value_delimiter = ',')]
    excluded_nodes: Vec<String>,
    /// What it is, for those that want to be near it or away from it, with commas.
    #[arg(long, value_delimiter = ',')]
    tags: Vec<String>,
    /// Only where a job with each of these tags runs, with commas; one that carries a tag itself
    /// may begin where nothing does.
    #[arg(long, value_delimiter = ',')]
    affinity: Vec<String>,
    /// Only where no job with any of these tags runs, with commas.
    #[arg(long, value_delimiter = ',')]
    anti_affinity: Vec<String>,
    /// The node where its data lies, or the zone, for the strategy near_data.
    #[arg(long)]
    near: Option<String>,
    /// How many members start together.
    #[arg(long)]
    gang: Option<u16>,
    /// Jobs that must complete first: numbers and ranges with commas, such as 7,9-12.
    #[arg(long, value_delimiter = ',', conflicts_with = "now")]
    after: Vec<String>,
    /// Be refused when it cannot start at once.
    #[arg(long)]
    now: bool,
    /// A variable of its environment, NAME=VALUE, or NAME for this shell's value.
    #[arg(long, short = 'e')]
    env: Vec<String>,
    /// The folder it runs in, on its node [default: one of its own].
    #[arg(long)]
    cwd: Option<String>,
}

/// What a job runs.
#[derive(Clone, Debug, Args)]
pub(super) struct CommandArgs {
    /// What it runs, as it is: no shell reads it.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// The words of the earlier tools.
#[derive(Clone, Debug, Args)]
pub(super) struct SharedArgs {
    /// What it needs.
    #[arg(long, short = 'r', value_parser = ["cpu", "memory", "gpu"])]
    resource_type: String,
    /// How much: cores, GiB or GPUs.
    #[arg(long, short = 'a')]
    amount: String,
    /// How much it matters: low, medium, high, urgent, or 0 to 100.
    #[arg(long, short = 'p', default_value = "medium")]
    priority: String,
    /// Nodes to take before any other.
    #[arg(long, short = 'n', num_args = 1..)]
    preferred_nodes: Vec<String>,
}

impl SharedArgs {
    /// Returns the same as the API takes it.
    pub(super) fn request(&self, duration: String) -> anyhow::Result<ResourceRequest> {
        Ok(ResourceRequest {
            client: gridlive::clock::unique()? >> 1,
            number: 1,
            resource_type: self.resource_type.clone(),
            amount: self.amount.clone(),
            priority: Some(self.priority.clone()),
            duration,
            preferred_nodes: self.preferred_nodes.clone(),
            begin: None,
            reserve: false,
            account: None,
        })
    }

    fn job(&self) -> anyhow::Result<JobArgs> {
        let needs = self.request(String::new())?.needs().map_err(anyhow::Error::msg)?;
        Ok(JobArgs {
            priority: self.priority.clone(),
            cpus: needs.cpu_cores,
            memory: needs.memory_gb,
            gpus: needs.gpus,
            preferred_nodes: self.preferred_nodes.clone(),
            ..JobArgs::default()
        })
    }
}

/// Verbs about jobs.
#[derive(Debug, Subcommand)]
pub(super) enum JobVerb {
    /// Submit a job and print its number.
    Submit {
        #[command(flatten)]
        job: Box<JobArgs>,
        #[command(flatten)]
        command: CommandArgs,
        /// How many alike; each finds its place in `GRID_ARRAY_INDEX`, from 0.
        #[arg(long)]
        array: Option<u32>,
        #[command(flatten)]
        asking: Asking,
    },
    /// Submit a job as if it ran here: it reads what this command reads, and its output and exit
    /// code are this command's.
    Run {
        #[command(flatten)]
        job: Box<JobArgs>,
        /// Let it read nothing.
        #[arg(long)]
        no_stdin: bool,
        #[command(flatten)]
        command: CommandArgs,
        #[command(flatten)]
        asking: Asking,
    },
    /// Run a command on what is shared, in the words of the earlier tools; `--` before its options.
    RunShared {
        #[command(flatten)]
        shared: SharedArgs,
        /// Give up, with exit code 6, when it has not started after so many seconds.
        #[arg(long, short = 'w')]
        wait_time: Option<u64>,
        /// Its name.
        #[arg(long, short = 'j')]
        job_id: Option<String>,
        #[command(flatten)]
        command: CommandArgs,
        #[command(flatten)]
        asking: Asking,
    },
    /// Take capacity without running anything; prints the number of the allocation and its node.
    Alloc {
        #[command(flatten)]
        shared: SharedArgs,
        /// For how long, such as 30m.
        #[arg(long, short = 't')]
        time: String,
        /// Give up, with exit code 6, when it is not there after so many seconds.
        #[arg(long, short = 'w', default_value_t = 60)]
        wait_time: u64,
        #[command(flatten)]
        asking: Asking,
    },
    /// Give an allocation back.
    Dealloc {
        /// Its number.
        job: u64,
        #[command(flatten)]
        asking: Asking,
    },
    /// Keep capacity ahead: from a time on it is there, whatever else waits.
    Reserve {
        #[command(subcommand)]
        verb: ReserveVerb,
    },
    /// Say what would become of a job now: where it starts, who makes way, what it costs.
    Plan {
        #[command(flatten)]
        job: Box<JobArgs>,
        #[command(flatten)]
        asking: Asking,
    },
    /// Take jobs back, waiting or running.
    Cancel {
        /// Their numbers.
        #[arg(required = true)]
        jobs: Vec<u64>,
        #[command(flatten)]
        asking: Asking,
    },
    /// Keep a waiting job from starting.
    Hold {
        /// Its number.
        job: u64,
        #[command(flatten)]
        asking: Asking,
    },
    /// Let a held job start again.
    Release {
        /// Its number.
        job: u64,
        #[command(flatten)]
        asking: Asking,
    },
    /// End a job's running attempt within a notice, and let it wait again.
    Requeue {
        /// Its number.
        job: u64,
        #[command(flatten)]
        asking: Asking,
    },
    /// Stop a running job's processes until it is resumed; it keeps what it holds and pays for it.
    Suspend {
        /// Its number.
        job: u64,
        #[command(flatten)]
        asking: Asking,
    },
    /// Let a suspended job go on.
    Resume {
        /// Its number.
        job: u64,
        #[command(flatten)]
        asking: Asking,
    },
    /// Wait until jobs have ended; ends with 0 when all have completed.
    Wait {
        /// Their numbers.
        #[arg(required = true)]
        jobs: Vec<u64>,
        /// Give up after so many seconds, with exit code 6.
        #[arg(long)]
        timeout: Option<u64>,
        #[command(flatten)]
        asking: Asking,
    },
    /// Print what a job has printed.
    Logs {
        /// Its number.
        job: u64,
        /// Go on until it ends.
        #[arg(long, short)]
        follow: bool,
        /// What it has printed as errors.
        #[arg(long)]
        stderr: bool,
        /// Which attempt [default: the last].
        #[arg(long)]
        attempt: Option<u32>,
        #[command(flatten)]
        asking: Asking,
    },
}

impl JobArgs {
    /// Returns what the job needs.
    fn request(&self, array: Option<u32>) -> anyhow::Result<JobRequest> {
        let model = [("gpu_model".to_owned(), self.gpu_model.clone())];
        let labels = model.into_iter().filter(|(_, models)| !models.is_empty()).collect();
        Ok(JobRequest {
            array,
            account: self.account.clone(),
            pool: self.pool.clone(),
            priority: Some(self.priority.clone()),
            needs: NeedsRequest {
                cpu_cores: self.cpus.clone(),
                memory_gb: self.memory.clone(),
                gpus: self.gpus,
                gpu_share: self.gpu_share.clone(),
                gpu_memory_gb: self.gpu_memory.clone(),
            },
            min: self.min_cpus.clone().map(|cpu_cores| LeastRequest { cpu_cores }),
            limit: self.limit.clone(),
            checkpoint: self
                .checkpoint
                .clone()
                .map(|interval| CheckpointRequest { interval, restart: self.restart.clone() }),
            movable: self.movable,
            begin: self.begin.as_deref().map(from_now).transpose()?,
            labels,
            preferred_nodes: self.preferred_nodes.clone(),
            excluded_nodes: self.excluded_nodes.clone(),
            tags: self.tags.clone(),
            affinity: self.affinity.clone(),
            anti_affinity: self.anti_affinity.clone(),
            near: self.near.clone(),
            gang: self.gang.map(|count| GangRequest { count }),
            budget_atp: self.budget.clone(),
            max_price: self.max_price.clone(),
            vacate_seconds: self.vacate.clone(),
            if_busy: self.now.then(|| "refuse".to_owned()),
            after: numbers(&self.after)?,
            ..JobRequest::default()
        })
    }

    /// Returns what is submitted.
    pub(super) fn submission(
        &self,
        array: Option<u32>,
        command: &[String],
        input: bool,
    ) -> anyhow::Result<Submission> {
        let mut env = Vec::new();
        for variable in &self.env {
            let (name, value) = match variable.split_once('=') {
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => {
                    let value = std::env::var(variable);
                    let value = value.map_err(|_| anyhow::anyhow!("{variable} is not set here"))?;
                    (variable.clone(), value)
                }
            };
            env.push((name, value));
        }
        let default = || command.first().map(|c| c.rsplit('/').next().unwrap_or(c).to_owned());
        let name = self.name.clone().or_else(default).unwrap_or_default();
        let (command, cwd) = (command.to_vec(), self.cwd.clone());
        let program = Program { name, command, env, cwd, input, ..Program::default() };
        // One command line is one client: asked again, it is answered again.
        let client = gridlive::clock::unique()? >> 1;
        Ok(Submission { client, number: 1, job: self.request(array)?, program })
    }
}

/// Runs a verb.
pub(super) async fn run(verb: JobVerb) -> anyhow::Result<ExitCode> {
    match verb {
        JobVerb::Submit { job, command, array, asking } => {
            submitted(&job, array, &command.command, &asking).await
        }
        JobVerb::Run { job, no_stdin, command, asking } => {
            let here = Here { wait: None, reads: !no_stdin && super::input::is_there() };
            attached(&asking.client()?, &job, &command.command, here).await
        }
        JobVerb::RunShared { shared, wait_time, job_id, command, asking } => {
            let job = JobArgs { name: job_id, ..shared.job()? };
            let here = Here { wait: wait_time, reads: super::input::is_there() };
            attached(&asking.client()?, &job, &command.command, here).await
        }
        JobVerb::Alloc { shared, time, wait_time, asking } => {
            alloc(&asking, &shared.request(time)?, wait_time).await
        }
        JobVerb::Dealloc { job, asking } => {
            asking.client()?.release_resources(job).await?;
            Ok(ExitCode::SUCCESS)
        }
        JobVerb::Reserve { verb } => reserve::run(verb).await,
        JobVerb::Plan { job, asking } => {
            let keys = serde_json::to_value(job.request(None)?)?;
            super::show::print(&asking, &asking.client()?.post("/v1/plan", &keys).await?);
            Ok(ExitCode::SUCCESS)
        }
        JobVerb::Cancel { jobs, asking } => {
            let client = asking.client()?;
            for job in jobs {
                client.cancel(job).await?;
            }
            Ok(ExitCode::SUCCESS)
        }
        JobVerb::Hold { job, asking } => tell(&asking, job, Word::Hold).await,
        JobVerb::Release { job, asking } => tell(&asking, job, Word::Release).await,
        JobVerb::Requeue { job, asking } => tell(&asking, job, Word::Requeue).await,
        JobVerb::Suspend { job, asking } => tell(&asking, job, Word::Suspend).await,
        JobVerb::Resume { job, asking } => tell(&asking, job, Word::Resume).await,
        JobVerb::Wait { jobs, timeout, asking } => {
            let client = asking.client()?;
            let waited = wait(&client, &jobs, asking.json);
            match timeout {
                None => waited.await,
                Some(seconds) => {
                    match tokio::time::timeout(Duration::from_secs(seconds), waited).await {
                        Ok(code) => code,
                        Err(_) => {
                            eprintln!("error: not all have ended after {seconds} s");
                            Ok(ExitCode::from(6))
                        }
                    }
                }
            }
        }
        JobVerb::Logs { job, follow, stderr, attempt, asking } => {
            let attempt = attempt.map(|n| format!("&attempt={n}")).unwrap_or_default();
            let path = format!("/v1/jobs/{job}/log?errors={stderr}{attempt}");
            logs(&asking.client()?, &path, follow, stderr).await
        }
    }
}

/// Returns a time of the day, or a span from now, as a span from now.
pub(super) fn from_now(when: &str) -> anyhow::Result<String> {
    if !when.contains(':') {
        return Ok(when.to_owned());
    }
    let seconds = gridlive::clock::seconds_until(when).map_err(anyhow::Error::msg)?;
    Ok(format!("{seconds}s"))
}

/// Says one word about a job.
async fn tell(asking: &Asking, job: u64, word: Word) -> anyhow::Result<ExitCode> {
    asking.client()?.tell(job, word).await?;
    Ok(ExitCode::SUCCESS)
}

/// Returns every number of a list of numbers and ranges.
fn numbers(parts: &[String]) -> anyhow::Result<Vec<String>> {
    let mut out = Vec::new();
    for part in parts {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = first.parse::<u64>().ok().zip(last.parse::<u64>().ok());
        let wrong = || anyhow::anyhow!("--after {part:?}: give numbers of jobs, such as 7,9-12");
        let (first, last) = range.filter(|(first, last)| first <= last).ok_or_else(wrong)?;
        anyhow::ensure!(last - first < 1_024, "--after {part}: at most 1,024 jobs");
        out.extend((first..=last).map(|job| job.to_string()));
    }
    Ok(out)
}

/// Submits and prints the numbers.
async fn submitted(
    job: &JobArgs,
    array: Option<u32>,
    command: &[String],
    asking: &Asking,
) -> anyhow::Result<ExitCode> {
    let submission = job.submission(array, command, false)?;
    let answer = asking.client()?.submit(&submission).await?;
    if asking.json {
        println!("{}", screen::json(&serde_json::to_value(&answer)?));
    } else {
        match answer.jobs.as_slice() {
            [one] => println!("{one}"),
            [first, .., last] => println!("{first}-{last}"),
            [] => {}
        }
    }
    match answer.refused {
        Some(why) => anyhow::bail!("not all were accepted: {why}"),
        None => Ok(ExitCode::SUCCESS),
    }
}
