//! Where a running job is, and how that node is reached: for those who act for its account.

use super::{Answered, Operation, Shared, Wrong, forbidden, not_found};
use crate::daemon::access::Who;
use crate::daemon::history::History;
use crate::daemon::views::SCHEMA;
use crate::daemon::way::own_hash;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Extension, Json};
use gridcore::grid::Grid;
use gridcore::ids::{AccountId, Epoch, JobId, LeaseId, NodeId};
use gridcore::jobs::JobState;
use serde::Deserialize;
use serde_json::json;

/// The operations.
pub(super) fn operations() -> Vec<Operation> {
    let about = "Where a running job is, and how that node is reached";
    vec![("get", "/v1/jobs/{job}/place", "get_job_place", about, get(place))]
}

/// Which of the nodes of a gang.
#[derive(Deserialize)]
pub(super) struct Which {
    pub(super) node: Option<String>,
}

/// A running attempt.
struct Running {
    lease: LeaseId,
    attempt: Epoch,
    cluster: u64,
    nodes: Vec<(NodeId, String)>,
}

/// Finds a job's account and its running attempt; `None` when there is no such job.
fn find(grid: &Grid, history: &History, id: JobId) -> Option<(Option<String>, Option<Running>)> {
    let (state, memory) = (grid.state(), history.get(id)?);
    let account = state.ledger.accounts.find(AccountId::new(memory.account));
    let running = state.jobs.get(&id).and_then(|job| {
        let JobState::Running(lease) = job.state else { return None };
        let places = state.leases.get(&lease)?.places();
        let named = |node: NodeId| (node, state.nodes[node].spec.name.clone());
        let nodes = places.map(named).collect();
        Some(Running { lease, attempt: job.epoch, cluster: state.cluster, nodes })
    });
    Some((account.map(|account| account.spec.name.clone()), running))
}

async fn place(
    State(shared): State<Shared>,
    Extension(who): Extension<Who>,
    Path(job): Path<u64>,
    Query(which): Query<Which>,
) -> Answered {
    let id = JobId::new(job);
    let found = shared.handle.look(move |grid, history| find(grid, history, id)).await?;
    let (account, running) = found.ok_or_else(|| not_found(format!("job {job} not found")))?;
    if !account.is_some_and(|account| who.acts_for(&account)) {
        return Err(forbidden(format!("job {job} is not yours")));
    }
    let idle = || Wrong(StatusCode::CONFLICT, format!("job {job} does not run"));
    let running = running.ok_or_else(idle)?;
    let wanted = |name: &String| which.node.as_ref().is_none_or(|wanted| wanted == name);
    let node = running.nodes.iter().find(|(_, name)| wanted(name));
    let (node, name) = node.ok_or_else(|| {
        let all: Vec<&str> = running.nodes.iter().map(|(_, name)| name.as_str()).collect();
        not_found(format!("job {job} is not there; it runs on {}", all.join(", ")))
    })?;
    let line = usize::try_from(node.get()).ok().and_then(|index| shared.lines.get(index));
    let ssh = &line.ok_or_else(|| not_found("that node is gone"))?.way().ssh;
    let broken = |e: std::io::Error| Wrong(StatusCode::INTERNAL_SERVER_ERROR, e.to_string());
    // As the daemon sees it, wherever whoever asks is.
    let local = ssh.local.as_ref().map(std::path::absolute).transpose().map_err(broken)?;
    Ok(Json(json!({
        "schema": SCHEMA,
        "job": job,
        "lease": running.lease.get(),
        "attempt": running.attempt.get(),
        "node": name,
        "number": node.get(),
        "cluster": format!("{:016x}", running.cluster),
        "agent": own_hash().map_err(broken)?,
        "ssh": {
            "host": ssh.host,
            "user": ssh.user,
            "identity_file": ssh.identity_file,
            "known_hosts": ssh.known_hosts,
            "port": ssh.port,
            "connect_timeout": ssh.connect_timeout,
            "local": local,
        },
    })))
}
