//! Fake events: how far a client with a write key can push an item into the lists of others.
//!
//! Regression test: 500 events in one second put an unknown item at rank 1 of the lists of all
//! users, of new users and of the trending items.

use serde_json::{Value, json};

use crate::daemon::{Daemon, DaemonHome};
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
        for batch in events.chunks(500) {
            assert_eq!(self.daemon.send_events(batch)["accepted"], batch.len() as u64);
            self.sent += batch.len() as u64;
            // The daemon rejects events while learning is too far behind.
            self.daemon.wait_until_learned(self.sent);
        }
    }

    /// Visits of regular users. Each user prefers different items.
    fn organic(&mut self, count: usize) {
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
        self.send(&events);
    }

    /// Sends events of `users` fake users. In turn, each views `context` popular items and then the
    /// item `target`.
    fn attack(&mut self, target: &str, users: usize, context: usize, targets: usize) {
        let mut events = Vec::new();
        for number in 0..targets {
            let user = format!("fake-{target}-{}", number % users);
            for _ in 0..context {
                let item = format!("item{}", self.random.number_below(ITEMS));
                events.push(self.view(&user, &item, 1));
            }
            events.push(self.view(&user, target, 1));
        }
        self.send(&events);
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
