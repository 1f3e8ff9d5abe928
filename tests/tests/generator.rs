//! The generator itself: every class of command, refusal, effect and eviction occurs.

use gridcore::command::{Command, Report, Request};
use gridcore::deny::Denied;
use gridcore::effect::{Effect, EvictionReason, FinalState, OfferFate, TransferKind};
use gridcore::wire::{Order, Status};
use gridtests::generate::{Op, Profile, case};
use gridtests::run::{property, record};
use gridtests::world::{Checks, World};
use std::cell::RefCell;
use std::collections::BTreeMap;

type Seen = BTreeMap<String, u64>;

fn command(command: &Command) -> &'static str {
    match command {
        Command::Wake => "wake",
        Command::Numbered(_) => "numbered",
        Command::Report(Report::Message(_) | Report::Restarted | Report::Stopping) => {
            "over a network"
        }
        Command::Request(Request::SubmitJob { .. }) => "submit",
        Command::Request(Request::CancelJob { .. }) => "cancel",
        Command::Request(Request::HoldJob { .. }) => "hold",
        Command::Request(Request::ReleaseJob { .. }) => "release",
        Command::Request(Request::RequeueJob { .. }) => "requeue",
        Command::Request(Request::SuspendJob { .. }) => "suspend",
        Command::Request(Request::ResumeJob { .. }) => "resume",
        Command::Request(Request::Deposit { .. }) => "deposit",
        Command::Request(Request::Grant { .. }) => "grant",
        Command::Request(Request::Drain { .. }) => "drain",
        Command::Request(Request::Undrain { .. }) => "undrain",
        Command::Request(Request::Configure(_)) => "configure",
        Command::Report(Report::Sample { .. }) => "sample",
        Command::Report(Report::NodeDown { .. }) => "node down",
        Command::Report(Report::NodeUp { .. }) => "node up",
        Command::Report(Report::Lease { item, .. }) => match item.status {
            Status::Running => "goes on",
            Status::Paused => "paused",
            Status::Leaving(..) => "leaving",
            Status::Stuck(_) => "stuck",
            Status::Ended(..) => "ended",
        },
        Command::Report(Report::Lending { .. }) => "lending",
    }
}

/// The names of all refusals that a generated history can reach. Not `Full`: the list of jobs holds
/// four million.
const DENIALS: [&str; 17] = [
    "NoAccount",
    "NoPool",
    "NoNode",
    "NoJob",
    "NotYours",
    "Empty",
    "Range",
    "NoMatchingNode",
    "OverQuota",
    "Busy",
    "WrongState",
    "Config",
    "TooRich",
    "TreasuryShort",
    "NoPlaceThen",
    "TooManyRequests",
    "Range members",
];

fn denial(denied: &Denied) -> String {
    String::from(match denied {
        Denied::NoAccount(_) => "NoAccount",
        Denied::NoPool(_) => "NoPool",
        Denied::NoNode(_) => "NoNode",
        Denied::NoJob(_) => "NoJob",
        Denied::NotYours { .. } => "NotYours",
        Denied::Empty => "Empty",
        Denied::Range { what, .. } if what == "members" => "Range members",
        Denied::Range { .. } => "Range",
        Denied::NoMatchingNode { .. } => "NoMatchingNode",
        Denied::OverQuota { .. } => "OverQuota",
        Denied::OverBudget { .. } => "OverBudget",
        Denied::Busy(_) => "Busy",
        Denied::Full { .. } => "Full",
        Denied::TooManyRequests { .. } => "TooManyRequests",
        Denied::WrongState { .. } => "WrongState",
        Denied::Config(_) => "Config",
        Denied::TooRich { .. } => "TooRich",
        Denied::TreasuryShort { .. } => "TreasuryShort",
        Denied::TooOld { .. } => "TooOld",
        Denied::NoPlaceThen { .. } => "NoPlaceThen",
    })
}

fn effect(effect: &Effect) -> Vec<String> {
    match effect {
        Effect::Granted { .. } => vec![String::from("granted")],
        Effect::Resized { .. } => vec![String::from("resized")],
        Effect::Evicted { .. } => vec![String::from("evicted")],
        Effect::Order { order, .. } => vec![String::from(match order {
            Order::Start(_) => "order start",
            Order::Extend { .. } => "order extend",
            Order::Leave { .. } => "order leave",
            Order::Watch(_) => "order watch",
            Order::Kill(..) | Order::Forget(..) => "order over a network",
        })],
        Effect::Send { .. } => vec![String::from("send")],
        Effect::Closed(end) => vec![end.reason.map_or_else(
            || String::from("closed by itself"),
            |reason| format!("closed {}", reason.name()),
        )],
        Effect::Finished(end) => vec![format!("finished {:?}", end.state)],
        Effect::Requeued { reason, .. } => vec![format!("requeued {}", reason.name())],
        Effect::Idle(_) => vec![String::from("idle")],
        Effect::Drained { .. } => vec![String::from("drained")],
        Effect::Moved(t) => vec![format!("moved {}", t.kind.name())],
        Effect::Offer { fate, .. } => vec![format!("offer {fate:?}")],
    }
}

fn count(world: &World, seen: &mut Seen) {
    let mut note = |name: String| *seen.entry(name).or_insert(0) += 1;
    for entry in &world.entries {
        note(String::from(command(&entry.command)));
    }
    for denied in &world.denials {
        note(format!("denied {}", denial(denied)));
    }
    for (_, what) in &world.effects {
        effect(what).into_iter().for_each(&mut note);
    }
    if world.grid.state().stale_reports > 0 {
        note(String::from("stale"));
    }
    for job in world.grid.state().jobs.values() {
        note(format!("left {}", job.state.name()));
    }
}

/// What else a generated history must show.
const SHOWN: &str = "\
    wake,submit,cancel,hold,release,suspend,resume,requeue,deposit,grant,drain,undrain,configure,\
    sample,node down,node up,ended,leaving,paused,goes on,lending,granted,resized,evicted,\
    order start,order leave,order watch,closed by itself,stale,left pending,left held,\
    left dependent,order extend,left reserved,left running,idle";

fn expected() -> Vec<String> {
    let mut out: Vec<String> = SHOWN.split(',').map(String::from).collect();
    out.extend(DENIALS.map(|name| format!("denied {name}")));
    // The others need a network, or are what other members of a gang are told.
    let others = [EvictionReason::QuotaReclaim, EvictionReason::IdleTimeout];
    let reasons = EvictionReason::ALL.into_iter().take(6).chain(others);
    out.extend(reasons.map(|reason| format!("closed {}", reason.name())));
    let back = [
        EvictionReason::OwnerReturn,
        EvictionReason::PriorityPreemption,
        EvictionReason::BudgetExhausted,
        EvictionReason::NodeFailure,
        EvictionReason::QuotaReclaim,
    ];
    out.extend(back.map(|reason| format!("requeued {}", reason.name())));
    let ends = [
        FinalState::Completed,
        FinalState::Failed,
        FinalState::Timeout,
        FinalState::Cancelled,
        FinalState::Preempted,
        FinalState::NodeFail,
        FinalState::OutOfBudget,
    ];
    out.extend(ends.map(|end| format!("finished {end:?}")));
    let kinds = [
        TransferKind::Deposit,
        TransferKind::Award,
        TransferKind::Grant,
        TransferKind::Newcomer,
        TransferKind::Decay,
        TransferKind::Overflow,
        TransferKind::Hold,
        TransferKind::Restore,
        TransferKind::Settle,
        TransferKind::Fee,
        TransferKind::Refund,
    ];
    out.extend(kinds.map(|kind| format!("moved {}", kind.name())));
    let fates = [OfferFate::Opened, OfferFate::Leased, OfferFate::Withdrawn, OfferFate::Revoked];
    out.extend(fates.map(|fate| format!("offer {fate:?}")));
    out
}

#[test]
fn every_class_of_everything_occurs_in_generated_histories() {
    let name = "every_class_of_everything_occurs_in_generated_histories";
    let seen: RefCell<Seen> = RefCell::default();
    property(name, 3_000, &case(Profile::ALL), |case, counts| {
        let world = case.play(Checks::Off);
        count(&world, &mut seen.borrow_mut());
        counts.case(world.entries.len());
        Ok(())
    });
    let seen = seen.into_inner();
    let missing: Vec<String> =
        expected().into_iter().filter(|name| !seen.contains_key(name)).collect();
    assert!(missing.is_empty(), "never generated: {missing:?}\nseen: {seen:#?}");
    for (what, times) in &seen {
        record("class", &what.replace(' ', "_"), *times, 0);
    }
}

#[test]
fn the_same_seed_generates_the_same_histories() {
    let texts: RefCell<Vec<String>> = RefCell::default();
    for _ in 0..2 {
        let name = "the_same_seed_generates_the_same_histories";
        let all: RefCell<String> = RefCell::default();
        property(name, 20, &case(Profile::ALL), |case, counts| {
            counts.case(case.ops.iter().filter(|op| !matches!(op, Op::Wait(_))).count());
            all.borrow_mut().push_str(&format!("{case:?}"));
            Ok(())
        });
        texts.borrow_mut().push(all.into_inner());
    }
    let texts = texts.into_inner();
    assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "two runs differ");
}
