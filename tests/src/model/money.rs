//! What jobs cost in the model: one sum per term, every resource rounded up for itself.

use super::{Model, Task};
use gridcore::bundle::{Bundle, Needs};
use gridcore::config::Order;
use gridcore::ids::{AccountId, JobId, NodeId};
use gridcore::units::{Priority, Span, Time};

/// What holding `needs` for `ms` costs: every resource rounded up for itself.
fn cost(needs: &Needs, ms: u64, priority: Priority, rates: &[u64; 12]) -> u64 {
    let factor = match priority.get() {
        0..=25 => 500_000_u128,
        26..=50 => 1_000_000,
        51..=75 => 2_000_000,
        _ => 4_000_000,
    };
    let mut total = 0;
    for (amount, rate) in needs.bundle().amounts().into_iter().zip(rates) {
        if *rate > 0 {
            total += (u128::from(amount) * u128::from(ms) * factor).div_ceil(u128::from(*rate));
        }
    }
    u64::try_from(total).unwrap_or(u64::MAX)
}

impl Task {
    /// Whether the rates themselves, the only price that the model knows, are above what it pays.
    pub(super) fn is_dear(&self) -> bool {
        self.spec.price_max.is_some_and(|most| most.get() < 1_000_000)
    }
}

impl Model {
    /// Settles a job for the last time and forgets it.
    pub(super) fn finish(&mut self, id: JobId, now: Time) {
        self.close(id, now);
        self.tasks.remove(&id);
    }

    /// Settles the running term and gives back what was set aside and booked ahead.
    pub(super) fn close(&mut self, id: JobId, now: Time) {
        self.settle(id, now.ms());
        let Some(task) = self.tasks.get(&id) else { return };
        if task.places.is_none() {
            return;
        }
        self.available[task.account.get() as usize] += i128::from(task.term.3);
        let (began, ends) = (u128::from(task.term.0), u128::from(task.term.1));
        if ends > began {
            let unused = ends.saturating_sub(u128::from(now.ms()));
            let back = task.booked * unused / (ends - began);
            let usage = &mut self.usage[task.account.get() as usize];
            *usage = usage.saturating_sub(back);
        }
    }

    /// Pays the lenders for the running term until `until`.
    pub(super) fn settle(&mut self, id: JobId, until: u64) {
        let rules = &self.config.rules;
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(places) = &task.places else { return };
        let held = std::mem::take(&mut task.term.2);
        if held == 0 {
            return;
        }
        let ms = until.min(task.term.1) - task.term.0;
        let one = cost(&task.spec.needs, ms, task.spec.priority, &rules.atp.rates);
        let exact = |sum: u64| {
            let fee = u128::from(sum) * u128::from(rules.atp.fee.get()) / 1_000_000;
            i128::try_from(fee).unwrap_or(0)
        };
        let owners = places.iter().map(|(n, _)| self.config.nodes[n.get() as usize].owner);
        let foreign: Vec<AccountId> = owners.filter(|owner| *owner != task.account).collect();
        let mut sum = 0;
        for owner in &foreign {
            let part = exact(sum + one) - exact(sum);
            sum += one;
            self.available[owner.get() as usize] += i128::from(one) - part;
            self.treasury += part;
        }
        task.charged += sum;
        self.available[task.account.get() as usize] += i128::from(held) - i128::from(sum);
    }

    /// Half of the running term has passed: sets the next one aside, if the account can.
    pub(super) fn renew(&mut self, id: JobId) {
        let Some(task) = self.tasks.get(&id) else { return };
        let Some(places) = task.places.clone() else { return };
        if task.term.3 > 0 {
            return;
        }
        let amount = self.price(task, &places, self.span(task.limit_at.map(|l| l - task.term.1)));
        let budget = task.spec.budget.map_or(u64::MAX, |b| b.get());
        let account = task.account.get() as usize;
        if task.charged + task.term.2 + amount <= budget
            && !(amount > 0 && task.is_dear())
            && self.available[account] >= i128::from(amount)
        {
            self.available[account] -= i128::from(amount);
            if let Some(task) = self.tasks.get_mut(&id) {
                task.term.3 = amount;
            }
        }
    }

    /// The running term is over; returns whether the next one is paid for.
    pub(super) fn next_term(&mut self, id: JobId) -> bool {
        self.renew(id);
        let Some(task) = self.tasks.get(&id) else { return true };
        let places = task.places.clone().unwrap_or_default();
        let span = self.span(task.limit_at.map(|l| l - task.term.1));
        if task.term.3 == 0 && self.price(task, &places, span) > 0 {
            return false;
        }
        let ends = task.term.1;
        self.settle(id, ends);
        let Some(task) = self.tasks.get_mut(&id) else { return true };
        let next = std::mem::take(&mut task.term.3);
        (task.term, task.renewed) = ((ends, ends + span, next, 0), false);
        self.book(id);
        true
    }

    /// The length of a term when so much of the limit is left.
    pub(super) fn span(&self, left: Option<u64>) -> u64 {
        left.unwrap_or(u64::MAX).min(self.config.rules.term.0.get())
    }

    /// What a term of a job costs on these nodes; its own are free.
    pub(super) fn price(&self, task: &Task, places: &[(NodeId, u64)], ms: u64) -> u64 {
        if !self.config.rules.atp.enabled {
            return 0;
        }
        let own = |node: NodeId| self.config.nodes[node.get() as usize].owner == task.account;
        let count = places.iter().filter(|(node, _)| !own(*node)).count() as u64;
        let rates = &self.config.rules.atp.rates;
        cost(&task.spec.needs, ms, task.spec.priority, rates).saturating_mul(count)
    }

    /// Books a term's use: the dominant share in the pool times the term, over the weight.
    pub(super) fn book(&mut self, id: JobId) {
        let rules = &self.config.rules;
        if !rules.atp.enabled && rules.scheduling.order != Order::Fair {
            return;
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let nodes = self.config.nodes.iter().filter(|node| node.pool == task.spec.pool);
        let whole = nodes.fold(Bundle::ZERO, |sum, n| sum.zip(&n.capacity, |a, b| a + b)).amounts();
        let part = task.spec.needs.bundle().amounts();
        let mut share = 0;
        for (dimension, weight) in [0, 1, 3].into_iter().zip(rules.fair_share.weights) {
            let amount = u128::from(part[dimension]) * u128::from(task.spec.members);
            let scaled = (amount * u128::from(weight)) << 32;
            share = share.max(scaled.checked_div(u128::from(whole[dimension])).unwrap_or(0));
        }
        let weight = Self::of(
            &self.config.accounts.iter().map(|a| a.weight).collect::<Vec<_>>(),
            task.account,
        );
        // The core keeps use in units of 256.
        let amount = share * u128::from(task.term.1 - task.term.0) / u128::from(weight) / 256 * 256;
        task.booked = amount;
        self.usage[task.account.get() as usize] += amount;
    }

    /// Starts a job, unless its account or its budget cannot pay the first term.
    pub(super) fn start(&mut self, id: JobId, places: Vec<(NodeId, u64)>, now: Time) -> bool {
        let task = self.tasks[&id].clone();
        let span = self.span(task.spec.limit.map(Span::get));
        let amount = self.price(&task, &places, span);
        let budget = task.spec.budget.map_or(u64::MAX, |b| b.get());
        if task.charged.saturating_add(amount) > budget
            || (amount > 0 && (task.is_dear() || self.is_resting(&task, now)))
            || Self::of(&self.available, task.account) < i128::from(amount)
        {
            return false;
        }
        self.available[task.account.get() as usize] -= i128::from(amount);
        self.starts += 1;
        let pool = task.spec.pool.get() as usize;
        for (sum, need) in self.leased[pool].iter_mut().zip(task.spec.needs.bundle().amounts()) {
            *sum += need * u64::from(task.spec.members);
        }
        for (node, devices) in &places {
            self.give(*node, *devices, &task.spec.needs, false);
        }
        if let Some(task) = self.tasks.get_mut(&id) {
            task.places = Some(places);
            task.limit_at = task.spec.limit.map(|limit| now.after(limit).ms());
            task.term = (now.ms(), now.ms() + span, amount, 0);
            (task.order, task.renewed, task.began) = (self.starts, false, now.ms());
            task.setback.1 = 0;
        }
        self.book(id);
        true
    }

    /// Whether a job waits after an attempt in vain before it starts on others' nodes.
    fn is_resting(&self, task: &Task, now: Time) -> bool {
        let (_, until, short) = task.setback;
        now.ms() < until && !(short && self.can_go_on(task))
    }

    /// Whether an account can pay for as long as a job is to wait, or for its whole limit.
    fn can_go_on(&self, task: &Task) -> bool {
        let limit = task.spec.limit.map_or(u64::MAX, Span::get);
        let span = self.span(Some(limit)).max(task.setback.0.min(limit));
        let one = cost(&task.spec.needs, span, task.spec.priority, &self.config.rules.atp.rates);
        let needed = i128::from(one) * i128::from(task.spec.members);
        needed <= Self::of(&self.available, task.account)
    }

    /// Lets a job wait again that was stopped. One that has lost all its work because its next term
    /// was not paid for waits for twice as long, unless credit for so long comes before.
    pub fn requeue_stopped(&mut self, id: JobId, unpaid: bool, now: Time) {
        self.requeue(id, now);
        let Some(mut task) = self.tasks.get(&id).cloned() else { return };
        let worked = now.ms() - task.began;
        let kept = task.spec.checkpoint.map_or(0, |span| match span.get() {
            0 => worked,
            step => worked - worked % step,
        });
        if kept > 0 {
            task.setback = (0, 0, false);
        } else if unpaid {
            let whole = task.spec.limit.is_some_and(|limit| limit.get() <= task.setback.0);
            let span = 2 * task.setback.0.max(worked);
            task.setback = (span, now.ms() + span, false);
            task.setback.2 = !whole && !self.can_go_on(&task);
        }
        self.tasks.insert(id, task);
    }
}
