//! What the requests of one connection are doing.
//!
//! The connection and its requests share this state: requests update it, and the connection reads
//! it to decide whether it reads further requests and whether the client takes its responses.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Waker};

/// What the requests of one connection are doing.
#[derive(Default)]
pub(super) struct ConnectionActivity {
    max_requests: usize,
    /// Requests begun so far.
    begun: Cell<u64>,
    /// Requests whose response is not complete.
    in_progress: Cell<usize>,
    /// Requests whose body is still being read.
    reading: Cell<usize>,
    /// Responses with a part that the client has not taken.
    untaken: Cell<usize>,
    /// Parts of responses that the client has taken.
    taken_parts: Cell<u64>,
    /// Wakes the connection.
    waker: Cell<Option<Waker>>,
}

impl ConnectionActivity {
    /// The activity of a new connection with at most `max_requests` requests in progress.
    pub(super) fn new(max_requests: usize) -> Rc<Self> {
        Rc::new(Self { max_requests, ..Self::default() })
    }

    /// Requests begun so far.
    pub(super) fn begun(&self) -> u64 {
        self.begun.get()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_progress.get() == 0
    }

    /// Whether requests are in progress and none of them reads its body.
    pub(super) fn needs_no_input(&self) -> bool {
        self.in_progress.get() > 0 && self.reading.get() == 0
    }

    /// The parts that the client has taken so far, if responses wait for it.
    pub(super) fn taken_parts_while_untaken(&self) -> Option<u64> {
        (self.untaken.get() > 0).then(|| self.taken_parts.get())
    }

    /// Registers the task of the connection, which is woken when anything changes.
    pub(super) fn register(&self, context: &Context<'_>) {
        let waker = self.waker.take().filter(|waker| waker.will_wake(context.waker()));
        self.waker.set(Some(waker.unwrap_or_else(|| context.waker().clone())));
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A count that ends when this is dropped.
struct Counted {
    activity: Rc<ConnectionActivity>,
    count: fn(&ConnectionActivity) -> &Cell<usize>,
}

impl Counted {
    fn new(activity: &Rc<ConnectionActivity>, count: fn(&ConnectionActivity) -> &Cell<usize>) -> Self {
        let cell = count(activity);
        cell.set(cell.get() + 1);
        Self { activity: Rc::clone(activity), count }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let cell = (self.count)(&self.activity);
        cell.set(cell.get().saturating_sub(1));
        self.activity.wake();
    }
}

/// A request in progress, until this is dropped.
pub(super) struct RequestInProgress(Counted);

impl RequestInProgress {
    /// Counts a request; `None` if the connection has the largest number of them.
    pub(super) fn begin(activity: &Rc<ConnectionActivity>) -> Option<Self> {
        activity.begun.set(activity.begun.get() + 1);
        let has_room = activity.in_progress.get() < activity.max_requests;
        has_room.then(|| Self(Counted::new(activity, |activity| &activity.in_progress)))
    }

    /// Counts the body of the request as being read.
    pub(super) fn begin_body(&self) -> BodyInProgress {
        BodyInProgress(Counted::new(&self.0.activity, |activity| &activity.reading))
    }

    /// Counts a part of the response that waits for the client.
    pub(super) fn offer_part(&self) -> UntakenPart {
        let part = UntakenPart(Counted::new(&self.0.activity, |activity| &activity.untaken));
        self.0.activity.wake();
        part
    }
}

/// A request body that is being read, until this is dropped.
pub(super) struct BodyInProgress(#[expect(dead_code, reason = "counts until it is dropped")] Counted);

/// A part of a response that waits for the client, until this is dropped.
pub(super) struct UntakenPart(Counted);

impl Drop for UntakenPart {
    fn drop(&mut self) {
        let activity = &self.0.activity;
        activity.taken_parts.set(activity.taken_parts.get() + 1);
    }
}
