//! The public API and the admin endpoint: addresses, TLS, API keys, limits and timeouts.

use super::listen_address::deserialize_address;
use super::{InvalidSetting, Period};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Which requests need an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiKeyPolicy {
    /// Only requests to a listener whose address is not a loopback address.
    Auto,
    /// All requests.
    Required,
}

/// The public API and the admin endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerSettings {
    /// Address of the public API: an IP address or a host name, with a port; port 0 selects a free
    /// port.
    #[serde(deserialize_with = "deserialize_address")]
    pub listen: SocketAddr,
    /// Address of the admin endpoint: an IP address or a host name, with a port; port 0 selects a
    /// free port.
    #[serde(deserialize_with = "deserialize_address")]
    pub admin_listen: SocketAddr,
    /// Which requests need an API key.
    pub keys: ApiKeyPolicy,
    /// Certificate chain in PEM; empty: no TLS.
    pub tls_cert: PathBuf,
    /// Private key of the certificate in PEM; empty: no TLS.
    pub tls_key: PathBuf,
    /// Largest number of events and requests per second for each API key, 0..=1,000,000,000; 0:
    /// unlimited. A key can have its own limit.
    pub rate_per_key: u32,
    /// Largest number of events and requests per second for each client address, 0..=1,000,000,000;
    /// 0: unlimited.
    pub rate_per_address: u32,
    /// Host names that a public API without keys accepts, in addition to localhost, IP addresses
    /// and the hosts of `cors_origins`.
    pub api_hosts: Vec<String>,
    /// Host names that the admin endpoint accepts, in addition to localhost and IP addresses.
    pub admin_hosts: Vec<String>,
    /// Origins, such as `https://shop.example`, whose pages can call the public API from a browser;
    /// `*`: any. If the API requires no key, only pages of these origins, of the API's own origin
    /// and of this machine can send events.
    pub cors_origins: Vec<String>,
    /// Threads of the public API, 0..=256; 0: one per processor.
    pub workers: usize,
    /// Largest number of open connections to the public API, 1..=1,000,000. Further connections
    /// wait. The number is rounded down to a multiple of `workers`.
    pub connections_max: usize,
    /// Largest number of connections to the public API per client address (IPv6: per /64),
    /// 0..=1,000,000. Further connections are closed. 0: half of `connections_max`.
    pub connections_per_address: usize,
    /// Largest number of concurrent requests on one HTTP/2 connection, 1..=10,000. Beyond this
    /// limit, requests get 503 with `Retry-After`.
    pub http2_streams_max: usize,
    /// Time limit for receiving the head of a request, 100 ms..=1 h.
    pub head_timeout: Period,
    /// Time limit for receiving the body of a request, 100 ms..=1 h.
    pub body_timeout: Period,
    /// Longest time for which a client may read nothing of a response, 100 ms..=1 h. After this
    /// time, the connection is closed.
    pub write_timeout: Period,
    /// Time after which an idle connection is closed, 100 ms..=1 h.
    pub idle_timeout: Period,
    /// Largest request body in bytes, 1 KiB..=1 GiB, before and after decompression.
    pub max_body_bytes: usize,
    /// Largest number of events in one request, 1..=100,000.
    pub max_batch: usize,
    /// Largest number of events in flight (accepted but not yet acknowledged),
    /// `max_batch`..=16,777,216. Beyond this limit, requests get 503 with `Retry-After`.
    pub max_in_flight_events: usize,
    /// Largest number of journal entries by which the learner may lag, 1024..=1,000,000,000. Beyond
    /// this lag, events are rejected.
    pub max_lag_events: u64,
    /// Longest time that a request may wait for a thread of the API, or that a recommendation
    /// request may wait for the user's session, at least 1 ms; `off`: no limit. After this time,
    /// the request gets 503 with `Retry-After`.
    pub queue_wait: Period,
    /// Longest time that a read with `min_offset` waits, 0 s..=30 s.
    pub read_wait: Period,
    /// Largest number of open recommendation streams, 0..=100,000.
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
            api_hosts: Vec::new(),
            admin_hosts: Vec::new(),
            cors_origins: Vec::new(),
            workers: 0,
            connections_max: 10_000,
            connections_per_address: 0,
            http2_streams_max: 100,
            head_timeout: Period::from_seconds(5),
            body_timeout: Period::from_seconds(30),
            write_timeout: Period::from_seconds(30),
            idle_timeout: Period::from_seconds(5),
            max_body_bytes: 1024 * 1024,
            max_batch: 1000,
            max_in_flight_events: 8192,
            max_lag_events: 20_000,
            queue_wait: Period::from_seconds(2),
            read_wait: Period::from_seconds(1),
            streams_max: 1000,
        }
    }
}

impl ServerSettings {
    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        if self.listen == self.admin_listen && self.listen.port() != 0 {
            return Err(InvalidSetting::new("server.admin_listen", self.admin_listen, "different from server.listen"));
        }
        if let Some(origin) = self.cors_origins.iter().find(|origin| !is_origin(origin)) {
            return Err(InvalidSetting::new(
                "server.cors_origins",
                origin,
                "a list of origins such as https://shop.example, or *",
            ));
        }
        if self.tls_cert.as_os_str().is_empty() != self.tls_key.as_os_str().is_empty() {
            return Err(InvalidSetting::new(
                "server.tls_key",
                self.tls_key.display(),
                "set if and only if server.tls_cert is set",
            ));
        }
        InvalidSetting::check_range("server.rate_per_key", self.rate_per_key, 0..=1_000_000_000)?;
        InvalidSetting::check_range("server.rate_per_address", self.rate_per_address, 0..=1_000_000_000)?;
        for (key, hosts) in [("server.api_hosts", &self.api_hosts), ("server.admin_hosts", &self.admin_hosts)] {
            if let Some(host) = hosts.iter().find(|host| !is_host_name(host)) {
                return Err(InvalidSetting::new(
                    key,
                    host,
                    "a list of host names such as sequor.example, without ports",
                ));
            }
        }
        InvalidSetting::check_range("server.connections_max", self.connections_max, 1..=1_000_000)?;
        InvalidSetting::check_range("server.connections_per_address", self.connections_per_address, 0..=1_000_000)?;
        InvalidSetting::check_range("server.http2_streams_max", self.http2_streams_max, 1..=10_000)?;
        for (key, timeout) in [
            ("server.head_timeout", self.head_timeout),
            ("server.body_timeout", self.body_timeout),
            ("server.write_timeout", self.write_timeout),
            ("server.idle_timeout", self.idle_timeout),
        ] {
            if !(100..=3_600_000).contains(&timeout.as_millis()) {
                return Err(InvalidSetting::new(key, timeout, "100ms to 1h"));
            }
        }
        InvalidSetting::check_range("server.workers", self.workers, 0..=256)?;
        InvalidSetting::check_range("server.max_body_bytes", self.max_body_bytes, 1024..=1024 * 1024 * 1024)?;
        InvalidSetting::check_range("server.max_batch", self.max_batch, 1..=100_000)?;
        InvalidSetting::check_range("server.max_lag_events", self.max_lag_events, 1024..=1_000_000_000)?;
        InvalidSetting::check_range(
            "server.max_in_flight_events",
            self.max_in_flight_events,
            self.max_batch..=1 << 24,
        )?;
        if self.queue_wait.as_millis() < 1 {
            return Err(InvalidSetting::new("server.queue_wait", self.queue_wait, "at least 1ms, or off"));
        }
        if self.read_wait.as_millis() > 30_000 {
            return Err(InvalidSetting::new("server.read_wait", self.read_wait, "0s to 30s"));
        }
        InvalidSetting::check_range("server.streams_max", self.streams_max, 0..=100_000)
    }
}

/// Whether a text has the form of a host name.
fn is_host_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

/// Whether a text is `*` or an origin: scheme, host and an optional port.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    text == "*"
        || host.is_some_and(|host| {
            !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
        })
}
