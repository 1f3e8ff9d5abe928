//! Who has had how much, who may have how much, who goes next, and what is kept ahead, as people
//! see it.

use super::history::History;
use super::views::{SCHEMA, bundle, millionths, thousandths};
use gridcore::bundle::{Bundle, Dimension};
use gridcore::config::Order;
use gridcore::ids::AccountId;
use gridcore::jobs::JobState;
use gridcore::ledger::Account;
use gridcore::queue::Rank;
use gridcore::share::{ONE, due, factor};
use gridcore::state::State;
use gridcore::tariff::dominant;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Returns a part of one in the core's fixed point.
fn part(amount: u128, whole: u128) -> u64 {
    let shift = (128 - amount.leading_zeros()).saturating_sub(95);
    let scaled = ((amount >> shift) << 32).checked_div(whole >> shift);
    u64::try_from(scaled.unwrap_or(0)).unwrap_or(ONE)
}

/// Returns a part of one as a decimal, rounded.
fn decimal(part: u64) -> Value {
    let one = i128::from(ONE);
    millionths((i128::from(part) * 1_000_000 + one / 2) / one)
}

/// Returns each account's share of the weights and its part of all decayed use, in fixed point.
fn shares(state: &State) -> (Vec<u64>, Vec<u64>) {
    let (now, half_life) = (state.now, state.rules.fair_share.half_life);
    let accounts = || state.ledger.accounts.iter().map(|(_, account)| account);
    let weight = |account: &Account| u128::from(account.spec.weight);
    // What is kept is over weight already.
    let had = |account: &Account| {
        state.inflation.decayed(account.usage, now, half_life) * weight(account)
    };
    let (weights, uses) = (accounts().map(weight).sum(), accounts().map(had).sum());
    let of = |amount: &dyn Fn(&Account) -> u128, whole: u128| -> Vec<u64> {
        accounts().map(|account| part(amount(account), whole)).collect()
    };
    (of(&weight, weights), of(&had, uses))
}

/// Returns how many jobs of each account run, and how many wait.
fn jobs(state: &State) -> BTreeMap<AccountId, [usize; 2]> {
    let mut counts: BTreeMap<AccountId, [usize; 2]> = BTreeMap::new();
    for job in state.jobs.values() {
        let [running, waiting] = counts.entry(job.account).or_default();
        *(if matches!(job.state, JobState::Running(_)) { running } else { waiting }) += 1;
    }
    counts
}

/// Returns every account's share, what it has had of it and what it holds now. No money is told.
#[must_use]
pub fn accounts(state: &State) -> Value {
    let (weights, had) = shares(state);
    let (next, jobs) = (due(&weights, &had, ONE), jobs(state));
    let rows = state.ledger.accounts.iter().zip(weights.iter().zip(&had).zip(next));
    let rows = rows.map(|((id, account), ((share, had), next))| {
        let [running, waiting] = jobs.get(&id).copied().unwrap_or_default();
        json!({
            "account": account.spec.name,
            "weight": account.spec.weight,
            "share": decimal(*share),
            "used": decimal(*had),
            "factor": decimal(factor(*had, *share)),
            "due": decimal(next),
            "holds": decimal(dominant(&account.using, &state.capacity, [1; 3])),
            "running": running,
            "waiting": waiting,
            "credits": state.karma.credits(id).map(|credits| millionths(credits * 1_000)),
        })
    });
    json!({ "schema": SCHEMA, "accounts": rows.collect::<Vec<Value>>() })
}

/// Returns amounts as people write them, without those that are not limited.
fn limits(quota: &Bundle) -> Value {
    let mut amounts = bundle(quota);
    let named = [
        ("cpu_cores", quota.cpu.get()),
        ("memory_gb", quota.memory.get()),
        ("gpus", quota.gpu.get()),
    ];
    if let Some(keys) = amounts.as_object_mut() {
        for (name, _) in named.into_iter().filter(|(_, amount)| *amount == u64::MAX) {
            keys.remove(name);
        }
    }
    amounts
}

/// Returns what every account has by right, what it holds, and what of that is on loan.
#[must_use]
pub fn quotas(state: &State) -> Value {
    let rows = state.ledger.accounts.iter().map(|(_, account)| {
        let quota = account.spec.quota;
        let above = account.using.saturating_sub(&quota.unwrap_or(Bundle::ZERO));
        let lent = Dimension::all().any(|dimension| above.amount(dimension) > 0);
        json!({
            "account": account.spec.name,
            "quota": quota.as_ref().map(limits),
            "holds": bundle(&account.using),
            "on_loan": lent.then(|| bundle(&above)),
        })
    });
    let recalls = state.ledger.guarantees && state.rules.preemption.enabled;
    json!({ "schema": SCHEMA, "recalls": recalls, "accounts": rows.collect::<Vec<Value>>() })
}

/// Returns who waits, first first, and what makes it so.
#[must_use]
pub fn priorities(state: &State, history: &History, most: usize) -> Value {
    let (shares, had) = shares(state);
    let fair = state.rules.scheduling.order == Order::Fair;
    let line = |rank: Rank| {
        let usage = state.rank_usage(&rank.line);
        state.queue.jobs(rank.line).map(move |job| state.queue.rank_of(rank.line, job, usage))
    };
    let rows = state.pools.iter().flat_map(|(pool, row)| {
        let mut order: Vec<Rank> = state.queue.ranks(pool).flat_map(line).collect();
        if most < order.len() {
            order.select_nth_unstable(most);
            order.truncate(most);
        }
        order.sort_unstable();
        let rows = order.into_iter().zip(1..);
        rows.map(|(rank, place)| {
            let job = state.job(rank.head);
            let account = usize::try_from(job.account.get()).unwrap_or(usize::MAX);
            let of = |values: &[u64]| values.get(account).copied().unwrap_or(0);
            json!({
                "job": job.id.get(),
                "name": history.get(job.id).map(|memory| memory.name.clone()),
                "account": state.ledger.accounts[job.account].spec.name,
                "pool": row.spec.name,
                "place": place,
                "priority": job.priority.get(),
                "class": rank.class(),
                "waited_s": thousandths(job.waited(state.now).get()),
                "factor": fair.then(|| decimal(factor(of(&had), of(&shares)))),
            })
        })
        .collect::<Vec<Value>>()
    });
    json!({ "schema": SCHEMA, "jobs": rows.collect::<Vec<Value>>() })
}

/// Returns what is kept ahead, in the order of the promises.
#[must_use]
pub fn reservations(state: &State, history: &History) -> Value {
    let rows = state.pools.iter().flat_map(|(pool, row)| {
        state.reserved(pool).map(move |(id, ahead)| {
            let job = state.job(id);
            let shape = &state.shapes[job.shape];
            let nodes = ahead.places.iter().map(|(node, _)| &state.nodes[*node].spec.name);
            json!({
                "job": id.get(),
                "name": history.name(id),
                "account": state.ledger.accounts[job.account].spec.name,
                "pool": row.spec.name,
                "begins_in_s": thousandths(ahead.begin.since(state.now).get()),
                "limit_s": job.limit.map(|limit| thousandths(limit.get())),
                "nodes": nodes.collect::<Vec<&String>>(),
                "members": shape.members,
                "needs": bundle(&shape.needs.bundle()),
            })
        })
    });
    json!({ "schema": SCHEMA, "reservations": rows.collect::<Vec<Value>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_large_and_small_amounts_are_parts() {
        assert_eq!(part(0, 0), 0);
        assert_eq!(part(1, 4), ONE / 4);
        let large = 1_u128 << 120;
        assert!(part(large, large * 3).abs_diff(ONE / 3) <= 1);
        assert_eq!(decimal(ONE / 4), json!(0.25));
        assert_eq!(decimal(part(1, 5)), json!(0.2));
    }
}
