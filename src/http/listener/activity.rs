//! Counts of a connection's requests, and of the parts of their responses.
//!
//! The connection and its requests share these counts, which the requests update. The connection
//! uses them to decide whether to read further requests, and to notice that the client does not
//! read the responses.

use actix_web::HttpRequest;
use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::request_body::RequestBody;

/// Counts of a connection's requests, and of the parts of their responses.
#[derive(Default)]
pub(super) struct ConnectionActivity {
    max_requests: usize,
    /// Number of requests that have begun since the connection was opened.
    begun: Cell<u64>,
    /// Body of the latest request, until the connection takes it.
    begun_body: Cell<Option<RequestBody>>,
    /// Whether the connection holds bytes after a head that it has just delivered. It delivers them
    /// at its next turn, for which its task has been woken.
    holds_input: Cell<bool>,
    /// Number of requests whose response is not complete.
    in_progress: Cell<usize>,
    /// Number of requests whose body is still being read.
    reading: Cell<usize>,
    /// Number of response parts that wait for the client to read them.
    untaken: Cell<usize>,
    /// Number of response parts that the client has read.
    taken_parts: Cell<u64>,
    /// Number of requests that want to know whether the client has closed the connection.
    watching: Cell<usize>,
    /// Whether the client has closed the connection. The connection notices it only while a request
    /// watches.
    client_left: Cell<bool>,
    /// Wakes the connection.
    waker: Cell<Option<Waker>>,
}

impl ConnectionActivity {
    /// The counts of a new connection. At most `max_requests` of its requests may be in progress.
    pub(super) fn new(max_requests: usize) -> Rc<Self> {
        Rc::new(Self { max_requests, ..Self::default() })
    }

    /// Number of requests that have begun since the connection was opened.
    pub(super) fn begun_requests(&self) -> u64 {
        self.begun.get()
    }

    /// Takes the body of the latest request. `None` if no request has begun since the last call.
    pub(super) fn take_begun_body(&self) -> Option<RequestBody> {
        self.begun_body.take()
    }

    /// Records whether the connection holds bytes after a head that it has just delivered.
    pub(super) fn set_holds_input(&self, holds_input: bool) {
        self.holds_input.set(holds_input);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_progress.get() == 0
    }

    /// Whether a request reads its body.
    pub(super) fn is_reading_body(&self) -> bool {
        self.reading.get() > 0
    }

    /// Whether a request wants to know whether the client has closed the connection.
    pub(super) fn is_client_watched(&self) -> bool {
        self.watching.get() > 0
    }

    /// Records that the client has closed the connection.
    pub(super) fn set_client_left(&self) {
        self.client_left.set(true);
    }

    /// The number of response parts that the client has read. `None` if no other part waits for the
    /// client.
    pub(super) fn read_parts_if_any_waits(&self) -> Option<u64> {
        (self.untaken.get() > 0).then(|| self.taken_parts.get())
    }

    /// Registers the connection's task. The task is woken when a request, a request body or a
    /// response part ends, and when a response part is offered.
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

/// Watches whether the client of a request closes the connection, so that a long computation can
/// end. A client that closes only its sending side counts as gone, too. A client that has sent
/// further bytes, such as the end of a TLS session, does not, because these bytes stay unread.
pub(in crate::http) struct ClientWatch(Option<CountGuard>);

impl ClientWatch {
    /// Watches the client of a request until the watch is dropped.
    pub(in crate::http) fn begin(request: &HttpRequest) -> Self {
        let activity = request.conn_data::<Rc<ConnectionActivity>>();
        Self(activity.map(|activity| CountGuard::new(activity, |activity| &activity.watching)))
    }

    /// Whether the client has closed the connection.
    pub(in crate::http) fn has_left(&self) -> bool {
        self.0.as_ref().is_some_and(|guard| guard.activity.client_left.get())
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
    /// Counts a new request with the given body. Returns `None` if the connection already has
    /// `max_requests` requests in progress.
    pub(super) fn begin(activity: &Rc<ConnectionActivity>, body: RequestBody) -> Option<Self> {
        activity.begun.set(activity.begun.get() + 1);
        activity.begun_body.set(Some(body));
        let has_room = activity.in_progress.get() < activity.max_requests;
        has_room.then(|| Self(CountGuard::new(activity, |activity| &activity.in_progress)))
    }

    /// Counts the request's body as being read, until the returned guard is dropped.
    pub(super) fn begin_body(&self) -> BodyInProgress {
        BodyInProgress(CountGuard::new(&self.0.activity, |activity| &activity.reading))
    }

    /// Waits until the part of the request's body that is already here has been delivered to the
    /// HTTP library. If a body is incomplete at the time of the response, the library closes the
    /// connection.
    pub(super) async fn wait_for_held_body(&self) {
        // No waker is needed: the connection's task, which has been woken, also polls the response.
        poll_fn(|_| if self.0.activity.holds_input.get() { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    /// Counts a response part that waits for the client, until the returned guard is dropped.
    pub(super) fn offer_part(&self) -> UntakenResponsePart {
        let part = UntakenResponsePart(CountGuard::new(&self.0.activity, |activity| &activity.untaken));
        self.0.activity.wake_connection();
        part
    }
}

/// Guard of a request body that is being read. Reading ends when the guard is dropped.
pub(super) struct BodyInProgress(#[expect(dead_code, reason = "counts until it is dropped")] CountGuard);

/// Guard of a response part that waits for the client. The guard is dropped when the client has
/// read the part.
pub(super) struct UntakenResponsePart(CountGuard);

impl Drop for UntakenResponsePart {
    fn drop(&mut self) {
        let activity = &self.0.activity;
        activity.taken_parts.set(activity.taken_parts.get() + 1);
    }
}
