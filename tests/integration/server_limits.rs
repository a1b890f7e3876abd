//! What comes through the doors too slowly, too large, too often, or under another name, and what
//! is encrypted.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::daemon::{DaemonHome, event, report_skipped, run, sequor, wait_for};

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address.split_once("://").unwrap().1).unwrap();
    // A bound for hangs alone.
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    stream
}

/// Everything until the other side closes.
fn rest(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// One whole answer, of a connection that stays open.
fn answer(stream: &mut TcpStream) -> String {
    let (mut said, mut buffer) = (String::new(), [0; 4096]);
    while !said.ends_with('}') {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{said}");
        said.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    said
}

const ASK: &[u8] = b"GET /v1/trending HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn who_is_slow_is_not_waited_for() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.head_timeout=300ms", "server.body_timeout=300ms", "server.idle_timeout=300ms"]);
    // A head that never ends, at once or byte by byte, and a connection on which nothing comes at
    // all.
    let mut silent = connect(daemon.api());
    let mut stuck = connect(daemon.api());
    stuck.write_all(b"GET /v1/trending HTTP/1.1\r\nX-Slow: ").unwrap();
    let mut dribbling = connect(daemon.api());
    wait_for("a head that dribbles to be cut off", || dribbling.write_all(b"G").and_then(|()| dribbling.flush()).is_err().then_some(()));
    for stream in [&mut silent, &mut stuck] {
        let said = rest(stream);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    }
    // A body that never ends.
    for part in [&b""[..], b"{", br#"{"user_id":"ann","#] {
        let mut stream = connect(daemon.api());
        stream.write_all(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n").unwrap();
        stream.write_all(part).unwrap();
        let said = answer(&mut stream);
        assert!(said.starts_with("HTTP/1.1 408") && said.contains("/problems/too-slow"), "{said}");
    }
    let mut dribbling = connect(daemon.api());
    dribbling.write_all(b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n").unwrap();
    dribbling.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut said = [0; 12];
    wait_for("a body that dribbles to be cut off", || {
        let _ = dribbling.write_all(b" ");
        dribbling.read_exact(&mut said).is_ok().then_some(())
    });
    assert_eq!(&said, b"HTTP/1.1 408");
    // Nobody asks on it any more.
    let mut idle = connect(daemon.api());
    idle.write_all(ASK).unwrap();
    assert!(answer(&mut idle).starts_with("HTTP/1.1 200"));
    assert_eq!(rest(&mut idle), "");
    // The tests' own connection may be closed just as it is used again, too.
    let status = wait_for("the status", || daemon.try_admin_request("GET", "/admin/status", "").ok()).json();
    assert_eq!(status["journal"]["next_offset"], 0);
}

#[test]
fn there_are_so_many_connections_and_no_more() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.connections_max=2", "server.workers=1", "server.idle_timeout=1h", "server.head_timeout=1h"]);
    let mut open: Vec<_> = (0..2).map(|_| connect(daemon.api())).collect();
    for stream in &mut open {
        stream.write_all(ASK).unwrap();
        answer(stream);
    }
    let mut waiting = connect(daemon.api());
    waiting.write_all(ASK).unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let found = waiting.read(&mut [0; 1]).map_err(|error| error.kind());
    assert!(matches!(found, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{found:?}");
    // The admin endpoint has connections of its own.
    daemon.assert_healthy();
    drop(open.pop());
    waiting.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    assert!(answer(&mut waiting).starts_with("HTTP/1.1 200"));
}

#[test]
fn what_is_too_large_is_refused_in_each_way() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.max_body_bytes=65536", "server.max_batch=10"]);
    let head = |request: String| {
        let mut stream = connect(daemon.api());
        // It may be refused before all of it is sent.
        let _ = stream.write_all(request.as_bytes());
        rest(&mut stream)
    };
    let long = "a".repeat(200 * 1024);
    for request in [
        format!("GET /v1/trending HTTP/1.1\r\nHost: localhost\r\nX-Long: {long}\r\n\r\n"),
        format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", (0..5000).map(|n| format!("X-{n}: y\r\n")).collect::<String>()),
    ] {
        let said = head(request);
        // It may be gone with the connection.
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    }
    let status = |path: &str, body: &str| {
        let answer = daemon.post(path, body);
        assert!(answer.body.len() < 8192 && answer.content_type.contains("json"), "{path}: {}", answer.body);
        answer.status
    };
    let nested = |open: &str, close: &str| format!("{}{}", open.repeat(20_000 / open.len()), close.repeat(20_000 / open.len()));
    let paths = [
        "/v1/events",
        "/v1/events/validate",
        "/v1/items",
        "/v1/recommendations",
        "/v1/track",
        "/v1/identify",
        "/v1/batch",
        "/v1/users/ann/merge",
    ];
    for path in paths {
        assert_eq!(status(path, &format!("\"{}\"", "a".repeat(70_000))), 413, "{path}");
        for body in [nested("[", "]"), nested("{\"a\":", "}"), nested("[{\"a\":", "}]"), "[".repeat(60_000), "{\"a\":".repeat(10_000)] {
            let found = status(path, &body);
            // A verdict on what is refused is an answer, too.
            let expected: &[u16] = if path.ends_with("validate") { &[200, 400] } else { &[400] };
            assert!(expected.contains(&found), "{path}: {found} to {}…", &body[..10]);
        }
    }
    let deep = |levels: usize| {
        let mut event = event("deep", "ann", "tea");
        event["properties"] = serde_json::from_str(&format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels))).unwrap();
        event.to_string()
    };
    assert_eq!((status("/v1/events", &deep(8)), status("/v1/events", &deep(9))), (200, 400));
    let many: Vec<_> = (0..11).map(|number| event(&format!("e{number}"), "ann", "tea")).collect();
    assert_eq!(status("/v1/events", &json!(many).to_string()), 413);
    let many: Vec<_> = (0..11).map(|number| json!({ "item_id": format!("i{number}") })).collect();
    assert_eq!(status("/v1/items", &json!(many).to_string()), 413);
    let calls: Vec<_> = (0..11).map(|_| json!({ "type": "track", "userId": "ann", "event": "Product Viewed" })).collect();
    assert_eq!(status("/v1/batch", &json!({ "batch": calls }).to_string()), 413);
    assert!(daemon.admin_request("POST", "/admin/model/pause", &nested("{\"a\":", "}")).status >= 400);
    daemon.assert_healthy();
}

/// Makes a key as an operator does.
fn create(home: &DaemonHome, arguments: &[&str]) -> String {
    let output = run(&[&["key", "create", "k", "--data-dir", home.data_dir().to_str().unwrap()], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_key_that_sends_too_much_gets_its_share_and_disturbs_no_other() {
    let home = DaemonHome::new();
    let loud = create(&home, &["--scope", "write", "--rate", "5"]);
    let quiet = create(&home, &["--scope", "write"]);
    let daemon = home.start(&["--listen=0.0.0.0:0", "server.max_batch=20"]);
    let send = |key: &str, id: &str, count: usize| {
        let events: Vec<_> = (0..count).map(|number| event(&format!("{id}-{number}"), "ann", "tea")).collect();
        daemon.request_with_key("POST", &format!("{}/v1/events", daemon.api()), Some(key), &json!(events).to_string())
    };
    let began = Instant::now();
    let (mut taken, mut refused, mut round) = (0, 0, 0);
    // Ten times its limit, for as long as that takes: by what was taken, not by how fast.
    while round < 100 || refused == 0 {
        let answer = send(&loud, &format!("loud{round}"), 10);
        match answer.status {
            200 => taken += 10,
            429 => {
                assert_eq!(answer.json()["type"], "/problems/too-many-requests");
                let again: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
                assert!((1..=10).contains(&again), "{again}");
                refused += 1;
            }
            other => panic!("{other}: {}", answer.body),
        }
        assert_eq!(send(&quiet, &format!("quiet{round}"), 1).status, 200, "the others are not disturbed");
        round += 1;
    }
    let allowed = 20 + 5 * (began.elapsed().as_secs() + 1);
    assert!((20..=allowed).contains(&taken), "{taken} of {allowed}, and {refused} refused");
    // What was refused was not taken in part.
    assert_eq!(daemon.next_offset(), taken + round);
    assert_eq!(daemon.metric("sequor_refused_requests_total{reason=\"key_rate\"}"), f64::from(refused));
}

#[test]
fn an_address_that_sends_too_much_is_refused_and_the_admin_endpoint_is_not_limited() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.rate_per_address=1", "server.max_batch=5"]);
    let refused = wait_for("the limit", || Some(daemon.get("/v1/trending")).filter(|answer| answer.status == 429));
    assert!(refused.headers.contains_key("retry-after"));
    // Whatever it asks for, there or not.
    wait_for("the limit", || (daemon.get("/openapi.json").status == 429).then_some(()));
    wait_for("the limit", || (daemon.get("/nowhere").status == 429).then_some(()));
    for _ in 0..50 {
        assert_eq!(daemon.get_admin("/admin/status").status, 200);
    }
    assert!(daemon.metric("sequor_refused_requests_total{reason=\"address_rate\"}") >= 3.0);
}

#[test]
fn the_admin_endpoint_answers_to_its_own_names_and_pages_alone() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.admin_hosts=[\"sequor.example\"]"]);
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        let mut stream = connect(daemon.admin_address());
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n{headers}\r\n{{}}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        rest(&mut stream)[9..12].to_owned()
    };
    assert_eq!(ask("GET", "/admin/status", &[("Host", "sequor.example:9090")]), "200");
    for path in ["/admin/status", "/console", "/healthz", "/metrics", "/nowhere"] {
        assert_eq!(ask("GET", path, &[("Host", "rebound.example")]), "421", "{path}");
    }
    assert_eq!(ask("POST", "/admin/model/pause", &[("Host", "localhost"), ("Origin", "http://shop.example")]), "403");
    assert_eq!(ask("POST", "/admin/model/pause", &[("Host", "localhost"), ("Sec-Fetch-Site", "cross-site")]), "403");
    assert_eq!(ask("POST", "/admin/model/resume", &[("Host", "localhost:9090"), ("Origin", "http://localhost:9090")]), "200");
    assert_eq!(daemon.metric("sequor_refused_requests_total{reason=\"host\"}"), 5.0);
    assert_eq!(daemon.metric("sequor_refused_requests_total{reason=\"origin\"}"), 2.0);
}

/// A certificate of its own and its key.
fn certificate(folder: &Path, name: &str) -> Option<[PathBuf; 2]> {
    let [cert, key] = ["crt", "key"].map(|ending| folder.join(format!("{name}.{ending}")));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=sequor"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output();
    output.is_ok_and(|output| output.status.success()).then_some([cert, key])
}

#[test]
fn tls_is_spoken_by_both_doors_and_a_new_certificate_is_taken_up() {
    let home = DaemonHome::new();
    let (Some([first, first_key]), Some([second, second_key])) = (certificate(home.path(), "first"), certificate(home.path(), "second"))
    else {
        return report_skipped("TLS is not tried, since openssl is not installed");
    };
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| home.path().join(name));
    let put = |from: [&Path; 2]| {
        for (from, to) in from.into_iter().zip([&cert, &key]) {
            fs::copy(from, to).unwrap();
        }
    };
    put([&first, &second_key]);
    let files = [format!("server.tls_cert={}", cert.display()), format!("server.tls_key={}", key.display())];
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    let said = String::from_utf8(home.start_expecting_failure(&files).stderr).unwrap();
    assert!(said.contains("certificate and key cannot be used"), "{said}");
    put([&first, &first_key]);
    let daemon = home.start(&files);
    assert!(daemon.api().starts_with("https://") && daemon.admin_address().starts_with("https://"));
    daemon.send_events(&[event("e1", "ann", "tea")]);

    let curl = |trusted: &Path| {
        let url = format!("{}/v1/trending", daemon.api());
        let output = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", "--cacert"])
            .arg(trusted)
            .arg(url)
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert_eq!((curl(&first).as_str(), curl(&second).as_str()), ("2 200", "0 000"));
    // The commands' two clients.
    let events = home.path().join("events.ndjson");
    fs::write(&events, event("e2", "ann", "cup").to_string()).unwrap();
    let health = |ca: &[&str]| run(&[&["health", "--url", daemon.admin_address()], ca].concat()).status.success();
    assert!(health(&["--ca", first.to_str().unwrap()]) && !health(&["--ca", second.to_str().unwrap()]) && !health(&[]));
    let import = sequor().args(["import", "--url", daemon.api(), "--ca"]).arg(&first).arg(&events).output().unwrap();
    assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
    // What is not encrypted is not answered.
    let mut plain = connect(daemon.api());
    plain.write_all(ASK).unwrap();
    assert!(!rest(&mut plain).starts_with("HTTP/1.1 2"));

    put([&second, &second_key]);
    wait_for("the new certificate", || (curl(&second) == "2 200").then_some(()));
    assert_eq!(curl(&first), "0 000");
    let failures = daemon.metric("sequor_reload_failures_total{what=\"certificate\"}");
    fs::write(&cert, "no certificate").unwrap();
    wait_for("the broken one to be counted", || {
        (daemon.metric("sequor_reload_failures_total{what=\"certificate\"}") > failures).then_some(())
    });
    assert_eq!(curl(&second), "2 200");
    put([&first, &first_key]);
    wait_for("the former certificate", || (curl(&first) == "2 200").then_some(()));
    assert!(daemon.terminate().success());
}
