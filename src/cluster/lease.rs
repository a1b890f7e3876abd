//! Leases: at most one running node does a job for the whole cluster.

use async_nats::jetstream::kv;
use bytes::Bytes;

/// Separates the kind of a key in the bucket of the nodes from its name. Names of nodes do not
/// contain it.
pub(super) const KIND_SEPARATOR: char = '/';
/// The lease of the node that stores snapshots.
pub(super) const SNAPSHOT_LEASE: &str = "lease/snapshots";

/// The lease of the node that publishes the results of its trainings.
pub(super) const TRAINING_LEASE: &str = "lease/training";

/// A lease in the bucket of the nodes. The servers remove a lease that is not renewed. A node that
/// has lost its lease learns this at the next renewal, so two nodes can do the job for some seconds.
#[derive(Debug)]
pub(super) struct Lease {
    key: &'static str,
    /// The revision of the last renewal, while this node holds the lease.
    revision: Option<u64>,
}

impl Lease {
    /// A lease that this node does not hold.
    pub(super) const fn new(key: &'static str) -> Self {
        Self { key, revision: None }
    }

    /// Renews the lease, or takes it if no node holds it. Returns whether this node holds it.
    pub(super) async fn hold(&mut self, bucket: &kv::Store, node: &str) -> bool {
        let value = Bytes::copy_from_slice(node.as_bytes());
        self.revision = match self.revision {
            Some(revision) => bucket.update(self.key, value, revision).await.ok(),
            None => bucket.create(self.key, value).await.ok(),
        };
        self.revision.is_some()
    }

    /// Gives the lease back.
    pub(super) async fn release(&mut self, bucket: &kv::Store) {
        if self.revision.take().is_some() {
            // Without an answer, the lease ends by itself.
            let _ = bucket.purge(self.key).await;
        }
    }
}
