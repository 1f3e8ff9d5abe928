//! The Pareto front: what no other combination beats in everything that counts.

/// Returns whether one is at least as good in everything and better in something; less is better.
#[must_use]
pub fn dominates(one: &[i128], other: &[i128]) -> bool {
    let mut pairs = one.iter().zip(other);
    pairs.all(|(a, b)| a <= b) && one.iter().zip(other).any(|(a, b)| a < b)
}

/// Those of the offered that no other offered one dominates, in the order of their numbers.
///
/// Of several that are equal in everything all stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Front {
    members: Vec<(usize, Vec<i128>)>,
}

impl Front {
    /// Offers number `number` with its costs, of which less is better; numbers go up.
    pub fn offer(&mut self, number: usize, costs: Vec<i128>) {
        if self.members.iter().any(|(_, member)| dominates(member, &costs)) {
            return;
        }
        self.members.retain(|(_, member)| !dominates(&costs, member));
        self.members.push((number, costs));
    }

    /// Returns the numbers of its members.
    pub fn numbers(&self) -> impl Iterator<Item = usize> + '_ {
        self.members.iter().map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn front(all: &[Vec<i128>]) -> Vec<usize> {
        let mut front = Front::default();
        for (i, costs) in all.iter().enumerate() {
            front.offer(i, costs.clone());
        }
        front.numbers().collect()
    }

    #[test]
    fn equals_stay_together_and_the_beaten_go() {
        let all = [vec![2, 2], vec![1, 3], vec![2, 2], vec![3, 3], vec![0, 4], vec![1, 2]];
        assert_eq!(front(&all), [4, 5]);
        assert_eq!(front(&all[..4]), [0, 1, 2]);
        assert!(!dominates(&[1, 2], &[1, 2]));
        assert!(dominates(&[1, 2], &[1, 3]) && !dominates(&[1, 2], &[0, 3]));
    }

    proptest! {
        #[test]
        fn the_front_is_what_nothing_dominates_in_any_order(
            all in prop::collection::vec(prop::collection::vec(-3_i128..3, 3), 0..40),
        ) {
            let is_free = |i: &usize| !all.iter().any(|other| dominates(other, &all[*i]));
            let slow: Vec<usize> = (0..all.len()).filter(is_free).collect();
            prop_assert_eq!(front(&all), slow.clone());
            let turned: Vec<Vec<i128>> = all.iter().rev().cloned().collect();
            let mut back: Vec<usize> =
                front(&turned).into_iter().map(|i| all.len() - 1 - i).collect();
            back.reverse();
            prop_assert_eq!(back, slow);
        }

        #[test]
        fn dominance_is_a_strict_order(
            abc in prop::collection::vec(prop::collection::vec(0_i128..3, 3), 3),
        ) {
            let [a, b, c] = [&abc[0], &abc[1], &abc[2]];
            prop_assert!(!dominates(a, a));
            prop_assert!(!(dominates(a, b) && dominates(b, a)));
            prop_assert!(!(dominates(a, b) && dominates(b, c)) || dominates(a, c));
        }
    }
}
