//! How long something lasts: distributions of spans, for run times, up times and repairs.

use super::GenerateError;
use super::sample::{float, positive_unit, real, whole};
use crate::decimal::{Decimal, Seconds};
use crate::rng::Stream;
use gridcore::units::Span;
use rand_distr::{Distribution, Exp1, StandardNormal};
use serde::Deserialize;

/// A distribution of spans. Every sample is rounded to a whole millisecond, at least 1.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Lasting {
    /// Always the same.
    Constant {
        /// How long.
        span: Seconds,
    },
    /// Memoryless.
    Exponential {
        /// The mean.
        mean: Seconds,
    },
    /// The logarithm is normal: many short ones, few very long ones.
    Lognormal {
        /// Half are shorter.
        median: Seconds,
        /// The standard deviation of the natural logarithm, 0 to 10.
        sigma: Decimal,
    },
    /// Power law between two bounds.
    Pareto {
        /// The shortest, above 0.
        min: Seconds,
        /// The longest, at least `min`.
        max: Seconds,
        /// The tail's exponent, above 0 up to 100; the smaller, the heavier the tail.
        alpha: Decimal,
    },
    /// One of several exponentials: more variable than one.
    Hyperexponential {
        /// The parts, at least one.
        parts: Vec<Part>,
    },
    /// Wears in (`shape` below 1) or out (above 1); 1 is exponential.
    Weibull {
        /// The scale: 63.2 % are shorter.
        scale: Seconds,
        /// The shape, 0.1 to 100.
        shape: Decimal,
    },
}

/// One part of [`Lasting::Hyperexponential`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// How often it is drawn against the others, above 0.
    pub weight: Decimal,
    /// Its mean.
    pub mean: Seconds,
}

/// A distribution that was checked, in milliseconds.
#[derive(Clone, Debug)]
pub(super) enum Sampler {
    Constant(Span),
    Exponential(f64),
    Lognormal { median: f64, sigma: f64 },
    Pareto { min: f64, max: f64, cut: f64, alpha: f64 },
    Hyperexponential { weights: Weights, means: Vec<f64> },
    Weibull { scale: f64, inverse_shape: f64 },
}

impl Lasting {
    /// Checks the numbers, whose key in errors begins with `key`.
    pub(super) fn sampler(&self, key: &str) -> Result<Sampler, GenerateError> {
        match self {
            Self::Constant { span } => Ok(Sampler::Constant(span.0.max(Span::new(1)))),
            Self::Exponential { mean } => {
                Ok(Sampler::Exponential(positive(*mean, key, "exponential.mean")?))
            }
            Self::Lognormal { median, sigma } => Ok(Sampler::Lognormal {
                median: positive(*median, key, "lognormal.median")?,
                sigma: between(*sigma, (0, 10_000_000), key, "lognormal.sigma")?,
            }),
            Self::Pareto { min, max, alpha } => {
                let low = positive(*min, key, "pareto.min")?;
                let high = positive(*max, key, "pareto.max")?;
                if high < low {
                    let what = "is below min: give at least min";
                    return Err(GenerateError::at(format!("{key}.pareto.max"), what));
                }
                let alpha = between(*alpha, (1, 100_000_000), key, "pareto.alpha")?;
                let cut = 1.0 - (low / high).powf(alpha);
                Ok(Sampler::Pareto { min: low, max: high, cut, alpha })
            }
            Self::Hyperexponential { parts } => {
                let of = "hyperexponential.parts";
                let weights = Weights::new(parts.iter().map(|part| part.weight))
                    .map_err(|what| GenerateError::at(format!("{key}.{of}"), what))?;
                let means = parts.iter().map(|part| positive(part.mean, key, of));
                Ok(Sampler::Hyperexponential { weights, means: means.collect::<Result<_, _>>()? })
            }
            Self::Weibull { scale, shape } => Ok(Sampler::Weibull {
                scale: positive(*scale, key, "weibull.scale")?,
                inverse_shape: 1.0 / between(*shape, (100_000, 100_000_000), key, "weibull.shape")?,
            }),
        }
    }
}

fn positive(span: Seconds, key: &str, of: &str) -> Result<f64, GenerateError> {
    if span.0.is_zero() {
        return Err(GenerateError::at(format!("{key}.{of}"), "is 0: give more than 0"));
    }
    Ok(float(span.0.get()))
}

/// Accepts a decimal between two bounds in millionths, both inside.
pub(super) fn between(
    number: Decimal,
    (least, most): (i64, i64),
    key: &str,
    of: &str,
) -> Result<f64, GenerateError> {
    if !(least..=most).contains(&number.millionths()) {
        let [number, least, most] = [number.millionths(), least, most].map(real_text);
        let what = format!("is {number}: give {least} to {most}");
        return Err(GenerateError::at(format!("{key}.{of}"), what));
    }
    Ok(real(number))
}

fn real_text(millionths: i64) -> String {
    real(Decimal::from_millionths(millionths)).to_string()
}

impl Sampler {
    /// Draws one span.
    pub(super) fn draw(&self, stream: &mut Stream) -> Span {
        let ms = match self {
            Self::Constant(span) => return *span,
            Self::Exponential(mean) => mean * exponential(stream),
            Self::Lognormal { median, sigma } => {
                let normal: f64 = StandardNormal.sample(stream);
                median * (sigma * normal).exp()
            }
            Self::Pareto { min, max, cut, alpha } => {
                // The inverse of the distribution function between the bounds.
                let kept = 1.0 - cut * super::sample::unit(stream);
                (min * kept.powf(-1.0 / alpha)).min(*max)
            }
            Self::Hyperexponential { weights, means } => {
                let mean = means.get(weights.draw(stream)).copied().unwrap_or(0.0);
                mean * exponential(stream)
            }
            Self::Weibull { scale, inverse_shape } => {
                scale * (-positive_unit(stream).ln()).powf(*inverse_shape)
            }
        };
        Span::new(whole(ms).max(1))
    }
}

/// Draws from the exponential distribution of mean 1.
pub(super) fn exponential(stream: &mut Stream) -> f64 {
    Exp1.sample(stream)
}

/// A choice by weight, in integers.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    /// Sums of the weights up to each, in millionths.
    sums: Vec<u64>,
}

impl Weights {
    /// Sums up the weights: at least one, none negative, not all 0.
    pub(super) fn new(weights: impl Iterator<Item = Decimal>) -> Result<Self, &'static str> {
        let mut sums = Vec::new();
        let mut sum = 0_u64;
        for weight in weights {
            let weight = u64::try_from(weight.millionths())
                .map_err(|_| "a weight is negative: give 0 or more")?;
            sum = sum.checked_add(weight).ok_or("the weights are too large")?;
            sums.push(sum);
        }
        if sum == 0 {
            return Err("no weight is above 0: give at least one");
        }
        Ok(Self { sums })
    }

    /// Draws the index of one; nothing is drawn where there is no choice.
    pub(super) fn draw(&self, stream: &mut Stream) -> usize {
        let Some(sum) = self.sums.last() else { return 0 };
        if self.sums.len() == 1 {
            return 0;
        }
        let drawn = stream.below(*sum);
        self.sums.partition_point(|up_to| *up_to <= drawn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    fn parse(text: &str) -> Lasting {
        serde_saphyr::from_str(text).unwrap()
    }

    fn drawn(lasting: &Lasting) -> Vec<u64> {
        let sampler = lasting.sampler("duration").unwrap();
        let mut stream = stream(11, "durations", 0);
        (0..200_000).map(|_| sampler.draw(&mut stream).get()).collect()
    }

    #[test]
    fn distributions_have_their_stated_mean_and_median() {
        for (text, mean, median) in [
            ("constant: {span: 10}", 10_000, 10_000),
            ("exponential: {mean: 1000s}", 1_000_000, 693_147),
            ("lognormal: {median: 10m, sigma: 1.0}", 989_232, 600_000),
            ("pareto: {min: 1, max: 1000, alpha: 1}", 6_914, 1_998),
            ("hyperexponential: {parts: [{weight: 9, mean: 1}, {weight: 1, mean: 91}]}", 10_000, 0),
            ("weibull: {scale: 100, shape: 2}", 88_623, 83_255),
        ] {
            let mut spans = drawn(&parse(text));
            let found = spans.iter().sum::<u64>() / spans.len() as u64;
            assert!(found.abs_diff(mean) * 40 <= mean, "{text}: mean {found}, not {mean}");
            spans.sort_unstable();
            let found = spans[spans.len() / 2];
            assert!(median == 0 || found.abs_diff(median) * 50 <= median, "{text}: {found}");
        }
    }

    #[test]
    fn numbers_outside_their_range_are_refused_by_key() {
        for (text, why) in [
            ("exponential: {mean: 0}", "d.exponential.mean: is 0"),
            ("lognormal: {median: 1, sigma: -1}", "d.lognormal.sigma: is -1: give 0 to 10"),
            ("pareto: {min: 2, max: 1, alpha: 1}", "d.pareto.max: is below min"),
            ("pareto: {min: 1, max: 1, alpha: 0}", "d.pareto.alpha: is 0: give 0.000001 to 100"),
            ("hyperexponential: {parts: []}", "d.hyperexponential.parts: no weight"),
            ("weibull: {scale: 1, shape: 0}", "d.weibull.shape: is 0: give 0.1 to 100"),
        ] {
            let error = parse(text).sampler("d").unwrap_err().to_string();
            assert!(error.starts_with(why), "{text}: {error}");
        }
        assert!(serde_saphyr::from_str::<Lasting>("exponential: {mean: 1, men: 2}").is_err());
        assert!(serde_saphyr::from_str::<Lasting>("exponentail: {mean: 1}").is_err());
    }
}
