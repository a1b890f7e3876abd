//! Every setting that is a bound has a test that tries to exceed the bound.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use toml::{Table, Value};

/// Each bound, with the tests that try to exceed it.
const BOUNDS: &[(&str, &[&str])] = &[
    (
        "server.rate_per_key",
        &["rate_per_key_limits_a_key_without_a_rate_of_its_own", "admits_the_configured_rate_under_overload"],
    ),
    ("server.rate_per_address", &["rate_limit_per_address_does_not_apply_to_the_admin_endpoint"]),
    ("server.connections_max", &["connections_are_limited", "connections_of_all_threads_never_exceed_the_limit"]),
    ("server.connections_per_address", &["one_address_cannot_take_all_connections"]),
    ("server.http2_streams_max", &["unread_http2_streams_are_limited_and_end_the_connection"]),
    ("server.head_timeout", &["slow_requests_time_out", "the_head_timeout_applies_to_later_requests"]),
    ("server.body_timeout", &["slow_requests_time_out"]),
    ("server.write_timeout", &["stalled_readers_are_disconnected"]),
    ("server.idle_timeout", &["slow_requests_time_out"]),
    (
        "server.max_body_bytes",
        &["too_large_requests_are_rejected", "decompression_bombs_cost_no_more_than_the_body_limit"],
    ),
    ("server.max_batch", &["too_large_requests_are_rejected"]),
    ("server.max_in_flight_events", &["events_in_flight_never_exceed_the_limit"]),
    ("server.max_lag_events", &["events_beyond_the_lag_limit_get_503_and_everything_else_is_served"]),
    ("server.queue_wait", &["requests_that_waited_too_long_are_refused_at_once"]),
    ("server.read_wait", &["read_waits_for_min_offset_up_to_a_timeout"]),
    ("server.streams_max", &["stream_sends_a_list_after_each_event_of_the_user"]),
    ("store.dedup_window", &["event_ids_are_recognised_exactly_within_the_window"]),
    ("store.checkpoint_every", &["checkpoints_and_replayed_entries_never_exceed_their_limits"]),
    ("store.checkpoints_kept", &["checkpoints_and_replayed_entries_never_exceed_their_limits"]),
    ("store.retain_entries", &["the_journal_does_not_grow_beyond_the_retained_entries"]),
    ("store.retain_for", &["journal_is_kept_for_the_configured_time"]),
    ("store.compact_ratio", &["daemon_compacts_automatically_above_the_ratio"]),
    ("store.scrub_period", &["a_scrub_pass_takes_at_most_the_configured_period"]),
    ("session.passivate_after", &["idle_sessions_leave_memory"]),
    ("session.live_max", &["live_sessions_never_exceed_the_limit"]),
    ("session.dismissed_for", &["dismissed_and_purchased_items_stay_hidden_for_the_configured_time"]),
    ("session.purchased_for", &["dismissed_and_purchased_items_stay_hidden_for_the_configured_time"]),
    ("events.retain_impressions", &["expired_events_are_removed_and_others_are_kept"]),
    ("network.window", &["windows_are_packed_longest_first_and_cut_to_their_last_positions"]),
    ("network.attributes_max", &["the_vocabulary_never_exceeds_its_limit_and_keeps_the_first_values"]),
    ("network.clip", &["a_clipped_gradient_never_exceeds_the_limit"]),
    ("learning.history", &["the_history_never_exceeds_its_limit_and_keeps_the_latest_sessions"]),
    ("learning.window", &["a_training_window_contains_only_the_last_positions"]),
    ("learning.refresh_after", &["a_hidden_state_is_recomputed_before_its_weights_are_too_old"]),
    ("learning.hidden_kept", &["users_hidden_states_and_sightings_never_exceed_their_limits"]),
    (
        "learning.users_kept",
        &[
            "users_hidden_states_and_sightings_never_exceed_their_limits",
            "learner_and_store_keep_no_more_users_than_configured",
        ],
    ),
    ("learning.credit_window_ms", &["click_is_attributed_once_to_latest_impression_within_window"]),
    ("learning.live_window", &["the_sliding_window_drops_old_steps"]),
    ("recall.row_items", &["no_row_exceeds_its_capacity_and_the_latest_item_is_kept"]),
    ("recall.contexts", &["the_table_never_exceeds_its_capacity_and_keeps_the_latest_contexts"]),
    ("recall.sessions", &["sessions_examined_sessions_and_neighbours_are_bounded"]),
    ("recall.sessions_per_item", &["sessions_examined_sessions_and_neighbours_are_bounded"]),
    ("recall.neighbours", &["sessions_examined_sessions_and_neighbours_are_bounded"]),
    ("clusters.lag", &["clusters_take_effect_exactly_after_the_lag_and_their_number_is_bounded"]),
    ("clusters.most", &["the_numbers_of_clusters_and_of_probed_clusters_are_bounded"]),
    ("clusters.probes", &["the_numbers_of_clusters_and_of_probed_clusters_are_bounded"]),
    ("train.epochs", &["evaluated_steps_follow_the_protocol_and_the_checkpoint_reproduces_the_metrics"]),
    ("train.patience", &["training_learns_the_ring_and_keeps_the_weights_of_the_best_epoch"]),
    ("interest.ratings_kept", &["users_and_their_ratings_are_bounded"]),
    ("interest.users_kept", &["users_and_their_ratings_are_bounded"]),
    ("interest.items_max", &["refused_ratings_change_nothing"]),
    ("profiles.items_kept", &["profiles_are_bounded_and_follow_erasure_merges_and_expiry"]),
    ("profiles.users_kept", &["profiles_are_bounded_and_follow_erasure_merges_and_expiry"]),
    ("safety.quality_drop", &["each_violated_rule_rolls_back_to_the_last_restore_point_before_the_fault"]),
    ("safety.loss_rise", &["each_violated_rule_rolls_back_to_the_last_restore_point_before_the_fault"]),
    ("safety.warm_up", &["no_rule_applies_before_the_warm_up"]),
    ("cluster.max_lag", &["a_node_is_ready_up_to_the_maximum_lag"]),
    ("safety.training_share_min", &["the_training_share_never_falls_below_its_minimum"]),
];

/// The other settings with a number or a time.
const NOT_BOUNDS: &[&str] = &[
    // Threads.
    "server.workers",
    "session.shards",
    // A target of the database, which it exceeds: see docs/performance.md.
    "store.cache_bytes",
    // The layout of the stream.
    "cluster.replicas",
    // The form of messages.
    "cluster.message_version",
    // Frequencies of snapshots and comparisons.
    "cluster.compare_every",
    "cluster.train_after",
    "cluster.erase_within",
    "cluster.snapshot_every",
    // The meaning of events.
    "session.idle_gap",
    // Frequencies and sample sizes.
    "clusters.every",
    "clusters.exact_up_to",
    "learning.batch",
    "learning.evaluate_every",
    "learning.interval",
    "learning.replay_half_life",
    "learning.replay_ratio",
    "learning.teach_every",
    "telemetry.sample",
    "train.batch",
    "train.test",
    "train.validation",
    "train.warmup",
    // Hyperparameters.
    "interest.learning_rate",
    "interest.replayed_ratings",
    "learning.seed",
    "network.beta1",
    "network.beta2",
    "network.bpr_regularisation",
    "network.epsilon",
    "network.hidden",
    "network.hidden_dropout",
    "network.initial_scale",
    "network.input_dropout",
    "network.layers",
    "network.learning_rate",
    "network.logq",
    "network.memory_decay",
    "network.momentum",
    "network.negatives",
    "network.negatives_alpha",
    "train.decay",
    "train.seed",
];

/// Whether a value is a number, or a time such as "30m" or "off".
fn is_number_or_time(value: &Value) -> bool {
    let is_time = |text: &str| {
        let unit = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
        text == "off" || unit.len() < text.len() && ["ms", "s", "m", "h", "d"].contains(&unit)
    };
    value.is_integer() || value.is_float() || value.as_str().is_some_and(is_time)
}

/// All settings of the sample configuration with a number or a time.
fn numeric_settings() -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("ops/sequor.toml");
    let sections: Table = fs::read_to_string(file).unwrap().parse().unwrap();
    let mut settings = BTreeSet::new();
    for (section, values) in &sections {
        for (name, _) in values.as_table().unwrap().iter().filter(|(_, value)| is_number_or_time(value)) {
            settings.insert(format!("{section}.{name}"));
        }
    }
    settings
}

/// The text of all files below a folder of the repository.
fn read_sources(folder: &str) -> String {
    let (mut folders, mut text) = (vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)], String::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                text += &fs::read_to_string(path).unwrap();
            }
        }
    }
    text
}

#[test]
fn every_bound_has_a_test_that_tries_to_exceed_it() {
    let listed: Vec<_> = BOUNDS.iter().map(|(setting, _)| *setting).chain(NOT_BOUNDS.iter().copied()).collect();
    let unique: BTreeSet<_> = listed.iter().map(|setting| (*setting).to_owned()).collect();
    assert_eq!(unique.len(), listed.len(), "a setting is listed twice");
    let settings = numeric_settings();
    let missing: Vec<_> = settings.difference(&unique).collect();
    assert!(missing.is_empty(), "neither in BOUNDS nor in NOT_BOUNDS: {missing:?}");
    let unknown: Vec<_> = unique.difference(&settings).collect();
    assert!(unknown.is_empty(), "not in ops/sequor.toml: {unknown:?}");
    let sources = ["crates", "src", "tests"].map(read_sources).concat();
    for (setting, tests) in BOUNDS {
        assert!(!tests.is_empty(), "{setting} has no test");
        for test in *tests {
            assert!(sources.contains(&format!("fn {test}()")), "{setting}: there is no test `{test}`");
        }
    }
}
