//! The metrics of the daemon. Each metric is declared once, with its name, unit, help text and all
//! values of its label. All metrics are registered when the daemon starts, so every series exists
//! from the start, with the value zero.
//!
//! Registration creates a handle for each series. Code records values through the handle, which is
//! fast: no name is formatted, and no table is searched. Labels never contain users, items or
//! sessions.

mod commit_latency;
mod feature_gain;
mod handle;
mod markdown;
mod placement_metric;
mod process;
mod snapshot;
mod threads;

pub use feature_gain::FeatureGainMetric;
pub use handle::{
    EventKindMetric, LabeledMetric, MetricDeclaration, MetricHandle, MetricLabel, MetricType, MetricUnit,
};
pub use placement_metric::PlacementMetric;
pub use process::ProcessStats;
pub use snapshot::MetricsSnapshot;
pub use threads::ThreadRole;

use crate::domain::{EventKinds, ModelChangeCause, Objective, Offset, SourceName};
use commit_latency::CommitLatencyTracker;
use handle::declare_metrics;
use metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::time::Instant;

handle::declare_label! {
    /// Outcome of a received event.
    EventOutcome "outcome" {
        /// The event is durable.
        Accepted "accepted",
        /// An event with the same id was accepted before.
        Duplicate "duplicate",
        /// The event broke a validation rule.
        Rejected "rejected",
        /// The user of the event does not consent to storage.
        Withheld "withheld",
    }
}

handle::declare_label! {
    /// Outcome of a message of Segment's API.
    SegmentMessageOutcome "outcome" {
        /// The message became a journal entry.
        Accepted "taken",
        /// Messages of this type, or with this event name, never become journal entries.
        Ignored "ignored",
        /// The message's event name is not mapped to a kind of event.
        UnknownEvent "unknown",
        /// The event broke a validation rule.
        Rejected "rejected",
    }
}

handle::declare_label! {
    /// Why an event was held back from learning.
    HeldBackReason "reason" {
        /// One user has chosen the item too often.
        OneUser "one_user",
        /// New users chose the item too often, compared with established users.
        NewUsersOfItem "new_users_of_item",
        /// The site has far more events of new users than before.
        NewUsersOfSite "new_users_of_site",
    }
}

handle::declare_label! {
    /// Outcome of a recommendation request.
    RecommendationOutcome "outcome" {
        /// Answered from the user's session.
        Answered "answered",
        /// Answered without a known session: the user is unknown, all items of the session are
        /// unknown, or the catalog is empty.
        ColdStart "cold",
        /// The request was invalid.
        InvalidRequest "refused",
        /// The request was rejected with 429 or 503.
        Overloaded "overloaded",
        /// The request failed with a 5xx status other than 503.
        Failed "failed",
    }
}

handle::declare_label! {
    /// Group of endpoints.
    Endpoint "endpoint" {
        /// Event ingestion.
        Events "events",
        /// Segment's API.
        Segment "segment",
        /// Recommendations for a user.
        Recommendations "recommendations",
        /// Recommendations for a session in the request.
        InlineRecommendations "inline_recommendations",
        /// Predictions of event values.
        Predictions "predictions",
        /// Rankings of a list in the request.
        ListRankings "list_rankings",
        /// Recommendation streams, until the stream begins.
        Streams "streams",
        /// Trending and similar items.
        NonPersonalised "lists",
        /// The catalog.
        Items "items",
        /// The admin endpoint.
        Admin "admin",
        /// All other requests.
        Other "other",
    }
}

handle::declare_label! {
    /// Why a request was refused.
    RefusalReason "reason" {
        /// The request has no key, and the endpoint requires a key.
        MissingKey "no_key",
        /// The request's key is unknown or revoked.
        UnknownKey "wrong_key",
        /// The request's key lacks the required scope.
        MissingScope "scope",
        /// The request's key exceeded the rate limit.
        KeyRate "key_rate",
        /// The client's address exceeded the rate limit.
        AddressRate "address_rate",
        /// The client's address already has the largest allowed number of open connections.
        AddressConnections "address_connections",
        /// The header `Host` contains a name that is not accepted. Only the admin endpoint and an
        /// API that requires no key check this header.
        Host "host",
        /// A web page of another origin sent the request to the admin endpoint, or to an API that
        /// requires no key.
        Origin "origin",
    }
}

handle::declare_label! {
    /// Files that are reloaded when they change.
    ReloadTarget "what" {
        /// The API keys.
        Keys "keys",
        /// The TLS certificate or its private key.
        Certificate "certificate",
    }
}

handle::declare_label! {
    /// Outcome of a trace span.
    SpanOutcome "outcome" {
        /// The collector accepted the span.
        Sent "sent",
        /// The collector did not accept the span.
        Failed "failed",
        /// The export queue was full.
        Dropped "dropped",
    }
}

handle::declare_label! {
    /// Class of a response's status code.
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
    /// The class of a status code.
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
    /// A bounded queue inside the daemon.
    QueueName "queue" {
        /// Entries that wait for the committer. The limit of entries in flight bounds the queues
        /// `committer` and `shards` together.
        Committer "committer",
        /// Committed events that wait for the shards.
        Shards "shards",
        /// Requests that wait for a session actor, or that a session actor is processing.
        SessionRequests "questions",
    }
}

handle::declare_label! {
    /// An actor or a background thread.
    ActorKind "actor" {
        /// A user's session.
        Session "session",
        /// A shard of sessions.
        Shard "shard",
        /// The committer.
        Committer "committer",
        /// The learner actor.
        Learner "model",
        /// The training thread.
        Training "training",
        /// The clustering thread.
        Candidates "recall",
    }
}

handle::declare_label! {
    /// Position of an item in a recommendation.
    ListPosition "place" {
        /// The first item.
        First "1",
        /// The second or third item.
        Top "2-3",
        /// The fourth to tenth item.
        Middle "4-10",
        /// Any item after the tenth.
        Rest "11+",
    }
}

impl HeldBackReason {
    /// All reasons.
    pub const ALL: [Self; 3] = [Self::OneUser, Self::NewUsersOfItem, Self::NewUsersOfSite];
}

impl ListPosition {
    /// All positions, in order.
    pub const ALL: [Self; 4] = [Self::First, Self::Top, Self::Middle, Self::Rest];
}

impl MetricLabel for ModelChangeCause {
    const LABEL_NAME: &'static str = "reason";
    const LABEL_VALUES: &'static [&'static str] = &["operator", "loss", "quality", "lag"];

    fn index(self) -> usize {
        self as usize
    }
}

impl MetricLabel for SourceName {
    const LABEL_NAME: &'static str = "source";
    const LABEL_VALUES: &'static [&'static str] =
        &["network", "clusters", "transitions", "neighbours", "trending", "new", "session", "profile"];

    fn index(self) -> usize {
        Self::ALL.iter().position(|source| *source == self).unwrap_or_default()
    }
}

impl MetricLabel for Objective {
    const LABEL_NAME: &'static str = "objective";
    const LABEL_VALUES: &'static [&'static str] = &["ctr", "cvr", "revenue"];

    fn index(self) -> usize {
        self as usize
    }
}

declare_metrics! {
    // Ingestion and the API.
    /// Received events, by outcome.
    "sequor_events_total" Unit::Count events: LabeledMetric<EventOutcome, Counter>,
    /// Accepted events, by kind.
    "sequor_accepted_events_total" Unit::Count accepted_events: EventKindMetric<Counter>,
    /// Messages of Segment's API, by outcome.
    "sequor_segment_messages_total" Unit::Count segment_messages: LabeledMetric<SegmentMessageOutcome, Counter>,
    /// Merges refused because one of the ids is a placeholder that many visitors share.
    "sequor_refused_merges_total" Unit::Count refused_merges: Counter,
    /// Accepted catalog changes.
    "sequor_catalog_changes_total" Unit::Count catalog_changes: Counter,
    /// Recommendation requests, by outcome.
    "sequor_recommendations_total" Unit::Count recommendations: LabeledMetric<RecommendationOutcome, Counter>,
    /// Lists that were returned, by placement; `none` for lists without a placement. Rankings of
    /// given lists, trending and similar items count, too.
    "sequor_placement_lists_total" Unit::Count placement_lists: PlacementMetric<Counter>,
    /// Items of recorded lists, by the placement of the list. The click-through rate of a placement
    /// is the rate of attributed clicks divided by the rate of these items.
    "sequor_shown_items_by_placement_total" Unit::Count shown_items_by_placement: PlacementMetric<Counter>,
    /// Events that are clicks on shown items, by the placement of the list, see
    /// docs/attribution.md.
    "sequor_attributed_clicks_total" Unit::Count attributed_clicks: PlacementMetric<Counter>,
    /// Purchases that follow a clicked item, by the placement of the list, see docs/attribution.md.
    "sequor_attributed_conversions_total" Unit::Count attributed_conversions: PlacementMetric<Counter>,
    /// Time from the arrival of a request to its response.
    "sequor_request_seconds" Unit::Seconds request_seconds: LabeledMetric<Endpoint, Histogram>,
    /// Responses, by class of the status code.
    "sequor_responses_total" Unit::Count responses: LabeledMetric<StatusClass, Counter>,
    /// Requests rejected with 429 or 503, by endpoint.
    "sequor_overloaded_requests_total" Unit::Count overloaded_requests: LabeledMetric<Endpoint, Counter>,
    /// Requests that failed with a 5xx status other than 503, by endpoint.
    "sequor_failed_requests_total" Unit::Count failed_requests: LabeledMetric<Endpoint, Counter>,
    /// Requests refused by the checks of API key, rate limit, connections per address, host and
    /// origin, by reason.
    "sequor_refused_requests_total" Unit::Count refused_requests: LabeledMetric<RefusalReason, Counter>,
    /// Connections closed because the client read no part of a response within
    /// `server.write_timeout`.
    "sequor_stalled_connections_total" Unit::Count stalled_connections: Counter,
    /// Failed reloads of a changed key file or certificate. The previous keys or certificate stay
    /// in use.
    "sequor_reload_failures_total" Unit::Count reload_failures: LabeledMetric<ReloadTarget, Counter>,
    /// Expiry time of the TLS certificate, in seconds since 1970; 0 without TLS.
    "sequor_tls_certificate_expiry_timestamp_seconds" Unit::Seconds tls_certificate_expiry: Gauge,
    /// Finished trace spans, by outcome of their export to the collector at `telemetry.endpoint`.
    "sequor_spans_total" Unit::Count spans: LabeledMetric<SpanOutcome, Counter>,
    /// 1 while /readyz succeeds: learning works, the journal accepts writes, and the daemon is not
    /// draining.
    "sequor_ready" Unit::None ready: Gauge,
    /// Admitted entries that their sessions have not applied yet.
    "sequor_in_flight_events" Unit::Count in_flight_events: Gauge,
    /// Limit of `sequor_in_flight_events`. Requests that would exceed this limit get 503.
    "sequor_in_flight_events_limit" Unit::Count in_flight_events_limit: Gauge,
    /// Entries in a queue; in the queue `questions`, requests.
    "sequor_queue_depth" Unit::Count queue_depth: LabeledMetric<QueueName, Gauge>,
    /// Capacity of a queue, in entries; for the queue `questions`, in requests.
    "sequor_queue_limit" Unit::Count queue_limit: LabeledMetric<QueueName, Gauge>,

    // Sessions.
    /// Sessions in memory.
    "sequor_live_sessions" Unit::Count live_sessions: Gauge,
    /// Largest number of sessions in memory.
    "sequor_live_sessions_limit" Unit::Count live_sessions_limit: Gauge,
    /// Open recommendation streams.
    "sequor_streams" Unit::Count streams: Gauge,
    /// Largest number of open recommendation streams. Further requests for a stream get 503.
    "sequor_streams_limit" Unit::Count streams_limit: Gauge,
    /// Events applied to sessions.
    "sequor_session_events_total" Unit::Count session_events: Counter,
    /// Sessions started.
    "sequor_sessions_started_total" Unit::Count sessions_started: Counter,
    /// Sessions moved from memory to the store.
    "sequor_sessions_passivated_total" Unit::Count sessions_passivated: Counter,
    /// Sessions loaded from the store into memory.
    "sequor_sessions_revived_total" Unit::Count sessions_revived: Counter,

    // Recovery.
    /// Panics, by actor. After a panic, an actor restores its state from the store and the journal.
    "sequor_panics_total" Unit::Count panics: LabeledMetric<ActorKind, Counter>,
    /// Journal entries that the actors skip because processing them failed.
    "sequor_quarantined_entries" Unit::Count quarantined_entries: Gauge,

    // The journal and the store.
    /// Duration of a commit, which makes one batch of events durable.
    "sequor_commit_seconds" Unit::Seconds commit_seconds: Histogram,
    /// Time that a commit spends on syncing the disk. With `store.durability = "power_loss"`, this
    /// is nearly the whole commit time.
    "sequor_sync_seconds" Unit::Seconds sync_seconds: Histogram,
    /// Events per commit.
    "sequor_commit_batch_events" Unit::Count commit_batch_events: Histogram,
    /// 1 while the journal accepts no writes after a failed write.
    "sequor_journal_failed" Unit::None journal_failed: Gauge,
    /// Failed commits.
    "sequor_commit_failures_total" Unit::Count commit_failures: Counter,
    /// Impressions that were not journalled. Clicks on their items are not attributed to them.
    "sequor_impressions_lost_total" Unit::Count impressions_lost: Counter,
    /// Offset of the next journal entry.
    "sequor_journal_offset" Unit::Count journal_offset: Gauge,
    /// Offset of the oldest retained journal entry.
    "sequor_journal_begin" Unit::Count journal_begin: Gauge,
    /// Disk usage of the data directory.
    "sequor_store_bytes" Unit::Bytes store_bytes: Gauge,
    /// Size of the keys and values in the database, measured at each checkpoint; 0 before the first
    /// checkpoint after a start.
    "sequor_store_live_bytes" Unit::Bytes store_live_bytes: Gauge,
    /// Journal entries removed by retention.
    "sequor_expired_entries_total" Unit::Count expired_entries: Counter,
    /// Journal entries removed by purges.
    "sequor_purged_entries_total" Unit::Count purged_entries: Counter,
    /// Share of the journal that the current pass of the scrub has read.
    "sequor_scrub_progress_ratio" Unit::None scrub_progress: Gauge,
    /// Complete passes of the scrub over the journal.
    "sequor_scrub_passes_total" Unit::Count scrub_passes: Counter,
    /// Journal entries that the scrub could not read.
    "sequor_journal_damaged_entries" Unit::Count journal_damaged_entries: Gauge,
    /// Compactions of the database.
    "sequor_compactions_total" Unit::Count compactions: Counter,
    /// Space that the daemon can still use on the disk of the data directory.
    "sequor_disk_free_bytes" Unit::Bytes disk_free_bytes: Gauge,
    /// Size of the disk of the data directory.
    "sequor_disk_size_bytes" Unit::Bytes disk_size_bytes: Gauge,
    /// Time to write a checkpoint.
    "sequor_checkpoint_seconds" Unit::Seconds checkpoint_seconds: Histogram,
    /// Checkpoints that could not be written.
    "sequor_checkpoint_failures_total" Unit::Count checkpoint_failures: Counter,
    /// Size of the last checkpoint.
    "sequor_checkpoint_bytes" Unit::Bytes checkpoint_bytes: Gauge,
    /// Journal offset of the last checkpoint.
    "sequor_checkpoint_offset" Unit::Count checkpoint_offset: Gauge,
    /// Journal entries after the last checkpoint, which a restart replays. An impression counts as
    /// a tenth of an entry.
    "sequor_checkpoint_pending_entries" Unit::Count checkpoint_pending_entries: Gauge,
    /// Configured number of journal entries between checkpoints; 0: checkpoints are written only at
    /// shutdown.
    "sequor_checkpoint_interval_entries" Unit::Count checkpoint_interval_entries: Gauge,

    // The cluster.
    /// Journal entries that this node is behind its cluster, at least.
    "sequor_cluster_lag_entries" Unit::Count cluster_lag_entries: Gauge,
    /// Time to publish a message to the cluster's log, until a majority of the servers has stored it.
    "sequor_cluster_publish_seconds" Unit::Seconds cluster_publish_seconds: Histogram,
    /// Nodes of the cluster that report their state, this one included; 0 without a cluster.
    "sequor_cluster_nodes" Unit::Count cluster_nodes: Gauge,
    /// Results of trainings that this replica took from a learner.
    "sequor_cluster_fetched_trainings_total" Unit::Count cluster_fetched_trainings: Counter,
    /// 1 while the journal or the learned state of this node differs from those of the majority of the
    /// nodes.
    "sequor_cluster_chain_mismatch" Unit::None cluster_chain_mismatch: Gauge,

    // Learning.
    /// Events that the learner held back, by reason. Such an event does not influence the
    /// recommendations of other users, because a single user or new users chose the item too often.
    "sequor_held_back_events_total" Unit::Count held_back_events: LabeledMetric<HeldBackReason, Counter>,
    /// 1 while learning has stopped because of an error.
    "sequor_learning_failed" Unit::None learning_failed: Gauge,
    /// Journal offset of the learner.
    "sequor_learner_offset" Unit::Count learner_offset: Gauge,
    /// Journal entries that the published snapshot does not include.
    "sequor_learner_lag_entries" Unit::Count learner_lag_entries: Gauge,
    /// Lag of the learner, in journal entries, from which on requests with events get 503.
    "sequor_learner_lag_limit_entries" Unit::Count learner_lag_limit_entries: Gauge,
    /// Share of events on which the model is evaluated and trained. The daemon lowers the share
    /// below 1 if learning cannot keep up.
    "sequor_training_share" Unit::Ratio training_share: Gauge,
    /// Age of the oldest commit of this process that the published snapshot does not include; 0 if
    /// the snapshot includes all commits.
    "sequor_learner_lag_seconds" Unit::Seconds learner_lag_seconds: Gauge,
    /// Journal entries on which the weights in use are not yet trained.
    "sequor_weights_lag_entries" Unit::Count weights_lag_entries: Gauge,
    /// Journal entries that the learner has processed. Entries that it replays after a restart
    /// count again.
    "sequor_learned_entries_total" Unit::Count learned_entries: Counter,
    /// Time from a commit until a published snapshot includes the commit's entries.
    "sequor_event_to_snapshot_seconds" Unit::Seconds event_to_snapshot_seconds: Histogram,
    /// Time from a commit until the weights in use are trained on the commit's entries.
    "sequor_event_to_weights_seconds" Unit::Seconds event_to_weights_seconds: Histogram,
    /// Users whose state the learner keeps.
    "sequor_users" Unit::Count users: Gauge,
    /// Training examples, including those from replayed sessions.
    "sequor_training_examples_total" Unit::Count training_examples: Counter,
    /// Mini-batches trained.
    "sequor_training_batches_total" Unit::Count training_batches: Counter,
    /// Mini-batches skipped because their loss or gradient was not finite.
    "sequor_training_skipped_batches_total" Unit::Count training_skipped_batches: Counter,
    /// Duration of a training run in the background.
    "sequor_training_seconds" Unit::Seconds training_seconds: Histogram,
    /// Loss of the last mini-batch, averaged over its targets.
    "sequor_training_loss" Unit::None training_loss: Gauge,
    /// Euclidean norm of the last mini-batch's gradient before clipping.
    "sequor_training_gradient_norm" Unit::None training_gradient_norm: Gauge,
    /// Rollbacks of the model, by reason.
    "sequor_rollbacks_total" Unit::Count rollbacks: LabeledMetric<ModelChangeCause, Counter>,
    /// 1 while learning is paused.
    "sequor_learning_paused" Unit::None learning_paused: Gauge,
    /// Learning rate of the network.
    "sequor_learning_rate" Unit::None learning_rate: Gauge,
    /// Version of the weights in use.
    "sequor_weights_version" Unit::None weights_version: Gauge,
    /// Time to publish a snapshot.
    "sequor_snapshot_publish_seconds" Unit::Seconds snapshot_publish_seconds: Histogram,
    /// Duration of the learner's turns. Between two turns, the learner handles other requests.
    "sequor_learner_turn_seconds" Unit::Seconds learner_turn_seconds: Histogram,

    // Candidates and recommendations.
    /// Known items.
    "sequor_items" Unit::Count items: Gauge,
    /// Number of item clusters in use.
    "sequor_recall_clusters" Unit::Count item_clusters: Gauge,
    /// Time to cluster the items.
    "sequor_recall_clustering_seconds" Unit::Seconds clustering_seconds: Histogram,
    /// Time to compute a recommendation for a known user, without the time in queues and without
    /// the transfer over HTTP.
    "sequor_recommendation_seconds" Unit::Seconds recommendation_seconds: Histogram,
    /// Recommended items, by candidate source.
    "sequor_recommended_items_total" Unit::Count recommended_items: LabeledMetric<SourceName, Counter>,
    /// Ranked candidates, by source. A candidate of several sources counts once per source.
    "sequor_candidates_total" Unit::Count candidates: LabeledMetric<SourceName, Counter>,
    /// Approximate memory that a candidate source uses.
    "sequor_recall_bytes" Unit::Bytes candidate_source_bytes: LabeledMetric<SourceName, Gauge>,

    /// Items shown to users, by candidate source.
    "sequor_shown_items_total" Unit::Count shown_items: LabeledMetric<SourceName, Counter>,
    /// Clicks attributed to an impression at most `learning.credit_window_ms` earlier, by candidate
    /// source.
    "sequor_credited_choices_total" Unit::Count credited_choices: LabeledMetric<SourceName, Counter>,
    /// Items shown to users, by position in the list.
    "sequor_shown_items_by_place_total" Unit::Count shown_items_by_place: LabeledMetric<ListPosition, Counter>,
    /// Clicks attributed to an impression at most `learning.credit_window_ms` earlier, by position
    /// in the list.
    "sequor_credited_choices_by_place_total" Unit::Count credited_choices_by_place: LabeledMetric<ListPosition, Counter>,

    // Live quality (prequential evaluation): the model is evaluated on each event before it trains
    // on that event.
    /// Target events on which the model was evaluated. A user's first event is not evaluated.
    "sequor_evaluated_steps_total" Unit::Count evaluated_steps: Counter,
    /// Evaluated events whose item was among the 20 best-ranked items.
    "sequor_evaluated_hits_total" Unit::Count evaluated_hits: Counter,
    /// Evaluated events whose item was among the 20 best-ranked items, by candidate source of the
    /// item.
    "sequor_evaluated_hits_by_source_total" Unit::Count evaluated_hits_by_source: LabeledMetric<SourceName, Counter>,
    /// Recall@20 over the latest evaluated events; NaN before the first evaluated event.
    "sequor_live_recall_at_20" Unit::Ratio live_recall_at_20: Gauge,
    /// Recall@20 of a ranking by each source alone, over a sample of the latest evaluated events
    /// (one in four); NaN before the first evaluated event.
    "sequor_live_recall_at_20_by_source" Unit::Ratio live_recall_at_20_by_source: LabeledMetric<SourceName, Gauge>,
    /// MRR@20 over the latest evaluated events; NaN before the first evaluated event.
    "sequor_live_mrr_at_20" Unit::Ratio live_mrr_at_20: Gauge,
    /// MRR@20 of a ranking by each source alone, over a sample of the latest evaluated events (one
    /// in four); NaN before the first evaluated event.
    "sequor_live_mrr_at_20_by_source" Unit::Ratio live_mrr_at_20_by_source: LabeledMetric<SourceName, Gauge>,
    /// Recall@20 of the ranking with a declared feature minus that without it, over about the last
    /// 8192 sampled events (one in 16), by feature; `all` for all features together. NaN before the
    /// first sampled event.
    "sequor_feature_recall_at_20_gain" Unit::None feature_recall_at_20_gain: FeatureGainMetric,
    /// MRR@20 of the ranking with a declared feature minus that without it, over about the last 8192
    /// sampled events (one in 16), by feature; `all` for all features together. NaN before the first
    /// sampled event.
    "sequor_feature_mrr_at_20_gain" Unit::None feature_mrr_at_20_gain: FeatureGainMetric,
    /// NDCG@20 over the latest evaluated events; NaN before the first evaluated event.
    "sequor_live_ndcg_at_20" Unit::Ratio live_ndcg_at_20: Gauge,
    /// Recall@20 over the latest evaluated events of each kind, by kind; NaN before the first such
    /// event.
    "sequor_live_recall_at_20_by_kind" Unit::Ratio live_recall_at_20_by_kind: EventKindMetric<Gauge>,
    /// MRR@20 over the latest evaluated events of each kind, by kind; NaN before the first such event.
    "sequor_live_mrr_at_20_by_kind" Unit::Ratio live_mrr_at_20_by_kind: EventKindMetric<Gauge>,
    /// Share of the latest 1,000 events that follow a list of the placement within an hour, and whose
    /// item is among the first 20 items of the latest such list, by placement; NaN before the first
    /// such event.
    "sequor_live_recall_at_20_by_placement" Unit::Ratio live_recall_at_20_by_placement: PlacementMetric<Gauge>,
    /// Mean of 1 / position of the item in the latest list of the placement, over the same events; 0
    /// for an item that is not among the first 20, by placement; NaN before the first such event.
    "sequor_live_mrr_at_20_by_placement" Unit::Ratio live_mrr_at_20_by_placement: PlacementMetric<Gauge>,
    /// Recall@20 of the ranking for each objective, over the latest 1,000 evaluated events of the
    /// objective; NaN before the first such event.
    "sequor_live_objective_recall_at_20" Unit::Ratio live_objective_recall_at_20: LabeledMetric<Objective, Gauge>,
    /// MRR@20 of the ranking for each objective, over the same events.
    "sequor_live_objective_mrr_at_20" Unit::Ratio live_objective_mrr_at_20: LabeledMetric<Objective, Gauge>,
    /// Recall@20 of the ranking without objective, over the events of each objective. An objective
    /// pays if its own ranking has a larger value.
    "sequor_live_objective_base_recall_at_20" Unit::Ratio live_objective_base_recall_at_20: LabeledMetric<Objective, Gauge>,
    /// MRR@20 of the ranking without objective, over the events of each objective.
    "sequor_live_objective_base_mrr_at_20" Unit::Ratio live_objective_base_mrr_at_20: LabeledMetric<Objective, Gauge>,
    /// Recall@20 over the latest evaluated events on new items; NaN before the first such event. An
    /// item is new while fewer than 5 of its target events have been learned.
    "sequor_live_new_item_recall_at_20" Unit::Ratio live_new_item_recall_at_20: Gauge,
    /// MRR@20 over the latest evaluated events on new items; NaN before the first such event.
    "sequor_live_new_item_mrr_at_20" Unit::Ratio live_new_item_mrr_at_20: Gauge,
    // Errors of the interest models over the latest events with a value, of users with an earlier
    // value. They are prequential. On a logarithmic scale, they are errors of logarithms. NaN before
    // the first such event.
    /// Mean squared error of predicted event values, by kind.
    "sequor_live_interest_mse" Unit::None live_interest_mse: EventKindMetric<Gauge>,
    /// Mean squared error of the baseline (mean + bias of the user + bias of the item), by kind. A
    /// useful interest model has a smaller error.
    "sequor_live_interest_baseline_mse" Unit::None live_interest_baseline_mse: EventKindMetric<Gauge>,
    /// Root of the mean squared error of predicted event values, by kind.
    "sequor_live_interest_rmse" Unit::None live_interest_rmse: EventKindMetric<Gauge>,
    /// Mean absolute error of predicted event values, by kind.
    "sequor_live_interest_mae" Unit::None live_interest_mae: EventKindMetric<Gauge>,
    /// Mean of squared error / predicted variance, by kind. 1 is calibrated; above 1, the model is
    /// too certain.
    "sequor_live_interest_calibration" Unit::Ratio live_interest_calibration: EventKindMetric<Gauge>,
}

/// Bucket bounds of duration histograms, in seconds. The smallest bound fits the fastest responses.
/// The largest fits the time until an event is learned if there is little traffic.
const DURATION_BUCKETS_SECONDS: [f64; 19] =
    [5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0];

/// Bucket bounds of count histograms.
const COUNT_BUCKETS: [f64; 13] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

/// The name of the metric whose label holds the daemon's version.
const BUILD_INFO_NAME: &str = "sequor_build_info";
const BUILD_INFO_HELP: &str = "Always 1; the label holds the version.";

impl Metrics {
    /// Creates a registry and registers every metric in it. Each daemon has its own registry, so
    /// several daemons in one process do not share series.
    ///
    /// # Errors
    /// A [`BuildError`] if the exporter rejects the bucket bounds of a histogram.
    pub fn new(kinds: &EventKinds) -> Result<Self, BuildError> {
        let mut builder = PrometheusBuilder::new();
        for declared in Self::DECLARATIONS.iter().filter(|declared| declared.kind == MetricType::Histogram) {
            let bounds: &[f64] = match declared.unit {
                MetricUnit::Seconds => &DURATION_BUCKETS_SECONDS,
                _ => &COUNT_BUCKETS,
            };
            builder = builder.set_buckets_for_metric(Matcher::Full(declared.name.to_owned()), bounds)?;
        }
        let recorder = builder.build_recorder();
        let metrics = Self::register(recorder, kinds);
        let recorder = &metrics.recorder;
        let build = handle::register_help::<Gauge>(recorder, BUILD_INFO_NAME, BUILD_INFO_HELP);
        handle::register_labeled_gauge(recorder, build, &[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
        for gauge in [
            &metrics.training_loss,
            &metrics.training_gradient_norm,
            &metrics.live_recall_at_20,
            &metrics.live_mrr_at_20,
            &metrics.live_ndcg_at_20,
            &metrics.live_new_item_recall_at_20,
            &metrics.live_new_item_mrr_at_20,
        ] {
            gauge.set(f64::NAN);
        }
        let by_kind = [
            &metrics.live_recall_at_20_by_kind,
            &metrics.live_mrr_at_20_by_kind,
            &metrics.live_interest_mse,
            &metrics.live_interest_baseline_mse,
            &metrics.live_interest_rmse,
            &metrics.live_interest_mae,
            &metrics.live_interest_calibration,
        ];
        for kind in (0..).take(kinds.len()) {
            by_kind.iter().for_each(|metric| metric.with_label(kind).set(f64::NAN));
        }
        for source in SourceName::ALL {
            metrics.live_recall_at_20_by_source.with_label(source).set(f64::NAN);
            metrics.live_mrr_at_20_by_source.with_label(source).set(f64::NAN);
        }
        metrics.set_placement_quality(None, f64::NAN, f64::NAN);
        for objective in Objective::ALL {
            let of_objective = [
                &metrics.live_objective_recall_at_20,
                &metrics.live_objective_mrr_at_20,
                &metrics.live_objective_base_recall_at_20,
                &metrics.live_objective_base_mrr_at_20,
            ];
            of_objective.iter().for_each(|metric| metric.with_label(objective).set(f64::NAN));
        }
        Ok(metrics)
    }

    /// Counts a list that was returned for a placement, or without one.
    pub fn count_list(&self, placement: Option<&str>) {
        self.placement_lists.with_placement(&self.recorder, placement).increment(1);
    }

    /// Counts the items of a recorded list.
    pub fn count_shown_items(&self, placement: Option<&str>, count: u64) {
        self.shown_items_by_placement.with_placement(&self.recorder, placement).increment(count);
    }

    /// Sets how well the lists of a placement predict the events after them.
    pub fn set_placement_quality(&self, placement: Option<&str>, recall: f64, mrr: f64) {
        self.live_recall_at_20_by_placement.with_placement(&self.recorder, placement).set(recall);
        self.live_mrr_at_20_by_placement.with_placement(&self.recorder, placement).set(mrr);
    }

    /// Sets the gains of a declared feature in Recall@20 and MRR@20, or of all features together.
    pub fn set_feature_gain(&self, feature: Option<&str>, recall: f64, mrr: f64) {
        self.feature_recall_at_20_gain.set(&self.recorder, feature, recall);
        self.feature_mrr_at_20_gain.set(&self.recorder, feature, mrr);
    }

    /// Counts an event that was attributed to a list of a placement, or to one without placement.
    pub fn count_attributed_event(&self, placement: Option<&str>, is_conversion: bool) {
        let metric = if is_conversion { &self.attributed_conversions } else { &self.attributed_clicks };
        metric.with_placement(&self.recorder, placement).increment(1);
    }

    /// Records that all entries before offset `through` are durable.
    pub fn record_commit(&self, through: Offset) {
        let now = Instant::now();
        self.snapshot_latency.record_commit(through, now);
        self.weights_latency.record_commit(through, now);
    }

    /// Records that a snapshot is published. The snapshot includes all entries before `offset`, and
    /// its weights are trained on all entries before `trained`.
    pub fn record_publish(&self, offset: Offset, trained: Offset) {
        let now = Instant::now();
        self.snapshot_latency.complete_until(offset, now, |latency| self.event_to_snapshot_seconds.record(latency));
        self.weights_latency.complete_until(trained, now, |latency| self.event_to_weights_seconds.record(latency));
    }

    /// Renders all metrics, including the process metrics, in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.learner_lag_seconds.set(self.snapshot_latency.oldest_waiting_time(Instant::now()).as_secs_f64());
        let mut text = self.exporter.render();
        if let Some(process) = ProcessStats::read_proc() {
            process.render(&mut text);
        }
        threads::render(&mut text);
        text
    }

    /// The current values.
    #[must_use]
    pub fn snapshot(&self) -> MetricsSnapshot {
        MetricsSnapshot::new(self.exporter.render())
    }

    /// Sorts new histogram samples into their buckets. Unsorted samples accumulate in memory, so
    /// this method must be called every few seconds, even if nobody reads the metrics.
    pub fn run_upkeep(&self) {
        self.exporter.run_upkeep();
    }
}

#[cfg(test)]
mod tests;
