//! The doors: who may come in, how much and how long.

use super::{InvalidSetting, Period};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Who must send a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiKeyPolicy {
    /// Whoever comes to an address that another machine can reach.
    Auto,
    /// Everybody.
    Required,
}

/// The public API and the admin endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Where the public API listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the admin endpoint listens; port 0 takes a free one.
    pub admin_listen: SocketAddr,
    /// Who must send a key: whoever comes to an address that is not a loopback one, or everybody.
    pub keys: ApiKeyPolicy,
    /// The certificate, and those that lead to a known authority, in PEM; empty: no TLS.
    pub tls_cert: PathBuf,
    /// The certificate's private key, in PEM; empty: no TLS.
    pub tls_key: PathBuf,
    /// Events and questions a second that one key may bring, 0..=1,000,000,000; 0: any number. A key may have a limit of its own.
    pub rate_per_key: u32,
    /// Events and questions a second that may come from one address, 0..=1,000,000,000; 0: any number.
    pub rate_per_address: u32,
    /// Names by which the admin endpoint may be asked for, beside localhost and addresses.
    pub admin_hosts: Vec<String>,
    /// The origins, such as `https://shop.example`, whose pages may ask the public API from a browser; `*`: any.
    pub cors_origins: Vec<String>,
    /// Threads that serve the public API, 0..=256; 0: one a processor.
    pub workers: usize,
    /// The most connections to the public API at once, 1..=1,000,000; further ones wait until one is closed.
    pub connections_max: usize,
    /// How long the head of a request may take, 100 ms..=1 h.
    pub head_timeout: Period,
    /// How long the body of a request may take, 100 ms..=1 h.
    pub body_timeout: Period,
    /// How long a connection stays open without a request, 100 ms..=1 h.
    pub idle_timeout: Period,
    /// The largest body of a request, in bytes, 1 KiB..=1 GiB, before and after it is unpacked.
    pub max_body_bytes: usize,
    /// The most events in one request, 1..=100,000.
    pub max_batch: usize,
    /// The most events taken in and not yet acknowledged, at least `max_batch` and at most 16,777,216; beyond it requests are told to come back later.
    pub max_in_flight_events: usize,
    /// How long a read waits at most until what it wants with `min_offset` is learned, 0 s..=30 s.
    pub read_wait: Period,
    /// The most streams of recommendations at once, 0..=100,000.
    pub streams_max: usize,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
            keys: ApiKeyPolicy::Auto,
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
            rate_per_key: 0,
            rate_per_address: 0,
            admin_hosts: Vec::new(),
            cors_origins: Vec::new(),
            workers: 0,
            connections_max: 10_000,
            head_timeout: Period::seconds(5),
            body_timeout: Period::seconds(30),
            idle_timeout: Period::seconds(5),
            max_body_bytes: 1024 * 1024,
            max_batch: 1000,
            max_in_flight_events: 8192,
            read_wait: Period::seconds(1),
            streams_max: 1000,
        }
    }
}

impl ServerSettings {
    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        if self.listen == self.admin_listen && self.listen.port() != 0 {
            return Err(InvalidSetting::new("server.admin_listen", self.admin_listen, "another address than server.listen"));
        }
        if let Some(origin) = self.cors_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(InvalidSetting::new("server.cors_origins", origin, "a list of origins such as https://shop.example, or *"));
        }
        if self.tls_cert.as_os_str().is_empty() != self.tls_key.as_os_str().is_empty() {
            return Err(InvalidSetting::new("server.tls_key", self.tls_key.display(), "set where server.tls_cert is, and only there"));
        }
        InvalidSetting::check_range("server.rate_per_key", self.rate_per_key, 0..=1_000_000_000)?;
        InvalidSetting::check_range("server.rate_per_address", self.rate_per_address, 0..=1_000_000_000)?;
        if let Some(host) = self.admin_hosts.iter().find(|host| !is_host(host)) {
            return Err(InvalidSetting::new("server.admin_hosts", host, "a list of names such as sequor.example, without ports"));
        }
        InvalidSetting::check_range("server.connections_max", self.connections_max, 1..=1_000_000)?;
        for (key, timeout) in [
            ("server.head_timeout", self.head_timeout),
            ("server.body_timeout", self.body_timeout),
            ("server.idle_timeout", self.idle_timeout),
        ] {
            if !(100..=3_600_000).contains(&timeout.as_millis()) {
                return Err(InvalidSetting::new(key, timeout, "100ms to 1h"));
            }
        }
        InvalidSetting::check_range("server.workers", self.workers, 0..=256)?;
        InvalidSetting::check_range("server.max_body_bytes", self.max_body_bytes, 1024..=1024 * 1024 * 1024)?;
        InvalidSetting::check_range("server.max_batch", self.max_batch, 1..=100_000)?;
        InvalidSetting::check_range("server.max_in_flight_events", self.max_in_flight_events, self.max_batch..=1 << 24)?;
        if self.read_wait.as_millis() > 30_000 {
            return Err(InvalidSetting::new("server.read_wait", self.read_wait, "0s to 30s"));
        }
        InvalidSetting::check_range("server.streams_max", self.streams_max, 0..=100_000)
    }
}

/// Whether a text is the name of a machine.
fn is_host(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

/// Whether a text is `*`, or a scheme and a host, perhaps with a port, as browsers write them.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    text == "*"
        || host.is_some_and(|host| !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte)))
}
