//! A server that speaks HTTP/1.1 and, to who begins with its preface, HTTP/2: without TLS.
//!
//! It is `HttpServer::listen_auto_h2c` of actix-web with a bound on the wait for the first bytes,
//! so that a silent client cannot hold a connection for ever.

use actix_http::body::MessageBody;
use actix_http::{HttpService, Protocol, Request, Response};
use actix_server::Server;
use actix_service::{IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::rt::net::TcpStream;
use actix_web::rt::time::timeout;
use actix_web::{Error, error::DispatchError};
use std::fmt::Debug;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// What a connection that is to be HTTP/2 begins with [RFC 9113, 3.4].
const PREFACE: &[u8; 12] = b"PRI * HTTP/2";

/// How many serve, and how long is waited for whom.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct ConnectionLimits {
    pub(in crate::http) workers: usize,
    /// Of one worker.
    pub(in crate::http) max_connections_per_worker: usize,
    pub(in crate::http) head_timeout: Duration,
    pub(in crate::http) idle_timeout: Duration,
    /// For answers under way at a stop, in seconds.
    pub(in crate::http) shutdown_timeout_seconds: u64,
}

/// Serves an app on a listener.
///
/// # Errors
/// If the listener cannot be used.
pub(in crate::http) fn serve<F, I, S, B>(listener: TcpListener, bounds: ConnectionLimits, app: F) -> io::Result<Server>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    let address = listener.local_addr()?;
    let builder = Server::build()
        .workers(bounds.workers)
        .max_concurrent_connections(bounds.max_connections_per_worker)
        .disable_signals()
        .shutdown_timeout(bounds.shutdown_timeout_seconds);
    let stopping = builder.graceful_shutdown_signal();
    let server = builder.listen(format!("sequor-{address}"), listener, move || {
        let stopping = stopping.clone();
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(bounds.idle_timeout)
            .client_request_timeout(bounds.head_timeout)
            .local_addr(address);
        let app = app().into_factory().map_err(|error| error.into().error_response());
        let http = http.finish(map_config(app, |()| AppConfig::default()));
        fn_service(move |stream: TcpStream| first_bytes(stream, bounds.head_timeout)).and_then(http)
    })?;
    Ok(server.run())
}

/// Waits for the first bytes and looks what is spoken.
async fn first_bytes(stream: TcpStream, patience: Duration) -> Result<(TcpStream, Protocol, Option<SocketAddr>), DispatchError> {
    let mut begin = [0; PREFACE.len()];
    let peeked = timeout(patience, stream.peek(&mut begin)).await;
    peeked.map_err(|_| DispatchError::SlowRequestTimeout)??;
    let protocol = if begin == *PREFACE { Protocol::Http2 } else { Protocol::Http1 };
    let peer = stream.peer_addr().ok();
    Ok((stream, protocol, peer))
}
