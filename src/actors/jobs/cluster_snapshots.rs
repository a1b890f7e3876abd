//! The snapshot job of a node of a cluster: stores snapshots on the servers, from which new nodes
//! join, and removes what they make superfluous. At most one node of the cluster does this.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::removal::run_blocking;
use crate::actors::error::MaintenanceError;
use crate::actors::system::System;
use crate::clock::Clock;
use crate::cluster::{JoinError, MemberStatus, NodeConfig, NodeReport, SnapshotInfo, SnapshotStore};
use crate::domain::Offset;

/// The time between two looks whether a snapshot is due.
const RUN_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a failure.
const FAILURE_PAUSE: Duration = Duration::from_secs(30);

/// When snapshots are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// Number of entries between two snapshots; 0: no snapshots by entries.
    pub every: u64,
    /// Time after which removed entries are also removed from the servers.
    pub erase_within: Duration,
    /// Directory for the file of a snapshot while it is stored.
    pub work_dir: PathBuf,
}

/// Why a snapshot could not be stored.
#[derive(Debug, thiserror::Error)]
enum SnapshotError {
    #[error("the backup failed")]
    Backup(#[from] MaintenanceError),
    #[error("cannot read the backup {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Servers(#[from] JoinError),
}

/// Decides when a snapshot is due.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct SnapshotSchedule {
    /// The entries of the newest snapshot, once this node has asked the servers; 0 without one.
    newest: Option<Offset>,
    /// Since when this node knows of a removal that waits for a snapshot.
    removal_waits_since: Option<Duration>,
}

impl SnapshotSchedule {
    /// Whether a snapshot is due at time `now`. `offset` is the end of this node's journal, and
    /// `erased_through` tells which removals have reached the servers.
    fn is_due(
        &mut self,
        policy: &SnapshotPolicy,
        (offset, erased_through): (Offset, Offset),
        reports: &[NodeReport],
        now: Duration,
    ) -> bool {
        if policy.every > 0 && offset.saturating_sub(self.newest.unwrap_or_default()) >= policy.every {
            return true;
        }
        let wanted = reports.iter().map(|report| report.last_removal).max().unwrap_or(0);
        if wanted <= erased_through {
            self.removal_waits_since = None;
            return false;
        }
        // The time counts from the first waiting removal on, also if further ones follow.
        let since = *self.removal_waits_since.get_or_insert(now);
        let is_executed = reports.iter().all(|report| report.removed_through >= wanted);
        is_executed && now.saturating_sub(since) >= policy.erase_within
    }
}

/// Stores snapshots for as long as the system runs. Does nothing on a node that does not hold the
/// lease of the snapshots.
pub async fn run_cluster_snapshots(system: System, config: NodeConfig, policy: SnapshotPolicy, clock: Clock) {
    let Some(status) = system.cluster.clone() else { return };
    let mut ticks = actix::clock::interval(RUN_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut schedule = SnapshotSchedule::default();
    loop {
        ticks.tick().await;
        if !status.holds_snapshot_lease() || status.is_cut_off() || status.write_problem().is_some() {
            // Another node may store the next snapshot.
            schedule.newest = None;
            continue;
        }
        if let Err(error) = store_due_snapshot(&system, &status, &config, &policy, &mut schedule, &clock).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a snapshot of the cluster could not be stored; the node tries again"
            );
            actix::clock::sleep(FAILURE_PAUSE).await;
        }
    }
}

async fn store_due_snapshot(
    system: &System,
    status: &Arc<MemberStatus>,
    config: &NodeConfig,
    policy: &SnapshotPolicy,
    schedule: &mut SnapshotSchedule,
    clock: &Clock,
) -> Result<(), SnapshotError> {
    if schedule.newest.is_none() {
        let newest = SnapshotStore::open(config.clone()).await?.list().await?.into_iter().next();
        schedule.newest = Some(newest.map_or(0, |newest| newest.entries));
    }
    let reach = (status.applied_offset(), status.erased_through());
    if !schedule.is_due(policy, reach, &status.nodes(), clock.elapsed()) {
        return Ok(());
    }
    // A removal that is executed before the backup begins is executed in the backup.
    let removed_through = status.removed_through();
    let file = tempfile::Builder::new().prefix("sequor-snapshot-").tempdir_in(&policy.work_dir);
    let read_error = |path: &Path, source| SnapshotError::Read { path: path.to_owned(), source };
    let directory = file.map_err(|source| read_error(&policy.work_dir, source))?;
    let path = directory.path().join("snapshot.tar.gz");
    let (maintenance, target) = (system.maintenance.clone(), path.clone());
    let backup = match run_blocking(move || maintenance.backup(&target)).await {
        // The next look tries again.
        Err(MaintenanceError::Running) => return Ok(()),
        backup => backup?,
    };
    let Some(sequence) = backup.log_sequence else { return Ok(()) };
    let bytes = std::fs::metadata(&path).map_err(|source| read_error(&path, source))?.len();
    let (entries, node) = (backup.entries, status.node.clone());
    let snapshot = SnapshotInfo { sequence, entries, bytes, node, removed_through };
    let store = SnapshotStore::open(config.clone()).await?;
    store.store(&path, &snapshot, &mut |_| {}).await?;
    let trimmed = store.trim().await?;
    schedule.newest = Some(entries);
    status.record_erased_through(trimmed.erased_through);
    tracing::info!(
        entries,
        sequence,
        bytes,
        removed_messages = trimmed.messages,
        erased_through = trimmed.erased_through,
        "stored a snapshot of the cluster"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: SnapshotPolicy =
        SnapshotPolicy { every: 100, erase_within: Duration::from_secs(60), work_dir: PathBuf::new() };

    fn report(last_removal: Offset, removed_through: Offset) -> NodeReport {
        NodeReport { last_removal, removed_through, ..NodeReport::default() }
    }

    #[test]
    fn a_snapshot_is_due_after_a_number_of_entries() {
        let mut schedule = SnapshotSchedule::default();
        let is_due = |schedule: &mut SnapshotSchedule, policy: &SnapshotPolicy, offset| {
            schedule.is_due(policy, (offset, 0), &[report(0, 0)], Duration::ZERO)
        };
        assert!(!is_due(&mut schedule, &POLICY, 99) && is_due(&mut schedule, &POLICY, 100));
        schedule.newest = Some(100);
        assert!(!is_due(&mut schedule, &POLICY, 199) && is_due(&mut schedule, &POLICY, 200));
        assert!(!is_due(&mut schedule, &SnapshotPolicy { every: 0, ..POLICY }, 1_000_000));
    }

    #[test]
    fn a_removal_leads_to_a_snapshot_after_every_node_has_executed_it() {
        let mut schedule = SnapshotSchedule::default();
        let second = Duration::from_secs;
        let executed = [report(7, 7), report(7, 9)];
        assert!(!schedule.is_due(&POLICY, (10, 0), &executed, second(10)), "it waits for further removals");
        assert!(!schedule.is_due(&POLICY, (10, 0), &[report(9, 8), report(7, 7)], second(80)), "a node lags");
        assert!(!schedule.is_due(&POLICY, (10, 0), &executed, second(69)));
        assert!(schedule.is_due(&POLICY, (10, 0), &executed, second(70)), "60 s after the first one");
        assert!(!schedule.is_due(&POLICY, (10, 7), &executed, second(71)), "it has reached the servers");
        assert!(!schedule.is_due(&POLICY, (12, 7), &[report(11, 11)], second(100)));
        assert!(schedule.is_due(&POLICY, (12, 7), &[report(11, 11)], second(160)));
    }
}
