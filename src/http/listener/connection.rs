//! Reads and writes the bytes of a connection, within its limits.
//!
//! The connection delivers the requests of an HTTP/1.1 client to the HTTP library one at a time. The
//! library gets no byte of the next request before the response is complete. There are two reasons:
//!
//! - The memory of a connection is bounded, whatever the client does.
//! - The HTTP library closes a connection after a response if a request body is incomplete. It does
//!   not distinguish the body of the answered request from the body of a later request.
//!
//! A connection ends if its client does not read a response, or does not complete the head of a
//! request, within a time limit.

use actix_web::rt::net::TcpStream;
use actix_web::rt::time::{Sleep, sleep};
use actix_web::web::BytesMut;
use metrics::Counter;
use std::future::Future;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::activity::ConnectionActivity;
use super::address_share::ConnectionSlot;
use super::limits::ConnectionLimits;
use super::request_scanner::{RequestScanner, ScannedPart};

/// The byte stream that a connection reads and writes, with or without TLS.
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Evaluates `$call`, in which `$stream` is the stream of either variant of the [`Transport`].
macro_rules! on_stream {
    ($transport:expr, $stream:ident => $call:expr) => {
        match $transport {
            Transport::Plain($stream) => $call,
            Transport::Tls($stream) => $call,
        }
    };
}

/// A timer that expires if a condition lasts for `limit` without progress.
struct StallTimer {
    limit: Duration,
    progress: Option<u64>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl StallTimer {
    fn new(limit: Duration) -> Self {
        Self { limit, progress: None, timer: None }
    }

    /// Whether the condition has lasted for `limit` without progress. `progress` is `None` if the
    /// condition does not hold. Otherwise it is a counter that changes with any progress.
    fn has_expired(&mut self, progress: Option<u64>, context: &mut Context<'_>) -> bool {
        if progress != self.progress || progress.is_none() {
            (self.progress, self.timer) = (progress, None);
        }
        let limit = self.limit;
        progress.is_some() && self.timer.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(context).is_ready()
    }
}

/// A client's connection, from which the HTTP library reads requests and to which it writes
/// responses.
pub(super) struct Connection {
    transport: Transport,
    is_http2: bool,
    activity: Rc<ConnectionActivity>,
    scanner: RequestScanner,
    /// Bytes that were read from the client but are not delivered to the HTTP library yet: at most
    /// the bytes of one read.
    held: BytesMut,
    /// Whether the HTTP library has got a head and may not have parsed it yet. It parses the head
    /// after this turn's reads.
    awaits_parsing: bool,
    /// Set when bytes of a head are delivered: the number of requests that have begun until then. As
    /// long as no further request begins, the head is incomplete.
    partial_request: Option<u64>,
    /// Whether the transport could not accept bytes at the latest write.
    is_write_blocked: bool,
    /// Number of writes that succeeded.
    writes: u64,
    write_timer: StallTimer,
    response_timer: StallTimer,
    head_timer: StallTimer,
    stalled: Counter,
    _place: Option<ConnectionSlot>,
}

impl Connection {
    pub(super) fn new(
        transport: Transport,
        is_http2: bool,
        limits: ConnectionLimits,
        place: Option<ConnectionSlot>,
        stalled: Counter,
    ) -> Self {
        // An HTTP/1.1 connection delivers one request at a time.
        let max_requests = if is_http2 { limits.max_streams } else { usize::MAX };
        Self {
            transport,
            is_http2,
            activity: ConnectionActivity::new(max_requests),
            scanner: RequestScanner::default(),
            held: BytesMut::new(),
            awaits_parsing: false,
            partial_request: None,
            is_write_blocked: false,
            writes: 0,
            write_timer: StallTimer::new(limits.write_timeout),
            response_timer: StallTimer::new(limits.write_timeout),
            head_timer: StallTimer::new(limits.head_timeout),
            stalled,
            _place: place,
        }
    }

    /// The counts that the connection shares with its requests.
    pub(super) fn activity(&self) -> Rc<ConnectionActivity> {
        Rc::clone(&self.activity)
    }

    /// Fails if the client does not read a response or does not complete a request head in time. The
    /// time limit of heads also applies to the rest of a body whose request has ended.
    fn check_timers(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let write = self.is_write_blocked.then_some(self.writes);
        let response = self.activity.read_parts_if_any_waits();
        if self.write_timer.has_expired(write, context) || self.response_timer.has_expired(response, context) {
            self.stalled.increment(1);
            return Err(io::ErrorKind::TimedOut.into());
        }
        let begun = self.activity.begun_requests();
        let is_partial = self.partial_request == Some(begun) || !self.scanner.is_body_complete();
        let head = (is_partial && self.activity.is_idle()).then_some(begun);
        if self.head_timer.has_expired(head, context) { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// Reads the next part of an HTTP/1.1 request: the rest of a body, or bytes up to the end of a
    /// head.
    fn poll_read_part(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(body) = self.activity.take_begun_body() {
            self.scanner.begin_body(body);
            self.awaits_parsing = false;
        }
        // The connection's task is woken when a write succeeds, a body has been read, or a response
        // is complete.
        let is_idle = self.activity.is_idle();
        if self.is_write_blocked || (!is_idle && self.scanner.is_body_complete()) {
            if self.activity.is_client_watched() && self.held.is_empty() {
                self.look_for_end(context);
            }
            return Poll::Pending;
        }
        if mem::take(&mut self.awaits_parsing) {
            return self.poll_read_ahead(context, buffer);
        }
        // A request that does not read its body gets only the bytes that are already here.
        if self.held.is_empty() && !is_idle && !self.activity.is_reading_body() {
            return Poll::Pending;
        }
        let is_head = self.scanner.is_body_complete();
        let part = ready!(self.poll_deliver(context, buffer))?;
        self.awaits_parsing = part.completes_head;
        if part.length > 0 && is_head {
            self.partial_request = Some(self.activity.begun_requests());
        }
        Poll::Ready(Ok(()))
    }

    /// Delivers the next part of a request, from the held bytes or from the transport.
    fn poll_deliver(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<ScannedPart>> {
        self.activity.set_holds_input(false);
        if !self.held.is_empty() {
            let next = self.held.get(..self.held.len().min(buffer.remaining())).unwrap_or_default();
            let part = self.scanner.scan(next);
            buffer.put_slice(&self.held.split_to(part.length));
            return Poll::Ready(Ok(part));
        }
        let before = buffer.filled().len();
        ready!(self.poll_transport(context, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        let part = self.scanner.scan(read);
        self.held.extend_from_slice(read.get(part.length..).unwrap_or_default());
        buffer.set_filled(before + part.length);
        Poll::Ready(Ok(part))
    }

    /// Ends this turn's reads, so that the HTTP library parses the delivered head. If further bytes
    /// are here, the connection's task is woken for another turn.
    fn poll_read_ahead(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            let before = buffer.filled().len();
            ready!(self.poll_transport(context, buffer))?;
            let read = buffer.filled().get(before..).unwrap_or_default();
            if read.is_empty() {
                // The client sends nothing more.
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(read);
            buffer.set_filled(before);
        }
        self.activity.set_holds_input(true);
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Records whether the client has closed the connection, without reading from it.
    fn look_for_end(&self, context: &mut Context<'_>) {
        let stream = match &self.transport {
            Transport::Plain(stream) => stream,
            Transport::Tls(stream) => stream.get_ref().0,
        };
        let mut byte = [0];
        if let Poll::Ready(Ok(0) | Err(_)) = stream.poll_peek(context, &mut ReadBuf::new(&mut byte)) {
            self.activity.set_client_left();
        }
    }

    fn poll_transport(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_stream!(&mut self.transport, stream => Pin::new(stream).poll_read(context, buffer))
    }

    /// Records whether a write succeeded or is blocked. A write that is blocked for too long fails.
    fn record_write<T>(&mut self, outcome: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.writes += 1;
            if mem::take(&mut self.is_write_blocked) {
                // Reading had paused because the write was blocked, and can continue now.
                context.waker().wake_by_ref();
            }
            return outcome;
        }
        self.is_write_blocked = true;
        match self.check_timers(context) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.activity.register_waker(context);
        this.check_timers(context)?;
        if this.is_http2 {
            let before = buffer.filled().len();
            let outcome = ready!(this.poll_transport(context, buffer));
            if buffer.filled().len() == before {
                this.activity.set_client_left();
            }
            return Poll::Ready(outcome);
        }
        this.poll_read_part(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = on_stream!(&mut self.transport, stream => Pin::new(stream).poll_write(context, bytes));
        self.record_write(outcome, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = on_stream!(&mut self.transport, stream => Pin::new(stream).poll_flush(context));
        self.record_write(outcome, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = on_stream!(&mut self.transport, stream => Pin::new(stream).poll_shutdown(context));
        self.record_write(outcome, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = on_stream!(&mut self.transport, stream => Pin::new(stream).poll_write_vectored(context, parts));
        self.record_write(outcome, context)
    }

    fn is_write_vectored(&self) -> bool {
        on_stream!(&self.transport, stream => stream.is_write_vectored())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::listener::activity::RequestInProgress;
    use crate::http::listener::request_body::RequestBody;
    use futures_util::future::poll_fn;
    use std::io::Write;

    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// A client, and the daemon's end of its connection.
    fn connect() -> (std::net::TcpStream, Connection) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(stream).unwrap();
        let hour = Duration::from_secs(3600);
        let limits = ConnectionLimits {
            workers: 1,
            max_connections_per_worker: 1,
            max_connections_per_address: 1,
            max_streams: 1,
            head_timeout: hour,
            idle_timeout: hour,
            write_timeout: hour,
            shutdown_timeout_seconds: 1,
        };
        (client, Connection::new(Transport::Plain(stream), false, limits, None, Counter::noop()))
    }

    /// Reads as the HTTP library does in one turn, until it must wait. Returns the delivered bytes.
    async fn read_one_turn(connection: &mut Connection) -> String {
        tokio::task::yield_now().await;
        poll_fn(|context| {
            let mut delivered = Vec::new();
            loop {
                let mut bytes = [0; 4096];
                let mut buffer = ReadBuf::new(&mut bytes);
                match Pin::new(&mut *connection).poll_read(context, &mut buffer) {
                    Poll::Ready(outcome) => outcome.unwrap(),
                    Poll::Pending => return Poll::Ready(String::from_utf8(delivered.clone()).unwrap()),
                }
                delivered.extend_from_slice(buffer.filled());
            }
        })
        .await
    }

    /// Reads until something is delivered.
    async fn read_some(connection: &mut Connection) -> String {
        loop {
            let delivered = read_one_turn(connection).await;
            if !delivered.is_empty() {
                return delivered;
            }
        }
    }

    /// Checks that nothing is delivered, although bytes may be here.
    async fn assert_paused(connection: &mut Connection) {
        for _ in 0..5 {
            assert_eq!(read_one_turn(connection).await, "");
        }
    }

    #[actix_web::test]
    async fn requests_are_delivered_one_at_a_time() {
        let (mut client, mut connection) = connect();
        client.write_all(REQUEST.repeat(10).as_bytes()).unwrap();
        for _ in 0..10 {
            assert_eq!(read_some(&mut connection).await, REQUEST);
            let in_progress = RequestInProgress::begin(&connection.activity(), RequestBody::Complete).unwrap();
            assert_paused(&mut connection).await;
            drop(in_progress);
        }
    }

    #[actix_web::test]
    async fn bodies_are_delivered_to_their_end() {
        let (mut client, mut connection) = connect();
        let chunked = "2\r\n\n\n\r\n0\r\n\r\n";
        client.write_all([REQUEST, "hello", REQUEST, chunked, REQUEST].concat().as_bytes()).unwrap();
        for (body, text) in [(RequestBody::with_length(5), "hello"), (RequestBody::chunked(), chunked)] {
            assert_eq!(read_some(&mut connection).await, REQUEST);
            let in_progress = RequestInProgress::begin(&connection.activity(), body).unwrap();
            let reading = in_progress.begin_body();
            assert_eq!(read_some(&mut connection).await, text);
            assert_paused(&mut connection).await;
            drop(reading);
            assert_paused(&mut connection).await;
        }
        assert_eq!(read_some(&mut connection).await, REQUEST);
    }

    #[actix_web::test]
    async fn the_rest_of_a_body_is_delivered_after_its_request_has_ended() {
        let (mut client, mut connection) = connect();
        client.write_all(REQUEST.as_bytes()).unwrap();
        assert_eq!(read_some(&mut connection).await, REQUEST);
        let in_progress = RequestInProgress::begin(&connection.activity(), RequestBody::with_length(5)).unwrap();
        client.write_all(["hello", REQUEST].concat().as_bytes()).unwrap();
        assert_paused(&mut connection).await;
        drop(in_progress);
        let mut delivered = String::new();
        while delivered.len() < 5 + REQUEST.len() {
            delivered += &read_one_turn(&mut connection).await;
        }
        assert_eq!(delivered, ["hello", REQUEST].concat());
    }
}
