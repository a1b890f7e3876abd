//! Fuzzes both listeners of the real binary with malformed heads, chunks and compressed bodies,
//! unknown methods and paths, pipelined requests and arbitrary JSON. The daemon must respond or
//! close the connection, without a 5xx of its own, a panic or unbounded memory use.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use crate::daemon::{Daemon, DaemonHome};
use crate::fuzz::{fuzz_target, run_fuzz};
use crate::random::TestRng;

/// Small retention limits, so that growing memory indicates a leak.
const DAEMON_SETTINGS: [&str; 8] = [
    "store.durability=process_crash",
    "store.dedup_window=1000",
    "store.retain_entries=1000",
    "store.checkpoint_every=5000",
    "session.live_max=1000",
    "server.read_wait=0s",
    "server.max_body_bytes=65536",
    "learning.interval=1024",
];

/// Maximum number of response bytes that are read.
const MAX_RESPONSE_BYTES: usize = 1 << 18;

const HTTP_TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b" ",
    b"\t",
    b":",
    b"\0",
    b"%00",
    b"%ff",
    b"%C3%A9",
    b"%",
    b"../",
    b"//",
    b"?",
    b"&",
    b"#",
    b"*",
    b"http://sequor/v1/events",
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"PATCH",
    b"DELETE",
    b"OPTIONS",
    b"CONNECT",
    b"TRACE",
    b"BREW",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"HTTP/2.0",
    b"HTTP/9.9",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    b"Content-Length: 0\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 18446744073709551616\r\n",
    b"Content-Length: 999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Content-Encoding: br\r\n",
    b"Content-Encoding: zstd\r\n",
    b"Content-Encoding: deflate\r\n",
    b"Content-Type: text/plain\r\n",
    b"Content-Type: application/json\r\n",
    b"Accept-Encoding: br, gzip;q=0.1, *;q=0\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    b"Connection: close\r\n",
    b"Origin: null\r\n",
    b"Range: bytes=0-0\r\n",
    b"If-None-Match: *\r\n",
    b"x-request-id: \xff\r\n",
    b"ffffffffffffffff\r\n",
    b"0\r\n\r\n",
    b"1;a=b\r\n{\r\n",
    b"limit=1000",
    b"limit=18446744073709551616",
    b"explain=true",
    b"min_offset=18446744073709551615",
    b"filter=not%20(price%20%3C%201e999)",
    b"1e999",
    b"-0",
    b"null",
    b"\\ud800",
    b"\"",
    b"{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":1}}}}}}}}}",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"123456789012345678901234567890",
];

const HTTP_METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "get"];

/// Valid requests: method, path and body. The list excludes requests that would disturb the other
/// requests: draining, writing files, compacting the store, verbose logging.
const VALID_REQUESTS: [(&str, &str, &str); 52] = [
    (
        "POST",
        "/v1/events",
        r#"{"event_id":"e1","user_id":"ann","session_id":"s1","type":"view","item_id":"tea","value":2.5,"timestamp":1700000000000}"#,
    ),
    (
        "POST",
        "/v1/events?recommend=5&user=bob",
        r#"[{"user_id":"ann","type":"purchase","item_id":"cup","properties":{"a":[1,{"b":null}]}},{"user_id":"bob","type":"search"}]"#,
    ),
    (
        "POST",
        "/v1/events",
        "{\"user_id\":\"a\",\"type\":\"view\",\"item_id\":\"x\"}\n{\"user_id\":\"b\",\"type\":\"cart\",\"item_id\":\"y\"}\n",
    ),
    ("POST", "/v1/events/validate", r#"[{"user_id":"ann","type":"view","item_id":"tea"},{"user_id":"","typ":"view"}]"#),
    ("GET", "/v1/users/ann/recommendations?limit=5&exclude=tea,cup&exclude_seen=true&diversity=2&explain=true", ""),
    ("GET", "/v1/users/ann/recommendations?filter=category%20in%20(tea)%20and%20price%20%3C%2010&min_offset=0", ""),
    ("GET", "/v1/users/ann/recommendations?recommendation_id=r1-1&offset=3&limit=2", ""),
    ("GET", "/v1/users/ann/recommendations/stream?limit=1", ""),
    (
        "POST",
        "/v1/recommendations",
        r#"{"items":["tea","cup"],"limit":5,"filter":"not tags has sale","exclude":["pot"],"explain":true}"#,
    ),
    ("POST", "/v1/users/ann/merge", r#"{"from":"visitor7"}"#),
    (
        "PUT",
        "/v1/items/tea",
        r#"{"categories":["drinks"],"brand":"leaf","price":4.5,"tags":["green"],"available":true,"expires":null}"#,
    ),
    ("PATCH", "/v1/items/tea", r#"{"price":3.9,"expires":"2030-01-01T00:00:00Z"}"#),
    ("GET", "/v1/items/tea", ""),
    ("DELETE", "/v1/items/cup", ""),
    (
        "POST",
        "/v1/items",
        "{\"item_id\":\"cup\",\"categories\":[\"pots\"]}\n{\"item_id\":\"tea\",\"op\":\"patch\",\"tags\":[\"green\"]}",
    ),
    ("GET", "/v1/items/tea/similar?limit=5", ""),
    ("GET", "/v1/trending?limit=5&category=drinks", ""),
    ("GET", "/v1/capture.js", ""),
    ("GET", "/v1/widget.js", ""),
    ("GET", "/openapi.json", ""),
    ("GET", "/docs", ""),
    ("OPTIONS", "/v1/events", ""),
    (
        "POST",
        "/v1/track",
        r#"{"userId":"ann","event":"Product Added","properties":{"product_id":"cup","price":"4.5","quantity":2},"messageId":"m1"}"#,
    ),
    (
        "POST",
        "/v1/page",
        r#"{"anonymousId":"a1","name":"Home","properties":{"url":"http://shop/tea"},"timestamp":"2024-05-01T12:00:00Z"}"#,
    ),
    ("POST", "/v1/screen", r#"{"anonymousId":"a1","name":"Home"}"#),
    ("POST", "/v1/identify", r#"{"anonymousId":"a1","userId":"ann","traits":{"plan":"x"}}"#),
    ("POST", "/v1/alias", r#"{"previousId":"a2","userId":"ann"}"#),
    ("POST", "/v1/group", r#"{"userId":"ann","groupId":"g"}"#),
    (
        "POST",
        "/v1/batch?verbose=1",
        r#"{"batch":[{"type":"identify","anonymousId":"a3","userId":"ann"},{"type":"track","userId":"ann","event":"Order Completed","properties":{"products":[{"product_id":"tea","price":3}]}}],"sentAt":"2024-05-01T12:00:00Z"}"#,
    ),
    ("GET", "/metrics", ""),
    ("GET", "/healthz", ""),
    ("GET", "/healthz/journal", ""),
    ("GET", "/readyz", ""),
    ("GET", "/admin/status", ""),
    ("GET", "/admin/history", ""),
    ("GET", "/admin/stream", ""),
    ("GET", "/admin/sessions?user=a&limit=5", ""),
    ("GET", "/admin/sessions/ann", ""),
    ("GET", "/admin/items?query=t&limit=5", ""),
    ("GET", "/admin/items/tea", ""),
    ("GET", "/admin/recall", ""),
    ("GET", "/admin/store", ""),
    ("GET", "/admin/settings", ""),
    ("GET", "/admin/quarantine", ""),
    ("GET", "/admin/journal?from=0&to=20&only=event", ""),
    ("GET", "/admin/model", ""),
    ("POST", "/admin/model/learning-rate", r#"{"value":0.05}"#),
    ("POST", "/admin/model/pause", "{}"),
    ("POST", "/admin/model/resume", "{}"),
    ("POST", "/admin/recall/recluster", "{}"),
    ("GET", "/console/sessions/ann", ""),
    ("GET", "/console/items?query=t", ""),
];

fuzz_target!(malformed_requests_are_handled, fuzz_http, fuzz_requests);

/// Builds a raw HTTP/1.1 request.
fn raw_request(method: &str, address: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{method} {address} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}");
    [format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

/// The position of a request's body.
fn body_position(request: &[u8]) -> Option<usize> {
    Some(request.windows(4).position(|four| four == b"\r\n\r\n")? + 4)
}

fn initial_requests() -> Vec<Vec<u8>> {
    let mut corpus: Vec<_> = VALID_REQUESTS
        .iter()
        .map(|(method, address, body)| raw_request(method, address, "", body.as_bytes()))
        .collect();
    let (_, _, event) = VALID_REQUESTS[0];
    let chunks = "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    corpus.push(format!("{chunks}{:x}\r\n{event}\r\n0\r\n\r\n", event.len()).into_bytes());
    corpus.push(format!("{chunks}2;a=b\r\n{{}}\r\n0\r\nX-Trailer: x\r\n\r\n").into_bytes());
    corpus.push(raw_request("POST", "/v1/events", "Expect: 100-continue\r\n", event.as_bytes()));
    corpus.push(raw_request("POST", "/v1/batch", "Authorization: Basic a2V5Og==\r\n", br#"{"batch":[]}"#));
    corpus.push(
        [
            raw_request("GET", "/v1/trending", "", b""),
            raw_request("POST", "/v1/events", "", event.as_bytes()),
            raw_request("GET", "/v1/items/tea", "", b""),
        ]
        .concat(),
    );
    // HTTP/2: preface, settings, and a request with a truncated head.
    corpus.push(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\0\x05\x01\x05\0\0\0\x01\x82\x86\x84\x41\x8a\0\0\x04\x08\0\0\0\0\0\x7f\xff\xff\xff".to_vec());
    corpus
}

/// Varies a request: method, headers, parameters and transfer of the body (plain, compressed,
/// chunked or deeply nested).
fn vary_request(request: &[u8], random: &mut TestRng) -> Option<Vec<u8>> {
    let (head, body) = request.split_at(body_position(request)?);
    let line = String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next()?).into_owned();
    let mut words = line.split(' ');
    let (mut method, mut address) = (words.next()?, words.next()?.to_owned());
    if random.number_below(4) == 0 {
        method = HTTP_METHODS[random.number_below(HTTP_METHODS.len() as u64) as usize];
    }
    // Picks tokens that fit the place.
    let mut pick_tokens = |ending: &[u8], inner: u8| {
        let fitting: Vec<_> = HTTP_TOKENS
            .iter()
            .filter(|token| token.ends_with(ending) && token.contains(&inner) && token.is_ascii())
            .collect();
        let count = random.number_below(4).saturating_sub(1);
        let picked = (0..count).map(|_| fitting[random.number_below(fitting.len() as u64) as usize]);
        picked.map(|token| String::from_utf8_lossy(token).into_owned()).collect::<Vec<_>>()
    };
    let more = pick_tokens(b"\r\n", b':').concat();
    for parameter in pick_tokens(b"", b'=').iter().filter(|parameter| !parameter.contains(['\r', ' '])) {
        address.push(if address.contains('?') { '&' } else { '?' });
        address.push_str(parameter);
    }
    let (headers, body) = match random.number_below(6) {
        0 => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(body).unwrap();
            ("Content-Encoding: gzip\r\n", encoder.finish().unwrap())
        }
        1 => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(body).unwrap();
            ("Content-Encoding: deflate\r\n", encoder.finish().unwrap())
        }
        2 => ("Content-Encoding: zstd\r\n", zstd::encode_all(body, 1).unwrap()),
        3 => {
            // Highly compressed: the decompressed body exceeds every limit.
            let depth = 1 << random.number_below(18);
            let deep = [&vec![[b'[', b'{', b' ', b'9'][random.number_below(4) as usize]; depth][..], body].concat();
            ("Content-Encoding: zstd\r\n", zstd::encode_all(&deep[..], 1).unwrap())
        }
        4 => {
            let mut chunks = Vec::new();
            for chunk in body.chunks(1 + random.number_below(40) as usize) {
                chunks.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
            }
            chunks.extend_from_slice(b"0\r\n\r\n");
            let head =
                format!("{method} {address} HTTP/1.1\r\nHost: localhost\r\n{more}Transfer-Encoding: chunked\r\n\r\n");
            return Some([head.as_bytes(), &chunks].concat());
        }
        _ => ("", body.to_vec()),
    };
    Some(raw_request(method, &address, &format!("{headers}{more}"), &body))
}

/// Sends a request, closes the sending side, and reads the response up to a limit.
fn send_and_read_response(listener: &str, request: &[u8]) -> Vec<u8> {
    let mut connection = TcpStream::connect(listener).unwrap();
    // Detects hangs.
    connection.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // The daemon may respond and close before it has read everything.
    let _ = connection.write_all(request).and_then(|()| connection.shutdown(Shutdown::Write));
    let (mut response, mut buffer) = (Vec::new(), [0; 1 << 14]);
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => return response,
            Ok(count) => response.extend_from_slice(&buffer[..count]),
            Err(error) => {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "no response and no close");
                return response;
            }
        }
        let is_endless = response.windows(17).any(|text| text == b"text/event-stream");
        if response.len() > MAX_RESPONSE_BYTES || is_endless {
            return response;
        }
    }
}

/// The status of a response; `None` if there is none.
fn response_status(response: &[u8]) -> Option<u16> {
    std::str::from_utf8(response.strip_prefix(b"HTTP/1.")?.get(2..5)?).ok()?.parse().ok()
}

/// The daemon's peak memory in MiB; 0 if the system does not report it.
fn peak_memory_mib(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.process_id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or_default() >> 10
}

fn fuzz_requests(long: bool) {
    let home = DaemonHome::new();
    let daemon = home.start(&DAEMON_SETTINGS);
    let listeners =
        [daemon.api_url(), daemon.admin_url()].map(|listener| listener.strip_prefix("http://").unwrap().to_owned());
    let mut random = TestRng(2);
    let mut statuses = std::collections::BTreeMap::<_, u64>::new();
    let mut before = 0;
    run_fuzz("http", initial_requests(), HTTP_TOKENS, long, 12_000, |input| {
        let vary = (random.number_below(2) == 0).then(|| vary_request(input, &mut random)).flatten();
        let request = vary.as_deref().unwrap_or(input);
        let is_private = [&b"/admin"[..], b"/console", b"/metrics", b"/healthz", b"/readyz"]
            .iter()
            .any(|path| input.windows(path.len()).any(|text| text == *path));
        // Sometimes the request goes to the wrong listener.
        let listener = usize::from(is_private != (random.number_below(16) == 0));
        let status = response_status(&send_and_read_response(&listeners[listener], request));
        assert!(
            status.is_none_or(|status| status < 500 || status == 503),
            "{status:?} to {}",
            String::from_utf8_lossy(request)
        );
        *statuses.entry(status).or_default() += 1;
        if statuses.values().sum::<u64>() == 2_000 {
            before = peak_memory_mib(&daemon);
        }
    });
    eprintln!(
        "http: {statuses:?}, {} MiB at most, {before} MiB of them after 2,000 requests",
        peak_memory_mib(&daemon)
    );
    assert!([200, 400, 404, 405, 413].iter().all(|status| statuses.contains_key(&Some(*status))), "{statuses:?}");
    assert!(
        peak_memory_mib(&daemon) < before + 256,
        "{before} MiB after 2,000 requests, {} at the end",
        peak_memory_mib(&daemon)
    );
    assert_eq!(daemon.metric_sum("sequor_panics_total"), 0.0);
    assert!(!daemon.read_log().contains("panicked"), "{}", daemon.read_log());
    // Pipelined requests, too, may fail only because of overload or an offset that is not learned
    // yet.
    let faults = daemon
        .get_admin("/metrics")
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("sequor_responses_total{class=\"5xx\"} ")?.parse::<f64>().ok())
        .sum::<f64>();
    assert_eq!(faults, daemon.metric_sum("sequor_overloaded_requests_total"));
    daemon.assert_healthy();
}
