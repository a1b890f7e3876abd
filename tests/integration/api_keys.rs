//! API keys: creation, reload, revocation and enforcement.

use std::fs;

use serde_json::json;

use crate::daemon::{Daemon, DaemonHome, HttpResponse, run_sequor, sequor_command, view_event, wait_for};

/// Creates an API key with the command line.
pub(crate) fn create_key(home: &DaemonHome, scopes: &str) -> String {
    let output =
        run_sequor(&["key", "create", scopes, "--scope", scopes, "--data-dir", home.data_dir().to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The id part of a key.
pub(crate) fn key_id(key: &str) -> &str {
    key.split('_').nth(1).unwrap()
}

fn post_with_key(daemon: &Daemon, key: Option<&str>, path: &str, body: &str) -> HttpResponse {
    daemon.request_with_key("POST", &format!("{}{path}", daemon.api_url()), key, body)
}

fn get_with_key(daemon: &Daemon, key: Option<&str>, path: &str) -> HttpResponse {
    daemon.request_with_key("GET", &format!("{}{path}", daemon.api_url()), key, "")
}

fn admin_request_with_key(daemon: &Daemon, key: Option<&str>, method: &str, path: &str, body: &str) -> HttpResponse {
    daemon.request_with_key(method, &format!("{}{path}", daemon.admin_url()), key, body)
}

const RECOMMENDATIONS_PATH: &str = "/v1/users/ann/recommendations";

#[test]
fn keys_are_created_reloaded_and_revoked_at_run_time() {
    let home = DaemonHome::new();
    let (write_key, admin_key) = (create_key(&home, "write"), create_key(&home, "admin"));
    let daemon = home.start(&["server.keys=required"]);
    let one = view_event("e1", "ann", "tea").to_string();

    let without_key = post_with_key(&daemon, None, "/v1/events", &one);
    assert_eq!((without_key.status, without_key.json()["type"].as_str()), (401, Some("/problems/no-key")));
    assert_eq!(without_key.headers.get_all("www-authenticate").iter().count(), 2);
    assert_eq!(post_with_key(&daemon, Some(&write_key), "/v1/events", &one).json()["accepted"], 1);
    assert_eq!(post_with_key(&daemon, None, &format!("/v1/events?key={write_key}"), &one).json()["duplicates"], 1);
    assert_eq!(
        post_with_key(
            &daemon,
            Some(&write_key),
            "/v1/track",
            r#"{"userId":"ann","event":"Product Viewed","properties":{"product_id":"cup"}}"#
        )
        .status,
        200
    );
    let other = get_with_key(&daemon, Some(&write_key), RECOMMENDATIONS_PATH);
    assert_eq!((other.status, other.json()["allowed"].as_str()), (403, Some("read")));
    assert!(other.headers["www-authenticate"].to_str().unwrap().contains(r#"scope="read""#));
    assert_eq!(post_with_key(&daemon, Some(&write_key), "/v1/events?recommend=3", &one).status, 403);
    assert_eq!(get_with_key(&daemon, Some(&admin_key), RECOMMENDATIONS_PATH).status, 403);

    // The command line creates a key while the daemon runs.
    let write_read_key = create_key(&home, "write,read");
    wait_for("the new key to be loaded", || {
        (get_with_key(&daemon, Some(&write_read_key), RECOMMENDATIONS_PATH).status == 200).then_some(())
    });
    assert!(
        post_with_key(&daemon, Some(&write_read_key), "/v1/events?recommend=3", &one).json()["recommendations"]["items"]
            .is_array()
    );
    let listed = run_sequor(&["key", "list", "--data-dir", home.data_dir().to_str().unwrap()]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains(key_id(&write_read_key)) && !listed.contains(&write_read_key), "{listed}");
    let revoked =
        run_sequor(&["key", "revoke", key_id(&write_read_key), "--data-dir", home.data_dir().to_str().unwrap()]);
    assert!(revoked.status.success());
    wait_for("the key to be revoked", || {
        (get_with_key(&daemon, Some(&write_read_key), RECOMMENDATIONS_PATH).status == 401).then_some(())
    });

    // The admin endpoint creates a key that is valid immediately.
    assert_eq!(admin_request_with_key(&daemon, None, "GET", "/admin/keys", "").status, 401);
    assert_eq!(admin_request_with_key(&daemon, Some(&write_key), "GET", "/admin/keys", "").status, 403);
    let created = admin_request_with_key(
        &daemon,
        Some(&admin_key),
        "POST",
        "/admin/keys",
        r#"{"name":"lists","scopes":["read"]}"#,
    )
    .json();
    let read_key = created["key"].as_str().unwrap();
    assert_eq!(get_with_key(&daemon, Some(read_key), RECOMMENDATIONS_PATH).status, 200);
    let all = admin_request_with_key(&daemon, Some(&admin_key), "GET", "/admin/keys", "");
    assert_eq!(all.json()["keys"].as_array().unwrap().len(), 3);
    assert!(!all.body.contains(read_key) && !all.body.contains("sha256"));
    assert_eq!(
        admin_request_with_key(&daemon, Some(&admin_key), "DELETE", &format!("/admin/keys/{}", key_id(read_key)), "")
            .status,
        200
    );
    assert_eq!(get_with_key(&daemon, Some(read_key), RECOMMENDATIONS_PATH).status, 401);
    assert_eq!(
        admin_request_with_key(&daemon, Some(&admin_key), "DELETE", &format!("/admin/keys/{}", key_id(read_key)), "")
            .status,
        404
    );
    assert_eq!(
        admin_request_with_key(&daemon, Some(&admin_key), "POST", "/admin/keys", r#"{"name":"","scopes":["read"]}"#)
            .status,
        400
    );
    assert_eq!(
        admin_request_with_key(&daemon, Some(&admin_key), "POST", "/admin/keys", r#"{"name":"x","scopes":[]}"#).status,
        400
    );

    // A corrupt key file does not disable the loaded keys.
    fs::write(home.data_dir().join("keys.json"), "nonsense").unwrap();
    wait_for("the reload failure to be counted", || {
        let text = admin_request_with_key(&daemon, Some(&admin_key), "GET", "/metrics", "").body;
        text.contains("sequor_reload_failures_total{what=\"keys\"} 1").then_some(())
    });
    assert_eq!(post_with_key(&daemon, Some(&write_key), "/v1/events", &one).status, 200);
}

#[test]
fn public_listeners_require_keys() {
    let home = DaemonHome::new();
    let start_error = |settings: &[&str]| {
        let output = home.start_expecting_failure(settings);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    for settings in [&["--listen=0.0.0.0:0"][..], &["server.keys=required"]] {
        let start_error = start_error(settings);
        assert!(
            start_error.contains("the public API")
                && start_error.contains("sequor key create NAME --scope write,read --data-dir"),
            "{start_error}"
        );
    }
    let key = create_key(&home, "write,read");
    assert!(start_error(&["server.keys=required"]).contains("--scope admin"));
    // The public listener requires keys, the local one does not.
    let daemon = home.start(&["--listen=0.0.0.0:0"]);
    assert_eq!(
        (
            get_with_key(&daemon, None, RECOMMENDATIONS_PATH).status,
            get_with_key(&daemon, Some(&key), RECOMMENDATIONS_PATH).status
        ),
        (401, 200)
    );
    assert_eq!(daemon.get_admin("/admin/status").status, 200);
    for path in ["/docs", "/openapi.json", "/v1/capture.js", "/v1/widget.js"] {
        assert_eq!(get_with_key(&daemon, None, path).status, 200);
    }
}

#[test]
fn commands_send_their_key() {
    let home = DaemonHome::new();
    let (write_key, admin_key) = (create_key(&home, "write"), create_key(&home, "admin"));
    let daemon = home.start(&["server.keys=required"]);
    let events = home.dir().join("events.ndjson");
    fs::write(&events, view_event("e1", "ann", "tea").to_string()).unwrap();
    let import = |key: Option<&str>| {
        let mut command = sequor_command();
        command.args(["import", "--url", daemon.api_url()]).arg(&events);
        if let Some(key) = key {
            command.env("SEQUOR_KEY", key);
        }
        command.output().unwrap()
    };
    let rejected = import(None);
    assert!(!rejected.status.success() && String::from_utf8_lossy(&rejected.stderr).contains("refused (401"));
    assert!(import(Some(&write_key)).status.success());
    let status = |arguments: &[&str]| {
        run_sequor(&[&["admin", "--url", daemon.admin_url(), "status"], arguments].concat()).status.success()
    };
    assert!(status(&["--key", &admin_key]) && !status(&["--key", &write_key]) && !status(&[]));
}

#[test]
fn log_and_metrics_contain_no_keys_or_user_ids() {
    let home = DaemonHome::new();
    let key = create_key(&home, "write,read,items");
    let daemon = home.start(&["--listen=0.0.0.0:0", "log.level=trace", "learning.interval=16", "session.live_max=4"]);
    let invalid_key = format!("sq_{}_{}", key_id(&key), "0123456789abcdef".repeat(3));
    let user = |number: usize| format!("somebody-{number:04}");
    let events: Vec<_> = (0..200)
        .map(|number| view_event(&format!("e{number}"), &user(number % 40), &format!("item{}", number % 9)))
        .collect();
    for chunk in events.chunks(20) {
        assert_eq!(post_with_key(&daemon, Some(&key), "/v1/events", &json!(chunk).to_string()).status, 200);
    }
    for (number, event) in events.iter().enumerate().take(40) {
        let path = format!("/v1/users/{}/recommendations", user(number));
        assert_eq!(get_with_key(&daemon, Some(&key), &path).status, 200);
        assert_eq!(get_with_key(&daemon, Some(&invalid_key), &path).status, 401);
        assert_eq!(get_with_key(&daemon, Some(&key), &format!("{path}?limit=none&key={key}")).status, 400);
        assert_eq!(get_with_key(&daemon, Some(&key), &format!("{path}/{}", user(number))).status, 404);
        assert_eq!(
            post_with_key(&daemon, None, &format!("/v1/events?key={invalid_key}"), &event.to_string()).status,
            401
        );
        assert_eq!(
            post_with_key(
                &daemon,
                None,
                &format!("/v1/events?key={key}"),
                &format!(r#"{{"user_id":"{}","type":"#, user(number))
            )
            .status,
            400
        );
        assert_eq!(
            post_with_key(
                &daemon,
                Some(&key),
                "/v1/events",
                &format!(r#"{{"user_id":"{}","type":"nothing known"}}"#, user(number))
            )
            .status,
            400
        );
        let merge = json!({ "from": user(number) }).to_string();
        assert_eq!(
            post_with_key(&daemon, Some(&key), &format!("/v1/users/{}/merge", user(number)), &merge).status,
            400
        );
    }
    let merge = json!({ "from": user(1) }).to_string();
    assert_eq!(post_with_key(&daemon, Some(&key), &format!("/v1/users/{}/merge", user(2)), &merge).status, 200);
    assert_eq!(daemon.get_admin(&format!("/admin/sessions/{}", user(3))).status, 200);
    assert_eq!(daemon.get_admin(&format!("/admin/sessions?user={}", user(3))).status, 200);
    // HTTP/2 is handled by another library with its own logging.
    let output = std::process::Command::new("curl")
        .args(["-s", "--http2-prior-knowledge", "-H", &format!("authorization: Bearer {key}")])
        .arg(format!("{}/v1/users/{}/recommendations", daemon.api_url().replace("0.0.0.0", "127.0.0.1"), user(5)))
        .output();
    assert!(output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("recommendation_id")));
    daemon.wait_until_learned(200);
    let metrics = daemon.get_admin("/metrics").body;
    assert!(daemon.terminate().success());

    let log = fs::read_to_string(home.dir().join("log")).unwrap();
    assert!(
        log.contains("answered") && log.contains("/v1/users/{user}/recommendations"),
        "requests are logged by route pattern"
    );
    let secret = key.rsplit('_').next().unwrap();
    for hidden in ["somebody-", secret, "0123456789abcdef", "Bearer"] {
        for (output_name, text) in [("log", &log), ("metrics", &metrics)] {
            let line = text.lines().find(|line| line.contains(hidden));
            assert_eq!(line, None, "{hidden} is in the {output_name}");
        }
    }
}

#[test]
fn user_token_gets_the_lists_of_its_user_alone() {
    let home = DaemonHome::new();
    let (write_key, own_key) = (create_key(&home, "write"), create_key(&home, "read-own"));
    create_key(&home, "admin");
    let daemon = home.start(&["server.keys=required"]);
    let events = json!([view_event("e1", "ann/é 1", "tea"), view_event("e2", "bob", "cup")]).to_string();
    assert_eq!(post_with_key(&daemon, Some(&write_key), "/v1/events", &events).json()["accepted"], 2);
    let sign = |key: &str, user: &str, period: &str| {
        let output = sequor_command()
            .args(["key", "token", user, "--expires-in", period])
            .env("SEQUOR_KEY", key)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let token = sign(&own_key, "ann/é 1", "1h");
    let own = "/v1/users/ann%2F%C3%A9%201/recommendations";
    let list = get_with_key(&daemon, Some(&token), &format!("{own}?min_offset=2"));
    assert_eq!((list.status, &list.json()["fallback"]), (200, &json!("none")), "{}", list.body);
    let page = format!("{own}?recommendation_id={}", list.json()["recommendation_id"].as_str().unwrap());
    assert_eq!(get_with_key(&daemon, Some(&token), &page).status, 200);
    // Other users, other operations and the key itself.
    for (method, path, body) in [
        ("GET", "/v1/users/bob/recommendations", ""),
        ("GET", "/v1/users/bob/recommendations/stream", ""),
        ("GET", "/v1/users/ann%2F%C3%A9%201", ""),
        ("DELETE", "/v1/users/ann%2F%C3%A9%201", ""),
        ("POST", "/v1/users/ann%2F%C3%A9%201/merge", r#"{"from":"bob"}"#),
        ("GET", "/v1/trending", ""),
        ("POST", "/v1/recommendations", r#"{"items":["tea"]}"#),
        ("POST", "/v1/events", &events),
    ] {
        let refused = daemon.request_with_key(method, &format!("{}{path}", daemon.api_url()), Some(&token), body);
        assert_eq!((refused.status, &refused.json()["type"]), (401, &json!("/problems/wrong-key")), "{method} {path}");
        assert!(refused.json()["detail"].as_str().unwrap().contains("user token"), "{}", refused.body);
    }
    assert_eq!(get_with_key(&daemon, Some(&own_key), own).status, 403, "the key itself reads nothing");
    // Tampered with, expired, and signed with a key without the scope.
    let (head, digits) = token.rsplit_once('_').unwrap();
    let [id, expires] = [1, 2].map(|part| token.split('_').nth(part).unwrap().to_owned());
    let later = expires.parse::<u64>().unwrap() + 9;
    let expired = sign(&own_key, "ann/é 1", "0s");
    for wrong in [
        format!("{head}_{}", digits.chars().rev().collect::<String>()),
        format!("su_{id}_{later}_{digits}"),
        format!("su_{}_{expires}_{digits}", key_id(&write_key)),
        sign(&write_key, "ann/é 1", "1h"),
        expired,
    ] {
        assert_eq!(get_with_key(&daemon, Some(&wrong), own).status, 401, "{wrong}");
    }
    // Revoking the key revokes its tokens.
    assert!(run_sequor(&["key", "revoke", &id, "--data-dir", home.data_dir().to_str().unwrap()]).status.success());
    wait_for("the revocation", || (get_with_key(&daemon, Some(&token), own).status == 401).then_some(()));
}
