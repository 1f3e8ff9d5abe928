//! Snapshots: a state as bytes that name the rules they were made under, and their own digest, so
//! that damage is found before anything is believed.

use crate::decode::from_bytes;
use crate::encode::{EncodeError, RULES_VERSION, digest_of, to_bytes};
use crate::state::State;
use alloc::vec::Vec;
use thiserror::Error;

/// The first bytes of a snapshot.
const MAGIC: [u8; 8] = *b"gridsnap";

/// A state as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    bytes: Vec<u8>,
}

/// Why a snapshot cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// It does not begin like one.
    #[error("this is not a snapshot")]
    Magic,
    /// It was made under other rules.
    #[error("the snapshot is of rules version {found}, this is version {ours}")]
    Version {
        /// The snapshot's.
        found: u32,
        /// This program's.
        ours: u32,
    },
    /// Its bytes are not those that were written.
    #[error("the snapshot is damaged: its digest differs")]
    Digest,
    /// Its bytes are no state.
    #[error("the snapshot is damaged: {0}")]
    Damaged(EncodeError),
}

impl Snapshot {
    /// Copies a state.
    ///
    /// # Panics
    /// Never: every type of the state can be encoded.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&RULES_VERSION.to_le_bytes());
        match to_bytes(state) {
            Ok(encoded) => {
                bytes.extend_from_slice(&digest_of(&encoded).0.to_le_bytes());
                bytes.extend_from_slice(&encoded);
            }
            Err(error) => panic!("the state holds only what the encoding knows: {error}"),
        }
        Self { bytes }
    }

    /// Wraps bytes that were read from somewhere.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// Returns the bytes to write somewhere.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the state back.
    ///
    /// # Errors
    /// When the bytes are damaged or of other rules.
    pub fn state(&self) -> Result<State, SnapshotError> {
        let rest = self.bytes.strip_prefix(&MAGIC).ok_or(SnapshotError::Magic)?;
        let (version, rest) = rest.split_first_chunk::<4>().ok_or(SnapshotError::Magic)?;
        let found = u32::from_le_bytes(*version);
        if found != RULES_VERSION {
            return Err(SnapshotError::Version { found, ours: RULES_VERSION });
        }
        let (named, rest) = rest.split_first_chunk::<16>().ok_or(SnapshotError::Magic)?;
        if digest_of(rest).0.to_le_bytes() != *named {
            return Err(SnapshotError::Digest);
        }
        from_bytes(rest).map_err(SnapshotError::Damaged)
    }
}
