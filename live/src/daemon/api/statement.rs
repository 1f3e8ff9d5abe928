//! What an account has, earned and paid, for those who act for it.

use super::jobs::Most;
use super::{Answered, Operation, Shared, forbidden, not_found};
use crate::daemon::access::Who;
use crate::daemon::credit;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Extension, Json};

/// Jobs that are listed when nobody says how many.
const LISTED: usize = 50;

/// The operations.
pub(super) fn operations() -> Vec<Operation> {
    vec![(
        "get",
        "/v1/accounts/{account}/statement",
        "get_statement",
        "What an account has, earned and paid, and its jobs, newest first",
        get(statement),
    )]
}

async fn statement(
    State(shared): State<Shared>,
    Extension(who): Extension<Who>,
    Path(account): Path<String>,
    Query(most): Query<Most>,
) -> Answered {
    // Whoever does not act for it does not even hear whether it is there.
    if !who.acts_for(&account) {
        return Err(forbidden(format!("{} does not act for account {account}", who.user)));
    }
    let (wanted, most) = (account.clone(), most.most.unwrap_or(LISTED));
    let found = shared
        .handle
        .look(move |grid, history| credit::statement(grid.state(), history, &wanted, most));
    found.await?.map(Json).ok_or_else(|| not_found(format!("account {account} not found")))
}
