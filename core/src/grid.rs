//! The coordinator's half: one door, one match.
//!
//! `apply` is the only way in. A tick is one call of it: what is due at or before the entry's time,
//! then the command, then one scheduling pass. A sample only records and shrinks its own node's
//! offer, a message of a node only what it says; what is due by then, and what follows from it,
//! happens at that instant's `Wake`.

use crate::command::{Command, Entry, Numbered, Reply, Report, Request};
use crate::config::{Config, ConfigError};
use crate::deny::Denied;
use crate::due::Due;
use crate::effect::Effect;
use crate::encode::{Digest, digest};
use crate::ids::Seq;
use crate::index::Index;
use crate::snapshot::{Snapshot, SnapshotError};
use crate::state::State;
use crate::units::Time;
use crate::verbs::Work;
use alloc::vec::Vec;

/// A cluster, as its coordinator sees it.
#[derive(Clone, Debug)]
pub struct Grid {
    state: State,
    index: Index,
}

impl Grid {
    /// Builds a cluster; its accounts get their deposits at once.
    ///
    /// # Errors
    /// When no cluster could run by this configuration.
    pub fn new(config: Config, at: Time) -> Result<Self, ConfigError> {
        config.validate()?;
        let state = State::new(config, at);
        let index = Index::new(&state);
        Ok(Self { state, index })
    }

    /// Applies one entry and appends what follows from it to `effects`.
    ///
    /// # Errors
    /// The refusal of a request. Nothing but the clock and what was due by then has changed.
    ///
    /// # Panics
    /// When the entry does not follow the last one: sequences have no gap and time never goes back.
    pub fn apply(
        &mut self,
        entry: &Entry<Command>,
        effects: &mut Vec<Effect>,
    ) -> Result<Reply, Denied> {
        let follows = entry.seq == self.state.seq.next() && entry.at >= self.state.now;
        assert!(follows, "entry {} at {} follows {}", entry.seq, entry.at, self.state.seq);
        let first = self.state.seq == Seq::new(0);
        let moves = self.state.ledger.moves();
        (self.state.seq, self.state.now) = (entry.seq, entry.at);
        let mut work = Work { state: &mut self.state, index: &mut self.index, effects };
        if first {
            work.open_accounts();
        }
        // The order of samples at one instant must not matter (invariant 46): they leave what is
        // due, among it what another sample has just made due, to that instant's wake.
        // The same holds for messages of nodes, which carry samples.
        let sampled =
            matches!(entry.command, Command::Report(Report::Sample { .. } | Report::Message(_)));
        if !sampled {
            run_due(&mut work);
        }
        let reply = match &entry.command {
            Command::Request(request) => run_request(&mut work, request),
            Command::Numbered(numbered) => run_numbered(&mut work, numbered),
            Command::Report(report) => Ok(run_report(&mut work, report)),
            Command::Wake => Ok(Reply::Done),
        };
        if !sampled && !work.waits_for_ends(&entry.command, &reply) {
            work.pass();
        }
        work.speak();
        if work.state.ledger.moves() != moves {
            work.keep_epochs();
        }
        reply
    }

    /// Returns when the core next needs an entry, and why.
    #[must_use]
    pub fn next_wake(&self) -> Option<(Time, Due)> {
        self.state.timers.first()
    }

    /// Returns the state, to read.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Returns a copy of the state that [`Grid::restore`] takes.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.state)
    }

    /// Rebuilds a cluster from a snapshot; it goes on exactly as the original would.
    ///
    /// # Errors
    /// When the snapshot is damaged or of other rules.
    pub fn restore(snapshot: &Snapshot) -> Result<Self, SnapshotError> {
        let state = snapshot.state()?;
        let index = Index::new(&state);
        Ok(Self { state, index })
    }

    /// Returns the fingerprint of the state: the same on every run, machine and build.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest(&self.state)
    }
}

/// Does what is due.
fn run_due(work: &mut Work<'_>) {
    while let Some((_, due)) = work.state.timers.pop(work.state.now) {
        match due {
            Due::Quantum => work.close_quantum(),
            Due::Price => work.move_prices(),
            Due::Limit(lease) => work.limit_reached(lease),
            Due::Renew(lease) => work.half_term(lease),
            Due::TermEnd(lease) => work.end_term(lease),
            Due::Epoch => work.close_epoch(),
            Due::ClaimEnd(job) => work.claim_ended(job),
            Due::Check(node) => work.check_offer(node),
            Due::OfferEnd(node) => work.offer_end(node),
            Due::Withdraw(node) => work.withdraw_empty(node),
            Due::Squeeze(node) => work.squeeze(node),
            Due::Silent(node) => work.silent(node),
            Due::Lost(lease) => work.lost(lease),
            Due::Ask(node) => work.state.changed.note(node),
            Due::Idle(node) => work.look_for_idle(node),
            Due::Rebalance(pool) => work.rebalance(pool),
            Due::Begin(job) => work.begin(job),
            Due::Age(job) => work.age(job),
            Due::Retry(_) => work.state.changed.stir(),
            Due::Pass => {}
        }
    }
}

/// Runs what a client asks for under a number, once.
fn run_numbered(work: &mut Work<'_>, numbered: &Numbered) -> Result<Reply, Denied> {
    let Numbered { client, number, request } = numbered;
    if let Some(answer) = work.state.clients.answered(*client, *number) {
        return answer;
    }
    let answer = run_request(work, request);
    let seq = work.state.seq;
    work.state.clients.keep(*client, *number, answer.clone(), seq);
    answer
}

/// Runs what somebody asks for.
fn run_request(work: &mut Work<'_>, request: &Request) -> Result<Reply, Denied> {
    match request {
        Request::SubmitJob { account, job } => work.submit(*account, job),
        Request::CancelJob { account, job } => work.cancel(*account, *job),
        Request::HoldJob { account, job } => work.hold_job(*account, *job),
        Request::ReleaseJob { account, job } => work.release_job(*account, *job),
        Request::RequeueJob { account, job } => work.requeue_job(*account, *job),
        Request::SuspendJob { account, job } => work.suspend_job(*account, *job, true),
        Request::ResumeJob { account, job } => work.suspend_job(*account, *job, false),
        Request::Deposit { account, amount } => work.deposit(*account, *amount),
        Request::Grant { account, amount } => work.award(*account, *amount),
        Request::Drain { node, reason } => work.drain(*node, reason),
        Request::Undrain { node } => work.undrain(*node),
        Request::Configure(rules) => work.configure((**rules).clone()),
    }
}

/// Applies what a machine states.
fn run_report(work: &mut Work<'_>, report: &Report) -> Reply {
    match report {
        Report::Sample { node, sample } => work.sample(*node, sample),
        Report::NodeDown { node } => work.node_down(*node),
        Report::NodeUp { node } => work.node_up(*node),
        Report::Lease { node, item } => return work.status(*node, *item),
        Report::Message(message) => work.message(message),
        Report::Restarted => work.restarted(),
        Report::Stopping => work.stopping(),
        Report::Lending { node, lending } => work.lend(*node, *lending),
    }
    Reply::Done
}
