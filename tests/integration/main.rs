//! The tests that look at the project as a whole: its structure, the real binary, its endpoints, its restarts.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod api;
mod bad_input;
mod browser;
mod catalog;
mod compaction;
mod crash;
mod daemon;
mod damage;
mod demo;
mod files;
mod full;
mod fuzz;
mod healing;
mod ledger;
mod looking;
mod metrics;
mod ops;
mod power;
mod prometheus;
mod random;
mod readme;
mod replay;
mod restart;
mod retention;
mod settings;
mod steering;
mod supervised;
mod tidy;
mod trace;
mod train;
mod upkeep;
