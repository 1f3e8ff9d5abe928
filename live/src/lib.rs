//! The driver of real machines. So far it reads what it will run: a configuration is a scenario
//! file, checked by the same schema and the same core.
#![forbid(unsafe_code)]

use gridsim::run::RunError;
use gridsim::scenario::build::build;
use gridsim::scenario::load;
use gridsim::world::World;
use std::path::Path;

/// What a configuration describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// Nodes.
    pub nodes: usize,
    /// Pools.
    pub pools: usize,
    /// Accounts.
    pub accounts: usize,
}

/// Checks a configuration file without starting anything.
///
/// # Errors
/// When the file cannot be read, is no configuration, or the core refuses it.
pub fn check(path: &Path) -> Result<Described, RunError> {
    let loaded = load(path, &[])?;
    let setup = build(&loaded, loaded.scenario.seed)?;
    let config = &setup.config;
    let described = Described {
        nodes: config.nodes.len(),
        pools: config.pools.len(),
        accounts: config.accounts.len(),
    };
    World::new(setup)?;
    Ok(described)
}
