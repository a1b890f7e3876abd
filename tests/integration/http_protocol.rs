//! HTTP transport: compression, protocol versions, connections and malformed requests.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::json;

use crate::daemon::{Daemon, DaemonHome, report_skipped, view_event};

fn connect(daemon: &Daemon) -> TcpStream {
    TcpStream::connect(daemon.api_url().strip_prefix("http://").unwrap()).unwrap()
}

#[test]
fn response_encodings_are_accepted_in_requests() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let (none, uncompressed) = daemon.get_encoded("/openapi.json", "identity");
    assert!(none.is_empty() || none == "identity");
    // The document is not an event, but the validation result shows that it was decoded.
    let verdict = daemon.try_post("/v1/events/validate", &[], &uncompressed).unwrap().body;
    assert!(verdict.contains("`user_id` is missing"), "{verdict}");
    for encoding in ["gzip", "zstd"] {
        let (used, compressed) = daemon.get_encoded("/openapi.json", encoding);
        assert!(
            used == encoding && compressed.len() < uncompressed.len() / 2,
            "{encoding}: {used}, {} of {}",
            compressed.len(),
            uncompressed.len()
        );
        let response = daemon.try_post("/v1/events/validate", &[("content-encoding", encoding)], &compressed).unwrap();
        assert_eq!(response.body, verdict, "{encoding}");
    }
}

#[test]
fn deflate_is_accepted_and_unknown_encodings_are_rejected() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let body = view_event("e1", "ann", "tea").to_string();
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body.as_bytes()).unwrap();
    let compressed = encoder.finish().unwrap();
    let send =
        |encoding: &str, body: &[u8]| daemon.try_post("/v1/events", &[("content-encoding", encoding)], body).unwrap();
    let accepted = send("deflate", &compressed);
    assert_eq!((accepted.status, &accepted.json()["accepted"]), (200, &json!(1)), "{}", accepted.body);
    for corrupted in [&compressed[..compressed.len() / 2], body.as_bytes()] {
        let rejected = send("deflate", corrupted);
        assert_eq!(
            (rejected.status, &rejected.json()["type"]),
            (400, &json!("/problems/bad-body")),
            "{}",
            rejected.body
        );
    }
    for unknown in ["compress", "br", "gzip, deflate", "x"] {
        let rejected = send(unknown, &compressed);
        let problem = (rejected.status, rejected.json()["allowed"].as_str().unwrap_or_default().to_owned());
        assert_eq!(problem, (415, "gzip, deflate, zstd, identity".to_owned()), "{unknown}");
    }
    assert_eq!(daemon.next_offset(), 1);
}

#[test]
fn too_long_url_or_header_rejects_only_that_request() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let request = |address: &str, header: &str| {
        let mut connection = connect(&daemon);
        let request =
            format!("GET {address} HTTP/1.1\r\nHost: localhost\r\nX-Long: {header}\r\nConnection: close\r\n\r\n");
        // The server may close before everything is sent; its response is still readable.
        let _ = connection.write_all(request.as_bytes());
        let (mut output, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = connection.read(&mut buffer) {
            output.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8(output).unwrap()
    };
    let address =
        |length: usize| format!("/v1/trending?category={}", "a".repeat(length - "/v1/trending?category=".len()));
    let (max_address, max_head) = (60 * 1024, 128 * 1024);
    assert!(request(&address(max_address), "x").starts_with("HTTP/1.1 200"));
    let rejected = request(&address(max_address + 1), "x");
    let (head, body) = rejected.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 414") && head.contains("application/problem+json"), "{head}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["type"], "/problems/address-too-long");
    // A longer address is rejected by the HTTP library, and a longer head is not read to its end.
    assert!(request(&address(66_000), "x").starts_with("HTTP/1.1 400"));
    assert!(request("/v1/trending", &"x".repeat(max_head * 3 / 4)).starts_with("HTTP/1.1 200"));
    assert!(request("/v1/trending", &"x".repeat(max_head + 1)).starts_with("HTTP/1.1 431"));
    assert!(request("/v1/trending", &"x\r\nX-More: ".repeat(200)).starts_with("HTTP/1.1 431"));
    assert_eq!(request("/v1/trending", "x").lines().next(), Some("HTTP/1.1 200 OK"));
    daemon.assert_healthy();
}

#[test]
fn scripts_of_pages_are_small_and_cached() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let script = daemon.get("/v1/capture.js");
    assert_eq!(script.status, 200);
    assert!(script.body.len() < 2560, "{} bytes", script.body.len());
    let (encoding, compressed) = daemon.get_encoded("/v1/widget.js", "gzip");
    assert_eq!(encoding, "gzip");
    assert!(compressed.len() <= 6 * 1024, "{} bytes", compressed.len());
    for path in ["/v1/capture.js", "/v1/widget.js"] {
        let tag = daemon.get(path).headers["etag"].to_str().unwrap().to_owned();
        let again = daemon.send("GET", path, &[("if-none-match", &tag)], b"").unwrap();
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{path}");
    }
}

#[test]
fn http2_works_without_tls() {
    let version = Command::new("curl")
        .arg("--version")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    if !version.is_ok_and(|output| output.contains("HTTP2")) {
        return report_skipped("HTTP/2: curl with HTTP/2 support is not installed");
    }
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let body = r#"{"user_id":"ann","type":"view","item_id":"tea"}"#;
    let output = Command::new("curl")
        .args(["-s", "--http2-prior-knowledge", "-d", body, "-w", "\n%{http_version} %{http_code}"])
        .arg(format!("{}/v1/events?recommend=1", daemon.api_url()))
        .output()
        .unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    assert!(output.ends_with("\n2 200") && output.contains(r#""recommendations":{"#), "{output}");
}

#[test]
fn connection_is_reused_and_closed_after_malformed_requests() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let mut connection = connect(&daemon);
    for last in [false, false, true] {
        let close = if last { "close" } else { "keep-alive" };
        write!(connection, "GET /v1/trending HTTP/1.1\r\nHost: localhost\r\nConnection: {close}\r\n\r\n").unwrap();
        let (mut read, mut buffer) = (String::new(), [0; 4096]);
        while !read.ends_with('}') {
            let count = connection.read(&mut buffer).unwrap();
            assert!(count > 0, "{read}");
            read.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        assert!(read.starts_with("HTTP/1.1 200 OK"), "{read}");
    }
    assert_eq!(connection.read(&mut [0; 1]).unwrap(), 0, "the request said `Connection: close`");
    // A malformed request gets a 400 and closes only its own connection.
    for (request, status) in
        [("nonsense\r\n\r\n", "400"), ("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: many\r\n\r\n", "400")]
    {
        let mut connection = connect(&daemon);
        connection.write_all(request.as_bytes()).unwrap();
        let mut output = String::new();
        connection.read_to_string(&mut output).unwrap();
        assert!(output.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {output}");
    }
    daemon.assert_healthy();
}

#[test]
fn malformed_url_encoding_is_rejected() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    for (address, field) in [
        ("/v1/users/%ff/recommendations", "path"),
        ("/v1/users/%zz/recommendations", "path"),
        ("/v1/trending?category=%C3", "query"),
    ] {
        let mut connection = connect(&daemon);
        write!(connection, "GET {address} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut output = String::new();
        connection.read_to_string(&mut output).unwrap();
        let (head, body) = output.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400") && head.contains("application/problem+json"), "{output}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["field"], json!(field), "{output}");
    }
    let response = daemon.get("/v1/users/%07/recommendations").json();
    assert_eq!(
        (&response["field"], &response["detail"]),
        (&json!("user"), &json!("`user` contains a control character."))
    );
}
