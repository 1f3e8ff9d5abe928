//! Tags: words by which jobs say what they are, counted where they run.
//!
//! A node and a pool count the members that run there by tag; nothing is kept where nobody uses
//! tags. Invariant: the counts equal the sum over the leases that hold capacity there.

use alloc::collections::BTreeMap;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// Most tags that a job may have, and most that it may ask for or avoid.
pub const TAGS_MAX: usize = 64;

/// How many members run that carry each tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tags(BTreeMap<String, u64>);

impl Tags {
    /// Counts one member in.
    pub fn enter(&mut self, tags: &[String]) {
        for tag in tags {
            match self.0.get_mut(tag) {
                Some(count) => *count += 1,
                None => {
                    self.0.insert(tag.clone(), 1);
                }
            }
        }
    }

    /// Counts one member out.
    ///
    /// # Panics
    /// When it was not counted in: our bug.
    pub fn leave(&mut self, tags: &[String]) {
        for tag in tags {
            let count = self.0.get_mut(tag);
            assert!(count.as_ref().is_some_and(|n| **n > 0), "a member is counted out once");
            if let Some(count) = count {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(tag);
                }
            }
        }
    }

    /// Returns how many members run that carry a tag.
    #[must_use]
    pub fn count(&self, tag: &str) -> u64 {
        self.0.get(tag).copied().unwrap_or(0)
    }

    /// Returns whether any of these tags is counted.
    #[must_use]
    pub fn has_any(&self, tags: &[String]) -> bool {
        !self.0.is_empty() && tags.iter().any(|tag| self.has(tag))
    }

    /// Returns whether any member runs that carries a tag.
    #[must_use]
    pub fn has(&self, tag: &str) -> bool {
        self.0.contains_key(tag)
    }
}

/// Returns whether two lists of tags have one in common.
#[must_use]
pub fn meet(a: &[String], b: &[String]) -> bool {
    a.iter().any(|tag| b.contains(tag))
}
