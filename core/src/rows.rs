//! Rows that come and go, found by their number at once.
//!
//! Jobs, leases and holds get their numbers in order and most live briefly, so the live ones lie
//! close together: they are kept in pages of consecutive numbers, and a page goes when its last row
//! does. A look-up is two steps wherever the row is. Rows are walked in the order of their numbers
//! and encoded as an ordered map of them. Large rows are boxed: they come and go without a copy.

use crate::ids::Numbered;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::borrow::BorrowMut;
use core::fmt;
use core::marker::PhantomData;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Rows of one page.
const ROWS: usize = 16;
/// The same, as a number among numbers.
const PAGE: u64 = ROWS as u64;
/// Most pages between the lowest live number and the highest: more is no state that we wrote.
const PAGES_MAX: u64 = 1 << 26;

type Page<S> = Option<Box<[Option<S>; ROWS]>>;

/// Live rows by their number, each kept as an `S`.
#[derive(Clone)]
pub struct Rows<K, T, S = T> {
    pages: VecDeque<Page<S>>,
    /// The number of the first page.
    first: u64,
    len: usize,
    key: PhantomData<(K, T)>,
}

/// Live rows that are too large to be copied.
pub type BoxedRows<K, T> = Rows<K, T, Box<T>>;

impl<K, T, S> Default for Rows<K, T, S> {
    fn default() -> Self {
        Self { pages: VecDeque::new(), first: 0, len: 0, key: PhantomData }
    }
}

/// Returns the place of a number in its page.
fn slot(number: u64) -> usize {
    usize::try_from(number % PAGE).unwrap_or(0)
}

impl<K: Numbered, T, S: BorrowMut<T> + From<T>> Rows<K, T, S> {
    /// Returns no rows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the place of a number's page.
    fn page(&self, number: u64) -> Option<usize> {
        usize::try_from((number / PAGE).checked_sub(self.first)?).ok()
    }

    /// Returns a row.
    #[must_use]
    pub fn get(&self, id: &K) -> Option<&T> {
        let number = id.number();
        let page = self.pages.get(self.page(number)?)?.as_ref()?;
        page.get(slot(number))?.as_ref().map(S::borrow)
    }

    /// Returns a row to change it.
    pub fn get_mut(&mut self, id: &K) -> Option<&mut T> {
        let number = id.number();
        let place = self.page(number)?;
        let page = self.pages.get_mut(place)?.as_mut()?;
        page.get_mut(slot(number))?.as_mut().map(S::borrow_mut)
    }

    /// Returns whether there is such a row.
    #[must_use]
    pub fn contains_key(&self, id: &K) -> bool {
        self.get(id).is_some()
    }

    /// Puts a row in; returns the one that was there.
    pub fn insert(&mut self, id: K, row: T) -> Option<S> {
        let (number, row) = (id.number(), S::from(row));
        let wanted = number / PAGE;
        if self.pages.is_empty() {
            self.first = wanted;
        }
        while wanted < self.first {
            self.pages.push_front(None);
            self.first -= 1;
        }
        while wanted >= self.first + self.pages.len() as u64 {
            self.pages.push_back(None);
        }
        let place = self.page(number)?;
        // Made where it stays: rows are large, and a page of them on the stack would be copied.
        let rows = || (0..ROWS).map(|_| None).collect::<Box<[Option<S>]>>();
        let page = self.pages.get_mut(place)?;
        if page.is_none() {
            *page = rows().try_into().ok();
        }
        let page = page.as_mut()?;
        let old = page.get_mut(slot(number))?.replace(row);
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes a row out.
    pub fn remove(&mut self, id: &K) -> Option<S> {
        let number = id.number();
        let place = self.page(number)?;
        let page = self.pages.get_mut(place)?;
        let rows = page.as_mut()?;
        let row = rows.get_mut(slot(number))?.take()?;
        self.len -= 1;
        if rows.iter().all(Option::is_none) {
            *page = None;
            while self.pages.front().is_some_and(Option::is_none) {
                self.pages.pop_front();
                self.first += 1;
            }
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
        (self.first..).zip(&self.pages).flat_map(|(number, page)| {
            let rows = page.iter().flat_map(|rows| rows.iter());
            let kept = |(n, row): (u64, &'a Option<S>)| Some((K::numbered(n), row.as_ref()?));
            (number * PAGE..).zip(rows).filter_map(kept).map(|(id, row)| (id, row.borrow()))
        })
    }

    /// Walks the numbers.
    pub fn keys(&self) -> impl Iterator<Item = K> {
        self.iter().map(|(id, _)| id)
    }

    /// Walks the rows.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flatten().flat_map(|rows| rows.iter()).flatten().map(S::borrow)
    }

    /// Walks the rows to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let rows = self.pages.iter_mut().flatten().flat_map(|rows| rows.iter_mut());
        rows.flatten().map(S::borrow_mut)
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
            let first = if rows.is_empty() { number / PAGE } else { rows.first };
            let order = last.is_none_or(|last| last < number);
            if !order || number / PAGE - first > PAGES_MAX {
                return Err(A::Error::custom("the numbers of rows are impossible"));
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
        assert_eq!(rows.insert(LeaseId::new(5), 5), map.insert(LeaseId::new(5), 5));
        let walked: Vec<(LeaseId, u64)> = rows.iter().map(|(id, row)| (id, *row)).collect();
        assert_eq!(walked, map.iter().map(|(id, row)| (*id, *row)).collect::<Vec<_>>());
        let bytes = crate::encode::to_bytes(&rows);
        assert_eq!(bytes, crate::encode::to_bytes(&map));
        let again: Result<Rows<LeaseId, u64>, _> =
            crate::decode::from_bytes(&bytes.unwrap_or_default());
        assert_eq!(again, Ok(rows));
    }
}
