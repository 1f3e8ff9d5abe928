//! The owner returns while a job runs: it is told, it leaves, and what it had is lent again when
//! the owner has gone. The agent alone sees to it, also where the daemon was killed before.
//!
//! Whatever else works on this machine counts as its owner, so these tests run alone
//! (`.config/nextest.toml`); nothing here says how fast a busy machine must be.

#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

mod house;

use gridcore::units::Time;
use gridlive::clock::since_boot;
use house::gpus::{end, gpu, stranger, two, until_offered};
use house::{Cluster, holding, lines, record, rest, until};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};

/// One at a time, also where all tests of a file run at once.
static ALONE: Mutex<()> = Mutex::new(());

/// Sixteen cores are stated: a job of one goes on until its owner uses more than fifteen of them.
const NODE: &str = "- { name: n1, cores: 16, memory_gb: 4, ssh: { local: HERE/n1 } }";
/// Terms so long that only the owner ends anything.
const RULES: &str = "lease: { term_seconds: 300 }\n\
    resource_sharing: { check_interval: 1, offer_expiry: 3, thresholds: \
    { cpu_percent_max: 100, cpu_min_cores: 0, memory_percent_max: 100, memory_min_gb: 0.1 }, \
    owner: { poll_seconds: 1, busy_latch_seconds: 1, kill_seconds: 1, resume_after: 1, \
    max_suspend_seconds: 2, vacate_seconds: { cpu: 2, gpu: 2 } } }\n\
    execution: { resource_sharing: { policy: aggressive, monitoring_interval_seconds: 1 } }";

/// Processes that use all processors, until they are dropped.
struct Burner(Vec<Child>);

impl Burner {
    fn start() -> Self {
        let count = std::thread::available_parallelism().unwrap().get();
        let burn = |_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        Self((0..count).map(burn).collect())
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        self.0.drain(..).for_each(end);
    }
}

fn now() -> u64 {
    since_boot().since(Time::ZERO).get()
}

/// A job that writes down, by the clock since boot, that it runs and when it is told to leave.
struct Guest {
    file: PathBuf,
    mark: String,
    job: u64,
}

impl Guest {
    /// Starts one; `None` where others leave so little of the machine that it is not lent.
    fn start(cluster: &Cluster, needs: &[&str]) -> Option<Self> {
        let (file, mark) = (cluster.path("guest"), format!("grid-guest-{}", std::process::id()));
        let script = format!(
            "say() {{ read at idle < /proc/uptime; echo $GRID_ATTEMPT.$1 $at >> {}; }}; \
             trap '[ -s $GRID_NOTICE_FILE ] && say told; exit 3' TERM; \
             say began; while :; do sleep 0.1; say runs; done",
            file.display()
        );
        let named = format!("GUEST={mark}");
        let job = cluster.submit(&[needs, &["-t", "10m", "-e", &named]].concat(), &script);
        let guest = Self { file, mark, job };
        guest.gets_to(cluster, "1.runs").then_some(guest)
    }

    /// Waits until something was said; not where others leave so little of the machine that it is
    /// not lent.
    fn gets_to(&self, cluster: &Cluster, what: &str) -> bool {
        for _ in 0..600 {
            if !self.times(what).is_empty() {
                return true;
            }
            rest(100);
        }
        let nodes = cluster.ask(&["nodes"]).unwrap();
        let used = nodes["nodes"][0]["owner_uses"]["cpu_percent"].as_u64();
        assert!(used >= Some(50), "{what}: not within a minute, and {used:?} % are used");
        record("skipped", "owner: this machine is too busy to lend anything", 0, 1);
        false
    }

    /// Returns when something was said.
    fn times(&self, what: &str) -> Vec<u64> {
        let of = |line: &String| {
            let (seconds, hundredths) =
                line.strip_prefix(what)?.strip_prefix(' ')?.split_once('.')?;
            Some(seconds.parse::<u64>().ok()? * 1_000 + hundredths.parse::<u64>().ok()? * 10)
        };
        lines(&self.file).iter().filter_map(of).collect()
    }

    /// Waits until the first attempt was told and has gone; notes how long after its owner came.
    fn until_gone(&self, came: u64, kind: &str) {
        until("it is gone", || holding(&self.mark).is_empty());
        let gone = now();
        let told = *self.times("1.told").first().expect("it was told before it was killed");
        let ran = *self.times("1.runs").last().unwrap();
        // Where it was told before, somebody else was the owner.
        if ran >= came {
            // One that can is stopped at first, and told when that has lasted.
            record("owner", &format!("{kind}_still_ms"), ran - came, 1);
            record("owner", &format!("{kind}_told_ms"), told - came, 1);
            record("owner", &format!("{kind}_free_ms"), gone - came, 1);
        }
    }

    /// Waits until it runs again.
    fn until_again(&self, cluster: &Cluster) {
        if !self.gets_to(cluster, "2.runs") {
            return;
        }
        let job = cluster.job(self.job);
        assert_eq!((job["state"].as_str(), job["attempts"].as_u64()), (Some("running"), Some(2)));
    }
}

/// A machine that lends processors to a guest; its owner comes back, uses all of them, and goes.
fn processors(coordinated: bool) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut cluster = Cluster::of(NODE, 1, RULES);
    let Some(guest) = Guest::start(&cluster, &["-c", "1"]) else { return };
    if !coordinated {
        cluster.kill_daemon();
    }
    let came = now();
    let burner = Burner::start();
    guest.until_gone(came, if coordinated { "cpu" } else { "cpu_alone" });
    if !coordinated {
        cluster.start_daemon();
    }
    until("the lease is over", || {
        let leases = cluster.ask(&["leases"]).unwrap_or_default();
        leases["leases"].as_array().is_some_and(Vec::is_empty)
    });
    drop(burner);
    guest.until_again(&cluster);
    cluster.check_replay();
}

#[test]
fn an_owner_who_computes_gets_the_processors_back() {
    processors(true);
}

#[test]
fn an_owner_gets_the_processors_back_from_the_agent_alone() {
    processors(false);
}

#[test]
fn an_owner_gets_the_gpu_back_from_the_agent_alone() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut cluster = Cluster::with_gpus(&two()[..1], "");
    until_offered(&cluster, 1);
    let Some(guest) = Guest::start(&cluster, &["-c", "0", "-g", "1"]) else { return };
    cluster.kill_daemon();
    let (foreign, came) = (stranger(), now());
    cluster.set_gpus(&[gpu("a", 2_010, "", &format!("{}:2000", foreign.id()))]);
    guest.until_gone(came, "gpu_alone");
    cluster.start_daemon();
    cluster.until_up_but_busy();
    until_offered(&cluster, 0);
    end(foreign);
    cluster.set_gpus(&two()[..1]);
    guest.until_again(&cluster);
    cluster.check_replay();
}
