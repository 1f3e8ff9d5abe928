//! Clients that number their requests: the last replies, so that asking again changes nothing.

use crate::canary::{Canary, planted};
use crate::command::Reply;
use crate::deny::Denied;
use crate::ids::Seq;
use alloc::collections::{BTreeMap, VecDeque};
use serde::{Deserialize, Serialize};

/// How many replies are kept for each client.
pub const REPLIES_MAX: usize = 64;
/// How many clients are remembered; the one that has been quiet longest is forgotten first.
pub const CLIENTS_MAX: usize = 10_000;

/// An answer to a request.
pub type Answer = Result<Reply, Denied>;

/// One client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Client {
    /// The last replies, with the numbers of their requests, oldest first.
    replies: VecDeque<(u64, Answer)>,
    /// The entry of its last request.
    last: Seq,
}

/// All clients that number their requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clients {
    rows: BTreeMap<u64, Client>,
}

impl Clients {
    /// Returns the answer that a request was given before; `None` when it is new.
    #[must_use]
    pub fn answered(&self, client: u64, number: u64) -> Option<Answer> {
        let replies = &self.rows.get(&client)?.replies;
        let newest = replies.back().map_or(0, |(newest, _)| *newest);
        if number > newest {
            return None;
        }
        let kept = replies.iter().find(|(kept, _)| *kept == number);
        let old = Denied::TooOld { number, kept: REPLIES_MAX as u64 };
        Some(kept.map_or(Err(old), |(_, answer)| answer.clone()))
    }

    /// Keeps the answer to a new request.
    pub fn keep(&mut self, client: u64, number: u64, answer: Answer, at: Seq) {
        if planted(Canary::ForgetReplies) {
            return;
        }
        let row = self.rows.entry(client).or_default();
        row.last = at;
        row.replies.push_back((number, answer));
        if row.replies.len() > REPLIES_MAX {
            row.replies.pop_front();
        }
        if self.rows.len() > CLIENTS_MAX {
            let quiet = self.rows.iter().min_by_key(|(id, row)| (row.last, **id));
            if let Some(id) = quiet.map(|(id, _)| *id) {
                self.rows.remove(&id);
            }
        }
    }
}
