//! What leases use of GPUs, as their machines see it. Only jobs that say `gpu_use` use a known
//! part; where none says it, nothing here does anything.

use super::World;
use super::network::Todo;
use super::pace::{Doing, Process};
use gridcore::command::Sample;
use gridcore::effect::EvictionReason;
use gridcore::ids::{LeaseId, NodeId};
use gridcore::units::BasisPoints;

impl World {
    /// Lets a machine look at its GPUs because one of its processes begins, stops or ends.
    pub(super) fn look_again(&mut self, index: usize) {
        let Some(process) = self.processes.get(&index).filter(|_| self.says_use) else { return };
        let row = self.record.jobs.get(process.row as usize);
        if row.is_some_and(|row| !row.needs.gpu.is_zero()) {
            self.later(self.now, Todo::Look(process.node));
        }
    }

    /// Lets a machine tell what its leases use of its GPUs now.
    pub(super) fn look(&mut self, node: NodeId) {
        if self.far.is_some() {
            self.sample_again(node);
        } else if self.grid.state().nodes[node].up {
            self.report_again(node);
        }
    }

    /// Writes into a sample what the leases on a machine use of its GPUs: the sum over those that
    /// hold part of a device, unless one of them does not say it.
    pub(super) fn write_use(&self, node: NodeId, sample: &mut Sample) {
        let Some(station) = self.station(node).filter(|_| self.says_use) else { return };
        let mut known = u64::MAX;
        for (lease, held) in station.leases.iter() {
            let devices = held.start.devices;
            let process = self.process_on(node, *lease).and_then(|i| self.processes.get(&i));
            let Some(process) = process.filter(|process| process.is_alive()) else { continue };
            let Some(part) = self.use_of(process) else {
                known &= !devices;
                continue;
            };
            let its = sample.gpus.iter_mut().enumerate().filter(|(i, _)| devices & 1 << i != 0);
            for (_, gpu) in its {
                let sum = gpu.leased.unwrap_or_default().saturating_add(part).capped();
                gpu.leased = Some(sum);
            }
        }
        for (i, gpu) in sample.gpus.iter_mut().enumerate() {
            gpu.leased = gpu.leased.filter(|_| known & 1 << i != 0);
        }
    }

    /// Returns what a process uses of each of its GPUs, if its job says it: nothing while it is
    /// stopped.
    fn use_of(&self, process: &Process) -> Option<BasisPoints> {
        let part = self.gpu_use(process.row)?;
        let works = matches!(process.doing, Doing::Working(_));
        Some(if works { part } else { BasisPoints::ZERO })
    }

    /// Notes that a lease is warned.
    pub(super) fn warned(&mut self, lease: LeaseId) {
        self.decide("warn", lease, None);
        // It is not told to leave: the reason is what it is warned of.
        if let Some(row) = self.record.decisions.last_mut().filter(|row| row.kind == "warn") {
            EvictionReason::IdleTimeout.name().clone_into(&mut row.reason);
        }
        if let Some(far) = &mut self.far {
            far.count("idle_warned");
        }
    }

    /// Nobody who uses its GPUs is told to leave them, nor who has not had them for long enough: by
    /// what the job really does, whatever the halves have told each other.
    pub(super) fn check_idle(&mut self, id: LeaseId, reason: EvictionReason) {
        let Some(lease) = self.grid.state().leases.get(&id).filter(|_| self.check) else { return };
        if reason != EvictionReason::IdleTimeout {
            return;
        }
        let rules = &self.grid.state().rules.utilization;
        let row = u32::try_from(self.row(lease.job)).unwrap_or(u32::MAX);
        let part = self.gpu_use(row);
        let had = self.grid_now().since(lease.granted);
        let long = rules.reclaim_after.is_some_and(|after| had >= after);
        // Suspended, it stood still whatever it says.
        let stood = lease.suspended.is_some() || !lease.stood.is_zero();
        let idle = stood || part.is_some_and(|part| part < rules.gpu_min);
        if let Some(far) = &mut self.far {
            far.count("idle_reclaimed");
        }
        if !long || !idle {
            self.broken.push(format!("[idle] {id} uses {part:?} and had its GPUs for {had:?}"));
        }
    }
}
