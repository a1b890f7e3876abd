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
//! - `registry`: the reports of the nodes; `chain_history`: compares their journals.
//! - `snapshots`: backups in the object store of the servers, from which nodes join.
//! - `member`: joins the cluster and runs these parts on a thread.
//! - `marker`: the cluster to which a data directory belongs.
//!
//! The embedded mode needs no shared log: its committer writes the requests to the journal directly.

mod chain_history;
mod committer_link;
mod config;
mod error;
mod follower;
pub mod grouping;
mod jetstream;
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
#[cfg(test)]
mod tests;

pub use committer_link::{ApplyReport, CommitterLink, DecodedMessage};
pub use config::{NodeConfig, SharedSettings};
pub use error::JoinError;
pub use jetstream::{JetStreamLog, LogStart, StreamIdentity};
pub use marker::{cluster_of_data_dir, leave_cluster};
pub use member::{ClusterMember, Proposer};
pub use member_status::MemberStatus;
pub use node_report::{ChainPoint, NodeReport, to_hex};
pub use snapshots::{SnapshotInfo, SnapshotStore, TrimmedLog};
