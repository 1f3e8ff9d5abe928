//! Caps against exhaustion: what no account may have more of, however much it can pay (CREDITS.md
//! "Caps against exhaustion"). Questions only.
//!
//! Each account's reputation scales its own, from a half of what is configured to one and a half.
//! They hold where money does: without it there is nothing to buy a pool with. What an account runs
//! on its own nodes counts for nothing here. The cap on a part of a pool binds only while it keeps
//! somebody else waiting: idle capacity is anybody's.

use crate::bundle::{Bundle, Dimension};
use crate::charges;
use crate::confidence::suffices;
use crate::deny::first_short;
use crate::ids::{AccountId, JobId, NodeId, PoolId};
use crate::jobs::Job;
use crate::leases::LeaseState;
use crate::placement::{bears, suits};
use crate::shapes::Shape;
use crate::state::State;
use crate::wire::Task;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;

/// The part of a pool is capped only where so many accounts run or wait in it.
const ACTIVE_MIN: usize = 3;
/// So many of an account's lines are looked at for one that waits for nothing but room.
const LINES_MAX: usize = 64;

/// Returns how many open requests an account may have, where one more for a task is too many. The
/// jobs of an array share a program: they are one request.
#[must_use]
pub fn over_requests(state: &State, account: AccountId, task: Task) -> Option<u32> {
    let most = state.rules.caps.open_requests.filter(|_| state.rules.atp.enabled)?;
    let most = state.account(account).standing.scale(most);
    let more = !state.requests.contains_key(&(account, task.program)) || task.program == 0;
    (more && state.account(account).requests >= most).then_some(most)
}

/// Returns how many leases an account holds on others' nodes and how many it may, where one more is
/// too many.
#[must_use]
pub fn over_leases(state: &State, account: AccountId) -> Option<(u32, u32)> {
    let most = state.rules.caps.leases.filter(|_| state.rules.atp.enabled)?;
    let most = state.account(account).standing.scale(most);
    let coming = coming(state, account).count();
    let coming = u32::try_from(coming).unwrap_or(u32::MAX);
    let held = state.account(account).leases.saturating_add(coming);
    (held >= most).then_some((held, most))
}

/// Returns the dimension in which a job's account would have more than its part of a pool with so
/// many more members on others' nodes, with what it would have and the most; `None` where that
/// keeps nobody waiting. It may always have one lease.
#[must_use]
pub fn over_share(
    state: &State,
    job: &Job,
    shape: &Shape,
    members: u64,
) -> Option<(Dimension, u64, u64)> {
    let excess = excess(state, job.account, shape, members)?;
    is_contended(state, shape.pool, job.account).then_some(excess)
}

/// Walks the jobs of an account for which others are making way: what they ask for, and how many of
/// their members will be on others' nodes.
fn coming(state: &State, account: AccountId) -> impl Iterator<Item = (&Shape, u64)> {
    state.claims.iter().filter_map(move |(id, claim)| {
        let job = state.job(*id);
        let foreign = charges::foreign(state, account, &claim.members);
        // What moves holds its old place until it has the new one.
        let comes = job.account == account && !job.state.is_running() && foreign > 0;
        comes.then(|| (&state.shapes[job.shape], foreign))
    })
}

/// As [`over_share`], whoever waits.
fn excess(
    state: &State,
    account: AccountId,
    shape: &Shape,
    members: u64,
) -> Option<(Dimension, u64, u64)> {
    let share = state.rules.caps.pool_share.filter(|_| state.rules.caps_shares())?;
    let share = state.account(account).standing.scale_part(share);
    let pool = &state.pools[shape.pool];
    let mut held = pool.borrowed.get(&account).copied().unwrap_or(Bundle::ZERO);
    for (shape, members) in coming(state, account).filter(|(other, _)| other.pool == shape.pool) {
        held.add(&shape.needs.bundle().times(members));
    }
    if held.is_zero() || members == 0 {
        return None;
    }
    let more = shape.needs.bundle().times(members);
    let most = pool.offered.zip(&Bundle::ZERO, |offered, _| share.of_floor(offered));
    // Only what it asks more of.
    let with = held.zip(&more, |held, more| if more > 0 { held.saturating_add(more) } else { 0 });
    first_short(&with, &most)
}

/// Returns whether another account waits in a pool for nothing but room, within its own part, and
/// enough accounts run or wait there for a part to mean anything.
fn is_contended(state: &State, pool: PoolId, account: AccountId) -> bool {
    let runs = state.pools[pool].borrowed.keys().copied();
    let mut active: BTreeSet<AccountId> = runs.chain([account]).take(ACTIVE_MIN).collect();
    let mut rival = false;
    for (other, mut heads) in state.queue.firsts(pool, LINES_MAX) {
        if active.len() >= ACTIVE_MIN && rival {
            break;
        }
        let Some(first) = heads.next() else { continue };
        active.insert(other);
        let mut waits = || {
            let mut heads = core::iter::once(first).chain(heads.by_ref());
            over_leases(state, other).is_none() && heads.any(|id| lacks_room(state, id))
        };
        rival = rival || (other != account && waits());
    }
    active.len() >= ACTIVE_MIN && rival
}

/// Returns whether a waiting job lacks nothing but room, or its turn, on others' nodes.
fn lacks_room(state: &State, id: JobId) -> bool {
    let job = state.job(id);
    let shape = &state.shapes[job.shape];
    let nodes = &state.pools[shape.pool].nodes;
    !charges::is_refused(state, job, shape)
        && excess(state, job.account, shape, shape.members.into()).is_none()
        && nodes.iter().any(|node| lets(state, id, *node))
}

/// Returns whether a node that is not its own account's would run a job, were there room for it.
#[must_use]
pub fn lets(state: &State, id: JobId, node: NodeId) -> bool {
    let job = state.job(id);
    let (shape, row) = (&state.shapes[job.shape], &state.nodes[node]);
    // Where it fits, it may still be too unsure to stay.
    let fits = || row.fits(&shape.needs, &shape.needs.bundle());
    row.spec.owner != job.account
        && row.takes_work(state.now)
        && suits(state, shape, node)
        && bears(state, shape, node)
        && (!fits() || suffices(state, node, (shape, job), 1))
}

/// Returns what is counted otherwise than it is, in words: what accounts hold on others' nodes, how
/// many leases and open requests they have, what pools offer.
#[must_use]
pub fn miscounted(state: &State) -> Option<String> {
    let mut borrowed: BTreeMap<(PoolId, AccountId), Bundle> = BTreeMap::new();
    let mut leases: BTreeMap<AccountId, u32> = BTreeMap::new();
    for lease in state.leases.values().filter(|lease| lease.state != LeaseState::Released) {
        let foreign = |m: &&crate::leases::Member| state.nodes[m.node].spec.owner != lease.account;
        let pool = state.shapes[lease.shape].pool;
        let held = lease.members.iter().filter(foreign).filter(|m| !lease.has_left(m.node));
        for _ in held {
            let row = borrowed.entry((pool, lease.account)).or_insert(Bundle::ZERO);
            row.add(&lease.needs.bundle());
        }
        let counts = lease.members.iter().any(|m| foreign(&m));
        *leases.entry(lease.account).or_default() += u32::from(counts);
    }
    let mut requests: BTreeMap<AccountId, u32> = BTreeMap::new();
    let mut arrays: BTreeMap<(AccountId, u64), u32> = BTreeMap::new();
    for job in state.jobs.values() {
        let jobs = arrays.entry((job.account, job.task.program)).or_default();
        *jobs += 1;
        let first = *jobs == 1 || job.task.program == 0;
        *requests.entry(job.account).or_default() += u32::from(first);
    }
    arrays.retain(|(_, program), _| *program > 0);
    let pools = state.pools.iter().flat_map(|(id, pool)| {
        pool.borrowed.iter().map(move |(account, held)| ((id, *account), *held))
    });
    let of = |counts: &BTreeMap<AccountId, u32>, id| counts.get(&id).copied().unwrap_or(0);
    let mut rows = state.ledger.accounts.iter();
    let wrong =
        rows.find(|(id, row)| (row.leases, row.requests) != (of(&leases, *id), of(&requests, *id)));
    let offers = |nodes: &[NodeId]| {
        let mut sum = Bundle::ZERO;
        nodes.iter().for_each(|id| sum.add(state.nodes[*id].offered()));
        sum
    };
    let offered = state.pools.iter().find(|(_, pool)| pool.offered != offers(&pool.nodes));
    if let Some((id, row)) = wrong {
        Some(format!("{id}: {} leases and {} requests are counted", row.leases, row.requests))
    } else if let Some((id, pool)) = offered {
        Some(format!("{id}: {:?} is counted as offered", pool.offered))
    } else if pools.collect::<BTreeMap<_, _>>() != borrowed || arrays != state.requests {
        Some(format!("{borrowed:?} is borrowed, {arrays:?} are arrays"))
    } else {
        None
    }
}

/// Returns whether a cap keeps a job's account from so many more members on others' nodes.
#[must_use]
pub fn is_capped(state: &State, job: &Job, shape: &Shape, members: u64) -> bool {
    members > 0
        && (over_leases(state, job.account).is_some()
            || over_share(state, job, shape, members).is_some())
}

/// Returns whether an account has all that a cap leaves it, whoever waits: one of the others may
/// have gone before it in this very entry, and wait no more.
#[must_use]
pub fn is_at_its_cap(state: &State, job: &Job, shape: &Shape) -> bool {
    over_leases(state, job.account).is_some()
        || excess(state, job.account, shape, shape.members.into()).is_some()
}

/// Returns whether its pool's quota, its account, its own budget or a cap keeps a job from starting
/// on others' nodes, however much is free.
#[must_use]
pub fn is_refused(state: &State, job: &Job, shape: &Shape) -> bool {
    charges::is_refused(state, job, shape) || is_capped(state, job, shape, shape.members.into())
}
