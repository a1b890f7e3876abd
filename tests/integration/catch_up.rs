//! The daemon while the learner is behind: neither status requests nor a stop wait for the learner.

use serde_json::{Value, json};

use crate::daemon::{DaemonHome, view_event, wait_for};

/// Events of `users` users over `items` items, in an order that mixes the users.
fn event_batches(events: u32, users: u32, items: u32) -> impl Iterator<Item = Vec<Value>> {
    let all: Vec<_> = (0..events)
        .map(|number| {
            let mixed = number.wrapping_mul(2_654_435_761) >> 7;
            view_event(
                &format!("e{number}"),
                &format!("user {}", mixed % users),
                &format!("item {}", mixed / users % items),
            )
        })
        .collect();
    all.chunks(500).map(<[Value]>::to_vec).collect::<Vec<_>>().into_iter()
}

#[test]
#[cfg(debug_assertions)]
fn status_pages_and_metrics_answer_while_the_learner_is_busy() {
    let home = DaemonHome::new();
    let daemon = home.start_under_wrapper(&["env".to_owned(), "SEQUOR_FAULT=model:poison:stall".to_owned()], &[]);
    daemon.send_events(&[view_event("a", "ann", "tea"), view_event("b", "ann", "cup")]);
    daemon.wait_until_learned(2);
    daemon.send_events(&[view_event("c", "ann", "poison"), view_event("d", "ann", "pot")]);
    wait_for("the learner to be behind", || (daemon.status()["learning"]["lag_entries"] == 2).then_some(()));
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/admin/status",
        "/admin/history",
        "/admin/model",
        "/console",
        "/console/model",
    ] {
        assert_eq!(daemon.get_admin(path).status, 200, "{path}");
    }
    // The session is updated immediately, independently of the learner.
    assert_eq!(daemon.get("/v1/users/ann/recommendations").status, 200);
    assert_eq!(daemon.send_events(&[view_event("e", "ann", "jug")])["accepted"], 1);
    daemon.kill();
}

#[test]
fn stop_while_the_learner_catches_up_is_clean() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.max_lag_events=100000"]);
    let mut sent = 0;
    for batch in event_batches(24_000, 100, 3_000) {
        sent += daemon.post("/v1/events", &json!(batch).to_string()).json()["accepted"].as_u64().unwrap();
    }
    assert_eq!(sent, 24_000);
    let log = home.dir().join("log");
    assert_eq!(daemon.terminate().code(), Some(0));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
    let stopped = log.lines().rev().find(|line| line.contains("stopped")).unwrap();
    assert!(!stopped.contains("lag=0"), "the stop waited for the learner: {stopped}");
    // The next start learns the remaining entries.
    let daemon = home.start(&[]);
    daemon.wait_until_learned(24_000);
}

#[test]
#[cfg(debug_assertions)]
fn events_beyond_the_lag_limit_get_503_and_everything_else_is_served() {
    let home = DaemonHome::new();
    let daemon = home.start_under_wrapper(
        &["env".to_owned(), "SEQUOR_FAULT=model:poison:stall".to_owned()],
        &["server.max_lag_events=1024"],
    );
    daemon.send_events(&[view_event("a", "ann", "tea"), view_event("b", "ann", "poison")]);
    let mut accepted = 2;
    let refused = loop {
        let events: Vec<_> =
            (accepted..accepted + 250).map(|number| view_event(&format!("e{number}"), "bob", "cup")).collect();
        let response = daemon.post("/v1/events", &json!(events).to_string());
        if response.status != 200 {
            break response;
        }
        accepted += 250;
    };
    assert!((1024..1600).contains(&accepted), "{accepted}");
    assert_eq!(
        (refused.status, &refused.json()["type"]),
        (503, &json!("/problems/learner-behind")),
        "{}",
        refused.body
    );
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(daemon.next_offset(), accepted);
    // Requests that send no events do not wait for the learner.
    assert_eq!(daemon.get("/v1/users/bob/recommendations").status, 200);
    assert_eq!(daemon.request("PUT", "/v1/users/bob/consent", r#"{"consent": "session"}"#).status, 200);
    assert_eq!(daemon.get_admin("/readyz").status, 200);
    let metrics = daemon.get_admin("/metrics").body;
    assert!(metrics.contains("sequor_learner_lag_limit_entries 1024"), "{metrics}");
    daemon.kill();
}

#[test]
fn training_share_falls_while_learning_cannot_keep_up() {
    let home = DaemonHome::new();
    let settings = ["server.max_lag_events=100000", "learning.replay_ratio=12", "store.checkpoint_every=1000000"];
    let daemon = home.start(&settings);
    for batch in event_batches(20_000, 60, 3_000) {
        assert_eq!(daemon.post("/v1/events", &json!(batch).to_string()).status, 200);
    }
    // The change follows the events in the journal, so the learner reaches it last.
    daemon.wait_until_learned(20_001);
    let change = wait_for("the change of the share", || {
        let model = daemon.get_admin("/admin/model").json();
        model["acts"].as_array().unwrap().iter().find(|act| act["act"] == "training_share").cloned()
    });
    assert_eq!(change["reason"], "lag", "{change}");
    assert!(change["value"].as_f64() < Some(1.0), "{change}");
    let metrics = daemon.get_admin("/metrics").body;
    assert!(metrics.lines().any(|line| line.starts_with("sequor_training_share ")), "{metrics}");
}
