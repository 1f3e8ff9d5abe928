//! Charges: what a lease would cost, and what each lender is due. Questions only; no credit moves.

use crate::bundle::{Bundle, Dimension};
use crate::deny::first_short;
use crate::ids::{AccountId, LeaseId, NodeId, PoolId, ShapeId};
use crate::jobs::Job;
use crate::leases::{Claim, Lease, Member};
use crate::ledger::Payment;
use crate::meter::{Record, Resolution};
use crate::price::Prices;
use crate::shapes::Shape;
use crate::state::State;
use crate::tariff::{Tariff, cost, cost_beside};
use crate::units::{Band, MicroAtp, MilliCores, Ppm, Priority, Span, Time};
use crate::urgent::Part;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Returns the dimension in which a pool's quota has no room for one more job of a shape, with what
/// would be leased and the quota.
#[must_use]
pub fn over_quota(state: &State, shape: &Shape) -> Option<(Dimension, u64, u64)> {
    over_quota_without(state, shape, &[])
}

/// As [`over_quota`], once some leases of the pool have left: nor may more be leased than the quota
/// once all that others make way for has started.
#[must_use]
pub fn over_quota_without(
    state: &State,
    shape: &Shape,
    gone: &[LeaseId],
) -> Option<(Dimension, u64, u64)> {
    let pool = &state.pools[shape.pool];
    let quota = pool.spec.quota.as_ref()?;
    // A lease may leave for several; what moves starts again elsewhere.
    let without = |gone: &BTreeSet<LeaseId>| {
        let gone = gone.iter().filter_map(|id| state.leases.get(id));
        let gone = gone.filter(|lease| !state.claims.contains_key(&lease.job));
        gone.fold(pool.leased, |sum, lease| {
            let members = lease.members.iter().filter(|member| !lease.has_left(member.node));
            sum.saturating_sub(&lease.needs.bundle().times(members.count() as u64))
        })
    };
    let over = |leased: Bundle| {
        let leased = leased.checked_add(&shape.total());
        leased.and_then(|leased| first_short(&leased, quota))
    };
    let mut gone: BTreeSet<LeaseId> = gone.iter().copied().collect();
    over(without(&gone)).or_else(|| {
        let coming = || coming(state, shape.pool).map(|(_, claim)| claim);
        gone.extend(coming().flat_map(Claim::awaits));
        over(coming().fold(without(&gone), |sum, claim| {
            sum.saturating_add(&claim.needs.bundle().times(claim.members.len() as u64))
        }))
    })
}

/// Walks the jobs that others make way for in a pool. What only moves has its place already.
fn coming(state: &State, pool: PoolId) -> impl Iterator<Item = (&Job, &Claim)> {
    let claims = state.claims.iter().map(|(id, claim)| (state.job(*id), claim));
    claims.filter(move |(job, _)| !job.state.is_running() && state.shapes[job.shape].pool == pool)
}

/// Returns whether its pool's quota or price, its account or its own budget keeps a job from
/// starting, however much is free.
#[must_use]
pub fn is_refused(state: &State, job: &Job, shape: &Shape) -> bool {
    first_hold(state, job, shape) > available(state, job)
        || is_barred(state, job, shape)
        || over_quota(state, shape).is_some()
}

/// Returns whether its own budget, the price, or an attempt in vain keeps a job from starting,
/// whatever credit its account has.
#[must_use]
pub fn is_barred(state: &State, job: &Job, shape: &Shape) -> bool {
    let needed = first_hold(state, job, shape);
    is_resting(state, job)
        || job.budget.is_some_and(|budget| job.charged.saturating_add(needed) > budget)
        || over_price(state, job, shape).is_some()
}

/// Returns the first resource that a job needs and whose price in its pool is above the highest
/// that the job pays, with both. What is free has no price.
#[must_use]
pub fn over_price(state: &State, job: &Job, shape: &Shape) -> Option<(Dimension, Ppm, Ppm)> {
    let limit = job.price_max.filter(|_| state.rules.atp.enabled)?;
    let prices = Dimension::all().zip(prices(state, shape).0).zip(state.rules.atp.rates);
    let needed = prices.zip(shape.needs.bundle().amounts());
    let paid = needed.filter(|((_, rate), amount)| *rate > 0 && *amount > 0);
    let mut paid = paid.map(|((priced, _), _)| priced);
    paid.find(|(_, price)| *price > limit).map(|(dimension, price)| (dimension, price, limit))
}

/// Returns whether a price is above what a job pays for these places. On its account's own nodes it
/// pays nothing, whatever the price.
#[must_use]
pub fn is_too_dear(state: &State, job: &Job, members: &[Member]) -> bool {
    let shape = &state.shapes[job.shape];
    over_price(state, job, shape).is_some() && foreign(state, job.account, members) > 0
}

/// Returns the prices of the pool of a shape.
#[must_use]
pub fn prices<'a>(state: &'a State, shape: &Shape) -> &'a Prices {
    &state.pools[shape.pool].market.prices
}

/// Returns the length of the term that begins now: a whole term, or what is left of the limit.
#[must_use]
pub fn term(state: &State, limit_left: Option<Span>) -> Span {
    let term = state.rules.term.0;
    limit_left.map_or(term, |left| left.min(term))
}

/// Returns what a term of these members costs a job's account in a band, with CPU beside the needs
/// of each, at these prices; its own nodes cost it nothing.
#[must_use]
pub fn term_cost(
    state: &State,
    job: &Job,
    (members, extra, band): (&[Member], MilliCores, Band),
    (span, prices): (Span, &Prices),
) -> MicroAtp {
    if !state.rules.atp.enabled {
        return MicroAtp::ZERO;
    }
    let count = foreign(state, job.account, members);
    let needs = &state.shapes[job.shape].needs;
    let extra = u128::from(extra.get()) * u128::from(span.get());
    let tariff = Tariff { rates: &state.rules.atp.rates, prices, band };
    let one = cost_beside((needs, extra), span, tariff);
    MicroAtp::new(one.get().saturating_mul(count))
}

/// Returns how many of these members are on nodes of other accounts.
#[must_use]
pub fn foreign(state: &State, account: AccountId, members: &[Member]) -> u64 {
    members.iter().filter(|m| state.nodes[m.node].spec.owner != account).count() as u64
}

/// Returns the CPU that a job's lease has beside its needs if it starts on these members: what is
/// left over there.
#[must_use]
pub fn spare(state: &State, job: &Job, members: &[Member]) -> MilliCores {
    let ([member], false) = (members, job.extra.is_zero()) else { return MilliCores::ZERO };
    let needs = &state.shapes[job.shape].needs;
    state.nodes[member.node].spare().saturating_sub(needs.cpu).min(job.extra)
}

/// Returns the priority that a job starts with now: that of its next attempt, but high where its
/// pool's cap on urgent work keeps it from more.
#[must_use]
pub fn standing(state: &State, job: &Job) -> Priority {
    let pays = job.pays_as(&state.rules.preemption);
    let span = term(state, job.limit);
    if is_urgent(pays) && !may_be_urgent(state, job.shape, span, None) {
        return Priority::HIGH;
    }
    pays
}

/// Returns whether a priority counts as urgent.
#[must_use]
pub const fn is_urgent(priority: Priority) -> bool {
    priority.class() == Priority::URGENT.class()
}

/// Returns whether urgent work of a shape may have a term of its pool, after what it has had of it
/// itself, and beside the first terms of those that others make way for. Where leases do not run in
/// terms, nothing is capped.
#[must_use]
pub fn may_be_urgent(state: &State, shape: ShapeId, span: Span, had: Option<(Time, Time)>) -> bool {
    let Some(share) = state.rules.caps.urgent_share.filter(|_| state.runs_in_terms()) else {
        return true;
    };
    let total = state.shapes[shape].total();
    let pool = &state.pools[state.shapes[shape].pool];
    let own = had.map(|(from, to)| Part { amounts: &total, from, to });
    let urgent = |claim: &Claim| claim.promise.as_ref().is_some_and(|p| is_urgent(p.standing));
    let coming = coming(state, state.shapes[shape].pool).filter(|(_, claim)| urgent(claim));
    let coming = coming.map(|(job, _)| (state.shapes[job.shape].total(), term(state, job.limit)));
    let more = (&total, span);
    pool.urgent.admits(more, own, coming, (&pool.capacity, share), state.now)
}

/// Returns whether a job waits after an attempt in vain before it starts on others' nodes.
#[must_use]
pub fn is_resting(state: &State, job: &Job) -> bool {
    let waits = state.rules.atp.enabled && state.now < job.setback.until;
    waits && !(job.setback.short && credit_to_go_on(state, job) <= available(state, job))
}

/// Returns the credit that a job's account must have for the job to start again before it has
/// waited, after an attempt in vain: that of as long as it would wait, at most of its limit.
#[must_use]
pub fn credit_to_go_on(state: &State, job: &Job) -> MicroAtp {
    let span = job.limit.map_or(job.setback.span, |limit| job.setback.span.min(limit));
    let span = span.max(term(state, job.limit));
    most_cost(state, job, &state.shapes[job.shape], span)
}

/// Returns what a job's account has available.
fn available(state: &State, job: &Job) -> MicroAtp {
    state.ledger.available(job.account)
}

/// Returns the most that the first term of a job can cost.
#[must_use]
pub fn first_hold(state: &State, job: &Job, shape: &Shape) -> MicroAtp {
    most_cost(state, job, shape, term(state, job.limit))
}

/// Returns the most that a job can cost in a span, at the prices of now.
fn most_cost(state: &State, job: &Job, shape: &Shape, span: Span) -> MicroAtp {
    if !state.rules.atp.enabled {
        return MicroAtp::ZERO;
    }
    let band = standing(state, job).band();
    let prices = prices(state, shape);
    let tariff = Tariff { rates: &state.rules.atp.rates, prices, band };
    let one = cost(&shape.needs, span, tariff);
    MicroAtp::new(one.get().saturating_mul(u64::from(shape.members)))
}

/// Returns what each lender is due for the running term of a lease until `until`, and the refunds
/// that the node to blame owes for the work lost in it.
#[must_use]
pub fn payments(state: &State, lease: &Lease, until: Time, lost: Span) -> Vec<Payment> {
    let span = lease.ran_in_term(until);
    let extra = lease.extra.metered(span);
    let amount = cost_beside((&lease.needs, extra), span, lease.tariff());
    let owner = |node: NodeId| state.nodes[node].spec.owner;
    let foreign = || lease.members.iter().filter(|m| owner(m.node) != lease.account);
    let mut left = if lease.blame.is_some() {
        let one = priced_work(lease, span, lost.min(span));
        MicroAtp::new(one.get().saturating_mul(foreign().count() as u64))
    } else {
        MicroAtp::ZERO
    };
    let mut out = Vec::new();
    for member in foreign() {
        let blamed = lease.blame == Some(member.node);
        let refund = if blamed { left.min(amount) } else { MicroAtp::ZERO };
        left = left.saturating_sub(refund);
        out.push(Payment { to: owner(member.node), amount, refund });
    }
    out
}

/// Returns the record of the running term of a lease, charged until a time that was learned in some
/// way: what how many nodes cost each, and what of that was refunded and went to the treasury.
#[must_use]
pub fn metered(
    lease: &Lease,
    (until, by): (Time, Resolution),
    (nodes, cost): (u32, MicroAtp),
    (refunded, fee): (MicroAtp, MicroAtp),
) -> Record {
    let ran = lease.ran_in_term(until);
    let dear = lease.prices.0.iter().any(|price| *price != Ppm::ONE);
    Record {
        from: lease.term_began,
        until: until.min(lease.term_ends),
        by,
        ran,
        extra: lease.extra.metered(ran),
        band: lease.band(),
        prices: dear.then(|| Box::new(lease.prices.0)),
        nodes,
        cost,
        refunded,
        fee,
    }
}

/// Returns what the last work of a lease costs on each node, after running for `ran` in its term.
fn priced_work(lease: &Lease, ran: Span, work: Span) -> MicroAtp {
    let extra = lease.extra.last(ran, work);
    cost_beside((&lease.needs, extra), work, lease.tariff())
}

/// Returns the priced work that the running term of a lease would lose by `at`.
#[must_use]
pub fn priced_loss(state: &State, lease: &Lease, at: Time) -> MicroAtp {
    if lease.hold.is_none() {
        return MicroAtp::ZERO;
    }
    let at = at.min(lease.term_ends);
    let ran = lease.ran_in_term(at);
    let lost = state.job(lease.job).lost_after(lease.worked(at)).min(ran);
    let count = foreign(state, lease.account, &lease.members);
    MicroAtp::new(priced_work(lease, ran, lost).get().saturating_mul(count))
}
