//! The verbs: every way in which a state changes.
//!
//! Each verb looks up, refuses, and then changes, in this order. Verbs join tables; a table never
//! does. Nothing here reads a clock or keeps anything of its own.

mod backfill;
mod check;
mod claims;
mod elastic;
mod entered;
pub mod epoch;
pub mod grant;
mod health;
mod idle;
pub mod nominate;
mod offering;
pub mod pass;
mod price;
pub mod protocol;
mod quantum;
mod rebalance;
pub mod release;
mod reputation;
mod requests;
pub mod status;
pub mod submit;
pub mod terms;
mod urgent;
pub mod waiting;

use crate::effect::Effect;
use crate::index::Index;
use crate::state::State;
use alloc::vec::Vec;

/// What a verb works on.
#[derive(Debug)]
pub struct Work<'a> {
    /// The state.
    pub state: &'a mut State,
    /// The placement index.
    pub index: &'a mut Index,
    /// Where effects go.
    pub effects: &'a mut Vec<Effect>,
}
