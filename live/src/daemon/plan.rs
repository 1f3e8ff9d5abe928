//! What would become of a job: asked of a copy of the core, so the answer is what would happen.

use super::keeper::Refusal;
use super::views::{atp, places, why};
use gridcore::charges::first_hold;
use gridcore::command::{Command, Entry, Reply, Request};
use gridcore::effect::Effect;
use gridcore::grid::Grid;
use gridcore::ids::{JobId, LeaseId};
use gridcore::jobs::JobState;
use serde_json::{Value, json};

/// Submits a job to a copy of the core, and tells what followed at once.
///
/// # Errors
/// When the core refuses the job.
pub fn plan(grid: &Grid, request: Request, members: u64) -> Result<Value, Refusal> {
    let mut copy = grid.clone();
    let at = copy.state().now;
    let mut effects = Vec::new();
    let mut apply = |copy: &mut Grid, command| {
        let seq = copy.state().seq.next();
        copy.apply(&Entry { seq, at, command }, &mut effects)
    };
    let reply = apply(&mut copy, Command::Request(request)).map_err(Refusal::Denied)?;
    let Reply::Submitted(id) = reply else { return Err(Refusal::Stopping) };
    while copy.next_wake().is_some_and(|(due, _)| due <= at) {
        let _ = apply(&mut copy, Command::Wake);
    }
    let state = copy.state();
    let evicts: Vec<u64> = effects.iter().filter_map(|effect| victim(&copy, effect)).collect();
    let Some(job) = state.jobs.get(&id) else { return Err(Refusal::Stopping) };
    let (starts, nodes) = match job.state {
        JobState::Running(lease) => ("now", places(state, lease)),
        JobState::Nominated => ("when others have left", claimed(&copy, id)),
        JobState::Pending | JobState::Held | JobState::Dependent => ("later", Vec::new()),
    };
    let price = first_hold(state, job, &state.shapes[job.shape]);
    Ok(json!({
        "schema": super::views::SCHEMA,
        "starts": starts,
        "nodes": nodes,
        "confidence": effects.iter().find_map(|effect| sure(effect, id)),
        "members": members,
        "makes_leave": evicts,
        "first_term_atp": state.rules.atp.enabled.then(|| atp(price.get())),
        "why": why(state, id),
    }))
}

/// Returns how sure a job is to stay where an effect says that it starts: the sum, and its parts.
fn sure(effect: &Effect, id: JobId) -> Option<Value> {
    let Effect::Granted { job, confidence, .. } = effect else { return None };
    (*job == id).then(|| {
        json!({
            "total": confidence.total().get(),
            "head_room": confidence.head_room.get(),
            "freshness": confidence.freshness.get(),
            "reputation": confidence.reputation.get(),
            "stay": confidence.stay.get(),
        })
    })
}

/// Returns the job that is told to leave by an effect.
fn victim(grid: &Grid, effect: &Effect) -> Option<u64> {
    let of = |lease: LeaseId| grid.state().leases.get(&lease).map(|lease| lease.job.get());
    match effect {
        Effect::Evicted { lease, .. } => of(*lease),
        Effect::Order { .. }
        | Effect::Send { .. }
        | Effect::Granted { .. }
        | Effect::Resized { .. }
        | Effect::Requeued { .. }
        | Effect::Idle(_)
        | Effect::Drained { .. }
        | Effect::Closed(_)
        | Effect::Finished(_)
        | Effect::Moved(_)
        | Effect::Offer { .. } => None,
    }
}

/// Returns where a job is to start once its victims have left.
fn claimed(grid: &Grid, job: JobId) -> Vec<String> {
    let state = grid.state();
    let members = state.claims.get(&job).map(|claim| claim.members.clone()).unwrap_or_default();
    members.iter().map(|member| state.nodes[member.node].spec.name.clone()).collect()
}
