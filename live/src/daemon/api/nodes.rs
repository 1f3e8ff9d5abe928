//! Nodes: looked at, lent, taken back, drained.

use super::{
    Answered, Operation, Shared, Wrong, admins_only, bad, forbidden, node_named, not_found,
};
use crate::daemon::access::Who;
use crate::daemon::nodes::LineState;
use crate::daemon::views;
use crate::frame::Down;
use axum::extract::{Path, Query, State as Of};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Json};
use gridcore::command::{Command, Request as Asked};
use gridcore::ids::NodeId;
use gridcore::state::State;
use gridcore::station::ladder::OwnerSays;
use gridsim::decimal::Seconds;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The operations.
pub(super) fn operations() -> Vec<Operation> {
    let (node, verb) = ("/v1/nodes/{node}", "/v1/nodes/{node}/{verb}");
    let doctor = "/v1/nodes/{node}/doctor";
    vec![
        ("get", "/v1/nodes", "get_node_resource_snapshots", "The nodes", get(nodes)),
        (
            "get",
            node,
            "get_resource_trend",
            "All about a node, its trends and GPUs",
            get(show_node),
        ),
        ("get", doctor, "examine_node", "What it can give, and what not", get(examine)),
        ("post", verb, "tell_node", "drain, undrain, lend or reclaim it", post(node_verb)),
    ]
}

pub(super) async fn nodes(Of(shared): Of<Shared>) -> Answered {
    let lines = Arc::clone(&shared.lines);
    Ok(Json(shared.handle.look(move |grid, _| views::nodes(grid.state(), &lines)).await?))
}

/// Looks at one node and its line.
async fn look(
    shared: &Shared,
    name: String,
    view: fn(&State, NodeId, &LineState) -> Option<Value>,
) -> Answered {
    let (lines, wanted) = (Arc::clone(&shared.lines), name.clone());
    let found = shared.handle.look(move |grid, _| {
        let node = node_named(grid.state(), &wanted)?;
        let line = lines.get(usize::try_from(node.get()).ok()?)?.state();
        view(grid.state(), node, &line)
    });
    found.await?.map(Json).ok_or_else(|| not_found(format!("node {name} not found")))
}

pub(super) async fn show_node(Of(shared): Of<Shared>, Path(name): Path<String>) -> Answered {
    look(&shared, name, views::node).await
}

pub(super) async fn examine(Of(shared): Of<Shared>, Path(name): Path<String>) -> Answered {
    look(&shared, name, views::doctor).await
}

/// What a verb about a node may say.
#[derive(Deserialize, Default)]
pub(super) struct NodeWords {
    pub(super) reason: Option<String>,
    pub(super) gpus: Option<u8>,
    /// For how long, as a scenario writes spans.
    pub(super) lasts: Option<String>,
    #[serde(default)]
    pub(super) now: bool,
}

pub(super) async fn node_verb(
    Of(shared): Of<Shared>,
    Extension(who): Extension<Who>,
    Path((name, verb)): Path<(String, String)>,
    Query(words): Query<NodeWords>,
) -> Answered {
    let wanted = name.clone();
    let found = shared.handle.look(move |grid, _| {
        let state = grid.state();
        let node = node_named(state, &wanted)?;
        let spec = &state.nodes[node].spec;
        Some((node, state.ledger.accounts[spec.owner].spec.name.clone(), spec.dedicated))
    });
    let found = found.await?.ok_or_else(|| not_found(format!("node {name} not found")))?;
    let (node, owner, dedicated) = found;
    let index = usize::try_from(node.get()).unwrap_or(usize::MAX);
    if matches!(verb.as_str(), "drain" | "undrain") {
        admins_only(&who)?;
    } else if !who.acts_for(&owner) {
        return Err(forbidden(format!("node {name} is {owner}'s: {} is not of it", who.user)));
    }
    if dedicated && matches!(verb.as_str(), "lend" | "reclaim") {
        let what = "nobody uses it beside the pool (owner_use: none): drain it, or undrain it";
        return Err(Wrong(StatusCode::CONFLICT, format!("node {name}: {what}")));
    }
    let says = match verb.as_str() {
        "drain" => {
            let reason = words.reason.unwrap_or_default();
            shared.handle.ask(Command::Request(Asked::Drain { node, reason })).await?;
            return Ok(Json(json!({ "node": name })));
        }
        "undrain" => {
            shared.handle.ask(Command::Request(Asked::Undrain { node })).await?;
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
    let lasts = words.lasts.map(|text| text.parse::<Seconds>().map_err(|e| (text, e)));
    let lasts = lasts.transpose().map_err(|(text, e)| bad(format!("{text:?}: {e}")))?;
    line.ok_or_else(unreachable)?.tell(Down::Owner(says, lasts.map(|lasts| lasts.0)));
    Ok(Json(json!({ "node": name })))
}
