//! Reads and writes the bytes of a connection, within its limits.
//!
//! The daemon reads further HTTP/1.1 requests only if the client reads the responses and only a few
//! requests wait. The memory of a connection is therefore bounded, whatever the client does. A
//! connection ends if its client does not read a response, or does not complete the head of a
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
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::activity::ConnectionActivity;
use super::address_share::ConnectionSlot;
use super::head_scanner::HeadScanner;
use super::limits::ConnectionLimits;

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
    max_pipelined: usize,
    activity: Rc<ConnectionActivity>,
    scanner: HeadScanner,
    /// Bytes that were read from the client but are not delivered to the HTTP library yet.
    held: BytesMut,
    /// Number of request heads delivered to the HTTP library since reading last paused.
    delivered_heads: usize,
    /// Set when bytes are delivered while no request is in progress: the number of requests that
    /// have begun until then. As long as no further request begins, the head of the next request is
    /// incomplete.
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
        // The requests of an HTTP/1.1 connection run one after another. Their number is limited by
        // pausing reads (`max_pipelined`).
        let max_requests = if is_http2 { limits.max_streams } else { usize::MAX };
        Self {
            transport,
            is_http2,
            max_pipelined: limits.max_pipelined,
            activity: ConnectionActivity::new(max_requests),
            scanner: HeadScanner::default(),
            held: BytesMut::new(),
            delivered_heads: 0,
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

    /// Fails if the client does not read a response or does not complete a request head in time.
    fn check_timers(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let write = self.is_write_blocked.then_some(self.writes);
        let response = self.activity.read_parts_if_any_waits();
        if self.write_timer.has_expired(write, context) || self.response_timer.has_expired(response, context) {
            self.stalled.increment(1);
            return Err(io::ErrorKind::TimedOut.into());
        }
        let head =
            self.partial_request.filter(|begun| *begun == self.activity.begun_requests() && self.activity.is_idle());
        if self.head_timer.has_expired(head, context) { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// Whether reading from an HTTP/1.1 client must pause. If so, the connection's task is woken
    /// when reading can continue.
    fn must_pause(&mut self, context: &mut Context<'_>) -> bool {
        if self.is_write_blocked || self.activity.needs_no_input() {
            return true;
        }
        let is_full = self.delivered_heads >= self.max_pipelined;
        if is_full {
            // Pauses until the task is polled again, so that the delivered requests begin before
            // further requests are delivered.
            self.delivered_heads = 0;
            context.waker().wake_by_ref();
        }
        is_full
    }

    /// Reads bytes and delivers those that contain no more request heads than `max_pipelined`
    /// allows. Keeps the other bytes for later reads.
    fn poll_read_heads(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = self.max_pipelined.saturating_sub(self.delivered_heads);
        let (length, heads);
        if self.held.is_empty() {
            let before = buffer.filled().len();
            let outcome = on_stream!(&mut self.transport, stream => Pin::new(stream).poll_read(context, buffer));
            if outcome.is_pending() {
                self.delivered_heads = 0;
                return outcome;
            }
            let read = buffer.filled().get(before..).unwrap_or_default();
            (length, heads) = self.scanner.scan(read, room);
            self.held.extend_from_slice(read.get(length..).unwrap_or_default());
            buffer.set_filled(before + length);
            if !matches!(outcome, Poll::Ready(Ok(()))) {
                return outcome;
            }
        } else {
            let next = self.held.get(..self.held.len().min(buffer.remaining())).unwrap_or_default();
            (length, heads) = self.scanner.scan(next, room);
            buffer.put_slice(&self.held.split_to(length));
        }
        self.delivered_heads += heads;
        if length > 0 && self.activity.is_idle() {
            self.partial_request = Some(self.activity.begun_requests());
        }
        Poll::Ready(Ok(()))
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
            return on_stream!(&mut this.transport, stream => Pin::new(stream).poll_read(context, buffer));
        }
        if this.must_pause(context) { Poll::Pending } else { this.poll_read_heads(context, buffer) }
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
    use futures_util::future::poll_fn;
    use std::io::Write;

    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const MAX_PIPELINED: usize = 3;

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
            max_pipelined: MAX_PIPELINED,
            max_streams: 1,
            head_timeout: hour,
            idle_timeout: hour,
            write_timeout: hour,
            shutdown_timeout_seconds: 1,
        };
        (client, Connection::new(Transport::Plain(stream), false, limits, None, Counter::noop()))
    }

    /// Reads as the HTTP library does in one turn, until it must wait. Returns the number of
    /// delivered requests.
    async fn read_one_turn(connection: &mut Connection) -> usize {
        tokio::task::yield_now().await;
        poll_fn(|context| {
            let mut requests = 0;
            loop {
                let mut bytes = [0; 4096];
                let mut buffer = ReadBuf::new(&mut bytes);
                match Pin::new(&mut *connection).poll_read(context, &mut buffer) {
                    Poll::Ready(outcome) => outcome.unwrap(),
                    Poll::Pending => return Poll::Ready(requests),
                }
                requests += String::from_utf8_lossy(buffer.filled()).matches("\r\n\r\n").count();
            }
        })
        .await
    }

    #[actix_web::test]
    async fn at_most_the_configured_number_of_requests_is_delivered_at_once() {
        let (mut client, mut connection) = connect();
        client.write_all(REQUEST.repeat(10).as_bytes()).unwrap();
        let mut delivered = 0;
        while delivered < 10 {
            let requests = read_one_turn(&mut connection).await;
            assert!(requests <= MAX_PIPELINED, "{requests} requests");
            delivered += requests;
            if requests > 0 {
                // Further requests stay unread while a request is in progress.
                let in_progress = RequestInProgress::begin(&connection.activity()).unwrap();
                for _ in 0..5 {
                    assert_eq!(read_one_turn(&mut connection).await, 0);
                }
                drop(in_progress);
            }
        }
        assert_eq!(delivered, 10);
    }
}
