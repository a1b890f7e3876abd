//! How requests and answers cross the wire: packings, versions of HTTP, connections, and what is no request at all.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use serde_json::json;

use crate::daemon::{Daemon, Home, left_out};

fn connect(daemon: &Daemon) -> TcpStream {
    TcpStream::connect(daemon.api().strip_prefix("http://").unwrap()).unwrap()
}

#[test]
fn what_is_packed_going_out_is_unpacked_coming_in() {
    let home = Home::new();
    let daemon = home.start(&[]);
    let (none, plain) = daemon.packed("/openapi.json", "identity");
    assert!(none.is_empty() || none == "identity");
    // No event, but what the verdict says of it tells whether it was read.
    let verdict = daemon.try_post("/v1/events/validate", &[], &plain).unwrap().body;
    assert!(verdict.contains("`user_id` is missing"), "{verdict}");
    for encoding in ["gzip", "br", "zstd"] {
        let (used, packed) = daemon.packed("/openapi.json", encoding);
        assert!(used == encoding && packed.len() < plain.len() / 2, "{encoding}: {used}, {} of {}", packed.len(), plain.len());
        let answer = daemon.try_post("/v1/events/validate", &[("content-encoding", encoding)], &packed).unwrap();
        assert_eq!(answer.body, verdict, "{encoding}");
    }
}

#[test]
fn http_2_is_spoken_without_tls() {
    let version = Command::new("curl").arg("--version").output().map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
    if !version.is_ok_and(|said| said.contains("HTTP2")) {
        return left_out("HTTP/2 is not tried, since there is no curl that speaks it");
    }
    let home = Home::new();
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
    let home = Home::new();
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
    // What is no HTTP is refused before anybody could say more than the status, and costs its connection alone.
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
    let home = Home::new();
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
    assert_eq!((&nobody["field"], &nobody["detail"]), (&json!("user"), &json!("`user` holds a control character.")));
}
