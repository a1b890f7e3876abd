//! Recommendations for a session that the request itself contains. Nothing is stored.

use super::recommender::RecommenderHandle;
use crate::actors::error::RequestError;
use crate::actors::session::{SessionOp, SessionUpdate};
use crate::domain::{Entry, Event, EventKind, Fallback, Step, Timestamp, UserSequence};
use crate::learner::{ListScores, ListScoringRequest, RankedAnswer, RecommendationRequest};
use crate::telemetry::span;

impl RecommenderHandle {
    /// Recommends for a session that consists of views of the items `items`, in this order.
    #[must_use]
    pub fn recommend_for_items(&self, items: &[String], request: &RecommendationRequest) -> RankedAnswer {
        let mut answer = self.recommend_after_steps(self.steps_of_items(items, request.now), request);
        if answer.fallback == Fallback::UnknownUser {
            answer.fallback = Fallback::UnknownItems;
        }
        answer
    }

    /// Scores the items of a list for a session that consists of views of the items `session`, in
    /// this order.
    ///
    /// # Errors
    /// [`RequestError::Busy`] if the computation fails.
    pub fn score_list_for_items(
        &self,
        session: &[String],
        request: &ListScoringRequest,
    ) -> Result<ListScores, RequestError> {
        let _span = span!("answer").entered();
        let sequence = self.sequence_of_steps(self.steps_of_items(session, request.now));
        self.answerer.score_list(None, &sequence, request).ok_or_else(|| self.busy())
    }

    /// Views of the known items among `items`.
    fn steps_of_items(&self, items: &[String], at: Timestamp) -> impl Iterator<Item = (Step, Option<String>)> {
        let kind = self.learner_config.kinds.id_of(&EventKind::View).unwrap_or_default();
        let value = self.learner_config.kinds.rule_of(kind).value;
        let known = items.iter().filter_map(|name| self.dictionary.get(name));
        known.map(move |item| (Step { item: Some(item), kind, starts_session: false, at, value }, None))
    }

    /// Recommends for a session that consists of `events`, in this order.
    #[must_use]
    pub fn recommend_for_events(&self, events: &[Event], request: &RecommendationRequest) -> RankedAnswer {
        let to_step = |event: &Event| {
            let (_, update) = SessionUpdate::from_entry(
                0,
                Entry::Private(event.clone()),
                &self.dictionary,
                &self.learner_config.kinds,
            )?;
            let SessionOp::Step { step, session_id } = update.op else { return None };
            Some((step, session_id))
        };
        self.recommend_after_steps(events.iter().filter_map(to_step), request)
    }

    fn recommend_after_steps(
        &self,
        steps: impl Iterator<Item = (Step, Option<String>)>,
        request: &RecommendationRequest,
    ) -> RankedAnswer {
        let _span = span!("answer").entered();
        self.answerer.answer(None, &self.sequence_of_steps(steps), request)
    }

    fn sequence_of_steps(&self, steps: impl Iterator<Item = (Step, Option<String>)>) -> UserSequence {
        let idle_gap_ms = self.learner_config.sequence.idle_gap_ms;
        let mut sequence = UserSequence::default();
        for (step, session_id) in steps {
            sequence.push(0, step, session_id.as_deref(), idle_gap_ms);
        }
        sequence
    }
}
