//! A public API that requires no key, reached from web pages in a browser on its machine.

use crate::daemon::{Daemon, DaemonHome, event, run};

/// The status of a request with these headers.
fn status(daemon: &Daemon, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> u16 {
    daemon.send(method, path, headers, body.as_bytes()).unwrap().status
}

const TEXT: (&str, &str) = ("content-type", "text/plain;charset=UTF-8");
const CROSS_SITE: (&str, &str) = ("sec-fetch-site", "cross-site");

/// DNS rebinding makes a page of `rebound.example` the same origin as the API.
#[test]
fn other_host_names_get_nothing() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.api_hosts=[\"api.example\"]"]);
    daemon.send_events(&[event("e1", "ann", "tea")]);
    let ask = |host: &str, method: &str, path: &str| status(&daemon, method, path, &[("host", host)], "");
    for (method, path) in
        [("GET", "/v1/users/ann"), ("DELETE", "/v1/users/ann"), ("GET", "/v1/trending"), ("GET", "/nowhere")]
    {
        assert_eq!(ask("rebound.example", method, path), 421, "{method} {path}");
    }
    for host in ["localhost", "127.0.0.1:8080", "api.example"] {
        assert_eq!(ask(host, "GET", "/v1/users/ann"), 200, "{host}");
    }
    assert_eq!(daemon.metric("sequor_refused_requests_total{reason=\"host\"}"), 4.0);
}

#[test]
fn pages_of_other_sites_send_nothing_and_those_allowed_do() {
    let home = DaemonHome::new();
    let daemon = home.start(&["server.cors_origins=[\"https://shop.example\"]"]);
    let one = event("e1", "ann", "tea").to_string();
    let post = |path: &str, body: &str, headers: &[(&str, &str)]| {
        status(&daemon, "POST", path, &[&[TEXT], headers].concat(), body)
    };
    let evil = [("origin", "https://evil.example"), CROSS_SITE];
    for (path, body) in
        [("/v1/events", one.as_str()), ("/v1/users/ann/merge", r#"{"from":"eve"}"#), ("/v1/batch", r#"{"batch":[]}"#)]
    {
        assert_eq!(post(path, body, &evil), 403, "{path}");
        assert_eq!(post(path, body, &[CROSS_SITE]), 403, "{path} without an origin");
        assert_eq!(post(path, body, &[("origin", "null"), CROSS_SITE]), 403, "{path} from a sandbox");
    }
    assert_eq!(daemon.next_offset(), 0);
    // The script of an allowed page, of a page of this machine, and of the API's own origin.
    let own = daemon.api().to_owned();
    for (number, origin) in ["https://shop.example", "http://localhost:3000", own.as_str()].into_iter().enumerate() {
        let body = event(&format!("a{number}"), "ann", "tea").to_string();
        assert_eq!(post("/v1/events", &body, &[("origin", origin)]), 200, "{origin}");
    }
    assert_eq!(daemon.next_offset(), 3);
    // Any page may load the script, but not embed a list, which would count as an impression.
    let embed = |path: &str, destination: &str| {
        status(&daemon, "GET", path, &[CROSS_SITE, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", destination)], "")
    };
    assert_eq!((embed("/v1/capture.js", "script"), embed("/v1/users/ann/recommendations", "image")), (200, 403));
    // Programs and readers of allowed pages send no such headers, or a known origin.
    assert_eq!(status(&daemon, "GET", "/v1/trending", &[("origin", "https://shop.example"), CROSS_SITE], ""), 200);
}

/// The key of a page is public, and a page of another site has none: keys replace the check.
#[test]
fn with_keys_any_page_may_send_with_its_key() {
    let home = DaemonHome::new();
    let output = run(&["key", "create", "k", "--scope", "write", "--data-dir", home.data_dir().to_str().unwrap()]);
    let key = String::from_utf8(output.stdout).unwrap();
    run(&["key", "create", "a", "--scope", "admin", "--data-dir", home.data_dir().to_str().unwrap()]);
    let daemon = home.start(&["--listen=0.0.0.0:0"]);
    let path = format!("/v1/events?key={}", key.trim());
    let headers = [TEXT, ("origin", "https://any.example"), CROSS_SITE, ("host", "api.example")];
    assert_eq!(status(&daemon, "POST", &path, &headers, &event("e1", "ann", "tea").to_string()), 200);
}
