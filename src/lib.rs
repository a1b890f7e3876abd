//! Sequor: a real-time recommender daemon. The recommender is also usable as a library.
//!
//! The modules, from the lowest layer to the highest. A module imports only modules that are listed
//! before it:
//!
//! - [`domain`]: plain data: events, items, sequences, journal entries.
//! - [`registries`]: tables with one writer and many readers: item numbers, aliases, consents.
//! - [`nn`]: the network: cells, embeddings, losses, optimisers.
//! - [`candidates`]: candidate generation from transitions, similar sessions, trending items, item
//!   clusters, …
//! - [`ranking`]: features and the online ranker.
//! - [`interest`]: online regression of the value (for example the rating) of a user, item and time.
//! - [`reports`]: reports that are computed from the journal: what recommendations earn.
//! - [`evaluation`]: Recall@k, MRR@k, NDCG@k.
//! - [`learner`]: the online learner, which tests the model on each event and then trains on the
//!   event; also recommendations from the model, and offline training.
//! - [`recommender`]: all of the above as a library, without actors, store or HTTP. **Start here to
//!   embed Sequor.**
//! - [`ingest`]: parses and validates input formats. [`store`]: journal, session records,
//!   checkpoints, backups. [`settings`], [`metrics`], [`telemetry`], [`clock`], [`auth`],
//!   [`simd`].
//! - [`cluster`]: several daemons that share one journal.
//! - [`actors`]: the running system: admission, committer, shards, sessions, learner, jobs.
//! - [`services`]: accepting events and recommending items: the rules that the native API and the
//!   Segment API share.
//! - [`http`]: the public API, the admin endpoint and its pages.
//! - [`cli`]: one file per command. [`simulation`]: the made-up shop of `sequor demo` and
//!   `sequor bench`.
pub mod actors;
pub mod auth;
pub mod candidates;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod domain;
pub mod evaluation;
pub mod http;
pub mod ingest;
pub mod interest;
pub mod learner;
pub mod metrics;
pub mod nn;
pub mod ranking;
pub mod recommender;
pub mod registries;
pub mod reports;
pub mod services;
pub mod settings;
pub mod simd;
pub mod simulation;
pub mod store;
pub mod telemetry;
