//! Unlearning of erased users and purged events while a daemon serves. A background thread rebuilds
//! all derived state next to the store, from a journal without the removed entries. The daemon then
//! restarts itself, and the rebuilt state replaces the old state.

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::oneshot;

use super::error_text::describe_error;
use super::flags;
use super::rebuild::{rebuild_items, rebuild_sessions, relearn_journal};
use crate::actors::pretrained::{assign_item_numbers, read_pretrained};
use crate::domain::Offset;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::store::{Durability, OffsetShift, PendingTask, Store, StoreOptions};

/// Folder in the data directory for the rebuilt state.
const STAGING_DIR: &str = "unlearned";
/// File in that folder that marks the state as complete; it holds an [`UnlearnManifest`].
const READY_FILE: &str = "ready";
/// Poll interval for pending unlearning.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Delay before a failed rebuild is retried.
const RETRY_DELAY: Duration = Duration::from_secs(60);

/// Description of the rebuilt state.
#[derive(Debug, Serialize, Deserialize)]
struct UnlearnManifest {
    /// Maps the offsets of the old journal to those of the new one, which lacks the erased entries.
    shift: OffsetShift,
    /// Number of erased users at the start of the rebuild.
    erased: usize,
    /// Number of finished purges at the start of the rebuild.
    #[serde(default)]
    purged: u64,
}

fn staging_dir(store: &Store) -> PathBuf {
    store.dir().join(STAGING_DIR)
}

/// Waits until unlearning is pending, rebuilds the state, and returns once it is complete. The next
/// start of the daemon applies the rebuilt state.
pub(super) async fn rebuild_state_when_pending(store: Store, settings: Settings) {
    let mut ticks = actix::clock::interval(POLL_INTERVAL);
    loop {
        ticks.tick().await;
        match store.erasures().is_pending(PendingTask::Unlearning) {
            Ok(false) => continue,
            Ok(true) => {}
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot read whether unlearning is pending");
                continue;
            }
        }
        let (reply, outcome) = oneshot::channel();
        let (store, settings) = (store.clone(), settings.clone());
        // The rebuild blocks its thread for as long as learning the whole journal takes.
        std::thread::spawn(move || reply.send(rebuild_state(&store, &settings)));
        match outcome.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                tracing::error!("unlearning failed; it is retried while it is pending: {}", describe_error(&error))
            }
            Err(_) => tracing::error!("unlearning panicked and will be retried"),
        }
        actix::clock::sleep(RETRY_DELAY).await;
    }
}

/// Rebuilds all derived state next to the store.
fn rebuild_state(store: &Store, settings: &Settings) -> anyhow::Result<()> {
    let begin = store.journal().first_offset()?;
    if begin > 0 {
        store.erasures().clear_pending(PendingTask::Unlearning)?;
        bail!(
            "the journal entries before offset {begin} were dropped, and unlearning needs the complete journal; it is cancelled"
        );
    }
    let stage_dir = staging_dir(store);
    discard_stage_dir(&stage_dir)?;
    std::fs::create_dir(&stage_dir).with_context(|| format!("cannot write {}", stage_dir.display()))?;
    let (erased, purged) = (store.erasures().erased_users()?.len(), store.purges().finished_count()?);
    let copy = store.create_copy(&stage_dir.join("data"))?;
    if let Some(pretrained) = read_pretrained(&copy)? {
        assign_item_numbers(&copy, &pretrained)?;
    }
    tracing::info!(
        "unlearning: rebuilding the learned state without the removed events; requests are served meanwhile"
    );
    let mut shift = OffsetShift::default();
    store.copy_without_tombstones(&copy, &mut shift, store.journal().next_offset()?)?;
    store.copy_quarantine(&copy, |offset| shift.map_offset(offset))?;
    let names = rebuild_items(&copy)?;
    rebuild_sessions(&copy, &names, settings)?;
    relearn_journal(
        copy.clone(),
        names,
        flags::learner_config(settings),
        &Metrics::new(&settings.events.resolved_kinds())?,
    )?;
    copy.sync(Durability::PowerLoss)?;
    copy.close()?;
    let ready = stage_dir.join(READY_FILE);
    let text = serde_json::to_vec(&UnlearnManifest { shift, erased, purged })?;
    let unfinished = stage_dir.join("ready.unfinished");
    std::fs::write(&unfinished, text)
        .and_then(|()| std::fs::File::open(&unfinished)?.sync_all())
        .context("cannot write the manifest")?;
    std::fs::rename(unfinished, ready)?;
    Ok(())
}

/// Replaces the state of the store by the rebuilt state, if the rebuilt state is complete and no
/// user was erased and no origin purged since. Returns whether the state was replaced. A crash at
/// any point is safe.
pub(super) fn apply_rebuilt_state(store: &Store) -> anyhow::Result<bool> {
    let stage_dir = staging_dir(store);
    let Ok(text) = std::fs::read(stage_dir.join(READY_FILE)) else {
        discard_stage_dir(&stage_dir)?;
        return Ok(false);
    };
    let is_removing = !store.erasures().in_progress()?.is_empty() || !store.purges().in_progress()?.is_empty();
    let (erased, purged) = (store.erasures().erased_users()?.len(), store.purges().finished_count()?);
    let ready: Option<UnlearnManifest> = serde_json::from_slice(&text).ok();
    let is_current = |ready: &UnlearnManifest| !is_removing && ready.erased == erased && ready.purged == purged;
    let Some(UnlearnManifest { mut shift, .. }) = ready.filter(is_current) else {
        discard_stage_dir(&stage_dir)?;
        return Ok(false);
    };
    let copy = Store::open_existing(stage_dir.join("data"), &StoreOptions::default())?;
    // If an earlier start was interrupted, it has already copied some entries. The mapping
    // continues after them.
    shift.advance_to(copy.journal().next_offset()?);
    store.copy_without_tombstones(&copy, &mut shift, store.journal().next_offset()?)?;
    copy.sync(Durability::PowerLoss)?;
    let checkpoint_offsets = copy.checkpoints_read_only().offsets()?;
    // The old checkpoints refer to the old offsets.
    store.checkpoints(usize::MAX)?.drop_before(Offset::MAX)?;
    store.restore_points_read_only().drop_before(Offset::MAX)?;
    store.replace_with(copy)?;
    for offset in checkpoint_offsets {
        let name = format!("checkpoints/{offset:020}.checkpoint");
        std::fs::rename(stage_dir.join("data").join(&name), store.dir().join(&name))
            .with_context(|| format!("cannot move {name}"))?;
    }
    discard_stage_dir(&stage_dir)?;
    tracing::info!("unlearning finished: the learned state is that of a journal without the removed events");
    Ok(true)
}

fn discard_stage_dir(stage_dir: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(stage_dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", stage_dir.display()))
        }
        _ => Ok(()),
    }
}
