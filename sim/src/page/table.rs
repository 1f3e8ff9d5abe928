//! Tables that are read without scripts and sorted with them.

use crate::picture::escape;
use crate::picture::number::fixed;
use core::fmt::Write as _;

/// One cell of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Text.
    Text(String),
    /// A number and how many decimals are shown.
    Number(f64, usize),
    /// A value with something small behind it; `order` is the number that it is sorted by.
    Shown {
        /// The value.
        text: String,
        /// What stands small behind it.
        small: String,
        /// A decimal.
        order: String,
    },
    /// Nothing is known.
    Nothing,
}

/// A table with its heading.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// A word of its own on the page.
    pub id: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// What its rows are.
    pub note: String,
    /// Names of the columns, and whether they are sorted as numbers.
    pub columns: Vec<(String, bool)>,
    /// The cells of each row.
    pub rows: Vec<Vec<Cell>>,
}

/// Returns columns of fixed names.
pub(crate) fn columns(named: &[(&str, bool)]) -> Vec<(String, bool)> {
    named.iter().map(|(name, is_number)| ((*name).to_owned(), *is_number)).collect()
}

impl Table {
    /// Writes the table; numbers stand alone in their cells, so that a script can sort them.
    pub(crate) fn write(&self, out: &mut String) {
        // Writing into a string cannot fail.
        let _written = write!(
            out,
            "<details class=\"card table\" open><summary><h3>{}</h3></summary>\n\
             <p class=\"note\">{}</p>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
             aria-label=\"{}\"><table class=\"sortable\" id=\"table-{}\"><thead><tr>",
            escape(self.title),
            escape(&self.note),
            escape(self.title),
            self.id
        );
        for (name, is_number) in &self.columns {
            let class = if *is_number { " class=\"n\"" } else { "" };
            let name = escape(name);
            let _written = write!(
                out,
                "<th scope=\"col\" aria-sort=\"none\"{class}><button type=\"button\">{name}\
                 </button></th>"
            );
        }
        out.push_str("</tr></thead><tbody>\n");
        for row in &self.rows {
            out.push_str("<tr>");
            for cell in row {
                cell.write(out);
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody></table></div></details>\n");
    }
}

impl Cell {
    fn write(&self, out: &mut String) {
        // Writing into a string cannot fail.
        let _written = match self {
            Self::Text(text) => write!(out, "<td class=\"t\">{}</td>", escape(text)),
            Self::Number(value, decimals) => {
                write!(out, "<td class=\"n\">{}</td>", fixed(*value, *decimals))
            }
            Self::Shown { text, small, order } => write!(
                out,
                "<td class=\"n\" data-order=\"{}\">{} <small>{}</small></td>",
                escape(order),
                escape(text),
                escape(small)
            ),
            Self::Nothing => write!(out, "<td class=\"n\"></td>"),
        };
    }
}
