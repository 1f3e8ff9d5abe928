//! A page of tables and pictures for what is made of many runs.

use crate::page::{Table, figures, fill};
use crate::picture::{Svg, escape, svg};

/// The page with names in double braces where its parts belong.
const TEMPLATE: &str = include_str!("sheet.html");

/// What a page of many runs shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Sheet<'a> {
    /// What it is called.
    pub title: &'a str,
    /// What was run.
    pub facts: &'a str,
    /// Key figures: name and value.
    pub tiles: &'a [(String, String)],
    /// The tables.
    pub tables: &'a [Table],
    /// The pictures, in order.
    pub pictures: &'a [(&'a str, Svg)],
}

/// Draws the page; as [`render`](crate::page::render) it asks the network for nothing.
#[must_use]
pub fn sheet(of: &Sheet<'_>) -> String {
    let part = |name: &str| match name {
        "title" => escape(of.title),
        "fonts" => svg::font_faces(),
        "style" => include_str!("page.css").to_owned(),
        "facts" => escape(of.facts),
        "tiles" if of.tiles.is_empty() => String::new(),
        "tiles" => {
            let tiles = tiles(of.tiles);
            format!(
                "<section aria-label=\"Key figures\"><ul class=\"tiles\">{tiles}</ul></section>"
            )
        }
        "pictures" => figures(of.pictures.iter().map(|(_, picture)| picture)),
        "tables" => {
            let mut out = String::new();
            of.tables.iter().for_each(|table| table.write(&mut out));
            out
        }
        "page-script" => include_str!("page.js").to_owned(),
        _ => String::new(),
    };
    fill(TEMPLATE, part)
}

/// Returns key figures as list items.
pub(super) fn tiles(of: &[(String, String)]) -> String {
    let item = |(name, value): &(String, String)| {
        format!("<li><span>{}</span><b>{}</b></li>", escape(name), escape(value))
    };
    of.iter().map(item).collect()
}
