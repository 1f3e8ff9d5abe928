//! The command line of the simulator; everything it does is in the library.

fn main() -> std::process::ExitCode {
    gridsim::cli::main()
}
