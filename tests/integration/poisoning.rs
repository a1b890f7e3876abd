//! Fake events: how far a client with a write key can push an item into the lists of others.
//!
//! Regression test: 500 events in one second put an unknown item at rank 1 of the lists of all
//! users, of new users and of the trending items.

use serde_json::{Value, json};

use crate::api_keys::{create_key, key_id};
use crate::daemon::{Daemon, DaemonHome, run_sequor, wait_for};
use crate::purges::wait_until_purged;
use crate::random::TestRng;

const ORGANIC_USERS: u64 = 100;
const ITEMS: u64 = 150;
/// Milliseconds between two visits.
const PAUSE: i64 = 40_000;
/// The time of the first event, recent enough for any limit on late events.
const BEGIN: i64 = 1_790_000_000_000;

/// A generator of view events, which sets their timestamps from its own clock.
struct Traffic<'d> {
    daemon: &'d Daemon,
    random: TestRng,
    now: i64,
    sent: u64,
}

impl Traffic<'_> {
    fn view(&mut self, user: &str, item: &str, pause: i64) -> Value {
        self.now += pause;
        json!({ "user_id": user, "type": "view", "item_id": item, "timestamp": self.now })
    }

    fn send(&mut self, events: &[Value]) {
        self.send_with_key(None, events);
    }

    fn send_with_key(&mut self, key: Option<&str>, events: &[Value]) {
        let url = format!("{}/v1/events", self.daemon.api_url());
        for batch in events.chunks(500) {
            let body = serde_json::to_string(batch).unwrap();
            let receipt = self.daemon.request_with_key("POST", &url, key, &body).json();
            assert_eq!(receipt["accepted"], batch.len() as u64, "{receipt}");
            self.sent += batch.len() as u64;
            // The daemon rejects events while learning is too far behind.
            self.daemon.wait_until_learned(self.sent);
        }
    }

    /// Sends visits of regular users. Each user prefers different items.
    fn organic(&mut self, count: usize) {
        let events = self.organic_events(count);
        self.send(&events);
    }

    fn organic_events(&mut self, count: usize) -> Vec<Value> {
        let mut events = Vec::new();
        while events.len() < count {
            let user = self.random.number_below(ORGANIC_USERS);
            let mut place = self.random.number_below(15);
            self.now += PAUSE;
            for _ in 0..1 + self.random.number_below(7) {
                let taste = if self.random.number_below(10) < 7 { user % 10 } else { self.random.number_below(10) };
                place = if self.random.number_below(2) == 0 { (place + 1) % 15 } else { self.random.number_below(15) };
                events.push(self.view(&format!("user{user}"), &format!("item{}", taste * 15 + place), 3_000));
            }
        }
        events
    }

    /// Sends events of `users` fake users. In turn, each views `context` popular items and then the
    /// item `target`.
    fn attack(&mut self, target: &str, users: usize, context: usize, targets: usize) {
        let events = self.attack_events(target, users, context, targets);
        self.send(&events);
    }

    fn attack_events(&mut self, target: &str, users: usize, context: usize, targets: usize) -> Vec<Value> {
        let mut events = Vec::new();
        for number in 0..targets {
            let user = format!("fake-{target}-{}", number % users);
            for _ in 0..context {
                let item = format!("item{}", self.random.number_below(ITEMS));
                events.push(self.view(&user, &item, 1));
            }
            events.push(self.view(&user, target, 1));
        }
        events
    }

    /// The number of organic users who get the item among the first 20.
    fn reached(&self, item: &str) -> usize {
        let lists = (0..ORGANIC_USERS)
            .map(|user| self.daemon.get(&format!("/v1/users/user{user}/recommendations?limit=20")).item_ids());
        lists.filter(|list| list.iter().any(|listed| listed == item)).count()
    }

    fn assert_not_pushed(&self, item: &str, attack: &str) {
        let reached = self.reached(item);
        assert!(reached <= ORGANIC_USERS as usize / 20, "{attack}: {item} is in the first 20 of {reached} users");
        for path in ["/v1/trending?limit=20", "/v1/users/nobody/recommendations?limit=20"] {
            let list = self.daemon.get(path).item_ids();
            assert!(!list.iter().any(|listed| listed == item), "{attack}: {item} is in {path}: {list:?}");
        }
    }
}

#[test]
fn fake_events_do_not_push_an_item_into_the_lists_of_others() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let mut traffic = Traffic { daemon: &daemon, random: TestRng(7), now: BEGIN, sent: 0 };
    traffic.organic(6_000);
    let attacks = [
        ("fifty", "50 events of five users, with other items in between", 5, 1, 25),
        ("hundred", "100 events of ten users, with other items in between", 10, 1, 50),
        ("direct", "100 events of ten users", 10, 0, 100),
        ("burst", "500 events of 500 users", 500, 0, 500),
        ("prepared", "300 users who first view two items each", 300, 2, 300),
        ("single", "1,000 views by one user", 1, 0, 1_000),
        ("flood", "10,000 events of 10,000 users", 10_000, 0, 10_000),
    ];
    for (target, attack, users, context, targets) in attacks {
        traffic.attack(target, users, context, targets);
        traffic.assert_not_pushed(target, attack);
    }
    // An attacker misuses the account of a regular user.
    let events: Vec<_> = (0..1_000).map(|_| traffic.view("user7", "regular", 1)).collect();
    traffic.send(&events);
    traffic.assert_not_pushed("regular", "1,000 views by one regular user");
    // A new item that many regular users choose is recommended.
    let events: Vec<_> = (0..40).map(|user| traffic.view(&format!("user{user}"), "novelty", 1_000)).collect();
    traffic.send(&events);
    assert!(traffic.reached("novelty") > 10, "{} users get the new item", traffic.reached("novelty"));
}

/// The first 20 items of every organic user's list, of a new user's list, and of the trending items.
/// With the consent `session`, the daemon stores no impression, so a list changes no later list.
fn all_lists(daemon: &Daemon) -> Vec<Vec<String>> {
    let users = (0..ORGANIC_USERS).map(|user| format!("/v1/users/user{user}/recommendations?limit=20&consent=session"));
    let others = ["/v1/users/nobody/recommendations?limit=20&consent=session", "/v1/trending?limit=20"];
    users.chain(others.map(str::to_owned)).map(|path| daemon.get(&path).item_ids()).collect()
}

fn newest_checkpoint(home: &DaemonHome) -> Vec<u8> {
    let files = home.data_dir().join("checkpoints").read_dir().unwrap().map(|file| file.unwrap().path());
    std::fs::read(files.max().unwrap()).unwrap()
}

/// Some fake users visit for weeks before they push the item, so that the limits on influence take
/// them for regular users.
#[test]
fn a_purge_removes_the_events_of_a_key() {
    let home = DaemonHome::new();
    // The daemon must find the right one of several keys.
    let [_, key, _] = ["read", "write", "admin"].map(|scope| create_key(&home, scope));
    let daemon = home.start(&[]);
    let mut traffic = Traffic { daemon: &daemon, random: TestRng(7), now: BEGIN, sent: 0 };
    let mut organic = traffic.organic_events(500);
    traffic.send(&organic);
    let prepared = traffic.attack_events("item7", 60, 4, 60);
    traffic.send_with_key(Some(&key), &prepared);
    let visits = traffic.organic_events(5_500);
    traffic.send(&visits);
    organic.extend(visits);
    let pushed: Vec<_> =
        (0..360).map(|number| traffic.view(&format!("fake-item7-{}", number % 60), "pushed", 1)).collect();
    traffic.send_with_key(Some(&key), &pushed);
    let flood = traffic.attack_events("flood", 10_000, 0, 10_000);
    traffic.send_with_key(Some(&key), &flood);
    let trending = daemon.get("/v1/trending?limit=20").item_ids();
    assert!(trending.iter().any(|item| item == "pushed"), "the attack has an effect: {trending:?}");

    let id = key_id(&key);
    let senders = daemon.get_admin("/admin/senders").json();
    let sender = &senders["keys"][0];
    assert_eq!((&sender["key"], &sender["suspicious"]), (&json!(id), &json!(true)), "{senders}");
    assert_eq!(senders["keys"].as_array().unwrap().len(), 1, "organic events have no key: {senders}");
    let warning = wait_for("the warning", || {
        let log = daemon.read_log();
        log.lines().find(|line| line.contains("holds back many events")).map(str::to_owned)
    });
    assert!(warning.contains(&format!("key=\"{id}\"")) && !warning.contains("127.0.0.1"), "{warning}");
    assert!(run_sequor(&["key", "revoke", id, "--data-dir", home.data_dir().to_str().unwrap()]).status.success());
    let purge = |more: &[&str]| -> Value {
        let arguments = ["admin", "--url", daemon.admin_url(), "purge", "--from-key", id, "--since", "1h"];
        let output = run_sequor(&[&arguments, more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let fake_events = (prepared.len() + pushed.len() + flood.len()) as u64;
    for more in [&["--dry-run"][..], &[]] {
        let counted = purge(more);
        assert_eq!((counted["events"].as_u64(), counted["users"].as_u64()), (Some(fake_events), Some(10_060)));
        assert_eq!(counted["purge"].is_u64(), more.is_empty(), "{counted}");
    }
    let visits = traffic.organic_events(1_000);
    assert_eq!(daemon.send_events(&visits[..500])["accepted"], 500);
    assert_eq!(daemon.send_events(&visits[500..1_000])["accepted"], 500);
    organic.extend_from_slice(&visits[..1_000]);
    wait_until_purged(&home);
    daemon.terminate();

    let never_attacked = DaemonHome::new();
    let clean = never_attacked.start(&[]);
    for (sent, batch) in (1..).zip(organic.chunks(500)) {
        clean.send_events(batch);
        clean.wait_until_learned(organic.len().min(sent * 500) as u64);
    }
    clean.terminate();
    assert!(newest_checkpoint(&home) == newest_checkpoint(&never_attacked), "the learned states differ");
    let (purged, clean) = (home.start(&[]), never_attacked.start(&[]));
    let lists = all_lists(&purged);
    assert!(lists.iter().flatten().all(|item| item.starts_with("item")), "{lists:?}");
    assert!(lists.iter().all(|list| list.len() == 20));
    assert!(lists == all_lists(&clean), "the lists differ");
}
