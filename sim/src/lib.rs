//! gridsim
#![forbid(unsafe_code)]
pub mod page;
pub mod picture;
pub mod record;
pub mod work;
