//! Numbers in text, read exactly.
//!
//! Traces and scenario files hold decimals such as `0.8`, `20.0`, `1e-05` or `7d`. They become
//! integers in a stated unit without passing through a float, so that no rounding happens but the
//! one stated here: half away from zero at the last place. Nothing here panics on any text.

use core::fmt;
use gridcore::units::Span;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// Why a text is not the number that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Nothing but blanks.
    #[error("a number is missing")]
    Empty,
    /// Something else than digits, one point and one exponent; also `nan` and `inf`.
    #[error("not a finite decimal number")]
    NotANumber,
    /// More than 27 significant digits.
    #[error("more than {DIGITS_MAX} significant digits")]
    TooPrecise,
    /// The result does not fit.
    #[error("number out of range")]
    OutOfRange,
    /// Below zero where only zero or more makes sense.
    #[error("must not be negative")]
    Negative,
    /// A suffix that is no unit of time.
    #[error("unknown unit of time: use ms, s, m, h, d or w")]
    UnknownUnit,
}

/// How many significant digits a number may have.
pub const DIGITS_MAX: u32 = 27;

/// Reads a decimal as an integer of 10^-`places`: `decimal("0.8", 3)` is 800.
///
/// A further digit rounds half away from zero. Blanks around the number are ignored.
///
/// # Errors
/// When the text is no finite decimal, has too many digits, or the result does not fit 64 bits.
pub fn decimal(text: &str, places: u32) -> Result<i64, DecimalError> {
    let number = Number::parse(text)?;
    let factor = 10_u64.checked_pow(places).ok_or(DecimalError::OutOfRange)?;
    let size = i64::try_from(number.times(factor)?).map_err(|_| DecimalError::OutOfRange)?;
    Ok(if number.negative { -size } else { size })
}

/// Reads a decimal that is not negative and multiplies it by `factor`, rounded half up:
/// `scaled("1.5", 1 << 30)` is one and a half GiB in bytes.
///
/// # Errors
/// As [`decimal`], and when the number is negative (`-0` is not).
pub fn scaled(text: &str, factor: u64) -> Result<u64, DecimalError> {
    let number = Number::parse(text)?;
    if number.negative && number.digits > 0 {
        return Err(DecimalError::Negative);
    }
    u64::try_from(number.times(factor)?).map_err(|_| DecimalError::OutOfRange)
}

/// A unit of time that a number without suffix is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// 1/1,000 s.
    Milliseconds,
    /// 1 s.
    Seconds,
    /// 60 s.
    Minutes,
    /// 3,600 s.
    Hours,
    /// 24 h.
    Days,
    /// 7 days.
    Weeks,
}

impl TimeUnit {
    /// Returns its length in milliseconds.
    #[must_use]
    pub const fn ms(self) -> u64 {
        match self {
            Self::Milliseconds => 1,
            Self::Seconds => 1_000,
            Self::Minutes => 60_000,
            Self::Hours => 3_600_000,
            Self::Days => 86_400_000,
            Self::Weeks => 604_800_000,
        }
    }

    /// Returns the unit that a suffix names.
    fn named(suffix: &str) -> Option<Self> {
        match suffix {
            "ms" => Some(Self::Milliseconds),
            "s" => Some(Self::Seconds),
            "m" | "min" => Some(Self::Minutes),
            "h" => Some(Self::Hours),
            "d" => Some(Self::Days),
            "w" => Some(Self::Weeks),
            _ => None,
        }
    }
}

/// Reads a span: a decimal and one of the suffixes `ms`, `s`, `m` (or `min`), `h`, `d`, `w`;
/// without suffix it is in `unit`. Rounded half up to a whole millisecond.
///
/// # Errors
/// As [`scaled`], and when the suffix is unknown.
pub fn span(text: &str, unit: TimeUnit) -> Result<Span, DecimalError> {
    let text = text.trim();
    let number = text.trim_end_matches(|c: char| c.is_alphabetic());
    let suffix = text.get(number.len()..).unwrap_or("");
    // A word such as `inf` is all letters: it is no number rather than an unknown unit.
    let unit = match suffix {
        "" => unit,
        _ if number.is_empty() => return Err(DecimalError::NotANumber),
        _ => TimeUnit::named(suffix).ok_or(DecimalError::UnknownUnit)?,
    };
    scaled(number, unit.ms()).map(Span::new)
}

/// A decimal taken apart: `digits` x 10^`exponent`.
struct Number {
    negative: bool,
    digits: u128,
    exponent: i32,
}

impl Number {
    fn parse(text: &str) -> Result<Self, DecimalError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(DecimalError::Empty);
        }
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (body, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((body, exponent)) => (body, Self::exponent(exponent)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(DecimalError::NotANumber);
        }
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) {
            return Err(DecimalError::NotANumber);
        }
        let fraction = fraction.trim_end_matches('0');
        let mut digits: u128 = 0;
        for byte in whole.bytes().chain(fraction.bytes()) {
            digits = digits * 10 + u128::from(byte - b'0');
            if digits >= 10_u128.pow(DIGITS_MAX) {
                return Err(DecimalError::TooPrecise);
            }
        }
        let shift = i32::try_from(fraction.len()).map_err(|_| DecimalError::TooPrecise)?;
        Ok(Self { negative, digits, exponent: exponent - shift })
    }

    /// Reads the exponent; a number has no business past 10^±9,999.
    fn exponent(text: &str) -> Result<i32, DecimalError> {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(DecimalError::NotANumber);
        }
        match text.parse::<i32>() {
            Ok(exponent @ -9_999..=9_999) => Ok(exponent),
            _ => Err(DecimalError::OutOfRange),
        }
    }

    /// Returns the absolute value times `factor`, rounded half up.
    fn times(&self, factor: u64) -> Result<u128, DecimalError> {
        // 27 digits (90 bits) times 64 bits may pass 128 bits.
        let product =
            self.digits.checked_mul(u128::from(factor)).ok_or(DecimalError::OutOfRange)?;
        let power = 10_u128.checked_pow(self.exponent.unsigned_abs());
        match (self.exponent >= 0, power) {
            _ if product == 0 => Ok(0),
            (true, Some(power)) => product.checked_mul(power).ok_or(DecimalError::OutOfRange),
            (true, None) => Err(DecimalError::OutOfRange),
            // A half is at least the divisor minus the rest; written so that nothing overflows.
            (false, Some(power)) => {
                let rest = product % power;
                Ok(product / power + u128::from(rest >= power - rest))
            }
            // 10^39 is more than twice any 128-bit product.
            (false, None) => Ok(0),
        }
    }
}

/// A decimal of a scenario file, in millionths: `0.8` is 800,000. Reads a number or a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(i64);

impl Decimal {
    /// Wraps millionths.
    #[must_use]
    pub const fn from_millionths(millionths: i64) -> Self {
        Self(millionths)
    }

    /// Wraps a whole number.
    #[must_use]
    pub const fn whole(number: i32) -> Self {
        Self(number as i64 * 1_000_000)
    }

    /// Returns the millionths.
    #[must_use]
    pub const fn millionths(self) -> i64 {
        self.0
    }
}

impl core::str::FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        decimal(text, 6).map(Self)
    }
}

/// A span of a scenario file: a number of seconds, or a text such as `7d`, `24h`, `300s`, `500ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub Span);

impl core::str::FromStr for Seconds {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        span(text, TimeUnit::Seconds).map(Self)
    }
}

/// Hands any scalar over as text. A float arrives only from a parser that has made one already;
/// its shortest decimal form is the text that was written, up to 15 digits.
struct TextOf<T>(core::marker::PhantomData<T>, &'static str);

impl<T: core::str::FromStr<Err = DecimalError>> Visitor<'_> for TextOf<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|why| E::custom(format!("`{text}`: {why}; give {}", self.1)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOf(core::marker::PhantomData, "a decimal such as 0.8"))
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "seconds, or a span such as 500ms, 30m, 24h or 7d";
        deserializer.deserialize_any(TextOf(core::marker::PhantomData, expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly_and_round_half_away_from_zero() {
        for (text, places, value) in [
            ("0.8", 3, 800),
            (" 20.0 ", 0, 20),
            ("2.5", 0, 3),
            ("-2.5", 0, -3),
            ("2.4999999999", 0, 2),
            ("0.1", 17, 10_000_000_000_000_000),
            ("1e-05", 6, 10),
            ("1E3", 0, 1_000),
            (".5", 1, 5),
            ("5.", 0, 5),
            ("-0", 3, 0),
            ("0e9999", 3, 0),
            ("1e-9999", 18, 0),
            ("9223372036854775807", 0, i64::MAX),
            ("8.10000000000000000000000000000000000000000", 1, 81),
        ] {
            assert_eq!(decimal(text, places), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused_by_reason() {
        for (text, why) in [
            ("", DecimalError::Empty),
            ("  ", DecimalError::Empty),
            ("nan", DecimalError::NotANumber),
            ("-inf", DecimalError::NotANumber),
            (".", DecimalError::NotANumber),
            ("--1", DecimalError::NotANumber),
            ("1,5", DecimalError::NotANumber),
            ("1e", DecimalError::NotANumber),
            ("0x10", DecimalError::NotANumber),
            ("٣", DecimalError::NotANumber),
            ("9223372036854775808", DecimalError::OutOfRange),
            ("1e99", DecimalError::OutOfRange),
            ("1e99999999999", DecimalError::OutOfRange),
            ("1234567890123456789012345678", DecimalError::TooPrecise),
        ] {
            assert_eq!(decimal(text, 0), Err(why), "{text}");
        }
        assert_eq!(scaled("-0.001", 1), Err(DecimalError::Negative));
        assert_eq!(scaled("0.5", 1 << 30), Ok(1 << 29));
    }

    #[test]
    fn spans_carry_their_unit_or_take_the_stated_one() {
        for (text, seconds) in
            [("7d", 604_800), ("24h", 86_400), ("300s", 300), ("30m", 1_800), ("600", 600)]
        {
            assert_eq!(span(text, TimeUnit::Seconds), Ok(Span::seconds(seconds)), "{text}");
        }
        assert_eq!(span("500ms", TimeUnit::Hours), Ok(Span::new(500)));
        assert_eq!(span("0.0005", TimeUnit::Seconds), Ok(Span::new(1)));
        assert_eq!(span("1.5 h", TimeUnit::Seconds), Ok(Span::minutes(90)));
        assert_eq!(span("1e3", TimeUnit::Seconds), Ok(Span::seconds(1_000)));
        assert_eq!(span("5 fortnights", TimeUnit::Seconds), Err(DecimalError::UnknownUnit));
        assert_eq!(span("inf", TimeUnit::Seconds), Err(DecimalError::NotANumber));
        assert_eq!(span("-1s", TimeUnit::Seconds), Err(DecimalError::Negative));
    }

    #[test]
    fn scenario_numbers_come_as_numbers_or_as_text() {
        #[derive(Deserialize)]
        struct Both {
            share: Decimal,
            every: Seconds,
        }
        for text in ["share: 0.8\nevery: 300\n", "share: \"0.80\"\nevery: 5m\n"] {
            let both: Both = serde_saphyr::from_str(text).unwrap();
            assert_eq!(both.share, Decimal::from_millionths(800_000));
            assert_eq!(both.every, Seconds(Span::seconds(300)));
        }
        assert!(serde_saphyr::from_str::<Both>("share: .nan\nevery: 1\n").is_err());
        assert!(serde_saphyr::from_str::<Both>("share: 1\nevery: -1\n").is_err());
    }

    #[test]
    fn no_text_makes_it_panic() {
        let mut random = crate::rng::stream(1, "decimal-noise", 0);
        let letters: Vec<char> = "0123456789+-.eE msdhnaif٣".chars().collect();
        for _ in 0..50_000 {
            let length = random.below(40);
            let text: String = (0..length)
                .map(|_| letters[usize::try_from(random.below(letters.len() as u64)).unwrap()])
                .collect();
            let _ = decimal(&text, 9);
            let _ = span(&text, TimeUnit::Weeks);
        }
    }
}
