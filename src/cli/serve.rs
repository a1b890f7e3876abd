//! `sequor serve`: the daemon.

use anyhow::Context;
use clap::Args;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::flags::{self, Flags};
use super::{data, supervisor, trained};
use crate::actors::ahead::Ahead;
use crate::actors::origin::begin_with;
use crate::actors::system::System;
use crate::actors::watchdog::watch;
use crate::clock::Clock;
use crate::http::Door;
use crate::metrics::Metrics;
use crate::settings::Live;
use crate::store::Store;

/// Arguments of `sequor serve`.
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    flags: Flags,
    /// Where the public API listens; port 0 takes a free one [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where the admin endpoint listens; port 0 takes a free one [default: 127.0.0.1:9090].
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<String>,
    /// Begin with the network of this checkpoint, from `sequor train --checkpoint`, before the first event. The data directory keeps it.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Stop, too, when standard input ends: for a process that starts a daemon of its own, which must not outlive it.
    #[arg(long)]
    until_eof: bool,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let more = [("server.listen", self.listen), ("server.admin_listen", self.admin_listen)];
        let layers = self.flags.layers(&more)?;
        let mut settings = layers.check()?.clone();
        let set_level = flags::start_log(&settings.log)?;
        let read = {
            let (flags, more) = (self.flags.clone(), more.clone());
            move || flags.layers(&more).map_err(Into::into)
        };
        let live = Arc::new(Live::new(&layers, &settings, Box::new(read), set_level));
        let metrics = Arc::new(Metrics::new(&settings.events.kinds())?);
        actix::System::new().block_on(async move {
            let data_dir = settings.store.data_dir.clone();
            let ahead = Ahead::read(&data_dir);
            let store = Store::open(&data_dir, &flags::store_options(&settings))?;
            if let Some(file) = &self.checkpoint {
                let pretrained = trained::read(file)?.into_pretrained();
                begin_with(&store, &pretrained).with_context(|| format!("{} cannot be begun with", file.display()))?;
            }
            data::heed_origin(&layers, &mut settings, &store)?;
            actix::spawn(keep_up(Arc::clone(&metrics)));
            let system = System::start_with(store, flags::system(&settings, flags::fold(&settings)), metrics, Some(ahead))?;
            let door = Door::open(
                system.clone(),
                flags::rules(&settings),
                Clock::system(),
                &flags::door(&settings),
                Arc::clone(&live),
                &data_dir,
            )?;
            let asked_to_stop = asked_to_stop()?;
            actix::spawn(watch(system.clone(), Arc::clone(live.safety()), Clock::system()));
            actix::spawn(heed(live));
            println!(
                "sequor is ready: API http://{}  admin http://{}  data {}",
                door.addresses.api,
                door.addresses.admin,
                data_dir.display()
            );
            supervisor::ready(system.clone(), &format!("API http://{}, admin http://{}", door.addresses.api, door.addresses.admin));
            if self.until_eof {
                tokio::select! {
                    () = asked_to_stop => {}
                    () = input_ended() => {}
                }
            } else {
                asked_to_stop.await;
            }
            supervisor::stopping();
            tracing::info!("stopping: finishing what is under way");
            system.hurry();
            door.close().await;
            let offset = system.rest().await?;
            tracing::info!(offset, "stopped");
            Ok(())
        })
    }
}

/// Sorts the histograms' samples every few seconds: where nobody scrapes they would pile up.
async fn keep_up(metrics: Arc<Metrics>) {
    let mut every = actix::clock::interval(Duration::from_secs(5));
    loop {
        every.tick().await;
        metrics.upkeep();
    }
}

/// Reads the settings again at each SIGHUP.
async fn heed(live: Arc<Live>) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return tracing::warn!("SIGHUP is not listened for") };
    while hangups.recv().await.is_some() {
        match live.reload() {
            Ok(reloaded) => tracing::info!(changed = ?reloaded.changed, waiting = ?reloaded.waiting, "the settings were read again"),
            Err(error) => tracing::error!(error = &*error as &dyn std::error::Error, "the settings stay as they were"),
        }
    }
}

/// Waits for Ctrl-C or SIGTERM, which from the call on no longer end the process by themselves.
pub(super) fn asked_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Waits for the end of standard input. The thread that reads it has nothing to lose, whenever the process ends.
async fn input_ended() {
    let (ended, hears) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        // An input that cannot be read has ended, too.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        drop(ended);
    });
    let _ = hears.await;
}
