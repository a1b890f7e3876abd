//! A public API that requires no key, reached from web pages in a browser on its machine.

use crate::daemon::{Daemon, DaemonHome, run_sequor, view_event};

/// The status of a request with these headers.
fn response_status(daemon: &Daemon, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> u16 {
    daemon.send(method, path, headers, body.as_bytes()).unwrap().status
}

const TEXT_CONTENT_TYPE: (&str, &str) = ("content-type", "text/plain;charset=UTF-8");
const CROSS_SITE_HEADER: (&str, &str) = ("sec-fetch-site", "cross-site");

/// DNS rebinding makes a page of `rebound.example` the same origin as the API.
#[test]
fn requests_for_other_host_names_are_refused() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.api_hosts=[\"api.example\"]"]);
    daemon.send_events(&[view_event("e1", "ann", "tea")]);
    let ask = |host: &str, method: &str, path: &str| response_status(&daemon, method, path, &[("host", host)], "");
    for (method, path) in
        [("GET", "/v1/users/ann"), ("DELETE", "/v1/users/ann"), ("GET", "/v1/trending"), ("GET", "/nowhere")]
    {
        assert_eq!(ask("rebound.example", method, path), 421, "{method} {path}");
    }
    for host in ["localhost", "127.0.0.1:8080", "api.example"] {
        assert_eq!(ask(host, "GET", "/v1/users/ann"), 200, "{host}");
    }
    assert_eq!(daemon.metric_value("sequor_refused_requests_total{reason=\"host\"}"), 4.0);
}

#[test]
fn only_pages_of_allowed_origins_can_send_requests() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.cors_origins=[\"https://shop.example\"]"]);
    let one = view_event("e1", "ann", "tea").to_string();
    let post = |path: &str, body: &str, headers: &[(&str, &str)]| {
        response_status(&daemon, "POST", path, &[&[TEXT_CONTENT_TYPE], headers].concat(), body)
    };
    let evil = [("origin", "https://evil.example"), CROSS_SITE_HEADER];
    for (path, body) in
        [("/v1/events", one.as_str()), ("/v1/users/ann/merge", r#"{"from":"eve"}"#), ("/v1/batch", r#"{"batch":[]}"#)]
    {
        assert_eq!(post(path, body, &evil), 403, "{path}");
        assert_eq!(post(path, body, &[CROSS_SITE_HEADER]), 403, "{path} without an origin");
        assert_eq!(post(path, body, &[("origin", "null"), CROSS_SITE_HEADER]), 403, "{path} from a sandbox");
    }
    assert_eq!(daemon.next_offset(), 0);
    // Scripts of an allowed origin, of this machine and of the API's own origin can send events.
    let own = daemon.api_url().to_owned();
    for (number, origin) in ["https://shop.example", "http://localhost:3000", own.as_str()].into_iter().enumerate() {
        let body = view_event(&format!("a{number}"), "ann", "tea").to_string();
        assert_eq!(post("/v1/events", &body, &[("origin", origin)]), 200, "{origin}");
    }
    assert_eq!(daemon.next_offset(), 3);
    // Any page can load the beacon script. No page can embed a list of recommendations, because the
    // list would count as an impression.
    let embed = |path: &str, destination: &str| {
        response_status(
            &daemon,
            "GET",
            path,
            &[CROSS_SITE_HEADER, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", destination)],
            "",
        )
    };
    assert_eq!((embed("/v1/capture.js", "script"), embed("/v1/users/ann/recommendations", "image")), (200, 403));
    // A page of an allowed origin can read recommendations.
    assert_eq!(
        response_status(&daemon, "GET", "/v1/trending", &[("origin", "https://shop.example"), CROSS_SITE_HEADER], ""),
        200
    );
}

/// If the API requires keys, a page of another site cannot send requests without a key. The origin
/// check is therefore off.
#[test]
fn an_api_with_keys_accepts_pages_of_any_origin() {
    let home = DaemonHome::new();
    let output =
        run_sequor(&["key", "create", "k", "--scope", "write", "--data-dir", home.data_dir().to_str().unwrap()]);
    let key = String::from_utf8(output.stdout).unwrap();
    run_sequor(&["key", "create", "a", "--scope", "admin", "--data-dir", home.data_dir().to_str().unwrap()]);
    let daemon = home.start(&["--listen=0.0.0.0:0"]);
    let path = format!("/v1/events?key={}", key.trim());
    let headers = [TEXT_CONTENT_TYPE, ("origin", "https://any.example"), CROSS_SITE_HEADER, ("host", "api.example")];
    assert_eq!(response_status(&daemon, "POST", &path, &headers, &view_event("e1", "ann", "tea").to_string()), 200);
}
