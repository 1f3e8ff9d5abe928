//! What changed since the last scheduling pass, which the next one must look at. Derived, and no
//! part of the digest.

use crate::ids::{JobId, NodeId};
use alloc::vec::Vec;

/// What changed since the last scheduling pass: nodes whose free capacity did, and whether anything
/// did that a pass could act on. It never decides, so it is equal to any other: a pass that is left
/// out would have changed nothing.
#[derive(Clone, Debug)]
pub struct Changed {
    log: Vec<NodeId>,
    told: Vec<NodeId>,
    entered: Vec<JobId>,
    stirred: bool,
}

impl Default for Changed {
    fn default() -> Self {
        Self { log: Vec::new(), told: Vec::new(), entered: Vec::new(), stirred: true }
    }
}

impl PartialEq for Changed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Changed {}

impl Changed {
    /// Notes that a node's free capacity changed.
    pub fn note(&mut self, node: NodeId) {
        self.log.push(node);
        self.stirred = true;
    }

    /// Notes that who waits, who goes first, or when somebody may try again, changed.
    pub fn stir(&mut self) {
        self.stirred = true;
    }

    /// Notes that a job has begun to wait.
    pub fn enter(&mut self, job: JobId) {
        if !self.stirred {
            self.entered.push(job);
        }
    }

    /// Returns whether a job has begun to wait since the last pass.
    #[must_use]
    pub fn has_entered(&self) -> bool {
        !self.entered.is_empty()
    }

    /// Takes one of the jobs that have begun to wait since the last pass.
    pub fn pop_entered(&mut self) -> Option<JobId> {
        self.entered.pop()
    }

    /// Notes that a pass has done all it could, or that it has not.
    pub fn settle(&mut self, done: bool) {
        self.stirred = !done;
        self.entered.clear();
    }

    /// Returns whether a pass could change anything.
    #[must_use]
    pub fn is_stirred(&self) -> bool {
        self.stirred
    }

    /// Notes that a node is to be sent something with the end of this entry.
    pub fn tell(&mut self, node: NodeId) {
        self.told.push(node);
    }

    /// Takes the nodes that are to be sent something.
    pub fn take_told(&mut self) -> Vec<NodeId> {
        core::mem::take(&mut self.told)
    }

    /// Returns whether any node's free capacity has been noted.
    #[must_use]
    pub fn is_noted(&self) -> bool {
        !self.log.is_empty()
    }

    /// Takes all notes.
    pub fn drain(&mut self) -> impl Iterator<Item = NodeId> {
        self.log.drain(..)
    }
}
