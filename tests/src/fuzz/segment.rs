//! The bytes of a journal's segment, made and mended: so that a mutation reaches what lies behind
//! checksums and chain. The writer itself is in `gridsim::journal`; a test compares the two.

use gridcore::command::{Command, Entry};
use gridcore::config::Config;
use gridcore::encode::{RULES_VERSION, digest_of, to_bytes};

/// Bytes of a segment's header, and of a record's fields before what it holds.
const HEADER: usize = 28;
const FIELDS: usize = 8 + 16 + 1 + 8;

/// Returns the CRC-32C of bytes, bit by bit (RFC 3720, appendix B.4).
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// Appends a record that follows another, and returns its place in the chain.
fn record(out: &mut Vec<u8>, chain: u128, mut body: Vec<u8>) -> u128 {
    if let Some(slot) = body.get_mut(8..24) {
        slot.copy_from_slice(&chain.to_le_bytes());
    }
    out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&crc32c(&body).to_le_bytes());
    out.extend_from_slice(&body);
    digest_of(&body).0
}

fn header() -> Vec<u8> {
    let mut out = b"gridjrnl".to_vec();
    out.extend_from_slice(&2_u32.to_le_bytes());
    out.extend_from_slice(&RULES_VERSION.to_le_bytes());
    let synced = [0; 8];
    out.extend_from_slice(&synced);
    out.extend_from_slice(&crc32c(&synced).to_le_bytes());
    out
}

/// Returns a segment that holds a configuration and a history.
#[must_use]
pub fn segment(config: &Config, entries: &[Entry<Command>]) -> Vec<u8> {
    let body = |seq: u64, kind: u8, at: u64, payload: Vec<u8>| {
        let mut body = seq.to_le_bytes().to_vec();
        body.extend_from_slice(&[0; 16]);
        body.push(kind);
        body.extend_from_slice(&at.to_le_bytes());
        body.extend(payload);
        body
    };
    let (mut out, mut chain) = (header(), digest_of(&[]).0);
    chain = record(&mut out, chain, body(0, 0, 0, to_bytes(config).unwrap_or_default()));
    for entry in entries {
        let payload = to_bytes(&entry.command).unwrap_or_default();
        chain = record(&mut out, chain, body(entry.seq.get(), 1, entry.at.ms(), payload));
    }
    out
}

/// Returns a damaged segment with header, checksums and chain as its writer would have made them;
/// the last record takes what is left.
#[must_use]
pub fn mend(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut chain) = (header(), digest_of(&[]).0);
    let mut rest = bytes.get(HEADER..).unwrap_or_default();
    while let Some((frame, after)) = rest.split_first_chunk::<8>() {
        let [a, b, c, d, ..] = *frame;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if after.len() < FIELDS {
            break;
        }
        let (body, next) = after.split_at(length.clamp(FIELDS, after.len()));
        chain = record(&mut out, chain, body.to_vec());
        rest = next;
    }
    out
}
