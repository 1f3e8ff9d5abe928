//! What a station does: every way in which it changes.

use super::held::{Held, Phase, least_of};
use super::ladder::{Shortage, Step};
use super::{Action, Station};
use crate::canary::{Canary, planted};
use crate::config::Watch;
use crate::ids::{Epoch, LeaseId};
use crate::units::{MilliCores, Span, Time};
use crate::wire::{
    EvictionReason, FromBody, FromNode, Order, Outcome, Permission, Sample, Start, ToBody, ToNode,
};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// A station at work.
pub(super) struct Work<'a> {
    pub(super) station: &'a mut Station,
    pub(super) actions: &'a mut Vec<Action>,
    /// Whether the coordinator is to hear at once.
    pub(super) told: bool,
}

impl Work<'_> {
    /// Does what is due.
    pub(super) fn run_due(&mut self) {
        while let Some((at, id)) = self.station.timers.first().copied() {
            if at > self.station.now {
                break;
            }
            self.station.timers.pop_first();
            let Some(held) = self.station.leases.get_mut(&id) else { continue };
            held.due = Time::MAX;
            let (now, until, vacate) = (self.station.now, held.until, held.start.vacate);
            match held.phase {
                Phase::Running | Phase::Paused(_) if until <= now => {
                    let kill = self.station.watch.offering.kill;
                    self.leave(id, kill, EvictionReason::PermissionLost);
                }
                Phase::Paused(_) => self.leave(id, vacate, EvictionReason::OwnerReturn),
                Phase::Leaving(_, reason) => self.kill(id, reason),
                Phase::Killed(..) => self.tell(id),
                Phase::Running | Phase::Ended(..) => {}
            }
        }
    }

    /// Records what the owner uses.
    pub(super) fn sample(&mut self, sample: &Sample) {
        let station = &mut *self.station;
        if station.machine.dedicated {
            self.told |= station.ladder.note_use(sample) && station.link.is_some();
            if station.ladder.withhold(&station.machine, sample) {
                self.lend();
            }
            return;
        }
        self.told |= station.link.is_some() && station.ladder.is_news(sample);
        match &mut station.ladder.sample {
            Some(last) => last.clone_from(sample),
            None => station.ladder.sample = Some(sample.clone()),
        }
    }

    /// Says what the node lends from now on.
    fn lend(&mut self) {
        if self.station.link.is_none() {
            self.actions.push(Action::Lend(self.station.ladder.lending));
        }
        self.told = true;
    }

    /// Takes the next steps of the ladder.
    pub(super) fn climb(&mut self) {
        let Station { machine, watch, leases, ladder, now, .. } = &mut *self.station;
        // A node that holds nothing and keeps nothing back has nothing to judge.
        let idle = leases.is_empty() && ladder.is_plain() && watch.offering.lend_hours.is_none();
        if machine.dedicated || idle {
            return;
        }
        let mut lacks = ladder.lacks(machine, watch, leases);
        if planted(Canary::IgnoreReturn) {
            lacks = Shortage::default();
        }
        if ladder.judge(watch, lacks, *now) {
            self.lend();
        }
        if self.station.leases.is_empty() {
            return;
        }
        self.make_room();
        let Station { machine, watch, leases, ladder, now, .. } = &*self.station;
        for step in ladder.steps(machine, watch, leases, *now) {
            match step {
                Step::Pause(id) => self.set_paused(id, true),
                Step::Resume(id) => self.set_paused(id, false),
                Step::Notice(id, notice) => self.leave(id, notice, EvictionReason::OwnerReturn),
            }
        }
        // What goes on again may need it.
        self.make_room();
    }

    /// Takes back what leases have beside the least that they can do with, as far as it is needed.
    fn make_room(&mut self) {
        let Station { machine, watch, leases, ladder, now, .. } = &*self.station;
        for id in ladder.shrinks(machine, watch, leases, *now) {
            self.shrink(id);
            self.tell(id);
        }
    }

    /// Brings a lease's CPU down to the least that it can do with.
    fn shrink(&mut self, id: LeaseId) {
        let Some(held) = self.station.leases.get_mut(&id) else { return };
        let ((lease, epoch), spare) = (held.name(), held.spare());
        if spare.is_zero() {
            return;
        }
        held.start.needs = held.least();
        let cpu = held.start.needs.cpu;
        self.save(id);
        self.actions.push(Action::Resize(lease, epoch, cpu));
    }

    /// Gives a lease the CPU that the coordinator wants it to have; no more than its owner leaves,
    /// and who leaves or stands still gets no more.
    fn resize(&mut self, id: LeaseId, epoch: Epoch, cpu: Option<MilliCores>) {
        let Station { machine, watch, ladder, leases, now, .. } = &mut *self.station;
        let Some(held) = leases.get_mut(&id).filter(|held| held.start.epoch == epoch) else {
            return;
        };
        let (Some(cpu), Some(least)) = (cpu, held.start.least) else { return };
        let (old, cpu) = (held.start.needs.cpu, cpu.max(least));
        if !held.is_staying() || cpu == old {
            return;
        }
        held.start.needs.cpu = cpu;
        let grows = cpu > old;
        let runs = held.phase == Phase::Running;
        let too_much = !ladder.shrinks(machine, watch, leases, *now).is_empty();
        if grows && (!runs || too_much || !ladder.lending.open) {
            if let Some(held) = leases.get_mut(&id) {
                held.start.needs.cpu = old;
            }
            self.tell(id);
            return;
        }
        self.save(id);
        self.actions.push(Action::Resize(id, epoch, cpu));
    }

    /// Stops a lease's processes, or lets them go on.
    fn set_paused(&mut self, id: LeaseId, pause: bool) {
        if pause {
            self.shrink(id);
        }
        let now = self.station.now;
        let Some(held) = self.station.leases.get_mut(&id) else { return };
        let (lease, epoch) = held.name();
        held.phase = if pause { Phase::Paused(now) } else { Phase::Running };
        let action = if pause { Action::Pause } else { Action::Resume };
        let stands = held.suspended;
        self.save(id);
        if !stands {
            self.actions.push(action(lease, epoch));
        }
        self.station.arm(id);
        self.tell(id);
    }

    /// Tells a lease's processes to end within a notice; who was told before may only be hurried.
    fn leave(&mut self, id: LeaseId, notice: Span, reason: EvictionReason) {
        let (now, kill) = (self.station.now, self.station.watch.offering.kill);
        let Some(held) = self.station.leases.get_mut(&id) else { return };
        // No notice outlasts the permission: elsewhere the job may be starting again by then.
        let kill_at = now.after(notice).min(held.until.after(kill));
        match held.phase {
            Phase::Running | Phase::Paused(_) => held.phase = Phase::Leaving(kill_at, reason),
            Phase::Leaving(at, first) => held.phase = Phase::Leaving(at.min(kill_at), first),
            Phase::Killed(..) | Phase::Ended(..) => return,
        }
        let Phase::Leaving(kill_at, reason) = held.phase else { return };
        if kill_at <= now {
            self.kill(id, reason);
            return;
        }
        self.shrink(id);
        self.save(id);
        let Some(held) = self.station.leases.get(&id) else { return };
        let (lease, epoch) = held.name();
        self.actions.push(Action::Terminate(lease, epoch, kill_at));
        self.station.arm(id);
        self.tell(id);
    }

    /// Kills what is left of a lease.
    fn kill(&mut self, id: LeaseId, reason: EvictionReason) {
        let now = self.station.now;
        let Some(held) = self.station.leases.get_mut(&id) else { return };
        if matches!(held.phase, Phase::Killed(..) | Phase::Ended(..)) {
            return;
        }
        held.phase = Phase::Killed(now, reason);
        self.station.sum.0 = None;
        held.start.needs = held.least();
        let (lease, epoch) = held.name();
        self.save(id);
        self.actions.push(Action::Kill(lease, epoch));
        self.station.arm(id);
        self.tell(id);
        if planted(Canary::FreeBeforeEmpty) {
            self.ended(id, epoch, Outcome::Stopped);
        }
    }

    /// Notes that nothing is left of a lease: only now is its capacity free.
    pub(super) fn ended(&mut self, id: LeaseId, epoch: Epoch, outcome: Outcome) {
        let Some(held) = self.station.leases.get_mut(&id) else { return };
        if held.start.epoch != epoch || !held.is_alive() {
            return;
        }
        let reason = match held.phase {
            Phase::Leaving(_, reason) | Phase::Killed(_, reason) => Some(reason),
            // Stopped by nobody here: who kept it was killed, or the machine killed it.
            Phase::Running | Phase::Paused(_) if outcome == Outcome::Stopped => {
                Some(EvictionReason::NodeFailure)
            }
            Phase::Running | Phase::Paused(_) | Phase::Ended(..) => None,
        };
        let counted = held.counts(self.station.link.is_none()).then(|| held.least());
        held.phase = Phase::Ended(outcome, reason);
        if let (Some(sum), Some(one)) = (&mut self.station.sum.0, counted) {
            sum.lessen(&one);
        }
        self.save(id);
        self.station.arm(id);
        self.tell(id);
        if self.station.link.is_none() {
            self.station.leases.remove(&id);
        }
    }

    /// Follows an order.
    pub(super) fn order(&mut self, order: &Order, permission: Option<Permission>) {
        match order {
            Order::Start(start) => self.start(start, permission),
            Order::Extend { lease, epoch, suspended, cpu } => {
                self.extend(*lease, *epoch, permission);
                self.suspend(*lease, *epoch, *suspended);
                self.resize(*lease, *epoch, *cpu);
            }
            Order::Leave { lease, epoch, notice, reason } => {
                if self.knows(*lease, *epoch) {
                    self.leave(*lease, *notice, *reason);
                }
            }
            Order::Kill(lease, epoch) => {
                if self.knows(*lease, *epoch) {
                    self.kill(*lease, EvictionReason::UserRequest);
                }
            }
            Order::Forget(lease, epoch) => self.forget(*lease, *epoch),
            Order::Watch(watch) => self.adopt(watch),
        }
    }

    /// Returns whether a lease is here under this epoch; what never was, is said to have ended.
    fn knows(&mut self, id: LeaseId, epoch: Epoch) -> bool {
        match self.station.leases.get(&id) {
            Some(held) => held.start.epoch == epoch,
            None => {
                if self.station.link.is_some() {
                    let nothing = Held::nothing(id, epoch, self.station.now);
                    self.station.leases.insert(id, nothing);
                    self.told = true;
                }
                false
            }
        }
    }

    /// Watches the owner by other rules: what they make overdue is done at once.
    fn adopt(&mut self, watch: &Watch) {
        self.station.watch = watch.clone();
        let ids: Vec<LeaseId> = self.station.leases.keys().copied().collect();
        for id in ids {
            self.station.arm(id);
        }
        self.run_due();
    }

    /// Starts a lease, or refuses it: the node lends less than when it was decided, the permission
    /// is over, or it does not fit beside what is here or what the owner uses.
    fn start(&mut self, start: &Start, permission: Option<Permission>) {
        let id = start.lease;
        if self.station.leases.contains_key(&id) {
            // Said again, because its permission is new.
            self.extend(id, start.epoch, permission);
            self.suspend(id, start.epoch, start.suspended);
            self.resize(id, start.epoch, start.least.map(|_| start.needs.cpu));
            return;
        }
        let Station { machine, watch, ladder, link, now, leases, sum, .. } = &mut *self.station;
        let direct = link.is_none();
        let until = match (link, permission) {
            (None, _) => Some(Time::MAX),
            (Some(link), Some(permission)) => link.until(permission, *now),
            (Some(_), None) => None,
        };
        let late = planted(Canary::FollowLateStart);
        let in_time = until.is_some_and(|until| until > *now || late);
        let (began, until, phase) = (*now, until.unwrap_or(*now), Phase::Running);
        let (suspended, due) = (false, Time::MAX);
        leases.insert(id, Held { start: start.clone(), began, until, phase, suspended, due });
        let one = leases.get(&id).map(Held::least).unwrap_or_default();
        let all = match sum.0.take() {
            Some(others) => others.saturating_add(&one),
            None => least_of(leases.values(), direct),
        };
        let willing = ladder.lending.open && start.lending >= ladder.narrowed;
        let veto = !machine.dedicated
            && (!willing || ladder.lacks(machine, watch, leases).is_any())
            && !planted(Canary::IgnoreVeto);
        if !in_time || veto || !all.fits_in(&machine.capacity) {
            if let Some(held) = leases.get_mut(&id) {
                held.phase = Phase::Ended(Outcome::Refused, None);
            }
            self.tell(id);
            if self.station.link.is_none() {
                self.station.leases.remove(&id);
            }
            return;
        }
        sum.0 = Some(all);
        let crowded = ladder.shrinks(machine, watch, leases, *now);
        if let Some(held) = leases.get_mut(&id).filter(|_| crowded.contains(&id)) {
            held.start.needs = held.least();
        }
        for other in crowded.iter().filter(|other| **other != id) {
            self.shrink(*other);
            self.tell(*other);
        }
        if !planted(Canary::SkipMarker) {
            self.save(id);
        }
        self.actions.push(Action::Spawn(id, start.epoch, until));
        if crowded.contains(&id) {
            self.tell(id);
        }
        self.station.arm(id);
        self.told = true;
        self.suspend(id, start.epoch, start.suspended);
    }

    /// Stops a lease's processes for its account, or lets them go on; one that its owner has paused
    /// stands still anyway.
    fn suspend(&mut self, id: LeaseId, epoch: Epoch, suspended: bool) {
        let Some(held) = self.station.leases.get_mut(&id) else { return };
        let stays = held.start.epoch == epoch && held.is_staying();
        if !stays || held.suspended == suspended {
            return;
        }
        held.suspended = suspended;
        let running = held.phase == Phase::Running;
        let action = if suspended { Action::Pause } else { Action::Resume };
        self.save(id);
        if running {
            self.actions.push(action(id, epoch));
        }
    }

    /// Lets a lease go on until a later time.
    fn extend(&mut self, id: LeaseId, epoch: Epoch, permission: Option<Permission>) {
        if !self.knows(id, epoch) {
            return;
        }
        let until = match (&self.station.link, permission) {
            (Some(link), Some(permission)) => link.until(permission, self.station.now),
            (None, _) | (Some(_), None) => None,
        };
        let Some(held) = self.station.leases.get_mut(&id) else { return };
        let later = until.filter(|until| *until > held.until && held.is_staying());
        let Some(until) = later else { return };
        held.until = until;
        self.save(id);
        self.actions.push(Action::Extend(id, epoch, until));
        self.station.arm(id);
    }

    /// Forgets a lease whose end the coordinator has heard.
    fn forget(&mut self, id: LeaseId, epoch: Epoch) {
        let over = |held: &Held| held.start.epoch == epoch && !held.is_alive();
        if self.station.leases.get(&id).is_some_and(over) {
            self.station.leases.remove(&id);
            self.actions.push(Action::Erase(id));
        }
    }

    /// Keeps on disk what has become of a lease.
    fn save(&mut self, id: LeaseId) {
        if self.station.link.is_some()
            && let Some(held) = self.station.leases.get(&id)
        {
            self.actions.push(Action::Save(Box::new(held.marker())));
        }
    }

    /// Tells the coordinator what has become of a lease.
    fn tell(&mut self, id: LeaseId) {
        self.told = true;
        if self.station.link.is_none()
            && let Some(held) = self.station.leases.get(&id)
        {
            let item = held.item(self.station.now, self.station.watch.offering.kill);
            self.actions.push(Action::Tell(item));
        }
    }

    /// Says hello on a new way to the coordinator.
    pub(super) fn connected(&mut self) {
        let now = self.station.now;
        if let Some(link) = &mut self.station.link {
            link.reset(now);
        }
    }

    /// Follows a message of the coordinator, unless it is stale.
    pub(super) fn message(&mut self, message: &ToNode) {
        let now = self.station.now;
        let Some(link) = &mut self.station.link else { return };
        let envelope = message.envelope;
        let mine = link.is_mine(envelope);
        let followed = match &message.body {
            ToBody::Welcome { hello, version, watch } => {
                let begun = mine && link.welcome(envelope, *hello, *version);
                if begun {
                    self.adopt(watch);
                    self.told = true;
                }
                begun
            }
            ToBody::Resync { hello } => {
                let answered = envelope.session == link.session;
                let lost = mine && answered && (link.session > 0 || *hello == link.hello);
                if lost {
                    link.reset(now);
                }
                lost
            }
            ToBody::Incompatible { hello, versions } => {
                let mine = mine && link.session == 0 && *hello == link.hello;
                if mine {
                    link.incompatible = Some(*versions);
                }
                mine
            }
            ToBody::Orders(orders) => {
                let fresh = mine && link.take(envelope);
                if fresh {
                    self.told = true;
                    for (order, permission) in orders {
                        self.order(order, *permission);
                    }
                }
                fresh
            }
        };
        if !followed && let Some(link) = &mut self.station.link {
            link.stale += 1;
        }
    }

    /// Sends a hello or a heartbeat when one is due, or something has changed.
    pub(super) fn talk(&mut self) {
        let station = &mut *self.station;
        let (now, kill) = (station.now, station.watch.offering.kill);
        let Some(link) = &mut station.link else { return };
        let changed = self.told && link.session > 0;
        if !changed && link.next > now {
            return;
        }
        let body = if link.session == 0 {
            let (versions, build) = (link.identity.versions, link.identity.build.clone());
            FromBody::Hello { hello: link.hello, versions, build }
        } else {
            FromBody::Beat { seen: link.seen }
        };
        let envelope = link.send(now, station.watch.interval);
        self.actions.push(Action::Send(Box::new(FromNode {
            envelope,
            body,
            lending: station.ladder.lending,
            sample: station.ladder.sample.clone(),
            inventory: station.leases.values().map(|held| held.item(now, kill)).collect(),
        })));
    }
}
