//! Round values for axes: numbers, decades, hours and days.

use crate::picture::number::{duration, of_u64, short};

/// Returns the round step that divides a range into about five.
fn step(range: f64) -> f64 {
    let raw = range / 5.0;
    let decade = 10_f64.powf(raw.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * decade)
        .find(|step| *step >= raw * 0.999)
        .unwrap_or(decade * 10.0)
}

/// Returns about five round values from 0 to at most `high`.
pub(crate) fn linear(high: f64) -> Vec<f64> {
    if !high.is_finite() || high <= 0.0 {
        return vec![0.0];
    }
    let step = step(high);
    (0..12_u64).map(|i| of_u64(i) * step).take_while(|v| *v <= high * 1.000_001).collect()
}

/// Returns about five round values that enclose a range which does not begin at zero.
pub(crate) fn around(low: f64, high: f64) -> Vec<f64> {
    let range = (high - low).max(high.abs() * 1e-6).max(1e-6);
    let step = step(range);
    let first = (low / step).floor() * step;
    let mut out: Vec<f64> =
        (0..12_u64).map(|i| first + of_u64(i) * step).take_while(|v| *v < high).collect();
    out.push(first + step * of_u64(u64::try_from(out.len()).unwrap_or(0)));
    out
}

/// Returns the smallest tick at or above `high`, for the end of an axis from zero.
pub(crate) fn ceiling(high: f64) -> f64 {
    if !high.is_finite() || high <= 0.0 {
        return 1.0;
    }
    let step = step(high);
    (high / step * 0.999_999).ceil() * step
}

/// Steps of time, in seconds.
const STEPS: [u64; 26] = [
    1,
    2,
    5,
    10,
    30,
    60,
    120,
    300,
    600,
    900,
    1_800,
    3_600,
    7_200,
    10_800,
    21_600,
    43_200,
    86_400,
    172_800,
    432_000,
    864_000,
    1_728_000,
    2_592_000,
    7_776_000,
    15_552_000,
    31_104_000,
    155_520_000,
];

/// Returns round times from 0 to `end` seconds with their labels.
pub(crate) fn time(end: f64) -> Vec<(f64, String)> {
    let step = STEPS.into_iter().find(|step| end / of_u64(*step) <= 9.0).unwrap_or(1_555_200_000);
    let unit = match step {
        s if s >= 86_400 => (86_400, "d"),
        s if s >= 3_600 => (3_600, "h"),
        s if s >= 60 => (60, "min"),
        _ => (1, "s"),
    };
    let label = |at: u64| match at {
        0 => "0".to_owned(),
        at => format!("{} {}", at / unit.0, unit.1),
    };
    (0..10_u64)
        .map(|i| i * step)
        .take_while(|at| of_u64(*at) <= end * 1.000_001)
        .map(|at| (of_u64(at), label(at)))
        .collect()
}

/// Returns well-known spans between two spans in seconds, for an axis of equal ratios.
pub(crate) fn spans(low: f64, high: f64) -> Vec<(f64, String)> {
    const ROUND: [u64; 11] =
        [1, 10, 60, 600, 3_600, 21_600, 86_400, 604_800, 2_592_000, 31_104_000, 311_040_000];
    ROUND
        .into_iter()
        .map(of_u64)
        .filter(|v| *v >= low * 0.999 && *v <= high * 1.001)
        .map(|v| (v, duration(v)))
        .collect()
}

/// Returns powers of ten between two values, with those between where there are few.
pub(crate) fn decades(low: f64, high: f64) -> Vec<(f64, String)> {
    let few = high / low < 1_000.0;
    let mut out = Vec::new();
    let mut decade = 10_f64.powf(low.log10().floor());
    while decade <= high * 1.001 {
        for factor in if few { &[1.0, 2.0, 5.0][..] } else { &[1.0][..] } {
            let value = decade * factor;
            if value >= low * 0.999 && value <= high * 1.001 {
                out.push((value, short(value)));
            }
        }
        decade *= 10.0;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(linear(100.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(linear(0.0), [0.0]);
        assert_eq!(linear(f64::NAN), [0.0]);
        for high in [0.003, 1.0, 7.0, 13.0, 99.0, 12_345.0, 1.0e9] {
            let count = linear(high).len();
            assert!((3..=7).contains(&count), "{count} ticks up to {high}");
            assert!(ceiling(high) >= high * 0.999_999);
        }
    }

    #[test]
    fn a_week_is_labelled_by_days_and_a_day_by_hours() {
        let week: Vec<String> = time(604_800.0).into_iter().map(|(_, label)| label).collect();
        assert_eq!(week, ["0", "1 d", "2 d", "3 d", "4 d", "5 d", "6 d", "7 d"]);
        let day: Vec<String> = time(86_400.0).into_iter().map(|(_, label)| label).collect();
        assert_eq!(day, ["0", "3 h", "6 h", "9 h", "12 h", "15 h", "18 h", "21 h", "24 h"]);
        assert_eq!(time(0.0).len(), 1);
    }

    #[test]
    fn an_axis_of_ratios_has_known_spans() {
        let labels: Vec<String> = spans(1.0, 90_000.0).into_iter().map(|(_, l)| l).collect();
        assert_eq!(labels.first().map(String::as_str), Some("1 s"));
        assert_eq!(labels.last().map(String::as_str), Some("24 h"));
        assert_eq!(decades(1.0, 100.0).len(), 7);
    }
}
