//! The coordinator on a real machine: starting, serving, stopping.

pub mod access;
pub mod api;
pub mod credit;
pub mod door;
pub mod history;
pub mod keeper;
pub mod metrics;
pub mod nodes;
pub mod plan;
pub mod remote;
pub mod shares;
pub mod store;
pub mod summary;
pub mod views;
pub mod way;

use crate::frame::{Hardware, Membership};
use access::{Access, Peer};
use anyhow::Context;
use api::Shared;
use axum::serve::Listener;
use gridcore::bundle::GPUS_MAX;
use gridcore::command::{Command, Report, Request};
use gridcore::config::{AccountSpec, Config, NodeSpec};
use gridcore::grid::Grid;
use gridcore::units::{Bytes, MilliCores, Time};
use gridsim::scenario::Loaded;
use gridsim::scenario::build::build;
use gridsim::scenario::schema::Ssh;
use history::History;
use keeper::{Handle, Keeper};
use nodes::{Measured, Plan, Way};
use remote::{Guests, Remote, Tokens};
use std::collections::BTreeMap;
use std::future::IntoFuture;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
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
    /// Where other machines ask, if they may.
    pub remote: Option<Remote>,
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
    crate::program::keep_private();
    crate::agent::order::make_folder(&place.state)?;
    let restarted = Store::exists(&place.state.join("journal"));
    let (store, grid, tos) =
        if restarted { recover(place, &say)? } else { begin(place, &say).await? };
    let history = History::open(&place.state, grid.state())?;
    let access = Access::of(&crate::read(&place.config, &[])?.scenario);
    let (listener, guests) = doors(place, &access).await?;
    let members: Vec<Membership> = members(&grid);
    let (mut keeper, handle) = Keeper::new(grid, store, history);
    let plans = tos.into_iter().zip(members).map(|((way, measured), member)| {
        let plan = Plan { way, member, programs: place.state.join("programs"), measured };
        nodes::begin(plan, handle.clone())
    });
    let (lines, downs): (Vec<_>, Vec<_>) = plans.unzip();
    keeper.set_nodes(downs);
    let (ended, has_ended) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("keeper".into()).spawn(move || {
        let _ = ended.send(keeper.run(restarted));
    })?;
    let down = Arc::new(tokio::sync::Notify::new());
    let access = Arc::new(RwLock::new(access));
    let shared = Shared {
        handle: handle.clone(),
        lines: Arc::new(lines),
        down: Arc::clone(&down),
        access: Arc::clone(&access),
        tokens: Tokens::of(&place.state),
        paces: api::Paces::default(),
    };
    say(&format!("listening on {}", place.socket.display()));
    // Where systemd waits for it; elsewhere nobody hears.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    if restarted {
        say(&reload(&handle, place, &access).await);
    }
    let routes = api::routes(shared);
    welcome(guests, routes.clone(), &say)?;
    let routes = routes.into_make_service_with_connect_info::<Peer>();
    let mut server = std::pin::pin!(axum::serve(listener, routes).into_future());
    let mut has_ended = std::pin::pin!(has_ended);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let stopped = loop {
        tokio::select! {
            failed = &mut has_ended => {
                break failed.context("the loop has died")?.with_context(|| lost(&place.state));
            }
            served = &mut server => break served.context("the socket failed"),
            _ = terminate.recv() => {
                say(&leave(&handle).await);
                break Ok(());
            }
            () = down.notified() => {
                // Its answer is still on its way.
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                break Ok(());
            }
            interrupted = tokio::signal::ctrl_c() => {
                say(&leave(&handle).await);
                break interrupted.context("no signals");
            }
            _ = hang_up.recv() => say(&reload(&handle, place, &access).await),
        }
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    handle.stop().await;
    let _ = std::fs::remove_file(&place.socket);
    say("stopped");
    stopped
}

/// Says that the disk has failed, and what to do next.
fn lost(state: &Path) -> String {
    format!(
        "the disk failed below {}, and nobody can know what it holds of what was not acknowledged; \
         look at the disk (dmesg says more), then start the daemon again: \
         it goes on where it was, and what runs goes on until its permission ends",
        state.display()
    )
}

/// Takes the socket, and the address for other machines where they may come.
async fn doors(place: &Place, access: &Access) -> anyhow::Result<(door::Door, Option<Guests>)> {
    door::take_files();
    let listener = door::Door::open(&place.socket, access)?;
    let guests = match &place.remote {
        Some(remote) => Some(remote.listen(&place.state).await?),
        None => None,
    };
    Ok((listener, guests))
}

/// Takes requests of other machines, where they may come.
fn welcome(
    guests: Option<Guests>,
    routes: axum::Router,
    say: &impl Fn(&str),
) -> anyhow::Result<()> {
    let Some(guests) = guests else { return Ok(()) };
    say(&format!("listening on https://{}", guests.local_addr()?));
    let routes = routes.into_make_service_with_connect_info::<Peer>();
    tokio::spawn(axum::serve(guests, routes).into_future());
    Ok(())
}

/// The way to a node, and the line to it where one stands already.
type To = (Way, Option<Measured>);

/// Goes on with the journal that is there.
fn recover(place: &Place, say: &impl Fn(&str)) -> anyhow::Result<(Store, Grid, Vec<To>)> {
    let (store, grid, found) = Store::recover(&place.state.join("journal"))?;
    let cut = if found.cut > 0 { ", a torn end was cut off" } else { "" };
    say(&format!("recovered: {} entries read after the snapshot{cut}", found.entries));
    let names = grid.state().nodes.iter().map(|(_, n)| n.spec.name.clone());
    let ways = ways(&place.config, &names.collect::<Vec<_>>(), grid.state().cluster)?;
    Ok((store, grid, ways.into_iter().map(|way| (way, None)).collect()))
}

/// Begins a journal.
async fn begin(place: &Place, say: &impl Fn(&str)) -> anyhow::Result<(Store, Grid, Vec<To>)> {
    let (config, tos) = first(&place.config, say).await?;
    let store = Store::begin(&place.state.join("journal"), &config)?;
    Ok((store, Grid::new(config, Time::ZERO)?, tos))
}

/// How long nodes may take to hear that what they run goes on without a daemon.
const HEARS: std::time::Duration = std::time::Duration::from_secs(5);

/// Lets what runs go on for `lease.stop_seconds`, and waits until the nodes have heard it; says
/// what it did (LIVE.md P20).
async fn leave(handle: &Handle) -> String {
    if let Err(refusal) = handle.ask(Command::Report(Report::Stopping)).await {
        return format!("what runs goes on until its permission ends: {refusal}");
    }
    let until = tokio::time::Instant::now() + HEARS;
    loop {
        let look = |grid: &Grid, _: &mut History| {
            let state = grid.state();
            let deaf = state.links.iter().filter(|(_, link)| !link.outbox.is_empty());
            let deaf: Vec<String> =
                deaf.map(|(node, _)| state.nodes[node].spec.name.clone()).collect();
            (state.leases.len(), state.rules.stop.0.get() / 1_000, deaf)
        };
        match handle.look(look).await {
            Err(refusal) => return format!("nobody knows what the nodes have heard: {refusal}"),
            Ok((leases, seconds, deaf)) if deaf.is_empty() => {
                return format!("{leases} leases go on for up to {seconds} s without a daemon");
            }
            Ok((_, _, deaf)) if tokio::time::Instant::now() >= until => {
                return format!("not heard by {}: their jobs end with the term", deaf.join(", "));
            }
            Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

/// Takes the rules of the configuration file, if they are others and can work; says what it did.
async fn reload(handle: &Handle, place: &Place, access: &RwLock<Access>) -> String {
    let path = &place.config;
    let known = handle.look(|grid, _| {
        let nodes = grid.state().nodes.iter().map(|(_, node)| &node.spec);
        nodes.map(|spec| (spec.name.clone(), Known::of(spec))).collect::<BTreeMap<_, _>>()
    });
    let known = match known.await {
        Ok(known) => known,
        Err(refusal) => return format!("the rules stay as they are: {refusal}"),
    };
    let rules = crate::read(path, &[]).and_then(|loaded| {
        let sets = hardware(&loaded, |_, name| known.get(name));
        let loaded = crate::read(path, &sets)?;
        build(&loaded, loaded.scenario.seed)
    });
    let config = match rules {
        Ok(setup) => setup.config,
        Err(error) => return format!("the rules stay as they are: {error}"),
    };
    let rules = config.rules.clone();
    if let Ok(loaded) = crate::read(path, &[]) {
        let listed = Access::of(&loaded.scenario);
        let _ = door::let_in(&place.socket, &listed);
        *access.write().unwrap_or_else(PoisonError::into_inner) = listed;
    }
    let look = move |grid: &Grid, _: &mut History| {
        (grid.state().rules == config.rules, kept(grid, &config.accounts))
    };
    let (same, kept) = match handle.look(look).await {
        Ok(found) => found,
        Err(refusal) => return format!("the rules stay as they are: {refusal}"),
    };
    if same {
        return format!("the rules are those of the configuration file{kept}");
    }
    let request = Request::Configure(Box::new(rules));
    match handle.ask(Command::Request(request)).await {
        Ok(_) => format!("the rules of the configuration file hold from now on{kept}"),
        Err(refusal) => format!("the rules stay as they are: {refusal}"),
    }
}

/// Returns in words which accounts a configuration describes otherwise than the cluster, which
/// keeps them for life.
fn kept(grid: &Grid, said: &[AccountSpec]) -> String {
    let accounts = || grid.state().ledger.accounts.iter().map(|(_, account)| &account.spec);
    let other = |spec: &&AccountSpec| {
        let now = said.iter().find(|now| now.name == spec.name);
        now.is_none_or(|now| (now.weight, now.quota) != (spec.weight, spec.quota))
    };
    let known = |name: &String| accounts().any(|spec| spec.name == *name);
    let new = said.iter().map(|spec| &spec.name).filter(|name| !known(name));
    let names: Vec<&str> =
        accounts().filter(other).map(|spec| &spec.name).chain(new).map(String::as_str).collect();
    if names.is_empty() {
        return String::new();
    }
    let names = names.join(", ");
    format!(", but accounts, their weights and quotas stay as the cluster began: {names}")
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
    let way = |(number, name): (u32, &String)| {
        let listed = loaded.scenario.nodes.iter().find(|node| node.name == *name);
        let ssh = listed.and_then(|node| node.ssh.clone()).unwrap_or_default();
        let place = way::place(cluster, gridcore::ids::NodeId::new(number));
        Way { name: name.clone(), ssh, place }
    };
    Ok((0..).zip(names).map(way).collect())
}

/// Makes the first configuration of a cluster; machines whose hardware nobody states are measured.
async fn first(path: &Path, say: &impl Fn(&str)) -> anyhow::Result<(Config, Vec<To>)> {
    // Whatever is wrong in it is said before any machine hears of it.
    crate::check(path)?;
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
        // GPUs are always looked for: whoever lends none says `max_share_gpu: 0`.
        let stated = node.cores.millionths() > 0 && node.memory_gb.millionths() > 0;
        if !stated || node.gpus == 0 {
            let way = way.clone();
            measured.spawn(async move { (i, stated, nodes::measure(&way).await) });
        }
    }
    let mut found_here = BTreeMap::new();
    let mut tos: Vec<To> = ways.into_iter().map(|way| (way, None)).collect();
    while let Some(found) = measured.join_next().await {
        let (i, stated, found) = found?;
        let name = names.get(i).map_or("", String::as_str);
        let found = match found {
            Ok(found) => found,
            Err(error) if stated => {
                say(&format!("{name} is not reached, and lends no GPU it does not name: {error}"));
                continue;
            }
            Err(error) => {
                return Err(error).with_context(|| format!("node {name} cannot be measured"));
            }
        };
        let known = Known::measured(&found.hardware);
        say(&format!("{name}: {known}"));
        found_here.insert(i, known);
        // The line goes on to be used.
        if let Some((_, measured)) = tos.get_mut(i) {
            *measured = Some(found);
        }
    }
    let sets = hardware(&loaded, |i, _| found_here.get(&i));
    let loaded = crate::read(path, &sets)?;
    let mut config = build(&loaded, loaded.scenario.seed)?.config;
    (config.network, config.cluster) = (true, cluster);
    Ok((config, tos))
}

/// The hardware of a machine.
struct Known {
    cpu: MilliCores,
    memory: Bytes,
    /// How many GPUs, and the memory of the smallest.
    gpus: (usize, Bytes),
    model: Option<String>,
}

impl Known {
    fn of(spec: &NodeSpec) -> Self {
        let least = spec.gpus.iter().min().copied().unwrap_or_default();
        let (cpu, memory) = (spec.capacity.cpu, spec.capacity.memory);
        Self { cpu, memory, gpus: (spec.gpus.len(), least), model: None }
    }

    fn measured(hardware: &Hardware) -> Self {
        let gpus = &hardware.gpus;
        let least = gpus.iter().map(|gpu| gpu.memory).min().unwrap_or_default();
        let count = gpus.len().min(GPUS_MAX);
        let model = gpus.first().map(|gpu| gpu.model.clone());
        let cpu = MilliCores::whole(hardware.cores);
        Self { cpu, memory: hardware.memory, gpus: (count, least), model }
    }
}

impl std::fmt::Display for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (cores, memory) = (self.cpu.get() / 1_000, self.memory.get() >> 20);
        write!(f, "{cores} cores, {memory} MiB")?;
        match (&self.gpus, &self.model) {
            ((0, _), _) | (_, None) => Ok(()),
            ((count, _), Some(model)) => write!(f, ", {count} x {model}"),
        }
    }
}

/// Returns the keys of the hardware that a configuration leaves out, as far as it is known.
fn hardware<'a>(loaded: &Loaded, known: impl Fn(usize, &str) -> Option<&'a Known>) -> Vec<String> {
    let mut sets = Vec::new();
    for (i, node) in loaded.scenario.nodes.iter().enumerate() {
        let Some(found) = known(i, &node.name) else { continue };
        let mut set = |key: &str, value: &str| sets.push(format!("nodes.{i}.{key}={value}"));
        let decimal = |amount: u64| format!("{}.{:03}", amount / 1_000, amount % 1_000);
        let gib = |bytes: Bytes| decimal((bytes.get() >> 20) * 1_000 / 1_024);
        if node.cores.millionths() == 0 {
            set("cores", &decimal(found.cpu.get()));
        }
        if node.memory_gb.millionths() == 0 {
            set("memory_gb", &gib(found.memory));
        }
        let (count, least) = found.gpus;
        if node.gpus == 0 {
            set("gpus", &count.to_string());
        }
        if node.gpu_memory_gb.millionths() == 0 && count > 0 {
            set("gpu_memory_gb", &gib(least));
        }
        if let (None, Some(model)) = (&node.gpu_model, &found.model) {
            let plain = |c: char| c.is_ascii_alphanumeric() || " .-_".contains(c);
            let name: String = model.chars().filter(|c| plain(*c)).collect();
            set("gpu_model", &format!("\"{name}\""));
        }
    }
    sets
}

/// Returns how an agent on this machine is reached.
#[must_use]
pub fn local(folder: &Path) -> Ssh {
    Ssh { local: Some(folder.to_string_lossy().into_owned()), ..Ssh::default() }
}
