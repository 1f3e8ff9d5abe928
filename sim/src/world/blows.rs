//! Blows: what happens to a cluster beside what its network does.

use super::World;
use super::machines::{Aim, Death, EXACT, Host};
use super::network::{Far, Todo};
use super::store::Store;
use crate::rng::stream;
use crate::work::{Blow, BlowRecord, Weather};
use gridcore::command::{Command, Outcome, Report, Request};
use gridcore::config::Policy;
use gridcore::grid::Grid;
use gridcore::ids::{AccountId, Epoch, JobId, LeaseId, NodeId};
use gridcore::jobs::{Job, JobState};
use gridcore::station::Event;
use gridcore::station::ladder::OwnerSays;
use gridcore::units::{MilliCores, Span, Time};
use gridcore::wire::{FromNode, Item, Status};

/// How long a station's crash waits for what it is aimed at.
const PATIENCE: Span = Span::minutes(20);

/// Sets up what is there only with a network.
pub(super) fn far(weather: &Weather, seed: u64, grid: &Grid) -> Box<Far> {
    let mut dice = stream(seed, "weather", 0);
    let drift = u64::from(weather.network.drift);
    let hosts = grid.state().nodes.iter();
    let hosts = hosts.map(|_| Host::new(EXACT - drift + dice.below(2 * drift + 1)));
    let hosts = hosts.collect();
    let mut far = Far::new(weather.network, dice, hosts, Store::new(grid));
    far.all_end = weather.all_end;
    Box::new(far)
}

impl World {
    /// Schedules the blows, and lets the nodes find the coordinator.
    pub(super) fn begin_weather(&mut self) {
        if self.far.is_none() {
            return;
        }
        for blow in std::mem::take(&mut self.blows) {
            self.later(blow.at, Todo::Blow(blow));
        }
        let heals = self.far.as_ref().map_or(Time::ZERO, |far| far.network.heals);
        for node in self.grid.state().nodes.ids().collect::<Vec<_>>() {
            self.later(heals, Todo::Thaw(node));
        }
        self.later(heals, Todo::Policy(self.grid.state().rules.balance.policy));
        // What fails while the weather ends may be known only when a permission is over.
        for after in [Span::ZERO, Span::minutes(10), Span::minutes(30)] {
            self.later(heals.after(after), Todo::Mend);
        }
        self.connect_all();
    }

    /// Lets nodes that were drained, and jobs that were held, because too much has failed try
    /// again, as soon as there is a coordinator: that is its operator's affair.
    pub(super) fn mend(&mut self) {
        if !self.far.as_ref().is_some_and(|far| far.store.up) {
            self.later(self.now.after(Span::seconds(1)), Todo::Mend);
            return;
        }
        let state = self.grid.state();
        let drained = state.nodes.iter().filter(|(_, node)| node.draining.is_some());
        let undrain = drained.map(|(node, _)| Request::Undrain { node });
        let held = state.jobs.values().filter(|job| job.state == JobState::Held);
        let release = held.map(|job| Request::ReleaseJob { account: job.account, job: job.id });
        for request in undrain.chain(release).collect::<Vec<_>>() {
            self.apply(Command::Request(request));
        }
    }

    /// Lets a blow fall, if there is something for it to fall on.
    pub(super) fn blow(&mut self, record: BlowRecord) {
        if !self.falls(record) {
            return;
        }
        let node = NodeId::new(record.node);
        let over = self.now.after(record.lasts);
        if let Some(far) = &mut self.far {
            far.count(record.blow.name());
        }
        match record.blow {
            Blow::CoordinatorCrash => self.crash(record.lasts, false),
            Blow::SyncError => self.crash(record.lasts, true),
            Blow::StationCrash => self.crash_station(node, record.lasts),
            Blow::MachineCrash => self.lose_machine(node, over, false),
            Blow::Wipe => self.lose_machine(node, over, true),
            Blow::Cut => self.strike(node, |host| (host.cut_up, host.cut_down) = (over, over)),
            Blow::CutUp => self.strike(node, |host| host.cut_up = over),
            Blow::CutDown => self.strike(node, |host| host.cut_down = over),
            Blow::Stall => self.strike(node, |host| host.stall_until = over),
            Blow::Slow => self.strike(node, |host| host.slow_until = over),
            Blow::DiskFull => self.strike(node, |host| host.full_until = over),
            Blow::DiskError => self.strike(node, |host| host.fails_until = over),
            Blow::Broken => self.strike(node, |host| host.broken_until = over),
            Blow::Lie => self.strike(node, |host| host.lies_until = over),
            Blow::Freeze => {
                self.strike(node, |host| host.frozen_until = over);
                self.later(over, Todo::Thaw(node));
            }
            Blow::Stuck => {
                self.strike(node, |host| host.stuck_until = over);
                self.later(over, Todo::Die(node));
            }
            Blow::Reset => {
                self.happen(node, Event::Connected);
            }
            Blow::Configure => self.configure(),
            Blow::Versions => self.other_version(record, node),
            Blow::WallJump => {
                let minute = self.far.as_mut().map_or(0, |far| far.dice.below(1_440));
                self.happen(node, Event::Minute(u16::try_from(minute).unwrap_or(0)));
                self.later(over, Todo::Thaw(node));
            }
            Blow::OwnerReclaim | Blow::OwnerReclaimNow => {
                let now = record.blow == Blow::OwnerReclaimNow;
                self.owner_says(node, OwnerSays::Reclaim { now });
                self.later(over, Todo::Lend(node));
            }
            Blow::Swizzle => self.swizzle(record.lasts),
            Blow::Replay => self.replay(node),
            Blow::StoreFull => {
                if let Some(far) = &mut self.far {
                    far.store.full_until = over;
                }
            }
            Blow::CleanStop => {
                self.apply(Command::Report(Report::Stopping));
                // What was said on the way out is under way by then.
                self.later(self.now.after(Span::seconds(2)), Todo::Stop(record.lasts));
            }
            Blow::Requeue => self.requeue(),
            Blow::Suspend => self.suspend(over),
            Blow::GpuLost => {
                self.strike(node, |host| host.gpu_lost_until = over);
                self.sample_again(node);
                self.later(over, Todo::Thaw(node));
            }
        }
    }

    /// Draws one of the running jobs, and counts what its account is going to do with it.
    fn draw_running(&mut self, what: &'static str) -> Option<(AccountId, JobId)> {
        let running = |(id, job): (JobId, &Job)| {
            matches!(job.state, JobState::Running(_)).then_some((job.account, id))
        };
        let running: Vec<_> = self.grid.state().jobs.iter().filter_map(running).collect();
        let far = self.far.as_mut()?;
        let drawn = usize::try_from(far.dice.below(running.len().max(1) as u64)).unwrap_or(0);
        let found = running.get(drawn).copied()?;
        far.count(what);
        Some(found)
    }

    /// Lets one of the running jobs wait again, by its account's wish.
    fn requeue(&mut self) {
        if let Some((account, job)) = self.draw_running("job_requeued") {
            self.apply(Command::Request(Request::RequeueJob { account, job }));
        }
    }

    /// Suspends one of the running jobs for a while, by its account's wish.
    fn suspend(&mut self, until: Time) {
        if let Some((account, job)) = self.draw_running("job_suspended") {
            self.apply(Command::Request(Request::SuspendJob { account, job }));
            self.later(until, Todo::Resume(account, job));
        }
    }

    /// Lets a suspended job go on, as soon as there is a coordinator.
    pub(super) fn resume_job(&mut self, account: AccountId, job: JobId) {
        // One that has ended or begun anew meanwhile is not suspended: that is an answer, too.
        if self.apply(Command::Request(Request::ResumeJob { account, job })).is_none() {
            self.later(self.now.after(Span::seconds(1)), Todo::Resume(account, job));
        }
    }

    /// Lets about half of the lines stand still, each from a time of its own in the first half of
    /// the span until one in the second.
    fn swizzle(&mut self, lasts: Span) {
        let half = lasts.get() / 2;
        for node in self.grid.state().nodes.ids().collect::<Vec<_>>() {
            let Some(far) = &mut self.far else { return };
            let drawn = (far.dice.below(2), far.dice.below(half + 1), far.dice.below(half + 1));
            if let (0, from, rest) = drawn {
                let at = self.now.after(Span::new(from));
                let lasts = Span::new(half - from + rest);
                self.later(
                    at,
                    Todo::Blow(BlowRecord { at, node: node.get(), blow: Blow::Stall, lasts }),
                );
            }
        }
    }

    /// Returns whether there is something for a blow to fall on.
    fn falls(&self, record: BlowRecord) -> bool {
        let (Some(far), Some(host)) = (&self.far, self.host(NodeId::new(record.node))) else {
            return false;
        };
        match record.blow {
            Blow::CoordinatorCrash
            | Blow::SyncError
            | Blow::Configure
            | Blow::CleanStop
            | Blow::Requeue
            | Blow::Suspend
            | Blow::StoreFull => far.store.up,
            Blow::GpuLost => host.runs(self.now) && self.has_gpus(NodeId::new(record.node)),
            Blow::Cut | Blow::CutUp | Blow::CutDown => true,
            Blow::Stall | Blow::Slow | Blow::Swizzle | Blow::Replay => true,
            Blow::MachineCrash | Blow::Wipe => host.up && host.frozen_until <= self.now,
            Blow::StationCrash
            | Blow::Reset
            | Blow::Freeze
            | Blow::DiskFull
            | Blow::DiskError
            | Blow::Stuck
            | Blow::Broken
            | Blow::Versions
            | Blow::Lie
            | Blow::WallJump
            | Blow::OwnerReclaim
            | Blow::OwnerReclaimNow => host.runs(self.now),
        }
    }

    /// Lets the coordinator die in the middle of its next entry: before it is synced, after, or
    /// between the messages that follow. An entry that cannot be synced never was.
    fn crash(&mut self, away: Span, unsynced: bool) {
        let Some(far) = &mut self.far else { return };
        let mode = if unsynced { 0 } else { far.dice.below(3) };
        let waits = if far.dice.below(2) == 0 { Span::ZERO } else { Span::seconds(60) };
        let lag = far.store.lag;
        far.store.crash_next(mode, away, self.now.before(lag).after(waits));
    }

    /// Lets a station die in the middle of its next event; some wait for one of a kind.
    fn crash_station(&mut self, node: NodeId, away: Span) {
        let Some(far) = &mut self.far else { return };
        let aim = match far.dice.below(4) {
            0 => Aim::Any,
            1 => Aim::Start,
            2 => Aim::Stop,
            _ => Aim::End,
        };
        let patience = if aim == Aim::Any { Span::ZERO } else { PATIENCE };
        // It is back when the weather is over.
        let waits = self.now.after(patience).min(far.network.heals.before(away));
        self.strike(node, |host| host.dies = Some(Death { away, aim, waits }));
    }

    /// Lets a node come back with a version that nobody speaks, and later with ours.
    fn other_version(&mut self, record: BlowRecord, node: NodeId) {
        self.strike(node, |host| host.versions = (2, 3));
        let second = Span::seconds(1);
        self.lose_station(node, self.now.after(second));
        let at = self.now.after(record.lasts).after(second);
        let back = BlowRecord { at, blow: Blow::StationCrash, lasts: second, ..record };
        self.later(at, Todo::Blow(back));
    }

    /// Changes a few rules at random.
    fn configure(&mut self) {
        let Some(far) = &mut self.far else { return };
        let mut rules = self.grid.state().rules.clone();
        let mut pick = |spans: [u64; 3]| {
            let i = usize::try_from(far.dice.below(3)).unwrap_or(0);
            Span::seconds(spans.get(i).copied().unwrap_or(30))
        };
        rules.offering.kill = pick([10, 30, 60]);
        rules.offering.busy_latch = pick([30, 120, 300]);
        rules.term.0 = pick([60, 120, 300]);
        rules.preemption.grace = pick([5, 20, 60]);
        rules.preemption.hold = Span::seconds(150);
        rules.balance.policy = match far.dice.below(4) {
            0 => Policy::Conservative,
            1 => Policy::Balanced,
            2 => Policy::Aggressive,
            _ => Policy::Predictive,
        };
        if rules.balance.policy != self.grid.state().rules.balance.policy {
            far.count("policy_changed");
        }
        self.apply(Command::Request(Request::Configure(Box::new(rules))));
    }

    /// Puts a policy back, as soon as there is a coordinator: the owners' loads suit the first.
    pub(super) fn set_policy(&mut self, policy: Policy) {
        if !self.far.as_ref().is_some_and(|far| far.store.up) {
            self.later(self.now.after(Span::seconds(1)), Todo::Policy(policy));
            return;
        }
        let mut rules = self.grid.state().rules.clone();
        if rules.balance.policy != policy {
            rules.balance.policy = policy;
            self.apply(Command::Request(Request::Configure(Box::new(rules))));
        }
    }

    /// Lets a node add what is not true to its next messages, where it lies.
    pub(super) fn lie(&mut self, node: NodeId, message: &mut FromNode) {
        let now = self.now;
        let Some(far) = &mut self.far else { return };
        let Some(host) = far.hosts.get_mut(node.get() as usize) else { return };
        if host.lies_until <= now || host.lied.after(Span::seconds(1)) > now {
            return;
        }
        host.lied = now;
        let next = self.grid.state().next.lease.get() + 3;
        for _ in 0..3 {
            // Often about what was granted a moment ago, or will be.
            let newest = next.saturating_sub(6) * far.dice.below(2);
            let lease = LeaseId::new(newest + far.dice.below(next - newest));
            let open = self.grid.state().leases.get(&lease);
            let own = open.is_some_and(|open| open.members.iter().any(|m| m.node == node));
            let here = message.inventory.iter().any(|item| item.lease == lease);
            // What it says of its own leases is believed, and harms none but those who trust it;
            // not what it says of one that it has not heard of, nor of a start that never was.
            let unheard = !here && self.grid.state().links[node].is_starting(lease);
            let mut epoch = open.map_or(Epoch::new(1), |open| open.epoch);
            if own && !unheard {
                epoch = epoch.next();
            } else if here {
                continue;
            }
            let done = Outcome::Completed;
            let status =
                if far.dice.below(2) == 0 { Status::Ended(done, None) } else { Status::Running };
            let cpu = open.map_or(MilliCores::ZERO, |open| open.cpu());
            message.inventory.push(Item { lease, epoch, cpu, status });
            far.count("lie_told");
        }
    }
}
