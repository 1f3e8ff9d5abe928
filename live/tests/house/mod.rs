//! A cluster of real processes on this machine, driven through its own command line.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "every test file takes what it needs, and a failure is the test's"
)]

pub(crate) mod gpus;
pub(crate) mod sshd;

use serde_json::Value;
use std::fmt::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take: only a failure ever waits for so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
pub(crate) const GRIDLIVE: &str = env!("CARGO_BIN_EXE_gridlive");

/// A cluster; everything of it ends with it.
pub(crate) struct Cluster {
    pub(crate) folder: TempDir,
    daemon: Option<Child>,
    nodes: Vec<String>,
    env: Vec<(&'static str, PathBuf)>,
    args: Vec<String>,
    state: PathBuf,
    program: PathBuf,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_daemon();
        for pid in holding(self.folder.path().to_str().unwrap()) {
            signal(pid, "KILL");
        }
        for node in &self.nodes {
            self.groups(node).iter().for_each(|place| remove_group(place));
        }
    }
}

/// Ends what is in a control group, and removes it with those below it.
fn remove_group(group: &Path) {
    let _ = std::fs::write(group.join("cgroup.kill"), "1");
    for _ in 0..100 {
        for below in std::fs::read_dir(group).into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(below.path());
        }
        let _ = std::fs::remove_dir(group);
        if !group.exists() {
            return;
        }
        rest(20);
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: i32, name: &str) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).output();
}

/// Waits a little: the only place that may, because what it waits for is another process's doing.
pub(crate) fn rest(ms: u64) {
    let (_keep, silent) = std::sync::mpsc::channel::<()>();
    let _ = silent.recv_timeout(Duration::from_millis(ms));
    drop(_keep);
}

/// Waits until something is true.
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let steps = u64::try_from(PATIENCE.as_millis()).unwrap() / 20;
    for _ in 0..steps {
        if is() {
            return;
        }
        rest(20);
    }
    panic!("{what}: not within a minute");
}

/// Returns all processes whose environment or command line holds a text.
pub(crate) fn holding(text: &str) -> Vec<i32> {
    let contains = |path: String| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let me = i32::try_from(std::process::id()).unwrap();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let zombie = stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim().starts_with('Z'));
        let found =
            || contains(format!("/proc/{pid}/environ")) || contains(format!("/proc/{pid}/cmdline"));
        *pid != me && !zombie && found()
    })
    .collect()
}

/// Returns all processes of this program with these words in their command line.
pub(crate) fn with_words(words: &str) -> Vec<i32> {
    let has = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(words)
    };
    holding("gridlive").into_iter().filter(has).collect()
}

impl Cluster {
    /// Starts a cluster of nodes that a text describes as for [`Cluster::describe`], so many;
    /// `rules` are further keys.
    pub(crate) fn of(nodes: &str, count: usize, rules: &str) -> Self {
        let mut cluster = Self::describe(nodes, rules);
        cluster.start_daemon();
        until("the nodes are up", || {
            cluster.ask(&["status"]).is_some_and(|status| status["nodes_up"] == count)
        });
        cluster
    }

    /// Starts a cluster of one machine, `n1`, with the GPUs that these lines say (see the crate
    /// `fake-nvml`); `keys` are further keys of the node.
    pub(crate) fn with_gpus(gpus: &[String], keys: &str) -> Self {
        Self::with_gpus_under(gpus, keys, "")
    }

    /// As [`Cluster::with_gpus`], with further rules.
    pub(crate) fn with_gpus_under(gpus: &[String], keys: &str, more: &str) -> Self {
        let mut cluster = Self::describe("", "");
        let place = cluster.path("n1");
        let node = format!(
            "- {{ name: n1, cores: 4, memory_gb: 4, ssh: {{ local: {} }}, {keys} }}",
            place.display()
        );
        // However busy the processors are: this is about GPUs.
        let rules = "resource_sharing: { check_interval: 1, offer_expiry: 3, \
                     thresholds: { cpu_min_cores: 0 }, owner: \
                     { poll_seconds: 1, busy_latch_seconds: 1, kill_seconds: 1, resume_after: 1, \
                     vacate_seconds: { cpu: 2, gpu: 2 } } }";
        cluster.nodes = vec!["n1".to_owned()];
        cluster.write(&node, &format!("{rules}\n{more}"));
        cluster.set_gpus(gpus);
        cluster.env =
            vec![("GRIDLIVE_NVML", library("fake-nvml")), ("FAKE_NVML", cluster.path("gpus"))];
        cluster.start_daemon();
        cluster
    }

    /// Lets the daemon's state be in another folder from its next start on.
    pub(crate) fn move_state(&mut self, folder: PathBuf) {
        self.state = folder;
    }

    /// Lets the daemon be another build from its next start on.
    pub(crate) fn set_program(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// Waits until every node answers, whatever runs there.
    pub(crate) fn until_up_but_busy(&self) {
        let all = self.nodes.len();
        until("the nodes answer", || {
            let nodes = self.ask(&["nodes"]).unwrap_or_default();
            let rows = nodes["nodes"].as_array().cloned().unwrap_or_default();
            rows.iter().filter(|row| row["state"] == "up").count() == all
        });
    }

    /// Sets a variable of the daemon's environment, from its next start on.
    pub(crate) fn set_env(&mut self, name: &'static str, value: PathBuf) {
        self.env.push((name, value));
    }

    /// Adds to the daemon's command line, from its next start on.
    pub(crate) fn add_args(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(ToString::to_string));
    }

    /// Lets the machine's GPUs be these from now on.
    pub(crate) fn set_gpus(&self, gpus: &[String]) {
        std::fs::write(self.path("gpus.new"), gpus.join("\n")).unwrap();
        std::fs::rename(self.path("gpus.new"), self.path("gpus")).unwrap();
    }

    fn write(&self, nodes: &str, rules: &str) {
        let accounts = "accounts: [{ name: lab }]";
        let accounts = if rules.contains("accounts:") { "" } else { accounts };
        let money = "atp: { enabled: false }";
        let money = if rules.contains("atp:") { "" } else { money };
        let config = format!("name: test\n{money}\n{accounts}\n{rules}\nnodes:\n{nodes}");
        let config = config.replace("HERE", self.folder.path().to_str().unwrap());
        std::fs::write(self.path("c.yaml"), config).unwrap();
    }

    /// Describes a cluster that is not started yet; `HERE` stands for its folder, with which all
    /// that names it ends.
    pub(crate) fn describe(nodes: &str, rules: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("gl").tempdir_in("/tmp").unwrap();
        let (state, program) = (folder.path().join("state"), PathBuf::from(GRIDLIVE));
        let (names, env, args) = (Vec::new(), Vec::new(), Vec::new());
        let cluster = Self { folder, daemon: None, nodes: names, env, args, state, program };
        cluster.write(nodes, rules);
        cluster
    }

    /// Starts a cluster of so many machines of two cores; `rules` are further keys.
    pub(crate) fn begin(nodes: usize, rules: &str) -> Self {
        let mut cluster = Self::describe("", rules);
        let names: Vec<String> = (1..=nodes).map(|n| format!("n{n}")).collect();
        let mut list = String::new();
        for name in &names {
            let place = cluster.path(name);
            writeln!(
                list,
                "- {{ name: {name}, cores: 2, memory_gb: 1, owner_use: none, \
                 ssh: {{ local: {} }} }}",
                place.display()
            )
            .unwrap();
        }
        cluster.write(&list, rules);
        cluster.nodes = names;
        cluster.start_daemon();
        cluster.until_up();
        cluster
    }

    /// Starts a cluster of one machine, `n1`, of an account.
    pub(crate) fn begin_owned(rules: &str, owner: &str) -> Self {
        let mut cluster = Self::describe("", rules);
        let place = cluster.path("n1");
        let node = format!(
            "- {{ name: n1, owner: {owner}, cores: 2, memory_gb: 1, owner_use: none, \
             ssh: {{ local: {} }} }}",
            place.display()
        );
        cluster.write(&node, rules);
        cluster.nodes = vec!["n1".to_owned()];
        cluster.start_daemon();
        cluster.until_up();
        cluster
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn start_daemon(&mut self) {
        let log = std::fs::File::options();
        let log = log.clone().append(true).create(true).open(self.path("daemon.log")).unwrap();
        let mut command = Command::new(&self.program);
        command.arg("daemon").arg(self.path("c.yaml")).arg("--state").arg(&self.state);
        command.arg("--socket").arg(self.path("sock")).stdin(Stdio::null());
        command.args(&self.args);
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(command.process_group(0).spawn().unwrap());
    }

    pub(crate) fn kill_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    pub(crate) fn stop_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            signal(i32::try_from(daemon.id()).unwrap(), "TERM");
            assert!(daemon.wait().unwrap().success(), "{}", self.log());
        }
    }

    /// Waits until the daemon has ended by itself; returns whether it says that all is well.
    pub(crate) fn until_daemon_ends(&mut self) -> bool {
        let mut daemon = self.daemon.take().expect("a daemon was started");
        until("the daemon has ended", || daemon.try_wait().unwrap().is_some());
        daemon.wait().unwrap().success()
    }

    /// Lets the daemon read its configuration again.
    pub(crate) fn hang_up(&self) {
        if let Some(daemon) = &self.daemon {
            signal(i32::try_from(daemon.id()).unwrap(), "HUP");
        }
    }

    /// Returns what the daemon has said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    pub(crate) fn until_up(&self) {
        let all = self.nodes.len();
        until("the nodes are up", || {
            self.ask(&["status"]).is_some_and(|status| {
                let offered = &status["offered"]["cpu_cores"];
                status["nodes_up"] == all && *offered == (all * 2) as f64
            })
        });
    }

    /// Runs the client as another user of this machine; only root can.
    pub(crate) fn run_as(&self, user: u32, args: &[&str]) -> Output {
        // Where everybody may look.
        let program = self.path("gridlive");
        if !program.exists() {
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(self.folder.path(), open).unwrap();
            std::fs::copy(GRIDLIVE, &program).unwrap();
        }
        let mut command = Command::new(program);
        command.env("GRIDLIVE_SOCKET", self.path("sock")).args(args).uid(user).gid(user);
        command.current_dir("/").output().unwrap()
    }

    /// Runs the client.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(GRIDLIVE);
        command.env("GRIDLIVE_SOCKET", self.path("sock")).args(args).output().unwrap()
    }

    /// Runs the client and reads its JSON; `None` when it fails.
    pub(crate) fn ask(&self, args: &[&str]) -> Option<Value> {
        let (verb, rest) = args.split_first().unwrap();
        let output = self.run(&[&[*verb, "--json"], rest].concat());
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Submits a script; returns the number of its job.
    pub(crate) fn submit(&self, options: &[&str], script: &str) -> u64 {
        let args = [&["submit"], options, &["--", "sh", "-c", script]].concat();
        let output = self.run(&args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        text.trim().parse().unwrap_or_else(|_| panic!("{text}{said}{}", self.log()))
    }

    /// Returns one job.
    pub(crate) fn job(&self, job: u64) -> Value {
        self.ask(&["show", &job.to_string()]).unwrap_or_default()
    }

    pub(crate) fn until_state(&self, job: u64, state: &str) -> Value {
        until(&format!("job {job} is {state}"), || self.job(job)["state"] == state);
        self.job(job)
    }

    /// Waits until no job is left.
    pub(crate) fn until_idle(&self) {
        until("all jobs have ended", || {
            self.ask(&["queue"]).is_some_and(|queue| queue["all"] == 0)
        });
    }

    pub(crate) fn output(&self, job: u64) -> String {
        let output = self.run(&["logs", &job.to_string()]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Returns the processes of a node: agent, shims, and what they run.
    pub(crate) fn processes_of(&self, node: &str) -> Vec<i32> {
        holding(self.path(node).to_str().unwrap())
    }

    /// Returns the places of a node in the hierarchy of control groups; none where it has none.
    pub(crate) fn groups(&self, node: &str) -> Vec<PathBuf> {
        let noted = lines(&self.path(node).join("cgroups")).into_iter().map(PathBuf::from);
        noted.filter(|place| place.is_dir()).collect()
    }

    /// Returns the agent of a node.
    pub(crate) fn agent(&self, node: &str) -> Option<i32> {
        let place = self.path(node);
        with_words(&format!("--serve --dir {}", place.display())).into_iter().next()
    }

    /// Replays the journal and compares it with what the daemon says of itself.
    pub(crate) fn check_replay(&mut self) {
        let told = self.ask(&["status"]).expect("the daemon answers");
        self.kill_daemon();
        let (mut reader, config) =
            gridsim::journal::Reader::open(&self.state.join("journal")).unwrap();
        let mut grid = gridcore::grid::Grid::new(config, gridcore::units::Time::ZERO).unwrap();
        let mut effects = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            let _ = grid.apply(&entry, &mut effects);
            effects.clear();
            if entry.seq.get() == told["entries"].as_u64().unwrap() {
                assert_eq!(told["digest"], grid.digest().to_string());
                assert!(gridcore::invariants::check(grid.state()).is_empty());
                return;
            }
        }
        panic!("the journal ends before what the daemon told: {told}");
    }
}

/// Starts `gridlive ssh`, with a pipe to what it reads.
pub(crate) fn begin_shell(cluster: &Cluster, args: &[&str]) -> Child {
    let mut command = Command::new(GRIDLIVE);
    command.env("GRIDLIVE_SOCKET", cluster.path("sock")).arg("ssh").args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("SHELL", "/bin/sh").spawn().unwrap()
}

/// Lets `gridlive ssh` read words; returns how it ended, and all it said.
pub(crate) fn shell_beside(cluster: &Cluster, args: &[&str], words: &str) -> (Option<i32>, String) {
    use std::io::Write;
    let mut shell = begin_shell(cluster, args);
    // One that is not let in does not read.
    let _ = shell.stdin.take().unwrap().write_all(words.as_bytes());
    let output = shell.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// The same on a terminal of util-linux' `script`; `None` where there is none.
pub(crate) fn shell_on_terminal(
    cluster: &Cluster,
    args: &[&str],
    words: &str,
) -> Option<(Option<i32>, String)> {
    use std::io::{Read, Write};
    let line = format!("{GRIDLIVE} ssh {}", args.join(" "));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("SHELL", "/bin/sh").env("TERM", "xterm");
    command.env("GRIDLIVE_SOCKET", cluster.path("sock"));
    let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut shell = streams.spawn().ok()?;
    let (mut to, mut from) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
    let (mut said, mut bytes, mut typed) = (Vec::new(), [0; 4_096], false);
    // A terminal's other end may be gone before all is read: that is its end.
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        said.extend_from_slice(&bytes[..count]);
        // What is typed before it is there may be lost.
        if !typed && String::from_utf8_lossy(&said).contains("gridlive: a shell beside") {
            to.write_all(words.as_bytes()).unwrap();
            typed = true;
        }
    }
    Some((shell.wait().unwrap().code(), String::from_utf8_lossy(&said).into_owned()))
}

/// Builds a library of the test house; returns where it is.
pub(crate) fn library(package: &str) -> PathBuf {
    let target = Path::new(GRIDLIVE).ancestors().nth(2).unwrap();
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--package", package, "--target-dir"]).arg(target);
    // As every other build of the workspace: nothing is compiled twice.
    build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
    assert!(build.status().unwrap().success());
    target.join("debug").join(format!("lib{}.so", package.replace('-', "_")))
}

/// Returns the lines of a file; none where there is no file.
pub(crate) fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(ToOwned::to_owned).collect()
}

/// Says how much was done, for the summary of the test command.
pub(crate) fn record(kind: &str, name: &str, count: u64, more: u64) {
    use std::io::Write;
    println!("{kind} {name} {count} {more}");
    if let Ok(path) = std::env::var("GRID_COUNTS") {
        let file = std::fs::File::options().append(true).create(true).open(path);
        writeln!(file.unwrap(), "{kind} {name} {count} {more}").unwrap();
    }
}
