//! `sequor cluster snapshot` and `sequor cluster join`: backups in the object store of the servers.

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::json;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};

use super::client_auth::ClientAuth;
use super::cluster_member;
use super::data_dir::{self, AdminClient};
use super::flags::RuntimeFlags;
use super::progress_display::ProgressDisplay;
use super::restore::restore_backup;
use crate::cluster::{SnapshotInfo, SnapshotStore};
use crate::settings::Settings;
use crate::store::BackupSummary;

/// Flags of `sequor cluster snapshot`.
#[derive(Debug, Args)]
#[command(after_help = "Run the command on the machine of a node, for example once an hour. \
    The daemon keeps serving.\n\n\
    Example:\n  sequor cluster snapshot --config /etc/sequor.toml --work-dir /var/tmp")]
pub(super) struct SnapshotFlags {
    #[command(flatten)]
    flags: RuntimeFlags,
    /// URL of the admin endpoint of the node.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    url: String,
    #[command(flatten)]
    auth: ClientAuth,
    /// Directory for the backup while it is stored, outside the data directory. The daemon writes
    /// it, and this command reads it [default: cluster.work_dir].
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
}

/// Flags of `sequor cluster join`.
#[derive(Debug, Args)]
#[command(
    after_help = "The data directory must be empty or absent. The daemon reads the messages since the snapshot when it starts.\n\n\
    Example:\n  sequor cluster join --config /etc/sequor.toml && systemctl start sequor"
)]
pub(super) struct JoinFlags {
    #[command(flatten)]
    flags: RuntimeFlags,
}

/// What the admin endpoint says of a node.
#[derive(Debug, Deserialize)]
struct NodeOfCluster {
    cluster: String,
    node: String,
    /// The node has executed all removals before this offset.
    #[serde(default)]
    removed_through: u64,
}

/// A file that is removed at the end.
struct WorkFile(PathBuf);

impl Drop for WorkFile {
    fn drop(&mut self) {
        // If the file remains, its name says where it comes from.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl WorkFile {
    /// A file in a directory, or in that of the settings.
    fn new(dir: Option<&Path>, settings: &Settings) -> anyhow::Result<Self> {
        let dir = dir.map_or_else(|| cluster_member::work_dir(settings), Path::to_owned);
        let name = format!("sequor-snapshot-{}.tar.gz", std::process::id());
        Ok(Self(std::path::absolute(dir)?.join(name)))
    }
}

impl SnapshotFlags {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let layers = data_dir::load_settings(&self.flags)?;
        let settings = layers.validated_settings()?;
        let config = cluster_member::connection_config(settings)?;
        let file = WorkFile::new(self.work_dir.as_deref(), settings)?;
        let admin = AdminClient::for_long_work(&self.url, &self.auth)?;
        let NodeOfCluster { cluster, node, removed_through } = admin.get_json("/admin/cluster")?;
        ensure!(
            cluster == config.cluster,
            "{} is a node of the cluster {cluster:?}, and cluster.name is {:?}; pass the settings of the node",
            self.url,
            config.cluster
        );
        let backup: BackupSummary = admin.post("/admin/backup", &json!({ "target": file.0 }))?.json()?;
        let Some(sequence) = backup.log_sequence else {
            bail!("the journal of {} has no message of the cluster yet", self.url)
        };
        let length = std::fs::metadata(&file.0).with_context(|| {
            format!(
                "cannot read {}; run the command on the machine of the node, as a user who can read it",
                file.0.display()
            )
        });
        let bytes = length?.len();
        let snapshot = SnapshotInfo { sequence, entries: backup.entries, bytes, node, removed_through };
        let progress = ProgressDisplay::new(2 * bytes, "bytes stored and verified");
        let trimmed = actix::System::new().block_on(async {
            let store = SnapshotStore::open(config).await?;
            store.store(&file.0, &snapshot, &mut |done| progress.update(done)).await?;
            store.trim().await
        });
        progress.finish();
        let trimmed = trimmed.context("the snapshot is not complete")?;
        writeln!(
            stdout(),
            "snapshot at message {sequence}: {} journal entries, {bytes} bytes; removed {} messages from the stream, which starts at message {} now",
            backup.entries,
            trimmed.messages,
            trimmed.first
        )?;
        Ok(())
    }
}

impl JoinFlags {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let layers = data_dir::load_settings(&self.flags)?;
        let settings = layers.validated_settings()?;
        let (config, dir) = (cluster_member::connection_config(settings)?, &settings.store.data_dir);
        // Restoring would refuse it, too, but only after the snapshot was loaded.
        let is_empty = dir.read_dir().is_ok_and(|mut entries| entries.next().is_none());
        ensure!(!dir.exists() || is_empty, "{} is not empty; join with an empty directory", dir.display());
        let file = WorkFile::new(None, settings)?;
        data_dir::log_panics_at_debug_level();
        let snapshot = actix::System::new().block_on(async {
            let store = SnapshotStore::open(config).await?;
            let newest = store.newest().await?;
            let progress = ProgressDisplay::new(newest.bytes, "bytes loaded");
            store.load(&newest, &file.0, &mut |done| progress.update(done)).await?;
            progress.finish();
            Ok::<_, crate::cluster::JoinError>(newest)
        });
        let snapshot = snapshot.with_context(|| format!("nothing was loaded into {}", dir.display()))?;
        writeln!(stdout(), "{}", restore_backup(&file.0, settings, None)?)?;
        writeln!(
            stdout(),
            "{} contains the journal up to message {} of the cluster's log, from a snapshot of node {}; start the node now",
            dir.display(),
            snapshot.sequence,
            snapshot.node
        )?;
        Ok(())
    }
}
