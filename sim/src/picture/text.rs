//! How wide text is, where it breaks and what of a name can stand in a file.
//!
//! The widths are those of the embedded font, in thousandths of its size; a character outside ASCII
//! is taken for a wide one, so that an estimate errs towards too much room.

use crate::picture::number::of_u64;

/// The weight of the letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Regular, 400.
    Regular,
    /// Semi-bold, 600.
    Bold,
}

/// Widths of the characters from space to tilde, regular.
const REGULAR: [u16; 95] = [
    281, 278, 403, 631, 638, 812, 639, 222, 362, 362, 500, 659, 280, 460, 276, 357, 625, 464, 605,
    636, 642, 608, 624, 571, 616, 624, 276, 280, 659, 659, 659, 507, 936, 676, 651, 727, 719, 598,
    587, 743, 740, 264, 543, 652, 562, 889, 753, 761, 635, 761, 639, 638, 642, 741, 676, 949, 642,
    665, 625, 362, 357, 362, 469, 452, 497, 564, 621, 558, 621, 582, 361, 609, 591, 237, 237, 544,
    237, 869, 585, 597, 609, 609, 372, 523, 364, 581, 557, 812, 540, 557, 541, 362, 327, 362, 659,
];

/// Widths of the characters from space to tilde, semi-bold.
const BOLD: [u16; 95] = [
    248, 309, 396, 643, 649, 844, 663, 213, 393, 393, 543, 673, 295, 466, 290, 379, 667, 481, 621,
    652, 666, 632, 648, 587, 646, 648, 290, 295, 673, 673, 673, 544, 999, 724, 657, 744, 724, 608,
    586, 755, 744, 275, 561, 677, 566, 906, 741, 775, 643, 776, 651, 649, 660, 734, 724, 1007, 690,
    705, 653, 393, 379, 393, 481, 468, 497, 575, 630, 577, 630, 593, 377, 625, 613, 261, 261, 569,
    261, 898, 610, 608, 625, 625, 397, 549, 380, 608, 576, 837, 562, 576, 562, 393, 358, 393, 673,
];

/// Returns the width of one character in thousandths of the size.
fn advance(c: char, weight: Weight) -> u64 {
    let table = match weight {
        Weight::Regular => &REGULAR,
        Weight::Bold => &BOLD,
    };
    let place = u32::from(c).checked_sub(32).and_then(|i| usize::try_from(i).ok());
    match place.and_then(|i| table.get(i)) {
        Some(width) => u64::from(*width),
        None if u32::from(c) < 0x2E80 => 720,
        None => 1_050,
    }
}

/// Returns the width of a line of text.
pub(crate) fn width(text: &str, size: f64, weight: Weight) -> f64 {
    let sum: u64 = text.chars().map(|c| advance(c, weight)).sum();
    of_u64(sum) * size / 1_000.0
}

/// Replaces what XML forbids and what would change the direction or the line.
pub(crate) fn clean(text: &str) -> String {
    let is_bad = |c: char| {
        c.is_control()
            || matches!(c, '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}')
            || matches!(c, '\u{2066}'..='\u{2069}')
            || matches!(c, '\u{FFFE}' | '\u{FFFF}')
    };
    text.chars().map(|c| if is_bad(c) { '\u{FFFD}' } else { c }).collect()
}

/// Shortens to `room` with an ellipsis.
pub(crate) fn shorten(text: &str, size: f64, weight: Weight, room: f64) -> String {
    if width(text, size, weight) <= room {
        return text.to_owned();
    }
    let room = room - width("\u{2026}", size, weight);
    let mut out = String::new();
    let mut used = 0.0;
    for c in text.chars() {
        used += of_u64(advance(c, weight)) * size / 1_000.0;
        if used > room {
            break;
        }
        out.push(c);
    }
    format!("{}\u{2026}", out.trim_end())
}

/// Breaks into lines no wider than `room`, at spaces where there are any, else inside a word.
pub(crate) fn wrap(text: &str, size: f64, weight: Weight, room: f64) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if width(&longer, size, weight) <= room {
            line = longer;
            continue;
        }
        if !line.is_empty() {
            lines.push(core::mem::take(&mut line));
        }
        for c in word.chars() {
            line.push(c);
            if width(&line, size, weight) > room {
                line.pop();
                lines.push(core::mem::replace(&mut line, c.to_string()));
            }
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_letter_is_lost_when_a_title_breaks() {
        let title = format!("lab {} end", "x".repeat(300));
        let lines = wrap(&title, 20.0, Weight::Bold, 400.0);
        assert!(lines.len() > 3);
        assert!(lines.iter().all(|line| width(line, 20.0, Weight::Bold) <= 400.0));
        assert_eq!(lines.concat().replace(' ', ""), title.replace(' ', ""));
    }

    #[test]
    fn a_shortened_label_fits_and_says_so() {
        let label = shorten("a-very-long-account-name", 11.0, Weight::Regular, 60.0);
        assert!(width(&label, 11.0, Weight::Regular) <= 60.0);
        assert!(label.ends_with('\u{2026}'));
        assert_eq!(shorten("lab", 11.0, Weight::Regular, 60.0), "lab");
    }

    #[test]
    fn characters_that_xml_forbids_are_replaced() {
        assert_eq!(clean("a\u{0}b\u{1b}c\n\u{202E}d"), "a\u{FFFD}b\u{FFFD}c\u{FFFD}\u{FFFD}d");
    }
}
