//! Live updates.

use sequor_client::{ClientOptions, Event, ListOptions, RetryPolicy, SequorClient};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::{Daemon, FaultProxy};

#[test]
fn a_stream_has_a_new_list_after_each_event_and_after_a_kill() {
    let Some(mut daemon) = Daemon::start(&[]) else { return };
    let retry = RetryPolicy {
        attempts: None,
        base_delay: Duration::from_millis(10),
        max_delay: Duration::from_millis(50),
        ..RetryPolicy::default()
    };
    let client = SequorClient::new(&daemon.url(), ClientOptions { retry, ..ClientOptions::default() }).unwrap();
    let mut lists = client.stream_recommendations("stream-1", &ListOptions::default().limit(5)).unwrap();
    let first = lists.next().unwrap().unwrap();
    assert_ne!(first.fallback, "none");
    let receipt = client.send_events(&[Event::new("stream-1", "view").item_id("tea")]).unwrap();
    let second = lists.next().unwrap().unwrap();
    assert!(second.offset.is_some());
    assert_eq!(second.offset, receipt.offset);
    daemon.kill();
    daemon.start_again();
    let third = lists.next().unwrap().unwrap();
    assert_ne!(second.recommendation_id, third.recommendation_id);
}

#[test]
fn a_stream_that_the_daemon_refuses_ends_with_an_error() {
    let Some(daemon) = Daemon::start(&[]) else { return };
    let client = SequorClient::new(&daemon.url(), ClientOptions::default()).unwrap();
    let mut lists = client.stream_recommendations("stream-2", &ListOptions::default().limit(0)).unwrap();
    let error = lists.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), Some("/problems/out-of-range"));
    assert!(lists.next().is_none());
}

#[test]
fn a_stream_waits_as_the_policy_says() {
    let Some(daemon) = Daemon::start(&[]) else { return };
    let proxy = FaultProxy::start(&daemon.url());
    proxy.plan(&json!([{ "status": 503, "retry_after": "3" }, { "status": 503 }, { "status": 503 }]));
    let delays = Arc::new(Mutex::new(Vec::new()));
    let mut options = ClientOptions::default();
    options.retry.attempts = Some(3);
    options.environment.random = Arc::new(|| 0.5);
    options.environment.sleep = Some(Arc::new({
        let delays = Arc::clone(&delays);
        move |delay: Duration| delays.lock().unwrap().push(delay.as_millis())
    }));
    let client = SequorClient::new(proxy.url(), options).unwrap();
    let mut lists = client.stream_recommendations("stream-3", &ListOptions::default()).unwrap();
    assert_eq!(lists.next().unwrap().unwrap_err().status(), Some(503));
    // The seconds of the header and half of 0.2 s, then half of 0.4 s.
    assert_eq!(*delays.lock().unwrap(), [3100, 200]);
}
