//! Lists: fetched, and printed as a table or for another program.

use super::Asking;
use super::screen::{self, escaped};
use super::show::{cell, words};
use clap::{Args, ValueEnum};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use gridlive::client::Client;
use serde_json::Value;
use std::io::IsTerminal;
use std::time::Duration;

/// How a list is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    #[default]
    Table,
    /// For people, with all there is.
    Wide,
    /// What the API answers.
    Json,
    /// Each row as JSON, one a line.
    Jsonl,
    /// All there is, with a line of names first.
    Csv,
    /// Only the first column.
    Name,
}

/// How a list is asked for and shown.
#[derive(Clone, Debug, Args)]
pub(super) struct Listing {
    #[command(flatten)]
    asking: Asking,
    /// How it is printed.
    #[arg(long, short, value_enum, default_value_t, conflicts_with = "json")]
    output: Output,
    /// Print it anew every so many seconds, 2 where none are said, until interrupted.
    #[arg(long, short, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
}

/// A list.
pub(super) struct List<'a> {
    /// Where it is asked for.
    pub(super) path: &'a str,
    /// Its name in the answer.
    pub(super) rows: &'a str,
    /// Its columns.
    pub(super) columns: &'a [&'a str],
    /// Further ones, where there is room.
    pub(super) wide: &'a [&'a str],
}

impl Listing {
    /// Returns whether JSON as it was answered is wanted.
    pub(super) fn is_json(&self) -> bool {
        self.asking.json || self.output == Output::Json
    }

    /// Returns whether people read it.
    pub(super) fn is_for_people(&self) -> bool {
        !self.asking.json && matches!(self.output, Output::Table | Output::Wide)
    }

    /// Prints a list, once or until interrupted.
    pub(super) async fn print(&self, list: &List<'_>) -> anyhow::Result<()> {
        self.repeat(async |client| Ok(self.text(list, &client.get(list.path).await?))).await
    }

    /// Prints what is made of answers, once or until interrupted.
    pub(super) async fn repeat(
        &self,
        make: impl AsyncFn(&Client) -> anyhow::Result<String>,
    ) -> anyhow::Result<()> {
        let client = self.asking.client()?;
        loop {
            let text = make(&client).await?;
            if self.watch.is_some() && std::io::stdout().is_terminal() {
                print!("\u{1b}[H\u{1b}[2J");
            }
            print!("{text}");
            let Some(seconds) = self.watch else { return Ok(()) };
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
                interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
            }
        }
    }

    /// Returns an answer as it is to be printed.
    pub(super) fn text(&self, list: &List<'_>, found: &Value) -> String {
        let rows: Vec<&Value> = found[list.rows].as_array().into_iter().flatten().collect();
        let lines = |lines: Vec<String>| lines.iter().map(|line| format!("{line}\n")).collect();
        let all: Vec<&str> = list.columns.iter().chain(list.wide).copied().collect();
        match self.output {
            _ if self.is_json() => format!("{}\n", screen::json(found)),
            Output::Json => format!("{}\n", screen::json(found)),
            Output::Jsonl => lines(rows.iter().map(screen::json).collect()),
            Output::Name => {
                let name = |row: &&Value| list.columns.first().map(|first| cell(&row[*first]));
                lines(rows.iter().filter_map(name).collect())
            }
            Output::Csv => lines(csv(&all, &rows)),
            Output::Wide => table(&all, &rows, found),
            Output::Table => table(list.columns, &rows, found),
        }
    }
}

/// Returns a value of a column for people: times of the day where a number is one.
pub(super) fn shown(column: &str, value: &Value) -> String {
    match (column, value.as_u64()) {
        ("submitted" | "finished", Some(0)) => "-".to_owned(),
        ("submitted" | "finished", Some(at)) => gridlive::clock::local_time(at),
        _ => cell(value),
    }
}

/// Returns a table for people.
pub(super) fn table(columns: &[&str], rows: &[&Value], found: &Value) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(columns.iter().map(|column| words(column).to_uppercase()));
    for row in rows {
        table.add_row(columns.iter().map(|column| shown(column, &row[*column])));
    }
    let cut = found["all"].as_u64().filter(|all| *all > rows.len() as u64);
    let cut = cut.map(|all| format!("{} of {all}\n", rows.len())).unwrap_or_default();
    format!("{table}\n{cut}")
}

/// Returns the lines of a table for other programs (RFC 4180): each part has a column.
fn csv(columns: &[&str], rows: &[&Value]) -> Vec<String> {
    let mut names: Vec<(&str, Option<&String>)> = Vec::new();
    for column in columns {
        let mut parts: Vec<&String> = Vec::new();
        for key in rows.iter().filter_map(|row| row[*column].as_object()).flat_map(|o| o.keys()) {
            if !parts.contains(&key) {
                parts.push(key);
            }
        }
        match parts.as_slice() {
            [] => names.push((column, None)),
            parts => names.extend(parts.iter().map(|part| (*column, Some(*part)))),
        }
    }
    let field = |text: String| match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    };
    let plain = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => escaped(text),
        Value::Array(list) => list.iter().map(cell).collect::<Vec<String>>().join(";"),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    };
    let name = |(column, part): &(&str, Option<&String>)| match part {
        Some(part) => format!("{column}_{part}"),
        None => (*column).to_owned(),
    };
    let head = names.iter().map(name).collect::<Vec<String>>().join(",");
    let row = |row: &&Value| {
        let fields = names.iter().map(|(column, part)| {
            let value = &row[*column];
            field(plain(part.map_or(value, |part| &value[part.as_str()])))
        });
        fields.collect::<Vec<String>>().join(",")
    };
    [head].into_iter().chain(rows.iter().map(row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables_for_programs_have_a_column_for_each_part() {
        let rows = [
            json!({ "job": 1, "needs": { "cpu_cores": 0.5, "gpus": 1 }, "why": ["a, b", "c"] }),
            json!({ "job": 2, "needs": { "cpu_cores": 2 }, "why": [], "name": "say \"x\"" }),
        ];
        let lines = csv(&["job", "needs", "name", "why"], &rows.iter().collect::<Vec<_>>());
        assert_eq!(
            lines,
            [
                "job,needs_cpu_cores,needs_gpus,name,why",
                "1,0.5,1,,\"a, b;c\"",
                "2,2,,\"say \"\"x\"\"\","
            ]
        );
    }
}
