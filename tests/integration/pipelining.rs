//! Clients that send HTTP/1.1 requests without waiting for the earlier responses.
//!
//! Regression test: if only a part of a later request had arrived, the daemon answered the earlier
//! requests with `Connection: close` and closed the connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::daemon::{Daemon, DaemonHome, view_event};
use crate::random::TestRng;

/// A timeout that only a hang exceeds.
const HANG_TIMEOUT: Duration = Duration::from_secs(120);

/// A request, and the status of its response.
#[derive(Clone)]
struct Request {
    name: &'static str,
    bytes: Vec<u8>,
    status: u16,
}

fn get_request(path: &str) -> Request {
    let bytes = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
    Request { name: "GET", bytes, status: if path.starts_with("/v1") { 200 } else { 404 } }
}

fn post_request(name: &'static str, headers: &str, body: &[u8]) -> Request {
    let head =
        format!("POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    Request { name, bytes: [head.as_bytes(), body].concat(), status: 200 }
}

/// A POST request whose body is divided into chunks of `size` bytes.
fn chunked_request(size: usize, body: &[u8]) -> Request {
    let mut bytes = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(size) {
        bytes.extend([format!("{:x};a=\"b\"\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    }
    bytes.extend(b"0\r\nx-checksum: none\r\n\r\n");
    Request { name: "chunked POST", bytes, status: 200 }
}

/// An event with blank lines between its fields.
fn event_with_blank_lines(blank_lines: usize) -> Vec<u8> {
    let event = view_event("e1", "ann", "tea").to_string();
    event.replacen(',', &format!(",{}", "\r\n".repeat(blank_lines)), 2).into_bytes()
}

/// The kinds of request that the tests combine.
fn basic_requests() -> [Request; 3] {
    let body = event_with_blank_lines(3);
    [get_request("/v1/trending?limit=1"), post_request("POST", "", &body), chunked_request(30, &body)]
}

fn more_requests() -> Vec<Request> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&event_with_blank_lines(3)).unwrap();
    let compressed = encoder.finish().unwrap();
    let long = event_with_blank_lines(20_000);
    vec![
        get_request("/nowhere"),
        post_request("compressed POST", "Content-Encoding: gzip\r\n", &compressed),
        post_request("POST that expects 100", "Expect: 100-continue\r\n", &event_with_blank_lines(0)),
        post_request("long POST", "", &long),
        chunked_request(1, &event_with_blank_lines(1)),
        chunked_request(9_000, &long),
    ]
}

/// A client's connection, and the bytes that it has received.
struct PipeliningClient {
    stream: TcpStream,
    received: Vec<u8>,
    statuses: Vec<u16>,
}

impl PipeliningClient {
    fn connect(daemon: &Daemon) -> Self {
        let stream = TcpStream::connect(daemon.api_url().strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(HANG_TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new(), statuses: Vec::new() }
    }

    /// Sends bytes. If the daemon has closed the connection, reading fails later.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Removes a complete response from the received bytes. Returns its status.
    fn take_response(&mut self) -> Option<u16> {
        let head_length = self.received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(self.received[..head_length].to_vec()).unwrap().to_lowercase();
        let status = head["http/1.1 ".len()..][..3].parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let end = head_length + length.map_or(0, |length| length.parse::<usize>().unwrap());
        (self.received.len() >= end).then(|| self.received.drain(..end))?;
        Some(status)
    }

    /// Waits until as many responses have arrived, and checks their statuses.
    fn expect_responses(&mut self, expected: &[u16], case: &str) {
        let mut bytes = [0; 16 * 1024];
        while self.statuses.len() < expected.len() {
            match self.take_response() {
                Some(100) => {}
                Some(status) => self.statuses.push(status),
                None => match self.stream.read(&mut bytes) {
                    Ok(length @ 1..) => self.received.extend(&bytes[..length]),
                    end => panic!(
                        "{case}: {end:?} after {} of {} responses: {:?}, {:?}",
                        self.statuses.len(),
                        expected.len(),
                        self.statuses,
                        String::from_utf8_lossy(&self.received)
                    ),
                },
            }
        }
        assert_eq!(self.statuses, expected, "{case}");
    }
}

/// Sends requests in parts that end at the positions `cuts` and at the end. After each part, waits
/// for the responses to all requests that are complete.
fn send_with_pauses(daemon: &Daemon, requests: &[Request], cuts: &[usize], case: &str) {
    let text: Vec<u8> = requests.iter().flat_map(|request| request.bytes.clone()).collect();
    let mut client = PipeliningClient::connect(daemon);
    let mut start = 0;
    for &cut in cuts.iter().chain([&text.len()]) {
        client.send(&text[start..cut]);
        start = cut;
        let (mut end, mut expected) = (0, Vec::new());
        for request in requests {
            end += request.bytes.len();
            if end <= cut {
                expected.push(request.status);
            }
        }
        client.expect_responses(&expected, case);
    }
}

#[test]
fn a_request_that_arrives_in_two_parts_after_others_is_answered() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    for before in basic_requests() {
        for last in basic_requests() {
            let length = last.bytes.len();
            let head = last.bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
            for cut in [1, 5, head - 2, head, (head + length) / 2, length - 3] {
                for count in [1, 2, 3, 16] {
                    let case = format!("{count} {}, then {cut} of {length} bytes of {}", before.name, last.name);
                    let requests = [vec![before.clone(); count], vec![last.clone()]].concat();
                    send_with_pauses(&daemon, &requests, &[count * before.bytes.len() + cut], &case);
                }
            }
        }
    }
}

#[test]
fn pipelined_requests_with_pauses_anywhere_are_all_answered() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let kinds = [basic_requests().to_vec(), more_requests()].concat();
    for seed in 0..40 {
        let mut random = TestRng(seed);
        let mut below = |bound: usize| random.number_below(bound as u64) as usize;
        let requests: Vec<_> = (0..1 + below(30)).map(|_| kinds[below(kinds.len())].clone()).collect();
        let length: usize = requests.iter().map(|request| request.bytes.len()).sum();
        let mut cuts: Vec<_> = (0..below(12)).map(|_| below(length)).collect();
        cuts.sort_unstable();
        send_with_pauses(&daemon, &requests, &cuts, &format!("seed {seed}"));
    }
}

#[test]
fn requests_whose_bodies_are_not_read_keep_the_connection_open() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let body = event_with_blank_lines(3);
    let change = |request: Request, from: &str, to: &str, status| Request {
        bytes: String::from_utf8(request.bytes).unwrap().replacen(from, to, 1).into_bytes(),
        status,
        ..request
    };
    let post = || post_request("POST", "", &body);
    let requests = [
        change(post(), "/v1/events", "/nowhere", 404),
        change(chunked_request(30, &body), "/v1/events", "/nowhere", 404),
        change(post(), "POST", "PUT", 405),
        change(post(), "localhost", "elsewhere.example", 421),
        Request { status: 415, ..post_request("POST", "Content-Encoding: x\r\n", &body) },
        change(post(), "POST /v1/events", "GET /v1/trending", 200),
        get_request("/v1/trending"),
    ];
    send_with_pauses(&daemon, &requests, &[], "all at once");
}

#[test]
fn pipelined_requests_are_all_answered_in_order() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let kinds = basic_requests();
    let requests: Vec<_> = (0..120).map(|number| &kinds[number % 3]).collect();
    let mut text: Vec<u8> = requests.iter().flat_map(|request| request.bytes.clone()).collect();
    text.extend(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let statuses = [requests.iter().map(|request| request.status).collect(), vec![404]].concat();
    for size in [1 << 20, 1000, 7] {
        let mut client = PipeliningClient::connect(&daemon);
        let mut sending = client.stream.try_clone().unwrap();
        let text = text.clone();
        let sender = std::thread::spawn(move || text.chunks(size).try_for_each(|part| sending.write_all(part)));
        client.expect_responses(&statuses, &format!("parts of {size}"));
        sender.join().unwrap().unwrap();
        assert_eq!(client.stream.read(&mut [0; 1]).unwrap(), 0, "the connection is closed");
    }
}
