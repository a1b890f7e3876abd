//! Recommendations for a session that the request itself contains. Nothing is stored.

use super::recommender::RecommenderHandle;
use crate::actors::session::{SessionOp, SessionUpdate};
use crate::domain::{Entry, Event, EventKind, Fallback, Step, UserSequence};
use crate::learner::{RankedAnswer, RecommendationRequest};
use crate::telemetry::span;

impl RecommenderHandle {
    /// Recommends for a session that consists of views of the items `items`, in this order.
    #[must_use]
    pub fn recommend_for_items(&self, items: &[String], request: &RecommendationRequest) -> RankedAnswer {
        let kind = self.learner_config.kinds.id_of(&EventKind::View).unwrap_or_default();
        let value = self.learner_config.kinds.rule_of(kind).value;
        let known = items.iter().filter_map(|name| self.dictionary.get(name));
        let steps =
            known.map(|item| (Step { item: Some(item), kind, starts_session: false, at: request.now, value }, None));
        let mut answer = self.recommend_after_steps(steps, request);
        if answer.fallback == Fallback::UnknownUser {
            answer.fallback = Fallback::UnknownItems;
        }
        answer
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
        let idle_gap_ms = self.learner_config.sequence.idle_gap_ms;
        let mut sequence = UserSequence::default();
        for (step, session_id) in steps {
            sequence.push(0, step, session_id.as_deref(), idle_gap_ms);
        }
        self.answerer.answer(None, &sequence, request)
    }
}
