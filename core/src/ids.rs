//! Identities: small counters kept in the state, and the dense table they index.
//!
//! An id is handed out once and never reused (invariant 23). Ids of things that live as long as the
//! cluster (nodes, accounts, pools, shapes) index a [`Table`]; ids of things that come and go
//! (jobs, leases, offers, holds) are keys of ordered maps.

use alloc::vec::Vec;
use core::marker::PhantomData;
use serde::{Deserialize, Serialize};

/// Defines one kind of id.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $letter:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            Serialize, Deserialize,
        )]
        pub struct $name($inner);

        impl $name {
            /// Wraps a number that the core handed out.
            #[must_use]
            pub const fn new(value: $inner) -> Self {
                Self(value)
            }

            /// Returns the number.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }

            /// Returns the id that follows this one.
            ///
            /// # Panics
            /// When the counter is used up, which no cluster can reach.
            #[must_use]
            pub const fn next(self) -> Self {
                match self.0.checked_add(1) {
                    Some(value) => Self(value),
                    None => panic!("an id counter is not used up"),
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }
    };
}

id! {
    /// A node, in the order of the configuration.
    NodeId(u32), "n"
}
id! {
    /// An account, in the order of the configuration.
    AccountId(u32), "a"
}
id! {
    /// A pool, in the order of the configuration.
    PoolId(u32), "p"
}
id! {
    /// A shape: one combination of needs, pool and constraints that jobs share.
    ShapeId(u32), "s"
}
id! {
    /// A job, in the order of submission.
    JobId(u64), "j"
}
id! {
    /// A lease: one attempt of one job.
    LeaseId(u64), "l"
}
id! {
    /// An offer of a node to a pool.
    OfferId(u64), "o"
}
id! {
    /// A hold of credit for a term.
    HoldId(u64), "h"
}
id! {
    /// A transfer of credit.
    TransferId(u64), "t"
}
id! {
    /// The position of an entry in the journal, without gaps.
    Seq(u64), "#"
}
id! {
    /// Which start of a job a lease is; a message with an older epoch is stale.
    Epoch(u32), "e"
}

/// An id that is a number given out in order.
pub trait Numbered: Copy {
    /// Returns the number.
    fn number(self) -> u64;
    /// Returns the id of a number.
    fn numbered(number: u64) -> Self;
}

/// Implements [`Numbered`] for ids of 64 bits.
macro_rules! numbered {
    ($($name:ident),*) => {$(
        impl Numbered for $name {
            fn number(self) -> u64 {
                self.0
            }
            fn numbered(number: u64) -> Self {
                Self(number)
            }
        }
    )*};
}

numbered!(JobId, LeaseId, HoldId);

/// Of what is counted in memory.
impl Numbered for usize {
    fn number(self) -> u64 {
        self as u64
    }
    fn numbered(number: u64) -> Self {
        Self::try_from(number).unwrap_or(Self::MAX)
    }
}

/// An id that indexes a [`Table`].
pub trait Dense: Copy {
    /// Returns the index of the id.
    fn index(self) -> usize;
    /// Returns the id at an index.
    fn at(index: usize) -> Self;
}

/// Implements [`Dense`] for ids of 32 bits.
macro_rules! dense {
    ($($name:ident),*) => {$(
        impl Dense for $name {
            fn index(self) -> usize {
                usize::try_from(self.0).unwrap_or(usize::MAX)
            }
            fn at(index: usize) -> Self {
                Self(u32::try_from(index).unwrap_or(u32::MAX))
            }
        }
    )*};
}

dense!(NodeId, AccountId, PoolId, ShapeId);

/// A table whose rows are never removed, indexed by their id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Table<K, T> {
    rows: Vec<T>,
    #[serde(skip)]
    key: PhantomData<K>,
}

impl<K, T> Default for Table<K, T> {
    fn default() -> Self {
        Self { rows: Vec::new(), key: PhantomData }
    }
}

impl<K: Dense, T> Table<K, T> {
    /// Returns an empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a row and returns its id.
    pub fn push(&mut self, row: T) -> K {
        let id = K::at(self.rows.len());
        self.rows.push(row);
        id
    }

    /// Returns the row of an id that may come from outside.
    #[must_use]
    pub fn find(&self, id: K) -> Option<&T> {
        self.rows.get(id.index())
    }

    /// Returns how many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether the table has no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Walks ids and rows in id order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (K, &T)> + ExactSizeIterator {
        self.rows.iter().enumerate().map(|(index, row)| (K::at(index), row))
    }

    /// Walks ids and rows in id order, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (K, &mut T)> {
        self.rows.iter_mut().enumerate().map(|(index, row)| (K::at(index), row))
    }

    /// Walks the ids in order.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = K> + use<K, T> {
        (0..self.rows.len()).map(K::at)
    }
}

impl<K: Dense, T> core::ops::Index<K> for Table<K, T> {
    type Output = T;

    fn index(&self, id: K) -> &T {
        match self.rows.get(id.index()) {
            Some(row) => row,
            None => missing_row(id.index()),
        }
    }
}

impl<K: Dense, T> core::ops::IndexMut<K> for Table<K, T> {
    fn index_mut(&mut self, id: K) -> &mut T {
        match self.rows.get_mut(id.index()) {
            Some(row) => row,
            None => missing_row(id.index()),
        }
    }
}

/// Stops: our bug, as rows are never removed and ids come from `push`.
#[cold]
fn missing_row(index: usize) -> ! {
    panic!("row {index} is in its table")
}
