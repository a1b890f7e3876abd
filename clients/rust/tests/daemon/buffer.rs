//! The buffer with a daemon: what it sends, when, and what a closed client refuses.

use sequor_client::{BufferOptions, ClientOptions, Event, SequorClient, SequorError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::{Daemon, wait_until};

const NEVER: Duration = Duration::from_secs(3600);

fn client(daemon: &Daemon, buffer: BufferOptions) -> SequorClient {
    SequorClient::new(&daemon.url(), ClientOptions { buffer, ..ClientOptions::default() }).unwrap()
}

fn view(user_id: &str) -> Event {
    Event::new(user_id, "view").item_id("tea")
}

#[test]
fn batches_are_sent_by_size_by_time_and_at_the_drop() {
    let Some(daemon) = Daemon::start(&[]) else { return };
    let by_size = client(&daemon, BufferOptions { max_batch: 3, flush_interval: NEVER, ..BufferOptions::default() });
    (0..3).for_each(|_| assert!(by_size.track(view("size")).unwrap()));
    wait_until("the batch is stored", || by_size.stats().accepted == 3);
    assert_eq!(daemon.stored_event_ids("size").len(), 3);

    let by_time =
        client(&daemon, BufferOptions { flush_interval: Duration::from_millis(10), ..BufferOptions::default() });
    by_time.track(view("time")).unwrap();
    wait_until("the event is stored", || by_time.stats().accepted == 1);

    let at_drop = client(&daemon, BufferOptions { flush_interval: NEVER, ..BufferOptions::default() });
    at_drop.track(view("drop")).unwrap();
    drop(at_drop);
    assert_eq!(daemon.stored_event_ids("drop").len(), 1);
}

#[test]
fn a_closed_client_tracks_nothing_and_still_answers() {
    let Some(daemon) = Daemon::start(&[]) else { return };
    let client = client(&daemon, BufferOptions { flush_interval: NEVER, ..BufferOptions::default() });
    client.track(view("close")).unwrap();
    client.close();
    assert_eq!(daemon.stored_event_ids("close").len(), 1);
    assert!(matches!(client.track(view("close")), Err(SequorError::Closed)));
    assert_eq!(client.send_events(&[view("close")]).unwrap().accepted, 1);
}

#[test]
fn an_event_without_a_time_gets_the_time_at_which_it_was_tracked() {
    let Some(mut daemon) = Daemon::start(&[]) else { return };
    let mut options = ClientOptions::default();
    // 2023-11-14T22:13:20.500Z
    let past = std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_500);
    options.environment.now = std::sync::Arc::new(move || past);
    let client = SequorClient::new(&daemon.url(), options).unwrap();
    client.track(view("stamp")).unwrap();
    client.close();
    daemon.stop();
    assert_eq!(daemon.exported_events()[0]["timestamp"], 1_700_000_000_500_u64);
}

#[test]
fn a_daemon_that_hangs_at_close_may_have_the_events_which_are_safe_to_send_again() {
    let Some(daemon) = Daemon::start(&[]) else { return };
    let reports = Arc::new(Mutex::new(Vec::new()));
    let on_lost = {
        let reports = Arc::clone(&reports);
        move |events: &[Event], error: &SequorError| reports.lock().unwrap().push((events.to_vec(), error.to_string()))
    };
    let close_timeout = Duration::from_millis(300);
    let options = BufferOptions { max_batch: 1, close_timeout, on_lost: Arc::new(on_lost), ..BufferOptions::default() };
    let closing = client(&daemon, options);
    daemon.pause();
    closing.track(view("hang")).unwrap();
    closing.close();
    daemon.resume();
    let reports = reports.lock().unwrap();
    let [(events, error)] = reports.as_slice() else { panic!("{} reports", reports.len()) };
    assert!(error.contains("the daemon may have stored the events"), "{error}");
    let stats = closing.stats();
    assert_eq!((stats.queued, stats.accepted, stats.failed), (0, 0, 1));
    let again = closing.send_events(events).unwrap();
    assert_eq!(again.accepted + again.duplicates, 1);
    assert_eq!(daemon.stored_event_ids("hang").len(), 1);
}
