//! Jobs on real processes: what they get, what becomes of them, and that nothing of them is left.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use house::{Cluster, holding, lines, rest, signal, until};

#[test]
fn jobs_get_what_was_said_and_their_end_is_told() {
    let cluster = Cluster::begin(1, "");
    let script = "echo $GRID_JOB_ID $GRID_ATTEMPT $GRID_NODE $GRID_CPUS; echo [$SECRET] [$MINE]; \
                  echo [${CUDA_VISIBLE_DEVICES-unset}]; taskset -cp $$ | wc -l; umask; ls -A | wc -l";
    let job = cluster.submit(&["-c", "1", "-e", "MINE=here it is"], script);
    let ended = cluster.until_state(job, "completed");
    assert_eq!(ended["exit_code"], 0);
    let said = cluster.output(job);
    assert!(said.starts_with(&format!("{job} 1 n1 1\n[] [here it is]\n[]\n")), "{said}");
    let paid = cluster.submit(&["--budget", "12.5"], "echo $GRID_ATP_BUDGET");
    cluster.until_state(paid, "completed");
    assert_eq!(cluster.output(paid), "12.500000\n");
    let failed = cluster.submit(&[], "exit 42");
    assert_eq!(cluster.until_state(failed, "failed")["exit_code"], 42);
    let killed = cluster.submit(&[], "kill -SEGV $$");
    assert_eq!(cluster.until_state(killed, "failed")["signal"], 11);
    // `run` is as if it were here.
    let run = cluster.run(&["run", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(
        (run.status.code(), &run.stdout[..], &run.stderr[..]),
        (Some(7), &b"out\n"[..], &b"err\n"[..])
    );
    let missing = cluster.run(&["run", "--", "/no/such/program"]);
    assert_eq!(missing.status.code(), Some(127));
    // A job that is not there, or that nobody could run.
    assert_eq!(cluster.run(&["show", "999"]).status.code(), Some(4));
    assert_eq!(cluster.run(&["submit", "-c", "64", "--", "true"]).status.code(), Some(5));
    assert_eq!(cluster.run(&["submit", "-p", "soon", "--", "true"]).status.code(), Some(1));
}

#[test]
fn hostile_strings_arrive_as_they_are_and_make_nothing() {
    let cluster = Cluster::begin(1, "");
    let parts = [
        "'; touch /tmp/grid-was-here; '",
        "$(touch /tmp/grid-was-here)",
        "`reboot`",
        "a\nb",
        "\u{1b}[31m",
        "--",
        "-rf",
        "*",
        "~",
        "\\",
        "\"",
        "ä😀\u{202e}",
        "\t",
        "%n%s",
        "../../etc/passwd",
        "|&;<>(){}[]#!",
    ];
    let all: Vec<String> = (0..500)
        .map(|i| format!("{}{}", parts[i % parts.len()], parts[(i * 7 + i / 16) % parts.len()]))
        .collect();
    let mut args = vec!["submit", "--name", parts[0], "-e", "A=$(x)'\"\n", "--", "printf", "%s\\0"];
    args.extend(all.iter().map(String::as_str));
    let output = cluster.run(&args);
    let job: u64 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    cluster.until_state(job, "completed");
    let said = cluster.output(job);
    let said: Vec<&str> = said.split_terminator('\0').collect();
    assert_eq!(said, all);
    assert!(!std::path::Path::new("/tmp/grid-was-here").exists());
    // A terminal is not steered by a name, nor by a reason.
    let listed = cluster.run(&["history"]);
    assert!(!listed.stdout.contains(&0x1b));
}

#[test]
fn nothing_of_a_tree_outlives_its_attempt() {
    let cluster = Cluster::begin(
        1,
        "resource_sharing: { owner: { kill_seconds: 1 } }\nexecution: { preemption: { grace_seconds: 1 } }",
    );
    let mark = |n: u32| format!("grid-escape-{}-{n}", std::process::id());
    let escapes = [
        "(setsid sleep 1000 &) ; sleep 1000",
        "(trap '' TERM; while true; do sleep 1000; done) & wait",
        "trap '' TERM HUP INT; (trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 1000' &); sleep 1000; sleep 1000",
        "sh -c 'kill -STOP $$' & sleep 1000",
        "for i in 1 2 3 4 5 6 7 8; do (setsid nohup sleep 1000 >/dev/null 2>&1 &); done; sleep 1000",
        "env -i sh -c '(setsid sleep 1000 &)'; sleep 1000",
    ];
    for (n, escape) in (0..).zip(escapes) {
        let mark = mark(n);
        let job = cluster.submit(&["-e", &format!("ESCAPE={mark}")], escape);
        cluster.until_state(job, "running");
        until("its processes are there", || holding(&mark).len() >= 2);
        rest(100);
        cluster.run(&["cancel", &job.to_string()]);
        cluster.until_state(job, "cancelled");
        assert_eq!(holding(&mark), Vec::<i32>::new(), "{escape}");
        let leases = cluster.ask(&["leases"]).unwrap();
        assert_eq!(leases["leases"].as_array().map(Vec::len), Some(0));
    }
    // What a job leaves behind when it ends by itself ends with it.
    let mark = mark(99);
    let job = cluster.submit(&["-e", &format!("ESCAPE={mark}")], "setsid sleep 1000 & echo gone");
    cluster.until_state(job, "completed");
    assert_eq!(holding(&mark), Vec::<i32>::new());
}

#[test]
fn a_job_that_takes_more_than_it_was_granted_is_ended() {
    let cluster = Cluster::begin(1, "");
    // Two hundred MiB where there should be fifty; shared pages count once.
    let big = "head -c 200M /dev/zero | tail -c 200M | (sleep 1000; cat >/dev/null)";
    let job = cluster.submit(&["-m", "0.05"], big);
    let ended = cluster.until_state(job, "failed");
    assert_eq!((ended["signal"].as_i64(), ended["attempts"].as_u64()), (Some(9), Some(1)));
    let said = cluster.run(&["logs", "--stderr", &job.to_string()]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("MiB of memory, and was granted 51]"), "{said}");
    // More and more processes: bounded, and nothing of them is left.
    let mark = format!("grid-bomb-{}", std::process::id());
    let bomb = "while :; do sleep 1000 & done 2>/dev/null";
    let job = cluster.submit(&["-e", &format!("BOMB={mark}")], bomb);
    cluster.until_state(job, "failed");
    assert_eq!(holding(&mark), Vec::<i32>::new());
    let small = cluster.submit(&["-m", "0.5"], "sleep 2; echo fits");
    cluster.until_state(small, "completed");
}

#[test]
fn the_words_of_the_earlier_tools_work() {
    let cluster = Cluster::begin(1, "");
    let run =
        cluster.run(&["run-shared", "-r", "cpu", "-a", "1", "-p", "high", "--", "echo", "hi"]);
    assert_eq!((run.status.code(), &run.stdout[..]), (Some(0), &b"hi\n"[..]));
    let odd = cluster.run(&["alloc", "-r", "gpu", "-a", "some", "-t", "1m"]);
    assert!(String::from_utf8_lossy(&odd.stderr).contains("a whole number of GPUs"));
    let taken = cluster.run(&["alloc", "-r", "cpu", "-a", "2", "-t", "10m"]);
    let said = String::from_utf8_lossy(&taken.stdout).into_owned();
    let (job, node) = said.trim().split_once(' ').unwrap();
    assert_eq!(node, "n1");
    // Nothing is free meanwhile: who will not wait is told so.
    let late = cluster.run(&["run-shared", "-r", "cpu", "-a", "1", "-w", "1", "--", "true"]);
    assert_eq!(late.status.code(), Some(6), "{}", String::from_utf8_lossy(&late.stderr));
    let plan = cluster.ask(&["plan", "-c", "1"]).unwrap();
    assert_eq!(plan["starts"], "later");
    assert!(!plan["why"].as_array().unwrap().is_empty());
    assert!(cluster.run(&["dealloc", job]).status.success());
    until("it is free again", || cluster.ask(&["plan", "-c", "1"]).unwrap()["starts"] == "now");
    assert_eq!(cluster.ask(&["queue"]).unwrap()["all"], 0, "a plan submits nothing");
    let grid = std::path::Path::new(house::GRIDLIVE).with_file_name("grid");
    let mut alias = std::process::Command::new(grid);
    let output = alias.env("GRIDLIVE_SOCKET", cluster.path("sock")).arg("shared-status");
    let output = output.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("nodes up"));
    let metrics = cluster.run(&["metrics"]);
    let metrics = String::from_utf8_lossy(&metrics.stdout).into_owned();
    for line in ["grid_nodes{state=\"up\"} 1", "grid_offers_open{node=\"n1\",resource=\"cpu\"} 2"] {
        assert!(metrics.contains(line), "{metrics}");
    }
    let price = cluster.ask(&["price"]).unwrap();
    assert_eq!(price["prices"][2]["medium"].to_string(), "36000.0");
}

#[test]
fn a_killed_shim_takes_its_job_with_it_and_the_job_starts_again() {
    let cluster = Cluster::begin(1, "");
    let file = cluster.path("started");
    let script = format!(
        "echo $GRID_ATTEMPT >> {}; sleep 2; [ $GRID_ATTEMPT -gt 1 ] || sleep 1000",
        file.display()
    );
    let job = cluster.submit(&[], &script);
    until("it has started", || lines(&file).len() == 1);
    let shims = house::with_words(&format!(" shim {}", cluster.path("n1").display()));
    assert_eq!(shims.len(), 1);
    signal(shims[0], "KILL");
    let ended = cluster.until_state(job, "completed");
    assert_eq!(ended["attempts"], 2);
    assert_eq!(lines(&file), ["1", "2"]);
    // The agent and its line are left.
    assert_eq!(cluster.processes_of("n1").len(), 2);
}

#[test]
fn arrays_run_every_place_once() {
    let mut cluster = Cluster::begin(2, "");
    let file = cluster.path("ran");
    cluster.run(&[
        "submit",
        "--array",
        "40",
        "--",
        "sh",
        "-c",
        &format!("echo $GRID_ARRAY_INDEX >> {}", file.display()),
    ]);
    cluster.until_idle();
    let mut ran: Vec<u32> = lines(&file).iter().map(|line| line.parse().unwrap()).collect();
    ran.sort_unstable();
    assert_eq!(ran, (0..40).collect::<Vec<u32>>());
    cluster.check_replay();
}

#[test]
fn a_cluster_that_is_taken_down_leaves_nothing() {
    let cluster = Cluster::begin(2, "");
    let job = cluster.submit(&[], "sleep 1000");
    cluster.until_state(job, "running");
    assert!(cluster.run(&["down"]).status.success());
    for node in ["n1", "n2"] {
        until("its processes are gone", || cluster.processes_of(node).is_empty());
        until("its folder is gone", || !cluster.path(node).exists());
    }
    until("the daemon is gone", || cluster.run(&["status"]).status.code() == Some(3));
}

#[test]
fn up_waits_for_the_nodes_and_says_what_is_wrong() {
    let mut cluster = Cluster::begin(2, "");
    let config = cluster.path("c.yaml");
    let up = |cluster: &Cluster, wait: &str| {
        let (config, state) = (config.to_str().unwrap(), cluster.path("state"));
        let state = state.to_str().unwrap();
        cluster.run(&["up", config, "--state", state, "--wait", wait])
    };
    let twice = up(&cluster, "10");
    assert!(String::from_utf8_lossy(&twice.stderr).contains("answers on"));
    cluster.stop_daemon();
    let output = up(&cluster, "30");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("2 of 2 nodes"));
    let job = cluster.submit(&[], "echo up");
    cluster.until_state(job, "completed");
    assert!(cluster.run(&["down"]).status.success());
    until("the daemon is gone", || cluster.run(&["status"]).status.code() == Some(3));
    std::fs::write(&config, "nodes: [{ name: a, color: red }]").unwrap();
    let state = cluster.path("other");
    let wrong = cluster.run(&["up", config.to_str().unwrap(), "--state", state.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert!(!wrong.status.success() && said.contains("daemon.log"), "{said}");
}

#[test]
fn an_elastic_job_has_what_is_left_over_and_gives_it_back() {
    let cluster = Cluster::begin(1, "lease: { term_seconds: 10 }");
    let script = "while :; do echo $(nproc) $(tr , '\\n' < $GRID_CPU_LIST_FILE | wc -l); \
                  sleep .1; done";
    let job = cluster.submit(&["-c", "2", "--min-cpus", "1"], script);
    let says = |cores: u8| cluster.output(job).lines().last() == Some(&format!("{cores} {cores}"));
    until("it has both cores", || says(2));
    assert_eq!(cluster.job(job)["extra_cpus"]["now"], 1.0);
    let other = cluster.submit(&["-c", "1"], "nproc; sleep 3");
    until("it gives one back", || says(1));
    assert_eq!(cluster.job(job)["extra_cpus"]["now"], 0.0);
    cluster.until_state(other, "completed");
    assert_eq!(cluster.output(other), "1\n");
    until("it has both again with its next term", || says(2));
    assert!(cluster.run(&["cancel", &job.to_string()]).status.success());
    cluster.until_state(job, "cancelled");
    for wrong in [&["-c", "2", "--min-cpus", "3"][..], &["--min-cpus", "0"], &["--min-cpus", "x"]] {
        let refused = cluster.run(&[&["submit"], wrong, &["--", "true"]].concat());
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("min.cpu_cores"), "{said}");
    }
}
