//! Generators of workloads, owners' load and failures.
//!
//! A generator is a plain description that a scenario file holds, and a seed. Every purpose draws
//! from its own stream (`arrivals`, `classes`, `accounts`, `durations`, ...), so that a change to
//! one does not shift the others. Floats live inside one sample only: each is rounded at once to
//! milliseconds or basis points, in `sample.rs`.

pub mod arrivals;
pub mod faults;
pub mod jobs;
pub mod lasting;
pub mod load;
mod sample;
pub mod weather;

pub use jobs::{Generator, generate};

/// What is wrong with the description of a generator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {what}")]
pub struct GenerateError {
    /// The key, from the generator down, such as `classes.0.duration.sigma`.
    pub key: Box<str>,
    /// What is wrong with its value, and what it may be.
    pub what: Box<str>,
}

impl GenerateError {
    /// Makes an error at a key.
    fn at(key: impl Into<Box<str>>, what: impl Into<Box<str>>) -> Self {
        Self { key: key.into(), what: what.into() }
    }
}
