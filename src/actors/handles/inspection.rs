//! Stored sessions, ranking inspection, liveness and refreshed metrics.

use actix::Addr;
use futures_util::future::try_join_all;
use std::sync::Arc;
use std::time::Duration;

use super::ingest::IngestHandle;
use super::recommender::RecommenderHandle;
use crate::actors::answering::Answerer;
use crate::actors::error::RequestError;
use crate::actors::learner::LearnerActor;
use crate::actors::liveness::LivenessPing;
use crate::actors::shard::ListLiveSessions;
use crate::learner::{RankingInspection, RecommendationRequest, inspect};
use crate::metrics::Metrics;
use crate::store::{SessionRecord, Store};

/// Reads the state of the system without changing it.
#[derive(Clone)]
pub struct InspectionHandle {
    pub(in crate::actors) store: Store,
    pub(in crate::actors) metrics: Arc<Metrics>,
    pub(in crate::actors) learner: Addr<LearnerActor>,
    pub(in crate::actors) ingest: IngestHandle,
    pub(in crate::actors) recommender: RecommenderHandle,
}

impl InspectionHandle {
    /// The session record of a user: the stored record, or the record that a live session would
    /// store.
    ///
    /// # Errors
    /// [`RequestError::Busy`] if the mailbox of the user's shard is full, [`RequestError::Store`]
    /// if the record cannot be read.
    pub async fn session_record(&self, user: String) -> Result<Option<SessionRecord>, RequestError> {
        self.recommender.session_record(user).await
    }

    /// Ranks items for the session of a user, and returns the result of every stage of the ranking.
    /// The call takes about as long as ten recommendations, on the calling thread.
    #[must_use]
    pub fn inspect_ranking(
        &self,
        user: &str,
        record: &SessionRecord,
        request: &RecommendationRequest,
    ) -> RankingInspection {
        let RecommenderHandle { answerer, learner_config, .. } = &self.recommender;
        let Answerer { published, catalog, .. } = answerer;
        let canonical = self.recommender.router.canonical(user);
        let snapshot = published.load();
        let memory = snapshot.memory_of(canonical.as_deref().unwrap_or(user));
        inspect(&snapshot, &catalog.load(), &record.sequence, memory, &learner_config.sequence, request)
    }

    /// The live sessions of users whose id starts with `prefix`, each with the time since its last
    /// use, in whole seconds. The most recently used sessions come first.
    ///
    /// # Errors
    /// [`RequestError::ActorStopped`] if a shard is not running.
    pub async fn live_sessions(&self, prefix: &str, limit: usize) -> Result<Vec<(String, Duration)>, RequestError> {
        let shards = self.recommender.router.shards.iter();
        let requests = shards.map(|shard| shard.send(ListLiveSessions { prefix: prefix.to_owned(), limit }));
        let lists = try_join_all(requests).await.map_err(|_| RequestError::ActorStopped("shard"))?;
        let mut sessions: Vec<_> = lists.into_iter().flatten().collect();
        sessions.sort_unstable_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
        sessions.truncate(limit);
        Ok(sessions)
    }

    /// All ids of the user whom `id` names: the canonical id first, then its aliases.
    #[must_use]
    pub fn ids_of_user(&self, id: &str) -> Vec<String> {
        let aliases = &self.recommender.router.aliases;
        let user = aliases.resolve(id).unwrap_or_else(|| Arc::from(id));
        let merged = aliases.aliases_of(&user);
        std::iter::once(&user).chain(&merged).map(|id| (**id).to_owned()).collect()
    }

    /// Waits until every actor has handled a ping.
    ///
    /// # Errors
    /// [`RequestError::ActorStopped`] if an actor is not running.
    pub async fn check_liveness(&self) -> Result<(), RequestError> {
        self.ingest.committer.send(LivenessPing).await.map_err(|_| RequestError::ActorStopped("committer"))?;
        self.learner.send(LivenessPing).await.map_err(|_| RequestError::ActorStopped("learner"))?;
        for shard in self.recommender.router.shards.iter() {
            shard.send(LivenessPing).await.map_err(|_| RequestError::ActorStopped("shard"))?;
        }
        Ok(())
    }

    /// Sets the gauges that are measured on demand (such as the learner's lag and the disk space),
    /// and returns the metrics.
    #[must_use]
    pub fn refresh_metrics(&self) -> &Metrics {
        let (metrics, store) = (&self.metrics, &self.store);
        let end = store.journal().next_offset().unwrap_or_default() as f64;
        let admission = self.ingest.admission();
        metrics.in_flight_events.set(admission.in_flight() as f64);
        metrics.in_flight_events_limit.set(admission.limit() as f64);
        let published = self.recommender.answerer.published.load();
        metrics.learner_lag_entries.set(end - published.offset() as f64);
        metrics.weights_lag_entries.set(end - published.trained_through() as f64);
        published
            .source_sizes()
            .for_each(|(source, _, bytes)| metrics.candidate_source_bytes.with_label(source).set(bytes as f64));
        metrics.journal_offset.set(end);
        metrics.journal_begin.set(store.journal().first_offset().unwrap_or_default() as f64);
        if let Ok(quarantined) = store.quarantine().count() {
            metrics.quarantined_entries.set(quarantined as f64);
        }
        metrics.journal_failed.set(f64::from(u8::from(store.has_failed())));
        metrics.store_bytes.set(store.size_on_disk().unwrap_or_default() as f64);
        metrics.store_live_bytes.set(store.cached_live_bytes().unwrap_or_default() as f64);
        if let Ok(disk) = store.disk_space() {
            metrics.disk_free_bytes.set(disk.free as f64);
            metrics.disk_size_bytes.set(disk.size as f64);
        }
        metrics
    }
}
