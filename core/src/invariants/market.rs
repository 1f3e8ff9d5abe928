//! What must always hold of prices, and who can pay them.

use super::Breaches;
use crate::caps::is_at_its_cap;
use crate::charges::{first_hold, is_resting, over_price};
use crate::ids::JobId;
use crate::price::{Market, step_max};
use crate::state::State;
use crate::units::Time;
use alloc::format;

/// Invariant 40: prices stay within their bounds, and are the rates where they do not move.
pub(super) fn check_prices(state: &State, out: &mut Breaches) {
    let dynamic = state.rules.atp.is_dynamic();
    for (id, pool) in state.pools.iter() {
        let sound = pool.market.prices.are_sound() && (dynamic || pool.market == Market::default());
        out.need(40, sound, || format!("{id}: {:?}", pool.market));
    }
    out.need(40, dynamic == (state.priced_at < Time::MAX), || {
        format!("prices move next at {}", state.priced_at)
    });
    for lease in state.leases.values() {
        let sound = lease.prices.are_sound() && lease.next_prices.are_sound();
        out.need(41, sound, || format!("{}: {:?}", lease.id, lease.prices));
    }
}

/// Invariants 40 and 41: an entry moves a price by one step, of what is lent, and a term that
/// begins has the prices that were fixed for it.
pub(super) fn check_steps(before: &State, after: &State, out: &mut Breaches) {
    if before.rules != after.rules {
        return;
    }
    for (id, pool) in after.pools.iter() {
        let old = before.pools[id].market.prices;
        let rows = old.0.iter().zip(pool.market.prices.0).zip(pool.market.used);
        for ((old, new), used) in rows {
            let moved = u64::from(old.get().abs_diff(new.get()));
            let ok = moved <= step_max(*old) && (moved == 0 || used.is_some());
            out.need(40, ok, || format!("{id}: a price goes from {old} to {new}"));
        }
    }
    for (id, lease) in after.leases.iter() {
        // An entry that comes late may begin one before prices move and one after that.
        let pool = after.shapes[lease.shape].pool;
        let pools = [before, after].map(|state| state.pools[pool].market.prices);
        let old = before.leases.get(&id);
        let fixed = old.into_iter().flat_map(|old| [old.prices, old.next_prices]).chain(pools);
        // Others made way for its job: what it pays was fixed then.
        let promise = before.claims.get(&lease.job).and_then(|claim| claim.promise.as_ref());
        let known =
            fixed.chain(promise.map(|promise| promise.prices)).any(|prices| prices == lease.prices);
        out.need(41, known, || format!("{id}: {:?}", lease.prices));
    }
}

/// Returns whether an account can pay the first term of a waiting job, and the job its price.
pub(super) fn can_pay(state: &State, id: JobId) -> bool {
    let job = state.job(id);
    let shape = &state.shapes[job.shape];
    let needed = first_hold(state, job, shape);
    let inside = job.budget.is_none_or(|b| job.charged.saturating_add(needed) <= b);
    let cheap = over_price(state, job, shape).is_none();
    // Where no node is its own.
    let capped = is_at_its_cap(state, job, shape);
    let ready = !is_resting(state, job);
    inside && cheap && ready && !capped && state.ledger.available(job.account) >= needed
}
