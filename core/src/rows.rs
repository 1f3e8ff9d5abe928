//! Rows that come and go, found by their number at once.
//!
//! Jobs, leases and holds get their numbers in order and most live briefly, so the live ones lie
//! close together: the youngest are kept in one piece of memory, each at its number, and the few
//! that stay far longer than most in an ordered map. A look-up is one step for nearly all. Rows are
//! walked in the order of their numbers and encoded as an ordered map of them. Large rows are
//! boxed: they come and go without a copy.

use crate::ids::Numbered;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::borrow::BorrowMut;
use core::fmt;
use core::iter::repeat_with;
use core::marker::PhantomData;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Places in one piece up to which nobody asks how many of them are empty.
const PLACES_MIN: usize = 1_024;
/// Most places there for each row in them.
const PLACES_PER_ROW: usize = 16;

/// Live rows by their number, each kept as an `S`.
#[derive(Clone)]
pub struct Rows<K, T, S = T> {
    /// The rows from a number on, each at its place.
    near: Vec<Option<S>>,
    /// The number of the first place.
    first: u64,
    /// How many places at the front are empty: at most half.
    gone: usize,
    /// The rows of lower numbers.
    far: BTreeMap<u64, S>,
    len: usize,
    key: PhantomData<(K, T)>,
}

/// Live rows that are too large to be copied.
pub type BoxedRows<K, T> = Rows<K, T, Box<T>>;

impl<K, T, S> Default for Rows<K, T, S> {
    fn default() -> Self {
        let (near, far) = (Vec::new(), BTreeMap::new());
        Self { near, first: 0, gone: 0, far, len: 0, key: PhantomData }
    }
}

impl<K: Numbered, T, S: BorrowMut<T> + From<T>> Rows<K, T, S> {
    /// Returns no rows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns where a number stands among those that are near: past them if it is none of these.
    fn place(&self, number: u64) -> usize {
        usize::try_from(number.wrapping_sub(self.first)).unwrap_or(usize::MAX)
    }

    /// Returns a row.
    #[must_use]
    #[inline]
    pub fn get(&self, id: &K) -> Option<&T> {
        let number = id.number();
        match self.near.get(self.place(number)) {
            Some(Some(row)) => Some(row.borrow()),
            Some(None) | None => self.get_far(number),
        }
    }

    #[cold]
    fn get_far(&self, number: u64) -> Option<&T> {
        self.far.get(&number).map(S::borrow)
    }

    /// Returns a row to change it.
    #[inline]
    pub fn get_mut(&mut self, id: &K) -> Option<&mut T> {
        let number = id.number();
        let place = self.place(number);
        match self.near.get_mut(place) {
            Some(Some(row)) => Some(row.borrow_mut()),
            Some(None) | None => self.far.get_mut(&number).map(S::borrow_mut),
        }
    }

    /// Returns whether there is such a row.
    #[must_use]
    pub fn contains_key(&self, id: &K) -> bool {
        self.get(id).is_some()
    }

    /// Puts a row in; returns the one that was there.
    pub fn insert(&mut self, id: K, row: impl Into<S>) -> Option<S> {
        let (number, row) = (id.number(), row.into());
        let after = self.first.saturating_add(self.near.len() as u64);
        if number < self.first || number - after.min(number) > PLACES_MIN as u64 {
            self.make_far(number);
        }
        let old = if number < self.first {
            self.far.insert(number, row)
        } else {
            let place = self.place(number);
            if place >= self.near.len() {
                self.near.extend(repeat_with(|| None).take(place + 1 - self.near.len()));
            }
            self.gone = self.gone.min(place);
            self.near.get_mut(place)?.replace(row)
        };
        self.len += usize::from(old.is_none());
        let rows = self.len - self.far.len();
        if self.near.len() > PLACES_MIN && self.near.len() > PLACES_PER_ROW * rows {
            self.part(self.near.len() / 2);
        }
        old
    }

    /// Makes room for a number that lies far above all others, or is the first.
    #[cold]
    fn make_far(&mut self, number: u64) {
        if number >= self.first || self.len == 0 {
            self.part(self.near.len());
            self.first = number;
        }
    }

    /// Lets the rows of so many places be far.
    #[cold]
    fn part(&mut self, places: usize) {
        let numbered = self.near.drain(..places).zip(self.first..=u64::MAX);
        self.far.extend(numbered.filter_map(|(row, number)| Some((number, row?))));
        self.first = self.first.saturating_add(places as u64);
        self.gone = 0;
    }

    /// Takes a row out.
    pub fn remove(&mut self, id: &K) -> Option<S> {
        let number = id.number();
        let place = self.place(number);
        let near = self.near.get_mut(place).and_then(Option::take);
        let row = near.or_else(|| self.far.remove(&number))?;
        self.len -= 1;
        while self.near.get(self.gone).is_some_and(Option::is_none) {
            self.gone += 1;
        }
        if 2 * self.gone > self.near.len() {
            self.near.drain(..self.gone);
            self.first = self.first.saturating_add(self.gone as u64);
            self.gone = 0;
        }
        Some(row)
    }

    /// Returns how many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Walks numbers and rows.
    pub fn iter<'a>(&'a self) -> impl Iterator<Item = (K, &'a T)>
    where
        T: 'a,
    {
        let far = self.far.iter().map(|(number, row)| (*number, row));
        let near = self.near.iter().zip(self.first..=u64::MAX);
        let near = near.filter_map(|(row, number)| Some((number, row.as_ref()?)));
        far.chain(near).map(|(number, row)| (K::numbered(number), row.borrow()))
    }

    /// Walks the numbers.
    pub fn keys(&self) -> impl Iterator<Item = K> {
        self.iter().map(|(id, _)| id)
    }

    /// Walks the rows.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.far.values().chain(self.near.iter().flatten()).map(S::borrow)
    }

    /// Walks the rows to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.far.values_mut().chain(self.near.iter_mut().flatten()).map(S::borrow_mut)
    }
}

impl<K: Numbered + fmt::Debug, T: fmt::Debug, S: BorrowMut<T> + From<T>> fmt::Debug
    for Rows<K, T, S>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Numbered, T: PartialEq, S: BorrowMut<T> + From<T>> PartialEq for Rows<K, T, S> {
    fn eq(&self, other: &Self) -> bool {
        let number = |(id, row): (K, _)| (id.number(), row);
        self.len == other.len && self.iter().map(number).eq(other.iter().map(number))
    }
}

impl<K: Numbered, T: Eq, S: BorrowMut<T> + From<T>> Eq for Rows<K, T, S> {}

impl<K, T, S> Serialize for Rows<K, T, S>
where
    K: Numbered + Serialize,
    T: Serialize,
    S: BorrowMut<T> + From<T>,
{
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let mut map = serializer.serialize_map(Some(self.len))?;
        for (id, row) in self.iter() {
            map.serialize_entry(&id, row)?;
        }
        map.end()
    }
}

impl<'de, K, T, S> Deserialize<'de> for Rows<K, T, S>
where
    K: Numbered + Deserialize<'de>,
    T: Deserialize<'de>,
    S: BorrowMut<T> + From<T>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reading(PhantomData))
    }
}

/// What reads rows.
struct Reading<K, T, S>(PhantomData<(K, T, S)>);

impl<'de, K, T, S> Visitor<'de> for Reading<K, T, S>
where
    K: Numbered + Deserialize<'de>,
    T: Deserialize<'de>,
    S: BorrowMut<T> + From<T>,
{
    type Value = Rows<K, T, S>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rows in the order of their numbers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rows<K, T, S>, A::Error> {
        let mut rows = Rows::default();
        let mut last = None;
        while let Some((id, row)) = map.next_entry::<K, T>()? {
            let number = id.number();
            if last.is_some_and(|last| last >= number) {
                return Err(A::Error::custom("the numbers of rows do not go up"));
            }
            last = Some(number);
            rows.insert(id, row);
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LeaseId;
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    #[test]
    fn rows_are_an_ordered_map() {
        let (mut rows, mut map) = (Rows::<_, u64>::new(), BTreeMap::new());
        let mut seed = 3_u64;
        for step in 0..20_000_u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (id, back) = (LeaseId::new(1_000 + step), LeaseId::new(900 + step - (seed >> 57)));
            assert_eq!(rows.insert(id, step), map.insert(id, step));
            assert_eq!(rows.remove(&back), map.remove(&back));
            assert_eq!((rows.len(), rows.get(&back)), (map.len(), map.get(&back)));
        }
        assert_eq!(rows.insert(LeaseId::new(5), 5_u64), map.insert(LeaseId::new(5), 5));
        let walked: Vec<(LeaseId, u64)> = rows.iter().map(|(id, row)| (id, *row)).collect();
        assert_eq!(walked, map.iter().map(|(id, row)| (*id, *row)).collect::<Vec<_>>());
        let bytes = crate::encode::to_bytes(&rows);
        assert_eq!(bytes, crate::encode::to_bytes(&map));
        let again: Result<Rows<LeaseId, u64>, _> =
            crate::decode::from_bytes(&bytes.unwrap_or_default());
        assert_eq!(again, Ok(rows));
    }

    #[test]
    fn what_stays_far_longer_than_most_keeps_no_places_for_what_is_gone() {
        let (mut rows, mut map) = (Rows::<_, u64>::new(), BTreeMap::new());
        let stays = |number: u64| number.is_multiple_of(700);
        let ids = (0..100_000).chain((1 << 60)..(1 << 60) + 3_000).chain([u64::MAX, 7]);
        for number in ids {
            let id = LeaseId::new(number);
            assert_eq!(rows.insert(id, number), map.insert(id, number));
            let back = number.saturating_sub(5);
            if !stays(back) {
                let back = LeaseId::new(back);
                assert_eq!(rows.remove(&back), map.remove(&back));
            }
            assert!(rows.near.len() <= PLACES_MIN.max(PLACES_PER_ROW * rows.len) + 1);
            let old = LeaseId::new(number / 7 * 7);
            assert_eq!((rows.len(), rows.get(&old)), (map.len(), map.get(&old)));
            if let (Some(mine), Some(theirs)) = (rows.get_mut(&old), map.get_mut(&old)) {
                (*mine, *theirs) = (*mine + 1, *theirs + 1);
            }
        }
        assert!(rows.far.len() > 100 && rows.near.len() < 50, "{}", rows.far.len());
        assert!(rows.iter().map(|(id, row)| (id, *row)).eq(map.iter().map(|(id, n)| (*id, *n))));
        assert!(rows.values().eq(map.values()) && rows.keys().eq(map.keys().copied()));
        for id in map.keys() {
            assert!(rows.remove(id).is_some());
        }
        assert!(rows.is_empty() && rows.far.is_empty() && rows.near.is_empty());
    }
}
