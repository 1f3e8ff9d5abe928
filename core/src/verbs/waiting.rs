//! Waiting: into the queue and out of it, and growing older there.

use super::Work;
use crate::canary::{Canary, planted};
use crate::caps::is_refused;
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
    let usage = state.rank_usage(&key);
    let class = job.aged_after(job.waited, &state.rules.scheduling);
    state.queue.age(id, class, key, usage);
    state.queue.enter(id, key, pool, usage);
    let job = state.job_mut(id);
    (job.state, job.waits_since) = (JobState::Pending, Some(now));
    await_ageing(state, id, Span::ZERO);
    state.changed.enter(id);
}

/// Sets when a waiting job counts a class more next, or is asked: no sooner than in `least`.
fn await_ageing(state: &mut State, id: JobId, least: Span) {
    let (now, job) = (state.now, state.job(id));
    let wait = job.waited(now);
    let next = job.next_ageing(wait, &state.rules.scheduling);
    let at = next.map(|next| now.after(next.saturating_sub(wait).max(least)));
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
        let (wait, least) = if refused {
            // The step that ends now does not count.
            let since = job.waits_since.map_or(Span::ZERO, |since| now.since(since));
            let step = job.ageing_step(job.waited, rules);
            (wait.saturating_sub(step.min(since)), step)
        } else {
            let class = job.aged_after(wait, rules);
            if class != job.aged_after(job.waited, rules) {
                let key = state.line_of(job);
                let usage = state.rank_usage(&key);
                state.queue.age(id, class, key, usage);
                state.changed.stir();
            }
            (wait, Span::ZERO)
        };
        let job = state.job_mut(id);
        (job.waited, job.waits_since) = (wait, Some(now));
        await_ageing(state, id, least);
    }

    /// Lets a job that was not to start before now wait like any other.
    pub fn begin(&mut self, id: JobId) {
        let now = self.state.now;
        let Some(job) = self.state.jobs.get_mut(&id) else { return };
        if job.begin.is_none_or(|begin| begin > now) {
            return;
        }
        job.begin = None;
        if job.state == JobState::Held {
            // Whoever holds it keeps nobody else waiting.
            self.state.release_place(id);
            return;
        }
        if job.state == JobState::Dependent && !job.depends() {
            enqueue(self.state, id);
        }
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

/// Takes a job out of the queue, unless it starts as soon as it comes.
pub fn stop_waiting(state: &mut State, id: JobId) {
    if state.job(id).waits_since.is_some() {
        dequeue(state, id);
    }
}

/// Takes a job out of the queue.
pub fn dequeue(state: &mut State, id: JobId) {
    let job = state.job(id);
    let (key, pool) = (state.line_of(job), state.shapes[job.shape].pool);
    let usage = state.rank_usage(&key);
    state.queue.leave(id, key, pool, usage);
    stop_ageing(state, id);
    let now = state.now;
    let job = state.job_mut(id);
    job.waited = job.waited(now);
    job.waits_since = None;
    state.changed.stir();
}

#[cfg(test)]
mod tests {
    use crate::bundle::{Bundle, Needs};
    use crate::command::{Command, Entry, JobSpec, Request};
    use crate::config::{AccountSpec, Config, NodeSpec, Order, PoolSpec};
    use crate::grid::Grid;
    use crate::ids::{AccountId, PoolId, Seq};
    use crate::units::{MicroAtp, MilliCores, Span, Time};
    use alloc::boxed::Box;
    use alloc::string::String;
    use alloc::vec::Vec;

    fn request(grid: &mut Grid, seconds: u64, request: Request) {
        let seq = Seq::new(grid.state().seq.get() + 1);
        let at = Time::from_ms(seconds * 1_000);
        let entry = Entry { seq, at, command: Command::Request(request) };
        assert!(grid.apply(&entry, &mut Vec::new()).is_ok());
    }

    fn heads(grid: &Grid) -> Vec<u64> {
        grid.state().queue.ranks(PoolId::new(0)).map(|rank| rank.head.get()).collect()
    }

    #[test]
    fn who_cannot_pay_and_is_just_short_of_a_step_of_ageing_is_not_asked_all_the_time() {
        let mut config = Config::default();
        config.pools.push(PoolSpec { name: String::from("main"), quota: None });
        config.accounts.push(AccountSpec::new("lab", MicroAtp::ZERO));
        config.accounts.push(AccountSpec::new("owner", MicroAtp::ZERO));
        config.rules.atp.grant_fraction = crate::units::Ppm::ZERO;
        let mut node = NodeSpec::dedicated("n", Bundle::cpu(MilliCores::whole(1)));
        node.owner = AccountId::new(1);
        config.nodes.push(node);
        let mut grid = Grid::new(config, Time::ZERO).unwrap();
        let needs = Needs { cpu: MilliCores::whole(1), ..Needs::default() };
        let account = AccountId::new(0);
        let job = Box::new(JobSpec { needs, ..JobSpec::default() });
        request(&mut grid, 0, Request::SubmitJob { account, job });
        let job = grid.state().jobs.keys().next().unwrap();
        request(&mut grid, 599, Request::HoldJob { account, job });
        request(&mut grid, 700, Request::ReleaseJob { account, job });
        let mut wakes = 0;
        while let Some((at, _)) = grid.next_wake().filter(|(at, _)| *at < Time::from_ms(7_200_000))
        {
            let seq = Seq::new(grid.state().seq.get() + 1);
            let entry = Entry { seq, at, command: Command::Wake };
            assert!(grid.apply(&entry, &mut Vec::new()).is_ok());
            wakes += 1;
        }
        // A second after it came back it was to count as more, and then once in ten minutes.
        assert_eq!(wakes, 11);
        assert_eq!(heads(&grid), [job.get()]);
    }

    #[test]
    fn earliest_due_ranks_each_job_by_submission_plus_limit_as_long_as_it_is_the_order() {
        let mut config = Config::default();
        config.pools.push(PoolSpec { name: String::from("main"), quota: None });
        config.accounts.push(AccountSpec::new("lab", MicroAtp::ZERO));
        config.nodes.push(NodeSpec::dedicated("n", Bundle::cpu(MilliCores::whole(1))));
        config.rules.atp.enabled = false;
        config.rules.scheduling.order = Order::EarliestDue;
        let mut rules = config.rules.clone();
        let mut grid = Grid::new(config, Time::ZERO).unwrap();
        // The first one takes the machine.
        for (at, limit) in
            [(0, Some(1_000)), (1, Some(100)), (2, None), (3, Some(10)), (92, Some(10))]
        {
            let needs = Needs { cpu: MilliCores::whole(1), ..Needs::default() };
            let job = JobSpec { needs, limit: limit.map(Span::seconds), ..JobSpec::default() };
            let job = Box::new(job);
            request(&mut grid, at, Request::SubmitJob { account: AccountId::new(0), job });
        }
        // Due at 13, 101 and 102 s: the last came later than after the limit of the one before it.
        assert_eq!(heads(&grid), [4, 2, 5, 3]);
        rules.scheduling.order = Order::Fifo;
        request(&mut grid, 93, Request::Configure(Box::new(rules.clone())));
        assert_eq!(heads(&grid), [2]);
        rules.scheduling.order = Order::EarliestDue;
        request(&mut grid, 94, Request::Configure(Box::new(rules)));
        assert_eq!(heads(&grid), [4, 2, 5, 3]);
        assert_eq!(crate::invariants::check(grid.state()), []);
    }

    #[test]
    fn what_accounts_used_counts_the_same_by_another_half_life() {
        let mut config = Config::default();
        config.pools.push(PoolSpec { name: String::from("main"), quota: None });
        config.accounts.push(AccountSpec::new("lab", MicroAtp::ZERO));
        config.accounts.push(AccountSpec::new("clinic", MicroAtp::ZERO));
        config.nodes.push(NodeSpec::dedicated("n", Bundle::cpu(MilliCores::whole(2))));
        config.rules.atp.enabled = false;
        config.rules.scheduling.order = Order::Fair;
        let (mut rules, day) = (config.rules.clone(), 86_400);
        let mut grid = Grid::new(config, Time::ZERO).unwrap();
        let submit = |grid: &mut Grid, at, account, limit| {
            let needs = Needs { cpu: MilliCores::whole(1), ..Needs::default() };
            let job = JobSpec { needs, limit: Some(Span::seconds(limit)), ..JobSpec::default() };
            request(grid, at, Request::SubmitJob { account, job: Box::new(job) });
        };
        let [lab, clinic] = [0, 1].map(AccountId::new);
        let used = |grid: &Grid| {
            let (state, row) = (grid.state(), grid.state().account(lab));
            let half_life = state.rules.fair_share.half_life;
            state.inflation.decayed(row.usage, state.now, half_life)
        };
        submit(&mut grid, 30 * day, lab, 100);
        let before = used(&grid);
        for (seconds, life) in [(30 * day, 1), (30 * day, 60), (30 * day + 50, 7)] {
            rules.fair_share.half_life = Span::seconds(life * day);
            request(&mut grid, seconds, Request::Configure(Box::new(rules.clone())));
        }
        let left = used(&grid) * 1_000_000 / before;
        assert!((999_900..=1_000_000).contains(&left), "{left} of a million after 50 s");
        submit(&mut grid, 30 * day + 50, clinic, 90);
        let usage = |id| grid.state().account(id).usage;
        assert!(usage(clinic) < usage(lab));
        assert_eq!(crate::invariants::check(grid.state()), []);
    }
}
