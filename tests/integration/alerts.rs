//! Every alert is made to fire by its cause: the real daemon, scraped by a real Prometheus under
//! the project's own rules. Only how long something has to last is shortened, and where a threshold
//! is one that no test can wait for, the passage with it is exchanged where the cause is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpStream;

use serde_json::{Value, json};

use sequor::metrics::Metrics;

use crate::daemon::{Daemon, Home, event, until};
use crate::full::Disk;
use crate::ops::{alerts, named, rules};
use crate::prometheus::{Prometheus, instead, soon};
use crate::random::walks;

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
    assert_eq!(names, alerts(), "the table above names other alerts than there are");
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
    for name in named(expression) {
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
    let home = Home::new();
    let text = home.start(&[]).admin("/metrics").body;
    let recorded: BTreeMap<String, String> =
        rules().iter().filter_map(|rule| Some((rule["record"].as_str()?.to_owned(), rule["expr"].as_str()?.to_owned()))).collect();
    let mut looked_at = 0;
    for rule in rules() {
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
    let (home, dying, quiet) = (Home::new(), Home::new(), Home::new());
    let ill = home.start(&["SEQUOR_FAULT=committer:poison"]);
    let (doomed, well) = (dying.start(&["SEQUOR_FAULT=model:poison"]), quiet.start(&[]));
    let Some(prometheus) = Prometheus::watch(&[&ill, &doomed, &well], |rules| soon(&rules)) else { return };
    let all = [&ill, &doomed, &well];
    for daemon in all {
        daemon.send(&[event("first", "ann", "tea"), event("second", "ann", "pot")]);
    }
    prometheus.know(&all);

    // Faults are asked for in builds with debug assertions alone.
    if cfg!(debug_assertions) {
        let mut round = 0;
        prometheus.fires(&ill, &["SequorJournalFailed", "SequorOverloaded", "SequorPanicked"], || {
            round += 1;
            assert_eq!(ill.post("/v1/events", &event(&format!("p{round}"), "ann", "poison").to_string()).status, 503);
        });
        doomed.send(&[event("third", "ann", "poison")]);
        prometheus.fires(&doomed, &["SequorPanicked", "SequorQuarantineGrew"], || {});
    }
    prometheus.fires(&doomed, &["SequorEventsRejected"], || {
        assert_eq!(doomed.post("/v1/events", &json!([{ "type": "view" }, { "type": "view" }]).to_string()).status, 400);
    });
    doomed.signal("KILL");
    prometheus.fires(&doomed, &["SequorDown"], || {});
    // Not of the one that nothing was done to. How full and how slow this machine is, is not its
    // doing.
    let own_doing = |alert: &String| !["SequorDiskFilling", "SequorSlow"].contains(&alert.as_str());
    let firing = prometheus.firing(&well);
    assert!(!firing.iter().any(own_doing), "{firing:?}");
}

#[test]
fn checkpoints_that_can_be_neither_written_nor_read() {
    let home = Home::new();
    let daemon = home.start(&["learning.interval=16", "store.checkpoint_every=100", "SEQUOR_FAULT=model:poison"]);
    // Who waits for a minute is as far behind as who waits for two seconds.
    let rules = |rules: String| instead(&soon(&rules), "sequor_learner_lag_seconds > 60", "sequor_learner_lag_seconds > 2");
    let Some(prometheus) = Prometheus::watch(&[&daemon], rules) else { return };
    prometheus.know(&[&daemon]);

    // Where the checkpoints are to be there is a file, which is no directory and cannot be made
    // one.
    let (place, aside) = (home.data().join("checkpoints"), home.data().join("aside"));
    fs::rename(&place, &aside).unwrap();
    fs::write(&place, "").unwrap();
    let mut sent = 0;
    prometheus.fires(&daemon, &["SequorCheckpointFailed", "SequorCheckpointOld"], || {
        if sent < 600 {
            let batch: Vec<_> =
                (sent..sent + 50).map(|number| event(&format!("e{number}"), "ann", &format!("item{}", number % 9))).collect();
            daemon.send(&batch);
            sent += 50;
        }
    });
    daemon.learned(600);
    assert_eq!(daemon.metric("sequor_learning_failed"), 0.0, "learning goes on");
    prometheus.fires(&daemon, &["SequorFailing"], || {
        let answer = daemon.ask_admin("POST", "/admin/model/checkpoint", "{}");
        assert_eq!((answer.status, &answer.json()["type"]), (500, &json!("/problems/internal")), "{}", answer.body);
    });
    assert!(daemon.logged().contains("a request failed"), "the log tells why");

    // Faults are asked for in builds with debug assertions alone.
    if cfg!(debug_assertions) {
        daemon.send(&[event("bad", "ann", "poison")]);
        let ills = ["SequorLearningFailed", "SequorNotReady", "SequorLearnerLagging", "SequorSlow"];
        prometheus.fires(&daemon, &ills, || {
            // What it is to know it will not know as long as this lasts.
            let answer = daemon.get("/v1/users/ann/recommendations?min_offset=601");
            assert_eq!((answer.status, &answer.json()["type"]), (503, &json!("/problems/not-yet")), "{}", answer.body);
        });
        fs::remove_file(&place).unwrap();
        fs::rename(&aside, &place).unwrap();
        daemon.learned(601);
        assert_eq!(daemon.ask_admin("POST", "/admin/model/checkpoint", "{}").status, 200);
        until("the troubles to be over", || {
            let firing = prometheus.firing(&daemon);
            let lasting = ["SequorLearningFailed", "SequorNotReady", "SequorLearnerLagging", "SequorCheckpointOld"];
            (!firing.iter().any(|alert| lasting.contains(&alert.as_str()))).then_some(())
        });
    }
}

#[test]
fn a_learning_rate_that_is_far_too_high() {
    let home = Home::new();
    // A quadratic loss and plain steps, so that nothing bounds the gradients.
    let network = ["network.optimiser=sgd", "network.learning_rate=0.0001", "network.loss=bpr_max", "network.bpr_regularisation=100"];
    let daemon = home.start(&[&network[..], &["learning.interval=16", "store.checkpoint_every=100000", "safety.warm_up=1000"]].concat());
    let Some(prometheus) = Prometheus::watch(&[&daemon], |rules| soon(&rules)) else { return };
    let as_event = |(number, visit): (usize, crate::random::Visit)| json!({ "event_id": format!("e{number}"), "user_id": visit.user, "type": "view", "item_id": visit.item, "timestamp": visit.at });
    let events: Vec<Value> = walks(11, 2_000).into_iter().enumerate().map(as_event).collect();
    let act = |path: &str, body: &Value| {
        let answer = daemon.ask_admin("POST", path, &body.to_string());
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    };
    events[..400].chunks(100).for_each(|batch| drop(daemon.send(batch)));
    act("/admin/model/checkpoint", &json!({}));
    // Far enough for a look back to find that all was well behind that.
    events[400..1_600].chunks(100).for_each(|batch| drop(daemon.send(batch)));
    daemon.learned(1_600);
    prometheus.know(&[&daemon]);
    act("/admin/model/learning-rate", &json!({ "value": 1000.0 }));
    daemon.send(&events[1_600..]);
    prometheus.fires(&daemon, &["SequorLossNotFinite", "SequorRolledBack"], || {});
    act("/admin/model/pause", &json!({}));
    prometheus.fires(&daemon, &["SequorLearningPaused"], || {});
}

/// A look at an item by each of many users, and a wait until no more of them are in memory than may
/// be.
fn round(daemon: &Daemon, number: usize, item: impl Fn(usize) -> String) {
    const USERS: usize = 200;
    let looks: Vec<_> = (0..USERS).map(|user| event(&format!("{number}-{user}"), &format!("user{user}"), &item(user))).collect();
    daemon.send(&looks);
    until("sessions to go to rest", || {
        (daemon.metric("sequor_live_sessions") <= daemon.metric("sequor_live_sessions_limit")).then_some(())
    });
}

#[test]
fn more_visitors_than_fit_who_behave_otherwise() {
    let home = Home::new();
    let daemon = home.start(&["session.live_max=10", "session.shards=1", "learning.interval=64"]);
    // An hour and a day become a quarter of a minute and ten, and so many tests within them fewer.
    let rules = |rules: String| {
        let mut rules = soon(&rules);
        for (passage, other) in [
            ("_evaluated_steps_total[1h]) > 500", "_evaluated_steps_total[15s]) > 20"),
            ("sequor_evaluated_hits_total[1h]", "sequor_evaluated_hits_total[15s]"),
            ("sequor_evaluated_steps_total[1h]", "sequor_evaluated_steps_total[15s]"),
            ("sequor_evaluated_hits_total[1d]", "sequor_evaluated_hits_total[10m]"),
            ("sequor_evaluated_steps_total[1d]", "sequor_evaluated_steps_total[10m]"),
            ("sequor_sessions_revived_total[10m]", "sequor_sessions_revived_total[15s]"),
            ("(sequor_session_events_total[10m]) > 10", "(sequor_session_events_total[15s]) > 1"),
        ] {
            rules = instead(&rules, passage, other);
        }
        rules
    };
    let Some(prometheus) = Prometheus::watch(&[&daemon], rules) else { return };
    prometheus.know(&[&daemon]);
    // Everybody looks at one of a few items: that is easy to foretell.
    let mut number = 0;
    until("something to be foretold", || {
        round(&daemon, number, |user| format!("item{}", (user + number) % 5));
        number += 1;
        (daemon.metric("sequor_evaluated_hits_total") > 500.0).then_some(())
    });
    // From now on nobody looks at what anybody looked at before.
    prometheus.fires(&daemon, &["SequorQualityFalling", "SequorSessionsThrash"], || {
        round(&daemon, number, |user| format!("novelty{number}-{user}"));
        number += 1;
    });
}

#[test]
fn a_journal_that_was_let_go_and_connections_that_are_not() {
    let home = Home::new();
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
    let rules = |rules: String| instead(&soon(&rules), "sequor_store_bytes > 1e9", "sequor_store_bytes > 1e7");
    let Some(prometheus) = Prometheus::watch(&[&daemon], rules) else { return };

    let mut sent = 0;
    let mut send = |count: usize, detail: &str| {
        let properties = json!({ "detail": detail });
        let one = |number: usize| json!({ "event_id": format!("e{number}"), "user_id": format!("user{}", number % 9), "type": "view", "item_id": format!("item{}", number % 50), "properties": properties });
        daemon.send(&(sent..sent + count).map(one).collect::<Vec<_>>());
        sent += count;
    };
    (0..30).for_each(|_| send(100, &"x".repeat(8_000)));
    prometheus.fires(&daemon, &["SequorStoreBloated"], || {
        // What is small pushes out what is large.
        if daemon.metric("sequor_journal_begin") < 3_000.0 {
            send(100, "");
        }
    });

    let most = daemon.metric("process_max_fds");
    assert_eq!(most, 400.0);
    let address = daemon.api().trim_start_matches("http://");
    let mut idle = Vec::new();
    prometheus.fires(&daemon, &["SequorDescriptorsScarce"], || {
        if daemon.metric("process_open_fds") < 0.85 * most {
            idle.push(TcpStream::connect(address).unwrap());
        }
    });
}

#[test]
fn ends_again_and_again_on_a_small_disk() {
    let home = Home::new();
    let disk = Disk::mount(&home.data());
    // An address of its own, of which nobody else takes the port while the daemon is away.
    let start = |address: &str| home.start(&[&format!("--admin-listen={address}")]);
    let mut daemon = start("127.0.0.77:0");
    let address = daemon.admin_address().trim_start_matches("http://").to_owned();
    let Some(prometheus) = Prometheus::watch(&[&daemon], |rules| soon(&rules)) else { return };
    prometheus.know(&[&daemon]);
    for ends in 1..=3 {
        daemon.kill();
        daemon = start(&address);
        until("the start to be seen", || {
            let seen = prometheus.query(&format!("changes(process_start_time_seconds[1h]) >= {ends}"));
            (!seen.is_empty()).then_some(())
        });
    }
    prometheus.fires(&daemon, &["SequorRestarting"], || {});
    // Without the right to mount one it is the machine's disk, and that is not to be filled.
    if disk.is_some() {
        prometheus.fires(&daemon, &["SequorDiskFilling"], || {});
        assert!(!prometheus.query("sequor_disk_free_bytes < 1e9").is_empty(), "it was for the pace at which the disk fills up");
    }
}
