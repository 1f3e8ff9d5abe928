//! Generated configurations and histories.
//!
//! A history is a list of [`Op`]s that name jobs, nodes and leases by a number that is taken modulo
//! what exists when its turn comes, so that every list means something and shrinks well.

mod jobs;
mod rules;

pub use jobs::job;
pub use rules::rules;

use crate::cluster::{Cluster, hardware};
use crate::world::{Checks, Work, World};
use gridcore::bundle::Bundle;
use gridcore::command::{GpuSample, JobSpec, Reply, Report, Request, Sample};
use gridcore::config::{AccountSpec, Config, NodeSpec, PoolSpec, Rules};
use gridcore::deny::Denied;
use gridcore::ids::{AccountId, Epoch, JobId, LeaseId, NodeId, PoolId};
use gridcore::station::ladder::OwnerSays;
use gridcore::units::{BasisPoints, Bytes, MicroAtp, MilliCores, MilliGpus, Span, Time};
use gridcore::wire::{Item, Status};
use jobs::work;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::strategy::Union;

/// What a generated history may contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Whether nodes have owners who use them.
    pub owners: bool,
    /// Whether jobs may make others leave.
    pub preempts: bool,
    /// Whether the rules change under way.
    pub configures: bool,
    /// Whether nodes fail.
    pub fails: bool,
    /// Whether accounts may have quotas of their own.
    pub quotas: bool,
    /// Whether places may be kept for jobs that cannot start.
    pub reserves: bool,
    /// Whether credit is granted and decays.
    pub grants: bool,
    /// How many operations at most.
    pub length: usize,
}

impl Profile {
    /// Everything.
    pub const ALL: Self = Self {
        owners: true,
        preempts: true,
        configures: true,
        fails: true,
        quotas: true,
        reserves: true,
        grants: true,
        length: 80,
    };
    /// What the reference model knows: dedicated nodes that do not fail, nobody makes way.
    pub const MODEL: Self = Self {
        owners: false,
        preempts: false,
        configures: false,
        fails: false,
        quotas: false,
        reserves: false,
        grants: false,
        length: 60,
    };
}

/// One step of a history.
#[derive(Clone, Debug)]
pub enum Op {
    /// Time passes.
    Wait(Span),
    /// A job is submitted.
    Submit(AccountId, Box<JobSpec>, Work),
    /// A job is taken back.
    Cancel(AccountId, u16),
    /// A job is held.
    Hold(u16),
    /// A job is released.
    Release(u16),
    /// A job's attempt is ended, and it waits again.
    Requeue(u16),
    /// A job that waits for others is submitted.
    SubmitAfter(AccountId, Box<JobSpec>, Work, Vec<u16>),
    /// A job's processes are stopped.
    Suspend(u16),
    /// They go on.
    Resume(u16),
    /// A node reports its owner's use.
    Sample(u16, Sample),
    /// A node fails.
    Down(u16),
    /// A node is back.
    Up(u16),
    /// A node takes nothing new.
    Drain(u16),
    /// A node works again.
    Undrain(u16),
    /// Credit is paid in.
    Deposit(AccountId, MicroAtp),
    /// Credit is given out of the treasury: at once, or when the fees of before are a day old.
    Grant(AccountId, MicroAtp, bool),
    /// The rules change.
    Configure(Box<Rules>),
    /// The owner of a node says something.
    Owner(u16, OwnerSays),
    /// A process ends that nobody runs any more, or that runs under another epoch.
    Stale(u16, u32),
}

/// A cluster and what happens to it.
#[derive(Clone)]
pub struct Case {
    /// The cluster.
    pub config: Config,
    /// What happens.
    pub ops: Vec<Op>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "rules {:?}", self.config.rules)?;
        writeln!(f, "pools {:?}", self.config.pools)?;
        writeln!(f, "accounts {:?}", self.config.accounts)?;
        for node in &self.config.nodes {
            writeln!(f, "{node:?}")?;
        }
        for op in &self.ops {
            writeln!(f, "{op:?}")?;
        }
        Ok(())
    }
}

impl Case {
    /// Plays the case and returns the world at its end.
    #[must_use]
    pub fn play(&self, checks: Checks) -> World {
        let mut world = World::new(self.config.clone(), checks);
        for op in &self.ops {
            op.run(&mut world);
        }
        world
    }
}

/// Returns the n-th of several things, modulo how many there are.
fn pick<T>(n: u16, mut things: impl ExactSizeIterator<Item = T>) -> Option<T> {
    let len = things.len();
    if len == 0 { None } else { things.nth(usize::from(n) % len) }
}

/// Returns the n-th live job, or one that does not exist.
fn pick_job(world: &World, n: u16) -> (JobId, AccountId) {
    let missing = (JobId::new(u64::from(n) + 1_000_000), AccountId::new(0));
    let jobs = world.grid.state().jobs.values().map(|job| (job.id, job.account));
    pick(n, jobs.collect::<Vec<_>>().into_iter()).unwrap_or(missing)
}

/// Returns the n-th node; every 97th does not exist.
fn pick_node(world: &World, n: u16) -> NodeId {
    if n % 97 == 96 {
        return NodeId::new(1_000_000);
    }
    pick(n, world.grid.state().nodes.iter().map(|row| row.0)).unwrap_or(NodeId::new(0))
}

/// Submits a job to a pool that is there, after some of the live jobs; now and then after one that
/// is not.
fn submit(world: &mut World, account: AccountId, spec: &JobSpec, work: Work, on: &[u16]) {
    let pools = u32::try_from(world.grid.state().pools.len()).unwrap_or(1);
    let mut spec = spec.clone();
    if spec.pool.get() < 9 {
        spec.pool = PoolId::new(spec.pool.get() % pools);
    }
    let live = |n: &u16| if n % 23 == 22 { JobId::new(u64::MAX) } else { pick_job(world, *n).0 };
    spec.after = on.iter().map(live).collect();
    let _ = world.submit(account, &spec, work);
}

/// Resumes the n-th suspended job, or tries to resume another.
fn resume(world: &mut World, n: u16) -> Result<Reply, Denied> {
    let state = world.grid.state();
    let suspended = state.leases.values().filter(|lease| lease.suspended.is_some());
    let suspended: Vec<_> = suspended.map(|l| (l.job, l.account)).collect();
    let (job, account) = pick(n, suspended.into_iter()).unwrap_or_else(|| pick_job(world, n));
    world.request(Request::ResumeJob { account, job })
}

/// Grants an account credit out of the treasury, at once or more than a day later.
fn grant(world: &mut World, to: (AccountId, MicroAtp), later: bool) -> Result<Reply, Denied> {
    if later {
        world.advance(Span::minutes(26 * 60));
    }
    world.request(Request::Grant { account: to.0, amount: to.1 })
}

/// Returns what a node states of a lease that is not elastic.
fn item(lease: LeaseId, epoch: Epoch, status: Status) -> Item {
    Item { lease, epoch, cpu: MilliCores::ZERO, status }
}

impl Op {
    /// Returns what a job of this step asks for, where it submits one.
    pub fn spec_mut(&mut self) -> Option<&mut JobSpec> {
        if let Self::Submit(_, spec, _) | Self::SubmitAfter(_, spec, ..) = self {
            return Some(spec);
        }
        None
    }

    /// Plays one step; refusals are part of the history.
    pub fn run(&self, world: &mut World) {
        let _ = match self {
            Self::Wait(span) => {
                world.advance(*span);
                return;
            }
            Self::Submit(account, spec, work) => return submit(world, *account, spec, *work, &[]),
            Self::SubmitAfter(account, spec, work, on) => {
                return submit(world, *account, spec, *work, on);
            }
            Self::Cancel(account, n) => {
                let (job, owner) = pick_job(world, *n);
                let account = if n % 7 == 0 { *account } else { owner };
                world.request(Request::CancelJob { account, job })
            }
            Self::Hold(n) => {
                let (job, account) = pick_job(world, *n);
                world.request(Request::HoldJob { account, job })
            }
            Self::Requeue(n) => {
                let (job, account) = pick_job(world, *n);
                world.request(Request::RequeueJob { account, job })
            }
            Self::Suspend(n) => {
                let (job, account) = pick_job(world, *n);
                world.request(Request::SuspendJob { account, job })
            }
            Self::Resume(n) => resume(world, *n),
            Self::Release(n) => {
                let held = world.grid.state().jobs.values();
                let held = held.filter(|job| job.state == gridcore::jobs::JobState::Held);
                let held: Vec<_> = held.map(|job| (job.id, job.account)).collect();
                let (job, account) =
                    pick(*n, held.into_iter()).unwrap_or_else(|| pick_job(world, *n));
                world.request(Request::ReleaseJob { account, job })
            }
            Self::Sample(n, sample) => {
                let (node, sample) = (pick_node(world, *n), sample.clone());
                Ok(world.report(Report::Sample { node, sample }))
            }
            Self::Down(n) => Ok(world.report(Report::NodeDown { node: pick_node(world, *n) })),
            Self::Up(n) => Ok(world.report(Report::NodeUp { node: pick_node(world, *n) })),
            Self::Drain(n) => {
                let (node, reason) = (pick_node(world, *n), String::from("maintenance"));
                world.request(Request::Drain { node, reason })
            }
            Self::Undrain(n) => world.request(Request::Undrain { node: pick_node(world, *n) }),
            Self::Deposit(account, amount) => {
                world.request(Request::Deposit { account: *account, amount: *amount })
            }
            Self::Grant(account, amount, later) => grant(world, (*account, *amount), *later),
            Self::Owner(n, says) => {
                world.owner_says(pick_node(world, *n), *says);
                return;
            }
            Self::Configure(rules) => world.request(Request::Configure(rules.clone())),
            Self::Stale(n, by) => {
                let living: Vec<(NodeId, LeaseId, Epoch)> = world.living().collect();
                let nobody = (NodeId::new(0), LeaseId::new(u64::from(*n) + 9), Epoch::new(1));
                let (node, lease, epoch) = pick(*n, living.into_iter()).unwrap_or(nobody);
                let epoch = Epoch::new(epoch.get() + by);
                let status = Status::Ended(gridcore::command::Outcome::Completed, None);
                Ok(world.report(Report::Lease { node, item: item(lease, epoch, status) }))
            }
        };
    }
}

/// Generates a whole case.
pub fn case(profile: Profile) -> impl Strategy<Value = Case> {
    let ops = vec(op(profile), 1..profile.length);
    (config(profile), ops).prop_map(move |(config, ops)| Case { config, ops })
}

/// Generates a cluster of 1 to 8 nodes, 3 accounts and 1 or 2 pools.
pub fn config(profile: Profile) -> impl Strategy<Value = Config> {
    let quota = option::weighted(0.3, (2..30_u64, 4..64_u32, 1..6_u64));
    let deposit = prop_oneof![1 => Just(0), 1 => 1..5_000_u64, 6 => 100_000..10_000_000_u64];
    let own = option::weighted(0.4, (0..12_u64, 0..32_u32, 0..3_u64));
    let accounts = vec((deposit, own), 3);
    let pools = vec(quota, 1..3);
    let nodes = prop_oneof![3 => vec(node(profile), 1..4), 1 => vec(node(profile), 4..9)];
    (rules(profile), pools, accounts, nodes).prop_map(move |(rules, pools, accounts, nodes)| {
        let mut config = Cluster::new().config;
        config.rules = rules;
        config.resources = vec![String::from("license")];
        let quota = |(cpu, gib, gpu): (u64, u32, u64)| {
            let mut all = Bundle::from_amounts([u64::MAX / 4; 12]);
            (all.cpu, all.memory) = (MilliCores::new(cpu * 1_000), Bytes::gib(gib));
            all.gpu = MilliGpus::new(gpu * 1_000);
            all
        };
        let pool = |(i, said): (usize, Option<(u64, u32, u64)>)| PoolSpec {
            name: format!("pool{i}"),
            quota: said.map(quota),
        };
        config.pools = pools.into_iter().enumerate().map(pool).collect();
        let account = |(i, (atp, own)): (usize, (u64, Option<_>))| AccountSpec {
            name: format!("account{i}"),
            weight: u32::try_from(i).unwrap_or(0) + 1,
            deposit: MicroAtp::whole(atp),
            quota: own.filter(|_| profile.quotas).map(quota),
        };
        config.accounts = accounts.into_iter().enumerate().map(account).collect();
        let pools = u32::try_from(config.pools.len()).unwrap_or(1);
        for (i, mut spec) in nodes.into_iter().enumerate() {
            spec.name = format!("n{i}");
            spec.pool = PoolId::new(spec.pool.get() % pools);
            config.nodes.push(spec);
        }
        config
    })
}

/// Generates a node.
fn node(profile: Profile) -> impl Strategy<Value = NodeSpec> {
    let size = (
        prop_oneof![1 => 1..5_u32, 3 => 8..17_u32],
        8..64_u32,
        prop_oneof![1 => Just(0), 3 => 1..5_u8],
        8..25_u32,
    );
    let place = (0..3_u32, 0..2_u32, 0..3_u8, 0..4_u64);
    let share = (option::weighted(0.2, 0..3_u64), any::<bool>(), 0..20_u8);
    (size, place, share).prop_map(move |(size, place, share)| {
        let (cores, gib, gpus, vram) = size;
        let (owner, pool, zone, license) = place;
        let (gpu_max, owned, odd) = share;
        let mut spec = NodeSpec::dedicated("n", hardware(cores, gib));
        spec = spec.with_gpus(gpus, Bytes::gib(vram));
        spec.capacity.custom[0] = license;
        (spec.owner, spec.pool) = (AccountId::new(owner), PoolId::new(pool));
        spec.labels.insert(String::from("zone"), format!("z{zone}"));
        spec.zone = if zone == 0 { String::new() } else { format!("z{zone}") };
        spec.dedicated = !(profile.owners && owned);
        spec.can_share = odd != 0;
        spec.lend_unpaid = profile.preempts && odd % 4 != 3;
        spec.master = odd == 1;
        spec.priority = if odd % 5 == 1 { 2_000 } else { 1_000 };
        if let Some(devices) = gpu_max {
            spec.share_max.gpu = MilliGpus::new(devices * 1_000);
        }
        spec
    })
}

/// Generates one step.
fn op(profile: Profile) -> impl Strategy<Value = Op> {
    let wait = prop_oneof![
        2 => (0..5_u64).prop_map(Span::new),
        4 => (1..90_u64).prop_map(Span::seconds),
        1 => (100..2_000_u64).prop_map(Span::seconds),
    ];
    let wait = wait.prop_map(Op::Wait);
    let account = || (0..3_u32).prop_map(AccountId::new);
    // Without kept places nobody reserves one either.
    let job = move || {
        job().prop_map(move |mut spec| {
            spec.begin = spec.begin.filter(|_| profile.reserves);
            spec.reserve &= profile.reserves;
            spec
        })
    };
    let submit = (prop_oneof![50 => account(), 1 => Just(AccountId::new(99))], job(), work());
    let submit = submit.prop_map(|(account, spec, work)| Op::Submit(account, Box::new(spec), work));
    let on = vec(any::<u16>(), 1..3);
    let after = (account(), job(), work(), on).prop_map(|(account, mut spec, work, on)| {
        spec.refuse_if_busy &= on.len() > 1;
        Op::SubmitAfter(account, Box::new(spec), work, on)
    });
    let amount = prop_oneof![
        1 => Just(MicroAtp::ZERO), 1 => Just(MicroAtp::new(1 << 62)),
        8 => (1..100_000_u64).prop_map(MicroAtp::whole),
    ];
    // From what is nothing to more than a treasury ever has.
    let gift = (account(), 0..45_u32, 0..40_u8).prop_map(move |(account, power, later)| {
        let amount = MicroAtp::new((1 << power) - 1);
        Op::Grant(account, amount, later == 0 && profile.grants)
    });
    let mut steps = vec![
        (14, wait.boxed()),
        (16, submit.boxed()),
        (3, after.boxed()),
        (2, (account(), any::<u16>()).prop_map(|(a, n)| Op::Cancel(a, n)).boxed()),
        (1, any::<u16>().prop_map(Op::Hold).boxed()),
        (1, any::<u16>().prop_map(Op::Release).boxed()),
        (1, any::<u16>().prop_map(Op::Requeue).boxed()),
        (1, any::<u16>().prop_map(Op::Suspend).boxed()),
        (1, any::<u16>().prop_map(Op::Resume).boxed()),
        (1, any::<u16>().prop_map(Op::Drain).boxed()),
        (2, any::<u16>().prop_map(Op::Undrain).boxed()),
        (2, (account(), amount).prop_map(|(a, amount)| Op::Deposit(a, amount)).boxed()),
        (1, (any::<u16>(), 1..3_u32).prop_map(|(n, by)| Op::Stale(n, by)).boxed()),
        (1, gift.boxed()),
    ];
    if profile.owners {
        steps.push((10, (any::<u16>(), sample()).prop_map(|(n, s)| Op::Sample(n, s)).boxed()));
        let says = (any::<u16>(), owner_says()).prop_map(|(n, says)| Op::Owner(n, says));
        steps.push((1, says.boxed()));
    }
    if profile.fails {
        steps.push((1, any::<u16>().prop_map(Op::Down).boxed()));
        steps.push((1, any::<u16>().prop_map(Op::Up).boxed()));
    }
    if profile.configures {
        steps.push((1, configure(profile).prop_map(Op::Configure).boxed()));
    }
    Union::new_weighted(steps)
}

/// Generates what an owner may say.
fn owner_says() -> impl Strategy<Value = OwnerSays> {
    let until = option::of((0..3_000_u64).prop_map(|s| Time::from_ms(1_000 * s)));
    prop_oneof![
        2 => Just(OwnerSays::Nothing),
        2 => any::<bool>().prop_map(|now| OwnerSays::Reclaim { now }),
        1 => (0..5_u8, until).prop_map(|(gpus_max, until)| OwnerSays::Lend { gpus_max, until }),
    ]
}

/// Generates new rules, one in eight of which are refused.
fn configure(profile: Profile) -> impl Strategy<Value = Box<Rules>> {
    (rules(profile), 0..8_u8).prop_map(|(mut rules, odd)| {
        if odd == 0 {
            rules.term.0 = Span::seconds(1);
        }
        Box::new(rules)
    })
}

/// Generates a sample: idle, somewhat used, or busy, with foreign processes now and then.
pub fn sample() -> impl Strategy<Value = Sample> {
    let level = || {
        prop_oneof![3 => 0..10_u16, 1 => 0..100_u16, 1 => 90..101_u16]
            .prop_map(BasisPoints::percent)
    };
    let leased = option::weighted(0.7, prop_oneof![4 => 0..4_u16, 1 => 0..101_u16]);
    let gpu = (prop_oneof![3 => Just(0), 1 => 0..100_u16], 0..25_u32, 0..12_u8, leased);
    let gpu = gpu.prop_map(|(busy, gib, odd, leased)| GpuSample {
        busy: BasisPoints::percent(busy),
        memory: if odd < 8 { Bytes::ZERO } else { Bytes::gib(gib) },
        foreign: odd == 11,
        leased: leased.map(BasisPoints::percent),
    });
    (level(), level(), vec(gpu, 0..5)).prop_map(|(cpu, memory, gpus)| Sample { cpu, memory, gpus })
}
