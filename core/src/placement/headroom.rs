//! The strategy `headroom`: place where the room for further tasks of all kinds shrinks least.
//!
//! The headroom H of a node is the sum over the class table of how often a class was counted times
//! the square root of how many more of its tasks the node could take. The root makes the last place
//! of one class weigh more than one of many of another, so classes that few nodes can take (whole
//! GPUs, rare models, much CPU) keep theirs; and a node that runs out of CPU beside free devices
//! loses the places of all. A node's score is less by one for every doubling of what is lost:
//! losses of one size are equal, so the order of equals fills the same nodes first. The devices are
//! those that lose least. The table is that of `fgd`; how it is used is this project's own.

use super::fgd::Room;
use crate::bundle::Needs;
use crate::config::{FGD_CLASSES_MAX, TaskClass};
use crate::nodes::Node;
use alloc::vec::Vec;

/// Roots of so many numbers of tasks are kept.
const ROOTS: usize = 256;
/// Roots are in parts of 2^10.
const FINE: u32 = 20;

/// The class table, prepared.
#[derive(Clone, Debug)]
pub struct Headroom {
    /// The shares of a device that classes ask for, each once.
    shares: Vec<u32>,
    classes: Vec<Class>,
    /// Square roots in parts of 2^10.
    roots: Vec<u64>,
}

/// One class of tasks.
#[derive(Clone, Debug)]
struct Class {
    cpu: u64,
    gpus: u64,
    /// The place of its share among the shares.
    share: usize,
    count: u64,
}

impl Headroom {
    /// Prepares a class table.
    #[must_use]
    pub fn new(classes: &[TaskClass]) -> Self {
        let share = |class: &TaskClass| u32::from(class.gpus.share.get());
        let mut shares: Vec<u32> = classes.iter().map(share).filter(|share| *share > 0).collect();
        shares.sort_unstable();
        shares.dedup();
        let prepared = classes.iter().map(|class| Class {
            cpu: class.cpu.get(),
            gpus: u64::from(class.gpus.count),
            share: shares.binary_search(&share(class)).unwrap_or(0),
            count: u64::from(class.count),
        });
        let (classes, roots) = (prepared.collect(), (0..ROOTS as u64).map(root).collect());
        Self { shares, classes, roots }
    }

    /// Returns the score of placing `needs` on a node where it fits, at most 0, and the devices to
    /// use; `runnable` says which classes the node's GPU model lets run.
    #[must_use]
    pub fn place(&self, node: &Node, runnable: u64, needs: &Needs) -> (i64, u64) {
        let mut room = Room::of(node, runnable);
        let before = self.headroom(&room);
        room.cpu = room.cpu.saturating_sub(needs.cpu.get());
        let (loss, devices) = if needs.gpus.count == 1 && !needs.gpus.is_exclusive() {
            self.least_loss(node, &room, needs, before)
        } else {
            let devices = super::tightest(node, needs.gpus);
            room.take(devices, needs.gpus.share);
            (before.saturating_sub(self.headroom(&room)), devices)
        };
        (-i64::from(u64::BITS - loss.leading_zeros()), devices)
    }

    /// Returns the least that is lost of a headroom by a part of one device, and that device.
    fn least_loss(&self, node: &Node, room: &Room, needs: &Needs, before: u64) -> (u64, u64) {
        let mut best: Option<(u64, u64)> = None;
        let fitting = (0..room.len).filter(|i| node.gpu_fits(*i, needs.gpus));
        for i in fitting {
            let free = room.gpus.get(i);
            if room.gpus.iter().take(i).any(|other| Some(other) == free) && best.is_some() {
                // It is like one before it.
                continue;
            }
            let mut after = room.clone();
            after.take(1 << i, needs.gpus.share);
            let loss = before.saturating_sub(self.headroom(&after));
            if best.is_none_or(|(least, _)| loss < least) {
                best = Some((loss, 1 << i));
            }
        }
        best.unwrap_or_default()
    }

    /// Returns H in parts of 2^10 of a task.
    fn headroom(&self, room: &Room) -> u64 {
        // How many parts of each size the devices hold.
        let mut parts = [0_u64; FGD_CLASSES_MAX];
        for free in room.gpus.iter().take(room.len).filter(|free| **free > 0) {
            for (slot, share) in parts.iter_mut().zip(&self.shares) {
                *slot += u64::from(u32::from(*free) / *share);
            }
        }
        let tasks = |class: &Class| {
            let parts = parts.get(class.share).copied().unwrap_or(0);
            let by_gpu = parts.checked_div(class.gpus).unwrap_or(u64::MAX);
            by_gpu.min(room.cpu.checked_div(class.cpu).unwrap_or(u64::MAX))
        };
        let runs = self.classes.iter().enumerate().filter(|(i, _)| room.runnable & 1 << i != 0);
        // A class that needs neither takes nothing from anyone.
        let counted =
            runs.map(|(_, class)| (tasks(class), class.count)).filter(|(n, _)| *n < u64::MAX);
        counted.map(|(tasks, count)| count.saturating_mul(self.root(tasks))).sum()
    }

    fn root(&self, tasks: u64) -> u64 {
        let kept = usize::try_from(tasks).ok().and_then(|tasks| self.roots.get(tasks));
        kept.copied().unwrap_or_else(|| root(tasks))
    }
}

/// Returns a square root in parts of 2^10, rounded down.
fn root(tasks: u64) -> u64 {
    (tasks << FINE).isqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{Bundle, GpuNeed};
    use crate::config::NodeSpec;
    use crate::units::{Bytes, MilliCores, PerMille};

    fn need(cores: u32, count: u8, share: u16) -> Needs {
        let gpus = GpuNeed { count, share: PerMille::new(share), memory: Bytes::ZERO };
        Needs { cpu: MilliCores::whole(cores), gpus, ..Needs::default() }
    }

    fn class(cores: u32, count: u8, share: u16, counted: u32) -> TaskClass {
        let Needs { cpu, gpus, .. } = need(cores, count, share);
        TaskClass { cpu, gpus, models: Vec::new(), count: counted }
    }

    fn node(cores: u32, gpus: u8, used: &[(Needs, u64)]) -> Node {
        let capacity = Bundle { memory: Bytes::gib(64), ..Bundle::cpu(MilliCores::whole(cores)) };
        let spec = NodeSpec::dedicated("n", capacity).with_gpus(gpus, Bytes::gib(16));
        let mut node = Node::new(spec).emptied();
        for (needs, devices) in used {
            node.claim(needs, *devices);
        }
        node
    }

    #[test]
    fn headroom_is_the_root_of_the_tasks_that_fit_by_gpu_and_cpu() {
        let rule = Headroom::new(&[class(2, 1, 1_000, 3), class(1, 1, 300, 1), class(4, 0, 0, 5)]);
        let of = |node: &Node, runnable| rule.headroom(&Room::of(node, runnable));
        let root = |tasks: u64| root(tasks);
        // 4 whole ones; 4 x 3 parts; 16 cores for 4 of the last.
        let free = node(16, 4, &[]);
        assert_eq!(of(&free, 0b111), 3 * root(4) + root(12) + 5 * root(4));
        assert_eq!(of(&free, 0b010), root(12));
        // One device of 500 left of 1,000 holds one part; 5 cores hold two, five and one.
        let used = node(16, 4, &[(need(11, 1, 500), 1)]);
        assert_eq!(of(&used, 0b111), 3 * root(2) + root(5) + 5 * root(1));
        assert_eq!((root(4), super::root(1 << 22)), (2 << 10, 1 << 21));
    }

    #[test]
    fn a_part_goes_where_whole_devices_are_kept_and_cpu_is_left_for_them() {
        let rule = Headroom::new(&[class(4, 1, 1_000, 10), class(1, 1, 500, 10)]);
        let score = |node: &Node, needs: &Needs| rule.place(node, u64::MAX, needs);
        let half = need(1, 1, 500);
        let (fresh, begun) = (node(16, 2, &[]), node(16, 2, &[(half, 2)]));
        // The second half of a device costs no whole one.
        assert!(score(&begun, &half).0 > score(&fresh, &half).0);
        assert_eq!(score(&begun, &half).1, 2);
        // Compute that no device can do without is dearer than compute to spare.
        let compute = need(8, 0, 0);
        let (short, spare) = (node(8, 2, &[]), node(64, 2, &[]));
        assert!(score(&spare, &compute).0 > score(&short, &compute).0);
        assert_eq!(score(&spare, &compute), (0, 0));
        // Equal by the size of what is lost, which is all that counts.
        assert_eq!(score(&fresh, &need(4, 2, 1_000)).1, 0b11);
    }

    #[test]
    fn without_a_table_every_node_is_as_good() {
        let rule = Headroom::new(&[]);
        assert_eq!(rule.place(&node(8, 2, &[]), u64::MAX, &need(1, 1, 500)), (0, 1));
    }
}
