//! A tree of keys as the text of a scenario file: lists of things a line each, all else as short as
//! it goes.

use serde_json::Value;

/// Keys that come last, in this order: they are long.
const LAST: [&str; 3] = ["nodes", "jobs", "network"];

/// Writes a scenario as YAML below a comment.
#[must_use]
pub fn yaml(about: &str, tree: &Value) -> String {
    let mut text: String = about.lines().map(|line| format!("# {line}\n")).collect();
    let Value::Object(keys) = tree else { return text };
    let first = keys.keys().map(String::as_str).filter(|key| !LAST.contains(key));
    for key in first.chain(LAST) {
        if let Some(value) = keys.get(key) {
            write(&mut text, 0, key, value);
        }
    }
    text
}

/// Writes one key, so far to the right.
fn write(text: &mut String, depth: usize, key: &str, value: &Value) {
    let (space, name) = ("  ".repeat(depth), flow(&Value::String(key.to_owned())));
    let list =
        |value: &Value| value.as_array().is_some_and(|items| items.iter().any(Value::is_object));
    let lines = match value {
        Value::Array(items) if list(value) => {
            items.iter().map(|item| format!("{space}- {}\n", flow(item))).collect()
        }
        Value::Object(keys) if keys.values().any(list) => {
            let mut inner = String::new();
            for (key, value) in keys {
                write(&mut inner, depth + 1, key, value);
            }
            inner
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => {
            text.push_str(&format!("{space}{name}: {}\n", flow(value)));
            return;
        }
    };
    text.push_str(&format!("{space}{name}:\n{lines}"));
}

/// Writes a value on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) if is_plain(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(keys) if keys.is_empty() => "{}".to_owned(),
        Value::Object(keys) => {
            let name = |key: &String| flow(&Value::String(key.clone()));
            let pair = |(key, value)| format!("{}: {}", name(key), flow(value));
            let pairs: Vec<String> = keys.iter().map(pair).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// Returns whether a text needs no quotes: a name, or a span such as `300s`.
fn is_plain(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let name = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let span = text.ends_with('s') && digits.bytes().all(|c| c.is_ascii_digit());
    let meant = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    text.chars().all(word) && (name || span) && !meant.contains(&&*text.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_reads_back_the_same() {
        let tree = json!({
            "name": "a", "about": "it's: \"so\" # far", "seed": 7, "atp": { "enabled": false },
            "pools": [{ "name": "yes", "nodes": ["n", "0x1", "1e5", "12ms", "s"] }],
            "nodes": [{ "name": "true", "cores": 0.125, "labels": { "a b": "-1" } }],
            "jobs": [], "network": { "heals": "60s", "blows": [{ "at": "1500ms", "blow": "cut" }] },
        });
        let text = yaml("one\ntwo", &tree);
        assert!(
            text.starts_with("# one\n# two\n") && text.contains("  - { at: 1500ms, blow: cut }"),
            "{text}"
        );
        assert_eq!(super::super::untyped(&text).unwrap(), tree, "{text}");
    }
}
