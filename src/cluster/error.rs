//! Why a node does not join its cluster.

use super::shared_log::LogError;
use crate::domain::Offset;
use std::path::PathBuf;

/// Why a node does not join its cluster.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No server can be reached.
    #[error(
        "none of the servers in cluster.servers ({servers}) can be reached: {reason}; check the addresses, and that the servers run"
    )]
    Unreachable {
        /// The configured servers.
        servers: String,
        /// The last error.
        reason: String,
    },
    /// The servers refuse the credentials.
    #[error("the servers in cluster.servers ({servers}) refuse the credentials of {}: {reason}", credentials.as_ref().map_or_else(|| "a node without cluster.credentials".to_owned(), |file| file.display().to_string()))]
    Credentials {
        /// The configured servers.
        servers: String,
        /// The file with the credentials.
        credentials: Option<PathBuf>,
        /// The error of the server.
        reason: String,
    },
    /// A file of the settings cannot be used.
    #[error("{key} = {:?}: {reason}", file.display())]
    File {
        /// The setting.
        key: &'static str,
        /// The file.
        file: PathBuf,
        /// Why it cannot be used.
        reason: String,
    },
    /// The servers store no streams.
    #[error(
        "the servers have no JetStream: {reason}; start them with `jetstream {{ store_dir: …, sync_interval: always }}`"
    )]
    NoJetStream {
        /// The error of the server.
        reason: String,
    },
    /// There are too few servers for the replicas.
    #[error(
        "cluster.replicas = {replicas}: the servers cannot store that many copies ({reason}); start more servers in one NATS cluster, or set fewer replicas"
    )]
    TooFewServers {
        /// The configured number of replicas.
        replicas: usize,
        /// The error of the server.
        reason: String,
    },
    /// The nodes use a message form that this node does not read.
    #[error(
        "the nodes use version {agreed} of the message form, and this node reads versions up to {own}; update this node, or raise its cluster.message_version"
    )]
    MessageVersion {
        /// The version that the nodes use.
        agreed: u64,
        /// The newest version that this node reads.
        own: u8,
    },
    /// The stream exists with another configuration.
    #[error("the stream {stream} has {found}, but this node expects {expected}")]
    StreamDiffers {
        /// The stream.
        stream: String,
        /// What the stream has.
        found: String,
        /// What the settings require, and what to do.
        expected: String,
    },
    /// The servers do not sync before they acknowledge.
    #[error(
        "store.durability = \"power_loss\": {reason}. Set `sync_interval: always` in the `jetstream` block of every server, or accept with cluster.accept_lazy_sync = true that a power loss of several servers loses acknowledged events"
    )]
    LazySync {
        /// What is known of the servers.
        reason: String,
    },
    /// The data directory belongs to another cluster.
    #[error("{} belongs to the cluster {found:?}, and cluster.name is {expected:?}; use another data directory, or run `sequor cluster leave` on a copy", dir.display())]
    OtherCluster {
        /// The data directory.
        dir: PathBuf,
        /// The name in the data directory.
        found: String,
        /// The configured name.
        expected: String,
    },
    /// The journal does not fit the stream.
    #[error("the journal in {} has {entries} entries and no position in the stream {stream}, which starts after {start} entries; start with a backup of another node (`sequor backup`, `sequor restore`), or with an empty data directory if the stream starts with an empty journal", dir.display())]
    OtherJournal {
        /// The data directory.
        dir: PathBuf,
        /// The number of entries of the journal.
        entries: Offset,
        /// The stream.
        stream: String,
        /// The number of entries with which the stream starts.
        start: Offset,
    },
    /// Another node has the same name.
    #[error(
        "another node of the cluster runs with the name {node:?}, from another data directory; give each node its own cluster.node"
    )]
    NameInUse {
        /// The name.
        node: String,
    },
    /// The stream does not fit the journal.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The stream does not exist.
    #[error("the servers have no stream {stream}: start a node first, or check cluster.name")]
    NoStream {
        /// The stream.
        stream: String,
    },
    /// The stream has no snapshot.
    #[error(
        "the stream {stream} has no snapshot; create one with `sequor cluster snapshot` on the machine of a node, or restore a backup of a node"
    )]
    NoSnapshot {
        /// The stream.
        stream: String,
    },
    /// A snapshot cannot be written or read.
    #[error("the snapshot {name} cannot be {action}: {reason}")]
    Snapshot {
        /// The name in the bucket.
        name: String,
        /// What was attempted.
        action: &'static str,
        /// The cause.
        reason: String,
    },
    /// The stream contains all messages that the node has applied.
    #[error(
        "the stream {stream} contains message {sequence}, the last one that this node has applied: nothing is lost, so the node can start"
    )]
    NothingLost {
        /// The stream.
        stream: String,
        /// The last applied message.
        sequence: u64,
    },
    /// The thread of the cluster could not start.
    #[error("the cluster's thread cannot start: {reason}")]
    Thread {
        /// The cause.
        reason: String,
    },
    /// The file with the name of the cluster cannot be read or written.
    #[error("{}: cannot be read or written", file.display())]
    Marker {
        /// The file.
        file: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}
