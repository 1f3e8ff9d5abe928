//! Numbers as a picture needs them: the only place where an integer becomes a float.
//!
//! A picture may compute with floats because nothing reads a picture back. Whatever is printed goes
//! through [`fixed`] or one of its relatives, with a fixed number of decimals, so that the same run
//! draws the same bytes.

use gridcore::units::{BasisPoints, MicroAtp, Span, Time};

/// Turns a count into a float; exact below 2^53.
#[expect(clippy::cast_precision_loss, reason = "a pixel is coarser than the 53rd bit")]
pub(crate) fn of_u64(value: u64) -> f64 {
    value as f64
}

/// Turns a length or an index into a float.
pub(crate) fn of_usize(value: usize) -> f64 {
    of_u64(u64::try_from(value).unwrap_or(u64::MAX))
}

/// Returns a number of millionths as what it stands for.
#[expect(clippy::cast_precision_loss, reason = "a picture needs no more than 53 bits")]
pub(crate) fn of_millionths(value: i128) -> f64 {
    value as f64 / 1e6
}

/// Rounds to the nearest integer coordinate; what is not a number becomes the origin.
#[expect(clippy::cast_possible_truncation, reason = "clamped to the range first")]
pub(crate) fn coordinate(value: f64) -> i32 {
    if value.is_nan() {
        return 0;
    }
    value.round().clamp(-1.0e9, 1.0e9) as i32
}

/// Rounds down to an index of at most `last`; what is negative or no number becomes 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range first"
)]
pub(crate) fn index(value: f64, last: usize) -> usize {
    if value.is_nan() { 0 } else { (value.clamp(0.0, 1.0e9) as usize).min(last) }
}

/// Rounds to a shade, 0 to 255.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range first"
)]
pub(crate) fn shade(value: f64) -> u8 {
    if value.is_nan() { 0 } else { value.round().clamp(0.0, 255.0) as u8 }
}

/// Returns a time in seconds.
pub(crate) fn seconds(time: Time) -> f64 {
    of_u64(time.ms()) / 1_000.0
}

/// Returns a span in seconds.
pub(crate) fn span_seconds(span: Span) -> f64 {
    of_u64(span.get()) / 1_000.0
}

/// Returns credit in ATP.
pub(crate) fn atp(amount: MicroAtp) -> f64 {
    of_u64(amount.get()) / 1.0e6
}

/// Returns a fraction in percent.
pub(crate) fn percent(part: BasisPoints) -> f64 {
    f64::from(part.get()) / 100.0
}

/// Returns `part / whole`, or 0 when there is no whole.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Prints with a fixed number of decimals and never as negative zero.
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| c == '0' || c == '.') => rest.to_owned(),
        Some(rest) => format!("\u{2212}{rest}"),
        None => text,
    }
}

/// Prints an integer in groups of three digits.
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Prints a count with its noun: `1 job`, `20,000 jobs`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(u64::try_from(count).unwrap_or(u64::MAX)))
}

/// Prints a number in at most six characters: `7`, `0.35`, `1.2k`, `34M`.
pub(crate) fn short(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        size if size >= 999_500_000.0 => (value / 1.0e9, "G"),
        size if size >= 999_500.0 => (value / 1.0e6, "M"),
        size if size >= 1_000.0 => (value / 1.0e3, "k"),
        _ => (value, ""),
    };
    let size = scaled.abs();
    let whole = (scaled - scaled.round()).abs() < 1.0e-9;
    let decimals = match size {
        _ if whole || size >= 99.95 => 0,
        _ if size >= 9.995 || !suffix.is_empty() => 1,
        _ if size >= 0.0995 => 2,
        _ => 3,
    };
    format!("{}{suffix}", fixed(scaled, decimals))
}

/// Prints a number so that two of them that differ by `step` differ in print, for axes that do
/// not begin at zero.
pub(crate) fn precise(value: f64, step: f64) -> String {
    let (scale, suffix) = if value.abs() >= 1.0e9 { (1.0e6, "M") } else { (1.0, "") };
    let needed = (-(step / scale).log10() - 1e-9).ceil();
    let text = fixed(value.abs() / scale, index(needed, 6));
    let (whole, rest) =
        text.split_once('.').map_or((text.as_str(), String::new()), |(a, b)| (a, format!(".{b}")));
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), grouped);
    let sign = if value < 0.0 { "\u{2212}" } else { "" };
    format!("{sign}{whole}{rest}{suffix}")
}

/// Prints a span for people: `0.4 s`, `45 s`, `12 min`, `3.4 h`, `2.1 d`.
pub(crate) fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 59.95 => (s, "s"),
        s if s < 59.95 * 60.0 => (s / 60.0, "min"),
        s if s < 72.0 * 3_600.0 => (s / 3_600.0, "h"),
        s => (s / 86_400.0, "d"),
    };
    let whole = (value - value.round()).abs() < 0.05;
    format!("{} {unit}", fixed(value, usize::from(value < 9.95 && !whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_numbers_have_fixed_decimals_and_one_zero() {
        assert_eq!(fixed(-0.001, 2), "0.00");
        assert_eq!(fixed(-1.5, 1), "\u{2212}1.5");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(counted(1, "node"), "1 node");
        assert_eq!(counted(0, "job"), "0 jobs");
    }

    #[test]
    fn short_forms_stay_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.35, "0.35"),
            (7.0, "7"),
            (1_234.0, "1.2k"),
            (20_000.0, "20k"),
            (999_999.0, "1.0M"),
            (34_000_000.0, "34M"),
        ] {
            assert_eq!(short(value), text);
        }
        for (value, text) in [
            (0.4, "0.4 s"),
            (45.0, "45 s"),
            (720.0, "12 min"),
            (12_240.0, "3.4 h"),
            (5.0e5, "5.8 d"),
        ] {
            assert_eq!(duration(value), text);
        }
    }

    #[test]
    fn neighbouring_ticks_differ_in_print() {
        assert_eq!(precise(9_000_050.0, 50.0), "9,000,050");
        assert_eq!(precise(1.25, 0.05), "1.25");
        assert_eq!(precise(-3_000.0, 500.0), "\u{2212}3,000");
        assert_eq!(precise(9_000_000_050_000.0, 50_000.0), "9,000,000.05M");
    }

    #[test]
    fn what_is_no_number_is_drawn_at_the_origin() {
        assert_eq!(coordinate(f64::NAN), 0);
        assert_eq!(index(f64::NAN, 5), 0);
        assert_eq!(index(99.0, 5), 5);
        assert_eq!(shade(f64::INFINITY), 255);
    }
}
