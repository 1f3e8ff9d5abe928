//! Quantities as types.
//!
//! Every amount the core handles is an integer in one fixed unit: milliseconds, millicores, bytes,
//! thousandths of a GPU, micro-ATP, basis points. A bare integer never stands for a quantity in a
//! signature, so that a core can never be added to a byte. Arithmetic is checked, or its name says
//! how it saturates or rounds. Nothing here is a float.

use serde::{Deserialize, Serialize};

/// Defines one quantity over an unsigned integer with checked arithmetic.
macro_rules! amount {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            Serialize, Deserialize,
        )]
        pub struct $name($inner);

        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);
            /// The largest value that fits.
            pub const MAX: Self = Self(<$inner>::MAX);

            /// Wraps a number that already is in this unit.
            #[must_use]
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// Returns the number in this unit.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }

            /// Returns whether this is nothing.
            #[must_use]
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }

            /// Adds, or returns `None` when the sum does not fit.
            #[must_use]
            pub const fn checked_add(self, other: Self) -> Option<Self> {
                match self.0.checked_add(other.0) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// Subtracts, or returns `None` when the difference would be negative.
            #[must_use]
            pub const fn checked_sub(self, other: Self) -> Option<Self> {
                match self.0.checked_sub(other.0) {
                    Some(rest) => Some(Self(rest)),
                    None => None,
                }
            }

            /// Adds and stops at the largest value.
            #[must_use]
            pub const fn saturating_add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// Subtracts and stops at nothing.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

amount! {
    /// A length of time in milliseconds.
    Span(u64)
}
amount! {
    /// Compute capacity in thousandths of a core.
    MilliCores(u64)
}
amount! {
    /// Memory, video memory, storage or traffic in bytes.
    Bytes(u64)
}
amount! {
    /// GPU capacity in thousandths of a device, summed over devices.
    MilliGpus(u64)
}
amount! {
    /// The part of one GPU that a lease uses, 0 to 1,000 thousandths.
    PerMille(u16)
}
amount! {
    /// A fraction in ten-thousandths (100 = 1 %), 0 to 10,000 for a utilisation.
    BasisPoints(u16)
}
amount! {
    /// A fraction in millionths (1,000,000 = 1).
    Ppm(u32)
}
amount! {
    /// Credit in millionths of one ATP.
    MicroAtp(u64)
}

impl Span {
    /// A span of whole seconds.
    ///
    /// # Panics
    /// When the span in milliseconds does not fit 64 bits (584 million years).
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        match seconds.checked_mul(1_000) {
            Some(ms) => Self(ms),
            None => panic!("a span in seconds fits 64 bits of milliseconds"),
        }
    }

    /// A span of whole minutes, as [`Span::seconds`].
    #[must_use]
    pub const fn minutes(minutes: u64) -> Self {
        Self::seconds(minutes * 60)
    }
}

impl MilliCores {
    /// This many whole cores.
    #[must_use]
    pub const fn whole(cores: u32) -> Self {
        Self(cores as u64 * 1_000)
    }
}

impl Bytes {
    /// This many GiB (2^30 bytes).
    #[must_use]
    pub const fn gib(gib: u32) -> Self {
        Self((gib as u64) << 30)
    }

    /// This many MiB (2^20 bytes).
    #[must_use]
    pub const fn mib(mib: u32) -> Self {
        Self((mib as u64) << 20)
    }
}

impl PerMille {
    /// A whole device.
    pub const WHOLE: Self = Self(1_000);
}

/// Returns `amount` times `factor` over `divisor`, rounded down; the largest number where it does
/// not fit. What fits 64 bits on the way, and nearly all does, is spared a division of 128.
pub(crate) fn scale_floor(amount: u64, factor: u64, divisor: u64) -> u64 {
    amount.checked_mul(factor).map_or_else(
        || {
            let wide = u128::from(amount) * u128::from(factor) / u128::from(divisor);
            u64::try_from(wide).unwrap_or(u64::MAX)
        },
        |product| product / divisor,
    )
}

/// Returns the same, rounded up.
pub(crate) fn scale_ceil(amount: u128, factor: u64, divisor: u64) -> u64 {
    let product = amount.saturating_mul(u128::from(factor));
    match u64::try_from(product) {
        Ok(product) => product.div_ceil(divisor),
        Err(_) => u64::try_from(product.div_ceil(u128::from(divisor))).unwrap_or(u64::MAX),
    }
}

impl BasisPoints {
    /// All of it: 100 %.
    pub const ALL: Self = Self(10_000);

    /// This many whole percent.
    ///
    /// # Panics
    /// When the percentage is above 655.
    #[must_use]
    pub const fn percent(percent: u16) -> Self {
        Self(percent * 100)
    }

    /// Returns the smaller of this and 100 %.
    #[must_use]
    pub const fn capped(self) -> Self {
        if self.0 > 10_000 { Self::ALL } else { self }
    }

    /// Returns this fraction of `amount`, rounded up.
    #[must_use]
    pub fn of_ceil(self, amount: u64) -> u64 {
        scale_ceil(amount.into(), self.0.into(), 10_000)
    }

    /// Returns this fraction of `amount`, rounded down.
    #[must_use]
    pub fn of_floor(self, amount: u64) -> u64 {
        scale_floor(amount, self.0.into(), 10_000)
    }

    /// Returns `part` of `whole` rounded to the nearest basis point, at most 100 %;
    /// nothing when `whole` is nothing.
    #[must_use]
    pub fn ratio(part: u64, whole: u64) -> Self {
        if whole == 0 {
            return Self::ZERO;
        }
        let small = part.checked_mul(10_000).and_then(|p| p.checked_add(whole / 2));
        let rounded = small.map_or_else(
            || (u128::from(part) * 10_000 + u128::from(whole) / 2) / u128::from(whole),
            |product| u128::from(product / whole),
        );
        Self(u16::try_from(rounded.min(10_000)).unwrap_or(10_000))
    }
}

impl Ppm {
    /// All of it: 1,000,000 ppm.
    pub const ONE: Self = Self(1_000_000);

    /// Returns this fraction of `amount`, rounded down.
    #[must_use]
    pub fn of_floor(self, amount: u64) -> u64 {
        scale_floor(amount, self.0.into(), 1_000_000)
    }
}

impl MicroAtp {
    /// This many whole ATP.
    ///
    /// # Panics
    /// When the amount does not fit 64 bits of micro-ATP (18 trillion ATP).
    #[must_use]
    pub const fn whole(atp: u64) -> Self {
        match atp.checked_mul(1_000_000) {
            Some(micro) => Self(micro),
            None => panic!("an amount in ATP fits 64 bits of micro-ATP"),
        }
    }
}

/// A point on the clock of the entries: milliseconds since the run or the cluster began.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(u64);

impl Time {
    /// The beginning.
    pub const ZERO: Self = Self(0);
    /// Later than everything.
    pub const MAX: Self = Self(u64::MAX);

    /// Wraps milliseconds since the beginning.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Returns milliseconds since the beginning.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0
    }

    /// Returns the time `span` later; the end of time when it does not fit.
    #[must_use]
    pub const fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.get()))
    }

    /// Returns the time `span` earlier; the beginning when it would be before it.
    #[must_use]
    pub const fn before(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.get()))
    }

    /// Returns the span from `earlier` to this time; nothing when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        Span::new(self.0.saturating_sub(earlier.0))
    }
}

impl core::fmt::Display for Time {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1_000, self.0 % 1_000)
    }
}

/// How much a job matters, 0 to 100 (RULES.md section 5). A byte above that is not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8")]
pub struct Priority(u8);

impl TryFrom<u8> for Priority {
    type Error = &'static str;

    fn try_from(value: u8) -> Result<Self, Self::Error> {
        Self::new(value).ok_or("a priority is 0 to 100")
    }
}

impl Priority {
    /// The lowest of all.
    pub const NONE: Self = Self(0);
    /// Leftovers only.
    pub const LOW: Self = Self(25);
    /// The default.
    pub const MEDIUM: Self = Self(50);
    /// First choice.
    pub const HIGH: Self = Self(75);
    /// Preempts where the rules allow it.
    pub const URGENT: Self = Self(100);

    /// Accepts 0 to 100.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if value <= 100 { Some(Self(value)) } else { None }
    }

    /// Returns the number, 0 to 100.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Returns the declared class, which orders the queue: urgent counts as 100.
    #[must_use]
    pub const fn class(self) -> u8 {
        if self.0 > 75 { 100 } else { self.0 }
    }

    /// Returns the band that sets the price and names the class: a number above 75 is urgent,
    /// 51 to 75 high, 26 to 50 medium, else low.
    #[must_use]
    pub const fn band(self) -> Band {
        match self.0 {
            0..=25 => Band::Low,
            26..=50 => Band::Medium,
            51..=75 => Band::High,
            _ => Band::Urgent,
        }
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::MEDIUM
    }
}

/// The four named bands of priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Band {
    /// 0 to 25.
    Low,
    /// 26 to 50.
    Medium,
    /// 51 to 75.
    High,
    /// 76 to 100.
    Urgent,
}

impl Band {
    /// All bands, lowest first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Urgent];

    /// Returns the name that users write.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Urgent => "urgent",
        }
    }

    /// Returns the price factor of the band (CREDITS.md "Price").
    #[must_use]
    pub const fn price_factor(self) -> Ppm {
        match self {
            Self::Low => Ppm::new(500_000),
            Self::Medium => Ppm::new(1_000_000),
            Self::High => Ppm::new(2_000_000),
            Self::Urgent => Ppm::new(4_000_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_round_as_their_names_say() {
        assert_eq!(BasisPoints::percent(1).of_ceil(101), 2);
        assert_eq!(BasisPoints::percent(1).of_floor(101), 1);
        assert_eq!(BasisPoints::ratio(1, 3), BasisPoints::new(3_333));
        assert_eq!(BasisPoints::ratio(5, 0), BasisPoints::ZERO);
        assert_eq!(BasisPoints::ratio(7, 3), BasisPoints::ALL);
    }

    #[test]
    fn bands_meet_at_the_documented_borders() {
        for (value, band) in [
            (0, Band::Low),
            (25, Band::Low),
            (26, Band::Medium),
            (50, Band::Medium),
            (51, Band::High),
            (75, Band::High),
            (76, Band::Urgent),
            (100, Band::Urgent),
        ] {
            assert_eq!(Priority::new(value).map(Priority::band), Some(band));
        }
        assert_eq!(Priority::new(101), None);
    }

    #[test]
    fn time_saturates_at_both_ends() {
        assert_eq!(Time::from_ms(5).before(Span::seconds(1)), Time::ZERO);
        assert_eq!(Time::MAX.after(Span::seconds(1)), Time::MAX);
        assert_eq!(Time::from_ms(5).since(Time::from_ms(9)), Span::ZERO);
    }
}
