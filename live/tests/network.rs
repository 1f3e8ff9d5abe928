//! A node behind a network that loses everything without a word, both ways or one: its jobs are
//! dead before they start elsewhere, and it comes back (LIVE.md P5).
//!
//! The node is an sshd in a network namespace of its own behind a pair of virtual devices; what is
//! sent to a hardware address that nobody has is lost there as on a bad switch. Needs root, `ip`
//! and `sshd`. Without them this says so and does nothing.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use gridcore::units::Time;
use gridlive::clock::since_boot;
use house::sshd::Sshd;
use house::{Cluster, holding, lines, record, signal, until};
use std::process::Command;

/// Seconds of a term, and how long after a notice a job is killed.
const TERM: u64 = 10;
const KILL: u64 = 2;
/// How late, in milliseconds, a busy machine may let a keeper run that has a deadline.
const LATE: u64 = 500;

/// Runs `ip`; returns what it says, where that works.
fn ip(words: &str) -> Option<String> {
    let output = Command::new("ip").args(words.split(' ')).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A network namespace, and the pair of devices that leads there; gone with all that runs in it.
struct Far {
    name: String,
    device: String,
    /// The addresses of this end and of the other.
    here: String,
    there: String,
}

/// What is lost.
#[derive(Clone, Copy, Debug)]
enum Lost {
    FromNode,
    ToNode,
    BothWays,
}

impl Far {
    /// Makes one; `None` where that is not allowed.
    fn make() -> Option<Self> {
        let me = std::process::id();
        // Addresses for tests of networks (RFC 2544), four for each process of a run.
        let (high, low) = ((me >> 6) & 0xff, (me & 0x3f) << 2);
        let address = |n: u32| format!("198.18.{high}.{}", low + n);
        let (name, device) = (format!("glfar{me}"), format!("glh{me}"));
        ip(&format!("netns add {name}"))?;
        let far = Self { name, device, here: address(1), there: address(2) };
        let Self { name, device, here, there } = &far;
        ip(&format!("link add {device} type veth peer name far netns {name}"))?;
        ip(&format!("addr add {here}/30 dev {device}"))?;
        ip(&format!("link set {device} up"))?;
        for words in [&format!("addr add {there}/30 dev far"), "link set far up", "link set lo up"]
        {
            ip(&format!("-n {name} {words}"))?;
        }
        Some(far)
    }

    /// Starts an sshd there; `None` where there is none.
    fn sshd(&self, cluster: &std::path::Path) -> Option<Sshd> {
        Sshd::start_on(cluster, (&self.there, 2222), &["ip", "netns", "exec", &self.name])
    }

    /// Sends what goes to the other end to nobody.
    fn lose(&self, lost: Lost) {
        let nobody = "lladdr 02:00:00:00:00:99 nud permanent";
        let (name, device) = (&self.name, &self.device);
        if matches!(lost, Lost::ToNode | Lost::BothWays) {
            ip(&format!("neigh replace {} {nobody} dev {device}", self.there)).unwrap();
        }
        if matches!(lost, Lost::FromNode | Lost::BothWays) {
            ip(&format!("-n {name} neigh replace {} {nobody} dev far", self.here)).unwrap();
        }
    }

    /// Lets everything arrive again.
    fn heal(&self) {
        let (name, device) = (&self.name, &self.device);
        let _ = ip(&format!("neigh del {} dev {device}", self.there));
        let _ = ip(&format!("-n {name} neigh del {} dev far", self.here));
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let inside = ip(&format!("netns pids {}", self.name)).unwrap_or_default();
        inside.lines().filter_map(|pid| pid.parse().ok()).for_each(|pid| signal(pid, "KILL"));
        let _ = ip(&format!("link del {}", self.device));
        let _ = ip(&format!("netns del {}", self.name));
    }
}

/// Returns when an attempt ran, in milliseconds since boot, by what it wrote.
fn times(file: &std::path::Path, attempt: &str) -> Vec<u64> {
    let of = |line: &String| {
        let (said, at) = line.split_once(' ')?;
        let (seconds, hundredths) = at.split_once('.')?;
        let at = seconds.parse::<u64>().ok()? * 1_000 + hundredths.parse::<u64>().ok()? * 10;
        (said == attempt).then_some(at)
    };
    lines(file).iter().filter_map(of).collect()
}

/// Lets a network lose a node's messages until its job runs elsewhere, and then no longer.
fn a_job_is_dead_before_it_starts_elsewhere(lost: Lost) {
    let folder = tempfile::Builder::new().prefix("glnet").tempdir_in("/tmp").unwrap();
    let Some(far) = Far::make() else {
        record("skipped", "partition: no network namespace can be made here", 0, 1);
        return;
    };
    let Some(sshd) = far.sshd(folder.path()) else {
        record("skipped", "partition: there is no sshd; install openssh-server", 0, 1);
        return;
    };
    let near =
        "- { name: near, cores: 2, memory_gb: 1, owner_use: none, ssh: { local: HERE/near } }";
    let rules = format!(
        "lease: {{ term_seconds: {TERM} }}\n\
         resource_sharing: {{ owner: {{ kill_seconds: {KILL} }} }}\n\
         execution: {{ resource_sharing: {{ monitoring_interval_seconds: 1 }} }}"
    );
    let mut cluster = Cluster::of(&format!("{}{near}", sshd.node(&far.name)), 2, &rules);
    until("both lend", || {
        let offers = cluster.ask(&["offers"]).unwrap_or_default();
        offers["offers"].as_array().is_some_and(|offers| offers.len() == 2)
    });
    let file = cluster.path("alive");
    let script = format!(
        "trap '' TERM; while read at idle < /proc/uptime; do echo $GRID_ATTEMPT $at; sleep 0.05; \
         done >> {}",
        file.display()
    );
    let job = cluster.submit(&["-c", "0.5", "-n", &far.name], &script);
    until("it is alive", || !times(&file, "1").is_empty());
    assert_eq!(cluster.job(job)["nodes"][0], far.name.as_str());
    let mark = format!("GRID_NODE={}\0", far.name);
    assert!(!holding(&mark).is_empty());
    far.lose(lost);
    let cut = since_boot().since(Time::ZERO).get();
    until("it runs on the other", || !times(&file, "2").is_empty());
    assert_eq!(holding(&mark), Vec::<i32>::new(), "something of it is left behind the cut");
    let (last, first) = (*times(&file, "1").last().unwrap(), times(&file, "2")[0]);
    assert!(last < first, "one attempt outlived the start of the next: {last} {first}");
    let (alive, gap) = (last.saturating_sub(cut), first - last);
    assert!(alive <= (TERM + KILL) * 1_000 + LATE, "it ran on for {alive} ms");
    record("partition", &format!("{lost:?}"), gap, alive);
    far.heal();
    until("the node is back", || {
        cluster.ask(&["status"]).is_some_and(|status| status["nodes_up"] == 2)
    });
    until("it is used again", || {
        let next = cluster.submit(&["-c", "0.5", "-n", &far.name], "echo $GRID_NODE");
        cluster.until_state(next, "completed");
        cluster.output(next).trim() == far.name
    });
    let ran = cluster.job(job);
    assert_eq!((ran["state"].as_str(), ran["attempts"].as_u64()), (Some("running"), Some(2)));
    cluster.run(&["cancel", &job.to_string()]);
    cluster.until_state(job, "cancelled");
    cluster.check_replay();
}

#[test]
fn a_job_behind_a_dead_network_is_dead_before_it_starts_elsewhere() {
    a_job_is_dead_before_it_starts_elsewhere(Lost::BothWays);
}

#[test]
fn a_job_whose_node_is_not_heard_is_dead_before_it_starts_elsewhere() {
    a_job_is_dead_before_it_starts_elsewhere(Lost::FromNode);
}

#[test]
fn a_job_whose_node_hears_nothing_is_dead_before_it_starts_elsewhere() {
    a_job_is_dead_before_it_starts_elsewhere(Lost::ToNode);
}
