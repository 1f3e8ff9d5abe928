//! The node's end of the protocol: sessions, heartbeats, and when each was sent.
//!
//! A session begins with a hello that the coordinator answers; whatever belongs to another session,
//! or was overtaken in this one, is dropped. A permission names a heartbeat, and is counted from
//! when this end sent it (LIVE.md P4, P5).

use crate::canary::{Canary, planted};
use crate::ids::NodeId;
use crate::units::{Span, Time};
use crate::wire::{Envelope, Permission, VERSIONS};
use alloc::collections::VecDeque;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// How many sent heartbeats are remembered. An order that names an older one is refused.
const SENT_MAX: usize = 256;

/// Who a station is, to its coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster it belongs to.
    pub cluster: u64,
    /// Its number there.
    pub node: NodeId,
    /// Which start of the station this is; higher than any before.
    pub life: u32,
    /// Lowest and highest version it speaks.
    pub versions: (u16, u16),
    /// The build, for people.
    pub build: String,
}

impl Identity {
    /// Returns the identity of a station of this build.
    #[must_use]
    pub fn new(cluster: u64, node: NodeId, life: u32) -> Self {
        let build = String::from(env!("CARGO_PKG_VERSION"));
        Self { cluster, node, life, versions: VERSIONS, build }
    }
}

/// The node's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Who it is.
    pub identity: Identity,
    /// The last hello.
    pub hello: u64,
    /// The session; 0 while there is none.
    pub session: u64,
    /// The last message of the coordinator that was followed.
    pub seen: u64,
    /// The last heartbeat.
    pub beat: u64,
    /// When the last heartbeats were sent, oldest first.
    sent: VecDeque<(u64, Time)>,
    /// When the next is due.
    pub next: Time,
    /// Messages that belonged to another session or were overtaken.
    pub stale: u64,
    /// What the coordinator speaks, when the versions have nothing in common.
    pub incompatible: Option<(u16, u16)>,
}

impl Link {
    /// Makes the end of a station that has just started.
    #[must_use]
    pub fn new(identity: Identity, now: Time) -> Self {
        let hello = u64::from(identity.life) << 32;
        Self {
            identity,
            hello,
            session: 0,
            seen: 0,
            beat: 0,
            sent: VecDeque::new(),
            next: now,
            stale: 0,
            incompatible: None,
        }
    }

    /// Gives the session up: the next message is a new hello.
    pub fn reset(&mut self, now: Time) {
        self.hello += 1;
        (self.session, self.seen, self.next) = (0, 0, now);
    }

    /// Begins a session in this version, if it answers the last hello and there is none.
    pub fn welcome(&mut self, envelope: Envelope, hello: u64, version: u16) -> bool {
        let (lowest, highest) = self.identity.versions;
        let spoken = (lowest..=highest).contains(&version);
        let fits = spoken && self.session == 0 && hello == self.hello && envelope.session > 0;
        if fits {
            (self.session, self.seen) = (envelope.session, envelope.number);
            self.incompatible = None;
        }
        fits
    }

    /// Returns whether a message is for this node.
    #[must_use]
    pub fn is_mine(&self, envelope: Envelope) -> bool {
        envelope.cluster == self.identity.cluster && envelope.node == self.identity.node
    }

    /// Takes a message of the session, unless another overtook it.
    pub fn take(&mut self, envelope: Envelope) -> bool {
        let newer = envelope.number > self.seen || planted(Canary::FollowOvertaken);
        let fresh = self.session > 0 && envelope.session == self.session && newer;
        if fresh {
            self.seen = self.seen.max(envelope.number);
        }
        fresh
    }

    /// Counts a message that is being sent now, and says when the next is due.
    pub fn send(&mut self, now: Time, interval: Span) -> Envelope {
        self.beat += 1;
        self.sent.push_back((self.beat, now));
        if self.sent.len() > SENT_MAX {
            self.sent.pop_front();
        }
        self.next = now.after(interval);
        let Identity { cluster, node, .. } = self.identity;
        Envelope { cluster, node, session: self.session, number: self.beat }
    }

    /// Returns until when a permission lets a lease run; `None` when the heartbeat it names is not
    /// known any more.
    #[must_use]
    pub fn until(&self, permission: Permission, now: Time) -> Option<Time> {
        if planted(Canary::PermitFromReceipt) {
            return Some(now.after(permission.span));
        }
        let sent = self.sent.iter().find(|(beat, _)| *beat == permission.beat)?;
        Some(sent.1.after(permission.span))
    }
}
