//! Values as JSON with every text in them replaced by a keyed hash.
//!
//! The names of fields and variants are the program's and stay; every other text is somebody's, be
//! it a value or a key of a map, and none of it stays: what a type gains later is hidden, too. Only
//! what serialises itself can tell the two apart, so this is a serialiser.

use serde::ser::{self, Error as _, Serialize};
use serde_json::{Error, Map, Value};
use sha2::{Digest as _, Sha256};

/// The key of one export: drawn for it, and never kept.
#[derive(Clone, Copy)]
pub(super) struct Key([u64; 4]);

impl Key {
    /// Draws one.
    pub(super) fn draw() -> std::io::Result<Self> {
        let mut words = [0; 4];
        for word in &mut words {
            *word = gridlive::clock::unique()?;
        }
        Ok(Self(words))
    }

    /// Returns what stands for a text: 16 hex digits, the same for the same text. Whoever has not
    /// the key can neither undo it nor try texts out.
    fn hash(&self, text: &str) -> String {
        let mut hasher = Sha256::new();
        self.0.iter().for_each(|word| hasher.update(word.to_le_bytes()));
        hasher.update(text.as_bytes());
        hasher.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Returns a value as JSON, without any text of anybody's.
pub(super) fn hidden(value: &impl Serialize, key: &Key) -> Result<Value, Error> {
    value.serialize(Hide(key))
}

/// Makes the JSON of a value.
#[derive(Clone, Copy)]
struct Hide<'a>(&'a Key);

/// A value of several parts, as far as it has come.
struct Parts<'a> {
    hide: Hide<'a>,
    /// The variant it is of.
    variant: Option<&'static str>,
    list: Vec<Value>,
    map: Map<String, Value>,
    /// The key whose value comes next.
    key: String,
}

impl<'a> Hide<'a> {
    fn parts(self, variant: Option<&'static str>) -> Result<Parts<'a>, Error> {
        let (list, map, key) = (Vec::new(), Map::new(), String::new());
        Ok(Parts { hide: self, variant, list, map, key })
    }
}

impl Parts<'_> {
    fn item<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
        self.list.push(value.serialize(self.hide)?);
        Ok(())
    }

    fn field<T: ?Sized + Serialize>(&mut self, key: &str, value: &T) -> Result<(), Error> {
        self.map.insert(key.to_owned(), value.serialize(self.hide)?);
        Ok(())
    }

    fn listed(self) -> Value {
        of_variant(self.variant, Value::Array(self.list))
    }

    fn mapped(self) -> Value {
        of_variant(self.variant, Value::Object(self.map))
    }
}

/// Returns the value of a variant, as serde's JSON has it.
fn of_variant(variant: Option<&'static str>, value: Value) -> Value {
    match variant {
        Some(name) => Value::Object(Map::from_iter([(name.to_owned(), value)])),
        None => value,
    }
}

/// Implements serde's traits of lists and of structs.
macro_rules! compound {
    ($($trait:ident: $method:ident($($key:ident)?) $add:ident $end:ident),*) => {$(
        impl ser::$trait for Parts<'_> {
            type Ok = Value;
            type Error = Error;
            fn $method<T: ?Sized + Serialize>(
                &mut self,
                $($key: &'static str,)?
                value: &T,
            ) -> Result<(), Error> {
                self.$add($($key,)? value)
            }
            fn end(self) -> Result<Value, Error> {
                Ok(self.$end())
            }
        }
    )*};
}

compound!(
    SerializeSeq: serialize_element() item listed,
    SerializeTuple: serialize_element() item listed,
    SerializeTupleStruct: serialize_field() item listed,
    SerializeTupleVariant: serialize_field() item listed,
    SerializeStruct: serialize_field(key) field mapped,
    SerializeStructVariant: serialize_field(key) field mapped
);

impl ser::SerializeMap for Parts<'_> {
    type Ok = Value;
    type Error = Error;
    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), Error> {
        self.key = match key.serialize(self.hide)? {
            Value::String(text) => text,
            number @ Value::Number(_) => number.to_string(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                return Err(Error::custom("a key is text or a number"));
            }
        };
        Ok(())
    }
    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
        let key = std::mem::take(&mut self.key);
        self.field(&key, value)
    }
    fn end(self) -> Result<Value, Error> {
        Ok(self.mapped())
    }
}

/// Implements what JSON has a word for.
macro_rules! plain {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, value: $type) -> Result<Value, Error> {
            Ok(value.into())
        }
    )*};
}

impl<'a> ser::Serializer for Hide<'a> {
    type Ok = Value;
    type Error = Error;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    plain!(
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32,
        serialize_i64: i64, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32,
        serialize_u64: u64, serialize_f32: f32, serialize_f64: f64
    );

    fn serialize_char(self, value: char) -> Result<Value, Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }
    fn serialize_str(self, value: &str) -> Result<Value, Error> {
        Ok(Value::String(self.0.hash(value)))
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<Value, Error> {
        Err(Error::custom("bytes may be a text"))
    }
    fn serialize_none(self) -> Result<Value, Error> {
        Ok(Value::Null)
    }
    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<Value, Error> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Value, Error> {
        Ok(Value::Null)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, Error> {
        Ok(Value::Null)
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
    ) -> Result<Value, Error> {
        Ok(Value::String(name.to_owned()))
    }
    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Value, Error> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<Value, Error> {
        Ok(of_variant(Some(name), value.serialize(self)?))
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'a>, Error> {
        self.parts(None)
    }
    fn serialize_tuple(self, _: usize) -> Result<Parts<'a>, Error> {
        self.parts(None)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>, Error> {
        self.parts(None)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Error> {
        self.parts(Some(name))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Parts<'a>, Error> {
        self.parts(None)
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>, Error> {
        self.parts(None)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Error> {
        self.parts(Some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[derive(serde::Serialize)]
    enum Kind {
        Empty,
        One(String),
        Two(u8, Option<String>),
        Named { field: Vec<String> },
    }

    #[test]
    fn texts_are_hidden_wherever_they_are_and_the_program_s_own_words_stay() {
        let key = Key([1, 2, 3, 4]);
        let hash = |text: &str| key.hash(text);
        let named = Kind::Named { field: vec!["a".into(), "b".into(), "a".into()] };
        let found = hidden(&(Kind::Empty, Kind::One("a".into()), named), &key).unwrap();
        let list = [hash("a"), hash("b"), hash("a")];
        assert_eq!(found, json!(["Empty", { "One": hash("a") }, { "Named": { "field": list } }]));
        let two = [Kind::Two(7, None), Kind::Two(8, Some("b".into()))];
        let found = hidden(&two, &key).unwrap();
        assert_eq!(found, json!([{ "Two": [7, null] }, { "Two": [8, hash("b")] }]));
        let map = (BTreeMap::from([("a", 'x')]), BTreeMap::from([(5_u64, true)]));
        let found = hidden(&map, &key).unwrap();
        assert_eq!(found, json!([{ hash("a"): hash("x") }, { "5": true }]));
        assert!(hash("a").len() == 16 && hash("a") != hash("b"));
        assert_ne!(Key::draw().unwrap().hash("a"), Key::draw().unwrap().hash("a"));
    }
}
