//! Generated jobs: what they ask for and how they behave.

use crate::cluster::needs_of;
use crate::world::Work;
use gridcore::command::{JobSpec, LabelNeed, Near};
use gridcore::ids::{NodeId, PoolId};
use gridcore::units::{MicroAtp, MilliCores, Ppm, Priority, Span, Time};
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

/// Generates how a job behaves.
pub(super) fn work() -> impl Strategy<Value = Work> {
    let work = prop_oneof![
        1 => (0..60_000_u64).prop_map(Span::new),
        2 => (60..4_000_u64).prop_map(Span::seconds),
        2 => Just(Span::seconds(1_000_000)),
    ];
    let leaves = option::weighted(0.7, (0..40_u64).prop_map(Span::seconds));
    (work, 0..6_u8, leaves, 0..3_u64).prop_map(|(work, odd, leaves, dies)| Work {
        work,
        fails: odd == 0,
        leaves,
        dies: Span::seconds(dies * 4),
    })
}

/// Generates what a job asks for; some ask for too much, or for nothing.
pub fn job() -> impl Strategy<Value = JobSpec> {
    let needs = (
        prop_oneof![2 => 0..5_u32, 1 => 4..9_u32],
        0..9_u32,
        prop_oneof![3 => Just(0), 2 => 1..3_u8],
        0..8_u16,
        0..3_u64,
    );
    let gang = (prop_oneof![30 => Just(1), 8 => 2..5_u16, 1 => Just(0)], any::<bool>());
    let priority = prop_oneof![Just(25), Just(50), Just(75), Just(100), 0..101_u8,];
    let span = |max: u64| option::weighted(0.5, (0..max).prop_map(Span::seconds));
    let terms = (span(900), span(300), option::weighted(0.2, 0..5_000_u64), span(60));
    let odd = (0..24_u8, any::<u16>(), 0..2_u32);
    (needs, gang, priority, terms, odd).prop_map(|(needs, gang, priority, terms, odd)| {
        let (kind, n, pool) = odd;
        let mut spec = JobSpec {
            pool: PoolId::new(if kind == 23 { 9 } else { pool }),
            priority: Priority::new(priority).unwrap_or_default(),
            needs: needs_of(needs, n),
            members: gang.0,
            spread: gang.1,
            limit: terms.0,
            checkpoint: terms.1,
            budget: terms.2.map(MicroAtp::whole),
            vacate: terms.3,
            restart: Span::seconds(u64::from(n % 4) * 20),
            movable: n % 3 == 0,
            extra: MilliCores::new(if n % 5 == 0 { u64::from(n % 4) * 700 } else { 0 }),
            refuse_if_busy: kind == 1,
            price_max: price_max(n / 3),
            any_pool: kind == 22,
            ..JobSpec::default()
        };
        match kind {
            2 | 3 => {
                let (key, any_of) = (String::from("zone"), vec![String::from("z0")]);
                spec.labels.push(LabelNeed { key, any_of });
            }
            4 => spec.labels.push(LabelNeed { key: String::from("gpu_model"), any_of: vec![] }),
            5 | 6 => spec.preferred.push(NodeId::new(u32::from(n % 8))),
            7 => spec.preferred.push(NodeId::new(77)),
            8 | 9 => spec.excluded.push(NodeId::new(u32::from(n % 8))),
            10..16 => company(&mut spec, n),
            16 | 17 => spec.near = Some(Near::Node(NodeId::new(u32::from(n % 8)))),
            18 => spec.near = Some(Near::Zone(String::from("z1"))),
            19 => spec.begin = Some(Time::from_ms(u64::from(n) * 20)),
            20 | 21 => {
                spec.begin = Some(Time::from_ms(u64::from(n) * 50));
                spec.reserve = true;
            }
            _ => {}
        }
        spec
    })
}

/// Returns the highest price that a job pays: any, or one that is soon reached.
fn price_max(n: u16) -> Option<Ppm> {
    let ppm = [1_000_000, 1_000_000, 1_020_000, 1_300_000, 900_000].get(usize::from(n % 9))?;
    Some(Ppm::new(*ppm))
}

/// Lets a job be something, and want to be near others or away from them.
fn company(spec: &mut JobSpec, n: u16) {
    let tag = |n: u16| String::from(if n.is_multiple_of(2) { "web" } else { "store" });
    match n % 5 {
        0 | 1 => {}
        2 => spec.affinity.push(tag(n / 5)),
        3 => spec.anti_affinity.push(tag(n / 5)),
        _ => {
            spec.affinity.push(tag(n / 5));
            spec.anti_affinity.push(tag(n / 5 + 1));
        }
    }
    if n % 5 < 2 || !n.is_multiple_of(3) {
        spec.tags.push(tag(n / 7));
    }
    if n.is_multiple_of(97) {
        spec.tags = vec![String::new()];
    }
}
