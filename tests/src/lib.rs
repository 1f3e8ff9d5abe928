//! The test house of grid: a kit that every test builds on.
//!
//! | module | what it is for |
//! |---|---|
//! | [`cluster`] | small configurations by hand |
//! | [`world`] | a driver of the core that answers effects as machines would, and checks every entry |
//! | [`anew`] | plays a history again, restored before every entry |
//! | [`text`] | effects and refusals as one line of text |
//! | [`generate`] | generated configurations and histories |
//! | [`follow`] | plays a history on the core and the model side by side |
//! | [`model`] | the slow, obvious scheduler that the core is compared with |
//! | [`fuzz`] | fuzz targets for every message and store record, and what they are thrown at |
//! | [`script`] | golden scripts: what goes in, `----`, what comes out |
//! | [`run`] | seeded runs of generated cases, and the counts that the last page of a test run shows |
#![forbid(unsafe_code)]

pub mod anew;
pub mod cluster;
pub mod follow;
pub mod fuzz;
pub mod generate;
pub mod model;
pub mod run;
pub mod script;
pub mod text;
pub mod world;
