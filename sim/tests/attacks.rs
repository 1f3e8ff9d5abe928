//! Attacks on the credit, each beside its honest twin: `scenarios/attacks/*.yaml`.
//!
//! Both are runs of one file; its comments say who attacks, what the honest do instead, and what
//! the attack may gain at most:
//!
//! ```yaml
//! # attacker: NAME, NAME ..         accounts in one hand
//! # honest: key.path=value          as after `--set`; one a line
//! # sham: JOB                       its work is of no use to anybody; so is that of `JOB-1` and on
//! # keeps: JOB                      it loses nothing of its work, whatever it declares
//! # epsilon: MEASURE N - why        one a line, in the units of the report
//! ```
//!
//! `UPDATE=1 cargo nextest run -p gridsim --test attacks` writes `reports/attacks.md` anew.

mod common;

use gridcore::bundle::Bundle;
use gridcore::epoch::value;
use gridcore::units::Span;
use gridsim::json::fixed;
use gridsim::record::JobRow;
use gridsim::run::{Keep, simulate};
use gridsim::scenario::load;
use gridsim::world::Finished;
use rayon::prelude::*;
use std::fmt::Write;
use std::path::PathBuf;

/// Every attack and every twin is run with each of these seeds.
const SEEDS: [u64; 3] = [1, 2, 3];

/// The attacks, in the order of the design.
const ATTACKS: [&str; 14] = [
    "free-rider",
    "wash-trader",
    "accomplice",
    "sybil",
    "burst",
    "tiny-events",
    "price-pump",
    "price-pump-captive",
    "stale-replay",
    "collusion",
    "crash",
    "false-capacity",
    "reputation-farming",
    "parked-in-holds",
];

/// What an attacker is after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    /// Credit in hand at the end less what was deposited, and the value of the work done.
    Credit,
    /// The value of the work done.
    Work,
    /// How long a job of anybody else waited on average.
    Wait,
    /// The reputation of the accounts and of their machines.
    Reputation,
}

impl Measure {
    fn named(name: &str) -> Option<Self> {
        let all = [Self::Credit, Self::Work, Self::Wait, Self::Reputation];
        all.into_iter().find(|measure| measure.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Credit => "credit",
            Self::Work => "work",
            Self::Wait => "wait",
            Self::Reputation => "reputation",
        }
    }

    /// Writes a figure in millionths of its unit: whole ATP, or three places.
    fn show(self, figure: i128) -> String {
        match self {
            Self::Credit | Self::Work => grouped((figure + 500_000).div_euclid(1_000_000)),
            Self::Wait | Self::Reputation => {
                let text = fixed((figure + 500).div_euclid(1_000) * 1_000);
                text.strip_suffix("000").unwrap_or(&text).to_owned()
            }
        }
    }
}

/// Writes an integer with a comma before every three digits.
fn grouped(number: i128) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::from(if number < 0 { "-" } else { "" });
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The most that an attack may gain over its twin.
struct Claim {
    measure: Measure,
    /// In millionths of the measure's unit.
    epsilon: i128,
    why: String,
}

/// What the comments of a scenario say.
#[derive(Default)]
struct Attack {
    attackers: Vec<String>,
    honest: Vec<String>,
    sham: Vec<String>,
    keeps: Vec<String>,
    claims: Vec<Claim>,
}

impl Attack {
    fn read(name: &str) -> Self {
        let text = std::fs::read_to_string(path(name)).expect("the scenario is there");
        let mut attack = Self::default();
        for line in text.lines() {
            let said = line.strip_prefix("# ").and_then(|comment| comment.split_once(": "));
            let Some((key, said)) = said else { continue };
            let names = || said.split(", ").map(str::to_owned);
            match key {
                "attacker" => attack.attackers.extend(names()),
                "honest" => attack.honest.push(said.to_owned()),
                "sham" => attack.sham.extend(names()),
                "keeps" => attack.keeps.extend(names()),
                "epsilon" => attack.claims.push(claim(said)),
                _ => {}
            }
        }
        let whole = [attack.attackers.len(), attack.honest.len(), attack.claims.len()];
        assert!(!whole.contains(&0), "{name} says who attacks, the honest twin and an epsilon");
        attack
    }

    /// Returns what the attackers have of what they are after, in millionths of its unit.
    fn gain(&self, run: &Finished, measure: Measure) -> i128 {
        let state = run.grid.state();
        let ours = |id: u32| {
            run.record.accounts.get(id as usize).is_some_and(|name| self.attackers.contains(name))
        };
        let accounts = || state.ledger.accounts.iter().filter(|(id, _)| ours(id.get()));
        assert!(accounts().count() > 0, "no attacker is an account");
        let jobs = || run.record.jobs.iter().filter(|job| ours(job.account));
        match measure {
            Measure::Credit => {
                let in_hand = accounts()
                    .map(|(_, row)| i128::from(row.balance().get()) - signed(row.deposited));
                in_hand.sum::<i128>() + self.gain(run, Measure::Work)
            }
            Measure::Work => {
                let useful = jobs().filter(|job| !is_one_of(job, &self.sham));
                useful.map(|job| self.work(job, run)).sum()
            }
            Measure::Wait => {
                let others = || run.record.jobs.iter().filter(|job| !ours(job.account));
                let waits: u128 = others().map(|job| u128::from(job.wait.get())).sum();
                signed(waits * 1_000 / (others().count() as u128).max(1))
            }
            Measure::Reputation => {
                let nodes = state.nodes.iter().filter(|(_, node)| ours(node.spec.owner.get()));
                let nodes = nodes.map(|(_, node)| node.reputation.at(state.now));
                let all = accounts().map(|(_, row)| row.standing.get()).chain(nodes);
                all.map(|reputation| i128::from(reputation.get())).sum()
            }
        }
    }

    /// Returns what the work that a job has done is worth at the rates, on whoever's machines.
    fn work(&self, job: &JobRow, run: &Finished) -> i128 {
        let lost = if is_one_of(job, &self.keeps) { Span::ZERO } else { job.lost };
        let (cpu, memory, gpu) = (job.needs.cpu, job.needs.memory, job.needs.gpu);
        let needs = Bundle { cpu, memory, gpu, ..Bundle::ZERO };
        let rates = &run.grid.state().rules.atp.rates;
        signed(value(&needs, job.run.saturating_sub(lost), rates))
    }
}

fn signed(number: u128) -> i128 {
    i128::try_from(number).expect("no figure is that large")
}

/// Returns whether a job, or the array that it is a part of, has one of these names.
fn is_one_of(job: &JobRow, names: &[String]) -> bool {
    let whole = job.name.rsplit_once('-').map_or(&*job.name, |(whole, _)| whole);
    names.iter().any(|name| **name == *job.name || name == whole)
}

/// Reads `MEASURE N - why`.
fn claim(said: &str) -> Claim {
    let (figure, why) = said.split_once(" - ").expect("an epsilon has a reason");
    let (measure, epsilon) = figure.split_once(' ').expect("an epsilon is of a measure");
    let measure = Measure::named(measure).unwrap_or_else(|| panic!("{measure} is no measure"));
    let (whole, part) = epsilon.split_once('.').unwrap_or((epsilon, ""));
    let epsilon: i128 = format!("{whole}{part:0<6}").parse().expect("an epsilon is a number");
    Claim { measure, epsilon, why: why.to_owned() }
}

fn path(name: &str) -> PathBuf {
    common::root().join("scenarios/attacks").join(format!("{name}.yaml"))
}

/// Runs an attack, or its twin, with one seed.
fn run(name: &str, sets: &[String], seed: u64) -> Finished {
    let loaded = load(&path(name), sets).unwrap_or_else(|why| panic!("{why}"));
    let outcome = simulate(&loaded, seed, &Keep::default(), |_| true);
    outcome.unwrap_or_else(|why| panic!("{name}, seed {seed}: {why}")).run
}

/// Runs an attack and its twin with every seed; returns its rows of the report, and what it gains
/// more than it may.
fn play(name: &str) -> (String, Vec<String>) {
    let attack = Attack::read(name);
    let pair = |seed: &u64| (run(name, &[], *seed), run(name, &attack.honest, *seed));
    let runs: Vec<(Finished, Finished)> = SEEDS.par_iter().map(pair).collect();
    for (bad, good) in &runs {
        assert_ne!(bad.grid.digest(), good.grid.digest(), "{name} is no attack: nothing differs");
        let missing = attack.attackers.iter().find(|who| !bad.record.accounts.contains(who));
        assert_eq!(missing, None, "{name}: who attacks has an account");
    }
    let (mut rows, mut over) = (String::new(), Vec::new());
    for Claim { measure, epsilon, why } in &attack.claims {
        let figures = |(bad, good): &(Finished, Finished)| {
            (attack.gain(bad, *measure), attack.gain(good, *measure))
        };
        let figures: Vec<(i128, i128)> = runs.iter().map(figures).collect();
        for ((bad, good), seed) in figures.iter().zip(SEEDS) {
            if bad - good > *epsilon {
                let [bad, good, most] = [*bad, *good, *epsilon].map(fixed);
                let seed = format!("--seed {seed}");
                over.push(format!("{name} {seed}: {bad} of {good} + {most} {}", measure.name()));
            }
        }
        let count = signed(figures.len() as u128);
        let honest = figures.iter().map(|(_, good)| good).sum::<i128>() / count;
        let gained = figures.iter().map(|(bad, _)| bad).sum::<i128>() / count;
        let most = figures.iter().map(|(bad, good)| bad - good).max().unwrap_or(0);
        let [honest, gained, most, epsilon] =
            [honest, gained, most, *epsilon].map(|figure| measure.show(figure));
        let written = writeln!(
            rows,
            "| {name} | {} | {honest} | {gained} | {most} | {epsilon} | {why} |",
            measure.name()
        );
        assert!(written.is_ok(), "a string takes every line");
    }
    (rows, over)
}

#[test]
fn no_attack_gains_more_than_its_honest_twin() {
    let played: Vec<(String, Vec<String>)> = ATTACKS.par_iter().map(|name| play(name)).collect();
    let over: Vec<&String> = played.iter().flat_map(|(_, over)| over).collect();
    assert!(over.is_empty(), "{over:#?}\nrun scenarios/attacks/NAME.yaml with and without --set");
    let rows: String = played.iter().map(|(rows, _)| rows.as_str()).collect();
    let report = format!("{HEAD}{rows}{TAIL}");
    let path = common::root().join("reports/attacks.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &report).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let changed: Vec<_> =
        golden.lines().zip(report.lines()).filter(|(old, new)| old != new).collect();
    assert!(
        golden == report,
        "{changed:#?}\nif this is meant: UPDATE=1 cargo nextest run -p gridsim --test attacks"
    );
}

#[test]
fn every_attack_is_played() {
    let files = std::fs::read_dir(common::root().join("scenarios/attacks")).unwrap();
    let mut names: Vec<String> = files
        .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let mut known = ATTACKS.map(str::to_owned);
    known.sort();
    assert_eq!(names, known, "scenarios/attacks and the list of attacks are the same");
}

/// What the report begins with.
const HEAD: &str = "\
# Attacks on the credit, each beside its honest twin

Each attack is a scenario in `scenarios/attacks/`, and its twin is the same file with what its comment `# honest:` sets; the comments
say who attacks, too. The figures are means over three seeds. *Most gained* is the largest difference of a seed, which
must not be above *epsilon* (`sim/tests/attacks.rs` runs all of them, and writes this page).

| measure | what the attackers have at the end, all their names together |
|---|---|
| credit | ATP in hand less what was deposited, and the value at the rates of the work that their jobs did, on others' machines and on their own; what evictions destroyed is no work, nor is a job that is there for the attack only |
| work | the second part of that alone: their share of the service |
| wait | seconds that a job of anybody else waited on average |
| reputation | of their accounts and of their machines, added up, each 0 to 1 |

| attack | measure | honest | attack | most gained | epsilon | why no more |
|---|---|--:|--:|--:|--:|---|
";

/// What the report ends with.
const TAIL: &str = "
## What is not stopped

- `accomplice`: who has two names is two accounts, and one term of one with the other proves a machine for a day. What is granted for
  it goes to all by weight; the gift for newcomers is given once. An administrator who gives names and weights is what stands against it.
- `price-pump-captive`: who can keep back enough of a pool that others cannot do without makes it dearer, by leasing it to himself or by
  not lending it. The highest price, 8, bounds it; `max_price` on jobs ends it (`price-pump`).
- `collusion`: both together save the fee, as one name that lends to itself does.
- `crash`: a term that ends in the half minute before a crash is known is paid, as it is before a return that comes so much later.
- `parked-in-holds`: what is held in full at the end of an epoch does not decay then; to hold it for .1 s costs as much.
";
