//! From what is stored to where the journal ends.

use actix::Addr;
use std::sync::Arc;

use crate::actors::background_worker::BackgroundWorker;
use crate::actors::checkpoint_preload::CheckpointPreload;
use crate::actors::error::SystemError;
use crate::actors::pretrained::read_pretrained;
use crate::actors::session::SessionUpdate;
use crate::actors::shard::{DeliverEntries, ShardActor, shard_of};
use crate::actors::state_history::{StoredStateHistory, decode_checkpoint};
use crate::domain::{ItemDictionary, Offset};
use crate::learner::{Learner, LearnerConfig, LearnerDeps, LearnerState};
use crate::metrics::{ActorKind, Metrics, QueueName};
use crate::store::Store;
use crate::telemetry::span;

/// Makes the fold as its newest checkpoint left it, or at its begin if there is none, or only one
/// made under other settings. Its threads last from one to the next. What was read
/// `checkpoint_preload` spares the first one the reading.
pub(super) fn learner_loader(
    store: &Store,
    dictionary: &Arc<ItemDictionary>,
    settings: LearnerConfig,
    kept: usize,
    metrics: &Metrics,
    mut ahead: Option<CheckpointPreload>,
) -> impl FnMut() -> Result<Learner, SystemError> + use<> {
    let (store, dictionary) = (store.clone(), Arc::clone(dictionary));
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
    move || {
        let past = StoredStateHistory::new(store.clone(), Arc::clone(&dictionary), settings.clone());
        let aides = LearnerDeps {
            training: Box::new(training.new_replacement()),
            clustering: Box::new(clustering.new_replacement()),
            state_history: Box::new(past),
        };
        let read = ahead.take().map_or(Ok(None), |ahead| ahead.into_state(&store))?.filter(|state| state.matches_settings(&settings));
        let (state, first) =
            (read.map_or_else(|| newest(&store, kept, &settings), |state| Ok(Some(state)))?, store.journal().first_offset()?);
        Ok(Learner::new(settings.clone(), Arc::clone(&dictionary), state, first, read_pretrained(&store)?, aides)?)
    }
}

/// What the newest checkpoint under these settings holds; if there is none, what the newest one
/// under others does. One that this build cannot read is passed over.
fn newest(store: &Store, kept: usize, settings: &LearnerConfig) -> Result<Option<LearnerState>, SystemError> {
    let mut other = None;
    for state in store.checkpoints(kept)?.newest_first(store.journal().next_offset()?)?.filter_map(decode_checkpoint) {
        if state.matches_settings(settings) {
            return Ok(Some(state));
        }
        other = other.or(Some(state));
    }
    Ok(other)
}

/// Puts the journal's tail before the sessions: what their stored records do not hold yet.
pub(super) fn deliver_journal_tail(
    store: &Store,
    dictionary: &ItemDictionary,
    fold: &LearnerConfig,
    shards: &[Addr<ShardActor>],
    metrics: &Metrics,
    through: Offset,
) -> Result<(), SystemError> {
    let mut next = through;
    loop {
        let entries = store.journal().read(next, 4096)?;
        let Some((last, _)) = entries.last() else { return Ok(()) };
        let from = std::mem::replace(&mut next, last + 1);
        let mut by_shard: Vec<Vec<(String, SessionUpdate)>> = shards.iter().map(|_| Vec::new()).collect();
        for (offset, entry) in entries {
            if let Some((user, happened)) = SessionUpdate::from_entry(offset, entry, dictionary, &fold.kinds)
                && let Some(events) = by_shard.get_mut(shard_of(&user, shards.len()))
            {
                events.push((user, happened));
            }
        }
        for (shard, events) in shards.iter().zip(by_shard) {
            metrics.queue_depth.with_label(QueueName::Shards).increment(events.len() as f64);
            shard.do_send(DeliverEntries { events, from, through: next, permits: None });
        }
    }
}
