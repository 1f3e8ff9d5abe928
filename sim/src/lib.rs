//! gridsim
#![forbid(unsafe_code)]
pub mod decimal;
pub mod generate;
pub mod record;
pub mod rng;
pub mod trace;
pub mod work;
