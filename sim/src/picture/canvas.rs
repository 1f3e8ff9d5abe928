//! A sheet of paper: marks are collected, then drawn as SVG by plotters.
//!
//! plotters places marks at integer coordinates, so the sheet is drawn at [`SCALE`] times its size
//! and shown through a view box. Images lie directly on the paper, below every other mark.

use crate::picture::colour::{Colour, PAPER, hex};
use crate::picture::encode::Indexed;
use crate::picture::number::coordinate;
use crate::picture::svg::{Picture, Svg};
use crate::picture::text::{self, Weight};
use plotters::prelude::{
    Circle, DrawingArea, FontStyle, FontTransform, IntoDrawingArea as _, IntoFont as _,
    PathElement, Polygon, RGBColor, Rectangle, SVGBackend,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, ShapeStyle, TextStyle};

/// How many units of the drawing one unit of the paper is.
const SCALE: f64 = 10.0;
/// The width of every picture.
pub(crate) const WIDTH: f64 = 960.0;

/// A point on the paper, from its upper left corner.
pub(crate) type Point = (f64, f64);

/// A rectangle on the paper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Area {
    /// Its left edge.
    pub left: f64,
    /// Its upper edge.
    pub top: f64,
    /// Its width.
    pub width: f64,
    /// Its height.
    pub height: f64,
}

impl Area {
    /// Returns the right edge.
    pub(crate) fn right(&self) -> f64 {
        self.left + self.width
    }

    /// Returns the lower edge.
    pub(crate) fn bottom(&self) -> f64 {
        self.top + self.height
    }
}

/// Where a text stands relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    /// The text begins at the point.
    Start,
    /// The point is its middle.
    Middle,
    /// The text ends at the point.
    End,
}

/// How a text looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Style {
    /// The size of the letters.
    pub size: f64,
    /// Their weight.
    pub weight: Weight,
    /// Their colour.
    pub colour: Colour,
    /// Where they stand.
    pub anchor: Anchor,
}

impl Style {
    /// Regular letters that begin at their point.
    pub(crate) fn new(size: f64, colour: Colour) -> Self {
        Self { size, weight: Weight::Regular, colour, anchor: Anchor::Start }
    }

    /// The same, semi-bold.
    pub(crate) fn bold(self) -> Self {
        Self { weight: Weight::Bold, ..self }
    }

    /// The same at another anchor.
    pub(crate) fn anchored(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }
}

/// One thing on the paper.
enum Mark {
    Line { points: Vec<Point>, colour: Colour, width: f64 },
    Fill { points: Vec<Point>, colour: Colour, opacity: f64 },
    Rect { area: Area, colour: Colour },
    Dot { at: Point, radius: f64, colour: Colour, opacity: f64 },
    Text { at: Point, text: String, style: Style, upright: bool },
}

/// A sheet on which marks are placed; its height is known last.
#[derive(Default)]
pub(crate) struct Canvas {
    marks: Vec<Mark>,
    images: Vec<(Area, Indexed)>,
}

impl Canvas {
    /// Draws a line through points.
    pub(crate) fn line(&mut self, points: Vec<Point>, colour: Colour, width: f64) {
        self.marks.push(Mark::Line { points, colour, width });
    }

    /// Draws a dashed straight line.
    pub(crate) fn dashed(&mut self, from: Point, to: Point, colour: Colour) {
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let mut at = 0.0;
        let place = |d: f64| {
            let part = if length > 0.0 { (d / length).min(1.0) } else { 0.0 };
            (from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part)
        };
        while at < length {
            self.line(vec![place(at), place(at + 4.0)], colour, 1.0);
            at += 7.0;
        }
    }

    /// Fills a polygon.
    pub(crate) fn fill(&mut self, points: Vec<Point>, colour: Colour, opacity: f64) {
        self.marks.push(Mark::Fill { points, colour, opacity });
    }

    /// Fills a rectangle.
    pub(crate) fn rect(&mut self, area: Area, colour: Colour) {
        self.marks.push(Mark::Rect { area, colour });
    }

    /// Draws a dot.
    pub(crate) fn dot(&mut self, at: Point, radius: f64, colour: Colour) {
        self.marks.push(Mark::Dot { at, radius, colour, opacity: 1.0 });
    }

    /// Draws a dot through which the paper is seen, whatever its colour.
    pub(crate) fn pale_dot(&mut self, at: Point, radius: f64, colour: Colour) {
        self.marks.push(Mark::Dot { at, radius, colour, opacity: 0.38 });
    }

    /// Writes a line of text on the base line through `at`.
    pub(crate) fn text(&mut self, at: Point, text: &str, style: Style) {
        let text = text::clean(text);
        self.marks.push(Mark::Text { at, text, style, upright: false });
    }

    /// Writes a line of text that runs upwards from `at`.
    pub(crate) fn upward(&mut self, at: Point, text: &str, style: Style) {
        let text = text::clean(text);
        self.marks.push(Mark::Text { at, text, style, upright: true });
    }

    /// Lays an image on the paper, below everything else.
    pub(crate) fn image(&mut self, area: Area, image: Indexed) {
        self.images.push((area, image));
    }

    /// Draws everything; `title` is what the picture is called where it cannot be seen.
    pub(crate) fn finish(self, title: &str, height: f64) -> Svg {
        let size = (whole(WIDTH * SCALE), whole(height * SCALE));
        let mut drawn = String::new();
        {
            let sheet = SVGBackend::with_string(&mut drawn, size).into_drawing_area();
            for mark in &self.marks {
                draw(&sheet, mark);
            }
            // Closing the document in memory cannot fail.
            let _closed = sheet.present();
        }
        let marks = inner(&drawn).to_owned();
        let images = self.images.iter().map(|(area, image)| picture(*area, image)).collect();
        Svg::new(text::clean(title), (size.0 / 10, size.1 / 10), images, marks)
    }
}

/// Returns a length as a whole number of units, at least one.
fn whole(length: f64) -> u32 {
    u32::try_from(coordinate(length)).unwrap_or(1).max(1)
}

/// Returns what stands between the outermost tags.
fn inner(document: &str) -> &str {
    let begin = document.find('\n').map_or(0, |i| i + 1);
    let end = document.rfind("</svg>").unwrap_or(document.len());
    document.get(begin..end).unwrap_or("")
}

/// Places an image in units of the drawing.
fn picture(area: Area, image: &Indexed) -> Picture {
    let (x, y) = scaled((area.left, area.top));
    let (right, bottom) = scaled((area.right(), area.bottom()));
    Picture { place: [x, y, right - x, bottom - y], image: image.clone() }
}

/// Turns a point of the paper into one of the drawing.
fn scaled((x, y): Point) -> (i32, i32) {
    (coordinate(x * SCALE), coordinate(y * SCALE))
}

/// Returns a colour as plotters names it.
fn paint((red, green, blue): Colour) -> RGBColor {
    RGBColor(red, green, blue)
}

/// Draws one mark; drawing into memory cannot fail.
fn draw(sheet: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, mark: &Mark) {
    let _drawn = match mark {
        Mark::Line { points, colour, width } => {
            let style = ShapeStyle::from(&paint(*colour)).stroke_width(whole(width * SCALE));
            let points: Vec<(i32, i32)> = points.iter().map(|p| scaled(*p)).collect();
            sheet.draw(&PathElement::new(points, style))
        }
        Mark::Fill { points, colour, opacity } => {
            let points: Vec<(i32, i32)> = points.iter().map(|p| scaled(*p)).collect();
            sheet.draw(&Polygon::new(points, paint(*colour).mix(*opacity).filled()))
        }
        Mark::Rect { area, colour } => {
            let corners = [scaled((area.left, area.top)), scaled((area.right(), area.bottom()))];
            sheet.draw(&Rectangle::new(corners, paint(*colour).filled()))
        }
        Mark::Dot { at, radius, colour, opacity } => {
            let style = paint(*colour).mix(*opacity).filled();
            sheet.draw(&Circle::new(scaled(*at), whole(radius * SCALE), style))
        }
        Mark::Text { at, text, style, upright } => write(sheet, *at, text, (*style, *upright)),
    };
}

/// Writes one text; plotters counts from the top of the letters, 0.76 of their size up.
fn write(
    sheet: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    at: Point,
    text: &str,
    (style, upright): (Style, bool),
) -> Result<(), plotters::drawing::DrawingAreaErrorKind<std::io::Error>> {
    let rise = style.size * 0.76;
    let at = if upright { (at.0 - rise, at.1) } else { (at.0, at.1 - rise) };
    let side = match style.anchor {
        Anchor::Start => HPos::Left,
        Anchor::Middle => HPos::Center,
        Anchor::End => HPos::Right,
    };
    let weight = match style.weight {
        Weight::Regular => FontStyle::Normal,
        Weight::Bold => FontStyle::Bold,
    };
    let turn = if upright { FontTransform::Rotate270 } else { FontTransform::None };
    let font = (FAMILY, style.size * SCALE * 1.24).into_font().style(weight).transform(turn);
    let colour = paint(style.colour);
    let look = TextStyle::from(font).color(&colour).pos(Pos::new(side, VPos::Top));
    sheet.draw_text(text, &look, scaled(at))
}

/// The letters, with what stands in for characters that the embedded font lacks.
const FAMILY: &str = "Inter, sans-serif";

/// Returns the paper itself as a mark.
pub(crate) fn paper(width: u32, height: u32) -> String {
    format!("<rect width=\"{width}0\" height=\"{height}0\" fill=\"{}\"/>\n", hex(PAPER))
}
