//! The removal job: erases users and purges origins on request, and removes entries whose retention
//! period has passed.
//!
//! Erasures, purges and expiries follow the same steps. First, a journal entry requests the
//! removal. Next, the system stores derived state that contains this entry, so that no restart
//! reads earlier entries. Then the job removes the entries. The store lists pending removals, so
//! the next start resumes an interrupted removal.

use std::time::{Duration, Instant};

use super::retention::RetentionPolicy;
use crate::actors::error::{MaintenanceError, RequestError};
use crate::actors::jobs::maintenance::StoreMaintenance;
use crate::actors::system::System;
use crate::clock::Clock;
use crate::cluster::MemberStatus;
use crate::domain::{Entry, Expiry, Offset};
use crate::store::{CommitCondition, PendingTask, PurgeSummary, PurgedEntryCounts, Store, StoreError};

/// The time between two runs of the job if no erasure is requested. A run also waits at most this
/// long for the learner.
const RUN_INTERVAL: Duration = Duration::from_secs(1);

/// Runs erasures, purges and expiries for as long as the system runs.
pub async fn run_removals(system: System, policy: RetentionPolicy, clock: Clock) {
    let mut interval = actix::clock::interval(RUN_INTERVAL);
    let mut last_scan: Option<Instant> = None;
    loop {
        let delivered = system.recommender.delivered_offset();
        tokio::select! {
            _ = interval.tick() => {}
            () = system.maintenance.erasure_progress.wait_for_request() => {}
        }
        if log_failure_and_check_stop(erase_pending(&system).await, "users could not be erased; the job tries again") {
            return;
        }
        if log_failure_and_check_stop(purge_pending(&system).await, "events could not be purged; the job tries again") {
            return;
        }
        let is_due = last_scan.is_none_or(|scan| scan.elapsed() >= policy.scan_interval());
        let expired = async {
            if is_due && let Some(expiry) = policy.expiry_at(clock.now()) {
                journal_expiry(&system, expiry).await?;
                // `last_scan` is set only after success. If a queue was full, the next run scans
                // again.
                last_scan = Some(Instant::now());
            }
            expire_pending(&system).await
        };
        if log_failure_and_check_stop(expired.await, "expired entries could not be removed; the job tries again") {
            return;
        }
        if let Some(cluster) = &system.cluster
            && let Err(error) = report_removals(&system.store, cluster, delivered)
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "the removals cannot be read");
        }
    }
}

/// Tells the other nodes of the cluster up to which removal this node has executed all of them.
/// Entries before `delivered` were applied before this run of the job.
fn report_removals(store: &Store, cluster: &MemberStatus, delivered: Offset) -> Result<(), StoreError> {
    let (erasures, expiries) = (store.erasures(), store.expiries());
    let is_executed = erasures.in_progress()?.first().is_none_or(|(offset, _)| *offset >= delivered)
        && expiries.in_progress()?.first().is_none_or(|(offset, _)| *offset >= delivered)
        && !erasures.is_pending(PendingTask::Compaction)?;
    let own = store.last_removal()?;
    // A node that began with a copy of another node's files does not know all earlier requests.
    let known = cluster.nodes().iter().map(|report| report.last_removal).fold(own, Offset::max);
    cluster.record_removals(own, if is_executed && known <= delivered { known } else { 0 });
    Ok(())
}

/// Logs a failure with `message`. A failure that passes by itself, such as a full queue, is not
/// logged. Returns whether the system has stopped.
fn log_failure_and_check_stop(outcome: Result<(), MaintenanceError>, message: &'static str) -> bool {
    use MaintenanceError::{Request, Running, Stopping};
    match outcome {
        Ok(())
        | Err(
            Running
            | Request(
                RequestError::NotReached { .. }
                | RequestError::Busy(_)
                | RequestError::Draining
                | RequestError::Cluster(_),
            ),
        ) => false,
        Err(Stopping | Request(RequestError::ActorStopped(_))) => true,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "{message}");
            false
        }
    }
}

/// Waits until all derived state contains the journal entries of the pending erasures, and then
/// executes the erasures.
async fn erase_pending(system: &System) -> Result<(), MaintenanceError> {
    let store = system.store.clone();
    let store_maintenance = system.maintenance.store_maintenance.clone();
    let pending = store.erasures().in_progress()?;
    let Some((last, _)) = pending.last() else {
        // An earlier run may have been interrupted before its compaction.
        let is_pending = store.erasures().is_pending(PendingTask::Compaction)?;
        return if is_pending { run_blocking(move || rewrite_database(&store_maintenance)).await } else { Ok(()) };
    };
    system.maintenance.persist_derived_state_through(*last, RUN_INTERVAL).await?;
    let users = pending.len();
    let summary = run_blocking(move || {
        let summary = store.erase_users(&pending)?;
        rewrite_database(&store_maintenance)?;
        Ok(summary)
    })
    .await?;
    tracing::info!(users, "users were erased");
    system.maintenance.remove_event_ids(summary.event_ids).await?;
    system.maintenance.erasure_progress.publish_outcomes(&summary.removed_by_user);
    Ok(())
}

/// Waits until all derived state contains the journal entries of the pending purges, and then
/// executes the purges. Unlearning follows, because it is pending from then on.
async fn purge_pending(system: &System) -> Result<(), MaintenanceError> {
    let store = system.store.clone();
    let pending = store.purges().in_progress()?;
    let Some((last, _)) = pending.last() else { return Ok(()) };
    system.maintenance.persist_derived_state_through(*last, RUN_INTERVAL).await?;
    let PurgeSummary { removed, event_ids } = run_blocking(move || Ok(store.purge_entries(&pending)?)).await?;
    let PurgedEntryCounts { events, merges, users } = removed;
    system.metrics.purged_entries.increment(events + merges);
    tracing::info!(events, merges, users, "purged entries were removed; unlearning follows");
    system.maintenance.remove_event_ids(event_ids).await?;
    Ok(())
}

/// Rewrites the database's files, because they still contain the erased bytes.
fn rewrite_database(store_maintenance: &StoreMaintenance) -> Result<(), MaintenanceError> {
    store_maintenance.compact()?;
    Ok(store_maintenance.store().erasures().clear_pending(PendingTask::Compaction)?)
}

/// Appends an expiry to the journal if the journal contains entries that the expiry would remove.
async fn journal_expiry(system: &System, expiry: Expiry) -> Result<(), MaintenanceError> {
    let (store, scanned) = (system.store.clone(), expiry.clone());
    let decided_at = store.journal().next_offset()?;
    if run_blocking(move || Ok(store.has_expired_entries(&scanned)?)).await? {
        let permit = system.ingest.try_admit(1)?;
        // Another node of a cluster may have decided the same.
        let condition = CommitCondition::NoExpiryFrom(decided_at);
        system.ingest.append_if(condition, vec![Entry::Expire(expiry)], permit).await?;
    }
    Ok(())
}

/// Waits until all derived state contains the journal entries of the pending expiries, and then
/// executes the expiries.
async fn expire_pending(system: &System) -> Result<(), MaintenanceError> {
    let store = system.store.clone();
    let pending = store.expiries().in_progress()?;
    let Some((last, newest)) = pending.last().cloned() else { return Ok(()) };
    system.maintenance.persist_derived_state_through(last, RUN_INTERVAL).await?;
    let (journal, expiries) = (store.clone(), pending.clone());
    let entries = run_blocking(move || Ok(journal.remove_expired_entries(&expiries)?)).await?;
    // Entries are removed from the journal before steps are removed from sessions. In the other
    // order, a session that recovers from the journal in between would get its expired steps back.
    let mut sessions = 0;
    for (_, expiry) in &pending {
        sessions += system.maintenance.expire_sessions(expiry).await?;
    }
    run_blocking(move || Ok(store.expiries().record_finished(&pending)?)).await?;
    system.metrics.expired_entries.increment(entries);
    tracing::info!(entries, sessions, timestamp = newest.timestamp, "expired entries were removed");
    Ok(())
}

/// Runs blocking work on a thread pool for such work, so that the actors' threads continue.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MaintenanceError> + Send + 'static,
) -> Result<T, MaintenanceError> {
    actix_rt::task::spawn_blocking(work).await.map_err(|_| RequestError::ActorStopped("removal job"))?
}
