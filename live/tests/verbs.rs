//! Verbs of the command line that change or show jobs, through the whole chain.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use gridlive::client::Client;
use gridlive::client::types::{JobRequest, NeedsRequest, ResourceRequest, TaskRequest};
use house::{Cluster, rest, until};
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

fn text(cluster: &Cluster, args: &[&str]) -> String {
    let output = cluster.run(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn jobs_wait_for_others_and_in_vain_for_what_fails() {
    let cluster = Cluster::begin(2, "");
    let first = cluster.submit(&["-c", "0.1"], "sleep 1");
    let second = cluster.submit(&["-c", "0.1"], "sleep 2; exit 3");
    let after = |jobs: &str| cluster.submit(&["-c", "0.1", "--after", jobs], "echo ran");
    let (good, bad) = (after(&first.to_string()), after(&format!("{first}-{second}")));
    let later = after(&bad.to_string());
    let said = cluster.job(good);
    assert_eq!(said["state"], "dependent");
    assert_eq!(said["why"][0], format!("j{first} must complete first"));
    cluster.until_state(good, "completed");
    cluster.until_state(second, "failed");
    until("the others wait in vain", || {
        [bad, later].iter().all(|job| {
            text(&cluster, &["explain", &job.to_string()]).contains("was to complete first")
        })
    });
    // One that has completed is waited for no more; one that has failed is refused.
    let now = after(&first.to_string());
    cluster.until_state(now, "completed");
    let refused = |jobs: &str| cluster.run(&["submit", "--after", jobs, "--", "true"]).status;
    assert_eq!(refused(&second.to_string()).code(), Some(5));
    assert_eq!(refused("4711").code(), Some(4));
    assert_eq!(refused("x").code(), Some(1));
    for job in [bad, later] {
        text(&cluster, &["cancel", &job.to_string()]);
        cluster.until_state(job, "cancelled");
    }
    cluster.until_idle();
}

#[test]
fn a_suspended_job_stands_still_whatever_becomes_of_daemon_and_agent() {
    let mut cluster = Cluster::begin(1, "");
    let job = cluster.submit(&[], "while :; do echo x; sleep 0.05; done");
    until("it works", || cluster.output(job).len() > 10);
    let name = job.to_string();
    let stands = |cluster: &Cluster| {
        let before = cluster.output(job).len();
        rest(600);
        cluster.output(job).len() == before
    };
    text(&cluster, &["suspend", &name]);
    assert_eq!(cluster.job(job)["state"], "suspended");
    assert_eq!(cluster.run(&["suspend", &name]).status.code(), Some(5));
    until("it stands still", || stands(&cluster));
    house::signal(cluster.agent("n1").unwrap(), "KILL");
    cluster.kill_daemon();
    cluster.start_daemon();
    cluster.until_up_but_busy();
    assert!(stands(&cluster), "another agent and another daemon let it stand");
    assert_eq!(cluster.job(job)["state"], "suspended");
    text(&cluster, &["resume", &name]);
    until("it works again", || !stands(&cluster));
    assert_eq!(cluster.job(job)["attempts"], 1);
    // A suspended job can be taken back: it is woken to hear of it.
    text(&cluster, &["suspend", &name]);
    text(&cluster, &["cancel", &name]);
    cluster.until_state(job, "cancelled");
    cluster.check_replay();
}

#[test]
fn lists_are_printed_for_people_and_for_programs() {
    let cluster = Cluster::begin(1, "");
    let job = cluster.submit(&["-c", "2", "--name", "a,b"], "sleep 60");
    cluster.until_state(job, "running");
    let list = |args: &[&str]| text(&cluster, &[&["queue"], args].concat());
    assert!(list(&[]).starts_with(" JOB"), "{}", list(&[]));
    assert!(list(&["-o", "wide"]).contains("ATTEMPTS"));
    assert_eq!(list(&["-o", "name"]), format!("{job}\n"));
    let csv = list(&["-o", "csv"]);
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines[0].starts_with("job,name,account,priority,state,nodes,") && lines.len() == 2);
    assert!(lines[0].contains("needs_cpu_cores") && lines[1].contains("\"a,b\""), "{csv}");
    let row: serde_json::Value = serde_json::from_str(list(&["-o", "jsonl"]).trim()).unwrap();
    assert_eq!(row["job"], job);
    let whole: serde_json::Value = serde_json::from_str(&list(&["-o", "json"])).unwrap();
    assert_eq!((whole["schema"].as_u64(), whole["jobs"][0]["job"].as_u64()), (Some(1), Some(job)));
    // What has happened lately, each thing once.
    let events = text(&cluster, &["events"]);
    let of = |what: &str| {
        let found = events.lines().filter(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["event"] == what && line["job"] == job
        });
        assert_eq!(found.count(), 1, "{what} in {events}");
    };
    of("submitted");
    of("started");
    // A node is lent until a time of the day, and only such a time.
    assert_eq!(
        cluster.run(&["lend", "n1", "--until", "23:59"]).status.code(),
        Some(5),
        "dedicated"
    );
    assert_eq!(cluster.run(&["lend", "n1", "--until", "25:00"]).status.code(), Some(1));
    assert_eq!(
        cluster.run(&["lend", "n1", "--until", "23:59", "--for", "1h"]).status.code(),
        Some(2)
    );
}

/// Starts `run` on a script, with a pipe to what it reads.
fn run_piped(cluster: &Cluster, script: &str) -> Child {
    let mut command = Command::new(house::GRIDLIVE);
    command.env("GRIDLIVE_SOCKET", cluster.path("sock")).args(["run", "--", "sh", "-c", script]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn a_job_in_the_foreground_reads_what_its_command_reads() {
    let cluster = Cluster::begin(1, "");
    // Every byte, more than any pipe holds, and then the end.
    let bytes: Vec<u8> =
        (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut run = run_piped(&cluster, "sleep 0.3; cat; echo end");
    let mut to = run.stdin.take().unwrap();
    let sent = bytes.clone();
    let sender = std::thread::spawn(move || to.write_all(&sent));
    let output = run.wait_with_output().unwrap();
    sender.join().unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == [bytes.as_slice(), b"end\n"].concat(), "{}", output.stdout.len());
    // One that reads no more than a line ends, whoever goes on sending.
    let mut run = run_piped(&cluster, "read line; echo got $line; exit 7");
    let mut to = run.stdin.take().unwrap();
    to.write_all(b"one\ntwo\n").unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(7), &b"got one\n"[..]));
    drop(to);
    // Nothing to read is an end, too; and so it is where nothing is asked to be sent.
    let output = cluster.run(&["run", "--no-stdin", "--", "cat"]);
    assert!(output.status.success() && output.stdout.is_empty());
    let mut run = run_piped(&cluster, "cat; echo over");
    drop(run.stdin.take());
    assert_eq!(run.wait_with_output().unwrap().stdout, b"over\n");
    cluster.until_idle();
}

#[test]
fn a_job_in_the_foreground_never_takes_a_part_for_the_whole_and_ends_with_its_command() {
    let cluster = Cluster::begin(1, "");
    let mut run = run_piped(&cluster, "cat; echo all");
    let mut to = run.stdin.take().unwrap();
    to.write_all(b"first\n").unwrap();
    let mut from = BufReader::new(run.stdout.take().unwrap());
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    assert_eq!(line, "first\n");
    // Another agent does not know how much was read.
    house::signal(cluster.agent("n1").unwrap(), "KILL");
    until("its end is told", || {
        let _ = to.write_all(b"more\n");
        run.try_wait().unwrap().is_some()
    });
    let mut rest = String::new();
    from.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("all"), "{rest}");
    assert_eq!(run.wait().unwrap().code(), Some(125));
    cluster.until_idle();
    // Who ends the command ends the job.
    let mut run = run_piped(&cluster, "trap 'echo told; exit 0' TERM; echo here; sleep 60 & wait");
    let mut from = BufReader::new(run.stdout.take().unwrap());
    line.clear();
    from.read_line(&mut line).unwrap();
    house::signal(i32::try_from(run.id()).unwrap(), "TERM");
    line.clear();
    from.read_line(&mut line).unwrap();
    assert_eq!(line, "told\n");
    run.wait().unwrap();
    cluster.until_idle();
}

#[test]
fn a_job_that_is_suspended_as_it_starts_stands_still() {
    let cluster = Cluster::begin(1, "");
    for _ in 0..6 {
        let job = cluster.submit(&["-c", "0.1"], "while :; do echo x; sleep 0.02; done");
        until("it is granted", || cluster.run(&["suspend", &job.to_string()]).status.success());
        rest(700);
        let before = cluster.output(job).len();
        rest(300);
        assert_eq!(cluster.output(job).len(), before, "job {job} goes on");
        text(&cluster, &["cancel", &job.to_string()]);
    }
    cluster.until_idle();
}

#[test]
fn a_job_that_starts_anew_hears_of_the_end_of_what_it_reads() {
    let cluster = Cluster::begin(1, "");
    let attempt = |n: u64| cluster.job(n)["attempts"].as_u64().unwrap_or(0);
    // Nothing was read: the next attempt has the same.
    let mut run = run_piped(&cluster, "cat; [ $GRID_ATTEMPT = 2 ] || sleep 60; echo over");
    drop(run.stdin.take());
    until("it runs", || attempt(1) == 1);
    rest(500);
    text(&cluster, &["requeue", "1"]);
    assert_eq!(run.wait_with_output().unwrap().stdout, b"over\n");
    // A part was read, which the next attempt cannot have.
    let mut run = run_piped(&cluster, "read line; sleep 60");
    run.stdin.take().unwrap().write_all(b"line\n").unwrap();
    until("it runs", || attempt(2) == 1);
    rest(500);
    text(&cluster, &["requeue", "2"]);
    assert_eq!(run.wait().unwrap().code(), Some(125));
    cluster.until_idle();
}

#[test]
fn tasks_and_capacity_are_taken_under_the_names_of_the_earlier_tools() {
    let cluster = Cluster::begin(2, "");
    let client = Client::new(&cluster.path("sock"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let name = || gridlive::clock::unique().unwrap();
    runtime.block_on(async {
        let half = ResourceRequest {
            client: name(),
            number: 1,
            resource_type: "cpu".into(),
            amount: "0.5".into(),
            duration: "10m".into(),
            preferred_nodes: vec!["n2".into()],
            ..ResourceRequest::default()
        };
        let taken = client.request_resources(&half).await.unwrap();
        let again = client.request_resources(&half).await.unwrap();
        assert_eq!(again, taken, "asked again, it is answered again");
        let none = ResourceRequest { resource_type: "time".into(), ..half.clone() };
        let refused = client.request_resources(&none).await.unwrap_err();
        assert!(refused.to_string().contains("give cpu, memory or gpu"), "{refused}");
        let needs = NeedsRequest { cpu_cores: "1.5".into(), ..NeedsRequest::default() };
        let job = JobRequest { needs, limit: Some("5m".into()), ..JobRequest::default() };
        let task = TaskRequest { client: name(), number: 1, job };
        let task = client.schedule_task(&task).await.unwrap();
        for (job, node) in [(taken.allocation, "n2"), (task.allocation, "n1")] {
            let found = cluster.until_state(job, "running");
            assert!(found["nodes"][0] == node || job == task.allocation, "{found}");
        }
        let stats = client.get("/v1/stats").await.unwrap();
        assert_eq!((&stats["leases_granted"], &stats["leases_active"]), (&2.into(), &2.into()));
        let summary = client.get("/v1/summary").await.unwrap();
        assert_eq!(summary["leased"]["cpu_cores"], 2.0, "{summary}");
        client.complete_task(task.allocation).await.unwrap();
        client.release_resources(taken.allocation).await.unwrap();
        // What runs a command is no allocation.
        let runs = cluster.submit(&["-c", "0.1"], "sleep 600");
        for refused in [client.release_resources(runs).await, client.complete_task(runs).await] {
            assert_eq!(refused.map_err(|e| e.code()), Err(5));
        }
        assert_eq!(client.release_resources(4_711).await.map_err(|e| e.code()), Err(4));
        client.cancel(runs).await.unwrap();
    });
    cluster.until_idle();
    let stats = runtime.block_on(client.get("/v1/stats")).unwrap();
    assert_eq!((&stats["leases_ended"], &stats["leases_active"]), (&3.into(), &0.into()));
}

#[test]
fn a_node_says_how_its_machine_is_doing() {
    let cluster = Cluster::begin(1, "");
    until("it has said it", || cluster.ask(&["show", "n1"]).unwrap()["disk_free_gb"].is_number());
    let shown = cluster.ask(&["show", "n1"]).unwrap();
    assert!(shown["network_mb_per_s"]["sent"].is_number(), "{shown}");
    let told = std::path::Path::new("/proc/pressure/cpu").exists();
    assert_eq!(shown["stalls_percent"]["cpu"].is_number(), told, "{shown}");
    // Every metric by its name (NAMES.md), those that need somebody's loss or return included.
    let page = text(&cluster, &["metrics"]);
    let names = [
        "grid_pending_jobs",
        "grid_evicted_jobs_total",
        "grid_destroyed_work_seconds_total",
        "grid_reclaim_latency_seconds",
        "grid_offers_open",
        "grid_pressure",
        "grid_atp_settled",
        "grid_atp_in_flight",
        "grid_atp_refunded",
        "grid_atp_committed",
        "grid_price",
        "grid_share",
        "grid_decision_seconds",
        "grid_last_decision_age_seconds",
        "grid_ssh_reconnects_total",
        "grid_disk_free_bytes",
        "grid_stall_ratio",
    ];
    for name in names {
        assert!(page.contains(&format!("# TYPE {name} ")), "{name} in {page}");
    }
    assert!(page.contains("grid_price{pool=\"default\",resource=\"cpu\"} 3600.000000\n"), "{page}");
    // What the daemon takes for its connections, jobs do not get.
    let mine = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap();
    let job = cluster.submit(&[], "ulimit -Sn");
    cluster.until_state(job, "completed");
    assert_eq!(cluster.output(job).trim(), mine.to_string());
}

#[test]
fn what_is_on_loan_is_recalled_and_said() {
    let rules = "accounts: [{ name: lab, quota: { cpu_cores: 1 } }, { name: guests, weight: 3 }]\n\
         execution: { preemption: { min_runtime: 0s, grace_seconds: 1s } }";
    let mut cluster = Cluster::begin(1, rules);
    let guest = |cores: &str| cluster.submit(&["-A", "guests", "-c", cores], "sleep 600");
    let (first, second) = (guest("1"), guest("1"));
    for job in [first, second] {
        cluster.until_state(job, "running");
    }
    let quotas = cluster.ask(&["quota"]).unwrap();
    assert_eq!(quotas["recalls"], true);
    assert_eq!(quotas["accounts"][0]["quota"], json!({ "cpu_cores": 1.0 }));
    assert_eq!(quotas["accounts"][1]["on_loan"]["cpu_cores"], 2.0);
    // The youngest loan comes back, and its job waits again.
    let own = cluster.submit(&["-A", "lab", "-c", "1"], "sleep 600");
    cluster.until_state(own, "running");
    cluster.until_state(second, "pending");
    assert_eq!(cluster.job(first)["state"], "running");
    let recent = text(&cluster, &["events"]);
    assert!(recent.contains("QuotaReclaim"), "{recent}");
    // Beyond its quota the account waits as everybody.
    let more = cluster.submit(&["-A", "lab", "-c", "1", "-p", "low"], "sleep 600");
    let why = text(&cluster, &["explain", &more.to_string()]);
    assert!(why.contains("cores on 1 node; nearest is n1, which lacks 1"), "{why}");
    let order = cluster.ask(&["prio"]).unwrap();
    let jobs: Vec<u64> =
        order["jobs"].as_array().unwrap().iter().filter_map(|row| row["job"].as_u64()).collect();
    assert_eq!(jobs, [second, more], "{order}");
    assert_eq!(order["jobs"][1]["class"], 25);
    let shares = cluster.ask(&["share"]).unwrap();
    let of = |i: usize, key: &str| shares["accounts"][i][key].as_f64().unwrap();
    // The account of the machine's owner has a weight, too.
    assert_eq!((of(0, "share"), of(1, "share")), (0.2, 0.6));
    assert_eq!((of(0, "holds"), of(1, "holds")), (0.5, 0.5));
    let used: Vec<f64> = (0..2).map(|i| of(i, "used")).collect();
    assert!((used[0] + used[1] - 1.0).abs() < 1e-5 && used[1] > used[0], "{shares}");
    assert!(text(&cluster, &["quota"]).contains("ON LOAN"), "{}", text(&cluster, &["quota"]));
    for job in [first, second, own, more] {
        text(&cluster, &["cancel", &job.to_string()]);
    }
    cluster.until_idle();
    cluster.check_replay();
}

#[test]
fn what_is_reserved_begins_at_its_time_and_can_be_given_up() {
    // One machine of two cores.
    let cluster = Cluster::begin(1, "accounts: [{ name: lab }]");
    let reserve = |begin: &str| {
        let words = ["reserve", "create", "-r", "cpu", "-a", "2", "--begin", begin, "-t", "1h"];
        text(&cluster, &words).trim().parse::<u64>().unwrap()
    };
    let (soon, later) = (reserve("6s"), reserve("2h"));
    let list = || -> serde_json::Value {
        serde_json::from_str(&text(&cluster, &["reserve", "list", "--json"])).unwrap()
    };
    let listed = list();
    let rows = listed["reservations"].as_array().unwrap();
    let jobs: Vec<u64> = rows.iter().filter_map(|row| row["job"].as_u64()).collect();
    assert_eq!(jobs, [soon, later], "{listed}");
    assert_eq!((&rows[0]["account"], &rows[1]["limit_s"]), (&json!("lab"), &json!(3_600.0)));
    let begins = rows[1]["begins_in_s"].as_f64().unwrap();
    assert!((7_100.0..=7_200.0).contains(&begins), "{listed}");
    // What would still be there then waits for it.
    let why = text(&cluster, &["explain", &later.to_string()]);
    assert!(why.contains("s from now"), "{why}");
    let other = cluster.submit(&["-c", "1"], "sleep 600");
    let why = text(&cluster, &["explain", &other.to_string()]);
    assert!(why.contains("when the reservation"), "{why}");
    let late = ["reserve", "create", "-r", "cpu", "-a", "1", "--begin", "3s", "-t", "1h"];
    let refused = cluster.run(&late);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("no place is free from then on"), "{said}");
    cluster.until_state(soon, "running");
    assert_eq!(cluster.job(other)["state"], "pending");
    for job in [soon, later] {
        text(&cluster, &["reserve", "cancel", &job.to_string()]);
    }
    cluster.until_state(other, "running");
    text(&cluster, &["cancel", &other.to_string()]);
    assert_eq!(list()["reservations"], json!([]));
}
