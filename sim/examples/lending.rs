//! What the four policies lend of owners' load, beside an oracle and two plain rules.
//!
//! `cargo run --release -p gridsim --example lending -- [cpu=FILE ..] [gpu=FILE ..]`: one table for each
//! series of machines, in Markdown; without files, of the project's own generators. At every sample a
//! rule offers what it would; an interval is harmed when owner and offer exceed the machine until the
//! horizon of 300 s has passed. The oracle knows the owner's highest use until then. Offers are judged
//! as if nothing limited their growth: a run of `scenarios/owner-load.yaml` has that, too.
#![expect(clippy::print_stdout, reason = "the table is the result")]

use gridcore::config::{Balance, Policy};
use gridcore::forecast::Forecast;
use gridcore::units::{Span, Time};
use gridsim::generate::load::LoadGenerator;
use gridsim::trace::series::{Resource, detect, loads};
use gridsim::work::LoadSeries;
use std::path::Path;

/// The whole machine, in basis points.
const ALL: u64 = 10_000;
/// What is never lent of its CPU.
const BUFFER: u64 = 500;
/// No CPU is lent while less than this is predicted to be left over.
const EXCESS: u64 = 2_000;
/// A GPU is lent while its predicted use is below this.
const GATE: u64 = 2_000;

/// A rule that says what to offer.
#[derive(Clone, Copy)]
enum Rule {
    /// One of the core's policies.
    Core(Policy),
    /// All above 30 % while the owner uses less than 30 %; a GPU while it is used less than 20 %.
    Idle,
    /// The last use and 20 points are kept free.
    LastAndTwenty,
}

const RULES: [(&str, Rule); 6] = [
    ("conservative", Rule::Core(Policy::Conservative)),
    ("balanced", Rule::Core(Policy::Balanced)),
    ("aggressive", Rule::Core(Policy::Aggressive)),
    ("predictive", Rule::Core(Policy::Predictive)),
    ("idle rule", Rule::Idle),
    ("last + 20 points", Rule::LastAndTwenty),
];

/// What came of a rule.
#[derive(Clone, Copy, Default)]
struct Sums {
    offers: u64,
    harmed: u64,
    intervals: u64,
    overshoot: u64,
    lent: u64,
    oracle: u64,
}

/// Returns what a rule offers of a machine whose predicted or last use is `kept`.
fn offer(rule: Rule, last: u64, kept: u64, gpu: bool) -> u64 {
    match rule {
        Rule::Core(_) if gpu => {
            if kept < GATE {
                ALL
            } else {
                0
            }
        }
        Rule::Core(_) if ALL - kept < EXCESS => 0,
        Rule::Core(_) => (ALL - kept).saturating_sub(BUFFER),
        Rule::Idle if gpu => {
            if last < GATE {
                ALL
            } else {
                0
            }
        }
        Rule::Idle => {
            if last < 3_000 {
                7_000
            } else {
                0
            }
        }
        // A GPU is lent whole or not at all.
        Rule::LastAndTwenty if gpu => {
            if last + 2_000 <= GATE {
                ALL
            } else {
                0
            }
        }
        Rule::LastAndTwenty => ALL.saturating_sub(last + 2_000),
    }
}

/// Lets a rule offer at every sample of one machine.
fn play(rule: Rule, series: &LoadSeries, gpu: bool, sums: &mut Sums) {
    let policy = if let Rule::Core(policy) = rule { policy } else { Policy::Balanced };
    let balance = Balance { policy, monitoring_interval: series.step, ..Balance::default() };
    let ahead = usize::try_from(balance.horizon.get().div_ceil(series.step.get())).unwrap_or(1);
    let (mut forecast, mut until, mut before) = (Forecast::default(), None, Time::ZERO);
    for (i, value) in series.values.iter().enumerate() {
        let now = Time::ZERO.after(Span::new(series.step.get() * i as u64));
        forecast.change(*value, before, now, &balance);
        forecast.repeat(1, now, &balance);
        before = now;
        if until.is_none_or(|until| now >= until) {
            if until.is_some() {
                forecast.resolve(&balance);
            }
            forecast.predict(now, &balance);
            until = Some(now.after(balance.horizon));
        }
        let next = series.values.iter().skip(i + 1).take(ahead).max();
        let Some(next) = next.map(|next| u64::from(next.capped().get())) else { break };
        let last = u64::from(value.capped().get());
        let offered = offer(rule, last, u64::from(forecast.peak(now, &balance).get()), gpu);
        let peak = next.max(last);
        sums.intervals += 1;
        sums.lent += offered;
        sums.oracle += match gpu {
            true if peak < GATE => ALL,
            true => 0,
            false => ALL.saturating_sub(peak + BUFFER),
        };
        if offered > 0 {
            sums.offers += 1;
            let over = if gpu && next < GATE { 0 } else { (next + offered).saturating_sub(ALL) };
            sums.harmed += u64::from(over > 0);
            sums.overshoot += over;
        }
    }
}

/// Returns a part in percent with two decimals.
fn percent(part: u64, whole: u64) -> String {
    let hundredths = (u128::from(part) * 10_000 + u128::from(whole) / 2) / u128::from(whole.max(1));
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Prints the table of one set of machines.
fn table(name: &str, machines: &[&LoadSeries], gpu: bool) {
    println!("\n**{name}** ({} machines)\n", machines.len());
    println!("| rule | harmed intervals % | overshoot % | lent / oracle % |\n|---|--:|--:|--:|");
    for (label, rule) in RULES {
        let mut sums = Sums::default();
        machines.iter().for_each(|series| play(rule, series, gpu, &mut sums));
        if sums.lent == 0 {
            println!("| {label} | lends nothing | | |");
            continue;
        }
        let harmed = percent(sums.harmed, sums.offers);
        let over = percent(sums.overshoot, sums.intervals * ALL);
        println!("| {label} | {harmed} | {over} | {} |", percent(sums.lent, sums.oracle));
    }
}

/// Prints the tables of the project's own generators.
fn own() -> anyhow::Result<()> {
    for (name, gpu) in [("planetlab_like", false), ("duty_cycle", true)] {
        let key = if gpu { "gpu" } else { "cpu" };
        let generator: LoadGenerator = serde_saphyr::from_str(&format!("{key}: {name}"))?;
        let machines = (0..500).map(|machine| generator.load(1, machine, Span::minutes(24 * 60)));
        let machines = machines.collect::<Result<Vec<_>, _>>()?;
        let series = machines.iter().map(|load| if gpu { &load.gpu } else { &load.cpu });
        table(name, &series.collect::<Vec<_>>(), gpu);
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.is_empty() {
        return own();
    }
    for arg in args {
        let named = arg.split_once('=').filter(|(kind, _)| ["cpu", "gpu"].contains(kind));
        let (kind, file) =
            named.ok_or_else(|| anyhow::anyhow!("{arg}: say cpu=FILE or gpu=FILE"))?;
        let (path, gpu) = (Path::new(file), kind == "gpu");
        let resource = if gpu { Resource::Gpu } else { Resource::Cpu };
        let machines = loads(path, detect(path)?, resource)?;
        let series = machines.iter().map(|load| if gpu { &load.gpu } else { &load.cpu });
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        table(&name, &series.collect::<Vec<_>>(), gpu);
    }
    Ok(())
}
