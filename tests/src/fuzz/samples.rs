//! Samples: valid inputs of every kind, and damaged ones, written by the code itself, so that a
//! changed encoding changes them too (`UPDATE=1`, see `tests/tests/fuzz.rs`).
//!
//! Names come from matches without a wildcard: a new kind of message must be named here.

use super::ground::{NET, Net, config};
use super::segment::segment;
use super::words::{commands, strange_rules};
use crate::cluster::{LAB, load};
use gridcore::bundle::Bundle;
use gridcore::command::{Command, Entry, JobSpec, Outcome, Report, Request, Sample};
use gridcore::config::{Config, Lend, Rules, Strategy};
use gridcore::encode::to_bytes;
use gridcore::ids::{Epoch, LeaseId, NodeId, Seq};
use gridcore::station::held::Marker;
use gridcore::units::{BasisPoints, Bytes, MilliCores, Priority, Span, Time};
use gridcore::wire::{
    Envelope, EvictionReason, FromBody, FromNode, GpuSample, Item, Lending, Order, Permission,
    Start, Status, ToBody, ToNode, VERSIONS,
};

/// Inputs by name.
pub type Samples = Vec<(String, Vec<u8>)>;

/// Returns the samples of a target: `valid-*` are values, `damaged-*` are not, `found-*` have once
/// shown a mistake.
///
/// # Panics
/// When there is no such target.
#[must_use]
pub fn samples(target: &str) -> Samples {
    let mut out = match target {
        "from_node" => from_node(),
        "to_node" => to_node(),
        "marker" => markers(),
        "entry" => entries(),
        "history" => histories(),
        "config" => configs(),
        "snapshot" => snapshots(),
        "journal" => journals(),
        "scenario" => scenarios(),
        other => panic!("there is no target {other}"),
    };
    let smallest = out.iter().map(|(_, bytes)| bytes).min_by_key(|bytes| bytes.len()).cloned();
    out.extend(damaged(&smallest.unwrap_or_default()));
    out
}

/// Damages a value in the ways in which disks and networks do, and some in which only people do.
fn damaged(value: &[u8]) -> Samples {
    let with = |at: usize, new: &[u8]| {
        let mut bytes = value.to_vec();
        for (slot, byte) in bytes.iter_mut().skip(at).zip(new) {
            *slot = *byte;
        }
        bytes
    };
    let middle = value.len() / 2;
    let cut = value.get(..middle).unwrap_or_default().to_vec();
    let mut twice = value.to_vec();
    twice.extend_from_slice(value);
    let all = [
        ("empty", Vec::new()),
        ("cut", cut),
        ("twice", twice),
        ("holed", with(middle, &[0; 16])),
        ("length", with(middle, &[255; 8])),
        ("noise", (0..200_u8).map(|i| i.wrapping_mul(167) ^ 0x5a).collect()),
    ];
    all.into_iter().map(|(name, bytes)| (format!("damaged-{name}"), bytes)).collect()
}

/// Encodes a valid sample.
macro_rules! valid {
    ($name:expr, $value:expr) => {
        (format!("valid-{}", $name), to_bytes(&$value).expect("a sample can be encoded"))
    };
}

/// Returns an envelope of the ground's cluster.
fn envelope(node: u32, session: u64, number: u64) -> Envelope {
    Envelope { cluster: NET.config.cluster, node: NodeId::new(node), session, number }
}

/// Returns every status with every way to end.
fn statuses() -> Vec<(&'static str, Status)> {
    let name = |status: &Status| match status {
        Status::Running => "running",
        Status::Paused => "paused",
        Status::Leaving(..) => "leaving",
        Status::Stuck(_) => "stuck",
        Status::Ended(..) => "ended",
    };
    let mut out = vec![Status::Running, Status::Paused];
    for reason in EvictionReason::ALL {
        out.push(Status::Leaving(reason, Span::seconds(30)));
        out.push(Status::Stuck(reason));
        out.push(Status::Ended(Outcome::Stopped, Some(reason)));
    }
    for outcome in [Outcome::Completed, Outcome::Failed, Outcome::Stopped, Outcome::Refused] {
        out.push(Status::Ended(outcome, None));
    }
    out.into_iter().map(|status| (name(&status), status)).collect()
}

/// Returns the leases that the ground's coordinator knows on a node.
pub(super) fn known(node: NodeId) -> Vec<(LeaseId, Epoch)> {
    let leases = NET.grid.state().leases.values();
    let here = leases.filter(|lease| lease.members.iter().any(|member| member.node == node));
    here.map(|lease| (lease.id, lease.epoch)).collect()
}

/// Returns a heartbeat that says this of every lease on a node.
fn beat(node: u32, status: Status) -> FromNode {
    let item = |(lease, epoch)| Item { lease, epoch, cpu: MilliCores::whole(1), status };
    FromNode {
        envelope: envelope(node, 1, 1 << 20),
        body: FromBody::Beat { seen: 1 << 20 },
        lending: Lending::ALL,
        sample: Some(load(10, 20, 2)),
        inventory: known(NodeId::new(node)).into_iter().map(item).collect(),
    }
}

fn from_node() -> Samples {
    let name = |body: &FromBody| match body {
        FromBody::Hello { .. } => "hello",
        FromBody::Beat { .. } => "beat",
    };
    let mut out = Samples::new();
    for body in ["hello", "beat"] {
        let last = NET.up.iter().rev().find(|message| name(&message.body) == body);
        out.extend(last.map(|message| valid!(body, message)));
    }
    let nodes = [0, 3, 4, 1].into_iter().cycle();
    for ((i, (name, status)), node) in statuses().into_iter().enumerate().zip(nodes) {
        out.push(valid!(format!("{i:02}-{name}"), beat(node, status)));
    }
    let hello = FromBody::Hello { hello: u64::MAX, versions: (0, 9), build: "x".repeat(300) };
    let newer = FromBody::Hello { hello: 5, versions: (2, 9), build: String::from("next") };
    out.push(valid!("hello-last", FromNode { body: hello, ..beat(0, Status::Running) }));
    out.push(valid!("hello-newer", FromNode { body: newer, ..beat(0, Status::Running) }));
    let (busy, leased) = (BasisPoints::MAX, Some(BasisPoints::MAX));
    let gpu = GpuSample { busy, memory: Bytes::MAX, foreign: true, leased };
    let sample = Sample { cpu: BasisPoints::MAX, memory: BasisPoints::MAX, gpus: vec![gpu; 70] };
    let lending = Lending { version: u32::MAX, open: false, gpus_max: 0, withheld: u64::MAX };
    let beyond = FromNode { sample: Some(sample), lending, ..beat(4, Status::Running) };
    out.push(valid!("out-of-range", beyond));
    let mut twice = beat(4, Status::Leaving(EvictionReason::OwnerReturn, Span::MAX));
    twice.inventory.extend(beat(4, Status::Ended(Outcome::Completed, None)).inventory);
    twice.inventory.extend(beat(4, Status::Running).inventory);
    out.push(valid!("doubled-leases", twice));
    let strange = FromNode { inventory: Vec::new(), ..beat(3, Status::Running) };
    out.push(valid!("nothing-there", FromNode { sample: None, ..strange }));
    out
}

/// Returns a start that fits a node of the ground.
fn start(lease: u64) -> Start {
    let (lease, epoch) = (LeaseId::new(lease), Epoch::new(1));
    let needs = crate::cluster::hardware(1, 1);
    Start { lease, epoch, needs, vacate: Span::seconds(30), pausable: true, ..Start::default() }
}

fn to_node() -> Samples {
    let name = |body: &ToBody| match body {
        ToBody::Welcome { .. } => "welcome",
        ToBody::Resync { .. } => "resync",
        ToBody::Incompatible { .. } => "incompatible",
        ToBody::Orders(_) => "orders",
    };
    let watch = Box::new(config(true).rules.watch());
    let bodies = [
        ToBody::Welcome { hello: 1 << 32, version: VERSIONS.1, watch: watch.clone() },
        ToBody::Resync { hello: 0 },
        ToBody::Incompatible { hello: 1 << 32, versions: (3, 4) },
        ToBody::Orders(Vec::new()),
    ];
    let of = |body| ToNode { envelope: envelope(4, 5, 1 << 20), body };
    let mut out: Samples =
        bodies.into_iter().map(|body| valid!(name(&body), of(body.clone()))).collect();
    let name = |order: &Order| match order {
        Order::Start(_) => "start",
        Order::Extend { .. } => "extend",
        Order::Leave { .. } => "leave",
        Order::Kill(..) => "kill",
        Order::Forget(..) => "forget",
        Order::Watch(_) => "watch",
    };
    let (node, beat) = (NodeId::new(4), NET.stations.get(4).and_then(|s| s.link.as_ref()));
    let beat = beat.map_or(0, |link| link.beat);
    let permission = Some(Permission { beat, span: Span::seconds(300) });
    let (lease, epoch) = known(node).first().copied().unwrap_or_default();
    let leave =
        |notice| Order::Leave { lease, epoch, notice, reason: EvictionReason::PriorityPreemption };
    let orders = [
        Order::Start(Box::new(start(999))),
        Order::Extend { lease, epoch, suspended: false, cpu: None },
        Order::Extend { lease, epoch, suspended: true, cpu: Some(MilliCores::whole(3)) },
        leave(Span::seconds(30)),
        Order::Kill(lease, epoch),
        Order::Forget(lease, epoch),
        Order::Watch(watch),
    ];
    for order in &orders {
        out.push(valid!(name(order), of(ToBody::Orders(vec![(order.clone(), permission)]))));
    }
    let all = orders.into_iter().map(|order| (order, permission)).collect();
    out.push(valid!("all-orders", of(ToBody::Orders(all))));
    let mut huge = start(1_000);
    (huge.needs.memory, huge.devices, huge.vacate) = (Bytes::MAX, u64::MAX, Span::MAX);
    huge.checkpoint = Some(Span::ZERO);
    let forever = Some(Permission { beat, span: Span::MAX });
    let orders = vec![(Order::Start(Box::new(huge)), forever), (leave(Span::MAX), None)];
    out.push(valid!("out-of-range", of(ToBody::Orders(orders))));
    let mut rules = Rules::default();
    (rules.offering.kill, rules.offering.busy_latch) = (Span::MAX, Span::MAX);
    rules.offering.gates.cpu_max = BasisPoints::MAX;
    (rules.balance.monitoring_interval, rules.offering.lend) = (Span::ZERO, Lend::Idle);
    let watch = Order::Watch(Box::new(rules.watch()));
    out.push(valid!("watch-out-of-range", of(ToBody::Orders(vec![(watch, None)]))));
    out
}

fn markers() -> Samples {
    let plain = Marker {
        start: start(1),
        began: Time::from_ms(1_000),
        until: NET.now.after(Span::seconds(100)),
        paused: None,
        suspended: false,
        leaving: None,
        ended: None,
    };
    let leaving = Some((NET.now, EvictionReason::OwnerReturn));
    let own = Start { own: true, checkpoint: Some(Span::ZERO), ..start(2) };
    let late = Marker { until: Time::ZERO, began: Time::MAX, ..plain.clone() };
    let mut out = vec![
        valid!("running", plain),
        valid!("paused", Marker { paused: Some(NET.now), ..plain.clone() }),
        valid!("leaving", Marker { leaving, ..plain.clone() }),
        valid!("leaving-paused", Marker { leaving, paused: Some(Time::ZERO), ..plain.clone() }),
        valid!("suspended", Marker { suspended: true, ..plain.clone() }),
        valid!("ended", Marker { ended: Some(Outcome::Failed), ..plain.clone() }),
        valid!("own", Marker { start: own, ..plain.clone() }),
        valid!("late", late),
    ];
    let mut torn = plain.clone();
    torn.start.needs = Bundle::cpu(MilliCores::whole(3));
    torn.start.devices = u64::MAX;
    out.push((String::from("found-pausable-with-devices"), to_bytes(&torn).unwrap_or_default()));
    let mut huge = plain;
    huge.start.needs.memory = Bytes::MAX;
    huge.start.needs.cpu = MilliCores::MAX;
    huge.start.devices = u64::MAX;
    (huge.start.epoch, huge.until) = (Epoch::new(u32::MAX), Time::MAX);
    out.push((String::from("found-two-that-fill-64-bits"), to_bytes(&huge).unwrap_or_default()));
    let real = NET.markers.last();
    out.extend(real.map(|marker| valid!("real", marker)));
    out
}

fn entries() -> Samples {
    let entry = |command| Entry { seq: Seq::new(1), at: Time::from_ms(60_000), command };
    let all = (0_usize..).zip(commands());
    let mut out: Samples =
        all.map(|(i, (name, command))| valid!(format!("{i:02}-{name}"), entry(command))).collect();
    // What differs between two priorities is the byte that holds one.
    let of = |priority| {
        let job = Box::new(JobSpec { priority, ..JobSpec::default() });
        to_bytes(&entry(Command::Request(Request::SubmitJob { account: LAB, job })))
    };
    let (low, mut beyond) =
        (of(Priority::LOW).unwrap_or_default(), of(Priority::HIGH).unwrap_or_default());
    for (byte, _) in beyond.iter_mut().zip(low).filter(|(high, low)| **high != *low) {
        *byte = 255;
    }
    out.push((String::from("found-priority-of-255"), beyond));
    out
}

fn histories() -> Samples {
    let at = |i: u64| Time::from_ms(i * 997 % 200_000);
    let of = |network: u64, commands: Vec<Command>| -> Vec<Entry<Command>> {
        let entry =
            |(i, command)| Entry { seq: Seq::new(network + 2 * i), at: at(network + i), command };
        (0..).zip(commands).map(entry).collect()
    };
    let all = || commands().into_iter().map(|(_, command)| command);
    let only = |kind: fn(&Command) -> bool| all().filter(kind).collect::<Vec<Command>>();
    let asked = || only(|command| matches!(command, Command::Request(_)));
    let nodes = [0, 3, 4, 1].into_iter().cycle();
    let messages = nodes.zip(statuses()).map(|(node, (_, status))| Box::new(beat(node, status)));
    let said = messages.map(|message| Command::Report(Report::Message(message))).collect();
    let told = || only(|command| matches!(command, Command::Report(_)));
    vec![
        valid!("requests", of(0, asked())),
        valid!("reports", of(0, told())),
        valid!("network-requests", of(1, asked())),
        valid!("network-reports", of(1, told())),
        valid!("network-messages", of(1, said)),
        valid!("network-all", of(1, all().rev().take(20).collect())),
        valid!("nothing", of(0, Vec::new())),
    ]
}

/// Returns configurations of a cluster of one node.
fn tiny(network: bool) -> Config {
    let mut config = config(network);
    config.nodes.truncate(1);
    config
}

fn configs() -> Samples {
    let mut strange = config(true);
    strange.rules = strange_rules();
    strange.resources = vec![String::from("licence")];
    let mut out = vec![
        valid!("one-node", tiny(false)),
        valid!("direct", config(false)),
        valid!("network", config(true)),
        valid!("strange-rules", strange),
        valid!("nothing", Config::default()),
    ];
    let strategies = [
        Strategy::FirstFit,
        Strategy::BestFit,
        Strategy::WorstFit,
        Strategy::Pack,
        Strategy::DotProduct,
        Strategy::GpuClustering,
        Strategy::Random,
        Strategy::Fgd,
        Strategy::LocalFirst,
        Strategy::NearData,
        Strategy::Cheapest,
    ];
    for (i, strategy) in strategies.into_iter().enumerate() {
        let mut config = tiny(i % 2 == 0);
        config.rules.scheduling.strategy = strategy;
        out.push(valid!(format!("strategy-{i}"), config));
    }
    // Two keys of one length, each in the other's place.
    let mut swapped = to_bytes(&tiny(false)).unwrap_or_default();
    let (first, second) = (b"gpu_model", b"zone-name");
    let at = |bytes: &[u8], key: &[u8; 9]| bytes.windows(9).position(|window| window == key);
    if let (Some(one), Some(other)) = (at(&swapped, first), at(&swapped, second)) {
        swapped.splice(one..one + 9, *second);
        swapped.splice(other..other + 9, *first);
    }
    out.push((String::from("found-keys-out-of-order"), swapped));
    out
}

fn snapshots() -> Samples {
    let new = |network: bool| {
        let net = Net::new(tiny(network));
        net.grid.snapshot().as_bytes().to_vec()
    };
    let busy = NET.grid.snapshot().as_bytes().to_vec();
    let direct = super::ground::DIRECT.grid.snapshot().as_bytes().to_vec();
    let all = [("new", new(false)), ("new-network", new(true)), ("busy", busy), ("direct", direct)];
    all.into_iter().map(|(name, bytes)| (format!("valid-{name}"), bytes)).collect()
}

fn journals() -> Samples {
    let entry =
        |(seq, command)| Entry { seq: Seq::new(seq), at: Time::from_ms(seq * 997), command };
    let asked = commands().into_iter().map(|(_, command)| command);
    let all: Vec<Entry<Command>> = (1..).zip(asked.rev()).map(entry).collect();
    let first = all.first().cloned();
    let few: Vec<Entry<Command>> = all.iter().take(3).cloned().collect();
    let one: Vec<Entry<Command>> = first.into_iter().collect();
    let net = NET.entries.get(..30).unwrap_or_default();
    vec![
        (String::from("valid-one"), segment(&tiny(false), &one)),
        (String::from("valid-few"), segment(&tiny(true), &few)),
        (String::from("valid-all"), segment(&config(true), &all)),
        (String::from("valid-net"), segment(&NET.config, net)),
    ]
}

/// Returns the least of all scenarios; the corpus holds others, written by hand.
fn scenarios() -> Samples {
    let least = b"name: a\nnodes:\n- {name: n, cores: 4}\n";
    vec![(String::from("valid-least"), least.to_vec())]
}
