//! Plays a history on the core and on the model side by side, and compares them after every entry.

use crate::model::{Leaving, Model};
use gridcore::command::{Command, Entry, JobSpec, Outcome, Reply, Report, Request};
use gridcore::config::{Config, Exhaustion};
use gridcore::deny::Denied;
use gridcore::grid::Grid;
use gridcore::ids::{AccountId, JobId, NodeId};
use gridcore::jobs::JobState;
use gridcore::leases::Lease;
use gridcore::state::State;
use gridcore::units::Time;
use gridcore::wire::Status;

/// The core and the model of one cluster.
#[derive(Debug)]
pub struct Pair {
    grid: Grid,
    model: Model,
    pause: bool,
}

/// What an entry means to the model, read before the core applies it.
enum Meaning {
    Nothing,
    Ended(JobId, NodeId, Outcome),
    Cancel(JobId),
    Requeue(JobId),
}

impl Pair {
    /// Builds both; the order of equal nodes is the core's.
    ///
    /// # Panics
    /// When the configuration is refused.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let grid = match Grid::new(config.clone(), Time::ZERO) {
            Ok(grid) => grid,
            Err(error) => panic!("a test's configuration is accepted: {error}"),
        };
        let rank = grid.state().tie_rank.iter().map(|(_, rank)| *rank).collect();
        let pause = config.rules.atp.on_exhaustion == Exhaustion::Pause;
        Self { model: Model::new(config, rank), grid, pause }
    }

    /// Applies an entry to both.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn apply(&mut self, entry: &Entry<Command>) -> Result<(), String> {
        let meaning = self.meaning(&entry.command);
        let answer = self.grid.apply(entry, &mut Vec::new());
        let now = entry.at;
        self.model.run_due(now);
        match meaning {
            Meaning::Nothing => {}
            Meaning::Ended(job, node, outcome) => {
                if self.model.end_on(job, node, outcome) {
                    self.ended(job, outcome, now);
                }
            }
            Meaning::Cancel(job) if answer.is_ok() => {
                let running = self.model.tasks.get(&job).is_some_and(|t| t.places.is_some());
                if running {
                    self.model.leave(job, Leaving::Cancelled);
                } else {
                    self.model.tasks.remove(&job);
                    self.model.settle_dependents(job, false);
                }
            }
            Meaning::Requeue(job) if answer.is_ok() => self.model.leave(job, Leaving::Requeued),
            Meaning::Cancel(_) | Meaning::Requeue(_) => {}
        }
        if let Command::Request(request) = &entry.command {
            self.request(request, &answer, now)?;
        }
        self.model.pass(now);
        differences(self.grid.state(), &self.model).map_or(Ok(()), Err)
    }

    fn meaning(&self, command: &Command) -> Meaning {
        match command {
            Command::Report(Report::Lease { node, item }) => {
                let open = self.grid.state().leases.get(&item.lease);
                let same = |open: &&Lease| {
                    open.epoch == item.epoch && open.places().any(|place| place == *node)
                };
                match (open.filter(same), item.status) {
                    (Some(open), Status::Ended(outcome, _)) => {
                        Meaning::Ended(open.job, *node, outcome)
                    }
                    (_, _) => Meaning::Nothing,
                }
            }
            Command::Request(Request::CancelJob { job, .. }) => Meaning::Cancel(*job),
            Command::Request(Request::RequeueJob { job, .. }) => Meaning::Requeue(*job),
            Command::Request(_) | Command::Numbered(_) | Command::Report(_) | Command::Wake => {
                Meaning::Nothing
            }
        }
    }

    fn ended(&mut self, job: JobId, outcome: Outcome, now: Time) {
        let task = self.model.tasks.get(&job);
        let leaving = task.and_then(|task| task.leaving);
        let outcome = task.and_then(|task| task.outcome).unwrap_or(outcome);
        let again = match leaving {
            Some(Leaving::Budget) => self.pause,
            Some(Leaving::Requeued) => true,
            Some(Leaving::Cancelled | Leaving::Limit | Leaving::Gang) | None => false,
        };
        if outcome == Outcome::Stopped && again {
            self.model.requeue_stopped(job, leaving == Some(Leaving::Budget), now);
        } else {
            self.model.end(job, now);
            self.model.settle_dependents(job, outcome == Outcome::Completed);
        }
    }

    /// Returns a job with the pool that the core has chosen for it: the model knows no prices.
    fn in_its_pool(&self, id: JobId, job: &JobSpec) -> JobSpec {
        let state = self.grid.state();
        let chosen = state.jobs.get(&id).filter(|_| job.any_pool);
        let pool = chosen.map_or(job.pool, |job| state.shapes[job.shape].pool);
        JobSpec { pool, ..job.clone() }
    }

    fn request(
        &mut self,
        request: &Request,
        answer: &Result<Reply, Denied>,
        now: Time,
    ) -> Result<(), String> {
        match (request, answer) {
            (Request::SubmitJob { account, job }, Ok(Reply::Submitted(id))) => {
                self.model.submit(*id, (*account, now), &self.in_its_pool(*id, job));
                if job.refuse_if_busy {
                    self.model.pass_pool(job.pool.get() as usize, now);
                    if self.model.tasks.get(id).is_none_or(|task| task.places.is_none()) {
                        return Err(format!("{id} starts at once in the core only"));
                    }
                }
            }
            (Request::SubmitJob { account, job }, Err(Denied::Busy(_))) => {
                let id = self.grid.state().next.job;
                self.model.submit(id, (*account, now), job);
                self.model.pass_pool(job.pool.get() as usize, now);
                let refused = self.model.tasks.remove(&id);
                if refused.is_some_and(|task| task.places.is_some()) {
                    return Err(format!("{id} starts at once in the model only"));
                }
            }
            (Request::HoldJob { job, .. } | Request::ReleaseJob { job, .. }, Ok(_)) => {
                let held = matches!(request, Request::HoldJob { .. });
                self.model.tasks.get_mut(job).into_iter().for_each(|task| task.held = held);
            }
            (Request::Deposit { account, amount }, Ok(_)) => {
                self.model.deposit(*account, amount.get());
            }
            (Request::Drain { node, .. }, Ok(_)) => self.model.drain(*node, true),
            (Request::Undrain { node }, Ok(_)) => self.model.drain(*node, false),
            (_, _) => {}
        }
        Ok(())
    }
}

/// Returns the first difference between the core and the model, in words.
fn differences(state: &State, model: &Model) -> Option<String> {
    let jobs: Vec<JobId> = state.jobs.keys().collect();
    let tasks: Vec<JobId> = model.tasks.keys().copied().collect();
    if jobs != tasks {
        return Some(format!("the core has jobs {jobs:?}, the model {tasks:?}"));
    }
    for (id, job) in state.jobs.iter() {
        let task = &model.tasks[&id];
        let core = match job.state {
            JobState::Running(lease) => {
                let members = &state.lease(lease).members;
                Some(members.iter().map(|m| (m.node, m.devices)).collect::<Vec<_>>())
            }
            JobState::Pending | JobState::Held | JobState::Dependent | JobState::Nominated => None,
        };
        if core != task.places || (job.state == JobState::Held) != task.held {
            return Some(format!("{id} is {:?} on {core:?}, in the model {task:?}", job.state));
        }
    }
    for (id, account) in state.ledger.accounts.iter() {
        let AccountIndex(i) = id.into();
        let (core, model) = (i128::from(account.available.get()), model.available[i]);
        if core != model {
            return Some(format!("{id} has {core} available, in the model {model}"));
        }
    }
    let treasury = i128::from(state.ledger.treasury.get());
    if treasury != model.treasury {
        return Some(format!("the treasury has {treasury}, in the model {}", model.treasury));
    }
    let usage = |(id, account): (AccountId, &gridcore::ledger::Account)| {
        let AccountIndex(i) = id.into();
        (account.usage.get() != model.usage[i]).then(|| {
            format!("{id} has used {}, in the model {}", account.usage.get(), model.usage[i])
        })
    };
    state.ledger.accounts.iter().find_map(usage)
}

/// An account's place in the model's lists.
struct AccountIndex(usize);

impl From<AccountId> for AccountIndex {
    fn from(id: AccountId) -> Self {
        Self(usize::try_from(id.get()).unwrap_or(usize::MAX))
    }
}
