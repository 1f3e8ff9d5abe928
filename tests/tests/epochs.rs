//! Epochs: what is granted and what decays, whatever else happens and whoever looks.

use gridcore::command::Request;
use gridcore::config::AccountSpec;
use gridcore::epoch::{decay, decayed_part, overflow, split};
use gridcore::ids::AccountId;
use gridcore::ledger::Ledger;
use gridcore::units::{MicroAtp, Ppm, Span};
use gridtests::cluster::{Cluster, cpu_job};
use gridtests::run::property;
use gridtests::world::{Checks, Work, World};
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq};

/// A cluster in which credit decays from the beginning, and one node has an owner.
fn world() -> World {
    let cluster = Cluster::new().account("owner", 0).account("rich", 50_000).account("poor", 3);
    let mut cluster = cluster.dedicated(1, 4, 16).rules(|rules| {
        rules.atp.enabled = true;
        rules.atp.grant_fraction = Ppm::new(1_000);
        rules.atp.decay_half_life = Some(Span::seconds(86_400));
    });
    cluster.config.nodes[0].owner = AccountId::new(1);
    World::new(cluster.config, Checks::Every)
}

#[test]
fn decay_does_not_depend_on_who_looks_and_when() {
    let name = "decay_does_not_depend_on_who_looks_and_when";
    let end = 40_000_u64;
    property(name, 60, &vec(1..end, 0..40), |mut looks, counts| {
        let play = |looks: &[u64]| -> Ledger {
            let mut world = world();
            let rich = AccountId::new(2);
            assert!(world.submit(rich, &cpu_job(2), Work::seconds(1_000)).is_ok());
            let mut last = 0;
            for look in looks.iter().chain([&end]) {
                world.advance(Span::seconds(look - last));
                last = *look;
                // Refused, and so nothing but a look at what is due.
                let amount = MicroAtp::ZERO;
                assert!(world.request(Request::Deposit { account: rich, amount }).is_err());
            }
            world.grid.state().ledger.clone()
        };
        looks.sort_unstable();
        let (often, once) = (play(&looks), play(&[]));
        prop_assert!(once.burned > 0 && once.accounts[AccountId::new(1)].granted > 0);
        prop_assert_eq!(often, once);
        counts.case(looks.len());
        Ok(())
    });
}

#[test]
fn credit_that_is_parked_in_holds_decays_all_the_same() {
    let name = "credit_that_is_parked_in_holds_decays_all_the_same";
    let amounts = (0..1_u64 << 62, 0..=1_000_u64, 0..1_u64 << 62, any::<u64>());
    property(name, 4_000, &amounts, |(total, parked, floor, part), counts| {
        let held =
            MicroAtp::new(u64::try_from(u128::from(total) * u128::from(parked) / 1_000).unwrap());
        let free = MicroAtp::new(total).saturating_sub(held);
        let (all, floor) = (MicroAtp::new(total), MicroAtp::new(floor));
        let honest = decay(all, MicroAtp::ZERO, floor, part);
        prop_assert_eq!(decay(free, held, floor, part), honest.min(free));
        prop_assert!(all.saturating_sub(honest) >= floor.min(all));
        let above = overflow(all, MicroAtp::ZERO, floor);
        prop_assert_eq!(overflow(free, held, floor), above.min(free));
        counts.case(1);
        Ok(())
    });
}

#[test]
fn more_than_one_epoch_at_once_decays_as_much_as_one_after_the_other() {
    let name = "more_than_one_epoch_at_once_decays_as_much_as_one_after_the_other";
    let cases = (1..1_u64 << 50, 0..1_u64 << 40, 1..2_000_u64, 60_000..10_000_000_u64);
    property(name, 300, &cases, |(balance, floor, epochs, life), counts| {
        let (epoch, life) = (Span::seconds(10), Span::new(life));
        let (start, floor) = (MicroAtp::new(balance), MicroAtp::new(floor));
        let mut left = start;
        for _ in 0..epochs {
            let lost = decay(left, MicroAtp::ZERO, floor, decayed_part(epoch, life));
            left = left.saturating_sub(lost);
        }
        let all = decayed_part(Span::seconds(10 * epochs), life);
        let once = start.saturating_sub(decay(start, MicroAtp::ZERO, floor, all));
        let off = left.get().abs_diff(once.get());
        prop_assert!(off <= epochs + 1, "{left} after {epochs}, {once} at once");
        counts.case(usize::try_from(epochs).unwrap());
        Ok(())
    });
}

#[test]
fn parts_by_weight_add_up_and_none_is_a_micro_atp_off() {
    let name = "parts_by_weight_add_up_and_none_is_a_micro_atp_off";
    let cases = (any::<u64>(), vec(1..u32::MAX, 1..40));
    property(name, 2_000, &cases, |(total, weights), counts| {
        let rows: Vec<(AccountId, u32)> = (0..).map(AccountId::new).zip(weights).collect();
        let parts = split(MicroAtp::new(total), &rows);
        let sum: u128 = parts.iter().map(|(_, part)| u128::from(part.get())).sum();
        prop_assert_eq!(sum, u128::from(total));
        let all: u128 = rows.iter().map(|(_, weight)| u128::from(*weight)).sum();
        for ((id, weight), (same, part)) in rows.iter().zip(&parts) {
            prop_assert_eq!(id, same);
            let exact = u128::from(total) * u128::from(*weight) / all;
            prop_assert!((exact..=exact + 1).contains(&u128::from(part.get())));
        }
        counts.case(rows.len());
        Ok(())
    });
}

#[test]
fn an_account_at_rest_at_its_floor_stays_there_and_nothing_is_due() {
    let mut cluster = Cluster::new().dedicated(1, 4, 16).rules(|rules| {
        rules.atp.enabled = true;
        rules.atp.grant_fraction = Ppm::ONE;
    });
    // The daily grant of 4 cores alone is 345,600 ATP.
    cluster.config.accounts.push(AccountSpec::new("calm", MicroAtp::whole(300)));
    let mut world = World::new(cluster.config, Checks::Every);
    world.advance(Span::seconds(30 * 86_400));
    let state = world.grid.state();
    let calm = state.account(AccountId::new(1));
    assert_eq!((calm.available, calm.decayed, state.ledger.burned), (MicroAtp::whole(300), 0, 0));
    assert!(state.epochs.ends.is_none());
}
