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

/// Reports to `on_lost`: the events and the error.
type Reports = Arc<Mutex<Vec<(Vec<Event>, String)>>>;

fn recorder() -> (Reports, OnLost) {
    let reports = Reports::default();
    let on_lost: OnLost = Arc::new({
        let reports = Arc::clone(&reports);
        move |events, error| reports.lock().unwrap().push((events.to_vec(), error.to_string()))
    });
    (reports, on_lost)
}

#[test]
fn events_that_are_not_sent_at_close_are_reported_once_and_those_in_flight_as_unknown() {
    let (reports, on_lost) = recorder();
    let close_timeout = Duration::from_millis(10);
    let gated = GatedBuffer::new(BufferOptions { max_batch: 2, close_timeout, on_lost, ..options() });
    let events: Vec<_> = (0..3).map(|_| view("lost")).collect();
    events.iter().for_each(|event| assert!(gated.buffer.add(event.clone()).unwrap()));
    assert_eq!(gated.next_batch_len(), 2);
    gated.buffer.close();
    let unknown = "no response within 10ms after close: the daemon may have stored the events. \
        It is safe to send them again with the same `event_id`.";
    let expected = [
        (events[..2].to_vec(), unknown.to_owned()),
        (events[2..].to_vec(), "not sent within 10ms after close".to_owned()),
    ];
    assert_eq!(*reports.lock().unwrap(), expected);
    // The response that arrives later changes nothing.
    gated.accept(2);
    gated.buffer.close();
    assert_eq!(reports.lock().unwrap().len(), 2);
    let stats = gated.buffer.stats();
    assert_eq!((stats.accepted, stats.failed, stats.queued), (0, 3, 0));
    assert_eq!(gated.buffer.add(view("lost")).unwrap_err().to_string(), "the client is closed");
}

/// A buffer that refuses the first batch and accepts the others. `on_lost` gets the buffer. Returns
/// the result of `on_lost`.
fn call_in_on_lost<T: Send + 'static>(
    buffer_options: BufferOptions,
    call: impl Fn(&EventBuffer) -> T + Send + Sync + 'static,
) -> (Arc<EventBuffer>, T) {
    let slot: Arc<Mutex<Option<Arc<EventBuffer>>>> = Arc::default();
    let (result, results) = mpsc::channel();
    let result = Mutex::new(result);
    let on_lost: OnLost = Arc::new({
        let slot = Arc::clone(&slot);
        move |_, _| {
            let buffer = slot.lock().unwrap().clone().unwrap();
            result.lock().unwrap().send(call(&buffer)).unwrap();
        }
    });
    let is_first = Mutex::new(true);
    let send = move |events: &[Event], _: &dyn Fn(Duration) -> bool| {
        if std::mem::take(&mut *is_first.lock().unwrap()) {
            return Err(SequorError::invalid("refused"));
        }
        Ok(Receipt { accepted: events.len() as u64, ..Receipt::default() })
    };
    let buffer = EventBuffer::new(BufferOptions { max_batch: 1, on_lost, ..buffer_options }, Box::new(send)).unwrap();
    let buffer = Arc::new(buffer);
    *slot.lock().unwrap() = Some(Arc::clone(&buffer));
    buffer.add(view("call")).unwrap();
    let result = results.recv_timeout(PATIENCE).expect("on_lost does not return");
    (buffer, result)
}

#[test]
fn on_lost_can_track_and_a_full_queue_drops_its_events() {
    let capacity = 2;
    let (buffer, queued) = call_in_on_lost(BufferOptions { capacity, ..options() }, |buffer| {
        [(); 3].map(|()| buffer.add(view("call")).unwrap())
    });
    assert_eq!(queued, [true, true, false]);
    buffer.close();
    let stats = buffer.stats();
    assert_eq!((stats.accepted, stats.failed, stats.dropped, stats.queued), (2, 1, 1, 0));
}

#[test]
fn a_flush_in_on_lost_does_not_wait_for_its_own_thread() {
    let (buffer, is_flushed) = call_in_on_lost(options(), |buffer| {
        buffer.add(view("call")).unwrap();
        buffer.flush(NEVER)
    });
    assert!(!is_flushed);
    buffer.close();
    assert_eq!(buffer.stats().accepted, 1);
}

#[test]
fn a_close_in_on_lost_sends_the_rest() {
    let (buffer, is_refused) = call_in_on_lost(BufferOptions { close_timeout: NEVER, ..options() }, |buffer| {
        buffer.add(view("call")).unwrap();
        buffer.close();
        buffer.add(view("call")).is_err()
    });
    assert!(is_refused);
    // Another call waits until the rest is sent.
    buffer.close();
    let stats = buffer.stats();
    assert_eq!((stats.accepted, stats.failed, stats.queued), (1, 1, 0));
}

#[test]
fn a_close_in_on_lost_gives_up_after_its_time() {
    let (reports, on_lost) = recorder();
    let slot: Arc<Mutex<Option<Arc<EventBuffer>>>> = Arc::default();
    let close: OnLost = Arc::new({
        let slot = Arc::clone(&slot);
        move |events, error| {
            on_lost(events, error);
            slot.lock().unwrap().clone().unwrap().close();
        }
    });
    let close_timeout = Duration::from_millis(10);
    let buffer_options = BufferOptions { max_batch: 1, close_timeout, on_lost: close, ..options() };
    // The second batch waits for a retry without end.
    let is_first = Mutex::new(true);
    let send = move |_: &[Event], sleep: &dyn Fn(Duration) -> bool| {
        let is_retried = !std::mem::take(&mut *is_first.lock().unwrap());
        assert!(!is_retried || !sleep(NEVER));
        Err(SequorError::invalid("refused"))
    };
    let buffer = Arc::new(EventBuffer::new(buffer_options, Box::new(send)).unwrap());
    *slot.lock().unwrap() = Some(Arc::clone(&buffer));
    let _ = [(); 2].map(|()| buffer.add(view("call")));
    let end = std::time::Instant::now() + PATIENCE;
    while reports.lock().unwrap().len() < 2 && std::time::Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
    }
    let errors: Vec<_> = reports.lock().unwrap().iter().map(|(_, error)| error.clone()).collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert_eq!((buffer.stats().failed, buffer.stats().queued), (2, 0));
}

#[test]
fn every_call_of_close_waits_for_the_end() {
    let gated = GatedBuffer::new(options());
    gated.buffer.add(view("close")).unwrap();
    thread::scope(|scope| {
        let closes = [(); 2].map(|()| scope.spawn(|| gated.buffer.close()));
        assert_eq!(gated.next_batch_len(), 1);
        thread::sleep(Duration::from_millis(50));
        assert!(closes.iter().all(|close| !close.is_finished()));
        gated.accept(1);
    });
    assert_eq!(gated.buffer.stats().accepted, 1);
}

#[test]
fn the_longest_times_are_valid() {
    let (flush_interval, close_timeout) = (Duration::MAX, Duration::MAX);
    let gated = GatedBuffer::new(BufferOptions { flush_interval, close_timeout, ..options() });
    gated.buffer.add(view("long")).unwrap();
    gated.accept(1);
    assert!(gated.buffer.flush(Duration::MAX));
    gated.buffer.close();
    assert_eq!(gated.buffer.stats().accepted, 1);
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
    for (max_batch, capacity) in [(0, 10), (11, 10), (1, 0)] {
        let options = BufferOptions { max_batch, capacity, ..options() };
        let send = |_: &[Event], _: &dyn Fn(Duration) -> bool| Ok(Receipt::default());
        let error = EventBuffer::new(options, Box::new(send)).err().unwrap().to_string();
        assert_eq!(error, format!("max_batch is {max_batch}; it must be 1 to capacity ({capacity})"));
    }
}
