//! Clients that send requests and do not read the responses.
//!
//! Regression test: forty connections that pipelined requests for the API description occupied 938
//! MB, and `connections_max` such connections blocked the API for all clients.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::daemon::{Daemon, DaemonHome, wait_for};

/// A timeout that only a hang exceeds.
const HANG_TIMEOUT: Duration = Duration::from_secs(120);

fn api_address(daemon: &Daemon) -> SocketAddr {
    daemon.api_url().strip_prefix("http://").unwrap().parse().unwrap()
}

fn connect(daemon: &Daemon) -> TcpStream {
    let stream = TcpStream::connect(api_address(daemon)).unwrap();
    stream.set_read_timeout(Some(HANG_TIMEOUT)).unwrap();
    stream
}

/// Connects from one of the addresses of the loopback network.
fn connect_from(daemon: &Daemon, source: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&api_address(daemon).into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(HANG_TIMEOUT)).unwrap();
    stream
}

fn get_request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Sends requests until the other side accepts no more bytes for a while, or closes.
fn send_until_blocked(stream: &mut TcpStream, requests: &[u8]) {
    stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
    for _ in 0..200 {
        if stream.write_all(requests).is_err() {
            return;
        }
    }
}

/// Reads all bytes until the other side closes the connection.
fn read_until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    if let Err(error) = stream.read_to_end(&mut received) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    received
}

#[test]
fn stalled_readers_cost_bounded_memory() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let before = daemon.peak_memory_mib();
    let mut stalled: Vec<_> = (0..60).map(|_| connect(&daemon)).collect();
    // Three kinds of request: with a long response, with a response without a body, and of the
    // minimum length.
    let preflight = "OPTIONS /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned();
    for (index, stream) in stalled.iter_mut().enumerate() {
        let request = match index % 3 {
            0 => get_request("/openapi.json"),
            1 => preflight.clone(),
            _ => "A / HTTP/1.1\n\n".to_owned(),
        };
        send_until_blocked(stream, request.repeat(1000).as_bytes());
    }
    assert_eq!(daemon.get("/v1/trending").status, 200, "other clients are served");
    let grown = daemon.peak_memory_mib() - before;
    assert!(grown < 60, "60 connections hold {grown} MiB");
}

#[test]
fn stalled_readers_are_disconnected() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.write_timeout=300ms", "server.idle_timeout=1h", "server.head_timeout=1h"]);
    let mut stalled = connect(&daemon);
    send_until_blocked(&mut stalled, get_request("/openapi.json").repeat(1000).as_bytes());
    wait_for("the connection to be closed", || {
        (daemon.metric_value("sequor_stalled_connections_total") == 1.0).then_some(())
    });
    read_until_closed(&mut stalled);
}

#[test]
fn one_address_cannot_take_all_connections() {
    let home = DaemonHome::new();
    let limits = ["server.connections_max=8", "server.workers=1", "server.idle_timeout=1h", "server.head_timeout=1h"];
    let daemon = home.start(&limits);
    let mut attackers: Vec<_> = (0..8).map(|_| connect_from(&daemon, "127.0.0.2")).collect();
    for attacker in &mut attackers {
        send_until_blocked(attacker, get_request("/openapi.json").repeat(1000).as_bytes());
    }
    let mut other = connect_from(&daemon, "127.0.0.3");
    other.write_all(b"GET /v1/trending HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    assert!(read_until_closed(&mut other).starts_with(b"HTTP/1.1 200"));
    assert_eq!(daemon.metric_value("sequor_refused_requests_total{reason=\"address_connections\"}"), 4.0);
    // After its connections close, the address can connect again.
    drop(attackers);
    wait_for("a place", || {
        let mut again = connect_from(&daemon, "127.0.0.2");
        let _ = again.write_all(b"GET /v1/trending HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        read_until_closed(&mut again).starts_with(b"HTTP/1.1 200").then_some(())
    });
}

#[test]
fn the_head_timeout_applies_to_later_requests() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.head_timeout=300ms", "server.idle_timeout=1h"]);
    let mut stream = connect(&daemon);
    stream.write_all(get_request("/v1/trending").as_bytes()).unwrap();
    let mut part = [0; 4096];
    assert!(stream.read(&mut part).unwrap() > 0);
    stream.write_all(b"GET /v1/tren").unwrap();
    read_until_closed(&mut stream);
}

/// A frame of HTTP/2 [RFC 9113, section 4.1].
fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[test]
fn unread_http2_streams_are_limited_and_end_the_connection() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.write_timeout=500ms", "server.http2_streams_max=50"]);
    let mut stream = connect(&daemon);
    // The client lets the server send no byte of a body: SETTINGS_INITIAL_WINDOW_SIZE is 0.
    let mut request =
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), http2_frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])].concat();
    // `:method: GET` and `:scheme: http` of the static table, `:path` and `:authority` as literals.
    let head = [b"\x82\x86\x04\x0d/openapi.json".as_slice(), b"\x01\x09localhost"].concat();
    for number in 0..80 {
        request.extend(http2_frame(1, 5, 2 * number + 1, &head));
    }
    stream.write_all(&request).unwrap();
    let received = read_until_closed(&mut stream);
    let (mut rest, mut refused, mut answered) = (received.as_slice(), 0, 0);
    while let [a, b, c, kind, flags, _, _, _, _, tail @ ..] = rest {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        if *kind == 1 {
            if flags & 1 == 1 { refused += 1 } else { answered += 1 }
        }
        rest = tail.get(length..).unwrap_or_default();
    }
    assert_eq!((refused, answered), (30, 50), "requests beyond 50 are refused");
    assert_eq!(daemon.metric_value("sequor_stalled_connections_total"), 1.0);
    assert_eq!(daemon.get("/v1/trending").json()["items"], json!([]));
}
