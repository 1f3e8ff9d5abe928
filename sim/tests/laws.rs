//! What must add up in every run: capacity, credit, rows; and files that survive hostile names.

mod common;

use common::{digits, files, rows, scenario, scratch, succeeds, summary};
use gridsim::record::Amounts;
use gridsim::run::{Keep, Outcome, simulate};
use gridsim::scenario::load;
use std::collections::BTreeMap;
use std::path::Path;

const SEED: u64 = 6;

/// Scenarios with owners, credit and evictions, for a few hours.
const BUSY: [(&str, &str); 3] = [
    ("lab-week", "horizon_seconds=8h"),
    ("flicker", "horizon_seconds=6h"),
    ("burst", "horizon_seconds=6h"),
];

fn outcome(name: &str, set: &str) -> Outcome {
    let loaded = load(&scenario(name), &[set.to_owned()]).expect("the scenario is well-formed");
    simulate(&loaded, SEED, &Keep::default(), |_| true).expect("the run contradicts nothing")
}

/// CPU, memory and GPU.
fn triple(amounts: &Amounts) -> [u64; 3] {
    [amounts.cpu.get(), amounts.memory.get(), amounts.gpu.get()]
}

#[test]
fn a_lease_names_the_row_of_its_job_whatever_was_refused_before() {
    let folder = scratch("numbers");
    let path = folder.join("numbers.yaml");
    let text = "atp: { enabled: false }\n\
                nodes: [{ name: n, cores: 2, memory_gb: 8, owner_use: none }]\n\
                jobs:\n\
                - { name: huge, account: a, needs: { cpu_cores: 64 }, runs: 10s }\n\
                - { name: fits, account: a, needs: { cpu_cores: 1 }, runs: 10s }\n";
    std::fs::write(&path, text).unwrap();
    let loaded = load(&path, &[]).unwrap();
    let keep = Keep { decisions: true, ..Keep::default() };
    let run = simulate(&loaded, 0, &keep, |_| true).unwrap().run.record;
    let named: Vec<&str> =
        run.leases.iter().map(|lease| &*run.job(lease.job).unwrap().name).collect();
    assert_eq!(named, ["fits"]);
    assert_eq!(run.decisions.iter().map(|row| row.job).collect::<Vec<_>>(), [2]);
}

#[test]
fn owners_and_leases_fit_into_the_cluster_except_while_it_is_reclaimed() {
    for (name, set) in BUSY {
        let result = outcome(name, set);
        let rerun = format!("gridsim run scenarios/{name}.yaml --set {set} --seed {SEED}");
        for resource in ["cpu", "memory", "gpu"] {
            let used = result.summary.number(&["metrics", "utilisation", resource]).unwrap();
            assert!((0..=1_000_000).contains(&used), "{resource} {used}: {rerun}");
        }
        let run = &result.run.record;
        let mut over = 0;
        for row in &run.timeline {
            for i in 0..3 {
                let lent: u64 = row.lent.iter().map(|lent| triple(lent)[i]).sum();
                over += u32::from(triple(&row.owner)[i] + lent > triple(&row.capacity)[i]);
            }
        }
        println!(
            "{name}: {over} of {} means over an interval exceed capacity",
            run.timeline.len() * 3
        );
        let (mut crowded, mut unexplained) = (0, 0);
        for sample in &run.node_samples {
            // A GPU is lent whole while its owner uses less than the gate: it does not add up.
            let sums = sample.owner.iter().zip(sample.lent).take(2);
            if sums.map(|(owner, lent)| owner.get() + lent.get()).any(|sum| sum > 10_000) {
                crowded += 1;
                unexplained += u32::from(!sample.state.contains("reclaim"));
            }
        }
        println!(
            "{name}: {crowded} of {} node samples, {unexplained} not while reclaiming",
            run.node_samples.len()
        );
        assert_eq!((over, unexplained), (0, 0), "{rerun}");
    }
}

/// Runs a busy scenario through the program; returns the folder of its results.
fn written(test: &str, (name, set): (&str, &str)) -> std::path::PathBuf {
    let folder = scratch(test);
    let path = scenario(name).to_string_lossy().into_owned();
    let seed = SEED.to_string();
    let args = ["run", &path, "--set", set, "--seed", &seed, "--out", "out", "--quiet"];
    succeeds(&folder, &args);
    folder.join("out")
}

#[test]
fn transfers_explain_all_credit_and_no_balance_is_ever_negative() {
    for (i, busy) in BUSY.into_iter().enumerate() {
        let folder = written(&format!("ledger-{i}"), busy);
        let mut balances: BTreeMap<String, i128> = BTreeMap::new();
        for row in rows(&folder.join("ledger.csv")).iter().skip(1) {
            let amount = digits(&row[4]);
            assert!(amount > 0, "{busy:?}: {row:?}");
            *balances.entry(row[2].clone()).or_insert(0) -= amount;
            *balances.entry(row[3].clone()).or_insert(0) += amount;
            assert!(row[2] == "MINT" || balances[&row[2]] >= 0, "{busy:?}, seed {SEED}: {row:?}");
        }
        assert_eq!(balances.values().sum::<i128>(), 0, "{busy:?}");
        let atp = &summary(&folder)["metrics"]["atp"];
        let told = |key: &str| digits(&atp[key].to_string());
        let told = |key: &str| {
            let text = atp[key].to_string();
            let places = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            told(key) * 10_i128.pow(6 - u32::try_from(places).unwrap())
        };
        let held: i128 =
            balances.iter().filter(|(name, _)| name.ends_with(":held")).map(|(_, sum)| sum).sum();
        let balance = |name: &str| balances.get(name).copied().unwrap_or(0);
        assert_eq!(told("minted"), -balance("MINT"), "{busy:?}");
        assert_eq!(told("held"), held, "{busy:?}");
        assert_eq!(told("treasury"), balance("TREASURY"), "{busy:?}");
    }
}

#[test]
fn rows_of_jobs_and_leases_agree_with_each_other_and_with_the_counts() {
    for (i, busy) in BUSY.into_iter().enumerate() {
        let folder = written(&format!("rows-{i}"), busy);
        let counts = summary(&folder)["counts"].clone();
        let jobs = rows(&folder.join("jobs.csv"));
        assert_eq!(counts["jobs"], jobs.len() - 1, "{busy:?}");
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        for job in jobs.iter().skip(1) {
            *states.entry(&job[17]).or_insert(0) += 1;
        }
        for (state, count) in states {
            assert_eq!(counts[state], count, "{busy:?}: {state}");
        }
        let leases = rows(&folder.join("leases.csv"));
        assert_eq!(counts["leases"], leases.len() - 1, "{busy:?}");
        let mut of_job: BTreeMap<&str, Vec<&Vec<String>>> = BTreeMap::new();
        for lease in leases.iter().skip(1) {
            assert!(lease[9].is_empty() || digits(&lease[9]) >= digits(&lease[8]), "{lease:?}");
            of_job.entry(&lease[1]).or_default().push(lease);
        }
        for job in jobs.iter().skip(1) {
            let own = of_job.remove(job[0].as_str()).unwrap_or_default();
            check_job(job, &own, &format!("{busy:?}, seed {SEED}"));
        }
        assert!(of_job.is_empty(), "{busy:?}: leases of no job");
    }
}

/// Checks one job against the rows of its leases.
fn check_job(job: &[String], leases: &[&Vec<String>], run: &str) {
    let attempts = leases.iter().map(|lease| digits(&lease[2])).max().unwrap_or(0);
    assert_eq!(attempts, digits(&job[18]), "attempts, {run}: {job:?}");
    let last: Vec<&&Vec<String>> = leases.iter().filter(|l| digits(&l[2]) == attempts).collect();
    let nodes: Vec<&str> = last.iter().map(|lease| lease[3].as_str()).collect();
    assert_eq!(nodes.join(" "), job[16], "nodes, {run}");
    let open = last.iter().any(|lease| lease[9].is_empty());
    assert_eq!(open, job[17] == "running", "an open lease, {run}: {job:?} {leases:?}");
    if let (Some(lease), false) = (last.first(), job[6].is_empty()) {
        assert_eq!(lease[8], job[6], "the start, {run}: {job:?}");
    }
    // The time held is the sum over attempts; an open lease counts to the end of the run.
    let mut held = 0;
    let mut seen = 0;
    for lease in leases.iter().filter(|lease| !lease[9].is_empty()) {
        if digits(&lease[2]) != seen {
            seen = digits(&lease[2]);
            held += digits(&lease[9]) - digits(&lease[8]);
        }
    }
    assert!(open || held == digits(&job[9]), "held {held}, {run}: {job:?}");
}

#[test]
fn tables_and_pages_survive_hostile_names() {
    let folder = scratch("hostile");
    let names =
        ["a,b", "say \"hi\"", "two\nlines", "<script>alert(1)</script>", "=1+1", "#x", "'", ";"];
    let quoted = names.map(|name| serde_json::to_string(name).unwrap());
    let mut text = "atp: { enabled: true }\naccounts:\n".to_owned();
    for name in &quoted {
        text.push_str(&format!("- {{ name: {name}, deposit_atp: 100000 }}\n"));
    }
    text.push_str("nodes:\n");
    for (i, name) in quoted.iter().enumerate() {
        text.push_str(&format!("- {{ name: n{i}, cores: 4, owner_use: none, owner: {name} }}\n"));
    }
    text.push_str("jobs:\n");
    for name in &quoted {
        text.push_str(&format!(
            "- {{ name: {name}, account: {name}, runs: 60s, needs: {{ cpu_cores: 3 }} }}\n"
        ));
    }
    std::fs::write(folder.join("x.yaml"), text).unwrap();
    succeeds(&folder, &["run", "x.yaml", "--out", "out", "--decisions"]);
    let out = folder.join("out");
    let jobs = rows(&out.join("jobs.csv"));
    let read: Vec<&str> = jobs.iter().skip(1).map(|job| job[1].as_str()).collect();
    assert_eq!(read, names);
    assert!(jobs.iter().skip(1).all(|job| job[17] == "completed"), "{jobs:?}");
    for table in ["leases", "nodes", "timeline", "ledger", "decisions"] {
        assert!(rows(&out.join(format!("{table}.csv"))).len() > 1, "{table}");
    }
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(!page.contains("<script>alert(1)"), "the name became code");
    assert!(summary(&out)["metrics"]["by_account"]["two\nlines"].is_object());
}

#[test]
fn each_format_is_imported_and_runs() {
    let folder = scratch("imported");
    let data = |file: &str| scenario("x").with_file_name("data").join(file).display().to_string();
    std::fs::write(folder.join("jobs.csv"), "name,submit_s,run_s,cpu_cores\na,0,60,1\n").unwrap();
    for (format, files, more) in [
        ("openb", vec![data("openb_nodes.csv"), data("openb_tasks.csv")], &[][..]),
        ("swf", vec![data("small.swf")], &["--processors", "100"]),
        ("philly", vec![data("philly.csv")], &[]),
        ("csv", vec!["jobs.csv".to_owned()], &[]),
    ] {
        let yaml = format!("{format}/x.yaml");
        let mut args = vec!["import", format];
        args.extend(files.iter().map(String::as_str));
        args.extend(["--out", &yaml]);
        args.extend(more);
        let said = succeeds(&folder, &args);
        assert!(said.contains("kept"), "{said}");
        let out = format!("{format}/out");
        succeeds(&folder, &["run", &yaml, "--out", &out, "--no-pictures", "--quiet"]);
        let counts = summary(&folder.join(out))["counts"].clone();
        assert!(counts["jobs"].as_u64().unwrap() > 0, "{format}: {counts}");
        assert_eq!(counts["completed"], counts["jobs"], "{format}: {counts}");
    }
}

/// Runs with jobs of a table instead of drawn ones.
fn from_table(folder: &Path, path: &str, horizon: &str) {
    let jobs = folder.join("jobs.csv").display().to_string();
    let set = format!("jobs={{ trace: {{ format: csv, files: {{ jobs: {jobs} }} }} }}");
    let args =
        ["run", path, "--set", horizon, "--set", &set, "--out", "read", "--quiet", "--no-pictures"];
    succeeds(folder, &args);
}

#[test]
fn drawn_jobs_and_the_same_jobs_from_a_table_give_the_same_run() {
    for (name, horizon) in BUSY {
        let folder = scratch(&format!("drawn-{name}"));
        let path = scenario(name).display().to_string();
        succeeds(&folder, &["generate", &path, "--set", horizon, "--out", "jobs.csv"]);
        let args = ["run", &path, "--set", horizon, "--out", "drawn", "--quiet", "--no-pictures"];
        succeeds(&folder, &args);
        from_table(&folder, &path, horizon);
        let (drawn, read) = (files(&folder.join("drawn")), files(&folder.join("read")));
        for ((file, one), (_, other)) in drawn.iter().zip(&read) {
            assert!(one == other, "{name}: {file} differs");
        }
    }
}

#[test]
fn a_comparison_of_policies_and_seeds_leaves_a_report() {
    let folder = scratch("compared");
    let path = scenario("flicker").display().to_string();
    let args = [
        "compare",
        &path,
        "--set",
        "horizon_seconds=2h",
        "--policies",
        "balanced,aggressive",
        "--seeds",
        "0..2",
        "--out",
        "out",
        "--json",
    ];
    let printed: serde_json::Value = serde_json::from_str(&succeeds(&folder, &args)).unwrap();
    let variants = printed["variants"].as_object().unwrap();
    let names: Vec<&str> = variants.keys().map(String::as_str).collect();
    assert_eq!(names, ["aggressive", "balanced"]);
    assert!(variants.values().all(|variant| variant["seeds"] == 2), "{printed}");
    let left: Vec<String> = files(&folder.join("out")).into_iter().map(|(name, _)| name).collect();
    for file in ["comparison.json", "report.html", "compare-metrics.svg"] {
        assert!(left.iter().any(|name| name == file), "{file} of {left:?}");
    }
    let args =
        ["run", &path, "--set", "horizon_seconds=1h", "--seeds", "0..2", "--json", "--out", "s"];
    let seeds: serde_json::Value = serde_json::from_str(&succeeds(&folder, &args)).unwrap();
    assert_eq!(seeds["seeds"], 2);
}
