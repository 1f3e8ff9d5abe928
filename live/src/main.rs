//! The binary: see `cli`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the terminal's module")]

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
