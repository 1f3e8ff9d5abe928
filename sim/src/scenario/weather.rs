//! What falls on a cluster: its network, blows, failures and returns of nodes.

use super::rules::millionths;
use super::schema as file;
use super::{Fault, Loaded, ScenarioError, at};
use crate::generate;
use crate::trace::faults;
use crate::work::{Blow, BlowRecord, FaultRecord, NetworkRecord, Weather};
use gridcore::config::Config;
use gridcore::units::{Span, Time};
use std::collections::BTreeMap;

/// Reads the network, and reads or draws what falls on the cluster; failures of nodes are crashes
/// then.
pub(super) fn read_weather(
    loaded: &Loaded,
    config: &mut Config,
    faults: &[FaultRecord],
    seed: u64,
    span: Span,
) -> Result<Option<Weather>, ScenarioError> {
    let Some(said) = loaded.scenario.network.as_ref().filter(|said| said.enabled) else {
        return Ok(None);
    };
    let fault = |fault: Fault| ScenarioError::Key(loaded.path.clone(), fault);
    let part = |key: &str, value| millionths(&format!("network.{key}"), value).map_err(fault);
    let (min, max) = (said.latency.min, said.latency.max);
    let latency_min = min.map_or(Span::ZERO, |s| s.0);
    let network = NetworkRecord {
        latency_min,
        latency_max: max.map_or(latency_min, |s| s.0).max(latency_min),
        lost: part("loss", said.loss)?,
        doubled: part("duplicate", said.duplicate)?,
        overtaken: part("reorder", said.reorder)?,
        drift: part("clock_drift", said.clock_drift)?,
        heals: said.heals.map_or(Time::MAX, |heals| Time::ZERO.after(heals.0)),
    };
    let nodes = u32::try_from(config.nodes.len()).unwrap_or(u32::MAX);
    let wrong = |e: generate::GenerateError| fault(at("network.weather", e.to_string()));
    let mut blows = generate::weather::blows(&said.weather, seed, nodes, span).map_err(wrong)?;
    blows.extend(crashes(faults));
    for (i, blow) in said.blows.iter().enumerate() {
        blows.push(listed(i, blow, config).map_err(fault)?);
    }
    blows.sort_unstable();
    (config.network, config.cluster) = (true, seed);
    Ok(Some(Weather { network, blows, all_end: false }))
}

/// Turns one blow of the list into a record.
fn listed(i: usize, said: &file::ListedBlow, config: &Config) -> Result<BlowRecord, Fault> {
    let key = |name: &str| format!("network.blows.{i}.{name}");
    let blow = Blow::named(&said.blow).map_err(|what| at(&key("blow"), what))?;
    let named = |name: &String| config.nodes.iter().position(|node| node.name == *name);
    let node = match &said.node {
        Some(name) => {
            named(name).ok_or_else(|| at(&key("node"), format!("there is no node {name}")))?
        }
        None if blow.is_alone() => 0,
        None => return Err(at(&key("node"), format!("say on which node {} falls", said.blow))),
    };
    let node = u32::try_from(node).unwrap_or(u32::MAX);
    Ok(BlowRecord { at: Time::ZERO.after(said.at.0), node, blow, lasts: said.lasts.0 })
}

/// Turns failures and returns of nodes into crashes of machines.
fn crashes(faults: &[FaultRecord]) -> Vec<BlowRecord> {
    let mut down: BTreeMap<u32, Time> = BTreeMap::new();
    let mut out = Vec::new();
    let crash = |at: Time, node, until: Time| BlowRecord {
        at,
        node,
        blow: Blow::MachineCrash,
        lasts: until.since(at),
    };
    for fault in faults {
        if !fault.up {
            down.insert(fault.node, fault.at);
        } else if let Some(at) = down.remove(&fault.node) {
            out.push(crash(at, fault.node, fault.at));
        }
    }
    out.extend(down.into_iter().map(|(node, at)| crash(at, node, Time::MAX)));
    out
}

/// Reads or draws the failures and returns of nodes.
pub(super) fn read_faults(
    loaded: &Loaded,
    config: &Config,
    seed: u64,
    span: Span,
) -> Result<Vec<FaultRecord>, ScenarioError> {
    match &loaded.scenario.faults {
        None => Ok(Vec::new()),
        Some(file::Faults::Trace(name)) => {
            let names: Vec<Box<str>> =
                config.nodes.iter().map(|n| n.name.as_str().into()).collect();
            Ok(faults::faults(&loaded.file(name), &names)?)
        }
        Some(file::Faults::Generator(process)) => {
            let nodes = u32::try_from(config.nodes.len()).unwrap_or(u32::MAX);
            let wrong = |e: generate::GenerateError| {
                ScenarioError::Key(loaded.path.clone(), at("faults.generator", e.to_string()))
            };
            generate::faults::faults(process, seed, nodes, span).map_err(wrong)
        }
    }
}
