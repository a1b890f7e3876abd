//! A server for HTTP/1.1 and HTTP/2, with or without TLS, whose connections have bounded memory.
//!
//! The server works like `HttpServer` of actix-web, with two differences. It limits the time for
//! which a client may stop reading a response. It processes the requests of an HTTP/1.1 connection
//! one at a time: further requests stay unread until the response is complete.
//!
//! Imports point down this list.
//!
//! - `mod`: opens the server and its connections.
//! - `requests`: counts the requests of a connection and divides their responses into parts.
//! - `connection`: reads and writes the bytes of a connection, within its limits.
//! - `activity`: the progress of a connection's requests.
//! - `request_scanner`: divides the bytes of a connection into heads and bodies.
//! - `request_body`: finds the end of a request's body.
//! - `address_share`: counts the connections of each client address.
//! - `limits`: threads, limits and timeouts.

mod activity;
mod address_share;
mod connection;
mod limits;
mod request_body;
mod request_scanner;
mod requests;

use actix_http::body::MessageBody;
use actix_http::{HttpService, Protocol, Request, Response};
use actix_server::Server;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, apply_fn_factory, fn_service, map_config,
};
use actix_web::dev::AppConfig;
use actix_web::rt::net::TcpStream;
use actix_web::rt::time::timeout;
use actix_web::{Error, error::DispatchError};
use metrics::Counter;
use rustls::ServerConfig;
use std::fmt::Debug;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

pub(in crate::http) use self::activity::ClientWatch;
use self::address_share::AddressConnectionCounts;
use self::connection::{Connection, Transport};
pub(in crate::http) use self::limits::ConnectionLimits;

/// The first bytes of an HTTP/2 connection [RFC 9113, section 3.4].
const HTTP2_PREFACE: &[u8; 12] = b"PRI * HTTP/2";
/// The protocol name of HTTP/2 over TLS [RFC 9113, section 3.2].
const HTTP2_PROTOCOL_NAME: &[u8] = b"h2";

/// Counters of the connections that a server closes because of a limit.
#[derive(Clone)]
pub(in crate::http) struct ConnectionCounters {
    /// Connections that were refused because their client address had too many.
    pub(in crate::http) refused: Counter,
    /// Connections whose client stopped reading a response for longer than the time limit.
    pub(in crate::http) stalled: Counter,
}

/// Turns accepted TCP streams into connections of a server.
#[derive(Clone)]
struct ConnectionOpener {
    limits: ConnectionLimits,
    share: Arc<AddressConnectionCounts>,
    tls: Option<TlsAcceptor>,
    counters: ConnectionCounters,
}

/// Serves an actix-web app on a TCP listener.
///
/// # Errors
/// If the listener cannot be used.
pub(in crate::http) fn serve<F, I, S, B>(
    listener: TcpListener,
    limits: ConnectionLimits,
    tls: Option<ServerConfig>,
    counters: ConnectionCounters,
    app: F,
) -> io::Result<Server>
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
    let share = Arc::new(AddressConnectionCounts::new(limits.max_connections_per_address));
    let opener = ConnectionOpener { limits, share, tls: tls.map(tls_acceptor), counters };
    let server = builder.listen(format!("sequor-{address}"), listener, move || {
        let (stopping, opener) = (stopping.clone(), opener.clone());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(limits.idle_timeout)
            .client_request_timeout(limits.head_timeout)
            .local_addr(address)
            .on_connect_ext(|connection: &Connection, data| {
                data.insert(connection.activity());
            });
        let app = app().into_factory().map_err(|error| error.into().error_response());
        let app = apply_fn_factory(map_config(app, |()| AppConfig::default()), requests::call_counted);
        fn_service(move |stream: TcpStream| opener.clone().open_connection(stream)).and_then(http.finish(app))
    })?;
    Ok(server.run())
}

/// The acceptor of TLS connections, which prefers HTTP/2 to HTTP/1.1.
fn tls_acceptor(mut config: ServerConfig) -> TlsAcceptor {
    config.alpn_protocols = vec![HTTP2_PROTOCOL_NAME.to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

impl ConnectionOpener {
    /// Opens a connection and determines its protocol. The first bytes of a connection without TLS,
    /// or the TLS handshake, must arrive within the time limit of a request head.
    async fn open_connection(
        self,
        stream: TcpStream,
    ) -> Result<(Connection, Protocol, Option<SocketAddr>), DispatchError> {
        let peer = stream.peer_addr().ok();
        let Ok(place) = peer.map(|peer| self.share.admit(peer.ip())).transpose() else {
            self.counters.refused.increment(1);
            return Err(DispatchError::Io(io::ErrorKind::ConnectionRefused.into()));
        };
        let limit = self.limits.head_timeout;
        let opening = async {
            match &self.tls {
                None => detect_protocol(stream).await,
                Some(acceptor) => {
                    let stream = acceptor.accept(stream).await?;
                    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2_PROTOCOL_NAME);
                    let protocol = if is_http2 { Protocol::Http2 } else { Protocol::Http1 };
                    Ok((Transport::Tls(Box::new(stream)), protocol))
                }
            }
        };
        let (transport, protocol) = timeout(limit, opening).await.map_err(|_| DispatchError::SlowRequestTimeout)??;
        let is_http2 = protocol == Protocol::Http2;
        Ok((Connection::new(transport, is_http2, self.limits, place, self.counters.stalled), protocol, peer))
    }
}

/// Waits for the first bytes of a connection without TLS. A connection that begins with the HTTP/2
/// preface uses HTTP/2.
async fn detect_protocol(stream: TcpStream) -> io::Result<(Transport, Protocol)> {
    let mut first = [0; HTTP2_PREFACE.len()];
    stream.peek(&mut first).await?;
    let protocol = if first == *HTTP2_PREFACE { Protocol::Http2 } else { Protocol::Http1 };
    Ok((Transport::Plain(stream), protocol))
}
