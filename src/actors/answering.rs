//! Computes recommendations on the calling thread.

use arc_swap::ArcSwap;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use super::panic_guard::catch_panic;
use crate::domain::{Catalog, UserSequence};
use crate::learner::{
    ListScores, ListScoringRequest, ModelSnapshot, RankedAnswer, RecommendationRequest, ScoringWorkspace,
    SequenceParams, UserMemory, recommend_for_sequence, score_list,
};
use crate::metrics::{ActorKind, Metrics};

thread_local! {
    /// Scratch memory for scoring. Each thread that answers requests has its own.
    static WORKSPACE: RefCell<ScoringWorkspace> = RefCell::default();
}

/// Recommends items from the published snapshot and the catalog.
#[derive(Clone)]
pub struct Answerer {
    /// The latest snapshot of the model that the learner has published.
    pub published: Arc<ArcSwap<ModelSnapshot>>,
    /// The catalog, including every acknowledged change.
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// The number of last steps from which the hidden state is computed.
    pub sequence_params: SequenceParams,
    /// The metrics in which answers are recorded.
    pub metrics: Arc<Metrics>,
}

impl Answerer {
    /// Recommends items for a sequence. Without user id, event values are predicted for an average
    /// user.
    #[must_use]
    pub fn answer(&self, user: Option<&str>, sequence: &UserSequence, request: &RecommendationRequest) -> RankedAnswer {
        let (snapshot, catalog) = (self.published.load(), self.catalog.load());
        let mut answer = WORKSPACE.with_borrow_mut(|workspace| {
            let memory = user.map(|user| snapshot.memory_of(user)).unwrap_or_default();
            recommend_for_sequence(&snapshot, &catalog, sequence, memory, &self.sequence_params, request, workspace)
        });
        answer.predict_interest(snapshot.interests(), user, request.now);
        answer
    }

    /// Recommends items that depend on no user.
    #[must_use]
    pub fn non_personalised_list(&self, request: &RecommendationRequest) -> RankedAnswer {
        let (snapshot, catalog) = (self.published.load(), self.catalog.load());
        let (sequence, params) = (UserSequence::default(), &self.sequence_params);
        WORKSPACE.with_borrow_mut(|workspace| {
            recommend_for_sequence(&snapshot, &catalog, &sequence, UserMemory::default(), params, request, workspace)
        })
    }

    /// Scores the items of a list for a sequence. Without user id, as for a user without profile.
    /// Returns `None` if that panics.
    #[must_use]
    pub fn score_list(
        &self,
        user: Option<&str>,
        sequence: &UserSequence,
        request: &ListScoringRequest,
    ) -> Option<ListScores> {
        let score = || {
            let snapshot = self.published.load();
            let mut scores = WORKSPACE.with_borrow_mut(|workspace| {
                let memory = user.map(|user| snapshot.memory_of(user)).unwrap_or_default();
                score_list(&snapshot, sequence, memory, &self.sequence_params, request, workspace)
            });
            scores.predict_interest(snapshot.interests(), user, request);
            scores
        };
        let scores = catch_panic(&self.metrics, ActorKind::Session, score);
        scores.inspect_err(|_| WORKSPACE.set(ScoringWorkspace::default())).ok()
    }

    /// Recommends items for the sequence of a user, and records the time that this takes. If the
    /// computation panics, recommends as for an unknown user. Returns `None` if that panics, too.
    #[must_use]
    pub fn answer_user(
        &self,
        user: &str,
        sequence: &UserSequence,
        request: &RecommendationRequest,
    ) -> Option<RankedAnswer> {
        let began = Instant::now();
        let try_answer = |sequence: &UserSequence| {
            catch_panic(&self.metrics, ActorKind::Session, || self.answer(Some(user), sequence, request))
        };
        let answer = try_answer(sequence)
            .or_else(|_| {
                WORKSPACE.set(ScoringWorkspace::default());
                try_answer(&UserSequence::default())
            })
            .ok();
        self.metrics.recommendation_seconds.record(began.elapsed());
        answer
    }
}
