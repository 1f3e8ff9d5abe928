//! Images inside pictures: an indexed PNG and the base64 of a data address.
//!
//! A heat map of a hundred thousand cells is one small image; as rectangles it would be megabytes.

use crate::picture::colour::Colour;
use flate2::Compression;
use flate2::Crc;
use flate2::write::ZlibEncoder;
use std::io::Write as _;

/// An image of at most 256 colours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Indexed {
    width: usize,
    palette: Vec<Colour>,
    pixels: Vec<u8>,
    is_see_through: bool,
}

impl Indexed {
    /// An image of one colour, the first of the palette; at least one pixel wide and high.
    pub(crate) fn new(width: usize, height: usize, palette: Vec<Colour>) -> Self {
        assert!((1..=256).contains(&palette.len()), "a palette has 1 to 256 colours");
        let width = width.max(1);
        Self { width, palette, pixels: vec![0; width * height.max(1)], is_see_through: false }
    }

    /// Makes the first colour of the palette transparent.
    pub(crate) fn see_through(self) -> Self {
        Self { is_see_through: true, ..self }
    }

    /// Returns how many rows there are.
    pub(crate) fn height(&self) -> usize {
        self.pixels.len() / self.width
    }

    /// Returns how many columns there are.
    #[cfg(feature = "png")]
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Returns the colour of a pixel; outside the image that of the first.
    #[cfg(feature = "png")]
    pub(crate) fn colour(&self, x: usize, y: usize) -> Colour {
        let place = self.pixels.get(y * self.width + x).copied().unwrap_or(0);
        self.palette.get(usize::from(place)).copied().unwrap_or_default()
    }

    /// Sets a pixel; outside the image nothing happens.
    pub(crate) fn set(&mut self, x: usize, y: usize, colour: u8) {
        if x < self.width
            && let Some(pixel) = self.pixels.get_mut(y * self.width + x)
        {
            *pixel = colour;
        }
    }

    /// Returns the image as a PNG file.
    pub(crate) fn png(&self) -> Vec<u8> {
        let mut out = vec![0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n'];
        let mut header = Vec::new();
        for size in [self.width, self.height()] {
            header.extend(u32::try_from(size).unwrap_or(u32::MAX).to_be_bytes());
        }
        // Eight bits per pixel, indexed, deflate, no filter choice, not interlaced.
        header.extend([8, 3, 0, 0, 0]);
        chunk(&mut out, *b"IHDR", &header);
        let colours: Vec<u8> = self.palette.iter().flat_map(|c| [c.0, c.1, c.2]).collect();
        chunk(&mut out, *b"PLTE", &colours);
        if self.is_see_through {
            chunk(&mut out, *b"tRNS", &[0]);
        }
        let mut rows = Vec::with_capacity(self.pixels.len() + self.height());
        for row in self.pixels.chunks(self.width) {
            rows.push(0);
            rows.extend(row);
        }
        chunk(&mut out, *b"IDAT", &deflated(&rows));
        chunk(&mut out, *b"IEND", &[]);
        out
    }

    /// Returns the image as the address that stands in a document.
    pub(crate) fn address(&self) -> String {
        format!("data:image/png;base64,{}", base64(&self.png()))
    }
}

/// Compresses; writing into memory does not fail.
fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    assert!(written.is_ok(), "compressing into memory does not fail");
    written.unwrap_or_default()
}

/// Appends one chunk: length, name, data, checksum (PNG specification, section 5.3).
fn chunk(out: &mut Vec<u8>, name: [u8; 4], data: &[u8]) {
    out.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    let mut crc = Crc::new();
    crc.update(&name);
    crc.update(data);
    out.extend(name);
    out.extend(data);
    out.extend(crc.sum().to_be_bytes());
}

/// Encodes bytes in base64 (RFC 4648, section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letter = |bits: u32| {
        let place = usize::try_from(bits & 63).unwrap_or(0);
        char::from(LETTERS.get(place).copied().unwrap_or(b'A'))
    };
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        out.push(letter(bits >> 18));
        out.push(letter(bits >> 12));
        out.push(if group.len() > 1 { letter(bits >> 6) } else { '=' });
        out.push(if group.len() > 2 { letter(bits) } else { '=' });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn an_image_has_its_size_in_its_header() {
        let mut image = Indexed::new(3, 2, vec![(255, 255, 255), (0, 0, 0)]);
        image.set(2, 1, 1);
        image.set(9, 9, 1);
        let png = image.png();
        assert_eq!(&png[12..24], b"IHDR\x00\x00\x00\x03\x00\x00\x00\x02");
        assert_eq!(image.png(), png);
        assert!(image.address().starts_with("data:image/png;base64,iVBORw0KGgo"));
    }
}
