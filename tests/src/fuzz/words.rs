//! Samples of what may be asked and reported: every kind, and some that ask for what cannot be.

use super::ground::{NET, OWNER, config, jobs};
use super::samples::known;
use crate::cluster::{LAB, load};
use gridcore::command::{Command, JobSpec, LabelNeed, Numbered, Outcome, Report, Request, Sample};
use gridcore::config::{Backfill, Exhaustion, Lend, Policy, Pricing, Rules, Strategy, TaskClass};
use gridcore::ids::{JobId, NodeId, PoolId};
use gridcore::units::{BasisPoints, Bytes, MicroAtp, MilliCores, Ppm, Span};
use gridcore::wire::{EvictionReason, Item, Lending, Status};

/// Returns every kind of request, and some that ask for what cannot be.
pub(super) fn requests() -> Vec<(&'static str, Request)> {
    let name = |request: &Request| match request {
        Request::SubmitJob { .. } => "submit",
        Request::CancelJob { .. } => "cancel",
        Request::HoldJob { .. } => "hold",
        Request::ReleaseJob { .. } => "release",
        Request::RequeueJob { .. } => "requeue",
        Request::SuspendJob { .. } => "suspend",
        Request::ResumeJob { .. } => "resume",
        Request::Deposit { .. } => "deposit",
        Request::Grant { .. } => "grant",
        Request::Drain { .. } => "drain",
        Request::Undrain { .. } => "undrain",
        Request::Configure(_) => "configure",
    };
    let (account, node) = (LAB, NodeId::new(2));
    let mut out: Vec<Request> = jobs()
        .into_iter()
        .map(|(account, job)| Request::SubmitJob { account, job: Box::new(job) })
        .collect();
    let zone = LabelNeed { key: String::from("zone-name"), any_of: vec![String::from("a")] };
    let wanted = JobSpec { labels: vec![zone], preferred: vec![node], ..JobSpec::default() };
    let mut wanted = JobSpec { vacate: Some(Span::MAX), limit: Some(Span::MAX), ..wanted };
    wanted.needs.cpu = MilliCores::new(1);
    out.push(Request::SubmitJob { account: OWNER, job: Box::new(wanted.clone()) });
    let mut huge = JobSpec { members: 1_024, pool: PoolId::new(0), ..wanted };
    (huge.needs.cpu, huge.needs.memory) = (MilliCores::MAX, Bytes::MAX);
    out.push(Request::SubmitJob { account, job: Box::new(huge) });
    let mut later = JobSpec { after: [2, 6].map(JobId::new).to_vec(), ..JobSpec::default() };
    later.needs.cpu = MilliCores::new(1);
    out.push(Request::SubmitJob { account, job: Box::new(later) });
    for job in [1, 2, 6, 8, 1 << 40].map(JobId::new) {
        out.push(Request::CancelJob { account, job });
    }
    out.extend([
        Request::HoldJob { account, job: JobId::new(4) },
        Request::ReleaseJob { account, job: JobId::new(6) },
        Request::RequeueJob { account, job: JobId::new(2) },
        Request::SuspendJob { account, job: JobId::new(2) },
        Request::ResumeJob { account, job: JobId::new(2) },
        Request::Deposit { account, amount: MicroAtp::whole(1) },
        Request::Deposit { account, amount: MicroAtp::MAX },
        Request::Grant { account, amount: MicroAtp::new(1) },
        Request::Grant { account, amount: MicroAtp::MAX },
        Request::Drain { node, reason: String::from("dust") },
        Request::Drain { node: NodeId::new(9), reason: String::new() },
        Request::Undrain { node },
        Request::Configure(Box::new(config(true).rules)),
        Request::Configure(Box::new(strange_rules())),
    ]);
    out.into_iter().map(|request| (name(&request), request)).collect()
}

/// Returns rules with every list filled and every number far from its default.
pub(super) fn strange_rules() -> Rules {
    let mut rules = config(true).rules;
    rules.scheduling.strategy = Strategy::Fgd;
    rules.scheduling.backfill = Backfill::Strict;
    let gpus = gridcore::bundle::GpuNeed::whole(1);
    let models = vec![String::from("x")];
    let class = TaskClass { cpu: MilliCores::MAX, gpus, models, count: u32::MAX };
    rules.scheduling.fgd_classes = vec![class; 3];
    (rules.scheduling.seed, rules.balance.policy) = (u64::MAX, Policy::Predictive);
    (rules.balance.margin_step, rules.balance.samples_max) = (u16::MAX, 0);
    rules.balance.horizon = Span::MAX;
    rules.balance.excess_threshold = BasisPoints::MAX;
    rules.fair_share.weights = [u32::MAX; 3];
    (rules.atp.on_exhaustion, rules.atp.price) = (Exhaustion::Kill, Pricing::Dynamic);
    rules.atp.rates = [1; 12];
    (rules.atp.epoch, rules.atp.decay_half_life) = (Span::seconds(86_400), None);
    (rules.atp.grant_fraction, rules.atp.newcomer) = (Ppm::ONE, false);
    (rules.offering.suspend_max, rules.offering.lend) = (Span::MAX, Lend::Idle);
    rules.term.0 = Span::seconds(10);
    rules
}

/// Returns every kind of report.
fn reports() -> Vec<(&'static str, Report)> {
    let name = |report: &Report| match report {
        Report::Sample { .. } => "sample",
        Report::NodeDown { .. } => "node-down",
        Report::NodeUp { .. } => "node-up",
        Report::Lease { .. } => "lease",
        Report::Message(_) => "message",
        Report::Restarted => "restarted",
        Report::Stopping => "stopping",
        Report::Lending { .. } => "lending",
    };
    let node = NodeId::new(4);
    let (lease, epoch) = known(node).first().copied().unwrap_or_default();
    let sample = Sample { cpu: BasisPoints::MAX, ..load(0, 65, 3) };
    let said = NET.up.last().map(|message| Report::Message(Box::new(message.clone())));
    let status = Status::Ended(Outcome::Stopped, Some(EvictionReason::OwnerReturn));
    let item = |status| Item { lease, epoch, cpu: MilliCores::ZERO, status };
    let mut out = vec![
        Report::Sample { node, sample },
        Report::NodeDown { node },
        Report::NodeUp { node },
        Report::Lease { node, item: item(status) },
        Report::Lease { node, item: item(Status::Paused) },
        Report::Restarted,
        Report::Stopping,
        Report::Lending {
            node,
            lending: Lending { version: 1, open: false, gpus_max: 1, withheld: 2 },
        },
    ];
    out.extend(said);
    out.into_iter().map(|report| (name(&report), report)).collect()
}

/// Returns every kind of command.
pub(super) fn commands() -> Vec<(String, Command)> {
    let mut out: Vec<(String, Command)> = Vec::new();
    for (name, request) in requests() {
        out.push((format!("request-{name}"), Command::Request(request)));
    }
    let request = Box::new(Request::Undrain { node: NodeId::new(0) });
    let numbered = Numbered { client: 3, number: 1, request };
    out.push((String::from("numbered"), Command::Numbered(numbered)));
    for (name, report) in reports() {
        out.push((format!("report-{name}"), Command::Report(report)));
    }
    out.push((String::from("wake"), Command::Wake));
    out
}
