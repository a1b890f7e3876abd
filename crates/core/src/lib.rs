//! The recommender of Sequor as a library, without actors, store or HTTP. The crate `sequor`, which
//! contains the daemon, re-exports its modules.
//!
//! The modules, from the lowest layer to the highest. A module imports only modules that are listed
//! before it:
//!
//! - [`domain`]: plain data: events, items, sequences, journal entries.
//! - [`registries`]: tables with one writer and many readers: item numbers, aliases, consents.
//! - [`simd`]: selects the vector instructions of the numeric kernels.
//! - [`nn`]: the network: cells, embeddings, losses, optimisers.
//! - [`candidates`]: candidate generation from transitions, similar sessions, trending items, item
//!   clusters, …
//! - [`ranking`]: features and the online ranker.
//! - [`interest`]: online regression of the value (for example the rating) of a user, item and time.
//! - [`reports`]: reports that are computed from the journal: what recommendations earn.
//! - [`evaluation`]: Recall@k, MRR@k, NDCG@k.
//! - [`learner`]: the online learner, which tests the model on each event and then trains on the
//!   event; also recommendations from the model, and offline training.
//! - [`recommender`]: all of the above behind one type. **Start here to embed Sequor.**
pub mod candidates;
pub mod domain;
pub mod evaluation;
pub mod interest;
pub mod learner;
pub mod nn;
pub mod ranking;
pub mod recommender;
pub mod registries;
pub mod reports;
pub mod simd;
