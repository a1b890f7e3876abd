//! Learning anew without users who were erased, while a daemon serves: everything that is a fold of
//! the journal is folded again beside it, from a journal that has no blanks, and takes the place of
//! what is there when the daemon next starts, which it then does by itself.

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::oneshot;

use super::flags;
use super::rebuild::{rebuild_items, rebuild_sessions, relearn};
use crate::actors::pretrained::{number_items, read_pretrained};
use crate::domain::Offset;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::store::{Durability, OffsetShift, PendingTask, Store, StoreOptions};

/// The folder in a data directory where it is made.
const STAGING_DIR: &str = "unlearned";
/// The file in it that says that it is whole, and how far it reaches.
const READY_FILE: &str = "ready";
/// How often it is looked whether there is something to unlearn.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long it is waited before another try.
const RETRY_DELAY: Duration = Duration::from_secs(60);

/// What is made.
#[derive(Debug, Serialize, Deserialize)]
struct UnlearnManifest {
    /// Where the entries went.
    shift: OffsetShift,
    /// How many users had been erased.
    erased: usize,
}

fn stage(store: &Store) -> PathBuf {
    store.dir().join(STAGING_DIR)
}

/// Waits until something is to be unlearned, makes it, and returns: then a start takes it up.
pub(super) async fn prepare_when_pending(store: Store, settings: Settings) {
    let mut every = actix::clock::interval(POLL_INTERVAL);
    loop {
        every.tick().await;
        match store.erasures().is_pending(PendingTask::Unlearning) {
            Ok(false) => continue,
            Ok(true) => {}
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "it is not known whether something is to be unlearned");
                continue;
            }
        }
        let (reply, told) = oneshot::channel();
        let (store, settings) = (store.clone(), settings.clone());
        // On a thread of its own, for it takes as long as learning everything does.
        std::thread::spawn(move || reply.send(prepare(&store, &settings)));
        match told.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => tracing::error!("what is to be unlearned is not yet, and is tried again: {error:#}"),
            Err(_) => tracing::error!("unlearning died; it is tried again"),
        }
        actix::clock::sleep(RETRY_DELAY).await;
    }
}

/// Folds everything anew beside the store.
fn prepare(store: &Store, settings: &Settings) -> anyhow::Result<()> {
    let begin = store.journal().first_offset()?;
    if begin > 0 {
        store.erasures().clear_pending(PendingTask::Unlearning)?;
        bail!(
            "it never will be: the journal's entries before offset {begin} were dropped, and only from a whole one can everything be learned anew"
        );
    }
    let stage = stage(store);
    discard(&stage)?;
    std::fs::create_dir(&stage).with_context(|| format!("cannot write {}", stage.display()))?;
    let erased = store.erasures().erased_users()?.len();
    let copy = store.create_copy(&stage.join("data"))?;
    if let Some(pretrained) = read_pretrained(&copy)? {
        number_items(&copy, &pretrained)?;
    }
    tracing::info!("everything is learned anew without the users who were erased; answers go on meanwhile");
    let mut shift = OffsetShift::default();
    store.copy_without_tombstones(&copy, &mut shift, store.journal().next_offset()?)?;
    store.copy_quarantine(&copy, |offset| shift.map_offset(offset))?;
    let names = rebuild_items(&copy)?;
    rebuild_sessions(&copy, &names, settings)?;
    relearn(copy.clone(), names, flags::learner_config(settings), &Metrics::new(&settings.events.resolved_kinds())?)?;
    copy.sync(Durability::PowerLoss)?;
    copy.close()?;
    let ready = stage.join(READY_FILE);
    let text = serde_json::to_vec(&UnlearnManifest { shift, erased })?;
    let unfinished = stage.join("ready.unfinished");
    std::fs::write(&unfinished, text).and_then(|()| std::fs::File::open(&unfinished)?.sync_all()).context("cannot finish")?;
    std::fs::rename(unfinished, ready)?;
    Ok(())
}

/// Puts what was learned anew in place of what is there, if it is whole and nobody was erased
/// since. Says whether it did. May be cut short anywhere.
pub(super) fn apply_finished(store: &Store) -> anyhow::Result<bool> {
    let stage = stage(store);
    let Ok(text) = std::fs::read(stage.join(READY_FILE)) else {
        discard(&stage)?;
        return Ok(false);
    };
    let (under_way, erased) = (store.erasures().in_progress()?, store.erasures().erased_users()?.len());
    let ready: Option<UnlearnManifest> = serde_json::from_slice(&text).ok();
    let Some(UnlearnManifest { mut shift, .. }) = ready.filter(|ready| under_way.is_empty() && ready.erased == erased) else {
        discard(&stage)?;
        return Ok(false);
    };
    let copy = Store::open_existing(stage.join("data"), &StoreOptions::default())?;
    // What was copied before a start that was cut short.
    shift.advance_to(copy.journal().next_offset()?);
    store.copy_without_tombstones(&copy, &mut shift, store.journal().next_offset()?)?;
    copy.sync(Durability::PowerLoss)?;
    let learned = copy.checkpoints_read_only().offsets()?;
    // What is there was learned from another numbering of the entries.
    store.checkpoints(usize::MAX)?.drop_before(Offset::MAX)?;
    store.restore_points_read_only().drop_before(Offset::MAX)?;
    store.replace_with(copy)?;
    for offset in learned {
        let name = format!("checkpoints/{offset:020}.checkpoint");
        std::fs::rename(stage.join("data").join(&name), store.dir().join(&name)).with_context(|| format!("cannot move {name}"))?;
    }
    discard(&stage)?;
    tracing::info!("what was learned is what follows from a journal that never had the users who were erased");
    Ok(true)
}

fn discard(stage: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(stage) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", stage.display()))
        }
        _ => Ok(()),
    }
}
