//! `sequor rebuild`: recomputes all derived state from the journal.

use anyhow::{Context, bail};
use clap::Args;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::consistency::check_consistency;
use super::data_dir;
use super::evaluate::write_json;
use super::flags::{self, RuntimeFlags};
use super::progress_display::ProgressDisplay;
use super::session_refresh::session_rules;
use super::session_replay::{ReplayedSession, SessionReplayer};
use crate::actors::background_worker::BackgroundWorker;
use crate::actors::pretrained::{assign_item_numbers, read_pretrained};
use crate::actors::state_history::{StoreBackedStateHistory, encode_checkpoint, replay_up_to};
use crate::domain::Offset;
use crate::learner::{Learner, LearnerConfig, LearnerDeps};
use crate::metrics::{ActorKind, Metrics, ThreadRole};
use crate::registries::ItemDictionary;
use crate::settings::Settings;
use crate::store::{Committer, CommitterSettings, Durability, SessionRecord, Store, StoreError};
use crate::telemetry::span;

/// Arguments of `sequor rebuild`.
#[derive(Debug, Args)]
#[command(
    after_help = "Item names, session records and the learned state are derived from the journal. This command recomputes them in a new database next to the old one, \
    and then replaces the old one. Until then, nothing changes. The disk must have space for both.\n\n\
    The daemon must be stopped. Use its settings (--config, --set): the same journal and the same settings give the same bytes. The next start of the daemon has nothing left to learn.\n\n\
    If the journal is damaged or incomplete, the command fails: restore a backup. If there is none, --accept-loss keeps every entry that can be read, before and after the damage.\n\n\
    Example:\n  sequor rebuild --data-dir sequor-data --config sequor.toml"
)]
pub(super) struct Rebuild {
    #[command(flatten)]
    flags: RuntimeFlags,
    /// Permanently drop the damaged journal entries. All other entries keep their offsets.
    #[arg(long)]
    accept_loss: bool,
    /// Write the report of the final verification to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Rebuild {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let layers = data_dir::load_settings(&self.flags)?;
        let mut settings = layers.validated_settings()?.clone();
        let hint = "the journal is damaged: restore a backup, or drop the damaged entries with --accept-loss";
        let store = if self.accept_loss {
            data_dir::open_store(&settings, |dir, options| Store::open_for_inspection(dir, options), None)?
        } else {
            let store = data_dir::open_store(&settings, |dir, options| Store::open_existing(dir, options), None)
                .map_err(|error| match error.downcast_ref::<StoreError>() {
                    Some(StoreError::DamagedRecord { .. }) => error.context(hint),
                    _ => error,
                })?;
            store.check_journal_end()?;
            store
        };
        let begin = store.journal().first_offset()?;
        if begin > 0 {
            bail!(
                "the journal in {} starts at offset {begin}: the part before it was dropped (store.retain_entries). A rebuild needs the complete journal",
                store.dir().display()
            );
        }
        if let Some(pretrained) = read_pretrained(&store)? {
            flags::ensure_compatible(&layers, "network", &settings.network, pretrained.network_settings(), &[])?;
            settings.network = pretrained.network_settings().clone();
        }
        let stage =
            create_stage_dir(store.dir()).with_context(|| format!("cannot write to {}", store.dir().display()))?;
        let copy = store.create_copy(&stage.path().join("data"))?;
        if let Some(pretrained) = read_pretrained(&copy)? {
            assign_item_numbers(&copy, &pretrained)?;
        }
        store.copy_quarantine(&copy, |offset| offset)?;
        let end = store.journal().next_offset()?;
        let progress = ProgressDisplay::new(end, "entries copied");
        let lost = if self.accept_loss {
            store.salvage_journal(&copy, &mut |done| progress.update(done))?
        } else {
            store.copy_journal(&copy, end, &mut |done, _| progress.update(done)).context(hint)?;
            Vec::new()
        };
        progress.finish();
        for range in &lost {
            eprintln!("the entries from offset {} to {} are damaged and lost", range.start, range.end - 1);
        }

        let names = rebuild_items(&copy)?;
        store.copy_lost_indexes(&copy, &lost)?;
        rebuild_sessions(&copy, &names, &settings)?;
        let config = flags::learner_config(&settings);
        let metrics = Arc::new(Metrics::new(&settings.events.resolved_kinds())?);
        let offset = relearn_journal(copy.clone(), names, config, &metrics)?;
        copy.sync(Durability::PowerLoss)?;

        let new_checkpoint = checkpoint_path(copy.dir(), offset);
        store.replace_with(copy)?;
        let checkpoints = store.checkpoints(usize::MAX)?;
        std::fs::rename(&new_checkpoint, checkpoint_path(store.dir(), offset))
            .with_context(|| format!("cannot move {}", new_checkpoint.display()))?;
        checkpoints.keep_only(offset)?;
        // The restore points are removed, because they may contain what was learned from dropped
        // entries.
        store.restore_points_read_only().keep_only(Offset::MAX)?;

        let report = check_consistency(&store, &settings);
        writeln!(stdout(), "{report}")?;
        if let Some(file) = &self.json {
            write_json(file, &report)?;
        }
        report.ensure_undamaged()
    }
}

/// Creates a temporary directory in `dir` for the new database. Also removes the temporary
/// directories of killed rebuilds. None of them is in use, because the caller holds the lock of the
/// store.
fn create_stage_dir(dir: &Path) -> std::io::Result<TempDir> {
    const STAGE_DIR_PREFIX: &str = "rebuild.unfinished-";
    for entry in dir.read_dir()? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(STAGE_DIR_PREFIX) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    tempfile::Builder::new().prefix(STAGE_DIR_PREFIX).tempdir_in(dir)
}

/// The path of a checkpoint file in a data directory.
fn checkpoint_path(dir: &Path, offset: Offset) -> PathBuf {
    dir.join(format!("checkpoints/{offset:020}.checkpoint"))
}

/// Rebuilds the item dictionary in journal order and stores it.
pub(super) fn rebuild_items(store: &Store) -> anyhow::Result<Arc<ItemDictionary>> {
    let mut committer =
        Committer::open(store.clone(), CommitterSettings { dedup_window: 0, ..CommitterSettings::default() })?;
    committer.persist_indexes()?;
    Ok(committer.dictionary())
}

/// Rebuilds and stores the sequence of every user. The hidden states stay empty. The hidden state
/// of a user is recomputed when the user returns.
pub(super) fn rebuild_sessions(store: &Store, names: &ItemDictionary, settings: &Settings) -> anyhow::Result<()> {
    let (sessions, end) = (store.sessions(), store.journal().next_offset()?);
    let (kinds, idle_gap_ms) = (settings.events.resolved_kinds(), settings.session.idle_gap.as_millis());
    let replayer = SessionReplayer { store, names, kinds: &kinds, idle_gap_ms };
    replayer.replay_sessions(
        "entries replayed into sessions",
        |_| Offset::MAX,
        |users, _| {
            let record = |(user, session): (String, ReplayedSession)| {
                (
                    user,
                    SessionRecord {
                        applied_through: session.applied_through,
                        sequence: session.sequence,
                        hidden_state: Vec::new(),
                    },
                )
            };
            let records: Vec<_> = users.into_iter().filter(|(_, session)| !session.is_removed).map(record).collect();
            sessions.put(records.iter().map(|(user, record)| (user.as_str(), record)), 0)
        },
    )?;
    sessions.put([], end)?;
    Ok(store.set_session_rules(&session_rules(settings))?)
}

/// Learns the whole journal and writes a checkpoint at its end. Returns the offset of the
/// checkpoint.
pub(super) fn relearn_journal(
    store: Store,
    names: Arc<ItemDictionary>,
    config: LearnerConfig,
    metrics: &Metrics,
) -> anyhow::Result<Offset> {
    actix::System::new().block_on(async move {
        let training = BackgroundWorker::start_thread(
            ThreadRole::Training,
            || span!("training"),
            metrics.training_seconds.clone(),
            metrics.panics.with_label(ActorKind::Training).clone(),
        );
        let clustering = BackgroundWorker::start_thread(
            ThreadRole::Clustering,
            || span!("clustering"),
            metrics.clustering_seconds.clone(),
            metrics.panics.with_label(ActorKind::Candidates).clone(),
        );
        let pretrained = read_pretrained(&store)?;
        let state_history = StoreBackedStateHistory::new(store.clone(), Arc::clone(&names), config.clone());
        let deps = LearnerDeps {
            training: Box::new(training),
            clustering: Box::new(clustering),
            state_history: Box::new(state_history),
        };
        let mut learner = Learner::new(config, names, None, 0, pretrained, deps)?;
        let (reply, outcome) = oneshot::channel();
        // The learner blocks its thread until it has learned the whole journal. Meanwhile, the
        // current thread must pass jobs to the training and clustering workers. So the learner gets
        // a separate thread.
        std::thread::spawn(move || {
            let learn = || -> anyhow::Result<Offset> {
                let end = store.journal().next_offset()?;
                let progress = ProgressDisplay::new(end, "entries learned");
                replay_up_to(&mut learner, &store, end, |offset| progress.update(offset))
                    .map_err(|error| anyhow::anyhow!(error))?;
                let state = learner.state()?;
                store.checkpoints(1)?.write::<StoreError>(end, |file| Ok(encode_checkpoint(state, file)?))?;
                progress.finish();
                Ok(end)
            };
            let _ = reply.send({ learn }());
        });
        match outcome.await {
            Ok(learned) => learned,
            Err(_) => bail!("the learning thread panicked; its message is on standard error"),
        }
    })
}
