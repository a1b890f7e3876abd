//! Snapshots: backups of nodes in the object store of the servers. A node joins with the newest
//! snapshot, and the stream keeps only the messages that the snapshots lack.

use super::agreed_values::{AgreedValues, ERASED_THROUGH};
use super::config::NodeConfig;
use super::error::JoinError;
use super::jetstream::{SnapshotAccess, describe};
use super::registry;
use crate::domain::Offset;
use async_nats::jetstream::object_store::{self, ObjectInfo, ObjectMetadata, ObjectStore};
use async_nats::jetstream::stream::StorageType;
use futures_util::TryStreamExt;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// Number of snapshots that are kept. If the newest is damaged, a node can join with the other one.
const KEPT_SNAPSHOTS: usize = 2;
/// Size of the pieces in which a snapshot is read, in bytes.
const PIECE_BYTES: usize = 1 << 16;
/// Metadata of a snapshot: its stream, the number of journal entries, and the node.
const STREAM_KEY: &str = "sequor-stream";
const ENTRIES_KEY: &str = "sequor-entries";
const NODE_KEY: &str = "sequor-node";
/// Metadata of a snapshot: it contains no entry that a removal before this offset removes.
const REMOVED_KEY: &str = "sequor-removed";

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The last message of the stream that the snapshot contains.
    pub sequence: u64,
    /// The number of journal entries.
    pub entries: Offset,
    /// The length in bytes.
    pub bytes: u64,
    /// The node from which it comes.
    pub node: String,
    /// It contains no entry that an erasure or an expiry before this offset removes.
    pub removed_through: Offset,
}

/// What [`SnapshotStore::trim`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrimmedLog {
    /// Number of removed messages.
    pub messages: u64,
    /// The first message of the stream.
    pub first: u64,
    /// The servers contain no entry that an erasure or an expiry before this offset removes.
    pub erased_through: Offset,
}

/// The snapshots of a cluster.
pub struct SnapshotStore {
    bucket: ObjectStore,
    access: SnapshotAccess,
    config: NodeConfig,
}

/// Reads a file, and reports the progress.
struct FileReader<'a> {
    file: File,
    done: u64,
    observe: &'a mut dyn FnMut(u64),
}

impl AsyncRead for FileReader<'_> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let reader = self.get_mut();
        let read = reader.file.read(buffer.initialize_unfilled())?;
        buffer.advance(read);
        reader.done += read as u64;
        (reader.observe)(reader.done);
        Poll::Ready(Ok(()))
    }
}

fn object_name(sequence: u64) -> String {
    format!("snapshot-{sequence:020}.tar.gz")
}

impl SnapshotStore {
    /// Connects to the servers and opens the bucket of the snapshots. Creates the bucket if it does
    /// not exist.
    ///
    /// # Errors
    /// [`JoinError::NoStream`] if the cluster has no stream, or another [`JoinError`] if the servers
    /// cannot be used.
    pub async fn open(config: NodeConfig) -> Result<Self, JoinError> {
        let access = SnapshotAccess::open(&config).await?;
        let settings = object_store::Config {
            bucket: config.snapshot_bucket(),
            description: Some("the snapshots of a Sequor cluster".to_owned()),
            storage: StorageType::File,
            num_replicas: config.replicas,
            ..object_store::Config::default()
        };
        let bucket = match access.context().get_object_store(config.snapshot_bucket()).await {
            Ok(bucket) => bucket,
            Err(_) => access
                .context()
                .create_object_store(settings)
                .await
                .map_err(|error| snapshot_error(&config.snapshot_bucket(), "created", &error))?,
        };
        Ok(Self { bucket, access, config })
    }

    /// The snapshots of the stream, the newest first. Those of an earlier stream do not count.
    ///
    /// # Errors
    /// [`JoinError`] if the bucket cannot be read.
    pub async fn list(&self) -> Result<Vec<SnapshotInfo>, JoinError> {
        let mut snapshots: Vec<_> =
            self.objects().await?.iter().filter_map(|object| self.to_snapshot(object)).collect();
        snapshots.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.sequence));
        Ok(snapshots)
    }

    async fn objects(&self) -> Result<Vec<ObjectInfo>, JoinError> {
        let listed = |error: &dyn std::error::Error| snapshot_error(&self.config.snapshot_bucket(), "listed", error);
        let objects = self.bucket.list().await.map_err(|error| listed(&error))?;
        objects.try_collect().await.map_err(|error| listed(&error))
    }

    fn to_snapshot(&self, object: &ObjectInfo) -> Option<SnapshotInfo> {
        let sequence = object.name.strip_prefix("snapshot-")?.strip_suffix(".tar.gz")?.parse().ok()?;
        let text = |key: &str| object.metadata.get(key).cloned();
        (text(STREAM_KEY)? == self.access.stream_id()).then_some(())?;
        Some(SnapshotInfo {
            sequence,
            entries: text(ENTRIES_KEY)?.parse().ok()?,
            bytes: object.size as u64,
            node: text(NODE_KEY).unwrap_or_default(),
            removed_through: text(REMOVED_KEY).and_then(|offset| offset.parse().ok()).unwrap_or(0),
        })
    }

    /// Stores a backup as a snapshot, and reads it again to verify it. `observe` receives the number
    /// of bytes that were stored or read.
    ///
    /// # Errors
    /// [`JoinError::Snapshot`] if the file cannot be read, or the snapshot not be stored or verified.
    pub async fn store(
        &self,
        backup: &Path,
        snapshot: &SnapshotInfo,
        observe: &mut dyn FnMut(u64),
    ) -> Result<(), JoinError> {
        let name = object_name(snapshot.sequence);
        let metadata = [
            (STREAM_KEY, self.access.stream_id().to_owned()),
            (ENTRIES_KEY, snapshot.entries.to_string()),
            (NODE_KEY, snapshot.node.clone()),
            (REMOVED_KEY, snapshot.removed_through.to_string()),
        ];
        let object = ObjectMetadata {
            name: name.clone(),
            metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into_iter().collect::<HashMap<_, _>>(),
            ..ObjectMetadata::default()
        };
        let file = File::open(backup).map_err(|error| snapshot_error(&name, "stored", &error))?;
        let mut reader = FileReader { file, done: 0, observe };
        self.bucket.put(object, &mut reader).await.map_err(|error| snapshot_error(&name, "stored", &error))?;
        let (stored, observe) = (reader.done, reader.observe);
        self.read(&name, &mut io::sink(), &mut |done| observe(stored + done)).await
    }

    /// Writes a snapshot to a file. `observe` receives the number of bytes that were read.
    ///
    /// # Errors
    /// [`JoinError::Snapshot`] if the snapshot is damaged, or the file cannot be written.
    pub async fn load(
        &self,
        snapshot: &SnapshotInfo,
        target: &Path,
        observe: &mut dyn FnMut(u64),
    ) -> Result<(), JoinError> {
        let name = object_name(snapshot.sequence);
        let mut file = File::create_new(target).map_err(|error| snapshot_error(&name, "written to a file", &error))?;
        self.read(&name, &mut file, observe).await
    }

    /// Reads a snapshot. The client checks the digest at its end.
    async fn read(&self, name: &str, target: &mut dyn Write, observe: &mut dyn FnMut(u64)) -> Result<(), JoinError> {
        let failed = |error: &dyn std::error::Error| snapshot_error(name, "read", error);
        let mut object = self.bucket.get(name).await.map_err(|error| failed(&error))?;
        let (mut piece, mut done) = (vec![0; PIECE_BYTES], 0);
        loop {
            let read = object.read(&mut piece).await.map_err(|error| failed(&error))?;
            if read == 0 {
                break;
            }
            target.write_all(piece.get(..read).unwrap_or_default()).map_err(|error| failed(&error))?;
            done += read as u64;
            observe(done);
        }
        let expected = object.info().size as u64;
        if done != expected {
            let reason = format!("it has {done} bytes instead of {expected}");
            return Err(JoinError::Snapshot { name: name.to_owned(), action: "read", reason });
        }
        Ok(())
    }

    /// Removes superfluous snapshots, and the messages that all kept snapshots and all running nodes
    /// contain. Of the snapshots, the two newest ones are kept, but none with entries that a later
    /// removal has removed from the newest one. Removes no message while there is only one snapshot,
    /// unless it is the first one without these entries.
    ///
    /// Then the servers contain no entry that a removal before
    /// [`SnapshotInfo::removed_through`] of the newest snapshot removes, if all nodes have
    /// executed it. The other nodes learn this.
    ///
    /// # Errors
    /// [`JoinError`] if the servers cannot be used.
    pub async fn trim(&self) -> Result<TrimmedLog, JoinError> {
        let snapshots = self.list().await?;
        let removed_through = snapshots.first().map_or(0, |newest| newest.removed_through);
        let is_clean = |snapshot: &&SnapshotInfo| snapshot.removed_through >= removed_through;
        let kept: Vec<_> = snapshots.iter().take(KEPT_SNAPSHOTS).filter(is_clean).collect();
        let kept_names: Vec<_> = kept.iter().map(|snapshot| object_name(snapshot.sequence)).collect();
        for object in self.objects().await?.iter().filter(|object| !kept_names.contains(&object.name)) {
            let deleted = self.bucket.delete(&object.name).await;
            deleted.map_err(|error| snapshot_error(&object.name, "removed", &error))?;
        }
        let agreed = AgreedValues::open(self.access.context(), &self.config).await?;
        let removes_entries = agreed.get(ERASED_THROUGH).await? < removed_through;
        let reports = registry::reports_of_nodes(self.access.context(), &self.config).await?;
        let contained = match kept.last() {
            Some(oldest) if kept.len() == KEPT_SNAPSHOTS || removes_entries => oldest.sequence,
            _ => 0,
        };
        let contained = reports.iter().map(|report| report.sequence).fold(contained, u64::min);
        let (messages, first) = self.access.remove_messages_through(contained).await?;
        let erased_through = reports.iter().map(|report| report.removed_through).fold(removed_through, u64::min);
        if contained > 0 && erased_through > 0 {
            agreed.raise(ERASED_THROUGH, erased_through).await?;
        }
        Ok(TrimmedLog { messages, first, erased_through })
    }

    /// The newest snapshot.
    ///
    /// # Errors
    /// [`JoinError::NoSnapshot`] if there is none, or another [`JoinError`] if the bucket cannot be
    /// read.
    pub async fn newest(&self) -> Result<SnapshotInfo, JoinError> {
        let newest = self.list().await?.into_iter().next();
        newest.ok_or_else(|| JoinError::NoSnapshot { stream: self.config.stream() })
    }
}

fn snapshot_error(name: &str, action: &'static str, error: &dyn std::error::Error) -> JoinError {
    JoinError::Snapshot { name: name.to_owned(), action, reason: describe(error) }
}
