//! Jobs: looked at, taken back, read. How they are submitted stands beside.

use super::{Answered, Operation, Shared, Wrong, bad, forbidden, node_named, not_found, submit};
use crate::daemon::access::Who;
use crate::daemon::history::{Happening, History};
use crate::daemon::nodes::{Line, Told};
use crate::daemon::views;
use crate::frame::{DATA_MAX, Down};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, get, on, post};
use axum::{Extension, Json};
use gridcore::command::{Command, Request as Asked};
use gridcore::grid::Grid;
use gridcore::ids::{AccountId, Epoch, JobId};
use serde::Deserialize;
use serde_json::json;

/// Jobs that are listed when nobody says how many.
pub(super) const LISTED: usize = 1_000;

/// The operations.
pub(super) fn operations() -> Vec<Operation> {
    let list = "/v1/jobs";
    let job = "/v1/jobs/{job}";
    let mut all = words();
    all.extend([
        ("get", list, "get_scheduling_status", "Jobs that wait or run", get(queue)),
        (
            "post",
            list,
            "run_with_shared_resources",
            "Submit a job, or an array",
            post(submit::submit),
        ),
        ("post", "/v1/plan", "plan_job", "What would become of a job now", post(submit::plan)),
        ("get", "/v1/history", "get_history", "Jobs that have ended, newest first", get(past)),
        ("get", job, "get_job", "All about a job, and why it waits", get(show)),
        ("get", "/v1/jobs/{job}/wait", "wait_for_job", "Its end, or it after 30 s", get(wait)),
        ("get", "/v1/jobs/{job}/log", "read_log", "A part of what it printed", get(log)),
        ("post", "/v1/jobs/{job}/input", "write_input", "A part of what it reads", post(input)),
    ]);
    all
}

/// What is said of a job in one word, and how the core is asked for it.
fn words() -> Vec<Operation> {
    let job = "/v1/jobs/{job}";
    let cancel = word(MethodFilter::DELETE, |account, job| Asked::CancelJob { account, job });
    let mut all = vec![("delete", job, "cancel_job", "Take a job back", cancel)];
    let mut add = |path, id, about, make| {
        all.push(("post", path, id, about, word(MethodFilter::POST, make)));
    };
    add("/v1/jobs/{job}/hold", "hold_job", "Keep it from starting", |account, job| {
        Asked::HoldJob { account, job }
    });
    add("/v1/jobs/{job}/release", "release_job", "Let it start again", |account, job| {
        Asked::ReleaseJob { account, job }
    });
    add("/v1/jobs/{job}/requeue", "requeue_job", "End its attempt; it waits", |account, job| {
        Asked::RequeueJob { account, job }
    });
    let about = "Stop its processes; it keeps what it holds";
    add("/v1/jobs/{job}/suspend", "suspend_job", about, |account, job| Asked::SuspendJob {
        account,
        job,
    });
    add("/v1/jobs/{job}/resume", "resume_job", "Let them go on", |account, job| Asked::ResumeJob {
        account,
        job,
    });
    all
}

/// How many rows are wanted.
#[derive(Deserialize)]
pub(super) struct Most {
    pub(super) most: Option<usize>,
}

pub(super) async fn queue(State(shared): State<Shared>, Query(most): Query<Most>) -> Answered {
    let most = most.most.unwrap_or(LISTED);
    let look = move |grid: &Grid, history: &mut History| views::queue(grid.state(), history, most);
    Ok(Json(shared.handle.look(look).await?))
}

pub(super) async fn past(State(shared): State<Shared>, Query(most): Query<Most>) -> Answered {
    let most = most.most.unwrap_or(LISTED);
    let look = move |grid: &Grid, history: &mut History| views::past(grid.state(), history, most);
    Ok(Json(shared.handle.look(look).await?))
}

pub(super) async fn show(State(shared): State<Shared>, Path(job): Path<u64>) -> Answered {
    let id = JobId::new(job);
    let found = shared.handle.look(move |grid, history| views::job(grid.state(), history, id));
    found.await?.map(Json).ok_or_else(|| not_found(format!("job {job} not found")))
}

/// Asks for something about a job, in the name of an account: the job's, where whoever asks acts
/// for it, and else one of his own, which the core refuses.
pub(super) async fn about_job(
    shared: &Shared,
    who: &Who,
    job: u64,
    make: impl FnOnce(AccountId, JobId) -> Asked,
) -> Answered {
    let (id, who) = (JobId::new(job), who.clone());
    let account = shared.handle.look(move |grid, _| {
        let state = grid.state();
        let own = state.jobs.get(&id)?.account;
        let mut accounts = state.ledger.accounts.iter();
        let acts = |name: &str| who.acts_for(name);
        if acts(&state.ledger.accounts[own].spec.name) {
            return Some(own);
        }
        accounts.find(|(_, account)| acts(&account.spec.name)).map(|(id, _)| id)
    });
    let account = account.await?.ok_or_else(|| not_found(format!("job {job} not found")))?;
    shared.handle.ask(Command::Request(make(account, id))).await?;
    Ok(Json(json!({ "job": job })))
}

/// Returns the handler of a word about a job.
fn word(method: MethodFilter, make: fn(AccountId, JobId) -> Asked) -> MethodRouter<Shared> {
    let ask =
        move |State(shared): State<Shared>,
              Extension(who): Extension<Who>,
              Path(job): Path<u64>| async move { about_job(&shared, &who, job, make).await };
    on(method, ask)
}

/// Answers once a job has ended, or after half a minute as it stands.
pub(super) async fn wait(State(shared): State<Shared>, Path(job): Path<u64>) -> Answered {
    let mut events = shared.handle.listen();
    let id = JobId::new(job);
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let look = move |grid: &Grid, history: &mut History| {
            let live = grid.state().jobs.contains_key(&id);
            (live, views::job(grid.state(), history, id))
        };
        let (live, found) = shared.handle.look(look).await?;
        let found = found.ok_or_else(|| not_found(format!("job {job} not found")))?;
        if !live || tokio::time::Instant::now() >= until {
            return Ok(Json(found));
        }
        let ends = format!("\"job\":{job},");
        let heard = async {
            loop {
                match events.recv().await {
                    Ok(Happening { text, .. })
                        if !text.contains(&ends) || !text.contains("\"ended\"") => {}
                    // What was missed may have been it.
                    Ok(_) | Err(_) => return,
                }
            }
        };
        let _ = tokio::time::timeout_at(until, heard).await;
    }
}

/// Which part of what a job printed.
#[derive(Deserialize)]
pub(super) struct LogPart {
    #[serde(default)]
    pub(super) errors: bool,
    #[serde(default)]
    pub(super) from: u64,
    pub(super) attempt: Option<u32>,
}

/// Where an attempt of a job runs, or ran: its node, its last attempt, and its account.
struct Place {
    line: Line,
    attempt: u32,
}

/// Finds an attempt's node for somebody who acts for the job's account.
async fn place_of(shared: &Shared, who: &Who, job: u64) -> Result<Place, Wrong> {
    let id = JobId::new(job);
    let found = shared.handle.look(move |grid, history| {
        let memory = history.get(id)?;
        let node = memory.nodes.first().and_then(|name| node_named(grid.state(), name));
        let account = grid.state().ledger.accounts.find(AccountId::new(memory.account));
        Some((node, memory.attempts, account.map(|account| account.spec.name.clone())))
    });
    let found = found.await?.ok_or_else(|| not_found(format!("job {job} not found")))?;
    if !found.2.as_ref().is_some_and(|account| who.acts_for(account)) {
        return Err(forbidden(format!("job {job} is not yours")));
    }
    let (Some(node), attempt, _) = found else {
        return Err(Wrong(StatusCode::CONFLICT, format!("job {job} has not started yet")));
    };
    let index = usize::try_from(node.get()).unwrap_or(usize::MAX);
    let line = shared.lines.get(index).ok_or_else(|| not_found("that node is gone"))?;
    Ok(Place { line: line.clone(), attempt })
}

fn unreachable(job: u64) -> Wrong {
    let what = format!("the node of job {job} does not answer: try again when it is back");
    Wrong(StatusCode::GATEWAY_TIMEOUT, what)
}

pub(super) async fn log(
    State(shared): State<Shared>,
    Extension(who): Extension<Who>,
    Path(job): Path<u64>,
    Query(part): Query<LogPart>,
) -> Result<Response, Wrong> {
    let place = place_of(&shared, &who, job).await?;
    let epoch = Epoch::new(part.attempt.unwrap_or(place.attempt));
    let (errors, from, id) = (part.errors, part.from, JobId::new(job));
    let told = place.line.ask(move |ask| Down::Read { ask, job: id, epoch, errors, from }).await;
    let Some(Told::Data(bytes, over)) = told else { return Err(unreachable(job)) };
    let over = if over { "1" } else { "0" };
    Ok(([("x-grid-over", over)], bytes).into_response())
}

/// Which part of what a job reads.
#[derive(Deserialize)]
pub(super) struct InputPart {
    pub(super) attempt: u32,
    pub(super) from: u64,
    #[serde(default)]
    pub(super) last: bool,
}

pub(super) async fn input(
    State(shared): State<Shared>,
    Extension(who): Extension<Who>,
    Path(job): Path<u64>,
    Query(part): Query<InputPart>,
    bytes: Bytes,
) -> Answered {
    if bytes.len() > DATA_MAX {
        return Err(bad(format!("{} bytes: at most {DATA_MAX} are taken at once", bytes.len())));
    }
    let place = place_of(&shared, &who, job).await?;
    let (id, epoch, bytes) = (JobId::new(job), Epoch::new(part.attempt), bytes.to_vec());
    let (from, last) = (part.from, part.last);
    let put = move |ask| Down::Input { ask, job: id, epoch, from, bytes, last };
    match place.line.ask(put).await {
        Some(Told::Taken(at, over)) => Ok(Json(json!({ "at": at, "over": over }))),
        Some(Told::Data(..)) | None => Err(unreachable(job)),
    }
}
