//! `sequor rebuild`: everything that is a fold of the journal, made anew from it.

use anyhow::{Context, bail};
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::consistency::{SessionReplayer, check_consistency};
use super::data_dir;
use super::evaluate::write_json;
use super::flags::{self, RuntimeFlags};
use super::progress_display::ProgressDisplay;
use crate::actors::background_worker::BackgroundWorker;
use crate::actors::pretrained::{number_items, read_pretrained};
use crate::actors::state_history::{StoredStateHistory, replay_up_to};
use crate::domain::{ItemDictionary, Offset};
use crate::learner::{Learner, LearnerConfig, LearnerDeps};
use crate::metrics::{ActorKind, Metrics};
use crate::settings::Settings;
use crate::store::{Committer, CommitterSettings, Durability, SessionRecord, Store, StoreError, codec};
use crate::telemetry::span;

/// Arguments of `sequor rebuild`.
#[derive(Debug, Args)]
#[command(
    after_help = "Item names, session records and what was learned are folds of the journal: they are folded again, under the settings given (give those of the daemon), \
    into a new database beside the old one, which then takes its place. Until then nothing is changed, and there must be room for both. The same journal and the same settings \
    give the same bytes, so that a daemon goes on as if nothing had been. The daemon must be stopped; its next start has nothing left to learn.\n\n\
    A journal that is damaged or lacks entries is refused: restore a backup. Where there is none, --accept-loss goes on with the entries before the damage."
)]
pub(super) struct Rebuild {
    #[command(flatten)]
    flags: RuntimeFlags,
    /// Give up the journal's entries from the first damage on, for good.
    #[arg(long)]
    accept_loss: bool,
    /// Write what the final verification found as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Rebuild {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let layers = data_dir::load_settings(&self.flags)?;
        let mut settings = layers.validated()?.clone();
        let way_out = "the journal itself is damaged: restore a backup, or go on with what comes before the damage by --accept-loss";
        let store = if self.accept_loss {
            data_dir::open_store(&settings, |dir, options| Store::open_for_inspection(dir, options), None)?
        } else {
            let store =
                data_dir::open_store(&settings, |dir, options| Store::open_existing(dir, options), None).map_err(|error| match error
                    .downcast_ref::<StoreError>(
                ) {
                    Some(StoreError::DamagedRecord { .. }) => error.context(way_out),
                    _ => error,
                })?;
            store.check_journal_end()?;
            store
        };
        let begin = store.journal().first_offset()?;
        if begin > 0 {
            bail!(
                "the journal in {} begins at offset {begin}: what came before it was dropped (store.retain_entries), and only a whole journal can be folded anew",
                store.dir().display()
            );
        }
        if let Some(pretrained) = read_pretrained(&store)? {
            flags::ensure_compatible(&layers, "network", &settings.network, pretrained.network_settings(), &[])?;
            settings.network = pretrained.network_settings().clone();
        }
        let stage = stage_in(store.dir()).with_context(|| format!("cannot write to {}", store.dir().display()))?;
        let copy = store.create_copy(&stage.path().join("data"))?;
        if let Some(pretrained) = read_pretrained(&copy)? {
            number_items(&copy, &pretrained)?;
        }
        store.copy_quarantine(&copy, |offset| offset)?;
        let end = store.journal().next_offset()?;
        let progress = ProgressDisplay::new(end, "entries copied");
        match store.copy_journal(&copy, end, &mut |done, _| progress.update(done)) {
            Err(error) if self.accept_loss => eprintln!("given up from here on: {error}"),
            copied => copied.context(way_out)?,
        }
        progress.finish();

        let names = rebuild_items(&copy)?;
        rebuild_sessions(&copy, &names, &settings)?;
        let fold = flags::learner_config(&settings);
        let metrics = Arc::new(Metrics::new(&settings.events.resolved_kinds())?);
        let offset = relearn(copy.clone(), names, fold, &metrics)?;
        copy.sync(Durability::PowerLoss)?;

        let learned = checkpoint(copy.dir(), offset);
        store.replace_with(copy)?;
        let checkpoints = store.checkpoints(usize::MAX)?;
        std::fs::rename(&learned, checkpoint(store.dir(), offset)).with_context(|| format!("cannot move {}", learned.display()))?;
        checkpoints.keep_only(offset)?;
        // They may be of entries that were given up.
        store.restore_points_read_only().keep_only(Offset::MAX)?;

        let found = check_consistency(&store, &settings);
        println!("{found}");
        if let Some(file) = &self.json {
            write_json(file, &found)?;
        }
        found.ensure_undamaged()
    }
}

/// A directory to build in, which is removed in the end; what an earlier rebuild left that died is
/// removed now: the store is held, so nobody is at work there.
fn stage_in(dir: &Path) -> std::io::Result<TempDir> {
    const PREFIX: &str = "rebuild.unfinished-";
    for entry in dir.read_dir()? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    tempfile::Builder::new().prefix(PREFIX).tempdir_in(dir)
}

/// The file of a checkpoint in a data directory.
fn checkpoint(dir: &Path, offset: Offset) -> PathBuf {
    dir.join(format!("checkpoints/{offset:020}.checkpoint"))
}

/// The items as the journal numbers them, stored.
pub(super) fn rebuild_items(store: &Store) -> anyhow::Result<Arc<ItemDictionary>> {
    let mut committer = Committer::open(store.clone(), CommitterSettings { dedup_window: 0, ..CommitterSettings::default() })?;
    committer.persist_indexes()?;
    Ok(committer.dictionary())
}

/// Every user's sequence, stored. Its hidden state is computed afresh when the user comes back.
pub(super) fn rebuild_sessions(store: &Store, names: &ItemDictionary, settings: &Settings) -> anyhow::Result<()> {
    let (sessions, end) = (store.sessions(), store.journal().next_offset()?);
    let (kinds, idle_gap_ms) = (settings.events.resolved_kinds(), settings.session.idle_gap.as_millis());
    let recorded = SessionReplayer { store, names, kinds: &kinds, idle_gap_ms };
    recorded.replay_sessions(
        "entries folded into sessions",
        |_| Offset::MAX,
        |users, _| {
            let record = |(user, folded): (String, super::consistency::ReplayedSession)| {
                (user, SessionRecord { applied_through: folded.applied_through, sequence: folded.sequence, hidden_state: Vec::new() })
            };
            let records: Vec<_> = users.into_iter().filter(|(_, folded)| !folded.is_removed).map(record).collect();
            sessions.put(records.iter().map(|(user, record)| (user.as_str(), record)), 0)
        },
    )?;
    Ok(sessions.put([], end)?)
}

/// What the journal teaches, written as the checkpoint of its end.
pub(super) fn relearn(store: Store, names: Arc<ItemDictionary>, fold: LearnerConfig, metrics: &Metrics) -> anyhow::Result<Offset> {
    actix::System::new().block_on(async move {
        let training = BackgroundWorker::start(
            || span!("training"),
            metrics.training_seconds.clone(),
            metrics.panics.with_label(ActorKind::Training).clone(),
        );
        let clustering = BackgroundWorker::start(
            || span!("clustering"),
            metrics.clustering_seconds.clone(),
            metrics.panics.with_label(ActorKind::Candidates).clone(),
        );
        let pretrained = read_pretrained(&store)?;
        let past = StoredStateHistory::new(store.clone(), Arc::clone(&names), fold.clone());
        let aides = LearnerDeps { training: Box::new(training), clustering: Box::new(clustering), state_history: Box::new(past) };
        let mut learner = Learner::new(fold, names, None, 0, pretrained, aides)?;
        let (reply, told) = oneshot::channel();
        // On a thread of its own: this one hands jobs on to those of training and clustering.
        std::thread::spawn(move || {
            let learn = || -> anyhow::Result<Offset> {
                let end = store.journal().next_offset()?;
                let progress = ProgressDisplay::new(end, "entries learned");
                replay_up_to(&mut learner, &store, end, |offset| progress.update(offset)).map_err(|error| anyhow::anyhow!(error))?;
                let state = learner.state()?;
                store.checkpoints(1)?.write::<StoreError>(end, |file| Ok(codec::encode_to(&state, file)?))?;
                progress.finish();
                Ok(end)
            };
            let _ = reply.send({ learn }());
        });
        match told.await {
            Ok(learned) => learned,
            Err(_) => bail!("learning died; its last words stand in the log"),
        }
    })
}
