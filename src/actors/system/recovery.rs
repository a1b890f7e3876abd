//! Recovery: loads the learner from its newest checkpoint and replays the journal's tail.

use std::sync::Arc;

use crate::actors::background_worker::BackgroundWorker;
use crate::actors::checkpoint_preload::CheckpointPreload;
use crate::actors::error::StartError;
use crate::actors::handles::ShardRouter;
use crate::actors::pretrained::read_pretrained;
use crate::actors::session::SessionUpdate;
use crate::actors::shard::{DeliverEntries, shard_of_user};
use crate::actors::state_history::{StoreBackedStateHistory, decode_checkpoint};
use crate::domain::{EventKinds, Offset};
use crate::learner::{Learner, LearnerConfig, LearnerDeps, LearnerState, TrainingExchange};
use crate::metrics::{ActorKind, Metrics, QueueName, ThreadRole};
use crate::registries::ItemDictionary;
use crate::store::Store;
use crate::telemetry::span;

/// Returns a function that loads the learner from its newest checkpoint. If no checkpoint was
/// written under these settings, the learner starts at the beginning of the journal. All learners
/// share the background threads. The first learner uses the state of `preload`, if that is the
/// newest checkpoint.
pub(super) fn learner_loader(
    store: &Store,
    dictionary: &Arc<ItemDictionary>,
    (settings, keep): (LearnerConfig, usize),
    metrics: &Metrics,
    mut preload: Option<CheckpointPreload>,
    exchange: Option<Arc<dyn TrainingExchange>>,
) -> impl FnMut() -> Result<Learner, StartError> + use<> {
    let (store, dictionary) = (store.clone(), Arc::clone(dictionary));
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
    move || {
        let history = StoreBackedStateHistory::new(store.clone(), Arc::clone(&dictionary), settings.clone());
        let deps = LearnerDeps {
            training: Box::new(training.new_replacement()),
            clustering: Box::new(clustering.new_replacement()),
            state_history: Box::new(history),
        };
        let preloaded = preload
            .take()
            .map_or(Ok(None), |preload| preload.into_newest_state(&store))?
            .filter(|state| state.matches_settings(&settings));
        let (state, first) = (
            preloaded.map_or_else(|| load_newest_state(&store, keep, &settings), |state| Ok(Some(state)))?,
            store.journal().first_offset()?,
        );
        let pretrained = read_pretrained(&store)?;
        let learner = Learner::new(settings.clone(), Arc::clone(&dictionary), state, first, pretrained, deps)?;
        Ok(learner.with_training_exchange(exchange.clone()))
    }
}

/// Returns the state of the newest checkpoint that was written under these settings. If there is
/// none, returns the state of the newest checkpoint under other settings. The search skips
/// checkpoints that this build cannot read.
fn load_newest_state(store: &Store, keep: usize, settings: &LearnerConfig) -> Result<Option<LearnerState>, StartError> {
    let mut other = None;
    for state in
        store.checkpoints(keep)?.open_newest_first(store.journal().next_offset()?)?.filter_map(decode_checkpoint)
    {
        if state.matches_settings(settings) {
            return Ok(Some(state));
        }
        other = other.or(Some(state));
    }
    Ok(other)
}

/// Delivers the journal's tail to the sessions: the entries that the stored records lack.
pub(super) fn deliver_journal_tail(
    store: &Store,
    dictionary: &ItemDictionary,
    kinds: &EventKinds,
    router: &ShardRouter,
    metrics: &Metrics,
    flushed_through: Offset,
) -> Result<(), StartError> {
    let ShardRouter { shards, session_table, .. } = router;
    let mut next = flushed_through;
    loop {
        (0..shards.len()).for_each(|number| session_table.set_sent(number, next));
        let entries = store.journal().read_entries(next, 4096)?;
        let Some((last, _)) = entries.last() else { return Ok(()) };
        let from = std::mem::replace(&mut next, last + 1);
        let mut by_shard: Vec<Vec<(String, SessionUpdate)>> = shards.iter().map(|_| Vec::new()).collect();
        for (offset, entry) in entries {
            if let Some((user, update)) = SessionUpdate::from_entry(offset, entry, dictionary, kinds)
                && let Some(events) = by_shard.get_mut(shard_of_user(&user, shards.len()))
            {
                events.push((user, update));
            }
        }
        for (number, (shard, events)) in shards.iter().zip(by_shard).enumerate() {
            metrics.queue_depth.with_label(QueueName::Shards).increment(events.len() as f64);
            session_table.set_sent(number, next);
            shard.do_send(DeliverEntries { events, from, through: next, permits: None });
        }
    }
}
