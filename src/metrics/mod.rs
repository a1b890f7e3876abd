//! The metrics: each declared once, with its name, unit, help and the closed set of its labels, and
//! registered at the start, so that every series is there, at zero, before anything happens.
//!
//! Recording goes through handles that were made then: no name is formatted and no table searched.
//! A label is never a user, an item or a session.

mod commit_latency;
mod handle;
mod markdown;
mod process;
mod snapshot;

pub use handle::{EventKindCounters, LabeledMetric, MetricDeclaration, MetricHandle, MetricLabel, MetricType, MetricUnit};
pub use process::ProcessStats;
pub use snapshot::{HistogramBuckets, MetricsSnapshot};

use crate::domain::{EventKinds, ModelChangeCause, Offset, SourceName};
use commit_latency::CommitLatencyTracker;
use handle::declare_metrics;
use metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::time::Instant;

handle::declare_label! {
    /// What became of an event that arrived.
    EventOutcome "outcome" {
        /// Taken, and durable.
        Accepted "accepted",
        /// Its id was seen before.
        Duplicate "duplicate",
        /// It broke a rule of capture.
        Rejected "rejected",
        /// Its user does not let it be kept.
        Withheld "withheld",
    }
}

handle::declare_label! {
    /// What became of a message of Segment's API.
    SegmentMessageOutcome "outcome" {
        /// Something was taken of it.
        Accepted "taken",
        /// Nothing is to be taken of it.
        Ignored "ignored",
        /// Its event is not known.
        UnknownEvent "unknown",
        /// It broke a rule.
        Rejected "rejected",
    }
}

handle::declare_label! {
    /// What became of a question for recommendations.
    RecommendationOutcome "outcome" {
        /// Answered from the user's session.
        Answered "answered",
        /// Answered without one: nothing is known of the user.
        ColdStart "cold",
        /// The request was at fault.
        InvalidRequest "refused",
        /// There was no room for it.
        Overloaded "overloaded",
        /// The service was at fault.
        Failed "failed",
    }
}

handle::declare_label! {
    /// A kind of request.
    Endpoint "endpoint" {
        /// Events come in.
        Events "events",
        /// Messages of Segment's API come in.
        Segment "segment",
        /// Recommendations for a user.
        Recommendations "recommendations",
        /// Recommendations for a session sent along.
        InlineRecommendations "inline_recommendations",
        /// Streams of recommendations, until they begin.
        Streams "streams",
        /// What is trending, and what is like an item.
        NonPersonalised "lists",
        /// The catalog.
        Items "items",
        /// Anything on the admin endpoint.
        Admin "admin",
        /// Anything else.
        Other "other",
    }
}

handle::declare_label! {
    /// Why a request was not let in.
    RefusalReason "reason" {
        /// It brought no key where one is needed.
        MissingKey "no_key",
        /// It brought one that is not known, or was revoked.
        UnknownKey "wrong_key",
        /// It brought one that opens other things.
        MissingScope "scope",
        /// Its key has brought as much as it may.
        KeyRate "key_rate",
        /// Its address has.
        AddressRate "address_rate",
        /// It asked for the admin endpoint by a name that is not known.
        Host "host",
        /// A page of another site made a browser send it to the admin endpoint.
        Origin "origin",
    }
}

handle::declare_label! {
    /// What is read again when its file changes.
    ReloadTarget "what" {
        /// The keys.
        Keys "keys",
        /// The certificate, or its key.
        Certificate "certificate",
    }
}

handle::declare_label! {
    /// What became of a span.
    SpanOutcome "outcome" {
        /// The collector took it.
        Sent "sent",
        /// The collector did not take it.
        Failed "failed",
        /// Too many others waited to be sent.
        Dropped "dropped",
    }
}

handle::declare_label! {
    /// The hundreds of a response's status.
    StatusClass "class" {
        /// 1xx and 2xx.
        Success "2xx",
        /// 3xx.
        Redirect "3xx",
        /// 4xx.
        ClientError "4xx",
        /// 5xx.
        ServerError "5xx",
    }
}

impl StatusClass {
    /// The class of a status.
    #[must_use]
    pub fn from_status(status: u16) -> Self {
        match status {
            0..300 => Self::Success,
            300..400 => Self::Redirect,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

handle::declare_label! {
    /// A bounded queue between two parts of the daemon.
    QueueName "queue" {
        /// Entries on their way to the committer. The bound of the entries in flight is that of
        /// both queues together.
        Committer "committer",
        /// Committed events on their way to the shards.
        Shards "shards",
        /// Questions to sessions, those being answered included.
        SessionRequests "questions",
    }
}

handle::declare_label! {
    /// An actor, or the thread that works for one.
    ActorKind "actor" {
        /// A user's session.
        Session "session",
        /// A shard of users.
        Shard "shard",
        /// The committer.
        Committer "committer",
        /// The model actor, which learns.
        Learner "model",
        /// The training beside it.
        Training "training",
        /// The recall actor, which clusters.
        Candidates "recall",
    }
}

handle::declare_label! {
    /// Where in a list an item stood.
    ListPosition "place" {
        /// The first.
        First "1",
        /// The second or third.
        Top "2-3",
        /// The fourth to tenth.
        Middle "4-10",
        /// After the tenth.
        Rest "11+",
    }
}

impl ListPosition {
    /// Every place, in order.
    pub const ALL: [Self; 4] = [Self::First, Self::Top, Self::Middle, Self::Rest];
}

impl MetricLabel for ModelChangeCause {
    const KEY: &'static str = "reason";
    const VALUES: &'static [&'static str] = &["operator", "loss", "quality"];

    fn index(self) -> usize {
        self as usize
    }
}

impl MetricLabel for SourceName {
    const KEY: &'static str = "source";
    const VALUES: &'static [&'static str] = &["network", "clusters", "transitions", "neighbours", "trending", "new", "session"];

    fn index(self) -> usize {
        Self::ALL.iter().position(|source| *source == self).unwrap_or_default()
    }
}

declare_metrics! {
    // Capture and the API.
    /// Events that arrived, by what became of them.
    "sequor_events_total" Unit::Count events: LabeledMetric<EventOutcome, Counter>,
    /// Events that were taken, by kind.
    "sequor_accepted_events_total" Unit::Count accepted_events: EventKindCounters,
    /// Messages that came in the shape of Segment's API, by what became of them.
    "sequor_segment_messages_total" Unit::Count segment_messages: LabeledMetric<SegmentMessageOutcome, Counter>,
    /// Changes of the catalog that were taken.
    "sequor_catalog_changes_total" Unit::Count catalog_changes: Counter,
    /// Questions for recommendations, by what became of them.
    "sequor_recommendations_total" Unit::Count recommendations: LabeledMetric<RecommendationOutcome, Counter>,
    /// Time from a request's arrival to its answer.
    "sequor_request_seconds" Unit::Seconds request_seconds: LabeledMetric<Endpoint, Histogram>,
    /// Answers, by the class of their status.
    "sequor_responses_total" Unit::Count responses: LabeledMetric<StatusClass, Counter>,
    /// Requests that were told to come back later, with 429 or 503.
    "sequor_overloaded_requests_total" Unit::Count overloaded_requests: LabeledMetric<Endpoint, Counter>,
    /// Requests that failed by the service's own fault: those answered with 5xx, but for 503.
    "sequor_failed_requests_total" Unit::Count failed_requests: LabeledMetric<Endpoint, Counter>,
    /// Requests that were not let in, by why.
    "sequor_refused_requests_total" Unit::Count refused_requests: LabeledMetric<RefusalReason, Counter>,
    /// Times that keys, or a certificate, could not be read again after a change; those before it
    /// stay in force.
    "sequor_reload_failures_total" Unit::Count reload_failures: LabeledMetric<ReloadTarget, Counter>,
    /// Spans for the collector at `telemetry.endpoint`, by what became of them; none without one.
    "sequor_spans_total" Unit::Count spans: LabeledMetric<SpanOutcome, Counter>,
    /// 1 while /readyz says so: learning stands, and the journal takes writes.
    "sequor_ready" Unit::None ready: Gauge,
    /// Events taken in and not yet acknowledged.
    "sequor_in_flight_events" Unit::Count in_flight_events: Gauge,
    /// The most events that may be in flight; beyond it requests are told to come back later.
    "sequor_in_flight_events_limit" Unit::Count in_flight_events_limit: Gauge,
    /// Entries that wait in a queue.
    "sequor_queue_depth" Unit::Count queue_depth: LabeledMetric<QueueName, Gauge>,
    /// The most entries that a queue may hold.
    "sequor_queue_limit" Unit::Count queue_limit: LabeledMetric<QueueName, Gauge>,

    // Sessions.
    /// Sessions that are in memory.
    "sequor_live_sessions" Unit::Count live_sessions: Gauge,
    /// The most sessions that stay in memory.
    "sequor_live_sessions_limit" Unit::Count live_sessions_limit: Gauge,
    /// Streams of recommendations that somebody listens to.
    "sequor_streams" Unit::Count streams: Gauge,
    /// The most streams at once; beyond it requests are told to come back later.
    "sequor_streams_limit" Unit::Count streams_limit: Gauge,
    /// Events that sessions took.
    "sequor_session_events_total" Unit::Count session_events: Counter,
    /// Sessions that began.
    "sequor_sessions_started_total" Unit::Count sessions_started: Counter,
    /// Sessions that left the memory for the store.
    "sequor_sessions_passivated_total" Unit::Count sessions_passivated: Counter,
    /// Sessions that came back from the store.
    "sequor_sessions_revived_total" Unit::Count sessions_revived: Counter,

    // Healing.
    /// Panics, by the actor that was struck; each was healed from the store and the journal.
    "sequor_panics_total" Unit::Count panics: LabeledMetric<ActorKind, Counter>,
    /// Entries that somebody passes over because they could not be worked on.
    "sequor_quarantined_entries" Unit::Count quarantined_entries: Gauge,

    // The journal and the store.
    /// Time to make one batch of events durable.
    "sequor_commit_seconds" Unit::Seconds commit_seconds: Histogram,
    /// Of a commit's time, that in which what was written is handed to the disk; nearly all of it
    /// with `store.durability = "power_loss"`.
    "sequor_sync_seconds" Unit::Seconds sync_seconds: Histogram,
    /// Events made durable by one commit.
    "sequor_commit_batch_events" Unit::Count commit_batch_events: Histogram,
    /// 1 while the journal takes no writes because one failed.
    "sequor_journal_failed" Unit::None journal_failed: Gauge,
    /// Commits that the disk refused.
    "sequor_commit_failures_total" Unit::Count commit_failures: Counter,
    /// Impressions that found no room on their way to the journal: their clicks cannot be credited.
    "sequor_impressions_lost_total" Unit::Count impressions_lost: Counter,
    /// The offset that the next entry of the journal will have.
    "sequor_journal_offset" Unit::Count journal_offset: Gauge,
    /// The first offset that the journal still has.
    "sequor_journal_begin" Unit::Count journal_begin: Gauge,
    /// Space that the data directory takes on the disk.
    "sequor_store_bytes" Unit::Bytes store_bytes: Gauge,
    /// What the database holds, in keys and values; 0 until the first checkpoint since the start,
    /// after which it is counted.
    "sequor_store_live_bytes" Unit::Bytes store_live_bytes: Gauge,
    /// Entries of the journal that went since they were kept long enough.
    "sequor_expired_entries_total" Unit::Count expired_entries: Counter,
    /// How often the database was written anew to give disk back.
    "sequor_compactions_total" Unit::Count compactions: Counter,
    /// Space that is left for the daemon on the disk of the data directory.
    "sequor_disk_free_bytes" Unit::Bytes disk_free_bytes: Gauge,
    /// Size of the disk of the data directory.
    "sequor_disk_size_bytes" Unit::Bytes disk_size_bytes: Gauge,
    /// Time to write a checkpoint.
    "sequor_checkpoint_seconds" Unit::Seconds checkpoint_seconds: Histogram,
    /// Checkpoints that could not be written.
    "sequor_checkpoint_failures_total" Unit::Count checkpoint_failures: Counter,
    /// Size of the last checkpoint.
    "sequor_checkpoint_bytes" Unit::Bytes checkpoint_bytes: Gauge,
    /// The journal offset up to which the last checkpoint has learned.
    "sequor_checkpoint_offset" Unit::Count checkpoint_offset: Gauge,
    /// Journal entries from one checkpoint to the next, as set; 0: only at the end.
    "sequor_checkpoint_interval_entries" Unit::Count checkpoint_interval_entries: Gauge,

    // Learning.
    /// 1 once learning has stopped for an error.
    "sequor_learning_failed" Unit::None learning_failed: Gauge,
    /// The journal offset up to which the learner has learned.
    "sequor_learner_offset" Unit::Count learner_offset: Gauge,
    /// Journal entries that the learner has yet to learn from.
    "sequor_learner_lag_entries" Unit::Count learner_lag_entries: Gauge,
    /// Time since the oldest commit of this process that no snapshot has learned from yet; 0 if
    /// there is none.
    "sequor_learner_lag_seconds" Unit::Seconds learner_lag_seconds: Gauge,
    /// Journal entries that the weights in use were not trained on yet.
    "sequor_weights_lag_entries" Unit::Count weights_lag_entries: Gauge,
    /// Journal entries that were learned from, after a restart those of the journal's tail once
    /// more.
    "sequor_learned_entries_total" Unit::Count learned_entries: Counter,
    /// Time from a commit until a snapshot that has learned from it answers.
    "sequor_event_to_snapshot_seconds" Unit::Seconds event_to_snapshot_seconds: Histogram,
    /// Time from a commit until weights that were trained on it are in use.
    "sequor_event_to_weights_seconds" Unit::Seconds event_to_weights_seconds: Histogram,
    /// Users that the learner remembers.
    "sequor_users" Unit::Count users: Gauge,
    /// Targets trained on, replayed ones included.
    "sequor_training_examples_total" Unit::Count training_examples: Counter,
    /// Mini-batches trained on.
    "sequor_training_batches_total" Unit::Count training_batches: Counter,
    /// Mini-batches left out because their loss or gradient was not finite.
    "sequor_training_skipped_batches_total" Unit::Count training_skipped_batches: Counter,
    /// Time to train on what one stretch of the journal touched.
    "sequor_training_seconds" Unit::Seconds training_seconds: Histogram,
    /// Loss of the last mini-batch, a mean over its targets.
    "sequor_training_loss" Unit::None training_loss: Gauge,
    /// Euclidean norm of the last mini-batch's gradient before clipping.
    "sequor_training_gradient_norm" Unit::None training_gradient_norm: Gauge,
    /// Times that the model was rolled back, by what for.
    "sequor_rollbacks_total" Unit::Count rollbacks: LabeledMetric<ModelChangeCause, Counter>,
    /// 1 while learning is paused.
    "sequor_learning_paused" Unit::None learning_paused: Gauge,
    /// Step size of the network's training.
    "sequor_learning_rate" Unit::None learning_rate: Gauge,
    /// Version of the weights that sessions read.
    "sequor_weights_version" Unit::None weights_version: Gauge,
    /// Time to publish a snapshot.
    "sequor_snapshot_publish_seconds" Unit::Seconds snapshot_publish_seconds: Histogram,

    // Recall.
    /// Items that are known.
    "sequor_items" Unit::Count items: Gauge,
    /// Clusters of items in force.
    "sequor_recall_clusters" Unit::Count item_clusters: Gauge,
    /// Time to cluster the items.
    "sequor_recall_clustering_seconds" Unit::Seconds clustering_seconds: Histogram,
    /// Time to compute the recommendation of a known user, of the request's time that which is
    /// neither waiting nor transport.
    "sequor_recommendation_seconds" Unit::Seconds recommendation_seconds: Histogram,
    /// Items recommended, by the source that brought them.
    "sequor_recommended_items_total" Unit::Count recommended_items: LabeledMetric<SourceName, Counter>,
    /// Candidates that were ranked for answers, by source; one that several sources brought counts
    /// in each.
    "sequor_candidates_total" Unit::Count candidates: LabeledMetric<SourceName, Counter>,
    /// Memory of the candidate sources, about.
    "sequor_recall_bytes" Unit::Bytes candidate_source_bytes: LabeledMetric<SourceName, Gauge>,

    /// Items shown to users, by the source that brought them.
    "sequor_shown_items_total" Unit::Count shown_items: LabeledMetric<SourceName, Counter>,
    /// Items chosen within the credit window after they were shown, by the source that had brought
    /// them.
    "sequor_credited_choices_total" Unit::Count credited_choices: LabeledMetric<SourceName, Counter>,
    /// Items shown to users, by their place in the list.
    "sequor_shown_items_by_place_total" Unit::Count shown_items_by_place: LabeledMetric<ListPosition, Counter>,
    /// Items chosen within the credit window after they were shown, by the place at which they had
    /// stood.
    "sequor_credited_choices_by_place_total" Unit::Count credited_choices_by_place: LabeledMetric<ListPosition, Counter>,

    // Live quality: every event is a test before it teaches.
    /// Events that were a test: a target whose user had an earlier event.
    "sequor_evaluated_steps_total" Unit::Count evaluated_steps: Counter,
    /// Tests whose item was among the first 20.
    "sequor_evaluated_hits_total" Unit::Count evaluated_hits: Counter,
    /// Tests whose item was among the first 20, by the source that brought it.
    "sequor_evaluated_hits_by_source_total" Unit::Count evaluated_hits_by_source: LabeledMetric<SourceName, Counter>,
    /// Recall@20 over the latest tests; NaN before the first.
    "sequor_live_recall_at_20" Unit::Ratio live_recall_at_20: Gauge,
    /// Recall@20 of each source's own list over the latest tests, of which one in four is drawn;
    /// NaN before the first.
    "sequor_live_recall_at_20_by_source" Unit::Ratio live_recall_at_20_by_source: LabeledMetric<SourceName, Gauge>,
    /// MRR@20 over the latest tests; NaN before the first.
    "sequor_live_mrr_at_20" Unit::Ratio live_mrr_at_20: Gauge,
    /// MRR@20 of each source's own list over the latest tests, of which one in four is drawn; NaN
    /// before the first.
    "sequor_live_mrr_at_20_by_source" Unit::Ratio live_mrr_at_20_by_source: LabeledMetric<SourceName, Gauge>,
    /// NDCG@20 over the latest tests; NaN before the first.
    "sequor_live_ndcg_at_20" Unit::Ratio live_ndcg_at_20: Gauge,
    /// Mean squared error of the interest head over the latest tests; NaN before the first.
    "sequor_live_interest_mse" Unit::None live_interest_mse: Gauge,
}

/// Bounds of histograms of time, in seconds: from what an answer should take to what learning may
/// take where little happens.
const SECONDS_BUCKETS: [f64; 19] =
    [5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0];

/// Bounds of histograms of counts.
const SIZE_BUCKETS: [f64; 13] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

/// The name of the metric that says what runs.
const BUILD_INFO: &str = "sequor_build_info";
const BUILD_INFO_HELP: &str = "1, and what runs as labels.";

impl Metrics {
    /// Registers every metric, in a registry of its own: several daemons in one process do not mix.
    ///
    /// # Errors
    /// If the exporter refuses a histogram's bounds.
    pub fn new(kinds: &EventKinds) -> Result<Self, BuildError> {
        let mut builder = PrometheusBuilder::new();
        for declared in Self::DECLARATIONS.iter().filter(|declared| declared.kind == MetricType::Histogram) {
            let bounds: &[f64] = match declared.unit {
                MetricUnit::Seconds => &SECONDS_BUCKETS,
                _ => &SIZE_BUCKETS,
            };
            builder = builder.set_buckets_for_metric(Matcher::Full(declared.name.to_owned()), bounds)?;
        }
        let recorder = builder.build_recorder();
        let metrics = Self::register(&recorder, kinds);
        let build = handle::describe::<Gauge>(&recorder, BUILD_INFO, BUILD_INFO_HELP);
        handle::gauge(&recorder, build, &[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
        for unknown in [
            &metrics.training_loss,
            &metrics.training_gradient_norm,
            &metrics.live_recall_at_20,
            &metrics.live_mrr_at_20,
            &metrics.live_ndcg_at_20,
            &metrics.live_interest_mse,
        ] {
            unknown.set(f64::NAN);
        }
        for source in SourceName::ALL {
            metrics.live_recall_at_20_by_source.with_label(source).set(f64::NAN);
            metrics.live_mrr_at_20_by_source.with_label(source).set(f64::NAN);
        }
        Ok(metrics)
    }

    /// Entries before `through` are durable.
    pub fn record_commit(&self, through: Offset) {
        let now = Instant::now();
        self.snapshot_latency.record_commit(through, now);
        self.weights_latency.record_commit(through, now);
    }

    /// A snapshot answers that has learned from everything before `offset`, by weights that were
    /// trained on everything before `trained`.
    pub fn record_publish(&self, offset: Offset, trained: Offset) {
        let now = Instant::now();
        self.snapshot_latency.complete_until(offset, now, |waited| self.event_to_snapshot_seconds.record(waited));
        self.weights_latency.complete_until(trained, now, |waited| self.event_to_weights_seconds.record(waited));
    }

    /// All of it, and the process itself, in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.learner_lag_seconds.set(self.snapshot_latency.oldest_wait(Instant::now()).as_secs_f64());
        let mut text = self.exporter.render();
        if let Some(process) = ProcessStats::read() {
            process.render(&mut text);
        }
        text
    }

    /// The values as they stand.
    #[must_use]
    pub fn snapshot(&self) -> MetricsSnapshot {
        MetricsSnapshot::new(self.exporter.render())
    }

    /// Sorts the histograms' latest samples into their buckets. Samples are kept one by one
    /// until then, so call it every few seconds even if nobody scrapes.
    pub fn run_upkeep(&self) {
        self.exporter.run_upkeep();
    }
}

#[cfg(test)]
mod tests;
