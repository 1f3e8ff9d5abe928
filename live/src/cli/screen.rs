//! What others wrote, shown so that it cannot steer a terminal.
//!
//! A terminal obeys control characters: C0 and C1 (ECMA-48), the latter also as two bytes of UTF-8.
//! Marks that turn the direction of writing let a line read as another (CVE-2021-42574). Both are
//! shown by their numbers; all other text stays as it is.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

/// Returns whether a terminal would obey a character, or turn what follows.
fn steers(c: char) -> bool {
    let turns = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    turns || c.is_control()
}

/// Returns text on one line.
pub(super) fn escaped(text: &str) -> String {
    let safe = |c: char| if steers(c) { c.escape_unicode().to_string() } else { c.to_string() };
    text.chars().map(safe).collect()
}

/// Returns text with its lines.
pub(super) fn lines(text: &str) -> String {
    text.split('\n').map(escaped).collect::<Vec<String>>().join("\n")
}

/// Returns JSON of the same value.
pub(super) fn json(value: &impl ToString) -> String {
    let mut out = String::new();
    for c in value.to_string().chars() {
        if steers(c) {
            // Only strings hold such a character, and none lies above U+FFFF.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// What a job prints, on its way to one of our streams: as it is into a file or pipe, and harmless
/// on a terminal.
pub(super) struct Stream {
    errors: bool,
    on_terminal: bool,
    /// The bytes of a character whose end has not come yet.
    begun: Vec<u8>,
}

impl Stream {
    pub(super) fn new(errors: bool) -> Self {
        let on_terminal =
            if errors { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        Self { errors, on_terminal, begun: Vec::new() }
    }

    /// Prints what has come.
    pub(super) fn print(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.on_terminal {
            return self.write(bytes);
        }
        self.begun.extend_from_slice(bytes);
        let (text, left) = plain(&self.begun);
        let done = self.begun.len() - left;
        self.begun.drain(..done);
        self.write(text.as_bytes())
    }

    /// Prints what is left of a character that never ended.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let mut text = String::new();
        std::mem::take(&mut self.begun).iter().for_each(|byte| push_byte(&mut text, *byte));
        self.write(text.as_bytes())
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        if self.errors {
            io::stderr().write_all(bytes)
        } else {
            io::stdout().write_all(bytes)?;
            io::stdout().flush()
        }
    }
}

fn push_byte(out: &mut String, byte: u8) {
    let _ = write!(out, "\\x{byte:02x}");
}

/// Returns bytes as harmless text, and how many at their end are the beginning of a character. Tabs
/// and line ends stay, so that what shows its progress on one line can.
fn plain(bytes: &[u8]) -> (String, usize) {
    let (mut out, mut rest) = (String::new(), bytes);
    loop {
        let (valid, wrong) = match std::str::from_utf8(rest) {
            Ok(text) => (text, None),
            Err(error) => {
                let valid = rest.get(..error.valid_up_to()).unwrap_or_default();
                (std::str::from_utf8(valid).unwrap_or_default(), Some(error.error_len()))
            }
        };
        for c in valid.chars() {
            match c {
                '\t' | '\n' | '\r' => out.push(c),
                c if c.is_ascii_control() => push_byte(&mut out, c as u8),
                c if steers(c) => out.extend(c.escape_unicode()),
                c => out.push(c),
            }
        }
        let after = rest.get(valid.len()..).unwrap_or_default();
        match wrong {
            None => return (out, 0),
            Some(None) => return (out, after.len()),
            Some(Some(count)) => {
                let (wrong, next) = after.split_at(count.min(after.len()));
                wrong.iter().for_each(|byte| push_byte(&mut out, *byte));
                rest = next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_is_shown_and_text_stays() {
        assert_eq!(escaped("ä😀 \u{1b}[31m\n\u{9b}m"), "ä😀 \\u{1b}[31m\\u{a}\\u{9b}m");
        assert_eq!(escaped("a\u{202e}b\u{2066}c\u{61c}"), "a\\u{202e}b\\u{2066}c\\u{61c}");
        assert_eq!(lines("a\r\nb\u{7f}"), "a\\u{d}\nb\\u{7f}");
        let value = serde_json::json!({ "na\u{9b}me": "\u{1b}]0;x\u{7}\u{202e}ä\u{7f}" });
        let shown = json(&value);
        assert!(!shown.chars().any(steers) && shown.contains('ä'));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn characters_that_come_in_parts_are_the_same() {
        let text = "ok ä€😀\t\r\n\u{1b}[0m\u{9b}31m\u{202e}";
        let bytes = [text.as_bytes(), b"\x9b\xff\xe4bc\xf0\x9f"].concat();
        let whole = "ok ä€😀\t\r\n\\x1b[0m\\u{9b}31m\\u{202e}\\x9b\\xff\\xe4bc".to_owned();
        assert_eq!(plain(&bytes), (whole.clone(), 2));
        for cut in 0..bytes.len() {
            let (first, left) = plain(&bytes[..cut]);
            let (second, left) = plain(&bytes[cut - left..]);
            assert_eq!((first + &second, left), (whole.clone(), 2), "{cut}");
        }
    }
}
