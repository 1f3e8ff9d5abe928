//! Flat sets and maps: few members, in order, in one piece of memory.
//!
//! For what is walked far more often than it changes, or mostly has one member: a walk is a slice,
//! and the youngest number goes to the end. Or hardly ever more than one ([`Few`]), which then
//! needs no memory of its own. Encoded as an ordered set or map.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;
use core::iter::once;
use core::marker::PhantomData;
use core::ops::Bound::{Excluded, Unbounded};
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

/// Members in order, each once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlatSet<T>(FlatMap<T, ()>);

impl<T> Default for FlatSet<T> {
    fn default() -> Self {
        Self(FlatMap::default())
    }
}

impl<T: Ord + Copy> FlatSet<T> {
    /// Puts a member in; returns whether it is new.
    pub fn insert(&mut self, member: T) -> bool {
        self.0.insert(member, ()).is_none()
    }

    /// Takes a member out; returns whether it was there.
    pub fn remove(&mut self, member: &T) -> bool {
        self.0.remove(member).is_some()
    }

    /// Takes the first member out.
    pub fn pop_first(&mut self) -> Option<T> {
        let first = self.first();
        first.filter(|first| self.remove(first))
    }

    /// Returns the first member.
    #[must_use]
    pub fn first(&self) -> Option<T> {
        self.iter().next().copied()
    }

    /// Takes all members out.
    pub fn clear(&mut self) {
        self.0.0.clear();
    }

    /// Returns whether it has a member.
    #[must_use]
    pub fn contains(&self, member: &T) -> bool {
        self.0.contains_key(member)
    }

    /// Returns how many members it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Walks the members in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.0.keys()
    }
}

impl<T: Ord + Copy> FromIterator<T> for FlatSet<T> {
    fn from_iter<I: IntoIterator<Item = T>>(members: I) -> Self {
        let mut all = Self::default();
        members.into_iter().for_each(|member| {
            all.insert(member);
        });
        all
    }
}

impl<K: Ord + Copy> FlatMap<K, u64> {
    /// Adds one to the count of a key.
    pub fn count(&mut self, key: K) {
        match self.get_mut(&key) {
            Some(count) => *count += 1,
            None => {
                self.insert(key, 1);
            }
        }
    }

    /// Takes one from the count of a key, which goes with its last; returns whether there was one.
    pub fn uncount(&mut self, key: &K) -> bool {
        let Some(count) = self.get_mut(key) else { return false };
        *count -= 1;
        if *count == 0 {
            self.remove(key);
        }
        true
    }
}

impl<T: Serialize> Serialize for FlatSet<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.0.iter().map(|(member, ())| member))
    }
}

impl<'de, T: Deserialize<'de> + Ord> Deserialize<'de> for FlatSet<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members: Vec<T> = Vec::deserialize(deserializer)?;
        if members.is_sorted_by(|a, b| a < b) {
            Ok(Self(FlatMap(members.into_iter().map(|member| (member, ())).collect())))
        } else {
            Err(D::Error::custom("the members of a set are out of order"))
        }
    }
}

/// Values by their keys, in the order of these.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlatMap<K, V>(Vec<(K, V)>);

impl<K, V> Default for FlatMap<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord + Copy, V> FlatMap<K, V> {
    /// Returns where a key is, or would be.
    fn place(&self, key: &K) -> Result<usize, usize> {
        match self.0.last() {
            Some((last, _)) if last < key => Err(self.0.len()),
            Some(_) | None => self.0.binary_search_by_key(key, |(key, _)| *key),
        }
    }

    /// Returns a value.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.get(self.place(key).ok()?).map(|(_, value)| value)
    }

    /// Returns a value to change it.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.place(key).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    /// Returns whether there is a value of a key.
    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.place(key).is_ok()
    }

    /// Puts a value in; returns the one that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Ok(at) => self.0.get_mut(at).map(|(_, old)| core::mem::replace(old, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.place(key).ok()?;
        Some(self.0.remove(at).1)
    }

    /// Returns how many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Walks keys and values in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// Walks the keys in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// Walks the values in order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }
}

impl<K: Serialize, V: Serialize> Serialize for FlatMap<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// What reads a map.
struct Reading<K, V>(PhantomData<(K, V)>);

impl<'de, K, V> Visitor<'de> for Reading<K, V>
where
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    type Value = FlatMap<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("values in the order of their keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FlatMap<K, V>, A::Error> {
        let mut all: Vec<(K, V)> = Vec::new();
        while let Some(entry) = map.next_entry()? {
            if all.last().is_some_and(|(last, _)| *last >= entry.0) {
                return Err(A::Error::custom("the keys of a map are out of order"));
            }
            all.push(entry);
        }
        Ok(FlatMap(all))
    }
}

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Deserialize<'de> for FlatMap<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reading(PhantomData))
    }
}

/// At least one member, in order, each once; mostly only one, which needs no memory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Few<T> {
    first: T,
    rest: BTreeSet<T>,
}

impl<T: Ord + Copy> Few<T> {
    /// Returns the set of one member.
    #[must_use]
    pub fn of(member: T) -> Self {
        Self { first: member, rest: BTreeSet::new() }
    }

    /// Returns the first member.
    #[must_use]
    pub fn first(&self) -> T {
        self.first
    }

    /// Puts a member in; returns whether it is new.
    pub fn insert(&mut self, member: T) -> bool {
        match member.cmp(&self.first) {
            Ordering::Less => self.rest.insert(core::mem::replace(&mut self.first, member)),
            Ordering::Equal => false,
            Ordering::Greater => self.rest.insert(member),
        }
    }

    /// Takes a member out, unless it is the only one; returns whether there is another.
    pub fn remove(&mut self, member: &T) -> bool {
        if *member != self.first {
            self.rest.remove(member);
            return true;
        }
        let Some(next) = self.rest.pop_first() else { return false };
        self.first = next;
        true
    }

    /// Returns whether it has a member.
    #[must_use]
    pub fn contains(&self, member: &T) -> bool {
        self.first == *member || self.rest.contains(member)
    }

    /// Returns how many members it has.
    #[must_use]
    pub fn count(&self) -> usize {
        1 + self.rest.len()
    }

    /// Walks the members in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        once(&self.first).chain(&self.rest)
    }

    /// Walks the members that come after one, in order.
    pub fn after(&self, member: T) -> impl Iterator<Item = T> {
        let rest = self.rest.range((Excluded(member), Unbounded)).copied();
        Some(self.first).filter(|first| *first > member).into_iter().chain(rest)
    }
}

impl<T: Serialize + Ord + Copy> Serialize for Few<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.count()))?;
        self.iter().try_for_each(|member| seq.serialize_element(member))?;
        seq.end()
    }
}

impl<'de, T: Deserialize<'de> + Ord + Copy> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all: FlatSet<T> = FlatSet::deserialize(deserializer)?;
        let mut members = all.iter().copied();
        let first = members.next().ok_or_else(|| D::Error::custom("a set has no member"))?;
        Ok(Self { first, rest: members.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::{BTreeMap, BTreeSet};

    #[test]
    fn a_flat_set_is_collected_in_order_and_taken_from_the_front() {
        let mut flat: FlatSet<u64> = [3, 1, 2, 3].into_iter().collect();
        assert_eq!(flat.first(), Some(1));
        let taken: [Option<u64>; 4] = core::array::from_fn(|_| flat.pop_first());
        assert_eq!((taken, flat.first()), ([Some(1), Some(2), Some(3), None], None));
    }

    #[test]
    fn a_key_goes_with_the_last_of_its_count() {
        let mut counts = FlatMap::default();
        [7_u8, 5, 7].into_iter().for_each(|key| counts.count(key));
        assert_eq!(counts.iter().collect::<Vec<_>>(), [(&5, &1), (&7, &2)]);
        assert!(counts.uncount(&7) && counts.uncount(&5));
        assert_eq!(counts.iter().collect::<Vec<_>>(), [(&7, &1)]);
        assert!(!counts.uncount(&5) && counts.uncount(&7) && counts.is_empty());
    }

    #[test]
    fn a_flat_map_is_an_ordered_map() {
        let (mut flat, mut map) = (FlatMap::default(), BTreeMap::new());
        let mut seed = 11_u64;
        for step in 0..20_000_u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = seed >> 58;
            assert_eq!(flat.contains_key(&key), map.contains_key(&key));
            if seed & 1 << 40 == 0 {
                assert_eq!(flat.insert(key, step), map.insert(key, step));
            } else {
                assert_eq!(flat.remove(&key), map.remove(&key));
            }
            assert_eq!((flat.len(), flat.get(&key)), (map.len(), map.get(&key)));
            assert_eq!(flat.get_mut(&9), map.get_mut(&9));
        }
        assert!(flat.iter().eq(&map) && flat.keys().eq(map.keys()));
        assert!(flat.values().eq(map.values()) && !flat.is_empty());
        let bytes = crate::encode::to_bytes(&flat).unwrap_or_default();
        assert_eq!(Ok(&bytes), crate::encode::to_bytes(&map).as_ref());
        assert_eq!(crate::decode::from_bytes(&bytes), Ok(flat));
        let twice = FlatMap(Vec::from([(3_u64, 1_u64), (3, 2)]));
        let twice = crate::encode::to_bytes(&twice).unwrap_or_default();
        assert!(crate::decode::from_bytes::<FlatMap<u64, u64>>(&twice).is_err());
    }

    #[test]
    fn few_are_an_ordered_set_that_is_never_empty() {
        let (mut few, mut set) = (Few::of(40_u64), BTreeSet::from([40]));
        let mut seed = 5_u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let member = seed >> 61;
            if seed & 1 << 40 == 0 {
                assert_eq!(few.insert(member), set.insert(member));
            } else if set.len() == 1 && set.contains(&member) {
                assert!(!few.remove(&member), "the last one stays");
            } else {
                assert!(few.remove(&member), "there is another");
                set.remove(&member);
            }
            assert_eq!((few.count(), Some(&few.first())), (set.len(), set.first()));
            assert_eq!(few.contains(&member), set.contains(&member));
            assert!(few.iter().eq(&set));
            assert!(few.after(member).eq(set.range((Excluded(member), Unbounded)).copied()));
        }
        let bytes = crate::encode::to_bytes(&few).unwrap_or_default();
        assert_eq!(Ok(&bytes), crate::encode::to_bytes(&set).as_ref());
        assert_eq!(crate::decode::from_bytes(&bytes), Ok(few));
        let none = crate::encode::to_bytes(&BTreeSet::<u64>::new()).unwrap_or_default();
        assert!(crate::decode::from_bytes::<Few<u64>>(&none).is_err());
    }

    #[test]
    fn a_flat_set_is_an_ordered_set() {
        let (mut flat, mut set) = (FlatSet::default(), BTreeSet::new());
        let mut seed = 7_u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let member = seed >> 58;
            assert_eq!(flat.contains(&member), set.contains(&member));
            if seed & 1 << 40 == 0 {
                assert_eq!(flat.insert(member), set.insert(member));
            } else {
                assert_eq!(flat.remove(&member), set.remove(&member));
            }
            assert_eq!((flat.len(), flat.is_empty()), (set.len(), set.is_empty()));
        }
        assert!(flat.iter().eq(&set));
        let bytes = crate::encode::to_bytes(&flat).unwrap_or_default();
        assert_eq!(Ok(&bytes), crate::encode::to_bytes(&set).as_ref());
        assert_eq!(crate::decode::from_bytes(&bytes), Ok(flat));
        let twice = crate::encode::to_bytes(&Vec::from([3_u64, 3])).unwrap_or_default();
        assert!(crate::decode::from_bytes::<FlatSet<u64>>(&twice).is_err());
    }
}
