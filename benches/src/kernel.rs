//! The event queue alone, under the hold model: take the first event, insert another.

use crate::measure::{Dice, median, nanos, say, tenths};
use gridcore::units::{Span, Time};
use gridsim::kernel::{Class, EventQueue};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;

/// Events per measurement.
const EVENTS: u64 = 2_000_000;
/// The mean delay of an event in milliseconds.
const DELAY: u64 = 100_000;

/// Prints a row per number of pending events.
pub(crate) fn run() {
    say("kernel: hold model, ns per event and million events/s");
    say("  pending     queue   M/s   std heap   M/s");
    for pending in [100, 1_000, 100_000] {
        let queue = median(|| hold_queue(pending));
        let heap = median(|| hold_heap(pending));
        let rate = |ns: u128| tenths(u128::from(EVENTS) * 1_000, ns);
        let each = |ns: u128| tenths(ns, u128::from(EVENTS));
        say(&format!(
            "{pending:>9} {:>9} {:>5} {:>10} {:>5}",
            each(queue),
            rate(queue),
            each(heap),
            rate(heap)
        ));
    }
}

/// Holds `pending` events in the simulator's queue.
fn hold_queue(pending: u64) -> u128 {
    let mut dice = Dice(1);
    let mut queue = EventQueue::new();
    for i in 0..pending {
        queue.push(Time::from_ms(dice.below(2 * DELAY)), Class::End, i);
    }
    nanos(|| {
        for i in 0..EVENTS {
            let Some(event) = queue.pop() else { break };
            let at = event.at().after(Span::new(dice.below(2 * DELAY)));
            queue.push(at, Class::End, black_box(i));
        }
    })
}

/// Holds `pending` events of the same size in the standard library's heap: the floor.
fn hold_heap(pending: u64) -> u128 {
    let mut dice = Dice(1);
    let mut heap = BinaryHeap::new();
    for i in 0..pending {
        heap.push(Reverse((dice.below(2 * DELAY), i, i)));
    }
    nanos(|| {
        for i in 0..EVENTS {
            let Some(Reverse((at, ..))) = heap.pop() else { break };
            heap.push(Reverse((at + dice.below(2 * DELAY), pending + i, black_box(i))));
        }
    })
}
