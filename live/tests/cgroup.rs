//! Jobs in control groups of the kernel: what is there, what becomes of it, and that nothing stays.
//!
//! Needs a hierarchy of version 2 that may be written. Without one this says so and does nothing.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use house::{Cluster, holding, lines, record, rest, signal, until, with_words};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// Returns whether a folder can be made beside this process's own group that is a group.
fn can_be_written() -> bool {
    let own = lines(Path::new("/proc/self/cgroup"));
    let Some(own) = own.iter().find_map(|line| line.strip_prefix("0::/")) else { return false };
    let mounts = lines(Path::new("/proc/self/mountinfo"));
    let mut whole = mounts.iter().filter(|line| line.contains(" - cgroup2 ")).filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        (fields.next() == Some("/")).then(|| Path::new(fields.next().unwrap()).join(own))
    });
    whole.any(|group| {
        let tried = group.join(format!("grid-test-{}", std::process::id()));
        let made = std::fs::create_dir(&tried).is_ok();
        let kills = made && tried.join("cgroup.kill").exists();
        let procs = std::fs::File::options().write(true).open(group.join("cgroup.procs"));
        let _ = std::fs::remove_dir(&tried);
        kills && procs.is_ok()
    })
}

/// Returns a node's place in the hierarchy; `None` where there can be none.
fn place(cluster: &Cluster) -> Option<PathBuf> {
    let found = cluster.groups("n1");
    assert!(!found.is_empty() || !can_be_written(), "there could be groups, and are none");
    if found.is_empty() {
        record("skipped", "control groups: none of version 2 can be written here", 0, 1);
        let doctor = cluster.run(&["doctor", "n1"]);
        let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert!(said.contains("jobs have no cgroups ("), "{said}");
    }
    found.into_iter().next()
}

/// Returns the groups of attempts in a place.
fn leaves(place: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().unwrap().is_dir()).map(|entry| entry.path()).collect()
}

/// Returns the processes of a group.
fn members(leaf: &Path) -> Vec<i32> {
    lines(&leaf.join("cgroup.procs")).iter().map(|line| line.parse().unwrap()).collect()
}

/// Waits until a process of this test's has been ended.
fn until_ended(mut child: Child) {
    until("it is ended", || child.try_wait().unwrap().is_some());
}

/// Starts a process that is nobody's but this test's, and puts it into a group.
fn put_into(leaf: &Path) -> Child {
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    std::fs::write(leaf.join("cgroup.procs"), child.id().to_string()).unwrap();
    child
}

/// Writes a job whose first attempt hides a process from everything but its group: its own session,
/// no environment, no open file. Its command line, and no other, holds the mark.
fn hiding(cluster: &Cluster, mark: &str) -> String {
    let at = cluster.folder.path().display();
    let hidden = format!(": {mark}; echo $$ > {at}/pid; while :; do sleep 1000; done");
    let text = format!(
        "if [ $GRID_ATTEMPT = 1 ]; then\n\
         env -i PATH=\"$PATH\" setsid sh -c '{hidden}' <&- >&- 2>&- &\n\
         while [ ! -s {at}/pid ]; do sleep 0.02; done; echo 1 >> {at}/started; sleep 1000\n\
         elif kill -0 $(cat {at}/pid); then echo early >> {at}/started\n\
         else echo $GRID_ATTEMPT >> {at}/started; fi\n",
    );
    let script = cluster.path("job.sh");
    std::fs::write(&script, text).unwrap();
    format!("exec sh {}", script.display())
}

fn shims(cluster: &Cluster) -> Vec<i32> {
    with_words(&format!(" shim {}", cluster.path("n1").display()))
}

#[test]
fn a_job_is_in_its_group_and_all_of_the_group_ends_with_it() {
    let cluster = Cluster::begin(1, "");
    let Some(place) = place(&cluster) else { return };
    let script = "cat /proc/self/cgroup; (env -i setsid sleep 1000 &); sleep 1000";
    let job = cluster.submit(&["-m", "0.25"], script);
    until("it is there", || leaves(&place).iter().any(|leaf| members(leaf).len() >= 3));
    let leaf = leaves(&place).remove(0);
    let (name, lease) = (place.file_name().unwrap(), leaf.file_name().unwrap());
    let path = format!("{}/{}", name.display(), lease.display());
    until("it has said where it is", || cluster.output(job).trim().ends_with(&path));
    // Its keeper and the agent look on from outside.
    let (shims, inside) = (shims(&cluster), members(&leaf));
    assert_eq!(shims.len(), 1);
    assert!(!inside.contains(&shims[0]) && !inside.contains(&cluster.agent("n1").unwrap()));
    let doctor = cluster.run(&["doctor", "n1"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("jobs have cgroups"), "{said}");
    let on = std::fs::read_to_string(place.join("cgroup.subtree_control")).unwrap();
    for (controller, file, wanted, word) in [
        ("memory", "memory.max", (256 << 20).to_string(), "memory"),
        ("pids", "pids.max", "16384".to_owned(), "processes"),
    ] {
        let has = on.split_whitespace().any(|name| name == controller);
        let bounded = lines(&leaf.join(file)).first() == Some(&wanted);
        let told = said.lines().any(|line| {
            line.contains("bounded by the kernel: ")
                && !line.contains("not bounded")
                && line.contains(word)
        });
        assert_eq!((has, has), (bounded, told), "{controller}: {on}: {said}");
        if !has {
            println!("skipped: the controller {controller} is not there");
        }
    }
    // Even what is no child of the keeper's is seen, and ended: capacity is free after it.
    let other = put_into(&leaf);
    cluster.run(&["cancel", &job.to_string()]);
    cluster.until_state(job, "cancelled");
    until_ended(other);
    until("its group is gone", || leaves(&place).is_empty());
    assert!(inside.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()));
    // The same where a job ends by itself and its keeper has no child any more.
    let go = cluster.path("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.05; done", go.display());
    let job = cluster.submit(&[], &script);
    until("it is there", || leaves(&place).iter().any(|leaf| !members(leaf).is_empty()));
    let mut other = put_into(&leaves(&place)[0]);
    std::fs::write(go, "").unwrap();
    cluster.until_state(job, "completed");
    assert!(other.try_wait().unwrap().is_some(), "it was ended before its lease");
}

#[test]
fn nothing_hides_from_a_killed_keeper() {
    let mut cluster = Cluster::begin(1, "");
    let Some(place) = place(&cluster) else { return };
    let mark = format!("grid-hidden-{}", std::process::id());
    let job = cluster.submit(&["-c", "2"], &hiding(&cluster, &mark));
    until("it has started", || lines(&cluster.path("started")).len() == 1);
    assert_eq!(holding(&mark).len(), 1);
    // Nobody tells the agent to forget the lease: it does what it does by itself.
    cluster.kill_daemon();
    signal(shims(&cluster)[0], "KILL");
    for _ in 0..250 {
        if holding(&mark).is_empty() {
            break;
        }
        rest(20);
    }
    assert_eq!(holding(&mark), Vec::<i32>::new(), "five seconds later");
    cluster.start_daemon();
    let ended = cluster.until_state(job, "completed");
    assert_eq!(ended["attempts"], 2);
    assert_eq!(lines(&cluster.path("started")), ["1", "2"]);
    until("all groups are gone", || leaves(&place).is_empty());
    // What it held has come back, and once only.
    cluster.until_up();
    assert_eq!(cluster.ask(&["leases"]).unwrap()["leases"].as_array().map(Vec::len), Some(0));
    cluster.check_replay();
}

#[test]
fn a_new_agent_keeps_the_groups_of_what_runs_and_ends_all_others() {
    let cluster = Cluster::begin(1, "");
    let Some(place) = place(&cluster) else { return };
    let mark = format!("grid-adopted-{}", std::process::id());
    let job = cluster.submit(&[], &hiding(&cluster, &mark));
    until("it has started", || lines(&cluster.path("started")).len() == 1);
    let leaf = leaves(&place).remove(0);
    // Left of a lease that nobody knows, with a group of its own in it.
    let unknown = place.join("999999");
    std::fs::create_dir_all(unknown.join("deeper")).unwrap();
    let stray = put_into(&unknown.join("deeper"));
    let agent = cluster.agent("n1").unwrap();
    signal(agent, "KILL");
    until_ended(stray);
    until("what nobody knows is gone", || !unknown.exists());
    until("another agent is there", || cluster.agent("n1").is_some_and(|new| new != agent));
    assert_eq!(cluster.groups("n1"), std::slice::from_ref(&place));
    assert!(members(&leaf).len() >= 2 && holding(&mark).len() == 1);
    assert_eq!(cluster.job(job)["attempts"], 1);
    // Nobody saw the keeper go, and nothing is anybody's child.
    let shim = shims(&cluster)[0];
    signal(cluster.agent("n1").unwrap(), "KILL");
    signal(shim, "KILL");
    let ended = cluster.until_state(job, "completed");
    assert_eq!(ended["attempts"], 2);
    assert_eq!(holding(&mark), Vec::<i32>::new());
    until("all groups are gone", || leaves(&place).is_empty());
}

#[test]
fn a_cluster_that_is_taken_down_leaves_no_group() {
    let cluster = Cluster::begin(1, "");
    let Some(place) = place(&cluster) else { return };
    let mark = format!("grid-taken-down-{}", std::process::id());
    cluster.submit(&[], &hiding(&cluster, &mark));
    until("it has started", || lines(&cluster.path("started")).len() == 1);
    // Somebody has made a group there that is no lease's.
    std::fs::create_dir_all(place.join("somebody/else")).unwrap();
    assert!(cluster.run(&["down"]).status.success());
    until("its folder is gone", || !cluster.path("n1").exists());
    assert!(!place.exists(), "{:?}", leaves(&place));
    assert_eq!(holding(&mark), Vec::<i32>::new());
}
