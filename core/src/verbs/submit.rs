//! What clients ask for: submit, cancel, hold, release and requeue jobs, deposit, drain, configure.

use super::Work;
use super::check::{check_room, check_shape, check_spec};
use super::release::begin_release;
use super::requests::{begin_request, forget_job};
use super::waiting::{dequeue, enqueue};
use crate::canary::{Canary, planted};
use crate::command::{Command, JobSpec, Reply, Report};
use crate::config::{Order, Rules, Strategy};
use crate::deny::Denied;
use crate::due::Due;
use crate::effect::{Effect, EvictionReason, FinalState, JobEnd};
use crate::explain::explain;
use crate::ids::{AccountId, JobId, NodeId, ShapeId};
use crate::index::Index;
use crate::jobs::{Ahead, Job, JobState};
use crate::leases::LeaseState;
use crate::shadow::Shadow;
use crate::shapes::Shape;
use crate::state::{State, permutation};
use crate::units::MilliCores;
use crate::wire::{Item, Status};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Most characters kept of an administrator's reason.
const REASON_MAX: usize = 253;

impl Work<'_> {
    /// Accepts a job, or refuses it with the numbers that mattered.
    ///
    /// # Errors
    /// When the job is malformed, could never run, or says `if_busy: refuse` and cannot start now.
    pub fn submit(&mut self, account: AccountId, spec: &JobSpec) -> Result<Reply, Denied> {
        check_spec(self.state, account, spec)?;
        let shape = self.shape_of(account, spec)?;
        // Nothing below can be refused but by a job that says so itself.
        let id = self.state.next.job;
        let mut job = Box::new(Job::new(id, account, shape, spec, self.state.now));
        let vain = |on: &&JobId| self.state.job(**on).hopeless.is_some();
        job.hopeless = job.after.iter().find(vain).copied();
        for on in job.after.iter() {
            self.state.dependents.entry(*on).or_default().insert(id);
        }
        if let Some(begin) = job.begin {
            self.state.timers.set(begin, Due::Begin(id));
        }
        self.state.jobs.insert(id, job);
        begin_request(self.state, account, spec.task);
        let settled = !spec.refuse_if_busy && self.starts_at_once(id);
        if !self.state.job(id).state.is_running() {
            enqueue(self.state, id);
            if settled {
                self.state.changed.pop_entered();
            }
        }
        if spec.reserve {
            self.keep_ahead_or_refuse(id)?;
        }
        if spec.refuse_if_busy {
            self.start_now_or_refuse(id, shape)?;
        }
        self.state.next.job = id.next();
        Ok(Reply::Submitted(id))
    }

    /// Counts a job among those of its shape.
    ///
    /// # Errors
    /// When that is malformed, or no node could ever take it.
    fn shape_of(&mut self, account: AccountId, spec: &JobSpec) -> Result<ShapeId, Denied> {
        let strategy = self.state.rules.scheduling.strategy;
        let home = strategy.is_home_first().then_some(account);
        let cheapest = spec.any_pool && strategy == Strategy::Cheapest;
        let known = self.state.shapes.find_like(spec, home).filter(|_| !cheapest);
        if let Some(known) = known {
            self.state.shapes.join(known);
            return Ok(known);
        }
        check_shape(self.state, spec)?;
        let mut shape = Shape::new(spec, home);
        if cheapest {
            shape.pool = self.cheapest_pool(account, spec, &shape);
        }
        // A shape that is known has passed this before: hardware, labels and quotas never change.
        if let Some(known) = self.state.shapes.find(&shape) {
            self.state.shapes.join(known);
            return Ok(known);
        }
        check_room(self.state, &shape)?;
        let fresh = self.state.shapes.enter(shape);
        self.index.forget(fresh);
        Ok(fresh)
    }

    /// Returns whether the pass is left to the ends that follow at this very instant: limits have
    /// freed capacity, and the entry is neither an end nor a job that fits (TRUTHS.md section 1).
    #[must_use]
    pub fn waits_for_ends(&mut self, command: &Command, reply: &Result<Reply, Denied>) -> bool {
        let reserves = self.state.rules.scheduling.backfill.reservations() > 0;
        if !reserves || self.state.released == 0 {
            return false;
        }
        let ends = |item: &Item| matches!(item.status, Status::Ended(..));
        if matches!(command, Command::Report(Report::Lease { item, .. }) if ends(item)) {
            return false;
        }
        let Ok(Reply::Submitted(id)) = reply else { return true };
        let Some(JobState::Pending) = self.state.jobs.get(id).map(|job| job.state) else {
            return true;
        };
        let shape = self.state.job(*id).shape;
        self.index.read_changes(self.state);
        self.index.refresh(self.state, shape) == 0
    }

    /// Keeps a place for a job from its beginning on, or takes it back.
    fn keep_ahead_or_refuse(&mut self, id: JobId) -> Result<(), Denied> {
        let job = self.state.job(id);
        let (shape, begin) = (job.shape, job.begin.unwrap_or(self.state.now));
        let pool = self.state.shapes[shape].pool;
        let mut shadow = Shadow::of_reservations(self.state, pool, None);
        let wanted = Ahead { begin, places: Vec::new() };
        let found = shadow.keep_ahead(self.state, job, &wanted);
        let from = found.as_ref().map(|(from, _)| *from);
        if let Some((_, places)) = found.filter(|(from, _)| *from == begin) {
            self.state.reserved.entry(pool).or_default().insert(id, Ahead { begin, places });
            self.state.changed.stir();
            return Ok(());
        }
        self.state.timers.clear(begin, Due::Begin(id));
        forget_job(self.state, id);
        self.state.shapes.leave(shape);
        Err(Denied::NoPlaceThen { soonest: from })
    }

    /// Starts a job at once or takes it back.
    fn start_now_or_refuse(&mut self, id: JobId, shape: ShapeId) -> Result<(), Denied> {
        self.pass_pool(self.state.shapes[shape].pool);
        if matches!(self.state.job(id).state, JobState::Running(_)) {
            return Ok(());
        }
        let why = explain(self.state, id).unwrap_or_default();
        dequeue(self.state, id);
        forget_job(self.state, id);
        self.state.shapes.leave(shape);
        Err(Denied::Busy(why))
    }

    /// Ends a waiting job, or tells a running one to leave.
    ///
    /// # Errors
    /// When the job does not exist or belongs to another account.
    pub fn cancel(&mut self, account: AccountId, id: JobId) -> Result<Reply, Denied> {
        let job = own_job(self.state, account, id)?;
        // Nothing below can be refused.
        match job.state {
            JobState::Running(lease) => {
                let grace = self.state.rules.preemption.grace;
                self.state.job_mut(id).cancelled = !planted(Canary::ForgetCancel);
                begin_release(self, lease, EvictionReason::UserRequest, grace);
            }
            JobState::Nominated => {
                self.drop_claim(id);
                finish(self, id, FinalState::Cancelled);
            }
            JobState::Pending => {
                dequeue(self.state, id);
                finish(self, id, FinalState::Cancelled);
            }
            JobState::Held | JobState::Dependent => finish(self, id, FinalState::Cancelled),
        }
        Ok(Reply::Done)
    }

    /// Keeps a waiting job from starting.
    ///
    /// # Errors
    /// When the job does not exist, is not the account's, or does not wait.
    pub fn hold_job(&mut self, account: AccountId, id: JobId) -> Result<Reply, Denied> {
        let job = own_job(self.state, account, id)?;
        if !matches!(job.state, JobState::Pending | JobState::Dependent) {
            return Err(Denied::WrongState { job: id, state: job.state.name().into() });
        }
        // Nothing below can be refused.
        if job.state == JobState::Pending {
            dequeue(self.state, id);
        }
        self.state.job_mut(id).state = JobState::Held;
        if self.state.job(id).begin.is_none() {
            self.state.release_place(id);
        }
        Ok(Reply::Done)
    }

    /// Ends a job's running attempt within a notice; the job waits again, at its old place.
    ///
    /// # Errors
    /// When the job does not exist, is not the account's, does not run, or is leaving already.
    pub fn requeue_job(&mut self, account: AccountId, id: JobId) -> Result<Reply, Denied> {
        let job = own_job(self.state, account, id)?;
        let wrong = |state: &'static str| Denied::WrongState { job: id, state: state.into() };
        let JobState::Running(lease) = job.state else { return Err(wrong(job.state.name())) };
        if self.state.lease(lease).state != LeaseState::Active {
            return Err(wrong("leaving"));
        }
        let grace = self.state.rules.preemption.grace;
        begin_release(self, lease, EvictionReason::UserRequest, grace);
        Ok(Reply::Done)
    }

    /// Stops a running job's processes, or lets them go on. It keeps what it holds and pays for it,
    /// or anybody could keep a machine for nothing.
    ///
    /// # Errors
    /// When the job does not exist, is not the account's, does not run, is leaving, or is suspended
    /// (or not) already.
    pub fn suspend_job(
        &mut self,
        account: AccountId,
        id: JobId,
        suspended: bool,
    ) -> Result<Reply, Denied> {
        let job = own_job(self.state, account, id)?;
        let wrong = |state: &'static str| Denied::WrongState { job: id, state: state.into() };
        let JobState::Running(lease) = job.state else { return Err(wrong(job.state.name())) };
        let open = self.state.lease(lease);
        if open.state != LeaseState::Active {
            return Err(wrong("leaving"));
        }
        if open.suspended.is_some() == suspended {
            return Err(wrong(if suspended { "suspended" } else { "running" }));
        }
        // Nothing below can be refused.
        let now = self.state.now;
        if suspended {
            // What stands still needs no more than it keeps; it grows with a term after that.
            self.set_extra(lease, MilliCores::ZERO);
        }
        self.state.lease_mut(lease).set_suspended(suspended, now);
        self.order_to_go_on(lease);
        Ok(Reply::Done)
    }

    /// Lets a held job wait again, at its old place.
    ///
    /// # Errors
    /// When the job does not exist, is not the account's, or is not held.
    pub fn release_job(&mut self, account: AccountId, id: JobId) -> Result<Reply, Denied> {
        let job = own_job(self.state, account, id)?;
        if job.state != JobState::Held {
            return Err(Denied::WrongState { job: id, state: job.state.name().into() });
        }
        // Nothing below can be refused.
        let job = self.state.job_mut(id);
        job.lost_with.clear();
        job.suspect = false;
        enqueue(self.state, id);
        Ok(Reply::Done)
    }

    /// Stops a node from taking anything new.
    ///
    /// # Errors
    /// When the node does not exist.
    pub fn drain(&mut self, node: NodeId, reason: &str) -> Result<Reply, Denied> {
        if self.state.nodes.find(node).is_none() {
            return Err(Denied::NoNode(node));
        }
        // Nothing below can be refused.
        self.state.nodes[node].draining = Some(reason.chars().take(REASON_MAX).collect());
        self.withdraw(node);
        Ok(Reply::Done)
    }

    /// Lets a drained node work again.
    ///
    /// # Errors
    /// When the node does not exist.
    pub fn undrain(&mut self, node: NodeId) -> Result<Reply, Denied> {
        if self.state.nodes.find(node).is_none() {
            return Err(Denied::NoNode(node));
        }
        // Nothing below can be refused.
        self.state.nodes[node].failures.clear();
        if self.state.nodes[node].draining.take().is_some() {
            self.check_offer(node);
        }
        Ok(Reply::Done)
    }

    /// Puts other rules in force.
    ///
    /// # Errors
    /// When no cluster could run by them.
    pub fn configure(&mut self, rules: Rules) -> Result<Reply, Denied> {
        rules.validate().map_err(Denied::Config)?;
        // Nothing below can be refused.
        if rules.scheduling.seed != self.state.rules.scheduling.seed {
            let len = self.state.nodes.len();
            self.state.tie_rank = permutation(rules.scheduling.seed, len);
        }
        let ran_in_terms = self.state.runs_in_terms();
        let queue = |rules: &Rules| {
            let rules = &rules.scheduling;
            (rules.ageing, rules.starvation_after, rules.order == Order::EarliestDue)
        };
        let other = queue(&rules) != queue(&self.state.rules);
        let waiting = if other { self.dequeue_all() } else { Vec::new() };
        let least = self.state.rules.utilization.gpu_min;
        if rules.fair_share.half_life != self.state.rules.fair_share.half_life {
            self.decay_use();
        }
        self.state.rules = rules;
        self.adopt_utilization(least);
        self.adopt_karma();
        self.adopt_epochs();
        self.adopt_prices();
        waiting.into_iter().for_each(|id| enqueue(self.state, id));
        self.adopt_rules(ran_in_terms);
        *self.index = Index::new(self.state);
        self.state.changed.stir();
        if self.state.rules.scheduling.order != Order::EarliestDue {
            for account in self.state.ledger.accounts.ids() {
                let usage = self.state.usage_of(account);
                self.state.queue.rerank(account, usage);
            }
        }
        self.adopt_gates();
        Ok(Reply::Done)
    }
}

/// Takes a job out of the state for good.
///
/// # Panics
/// When the job has ended before: our bug.
pub fn finish(work: &mut Work<'_>, id: JobId, end: FinalState) {
    // It may have ended while it was told to move, or before its reservation began.
    work.drop_claim(id);
    work.state.release_place(id);
    if let Some(begin) = work.state.job(id).begin {
        work.state.timers.clear(begin, Due::Begin(id));
    }
    let job = forget_job(work.state, id);
    assert!(job.is_some(), "job {id} ends once");
    let Some(job) = job else { return };
    work.state.shapes.leave(job.shape);
    leave_dependencies(work.state, &job);
    settle_dependents(work.state, id, end == FinalState::Completed);
    work.effects.push(Effect::Finished(JobEnd {
        job: id,
        state: end,
        charged: job.charged,
        refunded: job.refunded,
    }));
}

/// Lets a job that is gone wait for nobody.
fn leave_dependencies(state: &mut State, job: &Job) {
    for on in job.after.iter() {
        if let Some(others) = state.dependents.get_mut(on) {
            others.remove(&job.id);
            if others.is_empty() {
                state.dependents.remove(on);
            }
        }
    }
}

/// Lets the jobs that wait for one go on, or notes that they, and those that wait for them, wait in
/// vain: they stay until their accounts take them back.
fn settle_dependents(state: &mut State, id: JobId, completed: bool) {
    if !state.dependents.contains_key(&id) {
        return;
    }
    let mut open = Vec::from([(id, completed)]);
    while let Some((on, completed)) = open.pop() {
        for other in state.dependents.remove(&on).unwrap_or_default() {
            let job = state.job_mut(other);
            job.after.remove(&on);
            if !completed && job.hopeless.is_none() {
                job.hopeless = Some(on);
                open.push((other, false));
            }
            if job.state == JobState::Dependent && !job.depends() {
                enqueue(state, other);
            }
        }
    }
}

/// Returns an account's own job.
fn own_job(state: &State, account: AccountId, id: JobId) -> Result<&Job, Denied> {
    let job = state.jobs.get(&id).ok_or(Denied::NoJob(id))?;
    if job.account == account { Ok(job) } else { Err(Denied::NotYours { job: id, account }) }
}

impl Work<'_> {
    /// Pays out the deposits that the configuration names.
    ///
    /// # Panics
    /// Never: the deposits were validated.
    pub fn open_accounts(&mut self) {
        for account in self.state.ledger.accounts.ids() {
            let amount = self.state.account(account).spec.deposit;
            if !amount.is_zero() && self.state.rules.atp.enabled {
                let paid = self.deposit(account, amount);
                assert!(paid.is_ok(), "a validated deposit is accepted");
            }
        }
    }

    /// Puts new credit into an account.
    ///
    /// # Errors
    /// When the account does not exist or would hold too much.
    pub fn deposit(
        &mut self,
        account: AccountId,
        amount: crate::units::MicroAtp,
    ) -> Result<Reply, Denied> {
        let now = self.state.now;
        self.state.ledger.deposit(account, amount, now, self.effects)?;
        Ok(Reply::Done)
    }
}
