//! Tests of the client with the real daemon.
//!
//! The environment variable `SEQUOR_BINARY` names the daemon. Without it, the tests are skipped.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is a test failure")]

mod buffer;
mod harness;
mod kill;
mod shared_cases;
mod stream;
