//! What must always hold for credit: invariants 1 to 8 and 32.

use super::Breaches;
use crate::bundle::Bundle;
use crate::ids::{AccountId, LeaseId};
use crate::leases::{Lease, LeaseState, Member};
use crate::ledger::Account;
use crate::meter::RING;
use crate::state::State;
use crate::units::Priority;
use alloc::collections::BTreeSet;
use alloc::format;

/// Invariants 1, 2, 3, 4 and 7, and what accounts use of 32.
pub(super) fn check(state: &State, out: &mut Breaches) {
    let ledger = &state.ledger;
    let signed = |amount: u128| i128::try_from(amount).unwrap_or(i128::MAX);
    let mut sum = ledger.mint + i128::from(ledger.treasury.get()) + signed(ledger.burned);
    let mut burned = 0;
    for (id, account) in ledger.accounts.iter() {
        sum += i128::from(account.available.get()) + i128::from(account.held.get());
        burned += account.decayed;
        let holds = ledger.holds.values().filter(|hold| hold.account == id);
        let held: u64 = holds.map(|hold| hold.amount.get()).sum();
        out.need(3, held == account.held.get(), || {
            format!("{id}: {held} in open holds, {} held", account.held)
        });
        let has = u128::from(account.balance().get());
        out.need(7, account.of_totals() == Some(has), || {
            format!("{id}: its totals come to {:?}, it has {has}", account.of_totals())
        });
        check_use(state, id, out);
        out.need(14, account.standing.is_sound(), || format!("{id}: {:?}", account.standing));
    }
    let miscounted = crate::caps::miscounted(state);
    out.need(32, miscounted.is_none(), || miscounted.clone().unwrap_or_default());
    out.need(1, sum == 0, || format!("all balances add up to {sum}"));
    out.need(7, burned == ledger.burned, || {
        format!("{burned} decayed of accounts, {} was burned", ledger.burned)
    });
    out.need(48, ledger.fees.is_bounded(), || format!("the fees of too long: {:?}", ledger.fees));
    state.leases.values().for_each(|lease| check_meter(lease, out));
    state.leases.values().for_each(|lease| check_unpaid(state, lease, out));
    let leases = state.leases.values();
    let used = leases.flat_map(|l| [l.hold, l.next_hold, l.cover]).flatten();
    let promised = state.claims.values().filter_map(|claim| claim.promise.as_ref()?.hold);
    let used: BTreeSet<_> = used.chain(promised).collect();
    let open: BTreeSet<_> = ledger.holds.keys().collect();
    out.need(4, used == open, || {
        format!("holds {open:?} are open, leases and claims name {used:?}")
    });
}

/// Invariants 4 and 48: what a lease was charged term by term is what was settled for it, and the
/// terms kept are few.
fn check_meter(lease: &Lease, out: &mut Breaches) {
    let Some(meter) = &lease.meter else {
        out.need(4, lease.settled.is_zero(), || {
            format!("{}: {} unmetered", lease.id, lease.settled)
        });
        return;
    };
    let kept = meter.records().len();
    out.need(48, kept <= RING, || format!("{}: {kept} metering records", lease.id));
    let (paid, settled) = (meter.totals().paid(), u128::from(lease.settled.get()));
    out.need(4, meter.is_sound() && paid == settled, || {
        format!("{}: {settled} settled, its meter tells {:?}", lease.id, meter.totals())
    });
}

/// Invariant 4, too: what runs unpaid holds no credit, counts as the lowest of all, has no more
/// than it needs, and runs only where the lenders allow it.
fn check_unpaid(state: &State, lease: &Lease, out: &mut Breaches) {
    let lends = |member: &Member| {
        let spec = &state.nodes[member.node].spec;
        spec.lend_unpaid && spec.owner != lease.account
    };
    let lowest = lease.priority == Priority::NONE && lease.extra.cpu.is_zero();
    let sound = lease.hold.is_none() && lowest && lease.members.iter().all(lends);
    out.need(4, !lease.unpaid || sound, || format!("{} runs unpaid: {lease:?}", lease.id));
}

/// Returns what the meters of some leases tell was paid.
fn metered(state: &State, of: impl Fn(LeaseId) -> bool) -> u128 {
    let leases = state.leases.iter().filter(|(id, _)| of(*id));
    leases.filter_map(|(_, lease)| lease.meter.as_ref()).map(|meter| meter.totals().paid()).sum()
}

/// What is counted of an account's leases is what they hold.
fn check_use(state: &State, id: AccountId, out: &mut Breaches) {
    let counted = &state.account(id).using;
    let mut using = Bundle::ZERO;
    let leases = state.leases.values();
    for lease in leases.filter(|l| l.account == id && l.state != LeaseState::Released) {
        for _ in lease.members.iter().filter(|m| !lease.has_left(m.node)) {
            using.add(&lease.needs.bundle());
        }
    }
    out.need(32, using == *counted, || {
        format!("{id}: its leases hold {using:?}, {counted:?} counted")
    });
}

/// Invariants 5 and 8.
pub(super) fn check_step(before: &State, after: &State, out: &mut Breaches) {
    for id in after.ledger.accounts.ids() {
        let (old, new) = (before.account(id), after.account(id));
        let grows = new.earned >= old.earned
            && new.spent >= old.spent
            && new.granted >= old.granted
            && new.deposited >= old.deposited
            && new.refunded >= old.refunded
            && new.decayed >= old.decayed;
        out.need(5, grows, || format!("{id}: a lifetime total falls"));
        check_decay(before, after, id, out);
    }
    let settled = after.ledger.settled - before.ledger.settled;
    let stays = |id: LeaseId| after.leases.get(&id).is_some();
    let noted = metered(after, |_| true).saturating_sub(metered(before, stays));
    let all_stay = before.leases.keys().all(stays);
    out.need(5, noted == settled || noted < settled && !all_stay, || {
        format!("{settled} settled, meters note {noted}")
    });
    let reserved: u128 = before.ledger.holds.values().map(|h| u128::from(h.amount.get())).sum();
    let fresh = after.ledger.reserved - before.ledger.reserved;
    out.need(5, settled <= reserved + fresh, || format!("{settled} settled, {reserved} was held"));
    for (id, hold) in before.ledger.holds.iter() {
        let same = after.ledger.holds.get(&id).is_none_or(|new| new == hold);
        out.need(8, same, || format!("hold {id} is another while it is open"));
    }
    out.need(1, after.ledger.burned >= before.ledger.burned, || "what was burned is back".into());
}

/// Invariant 8: what decays leaves an account its daily grant, and what is above its cap leaves it
/// that. The rules in force were those before the entry: what is due comes first.
fn check_decay(before: &State, after: &State, id: AccountId, out: &mut Breaches) {
    let (old, new) = (before.account(id), after.account(id));
    let decayed = new.decayed.saturating_sub(old.decayed);
    if decayed == 0 {
        return;
    }
    let came = |row: &Account| row.deposited + row.granted + row.earned + row.refunded;
    let most = u128::from(old.balance().get()) + came(new).saturating_sub(came(old));
    let floor = before.epochs.days(&before.rules.atp).day(old.spec.weight);
    let kept = decayed.saturating_add(floor.get().into()) <= most;
    out.need(8, kept, || format!("{id}: {decayed} of {most} decay, its floor is {floor}"));
    let open = before.epochs.are_open(&before.rules.atp);
    out.need(8, open, || format!("{id}: {decayed} decay although nothing is granted"));
}
