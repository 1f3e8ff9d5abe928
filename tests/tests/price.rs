//! Prices: the published rule, demand that answers late, constant load, and money at its limits.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "the model of demand is in floats: its prices are rounded to millionths"
)]

use gridcore::bundle::{GpuNeed, Needs};
use gridcore::command::JobSpec;
use gridcore::config::{Atp, Backfill, Order, Pricing};
use gridcore::ids::{AccountId, PoolId};
use gridcore::price::{MAX, MIN, Prices, TARGET, next, step};
use gridcore::tariff::{Tariff, cost};
use gridcore::units::{Band, Bytes, MilliCores, Ppm, Span};
use gridtests::cluster::{Cluster, cpu_job, plain_rules};
use gridtests::run::record;
use gridtests::world::{Checks, Work, World};
use proptest::prelude::{ProptestConfig, prop_assert, proptest};
use std::path::Path;

/// Checks the steps of a file of anchors; returns how many.
fn check(path: &Path) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let number = |of: &serde_json::Value, key: &str| of[key].as_u64().unwrap_or(u64::MAX);
    let mut checked = 0;
    for anchor in file["anchors"].as_array().into_iter().flatten() {
        if anchor["kind"] != "price_update" {
            continue;
        }
        let denominator = number(anchor, "denominator");
        for case in anchor["cases"].as_array().into_iter().flatten() {
            let [price, used, target, out] =
                ["price", "used", "target", "out"].map(|key| number(case, key));
            assert_eq!(step(price, used, target, denominator), out, "{case}");
            checked += 1;
        }
    }
    checked
}

#[test]
fn a_step_is_that_of_the_published_rule() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = check(&tests.join("vectors/price.json"));
    let recorded = tests.join("../../shared/conformance/credit_anchors.json");
    let more = if recorded.exists() { check(&recorded) } else { 0 };
    println!("{own} steps of our own, {more} recorded ones");
    assert!(own == 6, "{own} steps");
    assert!(more == 8 || !recorded.exists(), "{more} recorded steps");
}

/// What a run of the controller came to over its last part.
#[derive(Debug)]
struct Tail {
    /// The highest price over the lowest.
    swing: f64,
    /// The mean utilisation.
    mean: f64,
    /// Whether the price stood at one of its bounds.
    bound: bool,
    /// How many different prices there were at the very end.
    prices: usize,
}

/// Follows demand `base * price^-elasticity` that answers `lag` looks late, with noise of so much.
fn follow(base: f64, elasticity: f64, lag: usize, mut noise: impl FnMut() -> f64) -> Tail {
    let (looks, settled) = (6_000, 2_000);
    let mut prices = vec![Ppm::ONE; lag + 1];
    let mut uses = Vec::new();
    for _ in 0..looks {
        let seen = f64::from(prices[prices.len() - 1 - lag].get()) / 1e6;
        let used = (base * seen.powf(-elasticity) * (1.0 + noise())).min(2.0);
        uses.push(used);
        let price = prices[prices.len() - 1];
        prices.push(next(price, Ppm::new((used * 1e6) as u32)));
    }
    let tail = &prices[prices.len() - settled..];
    let low = tail.iter().min().copied().unwrap_or_default();
    let high = tail.iter().max().copied().unwrap_or_default();
    let mut last: Vec<Ppm> = tail[settled - 200..].to_vec();
    last.sort_unstable();
    last.dedup();
    Tail {
        swing: f64::from(high.get()) / f64::from(low.get()),
        mean: uses[uses.len() - settled..].iter().sum::<f64>() / settled as f64,
        bound: low == MIN || high == MAX,
        prices: last.len(),
    }
}

const ELASTICITIES: [f64; 5] = [0.5, 1.0, 2.0, 4.0, 8.0];
const BASES: [f64; 6] = [0.35, 0.5, 0.72, 0.9, 1.4, 2.0];

#[test]
fn elastic_demand_that_answers_late_settles_at_the_target() {
    let (mut cases, mut at_bounds) = (0_u64, 0_u64);
    for elasticity in ELASTICITIES {
        for lag in 1..=4 {
            for base in BASES {
                let tail = follow(base, elasticity, lag, || 0.0);
                let case = format!("e {elasticity}, lag {lag}, base {base}: {tail:?}");
                cases += 1;
                assert!(tail.prices == 1, "the price still moves: {case}");
                assert!(tail.swing <= 1.1, "{case}");
                if tail.bound {
                    at_bounds += 1;
                } else {
                    assert!((tail.mean - 0.7).abs() <= 0.02, "{case}");
                }
            }
        }
    }
    record("price", "elastic", cases, 0);
    assert!(at_bounds * 4 < cases, "{at_bounds} of {cases} say nothing of the target");
}

#[test]
fn noise_of_a_tenth_moves_prices_little() {
    for elasticity in ELASTICITIES {
        for lag in 1..=4 {
            let mut state = 1_u64;
            let noise = || {
                state = gridcore::state::mix(state, 1);
                (state >> 11) as f64 / (1_u64 << 53) as f64 * 0.2 - 0.1
            };
            let tail = follow(0.9, elasticity, lag, noise);
            let case = format!("e {elasticity}, lag {lag}: {tail:?}");
            assert!(tail.swing <= 1.1 && (tail.mean - 0.7).abs() <= 0.02, "{case}");
        }
    }
}

#[test]
fn constant_load_settles_wherever_it_lies() {
    for used in (0..=2_000_000).step_by(9_973) {
        let (used, mut price, mut moved) = (Ppm::new(used), Ppm::ONE, 0_u32);
        for look in 0..100_000 {
            let after = next(price, used);
            let towards = (after > price) == (used > TARGET);
            assert!(after == price || towards, "{price} goes to {after} at {used}");
            moved = if after == price { moved } else { look };
            price = after;
        }
        assert!(moved < 50_000, "the price still moves at {used}: {price}");
        assert_eq!(next(price, used), price);
    }
}

/// ceil(a x b x c / d) in halves of 64 bits, so that nothing can be lost: by long division.
fn exact(integral: u128, class: u64, price: u64, divisor: u128) -> u128 {
    // integral < 2^80, class x price < 2^46.
    let factor = u128::from(class) * u128::from(price);
    let (high, low) = (integral >> 40, integral & ((1 << 40) - 1));
    let (high, low) = (high * factor, low * factor);
    let (quotient, rest) = (high / divisor, high % divisor);
    (quotient << 40) + ((rest << 40) + low).div_ceil(divisor)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn a_cost_is_exact_up_to_the_declared_maxima_and_grows_with_everything(
        cores in 0..=4_096_u32,
        memory in 0..=64_000_000_000_000_u64,
        disk in 0..=1_u64 << 50,
        gpus in 0..=64_u8,
        ms in 1..=3_600_000_u64,
        ppm in MIN.get()..=MAX.get(),
        band in 0..4_usize,
    ) {
        let rates = Atp::default().rates;
        let band = Band::ALL[band];
        let gpus = if gpus > 0 { GpuNeed::whole(gpus) } else { GpuNeed::default() };
        let (memory, storage) = (Bytes::new(memory), Bytes::new(disk));
        let cpu = MilliCores::whole(cores);
        let needs = Needs { cpu, memory, storage, gpus, ..Needs::default() };
        let at = |needs: &Needs, ms: u64, ppm: u32, band: Band| {
            let prices = Prices([Ppm::new(ppm); 12]);
            cost(needs, Span::new(ms), Tariff { rates: &rates, prices: &prices, band }).get()
        };
        let found = at(&needs, ms, ppm, band);
        let amounts = needs.bundle().amounts();
        let class = u64::from(band.price_factor().get());
        let paid = amounts.into_iter().zip(rates).filter(|(amount, _)| *amount > 0);
        let sum: u128 = paid
            .map(|(amount, rate)| {
                let integral = u128::from(amount) * u128::from(ms);
                exact(integral, class, ppm.into(), u128::from(rate) * 1_000_000)
            })
            .sum();
        prop_assert!(u128::from(found) == sum, "{found} for {sum}");
        prop_assert!(at(&needs, ms + 1, ppm, band) >= found, "longer");
        prop_assert!(at(&needs, ms, (ppm + 1).min(MAX.get()), band) >= found, "dearer");
        let more = Needs { cpu: MilliCores::whole(cores + 1), ..needs };
        prop_assert!(at(&more, ms, ppm, band) >= found, "more");
        // The declared maxima at once stay far below what an account may have.
        let top = Needs {
            cpu: MilliCores::whole(4_096),
            memory: Bytes::new(64_000_000_000_000),
            storage: Bytes::new(1 << 50),
            gpus: GpuNeed::whole(64),
            ..Needs::default()
        };
        let top = at(&top, 3_600_000, MAX.get(), Band::Urgent);
        prop_assert!(found <= top && top < 1 << 62, "{top}");
    }
}

/// Returns jobs of one core whose limits make demand `base * price^-elasticity` of 100 cores.
fn bidders(base: f64, elasticity: f64) -> Vec<JobSpec> {
    let limit = |i: u32| {
        let price = (base * 100.0 / (f64::from(i) + 0.5)).powf(1.0 / elasticity);
        Ppm::new((price.clamp(0.01, 100.0) * 1e6) as u32)
    };
    (0..300).map(|i| JobSpec { price_max: Some(limit(i)), ..cpu_job(1) }).collect()
}

#[test]
fn jobs_with_limits_settle_a_cluster_at_the_target() {
    for (base, elasticity, term) in [(0.9, 0.5, 60), (1.4, 1.0, 60), (0.5, 2.0, 30), (1.4, 4.0, 90)]
    {
        let mut config =
            Cluster::new().account("payer", 1_000_000_000).dedicated(1, 100, 400).config;
        config.rules = plain_rules();
        (config.rules.atp.enabled, config.rules.atp.price) = (true, Pricing::Dynamic);
        (config.rules.scheduling.order, config.rules.scheduling.backfill) =
            (Order::Fifo, Backfill::Greedy);
        config.rules.term.0 = Span::seconds(term);
        config.nodes[0].owner = AccountId::new(0);
        let mut world = World::new(config, Checks::Off);
        for spec in bidders(base, elasticity) {
            world.submit(AccountId::new(1), &spec, Work::seconds(10_000_000)).unwrap();
        }
        let (mut prices, mut used) = (Vec::new(), 0_u64);
        for look in 0..1_000_u64 {
            world.run_to(world.now.after(Span::seconds(30)));
            let pool = &world.grid.state().pools[PoolId::new(0)];
            if look >= 700 {
                prices.push(pool.market.prices.0[0].get());
                used += pool.leased.cpu.get();
            }
        }
        let (low, high) = (prices.iter().min().unwrap(), prices.iter().max().unwrap());
        let swing = f64::from(*high) / f64::from(*low);
        let mean = used as f64 / 300.0 / 100_000.0;
        let case = format!("base {base}, e {elasticity}: swing {swing}, mean {mean}, at {low}");
        assert!(swing <= 1.1 && (mean - 0.7).abs() <= 0.02, "{case}");
        println!("{case}");
    }
}
