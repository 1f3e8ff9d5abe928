//! Where jobs go in the model: the published scores, computed anew for every node.

use super::{Host, Leaving, Model, Task};
use gridcore::bundle::{Bundle, Needs};
use gridcore::command::Near;
use gridcore::config::Strategy;
use gridcore::ids::NodeId;

impl Model {
    /// The node with the highest score among those where one member fits.
    pub(super) fn best(&self, task: &Task, taken: &[NodeId]) -> Option<NodeId> {
        let fitting = (0..self.hosts.len()).filter(|i| self.fits(*i, task));
        let nodes = fitting.map(|i| NodeId::new(u32::try_from(i).unwrap_or(u32::MAX)));
        let open = nodes.filter(|node| !taken.contains(node));
        open.min_by_key(|node| {
            let i = node.get() as usize;
            let score = self.score(*node, task);
            (-score, -i64::from(self.config.nodes[i].priority), self.rank[i], *node)
        })
    }

    pub(super) fn fits(&self, i: usize, task: &Task) -> bool {
        let (host, spec) = (&self.hosts[i], &self.config.nodes[i]);
        let labels = task.spec.labels.iter().all(|need| {
            let value = spec.labels.get(&need.key);
            value.is_some_and(|v| need.any_of.is_empty() || need.any_of.contains(v))
        });
        let amounts = task.spec.needs.bundle().amounts().into_iter().zip(host.free);
        spec.pool == task.spec.pool
            && !host.drained
            && labels
            && !task.spec.excluded.iter().any(|node| node.get() as usize == i)
            && self.bears(i, task)
            && amounts.into_iter().all(|(need, free)| need <= free)
            && self.tightest(NodeId::new(u32::try_from(i).unwrap_or(0)), &task.spec.needs).is_some()
    }

    /// How far a node is from a task's data.
    fn distance(&self, node: NodeId, task: &Task) -> i64 {
        let zone = |node: NodeId| &self.config.nodes[node.get() as usize].zone;
        let near = match &task.spec.near {
            Some(Near::Node(data)) if *data == node => return 0,
            Some(Near::Node(data)) => zone(*data),
            Some(Near::Zone(zone)) => zone,
            None => return 0,
        };
        if near == zone(node) && !near.is_empty() { 1 } else { 2 }
    }

    /// Whether what runs on a node lets a task start there.
    fn bears(&self, i: usize, task: &Task) -> bool {
        let runs = |tag: &String, on: Option<usize>| {
            let there = |other: &Task| {
                let places = other.places.iter().flatten();
                let mut here = places.filter(|(node, _)| !other.gone.contains(node));
                here.any(|(node, _)| on.is_none_or(|i| node.get() as usize == i))
            };
            self.tasks.values().any(|other| {
                other.spec.tags.contains(tag)
                    && other.spec.pool == task.spec.pool
                    && other.leaving != Some(Leaving::Limit)
                    && there(other)
            })
        };
        let first = |tag: &String| task.spec.tags.contains(tag) && !runs(tag, None);
        task.spec.affinity.iter().all(|tag| runs(tag, Some(i)) || first(tag))
            && !task.spec.anti_affinity.iter().any(|tag| runs(tag, Some(i)))
    }

    /// Returns whether a job that waits must be near a task.
    pub(super) fn is_wanted(&self, task: &Task) -> bool {
        let wants = |other: &&Task| {
            other.spec.pool == task.spec.pool
                && other.spec.affinity.iter().any(|tag| task.spec.tags.contains(tag))
        };
        let mut waiting = self.tasks.values().filter(|other| {
            other.places.is_none() && !other.held && other.after.is_empty() && !other.in_vain
        });
        waiting.any(|other| wants(&other))
    }

    /// The devices with the least left that still fit.
    pub(super) fn tightest(&self, node: NodeId, needs: &Needs) -> Option<u64> {
        let host = &self.hosts[node.get() as usize];
        let (share, memory) = (u64::from(needs.gpus.share.get()), needs.gpus.memory.get());
        let all = host.devices.iter().enumerate();
        let mut fitting: Vec<(u64, u64, usize)> = all
            .filter(|(_, device)| device.share >= share && device.memory >= memory)
            .map(|(i, device)| (device.share, device.memory, i))
            .collect();
        fitting.sort_unstable();
        let want = usize::from(needs.gpus.count);
        (fitting.len() >= want)
            .then(|| fitting.iter().take(want).fold(0, |mask, f| mask | 1 << f.2))
    }

    /// The published score, the larger the better.
    pub(super) fn score(&self, node: NodeId, task: &Task) -> i64 {
        let host = &self.hosts[node.get() as usize];
        let (free_cpu, free_gpu) = (host.free[0], host.free[3]);
        let needs = task.spec.needs.bundle();
        let sizes = |f: fn(&Bundle) -> u64| {
            self.config.nodes.iter().map(|n| f(&n.capacity)).max().unwrap_or(1).max(1)
        };
        let (cpu_max, gpu_max) = (sizes(|b| b.cpu.get()), sizes(|b| b.gpu.get()));
        // 100 (1 - a/2A - b/2B) = (200 AB - 100 aB - 100 bA) / 2AB, rounded down.
        let left = |cpu: u64, gpu: u64| {
            let (a, b) = (i128::from(cpu), i128::from(gpu));
            let (aa, bb) = (i128::from(cpu_max), i128::from(gpu_max));
            let score = (200 * aa * bb - 100 * a * bb - 100 * b * aa).div_euclid(2 * aa * bb);
            i64::try_from(score).unwrap_or(0)
        };
        let tight = left(free_cpu - needs.cpu.get(), free_gpu - needs.gpu.get());
        let own = self.config.nodes[node.get() as usize].owner == task.account;
        let score = match self.config.rules.scheduling.strategy {
            Strategy::FirstFit | Strategy::Random | Strategy::Fgd | Strategy::Headroom => 0,
            Strategy::BestFit => tight,
            Strategy::WorstFit => -tight,
            Strategy::LocalFirst | Strategy::Cheapest => tight + if own { 100_000 } else { 0 },
            Strategy::NearData => tight - 100_000 * self.distance(node, task),
            Strategy::DotProduct => {
                let (a, aa) =
                    (i128::from(free_cpu) * i128::from(needs.cpu.get()), i128::from(cpu_max));
                let (b, bb) =
                    (i128::from(free_gpu) * i128::from(needs.gpu.get()), i128::from(gpu_max));
                let (aa, bb) = (aa * aa, bb * bb);
                let score = (200 * aa * bb - 100 * a * bb - 100 * b * aa).div_euclid(2 * aa * bb);
                i64::try_from(score).unwrap_or(0)
            }
            Strategy::Pack => self.pack(node, &task.spec.needs),
            Strategy::GpuClustering => clustering(host, &task.spec.needs),
        };
        score + if task.spec.preferred.contains(&node) { 1_000_000 } else { 0 }
    }

    pub(super) fn pack(&self, node: NodeId, needs: &Needs) -> i64 {
        let host = &self.hosts[node.get() as usize];
        if needs.gpus.count == 0 {
            return 0;
        }
        let whole = host.devices.iter().filter(|d| d.share == 1_000).count();
        if whole == host.devices.len() {
            let free = i64::try_from(whole).unwrap_or(0);
            return (33 - free).max(free);
        }
        let mask = self.tightest(node, needs).unwrap_or(0);
        let chosen = host.devices.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1);
        let shares: Vec<u64> = chosen.map(|(_, device)| device.share).collect();
        let fresh = shares.iter().filter(|share| **share == 1_000).count();
        if fresh > 0 {
            return (50 - i64::try_from(fresh).unwrap_or(0)).max(33);
        }
        // Free percent of each device, without fractions.
        let percent: u64 = shares.iter().map(|share| share / 10).sum();
        (100 - i64::try_from(percent / 10).unwrap_or(0)).max(50)
    }
}

fn clustering(host: &Host, needs: &Needs) -> i64 {
    if needs.gpus.count == 0 {
        return 0;
    }
    let kind = if needs.gpus.share.get() < 1_000 { 255 } else { needs.gpus.count };
    let base = match (host.kinds.len(), host.kinds.contains_key(&kind)) {
        (0, _) => 25,
        (1, true) => 75,
        (_, true) => 50,
        (_, false) => 0,
    };
    base + 25 * (8_000 - i64::try_from(host.free[3]).unwrap_or(0)) / 8_000
}
