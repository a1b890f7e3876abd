//! Pseudonymisation: the daemon never stores, logs or returns an original user id, whatever the
//! input path.

use serde_json::{Value, json};
use std::fs;

use crate::consent::files_containing;
use crate::daemon::{DaemonHome, run_sequor, view_event};

const SECRET_VARIABLE: &str = "SEQUOR_PRIVACY_SECRET=a secret of more than thirty-two bytes";
const PSEUDONYM_SETTINGS: [&str; 4] =
    ["privacy.pseudonymise=true", "log.level=trace", "learning.interval=16", SECRET_VARIABLE];

/// The prefix of every original id in this test. No other text contains it.
const ORIGINAL_ID_PREFIX: &str = "whois-";

#[test]
fn original_ids_are_never_stored_logged_or_returned() {
    let home = DaemonHome::new();
    let daemon = home.start(&PSEUDONYM_SETTINGS);
    let mut responses = String::new();
    let mut keep = |response: crate::daemon::HttpResponse| {
        responses.push_str(&response.body);
        response.status
    };
    let events = json!([
        { "event_id": "whois-e1", "user_id": "whois-ann", "session_id": "whois-visit", "type": "view", "item_id": "tea" },
        { "event_id": "e2", "user_id": "whois-ann", "type": "view", "item_id": "cup" },
    ]);
    assert_eq!(keep(daemon.post("/v1/events?recommend=2", &events.to_string())), 200);
    assert_eq!(
        daemon.send_events(&[view_event("whois-e1", "whois-ann", "tea")])["duplicates"],
        1,
        "a repeated event id is recognised"
    );
    let batch = json!({ "batch": [
        { "type": "track", "messageId": "whois-m", "anonymousId": "whois-anon", "context": { "sessionId": "whois-s" }, "event": "Product Viewed", "properties": { "product_id": "pot" } },
        { "type": "identify", "anonymousId": "whois-anon", "userId": "whois-ann" },
        { "type": "alias", "previousId": "whois-old", "userId": "whois-ann" },
    ]});
    assert_eq!(keep(daemon.post("/v1/batch", &batch.to_string())), 200);
    assert_eq!(keep(daemon.post("/v1/users/whois-ann/merge", r#"{"from":"whois-phone"}"#)), 200);
    assert_eq!(keep(daemon.request("PUT", "/v1/users/whois-bob/consent", r#"{"consent":"session"}"#)), 200);
    assert_eq!(keep(daemon.post("/v1/events", &json!([view_event("e3", "whois-bob", "tea")]).to_string())), 200);
    // Import and tail send to the daemon.
    let csv = home.dir().join("rows.csv");
    fs::write(&csv, "user,item,event,timestamp,session\nwhois-carl,tea,view,1700000000,whois-x\n").unwrap();
    let imported = run_sequor(&["import", csv.to_str().unwrap(), "--url", daemon.api_url()]);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let log = home.dir().join("access.log");
    fs::write(&log, "192.0.2.7 - - [10/Oct/2020:13:55:36 +0000] \"GET /product/tea?u=whois-dora HTTP/1.1\" 200 1 \"-\" \"Firefox\"\n")
        .unwrap();
    let rule = "view=^/product/(?P<item>[^/?]+)\\?u=(?P<user>.+)";
    let tailed = run_sequor(&["tail", "--once", log.to_str().unwrap(), "--rule", rule, "--url", daemon.api_url()]);
    assert!(
        tailed.status.success() && String::from_utf8_lossy(&tailed.stdout).contains("1"),
        "{}",
        String::from_utf8_lossy(&tailed.stderr)
    );
    [csv, log].iter().for_each(|file| fs::remove_file(file).unwrap());
    // Reads, some with invalid parameters.
    for path in [
        "/v1/users/whois-ann/recommendations",
        "/v1/users/whois-ann/consent",
        "/v1/users/whois-ann/recommendations?limit=whois-0",
        "/v1/users/whois-ann/recommendations?recommendation_id=whois-r",
        "/v1/users/whois-ann",
        "/v1/users/whois%00ann/recommendations",
    ] {
        keep(daemon.get(path));
    }
    for (path, body) in [
        ("/v1/events", r#"{"user_id":"whois-ann","type":"view"}"#),
        ("/v1/events", r#"{"user_id":["whois-ann"],"type":"view","item_id":"tea"}"#),
        ("/v1/events", r#"whois-ann"#),
        ("/v1/users/whois-ann/merge", r#""whois-ann""#),
        ("/v1/users/whois-ann/merge", r#"{"from":["whois-ann"]}"#),
        ("/v1/track", r#"{"userId":["whois-ann"],"event":"Product Viewed"}"#),
        ("/v1/recommendations", r#"{"items":"whois-ann"}"#),
    ] {
        assert_eq!(keep(daemon.post(path, body)), 400, "{path} {body}");
    }
    let (admin, list) =
        (daemon.get_admin("/admin/sessions/whois-ann"), daemon.get_admin("/admin/sessions?user=whois-bob"));
    let pseudonym = admin.json()["user"].as_str().unwrap().to_owned();
    assert_eq!((pseudonym.len(), admin.json()["sequence"].as_array().unwrap().len()), (32, 3), "{}", admin.body);
    assert_eq!(
        daemon.get_admin(&format!("/admin/sessions/{pseudonym}")).json()["user"],
        json!(pseudonym),
        "a user can be looked up by the original id or the pseudonym"
    );
    assert_eq!(list.json()["sessions"].as_array().unwrap().len(), 1, "{}", list.body);
    for response in [
        admin,
        list,
        daemon.get_admin("/metrics"),
        daemon.get_admin("/console/sessions/whois-ann"),
        daemon.get_admin("/admin/settings"),
    ] {
        keep(response);
    }
    daemon.wait_until_learned(daemon.next_offset());
    assert!(daemon.terminate().success());
    assert!(!responses.contains(ORIGINAL_ID_PREFIX), "{responses}");
    assert!(!responses.contains("thirty-two bytes"));
    for text in [ORIGINAL_ID_PREFIX, "thirty-two bytes"] {
        assert_eq!(files_containing(home.dir(), text), Vec::<std::path::PathBuf>::new(), "{text}");
    }

    // Without the secret, or with a different one, every user would be split into two.
    let start_error = |settings: &[&str]| {
        let output = home.start_expecting_failure(settings);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(start_error(&[]).contains("privacy.pseudonymise = true"), "{}", start_error(&[]));
    let with_other_secret = start_error(&[
        "privacy.pseudonymise=true",
        "SEQUOR_PRIVACY_SECRET=another secret of more than thirty-two bytes",
    ]);
    assert!(
        with_other_secret.contains("another secret") && !with_other_secret.contains("thirty-two"),
        "{with_other_secret}"
    );
    assert!(start_error(&["privacy.pseudonymise=true"]).contains("needs a secret"));
    let with_short_secret = start_error(&["privacy.pseudonymise=true", "SEQUOR_PRIVACY_SECRET=short"]);
    assert!(with_short_secret.contains("5 bytes") && !with_short_secret.contains("short"), "{with_short_secret}");
    // The secret can come from a file. Exported events can be imported again under the same
    // pseudonyms.
    let secret = home.dir().join("secret");
    fs::write(&secret, format!("{}\n", SECRET_VARIABLE.split_once('=').unwrap().1)).unwrap();
    let from_file = format!("privacy.secret_file={}", secret.display());
    let data = home.data_dir();
    let exported = run_sequor(&["export", "--data-dir", data.to_str().unwrap(), "--only", "event"]);
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let lines = home.dir().join("events.ndjson");
    fs::write(&lines, &exported.stdout).unwrap();
    let reimported = home.dir().join("again");
    let on = ["--set", "privacy.pseudonymise=true", "--set", &from_file];
    let imported = run_sequor(
        &[&["import", lines.to_str().unwrap(), "--data-dir", reimported.to_str().unwrap()][..], &on].concat(),
    );
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let users = |data: &std::path::Path| -> Vec<Value> {
        let exported = run_sequor(&["export", "--data-dir", data.to_str().unwrap(), "--only", "event"]);
        let lines = String::from_utf8(exported.stdout).unwrap();
        let mut users: Vec<_> =
            lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["user_id"].clone()).collect();
        users.sort_unstable_by_key(Value::to_string);
        users
    };
    assert_eq!(users(&reimported), users(&data));
    assert!(home.start(&["privacy.pseudonymise=true", &from_file]).terminate().success());
}

#[test]
fn enabling_pseudonyms_on_original_ids_explains_the_migration() {
    let home = DaemonHome::new();
    let daemon = home.start(&[]);
    daemon.send_events(&[view_event("e", "ann", "tea")]);
    assert!(daemon.terminate().success());
    let output = home.start_expecting_failure(&["privacy.pseudonymise=true", SECRET_VARIABLE]);
    let responses = String::from_utf8(output.stderr).unwrap();
    assert!(responses.contains("contains original ids") && responses.contains("sequor import"), "{responses}");
}
