//! A daemon that is killed under load has every event once.

use sequor_client::{BufferOptions, ClientOptions, Event, RetryPolicy, SequorClient};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::harness::{Daemon, PATIENCE, wait_until};

const EVENTS: u64 = 3000;

/// Kills the daemon once it has acknowledged events, starts it again, and compares the journal with
/// the tracked events.
fn check_kill_after(accepted: u64) {
    let Some(daemon) = Daemon::start(&[]) else { return };
    let retry = RetryPolicy {
        base_delay: Duration::from_millis(10),
        max_delay: Duration::from_millis(100),
        ..RetryPolicy::default()
    };
    let buffer = BufferOptions {
        max_batch: 50,
        flush_interval: Duration::from_millis(50),
        capacity: 200,
        close_timeout: PATIENCE,
        ..BufferOptions::default()
    };
    let client = SequorClient::new(&daemon.url(), ClientOptions { retry, buffer, ..ClientOptions::default() }).unwrap();
    let daemon = Mutex::new(daemon);
    let events: Vec<_> = (0..EVENTS)
        .map(|number| Event::new(format!("u{}", number % 100), "view").item_id(format!("i{}", number % 500)))
        .collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            wait_until("the daemon acknowledges events", || client.stats().accepted >= accepted);
            let mut daemon = daemon.lock().unwrap();
            daemon.kill();
            daemon.start_again();
        });
        events.iter().for_each(|event| assert!(client.track(event.clone()).unwrap()));
    });
    client.close();
    let stats = client.stats();
    assert_eq!((stats.accepted + stats.duplicates, stats.failed, stats.dropped), (EVENTS, 0, 0), "{stats:?}");
    let mut daemon = daemon.into_inner().unwrap();
    daemon.stop();
    let exported = daemon.exported_event_ids();
    let tracked = events.into_iter().map(|event| (event.event_id, 1)).collect();
    assert_eq!(exported, tracked);
}

#[test]
fn events_survive_a_kill_after_the_first_batch() {
    check_kill_after(50);
}

#[test]
fn events_survive_a_kill_under_load() {
    check_kill_after(1000);
}
