//! Sequor: a real-time recommender daemon. The recommender is also usable as a library.
//!
//! The crate `sequor_core` holds the recommender; its modules are re-exported here: [`domain`],
//! [`registries`], [`simd`], [`nn`], [`candidates`], [`ranking`], [`interest`], [`reports`],
//! [`evaluation`], [`learner`], and [`recommender`], with which to start to embed Sequor.
//!
//! The modules of this crate, from the lowest layer to the highest. A module imports only modules
//! that are listed before it:
//!
//! - [`ingest`]: parses and validates input formats. [`store`]: journal, session records,
//!   checkpoints, backups. [`settings`], [`metrics`], [`telemetry`], [`clock`], [`auth`].
//! - [`cluster`]: several daemons that share one journal.
//! - [`actors`]: the running system: admission, committer, shards, sessions, learner, jobs.
//! - [`services`]: accepting events and recommending items: the rules that the native API and the
//!   Segment API share.
//! - [`http`]: the public API, the admin endpoint and its pages.
//! - [`cli`]: one file per command. [`simulation`]: the made-up shop of `sequor demo` and
//!   `sequor bench`.
pub mod actors;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod http;
pub mod ingest;
pub mod metrics;
pub mod services;
pub mod settings;
pub mod simulation;
pub mod store;
pub mod telemetry;

pub use sequor_core::{
    candidates, domain, evaluation, interest, learner, nn, ranking, recommender, registries, reports, simd,
};
