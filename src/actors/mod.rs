//! The actors of the daemon. Each actor wraps a synchronous core in an address and a mailbox.
//!
//! The path of an event:
//!
//! 1. [`admission`] checks that the queues have room for it.
//! 2. The [`committer`] writes it to the journal, delivers it to the [`shard`] of its user, wakes
//!    the [`learner`] and acknowledges the event.
//! 3. The user's session applies the event. The learner reads the event from the journal.
//!
//! An acknowledged event is already delivered to its session, so the next recommendation takes it
//! into account. The API of the running [`system`] is in [`handles`].

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
pub mod shutdown;
pub mod state_history;
pub mod system;
