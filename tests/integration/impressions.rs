//! Impressions cost little: they share journal writes and snapshots.

use std::time::{Duration, Instant};

use crate::daemon::{Daemon, DaemonHome, view_event, wait_for};

/// Upper bound on how often an action runs during `elapsed`, if it runs at most once per
/// `interval`. Both ends of the time span can add one run.
fn at_most(elapsed: Duration, interval: Duration) -> f64 {
    (elapsed.as_millis() / interval.as_millis()) as f64 + 2.0
}

/// Starts a daemon that has learned three events in total, of two users.
fn start_with_three_events(home: &DaemonHome) -> Daemon {
    let daemon = home.start(&[]);
    daemon.send_events(&[
        view_event("e1", "ann", "tea"),
        view_event("e2", "bob", "cup"),
        view_event("e3", "ann", "pot"),
    ]);
    daemon.wait_until_learned(3);
    daemon
}

#[test]
fn impressions_share_journal_writes_and_snapshots() {
    let home = DaemonHome::new();
    let daemon = start_with_three_events(&home);
    let counts = || {
        (
            daemon.metric_value("sequor_commit_seconds_count"),
            daemon.metric_value("sequor_snapshot_publish_seconds_count"),
        )
    };
    let (began, before) = (Instant::now(), counts());
    for _ in 0..200 {
        assert!(!daemon.recommended_items("ann").is_empty());
    }
    wait_for("the impressions", || (daemon.next_offset() == 203).then_some(()));
    daemon.wait_until_learned(203);
    let (elapsed, after) = (began.elapsed(), counts());
    let (commits, snapshots) = (after.0 - before.0, after.1 - before.1);
    assert!(commits <= at_most(elapsed, Duration::from_millis(50)), "{commits} commits in {elapsed:?}");
    assert!(snapshots <= at_most(elapsed, Duration::from_millis(200)), "{snapshots} snapshots in {elapsed:?}");
}

#[test]
fn a_stop_stores_and_learns_the_last_impressions() {
    let home = DaemonHome::new();
    let daemon = start_with_three_events(&home);
    let list = daemon.get("/v1/users/ann/recommendations");
    assert!(!list.item_ids().is_empty());
    assert!(daemon.terminate().success());
    let daemon = home.start(&[]);
    assert_eq!(daemon.next_offset(), 4);
    daemon.wait_until_learned(4);
    assert_eq!(daemon.metric_value("sequor_impressions_lost_total"), 0.0);
}

#[test]
fn a_click_follows_its_impression_in_the_journal() {
    let home = DaemonHome::new();
    let daemon = start_with_three_events(&home);
    let list = daemon.get("/v1/users/ann/recommendations");
    let first = list.item_ids().into_iter().next().unwrap();
    // The event is sent immediately, before the impression is committed.
    daemon.send_events(&[view_event("e4", "ann", &first)]);
    assert_eq!(daemon.next_offset(), 5, "the event's commit includes the impression");
    wait_for("the click", || (daemon.metric_sum("sequor_credited_choices_total") == 1.0).then_some(()));
}
