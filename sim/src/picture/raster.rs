//! PNG files: the marks of a picture drawn by resvg with the embedded font.
//!
//! Nothing of the machine takes part: no installed font, no settings.

use crate::picture::svg::{Picture, Svg};
use resvg::tiny_skia::{Color, Paint, Pixmap, Rect, Transform};
use resvg::usvg::{Options, Tree, fontdb};
use std::sync::Arc;

/// The embedded letters, as the rasteriser reads them.
const REGULAR: &[u8] = include_bytes!("../../assets/Inter-Regular.otf");
/// The embedded semi-bold letters, as the rasteriser reads them.
const BOLD: &[u8] = include_bytes!("../../assets/Inter-SemiBold.otf");

/// How many pixels one unit of the paper has on each side.
const PIXELS: f32 = 2.0;

/// Why a picture did not become a PNG.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PngError {
    /// Our own drawing is not accepted: a bug, with the reason of the reader.
    #[error("the picture {title:?} cannot be read back: {reason}")]
    Unreadable {
        /// The title of the picture.
        title: String,
        /// What the reader says.
        reason: String,
    },
    /// The picture is too large, or its file cannot be written.
    #[error("the picture {title:?} of {width} by {height} pixels cannot be encoded")]
    Encoding {
        /// The title of the picture.
        title: String,
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
}

/// The letters, read once for many pictures.
#[derive(Clone, Debug)]
pub struct Letters(Arc<fontdb::Database>);

impl Default for Letters {
    fn default() -> Self {
        let mut database = fontdb::Database::new();
        database.load_font_data(REGULAR.to_vec());
        database.load_font_data(BOLD.to_vec());
        database.set_sans_serif_family("Inter");
        Self(Arc::new(database))
    }
}

impl Svg {
    /// Returns the picture as a PNG file at twice its size.
    ///
    /// # Errors
    /// [`PngError`] when the drawing is not accepted or too large.
    pub fn png(&self, letters: &Letters) -> Result<Vec<u8>, PngError> {
        let title = self.title().to_owned();
        let options = Options {
            fontdb: Arc::clone(&letters.0),
            font_family: "Inter".to_owned(),
            ..Options::default()
        };
        let tree = Tree::from_str(&self.bare(), &options).map_err(|reason| {
            PngError::Unreadable { title: title.clone(), reason: reason.to_string() }
        })?;
        let (width, height) = (self.size().0 * 2, self.size().1 * 2);
        let failed = PngError::Encoding { title, width, height };
        let mut sheet = Pixmap::new(width, height).ok_or_else(|| failed.clone())?;
        sheet.fill(Color::WHITE);
        for picture in self.images() {
            lay(&mut sheet, picture);
        }
        resvg::render(&tree, Transform::from_scale(PIXELS, PIXELS), &mut sheet.as_mut());
        sheet.encode_png().map_err(|_| failed)
    }
}

/// Lays an image on the sheet, each of its pixels as a rectangle with sharp edges.
fn lay(sheet: &mut Pixmap, picture: &Picture) {
    let [left, top, width, height] = picture.place.map(|units| i64::from(units) / 5);
    let (columns, rows) = (picture.image.width(), picture.image.height());
    let edge = |i: usize, count: usize, length: i64| {
        let (i, count) = (i64::try_from(i).unwrap_or(0), i64::try_from(count).unwrap_or(1).max(1));
        i * length / count
    };
    for y in 0..rows {
        let mut x = 0;
        while x < columns {
            let colour = picture.image.colour(x, y);
            let mut end = x + 1;
            while end < columns && picture.image.colour(end, y) == colour {
                end += 1;
            }
            let (x0, x1) = (left + edge(x, columns, width), left + edge(end, columns, width));
            let (y0, y1) = (top + edge(y, rows, height), top + edge(y + 1, rows, height));
            fill(sheet, [x0, y0, x1, y1], colour);
            x = end;
        }
    }
}

/// Fills the pixels between two corners.
fn fill(sheet: &mut Pixmap, [x0, y0, x1, y1]: [i64; 4], (red, green, blue): (u8, u8, u8)) {
    let side = |value: i64| f32::from(u16::try_from(value).unwrap_or(u16::MAX));
    let mut paint = Paint::default();
    paint.set_color_rgba8(red, green, blue, 255);
    paint.anti_alias = false;
    if let Some(rect) = Rect::from_ltrb(side(x0), side(y0), side(x1), side(y1)) {
        sheet.fill_rect(rect, &paint, Transform::identity(), None);
    }
}
