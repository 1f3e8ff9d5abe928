//! Jobs in the foreground: followed, waited for, run as if they were here.

use super::Asking;
use super::input::feed;
use super::job::JobArgs;
use super::screen::{self, Stream};
use super::show::line_of;
use gridcore::units::Span;
use gridlive::client::Client;
use gridlive::client::types::{Job, ResourceRequest};
use gridlive::clock::since_boot;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Prints what a job has printed.
pub(super) async fn logs(
    client: &Client,
    path: &str,
    follow: bool,
    errors: bool,
) -> anyhow::Result<ExitCode> {
    let (mut from, mut to) = (0, Stream::new(errors));
    loop {
        let part = client.log(&format!("{path}&from={from}")).await?;
        from += part.bytes.len() as u64;
        to.print(&part.bytes)?;
        if part.over || (!follow && part.bytes.is_empty()) {
            to.finish()?;
            return Ok(ExitCode::SUCCESS);
        }
        if part.bytes.is_empty() {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

pub(super) async fn wait(client: &Client, jobs: &[u64], as_json: bool) -> anyhow::Result<ExitCode> {
    let mut all = true;
    for job in jobs {
        let found = client.wait(*job).await?;
        all &= found.state == "completed";
        if as_json {
            println!("{}", screen::json(&serde_json::to_value(&found)?));
        } else {
            println!("{}", line_of(&found));
        }
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Submits one job; returns its number.
async fn submit_one(
    client: &Client,
    job: &JobArgs,
    command: &[String],
    input: bool,
) -> anyhow::Result<u64> {
    let answer = client.submit(&job.submission(None, command, input)?).await?;
    answer.jobs.first().copied().ok_or_else(|| anyhow::anyhow!("no number came back"))
}

/// Takes capacity and waits until it is there.
pub(super) async fn alloc(
    asking: &Asking,
    request: &ResourceRequest,
    seconds: u64,
) -> anyhow::Result<ExitCode> {
    let client = asking.client()?;
    let number = client.request_resources(request).await?.allocation;
    let until = since_boot().after(Span::seconds(seconds));
    loop {
        let found = client.job(number).await?;
        if found.state == "running" {
            if asking.json {
                println!("{}", screen::json(&serde_json::to_value(&found)?));
            } else {
                println!("{number} {}", screen::escaped(&found.nodes.join(", ")));
            }
            return Ok(ExitCode::SUCCESS);
        }
        if found.finished.is_some() {
            anyhow::bail!("allocation {number} is {}", found.state);
        }
        if since_boot() >= until {
            return give_up(&client, number, seconds).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Takes a job back that has not started in time.
async fn give_up(client: &Client, job: u64, seconds: u64) -> anyhow::Result<ExitCode> {
    client.cancel(job).await?;
    eprintln!("error: job {job} has not started after {seconds} s; it is cancelled");
    Ok(ExitCode::from(6))
}

/// How a job is run as if it were here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Here {
    /// Taken back when it has not started within so many seconds.
    pub(super) wait: Option<u64>,
    /// Whether it reads what this command reads.
    pub(super) reads: bool,
}

/// Runs a job as if it were here.
pub(super) async fn attached(
    client: &Client,
    args: &JobArgs,
    command: &[String],
    here: Here,
) -> anyhow::Result<ExitCode> {
    let job = submit_one(client, args, command, here.reads).await?;
    let began = since_boot();
    let mut streams = [false, true].map(|errors| (errors, 0, Stream::new(errors)));
    let mut interrupted = false;
    let (attempt, attempts) = watch::channel(0);
    let mut feeding = here.reads.then(|| tokio::spawn(feed(client.clone(), job, attempts)));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut ended = std::pin::pin!(client.wait(job));
    let mut has_ended = false;
    // Its end is told at once; what it prints until then is looked for, less and less often.
    let mut rest = Duration::from_millis(20);
    loop {
        let found = client.job(job).await?;
        let over = found.finished.is_some();
        let started = found.attempts > 0;
        attempt.send_replace(found.attempts);
        for (errors, from, to) in &mut streams {
            if started {
                copy(client, job, (*errors, from, to)).await?;
            }
        }
        if over {
            for (_, _, to) in streams {
                to.finish()?;
            }
            return Ok(code_of(&found));
        }
        let late = |seconds: &u64| !started && since_boot() >= began.after(Span::seconds(*seconds));
        if let Some(seconds) = here.wait.filter(late) {
            return give_up(client, job, seconds).await;
        }
        tokio::select! {
            _ = &mut ended, if !has_ended => has_ended = true,
            () = tokio::time::sleep(rest) => rest = (rest * 2).min(Duration::from_millis(100)),
            fed = async { feeding.as_mut()?.await.ok() }, if feeding.is_some() => {
                feeding = None;
                if let Some(Err(lost)) = fed {
                    client.cancel(job).await?;
                    eprintln!("gridlive: job {job} is cancelled: {lost}");
                }
            }
            _ = terminate.recv() => end(client, job).await,
            _ = hang_up.recv() => end(client, job).await,
            _ = tokio::signal::ctrl_c() => {
                if interrupted {
                    end(client, job).await;
                } else {
                    eprintln!("gridlive: job {job} goes on; Ctrl-C again cancels it");
                }
                interrupted = true;
            }
        }
    }
}

/// Takes a job back because somebody ends this command; it is followed until it has left.
async fn end(client: &Client, job: u64) {
    match client.cancel(job).await {
        Ok(_) => eprintln!("gridlive: job {job} is cancelled"),
        Err(error) => eprintln!("gridlive: job {job} could not be cancelled: {error}"),
    }
}

/// Prints what a job has printed since.
async fn copy(
    client: &Client,
    job: u64,
    (errors, from, to): (bool, &mut u64, &mut Stream),
) -> anyhow::Result<()> {
    loop {
        let path = format!("/v1/jobs/{job}/log?errors={errors}&from={from}");
        let Ok(part) = client.log(&path).await else { return Ok(()) };
        *from += part.bytes.len() as u64;
        to.print(&part.bytes)?;
        if part.bytes.is_empty() {
            return Ok(());
        }
    }
}

/// Returns the exit code of a job that has ended: its own, 128 and its signal, or 125.
fn code_of(found: &Job) -> ExitCode {
    let byte = |n: i32| u8::try_from(n & 0xff).unwrap_or(125);
    let own = matches!(found.state.as_str(), "completed" | "failed");
    let code = match (found.exit_code, found.signal) {
        (Some(code), _) if own => byte(code),
        (_, Some(signal)) if own => byte(128 + signal),
        _ => {
            eprintln!("gridlive: the job is {}", found.state);
            125
        }
    };
    let _ = std::io::stdout().flush();
    ExitCode::from(code)
}
