//! gridsim
#![forbid(unsafe_code)]
pub mod record;
pub mod work;
