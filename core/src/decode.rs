//! Reading the canonical encoding back (see [`crate::encode`]).
//!
//! Bytes may come from anywhere: whatever they are, the answer is a value or an [`EncodeError`]. A
//! value has one encoding: other bytes that would mean the same, such as a map whose keys are out
//! of order or stand twice, are refused.

use crate::encode::{EncodeError, is_encoding};
use serde::Serialize;
use serde::de::{DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess};
use serde::de::{SeqAccess, VariantAccess, Visitor};

/// Most elements that a decoder reserves ahead for one list, whatever length the input claims.
const RESERVE_MAX: usize = 4_096;

/// Reads a value from its canonical bytes, all of them.
///
/// # Errors
/// When the bytes end early, go on after the value, hold an impossible byte, or are not those that
/// the value is encoded as.
pub fn from_bytes<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, EncodeError> {
    let mut decoder = Decoder { rest: bytes };
    let value = T::deserialize(&mut decoder)?;
    if !decoder.rest.is_empty() {
        return Err(EncodeError::Rest(decoder.rest.len()));
    }
    if is_encoding(&value, bytes) { Ok(value) } else { Err(EncodeError::Other) }
}

/// Reads values in the canonical encoding.
struct Decoder<'de> {
    rest: &'de [u8],
}

impl<'de> Decoder<'de> {
    fn take(&mut self, len: usize) -> Result<&'de [u8], EncodeError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(EncodeError::End)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EncodeError> {
        self.take(N)?.try_into().map_err(|_| EncodeError::End)
    }

    fn length(&mut self) -> Result<usize, EncodeError> {
        let len = u64::from_le_bytes(self.array()?);
        usize::try_from(len).map_err(|_| EncodeError::End)
    }

    fn bool(&mut self) -> Result<bool, EncodeError> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(EncodeError::Invalid(alloc::format!("{other} is neither 0 nor 1"))),
        }
    }
}

/// Implements the integer methods of the decoder.
macro_rules! get {
    ($($method:ident: $visit:ident: $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodeError> {
            visitor.$visit(<$type>::from_le_bytes(self.array()?))
        }
    )*};
}

/// Implements decoder methods for values that are refused.
macro_rules! refuse {
    ($($method:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, EncodeError> {
            Err(serde::de::Error::custom(concat!("no value is read by ", stringify!($method))))
        }
    )*};
}

impl<'de> serde::Deserializer<'de> for &mut Decoder<'de> {
    type Error = EncodeError;

    get!(
        deserialize_i8: visit_i8: i8, deserialize_i16: visit_i16: i16,
        deserialize_i32: visit_i32: i32, deserialize_i64: visit_i64: i64,
        deserialize_i128: visit_i128: i128, deserialize_u8: visit_u8: u8,
        deserialize_u16: visit_u16: u16, deserialize_u32: visit_u32: u32,
        deserialize_u64: visit_u64: u64, deserialize_u128: visit_u128: u128
    );

    refuse!(
        deserialize_any,
        deserialize_f32,
        deserialize_f64,
        deserialize_char,
        deserialize_identifier,
        deserialize_ignored_any
    );

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodeError> {
        visitor.visit_bool(self.bool()?)
    }
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodeError> {
        let len = self.length()?;
        let text = core::str::from_utf8(self.take(len)?)
            .map_err(|e| EncodeError::Invalid(alloc::format!("{e}")))?;
        visitor.visit_borrowed_str(text)
    }
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodeError> {
        self.deserialize_str(visitor)
    }
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodeError> {
        let len = self.length()?;
        visitor.visit_borrowed_bytes(self.take(len)?)
    }
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodeError> {
        self.deserialize_bytes(visitor)
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodeError> {
        if self.bool()? { visitor.visit_some(self) } else { visitor.visit_none() }
    }
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodeError> {
        visitor.visit_unit()
    }
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, EncodeError> {
        visitor.visit_unit()
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, EncodeError> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodeError> {
        let left = self.length()?;
        visitor.visit_seq(Elements { decoder: self, left })
    }
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, EncodeError> {
        visitor.visit_seq(Elements { decoder: self, left: len })
    }
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, EncodeError> {
        self.deserialize_tuple(len, visitor)
    }
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, EncodeError> {
        let left = self.length()?;
        visitor.visit_map(Elements { decoder: self, left })
    }
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, EncodeError> {
        self.deserialize_tuple(fields.len(), visitor)
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, EncodeError> {
        visitor.visit_enum(self)
    }
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// A counted list inside the bytes.
struct Elements<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = EncodeError;
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, EncodeError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.decoder).map(Some)
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(RESERVE_MAX))
    }
}

impl<'de> MapAccess<'de> for Elements<'_, 'de> {
    type Error = EncodeError;
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, EncodeError> {
        self.next_element_seed(seed)
    }
    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, EncodeError> {
        seed.deserialize(&mut *self.decoder)
    }
}

impl<'de> EnumAccess<'de> for &mut Decoder<'de> {
    type Error = EncodeError;
    type Variant = Self;
    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self), EncodeError> {
        let index = u32::from_le_bytes(self.array()?);
        let name: serde::de::value::U32Deserializer<EncodeError> = index.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for &mut Decoder<'de> {
    type Error = EncodeError;
    fn unit_variant(self) -> Result<(), EncodeError> {
        Ok(())
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, EncodeError> {
        seed.deserialize(self)
    }
    fn tuple_variant<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, EncodeError> {
        serde::Deserializer::deserialize_tuple(self, len, visitor)
    }
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, EncodeError> {
        serde::Deserializer::deserialize_tuple(self, fields.len(), visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::to_bytes;
    use crate::units::Priority;
    use alloc::collections::{BTreeMap, BTreeSet};
    use alloc::vec;

    #[test]
    fn keys_out_of_order_or_twice_are_no_value() {
        let pairs = |pairs: [(u8, u8); 2]| to_bytes(&pairs.to_vec()).unwrap();
        let map = |bytes: &[u8]| from_bytes::<BTreeMap<u8, u8>>(bytes);
        assert_eq!(map(&pairs([(1, 5), (2, 6)])), Ok(BTreeMap::from([(1, 5), (2, 6)])));
        assert_eq!(map(&pairs([(2, 6), (1, 5)])), Err(EncodeError::Other));
        assert_eq!(map(&pairs([(1, 5), (1, 6)])), Err(EncodeError::Other));
        let set = to_bytes(&vec![2_u8, 1]).unwrap();
        assert_eq!(from_bytes::<BTreeSet<u8>>(&set), Err(EncodeError::Other));
    }

    #[test]
    fn a_priority_above_100_is_no_value() {
        assert_eq!(from_bytes::<Priority>(&[100]), Ok(Priority::URGENT));
        assert!(matches!(from_bytes::<Priority>(&[101]), Err(EncodeError::Invalid(_))));
    }
}
