//! Golden scripts: every file in `tests/scripts` plays as it says, and with an index built anew
//! before every entry too. `UPDATE=1` rewrites them.

use gridtests::anew::decides_the_same;
use gridtests::run::record;
use gridtests::script::Played;
use std::fs;
use std::path::Path;

#[test]
fn every_script_plays_as_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let entries =
        fs::read_dir(&folder).map(|entries| entries.flatten().map(|e| e.path()).collect());
    let mut paths: Vec<_> = entries.unwrap_or_default();
    paths.retain(|path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "grid"));
    paths.sort();
    assert!(paths.len() >= 15, "only {} scripts", paths.len());
    let mut wrong = Vec::new();
    let mut lines = 0;
    for path in &paths {
        let text = fs::read_to_string(path).unwrap_or_default();
        assert!(text.starts_with("# "), "{} says in its first line what it shows", path.display());
        let (input, expected) = text.split_once("----\n").unwrap_or((&text, ""));
        lines +=
            input.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).count();
        let Played { config, world, out } = match gridtests::script::run(input) {
            Ok(played) => played,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        if let Err(error) = decides_the_same(&config, &world) {
            wrong.push(format!("{}: {error}", path.display()));
        }
        if out == expected {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            let written = fs::write(path, format!("{input}----\n{out}"));
            assert!(written.is_ok(), "{} can be written", path.display());
        } else {
            wrong.push(format!("{}\n-- expected\n{expected}-- came out\n{out}", path.display()));
        }
    }
    let again = "UPDATE=1 cargo nextest run -p gridtests every_script";
    assert!(wrong.is_empty(), "{}\nif that is right: {again}", wrong.join("\n"));
    record("scripts", "every_script_plays_as_it_says", paths.len() as u64, lines as u64);
}
