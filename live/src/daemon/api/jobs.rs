//! Jobs: submitted, looked at, taken back, read.

use super::{Answered, Operation, Shared, Wrong, bad, forbidden, node_named, not_found};
use crate::daemon::access::Who;
use crate::daemon::history::{History, keep_program};
use crate::daemon::keeper::Answered as Asking;
use crate::daemon::views;
use crate::frame::Down;
use crate::program::Program;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json};
use gridcore::command::{Command, JobSpec, Numbered, Reply, Request as Asked};
use gridcore::grid::Grid;
use gridcore::ids::{AccountId, Epoch, JobId, PoolId};
use gridcore::wire::Task;
use gridsim::scenario::jobs::listed_job;
use gridsim::scenario::schema::Job as JobKeys;
use serde::Deserialize;
use serde_json::json;
use std::collections::VecDeque;

/// Most jobs of one array.
const ARRAY_MAX: u32 = 100_000;
/// Jobs that are listed when nobody says how many.
const LISTED: usize = 1_000;

/// The operations.
pub(super) fn operations() -> Vec<Operation> {
    let list = "/v1/jobs";
    let job = "/v1/jobs/{job}";
    vec![
        ("get", list, "get_scheduling_status", "Jobs that wait or run", get(queue)),
        ("post", list, "run_with_shared_resources", "Submit a job, or an array", post(submit)),
        ("post", "/v1/plan", "plan_job", "What would become of a job now", post(plan)),
        ("get", "/v1/history", "get_history", "Jobs that have ended, newest first", get(past)),
        ("get", job, "get_job", "All about a job, and why it waits", get(show)),
        ("delete", job, "cancel_job", "Take a job back", delete(cancel)),
        ("post", "/v1/jobs/{job}/hold", "hold_job", "Keep it from starting", post(hold)),
        ("post", "/v1/jobs/{job}/release", "release_job", "Let it start again", post(release)),
        (
            "post",
            "/v1/jobs/{job}/requeue",
            "requeue_job",
            "End its attempt; it waits",
            post(requeue),
        ),
        ("get", "/v1/jobs/{job}/wait", "wait_for_job", "Its end, or it after 30 s", get(wait)),
        ("get", "/v1/jobs/{job}/log", "read_log", "A part of what it printed", get(log)),
    ]
}

/// How many rows are wanted.
#[derive(Deserialize)]
pub(super) struct Most {
    most: Option<usize>,
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

/// What is submitted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Submission {
    /// The client and the number of its request: asked again, it is answered again.
    client: u64,
    number: u64,
    /// The keys of a job, as in a scenario.
    #[serde(default)]
    job: JobKeys,
    /// What it runs.
    program: Program,
}

pub(super) async fn submit(
    State(shared): State<Shared>,
    Extension(who): Extension<Who>,
    Json(mut asked): Json<Submission>,
) -> Answered {
    // Not what somebody says of himself.
    asked.program.user.clone_from(&who.user);
    asked.program.check().map_err(bad)?;
    who.choose_account(&mut asked.job.account).map_err(forbidden)?;
    let count = asked.job.array.unwrap_or(1);
    if count == 0 || count > ARRAY_MAX {
        return Err(bad(format!("array is {count}; it must be 1 to {ARRAY_MAX}")));
    }
    let keys = asked.job;
    let found = shared.handle.look(move |grid, history| {
        let spec = spec_of(&keys, grid.state());
        spec.map(|spec| (spec, history.new_program()))
    });
    let ((account, mut spec), (program, folder)) = found.await?.map_err(bad)?;
    let kept = tokio::task::spawn_blocking(move || keep_program(&folder, program, &asked.program));
    let kept = kept.await.unwrap_or_else(|e| Err(std::io::Error::other(e)));
    let kept = kept.map_err(|e| Wrong(StatusCode::INSUFFICIENT_STORAGE, e.to_string()));
    let mut jobs = Vec::new();
    let mut refused = kept.err();
    let mut answers = VecDeque::new();
    for index in 0..if refused.is_some() { 0 } else { count } {
        spec.task = Task { program, index };
        let job = Box::new(spec.clone());
        let request = Box::new(Asked::SubmitJob { account, job });
        let number = asked.number + u64::from(index);
        let numbered = Command::Numbered(Numbered { client: asked.client, number, request });
        // Asked in order: only so many replies are remembered. Answered in groups.
        match shared.handle.begin(numbered) {
            Ok(answer) => answers.push_back(answer),
            Err(refusal) => {
                refused = Some(refusal.into());
                break;
            }
        }
        if answers.len() >= 1_000 {
            take(answers.pop_front(), &mut jobs, &mut refused).await;
        }
    }
    while let Some(answer) = answers.pop_front() {
        take(Some(answer), &mut jobs, &mut refused).await;
    }
    shared.handle.look(move |_, history| history.leave_program(program)).await?;
    jobs.sort_unstable();
    match refused {
        Some(wrong) if jobs.is_empty() => Err(wrong),
        Some(wrong) => Ok(Json(json!({ "jobs": jobs, "refused": wrong.1 }))),
        None => Ok(Json(json!({ "jobs": jobs }))),
    }
}

/// Says what would become of a job, without submitting it: on a copy of the core, as it would.
pub(super) async fn plan(
    State(shared): State<Shared>,
    Extension(who): Extension<Who>,
    Json(mut keys): Json<JobKeys>,
) -> Answered {
    who.choose_account(&mut keys.account).map_err(forbidden)?;
    let look = move |grid: &Grid, _: &mut History| {
        let (account, spec) = spec_of(&keys, grid.state())?;
        let members = u64::from(spec.members);
        let request = Asked::SubmitJob { account, job: Box::new(spec) };
        Ok(super::super::plan::plan(grid, request, members))
    };
    let planned: Result<_, String> = shared.handle.look(look).await?;
    Ok(Json(planned.map_err(bad)??))
}

/// Waits for one answer to a submission, and notes it.
async fn take(answer: Option<Asking>, jobs: &mut Vec<u64>, refused: &mut Option<Wrong>) {
    let Some(answer) = answer else { return };
    match answer.take().await {
        Ok(Reply::Submitted(job)) => jobs.push(job.get()),
        Ok(Reply::Done | Reply::Stale) => {}
        Err(refusal) => *refused = Some(refusal.into()),
    }
}

/// Turns keys into the words of the core.
fn spec_of(keys: &JobKeys, state: &gridcore::state::State) -> Result<(AccountId, JobSpec), String> {
    let record = listed_job("job", keys, &state.resources).map_err(|e| e.to_string())?;
    let mut accounts = state.ledger.accounts.iter();
    let account = match keys.account.as_str() {
        "" => accounts.next().map(|(id, _)| id),
        name => accounts.find(|(_, account)| account.spec.name == name).map(|(id, _)| id),
    };
    let account = account.ok_or_else(|| format!("account {:?} not found", keys.account))?;
    let pool = match &keys.pool {
        None => Some(PoolId::new(0)),
        Some(name) => state.pools.iter().find(|(_, p)| p.spec.name == *name).map(|(id, _)| id),
    };
    let pool =
        pool.ok_or_else(|| format!("Pool {} not found", keys.pool.as_deref().unwrap_or("")))?;
    let find = |name: &str| node_named(state, name);
    let spec = record.spec(pool, find).map_err(|name| format!("node {name:?} not found"))?;
    Ok((account, spec))
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

pub(super) async fn cancel(
    State(shared): State<Shared>,
    Extension(who): Extension<Who>,
    Path(job): Path<u64>,
) -> Answered {
    about_job(&shared, &who, job, |account, job| Asked::CancelJob { account, job }).await
}

pub(super) async fn hold(
    State(shared): State<Shared>,
    Extension(who): Extension<Who>,
    Path(job): Path<u64>,
) -> Answered {
    about_job(&shared, &who, job, |account, job| Asked::HoldJob { account, job }).await
}

pub(super) async fn release(
    State(shared): State<Shared>,
    Extension(who): Extension<Who>,
    Path(job): Path<u64>,
) -> Answered {
    about_job(&shared, &who, job, |account, job| Asked::ReleaseJob { account, job }).await
}

pub(super) async fn requeue(
    State(shared): State<Shared>,
    Extension(who): Extension<Who>,
    Path(job): Path<u64>,
) -> Answered {
    about_job(&shared, &who, job, |account, job| Asked::RequeueJob { account, job }).await
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
                    Ok(event) if !event.contains(&ends) || !event.contains("\"ended\"") => {}
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
    errors: bool,
    #[serde(default)]
    from: u64,
    attempt: Option<u32>,
}

pub(super) async fn log(
    State(shared): State<Shared>,
    Extension(who): Extension<Who>,
    Path(job): Path<u64>,
    Query(part): Query<LogPart>,
) -> Result<Response, Wrong> {
    let id = JobId::new(job);
    let found = shared.handle.look(move |grid, history| {
        let memory = history.get(id)?;
        let node = memory.nodes.first().and_then(|name| node_named(grid.state(), name));
        let account = grid.state().ledger.accounts.find(AccountId::new(memory.account));
        Some((node, memory.attempts, account.map(|account| account.spec.name.clone())))
    });
    let found = found.await?.ok_or_else(|| not_found(format!("job {job} not found")))?;
    if !found.2.as_ref().is_some_and(|account| who.acts_for(account)) {
        return Err(forbidden(format!("job {job} is not yours to read")));
    }
    let (Some(node), last, _) = found else {
        return Err(Wrong(StatusCode::CONFLICT, format!("job {job} has not started yet")));
    };
    let index = usize::try_from(node.get()).unwrap_or(usize::MAX);
    let line = shared.lines.get(index).ok_or_else(|| not_found("that node is gone"))?;
    let epoch = Epoch::new(part.attempt.unwrap_or(last));
    let (errors, from) = (part.errors, part.from);
    let data = line.read(move |ask| Down::Read { ask, job: id, epoch, errors, from }).await;
    let unreachable = || {
        let what = format!("the node of job {job} does not answer: try again when it is back");
        Wrong(StatusCode::GATEWAY_TIMEOUT, what)
    };
    let (bytes, over) = data.ok_or_else(unreachable)?;
    let over = if over { "1" } else { "0" };
    Ok(([("x-grid-over", over)], bytes).into_response())
}
