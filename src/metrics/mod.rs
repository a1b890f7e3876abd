//! The metrics: each declared once, with its name, unit, help and the closed set of its labels, and registered at the start, so that every
//! series is there, at zero, before anything happens.
//!
//! Recording goes through handles that were made then: no name is formatted and no table searched. A label is never a user, an item or a
//! session.

mod handle;
mod process;
mod reading;

pub use handle::{By, ByKind, Declaration, Handle, Label, Type, Unit};
pub use process::Process;
pub use reading::{Buckets, Reading};

use crate::domain::{Kinds, SourceName};
use handle::declare;
use metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

handle::labels! {
    /// What became of an event that arrived.
    EventOutcome "outcome" {
        /// Taken, and durable.
        Accepted "accepted",
        /// Its id was seen before.
        Duplicate "duplicate",
        /// It broke a rule of capture.
        Rejected "rejected",
    }
}

handle::labels! {
    /// What became of a question for recommendations.
    RecommendationOutcome "outcome" {
        /// Answered from the user's session.
        Answered "answered",
        /// Answered without one: nothing is known of the user.
        Cold "cold",
        /// The request was at fault.
        Refused "refused",
        /// There was no room for it.
        Overloaded "overloaded",
        /// The service was at fault.
        Failed "failed",
    }
}

handle::labels! {
    /// A kind of request.
    Endpoint "endpoint" {
        /// Events come in.
        Events "events",
        /// Recommendations for a user.
        Recommendations "recommendations",
        /// Recommendations for a session sent along.
        InlineRecommendations "inline_recommendations",
        /// What is trending, and what is like an item.
        Lists "lists",
        /// The catalog.
        Items "items",
        /// Anything on the admin endpoint.
        Admin "admin",
        /// Anything else.
        Other "other",
    }
}

handle::labels! {
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
    pub fn of(status: u16) -> Self {
        match status {
            0..300 => Self::Success,
            300..400 => Self::Redirect,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

handle::labels! {
    /// A bounded queue between two parts of the daemon.
    Queue "queue" {
        /// To the session shards.
        Shards "shards",
        /// To the committer.
        Committer "committer",
        /// To the learner.
        Learner "learner",
        /// To the clustering in the background.
        Recall "recall",
    }
}

handle::labels! {
    /// An actor, or the thread that works for one.
    Worker "actor" {
        /// A user's session.
        Session "session",
        /// A shard of users.
        Shard "shard",
        /// The committer.
        Committer "committer",
        /// The model actor, which learns.
        Model "model",
        /// The training beside it.
        Training "training",
        /// The recall actor, which clusters.
        Recall "recall",
    }
}

handle::labels! {
    /// Where in a list an item stood.
    Place "place" {
        /// The first.
        First "1",
        /// The second or third.
        Top "2-3",
        /// The fourth to tenth.
        Middle "4-10",
        /// After the tenth.
        Tail "11+",
    }
}

impl Place {
    /// Every place, in order.
    pub const ALL: [Self; 4] = [Self::First, Self::Top, Self::Middle, Self::Tail];
}

impl Label for SourceName {
    const KEY: &'static str = "source";
    const VALUES: &'static [&'static str] = &["network", "clusters", "transitions", "neighbours", "trending", "new", "session"];

    fn place(self) -> usize {
        Self::ALL.iter().position(|source| *source == self).unwrap_or_default()
    }
}

declare! {
    // Capture and the API.
    /// Events that arrived, by what became of them.
    "sequor_events_total" Unit::Count events: By<EventOutcome, Counter>,
    /// Events that were taken, by kind.
    "sequor_accepted_events_total" Unit::Count accepted_events: ByKind,
    /// Changes of the catalog that were taken.
    "sequor_catalog_changes_total" Unit::Count catalog_changes: Counter,
    /// Questions for recommendations, by what became of them.
    "sequor_recommendations_total" Unit::Count recommendations: By<RecommendationOutcome, Counter>,
    /// Time from a request's arrival to its answer.
    "sequor_request_seconds" Unit::Seconds request_seconds: By<Endpoint, Histogram>,
    /// Answers, by the class of their status.
    "sequor_responses_total" Unit::Count responses: By<StatusClass, Counter>,
    /// Events taken in and not yet acknowledged.
    "sequor_in_flight_events" Unit::Count in_flight_events: Gauge,
    /// The most events that may be in flight; beyond it requests are told to come back later.
    "sequor_in_flight_events_limit" Unit::Count in_flight_events_limit: Gauge,
    /// Entries that wait in a queue.
    "sequor_queue_depth" Unit::Count queue_depth: By<Queue, Gauge>,
    /// The most entries that a queue may hold.
    "sequor_queue_limit" Unit::Count queue_limit: By<Queue, Gauge>,

    // Sessions.
    /// Sessions that are in memory.
    "sequor_live_sessions" Unit::Count live_sessions: Gauge,
    /// Sessions that began.
    "sequor_sessions_started_total" Unit::Count sessions_started: Counter,
    /// Sessions that left the memory for the store.
    "sequor_sessions_passivated_total" Unit::Count sessions_passivated: Counter,
    /// Sessions that came back from the store.
    "sequor_sessions_revived_total" Unit::Count sessions_revived: Counter,

    // Healing.
    /// Panics, by the actor that was struck; each was healed from the store and the journal.
    "sequor_panics_total" Unit::Count panics: By<Worker, Counter>,
    /// Entries that somebody passes over because they could not be worked on.
    "sequor_quarantined_entries" Unit::Count quarantined_entries: Gauge,

    // The journal and the store.
    /// Time to make one batch of events durable.
    "sequor_commit_seconds" Unit::Seconds commit_seconds: Histogram,
    /// Events made durable by one commit.
    "sequor_commit_batch_events" Unit::Count commit_batch_events: Histogram,
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
    /// Time to write a checkpoint.
    "sequor_checkpoint_seconds" Unit::Seconds checkpoint_seconds: Histogram,
    /// Checkpoints that could not be written.
    "sequor_checkpoint_failures_total" Unit::Count checkpoint_failures: Counter,
    /// Size of the last checkpoint.
    "sequor_checkpoint_bytes" Unit::Bytes checkpoint_bytes: Gauge,
    /// The journal offset up to which the last checkpoint has learned.
    "sequor_checkpoint_offset" Unit::Count checkpoint_offset: Gauge,

    // Learning.
    /// 1 once learning has stopped for an error.
    "sequor_learning_failed" Unit::None learning_failed: Gauge,
    /// The journal offset up to which the learner has learned.
    "sequor_learner_offset" Unit::Count learner_offset: Gauge,
    /// Journal entries that the learner has yet to learn from.
    "sequor_learner_lag_entries" Unit::Count learner_lag_entries: Gauge,
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
    /// Version of the weights that sessions read.
    "sequor_weights_version" Unit::None weights_version: Gauge,
    /// Time to publish a snapshot.
    "sequor_snapshot_publish_seconds" Unit::Seconds snapshot_publish_seconds: Histogram,

    // Recall.
    /// Items that are known.
    "sequor_items" Unit::Count items: Gauge,
    /// Clusters of items in force.
    "sequor_recall_clusters" Unit::Count recall_clusters: Gauge,
    /// Time to cluster the items.
    "sequor_recall_clustering_seconds" Unit::Seconds recall_clustering_seconds: Histogram,
    /// Time to compute the recommendation of a known user, of the request's time that which is neither waiting nor transport.
    "sequor_recommendation_seconds" Unit::Seconds recommendation_seconds: Histogram,
    /// Items recommended, by the source that brought them.
    "sequor_recommended_items_total" Unit::Count recommended_items: By<SourceName, Counter>,
    /// Candidates that were ranked for answers, by source; one that several sources brought counts in each.
    "sequor_candidates_total" Unit::Count candidates: By<SourceName, Counter>,
    /// Memory of the candidate sources, about.
    "sequor_recall_bytes" Unit::Bytes recall_bytes: By<SourceName, Gauge>,

    /// Items shown to users, by the source that brought them.
    "sequor_shown_items_total" Unit::Count shown_items: By<SourceName, Counter>,
    /// Items chosen within the credit window after they were shown, by the source that had brought them.
    "sequor_credited_choices_total" Unit::Count credited_choices: By<SourceName, Counter>,
    /// Items shown to users, by their place in the list.
    "sequor_shown_items_by_place_total" Unit::Count shown_items_by_place: By<Place, Counter>,
    /// Items chosen within the credit window after they were shown, by the place at which they had stood.
    "sequor_credited_choices_by_place_total" Unit::Count credited_choices_by_place: By<Place, Counter>,

    // Live quality: every event is a test before it teaches.
    /// Events that were a test: a target whose user had an earlier event.
    "sequor_evaluated_steps_total" Unit::Count evaluated_steps: Counter,
    /// Tests whose item was among the first 20.
    "sequor_evaluated_hits_total" Unit::Count evaluated_hits: Counter,
    /// Recall@20 over the latest tests; NaN before the first.
    "sequor_live_recall_at_20" Unit::Ratio live_recall_at_20: Gauge,
    /// MRR@20 over the latest tests; NaN before the first.
    "sequor_live_mrr_at_20" Unit::Ratio live_mrr_at_20: Gauge,
    /// NDCG@20 over the latest tests; NaN before the first.
    "sequor_live_ndcg_at_20" Unit::Ratio live_ndcg_at_20: Gauge,
    /// Mean squared error of the interest head over the latest tests; NaN before the first.
    "sequor_live_interest_mse" Unit::None live_interest_mse: Gauge,
}

/// Bounds of latency histograms, in seconds: from what an answer should take to what nobody waits for.
const LATENCY_BUCKETS: [f64; 17] = [5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Bounds of histograms of counts.
const SIZE_BUCKETS: [f64; 13] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

/// The name of the metric that says what runs.
const BUILD_INFO: &str = "sequor_build_info";

impl Metrics {
    /// Registers every metric, in a registry of its own: several daemons in one process do not mix.
    ///
    /// # Errors
    /// If the exporter refuses a histogram's bounds.
    pub fn new(kinds: &Kinds) -> Result<Self, BuildError> {
        let mut builder = PrometheusBuilder::new();
        for declared in Self::TABLE.iter().filter(|declared| declared.kind == Type::Histogram) {
            let bounds: &[f64] = match declared.unit {
                Unit::Seconds => &LATENCY_BUCKETS,
                _ => &SIZE_BUCKETS,
            };
            builder = builder.set_buckets_for_metric(Matcher::Full(declared.name.to_owned()), bounds)?;
        }
        let recorder = builder.build_recorder();
        let metrics = Self::register(&recorder, kinds);
        let build = handle::describe::<Gauge>(&recorder, BUILD_INFO, "1, and what runs as labels.");
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
        Ok(metrics)
    }

    /// All of it, and the process itself, in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self.exporter.render();
        if let Some(process) = Process::read() {
            process.render(&mut text);
        }
        text
    }

    /// The values as they stand.
    #[must_use]
    pub fn read(&self) -> Reading {
        Reading::of(self.exporter.render())
    }

    /// Sorts the histograms' latest samples into their buckets. They are kept one by one until then, so call it every few seconds, lest
    /// they fill the memory while nobody scrapes.
    pub fn upkeep(&self) {
        self.exporter.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_follow_the_conventions() {
        let mut seen = HashSet::new();
        for declared in Metrics::TABLE {
            let name = declared.name;
            assert!(seen.insert(name), "{name} is declared twice");
            assert!(
                name.starts_with("sequor_") && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            );
            assert_eq!(name.ends_with("_total"), declared.kind == Type::Counter, "{name}");
            assert_eq!(name.contains("_seconds"), declared.unit == Unit::Seconds, "{name}");
            assert_eq!(name.contains("_bytes"), declared.unit == Unit::Bytes, "{name}");
            assert!(declared.help.ends_with('.') && !declared.help.starts_with(' '), "{name}: {}", declared.help);
        }
    }

    #[test]
    fn every_series_is_there_from_the_start() {
        let metrics = Metrics::new(&Kinds::default()).unwrap();
        let text = metrics.render();
        for declared in Metrics::TABLE {
            assert!(text.contains(&format!("# HELP {} {}\n", declared.name, declared.help)), "{}", declared.name);
            assert!(text.contains(&format!("# TYPE {} {}\n", declared.name, declared.kind.as_str())), "{}", declared.name);
        }
        for line in [
            "sequor_events_total{outcome=\"duplicate\"} 0",
            "sequor_accepted_events_total{kind=\"purchase\"} 0",
            "sequor_request_seconds_bucket{endpoint=\"recommendations\",le=\"0.00005\"} 0",
            "sequor_candidates_total{source=\"clusters\"} 0",
            "sequor_live_mrr_at_20 NaN",
            concat!("sequor_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn what_is_recorded_is_rendered() {
        let kinds = Kinds::default();
        let metrics = Metrics::new(&kinds).unwrap();
        metrics.events.of(EventOutcome::Accepted).increment(3);
        metrics.accepted_events.of(4).increment(2);
        metrics.accepted_events.of(200).increment(1);
        metrics.request_seconds.of(Endpoint::Events).record(0.0002);
        metrics.queue_depth.of(Queue::Learner).set(7.0);
        metrics.recommended_items.of(SourceName::Session).increment(1);
        metrics.upkeep();
        let text = metrics.render();
        for line in [
            "sequor_events_total{outcome=\"accepted\"} 3",
            "sequor_accepted_events_total{kind=\"purchase\"} 2",
            "sequor_request_seconds_bucket{endpoint=\"events\",le=\"0.0001\"} 0",
            "sequor_request_seconds_bucket{endpoint=\"events\",le=\"0.00025\"} 1",
            "sequor_queue_depth{queue=\"learner\"} 7",
            "sequor_recommended_items_total{source=\"session\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let other = Metrics::new(&kinds).unwrap();
        assert!(other.render().contains("sequor_events_total{outcome=\"accepted\"} 0"), "registries do not mix");
    }

    #[test]
    fn sources_go_by_their_names() {
        assert_eq!(SourceName::ALL.map(SourceName::as_str), SourceName::VALUES);
        assert!(SourceName::ALL.iter().enumerate().all(|(place, source)| source.place() == place));
    }

    #[test]
    fn statuses_have_classes() {
        let classes = [200, 304, 404, 503].map(StatusClass::of);
        assert_eq!(classes, [StatusClass::Success, StatusClass::Redirect, StatusClass::ClientError, StatusClass::ServerError]);
    }
}
