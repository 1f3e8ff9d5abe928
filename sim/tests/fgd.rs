//! The published fill of a GPU cluster (TRUTHS.md section 2): GPUs allocated as requests arrive.
//!
//! Ten seeds: `gridsim compare scenarios/fgd-openb.yaml --strategies
//! fgd,best_fit,random,dot_product,gpu_clustering,pack --seeds 42..52 --trace nodes=FILE --trace
//! tasks=FILE`.

mod common;

use gridsim::json::Json;
use gridsim::record::RunRecord;
use gridsim::run::{Keep, simulate};
use gridsim::scenario::schema::{Jobs, Source, StrategyName};
use gridsim::scenario::{Loaded, load};
use rayon::prelude::*;

/// The percentages of arrived requests that the published means below are for.
const AT: [&str; 5] = ["90", "95", "100", "110", "130"];

/// Strategy, published means of ten seeds and tolerance, in hundredths of a percent.
const PUBLISHED: [(StrategyName, [i128; 5], i128); 6] = [
    (StrategyName::Fgd, [8_998, 9_491, 9_523, 9_530, 9_539], 40),
    (StrategyName::BestFit, [8_999, 9_282, 9_286, 9_294, 9_308], 40),
    (StrategyName::Random, [8_502, 8_572, 8_630, 8_688, 8_747], 40),
    (StrategyName::DotProduct, [8_998, 9_058, 9_062, 9_070, 9_085], 100),
    (StrategyName::GpuClustering, [8_998, 9_161, 9_165, 9_173, 9_188], 100),
    (StrategyName::Pack, [8_998, 9_174, 9_178, 9_186, 9_200], 100),
];

/// The published lists of tasks.
const LISTS: [&str; 2] = ["default", "gpuspec33"];

/// The scenario under a strategy, on a published list of tasks where it is there.
fn scenario(strategy: StrategyName, list: &str) -> (Loaded, bool) {
    let mut loaded =
        load(&common::scenario("fgd-openb"), &[]).expect("the scenario is well-formed");
    loaded.scenario.execution.scheduling.strategy = Some(strategy);
    let folder = common::root().join("../shared/traces/openb");
    let Ok(folder) = folder.canonicalize() else { return (loaded, false) };
    let Jobs::From(Source::Trace(trace)) = &mut loaded.scenario.jobs else {
        panic!("the scenario reads a trace")
    };
    let tasks = format!("openb_pod_list_{list}.csv.gz");
    for (name, file) in [("nodes", "openb_node_list_gpu_node.csv.gz"), ("tasks", &tasks)] {
        trace.files.insert(name.to_owned(), folder.join(file).to_string_lossy().into_owned());
    }
    (loaded, true)
}

/// Checks that every job is placed or refused with a reason.
fn check_counts(run: &RunRecord) {
    let placed = run.jobs.iter().filter(|job| job.attempts == 1).count();
    let refused = run.jobs.iter().filter(|job| !job.refusal.is_empty()).count();
    assert_eq!(placed + refused, run.jobs.len(), "seed {}", run.seed);
    assert_eq!(run.leases.len(), placed, "seed {}", run.seed);
}

/// Returns the allocated GPU share at a percentage of arrived requests, in millionths of a percent.
fn allocated(summary: &Json, percent: &str) -> i128 {
    let found = summary.number(&["metrics", "allocated_gpu_percent_at", percent]);
    found.expect("the fill reaches this percentage")
}

#[test]
fn published_fills_are_met() {
    let mut on_the_trace = true;
    for (strategy, known, tolerance) in PUBLISHED {
        // One seed of `random` lies up to .9 points off the mean of ten; of the others up to .4.
        let seeds: u64 = if strategy == StrategyName::Random { 10 } else { 3 };
        let (loaded, published) = scenario(strategy, LISTS[0]);
        on_the_trace &= published;
        let runs: Vec<[i128; 5]> = (42..42 + seeds)
            .into_par_iter()
            .map(|seed| {
                let result = simulate(&loaded, seed, &Keep::default(), |_| true).unwrap();
                check_counts(&result.run.record);
                // Drawing stops before 130 % would be exceeded: of the sample's few nodes one task is
                // more than a percent, so its curve may end before 130.
                let exists = |percent: &str| published || percent != "130";
                let at = |percent| exists(percent).then(|| allocated(&result.summary, percent));
                AT.map(|percent| at(percent).unwrap_or(0))
            })
            .collect();
        for (i, percent) in AT.iter().enumerate() {
            let mean = runs.iter().map(|run| run[i]).sum::<i128>() / i128::from(seeds) / 10_000;
            let line =
                format!("{strategy:?} at {percent} %: {mean} of {} +- {tolerance}", known[i]);
            println!("{line}, {seeds} seeds from 42 (published trace: {published})");
            assert!(!published || (mean - known[i]).abs() <= tolerance, "from seed 42: {line}");
        }
    }
    if !on_the_trace {
        println!("the published trace is absent: only the committed sample ran");
    }
}

#[test]
fn the_committed_sample_is_filled_and_its_counts_add_up() {
    let loaded = load(&common::scenario("fgd-openb"), &[]).unwrap();
    let result = simulate(&loaded, 42, &Keep::default(), |_| true).unwrap();
    check_counts(&result.run.record);
    let (half, all) = (allocated(&result.summary, "50"), allocated(&result.summary, "130"));
    assert!((49_000_000..55_000_000).contains(&half), "{half}");
    assert!((80_000_000..=100_000_000).contains(&all), "{all}");
}

/// This project's own strategy, for which nothing is published, beside `fgd`. On the committed
/// sample it only runs: there 8 GPUs at once are a fiftieth of all, and they find less room under it.
#[test]
fn headroom_leaves_fewer_gpus_unallocated_than_fgd() {
    for list in LISTS {
        let mut published = false;
        let [own, fgd] = [StrategyName::Headroom, StrategyName::Fgd].map(|strategy| {
            let (loaded, on_the_trace) = scenario(strategy, list);
            published = on_the_trace;
            let filled: Vec<[i128; 2]> = (42..45)
                .into_par_iter()
                .map(|seed| {
                    let result = simulate(&loaded, seed, &Keep::default(), |_| true).unwrap();
                    check_counts(&result.run.record);
                    // The curve of the sample ends before 130.
                    let last = if on_the_trace { "130" } else { "110" };
                    ["100", last].map(|percent| allocated(&result.summary, percent))
                })
                .collect();
            [0, 1].map(|i| filled.iter().map(|run| run[i]).sum::<i128>())
        });
        println!("{list}, seeds 42 to 44, at 100 % and at the end: {own:?}, fgd {fgd:?}");
        if !published {
            println!("skipped: the published trace is absent: only the committed sample ran");
            continue;
        }
        assert!(own[0] > fgd[0] && own[1] > fgd[1], "{list}: {own:?}, fgd {fgd:?}");
    }
}
