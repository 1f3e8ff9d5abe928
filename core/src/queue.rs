//! The queue: who goes next.
//!
//! Jobs of one account, shape, priority and highest price stand in one line, first come first
//! served; a job with a budget of its own stands alone, and those that were tried in vain stand
//! in a second line. Lines are ranked by class, then (order `fair`) by their account's decayed
//! dominant use over weight, then by the submission of their first job. Use is booked a term ahead
//! at the grant, which is the entry penalty at admission, and given back for what a lease did not
//! use.

use crate::flat::Few;
use crate::ids::{AccountId, JobId, PoolId, ShapeId, Table};
use crate::jobs::STARVING;
use crate::units::{Ppm, Priority};
use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::iter::successors;
use core::ops::Bound::{Excluded, Unbounded};
use serde::{Deserialize, Serialize};

/// The key of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LineKey {
    /// Its account.
    pub account: AccountId,
    /// Its shape.
    pub shape: ShapeId,
    /// Its priority.
    pub priority: Priority,
    /// The highest price that its jobs pay.
    pub price_max: Option<Ppm>,
    /// The job, if it has a budget of its own (one that is used up must not keep others waiting) or
    /// is ranked by itself.
    pub alone: Option<JobId>,
    /// Whether its jobs were tried in vain ([`crate::jobs::Setback`]): what they wait for keeps
    /// no others waiting. There are too many for a line each.
    pub again: bool,
}

impl LineKey {
    /// Compares in one place: ranks are compared in many, and hardly ever by their lines.
    #[inline(never)]
    fn cmp_all(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }

    /// Returns the key that no other of an account comes before.
    fn least(account: AccountId) -> Self {
        let (shape, priority) = (ShapeId::new(0), Priority::NONE);
        Self { account, shape, priority, price_max: None, alone: None, again: false }
    }
}

/// Where a line stands among all: lower goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rank {
    /// 100 less the class.
    below_top: u8,
    /// The account's use over weight; nothing under `fifo`, when its job is due under
    /// `earliest_due`.
    usage: u128,
    /// The line's first job.
    pub head: JobId,
    /// The line.
    pub line: LineKey,
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |rank: &Self| (rank.below_top, rank.usage, rank.head);
        // A job is the first of one line only.
        place(self).cmp(&place(other)).then_with(|| self.line.cmp_all(&other.line))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Rank {
    /// Returns the class, 0 to 100.
    #[must_use]
    pub fn class(&self) -> u8 {
        100 - self.below_top
    }

    /// Returns whether it was made with another use of its account than this; that of jobs that
    /// starve does not matter.
    #[must_use]
    pub fn is_stale(&self, usage: u128) -> bool {
        self.usage != usage && self.class() != STARVING
    }
}

/// Jobs that wait, of one account, shape and priority. Most lines are of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    pool: PoolId,
    jobs: Few<JobId>,
    rank: Rank,
}

/// What waits in one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct PoolRanks {
    /// The ranks of its lines.
    order: BTreeSet<Rank>,
    /// Those of each shape that has any.
    shapes: BTreeMap<ShapeId, Few<Rank>>,
    /// Waiting jobs of each band.
    waiting: [u64; 4],
}

impl PoolRanks {
    /// Puts in the rank of a line.
    fn enter(&mut self, rank: Rank) {
        self.order.insert(rank);
        match self.shapes.entry(rank.line.shape) {
            Entry::Vacant(place) => {
                place.insert(Few::of(rank));
            }
            Entry::Occupied(mut place) => {
                place.get_mut().insert(rank);
            }
        }
    }

    /// Takes out the rank of a line.
    fn leave(&mut self, rank: &Rank) {
        self.order.remove(rank);
        if let Entry::Occupied(mut place) = self.shapes.entry(rank.line.shape)
            && !place.get_mut().remove(rank)
        {
            place.remove();
        }
    }

    /// Counts a job into or out of its band.
    fn count(&mut self, priority: Priority, enters: bool) {
        if let Some(count) = self.waiting.get_mut(priority.band() as usize) {
            *count = if enters { *count + 1 } else { *count - 1 };
        }
    }
}

/// All lines and their ranks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    lines: BTreeMap<LineKey, Line>,
    /// Their ranks, by pool.
    pools: Table<PoolId, PoolRanks>,
    /// Classes of waiting jobs that have waited long enough to count as more than declared.
    aged: BTreeMap<JobId, u8>,
    /// Urgent lines that count as high: their pool's cap on urgent work is reached.
    demoted: BTreeSet<LineKey>,
}

impl Queue {
    /// Returns the empty queue of so many pools.
    #[must_use]
    pub fn new(pools: usize) -> Self {
        let mut ranks = Table::new();
        for _ in 0..pools {
            ranks.push(PoolRanks::default());
        }
        let (lines, aged, demoted) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { lines, pools: ranks, aged, demoted }
    }

    /// Puts a job into its line.
    ///
    /// # Panics
    /// When the job waits already: our bug.
    pub fn enter(&mut self, job: JobId, key: LineKey, pool: PoolId, usage: u128) {
        self.pools[pool].count(key.priority, true);
        match self.lines.entry(key) {
            Entry::Vacant(place) => {
                let rank = ranked(&self.aged, (key, self.demoted.contains(&key)), job, usage);
                place.insert(Line { pool, jobs: Few::of(job), rank });
                self.pools[pool].enter(rank);
            }
            Entry::Occupied(mut place) => {
                let fresh = place.get_mut().jobs.insert(job);
                assert!(fresh, "job {job} waits once");
                self.rank(key, usage);
            }
        }
    }

    /// Takes a job out of its line.
    ///
    /// # Panics
    /// When the job does not wait there: our bug.
    pub fn leave(&mut self, job: JobId, key: LineKey, pool: PoolId, usage: u128) {
        let Entry::Occupied(mut entry) = self.lines.entry(key) else {
            panic!("job {job} waits in a line")
        };
        let jobs = &mut entry.get_mut().jobs;
        assert!(jobs.contains(&job), "job {job} leaves its line once");
        let others = jobs.remove(&job);
        self.aged.remove(&job);
        self.pools[pool].count(key.priority, false);
        if others {
            return self.rank(key, usage);
        }
        let line = entry.remove();
        self.pools[pool].leave(&line.rank);
        self.demoted.remove(&key);
    }

    /// Lets a job count as of another class than it declared; before it enters, or while it waits.
    /// An urgent one counts so where its line is demoted.
    pub fn age(&mut self, job: JobId, class: u8, key: LineKey, usage: u128) {
        if class > key.priority.class() || class == STARVING {
            self.aged.insert(job, class);
            self.rank(key, usage);
        }
    }

    /// Lets an urgent line count as high, or as urgent again; returns whether that is new.
    pub fn demote(&mut self, key: LineKey, high: bool, usage: u128) -> bool {
        let changes = if high { self.demoted.insert(key) } else { self.demoted.remove(&key) };
        if changes {
            self.rank(key, usage);
        }
        changes
    }

    /// Returns whether a rank is of before its line was demoted.
    #[must_use]
    pub fn is_demoted(&self, rank: &Rank) -> bool {
        rank.below_top == 0 && self.demoted.contains(&rank.line)
    }

    /// Walks the urgent lines of a pool, those that count as high included.
    pub fn urgent_lines(&self, pool: PoolId) -> impl Iterator<Item = LineKey> {
        let here = move |key: &&LineKey| self.lines.get(key).is_some_and(|line| line.pool == pool);
        let high = self.demoted.iter().filter(here).copied();
        let top = self.ranks(pool).take_while(|rank| rank.below_top == 0);
        top.map(|rank| rank.line).chain(high)
    }

    /// Returns whether a job in a pool starves.
    #[must_use]
    pub fn starves(&self, pool: PoolId) -> bool {
        let order = &self.pools[pool].order;
        let first = order.first().filter(|rank| rank.class() >= STARVING);
        first
            .and_then(|_| order.iter().find(|rank| rank.class() <= STARVING))
            .is_some_and(|rank| rank.class() == STARVING)
    }

    /// Ranks all lines of an account anew; returns whether another line is now the first of its
    /// shape.
    pub fn rerank(&mut self, account: AccountId, usage: u128) -> bool {
        let first = self.lines_of(account).next().map(|(_, line)| line.rank);
        if first.is_none_or(|rank| rank.usage == usage && rank.class() != STARVING) {
            return false;
        }
        let keys: Vec<(LineKey, PoolId)> =
            self.lines_of(account).map(|(key, line)| (*key, line.pool)).collect();
        let mut other_first = false;
        for (key, pool) in keys {
            let head = |queue: &Self| queue.next(pool, key.shape, None).map(|rank| rank.head);
            let before = head(self);
            self.rank(key, usage);
            other_first |= head(self) != before;
        }
        other_first
    }

    /// Walks the lines of an account.
    fn lines_of(&self, account: AccountId) -> impl Iterator<Item = (&LineKey, &Line)> {
        let lines = self.lines.range(LineKey::least(account)..);
        lines.take_while(move |(key, _)| key.account == account)
    }

    /// Gives a line its rank by its first job.
    fn rank(&mut self, key: LineKey, usage: u128) {
        let Some(line) = self.lines.get_mut(&key) else { return };
        let rank = ranked(&self.aged, (key, self.demoted.contains(&key)), line.jobs.first(), usage);
        if line.rank == rank {
            return;
        }
        let (pool, old) = (line.pool, core::mem::replace(&mut line.rank, rank));
        let ranks = &mut self.pools[pool];
        ranks.enter(rank);
        ranks.leave(&old);
    }

    /// Walks the shapes of a pool that have a waiting job, in id order.
    pub fn shapes(&self, pool: PoolId) -> impl Iterator<Item = ShapeId> {
        self.pools[pool].shapes.keys().copied()
    }

    /// Walks the shapes of a pool that have a waiting job, in id order, each with the ranks of its
    /// lines, first first.
    pub fn ranks_by_shape(
        &self,
        pool: PoolId,
    ) -> impl Iterator<Item = (ShapeId, impl Iterator<Item = &Rank>)> {
        self.pools[pool].shapes.iter().map(|(shape, ranks)| (*shape, ranks.iter()))
    }

    /// Returns the first line of a shape, of its pool, that comes after `after`.
    #[must_use]
    pub fn next(&self, pool: PoolId, shape: ShapeId, after: Option<Rank>) -> Option<Rank> {
        let ranks = self.pools[pool].shapes.get(&shape)?;
        after.map_or(Some(ranks.first()), |after| ranks.after(after).next())
    }

    /// Returns the first line of a pool that comes after `after`.
    #[must_use]
    pub fn next_of(&self, pool: PoolId, after: Option<Rank>) -> Option<Rank> {
        let order = &self.pools[pool].order;
        let next = |after| order.range((Excluded(after), Unbounded)).next();
        after.map_or_else(|| order.first(), next).copied()
    }

    /// Walks the ranks of a pool, first first.
    pub fn ranks(&self, pool: PoolId) -> impl Iterator<Item = Rank> {
        self.pools[pool].order.iter().copied()
    }

    /// Walks the ranks of a shape, of its pool, first first.
    pub fn ranks_of(&self, pool: PoolId, shape: ShapeId) -> impl Iterator<Item = Rank> {
        self.pools[pool].shapes.get(&shape).into_iter().flat_map(Few::iter).copied()
    }

    /// Walks the ranks of a shape, of its pool, that come after one, first first.
    pub fn ranks_behind(
        &self,
        pool: PoolId,
        shape: ShapeId,
        rank: Rank,
    ) -> impl Iterator<Item = Rank> {
        let ranks = self.pools[pool].shapes.get(&shape);
        ranks.into_iter().flat_map(move |ranks| ranks.after(rank))
    }

    /// Returns where a job of a line would stand if it were the first there.
    #[must_use]
    pub fn rank_of(&self, line: LineKey, job: JobId, usage: u128) -> Rank {
        ranked(&self.aged, (line, self.demoted.contains(&line)), job, usage)
    }

    /// Returns whether a line stands before the place it had when its first job was asked.
    #[must_use]
    pub fn is_before(&self, asked: Rank) -> bool {
        self.lines.get(&asked.line).is_some_and(|line| line.rank < asked)
    }

    /// Walks the jobs of a line that come after one of them, in order.
    pub fn jobs_after(&self, key: LineKey, job: JobId) -> impl Iterator<Item = JobId> {
        self.lines.get(&key).into_iter().flat_map(move |line| line.jobs.after(job))
    }

    /// Walks the jobs of a line in order.
    pub fn jobs(&self, key: LineKey) -> impl Iterator<Item = JobId> {
        self.lines.get(&key).into_iter().flat_map(|line| line.jobs.iter()).copied()
    }

    /// Walks the lines, and how many jobs wait in each.
    pub fn lines(&self) -> impl Iterator<Item = (LineKey, u64)> {
        self.lines.iter().map(|(key, line)| (*key, line.jobs.count() as u64))
    }

    /// Walks the accounts that wait in a pool, each with the first jobs of so many of its lines.
    pub fn firsts(
        &self,
        pool: PoolId,
        most: usize,
    ) -> impl Iterator<Item = (AccountId, impl Iterator<Item = JobId>)> {
        let from = |account: AccountId| {
            self.lines.range(LineKey::least(account)..).next().map(|(key, _)| key.account)
        };
        let next = move |account: &AccountId| {
            account.get().checked_add(1).and_then(|next| from(AccountId::new(next)))
        };
        successors(from(AccountId::new(0)), next).map(move |account| {
            let lines = self.lines_of(account).take(most).map(|(_, line)| line);
            (account, lines.filter(move |line| line.pool == pool).map(|line| line.jobs.first()))
        })
    }

    /// Returns the first job of a line and how many wait there.
    #[must_use]
    pub fn first(&self, key: LineKey) -> (Option<JobId>, u64) {
        let line = self.lines.get(&key);
        line.map_or((None, 0), |line| (Some(line.jobs.first()), line.jobs.count() as u64))
    }

    /// Returns how many jobs wait in a line.
    #[must_use]
    pub fn count(&self, key: LineKey) -> u64 {
        self.lines.get(&key).map_or(0, |line| line.jobs.count() as u64)
    }

    /// Returns whether a job waits in a line.
    #[must_use]
    pub fn contains(&self, key: LineKey, job: JobId) -> bool {
        self.lines.get(&key).is_some_and(|line| line.jobs.contains(&job))
    }

    /// Returns the waiting jobs of a pool per band, lowest first.
    #[must_use]
    pub fn waiting(&self, pool: PoolId) -> [u64; 4] {
        self.pools[pool].waiting
    }
}

/// Returns the rank of a job of a line. Of those that starve the oldest goes first, whoever's.
fn ranked(
    aged: &BTreeMap<JobId, u8>,
    (line, demoted): (LineKey, bool),
    head: JobId,
    usage: u128,
) -> Rank {
    let declared = if demoted { Priority::HIGH } else { line.priority };
    let class = aged.get(&head).map_or(declared.class(), |aged| declared.class().max(*aged));
    let usage = if class == STARVING { 0 } else { usage };
    Rank { below_top: 100 - class, usage, head, line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_rank_by_class_then_use_then_submission() {
        let key = |account, shape, priority| LineKey {
            account: AccountId::new(account),
            shape: ShapeId::new(shape),
            priority,
            price_max: None,
            alone: None,
            again: false,
        };
        let pool = PoolId::new(0);
        let mut q = Queue::new(1);
        q.enter(JobId::new(1), key(0, 0, Priority::LOW), pool, 0);
        q.enter(JobId::new(2), key(1, 0, Priority::MEDIUM), pool, 9);
        q.enter(JobId::new(3), key(2, 0, Priority::MEDIUM), pool, 5);
        q.enter(JobId::new(4), key(3, 0, Priority::MEDIUM), pool, 5);
        let heads: Vec<u64> = q.ranks(pool).map(|r| r.head.get()).collect();
        assert_eq!(heads, [3, 4, 2, 1]);
        let second = q.next_of(pool, q.next_of(pool, None));
        assert_eq!(second.map(|r| r.head), Some(JobId::new(4)));
        q.rerank(AccountId::new(1), 1);
        assert_eq!(q.next(pool, ShapeId::new(0), None).map(|r| r.head), Some(JobId::new(2)));
        assert_eq!(q.waiting(pool), [1, 3, 0, 0]);
    }
}
