//! Granting: a waiting job becomes a lease.

use super::Work;
use super::waiting::stop_waiting;
use crate::bundle::Bundle;
use crate::canary::{Canary, planted};
use crate::caps::is_capped;
use crate::charges::{
    foreign, is_resting, is_too_dear, is_urgent, over_quota, prices, spare, standing, term,
    term_cost,
};
use crate::confidence::{UNLIMITED, is_asked, of_places, suffices};
use crate::due::Due;
use crate::effect::{Effect, OfferFate};
use crate::ids::{AccountId, JobId, LeaseId, NodeId};
use crate::index::Choice;
use crate::jobs::{Job, JobState};
use crate::leases::{Extra, Lease, LeaseState, Member, Promise};
use crate::ledger::Hold;
use crate::price::Prices;
use crate::state::{State, mix};
use crate::tariff::dominant;
use crate::units::{MicroAtp, MilliCores, Priority, Span, Time};
use crate::wire::{Order, Start};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Why a job was not granted although its turn came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too little is free, for this and every other job of its shape.
    Room,
    /// Its account, its budget, or its pool's quota or price does not allow it.
    Account,
    /// It fits, but nowhere with enough confidence.
    Doubt,
}

/// Where the members of a job may go.
#[derive(Clone, Copy)]
struct Where<'a> {
    /// On one account's own nodes as far as these go, if it says so.
    own: Option<AccountId>,
    /// On none of these.
    outside: &'a BTreeSet<NodeId>,
    /// Only where there is enough confidence.
    sure: bool,
}

impl Work<'_> {
    /// Grants a lease to a waiting job, outside of some nodes. The index must be up to date for its
    /// shape.
    ///
    /// # Errors
    /// Why not.
    pub fn try_grant(&mut self, id: JobId, outside: &BTreeSet<NodeId>) -> Result<LeaseId, Refusal> {
        let job = self.state.job(id);
        let shape = &self.state.shapes[job.shape];
        if over_quota(self.state, shape).is_some() {
            return Err(Refusal::Account);
        }
        let (account, limit) = (job.account, job.limit.unwrap_or(UNLIMITED));
        let sure = is_asked(self.state);
        if self.index.is_doubted(job) {
            return Err(Refusal::Doubt);
        }
        let members = self.choose(id, Where { own: None, outside, sure });
        if members.is_empty() {
            let fits =
                sure && !self.choose(id, Where { own: None, outside, sure: false }).is_empty();
            return Err(if fits { self.doubt(id, limit) } else { Refusal::Room });
        }
        let lease = self.state.next.lease;
        let others = foreign(self.state, account, &members);
        if self.keeps(id, &members) || self.grant_on(id, members, None).is_err() {
            // Its own nodes cost an account nothing: a lender without credit still has those, and
            // a gang of his needs the fewest of others that do.
            let job = self.state.job(id);
            self.index.refresh(self.state, job.shape);
            let own = self.choose(id, Where { own: Some(account), outside, sure });
            let fewer = foreign(self.state, account, &own) < others;
            if own.is_empty() || !fewer || self.keeps(id, &own) {
                return Err(Refusal::Account);
            }
            self.grant_on(id, own, None)?;
        }
        // Only what is granted uses a draw up: a pass that grants nothing changes nothing.
        self.state.draws += u64::from(self.index.scorer().is_random());
        Ok(lease)
    }

    /// Returns whether a cap keeps a job from these places.
    fn keeps(&mut self, id: JobId, members: &[Member]) -> bool {
        let job = self.state.job(id);
        let foreign = foreign(self.state, job.account, members);
        let capped = is_capped(self.state, job, &self.state.shapes[job.shape], foreign);
        self.index.capped |= capped;
        capped
    }

    /// Notes that a job fits, but nowhere with enough confidence.
    fn doubt(&mut self, id: JobId, limit: Span) -> Refusal {
        self.index.doubted.insert(self.state.job(id).shape, limit);
        Refusal::Doubt
    }

    /// Chooses the places of all members of a job, or none.
    fn choose(&mut self, id: JobId, places: Where<'_>) -> Vec<Member> {
        if self.state.shapes[self.state.job(id).shape].members == 1 {
            self.choose_one(id, places).into_iter().collect()
        } else {
            self.choose_gang(id, places)
        }
    }

    /// Returns the best node for one more member.
    fn best(&self, id: JobId, places: Where<'_>, draw: u64) -> Option<NodeId> {
        let job = self.state.job(id);
        let of = (&self.state.shapes[job.shape], job);
        let trusts = |node: NodeId| suffices(self.state, node, of, 1);
        let trusts = places.sure.then_some(&trusts as &dyn Fn(NodeId) -> bool);
        let choice = Choice { outside: places.outside, draw, trusts };
        let own = places.own.and_then(|account| self.index.best_own(job.shape, account, choice));
        own.or_else(|| self.index.best(job.shape, choice))
    }

    /// Chooses the place of a job of one member.
    fn choose_one(&mut self, id: JobId, places: Where<'_>) -> Option<Member> {
        let job = self.state.job(id);
        let draw = mix(self.state.rules.scheduling.seed, self.state.draws);
        let node = self.best(id, places, draw)?;
        let shape = &self.state.shapes[job.shape];
        let devices = self.index.scorer().devices(&self.state.nodes[node], node, shape, draw);
        Some(Member { node, devices })
    }

    /// Chooses the places of all members of a gang, or none. Each member is claimed while the next
    /// is chosen, so that members can share a node.
    fn choose_gang(&mut self, id: JobId, places: Where<'_>) -> Vec<Member> {
        let job = self.state.job(id);
        let (shape_id, account) = (job.shape, job.account);
        let shape = self.state.shapes[shape_id].clone();
        let (mut chosen, mut taken): (Vec<Member>, _) = (Vec::new(), places.outside.clone());
        for i in 0..shape.members {
            let draw = mix(self.state.rules.scheduling.seed ^ u64::from(i), self.state.draws);
            let places = Where { outside: &taken, ..places };
            let Some(node) = self.best(id, places, draw) else { break };
            let devices = self.index.scorer().devices(&self.state.nodes[node], node, &shape, draw);
            self.state.nodes[node].claim(&shape.needs, devices);
            self.state.changed.note(node);
            chosen.push(Member { node, devices });
            if shape.spread {
                taken.insert(node);
            }
            self.index.read_changes(self.state);
            self.index.refresh(self.state, shape_id);
        }
        for member in &chosen {
            self.state.nodes[member.node].unclaim(&shape.needs, member.devices);
            self.state.changed.note(member.node);
        }
        self.index.read_changes(self.state);
        if chosen.len() < usize::from(shape.members) {
            self.index.refresh(self.state, shape_id);
            return Vec::new();
        }
        assert!(self.state.ledger.accounts.find(account).is_some(), "a job's account exists");
        chosen
    }

    /// Grants a lease on these places to a job that waits in the queue, or has just come, on the
    /// terms that it was promised, if it was.
    ///
    /// # Errors
    /// When the account or the job's own budget cannot pay the first term, or its price is above
    /// what the job pays.
    pub fn grant_on(
        &mut self,
        id: JobId,
        members: Vec<Member>,
        promise: Option<&Promise>,
    ) -> Result<(), Refusal> {
        let state = &mut *self.state;
        let (now, lease_id) = (state.now, state.next.lease);
        let job = state.job(id);
        let account = job.account;
        let (standing, prices) = first_terms(state, job, &members, promise)?;
        let (extra, amount) = first_term(state, job, &members, (standing, &prices))?;
        let hold = if amount.is_zero() {
            None
        } else {
            let hold = Hold { account, amount, lease: Some(lease_id) };
            let held = state.ledger.hold(hold, now, self.effects);
            Some(held.map_err(|_| Refusal::Account)?)
        };
        // Nothing below can be refused.
        stop_waiting(state, id);
        state.release_place(id);
        let mut lease = new_lease(state, id, members, (standing, prices));
        lease.extra = Extra::new(extra);
        lease.hold = hold;
        lease.held = amount;
        let tags = &state.shapes[lease.shape].tags;
        let pool = state.shapes[lease.shape].pool;
        for member in &lease.members {
            let node = &mut state.nodes[member.node];
            node.take(lease_id, (&lease.needs, tags), member.devices);
            node.extra = node.extra.saturating_add(extra);
            state.pools[pool].tags.enter(tags);
            state.changed.note(member.node);
            if let Some(offer) = &mut node.offer
                && !offer.leased
            {
                offer.leased = true;
                state.fates.count(OfferFate::Leased);
                let (offer, node) = (offer.id, member.node);
                self.effects.push(Effect::Offer { offer, node, fate: OfferFate::Leased });
            }
        }
        let total = state.shapes[lease.shape].total();
        state.pools[pool].leased.add(&total);
        let foreign = foreign(state, account, &lease.members);
        if foreign > 0 {
            let part = lease.needs.bundle().times(foreign);
            state.pools[pool].borrowed.entry(account).or_insert(Bundle::ZERO).add(&part);
        }
        let row = &mut state.ledger.accounts[account];
        row.using.add(&total);
        row.leases += u32::from(foreign > 0);
        state.pools[pool].running.enter(lease.priority);
        state.next.lease = lease_id.next();
        if planted(Canary::ReuseLeaseId) && lease_id.get().is_multiple_of(7) {
            state.next.lease = lease_id;
        }
        let (epoch, now) = (lease.epoch, state.now);
        let job = state.job_mut(id);
        job.state = JobState::Running(lease_id);
        (job.epoch, job.setback.until) = (epoch, Time::ZERO);
        let stay = (now, job.limit);
        let confidence = of_places(state, &lease.members, stay);
        self.effects.push(Effect::Granted { lease: lease_id, epoch, job: id, confidence });
        state.leases.insert(lease_id, lease);
        set_timer(state, lease_id);
        let ends = state.lease(lease_id).term_ends;
        self.permit(lease_id, ends);
        self.book_term(lease_id);
        self.book_urgent(lease_id, now, ends);
        for node in self.state.lease(lease_id).places() {
            self.squeeze(node);
        }
        self.watch_idle(lease_id);
        self.order_starts(lease_id);
        Ok(())
    }

    /// Orders every node of a new lease to start its part.
    pub fn order_starts(&mut self, id: LeaseId) {
        for at in 0..self.state.lease(id).members.len() {
            let members = self.state.lease(id).members.iter().map(|member| member.node);
            let Some(node) = members.clone().nth(at) else { return };
            // Members that share a node are one process tree there.
            if !members.take(at).any(|other| other == node) {
                let start = Order::Start(Box::new(self.start_on(id, node)));
                self.order(node, start);
            }
        }
    }

    /// Returns what a node is to start of a lease.
    fn start_on(&self, id: LeaseId, node: NodeId) -> Start {
        let lease = self.state.lease(id);
        let (job, row) = (self.state.job(lease.job), &self.state.nodes[node]);
        let here = lease.members.iter().filter(|member| member.node == node);
        let (count, devices) = here.fold((0, 0), |(n, all), member| (n + 1, all | member.devices));
        let mut needs = lease.needs.bundle().times(count);
        needs.cpu = needs.cpu.saturating_add(lease.extra.cpu);
        let gpu = lease.needs.gpus.count > 0;
        Start {
            lease: id,
            epoch: lease.epoch,
            job: lease.job,
            task: job.task,
            needs,
            least: (!job.extra.is_zero()).then_some(lease.needs.cpu),
            devices,
            class: lease.priority.class(),
            own: row.spec.owner == lease.account,
            pausable: !gpu && lease.members.len() == 1,
            vacate: self.vacate(lease),
            checkpoint: job.checkpoint,
            suspended: lease.suspended.is_some(),
            lending: row.lending.version,
        }
    }

    /// Returns how long a lease's job may take to leave when an owner returns.
    pub(super) fn vacate(&self, lease: &Lease) -> Span {
        let rules = &self.state.rules;
        let gpu = lease.needs.gpus.count > 0;
        let most = if gpu { rules.offering.vacate_gpu } else { rules.offering.vacate_cpu };
        self.state.job(lease.job).vacate.unwrap_or(rules.preemption.grace).min(most)
    }

    /// Has a node told something: at once where the halves are joined directly, else with the
    /// message that ends this entry.
    pub fn order(&mut self, node: NodeId, order: Order) {
        if !self.state.network {
            self.effects.push(Effect::Order { node, order });
        } else if self.state.links[node].session > 0 {
            self.state.links[node].put(order);
            self.state.changed.tell(node);
        }
    }
}

/// Returns what a job starts as, and at which prices: those that it was promised, else those of
/// now, unless they are above what it pays, or it waits after an attempt in vain.
fn first_terms(
    state: &State,
    job: &Job,
    members: &[Member],
    promise: Option<&Promise>,
) -> Result<(Priority, Prices), Refusal> {
    let standing = standing(state, job);
    if let Some(promise) = promise {
        return Ok((standing.min(promise.standing), promise.prices));
    }
    let rests = is_resting(state, job) && foreign(state, job.account, members) > 0;
    if rests || is_too_dear(state, job, members) {
        return Err(Refusal::Account);
    }
    Ok((standing, *prices(state, &state.shapes[job.shape])))
}

/// Returns the CPU that a job starts with beside its needs, as far as it can pay for it, and what
/// its first term costs.
fn first_term(
    state: &State,
    job: &Job,
    members: &[Member],
    (standing, prices): (Priority, &Prices),
) -> Result<(MilliCores, MicroAtp), Refusal> {
    let term = (term(state, job.limit), prices);
    let cost = |extra| term_cost(state, job, (members, extra, standing.band()), term);
    let is_over =
        |amount| job.budget.is_some_and(|budget| job.charged.saturating_add(amount) > budget);
    let (extra, most) = (spare(state, job, members), state.ledger.available(job.account));
    let amount = cost(extra);
    if amount <= most && !is_over(amount) {
        return Ok((extra, amount));
    }
    let least = if extra.is_zero() { amount } else { cost(MilliCores::ZERO) };
    if is_over(least) { Err(Refusal::Account) } else { Ok((MilliCores::ZERO, least)) }
}

/// Describes the lease of a job that starts now.
fn new_lease(
    state: &State,
    id: JobId,
    members: Vec<Member>,
    (standing, prices): (Priority, Prices),
) -> Box<Lease> {
    let job: &Job = state.job(id);
    let shape = &state.shapes[job.shape];
    let now = state.now;
    let limit_at = job.limit.map(|limit| now.after(limit));
    let term_ends = if state.runs_in_terms() {
        now.after(term(state, job.limit))
    } else {
        limit_at.unwrap_or(Time::MAX)
    };
    let capacity = &state.pools[shape.pool].capacity;
    let share = dominant(&shape.total(), capacity, state.rules.fair_share.weights);
    Box::new(Lease {
        id: state.next.lease,
        job: id,
        account: job.account,
        epoch: job.epoch.next(),
        needs: shape.needs,
        extra: Extra::default(),
        shape: job.shape,
        priority: standing,
        next_priority: standing,
        urgent_since: is_urgent(standing).then_some(now),
        urgent_booked: None,
        members,
        state: LeaseState::Active,
        granted: now,
        limit_at,
        term_began: now,
        term_ends,
        hold: None,
        next_hold: None,
        rates: state.rules.atp.rates,
        prices,
        next_prices: prices,
        share,
        booked: 0,
        reason: None,
        blame: None,
        gone: None,
        outcome: None,
        paused: None,
        suspended: None,
        stood: Span::ZERO,
        rested: Span::ZERO,
        rested_in_all: Span::ZERO,
        limit_left: None,
        noticed: None,
        idle_from: now,
        warned: None,
        kill_at: None,
        next_span: None,
        permit_until: term_ends,
        permitted: Span::ZERO,
        safe_at: now,
        lost_at: None,
        proof: now,
        stuck: false,
        overstayed: false,
        cover: None,
        held: MicroAtp::ZERO,
        settled: MicroAtp::ZERO,
        unpaid: false,
        unpaid_terms: 0,
        meter: None,
    })
}

/// Sets the timer of a lease's running term: its half, or the limit in the last term. A lease has
/// one timer at a time; that of the term's end follows on its half.
pub fn set_timer(state: &mut State, id: LeaseId) {
    let lease = state.lease(id);
    let limit = lease.limit_at.unwrap_or(Time::MAX);
    if lease.term_ends < limit {
        state.timers.set(lease.half_term(), Due::Renew(id));
    } else {
        state.timers.set(limit, Due::Limit(id));
    }
}

/// Takes back a lease's timer.
pub fn clear_timers(state: &mut State, id: LeaseId) {
    let (now, lease) = (state.now, state.lease(id));
    let (limit, half, ends) = (lease.limit_at, lease.half_term(), lease.term_ends);
    if let Some(limit) = limit {
        state.timers.clear(limit, Due::Limit(id));
    }
    if let Some(lost) = state.lease(id).lost_at {
        state.timers.clear(lost, Due::Lost(id));
    }
    // In its last term it only waits for the limit.
    if limit.is_none_or(|limit| ends < limit) {
        if now <= half {
            state.timers.clear(half, Due::Renew(id));
        }
        if half <= now && now <= ends {
            state.timers.clear(ends, Due::TermEnd(id));
        }
    }
}
