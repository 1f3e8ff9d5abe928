//! Lines of a trace file, plain or gzip, one at a time and of bounded length.
//!
//! Gzip is told by its first two bytes, not by the file's name. The position is counted so that
//! every error can say where it stands.

use crate::decimal::{DecimalError, decimal, scaled};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

/// The longest line, in bytes: a wide series of a week at one minute has about 60,000.
pub const LINE_BYTES_MAX: u64 = 1 << 20;

/// The most lines of one file.
pub const LINES_MAX: u64 = 100_000_000;

/// What is wrong with a trace file, where, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {what}; {hint}", at(*line))]
pub struct TraceError {
    /// The file as it was named.
    pub file: Box<str>,
    /// The line, counted from 1; `None` when the whole file is meant.
    pub line: Option<u64>,
    /// What is wrong.
    pub what: Box<str>,
    /// What to do next.
    pub hint: Box<str>,
}

fn at(line: Option<u64>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}

/// The lines of one file.
pub struct Lines {
    file: Box<str>,
    reader: Box<dyn BufRead>,
    number: u64,
    text: String,
    bytes_max: u64,
}

impl core::fmt::Debug for Lines {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Lines").field("file", &self.file).field("number", &self.number).finish()
    }
}

impl Lines {
    /// Opens a file.
    ///
    /// # Errors
    /// When it is missing, a directory, not readable, or gzip whose header is broken.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let name = path.display().to_string();
        let whole = |what: String, hint: &str| TraceError {
            file: name.as_str().into(),
            line: None,
            what: what.into(),
            hint: hint.into(),
        };
        let file = File::open(path).map_err(|why| {
            if why.kind() == io::ErrorKind::NotFound {
                whole("no such file".into(), "check the path; it is relative to where you are")
            } else {
                whole(format!("cannot open: {why}"), "check the permissions of the file")
            }
        })?;
        if file.metadata().is_ok_and(|data| data.is_dir()) {
            return Err(whole("is a directory".into(), "name the file inside it"));
        }
        Self::from_reader(&name, file)
    }

    /// Reads from anything, called `name` in errors.
    ///
    /// # Errors
    /// When the first bytes cannot be read.
    pub fn from_reader(name: &str, reader: impl Read + 'static) -> Result<Self, TraceError> {
        let mut reader = reader;
        let mut lines = Self {
            file: name.into(),
            reader: Box::new(io::empty()),
            number: 0,
            text: String::new(),
            bytes_max: LINE_BYTES_MAX,
        };
        let mut magic = Vec::new();
        if let Err(why) = reader.by_ref().take(2).read_to_end(&mut magic) {
            return Err(lines.broken(&why));
        }
        let is_gzip = magic == [0x1f, 0x8b];
        let whole = Cursor::new(magic).chain(reader);
        lines.reader = if is_gzip {
            Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(whole)))
        } else {
            Box::new(BufReader::new(whole))
        };
        Ok(lines)
    }

    /// Steps to the next line that is not blank; `false` at the end of the file.
    ///
    /// # Errors
    /// When reading fails, gzip is cut short or damaged, or a line is too long or no UTF-8.
    pub fn advance(&mut self) -> Result<bool, TraceError> {
        loop {
            if !self.step()? {
                return Ok(false);
            }
            if !self.text.trim().is_empty() {
                return Ok(true);
            }
        }
    }

    fn step(&mut self) -> Result<bool, TraceError> {
        let mut bytes = core::mem::take(&mut self.text).into_bytes();
        bytes.clear();
        self.number += 1;
        if self.number > LINES_MAX {
            let what = format!("more than {LINES_MAX} lines");
            return Err(self.error(what, "split the file and import a part"));
        }
        // One byte more than allowed tells a line of the full length from a longer one.
        let mut bounded = self.reader.by_ref().take(self.bytes_max + 1);
        let read = match bounded.read_until(b'\n', &mut bytes) {
            Ok(read) => u64::try_from(read).unwrap_or(u64::MAX),
            Err(why) => return Err(self.broken(&why)),
        };
        if read == 0 {
            self.number -= 1;
            return Ok(false);
        }
        if read > self.bytes_max {
            let what = format!("line longer than {} bytes", self.bytes_max);
            return Err(self.error(what, "check that this is a text trace with one row per line"));
        }
        while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            bytes.pop();
        }
        match String::from_utf8(bytes) {
            Ok(text) => self.text = text,
            Err(_) => {
                return Err(self.error(
                    "not valid UTF-8".to_owned(),
                    "check that this is a text trace, plain or gzip, and not another archive",
                ));
            }
        }
        if self.number == 1 && self.text.starts_with('\u{feff}') {
            self.text.remove(0);
        }
        Ok(true)
    }

    /// Returns the current line without its end.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the number of the current line, from 1; 0 before the first.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Makes an error at the current line.
    #[must_use]
    pub fn error(&self, what: impl Into<Box<str>>, hint: impl Into<Box<str>>) -> TraceError {
        let line = (self.number > 0).then_some(self.number);
        TraceError { file: self.file.clone(), line, what: what.into(), hint: hint.into() }
    }

    /// Makes the error of a file in which nothing was found.
    #[must_use]
    pub fn empty(&self, hint: &str) -> TraceError {
        TraceError {
            file: self.file.clone(),
            line: None,
            what: "the file has no rows".into(),
            hint: hint.into(),
        }
    }

    /// Reads a number that may be negative, in units of 10^-`places`.
    ///
    /// # Errors
    /// When the text is no such number; the error names the column.
    pub fn signed(&self, column: &str, text: &str, places: u32) -> Result<i64, TraceError> {
        decimal(text, places).map_err(|why| self.no_number(column, text, why))
    }

    /// Reads a number that is not negative, times `factor`, rounded half up.
    ///
    /// # Errors
    /// When the text is no such number; the error names the column.
    pub fn amount(&self, column: &str, text: &str, factor: u64) -> Result<u64, TraceError> {
        scaled(text, factor).map_err(|why| self.no_number(column, text, why))
    }

    /// Makes the error of a text that is not the number it should be.
    fn no_number(&self, column: &str, text: &str, why: DecimalError) -> TraceError {
        let what = format!("column {column} is `{}`: {why}", shown(text));
        self.error(what, "correct the row, or leave it out")
    }

    fn broken(&self, why: &io::Error) -> TraceError {
        let kind = why.kind();
        let hint = if kind == io::ErrorKind::UnexpectedEof {
            "the gzip file is cut short: fetch it again"
        } else if matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) {
            "the gzip file is damaged: fetch it again"
        } else {
            "check the disk and try again"
        };
        self.error(format!("cannot read on: {why}"), hint)
    }
}

/// Returns at most 60 characters of a text from a file, safe to print.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        short.push_str("..");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn all(bytes: Vec<u8>) -> Result<Vec<String>, TraceError> {
        let mut lines = Lines::from_reader("t.csv", Cursor::new(bytes))?;
        let mut out = Vec::new();
        while lines.advance()? {
            out.push(lines.text().to_owned());
        }
        Ok(out)
    }

    #[test]
    fn plain_and_gzip_give_the_same_lines() {
        let text = b"\xef\xbb\xbfa,b\r\n\n1,2\nlast".to_vec();
        let expected = vec!["a,b".to_owned(), "1,2".to_owned(), "last".to_owned()];
        assert_eq!(all(text.clone()).unwrap(), expected);
        assert_eq!(all(gzip(&text)).unwrap(), expected);
        assert_eq!(all(Vec::new()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn cut_and_damaged_gzip_is_refused_with_a_hint() {
        let mut random = crate::rng::stream(1, "gzip", 0);
        let text: String = (0..5_000).map(|_| format!("{}\n", random.bits())).collect();
        let mut packed = gzip(text.as_bytes());
        packed.truncate(packed.len() / 2);
        let why = all(packed.clone()).unwrap_err();
        assert!(why.to_string().contains("cut short"), "{why}");
        for byte in packed.iter_mut().skip(20).take(400) {
            *byte = 0xff;
        }
        assert!(all(packed).is_err());
        assert!(all(vec![0x1f, 0x8b]).is_err());
    }

    #[test]
    fn an_endless_line_is_refused_after_one_mebibyte() {
        let mut lines = Lines::from_reader("zeros", io::repeat(b'0')).unwrap();
        let why = lines.advance().unwrap_err();
        assert_eq!(why.line, Some(1));
        assert!(why.what.contains("longer than 1048576 bytes"), "{why}");
        let mut exact = vec![b'1'; (1 << 20) - 1];
        exact.push(b'\n');
        assert!(all(exact).is_ok());
    }

    #[test]
    fn missing_files_directories_and_other_bytes_are_named() {
        let why = Lines::open(Path::new("no/such/file.csv")).unwrap_err();
        assert!(why.to_string().starts_with("no/such/file.csv: no such file; "), "{why}");
        let why = Lines::open(Path::new("src")).unwrap_err();
        assert!(why.to_string().starts_with("src: is a directory; "), "{why}");
        let why = all(vec![b'a', b'\n', 0xff, 0xfe]).unwrap_err();
        assert!(why.to_string().starts_with("t.csv:2: not valid UTF-8; "), "{why}");
    }
}
