//! Compressed request bodies: memory stays within the body limit, and a truncated body is rejected.

use std::io::Write;
use std::sync::Barrier;
use std::thread;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Value, json};

use crate::daemon::{DaemonHome, view_event};

const ENCODINGS: [&str; 3] = ["gzip", "deflate", "zstd"];

fn compress(encoding: &str, content: &[u8]) -> Vec<u8> {
    match encoding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::encode_all(content, 19).unwrap(),
        other => panic!("unknown encoding {other}"),
    }
}

/// Every endpoint with a body, with its method.
const ENDPOINTS_WITH_BODY: [(&str, &str); 9] = [
    ("POST", "/v1/events"),
    ("POST", "/v1/events/validate"),
    ("POST", "/v1/recommendations"),
    ("POST", "/v1/items"),
    ("PUT", "/v1/items/tea"),
    ("POST", "/v1/track"),
    ("POST", "/v1/batch"),
    ("POST", "/v1/users/ann/merge"),
    ("PUT", "/v1/users/ann/consent"),
];

#[test]
fn decompression_bombs_cost_no_more_than_the_body_limit() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let before = daemon.peak_memory_mib();
    for encoding in ENCODINGS {
        let bomb = compress(encoding, &vec![b' '; 300 << 20]);
        for (method, path) in ENDPOINTS_WITH_BODY {
            let headers = [("content-encoding", encoding), ("content-type", "application/json")];
            let response = daemon.send(method, path, &headers, &bomb).unwrap();
            assert_eq!(response.status, 413, "{method} {path} {encoding}: {}", response.body);
        }
        // 16 at once.
        let start = Barrier::new(16);
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    start.wait();
                    let response = daemon.try_post("/v1/events", &[("content-encoding", encoding)], &bomb).unwrap();
                    assert_eq!(response.status, 413, "{encoding}: {}", response.body);
                });
            }
        });
    }
    let grown = daemon.peak_memory_mib() - before;
    assert!(grown < 150, "the bombs took {grown} MiB");
    assert_eq!(daemon.next_offset(), 0);
    daemon.assert_healthy();
}

#[test]
fn truncated_bodies_are_rejected_whole() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let events: Vec<Value> = (0..900)
        .map(|number| view_event(&format!("e{number}"), &format!("u{}", number % 50), &format!("item {number}")))
        .collect();
    let content = json!(events).to_string().into_bytes();
    // The body has one event per line, so a truncated body would still contain whole events.
    let lines = events.iter().map(|event| format!("{event}\n")).collect::<String>().into_bytes();
    for encoding in ENCODINGS {
        for (kind, content) in [("application/json", &content), ("application/x-ndjson", &lines)] {
            let complete = compress(encoding, content);
            for end in [complete.len() * 2 / 5, complete.len() - 3, complete.len() - 1] {
                let headers = [("content-encoding", encoding), ("content-type", kind)];
                let response = daemon.send("POST", "/v1/events", &headers, &complete[..end]).unwrap();
                assert_eq!(
                    (response.status, &response.json()["type"]),
                    (400, &json!("/problems/bad-body")),
                    "{encoding} {end}: {}",
                    response.body
                );
            }
        }
        assert_eq!(daemon.next_offset(), 0, "{encoding}");
    }
    let response = daemon.try_post("/v1/events", &[("content-encoding", "zstd")], &compress("zstd", &content)).unwrap();
    assert_eq!(response.json()["accepted"], 900, "{}", response.body);
}
