//! One file per command.

mod admin;
mod backup;
mod bench;
mod client_auth;
mod compact;
mod consistency;
mod daemon_client;
mod daemon_process;
mod data_dir;
mod demo;
mod erasures;
mod evaluate;
mod event_sender;
mod export;
mod flags;
mod health;
mod import;
mod import_target;
mod key;
mod log_follower;
mod migrate;
mod plot;
mod progress_display;
mod progress_file;
mod pseudonym_secret;
mod rebuild;
mod recording;
mod rejects;
mod replay;
mod replay_report;
mod restore;
mod serve;
mod supervisor;
mod tail;
mod train;
mod training_checkpoint;
mod unlearn;
mod verify;

use clap::{Parser, Subcommand};

pub use rejects::RejectedRowsError;

/// A real-time recommender daemon: it captures what users do, learns from every event as it
/// arrives, and answers "what next?".
#[derive(Debug, Parser)]
#[command(name = "sequor", version, about, after_help = "See it learn: `sequor demo`. Then start with `sequor serve`.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it learn: a daemon of its own, with the visitors of a made-up shop or of a recording,
    /// before your eyes.
    Demo(demo::Demo),
    /// Run the daemon: events in over HTTP, recommendations out.
    Serve(serve::Serve),
    /// Look into a running daemon and steer it, through its admin endpoint.
    Admin(admin::AdminCommand),
    /// Make, list and revoke the keys that a daemon asks for.
    Key(key::KeyCommand),
    /// Ask a running daemon whether it is ready.
    Health(health::Health),
    /// Follow web servers' access logs and send what visitors do to a running daemon.
    Tail(tail::Tail),
    /// Bring recorded behaviour, or a catalog, into a daemon or a data directory, each row once.
    Import(import::Import),
    /// Run recorded behaviour through the daemon's own actors, testing each event before learning
    /// from it, and report how good the answers were.
    Replay(replay::Replay),
    /// Train the network on recorded behaviour, epoch by epoch, and test it on the last sessions,
    /// which it never learns from.
    Train(train::Train),
    /// Test a trained network on the last sessions of recorded behaviour.
    Evaluate(evaluate::Evaluate),
    /// Measure how fast a daemon answers at a given rate of requests.
    Bench(bench::Bench),
    /// Verify a data directory: every checksum, every reference, every count.
    Verify(verify::Verify),
    /// Back a data directory up, into a directory or a .tar.gz, also while a daemon serves it.
    Backup(backup::Backup),
    /// Give back the disk that the database no longer needs, also while a daemon serves it.
    Compact(compact::Compact),
    /// List who was erased, for a backup that is restored to forget them, too.
    Erasures(erasures::ListErasures),
    /// Make a data directory of a backup.
    Restore(restore::Restore),
    /// Write the journal as lines of JSON, in the shapes that the API takes.
    Export(export::Export),
    /// Make item names, session records and what was learned anew from the journal.
    Rebuild(rebuild::Rebuild),
    /// Bring a data directory of an earlier version to the present format.
    Migrate(migrate::Migrate),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// Whatever kept it from ending well, with its causes.
    pub fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Demo(demo) => demo.run(),
            Command::Serve(serve) => serve.run(),
            Command::Admin(steer) => steer.run(),
            Command::Key(keys) => keys.run(),
            Command::Health(health) => health.run(),
            Command::Tail(tail) => tail.run(),
            Command::Import(import) => import.run(),
            Command::Replay(replay) => replay.run(),
            Command::Train(train) => train.run(),
            Command::Evaluate(evaluate) => evaluate.run(),
            Command::Bench(bench) => bench.run(),
            Command::Verify(verify) => verify.run(),
            Command::Backup(backup) => backup.run(),
            Command::Compact(compact) => compact.run(),
            Command::Erasures(erasures) => erasures.run(),
            Command::Restore(restore) => restore.run(),
            Command::Export(export) => export.run(),
            Command::Rebuild(rebuild) => rebuild.run(),
            Command::Migrate(migrate) => migrate.run(),
        }
    }
}
