//! What changed since the last scheduling pass, and what that pass left: by this the next entry
//! leaves a pass out, or asks only who has begun to wait.

use crate::ids::{JobId, NodeId, TransferId};
use crate::units::Time;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What changed since the last scheduling pass that one could act on, and what that pass left.
///
/// It is part of the state, so a core that was restored leaves out the same passes as the original:
/// what time alone would let another pass decide otherwise waits for the next change in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    #[serde(skip)]
    notes: Notes,
    entered: Vec<JobId>,
    stirred: bool,
    /// Where the ledger stood when the last pass first refused a job that credit may let start; no
    /// pass is left out once it stands elsewhere.
    pub refused_at: Option<TransferId>,
    /// The job whose place was the only one that the last pass kept, and until when the same place
    /// would be kept anew, as long as nothing but starts beside it changes.
    pub stands: Option<(JobId, Time)>,
}

/// Nodes whose free capacity changed, and nodes that are to be sent something. Derived, and of no
/// use between entries: the index of a restored core knows all that the first would tell it.
#[derive(Clone, Debug, Default)]
struct Notes {
    log: Vec<NodeId>,
    told: Vec<NodeId>,
}

impl PartialEq for Notes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Notes {}

impl Default for Changed {
    fn default() -> Self {
        Self {
            notes: Notes::default(),
            entered: Vec::new(),
            stirred: true,
            refused_at: None,
            stands: None,
        }
    }
}

impl Changed {
    /// Notes that a node's free capacity changed.
    pub fn note(&mut self, node: NodeId) {
        self.notes.log.push(node);
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
        self.notes.told.push(node);
    }

    /// Takes the nodes that are to be sent something.
    pub fn take_told(&mut self) -> Vec<NodeId> {
        core::mem::take(&mut self.notes.told)
    }

    /// Returns whether any node's free capacity has been noted.
    #[must_use]
    pub fn is_noted(&self) -> bool {
        !self.notes.log.is_empty()
    }

    /// Takes all notes.
    pub fn drain(&mut self) -> impl Iterator<Item = NodeId> {
        self.notes.log.drain(..)
    }
}
