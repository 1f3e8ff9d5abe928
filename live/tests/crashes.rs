//! Crashes of daemon and agents under load: nothing that was acknowledged is lost, nothing is
//! started twice, what runs is adopted.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use house::{Cluster, lines, record, rest, signal};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How often the daemon is killed; `GRID_KILLS` sets another number for a long run.
fn kills() -> u64 {
    std::env::var("GRID_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(30)
}

/// A number that follows another, for instants that differ from run to run only by the machine.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

#[test]
fn no_acknowledged_job_is_lost_and_none_starts_twice() {
    let mut cluster = Cluster::begin(2, "");
    let file = cluster.path("ran");
    let script = format!("echo $GRID_JOB_ID.$GRID_ATTEMPT >> {}; sleep 0.2", file.display());
    let (mut seed, mut acknowledged) = (7, BTreeSet::new());
    for _ in 0..kills() {
        for _ in 0..3 {
            let output = cluster.run(&["submit", "-c", "0.5", "--", "sh", "-c", &script]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if let Ok(job) = text.trim().parse::<u64>() {
                assert!(acknowledged.insert(job), "job {job} was given out twice");
            }
        }
        rest(next(&mut seed) % 250);
        cluster.kill_daemon();
        rest(next(&mut seed) % 50);
        cluster.start_daemon();
        cluster.until_up();
    }
    cluster.until_idle();
    let mut starts: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for line in lines(&file) {
        let job = line.split_once('.').unwrap().0.parse().unwrap();
        starts.entry(job).or_default().push(line);
    }
    for job in &acknowledged {
        assert!(starts.contains_key(job), "job {job} was acknowledged and never ran");
    }
    for (job, attempts) in &starts {
        let once: BTreeSet<&String> = attempts.iter().collect();
        assert_eq!(once.len(), attempts.len(), "an attempt of job {job} ran twice: {attempts:?}");
        // The daemon was back long before any permission ended.
        assert_eq!(attempts.len(), 1, "job {job} was adopted, not started again: {attempts:?}");
    }
    assert!(acknowledged.len() as u64 >= kills() * 2, "{} jobs", acknowledged.len());
    record("kills", "daemon", kills(), acknowledged.len() as u64);
    cluster.check_replay();
}

#[test]
fn a_killed_agent_is_started_again_and_adopts() {
    let cluster = Cluster::begin(1, "");
    let file = cluster.path("ran");
    let script = format!("echo $GRID_JOB_ID.$GRID_ATTEMPT >> {}; sleep 1.5", file.display());
    let mut seed = 11;
    let mut jobs = Vec::new();
    for round in 0..8 {
        jobs.push(cluster.submit(&["-c", "0.25"], &script));
        // At any instant of a start.
        rest(next(&mut seed) % 60);
        let agent = cluster.agent("n1");
        if let Some(agent) = agent {
            signal(agent, "KILL");
        }
        house::until("another agent is there", || {
            cluster.agent("n1").is_some_and(|pid| Some(pid) != agent)
        });
        cluster.until_up();
        record("kills", "agent", 1, round);
    }
    cluster.until_idle();
    let ran = lines(&file);
    let once: BTreeSet<&String> = ran.iter().collect();
    assert_eq!(once.len(), ran.len(), "no attempt ran twice: {ran:?}");
    for job in jobs {
        assert_eq!(cluster.job(job)["state"], "completed");
    }
}

#[test]
fn a_stopped_daemon_goes_on_where_it_was() {
    let mut cluster = Cluster::begin(1, "");
    let job = cluster.submit(&[], "sleep 2; echo done");
    cluster.until_state(job, "running");
    cluster.stop_daemon();
    assert_eq!(cluster.run(&["status"]).status.code(), Some(3));
    cluster.start_daemon();
    cluster.until_up();
    let ended = cluster.until_state(job, "completed");
    assert_eq!(ended["attempts"], 1);
    assert_eq!(cluster.output(job), "done\n");
}

#[test]
fn what_runs_outlives_a_clean_stop_by_more_than_a_term() {
    let mut cluster = Cluster::begin(1, "lease: { term_seconds: 10, stop_seconds: 600 }");
    let job = cluster.submit(&[], "sleep 20; echo done");
    cluster.until_state(job, "running");
    cluster.stop_daemon();
    assert!(cluster.log().contains("1 leases go on for up to 600 s"), "{}", cluster.log());
    // A term, and the time to kill: without the longer permission nothing is left then.
    rest(17_000);
    cluster.start_daemon();
    cluster.until_up();
    let ended = cluster.until_state(job, "completed");
    assert_eq!(ended["attempts"], 1);
    assert_eq!(cluster.output(job), "done\n");
    cluster.check_replay();
}

#[test]
fn a_job_that_is_requeued_starts_anew() {
    let cluster = Cluster::begin(1, "");
    let job = cluster.submit(&[], "echo $GRID_ATTEMPT; [ $GRID_ATTEMPT = 2 ] || sleep 600");
    house::until("it has begun", || cluster.output(job) == "1\n");
    assert!(cluster.run(&["requeue", &job.to_string()]).status.success());
    let ended = cluster.until_state(job, "completed");
    assert_eq!(ended["attempts"], 2);
    // What has ended cannot wait again.
    assert_eq!(cluster.run(&["requeue", &job.to_string()]).status.code(), Some(4));
}

#[test]
fn rules_are_read_again_and_wrong_ones_change_nothing() {
    let mut cluster = Cluster::begin(1, "lease: { term_seconds: 60 }");
    let file = cluster.path("c.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let said = |cluster: &Cluster, what: &str| {
        house::until(what, || cluster.log().contains(what));
    };
    std::fs::write(&file, text.replace("term_seconds: 60", "term_seconds: 1")).unwrap();
    cluster.hang_up();
    said(&cluster, "the rules stay as they are");
    std::fs::write(&file, text.replace("term_seconds: 60", "term_seconds: 30")).unwrap();
    cluster.hang_up();
    said(&cluster, "hold from now on");
    let heavier = text.replace("{ name: lab }", "{ name: lab, weight: 2 }");
    std::fs::write(&file, heavier.replace("term_seconds: 60", "term_seconds: 30")).unwrap();
    cluster.hang_up();
    said(&cluster, "weights and quotas stay as the cluster began: lab");
    let job = cluster.submit(&[], "echo after");
    cluster.until_state(job, "completed");
    // They are in the journal: it replays, and a restart finds nothing to change.
    cluster.stop_daemon();
    cluster.start_daemon();
    cluster.until_up();
    said(&cluster, "the rules are those of the configuration file");
    cluster.check_replay();
}

#[test]
fn systemd_hears_when_it_is_ready_and_when_it_stops() {
    let mut cluster = Cluster::begin(1, "");
    cluster.stop_daemon();
    let socket = std::os::unix::net::UnixDatagram::bind(cluster.path("notify")).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let hears = || {
        let mut bytes = [0; 200];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).trim().to_owned()
    };
    cluster.set_env("NOTIFY_SOCKET", cluster.path("notify"));
    cluster.start_daemon();
    assert_eq!(hears(), "READY=1");
    cluster.until_up();
    cluster.stop_daemon();
    assert_eq!(hears(), "STOPPING=1");
    let config = cluster.path("c.yaml");
    let unit = cluster.run(&["unit", config.to_str().unwrap(), "--state", "/var/lib/grid"]);
    let unit = String::from_utf8_lossy(&unit.stdout).into_owned();
    for line in ["Type=notify", "--state \"/var/lib/grid\"", "KillMode=process"] {
        assert!(unit.contains(line), "{unit}");
    }
    let odd = cluster.run(&["unit", "/tmp/a%b.yaml"]);
    assert!(!odd.status.success());
}

/// A small file system of memory; gone with it.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// Mounts one; `None` where that is not allowed.
    fn mount(at: std::path::PathBuf, mib: u64) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(&at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self(at))
    }

    /// Takes all space that is left.
    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_takes_nothing_new_and_loses_nothing() {
    let mut cluster = Cluster::begin(1, "");
    let running = cluster.submit(&["-c", "0.5"], "sleep 4; echo done");
    cluster.until_state(running, "running");
    cluster.stop_daemon();
    // Its state moves to a disk that has room for little more than a journal's segments.
    let old = cluster.path("state");
    let Some(disk) = SmallDisk::mount(cluster.path("small"), 200) else {
        record("skipped", "full disk: no file system can be mounted here", 0, 1);
        return;
    };
    let copied =
        std::process::Command::new("cp").arg("-a").arg(old.join(".")).arg(&disk.0).status();
    assert!(copied.unwrap().success());
    cluster.move_state(disk.0.clone());
    cluster.start_daemon();
    cluster.until_up();
    disk.fill();
    let refused = cluster.run(&["submit", "--", "true"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(5), "{said}");
    // What runs goes on, and its end is heard and kept.
    let ended = cluster.until_state(running, "completed");
    assert_eq!(ended["attempts"], 1);
    std::fs::remove_file(disk.0.join("filler")).unwrap();
    let after = cluster.submit(&[], "echo after");
    cluster.until_state(after, "completed");
    cluster.check_replay();
    record("disk", "full", 1, 0);
}

/// Submits until the daemon answers no more; returns the jobs that it acknowledged.
fn submit_until_it_fails(cluster: &Cluster, script: &str, broken: &Path) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    loop {
        let fails = broken.exists();
        let output = cluster.run(&["submit", "-c", "0.1", "--", "sh", "-c", script]);
        match String::from_utf8_lossy(&output.stdout).trim().parse() {
            Ok(job) if !fails => acknowledged.push(job),
            Ok(job) => panic!("job {job} was acknowledged, and no disk holds it"),
            Err(_) => return acknowledged,
        }
    }
}

#[test]
fn a_disk_that_fails_stops_the_daemon_and_takes_nothing_that_was_acknowledged() {
    let mut cluster = Cluster::begin(1, "");
    let (file, broken) = (cluster.path("ran"), cluster.path("state.broken"));
    cluster.set_env("LD_PRELOAD", house::library("faulty-disk"));
    cluster.set_env("FAULTY_DISK", cluster.path("state"));
    cluster.stop_daemon();
    cluster.start_daemon();
    cluster.until_up();
    let running = cluster.submit(&["-c", "0.1"], "sleep 6; echo done");
    cluster.until_state(running, "running");
    let script = format!("echo $GRID_JOB_ID >> {}", file.display());
    let acknowledged: BTreeSet<u64> = std::thread::scope(|scope| {
        let work = || submit_until_it_fails(&cluster, &script, &broken);
        let clients = [(); 3].map(|()| scope.spawn(work));
        house::until("there is load", || lines(&file).len() > 10);
        std::fs::write(&broken, "").unwrap();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let says_it = |cluster: &Cluster, times: usize| {
        let log = cluster.log();
        assert_eq!(log.matches("the disk failed below").count(), times, "{log}");
        assert!(log.contains("then start the daemon again"), "{log}");
    };
    assert!(!cluster.until_daemon_ends());
    says_it(&cluster, 1);
    // As long as it fails there is no daemon; afterwards there is, and it knows everything.
    cluster.start_daemon();
    assert!(!cluster.until_daemon_ends());
    std::fs::remove_file(&broken).unwrap();
    // What it wrote last can be read, and no disk holds it: it is written again.
    let segment = cluster.path("state/journal/00000000000000000000.log");
    let synced = std::fs::read(&segment).unwrap()[16..24].try_into().unwrap();
    let again = format!("{} {} ", segment.display(), u64::from_le_bytes(synced));
    let writes = cluster.path("state.writes");
    std::fs::write(&writes, "").unwrap();
    cluster.start_daemon();
    cluster.until_up_but_busy();
    assert!(lines(&writes).iter().any(|line| line.starts_with(&again)), "{again}");
    let ended = cluster.until_state(running, "completed");
    assert_eq!(ended["attempts"], 1, "it was adopted");
    cluster.until_idle();
    let ran = lines(&file);
    let once: BTreeSet<u64> = ran.iter().map(|line| line.parse().unwrap()).collect();
    assert_eq!(once.len(), ran.len(), "a job ran twice: {ran:?}");
    assert!(acknowledged.is_subset(&once), "{acknowledged:?} {once:?}");
    // What a job runs lies in a file of its own.
    cluster.stop_daemon();
    cluster.set_env("FAULTY_DISK", cluster.path("state/programs"));
    cluster.start_daemon();
    cluster.until_up();
    std::fs::write(cluster.path("state/programs.broken"), "").unwrap();
    assert!(!cluster.run(&["submit", "--", "true"]).status.success());
    assert!(!cluster.until_daemon_ends());
    says_it(&cluster, 2);
    std::fs::remove_file(cluster.path("state/programs.broken")).unwrap();
    cluster.start_daemon();
    cluster.until_up();
    cluster.check_replay();
    record("disk", "failed", 3, acknowledged.len() as u64);
}

#[test]
fn another_build_takes_over_what_runs() {
    let mut cluster = Cluster::begin(1, "");
    let builds = |cluster: &Cluster| cluster.ask(&["show", "n1"]).unwrap()["build"].clone();
    let job = cluster.submit(&[], "sleep 4; echo done");
    cluster.until_state(job, "running");
    let before = builds(&cluster);
    cluster.stop_daemon();
    // The same program, in other bytes.
    let other = cluster.path("gridlive-next");
    let mut bytes = std::fs::read(house::GRIDLIVE).unwrap();
    bytes.extend_from_slice(b"another build");
    std::fs::write(&other, bytes).unwrap();
    let may_run = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&other, may_run).unwrap();
    cluster.set_program(other);
    cluster.start_daemon();
    cluster.until_up();
    assert_ne!(builds(&cluster), before);
    let ended = cluster.until_state(job, "completed");
    assert_eq!(ended["attempts"], 1);
    assert_eq!(cluster.output(job), "done\n");
}

#[test]
fn a_job_behind_a_line_that_stands_still_is_dead_before_it_starts_elsewhere() {
    let rules = "lease: { term_seconds: 10 }\n\
                 resource_sharing: { owner: { kill_seconds: 2 } }\n\
                 execution: { resource_sharing: { monitoring_interval_seconds: 1 } }";
    let mut cluster = Cluster::begin(2, rules);
    let file = cluster.path("alive");
    let script = format!(
        "trap '' TERM; while :; do echo $GRID_ATTEMPT $GRID_NODE $(date +%s%N) >> {}; sleep 0.05; done",
        file.display()
    );
    let job = cluster.submit(&["-c", "2", "-n", "n1"], &script);
    house::until("it is alive", || !lines(&file).is_empty());
    // Both ways, without an end that anybody would see.
    let place = cluster.path("n1");
    let line = house::with_words(&format!("agent --stdio --dir {}", place.display()));
    assert_eq!(line.len(), 1);
    signal(line[0], "STOP");
    house::until("it runs on the other", || {
        lines(&file).last().is_some_and(|last| last.starts_with("2 n2 "))
    });
    let rows: Vec<(u32, u64)> = lines(&file)
        .iter()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let attempt = words.next()?.parse().ok()?;
            Some((attempt, words.nth(1)?.parse().ok()?))
        })
        .collect();
    let last = rows.iter().filter(|(attempt, _)| *attempt == 1).map(|(_, at)| *at).max();
    let first = rows.iter().filter(|(attempt, _)| *attempt == 2).map(|(_, at)| *at).min();
    assert!(last < first, "one attempt outlived the start of the next: {last:?} {first:?}");
    let gap = (first.unwrap() - last.unwrap()) / 1_000_000;
    record("partition", "Line", gap, 0);
    signal(line[0], "CONT");
    cluster.until_up_but_busy();
    cluster.run(&["cancel", &job.to_string()]);
    cluster.until_state(job, "cancelled");
    cluster.check_replay();
}
