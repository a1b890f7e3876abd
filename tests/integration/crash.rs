//! Many senders at once, and a daemon that is killed in the midst of it, again and again.
//!
//! `SEQUOR_CRASH_ROUNDS` says how often (10 unless set).

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Daemon, Home, event, until};
use crate::random::Random;

const SENDERS: u64 = 4;

/// What the senders of one round know when the daemon is gone.
#[derive(Default)]
struct Sent {
    /// A receipt came: these must be there.
    acknowledged: Vec<Value>,
    /// No receipt came: these may be there or not.
    unknown: Vec<Value>,
}

/// Sends batches of new events until no answer comes any more.
fn send_until_death(daemon: &Daemon, sender: u64, next_id: &AtomicU64, sent: &Mutex<Sent>) {
    let mut random = Random(sender);
    loop {
        let size = 1 + random.below(20);
        let batch: Vec<_> = (0..size)
            .map(|_| {
                let id = next_id.fetch_add(1, Ordering::Relaxed);
                event(&format!("e{id}"), &format!("user{}", random.below(50)), &format!("item{}", random.below(200)))
            })
            .collect();
        let answer = daemon.try_post("/v1/events", &[], json!(batch).to_string().as_bytes());
        let mut sent = sent.lock().unwrap();
        match answer {
            Ok(answer) if answer.status == 200 => {
                assert_eq!(answer.json()["accepted"], size, "{}", answer.body);
                sent.acknowledged.extend(batch);
            }
            Ok(answer) => panic!("{} {}", answer.status, answer.body),
            Err(_) => {
                sent.unknown.extend(batch);
                return;
            }
        }
    }
}

#[test]
fn every_acknowledged_event_is_there_exactly_once() {
    let rounds: u64 = std::env::var("SEQUOR_CRASH_ROUNDS").map_or(10, |rounds| rounds.parse().unwrap());
    let settings = ["learning.interval=64", "store.checkpoint_every=500"];
    let home = Home::new();
    let mut random = Random(5);
    let next_id = AtomicU64::new(0);
    let mut known: Vec<Value> = Vec::new();
    for round in 0..rounds {
        let daemon = home.start(&settings);
        let sent = Mutex::new(Sent::default());
        thread::scope(|scope| {
            for sender in 0..SENDERS {
                let (daemon, next_id, sent) = (&daemon, &next_id, &sent);
                scope.spawn(move || send_until_death(daemon, round * SENDERS + sender, next_id, sent));
            }
            // Every other time the kill may fall before anything was taken.
            let something_taken = || round % 2 == 1 || !sent.lock().unwrap().acknowledged.is_empty();
            until("a first receipt", || something_taken().then_some(()));
            thread::sleep(Duration::from_micros(random.below(400_000)));
            daemon.signal("KILL");
        });
        daemon.kill();
        let Sent { acknowledged, unknown } = sent.into_inner().unwrap();

        let daemon = home.start(&settings);
        for batch in acknowledged.chunks(500) {
            assert_eq!(daemon.send(batch)["duplicates"], batch.len(), "round {round}: an acknowledged event is gone");
        }
        for batch in unknown.chunks(500) {
            daemon.send(batch);
        }
        known.extend(acknowledged.into_iter().chain(unknown));
        let distinct: BTreeSet<_> = known.iter().map(|event| event["event_id"].as_str().unwrap()).collect();
        assert_eq!(distinct.len(), known.len());
        assert_eq!(daemon.next_offset(), known.len() as u64, "round {round}: an event is there more than once");
        daemon.learned(known.len() as u64);
        daemon.assert_healthy();
        // Half of the rounds end without any farewell, too.
        if round % 2 == 0 {
            daemon.kill();
        } else {
            assert_eq!(daemon.terminate().code(), Some(0));
        }
    }
    let daemon = home.start(&settings);
    for batch in known.chunks(500) {
        assert_eq!(daemon.send(batch)["duplicates"], batch.len());
    }
    assert_eq!(daemon.next_offset(), known.len() as u64);
}
