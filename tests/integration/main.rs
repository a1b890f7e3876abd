//! The tests that look at the project as a whole: its structure, the real binary, its endpoints,
//! its restarts.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod actor_recovery;
mod admin_inspection;
mod alerts;
mod api;
mod api_keys;
mod bad_input;
mod browser;
mod byte_compatibility;
mod catalog;
mod catch_up;
mod compaction;
mod compressed_bodies;
mod consent;
mod crash;
mod daemon;
mod data_maintenance;
mod demo_and_bench;
mod dependency_policy;
mod disk_full;
mod erasure;
mod event_retention;
mod fuzz;
mod fuzz_http;
mod http_protocol;
mod import_cycles;
mod journal_dump;
mod journal_retention;
mod metrics;
mod model_control;
mod openapi;
mod ops_assets;
mod power_loss;
mod prometheus;
mod pseudonyms;
mod random;
mod read_your_writes;
mod readme;
mod replay;
mod restart;
mod segment;
mod server_limits;
mod settings;
mod store_damage;
mod syscall_trace;
mod systemd_notify;
mod tail_and_import;
#[cfg(feature = "otel")]
mod telemetry;
mod tidy;
mod train;
mod user_merge;
