//! The whole cluster in sums: what there is, what its owners use, what is lent, what presses.

use super::nodes::{Line, LineState};
use super::views::{SCHEMA, bundle};
use gridcore::bundle::Bundle;
use gridcore::ids::LeaseId;
use gridcore::nodes::Node;
use gridcore::pressure::Level;
use gridcore::state::State;
use serde_json::{Value, json};

/// Adds up something of every node.
fn sum(state: &State, part: impl Fn(&Node) -> Bundle) -> Bundle {
    let mut total = Bundle::ZERO;
    state.nodes.iter().for_each(|(_, node)| total.add(&part(node)));
    total
}

fn offered(node: &Node) -> Bundle {
    node.offer.as_ref().map_or(Bundle::ZERO, |offer| offer.total)
}

/// Returns what the owner of a node uses of it, as far as that is known.
fn used(node: &Node) -> Bundle {
    let Some(load) = &node.load else { return Bundle::ZERO };
    let ([cpu, memory, _], mut amounts) = (load.owner(), Bundle::ZERO);
    let whole = &node.spec.capacity;
    amounts.cpu = gridcore::units::MilliCores::new(cpu.capped().of_ceil(whole.cpu.get()));
    amounts.memory = gridcore::units::Bytes::new(memory.capped().of_ceil(whole.memory.get()));
    let busy = load.sample.gpus.iter().filter(|gpu| gpu.foreign).count() as u64;
    amounts.gpu = gridcore::units::MilliGpus::new(busy * 1_000);
    amounts
}

/// Returns the whole in a few numbers.
#[must_use]
pub fn status(state: &State, digest: &str, lines: &[Line]) -> Value {
    let running = state.leases.len();
    json!({
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
        "cluster": format!("{:016x}", state.cluster),
        "nodes": state.nodes.len(),
        "nodes_up": lines.iter().filter(|line| line.state().up).count(),
        "jobs": state.jobs.len(),
        "running": running,
        "waiting": state.jobs.len().saturating_sub(running),
        "capacity": bundle(&sum(state, |node| node.spec.capacity)),
        "offered": bundle(&sum(state, offered)),
        "leased": bundle(&sum(state, |node| node.leased)),
        "entries": state.seq.get(),
        "time_s": super::views::seconds(state.now),
        "digest": digest,
    })
}

/// Returns the resources of the whole, and how many nodes are pressed.
#[must_use]
pub fn cluster(state: &State, lines: &[Line]) -> Value {
    let mut levels = [0_u64; 3];
    let known = state.nodes.iter().filter_map(|(_, node)| node.load.as_ref());
    for load in known {
        let level = match load.pressure.level() {
            Level::Low => 0,
            Level::Normal => 1,
            Level::High => 2,
        };
        if let Some(count) = levels.get_mut(level) {
            *count += 1;
        }
    }
    let [low, normal, high] = levels;
    let states: Vec<LineState> = lines.iter().map(Line::state).collect();
    let gpus = states.iter().filter_map(|line| line.hardware.as_ref());
    let sick = gpus.flat_map(|hardware| &hardware.gpus).filter(|gpu| gpu.sick.is_some()).count();
    json!({
        "schema": SCHEMA,
        "nodes": state.nodes.len(),
        "nodes_up": states.iter().filter(|line| line.up).count(),
        "nodes_draining": state.nodes.iter().filter(|(_, n)| n.draining.is_some()).count(),
        "capacity": bundle(&sum(state, |node| node.spec.capacity)),
        "owners_use": bundle(&sum(state, used)),
        "offered": bundle(&sum(state, offered)),
        "leased": bundle(&sum(state, |node| node.leased)),
        "free": bundle(&sum(state, Node::free)),
        "pressure": { "low": low, "normal": normal, "high": high },
        "gpus_sick": sick,
    })
}

/// Returns every pool with what is leased of it, and how many leases there have been.
#[must_use]
pub fn stats(state: &State) -> Value {
    let pools = state.pools.iter().map(|(id, pool)| {
        let of_pool = |node: &&Node| node.spec.pool == id;
        let nodes = state.nodes.iter().map(|(_, node)| node).filter(of_pool);
        let free = nodes.fold(Bundle::ZERO, |sum, node| sum.saturating_add(&node.free()));
        let percent = |part: u64, whole: u64| (part * 100).checked_div(whole).unwrap_or(0);
        let (leased, whole) = (&pool.leased, &pool.capacity);
        let active = state.leases.values().filter(|l| state.shapes[l.shape].pool == id).count();
        json!({
            "pool": pool.spec.name,
            "capacity": bundle(whole),
            "leased": bundle(leased),
            "available": bundle(&free),
            "active_leases": active,
            "leased_percent": {
                "cpu": percent(leased.cpu.get(), whole.cpu.get()),
                "memory": percent(leased.memory.get() >> 20, whole.memory.get() >> 20),
                "gpu": percent(leased.gpu.get(), whole.gpu.get()),
            },
        })
    });
    let granted = state.next.lease.get().saturating_sub(LeaseId::new(1).get());
    let active = state.leases.len() as u64;
    json!({
        "schema": SCHEMA,
        "pools": pools.collect::<Vec<Value>>(),
        "leases_granted": granted,
        "leases_active": active,
        "leases_ended": granted.saturating_sub(active),
    })
}
