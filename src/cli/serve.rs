//! `sequor serve`: the daemon.

use anyhow::Context;
use clap::Args;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::flags::{self, RuntimeFlags};
use super::{data_dir, supervisor, training_checkpoint, unlearn};
use crate::actors::checkpoint_preload::CheckpointPreload;
use crate::actors::jobs::removal::run_removals;
use crate::actors::jobs::watchdog::run_watchdog;
use crate::actors::pretrained::store_pretrained;
use crate::actors::system::System;
use crate::clock::Clock;
use crate::http::HttpServers;
use crate::metrics::Metrics;
use crate::settings::LiveSettings;
use crate::store::Store;
use crate::telemetry::TelemetryExporter;

/// Arguments of `sequor serve`.
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    flags: RuntimeFlags,
    /// Where the public API listens; port 0 takes a free one [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where the admin endpoint listens; port 0 takes a free one [default: 127.0.0.1:9090].
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<String>,
    /// Begin with the network of this checkpoint, from `sequor train --checkpoint`, before the
    /// first event. The data directory keeps it.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Stop, too, when standard input ends: for a process that starts a daemon of its own, which
    /// must not outlive it.
    #[arg(long)]
    until_eof: bool,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let more = [("server.listen", self.listen), ("server.admin_listen", self.admin_listen)];
        let layers = self.flags.layers(&more)?;
        let mut settings = layers.validated()?.clone();
        let metrics = Arc::new(Metrics::new(&settings.events.resolved_kinds())?);
        let exporter = flags::span_exporter(&layers, &metrics)?;
        let set_level = flags::init_logging_with_spans(&settings.log, exporter.as_ref().map(TelemetryExporter::layer))?;
        let read = {
            let (flags, more) = (self.flags.clone(), more.clone());
            move || flags.layers(&more).map_err(Into::into)
        };
        let live = Arc::new(LiveSettings::new(&layers, &settings, Box::new(read), set_level));
        let ended: anyhow::Result<bool> = actix::System::new().block_on(async move {
            let data_dir = settings.store.data_dir.clone();
            let door = flags::server_options(&settings);
            let keys = HttpServers::load_keys(&door, &data_dir)?;
            let ahead = CheckpointPreload::read(&data_dir);
            let store = Store::open(&data_dir, &flags::store_options(&settings))?;
            if let Some(file) = &self.checkpoint {
                let pretrained = training_checkpoint::read(file)?.into_pretrained();
                store_pretrained(&store, &pretrained).with_context(|| format!("{} cannot be begun with", file.display()))?;
            }
            // What was learned anew is another checkpoint than the one read ahead.
            let ahead = if unlearn::apply_finished(&store)? { None } else { Some(ahead) };
            let rules = data_dir::checked_validation_rules(&settings, &store)?;
            data_dir::apply_pretrained_network(&layers, &mut settings, &store)?;
            actix::spawn(keep_up(Arc::clone(&metrics)));
            let system = System::start_with(store, flags::system_settings(&settings, flags::learner_config(&settings)), metrics, ahead)?;
            let scheme = door.scheme();
            let door = HttpServers::open(system.clone(), rules, Clock::system(), &door, Arc::clone(&live), keys, &data_dir)?;
            let asked_to_stop = shutdown_signal()?;
            actix::spawn(run_watchdog(system.clone(), Arc::clone(live.safety()), Clock::system()));
            actix::spawn(heed(live));
            actix::spawn(run_removals(system.clone(), flags::retention_policy(&settings), Clock::system()));
            let unlearned = unlearn::prepare_when_pending(system.store.clone(), settings.clone());
            println!(
                "sequor is ready: API {scheme}://{}  admin {scheme}://{}  data {}",
                door.addresses.api,
                door.addresses.admin,
                data_dir.display()
            );
            supervisor::notify_ready(
                system.clone(),
                &format!("API {scheme}://{}, admin {scheme}://{}", door.addresses.api, door.addresses.admin),
            );
            let starts_again = tokio::select! {
                () = asked_to_stop => false,
                () = input_ended(), if self.until_eof => false,
                () = unlearned => true,
            };
            // A supervisor that was told of a stop would see to it that it is one.
            if !starts_again {
                supervisor::notify_stopping();
            }
            tracing::info!("stopping: finishing what is under way");
            system.maintenance.cancel_long_tasks();
            door.close().await;
            let offset = system.maintenance.persist().await?;
            if let Err(error) = system.store.prepare_for_shutdown() {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the next start takes longer: the database could not be opened once more"
                );
            }
            tracing::info!(offset, "stopped");
            Ok(starts_again)
        });
        if let Some(exporter) = exporter {
            exporter.stop();
        }
        // The process becomes a new one of the same program, with the same arguments, number and
        // supervisor.
        match ended? {
            false => Ok(()),
            true => Err(Command::new(std::env::current_exe()?).args(std::env::args_os().skip(1)).exec()).context("cannot start again"),
        }
    }
}

/// Sorts the histograms' samples every few seconds: where nobody scrapes they would pile up.
async fn keep_up(metrics: Arc<Metrics>) {
    let mut every = actix::clock::interval(Duration::from_secs(5));
    loop {
        every.tick().await;
        metrics.run_upkeep();
    }
}

/// Reads the settings again at each SIGHUP.
async fn heed(live: Arc<LiveSettings>) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return tracing::warn!("SIGHUP is not listened for") };
    while hangups.recv().await.is_some() {
        match live.reload() {
            Ok(reloaded) => tracing::info!(changed = ?reloaded.changed, waiting = ?reloaded.waiting, "the settings were read again"),
            Err(error) => tracing::error!(error = &*error as &dyn std::error::Error, "the settings stay as they were"),
        }
    }
}

/// Waits for Ctrl-C or SIGTERM, which from the call on no longer end the process by themselves.
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

/// Waits for the end of standard input. The thread that reads it has nothing to lose, whenever the
/// process ends.
async fn input_ended() {
    let (ended, hears) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        // An input that cannot be read has ended, too.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        drop(ended);
    });
    let _ = hears.await;
}
