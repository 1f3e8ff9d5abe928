//! What the tests of the simulator share: where things lie, and runs of the built program.
#![allow(dead_code, reason = "each test file uses a part")]

use gridsim::scenario::{Loaded, parse};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long a run of the program may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The path of a committed scenario.
pub(crate) fn scenario(name: &str) -> PathBuf {
    root().join("scenarios").join(format!("{name}.yaml"))
}

/// All committed scenarios, by name.
pub(crate) fn scenarios() -> Vec<String> {
    let files = std::fs::read_dir(root().join("scenarios")).expect("the scenarios are there");
    let paths = files.map(|file| file.expect("a folder can be listed").path());
    let yaml = paths.filter(|path| path.extension().is_some_and(|e| e == "yaml"));
    let name = |path: PathBuf| path.file_stem().map(|s| s.to_string_lossy().into_owned());
    let mut names: Vec<String> = yaml.filter_map(name).collect();
    names.sort();
    names
}

/// An empty folder of its own for one test.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("an old folder can be removed");
    }
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    folder
}

/// A scenario from text.
pub(crate) fn loaded(text: &str) -> Loaded {
    let path = root().join("scenarios").join("text.yaml");
    let scenario = parse(&path, text, &[]).unwrap_or_else(|why| panic!("{why}\n{text}"));
    Loaded { scenario, path }
}

/// The program with its arguments, to be started in a folder.
pub(crate) fn program(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gridsim"));
    command.current_dir(folder).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts a command and waits for its end; a command that hangs fails the test.
pub(crate) fn finish(mut command: Command) -> Output {
    let shown = format!("{command:?}");
    let child = command.spawn().expect("the program can be started");
    wait(child, &shown)
}

/// Waits for the end of a child; one that hangs fails the test.
pub(crate) fn wait(child: std::process::Child, shown: &str) -> Output {
    let id = child.id().to_string();
    let (send, receive) = mpsc::channel();
    let waiting = std::thread::spawn(move || send.send(child.wait_with_output()));
    let Ok(output) = receive.recv_timeout(PATIENCE) else {
        let killed = Command::new("kill").args(["-KILL", &id]).status();
        panic!("still running after {PATIENCE:?} (killed: {killed:?}): {shown}");
    };
    let sent = waiting.join().expect("the waiting thread does not panic");
    sent.expect("the receiver is there");
    output.expect("the output can be read")
}

/// Runs the program in a folder.
pub(crate) fn gridsim(folder: &Path, args: &[&str]) -> Output {
    finish(program(folder, args))
}

/// Runs the program and expects it to succeed; returns what it printed.
pub(crate) fn succeeds(folder: &Path, args: &[&str]) -> String {
    let output = gridsim(folder, args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "gridsim {}: {error}", args.join(" "));
    String::from_utf8(output.stdout).expect("the output is text")
}

/// The names and bytes of all files of a folder but `speed.json`, by name.
pub(crate) fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let listed = std::fs::read_dir(folder).expect("the folder is there");
    let mut out = Vec::new();
    for file in listed {
        let path = file.expect("a folder can be listed").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name != "speed.json" {
            out.push((name, std::fs::read(&path).expect("a file can be read")));
        }
    }
    out.sort();
    out
}

/// The rows of a CSV file, the header first.
pub(crate) fn rows(path: &Path) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(path);
    let reader = reader.as_mut().unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    let row = |row: Result<csv::StringRecord, csv::Error>| {
        let row = row.unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        row.iter().map(str::to_owned).collect()
    };
    reader.records().map(row).collect()
}

/// The number in a CSV cell, as the integer without its point: `1.500` is 1500.
pub(crate) fn digits(text: &str) -> i128 {
    let plain = text.replacen('.', "", 1);
    plain.parse().unwrap_or_else(|_| panic!("`{text}` is no decimal"))
}

/// The summary that a run left.
pub(crate) fn summary(folder: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(folder.join("summary.json")).expect("there is a summary");
    serde_json::from_str(&text).expect("the summary is JSON")
}
