//! The tariff: what reserved capacity costs (CREDITS.md "Rates").
//!
//! A cost is computed per node, resource and term from the metered integral, with one ceiling each,
//! so that it is monotone in amount, time and price (invariant 12) and n terms cost at most n
//! micro-ATP more than one (invariant 11).

use crate::bundle::{Bundle, DIMENSIONS, Needs};
use crate::units::{Band, MicroAtp, Span, scale_ceil};

/// Returns the cost of holding `needs` on one node for `span`, at the static price. A cost that
/// does not fit 64 bits is more than any account may have, and stays at the largest that fits.
#[must_use]
pub fn cost(needs: &Needs, span: Span, band: Band, rates: &[u64; DIMENSIONS]) -> MicroAtp {
    cost_beside((needs, 0), span, band, rates)
}

/// Returns the cost of holding `needs` on one node for `span`, and of CPU beside them in
/// millicore-milliseconds.
#[must_use]
pub fn cost_beside(
    (needs, extra): (&Needs, u128),
    span: Span,
    band: Band,
    rates: &[u64; DIMENSIONS],
) -> MicroAtp {
    let factor = u64::from(band.price_factor().get());
    let (mut total, mut extra) = (0_u64, extra);
    for (amount, rate) in needs.bundle().amounts().into_iter().zip(*rates) {
        // CPU is the first of the amounts.
        let integral = u128::from(amount) * u128::from(span.get()) + core::mem::take(&mut extra);
        if integral == 0 || rate == 0 {
            continue;
        }
        total = total.saturating_add(scale_ceil(integral, factor, rate));
    }
    MicroAtp::new(total)
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

    #[test]
    fn the_documented_rates_hold() {
        let rates = Atp::default().rates;
        let hour = Span::minutes(60);
        let core = Needs { cpu: MilliCores::whole(1), ..Needs::default() };
        assert_eq!(cost(&core, hour, Band::Medium, &rates), MicroAtp::whole(3_600));
        let gpu = Needs { gpus: GpuNeed::whole(1), ..Needs::default() };
        assert_eq!(cost(&gpu, hour, Band::Medium, &rates), MicroAtp::whole(36_000));
        let gigabyte = Needs { memory: Bytes::new(1_000_000_000), ..Needs::default() };
        assert_eq!(cost(&gigabyte, hour, Band::Medium, &rates), MicroAtp::whole(600));
        assert_eq!(cost(&gigabyte, hour, Band::Urgent, &rates), MicroAtp::whole(2_400));
    }

    #[test]
    fn the_smallest_use_costs_one_micro_atp() {
        let rates = Atp::default().rates;
        let byte = Needs { memory: Bytes::new(1), ..Needs::default() };
        assert_eq!(cost(&byte, Span::new(1), Band::Low, &rates), MicroAtp::new(1));
        assert_eq!(cost(&byte, Span::ZERO, Band::Low, &rates), MicroAtp::ZERO);
    }
}
