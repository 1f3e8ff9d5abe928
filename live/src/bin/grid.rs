//! `grid`: the name of the earlier tools for `gridlive`, which lies beside it.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

#[expect(clippy::print_stderr, reason = "it is a command")]
fn main() -> ExitCode {
    let program = match std::env::current_exe() {
        Ok(own) => own.with_file_name("gridlive"),
        Err(_) => "gridlive".into(),
    };
    let error = Command::new(&program).args(std::env::args_os().skip(1)).exec();
    eprintln!("grid: {}: {error}; install gridlive beside it", program.display());
    ExitCode::FAILURE
}
