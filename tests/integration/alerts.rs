//! Triggers every alert: a real Prometheus with the project's rules scrapes a real daemon whose
//! condition the test creates. The tests shorten the `for` durations, and replace thresholds that a
//! test cannot reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpStream;

use serde_json::{Value, json};

use sequor::metrics::Metrics;

use crate::daemon::{Daemon, DaemonHome, run_sequor, view_event, wait_for};
use crate::disk_full::TmpfsDisk;
use crate::ops_assets::{alert_names, metric_names_in, prometheus_rules};
use crate::prometheus::{Prometheus, replace_required, shorten_alert_delays};
use crate::random::random_visits;
use crate::restore::damaged_data_dir;

/// Every alert, with the test below or of `tests/cluster/alerts.rs` that triggers it.
const TEST_OF_ALERT: [(&str, &str); 28] = [
    ("SequorDown", "actor_faults_and_invalid_events_raise_alerts"),
    ("SequorRestarting", "repeated_restarts_and_a_full_disk_raise_alerts"),
    ("SequorNotReady", "unusable_checkpoints_raise_alerts"),
    ("SequorJournalFailed", "actor_faults_and_invalid_events_raise_alerts"),
    ("SequorOverloaded", "actor_faults_and_invalid_events_raise_alerts"),
    ("SequorFailing", "unusable_checkpoints_raise_alerts"),
    ("SequorSlow", "unusable_checkpoints_raise_alerts"),
    ("SequorEventsRejected", "actor_faults_and_invalid_events_raise_alerts"),
    ("SequorLearningFailed", "unusable_checkpoints_raise_alerts"),
    ("SequorLearnerLagging", "unusable_checkpoints_raise_alerts"),
    ("SequorLossNotFinite", "too_high_learning_rate_raises_alerts"),
    ("SequorQualityFalling", "changed_behaviour_and_session_thrashing_raise_alerts"),
    ("SequorSourceBeatsRanking", "changed_behaviour_and_session_thrashing_raise_alerts"),
    ("SequorEventsHeldBack", "fake_events_raise_an_alert"),
    ("SequorRolledBack", "too_high_learning_rate_raises_alerts"),
    ("SequorLearningPaused", "too_high_learning_rate_raises_alerts"),
    ("SequorPanicked", "actor_faults_and_invalid_events_raise_alerts"),
    ("SequorJournalDamaged", "a_damaged_journal_raises_an_alert"),
    ("SequorQuarantineGrew", "actor_faults_and_invalid_events_raise_alerts"),
    ("SequorCheckpointFailed", "unusable_checkpoints_raise_alerts"),
    ("SequorCheckpointOld", "unusable_checkpoints_raise_alerts"),
    ("SequorDiskFilling", "repeated_restarts_and_a_full_disk_raise_alerts"),
    ("SequorCertificateExpires", "store_bloat_and_open_connections_raise_alerts"),
    ("SequorStoreBloated", "store_bloat_and_open_connections_raise_alerts"),
    ("SequorSessionsThrash", "changed_behaviour_and_session_thrashing_raise_alerts"),
    ("SequorDescriptorsScarce", "store_bloat_and_open_connections_raise_alerts"),
    ("SequorClusterMismatch", "another_journal_and_a_missing_node_raise_alerts"),
    ("SequorClusterNodeMissing", "another_journal_and_a_missing_node_raise_alerts"),
];

#[test]
fn every_alert_has_a_test_that_causes_it() {
    let caused: BTreeMap<_, _> = TEST_OF_ALERT.into_iter().collect();
    let names: BTreeSet<_> = caused.keys().map(|alert| (*alert).to_owned()).collect();
    assert_eq!(names, alert_names(), "TEST_OF_ALERT and the rules list different alerts");
    let page = concat!(include_str!("alerts.rs"), include_str!("../cluster/alerts.rs"));
    for (alert, test) in caused {
        let body = page
            .split(&format!("#[test]\nfn {test}() {{\n"))
            .nth(1)
            .unwrap_or_else(|| panic!("there is no test {test}"));
        let body = body.split("\n}\n").next().unwrap();
        assert!(body.contains(&format!("\"{alert}\"")), "{test} does not wait for {alert}");
    }
}

/// A metric selector in an expression.
struct MetricSelector {
    name: String,
    /// Each label of the selector, with its possible values.
    labels: Vec<(String, Vec<String>)>,
}

fn metric_selectors(expression: &str) -> Vec<MetricSelector> {
    let mut found = Vec::new();
    for name in metric_names_in(expression) {
        for (at, _) in expression.match_indices(name) {
            let rest = &expression[at + name.len()..];
            if rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_' || next == ':') {
                // The match is only the beginning of a longer metric name.
                continue;
            }
            let braces = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
            let labels = braces.split(',').filter_map(|matcher| {
                let (label, value) = matcher.split_once('=')?;
                // A negative matcher does not require a series, and Prometheus itself adds the
                // label `job`. Both are left out.
                let wanted = !label.ends_with('!') && label.trim() != "job";
                let values =
                    value.trim_start_matches('~').trim_matches('"').split('|').map(ToOwned::to_owned).collect();
                wanted.then(|| (label.trim().to_owned(), values))
            });
            found.push(MetricSelector { name: name.to_owned(), labels: labels.collect() });
        }
    }
    found
}

/// If a counter's series appears only with its first count, Prometheus sees no increase. An alert
/// on it would miss the first event.
#[test]
fn every_series_of_an_alert_exists_from_the_start() {
    let home = DaemonHome::new();
    let text = home.start(&[]).get_admin("/metrics").body;
    let recorded: BTreeMap<String, String> = prometheus_rules()
        .iter()
        .filter_map(|rule| Some((rule["record"].as_str()?.to_owned(), rule["expr"].as_str()?.to_owned())))
        .collect();
    let mut checked = 0;
    for rule in prometheus_rules() {
        for MetricSelector { name, labels } in metric_selectors(rule["expr"].as_str().unwrap()) {
            // A recorded metric has the labels of its source metrics.
            let sources = recorded.get(&name).map_or_else(
                || vec![name.clone()],
                |of| metric_selectors(of).into_iter().map(|metric_selectors| metric_selectors.name).collect(),
            );
            for source in sources.iter().filter(|source| !source.contains(':')) {
                let series: Vec<_> = text
                    .lines()
                    .filter(|line| line.strip_prefix(source.as_str()).is_some_and(|rest| rest.starts_with(['{', ' '])))
                    .collect();
                assert!(!series.is_empty(), "there is no {source}");
                // Without a matcher, every declared value must exist.
                let name =
                    ["_bucket", "_count"].iter().find_map(|ending| source.strip_suffix(ending)).unwrap_or(source);
                let declared = Metrics::DECLARATIONS.iter().filter(|declared| declared.name == name);
                let possible = declared.filter_map(|declared| Some((declared.label?, declared.values)));
                let possible = possible.flat_map(|(label, values)| values.iter().map(move |value| (label, *value)));
                let named = labels
                    .iter()
                    .flat_map(|(label, values)| values.iter().map(move |value| (label.as_str(), value.as_str())));
                for (label, value) in named.chain(possible) {
                    let is_there = series.iter().any(|line| line.contains(&format!("{label}=\"{value}\"")));
                    assert!(is_there, "{source} has no series with {label}={value}: {rule}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 50, "{checked}");
}

#[test]
fn actor_faults_and_invalid_events_raise_alerts() {
    let (home, dying, quiet) = (DaemonHome::new(), DaemonHome::new(), DaemonHome::new());
    let faulty = home.start(&["SEQUOR_FAULT=committer:poison"]);
    let (killed, healthy) = (dying.start(&["SEQUOR_FAULT=model:poison"]), quiet.start(&[]));
    let Some(prometheus) = Prometheus::start(&[&faulty, &killed, &healthy], |rules| shorten_alert_delays(&rules))
    else {
        return;
    };
    let all = [&faulty, &killed, &healthy];
    for daemon in all {
        daemon.send_events(&[view_event("first", "ann", "tea"), view_event("second", "ann", "pot")]);
    }
    prometheus.wait_for_scrapes(&all);

    // Faults can be injected only in builds with debug assertions.
    if cfg!(debug_assertions) {
        let mut round = 0;
        prometheus.wait_for_alerts(&faulty, &["SequorJournalFailed", "SequorOverloaded", "SequorPanicked"], || {
            round += 1;
            assert_eq!(
                faulty.post("/v1/events", &view_event(&format!("p{round}"), "ann", "poison").to_string()).status,
                503
            );
        });
        killed.send_events(&[view_event("third", "ann", "poison")]);
        prometheus.wait_for_alerts(&killed, &["SequorPanicked", "SequorQuarantineGrew"], || {});
    }
    prometheus.wait_for_alerts(&killed, &["SequorEventsRejected"], || {
        assert_eq!(killed.post("/v1/events", &json!([{ "type": "view" }, { "type": "view" }]).to_string()).status, 400);
    });
    killed.signal("KILL");
    prometheus.wait_for_alerts(&killed, &["SequorDown"], || {});
    // The healthy daemon raises no alerts, except alerts that depend on the load of this machine.
    let is_relevant = |alert: &String| !["SequorDiskFilling", "SequorSlow"].contains(&alert.as_str());
    let firing = prometheus.firing_alerts(&healthy);
    assert!(!firing.iter().any(is_relevant), "{firing:?}");
}

#[test]
fn unusable_checkpoints_raise_alerts() {
    let home = DaemonHome::new();
    let daemon = home.start(&["learning.interval=16", "store.checkpoint_every=100", "SEQUOR_FAULT=model:poison"]);
    // Lowers the threshold of the alert.
    let rules = |rules: String| {
        replace_required(
            &shorten_alert_delays(&rules),
            "sequor_learner_lag_seconds > 60",
            "sequor_learner_lag_seconds > 2",
        )
    };
    let Some(prometheus) = Prometheus::start(&[&daemon], rules) else { return };
    prometheus.wait_for_scrapes(&[&daemon]);

    // A file in place of the checkpoint folder makes every write fail.
    let (place, aside) = (home.data_dir().join("checkpoints"), home.data_dir().join("aside"));
    fs::rename(&place, &aside).unwrap();
    fs::write(&place, "").unwrap();
    let mut sent = 0;
    prometheus.wait_for_alerts(&daemon, &["SequorCheckpointFailed", "SequorCheckpointOld"], || {
        if sent < 600 {
            let batch: Vec<_> = (sent..sent + 50)
                .map(|number| view_event(&format!("e{number}"), "ann", &format!("item{}", number % 9)))
                .collect();
            daemon.send_events(&batch);
            sent += 50;
        }
    });
    daemon.wait_until_learned(600);
    assert_eq!(daemon.metric_value("sequor_learning_failed"), 0.0, "learning continues");
    prometheus.wait_for_alerts(&daemon, &["SequorFailing"], || {
        let response = daemon.admin_request("POST", "/admin/model/checkpoint", "{}");
        assert_eq!(
            (response.status, &response.json()["type"]),
            (500, &json!("/problems/internal")),
            "{}",
            response.body
        );
    });
    assert!(daemon.read_log().contains("a request failed"), "the log states the reason");

    // Faults can be injected only in builds with debug assertions.
    if cfg!(debug_assertions) {
        daemon.send_events(&[view_event("bad", "ann", "poison")]);
        let alerts = ["SequorLearningFailed", "SequorNotReady", "SequorLearnerLagging", "SequorSlow"];
        prometheus.wait_for_alerts(&daemon, &alerts, || {
            // The offset is never learned while the fault lasts.
            let response = daemon.get("/v1/users/ann/recommendations?min_offset=601");
            assert_eq!(
                (response.status, &response.json()["type"]),
                (503, &json!("/problems/not-yet")),
                "{}",
                response.body
            );
        });
        fs::remove_file(&place).unwrap();
        fs::rename(&aside, &place).unwrap();
        daemon.wait_until_learned(601);
        assert_eq!(daemon.admin_request("POST", "/admin/model/checkpoint", "{}").status, 200);
        wait_for("the alerts to resolve", || {
            let firing = prometheus.firing_alerts(&daemon);
            let lasting = ["SequorLearningFailed", "SequorNotReady", "SequorLearnerLagging", "SequorCheckpointOld"];
            (!firing.iter().any(|alert| lasting.contains(&alert.as_str()))).then_some(())
        });
    }
}

#[test]
fn too_high_learning_rate_raises_alerts() {
    let home = DaemonHome::new();
    // A quadratic loss and SGD, so that the gradients are unbounded.
    let network = [
        "network.optimiser=sgd",
        "network.learning_rate=0.0001",
        "network.loss=bpr_max",
        "network.bpr_regularisation=100",
    ];
    let daemon = home.start(
        &[&network[..], &["learning.interval=16", "store.checkpoint_every=100000", "safety.warm_up=1000"]].concat(),
    );
    let Some(prometheus) = Prometheus::start(&[&daemon], |rules| shorten_alert_delays(&rules)) else { return };
    let as_event = |(number, visit): (usize, crate::random::Visit)| json!({ "event_id": format!("e{number}"), "user_id": visit.user, "type": "view", "item_id": visit.item, "timestamp": visit.at });
    let events: Vec<Value> = random_visits(11, 2_000).into_iter().enumerate().map(as_event).collect();
    let act = |path: &str, body: &Value| {
        let response = daemon.admin_request("POST", path, &body.to_string());
        assert_eq!(response.status, 200, "{path}: {}", response.body);
    };
    events[..400].chunks(100).for_each(|batch| drop(daemon.send_events(batch)));
    act("/admin/model/checkpoint", &json!({}));
    // Sends enough events after the checkpoint that the watchdog finds a healthy mark before it.
    events[400..1_600].chunks(100).for_each(|batch| drop(daemon.send_events(batch)));
    daemon.wait_until_learned(1_600);
    prometheus.wait_for_scrapes(&[&daemon]);
    act("/admin/model/learning-rate", &json!({ "value": 10.0 }));
    daemon.send_events(&events[1_600..]);
    prometheus.wait_for_alerts(&daemon, &["SequorLossNotFinite", "SequorRolledBack"], || {});
    act("/admin/model/pause", &json!({}));
    prometheus.wait_for_alerts(&daemon, &["SequorLearningPaused"], || {});
}

/// Sends a view of an item by each of many users, and waits until the sessions are within the limit
/// again.
fn send_view_of_each_user(daemon: &Daemon, number: usize, item: impl Fn(usize) -> String) {
    const USER_COUNT: usize = 200;
    let looks: Vec<_> = (0..USER_COUNT)
        .map(|user| view_event(&format!("{number}-{user}"), &format!("user{user}"), &item(user)))
        .collect();
    daemon.send_events(&looks);
    wait_for("sessions to be passivated", || {
        (daemon.metric_value("sequor_live_sessions") <= daemon.metric_value("sequor_live_sessions_limit")).then_some(())
    });
}

#[test]
fn changed_behaviour_and_session_thrashing_raise_alerts() {
    let home = DaemonHome::new();
    let daemon = home.start(&["session.live_max=10", "session.shards=1", "learning.interval=64"]);
    // Shortens the windows of an hour and a day to 15 seconds and 10 minutes, and lowers the
    // thresholds accordingly.
    let rules = |rules: String| {
        let mut rules = shorten_alert_delays(&rules);
        for (passage, other) in [
            ("_evaluated_steps_total[1h]) > 500", "_evaluated_steps_total[15s]) > 20"),
            ("sequor_evaluated_hits_total[1h]", "sequor_evaluated_hits_total[15s]"),
            ("sequor_evaluated_steps_total[1h]", "sequor_evaluated_steps_total[15s]"),
            ("sequor_evaluated_hits_total[1d]", "sequor_evaluated_hits_total[10m]"),
            ("sequor_evaluated_steps_total[1d]", "sequor_evaluated_steps_total[10m]"),
            // The sources of a healthy daemon do not beat the ranking.
            ("sequor_live_mrr_at_20 > 0.02", "sequor_live_mrr_at_20 > -1"),
            ("sequor_sessions_revived_total[10m]", "sequor_sessions_revived_total[15s]"),
            ("(sequor_session_events_total[10m]) > 10", "(sequor_session_events_total[15s]) > 1"),
        ] {
            rules = replace_required(&rules, passage, other);
        }
        rules
    };
    let Some(prometheus) = Prometheus::start(&[&daemon], rules) else { return };
    prometheus.wait_for_scrapes(&[&daemon]);
    // At first the users view one of a few items, which is easy to predict.
    let mut number = 0;
    wait_for("enough correct predictions", || {
        send_view_of_each_user(&daemon, number, |user| format!("item{}", (user + number) % 5));
        number += 1;
        (daemon.metric_value("sequor_evaluated_hits_total") > 500.0).then_some(())
    });
    // Then every view is of a new item.
    prometheus.wait_for_alerts(
        &daemon,
        &["SequorQualityFalling", "SequorSourceBeatsRanking", "SequorSessionsThrash"],
        || {
            send_view_of_each_user(&daemon, number, |user| format!("novelty{number}-{user}"));
            number += 1;
        },
    );
}

#[test]
fn fake_events_raise_an_alert() {
    let home = DaemonHome::new();
    // A slow machine learns the events more slowly than they arrive.
    let daemon = home.start(&["server.max_lag_events=1000000"]);
    let Some(prometheus) = Prometheus::start(&[&daemon], |rules| shorten_alert_delays(&rules)) else { return };
    prometheus.wait_for_scrapes(&[&daemon]);
    // The limits on influence compare new users with regular users.
    for number in 0..60 {
        send_view_of_each_user(&daemon, number, |user| format!("item{}", (user * 7 + number) % 50));
    }
    let mut number = 0;
    prometheus.wait_for_alerts(&daemon, &["SequorEventsHeldBack"], || {
        let view = |view| view_event(&format!("fake{number}-{view}"), &format!("f{number}-{view}"), "pushed");
        let views: Vec<_> = (0..100).map(view).collect();
        daemon.send_events(&views);
        number += 1;
    });
}

#[test]
fn store_bloat_and_open_connections_raise_alerts() {
    let home = DaemonHome::new();
    // No compaction, and idle connections stay open.
    let settings = [
        "store.compact_ratio=0",
        "store.retain_entries=1000",
        "store.dedup_window=100",
        "store.checkpoint_every=200",
        "store.checkpoints_kept=2",
        "learning.interval=64",
        "server.head_timeout=1h",
        "server.idle_timeout=1h",
    ];
    let wrapper = ["sh", "-c", "ulimit -n 400; exec \"$0\" \"$@\""].map(ToOwned::to_owned);
    let daemon = home.start_under_wrapper(&wrapper, &settings);
    // Writing a gigabyte would take minutes. The daemon has no TLS, so its certificate counts as
    // one that expired in 1970.
    let rules = |rules: String| {
        let rules =
            replace_required(&shorten_alert_delays(&rules), "sequor_store_bytes > 1e9", "sequor_store_bytes > 1e7");
        replace_required(&rules, "expiry_timestamp_seconds > 0", "expiry_timestamp_seconds >= 0")
    };
    let Some(prometheus) = Prometheus::start(&[&daemon], rules) else { return };
    prometheus.wait_for_alerts(&daemon, &["SequorCertificateExpires"], || {});

    let mut sent = 0;
    let mut send = |count: usize, detail: &str| {
        let properties = json!({ "detail": detail });
        let one = |number: usize| json!({ "event_id": format!("e{number}"), "user_id": format!("user{}", number % 9), "type": "view", "item_id": format!("item{}", number % 50), "properties": properties });
        daemon.send_events(&(sent..sent + count).map(one).collect::<Vec<_>>());
        sent += count;
    };
    (0..30).for_each(|_| send(100, &"x".repeat(8_000)));
    prometheus.wait_for_alerts(&daemon, &["SequorStoreBloated"], || {
        // Many small entries follow, so that the limit on retained entries removes the large ones.
        if daemon.metric_value("sequor_journal_begin") < 3_000.0 {
            send(100, "");
        }
    });

    let max_descriptors = daemon.metric_value("process_max_fds");
    assert_eq!(max_descriptors, 400.0);
    let address = daemon.api_url().trim_start_matches("http://");
    let mut idle = Vec::new();
    prometheus.wait_for_alerts(&daemon, &["SequorDescriptorsScarce"], || {
        if daemon.metric_value("process_open_fds") < 0.85 * max_descriptors {
            idle.push(TcpStream::connect(address).unwrap());
        }
    });
}

/// Regression test: damage to the database was noticed only when a command such as an export or a
/// rebuild read the journal.
#[test]
fn a_damaged_journal_raises_an_alert() {
    let home = DaemonHome::new();
    damaged_data_dir(&home);
    let daemon = home.start(&["store.scrub_period=1s"]);
    wait_for("the scrub", || (daemon.metric_value("sequor_journal_damaged_entries") > 0.0).then_some(()));
    wait_for("a complete pass", || (daemon.metric_value("sequor_scrub_passes_total") > 0.0).then_some(()));
    let answer = daemon.get_admin("/healthz/journal");
    assert_eq!(answer.status, 503);
    assert!(
        answer.body.contains("The journal is damaged") && answer.body.contains("the first at offset"),
        "{}",
        answer.body
    );
    let health = run_sequor(&["health", "--journal", "--url", daemon.admin_url()]);
    assert_eq!(health.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&health.stderr).contains("The journal is damaged"));
    assert!(daemon.read_log().contains("journal entries are damaged"), "{}", daemon.read_log());
    daemon.assert_healthy();
    let target = home.dir().join("monday");
    let backup = daemon.admin_request("POST", "/admin/backup", &json!({ "target": target }).to_string());
    assert_eq!(backup.status, 409, "{}", backup.body);
    assert!(backup.body.contains("the journal is damaged, so there is no backup"), "{}", backup.body);
    assert!(!target.exists());
    let Some(prometheus) = Prometheus::start(&[&daemon], |rules| shorten_alert_delays(&rules)) else { return };
    prometheus.wait_for_alerts(&daemon, &["SequorJournalDamaged"], || {});
}

#[test]
fn repeated_restarts_and_a_full_disk_raise_alerts() {
    let home = DaemonHome::new();
    let disk = TmpfsDisk::mount_tmpfs(&home.data_dir());
    // A separate loopback address, so that no other process takes the port during the restart.
    let start = |address: &str| home.start(&[&format!("--admin-listen={address}")]);
    let mut daemon = start("127.0.0.77:0");
    let address = daemon.admin_url().trim_start_matches("http://").to_owned();
    let Some(prometheus) = Prometheus::start(&[&daemon], |rules| shorten_alert_delays(&rules)) else { return };
    prometheus.wait_for_scrapes(&[&daemon]);
    for restarts in 1..=3 {
        daemon.kill();
        daemon = start(&address);
        wait_for("the restart to be scraped", || {
            let seen = prometheus.query_series(&format!("changes(process_start_time_seconds[1h]) >= {restarts}"));
            (!seen.is_empty()).then_some(())
        });
    }
    prometheus.wait_for_alerts(&daemon, &["SequorRestarting"], || {});
    // If the small disk is not mounted, this check is skipped, because it would fill the machine's
    // disk.
    if disk.is_some() {
        prometheus.wait_for_alerts(&daemon, &["SequorDiskFilling"], || {});
        assert!(
            !prometheus.query_series("sequor_disk_free_bytes < 1e9").is_empty(),
            "the alert fired for the fill rate instead of the free bytes"
        );
    }
}
