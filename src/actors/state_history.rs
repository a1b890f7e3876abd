//! Earlier learned states, which rollbacks return to. They are read from the disk or rebuilt from
//! the journal.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use super::pretrained::read_pretrained;
use crate::domain::Offset;
use crate::learner::{InlineJobs, Learner, LearnerConfig, LearnerDeps, LearnerState, StateHistory, StateHistoryError};
use crate::registries::ItemDictionary;
use crate::store::codec::{self, CodecError};
use crate::store::{CheckpointReader, Checkpoints, QuarantineReader, Store, StoreError};

/// Number of restore points to keep. The least recently used restore points are removed.
const MAX_RESTORE_POINTS: usize = 8;

/// Returns earlier learned states. It searches the checkpoints and restore points for the requested
/// state. If none has the requested offset, it applies the journal to the nearest earlier state. It
/// stores the requested and the current state as restore points, so that a later replay of the same
/// rollback finds them.
pub struct StoreBackedStateHistory {
    store: Store,
    dictionary: Arc<ItemDictionary>,
    settings: LearnerConfig,
}

impl StoreBackedStateHistory {
    /// Creates the history of the states that a learner with the given settings had at earlier
    /// offsets of the journal in `store`.
    #[must_use]
    pub fn new(store: Store, dictionary: Arc<ItemDictionary>, settings: LearnerConfig) -> Self {
        Self { store, dictionary, settings }
    }

    /// Returns the stored state at exactly this offset, if it exists.
    fn find_stored_state(&self, searched_folders: &[&Checkpoints], at: Offset) -> Option<LearnerState> {
        let mut stored =
            searched_folders.iter().filter_map(|location| location.open_at(at).and_then(decode_checkpoint));
        stored.find(|state| state.matches_settings(&self.settings))
    }

    /// Rebuilds the state at offset `to`: loads the nearest earlier state and applies the journal's
    /// entries after it.
    fn rebuild_state(&self, searched_folders: &[&Checkpoints], to: Offset) -> Result<LearnerState, StateHistoryError> {
        let mut offsets = BTreeSet::new();
        for location in searched_folders {
            offsets.extend(location.offsets()?);
        }
        let begin = self.store.journal().first_offset()?;
        let earlier = offsets.range(begin..to).rev().find_map(|at| self.find_stored_state(searched_folders, *at));
        if earlier.is_none() && begin > 0 {
            return Err(format!(
                "no state at or before offset {to} is stored, and the journal no longer contains the entries before offset {begin}"
            )
            .into());
        }
        let deps = LearnerDeps {
            training: Box::<InlineJobs<_>>::default(),
            clustering: Box::<InlineJobs<_>>::default(),
            state_history: Box::new(Self::new(self.store.clone(), Arc::clone(&self.dictionary), self.settings.clone())),
        };
        let mut learner = Learner::new(
            self.settings.clone(),
            Arc::clone(&self.dictionary),
            earlier,
            0,
            read_pretrained(&self.store)?,
            deps,
        )?;
        replay_up_to(&mut learner, &self.store, to, |_| {})?;
        Ok(learner.state()?.clone())
    }
}

impl StateHistory for StoreBackedStateHistory {
    fn state_at(&mut self, current: &LearnerState, to: Offset) -> Result<LearnerState, StateHistoryError> {
        let at = current.next_offset();
        if to > at {
            return Err(format!("offset {to} is after the current offset {at}").into());
        }
        let restore_points = self.store.restore_points()?;
        let searched_folders = [&restore_points, &self.store.checkpoints_read_only()];
        write_restore_point(&restore_points, current)?;
        let state = match self.find_stored_state(&searched_folders, to) {
            Some(state) => state,
            None => self.rebuild_state(&searched_folders, to)?,
        };
        write_restore_point(&restore_points, &state)?;
        // Keeps the restore points that were used last, not those with the highest offsets, because
        // several rollbacks may return to the same old state.
        restore_points.keep_last_written(MAX_RESTORE_POINTS)?;
        Ok(state)
    }
}

fn write_restore_point(restore_points: &Checkpoints, state: &LearnerState) -> Result<(), StoreError> {
    restore_points.write::<StoreError>(state.next_offset(), |file| Ok(encode_checkpoint(state, file)?)).map(drop)
}

/// Applies the journal's entries before offset `to` to the learner. Skips quarantined entries.
/// Calls `observe` with the next offset after each entry.
///
/// # Errors
/// Any error of the journal or the learner.
pub fn replay_up_to(
    learner: &mut Learner,
    store: &Store,
    to: Offset,
    mut observe: impl FnMut(Offset),
) -> Result<(), StateHistoryError> {
    let quarantine = store.quarantine().all()?.into_iter().filter(|entry| entry.reader == QuarantineReader::Learner);
    let quarantined: BTreeSet<Offset> = quarantine.map(|entry| entry.offset).collect();
    for entry in store.journal().entries(learner.next_offset())? {
        let (offset, entry) = entry?;
        if offset >= to {
            break;
        }
        let outcome =
            if quarantined.contains(&offset) { learner.skip_entry(offset) } else { learner.apply(offset, &entry) };
        outcome.map_err(|error| format!("the learner failed at offset {offset}: {error}"))?;
        observe(offset + 1);
    }
    Ok(())
}

/// Encodes a learned state into a checkpoint.
///
/// # Errors
/// [`CodecError::Encode`] if the sink fails.
pub fn encode_checkpoint<W: Write>(state: &LearnerState, sink: &mut W) -> Result<(), CodecError> {
    codec::encode_to(state, sink)?;
    codec::encode_to(&state.extension(), sink)?;
    codec::encode_to(state.supplement(), sink)?;
    codec::encode_to(&state.profiles_part(), sink)?;
    codec::encode_to(state.new_items_part(), sink)?;
    codec::encode_to(&state.vectors_part(), sink)?;
    codec::encode_to(state.item_histories_part(), sink)?;
    codec::encode_to(state.baskets_part(), sink)?;
    codec::encode_to(state.features_part(), sink)?;
    codec::encode_to(state.objectives_part(), sink)?;
    codec::encode_to(state.relevance_part(), sink)
}

/// Decodes a checkpoint. If this build cannot read the checkpoint, logs the error and returns
/// `None`.
pub fn decode_checkpoint(mut checkpoint: CheckpointReader) -> Option<LearnerState> {
    let length = checkpoint.remaining();
    let mut decode = || -> Result<LearnerState, CodecError> {
        let mut state: LearnerState = codec::decode_from(&mut checkpoint, length)?;
        // Checkpoints of earlier versions end here, or after one of the next parts.
        let length = checkpoint.remaining();
        if length > 0 {
            state.set_extension(codec::decode_from(&mut checkpoint, length)?);
        }
        let length = checkpoint.remaining();
        if length > 0 {
            state.set_supplement(codec::decode_from(&mut checkpoint, length)?);
        }
        let length = checkpoint.remaining();
        if length > 0 {
            state.set_profiles_part(codec::decode_from(&mut checkpoint, length)?);
        }
        let length = checkpoint.remaining();
        let new_items = if length > 0 { Some(codec::decode_from(&mut checkpoint, length)?) } else { None };
        state.set_new_items_part(new_items);
        let length = checkpoint.remaining();
        if length > 0 {
            state.set_vectors_part(codec::decode_from(&mut checkpoint, length)?);
        }
        let length = checkpoint.remaining();
        if length > 0 {
            state.set_item_histories_part(codec::decode_from(&mut checkpoint, length)?);
        }
        let length = checkpoint.remaining();
        if length > 0 {
            state.set_baskets_part(codec::decode_from(&mut checkpoint, length)?);
        }
        let length = checkpoint.remaining();
        if length > 0 {
            state.set_features_part(codec::decode_from(&mut checkpoint, length)?);
        }
        let length = checkpoint.remaining();
        if length > 0 {
            state.set_objectives_part(codec::decode_from(&mut checkpoint, length)?);
        }
        let length = checkpoint.remaining();
        if length > 0 {
            state.set_relevance_part(codec::decode_from(&mut checkpoint, length)?);
        }
        Ok(state)
    };
    let state = decode();
    state
        .inspect_err(|error| {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "a checkpoint cannot be read by this build and is skipped"
            );
        })
        .ok()
}
