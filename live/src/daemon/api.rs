//! The API: HTTP and JSON over a Unix socket that only its user can open.

use super::history::keep_program;
use super::keeper::{Handle, Refusal};
use super::nodes::Line;
use super::views;
use crate::frame::Down;
use crate::program::Program;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use gridcore::command::{Command, JobSpec, Numbered, Reply, Request};
use gridcore::deny::Denied;
use gridcore::ids::{AccountId, Epoch, JobId, NodeId, PoolId};
use gridcore::station::ladder::OwnerSays;
use gridcore::wire::Task;
use gridsim::scenario::jobs::listed_job;
use gridsim::scenario::schema::Job as JobKeys;
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

/// Most jobs of one array.
pub const ARRAY_MAX: u32 = 100_000;
/// Jobs that are listed when nobody says how many.
const LISTED: usize = 1_000;

/// What every handler needs.
#[derive(Clone)]
pub struct Shared {
    /// The way to the core.
    pub handle: Handle,
    /// The lines to the nodes, in their order.
    pub lines: Arc<Vec<Line>>,
    /// Told when the cluster is taken down.
    pub down: Arc<tokio::sync::Notify>,
}

/// A refusal, as the API says it.
struct Wrong(StatusCode, String);

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<Refusal> for Wrong {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::Denied(
                Denied::NoJob(_) | Denied::NoNode(_) | Denied::NoPool(_) | Denied::NoAccount(_),
            ) => StatusCode::NOT_FOUND,
            Refusal::Denied(Denied::NotYours { .. }) => StatusCode::FORBIDDEN,
            Refusal::Denied(_) => StatusCode::CONFLICT,
            Refusal::Busy | Refusal::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        };
        Self(status, refusal.to_string())
    }
}

type Answered = Result<Json<Value>, Wrong>;

fn bad(what: impl Into<String>) -> Wrong {
    Wrong(StatusCode::BAD_REQUEST, what.into())
}

fn not_found(what: impl Into<String>) -> Wrong {
    Wrong(StatusCode::NOT_FOUND, what.into())
}

/// Returns the routes.
pub fn routes(shared: Shared) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/jobs", get(queue).post(submit))
        .route("/v1/history", get(past))
        .route("/v1/jobs/{job}", get(show))
        .route("/v1/jobs/{job}", delete(cancel))
        .route("/v1/jobs/{job}/hold", post(hold))
        .route("/v1/jobs/{job}/release", post(release))
        .route("/v1/jobs/{job}/wait", get(wait))
        .route("/v1/jobs/{job}/log", get(log))
        .route("/v1/nodes", get(nodes))
        .route("/v1/nodes/{node}/{verb}", post(node_verb))
        .route("/v1/offers", get(offers))
        .route("/v1/leases", get(leases))
        .route("/v1/pools", get(pools))
        .route("/v1/accounts", get(accounts))
        .route("/v1/accounts/{account}/deposit", post(deposit))
        .route("/v1/events", get(events))
        .route("/v1/down", post(take_down))
        .fallback(|| async { not_found("there is no such path") })
        .with_state(shared)
}

async fn status(State(shared): State<Shared>) -> Answered {
    let lines = Arc::clone(&shared.lines);
    let look = move |grid: &gridcore::grid::Grid, _: &mut super::history::History| {
        views::status(grid.state(), &grid.digest().to_string(), &lines)
    };
    Ok(Json(shared.handle.look(look).await?))
}

/// How many rows are wanted.
#[derive(Deserialize)]
struct Most {
    most: Option<usize>,
}

async fn queue(State(shared): State<Shared>, Query(most): Query<Most>) -> Answered {
    let most = most.most.unwrap_or(LISTED);
    let look = move |grid: &gridcore::grid::Grid, history: &mut super::history::History| {
        views::queue(grid.state(), history, most)
    };
    Ok(Json(shared.handle.look(look).await?))
}

async fn past(State(shared): State<Shared>, Query(most): Query<Most>) -> Answered {
    let most = most.most.unwrap_or(LISTED);
    let look = move |grid: &gridcore::grid::Grid, history: &mut super::history::History| {
        views::past(grid.state(), history, most)
    };
    Ok(Json(shared.handle.look(look).await?))
}

/// What is submitted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Submission {
    /// The client and the number of its request: asked again, it is answered again.
    client: u64,
    number: u64,
    /// The keys of a job, as in a scenario.
    #[serde(default)]
    job: JobKeys,
    /// What it runs.
    program: Program,
}

async fn submit(State(shared): State<Shared>, Json(asked): Json<Submission>) -> Answered {
    asked.program.check().map_err(bad)?;
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
    let mut answers = tokio::task::JoinSet::new();
    for index in 0..if refused.is_some() { 0 } else { count } {
        spec.task = Task { program, index };
        let job = Box::new(spec.clone());
        let request = Box::new(Request::SubmitJob { account, job });
        let number = asked.number + u64::from(index);
        let numbered = Command::Numbered(Numbered { client: asked.client, number, request });
        let handle = shared.handle.clone();
        // Asked in order; answered in groups.
        if answers.len() >= 1_000 {
            take(answers.join_next().await, &mut jobs, &mut refused);
        }
        answers.spawn(async move { handle.ask(numbered).await });
        tokio::task::yield_now().await;
    }
    while let Some(answer) = answers.join_next().await {
        take(Some(answer), &mut jobs, &mut refused);
    }
    shared.handle.look(move |_, history| history.leave_program(program)).await?;
    jobs.sort_unstable();
    match refused {
        Some(wrong) if jobs.is_empty() => Err(wrong),
        Some(wrong) => Ok(Json(json!({ "jobs": jobs, "refused": wrong.1 }))),
        None => Ok(Json(json!({ "jobs": jobs }))),
    }
}

/// Notes one answer to a submission.
fn take(
    answer: Option<Result<Result<Reply, Refusal>, tokio::task::JoinError>>,
    jobs: &mut Vec<u64>,
    refused: &mut Option<Wrong>,
) {
    match answer {
        Some(Ok(Ok(Reply::Submitted(job)))) => jobs.push(job.get()),
        Some(Ok(Err(refusal))) => *refused = Some(refusal.into()),
        Some(Ok(Ok(Reply::Done | Reply::Stale))) | Some(Err(_)) | None => {}
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

fn node_named(state: &gridcore::state::State, name: &str) -> Option<NodeId> {
    state.nodes.iter().find(|(_, node)| node.spec.name == name).map(|(id, _)| id)
}

async fn show(State(shared): State<Shared>, Path(job): Path<u64>) -> Answered {
    let id = JobId::new(job);
    let found = shared.handle.look(move |grid, history| views::job(grid.state(), history, id));
    found.await?.map(Json).ok_or_else(|| not_found(format!("job {job} not found")))
}

/// Asks for something about a job, in the name of its account.
async fn about_job(
    shared: &Shared,
    job: u64,
    make: impl FnOnce(AccountId, JobId) -> Request,
) -> Answered {
    let id = JobId::new(job);
    let account = shared.handle.look(move |grid, _| grid.state().jobs.get(&id).map(|j| j.account));
    let account = account.await?.ok_or_else(|| not_found(format!("job {job} not found")))?;
    shared.handle.ask(Command::Request(make(account, id))).await?;
    Ok(Json(json!({ "job": job })))
}

async fn cancel(State(shared): State<Shared>, Path(job): Path<u64>) -> Answered {
    about_job(&shared, job, |account, job| Request::CancelJob { account, job }).await
}

async fn hold(State(shared): State<Shared>, Path(job): Path<u64>) -> Answered {
    about_job(&shared, job, |account, job| Request::HoldJob { account, job }).await
}

async fn release(State(shared): State<Shared>, Path(job): Path<u64>) -> Answered {
    about_job(&shared, job, |account, job| Request::ReleaseJob { account, job }).await
}

/// Answers once a job has ended, or after half a minute as it stands.
async fn wait(State(shared): State<Shared>, Path(job): Path<u64>) -> Answered {
    let mut events = shared.handle.listen();
    let id = JobId::new(job);
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let look = move |grid: &gridcore::grid::Grid, history: &mut super::history::History| {
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
struct LogPart {
    #[serde(default)]
    errors: bool,
    #[serde(default)]
    from: u64,
    attempt: Option<u32>,
}

async fn log(
    State(shared): State<Shared>,
    Path(job): Path<u64>,
    Query(part): Query<LogPart>,
) -> Result<Response, Wrong> {
    let id = JobId::new(job);
    let found = shared.handle.look(move |grid, history| {
        let memory = history.get(id)?;
        let node = memory.nodes.first().and_then(|name| node_named(grid.state(), name));
        Some((node, memory.attempts))
    });
    let found = found.await?.ok_or_else(|| not_found(format!("job {job} not found")))?;
    let (Some(node), last) = found else {
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

async fn nodes(State(shared): State<Shared>) -> Answered {
    let lines = Arc::clone(&shared.lines);
    Ok(Json(shared.handle.look(move |grid, _| views::nodes(grid.state(), &lines)).await?))
}

/// What a verb about a node may say.
#[derive(Deserialize, Default)]
struct NodeWords {
    reason: Option<String>,
    gpus: Option<u8>,
    #[serde(default)]
    now: bool,
}

async fn node_verb(
    State(shared): State<Shared>,
    Path((name, verb)): Path<(String, String)>,
    Query(words): Query<NodeWords>,
) -> Answered {
    let wanted = name.clone();
    let node = shared.handle.look(move |grid, _| node_named(grid.state(), &wanted)).await?;
    let node = node.ok_or_else(|| not_found(format!("node {name} not found")))?;
    let index = usize::try_from(node.get()).unwrap_or(usize::MAX);
    let says = match verb.as_str() {
        "drain" => {
            let reason = words.reason.unwrap_or_default();
            shared.handle.ask(Command::Request(Request::Drain { node, reason })).await?;
            return Ok(Json(json!({ "node": name })));
        }
        "undrain" => {
            shared.handle.ask(Command::Request(Request::Undrain { node })).await?;
            return Ok(Json(json!({ "node": name })));
        }
        "lend" => OwnerSays::Lend { gpus_max: words.gpus.unwrap_or(u8::MAX), until: None },
        "reclaim" => OwnerSays::Reclaim { now: words.now },
        _ => return Err(not_found(format!("a node knows no {verb:?}"))),
    };
    let line = shared.lines.get(index).filter(|line| line.state().up);
    let unreachable = || {
        let what = format!("node {name} is not reachable: say it again when it is back");
        Wrong(StatusCode::GATEWAY_TIMEOUT, what)
    };
    line.ok_or_else(unreachable)?.tell(Down::Owner(says));
    Ok(Json(json!({ "node": name })))
}

async fn offers(State(shared): State<Shared>) -> Answered {
    Ok(Json(shared.handle.look(|grid, _| views::offers(grid.state())).await?))
}

async fn leases(State(shared): State<Shared>) -> Answered {
    Ok(Json(shared.handle.look(|grid, _| views::leases(grid.state())).await?))
}

async fn pools(State(shared): State<Shared>) -> Answered {
    Ok(Json(shared.handle.look(|grid, _| views::pools(grid.state())).await?))
}

async fn accounts(State(shared): State<Shared>) -> Answered {
    Ok(Json(shared.handle.look(|grid, _| views::accounts(grid.state())).await?))
}

/// How long agents may take to end everything.
const LEAVES: std::time::Duration = std::time::Duration::from_secs(60);

/// Ends everything on every node, leaves nothing there, and stops.
async fn take_down(State(shared): State<Shared>) -> Answered {
    let was_up: Vec<bool> = shared.lines.iter().map(|line| line.state().up).collect();
    for line in shared.lines.iter() {
        line.tell(Down::Leave);
    }
    let until = tokio::time::Instant::now() + LEAVES;
    let standing = || shared.lines.iter().any(|line| line.state().up);
    while standing() && tokio::time::Instant::now() < until {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let left = shared.handle.look(move |grid, _| {
        let names = grid.state().nodes.iter().map(|(_, node)| node.spec.name.clone());
        names.zip(was_up).filter(|(_, up)| !up).map(|(name, _)| name).collect::<Vec<String>>()
    });
    let left = left.await?;
    shared.down.notify_one();
    Ok(Json(json!({ "unreachable": left })))
}

/// How much credit.
#[derive(Deserialize)]
struct Amount {
    atp: String,
}

async fn deposit(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    Query(amount): Query<Amount>,
) -> Answered {
    let amount = views::micro(&amount.atp).map_err(bad)?;
    let wanted = name.clone();
    let find = move |grid: &gridcore::grid::Grid, _: &mut super::history::History| {
        let mut accounts = grid.state().ledger.accounts.iter();
        accounts.find(|(_, account)| account.spec.name == wanted).map(|(id, _)| id)
    };
    let account = shared.handle.look(find).await?;
    let account = account.ok_or_else(|| not_found(format!("account {name} not found")))?;
    shared.handle.ask(Command::Request(Request::Deposit { account, amount })).await?;
    Ok(Json(json!({ "account": name })))
}

async fn events(
    State(shared): State<Shared>,
) -> Sse<impl tokio_stream::Stream<Item = Result<Event, Infallible>>> {
    let events = BroadcastStream::new(shared.handle.listen());
    // A listener that is too slow misses some; it is not told which.
    let events = events.filter_map(|event| Some(Ok(Event::default().data(event.ok()?))));
    Sse::new(events).keep_alive(KeepAlive::default())
}
