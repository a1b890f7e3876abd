//! Recommendations, similar and trending items, session subscriptions.

use actix::Addr;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use tokio::task::yield_now;
use tracing::Instrument;

use super::shards::ShardRouter;
use crate::actors::admission::AdmissionFull;
use crate::actors::answering::Answerer;
use crate::actors::error::RequestError;
use crate::actors::learner::{LearnerActor, PublishThrough};
use crate::actors::shard::{GetSessionView, GetUserSequence, ShardActor};
use crate::domain::{
    Candidate, Catalog, EventKinds, ItemIx, KindId, Offset, PlacementTable, PredictedInterest, Timestamp, UserSequence,
};
use crate::learner::{
    HiddenItems, LearnerConfig, ListScores, ListScoringRequest, ModelSnapshot, RankedAnswer, RecommendationRequest,
    similar_items,
};
use crate::metrics::{Metrics, QueueName};
use crate::registries::ItemDictionary;
use crate::store::SessionRecord;
use crate::telemetry::span;

/// The progress of delivery and of learning. A read with `min_offset` waits until both watermarks
/// have reached its offset.
#[derive(Clone)]
pub struct Watermarks {
    /// Every entry before this offset was delivered to its session.
    pub(in crate::actors) delivered: watch::Receiver<Offset>,
    /// Every entry before this offset is in the published snapshot.
    pub(in crate::actors) learned: watch::Receiver<Offset>,
}

impl Watermarks {
    /// Number of delivered entries that the published snapshot does not contain.
    pub(in crate::actors) fn learner_lag(&self) -> u64 {
        let learned = *self.learned.borrow();
        self.delivered.borrow().saturating_sub(learned)
    }
}

/// Recommends from the published snapshot and the users' sessions.
#[derive(Clone)]
pub struct RecommenderHandle {
    pub(in crate::actors) router: ShardRouter,
    pub(in crate::actors) answerer: Answerer,
    pub(in crate::actors) dictionary: Arc<ItemDictionary>,
    pub(in crate::actors) learner_config: Arc<LearnerConfig>,
    pub(in crate::actors) placements: Arc<ArcSwap<PlacementTable>>,
    pub(in crate::actors) watermarks: Watermarks,
    pub(in crate::actors) learner: Addr<LearnerActor>,
    pub(in crate::actors) admission_limit: usize,
    /// The longest time that a request waits for its session, and for its thread; `None` means no
    /// limit.
    pub(in crate::actors) queue_wait: Option<Duration>,
    pub(in crate::actors) metrics: Arc<Metrics>,
    pub(in crate::actors) draining: Arc<AtomicBool>,
}

impl RecommenderHandle {
    /// Ranks items for a user's current session, on the calling thread.
    ///
    /// # Errors
    /// [`RequestError::Busy`] if the mailbox of the user's shard is full,
    /// [`RequestError::QueuedTooLong`] if the wait for the shard or for the thread takes longer than
    /// the limit.
    pub async fn recommend(&self, user: String, request: RecommendationRequest) -> Result<RankedAnswer, RequestError> {
        let span = span!("recommend");
        let (user, sequence) = self.current_sequence(user).instrument(span.clone()).await?;
        self.wait_for_turn().await?;
        let answer = span!(parent: &span, "answer").in_scope(|| self.answerer.answer_user(&user, &sequence, &request));
        answer.ok_or_else(|| self.busy())
    }

    /// Scores the items of a list for a user's current session, on the calling thread.
    ///
    /// # Errors
    /// As [`RecommenderHandle::recommend`].
    pub async fn score_list(&self, user: String, request: ListScoringRequest) -> Result<ListScores, RequestError> {
        let span = span!("score_list");
        let (user, sequence) = self.current_sequence(user).instrument(span.clone()).await?;
        self.wait_for_turn().await?;
        let scores =
            span!(parent: &span, "answer").in_scope(|| self.answerer.score_list(Some(&user), &sequence, &request));
        scores.ok_or_else(|| self.busy())
    }

    /// The id into which the user was merged, and the user's sequence: from the session table, or
    /// from the shard if the session is not live or not current.
    async fn current_sequence(&self, user: String) -> Result<(String, UserSequence), RequestError> {
        let (user, number, shard) = self.router.route(user)?;
        let sequence = match self.router.session_table.current_sequence(number, &user) {
            Some(sequence) => sequence,
            None => self.request_sequence(user.clone(), shard).await?,
        };
        Ok((user, sequence))
    }

    /// Asks the shard for a user's sequence.
    async fn request_sequence(&self, user: String, shard: &Addr<ShardActor>) -> Result<UserSequence, RequestError> {
        let (reply, sequence) = oneshot::channel();
        let _pending = PendingRequestGuard::increment(self.metrics.queue_depth.with_label(QueueName::SessionRequests));
        shard.try_send(GetUserSequence { user, reply }).map_err(|_| self.busy())?;
        let sequence = match self.queue_wait {
            // The actors skip a request whose receiver was dropped.
            Some(limit) => actix::clock::timeout(limit, sequence).await.map_err(|_| RequestError::QueuedTooLong)?,
            None => sequence.await,
        };
        sequence.map_err(|_| self.busy())
    }

    /// Lets the other requests of this thread go first. If that takes too long, the thread has more
    /// requests than it can serve, and this one is refused.
    async fn wait_for_turn(&self) -> Result<(), RequestError> {
        let Some(limit) = self.queue_wait else { return Ok(()) };
        let began = Instant::now();
        yield_now().await;
        if began.elapsed() > limit { Err(RequestError::QueuedTooLong) } else { Ok(()) }
    }

    pub(super) fn busy(&self) -> RequestError {
        RequestError::Busy(AdmissionFull { limit: self.admission_limit })
    }

    /// The items of a user's stored steps that must not be recommended at `now`, for example
    /// because the user dismissed them.
    ///
    /// # Errors
    /// [`RequestError::Busy`] if the mailbox of the user's shard is full, [`RequestError::Store`]
    /// if the session cannot be read.
    pub async fn hidden_items(
        &self,
        user: String,
        hidden: HiddenItems,
        now: Timestamp,
    ) -> Result<Vec<ItemIx>, RequestError> {
        let record = self.session_record(user).await?;
        Ok(record.map(|record| hidden.items_hidden_at(&record.sequence, now)).unwrap_or_default())
    }

    /// The session record of a user: the stored record, or the record that a live session would
    /// store.
    pub(super) async fn session_record(&self, user: String) -> Result<Option<SessionRecord>, RequestError> {
        let (reply, record) = oneshot::channel();
        let (user, _, shard) = self.router.route(user)?;
        shard.try_send(GetSessionView { user, reply }).map_err(|_| self.busy())?;
        record.await.map_err(|_| self.busy())?.map_err(RequestError::Store)
    }

    /// Predicts the values of events of a user with items, for a kind of events, or for the kind
    /// with the most values. Without user, predicts for an average user. Returns the kind and one
    /// prediction per item; `None` if no value of the kind was learned.
    #[must_use]
    pub fn predict_interest(
        &self,
        user: Option<&str>,
        kind: Option<KindId>,
        items: impl IntoIterator<Item = ItemIx>,
        now: Timestamp,
    ) -> Option<(KindId, Vec<PredictedInterest>)> {
        let snapshot = self.answerer.published.load();
        let canonical = user.and_then(|user| self.router.canonical(user));
        let kind = kind.or_else(|| snapshot.interests().main_kind())?;
        Some((kind, snapshot.interests().predict(kind, canonical.as_deref().or(user), items, now)?))
    }

    /// Adds the predicted event values of a user to the items of a list.
    pub fn add_interest(&self, answer: &mut RankedAnswer, user: &str, now: Timestamp) {
        let canonical = self.router.canonical(user);
        let user = canonical.as_deref().unwrap_or(user);
        answer.predict_interest(self.answerer.published.load().interests(), Some(user), now);
    }

    /// Items similar to one item.
    #[must_use]
    pub fn similar_items(&self, item: ItemIx, limit: usize, now: Timestamp) -> Vec<Candidate> {
        similar_items(
            &self.answerer.published.load(),
            &self.answerer.catalog.load(),
            item,
            limit,
            &self.learner_config.sequence,
            now,
        )
    }

    /// A list that depends on no user, such as trending items.
    #[must_use]
    pub fn non_personalised_list(&self, request: &RecommendationRequest) -> RankedAnswer {
        self.answerer.non_personalised_list(request)
    }

    /// The dictionary of item ids and numbers.
    #[must_use]
    pub fn dictionary(&self) -> &ItemDictionary {
        &self.dictionary
    }

    /// The catalog, including every acknowledged change.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        self.answerer.catalog.load_full()
    }

    /// The placements and rules, including every acknowledged change.
    #[must_use]
    pub fn placements(&self) -> Arc<PlacementTable> {
        self.placements.load_full()
    }

    /// The published snapshot of the model.
    #[must_use]
    pub fn snapshot(&self) -> Arc<ModelSnapshot> {
        self.answerer.published.load_full()
    }

    /// The configured event kinds.
    #[must_use]
    pub fn kinds(&self) -> &EventKinds {
        &self.learner_config.kinds
    }

    /// The offset after the last entry that was delivered to its session.
    #[must_use]
    pub fn delivered_offset(&self) -> Offset {
        *self.watermarks.delivered.borrow()
    }

    /// Waits until the sessions and the published snapshot contain every entry before an offset.
    ///
    /// # Errors
    /// [`RequestError::NotReached`] if the wait takes longer than `timeout`.
    pub async fn wait_for_offset(&self, wanted: Offset, timeout: Duration) -> Result<(), RequestError> {
        let Watermarks { mut delivered, mut learned } = self.watermarks.clone();
        let both = async {
            // The wait also ends if the sender of the watch channel is dropped, so the offset is
            // checked again below.
            let _ = delivered.wait_for(|offset| *offset >= wanted).await;
            if *learned.borrow() < wanted {
                self.learner.do_send(PublishThrough(wanted));
            }
            let _ = learned.wait_for(|offset| *offset >= wanted).await;
        };
        let _ = actix::clock::timeout(timeout, both).await;
        let reached = (*self.watermarks.delivered.borrow()).min(*self.watermarks.learned.borrow());
        if reached >= wanted { Ok(()) } else { Err(RequestError::NotReached { wanted, reached }) }
    }

    /// Subscribes to a user's session. The receiver holds the offset after the session's last
    /// entry, and changes with each of the user's events. If the user is merged into another one,
    /// the receiver goes on with that user's session. The channel closes when the daemon drains.
    ///
    /// # Errors
    /// [`RequestError::Draining`] if the daemon is being drained.
    pub fn subscribe(&self, user: String) -> Result<watch::Receiver<Offset>, RequestError> {
        if self.draining.load(Ordering::SeqCst) {
            return Err(RequestError::Draining);
        }
        Ok(self.router.subscribers.subscribe(user, self.delivered_offset()))
    }
}

/// Counts a request as pending until the guard is dropped, which also happens if the client
/// disconnects.
struct PendingRequestGuard<'m>(&'m metrics::Gauge);

impl<'m> PendingRequestGuard<'m> {
    fn increment(depth: &'m metrics::Gauge) -> Self {
        depth.increment(1.0);
        Self(depth)
    }
}

impl Drop for PendingRequestGuard<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
