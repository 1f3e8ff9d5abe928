//! The core of grid: who lends, who borrows, who goes first, who pays.
//!
//! Pure and deterministic: no clock, no randomness, no file, no float. [`grid::Grid::apply`] is the
//! coordinator's only way in; it takes one [`command::Entry`] at a time and appends what is to be
//! done to a list of [`effect::Effect`]s. Every node has a [`station::Station`] of the same
//! kind. The simulator and the daemon drive the very same code. Read it from the top down:
//!
//! | floor | modules |
//! |--:|---|
//! | 8 | [`grid`] the coordinator's door and match; [`station`] the node's |
//! | 7 | [`verbs`] every way in which the state changes |
//! | 6 | [`placement`] [`index`] where a job goes; [`endings`] when what runs ends; [`shadow`] [`kept`] where it could go later; [`preempt`] who makes way; [`rebalance`] what moves; [`idle`] who leaves GPUs idle; [`confidence`] how sure it is to stay; [`charges`] what it costs; [`caps`] what nobody may have more of; [`explain`] why it waits; [`invariants`] what must always hold; [`snapshot`] the state as bytes |
//! | 5 | [`state`] the tables together |
//! | 4 | [`nodes`] [`reputation`] [`load`] [`offers`] [`shapes`] [`jobs`] [`queue`] [`leases`] [`ledger`] [`epoch`] [`karma`] [`price`] [`tariff`] [`due`] [`changed`] [`links`] [`clients`] [`rate`] [`urgent`] |
//! | 3 | [`config`] [`command`] [`effect`] [`deny`] [`blocker`] [`forecast`] [`pressure`] [`trend`] [`usage`] [`meter`] [`wire`] [`encode`] [`decode`] |
//! | 2 | [`bundle`] [`flat`] [`rows`] [`tags`] |
//! | 1 | [`units`] [`ids`] [`share`] [`canary`]; [`legacy`] the first allocator's arithmetic, which nothing uses |
//!
//! A module uses only what is below it, or on its own floor without a circle; a test reads this
//! table's twin and the imports.
#![no_std]
#![forbid(unsafe_code, clippy::float_arithmetic)]
#![deny(clippy::indexing_slicing, clippy::expect_used)]

extern crate alloc;

pub mod blocker;
pub mod bundle;
pub mod canary;
pub mod caps;
pub mod changed;
pub mod charges;
pub mod clients;
pub mod command;
pub mod confidence;
pub mod config;
pub mod decode;
pub mod deny;
pub mod due;
pub mod effect;
pub mod encode;
pub mod endings;
pub mod epoch;
pub mod explain;
pub mod flat;
pub mod forecast;
pub mod grid;
pub mod idle;
pub mod ids;
pub mod index;
pub mod invariants;
pub mod jobs;
pub mod karma;
pub mod kept;
pub mod leases;
pub mod ledger;
pub mod legacy;
pub mod links;
pub mod load;
pub mod meter;
pub mod nodes;
pub mod offers;
pub mod placement;
pub mod preempt;
pub mod pressure;
pub mod price;
pub mod queue;
pub mod rate;
pub mod rebalance;
pub mod reputation;
pub mod rows;
pub mod shadow;
pub mod shapes;
pub mod share;
pub mod snapshot;
pub mod state;
pub mod station;
pub mod tags;
pub mod tariff;
pub mod trend;
pub mod units;
pub mod urgent;
pub mod usage;
pub mod verbs;
pub mod wire;
