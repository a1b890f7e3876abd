//! Threads, limits and timeouts of a server.

use std::time::Duration;

/// Threads, connection limits and timeouts of a server.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct ConnectionLimits {
    pub(in crate::http) workers: usize,
    /// Largest number of connections per worker.
    pub(in crate::http) max_connections_per_worker: usize,
    /// Largest number of connections per client address.
    pub(in crate::http) max_connections_per_address: usize,
    /// Largest number of requests in progress per HTTP/2 connection.
    pub(in crate::http) max_streams: usize,
    pub(in crate::http) head_timeout: Duration,
    pub(in crate::http) idle_timeout: Duration,
    /// Longest time for which a client may stop reading a response.
    pub(in crate::http) write_timeout: Duration,
    /// Longest time that a shutdown waits for open requests, in seconds.
    pub(in crate::http) shutdown_timeout_seconds: u64,
}
