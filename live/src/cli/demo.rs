//! `gridlive demo`: a whole cluster on this machine, told as it happens; nothing of it is left.

use anyhow::Context;
use gridlive::client::Client;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long anything in it may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The cluster: two machines of the pool, and one with an owner.
const CONFIG: &str = "\
name: demo
atp: { enabled: false }
accounts: [{ name: lab }]
lease: { term_seconds: 60 }
resource_sharing:
  check_interval: 2
  offer_expiry: 60
  thresholds: { cpu_percent_max: 100, memory_percent_max: 100, memory_min_gb: 0.1 }
  owner: { poll_seconds: 1 }
execution: { resource_sharing: { policy: aggressive, monitoring_interval_seconds: 2 } }
nodes:
";

/// A running demonstration.
struct Demo {
    folder: PathBuf,
    daemon: Option<Child>,
    client: Client,
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn tell(line: &str) {
    println!("\n\u{25b8} {line}");
}

impl Demo {
    fn begin() -> anyhow::Result<Self> {
        let name = format!("gridlive-demo-{:x}", gridlive::clock::unique()? >> 32);
        let folder = std::env::temp_dir().join(name);
        gridlive::agent::order::make_folder(&folder)?;
        let mut config = CONFIG.to_owned();
        for (name, use_, cores) in
            [("node1", "none", 2), ("node2", "none", 2), ("desk", "shared", 8)]
        {
            let place = folder.join(name);
            let ssh = json!({ "local": place });
            config.push_str(&format!(
                "- {{ name: {name}, cores: {cores}, memory_gb: 1, \
                 owner_use: {use_}, ssh: {ssh} }}\n"
            ));
        }
        std::fs::write(folder.join("lab.yaml"), config)?;
        let client = Client::new(&folder.join("sock"));
        Ok(Self { folder, daemon: None, client })
    }

    fn start_daemon(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new("/proc/self/exe");
        command.arg("daemon").arg(self.folder.join("lab.yaml"));
        command.arg("--state").arg(self.folder.join("state"));
        command.arg("--socket").arg(self.folder.join("sock"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.daemon = Some(command.spawn().context("the daemon does not start")?);
        Ok(())
    }

    /// Waits until something is true of an answer.
    async fn until(
        &self,
        path: &str,
        what: &str,
        is: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Ok(found) = self.client.get(path).await
                && is(&found)
            {
                return Ok(found);
            }
            anyhow::ensure!(tokio::time::Instant::now() < deadline, "{what}: not within a minute");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn submit(
        &self,
        name: &str,
        script: &str,
        priority: &str,
        keys: Value,
    ) -> anyhow::Result<u64> {
        let mut job = json!({ "priority": priority, "needs": { "cpu_cores": "1" } });
        for (key, value) in keys.as_object().into_iter().flatten() {
            job[key] = value.clone();
        }
        let program = json!({ "name": name, "command": ["sh", "-c", script] });
        let client = gridlive::clock::unique()? >> 1;
        let body = json!({ "client": client, "number": 1, "job": job, "program": program });
        let answer = self.client.post("/v1/jobs", &body).await?;
        answer["jobs"][0].as_u64().context("no number came back")
    }

    async fn show_queue(&self) -> anyhow::Result<()> {
        let found = self.client.get("/v1/jobs").await?;
        for job in found["jobs"].as_array().into_iter().flatten() {
            let nodes: Vec<&str> =
                job["nodes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let (number, name) = (&job["job"], job["name"].as_str().unwrap_or_default());
            let state = job["state"].as_str().unwrap_or_default();
            println!("    {number:>3}  {name:<10} {state:<9} {}", nodes.join(", "));
        }
        Ok(())
    }

    async fn all_end(&self) -> anyhow::Result<()> {
        let none = |found: &Value| found["all"] == 0;
        self.until("/v1/jobs", "the jobs do not end", none).await.map(drop)
    }
}

/// Tells the whole story.
///
/// # Errors
/// When any of it does not come true.
pub(super) async fn run() -> anyhow::Result<()> {
    let mut demo = Demo::begin()?;
    tell("A lab of three machines: two belong to the pool, `desk` has an owner.");
    demo.start_daemon()?;
    let up = |found: &Value| found["nodes_up"] == 3 && found["offered"]["cpu_cores"] != 0.0;
    demo.until("/v1/status", "the nodes do not come up", up).await?;
    println!("    one coordinator, three agents; no root, no open port");

    tell("Five jobs; what does not fit waits.");
    for n in 1..=5 {
        demo.submit(&format!("train{n}"), "sleep 3; echo trained", "medium", json!({})).await?;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    demo.show_queue().await?;
    owner_comes_back(&demo).await?;
    demo.all_end().await?;

    tell("A long job runs, and the coordinator is killed (kill -9).");
    let long = demo.submit("long", "sleep 6; echo done", "medium", json!({})).await?;
    let runs = |found: &Value| found["state"] == "running";
    demo.until(&format!("/v1/jobs/{long}"), "it does not start", runs).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    if let Some(mut daemon) = demo.daemon.take() {
        daemon.kill()?;
        daemon.wait()?;
    }
    println!("    nobody coordinates; the job goes on under its own keeper");
    tokio::time::sleep(Duration::from_secs(1)).await;
    demo.start_daemon()?;
    let found = demo.until(&format!("/v1/jobs/{long}"), "it is not back", runs).await?;
    anyhow::ensure!(found["attempts"] == 1, "the job was started again");
    println!("    back from its journal: job {long} was adopted, not started again");
    demo.all_end().await?;
    let ended = demo.client.get(&format!("/v1/jobs/{long}")).await?;
    anyhow::ensure!(ended["state"] == "completed", "the job has ended as {}", ended["state"]);
    let log = demo.client.log(&format!("/v1/jobs/{long}/log")).await?;
    println!("    it printed: {}", String::from_utf8_lossy(&log.bytes).trim());

    tell("All that ran:");
    let past = demo.client.get("/v1/history").await?;
    for job in past["jobs"].as_array().into_iter().flatten().rev() {
        let (number, name) = (&job["job"], job["name"].as_str().unwrap_or_default());
        let (state, attempts) = (job["state"].as_str().unwrap_or_default(), &job["attempts"]);
        println!("    {number:>3}  {name:<10} {state:<10} after {attempts} attempt(s)");
    }
    let digest = demo.client.get("/v1/status").await?["digest"].clone();
    demo.client.post("/v1/down", &Value::Null).await?;
    if let Some(mut daemon) = demo.daemon.take() {
        daemon.wait()?;
    }
    replayed(&demo.folder.join("state").join("journal"), digest.as_str().unwrap_or_default())?;
    tell("Taken down: no process and no file of it is left.");
    Ok(())
}

/// The owner of `desk` takes it back.
async fn owner_comes_back(demo: &Demo) -> anyhow::Result<()> {
    let offers = |found: &Value| {
        let mut rows = found["offers"].as_array().into_iter().flatten();
        rows.any(|offer| {
            offer["node"] == "desk" && offer["free"]["cpu_cores"].as_f64() >= Some(1.0)
        })
    };
    let seen = tokio::time::timeout(Duration::from_secs(20), demo.until("/v1/offers", "", offers));
    if seen.await.is_err() {
        println!("    (this machine is too busy for `desk` to lend: its owner's part is left out)");
        return Ok(());
    }
    tell("A guest on `desk`; then its owner comes back: `gridlive reclaim desk`.");
    let keys = json!({ "preferred_nodes": ["desk"], "checkpoint": { "interval": "1s" } });
    let guest = demo.submit("guest", "sleep 3", "medium", keys).await?;
    let runs = |found: &Value| found["state"] == "running" && found["nodes"][0] == "desk";
    demo.until(&format!("/v1/jobs/{guest}"), "the guest does not start on desk", runs).await?;
    let before = gridlive::clock::since_boot();
    demo.client.post("/v1/nodes/desk/reclaim", &Value::Null).await?;
    let gone = |found: &Value| {
        let mut rows = found["leases"].as_array().into_iter().flatten();
        !rows.any(|lease| lease["nodes"][0] == "desk")
    };
    demo.until("/v1/leases", "the guest does not leave", gone).await?;
    let took = gridlive::clock::since_boot().since(before).get();
    println!("    desk was free after {took} ms; the guest waits or runs elsewhere:");
    demo.show_queue().await
}

/// Replays the journal: the simulator comes to the same state.
fn replayed(journal: &Path, digest: &str) -> anyhow::Result<()> {
    let (mut reader, config) = gridsim::journal::Reader::open(journal)?;
    let mut grid = gridcore::grid::Grid::new(config, gridcore::units::Time::ZERO)?;
    let (mut effects, mut entries, mut met) = (Vec::new(), 0_u64, false);
    while let Some(entry) = reader.next_entry()? {
        let _ = grid.apply(&entry, &mut effects);
        effects.clear();
        entries += 1;
        met |= grid.digest().to_string() == digest;
    }
    anyhow::ensure!(met, "the replay never came to the state that the daemon told");
    tell(&format!("Its journal of {entries} entries replays to the very state it told: {digest}"));
    Ok(())
}
