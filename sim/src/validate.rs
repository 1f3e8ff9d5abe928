//! A scenario's own rules under generated work, owners and weather.
//!
//! A case is a list of choices; each tells of one job, one visit of an owner, one blow or the
//! network. It becomes a scenario of its own: the given one with fewer machines and with everything
//! that happens listed. That scenario is what is played, so a case that fails, made smaller, is a
//! file that reproduces it. Choices come from proptest, which also makes failing lists smaller, or
//! from whoever else has words to give.

use crate::draw::{self, Dice, WEATHER};
use crate::rng::stream;
use crate::scenario::build::build;
use crate::scenario::schema::{Jobs, Scenario, Source, TraceFormat};
use crate::scenario::text::yaml;
use crate::scenario::{ScenarioError, at, from_tree, tree};
use crate::swarm::Verdict;
use crate::work::{Blow, BlowRecord, JobRecord, NetworkRecord};
use crate::world::World;
use gridcore::config::Config;
use gridcore::units::{Span, Time};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{
    Config as Trials, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The words of one choice.
pub type Choice = [u32; 20];

/// Most choices of a case.
pub const CHOICES_MAX: usize = 80;

/// How long a case goes on at most after the weather is over.
const AFTER: Span = Span::seconds(48 * 3_600);

/// How many smaller cases are tried once one has failed.
const SMALLER_MAX: u32 = 3_000;

/// A scenario that cases are made of.
pub struct Base {
    /// The file the scenario was read from.
    path: PathBuf,
    /// The scenario with few machines and nothing that happens.
    tree: Value,
    config: Config,
}

/// What a choice tells of.
enum Told {
    Job(JobRecord),
    /// An owner's visit: node, from and to in seconds, CPU, memory and GPU in percent.
    Owner(usize, [u64; 5]),
    Blow(BlowRecord),
    Network(NetworkRecord),
}

impl Base {
    /// Reads a scenario and keeps so many of its machines, some of every kind.
    ///
    /// # Errors
    /// When it cannot be read or used, or takes its nodes from a trace.
    pub fn read(path: &Path, sets: &[String], nodes_max: usize) -> Result<Self, ScenarioError> {
        let mut tree = tree(path, sets)?;
        let loaded = from_tree(path, tree.clone())?;
        if let Jobs::From(Source::Trace(trace)) = &loaded.scenario.jobs
            && trace.format == TraceFormat::Openb
        {
            let what = "validate needs nodes of the scenario's own; these come from a trace";
            return Err(ScenarioError::Key(path.to_owned(), at("jobs.trace", what.to_owned())));
        }
        if let Value::Object(keys) = &mut tree {
            keep_few(keys, &loaded.scenario, nodes_max);
            keys.insert("name".to_owned(), json!(format!("{}-case", loaded.scenario.name)));
            keys.insert("horizon_seconds".to_owned(), span(WEATHER.saturating_add(AFTER)));
            keys.insert("network".to_owned(), json!({}));
            for key in ["jobs", "faults", "owner_load", "record_seconds", "about"] {
                keys.remove(key);
            }
        }
        let small = from_tree(path, tree.clone())?;
        let config = build(&small, small.scenario.seed)?.config;
        Ok(Self { path: path.to_owned(), tree, config })
    }

    /// Returns the name of a case.
    #[must_use]
    pub fn name(&self) -> &str {
        self.tree.get("name").and_then(Value::as_str).unwrap_or("case")
    }

    /// Returns how many machines a case has.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.config.nodes.len()
    }

    /// Returns what a choice tells of.
    fn told(&self, choice: &Choice) -> Option<Told> {
        let mut dice = Dice::words(choice);
        let nodes = self.config.nodes.len();
        match dice.below(10) {
            0..=4 => {
                let mut job = draw::job(&mut dice, &self.config);
                if job.needs.gpus.count > 0 {
                    job.extra.get_or_insert_default().gpu_use = draw::gpu_use(&mut dice);
                }
                Some(Told::Job(job))
            }
            5..=6 => {
                let node = usize::try_from(dice.below(nodes as u64)).unwrap_or(0);
                let last = WEATHER.get() / 1_000 - 1;
                let from = dice.between(0, last);
                let to = (from + dice.between(1, 1_200)).min(last + 1);
                let percent = [dice.below(101), dice.below(101), dice.below(101)];
                let [cpu, memory, gpu] = percent;
                Some(Told::Owner(node, [from, to, cpu, memory, gpu]))
            }
            7..=8 => {
                // Other rules would not be the scenario's any more.
                let kinds: Vec<Blow> =
                    Blow::ALL.into_iter().filter(|blow| *blow != Blow::Configure).collect();
                draw::blow(&mut dice, &kinds, nodes).map(Told::Blow)
            }
            _ => Some(Told::Network(draw::network(&mut dice, Time::ZERO.after(WEATHER)))),
        }
    }

    /// Returns the scenario of a case.
    #[must_use]
    pub fn case(&self, seed: u64, choices: &[Choice]) -> Value {
        let (mut jobs, mut blows, mut network) = (Vec::new(), Vec::new(), Map::new());
        let mut visits: BTreeMap<usize, Vec<Value>> = BTreeMap::new();
        for told in choices.iter().filter_map(|choice| self.told(choice)) {
            match told {
                Told::Job(job) => jobs.push(self.job(jobs.len(), &job)),
                Told::Blow(blow) => blows.push(self.blow(blow)),
                Told::Network(record) => network = lines(record),
                Told::Owner(node, [from, to, cpu, memory, gpu]) => {
                    visits.entry(node).or_default().push(json!({
                        "from": from, "to": to,
                        "cpu_percent": cpu, "memory_percent": memory, "gpu_percent": gpu,
                    }));
                }
            }
        }
        let mut tree = self.tree.clone();
        let Value::Object(keys) = &mut tree else { return tree };
        network.insert("heals".to_owned(), span(WEATHER));
        network.insert("blows".to_owned(), Value::Array(blows));
        keys.insert("seed".to_owned(), json!(seed));
        keys.insert("network".to_owned(), Value::Object(network));
        keys.insert("jobs".to_owned(), Value::Array(jobs));
        let nodes = keys.get_mut("nodes").and_then(Value::as_array_mut);
        for (i, node) in nodes.into_iter().flatten().enumerate() {
            if let (Some(parts), Some(node)) = (visits.remove(&i), node.as_object_mut()) {
                node.insert("owner_load".to_owned(), json!({ "list": parts }));
            }
        }
        tree
    }

    /// Returns the text of a case's scenario below a comment.
    #[must_use]
    pub fn text(&self, about: &str, seed: u64, choices: &[Choice]) -> String {
        yaml(about, &self.case(seed, choices))
    }

    /// Plays a case with every invariant checked after every entry.
    ///
    /// # Errors
    /// When it cannot be built: our bug, or a scenario that no small version fits.
    pub fn play(&self, seed: u64, choices: &[Choice]) -> Result<Verdict, ScenarioError> {
        let loaded = from_tree(&self.path, self.case(seed, choices))?;
        let setup = build(&loaded, seed)?;
        let refused = |error: gridcore::config::ConfigError| {
            ScenarioError::Key(self.path.clone(), at("configuration", error.to_string()))
        };
        let mut world = World::new(setup).map_err(refused)?;
        world.check_invariants();
        Ok(Verdict::of(self.nodes(), || world.run(|_| true)))
    }

    /// Writes a job as a line of a list.
    fn job(&self, number: usize, job: &JobRecord) -> Value {
        let account = usize::try_from(job.account).ok().and_then(|i| self.config.accounts.get(i));
        let needs = &job.needs;
        let mut need = Map::new();
        need.insert("cpu_cores".to_owned(), thousandths(needs.cpu.get()));
        need.insert("memory_gb".to_owned(), json!(needs.memory.get() >> 30));
        if needs.gpus.count > 0 {
            need.insert("gpus".to_owned(), json!(needs.gpus.count));
            need.insert("gpu_share".to_owned(), thousandths(needs.gpus.share.get().into()));
        }
        let mut line = Map::new();
        let mut put = |key: &str, value: Value| line.insert(key.to_owned(), value);
        put("name", json!(format!("j{}", number + 1)));
        put("account", json!(account.map_or("", |account| account.name.as_str())));
        put("pool", json!(job.pool.as_deref()));
        put("priority", json!(job.priority.get()));
        put("needs", Value::Object(need));
        put("submit", span(job.submit.since(Time::ZERO)));
        put("runs", span(job.run));
        if let Some(limit) = job.limit {
            put("limit", span(limit));
        }
        if let Some(step) = job.checkpoint {
            put("checkpoint", json!({ "interval": span(step) }));
        }
        let Some(extra) = &job.extra else { return Value::Object(line) };
        if job.members > 1 {
            put("gang", json!({ "count": job.members, "spread": extra.spread }));
        }
        if let Some(vacate) = extra.vacate {
            put("vacate_seconds", span(vacate));
        }
        if let Some(cancel) = extra.cancel {
            put("cancel", span(cancel));
        }
        if let Some(part) = extra.gpu_use {
            put("gpu_use", json!(part.get() / 100));
        }
        for (key, holds) in [("ignores_notice", extra.ignores_notice), ("fails", extra.fails)] {
            if holds {
                put(key, json!(true));
            }
        }
        Value::Object(line)
    }

    /// Writes a blow as a line of a list.
    fn blow(&self, blow: BlowRecord) -> Value {
        let (at, lasts) = (span(blow.at.since(Time::ZERO)), span(blow.lasts));
        let mut line = json!({ "at": at, "blow": blow.blow.name(), "lasts": lasts });
        let node = self.config.nodes.get(blow.node as usize);
        if let (false, Some(node), Some(line)) = (blow.blow.is_alone(), node, line.as_object_mut())
        {
            line.insert("node".to_owned(), json!(node.name));
        }
        line
    }
}

/// Writes a network as keys.
fn lines(network: NetworkRecord) -> Map<String, Value> {
    let part = |ppm: u32| {
        let text = format!("0.{ppm:06}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    };
    let latency = json!({ "min": span(network.latency_min), "max": span(network.latency_max) });
    let keys = [
        ("latency", latency),
        ("loss", part(network.lost)),
        ("duplicate", part(network.doubled)),
        ("reorder", part(network.overtaken)),
        ("clock_drift", part(network.drift)),
    ];
    keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Writes a span with its unit.
fn span(span: Span) -> Value {
    let ms = span.get();
    let whole = ms.is_multiple_of(1_000);
    Value::String(if whole { format!("{}s", ms / 1_000) } else { format!("{ms}ms") })
}

/// Writes thousandths as a decimal.
fn thousandths(amount: u64) -> Value {
    let text = format!("{}.{:03}", amount / 1_000, amount % 1_000);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    serde_json::from_str(text).unwrap_or(Value::Null)
}

/// Leaves a few machines of every kind, each with an entry of its own, without their owners' load.
fn keep_few(keys: &mut Map<String, Value>, scenario: &Scenario, nodes_max: usize) {
    let Some(entries) = keys.get_mut("nodes").and_then(Value::as_array_mut) else { return };
    let each = (nodes_max / entries.len().max(1)).max(1);
    let mut nodes = Vec::new();
    for (said, entry) in scenario.nodes.iter().zip(entries.iter()) {
        let Value::Object(entry) = entry else { continue };
        let many = said.count.is_some() || said.nodes.is_some();
        let count = said.count.map_or(each, |count| each.min(count as usize));
        for i in 1..=if many { count } else { 1 } {
            let mut node = entry.clone();
            for key in ["count", "nodes", "owner_load"] {
                node.remove(key);
            }
            let name = if many { format!("{}-{i}", said.name) } else { said.name.clone() };
            node.insert("name".to_owned(), json!(name));
            nodes.push(Value::Object(node));
        }
    }
    nodes.truncate(nodes_max.max(1));
    let names: Vec<String> =
        nodes.iter().filter_map(|n| n["name"].as_str()).map(Into::into).collect();
    keys.insert("nodes".to_owned(), Value::Array(nodes));
    let Some(pools) = keys.get_mut("pools").and_then(Value::as_array_mut) else { return };
    for pool in pools {
        if let Some(named) = pool.get_mut("nodes").and_then(Value::as_array_mut) {
            named.retain(|name| name.as_str().is_some_and(|n| names.iter().any(|m| m == n)));
        }
    }
}

/// How many seeds are tried for a case with fewer choices.
const SEEDS_TRIED: u64 = 8;

/// Returns the runner of a case: the same seed and number, the same case.
fn runner(seed: u64, number: u64) -> TestRunner {
    let trials =
        Trials { failure_persistence: None, max_shrink_iters: SMALLER_MAX, ..Trials::default() };
    let mut stream = stream(seed, "validate", number);
    let mut bytes = [0; 32];
    for word in bytes.chunks_exact_mut(8) {
        word.copy_from_slice(&stream.bits().to_le_bytes());
    }
    TestRunner::new_with_rng(trials, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Lists of choices as proptest makes them, and makes them smaller.
fn lists() -> impl Strategy<Value = Vec<Choice>> {
    vec(any::<Choice>(), 1..=CHOICES_MAX)
}

/// Returns the choices of a case.
#[must_use]
pub fn choices(seed: u64, number: u64) -> Vec<Choice> {
    lists().new_tree(&mut runner(seed, number)).map(|tree| tree.current()).unwrap_or_default()
}

/// A case that fails.
#[derive(Clone, Debug)]
pub struct Failing {
    /// The seed of what is drawn while it is played.
    pub seed: u64,
    /// What it is made of.
    pub choices: Vec<Choice>,
    /// What fails first.
    pub what: String,
}

/// Makes a failing case smaller.
#[must_use]
pub fn smaller(base: &Base, seed: u64, number: u64) -> Option<Failing> {
    let mut runner = runner(seed, number);
    let tree = lists().new_tree(&mut runner).ok()?;
    let failed = runner.run_one(tree, |choices| match base.play(seed, &choices) {
        Ok(verdict) => match verdict.broken.into_iter().next() {
            Some(first) => Err(TestCaseError::fail(first)),
            None => Ok(()),
        },
        // What cannot be built is no case.
        Err(_) => Ok(()),
    });
    match failed {
        Err(TestError::Fail(why, choices)) => {
            Some(fewer(base, Failing { seed, choices, what: why.message().to_owned() }))
        }
        Err(TestError::Abort(_)) | Ok(_) => None,
    }
}

/// Leaves out every choice that is not needed to fail, by halves, quarters and so on down to single
/// ones: proptest asks that only once for each, before it makes the others smaller. What is left
/// out changes the fate of every later message, so a few seeds are tried.
fn fewer(base: &Base, mut small: Failing) -> Failing {
    let mut step = small.choices.len().div_ceil(2);
    while step > 0 {
        let (mut at, before) = (0, small.choices.len());
        while at < small.choices.len() {
            let mut choices = small.choices.clone();
            choices.drain(at..(at + step).min(choices.len()));
            let fails = |more: u64| {
                let seed = small.seed.wrapping_add(more);
                let broken = base.play(seed, &choices).ok()?.broken;
                Some((seed, broken.into_iter().next()?))
            };
            match (0..SEEDS_TRIED).find_map(fails) {
                Some((seed, what)) => small = Failing { seed, choices, what },
                None => at += step,
            }
        }
        // Single ones are asked again until none can go.
        if step > 1 || small.choices.len() == before {
            step /= 2;
        }
    }
    small
}
