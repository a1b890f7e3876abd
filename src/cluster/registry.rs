//! The bucket in which the nodes report their state. A report is also the lease of a node's name.

use super::config::NodeConfig;
use super::error::JoinError;
use super::jetstream::JetStreamLog;
use super::lease::{KIND_SEPARATOR, Lease};
use super::node_report::NodeReport;
use super::shared_log::LogError;
use async_nats::jetstream::Context;
use async_nats::jetstream::kv::{self, Operation, UpdateErrorKind};
use async_nats::jetstream::stream::StorageType;
use bytes::Bytes;
use futures_util::TryStreamExt;
use std::time::Duration;

/// The time after which the servers remove a report that is not renewed.
const LEASE: Duration = Duration::from_secs(10);

/// The pause and the number of attempts to join while the servers elect a leader.
const RETRIES: (Duration, u32) = (Duration::from_secs(1), 6);

/// The reports of the nodes.
#[derive(Debug)]
pub(super) struct NodeRegistry {
    bucket: kv::Store,
    node: String,
    /// The revision of this node's last report.
    revision: u64,
}

fn unreachable(error: &dyn std::error::Error) -> LogError {
    LogError::Unreachable(error.to_string())
}

fn encode_report(report: &NodeReport) -> Bytes {
    // A report consists of numbers and texts, so it can always be written.
    serde_json::to_vec(report).unwrap_or_default().into()
}

async fn read_reports(bucket: &kv::Store) -> Result<Vec<NodeReport>, LogError> {
    let subjects = bucket.stream.info_with_subjects(format!("{}>", bucket.prefix)).await;
    let subjects: Vec<(String, usize)> =
        subjects.map_err(|error| unreachable(&error))?.try_collect().await.map_err(|error| unreachable(&error))?;
    let mut reports = Vec::with_capacity(subjects.len());
    for (subject, _) in subjects {
        let Some(node) = subject.strip_prefix(&bucket.prefix) else { continue };
        if node.contains(KIND_SEPARATOR) {
            continue;
        }
        let entry = bucket.entry(node).await.map_err(|error| unreachable(&error))?;
        let Some(entry) = entry.filter(|entry| entry.operation == Operation::Put) else { continue };
        reports.extend(serde_json::from_slice::<NodeReport>(&entry.value).ok());
    }
    reports.sort_by(|a, b| a.node.cmp(&b.node));
    Ok(reports)
}

/// The reports of the running nodes of a cluster, for one who is no node.
///
/// # Errors
/// [`LogError::Unreachable`] if the bucket cannot be read.
pub(super) async fn reports_of_nodes(context: &Context, config: &NodeConfig) -> Result<Vec<NodeReport>, LogError> {
    let bucket = context.get_key_value(config.bucket()).await.map_err(|error| unreachable(&error))?;
    read_reports(&bucket).await
}

impl NodeRegistry {
    /// Opens the bucket and reserves the name of this node. Tries again for some seconds while the
    /// servers elect a leader.
    ///
    /// # Errors
    /// [`JoinError::NameInUse`] if another node uses the name.
    pub(super) async fn join(log: &JetStreamLog, config: &NodeConfig, report: &NodeReport) -> Result<Self, JoinError> {
        let (pause, attempts) = RETRIES;
        for _ in 1..attempts {
            match Self::try_join(log, config, report).await {
                Err(JoinError::Log(LogError::Unreachable(_))) => tokio::time::sleep(pause).await,
                joined => return joined,
            }
        }
        Self::try_join(log, config, report).await
    }

    async fn try_join(log: &JetStreamLog, config: &NodeConfig, report: &NodeReport) -> Result<Self, JoinError> {
        let bucket = kv::Config {
            bucket: config.bucket(),
            description: "the nodes of a Sequor cluster".to_owned(),
            history: 1,
            max_age: LEASE,
            storage: StorageType::File,
            num_replicas: config.replicas,
            ..kv::Config::default()
        };
        let bucket = match log.context().create_key_value(bucket).await {
            Ok(bucket) => bucket,
            // It exists with another configuration.
            Err(_) => log.context().get_key_value(config.bucket()).await.map_err(|error| unreachable(&error))?,
        };
        let mut registry = Self { bucket, node: config.node.clone(), revision: 0 };
        registry.reserve_name(report).await?;
        Ok(registry)
    }

    /// Reserves the name. A report of the same data directory is replaced: it is that of an earlier
    /// run of this node.
    async fn reserve_name(&mut self, report: &NodeReport) -> Result<(), JoinError> {
        let value = encode_report(report);
        let refused = match self.bucket.create(&self.node, value.clone()).await {
            Ok(revision) => {
                self.revision = revision;
                return Ok(());
            }
            Err(error) => error,
        };
        // The servers have several codes for an existing report, and the client knows one of them.
        let found = self.bucket.entry(&self.node).await.map_err(|error| unreachable(&error))?;
        let found = found.ok_or_else(|| unreachable(&refused))?;
        if found.operation == Operation::Put {
            let before: NodeReport = serde_json::from_slice(&found.value).unwrap_or_default();
            if before.data_dir_id != report.data_dir_id {
                return Err(JoinError::NameInUse { node: self.node.clone() });
            }
        }
        self.revision =
            self.bucket.update(&self.node, value, found.revision).await.map_err(|error| unreachable(&error))?;
        Ok(())
    }

    /// A number that no other run of a node has.
    pub(super) fn run_number(&self) -> u64 {
        self.revision
    }

    /// Renews the report of this node.
    ///
    /// # Errors
    /// [`JoinError::NameInUse`] if another node has taken the name, or [`JoinError::Log`] if the
    /// bucket cannot be reached.
    pub(super) async fn renew(&mut self, report: &NodeReport) -> Result<(), JoinError> {
        match self.bucket.update(&self.node, encode_report(report), self.revision).await {
            Ok(revision) => {
                self.revision = revision;
                Ok(())
            }
            Err(error) if error.kind() == UpdateErrorKind::TimedOut => Err(unreachable(&error).into()),
            // The lease has ended, or the answer to an earlier renewal was lost.
            Err(_) => self.reserve_name(report).await,
        }
    }

    /// The reports of all nodes, by name.
    ///
    /// # Errors
    /// [`LogError::Unreachable`] if the bucket cannot be read.
    pub(super) async fn reports(&self) -> Result<Vec<NodeReport>, LogError> {
        read_reports(&self.bucket).await
    }

    /// Renews a lease, or takes it if no node holds it. Returns whether this node holds it.
    pub(super) async fn hold_lease(&self, lease: &mut Lease) -> bool {
        lease.hold(&self.bucket, &self.node).await
    }

    /// Gives a lease back.
    pub(super) async fn release_lease(&self, lease: &mut Lease) {
        lease.release(&self.bucket).await;
    }

    /// Gives the name of this node back.
    pub(super) async fn leave(&self) {
        // Without an answer, the lease ends by itself.
        let _ = self.bucket.purge(&self.node).await;
    }
}
