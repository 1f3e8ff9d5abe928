//! Where the first allocator was wrong, the ledger answers otherwise: each such recorded vector has
//! its answer here, played through the core (and, for what no integer of the core can say, through
//! the door that reads decimals).

use gridcore::bundle::{GpuNeed, Needs};
use gridcore::config::{Atp, ConfigError};
use gridcore::deny::Denied;
use gridcore::grid::Grid;
use gridcore::ids::{AccountId, PoolId};
use gridcore::jobs::JobState;
use gridcore::price::Prices;
use gridcore::tariff::{Tariff, cost};
use gridcore::units::{Band, Bytes, MicroAtp, MilliCores, MilliGpus, PerMille, Span, Time};
use gridsim::scenario::build::build;
use gridsim::scenario::{Loaded, parse};
use gridtests::cluster::{Cluster, cpu_job};
use gridtests::world::{Checks, Work, World};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const LAB: AccountId = AccountId::new(0);
const USER: AccountId = AccountId::new(1);

/// What a need costs for a time at the documented rates.
fn price(needs: &Needs, span: Span) -> MicroAtp {
    let atp = Atp::default();
    let tariff = Tariff { rates: &atp.rates, prices: &Prices::STATIC, band: Band::Medium };
    cost(needs, span, tariff)
}

/// A cluster with money: one node of the lab, and a user with so much ATP.
fn world(atp: u64) -> World {
    let cluster = Cluster::new().account("user", atp).dedicated(1, 4, 8);
    let cluster = cluster.rules(|rules| rules.atp.enabled = true);
    World::new(cluster.config, Checks::Every)
}

/// Sees that what a file says is refused where it says it, and accepted without the minus.
fn refused_below_nothing(text: &str) {
    let head = "name: t\nnodes: [{ name: n, cores: 4, memory_gb: 8, owner_use: none }]\n";
    let path = Path::new("differ.yaml");
    let read = |text: &str| {
        let scenario = parse(path, &format!("{head}{text}"), &[]).map_err(|e| e.to_string())?;
        let loaded = Loaded { scenario, path: path.to_owned() };
        let setup = build(&loaded, 1).map_err(|e| e.to_string())?;
        setup.jobs.map(|job| job.name).for_each(drop);
        Ok::<_, String>(())
    };
    let error = read(text).err();
    assert!(error.as_ref().is_some_and(|e| e.contains("negative")), "{text}: {error:?}");
    let above = text.replace('-', "");
    assert_eq!(read(&above), Ok(()), "{above}");
}

/// Cycles are charged by exact integers: no cycle is lost to a binary fraction.
fn cycles_are_exact(recorded: &Value) {
    let own = serde_json::json!([
        { "in": 17_179_869_185_000_001_u64, "exact_out": 17_179_869_186_u64 },
        { "in": 1_000_000, "exact_out": 1 },
        { "in": 1_000_001, "exact_out": 2 }
    ]);
    let recorded = recorded["cases"].as_array().into_iter().flatten();
    for case in own.as_array().into_iter().flatten().chain(recorded) {
        let cycles = case["in"].as_u64().unwrap_or(0);
        // A cycle is a millicore for a millisecond.
        let one = Needs { cpu: MilliCores::new(1), ..Needs::default() };
        let micros = price(&one, Span::new(cycles));
        assert_eq!(micros.get(), cycles, "a cycle is a micro-ATP");
        assert_eq!(Some(micros.get().div_ceil(1_000_000)), case["exact_out"].as_u64(), "{case}");
    }
}

/// Amounts below nothing are refused where they are read; the core has no word for them.
fn negative_amounts_are_refused() {
    for text in [
        "jobs: [{ name: j, needs: { cpu_cores: -1 }, runs: 1m }]",
        "jobs: [{ name: j, needs: { memory_gb: -0.5 }, runs: 1m }]",
        "jobs: [{ name: j, needs: { cpu_cores: 1 }, runs: -5s }]",
    ] {
        refused_below_nothing(text);
    }
}

fn negative_budgets_are_refused() {
    let jobs = "jobs: [{ name: j, needs: { cpu_cores: 1 }, runs: 1m }]";
    refused_below_nothing(&format!("accounts: [{{ name: a, deposit_atp: -50 }}]\n{jobs}"));
    let job = "jobs: [{ name: j, needs: { cpu_cores: 1 }, runs: 1m, budget_atp: -1 }]";
    refused_below_nothing(job);
    // What a pool has left never passes what it has, whatever comes and goes.
    let mut world = world(1_000);
    let job = world.submit(USER, &cpu_job(4), Work::seconds(30));
    assert!(job.is_ok());
    for _ in 0..10 {
        world.advance(Span::seconds(5));
        let pool = &world.grid.state().pools[PoolId::new(0)];
        assert!(pool.leased.fits_in(&pool.capacity));
    }
}

/// What takes no time costs nothing and leaves no transfer, however often it comes.
fn nothing_leaves_no_record() {
    let mut world = world(100);
    // The deposit comes with the first entry.
    assert_eq!(world.submit(USER, &empty(), Work::seconds(1)), Err(Denied::Empty));
    let before = world.grid.state().ledger.moves();
    assert_eq!(price(&cpu_job(1).needs, Span::ZERO), MicroAtp::ZERO);
    for _ in 0..1_000 {
        assert_eq!(world.submit(USER, &empty(), Work::seconds(1)), Err(Denied::Empty));
    }
    assert_eq!(world.grid.state().ledger.moves(), before);
}

fn empty() -> gridcore::command::JobSpec {
    let mut job = cpu_job(1);
    job.needs = Needs::default();
    job
}

/// What is charged never lowers what was spent before.
fn nothing_is_consumed_backwards() {
    negative_amounts_are_refused();
    let mut world = world(1_000);
    let job = world.submit(USER, &cpu_job(1), Work::seconds(25));
    assert!(job.is_ok());
    let (mut spent, whole) = (0, MicroAtp::whole(1_000));
    for _ in 0..10 {
        world.advance(Span::seconds(3));
        let row = world.grid.state().account(USER);
        assert!(row.spent >= spent && row.available.saturating_add(row.held) <= whole);
        spent = row.spent;
    }
    assert_eq!(spent, 25_000_000, "25 core-seconds");
}

/// A lease that reaches its limit gives its capacity back in that very tick.
fn an_end_needs_no_release() {
    let mut world = world(1_000_000);
    let mut job = cpu_job(4);
    job.limit = Some(Span::seconds(60));
    let id = world.submit(USER, &job, Work::seconds(600));
    assert!(id.is_ok());
    world.run_to(Time::from_ms(59_999));
    assert!(!world.grid.state().pools[PoolId::new(0)].leased.is_zero());
    world.run_to(Time::from_ms(60_000));
    assert!(world.grid.state().pools[PoolId::new(0)].leased.is_zero());
    assert_eq!(world.grid.state().account(USER).held, MicroAtp::ZERO);
}

/// No time at all is no limit.
fn a_limit_of_nothing_is_refused() {
    let mut world = world(100);
    let mut job = cpu_job(1);
    job.limit = Some(Span::ZERO);
    let answer = world.submit(USER, &job, Work::seconds(1));
    assert!(matches!(&answer, Err(Denied::Range { what, .. }) if what == "limit"), "{answer:?}");
}

fn a_limit_below_nothing_is_refused() {
    refused_below_nothing("jobs: [{ name: j, needs: { cpu_cores: 1 }, runs: 1m, limit: -5s }]");
}

/// What was set aside and not used is its account's again.
fn what_is_not_used_comes_back() {
    let mut world = world(1_000);
    let work = Work::seconds(600);
    let Ok(id) = world.submit(USER, &cpu_job(1), work) else { panic!("it is accepted") };
    assert!(world.grid.state().job(id).state.is_running());
    assert_eq!(world.grid.state().account(USER).held, MicroAtp::whole(300), "one term");
    world.advance(Span::seconds(50));
    let cancel = gridcore::command::Request::CancelJob { account: USER, job: id };
    assert!(world.request(cancel).is_ok());
    world.advance(Span::seconds(1));
    let state = world.grid.state();
    let row = state.account(USER);
    assert!(state.jobs.is_empty() && row.held.is_zero());
    assert_eq!(row.available, MicroAtp::whole(950));
    let lender = state.account(LAB);
    assert_eq!((lender.earned, state.ledger.treasury), (47_500_000, MicroAtp::new(2_500_000)));
}

/// Two pools of one name are refused.
fn a_name_stands_for_one_pool() {
    let twice = Cluster::new().pool("main", None).dedicated(1, 1, 1).config;
    let answer = Grid::new(twice, Time::ZERO).err();
    assert!(matches!(&answer, Some(ConfigError::Duplicate { .. })), "{answer:?}");
}

/// Parts of a GPU are thousandths, and what a lease used is rounded once.
fn parts_of_a_gpu_are_charged_once() {
    let share = |milli: u16| {
        let gpus = GpuNeed { count: 1, share: PerMille::new(milli), memory: Bytes::ZERO };
        Needs { gpus, ..Needs::default() }
    };
    // Twice .05 s and once .1 s are .2 GPU-seconds: 2 ATP.
    let parts = [(1_000, 50), (1_000, 50), (1_000, 100)];
    let paid = parts.iter().map(|(milli, ms)| price(&share(*milli), Span::new(*ms)).get());
    assert_eq!(paid.sum::<u64>(), MicroAtp::whole(2).get());
    assert_eq!(price(&share(1_000), Span::new(200)), MicroAtp::whole(2));
    assert_eq!(price(&share(500), Span::new(400)), MicroAtp::whole(2));
    let one = share(1).gpus.total();
    assert_eq!(one, MilliGpus::new(1));
    // Of a term no part is rounded by itself: a thousandth of a device for a millisecond.
    assert_eq!(price(&share(1), Span::new(1)), MicroAtp::new(10));
}

/// Memory is charged by what it holds for how long.
fn memory_has_time() {
    let held = Needs { memory: Bytes::new(1_000_000_000), ..Needs::default() };
    let second = price(&held, Span::seconds(1));
    assert_eq!(price(&held, Span::seconds(3_600)).get(), 3_600 * second.get() - 1_200);
    assert_eq!(price(&held, Span::minutes(60)), MicroAtp::whole(600));
    assert_eq!(second.get(), 166_667, "a sixth of an ATP, rounded up once");
}

/// Sees that a recorded vector is answered as it should be.
type Answer = fn(&Value);

/// The answers, by the recorded vector's name.
fn answers() -> BTreeMap<&'static str, Answer> {
    let all: [(&str, Answer); 14] = [
        ("cpu_float_hazard", cycles_are_exact),
        ("negative_amounts", |_| negative_amounts_are_refused()),
        ("atp_split_negative", |_| negative_budgets_are_refused()),
        ("negative_budget_grows_pool", |_| negative_budgets_are_refused()),
        ("zero_events_grow_log", |_| nothing_leaves_no_record()),
        ("negative_consumption_refunds", |_| nothing_is_consumed_backwards()),
        ("expired_pool_leak", |_| an_end_needs_no_release()),
        ("zero_duration_means_forever", |_| a_limit_of_nothing_is_refused()),
        ("negative_duration", |_| a_limit_below_nothing_is_refused()),
        ("release_has_no_refund_account", |_| what_is_not_used_comes_back()),
        ("pool_redefined", |_| a_name_stands_for_one_pool()),
        ("fractional_gpu", |_| parts_of_a_gpu_are_charged_once()),
        ("memory_has_no_time", |_| memory_has_time()),
        ("a_job_waits", |_| unknown_states_are_none()),
    ];
    BTreeMap::from(all)
}

/// Our own beside them: what cannot start waits, and nothing is charged for it.
fn unknown_states_are_none() {
    let mut world = world(1);
    let Ok(id) = world.submit(USER, &cpu_job(4), Work::seconds(1)) else { panic!("it waits") };
    world.advance(Span::seconds(100));
    let state = world.grid.state();
    assert_eq!(state.job(id).state, JobState::Pending, "it cannot pay a term");
    assert_eq!(state.account(USER).available, MicroAtp::whole(1));
}

#[test]
fn where_the_first_allocator_was_wrong_the_ledger_answers_as_it_should() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let recorded = tests.join("../../shared/conformance/atp_seed_vectors.json");
    let answers = answers();
    let mut vectors: Vec<Value> = Vec::new();
    if let Ok(text) = std::fs::read_to_string(&recorded) {
        let all: Value = serde_json::from_str(&text).unwrap_or_default();
        let differs = |vector: &&Value| vector["core"] == "differ";
        vectors.extend(all["vectors"].as_array().into_iter().flatten().filter(differs).cloned());
        assert_eq!(vectors.len(), 13, "{}", recorded.display());
    } else {
        println!("{} is not there: only our own cases are checked", recorded.display());
    }
    for vector in &vectors {
        let id = vector["id"].as_str().unwrap_or_default();
        let Some(answer) = answers.get(id) else {
            panic!("{id} has no answer: {}", vector["want"])
        };
        answer(vector);
    }
    for answer in answers.values() {
        answer(&Value::Null);
    }
    println!("{} answers, {} recorded vectors", answers.len(), vectors.len());
}
