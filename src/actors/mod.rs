//! The shells: each holds an address, a mailbox and a pure core. No mathematics here.
//!
//! An event goes one way: the [`admission`] admits it, the [`committer`] makes it durable, hands it
//! to the [`shard`] of its user, acknowledges it and wakes the [`learner`] actor, which reads the
//! journal. Nothing asks back: an acknowledged event has already been put before its session, so
//! that the answer which follows knows of it.

pub mod admission;
pub mod background_worker;
pub mod checkpoint_preload;
pub mod committer;
pub mod erasure_progress;
pub mod error;
pub mod flush_progress;
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
