//! This project's own order and strategy beside those that they are measured against, in Markdown.
//!
//! `cargo run --release -p gridsim --example anchors -- logs PROCESSORS=LOG.swf ..`: mean and
//! highest bounded slowdown and wait of each log under EASY, EASY-SJBF and `earliest_due` with
//! `smallest` behind it. `.. -- fill nodes=FILE tasks=FILE`: GPUs allocated by `fgd` and
//! `headroom`, ten seeds from 42; without files of the committed sample.
#![expect(clippy::print_stdout, reason = "the table is the result")]

use gridsim::run::{Keep, Outcome, simulate};
use gridsim::scenario::load;
use std::path::Path;

/// Order of the queue and of backfill.
const ORDERS: [(&str, &str, &str); 3] = [
    ("EASY", "fifo", "queue"),
    ("EASY-SJBF", "fifo", "shortest"),
    ("**earliest_due, smallest**", "earliest_due", "smallest"),
];

/// The percentages of arrived requests.
const AT: [&str; 5] = ["90", "95", "100", "110", "130"];

fn run(scenario: &str, sets: &[String], seed: u64) -> Result<Outcome, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios").join(scenario);
    let loaded = load(&path, sets).map_err(|error| error.to_string())?;
    simulate(&loaded, seed, &Keep::default(), |_| true).map_err(|error| error.to_string())
}

fn number(found: &Outcome, path: &[&str]) -> f64 {
    let millionths = found.summary.number(path).unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "shown with few digits")]
    let number = millionths as f64 / 1e6;
    number
}

/// Prints the table of one log.
fn log(processors: &str, file: &str) -> Result<(), String> {
    let name = Path::new(file).file_name().unwrap_or_default().to_string_lossy().into_owned();
    println!("\n{name}, {processors} processors\n");
    println!("| | bounded slowdown, mean | max | wait, mean s | max |\n|---|--:|--:|--:|--:|");
    for (label, order, behind) in ORDERS {
        let key = "execution.scheduling";
        let sets = [
            format!("{key}.order={order}"),
            format!("{key}.backfill_order={behind}"),
            format!("nodes.0.cores={processors}"),
            format!("jobs.trace.files.jobs={file}"),
        ];
        let found = run("easy-kth.yaml", &sets, 1)?;
        let of = |of, which| number(&found, &["metrics", of, which]);
        let [mean, most] = ["mean", "max"].map(|which| of("bounded_slowdown", which));
        let [wait, longest] = ["mean", "max"].map(|which| of("wait_s", which));
        println!("| {label} | {mean:.6} | {most:.1} | {wait:.1} | {longest:.0} |");
    }
    Ok(())
}

/// Prints the fill of a list of tasks.
fn fill(files: &[String]) -> Result<(), String> {
    println!("\n| | {} % mean [min, max] |\n|---|--:|--:|--:|--:|--:|", AT.join(" % | "));
    for strategy in ["fgd", "headroom"] {
        let mut sets = vec![format!("execution.scheduling.strategy={strategy}")];
        sets.extend(files.iter().map(|file| format!("jobs.trace.files.{file}")));
        let mut rows = Vec::new();
        for seed in 42..52 {
            let found = run("fgd-openb.yaml", &sets, seed)?;
            rows.push(AT.map(|at| number(&found, &["metrics", "allocated_gpu_percent_at", at])));
        }
        let column = |i: usize| rows.iter().map(move |row| row[i]);
        let means = (0..AT.len()).map(|i| format!("{:.2}", column(i).sum::<f64>() / 10.0));
        let (least, most) = (column(4).fold(f64::MAX, f64::min), column(4).fold(0.0, f64::max));
        let means: Vec<String> = means.collect();
        println!("| {strategy} | {} [{least:.2}, {most:.2}] |", means.join(" | "));
    }
    Ok(())
}

fn main() -> Result<(), String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((what, files)) if what == "fill" => fill(files),
        Some((what, logs)) if what == "logs" => logs.iter().try_for_each(|word| {
            let (processors, file) = word.split_once('=').ok_or("PROCESSORS=LOG is missing")?;
            log(processors, file)
        }),
        _ => Err("say `logs` or `fill`".to_owned()),
    }
}
