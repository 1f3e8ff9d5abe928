//! A simulated cluster around [`gridcore`]: what you simulate is what you deploy.
//!
//! | floor | modules |
//! |--:|---|
//! | 7 | [`cli`] the command line |
//! | 6 | [`compare`] several runs side by side; [`run`] one run from a file to its results |
//! | 5 | [`output`] the files a run leaves; [`page`] its report |
//! | 4 | [`world`] the event loop; [`metrics`] what a run comes to; [`picture`] its figures |
//! | 3 | [`scenario`] files to everything a run needs |
//! | 2 | [`trace`] [`generate`] work, load and faults, read or drawn |
//! | 1 | [`kernel`] the event queue; [`rng`] [`decimal`] [`work`] [`record`] [`transfers`] [`clock`] [`json`] |
#![forbid(unsafe_code)]

pub mod cli;
pub mod clock;
pub mod compare;
pub mod decimal;
pub mod generate;
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
pub mod trace;
pub mod transfers;
pub mod work;
pub mod world;
