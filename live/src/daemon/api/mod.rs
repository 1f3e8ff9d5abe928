//! The API: HTTP and JSON over a Unix socket, and over TLS for other machines.
//!
//! Every operation stands in one table, from which both the routes and the description of the API
//! (`/v1/openapi.json`) are made.

mod allocate;
mod describe;
mod jobs;
mod nodes;
mod place;
mod shares;
mod statement;
mod submit;

use super::access::{Access, Peer, Who};
use super::history::History;
use super::keeper::{Handle, Refusal};
use super::nodes::{Line, LineState};
use super::remote::Tokens;
use super::{credit, summary, views};
use crate::clock::since_boot;
use crate::frame::Down;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{Request, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Json, Router};
use gridcore::command::{Command, Request as Asked};
use gridcore::deny::Denied;
use gridcore::grid::Grid;
use gridcore::ids::{AccountId, NodeId};
use gridcore::rate::Pace;
use gridcore::units::MicroAtp;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

/// What every handler needs.
#[derive(Clone)]
pub struct Shared {
    /// The way to the core.
    pub handle: Handle,
    /// The lines to the nodes, in their order.
    pub lines: Arc<Vec<Line>>,
    /// Told when the cluster is taken down.
    pub down: Arc<tokio::sync::Notify>,
    /// Who may do what.
    pub access: Arc<RwLock<Access>>,
    /// Who is who on other machines.
    pub tokens: Tokens,
    /// How fast each account has submitted.
    pub paces: Paces,
}

/// How fast each account has submitted.
pub type Paces = Arc<Mutex<BTreeMap<AccountId, Pace>>>;

/// Counts one submission of an account, or says that it comes too soon. What gives something back
/// never waits.
fn in_turn(paces: &Paces, account: AccountId, state: &gridcore::state::State) -> Result<(), Wrong> {
    let now = since_boot();
    let mut paces = paces.lock().unwrap_or_else(PoisonError::into_inner);
    let pace = paces.entry(account).or_default();
    let row = &state.ledger.accounts[account];
    let wait = pace.wait(now, &state.rules, &row.standing);
    if wait.is_zero() {
        pace.count(now, &state.rules, &row.standing);
        return Ok(());
    }
    let name = &row.spec.name;
    let most = state.rules.caps.requests_per_second.unwrap_or_default();
    let most = row.standing.scale(most).max(1);
    let what = format!("account {name} submits more than {most} times a second: try again");
    Err(Wrong(StatusCode::TOO_MANY_REQUESTS, what))
}

/// A refusal, as the API says it.
struct Wrong(StatusCode, String);

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.1 }));
        if self.0 == StatusCode::TOO_MANY_REQUESTS {
            return (self.0, [(RETRY_AFTER, "1")], body).into_response();
        }
        (self.0, body).into_response()
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
        let what = match &refusal {
            // The core's times are none of people's.
            Refusal::Denied(Denied::NoPlaceThen { .. }) => {
                "no place is free from then on: ask for less, or for later".to_owned()
            }
            Refusal::Denied(_) | Refusal::Busy | Refusal::Stopping | Refusal::DiskFull => {
                refusal.to_string()
            }
        };
        Self(status, what)
    }
}

type Answered = Result<Json<Value>, Wrong>;

fn bad(what: impl Into<String>) -> Wrong {
    Wrong(StatusCode::BAD_REQUEST, what.into())
}

fn not_found(what: impl Into<String>) -> Wrong {
    Wrong(StatusCode::NOT_FOUND, what.into())
}

/// One operation: its method, its path, its name, what it does, and who does it.
type Operation = (&'static str, &'static str, &'static str, &'static str, MethodRouter<Shared>);

/// All operations; names that users of the earlier tools know stay (NAMES.md).
fn operations() -> Vec<Operation> {
    let one = [
        ("get", "/v1/status", "get_cluster_status", "The cluster in a few numbers", get(status)),
        (
            "get",
            "/v1/summary",
            "get_cluster_summary",
            "What there is, is used and lent",
            get(summary),
        ),
        ("get", "/v1/stats", "get_stats", "Pools and leases, counted", get(stats)),
        ("get", "/v1/offers", "get_shared_resource_status", "What nodes offer", get(offers)),
        ("get", "/v1/leases", "get_entity_allocations", "What is lent", get(leases)),
        ("get", "/v1/pools", "get_resource_status", "The pools", get(pools)),
        ("get", "/v1/accounts", "get_budgets", "The credit of your accounts", get(accounts)),
        ("get", "/v1/price", "get_prices", "What an hour costs, by class", get(price)),
        ("post", "/v1/accounts/{account}/deposit", "deposit", "Pay credit in", post(deposit)),
        (
            "post",
            "/v1/accounts/{account}/grant",
            "grant",
            "Give what the treasury has",
            post(grant),
        ),
        ("get", "/v1/events", "follow_events", "What happens, as server-sent events", get(events)),
        ("get", "/v1/events/recent", "get_events", "The last 1,000 events", get(recent)),
        (
            "post",
            "/v1/down",
            "take_down",
            "End everything on every node, and stop",
            post(take_down),
        ),
        ("get", "/metrics", "get_metrics", "For Prometheus, as text", get(metrics)),
        ("get", "/v1/openapi.json", "get_api", "This description", get(describe::description)),
    ];
    let one = one.into_iter().chain(statement::operations()).chain(place::operations());
    let one = one.chain(shares::operations());
    let one = one.chain(allocate::operations());
    one.chain(jobs::operations()).chain(nodes::operations()).collect()
}

/// Returns the routes.
pub fn routes(shared: Shared) -> Router {
    let add = |router: Router<Shared>, operation: Operation| {
        let (_, path, _, _, method) = operation;
        router.route(path, method)
    };
    operations()
        .into_iter()
        .fold(Router::new(), add)
        .fallback(|| async { not_found("there is no such path") })
        .layer(from_fn_with_state(shared.clone(), admit))
        .with_state(shared)
}

/// Lets in who is listed, and notes who it is.
async fn admit(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request<Body>,
    next: Next,
) -> Result<Response, Wrong> {
    let found = match peer {
        Peer::Here(uid) => uid.and_then(|uid| read(&shared.access).who(uid)),
        Peer::Elsewhere(known) => {
            let user = token(&request).and_then(|token| shared.tokens.user(token));
            let user = user.ok_or_else(|| {
                forbidden("no token that is known here: an administrator makes one for you")
            })?;
            known.store(true, Ordering::Relaxed);
            read(&shared.access).named(&user)
        }
    };
    let who = found.ok_or_else(|| {
        forbidden("you are listed at no account: ask an administrator to add you to its `users`")
    })?;
    request.extensions_mut().insert(who);
    Ok(next.run(request).await)
}

/// Returns the token that a request carries.
fn token(request: &Request<Body>) -> Option<&str> {
    let header = request.headers().get(axum::http::header::AUTHORIZATION)?;
    header.to_str().ok()?.strip_prefix("Bearer ")
}

fn read(access: &RwLock<Access>) -> RwLockReadGuard<'_, Access> {
    access.read().unwrap_or_else(PoisonError::into_inner)
}

fn forbidden(what: impl Into<String>) -> Wrong {
    Wrong(StatusCode::FORBIDDEN, what.into())
}

/// Refuses what only administrators may.
fn admins_only(who: &Who) -> Result<(), Wrong> {
    let refused = || forbidden(format!("{} is no administrator: ask one", who.user));
    if who.admin { Ok(()) } else { Err(refused()) }
}

async fn status(State(shared): State<Shared>) -> Answered {
    let lines = Arc::clone(&shared.lines);
    let look = move |grid: &Grid, _: &mut History| {
        summary::status(grid.state(), &grid.digest().to_string(), &lines)
    };
    Ok(Json(shared.handle.look(look).await?))
}

async fn summary(State(shared): State<Shared>) -> Answered {
    let lines = Arc::clone(&shared.lines);
    Ok(Json(shared.handle.look(move |grid, _| summary::cluster(grid.state(), &lines)).await?))
}

async fn stats(State(shared): State<Shared>) -> Answered {
    Ok(Json(shared.handle.look(|grid, _| summary::stats(grid.state())).await?))
}

/// Returns the node of a name.
fn node_named(state: &gridcore::state::State, name: &str) -> Option<NodeId> {
    state.nodes.iter().find(|(_, node)| node.spec.name == name).map(|(id, _)| id)
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

async fn price(State(shared): State<Shared>) -> Answered {
    Ok(Json(shared.handle.look(|grid, _| credit::prices(grid.state())).await?))
}

async fn accounts(State(shared): State<Shared>, Extension(who): Extension<Who>) -> Answered {
    let look = move |grid: &Grid, _: &mut History| {
        credit::accounts(grid.state(), |name| who.acts_for(name))
    };
    Ok(Json(shared.handle.look(look).await?))
}

/// How long agents may take to end everything.
const LEAVES: std::time::Duration = std::time::Duration::from_secs(60);

/// Ends everything on every node, leaves nothing there, and stops.
async fn take_down(State(shared): State<Shared>, Extension(who): Extension<Who>) -> Answered {
    admins_only(&who)?;
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
    Extension(who): Extension<Who>,
    Path(name): Path<String>,
    Query(amount): Query<Amount>,
) -> Answered {
    give(&shared, &who, name, &amount, |account, amount| Asked::Deposit { account, amount }).await
}

async fn grant(
    State(shared): State<Shared>,
    Extension(who): Extension<Who>,
    Path(name): Path<String>,
    Query(amount): Query<Amount>,
) -> Answered {
    give(&shared, &who, name, &amount, |account, amount| Asked::Grant { account, amount }).await
}

/// Gives an account credit, as an administrator.
async fn give(
    shared: &Shared,
    who: &Who,
    name: String,
    amount: &Amount,
    asked: fn(AccountId, MicroAtp) -> Asked,
) -> Answered {
    admins_only(who)?;
    let amount = credit::micro(&amount.atp).map_err(bad)?;
    let wanted = name.clone();
    let find = move |grid: &Grid, _: &mut History| {
        let mut accounts = grid.state().ledger.accounts.iter();
        accounts.find(|(_, account)| account.spec.name == wanted).map(|(id, _)| id)
    };
    let account = shared.handle.look(find).await?;
    let account = account.ok_or_else(|| not_found(format!("account {name} not found")))?;
    shared.handle.ask(Command::Request(asked(account, amount))).await?;
    Ok(Json(json!({ "account": name })))
}

async fn metrics(
    State(shared): State<Shared>,
    Extension(who): Extension<Who>,
) -> Result<String, Wrong> {
    let counters = shared.handle.counters().await?;
    let lines: Vec<LineState> = shared.lines.iter().map(Line::state).collect();
    let now = since_boot();
    let look = move |grid: &Grid, _: &mut History| {
        super::metrics::text(grid.state(), &lines, (&counters, now), |name| who.acts_for(name))
    };
    Ok(shared.handle.look(look).await?)
}

/// Whether what has happened lately comes first.
#[derive(Deserialize)]
struct Lately {
    #[serde(default)]
    recent: bool,
}

async fn events(
    State(shared): State<Shared>,
    Query(lately): Query<Lately>,
) -> Result<Sse<impl tokio_stream::Stream<Item = Result<Event, Infallible>>>, Wrong> {
    // Listened to before it is looked back: nothing is missed between, and nothing comes twice.
    let now = BroadcastStream::new(shared.handle.listen());
    let before = shared.handle.look(|_, history| history.events()).await?;
    let last = before.last().map_or(0, |event| event.number);
    let before = if lately.recent { before } else { Vec::new() };
    // A listener that is too slow misses some; the numbers tell.
    let now = now.filter_map(move |event| event.ok().filter(|event| event.number > last));
    let events = tokio_stream::iter(before).chain(now);
    let events = events.map(|event| Ok(Event::default().data(event.text)));
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

async fn recent(State(shared): State<Shared>) -> Answered {
    let events = shared.handle.look(|_, history| history.events()).await?;
    let events = events.iter().filter_map(|event| serde_json::from_str(&event.text).ok());
    let events: Vec<Value> = events.collect();
    Ok(Json(json!({ "schema": views::SCHEMA, "events": events })))
}
