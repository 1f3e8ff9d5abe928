//! Weather: blows that fall on nodes and coordinator at random times, each for a while.

use super::GenerateError;
use super::lasting::Lasting;
use crate::rng::stream;
use crate::work::{Blow, BlowRecord};
use gridcore::units::{Span, Time};
use serde::Deserialize;
use std::collections::BTreeMap;

/// How often a blow falls, and for how long. Every node draws from its own stream; what falls on
/// the coordinator is drawn once.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlowProcess {
    /// From the end of one (or the beginning) to the next.
    pub every: Lasting,
    /// How long it lasts.
    pub lasts: Lasting,
}

/// The most blows of one run.
pub const BLOWS_MAX: usize = 1_000_000;

/// Draws the blows before `horizon`, sorted by time, then node.
///
/// # Errors
/// When a name is no blow, a number is outside its range, or there are more than [`BLOWS_MAX`].
pub fn blows(
    processes: &BTreeMap<String, BlowProcess>,
    seed: u64,
    nodes: u32,
    horizon: Span,
) -> Result<Vec<BlowRecord>, GenerateError> {
    let end = Time::ZERO.after(horizon);
    let mut all = Vec::new();
    for (name, process) in processes {
        let blow = Blow::named(name).map_err(|what| GenerateError::at(name.as_str(), what))?;
        let every = process.every.sampler("every")?;
        let lasts = process.lasts.sampler("lasts")?;
        for node in 0..if blow.is_alone() { 1 } else { nodes } {
            let mut drawn = stream(seed, blow.name(), u64::from(node));
            let mut at = Time::ZERO;
            loop {
                at = at.after(every.draw(&mut drawn));
                let lasts = lasts.draw(&mut drawn);
                if at >= end {
                    break;
                }
                if all.len() >= BLOWS_MAX {
                    let what = format!("more than {BLOWS_MAX} blows: let them fall less often");
                    return Err(GenerateError::at(name.as_str(), what));
                }
                all.push(BlowRecord { at, node, blow, lasts });
                at = at.after(lasts);
            }
        }
    }
    all.sort_unstable();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str) -> Result<Vec<BlowRecord>, GenerateError> {
        let processes: BTreeMap<String, BlowProcess> = serde_saphyr::from_str(text).unwrap();
        blows(&processes, 1, 200, Span::minutes(100 * 60))
    }

    #[test]
    fn blows_fall_at_the_stated_rate_on_every_node() {
        let hour = "lasts: {constant: {span: 1h}}";
        let text = format!(
            "cut: {{every: {{exponential: {{mean: 9h}}}}, {hour}}}\n\
             coordinator_crash: {{every: {{constant: {{span: 19h}}}}, {hour}}}\n"
        );
        let made = drawn(&text).unwrap();
        // A cycle of 10 h on 200 nodes for 100 h, and one of 20 h on one coordinator.
        let cuts = made.iter().filter(|blow| blow.blow == Blow::Cut).count();
        assert!(cuts.abs_diff(2_000) < 150, "{cuts}");
        assert_eq!(made.len() - cuts, 5);
        assert!(made.is_sorted());
    }

    #[test]
    fn what_is_no_blow_is_refused() {
        let error = drawn("hail: {every: {constant: {span: 1h}}, lasts: {constant: {span: 1h}}}");
        assert!(error.unwrap_err().to_string().contains("hail: it is none of coordinator_crash"));
        let endless = "cut: {every: {constant: {span: 0}}, lasts: {constant: {span: 0}}}";
        assert!(drawn(endless).is_err());
    }
}
