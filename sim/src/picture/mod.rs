//! Pictures of a run: pure functions from its record to SVG, and from SVG to PNG.
//!
//! A picture reads the record and nothing else: no clock, no path, no installed font, so the same
//! run always draws the same bytes. A function returns `None` where the record has nothing to
//! show. Floats are allowed here, because nothing that decides reads a picture. Capacity lent to a
//! band has the same colour everywhere.

mod canvas;
mod cdf;
pub(crate) mod colour;
pub mod compare;
pub(crate) mod credit;
pub(crate) mod encode;
mod fill;
mod frame;
pub mod front;
mod gantt;
mod heat;
pub mod matrix;
pub(crate) mod number;
pub(crate) mod price;
#[cfg(feature = "png")]
mod raster;
pub(crate) mod series;
pub(crate) mod stack;
pub(crate) mod svg;
mod text;
mod ticks;

use crate::record::RunRecord;

pub(crate) use cdf::{quantile, slowdown, wait};
pub use cdf::{slowdown_cdf, wait_cdf};
pub use credit::{credit, flows};
pub use fill::fill;
pub use gantt::gantt;
pub use heat::{lending, pressure};
pub use price::price;
#[cfg(feature = "png")]
pub use raster::{Letters, PngError};
pub use stack::{offers, queue, utilisation};
pub use svg::{Svg, escape};

/// Draws one picture of a run, or nothing where the run has nothing to show in it.
pub type Draw = fn(&RunRecord) -> Option<Svg>;

/// All pictures of one run with the stems of their files, in the order in which a page shows them.
pub const ALL: [(&str, Draw); 12] = [
    ("utilisation", utilisation),
    ("queue", queue),
    ("wait-cdf", wait_cdf),
    ("slowdown-cdf", slowdown_cdf),
    ("fill", fill),
    ("pressure", pressure),
    ("lending", lending),
    ("gantt", gantt),
    ("offers", offers),
    ("price", price),
    ("credit", credit),
    ("flows", flows),
];
