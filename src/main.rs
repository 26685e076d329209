//! Arguments in, exit code out. The only file that may end the process.

mod allocator;

use allocator::Allocator;
use pointsman::cli;
use pointsman::server::Keeper;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    // Before anything else: an unhandled SIGHUP kills the process, and a reload may come early.
    let exit = match Keeper::new() {
        Ok(keeper) => cli::main(keeper, std::env::args_os()),
        Err(_) => cli::Exit::System,
    };
    ExitCode::from(exit.code())
}
