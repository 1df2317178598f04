//! The one binary: parses the command line, runs the command, and exits with its code.

/// Many small allocations of many threads: mimalloc is measurably faster here than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    pulso::cli::main().into()
}
