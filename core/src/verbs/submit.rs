//! What clients ask for: submit, cancel, hold, release and requeue jobs, deposit, drain, configure.

use super::Work;
use super::release::begin_release;
use super::waiting::{dequeue, enqueue};
use crate::bundle::{Bundle, GPUS_MAX};
use crate::canary::{Canary, planted};
use crate::command::{Command, JobSpec, Reply, Report};
use crate::config::{JOBS_MAX, MEMBERS_MAX, Order, Rules, Strategy};
use crate::deny::{Denied, first_short};
use crate::effect::{Effect, EvictionReason, FinalState, JobEnd};
use crate::explain::explain;
use crate::ids::{AccountId, JobId, NodeId, ShapeId};
use crate::index::Index;
use crate::jobs::{Job, JobState, Shape};
use crate::leases::LeaseState;
use crate::placement::{members_on, suits};
use crate::state::{State, permutation};
use crate::wire::Status;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

/// Most jobs that one may wait for.
const AFTER_MAX: usize = 1_024;
/// Most characters kept of an administrator's reason.
const REASON_MAX: usize = 253;

impl Work<'_> {
    /// Accepts a job, or refuses it with the numbers that mattered.
    ///
    /// # Errors
    /// When the job is malformed, could never run, or says `if_busy: refuse` and cannot start now.
    pub fn submit(&mut self, account: AccountId, spec: &JobSpec) -> Result<Reply, Denied> {
        check_spec(self.state, account, spec)?;
        let shape = Shape {
            pool: spec.pool,
            needs: spec.needs,
            members: spec.members,
            spread: spec.spread,
            labels: spec.labels.clone(),
            preferred: spec.preferred.clone(),
            home: (self.state.rules.scheduling.strategy == Strategy::LocalFirst).then_some(account),
        };
        // A shape that is known has passed this before: hardware, labels and quotas never change.
        if !self.state.shapes.knows(&shape) {
            check_room(self.state, &shape)?;
        }
        // Nothing below can be refused but by a job that says so itself.
        let (shape, replaced) = self.state.shapes.enter(shape);
        if replaced {
            self.index.forget(shape);
        }
        let id = self.state.next.job;
        let mut job = Job::new(id, account, shape, spec, self.state.now);
        let vain = |on: &&JobId| self.state.job(**on).hopeless.is_some();
        job.hopeless = job.after.iter().find(vain).copied();
        for on in &job.after {
            self.state.dependents.entry(*on).or_default().insert(id);
        }
        self.state.jobs.insert(id, job);
        enqueue(self.state, id);
        if spec.refuse_if_busy {
            self.start_now_or_refuse(id, shape)?;
        }
        self.state.next.job = id.next();
        Ok(Reply::Submitted(id))
    }

    /// Returns whether the pass is left to the ends that follow at this very instant: limits have
    /// freed capacity, and the entry is neither an end nor a job that fits (TRUTHS.md section 1).
    #[must_use]
    pub fn waits_for_ends(&mut self, command: &Command, reply: &Result<Reply, Denied>) -> bool {
        let reserves = self.state.rules.scheduling.backfill.reservations() > 0;
        if !reserves || self.state.released == 0 {
            return false;
        }
        if let Command::Report(Report::Lease { status: Status::Ended(..), .. }) = command {
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

    /// Starts a job at once or takes it back.
    fn start_now_or_refuse(&mut self, id: JobId, shape: ShapeId) -> Result<(), Denied> {
        self.pass_pool(self.state.shapes[shape].pool);
        if matches!(self.state.job(id).state, JobState::Running(_)) {
            return Ok(());
        }
        let why = explain(self.state, id).unwrap_or_default();
        dequeue(self.state, id);
        self.state.jobs.remove(&id);
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
        (job.lost_with, job.suspect) = (BTreeSet::new(), false);
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
        self.state.rules = rules;
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
    let job = work.state.jobs.remove(&id);
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
    for on in &job.after {
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

/// Refuses a malformed job.
fn check_spec(state: &State, account: AccountId, spec: &JobSpec) -> Result<(), Denied> {
    if state.ledger.accounts.find(account).is_none() {
        return Err(Denied::NoAccount(account));
    }
    if state.pools.find(spec.pool).is_none() {
        return Err(Denied::NoPool(spec.pool));
    }
    if let Some(node) = spec.preferred.iter().find(|node| state.nodes.find(**node).is_none()) {
        return Err(Denied::NoNode(*node));
    }
    if spec.needs.is_zero() {
        return Err(Denied::Empty);
    }
    let gpus = spec.needs.gpus;
    let words = spec.labels.iter().map(|need| need.any_of.len()).max().unwrap_or(0);
    let texts = spec.labels.iter().flat_map(|need| need.any_of.iter().chain([&need.key]));
    let longest = texts.map(String::len).max().unwrap_or(0);
    if let Some(gone) = spec.after.iter().find(|on| state.jobs.get(on).is_none()) {
        return Err(Denied::NoJob(*gone));
    }
    let after = spec.after.len();
    let bounds: [(&'static str, u64, bool, &'static str); 10] = [
        ("gpus", u64::from(gpus.count), usize::from(gpus.count) <= GPUS_MAX, "at most 64"),
        (
            "gpu_share",
            u64::from(gpus.share.get()),
            gpus.share <= crate::units::PerMille::WHOLE
                && (gpus.count == 0) == gpus.share.is_zero(),
            "1 to 1,000 thousandths with a GPU, else 0",
        ),
        (
            "members",
            u64::from(spec.members),
            (1..=MEMBERS_MAX).contains(&spec.members),
            "1 to 1,024",
        ),
        ("limit", 0, spec.limit.is_none_or(|limit| !limit.is_zero()), "above 0"),
        ("labels", spec.labels.len() as u64, spec.labels.len() <= 64, "at most 64"),
        ("label values", words as u64, words <= 64, "at most 64"),
        ("label length", longest as u64, longest <= 253, "at most 253"),
        ("after", after as u64, after <= AFTER_MAX, "at most 1,024 jobs"),
        (
            "after",
            after as u64,
            after == 0 || !spec.refuse_if_busy,
            "empty where a job is refused when it cannot start at once",
        ),
        ("preferred nodes", spec.preferred.len() as u64, spec.preferred.len() <= 64, "at most 64"),
    ];
    for (what, value, ok, range) in bounds {
        if !ok {
            return Err(Denied::Range { what: what.into(), value, range: range.into() });
        }
    }
    if state.jobs.len() >= JOBS_MAX {
        return Err(Denied::Full { what: "the list of jobs".into(), max: JOBS_MAX as u64 });
    }
    Ok(())
}

/// Refuses a job that could never run.
fn check_room(state: &State, shape: &Shape) -> Result<(), Denied> {
    if let Some(quota) = &state.pools[shape.pool].spec.quota
        && let Some((dimension, needed, quota)) = first_short(&shape.total(), quota)
    {
        return Err(Denied::OverQuota { dimension, needed, quota });
    }
    let nodes = &state.pools[shape.pool].nodes;
    let mut left = u32::from(shape.members);
    for node in nodes.iter().filter(|node| suits(state, shape, **node)) {
        // All of one member already fits an empty node that suits.
        let alone = shape.spread || shape.members == 1;
        left -= if alone { 1 } else { members_on(state.nodes[*node].emptied(), shape).min(left) };
        if left == 0 {
            return Ok(());
        }
    }
    let need = shape.needs.bundle();
    let rooms = nodes.iter().map(|n| {
        let spec = &state.nodes[*n].spec;
        spec.capacity.meet(&spec.share_max)
    });
    let most = rooms.fold(Bundle::ZERO, |most, room| most.zip(&room, u64::max));
    let (dimension, needed, most) = first_short(&need, &most)
        .or_else(|| first_short(&need, &Bundle::ZERO))
        .unwrap_or((crate::bundle::Dimension::Cpu, 0, 0));
    Err(Denied::NoMatchingNode { pool: shape.pool, dimension, most, needed })
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
