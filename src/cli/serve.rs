//! `sequor serve`: the daemon.

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::actors::system::System;
use crate::clock::Clock;
use crate::http::Door;
use crate::metrics;
use crate::settings::Flags;
use crate::store::Store;

/// Arguments of `sequor serve`.
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    flags: Flags,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let settings = self.flags.load()?;
        settings.log.start();
        metrics::install()?;
        actix::System::new().block_on(async move {
            let data_dir = settings.store.data_dir.clone();
            let store = Store::open(&data_dir, &settings.store_options())?;
            let system = System::start(store, settings.system(settings.fold()))?;
            let door = Door::open(system.clone(), settings.rules(), Clock::System, &settings.door(), &data_dir)?;
            println!("sequor is ready: API http://{}  admin http://{}  data {}", door.addresses.api, door.addresses.admin, data_dir.display());
            asked_to_stop().await?;
            tracing::info!("stopping: finishing what is under way");
            door.close().await;
            let offset = system.rest().await?;
            tracing::info!(offset, "stopped");
            Ok(())
        })
    }
}

/// Waits for Ctrl-C or SIGTERM.
async fn asked_to_stop() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
