//! Which combinations a search tries next: first spread over the whole space, then near the best.
//!
//! The first third is a Latin hypercube (M. D. McKay, R. J. Beckman, W. J. Conover, Technometrics
//! 21, 1979): each key takes values from everywhere in its range, evenly, whatever the others do.
//! The rest is a simple evolutionary search for many objectives (Global SEMO: O. Giel, CEC 2003,
//! after M. Laumanns, L. Thiele, E. Zitzler, IEEE Trans. Evol. Comput. 8, 2004): a parent drawn
//! from those that nothing dominates so far, each key of it changed with probability one over the
//! number of keys. Here half of the children first take each key from one of two parents, and a
//! number moves by steps of all sizes, so that far and near are both tried without a schedule.
//!
//! Nothing here runs anything, compares metrics or computes with floats: values are indices, and
//! every draw comes from a stream named by what it is for.

use crate::rng::{Stream, stream};
use crate::sweep::axis::{Point, Space};
use std::collections::BTreeSet;

/// How many combinations one generation has. It is not the number of processors, so that those
/// change nothing.
pub const GENERATION: usize = 8;
/// How often a child is drawn anew that was tried before or is refused.
const CHILD_DRAWS: u32 = 20;
/// How often a combination from everywhere is drawn anew.
const ANY_DRAWS: u32 = 200;
/// A space up to this size is walked rather than drawn from.
const WALK_MAX: u128 = 20_000;

/// Says whether a combination can be run.
pub type Fits<'a> = &'a dyn Fn(&Point) -> bool;

/// A search over a space; no combination is tried twice.
pub struct Search<'a> {
    space: &'a Space,
    fits: Fits<'a>,
    seed: u64,
    seen: BTreeSet<Point>,
    refused: u64,
    generation: u64,
}

impl<'a> Search<'a> {
    /// Begins a search; what does not fit is never returned.
    #[must_use]
    pub fn new(space: &'a Space, seed: u64, fits: Fits<'a>) -> Self {
        Self { space, fits, seed, seen: BTreeSet::new(), refused: 0, generation: 0 }
    }

    /// Returns how many combinations were looked at and did not fit.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Returns `count` combinations spread over the space, fewer where it has no more.
    pub fn design(&mut self, count: u32) -> Vec<Point> {
        let order = |axis| stream(self.seed, "tune-design", axis).permutation(count);
        let within = |axis| stream(self.seed, "tune-design-within", axis);
        let axes = (0_u64..).zip(self.space.axes());
        let mut columns: Vec<(Vec<u32>, Stream)> =
            axes.map(|(axis, _)| (order(axis), within(axis))).collect();
        let mut random = stream(self.seed, "tune-any", 0);
        let mut out = Vec::new();
        for row in 0..usize::try_from(count).unwrap_or(0) {
            let mut point = Point::new();
            for ((places, within), axis) in columns.iter_mut().zip(self.space.axes()) {
                let place = places.get(row).copied().map_or(0, u128::from);
                let (values, drawn) = (axis.count(), within.below(axis.count()));
                let index = (place * u128::from(values) + u128::from(drawn)) / u128::from(count);
                point.push(u64::try_from(index).unwrap_or(0));
            }
            let taken = if self.take(&point) { Some(point) } else { self.any(&mut random) };
            out.extend(taken);
        }
        out
    }

    /// Returns up to `count` combinations near the parents; none when the space has no more.
    pub fn children(&mut self, parents: &[Point], count: usize) -> Vec<Point> {
        let mut random = stream(self.seed, "tune-search", self.generation);
        self.generation += 1;
        let mut out = Vec::new();
        for _ in 0..count {
            let mut draws = 0..CHILD_DRAWS;
            let child = draws.find_map(|_| {
                let child = self.child(parents, &mut random)?;
                self.take(&child).then_some(child)
            });
            out.extend(child.or_else(|| self.any(&mut random)));
        }
        out
    }

    /// Draws a child of one or two parents.
    fn child(&self, parents: &[Point], random: &mut Stream) -> Option<Point> {
        let mut child = draw(parents, random)?.clone();
        if random.below(2) == 0 {
            let other = draw(parents, random)?;
            for (own, others) in child.iter_mut().zip(other) {
                if random.below(2) == 0 {
                    *own = *others;
                }
            }
        }
        let keys = u64::try_from(child.len()).unwrap_or(1);
        let sure = random.below(keys);
        for (i, (index, axis)) in (0_u64..).zip(child.iter_mut().zip(self.space.axes())) {
            if i != sure && random.below(keys) != 0 {
                continue;
            }
            let count = axis.count();
            *index = if axis.is_range() {
                moved(*index, count, random)
            } else {
                // Any of the others, each as likely.
                let other = random.below(count.saturating_sub(1));
                if count > 1 && other >= *index { other + 1 } else { other }
            };
        }
        Some(child)
    }

    /// Notes a combination; returns whether it is new and fits.
    fn take(&mut self, point: &Point) -> bool {
        if !self.seen.insert(point.clone()) {
            return false;
        }
        let fits = (self.fits)(point);
        self.refused += u64::from(!fits);
        fits
    }

    /// Returns a combination from anywhere that is new and fits.
    fn any(&mut self, random: &mut Stream) -> Option<Point> {
        let size = self.space.size();
        if size <= WALK_MAX {
            let from = u128::from(random.below(u64::try_from(size).unwrap_or(1)));
            return (0..size).find_map(|step| {
                let point = self.space.point((from + step) % size);
                self.take(&point).then_some(point)
            });
        }
        (0..ANY_DRAWS).find_map(|_| {
            let axes = self.space.axes().iter();
            let point: Point = axes.map(|axis| random.below(axis.count())).collect();
            self.take(&point).then_some(point)
        })
    }
}

/// Draws one of several, each as likely.
fn draw<'a>(of: &'a [Point], random: &mut Stream) -> Option<&'a Point> {
    let place = random.below(u64::try_from(of.len()).unwrap_or(0));
    of.get(usize::try_from(place).unwrap_or(0))
}

/// Moves an index by a step of any size, up or down; at an end it turns round.
fn moved(index: u64, count: u64, random: &mut Stream) -> u64 {
    let last = count.saturating_sub(1);
    // Half of the range, a quarter, and so on down to a 64th: near is as likely as far.
    let reach = (last >> (1 + random.below(6))).max(1);
    let step = 1 + random.below(reach);
    let up = random.below(2) == 0;
    let (higher, lower) = (index.saturating_add(step), index.checked_sub(step));
    match (up, lower) {
        (true, _) if higher <= last => higher,
        (_, Some(lower)) => lower,
        _ => higher.min(last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(keys: &[&str]) -> Space {
        Space::new(keys.iter().map(|key| key.parse().unwrap()).collect()).unwrap()
    }

    #[test]
    fn a_design_takes_every_part_of_every_range_once() {
        let space = space(&["a=0..99", "b=0..999", "c=x,y,z,w,v"]);
        let design = Search::new(&space, 3, &|_| true).design(10);
        for (axis, part) in [(0, 10), (1, 100)] {
            let mut parts: Vec<u64> = design.iter().map(|p| p[axis] / part).collect();
            parts.sort_unstable();
            assert_eq!(parts, (0..10).collect::<Vec<u64>>());
        }
        let mut choices: Vec<u64> = design.iter().map(|p| p[2]).collect();
        choices.sort_unstable();
        assert_eq!(choices, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn nothing_is_tried_twice_and_a_small_space_is_tried_whole() {
        let space = space(&["a=0..6", "b=x,y"]);
        let even = |point: &Point| point[0].is_multiple_of(2);
        let mut search = Search::new(&space, 1, &even);
        let mut all = search.design(4);
        while let Some(parent) = all.last().cloned() {
            let children = search.children(&[parent], GENERATION);
            if children.is_empty() {
                break;
            }
            all.extend(children);
        }
        let found: BTreeSet<&Point> = all.iter().collect();
        assert_eq!((found.len(), all.len(), search.refused()), (8, 8, 6));
        assert!(all.iter().all(even));
    }

    #[test]
    fn a_search_closes_in_on_the_front_and_is_the_same_again() {
        // Best at a = 700 for one objective and b = 200 for the other; c is in nobody's way.
        let space = space(&["a=0..1000", "b=0..1000", "c=x,y,z"]);
        let costs = |p: &Point| {
            let far = |index: u64, best: u64| i128::from(index.abs_diff(best));
            let away = i128::from(p[2] != 1) * 100;
            vec![far(p[0], 700) + away + far(p[1], 200) / 4, far(p[1], 200) + away]
        };
        let run = |seed| {
            let mut search = Search::new(&space, seed, &|_| true);
            let mut all = search.design(40);
            while all.len() < 120 {
                let mut front = crate::sweep::front::Front::default();
                all.iter().enumerate().for_each(|(i, p)| front.offer(i, costs(p)));
                let parents: Vec<Point> = front.numbers().map(|i| all[i].clone()).collect();
                all.extend(search.children(&parents, GENERATION));
            }
            all
        };
        let all = run(5);
        assert_eq!(all, run(5));
        assert_ne!(all, run(6));
        let best = |points: &[Point]| points.iter().map(|p| costs(p)[0]).min().unwrap();
        assert!(best(&all) * 3 < best(&all[..40]), "{} of {}", best(&all), best(&all[..40]));
        assert!(best(&all) < 40, "{}", best(&all));
    }
}
