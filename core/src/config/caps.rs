//! What nobody may have more of, whatever they can pay.

use crate::units::Ppm;
use serde::{Deserialize, Serialize};

/// Block `atp.caps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    /// The part of a pool's capacity-time that urgent work may have within any hour, in each
    /// resource, or one lease if that is more; beyond it urgent counts as high. `None` is no cap.
    pub urgent_share: Option<Ppm>,
}

impl Default for Caps {
    fn default() -> Self {
        Self { urgent_share: Some(Ppm::new(250_000)) }
    }
}
