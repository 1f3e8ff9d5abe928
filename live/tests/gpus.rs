//! GPUs through a driver's library: found, kept apart, given back to their owner, withdrawn when
//! they are broken. The library's devices are lines of a file (crate `fake-nvml`).

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use gridlive::clock::since_boot;
use house::gpus::{busy, end, gpu, stranger, two, until_offered};
use house::{Cluster, record, rest, until};

#[test]
fn jobs_see_their_own_gpus_and_no_others() {
    let [a, b] = two();
    let split = gpu("split", 10, "mig", "");
    let cluster = Cluster::with_gpus(&[a, split, b], "owner_use: none");
    until_offered(&cluster, 2);
    let script = "echo $GRID_GPUS $CUDA_VISIBLE_DEVICES $CUDA_DEVICE_ORDER; sleep 1";
    let jobs = [["-g", "1"], ["-g", "1"], ["-g", "2"]].map(|needs| cluster.submit(&needs, script));
    jobs.iter().for_each(|job| drop(cluster.until_state(*job, "completed")));
    let mut said = jobs.map(|job| cluster.output(job));
    said[..2].sort();
    let order = "PCI_BUS_ID\n";
    let wanted =
        [format!("1 GPU-a {order}"), format!("1 GPU-b {order}"), format!("2 GPU-a,GPU-b {order}")];
    assert_eq!(said, wanted);
    // Half of one leaves the other half to somebody else.
    let half = ["-g", "1", "--gpu-share", "0.5"];
    let halves = [0; 4].map(|_| cluster.submit(&half, "echo $CUDA_VISIBLE_DEVICES; sleep 2"));
    until("all four run at once", || {
        halves.iter().all(|job| cluster.job(*job)["state"] == "running")
    });
    // The machine's models are labels.
    let other = ["submit", "-g", "1", "--gpu-model", "Tesla T4", "--", "true"];
    assert_eq!(cluster.run(&other).status.code(), Some(5));
    let model = cluster.submit(&["-g", "1", "--gpu-model", "Fake 9000"], "true");
    cluster.until_state(model, "completed");
    let node = cluster.ask(&["show", "n1"]).unwrap();
    assert_eq!(node["gpus"][1]["uuid"], "GPU-b", "{node}");
}

#[test]
fn an_owner_who_computes_gets_the_gpu_back() {
    let [a, b] = two();
    let cluster = Cluster::with_gpus(&two(), "");
    until_offered(&cluster, 2);
    let script = "trap 'echo told; exit 3' TERM; echo $CUDA_VISIBLE_DEVICES; \
                  while :; do sleep 0.05; done";
    let job = cluster.submit(&["-c", "0", "-g", "1", "-t", "10m"], script);
    until("it has said which", || cluster.output(job).starts_with("GPU-"));
    let its = cluster.output(job).trim().to_owned();
    let foreign = stranger();
    let came = since_boot();
    let used = |name: &str, line: &String| {
        let users = format!("{}:2000", foreign.id());
        if its == format!("GPU-{name}") { gpu(name, 2_010, "", &users) } else { line.clone() }
    };
    cluster.set_gpus(&[used("a", &a), used("b", &b)]);
    // It is told, and begins anew on the other one.
    until("it runs on the other", || {
        let said = cluster.job(job);
        said["attempts"] == 2 && cluster.output(job).starts_with("GPU-")
    });
    record("owner", "gpu_back_ms", since_boot().since(came).get(), 1);
    assert_ne!(cluster.output(job).trim(), its);
    until_offered(&cluster, 1);
    end(foreign);
    cluster.set_gpus(&[a, b]);
    until_offered(&cluster, 2);
}

#[test]
fn a_broken_gpu_is_not_lent() {
    let [a, b] = two();
    let cluster = Cluster::with_gpus(&two(), "owner_use: none");
    until_offered(&cluster, 2);
    // The program's own fault says nothing of the device; this error does.
    cluster.set_gpus(&[gpu("a", 10, "xid31", ""), gpu("b", 10, "xid79", "")]);
    until_offered(&cluster, 1);
    let both = cluster.submit(&["-g", "2"], "true");
    let one = cluster.submit(&["-g", "1"], "echo $CUDA_VISIBLE_DEVICES");
    cluster.until_state(one, "completed");
    assert_eq!(cluster.output(one), "GPU-a\n");
    assert_eq!(cluster.job(both)["state"], "pending");
    let sick = &cluster.ask(&["show", "n1"]).unwrap()["gpus"][1]["sick"];
    assert_eq!(sick, "the driver reported XID 79");
    until("doctor says so, too", || {
        let doctor = cluster.run(&["doctor", "n1"]);
        String::from_utf8_lossy(&doctor.stdout).contains("is not lent: the driver reported XID 79")
    });
    let doctor = cluster.run(&["doctor", "n1"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.status.success() && said.contains("its agent answers"), "{said}");
    assert!(said.contains("CUDA_VISIBLE_DEVICES is advice"), "{said}");
    // What has fallen off the bus keeps its number, and the others theirs.
    cluster.set_gpus(&[gpu("a", 10, "lost", ""), b.clone()]);
    until_offered(&cluster, 0);
    let waits = cluster.submit(&["-g", "1"], "echo $CUDA_VISIBLE_DEVICES");
    rest(1_500);
    assert_eq!(cluster.job(waits)["state"], "pending");
    cluster.set_gpus(&[a, b]);
    cluster.until_state(waits, "completed");
    assert_eq!(cluster.output(waits), "GPU-a\n");
}

#[test]
fn another_agent_knows_what_is_not_lent_before_its_node_is_heard() {
    let [a, _] = two();
    let foreign = stranger();
    let users = format!("{}:100", foreign.id());
    let cluster = Cluster::with_gpus(&[a, gpu("b", 110, "", &users)], "owner_use: none");
    until_offered(&cluster, 1);
    let both = cluster.submit(&["-g", "2"], "true");
    for _ in 0..3 {
        let agent = cluster.agent("n1");
        house::signal(agent.unwrap(), "KILL");
        until("another agent is there", || {
            cluster.agent("n1").is_some_and(|pid| Some(pid) != agent)
        });
        cluster.until_up_but_busy();
        rest(2_000);
        let job = cluster.job(both);
        assert_eq!((job["state"].as_str(), job["attempts"].as_u64()), (Some("pending"), Some(0)));
    }
    end(foreign);
}

#[test]
fn a_driver_that_hangs_keeps_its_gpus_and_nothing_else() {
    let cluster = Cluster::with_gpus(&two(), "owner_use: none");
    until_offered(&cluster, 2);
    for broken in ["hang", "gone"] {
        cluster.set_gpus(&[broken.to_owned()]);
        until_offered(&cluster, 0);
        let job = cluster.submit(&[], "echo works");
        cluster.until_state(job, "completed");
        cluster.set_gpus(&two());
        until_offered(&cluster, 2);
    }
    // An agent that finds the driver hanging starts all the same.
    cluster.set_gpus(&["hang".to_owned()]);
    house::signal(cluster.agent("n1").unwrap(), "KILL");
    let job = cluster.submit(&[], "echo works");
    cluster.until_state(job, "completed");
    cluster.set_gpus(&two());
    until_offered(&cluster, 2);
}

#[test]
fn a_gpu_is_lent_again_when_its_memory_is_seen_free() {
    let [a, b] = two();
    let cluster = Cluster::with_gpus(&two(), "owner_use: none");
    until_offered(&cluster, 2);
    let job = cluster.submit(&["-g", "2"], "echo $$; exec sleep 600");
    until("it has said who it is", || cluster.output(job).trim().parse::<u32>().is_ok());
    let users = format!("{}:9000", cluster.output(job).trim());
    cluster.set_gpus(&[gpu("a", 9_010, "", &users), b.clone()]);
    rest(1_200);
    assert_eq!(cluster.job(job)["state"], "running", "its own use is not its owner's");
    assert!(cluster.run(&["cancel", &job.to_string()]).status.success());
    let next = cluster.submit(&["-g", "1"], "echo $CUDA_VISIBLE_DEVICES");
    // Its process is gone, and its memory is not: nothing starts on that device.
    rest(3_000);
    assert_eq!(cluster.job(next)["state"], "pending");
    // Longer than a driver may take: the lease ends, and the device waits alone.
    cluster.until_state(next, "completed");
    assert_eq!(cluster.output(next), "GPU-b\n");
    until_offered(&cluster, 1);
    cluster.set_gpus(&[a, b]);
    until_offered(&cluster, 2);
}

#[test]
fn who_leaves_a_gpu_idle_is_warned_and_told_to_leave() {
    let rules = "execution: { resource_sharing: { monitoring_interval_seconds: 1 }, \
                 utilization_policy: { warn_after: 3s, reclaim_after: 9s } }";
    for keys in ["owner: people, owner_use: none", "owner: people"] {
        let [a, b] = two();
        let cluster = Cluster::with_gpus_under(&[a.clone(), b.clone()], keys, rules);
        until_offered(&cluster, 2);
        let wait = "echo $CUDA_VISIBLE_DEVICES; exec sleep 600";
        let jobs = [0; 2].map(|_| cluster.submit(&["-c", "0", "-g", "1"], wait));
        until("both have said which", || jobs.iter().all(|job| cluster.output(*job).len() > 5));
        // One of them computes.
        cluster.set_gpus(&[a, busy(&b, 50)]);
        let on_a = cluster.output(jobs[0]).trim() == "GPU-a";
        let (idle, works) = if on_a { (jobs[0], jobs[1]) } else { (jobs[1], jobs[0]) };
        until("it is warned", || {
            let said = cluster.job(idle)["why"][0].as_str().unwrap_or_default().to_owned();
            said.starts_with("it has left its GPUs idle for ") && said.contains("told to leave in")
        });
        let queue = cluster.run(&["queue"]);
        let queue = String::from_utf8_lossy(&queue.stdout).into_owned();
        assert!(queue.contains("it has left its GPUs idle for"), "{queue}");
        assert_eq!(cluster.job(works)["idle"], serde_json::Value::Null);
        let past = cluster.until_state(idle, "cancelled");
        assert_eq!((&past["reason"], &past["attempts"]), (&"IdleTimeout".into(), &1.into()));
        let events = cluster.run(&["events"]);
        let events = String::from_utf8_lossy(&events.stdout).into_owned();
        let mut warnings = events.lines().filter(|line| line.contains("\"event\":\"idle\""));
        let of = |line: &str| line.contains(&format!("\"job\":{idle},"));
        assert!(warnings.any(of), "{events}");
        rest(1_000);
        assert_eq!(cluster.job(works)["state"], "running", "{events}");
    }
}

#[test]
fn an_owner_says_how_much_is_lent_and_until_when() {
    let cluster = Cluster::with_gpus(&two(), "");
    until_offered(&cluster, 2);
    let say = |words: &[&str]| assert!(cluster.run(words).status.success(), "{words:?}");
    say(&["lend", "n1", "--gpus", "1", "--until", "23:59"]);
    until_offered(&cluster, 1);
    say(&["lend", "n1", "--for", "2s"]);
    until_offered(&cluster, 2);
    // Then it is taken back, with what runs there.
    let job = cluster.submit(&["-c", "0", "-g", "1"], "sleep 60");
    let row = |key: &str| cluster.ask(&["nodes"]).unwrap()["nodes"][0][key].clone();
    until("it is taken back", || row("state") == "reclaimed" && row("leases") == 0);
    assert_ne!(cluster.job(job)["state"], "running");
    say(&["lend", "n1"]);
    until_offered(&cluster, 2);
    say(&["reclaim", "n1", "--now"]);
    until("it is taken back at once", || row("state") == "reclaimed");
}
