//! Runs the table of cases that the tests of all clients share.

use sequor_client::{
    BufferOptions, ClientOptions, Environment, Event, ImpressionOptions, ItemChange, ListItem, ListOptions,
    RankOptions, RetryPolicy, SequorClient, SequorError, SimilarOptions, TrendingOptions,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::harness::{Daemon, FaultProxy, PATIENCE, shared_folder};

/// 2024-01-01T00:00:00Z, the time in the table.
const NOW: Duration = Duration::from_secs(1_704_067_200);

/// A client for one case, and what it reported.
struct CaseRun {
    client: SequorClient,
    delays: Arc<Mutex<Vec<f64>>>,
    lost: Arc<Mutex<usize>>,
    /// Receipts of earlier steps by name.
    saved: BTreeMap<String, Value>,
}

fn seconds(value: &Value) -> Duration {
    Duration::from_secs_f64(value.as_f64().unwrap())
}

impl CaseRun {
    fn start(url: &str, table: &Value, case: &Value) -> Self {
        let (delays, lost) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let random = table["random"].as_f64().unwrap();
        let environment = Environment {
            now: Arc::new(|| SystemTime::UNIX_EPOCH + NOW),
            random: Arc::new(move || random),
            sleep: Some(Arc::new({
                let delays = Arc::clone(&delays);
                move |delay: Duration| delays.lock().unwrap().push(delay.as_secs_f64())
            })),
        };
        let retry = RetryPolicy {
            attempts: Some(table["retry"]["attempts"].as_u64().unwrap() as u32),
            base_delay: seconds(&table["retry"]["base_delay"]),
            max_delay: seconds(&table["retry"]["max_delay"]),
            max_retry_after: seconds(&table["retry"]["max_retry_after"]),
        };
        let on_lost = {
            let lost = Arc::clone(&lost);
            move |events: &[Event], _: &SequorError| *lost.lock().unwrap() += events.len()
        };
        let buffer = BufferOptions { flush_interval: PATIENCE, on_lost: Arc::new(on_lost), ..BufferOptions::default() };
        let timeout = case.get("timeout").map_or(PATIENCE, seconds);
        let options = ClientOptions { timeout, retry, buffer, environment, ..ClientOptions::default() };
        Self { client: SequorClient::new(url, options).unwrap(), delays, lost, saved: BTreeMap::new() }
    }

    /// The options of a step. `after` becomes the journal offset of a saved receipt.
    fn options<T: DeserializeOwned>(&self, step: &Value) -> T {
        let mut options = step.get("options").cloned().unwrap_or_else(|| json!({}));
        let members = options.as_object_mut().unwrap();
        if let Some(after) = members.remove("after") {
            let saved = after.as_str().map(|name| &self.saved[name.trim_start_matches('$')]["offset"]);
            members.insert("min_offset".to_owned(), saved.unwrap_or(&after).clone());
        }
        serde_json::from_value(options).unwrap()
    }

    /// Calls the client as a step says.
    fn perform(&self, step: &Value) -> Result<Value, SequorError> {
        let client = &self.client;
        let text = |name: &str| step[name].as_str().unwrap();
        match text("call") {
            "send_events" => match step.get("recommend") {
                Some(limit) => {
                    let limit = limit.as_u64().unwrap() as u32;
                    plain(client.send_events_and_recommend(&events_of(step), limit, None))
                }
                None => plain(client.send_events(&events_of(step))),
            },
            "track" => {
                events_of(step).into_iter().for_each(|event| assert!(client.track(event).unwrap()));
                assert!(client.flush(PATIENCE));
                plain(Ok(client.stats()))
            }
            "recommendations" => plain(client.recommendations(text("user"), &self.options(step))),
            "recommendation_pages" => {
                let options: ListOptions = self.options(step);
                let size = step["page_size"].as_u64().unwrap() as u32;
                let pages = client.recommendation_pages(text("user"), size, &options)?;
                let count = step.get("pages").map_or(usize::MAX, |pages| pages.as_u64().unwrap() as usize);
                plain(pages.take(count).collect::<Result<Vec<_>, _>>())
            }
            "recommendations_for_session" => {
                let items: Vec<String> = parsed(&step["items"]);
                plain(client.recommendations_for_session(&items, &self.options(step)))
            }
            "rank" => plain(client.rank(list_items(step), &self.options::<RankOptions>(step))),
            "report_impression" => {
                let options: ImpressionOptions = self.options(step);
                plain(client.report_impression(text("user"), list_items(step), &options))
            }
            "put_item" => plain(client.put_item(text("item"), &step["attributes"])),
            "patch_item" => plain(client.patch_item(text("item"), &step["attributes"])),
            "get_item" => plain(client.get_item(text("item"))),
            "delete_item" => plain(client.delete_item(text("item"))),
            "similar_items" => plain(client.similar_items(text("item"), &self.options::<SimilarOptions>(step))),
            "trending_items" => plain(client.trending_items(&self.options::<TrendingOptions>(step))),
            "change_items" => plain(client.change_items(&parsed::<Vec<ItemChange>>(&step["changes"]))),
            "update_user" => plain(client.update_user(text("user"), &step["attributes"])),
            "merge_users" => plain(client.merge_users(text("user"), text("from"))),
            "put_placement" => plain(client.put_placement(text("name"), &step["config"])),
            "get_placement" => plain(client.get_placement(text("name"))),
            "delete_placement" => plain(client.delete_placement(text("name"))),
            "list_placements" => plain(client.list_placements()),
            "request" => client.request(text("method").parse().unwrap(), text("path"), step.get("json")),
            call => panic!("unknown call {call}"),
        }
    }

    fn check_step(&mut self, step: &Value) {
        let result = self.perform(step);
        if let Some(invalid) = step.get("invalid") {
            let error = result.unwrap_err();
            assert!(matches!(error, SequorError::InvalidArgument(_)), "{error}");
            assert!(error.to_string().contains(invalid.as_str().unwrap()), "{error}");
        } else if let Some(expected) = step.get("error") {
            let error = result.unwrap_err();
            let members = json!({
                "type": error.kind(),
                "status": error.status(),
                "field": error.field(),
                "allowed": error.allowed(),
                "problem": error.problem(),
            });
            assert_matches(&members, expected, "error");
        } else {
            let result = result.unwrap();
            assert_matches(&result, &step["expect"], step["call"].as_str().unwrap());
            if let Some(without) = step.get("without") {
                assert!(item_ids(&result).all(|id| id != without), "{result}");
            }
            if step.get("distinct_items").is_some() {
                let ids: Vec<_> = result.as_array().unwrap().iter().flat_map(item_ids).map(Value::to_string).collect();
                assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
            }
            if let Some(name) = step.get("save") {
                self.saved.insert(name.as_str().unwrap().to_owned(), result);
            }
        }
        let lost = step.get("lost").map_or(0, |lost| lost.as_u64().unwrap() as usize);
        assert_eq!(*self.lost.lock().unwrap(), lost);
    }
}

fn plain(result: Result<impl Serialize, SequorError>) -> Result<Value, SequorError> {
    result.map(|value| serde_json::to_value(value).unwrap())
}

fn parsed<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn item_ids(list: &Value) -> impl Iterator<Item = &Value> {
    list["items"].as_array().unwrap().iter().map(|item| &item["item_id"])
}

fn list_items(step: &Value) -> Vec<ListItem> {
    let items = step["items"].as_array().unwrap();
    items.iter().map(|item| item.as_str().map_or_else(|| parsed(item), ListItem::from)).collect()
}

/// An event of the table. `$text-N` is a text of N characters.
fn event_of(members: &Value) -> Event {
    let mut members = members.clone();
    for value in members.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        let count = value.as_str().unwrap().strip_prefix("$text-").unwrap().parse().unwrap();
        *value = "x".repeat(count).into();
    }
    parsed(&members)
}

fn events_of(step: &Value) -> Vec<Event> {
    let given = &step["events"];
    if let Some(events) = given.as_array() {
        return events.iter().map(event_of).collect();
    }
    let template = given["event"].to_string();
    let numbered = |number: u64| serde_json::from_str(&template.replace('#', &number.to_string())).unwrap();
    let events = (1..=given["count"].as_u64().unwrap()).map(|number| event_of(&numbered(number)));
    events.chain(given.get("then").map(event_of)).collect()
}

/// Compares the members that `expected` names.
fn assert_matches(actual: &Value, expected: &Value, path: &str) {
    match expected {
        Value::String(any) if any == "$any" => assert!(!actual.is_null(), "{path}"),
        Value::Object(members) => {
            if let Some(length) = members.get("$length") {
                assert_eq!(actual.as_array().unwrap().len() as u64, length.as_u64().unwrap(), "{path}: {actual}");
                return;
            }
            for (name, member) in members {
                let found = actual.get(name).unwrap_or_else(|| panic!("{path} has no {name}: {actual}"));
                assert_matches(found, member, &format!("{path}.{name}"));
            }
        }
        Value::Array(members) => {
            let found = actual.as_array().unwrap();
            assert_eq!(found.len(), members.len(), "{path}: {actual}");
            for (index, (found, member)) in found.iter().zip(members).enumerate() {
                assert_matches(found, member, &format!("{path}[{index}]"));
            }
        }
        Value::Number(number) => assert_eq!(actual.as_f64(), number.as_f64(), "{path}"),
        expected => assert_eq!(actual, expected, "{path}"),
    }
}

fn check_case(daemon: &Daemon, proxy: &FaultProxy, table: &Value, case: &Value) {
    proxy.plan(case.get("faults").unwrap_or(&json!([])));
    let mut run = CaseRun::start(proxy.url(), table, case);
    case["steps"].as_array().unwrap().iter().for_each(|step| run.check_step(step));
    run.client.close();
    let requests = proxy.requests();
    if let Some(count) = case.get("requests") {
        assert_eq!(requests.len() as u64, count.as_u64().unwrap(), "{requests:?}");
    }
    let min_requests = case.get("min_requests").map_or(0, |count| count.as_u64().unwrap() as usize);
    assert!(requests.len() >= min_requests, "{requests:?}");
    if let Some(expected) = case.get("delays") {
        let (delays, expected) = (run.delays.lock().unwrap().clone(), parsed::<Vec<f64>>(expected));
        let is_same = delays.iter().zip(&expected).all(|(delay, expected)| (delay - expected).abs() < 1e-6);
        assert!(delays.len() == expected.len() && is_same, "{delays:?}, expected {expected:?}");
    }
    for (user, count) in case.get("stored").and_then(Value::as_object).into_iter().flatten() {
        let ids = daemon.stored_event_ids(user);
        assert_eq!(ids.len() as u64, count.as_u64().unwrap(), "{ids:?}");
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
    }
}

#[test]
fn the_client_passes_the_shared_cases() {
    let table: Value = serde_json::from_str(&fs::read_to_string(shared_folder().join("cases.json")).unwrap()).unwrap();
    assert_eq!(table["now"], "2024-01-01T00:00:00Z");
    let settings: Vec<String> = parsed(&table["daemon"]);
    let Some(daemon) = Daemon::start(&settings.iter().map(String::as_str).collect::<Vec<_>>()) else { return };
    let proxy = FaultProxy::start(&daemon.url());
    let cases = table["cases"].as_array().unwrap();
    assert!(cases.len() > 40);
    for case in cases {
        println!("case: {}", case["name"]);
        check_case(&daemon, &proxy, &table, case);
    }
}
