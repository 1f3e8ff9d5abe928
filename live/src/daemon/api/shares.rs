//! Shares, quotas, the order of the queue, and what is kept ahead.

use super::jobs::{LISTED, Most};
use super::{Answered, Operation, Shared};
use crate::daemon::history::History;
use crate::daemon::shares;
use axum::Json;
use axum::extract::{Query, State};
use axum::routing::get;
use gridcore::grid::Grid;

/// The operations.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        (
            "get",
            "/v1/shares",
            "get_shares",
            "Each account's share and what it has had",
            get(accounts),
        ),
        (
            "get",
            "/v1/quotas",
            "get_quotas",
            "What accounts have by right, and on loan",
            get(quotas),
        ),
        (
            "get",
            "/v1/reservations",
            "get_reservations",
            "What is kept ahead, from when and where",
            get(reservations),
        ),
        ("get", "/v1/priorities", "get_priorities", "Who goes next, and why", get(priorities)),
    ]
}

async fn accounts(State(shared): State<Shared>) -> Answered {
    Ok(Json(shared.handle.look(|grid, _| shares::accounts(grid.state())).await?))
}

async fn quotas(State(shared): State<Shared>) -> Answered {
    Ok(Json(shared.handle.look(|grid, _| shares::quotas(grid.state())).await?))
}

async fn reservations(State(shared): State<Shared>) -> Answered {
    let look = |grid: &Grid, history: &mut History| shares::reservations(grid.state(), history);
    Ok(Json(shared.handle.look(look).await?))
}

async fn priorities(State(shared): State<Shared>, Query(most): Query<Most>) -> Answered {
    let most = most.most.unwrap_or(LISTED);
    let look =
        shared.handle.look(move |grid, history| shares::priorities(grid.state(), history, most));
    Ok(Json(look.await?))
}
