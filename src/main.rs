//! Arguments in, exit code out. The only file that may end the process.

use mimalloc::MiMalloc;
use pointsman::cli;
use pointsman::server::Keeper;
use std::process::ExitCode;

/// A request holds a future and buffers of several kilobytes, sizes at which the C library's
/// allocator leaves its fast paths. What this costs in memory is half a kilobyte per open stream.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // Before anything else: an unhandled SIGHUP kills the process, and a reload may come early.
    let exit = match Keeper::new() {
        Ok(keeper) => cli::main(keeper, std::env::args_os()),
        Err(_) => cli::Exit::System,
    };
    ExitCode::from(exit.code())
}
