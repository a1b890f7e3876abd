//! The thread that keeps the connection to the queue, serves the metrics, and waits for signals.

use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::{Context, bail};
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::consume_metrics::ConsumeMetrics;

/// The exit code after a second interrupt.
const INTERRUPTED_EXIT_CODE: i32 = 130;

/// An event loop on a thread of its own. It ends with the process.
pub(super) struct BackgroundLoop {
    handle: Handle,
    is_stopping: Arc<AtomicBool>,
    answer_limit: Duration,
}

impl BackgroundLoop {
    /// Starts the loop. With an address, it serves the metrics over HTTP. `answer_limit` is the
    /// longest time that the queue has for an answer.
    pub(super) fn start(
        address: Option<SocketAddr>,
        metrics: Arc<ConsumeMetrics>,
        answer_limit: Duration,
    ) -> anyhow::Result<Self> {
        let listen = |address: SocketAddr| {
            TcpListener::bind(address).with_context(|| format!("cannot listen on --metrics-addr {address}"))
        };
        let listener = address.map(listen).transpose()?;
        if let Some(listener) = &listener {
            eprintln!("metrics: http://{}/metrics", listener.local_addr()?);
        }
        let is_stopping = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = sync_channel(1);
        let stopping = Arc::clone(&is_stopping);
        let run = move || {
            actix::System::new().block_on(async move {
                actix::spawn(stop_on_signals(stopping));
                let server = listener.map(|listener| serve_metrics(listener, metrics));
                let started = server.transpose().map(|_| Handle::current());
                if sender.send(started).is_ok() {
                    std::future::pending::<()>().await;
                }
            });
        };
        std::thread::Builder::new().name("consume".to_owned()).spawn(run)?;
        let handle = receiver.recv().context("the background thread has failed")??;
        Ok(Self { handle, is_stopping, answer_limit })
    }

    /// Runs a request to the queue on the loop, and waits for its answer.
    ///
    /// # Errors
    /// If the request fails, or there is no answer within the limit.
    pub(super) fn ask<T>(&self, request: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let limit = self.answer_limit;
        self.handle.block_on(async { timeout(limit, request).await }).unwrap_or_else(|_| {
            bail!("no answer within {limit:?}; check the address, and whether the server expects TLS")
        })
    }

    /// Whether a signal asked the command to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }
}

fn serve_metrics(listener: TcpListener, metrics: Arc<ConsumeMetrics>) -> anyhow::Result<()> {
    let server = HttpServer::new(move || {
        let metrics = Arc::clone(&metrics);
        let respond = move || {
            let text = metrics.to_prometheus_text();
            async { HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text) }
        };
        App::new().route("/metrics", web::get().to(respond))
    });
    actix::spawn(server.workers(1).disable_signals().listen(listener)?.run());
    Ok(())
}

/// After the first interrupt, the command ends with the current batch; after the second, at once.
/// Messages that are not acknowledged are delivered again, so nothing is lost.
async fn stop_on_signals(is_stopping: Arc<AtomicBool>) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if is_stopping.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED_EXIT_CODE);
        }
        eprintln!("stopping after the current batch; interrupt again to stop at once");
    }
}
