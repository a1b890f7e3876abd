//! Server limits: slow, large or too many requests, host names of the admin endpoint, and TLS.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::daemon::{DaemonHome, create_certificate, report_skipped, run_sequor, sequor_command, view_event, wait_for};

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address.split_once("://").unwrap().1).unwrap();
    // Detects hangs.
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    stream
}

/// Reads until the other side closes.
fn read_to_close(stream: &mut TcpStream) -> String {
    let mut response = Vec::new();
    match stream.read_to_end(&mut response) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    String::from_utf8_lossy(&response).into_owned()
}

/// Reads one response from a connection that stays open.
fn read_response(stream: &mut TcpStream) -> String {
    let (mut response, mut buffer) = (String::new(), [0; 4096]);
    while !response.ends_with('}') {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{response}");
        response.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    response
}

const GET_REQUEST: &[u8] = b"GET /v1/trending HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn slow_requests_time_out() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.head_timeout=300ms", "server.body_timeout=300ms", "server.idle_timeout=300ms"]);
    // A head that stalls, a head that arrives byte by byte, and a connection without any data.
    let mut silent = connect(daemon.api_url());
    let mut stuck = connect(daemon.api_url());
    stuck.write_all(b"GET /v1/trending HTTP/1.1\r\nX-Slow: ").unwrap();
    let mut dribbling = connect(daemon.api_url());
    wait_for("the slow head to be cut off", || {
        dribbling.write_all(b"G").and_then(|()| dribbling.flush()).is_err().then_some(())
    });
    for stream in [&mut silent, &mut stuck] {
        let response = read_to_close(stream);
        assert!(response.is_empty() || response.starts_with("HTTP/1.1 408"), "{response}");
    }
    // A body that stalls.
    for part in [&b""[..], b"{", br#"{"user_id":"ann","#] {
        let mut stream = connect(daemon.api_url());
        stream.write_all(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n").unwrap();
        stream.write_all(part).unwrap();
        let response = read_response(&mut stream);
        assert!(response.starts_with("HTTP/1.1 408") && response.contains("/problems/too-slow"), "{response}");
    }
    let mut dribbling = connect(daemon.api_url());
    dribbling.write_all(b"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n").unwrap();
    dribbling.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut response = [0; 12];
    wait_for("the slow body to be cut off", || {
        let _ = dribbling.write_all(b" ");
        dribbling.read_exact(&mut response).is_ok().then_some(())
    });
    assert_eq!(&response, b"HTTP/1.1 408");
    // An idle connection.
    let mut idle = connect(daemon.api_url());
    idle.write_all(GET_REQUEST).unwrap();
    assert!(read_response(&mut idle).starts_with("HTTP/1.1 200"));
    assert_eq!(read_to_close(&mut idle), "");
    // The test client's idle connection may also be closed.
    let status = wait_for("the status", || daemon.try_admin_request("GET", "/admin/status", "").ok()).json();
    assert_eq!(status["journal"]["next_offset"], 0);
}

#[test]
fn connections_are_limited() {
    let home = DaemonHome::new();
    let daemon = home.start(&[
        "server.connections_max=2",
        "server.connections_per_address=3",
        "server.workers=1",
        "server.idle_timeout=1h",
        "server.head_timeout=1h",
    ]);
    let mut open: Vec<_> = (0..2).map(|_| connect(daemon.api_url())).collect();
    for stream in &mut open {
        stream.write_all(GET_REQUEST).unwrap();
        read_response(stream);
    }
    let mut waiting = connect(daemon.api_url());
    waiting.write_all(GET_REQUEST).unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let found = waiting.read(&mut [0; 1]).map_err(|error| error.kind());
    assert!(matches!(found, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{found:?}");
    // The admin endpoint has its own connection limit.
    daemon.assert_healthy();
    drop(open.pop());
    waiting.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    assert!(read_response(&mut waiting).starts_with("HTTP/1.1 200"));
}

#[test]
fn too_large_requests_are_rejected() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.max_body_bytes=65536", "server.max_batch=10"]);
    let send_raw = |request: String| {
        let mut stream = connect(daemon.api_url());
        // The daemon may respond before everything is sent.
        let _ = stream.write_all(request.as_bytes());
        read_to_close(&mut stream)
    };
    let long = "a".repeat(200 * 1024);
    for request in [
        format!("GET /v1/trending HTTP/1.1\r\nHost: localhost\r\nX-Long: {long}\r\n\r\n"),
        format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
            (0..5000).map(|n| format!("X-{n}: y\r\n")).collect::<String>()
        ),
    ] {
        let response = send_raw(request);
        // The response may be lost with the connection.
        assert!(response.is_empty() || response.starts_with("HTTP/1.1 4"), "{response}");
    }
    let status = |path: &str, body: &str| {
        let read_response = daemon.post(path, body);
        assert!(
            read_response.body.len() < 8192 && read_response.content_type.contains("json"),
            "{path}: {}",
            read_response.body
        );
        read_response.status
    };
    let nested =
        |open: &str, close: &str| format!("{}{}", open.repeat(20_000 / open.len()), close.repeat(20_000 / open.len()));
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
        for body in [
            nested("[", "]"),
            nested("{\"a\":", "}"),
            nested("[{\"a\":", "}]"),
            "[".repeat(60_000),
            "{\"a\":".repeat(10_000),
        ] {
            let found = status(path, &body);
            // The validation endpoint may return 200 with the errors.
            let expected: &[u16] = if path.ends_with("validate") { &[200, 400] } else { &[400] };
            assert!(expected.contains(&found), "{path}: {found} to {}…", &body[..10]);
        }
    }
    let deep = |levels: usize| {
        let mut event = view_event("deep", "ann", "tea");
        event["properties"] =
            serde_json::from_str(&format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels))).unwrap();
        event.to_string()
    };
    assert_eq!((status("/v1/events", &deep(8)), status("/v1/events", &deep(9))), (200, 400));
    let many: Vec<_> = (0..11).map(|number| view_event(&format!("e{number}"), "ann", "tea")).collect();
    assert_eq!(status("/v1/events", &json!(many).to_string()), 413);
    let many: Vec<_> = (0..11).map(|number| json!({ "item_id": format!("i{number}") })).collect();
    assert_eq!(status("/v1/items", &json!(many).to_string()), 413);
    let calls: Vec<_> =
        (0..11).map(|_| json!({ "type": "track", "userId": "ann", "event": "Product Viewed" })).collect();
    assert_eq!(status("/v1/batch", &json!({ "batch": calls }).to_string()), 413);
    assert!(daemon.admin_request("POST", "/admin/model/pause", &nested("{\"a\":", "}")).status >= 400);
    daemon.assert_healthy();
}

/// Creates an API key with the command line.
fn create_key(home: &DaemonHome, arguments: &[&str]) -> String {
    let output =
        run_sequor(&[&["key", "create", "k", "--data-dir", home.data_dir().to_str().unwrap()], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn rate_limit_of_one_key_does_not_affect_others() {
    let home = DaemonHome::new();
    let limited_key = create_key(&home, &["--scope", "write", "--rate", "5"]);
    let other_key = create_key(&home, &["--scope", "write"]);
    let daemon = home.start(&["--listen=0.0.0.0:0", "server.max_batch=20"]);
    let send = |key: &str, id: &str, count: usize| {
        let events: Vec<_> = (0..count).map(|number| view_event(&format!("{id}-{number}"), "ann", "tea")).collect();
        daemon.request_with_key(
            "POST",
            &format!("{}/v1/events", daemon.api_url()),
            Some(key),
            &json!(events).to_string(),
        )
    };
    let began = Instant::now();
    let (mut accepted, mut rejected, mut round) = (0, 0, 0);
    // Sends events far beyond the limit until some are rejected. The test counts accepted events,
    // so that its speed does not matter.
    while round < 100 || rejected == 0 {
        let read_response = send(&limited_key, &format!("loud{round}"), 10);
        match read_response.status {
            200 => accepted += 10,
            429 => {
                assert_eq!(read_response.json()["type"], "/problems/too-many-requests");
                let retry_after: u64 = read_response.headers["retry-after"].to_str().unwrap().parse().unwrap();
                assert!((1..=10).contains(&retry_after), "{retry_after}");
                rejected += 1;
            }
            other => panic!("{other}: {}", read_response.body),
        }
        assert_eq!(send(&other_key, &format!("quiet{round}"), 1).status, 200, "the other key is not affected");
        round += 1;
    }
    let allowed = 20 + 5 * (began.elapsed().as_secs() + 1);
    assert!((20..=allowed).contains(&accepted), "{accepted} of {allowed} accepted, {rejected} requests rejected");
    // If a batch is rejected, none of its events is accepted.
    assert_eq!(daemon.next_offset(), accepted + round);
    assert_eq!(daemon.metric_value("sequor_refused_requests_total{reason=\"key_rate\"}"), f64::from(rejected));
}

#[test]
fn rate_limit_per_address_does_not_apply_to_the_admin_endpoint() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.rate_per_address=1", "server.max_batch=5"]);
    let rejected =
        wait_for("the limit", || Some(daemon.get("/v1/trending")).filter(|read_response| read_response.status == 429));
    assert!(rejected.headers.contains_key("retry-after"));
    // The limit applies to every path, known or not.
    wait_for("the limit", || (daemon.get("/openapi.json").status == 429).then_some(()));
    wait_for("the limit", || (daemon.get("/nowhere").status == 429).then_some(()));
    for _ in 0..50 {
        assert_eq!(daemon.get_admin("/admin/status").status, 200);
    }
    assert!(daemon.metric_value("sequor_refused_requests_total{reason=\"address_rate\"}") >= 3.0);
}

#[test]
fn admin_endpoint_rejects_foreign_hosts_and_origins() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.admin_hosts=[\"sequor.example\"]"]);
    let request_status = |method: &str, path: &str, headers: &[(&str, &str)]| {
        let mut stream = connect(daemon.admin_url());
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n{headers}\r\n{{}}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        read_to_close(&mut stream)[9..12].to_owned()
    };
    assert_eq!(request_status("GET", "/admin/status", &[("Host", "sequor.example:9090")]), "200");
    for path in ["/admin/status", "/console", "/healthz", "/metrics", "/nowhere"] {
        assert_eq!(request_status("GET", path, &[("Host", "rebound.example")]), "421", "{path}");
    }
    assert_eq!(
        request_status("POST", "/admin/model/pause", &[("Host", "localhost"), ("Origin", "http://shop.example")]),
        "403"
    );
    assert_eq!(
        request_status("POST", "/admin/model/pause", &[("Host", "localhost"), ("Sec-Fetch-Site", "cross-site")]),
        "403"
    );
    assert_eq!(
        request_status(
            "POST",
            "/admin/model/resume",
            &[("Host", "localhost:9090"), ("Origin", "http://localhost:9090")]
        ),
        "200"
    );
    assert_eq!(daemon.metric_value("sequor_refused_requests_total{reason=\"host\"}"), 5.0);
    assert_eq!(daemon.metric_value("sequor_refused_requests_total{reason=\"origin\"}"), 2.0);
}

#[test]
fn certificate_that_expires_is_reported() {
    let home = DaemonHome::new();
    let (Some(soon), Some(later)) =
        (create_certificate(home.dir(), "soon", 2, false), create_certificate(home.dir(), "later", 90, false))
    else {
        return report_skipped("TLS: openssl is not installed");
    };
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| home.dir().join(name));
    let install = |files: &[PathBuf; 2]| {
        fs::copy(&files[1], &key).unwrap();
        fs::copy(&files[0], &cert).unwrap();
    };
    install(&soon);
    let files = [format!("server.tls_cert={}", cert.display()), format!("server.tls_key={}", key.display())];
    let daemon = home.start(&files.iter().map(String::as_str).collect::<Vec<_>>());
    let expiry = || daemon.metric_value("sequor_tls_certificate_expiry_timestamp_seconds");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    wait_for("the warning", || daemon.read_home_log().contains("the TLS certificate expires soon").then_some(()));
    assert!((now..now + 3.0 * 86_400.0).contains(&expiry()), "{}", expiry());
    // A renewed certificate ends the warning.
    install(&later);
    wait_for("the later end", || (expiry() > now + 80.0 * 86_400.0).then_some(()));
    let plain = DaemonHome::new();
    assert_eq!(plain.start(&[]).metric_value("sequor_tls_certificate_expiry_timestamp_seconds"), 0.0);
}

#[test]
fn both_listeners_use_tls_and_reload_certificates() {
    let home = DaemonHome::new();
    let (Some([first, first_key]), Some([second, second_key])) =
        (create_certificate(home.dir(), "first", 2, false), create_certificate(home.dir(), "second", 2, false))
    else {
        return report_skipped("TLS: openssl is not installed");
    };
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| home.dir().join(name));
    let install = |from: [&Path; 2]| {
        for (from, to) in from.into_iter().zip([&cert, &key]) {
            fs::copy(from, to).unwrap();
        }
    };
    install([&first, &second_key]);
    let files = [format!("server.tls_cert={}", cert.display()), format!("server.tls_key={}", key.display())];
    let files: Vec<_> = files.iter().map(String::as_str).collect();
    let response = String::from_utf8(home.start_expecting_failure(&files).stderr).unwrap();
    assert!(response.contains("certificate and key cannot be used"), "{response}");
    install([&first, &first_key]);
    let daemon = home.start(&files);
    assert!(daemon.api_url().starts_with("https://") && daemon.admin_url().starts_with("https://"));
    daemon.send_events(&[view_event("e1", "ann", "tea")]);

    let curl = |trusted: &Path| {
        let url = format!("{}/v1/trending", daemon.api_url());
        let output = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", "--cacert"])
            .arg(trusted)
            .arg(url)
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert_eq!((curl(&first).as_str(), curl(&second).as_str()), ("2 200", "0 000"));
    // The HTTP clients of the commands verify the certificate.
    let events = home.dir().join("events.ndjson");
    fs::write(&events, view_event("e2", "ann", "cup").to_string()).unwrap();
    let health = |ca: &[&str]| run_sequor(&[&["health", "--url", daemon.admin_url()], ca].concat()).status.success();
    assert!(health(&["--ca", first.to_str().unwrap()]) && !health(&["--ca", second.to_str().unwrap()]) && !health(&[]));
    let import =
        sequor_command().args(["import", "--url", daemon.api_url(), "--ca"]).arg(&first).arg(&events).output().unwrap();
    assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
    // Plain HTTP gets no response.
    let mut unencrypted = connect(daemon.api_url());
    unencrypted.write_all(GET_REQUEST).unwrap();
    assert!(!read_to_close(&mut unencrypted).starts_with("HTTP/1.1 2"));

    install([&second, &second_key]);
    wait_for("the new certificate", || (curl(&second) == "2 200").then_some(()));
    assert_eq!(curl(&first), "0 000");
    let failures = daemon.metric_value("sequor_reload_failures_total{what=\"certificate\"}");
    fs::write(&cert, "no certificate").unwrap();
    wait_for("the reload failure to be counted", || {
        (daemon.metric_value("sequor_reload_failures_total{what=\"certificate\"}") > failures).then_some(())
    });
    assert_eq!(curl(&second), "2 200");
    install([&first, &first_key]);
    wait_for("the previous certificate", || (curl(&first) == "2 200").then_some(()));
    assert!(daemon.terminate().success());
}
