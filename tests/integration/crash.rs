//! Many senders at once, and a daemon that is killed in the midst of it, again and again.
//!
//! `SEQUOR_CRASH_ROUNDS` says how often (50 unless set).

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use sequor::domain::Entry;
use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome, HttpResponse, event, wait_for};
use crate::journal_dump::JournalDump;
use crate::random::TestRng;

const SENDERS: u64 = 4;
const USERS: u64 = 50;
const ITEMS: u64 = 200;

/// Small strides, so that every round crosses borders, clusterings and checkpoints.
const SETTINGS: [&str; 5] =
    ["learning.interval=64", "clusters.every=512", "clusters.lag=128", "store.checkpoint_every=300", "session.shards=2"];

/// What the senders know of all that they have sent.
#[derive(Default)]
struct Sent {
    /// A receipt came: these must be there.
    acknowledged: Vec<Value>,
    /// No receipt came: these may be there or not.
    unknown: Vec<Value>,
    /// The prices of items whose change was acknowledged.
    prices: Vec<f64>,
    /// Users who were merged into others, with whether that was acknowledged as something new.
    merged: Vec<(String, bool)>,
    /// What was acknowledged since the last start.
    fresh: usize,
}

/// One sender of one round. It ends when no answer comes any more.
struct Sender<'a> {
    daemon: &'a Daemon,
    random: TestRng,
    next_id: &'a AtomicU64,
    sent: &'a Mutex<Sent>,
}

impl Sender<'_> {
    fn run(&mut self) {
        while match self.random.below(6) {
            0 if self.random.below(12) == 0 => self.steer(),
            0 => self.change_item(),
            1 => self.ask(),
            2 if self.random.below(3) == 0 => self.merge(),
            _ => self.send(),
        } {}
    }

    /// Does something to the model. Whether it was done is for the journal to say.
    fn steer(&mut self) -> bool {
        let acts: &[(&str, Value)] = match self.random.below(4) {
            0 => &[("model/pause", json!({})), ("model/resume", json!({}))],
            1 => &[("model/learning-rate", json!({ "value": 0.05 + self.random.below(10) as f64 / 100.0 }))],
            2 => &[("recall/recluster", json!({}))],
            _ => &[("model/rollback", json!({}))],
        };
        // There may be no checkpoint yet to roll back to, and no room just now.
        acts.iter().all(|(path, body)| {
            let answer = self.daemon.try_admin_request("POST", &format!("/admin/{path}"), &body.to_string());
            answer.inspect(|answer| assert!([200, 409, 503].contains(&answer.status), "{path}: {answer:?}")).is_ok()
        })
    }

    fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn user(&mut self) -> String {
        format!("user{}", self.random.below(USERS))
    }

    /// One of those who came lately and are not known by name.
    fn visitor(&mut self) -> String {
        let latest = self.next_id.load(Ordering::Relaxed) / 30;
        format!("visitor{}", latest.saturating_sub(self.random.below(4)))
    }

    /// An event of some walk through the items; now and then the site names a visit.
    fn event(&mut self) -> Value {
        let id = self.id();
        let user = if self.random.below(4) == 0 { self.visitor() } else { self.user() };
        let mut event = event(&format!("e{id}"), &user, &format!("item{}", id / 7 % ITEMS));
        if self.random.below(3) == 0 {
            event["session_id"] = json!(format!("visit{}", id / 50));
        }
        event
    }

    /// A batch of new events, among them some that were acknowledged before.
    fn send(&mut self) -> bool {
        let new: Vec<_> = (0..=self.random.below(6)).map(|_| self.event()).collect();
        let mut batch = new.clone();
        let mut repeated = 0;
        if self.random.below(3) == 0 {
            let sent = self.sent.lock().unwrap();
            if let Some(last) = (sent.acknowledged.len() as u64).checked_sub(1) {
                for _ in 0..=self.random.below(3) {
                    let again = &sent.acknowledged[self.random.below(last + 1) as usize];
                    batch.insert(self.random.below(batch.len() as u64) as usize, again.clone());
                    repeated += 1;
                }
            }
        }
        let answer = self.daemon.try_post("/v1/events", &[], json!(batch).to_string().as_bytes());
        let mut sent = self.sent.lock().unwrap();
        let Ok(answer) = answer else {
            sent.unknown.extend(new);
            return false;
        };
        assert_eq!(answer.status, 200, "{}", answer.body);
        let receipt = answer.json();
        assert_eq!((&receipt["accepted"], &receipt["duplicates"]), (&json!(new.len()), &json!(repeated)), "{receipt}");
        sent.fresh += new.len();
        sent.acknowledged.extend(new);
        true
    }

    fn change_item(&mut self) -> bool {
        let price = self.id() as f64;
        let category = format!("shelf{}", self.random.below(9));
        let item = json!({ "price": price, "categories": [category], "available": self.random.below(4) > 0 });
        let path = format!("/v1/items/item{}", self.random.below(ITEMS));
        let Ok(answer) = self.daemon.try_request("PUT", &path, &item.to_string()) else { return false };
        assert_eq!(answer.status, 200, "{}", answer.body);
        let mut sent = self.sent.lock().unwrap();
        sent.prices.push(price);
        sent.fresh += 1;
        true
    }

    /// A visitor signs in; now and then as a user who is to sign in, too, or two users turn out to
    /// be one.
    fn merge(&mut self) -> bool {
        let from = if self.random.below(30) == 0 { self.user() } else { self.visitor() };
        let into = if self.random.below(6) == 0 { self.visitor() } else { self.user() };
        if from == into {
            return true;
        }
        let answer = self.daemon.try_request("POST", &format!("/v1/users/{into}/merge"), &json!({ "from": from }).to_string());
        let mut sent = self.sent.lock().unwrap();
        let Ok(answer) = answer else {
            sent.merged.push((from, false));
            return false;
        };
        assert_eq!(answer.status, 200, "{}", answer.body);
        let is_new = answer.json()["accepted"] == 1;
        sent.fresh += usize::from(is_new);
        sent.merged.push((from, is_new));
        true
    }

    /// A list, which leaves an impression in the journal.
    fn ask(&mut self) -> bool {
        let path = format!("/v1/users/user{}/recommendations", self.random.below(USERS));
        let answer = self.daemon.try_request("GET", &path, "");
        answer.is_ok_and(|HttpResponse { status, body, .. }| {
            assert_eq!(status, 200, "{body}");
            true
        })
    }
}

/// Has the store written anew again and again, until no answer comes any more. Says how often it
/// was.
fn compact(daemon: &Daemon) -> u64 {
    let mut compacted = 0;
    while let Ok(answer) = daemon.try_admin_request("POST", "/admin/store/compact", "{}") {
        assert_eq!(answer.status, 200, "{}", answer.body);
        compacted += 1;
    }
    compacted
}

/// Sends to a daemon until it is killed, at a moment that nothing agrees with. Says how often its
/// store was written anew.
fn disturb(daemon: Daemon, round: u64, random: &mut TestRng, next_id: &AtomicU64, sent: &Mutex<Sent>) -> u64 {
    sent.lock().unwrap().fresh = 0;
    let compacted = thread::scope(|scope| {
        for sender in 0..SENDERS {
            let random = TestRng(round * SENDERS + sender);
            let mut sender = Sender { daemon: &daemon, random, next_id, sent };
            scope.spawn(move || sender.run());
        }
        // Every other time it dies while the store is being written anew, or just was.
        let compacting = round.is_multiple_of(2).then(|| scope.spawn(|| compact(&daemon)));
        // Every fourth time the kill may fall before anything was taken.
        wait_for("a first receipt", || (round % 4 == 3 || sent.lock().unwrap().fresh > 0).then_some(()));
        // Every tenth one lives long enough to store sessions, which happens once a second.
        let longer = if round % 10 == 6 { 900_000 } else { 0 };
        thread::sleep(Duration::from_micros(longer + random.below(120_000 + longer / 3)));
        daemon.signal("KILL");
        compacting.map_or(0, |compacting| compacting.join().unwrap())
    });
    daemon.kill();
    compacted
}

/// Reads what a killed daemon left: nothing that was there before has changed, all that was
/// acknowledged is there once, and nothing is there that nobody sent.
fn examine(home: &DaemonHome, before: &JournalDump, sent: &Sent) -> JournalDump {
    let ledger = JournalDump::read(&home.data_dir());
    assert!(ledger.entries.starts_with(&before.entries), "the journal's past is another");
    let counts = ledger.event_ids();
    let id = |event: &Value| event["event_id"].as_str().unwrap().to_owned();
    for event in &sent.acknowledged {
        assert_eq!(counts.get(id(event).as_str()), Some(&1), "acknowledged: {event}");
    }
    let known: HashSet<_> = sent.acknowledged.iter().chain(&sent.unknown).map(id).collect();
    for (id, count) in &counts {
        assert!(*count == 1 && known.contains(*id), "{id}, {count} times");
    }
    let prices = ledger.prices();
    for price in &sent.prices {
        assert_eq!(prices.iter().filter(|found| *found == price).count(), 1, "an acknowledged change of an item, to {price}");
    }
    // Who was merged is merged once, and stands in no entry after that.
    let mut merged = HashSet::new();
    for entry in &ledger.entries {
        let (user, from) = match entry {
            Entry::Event(event) => (&event.user_id, None),
            Entry::Impression(impression) => (&impression.user_id, None),
            Entry::Merge(merge) => (&merge.into, Some(&merge.from)),
            _ => continue,
        };
        assert!(!merged.contains(user), "{user} was merged before {entry:?}");
        assert!(from.is_none_or(|from| merged.insert(from)), "merged twice: {entry:?}");
    }
    let asked: HashSet<_> = sent.merged.iter().map(|(from, _)| from).collect();
    assert!(merged.is_subset(&asked), "merged unasked: {:?}", merged.difference(&asked));
    for (from, is_acknowledged) in &sent.merged {
        assert!(!is_acknowledged || merged.contains(from), "acknowledged: {from} was merged");
    }
    drop(merged);
    ledger
}

/// The newest checkpoint of a daemon that was asked to stop, which holds all of the journal.
fn checkpoint(home: &DaemonHome, entries: u64) -> Vec<u8> {
    let path: PathBuf = home.data_dir().join(format!("checkpoints/{entries:020}.checkpoint"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn whenever_it_is_killed_nothing_acknowledged_is_lost_and_all_that_is_known_is_a_fold_of_the_journal() {
    let rounds: u64 = std::env::var("SEQUOR_CRASH_ROUNDS").map_or(50, |rounds| rounds.parse().unwrap());
    let home = DaemonHome::new();
    let mut random = TestRng(5);
    let next_id = AtomicU64::new(1);
    let sent = Mutex::new(Sent::default());
    let mut ledger = JournalDump { entries: Vec::new() };
    let mut compacted = 0;
    for round in 0..rounds {
        // Now and then it dies while it is still reading what the last one left.
        if random.below(4) == 0 {
            home.kill_during_start(&SETTINGS, Duration::from_micros(random.below(60_000)));
        }
        compacted += disturb(home.start(&SETTINGS), round, &mut random, &next_id, &sent);
        ledger = examine(&home, &ledger, &sent.lock().unwrap());
    }

    let merges = ledger.entries.iter().filter(|entry| matches!(entry, Entry::Merge(_))).count();
    assert!(merges as u64 >= rounds / 2, "there were only {merges} merges");
    assert!(compacted >= rounds / 5, "the store was written anew only {compacted} times");

    let daemon = home.start(&SETTINGS);
    let Sent { acknowledged, unknown, .. } = sent.into_inner().unwrap();
    for batch in acknowledged.chunks(500) {
        assert_eq!(daemon.send_events(batch)["duplicates"], batch.len(), "an acknowledged event is gone");
    }
    // What is not known to be there is taken if it is not, as a sender would try again.
    for batch in unknown.chunks(500) {
        daemon.send_events(batch);
    }
    let entries = daemon.next_offset();
    daemon.wait_until_learned(entries);
    assert!(daemon.status()["catalog"]["clusters"].as_u64() > Some(1) || rounds < 10, "too little was learned: {}", daemon.status());
    assert_eq!(daemon.terminate().code(), Some(0));

    // A twin that has nothing but the journal, and folds it without any interruption.
    let ledger = JournalDump::read(&home.data_dir());
    assert_eq!(ledger.entries.len() as u64, entries);
    let twin_home = DaemonHome::new();
    ledger.write_to(&twin_home.data_dir());
    let twin = twin_home.start(&SETTINGS);
    twin.wait_until_learned(entries);
    assert_eq!(twin.terminate().code(), Some(0));
    let (found, expected) = (checkpoint(&home, entries), checkpoint(&twin_home, entries));
    let differ = expected.iter().zip(&found).position(|(expected, found)| expected != found);
    assert_eq!((found.len(), differ), (expected.len(), None), "the first byte that differs of what was learned");

    same_answers(&home.start(&SETTINGS), &twin_home.start(&SETTINGS));
}

/// Two daemons that have learned the same answer everybody alike, once hidden states of older
/// weights are too old to be gone on with.
fn same_answers(daemon: &Daemon, twin: &Daemon) {
    for border in 0..12 {
        let passes = |number: u64| {
            let at = 1_700_000_000_000 + (border * 64 + number) * 1000;
            json!({ "user_id": "passer-by", "type": "view", "item_id": format!("item{}", number * 3 % ITEMS), "timestamp": at })
        };
        let events: Vec<_> = (0..64).map(passes).collect();
        for daemon in [daemon, twin] {
            assert_eq!(daemon.send_events(&events)["accepted"], 64);
            daemon.wait_until_learned(daemon.next_offset());
        }
    }
    for user in 0..USERS {
        let path = format!("/v1/users/user{user}/recommendations?limit=50");
        let [found, expected] = [daemon, twin].map(|daemon| {
            let before = daemon.next_offset();
            let answer = daemon.get(&path);
            // What is popular fades with the journal, so the next one is asked only behind this
            // one's impression.
            daemon.wait_until_learned(before + 1);
            answer.json()["items"].clone()
        });
        assert_eq!(found, expected, "what is recommended to user{user}");
    }
}
