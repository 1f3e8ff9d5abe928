//! A made-up run that looks like a week in a laboratory: for tests of pictures and pages.

use gridcore::bundle::Bundle;
use gridcore::encode::Digest;
use gridcore::units::{BasisPoints, Bytes, MicroAtp, MilliCores, MilliGpus, Span, Time};
use gridsim::record::{
    Amounts, FillPoint, JobRow, JobState, LeaseRow, NodeRow, NodeSample, Nodes, Party, RunRecord,
    TimelineRow, TransferRow,
};

/// How large the run is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub nodes: u32,
    pub jobs: u32,
    pub accounts: u32,
    pub intervals: u32,
}

/// A week of 100 nodes with samples every ten minutes.
pub(crate) const WEEK: Size = Size { nodes: 100, jobs: 20_000, accounts: 14, intervals: 1_008 };

/// A small generator of numbers (Knuth's MMIX constants); a sample needs no better one.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below.max(1)
    }

    /// Small numbers often, large ones seldom: 2^0 to 2^`bits`, with noise.
    fn skewed(&mut self, bits: u64) -> u64 {
        let power = self.roll(bits + 1);
        (1_u64 << power) + self.roll(1_u64 << power)
    }
}

/// How busy owners are at an hour of the week, 0 to 1,000.
fn office(ms: u64, shift: u64) -> u64 {
    let hour = (ms / 3_600_000 + shift) % 168;
    let (day, hour) = (hour / 24, hour % 24);
    let base = match hour {
        9..=11 => 700,
        12 => 550,
        13..=17 => 780,
        18..=21 => 350,
        7..=8 => 300,
        _ => 80,
    };
    if day >= 5 { base / 4 } else { base }
}

const MODELS: [(&str, u32, u32, u32); 4] =
    [("", 48, 24, 0), ("V100", 24, 40, 2), ("A100", 16, 64, 4), ("H100", 12, 96, 8)];

fn nodes(size: Size) -> Vec<NodeRow> {
    let kinds: Vec<(&str, u32, u32)> = MODELS
        .iter()
        .flat_map(|(model, count, cores, gpus)| vec![(*model, *cores, *gpus); *count as usize])
        .collect();
    (0..size.nodes)
        .map(|i| {
            let (model, cores, gpus) = kinds[i as usize * 37 % kinds.len()];
            let capacity = Bundle {
                cpu: MilliCores::whole(cores),
                memory: Bytes::gib(cores * 4),
                gpu: MilliGpus::new(u64::from(gpus) * 1_000),
                ..Bundle::ZERO
            };
            let prefix = if gpus == 0 { "cpu" } else { model };
            let name = format!("{}-{i:03}", prefix.to_lowercase());
            NodeRow { name, capacity, gpu_model: model.to_owned(), owner: i % size.accounts.max(1) }
        })
        .collect()
}

fn job(dice: &mut Dice, size: Size, i: u32, end: Time) -> JobRow {
    let at = end.ms() * u64::from(i) / u64::from(size.jobs.max(1));
    let rush = office(at, 0) / 8;
    let priority = [25, 25, 50, 50, 50, 50, 75, 75, 100, 25][dice.roll(10) as usize];
    let wait = match priority {
        100 => dice.skewed(6),
        75 => dice.skewed(10) + rush,
        50 => dice.skewed(13) + rush * 4,
        _ => dice.skewed(16) + rush * 16,
    };
    let wait = if dice.roll(5) == 0 { 0 } else { Span::seconds(wait / 2).get() };
    let run = Span::seconds(dice.skewed(14) + 20).get();
    let (start, stop) = (at + wait, at + wait + run);
    let gpus = [0, 0, 1, 1, 2, 4, 8][dice.roll(7) as usize];
    let state = match dice.roll(100) {
        0..=84 => JobState::Completed,
        85..=89 => JobState::Timeout,
        90..=93 => JobState::Cancelled,
        94..=95 => JobState::NodeFail,
        96..=97 => JobState::OutOfBudget,
        _ => JobState::Refused,
    };
    let started = start < end.ms() && state != JobState::Refused;
    let ended = started && stop < end.ms();
    let preemptions = u32::from(dice.roll(12) == 0);
    JobRow {
        name: if i.is_multiple_of(977) {
            "train \u{2014} caf\u{e9} <b>".into()
        } else {
            format!("task-{i}").into()
        },
        account: dice.roll(u64::from(size.accounts.max(1))) as u32,
        priority,
        members: 1,
        submit: Time::from_ms(at),
        start: started.then(|| Time::from_ms(start)),
        end: ended.then(|| Time::from_ms(stop)),
        wait: Span::new(wait),
        run: Span::new(if started { stop.min(end.ms()) - start } else { 0 }),
        work: Span::new(run),
        limit: Some(Span::new(run * 2)),
        needs: Bundle {
            cpu: MilliCores::whole(1 + dice.roll(16) as u32),
            memory: Bytes::gib(1 + dice.roll(64) as u32),
            gpu: MilliGpus::new(gpus * 1_000),
            ..Bundle::ZERO
        }
        .into(),
        gpu_share: 1_000,
        nodes: Nodes::One(dice.roll(u64::from(size.nodes.max(1))) as u32),
        state: match (started, ended) {
            (true, true) => state,
            (true, false) => JobState::Running,
            (false, _) if state == JobState::Refused => state,
            (false, _) => JobState::Waiting,
        },
        refusal: if state == JobState::Refused { "QuotaExceeded" } else { "" },
        attempts: u32::from(started) + preemptions,
        preemptions,
        lost: Span::new(if preemptions > 0 { run / 7 } else { 0 }),
        charged: MicroAtp::new(run * 40 * (1 + gpus)),
        ..JobRow::default()
    }
}

fn leases(dice: &mut Dice, run: &RunRecord) -> Vec<LeaseRow> {
    let mut out: Vec<LeaseRow> = Vec::new();
    for (id, job) in (0_u64..).zip(&run.jobs) {
        let (Some(granted), Some(node)) = (job.start, job.nodes.as_slice().first()) else {
            continue;
        };
        let why = ["Completed", "OwnerReturn", "PriorityPreemption", "TimeLimit", "OfferExpired"];
        let why = if job.preemptions > 0 { why[1 + dice.roll(4) as usize] } else { why[0] };
        out.push(LeaseRow {
            lease: id,
            job: id,
            attempt: 1,
            node: *node,
            needs: job.needs,
            gpus: 0,
            granted,
            ended: job.end,
            why: if job.end.is_some() { why } else { "" },
            held: job.charged,
            settled: job.charged,
            unpaid_terms: 0,
            metered_terms: 0,
            expired_terms: 0,
            metering: Digest::default(),
        });
    }
    out.sort_by_key(|lease| (lease.granted, lease.lease));
    out
}

fn sample(dice: &mut Dice, run: &RunRecord, node: usize, at: u64) -> NodeSample {
    let busy = office(at, (node as u64 * 7) % 5) * (60 + (node as u64 * 37) % 60) / 100;
    let owner = (busy * 8 + dice.roll(900)).min(10_000);
    let lent = (9_000 - owner.min(9_000)) * (40 + dice.roll(50)) / 100;
    let gpus = if run.nodes[node].capacity.gpu.is_zero() { 0 } else { 1 };
    let bp = |value: u64| BasisPoints::new(value.min(10_000) as u16);
    let is_down = node % 23 == 5 && (at / 3_600_000) % 61 < 7;
    if is_down {
        return NodeSample { state: "down", ..NodeSample::default() };
    }
    NodeSample {
        owner: [bp(owner), bp(owner / 2), bp(gpus * owner * 4 / 5)],
        lent: [bp(lent), bp(lent / 2), bp(gpus * lent)],
        offered: [bp(lent + 500), bp(lent), bp(gpus * (lent + 800))],
        pressure: bp(owner + lent / 2 + dice.roll(600)),
        state: if lent > 0 { "lending" } else { "idle" },
    }
}

fn cluster(run: &RunRecord, samples: &[NodeSample], at: u64, dice: &mut Dice) -> TimelineRow {
    let (mut capacity, mut owner, mut offered) = (Bundle::ZERO, Bundle::ZERO, Bundle::ZERO);
    let mut bands = [Bundle::ZERO; 4];
    let mut row =
        TimelineRow { at: Time::from_ms(at), price_ppm: [1_000_000; 3], ..TimelineRow::default() };
    for (node, sample) in run.nodes.iter().zip(samples) {
        if sample.state == "down" {
            continue;
        }
        let part = |of: &[BasisPoints; 3]| Bundle {
            cpu: MilliCores::new(of[0].of_floor(node.capacity.cpu.get())),
            gpu: MilliGpus::new(of[2].of_floor(node.capacity.gpu.get())),
            ..Bundle::ZERO
        };
        capacity.add(&node.capacity);
        owner.add(&part(&sample.owner));
        offered.add(&part(&sample.offered));
        let lent = part(&sample.lent);
        for (band, percent) in [(0, 30), (1, 40), (2, 22), (3, 8)] {
            bands[band].add(&lent.zip(&Bundle::ZERO, |amount, _| amount * percent / 100));
        }
    }
    (row.capacity, row.owner, row.offered) = (capacity.into(), owner.into(), offered.into());
    (row.lent, row.lendable) = (bands.map(Amounts::from), row.offered);
    let rush = office(at, 0);
    row.price_ppm = [1_400, 0, 4_000]
        .map(|step| (700_000 + rush * step + dice.roll(40_000) * step.min(1)) as u32);
    row.demand_ppm = [600, 300, 1_400].map(|step| Some((300_000 + rush * step) as u32));
    row.queued =
        [rush / 3, rush / 5, rush / 16, rush / 120].map(|n| (n + dice.roll(n / 4 + 2)) as u32);
    row.running = (180 - rush / 8 + dice.roll(20)) as u32;
    for (i, wait) in row.wait.iter_mut().enumerate() {
        let base = [9_000, 1_800, 240, 15][i] * (200 + rush) / 500;
        *wait = (dice.roll(9) > 1).then(|| Span::seconds(base + dice.roll(base)));
    }
    row
}

fn transfers(dice: &mut Dice, run: &RunRecord, size: Size) -> Vec<TransferRow> {
    let mut out = Vec::new();
    let mut add = |at: Time, from: Party, to: Party, micro: u64, kind: &'static str, lease| {
        let amount = MicroAtp::new(micro);
        out.push(TransferRow { id: out.len() as u64, at, from, to, amount, kind, lease });
    };
    for account in 0..size.accounts {
        add(Time::ZERO, Party::Mint, Party::Account(account), 9_000_000_000_000, "deposit", None);
    }
    let mut ends: Vec<&LeaseRow> = run.leases.iter().filter(|l| l.ended.is_some()).collect();
    ends.sort_by_key(|lease| (lease.ended, lease.lease));
    for lease in ends {
        let job = &run.jobs[lease.job as usize];
        let lender = run.nodes[lease.node as usize].owner;
        let (at, payer, sum) = (lease.ended.unwrap_or_default(), job.account, lease.settled.get());
        add(at, Party::Account(payer), Party::Held(payer), sum + 5, "hold", Some(lease.lease));
        add(
            at,
            Party::Held(payer),
            Party::Account(lender),
            sum / 20 * 19,
            "settle",
            Some(lease.lease),
        );
        add(at, Party::Held(payer), Party::Treasury, sum / 20, "fee", Some(lease.lease));
        add(at, Party::Held(payer), Party::Account(payer), 5, "release", Some(lease.lease));
        if dice.roll(60) == 0 {
            add(at, Party::Treasury, Party::Account(payer), sum / 30, "refund", Some(lease.lease));
            add(at, Party::Account(payer), Party::Burn, sum / 90, "decay", None);
        }
    }
    out
}

fn fill() -> Vec<FillPoint> {
    let allocated = |x: u64| {
        let (x, knee) = (x * 1_000, 9_000_000);
        if x <= knee { x } else { knee + (x - knee) * 480_000 / (x - knee + 700_000) }
    };
    (0..=1_300)
        .map(|i| FillPoint { arrived_bp: i * 10, allocated_mbp: allocated(u64::from(i) * 10) })
        .collect()
}

/// Makes up a run.
pub(crate) fn build(size: Size) -> RunRecord {
    let mut dice = Dice(7);
    let interval = Span::minutes(10);
    let end = Time::from_ms(interval.get() * u64::from(size.intervals));
    let groups =
        ["vision", "speech", "robotics", "genomics", "climate", "nlp", "systems", "teaching"];
    let mut run = RunRecord {
        scenario: "lab-week".to_owned(),
        about: "A week in a laboratory: owners by day, borrowers by night.".to_owned(),
        seed: 42,
        rules: ["balanced", "best_fit", "fair", "easy"].map(str::to_owned),
        complete: true,
        end,
        interval,
        accounts: (0..size.accounts)
            .map(|i| match groups.get(i as usize) {
                Some(name) => (*name).to_owned(),
                None => format!("group-{i:02}"),
            })
            .collect(),
        pools: vec!["default".to_owned()],
        nodes: nodes(size),
        ..RunRecord::default()
    };
    run.jobs = (0..size.jobs).map(|i| job(&mut dice, size, i, end)).collect();
    run.leases = leases(&mut dice, &run);
    let mut offers = [0; 5];
    for i in 0..u64::from(size.intervals) {
        let at = (i + 1) * interval.get();
        let samples: Vec<NodeSample> =
            (0..run.nodes.len()).map(|node| sample(&mut dice, &run, node, at)).collect();
        let mut row = cluster(&run, &samples, at, &mut dice);
        let calm = 1_000 - office(at, 0);
        let fresh = [calm / 8, calm / 12, calm / 40, calm / 200, (1_000 - calm) / 90];
        for (sum, more) in offers.iter_mut().zip(fresh) {
            *sum += more + dice.roll(more / 3 + 2);
        }
        row.offers = offers;
        run.timeline.push(row);
        run.node_samples.extend(samples);
    }
    run.transfers = transfers(&mut dice, &run, size).into();
    run.fill = fill();
    run
}
