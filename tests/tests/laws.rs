//! Laws over generated histories.

use gridtests::generate::{Profile, case};
use gridtests::run::property;
use gridtests::world::Checks;

#[test]
fn every_invariant_holds_after_every_entry() {
    property("every_invariant_holds_after_every_entry", 400, &case(Profile::ALL), |case, counts| {
        let world = case.play(Checks::Every);
        counts.case(world.entries.len());
        Ok(())
    });
}
