//! The coordinator on a real machine: starting, serving, stopping.

pub mod api;
pub mod history;
pub mod keeper;
pub mod nodes;
pub mod store;
pub mod views;

use crate::frame::Membership;
use anyhow::Context;
use api::Shared;
use gridcore::bundle::Bundle;
use gridcore::command::{Command, Request};
use gridcore::config::{Config, NodeSpec};
use gridcore::grid::Grid;
use gridcore::units::{MilliCores, Time};
use gridsim::scenario::Loaded;
use gridsim::scenario::build::build;
use gridsim::scenario::schema::Ssh;
use history::History;
use keeper::{Handle, Keeper};
use nodes::{Plan, Way};
use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::Store;
use tokio::signal::unix::{SignalKind, signal};

/// Where a daemon is.
#[derive(Clone, Debug)]
pub struct Place {
    /// The configuration file.
    pub config: PathBuf,
    /// The folder of its journal.
    pub state: PathBuf,
    /// Its socket.
    pub socket: PathBuf,
}

/// Begins a session of this process's own: no terminal that goes away ends it.
///
/// # Errors
/// When it leads a group already.
pub fn detach() -> std::io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// Runs a daemon until it is told to stop.
///
/// # Errors
/// When its configuration, its disk or its socket cannot be used, or the disk fails under way.
pub async fn serve(place: &Place, say: impl Fn(&str)) -> anyhow::Result<()> {
    crate::agent::order::make_folder(&place.state)?;
    let journal = place.state.join("journal");
    let restarted = Store::exists(&journal);
    let (store, grid, ways) = if restarted {
        let (store, grid, found) = Store::recover(&journal)?;
        let cut = if found.cut > 0 { ", a torn end was cut off" } else { "" };
        say(&format!("recovered: {} entries read after the snapshot{cut}", found.entries));
        let ways = ways(
            &place.config,
            &grid.state().nodes.iter().map(|(_, n)| n.spec.name.clone()).collect::<Vec<_>>(),
            grid.state().cluster,
        )?;
        (store, grid, ways)
    } else {
        let (config, ways) = first(&place.config, &say).await?;
        let store = Store::begin(&journal, &config)?;
        let grid = Grid::new(config, Time::ZERO)?;
        (store, grid, ways)
    };
    let history = History::open(&place.state, grid.state())?;
    let listener = listen(&place.socket)?;
    let members: Vec<Membership> = members(&grid);
    let (mut keeper, handle) = Keeper::new(grid, store, history);
    let programs = place.state.join("programs");
    let plans = ways.into_iter().zip(members).map(|(way, member)| {
        nodes::begin(Plan { way, member, programs: programs.clone() }, handle.clone())
    });
    let (lines, downs): (Vec<_>, Vec<_>) = plans.unzip();
    keeper.set_nodes(downs);
    let (ended, has_ended) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("keeper".into()).spawn(move || {
        let _ = ended.send(keeper.run(restarted));
    })?;
    let down = Arc::new(tokio::sync::Notify::new());
    let shared = Shared { handle: handle.clone(), lines: Arc::new(lines), down: Arc::clone(&down) };
    say(&format!("listening on {}", place.socket.display()));
    if restarted {
        say(&reload(&handle, &place.config).await);
    }
    let mut server = std::pin::pin!(axum::serve(listener, api::routes(shared)).into_future());
    let mut has_ended = std::pin::pin!(has_ended);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let stopped = loop {
        tokio::select! {
            failed = &mut has_ended => {
                break failed.context("the loop has died")?.context("the disk failed");
            }
            served = &mut server => break served.context("the socket failed"),
            _ = terminate.recv() => break Ok(()),
            () = down.notified() => {
                // Its answer is still on its way.
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                break Ok(());
            }
            interrupted = tokio::signal::ctrl_c() => break interrupted.context("no signals"),
            _ = hang_up.recv() => say(&reload(&handle, &place.config).await),
        }
    };
    handle.stop().await;
    let _ = std::fs::remove_file(&place.socket);
    say("stopped; what runs goes on until its permission ends");
    stopped
}

/// Takes the rules of the configuration file, if they are others and can work; says what it did.
async fn reload(handle: &Handle, path: &Path) -> String {
    let known = handle.look(|grid, _| {
        let nodes = grid.state().nodes.iter().map(|(_, node)| &node.spec);
        nodes.map(|spec| (spec.name.clone(), spec.capacity)).collect::<BTreeMap<String, Bundle>>()
    });
    let known = match known.await {
        Ok(known) => known,
        Err(refusal) => return format!("the rules stay as they are: {refusal}"),
    };
    let rules = crate::read(path, &[]).and_then(|loaded| {
        let sets = hardware(&loaded, |_, name| known.get(name).copied());
        let loaded = crate::read(path, &sets)?;
        build(&loaded, loaded.scenario.seed)
    });
    let rules = match rules {
        Ok(setup) => setup.config.rules,
        Err(error) => return format!("the rules stay as they are: {error}"),
    };
    let wanted = rules.clone();
    match handle.look(move |grid, _| grid.state().rules == wanted).await {
        Ok(true) => return "the rules are those of the configuration file".to_owned(),
        Ok(false) => {}
        Err(refusal) => return format!("the rules stay as they are: {refusal}"),
    }
    let request = Request::Configure(Box::new(rules));
    match handle.ask(Command::Request(request)).await {
        Ok(_) => "the rules of the configuration file hold from now on".to_owned(),
        Err(refusal) => format!("the rules stay as they are: {refusal}"),
    }
}

/// Takes the socket, unless another daemon answers on it.
fn listen(path: &Path) -> anyhow::Result<tokio::net::UnixListener> {
    if let Some(folder) = path.parent() {
        crate::agent::order::make_folder(folder)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        anyhow::bail!("another daemon answers on {}: stop that one first", path.display());
    }
    let _ = std::fs::remove_file(path);
    let listener = tokio::net::UnixListener::bind(path)
        .with_context(|| format!("cannot listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Returns who each node is.
fn members(grid: &Grid) -> Vec<Membership> {
    let state = grid.state();
    let member = |(id, node): (gridcore::ids::NodeId, &gridcore::nodes::Node)| Membership {
        cluster: state.cluster,
        node: id,
        name: node.spec.name.clone(),
        machine: gridcore::station::machine(&node.spec),
    };
    state.nodes.iter().map(member).collect()
}

/// Returns how the nodes of a configuration file are reached, by these names.
fn ways(path: &Path, names: &[String], cluster: u64) -> anyhow::Result<Vec<Way>> {
    let loaded = crate::read(path, &[])?;
    let way = |(number, name): (usize, &String)| {
        let listed = loaded.scenario.nodes.iter().find(|node| node.name == *name);
        let ssh = listed.and_then(|node| node.ssh.clone()).unwrap_or_default();
        let place = format!(".gridlive/nodes/{cluster:016x}-{number}");
        Way { name: name.clone(), ssh, place }
    };
    Ok(names.iter().enumerate().map(way).collect())
}

/// Makes the first configuration of a cluster; machines whose hardware nobody states are measured.
async fn first(path: &Path, say: &impl Fn(&str)) -> anyhow::Result<(Config, Vec<Way>)> {
    let cluster = crate::clock::unique()?;
    let loaded = crate::read(path, &[])?;
    let names: Vec<String> = loaded.scenario.nodes.iter().map(|node| node.name.clone()).collect();
    anyhow::ensure!(!names.is_empty(), "{} lists no nodes", path.display());
    for node in &loaded.scenario.nodes {
        let many = node.count.is_some() || node.nodes.is_some();
        anyhow::ensure!(!many, "node {}: list every machine by its own name", node.name);
        anyhow::ensure!(
            gridcore::config::is_name(&node.name),
            "node {:?}: a name has 1 to 253 of A-Z a-z 0-9 . _ - and does not begin with -",
            node.name
        );
    }
    let ways = ways(path, &names, cluster)?;
    let mut measured = tokio::task::JoinSet::new();
    for (i, (node, way)) in loaded.scenario.nodes.iter().zip(&ways).enumerate() {
        if node.cores.millionths() == 0 || node.memory_gb.millionths() == 0 {
            let way = way.clone();
            measured.spawn(async move { (i, nodes::measure(&way).await) });
        }
    }
    let mut found_here = BTreeMap::new();
    while let Some(found) = measured.join_next().await {
        let (i, hardware) = found?;
        let name = names.get(i).map_or("", String::as_str);
        let hardware = hardware.with_context(|| format!("node {name} cannot be measured"))?;
        say(&format!("{name}: {} cores, {} MiB", hardware.cores, hardware.memory.get() >> 20));
        let (cpu, memory) = (MilliCores::whole(hardware.cores), hardware.memory);
        found_here.insert(i, Bundle { cpu, memory, ..Bundle::ZERO });
    }
    let sets = hardware(&loaded, |i, _| found_here.get(&i).copied());
    let loaded = crate::read(path, &sets)?;
    let mut config = build(&loaded, loaded.scenario.seed)?.config;
    for node in &config.nodes {
        refuse_gpus(node)?;
    }
    (config.network, config.cluster) = (true, cluster);
    Ok((config, ways))
}

/// Returns the keys of the hardware that a configuration leaves out, as far as it is known.
fn hardware(loaded: &Loaded, known: impl Fn(usize, &str) -> Option<Bundle>) -> Vec<String> {
    let mut sets = Vec::new();
    for (i, node) in loaded.scenario.nodes.iter().enumerate() {
        let Some(found) = known(i, &node.name) else { continue };
        let decimal = |amount: u64| format!("{}.{:03}", amount / 1_000, amount % 1_000);
        if node.cores.millionths() == 0 {
            sets.push(format!("nodes.{i}.cores={}", decimal(found.cpu.get())));
        }
        if node.memory_gb.millionths() == 0 {
            let thousandths = (found.memory.get() >> 20) * 1_000 / 1_024;
            sets.push(format!("nodes.{i}.memory_gb={}", decimal(thousandths)));
        }
    }
    sets
}

/// GPUs cannot be shared out yet: nobody looks at what their owners do with them.
fn refuse_gpus(node: &NodeSpec) -> anyhow::Result<()> {
    let none = node.gpus.is_empty();
    anyhow::ensure!(none, "node {}: this version lends no GPUs; leave `gpus` out", node.name);
    Ok(())
}

/// Returns how an agent on this machine is reached.
#[must_use]
pub fn local(folder: &Path) -> Ssh {
    Ssh { local: Some(folder.to_string_lossy().into_owned()), ..Ssh::default() }
}
