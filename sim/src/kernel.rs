//! The event queue: what happens next, in one stated order.
//!
//! Events come out by time, then by class, then by insertion. The class order at one instant is
//! part of the model (HOUSE.md: faults, samples, submissions, ends, then the halves' own wakes).
//! Samples of one instant come out by node: any order of them gives the same (invariant 46), and
//! this one walks the memory of ten thousand nodes forwards. Ends come out in the order in which
//! the processes were started.

use gridcore::units::Time;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What kind of event; the order at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// A node fails or returns.
    Fault,
    /// Something happens by the weather between the halves: a message arrives, a machine returns.
    Weather,
    /// The wall clock reaches an hour that a rule names.
    Clock,
    /// An owner's use changes.
    Sample,
    /// A job is submitted.
    Submit,
    /// A process tree ends.
    End,
    /// A process's permission, or its notice, is over.
    Deadline,
    /// A node's half asked to be woken.
    Node,
    /// The coordinator's half asked to be woken.
    Wake,
    /// The run is measured; changes nothing.
    Observe,
}

/// Bits of the insertion counter below the class.
const COUNTER_BITS: u32 = 56;

/// One event: 24 bytes; `what` is an index into whatever the class is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    at: Time,
    /// Class above insertion counter.
    order: u64,
    what: u64,
}

impl Event {
    /// Returns when it happens.
    #[must_use]
    pub fn at(&self) -> Time {
        self.at
    }

    /// Returns its class.
    #[must_use]
    pub fn class(&self) -> Class {
        match self.order >> COUNTER_BITS {
            0 => Class::Fault,
            1 => Class::Weather,
            2 => Class::Clock,
            3 => Class::Sample,
            4 => Class::Submit,
            5 => Class::End,
            6 => Class::Deadline,
            7 => Class::Node,
            8 => Class::Wake,
            _ => Class::Observe,
        }
    }

    /// Returns the index it carries.
    #[must_use]
    pub fn what(&self) -> u64 {
        self.what
    }
}

/// The queue.
#[derive(Clone, Debug, Default)]
pub struct EventQueue {
    heap: BinaryHeap<Reverse<Event>>,
    inserted: u64,
}

impl EventQueue {
    /// Returns an empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Inserts an event behind all of the same time and class; a sample or an end, before those of
    /// nodes or processes with a higher number.
    #[inline(never)]
    pub fn push(&mut self, at: Time, class: Class, what: u64) {
        let numbered = matches!(class, Class::Sample | Class::End);
        let rank = if numbered { what } else { self.inserted };
        let order = ((class as u64) << COUNTER_BITS) | rank;
        self.inserted += 1;
        self.heap.push(Reverse(Event { at, order, what }));
    }

    /// Takes the first event.
    pub fn pop(&mut self) -> Option<Event> {
        self.heap.pop().map(|Reverse(event)| event)
    }

    /// Returns the first event.
    #[must_use]
    pub fn peek(&self) -> Option<Event> {
        self.heap.peek().map(|Reverse(event)| *event)
    }

    /// Returns how many events wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Returns whether no event waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_then_class_then_number_or_insertion() {
        let mut queue = EventQueue::new();
        let at = Time::from_ms;
        queue.push(at(5), Class::Wake, 1);
        queue.push(at(5), Class::End, 3);
        queue.push(at(5), Class::End, 2);
        queue.push(at(1), Class::Wake, 4);
        queue.push(at(5), Class::Fault, 5);
        let order: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(|e| e.what()).collect();
        assert_eq!(order, [4, 5, 2, 3, 1]);
    }
}
