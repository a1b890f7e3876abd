//! Actors: thin shells that give a pure core an address and a mailbox.
//!
//! An event flows one way. [`admission`] admits it, and the [`committer`] writes it to the journal,
//! delivers it to the [`shard`] of its user, acknowledges it and notifies the [`learner`], which
//! reads the journal. An acknowledged event has already been delivered to its session, so the next
//! recommendation takes it into account. [`handles`] are the API of the running [`system`].

pub mod admission;
pub mod background_worker;
pub mod checkpoint_preload;
pub mod committer;
pub mod erasure_progress;
pub mod error;
pub mod flush_progress;
pub mod handles;
pub mod jobs;
pub mod learner;
pub mod live_catalog;
pub mod liveness;
pub mod panic_guard;
pub mod pretrained;
pub mod session;
pub mod shard;
pub mod state_history;
pub mod system;
