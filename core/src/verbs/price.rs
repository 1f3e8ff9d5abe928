//! Prices: under `atp.price: dynamic` every pool's prices follow what is used of what it lends;
//! under the strategy `cheapest` they say where a job goes.
//!
//! Once per interval this walks the nodes, the leases on them, and the lines that wait; nothing in
//! between does.

use super::Work;
use super::check::{check_room, could_hold};
use crate::bundle::Bundle;
use crate::caps::{is_refused, lets};
use crate::charges::term;
use crate::command::JobSpec;
use crate::due::Due;
use crate::ids::{AccountId, PoolId, ShapeId};
use crate::price::{Demand, INTERVAL, Market};
use crate::shapes::Shape;
use crate::state::State;
use crate::tariff::{Tariff, cost};
use crate::units::{MicroAtp, Time};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

impl Work<'_> {
    /// Moves the prices of every pool by one step, and says when they move next: never twice at one
    /// instant, however late the entry is.
    pub fn move_prices(&mut self) {
        for pool in self.state.pools.ids() {
            let demand = demand(self.state, pool);
            let moved = self.state.pools[pool].market.follow(&demand);
            // A price decides who may start, and so whose place is kept.
            if moved && self.state.is_waiting(pool) {
                self.state.changed.stir();
            }
        }
        self.state.priced_at = self.state.now.after(INTERVAL);
        self.state.timers.set(self.state.priced_at, Due::Price);
    }

    /// Follows other rules: prices begin to move an interval from now, or are the rates again.
    pub fn adopt_prices(&mut self) {
        let state = &mut *self.state;
        let (dynamic, moves) = (state.rules.atp.is_dynamic(), state.priced_at < Time::MAX);
        if dynamic == moves {
            return;
        }
        state.timers.clear(state.priced_at, Due::Price);
        state.pools.iter_mut().for_each(|(_, pool)| pool.market = Market::default());
        state.priced_at = if dynamic { state.now.after(INTERVAL) } else { Time::MAX };
        state.timers.set(state.priced_at, Due::Price);
    }
}

impl Work<'_> {
    /// Returns the pool in which the first term of a job costs least, of those that could ever hold
    /// it; the first of several. Where its account's own nodes could hold all of it, it costs
    /// nothing. The job's own pool where none can: it is refused there.
    pub(super) fn cheapest_pool(
        &self,
        account: AccountId,
        spec: &JobSpec,
        shape: &Shape,
    ) -> PoolId {
        let (state, own) = (&*self.state, self.index.owned(account));
        let (span, band) = (term(state, spec.limit), spec.priority.band());
        let price = |pool: PoolId| {
            let shape = Shape { pool, ..shape.clone() };
            let prices = &state.pools[pool].market.prices;
            let tariff = Tariff { rates: &state.rules.atp.rates, prices, band };
            let free = !state.rules.atp.enabled || could_hold(state, &shape, own);
            let one = if free { MicroAtp::ZERO } else { cost(&spec.needs, span, tariff) };
            (one, pool)
        };
        // All members pay the same.
        let total = shape.total();
        let large = |pool: &PoolId| total.fits_in(&state.pools[*pool].capacity);
        let mut pools: Vec<_> = state.pools.ids().filter(large).map(price).collect();
        pools.sort_unstable();
        let holds = |pool: &PoolId| {
            let shape = Shape { pool: *pool, ..shape.clone() };
            state.shapes.find(&shape).is_some() || check_room(state, &shape).is_ok()
        };
        pools.into_iter().map(|(_, pool)| pool).find(holds).unwrap_or(spec.pool)
    }
}

/// Returns what a pool lends, what of it is leased, and what waits for it. What an account has of
/// its own nodes is neither lent nor leased: nobody moves a price by borrowing from himself.
fn demand(state: &State, pool: PoolId) -> Demand {
    let mut demand = Demand::default();
    for id in state.pools[pool].nodes.iter().copied() {
        let node = &state.nodes[id];
        let mut own = Bundle::ZERO;
        for lease in node.leases.iter().map(|lease| state.lease(*lease)) {
            if lease.account == node.spec.owner {
                for _ in lease.members.iter().filter(|member| member.node == id) {
                    own.add(&lease.needs.bundle());
                }
            }
        }
        let lent = node.offer.as_ref().filter(|_| node.takes_work(state.now));
        let lent = lent.map_or(Bundle::ZERO, |offer| offer.total);
        demand.offered.add(&lent.zip(&node.leased, u64::max).saturating_sub(&own));
        demand.reserved.add(&node.leased.saturating_sub(&own));
    }
    demand.queued = queued(state, pool);
    demand
}

/// Returns what the jobs of a pool need that wait for nothing but room or their turn, at most all
/// that the pool has.
///
/// Those of one line ask for the same and pay the same, so the first stands for all: it must not be
/// refused by quota, credit, budget, price or a cap, and some node that lends, not its own
/// account's, must suit it. Held and dependent jobs, and those that others make way for, stand in
/// no line.
fn queued(state: &State, pool: PoolId) -> Bundle {
    let most = state.pools[pool].capacity;
    let mut queued = Bundle::ZERO;
    let mut known: BTreeMap<(ShapeId, AccountId), bool> = BTreeMap::new();
    for rank in state.queue.ranks(pool) {
        let (line, job) = (rank.line, state.job(rank.head));
        let shape = &state.shapes[line.shape];
        let lacks_room = !is_refused(state, job, shape)
            && *known
                .entry((line.shape, line.account))
                .or_insert_with(|| state.pools[pool].nodes.iter().any(|n| lets(state, job.id, *n)));
        if lacks_room {
            let jobs = state.queue.count(line);
            let all = shape.total().times(jobs);
            queued = queued.saturating_add(&all).meet(&most);
        }
        if most.fits_in(&queued) {
            break;
        }
    }
    queued
}
