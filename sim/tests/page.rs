//! The page of made-up runs: escaped, self-contained, and alive in a browser.

#[expect(clippy::cast_possible_truncation, reason = "a made-up run")]
mod sample_run;

use gridsim::page::{Cell, Sheet, Table, render, sheet};
use gridsim::picture::{ALL, Svg};
use gridsim::record::RunRecord;
use sample_run::{Size, WEEK, build};
use serde_json::{Value, json};
use std::process::Command;

const SMALL: Size = Size { nodes: 6, jobs: 80, accounts: 3, intervals: 30 };

/// Renders a run with all its pictures.
fn page(run: &RunRecord) -> String {
    let pictures: Vec<Svg> = ALL.iter().filter_map(|(_, draw)| draw(run)).collect();
    let rows = [("makespan".to_owned(), "7 d".to_owned())];
    render(run, &json!({ "schema": 1, "scenario": run.scenario }), &rows, &pictures)
}

/// A run whose every name tries to break out.
fn evil() -> (RunRecord, &'static str) {
    let name = "</script><script>document.title='broken'</script>{{data}}\"'&\
                <img src=x onerror=1>\u{2028}";
    let mut run = build(SMALL);
    run.scenario = name.to_owned();
    run.about = name.to_owned();
    run.rules = [name, name, name, name].map(str::to_owned);
    run.accounts.iter_mut().for_each(|account| *account = name.to_owned());
    run.nodes.iter_mut().for_each(|node| node.name = name.to_owned());
    run.jobs.iter_mut().for_each(|job| job.name = name.into());
    (run, name)
}

#[test]
fn a_week_fits_into_three_megabytes() {
    let text = page(&build(WEEK));
    assert!(text.len() < 3_000_000, "{} bytes", text.len());
}

#[test]
fn the_same_run_writes_the_same_page() {
    assert_eq!(page(&build(SMALL)), page(&build(SMALL)));
}

#[test]
fn the_page_asks_for_nothing() {
    for run in [build(SMALL), evil().0] {
        let text = page(&run);
        let formats = text.matches("http://www.w3.org/").count();
        assert_eq!(text.matches("http").count() - text.matches("http-equiv").count(), formats);
        assert!(!text.contains("<link") && !text.contains("@import") && !text.contains("fetch("));
        for rest in text.split("url(").skip(1) {
            assert!(rest.starts_with("data:"), "{}", &rest[..40]);
        }
        for rest in text.split("href=\"").skip(1) {
            assert!(rest.starts_with("data:") || rest.starts_with('#'), "{}", &rest[..40]);
        }
    }
}

#[test]
fn no_name_from_outside_becomes_markup() {
    let (run, _) = evil();
    let text = page(&run);
    let scripts = text.matches("<script").count();
    assert_eq!(scripts, page(&build(SMALL)).matches("<script").count());
    assert_eq!(text.matches("</script").count(), scripts);
    assert!(!text.contains("<img"));
    assert!(text.contains("{{data}}"), "a name in braces is text, not a place to fill in");
}

#[test]
fn the_data_in_the_page_is_json_with_the_names_unchanged() {
    let (run, name) = evil();
    let text = page(&run);
    let (_, data) = text.split_once("id=\"data\">").expect("the data element");
    let (data, _) = data.split_once("</script>").expect("its end");
    let data: Value = serde_json::from_str(data).expect("JSON");
    let charts = data["charts"].as_array().expect("charts");
    let credit = charts.iter().find(|chart| chart["id"] == "credit").expect("credit");
    assert_eq!(credit["series"][0]["name"], name);
}

#[test]
fn a_partial_run_has_a_banner_and_a_whole_one_has_none() {
    let mut run = build(SMALL);
    assert!(!page(&run).contains("This run is partial"));
    run.complete = false;
    assert!(page(&run).contains("This run is partial"));
}

#[test]
fn an_empty_run_has_a_page() {
    let text = page(&RunRecord::default());
    assert!(text.contains("0 jobs") && text.contains("nothing to draw"));
}

/// Opens a page in a browser without a window and returns what its own test found.
fn tried(browser: &str, name: &str, text: &str) -> Option<Value> {
    let folder = std::env::temp_dir().join(format!("gridsim-page-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("report.html");
    std::fs::write(&file, text).expect("the page");
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--dump-dom",
            "--window-size=500,900",
        ])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("file://{}#selftest", file.display()))
        .output();
    let dom = String::from_utf8_lossy(&output.expect("the browser ran").stdout).into_owned();
    std::fs::remove_dir_all(&folder).expect("the folder can go");
    let (_, found) = dom.split_once("data-selftest=\"")?;
    let (found, _) = found.split_once('"')?;
    serde_json::from_str(&found.replace("&quot;", "\"")).ok()
}

/// Returns a browser of this machine.
fn browser() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let works = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    names.into_iter().find(works)
}

/// A page of many runs whose every text tries to break out.
fn evil_sheet() -> String {
    let (run, name) = evil();
    let shown = |value: i32| Cell::Shown {
        text: format!("{value}{name}"),
        small: name.to_owned(),
        order: value.to_string(),
    };
    let table = Table {
        id: "metrics",
        title: "Metrics",
        note: name.to_owned(),
        columns: vec![(name.to_owned(), false), ("value".to_owned(), true)],
        rows: [10, 9, -3].map(|v| vec![Cell::Text(name.to_owned()), shown(v)]).to_vec(),
    };
    let pictures: Vec<(&str, Svg)> =
        ALL.iter().filter_map(|(stem, draw)| Some((*stem, draw(&run)?))).collect();
    let tiles = [(name.to_owned(), name.to_owned())];
    let (title, facts, tables) = (name, name, [table]);
    sheet(&Sheet { title, facts, tiles: &tiles, tables: &tables, pictures: &pictures })
}

#[test]
fn a_page_of_many_runs_asks_for_nothing_and_sorts() {
    let text = evil_sheet();
    assert_eq!((text.matches("<script").count(), text.matches("</script").count()), (1, 1));
    assert!(!text.contains("<img") && text.contains("{{data}}"));
    let formats = text.matches("http://www.w3.org/").count();
    assert_eq!(text.matches("http").count() - text.matches("http-equiv").count(), formats);
    let Some(browser) = browser() else {
        println!("skipped: no chromium on this machine");
        return;
    };
    let found = tried(browser, "sheet", &text).expect("the page tried itself");
    assert_eq!(found["unsorted"], json!([]), "every column sorts");
    assert_eq!((&found["wide"], &found["requests"]), (&json!(false), &json!(0)));
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(browser) = browser() else {
        println!("skipped: no chromium on this machine");
        return;
    };
    for (name, run, charts) in [
        ("small", build(SMALL), 8),
        ("evil", evil().0, 8),
        ("empty", RunRecord::default(), 0),
        ("point", build(Size { nodes: 1, jobs: 1, accounts: 1, intervals: 1 }), 7),
    ] {
        let found = tried(browser, name, &page(&run)).expect("the page tried itself");
        assert!(found["charts"].as_u64() >= Some(charts), "{name}: {found}");
        assert_eq!(found["blank"], json!([]), "{name}: every chart shows something");
        assert_eq!(found["silent"], json!([]), "{name}: every chart reads out its values");
        assert_eq!(found["unsorted"], json!([]), "{name}: every column sorts");
        assert_eq!(found["wide"], false, "{name}: a narrow window needs no scrolling sideways");
        assert_eq!(found["requests"], 0, "{name}: nothing is requested");
        assert_eq!(found["toggled"], true, "{name}: names switch series");
        assert!(charts == 0 || found["zoomed"] == true, "{name}: zooms and resets");
    }
}
