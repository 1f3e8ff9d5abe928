//! The API's description of itself (OpenAPI 3.1), from the table of operations and the types that
//! the client uses.

use super::operations;
use crate::client::types::{
    Allocation, Job, JobRequest, Jobs, Nodes, ResourceRequest, Status, Submission, Submitted,
    TaskRequest,
};
use axum::Json;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// A parameter of a query: its name, its type, and what it says.
type Parameter = (&'static str, &'static str, &'static str);

/// Returns the parameters of an operation's query.
fn query(id: &str) -> &'static [Parameter] {
    match id {
        "get_scheduling_status" | "get_history" | "get_statement" => {
            &[("most", "integer", "How many jobs at most")]
        }
        "get_job_place" => &[("node", "string", "Which node of a gang; the first where none is")],
        "deposit" | "grant" => &[("atp", "string", "How much, in ATP, as a decimal")],
        "tell_node" => &[
            ("reason", "string", "drain: why, for people"),
            ("gpus", "integer", "lend: most GPUs"),
            ("lasts", "string", "lend: for how long, such as 2h; then it is taken back"),
            ("now", "boolean", "reclaim: without a notice"),
        ],
        "follow_events" => &[("recent", "boolean", "Whether the last 1,000 come first")],
        "read_log" => &[
            ("errors", "boolean", "What it printed as errors"),
            ("from", "integer", "From which byte on"),
            ("attempt", "integer", "Which attempt; the last where none is named"),
        ],
        "write_input" => &[
            ("attempt", "integer", "Which attempt"),
            ("from", "integer", "Where the bytes begin in all there are"),
            ("last", "boolean", "Whether none follow"),
        ],
        _ => &[],
    }
}

/// Names a type; what it is comes with the others at the end.
fn named<T: JsonSchema>(types: &mut SchemaGenerator) -> Option<Value> {
    Some(types.subschema_for::<T>().to_value())
}

/// Returns what an operation takes as JSON.
fn body(id: &str, types: &mut SchemaGenerator) -> Option<Value> {
    match id {
        "run_with_shared_resources" => named::<Submission>(types),
        "plan_job" => named::<JobRequest>(types),
        "request_resources" => named::<ResourceRequest>(types),
        "schedule_task" => named::<TaskRequest>(types),
        _ => None,
    }
}

/// Returns what an operation answers, where a type says so.
fn answer(id: &str, types: &mut SchemaGenerator) -> Option<Value> {
    match id {
        "run_with_shared_resources" => named::<Submitted>(types),
        "request_resources" | "schedule_task" => named::<Allocation>(types),
        "get_job" | "wait_for_job" => named::<Job>(types),
        "get_scheduling_status" | "get_history" => named::<Jobs>(types),
        "get_cluster_status" => named::<Status>(types),
        "get_node_resource_snapshots" => named::<Nodes>(types),
        _ => None,
    }
}

/// Returns the parameters of a path and of its query.
fn parameters(path: &str, id: &str) -> Vec<Value> {
    let parts = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let part = |name: &str| {
        let kind = if name == "job" { "integer" } else { "string" };
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": kind } })
    };
    let word = |(name, kind, about): &Parameter| {
        let schema = json!({ "type": kind });
        json!({ "name": name, "in": "query", "description": about, "schema": schema })
    };
    parts.map(part).chain(query(id).iter().map(word)).collect()
}

/// Describes the API.
pub(super) async fn description() -> Json<Value> {
    let settings = SchemaSettings::draft2020_12();
    let settings = settings.with(|to| to.definitions_path = "/components/schemas".into());
    let mut types = settings.into_generator();
    let refused = json!({
        "description": "refused, and why",
        "content": { "application/json": { "schema": {
            "type": "object",
            "required": ["error"],
            "properties": { "error": { "type": "string" } },
        } } },
    });
    let mut paths: Map<String, Value> = Map::new();
    for (method, path, id, about, _) in operations() {
        let mut done = json!({ "description": "done" });
        if let Some(schema) = answer(id, &mut types) {
            done["content"] = json!({ "application/json": { "schema": schema } });
        }
        let mut operation = json!({
            "operationId": id,
            "summary": about,
            "parameters": parameters(path, id),
            "responses": { "200": done, "default": refused },
        });
        let content = match body(id, &mut types) {
            Some(schema) => Some(json!({ "application/json": { "schema": schema } })),
            None if id == "write_input" => Some(json!({ "application/octet-stream": {} })),
            None => None,
        };
        if let Some(content) = content {
            operation["requestBody"] = json!({ "required": true, "content": content });
        }
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        entry[method] = operation;
    }
    Json(json!({
        "openapi": "3.1.0",
        "info": { "title": "gridlive", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": { "schemas": types.take_definitions(false) },
    }))
}

#[cfg(test)]
mod tests {
    use super::super::allocate::Task;
    use super::super::jobs::{InputPart, LogPart, Most};
    use super::super::nodes::NodeWords;
    use super::super::place::Which;
    use super::*;
    use gridsim::generate::jobs::ClassNeeds;
    use gridsim::scenario::schema;
    use serde::de::DeserializeOwned;
    use serde_json::from_value;
    use std::collections::BTreeSet;

    /// Asks a type for the names that it takes, by naming one that it does not.
    fn taken<T: DeserializeOwned>() -> BTreeSet<String> {
        let error = from_value::<T>(json!({ "no such name": 1 })).err().unwrap().to_string();
        let names = error.split('`').skip(3).step_by(2).map(ToOwned::to_owned);
        names.collect()
    }

    fn described(name: &str) -> BTreeSet<String> {
        let mut types = SchemaSettings::draft2020_12().into_generator();
        let _ = types.subschema_for::<Submission>();
        let _ = types.subschema_for::<ResourceRequest>();
        let _ = types.subschema_for::<TaskRequest>();
        let all = Value::from(types.take_definitions(false));
        all[name]["properties"].as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn what_is_described_is_what_is_taken() {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        assert_eq!(described("Program"), taken::<crate::program::Program>());
        assert_eq!(described("ResourceRequest"), taken::<ResourceRequest>());
        assert_eq!(described("TaskRequest"), taken::<Task>());
        // What only a simulation asks of a job, and its name, which comes with its program.
        let simulated: BTreeSet<String> =
            set(&["name", "submit", "runs", "ignores_notice", "fails", "gpu_use", "cancel"]);
        let keys = &taken::<schema::Job>() - &simulated;
        assert_eq!(described("JobRequest"), keys);
        let needs = &taken::<ClassNeeds>() - &set(&["storage_gb"]);
        assert_eq!(described("NeedsRequest"), needs);
    }

    #[test]
    fn the_names_of_the_earlier_tools_are_there_once_each() {
        let all: Vec<&str> = operations().iter().map(|(_, _, id, _, _)| *id).collect();
        let known = [
            "request_resources",
            "release_resources",
            "run_with_shared_resources",
            "get_cluster_status",
            "get_shared_resource_status",
            "get_node_resource_snapshots",
            "get_resource_trend",
            "get_cluster_summary",
            "get_resource_status",
            "schedule_task",
            "complete_task",
            "get_scheduling_status",
            "get_stats",
            "get_entity_allocations",
        ];
        for id in known {
            assert_eq!(all.iter().filter(|other| **other == id).count(), 1, "{id}");
        }
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "ids are unique");
    }

    #[test]
    fn parameters_that_are_described_are_taken() {
        let all = |id: &str| -> Map<String, Value> {
            let value = |(name, kind, _): &Parameter| {
                let value = match *kind {
                    "integer" => json!(1),
                    "boolean" => json!(true),
                    _ => json!("1h"),
                };
                ((*name).to_owned(), value)
            };
            query(id).iter().map(value).collect()
        };
        let of = |id| Value::Object(all(id));
        assert!(from_value::<Most>(of("get_history")).unwrap().most.is_some());
        assert!(from_value::<Most>(of("get_statement")).unwrap().most.is_some());
        assert!(from_value::<Which>(of("get_job_place")).unwrap().node.is_some());
        let words: NodeWords = from_value(of("tell_node")).unwrap();
        assert!(words.now && words.reason.is_some() && words.gpus.is_some());
        let part: LogPart = from_value(of("read_log")).unwrap();
        assert!(part.errors && part.from == 1 && part.attempt.is_some());
        let part: InputPart = from_value(of("write_input")).unwrap();
        assert!(part.last && (part.from, part.attempt) == (1, 1));
    }
}
