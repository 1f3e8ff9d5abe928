//! JSON with exact numbers: integers as they are, decimals with six places, keys in given order.

use std::fmt::Write;

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// No value.
    Null,
    /// Yes or no.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// A decimal in millionths, written with six places.
    Fixed(i128),
    /// Text.
    Text(String),
    /// Named values in order.
    Object(Vec<(String, Self)>),
}

/// Makes an object from pairs.
#[must_use]
pub fn object<K: Into<String>>(pairs: impl IntoIterator<Item = (K, Json)>) -> Json {
    Json::Object(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

/// Writes millionths as a decimal with six places.
#[must_use]
pub fn fixed(millionths: i128) -> String {
    let sign = if millionths < 0 { "-" } else { "" };
    let size = millionths.unsigned_abs();
    format!("{sign}{}.{:06}", size / 1_000_000, size % 1_000_000)
}

impl Json {
    /// Returns the value with two spaces of indentation per level and a line end.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out.push('\n');
        out
    }

    fn write(&self, out: &mut String, level: usize) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => out.push_str(&value.to_string()),
            Self::Fixed(value) => out.push_str(&fixed(*value)),
            Self::Text(value) => quote(out, value),
            Self::Object(pairs) if pairs.is_empty() => out.push_str("{}"),
            Self::Object(pairs) => {
                out.push_str("{\n");
                for (i, (key, value)) in pairs.iter().enumerate() {
                    out.push_str(&"  ".repeat(level + 1));
                    quote(out, key);
                    out.push_str(": ");
                    value.write(out, level + 1);
                    out.push_str(if i + 1 < pairs.len() { ",\n" } else { "\n" });
                }
                out.push_str(&"  ".repeat(level));
                out.push('}');
            }
        }
    }

    /// Returns the value at a path of keys, if it is a number, in millionths.
    #[must_use]
    pub fn number(&self, path: &[&str]) -> Option<i128> {
        match (self, path.split_first()) {
            (Self::Int(value), None) => value.checked_mul(1_000_000),
            (Self::Fixed(value), None) => Some(*value),
            (Self::Object(pairs), Some((key, rest))) => {
                pairs.iter().find(|(k, _)| k == key).and_then(|(_, value)| value.number(rest))
            }
            (Self::Null | Self::Bool(_) | Self::Text(_) | Self::Object(_), _)
            | (Self::Int(_) | Self::Fixed(_), Some(_)) => None,
        }
    }
}

/// Writes a text in quotes.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => {
                let written = write!(out, "\\u{:04x}", u32::from(c));
                debug_assert!(written.is_ok(), "a string takes any text");
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_and_text_is_escaped() {
        let value = object([("a\"b", Json::Fixed(-1_500_000)), ("n", Json::Int(1 << 70))]);
        let text = value.text();
        assert!(text.contains("\"a\\\"b\": -1.500000") && text.contains("1180591620717411303424"));
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        assert_eq!(value.number(&["a\"b"]), Some(-1_500_000));
    }
}
