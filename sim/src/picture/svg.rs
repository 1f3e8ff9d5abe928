//! A finished picture and its forms: a document, a part of a page, a PNG.

use crate::picture::canvas::paper;
use crate::picture::encode::{Indexed, base64};
use core::fmt::Write as _;

/// The embedded letters, as browsers read them.
pub(crate) const REGULAR_WOFF2: &[u8] = include_bytes!("../../assets/Inter-Regular.woff2");
/// The embedded semi-bold letters, as browsers read them.
pub(crate) const BOLD_WOFF2: &[u8] = include_bytes!("../../assets/Inter-SemiBold.woff2");

/// An image and where it lies, in units of the drawing: left, top, width, height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub place: [i32; 4],
    pub image: Indexed,
}

/// A finished picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Svg {
    title: String,
    size: (u32, u32),
    images: Vec<Picture>,
    marks: String,
}

impl Svg {
    /// Puts a picture together; `marks` are in tenths of the units of `size`.
    pub(crate) fn new(
        title: String,
        size: (u32, u32),
        images: Vec<Picture>,
        marks: String,
    ) -> Self {
        Self { title, size, images, marks }
    }

    /// Returns its title, as plain text.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Returns its width and height in CSS pixels.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Returns the picture as an SVG document of its own, with its letters in it.
    #[must_use]
    pub fn document(&self) -> String {
        let style = format!("<style>{}</style>\n", font_faces());
        let (width, height) = self.size;
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}{style}{}{}{}</svg>\n",
            self.open(&format!(" width=\"{width}\" height=\"{height}\"")),
            paper(width, height),
            self.placed_images(),
            self.marks,
        )
    }

    /// Returns the picture as an element of a page that has the letters already and whose colour
    /// is the paper.
    #[must_use]
    pub fn inline(&self) -> String {
        format!("{}{}{}</svg>\n", self.open(""), self.placed_images(), self.marks)
    }

    /// Returns the picture without paper, letters and images, which a rasteriser adds itself.
    #[cfg(feature = "png")]
    pub(crate) fn bare(&self) -> String {
        let (width, height) = self.size;
        let size = format!(" width=\"{width}\" height=\"{height}\"");
        format!("{}{}</svg>\n", self.open(&size), self.marks)
    }

    /// Returns the images on the paper.
    #[cfg(feature = "png")]
    pub(crate) fn images(&self) -> &[Picture] {
        &self.images
    }

    /// Returns the opening tag, with the title for readers who cannot see the picture.
    fn open(&self, size: &str) -> String {
        let title = escape(&self.title);
        let (width, height) = self.size;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\"{size} viewBox=\"0 0 {width}0 {height}0\" \
             role=\"img\" aria-label=\"{title}\" stroke-linejoin=\"round\" \
             stroke-linecap=\"butt\">\n<title>{title}</title>\n"
        )
    }

    /// Returns the image elements; their pixels stay square-edged at any size.
    fn placed_images(&self) -> String {
        let mut out = String::new();
        for Picture { place: [x, y, width, height], image } in &self.images {
            // Writing into a string cannot fail.
            let _written = writeln!(
                out,
                "<image x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" \
                 preserveAspectRatio=\"none\" style=\"image-rendering:pixelated\" href=\"{}\"/>",
                image.address(),
            );
        }
        out
    }
}

/// Returns the style rules that carry the letters.
pub(crate) fn font_faces() -> String {
    let face = |weight: &str, file: &[u8]| {
        format!(
            "@font-face{{font-family:Inter;font-weight:{weight};\
             src:url(data:font/woff2;base64,{}) format('woff2')}}",
            base64(file)
        )
    };
    format!("{}{}", face("400", REGULAR_WOFF2), face("600 700", BOLD_WOFF2))
}

/// Escapes text for XML and HTML, between tags or in a quoted attribute.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_cannot_leave_its_attribute() {
        let svg = Svg::new("a\"><script>&'".to_owned(), (10, 10), Vec::new(), String::new());
        let text = svg.document();
        assert!(text.contains("aria-label=\"a&quot;&gt;&lt;script&gt;&amp;&#39;\""));
        assert!(!text.contains("<script"));
    }
}
