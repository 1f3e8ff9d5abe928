//! Open requests: the jobs of an account that wait or run. The jobs of an array share a program:
//! they are one request.

use crate::ids::{AccountId, JobId};
use crate::jobs::Job;
use crate::state::State;
use crate::wire::Task;
use alloc::boxed::Box;

/// Counts one more job of a task among the open requests of its account.
pub(super) fn begin_request(state: &mut State, account: AccountId, task: Task) {
    let mut first = true;
    if task.program > 0 {
        let jobs = state.requests.entry((account, task.program)).or_insert(0);
        (first, *jobs) = (*jobs == 0, *jobs + 1);
    }
    state.ledger.accounts[account].requests += u32::from(first);
}

/// Takes a job out of the table, and out of the open requests of its account.
pub(super) fn forget_job(state: &mut State, id: JobId) -> Option<Box<Job>> {
    let job = state.jobs.remove(&id)?;
    let mut last = true;
    if job.task.program > 0 {
        let key = (job.account, job.task.program);
        if let Some(jobs) = state.requests.get_mut(&key) {
            *jobs -= 1;
            last = *jobs == 0;
        }
        if last {
            state.requests.remove(&key);
        }
    }
    state.ledger.accounts[job.account].requests -= u32::from(last);
    Some(job)
}
