//! The program itself, over SSH on this machine, beside what it cannot be faster than.
//!
//! Every host is an sshd of its own with a home of its own, so each is brought its agent. All of
//! them share this machine's processors: what is measured for many hosts is more than each alone
//! would take.

#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "shared with the tests, where a failure is theirs"
)]
#[path = "../../live/tests/house/sshd.rs"]
mod sshd;

use crate::measure::{nanos, say, tenths};
use gridsim::clock::Stopwatch;
use serde_json::Value;
use sshd::Sshd;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// How many jobs are run one after another, to know how long one takes.
const RUNS: usize = 200;
/// How many jobs are submitted as one array.
const ARRAY: u64 = 5_000;
/// How many leases there are at once.
const LEASES: u64 = 1_000;
/// How long anything may take: only a failure ever waits for so long.
const PATIENCE: Duration = Duration::from_secs(300);

/// Waits a little: what is waited for is another process's doing.
fn rest(span: Duration) {
    let (_keep, silent) = std::sync::mpsc::channel::<()>();
    let _ = silent.recv_timeout(span);
}

/// Waits until something is true; says so where it never is.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let watch = Stopwatch::start();
    while !is() {
        if watch.elapsed() > PATIENCE {
            return say(&format!("{what}: not within {} s", PATIENCE.as_secs()));
        }
        rest(Duration::from_millis(20));
    }
}

/// Prints a row of the table.
fn row(what: &str, figure: &str) {
    say(&format!("{what:<58} {figure:>24}"));
}

/// Writes milliseconds as seconds.
fn seconds(watch: &Stopwatch) -> String {
    format!("{} s", tenths(watch.elapsed().as_millis(), 1_000))
}

/// Runs a command for its end alone.
fn quietly(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Prints the median and the 99th percentile of what takes its time often.
fn spread(what: &str, mut work: impl FnMut() -> bool) {
    let mut failed = 0;
    let mut all: Vec<u128> = (0..RUNS).map(|_| nanos(|| failed += usize::from(!work()))).collect();
    all.sort_unstable();
    let at = |part: usize| all.get(RUNS * part / 100).map_or(0, |nanos| nanos / 1_000);
    let figure = format!("{} / {} ms", tenths(at(50), 1_000), tenths(at(99), 1_000));
    row(what, &if failed == 0 { figure } else { format!("{failed} of {RUNS} failed") });
}

/// What processes have used, together.
#[derive(Clone, Copy, Default)]
struct Usage {
    processes: u64,
    /// Ticks of 10 ms.
    ticks: u64,
    memory_kib: u64,
}

/// Returns what the processes have used whose command line has all these words and which a
/// process began, where one is named.
fn usage(words: &[&str], parent: Option<u64>) -> (Usage, Option<u64>) {
    let (mut sum, mut last) = (Usage::default(), None);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        // Field 4 of proc(5) follows the name's closing parenthesis, and one field.
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let field = |at: usize| rest.split_whitespace().nth(at)?.parse::<u64>().ok();
        let is_child = parent.is_none() || field(1) == parent;
        if !is_child || !words.iter().all(|word| line.contains(word)) {
            continue;
        }
        let status = String::from_utf8_lossy(&read("status")).into_owned();
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = memory.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        sum.processes += 1;
        sum.ticks += field(11).unwrap_or(0) + field(12).unwrap_or(0);
        sum.memory_kib += kib.unwrap_or(0);
        last = Some(pid);
    }
    (sum, last)
}

/// A cluster; everything of it ends with it.
struct Cluster {
    program: PathBuf,
    folder: PathBuf,
    sshds: Vec<Sshd>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.run(&["down"]) {
            say("`gridlive down` failed: agents end as their folders go");
        }
        // Its answer comes before it removes its socket: the next cluster's would have that name.
        let sock = self.folder.join("sock");
        until("the daemon has gone", || !sock.exists());
        self.sshds.clear();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Cluster {
    /// Starts one and waits until its nodes are there; `None` where that fails.
    fn begin(program: &Path, nodes: impl FnOnce(&mut Self) -> String) -> Option<(Self, Stopwatch)> {
        let folder = std::env::temp_dir().join(format!("gridlive-{}", std::process::id()));
        fs::create_dir_all(&folder).ok()?;
        let mut cluster = Self { program: program.to_owned(), folder, sshds: Vec::new() };
        let nodes = nodes(&mut cluster);
        let config = cluster.folder.join("c.yaml");
        let text =
            format!("name: bench\natp: {{ enabled: false }}\naccounts: [{{ name: lab }}]\n{nodes}");
        fs::write(&config, text).ok()?;
        let watch = Stopwatch::start();
        let mut up = cluster.command(&["up", "--wait", "600", "--state"]);
        up.arg(cluster.folder.join("state")).arg(&config).stdout(Stdio::null());
        up.status().is_ok_and(|status| status.success()).then_some((cluster, watch))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("GRIDLIVE_SOCKET", self.folder.join("sock")).args(words);
        command.stdin(Stdio::null());
        command
    }

    /// Runs the client; returns whether it succeeds.
    fn run(&self, words: &[&str]) -> bool {
        self.command(words).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    /// Returns a number of the daemon's `status`.
    fn number(&self, key: &str) -> Option<u64> {
        let output = self.command(&["status", "--json"]).output().ok()?;
        serde_json::from_slice::<Value>(&output.stdout).ok()?.get(key)?.as_u64()
    }

    /// Prints what the daemon, its lines and an agent use over a while.
    fn show_usage(&self, name: &str, span: u64) {
        let config = self.folder.join("c.yaml").display().to_string();
        let agent = self.folder.join("h1/home").display().to_string();
        let daemon = ["daemon --detached", &config];
        let look = || {
            let (daemon, pid) = usage(&daemon, None);
            let lines = usage(&["ssh "], pid).0;
            [
                ("daemon", daemon),
                ("its ssh", lines),
                ("one agent", usage(&["--serve", &agent], None).0),
            ]
        };
        let before = look();
        rest(Duration::from_secs(span));
        for ((who, now), (_, then)) in look().into_iter().zip(before) {
            let ticks = now.ticks.saturating_sub(then.ticks);
            let memory = tenths(now.memory_kib.into(), 1_024);
            let count = now.processes;
            row(
                &format!("{who}, {name}: memory of {count}, ticks of 10 ms in {span} s"),
                &format!("{memory} MiB, {ticks} ticks"),
            );
        }
    }
}

/// Begins hosts, each with a home of its own; `None` where there is no sshd.
fn hosts(folder: &Path, count: u64) -> Option<(Vec<Sshd>, String)> {
    let (mut sshds, mut nodes) = (Vec::new(), "nodes:\n".to_owned());
    for n in 1..=count {
        let home = folder.join(format!("h{n}"));
        fs::create_dir_all(&home).ok()?;
        let sshd = Sshd::start(&home)?;
        nodes.push_str(&sshd.node(&format!("h{n}")));
        sshds.push(sshd);
    }
    Some((sshds, nodes))
}

/// Measures how long a job takes, beside its floors.
fn latency(cluster: &Cluster) {
    spread("`gridlive run true`, median / p99 of 200", || cluster.run(&["run", "true"]));
    if let Some(master) = Master::begin(cluster) {
        spread("floor: `ssh HOST true` over a ControlMaster", || master.run());
    }
    spread("floor: fork and exec of `true`", || quietly(&mut Command::new("true")));
}

/// A connection to the first host that others share.
struct Master {
    child: Child,
    words: Vec<String>,
}

impl Drop for Master {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Master {
    fn begin(cluster: &Cluster) -> Option<Self> {
        let sshd = cluster.sshds.first()?;
        let (at, control) = (cluster.folder.join("h1"), cluster.folder.join("control"));
        let options = format!(
            "-o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile={at}/known -i {at}/user \
             -p {} -S {} {}",
            sshd.port,
            control.display(),
            sshd.address,
            at = at.display(),
        );
        let words: Vec<String> = options.split(' ').map(ToOwned::to_owned).collect();
        let child = Command::new("ssh").args(["-M", "-N"]).args(&words).spawn().ok()?;
        let master = Self { child, words };
        until("the shared connection stands", || control.exists());
        Some(master)
    }

    fn run(&self) -> bool {
        quietly(Command::new("ssh").args(&self.words).arg("true"))
    }
}

/// Measures a cluster over SSH.
fn over_ssh(program: &Path, count: u64) -> Option<()> {
    let (cluster, watch) = Cluster::begin(program, |cluster| {
        let (sshds, nodes) = hosts(&cluster.folder, count).unwrap_or_default();
        cluster.sshds = sshds;
        nodes
    })?;
    let each = watch.elapsed().as_millis() / u128::from(count);
    row(&format!("`gridlive up`, {count} hosts over SSH"), &seconds(&watch));
    row("the same, for each", &format!("{each} ms"));
    cluster.run(&["run", "true"]);
    row("from `up` to the end of a first job", &seconds(&watch));
    cluster.show_usage("idle", 30);
    latency(&cluster);
    let array = LEASES.to_string();
    let watch = Stopwatch::start();
    // Together as many cores as there are hosts.
    let cores = format!("{}.{:03}", count / 1_000, count % 1_000);
    cluster.run(&["submit", "-c", &cores, "--array", &array, "--", "sleep", "3600"]);
    let at = cluster.folder.display().to_string();
    until("all leases are there", || cluster.number("running") == Some(LEASES));
    until("all of them run", || usage(&["shim ", &at], None).0.processes == LEASES);
    row(&format!("until {LEASES} leases run"), &seconds(&watch));
    rest(Duration::from_secs(10));
    cluster.show_usage(&format!("{LEASES} leases"), 10);
    Some(())
}

/// Measures how many jobs without work four nodes of this machine get through.
fn array(program: &Path) -> Option<()> {
    let (cluster, _) = Cluster::begin(program, |cluster| {
        let mut nodes = "nodes:\n".to_owned();
        for n in 1..=4 {
            let place = cluster.folder.join(format!("n{n}"));
            let _ = writeln!(
                nodes,
                "- {{ name: n{n}, cores: 2, memory_gb: 1, owner_use: none, \
                 ssh: {{ local: {} }} }}",
                place.display()
            );
        }
        nodes
    })?;
    let watch = Stopwatch::start();
    cluster.run(&["submit", "--array", &ARRAY.to_string(), "--", "true"]);
    row(&format!("{ARRAY} jobs as an array, until acknowledged"), &seconds(&watch));
    until("all jobs end", || cluster.number("jobs") == Some(0));
    row("the same, until all have ended on 4 local nodes", &seconds(&watch));
    let rate = u128::from(ARRAY) * 10_000 / watch.elapsed().as_millis().max(1);
    row("jobs per second", &tenths(rate, 10));
    Some(())
}

/// Builds the program beside this one.
fn build() -> io::Result<Option<PathBuf>> {
    let program = std::env::current_exe()?.with_file_name("gridlive");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--release", "--package", "gridlive"]);
    let built = command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).status()?;
    Ok((built.success() && program.exists()).then_some(program))
}

/// Measures the program with so many hosts.
pub(crate) fn run(hosts: &str) -> ExitCode {
    let Ok(count @ 1..=1_000) = hosts.parse() else {
        say(&format!("--hosts {hosts:?}: give a number from 1 to 1000"));
        return ExitCode::from(2);
    };
    let Ok(Some(program)) = build() else {
        say("run this through cargo, which builds target/release/gridlive first");
        return ExitCode::FAILURE;
    };
    say(&format!("live: {} over loopback", program.display()));
    let done = over_ssh(&program, count).and_then(|()| array(&program));
    if done.is_some() {
        return ExitCode::SUCCESS;
    }
    say("a cluster did not start; over SSH it needs sshd (openssh-server)");
    ExitCode::FAILURE
}
