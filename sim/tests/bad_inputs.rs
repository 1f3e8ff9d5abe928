//! Files and arguments that cannot be: each is refused with its place, and leaves nothing behind.

mod common;

use common::{finish, gridsim, program, scratch, summary};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Rules and one node, to which a test adds jobs.
const NODE: &str = "atp: { enabled: false }\nnodes: [{ name: n, cores: 4, owner_use: none }]\n";

/// Expects a refusal with `why` in it, and no results.
fn refused(folder: &Path, args: &[&str], why: &str) {
    let output = gridsim(folder, args);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let shown = format!("in {}: gridsim {}: {error}", folder.display(), args.join(" "));
    assert!(matches!(output.status.code(), Some(1 | 2)), "{:?} {shown}", output.status);
    assert!(error.contains(why), "expected `{why}` {shown}");
    assert!(!error.contains("panicked"), "{shown}");
    assert!(error.len() < 4_000, "{shown}");
    assert!(!folder.join("out").exists(), "results were left {shown}");
}

/// Runs a scenario of this text and expects a refusal.
fn scenario_refused(folder: &Path, text: &str, why: &str) {
    std::fs::write(folder.join("x.yaml"), text).expect("a file can be written");
    refused(folder, &["run", "x.yaml", "--out", "out/deep"], why);
}

/// Writes a scenario that reads `jobs.csv`.
fn around_csv(folder: &Path) {
    let text = format!("{NODE}jobs: {{ trace: {{ format: csv, files: {{ jobs: jobs.csv }} }} }}\n");
    std::fs::write(folder.join("x.yaml"), text).expect("a file can be written");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes all bytes");
    encoder.finish().expect("memory takes all bytes")
}

#[test]
fn keys_that_no_run_can_work_with_are_named() {
    let folder = scratch("bad-keys");
    let job = |job: &str| format!("{NODE}jobs: [{{ name: a, runs: 1s, {job} }}]\n");
    let node = |node: &str| format!("horizon_seconds: 1h\nnodes: [{{ name: n, {node} }}]\n");
    let with = |more: &str| format!("{NODE}{more}\n");
    for (text, why) in [
        (String::new(), "nodes: there is none"),
        ("jobs: [{ name: a, runs: 1s }]\n".to_owned(), "nodes: there is none"),
        ("- 1\n- 2\n".to_owned(), "line 1"),
        ("nodes: [\n".to_owned(), "line 1"),
        ("\u{0}\u{1}\u{2}".to_owned(), "x.yaml"),
        (NODE.to_owned(), "jobs: there is none"),
        ("nodes:\n- { name: n, cors: 4 }\n".to_owned(), "line 2 column 14"),
        ("nodes:\n- { name: n, cores: 4, cores: 4 }\n".to_owned(), "line 2 column 24"),
        ("nodes: [{ name: n, cores: 4 }]\n".to_owned(), "horizon_seconds: nodes.0 is shared"),
        (node("cores: -4"), "nodes.0.cores: it must not be negative"),
        (node("cores: .nan"), "line 2"),
        (node("cores: 99999999999999999999999"), "out of range"),
        (node("cores: 9000000000000"), "nodes.cores is"),
        (node("cores: 4, memory_gb: 9000000000000"), "memory_gb: it is too large"),
        (node("cores: 4, count: 4000000000"), "at most 100,000 nodes"),
        (node("cores: 4, gpus: 300"), "line 2"),
        (with("horizon_seconds: .inf"), "line 3"),
        (with("horizon_seconds: -1"), "line 3"),
        (with("horizon_seconds: 0"), "horizon_seconds: it must be more"),
        (with("horizon_seconds: 40000d"), "horizon_seconds: it must be at most"),
        (with("horizon_seconds: 1h\nrecord_seconds: 0.1"), "record_seconds: it must be at"),
        (with("horizon_seconds: 900d\nrecord_seconds: 1s"), "record_seconds: 77760000"),
        (with("nodes: []"), "duplicate"),
        (with("name: ../../etc"), "name: it names a folder"),
        (job("array: 4000000000"), "jobs: 4000000000 jobs"),
        (job("array: 0"), "jobs.0.array"),
        (job("pool: nope"), "jobs.0.pool: there is no pool nope"),
        (job("preferred_nodes: [nope]"), "jobs.0.preferred_nodes: there is no node nope"),
        (job("excluded_nodes: [nope]"), "jobs.0.excluded_nodes: there is no node nope"),
        (job("near: nope"), "jobs.0.near: there is neither a node nor a zone \"nope\""),
        (job("resources: { fpga: 1 }"), "jobs.0.resources.fpga"),
        (job("priority: 101"), "line 3"),
        (job("needs: { cpu_cores: -1 }"), "jobs.0.needs.cpu_cores"),
        (job("needs: { gpus: 1, gpu_share: 2 }"), "jobs.0.needs.gpus: give"),
        (with("jobs: { trace: { formt: csv } }"), "line 3"),
        (with("jobs: { trase: { format: csv } }"), "trase"),
        (with("jobs: { }"), "either `generator:` or `trace:`"),
        (
            with("horizon_seconds: 1h\npools: [{ name: a, nodes: some }]"),
            "`some` is no set of nodes",
        ),
        (with("horizon_seconds: 1h\npools: [{ name: a, nodes: [nope] }]"), "there is no node nope"),
        (
            with("horizon_seconds: 1h\naccounts: [{ name: a }, { name: a }]"),
            "accounts: a is named twice",
        ),
        (
            "horizon_seconds: 1h\nnodes:\n- { name: n, cores: 1 }\n- { name: n, cores: 1 }\n"
                .into(),
            "node n is named twice",
        ),
    ] {
        scenario_refused(&folder, &text, why);
    }
}

#[test]
fn rows_of_a_table_that_cannot_be_are_refused_with_their_line() {
    let folder = scratch("bad-rows");
    around_csv(&folder);
    let row = |row: &str| format!("submit_s,run_s,cpu_cores\n0,1,1\n{row}\n").into_bytes();
    let good = gzip(format!("submit_s,run_s\n{}", "0,1\n".repeat(5_000)).as_bytes());
    for (bytes, why) in [
        (row("-1,10,1"), "jobs.csv:3: column submit_s is `-1`: must not be negative"),
        (row("0,99999999999999999999999,1"), "jobs.csv:3: column run_s"),
        (row("0,1e9999,1"), "jobs.csv:3: column run_s"),
        (row("0,nan,1"), "jobs.csv:3: column run_s is `nan`"),
        (row("0,1"), "jobs.csv:3: 2 fields"),
        (row("0,1,1,1"), "jobs.csv:3: 4 fields"),
        (row("0,1,\u{7}"), "jobs.csv:3: column cpu_cores"),
        (b"name,submit_s,run_s\na,0,1\na,0,1\n".to_vec(), "jobs.csv:3: the name `a`"),
        (b"name,submit_s,run_s,pool\na,0,1,nope\n".to_vec(), "names pool `nope`"),
        (b"submit_s,run_s,submit_s\n0,1,2\n".to_vec(), "jobs.csv:1"),
        (b"a,b,c\n1,2,3\n".to_vec(), "jobs.csv:1"),
        (b"submit_s,run_s\n".to_vec(), "jobs.csv"),
        (Vec::new(), "jobs.csv: the file has no rows"),
        (b"submit_s,run_s\n\xff\xfe,1\n".to_vec(), "jobs.csv:2: not valid UTF-8"),
        (good[..good.len() / 2].to_vec(), "cut short"),
        (gzip(&b"\x00".repeat(3_000_000)), "line longer than"),
    ] {
        std::fs::write(folder.join("jobs.csv"), bytes).unwrap();
        refused(&folder, &["run", "x.yaml", "--out", "out"], why);
    }
}

#[test]
fn a_line_of_a_gigabyte_is_not_read_whole() {
    let folder = scratch("bad-line");
    around_csv(&folder);
    // A hole of one gigabyte takes no room on the disk.
    std::fs::File::create(folder.join("jobs.csv")).unwrap().set_len(1 << 30).unwrap();
    // Half a gigabyte of address space would not hold it.
    let shell = "ulimit -v 524288 && exec \"$0\" \"$@\"";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", shell, env!("CARGO_BIN_EXE_gridsim"), "run", "x.yaml", "--out", "out"]);
    command.current_dir(&folder).stderr(std::process::Stdio::piped());
    let output = finish(command);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("jobs.csv:1: line longer than"), "{error}");
    std::fs::rename(folder.join("jobs.csv"), folder.join("x.yaml")).unwrap();
    refused(&folder, &["run", "x.yaml", "--out", "out"], "larger than 16 MiB");
}

#[test]
fn files_and_arguments_that_are_not_there_are_named() {
    let folder = scratch("bad-arguments");
    std::fs::write(folder.join("ok.csv"), "submit_s,run_s\n0,1\n").unwrap();
    around_csv(&folder);
    for (args, why) in [
        (&["run", "missing.yaml"][..], "cannot read scenario missing.yaml"),
        (&["run", "."], "give the path of a .yaml file"),
        (&["run", "x.yaml"], "jobs.csv: no such file"),
        (&["run", "x.yaml", "--trace", "jobs=."], "is a directory"),
        (&["run", "x.yaml", "--trace", "tasks=ok.csv"], "has the files [\"jobs\"]"),
        (&["run", "x.yaml", "--set", "seed"], "write key.path=value"),
        (&["run", "x.yaml", "--set", "sed=1"], "sed"),
        (&["run", "x.yaml", "--set", "seed=-1"], "seed=-1"),
        (&["run", "x.yaml", "--set", "nodes.7.cores=1"], "has only 1 items"),
        (&["run", "x.yaml", "--set", "nodes.0.cores=abc"], "abc"),
        (&["run", "x.yaml", "--set", "jobs.trace.formt=1"], "formt"),
        (&["run", "x.yaml", "--seeds", "5..3"], "no range of seeds"),
        (&["run", "x.yaml", "--seeds", "0..10000000"], "no range of seeds"),
        (&["run", "x.yaml", "--seed=-1"], "--seed"),
        (&["run", "x.yaml", "--strategy", "best"], "--strategy"),
        (&["run", "x.yaml", "--frobnicate"], "--frobnicate"),
        (&["compare", "x.yaml"], "there is nothing to compare"),
        (&["generate", "x.yaml"], "jobs.csv: no such file"),
        (&["import", "swf", "ok.csv", "--processors", "4"], "ok.csv:1"),
        (&["import", "philly", "ok.csv"], "ok.csv:1"),
        (&["import", "openb", "ok.csv"], "openb has two files"),
        (&["import", "csv", "ok.csv", "ok.csv"], "one file"),
    ] {
        let out = if matches!(args[0], "import" | "generate") { "out/x.yaml" } else { "out" };
        let args: Vec<&str> = args.iter().copied().chain(["--out", out]).collect();
        refused(&folder, &args, why);
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named_before_the_run() {
    let folder = scratch("bad-out");
    std::fs::write(folder.join("jobs.csv"), "submit_s,run_s\n0,1\n").unwrap();
    around_csv(&folder);
    std::fs::write(folder.join("file"), "mine").unwrap();
    for out in ["file", "file/deep", "/proc/nowhere"] {
        refused(&folder, &["run", "x.yaml", "--out", out], "cannot write results into");
    }
    assert_eq!(std::fs::read(folder.join("file")).unwrap(), b"mine");
}

/// Runs that end at once, with a node whose rules can be varied.
const QUICK: &str = "atp: { enabled: false }\nnodes: [{ name: n, cores: 4, owner_use: none }]\n\
                     jobs: [{ name: a, runs: 1s }]\n";

/// Expects a refusal with this exit code, before anything is run.
fn refused_with(folder: &Path, code: i32, args: &[&str], why: &str) {
    refused(folder, args, why);
    let output = gridsim(folder, args);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{} {error}", args.join(" "));
    assert!(!error.contains(" runs"), "nothing is run: {error}");
}

#[test]
fn a_policy_on_idle_gpus_that_cannot_be_is_refused_by_key() {
    let folder = scratch("bad-idle");
    std::fs::write(folder.join("quick.yaml"), QUICK).unwrap();
    let key = "execution.utilization_policy";
    for (set, why) in [
        (format!("{key}.min_gpu_utilization=0"), "min_gpu_utilization is 0; it must be above 0"),
        (format!("{key}.min_gpu_utilization=101"), "min_gpu_utilization"),
        (format!("{key}.reclaim_after=15m"), "at least 1 s and above warn_after"),
        (format!("{key}.warn_after=0"), "warn_after is 0; it must be at least 1 s, or null"),
        (String::from("jobs.0.gpu_use=101"), "jobs.0.gpu_use"),
    ] {
        refused(&folder, &["run", "quick.yaml", "--out", "out", "--set", &set], why);
    }
    let never = format!("{key}={{ warn_after: null, reclaim_after: null }}");
    let output = gridsim(&folder, &["run", "quick.yaml", "--out", "out", "--set", &never]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_cannot_be_varied_is_refused_before_anything_is_run() {
    let folder = scratch("bad-vary");
    std::fs::write(folder.join("x.yaml"), QUICK).unwrap();
    let term = "lease.term_seconds=60,300";
    for (code, vary, why) in [
        (2, &[][..], "--vary"),
        (2, &["--vary", "lease.term_seconds"], "write KEY=V1,V2"),
        (2, &["--vary", "lease.term_seconds="], "a value is missing"),
        (2, &["--vary", "lease.term_seconds=60,"], "a value is missing"),
        (2, &["--vary", "lease.term_seconds=60,60"], "60 is named twice"),
        (2, &["--vary", "lease.term_seconds=300..60"], "300 is above 60"),
        (2, &["--vary", "lease.term_seconds=1m..1h"], "a range has one unit"),
        (2, &["--vary", "lease.term_seconds=a..b"], "is no number"),
        (2, &["--vary", term, "--vary", term], "change the same"),
        (2, &["--vary", "lease={}", "--vary", term], "change the same"),
        (2, &["--vary", term, "--set", "lease.term_seconds=60"], "--set decides it already"),
        (2, &["--vary", "seed=1,2"], "--seeds decides it already"),
        (
            2,
            &["--policy", "balanced", "--vary", "execution.resource_sharing.policy=predictive"],
            "--policy decides it already",
        ),
        (2, &["--vary", term, "--objective", "fun"], "[possible values: utilisation, wait_s"),
        (2, &["--vary", term, "--seeds", "3..3"], "no range of seeds"),
        (1, &["--vary", "lease.term=60,300"], "unknown field `term`, expected one of"),
        (1, &["--vary", "leese.term_seconds=60"], "unknown field `leese`"),
        (1, &["--vary", "lease.term_seconds=60,soon"], "--vary lease.term_seconds=soon"),
        (1, &["--vary", "nodes.3.cores=1,2"], "the list has only 1 items"),
        (1, &["--vary", "nodes.0.gpus=0..300"], "--vary nodes.0.gpus=300"),
        (1, &["--vary", term, "--set", "leese=1"], "--set leese=1"),
        (1, &["--vary", term, "--trace", "jobs=y.csv"], "reads no trace"),
    ] {
        for verb in ["sweep", "tune"] {
            let args: Vec<&str> =
                [verb, "x.yaml", "--out", "out"].into_iter().chain(vary.iter().copied()).collect();
            refused_with(&folder, code, &args, why);
        }
    }
    let args = |verb, more: [&'static str; 2]| {
        [&[verb, "x.yaml", "--out", "out", "--vary"][..], &more[..]].concat()
    };
    let many = args("sweep", ["nodes.0.cores=1..200", "--vary=seed_unused=1"]);
    refused_with(&folder, 1, &many, "unknown field `seed_unused`");
    let many = args("sweep", ["nodes.0.cores=1..200", "--vary=lease.term_seconds=100..160"]);
    refused_with(&folder, 2, &many, "12200 combinations, more than 10000");
    let many = args("tune", ["nodes.0.cores=1..200", "--trials=10001"]);
    refused_with(&folder, 2, &many, "--trials 10001: at most 10000");
    let none = args("tune", ["nodes.0.cores=1..2", "--trials=0"]);
    refused_with(&folder, 2, &none, "--trials");
    refused_with(&folder, 1, &["sweep", "missing.yaml", "--vary", "a=1"], "cannot read scenario");
}

#[test]
fn a_combination_that_cannot_be_run_is_named_before_anything_is_run() {
    let folder = scratch("bad-combination");
    std::fs::write(folder.join("x.yaml"), QUICK).unwrap();
    let vary = ["--vary", "nodes.0.cores=4,8", "--vary", "nodes.0.memory_gb=1,-1"];
    for (verb, options) in [("sweep", &[][..]), ("tune", &["--set", "nodes.0.gpus=0"])] {
        let mut args = vec![verb, "x.yaml", "--out", "out"];
        args.extend(vary.iter().chain(options));
        if verb == "sweep" {
            let why = "with nodes.0.cores=4 nodes.0.memory_gb=-1: x.yaml: nodes.0.memory_gb: it";
            refused_with(&folder, 1, &args, why);
        } else {
            // A search goes round it and says so.
            args.extend(["--quiet", "--seeds", "0..1"]);
            let output = gridsim(&folder, &args);
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{error}");
            assert!(error.contains("2 combinations cannot be run; the last: with"), "{error}");
        }
    }
    std::fs::remove_dir_all(folder.join("out")).unwrap();
    let args = ["tune", "x.yaml", "--out", "out", "--vary", "nodes.0.memory_gb=-9..-1"];
    refused_with(&folder, 1, &args, "no combination can be run; the last that was looked at");
}

/// Mounts a file system of 64 KiB; `None` where that is not allowed.
fn tiny_disk(folder: &Path) -> Option<PathBuf> {
    let disk = folder.join("disk");
    std::fs::create_dir(&disk).expect("a folder can be made");
    let mut mount = std::process::Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&disk);
    mount.stderr(std::process::Stdio::null());
    mount.status().is_ok_and(|status| status.success()).then_some(disk)
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let folder = scratch("bad-disk");
    let Some(disk) = tiny_disk(&folder) else {
        println!("skipped: no small file system can be mounted here");
        return;
    };
    let toy = common::scenario("drf-toy");
    std::fs::write(disk.join("mine"), "mine").unwrap();
    let out = disk.to_string_lossy().into_owned();
    let output = gridsim(&folder, &["run", &toy.to_string_lossy(), "--out", &out]);
    let left = common::files(&disk);
    let unmounted = std::process::Command::new("umount").arg(&disk).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("nothing was left behind"), "{error}");
    assert_eq!(left, [("mine".to_owned(), b"mine".to_vec())]);
}

#[test]
fn a_failed_run_touches_nothing_that_was_there() {
    let folder = scratch("bad-untouched");
    around_csv(&folder);
    std::fs::create_dir_all(folder.join("empty")).unwrap();
    std::fs::create_dir_all(folder.join("full")).unwrap();
    std::fs::write(folder.join("full/summary.json"), "mine").unwrap();
    for out in ["empty", "full"] {
        assert_eq!(gridsim(&folder, &["run", "x.yaml", "--out", out]).status.code(), Some(1));
    }
    assert_eq!(common::files(&folder.join("empty")), []);
    let mine = vec![("summary.json".to_owned(), b"mine".to_vec())];
    assert_eq!(common::files(&folder.join("full")), mine);
}

#[test]
fn a_run_in_which_something_waits_for_ever_ends() {
    let folder = scratch("bad-endless");
    let text = format!(
        "{NODE}jobs:\n- {{ name: a, needs: {{ cpu_cores: 2 }} }}\n\
         - {{ name: b, runs: 1h, needs: {{ cpu_cores: 4 }} }}\n"
    );
    std::fs::write(folder.join("x.yaml"), text).unwrap();
    let args = ["run", "x.yaml", "--out", "out", "--quiet", "--no-pictures"];
    let output = finish(program(&folder, &args));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let counts = &summary(&folder.join("out"))["counts"];
    assert_eq!((&counts["running"], &counts["waiting"]), (&1.into(), &1.into()));
}
