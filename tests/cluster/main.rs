//! Several daemons on one replicated log: real `nats-server` processes, real daemons, and faults of
//! both.
//!
//! The tests need the binary `nats-server`, which `tests/run` downloads. Without this binary, they
//! report that they are skipped.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is a test failure")]

mod alerts;
mod checker;
mod cluster_daemons;
mod configuration;
mod cut_off;
#[expect(dead_code, reason = "the integration tests use the other helpers")]
#[path = "../integration/daemon.rs"]
mod daemon;
mod divergence;
mod erasure;
mod faults;
mod history;
mod joining;
#[expect(dead_code, reason = "the integration tests use the other helpers")]
#[path = "../integration/journal_dump.rs"]
mod journal_dump;
mod load;
mod log_messages;
mod lost_tail;
mod nats_connection;
mod nats_servers;
#[expect(dead_code, reason = "the integration tests use the other helpers")]
#[path = "../integration/prometheus.rs"]
mod prometheus;
#[expect(dead_code, reason = "the integration tests use the other helpers")]
#[path = "../integration/random.rs"]
mod random;
mod roles;
mod rounds;
mod server_faults;
mod snapshots;
mod tcp_proxy;
mod versions;
