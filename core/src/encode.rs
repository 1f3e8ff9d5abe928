//! The canonical encoding: one byte string per value, the same on every machine and build.
//!
//! Little-endian integers at their declared width, lengths as `u64`, enum variants by their index
//! as `u32`, options as one byte, structs and tuples as their fields in order. Maps must be
//! ordered, which the state guarantees by holding no hash map. There are no floats and no
//! characters: they are refused. The [`Digest`] is a 128-bit non-cryptographic hash of these bytes.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize, ser};
use thiserror::Error;

/// The version of the rules and of the encoding of the state; a journal names it.
pub const RULES_VERSION: u32 = 26;

/// Why bytes are not a value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The bytes end in the middle of a value.
    #[error("the bytes end early")]
    End,
    /// Bytes follow the value.
    #[error("{0} bytes follow the value")]
    Rest(usize),
    /// The value that the bytes stand for is encoded as others.
    #[error("the value is encoded otherwise: keys are out of order or stand twice")]
    Other,
    /// A byte or index that no value has.
    #[error("{0}")]
    Invalid(String),
}

impl ser::Error for EncodeError {
    fn custom<T: core::fmt::Display>(message: T) -> Self {
        Self::Invalid(alloc::format!("{message}"))
    }
}

impl serde::de::Error for EncodeError {
    fn custom<T: core::fmt::Display>(message: T) -> Self {
        Self::Invalid(alloc::format!("{message}"))
    }
}

/// Where encoded bytes go.
trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Returns the canonical bytes of a value.
///
/// # Errors
/// When the value holds a float or a character, or a list of unknown length.
pub fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    value.serialize(&mut Encoder { sink: &mut out })?;
    Ok(out)
}

/// Bytes that are expected.
struct Expected<'a> {
    rest: &'a [u8],
    met: bool,
}

impl Sink for Expected<'_> {
    fn put(&mut self, bytes: &[u8]) {
        match self.rest.strip_prefix(bytes) {
            Some(rest) => self.rest = rest,
            None => self.met = false,
        }
    }
}

/// Returns whether these bytes are a value's canonical ones.
#[must_use]
pub fn is_encoding<T: Serialize>(value: &T, bytes: &[u8]) -> bool {
    let mut expected = Expected { rest: bytes, met: true };
    let encoded = value.serialize(&mut Encoder { sink: &mut expected });
    encoded.is_ok() && expected.met && expected.rest.is_empty()
}

/// A 128-bit fingerprint of a state.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub u128);

impl core::fmt::Display for Digest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl core::fmt::Debug for Digest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

/// Two lanes of multiply and rotate over eight bytes at a time.
struct Hasher {
    lanes: [u64; 2],
    pending: u64,
    filled: u32,
    length: u64,
}

impl Hasher {
    /// Begins with digits of pi.
    const fn new() -> Self {
        let lanes = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];
        Self { lanes, pending: 0, filled: 0, length: 0 }
    }

    fn word(&mut self, word: u64) {
        let [a, b] = self.lanes;
        let x = (a ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let y = (b.wrapping_add(word)).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
        self.lanes = [x.rotate_left(29) ^ y, y.rotate_left(31).wrapping_add(x)];
    }

    fn finish(mut self) -> Digest {
        let (pending, length) = (self.pending, self.length);
        for word in [pending, length, 0, 0] {
            self.word(word);
        }
        let [a, b] = self.lanes;
        Digest(u128::from(a) << 64 | u128::from(b))
    }
}

impl Sink for Hasher {
    fn put(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.pending |= u64::from(*byte) << self.filled;
            self.filled += 8;
            if self.filled == 64 {
                let word = self.pending;
                self.word(word);
                (self.pending, self.filled) = (0, 0);
            }
        }
        self.length = self.length.wrapping_add(bytes.len() as u64);
    }
}

/// Returns the digest of bytes: that of the value whose canonical bytes they are.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.put(bytes);
    hasher.finish()
}

/// Returns the digest of a value's canonical bytes.
///
/// # Panics
/// When the value cannot be encoded, which no type of the state can cause.
pub fn digest<T: Serialize>(value: &T) -> Digest {
    let mut hasher = Hasher::new();
    let encoded = value.serialize(&mut Encoder { sink: &mut hasher });
    assert!(encoded.is_ok(), "the state holds only what the encoding knows: {encoded:?}");
    hasher.finish()
}

/// Writes values in the canonical encoding.
struct Encoder<'a, S> {
    sink: &'a mut S,
}

/// Implements the integer methods of the encoder.
macro_rules! put {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, value: $type) -> Result<(), EncodeError> {
            self.sink.put(&value.to_le_bytes());
            Ok(())
        }
    )*};
}

/// Implements one of serde's compound traits by encoding every element in order.
macro_rules! compound {
    ($($trait:ident: $method:ident($($key:ty)?)),*) => {$(
        impl<S: Sink> ser::$trait for &mut Encoder<'_, S> {
            type Ok = ();
            type Error = EncodeError;
            fn $method<T: ?Sized + Serialize>(
                &mut self,
                $(_: $key,)?
                value: &T,
            ) -> Result<(), EncodeError> {
                value.serialize(&mut **self)
            }
            fn end(self) -> Result<(), EncodeError> {
                Ok(())
            }
        }
    )*};
}

compound!(
    SerializeSeq: serialize_element(),
    SerializeTuple: serialize_element(),
    SerializeTupleStruct: serialize_field(),
    SerializeTupleVariant: serialize_field(),
    SerializeStruct: serialize_field(&'static str),
    SerializeStructVariant: serialize_field(&'static str)
);

impl<S: Sink> ser::SerializeMap for &mut Encoder<'_, S> {
    type Ok = ();
    type Error = EncodeError;
    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), EncodeError> {
        key.serialize(&mut **self)
    }
    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), EncodeError> {
        value.serialize(&mut **self)
    }
    fn end(self) -> Result<(), EncodeError> {
        Ok(())
    }
}

impl<S: Sink> Encoder<'_, S> {
    fn length(&mut self, len: Option<usize>) -> Result<(), EncodeError> {
        let len = len.ok_or_else(|| ser::Error::custom("a list without a length"))?;
        self.sink.put(&(len as u64).to_le_bytes());
        Ok(())
    }

    fn variant(&mut self, index: u32) {
        self.sink.put(&index.to_le_bytes());
    }
}

impl<S: Sink> ser::Serializer for &mut Encoder<'_, S> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    put!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32,
        serialize_u64: u64, serialize_u128: u128
    );

    fn serialize_bool(self, value: bool) -> Result<(), EncodeError> {
        self.serialize_u8(u8::from(value))
    }
    fn serialize_f32(self, _: f32) -> Result<(), EncodeError> {
        Err(ser::Error::custom("a float has no canonical bytes"))
    }
    fn serialize_f64(self, _: f64) -> Result<(), EncodeError> {
        Err(ser::Error::custom("a float has no canonical bytes"))
    }
    fn serialize_char(self, _: char) -> Result<(), EncodeError> {
        Err(ser::Error::custom("a character has no canonical bytes"))
    }
    fn serialize_str(self, value: &str) -> Result<(), EncodeError> {
        self.serialize_bytes(value.as_bytes())
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<(), EncodeError> {
        self.length(Some(value.len()))?;
        self.sink.put(value);
        Ok(())
    }
    fn serialize_none(self) -> Result<(), EncodeError> {
        self.serialize_u8(0)
    }
    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), EncodeError> {
        self.sink.put(&[1]);
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), EncodeError> {
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), EncodeError> {
        Ok(())
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
    ) -> Result<(), EncodeError> {
        self.variant(index);
        Ok(())
    }
    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), EncodeError> {
        self.variant(index);
        value.serialize(self)
    }
    fn serialize_seq(self, len: Option<usize>) -> Result<Self, EncodeError> {
        self.length(len)?;
        Ok(self)
    }
    fn serialize_tuple(self, _: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, EncodeError> {
        self.variant(index);
        Ok(self)
    }
    fn serialize_map(self, len: Option<usize>) -> Result<Self, EncodeError> {
        self.length(len)?;
        Ok(self)
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, EncodeError> {
        Ok(self)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, EncodeError> {
        self.variant(index);
        Ok(self)
    }
    fn is_human_readable(&self) -> bool {
        false
    }
}
