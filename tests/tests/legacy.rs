//! The first allocator's answers: a small set of our own, and the recorded one where it is there.

use gridcore::legacy::{Allocator, Amounts, KINDS, Pool};
use serde_json::Value;
use std::path::Path;

const KEYS: [&str; KINDS] =
    ["cpu_cycles", "memory_bytes", "storage_bytes", "network_bytes", "gpu_seconds"];

/// Reads one amount; GPU seconds are exact decimals.
fn amount(value: &Value, key: &str) -> u128 {
    let text = value.to_string();
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let thousandths = format!("{whole}{rest:0<3}");
    let digits = if key == "gpu_seconds" { &thousandths } else { whole };
    digits.parse().unwrap_or_else(|e| panic!("{key} is {text}: {e}"))
}

fn amounts(value: &Value) -> Amounts {
    let of = |key: &str| value.get(key).map_or(0, |value| amount(value, key));
    Amounts::of(KEYS.map(of))
}

fn convert(vector: &Value) {
    let place = match vector["fn"].as_str() {
        Some("cpu_to_atp") => 0,
        Some("memory_to_atp") => 1,
        Some("storage_to_atp") => 2,
        Some("network_to_atp") => 3,
        _ => 4,
    };
    for case in vector["cases"].as_array().into_iter().flatten() {
        let mut all = [0; KINDS];
        all[place] = amount(&case["in"], KEYS[place]);
        assert_eq!(Amounts::of(all).cost(), amount(&case["out"], "atp"), "{case}");
    }
}

/// Compares a pool with what is expected of it.
fn check_pool(found: Pool, expected: &Value, what: &str) {
    let pairs = [
        ("total_quota", found.total),
        ("available_quota", found.available()),
        ("allocated_quota", found.reserved),
    ];
    for (key, amount) in pairs {
        assert_eq!(amounts(&expected[key]), amount, "{what}: {key}");
    }
    let kinds = ["cpu", "memory", "storage", "network", "gpu"];
    let shares = found.reserved.all().into_iter().zip(found.total.all()).zip(kinds);
    for ((reserved, total), kind) in shares {
        #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
        let percent = if total == 0 { 0.0 } else { reserved as f64 / total as f64 * 100.0 };
        let wanted = expected["utilization"][kind].as_f64().unwrap_or(-1.0);
        assert!((percent - wanted).abs() < 1e-9, "{what}: {kind} {percent}, {wanted}");
    }
}

/// Compares what is said of an allocation with what is expected, as far as that says it.
fn check_allocation(allocator: &Allocator, id: &str, expected: &Value, now: u64) {
    let Some(row) = allocator.allocation(id) else {
        assert!(expected.get("atp_consumed").is_none(), "{id} is gone: {expected}");
        return;
    };
    let number = |key: &str| expected.get(key).and_then(Value::as_u64);
    let same =
        |key: &str, found: u64| assert_eq!(number(key).unwrap_or(found), found, "{expected}");
    same("atp_consumed", row.spent);
    same("atp_remaining", row.remaining());
    same("metering_records", row.metered);
    let valid = expected.get("is_valid").and_then(Value::as_bool);
    assert_eq!(valid.unwrap_or(row.is_valid(now)), row.is_valid(now), "{expected}");
    for (key, found) in [("quota_consumed", row.consumed), ("quota_limit", row.limit)] {
        if let Some(wanted) = expected.get(key) {
            assert_eq!(amounts(wanted), found, "{key}: {expected}");
        }
    }
    if expected.get("expires_at").is_some() {
        assert_eq!(number("expires_at"), row.expires, "{expected}");
    }
}

fn step(allocator: &mut Allocator, step: &Value) {
    let (at, expected) = (step["at"].as_u64().unwrap_or(0), &step["expect"]);
    let text = |key: &str| step[key].as_str().unwrap_or_default();
    let pool = step["pool"].as_str().unwrap_or("default");
    match text("op") {
        "create_pool" => {
            let made = allocator.create_pool(pool, amounts(&step["total"]));
            assert_eq!(made, Ok(()), "{step}");
        }
        "create_allocation" => {
            let budget = step["atp_budget"].as_u64().unwrap_or(0);
            let seconds = step["duration_seconds"].as_u64();
            let made = allocator.create_allocation(text("entity"), (pool, budget), seconds, at);
            let made = made.map(|row| row.id.clone());
            match &made {
                Ok(id) => assert_eq!(expected["allocation_id"], id.as_str(), "{step}"),
                Err(error) => assert_eq!(expected["error"], error.as_str(), "{step}"),
            }
            assert_eq!(expected["ok"], made.is_ok(), "{step}");
            check_allocation(allocator, &made.unwrap_or_default(), expected, at);
        }
        "consume" => {
            let (id, event) = (text("allocation_id"), amounts(&step["resources"]));
            let times = step["repeat"].as_u64().unwrap_or(1);
            let mut said = Ok(String::new());
            (0..times).for_each(|_| said = allocator.consume(id, &event, at));
            assert_eq!(expected["ok"], said.is_ok(), "{step}: {said:?}");
            let message = said.unwrap_or_else(|error| error);
            assert_eq!(expected["message"], message.as_str(), "{step}");
            check_allocation(allocator, id, expected, at);
        }
        "release" => {
            assert_eq!(expected["ok"], allocator.release(text("allocation_id")), "{step}");
        }
        "entity_allocations" => {
            let of = allocator.allocations().filter(|row| row.entity == text("entity"));
            let ids: Vec<&str> = of.map(|row| row.id.as_str()).collect();
            assert_eq!(expected["ids"], Value::from(ids), "{step}");
        }
        "stats" => {
            let (all, valid) = (
                allocator.allocations().count(),
                allocator.allocations().filter(|row| row.is_valid(at)).count(),
            );
            assert_eq!(expected["total_allocations"], all, "{step}");
            assert_eq!(expected["active_allocations"], valid, "{step}");
            assert_eq!(expected["expired_allocations"], all - valid, "{step}");
            for (name, wanted) in expected["pools"].as_object().into_iter().flatten() {
                let inside = allocator.allocations().filter(|row| row.pool == *name).count();
                assert_eq!(wanted["active_allocations"], inside, "{step}");
                let found = allocator.pool(name, at).unwrap_or_default();
                check_pool(found, wanted, &step.to_string());
            }
        }
        other => panic!("{other} is no operation"),
    }
}

/// Checks every vector of a file that the module answers; returns how many.
fn check(path: &Path) -> usize {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}"));
    let vectors = file["vectors"].as_array().into_iter().flatten();
    let ours = vectors.filter(|v| v["core"] == "match" || v["core"] == "legacy");
    ours.map(|vector| match vector["kind"].as_str() {
        Some("convert") => convert(vector),
        Some("quota_to_atp") => {
            for case in vector["cases"].as_array().into_iter().flatten() {
                let cost = amounts(&case["in"]).cost();
                assert_eq!(cost, amount(&case["out"], "atp"), "{case}");
            }
        }
        Some("atp_to_quota") => {
            for case in vector["cases"].as_array().into_iter().flatten() {
                let bought = Amounts::bought(case["in"].as_u64().unwrap_or(0));
                assert_eq!(bought, amounts(&case["out"]), "{case}");
            }
        }
        _ => {
            let mut allocator = Allocator::new(vector["society"].as_str().unwrap_or_default());
            let steps = vector["steps"].as_array().into_iter().flatten();
            steps.for_each(|each| step(&mut allocator, each));
        }
    })
    .count()
}

#[test]
fn the_first_allocators_answers_are_given_exactly() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = check(&tests.join("vectors/atp.json"));
    let recorded = tests.join("../../shared/conformance/atp_seed_vectors.json");
    let more = if recorded.exists() {
        check(&recorded)
    } else {
        println!("{} is not there: only our own vectors are checked", recorded.display());
        0
    };
    println!("{own} vectors of our own, {more} recorded ones");
    assert!(own == 9, "{own} vectors");
}
