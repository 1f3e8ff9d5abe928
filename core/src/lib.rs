//! gridcore
#![no_std]
#![forbid(unsafe_code, clippy::float_arithmetic)]
#![deny(clippy::indexing_slicing, clippy::expect_used)]
extern crate alloc;
pub mod bundle;
pub mod ids;
pub mod units;
