//! The tariff: what reserved capacity costs (CREDITS.md "Rates").
//!
//! A cost is computed per node, resource and term from the metered integral, with one ceiling each,
//! so that it is monotone in amount, time and price (invariant 12) and n terms cost at most n
//! micro-ATP more than one (invariant 11).

use crate::bundle::{Bundle, DIMENSIONS, Needs};
use crate::price::Prices;
use crate::units::{Band, MicroAtp, Ppm, Span, scale_ceil};

/// What a term is paid by.
#[derive(Clone, Copy, Debug)]
pub struct Tariff<'a> {
    /// Resource-milliseconds that one ATP buys, per resource; a zero makes it free.
    pub rates: &'a [u64; DIMENSIONS],
    /// What each resource costs as a multiple of its rate.
    pub prices: &'a Prices,
    /// The band, which sets the factor of the class.
    pub band: Band,
}

/// Returns the cost of holding `needs` on one node for `span`. A cost that does not fit 64 bits is
/// more than any account may have, and stays at the largest that fits.
#[must_use]
pub fn cost(needs: &Needs, span: Span, tariff: Tariff<'_>) -> MicroAtp {
    cost_beside((needs, 0), span, tariff)
}

/// Returns the cost of holding `needs` on one node for `span`, and of CPU beside them in
/// millicore-milliseconds.
#[must_use]
pub fn cost_beside((needs, extra): (&Needs, u128), span: Span, tariff: Tariff<'_>) -> MicroAtp {
    let factor = tariff.band.price_factor();
    let (mut total, mut extra) = (0_u64, extra);
    let rows = tariff.rates.iter().zip(&tariff.prices.0);
    for (amount, (rate, price)) in needs.bundle().amounts().into_iter().zip(rows) {
        // CPU is the first of the amounts.
        let integral = u128::from(amount) * u128::from(span.get()) + core::mem::take(&mut extra);
        if integral == 0 || *rate == 0 {
            continue;
        }
        total = total.saturating_add(priced(integral, factor, *price, *rate));
    }
    MicroAtp::new(total)
}

/// Returns ceil(integral x class x price / (rate x 10^6)), both factors in millionths: at the
/// declared maxima (2^50 bytes for a day at price 8 and class 4) the product stays below 2^123. The
/// largest number where the quotient does not fit.
fn priced(integral: u128, class: Ppm, price: Ppm, rate: u64) -> u64 {
    let class = u64::from(class.get());
    if price == Ppm::ONE {
        return scale_ceil(integral, class, rate);
    }
    let product = integral.saturating_mul(u128::from(class) * u128::from(price.get()));
    let divisor = u128::from(rate) * u128::from(Ppm::ONE.get());
    u64::try_from(product.div_ceil(divisor)).unwrap_or(u64::MAX)
}

/// Returns the dominant share of a bundle in a whole, weighted, in parts of 2^32.
#[must_use]
pub fn dominant(part: &Bundle, whole: &Bundle, weights: [u32; 3]) -> u64 {
    let pairs = [
        (part.cpu.get(), whole.cpu.get(), weights[0]),
        (part.memory.get(), whole.memory.get(), weights[1]),
        (part.gpu.get(), whole.gpu.get(), weights[2]),
    ];
    let share = |(part, whole, weight): (u64, u64, u32)| {
        let scaled = (u128::from(part) * u128::from(weight)) << 32;
        u64::try_from(scaled.checked_div(u128::from(whole)).unwrap_or(0)).unwrap_or(u64::MAX)
    };
    pairs.into_iter().map(share).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::GpuNeed;
    use crate::config::Atp;
    use crate::units::{Bytes, MilliCores};

    fn at(needs: &Needs, span: Span, band: Band) -> MicroAtp {
        let rates = &Atp::default().rates;
        cost(needs, span, Tariff { rates, prices: &Prices::STATIC, band })
    }

    #[test]
    fn the_documented_rates_hold() {
        let hour = Span::minutes(60);
        let core = Needs { cpu: MilliCores::whole(1), ..Needs::default() };
        assert_eq!(at(&core, hour, Band::Medium), MicroAtp::whole(3_600));
        let gpu = Needs { gpus: GpuNeed::whole(1), ..Needs::default() };
        assert_eq!(at(&gpu, hour, Band::Medium), MicroAtp::whole(36_000));
        let gigabyte = Needs { memory: Bytes::new(1_000_000_000), ..Needs::default() };
        assert_eq!(at(&gigabyte, hour, Band::Medium), MicroAtp::whole(600));
        assert_eq!(at(&gigabyte, hour, Band::Urgent), MicroAtp::whole(2_400));
    }

    #[test]
    fn the_smallest_use_costs_one_micro_atp() {
        let byte = Needs { memory: Bytes::new(1), ..Needs::default() };
        assert_eq!(at(&byte, Span::new(1), Band::Low), MicroAtp::new(1));
        assert_eq!(at(&byte, Span::ZERO, Band::Low), MicroAtp::ZERO);
    }

    #[test]
    fn a_price_is_a_multiple_of_the_rate_rounded_up_once() {
        let (rates, mut prices) = (Atp::default().rates, Prices::STATIC);
        prices.0[3] = Ppm::new(1_500_000);
        let tariff = Tariff { rates: &rates, prices: &prices, band: Band::Low };
        let gpu = Needs { gpus: GpuNeed::whole(1), ..Needs::default() };
        assert_eq!(cost(&gpu, Span::minutes(60), tariff), MicroAtp::whole(27_000));
        // 1,000 thousandths x 1 ms x .5 x 1.5 / 100,000 is 7,500 micro-ATP.
        assert_eq!(cost(&gpu, Span::new(1), tariff), MicroAtp::new(7_500));
        prices.0[3] = Ppm::new(1_500_001);
        let tariff = Tariff { rates: &rates, prices: &prices, band: Band::Low };
        assert_eq!(cost(&gpu, Span::new(1), tariff), MicroAtp::new(7_501));
    }
}
