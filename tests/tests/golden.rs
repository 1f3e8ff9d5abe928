//! The encoding of the state is part of the rules: another encoding needs another version.

use gridcore::config::{Order, Strategy};
use gridcore::encode::RULES_VERSION;
use gridcore::ids::NodeId;
use gridcore::units::{Ppm, Priority, Span};
use gridtests::cluster::{Cluster, LAB, cpu_job, load};
use gridtests::run::record;
use gridtests::world::{Checks, Work, World};

/// Rules version, and the digest of the history below under it.
const GOLDEN: (u32, &str) = (26, "b0045e0ebfc756c06aa3167d3bb8d17a");

/// A fixed small history that fills every table of the state.
fn history() -> World {
    let cluster = Cluster::new().account("owner", 10_000_000).pool("more", None);
    let cluster = cluster.dedicated(2, 8, 32).owned(2, 16, 64, 2).rules(|rules| {
        rules.atp.enabled = true;
        rules.atp.grant_fraction = Ppm::new(700_000);
        rules.atp.epoch = Span::seconds(60);
        rules.preemption.enabled = true;
        rules.preemption.runtime_min = Span::ZERO;
        rules.preemption.grace = Span::seconds(30);
        rules.scheduling.order = Order::Fair;
        rules.scheduling.strategy = Strategy::BestFit;
    });
    let mut world = World::new(cluster.config, Checks::Every);
    let owner = gridcore::ids::AccountId::new(1);
    let amount = gridcore::units::MicroAtp::whole(1_000_000);
    let paid = world.request(gridcore::command::Request::Deposit { account: LAB, amount });
    assert!(paid.is_ok());
    for node in [2, 3] {
        let (node, sample) = (NodeId::new(node), load(10, 20, 2));
        world.report(gridcore::command::Report::Sample { node, sample });
    }
    for (i, priority) in [25, 50, 75, 100].into_iter().enumerate() {
        let mut job = cpu_job(6);
        job.priority = Priority::new(priority).unwrap_or_default();
        job.limit = (i % 2 == 0).then_some(Span::seconds(400));
        let account = if i % 3 == 0 { LAB } else { owner };
        let work = Work { leaves: None, ..Work::seconds(700) };
        assert!(world.submit(account, &job, work).is_ok());
        world.advance(Span::seconds(25));
    }
    let left = world.grid.state();
    assert!(!left.claims.is_empty() && !left.leases.is_empty());
    world
}

#[test]
fn the_encoding_of_the_state_changes_only_with_the_rules_version() {
    let world = history();
    let digest = world.grid.digest().to_string();
    let (version, expected) = GOLDEN;
    assert_eq!(RULES_VERSION, version, "a new version needs a new digest here: {digest}");
    assert_eq!(digest, expected, "the state is encoded otherwise: raise RULES_VERSION");
    let name = "the_encoding_of_the_state_changes_only_with_the_rules_version";
    record("golden", name, 1, world.entries.len() as u64);
}
