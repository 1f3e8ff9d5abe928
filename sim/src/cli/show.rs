//! Everything that is printed. A closed pipe is no error.
#![expect(clippy::print_stderr, reason = "this is the terminal's module")]

use crate::world::Progress;
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::Write;

/// Prints a line.
pub(super) fn line(text: &str) {
    let _closed = writeln!(std::io::stdout(), "{text}");
}

/// Prints bytes as they are.
pub(super) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints an error with its causes.
pub(super) fn error(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

/// Prints a note to people, beside the results.
pub(super) fn note(text: &str) {
    eprintln!("{text}");
}

/// Prints a table.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.clone());
    }
    line(&table.to_string());
}

/// A progress bar over so many things; hidden when asked to be quiet or without a terminal.
pub(super) fn counting(things: u64, quiet: bool) -> ProgressBar {
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(things) };
    let template = "{bar:40} {pos}/{len}  {per_sec}  ETA {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// A progress bar over simulated time or, without a horizon, over jobs.
pub(super) struct Bar {
    bar: ProgressBar,
    watch: crate::clock::Stopwatch,
}

impl Bar {
    /// Begins one; hidden when asked to be quiet or without a terminal.
    pub(super) fn begin(quiet: bool) -> Self {
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(1_000) };
        let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}  ETA {eta}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self { bar, watch: crate::clock::Stopwatch::start() }
    }

    /// Shows how far a run has come.
    pub(super) fn show(&self, at: Progress) {
        let part = match at.horizon {
            Some(end) => at.now.ms().saturating_mul(1_000).checked_div(end.ms()),
            None => at.ended.saturating_mul(1_000).checked_div(at.submitted),
        };
        self.bar.set_position(part.unwrap_or(0).min(1_000));
        let millis = self.watch.elapsed().as_millis().max(1);
        let rate = u128::from(at.events) * 1_000 / millis;
        let (days, rest) = (at.now.ms() / 86_400_000, at.now.ms() % 86_400_000 / 1_000);
        let clock = format!("{:02}:{:02}:{:02}", rest / 3_600, rest / 60 % 60, rest % 60);
        self.bar.set_message(format!("day {days} {clock}  {rate} events/s"));
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
