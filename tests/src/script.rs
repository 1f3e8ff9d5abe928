//! Golden scripts: what goes in, `----`, what came out.
//!
//! The first lines describe a cluster, the others what happens and when; see `tests/scripts/`. Only
//! names, `key=value` and flags; amounts in whole cores, GiB, seconds, percent and ATP.

mod rules;

use crate::cluster::{Cluster, hardware, load};
use crate::text;
use crate::world::{Checks, Work, World};
use gridcore::bundle::Bundle;
use gridcore::command::{LabelNeed, Near, Outcome, Report, Request, Sample};
use gridcore::config::{Config, NodeSpec};
use gridcore::explain::explain;
use gridcore::ids::{AccountId, Epoch, JobId, LeaseId, NodeId, PoolId};
use gridcore::station::ladder::OwnerSays;
use gridcore::units::{
    BasisPoints, Bytes, MicroAtp, MilliCores, MilliGpus, PerMille, Ppm, Priority, Span, Time,
};
use gridcore::wire::{Item, Status};
use rules::rules;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The words of one line: plain ones in order, and values by key.
struct Line<'a> {
    words: Vec<&'a str>,
    values: BTreeMap<&'a str, &'a str>,
}

impl<'a> Line<'a> {
    fn of(text: &'a str) -> Self {
        let (pairs, words): (Vec<&str>, Vec<&str>) =
            text.split_whitespace().partition(|word| word.contains('='));
        let values = pairs.into_iter().filter_map(|pair| pair.split_once('=')).collect();
        Self { words, values }
    }

    fn word(&self, n: usize) -> Result<&'a str, String> {
        self.words.get(n).copied().ok_or_else(|| format!("word {} is missing", n + 1))
    }

    fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    fn number(&self, key: &str) -> Result<Option<u64>, String> {
        let Some(text) = self.values.get(key) else { return Ok(None) };
        number(text.trim_end_matches('s')).map(Some).map_err(|e| format!("{key}: {e}"))
    }

    fn span(&self, key: &str) -> Result<Option<Span>, String> {
        Ok(self.number(key)?.map(Span::seconds))
    }

    fn small(&self, key: &str, default: u32) -> Result<u32, String> {
        let value = self.number(key)?.unwrap_or(u64::from(default));
        u32::try_from(value).map_err(|e| format!("{key}: {e}"))
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

/// What a script described, how it was played, and what came out.
#[derive(Debug)]
pub struct Played {
    /// The cluster.
    pub config: Config,
    /// What happened there.
    pub world: World,
    /// The output part.
    pub out: String,
}

/// Runs the input part of a script.
///
/// # Errors
/// The line that makes no sense, and why; that nothing happens.
pub fn run(input: &str) -> Result<Played, String> {
    let mut cluster = Cluster::new();
    cluster.config.accounts.clear();
    cluster.config.pools.clear();
    let mut play: Option<Play> = None;
    for (i, text) in input.lines().enumerate() {
        let text = text.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let line = Line::of(text);
        let done = match &mut play {
            None if !text.starts_with(|c: char| c.is_ascii_digit()) => {
                describe(&mut cluster, &line)
            }
            None => {
                let mut begun = Play::new(cluster.clone());
                let done = begun.step(&line);
                play = Some(begun);
                done
            }
            Some(play) => play.step(&line),
        };
        done.map_err(|error| format!("line {}: {text}: {error}", i + 1))?;
    }
    let Play { world, out, .. } = play.ok_or("nothing happens")?;
    Ok(Played { config: cluster.config, world, out })
}

/// Reads one line of the cluster.
fn describe(cluster: &mut Cluster, line: &Line<'_>) -> Result<(), String> {
    match line.word(0)? {
        "pool" => {
            let unlimited = Bundle::from_amounts([u64::MAX / 4; 12]);
            let mut quota = None;
            if let Some(cpu) = line.number("cpu")? {
                quota = Some(Bundle { cpu: MilliCores::new(cpu * 1_000), ..unlimited });
            }
            *cluster = cluster.clone().pool(line.word(1)?, quota);
        }
        "account" => {
            let atp = line.number("atp")?.unwrap_or(0);
            *cluster = cluster.clone().account(line.word(1)?, atp);
            let own = line.number("quota_cpu")?;
            let unlimited = Bundle::from_amounts([u64::MAX / 4; 12]);
            if let (Some(cpu), Some(spec)) = (own, cluster.config.accounts.last_mut()) {
                spec.quota = Some(Bundle { cpu: MilliCores::new(cpu * 1_000), ..unlimited });
            }
        }
        "node" => {
            let spec = node(cluster, line)?;
            cluster.config.nodes.push(spec);
        }
        "rules" => rules(&mut cluster.config.rules, line)?,
        other => return Err(format!("{other} is neither pool, account, node nor rules")),
    }
    Ok(())
}

fn node(cluster: &Cluster, line: &Line<'_>) -> Result<NodeSpec, String> {
    let at = |names: Vec<&String>, key: &str| -> Result<u32, String> {
        let Some(name) = line.values.get(key) else { return Ok(0) };
        let found = names.iter().position(|other| other == name);
        let found = found.ok_or_else(|| format!("{key} {name} is unknown"))?;
        u32::try_from(found).map_err(|e| e.to_string())
    };
    let (cores, gib) = (line.small("cpu", 8)?, line.small("mem", 32)?);
    let mut spec = NodeSpec::dedicated(line.word(1)?, hardware(cores, gib));
    let gpus = u8::try_from(line.small("gpu", 0)?).map_err(|e| e.to_string())?;
    spec = spec.with_gpus(gpus, Bytes::gib(line.small("vram", 24)?));
    spec.dedicated = !line.has("owned");
    spec.master = line.has("master");
    spec.lend_unpaid = line.has("lend_unpaid");
    let accounts = cluster.config.accounts.iter().map(|a| &a.name).collect();
    spec.owner = AccountId::new(at(accounts, "owner")?);
    let pools = cluster.config.pools.iter().map(|p| &p.name).collect();
    spec.pool = PoolId::new(at(pools, "pool")?);
    if let Some(zone) = line.values.get("zone") {
        spec.labels.insert(String::from("zone"), String::from(*zone));
        spec.zone = String::from(*zone);
    }
    if let Some(gpus) = line.number("share_gpu")? {
        spec.share_max.gpu = MilliGpus::new(gpus * 1_000);
    }
    Ok(spec)
}

/// Reads what an owner says.
fn owner_says(line: &Line<'_>) -> Result<OwnerSays, String> {
    if line.has("reclaim") {
        return Ok(OwnerSays::Reclaim { now: line.has("now") });
    }
    let gpus_max = u8::try_from(line.small("gpu", 64)?).map_err(|e| e.to_string())?;
    let until = line.span("until")?.map(|span| Time::ZERO.after(span));
    Ok(OwnerSays::Lend { gpus_max, until })
}

/// A script under way.
struct Play {
    world: World,
    out: String,
}

impl Play {
    fn new(cluster: Cluster) -> Self {
        let mut world = World::new(cluster.config, Checks::Every);
        world.texts = Some(Vec::new());
        Self { world, out: String::new() }
    }

    /// Adds a line to what came out.
    fn say(&mut self, at: Time, text: &str) {
        let at = text::time(at);
        let written = writeln!(self.out, "{at:<5} {text}");
        assert!(written.is_ok(), "a string takes every line");
    }

    /// Shows the effects since the last time.
    fn show(&mut self) {
        for (at, line) in self.world.texts.replace(Vec::new()).unwrap_or_default() {
            self.say(at, &line);
        }
    }

    /// Plays one line: a time, then what happens.
    fn step(&mut self, line: &Line<'_>) -> Result<(), String> {
        let at = Time::ZERO.after(Span::seconds(number(line.word(0)?.trim_end_matches('s'))?));
        if at < self.world.now {
            return Err(String::from("time goes back"));
        }
        self.world.run_to(at);
        self.show();
        let denied = match line.word(1)? {
            "submit" => {
                let job = self.submit(line)?;
                job.err()
            }
            "explain" => {
                let id = self.job(line.word(2)?)?;
                let why = explain(self.world.grid.state(), id);
                let why = why.map_or_else(
                    || String::from("does not wait"),
                    |why| {
                        why.blockers.iter().map(|b| format!("{b:?}")).collect::<Vec<_>>().join("; ")
                    },
                );
                self.say(at, &format!("{id}: {why}"));
                None
            }
            "credits" => {
                self.credits(at);
                None
            }
            "balances" => {
                self.balances(at);
                None
            }
            "standings" => {
                self.standings(at);
                None
            }
            "until" => None,
            "lend" | "reclaim" => {
                let says = owner_says(line)?;
                self.world.owner_says(self.node(line.word(2)?)?, says);
                None
            }
            "sample" | "down" | "up" | "ended" => {
                let report = self.report(line)?;
                let reply = self.world.report(report);
                if reply == gridcore::command::Reply::Stale {
                    self.say(at, "stale");
                }
                None
            }
            _ => {
                let request = self.request(line)?;
                self.world.request(request).err()
            }
        };
        self.show();
        self.world.run_to(at);
        self.show();
        if let Some(denied) = denied {
            self.say(at, &format!("denied: {denied}"));
        }
        Ok(())
    }

    fn credits(&mut self, at: Time) {
        let state = self.world.grid.state().clone();
        for (id, account) in state.ledger.accounts.iter() {
            let credits = state.karma.credits(id).unwrap_or(0);
            self.say(at, &format!("{} may borrow with {credits} thousandths", account.spec.name));
        }
    }

    fn balances(&mut self, at: Time) {
        let ledger = self.world.grid.state().ledger.clone();
        for (_, account) in ledger.accounts.iter() {
            let (free, held) = (text::atp(account.available), text::atp(account.held));
            self.say(at, &format!("{} has {free}, {held} held", account.spec.name));
        }
        let treasury = text::atp(ledger.treasury);
        self.say(at, &format!("treasury has {treasury}"));
        if ledger.burned > 0 {
            let burned = u64::try_from(ledger.burned).map(MicroAtp::new).unwrap_or_default();
            self.say(at, &format!("burned {}", text::atp(burned)));
        }
    }

    /// Says how accounts stand that do not stand as they began, and what they would have of 1,000.
    fn standings(&mut self, at: Time) {
        let accounts = self.world.grid.state().ledger.accounts.clone();
        for (_, account) in accounts.iter().filter(|(_, account)| !account.standing.is_home()) {
            let (stands, of) = (account.standing.get().get(), account.standing.scale(1_000));
            self.say(at, &format!("{} stands at {stands}: {of} of 1000", account.spec.name));
        }
    }

    fn account(&self, name: &str) -> Result<AccountId, String> {
        let accounts = &self.world.grid.state().ledger.accounts;
        let found = accounts.iter().find(|(_, account)| account.spec.name == name);
        found.map(|(id, _)| id).ok_or_else(|| format!("account {name} is unknown"))
    }

    fn node(&self, name: &str) -> Result<NodeId, String> {
        let nodes = &self.world.grid.state().nodes;
        let found = nodes.iter().find(|(_, node)| node.spec.name == name);
        found.map(|(id, _)| id).ok_or_else(|| format!("node {name} is unknown"))
    }

    fn job(&self, name: &str) -> Result<JobId, String> {
        number(name.trim_start_matches('j')).map(JobId::new)
    }

    fn submit(&mut self, line: &Line<'_>) -> Result<Result<(), gridcore::deny::Denied>, String> {
        let account = self.account(line.word(2)?)?;
        let mut spec = crate::cluster::cpu_job(line.small("cpu", 0)?);
        spec.needs.memory = Bytes::gib(line.small("mem", 0)?);
        let count = u8::try_from(line.small("gpu", 0)?).map_err(|e| e.to_string())?;
        spec.needs.gpus.count = count;
        let share = line.small("share", if count > 0 { 1_000 } else { 0 })?;
        spec.needs.gpus.share = PerMille::new(u16::try_from(share).map_err(|e| e.to_string())?);
        spec.needs.gpus.memory = Bytes::gib(line.small("vram", 0)?);
        spec.members = u16::try_from(line.small("members", 1)?).map_err(|e| e.to_string())?;
        spec.spread = line.has("spread");
        spec.refuse_if_busy = line.has("refuse_if_busy");
        for (name, priority) in
            [("low", Priority::LOW), ("high", Priority::HIGH), ("urgent", Priority::URGENT)]
        {
            spec.priority = if line.has(name) { priority } else { spec.priority };
        }
        (spec.limit, spec.checkpoint) = (line.span("limit")?, line.span("checkpoint")?);
        spec.vacate = line.span("vacate")?;
        spec.restart = line.span("restart")?.unwrap_or_default();
        spec.movable = line.has("movable");
        spec.extra = MilliCores::whole(line.small("up_to", 0)?).saturating_sub(spec.needs.cpu);
        spec.begin = line.span("begin")?.map(|at| Time::ZERO.after(at));
        spec.reserve = line.has("reserve");
        spec.budget = line.number("budget")?.map(MicroAtp::whole);
        let percent = line.number("max_price")?.map(|n| u32::try_from(n * 10_000));
        spec.price_max = percent.transpose().map_err(|e| e.to_string())?.map(Ppm::new);
        spec.any_pool = !line.values.contains_key("pool");
        if let Some(name) = line.values.get("pool") {
            let mut pools = self.world.grid.state().pools.iter();
            let found = pools.find(|(_, pool)| pool.spec.name == *name).map(|(id, _)| id);
            spec.pool = found.ok_or_else(|| format!("pool {name} is unknown"))?;
        }
        for name in line.values.get("after").iter().flat_map(|names| names.split(',')) {
            spec.after.push(self.job(name)?);
        }
        if let Some(node) = line.values.get("prefer") {
            spec.preferred.push(self.node(node)?);
        }
        let list = |key: &str| line.values.get(key).into_iter().flat_map(|all| all.split(','));
        for name in list("without") {
            spec.excluded.push(self.node(name)?);
        }
        let near = |name: &&str| {
            let node = self.node(name);
            node.map_or_else(|_| Near::Zone(String::from(*name)), Near::Node)
        };
        spec.near = line.values.get("near").map(near);
        spec.tags.extend(list("is").map(String::from));
        spec.affinity.extend(list("with").map(String::from));
        spec.anti_affinity.extend(list("apart").map(String::from));
        if let Some(zone) = line.values.get("zone") {
            let (key, any_of) = (String::from("zone"), vec![String::from(*zone)]);
            spec.labels.push(LabelNeed { key, any_of });
        }
        let leaves = if line.has("stubborn") { None } else { Some(Span::ZERO) };
        let dies = line.span("dies")?.unwrap_or(Span::ZERO);
        let leaves = line.span("leaves")?.or(leaves);
        let work = line.span("work")?.unwrap_or(Span::seconds(1_000_000));
        let work = Work { work, fails: line.has("fails"), leaves, dies };
        Ok(self.world.submit(account, &spec, work).map(|_| ()))
    }

    fn report(&self, line: &Line<'_>) -> Result<Report, String> {
        Ok(match line.word(1)? {
            "down" => Report::NodeDown { node: self.node(line.word(2)?)? },
            "up" => Report::NodeUp { node: self.node(line.word(2)?)? },
            "ended" => Report::Lease {
                node: line.values.get("on").map_or(Ok(NodeId::new(0)), |name| self.node(name))?,
                item: Item {
                    lease: LeaseId::new(number(line.word(2)?.trim_start_matches('l'))?),
                    epoch: Epoch::new(line.small("epoch", 1)?),
                    cpu: MilliCores::ZERO,
                    status: Status::Ended(Outcome::Completed, None),
                },
            },
            _ => {
                let node = self.node(line.word(2)?)?;
                Report::Sample { node, sample: self.sample(node, line)? }
            }
        })
    }

    fn sample(&self, node: NodeId, line: &Line<'_>) -> Result<Sample, String> {
        let percent = |key: &str| -> Result<u16, String> {
            u16::try_from(line.small(key, 0)?).map_err(|e| e.to_string())
        };
        let gpus = self.world.grid.state().nodes[node].gpus.len();
        let mut sample = load(percent("cpu")?, percent("mem")?, gpus);
        for (i, gpu) in sample.gpus.iter_mut().enumerate() {
            gpu.busy = BasisPoints::percent(percent(&format!("gpu{i}"))?);
            gpu.foreign = line.has(&format!("foreign{i}"));
            let leased = format!("leased{i}");
            if line.values.contains_key(leased.as_str()) {
                gpu.leased = Some(BasisPoints::percent(percent(&leased)?));
            }
        }
        Ok(sample)
    }

    fn request(&self, line: &Line<'_>) -> Result<Request, String> {
        let word = line.word(1)?;
        Ok(match word {
            "cancel" | "hold" | "release" | "requeue" | "suspend" | "resume" => {
                let (account, job) = (self.account(line.word(2)?)?, self.job(line.word(3)?)?);
                match word {
                    "cancel" => Request::CancelJob { account, job },
                    "hold" => Request::HoldJob { account, job },
                    "suspend" => Request::SuspendJob { account, job },
                    "resume" => Request::ResumeJob { account, job },
                    "requeue" => Request::RequeueJob { account, job },
                    _ => Request::ReleaseJob { account, job },
                }
            }
            "drain" => Request::Drain {
                node: self.node(line.word(2)?)?,
                reason: String::from("a script says so"),
            },
            "undrain" => Request::Undrain { node: self.node(line.word(2)?)? },
            "grant" => Request::Grant {
                account: self.account(line.word(2)?)?,
                amount: MicroAtp::whole(number(line.word(3)?)?),
            },
            "deposit" => Request::Deposit {
                account: self.account(line.word(2)?)?,
                amount: MicroAtp::whole(number(line.word(3)?)?),
            },
            "configure" => {
                let mut changed = self.world.grid.state().rules.clone();
                let words = line.words.iter().skip(1).copied().collect();
                rules(&mut changed, &Line { words, values: line.values.clone() })?;
                Request::Configure(Box::new(changed))
            }
            other => return Err(format!("{other} is nothing that can happen")),
        })
    }
}
