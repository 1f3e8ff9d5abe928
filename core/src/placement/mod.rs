//! Placement: which node, and which of its devices (RULES.md section 6).
//!
//! A strategy is a score per node and shape; the highest wins, ties go to the higher node priority,
//! then to the smaller place in the seeded permutation, then to the smaller id. Scores are integers
//! and small on purpose: the tie rule is part of every strategy. Nothing here changes anything.

pub mod fgd;
pub mod headroom;

use crate::bundle::GpuNeed;
use crate::command::Near;
use crate::config::Strategy;
use crate::ids::Dense;
use crate::nodes::{Gpu, Node};
use crate::shapes::Shape;
use crate::state::{State, mix};
use crate::units::Bytes;
use alloc::string::String;
use alloc::vec::Vec;
use fgd::Fragmentation;
use headroom::Headroom;

/// Added to the score of a preferred node, and a tenth of it to a borrower's own node.
const PREFERRED: i64 = 1_000_000;

/// What scores need besides the node: it changes only with the rules.
#[derive(Clone, Debug)]
pub struct Scorer {
    strategy: Strategy,
    /// The largest node's compute and GPUs: the unit of left-over amounts.
    cpu_max: u64,
    gpu_max: u64,
    fragmentation: Fragmentation,
    headroom: Headroom,
    /// Which task classes each node may run.
    runnable: Vec<u64>,
    /// The zone of each node, under the strategy `near_data`.
    zones: Vec<String>,
}

impl Scorer {
    /// Prepares the scores of a cluster under the rules in force.
    #[must_use]
    pub fn new(state: &State) -> Self {
        let nodes = || state.nodes.iter().map(|(_, node)| node);
        let scheduling = &state.rules.scheduling;
        let fragmentation = Fragmentation::new(&scheduling.fgd_classes);
        Self {
            strategy: scheduling.strategy,
            cpu_max: nodes().map(|n| n.spec.capacity.cpu.get()).max().unwrap_or(0).max(1),
            gpu_max: nodes().map(|n| n.spec.capacity.gpu.get()).max().unwrap_or(0).max(1),
            runnable: nodes().map(|node| fragmentation.runnable(node)).collect(),
            fragmentation,
            zones: if scheduling.strategy == Strategy::NearData {
                nodes().map(|node| node.spec.zone.clone()).collect()
            } else {
                Vec::new()
            },
            headroom: Headroom::new(&scheduling.fgd_classes),
        }
    }

    /// Returns whether nodes are drawn instead of scored.
    #[must_use]
    pub fn is_random(&self) -> bool {
        self.strategy == Strategy::Random
    }

    /// Returns the score of one member of a shape on a node where it fits.
    #[must_use]
    pub fn score(&self, node: &Node, id: crate::ids::NodeId, shape: &Shape) -> i64 {
        let score = match self.strategy {
            Strategy::FirstFit | Strategy::Random => 0,
            Strategy::BestFit => self.left_over_score(node, shape),
            Strategy::WorstFit => -self.left_over_score(node, shape),
            Strategy::Pack => pack(node, shape.needs.gpus),
            Strategy::DotProduct => self.dot_product(node, shape),
            Strategy::GpuClustering => clustering(node, shape.needs.gpus),
            Strategy::Fgd | Strategy::Headroom => self.place_by_classes(node, id, shape).0,
            Strategy::LocalFirst | Strategy::Cheapest => {
                let own = shape.home == Some(node.spec.owner);
                self.left_over_score(node, shape) + if own { PREFERRED / 10 } else { 0 }
            }
            Strategy::NearData => {
                let far = i64::from(self.distance(node, id, shape));
                self.left_over_score(node, shape) - far * (PREFERRED / 10)
            }
        };
        score + if shape.preferred.contains(&id) { PREFERRED } else { 0 }
    }

    /// Returns the devices one member of a shape uses on a node where it fits; under the strategy
    /// `random`, `draw` picks them.
    #[must_use]
    pub fn devices(&self, node: &Node, id: crate::ids::NodeId, shape: &Shape, draw: u64) -> u64 {
        match self.strategy {
            Strategy::Fgd | Strategy::Headroom => self.place_by_classes(node, id, shape).1,
            Strategy::Random => drawn(node, shape.needs.gpus, draw),
            Strategy::FirstFit
            | Strategy::BestFit
            | Strategy::WorstFit
            | Strategy::Pack
            | Strategy::DotProduct
            | Strategy::GpuClustering
            | Strategy::LocalFirst
            | Strategy::NearData
            | Strategy::Cheapest => tightest(node, shape.needs.gpus),
        }
    }

    /// Returns how far a node is from a shape's data: 0 on the same node, 1 in the same zone, 2
    /// elsewhere. For one that does not say where its data lies all are the same.
    fn distance(&self, node: &Node, id: crate::ids::NodeId, shape: &Shape) -> u8 {
        let zone = match &shape.near {
            None => return 0,
            Some(Near::Node(data)) if *data == id => return 0,
            Some(Near::Node(data)) => self.zones.get(data.index()),
            Some(Near::Zone(zone)) => Some(zone),
        };
        let same = zone.is_some_and(|zone| !zone.is_empty() && *zone == node.spec.zone);
        if same { 1 } else { 2 }
    }

    fn place_by_classes(&self, node: &Node, id: crate::ids::NodeId, shape: &Shape) -> (i64, u64) {
        let index = usize::try_from(id.get()).unwrap_or(usize::MAX);
        let runnable = self.runnable.get(index).copied().unwrap_or(0);
        if self.strategy == Strategy::Headroom {
            return self.headroom.place(node, runnable, &shape.needs);
        }
        self.fragmentation.place(node, runnable, &shape.needs)
    }

    /// int(100 (1 - cpu left/2 - gpu left/2)), left-over amounts as parts of the largest node.
    fn left_over_score(&self, node: &Node, shape: &Shape) -> i64 {
        let left = node.free().saturating_sub(&shape.needs.bundle());
        let (cpu, gpu) = (u128::from(left.cpu.get()), u128::from(left.gpu.get()));
        let (cpu_max, gpu_max) = (u128::from(self.cpu_max), u128::from(self.gpu_max));
        // floor(100 - x) = 100 - ceil(x)
        let used = (50 * (cpu * gpu_max + gpu * cpu_max)).div_ceil(cpu_max * gpu_max);
        100 - i64::try_from(used).unwrap_or(100)
    }

    /// int(100 (1 - (free . request)/2)) over CPU and GPU as parts of the largest node.
    fn dot_product(&self, node: &Node, shape: &Shape) -> i64 {
        let (free, need) = (node.free(), shape.needs.bundle());
        let square = |max: u64| u128::from(max) * u128::from(max);
        let (cpu_unit, gpu_unit) = (square(self.cpu_max), square(self.gpu_max));
        let cpu = u128::from(free.cpu.get()) * u128::from(need.cpu.get());
        let gpu = u128::from(free.gpu.get()) * u128::from(need.gpu.get());
        // floor(100 - x) = 100 - ceil(x); with 16,384 cores and 64 GPUs the products stay
        // below 2^86.
        let used = (50 * (cpu * gpu_unit + gpu * cpu_unit)).div_ceil(cpu_unit * gpu_unit);
        100 - i64::try_from(used).unwrap_or(100)
    }
}

/// Returns whether a node could ever run one member of a shape.
#[must_use]
pub fn suits(state: &State, shape: &Shape, id: crate::ids::NodeId) -> bool {
    let node = &state.nodes[id];
    let has = |need: &crate::command::LabelNeed| {
        node.spec
            .labels
            .get(&need.key)
            .is_some_and(|value| need.any_of.is_empty() || need.any_of.contains(value))
    };
    node.spec.pool == shape.pool
        && node.spec.lends(state.rules.rebalance.mode)
        && !shape.excluded.contains(&id)
        && shape.labels.iter().all(has)
        && node.could_fit(&shape.needs)
}

/// Returns whether one member of a shape may start beside what runs on a node now, and what is
/// about to.
#[must_use]
pub fn bears(state: &State, shape: &Shape, node: crate::ids::NodeId) -> bool {
    bears_what_runs(state, shape, node) && !state.nodes[node].avoided.has_any(&shape.tags)
}

/// Returns whether one member of a shape may start beside what runs on a node now.
#[must_use]
pub fn bears_what_runs(state: &State, shape: &Shape, node: crate::ids::NodeId) -> bool {
    !shape.is_choosy() || {
        let begins = shape.begins(&state.pools[shape.pool].tags);
        shape.bears(&state.nodes[node].tags, begins)
    }
}

/// Returns any devices of a node that fit one device's need, one bit each.
fn drawn(node: &Node, need: GpuNeed, draw: u64) -> u64 {
    let mut fitting: Vec<usize> =
        (0..node.gpus.len()).filter(|device| node.gpu_fits(*device, need)).collect();
    let mut chosen = 0_u64;
    for i in 0..need.count {
        let pick = (u128::from(mix(draw, u64::from(i))) * fitting.len() as u128) >> 64;
        let pick = usize::try_from(pick).unwrap_or(usize::MAX);
        if pick < fitting.len() {
            chosen |= 1 << fitting.swap_remove(pick);
        }
    }
    chosen
}

/// Returns the devices of a node that fit one device's need most tightly, one bit each.
#[must_use]
pub fn tightest(node: &Node, need: GpuNeed) -> u64 {
    tightest_of(&node.gpus, &node.spec.gpus, need).unwrap_or(0)
}

/// Returns the devices that fit most tightly, lowest number first among equals; `None` when too few
/// fit.
#[must_use]
pub fn tightest_of(gpus: &[Gpu], sizes: &[Bytes], need: GpuNeed) -> Option<u64> {
    let mut chosen = 0_u64;
    for _ in 0..need.count {
        let frees = gpus.iter().zip(sizes).map(|(gpu, size)| gpu.free(*size)).enumerate();
        let fitting = frees.filter(|(i, (share, memory))| {
            chosen & 1 << i == 0 && *share >= need.share && *memory >= need.memory
        });
        let (device, _) = fitting.min_by_key(|(i, free)| (*free, *i))?;
        chosen |= 1 << device;
    }
    Some(chosen)
}

/// Returns how many members of a shape fit on one node together.
#[must_use]
pub fn members_on(mut node: Node, shape: &Shape) -> u32 {
    let bundle = shape.needs.bundle();
    let mut fit = 0;
    while fit < u32::from(shape.members) && node.fits(&shape.needs, &bundle) {
        let devices = tightest(&node, shape.needs.gpus);
        node.claim(&shape.needs, devices);
        fit += 1;
    }
    fit
}

/// The score of `pack`: full devices first, then partly used nodes, then empty ones (the GPU
/// packing policy of the Kubernetes scheduler simulator that came with FGD). Without a GPU: 0.
fn pack(node: &Node, need: GpuNeed) -> i64 {
    if need.count == 0 {
        return 0;
    }
    let frees = || (0..node.gpus.len()).map(|i| node.gpu_free(i).0.get());
    let idle = i64::try_from(frees().filter(|f| *f == 1_000).count()).unwrap_or(0);
    if idle == i64::try_from(node.gpus.len()).unwrap_or(0) {
        return (33 - idle).max(idle);
    }
    let chosen = tightest(node, need);
    let picked = || frees().enumerate().filter(|(i, _)| chosen & 1 << i != 0).map(|(_, f)| f);
    let fresh = i64::try_from(picked().filter(|f| *f == 1_000).count()).unwrap_or(0);
    if fresh > 0 {
        return (50 - fresh).max(33);
    }
    let percent: i64 = picked().map(|f| i64::from(f) / 10).sum();
    (100 - percent / 10).max(50)
}

/// The score of `gpu_clustering`: nodes that run only this kind of GPU job, then this among others,
/// then empty ones, fuller ones first. Without a GPU: 0.
fn clustering(node: &Node, need: GpuNeed) -> i64 {
    if need.count == 0 {
        return 0;
    }
    let mine = node.kinds.contains_key(&need.kind());
    let base = match (node.kinds.len(), mine) {
        (0, _) => 25,
        (1, true) => 75,
        (_, true) => 50,
        (_, false) => 0,
    };
    let free = i64::try_from(node.free().gpu.get()).unwrap_or(i64::MAX);
    base + 25 * (8_000 - free) / 8_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Bundle;
    use crate::config::{AccountSpec, Config, NodeSpec, PoolSpec};
    use crate::ids::NodeId;
    use crate::units::{MicroAtp, MilliCores, Time};

    #[test]
    fn the_same_node_is_nearer_than_the_same_zone_and_that_than_any_other() {
        let node = |(name, zone): (&str, &str)| {
            let cpu = MilliCores::whole(8);
            let spec = NodeSpec::dedicated(name, Bundle { cpu, ..Bundle::ZERO });
            NodeSpec { zone: String::from(zone), ..spec }
        };
        let nodes = [("a", "east"), ("b", "east"), ("c", "west"), ("d", ""), ("e", "")];
        let mut config = Config { nodes: nodes.map(node).to_vec(), ..Config::default() };
        config.rules.scheduling.strategy = Strategy::NearData;
        config.pools.push(PoolSpec { name: String::from("main"), quota: None });
        config.accounts.push(AccountSpec::new("lab", MicroAtp::ZERO));
        let state = State::new(config, Time::ZERO);
        let scorer = Scorer::new(&state);
        let distances = |near: Option<Near>| -> Vec<u8> {
            let shape = Shape { near, ..Shape::default() };
            state.nodes.iter().map(|(id, node)| scorer.distance(node, id, &shape)).collect()
        };
        assert_eq!(distances(Some(Near::Node(NodeId::new(0)))), [0, 1, 2, 2, 2]);
        // A node without a zone is near to itself only.
        assert_eq!(distances(Some(Near::Node(NodeId::new(3)))), [2, 2, 2, 0, 2]);
        assert_eq!(distances(Some(Near::Zone(String::from("east")))), [1, 1, 2, 2, 2]);
        assert_eq!(distances(None), [0; 5]);
    }
}
