//! gridsim
#![forbid(unsafe_code)]
pub mod decimal;
pub mod record;
pub mod rng;
pub mod work;
