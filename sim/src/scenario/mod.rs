//! Scenarios: reading a file, overriding keys, and building everything a run needs.

pub mod blocks;
pub mod build;
mod either;
pub mod jobs;
pub mod limits;
mod loads;
pub mod rules;
pub mod schema;
pub mod text;
mod weather;

use schema::Scenario;
use std::path::{Path, PathBuf};

/// Why a scenario cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("cannot read scenario {0}: {1}; give the path of a .yaml file")]
    Read(PathBuf, std::io::Error),
    /// The file is larger than any scenario.
    #[error("{0} is larger than {1} MiB; a scenario holds rules and generators, not a trace")]
    TooLarge(PathBuf, u64),
    /// The text is not a scenario.
    #[error("{0}: {1}")]
    Yaml(PathBuf, String),
    /// A key has a value that no run can work with.
    #[error("{0}: {1}")]
    Key(PathBuf, Fault),
    /// A trace cannot be read.
    #[error(transparent)]
    Trace(#[from] crate::trace::read::TraceError),
    /// An override is not of the form `key.path=value`, or names nothing.
    #[error("--set {0}: {1}")]
    Set(String, String),
    /// The same, of a key that is varied.
    #[error("--vary {0}: {1}")]
    Vary(String, String),
}

/// A key and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {what}")]
pub struct Fault {
    /// The key, with dots.
    pub key: String,
    /// What is wrong, and what to do.
    pub what: String,
}

/// Makes a [`Fault`].
pub(crate) fn at(key: &str, what: String) -> Fault {
    Fault { key: key.to_owned(), what }
}

/// Most bytes of a scenario file.
const BYTES_MAX: u64 = 16 << 20;

/// A scenario and the folder its file names are relative to.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the file says.
    pub scenario: Scenario,
    /// The file.
    pub path: PathBuf,
}

impl Loaded {
    /// Returns a file's path, relative names being relative to the scenario's folder.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        folder.join(name)
    }
}

/// Reads a scenario file and applies overrides of the form `key.path=value`.
///
/// # Errors
/// When the file cannot be read, is no scenario (drawn at line and column), or an override names
/// nothing.
pub fn load(path: &Path, sets: &[String]) -> Result<Loaded, ScenarioError> {
    let text = read(path)?;
    let scenario = parse(path, &text, sets)?;
    Ok(Loaded { scenario, path: path.to_owned() })
}

/// Reads a scenario file as a tree of keys, with overrides.
///
/// # Errors
/// As [`load`].
pub fn tree(path: &Path, sets: &[String]) -> Result<serde_json::Value, ScenarioError> {
    let text = read(path)?;
    // Only this names the line of an error.
    parse(path, &text, sets)?;
    let yaml = |e: serde_saphyr::Error| ScenarioError::Yaml(path.to_owned(), e.to_string());
    let mut tree = untyped(&text).map_err(yaml)?;
    for set in sets {
        override_key(&mut tree, set).map_err(|what| ScenarioError::Set(set.clone(), what))?;
    }
    Ok(tree)
}

/// Reads a scenario from a tree of keys; `path` is for messages and relative names.
///
/// # Errors
/// When the tree is no scenario.
pub fn from_tree(path: &Path, tree: serde_json::Value) -> Result<Loaded, ScenarioError> {
    let wrong = |e: serde_json::Error| ScenarioError::Yaml(path.to_owned(), e.to_string());
    let scenario = serde_json::from_value(tree).map_err(wrong)?;
    Ok(Loaded { scenario: named(path, scenario)?, path: path.to_owned() })
}

/// Reads a scenario from a tree of keys with one value for each key that is varied.
///
/// # Errors
/// When one names nothing, or the tree is no scenario then.
pub fn varied(
    path: &Path,
    tree: &serde_json::Value,
    sets: &[String],
) -> Result<Loaded, ScenarioError> {
    let mut tree = tree.clone();
    for set in sets {
        override_key(&mut tree, set).map_err(|what| ScenarioError::Vary(set.clone(), what))?;
    }
    let retyped = serde_json::from_value(tree);
    let scenario = retyped.map_err(|e| ScenarioError::Vary(sets.join(" "), e.to_string()))?;
    Ok(Loaded { scenario: named(path, scenario)?, path: path.to_owned() })
}

/// Reads the text of a scenario file.
fn read(path: &Path) -> Result<String, ScenarioError> {
    let read = |error| ScenarioError::Read(path.to_owned(), error);
    let size = std::fs::metadata(path).map_err(read)?.len();
    if size > BYTES_MAX {
        return Err(ScenarioError::TooLarge(path.to_owned(), BYTES_MAX >> 20));
    }
    std::fs::read_to_string(path).map_err(read)
}

/// Reads a scenario from text; `path` is for messages.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str, sets: &[String]) -> Result<Scenario, ScenarioError> {
    let yaml = |e: serde_saphyr::Error| {
        let text = e.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        ScenarioError::Yaml(path.to_owned(), text.to_owned())
    };
    let mut scenario: Scenario = serde_saphyr::from_str(text).map_err(yaml)?;
    if !sets.is_empty() {
        let mut tree = untyped(text).map_err(yaml)?;
        for set in sets {
            override_key(&mut tree, set).map_err(|what| ScenarioError::Set(set.clone(), what))?;
        }
        let retyped = serde_json::from_value(tree);
        scenario = retyped.map_err(|e| ScenarioError::Set(sets.join(" "), e.to_string()))?;
    }
    named(path, scenario)
}

/// Names a scenario by its file if it does not say, and checks that the name can be a folder.
fn named(path: &Path, mut scenario: Scenario) -> Result<Scenario, ScenarioError> {
    if scenario.name.is_empty() {
        let stem = path.file_stem().and_then(|s| s.to_str());
        stem.unwrap_or("scenario").clone_into(&mut scenario.name);
    }
    let name = &scenario.name;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.chars().all(is_plain) || name.starts_with(['.', '-']) || name.len() > 100 {
        let what = "it names a folder: use up to 100 letters, digits, - and _".to_owned();
        return Err(ScenarioError::Key(path.to_owned(), at("name", what)));
    }
    Ok(scenario)
}

/// Reads YAML without knowing its keys: only `true` and `false` are booleans, so that a node may be
/// called `n` or `off`.
fn untyped(text: &str) -> Result<serde_json::Value, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { strict_booleans: true })
}

/// Puts one value into the tree, making blocks on the way; says what is wrong with it.
fn override_key(tree: &mut serde_json::Value, set: &str) -> Result<(), String> {
    use serde_json::Value;
    let wrong = |what: &str| what.to_owned();
    let (path, value) = set.split_once('=').ok_or_else(|| wrong("write key.path=value"))?;
    let value: Value = untyped(value).map_err(|_| wrong("the value is not valid YAML"))?;
    let mut place = tree;
    for key in path.split('.') {
        if key.is_empty() {
            return Err(wrong("a part of the key is empty"));
        }
        if place.is_null() {
            *place = Value::Object(serde_json::Map::new());
        }
        place = match place {
            Value::Object(map) => map.entry(key.to_owned()).or_insert(Value::Null),
            Value::Array(list) => {
                let len = list.len();
                let index: usize = key.parse().map_err(|_| wrong("a list needs an index"))?;
                list.get_mut(index)
                    .ok_or_else(|| wrong(&format!("the list has only {len} items")))?
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                return Err(wrong(&format!("{key} is inside a plain value")));
            }
        };
    }
    *place = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, sets: &[&str]) -> Result<Scenario, String> {
        let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
        parse(Path::new("x.yaml"), text, &sets).map_err(|e| e.to_string())
    }

    #[test]
    fn overrides_reach_blocks_lists_and_keys_that_were_left_out() {
        let text = "name: a\nnodes:\n- {name: n, cores: 4}\n";
        let sets = ["nodes.0.cores=240", "execution.scheduling.strategy=pack", "seed=7"];
        let scenario = read(text, &sets).unwrap();
        assert_eq!(scenario.nodes[0].cores.millionths(), 240_000_000);
        assert_eq!(scenario.execution.scheduling.strategy, Some(schema::StrategyName::Pack));
        assert_eq!(scenario.seed, 7);
    }

    #[test]
    fn errors_name_line_and_column() {
        let error = read("name: a\nnods: []\n", &[]).unwrap_err();
        assert!(error.contains("nods") && error.contains("line 2"), "{error}");
        let error = read("name: a\nname: b\n", &[]).unwrap_err();
        assert!(error.contains("duplicate"), "{error}");
        assert!(read("name: ../x\n", &[]).unwrap_err().contains("folder"));
        assert!(read("name: a\n", &["seed"]).unwrap_err().contains("key.path=value"));
        assert!(read("name: a\n", &["nodes.5.cores=1"]).is_err());
        assert!(read("name: a\n", &["sed=1"]).unwrap_err().contains("sed"));
    }
}
