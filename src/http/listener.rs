//! A server for HTTP/1.1 and HTTP/2 without TLS. A connection that begins with the HTTP/2 preface
//! uses HTTP/2.
//!
//! It works like `HttpServer::listen_auto_h2c` of actix-web, with a time limit for the first bytes,
//! so that a silent client cannot hold a connection forever.

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

/// The first bytes of an HTTP/2 connection [RFC 9113, section 3.4].
const PREFACE: &[u8; 12] = b"PRI * HTTP/2";

/// Threads, connection limits and timeouts of a server.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct ConnectionLimits {
    pub(in crate::http) workers: usize,
    /// Largest number of connections per worker.
    pub(in crate::http) max_connections_per_worker: usize,
    pub(in crate::http) head_timeout: Duration,
    pub(in crate::http) idle_timeout: Duration,
    /// Time limit for open requests at shutdown, in seconds.
    pub(in crate::http) shutdown_timeout_seconds: u64,
}

/// Serves an app on a listener.
///
/// # Errors
/// If the listener cannot be used.
pub(in crate::http) fn serve<F, I, S, B>(listener: TcpListener, limits: ConnectionLimits, app: F) -> io::Result<Server>
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
        .workers(limits.workers)
        .max_concurrent_connections(limits.max_connections_per_worker)
        .disable_signals()
        .shutdown_timeout(limits.shutdown_timeout_seconds);
    let stopping = builder.graceful_shutdown_signal();
    let server = builder.listen(format!("sequor-{address}"), listener, move || {
        let stopping = stopping.clone();
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(limits.idle_timeout)
            .client_request_timeout(limits.head_timeout)
            .local_addr(address);
        let app = app().into_factory().map_err(|error| error.into().error_response());
        let http = http.finish(map_config(app, |()| AppConfig::default()));
        fn_service(move |stream: TcpStream| detect_protocol(stream, limits.head_timeout)).and_then(http)
    })?;
    Ok(server.run())
}

/// Waits for the first bytes and determines the protocol.
async fn detect_protocol(stream: TcpStream, limit: Duration) -> Result<(TcpStream, Protocol, Option<SocketAddr>), DispatchError> {
    let mut first = [0; PREFACE.len()];
    let peeked = timeout(limit, stream.peek(&mut first)).await;
    peeked.map_err(|_| DispatchError::SlowRequestTimeout)??;
    let protocol = if first == *PREFACE { Protocol::Http2 } else { Protocol::Http1 };
    let peer = stream.peer_addr().ok();
    Ok((stream, protocol, peer))
}
