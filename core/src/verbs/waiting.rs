//! Waiting: into the queue and out of it, and growing older there.

use super::Work;
use crate::canary::{Canary, planted};
use crate::charges::is_refused;
use crate::due::Due;
use crate::ids::JobId;
use crate::jobs::{Job, JobState};
use crate::state::State;
use crate::units::{Span, Time};
use alloc::vec::Vec;

/// Puts a job into the queue, or lets it wait for others first.
pub fn enqueue(state: &mut State, id: JobId) {
    if state.job(id).depends() && !planted(Canary::StartDependent) {
        state.job_mut(id).state = JobState::Dependent;
        return;
    }
    let (now, job) = (state.now, state.job(id));
    let (key, pool) = (state.line_of(job), state.shapes[job.shape].pool);
    let usage = state.rank_usage(key);
    let class = job.class_after(job.waited, &state.rules.scheduling);
    state.queue.age(id, class, key, usage);
    state.queue.enter(id, key, pool, usage);
    let job = state.job_mut(id);
    (job.state, job.waits_since) = (JobState::Pending, Some(now));
    await_ageing(state, id);
    state.changed.stir();
}

/// Sets when a waiting job counts a class more next.
fn await_ageing(state: &mut State, id: JobId) {
    let (now, job) = (state.now, state.job(id));
    let wait = job.waited(now);
    let next = job.next_ageing(wait, &state.rules.scheduling);
    let at = next.map(|next| now.after(next.saturating_sub(wait)));
    state.job_mut(id).ages_at = at;
    state.timers.set(at.unwrap_or(Time::MAX), Due::Age(id));
}

/// Takes back when a job counts a class more next.
fn stop_ageing(state: &mut State, id: JobId) {
    if let Some(at) = state.job_mut(id).ages_at.take() {
        state.timers.clear(at, Due::Age(id));
    }
}

impl Work<'_> {
    /// Lets a waiting job count a class more, unless it waited for something else than room: who
    /// cannot pay does not grow older by that.
    pub fn age(&mut self, id: JobId) {
        let (now, state) = (self.state.now, &mut *self.state);
        let Some(job) = state.jobs.get(&id) else { return };
        if job.state != JobState::Pending || job.ages_at != Some(now) {
            return;
        }
        let (wait, rules) = (job.waited(now), &state.rules.scheduling);
        let refused = is_refused(state, job, &state.shapes[job.shape]);
        let wait = if refused {
            // The step that ends now does not count.
            let since = job.waits_since.map_or(Span::ZERO, |since| now.since(since));
            wait.saturating_sub(rules.ageing.map_or(since, |step| step.min(since)))
        } else {
            let class = job.class_after(wait, rules);
            let key = state.line_of(job);
            let usage = state.rank_usage(key);
            state.queue.age(id, class, key, usage);
            state.changed.stir();
            wait
        };
        let job = state.job_mut(id);
        (job.waited, job.waits_since) = (wait, Some(now));
        await_ageing(state, id);
    }

    /// Takes all that waits out of the queue, in the order of submission: it goes in again where
    /// its lines or classes are those of other rules.
    pub fn dequeue_all(&mut self) -> Vec<JobId> {
        let waits = |(id, job): (JobId, &Job)| (job.state == JobState::Pending).then_some(id);
        let waiting: Vec<JobId> = self.state.jobs.iter().filter_map(waits).collect();
        waiting.iter().for_each(|id| dequeue(self.state, *id));
        waiting
    }
}

/// Takes a job out of the queue.
pub fn dequeue(state: &mut State, id: JobId) {
    let job = state.job(id);
    let (key, pool) = (state.line_of(job), state.shapes[job.shape].pool);
    let usage = state.rank_usage(key);
    state.queue.leave(id, key, pool, usage);
    stop_ageing(state, id);
    let now = state.now;
    let job = state.job_mut(id);
    job.waited = job.waited(now);
    job.waits_since = None;
    state.changed.stir();
}
