//! The driver of real machines: the core that was simulated, over real processes.
//!
//! [`daemon`] drives the coordinator's half: one loop over [`gridcore::grid::Grid`] and its
//! journal, lines to the nodes, an API. [`agent`] drives the node's half on every machine, and a
//! shim keeps each attempt's process tree. [`client`] asks the daemon. A configuration is a
//! scenario file.
#![forbid(unsafe_code)]

pub mod agent;
pub mod client;
pub mod clock;
pub mod daemon;
pub mod frame;
pub mod program;

use gridsim::run::RunError;
use gridsim::scenario::build::build;
use gridsim::scenario::schema::EstimatesName;
use gridsim::scenario::{Fault, Loaded, ScenarioError, load};
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

/// Reads a configuration: a scenario file, of which only nodes, accounts, pools and rules count, so
/// it needs no work and no end.
///
/// # Errors
/// When it cannot be read, or is no configuration.
pub fn read(path: &Path, sets: &[String]) -> Result<Loaded, ScenarioError> {
    let mut loaded = load(path, sets)?;
    let estimates = loaded.scenario.execution.scheduling.estimates;
    if estimates == Some(EstimatesName::Clairvoyant) {
        let key = "execution.scheduling.estimates".to_owned();
        let what = "nobody knows how long real jobs will run: leave it at `requested`".to_owned();
        return Err(ScenarioError::Key(path.to_owned(), Fault { key, what }));
    }
    let hour = gridsim::decimal::Seconds(gridcore::units::Span::minutes(60));
    loaded.scenario.horizon_seconds.get_or_insert(hour);
    Ok(loaded)
}

/// Checks a configuration file without starting anything.
///
/// # Errors
/// When the file cannot be read, is no configuration, or the core refuses it.
pub fn check(path: &Path) -> Result<Described, RunError> {
    let loaded = read(path, &[])?;
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
