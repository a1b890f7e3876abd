//! The configuration of a node.

use crate::domain::{Consent, NodeRole};
use std::path::PathBuf;

/// The configuration of a node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// URLs of the NATS servers.
    pub servers: Vec<String>,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the node.
    pub node: String,
    /// Number of servers that store each message.
    pub replicas: usize,
    /// The file with the credentials; `None` without credentials.
    pub credentials: Option<PathBuf>,
    /// The file with the certificates of the authorities; `None` for those of the system.
    pub tls_ca: Option<PathBuf>,
    /// Base URLs of the servers' monitoring endpoints.
    pub monitors: Vec<String>,
    /// The largest lag, in entries, at which the node is ready.
    pub max_lag: u64,
    /// Whether the servers must sync every message before they acknowledge it.
    pub requires_sync: bool,
    /// What the node does for the learned weights.
    pub role: NodeRole,
    /// The newest version of the message form that this node reads and writes.
    pub message_version: u8,
    /// The settings that decide which entries a commit accepts. They must be equal on all nodes.
    pub shared: SharedSettings,
    /// A text that identifies the data directory of the node.
    pub data_dir_id: String,
}

/// Settings that must be equal on all nodes of a cluster, because they decide which entries a
/// commit accepts, or how users are named.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SharedSettings {
    /// The deduplication window, in entries.
    pub dedup_window: usize,
    /// The consent of users who have not stated one.
    pub default_consent: Consent,
    /// The fingerprint of the secret of the pseudonyms; `None` without pseudonyms.
    pub pseudonym_secret: Option<[u8; 16]>,
}

impl NodeConfig {
    /// The name of the stream.
    #[must_use]
    pub fn stream(&self) -> String {
        format!("SEQUOR_{}", self.cluster)
    }

    /// The subject of the stream's messages.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("sequor.{}.log", self.cluster)
    }

    /// The name of the stream with the results of trainings.
    #[must_use]
    pub fn training_stream(&self) -> String {
        format!("SEQUOR_{}_training", self.cluster)
    }

    /// The first part of the subjects of results of trainings.
    #[must_use]
    pub fn training_prefix(&self) -> String {
        format!("sequor.{}.training", self.cluster)
    }

    /// The name of the bucket with the snapshots.
    #[must_use]
    pub fn snapshot_bucket(&self) -> String {
        format!("SEQUOR_{}_snapshots", self.cluster)
    }

    /// The name of the bucket with the numbers on which the nodes agree.
    #[must_use]
    pub fn agreed_bucket(&self) -> String {
        format!("SEQUOR_{}_agreed", self.cluster)
    }

    /// The name of the bucket in which the nodes report their state.
    #[must_use]
    pub fn bucket(&self) -> String {
        format!("SEQUOR_{}_nodes", self.cluster)
    }
}
