//! Read-only admin endpoints: sessions, items, recall, store, status stream.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, view_event, wait_for};
use crate::random::random_visits;

/// Starts a daemon that has learned 600 events and clustered the items.
fn start_with_visits(home: &DaemonHome) -> Daemon {
    let daemon =
        home.start(&["learning.interval=64", "clusters.every=128", "clusters.lag=64", "store.checkpoint_every=200"]);
    let one = |(number, visit): (usize, &crate::random::Visit)| json!({ "event_id": format!("v{number}"), "user_id": visit.user, "type": "view", "item_id": visit.item, "timestamp": visit.at });
    daemon.send_events(&random_visits(6, 600).iter().enumerate().map(one).collect::<Vec<_>>());
    daemon.wait_until_learned(600);
    daemon
}

fn array_at<'v>(value: &'v Value, at: &str) -> &'v Vec<Value> {
    value.pointer(at).and_then(Value::as_array).unwrap_or_else(|| panic!("no list at {at} in {value}"))
}

#[test]
fn session_inspection_shows_the_real_list_and_has_no_side_effects() {
    let home = DaemonHome::new();
    let daemon = start_with_visits(&home);
    let user = random_visits(6, 600).last().unwrap().user.clone();
    let seen: Vec<_> =
        random_visits(6, 600).into_iter().filter(|visit| visit.user == user).map(|visit| visit.item).collect();
    let path = format!("/admin/sessions/{user}");
    let before = daemon.get_admin("/metrics").body;
    let first = daemon.get_admin(&path).json();
    assert_eq!(first, daemon.get_admin(&path).json(), "inspection is idempotent");
    let lines = |text: &str| -> Vec<String> {
        let get = [
            "sequor_candidates_total",
            "sequor_recommend",
            "sequor_live_sessions",
            "sequor_sessions_",
            "sequor_journal_offset",
        ];
        let mut lines: Vec<_> =
            text.lines().filter(|line| get.iter().any(|name| line.starts_with(name))).map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(
        lines(&before),
        lines(&daemon.get_admin("/metrics").body),
        "inspection is not counted as a recommendation"
    );
    assert_eq!(daemon.next_offset(), 600, "inspection is not journalled as an impression");

    let steps: Vec<_> = array_at(&first, "/sequence").iter().map(|step| step["item"].as_str().unwrap()).collect();
    assert_eq!(steps, seen[seen.len().saturating_sub(50)..]);
    assert_eq!(array_at(&first, "/sequence")[0]["boundary"], seen.len() <= 50);
    let o = array_at(&first, "/hidden/vectors").last().unwrap();
    let norm = array_at(o, "/values").iter().map(|value| value.as_f64().unwrap().powi(2)).sum::<f64>().sqrt();
    assert!((norm - first["hidden"]["norm"].as_f64().unwrap()).abs() < 1e-4 && norm > 0.0, "{o}");
    // An LSTM with 8 hidden units: h, c, m, x and o.
    let names: Vec<_> =
        array_at(&first, "/hidden/vectors").iter().map(|vector| vector["name"].as_str().unwrap()).collect();
    assert_eq!((names, array_at(o, "/values").len()), (vec!["h", "c", "m", "x", "o"], 8));

    let response: Vec<_> =
        array_at(&first, "/answer/items").iter().map(|item| item["item_id"].as_str().unwrap().to_owned()).collect();
    let ranking: Vec<_> =
        array_at(&first, "/ranking").iter().map(|item| item["item"].as_str().unwrap().to_owned()).collect();
    assert_eq!(response, ranking, "all ranked items are eligible");
    let best = &array_at(&first, "/ranking")[0];
    assert!(best["score"].as_f64() > array_at(&first, "/ranking")[1]["score"].as_f64(), "{best}");
    let transitions =
        array_at(&first, "/candidates/sources").iter().find(|list| list["source"] == "transitions").unwrap();
    assert!(
        array_at(transitions, "/items").iter().any(|candidate| candidate["rank"] == 1),
        "the transitions source lists the next item of the ring: {transitions}"
    );
    assert!(best["shares"].as_object().unwrap().values().all(|share| (0.0..=1.0).contains(&share.as_f64().unwrap())));
    assert!(array_at(&first, "/answer/items").iter().any(|item| !item["explanation"]["moved_by"].is_null()), "{first}");

    // The next recommendation equals the inspected list.
    assert_eq!(daemon.recommended_items(&user), response);
    let unknown = daemon.get_admin("/admin/sessions/nobody");
    assert_eq!((unknown.status, &unknown.json()["type"]), (404, &json!("/problems/unknown-user")));
}

#[test]
fn live_and_stored_sessions_are_listed() {
    let home = DaemonHome::new();
    let daemon = start_with_visits(&home);
    assert_eq!(daemon.terminate().code(), Some(0));
    let daemon = home.start(&["learning.interval=64", "clusters.every=128", "clusters.lag=64"]);
    let get = |path: &str| daemon.get_admin(path).json();
    let users = |response: &Value| -> Vec<(String, bool)> {
        let one = |line: &Value| (line["user"].as_str().unwrap().to_owned(), line["idle_seconds"].is_u64());
        array_at(response, "/sessions").iter().map(one).collect()
    };
    let stored = get("/admin/sessions?user=user1&limit=3");
    assert_eq!(
        (users(&stored), &stored["more"]),
        (vec![("user1".to_owned(), false), ("user10".to_owned(), false), ("user11".to_owned(), false)], &json!(true))
    );
    assert_eq!(get("/admin/sessions/user10")["sessions"], 1, "a stored session can be inspected");
    daemon.send_events(&[view_event("new", "user11", "item1")]);
    let both = get("/admin/sessions?user=user1&limit=2");
    assert_eq!(users(&both), [("user11".to_owned(), true), ("user1".to_owned(), false)]);
    assert_eq!(users(&get("/admin/sessions?user=nobody")), []);
    for (path, field) in
        [("/admin/sessions?limit=0", "limit"), ("/admin/items?limit=1001", "limit"), ("/admin/sessions?u=1", "u")]
    {
        let rejected = daemon.get_admin(path);
        assert_eq!((rejected.status, &rejected.json()["field"]), (400, &json!(field)), "{path}");
    }
}

#[test]
fn items_recall_and_store_can_be_inspected() {
    let home = DaemonHome::new();
    let daemon = start_with_visits(&home);
    assert_eq!(daemon.request("PUT", "/v1/items/item7", r#"{"categories":["tea"],"price":4.5}"#).status, 200);
    assert_eq!(daemon.request("DELETE", "/v1/items/item8", "").status, 200);
    let get = |path: &str| daemon.get_admin(path).json();
    let all = get("/admin/items?limit=1000");
    assert_eq!((&all["matching"], array_at(&all, "/items").len()), (&json!(60), 60));
    let days: Vec<_> = array_at(&all, "/items").iter().map(|line| line["counts"]["day"].as_f64().unwrap()).collect();
    assert!(days.is_sorted_by(|a, b| a >= b), "{days:?}");
    assert_eq!(get("/admin/items?query=EM5")["matching"], 11, "item5 and item50 to item59");

    let item = get("/admin/items/item7");
    assert_eq!((&item["attributes"]["categories"], &item["attributes"]["price"]), (&json!(["tea"]), &json!(4.5)));
    assert_eq!(get("/admin/items/item8")["attributes"], Value::Null);
    assert!(item["counts"]["sessions"].as_u64() > Some(0) && item["cluster"].is_u64(), "{item}");
    assert_eq!(array_at(&item, "/embedding").len(), 8);
    let similar = daemon.get("/v1/items/item7/similar").json();
    let names = |response: &Value, at: &str| {
        array_at(response, at).iter().map(|other| other["item_id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&item, "/similar"), names(&similar, "/items"));
    assert_eq!(daemon.get_admin("/admin/items/nothing").status, 404);

    let recall = get("/admin/recall");
    let sizes: u64 = array_at(&recall, "/clusters").iter().map(|cluster| cluster["size"].as_u64().unwrap()).sum();
    assert_eq!((sizes, array_at(&recall, "/items").len()), (60, 60), "every item is in one cluster and on the map");
    let cluster = array_at(&recall, "/clusters").iter().find(|cluster| cluster["cluster"] == item["cluster"]).unwrap();
    assert!(!array_at(cluster, "/top").is_empty());
    let trending = array_at(&recall, "/sources").iter().find(|source| source["source"] == "trending").unwrap();
    assert_eq!(trending["entries"], 60);
    assert_eq!(recall, get("/admin/recall"), "the item map is deterministic");

    let store = wait_for("a checkpoint", || {
        Some(get("/admin/store")).filter(|store| !array_at(store, "/checkpoints").is_empty())
    });
    assert_eq!((&store["journal"], &store["quarantined"]), (&json!({ "begin": 0, "end": 602 }), &json!(0)));
    let newest = &array_at(&store, "/checkpoints")[0];
    assert!(
        newest["offset"].as_u64() >= Some(200)
            && newest["bytes"].as_u64() > Some(1000)
            && newest["written_at"].as_i64() > Some(1_700_000_000_000)
    );
    wait_for("the sessions to be stored", || (get("/admin/store")["sessions"].as_u64() > Some(10)).then_some(()));
    assert!(
        daemon.get_admin("/metrics").body.contains("sequor_request_seconds_count{endpoint=\"other\"} 0\n"),
        "every path has its own endpoint label"
    );
}

#[test]
fn status_streams_are_limited_and_do_not_delay_a_stop() {
    let home = DaemonHome::new();
    let daemon = start_with_visits(&home);
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_recv_body(Some(Duration::from_secs(120)))
        .build()
        .into();
    let open_stream = || agent.get(format!("{}/admin/stream", daemon.admin_url())).call().unwrap();
    let mut streams: Vec<_> = (0..32).map(|_| open_stream()).collect();
    assert_eq!(streams[0].headers()["content-type"], "text/event-stream");
    assert_eq!(open_stream().status(), 503, "one too many");
    let mut lines = BufReader::new(streams.pop().unwrap().into_body().into_reader()).lines();
    let mut next = || {
        let data = lines.find(|line| line.as_ref().unwrap().starts_with("data: {")).unwrap().unwrap();
        serde_json::from_str::<Value>(data.trim_start_matches("data: ")).unwrap()
    };
    wait_for("a status with the events", || (next()["journal"]["next_offset"] == 600).then_some(()));
    daemon.send_events(&[view_event("late", "user1", "item1")]);
    wait_for("a status with one more", || (next()["journal"]["next_offset"] == 601).then_some(()));
    // A stop that waited for the streams would take 10 s and still exit with 0. So the test checks
    // that the streams end.
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(lines.all(|line| line.is_ok()), "the stream ends cleanly");
}
