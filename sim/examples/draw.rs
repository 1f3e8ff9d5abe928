//! Draws every picture of a made-up week into the folder that is named.

#[path = "../tests/sample_run/mod.rs"]
#[expect(clippy::cast_possible_truncation, reason = "a made-up run")]
mod sample_run;

use anyhow::Context as _;
use gridsim::picture::compare::{Estimate, Variant, fills, metrics, slowdowns};
use gridsim::picture::{ALL, Svg};
use std::path::Path;

fn save(folder: &Path, stem: &str, svg: &Svg) -> anyhow::Result<()> {
    std::fs::write(folder.join(format!("{stem}.svg")), svg.document())?;
    #[cfg(feature = "png")]
    std::fs::write(
        folder.join(format!("{stem}.png")),
        svg.png(&gridsim::picture::Letters::default())?,
    )?;
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).context("usage: draw FOLDER")?;
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    let run = sample_run::build(sample_run::WEEK);
    for (stem, draw) in ALL {
        if let Some(svg) = draw(&run) {
            save(folder, stem, &svg)?;
        }
    }
    let mut tiny =
        sample_run::build(sample_run::Size { nodes: 5, jobs: 60, accounts: 1, intervals: 36 });
    tiny.complete = false;
    tiny.scenario = "a-very-long-scenario-name-that-somebody-typed ".repeat(4);
    for (stem, draw) in ALL {
        if let Some(svg) = draw(&tiny) {
            save(folder, &format!("tiny-{stem}"), &svg)?;
        }
    }
    let pictures: Vec<Svg> = ALL.iter().filter_map(|(_, draw)| draw(&run)).collect();
    let rows = [("makespan".to_owned(), "7.0 d".to_owned())];
    let page = gridsim::page::render(&run, &serde_json::json!({"schema": 1}), &rows, &pictures);
    std::fs::write(folder.join("report.html"), page)?;
    let names = ["balanced", "conservative", "aggressive", "predictive"];
    let keys = [
        "utilisation, GPU %",
        "mean wait, s",
        "bounded slowdown, p95",
        "preemptions",
        "owner harm, %",
    ];
    let estimate = |i: u32, k: u32| {
        let mean = f64::from((i * 7 + k * 13) % 17 + 20) * f64::from(10_u32.pow(k % 3));
        Estimate { metric: keys[k as usize].to_owned(), mean, low: mean * 0.9, high: mean * 1.08 }
    };
    let table: Vec<Variant<Vec<Estimate>>> = (0..4)
        .map(|i| Variant {
            label: names[i as usize].to_owned(),
            data: (0..5).map(|k| estimate(i, k)).collect(),
        })
        .collect();
    let runs: Vec<_> = (0..4)
        .map(|i| {
            let mut other = run.clone();
            other.jobs.retain(|job| (job.submit.ms() / 1000) % 7 != i);
            for point in &mut other.fill {
                point.allocated_mbp = point.allocated_mbp * (96 + i) / 100;
            }
            other
        })
        .collect();
    let subtitle = "lab-week \u{00B7} 100 nodes \u{00B7} 20,000 jobs \u{00B7} 10 seeds";
    let label = |i: usize| names[i].to_owned();
    let one: Vec<_> =
        runs.iter().enumerate().map(|(i, run)| Variant { label: label(i), data: run }).collect();
    let many: Vec<_> =
        (0..2).map(|i| Variant { label: label(i), data: vec![&runs[i], &runs[i + 2]] }).collect();
    for (stem, svg) in [
        ("compare", metrics(subtitle, &table)),
        ("compare-slowdowns", slowdowns(subtitle, &one)),
        ("compare-fills", fills(subtitle, &many)),
    ] {
        if let Some(svg) = svg {
            save(folder, stem, &svg)?;
        }
    }
    Ok(())
}
