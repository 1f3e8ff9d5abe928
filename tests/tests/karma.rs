//! The order `karma` against its published figures and laws, through the whole core: jobs of one
//! core whose limit is the quantum, asked for anew in each (Vuppalapati et al., OSDI 2023; RULES.md
//! invariant 33).

use gridcore::command::Request;
use gridcore::config::Order;
use gridcore::ids::{AccountId, JobId, NodeId};
use gridcore::jobs::JobState;
use gridcore::state::mix;
use gridcore::units::{Ppm, Span, Time};
use gridtests::cluster::{Cluster, cpu_job};
use gridtests::run::{property, record};
use gridtests::world::{Checks, Work, World};
use proptest::collection::vec;
use proptest::prop_assert_eq;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const QUANTUM: Span = Span::seconds(60);

/// What each user wants, quantum by quantum, in slices.
type Demands = Vec<Vec<u32>>;

/// A cluster of so many slices, of which some are shared.
struct Setting {
    slices: u32,
    shared: u32,
    initial: u64,
    checks: Checks,
}

/// What each user had in each quantum, and its credits when the quantum began.
struct Schedule {
    held: Demands,
    credits: Vec<Vec<i128>>,
}

impl Setting {
    fn world(&self, users: usize) -> World {
        let cluster = (1..users).fold(Cluster::new(), |c, i| c.account(&format!("u{i}"), 0));
        let part = u64::from(self.slices - self.shared) * 1_000_000 / u64::from(self.slices);
        let cluster = cluster.dedicated(1, self.slices, 1).rules(|rules| {
            rules.scheduling.order = Order::Karma;
            rules.scheduling.karma.quantum = QUANTUM;
            rules.scheduling.karma.guaranteed = Ppm::new(u32::try_from(part).unwrap_or(0));
            rules.scheduling.karma.initial = self.initial;
        });
        World::new(cluster.config, self.checks)
    }

    /// Plays every quantum: while the machine takes nothing new, what waited is taken back and
    /// everybody asks anew; then all start in one pass.
    fn play(&self, demands: &Demands) -> Schedule {
        let users = demands.len();
        let mut world = self.world(users);
        let (node, mut held, mut credits) = (NodeId::new(0), vec![vec![]; users], vec![]);
        let closed = Request::Drain { node, reason: "until a quantum begins".into() };
        for quantum in 0..demands[0].len() {
            world.run_to(Time::ZERO.after(Span::new(QUANTUM.get() * quantum as u64)));
            if quantum == 0 {
                ask(&mut world, closed.clone());
            }
            let state = world.grid.state();
            let waits: Vec<(AccountId, JobId)> =
                state.jobs.iter().map(|(id, job)| (job.account, id)).collect();
            credits.push(user_ids(users).map(|u| state.karma.credits(u).unwrap_or(0)).collect());
            for (account, job) in waits {
                ask(&mut world, Request::CancelJob { account, job });
            }
            let mut job = cpu_job(1);
            job.limit = Some(QUANTUM);
            for (user, wanted) in user_ids(users).zip(demands) {
                for _ in 0..wanted[quantum] {
                    assert!(world.submit(user, &job, Work::seconds(1_000)).is_ok());
                }
            }
            ask(&mut world, Request::Undrain { node });
            ask(&mut world, closed.clone());
            let mut counts: BTreeMap<AccountId, u32> = BTreeMap::new();
            for job in world.grid.state().jobs.values() {
                let runs = matches!(job.state, JobState::Running(_));
                *counts.entry(job.account).or_insert(0) += u32::from(runs);
            }
            for (user, held) in user_ids(users).zip(&mut held) {
                held.push(counts.get(&user).copied().unwrap_or(0));
            }
        }
        Schedule { held, credits }
    }
}

fn user_ids(users: usize) -> impl Iterator<Item = AccountId> {
    (0..u32::try_from(users).unwrap_or(0)).map(AccountId::new)
}

fn ask(world: &mut World, request: Request) {
    let answer = world.request(request);
    assert!(answer.is_ok(), "{answer:?}");
}

/// Shares slices by max-min fairness, one at a time to who has least.
fn max_min(demands: &Demands, slices: u32) -> Demands {
    let (users, quanta) = (demands.len(), demands[0].len());
    let mut out = vec![vec![0; quanta]; users];
    for quantum in 0..quanta {
        for _ in 0..slices {
            let open = (0..users).filter(|user| out[*user][quantum] < demands[*user][quantum]);
            let Some(user) = open.min_by_key(|user| out[*user][quantum]) else { break };
            out[user][quantum] += 1;
        }
    }
    out
}

/// The published schedules: what goes in, what every user has, and its credits at each start.
const SAMPLE: &str = r#"[
{"id": "karma_three_users_six_slices", "slices": 6, "shared_slices": 3, "initial_credits": 6,
 "demand": {"A": [2, 4, 0, 2, 2], "B": [2, 0, 4, 2, 2], "C": [0, 0, 0, 6, 4]},
 "expect": {"karma": {"A": [2, 4, 0, 1, 1], "B": [2, 0, 4, 1, 1], "C": [0, 0, 0, 4, 4]},
  "max_min": {"A": [2, 4, 0, 2, 2], "B": [2, 0, 4, 2, 2], "C": [0, 0, 0, 2, 2]},
  "credits_at_quantum_start":
   {"A": [7, 7, 5, 7, 10], "B": [7, 7, 9, 7, 10], "C": [7, 9, 11, 13, 13]}}},
{"id": "karma_readme_example", "slices": 6, "shared_slices": 3, "initial_credits": 999999999999,
 "demand": {"A": [4, 0, 2], "B": [1, 3, 2], "C": [1, 0, 5]},
 "expect": {"karma": {"A": [4, 0, 1], "B": [1, 3, 1], "C": [1, 0, 4]},
  "max_min": {"A": [4, 0, 2], "B": [1, 3, 2], "C": [1, 0, 2]},
  "credits_at_quantum_start": {"A": [1000000000000, 999999999998, 1000000000000],
   "B": [1000000000000, 1000000000001, 1000000000000],
   "C": [1000000000000, 1000000000001, 1000000000003]}}}]"#;

/// Reads one row of numbers per user.
fn rows<T: TryFrom<u64>>(value: &Value) -> Vec<Vec<T>> {
    let number = |n: &Value| n.as_u64().and_then(|n| T::try_from(n).ok());
    let row = |row: &Value| row.as_array().into_iter().flatten().filter_map(number).collect();
    value.as_object().into_iter().flat_map(|users| users.values()).map(row).collect()
}

/// Returns the published schedules: those of the conformance file where it is there too.
fn published() -> Vec<Value> {
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let mut out: Vec<Value> = parse(SAMPLE).as_array().cloned().unwrap_or_default();
    assert_eq!(out.len(), 2);
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/conformance/credit_anchors.json");
    let text = std::fs::read_to_string(file).unwrap_or_else(|_| String::from("{}"));
    let anchors = parse(&text)["anchors"].as_array().cloned().unwrap_or_default();
    out.extend(anchors.into_iter().filter(|anchor| anchor["kind"] == "karma_schedule"));
    out
}

#[test]
fn the_published_schedules_come_out_slice_by_slice() {
    let all = published();
    for vector in &all {
        let number = |key: &str| vector[key].as_u64().unwrap_or(0);
        let small = |key: &str| u32::try_from(number(key)).unwrap_or(0);
        let (slices, shared) = (small("slices"), small("shared_slices"));
        let setting =
            Setting { slices, shared, initial: number("initial_credits"), checks: Checks::Every };
        let demands: Demands = rows(&vector["demand"]);
        let (id, expect) = (&vector["id"], &vector["expect"]);
        let schedule = setting.play(&demands);
        assert_eq!(schedule.held, rows::<u32>(&expect["karma"]), "{id}");
        assert_eq!(max_min(&demands, slices), rows::<u32>(&expect["max_min"]), "{id}");
        let credits: Vec<Vec<i128>> = rows(&expect["credits_at_quantum_start"]);
        for (user, credits) in credits.iter().enumerate() {
            let had: Vec<i128> = schedule.credits.iter().map(|row| row[user]).collect();
            let want: Vec<i128> = credits.iter().map(|credits| credits * 1_000).collect();
            assert_eq!(had, want, "{id}: credits of user {user}");
        }
    }
    let name = "the_published_schedules_come_out_slice_by_slice";
    record("karma", name, all.len() as u64, 0);
}

#[test]
fn with_ample_credit_karma_hands_out_as_much_as_max_min() {
    let name = "with_ample_credit_karma_hands_out_as_much_as_max_min";
    let demands = vec(vec(0..7_u32, 6), 2..5);
    property(name, 40, &(demands, 0..9_u32), |(demands, shared), counts| {
        let setting = Setting { slices: 8, shared, initial: 1_000, checks: Checks::Off };
        let total = |held: &Demands| -> Vec<u32> {
            (0..6).map(|quantum| held.iter().map(|row| row[quantum]).sum()).collect()
        };
        let (karma, fair) = (setting.play(&demands).held, max_min(&demands, 8));
        prop_assert_eq!(total(&karma), total(&fair));
        counts.case(demands.iter().flatten().map(|wanted| *wanted as usize).sum());
        Ok(())
    });
}

#[test]
fn over_bursts_karma_is_fairer_than_max_min_and_that_than_fixed_parts() {
    let (users, slices, quanta) = (6_u64, 12, 120_u64);
    // Everybody wants as much in the long run, some evenly and some in bursts.
    let wanted = |user: u64, quantum: u64| {
        let every = 1 + user * 2;
        let now = mix(user, quantum).is_multiple_of(every);
        if now { u32::try_from(3 * every).unwrap_or(0) } else { 0 }
    };
    let demands: Demands =
        (0..users).map(|user| (0..quanta).map(|q| wanted(user, q)).collect()).collect();
    let fixed: Demands =
        demands.iter().map(|row| row.iter().map(|wanted| (*wanted).min(2)).collect()).collect();
    let setting = Setting { slices, shared: 6, initial: 100_000, checks: Checks::Off };
    let evenness = |held: &Demands| {
        let totals: Vec<u64> =
            held.iter().map(|row| row.iter().copied().map(u64::from).sum()).collect();
        let (least, most) = (totals.iter().min(), totals.iter().max());
        least.copied().unwrap_or(0) * 1_000 / most.copied().unwrap_or(1)
    };
    let karma = setting.play(&demands).held;
    let all = [evenness(&fixed), evenness(&max_min(&demands, slices)), evenness(&karma)];
    assert!(all.is_sorted_by(|a, b| a < b), "least of most, in thousandths: {all:?}");
    let name = "over_bursts_karma_is_fairer_than_max_min_and_that_than_fixed_parts";
    record("karma", name, 1, quanta);
}
