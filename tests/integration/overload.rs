//! More requests than the daemon can serve in time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;

use serde_json::json;

use crate::daemon::{Daemon, DaemonHome, wait_for};

/// A daemon with one thread for requests and one for sessions, and lists that take time.
fn start_slow_daemon(home: &DaemonHome, wait: &str) -> Daemon {
    let daemon = home.start(&["server.workers=1", "session.shards=1", wait]);
    let events: Vec<_> = (0..900)
        .map(|number| json!({ "event_id": format!("e{number}"), "user_id": format!("u{}", number % 30), "type": "view", "item_id": format!("i{number}") }))
        .collect();
    daemon.send_events(&events);
    daemon.wait_until_learned(900);
    daemon
}

/// Sends a request on each of many connections at once. Returns the status lines with the bodies.
fn send_on_many_connections(daemon: &Daemon, request: &(dyn Fn(usize) -> String + Sync)) -> Vec<(String, String)> {
    let address = daemon.api_url().strip_prefix("http://").unwrap();
    let mut streams: Vec<_> = (0..200).map(|_| TcpStream::connect(address).unwrap()).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(request(number).as_bytes()).unwrap();
    }
    thread::scope(|scope| {
        let read = |stream: TcpStream| {
            let (mut reader, mut status, mut rest) = (BufReader::new(stream), String::new(), String::new());
            reader.read_line(&mut status).unwrap();
            reader.read_to_string(&mut rest).unwrap();
            (status, rest)
        };
        let readers: Vec<_> = streams.into_iter().map(|stream| scope.spawn(move || read(stream))).collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    })
}

fn user_recommendations_request(number: usize) -> String {
    format!(
        "GET /v1/users/u{}/recommendations?limit=200 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        number % 30
    )
}

fn inline_recommendations_request(_: usize) -> String {
    let body = r#"{"items":["i1","i2","i3"],"limit":200}"#;
    format!(
        "POST /v1/recommendations HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn requests_that_waited_too_long_are_refused_at_once() {
    let home = DaemonHome::new();
    let daemon = start_slow_daemon(&home, "server.queue_wait=1ms");
    for request in [&user_recommendations_request as &(dyn Fn(usize) -> String + Sync), &inline_recommendations_request]
    {
        wait_for("a request to wait too long", || {
            let answers = send_on_many_connections(&daemon, request);
            let refused: Vec<_> = answers.iter().filter(|(status, _)| !status.starts_with("HTTP/1.1 200")).collect();
            for (status, rest) in &refused {
                assert!(
                    status.starts_with("HTTP/1.1 503") && rest.to_lowercase().contains("retry-after: 1"),
                    "{status}{rest}"
                );
                assert!(rest.contains("/problems/over-capacity") && rest.contains("server.queue_wait"), "{rest}");
            }
            (!refused.is_empty()).then_some(())
        });
    }
    assert!(daemon.metric_sum("sequor_overloaded_requests_total") >= 2.0);
    daemon.assert_healthy();
    wait_for("a request that need not wait", || {
        (daemon.get("/v1/users/u1/recommendations").status == 200).then_some(())
    });
}

#[test]
fn without_a_limit_every_request_is_served() {
    let home = DaemonHome::new();
    let daemon = start_slow_daemon(&home, "server.queue_wait=off");
    for request in [&user_recommendations_request as &(dyn Fn(usize) -> String + Sync), &inline_recommendations_request]
    {
        assert!(
            send_on_many_connections(&daemon, request).iter().all(|(status, _)| status.starts_with("HTTP/1.1 200"))
        );
    }
}
