//! The program `cellar-router`.

use std::process::ExitCode;

/// A fifth of the time went into the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cellar_router::run()
}
