//! Joins the cluster of the settings.

use anyhow::{Context, anyhow};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::actors::system::SystemSettings;
use crate::cluster::message::NEWEST_MESSAGE_VERSION;
use crate::cluster::{ClusterMember, LogStart, NodeConfig, SharedSettings};
use crate::ingest::ValidationRules;
use crate::metrics::Metrics;
use crate::settings::{ClusterMemberSettings, CommitDurability, Settings, is_node_name};
use crate::store::Store;

/// The file from which the system tells the host name.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// Joins the cluster of the settings; `None` if they name no servers.
pub(super) async fn join_cluster(
    settings: &Settings,
    system: &SystemSettings,
    store: &Store,
    rules: &ValidationRules,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Option<ClusterMember>> {
    if !settings.cluster.is_enabled() {
        return Ok(None);
    }
    let start = log_start(store)?;
    let config = node_config(settings, system, store, rules)?;
    let name = config.cluster.clone();
    let joined = ClusterMember::join(config, start, Arc::clone(metrics)).await;
    let member = joined.with_context(|| format!("cannot join the cluster {name:?}"))?;
    // Purges of a sender find the entries of all nodes only if all nodes hash senders alike.
    store.replace_origin_key(member.origin_key())?;
    Ok(Some(member))
}

/// The state of the journal.
pub(super) fn log_start(store: &Store) -> anyhow::Result<LogStart> {
    let mut origin_key = [0; 16];
    getrandom::fill(&mut origin_key).map_err(|error| anyhow!("the system's random source failed: {error}"))?;
    Ok(LogStart {
        dir: store.dir().to_owned(),
        entries: store.journal().next_offset()?,
        position: store.log_position()?,
        origin_key: store.ensure_origin_key(origin_key)?,
    })
}

/// The configuration of the node.
pub(super) fn node_config(
    settings: &Settings,
    system: &SystemSettings,
    store: &Store,
    rules: &ValidationRules,
) -> anyhow::Result<NodeConfig> {
    let is_durable = settings.store.durability == CommitDurability::PowerLoss;
    Ok(NodeConfig {
        requires_sync: is_durable && !settings.cluster.accept_lazy_sync,
        shared: SharedSettings {
            dedup_window: system.committer.dedup_window,
            default_consent: system.committer.default_consent,
            pseudonym_secret: rules.pseudonymiser.as_ref().map(|pseudonymiser| pseudonymiser.fingerprint()),
        },
        data_dir_id: data_dir_id(store),
        ..connection_config(settings)?
    })
}

/// The configuration of one who uses the servers, but is no node.
pub(super) fn connection_config(settings: &Settings) -> anyhow::Result<NodeConfig> {
    anyhow::ensure!(settings.cluster.is_enabled(), "cluster.servers is empty; pass the settings of the node");
    let ClusterMemberSettings {
        servers,
        name,
        replicas,
        credentials,
        tls_ca,
        monitors,
        max_lag,
        role,
        message_version,
        ..
    } = settings.cluster.clone();
    let path = |path: PathBuf| (!path.as_os_str().is_empty()).then_some(path);
    Ok(NodeConfig {
        servers,
        cluster: name,
        node: node_name(&settings.cluster)?,
        replicas: usize::from(replicas),
        credentials: path(credentials),
        tls_ca: path(tls_ca),
        monitors,
        max_lag,
        role,
        message_version: match message_version {
            0 => NEWEST_MESSAGE_VERSION,
            version => version,
        },
        requires_sync: false,
        shared: SharedSettings::default(),
        data_dir_id: String::new(),
    })
}

/// The directory for the files of snapshots.
pub(super) fn work_dir(settings: &Settings) -> PathBuf {
    let dir = &settings.cluster.work_dir;
    if dir.as_os_str().is_empty() { std::env::temp_dir() } else { dir.clone() }
}

/// The configured name, or the name of the host.
fn node_name(settings: &ClusterMemberSettings) -> anyhow::Result<String> {
    if !settings.node.is_empty() {
        return Ok(settings.node.clone());
    }
    let host = std::fs::read_to_string(HOST_NAME_FILE).context("cannot read the host name; set cluster.node")?;
    let host = host.trim();
    if is_node_name(host) {
        return Ok(host.to_owned());
    }
    anyhow::bail!("the host name {host:?} cannot be the name of a node; set cluster.node")
}

/// A text that identifies the data directory: the id of its journal, or its path.
fn data_dir_id(store: &Store) -> String {
    let path = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned()).display().to_string();
    store.journal_id().map_or_else(|| path(store.dir()), str::to_owned)
}
