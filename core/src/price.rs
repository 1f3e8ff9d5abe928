//! The price of capacity: one multiple of the tariff per pool and resource, led by utilisation.
//!
//! Integers in, integers out: how a price follows what is used of what is lent. Who waits and who
//! lends is counted elsewhere and arrives as amounts. The step is the published rule of EIP-1559
//! (Buterin et al., 2019) with a longer memory: a denominator of 32 instead of 8, with which the
//! price of elastic demand that answers late swings by half. Near its target the price moves a
//! quarter as fast, and within a point of it not at all: a price that stops where it enters a wide
//! band leaves utilisation at the edge of that band for ever.

use crate::bundle::{Bundle, DIMENSIONS};
use crate::units::{Ppm, Span, scale_floor};
use serde::{Deserialize, Serialize};

/// Time between two looks at utilisation.
pub const INTERVAL: Span = Span::seconds(30);
/// The utilisation that a price aims at.
pub const TARGET: Ppm = Ppm::new(700_000);
/// How far from the target utilisation counts as near.
pub const NEAR: Ppm = Ppm::new(50_000);
/// How far from the target a price stands still.
pub const STILL: Ppm = Ppm::new(10_000);
/// What a step is a part of: the larger, the slower.
pub const DENOMINATOR: u64 = 32;
/// The same near the target.
pub const DENOMINATOR_NEAR: u64 = 4 * DENOMINATOR;
/// The lowest price.
pub const MIN: Ppm = Ppm::new(250_000);
/// The highest price.
pub const MAX: Ppm = Ppm::new(8_000_000);
/// The highest utilisation that is told apart: as much again waits as there is.
pub const USE_MAX: Ppm = Ppm::new(2_000_000);

/// The price of each resource as a multiple of its rate, in the order of
/// [`crate::bundle::Dimension::all`]; 1,000,000 is the rate itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Prices(pub [Ppm; DIMENSIONS]);

impl Prices {
    /// The rates themselves.
    pub const STATIC: Self = Self([Ppm::ONE; DIMENSIONS]);

    /// Returns whether every price is within the bounds.
    #[must_use]
    pub fn are_sound(&self) -> bool {
        self.0.iter().all(|price| (MIN..=MAX).contains(price))
    }
}

impl Default for Prices {
    fn default() -> Self {
        Self::STATIC
    }
}

/// The prices of one pool, and what they last followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Market {
    /// The prices.
    pub prices: Prices,
    /// What was used and waited for of what was lent when prices last moved, at most [`USE_MAX`];
    /// `None` of what nobody lent, and while prices are static.
    pub used: [Option<Ppm>; DIMENSIONS],
}

/// What of a pool's capacity is in whose hands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// What its nodes lend, the leased part included.
    pub offered: Bundle,
    /// What is leased.
    pub reserved: Bundle,
    /// What waits for room.
    pub queued: Bundle,
}

impl Market {
    /// Follows what is used of what is lent: one step of every price. A resource that nobody lends
    /// keeps its price. Returns whether a price moved.
    pub fn follow(&mut self, demand: &Demand) -> bool {
        let before = self.prices;
        let (reserved, queued) = (demand.reserved.amounts(), demand.queued.amounts());
        let rows = self.prices.0.iter_mut().zip(&mut self.used).zip(demand.offered.amounts());
        for (((price, used), offered), (reserved, queued)) in
            rows.zip(reserved.into_iter().zip(queued))
        {
            *used = utilisation(reserved, queued, offered);
            if let Some(used) = *used {
                *price = next(*price, used);
            }
        }
        self.prices != before
    }
}

/// Returns which part of what is offered is used and waited for, at most [`USE_MAX`]; `None` where
/// nothing is offered.
fn utilisation(reserved: u64, queued: u64, offered: u64) -> Option<Ppm> {
    let wanted = reserved.saturating_add(queued);
    let most = u64::from(USE_MAX.get());
    let part = (offered > 0).then(|| scale_floor(wanted, 1_000_000, offered).min(most))?;
    u32::try_from(part).ok().map(Ppm::new)
}

/// Returns the price after a look at this utilisation.
#[must_use]
pub fn next(price: Ppm, used: Ppm) -> Ppm {
    let off = used.get().abs_diff(TARGET.get());
    if off <= STILL.get() {
        return price;
    }
    let denominator = if off <= NEAR.get() { DENOMINATOR_NEAR } else { DENOMINATOR };
    let moved = step(price.get().into(), used.get().into(), TARGET.get().into(), denominator);
    let moved = moved.clamp(MIN.get().into(), MAX.get().into());
    u32::try_from(moved).map_or(MAX, Ppm::new)
}

/// Returns a price after one step of EIP-1559: up by at least one where more than the target is
/// used, down where less is.
#[must_use]
pub fn step(price: u64, used: u64, target: u64, denominator: u64) -> u64 {
    if target == 0 || denominator == 0 {
        return price;
    }
    let change = scale_floor(price, used.abs_diff(target), target) / denominator;
    match used.cmp(&target) {
        core::cmp::Ordering::Equal => price,
        core::cmp::Ordering::Greater => price.saturating_add(change.max(1)),
        core::cmp::Ordering::Less => price.saturating_sub(change),
    }
}

/// Returns the most that one look changes a price by.
#[must_use]
pub fn step_max(price: Ppm) -> u64 {
    let price = u64::from(price.get());
    step(price, USE_MAX.get().into(), TARGET.get().into(), DENOMINATOR) - price
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MilliCores;

    #[test]
    fn a_step_is_that_of_the_published_rule() {
        // Worked out by hand from the rule of EIP-1559, denominator 8.
        let cases = [
            (800, 700, 700, 800),
            (800, 1_400, 700, 900),
            (800, 0, 700, 700),
            (800, 1_050, 700, 850),
            (3, 701, 700, 4),
            (3, 0, 700, 3),
        ];
        for (price, used, target, expected) in cases {
            assert_eq!(step(price, used, target, 8), expected, "{price} at {used} of {target}");
        }
    }

    #[test]
    fn a_price_stands_still_at_its_target_moves_slowly_near_it_and_faster_away_from_it() {
        let after = |used: u32| next(Ppm::ONE, Ppm::new(used)).get();
        assert_eq!(after(700_000), 1_000_000);
        assert_eq!((after(690_000), after(710_000)), (1_000_000, 1_000_000));
        // 1,000,000 x .05 / .7 / 128 and 1,000,000 x .050001 / .7 / 32.
        assert_eq!((after(650_000), after(750_000)), (999_442, 1_000_558));
        assert_eq!((after(649_999), after(750_001)), (997_768, 1_002_232));
        assert_eq!((after(0), after(2_000_000)), (968_750, 1_058_035));
        assert_eq!(next(MIN, Ppm::ZERO), MIN);
        assert_eq!(next(MAX, USE_MAX), MAX);
    }

    #[test]
    fn what_nobody_lends_keeps_its_price() {
        let cpu = |cores| Bundle::cpu(MilliCores::whole(cores));
        let mut market = Market::default();
        let demand = Demand { queued: cpu(4), ..Demand::default() };
        assert!(!market.follow(&demand));
        assert_eq!(market, Market::default());
        let demand = Demand { offered: cpu(8), reserved: cpu(4), queued: cpu(100) };
        assert!(market.follow(&demand));
        assert_eq!(market.used[0], Some(USE_MAX));
        assert_eq!(market.used[1], None);
        let [cpu, others @ ..] = market.prices.0;
        assert_eq!((cpu, others), (Ppm::new(1_058_035), [Ppm::ONE; DIMENSIONS - 1]));
    }
}
