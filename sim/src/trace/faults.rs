//! Fault traces: `time_s,node,event` with the events `down` and `up`.

use super::columns::{Column, Table, required};
use super::read::{Lines, TraceError, shown};
use crate::work::FaultRecord;
use gridcore::units::Time;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

const COLUMNS: &[Column] = &[required("time_s"), required("node"), required("event")];

/// Reads a fault trace; `nodes` are the names of the scenario's nodes, in their order.
///
/// The rows may stand in any order of time; rows of one instant keep theirs.
///
/// # Errors
/// When the file breaks the format, names an unknown node, or a node fails while it is down or
/// returns while it is up.
pub fn faults(path: &Path, nodes: &[Box<str>]) -> Result<Vec<FaultRecord>, TraceError> {
    faults_from(Lines::open(path)?, nodes)
}

/// Reads a fault trace from lines, as [`faults`].
///
/// # Errors
/// As [`faults`].
pub fn faults_from(lines: Lines, nodes: &[Box<str>]) -> Result<Vec<FaultRecord>, TraceError> {
    let numbered = (0_u32..).zip(nodes);
    let index: BTreeMap<&str, u32> = numbered.map(|(i, name)| (name.as_ref(), i)).collect();
    let mut table = Table::open(lines, COLUMNS)?;
    let mut faults = Vec::new();
    while table.advance()? {
        let name = table.text(1);
        let Some(node) = index.get(name).copied() else {
            let what = format!("unknown node `{}`", shown(name));
            return Err(table.error(what, "name a node of the scenario"));
        };
        let up = match table.text(2) {
            "up" => true,
            "down" => false,
            other => {
                let what = format!("unknown event `{}`", shown(other));
                return Err(table.error(what, "the events are down and up"));
            }
        };
        faults.push(FaultRecord { at: Time::from_ms(table.amount(0, 1_000)?), node, up });
    }
    faults.sort_by_key(|fault| fault.at);
    let mut is_down = vec![false; nodes.len()];
    for fault in &faults {
        let state = usize::try_from(fault.node).ok().and_then(|i| is_down.get_mut(i));
        let was_down = state.map(|down| core::mem::replace(down, !fault.up));
        if was_down != Some(fault.up) {
            let name = usize::try_from(fault.node).ok().and_then(|i| nodes.get(i));
            let (event, state) = if fault.up { ("returns", "up") } else { ("fails", "down") };
            let name = name.map(AsRef::as_ref).unwrap_or_default();
            let what = format!("node `{name}` {event} at {} while it is {state}", fault.at);
            let mut error = table.empty("let down and up take turns for each node");
            error.what = what.into();
            return Err(error);
        }
    }
    Ok(faults)
}

/// Writes a fault trace that [`faults`] reads back.
///
/// # Errors
/// When writing fails, or a record's node has no name.
pub fn write_faults(faults: &[FaultRecord], nodes: &[Box<str>], out: impl Write) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(COLUMNS.iter().map(|column| column.name))?;
    for fault in faults {
        let name = usize::try_from(fault.node).ok().and_then(|i| nodes.get(i));
        let name = name.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a fault's node has no name")
        })?;
        let ms = fault.at.ms();
        let time = format!("{}.{:03}", ms / 1_000, ms % 1_000);
        writer.write_record([
            time.as_str(),
            name.as_ref(),
            if fault.up { "up" } else { "down" },
        ])?;
    }
    writer.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples::{lines, sample};

    fn names() -> Vec<Box<str>> {
        vec!["n1".into(), "n2".into()]
    }

    #[test]
    fn faults_are_sorted_and_written_back() {
        let text = "time_s,node,event\n9.5,n2,up\n1,n1,down\n2.000,n2,down\n";
        let read = faults_from(lines(text), &names()).unwrap();
        assert_eq!(read[0], FaultRecord { at: Time::from_ms(1_000), node: 0, up: false });
        assert_eq!(read[2], FaultRecord { at: Time::from_ms(9_500), node: 1, up: true });
        let mut written = Vec::new();
        write_faults(&read, &names(), &mut written).unwrap();
        let again = faults_from(lines(core::str::from_utf8(&written).unwrap()), &names());
        assert_eq!(again.unwrap(), read);
    }

    #[test]
    fn faults_that_cannot_be_are_refused() {
        for (rows, why) in [
            ("1,n3,down", "t:2: unknown node `n3`"),
            ("1,n1,off", "t:2: unknown event `off`"),
            ("-1,n1,down", "t:2: column time_s is `-1`"),
            ("1,n1,up", "t: node `n1` returns at 1.000s while it is up"),
            ("2,n1,down\n1,n1,down", "t: node `n1` fails at 2.000s while it is down"),
        ] {
            let text = format!("time_s,node,event\n{rows}\n");
            let error = faults_from(lines(&text), &names()).unwrap_err().to_string();
            assert!(error.starts_with(why), "{rows}: {error}");
        }
    }

    #[test]
    fn the_sample_is_read() {
        let names: Vec<Box<str>> = (1..=10).map(|i| format!("node-{i:02}").into()).collect();
        assert!(faults(&sample("faults.csv"), &names).unwrap().len() > 20);
    }
}
