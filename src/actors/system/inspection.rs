//! What the system shows to who only looks.

use futures_util::future::try_join_all;
use std::time::Duration;
use tokio::sync::oneshot;

use super::System;
use crate::actors::admission::AdmissionFull;
use crate::actors::error::SystemError;
use crate::actors::session::sequence_state;
use crate::actors::shard::{GetSessionView, ListLiveSessions};
use crate::learner::{RankingInspection, RecommendationRequest, inspect};
use crate::store::SessionRecord;

impl System {
    /// What is known of a user's session: the record that is stored, or that its actor would store
    /// now. Changes nothing.
    ///
    /// # Errors
    /// [`SystemError::Busy`] if the user's shard has too many questions waiting,
    /// [`SystemError::Store`] if the record cannot be read.
    pub async fn session_record(&self, user: String) -> Result<Option<SessionRecord>, SystemError> {
        let (reply, told) = oneshot::channel();
        let busy = || SystemError::Busy(AdmissionFull { limit: self.admission.limit() });
        let (user, shard) = self.shard(user)?;
        shard.try_send(GetSessionView { user, reply }).map_err(|_| busy())?;
        told.await.map_err(|_| busy())?.map_err(SystemError::Store)
    }

    /// How a session would be answered, stage by stage. Takes about as long as ten answers, on the
    /// thread that asks; nothing is kept of it.
    #[must_use]
    pub fn inspect_ranking(&self, record: SessionRecord, request: &RecommendationRequest) -> RankingInspection {
        inspect(&self.published.load(), &self.catalog.load(), &sequence_state(record), &self.learner_config.sequence, request)
    }

    /// Of the users whose session is in memory and whose id begins so those who were there last,
    /// and how long ago, in whole seconds.
    ///
    /// # Errors
    /// [`SystemError::ActorStopped`] if a shard is.
    pub async fn live_sessions(&self, prefix: &str, limit: usize) -> Result<Vec<(String, Duration)>, SystemError> {
        let asked = self.shards.iter().map(|shard| shard.send(ListLiveSessions { prefix: prefix.to_owned(), limit }));
        let told = try_join_all(asked).await.map_err(|_| SystemError::ActorStopped("shard"))?;
        let mut all: Vec<_> = told.into_iter().flatten().collect();
        all.sort_unstable_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
        all.truncate(limit);
        Ok(all)
    }
}
