//! The tests that look at the project as a whole: its structure, the real binary, its endpoints,
//! its restarts.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod access;
mod alerts;
mod api;
mod bad_input;
mod browser;
mod byte_compatibility;
mod catalog;
mod compaction;
mod consent;
mod crash;
mod daemon;
mod damage;
mod demo;
mod door;
mod erasing;
mod expiring;
mod files;
mod following;
mod full;
mod fuzz;
mod fuzz_http;
mod healing;
mod ledger;
mod looking;
mod merging;
mod metrics;
mod openapi;
mod ops;
mod power;
mod prometheus;
mod pseudonyms;
mod random;
mod readme;
mod replay;
mod restart;
mod retention;
mod segment;
mod settings;
mod steering;
mod supervised;
mod supply;
#[cfg(feature = "otel")]
mod telemetry;
mod tidy;
mod trace;
mod train;
mod upkeep;
mod wire;
