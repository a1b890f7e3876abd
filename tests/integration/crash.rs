//! Crash test: several clients send concurrently while the daemon is killed repeatedly.
//!
//! `SEQUOR_CRASH_ROUNDS` sets the number of rounds (default 50).

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use sequor::domain::Entry;
use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, HttpResponse, view_event, wait_for};
use crate::journal_dump::JournalDump;
use crate::random::TestRng;

const SENDER_COUNT: u64 = 4;
const USER_COUNT: u64 = 50;
const ITEM_COUNT: u64 = 200;
/// Number of placements, and of rules.
const PLACEMENT_COUNT: u64 = 6;

/// Short intervals, so that every round crosses training boundaries, clusterings and checkpoints.
const DAEMON_SETTINGS: [&str; 8] = [
    // Keeps the training share constant. A change of the share writes a journal entry at a time
    // that depends on the machine's speed.
    "safety.training_share_min=1",
    "learning.interval=64",
    "clusters.every=512",
    "clusters.lag=128",
    "store.checkpoint_every=300",
    "session.shards=2",
    "features.level=item.level = user.level",
    "features.device=[\"context.device\", \"item.level\"]",
];

/// The outcomes of the clients' requests.
#[derive(Default)]
struct ClientRecord {
    /// Acknowledged events, which must be in the journal.
    acknowledged: Vec<Value>,
    /// Events without a receipt, which may be in the journal or not.
    unknown: Vec<Value>,
    /// The prices of acknowledged item changes.
    prices: Vec<f64>,
    /// The values of the attribute `number` in acknowledged changes of users.
    user_numbers: Vec<f64>,
    /// Merged users, and whether a receipt confirmed a new merge.
    merged: Vec<(String, bool)>,
    /// Number of entries acknowledged since the last start.
    fresh: usize,
}

/// One client of one round. The client ends when the daemon no longer responds.
struct CrashClient<'a> {
    daemon: &'a Daemon,
    random: TestRng,
    next_id: &'a AtomicU64,
    sent: &'a Mutex<ClientRecord>,
}

impl CrashClient<'_> {
    fn run_until_killed(&mut self) {
        while match self.random.number_below(8) {
            0 if self.random.number_below(12) == 0 => self.control_model(),
            0 => self.change_item(),
            1 => self.request_list(),
            2 if self.random.number_below(3) == 0 => self.merge_users(),
            6 => self.change_lists(),
            7 if self.random.number_below(2) == 0 => self.change_user(),
            7 => self.rank_list(),
            _ => self.send_batch(),
        } {}
    }

    /// Runs a model operation. The journal decides whether it took effect.
    fn control_model(&mut self) -> bool {
        let operations: &[(&str, Value)] = match self.random.number_below(4) {
            0 => &[("model/pause", json!({})), ("model/resume", json!({}))],
            1 => &[("model/learning-rate", json!({ "value": 0.05 + self.random.number_below(10) as f64 / 100.0 }))],
            2 => &[("recall/recluster", json!({}))],
            _ => &[("model/rollback", json!({}))],
        };
        // 409: there is no checkpoint to roll back to yet; 503: overload.
        operations.iter().all(|(path, body)| {
            let response = self.daemon.try_admin_request("POST", &format!("/admin/{path}"), &body.to_string());
            response
                .inspect(|response| assert!([200, 409, 503].contains(&response.status), "{path}: {response:?}"))
                .is_ok()
        })
    }

    fn next_event_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn random_user(&mut self) -> String {
        format!("user{}", self.random.number_below(USER_COUNT))
    }

    /// A recent anonymous visitor.
    fn recent_visitor(&mut self) -> String {
        let latest = self.next_id.load(Ordering::Relaxed) / 30;
        format!("visitor{}", latest.saturating_sub(self.random.number_below(4)))
    }

    /// An event of a walk through the items, sometimes with a session id.
    fn next_event(&mut self) -> Value {
        let id = self.next_event_id();
        let user = if self.random.number_below(4) == 0 { self.recent_visitor() } else { self.random_user() };
        let mut event = view_event(&format!("e{id}"), &user, &format!("item{}", id / 7 % ITEM_COUNT));
        if self.random.number_below(3) == 0 {
            event["session_id"] = json!(format!("visit{}", id / 50));
        }
        if self.random.number_below(6) == 0 {
            event["type"] = json!("purchase");
            event["value"] = json!(1 + id % 9);
            event["currency"] = json!("EUR");
        }
        if self.random.number_below(3) == 0 {
            event["context"] = json!({ "device": if id.is_multiple_of(2) { "phone" } else { "desktop" } });
        }
        event
    }

    /// Sends a batch of new events, sometimes with events that were acknowledged before.
    fn send_batch(&mut self) -> bool {
        let new: Vec<_> = (0..=self.random.number_below(6)).map(|_| self.next_event()).collect();
        let mut batch = new.clone();
        let mut repeated = 0;
        if self.random.number_below(3) == 0 {
            let sent = self.sent.lock().unwrap();
            if let Some(last) = (sent.acknowledged.len() as u64).checked_sub(1) {
                for _ in 0..=self.random.number_below(3) {
                    let repeated_event = &sent.acknowledged[self.random.number_below(last + 1) as usize];
                    batch.insert(self.random.number_below(batch.len() as u64) as usize, repeated_event.clone());
                    repeated += 1;
                }
            }
        }
        let response = self.daemon.try_post("/v1/events", &[], json!(batch).to_string().as_bytes());
        let mut sent = self.sent.lock().unwrap();
        let Ok(response) = response else {
            sent.unknown.extend(new);
            return false;
        };
        assert_eq!(response.status, 200, "{}", response.body);
        let receipt = response.json();
        assert_eq!((&receipt["accepted"], &receipt["duplicates"]), (&json!(new.len()), &json!(repeated)), "{receipt}");
        sent.fresh += new.len();
        sent.acknowledged.extend(new);
        true
    }

    fn change_item(&mut self) -> bool {
        let price = self.next_event_id() as f64;
        let category = format!("shelf{}", self.random.number_below(9));
        let level = self.random.number_below(3);
        let is_available = self.random.number_below(4) > 0;
        let attributes = json!({ "level": level });
        let item =
            json!({ "price": price, "categories": [category], "available": is_available, "attributes": attributes });
        let path = format!("/v1/items/item{}", self.random.number_below(ITEM_COUNT));
        let Ok(response) = self.daemon.try_request("PUT", &path, &item.to_string()) else { return false };
        assert_eq!(response.status, 200, "{}", response.body);
        let mut sent = self.sent.lock().unwrap();
        sent.prices.push(price);
        sent.fresh += 1;
        true
    }

    /// Merges a visitor into a user; sometimes two visitors or two users.
    fn merge_users(&mut self) -> bool {
        let from = if self.random.number_below(30) == 0 { self.random_user() } else { self.recent_visitor() };
        let into = if self.random.number_below(6) == 0 { self.recent_visitor() } else { self.random_user() };
        if from == into {
            return true;
        }
        let response =
            self.daemon.try_request("POST", &format!("/v1/users/{into}/merge"), &json!({ "from": from }).to_string());
        let mut sent = self.sent.lock().unwrap();
        let Ok(response) = response else {
            sent.merged.push((from, false));
            return false;
        };
        assert_eq!(response.status, 200, "{}", response.body);
        let is_new = response.json()["accepted"] == 1;
        sent.fresh += usize::from(is_new);
        sent.merged.push((from, is_new));
        true
    }

    /// Requests a list, which adds an impression to the journal.
    fn request_list(&mut self) -> bool {
        let placement = self.random.number_below(2 * PLACEMENT_COUNT);
        let path = format!("/v1/users/user{}/recommendations", self.random.number_below(USER_COUNT));
        let response = self.daemon.try_request("GET", &format!("{path}?placement=p{placement}"), "");
        response.is_ok_and(|HttpResponse { status, body, .. }| {
            // 404: the placement does not exist.
            assert!([200, 404].contains(&status), "{body}");
            true
        })
    }

    /// Puts or deletes a placement or a rule.
    fn change_lists(&mut self) -> bool {
        let number = self.random.number_below(PLACEMENT_COUNT);
        let shelf = format!("category = shelf{}", self.random.number_below(9));
        let (path, body) = if self.random.number_below(2) == 0 {
            let objective = ["ctr", "cvr", "revenue"][number as usize % 3];
            let body = json!({
                "limit": 5 + self.random.number_below(20), "boosts": [{ "filter": shelf, "factor": 2.0 }],
                "objective": objective, "purchased_for": "0s",
            });
            (format!("placements/p{number}"), body)
        } else {
            let consequence = match number % 4 {
                0 => json!({ "promote": { "item_id": "item3", "position": 2 } }),
                1 => json!({ "hide": { "filter": shelf } }),
                2 => json!({ "require": { "filter": shelf, "min_share": 0.2 } }),
                _ => json!({ "boost": { "filter": "item.level = user.level", "factor": 3.0 } }),
            };
            (format!("rules/r{number}"), json!({ "consequence": consequence, "priority": number }))
        };
        let method = if self.random.number_below(4) == 0 { "DELETE" } else { "PUT" };
        let response = self.daemon.try_request(method, &format!("/v1/{path}"), &body.to_string());
        response.is_ok_and(|HttpResponse { status, body, .. }| {
            assert!(status == 200 || (status, method) == (404, "DELETE"), "{method} {path}: {body}");
            true
        })
    }

    /// Changes the attributes of a user.
    fn change_user(&mut self) -> bool {
        let number = self.next_event_id() as f64;
        let patch = json!({ "attributes": { "level": self.random.number_below(3), "number": number } });
        let path = format!("/v1/users/{}", self.random_user());
        let Ok(response) = self.daemon.try_request("PATCH", &path, &patch.to_string()) else { return false };
        assert_eq!(response.status, 200, "{}", response.body);
        self.sent.lock().unwrap().user_numbers.push(number);
        true
    }

    /// Ranks a list of the site, which adds an impression to the journal.
    fn rank_list(&mut self) -> bool {
        let first = self.random.number_below(ITEM_COUNT - 10);
        let items: Vec<_> = (first..first + 10)
            .map(|item| json!({ "item_id": format!("item{item}"), "features": { "relevance": item % 7 } }))
            .collect();
        let request = json!({ "user_id": self.random_user(), "items": items, "log": true });
        let response = self.daemon.try_request("POST", "/v1/rank", &request.to_string());
        response.is_ok_and(|HttpResponse { status, body, .. }| {
            assert_eq!(status, 200, "{body}");
            true
        })
    }
}

/// Compacts the store repeatedly until the daemon no longer responds. Returns the number of
/// compactions.
fn compact_repeatedly(daemon: &Daemon) -> u64 {
    let mut compacted = 0;
    while let Ok(response) = daemon.try_admin_request("POST", "/admin/store/compact", "{}") {
        assert_eq!(response.status, 200, "{}", response.body);
        compacted += 1;
    }
    compacted
}

/// Sends to a daemon until it is killed at a random moment. Returns the number of compactions.
fn run_round(daemon: Daemon, round: u64, random: &mut TestRng, next_id: &AtomicU64, sent: &Mutex<ClientRecord>) -> u64 {
    sent.lock().unwrap().fresh = 0;
    let compacted = thread::scope(|scope| {
        for sender in 0..SENDER_COUNT {
            let random = TestRng(round * SENDER_COUNT + sender);
            let mut sender = CrashClient { daemon: &daemon, random, next_id, sent };
            scope.spawn(move || sender.run_until_killed());
        }
        // In every second round the kill happens during or just after a compaction.
        let compacting = round.is_multiple_of(2).then(|| scope.spawn(|| compact_repeatedly(&daemon)));
        // In every fourth round the kill may happen before the first receipt.
        wait_for("a first receipt", || (round % 4 == 3 || sent.lock().unwrap().fresh > 0).then_some(()));
        // Every tenth round lasts long enough to store sessions, which happens once a second.
        let longer = if round % 10 == 6 { 900_000 } else { 0 };
        thread::sleep(Duration::from_micros(longer + random.number_below(120_000 + longer / 3)));
        daemon.signal("KILL");
        compacting.map_or(0, |compacting| compacting.join().unwrap())
    });
    daemon.kill();
    compacted
}

/// Checks the journal of a killed daemon: the earlier entries are unchanged, every acknowledged
/// event occurs exactly once, and nothing else was added.
fn check_journal(home: &DaemonHome, before: &JournalDump, sent: &ClientRecord) -> JournalDump {
    let dump = JournalDump::read_from_copy(&home.data_dir());
    assert!(dump.entries.starts_with(&before.entries), "earlier journal entries have changed");
    let counts = dump.event_ids();
    let id = |event: &Value| event["event_id"].as_str().unwrap().to_owned();
    for event in &sent.acknowledged {
        assert_eq!(counts.get(id(event).as_str()), Some(&1), "acknowledged: {event}");
    }
    let sent_ids: HashSet<_> = sent.acknowledged.iter().chain(&sent.unknown).map(id).collect();
    for (id, count) in &counts {
        assert!(*count == 1 && sent_ids.contains(*id), "{id}, {count} times");
    }
    let prices = dump.item_prices();
    for price in &sent.prices {
        assert_eq!(
            prices.iter().filter(|found| *found == price).count(),
            1,
            "an acknowledged change of an item, to {price}"
        );
    }
    let numbers = dump.user_numbers();
    for number in &sent.user_numbers {
        assert_eq!(numbers.iter().filter(|found| *found == number).count(), 1, "an acknowledged number {number}");
    }
    // A user is merged at most once, and has no entries after that.
    let mut merged = HashSet::new();
    for entry in &dump.entries {
        let (user, from) = match entry {
            Entry::Event(event) => (&event.user_id, None),
            Entry::Impression(impression) => (&impression.user_id, None),
            Entry::Merge(merge) => (&merge.into, Some(&merge.from)),
            _ => continue,
        };
        assert!(!merged.contains(user), "{user} was merged before {entry:?}");
        assert!(from.is_none_or(|from| merged.insert(from)), "merged twice: {entry:?}");
    }
    let requested: HashSet<_> = sent.merged.iter().map(|(from, _)| from).collect();
    assert!(merged.is_subset(&requested), "merged without a request: {:?}", merged.difference(&requested));
    for (from, is_acknowledged) in &sent.merged {
        assert!(!is_acknowledged || merged.contains(from), "acknowledged: {from} was merged");
    }
    drop(merged);
    dump
}

/// Reads the checkpoint of a cleanly stopped daemon, which covers the whole journal.
fn read_checkpoint(home: &DaemonHome, entries: u64) -> Vec<u8> {
    let path: PathBuf = home.data_dir().join(format!("checkpoints/{entries:020}.checkpoint"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn repeated_kills_lose_nothing_and_state_follows_from_the_journal() {
    let rounds: u64 = std::env::var("SEQUOR_CRASH_ROUNDS").map_or(50, |rounds| rounds.parse().unwrap());
    let home = DaemonHome::new();
    let mut random = TestRng(5);
    let next_id = AtomicU64::new(1);
    let sent = Mutex::new(ClientRecord::default());
    let mut dump = JournalDump { entries: Vec::new() };
    let mut compacted = 0;
    for round in 0..rounds {
        // Sometimes the daemon is killed during its start.
        if random.number_below(4) == 0 {
            home.kill_during_start(&DAEMON_SETTINGS, Duration::from_micros(random.number_below(60_000)));
        }
        compacted += run_round(home.start(&DAEMON_SETTINGS), round, &mut random, &next_id, &sent);
        dump = check_journal(&home, &dump, &sent.lock().unwrap());
    }

    let merges = dump.entries.iter().filter(|entry| matches!(entry, Entry::Merge(_))).count();
    assert!(merges as u64 >= rounds / 2, "there were only {merges} merges");
    assert!(compacted >= rounds / 5, "there were only {compacted} compactions");

    let daemon = home.start(&DAEMON_SETTINGS);
    let ClientRecord { acknowledged, unknown, .. } = sent.into_inner().unwrap();
    for batch in acknowledged.chunks(500) {
        assert_eq!(daemon.send_events(batch)["duplicates"], batch.len(), "an acknowledged event is lost");
    }
    // Unconfirmed events are sent again, as a client would.
    for batch in unknown.chunks(500) {
        daemon.send_events(batch);
    }
    let entries = daemon.next_offset();
    daemon.wait_until_learned(entries);
    assert!(
        daemon.status()["catalog"]["clusters"].as_u64() > Some(1) || rounds < 10,
        "too little was learned: {}",
        daemon.status()
    );
    assert_eq!(daemon.terminate().code(), Some(0));

    // A second daemon rebuilds its state from the journal alone, without interruption.
    let dump = JournalDump::read_from_copy(&home.data_dir());
    assert_eq!(dump.entries.len() as u64, entries);
    let twin_home = DaemonHome::new();
    dump.write_journal_to(&twin_home.data_dir());
    let twin = twin_home.start(&DAEMON_SETTINGS);
    twin.wait_until_learned(entries);
    assert_eq!(twin.terminate().code(), Some(0));
    let (found, expected) = (read_checkpoint(&home, entries), read_checkpoint(&twin_home, entries));
    let differ = expected.iter().zip(&found).position(|(expected, found)| expected != found);
    assert_eq!(
        (found.len(), differ),
        (expected.len(), None),
        "position of the first differing byte of the checkpoints"
    );

    assert_same_recommendations(&home.start(&DAEMON_SETTINGS), &twin_home.start(&DAEMON_SETTINGS));
}

/// Asserts that two daemons with the same learned state recommend the same items. First advances
/// both, so that hidden states of older weights are recomputed.
fn assert_same_recommendations(daemon: &Daemon, twin: &Daemon) {
    for boundary in 0..12 {
        let event_number = |number: u64| {
            let at = 1_700_000_000_000 + (boundary * 64 + number) * 1000;
            json!({ "user_id": "passer-by", "type": "view", "item_id": format!("item{}", number * 3 % ITEM_COUNT), "timestamp": at })
        };
        let events: Vec<_> = (0..64).map(event_number).collect();
        for daemon in [daemon, twin] {
            assert_eq!(daemon.send_events(&events)["accepted"], 64);
            daemon.wait_until_learned(daemon.next_offset());
        }
    }
    let users = (0..USER_COUNT).map(|user| format!("/v1/users/user{user}"));
    for path in ["/v1/placements", "/v1/rules"].map(str::to_owned).into_iter().chain(users) {
        assert_eq!(daemon.get(&path).body, twin.get(&path).body, "{path}");
    }
    let placements: Vec<_> =
        daemon.get("/v1/placements").json()["placements"].as_object().unwrap().keys().cloned().collect();
    for user in 0..USER_COUNT {
        let placement = placements.get(user as usize % (placements.len() + 1));
        let placement = placement.map_or_else(String::new, |name| format!("&placement={name}"));
        let path = format!("/v1/users/user{user}/recommendations?limit=50{placement}");
        let [found, expected] = [daemon, twin].map(|daemon| {
            let before = daemon.next_offset();
            let response = daemon.get(&path);
            // Popularity decays per journal entry, so the next request waits for this one's
            // impression.
            daemon.wait_until_learned(before + 1);
            response.json()["items"].clone()
        });
        assert_eq!(found, expected, "recommendations of user{user}");
    }
}
