//! gridsim
#![forbid(unsafe_code)]
pub mod picture;
pub mod record;
pub mod work;
