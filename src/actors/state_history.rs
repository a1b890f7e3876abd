//! What was learned earlier, from the disk or from the journal.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::pretrained::read_pretrained;
use crate::domain::{ItemDictionary, Offset};
use crate::learner::{InlineJobs, Learner, LearnerConfig, LearnerDeps, LearnerState, StateHistory, StateHistoryError};
use crate::store::{CheckpointReader, Checkpoints, QuarantineReader, Store, StoreError, codec};

/// How many states that were rolled back to or from are kept, those used last.
const POINTS: usize = 8;

/// Finds an earlier state among the checkpoints and restore points, or applies the journal from the
/// nearest one before it. It stores the requested state and the current one as restore points, so
/// that a later replay of the same entries finds them.
pub struct StoredStateHistory {
    store: Store,
    dictionary: Arc<ItemDictionary>,
    settings: LearnerConfig,
}

impl StoredStateHistory {
    /// The past of a fold over that store under these settings.
    #[must_use]
    pub fn new(store: Store, dictionary: Arc<ItemDictionary>, settings: LearnerConfig) -> Self {
        Self { store, dictionary, settings }
    }

    /// The state of exactly that offset, if it is on the disk.
    fn find(&self, places: &[&Checkpoints], at: Offset) -> Option<LearnerState> {
        places.iter().find_map(|place| place.get(at).and_then(decode_checkpoint).filter(|state| state.matches_settings(&self.settings)))
    }

    /// Folds the journal up to `to`, from the nearest state before it.
    fn fold(&self, places: &[&Checkpoints], to: Offset) -> Result<LearnerState, StateHistoryError> {
        let mut offsets = BTreeSet::new();
        for place in places {
            offsets.extend(place.offsets()?);
        }
        let begin = self.store.journal().first_offset()?;
        let earlier = offsets.range(begin..to).rev().find_map(|at| self.find(places, *at));
        if earlier.is_none() && begin > 0 {
            return Err(format!("no state from before it is kept, and the journal's entries before {begin} were dropped").into());
        }
        let aides = LearnerDeps {
            training: Box::<InlineJobs<_>>::default(),
            clustering: Box::<InlineJobs<_>>::default(),
            state_history: Box::new(Self::new(self.store.clone(), Arc::clone(&self.dictionary), self.settings.clone())),
        };
        let mut learner =
            Learner::new(self.settings.clone(), Arc::clone(&self.dictionary), earlier, 0, read_pretrained(&self.store)?, aides)?;
        replay_up_to(&mut learner, &self.store, to, |_| {})?;
        Ok(learner.state()?.clone())
    }
}

impl StateHistory for StoredStateHistory {
    fn state_at(&mut self, present: &LearnerState, to: Offset) -> Result<LearnerState, StateHistoryError> {
        let at = present.next_offset();
        if to > at {
            return Err("it lies in the future".into());
        }
        let points = self.store.restore_points()?;
        let places = [&points, &self.store.checkpoints_read_only()];
        keep(&points, present)?;
        let state = match self.find(&places, to) {
            Some(state) => state,
            None => self.fold(&places, to)?,
        };
        keep(&points, &state)?;
        // Not by their offsets: the oldest state may be the one that is gone back to time and
        // again.
        points.keep_latest(POINTS)?;
        Ok(state)
    }
}

fn keep(points: &Checkpoints, state: &LearnerState) -> Result<(), StoreError> {
    points.write::<StoreError>(state.next_offset(), |file| Ok(codec::encode_to(state, file)?)).map(drop)
}

/// Folds the journal's entries before `to`, but for those in quarantine; `observe` is told the
/// offset after each.
///
/// # Errors
/// What the journal or the fold says.
pub fn replay_up_to(learner: &mut Learner, store: &Store, to: Offset, mut observe: impl FnMut(Offset)) -> Result<(), StateHistoryError> {
    let noted = store.quarantine().all()?.into_iter().filter(|noted| noted.reader == QuarantineReader::Learner);
    let passed_over: BTreeSet<Offset> = noted.map(|noted| noted.offset).collect();
    for entry in store.journal().entries(learner.next_offset())? {
        let (offset, entry) = entry?;
        if offset >= to {
            break;
        }
        let folded = if passed_over.contains(&offset) { learner.skip(offset) } else { learner.apply(offset, &entry) };
        folded.map_err(|error| format!("learning failed at offset {offset}: {error}"))?;
        observe(offset + 1);
    }
    Ok(())
}

/// What a checkpoint holds, if it is one that this build can read.
pub fn decode_checkpoint(mut checkpoint: CheckpointReader) -> Option<LearnerState> {
    let length = checkpoint.remaining();
    let read = codec::decode_from(&mut checkpoint, length);
    read.inspect_err(|error| {
        tracing::warn!(error = error as &dyn std::error::Error, "a checkpoint is of another build; passed over");
    })
    .ok()
}
