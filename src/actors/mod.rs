//! The actors of the daemon. Each actor wraps a synchronous core in an address and a mailbox.
//!
//! The path of an event:
//!
//! 1. [`admission`] checks that the queues have room for it.
//! 2. The [`committer`] writes it to the journal, delivers it to the [`shard`] of its user, wakes
//!    the [`learner`] and acknowledges the event.
//! 3. The user's session applies the event. The learner reads the event from the journal.
//!
//! The path of a request for recommendations: [`session_table`] returns a copy of the user's
//! sequence, and [`answering`] ranks items for it on the thread of the request.
//!
//! An acknowledged event is already delivered to its session, so the next recommendation takes it
//! into account. The API of the running [`system`] is in [`handles`].
//!
//! Terms:
//!
//! - **Session record**: the stored state of a user. A **live session** is a session actor in
//!   memory, started from the record. A **flush** stores the records of changed live sessions, once
//!   a second.
//! - **Snapshot**: an immutable copy of the learned state. Requests are answered from the last
//!   snapshot that the learner actor published.
//! - **Watermark**: an offset before which every journal entry is processed (delivered, stored or
//!   learned, for example).
//! - **Journal tail**: the entries after a watermark, which a start or a recovery applies again.
//! - **Derived state**: everything that is computed from the journal, such as session records, item
//!   names and the learned state.
//! - **Restore point**: a stored learned state before or after a rollback.
//! - **Training share**: the share of events on which the model is evaluated and trained.

pub mod admission;
pub mod answering;
pub mod background_worker;
pub mod checkpoint_preload;
pub mod committer;
pub mod deferred_entries;
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
mod sender_activity;
pub mod session;
pub mod session_subscribers;
pub mod session_table;
pub mod shard;
pub mod shutdown;
pub mod state_history;
pub mod system;
pub mod training_exchange;
mod vector_checks;
