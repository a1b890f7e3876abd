//! The command line in, an exit code out.

use clap::Parser;
use sequor::cli::{Cli, RejectedRowsError};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sequor: {error:#}");
            if error.is::<RejectedRowsError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}
