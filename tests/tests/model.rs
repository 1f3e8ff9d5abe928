//! The core against the slow, obvious scheduler, entry by entry.

use gridcore::config::{NodeSpec, Strategy};
use gridcore::units::{MilliCores, Span};
use gridtests::follow::Pair;
use gridtests::generate::{Case, Op, Profile, case};
use gridtests::run::property;
use gridtests::world::Checks;
use proptest::test_runner::TestCaseError;

/// Brings a case into what the model knows.
fn known(mut case: Case) -> Case {
    let rules = &mut case.config.rules;
    rules.fair_share.half_life = Span::new(u64::MAX / 4);
    (rules.preemption.grace, rules.offering.kill) = (Span::ZERO, Span::ZERO);
    let unknown = [Strategy::Random, Strategy::Fgd, Strategy::Headroom];
    if unknown.contains(&rules.scheduling.strategy) {
        rules.scheduling.strategy = Strategy::BestFit;
    }
    for node in &mut case.config.nodes {
        // A share in whole devices: which of them are lent is then the lowest.
        let NodeSpec { share_max, capacity, .. } = node;
        share_max.gpu = share_max.gpu.max(capacity.gpu);
    }
    for spec in case.ops.iter_mut().filter_map(Op::spec_mut) {
        // See `elastic.rs`.
        spec.extra = MilliCores::ZERO;
    }
    case
}

#[test]
fn the_core_and_the_slow_obvious_model_agree_after_every_entry() {
    let name = "the_core_and_the_slow_obvious_model_agree_after_every_entry";
    property(name, 800, &case(Profile::MODEL), |case, counts| {
        let case = known(case);
        let world = case.play(Checks::Off);
        let mut pair = Pair::new(&case.config);
        for entry in &world.entries {
            let same = pair.apply(entry);
            same.map_err(|what| TestCaseError::fail(format!("{what}\nafter {entry:?}")))?;
        }
        counts.case(world.entries.len());
        Ok(())
    });
}
