//! Mutations of inputs: the same seed gives the same bytes for ever.

use gridcore::state::mix;

/// Most bytes of a mutated input.
const BYTES_MAX: usize = 1 << 16;

/// Numbers that lie at an edge: as a length, an id, a time, an amount.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 32,
    1 << 48,
    i64::MAX as u64,
    u64::MAX - 1,
    u64::MAX,
];

/// Draws in order.
struct Draw {
    seed: u64,
    count: u64,
}

impl Draw {
    /// Returns a number below `end`; 0 where there is none.
    fn below(&mut self, end: usize) -> usize {
        self.count += 1;
        let wide = u128::from(mix(self.seed, self.count)) * end as u128;
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap_or(0)
    }
}

/// Returns an input changed at up to four places; `other` is one to splice with.
#[must_use]
pub fn mutate(input: &[u8], other: &[u8], seed: u64) -> Vec<u8> {
    let mut draw = Draw { seed, count: 0 };
    let mut bytes = input.to_vec();
    for _ in 0..=draw.below(4) {
        step(&mut bytes, other, &mut draw);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

/// Changes one place.
fn step(bytes: &mut Vec<u8>, other: &[u8], draw: &mut Draw) {
    let at = draw.below(bytes.len() + 1);
    let run = 1 + draw.below(16);
    match draw.below(9) {
        // Half of all: a bit, a byte, or a number at an edge, where the length stays.
        0 | 1 => {
            let bit = draw.below(8);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
        2 => {
            let new = draw.byte();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = new;
            }
        }
        3 | 4 => {
            let edge = EDGES.get(draw.below(EDGES.len())).copied().unwrap_or(0);
            let width = [1, 2, 4, 8].get(draw.below(4)).copied().unwrap_or(8);
            for (slot, byte) in bytes.iter_mut().skip(at).zip(edge.to_le_bytes()).take(width) {
                *slot = byte;
            }
        }
        5 => bytes.truncate(at),
        6 => {
            let new: Vec<u8> = (0..run).map(|_| draw.byte()).collect();
            bytes.splice(at..at, new);
        }
        7 => {
            let end = (at + run).min(bytes.len());
            bytes.drain(at..end);
        }
        // The end of another input, from the same place where there is one.
        _ => {
            let from = if draw.below(2) == 0 { at } else { draw.below(other.len() + 1) };
            bytes.truncate(at);
            bytes.extend_from_slice(other.get(from..).unwrap_or_default());
        }
    }
}
