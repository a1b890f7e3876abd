//! Placements: named places of a site with the defaults of their lists.

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, event_of_kind, view_event};

/// A daemon that has learned 120 views of 20 items by 12 users. Even items have the brand `leaf`, and
/// the price of an item is its number.
pub(crate) fn start_shop(home: &DaemonHome) -> Daemon {
    let daemon = home.start(&["learning.interval=60000"]);
    for item in 0..20 {
        let brand = if item % 2 == 0 { "leaf" } else { "root" };
        let attributes = json!({ "brand": brand, "price": item, "categories": [format!("c{}", item % 4)] });
        let response = daemon.request("PUT", &format!("/v1/items/i{item}"), &attributes.to_string());
        assert_eq!(response.status, 200, "{}", response.body);
    }
    for round in 0..10 {
        let event = |user: usize| {
            view_event(&format!("e{round}-{user}"), &format!("u{user}"), &format!("i{}", (user * 3 + round) % 20))
        };
        daemon.send_events(&(0..12).map(event).collect::<Vec<_>>());
    }
    daemon.wait_until_learned(140);
    daemon
}

pub(crate) fn put(daemon: &Daemon, path: &str, body: &Value) -> Value {
    let response = daemon.request("PUT", path, &body.to_string());
    assert_eq!(response.status, 200, "{path} {body}: {}", response.body);
    response.json()
}

fn list(daemon: &Daemon, user: &str, query: &str) -> Value {
    let response = daemon.get(&format!("/v1/users/{user}/recommendations?{query}"));
    assert_eq!(response.status, 200, "{query}: {}", response.body);
    response.json()
}

pub(crate) fn ids(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|item| item["item_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn placements_are_put_listed_deleted_and_kept() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    assert_eq!(daemon.get("/v1/placements").json(), json!({ "placements": {} }));
    let unknown = daemon.get("/v1/placements/home");
    assert_eq!((unknown.status, &unknown.json()["type"]), (404, &json!("/problems/unknown-placement")));
    let receipt = put(&daemon, "/v1/placements/home", &json!({ "type": "for-you", "limit": 8 }));
    assert_eq!(receipt, json!({ "offset": 1, "warnings": [] }));
    put(&daemon, "/v1/placements/cart", &json!({ "purchased_for": "1d" }));
    put(&daemon, "/v1/placements/gone", &json!({}));
    assert_eq!(daemon.request("DELETE", "/v1/placements/gone", "").status, 200);
    assert_eq!(daemon.request("DELETE", "/v1/placements/gone", "").status, 404);
    let expected = json!({ "placements": {
        "cart": { "type": "next-items", "purchased_for": "1d" }, "home": { "type": "for-you", "limit": 8 },
    } });
    assert_eq!(daemon.get("/v1/placements").json(), expected);
    assert_eq!(daemon.get_admin("/admin/placements").json(), expected);
    daemon.terminate();
    let daemon = home.start(&[]);
    assert_eq!(daemon.get("/v1/placements").json(), expected, "from the store");
    put(&daemon, "/v1/placements/mail", &json!({ "type": "trending" }));
    daemon.kill();
    let daemon = home.start(&[]);
    assert_eq!(daemon.get("/v1/placements/mail").json(), json!({ "type": "trending" }));
    assert_eq!(daemon.get("/v1/placements/home").json()["limit"], 8, "from the journal's tail");
    daemon.assert_healthy();
}

#[test]
fn invalid_placements_are_refused_and_change_nothing() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    for (name, body, field) in [
        ("home", r#"{"type":"best"}"#, "type"),
        ("home", r#"{"limit":1001}"#, "limit"),
        ("home", r#"{"filter":"prise < 1"}"#, "filter"),
        ("home", r#"{"boosts":[{"filter":"available","factor":0}]}"#, "boosts[0].factor"),
        ("Home", "{}", "placement"),
        ("none", "{}", "placement"),
    ] {
        let response = daemon.request("PUT", &format!("/v1/placements/{name}"), body);
        assert_eq!((response.status, &response.json()["field"]), (400, &json!(field)), "{body}: {}", response.body);
    }
    for body in ["", "[]", r#"{"colour":"red"}"#] {
        let response = daemon.request("PUT", "/v1/placements/home", body);
        assert_eq!((response.status, &response.json()["type"]), (400, &json!("/problems/bad-body")), "{body}");
    }
    assert_eq!(daemon.next_offset(), 0);
    for number in 0..64 {
        put(&daemon, &format!("/v1/placements/p{number}"), &json!({}));
    }
    let full = daemon.request("PUT", "/v1/placements/p64", "{}");
    assert_eq!((full.status, &full.json()["type"]), (409, &json!("/problems/not-done")));
    put(&daemon, "/v1/placements/p63", &json!({ "limit": 1 }));
}

#[test]
fn the_request_overrides_the_placement() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    put(&daemon, "/v1/placements/home", &json!({ "limit": 2, "filter": "brand = leaf", "exclude_seen": true }));
    let home_list = list(&daemon, "u1", "placement=home");
    assert_eq!((&home_list["placement"], ids(&home_list).len()), (&json!("home"), 2));
    assert!(ids(&home_list).iter().all(|item| item[1..].parse::<u32>().unwrap() % 2 == 0), "{home_list}");
    let other = list(&daemon, "u1", "placement=home&limit=5&filter=brand%20%3D%20root&exclude_seen=false");
    assert_eq!(ids(&other).len(), 5);
    assert!(ids(&other).iter().all(|item| item[1..].parse::<u32>().unwrap() % 2 == 1), "{other}");
    assert!(list(&daemon, "u1", "limit=3").get("placement").is_none());

    // The next page has the length of the placement's list.
    let id = home_list["recommendation_id"].as_str().unwrap();
    let next = list(&daemon, "u1", &format!("recommendation_id={id}"));
    assert_eq!((ids(&next).len(), &next["placement"]), (2, &json!("home")));
    assert!(ids(&next).iter().all(|item| !ids(&home_list).contains(item)));

    let inline = daemon.post("/v1/recommendations", r#"{"items":["i1"],"placement":"home"}"#);
    assert_eq!((ids(&inline.json()).len(), &inline.json()["placement"]), (2, &json!("home")));
    let similar = daemon.get("/v1/items/i1/similar?placement=home").json();
    assert_eq!((ids(&similar).len(), &similar["placement"]), (2, &json!("home")));
    let trending = daemon.get("/v1/trending?placement=home&limit=3").json();
    assert_eq!((ids(&trending).len(), &trending["placement"]), (3, &json!("home")));

    for path in [
        "/v1/users/u1/recommendations?placement=attic",
        "/v1/users/u1/recommendations/stream?placement=attic",
        "/v1/items/i1/similar?placement=attic",
        "/v1/trending?placement=attic",
    ] {
        let problem = daemon.get(path);
        assert_eq!((problem.status, &problem.json()["type"]), (404, &json!("/problems/unknown-placement")), "{path}");
        assert_eq!(problem.json()["allowed"], "home");
        assert!(problem.json()["detail"].as_str().unwrap().contains("`attic`"));
    }
    for (path, body) in [
        ("/v1/recommendations", r#"{"items":[],"placement":"attic"}"#),
        ("/v1/rank", r#"{"items":[{"item_id":"i1"}],"placement":"attic"}"#),
    ] {
        assert_eq!(daemon.post(path, body).status, 404, "{path}");
    }
    assert!(daemon.metric_value("sequor_placement_lists_total{placement=\"home\"}") >= 6.0);
    assert!(daemon.metric_value("sequor_placement_lists_total{placement=\"none\"}") >= 1.0);
    daemon.assert_healthy();
}

#[test]
fn the_type_of_a_placement_determines_its_list() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    let purchases: Vec<_> = [("p1", "i4"), ("p2", "i6"), ("p3", "i4")]
        .iter()
        .map(|(id, item)| event_of_kind(id, "u1", item, "purchase"))
        .collect();
    daemon.send_events(&purchases);
    daemon.wait_until_learned(143);
    for kind in ["for-you", "next-items", "similar", "buy-again", "trending", "new", "rank"] {
        put(&daemon, &format!("/v1/placements/{kind}"), &json!({ "type": kind, "limit": 4, "purchased_for": "0s" }));
    }
    let of = |query: &str| list(&daemon, "u1", query);
    assert_eq!(ids(&of("placement=for-you")), ids(&of("limit=4&purchased_for=0s")));
    assert_eq!(ids(&of("placement=trending")), ids(&daemon.get("/v1/trending?limit=4").json()));
    assert_eq!(ids(&of("placement=similar&item=i5")), ids(&daemon.get("/v1/items/i5/similar?limit=4").json()));
    assert_eq!(ids(&of("placement=new")), ["i19", "i18", "i17", "i16"]);
    assert_eq!(ids(&of("placement=buy-again")), ["i4", "i6"], "the most often purchased item first");
    assert_eq!(ids(&of("placement=buy-again&purchased_for=1d")), Vec::<String>::new(), "just purchased");
    let cart = ids(&of("placement=similar&items=i5,i6"));
    assert!(cart.len() == 4 && !cart.contains(&"i5".to_owned()) && !cart.contains(&"i6".to_owned()), "{cart:?}");
    let refused = |query: &str, status: u16, field: &str| {
        let response = daemon.get(&format!("/v1/users/u1/recommendations?{query}"));
        assert_eq!((response.status, &response.json()["field"]), (status, &json!(field)), "{query}: {}", response.body);
    };
    refused("placement=similar", 400, "item");
    refused("placement=similar&item=nothing", 404, "item");
    refused("placement=rank", 400, "placement");
    let ranked = daemon.post("/v1/rank", r#"{"user_id":"u1","items":[{"item_id":"i1"}],"placement":"rank"}"#);
    assert_eq!((ranked.status, &ranked.json()["placement"]), (200, &json!("rank")));
    daemon.assert_healthy();
}

#[test]
fn boosts_of_a_placement_change_the_order_and_are_explained() {
    let home = DaemonHome::new();
    let daemon = start_shop(&home);
    let boosts = json!([{ "filter": "price = 19", "factor": 1000 }, { "filter": "brand = leaf", "factor": 0.001 }]);
    put(&daemon, "/v1/placements/mail", &json!({ "boosts": boosts, "limit": 20 }));
    let place_of = |list: &Value| ids(list).iter().position(|item| item == "i19").unwrap();
    let explained = |list: &Value| list["items"][place_of(list)]["explanation"]["rules"].clone();
    // The scores of popular items are counts, which the factors multiply.
    let mail = list(&daemon, "somebody%20new", "placement=mail&explain=true");
    assert_eq!((place_of(&mail), explained(&mail)), (0, json!(["placement:mail"])), "{mail}");
    let leaf = ids(&mail).iter().map(|item| item[1..].parse::<u32>().unwrap() % 2 == 0).collect::<Vec<_>>();
    assert!(leaf.is_sorted(), "items of the brand follow the others: {mail}");
    // The scores of the ranker are logarithms of odds, so even a large factor does not beat every item.
    let (before, after) = (list(&daemon, "u1", "limit=20"), list(&daemon, "u1", "placement=mail&explain=true"));
    assert!(place_of(&after) < place_of(&before), "{before} {after}");
    assert_eq!(explained(&after), json!(["placement:mail"]));
    daemon.assert_healthy();
}

#[test]
fn backups_and_rebuilds_keep_placements_and_rules() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    put(&daemon, "/v1/placements/home", &json!({ "limit": 7 }));
    put(&daemon, "/v1/rules/sale", &json!({ "consequence": { "hide": { "filter": "price > 9" } } }));
    let (placements, rules) = (daemon.get("/v1/placements").json(), daemon.get("/v1/rules").json());
    let backup = home.dir().join("backup");
    let response = daemon.admin_request("POST", "/admin/backup", &json!({ "target": backup }).to_string());
    assert_eq!(response.status, 200, "{}", response.body);
    daemon.terminate();
    for arguments in [["verify", "--data-dir"], ["rebuild", "--data-dir"], ["verify", "--data-dir"]] {
        let dir = home.data_dir();
        let output = crate::daemon::run_sequor(&[arguments[0], arguments[1], dir.to_str().unwrap()]);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let daemon = home.start(&[]);
    assert_eq!(
        (daemon.get("/v1/placements").json(), daemon.get("/v1/rules").json()),
        (placements.clone(), rules.clone())
    );
    daemon.terminate();
    std::fs::remove_dir_all(home.data_dir()).unwrap();
    std::fs::rename(&backup, home.data_dir()).unwrap();
    let daemon = home.start(&[]);
    assert_eq!((daemon.get("/v1/placements").json(), daemon.get("/v1/rules").json()), (placements, rules));
    daemon.assert_healthy();
}

#[test]
fn an_objective_orders_the_list_of_its_placement() {
    let home = DaemonHome::new();
    let daemon = home.start(&["learning.interval=60000"]);
    // Views of eight items, and purchases of a ninth one.
    for round in 0..120 {
        let event = |place: usize| {
            let (id, user) = (format!("e{round}-{place}"), format!("u{}", round % 6));
            match place {
                4 => event_of_kind(&id, &user, "bought", "purchase"),
                _ => view_event(&id, &user, &format!("i{}", (round * 5 + place * place * 3) % 8)),
            }
        };
        daemon.send_events(&(0..8).map(event).collect::<Vec<_>>());
    }
    put(&daemon, "/v1/placements/plain", &json!({ "purchased_for": "0s" }));
    put(&daemon, "/v1/placements/checkout", &json!({ "objective": "cvr", "purchased_for": "0s" }));
    put(&daemon, "/v1/placements/results", &json!({ "type": "rank", "objective": "cvr" }));
    assert_eq!(daemon.get("/v1/placements/checkout").json()["objective"], "cvr");
    daemon.wait_until_learned(960);
    let rank_of = |placement: &str| {
        let list = list(&daemon, "u1", &format!("placement={placement}&explain=true"));
        let found = ids(&list).iter().position(|id| id == "bought").unwrap();
        (found, list["items"][found]["explanation"]["objective"].clone())
    };
    let ((plain, none), (checkout, effect)) = (rank_of("plain"), rank_of("checkout"));
    assert!(checkout <= plain, "{checkout} {plain}");
    assert_eq!((none, &effect["name"]), (Value::Null, &json!("cvr")));
    assert!(effect["contribution"].as_f64().unwrap() > 0.0, "{effect}");
    let request = json!({ "user_id": "u1", "placement": "results", "explain": true, "items": [{ "item_id": "i1" }, { "item_id": "bought" }] });
    let ranked = daemon.post("/v1/rank", &request.to_string()).json();
    assert_eq!(ranked["items"][0]["item_id"], "bought", "{ranked}");
    assert_eq!(ranked["items"][0]["explanation"]["objective"]["name"], "cvr");
    let quality = &daemon.status()["quality"]["objectives"][1];
    assert!(quality["objective"] == "cvr" && quality["learned_events"].as_u64() > Some(20), "{quality}");

    let unknown = daemon.request("PUT", "/v1/placements/checkout", r#"{"objective":"profit"}"#);
    assert_eq!((unknown.status, &unknown.json()["field"]), (400, &json!("objective")));
    assert!(unknown.body.contains("`profit`") && unknown.body.contains("ctr, cvr, revenue"), "{}", unknown.body);
    daemon.kill();
    let daemon = home.start(&[]);
    assert_eq!(daemon.get("/v1/placements/checkout").json()["objective"], "cvr", "from the journal");
}
