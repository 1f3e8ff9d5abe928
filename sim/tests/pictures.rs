//! Pictures of made-up runs: every size draws, nothing differs between two drawings.

#[expect(clippy::cast_possible_truncation, reason = "a made-up run")]
mod sample_run;

use gridcore::units::{MicroAtp, Time};
use gridsim::picture::compare::{Estimate, Variant, fills, metrics, slowdowns};
use gridsim::picture::front::{Candidate, Measure, front};
use gridsim::picture::matrix::{Effect, Side, Surface, influence, surfaces};
use gridsim::picture::{ALL, Svg};
use gridsim::record::{Party, RunRecord, TransferRow};
use sample_run::{Size, WEEK, build};

const SMALL: Size = Size { nodes: 6, jobs: 80, accounts: 3, intervals: 30 };

/// Returns the pictures of a run with the stems of their files.
fn drawn(run: &RunRecord) -> Vec<(&'static str, Svg)> {
    ALL.iter().filter_map(|(stem, draw)| Some((*stem, draw(run)?))).collect()
}

/// Checks what must hold for every picture.
fn check(stem: &str, svg: &Svg) {
    let text = svg.document();
    assert!(!svg.title().is_empty(), "{stem} has a title");
    assert!(text.starts_with("<?xml") && text.trim_end().ends_with("</svg>"), "{stem} is whole");
    let marks: Vec<&str> = text.lines().filter(|line| !line.contains("base64")).collect();
    let is_odd = |line: &&&str| line.contains("NaN") || line.contains("inf");
    assert_eq!(marks.iter().find(is_odd), None, "{stem} has only numbers");
    let urls = text.matches("http").count();
    assert_eq!(urls, text.matches("http://www.w3.org/").count(), "{stem} names only its format");
    assert!(text.len() < 400_000, "{stem} has {} bytes", text.len());
    let (width, height) = svg.size();
    assert!(width == 960 && (100..2_000).contains(&height), "{stem} is {width} x {height}");
}

#[test]
fn a_week_has_every_picture() {
    let pictures = drawn(&build(WEEK));
    assert_eq!(pictures.len(), ALL.len());
    for (stem, svg) in &pictures {
        check(stem, svg);
    }
}

#[test]
fn the_same_run_draws_the_same_bytes() {
    let (first, second) = (build(SMALL), build(SMALL));
    assert_eq!(drawn(&first), drawn(&second));
    let documents = |run: &RunRecord| -> Vec<String> {
        drawn(run).iter().map(|(_, svg)| svg.document()).collect()
    };
    assert_eq!(documents(&first), documents(&second));
}

#[test]
fn an_empty_run_has_no_picture() {
    assert!(drawn(&RunRecord::default()).is_empty());
}

#[test]
fn the_smallest_and_the_largest_runs_draw() {
    for size in [
        Size { nodes: 1, jobs: 0, accounts: 1, intervals: 1 },
        Size { nodes: 1, jobs: 1, accounts: 1, intervals: 1 },
        Size { nodes: 2, jobs: 100_000, accounts: 60, intervals: 50 },
        Size { nodes: 1_500, jobs: 500, accounts: 2, intervals: 20 },
    ] {
        for (stem, svg) in drawn(&build(size)) {
            check(stem, &svg);
        }
    }
}

#[test]
fn a_long_name_breaks_into_lines_and_is_whole() {
    let mut run = build(SMALL);
    run.scenario = "a-scenario-with-an-endless-name".repeat(20);
    let short = drawn(&build(SMALL));
    for ((stem, svg), (_, before)) in drawn(&run).iter().zip(&short) {
        check(stem, svg);
        assert!(svg.size().1 > before.size().1, "{stem} makes room for the name");
        let letters: String = svg.inline().lines().filter(|l| !l.starts_with('<')).collect();
        assert!(letters.contains(&run.scenario), "{stem} shows the whole name");
    }
}

#[test]
fn names_from_outside_stay_text() {
    let mut run = build(SMALL);
    let evil = "</text></svg><script>alert(1)</script>\u{0}\u{1b}\"'&";
    run.scenario = evil.to_owned();
    run.accounts.iter_mut().for_each(|name| *name = evil.to_owned());
    run.nodes.iter_mut().for_each(|node| {
        node.name = evil.to_owned();
        if !node.gpu_model.is_empty() {
            node.gpu_model = evil.to_owned();
        }
    });
    for (stem, svg) in drawn(&run) {
        let text = svg.document();
        assert!(!text.contains("<script"), "{stem} has no script");
        assert!(!text.contains(['\u{0}', '\u{1b}']), "{stem} has no control character");
        check(stem, &svg);
    }
}

#[test]
fn a_partial_run_says_so_in_every_picture() {
    let mut run = build(SMALL);
    run.complete = false;
    for (stem, svg) in drawn(&run) {
        assert!(svg.inline().contains("PARTIAL"), "{stem} warns");
    }
}

#[test]
fn money_that_is_only_minted_draws_no_flows() {
    let run = RunRecord {
        accounts: vec!["lab".to_owned()],
        end: Time::from_ms(1_000),
        transfers: vec![TransferRow {
            id: 0,
            at: Time::ZERO,
            from: Party::Mint,
            to: Party::Account(0),
            amount: MicroAtp::whole(5),
            kind: "deposit",
            lease: None,
        }]
        .into(),
        ..RunRecord::default()
    };
    let stems: Vec<&str> = drawn(&run).iter().map(|(stem, _)| *stem).collect();
    assert_eq!(stems, ["credit"]);
}

#[test]
fn comparisons_draw_with_one_variant_and_with_none() {
    let run = build(SMALL);
    let estimate = Estimate { metric: "wait, s".to_owned(), mean: 3.0, low: -1.0, high: 7.0 };
    let one = [Variant { label: "balanced".to_owned(), data: vec![estimate] }];
    check("compare", &metrics("lab", &one).expect("one metric"));
    let one = [Variant { label: "balanced".to_owned(), data: &run }];
    check("slowdowns", &slowdowns("lab", &one).expect("finished jobs"));
    let one = [Variant { label: "balanced".to_owned(), data: vec![&run, &run] }];
    check("fills", &fills("lab", &one).expect("a fill curve"));
    assert_eq!(metrics("lab", &[]), None);
    assert_eq!(slowdowns("lab", &[]), None);
    assert_eq!(fills("lab", &[]), None);
}

/// Made-up measures, the first better when higher.
fn measures(count: usize) -> Vec<Measure> {
    let name = |i: usize| format!("measure {i}, s");
    (0..count).map(|i| Measure { name: name(i), is_higher_better: i == 0 }).collect()
}

/// A made-up combination; what cannot be divided is not known.
fn candidate(i: u32, label: &str) -> Candidate {
    let scales = [0.01, 0.1, 1.0, 10.0, 1_000.0, 1.0e7];
    let value = |k: u32| f64::from(i * (k + 3) % 17) * scales[k as usize];
    let estimate = |k: u32| {
        let mean = value(k);
        Some(Estimate { metric: "m".to_owned(), mean, low: mean - 1.0, high: mean + 1.0 })
    };
    let estimates = (0..6).map(|k| if i == 7 { None } else { estimate(k) }).collect();
    let rank = i.is_multiple_of(3).then_some(i as usize / 3 + 1);
    Candidate { label: label.to_owned(), rank, estimates }
}

#[test]
fn a_front_draws_with_one_combination_and_with_thousands() {
    let evil = "</text><script>alert(1)</script>\u{1b}".repeat(20);
    for (count, of) in [(1, 2), (1, 6), (2, 3), (9, 4), (9, 6), (600, 4)] {
        let label = if of == 6 { evil.as_str() } else { "policy balanced" };
        let all: Vec<Candidate> = (0..count).map(|i| candidate(i, label)).collect();
        let svg = front("lab", &measures(of), &all).expect("two measures are known");
        check("front", &svg);
        assert!(!svg.document().contains("<script"));
        assert_eq!(Some(svg), front("lab", &measures(of), &all));
    }
    assert_eq!(front("lab", &measures(4), &[]), None);
    assert_eq!(front("lab", &measures(4), &[candidate(7, "unknown")]), None);
    assert_eq!(front("lab", &measures(1), &[candidate(1, "one measure")]), None);
}

#[test]
fn what_keys_move_draws_with_one_key_and_with_twenty() {
    for keys in [1, 3, 20] {
        let key = |i: usize| Variant {
            label: format!("key-{i}"),
            data: (0..11)
                .map(|k| {
                    let best = if k == 3 { String::new() } else { "a long value".to_owned() };
                    (k != 5).then_some(Effect { part: f64::from(k) / 4.0, best })
                })
                .collect(),
        };
        let keys: Vec<_> = (0..keys).map(key).collect();
        check("influence", &influence(("lab", "note"), &measures(11), &keys).expect("effects"));
    }
    let nothing = [Variant { label: "key".to_owned(), data: vec![None] }];
    assert_eq!(influence(("lab", "note"), &measures(1), &nothing), None);
    assert_eq!(influence(("lab", "note"), &measures(1), &[]), None);
}

#[test]
fn two_keys_draw_up_to_24_values_each() {
    let side = |name: &str, count: u32| Side {
        name: name.to_owned(),
        values: (0..count).map(|i| format!("value {i}")).collect(),
    };
    for (rows, columns) in [(1, 1), (2, 24), (24, 2), (24, 24)] {
        let cells = |k: u32| (0..rows * columns).map(move |i| (i != 1).then(|| f64::from(i * k)));
        let surface = |(k, measure)| Surface { measure, cells: cells(k).collect() };
        let all: Vec<Surface> = (0..).zip(measures(3)).map(surface).collect();
        let sides = (side("down", rows), side("across", columns));
        check("grid", &surfaces("lab", (&sides.0, &sides.1), &all).expect("known cells"));
        let more = side("more", 25);
        assert_eq!(surfaces("lab", (&sides.0, &more), &all), None);
    }
}

#[cfg(feature = "png")]
#[test]
fn every_picture_becomes_a_png_of_twice_its_size() {
    let letters = gridsim::picture::Letters::default();
    for (stem, svg) in drawn(&build(SMALL)) {
        let png = svg.png(&letters).expect(stem);
        assert_eq!(&png[1..4], b"PNG", "{stem}");
        let size = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().expect("four bytes"));
        assert_eq!((size(16), size(20)), (svg.size().0 * 2, svg.size().1 * 2), "{stem}");
        assert_eq!(png, svg.png(&letters).expect(stem), "{stem} is the same twice");
    }
}
