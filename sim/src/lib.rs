//! A simulated cluster around [`gridcore`]: what you simulate is what you deploy.
//!
//! | floor | modules |
//! |--:|---|
//! | 7 | [`cli`] the command line |
//! | 6 | [`run`] one run from a file to its results; [`compare`] several side by side; [`sweep`] many combinations of rules; [`swarm`] random clusters in foul weather; [`validate`] a scenario's rules in it |
//! | 5 | [`output`] the files a run leaves |
//! | 4 | [`page`] its report; [`metrics`] what it comes to |
//! | 3 | [`world`] the event loop; [`picture`] figures |
//! | 2 | [`scenario`] files to everything a run needs; [`draw`] parts of it, drawn |
//! | 1 | [`trace`] [`generate`] work, load and faults, read or drawn |
//! | 0 | [`kernel`] the event queue; [`record`] rows of a run; [`work`] its input; [`journal`] its history |
//! | 0 | [`rng`] [`decimal`] [`json`] [`clock`] |
#![forbid(unsafe_code)]

pub mod cli;
pub mod clock;
pub mod compare;
pub mod decimal;
pub mod draw;
pub mod generate;
pub mod journal;
pub mod json;
pub mod kernel;
pub mod metrics;
pub mod output;
pub mod page;
pub mod picture;
pub mod record;
pub mod rng;
pub mod run;
pub mod scenario;
pub mod swarm;
pub mod sweep;
pub mod trace;
pub mod validate;
pub mod work;
pub mod world;
