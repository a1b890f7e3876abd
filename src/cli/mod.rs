//! Command-line interface: one module per command, plus shared flags, clients and reports.

mod admin;
mod backup;
mod batch_users;
mod bench;
mod client_auth;
mod cluster;
mod cluster_member;
mod cluster_snapshots;
mod compact;
mod completions;
mod consistency;
mod consistency_report;
mod consume;
mod daemon_client;
mod daemon_process;
mod data_dir;
mod demo;
mod erasures;
mod error_text;
mod evaluate;
mod event_sender;
mod event_sorter;
#[cfg(feature = "parquet")]
mod event_table;
mod export;
mod file_digest;
mod file_flags;
mod flags;
mod health;
mod import;
mod import_dry_run;
mod import_ids;
mod import_progress;
mod import_rows;
mod import_run;
mod import_target;
mod interest_lines;
mod key;
mod line_set;
mod list_file;
mod list_source;
#[cfg(feature = "parquet")]
mod list_table;
mod log_follower;
mod man_pages;
mod migrate;
mod output_file;
mod plot;
mod progress_display;
mod progress_file;
mod pseudonym_secret;
mod rebuild;
mod recommend;
mod recording;
mod rejects;
mod replay;
mod replay_catalog;
mod replay_report;
mod restore;
mod serve;
mod session_refresh;
mod session_replay;
mod supervisor;
mod tail;
mod tls_client;
mod train;
mod training_checkpoint;
mod unlearn;
mod user_list;
mod verify;

use clap::{CommandFactory, Parser, Subcommand};

use crate::simd::{SIMD_VARIABLE, limit_simd};

pub use error_text::{describe_error, is_closed_pipe};
pub use rejects::RejectedRowsError;

/// A real-time recommender daemon. It ingests user events over HTTP, learns from each event as it
/// arrives, and serves recommendations.
#[derive(Debug, Parser)]
#[command(
    name = "sequor",
    version,
    about,
    after_help = "Start with `sequor demo`, which needs no data. `sequor serve` runs the daemon."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Demonstrate online learning: run a temporary daemon on the traffic of a simulated shop or on
    /// a recording.
    Demo(demo::Demo),
    /// Run the daemon: the HTTP API for events and recommendations, and the admin endpoint.
    Serve(serve::Serve),
    /// Inspect and control a running daemon through its admin endpoint.
    Admin(admin::AdminCommand),
    /// Show the nodes of a cluster, or make a data directory leave its cluster.
    Cluster(cluster::ClusterCommand),
    /// Create, list and revoke API keys.
    Key(key::KeyCommand),
    /// Check whether a running daemon is ready: the exit code is 0 if it is.
    Health(health::Health),
    /// Follow access logs of web servers and send matching requests to a running daemon as events.
    Tail(tail::Tail),
    /// Send the messages of NATS JetStream or Kafka to a running daemon as events, each message once.
    Consume(consume::Consume),
    /// Import recorded events or a catalog into a daemon or a data directory, each row once.
    Import(import::Import),
    /// Replay recorded events through the daemon's actors and report ranking quality. Each event is
    /// evaluated before it is learned (test-then-train).
    Replay(replay::Replay),
    /// Train the network offline on recorded events and evaluate it on held-out sessions, the most
    /// recent ones.
    Train(train::Train),
    /// Evaluate a trained network on the most recent sessions of a recording.
    Evaluate(evaluate::Evaluate),
    /// Write the recommendations of many users to a file, one line per user.
    Recommend(recommend::RecommendLists),
    /// Measure the latency of a daemon at a constant request rate.
    Bench(bench::Bench),
    /// Verify a data directory: checksums, references, counts and derived state.
    Verify(verify::Verify),
    /// Back up a data directory to a directory or a .tar.gz file; a running daemon keeps serving.
    Backup(backup::Backup),
    /// Compact the database to free unused disk space; a running daemon keeps serving.
    Compact(compact::Compact),
    /// List the erased user ids as digests, so that a restored backup can erase them again.
    Erasures(erasures::ListErasures),
    /// Restore a backup into a new data directory.
    Restore(restore::Restore),
    /// Export the journal as JSON lines, in the format of the API.
    Export(export::Export),
    /// Rebuild item names, session records and the learned state from the journal.
    Rebuild(rebuild::Rebuild),
    /// Migrate a data directory to the current format.
    Migrate(migrate::Migrate),
    /// Print the completion script of a shell.
    Completions(completions::Completions),
    /// Write the manual pages of all commands to a folder.
    #[command(hide = true)]
    Man(man_pages::ManPages),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// The error that made the command fail, with its causes.
    pub fn run(self) -> anyhow::Result<()> {
        if self.command.writes_user_data() {
            // Files with users' data are readable by their owner only, whatever the umask of the
            // caller is.
            rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        }
        if let Some(level) = std::env::var_os(SIMD_VARIABLE) {
            limit_simd(level.to_string_lossy().parse()?);
        }
        // `serve` is left out: the daemon writes these warnings to its log.
        if !matches!(self.command, Command::Serve(_)) {
            flags::environment_warnings().iter().for_each(|variable| eprintln!("sequor: warning: {variable}"));
        }
        match self.command {
            Command::Demo(demo) => demo.run(),
            Command::Serve(serve) => serve.run(),
            Command::Admin(admin) => admin.run(),
            Command::Cluster(cluster) => cluster.run(),
            Command::Key(key) => key.run(),
            Command::Health(health) => health.run(),
            Command::Tail(tail) => tail.run(),
            Command::Consume(consume) => consume.run(),
            Command::Import(import) => import.run(),
            Command::Replay(replay) => replay.run(),
            Command::Train(train) => train.run(),
            Command::Evaluate(evaluate) => evaluate.run(),
            Command::Recommend(recommend) => recommend.run(),
            Command::Bench(bench) => bench.run(),
            Command::Verify(verify) => verify.run(),
            Command::Backup(backup) => backup.run(),
            Command::Compact(compact) => compact.run(),
            Command::Erasures(erasures) => erasures.run(),
            Command::Restore(restore) => restore.run(),
            Command::Export(export) => export.run(),
            Command::Rebuild(rebuild) => rebuild.run(),
            Command::Migrate(migrate) => migrate.run(),
            Command::Completions(completions) => completions.run(Self::command()),
            Command::Man(pages) => pages.run(Self::command()),
        }
    }
}

impl Command {
    /// Whether the files that the command creates hold users' data. The other commands write
    /// reports and trained networks. A daemon under another account may have to read such a file.
    fn writes_user_data(&self) -> bool {
        matches!(
            self,
            Self::Serve(_)
                | Self::Key(_)
                | Self::Import(_)
                | Self::Recommend(_)
                | Self::Verify(_)
                | Self::Backup(_)
                | Self::Compact(_)
                | Self::Restore(_)
                | Self::Export(_)
                | Self::Rebuild(_)
                | Self::Migrate(_)
        )
    }
}
