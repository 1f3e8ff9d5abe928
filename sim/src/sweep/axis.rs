//! What is varied: keys, and the values each of them takes.
//!
//! Values are texts as `--set` takes them and are known by their index, so that a search moves over
//! integers only. A range holds every value from its low to its high end, both inside, in steps of
//! the last place in which its ends are written, or of the step that is stated.

use crate::decimal::{DecimalError, decimal};
use std::collections::BTreeSet;

/// Most values of one key.
const VALUES_MAX: u64 = 1_000_000_000;
/// Most decimals of a value.
const PLACES_MAX: usize = 9;
/// Most keys that are varied at once.
const KEYS_MAX: usize = 20;

/// Why something cannot be varied so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AxisError {
    /// Not of the form `key.path=values`.
    #[error("write KEY=V1,V2,.. or KEY=LO..HI, such as lease.term_seconds=60,300")]
    Form,
    /// No value, or an empty one in a list.
    #[error("{0}: a value is missing; write {0}=V1,V2,.. or {0}=LO..HI")]
    Empty(String),
    /// The same value twice.
    #[error("{0}: {1} is named twice")]
    Twice(String, String),
    /// An end or the step of a range is no number.
    #[error(
        "{0}: `{1}` is no number ({2}); a range is LO..HI or LO..HI..STEP, such as 30s..10m..30s"
    )]
    Number(String, String, DecimalError),
    /// The parts of a range have different units.
    #[error("{0}: a range has one unit; write all of its parts in {1}, or name the values")]
    Unit(String, String),
    /// The low end is above the high end.
    #[error("{0}: {1} is above {2}; write the lower end first")]
    Order(String, String, String),
    /// A step that does not go up.
    #[error("{0}: a step must be more than 0")]
    Step(String),
    /// More values than anyone can tell apart.
    #[error("{0}: {1} values, more than {VALUES_MAX}; write the ends with fewer decimals")]
    Many(String, u128),
    /// Nothing is varied.
    #[error("there is nothing to vary: give --vary KEY=V1,V2,..")]
    Nothing,
    /// Too many keys.
    #[error("{0} keys are varied, at most {KEYS_MAX} can be")]
    Keys(usize),
    /// A key twice, or inside another.
    #[error("--vary {0} and --vary {1} change the same; give all values in one --vary")]
    Same(String, String),
}

/// A key and the values it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    key: String,
    values: Values,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Values {
    List(Vec<String>),
    Range(Steps),
}

/// Evenly spaced numbers, in units of their last decimal.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Steps {
    low: i64,
    step: i64,
    count: u64,
    places: usize,
    unit: String,
}

impl std::str::FromStr for Axis {
    type Err = AxisError;

    fn from_str(text: &str) -> Result<Self, AxisError> {
        let (key, values) = text.split_once('=').ok_or(AxisError::Form)?;
        let key = key.trim().to_owned();
        if key.is_empty() {
            return Err(AxisError::Form);
        }
        let list = split(values);
        if list.iter().any(String::is_empty) {
            return Err(AxisError::Empty(key));
        }
        let values = match list.as_slice() {
            [range] if range.contains("..") => Values::Range(Steps::parse(&key, range)?),
            _ => {
                let mut seen = BTreeSet::new();
                if let Some(twice) = list.iter().find(|value| !seen.insert(value.as_str())) {
                    return Err(AxisError::Twice(key, twice.clone()));
                }
                Values::List(list)
            }
        };
        Ok(Self { key, values })
    }
}

/// Splits at commas outside quotes and brackets: a value may be a list of its own.
fn split(text: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let (mut depth, mut quote) = (0_usize, None);
    for c in text.chars() {
        match (quote, c) {
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth = depth.saturating_sub(1),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
        if c == ',' && depth == 0 && quote.is_none() {
            out.push(String::new());
        } else if let Some(last) = out.last_mut() {
            last.push(c);
        }
    }
    out.iter().map(|value| value.trim().to_owned()).collect()
}

impl Steps {
    fn parse(key: &str, text: &str) -> Result<Self, AxisError> {
        let parts: Vec<&str> = text.split("..").map(str::trim).collect();
        let number = |part: &str| part.trim_end_matches(char::is_alphabetic).to_owned();
        let units: Vec<&str> = parts.iter().map(|p| p.trim_start_matches(is_of_number)).collect();
        let decimals = |part: &&str| number(part).split_once('.').map_or(0, |(_, rest)| rest.len());
        let places = parts.iter().map(decimals).max().unwrap_or(0);
        let wrong = |part: &str, why| AxisError::Number(key.to_owned(), part.to_owned(), why);
        if places > PLACES_MAX {
            return Err(wrong(text, DecimalError::TooPrecise));
        }
        let mut read = Vec::new();
        for part in &parts {
            let digits = number(part);
            if !digits.chars().all(is_of_number) {
                return Err(wrong(part, DecimalError::NotANumber));
            }
            let scale = u32::try_from(places).unwrap_or(0);
            read.push(decimal(&digits, scale).map_err(|why| wrong(part, why))?);
        }
        let (low, high, step) = match *read.as_slice() {
            [low, high] => (low, high, 1),
            [low, high, step] => (low, high, step),
            _ => return Err(wrong(text, DecimalError::NotANumber)),
        };
        let unit = units.iter().find(|unit| !unit.is_empty()).copied().unwrap_or_default();
        if units.iter().any(|other| *other != unit) {
            return Err(AxisError::Unit(key.to_owned(), unit.to_owned()));
        }
        if step <= 0 {
            return Err(AxisError::Step(key.to_owned()));
        }
        if low > high {
            let [from, to] = [0, 1].map(|i: usize| parts.get(i).copied().unwrap_or_default());
            return Err(AxisError::Order(key.to_owned(), from.to_owned(), to.to_owned()));
        }
        let count = u128::from(high.abs_diff(low) / step.unsigned_abs()) + 1;
        match u64::try_from(count) {
            Ok(count) if count <= VALUES_MAX => {
                Ok(Self { low, step, count, places, unit: unit.to_owned() })
            }
            Ok(_) | Err(_) => Err(AxisError::Many(key.to_owned(), count)),
        }
    }

    /// Returns the value at an index; the last is at the high end or less than a step below it.
    fn value(&self, index: u64) -> String {
        let steps = i128::from(index.min(self.count - 1)) * i128::from(self.step);
        let value = i128::from(self.low) + steps;
        let sign = if value < 0 { "-" } else { "" };
        let digits = format!("{:0width$}", value.unsigned_abs(), width = self.places + 1);
        let (whole, rest) = digits.split_at(digits.len() - self.places);
        let point = if rest.is_empty() { "" } else { "." };
        format!("{sign}{whole}{point}{rest}{}", self.unit)
    }
}

/// Returns whether a number is written with this character.
fn is_of_number(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '-' | '.')
}

impl Axis {
    /// Returns the key, with dots.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns how many values there are, at least one.
    #[must_use]
    pub fn count(&self) -> u64 {
        match &self.values {
            Values::List(list) => u64::try_from(list.len()).unwrap_or(u64::MAX),
            Values::Range(steps) => steps.count,
        }
    }

    /// Returns the value at an index below [`Self::count`].
    #[must_use]
    pub fn value(&self, index: u64) -> String {
        match &self.values {
            Values::List(list) => {
                let place = usize::try_from(index).unwrap_or(usize::MAX);
                list.get(place).cloned().unwrap_or_default()
            }
            Values::Range(steps) => steps.value(index),
        }
    }

    /// Returns whether a value that lies between two others is also one between them in effect: the
    /// values of a range, not of a list.
    #[must_use]
    pub fn is_range(&self) -> bool {
        matches!(self.values, Values::Range(_))
    }
}

/// One value of each key, by its index.
pub type Point = Vec<u64>;

/// All combinations of the values of some keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    axes: Vec<Axis>,
}

impl Space {
    /// Makes the space of some keys.
    ///
    /// # Errors
    /// When there is none, there are too many, or one changes what another does.
    pub fn new(axes: Vec<Axis>) -> Result<Self, AxisError> {
        if axes.is_empty() {
            return Err(AxisError::Nothing);
        }
        if axes.len() > KEYS_MAX {
            return Err(AxisError::Keys(axes.len()));
        }
        for (i, one) in axes.iter().enumerate() {
            if let Some(other) = axes.iter().skip(i + 1).find(|o| overlap(&o.key, &one.key)) {
                return Err(AxisError::Same(one.key.clone(), other.key.clone()));
            }
        }
        Ok(Self { axes })
    }

    /// Returns the keys with their values, in the order given.
    #[must_use]
    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// Returns how many combinations there are.
    #[must_use]
    pub fn size(&self) -> u128 {
        let counts = self.axes.iter().map(|axis| u128::from(axis.count()));
        counts.fold(1, u128::saturating_mul)
    }

    /// Returns the combination of a number below [`Self::size`]; the last key changes first.
    #[must_use]
    pub fn point(&self, number: u128) -> Point {
        let mut rest = number;
        let mut point: Point = Vec::with_capacity(self.axes.len());
        for axis in self.axes.iter().rev() {
            let count = u128::from(axis.count().max(1));
            point.push(u64::try_from(rest % count).unwrap_or(0));
            rest /= count;
        }
        point.reverse();
        point
    }

    /// Returns the values of a combination, in the order of the keys.
    #[must_use]
    pub fn values(&self, point: &Point) -> Vec<String> {
        self.axes.iter().zip(point).map(|(axis, index)| axis.value(*index)).collect()
    }

    /// Returns a combination as overrides `key.path=value`.
    #[must_use]
    pub fn sets(&self, point: &Point) -> Vec<String> {
        let pairs = self.axes.iter().zip(self.values(point));
        pairs.map(|(axis, value)| format!("{}={value}", axis.key)).collect()
    }

    /// Returns a short name of each key: its last parts, as many as tell it from all others.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let ending = |key: &str, parts: usize| {
            let all: Vec<&str> = key.split('.').collect();
            all.get(all.len().saturating_sub(parts)..).unwrap_or(&all).join(".")
        };
        let name = |axis: &Axis| {
            let unique = |parts: &usize| {
                let short = ending(&axis.key, *parts);
                self.axes.iter().filter(|other| ending(&other.key, *parts) == short).count() == 1
            };
            let parts = (1..=axis.key.split('.').count()).find(unique).unwrap_or(usize::MAX);
            ending(&axis.key, parts)
        };
        self.axes.iter().map(name).collect()
    }

    /// Returns a combination for people: short names with their values.
    #[must_use]
    pub fn label(&self, point: &Point) -> String {
        let pairs = self.names().into_iter().zip(self.values(point));
        pairs.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
    }
}

/// Returns whether two keys change the same: they are one, or one is a block that holds the other.
#[must_use]
pub fn overlap(one: &str, other: &str) -> bool {
    let inside = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    inside(one, other) || inside(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<String> {
        let axis: Axis = text.parse().unwrap();
        (0..axis.count()).map(|i| axis.value(i)).collect()
    }

    #[test]
    fn a_list_keeps_its_values_and_a_range_counts_in_its_last_place() {
        assert_eq!(values("a.b=x, y"), ["x", "y"]);
        assert_eq!(values("w=[5m,15m,1h],[1m,2m,3m]"), ["[5m,15m,1h]", "[1m,2m,3m]"]);
        assert_eq!(values("f='../a,b',../c..d"), ["'../a,b'", "../c..d"]);
        assert_eq!(values("n=1..3"), ["1", "2", "3"]);
        assert_eq!(values("n=7..7"), ["7"]);
        assert_eq!(values("n=-0.1..0.10..0.10"), ["-0.10", "0.00", "0.10"]);
        assert_eq!(values("t=30s..100s..30s"), ["30s", "60s", "90s"]);
        assert_eq!(values("t=1.5h..1.7h"), ["1.5h", "1.6h", "1.7h"]);
    }

    #[test]
    fn what_cannot_be_varied_says_why() {
        for (text, why) in [
            ("a", "write KEY=V1"),
            ("=1", "write KEY=V1"),
            ("a=", "a value is missing"),
            ("a=1,,2", "a value is missing"),
            ("a=1,2,1", "1 is named twice"),
            ("a=5..1", "5 is above 1"),
            ("a=1m..2h", "one unit"),
            ("a=1..2s", "one unit"),
            ("a=1..", "`` is no number"),
            ("a=x..y", "is no number"),
            ("a=1e3..2e3", "is no number"),
            ("a=1..2..3..4", "is no number"),
            ("a=1..9..0", "a step must be more than 0"),
            ("a=1..9..-1", "a step must be more than 0"),
            ("a=0..1.0000000000", "more than 27"),
            ("a=-9000000000..9000000000", "fewer decimals"),
            ("a=0..99999999999999999999", "out of range"),
        ] {
            let error = text.parse::<Axis>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn every_number_is_a_combination_of_its_own() {
        let axes = ["a.x=1,2", "b.x=1..3", "c=p,q,r,s"].map(|text| text.parse().unwrap());
        let space = Space::new(axes.to_vec()).unwrap();
        assert_eq!(space.size(), 24);
        let points: BTreeSet<Point> = (0..24).map(|n| space.point(n)).collect();
        assert_eq!(points.len(), 24);
        assert_eq!(space.sets(&space.point(1)), ["a.x=1", "b.x=1", "c=q"]);
        assert_eq!(space.label(&vec![1, 2, 3]), "a.x 2, b.x 3, c s");
    }

    #[test]
    fn keys_that_change_the_same_are_refused() {
        let space = |keys: &[&str]| Space::new(keys.iter().map(|k| k.parse().unwrap()).collect());
        assert_eq!(space(&[]), Err(AxisError::Nothing));
        assert!(space(&["a.b=1", "a.bc=1"]).is_ok());
        for keys in [["a.b=1", "a.b=2"], ["a=1", "a.b=2"], ["a.b.c=1", "a.b=2"]] {
            assert!(space(&keys).unwrap_err().to_string().contains("change the same"), "{keys:?}");
        }
    }
}
