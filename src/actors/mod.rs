//! The shells: each holds an address, a mailbox and a pure core. No mathematics here.
//!
//! An event goes one way: the [`gate`] admits it, the [`committer`] makes it durable, hands it to the [`shard`] of its user, acknowledges it and wakes
//! the [`model`] actor, which reads the journal. Nothing asks back: an acknowledged event has already been put before its session, so that the answer
//! which follows knows of it.

pub mod ahead;
pub mod catalog;
pub mod committer;
pub mod eraser;
pub mod expirer;
pub mod gate;
pub mod guard;
pub mod model;
pub mod origin;
pub mod past;
pub mod pulse;
pub mod session;
pub mod shard;
pub mod stored;
pub mod system;
pub mod upkeep;
pub mod watchdog;
pub mod worker;
