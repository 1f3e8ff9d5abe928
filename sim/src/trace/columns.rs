//! Comma-separated tables with named columns.
//!
//! The header says where each column is; unknown, double and missing columns are refused, so a
//! misspelt one cannot be ignored. A field may be quoted; a quoted line break is refused, because
//! rows are lines.

use super::read::{Lines, TraceError, shown};

/// One column that a reader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in the header.
    pub name: &'static str,
    /// Whether the table must have it.
    pub is_required: bool,
}

/// A column that must be there.
#[must_use]
pub const fn required(name: &'static str) -> Column {
    Column { name, is_required: true }
}

/// A column that may be left out; its fields then read as empty.
#[must_use]
pub const fn optional(name: &'static str) -> Column {
    Column { name, is_required: false }
}

/// A table whose header has been read.
#[derive(Debug)]
pub struct Table {
    lines: Lines,
    known: &'static [Column],
    /// For each known column its place in a row.
    places: Vec<Option<usize>>,
    width: usize,
    row: Row,
}

impl Table {
    /// Reads the header.
    ///
    /// # Errors
    /// When there is none, or a column is unknown, double or missing.
    pub fn open(mut lines: Lines, known: &'static [Column]) -> Result<Self, TraceError> {
        let names = || known.iter().map(|column| column.name).collect::<Vec<_>>().join(",");
        if !lines.advance()? {
            return Err(lines.empty(&format!("the first line must name columns of: {}", names())));
        }
        let mut row = Row::default();
        row.split(&lines)?;
        let mut places = vec![None; known.len()];
        for place in 0..row.width() {
            let name = row.field(place).trim();
            let Some(index) = known.iter().position(|column| column.name == name) else {
                let what = format!("unknown column `{}`", shown(name));
                return Err(lines.error(what, format!("the columns are: {}", names())));
            };
            if places[index].replace(place).is_some() {
                let what = format!("column `{name}` stands there twice");
                return Err(lines.error(what, "keep one of them"));
            }
        }
        for (column, place) in known.iter().zip(&places) {
            if column.is_required && place.is_none() {
                let what = format!("column `{}` is missing", column.name);
                return Err(lines.error(what, format!("the columns are: {}", names())));
            }
        }
        Ok(Self { lines, known, places, width: row.width(), row })
    }

    /// Steps to the next row; `false` at the end.
    ///
    /// # Errors
    /// When the line cannot be read or has another number of fields than the header.
    pub fn advance(&mut self) -> Result<bool, TraceError> {
        if !self.lines.advance()? {
            return Ok(false);
        }
        self.row.split(&self.lines)?;
        if self.row.width() != self.width {
            let (has, want) = (self.row.width(), self.width);
            let what = format!("{has} fields where the header has {want}");
            return Err(self.lines.error(what, "correct the row, or leave it out"));
        }
        Ok(true)
    }

    /// Returns the field of the known column number `column` without blanks around it; empty when
    /// the table lacks the column.
    #[must_use]
    pub fn text(&self, column: usize) -> &str {
        match self.places.get(column) {
            Some(Some(place)) => self.row.field(*place).trim(),
            _ => "",
        }
    }

    /// Reads a number that is not negative, times `factor`, rounded half up.
    ///
    /// # Errors
    /// When the field is no such number.
    pub fn amount(&self, column: usize, factor: u64) -> Result<u64, TraceError> {
        self.lines.amount(self.name(column), self.text(column), factor)
    }

    /// Reads a number as [`Table::amount`], or `None` when the field is empty.
    ///
    /// # Errors
    /// When the field is no such number.
    pub fn some_amount(&self, column: usize, factor: u64) -> Result<Option<u64>, TraceError> {
        if self.text(column).is_empty() {
            return Ok(None);
        }
        self.amount(column, factor).map(Some)
    }

    /// Reads a number up to `max`, times `factor`; 0 when the field is empty.
    ///
    /// # Errors
    /// When the field is no such number or the product is above `max`.
    pub fn bounded(&self, column: usize, factor: u64, max: u64) -> Result<u64, TraceError> {
        let amount = self.some_amount(column, factor)?.unwrap_or(0);
        if amount > max {
            let name = self.name(column);
            let what = format!("column {name} is `{}`: too large", shown(self.text(column)));
            return Err(self.error(what, format!("the most is {}", max / factor.max(1))));
        }
        Ok(amount)
    }

    /// Returns the lines, for their position in errors.
    #[must_use]
    pub const fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Makes an error at the current row.
    #[must_use]
    pub fn error(&self, what: impl Into<Box<str>>, hint: impl Into<Box<str>>) -> TraceError {
        self.lines.error(what, hint)
    }

    /// Makes the error of a table without rows.
    #[must_use]
    pub fn empty(&self, hint: &str) -> TraceError {
        self.lines.empty(hint)
    }

    fn name(&self, column: usize) -> &'static str {
        self.known.get(column).map_or("?", |column| column.name)
    }
}

/// The fields of one line.
#[derive(Debug, Default)]
pub struct Row {
    text: String,
    /// Where each field ends in `text`.
    ends: Vec<usize>,
}

impl Row {
    /// Splits the current line at its commas; `""` inside a quoted field is one quote.
    ///
    /// # Errors
    /// When a quoted field does not end on the line.
    pub fn split(&mut self, lines: &Lines) -> Result<(), TraceError> {
        self.text.clear();
        self.ends.clear();
        let mut rest = lines.text();
        loop {
            let after = match rest.strip_prefix('"') {
                Some(quoted) => self.quoted(quoted),
                None => Some(self.plain(rest)),
            };
            self.ends.push(self.text.len());
            match after {
                Some("") => return Ok(()),
                Some(more) => rest = more.get(1..).unwrap_or(""),
                None => {
                    let hint = "close the quote on the same line, or take the quotes away";
                    return Err(lines.error("a quoted field does not end", hint));
                }
            }
            // A comma at the very end opens one more, empty field: the loop runs once more for it.
        }
    }

    /// Takes a plain field; returns what follows, from the comma on.
    fn plain<'a>(&mut self, rest: &'a str) -> &'a str {
        let end = rest.find(',').unwrap_or(rest.len());
        let (field, after) = rest.split_at(end);
        self.text.push_str(field);
        after
    }

    /// Takes a quoted field whose first quote is gone; `None` when the closing one or the comma
    /// after it is missing.
    fn quoted<'a>(&mut self, mut rest: &'a str) -> Option<&'a str> {
        loop {
            let (part, after) = rest.split_once('"')?;
            self.text.push_str(part);
            match after.strip_prefix('"') {
                Some(more) => {
                    self.text.push('"');
                    rest = more;
                }
                None => return (after.is_empty() || after.starts_with(',')).then_some(after),
            }
        }
    }

    /// Returns how many fields there are.
    #[must_use]
    pub fn width(&self) -> usize {
        self.ends.len()
    }

    /// Returns field number `place`; empty past the last.
    #[must_use]
    pub fn field(&self, place: usize) -> &str {
        let start = match place.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or(0),
            None => 0,
        };
        let end = self.ends.get(place).copied().unwrap_or(start);
        self.text.get(start..end).unwrap_or("")
    }

    /// Walks the fields.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        (0..self.width()).map(|place| self.field(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    const KNOWN: &[Column] = &[required("name"), optional("amount")];

    fn table(text: &str) -> Result<Vec<(String, Option<u64>)>, TraceError> {
        let lines = Lines::from_reader("t.csv", Cursor::new(text.to_owned()))?;
        let mut table = Table::open(lines, KNOWN)?;
        let mut rows = Vec::new();
        while table.advance()? {
            rows.push((table.text(0).to_owned(), table.some_amount(1, 10)?));
        }
        Ok(rows)
    }

    #[test]
    fn columns_come_in_any_order_quoted_or_not() {
        let rows = table("amount,name\n1.25,\"a \"\"b\"\", c\"\n,d\n").unwrap();
        assert_eq!(rows, [("a \"b\", c".to_owned(), Some(13)), ("d".to_owned(), None)]);
        assert_eq!(table("name\nx\n").unwrap(), [("x".to_owned(), None)]);
    }

    #[test]
    fn every_broken_table_is_refused_where_it_breaks() {
        for (text, why) in [
            ("", "t.csv: the file has no rows"),
            ("amount\n", "t.csv:1: column `name` is missing"),
            ("name,nam\n", "t.csv:1: unknown column `nam`"),
            ("name,name\n", "t.csv:1: column `name` stands there twice"),
            ("name,amount\na\n", "t.csv:2: 1 fields where the header has 2"),
            ("name,amount\na,1,\n", "t.csv:2: 3 fields where the header has 2"),
            ("name,amount\n\na,-1\n", "t.csv:3: column amount is `-1`: must not be negative"),
            ("name,amount\na,nan\n", "t.csv:2: column amount is `nan`: not a finite"),
            ("name,amount\na,1e30\n", "t.csv:2: column amount is `1e30`: number out of range"),
            ("name\n\"a\n", "t.csv:2: a quoted field does not end"),
            ("name\n\"a\"b\n", "t.csv:2: a quoted field does not end"),
        ] {
            let error = table(text).unwrap_err().to_string();
            assert!(error.starts_with(why), "{text:?}: {error}");
        }
    }
}
