//! Bugs that can be planted, for the proof that the swarm finds such bugs.
//!
//! Only a build with the feature `canaries`, which no package of this project turns on, can plant
//! one; in every other build [`planted`] is `false` at compile time and nothing of this is left.

macro_rules! canaries {
    ($($(#[doc = $about:literal])+ $name:ident,)+) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Canary {
            $($(#[doc = $about])+ $name,)+
        }

        impl Canary {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Returns what is wrong when it is planted.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($about),+),)+
                }
            }
        }
    };
}

canaries! {
    /// The coordinator does not look at the epoch of a report.
    SkipEpochCheck,
    /// The coordinator follows heartbeats of other sessions.
    SkipSessionCheck,
    /// The coordinator follows heartbeats that later ones overtook.
    SkipNumberCheck,
    /// The coordinator follows hellos that later ones overtook.
    TakeOldHello,
    /// A hello that was answered before the coordinator's last start begins a session.
    TakeAnsweredHello,
    /// Any node may report about any lease.
    SkipNodeCheck,
    /// A node is believed about a start that it cannot have heard of.
    BelieveTooEarly,
    /// A permission counts from when the order arrives.
    PermitFromReceipt,
    /// An order to run is followed although its permission is over.
    FollowLateStart,
    /// The coordinator places again when a permission ends, without the time to kill.
    ForgetKillTime,
    /// A renewal does not move the time until which a lease may be somewhere.
    ForgetRenewalWait,
    /// Any heartbeat confirms every order.
    ConfirmAll,
    /// A lease that its node does not list is started there once more.
    StartAgain,
    /// A start that may be under way is given up when its node does not list it.
    LoseUnderWay,
    /// The reply to a numbered request is not kept.
    ForgetReplies,
    /// A number of a lease is given out twice.
    ReuseLeaseId,
    /// A term is settled twice.
    ChargeTwice,
    /// What was held and not used is not given back.
    ForgetRestore,
    /// The capacity of a lost lease is not given back.
    ForgetToFree,
    /// A lease is evicted and nobody's claim names it.
    EvictWithoutPlan,
    /// A lease makes way before it has run long enough.
    SkipMinRuntime,
    /// A lower class goes first.
    LowClassFirst,
    /// Nobody keeps a place for who starves.
    ForgetStarving,
    /// Ties are broken by something outside the state.
    AmbientTie,
    /// An evicted job is not put back into the queue.
    LoseRequeued,
    /// A job that is cancelled while it leaves waits again.
    ForgetCancel,
    /// An offer does not shrink when the owner uses more.
    KeepOffer,
    /// What a lease has beside its needs is not taken back for who needs it.
    KeepExtra,
    /// The node starts what it is told although its owner said no.
    IgnoreVeto,
    /// The node follows messages that later ones overtook.
    FollowOvertaken,
    /// The node starts a lease before its disk knows of it.
    SkipMarker,
    /// A station that starts again takes what has ended for its own running process.
    AdoptStranger,
    /// A node calls a lease empty when it was only told to die.
    FreeBeforeEmpty,
    /// A process that ignores its notice is not killed.
    NeverKill,
    /// A paused lease stays paused.
    PauseForEver,
    /// The owner's return is not noticed.
    IgnoreReturn,
    /// The simulated coordinator answers before it has synced.
    AnswerBeforeSync,
    /// The simulated coordinator loses the last entry that it has synced.
    LoseSynced,
    /// A process does not keep the deadline of its permission.
    SkipDeadline,
    /// A station that starts again does not do what its disk says and its processes may not know.
    TrustProcesses,
    /// A job starts although others must complete first.
    StartDependent,
    /// A new session lets go on what its account has suspended.
    ForgetSuspension,
}

#[cfg(feature = "canaries")]
mod plant {
    use super::Canary;
    use core::sync::atomic::{AtomicUsize, Ordering};

    /// The place of the planted canary in the list, counted from 1; 0 is none.
    static PLANTED: AtomicUsize = AtomicUsize::new(0);
    /// What stands for anything that is not in the state.
    static AMBIENT: AtomicUsize = AtomicUsize::new(0);

    /// Plants one bug, or none.
    pub fn plant(canary: Option<Canary>) {
        let place = canary.and_then(|canary| Canary::ALL.iter().position(|c| *c == canary));
        PLANTED.store(place.map_or(0, |place| place + 1), Ordering::SeqCst);
    }

    /// Returns whether a bug is planted.
    #[must_use]
    pub fn planted(canary: Canary) -> bool {
        PLANTED.load(Ordering::Relaxed) == canary as usize + 1
    }

    /// Returns something that differs every time.
    #[must_use]
    pub fn ambient() -> u64 {
        AMBIENT.fetch_add(1, Ordering::Relaxed) as u64
    }
}

#[cfg(feature = "canaries")]
pub use plant::{ambient, plant, planted};

/// Returns whether a bug is planted: never in this build.
#[cfg(not(feature = "canaries"))]
#[must_use]
#[inline(always)]
pub const fn planted(_: Canary) -> bool {
    false
}

/// Returns something that differs every time where such a bug can be planted: not in this build.
#[cfg(not(feature = "canaries"))]
#[must_use]
#[inline(always)]
pub const fn ambient() -> u64 {
    0
}
