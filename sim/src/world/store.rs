//! The coordinator's disk: what a crash keeps.
//!
//! An entry is synced before anything that follows from it is done. A crash in the middle of an
//! entry therefore leaves one of two pasts: the entry was never there, and nothing followed; or it
//! is there, and some of what followed was done. What was not synced is lost, or torn at any byte.

use super::World;
use super::network::Todo;
use crate::journal::Tail;
use crate::rng::Stream;
use gridcore::canary::{Canary, planted};
use gridcore::command::{Command, Entry, Report};
use gridcore::effect::Effect;
use gridcore::encode::Digest;
use gridcore::grid::Grid;
use gridcore::units::{Span, Time};

/// How many entries lie between two checkpoints.
const CHECKPOINT: usize = 512;

/// How a crash falls into an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// Before the entry is synced: it never was.
    Before,
    /// After it is synced, before anything follows.
    After,
    /// After it is synced and half of what follows is sent.
    Between,
}

/// A crash that is to come.
#[derive(Clone, Copy, Debug)]
struct Next {
    crash: Crash,
    away: Span,
    /// Until then it waits for a request.
    waits: Time,
}

/// What the coordinator has on disk.
pub(super) struct Store {
    /// Whether the coordinator runs.
    pub(super) up: bool,
    /// Until when its disk is full: what is left of it is for what machines state.
    pub(super) full_until: Time,
    /// How long it was away in all: its time does not count then.
    pub(super) lag: Span,
    checkpoint: Grid,
    /// The records since the checkpoint.
    tail: Tail,
    next: Option<Next>,
    last: Time,
    digest: Option<Digest>,
}

impl Store {
    pub(super) fn new(grid: &Grid) -> Self {
        Self {
            up: true,
            full_until: Time::ZERO,
            lag: Span::ZERO,
            checkpoint: grid.clone(),
            tail: Tail::after(grid.state().seq, grid.state().now),
            next: None,
            last: Time::ZERO,
            digest: None,
        }
    }

    /// Lets the next entry be the one that a crash falls into; until some time, the next request.
    pub(super) fn crash_next(&mut self, mode: u64, away: Span, waits: Time) {
        let crash = match mode {
            0 => Crash::Before,
            1 => Crash::After,
            _ => Crash::Between,
        };
        self.next = Some(Next { crash, away, waits });
    }

    /// Keeps an entry, or tells how a crash falls into it and how long the coordinator is away.
    pub(super) fn keep(
        &mut self,
        entry: &Entry<Command>,
        grid: &Grid,
        dice: &mut Stream,
    ) -> Option<(Crash, Span)> {
        let asked = matches!(entry.command, Command::Numbered(_));
        let falls = |next: &mut Next| asked || entry.at >= next.waits;
        let crash = self.next.take_if(falls).map(|next| (next.crash, next.away));
        self.tail.append(entry);
        if crash.is_some_and(|(crash, _)| crash == Crash::Before) {
            let kept = dice.below(self.tail.unsynced() as u64);
            let changed = (dice.below(2) == 0).then(|| dice.below(kept.max(1)));
            let place = |at: u64| usize::try_from(at).unwrap_or(0);
            self.tail.tear(place(kept), changed.map(place));
            return crash;
        }
        self.tail.sync();
        self.last = entry.at;
        if crash.is_some() {
            self.digest = Some(grid.digest());
        } else if self.tail.count() >= CHECKPOINT {
            self.checkpoint(grid);
        }
        crash
    }

    /// Keeps a whole state, and begins the records anew.
    fn checkpoint(&mut self, grid: &Grid) {
        self.checkpoint = grid.clone();
        self.tail = Tail::after(grid.state().seq, grid.state().now);
    }

    /// Returns the coordinator as it was when it was last synced, or what is wrong with it.
    fn recover(&mut self) -> Result<Grid, String> {
        let mut grid = self.checkpoint.clone();
        let mut lost = Vec::new();
        let mut entries = self.tail.entries().map_err(|error| error.to_string())?;
        if planted(Canary::LoseSynced) {
            entries.pop();
        }
        for entry in &entries {
            let _ = grid.apply(entry, &mut lost);
            lost.clear();
        }
        // A torn record is cut off.
        self.checkpoint(&grid);
        match self.digest.take() {
            Some(digest) if digest != grid.digest() => {
                Err(format!("the journal replays to {}, it was {digest}", grid.digest()))
            }
            Some(_) | None => Ok(grid),
        }
    }
}

impl World {
    /// Returns which effects are still performed when a crash falls into an entry: all that are
    /// only its log if it is synced, and half of what is sent where it falls between.
    pub(super) fn survive(crash: Crash, effects: &mut Vec<Effect>) {
        if crash == Crash::Before {
            effects.clear();
            return;
        }
        let sends = effects.iter().filter(|e| matches!(e, Effect::Send { .. })).count();
        let kept = if crash == Crash::Between { sends / 2 } else { 0 };
        let mut seen = 0;
        effects.retain(|effect| {
            let send = matches!(effect, Effect::Send { .. });
            seen += usize::from(send);
            !send || seen <= kept
        });
    }

    /// Stops the coordinator for a while.
    pub(super) fn stop_coordinator(&mut self, away: Span) {
        let back = self.now.after(away);
        if let Some(far) = &mut self.far {
            far.store.up = false;
        }
        self.wake_at = None;
        self.later(back, Todo::Restart);
    }

    /// Starts the coordinator again from what was synced.
    pub(super) fn restart(&mut self) {
        let Some(far) = &mut self.far else { return };
        match far.store.recover() {
            Ok(grid) => self.grid = grid,
            Err(what) => self.broken.push(what),
        }
        let Some(far) = &mut self.far else { return };
        far.store.up = true;
        far.store.lag = self.now.since(far.store.last);
        self.seq = self.grid.state().seq;
        let nodes: Vec<_> = self.grid.state().nodes.ids().collect();
        for node in nodes {
            self.note_owner(node);
        }
        self.apply(Command::Report(Report::Restarted));
        self.replay_all();
        self.connect_all();
    }
}
