//! The progress of the requests of one connection.
//!
//! The connection and its requests share this state: requests update it, and the connection uses it
//! to decide whether to read further requests and whether the client reads the responses.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Waker};

/// The progress of the requests of one connection.
#[derive(Default)]
pub(super) struct ConnectionActivity {
    max_requests: usize,
    /// Number of requests that have begun.
    begun: Cell<u64>,
    /// Number of requests whose response is not complete.
    in_progress: Cell<usize>,
    /// Number of requests whose body is still being read.
    reading: Cell<usize>,
    /// Number of response parts that wait for the client to read them.
    untaken: Cell<usize>,
    /// Number of response parts that the client has read.
    taken_parts: Cell<u64>,
    /// Wakes the connection.
    waker: Cell<Option<Waker>>,
}

impl ConnectionActivity {
    /// The activity of a new connection with at most `max_requests` requests in progress.
    pub(super) fn new(max_requests: usize) -> Rc<Self> {
        Rc::new(Self { max_requests, ..Self::default() })
    }

    /// Number of requests that have begun.
    pub(super) fn begun_requests(&self) -> u64 {
        self.begun.get()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_progress.get() == 0
    }

    /// Whether requests are in progress and none of them reads its body.
    pub(super) fn needs_no_input(&self) -> bool {
        self.in_progress.get() > 0 && self.reading.get() == 0
    }

    /// The number of response parts that the client has read, if other parts wait for the client;
    /// otherwise `None`.
    pub(super) fn read_parts_if_any_waits(&self) -> Option<u64> {
        (self.untaken.get() > 0).then(|| self.taken_parts.get())
    }

    /// Registers the task of the connection, which is woken when anything changes.
    pub(super) fn register_waker(&self, context: &Context<'_>) {
        let waker = self.waker.take().filter(|waker| waker.will_wake(context.waker()));
        self.waker.set(Some(waker.unwrap_or_else(|| context.waker().clone())));
    }

    fn wake_connection(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A guard that increments a count and decrements it on drop.
struct CountGuard {
    activity: Rc<ConnectionActivity>,
    count: fn(&ConnectionActivity) -> &Cell<usize>,
}

impl CountGuard {
    fn new(activity: &Rc<ConnectionActivity>, count: fn(&ConnectionActivity) -> &Cell<usize>) -> Self {
        let cell = count(activity);
        cell.set(cell.get() + 1);
        Self { activity: Rc::clone(activity), count }
    }
}

impl Drop for CountGuard {
    fn drop(&mut self) {
        let cell = (self.count)(&self.activity);
        cell.set(cell.get().saturating_sub(1));
        self.activity.wake_connection();
    }
}

/// Guard of a request in progress. The request ends when the guard is dropped.
pub(super) struct RequestInProgress(CountGuard);

impl RequestInProgress {
    /// Counts a request; `None` if the connection already has `max_requests` requests in progress.
    pub(super) fn begin(activity: &Rc<ConnectionActivity>) -> Option<Self> {
        activity.begun.set(activity.begun.get() + 1);
        let has_room = activity.in_progress.get() < activity.max_requests;
        has_room.then(|| Self(CountGuard::new(activity, |activity| &activity.in_progress)))
    }

    /// Counts the body of the request as being read.
    pub(super) fn begin_body(&self) -> BodyInProgress {
        BodyInProgress(CountGuard::new(&self.0.activity, |activity| &activity.reading))
    }

    /// Counts a part of the response that waits for the client.
    pub(super) fn offer_part(&self) -> UntakenResponsePart {
        let part = UntakenResponsePart(CountGuard::new(&self.0.activity, |activity| &activity.untaken));
        self.0.activity.wake_connection();
        part
    }
}

/// Guard of a request body that is being read. Reading ends when the guard is dropped.
pub(super) struct BodyInProgress(#[expect(dead_code, reason = "counts until it is dropped")] CountGuard);

/// Guard of a response part that waits for the client. The client has read the part when the guard
/// is dropped.
pub(super) struct UntakenResponsePart(CountGuard);

impl Drop for UntakenResponsePart {
    fn drop(&mut self) {
        let activity = &self.0.activity;
        activity.taken_parts.set(activity.taken_parts.get() + 1);
    }
}
