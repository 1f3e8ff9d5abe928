//! Shapes: what jobs have in common.
//!
//! Many jobs ask for the same thing. A [`Shape`] is that thing: needs, pool and constraints; it is
//! what placement looks at, so that a decision costs by shape and not by job (HTCondor calls the
//! resulting groups autoclusters).

use crate::bundle::{Bundle, Needs};
use crate::command::{JobSpec, LabelNeed, Near};
use crate::flat::FlatSet;
use crate::ids::{AccountId, NodeId, PoolId, ShapeId, Table};
use crate::tags::Tags;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What jobs have in common for placement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// The pool.
    pub pool: PoolId,
    /// What each member needs.
    pub needs: Needs,
    /// How many members start together.
    pub members: u16,
    /// Whether no two members may share a node.
    pub spread: bool,
    /// Labels a node must have.
    pub labels: Vec<LabelNeed>,
    /// Nodes to take before any other.
    pub preferred: Vec<NodeId>,
    /// Nodes never to take.
    pub excluded: Vec<NodeId>,
    /// What its jobs are.
    pub tags: Vec<String>,
    /// Tags of which each must run on a member's node; see [`JobSpec::affinity`].
    pub affinity: Vec<String>,
    /// Tags of which none may run on a member's node.
    pub anti_affinity: Vec<String>,
    /// Where its jobs' data lies, for the strategy `near_data`.
    pub near: Option<Near>,
    /// Whose nodes come first under `local_first` and `cheapest`; `None` under other strategies.
    pub home: Option<AccountId>,
}

/// All that tells shapes apart.
#[derive(PartialEq, Eq)]
struct Marks<'a> {
    needs: &'a Needs,
    pool: PoolId,
    home: Option<AccountId>,
    members: u16,
    spread: bool,
    labels: &'a [LabelNeed],
    nodes: [&'a [NodeId]; 2],
    tags: [&'a [String]; 3],
    near: Option<&'a Near>,
}

impl Marks<'_> {
    /// Returns a number by which shapes are looked up: hardly any two have the same.
    fn key(&self) -> u64 {
        let Needs { cpu, memory, storage, gpus, .. } = self.needs;
        let home = self.home.map_or(0, |home| 1 + u64::from(home.get()));
        let [nodes, tags] = [self.nodes[1].len(), self.tags[0].len() + self.labels.len()];
        let gpu = u64::from(gpus.count) << 16 | u64::from(gpus.share.get());
        let pool = u64::from(self.pool.get()) << 16 | u64::from(self.members);
        let lists = (nodes as u64) << 32 | tags as u64;
        let marks = [cpu.get(), memory.get(), storage.get(), gpu, gpus.memory.get(), home, lists];
        let key = marks.into_iter().fold(pool, spread);
        let nodes = self.nodes.into_iter().flatten().map(|node| u64::from(node.get()));
        let labels = self.labels.iter().flat_map(|need| need.any_of.iter().chain([&need.key]));
        let words = self.tags.into_iter().flatten().chain(labels);
        let bytes = words.flat_map(|word| word.bytes().map(u64::from).chain([u64::MAX]));
        bytes.fold(nodes.fold(key, spread), spread)
    }
}

/// Mixes one more mark into a key, by 2^64 over the golden ratio: what differs in few bits lies far
/// apart.
fn spread(key: u64, mark: u64) -> u64 {
    (key.rotate_left(23) ^ mark).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Shape {
    fn marks(&self) -> Marks<'_> {
        Marks {
            needs: &self.needs,
            pool: self.pool,
            home: self.home,
            members: self.members,
            spread: self.spread,
            labels: &self.labels,
            nodes: [&self.preferred, &self.excluded],
            tags: [&self.tags, &self.affinity, &self.anti_affinity],
            near: self.near.as_ref(),
        }
    }

    /// Returns the shape of a job; `home` says whose nodes come first.
    #[must_use]
    pub fn new(spec: &JobSpec, home: Option<AccountId>) -> Self {
        fn sorted<T: Ord + Clone>(list: &[T]) -> Vec<T> {
            let mut list = list.to_vec();
            if list.len() > 1 {
                list.sort_unstable();
                list.dedup();
            }
            list
        }
        Self {
            pool: spec.pool,
            needs: spec.needs,
            members: spec.members,
            spread: spec.spread,
            labels: spec.labels.clone(),
            preferred: spec.preferred.clone(),
            excluded: sorted(&spec.excluded),
            tags: sorted(&spec.tags),
            affinity: sorted(&spec.affinity),
            anti_affinity: sorted(&spec.anti_affinity),
            near: spec.near.clone(),
            home,
        }
    }

    /// Returns which of the tags that it must be near it may begin, one bit each: it carries them,
    /// and nothing with them runs in its pool.
    #[must_use]
    #[inline]
    pub fn begins(&self, pool: &Tags) -> u64 {
        let first = |tag: &String| self.tags.contains(tag) && !pool.has(tag);
        let firsts = self.affinity.iter().enumerate().filter(|(_, tag)| first(tag));
        firsts.fold(0, |bits, (i, _)| bits | 1 << i)
    }

    /// Returns whether a member may start beside what runs on a node; `begins` as
    /// [`Shape::begins`].
    #[must_use]
    #[inline]
    pub fn bears(&self, here: &Tags, begins: u64) -> bool {
        let near = |(i, tag): (usize, &String)| here.has(tag) || begins & 1 << i != 0;
        self.affinity.iter().enumerate().all(near)
            && !self.anti_affinity.iter().any(|tag| here.has(tag))
    }

    /// Returns whether it matters to it what runs on its node.
    #[must_use]
    pub fn is_choosy(&self) -> bool {
        !self.affinity.is_empty() || !self.anti_affinity.is_empty()
    }

    /// Returns what all members need together.
    #[must_use]
    pub fn total(&self) -> Bundle {
        self.needs.bundle().times(self.members.into())
    }
}

/// The shapes in use. A shape that no job uses keeps its place until another needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shapes {
    rows: Table<ShapeId, Shape>,
    users: Table<ShapeId, u64>,
    /// All places, by the keys of their shapes.
    keys: Vec<(u64, ShapeId)>,
    /// Shapes without a job, oldest first by when they fell idle.
    idle: FlatSet<(u64, ShapeId)>,
    idle_since: Table<ShapeId, u64>,
    clock: u64,
}

/// Returns whether the members of a list go up.
fn is_in_order<T: Ord>(list: &[T]) -> bool {
    list.is_sorted_by(|one, next| one < next)
}

/// How many shapes without a job are remembered.
const IDLE_MAX: usize = 256;

impl Shapes {
    /// Counts one more user of a shape that has a place.
    pub fn join(&mut self, id: ShapeId) {
        if self.users[id] == 0 {
            self.idle.remove(&(self.idle_since[id], id));
        }
        self.users[id] += 1;
    }

    /// Gives a shape that has no place one, and its first user. What the place held before is no
    /// shape any more.
    pub fn enter(&mut self, shape: Shape) -> ShapeId {
        let reuse = if self.idle.len() > IDLE_MAX { self.idle.pop_first() } else { None };
        let key = shape.marks().key();
        let id = if let Some((_, id)) = reuse {
            let old = (self.rows[id].marks().key(), id);
            self.keys.retain(|known| *known != old);
            self.rows[id] = shape;
            id
        } else {
            self.users.push(0);
            self.idle_since.push(0);
            self.rows.push(shape)
        };
        self.users[id] = 1;
        self.keys.insert(self.after(key), (key, id));
        id
    }

    /// Returns how many shapes have a lower key.
    fn after(&self, key: u64) -> usize {
        self.keys.partition_point(|(other, _)| *other < key)
    }

    /// Counts one user less.
    ///
    /// # Panics
    /// When it is left more often than entered: our bug.
    pub fn leave(&mut self, id: ShapeId) {
        assert!(self.users[id] > 0, "a shape is left once per job");
        self.users[id] -= 1;
        if self.users[id] == 0 {
            self.clock += 1;
            self.idle_since[id] = self.clock;
            self.idle.insert((self.clock, id));
        }
    }

    /// Returns the place of a shape, if it has one.
    #[must_use]
    pub fn find(&self, shape: &Shape) -> Option<ShapeId> {
        self.at(&shape.marks())
    }

    /// Returns the place of the shape that [`Shape::new`] makes of a job, if it has one and the job
    /// names everything once and in order.
    #[must_use]
    pub fn find_like(&self, spec: &JobSpec, home: Option<AccountId>) -> Option<ShapeId> {
        let lists: [&[String]; 3] = [&spec.tags, &spec.affinity, &spec.anti_affinity];
        let in_order = is_in_order(&spec.excluded) && lists.iter().all(|list| is_in_order(list));
        let marks = Marks {
            needs: &spec.needs,
            pool: spec.pool,
            home,
            members: spec.members,
            spread: spec.spread,
            labels: &spec.labels,
            nodes: [&spec.preferred, &spec.excluded],
            tags: lists,
            near: spec.near.as_ref(),
        };
        if in_order { self.at(&marks) } else { None }
    }

    fn at(&self, marks: &Marks<'_>) -> Option<ShapeId> {
        let key = marks.key();
        let from = self.keys.get(self.after(key)..).unwrap_or_default();
        let mut alike = from.iter().take_while(|(other, _)| *other == key).map(|(_, id)| *id);
        alike.find(|id| self.rows[*id].marks() == *marks)
    }

    /// Returns how many places there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether no shape was ever entered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl core::ops::Index<ShapeId> for Shapes {
    type Output = Shape;
    fn index(&self, id: ShapeId) -> &Shape {
        &self.rows[id]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MilliCores;
    use alloc::vec;

    fn spec(cores: u32, tags: &[&str]) -> JobSpec {
        let needs = Needs { cpu: MilliCores::whole(cores), ..Needs::default() };
        let tags = tags.iter().map(|tag| String::from(*tag)).collect();
        JobSpec { needs, tags, ..JobSpec::default() }
    }

    /// Gives a job's shape its place, as a submission does.
    fn submit(shapes: &mut Shapes, spec: &JobSpec) -> ShapeId {
        match shapes.find_like(spec, None).or_else(|| shapes.find(&Shape::new(spec, None))) {
            Some(id) => {
                shapes.join(id);
                id
            }
            None => shapes.enter(Shape::new(spec, None)),
        }
    }

    #[test]
    fn a_shape_is_found_by_all_that_it_holds_and_in_whatever_order_it_is_said() {
        let mut shapes = Shapes::default();
        let specs = [
            spec(1, &[]),
            spec(2, &[]),
            spec(1, &["a"]),
            spec(1, &["b"]),
            spec(1, &["a", "b"]),
            JobSpec { anti_affinity: vec![String::from("a")], ..spec(1, &[]) },
            JobSpec { affinity: vec![String::from("a")], ..spec(1, &[]) },
            JobSpec { excluded: vec![NodeId::new(1)], ..spec(1, &[]) },
            JobSpec { preferred: vec![NodeId::new(1)], ..spec(1, &[]) },
            JobSpec { members: 2, ..spec(1, &[]) },
            JobSpec { members: 2, spread: true, ..spec(1, &[]) },
            JobSpec { near: Some(Near::Node(NodeId::new(0))), ..spec(1, &[]) },
        ];
        // Some of them have the same key.
        let first: Vec<ShapeId> = specs.iter().map(|spec| submit(&mut shapes, spec)).collect();
        let again: Vec<ShapeId> = specs.iter().map(|spec| submit(&mut shapes, spec)).collect();
        assert_eq!((first, shapes.len()), (again, specs.len()));
        let [both, twice] = [spec(1, &["b", "a"]), spec(1, &["a", "b", "a"])];
        assert_eq!(shapes.find_like(&both, None), None);
        let found = [both, twice].map(|spec| submit(&mut shapes, &spec));
        assert_eq!(found, [ShapeId::new(4); 2]);
        assert_eq!(shapes.find_like(&spec(1, &[]), Some(AccountId::new(0))), None);
    }

    #[test]
    fn what_differs_by_a_word_or_a_node_only_has_another_key() {
        let mut shapes = Shapes::default();
        for n in 0..500_u32 {
            let word = || alloc::vec![alloc::format!("job-{n}")];
            let label = LabelNeed { key: String::from("rack"), any_of: word() };
            let more = [
                JobSpec { tags: word(), ..spec(1, &[]) },
                JobSpec { anti_affinity: word(), tags: word(), ..spec(1, &[]) },
                JobSpec { preferred: vec![NodeId::new(n)], ..spec(1, &[]) },
                JobSpec { excluded: vec![NodeId::new(n)], ..spec(1, &[]) },
                JobSpec { labels: vec![label], ..spec(1, &[]) },
            ];
            more.iter().for_each(|spec| {
                submit(&mut shapes, spec);
            });
        }
        let alike = |pair: &&[(u64, ShapeId)]| pair[0].0 == pair[1].0;
        assert_eq!(shapes.len(), 2_500);
        assert_eq!(shapes.keys.windows(2).filter(alike).count(), 0);
    }

    #[test]
    fn what_has_been_idle_longest_is_forgotten_first() {
        let mut shapes = Shapes::default();
        let idle = u32::try_from(IDLE_MAX).unwrap() + 1;
        for cores in 1..=idle {
            let id = submit(&mut shapes, &spec(cores, &[]));
            shapes.leave(id);
        }
        // The first is used once more.
        let first = submit(&mut shapes, &spec(1, &[]));
        shapes.leave(first);
        assert_eq!((first, shapes.len()), (ShapeId::new(0), IDLE_MAX + 1));
        let fresh = submit(&mut shapes, &spec(1_000, &[]));
        assert_eq!((fresh, shapes.len()), (ShapeId::new(1), IDLE_MAX + 1));
        assert_eq!(shapes.find_like(&spec(2, &[]), None), None);
        assert_eq!(shapes.find_like(&spec(1_000, &[]), None), Some(fresh));
        assert_eq!(shapes.find_like(&spec(1, &[]), None), Some(first));
    }
}
