//! Capacity without a command, under the names that users of the earlier tools know.
//!
//! An allocation is a job that runs nothing: it waits, is paid for and ends as any other. What a
//! task needs, that somebody runs himself, is taken in the same way.

use super::jobs::about_job;
use super::submit::{Submission, submit_for};
use super::{Answered, Operation, Shared, Wrong, bad, not_found};
use crate::client::types::{Allocation, ResourceRequest};
use crate::daemon::access::Who;
use crate::program::Program;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, post};
use axum::{Extension, Json};
use gridcore::command::Request as Asked;
use gridcore::ids::JobId;
use gridsim::scenario::schema::Job as JobKeys;
use serde::Deserialize;
use serde_json::{Value, json};

/// The operations.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        (
            "post",
            "/v1/allocations",
            "request_resources",
            "Take capacity of one kind without a command",
            post(request),
        ),
        (
            "delete",
            "/v1/allocations/{job}",
            "release_resources",
            "Give it back; it ends as cancelled",
            delete(release),
        ),
        (
            "post",
            "/v1/tasks",
            "schedule_task",
            "Take what a task needs that you run yourself",
            post(schedule),
        ),
        (
            "post",
            "/v1/tasks/{job}/complete",
            "complete_task",
            "Say that it is done: what it held is free; it ends as cancelled",
            post(release),
        ),
    ]
}

/// What a task needs that somebody runs himself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Task {
    client: u64,
    number: u64,
    #[serde(default)]
    job: JobKeys,
}

/// Takes capacity for a job that runs nothing.
async fn take(
    shared: &Shared,
    who: &Who,
    name: &str,
    (client, number): (u64, u64),
    job: JobKeys,
) -> Answered {
    if job.array.is_some_and(|count| count != 1) {
        return Err(bad("an allocation is one job: ask for each by itself"));
    }
    let program = Program { name: name.to_owned(), ..Program::default() };
    let taken = submit_for(shared, who, Submission { client, number, job, program }).await?;
    let allocation = taken.jobs.first().copied();
    let allocation = allocation.ok_or_else(|| bad("it was not accepted"))?;
    Ok(Json(json!(Allocation { allocation })))
}

async fn request(
    State(shared): State<Shared>,
    Extension(who): Extension<Who>,
    Json(asked): Json<ResourceRequest>,
) -> Answered {
    let mut job = json!({
        "reserve": asked.reserve,
        "needs": asked.needs().map_err(bad)?,
        "limit": asked.duration,
        "preferred_nodes": asked.preferred_nodes,
    });
    let more =
        [("priority", &asked.priority), ("account", &asked.account), ("begin", &asked.begin)];
    for (key, value) in more.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
        job[key] = Value::from(value.as_str());
    }
    let job = serde_json::from_value(job).map_err(|e| bad(e.to_string()))?;
    take(&shared, &who, "allocation", (asked.client, asked.number), job).await
}

async fn schedule(
    State(shared): State<Shared>,
    Extension(who): Extension<Who>,
    Json(asked): Json<Task>,
) -> Answered {
    take(&shared, &who, "task", (asked.client, asked.number), asked.job).await
}

async fn release(
    State(shared): State<Shared>,
    Extension(who): Extension<Who>,
    Path(job): Path<u64>,
) -> Answered {
    let id = JobId::new(job);
    let runs = shared.handle.look(move |_, history| Some(!history.get(id)?.command.is_empty()));
    if runs.await?.ok_or_else(|| not_found(format!("allocation {job} not found")))? {
        let what = format!("job {job} runs a command: cancel it");
        return Err(Wrong(StatusCode::CONFLICT, what));
    }
    about_job(&shared, &who, job, |account, job| Asked::CancelJob { account, job }).await
}
