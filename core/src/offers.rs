//! Offers: what a node lends to its pool until a stated end.
//!
//! An offer's `total` counts everything the node lends now, the leased part included. What is free
//! is never stored: it is the total less what is leased and claimed, so it cannot be counted twice
//! (invariants 17 to 20). An offer's end takes only its unleased part; leases go on.

use crate::bundle::Bundle;
use crate::effect::OfferFate;
use crate::ids::OfferId;
use crate::units::{BasisPoints, Time};
use serde::{Deserialize, Serialize};

/// One open offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Its number.
    pub id: OfferId,
    /// Counts the changes of its total: a start names it.
    pub version: u32,
    /// Everything the node lends, the leased part included.
    pub total: Bundle,
    /// When it was opened.
    pub opened: Time,
    /// The end; the instant itself is outside. [`Time::MAX`] on dedicated nodes.
    pub ends: Time,
    /// Whether it has had a lease.
    pub leased: bool,
}

impl Offer {
    /// Sets a new total and, for a renewal, a new end.
    ///
    /// # Panics
    /// When the new end is earlier: our bug.
    pub fn renew(&mut self, total: Bundle, ends: Time) {
        assert!(ends >= self.ends, "a renewal does not bring the end forward");
        if total != self.total {
            self.version = self.version.wrapping_add(1);
        }
        self.total = total;
        self.ends = ends;
    }

    /// Lowers the total at once; never raises it.
    pub fn shrink(&mut self, ceiling: &Bundle) {
        let total = self.total.meet(ceiling);
        if total != self.total {
            self.version = self.version.wrapping_add(1);
            self.total = total;
        }
    }

    /// Returns whether it may still take leases at `now`.
    #[must_use]
    pub fn is_open(&self, now: Time) -> bool {
        now < self.ends
    }
}

/// Returns how far a total may rise in one check: one unit or ten points, whichever is more.
#[must_use]
pub fn growth(capacity: &Bundle) -> Bundle {
    let unit = Bundle::from_amounts([1_000, 1 << 30, 1 << 30, 1_000, 1, 1, 1, 1, 1, 1, 1, 1]);
    let points = capacity.zip(&Bundle::ZERO, |c, _| BasisPoints::percent(10).of_floor(c));
    unit.zip(&points, u64::max)
}

/// How many offers met which fate since the cluster began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fates {
    /// Opened.
    pub opened: u64,
    /// Given at least one lease.
    pub leased: u64,
    /// Ended without renewal.
    pub expired: u64,
    /// Taken back with nothing leased on the node.
    pub withdrawn: u64,
    /// Taken back with something leased on the node.
    pub revoked: u64,
}

impl Fates {
    /// Counts one more.
    pub fn count(&mut self, fate: OfferFate) {
        let slot = match fate {
            OfferFate::Opened => &mut self.opened,
            OfferFate::Leased => &mut self.leased,
            OfferFate::Expired => &mut self.expired,
            OfferFate::Withdrawn => &mut self.withdrawn,
            OfferFate::Revoked => &mut self.revoked,
        };
        *slot += 1;
    }
}
