//! One file per command.

mod evaluate;
mod flags;
mod plot;
mod recording;
mod replay;
mod report;
mod serve;
mod train;
mod trained;

use clap::{Parser, Subcommand};

/// A real-time recommender daemon: it captures what users do, learns from every event as it arrives, and answers "what next?".
#[derive(Debug, Parser)]
#[command(name = "sequor", version, about, after_help = "Start with `sequor serve`, or see it learn: `sequor replay FILE.csv`.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon: events in over HTTP, recommendations out.
    Serve(serve::Serve),
    /// Run recorded behaviour through the daemon's own actors, testing each event before learning from it, and report how good the answers were.
    Replay(replay::Replay),
    /// Train the network on recorded behaviour, epoch by epoch, and test it on the last sessions, which it never learns from.
    Train(train::Train),
    /// Test a trained network on the last sessions of recorded behaviour.
    Evaluate(evaluate::Evaluate),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever kept it from ending well, with its causes.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Serve(serve) => serve.run(),
            Command::Replay(replay) => replay.run(),
            Command::Train(train) => train.run(),
            Command::Evaluate(evaluate) => evaluate.run(),
        }
    }
}
