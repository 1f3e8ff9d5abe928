//! Submission: jobs in, as the core knows them.

use super::{Answered, Shared, Wrong, bad, forbidden, in_turn, node_named, not_found};
use crate::daemon::access::Who;
use crate::daemon::history::{History, keep_program};
use crate::daemon::keeper::{Answered as Asking, Handle, Refusal};
use crate::daemon::store::is_full;
use crate::program::Program;
use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use gridcore::command::{Command, JobSpec, Near, Numbered, Reply, Request as Asked};
use gridcore::deny::Denied;
use gridcore::grid::Grid;
use gridcore::ids::{AccountId, JobId, PoolId};
use gridcore::state::mix;
use gridcore::units::Time;
use gridcore::wire::Task;
use gridsim::scenario::jobs::listed_job;
use gridsim::scenario::schema::Job as JobKeys;
use serde::Deserialize;
use serde_json::json;
use std::collections::VecDeque;

/// Most jobs of one array.
const ARRAY_MAX: u32 = 100_000;
/// Most jobs times those that each waits for.
const WAITS_MAX: u64 = 1_000_000;
/// How often a submission is tried again because a job that it waits for has just ended.
const TRIES: u64 = 8;

/// What is submitted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Submission {
    /// The client and the number of its request: asked again, it is answered again.
    pub(super) client: u64,
    pub(super) number: u64,
    /// The keys of a job, as in a scenario; it waits for others by their numbers.
    #[serde(default)]
    pub(super) job: JobKeys,
    /// What it runs.
    pub(super) program: Program,
}

/// What has become of the parts of a submission.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) jobs: Vec<u64>,
    /// Those that were to wait for a job that had just ended.
    late: Vec<u32>,
    refused: Option<Wrong>,
}

impl Parts {
    /// Waits for one answer, and notes it.
    async fn take(&mut self, asked: Option<(u32, Asking)>) {
        let Some((index, answer)) = asked else { return };
        match answer.take().await {
            Ok(Reply::Submitted(job)) => self.jobs.push(job.get()),
            Ok(Reply::Done | Reply::Stale) => {}
            Err(Refusal::Denied(Denied::NoJob(_))) => self.late.push(index),
            Err(refusal) => self.refused = Some(refusal.into()),
        }
    }
}

pub(super) async fn submit(
    State(shared): State<Shared>,
    Extension(who): Extension<Who>,
    Json(asked): Json<Submission>,
) -> Answered {
    let parts = submit_for(&shared, &who, asked).await?;
    Ok(Json(match parts.refused {
        Some(wrong) => json!({ "jobs": parts.jobs, "refused": wrong.1 }),
        None => json!({ "jobs": parts.jobs }),
    }))
}

/// Submits in somebody's name. What was refused of an array that was accepted in part is told.
///
/// # Errors
/// When nothing of it was accepted.
pub(super) async fn submit_for(
    shared: &Shared,
    who: &Who,
    mut asked: Submission,
) -> Result<Parts, Wrong> {
    // Not what somebody says of himself.
    asked.program.user.clone_from(&who.user);
    asked.program.check().map_err(bad)?;
    who.choose_account(&mut asked.job.account).map_err(forbidden)?;
    if asked.job.reserve {
        super::admins_only(who)?;
    }
    let count = asked.job.array.unwrap_or(1);
    if count == 0 || count > ARRAY_MAX {
        return Err(bad(format!("array is {count}; it must be 1 to {ARRAY_MAX}")));
    }
    let mut keys = asked.job;
    let after = std::mem::take(&mut keys.after);
    let waits = after.len() as u64 * u64::from(count);
    if waits > WAITS_MAX {
        return Err(bad(format!("{count} jobs after {}: at most {WAITS_MAX} in all", after.len())));
    }
    // Its parts are numbered by themselves, however many there are.
    let client = mix(asked.client, asked.number);
    let paces = shared.paces.clone();
    let found = shared.handle.look(move |grid, history| {
        let spec = spec_of(&keys, grid.state()).map_err(bad)?;
        in_turn(&paces, spec.0, grid.state())?;
        Ok::<_, Wrong>((spec, history.new_program()))
    });
    let ((account, mut spec), (program, folder)) = found.await??;
    if let Some(budget) = spec.budget {
        let atp = gridsim::json::fixed(budget.get().into());
        asked.program.env.push(("GRID_ATP_BUDGET".to_owned(), atp));
    }
    let handle = shared.handle.clone();
    let kept = tokio::task::spawn_blocking(move || {
        keep_program(&folder, program, &asked.program).map_err(|error| unkept(&handle, error))
    });
    let refused = kept.await.unwrap_or_else(|e| Err(bad(e.to_string()))).err();
    let mut parts = Parts { refused, ..Parts::default() };
    let mut open: Vec<u32> = (0..count).collect();
    for round in 0..TRIES {
        if open.is_empty() || parts.refused.is_some() {
            break;
        }
        match dependencies(shared, &after).await {
            Ok(jobs) => spec.after = jobs,
            Err(wrong) => {
                parts.refused = Some(wrong);
                break;
            }
        }
        let number = 1 + round * u64::from(count);
        ask(shared, (client, number), (account, &spec, program), &open, &mut parts).await;
        open = std::mem::take(&mut parts.late);
    }
    if !open.is_empty() && parts.refused.is_none() {
        let what = "the jobs to wait for end faster than they are asked for: try again";
        parts.refused = Some(Wrong(StatusCode::SERVICE_UNAVAILABLE, what.to_owned()));
    }
    // One that stays is deleted at the next start.
    let _ = shared.handle.look(move |_, history| history.leave_program(program)).await;
    parts.jobs.sort_unstable();
    match parts.refused.take_if(|_| parts.jobs.is_empty()) {
        Some(wrong) => Err(wrong),
        None => Ok(parts),
    }
}

/// Says why a program could not be kept; a disk that failed stops the daemon.
fn unkept(handle: &Handle, error: std::io::Error) -> Wrong {
    let what = format!("what the job runs could not be kept: {error}");
    if is_full(&error) {
        return Wrong(StatusCode::INSUFFICIENT_STORAGE, what);
    }
    handle.failed(error);
    Wrong(StatusCode::SERVICE_UNAVAILABLE, format!("{what}; the daemon stops"))
}

/// Asks the core for some parts of a submission: in order, because only so many replies are
/// remembered, and answered in groups.
async fn ask(
    shared: &Shared,
    (client, first): (u64, u64),
    (account, spec, program): (AccountId, &JobSpec, u64),
    open: &[u32],
    parts: &mut Parts,
) {
    let mut answers = VecDeque::new();
    for index in open.iter().copied() {
        let job = Box::new(JobSpec { task: Task { program, index }, ..spec.clone() });
        let request = Box::new(Asked::SubmitJob { account, job });
        let numbered = Numbered { client, number: first + u64::from(index), request };
        match shared.handle.begin(Command::Numbered(numbered)) {
            Ok(answer) => answers.push_back((index, answer)),
            Err(refusal) => {
                parts.refused = Some(refusal.into());
                break;
            }
        }
        if answers.len() >= 1_000 {
            parts.take(answers.pop_front()).await;
        }
    }
    while let Some(answer) = answers.pop_front() {
        parts.take(Some(answer)).await;
    }
}

/// Returns the jobs that one is to wait for, as far as they have not completed.
async fn dependencies(shared: &Shared, after: &[String]) -> Result<Vec<JobId>, Wrong> {
    let number = |text: &String| {
        let number = text.parse().map(JobId::new);
        number.map_err(|_| bad(format!("after {text:?}: give the number of a job")))
    };
    let wanted: Vec<JobId> = after.iter().map(number).collect::<Result<_, _>>()?;
    let look = move |grid: &Grid, history: &mut History| {
        let mut jobs = Vec::new();
        for job in wanted {
            let ended = history.get(job).and_then(|memory| memory.ended.as_ref());
            match ended {
                _ if grid.state().jobs.contains_key(&job) => jobs.push(job),
                Some(ended) if ended.state == "completed" => {}
                Some(ended) => return Err((job, Some(ended.state.clone()))),
                None => return Err((job, None)),
            }
        }
        Ok(jobs)
    };
    shared.handle.look(look).await?.map_err(|(job, state)| match state {
        Some(state) => {
            let what = format!("job {job} was to complete first and is {state}");
            Wrong(StatusCode::CONFLICT, what)
        }
        None => not_found(format!("job {job} not found")),
    })
}

/// Says what would become of a job, without submitting it: on a copy of the core, as it would.
pub(super) async fn plan(
    State(shared): State<Shared>,
    Extension(who): Extension<Who>,
    Json(mut keys): Json<JobKeys>,
) -> Answered {
    who.choose_account(&mut keys.account).map_err(forbidden)?;
    let after = dependencies(&shared, &std::mem::take(&mut keys.after)).await?;
    let look = move |grid: &Grid, _: &mut History| {
        let (account, spec) = spec_of(&keys, grid.state())?;
        let members = u64::from(spec.members);
        let job = Box::new(JobSpec { after, ..spec });
        let request = Asked::SubmitJob { account, job };
        Ok(super::super::plan::plan(grid, request, members))
    };
    let planned: Result<_, String> = shared.handle.look(look).await?;
    Ok(Json(planned.map_err(bad)??))
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
    let spec = record.spec(pool, find);
    let mut spec = spec.map_err(|name| format!("node {name:?} not found"))?;
    // What is said counts from now on.
    spec.begin = spec.begin.map(|begin| state.now.after(begin.since(Time::ZERO)));
    if let Some(Near::Zone(zone)) = &spec.near {
        let known = !zone.is_empty() && state.nodes.iter().any(|(_, node)| node.spec.zone == *zone);
        known.then_some(()).ok_or_else(|| format!("node or zone {zone:?} not found"))?;
    }
    Ok((account, *spec))
}
