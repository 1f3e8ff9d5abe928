//! Where floats and integers meet: the only conversions of the generators.

use crate::decimal::Decimal;
use crate::rng::Stream;

/// Rounds a sample half away from zero to a whole number; negative ones and NaN are 0, and no
/// sample is above 10^18.
pub(super) fn whole(sample: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=10^18 just before, and a cast of NaN is 0"
    )]
    let number = sample.round().clamp(0.0, 1e18) as u64;
    number
}

/// Returns a number as a float, exact up to 2^53.
pub(super) fn float(number: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "an input of sampling: 53 bits are plenty")]
    let float = number as f64;
    float
}

/// Returns a decimal as a float.
pub(super) fn real(decimal: Decimal) -> f64 {
    let size = float(decimal.millionths().unsigned_abs()) / 1e6;
    if decimal.millionths() < 0 { -size } else { size }
}

/// Draws a uniform number from 0 up to 1, which it never is, in steps of 2^-53.
pub(super) fn unit(stream: &mut Stream) -> f64 {
    float(stream.bits() >> 11) / float(1 << 53)
}

/// Draws a uniform number from above 0 up to and including 1.
pub(super) fn positive_unit(stream: &mut Stream) -> f64 {
    1.0 - unit(stream)
}

/// Returns where `hour` (of a clock, in hours from midnight, any day) stands against the peak of
/// the day: 1 at `peak_hour`, -1 twelve hours off.
pub(super) fn daily_wave(hour: f64, peak_hour: f64) -> f64 {
    ((hour - peak_hour) * core::f64::consts::TAU / 24.0).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_round_and_never_leave_their_range() {
        let cases =
            [(2.5, 3), (-1.0, 0), (f64::NAN, 0), (f64::INFINITY, 1_000_000_000_000_000_000)];
        for (sample, number) in cases {
            assert_eq!(whole(sample), number);
        }
        let mut stream = crate::rng::stream(1, "unit", 0);
        assert!((0..10_000).all(|_| (0.0..1.0).contains(&unit(&mut stream))));
    }
}
