//! Failures of nodes: up times and repairs drawn in turn.

use super::GenerateError;
use crate::rng::stream;
use crate::work::FaultRecord;
use gridcore::units::{Span, Time};
use serde::Deserialize;

pub use super::lasting::Lasting;

/// How nodes fail. Every node begins up and draws from its own stream (`faults`, its index).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultProcess {
    /// From a return (or the beginning) to the next failure; field data fit a Weibull whose shape
    /// is 0.7 to 0.8 (Schroeder and Gibson, DSN 2006).
    pub up: Lasting,
    /// From a failure to the return; field data fit a lognormal (same source).
    pub repair: Lasting,
}

/// The most changes of one process.
pub const FAULTS_MAX: usize = 20_000_000;

/// Draws the failures and returns of `nodes` nodes before `horizon`, sorted by time, then node.
///
/// # Errors
/// When a number of the description is outside its range, or there are more than [`FAULTS_MAX`].
pub fn faults(
    process: &FaultProcess,
    seed: u64,
    nodes: u32,
    horizon: Span,
) -> Result<Vec<FaultRecord>, GenerateError> {
    let up = process.up.sampler("up")?;
    let repair = process.repair.sampler("repair")?;
    let end = Time::ZERO.after(horizon);
    let mut faults = Vec::new();
    for node in 0..nodes {
        let mut drawn = stream(seed, "faults", u64::from(node));
        let mut is_up = true;
        let mut at = Time::ZERO;
        loop {
            let lasts = if is_up { &up } else { &repair };
            at = at.after(lasts.draw(&mut drawn));
            if at >= end {
                break;
            }
            is_up = !is_up;
            if faults.len() >= FAULTS_MAX {
                let what = format!("more than {FAULTS_MAX} changes: lengthen the up times");
                return Err(GenerateError::at("up", what));
            }
            faults.push(FaultRecord { at, node, up: is_up });
        }
    }
    faults.sort_unstable();
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_fail_and_return_in_turn_at_the_stated_rates() {
        let text = "up: {exponential: {mean: 9h}}\nrepair: {lognormal: {median: 1h, sigma: 0}}\n";
        let process: FaultProcess = serde_saphyr::from_str(text).unwrap();
        let made = faults(&process, 1, 1_000, Span::minutes(10_000 * 60)).unwrap();
        // A cycle of 10 h makes two changes: 1,000 cycles for each of 1,000 nodes.
        assert!(made.len().abs_diff(2_000_000) < 10_000, "{}", made.len());
        assert!(made.is_sorted());
        let mut is_up = vec![true; 1_000];
        for fault in &made {
            let state = &mut is_up[usize::try_from(fault.node).unwrap()];
            assert_ne!(*state, fault.up);
            *state = fault.up;
        }
        let few = faults(&process, 1, 10, Span::minutes(10_000 * 60)).unwrap();
        let same: Vec<_> = made.iter().filter(|fault| fault.node < 10).copied().collect();
        assert_eq!(few, same);
    }

    #[test]
    fn a_process_without_end_is_refused() {
        let text = "up: {constant: {span: 0}}\nrepair: {constant: {span: 0}}\n";
        let process: FaultProcess = serde_saphyr::from_str(text).unwrap();
        assert!(faults(&process, 1, 1, Span::MAX).is_err());
    }
}
