//! How requests and answers cross the wire: packings, versions of HTTP, connections, and what is no
//! request at all.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::json;

use crate::daemon::{Daemon, DaemonHome, event, report_skipped};

fn connect(daemon: &Daemon) -> TcpStream {
    TcpStream::connect(daemon.api().strip_prefix("http://").unwrap()).unwrap()
}

#[test]
fn what_is_packed_going_out_is_unpacked_coming_in() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let (none, plain) = daemon.get_encoded("/openapi.json", "identity");
    assert!(none.is_empty() || none == "identity");
    // No event, but what the verdict says of it tells whether it was read.
    let verdict = daemon.try_post("/v1/events/validate", &[], &plain).unwrap().body;
    assert!(verdict.contains("`user_id` is missing"), "{verdict}");
    for encoding in ["gzip", "br", "zstd"] {
        let (used, packed) = daemon.get_encoded("/openapi.json", encoding);
        assert!(used == encoding && packed.len() < plain.len() / 2, "{encoding}: {used}, {} of {}", packed.len(), plain.len());
        let answer = daemon.try_post("/v1/events/validate", &[("content-encoding", encoding)], &packed).unwrap();
        assert_eq!(answer.body, verdict, "{encoding}");
    }
}

#[test]
fn a_deflated_body_is_unpacked_and_a_packing_that_nobody_knows_is_named() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let body = event("e1", "ann", "tea").to_string();
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(body.as_bytes()).unwrap();
    let packed = packer.finish().unwrap();
    let send = |encoding: &str, body: &[u8]| daemon.try_post("/v1/events", &[("content-encoding", encoding)], body).unwrap();
    let taken = send("deflate", &packed);
    assert_eq!((taken.status, &taken.json()["accepted"]), (200, &json!(1)), "{}", taken.body);
    for torn in [&packed[..packed.len() / 2], body.as_bytes()] {
        let refused = send("deflate", torn);
        assert_eq!((refused.status, &refused.json()["type"]), (400, &json!("/problems/bad-body")), "{}", refused.body);
    }
    for unknown in ["compress", "gzip, deflate", "x"] {
        let refused = send(unknown, &packed);
        let told = (refused.status, refused.json()["allowed"].as_str().unwrap_or_default().to_owned());
        assert_eq!(told, (415, "gzip, deflate, br, zstd, identity".to_owned()), "{unknown}");
    }
    assert_eq!(daemon.next_offset(), 1);
}

#[test]
fn an_address_or_a_header_too_long_costs_its_request_alone() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let ask = |address: &str, header: &str| {
        let mut connection = connect(&daemon);
        let request = format!("GET {address} HTTP/1.1\r\nHost: sequor\r\nX-Long: {header}\r\nConnection: close\r\n\r\n");
        // A server that has read enough may close before all of it is sent, and what it said before
        // that is there all the same.
        let _ = connection.write_all(request.as_bytes());
        let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = connection.read(&mut buffer) {
            said.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8(said).unwrap()
    };
    let address = |length: usize| format!("/v1/trending?category={}", "a".repeat(length - "/v1/trending?category=".len()));
    let (longest, most) = (60 * 1024, 128 * 1024);
    assert!(ask(&address(longest), "x").starts_with("HTTP/1.1 200"));
    let refused = ask(&address(longest + 1), "x");
    let (head, body) = refused.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 414") && head.contains("application/problem+json"), "{head}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["type"], "/problems/address-too-long");
    // Beyond that it is no address any more, and what is too long altogether is not read to its
    // end.
    assert!(ask(&address(66_000), "x").starts_with("HTTP/1.1 400"));
    assert!(ask("/v1/trending", &"x".repeat(most * 3 / 4)).starts_with("HTTP/1.1 200"));
    assert!(ask("/v1/trending", &"x".repeat(most + 1)).starts_with("HTTP/1.1 431"));
    assert!(ask("/v1/trending", &"x\r\nX-More: ".repeat(200)).starts_with("HTTP/1.1 431"));
    assert_eq!(ask("/v1/trending", "x").lines().next(), Some("HTTP/1.1 200 OK"));
    daemon.assert_healthy();
}

#[test]
fn the_script_for_web_pages_is_less_than_two_kibibytes() {
    let home = DaemonHome::new();
    let script = home.start(&[]).get("/v1/capture.js");
    assert_eq!(script.status, 200);
    assert!(script.body.len() < 2048, "{} bytes", script.body.len());
}

#[test]
fn http_2_is_spoken_without_tls() {
    let version = Command::new("curl").arg("--version").output().map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
    if !version.is_ok_and(|said| said.contains("HTTP2")) {
        return report_skipped("HTTP/2 is not tried, since there is no curl that speaks it");
    }
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let body = r#"{"user_id":"ann","type":"view","item_id":"tea"}"#;
    let output = Command::new("curl")
        .args(["-s", "--http2-prior-knowledge", "-d", body, "-w", "\n%{http_version} %{http_code}"])
        .arg(format!("{}/v1/events?recommend=1", daemon.api()))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.ends_with("\n2 200") && said.contains(r#""recommendations":{"#), "{said}");
}

#[test]
fn one_connection_serves_many_requests_and_none_that_is_no_request() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    let mut connection = connect(&daemon);
    for last in [false, false, true] {
        let close = if last { "close" } else { "keep-alive" };
        write!(connection, "GET /v1/trending HTTP/1.1\r\nHost: sequor\r\nConnection: {close}\r\n\r\n").unwrap();
        let (mut read, mut buffer) = (String::new(), [0; 4096]);
        while !read.ends_with('}') {
            let count = connection.read(&mut buffer).unwrap();
            assert!(count > 0, "{read}");
            read.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        assert!(read.starts_with("HTTP/1.1 200 OK"), "{read}");
    }
    assert_eq!(connection.read(&mut [0; 1]).unwrap(), 0, "it was asked to close");
    // What is no HTTP is refused before anybody could say more than the status, and costs its
    // connection alone.
    for (request, status) in [("nonsense\r\n\r\n", "400"), ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", "400")] {
        let mut connection = connect(&daemon);
        connection.write_all(request.as_bytes()).unwrap();
        let mut said = String::new();
        connection.read_to_string(&mut said).unwrap();
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {said}");
    }
    daemon.assert_healthy();
}

#[test]
fn an_address_that_is_not_well_formed_is_a_problem() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    for (address, field) in
        [("/v1/users/%ff/recommendations", "path"), ("/v1/users/%zz/recommendations", "path"), ("/v1/trending?category=%C3", "query")]
    {
        let mut connection = connect(&daemon);
        write!(connection, "GET {address} HTTP/1.1\r\nHost: sequor\r\nConnection: close\r\n\r\n").unwrap();
        let mut said = String::new();
        connection.read_to_string(&mut said).unwrap();
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400") && head.contains("application/problem+json"), "{said}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["field"], json!(field), "{said}");
    }
    let nobody = daemon.get("/v1/users/%07/recommendations").json();
    assert_eq!((&nobody["field"], &nobody["detail"]), (&json!("user"), &json!("`user` contains a control character.")));
}
