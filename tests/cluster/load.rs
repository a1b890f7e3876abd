//! Clients that write and read through all nodes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;

use crate::cluster_daemons::{ClusterDaemons, NODE_COUNT};
use crate::daemon::{Daemon, HttpResponse, read_response, view_event, wait_for};
use crate::history::History;
use crate::random::TestRng;

pub(crate) const USER_COUNT: u64 = 40;
const ITEM_COUNT: u64 = 150;
/// Pause after a refusal, so that clients do not use all processor time.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Pause between operations. The load is not meant to saturate the machine.
const PACE: Duration = Duration::from_millis(10);
/// How long a client waits for a response before it sends the request to another node. A node that is
/// paused does not respond.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);
const CONSENT_LEVELS: [&str; 3] = ["none", "session", "full"];

/// The state that all clients share.
pub(crate) struct SharedLoad<'a> {
    pub(crate) daemons: &'a ClusterDaemons,
    pub(crate) history: Mutex<History>,
    pub(crate) is_stopping: AtomicBool,
    pub(crate) next_id: AtomicU64,
}

impl<'a> SharedLoad<'a> {
    pub(crate) fn new(daemons: &'a ClusterDaemons) -> Self {
        Self { daemons, history: Mutex::default(), is_stopping: AtomicBool::new(false), next_id: AtomicU64::new(1) }
    }
}

/// One client. It sends the next request after it has the response to the previous one.
pub(crate) struct LoadClient<'a> {
    number: u64,
    random: TestRng,
    shared: &'a SharedLoad<'a>,
    agent: Agent,
    /// Number of private users so far.
    private_users: u64,
}

impl<'a> LoadClient<'a> {
    pub(crate) fn new(number: u64, seed: u64, shared: &'a SharedLoad<'a>) -> Self {
        let agent = Agent::config_builder().http_status_as_error(false).timeout_global(Some(REQUEST_TIMEOUT));
        Self {
            number,
            random: TestRng(seed.wrapping_mul(1000) + number),
            shared,
            agent: agent.build().into(),
            private_users: 0,
        }
    }

    /// Sends until the load stops. Events without a receipt are sent again until they have one.
    pub(crate) fn run(&mut self) {
        while !self.shared.is_stopping.load(Ordering::SeqCst) {
            match self.random.number_below(20) {
                0 | 1 => self.change_item(),
                2 | 3 => self.request_list(),
                4 => self.merge_users(),
                5 => self.change_consent(),
                6 if self.random.number_below(4) == 0 => self.control_model(),
                _ => self.send_batch(),
            }
            thread::sleep(PACE);
        }
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.shared.history.lock().unwrap()
    }

    fn next_id(&self) -> u64 {
        self.shared.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// A running daemon other than that of the node `except`.
    fn any_daemon(&mut self, except: Option<usize>) -> Option<(usize, Arc<Daemon>)> {
        let node = self.random.number_below(NODE_COUNT as u64) as usize;
        if Some(node) == except {
            return None;
        }
        Some((node, self.shared.daemons.nodes[node].daemon()?))
    }

    /// Sends a request to a URL. `None` if there is no response.
    fn request(&self, method: &str, url: String, body: &Value) -> Option<HttpResponse> {
        let request = ureq::http::Request::builder().method(method).uri(url).header("content-type", "application/json");
        let body = if method == "GET" { String::new() } else { body.to_string() };
        read_response(self.agent.run(request.body(body).unwrap())).ok()
    }

    /// Sends a request to any node. `None` if the node is down, does not respond or refuses.
    fn try_send(&mut self, method: &str, path: &str, body: &Value) -> Option<(usize, HttpResponse)> {
        let (node, daemon) = self.any_daemon(None)?;
        let response = self.request(method, format!("{}{path}", daemon.api_url()), body)?;
        self.accept_refusal(&response).then_some((node, response))
    }

    /// Whether the node answered the request. A refusal must say when to retry.
    fn accept_refusal(&self, response: &HttpResponse) -> bool {
        if response.status != 503 {
            return true;
        }
        assert!(response.headers.contains_key("retry-after"), "a refusal without Retry-After: {response:?}");
        self.history().refused += 1;
        thread::sleep(RETRY_PAUSE);
        false
    }

    /// Sends a request until a node responds.
    fn send_until_answered(&mut self, method: &str, path: &str, body: &Value) -> (usize, HttpResponse) {
        wait_for("a node that answers", || self.try_send(method, path, body))
    }

    fn random_user(&mut self) -> String {
        format!("user{}", self.random.number_below(USER_COUNT))
    }

    /// A recent anonymous visitor. Several clients can choose the same visitor.
    fn recent_visitor(&mut self) -> String {
        let latest = self.shared.next_id.load(Ordering::Relaxed) / 30;
        format!("visitor{}", latest.saturating_sub(self.random.number_below(4)))
    }

    /// An event of a walk through the items. Some users have only this event.
    fn next_event(&mut self) -> Value {
        let id = self.next_id();
        let user = match self.random.number_below(5) {
            0 => self.recent_visitor(),
            1 => format!("guest{id}"),
            _ => self.random_user(),
        };
        let mut event = view_event(&format!("e{id}"), &user, &format!("item{}", id / 7 % ITEM_COUNT));
        if self.random.number_below(3) == 0 {
            event["session_id"] = json!(format!("visit{}", id / 50));
        }
        event
    }

    /// Sends one event or several, sometimes with events that were acknowledged before. Then reads
    /// from another node.
    fn send_batch(&mut self) {
        let length = if self.random.number_below(2) == 0 { 1 } else { 1 + self.random.number_below(7) };
        let new: Vec<_> = (0..length).map(|_| self.next_event()).collect();
        let mut batch = new.clone();
        batch.extend(self.acknowledged_events());
        let first = self.history().add_events(&new);
        let body = json!(batch);
        let mut attempts = 0;
        let (node, response) = wait_for("a receipt", || {
            attempts += 1;
            self.try_send("POST", "/v1/events", &body)
        });
        assert_eq!(response.status, 200, "{}", response.body);
        let receipt = response.json();
        let count = |name: &str| receipt[name].as_u64().unwrap();
        assert_eq!((count("accepted") + count("duplicates"), &receipt["rejected"]), (batch.len() as u64, &json!([])));
        // Of a batch that was sent once, exactly the new events are accepted.
        assert!(attempts > 1 || count("accepted") == length, "{length} new events: {receipt}");
        let offset = receipt["offset"].as_u64().unwrap();
        self.history().acknowledge(first..first + new.len(), node, offset);
        let user = new.last().unwrap()["user_id"].as_str().unwrap();
        self.read_own_write(node, user, offset);
    }

    /// Up to three events that were acknowledged before; mostly none. Private users may have
    /// withdrawn their consent, so that their events would be withheld.
    fn acknowledged_events(&mut self) -> Vec<Value> {
        let count = if self.random.number_below(3) == 0 { 1 + self.random.number_below(3) } else { 0 };
        let history = self.shared.history.lock().unwrap();
        let random = &mut self.random;
        let choices = (0..count).filter_map(|_| {
            let place = random.number_below(history.events.len().max(1) as u64) as usize;
            history
                .events
                .get(place)
                .filter(|event| event.acknowledged.is_some() && !event.user().starts_with("private"))
        });
        let mut chosen: Vec<Value> = choices.map(|event| event.body.clone()).collect();
        chosen.dedup();
        chosen
    }

    /// Reads a user's list from another node than the one that gave the receipt. The answer must
    /// include the acknowledged event: the node knows the user.
    fn read_own_write(&mut self, writer: usize, user: &str, offset: u64) {
        let Some((node, daemon)) = self.any_daemon(Some(writer)) else { return };
        let path = format!("/v1/users/{user}/recommendations?limit=5&min_offset={offset}");
        let url = format!("{}{path}", daemon.api_url());
        let Some(response) = self.request("GET", url, &Value::Null) else { return };
        // A node that is cut off cannot reach the offset.
        if response.status == 503 {
            return;
        }
        assert_eq!(response.status, 200, "{}", response.body);
        let applied =
            response.headers.get("x-sequor-offset").map(|value| value.to_str().unwrap().parse::<u64>().unwrap());
        assert!(applied.is_some_and(|applied| applied >= offset), "node {node}, {offset}: {response:?}");
        assert_ne!(response.json()["fallback"], "unknown_user", "node {node} does not know {user} at {offset}");
        self.history().reads_of_own_writes += 1;
    }

    /// Requests a list, which adds an impression to the journal.
    fn request_list(&mut self) {
        let user = self.random_user();
        let Some((_, daemon)) = self.any_daemon(None) else { return };
        let url = format!("{}/v1/users/{user}/recommendations", daemon.api_url());
        if let Some(response) = self.request("GET", url, &Value::Null) {
            assert_eq!(response.status, 200, "a node always answers reads: {}", response.body);
        }
    }

    /// Changes an item once, to a price that no other change has.
    fn change_item(&mut self) {
        let price = self.next_id() as f64;
        let item = json!({ "price": price, "available": self.random.number_below(4) > 0 });
        let path = format!("/v1/items/item{}", self.random.number_below(ITEM_COUNT));
        let answer = self.try_send("PUT", &path, &item);
        let mut history = self.history();
        match answer {
            Some((_, response)) => {
                assert_eq!(response.status, 200, "{}", response.body);
                history.prices.push(price);
            }
            None => history.unknown_prices.push(price),
        }
    }

    /// Merges a visitor into a user. Several clients may merge the same visitor at once.
    fn merge_users(&mut self) {
        let (from, into) = (self.recent_visitor(), self.random_user());
        let path = format!("/v1/users/{into}/merge");
        let answer = self.try_send("POST", &path, &json!({ "from": from }));
        let mut history = self.history();
        let is_new = answer.is_some_and(|(_, response)| {
            assert_eq!(response.status, 200, "{}", response.body);
            response.json()["accepted"] == 1
        });
        history.merged.push((from, is_new));
    }

    /// Sets the consent of this client's own private user on one node, and sends an event on
    /// another. The event is withheld if the consent is `none`.
    fn change_consent(&mut self) {
        let user = format!("private{}-{}", self.number, self.private_users);
        let level = CONSENT_LEVELS[self.random.number_below(3) as usize];
        let path = format!("/v1/users/{user}/consent");
        let mut attempts = 0;
        let response = wait_for("a consent to be stored", || {
            attempts += 1;
            Some(self.try_send("PUT", &path, &json!({ "consent": level }))?.1)
        });
        assert_eq!(response.status, 200, "{}", response.body);
        // An attempt without a response can take effect later, so the user's consent stays as it is.
        self.private_users += u64::from(attempts > 1);
        self.history().consents.insert(user.clone(), level);
        let id = format!("p{}", self.next_id());
        let event = view_event(&id, &user, &format!("item{}", self.random.number_below(ITEM_COUNT)));
        if level != "none" {
            let first = self.history().add_events(std::slice::from_ref(&event));
            let (node, response) = self.send_until_answered("POST", "/v1/events", &json!([event]));
            assert_eq!(response.status, 200, "{}", response.body);
            let offset = response.json()["offset"].as_u64().unwrap();
            return self.history().acknowledge(first..first + 1, node, offset);
        }
        self.history().withheld.push(id);
        let (_, response) = self.send_until_answered("POST", "/v1/events", &json!([event]));
        assert_eq!(response.json()["withheld"], 1, "{}", response.body);
    }

    /// Runs a model operation. The journal decides whether it took effect.
    fn control_model(&mut self) {
        let (operation, body) = match self.random.number_below(4) {
            0 => ("model/pause", json!({})),
            1 => ("model/learning-rate", json!({ "value": 0.05 + self.random.number_below(10) as f64 / 100.0 })),
            2 => ("recall/recluster", json!({})),
            _ => ("model/rollback", json!({})),
        };
        self.try_control(operation, &body);
        // A paused model learns again.
        if operation == "model/pause" {
            wait_for("the model to resume", || {
                self.try_control("model/resume", &json!({})).filter(|status| *status == 200)
            });
        }
    }

    /// Runs an operation on any node; the status of the response.
    fn try_control(&mut self, operation: &str, body: &Value) -> Option<u16> {
        let (_, daemon) = self.any_daemon(None)?;
        let response = self.request("POST", format!("{}/admin/{operation}", daemon.admin_url()), body)?;
        // 409: there is no checkpoint to roll back to yet.
        assert!([200, 409, 503].contains(&response.status), "{operation}: {response:?}");
        Some(response.status)
    }
}
