//! The `sequor` binary: parses the command line, runs the command and sets the exit code.

use clap::Parser;
use sequor::cli::{Cli, RejectedRowsError, describe_error, is_closed_pipe};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        // If the reader of the output closes the pipe early, as `head` does, the command succeeds.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sequor: {}", describe_error(&error));
            // Exit code 2 means that some rows were rejected.
            if error.is::<RejectedRowsError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}
