//! Cluster mode: several daemons that share one journal.
//!
//! All nodes apply the same messages of a shared log in the same order. The journal is a function of
//! these messages, and everything else is a function of the journal, so all nodes end with the same
//! bytes.
//!
//! - [`shared_log`]: the log as the nodes see it; `jetstream`: its implementation with NATS
//!   JetStream.
//! - [`message`]: the bytes of a message; [`grouping`]: requests that share a message.
//! - `publisher`, `follower`: write and read the log.
//! - `registry`: the reports of the nodes; `chain_history` and `state_comparison`: compare their
//!   journals and learned states; `watcher`: does this every second.
//! - `agreed_values`: numbers on which the nodes agree; `lease`: jobs that one node does for all.
//! - `snapshots`: backups in the object store of the servers, from which nodes join.
//! - `training_results`: trained weights, which one node publishes for the others.
//! - `member`: joins the cluster and runs these parts on a thread.
//! - `marker`: the cluster to which a data directory belongs.
//!
//! The embedded mode needs no shared log: its committer writes the requests to the journal directly.

mod agreed_values;
mod chain_history;
mod committer_link;
mod config;
mod error;
mod follower;
pub mod grouping;
mod jetstream;
mod lease;
mod marker;
mod member;
mod member_status;
#[cfg(test)]
mod memory_log;
pub mod message;
mod node_report;
mod publisher;
mod registry;
pub mod shared_log;
mod snapshots;
mod state_comparison;
#[cfg(test)]
mod tests;
mod training_results;
mod watcher;

pub use committer_link::{ApplyReport, CommitterLink, DecodedMessage};
pub use config::{NodeConfig, SharedSettings};
pub use error::JoinError;
pub use jetstream::{JetStreamLog, LogStart, StreamIdentity};
pub use marker::{cluster_of_data_dir, leave_cluster};
pub use member::{ClusterMember, Proposer};
pub use member_status::MemberStatus;
pub use node_report::{ChainPoint, NodeReport, StatePoint, to_hex};
pub use snapshots::{SnapshotInfo, SnapshotStore, TrimmedLog};
pub use training_results::TrainingResults;
