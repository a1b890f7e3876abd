//! Connects to the NATS servers.

use crate::cluster::config::NodeConfig;
use crate::cluster::error::JoinError;
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event};
use std::time::Duration;

/// The longest time of one attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest time of a request to a server.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// The time between two pings. After three unanswered ones, the client connects to another server.
const PING_INTERVAL: Duration = Duration::from_secs(2);
/// The number of attempts to connect at the start, and the time between two of them.
const START_ATTEMPTS: u32 = 10;
const START_PAUSE: Duration = Duration::from_secs(1);
/// The longest time between two attempts to connect again.
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// The first line of a credentials file of NATS.
const CREDENTIALS_HEAD: &str = "-----BEGIN NATS USER JWT-----";

/// Connects to one of the servers. Tries again for some seconds, because the servers may be
/// starting, too. Later, the client reconnects by itself.
///
/// # Errors
/// [`JoinError`] if no server accepts the connection.
pub(super) async fn connect(config: &NodeConfig) -> Result<Client, JoinError> {
    let mut attempt = 1;
    loop {
        let connected = connect_options(config)?.connect(config.servers.as_slice()).await;
        let error = match connected {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        if is_refusal(&error) || attempt >= START_ATTEMPTS {
            return Err(to_join_error(config, &error));
        }
        attempt += 1;
        tokio::time::sleep(START_PAUSE).await;
    }
}

/// Whether the error remains however often the client tries again.
fn is_refusal(error: &ConnectError) -> bool {
    use ConnectErrorKind::{Authentication, AuthorizationViolation, ServerParse, Tls};
    matches!(error.kind(), Authentication | AuthorizationViolation | ServerParse | Tls)
}

fn to_join_error(config: &NodeConfig, error: &ConnectError) -> JoinError {
    let (servers, reason) = (config.servers.join(", "), describe(error));
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            JoinError::Credentials { servers, credentials: config.credentials.clone(), reason }
        }
        _ => JoinError::Unreachable { servers, reason },
    }
}

/// An error with its causes.
pub(in crate::cluster) fn describe(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(source) = cause {
        let message = source.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = source.source();
    }
    text
}

fn connect_options(config: &NodeConfig) -> Result<ConnectOptions, JoinError> {
    let mut options = ConnectOptions::new()
        .name(format!("sequor {} {}", config.cluster, config.node))
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(PING_INTERVAL)
        .reconnect_delay_callback(|attempts| {
            let pause = Duration::from_millis(50 * u64::try_from(attempts).unwrap_or(u64::MAX).min(1_000));
            pause.min(MAX_RECONNECT_PAUSE)
        })
        .event_callback(async |event| log_event(&event));
    if let Some(file) = &config.tls_ca {
        let key = "cluster.tls_ca";
        std::fs::metadata(file).map_err(|error| file_error(key, file, error.to_string()))?;
        options = options.add_root_certificates(file.clone());
    }
    let Some(file) = &config.credentials else { return Ok(options) };
    let key = "cluster.credentials";
    let text = std::fs::read_to_string(file).map_err(|error| file_error(key, file, error.to_string()))?;
    if text.contains(CREDENTIALS_HEAD) {
        return options.credentials(&text).map_err(|error| file_error(key, file, error.to_string()));
    }
    let reason = "must contain NATS credentials, or one line `user:password`";
    let (user, password) = text.trim_end().split_once(':').ok_or_else(|| file_error(key, file, reason.to_owned()))?;
    Ok(options.user_and_password(user.to_owned(), password.to_owned()))
}

fn file_error(key: &'static str, file: &std::path::Path, reason: String) -> JoinError {
    JoinError::File { key, file: file.to_owned(), reason }
}

fn log_event(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to a server of the cluster"),
        Event::Disconnected => tracing::warn!("the connection to the cluster's server was lost"),
        Event::LameDuckMode => tracing::info!("the cluster's server is shutting down"),
        Event::SlowConsumer(_) | Event::Draining | Event::Closed => {}
        Event::ServerError(error) => tracing::warn!(%error, "the cluster's server reports an error"),
        Event::ClientError(error) => tracing::warn!(%error, "the client of the cluster's servers reports an error"),
    }
}
