//! The recommender as a library: candidates, ranking, online learning, evaluation and offline
//! training in one process, without the daemon's actors, store or HTTP API.
//!
//! [`Recommender`] learns from events one by one and recommends items. For more control, use its
//! parts:
//!
//! - [`Learner`] applies journal entries and creates immutable [`ModelSnapshot`]s; [`recommend`]
//!   recommends items from a snapshot.
//! - [`Recording`], [`OfflineTraining`] and [`score_sessions`] train a network on recorded events
//!   in several epochs, and evaluate it on the latest sessions.
//! - [`LearningReport`] holds prequential Recall@20, MRR@20 and NDCG@20: each event is tested
//!   before it is learned.
//!
//! # Example
//!
//! ```
//! use sequor_core::recommender::{Event, EventKind, LearnerConfig, RecommendationRequest, Recommender};
//!
//! let mut recommender = Recommender::new(LearnerConfig::default())?;
//! for step in 0..200_i64 {
//!     recommender.learn(&Event {
//!         event_id: None,
//!         user_id: format!("user{}", step % 10),
//!         session_id: None,
//!         kind: EventKind::View,
//!         item_id: Some(format!("item{}", (step / 10 + step % 10) % 12)),
//!         value: None,
//!         timestamp: step * 1_000,
//!         properties: None,
//!         details: None,
//!     })?;
//! }
//! let list = recommender.recommend("user3", &RecommendationRequest::new(5, 200_000));
//! assert_eq!(list.len(), 5);
//! assert!(list.iter().all(|(item, _)| item.starts_with("item")));
//! # Ok::<(), sequor_core::recommender::LearnerError>(())
//! ```

use std::sync::{Arc, OnceLock};

pub use crate::domain::{Event, EventKind, EventKinds, ItemChange, ItemIx, ItemOperation, Offset, Timestamp};
pub use crate::evaluation::RankingMetrics;
pub use crate::learner::{
    Corpus, EpochReport, InlineJobs, Learner, LearnerConfig, LearnerDeps, LearnerError, LearningReport,
    LearningSettings, ModelSnapshot, OfflineError, OfflineScores, OfflineSettings, OfflineTraining, RankedAnswer,
    RecommendationRequest, Recording, ScoringWorkspace, SequenceParams, SequenceState, recommend, score_sessions,
};
pub use crate::nn::{NetworkSettings, Weights};
pub use crate::registries::ItemDictionary;

use crate::domain::Entry;
use crate::learner::{ClusteringResult, LearnerState, StateHistory, StateHistoryError, TrainingOutcome, similar_items};

/// An in-memory recommender. The recommender is deterministic: the same events and settings give
/// the same lists.
///
/// Training and clustering run on the calling thread, at training boundaries (every
/// `learning.interval` events).
pub struct Recommender {
    learner: Learner,
    dictionary: Arc<ItemDictionary>,
    sequence: SequenceParams,
    workspace: ScoringWorkspace,
    /// The snapshot after the last applied entry. The first read after an entry creates it.
    snapshot: OnceLock<Arc<ModelSnapshot>>,
}

/// A state history that never finds an earlier state, because an in-memory recommender keeps none.
/// Rollbacks therefore fail.
struct NoStateHistory;

impl StateHistory for NoStateHistory {
    fn state_at(&mut self, _: &LearnerState, _: Offset) -> Result<LearnerState, StateHistoryError> {
        Err("an in-memory recommender keeps no earlier states".into())
    }
}

impl Recommender {
    /// Creates a recommender that has learned nothing.
    ///
    /// # Errors
    /// [`LearnerError`] if the settings are invalid.
    pub fn new(config: LearnerConfig) -> Result<Self, LearnerError> {
        let (dictionary, sequence) = (Arc::new(ItemDictionary::default()), config.sequence);
        let deps = LearnerDeps {
            training: Box::<InlineJobs<TrainingOutcome>>::default(),
            clustering: Box::<InlineJobs<ClusteringResult>>::default(),
            state_history: Box::new(NoStateHistory),
        };
        let learner = Learner::new(config, Arc::clone(&dictionary), None, 0, None, deps)?;
        Ok(Self { learner, dictionary, sequence, workspace: ScoringWorkspace::default(), snapshot: OnceLock::new() })
    }

    /// Tests the model on an event, then learns the event.
    ///
    /// # Errors
    /// [`LearnerError::BackgroundJobLost`] if a training failed.
    pub fn learn(&mut self, event: &Event) -> Result<(), LearnerError> {
        if let Some(item) = &event.item_id {
            self.dictionary.intern(item);
        }
        self.apply(&Entry::Event(event.clone()))
    }

    /// Applies a catalog change of an item.
    ///
    /// # Errors
    /// As [`Recommender::learn`].
    pub fn apply_item_change(&mut self, change: ItemChange) -> Result<(), LearnerError> {
        self.dictionary.intern(&change.item_id);
        self.apply(&Entry::Item(change))
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), LearnerError> {
        // Release the snapshot first, so that the learner can change its state in place.
        self.snapshot.take();
        let offset = self.learner.next_offset();
        self.learner.apply(offset, entry)
    }

    fn snapshot(&self) -> Arc<ModelSnapshot> {
        Arc::clone(self.snapshot.get_or_init(|| Arc::new(self.learner.snapshot())))
    }

    /// Recommends items for a user, with their scores, best first. An unknown user gets popular
    /// items.
    pub fn recommend(&mut self, user: &str, request: &RecommendationRequest) -> Vec<(Arc<str>, f32)> {
        let snapshot = self.snapshot();
        let state = self.learner.sequence_state(user).cloned().unwrap_or_default();
        let memory = snapshot.memory_of(user);
        let answer =
            recommend(&snapshot, snapshot.catalog(), &state, memory, &self.sequence, request, &mut self.workspace);
        let named = |ranked: crate::learner::RankedItem| {
            Some((self.dictionary.name(ranked.candidate.item)?, ranked.candidate.score))
        };
        answer.items.into_iter().filter_map(named).collect()
    }

    /// Scores the given items for a user by the network's logits; `None` for an item that the
    /// network does not know.
    pub fn score_items(&mut self, user: &str, items: &[&str]) -> Vec<Option<f32>> {
        let snapshot = self.snapshot();
        let Some(weights) = snapshot.weights() else { return vec![None; items.len()] };
        let mut state = self.learner.sequence_state(user).cloned().unwrap_or_default();
        // Compute the hidden state from the last steps with the current weights, as a
        // recommendation does.
        state.drop_hidden_state();
        let mut query = Vec::new();
        weights
            .compute_query(state.fresh_hidden_state(&self.sequence, weights, &mut self.workspace.network), &mut query);
        let score = |item: &&str| {
            self.dictionary.get(item).map(|item| weights.logit(&query, item)).filter(|score| score.is_finite())
        };
        items.iter().map(score).collect()
    }

    /// Items that are similar to `item`, best first; empty for an unknown item.
    #[must_use]
    pub fn similar_items_to(&self, item: &str, limit: usize, now: Timestamp) -> Vec<(Arc<str>, f32)> {
        let Some(item) = self.dictionary.get(item) else { return Vec::new() };
        let snapshot = self.snapshot();
        let similar = similar_items(&snapshot, snapshot.catalog(), item, limit, &self.sequence, now);
        similar
            .into_iter()
            .filter_map(|candidate| Some((self.dictionary.name(candidate.item)?, candidate.score)))
            .collect()
    }

    /// The prequential metrics and training totals so far.
    #[must_use]
    pub fn report(&self) -> LearningReport {
        self.learner.report()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view_event(step: i64) -> Event {
        Event {
            event_id: None,
            user_id: format!("user{}", step % 5),
            session_id: None,
            kind: EventKind::View,
            item_id: Some(format!("item{}", step * step % 17)),
            value: None,
            timestamp: step * 1_000,
            properties: None,
            details: None,
        }
    }

    #[test]
    fn reading_recommendations_does_not_change_later_recommendations() {
        let request = RecommendationRequest::new(10, 1_000_000);
        let mut often_read = Recommender::new(LearnerConfig::default()).unwrap();
        let mut read_once = Recommender::new(LearnerConfig::default()).unwrap();
        for step in 0..120 {
            for recommender in [&mut often_read, &mut read_once] {
                recommender.learn(&view_event(step)).unwrap();
            }
            assert_eq!(often_read.recommend("user1", &request), often_read.recommend("user1", &request));
        }
        assert_eq!(often_read.recommend("user1", &request), read_once.recommend("user1", &request));
        assert_eq!(
            often_read.similar_items_to("item1", 5, 1_000_000),
            read_once.similar_items_to("item1", 5, 1_000_000)
        );
    }
}
