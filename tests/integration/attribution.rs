//! Attribution: which impressions led to clicks, conversions and revenue.

use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::api_keys::create_key;
use crate::daemon::{Daemon, DaemonHome, report_skipped, run_sequor, view_event, wait_for};
use crate::placements::{ids, put, start_shop};

const REPORT_PATH: &str = "/v1/reports/attribution";

fn report(daemon: &Daemon, query: &str) -> Value {
    let response = daemon.get(&format!("{REPORT_PATH}?{query}"));
    assert_eq!(response.status, 200, "{query}: {}", response.body);
    response.json()
}

/// Waits until the journal contains this number of impressions, and returns them.
fn impressions(daemon: &Daemon, count: usize) -> Vec<Value> {
    wait_for("the impressions", || {
        let lines = daemon.get_admin("/admin/journal?only=impression").body;
        let found: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (found.len() >= count).then_some(found)
    })
}

/// Compares reports with a computation from the journal by a separate program.
fn check_reports(home: &DaemonHome, daemon: &Daemon, queries: &[String]) {
    if Command::new("python3").arg("--version").output().is_err() {
        return report_skipped("attribution reports are not recomputed, because python3 is not installed");
    }
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/attribution_check.py");
    let (journal, found) = (home.dir().join("journal.jsonl"), home.dir().join("report.json"));
    for query in queries {
        std::fs::write(&found, report(daemon, query).to_string()).unwrap();
        std::fs::write(&journal, daemon.get_admin("/admin/journal").body).unwrap();
        let output =
            Command::new("python3").arg(&program).arg(&journal).arg(&found).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{query}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// An event on an item of an impression, some milliseconds after it.
fn event_after(shown: &Value, item: usize, kind: &str, after_ms: i64) -> Value {
    json!({
        "user_id": shown["user_id"], "type": kind, "item_id": shown["items"][item]["item_id"],
        "timestamp": shown["timestamp"].as_i64().unwrap() + after_ms,
    })
}

fn with(mut event: Value, details: Value) -> Value {
    for (name, value) in details.as_object().unwrap() {
        event[name] = value.clone();
    }
    event
}

/// Lists of two placements for several users, with clicks, purchases in two currencies, a merge and
/// a rule. Returns the number of impressions.
fn make_history(daemon: &Daemon) -> usize {
    put(daemon, "/v1/placements/home", &json!({ "limit": 5 }));
    put(daemon, "/v1/placements/cart", &json!({ "limit": 3 }));
    put(daemon, "/v1/rules/lead", &json!({ "consequence": { "promote": { "item_id": "i7", "position": 1 } } }));
    for (user, placement) in [("u1", "home"), ("u2", "home"), ("u3", "cart"), ("guest-17", "home"), ("u1", "cart")] {
        let list = daemon.get(&format!("/v1/users/{user}/recommendations?placement={placement}"));
        assert_eq!(list.status, 200, "{}", list.body);
    }
    assert_eq!(daemon.get("/v1/users/u4/recommendations?limit=4").status, 200);
    let shown = impressions(daemon, 6);
    let of = |user: &str, placement: Option<&str>| {
        let is_wanted = |list: &&Value| list["user_id"] == user && list["placement"].as_str() == placement;
        shown.iter().find(is_wanted).unwrap()
    };
    let minute = 60_000;
    let (home, cart, plain) = (of("u1", Some("home")), of("u3", Some("cart")), of("u4", None));
    let named =
        json!({ "recommendation_id": home["recommendation_id"], "value": 19.99, "currency": "EUR", "quantity": 2 });
    daemon.send_events(&[
        event_after(home, 1, "view", minute),
        event_after(home, 1, "view", 2 * minute),
        with(event_after(home, 1, "purchase", 3 * minute), json!({ "value": 5.25, "currency": "EUR", "quantity": 3 })),
        with(event_after(home, 2, "purchase", 4 * minute), named),
        event_after(cart, 0, "click", 59 * minute),
        event_after(cart, 1, "click", 61 * minute),
        with(event_after(cart, 0, "purchase", 90 * minute), json!({ "value": 7.5, "currency": "USD" })),
        with(event_after(cart, 1, "purchase", 91 * minute), json!({ "value": 100, "currency": "USD" })),
        event_after(plain, 0, "view", minute),
        with(event_after(plain, 1, "view", minute), json!({ "value": -1 })),
        with(event_after(plain, 0, "purchase", 2 * minute), json!({ "value": 3 })),
        event_after(plain, 0, "cart", 3 * minute),
    ]);
    // The list that the guest saw belongs to the user after the sign-in.
    assert_eq!(daemon.post("/v1/users/ann/merge", r#"{"from":"guest-17"}"#).status, 200);
    let guest = of("guest-17", Some("home"));
    let as_ann = json!({ "user_id": "ann" });
    daemon.send_events(&[
        with(event_after(guest, 3, "view", minute), as_ann.clone()),
        with(event_after(guest, 3, "purchase", 2 * minute), as_ann),
    ]);
    shown.len()
}

/// Queries that use every grouping, touch, window and filter.
fn queries(daemon: &Daemon) -> Vec<String> {
    let all = impressions(daemon, 2);
    let middle = all[2]["timestamp"].as_i64().unwrap();
    let time = jiff::Timestamp::from_millisecond(middle).unwrap().to_string();
    let mut queries: Vec<_> = ["day", "placement", "variant", "source", "rule"]
        .into_iter()
        .flat_map(|by| ["click", "impression"].map(|touch| format!("by={by}&touch={touch}")))
        .collect();
    queries.extend([
        "by=placement&click_window=2h".to_owned(),
        "by=placement&click_window=1s&conversion_window=2m".to_owned(),
        "by=placement&conversions=purchase,cart".to_owned(),
        "by=source&placement=cart".to_owned(),
        format!("by=placement&from={time}"),
        format!("by=placement&to={time}"),
        format!("by=rule&from=2020-01-01&to={time}&placement=home"),
    ]);
    queries
}

#[test]
fn reports_equal_a_recomputation_from_the_journal() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    make_history(&daemon);
    let total = report(&daemon, "by=placement")["total"].clone();
    // 5 + 5 + 3 + 5 + 3 + 4 items; i7 is promoted and may be in the list anyway.
    assert!(total["impressions"].as_u64().unwrap() >= 25, "{total}");
    assert!(total["clicks"].as_u64().unwrap() >= 3 && total["conversions"].as_u64().unwrap() >= 4, "{total}");
    for (metric, field) in [
        ("sequor_attributed_clicks_total", "clicks"),
        ("sequor_attributed_conversions_total", "conversions"),
        ("sequor_shown_items_by_placement_total", "impressions"),
    ] {
        wait_for("the live counts", || (Some(daemon.metric_sum(metric)) == total[field].as_f64()).then_some(()));
    }
    let queries = queries(&daemon);
    check_reports(&home, &daemon, &queries);
    let before: Vec<_> = queries.iter().map(|query| report(&daemon, query)).collect();
    assert!(daemon.terminate().success());
    let daemon = home.start(&[]);
    for (query, before) in queries.iter().zip(before) {
        assert_eq!(report(&daemon, query), before, "{query} after a restart");
    }
    let on_admin = daemon.get_admin(&format!("/admin/reports/attribution?{}", queries[0]));
    assert_eq!(on_admin.json(), report(&daemon, &queries[0]));
    daemon.assert_healthy();
}

#[test]
fn the_quality_of_a_placement_is_that_of_its_latest_lists() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    put(&daemon, "/v1/placements/home", &json!({}));
    put(&daemon, "/v1/placements/cart", &json!({}));
    let quality = |placement: &str| {
        let of = |metric: &str| {
            daemon.metric_value(&format!("sequor_live_{metric}_at_20_by_placement{{placement=\"{placement}\"}}"))
        };
        [of("recall"), of("mrr")]
    };
    assert!(quality("none").iter().all(|value| value.is_nan()), "no event yet");
    let show = |placement: &str, items: &[&str]| {
        let list = json!({ "user_id": "ann", "placement": placement, "items": items }).to_string();
        assert_eq!(daemon.post("/v1/impressions", &list).status, 200);
    };
    show("home", &["pot", "tea"]);
    show("cart", &["cup", "cap", "hat", "tea"]);
    show("home", &["tea", "cup"]);
    // Position 2 and a miss at home, position 1 and a miss in the cart.
    daemon.send_events(&[
        view_event("e1", "ann", "cup"),
        view_event("e2", "ann", "pot"),
        view_event("e3", "bob", "tea"),
    ]);
    daemon.wait_until_learned(daemon.next_offset());
    wait_for("the metrics", || (quality("home") == [0.5, 0.25]).then_some(()));
    assert_eq!(quality("cart"), [0.5, 0.5]);
    assert_eq!(daemon.metric_value("sequor_shown_items_by_placement_total{placement=\"home\"}"), 4.0);
    daemon.assert_healthy();
}

#[test]
fn revenue_is_value_times_quantity_in_each_currency() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let reported =
        daemon.post("/v1/impressions", r#"{"user_id":"ann","recommendation_id":"r1","items":["tea","cup"]}"#);
    assert_eq!(reported.status, 200, "{}", reported.body);
    let shown = &impressions(&daemon, 1)[0];
    let bought = |value: Value, more: Value| {
        with(with(event_after(shown, 0, "purchase", 1000), json!({ "recommendation_id": "r1", "value": value })), more)
    };
    daemon.send_events(&[
        bought(json!(19.99), json!({ "currency": "EUR", "quantity": 3 })),
        bought(json!(0.01), json!({ "currency": "EUR" })),
        bought(json!(2), json!({})),
        with(event_after(shown, 1, "purchase", 1000), json!({ "value": 9, "recommendation_id": "another" })),
    ]);
    let report = report(&daemon, "");
    let sums: Vec<_> = report["total"]["revenue"]
        .as_array()
        .unwrap()
        .iter()
        .map(|revenue| (revenue["currency"].as_str().unwrap(), revenue["sum"].as_f64().unwrap()))
        .collect();
    assert_eq!(sums, [("", 2.0), ("EUR", 19.99 * 3.0 + 0.01)]);
    let total = &report["total"];
    assert_eq!((&total["impressions"], &total["clicks"], &total["conversions"]), (&json!(2), &json!(0), &json!(3)));
    assert!(total.get("cvr").is_none(), "there are no clicks: {total}");
}

#[test]
fn reports_are_csv_on_request() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    make_history(&daemon);
    let csv = daemon.get(&format!("{REPORT_PATH}?by=placement&format=csv"));
    assert_eq!((csv.status, csv.content_type.as_str()), (200, "text/csv; charset=utf-8"));
    let accepted = daemon.send("GET", &format!("{REPORT_PATH}?by=placement"), &[("accept", "text/csv")], b"").unwrap();
    assert_eq!(accepted.body, csv.body);
    let lines: Vec<Vec<&str>> = csv.body.lines().map(|line| line.split(',').collect()).collect();
    let json = report(&daemon, "by=placement");
    assert_eq!(lines.len(), json["rows"].as_array().unwrap().len() + 2);
    assert_eq!(lines[0][..3], ["group", "impressions", "clicks"]);
    assert_eq!(lines.iter().map(|line| line[0]).collect::<Vec<_>>(), ["group", "(none)", "cart", "home", "(total)"]);
    let column = lines[0].iter().position(|name| *name == "revenue_EUR").unwrap();
    let euros = json["total"]["revenue"].as_array().unwrap().iter().find(|revenue| revenue["currency"] == "EUR");
    assert_eq!(lines[4][column].parse::<f64>().unwrap(), euros.unwrap()["sum"].as_f64().unwrap());

    let printed = |flags: &[&str]| {
        let output = run_sequor(&[&["admin", "--url", daemon.admin_url(), "attribution"], flags].concat());
        assert!(output.status.success(), "{flags:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(printed(&["--by", "placement", "--csv"]), csv.body);
    let home_only: Value = serde_json::from_str(&printed(&["--placement", "home", "--from", "1h"])).unwrap();
    assert_eq!((&home_only["by"], &home_only["placement"]), (&json!("day"), &json!("home")));
    assert!(!run_sequor(&["admin", "--url", daemon.admin_url(), "attribution", "--by", "item"]).status.success());

    let page = daemon.get_admin("/console/attribution");
    assert_eq!(page.status, 200, "{}", page.body);
    for part in ["By placement", "By source", "By rule", "home", "lead", "Revenue, EUR"] {
        assert!(page.body.contains(part), "{part}");
    }
    assert_eq!(daemon.get_admin("/console/attribution?from=2020-01-01&to=2020-02-01&placement=").status, 200);
    assert_eq!(daemon.get_admin("/console/attribution?from=never").status, 400);
}

#[test]
fn invalid_parameters_of_a_report_are_refused() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    for (query, field) in [
        ("by=item", "by"),
        ("touch=view", "touch"),
        ("from=yesterday", "from"),
        ("from=2026-01-02&to=2026-01-01", "to"),
        ("click_window=0s", "click_window"),
        ("conversion_window=91d", "conversion_window"),
        ("conversions=buy", "conversions"),
        ("format=xml", "format"),
        ("placement=A", "placement"),
        ("colour=red", "colour"),
    ] {
        let response = daemon.get(&format!("{REPORT_PATH}?{query}"));
        assert_eq!((response.status, &response.json()["field"]), (400, &json!(field)), "{query}: {}", response.body);
    }
    let empty = report(&daemon, "");
    assert_eq!((&empty["rows"], &empty["total"]["impressions"]), (&json!([]), &json!(0)));
    daemon.terminate();
    let keys = ["items", "read", "write", "admin"].map(|scope| create_key(&home, scope));
    let daemon = home.start(&["server.keys=required"]);
    let url = format!("{}{REPORT_PATH}", daemon.api_url());
    let statuses = keys.map(|key| daemon.request_with_key("GET", &url, Some(&key), "").status);
    assert_eq!(statuses, [200, 403, 403, 403]);
}

#[test]
fn reported_items_count_once_for_each_recommendation() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    put(&daemon, "/v1/placements/home", &json!({}));
    let list = daemon.get("/v1/users/u1/recommendations?limit=3").json();
    let id = list["recommendation_id"].as_str().unwrap();
    let send = |body: Value| daemon.post("/v1/impressions", &body.to_string());
    let again = send(json!({ "user_id": "u1", "recommendation_id": id, "items": ids(&list) }));
    assert_eq!(again.status, 200, "{}", again.body);
    let nothing_new = json!({ "recommendation_id": id, "accepted": 0, "duplicates": 3, "withheld": 0, "offset": null });
    assert_eq!(again.json(), nothing_new, "the daemon has recorded its own list");
    let own = send(json!({ "user_id": "u1", "placement": "home", "items": ["a", "b", "a"] })).json();
    assert_eq!((&own["accepted"], &own["duplicates"]), (&json!(2), &json!(1)), "{own}");
    let shown = impressions(&daemon, 2);
    let last = shown.iter().find(|list| list["recommendation_id"] == own["recommendation_id"]).unwrap();
    assert_eq!((&last["user_id"], &last["placement"]), (&json!("u1"), &json!("home")));
    let positions: Vec<_> = last["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["item_id"].as_str(), item["position"].as_u64()))
        .collect();
    assert_eq!(positions, [(Some("a"), Some(1)), (Some("b"), Some(2))]);
    let withheld = send(json!({ "user_id": "bob", "consent": "session", "items": ["a"] })).json();
    assert_eq!((&withheld["withheld"], &withheld["offset"]), (&json!(1), &Value::Null));
    for (body, status, field) in [
        (json!({ "user_id": "u1", "items": [] }), 400, "items"),
        (json!({ "user_id": "u1", "items": vec!["a"; 1001] }), 400, "items"),
        (json!({ "user_id": "u1", "items": [""] }), 400, "items[0]"),
        (json!({ "user_id": "u1", "items": ["a", 7] }), 400, "items[1]"),
        (json!({ "user_id": "u1", "items": ["a", { "relevance": 1 }] }), 400, "items[1]"),
        (json!({ "user_id": "u1", "items": [{ "item_id": "a", "price": 1 }] }), 400, "items[0]"),
        (json!({ "user_id": "u1", "items": [{ "item_id": "" }] }), 400, "items[0].item_id"),
        (json!({ "user_id": "u1", "items": ["a", { "item_id": "b", "relevance": 1e10 }] }), 400, "items[1].relevance"),
        (json!({ "user_id": "u1", "items": [{ "item_id": "b", "relevance": "high" }] }), 400, "items[0].relevance"),
        (json!({ "user_id": "u1", "items": [{ "item_id": "b", "model_score": 1e39 }] }), 400, "items[0].model_score"),
        (json!({ "user_id": "", "items": ["a"] }), 400, "user_id"),
        (json!({ "user_id": "u1", "recommendation_id": "", "items": ["a"] }), 400, "recommendation_id"),
        (json!({ "user_id": "u1", "placement": "attic", "items": ["a"] }), 404, "placement"),
    ] {
        let response = send(body);
        assert_eq!((response.status, &response.json()["field"]), (status, &json!(field)), "{}", response.body);
    }
    assert_eq!(send(json!({ "items": ["a"] })).status, 400);
    let by_source = report(&daemon, "by=source");
    let none = by_source["rows"].as_array().unwrap().iter().find(|row| row["group"] == "(none)").unwrap();
    assert_eq!(none["impressions"], 2, "{by_source}");
    daemon.assert_healthy();
}

#[test]
fn a_ranked_list_is_recorded_on_request() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    let rank = |body: Value| daemon.post("/v1/rank", &body.to_string());
    let items = json!([{ "item_id": "i1" }, { "item_id": "unknown" }, { "item_id": "i2" }]);
    let plain = rank(json!({ "user_id": "u1", "items": items }));
    assert!(plain.json().get("recommendation_id").is_none(), "{}", plain.body);
    let logged = rank(json!({ "user_id": "u1", "items": items, "log": true })).json();
    let shown = impressions(&daemon, 1);
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0]["recommendation_id"], logged["recommendation_id"]);
    assert_eq!(ids(&shown[0]), ids(&logged));
    daemon.send_events(&[with(
        event_after(&shown[0], 0, "view", 10),
        json!({ "recommendation_id": logged["recommendation_id"] }),
    )]);
    let total = report(&daemon, "")["total"].clone();
    assert_eq!((&total["impressions"], &total["clicks"]), (&json!(3), &json!(1)));
    let refused = rank(json!({ "items": items, "items_in_session": ["i3"], "log": true }));
    assert_eq!((refused.status, &refused.json()["field"]), (400, &json!("log")), "{}", refused.body);
    let private = rank(json!({ "user_id": "u2", "items": items, "log": true, "consent": "session" })).json();
    assert!(private.get("recommendation_id").is_none(), "{private}");
}

#[test]
fn reports_that_nobody_waits_for_end() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    for batch in 0..20 {
        let events: Vec<_> =
            (0..1000).map(|number| view_event(&format!("e{batch}-{number}"), &format!("u{number}"), "tea")).collect();
        daemon.send_events(&events);
    }
    // Connections that close before the response: their reports must not use the capacity for ever.
    for _ in 0..8 {
        let address = daemon.api_url().strip_prefix("http://").unwrap();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let request = format!("GET {REPORT_PATH} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    }
    let response = wait_for("capacity for a report", || {
        let response = daemon.get(REPORT_PATH);
        assert!(response.status == 200 || response.headers.contains_key("retry-after"), "{}", response.body);
        (response.status == 200).then_some(response)
    });
    assert!(response.json()["offset"].as_u64().unwrap() >= 20_000, "{}", response.body);
    daemon.assert_healthy();
}
