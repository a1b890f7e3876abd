//! Every alert is made to fire by its cause: the real daemon, scraped by a real Prometheus under
//! the project's own rules. Only how long something has to last is shortened, and where a threshold
//! is one that no test can wait for, the passage with it is exchanged where the cause is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpStream;

use serde_json::{Value, json};

use sequor::metrics::Metrics;

use crate::daemon::{Daemon, DaemonHome, event, wait_for};
use crate::disk_full::TmpfsDisk;
use crate::ops_assets::{alert_names, metric_names_in, prometheus_rules};
use crate::prometheus::{Prometheus, replace_required, shorten_alert_delays};
use crate::random::random_visits;

/// Every alert, and the test below that causes it.
const CAUSED_BY: [(&str, &str); 22] = [
    ("SequorDown", "faults_of_actors_and_of_senders"),
    ("SequorRestarting", "ends_again_and_again_on_a_small_disk"),
    ("SequorNotReady", "checkpoints_that_can_be_neither_written_nor_read"),
    ("SequorJournalFailed", "faults_of_actors_and_of_senders"),
    ("SequorOverloaded", "faults_of_actors_and_of_senders"),
    ("SequorFailing", "checkpoints_that_can_be_neither_written_nor_read"),
    ("SequorSlow", "checkpoints_that_can_be_neither_written_nor_read"),
    ("SequorEventsRejected", "faults_of_actors_and_of_senders"),
    ("SequorLearningFailed", "checkpoints_that_can_be_neither_written_nor_read"),
    ("SequorLearnerLagging", "checkpoints_that_can_be_neither_written_nor_read"),
    ("SequorLossNotFinite", "a_learning_rate_that_is_far_too_high"),
    ("SequorQualityFalling", "more_visitors_than_fit_who_behave_otherwise"),
    ("SequorRolledBack", "a_learning_rate_that_is_far_too_high"),
    ("SequorLearningPaused", "a_learning_rate_that_is_far_too_high"),
    ("SequorPanicked", "faults_of_actors_and_of_senders"),
    ("SequorQuarantineGrew", "faults_of_actors_and_of_senders"),
    ("SequorCheckpointFailed", "checkpoints_that_can_be_neither_written_nor_read"),
    ("SequorCheckpointOld", "checkpoints_that_can_be_neither_written_nor_read"),
    ("SequorDiskFilling", "ends_again_and_again_on_a_small_disk"),
    ("SequorStoreBloated", "a_journal_that_was_let_go_and_connections_that_are_not"),
    ("SequorSessionsThrash", "more_visitors_than_fit_who_behave_otherwise"),
    ("SequorDescriptorsScarce", "a_journal_that_was_let_go_and_connections_that_are_not"),
];

#[test]
fn every_alert_has_a_test_that_causes_it() {
    let caused: BTreeMap<_, _> = CAUSED_BY.into_iter().collect();
    let names: BTreeSet<_> = caused.keys().map(|alert| (*alert).to_owned()).collect();
    assert_eq!(names, alert_names(), "the table above names other alerts than there are");
    let page = include_str!("alerts.rs");
    for (alert, test) in caused {
        let body = page.split(&format!("#[test]\nfn {test}() {{\n")).nth(1).unwrap_or_else(|| panic!("there is no test {test}"));
        let body = body.split("\n}\n").next().unwrap();
        assert!(body.contains(&format!("\"{alert}\"")), "{test} does not wait for {alert}");
    }
}

/// What an expression asks for by a name.
struct Asked {
    name: String,
    /// The labels that it names, each with the values that it wants of them.
    labels: Vec<(String, Vec<String>)>,
}

fn asked(expression: &str) -> Vec<Asked> {
    let mut found = Vec::new();
    for name in metric_names_in(expression) {
        for (at, _) in expression.match_indices(name) {
            let rest = &expression[at + name.len()..];
            if rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_' || next == ':') {
                // A longer name.
                continue;
            }
            let braces = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
            let labels = braces.split(',').filter_map(|matcher| {
                let (label, value) = matcher.split_once('=')?;
                // What is to be unequal may be there or not, and the job is Prometheus' own.
                let wanted = !label.ends_with('!') && label.trim() != "job";
                let values = value.trim_start_matches('~').trim_matches('"').split('|').map(ToOwned::to_owned).collect();
                wanted.then(|| (label.trim().to_owned(), values))
            });
            found.push(Asked { name: name.to_owned(), labels: labels.collect() });
        }
    }
    found
}

/// A counter that appears with its first count has not increased, to Prometheus: so the alert on it
/// would miss the one that matters most.
#[test]
fn whatever_an_alert_looks_at_is_there_from_the_start() {
    let home = DaemonHome::new();
    let text = home.start(&[]).get_admin("/metrics").body;
    let recorded: BTreeMap<String, String> = prometheus_rules()
        .iter()
        .filter_map(|rule| Some((rule["record"].as_str()?.to_owned(), rule["expr"].as_str()?.to_owned())))
        .collect();
    let mut looked_at = 0;
    for rule in prometheus_rules() {
        for Asked { name, labels } in asked(rule["expr"].as_str().unwrap()) {
            // What is recorded has the labels of what it is made of.
            let sources =
                recorded.get(&name).map_or_else(|| vec![name.clone()], |of| asked(of).into_iter().map(|asked| asked.name).collect());
            for source in sources.iter().filter(|source| !source.contains(':')) {
                let series: Vec<_> = text
                    .lines()
                    .filter(|line| line.strip_prefix(source.as_str()).is_some_and(|rest| rest.starts_with(['{', ' '])))
                    .collect();
                assert!(!series.is_empty(), "there is no {source}");
                // Where it names no value it means all that there can be.
                let name = ["_bucket", "_count"].iter().find_map(|ending| source.strip_suffix(ending)).unwrap_or(source);
                let declared = Metrics::DECLARATIONS.iter().filter(|declared| declared.name == name);
                let possible = declared.filter_map(|declared| Some((declared.label?, declared.values)));
                let possible = possible.flat_map(|(label, values)| values.iter().map(move |value| (label, *value)));
                let named = labels.iter().flat_map(|(label, values)| values.iter().map(move |value| (label.as_str(), value.as_str())));
                for (label, value) in named.chain(possible) {
                    let is_there = series.iter().any(|line| line.contains(&format!("{label}=\"{value}\"")));
                    assert!(is_there, "there is no {source} whose {label} is {value}: {rule}");
                    looked_at += 1;
                }
            }
        }
    }
    assert!(looked_at > 50, "{looked_at}");
}

#[test]
fn faults_of_actors_and_of_senders() {
    let (home, dying, quiet) = (DaemonHome::new(), DaemonHome::new(), DaemonHome::new());
    let ill = home.start(&["SEQUOR_FAULT=committer:poison"]);
    let (doomed, well) = (dying.start(&["SEQUOR_FAULT=model:poison"]), quiet.start(&[]));
    let Some(prometheus) = Prometheus::start(&[&ill, &doomed, &well], |rules| shorten_alert_delays(&rules)) else { return };
    let all = [&ill, &doomed, &well];
    for daemon in all {
        daemon.send_events(&[event("first", "ann", "tea"), event("second", "ann", "pot")]);
    }
    prometheus.wait_for_scrapes(&all);

    // Faults are asked for in builds with debug assertions alone.
    if cfg!(debug_assertions) {
        let mut round = 0;
        prometheus.wait_for_alerts(&ill, &["SequorJournalFailed", "SequorOverloaded", "SequorPanicked"], || {
            round += 1;
            assert_eq!(ill.post("/v1/events", &event(&format!("p{round}"), "ann", "poison").to_string()).status, 503);
        });
        doomed.send_events(&[event("third", "ann", "poison")]);
        prometheus.wait_for_alerts(&doomed, &["SequorPanicked", "SequorQuarantineGrew"], || {});
    }
    prometheus.wait_for_alerts(&doomed, &["SequorEventsRejected"], || {
        assert_eq!(doomed.post("/v1/events", &json!([{ "type": "view" }, { "type": "view" }]).to_string()).status, 400);
    });
    doomed.signal("KILL");
    prometheus.wait_for_alerts(&doomed, &["SequorDown"], || {});
    // Not of the one that nothing was done to. How full and how slow this machine is, is not its
    // doing.
    let own_doing = |alert: &String| !["SequorDiskFilling", "SequorSlow"].contains(&alert.as_str());
    let firing = prometheus.firing_alerts(&well);
    assert!(!firing.iter().any(own_doing), "{firing:?}");
}

#[test]
fn checkpoints_that_can_be_neither_written_nor_read() {
    let home = DaemonHome::new();
    let daemon = home.start(&["learning.interval=16", "store.checkpoint_every=100", "SEQUOR_FAULT=model:poison"]);
    // Who waits for a minute is as far behind as who waits for two seconds.
    let rules = |rules: String| {
        replace_required(&shorten_alert_delays(&rules), "sequor_learner_lag_seconds > 60", "sequor_learner_lag_seconds > 2")
    };
    let Some(prometheus) = Prometheus::start(&[&daemon], rules) else { return };
    prometheus.wait_for_scrapes(&[&daemon]);

    // Where the checkpoints are to be there is a file, which is no directory and cannot be made
    // one.
    let (place, aside) = (home.data_dir().join("checkpoints"), home.data_dir().join("aside"));
    fs::rename(&place, &aside).unwrap();
    fs::write(&place, "").unwrap();
    let mut sent = 0;
    prometheus.wait_for_alerts(&daemon, &["SequorCheckpointFailed", "SequorCheckpointOld"], || {
        if sent < 600 {
            let batch: Vec<_> =
                (sent..sent + 50).map(|number| event(&format!("e{number}"), "ann", &format!("item{}", number % 9))).collect();
            daemon.send_events(&batch);
            sent += 50;
        }
    });
    daemon.wait_until_learned(600);
    assert_eq!(daemon.metric("sequor_learning_failed"), 0.0, "learning goes on");
    prometheus.wait_for_alerts(&daemon, &["SequorFailing"], || {
        let answer = daemon.admin_request("POST", "/admin/model/checkpoint", "{}");
        assert_eq!((answer.status, &answer.json()["type"]), (500, &json!("/problems/internal")), "{}", answer.body);
    });
    assert!(daemon.logged().contains("a request failed"), "the log tells why");

    // Faults are asked for in builds with debug assertions alone.
    if cfg!(debug_assertions) {
        daemon.send_events(&[event("bad", "ann", "poison")]);
        let ills = ["SequorLearningFailed", "SequorNotReady", "SequorLearnerLagging", "SequorSlow"];
        prometheus.wait_for_alerts(&daemon, &ills, || {
            // What it is to know it will not know as long as this lasts.
            let answer = daemon.get("/v1/users/ann/recommendations?min_offset=601");
            assert_eq!((answer.status, &answer.json()["type"]), (503, &json!("/problems/not-yet")), "{}", answer.body);
        });
        fs::remove_file(&place).unwrap();
        fs::rename(&aside, &place).unwrap();
        daemon.wait_until_learned(601);
        assert_eq!(daemon.admin_request("POST", "/admin/model/checkpoint", "{}").status, 200);
        wait_for("the troubles to be over", || {
            let firing = prometheus.firing_alerts(&daemon);
            let lasting = ["SequorLearningFailed", "SequorNotReady", "SequorLearnerLagging", "SequorCheckpointOld"];
            (!firing.iter().any(|alert| lasting.contains(&alert.as_str()))).then_some(())
        });
    }
}

#[test]
fn a_learning_rate_that_is_far_too_high() {
    let home = DaemonHome::new();
    // A quadratic loss and plain steps, so that nothing bounds the gradients.
    let network = ["network.optimiser=sgd", "network.learning_rate=0.0001", "network.loss=bpr_max", "network.bpr_regularisation=100"];
    let daemon = home.start(&[&network[..], &["learning.interval=16", "store.checkpoint_every=100000", "safety.warm_up=1000"]].concat());
    let Some(prometheus) = Prometheus::start(&[&daemon], |rules| shorten_alert_delays(&rules)) else { return };
    let as_event = |(number, visit): (usize, crate::random::Visit)| json!({ "event_id": format!("e{number}"), "user_id": visit.user, "type": "view", "item_id": visit.item, "timestamp": visit.at });
    let events: Vec<Value> = random_visits(11, 2_000).into_iter().enumerate().map(as_event).collect();
    let act = |path: &str, body: &Value| {
        let answer = daemon.admin_request("POST", path, &body.to_string());
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    };
    events[..400].chunks(100).for_each(|batch| drop(daemon.send_events(batch)));
    act("/admin/model/checkpoint", &json!({}));
    // Far enough for a look back to find that all was well behind that.
    events[400..1_600].chunks(100).for_each(|batch| drop(daemon.send_events(batch)));
    daemon.wait_until_learned(1_600);
    prometheus.wait_for_scrapes(&[&daemon]);
    act("/admin/model/learning-rate", &json!({ "value": 1000.0 }));
    daemon.send_events(&events[1_600..]);
    prometheus.wait_for_alerts(&daemon, &["SequorLossNotFinite", "SequorRolledBack"], || {});
    act("/admin/model/pause", &json!({}));
    prometheus.wait_for_alerts(&daemon, &["SequorLearningPaused"], || {});
}

/// A look at an item by each of many users, and a wait until no more of them are in memory than may
/// be.
fn round(daemon: &Daemon, number: usize, item: impl Fn(usize) -> String) {
    const USERS: usize = 200;
    let looks: Vec<_> = (0..USERS).map(|user| event(&format!("{number}-{user}"), &format!("user{user}"), &item(user))).collect();
    daemon.send_events(&looks);
    wait_for("sessions to go to rest", || {
        (daemon.metric("sequor_live_sessions") <= daemon.metric("sequor_live_sessions_limit")).then_some(())
    });
}

#[test]
fn more_visitors_than_fit_who_behave_otherwise() {
    let home = DaemonHome::new();
    let daemon = home.start(&["session.live_max=10", "session.shards=1", "learning.interval=64"]);
    // An hour and a day become a quarter of a minute and ten, and so many tests within them fewer.
    let rules = |rules: String| {
        let mut rules = shorten_alert_delays(&rules);
        for (passage, other) in [
            ("_evaluated_steps_total[1h]) > 500", "_evaluated_steps_total[15s]) > 20"),
            ("sequor_evaluated_hits_total[1h]", "sequor_evaluated_hits_total[15s]"),
            ("sequor_evaluated_steps_total[1h]", "sequor_evaluated_steps_total[15s]"),
            ("sequor_evaluated_hits_total[1d]", "sequor_evaluated_hits_total[10m]"),
            ("sequor_evaluated_steps_total[1d]", "sequor_evaluated_steps_total[10m]"),
            ("sequor_sessions_revived_total[10m]", "sequor_sessions_revived_total[15s]"),
            ("(sequor_session_events_total[10m]) > 10", "(sequor_session_events_total[15s]) > 1"),
        ] {
            rules = replace_required(&rules, passage, other);
        }
        rules
    };
    let Some(prometheus) = Prometheus::start(&[&daemon], rules) else { return };
    prometheus.wait_for_scrapes(&[&daemon]);
    // Everybody looks at one of a few items: that is easy to foretell.
    let mut number = 0;
    wait_for("something to be foretold", || {
        round(&daemon, number, |user| format!("item{}", (user + number) % 5));
        number += 1;
        (daemon.metric("sequor_evaluated_hits_total") > 500.0).then_some(())
    });
    // From now on nobody looks at what anybody looked at before.
    prometheus.wait_for_alerts(&daemon, &["SequorQualityFalling", "SequorSessionsThrash"], || {
        round(&daemon, number, |user| format!("novelty{number}-{user}"));
        number += 1;
    });
}

#[test]
fn a_journal_that_was_let_go_and_connections_that_are_not() {
    let home = DaemonHome::new();
    // Of the database nothing is given back, and a connection on which nothing is asked is left
    // open.
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
    let daemon = home.start_under(&wrapper, &settings);
    // A gigabyte would take minutes to write.
    let rules = |rules: String| replace_required(&shorten_alert_delays(&rules), "sequor_store_bytes > 1e9", "sequor_store_bytes > 1e7");
    let Some(prometheus) = Prometheus::start(&[&daemon], rules) else { return };

    let mut sent = 0;
    let mut send = |count: usize, detail: &str| {
        let properties = json!({ "detail": detail });
        let one = |number: usize| json!({ "event_id": format!("e{number}"), "user_id": format!("user{}", number % 9), "type": "view", "item_id": format!("item{}", number % 50), "properties": properties });
        daemon.send_events(&(sent..sent + count).map(one).collect::<Vec<_>>());
        sent += count;
    };
    (0..30).for_each(|_| send(100, &"x".repeat(8_000)));
    prometheus.wait_for_alerts(&daemon, &["SequorStoreBloated"], || {
        // What is small pushes out what is large.
        if daemon.metric("sequor_journal_begin") < 3_000.0 {
            send(100, "");
        }
    });

    let most = daemon.metric("process_max_fds");
    assert_eq!(most, 400.0);
    let address = daemon.api().trim_start_matches("http://");
    let mut idle = Vec::new();
    prometheus.wait_for_alerts(&daemon, &["SequorDescriptorsScarce"], || {
        if daemon.metric("process_open_fds") < 0.85 * most {
            idle.push(TcpStream::connect(address).unwrap());
        }
    });
}

#[test]
fn ends_again_and_again_on_a_small_disk() {
    let home = DaemonHome::new();
    let disk = TmpfsDisk::mount(&home.data_dir());
    // An address of its own, of which nobody else takes the port while the daemon is away.
    let start = |address: &str| home.start(&[&format!("--admin-listen={address}")]);
    let mut daemon = start("127.0.0.77:0");
    let address = daemon.admin_address().trim_start_matches("http://").to_owned();
    let Some(prometheus) = Prometheus::start(&[&daemon], |rules| shorten_alert_delays(&rules)) else { return };
    prometheus.wait_for_scrapes(&[&daemon]);
    for ends in 1..=3 {
        daemon.kill();
        daemon = start(&address);
        wait_for("the start to be seen", || {
            let seen = prometheus.query(&format!("changes(process_start_time_seconds[1h]) >= {ends}"));
            (!seen.is_empty()).then_some(())
        });
    }
    prometheus.wait_for_alerts(&daemon, &["SequorRestarting"], || {});
    // Without the right to mount one it is the machine's disk, and that is not to be filled.
    if disk.is_some() {
        prometheus.wait_for_alerts(&daemon, &["SequorDiskFilling"], || {});
        assert!(!prometheus.query("sequor_disk_free_bytes < 1e9").is_empty(), "it was for the pace at which the disk fills up");
    }
}
