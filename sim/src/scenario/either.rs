//! Keys that take one of two shapes, read so that an error inside names its own line and key.

use super::schema::{Job, Jobs, PoolNodes, Source, Trace};
use crate::generate::Generator;
use core::fmt;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The keys of [`Source`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sources {
    #[serde(default)]
    generator: Option<Generator>,
    #[serde(default)]
    trace: Option<Trace>,
}

impl<'de> Deserialize<'de> for Jobs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shapes;
        impl<'de> Visitor<'de> for Shapes {
            type Value = Jobs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of jobs, `generator:` or `trace:`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Jobs, A::Error> {
                Vec::<Job>::deserialize(SeqAccessDeserializer::new(list)).map(Jobs::List)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Jobs, A::Error> {
                let said = Sources::deserialize(MapAccessDeserializer::new(map))?;
                match (said.generator, said.trace) {
                    (Some(generator), None) => Ok(Jobs::From(Source::Generator(generator))),
                    (None, Some(trace)) => Ok(Jobs::From(Source::Trace(trace))),
                    (Some(_), Some(_)) | (None, None) => {
                        Err(A::Error::custom("jobs take either `generator:` or `trace:`"))
                    }
                }
            }
        }
        deserializer.deserialize_any(Shapes)
    }
}

impl<'de> Deserialize<'de> for PoolNodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shapes;
        impl<'de> Visitor<'de> for Shapes {
            type Value = PoolNodes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the word `all`, or a list of node names")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<PoolNodes, E> {
                match word {
                    "all" => Ok(PoolNodes::All),
                    other => Err(E::custom(format!(
                        "`{other}` is no set of nodes: give all, or a list of names"
                    ))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<PoolNodes, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(PoolNodes::Named)
            }
        }
        deserializer.deserialize_any(Shapes)
    }
}
