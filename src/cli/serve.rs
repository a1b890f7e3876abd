//! `sequor serve`: runs the daemon.

use anyhow::Context;
use clap::Args;
use std::io::{self, Write, stdout};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::flags::{self, RuntimeFlags};
use super::session_refresh::refresh_sessions;
use super::{cluster_member, data_dir, supervisor, training_checkpoint, unlearn};
use crate::actors::checkpoint_preload::CheckpointPreload;
use crate::actors::jobs::cluster_snapshots::{SnapshotPolicy, run_cluster_snapshots};
use crate::actors::jobs::load_control::run_load_control;
use crate::actors::jobs::removal::run_removals;
use crate::actors::jobs::scrub::run_scrub;
use crate::actors::jobs::watchdog::run_watchdog;
use crate::actors::pretrained::store_pretrained;
use crate::actors::system::System;
use crate::clock::Clock;
use crate::http::{HttpServers, ListenAddresses};
use crate::metrics::Metrics;
use crate::settings::{LiveSettings, Period, Settings};
use crate::store::Store;
use crate::telemetry::TelemetryExporter;

/// Arguments of `sequor serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "The daemon stores all data in the data directory, which a single daemon can use at a time. Without a settings file, the defaults apply.\n\n\
    Signals: SIGTERM and Ctrl-C stop the daemon after all accepted events are stored; SIGHUP reloads the settings.\n\n\
    Examples:\n  sequor serve\n  sequor serve --config sequor.toml --data-dir /var/lib/sequor\n  sequor serve --listen 0.0.0.0:8080 --set log.level=debug"
)]
pub(super) struct Serve {
    #[command(flatten)]
    flags: RuntimeFlags,
    /// Address of the public API, such as 0.0.0.0:8080 or localhost:8080; port 0 selects a free
    /// port [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Address of the admin endpoint; port 0 selects a free port [default: 127.0.0.1:9090].
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<String>,
    /// Start with the pretrained network of this checkpoint from `sequor train --checkpoint`. The
    /// data directory must not contain events yet; it keeps the network.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Also stop when standard input ends, so that the daemon does not outlive a parent process.
    #[arg(long)]
    until_eof: bool,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let overrides = [("server.listen", self.listen), ("server.admin_listen", self.admin_listen)];
        let layers = self.flags.settings_layers(&overrides)?;
        let mut settings = layers.validated_settings()?.clone();
        let metrics = Arc::new(Metrics::new(&settings.events.resolved_kinds())?);
        let exporter = flags::start_span_exporter(&layers, &metrics)?;
        let set_level = flags::init_logging_with_spans(&settings.log, exporter.as_ref().map(TelemetryExporter::layer))?;
        flags::environment_warnings().iter().for_each(|variable| tracing::warn!("{variable}"));
        let flags = self.flags.clone();
        let reload = Box::new(move || flags.settings_layers(&overrides).map_err(Into::into));
        let live = Arc::new(LiveSettings::new(&layers, &settings, reload, set_level));
        let must_restart: anyhow::Result<bool> = actix::System::new().block_on(async move {
            let data_dir = settings.store.data_dir.clone();
            let mut options = flags::server_options(&settings);
            let keys = HttpServers::load_keys(&options, &data_dir)?;
            let preload = CheckpointPreload::start_reading(&data_dir);
            let store = Store::open_with_reserve(&data_dir, &flags::store_options(&settings))?;
            if let Some(file) = &self.checkpoint {
                let pretrained = training_checkpoint::read_training_checkpoint(file)?.into_pretrained();
                store_pretrained(&store, &pretrained)
                    .with_context(|| format!("cannot start with the checkpoint {}", file.display()))?;
            }
            // If a finished unlearning has replaced the state of the store, the preloaded
            // checkpoint is obsolete.
            let preload = if unlearn::apply_rebuilt_state(&store)? { None } else { Some(preload) };
            data_dir::ensure_journal_id(&store);
            let rules = data_dir::checked_validation_rules(&settings, &store)?;
            data_dir::apply_pretrained_network(&layers, &mut settings, &store)?;
            refresh_sessions(&store, &settings)?;
            actix::spawn(drain_histograms(Arc::clone(&metrics)));
            let system_settings = flags::system_settings(&settings, flags::learner_config(&settings));
            let member = cluster_member::join_cluster(&settings, &system_settings, &store, &rules, &metrics).await?;
            // The nodes of a cluster share the key of the origins.
            options.event_origins = data_dir::origin_recorder(&store, settings.privacy.origins);
            let system = System::start_with_preload(store, system_settings, metrics, preload, member)?;
            let clock = Clock::system();
            let servers =
                HttpServers::open(system.clone(), rules, clock, &options, Arc::clone(&live), keys, &data_dir)?;
            keep_reserve(&system.store);
            let shutdown = shutdown_signal()?;
            let mut jobs = spawn_jobs(&system, &live, &settings);
            jobs.extend(spawn_cluster_snapshots(&system, &settings)?);
            actix::spawn(reload_on_sighup(live));
            // Unlearning would change the offsets of this node alone.
            let is_member = system.cluster.is_some();
            let unlearning = unlearn::rebuild_state_when_pending(system.store.clone(), settings.clone());
            announce_ready(&system, &servers, options.url_scheme(), &data_dir);
            let restarts = tokio::select! {
                () = shutdown => false,
                () = stdin_closed(), if self.until_eof => false,
                () = unlearning, if !is_member => true,
            };
            // A restart sends no stop notification: after one, the service manager would not accept
            // the restart.
            if !restarts {
                supervisor::notify_stopping();
            }
            stop_daemon(&system, &servers, &jobs).await?;
            Ok(restarts)
        });
        if let Some(exporter) = exporter {
            exporter.stop();
        }
        // Restarts the daemon by replacing the process image. The arguments, the process id and the
        // supervisor stay the same.
        match must_restart? {
            false => Ok(()),
            true => Err(Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).exec())
                .context("cannot restart"),
        }
    }
}

/// Reserves disk space for the next start. If the disk has none left, the daemon accepts no writes
/// until there is space.
fn keep_reserve(store: &Store) {
    if let Err(error) = store.keep_reserve() {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the disk is full: lists are served, and writes are refused until space is freed"
        );
    }
}

/// Prints the addresses and notifies the service manager.
fn announce_ready(system: &System, servers: &HttpServers, scheme: &str, data_dir: &Path) {
    let ListenAddresses { api, admin } = servers.addresses;
    let line = format!("sequor is ready: API {scheme}://{api}  admin {scheme}://{admin}  data {}", data_dir.display());
    // The daemon runs without a reader of its output, too.
    drop(writeln!(stdout(), "{line}"));
    supervisor::notify_ready(system.clone(), &format!("API {scheme}://{api}, admin {scheme}://{admin}"));
}

/// Completes the requests in progress, then stops the jobs and the actors.
async fn stop_daemon(
    system: &System,
    servers: &HttpServers,
    jobs: &[tokio::task::JoinHandle<()>],
) -> anyhow::Result<()> {
    tracing::info!("stopping: completing requests in progress");
    system.maintenance.prepare_stop();
    servers.close().await;
    jobs.iter().for_each(tokio::task::JoinHandle::abort);
    let offset = system.maintenance.stop().await?;
    let lag = system.store.journal().next_offset()?.saturating_sub(offset);
    if let Err(error) = system.store.prepare_for_shutdown() {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot reopen the database for shutdown; the next start takes longer"
        );
    }
    tracing::info!(offset, lag, "stopped");
    Ok(())
}

/// Starts the background jobs.
fn spawn_jobs(system: &System, live: &LiveSettings, settings: &Settings) -> Vec<tokio::task::JoinHandle<()>> {
    vec![
        actix::spawn(run_load_control(system.clone(), Arc::clone(live.safety_settings()), Clock::system())),
        actix::spawn(run_watchdog(system.clone(), Arc::clone(live.safety_settings()), Clock::system())),
        actix::spawn(run_scrub_when_enabled(system.clone(), settings.store.scrub_period)),
        actix::spawn(run_removals(system.clone(), flags::retention_policy(settings), Clock::system())),
    ]
}

/// Starts the job that stores snapshots of the cluster; `None` on a single node.
fn spawn_cluster_snapshots(
    system: &System,
    settings: &Settings,
) -> anyhow::Result<Option<tokio::task::JoinHandle<()>>> {
    if system.cluster.is_none() {
        return Ok(None);
    }
    let config = cluster_member::connection_config(settings)?;
    let policy = SnapshotPolicy {
        every: settings.cluster.snapshot_every,
        erase_within: settings.cluster.erase_within.get().unwrap_or_default(),
        work_dir: cluster_member::work_dir(settings),
    };
    Ok(Some(actix::spawn(run_cluster_snapshots(system.clone(), config, policy, Clock::system()))))
}

async fn run_scrub_when_enabled(system: System, period: Period) {
    if let Some(period) = period.get() {
        run_scrub(system.store, system.scrub, system.metrics, period).await;
    }
}

/// Periodically aggregates the samples of the histograms. Otherwise they would accumulate as long
/// as no client scrapes the metrics.
async fn drain_histograms(metrics: Arc<Metrics>) {
    let mut ticks = actix::clock::interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        metrics.run_upkeep();
    }
}

/// Reloads the settings at each SIGHUP.
async fn reload_on_sighup(live: Arc<LiveSettings>) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else {
        return tracing::warn!("cannot listen for SIGHUP; the settings cannot be reloaded by signal");
    };
    while hangups.recv().await.is_some() {
        match live.reload() {
            Ok(reloaded) => {
                tracing::info!(changed = ?reloaded.changed, waiting = ?reloaded.waiting, "settings reloaded")
            }
            Err(error) => tracing::error!(
                error = &*error as &dyn std::error::Error,
                "cannot reload the settings; they are unchanged"
            ),
        }
    }
}

/// Waits for Ctrl-C or SIGTERM. As soon as this function is called, these signals no longer
/// terminate the process.
pub(super) fn shutdown_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Waits for the end of standard input. The thread that reads it holds no state, so it does not
/// delay the exit of the process.
async fn stdin_closed() {
    let (ended, end) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        // A read error counts as the end of standard input.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        drop(ended);
    });
    let _ = end.await;
}
