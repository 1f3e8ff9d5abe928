//! Refusals: what a user may be told no about, with the numbers that mattered.

use crate::bundle::{Bundle, Dimension};
use crate::config::ConfigError;
use crate::ids::{AccountId, JobId, NodeId, PoolId};
use crate::units::{MicroAtp, Time};
use alloc::borrow::Cow;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Words of ours that a reply may be kept with.
pub type Words = Cow<'static, str>;

/// Why a request was refused. Nothing but the clock and what was due has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum Denied {
    /// The account does not exist.
    #[error("account {0} not found")]
    NoAccount(AccountId),
    /// The pool does not exist.
    #[error("Pool {0} not found")]
    NoPool(PoolId),
    /// The node does not exist.
    #[error("node {0} not found")]
    NoNode(NodeId),
    /// The job does not exist, or has ended.
    #[error("job {0} not found")]
    NoJob(JobId),
    /// The job belongs to another account.
    #[error("job {job} does not belong to account {account}")]
    NotYours {
        /// The job.
        job: JobId,
        /// Who asked.
        account: AccountId,
    },
    /// The job asks for nothing.
    #[error("a job must ask for something")]
    Empty,
    /// A number of the job is outside its range.
    #[error("{what} is {value}; it must be {range}")]
    Range {
        /// The field.
        what: Words,
        /// The value given.
        value: u64,
        /// The range in words.
        range: Words,
    },
    /// No node of the pool could ever run the job.
    #[error(
        "no node of pool {pool} can ever run this: the closest has {dimension:?} {most} < {needed}"
    )]
    NoMatchingNode {
        /// The pool.
        pool: PoolId,
        /// The dimension in which the closest node falls short.
        dimension: Dimension,
        /// The most any matching node has of it.
        most: u64,
        /// What the job needs.
        needed: u64,
    },
    /// The pool's quota could never hold the job.
    #[error("Quota exceeded: {dimension:?}: {needed} > {quota}")]
    OverQuota {
        /// The dimension.
        dimension: Dimension,
        /// What the job needs.
        needed: u64,
        /// The quota.
        quota: u64,
    },
    /// The account has as many open requests as it may.
    #[error("the account has {most} open requests, which is the most: wait until some end")]
    TooManyRequests {
        /// The account.
        account: AccountId,
        /// How many it may have.
        most: u32,
    },
    /// The account cannot pay.
    #[error("ATP budget exceeded: {needed} > {balance}")]
    OverBudget {
        /// The account.
        account: AccountId,
        /// What it has available, in micro-ATP.
        balance: MicroAtp,
        /// What is needed, in micro-ATP.
        needed: MicroAtp,
    },
    /// The job said `if_busy: refuse` and cannot start now.
    #[error("Pool resources exhausted: {0:?}")]
    Busy(crate::blocker::Explanation),
    /// No place can be kept from the beginning on.
    #[error("no place is free from then on{}", known(*.soonest))]
    NoPlaceThen {
        /// When one is, at the earliest; `None` when nobody can know.
        soonest: Option<Time>,
    },
    /// A list is full.
    #[error("{what} is full: at most {max}")]
    Full {
        /// The list.
        what: Words,
        /// Its limit.
        max: u64,
    },
    /// The job is not in a state that allows this.
    #[error("job {job} is {state}")]
    WrongState {
        /// The job.
        job: JobId,
        /// Its state.
        state: Words,
    },
    /// The client has gone on since: what became of the request is no longer known.
    #[error("request {number} of this client is older than the last {kept} replies")]
    TooOld {
        /// Its number.
        number: u64,
        /// How many replies are kept.
        kept: u64,
    },
    /// The new rules cannot work.
    #[error("the rules are refused: {0}")]
    Config(ConfigError),
    /// The treasury has less to give than an administrator grants.
    #[error(
        "the treasury has {spare} micro-ATP to give beside the fees of the last day, not {needed}: \
         a deposit makes new credit"
    )]
    TreasuryShort {
        /// What it may give, in micro-ATP.
        spare: MicroAtp,
        /// What was asked for, in micro-ATP.
        needed: MicroAtp,
    },
    /// The account would hold more than it may.
    #[error("{amount} more would raise {account} above 2^62 micro-ATP, or all credit above 2^63")]
    TooRich {
        /// The account.
        account: AccountId,
        /// The deposit or grant.
        amount: MicroAtp,
    },
}

/// Says when a place is free.
fn known(at: Option<Time>) -> alloc::string::String {
    let known = at.map(|at| alloc::format!(": the soonest is {at}"));
    known.unwrap_or_else(|| ": what runs there has no limit".into())
}

/// The part of a request that a bundle falls short in.
#[must_use]
pub fn first_short(needs: &Bundle, room: &Bundle) -> Option<(Dimension, u64, u64)> {
    Dimension::all().find_map(|d| {
        let (need, have) = (needs.amount(d), room.amount(d));
        (need > have).then_some((d, need, have))
    })
}
