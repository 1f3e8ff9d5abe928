//! The command line of the simulator; everything it does is in the library.

/// A run keeps every row until its end: this one asks the system for them in large pages.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    gridsim::cli::main()
}
