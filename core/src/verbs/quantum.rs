//! Quanta: under the order `karma`, what was held is counted once per quantum.

use super::Work;
use crate::due::Due;
use crate::ids::AccountId;
use crate::jobs::JobState;
use crate::karma::{Demand, Karma};
use alloc::collections::BTreeMap;

impl Work<'_> {
    /// Ends a quantum: who held more than what is guaranteed to it pays, who left some of it earns,
    /// and all lines are ranked anew.
    pub fn close_quantum(&mut self) {
        let demands = self.demands();
        let next = self.state.karma.ends().after(self.state.rules.scheduling.karma.quantum);
        self.state.karma.close(&demands, next);
        self.state.timers.set(next, Due::Quantum);
        let accounts = self.state.ledger.accounts.ids();
        for account in accounts {
            self.rerank(account);
        }
    }

    /// Returns what every account holds, and what its jobs wait for: in the queue, or for those to
    /// leave that make way for them.
    fn demands(&self) -> BTreeMap<AccountId, Demand> {
        let state = &*self.state;
        let mut out: BTreeMap<AccountId, Demand> = BTreeMap::new();
        for (id, account) in state.ledger.accounts.iter() {
            let using = state.karma.counted(&account.using);
            out.insert(id, Demand { using, waiting: 0 });
        }
        let lines = state.queue.lines().map(|(key, jobs)| (key.account, key.shape, jobs));
        let claims = state.claims.keys().map(|id| state.job(*id));
        let claims = claims.filter(|job| job.state == JobState::Nominated);
        for (account, shape, jobs) in lines.chain(claims.map(|job| (job.account, job.shape, 1))) {
            let each = state.karma.counted(&state.shapes[shape].total());
            let waiting = &mut out.entry(account).or_default().waiting;
            *waiting = waiting.saturating_add(each.saturating_mul(jobs));
        }
        out
    }

    /// Follows other rules: see [`Karma::adopted`].
    pub fn adopt_karma(&mut self) {
        let state = &mut *self.state;
        let (scheduling, now) = (&state.rules.scheduling, state.now);
        let fresh = Karma::new(scheduling, &state.ledger, &state.capacity, now);
        state.timers.clear(state.karma.ends(), Due::Quantum);
        state.karma = state.karma.adopted(fresh);
        state.timers.set(state.karma.ends(), Due::Quantum);
    }
}
