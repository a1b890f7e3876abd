//! When the buffer sends, what it does if it is full, and what it loses.

use super::*;
use std::sync::mpsc;

/// A generous limit for waits. No test is faster or slower with another limit, unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);
const NEVER: Duration = Duration::from_secs(3600);

fn view(user_id: &str) -> Event {
    Event::new(user_id, "view").item_id("tea")
}

fn options() -> BufferOptions {
    BufferOptions { flush_interval: NEVER, ..BufferOptions::default() }
}

/// A buffer that sends its batches to a gate. Each batch waits until the test opens the gate once.
struct GatedBuffer {
    buffer: EventBuffer,
    started: mpsc::Receiver<usize>,
    gate: mpsc::Sender<Result<Receipt, SequorError>>,
}

impl GatedBuffer {
    fn new(options: BufferOptions) -> Self {
        let (start, started) = mpsc::channel();
        let (gate, opened) = mpsc::channel();
        let opened = Mutex::new(opened);
        let send = move |events: &[Event], _: &dyn Fn(Duration) -> bool| {
            start.send(events.len()).unwrap();
            opened.lock().unwrap().recv_timeout(PATIENCE).unwrap()
        };
        Self { buffer: EventBuffer::new(options, Box::new(send)).unwrap(), started, gate }
    }

    fn accept(&self, accepted: u64) {
        self.gate.send(Ok(Receipt { accepted, ..Receipt::default() })).unwrap();
    }

    fn next_batch_len(&self) -> usize {
        self.started.recv_timeout(PATIENCE).unwrap()
    }
}

#[test]
fn a_full_queue_blocks_until_a_batch_is_stored() {
    let gated = GatedBuffer::new(BufferOptions { max_batch: 2, capacity: 2, ..options() });
    gated.buffer.add(view("block")).unwrap();
    gated.buffer.add(view("block")).unwrap();
    assert_eq!(gated.next_batch_len(), 2);
    thread::scope(|scope| {
        let blocked = scope.spawn(|| gated.buffer.add(view("block")).unwrap());
        // The queue holds the two events of the batch until they are stored.
        assert_eq!(gated.buffer.stats().queued, 2);
        assert!(!blocked.is_finished());
        gated.accept(2);
        assert!(blocked.join().unwrap());
    });
    gated.accept(1);
    gated.buffer.close();
    assert_eq!(gated.next_batch_len(), 1);
    let stats = gated.buffer.stats();
    assert_eq!((stats.accepted, stats.dropped, stats.queued), (3, 0, 0));
}

#[test]
fn a_full_queue_drops_and_counts_if_told_so() {
    let when_full = WhenFull::Drop;
    let gated = GatedBuffer::new(BufferOptions { max_batch: 2, capacity: 2, when_full, ..options() });
    let taken: Vec<_> = (0..5).map(|_| gated.buffer.add(view("drop")).unwrap()).collect();
    assert_eq!(taken, [true, true, false, false, false]);
    assert_eq!(gated.buffer.stats().dropped, 3);
    gated.accept(2);
    gated.buffer.close();
    let stats = gated.buffer.stats();
    assert_eq!((stats.accepted, stats.queued, stats.dropped), (2, 0, 3));
}

#[test]
fn events_that_are_not_sent_at_close_are_reported() {
    let lost = Arc::new(Mutex::new(Vec::new()));
    let on_lost: OnLost = Arc::new({
        let lost = Arc::clone(&lost);
        move |events, error| lost.lock().unwrap().push((events.to_vec(), error.to_string()))
    });
    let close_timeout = Duration::from_millis(10);
    let gated = GatedBuffer::new(BufferOptions { max_batch: 2, close_timeout, on_lost, ..options() });
    let events: Vec<_> = (0..3).map(|_| view("lost")).collect();
    events.iter().for_each(|event| assert!(gated.buffer.add(event.clone()).unwrap()));
    assert_eq!(gated.next_batch_len(), 2);
    gated.buffer.close();
    gated.accept(2);
    assert_eq!(*lost.lock().unwrap(), [(events, "not sent within 10ms after close".to_owned())]);
    let stats = gated.buffer.stats();
    assert_eq!((stats.accepted, stats.failed, stats.queued), (0, 3, 0));
    assert_eq!(gated.buffer.add(view("lost")).unwrap_err().to_string(), "the client is closed");
}

#[test]
fn a_retry_ends_when_the_batch_is_given_up() {
    let (ended, end) = mpsc::channel();
    let (start, started) = mpsc::channel();
    let send = move |_: &[Event], sleep: &dyn Fn(Duration) -> bool| {
        start.send(()).unwrap();
        ended.send(sleep(NEVER)).unwrap();
        Err(SequorError::Closed)
    };
    let close_timeout = Duration::from_millis(10);
    let buffer = EventBuffer::new(BufferOptions { max_batch: 1, close_timeout, ..options() }, Box::new(send)).unwrap();
    buffer.add(view("retry")).unwrap();
    started.recv_timeout(PATIENCE).unwrap();
    buffer.close();
    assert!(!end.recv_timeout(PATIENCE).unwrap());
}

#[test]
fn flush_waits_for_all_events_or_the_timeout() {
    let gated = GatedBuffer::new(options());
    gated.buffer.add(view("flush")).unwrap();
    assert!(!gated.buffer.flush(Duration::from_millis(10)));
    gated.accept(1);
    assert!(gated.buffer.flush(PATIENCE));
    assert_eq!(gated.buffer.stats().accepted, 1);
    assert!(gated.buffer.flush(Duration::ZERO), "there is nothing to send");
}

#[test]
fn an_incomplete_batch_is_sent_after_the_interval() {
    let gated = GatedBuffer::new(BufferOptions { flush_interval: Duration::from_millis(1), ..options() });
    gated.buffer.add(view("interval")).unwrap();
    assert_eq!(gated.next_batch_len(), 1);
    gated.accept(1);
}

#[test]
fn panics_and_refusals_do_not_stop_the_thread() {
    let on_lost: OnLost = Arc::new(|_, _| panic!("a defect of the program"));
    let gated = GatedBuffer::new(BufferOptions { max_batch: 1, on_lost, ..options() });
    for _ in 0..2 {
        gated.buffer.add(view("fail")).unwrap();
        assert_eq!(gated.next_batch_len(), 1);
        gated.gate.send(Err(SequorError::Closed)).unwrap();
    }
    assert!(gated.buffer.flush(PATIENCE));
    assert_eq!(gated.buffer.stats().failed, 2);
}

#[test]
fn invalid_options_are_errors() {
    for (max_batch, capacity) in [(0, 10), (11, 10)] {
        let options = BufferOptions { max_batch, capacity, ..options() };
        let send = |_: &[Event], _: &dyn Fn(Duration) -> bool| Ok(Receipt::default());
        let error = EventBuffer::new(options, Box::new(send)).err().unwrap().to_string();
        assert_eq!(error, format!("max_batch is {max_batch}; it must be 1 to capacity (10)"));
    }
}
