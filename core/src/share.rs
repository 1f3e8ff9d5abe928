//! Shares: how much of its part an account has had, by the formulas that users of other schedulers
//! know. Fixed point with 32 fraction bits ([`ONE`] is 1); questions only.

use alloc::vec::Vec;

/// One whole.
pub const ONE: u64 = 1 << 32;

/// The natural logarithm of 2, with 64 fraction bits.
const LN_2: u128 = 0xb172_17f7_d1cf_79ab;

/// Returns 2^-x, exact to the last of its 32 fraction bits but one.
#[must_use]
pub fn half_to(x: u64) -> u64 {
    let (whole, part) = (x >> 32, u128::from(x % ONE));
    // e^-y for y = part ln 2 by its series, with 62 fraction bits.
    let y = (part * LN_2) >> 34;
    let (mut sum, mut term, mut n) = (1_i128 << 62, 1_u128 << 62, 1);
    while term > 0 {
        term = ((term * y) >> 62) / n;
        let signed = i128::try_from(term).unwrap_or(0);
        sum += if n % 2 == 1 { -signed } else { signed };
        n += 1;
    }
    let value = u64::try_from(sum >> 30).unwrap_or(0);
    value.checked_shr(u32::try_from(whole).unwrap_or(u32::MAX)).unwrap_or(0)
}

/// Returns the fair-share factor 2^(-use/share) of an account with a share of everything and a part
/// of all use: 1 for no use, one half for a use equal to the share (Slurm, "classic" fair share).
#[must_use]
pub fn factor(used: u64, share: u64) -> u64 {
    let ratio = (u128::from(used) << 32).checked_div(u128::from(share));
    half_to(ratio.and_then(|ratio| u64::try_from(ratio).ok()).unwrap_or(u64::MAX))
}

/// Returns the use that counts for a child of an account in a tree: its own, and of what its parent
/// counts beside that the part that its share is of all siblings' (Slurm, as [`factor`]).
#[must_use]
pub fn effective(own: u64, parent: u64, share: u64, siblings: u64) -> u64 {
    let rest = u128::from(parent.saturating_sub(own)) * u128::from(share);
    let part = rest.checked_div(u128::from(siblings)).unwrap_or(0);
    own.saturating_add(u64::try_from(part).unwrap_or(u64::MAX))
}

/// Returns which part of the capacity each account is due next: its share and k times as much more
/// as it has had less than that (KAI, time-based fair share); all 0 where nobody is due anything.
#[must_use]
pub fn due(shares: &[u64], used: &[u64], k: u64) -> Vec<u64> {
    let one = i128::from(ONE);
    let part = |(share, used): (&u64, &u64)| {
        let (share, used) = (i128::from(*share), i128::from(*used));
        (share + i128::from(k) * (share - used) / one).max(0)
    };
    let parts: Vec<i128> = shares.iter().zip(used).map(part).collect();
    let all: i128 = parts.iter().sum();
    let of_all = |part: i128| (part * one).checked_div(all).unwrap_or(0);
    parts.into_iter().map(|part| u64::try_from(of_all(part)).unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns millionths in fixed point, rounded.
    fn of(millionths: u64) -> u64 {
        u64::try_from((u128::from(millionths) * u128::from(ONE) + 500_000) / 1_000_000).unwrap_or(0)
    }

    /// Returns fixed point in millionths, rounded.
    fn millionths(value: u64) -> u64 {
        u64::try_from((u128::from(value) * 1_000_000 + u128::from(ONE) / 2) / u128::from(ONE))
            .unwrap_or(0)
    }

    #[test]
    fn halves_are_exact_where_they_can_be_and_precise_elsewhere() {
        for n in 0..40 {
            assert_eq!(
                half_to(n << 32),
                ONE.checked_shr(u32::try_from(n).unwrap_or(0)).unwrap_or(0)
            );
        }
        // sqrt(1/2), the fourth root of 1/2, and 2^-2.345.
        let known = [(500_000, 3_037_000_500), (250_000, 3_611_622_603), (2_345_000, 845_365_502)];
        for (x, want) in known {
            assert!(half_to(of(x)).abs_diff(want) <= 2, "2^-{x}e-6: {}", half_to(of(x)));
        }
        assert_eq!(half_to(u64::MAX), 0);
    }

    #[test]
    fn the_published_tree_has_its_factors() {
        // Slurm, classic_fair_share.html and its test 24.1: shares A 40 (B 30: user 1; C 10: users
        // 2 and 3), D 60 (E 25: user 4; F 35: user 5).
        let use_of = |own, parent, share, siblings| effective(of(own), parent, share, siblings);
        let (a, d) = (of(450_000), of(250_000));
        let (b, c) = (use_of(200_000, a, 30, 40), use_of(250_000, a, 10, 40));
        let (e, f) = (use_of(250_000, d, 25, 60), use_of(0, d, 35, 60));
        let users = [
            (use_of(200_000, b, 1, 1), 300_000, 387_500, 408_479),
            (use_of(250_000, c, 1, 2), 50_000, 275_000, 22_097),
            (use_of(0, c, 1, 2), 50_000, 150_000, 125_000),
            (use_of(250_000, e, 1, 1), 250_000, 250_000, 500_000),
            (use_of(0, f, 1, 1), 350_000, 145_833, 749_154),
        ];
        for (used, share, counts, want) in users {
            assert_eq!(millionths(used), counts);
            assert_eq!(millionths(factor(used, of(share))), want);
        }
    }

    #[test]
    fn who_had_less_is_due_more() {
        let half = of(500_000);
        let due =
            |used: [u64; 2]| due(&[half, half], &used.map(of), ONE).into_iter().map(millionths);
        assert!(due([0, 0]).eq([500_000, 500_000]));
        assert!(due([240_000, 0]).eq([431_818, 568_182]));
        assert!(due([1_000_000, 0]).eq([0, 1_000_000]));
    }
}
