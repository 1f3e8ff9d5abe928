//! The placement index: for every shape, the nodes it fits now, best first.
//!
//! A decision takes the first of a set instead of walking nodes. The sets are brought up to date
//! lazily: each shape remembers how far it has read the log of changed nodes, and scores only
//! those. The index is derived from the state, is no part of it, and must not be able to change a
//! decision: its content after any history equals that of an index built from the state alone.

use crate::bundle::Bundle;
use crate::canary::{Canary, ambient, planted};
use crate::confidence::UNLIMITED;
use crate::endings::{End, First, Soonest, earliest};
use crate::ids::{AccountId, Dense, NodeId, ShapeId, Table};
use crate::jobs::Job;
use crate::placement::{Scorer, suits};
use crate::queue::Rank;
use crate::shadow::Shadow;
use crate::shapes::Shape;
use crate::state::State;
use crate::units::{Span, Time};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cmp::Reverse;

/// A node's place among the candidates of a shape: score, then its rank among equals.
type Place = (Reverse<i64>, u32);

/// The mark of a node that a shape does not fit now.
const NONE: i64 = i64::MIN;

/// The index of all shapes.
#[derive(Clone, Debug)]
pub struct Index {
    scorer: Scorer,
    /// The candidates of each shape, by its place, once somebody has asked.
    shapes: Vec<Option<Candidates>>,
    /// Which nodes changed: each with the number of its change, or of the last of several in a row.
    log: Vec<(NodeId, u64)>,
    /// The number of the last change.
    noted: u64,
    /// The number of the last change that was dropped from the front of the log.
    dropped: u64,
    /// Nodes in the order of equals: priority, permutation, id.
    by_rank: Vec<NodeId>,
    /// The place of each node in it.
    ranks: Table<NodeId, u32>,
    /// The nodes of each account that owns any.
    owned: BTreeMap<AccountId, Vec<NodeId>>,
    /// The places that are kept in the pass under way; between passes it means something only where
    /// [`Changed::stands`](crate::changed::Changed::stands) says so. `None` while a pass has it.
    pub shadow: Option<Box<Shadow>>,
    /// Whether a cap kept somebody waiting in the pool that is being passed, because of others who
    /// may have started since.
    pub capped: bool,
    /// The shortest limit of each shape with which a job fits somewhere in the pool that is being
    /// passed, but nowhere with enough confidence: neither does one with a longer limit.
    pub doubted: BTreeMap<ShapeId, Span>,
    /// What a pass keeps the jobs in that it may ask behind those that have a place.
    pub fronts: Vec<Front>,
    /// What [`earliest`] keeps the ends of a node's leases in.
    ends: Vec<(Time, End)>,
}

/// A job that may be asked, the first first: within a class by its limit or area, where the order
/// of backfill says so.
pub type Front = Reverse<(u8, u128, Rank)>;

/// Which of the nodes that a shape fits may be taken.
#[derive(Clone, Copy)]
pub struct Choice<'a> {
    /// None of these.
    pub outside: &'a BTreeSet<NodeId>,
    /// Under the strategy `random`, what picks.
    pub draw: u64,
    /// Only those in which there is enough confidence; `None` takes any.
    pub trusts: Option<&'a dyn Fn(NodeId) -> bool>,
}

impl Choice<'_> {
    /// Returns whether a node may be taken.
    fn takes(&self, node: NodeId) -> bool {
        !self.outside.contains(&node) && self.trusts.is_none_or(|trusts| trusts(node))
    }
}

/// The nodes one shape fits.
#[derive(Clone, Debug)]
struct Candidates {
    /// What each member needs.
    bundle: Bundle,
    /// Nodes whose hardware, labels and pool suit the shape.
    suitable: Vec<bool>,
    /// The change up to which the log has been read.
    read: u64,
    /// Whether it matters to it what runs on its node.
    choosy: bool,
    /// Which tags that it must be near the shape may begin: see [`Shape::begins`].
    begins: u64,
    /// The score of each node, or [`NONE`].
    scores: Table<NodeId, i64>,
    order: BTreeSet<Place>,
    /// Under the strategy `random`: the candidates by rank, one bit each.
    bits: Vec<u64>,
    /// How many nodes it fits.
    count: usize,
    /// When the shape fits on each node, once somebody has asked.
    soonest: Option<Starts>,
}

/// When a shape fits on nodes where it does not fit now: the time and how many leases without a
/// known end are in the way.
#[derive(Clone, Debug)]
struct Starts {
    /// The change up to which the log has been read.
    read: u64,
    /// As of [`Candidates`].
    begins: u64,
    times: Table<NodeId, Option<(Time, u32)>>,
    order: BTreeSet<(Time, u32, u32)>,
    /// What is leased then on the node that was looked at last.
    last: Option<(NodeId, Bundle)>,
}

impl Index {
    /// Builds an empty index for a state.
    #[must_use]
    pub fn new(state: &State) -> Self {
        let mut by_rank: Vec<NodeId> = state.nodes.ids().collect();
        by_rank.sort_by_key(|node| (state.tie(*node), *node));
        let mut places: Vec<(NodeId, u32)> = by_rank.iter().copied().zip(0..).collect();
        places.sort_unstable();
        let mut ranks = Table::new();
        for (_, rank) in places {
            ranks.push(rank);
        }
        let mut owned: BTreeMap<AccountId, Vec<NodeId>> = BTreeMap::new();
        for (id, node) in state.nodes.iter() {
            owned.entry(node.spec.owner).or_default().push(id);
        }
        Self {
            scorer: Scorer::new(state),
            shapes: Vec::new(),
            log: Vec::new(),
            noted: 0,
            dropped: 0,
            by_rank,
            ranks,
            owned,
            shadow: None,
            capped: false,
            doubted: BTreeMap::new(),
            fronts: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Returns how nodes are scored.
    #[must_use]
    pub fn scorer(&self) -> &Scorer {
        &self.scorer
    }

    /// Forgets a shape whose place now holds another.
    pub fn forget(&mut self, shape: ShapeId) {
        if let Some(candidates) = self.shapes.get_mut(shape.index()) {
            *candidates = None;
        }
    }

    /// Returns the candidates of a shape, if somebody has asked for them.
    fn of(&self, shape: ShapeId) -> Option<&Candidates> {
        self.shapes.get(shape.index())?.as_ref()
    }

    /// Reads which nodes changed since the last time.
    pub fn read_changes(&mut self, state: &mut State) {
        if !state.changed.is_noted() {
            return;
        }
        for node in state.changed.drain() {
            self.noted += 1;
            match self.log.last_mut() {
                // Only what a node is now matters: on one machine there is one entry.
                Some((last, change)) if *last == node => *change = self.noted,
                Some(_) | None => self.log.push((node, self.noted)),
            }
        }
        let room = 4 * state.nodes.len() + 1_024;
        if self.log.len() > room {
            let half = self.log.len() / 2;
            self.dropped = self.log.drain(..half).next_back().map_or(0, |(_, change)| change);
        }
    }

    /// Brings one shape up to date and returns how many nodes it fits.
    #[inline]
    pub fn refresh(&mut self, state: &State, id: ShapeId) -> usize {
        match self.of(id) {
            Some(known) if known.read == self.noted && !known.choosy => known.len(),
            Some(_) | None => self.read_on(state, id),
        }
    }

    /// Reads the log to its end for one shape; returns how many nodes that fits.
    fn read_on(&mut self, state: &State, id: ShapeId) -> usize {
        let shape = &state.shapes[id];
        let Self { scorer, shapes, log, noted, dropped, ranks, .. } = self;
        let Some(Some(candidates)) = shapes.get_mut(id.index()) else {
            return self.enter(state, id);
        };
        // The first of its kind in the pool, or the last that left it, matters on every node.
        let tags = &state.pools[shape.pool].tags;
        let begins = if candidates.choosy { shape.begins(tags) } else { 0 };
        let other = core::mem::replace(&mut candidates.begins, begins) != begins;
        if other || candidates.read < *dropped {
            candidates.score_all(state, scorer, shape, ranks);
        } else {
            for node in unread(log, candidates.read) {
                candidates.score(state, scorer, shape, node, ranks[node]);
            }
        }
        candidates.read = *noted;
        candidates.len()
    }

    /// Scores every node for a shape that nobody has asked for; returns how many it fits.
    #[cold]
    fn enter(&mut self, state: &State, id: ShapeId) -> usize {
        let shape = &state.shapes[id];
        let mut new = Candidates::new(state, shape, self.scorer.is_random());
        new.begins = shape.begins(&state.pools[shape.pool].tags);
        new.score_all(state, &self.scorer, shape, &self.ranks);
        new.read = self.noted;
        let fits = new.len();
        if self.shapes.len() <= id.index() {
            self.shapes.resize_with(id.index() + 1, || None);
        }
        if let Some(place) = self.shapes.get_mut(id.index()) {
            *place = Some(new);
        }
        fits
    }

    /// Returns whether it is known in this pass that there is too little confidence for a job.
    #[must_use]
    pub fn is_doubted(&self, job: &Job) -> bool {
        let least = self.doubted.get(&job.shape);
        least.is_some_and(|least| *least <= job.limit.unwrap_or(UNLIMITED))
    }

    /// Returns when one member of a shape can start soonest, and where, if nothing else starts
    /// before; `None` when it never can as things are.
    pub fn soonest(&mut self, state: &State, id: ShapeId) -> Option<Soonest> {
        self.refresh(state, id);
        let Self { shapes, log, noted, dropped, ranks, by_rank, ends, .. } = self;
        let Candidates { suitable, soonest, begins, .. } = shapes.get_mut(id.index())?.as_mut()?;
        let shape = &state.shapes[id];
        let mut found = |node: NodeId| {
            let suits = suitable.get(node.index()).copied().unwrap_or(false);
            if suits { earliest(state, shape, node, ends) } else { None }
        };
        let stale = |soonest: &Starts| soonest.read < *dropped || soonest.begins != *begins;
        let all = soonest.as_ref().is_none_or(stale);
        let soonest = soonest.get_or_insert_with(|| Starts::new(ranks));
        if all {
            ranks.iter().for_each(|(node, rank)| soonest.set(node, *rank, found(node)));
        } else {
            for node in unread(log, soonest.read) {
                soonest.set(node, ranks[node], found(node));
            }
        }
        (soonest.read, soonest.begins) = (*noted, *begins);
        let (at, _, rank) = soonest.order.first()?;
        let node = *by_rank.get(*rank as usize)?;
        let leased = soonest.last.filter(|(last, _)| *last == node).map(|(_, leased)| leased);
        Some((*at, node, leased))
    }

    /// Returns how many nodes a shape fits now; it must be up to date.
    #[must_use]
    pub fn len(&self, id: ShapeId) -> usize {
        self.of(id).map_or(0, Candidates::len)
    }

    /// Returns whether a shape, which must be up to date, fits on a node now.
    #[must_use]
    pub fn fits(&self, id: ShapeId, node: NodeId) -> bool {
        self.of(id).is_some_and(|found| found.scores[node] != NONE)
    }

    /// Returns the best node for one more member of a shape; the shape must be up to date.
    #[must_use]
    pub fn best(&self, id: ShapeId, choice: Choice<'_>) -> Option<NodeId> {
        let candidates = self.of(id)?;
        if self.scorer.is_random() {
            return self.drawn(candidates, choice);
        }
        let node = |place: &Place| self.by_rank.get(place.1 as usize).copied();
        let takes = |node: &NodeId| choice.takes(*node);
        let mut free = candidates.order.iter().filter_map(node).filter(takes);
        if planted(Canary::AmbientTie) && ambient().is_multiple_of(2) {
            return free.next_back();
        }
        free.next()
    }

    /// Returns one of the nodes that may be taken, as the draw says.
    fn drawn(&self, candidates: &Candidates, choice: Choice<'_>) -> Option<NodeId> {
        let draw = choice.draw;
        let takes = |node: &NodeId| choice.takes(*node);
        let free = candidates.ranks().map(|rank| self.by_rank.get(rank).copied());
        if choice.outside.is_empty() && choice.trusts.is_none() {
            let count = candidates.len() as u64;
            let pick = u64::try_from((u128::from(draw) * u128::from(count)) >> 64).unwrap_or(0);
            return candidates.nth(pick).and_then(|rank| self.by_rank.get(rank).copied());
        }
        let free: Vec<NodeId> = free.flatten().filter(takes).collect();
        let pick = (u128::from(draw) * free.len() as u128) >> 64;
        free.get(usize::try_from(pick).unwrap_or(usize::MAX)).copied()
    }

    /// Returns the best among an account's own nodes, as [`Index::best`].
    #[must_use]
    pub fn best_own(&self, id: ShapeId, account: AccountId, choice: Choice<'_>) -> Option<NodeId> {
        let candidates = self.of(id)?;
        let own = self.owned.get(&account)?.iter().copied();
        let fits = own.filter(|node| candidates.scores[*node] != NONE && choice.takes(*node));
        fits.min_by_key(|node| (Reverse(candidates.scores[*node]), self.ranks[*node]))
    }

    /// Returns the nodes of an account.
    #[must_use]
    pub fn owned(&self, account: AccountId) -> &[NodeId] {
        self.owned.get(&account).map_or(&[], Vec::as_slice)
    }

    /// Returns whether a node's hardware, labels and pool suit a shape; the shape must be indexed.
    #[must_use]
    pub fn is_suitable(&self, id: ShapeId, node: NodeId) -> bool {
        self.of(id).is_some_and(|c| c.suitable.get(node.index()).copied().unwrap_or(false))
    }
}

/// Walks the nodes that changed after a change.
fn unread(log: &[(NodeId, u64)], read: u64) -> impl Iterator<Item = NodeId> {
    let mut first = log.len();
    while let Some((_, change)) = log.get(first.wrapping_sub(1))
        && *change > read
    {
        first -= 1;
    }
    log.get(first..).unwrap_or_default().iter().map(|(node, _)| *node)
}

impl Starts {
    /// Knows nothing of any node.
    fn new(ranks: &Table<NodeId, u32>) -> Self {
        let mut times = Table::new();
        for _ in ranks.iter() {
            times.push(None);
        }
        Self { read: 0, begins: 0, times, order: BTreeSet::new(), last: None }
    }

    fn set(&mut self, node: NodeId, rank: u32, found: Option<First>) {
        self.last = found.map(|first| (node, first.leased));
        let found = found.map(|first| (first.at, first.unknown));
        let old = core::mem::replace(&mut self.times[node], found);
        if old == found {
            return;
        }
        if let Some((at, unknown)) = old {
            self.order.remove(&(at, unknown, rank));
        }
        if let Some((at, unknown)) = found {
            self.order.insert((at, unknown, rank));
        }
    }
}

impl Candidates {
    fn new(state: &State, shape: &Shape, random: bool) -> Self {
        let mut scores = Table::new();
        let suitable = state.nodes.ids().map(|node| suits(state, shape, node)).collect();
        for _ in state.nodes.ids() {
            scores.push(NONE);
        }
        let words = if random { state.nodes.len().div_ceil(64) } else { 0 };
        Self {
            bundle: shape.needs.bundle(),
            suitable,
            read: 0,
            choosy: shape.is_choosy(),
            begins: 0,
            scores,
            order: BTreeSet::new(),
            bits: alloc::vec![0; words],
            count: 0,
            soonest: None,
        }
    }

    fn score_all(
        &mut self,
        state: &State,
        scorer: &Scorer,
        shape: &Shape,
        ranks: &Table<NodeId, u32>,
    ) {
        for (node, rank) in ranks.iter() {
            self.score(state, scorer, shape, node, *rank);
        }
    }

    /// Scores one node anew.
    #[inline]
    fn score(&mut self, state: &State, scorer: &Scorer, shape: &Shape, id: NodeId, rank: u32) {
        if !self.suitable.get(id.index()).copied().unwrap_or(false) {
            return;
        }
        let node = &state.nodes[id];
        let fits = node.fits(&shape.needs, &self.bundle)
            && node.takes_work(state.now)
            && shape.bears(&node.tags, self.begins)
            && !node.avoided.has_any(&shape.tags);
        let new = if fits { scorer.score(node, id, shape) } else { NONE };
        let old = self.scores[id];
        if new == old {
            return;
        }
        self.scores[id] = new;
        self.count = self.count + usize::from(new != NONE) - usize::from(old != NONE);
        if scorer.is_random() {
            let bit = 1_u64 << (rank % 64);
            if let Some(word) = self.bits.get_mut(rank as usize / 64) {
                *word = if fits { *word | bit } else { *word & !bit };
            }
            return;
        }
        if old != NONE {
            self.order.remove(&(Reverse(old), rank));
        }
        if new != NONE {
            self.order.insert((Reverse(new), rank));
        }
    }

    fn len(&self) -> usize {
        self.count
    }

    /// Walks the ranks of the candidates.
    fn ranks(&self) -> impl Iterator<Item = usize> {
        let set = |(i, word): (usize, &u64)| {
            let word = *word;
            (0..64).filter(move |bit| word & 1 << bit != 0).map(move |bit| i * 64 + bit)
        };
        self.bits.iter().enumerate().flat_map(set)
    }

    /// Returns the rank of the n-th candidate.
    fn nth(&self, mut n: u64) -> Option<usize> {
        for (i, word) in self.bits.iter().enumerate() {
            let ones = u64::from(word.count_ones());
            if n < ones {
                let word = *word;
                let mut set = (0..64).filter(|bit| word & 1 << bit != 0);
                return set.nth(usize::try_from(n).unwrap_or(0)).map(|bit| i * 64 + bit);
            }
            n -= ones;
        }
        None
    }
}
