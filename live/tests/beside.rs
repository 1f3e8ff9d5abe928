//! A shell beside a job, on a node of this machine. Over SSH it is tested with the nodes there.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use house::{Cluster, begin_shell, shell_beside, shell_on_terminal, signal};
use std::io::{BufRead, BufReader, Write};

#[test]
fn a_shell_beside_a_job_has_what_the_job_has() {
    let cluster = Cluster::begin(1, "");
    let script = "pwd; echo $GRID_CPU_LIST; env | grep ^GRID_ | grep -v LEASE= | sort; sleep 600";
    let job = cluster.submit(&["-c", "1", "-e", "MARK=a b"], script);
    house::until("it has said all", || cluster.output(job).contains("GRID_NOTICE_FILE"));
    let words = "pwd; echo $GRID_CPU_LIST; env | grep ^GRID_ | grep -v LEASE= | sort\n\
        echo \"mark $MARK\" \"gpus ${CUDA_VISIBLE_DEVICES-unset}.\" lease $GRID_LEASE.\n\
        grep Cpus_allowed_list /proc/self/status; umask; cat x; exit 7\n";
    std::fs::write(cluster.path("n1/work").join(job.to_string()).join("x"), "its file\n").unwrap();
    let (code, said) = shell_beside(&cluster, &[&job.to_string()], words);
    assert_eq!(code, Some(7), "{said}");
    let same = cluster.output(job);
    assert!(said.starts_with(&same), "{said} and not {same}");
    let processors = same.lines().nth(1).unwrap();
    let left = &said[same.len()..];
    let wanted = format!("Cpus_allowed_list:\t{processors}\n0022\nits file\n");
    assert_eq!(left, format!("mark a b gpus . lease .\n{wanted}"), "and says nothing of itself");
    if let Some((code, said)) = shell_on_terminal(&cluster, &[&job.to_string()], "tty; exit 9\n") {
        assert_eq!(code, Some(9), "{said}");
        assert!(said.contains("it is no part of the job") && said.contains("/dev/pts/"), "{said}");
        assert_eq!(said.matches("gridlive:").count(), 1, "in one line: {said}");
    }
}

#[test]
fn a_shell_beside_a_job_is_no_part_of_it() {
    let cluster = Cluster::begin(1, "");
    let job = cluster.submit(&[], "sleep 600");
    cluster.until_state(job, "running");
    let mut shell = begin_shell(&cluster, &[&job.to_string()]);
    let mut to = shell.stdin.take().unwrap();
    let mut from = BufReader::new(shell.stdout.take().unwrap());
    let mut line = String::new();
    let mut ask = |words: &str| {
        to.write_all(words.as_bytes()).unwrap();
        line.clear();
        from.read_line(&mut line).unwrap();
        line.trim().to_owned()
    };
    assert_eq!(ask("echo $GRID_JOB_ID\n"), job.to_string());
    // Its keeper is killed, so all that carries its mark or is in its group is ended.
    let keepers = house::with_words(&format!("shim {}", cluster.path("n1").display()));
    keepers.into_iter().for_each(|pid| signal(pid, "KILL"));
    house::until("it has another attempt", || cluster.job(job)["attempts"] != 1);
    assert_eq!(ask("echo still here\n"), "still here");
    assert!(cluster.run(&["cancel", &job.to_string()]).status.success());
    cluster.until_idle();
    assert_eq!(ask("echo and now\n"), "and now");
    drop(to);
    assert!(shell.wait().unwrap().success());
    // Where nothing runs there is no place.
    let code = |job: &str| cluster.run(&["ssh", job]).status.code();
    assert_eq!([code(&job.to_string()), code("4711")], [Some(5), Some(4)]);
    // An agent that is asked for a lease of nobody's says so.
    let place = cluster.path("n1");
    let args = ["enter", "--dir", place.to_str().unwrap(), "4711"];
    let output = cluster.run(&args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("nothing of lease 4711"), "{said}");
}

#[test]
fn a_shell_opens_on_the_first_node_of_a_gang_or_the_one_that_is_named() {
    let cluster = Cluster::begin(2, "");
    let job = cluster.submit(&["-c", "2", "--gang", "2"], "sleep 600").to_string();
    cluster.until_state(job.parse().unwrap(), "running");
    let first = cluster.job(job.parse().unwrap())["nodes"][0].as_str().unwrap().to_owned();
    let on = |more: &[&str]| {
        let args = [&[job.as_str()], more].concat();
        let mut told = (None, String::new());
        house::until("its keeper is there", || {
            told = shell_beside(&cluster, &args, "echo $GRID_NODE\n");
            told.0 != Some(1)
        });
        told
    };
    assert_eq!(on(&[]), (Some(0), format!("{first}\n")));
    for node in ["n1", "n2"] {
        assert_eq!(on(&["--node", node]), (Some(0), format!("{node}\n")));
    }
    let (code, said) = on(&["--node", "n3"]);
    assert!(code == Some(4) && said.contains("it runs on n1, n2"), "{said}");
}
