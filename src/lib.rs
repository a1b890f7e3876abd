//! Sequor: a real-time recommender daemon. The recommender is also usable as a library.
//!
//! A tour from the bottom up. A module imports only modules that are listed before it:
//!
//! - [`domain`]: plain data: events, items, sequences, journal entries.
//! - [`registries`]: tables with one writer and many readers: item numbers, aliases, consents.
//! - [`nn`]: the network: cells, embeddings, losses, optimisers.
//! - [`candidates`]: candidate generation: clusters, transitions, neighbours, trending items, ….
//! - [`ranking`]: features and the online ranker.
//! - [`evaluation`]: Recall@k, MRR@k, NDCG@k.
//! - [`learner`]: applies the journal: tests on each event, then trains on it; serving and offline
//!   training.
//! - [`recommender`]: all of the above as a library, without actors, store or HTTP. **Start here to
//!   embed Sequor.**
//! - [`ingest`]: input formats to events. [`store`]: journal, session records, checkpoints,
//!   backups. [`settings`], [`metrics`], [`telemetry`], [`clock`], [`auth`].
//! - [`actors`]: the running system: admission, committer, shards, sessions, learner, jobs.
//! - [`services`]: ingest and recommendation: the decisions that the HTTP API and Segment share.
//! - [`http`]: the public API, the admin endpoint and its pages.
//! - [`cli`]: one file per command. [`simulation`]: the made-up shop of `sequor demo` and
//!   `sequor bench`.
pub mod actors;
pub mod auth;
pub mod candidates;
pub mod cli;
pub mod clock;
pub mod domain;
pub mod evaluation;
pub mod http;
pub mod ingest;
pub mod learner;
pub mod metrics;
pub mod nn;
pub mod ranking;
pub mod recommender;
pub mod registries;
pub mod services;
pub mod settings;
pub mod simulation;
pub mod store;
pub mod telemetry;
