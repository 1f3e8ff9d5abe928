//! Random streams: one per purpose and index, all from one seed.
//!
//! A stream is named by what it is drawn for (`"arrivals"`, `"durations"`) and by the index of the
//! one it is drawn for (a class, a node). Its state depends on seed, name and index alone, so a new
//! purpose never shifts the numbers of another. Integers come from methods of our own on 64 bits:
//! the same on every platform, never from `usize`. Nothing here reads entropy or a clock.

use core::convert::Infallible;
use rand::{Rng, SeedableRng, TryRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// One stream of random numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream(Xoshiro256PlusPlus);

/// Opens the stream of `purpose` number `index` under `seed`.
///
/// The purpose is hashed with FNV-1a; seed, hash and index are mixed one after the other with
/// `SplitMix64`, whose next four outputs are the state of xoshiro256++ (as its authors advise).
#[must_use]
pub fn stream(seed: u64, purpose: &str, index: u64) -> Stream {
    let mut state = mix(seed.wrapping_add(GOLDEN));
    state = mix(state ^ fnv1a(purpose.as_bytes()));
    state = mix(state ^ index.wrapping_mul(GOLDEN).wrapping_add(GOLDEN));
    let mut bytes = [0; 32];
    for word in bytes.chunks_exact_mut(8) {
        state = state.wrapping_add(GOLDEN);
        word.copy_from_slice(&mix(state).to_le_bytes());
    }
    Stream(Xoshiro256PlusPlus::from_seed(bytes))
}

/// The step of `SplitMix64`: 2^64 divided by the golden ratio, made odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of `SplitMix64`.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The 64-bit FNV-1a hash.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Stream {
    /// Returns the next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Returns a uniform number below `n`, without bias; 0 when `n` is 0.
    ///
    /// The high half of a 128-bit product, with rejection of the short part (Lemire 2019).
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        let short = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.bits()) * u128::from(n);
            let [low, high] = halves(product);
            if low >= short {
                return high;
            }
        }
    }

    /// Puts `items` into a uniformly random order (Fisher-Yates, from the last place down).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let places = u64::try_from(last).unwrap_or(u64::MAX).saturating_add(1);
            let other = usize::try_from(self.below(places)).unwrap_or(last);
            items.swap(last, other);
        }
    }

    /// Returns the numbers 0 to `n - 1` in a uniformly random order.
    pub fn permutation(&mut self, n: u32) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..n).collect();
        self.shuffle(&mut numbers);
        numbers
    }
}

/// Returns the low and the high 64 bits.
const fn halves(product: u128) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = product.to_le_bytes();
    [u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes([i, j, k, l, m, n, o, p])]
}

impl TryRng for Stream {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers were computed by a second implementation, from the algorithms' descriptions.
    #[test]
    fn a_named_stream_gives_these_numbers_for_ever() {
        let mut arrivals = stream(42, "arrivals", 0);
        let drawn = [arrivals.bits(), arrivals.bits(), arrivals.bits()];
        assert_eq!(drawn, GOLDEN_BITS);
        let below: Vec<u64> = (0..8).map(|_| arrivals.below(10)).collect();
        assert_eq!(below, GOLDEN_BELOW);
        assert_eq!(stream(42, "ties", 3).permutation(8), GOLDEN_PERMUTATION);
    }

    const GOLDEN_BITS: [u64; 3] =
        [4_459_482_134_663_141_781, 15_943_449_763_628_968_958, 8_769_065_244_176_830_533];
    const GOLDEN_BELOW: [u64; 8] = [6, 6, 5, 4, 8, 9, 7, 9];
    const GOLDEN_PERMUTATION: [u32; 8] = [7, 1, 2, 5, 6, 4, 0, 3];

    #[test]
    fn seed_purpose_and_index_each_make_another_stream() {
        let first = stream(1, "a", 0);
        assert_eq!(first, stream(1, "a", 0));
        for other in [stream(2, "a", 0), stream(1, "b", 0), stream(1, "a", 1), stream(1, "", 0)] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn numbers_below_a_bound_are_uniform_and_stay_below_it() {
        let mut drawn = stream(7, "uniform", 0);
        let mut counts = [0_u32; 6];
        for _ in 0..60_000 {
            counts[usize::try_from(drawn.below(6)).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
        assert_eq!(drawn.below(0), 0);
        assert_eq!(drawn.below(1), 0);
        let past_half = (1 << 63) + 1;
        assert!((0..1_000).all(|_| drawn.below(past_half) < past_half));
    }

    #[test]
    fn a_permutation_holds_every_number_once() {
        let mut numbers = stream(9, "order", 0).permutation(1_000);
        assert!(!numbers.is_sorted());
        numbers.sort_unstable();
        assert_eq!(numbers, (0..1_000).collect::<Vec<u32>>());
        assert!(stream(9, "order", 0).permutation(0).is_empty());
    }
}
