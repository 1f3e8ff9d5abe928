//! Colours: one palette for pictures and page, safe for colour-blind readers.
//!
//! The eight hues are those of M. Okabe and K. Ito, "Color Universal Design" (2008). A band has the
//! same colour in every picture; owners are grey and idle capacity is nearly white, so that colour
//! always means borrowed capacity.

use crate::picture::number::shade;
use gridcore::units::Band;

/// Red, green and blue.
pub(crate) type Colour = (u8, u8, u8);

/// Titles and values.
pub(crate) const INK: Colour = (0x1B, 0x1F, 0x24);
/// Letters on a coloured ground, which stay dark where a page turns the paper dark.
pub(crate) const PRINT: Colour = (0x1B, 0x1F, 0x25);
/// Subtitles, ticks and notes.
pub(crate) const QUIET: Colour = (0x59, 0x63, 0x6E);
/// Grid lines.
pub(crate) const GRID: Colour = (0xE3, 0xE6, 0xEA);
/// Axis lines and references.
pub(crate) const AXIS: Colour = (0x9A, 0xA3, 0xAD);
/// The paper.
pub(crate) const PAPER: Colour = (0xFF, 0xFF, 0xFF);
/// In use by owners.
pub(crate) const OWNER: Colour = (0x8C, 0x95, 0xA1);
/// In use by nobody.
pub(crate) const IDLE: Colour = (0xEE, 0xF0, 0xF3);

/// Orange.
pub(crate) const ORANGE: Colour = (0xE6, 0x9F, 0x00);
/// Sky blue.
pub(crate) const SKY: Colour = (0x56, 0xB4, 0xE9);
/// Bluish green.
pub(crate) const GREEN: Colour = (0x00, 0x9E, 0x73);
/// Blue.
pub(crate) const BLUE: Colour = (0x00, 0x72, 0xB2);
/// Vermilion.
pub(crate) const VERMILION: Colour = (0xD5, 0x5E, 0x00);
/// Reddish purple.
pub(crate) const PURPLE: Colour = (0xCC, 0x79, 0xA7);
/// Yellow, darkened enough to be seen on white.
pub(crate) const YELLOW: Colour = (0xC9, 0xB8, 0x00);

/// Colours of things without an order of their own: accounts, policies.
pub(crate) const SERIES: [Colour; 8] =
    [BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, YELLOW, (0x44, 0x4C, 0x56)];

/// Returns the colour of a band.
pub(crate) fn band(band: Band) -> Colour {
    match band {
        Band::Low => SKY,
        Band::Medium => GREEN,
        Band::High => ORANGE,
        Band::Urgent => VERMILION,
    }
}

/// Returns the colour of the `i`-th thing without an order.
pub(crate) fn series(i: usize) -> Colour {
    SERIES.get(i % SERIES.len()).copied().unwrap_or(BLUE)
}

/// Returns the colour in the form of a style sheet.
pub(crate) fn hex((red, green, blue): Colour) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// Returns a mix: `part` = 0 is all `from`, 1 all `to`.
pub(crate) fn mix(from: Colour, to: Colour, part: f64) -> Colour {
    let part = part.clamp(0.0, 1.0);
    let between = |a: u8, b: u8| shade(f64::from(a) + (f64::from(b) - f64::from(a)) * part);
    (between(from.0, to.0), between(from.1, to.1), between(from.2, to.2))
}

/// Colours from light to dark, evenly spaced, between which a value is mixed.
pub(crate) type Ramp = [Colour; 5];

/// From calm to pressed.
pub(crate) const HEAT: Ramp = [
    (0xFF, 0xFA, 0xEE),
    (0xF8, 0xD0, 0x82),
    (0xE8, 0x93, 0x2E),
    (0xC2, 0x4E, 0x05),
    (0x5E, 0x1B, 0x06),
];
/// From not lent to all lent.
pub(crate) const LENDING: Ramp = [
    (0xF3, 0xF9, 0xFC),
    (0xA9, 0xD5, 0xE3),
    (0x4F, 0xA3, 0xC0),
    (0x0F, 0x68, 0x98),
    (0x06, 0x2A, 0x52),
];

/// Returns the colour of a value between 0 and 1.
pub(crate) fn on_ramp(ramp: &Ramp, value: f64) -> Colour {
    let place = value.clamp(0.0, 1.0) * 4.0;
    let step = crate::picture::number::index(place, 3);
    let (from, to) = match ramp {
        [a, b, ..] if step == 0 => (*a, *b),
        [_, b, c, ..] if step == 1 => (*b, *c),
        [_, _, c, d, _] if step == 2 => (*c, *d),
        [.., d, e] => (*d, *e),
    };
    mix(from, to, place - crate::picture::number::of_usize(step))
}

/// Returns whether dark text is readable on the colour (weights of ITU-R BT.601).
pub(crate) fn is_light((red, green, blue): Colour) -> bool {
    f64::from(red) * 0.299 + f64::from(green) * 0.587 + f64::from(blue) * 0.114 > 115.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_meets_its_ends_and_its_middle() {
        assert_eq!(on_ramp(&HEAT, 0.0), HEAT[0]);
        assert_eq!(on_ramp(&HEAT, 0.5), HEAT[2]);
        assert_eq!(on_ramp(&HEAT, 1.0), HEAT[4]);
        assert_eq!(on_ramp(&HEAT, 7.0), HEAT[4]);
        assert_eq!(hex(BLUE), "#0072B2");
        assert!(is_light(PAPER) && !is_light(INK));
    }
}
