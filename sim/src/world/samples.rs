//! What machines feel: failures, and what their owners use.

use super::World;
use super::tally::{Which, owner_amounts, triple};
use crate::kernel::Class;
use gridcore::command::{Command, GpuSample, Report, Sample};
use gridcore::ids::NodeId;
use gridcore::station::Event;
use gridcore::units::{Span, Time};

impl World {
    /// Lets a node fail or return.
    pub(super) fn fault(&mut self, index: u64) {
        let fault = usize::try_from(index).ok().and_then(|i| self.faults.get(i).copied());
        let Some(fault) = fault else { return };
        let node = NodeId::new(fault.node);
        let was_up = self.grid.state().nodes[node].up;
        if was_up == fault.up {
            return;
        }
        let hardware = triple(&self.grid.state().nodes[node].spec.capacity);
        let (old, new) = if fault.up { ([0; 3], hardware) } else { (hardware, [0; 3]) };
        self.tally.replace(Which::Capacity, old, new);
        let owner = owner_amounts(&self.grid.state().nodes[node]);
        self.tally.replace(Which::Owner, owner, [0; 3]);
        self.begin_node(node);
        let report = if fault.up { Report::NodeUp { node } } else { Report::NodeDown { node } };
        self.report(report);
        if fault.up && !self.grid.state().nodes[node].spec.dedicated {
            self.report_sample(node);
        }
    }

    /// Reports what an owner uses from now on and schedules the next change.
    pub(super) fn sample(&mut self, node: u64) {
        let id = NodeId::new(u32::try_from(node).unwrap_or(u32::MAX));
        if self.far.is_some() {
            self.sample_again(id);
        } else if self.grid.state().nodes[id].up {
            self.report_sample(id);
        }
        let interval = self.grid.state().rules.poll();
        let Some(feed) = self.feeds.get_mut(id.get() as usize) else { return };
        feed.advance(self.now);
        let next = feed.next_change(interval);
        if next < Time::MAX {
            self.events.push(next.max(self.now.after(Span::new(1))), Class::Sample, node);
        }
    }

    /// Returns whether a node has GPUs.
    pub(super) fn has_gpus(&self, node: NodeId) -> bool {
        self.grid.state().nodes.find(node).is_some_and(|node| !node.gpus.is_empty())
    }

    /// Lets a node see what its owner uses now; once the weather is over, nothing.
    pub(super) fn sample_again(&mut self, node: NodeId) {
        let Some(far) = &self.far else { return };
        let healed = self.now >= far.network.heals;
        let shared = self.station(node).is_some_and(|station| !station.machine.dedicated);
        let lost = self.host(node).map(|host| host.gpu_lost_until);
        let lost = lost.filter(|until| *until > Time::ZERO);
        let gpus = self.grid.state().nodes[node].gpus.len();
        let Some(feed) = self.feeds.get_mut(node.get() as usize) else { return };
        feed.advance(self.now);
        let mut sample = Sample::default();
        feed.write(&mut sample);
        if healed {
            let gpus = sample.gpus.len();
            sample = Sample { gpus: vec![GpuSample::default(); gpus], ..Sample::default() };
        }
        if let Some(until) = lost {
            sample.gpus.resize(gpus, GpuSample::default());
            if until > self.now {
                // It keeps its number, and says nothing.
                sample.gpus.iter_mut().take(1).for_each(|gpu| gpu.foreign = true);
            }
        }
        self.write_use(node, &mut sample);
        if (shared || lost.is_some() || self.says_use) && self.runs(node) {
            self.happen(node, Event::Sample(sample));
        }
    }

    /// Reports one sample.
    fn report_sample(&mut self, node: NodeId) {
        if let Some(feed) = self.feeds.get_mut(node.get() as usize) {
            feed.advance(self.now);
        }
        self.report_again(node);
    }

    /// Reports what an owner uses by the last look at him, and leases of the GPUs by now.
    pub(super) fn report_again(&mut self, node: NodeId) {
        let Some(feed) = self.feeds.get(node.get() as usize) else { return };
        let mut sample = std::mem::take(&mut self.sample);
        feed.write(&mut sample);
        self.write_use(node, &mut sample);
        let report = Report::Sample { node, sample };
        let before = owner_amounts(&self.grid.state().nodes[node]);
        let entry = self.entry(Command::Report(report));
        let applied = self.apply_entry(&entry);
        debug_assert!(applied.is_some(), "a coordinator without a network always answers");
        if let Command::Report(Report::Sample { sample, .. }) = entry.command
            && let Some(Event::Sample(sample)) = self.happen(node, Event::Sample(sample))
        {
            self.sample = sample;
        }
        let after = owner_amounts(&self.grid.state().nodes[node]);
        self.tally.replace(Which::Owner, before, after);
    }
}
