//! What nobody may have more of, whatever they can pay.

use crate::units::Ppm;
use serde::{Deserialize, Serialize};

/// Block `atp.caps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    /// The part of what a pool lends that one account may have on others' nodes, in each resource
    /// that it asks for, or one lease if that is more. It binds new starts only, where three
    /// accounts or more run or wait in the pool and one of the others waits for nothing but room.
    /// `None` is no cap.
    pub pool_share: Option<Ppm>,
    /// Leases that one account may hold on others' nodes, over all pools. `None` is no cap.
    pub leases: Option<u32>,
    /// Jobs of one account that wait or run; the jobs of an array are one. `None` is no cap.
    pub open_requests: Option<u32>,
    /// Submissions of one account that are taken per second, once its burst is used up; drivers
    /// keep more from the core. `None` is no cap.
    pub requests_per_second: Option<u32>,
    /// Submissions of one account that are taken at once.
    pub burst: u32,
    /// The part of a pool's capacity-time that urgent work may have within any hour, in each
    /// resource, or one lease if that is more; beyond it urgent counts as high. `None` is no cap.
    pub urgent_share: Option<Ppm>,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            pool_share: Some(Ppm::new(500_000)),
            leases: Some(1_000),
            open_requests: Some(1_000),
            requests_per_second: Some(10),
            burst: 100,
            urgent_share: Some(Ppm::new(250_000)),
        }
    }
}
